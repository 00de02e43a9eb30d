//! Errors that outlast the process. A device or a generator that was found wrong isn't trusted again because the service manager has
//! started it anew and its tests passed: a sealed mark keeps what was found, each start with it begins in the state *error*, and
//! only whoever may lets the module go on ([`Module::switch`], [`Module::recover_alone`]).
//!
//! What is found anew by every start isn't kept: an altered log or row, another table or list of officers, another program.

use audit_log::{Event, beside_of, has_begun};
use cm_api::{ModuleState, Refusal};
use core_types::{Digest32, Level, Random, UnixTime, sha256};
use serde::{Deserialize, Serialize};
use store_kit::{Tx, transaction};

use crate::ledger::Ledger;
use crate::mark;
use crate::module::Module;
use crate::office::{Keeper, can_approve};
use crate::state::Errors;
use crate::store::Failed;
use crate::vault::Vault;

/// The mark's content: all errors there were. Those that are over stay, so that whoever has read the log before one ended doesn't miss it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeptErrors {
    errors: Vec<KeptError>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptError {
    /// Names it in the log.
    id: Digest32,
    /// What officers name when they end it.
    name: String,
    /// Whose start it is that begins in it.
    node: String,
    at: UnixTime,
    ended: Option<UnixTime>,
}

impl KeptErrors {
    fn open(&self) -> impl Iterator<Item = &KeptError> {
        self.errors.iter().filter(|e| e.ended.is_none())
    }

    fn of<'e>(&'e self, node: &'e str) -> impl Iterator<Item = &'e KeptError> {
        self.open().filter(move |e| e.node == node)
    }

    fn has(&self, id: Digest32) -> bool {
        self.errors.iter().any(|e| e.id == id)
    }

    /// Opens an error; answers whether it was none.
    fn begin(&mut self, id: Digest32, name: &str, node: &str, at: UnixTime) -> bool {
        let fresh = KeptError {
            id,
            name: name.to_owned(),
            node: node.to_owned(),
            at,
            ended: None,
        };
        match self.errors.iter_mut().find(|e| e.id == id) {
            Some(known) if known.ended.is_none() => return false,
            Some(known) => *known = fresh,
            None => self.errors.push(fresh),
        }
        true
    }
}

/// The name of an error in the log, which has no words of its own.
fn id_of(name: &str) -> Digest32 {
    sha256(&[b"natsuin-cm-error-v1\n", name.as_bytes()])
}

/// The node that a command works beside, or the node itself.
fn daemon(node: &str) -> &str {
    beside_of(node).unwrap_or(node)
}

async fn read(tx: &mut Tx, vault: &Vault) -> Result<(KeptErrors, Option<i64>), Failed> {
    let (held, row) = mark::read::<KeptErrors>(tx, vault, mark::ERRORS)
        .await?
        .unzip();
    Ok((held.unwrap_or_default(), row))
}

async fn write(
    tx: &mut Tx,
    vault: &Vault,
    random: &dyn Random,
    errors: &KeptErrors,
    row: Option<i64>,
) -> Result<(), Failed> {
    mark::write(tx, vault, random, mark::ERRORS, errors, row).await
}

