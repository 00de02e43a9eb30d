//! The token: library, slot, login, and what renews each of them.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use core_types::{Level, SecretBytes};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::MechanismType;
use cryptoki::session::{Session, SessionState, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::AuthPin;

use crate::fault::{Cure, Failure};

/// Which token, and how to log in.
#[derive(Debug, Clone)]
pub struct Options {
    /// PKCS#11 module, a shared library.
    pub module: PathBuf,
    /// Label of the token.
    pub label: String,
    /// User PIN, UTF-8.
    pub pin: SecretBytes,
    /// What the operator declares the token to be good for; level 1 without.
    pub declaration: Option<Declaration>,
}

/// What only a certificate can prove, as the operator declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration {
    /// Level.
    pub level: Level,
    /// The evaluation: scheme and number. [`TEST`] for tokens of tests and development.
    pub reference: String,
    /// Maker, model and firmware that were evaluated, as [`crate::Pkcs11Backend`] reports them.
    pub device: Option<String>,
}

/// The reference of what nobody evaluated: the only one under which a token that isn't hardware is accepted.
pub const TEST: &str = "test, not evaluated";

/// Bounds of the pool.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most sessions, and so most calls at once.
    pub sessions: usize,
    /// How long one call of a key may take before it is given up, its outcome unknown if a value was begun. Key generation
    /// gets six times that.
    pub patience: Duration,
    /// How long after its last call a session is taken to be one that answers. Beyond that, the token is asked something
    /// harmless before a value is begun.
    pub trust: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 16,
            patience: Duration::from_secs(8),
            trust: Duration::from_secs(1),
        }
    }
}

/// How long the library's calls are waited for before it is started again: so many looks, one in this time.
const LOOKS: u32 = 40;
const LOOK: Duration = Duration::from_millis(5);

/// Why a token can't be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The library can't be loaded or doesn't start.
    #[error("the PKCS#11 module {0} can't be used: {1}")]
    Module(PathBuf, String),
    /// No token with this label.
    #[error("the PKCS#11 module has no token with the label {0:?}")]
    NoToken(String),
    /// Two tokens with this label.
    #[error("the PKCS#11 module has more than one token with the label {0:?}")]
    TwoTokens(String),
    /// The PIN isn't text, or the token refuses it.
    #[error("the token refuses the login: {0}")]
    Login(String),
    /// The token's PIN is blocked or has one try left, which is not spent here.
    #[error(
        "the token's user PIN has at most one try left: log in once with the token's own tool and the right PIN"
    )]
    LastTry,
    /// The token has no mechanism for any kind of key.
    #[error("the token can't sign with any of the approved algorithms")]
    NoMechanism,
    /// No answer in time.
    #[error("the PKCS#11 module doesn't answer")]
    Silent,
    /// Library or token fails, and not because of the PIN.
    #[error("the PKCS#11 module or its token can't be used now: {0}")]
    Away(String),
    /// The token isn't what is declared.
    #[error("level {level} is declared ({reference}), but {what} (I-3.5.1-keygen-L{level})")]
    Contradiction {
        /// Declared level.
        level: Level,
        /// Declared evaluation.
        reference: String,
        /// What the token says of itself.
        what: String,
    },
}

impl OpenError {
    /// Whether it may pass without a person, as a device that is started after this program. A PIN that was refused never
    /// does: each try brings the token nearer to its lock.
    pub fn passes(&self) -> bool {
        match self {
            Self::NoToken(_) | Self::Silent | Self::Away(_) => true,
            Self::Module(..)
            | Self::TwoTokens(_)
            | Self::Login(_)
            | Self::LastTry
            | Self::NoMechanism
            | Self::Contradiction { .. } => false,
        }
    }
}

