//! Several devices as one back end: work is spread over them, and goes on when one is away.
//!
//! Two ways. With *shared* keys every device can use every key: wrapped keys whose wrapping key the maker's own tools have
//! copied, or a cluster whose members replicate. Otherwise each key lives in the device that made it: new keys are spread,
//! and a key waits for its device. A device that fails its test is left out for good, one that doesn't answer is left alone
//! until it passes its tests again, and the others go on; a call whose outcome is unknown is never repeated elsewhere. Each
//! change is told as an alarm ([`Backend::news`]).

mod member;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cm_api::rpc::{self, MemberState};
use core_types::{KeyAlg, Level, SecretBytes, SigAlg};

use crate::backend::{Backend, Fault, NO_WRAPPING_KEY, NewKey, PrivateKey};
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
    /// Joins back ends of one kind. Nothing for none, for more than 255, and for different kinds.
    pub fn new(backends: Vec<Arc<dyn Backend>>, shared: bool) -> Option<Self> {
        let first = backends.first()?.name();
        if backends.len() > 255 || backends.iter().any(|b| b.name() != first) {
            return None;
        }
        Some(Self(Arc::new(Inner {
            members: backends.into_iter().map(Member::new).collect(),
            shared,
            next: AtomicUsize::new(0),
            news: Mutex::default(),
        })))
    }

    /// Tries whether keys are shared where they are said to be: what each device makes, every other one can use. To be called
    /// before anything else.
    ///
    /// # Errors
    /// [`Fault::Unfit`] when a device can't use what another one made; other [`Fault`]s when one can't be asked.
    pub fn check(&self) -> Result<(), Fault> {
        if !self.0.shared {
            return Ok(());
        }
        let alg = KeyAlg::P256;
        for maker in &self.0.members {
            let made = maker.backend.generate(alg)?;
            let used = self.0.members.iter().try_for_each(|other| {
                let mut last = Fault::Unfit("");
                for _ in 0..TRIES {
                    match other.backend.load(alg, &made.material) {
                        Ok(key) if key.spki() == made.spki => return Ok(()),
                        Ok(_) => return Err(Fault::Unfit("another key under the same name")),
                        Err(fault) => last = fault,
                    }
                }
                Err(last)
            });
            // All are asked, also after one that is away.
            let erased = maker.backend.elsewhere(&made.material).map(|place| {
                let each = self.0.members.iter().map(|m| m.backend.erase(&place));
                each.fold(Ok(()), Result::and)
            });
            used.map_err(|fault| match fault {
                Fault::Unfit(_) => Fault::Unfit("a device can't use the keys of another one"),
                fault => fault,
            })?;
            erased.unwrap_or(Ok(()))?;
        }
        Ok(())
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
                MemberState::Out => {}
            }
        }
        if well.is_empty() { resting } else { well }
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
            let answer = call(index, member.backend.as_ref());
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
            None => Err(Fault::Broken("no device is left")),
        }
    }

    fn member(&self, index: u8) -> Result<&Member, Fault> {
        let member = self.members.get(usize::from(index));
        match member {
            Some(member) if member.state() != MemberState::Out => Ok(member),
            Some(_) => Err(Fault::Unavailable("the key's device is left out")),
            None => Err(Fault::Unfit("the key's device isn't configured")),
        }
    }

    /// Asks the device that a key lives in.
    fn own<T>(
        &self,
        index: u8,
        call: impl FnOnce(&dyn Backend) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let member = self.member(index)?;
        self.noted(index, member, call(member.backend.as_ref()))
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
        self.0.members.first().map_or("", |m| m.backend.name())
    }

    fn ceiling(&self) -> Level {
        let levels = self.0.members.iter().map(|m| m.backend.ceiling());
        levels.min().unwrap_or(Level::One)
    }

    fn device(&self) -> Option<String> {
        let all = self.0.members.iter().map(|m| m.backend.device());
        all.collect::<Option<Vec<_>>>().map(|d| d.join("; "))
    }

    fn declaration(&self) -> Option<String> {
        let all = self.0.members.iter().map(|m| m.backend.declaration());
        all.collect::<Option<Vec<_>>>().map(|d| d.join("; "))
    }

    /// Every device is tested; one that passes is enough.
    fn self_test(&self) -> Result<(), Fault> {
        let mut passed = false;
        let mut last = Fault::Broken("no device is left");
        for (index, member) in (0..).zip(&self.0.members) {
            if member.state() == MemberState::Out {
                continue;
            }
            match self.0.noted(index, member, member.backend.self_test()) {
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

    fn elsewhere(&self, material: &SecretBytes) -> Option<SecretBytes> {
        if self.0.shared {
            let mut members = self.0.members.iter();
            return members.find_map(|m| m.backend.elsewhere(material));
        }
        let (index, own) = self.0.untag(material).ok()?;
        let member = self.0.members.get(usize::from(index))?;
        let place = member.backend.elsewhere(&own)?;
        Some(self.0.tag(index, &place))
    }

    /// In every device that may have it; done when all have said so.
    fn erase(&self, place: &SecretBytes) -> Result<(), Fault> {
        if !self.0.shared {
            let (index, own) = self.0.untag(place)?;
            return self.0.own(index, |device| device.erase(&own));
        }
        self.0
            .members
            .iter()
            .try_for_each(|m| m.backend.erase(place))
    }

    fn tidy(&self) {
        for member in &self.0.members {
            member.backend.tidy();
        }
    }

    fn look(&self) {
        for (index, member) in (0..).zip(&self.0.members) {
            self.0.tell(index, member.look());
        }
    }

    /// One device that works is reason enough to go on, also where the others have keys of their own.
    fn stuck(&self) -> bool {
        let left = |m: &&Member| m.state() != MemberState::Out;
        let left: Vec<_> = self.0.members.iter().filter(left).collect();
        !left.is_empty() && left.iter().all(|m| m.backend.stuck())
    }

    fn news(&self) -> Vec<&'static str> {
        let mut news = self.0.news.lock().unwrap_or_else(PoisonError::into_inner);
        let mut told = std::mem::take(&mut *news);
        told.extend(self.0.members.iter().flat_map(|m| m.backend.news()));
        told
    }

    fn members(&self) -> Vec<rpc::Member> {
        let of = |member: &Member| rpc::Member {
            device: member.backend.device(),
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