impl Keeper<'_> {
    /// The error in which this node begins. A name that no node had before begins in what was found under another one: otherwise
    /// a line of the configuration would end it.
    pub(crate) async fn held(&self, tx: &mut Tx, fresh: bool) -> Result<Option<String>, Failed> {
        let (errors, _) = read(tx, self.vault).await?;
        let node = daemon(self.audit.node());
        if let Some(last) = errors.of(node).last() {
            return Ok(Some(last.name.clone()));
        }
        if fresh || errors.open().next().is_none() || has_begun(tx, node).await? {
            return Ok(None);
        }
        let name = format!("{}/{}/0", self.audit.node(), self.now.0);
        if self.audit.node() == node {
            self.keep(tx, &name).await?;
        }
        Ok(Some(name))
    }

    /// Keeps an error of this node, unless one is kept.
    pub(crate) async fn keep(&self, tx: &mut Tx, name: &str) -> Result<(), Failed> {
        let (mut errors, row) = read(tx, self.vault).await?;
        let node = daemon(self.audit.node());
        if errors.of(node).next().is_some() {
            return Ok(());
        }
        let id = id_of(name);
        errors.begin(id, name, node, self.now);
        write(tx, self.vault, self.random, &errors, row).await?;
        let event = Event::ErrorKept { error: id };
        self.audit.append(tx, event, self.now).await?;
        Ok(())
    }

    /// Ends all errors of this node.
    pub(crate) async fn end(&self, tx: &mut Tx, by: &'static str) -> Result<(), Failed> {
        let (mut errors, row) = read(tx, self.vault).await?;
        let node = daemon(self.audit.node());
        let mut events = Vec::new();
        for error in errors.errors.iter_mut().filter(|e| e.node == node) {
            if error.ended.is_none() {
                error.ended = Some(self.now);
                events.push(Event::ErrorEnded {
                    error: error.id,
                    method: by.into(),
                });
            }
        }
        if !events.is_empty() {
            write(tx, self.vault, self.random, &errors, row).await?;
            self.audit.append_all(tx, &events, self.now).await?;
        }
        Ok(())
    }

    /// Puts errors back that the log tells of and the mark doesn't, as this node's. `name`: under which officers end them.
    async fn put_back(&self, tx: &mut Tx, lost: &[Digest32], name: &str) -> Result<(), Failed> {
        let (mut errors, row) = read(tx, self.vault).await?;
        let node = daemon(self.audit.node());
        for id in lost {
            if !errors.has(*id) {
                errors.begin(*id, name, node, self.now);
            }
        }
        write(tx, self.vault, self.random, &errors, row).await
    }

    /// After a restore: what the old log or the backup says was found is this node's, and the new log tells of it.
    pub(crate) async fn restored(&self, tx: &mut Tx, ledger: &Ledger) -> Result<(), Failed> {
        let (mut errors, row) = read(tx, self.vault).await?;
        let name = format!("{}/{}/0", self.audit.node(), self.now.0);
        let open: Vec<Digest32> = ledger.errors().collect();
        for error in &mut errors.errors {
            // It may have ended since the backup, and begun as well.
            let over = error.ended.is_some() || ledger.ended(error.id);
            error.ended = over.then_some(error.ended.unwrap_or(self.now));
            daemon(self.audit.node()).clone_into(&mut error.node);
        }
        for id in open {
            errors.begin(id, &name, daemon(self.audit.node()), self.now);
        }
        let events = errors.open().map(|e| Event::ErrorKept { error: e.id });
        let events: Vec<Event> = events.collect();
        if !errors.errors.is_empty() {
            write(tx, self.vault, self.random, &errors, row).await?;
        }
        if !events.is_empty() {
            self.audit.append_all(tx, &events, self.now).await?;
        }
        Ok(())
    }
}

