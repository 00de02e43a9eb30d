//! For whose keys the module vouches: those of its SAM, each followed by the next under its own signature. The certificate of the
//! connection doesn't suffice: whoever copies it has no key that could order anything, nor one that secrets are sealed to.
//!
//! The first keys are believed, as the first officers are: nobody is there to vouch for them. Where a SAM has lost its keys, two
//! officers let the next ones follow ([`cm_api::ceremony::Wanted::NewSam`]), or at level 1 without officers whoever runs the machine.

use std::sync::atomic::Ordering;

use audit_log::{Event, ever_told};
use cm_api::ceremony::MAX_CEREMONY_LIFE;
use cm_api::{Refusal, StatementAnswer, StatementRequest};
use core_types::{Digest32, UnixTime};
use sam_keys::{MAX_STATEMENT_LIFE, SamKeys, TYP_KEYS};
use serde::{Deserialize, Serialize};
use store_kit::{Tx, transaction};

use crate::ledger::Ledger;
use crate::mark;
use crate::module::Module;
use crate::office::Keeper;
use crate::store::Failed;

/// How many act keys are known: two months of turns, so that a SAM whose older store was restored goes on.
const MOST: usize = 64;
/// The entries that tell of each; a build that remembered none has the second only.
const TOLD: [&str; 2] = ["cm.sam-key-taken", "cm.statement-signed"];

/// The mark's content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    /// Thumbprints of act keys, the newest last.
    act: Vec<Digest32>,
    /// Act and seal key of the last statement, which may be asked for again: its answer may have been lost.
    last: Option<(Digest32, Digest32)>,
    /// Until then the next keys are taken without the word of those before.
    open_until: Option<UnixTime>,
}

impl Known {
    fn take(&mut self, act: Digest32) {
        self.act.retain(|known| *known != act);
        self.act.push(act);
        let surplus = self.act.len().saturating_sub(MOST);
        self.act.drain(..surplus);
    }
}

impl Keeper<'_> {
    /// Takes the keys that are asked for, if they follow; answers the mark's version then. `met`: a version that was there before this
    /// began, so that an older one was put back.
    async fn follow(
        &self,
        tx: &mut Tx,
        request: &StatementRequest,
        met: i64,
    ) -> Result<Option<i64>, Failed> {
        let held = mark::read::<Known>(tx, self.vault, mark::SAM).await?;
        let (held, row) = held.unzip();
        let version = row.unwrap_or(0);
        if version < met {
            return Ok(None);
        }
        let mut first = held.is_none();
        for told in TOLD {
            // Somebody took the mark away, or the log hasn't been read yet for the keys of an earlier build.
            first = first && !ever_told(tx, told).await?;
        }
        let mut known: Known = held.unwrap_or_default();
        let pair = (request.act.thumbprint(), request.seal.thumbprint());
        if known.last == Some(pair) {
            return Ok(Some(version));
        }
        let by = request.endorsed_by(&known.act);
        if by.is_none() {
            let open = known.open_until.is_some_and(|until| self.now < until);
            if !first && !open {
                return Ok(None);
            }
            known = Known::default();
        }
        known.take(pair.0);
        // An hour that officers gave is for the next keys, whoever vouches for them.
        (known.last, known.open_until) = (Some(pair), None);
        mark::write(tx, self.vault, self.random, mark::SAM, &known, row).await?;
        let event = Event::SamKeyTaken {
            act_key: pair.0,
            by,
        };
        self.audit.append(tx, event, self.now).await?;
        Ok(Some(version + 1))
    }

    /// Lets the next keys follow without the word of those before.
    pub(crate) async fn open_for_sam(&self, tx: &mut Tx) -> Result<UnixTime, Failed> {
        let held = mark::read::<Known>(tx, self.vault, mark::SAM).await?;
        let (held, row) = held.unzip();
        let until = self.now.plus(MAX_CEREMONY_LIFE);
        let known = Known {
            open_until: Some(until),
            ..held.unwrap_or_default()
        };
        mark::write(tx, self.vault, self.random, mark::SAM, &known, row).await?;
        let event = Event::SamKeysOpen { until };
        self.audit.append(tx, event, self.now).await?;
        Ok(until)
    }

    /// The keys that the log tells of are known: after a restore also those that followed after the backup, after an update those of a
    /// build that remembered none, and what somebody took out of the mark. Answers the mark's version.
    pub(crate) async fn sam_keys_by_log(
        &self,
        tx: &mut Tx,
        ledger: &Ledger,
    ) -> Result<i64, Failed> {
        let held = mark::read::<Known>(tx, self.vault, mark::SAM).await?;
        let (held, row) = held.unzip();
        let version = row.unwrap_or(0);
        let mut known: Known = held.unwrap_or_default();
        if ledger.sam().began_after(&known.act) {
            known = Known::default();
        }
        for key in ledger.sam().keys() {
            known.take(key);
        }
        let Some(newest) = known.act.last().copied() else {
            return Ok(version);
        };
        (known.last, known.open_until) = (None, None);
        mark::write(tx, self.vault, self.random, mark::SAM, &known, row).await?;
        let event = Event::SamKeyTaken {
            act_key: newest,
            by: None,
        };
        self.audit.append(tx, event, self.now).await?;
        Ok(version + 1)
    }
}

