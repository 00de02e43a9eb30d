//! Mail by SMTP (RFC 5321), plain text.

use std::time::Duration;

use core_types::SecretBytes;
use core_types::net::is_localhost;
use lettre::message::header::ContentType;
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{
    Certificate, CertificateStore, Tls, TlsParameters, TlsVersion,
};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};

use crate::NotifyError;

/// How long a mail server may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest subject in bytes.
const MAX_SUBJECT: usize = 400;

/// How the connection to the mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailTls {
    /// TLS from the first byte (RFC 8314 §3), usually port 465.
    Implicit,
    /// STARTTLS, and nothing goes out before it (RFC 3207), usually port 587.
    StartTls,
    /// None: to a mail server on this machine only.
    None,
}

/// A mail server.
#[derive(Debug, Clone)]
pub struct MailConfig {
    /// Name of the server, as in its certificate.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Protection of the connection.
    pub tls: MailTls,
    /// PEM of the CAs that its certificate leads to.
    pub ca_pem: Option<String>,
    /// Name and password there.
    pub login: Option<(String, SecretBytes)>,
    /// Sender, such as `Natsuin <no-reply@sign.example.jp>`.
    pub from: String,
}

/// Sends mail through one server.
#[derive(Debug, Clone)]
pub struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl Mailer {
    /// Doesn't connect yet.
    ///
    /// # Errors
    /// [`NotifyError::Settings`], also for a server elsewhere without TLS.
    pub fn new(config: &MailConfig) -> Result<Self, NotifyError> {
        let bad = |what: String| NotifyError::Settings(what);
        let from = config.from.parse();
        let from = from.map_err(|e| bad(format!("the sender {:?}: {e}", config.from)))?;
        let tls = || {
            let mut parameters = TlsParameters::builder(config.host.clone())
                .certificate_store(CertificateStore::None)
                .set_min_tls_version(TlsVersion::Tlsv12);
            for certificate in certificates(config.ca_pem.as_deref().unwrap_or_default())? {
                parameters = parameters.add_root_certificate(certificate);
            }
            let built = parameters.build_rustls();
            built.map_err(|e| bad(format!("TLS to the mail server: {e}")))
        };
        let tls = match config.tls {
            MailTls::Implicit => Tls::Wrapper(tls()?),
            MailTls::StartTls => Tls::Required(tls()?),
            MailTls::None if is_localhost(&config.host) || config.host == "127.0.0.1" => Tls::None,
            MailTls::None => {
                return Err(bad(format!(
                    "mail to {} goes without TLS: use implicit or start-tls",
                    config.host
                )));
            }
        };
        service_kit::tls::install_provider();
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&config.host)
            .port(config.port)
            .tls(tls)
            .timeout(Some(PATIENCE));
        if let Some((name, password)) = &config.login {
            let password = String::from_utf8(password.expose().to_vec());
            let password = password.map_err(|_| bad("the mail password isn't text".to_owned()))?;
            transport = transport.credentials(Credentials::new(name.clone(), password));
        }
        Ok(Self {
            transport: transport.build(),
            from,
        })
    }

    /// Sends one mail to one address.
    ///
    /// # Errors
    /// [`NotifyError`]; [`NotifyError::Later`] when the server can't be reached or asks for patience.
    pub async fn send(&self, to: &str, subject: &str, text: &str) -> Result<(), NotifyError> {
        let address = to.parse();
        let address = address.map_err(|_| NotifyError::Address(to.escape_debug().to_string()))?;
        if subject.len() > MAX_SUBJECT || subject.chars().any(char::is_control) {
            return Err(NotifyError::Settings(
                "a subject is one short line".to_owned(),
            ));
        }
        let message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, address))
            .subject(subject)
            .header(ContentType::TEXT_PLAIN)
            .body(text.to_owned())
            .map_err(|e| NotifyError::Settings(e.to_string()))?;
        let sent = self.transport.send(message).await;
        sent.map(drop).map_err(|error| match error.is_permanent() {
            true => NotifyError::Refused(error.to_string()),
            false => NotifyError::Later(error.to_string()),
        })
    }
}

fn certificates(pem: &str) -> Result<Vec<Certificate>, NotifyError> {
    const END: &str = "-----END CERTIFICATE-----";
    let parts = pem.split_inclusive(END).filter(|part| part.contains(END));
    parts
        .map(|part| {
            Certificate::from_pem(part.as_bytes())
                .map_err(|e| NotifyError::Settings(format!("a CA of the mail server: {e}")))
        })
        .collect()
}
