//! Whether the module is enabled: a sealed row that is there and says so, changed by two officers' approvals.

use std::sync::{Mutex, PoisonError};

use audit_log::Event;
use cm_api::Refusal;
use cm_api::rpc::{Health, SwitchRequest};
use cm_api::switch::{MAX_SWITCH_LIFE, Switch, TYP_SWITCH};
use core_types::words::is_reason;
use core_types::{Random, SecretBytes, UnixTime, sha256};
use serde::{Deserialize, Serialize};
use store_kit::{Tx, sql, transaction};

use crate::approvals;
use crate::module::Module;
use crate::officers::For;
use crate::state::Errors;
use crate::store::Failed;
use crate::vault::Vault;

/// How long a node goes by what it has read, in seconds.
const READ_EVERY: i64 = 5;

/// The row's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Switched {
    pub(crate) serial: u64,
    pub(crate) enabled: bool,
}

impl Switched {
    /// A module that was just made is enabled: making it was a ceremony.
    pub(crate) const FIRST: Self = Self {
        serial: 0,
        enabled: true,
    };
}

/// What this node knows of it.
pub(crate) struct SwitchCell(Mutex<(Switched, UnixTime)>);

impl SwitchCell {
    pub(crate) fn new(now: Switched, at: UnixTime) -> Self {
        Self(Mutex::new((now, at)))
    }

    pub(crate) fn now(&self) -> Switched {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Takes note of what was read or written at `at`. `before`: the serial that was known when the reading began; an
    /// older one than that is a row that was set back, and disables. Answers whether it is none.
    pub(crate) fn note(&self, read: Switched, before: u64, at: UnixTime) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let good = read.serial >= before;
        if !good {
            known.0.enabled = false;
        } else if read.serial >= known.0.serial {
            known.0 = read;
        }
        known.1 = at;
        good
    }

    fn stale(&self, at: UnixTime) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (at.0 - known.1.0).abs() >= READ_EVERY
    }
}

fn place(version: i64) -> Vec<u8> {
    format!("natsuin-cm-switch-v1\n{version}").into_bytes()
}

/// The row's bytes for a version.
pub(crate) fn sealed(
    vault: &Vault,
    random: &dyn Random,
    body: Switched,
    version: i64,
) -> Result<Vec<u8>, Failed> {
    let json = serde_json::to_vec(&body).map_err(|_| Failed::Tampered)?;
    let sealed = vault.seal(&SecretBytes::new(json), &place(version), random);
    sealed.map_err(|_| Failed::Tampered)
}

/// Reads the row, which must be there.
pub(crate) async fn read(tx: &mut Tx, vault: &Vault) -> Result<(Switched, i64), Failed> {
    let row = tx
        .fetch_optional(sql("SELECT version, sealed FROM cm_switch WHERE id = 1"))
        .await?;
    let row = row.ok_or(Failed::Tampered)?;
    let version = row.int("version")?;
    let opened = vault.open(&row.blob("sealed")?, &place(version));
    let opened = opened.map_err(|_| Failed::Tampered)?;
    let body = serde_json::from_slice(opened.expose()).map_err(|_| Failed::Tampered)?;
    Ok((body, version))
}

/// Writes the first row, or that of a restore.
pub(crate) async fn insert(
    tx: &mut Tx,
    vault: &Vault,
    random: &dyn Random,
    body: Switched,
) -> Result<(), Failed> {
    let version = i64::try_from(body.serial).map_err(|_| Failed::Tampered)? + 1;
    let sealed = sealed(vault, random, body, version)?;
    let query = sql("INSERT INTO cm_switch (id, version, sealed) VALUES (1, $1, $2)");
    tx.execute(query.bind(version).bind(sealed)).await?;
    Ok(())
}

impl Module {
    /// Looks now and then whether another node was told to switch.
    pub(crate) async fn look_at_switch(&self) -> Result<(), Refusal> {
        let now = self.clock.now();
        if !self.switch.stale(now) {
            return Ok(());
        }
        let before = self.switch.now().serial;
        let read = async {
            let mut tx = self.store.read("cm-switch").await?;
            read(&mut tx, &self.vault).await
        };
        let (read, _) = read.await.map_err(|failed| self.fail(failed))?;
        if !self.switch.note(read, before, now) {
            self.alarm("cm-switch-set-back").await;
        }
        Ok(())
    }

    /// Enables or disables the module (`III-A1.4.2-dual-control`). Also in the states in which nothing else is done.
    ///
    /// # Errors
    /// [`Refusal::NotAuthentic`] without the approvals of two different officers over the same bytes for this module,
    /// [`Refusal::Malformed`] without a reason; [`Refusal::NotNow`] for another serial or time, and for leaving *error* where it is another one than the officers saw, the
    /// self-tests haven't passed on demand since it began, or only a restart helps; [`Refusal::NotOperational`] when a test fails. Each is recorded.
    pub async fn switch(&self, request: &SwitchRequest) -> Result<Health, Refusal> {
        let done = self.try_switch(request).await;
        if let Err(refusal) = &done {
            let event = Event::OrderRefused {
                order: None,
                reason: match refusal {
                    Refusal::NotNow => "switch-not-now",
                    Refusal::NotOperational => "switch-tests-failed",
                    _ => "switch-not-approved",
                }
                .into(),
            };
            self.record(event).await?;
        }
        done
    }

