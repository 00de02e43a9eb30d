//! Requests signed by the application (`sap.md` §4, RFC 9101): a request object by a key that is registered at the SAM.
//!
//! With it nobody between application and SAM can exchange documents, order or names, or make a right last longer: the list
//! that the signer sees is the application's own. A client with registered keys is never believed without.

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
    /// For how many seconds what the signer approves can be renewed.
    pub renew: i64,
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
    #[serde(rename = "renewableFor")]
    renew: Option<i64>,
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
    // What it doesn't say, nobody says in its place: a right of five minutes stays one.
    let agreed = details.credential_id == claimed.key.as_str()
        && details.digests.len() == claimed.items.len()
        && details.renew.unwrap_or(0) == claimed.renew;
    if !agreed {
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

#[cfg(test)]
mod tests {
    use core_types::B64;
    use core_types::bytes::{b64, b64u};
    use jose::SigningKey;
    use sam_api::ssa::DocItem;
    use serde_json::json;

    use super::*;

    const NOW: UnixTime = UnixTime(1_800_000_000);

    struct Asked {
        client: ClientId,
        key: KeyId,
        items: Vec<PrepareItem>,
        open: Option<u32>,
        renew: i64,
        typ: &'static str,
        claims: Value,
    }

    /// Two hashes for one key, asked for by the client `app`.
    fn asked() -> Asked {
        let item = |n: u8| PrepareItem {
            ha: HashAlg::Sha256,
            h: B64(vec![n; 32]),
            label: "契約書.pdf".into(),
            doc: None,
        };
        let key = KeyId::parse("k".repeat(22)).unwrap();
        let digest = |n: u8| json!({ "hash": b64([n; 32]), "label": "契約書.pdf" });
        Asked {
            client: ClientId::parse("app").unwrap(),
            items: vec![item(1), item(2)],
            open: None,
            renew: 0,
            typ: TYP_REQUEST,
            claims: json!({
                "iss": "app", "client_id": "app", "aud": "https://as.example", "iat": NOW.0, "exp": NOW.0 + 300,
                "authorization_details": [{
                    "credentialID": key.as_str(), "hashAlgorithmOID": HashAlg::Sha256.oid(),
                    "documentDigests": [digest(1), digest(2)],
                }],
            }),
            key,
        }
    }

    /// What becomes of a request that was changed before the application signed it, or after.
    fn checked(change: impl Fn(&mut Asked)) -> Result<Vec<String>, Reason> {
        let mut asked = asked();
        change(&mut asked);
        let (key, _) = SigningKey::generate().unwrap();
        let known = |key: &SigningKey| {
            ForeignKey::parse(&serde_json::to_value(key.public()).unwrap()).unwrap()
        };
        let jws = key
            .sign(asked.typ, asked.claims.to_string().as_bytes())
            .unwrap();
        let claimed = Claimed {
            client: &asked.client,
            key: &asked.key,
            items: &asked.items,
            open: asked.open,
            renew: asked.renew,
        };
        let (other, _) = SigningKey::generate().unwrap();
        let ours = |aud: &str| aud == "https://as.example";
        assert_eq!(check(&jws, &[known(&other)], claimed, ours, NOW), Err(BAD));
        check(&jws, &[known(&other), known(&key)], claimed, ours, NOW)
    }

    fn good(change: impl Fn(&mut Asked)) {
        let names = checked(change).unwrap();
        assert_eq!(names, ["契約書.pdf", "契約書.pdf"]);
    }

    fn bad(what: &str, change: impl Fn(&mut Asked)) {
        assert_eq!(checked(change), Err(BAD), "{what}");
    }

    #[test]
    fn only_a_request_of_this_client_to_us_counts() {
        good(|_| ());
        good(|a| a.typ = "jwt");
        good(|a| a.claims["aud"] = json!([7, "https://else.example", "https://as.example"]));
        bad("another kind of token", |a| a.typ = "logout+jwt");
        bad("another issuer", |a| a.claims["iss"] = json!("other"));
        bad("another client", |a| a.claims["client_id"] = json!("other"));
        for aud in [
            json!("https://else.example"),
            json!(["https://else.example"]),
            json!(7),
        ] {
            bad("for somebody else", |a| a.claims["aud"] = aud.clone());
        }
    }

    #[test]
    fn its_life_is_bounded_to_the_second() {
        let times = |from: &'static str, begins: i64, ends: i64| {
            move |a: &mut Asked| {
                a.claims["iat"] = Value::Null;
                a.claims[from] = json!(NOW.0 + begins);
                a.claims["exp"] = json!(NOW.0 + ends);
            }
        };
        for from in ["iat", "nbf"] {
            good(times(from, 60, 61));
            bad("too far ahead", times(from, 61, 62));
            good(times(from, -300, 1));
            bad("over", times(from, -300, 0));
            good(times(from, -1, 3599));
            bad("too long", times(from, -1, 3600));
        }
        good(|a| a.claims["nbf"] = json!(NOW.0 - 1));
        bad("nbf counts before iat", |a| {
            a.claims["nbf"] = json!(NOW.0 + 61)
        });
        bad("without a beginning", |a| a.claims["iat"] = Value::Null);
    }

    #[test]
    fn details_are_one_object_in_every_form_that_is_sent() {
        let form = |form: fn(Value) -> Value| {
            move |a: &mut Asked| {
                let one = a.claims["authorization_details"][0].take();
                a.claims["authorization_details"] = form(one);
            }
        };
        good(form(|one| one));
        good(form(|one| json!(one.to_string())));
        good(form(|one| json!(json!([one]).to_string())));
        bad("two", form(|one| json!([one, one])));
        bad("none", form(|_| json!([])));
        bad("no object", form(|_| json!("what")));
    }

    #[test]
    fn whatever_differs_from_what_was_signed_is_refused() {
        const SIGNED: &str = "/authorization_details/0";
        let signed = |path: &'static str, value: Value| {
            move |a: &mut Asked| {
                *a.claims.pointer_mut(&format!("{SIGNED}{path}")).unwrap() = value.clone();
            }
        };
        good(signed("/documentDigests/0/hash", json!(b64u([1; 32]))));
        bad(
            "hash",
            signed("/documentDigests/0/hash", json!(b64([9; 32]))),
        );
        bad("no hash", signed("/documentDigests/0/hash", json!("*")));
        bad(
            "name",
            signed("/documentDigests/1/label", json!("覚書.pdf")),
        );
        bad("key", signed("/credentialID", json!("x".repeat(22))));
        bad(
            "hash function",
            signed("/hashAlgorithmOID", json!(HashAlg::Sha512.oid())),
        );
        bad("no hash function", signed("/hashAlgorithmOID", json!("")));
        bad("order", |a| a.items.reverse());
        bad("one less", |a| drop(a.items.pop()));
        bad("one more", |a| a.items.push(a.items[0].clone()));
        bad("another function asked", |a| {
            a.items[1].ha = HashAlg::Sha384
        });
        // What the SSA took out of a name and marked is no difference.
        good(|a| a.items[0].label = "契約\u{fffd}書.pdf".into());
        good(|a| {
            for item in a
                .claims
                .pointer_mut("/authorization_details/0/documentDigests")
                .unwrap()
                .as_array_mut()
                .unwrap()
            {
                item["label"] = Value::Null;
            }
            a.claims["description"] = json!("契約書.pdf");
        });
    }

    #[test]
    fn documents_are_told_from_bare_hashes() {
        let doc = |attributes: Option<u8>| DocItem {
            signed_attrs: attributes.map(|n| B64(vec![n; 40])),
            ranges: None,
        };
        let document = |kind: Value, signed: Option<u8>, asked: Option<DocItem>| {
            move |a: &mut Asked| {
                let digest = "/authorization_details/0/documentDigests/0";
                let digest = a.claims.pointer_mut(digest).unwrap();
                digest["hashType"] = kind.clone();
                digest["signedAttrs"] = json!(signed.map(|n| b64([n; 40])));
                a.items[0].doc.clone_from(&asked);
            }
        };
        good(document(json!("dtbsr"), None, None));
        good(document(json!("DTBSR"), None, None));
        good(document(json!("sdr"), None, Some(doc(None))));
        good(document(json!("SDR"), Some(1), Some(doc(Some(1)))));
        bad(
            "a document signed, a hash asked",
            document(json!("sdr"), None, None),
        );
        bad(
            "a hash signed, a document asked",
            document(json!("dtbsr"), None, Some(doc(None))),
        );
        bad(
            "a hash by default",
            document(Value::Null, None, Some(doc(None))),
        );
        bad("an unknown kind", document(json!("x"), None, None));
        bad(
            "other attributes",
            document(json!("sdr"), Some(1), Some(doc(Some(2)))),
        );
        bad(
            "attributes left out",
            document(json!("sdr"), Some(1), Some(doc(None))),
        );
        bad(
            "attributes added",
            document(json!("sdr"), None, Some(doc(Some(1)))),
        );
    }

    #[test]
    fn a_right_is_renewed_for_as_long_as_was_signed_and_no_longer() {
        let renewed = |signed: Value, asked: i64| {
            move |a: &mut Asked| {
                a.claims["authorization_details"][0]["renewableFor"] = signed.clone();
                a.renew = asked;
            }
        };
        good(renewed(json!(0), 0));
        good(renewed(Value::Null, 0));
        good(renewed(json!(600), 600));
        bad("nothing signed", |a| a.renew = 600);
        bad("nothing signed", renewed(Value::Null, 1));
        bad("longer", renewed(json!(600), 601));
        bad("shorter", renewed(json!(600), 0));
        bad("no number", renewed(json!("600"), 600));
    }

    #[test]
    fn a_number_instead_of_documents_is_that_number() {
        let open = |signed: Value, asked: u32| {
            move |a: &mut Asked| {
                a.claims["authorization_details"][0]["numSignatures"] = signed.clone();
                a.claims["authorization_details"][0]["documentDigests"] = json!([]);
                a.items.clear();
                a.open = Some(asked);
            }
        };
        assert_eq!(checked(open(json!(3), 3)), Ok(Vec::new()));
        bad("one more", open(json!(3), 4));
        bad("no number", open(Value::Null, 3));
        bad("documents and a number", |a| {
            a.claims["authorization_details"][0]["numSignatures"] = json!(2);
            a.open = Some(2);
        });
    }
}
