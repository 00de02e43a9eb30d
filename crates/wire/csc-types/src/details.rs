//! What a credential authorization asks for: `authorization_details` (RFC 9396, CSC 8.2) or the plain parameters.

use core_types::HashAlg;
use core_types::bytes::b64;
use serde_json::{Map, Value, json};

use crate::body::strict;
use crate::error::OAuthError;
use crate::lenient::decode_base64;

/// The two spellings of the type of `authorization_details` for signing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DetailsType {
    /// `credential` (2.0 and later).
    #[default]
    Short,
    /// The URI of 2.2.
    Uri,
}

impl DetailsType {
    /// The text on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Short => "credential",
            Self::Uri => "https://cloudsignatureconsortium.org/2025/credential",
        }
    }

    /// Recognises both spellings.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Short, Self::Uri]
            .into_iter()
            .find(|t| t.as_str() == text)
    }
}

/// Spellings of the type of `authorization_details` for the deletion of a credential (2.2): implementations disagree.
pub const DELETION: [&str; 3] = [
    "credential_deletion",
    "credential-deletion",
    "https://cloudsignatureconsortium.org/2025/credential-deletion",
];

/// The credential whose deletion these `authorization_details` ask for, if that is what they ask.
///
/// # Errors
/// [`OAuthError::InvalidDetails`] when they do and name none, or want its certificate revoked too, which nobody here can.
pub fn deletion(text: &str) -> Result<Option<String>, OAuthError> {
    let value = strict(text.as_bytes()).ok_or(OAuthError::Invalid(DETAILS))?;
    let object = single(&value)?;
    let kind = object.get("type").and_then(Value::as_str);
    if !kind.is_some_and(|kind| DELETION.contains(&kind)) {
        return Ok(None);
    }
    let id = object.get("credentialID").and_then(Value::as_str);
    let id = id.filter(|id| !id.is_empty());
    let id = id.ok_or(OAuthError::InvalidDetails(
        "authorization_details: a deletion names its credentialID",
    ))?;
    // Nobody destroys a key for more than what comes of it.
    let inner = object.get("credentialDeletionRequest");
    let inner = inner.and_then(|request| request.get("revoke"));
    let mut wished = [object.get("revoke"), inner].into_iter().flatten();
    if wished.any(|wish| !matches!(wish, Value::Null | Value::Bool(false))) {
        return Err(OAuthError::InvalidDetails(
            "authorization_details: revoke is the certification authority's; leave it out, and ask there",
        ));
    }
    Ok(Some(id.to_owned()))
}

/// What a hash in an authorization is the hash of (2.2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum HashType {
    /// The data to be signed, which `signHash` signs.
    #[default]
    Dtbsr,
    /// The document that will be signed.
    Sdr,
    /// The original document.
    Sodr,
}

impl HashType {
    /// The text on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dtbsr => "dtbsr",
            Self::Sdr => "sdr",
            Self::Sodr => "sodr",
        }
    }

    /// Recognises the text in any case.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Dtbsr, Self::Sdr, Self::Sodr]
            .into_iter()
            .find(|t| t.as_str().eq_ignore_ascii_case(text))
    }
}

/// One entry of `documentDigests`. Two are equal when they mean the same, said or not.
#[derive(Debug, Clone, Default)]
pub struct DocumentDigest {
    /// The raw digest.
    pub hash: Vec<u8>,
    /// What the client calls the document; untrusted text.
    pub label: Option<String>,
    /// What was hashed, if it is said.
    pub hash_type: Option<HashType>,
    /// With `sdr`: the signed attributes (SET OF, DER) that bind the document, a member of our own that others ignore.
    /// Without it the service builds the minimal set, which anybody can compute.
    pub signed_attrs: Option<Vec<u8>>,
    /// With `sdr`: `/ByteRange` of the prepared PDF, a hint for whoever compares a file. A member of our own.
    pub byte_range: Option<[u64; 4]>,
}

impl DocumentDigest {
    /// What was hashed, as the specification takes it where nothing is said.
    pub fn kind(&self) -> HashType {
        self.hash_type.unwrap_or_default()
    }
}

