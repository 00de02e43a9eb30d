//! The drill: a module over SoftHSM2 whose library misbehaves in every way that the field knows of. After each fault
//! the service works again without a restart, and nothing was signed twice. Prints the time to recovery; asserts none.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test that can't go on fails; a drill measures and says what it measured"
)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cm_api::rpc::{ModuleState, StatementRequest, SwitchRequest};
use cm_api::switch::Switch;
use cm_api::{
    ExecuteRequest, Executed, KeyCreated, ModuleError, Order, OrderBody, OrderKind, Refusal,
    SignItem,
};
use cm_core::backend::{Backend, Fault};
use cm_core::wait::AtOnce;
use cm_core::{MIGRATIONS, Module, ModuleConfig, RootSecret};
use cm_pkcs11::{Limits, OpenError, Options, Pkcs11Backend, WrappedKeys};
use core_types::clock::ManualClock;
use core_types::random::SystemRandom;
use core_types::{
    Digest32, HashAlg, KeyAlg, Level, PersonId, Random as _, SecretBytes, SigAlg, TenantId,
    UnixTime, sha256,
};
use jose::SigningKey;
use pkcs11_faults::control;
use pkcs11_faults::softhsm::{self, Library};
use store_kit::testing::TestStore;

const NOW: UnixTime = UnixTime(1_780_000_000);
const ECDSA: SigAlg = SigAlg::Ecdsa(HashAlg::Sha256);
const RSA: SigAlg = SigAlg::RsaPkcs1(HashAlg::Sha256);
const LIMITS: Limits = Limits {
    sessions: 4,
    // What doesn't hang has to be done by then, also on a busy machine.
    patience: Duration::from_secs(3),
    // What a session that rested is asked first would use up the faults of the drill.
    trust: Duration::from_secs(3600),
};

/// The faulty module, which Cargo put beside this program.
fn faulty_module() -> PathBuf {
    softhsm::faulty().unwrap()
}

/// Whether this process has a token of its own; if not, the test of this name runs in one that has, on SoftHSM2.
fn with_token(test: &str) -> bool {
    let child = softhsm::childs_library().is_some();
    if !child {
        softhsm::must_pass(&format!("drill::{test}"), Library::SoftHsm2);
    }
    child
}

pkcs11_faults::on_tokens!(kryoptic:
    after_every_fault_the_service_works_again_without_a_restart,
    a_call_that_hangs_before_it_began_a_value_makes_none_later,
    only_a_new_process_helps_when_nothing_goes_beside_calls_that_hang,
    a_wrong_value_does_not_leave_the_module,
    a_token_whose_generator_is_stuck_is_not_used_any_more,
    hanging_calls_are_bounded_and_others_go_on,
    a_refused_pin_is_tried_once,
    a_module_that_hangs_at_start_is_told,
);

fn options(pin: &str) -> Options {
    Options {
        module: faulty_module(),
        label: "natsuin-drill".to_owned(),
        serial: None,
        pin: SecretBytes::from(pin.to_owned()),
        declaration: None,
    }
}

fn token() -> Pkcs11Backend {
    token_with(LIMITS)
}

fn token_with(limits: Limits) -> Pkcs11Backend {
    Pkcs11Backend::initialise(&options("12345678")).unwrap();
    Pkcs11Backend::open_with(&options("12345678"), limits).unwrap()
}

/// Has the token make the keys that its self-tests keep there, for which RSA may take its time.
fn tested() {
    let patient = Limits {
        patience: Duration::from_secs(20),
        ..LIMITS
    };
    token_with(patient).self_test().unwrap();
}

/// Writes the control file.
fn faults(lines: &str) {
    control::set(lines).unwrap();
}

/// A module over the faulty token, and the SAM that talks to it.
struct Drill {
    module: Module,
    act: SigningKey,
    statement: String,
    officers: [SigningKey; 2],
    backend: Arc<dyn Backend>,
    store: TestStore,
}

impl Drill {
    async fn begin() -> Self {
        Self::over(token()).await
    }

    async fn wrapped() -> Self {
        Self::over(WrappedKeys::open(token(), None).unwrap()).await
    }

