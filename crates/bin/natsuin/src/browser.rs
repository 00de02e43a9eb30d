//! A person's browser at a provider: sent there, waited for on the loopback interface (RFC 8252), and its code redeemed.

use std::time::Duration;

use core_types::random::SystemRandom;
use csc_client::loopback::{Listener, PageLang};
use csc_client::{AuthorizeParams, Client, ClientError, Provider};
use csc_types::{Purpose, TokenResponse};
use web_ui::{Arg, Lang};

use crate::output::{Failure, Out};

/// How long the person may take in the browser.
const PATIENCE: Duration = Duration::from_secs(600);

/// A client at a provider, with a place to which browsers come back.
pub(crate) struct Session<'a> {
    pub(crate) client: &'a Client,
    pub(crate) provider: Provider,
    pub(crate) out: Out,
    listener: Listener,
    browser: bool,
}

/// Why there is no token.
pub(crate) enum Stopped {
    /// The person didn't want it, or didn't come.
    Declined(&'static str),
    /// The provider.
    Service(ClientError),
    /// This machine.
    Here(anyhow::Error),
}

impl<'a> Session<'a> {
    /// `browser`: one is started; otherwise its address is only printed.
    pub(crate) async fn begin(
        client: &'a Client,
        provider: Provider,
        browser: bool,
        out: Out,
    ) -> Result<Self, Failure> {
        let page = match out.lang {
            Lang::Ja => PageLang::Ja,
            Lang::En => PageLang::En,
        };
        let listener = Listener::bind(page).await;
        Ok(Self {
            client,
            provider,
            out,
            listener: listener.map_err(|e| Failure::from(anyhow::Error::from(e)))?,
            browser,
        })
    }

    /// Sends the person's browser to the service and waits for it to come back. `told`: the message that names the address.
    pub(crate) async fn authorize(
        &self,
        purpose: Purpose,
        told: &str,
    ) -> Result<TokenResponse, Stopped> {
        let redirect_uri = self.listener.redirect_uri();
        let params = AuthorizeParams {
            purpose,
            redirect_uri: &redirect_uri,
            lang: Some(self.out.lang.tag()),
            description: None,
        };
        let pending = self
            .client
            .authorize(&self.provider, &params, &SystemRandom)
            .await
            .map_err(Stopped::Service)?;
        let m = self.out.m();
        self.out
            .note(&m.f(told, &[("url", Arg::Own(pending.url.as_str()))]));
        if self.browser && !open(pending.url.as_str()) {
            self.out.note(&m.t("cli-no-browser"));
        }
        let waited = tokio::time::timeout(PATIENCE, self.listener.wait(&pending)).await;
        let callback = waited
            .map_err(|_| Stopped::Declined("nobody came back from the browser within ten minutes"))?
            .map_err(|e| Stopped::Here(e.into()))?;
        let token = self
            .client
            .exchange(&self.provider, &pending, &callback)
            .await;
        token.map_err(|error| match error {
            ClientError::Refused(_) => Stopped::Declined("it was not approved in the browser"),
            other => Stopped::Service(other),
        })
    }
}

/// Starts the person's browser.
fn open(url: &str) -> bool {
    let command = std::process::Command::new("xdg-open")
        .arg(url)
        .stderr(std::process::Stdio::null())
        .spawn();
    command.is_ok()
}