impl PartialEq for DocumentDigest {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
            && self.label == other.label
            && self.kind() == other.kind()
            && self.signed_attrs == other.signed_attrs
            && self.byte_range == other.byte_range
    }
}

impl Eq for DocumentDigest {}

/// A signature authorization that was asked for, checked. Two are equal when they mean the same, whatever
/// alphabet or member order the client used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureAuthorization {
    /// The credential; at least one of this and `signature_qualifier` is there.
    pub credential_id: Option<String>,
    /// The kind of signature wanted, when the service shall choose the credential.
    pub signature_qualifier: Option<String>,
    /// Number of signatures, at least 1; equals the number of digests when there are any.
    pub num_signatures: u32,
    /// The digests to be bound; empty for SCAL 1.
    pub digests: Vec<DocumentDigest>,
    /// Hash of all digests; there whenever digests are.
    pub hash_algorithm: Option<HashAlg>,
    /// Seconds for which `credentials/extendTransaction` may go on after the approval; 0 for not at all, nothing for what the client's
    /// contract says. Our own member `renewableFor`: the signer sees it and approves it.
    pub renewable_for: Option<u32>,
}

/// Most seconds of it.
pub const MAX_RENEWAL: u32 = 3600;

pub(crate) const DETAILS: &str = "authorization_details";
const SIGNED_ATTRS: &str = "signedAttrs";
const BYTE_RANGE: &str = "byteRange";

