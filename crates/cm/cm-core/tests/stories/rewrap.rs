//! The wrapping key changes under orders that run and under keys that are being made.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cm_api::rpc::Reason;
use cm_api::{Executed, Refusal};
use cm_core::MIGRATIONS;
use cm_core::ahead::Ahead;
use cm_core::backend::{Backend, Fault, NO_WRAPPING_KEY, NewKey, PrivateKey};
use cm_core::wait::Pause;
use cm_soft::SoftBackend;
use core_types::{KeyAlg, Level, SecretBytes, SigAlg};
use store_kit::Dialect;

use crate::kit::{P256, Story, digest, generate, sign};

/// Longest time that anything is waited for here.
const LONGEST: Duration = Duration::from_secs(60);

/// Where a call waits: tells that it is there, and goes on when it is told.
type Gate = (SyncSender<()>, Receiver<()>);
type Place = Mutex<Option<Gate>>;

/// Software keys, each with the number of a wrapping key before it.
#[derive(Default)]
struct Numbered {
    newest: AtomicU8,
    /// Those before were destroyed.
    oldest: AtomicU8,
    /// It doesn't say which one is the newest.
    silent: AtomicBool,
    at_generate: Place,
    at_sign: Place,
}

/// The next call that comes here waits.
fn hold(place: &Place) -> (Receiver<()>, SyncSender<()>) {
    let (reached, is_reached) = sync_channel(1);
    let (go, told) = sync_channel(1);
    *place.lock().unwrap() = Some((reached, told));
    (is_reached, go)
}

fn pass(place: &Place) {
    let gate = place.lock().unwrap().take();
    if let Some((reached, told)) = gate {
        reached.send(()).unwrap();
        told.recv_timeout(LONGEST).unwrap();
    }
}

impl Numbered {
    fn there(&self, number: u8) -> Result<(), Fault> {
        match number < self.oldest.load(Ordering::SeqCst) {
            true => Err(NO_WRAPPING_KEY),
            false => Ok(()),
        }
    }

    fn newest(&self) -> u8 {
        self.newest.load(Ordering::SeqCst)
    }
}

fn under(number: u8, key: &[u8]) -> SecretBytes {
    SecretBytes::new([&[number], key].concat())
}

fn number(material: &SecretBytes) -> u8 {
    material.expose()[0]
}

/// For a back end that is shared by its keys.
struct Shared(Arc<Numbered>);

impl Backend for Shared {
    fn name(&self) -> &'static str {
        "numbered"
    }

    fn ceiling(&self) -> Level {
        Level::One
    }

    fn self_test(&self) -> Result<(), Fault> {
        Ok(())
    }

    fn generate(&self, alg: KeyAlg) -> Result<NewKey, Fault> {
        let number = self.0.newest();
        pass(&self.0.at_generate);
        let made = SoftBackend.generate(alg)?;
        Ok(NewKey {
            material: under(number, made.material.expose()),
            spki: made.spki,
        })
    }

    fn load(&self, alg: KeyAlg, material: &SecretBytes) -> Result<Box<dyn PrivateKey>, Fault> {
        let number = number(material);
        self.0.there(number)?;
        let key = SecretBytes::new(material.expose()[1..].to_vec());
        let key = SoftBackend.load(alg, &key)?;
        Ok(Box::new(NumberedKey(self.0.clone(), number, key)))
    }

    fn renew_wrapping(&self) -> Result<(), Fault> {
        self.0.newest.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn is_newest(&self, material: &SecretBytes) -> Result<bool, Fault> {
        if self.0.silent.load(Ordering::SeqCst) {
            return Err(Fault::Unavailable("silent"));
        }
        Ok(number(material) == self.0.newest())
    }

    fn rewrap(&self, _: KeyAlg, material: &SecretBytes) -> Result<Option<SecretBytes>, Fault> {
        self.0.there(number(material))?;
        let next = under(self.0.newest(), &material.expose()[1..]);
        Ok((!self.is_newest(material)?).then_some(next))
    }

    fn retire_wrapping(&self) -> Result<u32, Fault> {
        let newest = self.0.newest();
        let before = self.0.oldest.swap(newest, Ordering::SeqCst);
        Ok(u32::from(newest - before))
    }

    fn elsewhere(&self, _: &SecretBytes) -> Option<SecretBytes> {
        None
    }

    fn erase(&self, _: &SecretBytes) -> Result<(), Fault> {
        Ok(())
    }
}

