//! CSC API 1.0.4 as another spelling of version 2: requests are rewritten before they are read, answers after they are
//! made. Nothing is decided here.

use core_types::HashAlg;
use core_types::bytes::b64;
use serde_json::{Map, Value, json};

use crate::body::Body;
use crate::error::CscError;
use crate::lenient::decode_base64;

/// `info.specs`: the errata release did not raise the number.
pub const SPECS: &str = "1.0.3.0";

/// Ids of the two authentication objects of explicit mode.
pub const PIN: &str = "PIN";
/// See [`PIN`].
pub const OTP: &str = "OTP";
/// Id of the authentication object of a person who approves in the portal; in version 1 it has no name.
pub const PORTAL: &str = "portal";

/// A request body of version 1 in the members of version 2: `hash`, `hashAlgo`, `PIN`, `OTP`. Version 1 doesn't name the
/// hash at authorization; its length does.
///
/// # Errors
/// [`CscError::Malformed`], and for members of a type that version 2 could not refuse by their own name.
pub fn to_v2(body: &[u8]) -> Result<Vec<u8>, CscError> {
    let mut members = Body::parse(body)?.into_members();
    for (old, new) in [("hash", "hashes"), ("hashAlgo", "hashAlgorithmOID")] {
        members.remove(new);
        if let Some(value) = members.remove(old) {
            members.insert(new.to_owned(), value);
        }
    }
    for later in ["authData", "hashType", "response_uri", "validity_period"] {
        members.remove(later);
    }
    let mut auth_data = Vec::new();
    for id in [PIN, OTP] {
        match members.remove(id) {
            None | Some(Value::Null) => {}
            // As every member that isn't used (see `Body::get`).
            Some(Value::String(value)) if value.is_empty() => {}
            Some(Value::String(value)) => auth_data.push(json!({ "id": id, "value": value })),
            Some(_) => return Err(CscError::MissingString(id)),
        }
    }
    if auth_data.is_empty() && members.contains_key("numSignatures") {
        // Mode `implicit`: nothing is collected, the person is asked elsewhere.
        auth_data.push(json!({ "id": PORTAL }));
    }
    if !auth_data.is_empty() {
        members.insert("authData".to_owned(), Value::Array(auth_data));
    }
    if members.contains_key("numSignatures") && !members.contains_key("hashAlgorithmOID") {
        let first = members.get("hashes").and_then(|hashes| hashes.get(0));
        let length = first
            .and_then(Value::as_str)
            .and_then(decode_base64)
            .map(|hash| hash.len());
        if let Some(length) = length {
            let hash = by_length(length).ok_or(CscError::InvalidDigestLength)?;
            members.insert("hashAlgorithmOID".to_owned(), json!(hash.oid()));
        }
    }
    Ok(Value::Object(members).to_string().into_bytes())
}

/// The hash whose digests have this many bytes: version 1 names none when a right to sign is asked for.
pub(crate) fn by_length(length: usize) -> Option<HashAlg> {
    let all = [HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512];
    all.into_iter().find(|hash| hash.len() == length)
}

/// Whether an authorization request with these parameters is one of version 1: digests are there under its name alone, and
/// nothing that version 2 brought.
pub fn asks(given: impl Fn(&str) -> bool) -> bool {
    let newer = ["hashes", "hashAlgorithmOID", "authorization_details"];
    given("hash") && !newer.into_iter().any(given)
}

/// `token_type` of an access token that is a SAD, told to whoever asked in the words of version 1 (8.3.3).
pub const SAD: &str = "SAD";

/// Which part of a list is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The part after the one that brought this token; the first without one.
    pub token: Option<String>,
    /// Entries at most; a part has [`Page::MOST`] at most.
    pub most: usize,
}

impl Page {
    /// Entries of a part for whoever doesn't say how many, or says what can't be.
    pub const MOST: usize = 100;

