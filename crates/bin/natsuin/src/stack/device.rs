//! A passkey in this process, for the demonstration and for load: it stands for the phone of a signer.

use std::sync::{Arc, Mutex};

use core_types::{Random, SecretBytes};
use sap::Proof;
use sap::enrol::PasskeyRegistration;
use sic_core::{Assertion, Authenticator, AuthenticatorError, CreatePasskey, GetAssertion};
use soft_passkey::{Attester, Behaviour, SoftPasskey};

/// A device with one passkey. Clones are the same device in several hands.
#[derive(Clone)]
pub struct Device(Arc<Mutex<SoftPasskey>>);

impl Device {
    /// A device whose browser is at `origin`.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new(origin: &str, random: &dyn Random) -> Result<Self, soft_passkey::Broken> {
        let passkey = SoftPasskey::new(browser(origin), random)?;
        Ok(Self(Arc::new(Mutex::new(passkey))))
    }

    /// The same with a passkey that stays in it, for which its maker vouches.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn attested(
        origin: &str,
        by: Arc<Attester>,
        random: &dyn Random,
    ) -> Result<Self, soft_passkey::Broken> {
        let passkey = SoftPasskey::attested(browser(origin), by, random)?;
        Ok(Self(Arc::new(Mutex::new(passkey))))
    }
}

impl Device {
    /// The device that was kept.
    ///
    /// # Errors
    /// When the bytes aren't such a key.
    pub fn restore(
        origin: &str,
        id: Vec<u8>,
        key: &SecretBytes,
    ) -> Result<Self, soft_passkey::Broken> {
        let passkey = SoftPasskey::restore(browser(origin), id, key)?;
        Ok(Self(Arc::new(Mutex::new(passkey))))
    }

    /// Credential id and private key, to be kept.
    ///
    /// # Errors
    /// When the key can't be written.
    pub fn parts(&self) -> Result<(Vec<u8>, SecretBytes), soft_passkey::Broken> {
        let passkey = self.0.lock().map_err(|_| soft_passkey::Broken)?;
        Ok((passkey.id.clone(), passkey.private()?))
    }
}

fn browser(origin: &str) -> Behaviour {
    let host = origin.split("://").nth(1).unwrap_or_default();
    let rp_id = host.split(':').next().unwrap_or_default();
    Behaviour::honest(origin, rp_id)
}

impl Authenticator for Device {
    fn get(&mut self, request: &GetAssertion<'_>) -> Result<Assertion, AuthenticatorError> {
        let mut passkey = self.0.lock().map_err(|_| AuthenticatorError::Refused)?;
        if !request.allow.iter().any(|hint| hint.id.0 == passkey.id) {
            return Err(AuthenticatorError::NoCredential);
        }
        match passkey.prove(request.challenge) {
            Ok(Proof::Passkey {
                id,
                auth_data,
                client_data,
                sig,
                ..
            }) => Ok(Assertion {
                id,
                auth_data,
                client_data,
                sig,
            }),
            _ => Err(AuthenticatorError::Refused),
        }
    }

    fn create(
        &mut self,
        request: &CreatePasskey<'_>,
    ) -> Result<PasskeyRegistration, AuthenticatorError> {
        let mut passkey = self.0.lock().map_err(|_| AuthenticatorError::Refused)?;
        passkey
            .register(request.challenge)
            .map_err(|_| AuthenticatorError::Refused)
    }
}