struct NumberedKey(Arc<Numbered>, u8, Box<dyn PrivateKey>);

impl PrivateKey for NumberedKey {
    fn spki(&self) -> &[u8] {
        self.2.spki()
    }

    fn sign(&self, alg: SigAlg, dtbs: &[u8]) -> Result<Vec<u8>, Fault> {
        pass(&self.0.at_sign);
        self.0.there(self.1)?;
        self.2.sign(alg, dtbs)
    }
}

async fn reached(gate: Receiver<()>) {
    let waited = tokio::task::spawn_blocking(move || gate.recv_timeout(LONGEST));
    waited.await.unwrap().unwrap();
}

// shows: III-A1.6-backup-keys, T-KEY-MALFUNCTION
#[tokio::test]
async fn no_order_that_runs_loses_its_wrapping_key() {
    for test in store_kit::testing::both(MIGRATIONS).await {
        let numbered = Arc::new(Numbered::default());
        let story = Story::begin(test, Arc::new(Shared(numbered.clone()))).await;
        let key = story.key(KeyAlg::P256).await;
        let digests: Vec<_> = (0..40).map(|i| digest(P256, &i.to_string())).collect();
        let batch = story.order(sign(&key, P256, &digests));
        let new_key = story.order(generate(KeyAlg::P256, Level::One));
        for (n, (place, order)) in (1_u8..).zip([
            (&numbered.at_sign, &batch),
            (&numbered.at_generate, &new_key),
        ]) {
            let (there, go) = hold(place);
            let changed = async {
                reached(there).await;
                story.module.change_wrapping().await.unwrap()
            };
            let released = async {
                let recorded = async {
                    while story.audited("cm.wrapping-changed").await < usize::from(n) {
                        tokio::task::yield_now().await;
                    }
                };
                tokio::time::timeout(LONGEST, recorded).await.unwrap();
                // Time enough for a change that doesn't wait.
                for _ in 0..50 {
                    story.audited("cm.wrapping-retired").await;
                }
                let oldest = numbered.oldest.load(Ordering::SeqCst);
                assert_eq!((numbered.newest(), oldest), (n, n - 1), "not yet");
                go.send(()).unwrap();
            };
            let answer = story.module.execute(order);
            let (answer, done, ()) = tokio::join!(answer, changed, released);
            assert_eq!((done.keys, done.retired), (u64::from(n), 1));
            match answer.unwrap() {
                Executed::Signed(values) => assert_eq!(values.len(), digests.len()),
                Executed::Created(made) => {
                    let order = story.order(sign(&made, P256, &[digest(P256, "a")]));
                    story.module.execute(&order).await.unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

// shows: T-KEY-MALFUNCTION
#[tokio::test]
async fn a_key_that_is_lost_does_not_keep_the_others_under_the_old_one() {
    let shared = Arc::new(Shared(Arc::default()));
    let store = store_kit::testing::sqlite(MIGRATIONS).await;
    let story = Story::begin(store, shared.clone()).await;
    let lost = story.key(KeyAlg::P256).await;
    story.key(KeyAlg::P256).await;
    shared.renew_wrapping().unwrap();
    shared.retire_wrapping().unwrap();
    let key = story.key(KeyAlg::P256).await;
    let done = story.module.change_wrapping().await.unwrap();
    assert_eq!((done.keys, done.retired), (1, 1));
    let told = story.audited("cm-wrapping-key-missing").await;
    assert_eq!(told, 1, "however many are lost");
    let order = |key| sign(key, P256, &[digest(P256, "a")]);
    story
        .module
        .execute(&story.order(order(&key)))
        .await
        .unwrap();
    let missing = Refusal::NotAllowed(Reason::NoWrappingKey);
    assert_eq!(story.refused(order(&lost)).await, missing);
}

// shows: T-KEY-MALFUNCTION
#[test]
fn stock_under_an_old_wrapping_key_is_not_given_out() {
    let numbered = Arc::new(Numbered::default());
    let shared = Arc::new(Shared(numbered.clone()));
    let ahead = Ahead::new(shared.clone(), vec![(KeyAlg::P256, 1)]).unwrap();
    assert_eq!(ahead.stock(KeyAlg::P256), 1);
    // Another process changed it.
    shared.renew_wrapping().unwrap();
    let (there, go) = hold(&numbered.at_generate);
    let made = std::thread::scope(|scope| {
        let asked = scope.spawn(|| ahead.generate(KeyAlg::P256));
        there.recv_timeout(LONGEST).unwrap();
        go.send(()).unwrap();
        asked.join().unwrap()
    });
    assert_eq!(number(&made.unwrap().material), 1);
}

#[test]
fn stock_that_a_device_says_nothing_of_does_not_stand_in_the_way() {
    let numbered = Arc::new(Numbered::default());
    let shared = Arc::new(Shared(numbered.clone()));
    let ahead = Ahead::new(shared, vec![(KeyAlg::P256, 1)]).unwrap();
    assert_eq!(ahead.stock(KeyAlg::P256), 1);
    numbered.silent.store(true, Ordering::SeqCst);
    ahead.generate(KeyAlg::P256).unwrap();
}

/// Notes how long is waited.
#[derive(Default)]
struct Noted(Mutex<Vec<Duration>>);

struct Noting(Arc<Noted>);

impl Pause for Noting {
    fn pause(&self, time: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.0.0.lock().unwrap().push(time);
        Box::pin(std::future::ready(()))
    }
}

// shows: T-KEY-MALFUNCTION
#[tokio::test]
async fn other_nodes_have_the_time_that_making_a_key_of_several_devices_takes() {
    for test in store_kit::testing::both(MIGRATIONS).await {
        let alone = test.store.dialect() == Dialect::Sqlite;
        let mut story = Story::begin(test, Arc::new(Shared(Arc::default()))).await;
        let noted = Arc::new(Noted::default());
        let again = story.again(7).await.unwrap();
        story.module = again.pausing(Arc::new(Noting(noted.clone())));
        story.key(KeyAlg::P256).await;
        story.module.change_wrapping().await.unwrap();
        let waited = noted.0.lock().unwrap().clone();
        match alone {
            true => assert!(waited.is_empty(), "{waited:?}"),
            false => assert_eq!(waited, [Duration::from_secs(150); 2]),
        }
    }
}

// shows: T-KEY-MALFUNCTION
#[test]
fn what_was_begun_before_a_change_is_not_put_in_stock_after_it() {
    let numbered = Arc::new(Numbered::default());
    let shared = Arc::new(Shared(numbered.clone()));
    let ahead = Ahead::new(shared, vec![(KeyAlg::P256, 1)]).unwrap();
    let (there, go) = hold(&numbered.at_generate);
    let first = ahead.generate(KeyAlg::P256).unwrap();
    assert_eq!(number(&first.material), 0, "from stock");
    there.recv_timeout(LONGEST).unwrap();
    ahead.renew_wrapping().unwrap();
    let (next, go_on) = hold(&numbered.at_generate);
    go.send(()).unwrap();
    // Another one is made in its place.
    next.recv_timeout(LONGEST).unwrap();
    assert_eq!(ahead.stock(KeyAlg::P256), 0);
    go_on.send(()).unwrap();
}
