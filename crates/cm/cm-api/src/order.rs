//! Orders of the SAM to the CM.

use core_types::{
    B64, DestroyCause, Digest32, KeyAlg, KeyId, Level, PersonId, SigAlg, TenantId, UnixTime, sha256,
};
use jose::{JoseError, Jwk, SigningKey};
use serde::{Deserialize, Serialize};

/// `typ` of an order.
pub const TYP_ORDER: &str = "natsuin-order+jws";
/// Longest life of an order in seconds.
pub const MAX_ORDER_LIFE: i64 = 30;

/// Payload of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderBody {
    /// Issuing SAM, as in the statement.
    pub sam: String,
    /// Unique name of the order: of a signature `H(act digest ‖ step ‖ attempt)`, else random.
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
    /// Sign digests of documents.
    Sign {
        /// Key.
        key: KeyId,
        /// Version of the key's attributes.
        version: u32,
        /// SHA-256 of the SubjectPublicKeyInfo.
        spki: Digest32,
        /// Algorithm.
        alg: SigAlg,
        /// What to sign, 1 to 10,000.
        items: Vec<SignItem>,
        /// Digest of the approved act.
        act: Digest32,
        /// Digest of the proof that was accepted.
        proof: Digest32,
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

/// One digest to sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignItem {
    /// Index of the item in the act.
    pub i: u32,
    /// Digest, as long as the hash of the algorithm.
    pub d: B64,
}

/// An order as it travels: compact JWS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Order(pub String);

impl Order {
    /// Name of the one order for `step` and `attempt` of an act.
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
