//! The configuration file, and the files that it names.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use audit_log::AuditLog;
use audit_service::{AuditConfig, ClockConfig, judge, obey, refused_settings};
use cm_core::policy::PolicyError;
use cm_core::{ImportCa, ModuleConfig, OfficersError, Policy, RootSecret};
use core_types::{Level, UnixTime};
use serde::Deserialize;
use service_kit::Trouble;
use service_kit::daemon::{self, CHECK, FilesRead, TlsFiles};
use signed_config::{Brought, Zone, check};
use store_kit::Store;

use crate::{backend, passphrase};

/// See config/natsuin-cm.toml.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) listen: SocketAddr,
    pub(crate) node: String,
    pub(crate) sam: String,
    pub(crate) caller: String,
    pub(crate) store: String,
    pub(crate) root_secret: PathBuf,
    /// From the command line.
    #[serde(skip)]
    pub(crate) passphrase_file: Option<PathBuf>,
    pub(crate) max_uses: u64,
    pub(crate) copies_kept_days: u32,
    #[serde(default = "five_years")]
    pub(crate) key_life_days: u32,
    #[serde(default)]
    experimental_algorithms: bool,
    #[serde(default)]
    import_cas: Vec<ImportCaFile>,
    #[serde(default)]
    officers: Vec<PathBuf>,
    officer_changes: Option<PathBuf>,
    pub(crate) administrator: Option<String>,
    #[serde(default = "five_minutes")]
    pub(crate) key_cache_seconds: i64,
    #[serde(default)]
    pub(crate) lock_memory: bool,
    pub(crate) binary_sha256: Option<String>,
    #[serde(default)]
    pub(crate) keys_ahead: std::collections::BTreeMap<core_types::KeyAlg, usize>,
    algorithms: Option<PathBuf>,
    #[serde(default = "daily")]
    pub(crate) self_test_seconds: u64,
    pub(crate) backend: backend::BackendConfig,
    /// Not without signatures over this file, at level 1 either.
    #[serde(default)]
    signed_settings: bool,
    pub(crate) clock: Option<ClockConfig>,
    pub(crate) tls: TlsFiles,
    pub(crate) audit: AuditConfig,
    /// What was read: this file, and those that it names.
    #[serde(skip)]
    read: Mutex<FilesRead>,
    /// Signatures over it.
    #[serde(skip)]
    signatures: Vec<String>,
    /// The node as the file names it: commands are nodes of their own.
    #[serde(skip)]
    named: String,
}

/// A CA from which keys are taken.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImportCaFile {
    key: PathBuf,
    generation: Option<String>,
}

fn five_minutes() -> i64 {
    300
}

fn five_years() -> u32 {
    1826
}

fn daily() -> u64 {
    86_400
}

impl Config {
    /// Reads the file.
    pub(crate) fn load(path: &Path) -> Result<Self, Trouble> {
        let mut files = FilesRead::default();
        let config: Self = files.load(path)?;
        Ok(Self {
            named: config.node.clone(),
            read: Mutex::new(files),
            signatures: daemon::signatures(path)?,
            ..config
        })
    }

