//! Proofs of a will, as far as anybody but the SAM can check them (WebAuthn Level 3 §7.2).

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::Value;

use super::documents::{Factor, Identity, Proof};
use super::jws::{self, Jwk};
use super::{EvidenceFault, from_b64u};

const USER_PRESENT: u8 = 0x01;
const USER_VERIFIED: u8 = 0x04;
const BACKUP_ELIGIBLE: u8 = 0x08;

#[derive(Deserialize)]
struct ClientData {
    #[serde(rename = "type")]
    kind: String,
    challenge: String,
    origin: String,
    #[serde(rename = "crossOrigin", default)]
    cross_origin: bool,
    #[serde(rename = "topOrigin")]
    top_origin: Option<String>,
}

/// Checks the proof over the act with this digest; answers the host that a passkey was used for. Of secrets only the SAM's word
/// remains, and nothing is checked but that it was for this act.
pub(super) fn check(
    proof: &Proof,
    factor: &Factor,
    act: &str,
    rp_host: Option<&str>,
) -> Result<Option<String>, EvidenceFault> {
    let broken = EvidenceFault::Broken;
    let Some(assertion) = &proof.proof else {
        let own = proof.act.as_deref() == Some(act) && factor.passkey.is_none();
        return match (own, &factor.device, proof.method.as_str()) {
            (true, Some(key), "device") => device(proof, key, act).map(|()| None),
            (true, None, "idp") => provider(proof, factor.provider.as_ref(), act).map(|()| None),
            (true, None, method) if !["passkey", "device"].contains(&method) => Ok(None),
            _ => Err(broken("the proof is for another act")),
        };
    };
    let passkey = factor
        .passkey
        .as_ref()
        .ok_or(broken("the proof is another factor's"))?;
    if assertion.act != act || assertion.id != passkey.id || proof.method != "passkey" {
        return Err(broken("the proof is another factor's or act's"));
    }
    let form = || EvidenceFault::Form("a passkey's proof");
    let auth = from_b64u(&assertion.auth_data).ok_or_else(form)?;
    let client = from_b64u(&assertion.client_data).ok_or_else(form)?;
    let sig = from_b64u(&assertion.sig).ok_or_else(form)?;
    let host = client_data(&client, "webauthn.get", act)?;
    if rp_host.is_some_and(|h| h != host) {
        return Err(broken("the passkey was used for another host"));
    }
    let (rp, rest) = auth.split_first_chunk::<32>().ok_or_else(form)?;
    let flags = *rest.first().ok_or_else(form)?;
    if rp[..] != *digest(&SHA256, host.as_bytes()).as_ref() {
        return Err(broken("the passkey belongs to another host"));
    }
    if flags & (USER_PRESENT | USER_VERIFIED) != USER_PRESENT | USER_VERIFIED {
        return Err(broken("the authenticator didn't verify its user"));
    }
    if (flags & BACKUP_ELIGIBLE != 0) != passkey.backup_eligible {
        return Err(broken("the passkey isn't of the registered kind"));
    }
    let signed = [auth.as_slice(), digest(&SHA256, &client).as_ref()].concat();
    match verifies(&passkey.key, &signed, &sig) {
        Some(true) => Ok(Some(host)),
        Some(false) => Err(broken("the passkey's signature is wrong")),
        None => Err(form()),
    }
}

/// Checks the signature of a device key.
fn device(proof: &Proof, key: &Jwk, act: &str) -> Result<(), EvidenceFault> {
    let form = || EvidenceFault::Form("a device key's proof");
    let sig = proof.sig.as_deref().and_then(from_b64u).ok_or_else(form)?;
    match jws::signed_bytes(&from_b64u(act).ok_or_else(form)?, &sig, key) {
        true => Ok(()),
        false => Err(EvidenceFault::Broken("the device key's signature is wrong")),
    }
}

/// Checks an identity provider's word: signed by the key that the SAM was configured with, about this person, for this act.
fn provider(proof: &Proof, known: Option<&Identity>, act: &str) -> Result<(), EvidenceFault> {
    let form = || EvidenceFault::Form("an identity provider's word");
    let (token, key) = (proof.id_token.as_deref(), proof.key.as_ref());
    let (token, key, known) = (
        token.ok_or_else(form)?,
        key.ok_or_else(form)?,
        known.ok_or_else(form)?,
    );
    let (signed, sig) = token.rsplit_once('.').ok_or_else(form)?;
    let (header, payload) = signed.split_once('.').ok_or_else(form)?;
    let json = |part: &str| -> Option<Value> { serde_json::from_slice(&from_b64u(part)?).ok() };
    let (header, claims) = (
        json(header).ok_or_else(form)?,
        json(payload).ok_or_else(form)?,
    );
    let sig = from_b64u(sig).ok_or_else(form)?;
    let good = header.get("alg").is_some() && header.get("alg") == key.get("alg");
    if !good || !signed_by(key, signed.as_bytes(), &sig).ok_or_else(form)? {
        return Err(EvidenceFault::Broken("the provider's signature is wrong"));
    }
    let says = |name: &str, text: &str| claims.get(name).and_then(Value::as_str) == Some(text);
    let about = says("iss", &known.issuer) && says("sub", &known.subject) && says("nonce", act);
    match about {
        true => Ok(()),
        false => Err(EvidenceFault::Broken(
            "the provider's word is about another person or act",
        )),
    }
}

