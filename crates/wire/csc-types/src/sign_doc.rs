//! `signatures/signDoc` (CSC 11.14), and how the service hands such a call to the worker that does it.

mod write;

use core_types::HashAlg;
use core_types::rpc::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::body::Body;
use crate::error::CscError;
use crate::lenient::decode_base64;
use crate::secret::SecretText;

/// Most documents or digests of one call.
pub const MAX_DOCUMENTS: usize = 100;

/// Request of `signatures/signDoc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignDocRequest {
    /// The credential.
    pub credential_id: String,
    /// Signature activation data; absent when the bearer token itself is the authorization.
    pub sad: Option<SecretText>,
    /// What is to be signed, in order.
    pub entries: Vec<DocEntry>,
}

/// Documents or digests that are signed in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocEntry {
    /// What.
    pub content: DocContent,
    /// Format.
    pub format: Format,
    /// Level.
    pub level: Level,
    /// Object identifier of the signature algorithm.
    pub sign_algo: String,
    /// DER of its parameters, for RSASSA-PSS.
    pub sign_algo_params: Option<Vec<u8>>,
    /// Where the document is.
    pub envelope: Envelope,
    /// DER of the claimed time of signing, the one property that can be signed: the caller fixes it, since the approval covers it.
    pub signing_time: Option<Vec<u8>>,
}

/// What is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocContent {
    /// The document.
    Document(Vec<u8>),
    /// Digests of documents.
    Digests {
        /// Raw digests; at least one.
        hashes: Vec<Vec<u8>>,
        /// Object identifier of their hash; the algorithm's if there is none.
        hash_algorithm_oid: Option<String>,
    },
}

/// A format of signatures (`signature_format`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `C`: CAdES.
    Cades,
    /// `P`: PAdES.
    Pades,
    /// `X`: XAdES.
    Xades,
    /// `J`: JAdES.
    Jades,
}

/// A baseline level (`conformance_level`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// B-B.
    B,
    /// B-T: with a time-stamp.
    T,
    /// B-LT.
    Lt,
    /// B-LTA.
    Lta,
}

/// Where the document of a signature is (`signed_envelope_property`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Envelope {
    /// In the signature, or the other way round.
    Attached,
    /// Elsewhere.
    Detached,
    /// Beside it.
    Parallel,
    /// PAdES: changes may be forbidden.
    Certification,
    /// PAdES: a new revision.
    Revision,
    /// XAdES: the signature is in the document.
    Enveloped,
    /// XAdES: the document is in the signature.
    Enveloping,
}

impl Format {
    /// As on the wire.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "C" => Some(Self::Cades),
            "P" => Some(Self::Pades),
            "X" => Some(Self::Xades),
            "J" => Some(Self::Jades),
            _ => None,
        }
    }

    /// As on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cades => "C",
            Self::Pades => "P",
            Self::Xades => "X",
            Self::Jades => "J",
        }
    }

    fn envelope(self, text: Option<&str>) -> Option<Envelope> {
        use Envelope::{
            Attached, Certification, Detached, Enveloped, Enveloping, Parallel, Revision,
        };
        let known: &[Envelope] = match self {
            Self::Cades | Self::Jades => &[Attached, Detached, Parallel],
            Self::Pades => &[Certification, Revision],
            Self::Xades => &[Enveloped, Enveloping, Detached],
        };
        // The first is what is meant when nothing is said.
        let Some(text) = text else {
            return known.first().copied();
        };
        let mut known = known.iter().copied();
        known.find(|envelope| envelope.as_str().eq_ignore_ascii_case(text))
    }
}

impl Level {
    /// Both spellings that are in use, in any case: `AdES-B-T` and `AdES-T`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_uppercase();
        let level = text.strip_prefix("ADES-")?;
        match level.strip_prefix("B-").unwrap_or(level) {
            "B" => Some(Self::B),
            "T" => Some(Self::T),
            "LT" => Some(Self::Lt),
            "LTA" => Some(Self::Lta),
            _ => None,
        }
    }
}

