//! Which client is calling (RFC 6749 §2.3).

use audit_log::Event;
use axum::http::{HeaderMap, header};
use core_types::ClientId;
use core_types::bytes::from_b64;
use csc_types::{ClientAuth, OAuthError, SecretText};
use store_kit::{StoreError, transaction};

use jose::ForeignJws;
use pki::Certificate;

use super::jwt::{Claims, first_use, signed_by};
use super::{Refused, Sender};
use crate::Ssa;
use crate::certificates::{CertificateFault, thumbprint};
use crate::clients::{self, Client};
use crate::contract::ClientCertificate;

/// Longest life of a client's assertion in seconds.
const ASSERTION: i64 = 600;

/// Authenticates the client of a request: HTTP Basic, `client_secret` in the body, an assertion or a certificate, one of them; a
/// public client by its id alone. Its calls are counted.
pub(super) async fn authenticate(
    ssa: &Ssa,
    sender: &Sender,
    body: ClientAuth,
) -> Result<Client, Refused> {
    let client = identify(ssa, sender, body).await?;
    // Anybody may say the name of a public client: its calls stay those of the address.
    if !client.is_public() {
        ssa.admit(sender.origin, &client, None)?;
    }
    Ok(client)
}

async fn identify(ssa: &Ssa, sender: &Sender, body: ClientAuth) -> Result<Client, Refused> {
    let headers = &sender.headers;
    if let Some((kind, assertion)) = &body.assertion {
        return asserted(ssa, headers, &body, kind, assertion).await;
    }
    let (id, secret) = match basic(headers)? {
        Some((id, secret)) => {
            let same = body.client_id.as_ref().is_none_or(|other| *other == id);
            if body.client_secret.is_some() || !same {
                return Err(OAuthError::InvalidClient.into());
            }
            (id, Some(secret))
        }
        None => {
            let id = body.client_id.ok_or(OAuthError::Missing("client_id"))?;
            (id, body.client_secret)
        }
    };
    let mut tx = ssa.store().read("client").await?;
    let found = clients::find(&mut tx, &id).await?;
    drop(tx);
    match (found, secret) {
        // Its certificate and nothing else, so that no lesser way leads around it.
        (Some(client), secret) if client.settings.certificate.is_some() => {
            let told = match secret {
                None => certified(ssa, &client, &sender.certificates).await,
                Some(_) => Err("method"),
            };
            let Err(reason) = told else {
                return Ok(client);
            };
            refuse(ssa, Some(client.id), reason).await?;
            Err(OAuthError::InvalidClient.into())
        }
        // FAPI 2.0 §5.3.2.1: no shared secrets, no public clients.
        (Some(client), _) if client.is_fapi(ssa) => {
            refuse(ssa, Some(client.id), "method").await?;
            Err(OAuthError::InvalidClient.into())
        }
        (Some(client), Some(secret)) if client.has_secret(secret.expose(), ssa.now()) => Ok(client),
        (Some(client), None) if client.is_public() => Ok(client),
        (found, secret) => {
            let known = found.map(|client| client.id);
            refuse(ssa, known.clone(), "secret").await?;
            Err(match (known, secret) {
                (Some(_), None) => OAuthError::ClientAuthRequired.into(),
                _ => OAuthError::InvalidClient.into(),
            })
        }
    }
}

