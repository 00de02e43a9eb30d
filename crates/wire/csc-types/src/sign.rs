//! `signatures/signHash` (CSC 11.13) and `signatures/signPolling` (CSC 11.15).

use core_types::bytes::b64;
use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::body::Body;
use crate::error::CscError;
use crate::lenient::decode_base64;
use crate::secret::SecretText;

/// Request of `signatures/signHash`. Which algorithm it means is decided by [`crate::decide`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignHashRequest {
    /// The credential.
    pub credential_id: String,
    /// Signature activation data; absent when the bearer token itself is the authorization.
    pub sad: Option<SecretText>,
    /// Raw digests; at least one.
    pub hashes: Vec<Vec<u8>>,
    /// Object identifier of the hash, needed when `sign_algo` is a key algorithm.
    pub hash_algorithm_oid: Option<String>,
    /// Object identifier of the signature algorithm.
    pub sign_algo: String,
    /// DER of the parameters, for RSASSA-PSS.
    pub sign_algo_params: Option<Vec<u8>>,
    /// Data of the client, may be logged.
    pub client_data: Option<String>,
}

/// When the values are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignMode {
    /// With the answer (`operationMode` `S`).
    Now,
    /// Later, by `signatures/signPolling` (`operationMode` `A`).
    Later {
        /// Seconds for which they are kept.
        keep: i64,
        /// Address of the client that is told when they are there. Not checked here.
        response_uri: Option<String>,
    },
}

/// How long values are kept if the client doesn't say, and at most, in seconds.
const KEEP: (i64, i64) = (60 * 60, 24 * 60 * 60);

impl SignMode {
    fn read(body: &Body) -> Result<Self, CscError> {
        let later = match body.opt_string("operationMode")?.as_deref() {
            None | Some("S") => false,
            Some("A") => true,
            Some(_) => return Err(CscError::InvalidParameter("operationMode")),
        };
        let response_uri = body.opt_string("response_uri")?;
        if response_uri.is_some() && !later {
            return Err(CscError::InvalidParameter("response_uri"));
        }
        let keep = match body.get("validity_period") {
            None | Some(Value::Null) => KEEP.0,
            Some(value) => {
                let millis = value.as_i64().filter(|_| later);
                let millis = millis.ok_or(CscError::InvalidParameter("validity_period"))?;
                if !(1..=KEEP.1 * 1000).contains(&millis) {
                    return Err(CscError::OutOfBounds("validity_period"));
                }
                (millis + 999) / 1000
            }
        };
        Ok(match later {
            true => Self::Later { keep, response_uri },
            false => Self::Now,
        })
    }
}

impl SignHashRequest {
    /// Reads a request body of a client that waits for the values.
    ///
    /// # Errors
    /// As [`SignHashRequest::parse_with_mode`]; and when they are wanted later.
    pub fn parse(body: &[u8]) -> Result<Self, CscError> {
        match Self::parse_with_mode(body)? {
            (request, SignMode::Now) => Ok(request),
            (_, SignMode::Later { .. }) => Err(CscError::InvalidParameter("operationMode")),
        }
    }

    /// Reads a request body. Whether `SAD` is needed depends on the token and is left to the caller.
    ///
    /// # Errors
    /// The CSC error to answer with, in the order of checks of the specification.
    pub fn parse_with_mode(body: &[u8]) -> Result<(Self, SignMode), CscError> {
        let body = Body::parse(body)?;
        let sad = match body.get("SAD") {
            None => None,
            Some(Value::String(text)) => Some(SecretText::new(text.clone())),
            Some(_) => return Err(CscError::MissingString("SAD")),
        };
        let credential_id = body.string("credentialID")?;
        let texts = body.array("hashes").ok_or(CscError::MissingArray("hash"))?;
        if texts.is_empty() {
            return Err(CscError::EmptyHashes);
        }
        let decode = |v: &Value| {
            v.as_str()
                .and_then(decode_base64)
                .ok_or(CscError::InvalidBase64Hash)
        };
        let hashes = texts.iter().map(decode).collect::<Result<_, _>>()?;
        let sign_algo = body.string("signAlgo")?;
        let sign_algo_params = match body.opt_string("signAlgoParams")? {
            None => None,
            Some(text) => {
                Some(decode_base64(&text).ok_or(CscError::InvalidParameter("signAlgoParams"))?)
            }
        };
        let hash_algorithm_oid = body.opt_string("hashAlgorithmOID")?;
        let mode = SignMode::read(&body)?;
        let client_data = body.opt_string("clientData")?;
        let request = Self {
            credential_id,
            sad,
            hashes,
            hash_algorithm_oid,
            sign_algo,
            sign_algo_params,
            client_data,
        };
        Ok((request, mode))
    }
}

