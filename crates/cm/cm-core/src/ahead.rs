//! Keys made ahead: a stock for each kind that is wanted, so that a key for one signature is there when it is ordered. RSA
//! takes longest, and tokens take long for any.
//!
//! What is in stock under a wrapping key that was changed since, by this process or another one, is given up and not given out. So is all of it
//! when the module comes into its error state, since nobody knows how long ago what was found began; and nothing is made until it leaves that.
//!
//! Stock is lost with the process. That is nothing for keys that live in their material, and a rest in the token for others;
//! so that only back ends without a place of their own ([`Backend::elsewhere`]) get one.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use core_types::{KeyAlg, Level, SecretBytes};

use crate::backend::{Backend, Fault, NewKey, PrivateKey};

/// How long a failed device is left alone before stock is made again.
const REST: Duration = Duration::from_secs(5);
/// How long the end waits for the key that is being made: a library that is still at work when the process ends may crash it.
const LEAVING: Duration = Duration::from_secs(5);

/// A back end with a stock.
pub struct Ahead(Arc<Inner>, Mutex<Receiver<()>>);

struct Inner {
    backend: Arc<dyn Backend>,
    want: Vec<(KeyAlg, usize)>,
    stock: Mutex<Stock>,
    taken: Condvar,
}

#[derive(Default)]
struct Stock {
    keys: HashMap<KeyAlg, VecDeque<NewKey>>,
    /// How often all was given up: what was begun before isn't put in any more.
    renewed: u64,
    /// Nothing is made ahead.
    held: bool,
    /// What the thread found, until the module has heard of it.
    broken: Option<Fault>,
    /// Nobody takes any more.
    ended: bool,
}

impl Stock {
    fn count(&self, alg: KeyAlg) -> usize {
        self.keys.get(&alg).map_or(0, VecDeque::len)
    }

    fn give_up(&mut self) {
        self.keys.clear();
        self.renewed += 1;
    }
}

impl Ahead {
    /// Keeps so many keys of each kind; a thread of its own makes them.
    ///
    /// # Errors
    /// [`Fault`] when the back end can't make one of these kinds, or keeps keys in a place of their own.
    pub fn new(backend: Arc<dyn Backend>, want: Vec<(KeyAlg, usize)>) -> Result<Self, Fault> {
        let inner = Arc::new(Inner {
            backend,
            want,
            stock: Mutex::default(),
            taken: Condvar::new(),
        });
        for (alg, _) in &inner.want {
            let made = inner.backend.generate(*alg)?;
            if inner.backend.elsewhere(&made.material).is_some() {
                inner.backend.erase(&made.material)?;
                return Err(Fault::Unfit("keys in a token aren't made ahead"));
            }
            inner.put(*alg, made, 0);
        }
        let weak = Arc::downgrade(&inner);
        let (at_work, left) = sync_channel::<()>(0);
        std::thread::Builder::new()
            .name("keys-ahead".to_owned())
            .spawn(move || {
                keep(&weak);
                drop(at_work);
            })
            .map_err(|_| Fault::Unavailable("a thread for making keys"))?;
        Ok(Self(inner, Mutex::new(left)))
    }

    /// How many keys of this kind are there now.
    pub fn stock(&self, alg: KeyAlg) -> usize {
        self.0.stock().count(alg)
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.0.stock().ended = true;
        self.0.taken.notify_all();
        let left = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        // Nothing is sent: it ends when the thread has left.
        let _ = left.recv_timeout(LEAVING);
    }
}

impl Inner {
    fn stock(&self) -> MutexGuard<'_, Stock> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A key whose making began after all was given up so often.
    fn put(&self, alg: KeyAlg, key: NewKey, renewed: u64) {
        let mut stock = self.stock();
        if stock.renewed == renewed {
            stock.keys.entry(alg).or_default().push_back(key);
        }
    }

    fn take(&self, alg: KeyAlg) -> Option<NewKey> {
        let key = self.stock().keys.get_mut(&alg)?.pop_front();
        self.taken.notify_one();
        key
    }

    /// What the thread found.
    fn found(&self) -> Result<(), Fault> {
        self.stock().broken.clone().map_or(Ok(()), Err)
    }

