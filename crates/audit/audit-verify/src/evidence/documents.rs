//! The documents in a bundle, as far as the checker reads them.

use serde::Deserialize;
use serde_json::Value;

use super::jws::Jwk;

/// A document; its name is the SHA-256 of its text.
#[derive(Deserialize)]
#[serde(tag = "evidence", rename_all = "kebab-case")]
pub(super) enum Document {
    Approval(Box<Approval>),
    Enrolment(Box<Enrolment>),
    Signature(Box<Signed>),
    Notice(Notice),
    Revocation(Revocation),
    Stop(Box<Stop>),
    /// What officers were asked to approve: exact bytes that name nothing else.
    #[serde(skip_deserializing)]
    Proposal(Box<Proposal>),
}

impl Document {
    /// A document of evidence, or what officers were asked to approve.
    pub(super) fn read(text: &str) -> Option<Self> {
        let evidence = serde_json::from_str(text).ok();
        evidence.or_else(|| Some(Self::Proposal(serde_json::from_str(text).ok()?)))
    }
}

/// An authority's notice.
#[derive(Deserialize)]
pub(super) struct Notice {
    pub(super) notice: String,
    pub(super) authority: Jwk,
    pub(super) at: i64,
    pub(super) software: String,
}

/// What a CA published.
#[derive(Deserialize)]
pub(super) struct Revocation {
    pub(super) certificate: String,
    pub(super) issuer: String,
    pub(super) digest: String,
    pub(super) published: Option<String>,
    pub(super) at: i64,
    pub(super) software: String,
}

/// A stop without the signer's proof.
#[derive(Deserialize)]
pub(super) struct Stop {
    pub(super) sam: String,
    pub(super) key: Key,
    pub(super) person: String,
    pub(super) method: String,
    pub(super) peer: String,
    pub(super) changes: u32,
    pub(super) at: i64,
    pub(super) clock: String,
    pub(super) software: String,
}

/// What officers were asked to approve.
#[derive(Deserialize)]
pub(super) struct Proposal {
    pub(super) sam: String,
    pub(super) measure: Value,
    pub(super) facts: Value,
    pub(super) reason: String,
    pub(super) requester: Requester,
}

#[derive(Deserialize)]
pub(super) struct Requester {
    pub(super) account: String,
    pub(super) officer: String,
    pub(super) name: String,
}

#[derive(Deserialize)]
pub(super) struct Approval {
    pub(super) act: String,
    pub(super) statement: String,
    pub(super) proof: Proof,
    pub(super) factor: Factor,
    pub(super) at: i64,
    pub(super) policy: u32,
    pub(super) policy_digest: Option<String>,
    pub(super) made: Option<Made>,
    /// State of the SAM's clock.
    pub(super) clock: String,
    pub(super) software: String,
}

#[derive(Deserialize)]
pub(super) struct Made {
    pub(super) factor: Factor,
    pub(super) registration: Option<[String; 2]>,
}

#[derive(Deserialize)]
pub(super) struct Proof {
    pub(super) method: String,
    /// Of a passkey: the assertion.
    pub(super) proof: Option<Assertion>,
    /// Of anything else: the act it was for.
    pub(super) act: Option<String>,
    /// Of a device key: its signature over the digest of the act.
    pub(super) sig: Option<String>,
    /// Of an identity provider: its ID token, and the key (JWK) that the SAM was configured with.
    pub(super) id_token: Option<String>,
    pub(super) key: Option<Value>,
}

#[derive(Deserialize)]
pub(super) struct Assertion {
    pub(super) act: String,
    pub(super) id: String,
    #[serde(rename = "authData")]
    pub(super) auth_data: String,
    #[serde(rename = "clientData")]
    pub(super) client_data: String,
    pub(super) sig: String,
}

#[derive(Deserialize, PartialEq, Eq)]
pub(super) struct Factor {
    pub(super) id: String,
    pub(super) act: String,
    pub(super) created: i64,
    pub(super) passkey: Option<Passkey>,
    pub(super) device: Option<Jwk>,
    pub(super) provider: Option<Identity>,
}

/// A person at an identity provider.
#[derive(Deserialize, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) issuer: String,
    pub(super) subject: String,
}

