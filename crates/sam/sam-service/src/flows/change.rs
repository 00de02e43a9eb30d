//! Requests and acts about a registration (`sap.md` §9): what is asked, what the act says, and what the proof does.

use audit_log::Event;
use cm_api::CryptoModule;
use core_types::{Digest32, KeyId, Level, PersonId, UnixTime, VoucherId};
use sam_api::Refusal;
use sam_api::ssa::{
    AskRequest, FactorInfo, FactorsAnswer, FactorsRequest, HistoryAnswer, HistoryRequest,
    PrepareAnswer, Wish, request_id,
};
use sam_core::act::{MAX_REQUEST_LIFE, return_uri_allowed};
use sam_core::change::{
    Change, ChangeContent, check_remove, locked_until, registration_digest, unlock,
};
use sam_core::enrol::{Factor, FactorBody, Voucher};
use sam_core::{FactorKind, Reason, import};
use sap::FactorChange;
use sap::act::Person;
use sap::proof::Method;
use store_kit::Tx;

use crate::audit;
use crate::failed::Failed;
use crate::records::{
    ChangeBody, KeyRecord, PersonRecord, RequestBody, RequestPhase, RequestRecord,
};
use crate::rows::{self, Row};
use crate::sam::Sam;

mod apply;

pub(crate) use apply::{Applied, after, key_event, key_note};

/// Keys and living factors of one voucher.
pub(crate) struct Registration {
    pub(crate) keys: Vec<Row<KeyRecord>>,
    pub(crate) factors: Vec<Row<Factor>>,
}

impl Registration {
    /// Highest level of a key that isn't gone.
    pub(crate) fn highest(&self) -> Level {
        let levels = self.living().map(KeyRecord::level);
        levels.max().unwrap_or(Level::One)
    }

    pub(crate) fn all(&self) -> Vec<Factor> {
        self.factors.iter().map(|f| f.body.clone()).collect()
    }

    pub(crate) fn living(&self) -> impl Iterator<Item = &KeyRecord> {
        self.keys.iter().map(|k| &k.body).filter(|k| is_living(k))
    }

    pub(crate) fn digest(&self) -> Digest32 {
        registration_digest(
            self.living().map(|k| &k.key),
            self.factors.iter().map(|f| &f.body.id),
        )
    }
}

fn is_living(key: &KeyRecord) -> bool {
    key.life.state != sam_api::ssa::KeyState::Destroyed
}

/// A wish, with all it is about.
pub(crate) struct Resolved {
    pub(crate) registration: Registration,
    pub(crate) content: ChangeContent,
}

