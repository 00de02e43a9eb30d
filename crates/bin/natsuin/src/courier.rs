//! `natsuin courier`: brings one-time codes from the SAM to signers, by mail and by a signed webhook of whoever sends short
//! messages. A process of the SAM's own zone: it takes calls of the SAM's certificate only, keeps nothing, and the SSA is not on
//! this way.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::{Clock, Random};
use notify::NotifyError;
use notify::mail::Mailer;
use notify::webhook::{Target, Webhooks};
use sam_api::Refusal;
use sam_api::delivery::{Deliver, DeliverRequest};
use sam_api::ssa::Empty;
use sap::enrol::CodeAddress;
use serde::Deserialize;
use serde_json::json;
use service_kit::daemon::{self, TlsFiles};
use service_kit::{Peer, Routes, Shutdown, Trouble, bind, serve, tls};
use web_ui::{Arg, Lang, Messages};

use crate::outgoing::{MailTable, WebhookTable};
use crate::output::{Exit, Failure, Out};

const CHECK: &str = "compare with config/natsuin-courier.toml";
/// Longest request in bytes.
const LIMIT: usize = 4096;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    listen: SocketAddr,
    service: String,
    sams: Vec<String>,
    tls: TlsFiles,
    mail: Option<MailTable>,
    phone: Option<WebhookTable>,
}

/// Brings codes.
pub(crate) struct Courier {
    /// Name of the service in messages.
    pub(crate) service: String,
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
    /// Development: a line of JSON in this file for each.
    File(PathBuf),
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
        sams: config.sams,
        ways: Ways::Out {
            mail: mail.transpose()?.map(Box::new),
            phone: phone.transpose()?.map(Box::new),
        },
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
    };
    let mutual = tls::mutual_server(&config.tls.identity()?, &config.tls.ca_pem()?)?;
    let (stop, shutdown) = Shutdown::new();
    let listener = bind(config.listen).await?;
    let running = serve(listener, router(courier), Some(mutual), shutdown)?;
    let addr = running.addr.to_string();
    out.say(&addr);
    out.object(&json!({ "schema": "natsuin.courier/1", "ok": true, "listen": addr }));
    daemon::interrupted().await;
    drop(stop);
    running.stopped().await;
    Ok(Exit::Good)
}

/// The one method there is.
pub(crate) fn router(courier: Courier) -> Router {
    Routes::new(Arc::new(courier), LIMIT)
        .method::<Deliver, _, _>(|courier, peer, request| async move {
            courier.deliver(&peer, request).await
        })
        .into_router()
}

impl Courier {
    async fn deliver(&self, peer: &Peer, request: DeliverRequest) -> Result<Empty, Refusal> {
        if !self.sams.contains(&peer.name) {
            tracing::warn!(
                peer = peer.name,
                "a code of somebody who is no SAM was not brought"
            );
            return Err(Refusal::NotFound);
        }
        match self.bring(&request).await {
            Ok(()) => Ok(Empty {}),
            Err(error) => {
                tracing::error!(%error, "a code couldn't be brought");
                Err(Refusal::NotNow)
            }
        }
    }

    async fn bring(&self, request: &DeliverRequest) -> Result<(), NotifyError> {
        let code = String::from_utf8_lossy(request.code.expose());
        let none = |way: &str| NotifyError::Settings(format!("no way for codes by {way}"));
        let now = self.clock.now();
        match (&self.ways, &request.to) {
            (Ways::File(file), to) => {
                let line = json!({ "to": to, "code": code, "client": request.client, "at": now.rfc3339() });
                append(file, &format!("{line}\n")).map_err(|e| NotifyError::Later(e.to_string()))
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

/// For development alone.
fn append(file: &Path, line: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.create(true).append(true).mode(0o600).open(file)?;
    file.write_all(line.as_bytes())
}
