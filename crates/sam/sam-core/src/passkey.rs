//! Signing passkeys: what of them matters for levels. Verification over the digest of an act is `webauthn`'s, and as
//! strict as `sap.md` §6.4 asks: user verification always, exact origin, no frames.

use core_types::Digest32;
use sap::enrol::PasskeyRegistration;
use webauthn::Registration;
pub use webauthn::{
    Asserted, Assertion, Attestation, Passkey, PasskeyError, RelyingParty, verify_assertion,
};

use crate::level::FactorKind;

/// What of a passkey matters for levels. No list of attested models is configured, so none counts as attested.
pub fn kind(passkey: &Passkey) -> FactorKind {
    if passkey.backup_eligible {
        FactorKind::PasskeySynced
    } else {
        FactorKind::PasskeyBound
    }
}

/// Checks a registration over `challenge`, the digest of the act that asked for it.
///
/// # Errors
/// [`PasskeyError`].
pub fn verify_registration(
    rp: &RelyingParty,
    challenge: Digest32,
    registration: &PasskeyRegistration,
) -> Result<Passkey, PasskeyError> {
    let registration = Registration {
        id: &registration.id.0,
        client_data: &registration.client_data.0,
        attestation: &registration.attestation.0,
        transports: &registration.transports,
    };
    webauthn::verify_registration(rp, challenge, registration)
}
