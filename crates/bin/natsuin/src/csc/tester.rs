//! The person of a check, at test stacks of this product: fills in the login form and approves, as `natsuin csc authorize` does it
//! without a browser.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use core_types::clock::SystemClock;
use core_types::{Clock, HashAlg, SecretBytes, UnixTime};
use csc_client::check::{Brought, Errand, Person};
use csc_types::SecretText;
use reqwest::Url;
use service_kit::http::{HttpOptions, client};
use sic_core::Totp;
use web_ui::clean;

use super::given::{secret, with_code};
use super::unattended::{Approval, approve, ends, factors, missing};
use super::{At, Secrets};
use crate::agent::{Agent, Login};
use crate::device::Wanted;
use crate::key::{root, sic_at};
use crate::output::{Exit, Failure, Out};
use crate::stack::Sic;

/// Seconds for which a one-time code is the one of the moment (RFC 6238).
const STEP: i64 = 30;

/// Somebody whose logins and approvals a check may use.
#[derive(Debug, clap::Args)]
pub struct Tester {
    /// Login name: the check logs in as this person and, for a key in OAuth mode, approves twice. Works at test stacks of this product.
    #[arg(long, value_name = "NAME", requires_all = ["password_file", "client"])]
    user: Option<String>,
    /// File with the password.
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// What approvals need, beside PIN and seed of the person's own key.
    #[command(flatten)]
    approval: Approval,
}

impl Tester {
    /// Name and password for `auth/login`, with the code of the moment behind it. The login form takes the next one.
    pub(super) fn login_call(&self) -> Result<Option<(String, SecretText)>, Failure> {
        let (Some(user), Some(password)) = (&self.user, &self.password_file) else {
            return Ok(None);
        };
        let seed = self.approval.login_totp_secret_file.as_deref();
        Ok(Some((user.clone(), with_code(secret(password)?, seed)?)))
    }

    /// Who goes to the browser.
    pub(super) fn person(
        &self,
        at: &At,
        secrets: &Secrets,
        out: Out,
    ) -> Result<Option<Walker>, Failure> {
        let Some(login) = self.login()? else {
            return Ok(None);
        };
        let (origin, key) = (&self.approval.sic, &self.approval.root);
        let sic = match (origin, key) {
            (Some(origin), Some(key)) => Some(sic_at(root(key)?, origin, &at.trust)?),
            (None, None) => None,
            (None, _) => return Err(missing("--sic")),
            (_, None) => return Err(missing("--root")),
        };
        let http = match &sic {
            Some(sic) => sic.http.clone(),
            None => {
                let pem = crate::verify::read_pem(&at.trust)?;
                let ca_pem = Some(pem).filter(|pem| !pem.is_empty());
                client(&HttpOptions {
                    ca_pem,
                    ..HttpOptions::default()
                })?
            }
        };
        let approves = match sic {
            Some(sic) => Some((sic, factors(secrets)?)),
            None => None,
        };
        Ok(Some(Walker {
            agent: Agent::without_approval(http, Arc::new(NextStep)),
            login,
            approves,
            last: 0,
            out,
        }))
    }

    fn login(&self) -> Result<Option<Login>, Failure> {
        let (Some(user), Some(password)) = (&self.user, &self.password_file) else {
            return Ok(None);
        };
        let seed = self.approval.login_totp_secret_file.as_deref();
        let seed = seed.map(secret).transpose()?;
        Ok(Some(Login {
            user: user.clone(),
            password: secret(password)?,
            totp_secret: seed.map(|seed| SecretBytes::from(seed.expose().to_owned())),
        }))
    }
}

/// What a check gets by itself, as a client or by `auth/login`, belongs to no key, and would be shown as if it did.
pub(super) fn bound_to_nothing(at: &At, client: Option<&str>) -> Result<(), Failure> {
    match (&at.dpop_key_file, client) {
        (Some(_), Some(_)) => Err(Failure::new(
            Exit::Input,
            "usage",
            "a check with --client gets tokens that belong to no key",
            "leave out --dpop-key-file, or check bound tokens with --token-file and without --client",
        )),
        _ => Ok(()),
    }
}

/// The time of the next one-time code, which servers take already, as clocks differ (RFC 6238 §5.2): that of the moment was used for
/// `auth/login`, and each counts once.
struct NextStep;

impl Clock for NextStep {
    fn now(&self) -> UnixTime {
        SystemClock.now().plus(STEP)
    }

    fn monotonic(&self) -> Duration {
        SystemClock.monotonic()
    }
}

/// A person with a browser.
pub(super) struct Walker {
    agent: Agent,
    login: Login,
    /// Where they approve, and with what.
    approves: Option<(Sic, (SecretBytes, Totp))>,
    /// The step whose code was used last.
    last: i64,
    out: Out,
}

impl Walker {
    async fn go(&mut self, url: &Url, back: &str, errand: Errand<'_>) -> Result<Url, String> {
        let back = ends(back);
        let told = |error: anyhow::Error| clean(&format!("{error:#}"));
        let (credential, hashes) = match errand {
            Errand::LogIn => {
                let targets = [back.as_str()];
                let came = self.agent.log_in(url.as_str(), url, &targets, &self.login);
                return came.await.map_err(told);
            }
            Errand::Approve { credential, hashes } => (credential, hashes),
        };
        let Some((sic, (pin, totp))) = &self.approves else {
            return Err("--sic and --root are missing: nobody here can approve".to_owned());
        };
        let page = format!("{}/a#", sic.origin);
        let targets = [page.as_str(), back.as_str()];
        let there = self.agent.log_in(url.as_str(), url, &targets, &self.login);
        let there = there.await.map_err(told)?;
        let Some(rid) = there.as_str().strip_prefix(page.as_str()) else {
            return Ok(there);
        };
        let files: Vec<(String, Vec<u8>)> = hashes
            .iter()
            .map(|hash| ("a random hash".to_owned(), hash.clone()))
            .collect();
        let wanted = Wanted {
            credential,
            certificate: None,
            hash: HashAlg::Sha256,
            files: &files,
        };
        let step = fresh_step(self.last).await;
        self.last = step;
        let code = totp.code(UnixTime(step * STEP));
        let goes_on = approve(sic, rid, &wanted, (pin, &code), self.out).await;
        let goes_on = goes_on.map_err(|failure| failure.trouble.what.clone())?;
        let home = &targets[1..];
        let came = self.agent.log_in(&goes_on, url, home, &self.login);
        came.await.map_err(told)
    }
}

/// A step whose code wasn't used yet and is taken now: this one or the next, for which is waited if need be.
async fn fresh_step(last: i64) -> i64 {
    loop {
        let now = SystemClock.now().0;
        let step = now.div_euclid(STEP).max(last + 1);
        let early = (step - 1) * STEP - now;
        match u64::try_from(early) {
            Ok(seconds @ 1..) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            _ => return step,
        }
    }
}

impl Person for Walker {
    fn bring<'a>(&'a mut self, url: &'a Url, back: &'a str, errand: Errand<'a>) -> Brought<'a> {
        Box::pin(self.go(url, back, errand))
    }
}
