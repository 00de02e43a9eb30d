//! Tokens by way of a browser: OAuth 2 with code and PKCE, at any provider.

use std::path::{Path, PathBuf};

use core_types::HashAlg;
use csc_client::{Client, ClientCredentials};
use csc_types::{
    DocumentDigest, HashType, Purpose, SecretText, SignatureAuthorization, TokenResponse,
    decode_base64,
};
use serde_json::json;

use super::At;
use super::given::{address, done, options, secret, unreachable};
use crate::browser::{Session, Stopped};
use crate::output::{Exit, Failure, Out};
use crate::proofs::{OwnKey, of_session};

/// A registered client, and how it authenticates.
#[derive(Debug, clap::Args)]
pub struct Registered {
    /// Registered client; with a browser, one whose redirect URI is `http://127.0.0.1/callback` with any port.
    #[arg(long)]
    client: Option<String>,
    /// File with its secret, if it has one.
    #[arg(long, value_name = "FILE", requires = "client")]
    client_secret_file: Option<PathBuf>,
    /// Or its key.
    #[command(flatten)]
    own_key: OwnKey,
}

impl Registered {
    pub(super) fn is_given(&self) -> bool {
        self.client.is_some()
    }
}

/// A registered client that comes with a browser.
#[derive(Debug, clap::Args)]
pub struct ByBrowser {
    /// Which.
    #[command(flatten)]
    registered: Registered,
    /// Only print the address that the browser has to be sent to.
    #[arg(long, requires = "client")]
    no_browser: bool,
}

impl ByBrowser {
    pub(super) fn is_wanted(&self) -> bool {
        self.registered.is_given()
    }
}

/// Scope `service`.
pub(super) async fn login(at: &At, by: &ByBrowser, out: Out) -> Result<Exit, Failure> {
    token(at, by, Purpose::Service, "cli-open-login", out).await
}

/// Scope `service` again, for a refresh token (RFC 6749 §6).
pub(super) async fn refresh(
    at: &At,
    by: &ByBrowser,
    file: &Path,
    out: Out,
) -> Result<Exit, Failure> {
    let client = by.client(at)?;
    let provider = client.discover().await.map_err(|e| unreachable(&e))?;
    let token = client.refresh(&provider, &secret(file)?).await;
    Ok(show(&token.map_err(|e| unreachable(&e))?, out))
}

/// Scope `credential`.
pub(super) async fn authorize(
    at: &At,
    by: &ByBrowser,
    asked: SignatureAuthorization,
    out: Out,
) -> Result<Exit, Failure> {
    let purpose = Purpose::Credential(asked);
    token(at, by, purpose, "cli-open-approve", out).await
}

/// An authorization for these hashes in base64: of what `signHash` will sign, or of documents.
pub(super) fn asked(
    key: &str,
    hashes: &[String],
    algorithm: &str,
    kind: HashType,
) -> Result<SignatureAuthorization, Failure> {
    let wrong = |what: &str| {
        let remedy = "give hashes in base64 with --hash, all of the --hash-algo";
        Failure::new(Exit::Input, "hash", what, remedy)
    };
    let algorithm = HashAlg::from_oid(algorithm).ok_or_else(|| wrong("an unknown hash"))?;
    let digests = hashes.iter().map(|text| {
        let hash = decode_base64(text).filter(|hash| hash.len() == algorithm.len());
        Some(DocumentDigest {
            hash: hash?,
            hash_type: Some(kind),
            ..DocumentDigest::default()
        })
    });
    let digests: Option<Vec<_>> = digests.collect();
    Ok(SignatureAuthorization {
        credential_id: Some(key.to_owned()),
        signature_qualifier: None,
        num_signatures: u32::try_from(hashes.len()).unwrap_or(u32::MAX),
        digests: digests.ok_or_else(|| wrong("a hash of another length, or not base64"))?,
        hash_algorithm: Some(algorithm),
        renewable_for: None,
    })
}

/// Ends a token at the authorization server.
pub(super) async fn revoke(
    at: &At,
    registered: &Registered,
    token: &SecretText,
    out: Out,
) -> Result<Exit, Failure> {
    let client = client(at, registered)?;
    let provider = client.discover().await.map_err(|e| unreachable(&e))?;
    done(client.revoke_as_client(&provider, token).await, out)
}

impl ByBrowser {
    /// The registered client at this address.
    pub(super) fn client(&self, at: &At) -> Result<Client, Failure> {
        client(at, &self.registered)
    }
}

fn client(at: &At, registered: &Registered) -> Result<Client, Failure> {
    let secret = registered.client_secret_file.as_deref().map(secret);
    let credentials = ClientCredentials {
        client_id: registered.client.clone().unwrap_or_default(),
        client_secret: secret.transpose()?,
    };
    let client = Client::new(&at.url, credentials, &options(at)?).map_err(|e| address(&e))?;
    let client = registered.own_key.given_to(client)?;
    Ok(match &at.dpop_key_file {
        None => client,
        Some(file) => client.with_dpop(of_session(file, true)?),
    })
}

async fn token(
    at: &At,
    by: &ByBrowser,
    purpose: Purpose,
    told: &str,
    out: Out,
) -> Result<Exit, Failure> {
    let client = by.client(at)?;
    let provider = client.discover().await.map_err(|e| unreachable(&e))?;
    let session = Session::begin(&client, provider, !by.no_browser, out).await?;
    match session.authorize(purpose, told).await {
        Ok(token) => Ok(show(&token, out)),
        Err(Stopped::Declined(what)) => Err(declined(what)),
        Err(Stopped::Service(error)) => Err(unreachable(&error)),
        Err(Stopped::Here(error)) => Err(Failure::from(error)),
    }
}

/// Nobody approved.
pub(super) fn declined(what: impl Into<String>) -> Failure {
    Failure::new(
        Exit::Declined,
        "declined",
        what,
        "run the command again to start anew",
    )
}

/// Prints a token as JSON.
pub(super) fn show(token: &TokenResponse, out: Out) -> Exit {
    let answer = json!(token);
    out.say(&serde_json::to_string_pretty(&answer).unwrap_or_default());
    out.object(&json!({ "schema": "natsuin.csc/1", "status": 200, "answer": answer }));
    Exit::Good
}