impl SignatureAuthorization {
    /// Reads `authorization_details`: an array of one object or the object alone, of either type spelling.
    ///
    /// # Errors
    /// [`OAuthError::InvalidDetails`] with the reason.
    pub fn parse(text: &str) -> Result<Self, OAuthError> {
        let bad = OAuthError::InvalidDetails;
        let value = strict(text.as_bytes()).ok_or(OAuthError::Invalid(DETAILS))?;
        let object = single(&value)?;
        object
            .get("type")
            .and_then(Value::as_str)
            .and_then(DetailsType::parse)
            .ok_or(bad("authorization_details: unknown type"))?;
        let text = |name: &str| {
            object
                .get(name)
                .and_then(Value::as_str)
                .filter(|s| !s.is_empty())
        };
        let hash_algorithm = match text("hashAlgorithmOID") {
            None => None,
            Some(oid) => Some(HashAlg::from_oid(oid).ok_or(bad(
                "authorization_details: hashAlgorithmOID is unknown or not approved",
            ))?),
        };
        let digests = match object.get("documentDigests") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(entries)) => {
                entries.iter().map(read_digest).collect::<Result<_, _>>()?
            }
            Some(_) => {
                return Err(bad(
                    "authorization_details: documentDigests must be an array",
                ));
            }
        };
        let num_signatures = match object.get("numSignatures") {
            None | Some(Value::Null) => None,
            Some(n) => Some(n.as_u64().and_then(|n| u32::try_from(n).ok()).ok_or(bad(
                "authorization_details: numSignatures must be a positive integer",
            ))?),
        };
        Self::check(
            text("credentialID").map(str::to_owned),
            text("signatureQualifier").map(str::to_owned),
            num_signatures,
            digests,
            hash_algorithm,
        )
        .and_then(|asked| asked.renewable(object.get("renewableFor")))
    }

    fn renewable(self, value: Option<&Value>) -> Result<Self, OAuthError> {
        const BAD: OAuthError =
            OAuthError::InvalidDetails("authorization_details: renewableFor is 0 to 3600 seconds");
        let seconds = match value {
            None | Some(Value::Null) => None,
            Some(n) => {
                let n = n.as_u64().and_then(|n| u32::try_from(n).ok());
                Some(n.filter(|n| *n <= MAX_RENEWAL).ok_or(BAD)?)
            }
        };
        Ok(Self {
            renewable_for: seconds,
            ..self
        })
    }

    /// Joins the parts, from either form of request, when they make sense together.
    pub(crate) fn check(
        credential_id: Option<String>,
        signature_qualifier: Option<String>,
        num_signatures: Option<u32>,
        digests: Vec<DocumentDigest>,
        hash_algorithm: Option<HashAlg>,
    ) -> Result<Self, OAuthError> {
        let bad = OAuthError::InvalidDetails;
        if credential_id.is_none() && signature_qualifier.is_none() {
            return Err(bad("credentialID or signatureQualifier is needed"));
        }
        let count = u32::try_from(digests.len()).map_err(|_| bad("too many hashes"))?;
        if count > 0 {
            let hash = hash_algorithm.ok_or(bad("hashAlgorithmOID is needed with hashes"))?;
            if digests.iter().any(|d| d.hash.len() != hash.len()) {
                return Err(bad("a hash has another length than hashAlgorithmOID gives"));
            }
        }
        let num_signatures = match (num_signatures, count) {
            (None, 0) => return Err(bad("numSignatures or hashes are needed")),
            (None, n) => n,
            (Some(0), _) => return Err(bad("numSignatures must be at least 1")),
            (Some(n), 0) => n,
            (Some(n), count) if n == count => n,
            (Some(_), _) => return Err(bad("numSignatures differs from the number of hashes")),
        };
        Ok(Self {
            credential_id,
            signature_qualifier,
            num_signatures,
            digests,
            hash_algorithm,
            renewable_for: None,
        })
    }

    /// The same with all of it said: what was hashed and for how long it may be renewed, where it doesn't say.
    #[must_use]
    pub fn resolved(mut self, kind: HashType, renewal: u32) -> Self {
        for digest in &mut self.digests {
            digest.hash_type.get_or_insert(kind);
        }
        self.renewable_for.get_or_insert(renewal);
        self
    }

    /// The value of `authorization_details`: an array of one object.
    pub fn to_details(&self, form: DetailsType) -> Value {
        let mut object = Map::new();
        object.insert("type".to_owned(), json!(form.as_str()));
        let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
        if let Some(id) = &self.credential_id {
            put("credentialID", json!(id));
        }
        if let Some(qualifier) = &self.signature_qualifier {
            put("signatureQualifier", json!(qualifier));
        }
        put("numSignatures", json!(self.num_signatures));
        if let Some(seconds) = self.renewable_for {
            put("renewableFor", json!(seconds));
        }
        if !self.digests.is_empty() {
            put(
                "documentDigests",
                self.digests.iter().map(write_digest).collect(),
            );
        }
        if let Some(hash) = self.hash_algorithm {
            put("hashAlgorithmOID", json!(hash.oid()));
        }
        Value::Array(vec![Value::Object(object)])
    }
}

/// The details as granted, for the token response: exactly what the client sent, with the `credentialID` that
/// was used. Clients compare their own spelling of it.
///
/// # Errors
/// [`OAuthError::Invalid`] when `received` was not accepted by [`SignatureAuthorization::parse`].
pub fn granted(received: &str, credential_id: &str) -> Result<Value, OAuthError> {
    let value: Value = serde_json::from_str(received).map_err(|_| OAuthError::Invalid(DETAILS))?;
    single(&value)?;
    let mut object = match value {
        Value::Array(mut entries) => entries.pop().unwrap_or_default(),
        other => other,
    };
    object["credentialID"] = json!(credential_id);
    Ok(Value::Array(vec![object]))
}

pub(crate) fn single(value: &Value) -> Result<&Map<String, Value>, OAuthError> {
    let object = match value {
        Value::Array(entries) => match entries.as_slice() {
            [one] => one.as_object(),
            _ => None,
        },
        other => other.as_object(),
    };
    object.ok_or(OAuthError::InvalidDetails(
        "authorization_details: exactly one object is accepted",
    ))
}

