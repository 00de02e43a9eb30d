//! `natsuin courier`: brings one-time codes and notices from the SAM to signers, by mail and by a signed webhook of whoever sends
//! short messages. A process of the SAM's own zone: it takes calls of the SAM's certificate only, keeps nothing, and the SSA is not on
//! this way.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::{Clock, Random};
use notify::NotifyError;
use notify::mail::{MailConfig, MailTls, Mailer};
use notify::webhook::{Target, Webhooks};
use sam_api::Refusal;
use sam_api::delivery::{Deliver, DeliverRequest, Tell, TellRequest};
use sam_api::ssa::{Empty, Happened, HistoryEntry};
use sap::enrol::{CodeAddress, NoticeLanguage};
use serde::Deserialize;
use serde_json::json;
use service_kit::daemon::{self, TlsFiles};
use service_kit::{Peer, Routes, Shutdown, Trouble, bind, serve, tls};
use web_ui::{Arg, Lang, Messages};

use crate::outgoing::{MailTable, WebhookTable};
use crate::output::{Exit, Failure, Out};

const CHECK: &str = "compare with config/natsuin-courier.toml";
/// Longest subject in bytes; a mailer takes no longer one.
const MAX_SUBJECT: usize = 400;
/// Longest request in bytes.
const LIMIT: usize = 64 * 1024;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    listen: SocketAddr,
    service: String,
    /// Whom to ask, in notices.
    #[serde(default)]
    contact: String,
    sams: Vec<String>,
    tls: TlsFiles,
    mail: Option<MailTable>,
    phone: Option<WebhookTable>,
}

/// Brings codes.
pub(crate) struct Courier {
    /// Name of the service in messages.
    pub(crate) service: String,
    /// Whom to ask, as the operator wrote it: a line of text, or nothing.
    pub(crate) contact: String,
    /// Names in the certificates of those who may send.
    pub(crate) sams: Vec<String>,
    pub(crate) ways: Ways,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
}

/// How codes leave.
pub(crate) enum Ways {
    /// To whom they are for.
    Out {
        mail: Option<Box<Mailer>>,
        phone: Option<Box<(Target, Webhooks)>>,
    },
    /// Development: a line of JSON in a file for each code, and in another for each notice.
    Files { codes: PathBuf, notices: PathBuf },
}

impl Ways {
    /// Of a development stack: into files, or to a mail server on this machine.
    ///
    /// # Errors
    /// [`Trouble`].
    pub(crate) fn development(
        port: Option<u16>,
        codes: PathBuf,
        notices: PathBuf,
    ) -> Result<Self, Trouble> {
        let Some(port) = port else {
            return Ok(Self::Files { codes, notices });
        };
        let mailer = Mailer::new(&MailConfig {
            host: "127.0.0.1".to_owned(),
            port,
            tls: MailTls::None,
            ca_pem: None,
            login: None,
            from: "Natsuin <no-reply@natsuin.localhost>".to_owned(),
        });
        let mailer = mailer.map_err(|e| Trouble::new("mail", e.to_string(), CHECK))?;
        Ok(Self::Out {
            mail: Some(Box::new(mailer)),
            phone: None,
        })
    }
}

/// Brings codes until interrupted.
///
/// # Errors
/// [`Failure`] when configuration or socket can't be used.
pub async fn run(file: &Path, out: Out) -> Result<Exit, Failure> {
    let config: Config = daemon::load(file)?;
    if config.mail.as_ref().is_some_and(|mail| !mail.to.is_empty()) {
        let what = "mail.to: to whom a code goes is the registration authority's to say";
        return Err(Trouble::new("bad-config", what, CHECK).into());
    }
    let mail = config.mail.as_ref().map(|mail| mail.mailer(CHECK));
    let phone = config.phone.as_ref().map(|phone| phone.hook(CHECK));
    let courier = Courier {
        service: config.service,
        contact: config.contact,
        sams: config.sams,
        ways: Ways::Out {
            mail: mail.transpose()?.map(Box::new),
            phone: phone.transpose()?.map(Box::new),
        },
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
    };
    let mutual = tls::mutual_server(&config.tls.identity()?, &config.tls.ca_pem()?)?;
    let interrupted = daemon::interrupted();
    let (stop, shutdown) = Shutdown::new();
    let listener = bind(config.listen).await?;
    let running = serve(listener, router(courier), Some(mutual), shutdown)?;
    let addr = running.addr.to_string();
    out.say(&addr);
    out.object(&json!({ "schema": "natsuin.courier/1", "ok": true, "listen": addr }));
    interrupted.await;
    drop(stop);
    running.stopped().await;
    Ok(Exit::Good)
}