    async fn over(backend: impl Backend) -> Self {
        let store = store_kit::testing::sqlite(MIGRATIONS).await;
        let officers = [0; 2].map(|_| SigningKey::generate().unwrap().0);
        let config = ModuleConfig {
            officers: officers.iter().map(|o| o.public().clone()).collect(),
            ..ModuleConfig::new("sam.test", "cm-1", 100_000)
        };
        let backend: Arc<dyn Backend> = Arc::new(backend);
        let module = Module::start(
            config,
            backend.clone(),
            store.store.clone(),
            &RootSecret::new(SecretBytes::new(vec![7; 32])).unwrap(),
            Arc::new(ManualClock::at(NOW)),
            Arc::new(SystemRandom),
        )
        .await
        .unwrap()
        .pausing(Arc::new(AtOnce));
        let (act, _) = SigningKey::generate().unwrap();
        let (seal, _) = jose::SealKey::generate().unwrap();
        let asked = StatementRequest {
            sam: "sam.test".into(),
            epoch: Digest32([9; 32]),
            act: act.public().clone(),
            seal: seal.public().clone(),
            nbf: NOW,
            exp: NOW.plus(3600),
            endorsements: Vec::new(),
        };
        let statement = module.statement(asked).await.unwrap().statement;
        Self {
            module,
            act,
            statement,
            officers,
            backend,
            store,
        }
    }

    async fn ask(&self, kind: OrderKind) -> Result<Executed, ModuleError> {
        let body = OrderBody {
            sam: "sam.test".into(),
            order: kind.name().unwrap_or_else(|| SystemRandom.digest32()),
            epoch: Digest32([9; 32]),
            exp: NOW.plus(30),
            kind,
        };
        let order = Order::seal(&body, &self.act).unwrap();
        let statement = self.statement.clone();
        let request = ExecuteRequest { statement, order };
        let answer = self.module.execute(&request).await;
        let again = self.module.execute(&request).await;
        assert!(again.is_err(), "the same order gave a second answer");
        answer
    }

    async fn key(&self, alg: KeyAlg) -> Result<KeyCreated, ModuleError> {
        let kind = OrderKind::Generate {
            tenant: TenantId::parse("t").unwrap(),
            owner: PersonId::parse("hanako").unwrap(),
            alg,
            level: Level::One,
            act: Digest32([1; 32]),
            exportable: false,
            one_time: false,
        };
        match self.ask(kind).await? {
            Executed::Created(key) => Ok(key),
            other => panic!("a key was ordered: {other:?}"),
        }
    }

    /// Signs two digests and verifies what comes.
    async fn sign(&self, key: &KeyCreated, alg: SigAlg) -> Result<(), ModuleError> {
        self.sign_texts(key, alg, &["one", "two"]).await
    }

    async fn sign_texts(
        &self,
        key: &KeyCreated,
        alg: SigAlg,
        texts: &[&str],
    ) -> Result<(), ModuleError> {
        let digests = texts.iter().map(|text| alg.hash().digest(text.as_bytes()));
        let digests: Vec<_> = digests.collect();
        let items = (0..)
            .zip(&digests)
            .map(|(i, d)| SignItem::digest(i, d.clone()))
            .collect();
        let kind = OrderKind::Sign {
            key: key.key.clone(),
            version: key.version,
            spki: sha256(&[&key.spki.0]),
            alg,
            items,
            act: SystemRandom.digest32(),
            proof: Digest32([3; 32]),
            approved: NOW,
            renewable: false,
            step: 0,
            attempt: 0,
            counter_sign: None,
        };
        let values = match self.ask(kind).await? {
            Executed::Signed(values) => values,
            Executed::WrongValue => return Err(WRONG),
            other => panic!("signatures were ordered: {other:?}"),
        };
        for (value, digest) in values.iter().zip(&digests) {
            pki::verify_signature(&key.spki.0, alg, pki::Signed::Digest(digest), &value.0).unwrap();
        }
        Ok(())
    }

    /// Tries until it signs, as clients would.
    async fn recovers(&self, key: &KeyCreated, alg: SigAlg) {
        for _ in 0..1000 {
            if self.sign(key, alg).await.is_ok() {
                return;
            }
        }
        panic!("the service doesn't work again");
    }

