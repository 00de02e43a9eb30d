//! The module over back ends that fail in every way: what the caller hears, what state follows, what is recorded.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use cm_api::rpc::Reason;
use cm_api::rpc::{Execute, ModuleState};
use cm_api::{ExecuteRequest, Executed, ModuleError, OrderKind, Refusal};
use cm_core::MIGRATIONS;
use cm_core::backend::{Backend, Fault, NewKey, PrivateKey};
use cm_soft::SoftBackend;
use core_types::clock::ManualClock;
use core_types::rpc::Method as _;
use core_types::{KeyAlg, Level, SecretBytes, SigAlg};
use service_kit::Peer;
use tower::ServiceExt as _;

use crate::kit::{P256, Story, by_act, digest, generate, refusal, sign};

/// What goes wrong next.
#[derive(Default)]
pub struct Plan {
    /// Given instead of the signature after so many good ones.
    pub sign: Option<(u32, Fault)>,
    /// So many calls to sign from now on find no device.
    pub away: u32,
    /// After so many calls to sign, so many find no device.
    pub gap: Option<(u32, u32)>,
    /// What was signed.
    pub signed: Vec<Vec<u8>>,
    pub generate: Option<Fault>,
    pub self_test: Option<Fault>,
    /// The pair that every generation yields.
    pub same: Option<(Vec<u8>, SecretBytes)>,
    /// Public key that the back end claims for every key.
    pub spki: Option<Vec<u8>>,
    /// The back end has a copy of each key outside the module's store.
    pub device: bool,
    pub erase: Option<Fault>,
    pub erased: Vec<SecretBytes>,
    /// Every ECDSA value is made with one nonce.
    pub same_nonce: bool,
    /// Level that its operator declares it to be good for.
    pub level: Option<Level>,
    pub load: Option<Fault>,
    /// How long each signature takes, in seconds.
    pub slow: Option<(Arc<ManualClock>, i64)>,
    /// The device forgets nothing before it is told here.
    pub hold_tidy: Option<Receiver<()>>,
    /// How often the device was asked to forget what the module doesn't hold.
    pub tidied: u32,
    /// How many keys the module holds.
    pub held: u32,
    pub stuck: bool,
    /// Told once.
    pub news: Vec<&'static str>,
}

/// Software keys, and a plan.
#[derive(Clone, Default)]
pub struct Faulty(Arc<Mutex<Plan>>, pub Arc<AtomicU32>);

impl Faulty {
    pub fn plan(&self, change: impl FnOnce(&mut Plan)) {
        self.1.store(0, Ordering::SeqCst);
        change(&mut self.0.lock().unwrap());
    }

    pub async fn story(&self) -> Story {
        let store = store_kit::testing::sqlite(MIGRATIONS).await;
        Story::begin(store, Arc::new(self.clone())).await
    }
}

impl Backend for Faulty {
    fn name(&self) -> &'static str {
        "faulty"
    }

    fn ceiling(&self) -> Level {
        let plan = self.0.lock().unwrap();
        match plan.level {
            Some(level) => level,
            None if plan.device => Level::Two,
            None => Level::One,
        }
    }

    fn self_test(&self) -> Result<(), Fault> {
        self.0.lock().unwrap().self_test.clone().map_or(Ok(()), Err)
    }

    fn generate(&self, alg: KeyAlg) -> Result<NewKey, Fault> {
        let plan = self.0.lock().unwrap();
        if let Some(fault) = plan.generate.clone() {
            return Err(fault);
        }
        match plan.same.clone() {
            Some((spki, material)) => Ok(NewKey { material, spki }),
            None => SoftBackend.generate(alg),
        }
    }

    fn import(&self, alg: KeyAlg, pkcs8: &SecretBytes, spki: &[u8]) -> Result<NewKey, Fault> {
        SoftBackend.import(alg, pkcs8, spki)
    }

    fn load(&self, alg: KeyAlg, material: &SecretBytes) -> Result<Box<dyn PrivateKey>, Fault> {
        let key = SoftBackend.load(alg, material)?;
        if let Some(fault) = self.0.lock().unwrap().load.clone() {
            return Err(fault);
        }
        self.0.lock().unwrap().held += 1;
        let claimed = self.0.lock().unwrap().spki.clone();
        let spki = claimed.unwrap_or_else(|| key.spki().to_vec());
        Ok(Box::new(FaultyKey(self.clone(), key, spki)))
    }

    fn elsewhere(&self, material: &SecretBytes) -> Option<SecretBytes> {
        let kept = self.0.lock().unwrap().device;
        kept.then(|| material.clone())
    }

    fn erase(&self, place: &SecretBytes) -> Result<(), Fault> {
        let mut plan = self.0.lock().unwrap();
        if let Some(fault) = plan.erase.clone() {
            return Err(fault);
        }
        plan.erased.push(place.clone());
        Ok(())
    }

    fn tidy(&self) {
        let held = self.0.lock().unwrap().hold_tidy.take();
        if let Some(held) = held {
            let _told = held.recv_timeout(Duration::from_secs(10));
        }
        self.0.lock().unwrap().tidied += 1;
    }

    fn stuck(&self) -> bool {
        self.0.lock().unwrap().stuck
    }

    fn news(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.0.lock().unwrap().news)
    }
}