impl<C: CryptoModule> Sam<C> {
    /// Stores a request of `service` to change something. It has no power.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn ask(&self, service: &str, request: AskRequest) -> Result<PrepareAnswer, Refusal> {
        let person = request.person.clone();
        match self.try_ask(service, request).await {
            Ok(answer) => Ok(answer),
            Err(failed) => {
                let reason = self.explain(&failed).await;
                self.record(Event::RequestRefused {
                    client: None,
                    person: Some(person),
                    reason: audit::reason(&reason),
                })
                .await;
                Err(reason.to_ssa())
            }
        }
    }

    /// Factors of a person.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn factors(&self, request: FactorsRequest) -> Result<FactorsAnswer, Refusal> {
        let now = self.clock.now();
        let listed = async {
            let mut tx = self.store.read("factors").await?;
            rows::by_owner::<Factor>(&mut tx, &self.sealer, request.person.as_str()).await
        };
        match listed.await {
            Ok(rows) => Ok(FactorsAnswer {
                factors: rows
                    .into_iter()
                    .filter(|f| f.body.removed.is_none())
                    .map(|f| self.factor_info(&f.body, now))
                    .collect(),
            }),
            Err(failed) => Err(self.explain(&failed).await.to_ssa()),
        }
    }

    /// What happened to a person's keys and factors lately.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn history(&self, request: HistoryRequest) -> Result<HistoryAnswer, Refusal> {
        let read = async {
            let mut tx = self.store.read("history").await?;
            rows::get::<PersonRecord>(&mut tx, &self.sealer, request.person.as_str()).await
        };
        match read.await {
            Ok(row) => {
                let (mut entries, notices) =
                    row.map_or((Vec::new(), None), |r| (r.body.history, r.body.notices));
                entries.reverse();
                Ok(HistoryAnswer {
                    entries,
                    mailed: notices.is_some() && self.courier.get().is_some(),
                })
            }
            Err(failed) => Err(self.explain(&failed).await.to_ssa()),
        }
    }

    fn factor_info(&self, factor: &Factor, now: UnixTime) -> FactorInfo {
        FactorInfo {
            factor: factor.id.clone(),
            registration: factor.voucher.clone(),
            method: factor.method(),
            level: self.rules(&self.attesters()).strength(factor),
            created: factor.created,
            locked_until: locked_until(factor, now),
        }
    }

    async fn try_ask(&self, service: &str, request: AskRequest) -> Result<PrepareAnswer, Failed> {
        let now = self.clock.now();
        if !(1..=MAX_REQUEST_LIFE).contains(&request.ttl) {
            return Err(Reason::Invalid("ttl").into());
        }
        if !return_uri_allowed(&request.return_uri, &self.config.return_prefixes) {
            return Err(Reason::Invalid("return").into());
        }
        let rid = self.random.digest32();
        let id = request_id(rid);
        let exp = now.plus(request.ttl);
        let record = RequestRecord {
            phase: RequestPhase::Open,
            service: service.to_owned(),
            person: request.person,
            body: RequestBody::Change(ChangeBody { wish: request.wish }),
            return_uri: request.return_uri,
            created: now,
            exp,
            act: None,
        };
        let mut tx = self.store.read("ask").await?;
        let what = match record.imports() {
            Some(_) => {
                self.resolve_import(&mut tx, &record, now).await?;
                "import"
            }
            None => what(&self.resolve(&mut tx, &record, now).await?.content.change),
        };
        drop(tx);
        let asked = Event::ChangeAsked {
            request: id,
            person: record.person.clone(),
            what: what.into(),
        };
        self.store_request(id, record, asked).await?;
        Ok(PrepareAnswer { rid, exp })
    }

    /// Keys and living factors that `person` has by this voucher.
    pub(crate) async fn registration(
        &self,
        tx: &mut Tx,
        person: &PersonId,
        voucher: &VoucherId,
    ) -> Result<Registration, Failed> {
        let mut keys = rows::by_link::<KeyRecord>(tx, &self.sealer, voucher.as_str()).await?;
        keys.retain(|k| k.body.owner == *person && k.body.voucher == *voucher);
        let mut factors = rows::by_owner::<Factor>(tx, &self.sealer, person.as_str()).await?;
        factors.retain(|f| f.body.voucher == *voucher && f.body.removed.is_none());
        Ok(Registration { keys, factors })
    }

    /// What a request means now: which registration it is about, and what its act will say.
    pub(crate) async fn resolve(
        &self,
        tx: &mut Tx,
        request: &RequestRecord,
        now: UnixTime,
    ) -> Result<Resolved, Failed> {
        let RequestBody::Change(ChangeBody { wish }) = &request.body else {
            return Err(Reason::OtherKind.into());
        };
        let (voucher, change, key) = match wish {
            Wish::Suspend { key }
            | Wish::Resume { key }
            | Wish::Destroy { key }
            | Wish::HandOver { key, .. } => {
                let row = rows::get::<KeyRecord>(tx, &self.sealer, key.as_str()).await?;
                let row = row
                    .filter(|k| k.body.owner == request.person)
                    .ok_or(Reason::NotFound)?;
                let (key, changes) = (key.clone(), row.body.life.changes);
                let change = match wish {
                    Wish::HandOver { receiver, .. } => {
                        self.goes_on(tx).await?;
                        let (exportable, level) = (row.body.exportable, row.body.level());
                        import::check_hand_over(exportable, level, row.body.alg)?;
                        let receiver = receiver.clone();
                        Change::HandOver {
                            key,
                            changes,
                            receiver,
                        }
                    }
                    Wish::Resume { .. } => Change::Resume { key, changes },
                    Wish::Destroy { .. } => Change::Destroy { key, changes },
                    _ => Change::Suspend { key, changes },
                };
                // Said now what would be said after the proof.
                after(&row.body.life, &change, None, now)?;
                (row.body.voucher.clone(), change, Some(row.body))
            }
            Wish::Leave { registration } => {
                let of = self.registration(tx, &request.person, registration).await?;
                let of = of.digest();
                (registration.clone(), Change::Leave { of }, None)
            }
            Wish::AddFactor {
                registration,
                method,
            } => {
                let change = FactorChange::Add { method: *method };
                (registration.clone(), Change::Factor { change }, None)
            }
            Wish::AddDevice { registration, key } => {
                let change = FactorChange::AddDevice { key: key.clone() };
                (registration.clone(), Change::Factor { change }, None)
            }
            Wish::RemoveFactor { factor }
            | Wish::ChangePin { factor }
            | Wish::UnlockFactor { factor } => {
                let row = rows::get::<Factor>(tx, &self.sealer, factor.as_str()).await?;
                let row = row
                    .filter(|f| f.body.person == request.person && f.body.removed.is_none())
                    .ok_or(Reason::NotFound)?;
                let (method, factor) = (row.body.method(), factor.clone());
                let change = match wish {
                    Wish::RemoveFactor { .. } => FactorChange::Remove { factor, method },
                    Wish::ChangePin { .. } => FactorChange::Pin { factor },
                    _ => FactorChange::Unlock { factor },
                };
                (row.body.voucher, Change::Factor { change }, None)
            }
            Wish::Import { .. } => return Err(Reason::OtherKind.into()),
        };
        let registration = self.registration(tx, &request.person, &voucher).await?;
        if registration.factors.is_empty() {
            return Err(Reason::NotFound.into());
        }
        self.check_possible(&change, &registration)?;
        let row = rows::get::<Voucher>(tx, &self.sealer, voucher.as_str()).await?;
        let name = row
            .filter(|v| v.body.invite.person == request.person)
            .ok_or(Reason::NotFound)?
            .body
            .invite
            .subject
            .common_name;
        let person = rows::get::<PersonRecord>(tx, &self.sealer, request.person.as_str()).await?;
        let since = person.ok_or(Reason::NotFound)?.body.since();
        let highest = registration.highest();
        let level = key.as_ref().map_or(highest, KeyRecord::level);
        let leaving = matches!(change, Change::Leave { .. });
        let content = ChangeContent {
            level: change.proof_level(level, highest),
            person: Person {
                id: request.person.clone(),
                name,
            },
            key: key.map(|k| (k.act_key(), k.alg)),
            keys: match leaving {
                true => registration.living().map(KeyRecord::act_key).collect(),
                false => Vec::new(),
            },
            factors: match leaving {
                true => registration
                    .factors
                    .iter()
                    .map(|f| f.body.id.clone())
                    .collect(),
                false => Vec::new(),
            },
            registration: voucher,
            rp_id: self.config.relying_party.rp_id.clone(),
            since,
            return_uri: request.return_uri.clone(),
            until: request.exp,
            change,
        };
        Ok(Resolved {
            registration,
            content,
        })
    }

    /// Refuses early what the proof couldn't bring about.
    fn check_possible(&self, change: &Change, of: &Registration) -> Result<(), Reason> {
        let Change::Factor { change } = change else {
            return Ok(());
        };
        let body = |id: &core_types::FactorId| {
            of.factors
                .iter()
                .find(|f| f.body.id == *id)
                .map(|f| &f.body.body)
        };
        match change {
            FactorChange::Add {
                method: Method::Idp,
            } => match (self.config.providers.0.first(), of.highest()) {
                (None, _) => Err(Reason::NotAllowed("method-not-admitted")),
                (Some(_), highest) if !self.providers_at(highest).is_empty() => Ok(()),
                // All of them count for less.
                (Some(any), highest) => self.config.policy.check(highest, any.kind()),
            },
            FactorChange::Add {
                method: Method::Passkey,
            } => Ok(()),
            FactorChange::Add {
                method: Method::PinTotp,
            } => {
                let policy = &self.config.policy;
                policy.check(of.highest(), FactorKind::PinTotp)
            }
            // A device key is named by its public half, and collected secrets are an invitation's to ask for.
            FactorChange::Add {
                method: Method::Device | Method::Collected,
            } => Err(Reason::NotAllowed("method-not-admitted")),
            FactorChange::AddDevice { .. } => {
                let policy = &self.config.policy;
                policy.check(of.highest(), FactorKind::Device)
            }
            FactorChange::Remove { factor, .. } => {
                let attesters = self.attesters();
                check_remove(self.rules(&attesters), factor, of.highest(), &of.all())
            }
            FactorChange::Pin { factor } => {
                let pin = body(factor).and_then(FactorBody::guessable);
                pin.map(drop).ok_or(Reason::NotFound)
            }
            FactorChange::Unlock { factor } => {
                unlock(body(factor).ok_or(Reason::NotFound)?).map(drop)
            }
        }
    }
}

/// The word for the kind of act.
pub(crate) fn what(change: &Change) -> &'static str {
    match change {
        Change::Suspend { .. } => "suspend",
        Change::Resume { .. } => "resume",
        Change::Destroy { .. } => "destroy",
        Change::HandOver { .. } => "hand-over",
        Change::Leave { .. } => "leave",
        Change::Factor { .. } => "factor",
    }
}

/// The key of an act of these kinds.
pub(crate) fn key_of(change: &Change) -> Option<KeyId> {
    change.key().map(|(key, _)| key.clone())
}
