//! Several devices as one back end: work is spread over them, and goes on when one is away.
//!
//! Two ways. With *shared* keys every device can use every key: wrapped keys whose wrapping key the maker's own tools have
//! copied, or a cluster whose members replicate. Otherwise each key lives in the device that made it: new keys are spread,
//! and a key waits for its device. A device that fails its test is left out for good, one that doesn't answer is left alone
//! until it passes its tests again, and the others go on; a call whose outcome is unknown is never repeated elsewhere. Each
//! change is told as an alarm ([`Backend::news`]).
//!
//! One that isn't there at the start keeps the others from nothing. It is waited for, and used when it has proven itself as at a start
//! ([`Awaited`]); nothing rests on what it may be until then.

mod begin;
mod member;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cm_api::rpc::{self, MemberState};
use core_types::{KeyAlg, Level, SecretBytes, SigAlg};

use crate::backend::{Backend, Fault, NO_WRAPPING_KEY, NewKey, PrivateKey};
pub use begin::{Awaited, Declared, Device, NotOpen};
use member::{Member, elsewhere, lack};

/// How often devices that replicate are asked whether they have by now what another one has.
const TRIES: u32 = 10;
/// Keys that one device wraps anew couldn't be opened in another.
const NOT_IN_ALL: Fault = Fault::Unfit(
    "the new wrapping key isn't in all devices; copy it with their maker's tools and change the wrapping key again",
);

/// The back end.
#[derive(Clone)]
pub struct Several(Arc<Inner>);

struct Inner {
    members: Vec<Member>,
    shared: bool,
    next: AtomicUsize,
    news: Mutex<Vec<&'static str>>,
}

impl Several {
    /// Joins back ends of one kind. Nothing where none is there, for more than 255, and for different kinds.
    pub fn new<D: Into<Device>>(
        devices: impl IntoIterator<Item = D>,
        shared: bool,
    ) -> Option<Self> {
        let devices = devices.into_iter().map(|device| Member::new(device.into()));
        let inner = Inner {
            members: devices.collect(),
            shared,
            next: AtomicUsize::new(0),
            news: Mutex::default(),
        };
        let mut there = inner.members.iter().filter_map(Member::backend);
        let first = there.next()?.name();
        if inner.members.len() > 255 || there.any(|b| b.name() != first) {
            return None;
        }
        for (index, member) in (0..).zip(&inner.members) {
            if member.state() == MemberState::Awaited {
                inner.tell(index, Some("cm-device-awaited"));
            }
        }
        Some(Self(Arc::new(inner)))
    }

    /// Tries whether keys are shared where they are said to be: what each device makes, every other one can use. A device that
    /// can't be asked is waited for from now on, like one that wasn't there. To be called before anything else.
    ///
    /// # Errors
    /// [`Fault::Unfit`] when a device can't use what another one made, [`Fault::Locked`] when one refuses the PIN; other [`Fault`]s when none
    /// is left.
    pub fn check(&self) -> Result<(), Fault> {
        self.0.begin()
    }
}

impl Inner {
    /// Members that may be used, beginning with another one each time. One that didn't answer only if there is no other.
    fn turn(&self) -> Vec<(u8, &Member)> {
        let from = self.next.fetch_add(1, Ordering::Relaxed);
        let count = self.members.len();
        let all = (0..count).map(|i| (from + i) % count);
        let all = all.map(|i| (u8::try_from(i).unwrap_or(u8::MAX), &self.members[i]));
        let (mut well, mut resting) = (Vec::new(), Vec::new());
        for (index, member) in all {
            match member.state() {
                MemberState::Well | MemberState::Away => well.push((index, member)),
                MemberState::Resting => resting.push((index, member)),
                MemberState::Out | MemberState::Awaited => {}
            }
        }
        if well.is_empty() { resting } else { well }
    }

