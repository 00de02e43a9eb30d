//! How a SAM's keys follow one another: an act key that the module knows vouches for the next one, so that the certificate of the SAM's
//! connection alone brings no key that could order anything.

use core_types::Digest32;
use jose::{JoseError, Jwk, SigningKey};
use serde::{Deserialize, Serialize};

use crate::StatementRequest;

/// `typ` of an endorsement.
pub const TYP_ENDORSEMENT: &str = "natsuin-sam-next+jws";

/// An earlier act key's word for all that a request for a statement says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endorsement {
    /// The earlier key.
    pub by: Jwk,
    /// Compact JWS over the request without endorsements.
    pub signed: String,
}

impl StatementRequest {
    fn asked(&self) -> Result<Vec<u8>, JoseError> {
        let bare = Self {
            endorsements: Vec::new(),
            ..self.clone()
        };
        serde_json::to_vec(&bare).map_err(|_| JoseError::Malformed)
    }

    /// Adds the word of an earlier act key.
    ///
    /// # Errors
    /// [`JoseError`] when the key can't sign.
    pub fn endorse(&mut self, by: &SigningKey) -> Result<(), JoseError> {
        let signed = by.sign(TYP_ENDORSEMENT, &self.asked()?)?;
        let by = by.public().clone();
        self.endorsements.push(Endorsement { by, signed });
        Ok(())
    }

    /// The first of the `known` keys, by their thumbprints, that has endorsed just this.
    pub fn endorsed_by(&self, known: &[Digest32]) -> Option<Digest32> {
        let asked = self.asked().ok()?;
        let endorsed = self.endorsements.iter().filter(|one| {
            let payload = jose::verify(&one.signed, TYP_ENDORSEMENT, &one.by);
            payload.is_ok_and(|payload| payload == asked)
        });
        let mut keys = endorsed.map(|one| one.by.thumbprint());
        keys.find(|key| known.contains(key))
    }
}
