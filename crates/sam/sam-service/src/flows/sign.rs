//! `sign` (`sap.md` §7): spending an approved act, at most once per item.

use std::sync::Arc;

use audit_log::Event;
use cm_api::order::{MAX_ATTEMPTS, MAX_ORDER_LIFE};
use cm_api::rpc::Reason as ModuleReason;
use cm_api::{CryptoModule, Executed, Order};
use core_types::{B64, ClientId, Digest32, DtbsForm, KeyAlg, PersonId, SigAlg, sha256};
use sam_api::Refusal;
use sam_api::ssa::{Happened, SignAnswer, SignRequest};
use sam_core::act::read_act;
use sam_core::evidence::{Evidence, Signature};
use sam_core::state::{Asked, Plan, Subject};
use sam_core::{ActState, Reason};
use sap::{Act, SignAct};
use store_kit::{Tx, transaction};

use super::change::key_note;
use super::orders::Ordered;
use super::taken::{Taken, sign_order, taken};
use crate::audit;
use crate::failed::Failed;
use crate::records::{KeyRecord, RequestBody, RequestRecord, ResultRecord};
use crate::rows::{self, KeyLock};
use crate::sam::Sam;
use crate::verify::all_verify;

/// Longest idempotency key in characters.
const MAX_IDEMPOTENCY_KEY: usize = 128;

/// An act found by its token.
#[derive(Clone)]
pub(crate) struct Found {
    pub(crate) digest: Digest32,
    pub(crate) act: Arc<SignAct>,
    pub(crate) person: PersonId,
    pub(crate) service: String,
    /// The items are what the application asked for; nobody was shown them.
    pub(crate) open: bool,
}

enum Begun {
    Taken(Box<Taken>),
    Stored(SignAnswer),
    GivenUp,
}

