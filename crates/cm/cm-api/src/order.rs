//! Orders of the SAM to the CM.

use core_types::{
    B64, DestroyCause, Digest32, DtbsForm, KeyAlg, KeyId, Level, OriginCase, PersonId, SigAlg,
    TenantId, UnixTime, sha256,
};
use jose::{JoseError, Jwk, SigningKey};
use serde::{Deserialize, Serialize};

/// `typ` of an order.
pub const TYP_ORDER: &str = "natsuin-order+jws";
/// Longest life of an order in seconds.
pub const MAX_ORDER_LIFE: i64 = 30;
/// Most orders for one step of an act: a definite *no* allows a second.
pub const MAX_ATTEMPTS: u32 = 2;

/// Payload of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderBody {
    /// Issuing SAM, as in the statement.
    pub sam: String,
    /// Unique name of the order: of a signature [`OrderKind::name`], else random.
    pub order: Digest32,
    /// Epoch of the SAM's store.
    pub epoch: Digest32,
    /// Not executed at or after this time.
    pub exp: UnixTime,
    /// What to do.
    pub kind: OrderKind,
}

/// What an order asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum OrderKind {
    /// Make a signing key for a person; purpose *documents*.
    Generate {
        /// Tenant.
        tenant: TenantId,
        /// Owner of the key; can't change.
        owner: PersonId,
        /// Kind of key.
        alg: KeyAlg,
        /// Level the SAM means the key to have; refused if the back end can't hold such a key.
        level: Level,
        /// Digest of the enrol act that led here.
        act: Digest32,
        /// Whether its owner may have it handed over: level 1 only, and an exception.
        exportable: bool,
        /// For one act of its owner, and destroyed after it. Never exportable.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        one_time: bool,
    },
    /// Take a signing key that was made elsewhere (`III-3-15-import-*`). Never at level 3; at level 2 only from a CA that
    /// the module's operator trusts.
    Import {
        /// Tenant.
        tenant: TenantId,
        /// Owner of the key; can't change.
        owner: PersonId,
        /// Level the SAM means the key to have.
        level: Level,
        /// Digest of the act with which the owner agreed.
        act: Digest32,
        /// How it got here.
        case: OriginCase,
        /// SHA-256 of the SubjectPublicKeyInfo of the key that the owner agreed to.
        spki: Digest32,
        /// Case 2-i: a CA's signature over the sealed key and the person (`sam_keys::import::CaImport`). Else the sealed
        /// key itself (`sam_keys::import::ImportedKey`).
        envelope: String,
    },
    /// Hand a key over to whoever its owner wants, sealed; it is of no use here any more. Level 1 only, and only if it
    /// was made exportable.
    HandOver {
        /// Key.
        key: KeyId,
        /// Version of the key's attributes.
        version: u32,
        /// SHA-256 of the SubjectPublicKeyInfo.
        spki: Digest32,
        /// Key of the receiver.
        receiver: Jwk,
        /// Digest of the owner's act.
        act: Digest32,
    },
    /// Sign a certification request that the SAM built; once in the life of a key.
    SignCsr {
        /// Key.
        key: KeyId,
        /// Version of the key's attributes.
        version: u32,
        /// SHA-256 of the SubjectPublicKeyInfo.
        spki: Digest32,
        /// DER of the CertificationRequestInfo (RFC 2986 §4.1). Its public key must be the key's own.
        info: B64,
    },
    /// Sign for documents.
    Sign {
        /// Key.
        key: KeyId,
        /// Version of the key's attributes.
        version: u32,
        /// SHA-256 of the SubjectPublicKeyInfo.
        spki: Digest32,
        /// Algorithm.
        alg: SigAlg,
        /// What to sign, 1 to 10,000; no item of the act twice.
        items: Vec<SignItem>,
        /// Digest of the approved act.
        act: Digest32,
        /// Digest of the proof that was accepted.
        proof: Digest32,
        /// When the proof was accepted; the time of an act runs from here.
        approved: UnixTime,
        /// Whether the act may have further steps. Then the module takes each of its items once, by `act` and index.
        renewable: bool,
        /// Number of the token within the act, from 0; above 0 only for acts that are renewable.
        step: u32,
        /// Number of the order within the step, from 0, below [`MAX_ATTEMPTS`].
        attempt: u32,
        /// What the provider counter-signs the values with, if it does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        counter_sign: Option<CounterSign>,
    },
    /// Sign a checkpoint of the log that a key of purpose *log* was made for. The module writes the text itself (C2SP
    /// tlog-checkpoint: origin, size, root) and signs nothing else with such a key; it never signs a smaller tree than
    /// before, nor another root for the same size. The same order is answered again.
    Checkpoint {
        /// Key.
        key: KeyId,
        /// SHA-256 of the SubjectPublicKeyInfo.
        spki: Digest32,
        /// Number of entries.
        size: u64,
        /// Root hash of the tree (RFC 6962 §2.1).
        root: Digest32,
    },
    /// Destroy a key for good, in the store and in the device. Asked again with another order, the answer is the
    /// latest certificate of the same destruction.
    Destroy {
        /// Key.
        key: KeyId,
        /// Version of the key's attributes.
        version: u32,
        /// SHA-256 of the SubjectPublicKeyInfo.
        spki: Digest32,
        /// Digest of the act that decided it.
        act: Digest32,
        /// Why.
        cause: DestroyCause,
    },
}