impl Serialize for SignHashRequest {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let hashes: Vec<String> = self.hashes.iter().map(b64).collect();
        let mut out = s.serialize_struct("SignHashRequest", 7)?;
        out.serialize_field("credentialID", &self.credential_id)?;
        if let Some(sad) = &self.sad {
            out.serialize_field("SAD", sad)?;
        }
        out.serialize_field("hashes", &hashes)?;
        if let Some(oid) = &self.hash_algorithm_oid {
            out.serialize_field("hashAlgorithmOID", oid)?;
        }
        out.serialize_field("signAlgo", &self.sign_algo)?;
        if let Some(params) = &self.sign_algo_params {
            out.serialize_field("signAlgoParams", &b64(params))?;
        }
        if let Some(data) = &self.client_data {
            out.serialize_field("clientData", data)?;
        }
        out.end()
    }
}

/// Answer of `signatures/signHash`, by mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SignHashAnswer {
    /// The values.
    Signed(SignHashResponse),
    /// What to ask for later.
    Accepted {
        /// `requestID` of `signatures/signPolling`.
        #[serde(rename = "responseID")]
        response_id: SecretText,
    },
}

/// Request of `signatures/signPolling`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignPollingRequest {
    /// `responseID` of the answer before.
    pub request_id: SecretText,
    /// Only for tokens of a client itself, which name nobody.
    pub user_id: Option<String>,
}

impl SignPollingRequest {
    /// Reads a request body.
    ///
    /// # Errors
    /// The CSC error to answer with.
    pub fn parse(body: &[u8]) -> Result<Self, CscError> {
        let body = Body::parse(body)?;
        body.opt_string("clientData")?;
        Ok(Self {
            request_id: SecretText::new(body.string("requestID")?),
            user_id: body.opt_string("userID")?,
        })
    }
}

/// Answer of `signatures/signHash`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignHashResponse {
    /// Base64 of the signature values in the order of the request; ECDSA as DER.
    pub signatures: Vec<String>,
    /// The provider's counter-signatures over these values. Not a member of the specification: clients that don't know it
    /// pass over it.
    #[serde(
        rename = "counterSignatures",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub counter_signatures: Option<CounterSignatures>,
}

/// Counter-signatures of the provider, for CMS (RFC 5652 §11.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterSignatures {
    /// Base64 of each SignerInfo, DER, in the order of the values: the values of `countersignature` attributes.
    #[serde(rename = "signerInfos")]
    pub signer_infos: Vec<String>,
    /// Base64 of the certificates, DER, the provider's first: they belong into the SignedData beside the signer's.
    pub certificates: Vec<String>,
}

impl SignHashResponse {
    /// Wraps raw signature values.
    pub fn new(values: &[Vec<u8>]) -> Self {
        Self {
            signatures: values.iter().map(b64).collect(),
            counter_signatures: None,
        }
    }

    /// The raw values, each with its counter-signature; `None` when one is not base64 or the numbers differ.
    pub fn signed(&self) -> Option<Vec<SignedValue>> {
        let decoded = |texts: &[String]| -> Option<Vec<Vec<u8>>> {
            texts.iter().map(|text| decode_base64(text)).collect()
        };
        let values = decoded(&self.signatures)?;
        let Some(counter) = &self.counter_signatures else {
            return Some(values.into_iter().map(SignedValue::from).collect());
        };
        let (infos, certificates) = (
            decoded(&counter.signer_infos)?,
            decoded(&counter.certificates)?,
        );
        if infos.len() != values.len() {
            return None;
        }
        let both = |(value, signer_info)| SignedValue {
            value,
            counter: Some(CounterSignature {
                signer_info,
                certificates: certificates.clone(),
            }),
        };
        Some(values.into_iter().zip(infos).map(both).collect())
    }
}

/// A signature value as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedValue {
    /// The value; ECDSA as DER.
    pub value: Vec<u8>,
    /// The provider's counter-signature over it.
    pub counter: Option<CounterSignature>,
}

impl From<Vec<u8>> for SignedValue {
    /// A value alone.
    fn from(value: Vec<u8>) -> Self {
        Self {
            value,
            counter: None,
        }
    }
}