#[derive(Deserialize, PartialEq, Eq)]
pub(super) struct Passkey {
    pub(super) id: String,
    pub(super) key: Value,
    pub(super) backup_eligible: bool,
    /// What stands behind its model: `vouched` by the operator's list, and less.
    pub(super) attestation: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Enrolment {
    pub(super) act: String,
    pub(super) statement: String,
    /// An authority's JWS, or whatever else invited.
    pub(super) invite: String,
    pub(super) factors: Vec<Factor>,
    pub(super) registration: Option<[String; 2]>,
    pub(super) at: i64,
    pub(super) clock: String,
    pub(super) software: String,
}

#[derive(Deserialize)]
pub(super) struct Signed {
    pub(super) act: String,
    pub(super) approval: String,
    pub(super) alg: String,
    pub(super) indices: Vec<u32>,
    /// Of an act without items: what was signed.
    #[serde(default)]
    pub(super) filled: Vec<String>,
    pub(super) values: Vec<String>,
    /// The authority's approval of the certificate (JWS).
    pub(super) certify: Option<String>,
    pub(super) at: i64,
    pub(super) clock: String,
}

/// Payload of a `sam-keys` statement.
#[derive(Deserialize)]
pub(super) struct Keys {
    pub(super) sam: String,
    pub(super) epoch: String,
    pub(super) act: Jwk,
    pub(super) nbf: i64,
    pub(super) exp: i64,
}

/// Payload of an act of any kind.
#[derive(Deserialize)]
pub(super) struct Act {
    pub(super) kind: String,
    pub(super) sam: String,
    pub(super) tenant: String,
    pub(super) epoch: String,
    pub(super) iat: i64,
    pub(super) exp: i64,
    pub(super) policy: u32,
    pub(super) level: u8,
    /// Evaluations on which the level rests by the operator's word.
    #[serde(default)]
    pub(super) declared: Vec<String>,
    pub(super) person: Person,
    pub(super) client: Option<Client>,
    pub(super) items: Option<Vec<Item>>,
    pub(super) algs: Option<Vec<String>>,
    /// Of an enrolment: the voucher, and who invited.
    pub(super) voucher: Option<String>,
    pub(super) by: Option<String>,
    rp_id: Option<String>,
    key: Option<Key>,
    keys: Option<Value>,
    change: Option<Value>,
    registration: Option<String>,
    pub(super) renew: Option<i64>,
    /// Of an import: kind, digest and origin of the key, and until when it may be brought.
    alg: Option<String>,
    spki: Option<String>,
    case: Option<String>,
    pub(super) until: Option<i64>,
    /// Of an act without items: most signatures.
    pub(super) count: Option<u32>,
    /// Of an officer's approval: what is decided, digest of the exact bytes, in words, and how many persons it takes.
    what: Option<String>,
    pub(super) document: Option<String>,
    text: Option<String>,
    pub(super) needs: Option<usize>,
    /// Of a hand-over: the receiver's key.
    receiver: Option<Jwk>,
}

#[derive(Deserialize)]
pub(super) struct Person {
    pub(super) id: String,
    pub(super) name: String,
}

#[derive(Deserialize)]
pub(super) struct Key {
    pub(super) id: String,
    pub(super) spki: String,
    pub(super) cert: String,
    pub(super) subject: String,
}

#[derive(Deserialize)]
pub(super) struct Client {
    pub(super) name: String,
    pub(super) known: bool,
    pub(super) signed: bool,
}

#[derive(Deserialize)]
pub(super) struct Item {
    form: String,
    ha: String,
    h: String,
    label: String,
}

impl Act {
    /// Whether it is for signatures.
    pub(super) fn signs(&self) -> bool {
        matches!(self.kind.as_str(), "sign" | "sign-open")
    }

    pub(super) fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }

    /// The host that a passkey has to be for, where the act names it.
    pub(super) fn rp_host(&self) -> Option<&str> {
        self.rp_id.as_deref()
    }

    /// What officers decide, as a code; of any other act nothing.
    pub(super) fn decides(&self) -> Option<&str> {
        self.what.as_deref().filter(|_| self.kind == "officer")
    }

    /// The device key that the act adds.
    pub(super) fn adds_device(&self) -> Option<Jwk> {
        let change = self.change.as_ref()?;
        let adds = change.get("do").and_then(Value::as_str) == Some("add-device");
        let key = change.get("key").filter(|_| adds)?;
        Jwk::deserialize(key).ok()
    }

    /// What was approved, line by line.
    pub(super) fn what(&self) -> Vec<String> {
        let items = self.items.as_deref().unwrap_or_default();
        let mut lines: Vec<String> = items
            .iter()
            .map(|i| format!("{} {} {} {:?}", i.form, i.ha, i.h, i.label))
            .collect();
        for reference in &self.declared {
            lines.push(format!("level {} as declared: {reference:?}", self.level));
        }
        if let (Some(count), Some(until)) = (self.count, self.until) {
            lines.push(format!(
                "any data of the application, up to {count}, until {until}"
            ));
        }
        if let Some(until) = self.renew.filter(|u| *u != 0) {
            lines.push(format!("renewable until {until}"));
        }
        for (name, value) in [("change", &self.change), ("keys", &self.keys)] {
            if let Some(value) = value.as_ref().filter(|_| self.kind != "enrol") {
                lines.push(format!("{name} {value}"));
            }
        }
        if let (Some(alg), Some(spki), Some(case), Some(until)) =
            (&self.alg, &self.spki, &self.case, self.until)
        {
            lines.push(format!("key {alg} {spki} of case {case}, until {until}"));
        }
        if let Some(receiver) = &self.receiver {
            lines.push(format!("receiver {}", receiver.thumbprint()));
        }
        if let (Some(what), Some(text)) = (self.decides(), &self.text) {
            lines.push(format!("{what}: {text}"));
        }
        if let Some(registration) = &self.registration {
            lines.push(format!("registration {registration:?}"));
        }
        lines
    }
}
