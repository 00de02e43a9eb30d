//! Commands that start the module beside its daemon: in the log they are a node of their own, which ends when they do.

use audit_service::{AuditConfig, ForgetPerson, record_reading};
use cm_api::Refusal;
use cm_core::{Ledger, Module};
use core_types::clock::SystemClock;
use core_types::{Clock as _, sha256};
use serde_json::json;
use service_kit::{Answer, Trouble};
use store_kit::Store;

use super::{Command, backup, trouble, write_new};
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
        Command::ExportApprovals { out } => {
            config.obey(module.audit(), store, now).await?;
            let (log, whole) = (module.audit(), sha256(&[b"approvals"]));
            let remedy = "run natsuin-cm scrub and look for who changed the store";
            let kept = module.approvals().await;
            let kept = kept.map_err(|e| trouble("approvals", e, remedy))?;
            let count = u64::try_from(kept.len()).unwrap_or(u64::MAX);
            record_reading(log, store, ("approvals", whole), count, now).await?;
            let lines = kept.iter().map(serde_json::to_string);
            let lines = lines.collect::<Result<Vec<_>, _>>();
            let lines = lines.map_err(|e| trouble("approvals", e, "try again"))?;
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            write_new(out, text.as_bytes())?;
            let words = format!("{count} decisions in {}", out.display());
            Ok(Answer::new(words, json!({"decisions": count})))
        }
        Command::Recover => {
            // By the configuration alone, as a backup.
            config.obey(module.audit(), store, now).await?;
            recover(module).await
        }
        Command::NewSam => {
            config.obey(module.audit(), store, now).await?;
            let opened = module.open_for_sam_alone().await;
            let remedy =
                "where there are two officers they approve it: approve-key new-sam, hold-ceremony";
            let until = opened.map_err(|e| trouble("new-sam", e, remedy))?;
            let until = until.rfc3339();
            let words =
                format!("the SAM's next keys are taken until {until}: start module and SAM now");
            Ok(Answer::new(words, json!({"until": until})))
        }
        _ => backup::scrub(module).await,
    }
}

async fn recover(module: &Module) -> Result<Answer, Trouble> {
    let answer = |words: &str, ended| Answer::new(words, json!({"ended": ended}));
    let remedy = match module.recover_alone().await {
        Ok(true) => return Ok(answer("the error is over; start the module", true)),
        Ok(false) => return Ok(answer("the module is in no error", false)),
        Err(Refusal::NotAuthentic) => {
            "two officers decide it: start the module, then natsuin-cm self-test, approve --to recovered, switch"
        }
        Err(_) => "look at the device, at this machine's log and at natsuin-cm scrub",
    };
    let what = "the module doesn't leave its error state";
    Err(Trouble::new("recover", what, remedy))
}