/// A token. Sessions of it live in the threads of the pool.
pub(crate) struct Token {
    /// Loaded once and never unloaded. Held for reading during every call, for writing while it is initialised anew,
    /// which is undefined beside calls.
    library: RwLock<Pkcs11>,
    label: String,
    /// Maker, model and firmware, as the token says.
    pub(crate) device: String,
    pin: AuthPin,
    slot: Mutex<Slot>,
    /// Sessions of an older generation aren't used any more.
    generation: AtomicU64,
    /// How often the library was initialised anew. Session handles of before may belong to others now.
    restarts: AtomicU64,
    /// The token refused the PIN: no other try by this process.
    refused: AtomicBool,
    /// Renewing happens once for all threads that found the same failure; the others wait for it.
    renewing: Mutex<()>,
    /// Logging in happens one after the other, so that a wrong PIN is tried once.
    login: Mutex<()>,
}

impl Token {
    pub(crate) fn open(options: &Options) -> Result<Self, OpenError> {
        let module = module(options)?;
        let slot = slot(&module, &options.label)?;
        let info = module.get_token_info(slot).map_err(away)?;
        if info.user_pin_locked() || info.user_pin_final_try() {
            return Err(OpenError::LastTry);
        }
        let device = device(&info);
        if let Some(declaration) = &options.declaration {
            let hardware = module.get_slot_info(slot).is_ok_and(|s| s.hardware_slot());
            declaration.check(&device, hardware)?;
        }
        let token = Self {
            library: RwLock::new(module),
            device,
            label: options.label.clone(),
            pin: pin(options)?,
            slot: Mutex::new(slot),
            generation: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            refused: AtomicBool::new(false),
            renewing: Mutex::default(),
            login: Mutex::default(),
        };
        let session = token.connect().map_err(|f| match f.cure {
            Cure::Person => OpenError::Login(f.what.to_owned()),
            _ => OpenError::Away(f.what.to_owned()),
        })?;
        token.disconnect(session, token.restarts());
        Ok(token)
    }

    pub(crate) fn initialise(options: &Options) -> Result<(), OpenError> {
        let module = module(options)?;
        if slot(&module, &options.label).is_ok() {
            return Ok(());
        }
        let trouble = |e: Error| OpenError::Module(options.module.clone(), e.to_string());
        let fresh = |s: &Slot| {
            module
                .get_token_info(*s)
                .is_ok_and(|t| !t.token_initialized())
        };
        let slots = module.get_slots_with_token().map_err(trouble)?;
        let slot = slots
            .into_iter()
            .find(fresh)
            .ok_or_else(|| OpenError::NoToken("uninitialised".to_owned()))?;
        let pin = pin(options)?;
        module
            .init_token(slot, &pin, &options.label)
            .map_err(trouble)?;
        let session = module.open_rw_session(slot).map_err(trouble)?;
        session.login(UserType::So, Some(&pin)).map_err(trouble)?;
        session.init_pin(&pin).map_err(trouble)?;
        session.logout().map_err(trouble)
    }

    /// Mechanisms of the token.
    pub(crate) fn mechanisms(&self) -> Result<Vec<MechanismType>, Failure> {
        let library = self.library.read().unwrap_or_else(PoisonError::into_inner);
        library
            .get_mechanism_list(self.slot())
            .map_err(|e| Failure::of("mechanisms", &e))
    }

