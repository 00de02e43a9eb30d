//! Signed authorization requests (RFC 9101): what stands inside counts, what stands beside doesn't.

use core_types::UnixTime;
use csc_types::{OAuthError, Params, habits};
use jose::ForeignJws;
use serde_json::Value;
use store_kit::transaction;

use super::Refused;
use super::jwt::{Claims, first_use, signed_by};
use crate::Ssa;
use crate::clients::Client;
use crate::flow::{self, Pairs};

/// Name of the parameter.
pub(super) const REQUEST: &str = "request";
/// Longest life of a request object in seconds (FAPI 2.0 Message Signing §5.3.1 allows an hour).
const LONGEST: i64 = 3600;
/// Members that speak about the object itself.
const OWN: [&str; 7] = ["iss", "aud", "exp", "nbf", "iat", "jti", "sub"];

/// The parameters of a request: those of its object if it has one, and of nothing else then. What is signed is read as it stands, by whichever
/// contract.
///
/// # Errors
/// [`OAuthError::InvalidRequestObject`]; also when the client has to sign its requests and didn't.
pub(super) async fn unwrap(ssa: &Ssa, client: &Client, pairs: Pairs) -> Result<Pairs, Refused> {
    let given = Params::from_pairs(pairs.iter().cloned())?;
    let Some(object) = given.get(REQUEST) else {
        if client.settings.signed_requests {
            return Err(OAuthError::InvalidRequestObject.into());
        }
        return Ok(match client.is_lenient(ssa) {
            true => habits::parameters(pairs),
            false => pairs,
        });
    };
    const BAD: OAuthError = OAuthError::InvalidRequestObject;
    let jws = ForeignJws::read(object).map_err(|_| BAD)?;
    // Tokens of other kinds that this client signs are no requests (RFC 8725 §3.11).
    if !matches!(
        jws.typ().as_deref(),
        None | Some("jwt" | "oauth-authz-req+jwt")
    ) {
        return Err(BAD.into());
    }
    let now = ssa.now();
    let claims = signed_by(client, &jws, now).ok_or(BAD)?;
    let id = client.id.as_str();
    let own = claims.text("iss") == Some(id) && claims.text("client_id") == Some(id);
    if !own
        || !claims.is_for(&[&ssa.config().base_url])
        || !claims.is_current(now, LONGEST)
        || [REQUEST, "request_uri"]
            .iter()
            .any(|name| claims.0.contains_key(*name))
    {
        return Err(BAD.into());
    }
    if let Some(jti) = claims.text("jti") {
        let exp = claims.time("exp").ok_or(BAD)?;
        let first = transaction!(ssa.store(), "request-object", |tx| {
            first_use(tx, "request", id, jti, exp, now).await
        })?;
        if !first {
            return Err(BAD.into());
        }
    }
    let members = claims
        .0
        .iter()
        .filter(|(name, _)| !OWN.contains(&name.as_str()));
    let mut pairs: Pairs = members
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| {
            let text = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            (name.clone(), text)
        })
        .collect();
    // It stays among them for the SAM, which verifies and compares it itself.
    pairs.push((REQUEST.to_owned(), object.to_owned()));
    Ok(pairs)
}

/// When the signed request among these parameters, which was verified, is over; nothing if they aren't signed.
pub(crate) fn end(pairs: &Pairs) -> Option<UnixTime> {
    let jws = ForeignJws::read(flow::given(pairs, REQUEST)?).ok()?;
    Claims::read(jws.unchecked_payload())?.time("exp")
}
