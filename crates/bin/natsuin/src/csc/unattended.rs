//! Tokens without a browser, for test stacks of this product: secrets come from files, the login form and the approval are done
//! here. The right to sign is made as in a browser: by the signer's interaction component, which believes the pinned root key and
//! not the service, and approves nothing but exactly what was asked for.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use core_types::SecretBytes;
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use csc_client::{AuthorizeParams, Callback, Client, ClientError, Pending, Provider};
use csc_types::{Purpose, SignatureAuthorization};
use reqwest::Url;
use sap::messages::Approve;
use service_kit::http::{HttpOptions, client};
use sic_core::Totp;
use web_ui::clean;

use super::browser::{ByBrowser, declined, show};
use super::given::{input, secret, unreachable};
use super::{At, Secrets};
use crate::agent::{Agent, Login};
use crate::device::{Wanted, opened, own_text, refused};
use crate::key::{root, sic_at};
use crate::output::{Exit, Failure, Out};
use crate::stack::Sic;

/// Where a code goes that nobody waits for in a browser, if the client has no other address.
const BACK: &str = "http://127.0.0.1/callback";

/// A person whose secrets are in files.
#[derive(Debug, clap::Args)]
pub struct Unattended {
    /// Login name.
    #[arg(long, value_name = "NAME", requires = "password_file")]
    user: Option<String>,
    /// File with the password. With `--client` the login form is filled in here instead of in a browser, which works at this
    /// product's own service: for test stacks.
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// With `--client`: file that keeps the login for the next command, since a one-time code counts once. Who has it is that
    /// person; it is made for its owner alone.
    #[arg(long, value_name = "FILE", requires_all = ["user", "client"])]
    session_file: Option<PathBuf>,
    /// With `--client`: where the client takes its code; nothing is sent there.
    #[arg(long, value_name = "URI", requires_all = ["user", "client"])]
    redirect_uri: Option<String>,
}

/// What an approval without a browser needs.
#[derive(Debug, clap::Args)]
pub struct Approval {
    /// Without a browser: file with the seed of the login's one-time codes, base32.
    #[arg(long, value_name = "FILE", requires = "user")]
    pub(super) login_totp_secret_file: Option<PathBuf>,
    /// Without a browser: origin of the approval page, such as `https://sign-example.jp`.
    #[arg(long, value_name = "URL", requires = "user")]
    pub(super) sic: Option<String>,
    /// Without a browser: the module's root key, a JWK in a file, from the one who enrolled you.
    #[arg(long, value_name = "JWK", requires = "user")]
    pub(super) root: Option<PathBuf>,
}

impl Unattended {
    /// Name and password.
    pub(super) fn given(&self) -> Option<(&str, &Path)> {
        Some((self.user.as_deref()?, self.password_file.as_deref()?))
    }

    fn login(&self, seed: Option<&Path>) -> Result<Login, Failure> {
        let (user, password) = self.given().ok_or_else(|| missing("--user"))?;
        let seed = seed.map(secret).transpose()?;
        Ok(Login {
            user: user.to_owned(),
            password: secret(password)?,
            totp_secret: seed.map(|seed| SecretBytes::from(seed.expose().to_owned())),
        })
    }

    /// The browser, with the login that was kept.
    fn begin(&self, agent: Agent) -> Result<Agent, Failure> {
        let Some(file) = self.session_file.as_deref().filter(|file| file.exists()) else {
            return Ok(agent);
        };
        let kept = own_text(file)?;
        agent.with_cookies(&kept).map_err(|e| input(file, &e))
    }

    fn keep(&self, agent: &Agent) -> Result<(), Failure> {
        let Some(file) = &self.session_file else {
            return Ok(());
        };
        let written = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(file)
            .and_then(|mut to| to.write_all(agent.kept().expose()));
        written.map_err(|e| input(file, &e))
    }
}

/// Scope `service`.
pub(super) async fn login(
    at: &At,
    by: &ByBrowser,
    person: &Unattended,
    seed: Option<&Path>,
    out: Out,
) -> Result<Exit, Failure> {
    let login = person.login(seed)?;
    let options = HttpOptions {
        ca_pem: Some(crate::verify::read_pem(&at.trust)?).filter(|pem| !pem.is_empty()),
        ..HttpOptions::default()
    };
    let agent = Agent::without_approval(client(&options)?, Arc::new(SystemClock));
    let mut visit = Visit::begin(at, by, person, Purpose::Service, agent).await?;
    let address = visit.pending.url.to_string();
    let back = visit.go(&address, &[], &login).await?;
    visit.end(person, &back, out).await
}