impl Drop for FaultyKey {
    fn drop(&mut self) {
        let mut plan = self.0.0.lock().unwrap();
        // The plan may be a new one.
        plan.held = plan.held.saturating_sub(1);
    }
}

struct FaultyKey(Faulty, Box<dyn PrivateKey>, Vec<u8>);

impl PrivateKey for FaultyKey {
    fn spki(&self) -> &[u8] {
        &self.2
    }

    fn sign(&self, alg: SigAlg, digest: &[u8]) -> Result<Vec<u8>, Fault> {
        let nth = self.0.1.fetch_add(1, Ordering::SeqCst);
        let planned = {
            let mut plan = self.0.0.lock().unwrap();
            if let Some(fewer) = plan.away.checked_sub(1) {
                plan.away = fewer;
                return Err(Fault::Unavailable("away for a moment"));
            }
            if let Some((from, calls)) = plan.gap
                && (from..from + calls).contains(&nth)
            {
                return Err(Fault::Unavailable("away in between"));
            }
            plan.signed.push(digest.to_vec());
            plan.sign.clone()
        };
        if let Some((clock, seconds)) = self.0.0.lock().unwrap().slow.clone() {
            clock.advance(seconds);
        }
        let same_nonce = self.0.0.lock().unwrap().same_nonce;
        match planned {
            Some((good, fault)) if nth >= good => Err(fault),
            _ if same_nonce => {
                let s = u8::try_from(nth % 100 + 1).unwrap();
                Ok([&[0x30, 68, 2, 32][..], &[0x11; 32], &[2, 32], &[s; 32]].concat())
            }
            _ => self.1.sign(alg, digest),
        }
    }
}

// shows: T-KEY-MALFUNCTION, T-KEY-ABUSE, T-USE-SAP-REPLAY
#[tokio::test]
async fn no_signature_was_made_is_said_only_when_none_was() {
    let faulty = Faulty::default();
    let story = faulty.story().await;
    let key = story.key(KeyAlg::P256).await;
    let digests: Vec<_> = (0..6).map(|i| digest(P256, &i.to_string())).collect();
    let order = || story.order(sign(&key, P256, &digests));
    for (good, fault, unknown) in [
        (0, Fault::Unavailable("away"), false),
        (1, Fault::Unavailable("away after one value"), true),
        (5, Fault::Unavailable("away before the last value"), true),
        (0, Fault::Unknown("no answer"), true),
        (3, Fault::Unknown("no answer"), true),
    ] {
        faulty.plan(|plan| plan.sign = Some((good, fault.clone())));
        let request = order();
        let answer = story.module.execute(&request).await.unwrap_err();
        let expected = if unknown {
            ModuleError::Unknown
        } else {
            ModuleError::Refused(Refusal::NotOperational)
        };
        assert_eq!(answer, expected, "{fault:?} after {good}");
        // Whatever it was, this order is spent: no second value can come of it.
        faulty.plan(|plan| plan.sign = None);
        let again = refusal(story.module.execute(&request).await);
        assert_eq!(again, Refusal::Duplicate);
    }
    assert_eq!(story.audited("cm-outcome-unknown").await, 4);
}