impl SignDocRequest {
    /// Reads a request body. Whether `SAD` is needed depends on the token and is left to the caller.
    ///
    /// # Errors
    /// The CSC error to answer with.
    pub fn parse(body: &[u8]) -> Result<Self, CscError> {
        let body = Body::parse(body)?;
        let sad = match body.get("SAD") {
            None => None,
            Some(Value::String(text)) => Some(SecretText::new(text.clone())),
            Some(_) => return Err(CscError::MissingString("SAD")),
        };
        let credential_id = body.string("credentialID")?;
        let list = |name, error: CscError| match body.get(name) {
            None => Ok(None),
            Some(Value::Array(entries)) => Ok(Some(entries.as_slice())),
            Some(_) => Err(error),
        };
        let digests = list("documentDigests", CscError::DocumentDigests)?;
        let documents = list("documents", CscError::Documents)?;
        let (entries, fault) = match (digests, documents) {
            (Some(_), Some(_)) => return Err(CscError::BothDocuments),
            (Some(digests), None) => (digests, CscError::DocumentDigests),
            (None, Some(documents)) => (documents, CscError::Documents),
            (None, None) => return Err(CscError::NoDocuments),
        };
        if entries.is_empty() {
            return Err(CscError::NoDocuments);
        }
        let entries: Vec<DocEntry> = entries
            .iter()
            .map(|entry| match entry {
                Value::Object(members) => entry_of(members.clone(), &fault),
                _ => Err(fault.clone()),
            })
            .collect::<Result<_, _>>()?;
        if entries.iter().map(DocEntry::count).sum::<usize>() > MAX_DOCUMENTS {
            return Err(fault);
        }
        // Values come with the answer, and nobody is told later.
        match body.opt_string("operationMode")?.as_deref() {
            None | Some("S") => {}
            Some(_) => return Err(CscError::InvalidParameter("operationMode")),
        }
        for later in ["validity_period", "response_uri"] {
            if body.get(later).is_some() {
                return Err(CscError::InvalidParameter(later));
            }
        }
        // Both spellings that are in use; there is no validation data to return.
        for wish in ["returnValidationInfo", "returnValidationInformation"] {
            if body.flag(wish)? {
                return Err(CscError::InvalidParameter("returnValidationInfo"));
            }
        }
        body.opt_string("clientData")?;
        Ok(Self {
            credential_id,
            sad,
            entries,
        })
    }
}

impl DocEntry {
    /// Object identifier of the digests' hash, if it is named.
    pub fn hash_oid(&self) -> Option<&str> {
        match &self.content {
            DocContent::Document(_) => None,
            DocContent::Digests {
                hash_algorithm_oid, ..
            } => hash_algorithm_oid.as_deref(),
        }
    }

    /// How many signatures it asks for.
    pub fn count(&self) -> usize {
        match &self.content {
            DocContent::Document(_) => 1,
            DocContent::Digests { hashes, .. } => hashes.len(),
        }
    }
}

fn entry_of(members: Map<String, Value>, fault: &CscError) -> Result<DocEntry, CscError> {
    let entry = Body::of(members);
    let content = match fault {
        CscError::Documents => {
            let text = entry.get("document").and_then(Value::as_str);
            let document = decode_base64(text.ok_or(CscError::Documents)?);
            DocContent::Document(document.ok_or(CscError::InvalidBase64Documents)?)
        }
        _ => {
            // A sample of the specification has a text where it says an array.
            let texts: Vec<&Value> = match entry.get("hashes") {
                Some(Value::Array(texts)) => texts.iter().collect(),
                Some(text @ Value::String(_)) => vec![text],
                _ => return Err(CscError::DocumentDigests),
            };
            if texts.is_empty() {
                return Err(CscError::DocumentDigests);
            }
            let decode = |text: &&Value| {
                let bytes = text.as_str().and_then(decode_base64);
                bytes.ok_or(CscError::InvalidBase64Hashes)
            };
            DocContent::Digests {
                hashes: texts.iter().map(decode).collect::<Result<_, _>>()?,
                hash_algorithm_oid: entry.opt_string("hashAlgorithmOID")?,
            }
        }
    };
    let format = Format::parse(&entry.string("signature_format")?)
        .ok_or(CscError::InvalidParameter("signature_format"))?;
    let level = match entry.opt_string("conformance_level")? {
        None => Level::B,
        Some(text) => Level::parse(&text).ok_or(CscError::InvalidParameter("conformance_level"))?,
    };
    let sign_algo = entry.string("signAlgo")?;
    let sign_algo_params = match entry.opt_string("signAlgoParams")? {
        None => None,
        Some(text) => {
            Some(decode_base64(&text).ok_or(CscError::InvalidParameter("signAlgoParams"))?)
        }
    };
    let envelope = entry.opt_string("signed_envelope_property")?;
    let envelope = format
        .envelope(envelope.as_deref())
        .ok_or(CscError::InvalidParameter("signed_envelope_property"))?;
    let signing_time = signing_time(entry.get("signed_props"), format)?;
    Ok(DocEntry {
        content,
        format,
        level,
        sign_algo,
        sign_algo_params,
        envelope,
        signing_time,
    })
}