    /// Waits until the pool has a session again, and nothing is made for that.
    async fn comes_back(&self) {
        let nothing = SecretBytes::new(vec![7; 16]);
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        for _ in 0..1000 {
            ticks.tick().await;
            if self.backend.erase(&nothing).is_ok() && self.backend.wrapping_keys().is_ok() {
                return;
            }
        }
        panic!("the call doesn't come back");
    }

    /// How many entries of the audit log contain these words.
    async fn audited(&self, words: &str) -> usize {
        let mut tx = self.store.store.read("look").await.unwrap();
        let query = store_kit::sql("SELECT body AS t FROM audit_entry");
        let rows = tx.fetch_all(query).await.unwrap();
        let texts = rows.iter().map(|r| r.text("t").unwrap());
        texts.filter(|t| t.contains(words)).count()
    }

    async fn state(&self) -> ModuleState {
        self.module.self_test().await.unwrap().state
    }

    /// Two officers let the module leave its error state.
    async fn recover(&self, serial: u64) -> Result<ModuleState, Refusal> {
        let wanted = Switch {
            sam: "sam.test".into(),
            root: self.module.root().kid(),
            enabled: true,
            recover: true,
            error: self.module.health().error,
            reason: "drill".into(),
            serial,
            exp: NOW.plus(600),
        };
        let approvals = self.officers.iter().map(|o| wanted.approve(o).unwrap());
        let request = SwitchRequest {
            approvals: approvals.collect(),
        };
        Ok(self.module.switch(&request).await?.state)
    }
}

/// A value was wrong, or one was before.
const WRONG: ModuleError =
    ModuleError::Refused(Refusal::NotAllowed(cm_api::rpc::Reason::WrongValue));

/// What an order may come to while a fault lasts.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Answer {
    /// Signed all the same: the fault cost time only.
    Signed,
    /// Definite.
    NothingMade,
    /// Nobody knows.
    Unknown,
    /// The one or the other of the last two, as the call was at that moment.
    Hung,
}

// shows: T-KEY-MALFUNCTION, T-KEY-ABUSE, III-3-13-secure-state, III-3-13-detect-hardware
#[tokio::test(flavor = "multi_thread")]
async fn after_every_fault_the_service_works_again_without_a_restart() {
    if !with_token("after_every_fault_the_service_works_again_without_a_restart") {
        return;
    }
    every_fault("token", &Drill::begin().await).await;
    every_fault("wrapped", &Drill::wrapped().await).await;
}

