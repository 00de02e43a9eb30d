//! Whether the log is the one that the witnesses know, and what to do when they can't be asked.

use core_types::UnixTime;
use store_kit::{Store, StoreError, sql, transaction};

use super::{BATCH, Sequencer, signed};
use crate::error::AuditError;
use crate::event::Event;
use crate::proof::grown;
use crate::witness::{Meaning, Measure, Witness, WitnessFile, Witnesses};

/// How often a witness is asked again within a round because it knows another size than was thought.
const TRIES: usize = 3;

/// What this process knows of the log and its witnesses.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The last checkpoint that this process has seen: its size and text.
    last: Option<(i64, String)>,
    /// The witness's file may know nothing: it has been told of nothing yet.
    untold: bool,
    witnesses: Witnesses,
    /// Of each witness: since when it is away, and whether that was recorded.
    away: Vec<Option<(UnixTime, bool)>>,
}

impl Watch {
    /// Before anything was compared. A crash between the first checkpoint and the file leaves that one untold. It has no more entries
    /// than a step gives places to, by the sequencer's own row: rows of checkpoints can be taken away by whoever writes to the store.
    pub(super) async fn begin(store: &Store, entries: u64) -> Result<Self, AuditError> {
        let mut tx = store.read("audit-check").await?;
        let count = sql("SELECT count(*) AS n FROM audit_checkpoint");
        let checkpoints = tx.fetch_one(count).await?.int("n")?;
        let untold = checkpoints <= 1 && entries <= BATCH.unsigned_abs();
        Ok(Self {
            untold,
            ..Self::default()
        })
    }
}

impl Sequencer {
    /// Has witnesses cosign over the network, from now on at every run.
    ///
    /// # Errors
    /// [`AuditError`] when one knows another log, or isn't there and the measure is to stop: the zone must not start.
    pub async fn watched_by(
        self,
        witnesses: Witnesses,
        store: &Store,
        now: UnixTime,
    ) -> Result<Self, AuditError> {
        {
            let mut watch = self.watch.lock().await;
            watch.away = witnesses.cosigners.iter().map(|_| None).collect();
            watch.witnesses = witnesses;
        }
        self.ask_witnesses(store, now, true).await?;
        Ok(self)
    }

    /// Compares the last checkpoint with the entries, and the log with the last ones that this process and the witness's file
    /// have seen, then appends the newer ones to the file.
    pub(super) async fn catch_up(&self, store: &Store) -> Result<(), AuditError> {
        let mut watch = self.watch.lock().await;
        let filed = match &self.file {
            Some(file) => blocking(file, |file| file.last()).await?,
            None => None,
        };
        let filed = match filed {
            Some((size, note)) => Some((signed(size)?, note)),
            None => None,
        };
        let mut tx = store.read("audit-witness").await?;
        let newest = self.newest(&mut tx).await?;
        let have = size_of(newest.as_ref());
        for (seen, note) in filed.iter().chain(&watch.last) {
            if have < *seen {
                return Err(rolled_back(have, *seen));
            }
            let row = tx
                .fetch_optional(
                    sql("SELECT note FROM audit_checkpoint WHERE size = $1").bind(*seen),
                )
                .await?;
            if row.map(|r| r.text("note")).transpose()?.as_ref() != Some(note) {
                return Err(AuditError::Forked(u64::try_from(*seen).unwrap_or(0)));
            }
        }
        let Some(file) = &self.file else {
            watch.last = newest;
            return Ok(());
        };
        if filed.is_none() && !watch.untold {
            return Err(AuditError::WitnessEmptied(file.path().to_owned()));
        }
        watch.untold = filed.is_none();
        let mut seen = filed.as_ref().map_or(0, |(size, _)| *size);
        let mut last = watch.last.clone().max(filed);
        loop {
            let select =
                "SELECT size, note FROM audit_checkpoint WHERE size > $1 ORDER BY size LIMIT 1000";
            let rows = tx.fetch_all(sql(select).bind(seen)).await?;
            let Some(end) = rows.last() else { break };
            seen = end.int("size")?;
            last = last.max(Some((seen, end.text("note")?)));
            let notes = rows
                .iter()
                .map(|row| row.text("note"))
                .collect::<Result<Vec<_>, _>>()?;
            blocking(file, move |file| file.append(&notes)).await?;
            watch.untold = false;
        }
        watch.last = last;
        Ok(())
    }