/// One counter-signature, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CounterSignature {
    /// SignerInfo, DER.
    pub signer_info: Vec<u8>,
    /// Certificates, DER, the provider's first.
    pub certificates: Vec<Vec<u8>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<SignHashRequest, CscError> {
        SignHashRequest::parse(json.as_bytes())
    }

    #[test]
    fn values_may_be_wanted_later() {
        let mode = |members: &str| {
            let json =
                format!(r#"{{"credentialID":"k","hashes":["AA=="],"signAlgo":"1.2"{members}}}"#);
            SignHashRequest::parse_with_mode(json.as_bytes()).map(|(_, mode)| mode)
        };
        assert_eq!(mode(""), Ok(SignMode::Now));
        let later = |keep| {
            let response_uri = None;
            Ok(SignMode::Later { keep, response_uri })
        };
        assert_eq!(mode(r#","operationMode":"A""#), later(3600));
        assert_eq!(
            mode(r#","operationMode":"A","validity_period":1"#),
            later(1)
        );
        let bounds = Err(CscError::OutOfBounds("validity_period"));
        for bad in ["0", "-1", "86400001"] {
            let members = format!(r#","operationMode":"A","validity_period":{bad}"#);
            assert_eq!(mode(&members), bounds, "{bad}");
        }
        let invalid = |name| Err(CscError::InvalidParameter(name));
        assert_eq!(mode(r#","operationMode":"B""#), invalid("operationMode"));
        assert_eq!(mode(r#","validity_period":1"#), invalid("validity_period"));
        let called = mode(r#","operationMode":"A","response_uri":"https://a.example""#);
        let response_uri = Some("https://a.example".to_owned());
        let keep = 3600;
        assert_eq!(called, Ok(SignMode::Later { keep, response_uri }));
        for bad in [
            r#","response_uri":"https://a.example""#,
            r#","operationMode":"A","response_uri":1"#,
        ] {
            assert_eq!(mode(bad), invalid("response_uri"), "{bad}");
        }
    }

    #[test]
    fn the_sample_of_real_clients_is_read() {
        let request = parse(
            r#"{"credentialID":"k","SAD":null,"hashes":["AQID+/8="],"hashAlgorithmOID":"2.16.840.1.101.3.4.2.1",
                "signAlgo":"1.2.840.113549.1.1.1","signAlgoParams":"","operationMode":"S","clientData":null,
                "validity_period":null}"#,
        )
        .unwrap();
        assert_eq!(request.hashes, [vec![1, 2, 3, 0xfb, 0xff]]);
        assert_eq!(
            (request.sad.as_ref(), request.sign_algo_params.as_ref()),
            (None, None)
        );
        let again = serde_json::to_vec(&request).unwrap();
        assert_eq!(SignHashRequest::parse(&again).unwrap(), request);
    }

    #[test]
    fn faults_have_the_names_of_the_specification() {
        let cases = [
            (r#"{}"#, CscError::MissingString("credentialID")),
            (
                r#"{"credentialID":"k","SAD":1}"#,
                CscError::MissingString("SAD"),
            ),
            (r#"{"credentialID":"k"}"#, CscError::MissingArray("hash")),
            (
                r#"{"credentialID":"k","hashes":"AQID"}"#,
                CscError::MissingArray("hash"),
            ),
            (r#"{"credentialID":"k","hashes":[]}"#, CscError::EmptyHashes),
            (
                r#"{"credentialID":"k","hashes":["*"]}"#,
                CscError::InvalidBase64Hash,
            ),
            (
                r#"{"credentialID":"k","hashes":[1]}"#,
                CscError::InvalidBase64Hash,
            ),
            (
                r#"{"credentialID":"k","hashes":["AQID"]}"#,
                CscError::MissingString("signAlgo"),
            ),
            (
                r#"{"credentialID":"k","hashes":["AQID"],"signAlgo":"1","operationMode":"A"}"#,
                CscError::InvalidParameter("operationMode"),
            ),
        ];
        for (json, error) in cases {
            assert_eq!(parse(json), Err(error), "{json}");
        }
    }

    #[test]
    fn counter_signatures_belong_to_their_values() {
        let mut answer = SignHashResponse::new(&[vec![1], vec![2]]);
        let alone = answer.signed().unwrap();
        assert!(alone.iter().all(|signed| signed.counter.is_none()));
        assert!(!serde_json::to_string(&answer).unwrap().contains("counter"));
        answer.counter_signatures = Some(CounterSignatures {
            signer_infos: vec![b64([3]), b64([4])],
            certificates: vec![b64([5])],
        });
        let text = serde_json::to_string(&answer).unwrap();
        let again: SignHashResponse = serde_json::from_str(&text).unwrap();
        let second = again.signed().unwrap().remove(1);
        let counter = CounterSignature {
            signer_info: vec![4],
            certificates: vec![vec![5]],
        };
        assert_eq!((second.value, second.counter), (vec![2], Some(counter)));
        let one = |infos: Vec<String>| SignHashResponse {
            counter_signatures: Some(CounterSignatures {
                signer_infos: infos,
                certificates: Vec::new(),
            }),
            ..answer.clone()
        };
        assert_eq!(one(vec![b64([3])]).signed(), None);
        assert_eq!(one(vec![b64([3]), "*".into()]).signed(), None);
    }

    #[test]
    fn a_sad_is_sent_but_never_printed() {
        let request =
            parse(r#"{"credentialID":"k","SAD":"s3cret","hashes":["AQID"],"signAlgo":"1"}"#)
                .unwrap();
        assert!(!format!("{request:?}").contains("s3cret"));
        assert!(
            serde_json::to_string(&request)
                .unwrap()
                .contains(r#""SAD":"s3cret""#)
        );
    }
}
