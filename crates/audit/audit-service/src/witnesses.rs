//! Witnesses as a daemon's configuration names them, reached through mutual TLS.

use std::path::PathBuf;

use audit_log::{Answer, Asking, AuditError, Carrier, Measure, Witness, Witnesses};
use serde::Deserialize;
use service_kit::http::HttpOptions;
use service_kit::{Client, Trouble, daemon};

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
    /// The witnesses, with clients to reach them. `options`: own identity and the CA of the witnesses.
    ///
    /// # Errors
    /// [`Trouble`] when a key can't be read or used.
    pub fn open(&self, options: &HttpOptions) -> Result<Witnesses, Trouble> {
        let cosigners = self.cosigners.iter().map(|witness| {
            let vkey = daemon::text(&witness.key)?;
            reach(&vkey, &witness.url, options)
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
