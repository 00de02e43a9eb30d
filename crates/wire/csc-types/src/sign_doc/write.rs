//! The request as a client writes it.

use core_types::bytes::b64;
use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::{DocContent, DocEntry, Envelope, Level, SignDocRequest};

impl Level {
    /// As on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::B => "AdES-B-B",
            Self::T => "AdES-B-T",
            Self::Lt => "AdES-B-LT",
            Self::Lta => "AdES-B-LTA",
        }
    }
}

impl Envelope {
    /// As on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Attached => "Attached",
            Self::Detached => "Detached",
            Self::Parallel => "Parallel",
            Self::Certification => "Certification",
            Self::Revision => "Revision",
            Self::Enveloped => "Enveloped",
            Self::Enveloping => "Enveloping",
        }
    }
}

impl Serialize for SignDocRequest {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let entries = |documents: bool| -> Vec<Value> {
            let of = self.entries.iter();
            of.filter(|entry| matches!(entry.content, DocContent::Document(_)) == documents)
                .map(DocEntry::to_value)
                .collect()
        };
        let mut out = s.serialize_struct("SignDocRequest", 4)?;
        out.serialize_field("credentialID", &self.credential_id)?;
        if let Some(sad) = &self.sad {
            out.serialize_field("SAD", sad)?;
        }
        for (name, entries) in [
            ("documents", entries(true)),
            ("documentDigests", entries(false)),
        ] {
            if !entries.is_empty() {
                out.serialize_field(name, &entries)?;
            }
        }
        out.end()
    }
}

impl DocEntry {
    fn to_value(&self) -> Value {
        let mut entry = json!({
            "signature_format": self.format.as_str(),
            "conformance_level": self.level.as_str(),
            "signAlgo": self.sign_algo,
            "signed_envelope_property": self.envelope.as_str(),
        });
        match &self.content {
            DocContent::Document(document) => entry["document"] = json!(b64(document)),
            DocContent::Digests {
                hashes,
                hash_algorithm_oid,
            } => {
                let hashes: Vec<String> = hashes.iter().map(b64).collect();
                entry["hashes"] = json!(hashes);
                if let Some(oid) = hash_algorithm_oid {
                    entry["hashAlgorithmOID"] = json!(oid);
                }
            }
        }
        if let Some(params) = &self.sign_algo_params {
            entry["signAlgoParams"] = json!(b64(params));
        }
        if let Some(time) = &self.signing_time {
            let time = json!({ "attribute_name": "signing-time", "attribute_value": b64(time) });
            entry["signed_props"] = json!([time]);
        }
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::*;

    #[test]
    fn what_is_written_is_read_as_the_same() {
        let document = DocEntry {
            content: DocContent::Document(vec![1, 2, 3]),
            format: Format::Cades,
            level: Level::T,
            sign_algo: "1.2".to_owned(),
            sign_algo_params: Some(vec![4]),
            envelope: Envelope::Detached,
            signing_time: Some(vec![5]),
        };
        let digests = DocEntry {
            content: DocContent::Digests {
                hashes: vec![vec![6; 32], vec![7; 32]],
                hash_algorithm_oid: Some("2.16".to_owned()),
            },
            format: Format::Pades,
            level: Level::B,
            sign_algo_params: None,
            envelope: Envelope::Revision,
            signing_time: None,
            ..document.clone()
        };
        for entry in [document, digests] {
            let request = SignDocRequest {
                credential_id: "k".to_owned(),
                sad: Some("s3cret".to_owned().into()),
                entries: vec![entry],
            };
            let text = serde_json::to_vec(&request).unwrap();
            assert_eq!(SignDocRequest::parse(&text), Ok(request));
        }
    }
}