    fn text(&self, name: &str, path: &Path) -> Result<String, Trouble> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.text(name, path)
    }

    /// Reads the keys of those who cosign the log.
    pub(crate) fn witnesses(&self) -> Result<(), Trouble> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        self.audit.read(&mut read)
    }

    /// What was read so far, and who signed it.
    fn brought(&self) -> Result<Brought, Trouble> {
        self.text("tls.ca", &self.tls.ca)?;
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Brought {
            files: read.clone().digests(),
            signatures: self.signatures.clone(),
        })
    }

    /// Whether nothing is done without signatures over this file: one administrator must not choose auditors, witnesses and officers of
    /// a module that is declared good for more than level 1.
    fn demands_signatures(&self) -> bool {
        self.signed_settings || self.backend.declared_level() > Level::One
    }

    /// Obeys this configuration if those have signed it who may, once the module has started with it.
    ///
    /// # Errors
    /// [`Trouble`]; then nothing is done.
    pub(crate) async fn obey(
        &self,
        log: &AuditLog,
        store: &Store,
        now: UnixTime,
    ) -> Result<(), Trouble> {
        let (of, brought) = (Zone::Cm.of(self.audit.name()), self.brought()?);
        let whose = (of.as_str(), self.named.as_str());
        let demanded = self.demands_signatures();
        obey(log, store, whose, demanded, &brought, now).await
    }

    /// The same before it has any effect.
    ///
    /// # Errors
    /// As [`Self::obey`].
    pub(crate) async fn judge(
        &self,
        log: &AuditLog,
        store: &Store,
        now: UnixTime,
    ) -> Result<(), Trouble> {
        let (of, brought) = (Zone::Cm.of(self.audit.name()), self.brought()?);
        let whose = (of.as_str(), self.named.as_str());
        let demanded = self.demands_signatures();
        judge(log, store, whose, demanded, &brought, now).await
    }

    /// The same of a module that hasn't begun, and so has no log that knows of anything.
    ///
    /// # Errors
    /// As [`Self::obey`].
    pub(crate) fn judge_first(&self, now: UnixTime) -> Result<(), Trouble> {
        if !self.demands_signatures() {
            return Ok(());
        }
        let (of, brought) = (Zone::Cm.of(self.audit.name()), self.brought()?);
        let whose = (of.as_str(), self.named.as_str());
        let judged = check(whose, Level::Two, None, &brought, now);
        judged.map(drop).map_err(refused_settings)
    }

    /// File with the passphrase, where one seals the root secret.
    pub(crate) fn passphrase(&self) -> Option<&Path> {
        self.passphrase_file.as_deref()
    }

    /// The root secret.
    pub(crate) fn root(&self) -> Result<RootSecret, Trouble> {
        RootSecret::new(passphrase::read(&self.root_secret, self.passphrase())?)
            .ok_or_else(|| Trouble::new("config-file", "the root secret can't be used", CHECK))
    }

    /// Public keys of the officers.
    pub(crate) fn officers(&self) -> Result<Vec<jose::Jwk>, Trouble> {
        let read = |(n, path): (usize, &PathBuf)| self.key(&format!("officers.{n}"), path);
        self.officers.iter().enumerate().map(read).collect()
    }

    /// What officers have signed when others took their place, a line each.
    pub(crate) fn officer_changes(&self) -> Result<Vec<String>, Trouble> {
        let Some(path) = &self.officer_changes else {
            return Ok(Vec::new());
        };
        let text = self.text("officer_changes", path)?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        Ok(lines.map(str::to_owned).collect())
    }

    /// CAs from which keys are taken.
    pub(crate) fn import_cas(&self) -> Result<Vec<ImportCa>, Trouble> {
        let read = |(n, file): (usize, &ImportCaFile)| {
            Ok(ImportCa {
                key: self.key(&format!("import_cas.{n}.key"), &file.key)?,
                generation: file.generation.clone(),
            })
        };
        self.import_cas.iter().enumerate().map(read).collect()
    }

    fn key(&self, name: &str, path: &Path) -> Result<jose::Jwk, Trouble> {
        serde_json::from_str(&self.text(name, path)?).map_err(|e| {
            let what = format!("{}: {e}", path.display());
            Trouble::new("bad-config", what, "give a public key as a JWK (P-256)")
        })
    }

    /// Which algorithms are approved. A table of the operator's own counts only with an officer's signature, where there are
    /// officers.
    pub(crate) fn policy(&self, officers: &[jose::Jwk]) -> Result<Policy, Trouble> {
        let policy = match &self.algorithms {
            Some(path) if officers.is_empty() => Policy::parse(&self.text("algorithms", path)?),
            Some(path) => Policy::signed(self.text("algorithms", path)?.trim(), officers),
            None => Policy::built_in(),
        };
        let policy = policy.map_err(|e| bad_table(&e))?;
        Ok(policy.experiments(self.experimental_algorithms))
    }
}

/// A key stays ready for an act's life at most.
pub(crate) fn cache_fits(module: &ModuleConfig) -> Result<(), Trouble> {
    match (0..=module.act_seconds).contains(&module.key_cache_seconds) {
        true => Ok(()),
        false => Err(Trouble::new(
            "bad-config",
            format!(
                "key_cache_seconds is 0 to {}, as long as an act may last",
                module.act_seconds
            ),
            "see the comments in the sample of this daemon",
        )),
    }
}

