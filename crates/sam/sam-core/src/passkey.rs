//! Signing passkeys. Verification over the digest of an act is `webauthn`'s, and as
//! strict as `sap.md` §6.4 asks: user verification always, exact origin, no frames.

use core_types::Digest32;
use sap::enrol::PasskeyRegistration;
pub use webauthn::{
    Asserted, Assertion, Attestation, Passkey, PasskeyError, RelyingParty, verify_assertion,
};
use webauthn::{Registration, Statement};

/// Checks a registration over `challenge`, the digest of the act that asked for it. The statement is for
/// [`crate::attest::Attesters::judge`].
///
/// # Errors
/// [`PasskeyError`].
pub fn verify_registration(
    rp: &RelyingParty,
    challenge: Digest32,
    registration: &PasskeyRegistration,
) -> Result<(Passkey, Statement), PasskeyError> {
    let registration = Registration {
        id: &registration.id.0,
        client_data: &registration.client_data.0,
        attestation: &registration.attestation.0,
        transports: &registration.transports,
    };
    webauthn::verify_attested(rp, challenge, registration)
}