// shows: T-KEY-MALFUNCTION, T-USE-SAP-REPLAY
#[tokio::test]
async fn what_surely_was_not_signed_may_be_ordered_once_more() {
    for renewable in [false, true] {
        let faulty = Faulty::default();
        let mut story = faulty.story().await;
        let key = story.key(KeyAlg::P256).await;
        let order = |story: &Story, number: u8, nth: u32| {
            let texts = ["a", "b"].map(|text| digest(P256, text));
            let mut kind = by_act(number, sign(&key, P256, &texts));
            if let OrderKind::Sign {
                attempt,
                renewable: further,
                ..
            } = &mut kind
            {
                (*attempt, *further) = (nth, renewable);
            }
            story.order_of(kind)
        };
        let (no, spent) = (Refusal::NotOperational, Refusal::Duplicate);
        let away = |good| Some((good, Fault::Unavailable("away")));
        faulty.plan(|plan| plan.sign = away(0));
        assert_eq!(
            refusal(story.module.execute(&order(&story, 1, 0)).await),
            no
        );
        // As the module itself knows, also after a restart.
        story.module = story.again(7).await.unwrap();
        faulty.plan(|plan| plan.sign = None);
        let second = story.module.execute(&order(&story, 1, 1)).await;
        assert!(matches!(second, Ok(Executed::Signed(_))), "{second:?}");
        for nth in [0, 1] {
            let again = story.module.execute(&order(&story, 1, nth)).await;
            assert_eq!(refusal(again), spent);
        }
        // Not where a value may have come of the first, and not twice.
        for (act, good, attempts) in [(2, 1, 0..1), (3, 0, 0..2)] {
            faulty.plan(|plan| plan.sign = away(good));
            for nth in attempts.clone() {
                let failed = story.module.execute(&order(&story, act, nth)).await;
                assert!(failed.is_err(), "{failed:?}");
            }
            faulty.plan(|plan| plan.sign = None);
            let last = story.module.execute(&order(&story, act, 1)).await;
            assert_eq!(refusal(last), spent, "act {act}");
        }
    }
}

// shows: III-3-14-audit-records, III-3-13-secure-state
#[tokio::test]
async fn what_the_device_tells_is_an_alarm_once_and_a_device_that_hangs_for_good_ends_the_process()
{
    let faulty = Faulty::default();
    let story = faulty.story().await;
    assert!(!story.module.tidy().await);
    faulty.plan(|plan| (plan.stuck, plan.news) = (true, vec!["cm-device-stuck"]));
    assert!(
        story.module.tidy().await,
        "the daemon ends, and is started again"
    );
    assert!(story.module.tidy().await);
    assert_eq!(story.audited("cm-device-stuck").await, 1);
    // Also beside an order.
    faulty.plan(|plan| plan.news = vec!["cm-device-away"]);
    story.key(KeyAlg::P256).await;
    assert_eq!(story.audited("cm-device-away").await, 1);
}

// shows: III-A1.4.1-protect-use-disclosure, III-A1.6-destroy-at-end, T-KEY-DISCLOSE
#[tokio::test]
async fn the_device_forgets_keys_when_they_end_are_not_used_or_the_module_is_disabled() {
    let faulty = Faulty::default();
    let mut story = faulty.story().await;
    let officers = crate::switch::Officers::new();
    story.module = story.again_with(&officers.setup()).await;
    let tidied = || {
        let mut told = (0, 0);
        faulty.plan(|plan| told = (plan.held, std::mem::take(&mut plan.tidied)));
        told
    };
    let used = async |story: &Story| {
        let key = story.key(KeyAlg::P256).await;
        let order = story.order(sign(&key, P256, &[digest(P256, "a")]));
        story.module.execute(&order).await.unwrap();
        key
    };
    let key = used(&story).await;
    assert_eq!(tidied(), (1, 0));
    let order = story.order(crate::destroy::destroy(&key));
    story.module.execute(&order).await.unwrap();
    assert_eq!(tidied(), (0, 1), "destroyed");
    used(&story).await;
    story.module.tidy().await;
    assert_eq!(tidied(), (1, 1), "in use");
    story.clock.advance(300);
    story.module.tidy().await;
    assert_eq!(tidied(), (0, 1), "not used lately");
    story.renew().await;
    used(&story).await;
    let off = crate::switch::to(&story, false, 1);
    let off = officers.approve(&[0, 1], &off);
    story.module.switch(&off).await.unwrap();
    assert_eq!(tidied(), (0, 1), "disabled");
}

