//! Who takes part: the devices that are there at the start, and those that come later. Where keys are shared, each of them proves
//! that before anything else is asked of it.

use std::sync::Arc;

use cm_api::rpc::MemberState;
use core_types::{KeyAlg, Level};

use super::member::{Member, lack};
use super::{Inner, TRIES};
use crate::backend::{Backend, Fault, NewKey};

/// A device as the start finds it.
pub enum Device {
    /// Open, and as it is declared.
    There(Arc<dyn Backend>),
    /// Away: it is taken in when it comes.
    Away(Box<dyn Awaited>),
}

impl From<Arc<dyn Backend>> for Device {
    fn from(backend: Arc<dyn Backend>) -> Self {
        Self::There(backend)
    }
}

/// A device that wasn't there at the start.
pub trait Awaited: Send + Sync + 'static {
    /// What its keys are declared to be good for, as its back end will say.
    fn declared(&self) -> Declared;

    /// Opens it as a start would. Not called again after [`NotOpen::Refused`].
    ///
    /// # Errors
    /// [`NotOpen`].
    fn open(&self) -> Result<Arc<dyn Backend>, NotOpen>;
}

/// What the keys of a device are declared to be good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// Level.
    pub level: Level,
    /// The evaluation that it rests on.
    pub reference: Option<String>,
}

/// Why a device that is waited for isn't open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotOpen {
    /// It isn't there, and may come.
    #[error("it isn't there")]
    Away,
    /// It is there, and lacks what the others have: not used, and asked again.
    #[error("{0}")]
    Lacks(String),
    /// It is there and isn't what is declared, or refuses the login: this process asks it nothing more.
    #[error("{0}")]
    Refused(String),
}

/// The kind of pair that devices try each other with.
const TRIAL: KeyAlg = KeyAlg::P256;
const NOT_SHARED: Fault = Fault::Unfit("a device can't use the keys of another one");

/// Has `maker` make a pair, which it and each of `users` have to open, and which ends in all of them. Answers what each of `users`
/// says, or what is wrong with the maker.
fn trial(maker: &dyn Backend, users: &[&dyn Backend]) -> Result<Vec<Result<(), Fault>>, Fault> {
    let made = maker.generate(TRIAL)?;
    let all = || std::iter::once(&maker).chain(users);
    let mut said: Vec<_> = all().map(|user| opens(*user, &made)).collect();
    if let Some(place) = maker.elsewhere(&made.material) {
        // All are asked, also after one that is away.
        for (said, user) in said.iter_mut().zip(all()) {
            let erased = user.erase(&place);
            if said.is_ok() {
                *said = erased;
            }
        }
    }
    said.remove(0)?;
    Ok(said)
}

fn opens(user: &dyn Backend, made: &NewKey) -> Result<(), Fault> {
    for _ in 0..TRIES {
        match user.load(TRIAL, &made.material) {
            Ok(key) if key.spki() == made.spki => return Ok(()),
            Err(fault) if lack(&fault) => {}
            // Another one under the same name.
            Ok(_) | Err(Fault::Unfit(_)) => return Err(NOT_SHARED),
            Err(fault) => return Err(fault),
        }
    }
    Err(NOT_SHARED)
}

impl Inner {
    fn used(&self) -> impl Iterator<Item = (u8, &Member, &dyn Backend)> {
        let used = (0..).zip(&self.members);
        used.filter_map(|(index, member)| Some((index, member, member.in_use()?)))
    }

    /// Tries whether keys are shared where they are said to be. A device that can't be asked is waited for, one that is faulty is
    /// left out; the others begin without it.
    pub(super) fn begin(&self) -> Result<(), Fault> {
        if !self.shared {
            return Ok(());
        }
        let mut last = Fault::Unavailable("no device is there");
        for (index, maker) in (0..).zip(&self.members) {
            let Some(device) = maker.in_use() else {
                continue;
            };
            let users = self.used().filter(|(other, ..)| *other != index);
            let users: Vec<_> = users.collect();
            let backends: Vec<_> = users.iter().map(|(.., backend)| *backend).collect();
            let said = match trial(device, &backends) {
                Ok(said) => said,
                Err(fault) => {
                    last = self.set_aside(index, maker, fault)?;
                    continue;
                }
            };
            for ((index, member, _), said) in users.into_iter().zip(said) {
                if let Err(fault) = said {
                    last = self.set_aside(index, member, fault)?;
                }
            }
        }
        match self.used().next() {
            Some(_) => Ok(()),
            None => Err(last),
        }
    }

    /// The others begin without this one, unless a person has to see to it first.
    fn set_aside(&self, index: u8, member: &Member, fault: Fault) -> Result<Fault, Fault> {
        match &fault {
            Fault::Unavailable(_) | Fault::Unknown(_) => {
                member.set(MemberState::Awaited);
                self.tell(index, Some("cm-device-awaited"));
                Ok(fault)
            }
            Fault::Broken(_) => {
                self.tell(index, member.note(Err(&fault)));
                Ok(fault)
            }
            Fault::Unfit(_) | Fault::Locked(_) => Err(fault),
        }
    }

    /// Looks whether a device that is waited for is there by now, and what it has to be; then it is used like the others.
    pub(super) fn take_in(&self, index: u8, member: &Member) {
        let Some(device) = self.comes(index, member) else {
            return;
        };
        let Err(fault) = self.proves_itself(device) else {
            member.set(MemberState::Well);
            self.tell(index, Some("cm-device-joined"));
            return;
        };
        tracing::warn!(index, %fault, "a device that came isn't taken in yet");
        match fault {
            Fault::Unavailable(_) | Fault::Unknown(_) => {}
            Fault::Broken(_) => {
                member.set(MemberState::Out);
                self.tell(index, Some("cm-device-out"));
            }
            Fault::Unfit(_) | Fault::Locked(_) => self.tell(index, member.refused()),
        }
    }

    /// The device, if it is there and as it is declared.
    fn comes<'m>(&self, index: u8, member: &'m Member) -> Option<&'m dyn Backend> {
        if member.backend().is_some() {
            return member.backend();
        }
        let (why, next) = match member.awaited()?.open() {
            Ok(backend) if backend.name() == self.name() => {
                member.opened(backend);
                return member.backend();
            }
            Ok(backend) => {
                let why = format!("it is {}, unlike the others", backend.name());
                (why, MemberState::Out)
            }
            Err(NotOpen::Away) => return None,
            Err(NotOpen::Lacks(why)) => (why, MemberState::Awaited),
            Err(NotOpen::Refused(why)) => (why, MemberState::Out),
        };
        tracing::error!(index, %why, "a device that came isn't used");
        member.set(next);
        self.tell(index, member.refused());
        None
    }

    /// All that a start would have asked of it. Whose keys it shares it has to prove with one other device at least.
    fn proves_itself(&self, device: &dyn Backend) -> Result<(), Fault> {
        device.self_test()?;
        let others: Vec<_> = self.used().map(|(.., other)| other).collect();
        // As at a start that finds nobody else.
        if !self.shared || others.is_empty() {
            return Ok(());
        }
        let mut proven = false;
        for (said, other) in trial(device, &others)?.into_iter().zip(&others) {
            match said {
                Ok(()) => {}
                Err(fault @ Fault::Unfit(_)) => return Err(fault),
                // That is the other one's trouble.
                Err(_) => continue,
            }
            let Ok(said) = trial(*other, &[device]) else {
                continue;
            };
            said.into_iter().collect::<Result<(), _>>()?;
            proven = true;
        }
        match proven {
            true => Ok(()),
            false => Err(Fault::Unavailable("no other device can be asked")),
        }
    }
}