    /// Generation of sessions opened now.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Sessions that are open now aren't used any more after their call.
    pub(crate) fn outdate(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// How often the library was initialised anew.
    pub(crate) fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::SeqCst)
    }

    /// Fails when the token has refused the PIN.
    pub(crate) fn willing(&self) -> Result<(), Failure> {
        if self.refused.load(Ordering::SeqCst) {
            Err(refused())
        } else {
            Ok(())
        }
    }

    /// Closes a session that was opened after so many restarts of the library.
    pub(crate) fn disconnect(&self, session: Session, restarts: u64) {
        let _reading = self.library.read().unwrap_or_else(PoisonError::into_inner);
        if restarts == self.restarts()
            && let Err(error) = session.close()
        {
            tracing::debug!(%error, "a session doesn't close");
        }
    }

    /// Runs a call while nobody initialises the library.
    pub(crate) fn guarded<T>(&self, call: impl FnOnce() -> T) -> T {
        let _reading = self.library.read().unwrap_or_else(PoisonError::into_inner);
        call()
    }

    /// Where sessions are opened now.
    pub(crate) fn place(&self) -> (Pkcs11, Slot) {
        let library = self.library.read().unwrap_or_else(PoisonError::into_inner);
        (library.clone(), self.slot())
    }

    /// A new session, logged in.
    pub(crate) fn connect(&self) -> Result<Session, Failure> {
        self.willing()?;
        let library = self.library.read().unwrap_or_else(PoisonError::into_inner);
        let session = library
            .open_rw_session_no_drop(self.slot())
            .map_err(|e| Failure::of("opening a session", &e))?;
        let _one = self.login.lock().unwrap_or_else(PoisonError::into_inner);
        self.willing()?;
        if let Err(failure) = tries_left(&library, self.slot(), &session) {
            drop(session.close());
            return Err(failure);
        }
        match session.login(UserType::User, Some(&self.pin)) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
            Err(error) => {
                drop(session.close());
                let failure = Failure::of("the login", &error);
                if failure.cure == Cure::Person {
                    self.refused.store(true, Ordering::SeqCst);
                }
                Err(failure)
            }
        }
    }

    /// Renews what a failure calls for. Several threads may find the same failure: the generation they saw makes the
    /// first of them do it, and the others go on when it is done.
    pub(crate) fn renew(&self, cure: Cure, seen: u64) {
        if cure < Cure::Token || cure == Cure::Person {
            return;
        }
        let _one = self.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.generation() != seen {
            return;
        }
        self.generation.store(seen + 1, Ordering::SeqCst);
        let found = {
            let library = self.library.read().unwrap_or_else(PoisonError::into_inner);
            slot(&library, &self.label)
        };
        match found {
            Ok(slot) if cure == Cure::Token => self.set_slot(slot),
            _ => self.restart_library(),
        }
    }

    /// Some libraries notice a device that came back only when they are started again. Impossible beside a call: short
    /// ones are waited for, beside one that hangs it is left for later.
    fn restart_library(&self) {
        let library = (0..LOOKS).find_map(|_| {
            let library = self.library.try_write().ok();
            if library.is_none() {
                std::thread::park_timeout(LOOK);
            }
            library
        });
        let Some(library) = library else {
            return;
        };
        self.restarts.fetch_add(1, Ordering::SeqCst);
        if let Err(error) = library.clone().finalize() {
            tracing::warn!(%error, "the PKCS#11 library doesn't stop");
        }
        match initialize(&library) {
            Ok(()) => tracing::warn!("the PKCS#11 library was initialised again"),
            Err(error) => tracing::warn!(%error, "the PKCS#11 library doesn't start"),
        }
        if let Ok(slot) = slot(&library, &self.label) {
            self.set_slot(slot);
        }
    }

    fn slot(&self) -> Slot {
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_slot(&self, slot: Slot) {
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = slot;
    }
}

impl Declaration {
    /// Compares the declaration with what the token says of itself.
    fn check(&self, device: &str, hardware: bool) -> Result<(), OpenError> {
        let against = |what: String| OpenError::Contradiction {
            level: self.level,
            reference: self.reference.clone(),
            what,
        };
        if self.level == Level::One || self.reference == TEST {
            return Ok(());
        }
        if self.reference.trim().is_empty() {
            return Err(against("no evaluation is named".to_owned()));
        }
        if !hardware {
            return Err(against(format!(
                "the token says that it isn't hardware: {device}"
            )));
        }
        if self.device.as_deref() != Some(device) {
            return Err(against(format!("the token is another device: {device}")));
        }
        Ok(())
    }
}

