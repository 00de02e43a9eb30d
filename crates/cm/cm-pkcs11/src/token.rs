//! The token: library, slot, login, and what renews each of them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::MechanismType;
use cryptoki::session::{Session, SessionState, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::AuthPin;

use crate::fault::{Cure, Failure};
use crate::options::{OpenError, Options};

/// How long the library's calls are waited for before it is started again: so many looks, one in this time.
const LOOKS: u32 = 40;
const LOOK: Duration = Duration::from_millis(5);

/// The library of a token that isn't open yet, loaded once.
#[derive(Clone)]
pub(crate) struct Library {
    loaded: Arc<OnceLock<Pkcs11>>,
    alone: bool,
}

impl Library {
    /// `alone`: of no other token that this process uses.
    pub(crate) fn of_this_alone(alone: bool) -> Self {
        Self {
            loaded: Arc::default(),
            alone,
        }
    }

    fn load(&self, options: &Options) -> Result<Pkcs11, OpenError> {
        match self.loaded.get() {
            Some(loaded) => Ok(loaded.clone()),
            None => load(options).map(|fresh| self.loaded.get_or_init(|| fresh).clone()),
        }
    }
}

/// A token. Sessions of it live in the threads of the pool.
pub(crate) struct Token {
    /// Loaded once and never unloaded. Held for reading during every call, for writing while it is initialised anew,
    /// which is undefined beside calls.
    library: RwLock<Pkcs11>,
    label: String,
    serial: Option<String>,
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
    /// Finds the token and logs in. Some libraries notice a device that comes later only when they are started again: one that was
    /// started for nothing is stopped, if this call has started it and it is nobody else's.
    pub(crate) fn open(options: &Options, library: &Library) -> Result<Self, OpenError> {
        let module = library.load(options)?;
        let started = initialize(&module).map_err(away)?;
        let opened = Self::over(options, module.clone());
        if opened.is_err()
            && started
            && library.alone
            && let Err(error) = module.finalize()
        {
            tracing::debug!(%error, "the PKCS#11 library doesn't stop");
        }
        opened
    }

    fn over(options: &Options, module: Pkcs11) -> Result<Self, OpenError> {
        let slot = slot(&module, &options.label, options.serial.as_deref())?;
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
            serial: options.serial.clone(),
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
        let module = load(options)?;
        initialize(&module).map_err(away)?;
        if slot(&module, &options.label, None).is_ok() {
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
            self.find(&library)
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
            Ok(_) => tracing::warn!("the PKCS#11 library was initialised again"),
            Err(error) => tracing::warn!(%error, "the PKCS#11 library doesn't start"),
        }
        if let Ok(slot) = self.find(&library) {
            self.set_slot(slot);
        }
    }

    fn find(&self, library: &Pkcs11) -> Result<Slot, OpenError> {
        slot(library, &self.label, self.serial.as_deref())
    }

    fn slot(&self) -> Slot {
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_slot(&self, slot: Slot) {
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = slot;
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

fn load(options: &Options) -> Result<Pkcs11, OpenError> {
    let trouble = |e: Error| OpenError::Module(options.module.clone(), e.to_string());
    Pkcs11::new(&options.module).map_err(trouble)
}

fn away(error: Error) -> OpenError {
    OpenError::Away(error.to_string())
}

/// Starts the library; answers whether it hadn't been started before.
fn initialize(module: &Pkcs11) -> Result<bool, Error> {
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) => Ok(true),
        Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The one token with this label, and serial number if one is given.
fn slot(module: &Pkcs11, label: &str, serial: Option<&str>) -> Result<Slot, OpenError> {
    let slots = module.get_slots_with_initialized_token().map_err(away)?;
    let named = slots.into_iter().filter_map(|slot| {
        let told = module.get_token_info(slot).ok()?;
        let named = told.label().trim_end() == label;
        named.then(|| (slot, told.serial_number().trim().to_owned()))
    });
    the_one(named.collect(), label, serial)
}

/// Two of them would make it a matter of chance where keys are. `named`: those with this label, and their serial numbers.
fn the_one<S>(
    mut named: Vec<(S, String)>,
    label: &str,
    serial: Option<&str>,
) -> Result<S, OpenError> {
    let label = label.to_owned();
    let Some((_, found)) = named.first() else {
        return Err(OpenError::NoToken(label));
    };
    let found = found.clone();
    named.retain(|(_, own)| serial.is_none_or(|serial| own == serial));
    match (named.pop(), named.is_empty()) {
        (Some((one, _)), true) => Ok(one),
        (Some(_), false) => Err(OpenError::TwoTokens(label)),
        (None, _) => Err(OpenError::Serial { label, found }),
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

    #[test]
    fn the_token_is_the_one_with_label_and_serial_number() {
        let named = |serials: &[&str]| -> Vec<(u8, String)> {
            let serials = serials.iter().map(|s| (*s).to_owned());
            (0..).zip(serials).collect()
        };
        let one = |serials: &[&str], serial| the_one(named(serials), "token", serial);
        assert!(matches!(one(&[], Some("1")), Err(OpenError::NoToken(_))));
        assert_eq!(one(&["1"], None).unwrap(), 0);
        assert_eq!(one(&["1", "2"], Some("2")).unwrap(), 1);
        for serial in [None, Some("1")] {
            let two = one(&["1", "1"], serial);
            assert!(matches!(two, Err(OpenError::TwoTokens(_))), "{serial:?}");
        }
        let other = one(&["1"], Some("2")).unwrap_err();
        assert!(other.to_string().contains("\"1\""), "{other}");
    }
}