    /// Reads `maxResults` and `pageToken` of a request.
    ///
    /// # Errors
    /// [`CscError::InvalidParameter`] for a token that is no text; a number of results that can't be counts as none (11.4).
    pub fn read(body: &[u8]) -> Result<Self, CscError> {
        let body = Body::parse(body)?;
        let most = body.get("maxResults").and_then(Value::as_u64);
        let most = most.and_then(|most| usize::try_from(most).ok());
        let most = most.filter(|most| (1..=Self::MOST).contains(most));
        Ok(Self {
            token: body.opt_string("pageToken")?,
            most: most.unwrap_or(Self::MOST),
        })
    }
}

/// A credential of version 2 as version 1 shows it. `auth_info`: the groups `PIN` and `OTP` were asked for.
pub fn credential(mut v2: Value, auth_info: bool) -> Value {
    let Some(members) = v2.as_object_mut() else {
        return v2;
    };
    let auth = members.remove("auth").unwrap_or_default();
    let elsewhere = |object: &Value| {
        let kind = object["type"].as_str();
        kind.is_some_and(|kind| kind.ends_with("OOB"))
    };
    let objects = auth["objects"].as_array().map(Vec::as_slice);
    let mode = match objects {
        Some(objects @ [_, ..]) if objects.iter().all(elsewhere) => "implicit",
        _ => auth["mode"].as_str().unwrap_or_default(),
    }
    .to_owned();
    members.insert("authMode".to_owned(), json!(mode));
    members.remove("signatureQualifier");
    if let Some(cert) = members.get_mut("cert").and_then(Value::as_object_mut) {
        cert.retain(|name, _| !matches!(name.as_str(), "policy" | "qcStatements"));
    }
    for object in auth["objects"].as_array().into_iter().flatten() {
        let Some(id) = object["id"]
            .as_str()
            .filter(|_| auth_info && mode == "explicit")
        else {
            continue;
        };
        let mut group = Map::new();
        group.insert("presence".to_owned(), json!("true"));
        for name in ["format", "label", "description"] {
            if let Some(value) = object.get(name) {
                group.insert(name.to_owned(), value.clone());
            }
        }
        if id == OTP {
            let sent = object["type"] == "ChallengeResponse";
            let kind = if sent { "online" } else { "offline" };
            group.insert("type".to_owned(), json!(kind));
            group.insert("ID".to_owned(), json!(id));
        }
        members.insert(id.to_owned(), Value::Object(group));
    }
    v2
}

/// The words of version 1 for an error of version 2: `error` and `error_description`.
pub fn error(error: &CscError) -> (&'static str, String) {
    match error {
        // Which of the two was wrong isn't told.
        CscError::InvalidAuthData => ("invalid_pin", "The PIN or the OTP is invalid".to_owned()),
        CscError::MalformedOtp => ("invalid_otp", "The OTP is invalid".to_owned()),
        CscError::CredentialLocked => (error.error(), "PIN locked".to_owned()),
        CscError::HashNotAuthorized => (
            error.error(),
            "Hash is not authorized by the SAD.".to_owned(),
        ),
        CscError::InvalidParameter("hashes") => (
            error.error(),
            CscError::InvalidParameter("hash")
                .description()
                .into_owned(),
        ),
        CscError::CertificateExpired(Some(owner)) => (
            error.error(),
            format!("Signing certificate '{owner}' is expired."),
        ),
        _ => {
            let text = error.description();
            (error.error(), text.replace("hashAlgorithmOID", "hashAlgo"))
        }
    }
}