    async fn try_switch(&self, request: &SwitchRequest) -> Result<Health, Refusal> {
        let now = self.clock.now();
        let approved = self.approved_by_two(&request.approvals, TYP_SWITCH)?;
        let [first, second] = approved.officers;
        let wanted: Switch =
            serde_json::from_slice(&approved.payload).map_err(|_| Refusal::Malformed)?;
        let of = For {
            sam: &wanted.sam,
            root: &wanted.root,
            exp: wanted.exp,
        };
        self.approved_for_now(&of, MAX_SWITCH_LIFE)?;
        if !is_reason(&wanted.reason) {
            return Err(Refusal::Malformed);
        }
        let approval = sha256(&[b"natsuin-cm-switch-v1\n", &approved.payload]);
        let recovery = match wanted.recover {
            true if !wanted.enabled => return Err(Refusal::Malformed),
            false if wanted.error.is_some() => return Err(Refusal::Malformed),
            true => {
                if self.switch.now().serial.checked_add(1) != Some(wanted.serial) {
                    return Err(Refusal::NotNow);
                }
                Some(self.fit_to_recover(wanted.error.as_deref()).await?)
            }
            false => None,
        };
        let next = Switched {
            serial: wanted.serial,
            enabled: wanted.enabled,
        };
        // Until the state is what is written.
        let turn = match recovery {
            Some(_) => Some(self.keeping.lock().await),
            None => None,
        };
        let done: Result<bool, Failed> = transaction!(self.store, "cm-switch", |tx| {
            let (before, version) = read(tx, &self.vault).await?;
            if before.serial.checked_add(1) != Some(next.serial) {
                return Err(Refusal::NotNow.into());
            }
            let sealed = sealed(&self.vault, self.random.as_ref(), next, version + 1)?;
            let query =
                "UPDATE cm_switch SET version = $1, sealed = $2 WHERE id = 1 AND version = $3";
            tx.cas(sql(query).bind(version + 1).bind(sealed).bind(version))
                .await?;
            let event = Event::ModuleSwitched {
                serial: next.serial,
                to: match (next.enabled, recovery.is_some()) {
                    (true, true) => "recovered",
                    (true, false) => "enabled",
                    (false, _) => "disabled",
                }
                .into(),
                approval,
                officer: first,
                second,
            };
            let (vault, random) = (&self.vault, self.random.as_ref());
            approvals::keep(tx, vault, random, approval, &approved.signed, now).await?;
            let ended = match recovery {
                Some(seen) => self.end_errors(tx, seen, "officers").await?,
                None => false,
            };
            self.audit.append(tx, event, now).await?;
            Ok::<_, Failed>(ended)
        });
        let ended = done.map_err(|failed| self.fail(failed))?;
        self.switch.note(next, next.serial, now);
        if !next.enabled {
            self.cache.clear();
            self.let_go().await;
        }
        // Something was found wrong in the very meantime: the approval is spent, and the state stays.
        if let Some(seen) = recovery
            && !self.leave_error(seen, ended).await
        {
            return Err(Refusal::NotOperational);
        }
        drop(turn);
        tracing::warn!(enabled = next.enabled, "two officers switched the module");
        Ok(self.health())
    }
}

impl Module {
    /// Leaves the state *error*, by whoever has its turn, once that is written (`ended`). Not if something was found in the very
    /// meantime, which is kept then.
    pub(crate) async fn leave_error(&self, seen: Errors, ended: bool) -> bool {
        let left = self.state.recovered(seen, ended);
        self.backend.hold(!left);
        self.keep_error_now().await;
        left
    }

    /// All that a start tests: algorithms, generator, device, audit log and rows.
    pub(crate) async fn fit_to_recover(&self, error: Option<&str>) -> Result<Errors, Refusal> {
        self.look_at_own().await;
        let seen = self.state.may_recover(error).ok_or(Refusal::NotNow)?;
        self.cache.clear();
        if let Err(fault) = self.tests().await {
            self.note(&fault).await;
            return Err(Refusal::NotOperational);
        }
        self.scrub().await?;
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_was_set_back_disables() {
        let at = UnixTime(1);
        let cell = SwitchCell::new(Switched::FIRST, at);
        let off = Switched {
            serial: 1,
            enabled: false,
        };
        assert!(cell.note(off, 0, at) && !cell.now().enabled);
        assert!(
            cell.note(Switched::FIRST, 0, at),
            "read before it was switched"
        );
        assert!(!cell.now().enabled && cell.now().serial == 1);
        assert!(!cell.note(Switched::FIRST, 1, at), "an older one");
        assert!(!cell.now().enabled);
        let on = Switched {
            serial: 2,
            enabled: true,
        };
        assert!(cell.note(on, 1, at) && cell.now().enabled);
        assert!(!cell.note(off, 2, at) && !cell.now().enabled, "set back");
        assert!(!cell.stale(UnixTime(5)) && cell.stale(UnixTime(6)));
    }
}
