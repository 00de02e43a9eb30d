//! A passkey in this process, for the demonstration and for load: it stands for the phone of a signer.

use core_types::Random;
use sap::Proof;
use sap::enrol::PasskeyRegistration;
use sic_core::{Assertion, Authenticator, AuthenticatorError, CreatePasskey, GetAssertion};
use soft_passkey::{Behaviour, SoftPasskey};

/// A device with one passkey.
pub struct Device(SoftPasskey);

impl Device {
    /// A device whose browser is at `origin`.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new(origin: &str, random: &dyn Random) -> Result<Self, soft_passkey::Broken> {
        let host = origin.split("://").nth(1).unwrap_or_default();
        let rp_id = host.split(':').next().unwrap_or_default();
        SoftPasskey::new(Behaviour::honest(origin, rp_id), random).map(Self)
    }
}

impl Authenticator for Device {
    fn get(&mut self, request: &GetAssertion<'_>) -> Result<Assertion, AuthenticatorError> {
        if !request.allow.iter().any(|hint| hint.id.0 == self.0.id) {
            return Err(AuthenticatorError::NoCredential);
        }
        match self.0.prove(request.challenge) {
            Ok(Proof::Passkey { id, auth_data, client_data, sig, .. }) => Ok(Assertion { id, auth_data, client_data, sig }),
            _ => Err(AuthenticatorError::Refused),
        }
    }

    fn create(&mut self, request: &CreatePasskey<'_>) -> Result<PasskeyRegistration, AuthenticatorError> {
        self.0.register(request.challenge).map_err(|_| AuthenticatorError::Refused)
    }
}