impl Module {
    /// Vouches for the keys of the configured SAM, and signs nothing else with `K_root`.
    ///
    /// # Errors
    /// [`Refusal`]: another SAM, keys that nobody has vouched for, or times out of bounds.
    pub async fn statement(&self, request: StatementRequest) -> Result<StatementAnswer, Refusal> {
        self.operational()?;
        let now = self.clock.now();
        if request.sam != self.config.sam {
            return Err(Refusal::NotAuthentic);
        }
        if request.nbf > now.plus(60)
            || request.exp <= now
            || request.exp > request.nbf.plus(MAX_STATEMENT_LIFE)
        {
            return Err(Refusal::NotNow);
        }
        let met = self.sam_met.load(Ordering::SeqCst);
        let follows: Result<Option<i64>, Failed> = transaction!(self.store, "cm-statement", |tx| {
            let follows = self.keeper().follow(tx, &request, met).await?;
            if follows.is_some() {
                let event = Event::StatementSigned {
                    act_key: request.act.thumbprint(),
                };
                self.audit.append(tx, event, now).await?;
            }
            Ok::<_, Failed>(follows)
        });
        let Some(version) = follows.map_err(|failed| self.fail(failed))? else {
            self.foreign_sam_key().await;
            return Err(Refusal::NotAuthentic);
        };
        self.sam_met.fetch_max(version, Ordering::SeqCst);
        let body = SamKeys {
            sam: request.sam,
            epoch: request.epoch,
            act: request.act,
            seal: request.seal,
            nbf: request.nbf,
            exp: request.exp,
        };
        let payload = serde_json::to_vec(&body).map_err(|_| Refusal::Malformed)?;
        let statement = self
            .root
            .sign(TYP_KEYS, &payload)
            .map_err(|_| Refusal::NotOperational)?;
        Ok(StatementAnswer { statement })
    }

    /// Version of the mark of the SAM's keys.
    pub(crate) async fn sam_version(&self) -> Result<i64, Failed> {
        let mut tx = self.store.read("cm-sam-keys").await?;
        let held = mark::read::<Known>(&mut tx, &self.vault, mark::SAM).await?;
        Ok(held.map_or(0, |(_, version)| version))
    }

    /// Whether the mark has the newest keys of which the log tells, and is no older than this process has met. Otherwise it is made
    /// anew by the log; so it is, and nothing wrong with it, where only an earlier build tells of keys. `before`: the mark's version when the
    /// log wasn't read yet.
    pub(crate) async fn sam_keys_are_kept(
        &self,
        ledger: &Ledger,
        before: i64,
    ) -> Result<bool, Failed> {
        let met = self.sam_met.load(Ordering::SeqCst);
        let mut tx = self.store.read("cm-sam-keys").await?;
        let held = mark::read::<Known>(&mut tx, &self.vault, mark::SAM).await?;
        drop(tx);
        let (known, version) = held.unwrap_or_default();
        // What was taken while the log was read the log may not tell yet.
        let agrees = ledger.sam().newest_among(&known.act) || version > before;
        let earlier = version == 0 && met == 0 && ledger.sam().only_signed();
        if agrees && version >= met && !earlier {
            self.sam_met.fetch_max(version, Ordering::SeqCst);
            return Ok(true);
        }
        let made: Result<i64, Failed> = transaction!(self.store, "cm-sam-keys", |tx| {
            self.keeper().sam_keys_by_log(tx, ledger).await
        });
        // Also where it is below what was met: from here on this one is the latest.
        self.sam_met.store(made?, Ordering::SeqCst);
        Ok(earlier)
    }

    /// Lets another SAM follow where no two officers could decide it: at level 1 only, by whoever runs this machine.
    ///
    /// # Errors
    /// [`Refusal::NotAuthentic`] where two officers have to.
    pub async fn open_for_sam_alone(&self) -> Result<UnixTime, Refusal> {
        if !self.decided_alone() {
            return Err(Refusal::NotAuthentic);
        }
        let opened: Result<UnixTime, Failed> = transaction!(self.store, "cm-open-for-sam", |tx| {
            self.keeper().open_for_sam(tx).await
        });
        opened.map_err(|failed| self.fail(failed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_keys_are_known_and_the_newest_of_them() {
        let mut known = Known::default();
        for n in 0..70 {
            known.take(Digest32([n; 32]));
        }
        known.take(Digest32([20; 32]));
        assert_eq!(known.act.len(), MOST);
        assert_eq!(known.act.last(), Some(&Digest32([20; 32])));
        assert!(!known.act.contains(&Digest32([5; 32])) && known.act.contains(&Digest32([6; 32])));
    }
}
