//! The table `[audit]` of a daemon, and what it sets in motion.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use audit_log::{AuditError, AuditLog, LogKey, Sequencer, Setting};
use core_types::{Clock, Level, PeerId, UnixTime, sha256};
use serde::Deserialize;
use service_kit::daemon::{CHECK, FilesRead};
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
    /// Why nobody who writes to the database writes to that file.
    witness_declaration: Option<String>,
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
            "make room, or bring the database or the witness back; nothing is done until then, and the service manager tries again",
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
        StoreError::NotOurs(_) => {
            "run it as the user of the zone's daemon: runuser -u natsuin-sam -- natsuin-sam …"
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

    /// What the operator declares of the medium of the witness's file.
    pub fn witness_declaration(&self) -> Option<&str> {
        let declared = self.witness_declaration.as_deref().map(str::trim);
        declared.filter(|text| !text.is_empty())
    }

    /// Whether keys of this level may rest on this log. Above level 1 whoever administers the database must not be able to put it
    /// back together with all that knows better: a cosigner stops the zone then, or the file does, where that is declared.
    ///
    /// # Errors
    /// [`Trouble`]; the zone must not start.
    pub fn anchored(&self, level: Level) -> Result<(), Trouble> {
        let stops = self.witnesses.as_ref().is_some_and(WitnessesConfig::stop);
        if level == Level::One || stops || self.witness_declaration().is_some() {
            return Ok(());
        }
        Err(Trouble::new(
            "bad-config",
            "above level 1 a database that is put back with the witness's file has to be found (II-3.3.2-audit-tamper-detected), and [audit] \
             names no cosigner with measure = \"stop\" and has no witness_declaration",
            "name a cosigner in [audit.witnesses] with measure = \"stop\"; or declare in witness_declaration, with a reference, that nobody \
             who writes to the database writes to the medium of the witness's file",
        ))
    }

    /// Reads the public keys of the cosigners, which count as they are read here, once.
    ///
    /// # Errors
    /// [`Trouble`] when a file can't be read.
    pub fn read(&self, files: &mut FilesRead) -> Result<(), Trouble> {
        match &self.witnesses {
            Some(witnesses) => witnesses.read("audit.witnesses", files),
            None => Ok(()),
        }
    }

    /// The key that signs checkpoints.
    ///
    /// # Errors
    /// [`Trouble`] when its file can't be used.
    pub(crate) fn log_key(&self) -> Result<LogKey, Trouble> {
        let seed = daemon::secret32(&self.key)?;
        LogKey::from_seed(&self.log, &seed).map_err(|e| trouble(&e))
    }

    /// The log's public key, which witnesses and auditors want before the daemon starts for the first time.
    ///
    /// # Errors
    /// [`Trouble`] when the seed's file can't be used.
    pub fn public_key(&self) -> Result<String, Trouble> {
        Ok(self.log_key()?.public())
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

    /// Opens the zone's log, once [`Self::read`] was called; a change of these settings since the last start is recorded first.
    /// `options`: own identity and the CA of the witnesses.
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
    fn parameters(&self) -> [Setting; 8] {
        let digest = |text: &str| sha256(&[text.as_bytes()]);
        [
            ("log", digest(&self.log)),
            ("witness", digest(&self.witness.display().to_string())),
            (
                "witness-declaration",
                digest(self.witness_declaration().unwrap_or_default()),
            ),
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

#[cfg(test)]
mod tests {
    use core_types::SecretBytes;
    use service_kit::daemon;

    use super::*;

    #[test]
    fn a_logs_key_is_told_by_its_name_and_seed_alone() {
        let seed = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(seed.path(), [7_u8; 32]).unwrap();
        let audit = AuditConfig {
            key: seed.path().to_owned(),
            ..config("")
        };
        let expected = LogKey::from_seed("test/sam", &SecretBytes::new(vec![7; 32]));
        assert_eq!(audit.public_key().unwrap(), expected.unwrap().public());
        assert!(config("").public_key().is_err(), "no seed");
    }

    const COSIGNED: &str =
        "[witnesses]\ncosigners = [{ url = 'https://w', key = '/w.pub' }]\npatience_seconds = 60\n";

    fn config(more: &str) -> AuditConfig {
        let file = tempfile::NamedTempFile::new().unwrap();
        let own = "log = 'test/sam'\nkey = '/log.key'\nwitness = '/sam.txt'\nevery_seconds = 1\n";
        std::fs::write(file.path(), format!("{own}{more}")).unwrap();
        daemon::load(file.path()).unwrap()
    }

    // shows: II-3.3.2-audit-tamper-detected, III-3-14-audit-protection
    #[test]
    fn above_level_1_a_log_has_an_anchor_that_its_databases_administrator_cannot_put_back() {
        let measured = |measure: &str| format!("{COSIGNED}measure = '{measure}'");
        let declared = "witness_declaration = 'contract 7 with the auditor'\n";
        let nobody = "[witnesses]\ncosigners = []\npatience_seconds = 60\nmeasure = 'stop'";
        for (more, anchored) in [
            (String::new(), false),
            ("witness_declaration = ' '".to_owned(), false),
            (nobody.to_owned(), false),
            (measured("alert"), false),
            (measured("stop"), true),
            (declared.to_owned(), true),
            (declared.to_owned() + &measured("alert"), true),
        ] {
            let audit = config(&more);
            assert!(audit.anchored(Level::One).is_ok(), "{more}");
            for level in [Level::Two, Level::Three] {
                let told = audit.anchored(level);
                assert_eq!(told.is_ok(), anchored, "{more}");
                if let Err(trouble) = told {
                    assert!(trouble.what.contains("II-3.3.2-audit-tamper-detected"));
                }
            }
        }
    }

    // shows: II-3.3.2-config-tamper-detected
    #[test]
    fn a_cosigners_key_counts_as_it_was_read_with_the_settings() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("w.pub");
        std::fs::write(&key, "w+0+AQ").unwrap();
        let here = key.display().to_string();
        let audit = config(&format!("{COSIGNED}measure = 'stop'").replace("/w.pub", &here));
        let witnesses = audit.witnesses.as_ref().unwrap();
        let unread = witnesses.open(&HttpOptions::default()).unwrap_err();
        assert_eq!(unread.code, "config-file");
        let mut files = FilesRead::default();
        audit.read(&mut files).unwrap();
        // Exchanged after it was judged: nobody reads it again.
        std::fs::remove_file(&key).unwrap();
        audit.read(&mut files).unwrap();
        let names: Vec<String> = files.digests().into_keys().collect();
        assert_eq!(names, ["audit.witnesses.cosigners.0.key"]);
        let read = witnesses.open(&HttpOptions::default()).unwrap_err();
        assert_eq!(read.code, "witness-key", "what the file said is judged");
    }
}
