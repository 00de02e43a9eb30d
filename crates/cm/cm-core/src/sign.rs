//! Signing by order: whether the key may, what becomes of a fault, and what is kept of it.

use std::sync::Arc;

use audit_log::Event;
use cm_api::rpc::Reason;
use cm_api::{Executed, ModuleError, OrderBody, OrderKind, Refusal, SignItem};
use core_types::{B64, DestroyCause, Digest32, KeyAlg, KeyId, SigAlg, UnixTime, sha256};
use store_kit::{Seen, transaction};

use crate::attributes::{ByAct, Purpose};
use crate::backend::{Fault, NO_WRAPPING_KEY, PrivateKey};
use crate::cache::cache_name;
use crate::execute::on_thread;
use crate::items::Items;
use crate::ledger::End;
use crate::module::Module;
use crate::store::{self, Failed, KeyRow};
use crate::wait::Pauses;

/// No value begins after the end of its order. No fault of the device.
const OVER: Fault = Fault::Unavailable("the order is over");

/// Why a try brought no values.
enum Missed {
    /// The device is away, and surely no value came into being.
    Away,
    /// Anything else: not to be tried again.
    Ended(ModuleError),
}

impl From<ModuleError> for Missed {
    fn from(error: ModuleError) -> Self {
        Self::Ended(error)
    }
}

impl From<Refusal> for Missed {
    fn from(refusal: Refusal) -> Self {
        Self::Ended(refusal.into())
    }
}

impl Module {
    pub(crate) async fn sign_csr(
        &self,
        order: &OrderBody,
        key: &KeyId,
        version: u32,
        spki: Digest32,
        info: &B64,
    ) -> Result<Executed, ModuleError> {
        let own = pki::csr::request_info_key(&info.0).map_err(|_| Refusal::Malformed)?;
        // The request must be for this very key, whoever built it (`T-REG-CSR-ALTER`).
        if sha256(&[own]) != spki {
            return Err(Refusal::Malformed.into());
        }
        let now = self.clock.now();
        let digest = sha256(&[&info.0]);
        let row: Result<_, Failed> = transaction!(self.store, "cm-csr", |tx| {
            self.take_order(tx, order, now).await?;
            let row = self.key_for_use(tx, key, version, spki).await?;
            self.approved(row.attributes.alg, row.attributes.alg.csr_alg())?;
            let next = row.attributes.after_csr(digest)?;
            store::update_key(tx, &self.vault, self.random.as_ref(), &row, &next).await?;
            let event = Event::KeyCertificationRequested {
                key: key.clone(),
                owner: row.attributes.owner.clone(),
                request: digest,
            };
            self.audit.append(tx, event, now).await?;
            Ok::<_, Failed>(row)
        });
        let row = row.map_err(|failed| self.fail(failed))?;
        self.seen.note(key.as_str(), row.row_version + 1);
        let alg = row.attributes.alg.csr_alg();
        let item = SignItem::of_message(0, alg, &info.0);
        self.values(&row, alg, std::slice::from_ref(&item), Some(order.exp))
            .await
    }

