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
use crate::limits::Behind;

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
    let given = match basic(headers) {
        Ok(given) => given,
        Err(malformed) => {
            ssa.knocked("oauth2").await?;
            return Err(malformed.into());
        }
    };
    let (id, secret) = match given {
        Some((id, secret)) => {
            let same = body.client_id.as_ref().is_none_or(|other| *other == id);
            if body.client_secret.is_some() || !same {
                ssa.knocked("oauth2").await?;
                return Err(OAuthError::InvalidClient.into());
            }
            (id, Some(secret))
        }
        None => {
            let id = body.client_id.ok_or(OAuthError::Missing("client_id"))?;
            (id, body.client_secret)
        }
    };
    // Whether there is such a client isn't told.
    let refusal = match secret.is_some() || !sender.certificates.is_empty() {
        true => OAuthError::InvalidClient,
        false => OAuthError::ClientAuthRequired,
    };
    let mut tx = ssa.store().read("client").await?;
    let found = clients::find(&mut tx, &id).await?;
    drop(tx);
    let Some(client) = found else {
        ssa.knocked("oauth2").await?;
        return Err(refusal.into());
    };
    let proved = if client.settings.certificate.is_some() {
        // Its certificate and nothing else, so that no lesser way leads around it.
        match secret {
            None => certified(ssa, &client, &sender.certificates).await,
            Some(_) => Err("method"),
        }
    } else if client.is_fapi(ssa) {
        // FAPI 2.0 §5.3.2.1: no shared secrets, no public clients.
        Err("method")
    } else {
        let good = match secret {
            Some(secret) => client.has_secret(secret.expose(), ssa.now()),
            None => client.is_public(),
        };
        good.then_some(()).ok_or("secret")
    };
    let Err(reason) = proved else {
        return Ok(client);
    };
    let handshake = client.settings.certificate.is_some() && !sender.certificates.is_empty();
    let behind = match handshake {
        true => Behind::Key,
        false => Behind::Name,
    };
    refuse(ssa, client.id, behind, reason).await?;
    Err(refusal.into())
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
    let jws = ForeignJws::read(assertion.expose()).ok();
    let jws = jws.filter(|_| alone && kind == ClientAuth::JWT);
    let said = jws
        .as_ref()
        .and_then(|jws| Claims::read(jws.unchecked_payload()));
    let id = said.as_ref().and_then(|said| said.text("sub"));
    let id = id.filter(|id| body.client_id.as_deref().is_none_or(|other| other == *id));
    let mut found = None;
    if let Some(id) = id {
        let mut tx = ssa.store().read("client").await?;
        found = clients::find(&mut tx, id).await?;
    }
    let (Some(jws), Some(id), Some(client)) = (jws, id, found) else {
        ssa.knocked("oauth2").await?;
        return Err(BAD.into());
    };
    if client.settings.certificate.is_some() {
        // Its keys sign requests; they don't open what its certificate is for.
        refuse(ssa, client.id, Behind::Name, "method").await?;
        return Err(BAD.into());
    }
    let now = ssa.now();
    // Tokens of other kinds that this client signs, such as its requests, are no assertions (RFC 8725 §3.11).
    let typ = jws.typ();
    let fits = matches!(
        typ.as_deref(),
        None | Some("jwt" | "client-authentication+jwt")
    );
    let signed = signed_by(&client, &jws, now);
    let behind = match signed {
        Some(_) => Behind::Key,
        None => Behind::Name,
    };
    let good = signed.filter(|claims| {
        fits && claims.text("iss") == Some(id)
            && is_for_us(ssa, &client, claims)
            && claims.is_current(now, ASSERTION)
    });
    let claims = good.as_ref().and_then(|claims| {
        let jti = claims
            .text("jti")
            .filter(|jti| (1..=256).contains(&jti.len()))?;
        Some((jti, claims.time("exp")?))
    });
    let Some((jti, exp)) = claims else {
        refuse(ssa, client.id, behind, "assertion").await?;
        return Err(BAD.into());
    };
    let first = transaction!(ssa.store(), "client-assertion", |tx| {
        first_use(tx, "assertion", client.id.as_str(), jti, exp, now).await
    })?;
    if !first {
        refuse(ssa, client.id, Behind::Key, "replayed").await?;
        return Err(BAD.into());
    }
    Ok(client)
}

/// Whether an assertion is for this server: for its issuer, or one of the endpoints that RFC 9126 §2 names, also where clients with
/// certificates call them. FAPI 2.0 §5.3.2.1 has the issuer alone, as one text, so that nothing fits that was made for another one too.
fn is_for_us(ssa: &Ssa, client: &Client, claims: &Claims) -> bool {
    let issuer = ssa.config().base_url.as_str();
    if client.is_fapi(ssa) {
        return claims.text("aud") == Some(issuer);
    }
    let certificates = ssa.config().certificates.as_ref();
    let bases = [Some(issuer), certificates.map(|asking| asking.url.as_str())];
    let endpoints: Vec<String> = bases
        .into_iter()
        .flatten()
        .flat_map(|base| ["token", "pushed_authorize"].map(|name| format!("{base}/oauth2/{name}")))
        .collect();
    let mut names: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    names.push(issuer);
    claims.is_for(&names)
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

/// Records that somebody didn't prove to be this client: as an entry of its own while that is seldom, and counted in its name beyond, so
/// that guesses fill no log. Whoever names no client is nobody.
async fn refuse(
    ssa: &Ssa,
    client: ClientId,
    behind: Behind,
    reason: &'static str,
) -> Result<(), StoreError> {
    if !ssa.names_failure(&client, behind) {
        return ssa.knocked_as("oauth2", client).await;
    }
    transaction!(ssa.store(), "client-refused", |tx| {
        let event = Event::ClientRefused {
            client: Some(client.clone()),
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
        return Err(OAuthError::MalformedHeader);
    }
    let read = || {
        let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
        let plain = from_b64(encoded.trim()).ok()?;
        let text = String::from_utf8(plain).ok()?;
        let (id, secret) = text.split_once(':')?;
        let basic = scheme.eq_ignore_ascii_case("basic");
        Some((decode(id)?, SecretText::new(decode(secret)?))).filter(|_| basic)
    };
    read().map(Some).ok_or(OAuthError::MalformedHeader)
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