async fn every_fault(kind: &str, drill: &Drill) {
    use Answer::{Hung, NothingMade, Signed, Unknown};
    let ec = drill.key(KeyAlg::P256).await.unwrap();
    let rsa = drill.key(KeyAlg::Rsa3072).await.unwrap();
    for (name, lines, answer) in [
        ("session handle invalid", "C_SignInit rv:0xb3 1", Signed),
        (
            "session handle invalid at C_Sign",
            "C_Sign rv:0xb3 1",
            Signed,
        ),
        ("session closed", "C_SignInit rv:0xb0 1", Signed),
        ("key handle invalid", "C_SignInit rv:0x60 1", Signed),
        ("operation active", "C_SignInit rv:0x90 1", Signed),
        ("device error", "C_SignInit rv:0x30 1", Signed),
        ("device error at C_Sign", "C_Sign rv:0x30 1", Signed),
        ("device error after the value", "C_Sign late:0x30 1", Signed),
        ("device error for good", "C_Sign rv:0x30", Unknown),
        ("general error", "C_SignInit rv:0x5 2", Signed),
        ("token removed for a moment", "* rv:0xe0 1", Signed),
        // For longer than one try of an order lasts: the order waits, also where one of its two values is made by then.
        ("token removed and put back", "* rv:0xe0 60", Signed),
        ("token removed", "* rv:0xe0", NothingMade),
        ("device removed", "* rv:0x32", NothingMade),
        ("not initialised", "* rv:0x190 1", Signed),
        (
            "library stopped by another",
            "C_SignInit finalize 1",
            Signed,
        ),
        ("logged out", "C_SignInit logout 1", Signed),
        ("user not logged in", "C_SignInit rv:0x101 1", Signed),
        ("all sessions closed", "C_SignInit closeall 1", Signed),
        ("no room for sessions", "C_OpenSession rv:0xb1", Signed),
        (
            "no room, sessions lost",
            "C_OpenSession rv:0xb1\nC_SignInit rv:0xb3",
            NothingMade,
        ),
        (
            "device error at C_UnwrapKey",
            "C_UnwrapKey rv:0x30 1",
            Signed,
        ),
        ("vendor's error", "C_SignInit rv:0x80000042 1", Signed),
        ("hang at C_SignInit", "C_SignInit hang", Unknown),
        ("hang at C_Sign", "C_Sign hang", Unknown),
        ("hang at all", "* hang", Hung),
    ] {
        for (key, alg) in [(&ec, ECDSA), (&rsa, RSA)] {
            faults(lines);
            let begun = Instant::now();
            // Stopping the library beside a call is undefined, and Kryoptic 1.5 locks itself up when somebody logs out
            // beside one; of a session that is closed in the middle of its C_Sign nobody knows what came out. Then only one
            // call is made.
            let texts = ["one", "two"];
            let beside = ["finalize", "logout", "closeall"];
            let alone = beside.iter().any(|fault| lines.contains(fault));
            let texts = &texts[usize::from(alone)..];
            let got = match drill.sign_texts(key, alg, texts).await {
                Ok(()) => Signed,
                Err(ModuleError::Refused(Refusal::NotOperational)) => NothingMade,
                Err(ModuleError::Unknown) => Unknown,
                Err(other) => panic!("{kind} {name}: {other}"),
            };
            let answered = begun.elapsed();
            match answer {
                Hung => assert_ne!(got, Signed, "{kind} {name} {alg}"),
                answer => assert_eq!(got, answer, "{kind} {name} {alg}"),
            }
            faults("");
            let begun = Instant::now();
            drill.recovers(key, alg).await;
            println!(
                "drill {kind:<8} {name:<34} {alg:<17} {got:<12} answer {answered:>9.2?}, works again after {:>9.2?}",
                begun.elapsed(),
                got = format!("{got:?}"),
            );
        }
    }
    assert_eq!(drill.state().await, ModuleState::Operational);
}

// shows: T-KEY-MALFUNCTION, T-KEY-ABUSE
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_hangs_before_it_began_a_value_makes_none_later() {
    if !with_token("a_call_that_hangs_before_it_began_a_value_makes_none_later") {
        return;
    }
    tested();
    let limits = Limits {
        sessions: 1,
        trust: Duration::ZERO,
        ..LIMITS
    };
    for wrapped in [false, true] {
        let drill = match wrapped {
            false => Drill::over(token_with(limits)).await,
            true => Drill::over(WrappedKeys::open(token_with(limits), None).unwrap()).await,
        };
        let ec = drill.key(KeyAlg::P256).await.unwrap();
        let nothing = Err(ModuleError::Refused(Refusal::NotOperational));
        for lines in ["C_SignInit hang", "C_OpenSession hang", "* hang"] {
            drill.sign_texts(&ec, ECDSA, &["one"]).await.unwrap();
            faults(lines);
            let answer = drill.sign_texts(&ec, ECDSA, &["one"]).await;
            assert_eq!(answer, nothing, "{lines} {wrapped}");
            // The call goes on now; a value would end this process.
            faults("C_Sign crash");
            drill.comes_back().await;
            faults("");
        }
        // What hangs in the middle may have made one.
        faults("C_Sign hang");
        let answer = drill.sign_texts(&ec, ECDSA, &["one"]).await;
        assert_eq!(answer, Err(ModuleError::Unknown), "{wrapped}");
        faults("");
        drill.comes_back().await;
        drill.sign_texts(&ec, ECDSA, &["one"]).await.unwrap();
    }
}