/// Both methods there are.
pub(crate) fn router(courier: Courier) -> Router {
    Routes::new(Arc::new(courier), LIMIT)
        .method::<Deliver, _, _>(|courier, peer, request| async move {
            courier.deliver(&peer, request).await
        })
        .method::<Tell, _, _>(
            |courier, peer, request| async move { courier.tell(&peer, request).await },
        )
        .into_router()
}

impl Courier {
    async fn deliver(&self, peer: &Peer, request: DeliverRequest) -> Result<Empty, Refusal> {
        self.admit(peer)?;
        match self.bring(&request).await {
            Ok(()) => Ok(Empty {}),
            Err(error) => {
                tracing::error!(%error, "a code couldn't be brought");
                Err(Refusal::NotNow)
            }
        }
    }

    async fn tell(&self, peer: &Peer, request: TellRequest) -> Result<Empty, Refusal> {
        self.admit(peer)?;
        let (subject, text) = self.letter(&request);
        let done = match &self.ways {
            Ways::Files { notices, .. } => {
                let at = self.clock.now().rfc3339();
                let line =
                    json!({ "to": request.to.mail, "subject": subject, "text": text, "at": at });
                let written = append(notices, &format!("{line}\n"));
                written.map_err(|e| NotifyError::Later(e.to_string()))
            }
            Ways::Out { mail: None, .. } => {
                Err(NotifyError::Settings("no way for notices".to_owned()))
            }
            Ways::Out {
                mail: Some(mail), ..
            } => mail.send(&request.to.mail, &subject, &text).await,
        };
        done.map(|()| Empty {}).map_err(|error| {
            tracing::error!(notice = %request.notice, %error, "a notice couldn't be brought");
            match error {
                NotifyError::Address(_) | NotifyError::Refused(_) => Refusal::Invalid {
                    member: "to".to_owned(),
                },
                NotifyError::Settings(_) | NotifyError::Later(_) => Refusal::NotNow,
            }
        })
    }

    fn admit(&self, peer: &Peer) -> Result<(), Refusal> {
        if self.sams.contains(&peer.name) {
            return Ok(());
        }
        tracing::warn!(
            peer = peer.name,
            "nothing of somebody who is no SAM was brought"
        );
        Err(Refusal::NotFound)
    }

    /// Subject and text of a notice, in the person's language, or both. Nothing in it comes from a person, an application or the
    /// SSA, and there is no link: what it asks for is to open the portal as always.
    fn letter(&self, request: &TellRequest) -> (String, String) {
        let langs = match request.to.lang {
            Some(NoticeLanguage::Ja) => &[Lang::Ja][..],
            Some(NoticeLanguage::En) => &[Lang::En],
            None => &[Lang::Ja, Lang::En],
        };
        let parts: Vec<_> = langs.iter().map(|lang| Messages::new(*lang)).collect();
        let subject: Vec<_> = parts
            .iter()
            .map(|words| words.f("notice-mail-subject", &[self.name(words, request)]))
            .collect();
        let text: Vec<_> = parts
            .iter()
            .map(|words| self.body(words, request))
            .collect();
        // Long names of a tenant leave room for one language.
        let both = subject.join(" / ");
        let subject = match both.len() <= MAX_SUBJECT {
            true => both,
            false => subject.into_iter().next().unwrap_or_default(),
        };
        (subject, text.join("\n\n----\n\n"))
    }

