//! Keys that come in (`III-3-15-import-*`): an act says which key may, its owner approves, and then it is brought, sealed to
//! the module, by the signer's own program or by a CA. The SAM never sees it.

use audit_log::Event;
use cm_api::order::MAX_ORDER_LIFE;
use cm_api::rpc::{self, Empty};
use cm_api::{CryptoModule, Executed, KeyCreated, OrderKind};
use core_types::{Digest32, Level, PersonId, UnixTime, VoucherId};
use sam_api::ssa::{Happened, HistoryEntry, Wish};
use sam_core::enrol::{Factor, Voucher};
use sam_core::import::{self, Coming, ImportContent, patience};
use sam_core::state::{Phase, Subject};
use sam_core::{ActState, KeyFacts, Reason};
use sap::act::Person;
use sap::messages::{ImportAnswer, ImportKeyAnswer, ImportKeyRequest, ImportRequest, SapRefusal};
use store_kit::{Tx, transaction};

use super::change::{Registration, key_note};
use super::keys::NewKey;
use super::orders::Ordered;
use crate::failed::Failed;
use crate::records::{KeyRecord, PersonRecord, RequestRecord};
use crate::rows::{self, Row};
use crate::sam::Sam;

/// A registration that takes a key, and what the key's level will be computed from.
pub(crate) struct Welcome {
    pub(crate) registration: Registration,
    voucher: Row<Voucher>,
    facts: KeyFacts,
}

/// A key that somebody brings, with the act that admits it.
struct Bringing {
    person: PersonId,
    registration: VoucherId,
    level: Level,
    coming: Coming,
}

impl<C: CryptoModule> Sam<C> {
    /// What whoever brings a key needs to seal it.
    ///
    /// # Errors
    /// [`SapRefusal`] unless the act is one that waits for a key.
    pub async fn import_key(
        &self,
        request: ImportKeyRequest,
    ) -> Result<ImportKeyAnswer, SapRefusal> {
        match self.try_import_key(request.act).await {
            Ok(answer) => Ok(answer),
            Err(failed) => Err(self.refused_act(request.act, &failed).await),
        }
    }

    /// Takes a key under an approved act.
    ///
    /// Run it in a task of its own: it must not be dropped half way because a connection closed.
    ///
    /// # Errors
    /// [`SapRefusal`] naming the requirement that the key doesn't meet. Whoever lost the answer may ask again.
    pub async fn import(&self, request: ImportRequest) -> Result<ImportAnswer, SapRefusal> {
        match self.try_import(&request).await {
            Ok(answer) => Ok(answer),
            Err(failed) => Err(self.refused_act(request.act, &failed).await),
        }
    }

    /// What a wish to bring a key means now.
    pub(crate) async fn resolve_import(
        &self,
        tx: &mut Tx,
        request: &RequestRecord,
        now: UnixTime,
    ) -> Result<(Welcome, ImportContent), Failed> {
        let Some(Wish::Import {
            registration,
            spki,
            case,
            level,
        }) = request.imports()
        else {
            return Err(Reason::OtherKind.into());
        };
        let coming = Coming {
            alg: pki::key_alg(&spki.0).ok_or(Reason::Invalid("spki"))?,
            spki: core_types::sha256(&[&spki.0]),
            case: *case,
            until: now.plus(patience(*case)),
        };
        let welcome = self
            .may_come_in(tx, &request.person, registration, *level, &coming)
            .await?;
        let id = request.person.as_str();
        let person = rows::get::<PersonRecord>(tx, &self.sealer, id).await?;
        let content = ImportContent {
            coming,
            registration: registration.clone(),
            level: *level,
            person: Person {
                id: request.person.clone(),
                name: welcome.voucher.body.invite.subject.common_name.clone(),
            },
            since: person.ok_or(Reason::NotFound)?.body.since(),
            return_uri: request.return_uri.clone(),
            until: request.exp,
        };
        Ok((welcome, content))
    }