/// The attributes are those that the signer's side can rebuild or was shown: beside the minimal set only the time, and only as
/// the caller wrote it into what was approved.
fn signing_time(wanted: Option<&Value>, format: Format) -> Result<Option<Vec<u8>>, CscError> {
    let wanted = match wanted {
        None => return Ok(None),
        Some(Value::Array(wanted)) => wanted,
        Some(_) => return Err(CscError::SignedProps(String::new())),
    };
    let mut time = None;
    let mut others = Vec::new();
    for prop in wanted {
        let name = prop["attribute_name"].as_str().unwrap_or_default();
        let value = prop["attribute_value"].as_str().and_then(decode_base64);
        let fits = name == "signing-time" && format == Format::Cades && time.is_none();
        match value.filter(|_| fits) {
            Some(value) => time = Some(value),
            None => {
                let shown = name.chars().filter(char::is_ascii_graphic);
                others.push(shown.take(64).collect::<String>());
            }
        }
    }
    match others.is_empty() {
        true => Ok(time),
        false => Err(CscError::SignedProps(others.join(" "))),
    }
}

/// Answer of `signatures/signDoc`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignDocResponse {
    /// Base64 of signed documents: those of entries whose document is in the result.
    #[serde(
        rename = "DocumentWithSignature",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub documents: Vec<String>,
    /// Base64 of signatures without their documents.
    #[serde(
        rename = "SignatureObject",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub signatures: Vec<String>,
}

/// Has documents signed by the worker, which calls `credentials/info` and `signatures/signHash` with the caller's token, like any
/// client. Between the service and its worker.
#[derive(Debug, Clone, Copy)]
pub struct WorkerSignDoc;

impl Method for WorkerSignDoc {
    const PATH: &'static str = "/worker/v1/sign-doc";
    type Request = WorkerRequest;
    type Response = SignDocResponse;
    type Refusal = WorkerRefusal;
}

/// Request of [`WorkerSignDoc`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerRequest {
    /// The caller's bearer token.
    pub token: SecretText,
    /// The request's body as it came: JSON of [`SignDocRequest`].
    pub body: String,
    /// The caller's `Idempotency-Key`, for `signHash`; without one, the same call with the same token is the same call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

/// Why the worker signed nothing: an error of the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerRefusal {
    /// HTTP status.
    pub status: u16,
    /// The `error` member.
    pub error: String,
    /// The `error_description` member.
    pub description: String,
}

impl From<CscError> for WorkerRefusal {
    fn from(error: CscError) -> Self {
        Self {
            status: error.status(),
            error: error.error().to_owned(),
            description: error.description().into_owned(),
        }
    }
}