// shows: III-3-13-secure-state, T-KEY-MALFUNCTION
#[tokio::test]
async fn an_absent_device_degrades_the_module_and_the_first_success_ends_it() {
    let faulty = Faulty::default();
    let story = faulty.story().await;
    let key = story.key(KeyAlg::P256).await;
    let kind = || sign(&key, P256, &[digest(P256, "a")]);
    faulty.plan(|plan| plan.sign = Some((0, Fault::Unavailable("away"))));
    assert_eq!(story.refused(kind()).await, Refusal::NotOperational);
    assert_eq!(story.refused(kind()).await, Refusal::NotOperational);
    assert_eq!(story.audited("cm-degraded").await, 1, "told once");
    faulty.plan(|plan| plan.self_test = Some(Fault::Unavailable("away")));
    let health = story.module.self_test().await.unwrap();
    assert_eq!(health.state, ModuleState::Degraded);
    faulty.plan(|plan| *plan = Plan::default());
    story.module.execute(&story.order(kind())).await.unwrap();
    let health = story.module.self_test().await.unwrap();
    assert_eq!(health.state, ModuleState::Operational);
}

// shows: III-3-13-secure-state, III-3-13-detect-hardware, III-3-14-audit-records, T-KEY-MALFUNCTION
#[tokio::test]
async fn a_failed_test_stops_every_private_key_and_no_restart_lets_it_go_on() {
    let faulty = Faulty::default();
    let story = faulty.story().await;
    let key = story.key(KeyAlg::P256).await;
    let kind = || sign(&key, P256, &[digest(P256, "a")]);
    faulty.plan(|plan| plan.self_test = Some(Fault::Broken("known answer")));
    let health = story.module.self_test().await.unwrap();
    assert_eq!(
        (health.operational, health.state),
        (false, ModuleState::Error)
    );
    assert_eq!(story.audited("cm-error").await, 1);
    let begun = faulty.1.load(Ordering::SeqCst);
    assert_eq!(story.refused(kind()).await, Refusal::NotOperational);
    let order = generate(KeyAlg::P256, Level::One);
    assert_eq!(story.refused(order).await, Refusal::NotOperational);
    assert_eq!(faulty.1.load(Ordering::SeqCst), begun, "no key was touched");
    assert!(
        story.again(7).await.is_err(),
        "a restart that fails the test"
    );
    faulty.plan(|plan| plan.self_test = None);
    let health = story.module.self_test().await.unwrap();
    assert_eq!(health.state, ModuleState::Error, "no test ends it");
    let again = story.again(7).await.unwrap();
    assert_eq!(again.health().state, ModuleState::Error, "nor a restart");
    let refused = refusal(again.execute(&story.order(kind())).await);
    assert_eq!(refused, Refusal::NotOperational);
    assert_eq!(story.audited("cm-error-held").await, 1);
    // Where there are no officers, a person on the machine does.
    assert_eq!(again.recover_alone().await, Ok(true));
    again.execute(&story.order(kind())).await.unwrap();
    assert_eq!(again.recover_alone().await, Ok(false), "there is no error");
}

// shows: III-3-13-secure-state, T-KEY-MALFUNCTION
#[tokio::test]
async fn a_wrong_value_stops_its_key_and_has_the_device_tested() {
    let faulty = Faulty::default();
    let mut story = faulty.story().await;
    let (key, other) = (story.key(KeyAlg::P256).await, story.key(KeyAlg::P256).await);
    let digests: Vec<_> = (0..4).map(|i| digest(P256, &i.to_string())).collect();
    let kind = |key| sign(key, P256, &digests);
    let stopped = Refusal::NotAllowed(Reason::WrongValue);
    // Also if other values of the order were good: none of them leaves.
    faulty.plan(|plan| plan.sign = Some((3, Fault::Broken("a wrong value"))));
    let order = story.order(kind(&key));
    let answer = story.module.execute(&order).await.unwrap();
    assert!(matches!(answer, Executed::WrongValue), "{answer:?}");
    faulty.plan(|plan| plan.sign = None);
    assert_eq!(story.refused(kind(&key)).await, stopped);
    let spent = refusal(story.module.execute(&order).await);
    assert_eq!(spent, Refusal::Duplicate);
    assert_eq!(story.audited("key.suspended").await, 1);
    story.module = story.again(7).await.unwrap();
    assert_eq!(story.refused(kind(&key)).await, stopped, "after a restart");
    story
        .module
        .execute(&story.order(kind(&other)))
        .await
        .unwrap();
    faulty.plan(|plan| {
        plan.sign = Some((0, Fault::Broken("a wrong value")));
        plan.self_test = Some(Fault::Broken("known answer"));
    });
    let answer = story.module.execute(&story.order(kind(&other))).await;
    assert!(matches!(answer, Ok(Executed::WrongValue)), "{answer:?}");
    faulty.plan(|plan| *plan = Plan::default());
    assert_eq!(story.refused(kind(&other)).await, Refusal::NotOperational);
    assert_eq!(story.audited("cm-wrong-value").await, 2);
}

