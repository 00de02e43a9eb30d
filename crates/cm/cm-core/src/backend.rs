//! The port to whatever really holds keys: software, or a PKCS#11 token.
//!
//! One suite of stories runs on every back end through [`crate::Module`]. A back end never sees an order, an owner or
//! an attribute: it makes keys, and signs digests with them. It answers every call within a time of its own.

use cm_api::rpc::Member;
use core_types::{KeyAlg, Level, SecretBytes, SigAlg};

/// A back end. Methods block; the module calls them on threads meant for that.
pub trait Backend: Send + Sync + 'static {
    /// Name for people and the log, such as `software`.
    fn name(&self) -> &'static str;

    /// Highest level of key generation and retention (`level_matrix`).
    fn ceiling(&self) -> Level;

    /// What the device says of itself, if keys are made and stay inside one: maker, model and firmware.
    fn device(&self) -> Option<String> {
        None
    }

    /// The evaluation that a ceiling above level 1 rests on, as the operator declares it.
    fn declaration(&self) -> Option<String> {
        None
    }

    /// Known-answer and pairwise tests of every algorithm (`III-3-13-*`), at start and on demand. A
    /// [`Fault::Broken`] latches the module's error state.
    ///
    /// # Errors
    /// [`Fault`] when a test fails or can't be run.
    fn self_test(&self) -> Result<(), Fault>;

    /// Makes a key, tests the pair, and returns what is needed to find it again.
    ///
    /// # Errors
    /// [`Fault`] when no key was made, or none that may be used.
    fn generate(&self, alg: KeyAlg) -> Result<NewKey, Fault>;

    /// Takes a key that was made elsewhere, PKCS#8 in DER, and tests the pair.
    ///
    /// # Errors
    /// [`Fault::Unfit`] when it isn't a key of this kind and with this public half, or the back end takes none.
    fn import(&self, alg: KeyAlg, pkcs8: &SecretBytes, spki: &[u8]) -> Result<NewKey, Fault> {
        let _ = (alg, pkcs8, spki);
        Err(Fault::Unfit("this back end imports no keys"))
    }

    /// Whether its keys may be made exportable at all.
    fn exports(&self) -> bool {
        false
    }

    /// The private key, PKCS#8 in DER, for being sealed to a receiver by the module.
    ///
    /// # Errors
    /// [`Fault::Unfit`] when its keys never leave the back end.
    fn export(&self, alg: KeyAlg, material: &SecretBytes) -> Result<SecretBytes, Fault> {
        let _ = (alg, material);
        Err(Fault::Unfit("keys of this back end don't leave it"))
    }

    /// Brings a key back for use.
    ///
    /// # Errors
    /// [`Fault`] when the material isn't one of this back end's keys.
    fn load(&self, alg: KeyAlg, material: &SecretBytes) -> Result<Box<dyn PrivateKey>, Fault>;

    /// Begins to wrap with a new wrapping key; keys wrapped before stay usable.
    ///
    /// # Errors
    /// [`Fault::Unfit`] for back ends that wrap nothing.
    fn renew_wrapping(&self) -> Result<(), Fault> {
        Err(Fault::Unfit("this back end wraps no keys"))
    }

    /// Whether the material is under the newest wrapping key, which another node may have made; so always where nothing is
    /// wrapped.
    ///
    /// # Errors
    /// [`Fault`] when the device can't say.
    fn is_newest(&self, material: &SecretBytes) -> Result<bool, Fault> {
        let _ = material;
        Ok(true)
    }

    /// The material wrapped anew, if it isn't under the newest wrapping key.
    ///
    /// # Errors
    /// [`Fault`].
    fn rewrap(&self, alg: KeyAlg, material: &SecretBytes) -> Result<Option<SecretBytes>, Fault> {
        let _ = (alg, material);
        Ok(None)
    }

    /// Numbers of the wrapping keys in the device, the newest last, also of one that doesn't wrap yet; none for back ends that
    /// wrap nothing. Asked of one of several devices.
    ///
    /// # Errors
    /// [`Fault`] when the device can't say.
    fn wrapping_keys(&self) -> Result<Vec<u32>, Fault> {
        Ok(Vec::new())
    }

    /// Makes a new wrapping key in one of several devices, under which nothing is wrapped before [`Self::adopt_wrapping`].
    ///
    /// # Errors
    /// [`Fault::Unfit`] for back ends that wrap nothing.
    fn make_wrapping(&self) -> Result<(), Fault> {
        Err(Fault::Unfit("this back end wraps no keys"))
    }

    /// The device wraps with the wrapping key with this number from now on, if it has no newer one; and it counts like one
    /// that this process made last.
    ///
    /// # Errors
    /// [`Fault`]; it may be called again.
    fn adopt_wrapping(&self, number: u32) -> Result<(), Fault> {
        let _ = number;
        Ok(())
    }

    /// Destroys all wrapping keys older than the one this process made last; answers how many.
    ///
    /// # Errors
    /// [`Fault`].
    fn retire_wrapping(&self) -> Result<u32, Fault> {
        Ok(0)
    }

    /// What [`Self::erase`] needs to find a key outside the module's store; nothing when the material is the key and
    /// there is no other copy.
    fn elsewhere(&self, material: &SecretBytes) -> Option<SecretBytes>;

    /// Erases a key outside the module's store for good, by the device's own means. A key that isn't there any more
    /// counts as erased.
    ///
    /// # Errors
    /// [`Fault`] when the device can't say that the key is gone; it is asked again later.
    fn erase(&self, place: &SecretBytes) -> Result<(), Fault>;

    /// The module has come into its error state, or leaves it (`false`): what was made ahead isn't given out, and nothing is made meanwhile.
    fn hold(&self, held: bool) {
        let _ = held;
    }

    /// Lets go, in the device, of what the module doesn't hold any more. Called every minute, and when keys end or the module
    /// is disabled.
    fn tidy(&self) {}

    /// Erases what an earlier fault has left behind, and asks devices that didn't answer whether they do again. Called every
    /// minute.
    fn look(&self) {}

    /// Whether calls hang for so long that only a new process helps.
    fn stuck(&self) -> bool {
        false
    }

    /// Alarms, as words for the audit log, about what was found since this was called last.
    fn news(&self) -> Vec<&'static str> {
        Vec::new()
    }

    /// Its devices and how they are, where it has several.
    fn members(&self) -> Vec<Member> {
        Vec::new()
    }
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
    /// SubjectPublicKeyInfo, DER, as the back end has it; the module compares it with the sealed attributes.
    fn spki(&self) -> &[u8];

    /// Signs what the algorithm takes: a digest, or a message ([`SigAlg::form`]). RSA: a block of modulus length; ECDSA:
    /// DER `SEQUENCE {r, s}`; Ed25519 and ML-DSA: as in their standards.
    ///
    /// # Errors
    /// [`Fault`]; whether a value may exist all the same, [`Fault::nothing_was_made`] tells.
    fn sign(&self, alg: SigAlg, dtbs: &[u8]) -> Result<Vec<u8>, Fault>;
}

