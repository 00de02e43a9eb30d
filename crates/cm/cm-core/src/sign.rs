//! Signing by order: whether the key may, what becomes of a fault, and what is kept of it.

use std::sync::Arc;

use audit_log::Event;
use cm_api::rpc::Reason;
use cm_api::{Executed, ModuleError, OrderBody, OrderKind, Refusal, SignItem};
use core_types::{B64, DestroyCause, Digest32, KeyAlg, KeyId, SigAlg, UnixTime, sha256};
use store_kit::{Seen, Tx, transaction};

use crate::attributes::{ByAct, KeyAttributes, Purpose};
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

/// Why a try didn't bring all values.
enum Missed {
    /// The device is away, and of what is missing surely no value came into being.
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
            let sealing = match counter_sign {
                Some(wanted) => self.sealing(tx, wanted, count).await?,
                None => None,
            };
            let used = |of: &KeyAttributes, alg| Event::KeyUsed {
                key: of.key.clone(),
                owner: of.owner.clone(),
                alg,
                count,
                act,
                proof: *proof,
                order: order.order,
                step: *step,
                attempt: *attempt,
            };
            let mut events = vec![used(&row.attributes, alg)];
            if let Some(by) = &sealing {
                events.push(used(by.attributes(), by.attributes().alg.csr_alg()));
            }
            self.audit.append_all(tx, &events, now).await?;
            Ok::<_, Failed>((row, sealing))
        });
        let (row, sealing) = taken.map_err(|failed| self.fail(failed))?;
        match &sealing {
            Some(by) => by.note(self),
            None if counter_sign.is_some() => self.alarm("cm-not-counter-signed").await,
            None => {}
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
            let next = match by.renewable {
                true => self.without_items(tx, of, by).await?,
                false => None,
            };
            let event = Event::KeyGaveNothing {
                key: of.key.clone(),
                owner: of.owner.clone(),
                act: by.act,
                order,
                step,
                attempt,
            };
            self.audit.append(tx, event, self.clock.now()).await?;
            Ok::<_, Failed>(next)
        });
        match noted {
            Ok(Some(version)) => self.seen.note(of.key.as_str(), version),
            Ok(None) => {}
            Err(failed) => {
                tracing::warn!(?failed, "that an order came to nothing couldn't be written");
            }
        }
    }

    /// Gives the items of an act back to it; answers the version of the key's row after that, if it is another one.
    async fn without_items(
        &self,
        tx: &mut Tx,
        of: &KeyAttributes,
        by: &ByAct,
    ) -> Result<Option<i64>, Failed> {
        let row = self.key(tx, &of.key, of.version, of.spki).await?;
        let Some(next) = row.attributes.after_nothing(by) else {
            return Ok(None);
        };
        store::update_key(tx, &self.vault, self.random.as_ref(), &row, &next).await?;
        Ok(Some(row.row_version + 1))
    }

    /// The table of approved algorithms has the last word at every use.
    pub(crate) fn approved(&self, key: KeyAlg, alg: SigAlg) -> Result<(), Refusal> {
        if self.policy.may_sign(key, alg, self.clock.now()) {
            Ok(())
        } else {
            Err(Refusal::NotAllowed(Reason::Algorithm))
        }
    }

    /// Signs all digests. The order is spent by now: while the device is away it waits, nearly to the end of the order at `end`,
    /// after which no value begins; without an end it doesn't wait. Only if not one value came into being is a fault a definite *no*.
    pub(crate) async fn values(
        &self,
        row: &KeyRow,
        alg: SigAlg,
        items: &[SignItem],
        end: Option<UnixTime>,
    ) -> Result<Executed, ModuleError> {
        let mut made: Vec<Option<B64>> = vec![None; items.len()];
        let done = self.all_values(row, alg, items, &mut made, end).await;
        match done {
            // Whatever ended the waiting: another attempt would give the items that have a value a second one.
            Err(ModuleError::Refused(refusal)) if made.iter().any(Option::is_some) => {
                tracing::warn!(%refusal, "an order ended with some of its values made");
                Err(ModuleError::Unknown)
            }
            done => done,
        }
    }

    /// Tries until all items have their value in `made`. After a moment without the device only those are tried again of which
    /// surely none came into being.
    async fn all_values(
        &self,
        row: &KeyRow,
        alg: SigAlg,
        items: &[SignItem],
        made: &mut [Option<B64>],
        end: Option<UnixTime>,
    ) -> Result<Executed, ModuleError> {
        let now = self.clock.now();
        let mut pauses = Pauses::until(end.unwrap_or(now), now);
        let mut newest = None;
        loop {
            let row = newest.as_ref().unwrap_or(row);
            match self.values_now(row, alg, items, made, end).await {
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

    /// Signs at once all digests that have no value in `made`, spread over the machine's cores.
    async fn values_now(
        &self,
        row: &KeyRow,
        alg: SigAlg,
        items: &[SignItem],
        made: &mut [Option<B64>],
        end: Option<UnixTime>,
    ) -> Result<Executed, Missed> {
        // What was sealed for this order may be what the generator failed at.
        self.operational()?;
        let key = self.open(row).await?;
        let all = items.iter().enumerate();
        let missing: Vec<_> = all.filter(|(n, _)| made[*n].is_none()).collect();
        let share = missing.len().div_ceil(service_kit::cores()).max(1);
        let threads: Vec<_> = missing
            .chunks(share)
            .map(|chunk| {
                let (key, clock) = (key.clone(), self.clock.clone());
                let chunk = chunk.iter().map(|(n, item)| (*n, (*item).clone()));
                let chunk: Vec<(usize, SignItem)> = chunk.collect();
                on_thread(move || {
                    let mut values = Vec::with_capacity(chunk.len());
                    for (n, item) in &chunk {
                        if end.is_some_and(|end| clock.now() >= end) {
                            return Ok((values, Some(OVER)));
                        }
                        match key.sign(alg, item.bytes()) {
                            Ok(value) => values.push((*n, B64(value))),
                            Err(fault) => return Ok((values, Some(fault))),
                        }
                    }
                    Ok((values, None))
                })
            })
            .collect();
        let mut faults = Vec::new();
        for thread in threads {
            match thread.await {
                Ok((values, fault)) => {
                    for (n, value) in values {
                        made[n] = Some(value);
                    }
                    faults.extend(fault);
                }
                Err(fault) => faults.push(fault),
            }
        }
        if !faults.is_empty() {
            let no_value = made.iter().all(Option::is_none);
            return self.judge(row, no_value, &faults).await;
        }
        let values: Vec<B64> = made.iter_mut().filter_map(Option::take).collect();
        let spki = row.attributes.spki;
        let each = items.iter().zip(&values);
        let mut nonces = each.map(|(item, v)| self.nonces.new_one(spki, alg, item.bytes(), &v.0));
        if !nonces.all(|new| new) {
            self.stop_key(row).await;
            self.alarm("cm-nonce-repeated").await;
            self.latch("a nonce was used twice").await;
            return Ok(Executed::WrongValue);
        }
        self.well();
        Ok(Executed::Signed(values))
    }

    /// What faults at signing mean: for the caller, the key, and the module's state. `no_value`: of no item, in this try or before.
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
        if faults.iter().all(away) {
            return Err(Missed::Away);
        }
        match no_value && faults.iter().all(Fault::nothing_was_made) {
            true => Err(Refusal::NotOperational.into()),
            false => Err(Missed::Ended(ModuleError::Unknown)),
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
            store::lock_key(tx, key).await?;
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
