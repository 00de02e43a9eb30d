//! Witnesses as a daemon's configuration names them, reached through mutual TLS.

use std::path::PathBuf;
use std::sync::OnceLock;

use audit_log::{Answer, Asking, AuditError, Carrier, Measure, Witness, Witnesses};
use serde::Deserialize;
use service_kit::daemon::{CHECK, FilesRead};
use service_kit::http::HttpOptions;
use service_kit::{Client, Trouble};

/// The table `[audit.witnesses]` of a daemon.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessesConfig {
    /// Who cosigns.
    pub cosigners: Vec<WitnessConfig>,
    /// How long one may stay away, in seconds.
    pub patience_seconds: u32,
    /// What then: `stop` or `alert`.
    pub measure: MeasureConfig,
}

/// A witness.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessConfig {
    /// Its address, scheme, host and port.
    pub url: String,
    /// File with its public key, as it shows it.
    pub key: PathBuf,
    /// What that file said when it was read.
    #[serde(skip)]
    vkey: OnceLock<String>,
}

/// What to do when a witness doesn't cosign.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MeasureConfig {
    /// Record and alert; the zone goes on.
    Alert,
    /// The zone stops.
    Stop,
}

impl WitnessesConfig {
    /// Whether there is somebody without whom the zone stops.
    pub(crate) fn stop(&self) -> bool {
        matches!(self.measure, MeasureConfig::Stop) && !self.cosigners.is_empty()
    }

    /// Reads the keys that weren't read so far, under the names of their members. `place`: of this table.
    pub(crate) fn read(&self, place: &str, files: &mut FilesRead) -> Result<(), Trouble> {
        for (n, witness) in self.cosigners.iter().enumerate() {
            if witness.vkey.get().is_none() {
                let text = files.text(&format!("{place}.cosigners.{n}.key"), &witness.key)?;
                witness.vkey.get_or_init(|| text);
            }
        }
        Ok(())
    }

    /// The witnesses, with clients to reach them. `options`: own identity and the CA of the witnesses.
    ///
    /// # Errors
    /// [`Trouble`] when a key wasn't read or can't be used.
    pub(crate) fn open(&self, options: &HttpOptions) -> Result<Witnesses, Trouble> {
        let cosigners = self.cosigners.iter().map(|witness| {
            let vkey = witness.vkey.get().ok_or_else(|| {
                let what = format!("{} wasn't read with the settings", witness.key.display());
                Trouble::new("config-file", what, CHECK)
            })?;
            reach(vkey, &witness.url, options)
        });
        Ok(Witnesses {
            cosigners: cosigners.collect::<Result<_, _>>()?,
            patience: self.patience_seconds.into(),
            measure: match self.measure {
                MeasureConfig::Alert => Measure::Alert,
                MeasureConfig::Stop => Measure::Stop,
            },
        })
    }
}

/// The witness with this public key at this address.
///
/// # Errors
/// [`Trouble`] when key or TLS material can't be used.
pub fn reach(vkey: &str, url: &str, options: &HttpOptions) -> Result<Witness, Trouble> {
    let base = url.trim_end_matches('/').to_owned();
    let carrier = Reached(Client::new(base, options)?);
    Witness::new(vkey, Box::new(carrier)).map_err(|e: AuditError| {
        let remedy = "take the key that the witness shows when it starts";
        Trouble::new("witness-key", e.to_string(), remedy)
    })
}

struct Reached(Client);

impl Carrier for Reached {
    fn add_checkpoint(&self, body: String) -> Asking<'_> {
        Box::pin(async move {
            let answer = self.0.forward("/add-checkpoint", body.into_bytes()).await;
            let (status, body) = answer.ok()?;
            Some(Answer { status, body })
        })
    }
}