/// A back end failed. Says nothing of keys; the words are for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The caller's doing: algorithm, digest length, no such key. Nothing was made, and the back end is well.
    #[error("the back end can't do this: {0}")]
    Unfit(&'static str),
    /// The device can't be used now. Nothing was made; it may work again by itself.
    #[error("the back end isn't available: {0}")]
    Unavailable(&'static str),
    /// The device wants a person: its PIN is refused or blocked, or somebody put a wrapping key in that isn't closed. Nothing was made,
    /// and nothing is tried again.
    #[error("the back end is locked: {0}")]
    Locked(&'static str),
    /// No definite answer in time: a value may exist, in the device or on its way.
    #[error("the back end gave no definite answer: {0}")]
    Unknown(&'static str),
    /// The back end isn't what it must be: a self-test failed, a value is wrong, a key weak.
    #[error("the back end is faulty: {0}")]
    Broken(&'static str),
}

/// The device hasn't the key that the material names.
pub const NO_SUCH_KEY: Fault = Fault::Unfit("no such key in the token");

/// The device didn't answer in time, and it is certain that it was asked for no value.
pub const SILENT: Fault = Fault::Unavailable("the device didn't answer in time");

/// A key can't be unwrapped, since the device hasn't its wrapping key.
pub const NO_WRAPPING_KEY: Fault = Fault::Unfit("the wrapping key is missing");

/// The device has a wrapping key whose value can be had, and a person has to say what becomes of it.
pub const OPEN_WRAPPING_KEY: Fault =
    Fault::Locked("a wrapping key isn't sensitive, or is extractable");

impl Fault {
    /// Whether it is certain that no key or value came into being.
    pub fn nothing_was_made(&self) -> bool {
        matches!(
            self,
            Self::Unfit(_) | Self::Unavailable(_) | Self::Locked(_)
        )
    }

    /// The words for the operator.
    pub fn what(&self) -> &'static str {
        let (Self::Unfit(what)
        | Self::Unavailable(what)
        | Self::Locked(what)
        | Self::Unknown(what)
        | Self::Broken(what)) = self;
        what
    }
}
