//! Changing the key under which a back end wraps, while keys are used: a new one first, then every key anew, then the end
//! of the old ones, with which every older copy of a wrapped key ends too.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use audit_log::Event;
use cm_api::Refusal;
use cm_api::order::MAX_ORDER_LIFE;
use cm_api::rpc::Wrapping;
use core_types::KeyId;
use store_kit::{Dialect, sql, transaction};

use crate::backend::NO_WRAPPING_KEY;
use crate::execute::on_thread;
use crate::module::Module;
use crate::store::{self, Failed};
use crate::wait::ONE_CALL;

const PAGE: i64 = 200;

/// How long an order of another node may be under way until nothing comes of it any more: it begins at the end of its life, and making
/// a key may take this many calls of several devices and their tests.
const OTHERS: Duration =
    Duration::from_secs(MAX_ORDER_LIFE.unsigned_abs() + 12 * ONE_CALL.unsigned_abs());

/// What a change of the wrapping key did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rewrapped {
    /// Keys that were wrapped anew.
    pub keys: u64,
    /// Wrapping keys that were destroyed.
    pub retired: u32,
}

/// The change of the wrapping key that this process runs or ran last.
#[derive(Default)]
pub(crate) struct Change {
    /// Held by the one that runs.
    one: tokio::sync::Mutex<()>,
    stage: Mutex<Stage>,
}

/// What became of one key, or how many of each there are.
#[derive(Clone, Copy)]
struct Round {
    /// Wrapped anew.
    anew: u64,
    /// Lost: its wrapping key isn't in the device.
    lost: u64,
}

impl Round {
    const SAME: Self = Self { anew: 0, lost: 0 };
    const ANEW: Self = Self { anew: 1, lost: 0 };
    const LOST: Self = Self { anew: 0, lost: 1 };
}

#[derive(Default)]
struct Stage {
    running: bool,
    done: Rewrapped,
    failed: Option<Refusal>,
}

impl Change {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it may begin: none runs.
    fn begins(&self) -> bool {
        let mut stage = self.stage();
        let begins = !stage.running;
        if begins {
            *stage = Stage {
                running: true,
                ..Stage::default()
            };
        }
        begins
    }

    fn ended(&self, done: Result<Rewrapped, Refusal>) {
        let mut stage = self.stage();
        stage.running = false;
        match done {
            Ok(done) => stage.done = done,
            Err(refusal) => stage.failed = Some(refusal),
        }
    }
}

impl Module {
    /// Begins to change the wrapping key where `begin` says so and no change runs, and tells how far it is: the change itself
    /// may take hours, and goes on whether or not somebody asks.
    ///
    /// # Errors
    /// As [`Self::change_wrapping`], of the last change, once it has ended so.
    pub fn wrapping(self: &Arc<Self>, begin: bool) -> Result<Wrapping, Refusal> {
        if begin {
            self.operational()?;
            if self.change.begins() {
                let (module, of) = (self.clone(), self.clone());
                let change = tokio::spawn(async move { module.change_wrapping().await });
                tokio::spawn(async move {
                    let done = change.await;
                    of.change
                        .ended(done.unwrap_or(Err(Refusal::NotOperational)));
                });
            }
        }
        let stage = self.change.stage();
        match &stage.failed {
            Some(refusal) => Err(refusal.clone()),
            None => Ok(Wrapping {
                running: stage.running,
                keys: stage.done.keys,
                retired: stage.done.retired,
            }),
        }
    }

    /// Changes the wrapping key online. If it stops in between, running it again goes on; old wrapping keys are destroyed
    /// only when no key is under them and no order is under way that began before that was so.
    ///
    /// # Errors
    /// [`Refusal::NotOperational`] when the device or the store is away; [`Refusal::NotAllowed`] for back ends that wrap
    /// nothing.
    pub async fn change_wrapping(&self) -> Result<Rewrapped, Refusal> {
        let _one = self.change.one.lock().await;
        self.operational()?;
        let backend = self.backend.clone();
        self.device(on_thread(move || backend.renew_wrapping()))
            .await?;
        self.record(Event::WrappingChanged {}).await?;
        let mut done = Rewrapped::default();
        let mut told = false;
        loop {
            // What was being made under the old one is stored before the search begins, and orders that had found a key under
            // it have signed before the round that finds no such key.
            self.orders_over().await;
            let round = self.rewrap_all().await?;
            done.keys += round.anew;
            // What seems to be lost is looked for once more before anything is destroyed.
            let again = round.lost > 0 && !told;
            if again {
                // Told once; they don't keep the others under an old one.
                tracing::error!(keys = round.lost, "keys are lost with their wrapping key");
                self.no_wrapping_key().await;
                told = true;
            }
            if round.anew == 0 && !again {
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

    /// Waits for all orders that began before. Of other nodes on the same database only the longest time is known; SQLite has
    /// none.
    async fn orders_over(&self) {
        self.running.over().await;
        match self.store.dialect() {
            Dialect::Sqlite => {}
            Dialect::Postgres => self.pause.pause(OTHERS).await,
        }
    }

    async fn rewrap_all(&self) -> Result<Round, Refusal> {
        let (mut after, mut count) = (String::new(), Round::SAME);
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
                let one = self.rewrap_one(&key).await?;
                count.anew += one.anew;
                count.lost += one.lost;
                self.change.stage().done.keys += one.anew;
            }
            after = last;
        }
    }

    /// Nothing slow stands inside a transaction: the device works between two of them, and if the row changed meanwhile
    /// its new material is tried again.
    async fn rewrap_one(&self, key: &KeyId) -> Result<Round, Refusal> {
        loop {
            let read = async {
                let mut tx = self.store.read("cm-rewrap").await?;
                self.newest(&mut tx, key).await
            };
            let before = match read.await {
                Ok(row) => row,
                // Destroyed since the page was read.
                Err(Failed::Refused(_)) => return Ok(Round::SAME),
                Err(failed) => return Err(self.fail(failed)),
            };
            let (backend, alg) = (self.backend.clone(), before.attributes.alg);
            let material = before.material.clone();
            let wrapped = match on_thread(move || backend.rewrap(alg, &material)).await {
                Err(NO_WRAPPING_KEY) => return Ok(Round::LOST),
                wrapped => self.device(std::future::ready(wrapped)).await?,
            };
            let Some(wrapped) = wrapped else {
                return Ok(Round::SAME);
            };
            let done: Result<Option<i64>, Failed> =
                transaction!(self.store, "cm-rewrapped", |tx| {
                    store::lock_key(tx, key).await?;
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
                Some(0) => return Ok(Round::SAME),
                Some(version) => {
                    self.seen.note(key.as_str(), version);
                    self.cache.forget(&before.material);
                    return Ok(Round::ANEW);
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