fn read_digest(entry: &Value) -> Result<DocumentDigest, OAuthError> {
    let bad = OAuthError::InvalidDetails;
    let text = |name: &str| {
        entry
            .get(name)
            .and_then(Value::as_str)
            .filter(|s| !s.is_empty())
    };
    let hash = text("hash").and_then(decode_base64);
    let hash_type = match text("hashType") {
        None => None,
        Some(name) => Some(HashType::parse(name).ok_or(bad("documentDigests: unknown hashType"))?),
    };
    Ok(DocumentDigest {
        hash: hash.ok_or(bad("documentDigests: hash must be base64"))?,
        label: text("label").map(str::to_owned),
        hash_type,
        signed_attrs: match text(SIGNED_ATTRS) {
            None => None,
            Some(text) => {
                let read = decode_base64(text);
                Some(read.ok_or(bad("documentDigests: signedAttrs must be base64"))?)
            }
        },
        byte_range: match entry.get(BYTE_RANGE) {
            None | Some(Value::Null) => None,
            Some(range) => {
                let read = serde_json::from_value(range.clone());
                Some(read.map_err(|_| bad("documentDigests: byteRange has four numbers"))?)
            }
        },
    })
}

fn write_digest(digest: &DocumentDigest) -> Value {
    let mut entry = json!({ "hash": b64(&digest.hash), "hashType": digest.kind().as_str() });
    if let Some(label) = &digest.label {
        entry["label"] = json!(label);
    }
    if let Some(attributes) = &digest.signed_attrs {
        entry[SIGNED_ATTRS] = json!(b64(attributes));
    }
    if let Some(range) = &digest.byte_range {
        entry[BYTE_RANGE] = json!(range);
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_is_known_by_each_of_its_names() {
        for kind in DELETION {
            let text = json!([{ "type": kind, "credentialID": "k" }]).to_string();
            assert_eq!(deletion(&text), Ok(Some("k".to_owned())));
            let text = json!({ "type": kind }).to_string();
            assert!(deletion(&text).is_err());
            for (revoke, good) in [
                (json!(false), true),
                (json!(true), false),
                (json!("true"), false),
            ] {
                let outer = json!({ "type": kind, "credentialID": "k", "revoke": revoke });
                let inner = json!({ "type": kind, "credentialID": "k",
                    "credentialDeletionRequest": { "revoke": revoke } });
                for details in [outer, inner] {
                    assert_eq!(deletion(&details.to_string()).is_ok(), good, "{details}");
                }
            }
        }
        assert_eq!(deletion(r#"[{"type":"credential"}]"#), Ok(None));
        assert!(deletion("[]").is_err() && deletion("x").is_err());
    }
    use core_types::bytes::b64u;

    fn hash() -> Vec<u8> {
        vec![0xfb; 32]
    }

    fn one(hash_text: &str, kind: &str) -> String {
        json!([{ "type": kind, "credentialID": "k", "hashAlgorithmOID": HashAlg::Sha256.oid(),
            "documentDigests": [{ "hash": hash_text, "label": "契約書.pdf", "hashType": "DTBSR" }],
            "locations": ["https://x"] }])
        .to_string()
    }

    #[test]
    fn alphabets_types_and_wrapping_mean_the_same() {
        let a = SignatureAuthorization::parse(&one(&b64(hash()), "credential")).unwrap();
        let b =
            SignatureAuthorization::parse(&one(&b64u(hash()), DetailsType::Uri.as_str())).unwrap();
        assert_eq!(a, b);
        assert_eq!(
            (a.num_signatures, a.digests[0].kind()),
            (1, HashType::Dtbsr)
        );
        let text = one(&b64(hash()), "credential");
        let bare = &text[1..text.len() - 1];
        assert_eq!(SignatureAuthorization::parse(bare).unwrap(), a);
        let ours = a.to_details(DetailsType::Uri).to_string();
        assert_eq!(SignatureAuthorization::parse(&ours).unwrap(), a);
    }

    #[test]
    fn what_is_hashed_means_the_same_said_or_not() {
        let said = SignatureAuthorization::parse(&one(&b64(hash()), "credential")).unwrap();
        let mut value: Value = serde_json::from_str(&one(&b64(hash()), "credential")).unwrap();
        value[0]["documentDigests"][0]["hashType"] = Value::Null;
        let unsaid = SignatureAuthorization::parse(&value.to_string()).unwrap();
        assert_eq!(said, unsaid);
        assert_eq!(unsaid.digests[0].hash_type, None);
        value[0]["documentDigests"][0]["hashType"] = json!("sdr");
        let document = SignatureAuthorization::parse(&value.to_string()).unwrap();
        assert_ne!(document, unsaid);
        // Where a contract says what is meant.
        let meant = unsaid.resolved(HashType::Sdr, 0);
        assert_eq!(document.clone().resolved(HashType::Sdr, 0), meant);
        assert_ne!(said.resolved(HashType::Sdr, 0), meant);
        assert_ne!(document.resolved(HashType::Sdr, 60), meant);
    }

    #[test]
    fn a_document_brings_its_attributes_and_its_range() {
        let mut value: Value = serde_json::from_str(&one(&b64(hash()), "credential")).unwrap();
        let digest = &mut value[0]["documentDigests"][0];
        digest["hashType"] = json!("sdr");
        digest["signedAttrs"] = json!("MQA=");
        digest["byteRange"] = json!([0, 10, 20, 30]);
        let asked = SignatureAuthorization::parse(&value.to_string()).unwrap();
        let read = &asked.digests[0];
        assert_eq!(read.signed_attrs.as_deref(), Some(&[0x31, 0][..]));
        assert_eq!(
            (read.kind(), read.byte_range),
            (HashType::Sdr, Some([0, 10, 20, 30]))
        );
        let ours = asked.to_details(DetailsType::Short).to_string();
        assert_eq!(SignatureAuthorization::parse(&ours).unwrap(), asked);
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let refuse = |change: fn(&mut Value)| {
            let mut value: Value = serde_json::from_str(&one(&b64(hash()), "credential")).unwrap();
            change(&mut value[0]);
            assert!(
                SignatureAuthorization::parse(&value.to_string()).is_err(),
                "{value}"
            );
        };
        refuse(|d| d["type"] = json!("payment"));
        refuse(|d| d["credentialID"] = Value::Null);
        refuse(|d| d["hashAlgorithmOID"] = json!("1.3.14.3.2.26"));
        refuse(|d| d["hashAlgorithmOID"] = Value::Null);
        refuse(|d| d["documentDigests"][0]["hash"] = json!("AQID"));
        refuse(|d| d["documentDigests"][0]["hash"] = json!("%2B"));
        refuse(|d| d["documentDigests"][0]["hashType"] = json!("other"));
        refuse(|d| d["documentDigests"][0]["signedAttrs"] = json!("%"));
        refuse(|d| d["documentDigests"][0]["byteRange"] = json!([0, 1, 2]));
        refuse(|d| d["documentDigests"][0]["byteRange"] = json!([0, 1, 2, -1]));
        refuse(|d| d["documentDigests"] = json!("AQID"));
        refuse(|d| d["documentDigests"] = json!([]));
        refuse(|d| d["numSignatures"] = json!(2));
        refuse(|d| d["numSignatures"] = json!(0));
        refuse(|d| d["numSignatures"] = json!("1"));
        refuse(|d| d["renewableFor"] = json!(3601));
        refuse(|d| d["renewableFor"] = json!(-1));
        assert!(SignatureAuthorization::parse("[{'type': 'credential'}]").is_err());
        assert!(SignatureAuthorization::parse("[]").is_err());
    }

    #[test]
    fn the_grant_repeats_what_was_sent() {
        let sent = r#"{"type":"credential","signatureQualifier":"q","x":1,"documentDigests":[{"hash":"-_","hashType":"DTBSR"}]}"#;
        let back = granted(sent, "k7").unwrap();
        assert_eq!(back[0]["credentialID"], "k7");
        assert_eq!(back[0]["documentDigests"][0]["hash"], "-_");
        assert_eq!(back[0]["documentDigests"][0]["hashType"], "DTBSR");
        assert_eq!(back[0]["x"], 1);
    }
}
