//! The port to whatever really holds keys: software, or a PKCS#11 token.
//!
//! One suite of stories runs on every back end through [`crate::Module`]. A back end never sees an order, an owner or
//! an attribute: it makes keys, and signs digests with them.

use core_types::{KeyAlg, Level, SecretBytes, SigAlg};

/// A back end. Methods block; the module calls them on threads meant for that.
pub trait Backend: Send + Sync + 'static {
    /// Name for people and the log, such as `software`.
    fn name(&self) -> &'static str;

    /// Highest level of key generation and retention (`level_matrix`).
    fn ceiling(&self) -> Level;

    /// Known-answer and pairwise tests (`III-3-13-*`). Run at start; a failure latches the module's error state.
    ///
    /// # Errors
    /// [`Fault`] when a test fails.
    fn self_test(&self) -> Result<(), Fault>;

    /// Makes a key, tests the pair, and returns what is needed to find it again.
    ///
    /// # Errors
    /// [`Fault`] when no key was made.
    fn generate(&self, alg: KeyAlg) -> Result<NewKey, Fault>;

    /// Brings a key back for use.
    ///
    /// # Errors
    /// [`Fault`] when the material isn't one of this back end's keys.
    fn load(&self, alg: KeyAlg, material: &SecretBytes) -> Result<Box<dyn PrivateKey>, Fault>;
}

/// A new key. `material` is sealed by the module: the private key itself, or its place in the token.
#[derive(Debug)]
pub struct NewKey {
    /// What [`Backend::load`] needs.
    pub material: SecretBytes,
    /// SubjectPublicKeyInfo, DER.
    pub spki: Vec<u8>,
}

/// A private key ready for use.
pub trait PrivateKey: Send + Sync {
    /// Signs a digest. RSA: a block of modulus length; ECDSA: DER `SEQUENCE {r, s}`.
    ///
    /// # Errors
    /// [`Fault`] when the algorithm isn't the key's, or the digest isn't as long as its hash.
    fn sign(&self, alg: SigAlg, digest: &[u8]) -> Result<Vec<u8>, Fault>;
}

/// A back end failed. Says nothing of keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the back end failed at {0}")]
pub struct Fault(pub &'static str);