/// Base64 of signature values, as both versions have it.
pub fn signatures(values: &[Vec<u8>]) -> Value {
    json!({ "signatures": values.iter().map(b64).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_rewritten_and_members_of_version_2_don_t_slip_in() {
        let hash = b64([1; 48]);
        let body = json!({ "credentialID": "k", "numSignatures": 1, "hash": [hash], "PIN": "1", "OTP": null,
            "hashes": ["x"], "hashType": "sdr", "authData": [{ "id": "PIN", "value": "2" }] });
        let v2: Value =
            serde_json::from_slice(&to_v2(body.to_string().as_bytes()).unwrap()).unwrap();
        assert_eq!(
            v2,
            json!({ "credentialID": "k", "numSignatures": 1, "hashes": [hash],
                "hashAlgorithmOID": HashAlg::Sha384.oid(), "authData": [{ "id": "PIN", "value": "1" }] })
        );
        // Nothing was collected: the person is asked elsewhere.
        let empty = json!({ "numSignatures": 1, "PIN": "", "OTP": "" }).to_string();
        let v2: Value = serde_json::from_slice(&to_v2(empty.as_bytes()).unwrap()).unwrap();
        assert_eq!(v2["authData"], json!([{ "id": PORTAL }]));
        let sha1 = json!({ "numSignatures": 1, "hash": [b64([1; 20])] }).to_string();
        assert_eq!(to_v2(sha1.as_bytes()), Err(CscError::InvalidDigestLength));
        assert_eq!(to_v2(br#"{"PIN":1}"#), Err(CscError::MissingString("PIN")));
    }

    #[test]
    fn a_page_is_as_long_as_asked_or_as_the_service_has_it() {
        let read = |text: &str| Page::read(text.as_bytes());
        let most = |text: &str| read(text).unwrap().most;
        assert_eq!(most(r#"{"maxResults":3}"#), 3);
        for odd in [
            "",
            r#"{"maxResults":0}"#,
            r#"{"maxResults":-1}"#,
            r#"{"maxResults":"3"}"#,
            r#"{"maxResults":101}"#,
        ] {
            assert_eq!(most(odd), Page::MOST, "{odd}");
        }
        assert_eq!(read(r#"{"pageToken":""}"#).unwrap().token, None);
        assert_eq!(
            read(r#"{"pageToken":7}"#),
            Err(CscError::InvalidParameter("pageToken"))
        );
    }

    #[test]
    fn version_1_names_the_owner_of_a_certificate_that_ran_out() {
        let expired = CscError::CertificateExpired(Some("O=x,CN=y".to_owned()));
        let words = "Signing certificate 'O=x,CN=y' is expired.";
        assert_eq!(error(&expired), ("invalid_request", words.to_owned()));
        assert_eq!(expired.description(), "Signing certificate is expired");
    }

    #[test]
    fn version_1_names_its_own_members() {
        for (name, own) in [("hashes", "hash"), ("hashAlgorithmOID", "hashAlgo")] {
            let words = format!("Invalid parameter {own}");
            assert_eq!(error(&CscError::InvalidParameter(name)).1, words);
        }
    }

    #[test]
    fn a_credential_has_the_members_of_version_1() {
        let v2 = json!({ "key": {}, "SCAL": "2", "cert": { "status": "valid", "policy": ["1.2.3"] }, "auth": { "mode": "explicit", "objects": [
            { "type": "Password", "id": "PIN", "label": "l" }, { "type": "Password", "id": "OTP", "format": "N" } ] } });
        let v1 = credential(v2.clone(), true);
        assert_eq!(
            v1,
            json!({ "key": {}, "SCAL": "2", "cert": { "status": "valid" }, "authMode": "explicit", "PIN": { "presence": "true", "label": "l" },
                "OTP": { "presence": "true", "format": "N", "type": "offline", "ID": "OTP" } })
        );
        assert!(credential(v2, false).get("PIN").is_none());
        let sent = json!({ "auth": { "mode": "explicit", "objects": [{ "type": "ChallengeResponse", "id": "OTP" }] } });
        assert_eq!(credential(sent, true)["OTP"]["type"], "online");
        let elsewhere = json!({ "auth": { "mode": "explicit",
            "objects": [{ "type": "ChallengeResponseOOB", "id": PORTAL }] } });
        assert_eq!(
            credential(elsewhere, true),
            json!({ "authMode": "implicit" })
        );
    }
}