/// The provider's key for counter-signatures (`III-A1.8-rssp-counter-signature`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CounterSign {
    /// Key of purpose *seal*.
    pub key: KeyId,
    /// The provider's certificate for it, DER; the counter-signature refers to it.
    pub certificate: B64,
}

impl OrderKind {
    /// The one name that an order to sign may have; nothing for orders whose names are random.
    pub fn name(&self) -> Option<Digest32> {
        match self {
            Self::Sign {
                act, step, attempt, ..
            } => Some(Order::name(*act, *step, *attempt)),
            _ => None,
        }
    }
}

/// What is to be signed (DTBS/R). Each algorithm takes one of the two forms and refuses the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dtbs {
    /// A digest, as long as the hash of the algorithm. Never a DigestInfo.
    Digest(B64),
    /// The message itself, at most [`MAX_MESSAGE`] bytes.
    Message(B64),
}

/// Longest message of one item in bytes: signed attributes, not documents.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// One thing to sign. In JSON `{"i":0,"d":…}` for a digest and `{"i":0,"m":…}` for a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawItem", into = "RawItem")]
pub struct SignItem {
    /// Index of the item in the act.
    pub i: u32,
    /// What is signed.
    pub dtbs: Dtbs,
}

impl SignItem {
    /// A digest.
    pub fn digest(i: u32, digest: impl Into<Vec<u8>>) -> Self {
        let dtbs = Dtbs::Digest(B64(digest.into()));
        Self { i, dtbs }
    }

    /// What an algorithm needs for signing this message.
    pub fn of_message(i: u32, alg: SigAlg, message: &[u8]) -> Self {
        let bytes = B64(alg.dtbs(message));
        let dtbs = match alg.form() {
            DtbsForm::Digest => Dtbs::Digest(bytes),
            DtbsForm::Message => Dtbs::Message(bytes),
        };
        Self { i, dtbs }
    }

    /// Whether this is what the algorithm signs: the right form, and the right length.
    pub fn fits(&self, alg: SigAlg) -> bool {
        match (&self.dtbs, alg.form()) {
            (Dtbs::Digest(d), DtbsForm::Digest) => d.0.len() == alg.hash().len(),
            (Dtbs::Message(m), DtbsForm::Message) => m.0.len() <= MAX_MESSAGE,
            _ => false,
        }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        let (Dtbs::Digest(bytes) | Dtbs::Message(bytes)) = &self.dtbs;
        &bytes.0
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawItem {
    i: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    d: Option<B64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    m: Option<B64>,
}

impl From<SignItem> for RawItem {
    fn from(item: SignItem) -> Self {
        let (d, m) = match item.dtbs {
            Dtbs::Digest(d) => (Some(d), None),
            Dtbs::Message(m) => (None, Some(m)),
        };
        Self { i: item.i, d, m }
    }
}

impl TryFrom<RawItem> for SignItem {
    type Error = &'static str;

    fn try_from(raw: RawItem) -> Result<Self, &'static str> {
        let dtbs = match (raw.d, raw.m) {
            (Some(d), None) => Dtbs::Digest(d),
            (None, Some(m)) => Dtbs::Message(m),
            _ => return Err("an item is either a digest or a message"),
        };
        Ok(Self { i: raw.i, dtbs })
    }
}

/// An order as it travels: compact JWS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Order(pub String);

impl Order {
    /// Name of the one order for `step` and `attempt` of an act. The module computes it anew and takes the names of all
    /// earlier attempts with it.
    pub fn name(act: Digest32, step: u32, attempt: u32) -> Digest32 {
        sha256(&[
            b"natsuin-order-v1\n",
            &act.0,
            &step.to_be_bytes(),
            &attempt.to_be_bytes(),
        ])
    }

    /// Signs an order with `K_act`.
    ///
    /// # Errors
    /// [`JoseError`] when the key can't sign.
    pub fn seal(body: &OrderBody, key: &SigningKey) -> Result<Self, JoseError> {
        let payload = serde_json::to_vec(body).map_err(|_| JoseError::Malformed)?;
        key.sign(TYP_ORDER, &payload).map(Self)
    }

    /// Checks an order with the `act` key of a verified statement.
    ///
    /// # Errors
    /// [`JoseError`] when the order isn't of the prescribed form or not by that key.
    pub fn verify(&self, key: &Jwk) -> Result<OrderBody, JoseError> {
        let payload = jose::verify(&self.0, TYP_ORDER, key)?;
        serde_json::from_slice(&payload).map_err(|_| JoseError::Malformed)
    }
}
