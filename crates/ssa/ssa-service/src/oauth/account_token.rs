//! `account_token` (CSC 8.2.1): the client says whose page this is to be, and nobody else may use it.

use aws_lc_rs::hmac;
use core_types::bytes::from_b64u;
use core_types::{Digest32, PersonId};
use csc_types::OAuthError;
use store_kit::transaction;

use super::Refused;
use super::jwt::{Claims, SKEW, first_use};
use crate::clients::Client;
use crate::{Ssa, users};

/// A token is good for this long after it was made, in seconds.
const LIFE: i64 = 300;

/// The person whom the token names. Counts once.
///
/// # Errors
/// [`OAuthError::Invalid`] for everything that isn't exactly that.
pub(super) async fn person(ssa: &Ssa, client: &Client, token: &str) -> Result<PersonId, Refused> {
    const BAD: OAuthError = OAuthError::Invalid("account_token");
    let now = ssa.now();
    let mut keys = client.secret_digests(now);
    let claims = keys.find_map(|key| read(token, &key)).ok_or(BAD)?;
    let made = claims.time("iat").ok_or(BAD)?;
    let current = made <= now.plus(SKEW) && now < made.plus(LIFE);
    let (Some(sub), Some(jti)) = (claims.text("sub"), claims.text("jti")) else {
        return Err(BAD.into());
    };
    if !current || claims.text("azp") != Some(client.id.as_str()) {
        return Err(BAD.into());
    }
    let found = transaction!(ssa.store(), "account-token", |tx| {
        let exp = made.plus(LIFE + SKEW);
        if !first_use(tx, "account", client.id.as_str(), jti, exp, now).await? {
            return Ok(None);
        }
        users::person_of(tx, sub).await
    })?;
    Ok(found.ok_or(BAD)?)
}

/// Members of the token, if it is HS256 with SHA-256 of the client's secret as the key.
fn read(token: &str, key: &Digest32) -> Option<Claims> {
    let (signed, mac) = token.rsplit_once('.')?;
    let (header, payload) = signed.split_once('.')?;
    let header = Claims::read(&from_b64u(header).ok()?)?;
    if header.text("alg") != Some("HS256") || header.0.contains_key("crit") {
        return None;
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key.0);
    hmac::verify(&key, signed.as_bytes(), &from_b64u(mac).ok()?).ok()?;
    Claims::read(&from_b64u(payload).ok()?)
}
