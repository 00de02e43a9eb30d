//! The table `[audit]` of a daemon, and what it sets in motion.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use audit_log::{AuditError, AuditLog, LogKey, Sequencer, Setting};
use core_types::{Clock, PeerId, UnixTime, sha256};
use serde::Deserialize;
use service_kit::daemon::CHECK;
use service_kit::http::HttpOptions;
use service_kit::{Identity, Running, Shutdown, Trouble, bind, daemon, serve, tls};
use store_kit::{Store, StoreError};

use crate::tiles::{Reading, router};
use crate::witnesses::WitnessesConfig;

/// Where a zone's log goes, by which key, and who watches and reads it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditConfig {
    log: String,
    key: PathBuf,
    witness: PathBuf,
    every_seconds: u64,
    #[serde(default = "a_year")]
    keep_days: u32,
    #[serde(default = "ten_years")]
    keep_persons_days: u32,
    witnesses: Option<WitnessesConfig>,
    reading: Option<ReadingConfig>,
}

/// The table `[audit.reading]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadingConfig {
    listen: SocketAddr,
    auditors: Vec<PeerId>,
}

fn ten_years() -> u32 {
    3653
}

fn a_year() -> u32 {
    366
}

/// What an error of the log means for the daemon.
pub fn trouble(error: &AuditError) -> Trouble {
    match error {
        error if error.passes() => Trouble::new(
            Trouble::AWAY,
            error.to_string(),
            "make room, or bring the database back; nothing is done until then, and the service manager tries again",
        ),
        AuditError::OtherKey(_) => Trouble::new(
            "audit-key",
            error.to_string(),
            "give all nodes of a zone one audit.key, and all nodes of natsuin-ssa one chain_key: those of the other nodes, or of the backup",
        ),
        error => Trouble::new(
            "audit",
            error.to_string(),
            "check the log before starting again",
        ),
    }
}

/// What an error of a zone's store means for its daemon, and for a command beside it.
pub fn store_trouble(error: &StoreError) -> Trouble {
    let code = match error.is_away() {
        true => Trouble::AWAY,
        false => "store",
    };
    let remedy = match error {
        StoreError::InUse(_) => {
            "beside a running daemon commands work on PostgreSQL; on an embedded store end the daemon, run the command, and start \
             the daemon again. Auditors read the log of one that runs at its listener ([audit.reading])"
        }
        _ => CHECK,
    };
    Trouble::new(code, error.to_string(), remedy)
}

impl AuditConfig {
    /// How often entries get their place in the log.
    pub fn every(&self) -> Duration {
        Duration::from_secs(self.every_seconds.max(1))
    }

    /// Name of the log, which no other log has.
    pub fn name(&self) -> &str {
        &self.log
    }

    /// Names in the certificates of those who read the log over the network.
    pub fn auditors(&self) -> &[PeerId] {
        self.reading.as_ref().map_or(&[], |r| &r.auditors)
    }

    /// The key that signs checkpoints.
    ///
    /// # Errors
    /// [`Trouble`] when its file can't be used.
    pub(crate) fn log_key(&self) -> Result<LogKey, Trouble> {
        let seed = daemon::secret32(&self.key)?;
        LogKey::from_seed(&self.log, &seed).map_err(|e| trouble(&e))
    }

    /// The witness's file.
    pub(crate) fn witness(&self) -> &std::path::Path {
        &self.witness
    }

    /// How long entries are kept at least before they may be deleted after archiving, in days.
    pub(crate) fn keep_days(&self) -> u32 {
        self.keep_days
    }

    /// How long persons are remembered at least after the last entry about them, in days.
    pub(crate) fn keep_persons_days(&self) -> u32 {
        self.keep_persons_days
    }

    /// Opens the zone's log; a change of these settings since the last start is recorded first. `options`: own identity
    /// and the CA of the witnesses.
    ///
    /// # Errors
    /// [`Trouble`]; the zone must not start.
    pub async fn open(
        &self,
        log: &AuditLog,
        store: &Store,
        options: &HttpOptions,
        now: UnixTime,
    ) -> Result<Sequencer, Trouble> {
        let own = log.check_key(store).await;
        own.map_err(|e| trouble(&e))?;
        let recorded = log.audits_by(store, &self.parameters(), now).await;
        recorded.map_err(|e| trouble(&e.into()))?;
        let key = self.log_key()?;
        let witness = Some(self.witness.clone());
        let opened = Sequencer::open(log.clone(), key, witness, store).await;
        let sequencer = opened.map_err(|e| trouble(&e))?;
        let key = sequencer.public();
        tracing::info!(%key, "the public key of this zone's log, for auditors");
        let Some(witnesses) = &self.witnesses else {
            return Ok(sequencer);
        };
        let watched = sequencer
            .watched_by(witnesses.open(options)?, store, now)
            .await;
        watched.map_err(|e| trouble(&e))
    }

    /// Records that the daemon stops, and gives the last entries their place.
    ///
    /// # Errors
    /// [`Trouble`] when the log can't be written.
    pub async fn close(
        log: &AuditLog,
        store: &Store,
        sequencer: &Sequencer,
        now: UnixTime,
    ) -> Result<(), Trouble> {
        let stopped = log.stops(store, now).await;
        stopped.map_err(|e| trouble(&e.into()))?;
        let last = sequencer.sequence(store, now).await;
        last.map(drop).map_err(|e| trouble(&e))
    }

    /// Records that a command ends which began in the log, whatever came of it: a start without an end is a crash. With the
    /// sequencer the last entries get their place, otherwise they wait for the daemon.
    ///
    /// # Errors
    /// [`Trouble`] of the command, or when the log can't be written.
    pub async fn ends<T>(
        log: &AuditLog,
        store: &Store,
        sequencer: Option<&Sequencer>,
        done: Result<T, Trouble>,
        now: UnixTime,
    ) -> Result<T, Trouble> {
        let ended = match sequencer {
            Some(sequencer) => Self::close(log, store, sequencer, now).await,
            None => log.stops(store, now).await.map_err(|e| trouble(&e.into())),
        };
        let done = done?;
        ended.map(|()| done)
    }

    /// Serves auditors, if there are any.
    ///
    /// # Errors
    /// [`Trouble`] when the listener can't be opened.
    pub async fn serve(
        &self,
        log: &AuditLog,
        store: &Store,
        clock: Arc<dyn Clock>,
        (identity, ca): (&Identity, &str),
        shutdown: Shutdown,
    ) -> Result<Option<Running>, Trouble> {
        let Some(reading) = &self.reading else {
            return Ok(None);
        };
        let mutual = tls::mutual_server(identity, ca)?;
        let router = router(Reading {
            log: log.clone(),
            store: store.clone(),
            public: self.log_key()?.public(),
            auditors: reading.auditors.clone(),
            clock,
        });
        let listener = bind(reading.listen).await?;
        serve(listener, router, Some(mutual), shutdown).map(Some)
    }

    /// What an auditor has to know of when it changes.
    fn parameters(&self) -> [Setting; 7] {
        let digest = |text: &str| sha256(&[text.as_bytes()]);
        [
            ("log", digest(&self.log)),
            ("witness", digest(&self.witness.display().to_string())),
            ("every-seconds", digest(&self.every().as_secs().to_string())),
            ("keep-days", digest(&self.keep_days.to_string())),
            (
                "keep-persons-days",
                digest(&self.keep_persons_days.to_string()),
            ),
            ("witnesses", digest(&format!("{:?}", self.witnesses))),
            ("reading", digest(&format!("{:?}", self.reading))),
        ]
    }
}