    /// The kind of which most is missing, and how often all was given up until now.
    fn missing(&self) -> Option<(KeyAlg, u64)> {
        let stock = self.stock();
        if stock.held {
            return None;
        }
        let lacks = |alg: &KeyAlg, most: usize| most.saturating_sub(stock.count(*alg));
        let most = self
            .want
            .iter()
            .max_by_key(|(alg, most)| lacks(alg, *most))?;
        (lacks(&most.0, most.1) > 0).then_some((most.0, stock.renewed))
    }

    fn wait(&self, time: Duration) {
        let stock = self.stock();
        if !stock.ended {
            drop(self.taken.wait_timeout(stock, time));
        }
    }
}

/// Makes keys until nobody holds the back end any more.
fn keep(weak: &Weak<Inner>) {
    while let Some(inner) = weak.upgrade().filter(|inner| !inner.stock().ended) {
        let Some((alg, renewed)) = inner.missing() else {
            inner.wait(REST);
            continue;
        };
        match inner.backend.generate(alg) {
            Ok(key) => inner.put(alg, key, renewed),
            Err(fault) => {
                tracing::warn!(%alg, %fault, "no key could be made ahead");
                if let Fault::Broken(_) = fault {
                    let mut stock = inner.stock();
                    stock.give_up();
                    (stock.held, stock.broken) = (true, Some(fault));
                }
                inner.wait(REST);
            }
        }
    }
}

impl Backend for Ahead {
    fn name(&self) -> &'static str {
        self.0.backend.name()
    }

    fn ceiling(&self) -> Level {
        self.0.backend.ceiling()
    }

    fn device(&self) -> Option<String> {
        self.0.backend.device()
    }

    fn declaration(&self) -> Option<String> {
        self.0.backend.declaration()
    }

    fn self_test(&self) -> Result<(), Fault> {
        self.0.found()?;
        self.0.backend.self_test()
    }

    fn hold(&self, held: bool) {
        let mut stock = self.0.stock();
        stock.give_up();
        (stock.held, stock.broken) = (held, None);
        self.0.taken.notify_all();
    }

    fn generate(&self, alg: KeyAlg) -> Result<NewKey, Fault> {
        self.0.found()?;
        while let Some(key) = self.0.take(alg) {
            // Nor what a device that is away now can't say it of.
            if matches!(self.0.backend.is_newest(&key.material), Ok(true)) {
                return Ok(key);
            }
        }
        self.0.backend.generate(alg)
    }

    fn import(&self, alg: KeyAlg, pkcs8: &SecretBytes, spki: &[u8]) -> Result<NewKey, Fault> {
        self.0.backend.import(alg, pkcs8, spki)
    }

    fn exports(&self) -> bool {
        self.0.backend.exports()
    }

    fn export(&self, alg: KeyAlg, material: &SecretBytes) -> Result<SecretBytes, Fault> {
        self.0.backend.export(alg, material)
    }

    fn load(&self, alg: KeyAlg, material: &SecretBytes) -> Result<Box<dyn PrivateKey>, Fault> {
        self.0.backend.load(alg, material)
    }

    /// The stock is under the old wrapping key: it is given up, and so is what is being made.
    fn renew_wrapping(&self) -> Result<(), Fault> {
        self.0.backend.renew_wrapping()?;
        self.0.stock().give_up();
        self.0.taken.notify_all();
        Ok(())
    }

    fn is_newest(&self, material: &SecretBytes) -> Result<bool, Fault> {
        self.0.backend.is_newest(material)
    }

    fn rewrap(&self, alg: KeyAlg, material: &SecretBytes) -> Result<Option<SecretBytes>, Fault> {
        self.0.backend.rewrap(alg, material)
    }

    fn retire_wrapping(&self) -> Result<u32, Fault> {
        self.0.backend.retire_wrapping()
    }

    fn elsewhere(&self, material: &SecretBytes) -> Option<SecretBytes> {
        self.0.backend.elsewhere(material)
    }

    fn erase(&self, place: &SecretBytes) -> Result<(), Fault> {
        self.0.backend.erase(place)
    }

    fn tidy(&self) {
        self.0.backend.tidy();
    }

    fn look(&self) {
        self.0.backend.look();
    }

    fn stuck(&self) -> bool {
        self.0.backend.stuck()
    }

    fn news(&self) -> Vec<&'static str> {
        self.0.backend.news()
    }

    fn members(&self) -> Vec<cm_api::rpc::Member> {
        self.0.backend.members()
    }
}