/// What is wrong with the table of approved algorithms.
pub(crate) fn bad_table(error: &PolicyError) -> Trouble {
    let remedy = match error {
        PolicyError::Older { .. } | PolicyError::Other(_) => {
            "give the last table; to go back, sign the old content with the next version (sign-algorithms)"
        }
        PolicyError::Loosens => "let a second officer sign it too (sign-algorithms), a line each",
        PolicyError::Table(_) | PolicyError::Unsigned => {
            "check the table of approved algorithms, and let an officer sign it (sign-algorithms)"
        }
    };
    Trouble::new("bad-config", error.to_string(), remedy)
}

/// What is wrong with the officers.
pub(crate) fn bad_officers(error: OfficersError) -> Trouble {
    let remedy = match error {
        OfficersError::TooFew => "name the keys of at least two officers (officer-key) in officers",
        OfficersError::Changed { .. } => {
            "name the officers of that list again; or let two of them sign the new list under the next version (approve-officers), and \
             name the file with their lines in officer_changes"
        }
        OfficersError::NotApproved => {
            "let two officers of the list before sign the same new list (approve-officers), a line each in officer_changes"
        }
        OfficersError::Gone => {
            "keep the store as it is and look for who changed it; then restore a backup, whose officers count"
        }
    };
    Trouble::new("cm-officers", error.to_string(), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What officers sign is what the daemon reads, file by file.
    #[test]
    fn every_file_that_is_read_is_signed() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (officer, _) = jose::SigningKey::generate().unwrap();
        let jwk = serde_json::to_string(officer.public()).unwrap();
        let key = write("officer.jwk", &jwk);
        let table = core_types::Approvals::default().text().to_owned();
        let table = write("table", &Policy::sign(&table, &officer).unwrap());
        let (changes, ca) = (write("changes", "a\n\nb\n"), write("ca.pem", "a CA"));
        let witness = write("witness.pub", "a key");
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../config/natsuin-cm.toml");
        let text = daemon::text(&sample).unwrap();
        let text = format!(
            "officers = ['{key}', '{key}']\nofficer_changes = '{changes}'\nalgorithms = '{table}'\n\
             import_cas = [{{ key = '{key}' }}]\n{}\n\
             [audit.witnesses]\ncosigners = [{{ url = 'https://w', key = '{witness}' }}]\npatience_seconds = 60\nmeasure = 'stop'\n",
            text.replace("/etc/natsuin/zones-ca.pem", &ca)
        );
        let path = dir.path().join("cm.toml");
        std::fs::write(&path, text).unwrap();
        let config = Config::load(&path).unwrap();
        let officers = config.officers().unwrap();
        config.policy(&officers).unwrap();
        config.import_cas().unwrap();
        assert_eq!(config.officer_changes().unwrap(), ["a", "b"]);
        config.witnesses().unwrap();
        let read = config.brought().unwrap().files;
        assert_eq!(
            read,
            daemon::digests(&path, cm_core::SIGNED_FILES, None).unwrap()
        );
        assert_eq!(read.len(), 8, "{read:?}");
    }

    #[test]
    fn the_sample_configuration_is_read() {
        let sample = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../../config/natsuin-cm.toml");
        let config: Config = daemon::load(&sample).unwrap();
        assert_eq!(config.listen.port(), 8501);
        // The unit lets it.
        let unit = include_str!("../../../../packaging/systemd/natsuin-cm.service");
        assert!(config.lock_memory && unit.contains("LimitMEMLOCK=infinity"));
    }

    // shows: III-A1.4.1-protect-use-disclosure
    #[test]
    fn no_key_stays_ready_for_longer_than_an_act_may_last() {
        let keeps = |key_cache_seconds| ModuleConfig {
            key_cache_seconds,
            ..ModuleConfig::new("sam", "cm-1", 1)
        };
        let longest = keeps(0).act_seconds;
        assert!(cache_fits(&keeps(0)).is_ok() && cache_fits(&keeps(longest)).is_ok());
        assert!(cache_fits(&keeps(-1)).is_err() && cache_fits(&keeps(longest + 1)).is_err());
    }
}