    fn name(&self) -> &'static str {
        let mut there = self.members.iter().filter_map(Member::backend);
        there.next().map_or("", |backend| backend.name())
    }

    /// Why nobody can be asked.
    fn nobody(&self) -> Fault {
        let awaited = |m: &Member| m.state() == MemberState::Awaited;
        match self.members.iter().any(awaited) {
            true => Fault::Unavailable("no device is there"),
            false => Fault::Broken("no device is left"),
        }
    }

    fn tell(&self, index: u8, what: Option<&'static str>) {
        if let Some(what) = what {
            tracing::error!(index, what, "one of several devices");
            let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
            news.push(what);
        }
    }

    /// What a device answered, taken note of.
    fn noted<T>(&self, index: u8, member: &Member, answer: Result<T, Fault>) -> Result<T, Fault> {
        self.tell(index, member.note(answer.as_ref().map(|_| ())));
        answer
    }

    /// Asks one after the other until one can say. `again`: whether this fault lets the next one be asked.
    fn ask<T>(
        &self,
        again: impl Fn(&Fault) -> bool,
        mut call: impl FnMut(u8, &dyn Backend) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let (mut lacking, mut last) = (Vec::<(u8, &Member)>::new(), None);
        let turn = self.turn();
        let all = turn.len() == self.members.len();
        for (index, member) in turn {
            let Some(device) = member.in_use() else {
                continue;
            };
            let answer = call(index, device);
            match self.noted(index, member, answer) {
                Ok(done) => {
                    for (index, member) in lacking {
                        self.tell(index, member.lacks());
                    }
                    return Ok(done);
                }
                Err(fault) if !again(&fault) => return Err(fault),
                Err(fault) => {
                    tracing::warn!(index, %fault, "another device is asked");
                    if lack(&fault) {
                        lacking.push((index, member));
                        last.get_or_insert(fault);
                    } else {
                        last = Some(fault);
                    }
                }
            }
        }
        match last {
            Some(fault) if lack(&fault) && !all => Err(Fault::Unavailable(
                "a device that may have the key is left alone",
            )),
            Some(fault) => Err(fault),
            None => Err(self.nobody()),
        }
    }

    fn member(&self, index: u8) -> Result<(&Member, &dyn Backend), Fault> {
        let member = self.members.get(usize::from(index));
        let member = member.ok_or(Fault::Unfit("the key's device isn't configured"))?;
        match (member.state(), member.in_use()) {
            (_, Some(device)) => Ok((member, device)),
            (MemberState::Out, None) => Err(Fault::Unavailable("the key's device is left out")),
            (_, None) => Err(Fault::Unavailable("the key's device isn't there yet")),
        }
    }

    /// Asks the device that a key lives in.
    fn own<T>(
        &self,
        index: u8,
        call: impl FnOnce(&dyn Backend) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let (member, device) = self.member(index)?;
        self.noted(index, member, call(device))
    }

    /// Asks all of them, none of which may be missing.
    fn each<T>(&self, call: impl Fn(&dyn Backend) -> Result<T, Fault>) -> Result<Vec<T>, Fault> {
        let count = u8::try_from(self.members.len()).unwrap_or(u8::MAX);
        (0..count).map(|index| self.own(index, &call)).collect()
    }

    /// Has every device wrap with the newest wrapping key, if all have it.
    fn agree(&self) -> Result<(), Fault> {
        for _ in 0..TRIES {
            if let Ok(newest) = self.newest()? {
                let adopt = |d: &dyn Backend| newest.map_or(Ok(()), |n| d.adopt_wrapping(n));
                return self.each(adopt).map(|_| ());
            }
        }
        Err(NOT_IN_ALL)
    }

    /// The newest wrapping key, if it is the newest in every device.
    fn newest(&self) -> Result<Result<Option<u32>, Fault>, Fault> {
        let held = self.each(|d| d.wrapping_keys())?;
        let newest = held.iter().flatten().max().copied();
        Ok(match held.iter().all(|own| own.last().copied() == newest) {
            true => Ok(newest),
            false => Err(NOT_IN_ALL),
        })
    }

    /// Material names the device first, unless all have all keys.
    fn tag(&self, index: u8, material: &SecretBytes) -> SecretBytes {
        if self.shared {
            return material.clone();
        }
        SecretBytes::new([&[index], material.expose()].concat())
    }

    fn untag(&self, material: &SecretBytes) -> Result<(u8, SecretBytes), Fault> {
        match material.expose() {
            [index, rest @ ..] => Ok((*index, SecretBytes::new(rest.to_vec()))),
            [] => Err(Fault::Unfit("not a key of these devices")),
        }
    }
}

impl Backend for Several {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn ceiling(&self) -> Level {
        let levels = self.0.members.iter().map(Member::ceiling);
        levels.min().unwrap_or(Level::One)
    }

    /// Of those that were seen.
    fn device(&self) -> Option<String> {
        let seen = self.0.members.iter();
        let seen = seen.filter(|m| m.state() != MemberState::Awaited);
        let all = seen.filter_map(Member::backend).map(Backend::device);
        all.collect::<Option<Vec<_>>>().map(|d| d.join("; "))
    }