/// Whether a key (JWK with `alg`) signed a message as JOSE does (RFC 7518 §3).
pub(super) fn signed_by(key: &Value, message: &[u8], sig: &[u8]) -> Option<bool> {
    let part = |name: &str| key.get(name).and_then(Value::as_str).and_then(from_b64u);
    let rsa = |params| {
        let (n, e) = (part("n")?, part("e")?);
        Some(RsaPublicKeyComponents { n: &n, e: &e }.verify(params, message, sig))
    };
    let done = match key.get("alg")?.as_str()? {
        "ES256" => {
            let point = [&[4][..], &part("x")?, &part("y")?].concat();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, sig)
        }
        "EdDSA" => UnparsedPublicKey::new(&ED25519, part("x")?).verify(message, sig),
        "RS256" => rsa(&RSA_PKCS1_2048_8192_SHA256)?,
        "PS256" => rsa(&RSA_PSS_2048_8192_SHA256)?,
        _ => return None,
    };
    Some(done.is_ok())
}

/// Checks that a passkey was registered for the act that made it, and for the host that this act names; answers that host. Its key
/// stands in the factor; that the attestation contains the same key is seen by its bytes.
pub(super) fn check_made(
    factor: &Factor,
    registration: Option<&[String; 2]>,
    act: &str,
    rp_host: Option<&str>,
) -> Result<Option<String>, EvidenceFault> {
    let Some(passkey) = &factor.passkey else {
        return Ok(None);
    };
    let [client, attestation] = registration.ok_or(EvidenceFault::Broken(
        "the passkey's registration is missing",
    ))?;
    let form = || EvidenceFault::Form("a passkey's registration");
    let client = from_b64u(client).ok_or_else(form)?;
    let host = client_data(&client, "webauthn.create", act)?;
    if rp_host.is_some_and(|h| h != host) {
        return Err(EvidenceFault::Broken(
            "the passkey was registered for another host",
        ));
    }
    let attestation = from_b64u(attestation).ok_or_else(form)?;
    let contains = |member: &str| {
        let part = passkey.key.get(member).and_then(Value::as_str);
        let part = part.and_then(from_b64u);
        part.is_none_or(|p| attestation.windows(p.len()).any(|w| w == p))
    };
    if ["x", "y", "n"].into_iter().all(contains) {
        Ok(Some(host))
    } else {
        Err(EvidenceFault::Broken("another passkey was registered"))
    }
}

/// Checks the browser's words; answers the host.
fn client_data(bytes: &[u8], kind: &str, act: &str) -> Result<String, EvidenceFault> {
    let data: ClientData = serde_json::from_slice(bytes)
        .map_err(|_| EvidenceFault::Form("a passkey's client data"))?;
    if data.kind != kind || data.challenge != act {
        return Err(EvidenceFault::Broken("the passkey signed something else"));
    }
    if data.cross_origin || data.top_origin.is_some() {
        return Err(EvidenceFault::Broken(
            "the approval page was inside another page",
        ));
    }
    let rest = data
        .origin
        .strip_prefix("https://")
        .or_else(|| data.origin.strip_prefix("http://"))
        .ok_or(EvidenceFault::Form("an origin"))?;
    Ok(rest.split(':').next().unwrap_or_default().to_owned())
}

pub(super) fn verifies(key: &Value, message: &[u8], sig: &[u8]) -> Option<bool> {
    let part = |name: &str| key.get(name).and_then(Value::as_str).and_then(from_b64u);
    let done = match key.get("alg")?.as_str()? {
        "es256" => {
            let point = [&[4][..], &part("x")?, &part("y")?].concat();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(message, sig)
        }
        "eddsa" => UnparsedPublicKey::new(&ED25519, part("x")?).verify(message, sig),
        "rs256" => {
            let (n, e) = (part("n")?, part("e")?);
            RsaPublicKeyComponents { n: &n, e: &e }.verify(
                &RSA_PKCS1_2048_8192_SHA256,
                message,
                sig,
            )
        }
        _ => return None,
    };
    Some(done.is_ok())
}