    /// The service's name: the tenant's, as it stands in the SAM's configuration, or that of this courier.
    fn name<'a>(&'a self, words: &Messages, request: &'a TellRequest) -> (&'a str, Arg<'a>) {
        let brand = request.brand.as_ref();
        let name = brand.map_or(self.service.as_str(), |brand| {
            brand.name(words.lang == Lang::Ja)
        });
        ("service", Arg::Own(name))
    }

    fn body(&self, words: &Messages, request: &TellRequest) -> String {
        let mut text = words.f("notice-mail-lead", &[self.name(words, request)]);
        text.push('\n');
        for entry in &request.entries {
            text.push_str(&thing(words, entry));
        }
        text.push('\n');
        text.push_str(&words.t(ending(&request.entries)));
        if !self.contact.is_empty() {
            let contact = [("contact", Arg::Own(self.contact.as_str()))];
            text.push('\n');
            text.push_str(&words.f("notice-mail-contact", &contact));
        }
        text.push('\n');
        text.push_str(&words.t("notice-mail-never"));
        text.push('\n');
        text
    }

    async fn bring(&self, request: &DeliverRequest) -> Result<(), NotifyError> {
        let code = String::from_utf8_lossy(request.code.expose());
        let none = |way: &str| NotifyError::Settings(format!("no way for codes by {way}"));
        let now = self.clock.now();
        match (&self.ways, &request.to) {
            (Ways::Files { codes, .. }, to) => {
                let line = json!({ "to": to, "code": code, "client": request.client, "at": now.rfc3339() });
                append(codes, &format!("{line}\n")).map_err(|e| NotifyError::Later(e.to_string()))
            }
            (Ways::Out { mail, .. }, CodeAddress::Mail(to)) => {
                let mail = mail.as_ref().ok_or_else(|| none("mail"))?;
                let subject = self.line("code-mail-subject", &code, request, " / ");
                let text = self.line("code-mail-text", &code, request, "\n\n");
                mail.send(to, &subject, &text).await
            }
            (Ways::Out { phone, .. }, CodeAddress::Phone(to)) => {
                let (target, hooks) = phone.as_deref().ok_or_else(|| none("phone"))?;
                let text = self.line("code-mail-text", &code, request, "\n");
                let body = json!({ "type": "one-time-code", "to": to, "text": text });
                let id = self.random.digest32().to_string();
                hooks
                    .post(target, &id, now, body.to_string().into_bytes())
                    .await
            }
        }
    }

    /// In both languages: nobody knows which is the signer's.
    fn line(&self, id: &str, code: &str, request: &DeliverRequest, between: &str) -> String {
        let minutes = u64::try_from(request.life / 60).unwrap_or_default();
        let values = [
            ("service", Arg::Own(self.service.as_str())),
            ("client", Arg::Text(request.client.as_str())),
            ("code", Arg::Own(code)),
            ("n", Arg::Num(minutes)),
        ];
        [Lang::Ja, Lang::En]
            .map(|lang| Messages::new(lang).f(id, &values))
            .join(between)
    }
}

/// What a notice ends with: whom a date reminds, nobody has attacked.
fn ending(entries: &[HistoryEntry]) -> &'static str {
    let reminds = |entry: &HistoryEntry| entry.what == Happened::CertificateEnding;
    match !entries.is_empty() && entries.iter().all(reminds) {
        true => "notice-mail-reminder",
        false => "notice-mail-not-you",
    }
}

/// One thing that happened, with what it is about and why.
fn thing(words: &Messages, entry: &HistoryEntry) -> String {
    let time = words.time(entry.at);
    let mut text = format!("\n{time}\n  {}\n", words.t(entry.what.message()));
    if let Some(cause) = entry.cause {
        let gone = matches!(entry.what, Happened::Destroyed | Happened::HandedOver);
        let why = words.f(cause.message(gone), &[("time", Arg::Own(&time))]);
        text.push_str(&format!("  {why}\n"));
    }
    let key = entry
        .key
        .as_ref()
        .map(|key| ("notice-mail-key", key.as_str()));
    let factor = entry.factor.as_ref();
    let factor = factor.map(|factor| ("notice-mail-factor", factor.as_str()));
    for (id, name) in key.into_iter().chain(factor) {
        text.push_str(&format!("  {}\n", words.f(id, &[("id", Arg::Own(name))])));
    }
    text
}

/// For development alone.
fn append(file: &Path, line: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.create(true).append(true).mode(0o600).open(file)?;
    file.write_all(line.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reminder_asks_nobody_to_stop_their_keys() {
        let entry = |what| HistoryEntry {
            at: core_types::UnixTime(1_800_000_000),
            what,
            key: None,
            factor: None,
            act: None,
            proposal: None,
            cause: None,
        };
        let (ends, stopped) = (
            entry(Happened::CertificateEnding),
            entry(Happened::Suspended),
        );
        assert_eq!(
            ending(&[ends.clone(), ends.clone()]),
            "notice-mail-reminder"
        );
        for entries in [vec![stopped.clone()], vec![ends, stopped], Vec::new()] {
            assert_eq!(ending(&entries), "notice-mail-not-you");
        }
        for lang in Lang::ALL {
            let words = Messages::new(lang);
            assert!(words.has("notice-mail-reminder"));
        }
    }
}