    /// Lets every witness cosign the last checkpoint, known to it or not: it answers only if the log is the one it knows.
    pub(super) async fn ask_witnesses(
        &self,
        store: &Store,
        now: UnixTime,
        starting: bool,
    ) -> Result<(), AuditError> {
        let mut watch = self.watch.lock().await;
        let Watch {
            last: Some(last),
            witnesses,
            away,
            ..
        } = &mut *watch
        else {
            return Ok(());
        };
        for (witness, away) in witnesses.cosigners.iter().zip(away) {
            let cosigned = self.ask(store, witness, last, now).await?;
            // With several that are slow it takes longer, and nothing is wrong.
            self.log.late().moves();
            let (event, next) = match (cosigned, *away) {
                (true, Some((_, true))) => (
                    Some(Event::WitnessBack {
                        witness: witness.digest(),
                    }),
                    None,
                ),
                (true, _) => (None, None),
                (false, Some((since, true))) => (None, Some((since, true))),
                (false, before) => {
                    let since = before.map_or(now, |(since, _)| since);
                    if !starting && now.0.abs_diff(since.0) < witnesses.patience.unsigned_abs() {
                        (None, Some((since, false)))
                    } else {
                        let event = Event::WitnessAway {
                            witness: witness.digest(),
                        };
                        (Some(event), Some((since, true)))
                    }
                }
            };
            if let Some(event) = event {
                let done: Result<_, StoreError> =
                    transaction!(store, "audit-witness-state", |tx| {
                        // Late or not: this run has to come to its end.
                        self.log.put(tx, std::slice::from_ref(&event), now).await
                    });
                done?;
            }
            *away = next;
            if next.is_some_and(|(_, told)| told) && witnesses.measure == Measure::Stop {
                return Err(AuditError::WitnessAway(witness.name().to_owned()));
            }
        }
        Ok(())
    }

    /// Whether the witness cosigned this checkpoint, or the log's newest if it knows a newer one.
    async fn ask(
        &self,
        store: &Store,
        witness: &Witness,
        last: &(i64, String),
        now: UnixTime,
    ) -> Result<bool, AuditError> {
        let id = witness.digest().to_string();
        let (mut size, mut note) = last.clone();
        let mut old = {
            let mut tx = store.read("audit-witness").await?;
            let select =
                "SELECT COALESCE(max(size), 0) AS n FROM audit_cosignature WHERE witness = $1";
            tx.fetch_one(sql(select).bind(&id)).await?.int("n")?
        };
        for _ in 0..TRIES {
            if old > size {
                // A command beside the daemon may have been faster. The witness judges that one too.
                let mut tx = store.read("audit-witness").await?;
                match self.newest(&mut tx).await? {
                    Some(newer) if newer.0 >= old => (size, note) = newer,
                    other => return Err(rolled_back(size_of(other.as_ref()), old)),
                }
            }
            let proof = if old == 0 || old == size {
                Vec::new()
            } else {
                let mut tx = store.read("audit-witness").await?;
                grown(&mut tx, old, size).await?
            };
            match witness.ask(old, &proof, &note, now).await {
                Meaning::Cosigned(line) => {
                    let insert = "INSERT INTO audit_cosignature (size, witness, line) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
                    let done: Result<_, StoreError> = transaction!(store, "audit-cosigned", |tx| {
                        tx.execute(sql(insert).bind(size).bind(&id).bind(&line))
                            .await
                    });
                    done?;
                    return Ok(true);
                }
                Meaning::Knows(known) => old = signed(known)?,
                Meaning::Contradicts => {
                    return Err(AuditError::Forked(u64::try_from(old).unwrap_or(0)));
                }
                Meaning::Away => return Ok(false),
            }
        }
        Ok(false)
    }
}

/// Entries below a checkpoint; 0 without one.
fn size_of(checkpoint: Option<&(i64, String)>) -> i64 {
    checkpoint.map_or(0, |(size, _)| *size)
}

fn rolled_back(have: i64, seen: i64) -> AuditError {
    AuditError::RolledBack {
        have: u64::try_from(have).unwrap_or(0),
        seen: u64::try_from(seen).unwrap_or(0),
    }
}

/// File work off the threads that serve requests.
async fn blocking<T: Send + 'static>(
    file: &WitnessFile,
    work: impl FnOnce(&WitnessFile) -> Result<T, AuditError> + Send + 'static,
) -> Result<T, AuditError> {
    let file = file.clone();
    let done = tokio::task::spawn_blocking(move || work(&file)).await;
    done.unwrap_or(Err(AuditError::Store(StoreError::Audit(
        "the witness couldn't be asked",
    ))))
}
