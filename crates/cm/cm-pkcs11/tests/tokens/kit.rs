//! Backends over the faulty module, and a look at all that is in their token.

use std::time::Duration;

use cm_core::backend::Backend;
use cm_pkcs11::{Limits, Options, Pkcs11Backend};
use core_types::SecretBytes;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::object::{Attribute, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use pkcs11_faults::{control, softhsm};

pub const PIN: &str = "12345678";
pub const LIMITS: Limits = Limits {
    sessions: 4,
    patience: Duration::from_secs(20),
    trust: Duration::from_secs(3600),
};
/// For calls that are to hang, which six times as long may be waited for. What doesn't hang has to be done by then, also on a busy
/// machine.
pub const HASTY: Limits = Limits {
    patience: Duration::from_secs(2),
    ..LIMITS
};

pub fn faults(lines: &str) {
    control::set(lines).unwrap();
}

/// A token with this label behind the faulty module.
pub fn options(label: &str) -> Options {
    Options {
        module: softhsm::faulty().unwrap(),
        label: label.to_owned(),
        serial: None,
        pin: SecretBytes::from(PIN.to_owned()),
        declaration: None,
    }
}

pub fn token(options: &Options) -> Pkcs11Backend {
    token_with(options, LIMITS)
}

pub fn token_with(options: &Options, limits: Limits) -> Pkcs11Backend {
    Pkcs11Backend::initialise(options).unwrap();
    Pkcs11Backend::open_with(options, limits).unwrap()
}

/// A session of the test's own in the same token. Whoever is in this process sees every object, those of sessions too.
pub struct Look(pub Session);

impl Look {
    pub fn into(options: &Options) -> Self {
        let module = Pkcs11::new(&options.module).unwrap();
        // It was initialised by the back end.
        let _ = module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK));
        let slots = module.get_slots_with_initialized_token().unwrap();
        let slot = slots.into_iter().find(|slot| {
            let told = module.get_token_info(*slot).unwrap();
            told.label().trim_end() == options.label
        });
        let session = module.open_rw_session(slot.unwrap()).unwrap();
        // Logged in is the whole process, or nobody.
        let _ = session.login(UserType::User, Some(&AuthPin::from(PIN.to_owned())));
        Self(session)
    }

    pub fn all(&self, template: &[Attribute]) -> Vec<ObjectHandle> {
        self.0.find_objects(template).unwrap()
    }

    /// Private keys that live in a session.
    pub fn unwrapped(&self) -> usize {
        let template = [
            Attribute::Class(ObjectClass::PRIVATE_KEY),
            Attribute::Token(false),
        ];
        self.all(&template).len()
    }

    /// Waits until there are so many objects again: what hung may still be at it.
    pub fn comes_to(&self, count: usize, backend: &dyn Backend) -> bool {
        let (_keep, never) = std::sync::mpsc::sync_channel::<()>(0);
        (0..1000).any(|_| {
            backend.tidy();
            backend.look();
            let there = self.all(&[]).len() == count;
            if !there {
                let _ = never.recv_timeout(Duration::from_millis(5));
            }
            there
        })
    }
}
