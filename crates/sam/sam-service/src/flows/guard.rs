//! What a program that watches the logs may stop: a key, an officer's session. It can stop a few of them and then has to wait,
//! so that whoever misuses it, or makes noise that it takes for an attack, doesn't stop everybody.

use audit_log::{Event, since};
use cm_api::CryptoModule;
use core_types::{PeerId, UnixTime};
use sam_api::Refusal;
use sam_api::guard::GuardRequest;
use sam_api::ssa::Empty;
use sam_core::Reason;
use sam_core::evidence::StopMethod;
use sam_core::office::Session;
use service_kit::HourlyRate;
use store_kit::{Tx, transaction};

use crate::audit;
use crate::failed::Failed;
use crate::http::STRANGERS;
use crate::records::KeyRecord;
use crate::rows;
use crate::sam::Sam;

/// How much a guard may stop: five at once, and five more in an hour.
const RATE: HourlyRate = HourlyRate {
    burst: 5,
    per_hour: 5,
};

/// How much a guard may stop in a day, on all nodes together: so many keys, so many sessions. A certificate that was stolen
/// stops no more, and doesn't keep officers from their work.
const KEYS_A_DAY: usize = 30;
const SESSIONS_A_DAY: usize = 10;
const DAY: i64 = 24 * 3600;
/// Entries that are looked at; more can't have come together without that.
const MOST: i64 = 10_000;

impl<C: CryptoModule> Sam<C> {
    /// Stops what the guard with this name in its certificate asks for. Recorded either way; of a flood of refusals some.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], or [`Refusal::NotNow`] when it has stopped too much lately.
    pub async fn guard_stop(&self, guard: &str, request: GuardRequest) -> Result<Empty, Refusal> {
        let guard = PeerId::parse(guard).map_err(|_| Refusal::NotFound)?;
        let done = match self.guards.take(&guard, RATE, self.clock.now()) {
            Ok(()) => self.try_guard_stop(&guard, &request).await,
            Err(_) => Err(Reason::NotNow.into()),
        };
        match done {
            Ok(()) => Ok(Empty {}),
            Err(failed) => {
                let reason = self.explain(&failed).await;
                tracing::warn!(%guard, reason = reason.code(), "a guard was refused");
                let now = self.clock.now();
                if self.strangers.take(&guard, STRANGERS, now).is_ok() {
                    self.record(Event::GuardRefused {
                        peer: guard,
                        reason: audit::reason(&reason),
                    })
                    .await;
                }
                Err(reason.to_ssa())
            }
        }
    }

    async fn try_guard_stop(&self, guard: &PeerId, request: &GuardRequest) -> Result<(), Failed> {
        match request {
            GuardRequest::Key { key } => {
                transaction!(self.store, "guard-key", |tx| {
                    let now = self.clock.now();
                    let of = self.of_key(tx, key).await?;
                    let row = rows::get::<KeyRecord>(tx, &of.sealer, key.as_str()).await?;
                    let row = row.ok_or(Reason::NotFound)?;
                    if row.body.life.is_stopped_for_good() {
                        return Ok(());
                    }
                    spare(tx, guard, "key", KEYS_A_DAY, now).await?;
                    let life = row.body.life.stopped_by_provider(None, now)?;
                    let by = (StopMethod::Guard, guard);
                    let mut events = of.stopped(tx, &row, life, by, now).await?;
                    events.push(Event::GuardStopped {
                        peer: guard.clone(),
                        what: "key".into(),
                        key: Some(row.body.key.clone()),
                        session: None,
                    });
                    of.audit.append_all(tx, &events, now).await?;
                    Ok::<_, Failed>(())
                })
            }
            GuardRequest::Session { session } => {
                transaction!(self.store, "guard-session", |tx| {
                    let now = self.clock.now();
                    let id = session.to_string();
                    let row = rows::get::<Session>(tx, &self.sealer, &id).await?;
                    let row = row.ok_or(Reason::NotFound)?;
                    if row.body.ended {
                        return Ok(());
                    }
                    spare(tx, guard, "session", SESSIONS_A_DAY, now).await?;
                    rows::save(tx, &self.sealer, &row, &row.body.ended()).await?;
                    let event = Event::GuardStopped {
                        peer: guard.clone(),
                        what: "session".into(),
                        key: None,
                        session: Some(*session),
                    };
                    self.audit.append(tx, event, now).await?;
                    Ok::<_, Failed>(())
                })
            }
        }
    }
}

/// Whether the guard may stop one more today.
async fn spare(
    tx: &mut Tx,
    guard: &PeerId,
    what: &str,
    most: usize,
    now: UnixTime,
) -> Result<(), Failed> {
    let entries = since(tx, "guard.stopped", now.plus(-DAY), MOST).await?;
    let own = entries.iter().filter(|text| {
        let entry: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        entry["detail"]["peer"] == guard.as_str() && entry["detail"]["what"] == what
    });
    if own.count() < most {
        Ok(())
    } else {
        Err(Reason::NotNow.into())
    }
}