    /// Whether this key may come in for this registration, as things stand now.
    pub(crate) async fn may_come_in(
        &self,
        tx: &mut Tx,
        person: &PersonId,
        registration: &VoucherId,
        level: Level,
        coming: &Coming,
    ) -> Result<Welcome, Failed> {
        self.goes_on(tx).await?;
        self.config.policy.check_alg(coming.alg)?;
        import::check_origin(coming.case, level)?;
        import::check_strength(coming.alg)?;
        let voucher = rows::get::<Voucher>(tx, &self.sealer, registration.as_str()).await?;
        let voucher = voucher
            .filter(|v| v.body.invite.person == *person)
            .ok_or(Reason::NotFound)?;
        voucher.body.takes_imports()?;
        let registration = self.registration(tx, person, registration).await?;
        let attesters = self.attesters();
        let rules = self.rules(&attesters);
        let strengths = registration.factors.iter();
        let strengths = strengths.map(|f: &Row<Factor>| rules.strength(&f.body));
        let authorization = strengths.max().ok_or(Reason::NotFound)?;
        let enrolment = voucher.body.ceiling();
        let facts = import::facts(&self.service, coming.case, level, authorization, enrolment)?;
        Ok(Welcome {
            registration,
            voucher,
            facts,
        })
    }

    async fn try_import_key(&self, act: Digest32) -> Result<ImportKeyAnswer, Failed> {
        let epoch = self.epoch().await?;
        let mut tx = self.store.read("import-key").await?;
        let row = rows::get::<ActState>(&mut tx, &self.sealer, &act.to_string()).await?;
        row.ok_or(Reason::NotFound)?
            .body
            .may_bring(self.at(epoch))?;
        let act = self.act_text(&mut tx, act).await?;
        drop(tx);
        let told = self.module.call::<rpc::ImportKey>(&Empty {}).await;
        let told = told.map_err(|error| {
            tracing::error!(%error, "the module doesn't tell its import key");
            Reason::NotNow
        })?;
        let keys = self.statement_of(epoch, self.clock.now(), &act).await?;
        Ok(ImportKeyAnswer {
            act,
            keys,
            statement: told.statement,
        })
    }

    async fn try_import(&self, request: &ImportRequest) -> Result<ImportAnswer, Failed> {
        let act = request.act;
        let bringing = self.count_bringing(act).await?;
        let mut tx = self.store.read("import-read").await?;
        let Bringing {
            person,
            registration,
            level,
            coming,
        } = &bringing;
        let welcome = self
            .may_come_in(&mut tx, person, registration, *level, coming)
            .await?;
        drop(tx);
        self.service.vouch(*level)?;
        let epoch = self.epoch().await?;
        let created = self.have_it_in(epoch, &bringing, request).await?;
        let voucher = &welcome.voucher.body;
        let new = NewKey {
            voucher,
            enrolled: voucher.takes_imports()?,
            created,
            alg: coming.alg,
            facts: welcome.facts,
            level: *level,
            imported: Some((coming, act)),
        };
        let key = self.record_key(epoch, new).await?;
        self.keep_imported(act, key).await
    }

    /// The try is counted before the module is asked.
    async fn count_bringing(&self, act: Digest32) -> Result<Bringing, Failed> {
        let counted: Option<Bringing> = transaction!(self.store, "import-try", |tx| {
            let now = self.now(tx).await?;
            let row = rows::get::<ActState>(tx, &self.sealer, &act.to_string()).await?;
            let row = row.ok_or(Reason::NotFound)?;
            let next = row.body.try_bring(now)?;
            rows::save(tx, &self.sealer, &row, &next).await?;
            if next.phase == Phase::Dead {
                let person = Some(next.person);
                let reason = "too-many-tries".into();
                let event = Event::ActEnded {
                    act,
                    person,
                    reason,
                };
                self.audit.append(tx, event, now.time).await?;
                return Ok(None);
            }
            self.rows_changed(tx, "import-tried").await?;
            let Subject::Import {
                registration,
                coming,
                ..
            } = next.subject
            else {
                return Err(Reason::OtherKind.into());
            };
            Ok::<_, Failed>(Some(Bringing {
                person: next.person,
                registration,
                level: next.level,
                coming,
            }))
        })?;
        Ok(counted.ok_or(Reason::TooManyTries)?)
    }