// shows: T-KEY-MISUSE, T-KEY-ABUSE
#[tokio::test]
async fn a_level_that_the_back_end_lost_is_not_used_any_more() {
    let faulty = Faulty::default();
    let story = faulty.story().await;
    faulty.plan(|plan| plan.device = true);
    let order = story.order(generate(KeyAlg::P256, Level::Two));
    let Executed::Created(key) = story.module.execute(&order).await.unwrap() else {
        panic!("a key was ordered")
    };
    let kind = || -> OrderKind { sign(&key, P256, &[digest(P256, "a")]) };
    story.module.execute(&story.order(kind())).await.unwrap();
    faulty.plan(|plan| plan.device = false);
    let level = Refusal::NotAllowed(Reason::Level);
    assert_eq!(story.refused(kind()).await, level);
    let order = story.order(crate::destroy::destroy(&key));
    story.module.execute(&order).await.unwrap();
}

// shows: T-KEY-DERIVE, III-3-2-approved-algorithms, III-3-13-detect-hardware
#[tokio::test]
async fn a_weak_or_repeated_key_is_refused_and_its_maker_stopped() {
    let other = SoftBackend.generate(KeyAlg::P384).unwrap();
    let made = SoftBackend.generate(KeyAlg::P256).unwrap();
    for (pair, good) in [
        ((other.spki, other.material), 0),
        ((made.spki, made.material), 1),
    ] {
        let faulty = Faulty::default();
        let story = faulty.story().await;
        faulty.plan(|plan| plan.same = Some(pair));
        for _ in 0..good {
            story.key(KeyAlg::P256).await;
        }
        let order = || generate(KeyAlg::P256, Level::One);
        assert_eq!(story.refused(order()).await, Refusal::NotOperational);
        assert_eq!(story.audited("cm-error").await, 1);
        faulty.plan(|plan| *plan = Plan::default());
        assert_eq!(story.refused(order()).await, Refusal::NotOperational);
    }
}

/// The first prime in an RSA private key (RFC 8017 §A.1.2) in PKCS#8.
fn prime_of(pkcs8: &[u8]) -> Vec<u8> {
    use pki::asn1::{INTEGER, OCTET_STRING, SEQUENCE, Tlv};
    let open = |der| {
        Tlv::single(der, "key")
            .unwrap()
            .open(SEQUENCE, "key")
            .unwrap()
    };
    let mut outer = open(pkcs8);
    outer.next("version").unwrap();
    outer.next("algorithm").unwrap();
    let inner = outer.expect(OCTET_STRING, "key").unwrap();
    let mut key = open(inner.value);
    let numbers: Vec<_> = (0..5)
        .map(|_| key.expect(INTEGER, "number").unwrap())
        .collect();
    numbers[4].as_uint("prime").unwrap().to_vec()
}

// shows: T-KEY-DERIVE, III-3-13-detect-hardware
#[tokio::test]
async fn a_key_that_shares_a_prime_with_another_stops_its_maker() {
    use core_types::Random as _;
    let faulty = Faulty::default();
    let story = faulty.story().await;
    let made = SoftBackend.generate(KeyAlg::Rsa2048).unwrap();
    let pkcs8 = SoftBackend.export(KeyAlg::Rsa2048, &made.material).unwrap();
    let prime = prime_of(pkcs8.expose());
    faulty.plan(|plan| plan.same = Some((made.spki, made.material)));
    story.key(KeyAlg::Rsa2048).await;
    // Another one with that prime, and no other fault.
    let other = std::iter::repeat_with(|| {
        let mut factor = vec![0; 128];
        core_types::random::SystemRandom.fill(&mut factor);
        (factor[0], factor[127]) = (factor[0] | 0xc0, factor[127] | 1);
        let mut modulus = vec![0_u32; 256];
        for (i, a) in prime.iter().rev().enumerate() {
            for (j, b) in factor.iter().rev().enumerate() {
                modulus[i + j] += u32::from(*a) * u32::from(*b);
                modulus[i + j + 1] += modulus[i + j] >> 8;
                modulus[i + j] &= 0xff;
            }
        }
        let modulus: Vec<u8> = modulus
            .iter()
            .rev()
            .map(|b| u8::try_from(*b).unwrap())
            .collect();
        rsa_spki(&modulus)
    });
    let fine = |spki: &Vec<u8>| cm_core::weak::check(KeyAlg::Rsa2048, spki).is_ok();
    let other = other.take(10_000).find(fine).unwrap();
    let material = SecretBytes::new(vec![1]);
    faulty.plan(|plan| plan.same = Some((other, material)));
    let order = generate(KeyAlg::Rsa2048, Level::One);
    assert_eq!(story.refused(order).await, Refusal::NotOperational);
    assert_eq!(story.audited("cm-common-factor").await, 1);
    faulty.plan(|plan| plan.same = None);
    let order = generate(KeyAlg::P256, Level::One);
    assert_eq!(
        story.refused(order).await,
        Refusal::NotOperational,
        "the error state"
    );
}

