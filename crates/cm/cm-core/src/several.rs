//! Several devices as one back end: work is spread over them, and goes on when one is away.
//!
//! Two ways. With *shared* keys every device can use every key: wrapped keys whose wrapping key the maker's own tools have
//! copied, or a cluster whose members replicate. Otherwise each key lives in the device that made it: new keys are spread,
//! and a key waits for its device. A device that fails its test is left out for good, the others go on; a call whose
//! outcome is unknown is never repeated elsewhere.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use core_types::{KeyAlg, Level, SecretBytes, SigAlg};

use crate::backend::{Backend, Fault, NewKey, PrivateKey};

/// The back end.
#[derive(Clone)]
pub struct Several(Arc<Inner>);

struct Inner {
    members: Vec<Member>,
    shared: bool,
    next: AtomicUsize,
}

struct Member {
    backend: Arc<dyn Backend>,
    /// Failed its test: not used again by this process.
    out: AtomicBool,
}

impl Several {
    /// Joins back ends of one kind. Nothing for none, for more than 255, and for different kinds.
    pub fn new(backends: Vec<Arc<dyn Backend>>, shared: bool) -> Option<Self> {
        let first = backends.first()?.name();
        if backends.len() > 255 || backends.iter().any(|b| b.name() != first) {
            return None;
        }
        let member = |backend| Member {
            backend,
            out: AtomicBool::new(false),
        };
        Some(Self(Arc::new(Inner {
            members: backends.into_iter().map(member).collect(),
            shared,
            next: AtomicUsize::new(0),
        })))
    }
}

impl Inner {
    /// Members that may be used, beginning with another one each time.
    fn turn(&self) -> impl Iterator<Item = (u8, &Member)> {
        let from = self.next.fetch_add(1, Ordering::Relaxed);
        let count = self.members.len();
        (0..count)
            .map(move |i| (from + i) % count)
            .filter(|i| !self.members[*i].out.load(Ordering::SeqCst))
            .map(|i| (u8::try_from(i).unwrap_or(u8::MAX), &self.members[i]))
    }

    /// Asks one after the other until one can say. `again`: whether this fault lets the next one be asked.
    fn ask<T>(
        &self,
        again: impl Fn(&Fault) -> bool,
        mut call: impl FnMut(u8, &dyn Backend) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut last = Fault::Broken("no device is left");
        for (index, member) in self.turn() {
            match call(index, member.backend.as_ref()) {
                Ok(done) => return Ok(done),
                Err(fault) => {
                    if let Fault::Broken(what) = &fault {
                        tracing::error!(index, what, "a device is left out from now on");
                        member.out.store(true, Ordering::SeqCst);
                    }
                    if !again(&fault) {
                        return Err(fault);
                    }
                    tracing::warn!(index, %fault, "another device is asked");
                    last = fault;
                }
            }
        }
        Err(last)
    }

    fn member(&self, index: u8) -> Result<&dyn Backend, Fault> {
        let member = self.members.get(usize::from(index));
        match member {
            Some(member) if !member.out.load(Ordering::SeqCst) => Ok(member.backend.as_ref()),
            Some(_) => Err(Fault::Unavailable("the key's device is left out")),
            None => Err(Fault::Unfit("the key's device isn't configured")),
        }
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

/// A device that is away or wants a person: nothing was made, and another one may be asked.
fn elsewhere(fault: &Fault) -> bool {
    matches!(fault, Fault::Unavailable(_) | Fault::Locked(_))
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
        for (index, member) in self.0.turn() {
            match member.backend.self_test() {
                Ok(()) => passed = true,
                Err(fault) => {
                    tracing::error!(index, %fault, "a device failed its test");
                    if matches!(fault, Fault::Broken(_)) {
                        member.out.store(true, Ordering::SeqCst);
                    }
                    last = fault;
                }
            }
        }
        if passed { Ok(()) } else { Err(last) }
    }

    fn generate(&self, alg: KeyAlg) -> Result<NewKey, Fault> {
        // A key that nobody was told of is no key, so that also after an unknown outcome another device may make one.
        let again = |fault: &Fault| !matches!(fault, Fault::Unfit(_));
        self.0.ask(again, |index, device| {
            let made = device.generate(alg)?;
            Ok(NewKey {
                material: self.0.tag(index, &made.material),
                spki: made.spki,
            })
        })
    }

    fn import(&self, alg: KeyAlg, pkcs8: &SecretBytes, spki: &[u8]) -> Result<NewKey, Fault> {
        self.0.ask(elsewhere, |index, device| {
            let made = device.import(alg, pkcs8, spki)?;
            Ok(NewKey {
                material: self.0.tag(index, &made.material),
                spki: made.spki,
            })
        })
    }

    fn load(&self, alg: KeyAlg, material: &SecretBytes) -> Result<Box<dyn PrivateKey>, Fault> {
        if !self.0.shared {
            let (index, own) = self.0.untag(material)?;
            return self.0.member(index)?.load(alg, &own);
        }
        let loaded = self.0.ask(elsewhere, |index, device| {
            Ok((index, Arc::from(device.load(alg, material)?)))
        })?;
        let (index, key): (u8, Arc<dyn PrivateKey>) = loaded;
        Ok(Box::new(Shared {
            devices: self.0.clone(),
            alg,
            material: material.clone(),
            spki: key.spki().to_vec(),
            loaded: Mutex::new(vec![(index, key)]),
        }))
    }

    fn renew_wrapping(&self) -> Result<(), Fault> {
        Err(Fault::Unfit(
            "the wrapping key of several devices is changed with their maker's tools",
        ))
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
            return self.0.member(index)?.erase(&own);
        }
        self.0
            .members
            .iter()
            .try_for_each(|m| m.backend.erase(place))
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
        self.devices.ask(elsewhere, |index, device| {
            self.in_device(index, device)?.sign(alg, dtbs)
        })
    }
}