    async fn have_it_in(
        &self,
        epoch: Digest32,
        bringing: &Bringing,
        request: &ImportRequest,
    ) -> Result<KeyCreated, Failed> {
        let kind = OrderKind::Import {
            tenant: self.config.tenant.clone(),
            owner: bringing.person.clone(),
            level: bringing.level,
            act: request.act,
            case: bringing.coming.case,
            spki: bringing.coming.spki,
            envelope: request.envelope.clone(),
        };
        let (name, now) = (self.random.digest32(), self.clock.now());
        let exp = now.plus(MAX_ORDER_LIFE);
        match self.order(name, epoch, exp, kind).await? {
            Ordered::Done(Executed::Created(created)) => Ok(created),
            Ordered::Refused(cm_api::Refusal::NotAllowed(why)) => {
                tracing::warn!(%why, "the module refused a key that was brought");
                let unnamed = Reason::NotNow;
                Err(why.requirement().map_or(unnamed, Reason::Import).into())
            }
            Ordered::Refused(cm_api::Refusal::NotNow) => Err(Reason::Expired.into()),
            Ordered::Refused(refusal) => {
                tracing::error!(%refusal, "the module refused an order to import");
                Err(Reason::NotNow.into())
            }
            Ordered::Done(_) | Ordered::Unknown => Err(Reason::NotNow.into()),
        }
    }

    /// The key joins its registration, and the act is done: in one transaction.
    async fn keep_imported(&self, act: Digest32, key: KeyRecord) -> Result<ImportAnswer, Failed> {
        transaction!(self.store, "import-keep", |tx| {
            let now = self.now(tx).await?;
            self.stays_so(tx).await?;
            let person = rows::get::<PersonRecord>(tx, &self.sealer, key.owner.as_str()).await?;
            let person = person.ok_or(Reason::NotFound)?;
            let row = rows::get::<ActState>(tx, &self.sealer, &act.to_string()).await?;
            let row = row.ok_or(Reason::NotFound)?;
            let next = row.body.brought(now)?;
            let voucher = rows::get::<Voucher>(tx, &self.sealer, key.voucher.as_str()).await?;
            let voucher = voucher.ok_or(Reason::NotFound)?;
            let joined = voucher.body.with_imported(key.key.clone())?;
            rows::save(tx, &self.sealer, &row, &next).await?;
            rows::save(tx, &self.sealer, &voucher, &joined).await?;
            if !rows::insert(tx, &self.sealer, key.key.as_str(), &key).await? {
                return Err(Reason::NotNow.into());
            }
            let mut noted = person.body.clone();
            let entry = HistoryEntry {
                act: Some(act),
                ..key_note(&key, Happened::Imported, now.time)
            };
            self.tell(tx, &mut noted, vec![entry]).await?;
            rows::save(tx, &self.sealer, &person, &noted).await?;
            let event = Event::KeyImported {
                key: key.key.clone(),
                owner: key.owner.clone(),
                alg: key.alg,
                spki: key.spki_digest(),
                origin: key.case.as_str().into(),
                act,
            };
            self.audit.append(tx, event, now.time).await?;
            Ok::<_, Failed>(ImportAnswer {
                key: key.key.clone(),
            })
        })
    }
}

/// The note that a key may be brought.
pub(crate) fn import_note(act: Digest32, at: UnixTime) -> HistoryEntry {
    HistoryEntry {
        at,
        what: Happened::ImportApproved,
        key: None,
        factor: None,
        act: Some(act),
        proposal: None,
        cause: None,
    }
}