    pub(crate) async fn sign(&self, order: &OrderBody) -> Result<Executed, ModuleError> {
        let OrderKind::Sign {
            key,
            version,
            spki,
            alg,
            items,
            act,
            proof,
            approved,
            renewable,
            step,
            attempt,
            counter_sign,
        } = &order.kind
        else {
            return Err(Refusal::Malformed.into());
        };
        let (alg, act) = (*alg, *act);
        let by = ByAct {
            act,
            approved: *approved,
            renewable: *renewable,
            items: Items::of(items).ok_or(Refusal::Malformed)?,
        };
        let now = self.clock.now();
        let count = u32::try_from(items.len()).map_err(|_| Refusal::Malformed)?;
        let taken: Result<_, Failed> = transaction!(self.store, "cm-sign", |tx| {
            self.take_order(tx, order, now).await?;
            let row = self.key_for_use(tx, key, *version, *spki).await?;
            self.approved(row.attributes.alg, alg)?;
            let next = row.attributes.after_signing(alg, &by, now)?;
            store::update_key(tx, &self.vault, self.random.as_ref(), &row, &next).await?;
            let event = Event::KeyUsed {
                key: key.clone(),
                owner: row.attributes.owner.clone(),
                alg,
                count,
                act,
                proof: *proof,
                order: order.order,
                step: *step,
                attempt: *attempt,
            };
            self.audit.append(tx, event, now).await?;
            let sealing = match counter_sign {
                Some(wanted) => self.sealing(tx, order, wanted).await?,
                None => None,
            };
            Ok::<_, Failed>((row, sealing))
        });
        let (row, sealing) = taken.map_err(|failed| self.fail(failed))?;
        if counter_sign.is_some() && sealing.is_none() {
            self.alarm("cm-not-counter-signed").await;
        }
        self.seen.note(key.as_str(), row.row_version + 1);
        let done = self.values(&row, alg, items, Some(order.exp)).await;
        if let Err(ModuleError::Refused(_)) = &done {
            self.nothing_came(order.order, (*step, *attempt), &row, &by)
                .await;
        } else if row.attributes.one_time {
            self.end_one_time(&row, act).await;
        }
        match (done, &sealing) {
            (Ok(Executed::Signed(values)), Some(by)) => Ok(self.counter_signed(by, values).await),
            (done, _) => done,
        }
    }

    /// The one act of a key is over, whatever its outcome: the key is destroyed before the values leave. If that can't be
    /// written, no other act can use it all the same, and the SAM orders its destruction again.
    async fn end_one_time(&self, used: &KeyRow, act: Digest32) {
        let of = &used.attributes;
        let end = End {
            at: self.clock.now(),
            act,
            cause: DestroyCause::Used,
        };
        let row: Result<_, Failed> = transaction!(self.store, "cm-one-time", |tx| {
            let key = (&of.key, of.version, of.spki);
            self.bury(tx, key, end, Purpose::is_signers).await
        });
        if let Err(error) = self.buried_with_its_act(&of.key, row).await {
            tracing::warn!(%error, key = %of.key, "a key whose one act is over isn't destroyed yet");
        }
    }

    /// An order was taken, and it is certain that no value came of it: the next attempt may have its items. What can't be
    /// written is not believed later, and costs the right.
    async fn nothing_came(
        &self,
        order: Digest32,
        (step, attempt): (u32, u32),
        used: &KeyRow,
        by: &ByAct,
    ) {
        let of = &used.attributes;
        let noted: Result<Option<i64>, Failed> = transaction!(self.store, "cm-nothing", |tx| {
            store::note_nothing(tx, order).await?;
            let event = Event::KeyGaveNothing {
                key: of.key.clone(),
                owner: of.owner.clone(),
                act: by.act,
                order,
                step,
                attempt,
            };
            self.audit.append(tx, event, self.clock.now()).await?;
            if !by.renewable {
                return Ok::<_, Failed>(None);
            }
            let row = self.key(tx, &of.key, of.version, of.spki).await?;
            let Some(next) = row.attributes.after_nothing(by) else {
                return Ok(None);
            };
            store::update_key(tx, &self.vault, self.random.as_ref(), &row, &next).await?;
            Ok(Some(row.row_version + 1))
        });
        match noted {
            Ok(Some(version)) => self.seen.note(of.key.as_str(), version),
            Ok(None) => {}
            Err(failed) => {
                tracing::warn!(?failed, "that an order came to nothing couldn't be written");
            }
        }
    }

    /// The table of approved algorithms has the last word at every use.
    pub(crate) fn approved(&self, key: KeyAlg, alg: SigAlg) -> Result<(), Refusal> {
        if self.policy.may_sign(key, alg, self.clock.now()) {
            Ok(())
        } else {
            Err(Refusal::NotAllowed(Reason::Algorithm))
        }
    }