// shows: T-KEY-MALFUNCTION, III-3-13-secure-state, III-3-14-audit-records
#[tokio::test(flavor = "multi_thread")]
async fn only_a_new_process_helps_when_nothing_goes_beside_calls_that_hang() {
    if !with_token("only_a_new_process_helps_when_nothing_goes_beside_calls_that_hang") {
        return;
    }
    tested();
    let limits = Limits {
        sessions: 2,
        ..LIMITS
    };
    let drill = Drill::over(token_with(limits)).await;
    let ec = drill.key(KeyAlg::P256).await.unwrap();
    // One hangs, and the other one works.
    faults("C_Sign hang");
    assert!(drill.sign_texts(&ec, ECDSA, &["one"]).await.is_err());
    for _ in 0..3 {
        assert!(!drill.module.tidy().await);
    }
    assert!(drill.sign_texts(&ec, ECDSA, &["one"]).await.is_err());
    assert!(!drill.module.tidy().await, "it may come back");
    assert_eq!(drill.audited("cm-device-stuck").await, 0);
    assert!(drill.module.tidy().await);
    assert!(drill.module.tidy().await);
    assert_eq!(drill.audited("cm-device-stuck").await, 1, "told once");
    // It does come back after all.
    faults("");
    drill.comes_back().await;
    assert!(!drill.module.tidy().await);
    drill.sign_texts(&ec, ECDSA, &["one"]).await.unwrap();
}

// shows: T-KEY-MALFUNCTION
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_value_does_not_leave_the_module() {
    if !with_token("a_wrong_value_does_not_leave_the_module") {
        return;
    }
    for (kind, alg) in [(KeyAlg::Rsa3072, RSA), (KeyAlg::P256, ECDSA)] {
        let drill = Drill::begin().await;
        let key = drill.key(kind).await.unwrap();
        faults("C_Sign flip 1");
        assert_eq!(drill.sign(&key, alg).await, Err(WRONG), "{kind}");
        faults("");
        let again = drill.sign(&key, alg).await;
        assert_eq!(again, Err(WRONG), "its key is stopped");
        let key = drill.key(kind).await.unwrap();
        drill.sign(&key, alg).await.unwrap();
        // A token that goes on like this fails its test.
        faults("C_Sign flip");
        assert_eq!(drill.sign(&key, alg).await, Err(WRONG), "{kind}");
        faults("");
        let refused = drill.sign(&key, alg).await;
        let stopped = Err(ModuleError::Refused(Refusal::NotOperational));
        assert_eq!(refused, stopped, "the error state lasts");
    }
}

// shows: III-3-11-random, III-3-13-detect-hardware, III-3-13-secure-state, T-KEY-DERIVE
#[tokio::test(flavor = "multi_thread")]
async fn a_token_whose_generator_is_stuck_is_not_used_any_more() {
    if !with_token("a_token_whose_generator_is_stuck_is_not_used_any_more") {
        return;
    }
    for (ordered, wrapped) in [(false, false), (true, false), (false, true), (true, true)] {
        let drill = match wrapped {
            true => Drill::wrapped().await,
            false => Drill::begin().await,
        };
        let ec = drill.key(KeyAlg::P256).await.unwrap();
        faults("C_GenerateRandom stuck");
        if ordered {
            // The second time at the latest.
            drop(drill.key(KeyAlg::P256).await);
            drop(drill.key(KeyAlg::P256).await);
        } else {
            assert_eq!(drill.state().await, ModuleState::Error);
        }
        faults("");
        let refused = Err(ModuleError::Refused(Refusal::NotOperational));
        assert_eq!(drill.sign(&ec, ECDSA).await, refused, "{ordered} {wrapped}");
        assert!(drill.key(KeyAlg::P256).await.is_err());
        // The way back: a good generator, a test that passes, and two officers.
        assert_eq!(drill.recover(1).await, Err(Refusal::NotNow), "not tested");
        assert_eq!(drill.state().await, ModuleState::Error);
        assert_eq!(drill.recover(1).await, Ok(ModuleState::Operational));
        drill.sign(&ec, ECDSA).await.unwrap();
    }
    // Or a restart.
    let drill = Drill::begin().await;
    let ec = drill.key(KeyAlg::P256).await.unwrap();
    drill.sign(&ec, ECDSA).await.unwrap();
    faults("C_GenerateRandom stuck");
    assert_eq!(drill.state().await, ModuleState::Error);
}