impl Module {
    pub(crate) fn keeper(&self) -> Keeper<'_> {
        Keeper {
            vault: &self.vault,
            random: self.random.as_ref(),
            audit: &self.audit,
            now: self.clock.now(),
        }
    }

    /// Writes the error that isn't written yet. Where that can't be done the state holds in this process, and it is tried again.
    pub(crate) async fn keep_error(&self) {
        let _turn = self.keeping.lock().await;
        self.keep_error_now().await;
    }

    /// The same, by whoever has its turn.
    pub(crate) async fn keep_error_now(&self) {
        let Some(name) = self.state.unwritten() else {
            return;
        };
        let kept: Result<(), Failed> = transaction!(self.store, "cm-error-kept", |tx| {
            self.keeper().keep(tx, &name).await
        });
        match kept {
            Ok(()) => self.state.written(),
            Err(failed) => {
                tracing::error!(
                    ?failed,
                    "that the module is in its error state couldn't be written: don't restart it"
                );
            }
        }
    }

    /// Ends what is kept of this node, in the transaction of whoever decided it and has its turn, unless something was found since;
    /// answers whether it did.
    pub(crate) async fn end_errors(
        &self,
        tx: &mut Tx,
        seen: Errors,
        by: &'static str,
    ) -> Result<bool, Failed> {
        let still = self.state.still(seen);
        if still {
            self.keeper().end(tx, by).await?;
        }
        Ok(still)
    }

    /// Goes by what others have written of this node's errors meanwhile: a command beside it that found one, or that ended them.
    pub(crate) async fn look_at_kept(&self) {
        let _turn = self.keeping.lock().await;
        let read = async {
            let mut tx = self.store.read("cm-errors").await?;
            read(&mut tx, &self.vault).await
        };
        let errors = match read.await {
            Ok((errors, _)) => errors,
            Err(failed) => {
                tracing::warn!(?failed, "errors that are kept couldn't be read");
                return;
            }
        };
        let open = errors.of(daemon(self.audit.node())).next().is_some();
        if !open {
            self.state.unkept();
        } else if self.state.get() != ModuleState::Error {
            self.alarm("cm-error-held").await;
            self.latch_here("an error of this node that somebody else has written")
                .await;
            self.state.written();
        }
    }

    /// Whether the mark has every error of which the log tells. What is missing is put back, so that it ends in no other way.
    pub(crate) async fn errors_are_kept(&self, ledger: &Ledger) -> Result<bool, Failed> {
        let mut tx = self.store.read("cm-errors").await?;
        let (errors, _) = read(&mut tx, &self.vault).await?;
        drop(tx);
        let lost: Vec<Digest32> = ledger.errors().filter(|id| !errors.has(*id)).collect();
        if lost.is_empty() {
            return Ok(true);
        }
        let name = format!("{}/{}/0", self.audit.node(), self.clock.now().0);
        let put: Result<(), Failed> = transaction!(self.store, "cm-error-lost", |tx| {
            self.keeper().put_back(tx, &lost, &name).await
        });
        put.map(|()| false)
    }

    /// Whether one person decides what two officers do elsewhere: there aren't two, which is so at level 1 only.
    pub(crate) fn decided_alone(&self) -> bool {
        self.backend.ceiling() == Level::One && !can_approve(&self.config.officers)
    }

    /// The way out of *error* where no two officers could decide it: at level 1 only, by whoever runs this machine, after all that a
    /// start tests. Answers whether there was an error.
    ///
    /// # Errors
    /// [`Refusal::NotAuthentic`] where two officers have to, [`Refusal::NotOperational`] when a test fails or something is found.
    pub async fn recover_alone(&self) -> Result<bool, Refusal> {
        if !self.decided_alone() {
            return Err(Refusal::NotAuthentic);
        }
        let Some(error) = self.state.error() else {
            return Ok(false);
        };
        self.self_test().await?;
        let seen = self.fit_to_recover(Some(&error)).await;
        let seen = seen.map_err(|_| Refusal::NotOperational)?;
        let turn = self.keeping.lock().await;
        let ended: Result<bool, Failed> = transaction!(self.store, "cm-error-ended", |tx| {
            self.end_errors(tx, seen, "administrator").await
        });
        let ended = ended.map_err(|failed| self.fail(failed))?;
        let left = self.leave_error(seen, ended).await;
        drop(turn);
        match left {
            true => Ok(true),
            false => Err(Refusal::NotOperational),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_comes_again_is_open_again() {
        let (mut errors, id) = (KeptErrors::default(), id_of("n/1/1"));
        assert!(errors.begin(id, "n/1/1", "n", UnixTime(1)));
        assert!(!errors.begin(id, "n/1/1", "n", UnixTime(2)), "it is open");
        assert_eq!(errors.of("n").count(), 1);
        assert_eq!(errors.of("m").count(), 0);
        errors.errors[0].ended = Some(UnixTime(3));
        assert_eq!(errors.open().count(), 0);
        assert!(errors.begin(id, "n/1/1", "n", UnixTime(4)));
        assert_eq!((errors.open().count(), errors.errors.len()), (1, 1));
        assert_eq!(daemon("n.command"), "n");
    }
}
