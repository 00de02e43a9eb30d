//! What makes assertions: a browser's or a machine's authenticator, or one for tests.

use core_types::{B64, Digest32};
use sap::act::Person;
use sap::enrol::PasskeyRegistration;
use sap::messages::PasskeyHint;

/// Asks for an assertion (WebAuthn Level 3 §7.2), user verification required.
#[derive(Debug, Clone, Copy)]
pub struct GetAssertion<'a> {
    /// Challenge: the digest of the act.
    pub challenge: Digest32,
    /// RP ID: the host of the approval address.
    pub rp_id: &'a str,
    /// Origin that goes into the client data.
    pub origin: &'a str,
    /// Credentials that count.
    pub allow: &'a [PasskeyHint],
}

/// Asks for a new passkey (WebAuthn Level 3 §7.1): resident, user verification required.
#[derive(Debug, Clone, Copy)]
pub struct CreatePasskey<'a> {
    /// Challenge: the digest of the enrol act.
    pub challenge: Digest32,
    /// RP ID: the host of the approval address.
    pub rp_id: &'a str,
    /// Origin that goes into the client data.
    pub origin: &'a str,
    /// Whose passkey it becomes.
    pub person: &'a Person,
    /// Credentials that must not be made again.
    pub exclude: &'a [PasskeyHint],
}

/// An assertion as the authenticator made it.
#[derive(Debug, Clone)]
pub struct Assertion {
    /// Credential id.
    pub id: B64,
    /// `authenticatorData`.
    pub auth_data: B64,
    /// `clientDataJSON`.
    pub client_data: B64,
    /// Signature over `authData ‖ SHA-256(clientData)`.
    pub sig: B64,
}

/// Why there is no assertion or passkey.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticatorError {
    /// The person or the device said no.
    #[error("not approved; try again to go on")]
    Refused,
    /// None of the credentials is here.
    #[error(
        "no signing passkey on this device; approve on the device that has it, or choose another way"
    )]
    NoCredential,
}

/// Something that holds passkeys.
pub trait Authenticator {
    /// Makes an assertion.
    ///
    /// # Errors
    /// [`AuthenticatorError`]; nothing was approved then.
    fn get(&mut self, request: &GetAssertion<'_>) -> Result<Assertion, AuthenticatorError>;

    /// Makes a passkey.
    ///
    /// # Errors
    /// [`AuthenticatorError`]; nothing was made then.
    fn create(
        &mut self,
        request: &CreatePasskey<'_>,
    ) -> Result<PasskeyRegistration, AuthenticatorError>;
}
