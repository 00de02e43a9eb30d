//! A stack of tests above level 1: a module in software that is declared to be a device, and whose word counts for passkeys. The
//! declaration reads *test, not evaluated*, and is shown wherever a level is.

use std::sync::Arc;

use cm_core::backend::{Backend, Fault, NewKey, PrivateKey};
use cm_soft::SoftBackend;
use core_types::{KeyAlg, Level, SecretBytes};
use sam_core::Policy;
use sam_core::attest::AttestationPolicy;

use super::start::Options;

/// What a stack of tests is declared good for. Nothing that `natsuin dev` can be asked for.
#[derive(Debug, Clone)]
pub struct Assurance {
    /// Ceiling of module, SAM and service.
    pub level: Level,
    /// Authenticators that are vouched for, as level 3 wants them.
    pub attestation: AttestationPolicy,
}

/// What a stack with these options is declared good for.
pub(super) fn level(options: &Options) -> Level {
    match (&options.assurance, &options.pkcs11) {
        (Some(assurance), _) => assurance.level,
        (None, Some(_)) => Level::Two,
        (None, None) => Level::One,
    }
}

/// The policy of its SAM.
pub(super) fn policy(level: Level) -> Policy {
    Policy {
        // Each level has another one.
        version: u8::from(level).into(),
        ceiling: level,
        sam_declaration: (level == Level::Three).then(|| cm_pkcs11::TEST.to_owned()),
        // Batches are what developers try.
        max_items: 10_000,
        ..Policy::default()
    }
}

/// What is said of the files of its logs' witnesses, which lie in its own directory.
pub(super) fn witness_declaration(level: Level) -> Option<String> {
    (level > Level::One).then(|| cm_pkcs11::TEST.to_owned())
}

/// Whose passkeys its SAM vouches for.
pub(super) fn attestation(options: &Options) -> AttestationPolicy {
    let assurance = options.assurance.as_ref();
    assurance.map_or_else(AttestationPolicy::default, |a| a.attestation.clone())
}

/// A back end in software for a stack of this level.
pub(super) fn software(level: Level) -> Arc<dyn Backend> {
    match level {
        Level::One => Arc::new(SoftBackend),
        Level::Two | Level::Three => Arc::new(Declared(level)),
    }
}

/// The software back end, declared to be a device of this level. Its keys don't leave it, as those of a device.
struct Declared(Level);

impl Backend for Declared {
    fn name(&self) -> &'static str {
        "test-device"
    }

    fn ceiling(&self) -> Level {
        self.0
    }

    fn device(&self) -> Option<String> {
        Some("Natsuin test device 1.0".to_owned())
    }

    fn declaration(&self) -> Option<String> {
        Some(cm_pkcs11::TEST.to_owned())
    }

    fn self_test(&self) -> Result<(), Fault> {
        SoftBackend.self_test()
    }

    fn generate(&self, alg: KeyAlg) -> Result<NewKey, Fault> {
        SoftBackend.generate(alg)
    }

    fn import(&self, alg: KeyAlg, pkcs8: &SecretBytes, spki: &[u8]) -> Result<NewKey, Fault> {
        SoftBackend.import(alg, pkcs8, spki)
    }

    fn load(&self, alg: KeyAlg, material: &SecretBytes) -> Result<Box<dyn PrivateKey>, Fault> {
        SoftBackend.load(alg, material)
    }

    fn elsewhere(&self, material: &SecretBytes) -> Option<SecretBytes> {
        SoftBackend.elsewhere(material)
    }

    fn erase(&self, place: &SecretBytes) -> Result<(), Fault> {
        SoftBackend.erase(place)
    }
}
