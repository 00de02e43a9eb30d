//! Tables of configuration files about what leaves by mail and webhook.

use std::path::PathBuf;
use std::time::Duration;

use core_types::SecretBytes;
use notify::NotifyError;
use notify::mail::{MailConfig, MailTls, Mailer};
use notify::webhook::{PATIENCE, Target, Webhooks};
use serde::Deserialize;
use service_kit::{Trouble, daemon};

/// The table `[mail]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MailTable {
    host: String,
    port: u16,
    tls: Protection,
    /// CAs that the server's certificate leads to (PEM).
    ca: Option<PathBuf>,
    /// Name there, with a file that holds the password.
    user: Option<String>,
    password: Option<PathBuf>,
    from: String,
    /// To whom, where that isn't another's to say.
    #[serde(default)]
    pub(crate) to: Vec<String>,
}

/// How the connection to the mail server is protected.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Protection {
    Implicit,
    StartTls,
    None,
}

impl MailTable {
    /// `check`: what to do when it can't be used.
    ///
    /// # Errors
    /// [`Trouble`].
    pub(crate) fn mailer(&self, check: &'static str) -> Result<Mailer, Trouble> {
        let login = match (&self.user, &self.password) {
            (Some(user), Some(file)) => {
                let password = daemon::text(file)?.trim_end().to_owned();
                Some((user.clone(), SecretBytes::from(password)))
            }
            _ => None,
        };
        let config = MailConfig {
            host: self.host.clone(),
            port: self.port,
            tls: match self.tls {
                Protection::Implicit => MailTls::Implicit,
                Protection::StartTls => MailTls::StartTls,
                Protection::None => MailTls::None,
            },
            ca_pem: self.ca.as_deref().map(daemon::text).transpose()?,
            login,
            from: self.from.clone(),
        };
        Mailer::new(&config).map_err(|e| bad(&e, check))
    }
}

/// A table `[[webhook]]`, or one that is but one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookTable {
    pub(crate) url: String,
    /// File with 32 bytes that the receiver knows too.
    secret: PathBuf,
    /// CA certificates to trust (PEM).
    ca: Option<PathBuf>,
    /// The receiver is on this machine or in a private network.
    #[serde(default)]
    private: bool,
    /// Longest time for one message.
    patience_seconds: Option<u32>,
}

impl WebhookTable {
    /// As [`MailTable::mailer`].
    ///
    /// # Errors
    /// [`Trouble`].
    pub(crate) fn hook(&self, check: &'static str) -> Result<(Target, Webhooks), Trouble> {
        let secret = daemon::secret32(&self.secret)?;
        let target = Target::new(&self.url, secret, self.private).map_err(|e| bad(&e, check))?;
        let ca = self.ca.as_deref().map(daemon::text).transpose()?;
        let patience = self.patience_seconds.map(|n| Duration::from_secs(n.into()));
        let hooks = Webhooks::new(ca, patience.unwrap_or(PATIENCE)).map_err(|e| bad(&e, check))?;
        Ok((target, hooks))
    }
}

fn bad(error: &NotifyError, check: &'static str) -> Trouble {
    Trouble::new("bad-config", error.to_string(), check)
}