    /// Of all in which a key may be kept.
    fn declaration(&self) -> Option<String> {
        let all = self.0.members.iter().map(Member::declaration);
        all.collect::<Option<Vec<_>>>().map(|d| d.join("; "))
    }

    /// Every device that is there is tested; one that passes is enough.
    fn self_test(&self) -> Result<(), Fault> {
        let mut passed = false;
        let mut last = self.0.nobody();
        for (index, member) in (0..).zip(&self.0.members) {
            let Some(device) = member.in_use() else {
                continue;
            };
            match self.0.noted(index, member, device.self_test()) {
                Ok(()) => passed = true,
                Err(fault) => {
                    tracing::error!(index, %fault, "a device failed its test");
                    // One that is only away may come back.
                    if !matches!(fault, Fault::Broken(_)) {
                        last = fault;
                    }
                }
            }
        }
        if passed { Ok(()) } else { Err(last) }
    }

    fn generate(&self, alg: KeyAlg) -> Result<NewKey, Fault> {
        // A key that nobody was told of is no key, so that also after an unknown outcome another device may make one.
        let again = |fault: &Fault| !matches!(fault, Fault::Unfit(_)) || *fault == NO_WRAPPING_KEY;
        self.0.ask(again, |index, device| {
            let made = device.generate(alg)?;
            Ok(NewKey {
                material: self.0.tag(index, &made.material),
                spki: made.spki,
            })
        })
    }

    fn import(&self, alg: KeyAlg, pkcs8: &SecretBytes, spki: &[u8]) -> Result<NewKey, Fault> {
        let again = |fault: &Fault| elsewhere(fault) || *fault == NO_WRAPPING_KEY;
        self.0.ask(again, |index, device| {
            let made = device.import(alg, pkcs8, spki)?;
            Ok(NewKey {
                material: self.0.tag(index, &made.material),
                spki: made.spki,
            })
        })
    }

    fn load(&self, alg: KeyAlg, material: &SecretBytes) -> Result<Box<dyn PrivateKey>, Fault> {
        let devices = self.0.clone();
        if !self.0.shared {
            let (index, own) = self.0.untag(material)?;
            let key = self.0.own(index, |device| device.load(alg, &own))?;
            return Ok(Box::new(Own {
                devices,
                index,
                key,
            }));
        }
        let again = |fault: &Fault| elsewhere(fault) || lack(fault);
        let loaded = self.0.ask(again, |index, device| {
            Ok((index, Arc::from(device.load(alg, material)?)))
        })?;
        let (index, key): (u8, Arc<dyn PrivateKey>) = loaded;
        Ok(Box::new(Shared {
            devices,
            alg,
            material: material.clone(),
            spki: key.spki().to_vec(),
            loaded: Mutex::new(vec![(index, key)]),
        }))
    }

    /// Shared: a new one in the first device, unless a change has begun before; when all have it they wrap with it, and not
    /// before. A cluster copies it by itself, elsewhere its maker's tools do, and the change is asked for again.
    fn renew_wrapping(&self) -> Result<(), Fault> {
        if !self.0.shared {
            return self.0.each(|d| d.renew_wrapping()).map(|_| ());
        }
        let held = self.0.each(|d| d.wrapping_keys())?;
        if held.iter().all(|own| own.len() < 2 && own == &held[0]) {
            self.0.own(0, |d| d.make_wrapping())?;
        }
        self.0.agree()
    }

    fn is_newest(&self, material: &SecretBytes) -> Result<bool, Fault> {
        if self.0.shared {
            return self
                .0
                .ask(elsewhere, |_, device| device.is_newest(material));
        }
        let (index, own) = self.0.untag(material)?;
        self.0.own(index, |device| device.is_newest(&own))
    }

    fn rewrap(&self, alg: KeyAlg, material: &SecretBytes) -> Result<Option<SecretBytes>, Fault> {
        if self.0.shared {
            let again = |fault: &Fault| elsewhere(fault) || lack(fault);
            return self.0.ask(again, |_, device| device.rewrap(alg, material));
        }
        let (index, own) = self.0.untag(material)?;
        let wrapped = self.0.own(index, |device| device.rewrap(alg, &own))?;
        Ok(wrapped.map(|wrapped| self.0.tag(index, &wrapped)))
    }

