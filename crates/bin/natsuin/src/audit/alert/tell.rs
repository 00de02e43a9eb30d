//! The ways in which notices leave: each with its own queue, none able to hold up another for long.

use audit_alert::{Notice, mail, webhook};
use core_types::bytes::hex;
use core_types::{UnixTime, sha256};
use notify::NotifyError;
use notify::mail::Mailer;
use notify::webhook::{Target, Webhooks};
use service_kit::Trouble;

use super::CHECK;
use crate::outgoing::{MailTable, WebhookTable};

/// Notices that wait for one way; of more, the oldest are given up.
const MOST_WAITING: usize = 1000;

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
    let mut ways = Vec::new();
    if let Some(table) = mail {
        if table.to.is_empty() {
            let what = "mail without receivers: name them as mail.to";
            return Err(Trouble::new("bad-config", what, CHECK));
        }
        let mailer = table.mailer(CHECK)?;
        ways.extend(table.to.iter().map(|to| Teller {
            name: format!("mail to {to}"),
            way: Way::Mail(Box::new(mailer.clone()), to.clone()),
        }));
    }
    for table in webhooks {
        let (target, hooks) = table.hook(CHECK)?;
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
