//! Commands that start the module beside its daemon: in the log they are a node of their own, which ends when they do.

use audit_service::{AuditConfig, ForgetPerson};
use cm_core::{Ledger, Module};
use core_types::Clock as _;
use core_types::clock::SystemClock;
use service_kit::{Answer, Trouble};
use store_kit::Store;

use super::{Command, backup};
use crate::config::Config;
use crate::{sequencer, start};

/// Runs the command.
///
/// # Errors
/// [`Trouble`] when the module doesn't start, or of the command.
pub(super) async fn run(mut config: Config, command: &Command) -> Result<Answer, Trouble> {
    config.node = audit_log::beside(&config.node);
    let (module, store) = start(&config).await?;
    let done = work(&config, &module, &store, command).await;
    AuditConfig::ends(module.audit(), &store, None, done, SystemClock.now()).await
}

async fn work(
    config: &Config,
    module: &Module,
    store: &Store,
    command: &Command,
) -> Result<Answer, Trouble> {
    let now = SystemClock.now();
    let root = serde_json::to_string(module.root()).unwrap_or_default();
    match command {
        Command::Backup { out } => {
            // By the configuration alone: a witness that is away keeps nobody from a backup.
            config.obey(module.audit(), store, now).await?;
            backup::backup(module, out).await
        }
        Command::ExportLog(command) => {
            let sequencer = sequencer(module, store, config).await?;
            let done = command.run(module.audit(), (&sequencer, store), now);
            done.await
        }
        Command::DeleteArchived(command) => {
            let sequencer = sequencer(module, store, config).await?;
            let (log, mut noted) = ((&sequencer, store), Ledger::default());
            let done = command.run("cm", &config.audit, &root, log, &mut noted, now);
            done.await.map(Answer::from)
        }
        Command::ForgetPerson(command) => {
            // What has been forgotten stays so: only by a log that is whole, and a configuration that is obeyed.
            sequencer(module, store, config).await?;
            let order = command.check(&config.audit, &root, now)?;
            let done = module.forget_person(&order.person, order.by, order.before);
            ForgetPerson::told(done.await).map(Answer::from)
        }
        _ => backup::scrub(module).await,
    }
}
