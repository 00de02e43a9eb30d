//! Requests signed by the application (`sap.md` §4, RFC 9101): a request object by a key that is registered at the SAM.
//!
//! With it nobody between application and SAM can exchange documents, order or names: the list that the signer sees is
//! the application's own. A client with registered keys is never believed without.

use core_types::bytes::{from_b64, from_b64u};
use core_types::{ClientId, HashAlg, KeyId, UnixTime};
use jose::{ForeignJws, ForeignKey};
use sam_api::ssa::PrepareItem;
use sap::act::MAX_LABEL;
use serde::Deserialize;
use serde_json::Value;

use crate::Reason;
use crate::label;

/// `typ` of a request object (RFC 9101 §10.8).
pub const TYP_REQUEST: &str = "oauth-authz-req+jwt";
/// Longest life of a request object in seconds.
pub const MAX_LIFE: i64 = 3600;
/// Seconds by which the application's clock may be ahead.
const AHEAD: i64 = 60;

/// What the SSA asks for in the application's name.
#[derive(Debug, Clone, Copy)]
pub struct Claimed<'a> {
    /// Client.
    pub client: &'a ClientId,
    /// Key.
    pub key: &'a KeyId,
    /// Items in their order.
    pub items: &'a [PrepareItem],
    /// How many signatures, where there are no items.
    pub open: Option<u32>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    client_id: String,
    aud: Value,
    exp: UnixTime,
    iat: Option<UnixTime>,
    nbf: Option<UnixTime>,
    authorization_details: Value,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
struct Details {
    #[serde(rename = "credentialID")]
    credential_id: String,
    #[serde(default, rename = "hashAlgorithmOID")]
    hash_algorithm: String,
    #[serde(default, rename = "documentDigests")]
    digests: Vec<Digest>,
    #[serde(rename = "numSignatures")]
    count: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Digest {
    hash: String,
    label: Option<String>,
    hash_type: Option<String>,
    signed_attrs: Option<String>,
}

const BAD: Reason = Reason::Invalid("client_jws");

/// Checks that the application signed exactly what is asked for, and answers with the names it gave, cleaned.
/// `audience`: whether this names the authorization server.
///
/// # Errors
/// [`Reason::Invalid`]: no registered key signed it, it is for somebody else, too old or too far ahead, or it asks for
/// anything else.
pub fn check(
    jws: &str,
    keys: &[ForeignKey],
    claimed: Claimed<'_>,
    audience: impl Fn(&str) -> bool,
    now: UnixTime,
) -> Result<Vec<String>, Reason> {
    let jws = ForeignJws::read(jws).map_err(|_| BAD)?;
    // Tokens of other kinds that this client signs are no requests (RFC 8725 §3.11).
    if !matches!(jws.typ().as_deref(), None | Some("jwt" | TYP_REQUEST)) {
        return Err(BAD);
    }
    let payload = keys.iter().find_map(|key| jws.verify(key).ok());
    let claims: Claims = serde_json::from_slice(payload.ok_or(BAD)?).map_err(|_| BAD)?;
    let client = claimed.client.as_str();
    // FAPI 2.0 asks for nbf, others write iat; one of them must bound the life.
    let from = claims.nbf.or(claims.iat).ok_or(BAD)?;
    let timely = now < claims.exp
        && from <= now.plus(AHEAD)
        && claims.exp.0.saturating_sub(from.0) <= MAX_LIFE;
    let ours = match &claims.aud {
        Value::String(one) => audience(one),
        Value::Array(many) => many.iter().filter_map(Value::as_str).any(audience),
        _ => false,
    };
    if claims.iss != client || claims.client_id != client || !timely || !ours {
        return Err(BAD);
    }
    let details = details(claims.authorization_details)?;
    if details.credential_id != claimed.key.as_str() || details.digests.len() != claimed.items.len()
    {
        return Err(BAD);
    }
    if claimed.open.is_some() {
        let same = details.count == claimed.open && claimed.items.is_empty();
        return if same { Ok(Vec::new()) } else { Err(BAD) };
    }
    let hash = HashAlg::from_oid(&details.hash_algorithm).ok_or(BAD)?;
    let pairs = details.digests.iter().zip(claimed.items);
    pairs
        .map(|(signed, asked)| same(signed, asked, hash, &claims.description))
        .collect()
}

/// `authorization_details`: one object, alone or in an array, as it is or as text.
fn details(value: Value) -> Result<Details, Reason> {
    let value = match value {
        Value::String(text) => serde_json::from_str(&text).map_err(|_| BAD)?,
        other => other,
    };
    let one = match value {
        Value::Array(list) => <[Value; 1]>::try_from(list).map_err(|_| BAD)?,
        other => [other],
    };
    let [one] = one;
    serde_json::from_value(one).map_err(|_| BAD)
}

fn same(
    signed: &Digest,
    asked: &PrepareItem,
    hash: HashAlg,
    description: &str,
) -> Result<String, Reason> {
    let kind = signed.hash_type.as_deref().unwrap_or("dtbsr");
    let is_document = kind.eq_ignore_ascii_case("sdr");
    let bytes = |text: &String| from_b64(text).or_else(|_| from_b64u(text)).map_err(|_| BAD);
    let attributes = signed.signed_attrs.as_ref().map(bytes).transpose()?;
    let doc = asked.doc.as_ref();
    let given = doc.and_then(|d| d.signed_attrs.as_ref()).map(|a| &a.0);
    let label = shown(signed.label.as_deref().unwrap_or(description));
    let fits = bytes(&signed.hash)? == asked.h.0
        && asked.ha == hash
        && (is_document || kind.eq_ignore_ascii_case("dtbsr"))
        && is_document == doc.is_some()
        && attributes.as_ref() == given
        && label == shown(&asked.label);
    if fits { Ok(label) } else { Err(BAD) }
}

/// A name as it is shown. The SSA marks what it takes out, which is no difference.
fn shown(text: &str) -> String {
    let plain: String = text.chars().filter(|c| *c != '\u{fffd}').collect();
    label::clean(&plain, MAX_LABEL)
}
