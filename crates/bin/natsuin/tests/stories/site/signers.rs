//! Two who sign the configurations of a site's zones.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::kit::{natsuin, run, text};
use crate::site::secret;

/// Their keys, each in a file of its own.
pub struct Signers {
    keys: [PathBuf; 2],
    /// Public keys (JWK).
    pub public: [PathBuf; 2],
    /// Number of the last configuration that they signed.
    serial: AtomicU64,
}

impl Signers {
    /// Makes keys in this directory.
    pub fn new(dir: &Path) -> Self {
        let keys = [1, 2].map(|n| dir.join(format!("signer-{n}.key")));
        let public = [1, 2].map(|n| dir.join(format!("signer-{n}.jwk")));
        for (key, jwk) in keys.iter().zip(&public) {
            let (made, private) = jose::SigningKey::generate().unwrap();
            secret(key, private.expose());
            std::fs::write(jwk, serde_json::to_string(made.public()).unwrap()).unwrap();
        }
        Self {
            keys,
            public,
            serial: AtomicU64::new(0),
        }
    }

    /// Both sign what a zone is configured by now.
    pub fn sign(&self, zone: &str, config: &Path) {
        let sig = config.with_added_extension("sig");
        let serial = self.serial.fetch_add(1, Ordering::Relaxed) + 1;
        let [first, second] = &self.keys;
        for (key, new, code) in [(first, true, 7), (second, false, 0)] {
            let mut sign = natsuin();
            sign.args(["config", "sign"]).arg(config);
            sign.args(["--zone", zone, "--sig"]).arg(&sig);
            sign.arg("--key").arg(key);
            if new {
                sign.args(["--serial", &serial.to_string(), "--need", "2"]);
                sign.args(["--reason", "a site of a test"]);
                for public in &self.public {
                    sign.arg("--signer").arg(public);
                }
            }
            let done = run(&mut sign);
            assert_eq!(done.status.code(), Some(code), "{}", text(&done));
        }
    }
}