// shows: T-KEY-MALFUNCTION
#[tokio::test(flavor = "multi_thread")]
async fn hanging_calls_are_bounded_and_others_go_on() {
    if !with_token("hanging_calls_are_bounded_and_others_go_on") {
        return;
    }
    let drill = Drill::begin().await;
    let ec = drill.key(KeyAlg::P256).await.unwrap();
    // One thread after the other is lost to the token, until as many hang as may work.
    for _ in 0..LIMITS.sessions {
        faults("C_Sign hang 1");
        let answer = drill.sign(&ec, ECDSA).await;
        assert!(answer.is_err() || answer == Ok(()));
    }
    faults("C_Sign hang");
    for _ in 0..2 * LIMITS.sessions {
        assert!(drill.sign(&ec, ECDSA).await.is_err());
    }
    let begun = Instant::now();
    let answer = drill.sign(&ec, ECDSA).await;
    assert_eq!(
        answer,
        Err(ModuleError::Refused(Refusal::NotOperational)),
        "nothing more is given to a token that answers nothing"
    );
    println!(
        "drill refused in {:.2?} while all calls hang",
        begun.elapsed()
    );
    faults("");
    let begun = Instant::now();
    drill.recovers(&ec, ECDSA).await;
    println!(
        "drill works again {:.2?} after all calls hung",
        begun.elapsed()
    );
}

// shows: T-KEY-MALFUNCTION, III-3-4-authenticate-application
#[test]
fn a_refused_pin_is_tried_once() {
    if !with_token("a_refused_pin_is_tried_once") {
        return;
    }
    Pkcs11Backend::initialise(&options("12345678")).unwrap();
    let opened = Pkcs11Backend::open_with(&options("87654321"), LIMITS);
    assert!(matches!(opened, Err(OpenError::Login(_))));
    // What a token says that would be blocked by another wrong PIN, or is: then none is tried, not even the right one.
    for flag in ["0x20000", "0x40000"] {
        faults(&format!("C_GetTokenInfo flags:{flag}\nC_Login rv:0x5"));
        let opened = Pkcs11Backend::open_with(&options("12345678"), LIMITS);
        assert!(matches!(opened, Err(OpenError::LastTry)), "{flag}");
    }
    faults("");
    // What a token says whose PIN was changed or blocked under a running module.
    for code in ["0xa0", "0xa4"] {
        let backend = Pkcs11Backend::open_with(&options("12345678"), LIMITS).unwrap();
        faults(&format!("C_GenerateRandom rv:0xb3 1\nC_Login rv:{code} 1"));
        assert!(matches!(
            backend.generate(KeyAlg::P256),
            Err(Fault::Locked(_))
        ));
        // The next login would succeed, and isn't tried.
        assert!(matches!(
            backend.generate(KeyAlg::P256),
            Err(Fault::Locked(_))
        ));
        assert!(matches!(backend.self_test(), Err(Fault::Locked(_))));
        assert!(!backend.stuck(), "a new process would try the PIN again");
        faults("");
    }
    // Others used up all tries but one under a running module. The last isn't taken; once a person has logged in, the device goes on,
    // and the module with its next start.
    let backend = Pkcs11Backend::open_with(&options("12345678"), LIMITS).unwrap();
    for flag in ["0x20000", "0x40000"] {
        faults(&format!(
            "C_GenerateRandom closeall 1\nC_GetTokenInfo flags:{flag}\nC_Login rv:0x5"
        ));
        let made = backend.generate(KeyAlg::P256);
        assert!(matches!(made, Err(Fault::Locked(_))), "{flag}");
        faults("");
        backend.generate(KeyAlg::P256).unwrap();
    }
}

// shows: III-3-13-secure-state
#[test]
fn a_module_that_hangs_at_start_is_told() {
    if !with_token("a_module_that_hangs_at_start_is_told") {
        return;
    }
    Pkcs11Backend::initialise(&options("12345678")).unwrap();
    faults("C_OpenSession hang");
    let limits = Limits {
        patience: Duration::from_millis(50),
        ..LIMITS
    };
    let opened = Pkcs11Backend::open_with(&options("12345678"), limits);
    assert!(matches!(opened, Err(OpenError::Silent)));
}