/// `private_key_jwt` (RFC 7523 §3): signed by a key of the client, for this server, good now, once.
async fn asserted(
    ssa: &Ssa,
    headers: &HeaderMap,
    body: &ClientAuth,
    kind: &str,
    assertion: &SecretText,
) -> Result<Client, Refused> {
    const BAD: OAuthError = OAuthError::InvalidClient;
    let alone = body.client_secret.is_none() && !headers.contains_key(header::AUTHORIZATION);
    if kind != ClientAuth::JWT || !alone {
        return Err(BAD.into());
    }
    let jws = ForeignJws::read(assertion.expose()).map_err(|_| BAD)?;
    let said = Claims::read(jws.unchecked_payload()).ok_or(BAD)?;
    let id = said.text("sub").ok_or(BAD)?;
    if body.client_id.as_deref().is_some_and(|other| other != id) {
        return Err(BAD.into());
    }
    let mut tx = ssa.store().read("client").await?;
    let client = clients::find(&mut tx, id).await?.ok_or(BAD)?;
    drop(tx);
    if client.settings.certificate.is_some() {
        // Its keys sign requests; they don't open what its certificate is for.
        refuse(ssa, Some(client.id), "method").await?;
        return Err(BAD.into());
    }
    let now = ssa.now();
    let good = signed_by(&client, &jws, now).filter(|claims| {
        let base = &ssa.config().base_url;
        let token = format!("{base}/oauth2/token");
        // FAPI 2.0 §5.3.2.1: the issuer alone, so that no other endpoint's assertion fits.
        let audience: &[&str] = if client.is_fapi(ssa) {
            &[base]
        } else {
            &[base, &token]
        };
        claims.text("iss") == Some(id)
            && claims.is_for(audience)
            && claims.is_current(now, ASSERTION)
    });
    let claims = good.as_ref().and_then(|claims| {
        let jti = claims
            .text("jti")
            .filter(|jti| (1..=256).contains(&jti.len()))?;
        Some((jti, claims.time("exp")?))
    });
    let Some((jti, exp)) = claims else {
        refuse(ssa, Some(client.id), "assertion").await?;
        return Err(BAD.into());
    };
    let first = transaction!(ssa.store(), "client-assertion", |tx| {
        first_use(tx, "assertion", client.id.as_str(), jti, exp, now).await
    })?;
    if !first {
        refuse(ssa, Some(client.id), "replayed").await?;
        return Err(BAD.into());
    }
    Ok(client)
}

/// Whether these certificates are the client's (RFC 8705 §2).
async fn certified(ssa: &Ssa, client: &Client, shown: &[Vec<u8>]) -> Result<(), &'static str> {
    const OTHER: &str = "certificate";
    let (Some(own), Some(known)) = (shown.first(), &client.settings.certificate) else {
        return Err(CertificateFault::Missing.code());
    };
    match known {
        ClientCertificate::Thumbprints(known) => {
            if !known.contains(&thumbprint(own)) {
                return Err(OTHER);
            }
            let certificate = Certificate::parse(own).map_err(|_| OTHER)?;
            let now = ssa.now();
            let current = certificate.not_before() <= now && now <= certificate.not_after();
            current.then_some(()).ok_or(CertificateFault::Time.code())
        }
        ClientCertificate::Subject(subject) => {
            let judged = ssa.judge_client_certificate(shown).await;
            let certificate = judged.map_err(CertificateFault::code)?;
            let same = certificate.subject_text() == *subject;
            same.then_some(()).ok_or(OTHER)
        }
    }
}

async fn refuse(
    ssa: &Ssa,
    client: Option<ClientId>,
    reason: &'static str,
) -> Result<(), StoreError> {
    transaction!(ssa.store(), "client-refused", |tx| {
        let event = Event::ClientRefused {
            client: client.clone(),
            reason: reason.into(),
        };
        ssa.audit().append(tx, event, ssa.now()).await.map(drop)
    })
}

/// Whether the client used the `Authorization` header; then a refusal names the scheme.
pub(super) fn used_basic(headers: &HeaderMap) -> bool {
    headers.contains_key(header::AUTHORIZATION)
}

/// Id and secret of a Basic header, each form-encoded inside (RFC 6749 §2.3.1).
fn basic(headers: &HeaderMap) -> Result<Option<(String, SecretText)>, OAuthError> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = all.next() else {
        return Ok(None);
    };
    if all.next().is_some() {
        return Err(OAuthError::InvalidClient);
    }
    let read = || {
        let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
        let plain = from_b64(encoded.trim()).ok()?;
        let text = String::from_utf8(plain).ok()?;
        let (id, secret) = text.split_once(':')?;
        let basic = scheme.eq_ignore_ascii_case("basic");
        Some((decode(id)?, SecretText::new(decode(secret)?))).filter(|_| basic)
    };
    read().map(Some).ok_or(OAuthError::InvalidClient)
}

fn decode(text: &str) -> Option<String> {
    // One name without a value is what a form decoder makes of a text without `=` and `&`.
    if text.contains(['&', '=']) {
        return Some(text.to_owned());
    }
    let mut pairs = url::form_urlencoded::parse(text.as_bytes());
    Some(
        pairs
            .next()
            .map(|(name, _)| name.into_owned())
            .unwrap_or_default(),
    )
}