impl<C: CryptoModule> Sam<C> {
    /// Signs items of the approved act that `request.token` is bound to.
    ///
    /// Run it in a task of its own: it must not be dropped half way because a connection closed.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn sign(&self, service: &str, request: SignRequest) -> Result<SignAnswer, Refusal> {
        let mut act = None;
        let failed = match self.try_sign(service, &request, &mut act).await {
            Ok(answer) => return Ok(answer),
            Err(failed) => failed,
        };
        let reason = self.explain(&failed).await;
        let (act, person) = act.map_or((None, None), |(a, p)| (Some(a), Some(p)));
        if let Some(act) = act {
            self.count_failure(act, &reason).await;
        }
        let event = Event::SadRefused {
            act,
            client: Some(request.client),
            person,
            reason: audit::reason(&reason),
        };
        self.record(event).await;
        Err(reason.to_ssa())
    }

    async fn try_sign(
        &self,
        service: &str,
        request: &SignRequest,
        seen: &mut Option<(Digest32, PersonId)>,
    ) -> Result<SignAnswer, Failed> {
        let visible = |k: &String| {
            (1..=MAX_IDEMPOTENCY_KEY).contains(&k.len()) && k.bytes().all(|b| b.is_ascii_graphic())
        };
        if !request.idempotency_key.as_ref().is_none_or(visible) {
            return Err(Reason::Invalid("idempotency_key").into());
        }
        let grant = sha256(&[request.token.expose()]);
        let asked = Some((request.alg, request.hashes.as_slice()));
        let found = self.find(grant, asked).await?;
        if found.service != service {
            return Err(Reason::NotFound.into());
        }
        *seen = Some((found.digest, found.person.clone()));
        self.service.vouch(found.act.level)?;
        let asked = Asked {
            grant,
            client: &request.client,
            key: &request.key,
            alg: request.alg,
            hashes: &request.hashes,
            idempotency_key: request.idempotency_key.as_deref(),
        };
        match self.begin(found, asked).await? {
            Begun::Stored(answer) => Ok(answer),
            Begun::GivenUp => Err(Reason::Lost.into()),
            Begun::Taken(taken) => self.execute_once(*taken, &request.client).await,
        }
    }

    /// The act this token is bound to, with its verified text. `asked` fills an act without items; without it there is none to find.
    pub(crate) async fn find(
        &self,
        grant: Digest32,
        asked: Option<(SigAlg, &[B64])>,
    ) -> Result<Found, Failed> {
        let mut tx = self.store.read("sign-find").await?;
        let rows = rows::by_link::<ActState>(&mut tx, &self.sealer, &grant.to_string()).await?;
        let row = rows
            .into_iter()
            .find(|r| r.body.grant.is_some_and(|g| g.ct_eq(&grant)));
        let row = row.ok_or(Reason::NotFound)?;
        let digest = Digest32::parse(&row.id).map_err(|_| Failed::Tampered("act"))?;
        let jws = self.act_text(&mut tx, digest).await?;
        drop(tx);
        let Subject::Sign { service, .. } = row.body.subject else {
            return Err(Reason::OtherKind.into());
        };
        let act = self
            .by_size(row.body.items.len(), move || read_act(&jws))
            .await?;
        let (act, open) = match (act, asked) {
            (Act::Sign(act), _) => (act, false),
            (Act::SignOpen(act), Some((alg, hashes))) => (act.filled(alg.hash(), hashes), true),
            _ => return Err(Reason::OtherKind.into()),
        };
        Ok(Found {
            open,
            digest,
            act: Arc::new(act),
            person: row.body.person,
            service,
        })
    }

    /// T1: the right is spent and its use recorded before the module is asked (I1, R3).
    async fn begin(&self, found: Found, asked: Asked<'_>) -> Result<Begun, Failed> {
        let id = found.digest.to_string();
        transaction!(self.store, "sign-take", |tx| {
            let now = self.now(tx).await?;
            let row = rows::get::<ActState>(tx, &self.sealer, &id)
                .await?
                .ok_or(Reason::NotFound)?;
            let person = row.body.person.clone();
            match row.body.plan(&found.act, asked, now, MAX_ORDER_LIFE)? {
                Plan::Fetch => {
                    let name = result_id(found.digest, row.body.step);
                    let stored = rows::get::<ResultRecord>(tx, &self.sealer, &name).await?;
                    let stored = stored
                        .filter(|s| now.time < s.body.until)
                        .ok_or(Reason::Expired)?;
                    let event = Event::SignatureRepeated {
                        act: found.digest,
                        client: asked.client.clone(),
                        person,
                        call: asked.digest(),
                    };
                    self.audit.append(tx, event, now.time).await?;
                    Ok(Begun::Stored(SignAnswer {
                        signatures: stored.body.values,
                        counter: stored.body.counter,
                    }))
                }
                Plan::GiveUp(next) => {
                    rows::save(tx, &self.sealer, &row, &next).await?;
                    let event = Event::SadEnded {
                        act: found.digest,
                        person: Some(person),
                        reason: "lost".into(),
                    };
                    self.audit.append(tx, event, now.time).await?;
                    Ok(Begun::GivenUp)
                }
                Plan::Take(next) => {
                    // The right isn't spent for an order that would be refused.
                    self.check_clock()?;
                    let Subject::Sign {
                        key,
                        key_version,
                        one_time,
                        ..
                    } = &next.subject
                    else {
                        return Err(Reason::OtherKind.into());
                    };
                    let lock = match one_time {
                        true => KeyLock::ToChange,
                        false => KeyLock::Shared,
                    };
                    // Before the key's row, as wherever both are held.
                    self.stays_so(tx).await?;
                    let key_row = rows::get_key(tx, &self.sealer, key.as_str(), lock).await?;
                    let key_row = key_row.ok_or(Reason::KeyNotActive)?;
                    let key = key_row.body.clone();
                    let same =
                        key.version == *key_version && key.spki_digest() == found.act.key.spki;
                    if !key.is_active(now.time) || !same {
                        return Err(Reason::KeyNotActive.into());
                    }
                    if found.open {
                        self.config.policy.check_open(key.alg, key.level(), 1)?;
                    }
                    if key.one_time {
                        let until = next.job.as_ref().map_or(now.time, |j| j.deadline);
                        let spent = key.spent_by(found.digest, until);
                        rows::save(tx, &self.sealer, &key_row, &spent).await?;
                    }
                    let count = next.job.as_ref().map_or(0, |j| j.indices.len());
                    let event = Event::SadConsumed {
                        act: found.digest,
                        client: asked.client.clone(),
                        person,
                        key: key.key.clone(),
                        step: next.step,
                        items: u32::try_from(count).unwrap_or(u32::MAX),
                        call: asked.digest(),
                    };
                    let messages = self.messages(tx, key.alg, &next.subject).await?;
                    let taken = taken(found.clone(), key, &next, messages, now.epoch)?;
                    rows::save(tx, &self.sealer, &row, &next).await?;
                    self.audit.append(tx, event, now.time).await?;
                    Ok::<_, Failed>(Begun::Taken(Box::new(taken)))
                }
            }
        })
    }

    /// What a key that signs messages signs: the request kept it. Nothing for other keys.
    async fn messages(&self, tx: &mut Tx, alg: KeyAlg, of: &Subject) -> Result<Vec<B64>, Failed> {
        if alg.form() == DtbsForm::Digest {
            return Ok(Vec::new());
        }
        let request = of.request().ok_or(Reason::OtherKind)?.to_string();
        let row = rows::get::<RequestRecord>(tx, &self.sealer, &request).await?;
        match row.map(|r| r.body.body) {
            Some(RequestBody::Sign(body)) => Ok(body.messages),
            _ => Err(Reason::Expired.into()),
        }
    }

    /// Orders, checks every value, and stores the outcome. From here on the items are either signed or lost.
    pub(crate) async fn execute(
        &self,
        mut taken: Taken,
        client: &ClientId,
    ) -> Result<SignAnswer, Failed> {
        let counter_sign = self.counter_sign();
        loop {
            let name = Order::name(taken.found.digest, taken.step, taken.job.attempt);
            // A failure before the order was sent is like a definite *no* that can't be tried again.
            let kind = sign_order(&taken, counter_sign.clone());
            let ordered = match self
                .order(name, taken.epoch, taken.job.deadline, kind)
                .await
            {
                Ok(ordered) => ordered,
                Err(failed) => {
                    self.lose(&taken, client, "not-sent").await?;
                    return Err(failed);
                }
            };
            match ordered {
                Ordered::Done(Executed::Signed(values)) => {
                    return self.finish(taken, name, (values, None), client).await;
                }
                Ordered::Done(Executed::CounterSigned { values, counter }) => {
                    let made = (values, Some(counter));
                    return self.finish(taken, name, made, client).await;
                }
                // Now, or at an order whose answer never came (I4).
                Ordered::Done(Executed::WrongValue)
                | Ordered::Refused(cm_api::Refusal::NotAllowed(ModuleReason::WrongValue)) => {
                    return self.wrong_value(&taken, client).await;
                }
                Ordered::Refused(refusal) => {
                    tracing::warn!(%refusal, "the module refused an order to sign");
                    let fresh = refusal != cm_api::Refusal::Duplicate;
                    if !fresh || taken.job.attempt + 1 >= MAX_ATTEMPTS {
                        self.lose(&taken, client, "module-refused").await?;
                        return Err(Reason::Lost.into());
                    }
                    if let Err(failed) = self.again(&mut taken).await {
                        self.lose(&taken, client, "not-sent").await?;
                        return Err(failed);
                    }
                }
                Ordered::Done(_) | Ordered::Unknown => {
                    self.lose(&taken, client, "lost").await?;
                    return Err(Reason::Lost.into());
                }
            }
        }
    }

    /// I4, then T2: the values are durable before they leave.
    async fn finish(
        &self,
        taken: Taken,
        order: Digest32,
        (values, counter): (Vec<B64>, Option<Vec<B64>>),
        client: &ClientId,
    ) -> Result<SignAnswer, Failed> {
        let values = Arc::new(values);
        let good = all_verify(
            &taken.key.spki,
            taken.job.alg,
            taken.dtbs.clone(),
            values.clone(),
        )
        .await;
        if !good {
            // A wrong RSA value can betray the key: it is dropped here, and stands in no log.
            drop(values);
            return self.wrong_value(&taken, client).await;
        }
        let counter = self.checked_counter(&values, counter).await;
        let act = taken.found.digest;
        let hashes: Vec<Digest32> = values.iter().map(|v| sha256(&[&v.0])).collect();
        let all = sha256(&hashes.iter().map(|h| h.0.as_slice()).collect::<Vec<_>>());
        let evidence = Evidence::Signature(Box::new(Signature {
            act,
            approval: taken.approval,
            order,
            alg: taken.job.alg,
            indices: taken.job.indices.clone(),
            filled: filled(&taken.found),
            values: hashes,
            certificates: taken.key.chain.clone(),
            certify: taken.key.certify.clone(),
            epoch: taken.epoch,
            at: self.clock.now(),
            clock: self.clock_state(),
            software: env!("CARGO_PKG_VERSION").to_owned(),
        }));
        let evidence = evidence.bytes()?;
        let evidence_digest = sha256(&[&evidence]);
        let stored: Result<(), Failed> = transaction!(self.store, "sign-done", |tx| {
            let now = self.now(tx).await?;
            let row = rows::get::<ActState>(tx, &self.sealer, &act.to_string())
                .await?
                .ok_or(Reason::Lost)?;
            let next = row.body.done(taken.step, taken.job.attempt)?;
            let until = next.approval.as_ref().map_or(now.time, |a| a.sign_until);
            rows::save(tx, &self.sealer, &row, &next).await?;
            let result = ResultRecord {
                values: values.to_vec(),
                counter: counter.clone(),
                until,
            };
            if !rows::insert(tx, &self.sealer, &result_id(act, taken.step), &result).await? {
                return Err(Reason::Lost.into());
            }
            self.put_evidence(tx, evidence_digest, &evidence).await?;
            let event = Event::SignatureMade {
                act,
                client: client.clone(),
                person: taken.found.person.clone(),
                key: taken.key.key.clone(),
                certificate: taken.key.certificate(),
                alg: taken.job.alg,
                step: taken.step,
                count: u32::try_from(values.len()).unwrap_or(u32::MAX),
                values: all,
                evidence: evidence_digest,
            };
            self.audit.append(tx, event, now.time).await?;
            Ok::<_, Failed>(())
        });
        if let Err(failed) = stored {
            // What can't be recorded doesn't leave (I5). The items stay taken and become lost.
            self.explain(&failed).await;
            return Err(Reason::Lost.into());
        }
        Ok(SignAnswer {
            signatures: Arc::try_unwrap(values).unwrap_or_else(|shared| shared.to_vec()),
            counter,
        })
    }

    /// Whatever became of the act meanwhile, a key that makes wrong values stops.
    async fn wrong_value(&self, taken: &Taken, client: &ClientId) -> Result<SignAnswer, Failed> {
        let stopped = self.suspend(&taken.key, taken.found.digest).await;
        self.lose(taken, client, "wrong-value").await?;
        stopped?;
        Err(Reason::Lost.into())
    }

    /// The items are given up for good, and the signer has to approve anew.
    async fn lose(
        &self,
        taken: &Taken,
        client: &ClientId,
        reason: &'static str,
    ) -> Result<(), Failed> {
        let id = taken.found.digest.to_string();
        transaction!(self.store, "sign-lost", |tx| {
            let now = self.clock.now();
            let row = rows::get::<ActState>(tx, &self.sealer, &id)
                .await?
                .ok_or(Reason::Lost)?;
            let next = row.body.lost(taken.step, taken.job.attempt)?;
            rows::save(tx, &self.sealer, &row, &next).await?;
            let event = Event::SignatureFailed {
                act: taken.found.digest,
                client: client.clone(),
                person: taken.found.person.clone(),
                key: taken.key.key.clone(),
                certificate: taken.key.certificate(),
                alg: taken.job.alg,
                reason: reason.into(),
            };
            self.audit.append(tx, event, now).await?;
            Ok::<_, Failed>(())
        })
    }

    /// Stops a key whose value didn't verify, and alerts.
    async fn suspend(&self, key: &KeyRecord, act: Digest32) -> Result<(), Failed> {
        tracing::error!(key = %key.key, "a value of the module didn't verify; the key is stopped");
        transaction!(self.store, "key-suspend", |tx| {
            let row = rows::get::<KeyRecord>(tx, &self.sealer, key.key.as_str())
                .await?
                .ok_or(Reason::NotFound)?;
            let now = self.clock.now();
            let Some(life) = row.body.life.found_wrong(act, now) else {
                return Ok(());
            };
            let next = row.body.with_life(life);
            rows::save(tx, &self.sealer, &row, &next).await?;
            let (key, person) = (next.key.clone(), next.owner.clone());
            self.note(tx, &person, vec![key_note(&next, Happened::Suspended, now)])
                .await?;
            let events = [
                Event::SignatureWrong {
                    act,
                    person: person.clone(),
                    key: key.clone(),
                },
                Event::KeySuspended {
                    key,
                    owner: person,
                    reason: "wrong-value".into(),
                },
            ];
            self.audit.append_all(tx, &events, now).await?;
            Ok::<_, Failed>(())
        })
    }

    /// Ten refused calls kill an act. If the count can't be written, the refusal stands all the same.
    pub(crate) async fn count_failure(&self, act: Digest32, reason: &Reason) {
        let counted: Result<(), Failed> = transaction!(self.store, "sign-spoil", |tx| {
            let row = rows::get::<ActState>(tx, &self.sealer, &act.to_string()).await?;
            if let Some(row) = row
                && let Some(next) = row.body.spoil(reason)
            {
                rows::save(tx, &self.sealer, &row, &next).await?;
                self.rows_changed(tx, "refusal-counted").await?;
            }
            Ok::<_, Failed>(())
        });
        if let Err(failed) = counted {
            self.explain(&failed).await;
        }
    }
}

/// What was signed without having been shown.
fn filled(found: &Found) -> Vec<B64> {
    let items = found.act.items.iter().filter(|_| found.open);
    items.map(|item| item.digest().clone()).collect()
}

/// The name of the values of a step in the store.
pub(crate) fn result_id(act: Digest32, step: u32) -> String {
    format!("{act}.{step}")
}
