//! Watching the backups: what is reported of them, and an alarm when they are late.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use audit_log::Event;
use cm_api::CryptoModule;
use sam_core::backups::{BackupReport, BackupRule, BackupsLate};
use store_kit::{StoreError, transaction};

use crate::sam::Sam;

/// Longest report that is read, in bytes.
const LONGEST: u64 = 1024;

/// Where reports of backups lie, and how old they may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupWatch {
    /// Folder with `made.json` and `verified.json`, as `natsuin backup create --report` and `verify --report` write them.
    pub reports: PathBuf,
    /// How often the operator means to make them.
    pub rule: BackupRule,
}

/// What the log says of them; a node tells each change once.
#[derive(Default)]
pub(crate) struct BackupsTold(Mutex<BackupsLate>);

/// What is known of the backups.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BackupsKnown {
    pub(crate) made: Option<BackupReport>,
    pub(crate) verified: Option<BackupReport>,
    pub(crate) late: BackupsLate,
}

impl<C: CryptoModule> Sam<C> {
    /// What is reported, judged now; nothing when nobody watches.
    pub(crate) fn backups(&self) -> Option<BackupsKnown> {
        let watch = self.config.backups.as_ref()?;
        let made = report(&watch.reports.join("made.json"));
        let verified = report(&watch.reports.join("verified.json"));
        Some(BackupsKnown {
            made,
            verified,
            late: watch.rule.judge(made, verified, self.clock.now()),
        })
    }

    /// Alarms when a backup, or the trial of one, has become late.
    pub(crate) async fn watch_backups(&self) -> Result<(), StoreError> {
        let Some(known) = self.backups() else {
            return Ok(());
        };
        let told = || {
            self.backups_told
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        let before = *told();
        let became = [
            (known.late.made && !before.made, "backup-late"),
            (known.late.verified && !before.verified, "backup-not-tried"),
        ];
        let alarms = became.into_iter().filter(|(became, _)| *became);
        let events: Vec<_> = alarms
            .map(|(_, what)| Event::Alarm { what: what.into() })
            .collect();
        if !events.is_empty() {
            let now = self.clock.now();
            transaction!(self.store, "backups", |tx| {
                self.audit.append_all(tx, &events, now).await.map(drop)
            })?;
        }
        *told() = known.late;
        Ok(())
    }
}

/// What a file reports; one that can't be read, or holds something else, reports nothing.
fn report(path: &Path) -> Option<BackupReport> {
    use std::io::Read as _;
    let mut text = String::new();
    let file = std::fs::File::open(path);
    let read = file.and_then(|file| file.take(LONGEST).read_to_string(&mut text));
    let why = match read {
        Ok(_) => match BackupReport::parse(&text) {
            Some(report) => return Some(report),
            None => "it is no report".to_owned(),
        },
        // Before the first one.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => error.to_string(),
    };
    tracing::warn!(path = %path.display(), why, "the report of a backup can't be read");
    None
}