    /// In every device; those that share them have the same number. Not while one lacks what the keys of another are wrapped with.
    fn retire_wrapping(&self) -> Result<u32, Fault> {
        if self.0.shared {
            self.0.newest()??;
        }
        let retired = self.0.each(|d| d.retire_wrapping())?;
        Ok(match self.0.shared {
            true => retired.into_iter().max().unwrap_or(0),
            false => retired.into_iter().sum(),
        })
    }

    /// They are of one kind: where one isn't open yet, another one tells what a place in it is.
    fn elsewhere(&self, material: &SecretBytes) -> Option<SecretBytes> {
        let mut there = self.0.members.iter().filter_map(Member::backend);
        if self.0.shared {
            return there.find_map(|device| device.elsewhere(material));
        }
        let (index, own) = self.0.untag(material).ok()?;
        let member = self.0.members.get(usize::from(index))?;
        let device = member.backend().or_else(|| there.next())?;
        let place = device.elsewhere(&own)?;
        Some(self.0.tag(index, &place))
    }

    /// In every device that may have it; done when all have said so. All are asked, also after one that is away.
    fn erase(&self, place: &SecretBytes) -> Result<(), Fault> {
        if !self.0.shared {
            let (index, own) = self.0.untag(place)?;
            return self.0.own(index, |device| device.erase(&own));
        }
        let erased = self.0.members.iter().map(|member| match member.backend() {
            Some(device) => device.erase(place),
            None => Err(Fault::Unavailable(
                "a device that may have the key isn't there yet",
            )),
        });
        erased.fold(Ok(()), Result::and)
    }

    fn tidy(&self) {
        for device in self.0.members.iter().filter_map(Member::backend) {
            device.tidy();
        }
    }

    fn look(&self) {
        for (index, member) in (0..).zip(&self.0.members) {
            self.0.tell(index, member.look());
            if member.state() == MemberState::Awaited {
                self.0.take_in(index, member);
            }
        }
    }

    /// One device that works is reason enough to go on, also where the others have keys of their own; one that hasn't come yet is
    /// none.
    fn stuck(&self) -> bool {
        let used = self.0.members.iter().filter_map(Member::in_use);
        let mut used = used.peekable();
        used.peek().is_some() && used.all(Backend::stuck)
    }

    fn news(&self) -> Vec<&'static str> {
        let mut news = self.0.news.lock().unwrap_or_else(PoisonError::into_inner);
        let mut told = std::mem::take(&mut *news);
        let there = self.0.members.iter().filter_map(Member::backend);
        told.extend(there.flat_map(Backend::news));
        told
    }

    fn members(&self) -> Vec<rpc::Member> {
        let of = |member: &Member| rpc::Member {
            device: member.backend().and_then(Backend::device),
            state: member.state(),
        };
        self.0.members.iter().map(of).collect()
    }
}

/// A key that lives in one device.
struct Own {
    devices: Arc<Inner>,
    index: u8,
    key: Box<dyn PrivateKey>,
}

impl PrivateKey for Own {
    fn spki(&self) -> &[u8] {
        self.key.spki()
    }

    fn sign(&self, alg: SigAlg, dtbs: &[u8]) -> Result<Vec<u8>, Fault> {
        self.devices.own(self.index, |_| self.key.sign(alg, dtbs))
    }
}

/// A key that every device can use.
struct Shared {
    devices: Arc<Inner>,
    alg: KeyAlg,
    material: SecretBytes,
    spki: Vec<u8>,
    loaded: Mutex<Vec<(u8, Arc<dyn PrivateKey>)>>,
}

impl Shared {
    fn in_device(&self, index: u8, device: &dyn Backend) -> Result<Arc<dyn PrivateKey>, Fault> {
        let known = {
            let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
            loaded
                .iter()
                .find(|(i, _)| *i == index)
                .map(|(_, k)| k.clone())
        };
        if let Some(key) = known {
            return Ok(key);
        }
        let key: Arc<dyn PrivateKey> = Arc::from(device.load(self.alg, &self.material)?);
        if key.spki() != self.spki {
            return Err(Fault::Broken("another key under the same name"));
        }
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.push((index, key.clone()));
        Ok(key)
    }
}

impl PrivateKey for Shared {
    fn spki(&self) -> &[u8] {
        &self.spki
    }

    fn sign(&self, alg: SigAlg, dtbs: &[u8]) -> Result<Vec<u8>, Fault> {
        let again = |fault: &Fault| elsewhere(fault) || lack(fault);
        self.devices.ask(again, |index, device| {
            self.in_device(index, device)?.sign(alg, dtbs)
        })
    }
}