    /// Signs all digests. The order is spent by now: while the device is away and surely no value came into being, it waits,
    /// nearly to the end of the order at `end`, after which no value begins; without an end it doesn't wait. Only if not one value came
    /// into being is a fault a definite *no*.
    pub(crate) async fn values(
        &self,
        row: &KeyRow,
        alg: SigAlg,
        items: &[SignItem],
        end: Option<UnixTime>,
    ) -> Result<Executed, ModuleError> {
        let now = self.clock.now();
        let mut pauses = Pauses::until(end.unwrap_or(now), now);
        let mut newest = None;
        loop {
            let row = newest.as_ref().unwrap_or(row);
            match self.values_now(row, alg, items, end).await {
                Err(Missed::Away) => {}
                Err(Missed::Ended(error)) => return Err(error),
                Ok(done) => return Ok(done),
            }
            let Some(pause) = pauses.another(self.clock.now()) else {
                return Err(Refusal::NotOperational.into());
            };
            self.pause.pause(pause).await;
            newest = Some(self.still(row).await?);
        }
    }

    /// The key as it is now: while the device was away it may have been stopped, destroyed or wrapped anew, and the module
    /// disabled.
    async fn still(&self, used: &KeyRow) -> Result<KeyRow, Refusal> {
        self.look_at_switch().await?;
        self.operational()?;
        let of = &used.attributes;
        let read = async {
            let mut tx = self.store.read("cm-still").await?;
            let row = self.key_for_use(&mut tx, &of.key, of.version, of.spki);
            let row = row.await?;
            row.attributes.here()?;
            Ok::<_, Failed>(row)
        };
        read.await.map_err(|failed| self.fail(failed))
    }

    /// Signs all digests at once, spread over the machine's cores.
    async fn values_now(
        &self,
        row: &KeyRow,
        alg: SigAlg,
        items: &[SignItem],
        end: Option<UnixTime>,
    ) -> Result<Executed, Missed> {
        // What was sealed for this order may be what the generator failed at.
        self.operational()?;
        let key = self.open(row).await?;
        let share = items.len().div_ceil(service_kit::cores()).max(1);
        let threads: Vec<_> = items
            .chunks(share)
            .map(|chunk| {
                let (key, chunk, clock) = (key.clone(), chunk.to_vec(), self.clock.clone());
                on_thread(move || {
                    let mut values = Vec::with_capacity(chunk.len());
                    for item in &chunk {
                        if end.is_some_and(|end| clock.now() >= end) {
                            return Ok((values, Some(OVER)));
                        }
                        match key.sign(alg, item.bytes()) {
                            Ok(value) => values.push(B64(value)),
                            Err(fault) => return Ok((values, Some(fault))),
                        }
                    }
                    Ok((values, None))
                })
            })
            .collect();
        let (mut values, mut faults) = (Vec::with_capacity(items.len()), Vec::new());
        for thread in threads {
            match thread.await {
                Ok((part, fault)) => {
                    values.extend(part);
                    faults.extend(fault);
                }
                Err(fault) => faults.push(fault),
            }
        }
        let spki = row.attributes.spki;
        let made = items.iter().zip(&values);
        let mut nonces = made.map(|(item, v)| self.nonces.new_one(spki, alg, item.bytes(), &v.0));
        // In order only if no thread has failed, and only then is anything answered.
        if faults.is_empty() && !nonces.all(|new| new) {
            self.stop_key(row).await;
            self.alarm("cm-nonce-repeated").await;
            self.latch("a nonce was used twice").await;
            return Ok(Executed::WrongValue);
        }
        if faults.is_empty() {
            self.well();
            return Ok(Executed::Signed(values));
        }
        self.judge(row, values.is_empty(), &faults).await
    }