/// AlgorithmIdentifier of RSA keys.
const RSA: [u8; 15] = [
    0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
];

fn rsa_spki(modulus: &[u8]) -> Vec<u8> {
    use pki::asn1::{bits, sequence, uint};
    let key = sequence(&[&uint(modulus), &uint(&[1, 0, 1])]);
    sequence(&[&RSA, &bits(&key)])
}

// shows: T-KEY-ATTR-ALTER, III-3-3-key-attribute-integrity
#[tokio::test]
async fn a_key_that_was_exchanged_in_the_device_is_not_used() {
    let faulty = Faulty::default();
    let story = faulty.story().await;
    let key = story.key(KeyAlg::P256).await;
    let other = SoftBackend.generate(KeyAlg::P256).unwrap();
    faulty.plan(|plan| plan.spki = Some(other.spki));
    let kind = || sign(&key, P256, &[digest(P256, "a")]);
    assert_eq!(story.refused(kind()).await, Refusal::NoSuchKey);
    assert_eq!(story.audited("cm-key-exchanged").await, 1);
}

// shows: III-3-13-secure-state
#[tokio::test]
async fn a_locked_device_is_left_alone() {
    let faulty = Faulty::default();
    let story = faulty.story().await;
    faulty.plan(|plan| plan.generate = Some(Fault::Locked("PIN")));
    let order = || generate(KeyAlg::P256, Level::One);
    assert_eq!(story.refused(order()).await, Refusal::NotOperational);
    faulty.plan(|plan| plan.generate = None);
    assert_eq!(story.refused(order()).await, Refusal::NotOperational);
    assert_eq!(story.audited("cm-locked").await, 1);
    assert!(story.module.self_test().await.is_err(), "no test ends it");
    // The way back is a restart, after a person has seen to the device.
    let again = story.again(7).await.unwrap();
    again.execute(&story.order(order())).await.unwrap();
}

// shows: III-3-4-authenticate-application, T-KEY-ABUSE
#[tokio::test]
async fn an_unknown_outcome_is_neither_an_answer_nor_a_refusal_on_the_wire() {
    let faulty = Faulty::default();
    let story = faulty.story().await;
    let key = story.key(KeyAlg::P256).await;
    let requests: Vec<_> = (0..4)
        .map(|_| story.order(sign(&key, P256, &[digest(P256, "a")])))
        .collect();
    let router = cm_core::router(Arc::new(story.module), "sam.test");
    let ask = async |request: &ExecuteRequest, peer: &str| {
        let body = Body::from(serde_json::to_vec(request).unwrap());
        let mut http = Request::post(Execute::PATH).body(body).unwrap();
        http.extensions_mut().insert(Peer {
            name: peer.into(),
            addr: "127.0.0.1:1".parse().unwrap(),
        });
        router.clone().oneshot(http).await.unwrap().status()
    };
    assert_eq!(ask(&requests[0], "sam.test").await, StatusCode::OK);
    let again = ask(&requests[0], "sam.test").await;
    assert_eq!(again, StatusCode::UNPROCESSABLE_ENTITY);
    let stranger = ask(&requests[1], "ssa.test").await;
    assert_eq!(stranger, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        faulty.1.load(Ordering::SeqCst),
        1,
        "signed for the SAM only"
    );
    faulty.plan(|plan| plan.sign = Some((0, Fault::Unknown("no answer"))));
    let unknown = ask(&requests[2], "sam.test").await;
    assert_eq!(unknown, StatusCode::GATEWAY_TIMEOUT);
}
