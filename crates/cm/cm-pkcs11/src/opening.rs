//! Opening a token, also again and again until it is there. The first call of a library may never return, what it has begun goes on in its
//! code, and a PIN is tried once.

use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cm_core::several::Declared;
use cryptoki::mechanism::MechanismType;

use crate::Pkcs11Backend;
use crate::options::{Limits, OpenError, Options};
use crate::token::{Library, Token};

/// A token that is to be opened.
pub struct Opening {
    options: Options,
    limits: Limits,
    library: Library,
    progress: Mutex<Progress>,
}

type Opened = Result<(Token, Vec<MechanismType>), OpenError>;

/// What came of the last try.
enum Progress {
    /// Nothing that stands against another one.
    Nothing,
    /// It hasn't come back yet: no other one is made beside it.
    Hangs(Receiver<Opened>),
    /// The token refused the PIN: no other one is made at all.
    Refused,
}

impl Opening {
    /// Of the token with this label. `alone`: nobody else in this process uses its library, so that it may be started anew to notice a
    /// device that came.
    pub fn new(options: Options, limits: Limits, alone: bool) -> Self {
        Self {
            options,
            limits,
            library: Library::of_this_alone(alone),
            progress: Mutex::new(Progress::Nothing),
        }
    }

    /// What keys in this token are declared to be good for.
    pub fn declared(&self) -> Declared {
        self.options.declared()
    }

    /// Opens the token and logs in, once. May be called again until it succeeds: what hung is looked after first, and a refused PIN
    /// isn't tried again.
    ///
    /// # Errors
    /// [`OpenError`]: module, token or PIN can't be used.
    pub fn open(&self) -> Result<Pkcs11Backend, OpenError> {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let (answered, patience) = match std::mem::replace(&mut *progress, Progress::Nothing) {
            Progress::Nothing => (self.begin(), self.limits.patience * 6),
            Progress::Hangs(answered) => (answered, Duration::ZERO),
            Progress::Refused => {
                *progress = Progress::Refused;
                let what = "it was refused before; it isn't tried again before a restart";
                return Err(OpenError::Login(what.to_owned()));
            }
        };
        match answered.recv_timeout(patience) {
            Ok(Ok((token, mechanisms))) => {
                Pkcs11Backend::over(token, mechanisms, self.declared(), self.limits)
            }
            Ok(Err(error)) => {
                if let OpenError::Login(_) = error {
                    *progress = Progress::Refused;
                }
                Err(error)
            }
            Err(RecvTimeoutError::Timeout) => {
                *progress = Progress::Hangs(answered);
                Err(OpenError::Silent)
            }
            Err(RecvTimeoutError::Disconnected) => Err(OpenError::Silent),
        }
    }

    /// Tries, in a thread of its own.
    fn begin(&self) -> Receiver<Opened> {
        let (answer, answered) = sync_channel(1);
        let (options, library) = (self.options.clone(), self.library.clone());
        std::thread::spawn(move || {
            let opened = Token::open(&options, &library).and_then(|token| {
                let mechanisms = token.mechanisms();
                let mechanisms = mechanisms.map_err(|f| OpenError::Away(f.what.to_owned()))?;
                Ok((token, mechanisms))
            });
            drop(answer.send(opened));
        });
        answered
    }
}