/// The hash of an entry's digests, if it is named.
///
/// # Errors
/// [`CscError::InvalidParameter`] for one that isn't known.
pub fn named_hash(oid: Option<&str>) -> Result<Option<HashAlg>, CscError> {
    let known = |oid| HashAlg::from_oid(oid).ok_or(CscError::InvalidParameter("hashAlgorithmOID"));
    oid.map(known).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<SignDocRequest, CscError> {
        SignDocRequest::parse(text.as_bytes())
    }

    fn entry(more: &str) -> String {
        format!(
            r#"{{"credentialID":"k","documents":[{{"document":"AQID","signature_format":"C","signAlgo":"1.2"{more}}}]}}"#
        )
    }

    #[test]
    fn a_request_says_what_in_which_format() {
        let read_one = |more: &str| read(&entry(more)).unwrap().entries.remove(0);
        let plain = read_one("");
        assert_eq!(plain.content, DocContent::Document(vec![1, 2, 3]));
        assert_eq!(
            (plain.format, plain.level, plain.envelope),
            (Format::Cades, Level::B, Envelope::Attached)
        );
        for level in ["AdES-B-T", "Ades-B-T", "AdES-T"] {
            let more = format!(r#","conformance_level":"{level}""#);
            assert_eq!(read_one(&more).level, Level::T);
        }
        let more = r#","signed_envelope_property":"detached","signed_props":[{"attribute_name":"signing-time","attribute_value":"AQ=="}]"#;
        let detached = read_one(more);
        assert_eq!(
            (detached.envelope, detached.signing_time),
            (Envelope::Detached, Some(vec![1]))
        );
        let digests = read(
            r#"{"credentialID":"k","SAD":"s","documentDigests":[{"hashes":["AQ==","Ag=="],"signature_format":"P","signAlgo":"1.2"},
                {"hashes":"Aw==","hashAlgorithmOID":"1","signature_format":"C","signAlgo":"1.2"}]}"#,
        )
        .unwrap();
        let counts: Vec<usize> = digests.entries.iter().map(DocEntry::count).collect();
        assert_eq!(counts, [2, 1]);
        assert_eq!(digests.entries[0].envelope, Envelope::Certification);
    }

    #[test]
    fn each_fault_has_the_words_of_the_specification() {
        let list = |name: &str, value: &str| format!(r#"{{"credentialID":"k","{name}":{value}}}"#);
        let digests = |entry: &str| list("documentDigests", &format!("[{entry}]"));
        for (text, words) in [
            (
                "{}".to_owned(),
                "Missing (or invalid type) string parameter credentialID",
            ),
            (
                list("a", "1"),
                "Empty documentDigests and documents objects",
            ),
            (
                list("documents", "[]"),
                "Empty documentDigests and documents objects",
            ),
            (list("documents", "{}"), "Invalid array parameter documents"),
            (
                list("documents", "[1]"),
                "Invalid array parameter documents",
            ),
            (
                list("documents", "[{}]"),
                "Invalid array parameter documents",
            ),
            (
                list("documentDigests", "7"),
                "Invalid object parameter documentDigests",
            ),
            (digests("{}"), "Invalid object parameter documentDigests"),
            (
                digests(r#"{"hashes":["*"]}"#),
                "Invalid Base64 hashes string parameter",
            ),
            (
                r#"{"credentialID":"k","documents":[{}],"documentDigests":[{}]}"#.to_owned(),
                "Both documentDigests and documents parameters passed",
            ),
            (
                list("documents", r#"[{"document":"*"}]"#),
                "Invalid Base64 documents string parameter",
            ),
            (
                list("documents", r#"[{"document":"AQ=="}]"#),
                "Missing (or invalid type) string parameter signature_format",
            ),
            (
                list(
                    "documents",
                    r#"[{"document":"AQ==","signature_format":"Z"}]"#,
                ),
                "Invalid parameter signature_format",
            ),
            (
                list(
                    "documents",
                    r#"[{"document":"AQ==","signature_format":"C"}]"#,
                ),
                "Missing (or invalid type) string parameter signAlgo",
            ),
            (
                entry(r#","conformance_level":"AdES-X""#),
                "Invalid parameter conformance_level",
            ),
            (
                entry(r#","signed_envelope_property":"Revision""#),
                "Invalid parameter signed_envelope_property",
            ),
            (
                entry(
                    r#","signed_props":[{"attribute_name":"signing-time"},{"attribute_name":"a\nb"}]"#,
                ),
                "Invalid parameter signed_props: signing-time ab",
            ),
            (
                entry("").replacen('{', r#"{"operationMode":"A","#, 1),
                "Invalid parameter operationMode",
            ),
            (
                entry("").replacen('{', r#"{"response_uri":"https://a.example","#, 1),
                "Invalid parameter response_uri",
            ),
            (
                entry("").replacen('{', r#"{"returnValidationInfo":true,"#, 1),
                "Invalid parameter returnValidationInfo",
            ),
        ] {
            let error = read(&text).unwrap_err();
            assert_eq!(error.description(), words, "{text}");
            assert_eq!((error.status(), error.error()), (400, "invalid_request"));
        }
        let many = vec![r#"{"document":"AQ==","signature_format":"C","signAlgo":"1"}"#; 101];
        let many = list("documents", &format!("[{}]", many.join(",")));
        assert_eq!(read(&many), Err(CscError::Documents));
    }
}