fn device(info: &TokenInfo) -> String {
    format!(
        "{} {} {}",
        info.manufacturer_id().trim(),
        info.model().trim(),
        info.firmware_version()
    )
}

/// Others may have tried the PIN meanwhile, also one that isn't right any more: the last try is a person's. Where this
/// program is logged in, none is needed.
fn tries_left(library: &Pkcs11, slot: Slot, session: &Session) -> Result<(), Failure> {
    let failed = |e| Failure::of("the token's state", &e);
    let state = session.get_session_info().map_err(failed)?.session_state();
    if state == SessionState::RwUser {
        return Ok(());
    }
    let info = library.get_token_info(slot).map_err(failed)?;
    if !info.user_pin_locked() && !info.user_pin_final_try() {
        return Ok(());
    }
    Err(Failure {
        cure: Cure::Person,
        maybe_made: false,
        what: "no try of the token's PIN is left but the last: a person has to log in to it first",
        fault: None,
    })
}

fn refused() -> Failure {
    Failure {
        cure: Cure::Person,
        maybe_made: false,
        what: "the token refused the PIN; it isn't tried again before a restart",
        fault: None,
    }
}

fn module(options: &Options) -> Result<Pkcs11, OpenError> {
    let trouble = |e: Error| OpenError::Module(options.module.clone(), e.to_string());
    let module = Pkcs11::new(&options.module).map_err(trouble)?;
    initialize(&module).map_err(away)?;
    Ok(module)
}

fn away(error: Error) -> OpenError {
    OpenError::Away(error.to_string())
}

fn initialize(module: &Pkcs11) -> Result<(), Error> {
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The one token with this label. Two of them would make it a matter of chance where keys are.
fn slot(module: &Pkcs11, label: &str) -> Result<Slot, OpenError> {
    let slots = module.get_slots_with_initialized_token().map_err(away)?;
    let named = slots.into_iter().filter(|s| {
        module
            .get_token_info(*s)
            .is_ok_and(|t| t.label().trim_end() == label)
    });
    match named.collect::<Vec<_>>().as_slice() {
        [one] => Ok(*one),
        [] => Err(OpenError::NoToken(label.to_owned())),
        _ => Err(OpenError::TwoTokens(label.to_owned())),
    }
}

fn pin(options: &Options) -> Result<AuthPin, OpenError> {
    let text = std::str::from_utf8(options.pin.expose());
    Ok(AuthPin::from(
        text.map_err(|_| OpenError::Login("the PIN isn't text".to_owned()))?
            .to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    // shows: III-3-13-secure-state
    #[test]
    fn a_refused_pin_never_passes_by_itself() {
        let label = || "token".to_owned();
        for away in [
            OpenError::Silent,
            OpenError::NoToken(label()),
            OpenError::Away("general error".into()),
        ] {
            assert!(away.passes(), "{away}");
        }
        for lasts in [
            OpenError::Login("the login".into()),
            OpenError::LastTry,
            OpenError::TwoTokens(label()),
            OpenError::NoMechanism,
            OpenError::Module("/m.so".into(), "no such file".into()),
        ] {
            assert!(!lasts.passes(), "{lasts}");
        }
    }

    // shows: I-3.5.1-keygen-L2
    #[test]
    fn a_declaration_must_fit_what_the_token_says() {
        let declared = |reference: &str, device: Option<&str>| Declaration {
            level: Level::Two,
            reference: reference.into(),
            device: device.map(Into::into),
        };
        let real = declared("certificate 1", Some("maker model 1.2"));
        assert!(real.check("maker model 1.2", true).is_ok());
        assert!(real.check("maker model 1.3", true).is_err());
        assert!(real.check("maker model 1.2", false).is_err());
        assert!(
            declared("certificate 1", None)
                .check("maker model 1.2", true)
                .is_err()
        );
        assert!(declared(" ", Some("d")).check("d", true).is_err());
        assert!(declared(TEST, None).check("any", false).is_ok());
    }
}