    /// What faults at signing mean: for the caller, the key, and the module's state.
    async fn judge(
        &self,
        row: &KeyRow,
        no_value: bool,
        faults: &[Fault],
    ) -> Result<Executed, Missed> {
        let mut wrong = false;
        for fault in faults {
            if let Fault::Broken(what) = fault {
                tracing::error!(what, "the back end made a wrong value; testing it");
                wrong = true;
            } else if *fault != OVER {
                self.note(fault).await;
            }
        }
        if wrong {
            // A wrong value was destroyed, and its key is stopped (I4). Whether it was an accident or the device is no
            // longer what it was, its self-test decides.
            self.stop_key(row).await;
            self.alarm("cm-wrong-value").await;
            drop(self.self_test().await);
            return Ok(Executed::WrongValue);
        }
        if no_value && faults.iter().all(|fault| *fault == NO_WRAPPING_KEY) {
            self.cache.forget(&row.material);
            return Err(self.no_wrapping_key().await.into());
        }
        let away = |fault: &Fault| matches!(fault, Fault::Unavailable(_));
        match no_value {
            true if faults.iter().all(away) => Err(Missed::Away),
            true if faults.iter().all(Fault::nothing_was_made) => {
                Err(Refusal::NotOperational.into())
            }
            _ => Err(Missed::Ended(ModuleError::Unknown)),
        }
    }

    /// A blob is of no use without its wrapping key, and nothing was made of it.
    pub(crate) async fn no_wrapping_key(&self) -> Refusal {
        tracing::error!("a wrapping key isn't in the device");
        self.alarm("cm-wrapping-key-missing").await;
        Refusal::NotAllowed(Reason::NoWrappingKey)
    }

    /// Stops a key for good. What can't be written holds in this process at least.
    async fn stop_key(&self, used: &KeyRow) {
        let (key, now) = (&used.attributes.key, self.clock.now());
        let stopped: Result<i64, Failed> = transaction!(self.store, "cm-stop-key", |tx| {
            let row = self.key(tx, key, used.attributes.version, used.attributes.spki);
            let row = row.await?;
            let next = row.attributes.after_wrong_value();
            store::update_key(tx, &self.vault, self.random.as_ref(), &row, &next).await?;
            let event = Event::KeySuspended {
                key: key.clone(),
                owner: next.owner,
                reason: "wrong-value".into(),
            };
            self.audit.append(tx, event, now).await?;
            Ok::<_, Failed>(row.row_version + 1)
        });
        match stopped {
            Ok(version) => self.seen.note(key.as_str(), version),
            Err(failed) => {
                tracing::error!(?failed, %key, "that the key is stopped couldn't be written");
                self.seen.note(key.as_str(), Seen::NEVER);
            }
        }
        self.cache.forget(&used.material);
    }

    /// The key ready for use. The back end must have the public key that the sealed attributes name.
    async fn open(&self, row: &KeyRow) -> Result<Arc<dyn PrivateKey>, Missed> {
        let name = cache_name(&row.material);
        let now = self.clock.now();
        let oldest = now.plus(-self.config.key_cache_seconds);
        if let Some(key) = self.cache.get(&name, oldest) {
            return Ok(key);
        }
        let cleared = self.cache.cleared();
        let (backend, alg, material) = (
            self.backend.clone(),
            row.attributes.alg,
            row.material.clone(),
        );
        let key: Arc<dyn PrivateKey> = match on_thread(move || backend.load(alg, &material)).await {
            Ok(key) => Arc::from(key),
            Err(NO_WRAPPING_KEY) => return Err(self.no_wrapping_key().await.into()),
            Err(Fault::Unfit(what)) => {
                tracing::error!(what, "a key isn't in the back end");
                self.alarm("cm-key-missing").await;
                return Err(Refusal::NoSuchKey.into());
            }
            Err(fault) => {
                self.note(&fault).await;
                // Nothing is made by opening a key, so that one that gave no answer is away too.
                return Err(match fault {
                    Fault::Unavailable(_) | Fault::Unknown(_) => Missed::Away,
                    _ => Refusal::NotOperational.into(),
                });
            }
        };
        if sha256(&[key.spki()]) != row.attributes.spki {
            self.alarm("cm-key-exchanged").await;
            return Err(Refusal::NoSuchKey.into());
        }
        if self.config.key_cache_seconds > 0 {
            self.cache.put(name, key.clone(), now, cleared);
        }
        Ok(key)
    }
}