/// Scope `credential`.
pub(super) async fn authorize(
    at: &At,
    by: &ByBrowser,
    (person, approval, secrets): (&Unattended, &Approval, &Secrets),
    asked: SignatureAuthorization,
    out: Out,
) -> Result<Exit, Failure> {
    let login = person.login(approval.login_totp_secret_file.as_deref())?;
    let origin = approval.sic.as_deref().ok_or_else(|| missing("--sic"))?;
    let key = approval.root.as_deref().ok_or_else(|| missing("--root"))?;
    let sic = sic_at(root(key)?, origin, &at.trust)?;
    let (pin, totp) = factors(secrets)?;

    let credential = asked.credential_id.clone().unwrap_or_default();
    let hash = asked.hash_algorithm.ok_or_else(|| missing("--hash-algo"))?;
    let files: Vec<(String, Vec<u8>)> = asked
        .digests
        .iter()
        .enumerate()
        .map(|(n, digest)| (format!("{}", n + 1), digest.hash.clone()))
        .collect();
    let wanted = Wanted {
        credential: &credential,
        certificate: None,
        hash,
        files: &files,
    };
    let agent = Agent::without_approval(sic.http.clone(), sic.clock.clone());
    let mut visit = Visit::begin(at, by, person, Purpose::Credential(asked), agent).await?;
    let page = format!("{}/a#", sic.origin);
    let address = visit.pending.url.to_string();
    let mut there = visit.go(&address, &[&page], &login).await?;
    if let Some(rid) = there.as_str().strip_prefix(page.as_str()) {
        let code = totp.code(sic.clock.now());
        let goes_on = approve(&sic, rid, &wanted, (&pin, &code), out).await?;
        there = visit.go(&goes_on, &[], &login).await?;
    }
    visit.end(person, &there, out).await
}

/// PIN and generator of a person's own keys.
pub(super) fn factors(secrets: &Secrets) -> Result<(SecretBytes, Totp), Failure> {
    let pin = secrets.pin()?.ok_or_else(|| missing("--pin-file"))?;
    let file = secrets.totp_secret_file.as_deref();
    let file = file.ok_or_else(|| missing("--totp-secret-file"))?;
    let seed = SecretBytes::from(secret(file)?.expose().to_owned());
    let totp = Totp::from_base32(&seed).map_err(|e| input(file, &e))?;
    Ok((SecretBytes::from(pin.expose().to_owned()), totp))
}

/// Approves what is wanted, with PIN and one-time code. Returns where the browser goes on.
pub(super) async fn approve(
    sic: &Sic,
    rid: &str,
    wanted: &Wanted<'_>,
    (pin, code): (&SecretBytes, &SecretBytes),
    out: Out,
) -> Result<String, Failure> {
    let review = opened(sic, rid, wanted, out).await?;
    let now = sic.clock.now();
    let confirmed = review.confirm();
    let made = confirmed.pin_totp(pin, code, now, sic.random.as_ref());
    let request = made.map_err(|e| {
        let remedy = "give PIN and seed of a person's own key; one of explicit mode is authorized without --client";
        Failure::new(Exit::Declined, "declined", e.to_string(), remedy)
    })?;
    let answer = sic.call::<Approve>(&request).await;
    Ok(answer.map_err(|e| refused(e, out))?.return_uri)
}

/// An authorization under way.
struct Visit {
    agent: Agent,
    client: Client,
    provider: Provider,
    pending: Pending,
    redirect_uri: String,
}

impl Visit {
    async fn begin(
        at: &At,
        by: &ByBrowser,
        person: &Unattended,
        purpose: Purpose,
        agent: Agent,
    ) -> Result<Self, Failure> {
        let client = by.client(at)?;
        let provider = client.discover().await.map_err(|e| unreachable(&e))?;
        let redirect_uri = person.redirect_uri.as_deref().unwrap_or(BACK).to_owned();
        let params = AuthorizeParams {
            purpose,
            redirect_uri: &redirect_uri,
            lang: None,
            description: None,
        };
        let pending = client.authorize(&provider, &params, &SystemRandom).await;
        Ok(Self {
            agent: person.begin(agent)?,
            pending: pending.map_err(|e| unreachable(&e))?,
            client,
            provider,
            redirect_uri,
        })
    }

    /// Until the browser would come back, or to one of `targets`. Only the authorization server's own login form is filled in.
    async fn go(&mut self, url: &str, targets: &[&str], login: &Login) -> Result<Url, Failure> {
        let back = ends(&self.redirect_uri);
        let all = [targets, &[back.as_str()]].concat();
        let begun = &self.pending.url;
        let came = self.agent.log_in(url, begun, &all, login).await;
        came.map_err(|e| {
            let what = clean(&format!("{e:#}"));
            let remedy = "check name, password and seed; a one-time code counts once, and --session-file keeps a login";
            Failure::new(Exit::Declined, "login", what, remedy)
        })
    }

    /// Redeems the code and keeps the login.
    async fn end(&self, person: &Unattended, back: &Url, out: Out) -> Result<Exit, Failure> {
        person.keep(&self.agent)?;
        let callback = Callback::from_query(back.query().unwrap_or_default());
        let callback = callback.map_err(|e| unreachable(&e))?;
        let token = self
            .client
            .exchange(&self.provider, &self.pending, &callback);
        match token.await {
            Ok(token) => Ok(show(&token, out)),
            Err(error @ ClientError::Refused(_)) => Err(declined(clean(&error.to_string()))),
            Err(error) => Err(unreachable(&error)),
        }
    }
}

/// What the address begins with where the client takes its code: a longer path isn't that.
pub(super) fn ends(redirect_uri: &str) -> String {
    let next = if redirect_uri.contains('?') { '&' } else { '?' };
    format!("{redirect_uri}{next}")
}

/// An option that this use needs.
pub(super) fn missing(option: &str) -> Failure {
    Failure::new(
        Exit::Input,
        "usage",
        format!("{option} is missing"),
        "see natsuin csc login --help and natsuin csc authorize --help",
    )
}
