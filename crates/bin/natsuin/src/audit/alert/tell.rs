//! The ways in which notices leave: each with its own queue, none able to hold up another for long.

use std::path::PathBuf;
use std::time::Duration;

use audit_alert::{Notice, mail, webhook};
use core_types::bytes::hex;
use core_types::{SecretBytes, UnixTime, sha256};
use notify::NotifyError;
use notify::mail::{MailConfig, MailTls, Mailer};
use notify::webhook::{PATIENCE, Target, Webhooks};
use serde::Deserialize;
use service_kit::{Trouble, daemon};

use super::CHECK;

/// Notices that wait for one way; of more, the oldest are given up.
const MOST_WAITING: usize = 1000;

/// The table `[mail]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MailTable {
    host: String,
    port: u16,
    tls: Protection,
    /// CAs that the server's certificate leads to (PEM).
    ca: Option<PathBuf>,
    /// Name there, with a file that holds the password.
    user: Option<String>,
    password: Option<PathBuf>,
    from: String,
    to: Vec<String>,
}

/// How the connection to the mail server is protected.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Protection {
    Implicit,
    StartTls,
    None,
}

/// A table `[[webhook]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WebhookTable {
    url: String,
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

/// A way to tell.
pub(super) struct Teller {
    name: String,
    way: Way,
}

enum Way {
    Mail(Box<Mailer>, String),
    Webhook(Box<Target>, Webhooks),
}

/// The ways that are configured: one for each receiver, so that none gets twice what another couldn't take.
pub(super) fn ways(
    mail: Option<&MailTable>,
    webhooks: &[WebhookTable],
) -> Result<Vec<Teller>, Trouble> {
    let bad = |e: NotifyError| Trouble::new("bad-config", e.to_string(), CHECK);
    let mut ways = Vec::new();
    if let Some(table) = mail {
        let login = match (&table.user, &table.password) {
            (Some(user), Some(file)) => {
                let password = daemon::text(file)?.trim_end().to_owned();
                Some((user.clone(), SecretBytes::from(password)))
            }
            _ => None,
        };
        let config = MailConfig {
            host: table.host.clone(),
            port: table.port,
            tls: match table.tls {
                Protection::Implicit => MailTls::Implicit,
                Protection::StartTls => MailTls::StartTls,
                Protection::None => MailTls::None,
            },
            ca_pem: table.ca.as_deref().map(daemon::text).transpose()?,
            login,
            from: table.from.clone(),
        };
        let mailer = Mailer::new(&config).map_err(bad)?;
        ways.extend(table.to.iter().map(|to| Teller {
            name: format!("mail to {to}"),
            way: Way::Mail(Box::new(mailer.clone()), to.clone()),
        }));
    }
    for table in webhooks {
        let secret = daemon::secret32(&table.secret)?;
        let target = Target::new(&table.url, secret, table.private).map_err(bad)?;
        let ca = table.ca.as_deref().map(daemon::text).transpose()?;
        let patience = table
            .patience_seconds
            .map(|n| Duration::from_secs(n.into()));
        let hooks = Webhooks::new(ca, patience.unwrap_or(PATIENCE)).map_err(bad)?;
        ways.push(Teller {
            name: table.url.clone(),
            way: Way::Webhook(Box::new(target), hooks),
        });
    }
    Ok(ways)
}

impl Teller {
    /// Under which notices wait for it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Tells them in order; answers what may be told later, from the first that wasn't. What a receiver refuses for good is
    /// given up.
    pub(super) async fn tell(
        &self,
        service: &str,
        mut notices: Vec<Notice>,
        now: UnixTime,
    ) -> Vec<Notice> {
        let mut done = 0;
        while let Some(notice) = notices.get(done) {
            if let Err(error) = self.one(service, notice, now).await {
                tracing::error!(way = self.name, %error, "a notice couldn't be delivered");
                if error.is_transient() {
                    break;
                }
            }
            done += 1;
        }
        let many = (notices.len() - done).saturating_sub(MOST_WAITING);
        notices.drain(..done + many);
        notices
    }

    async fn one(&self, service: &str, notice: &Notice, now: UnixTime) -> Result<(), NotifyError> {
        match &self.way {
            Way::Mail(mailer, to) => {
                let (subject, text) = mail(service, notice);
                mailer.send(to, &subject, &text).await
            }
            Way::Webhook(target, hooks) => {
                let body = webhook(service, notice).into_bytes();
                hooks.post(target, &id(notice), now, body).await
            }
        }
    }
}

/// The same for every try, so that a receiver can tell a repetition.
fn id(notice: &Notice) -> String {
    let text = serde_json::to_vec(notice).unwrap_or_default();
    hex(&sha256(&[&text]).0[..16])
}
