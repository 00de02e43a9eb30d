//! Changing the key under which a back end wraps, while keys are used: a new one first, then every key anew, then the end
//! of the old ones, with which every older copy of a wrapped key ends too.

use audit_log::Event;
use cm_api::Refusal;
use core_types::KeyId;
use store_kit::{sql, transaction};

use crate::execute::on_thread;
use crate::module::Module;
use crate::store::{self, Failed};

const PAGE: i64 = 200;

/// What a change of the wrapping key did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rewrapped {
    /// Keys that were wrapped anew.
    pub keys: u64,
    /// Wrapping keys that were destroyed.
    pub retired: u32,
}

impl Module {
    /// Changes the wrapping key online. If it stops in between, running it again goes on; old wrapping keys are destroyed
    /// only when no key is under them.
    ///
    /// # Errors
    /// [`Refusal::NotOperational`] when the device or the store is away; [`Refusal::NotAllowed`] for back ends that wrap
    /// nothing.
    pub async fn change_wrapping(&self) -> Result<Rewrapped, Refusal> {
        self.operational()?;
        let backend = self.backend.clone();
        self.device(on_thread(move || backend.renew_wrapping()))
            .await?;
        // Keys that were being made under the old one are stored before the search begins.
        drop(self.making.write().await);
        self.record(Event::WrappingChanged {}).await?;
        let mut done = Rewrapped::default();
        loop {
            // Keys that were made or changed meanwhile are found in the next round.
            let round = self.rewrap_all().await?;
            done.keys += round;
            if round == 0 {
                break;
            }
        }
        let backend = self.backend.clone();
        done.retired = self
            .device(on_thread(move || backend.retire_wrapping()))
            .await?;
        let (keys, retired) = (done.keys, done.retired);
        self.record(Event::WrappingRetired { keys, retired })
            .await?;
        Ok(done)
    }

    async fn rewrap_all(&self) -> Result<u64, Refusal> {
        let (mut after, mut count) = (String::new(), 0);
        loop {
            let ids = async {
                let mut tx = self.store.read("cm-rewrap").await?;
                let query = sql("SELECT id FROM cm_key WHERE id > $1 ORDER BY id LIMIT $2");
                let rows = tx.fetch_all(query.bind(after.as_str()).bind(PAGE)).await?;
                let ids = rows.iter().map(|r| Ok(r.text("id")?));
                ids.collect::<Result<Vec<String>, Failed>>()
            };
            let ids = ids.await.map_err(|failed| self.fail(failed))?;
            let Some(last) = ids.last().cloned() else {
                return Ok(count);
            };
            for id in ids {
                let key = KeyId::parse(id).map_err(|_| Refusal::NoSuchKey)?;
                count += u64::from(self.rewrap_one(&key).await?);
            }
            after = last;
        }
    }

    /// Nothing slow stands inside a transaction: the device works between two of them, and if the row changed meanwhile
    /// its new material is tried again.
    async fn rewrap_one(&self, key: &KeyId) -> Result<bool, Refusal> {
        loop {
            let read = async {
                let mut tx = self.store.read("cm-rewrap").await?;
                self.newest(&mut tx, key).await
            };
            let before = match read.await {
                Ok(row) => row,
                // Destroyed since the page was read.
                Err(Failed::Refused(_)) => return Ok(false),
                Err(failed) => return Err(self.fail(failed)),
            };
            let (backend, alg) = (self.backend.clone(), before.attributes.alg);
            let material = before.material.clone();
            let wrapped = self
                .device(on_thread(move || backend.rewrap(alg, &material)))
                .await?;
            let Some(wrapped) = wrapped else {
                return Ok(false);
            };
            let done: Result<Option<i64>, Failed> =
                transaction!(self.store, "cm-rewrapped", |tx| {
                    let row = match self.newest(tx, key).await {
                        Err(Failed::Refused(_)) => return Ok(Some(0)),
                        row => row?,
                    };
                    if !row.material.ct_eq(before.material.expose()) {
                        return Ok(None);
                    }
                    let (random, same) = (self.random.as_ref(), &row.attributes);
                    store::replace_key(tx, &self.vault, random, &row, same, &wrapped).await?;
                    Ok::<_, Failed>(Some(row.row_version + 1))
                });
            match done.map_err(|failed| self.fail(failed))? {
                None => {}
                Some(0) => return Ok(false),
                Some(version) => {
                    self.seen.note(key.as_str(), version);
                    self.cache.forget(&before.material);
                    return Ok(true);
                }
            }
        }
    }

    /// What a fault of the device means here.
    async fn device<T>(
        &self,
        work: impl Future<Output = Result<T, crate::backend::Fault>>,
    ) -> Result<T, Refusal> {
        match work.await {
            Ok(done) => Ok(done),
            Err(crate::backend::Fault::Unfit(what)) => {
                tracing::warn!(what, "the back end can't do this");
                Err(Refusal::NotAllowed(cm_api::rpc::Reason::Purpose))
            }
            Err(fault) => {
                self.note(&fault).await;
                Err(Refusal::NotOperational)
            }
        }
    }
}
