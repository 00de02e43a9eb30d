//! The token and its sessions.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use cm_core::backend::Fault;
use core_types::{Level, SecretBytes};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;

/// Which token, and how to log in.
#[derive(Debug, Clone)]
pub struct Options {
    /// PKCS#11 module, a shared library.
    pub module: PathBuf,
    /// Label of the token.
    pub label: String,
    /// User PIN, UTF-8.
    pub pin: SecretBytes,
    /// Level that the operator declares the token to be good for; [`Level::One`] without a declaration.
    pub declared: Level,
}

/// Why a token can't be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The library can't be loaded or doesn't start.
    #[error("the PKCS#11 module {0} can't be used: {1}")]
    Module(PathBuf, String),
    /// No token with this label.
    #[error("the PKCS#11 module has no token with the label {0:?}")]
    NoToken(String),
    /// The PIN isn't text, or the token refuses it.
    #[error("the token refuses the login: {0}")]
    Login(String),
}

/// A token that is logged in. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Token(Arc<Inner>);

struct Inner {
    module: Pkcs11,
    slot: Slot,
    pin: AuthPin,
    /// Sessions nobody uses now. The first one was logged in, which counts for all of this process.
    idle: Mutex<Vec<Session>>,
}

impl Token {
    pub(crate) fn open(options: &Options) -> Result<Self, OpenError> {
        let module = module(options)?;
        let slot = slot(&module, &options.label)
            .ok_or_else(|| OpenError::NoToken(options.label.clone()))?;
        let token = Self(Arc::new(Inner {
            module,
            slot,
            pin: pin(options)?,
            idle: Mutex::default(),
        }));
        let session = token
            .connect()
            .map_err(|e| OpenError::Login(e.to_string()))?;
        token.put(session);
        Ok(token)
    }

    pub(crate) fn initialise(options: &Options) -> Result<(), OpenError> {
        let module = module(options)?;
        if slot(&module, &options.label).is_some() {
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

    /// Runs a call in a session of its own. If the session had died, a new one gets one more try: what died did
    /// nothing.
    pub(crate) fn with<T>(&self, call: impl Fn(&Session) -> Result<T, Fault>) -> Result<T, Fault> {
        let session = match self.take() {
            Some(session) if session.get_session_info().is_ok() => session,
            _ => self.connect().map_err(|e| fault("session", &e))?,
        };
        let outcome = call(&session);
        // A session in which something failed may be in any state; it is closed by dropping it.
        if outcome.is_ok() {
            self.put(session);
        }
        outcome
    }

    fn connect(&self) -> Result<Session, Error> {
        let session = self.0.module.open_rw_session(self.0.slot)?;
        match session.login(UserType::User, Some(&self.0.pin)) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
            Err(error) => Err(error),
        }
    }

    fn take(&self) -> Option<Session> {
        self.0
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
    }

    fn put(&self, session: Session) {
        self.0
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(session);
    }
}

fn module(options: &Options) -> Result<Pkcs11, OpenError> {
    let trouble = |e: Error| OpenError::Module(options.module.clone(), e.to_string());
    let module = Pkcs11::new(&options.module).map_err(trouble)?;
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(module),
        Err(error) => Err(trouble(error)),
    }
}

fn slot(module: &Pkcs11, label: &str) -> Option<Slot> {
    let slots = module.get_slots_with_initialized_token().ok()?;
    slots.into_iter().find(|s| {
        module
            .get_token_info(*s)
            .is_ok_and(|t| t.label().trim_end() == label)
    })
}

fn pin(options: &Options) -> Result<AuthPin, OpenError> {
    let text = std::str::from_utf8(options.pin.expose());
    Ok(AuthPin::from(
        text.map_err(|_| OpenError::Login("the PIN isn't text".to_owned()))?
            .to_owned(),
    ))
}

/// A failed call as the module may know it; the token's words go to the operator only.
pub(crate) fn fault(what: &'static str, error: &Error) -> Fault {
    tracing::error!(what, %error, "the PKCS#11 token failed");
    Fault(what)
}
