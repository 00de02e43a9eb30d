//! A module on a given store and back end, and the SAM that talks to it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use cm_api::rpc::StatementRequest;
use cm_api::{
    Dtbs, ExecuteRequest, Executed, KeyCreated, ModuleError, Order, OrderBody, OrderKind, Refusal,
    SignItem,
};
use cm_core::backend::{Backend, Fault};
use cm_core::wait::AtOnce;
use cm_core::{ImportCa, MIGRATIONS, Module, ModuleConfig, Policy, RootSecret};
use cm_pkcs11::{Pkcs11Backend, WrappedKeys};
use cm_soft::SoftBackend;
use core_types::clock::ManualClock;
use core_types::random::SystemRandom;
use core_types::timekeeping::ClockRule;
use core_types::{
    B64, Clock as _, Digest32, DtbsForm, HashAlg, KeyAlg, Level, PersonId, Random as _,
    SecretBytes, SigAlg, TenantId, UnixTime, sha256,
};
use jose::{Jwk, SigningKey};
use pkcs11_faults::softhsm::{self, OnTokens};
use store_kit::sql;
use store_kit::testing::TestStore;

const AUDIT: &str = "SELECT body AS t FROM audit_entry";

pub const NOW: UnixTime = UnixTime(1_780_000_000);
pub const SAM: &str = "sam.test";

/// A module and the SAM that talks to it.
pub struct Story {
    pub module: Module,
    pub test: TestStore,
    pub clock: Arc<ManualClock>,
    pub act: SigningKey,
    pub statement: String,
    pub backend: Arc<dyn Backend>,
    /// When each act was approved, its next step, and its next item.
    acts: Mutex<HashMap<Digest32, (UnixTime, u32, u32)>>,
}

impl Story {
    pub async fn begin(test: TestStore, backend: Arc<dyn Backend>) -> Self {
        Self::begin_with(test, backend, 7).await
    }

    /// With this root secret.
    pub async fn begin_with(test: TestStore, backend: Arc<dyn Backend>, root: u8) -> Self {
        let clock = Arc::new(ManualClock::at(NOW));
        let module = start(&test, &backend, clock.clone(), root).await.unwrap();
        let (act, _) = SigningKey::generate().unwrap();
        let statement = statement(&module, &act, NOW).await.unwrap();
        Self {
            module,
            test,
            clock,
            act,
            statement,
            backend,
            acts: Mutex::default(),
        }
    }

    /// The module started again on the same store, with this root secret.
    pub async fn again(&self, root: u8) -> Result<Module, cm_core::StartError> {
        start(&self.test, &self.backend, self.clock.clone(), root).await
    }

    /// Another node on the same store, with a clock of its own.
    pub async fn node(&self, clock: Arc<ManualClock>) -> Module {
        start(&self.test, &self.backend, clock, 7).await.unwrap()
    }

    /// The module started again, set up otherwise.
    pub async fn again_with(&self, setup: &Setup) -> Module {
        self.try_again_with(setup).await.unwrap()
    }

    /// The same, if it starts.
    pub async fn try_again_with(&self, setup: &Setup) -> Result<Module, cm_core::StartError> {
        let clock = self.clock.clone();
        start_with(&self.test, &self.backend, clock, 7, setup).await
    }

    /// The module started again with another source of randomness.
    pub async fn again_drawing_from(
        &self,
        random: Arc<dyn core_types::Random>,
    ) -> Result<Module, cm_core::StartError> {
        Module::start(
            ModuleConfig::new(SAM, "cm-1", 1000),
            self.backend.clone(),
            self.test.store.clone(),
            &RootSecret::new(SecretBytes::new(vec![7; 32])).unwrap(),
            self.clock.clone(),
            random,
        )
        .await
    }

    /// What becomes of an order that has to be refused.
    pub async fn refused(&self, kind: OrderKind) -> Refusal {
        refusal(self.module.execute(&self.order(kind)).await)
    }

    /// A statement for the present time, after the clock was set.
    pub async fn renew(&mut self) {
        let now = self.clock.now();
        self.statement = statement(&self.module, &self.act, now).await.unwrap();
    }

    /// How many entries of the audit log contain these words.
    pub async fn audited(&self, words: &str) -> usize {
        let mut tx = self.test.store.read("look").await.unwrap();
        let rows = tx.fetch_all(sql(AUDIT)).await.unwrap();
        let texts = rows.iter().map(|r| r.text("t").unwrap());
        texts.filter(|t| t.contains(words)).count()
    }

    /// The name of a person in the entries of the log.
    pub async fn alias(&self, person: &str) -> String {
        let mut tx = self.test.store.read("alias").await.unwrap();
        let find = "SELECT alias AS t FROM audit_person WHERE person = $1";
        let rows = tx.fetch_all(sql(find).bind(person)).await.unwrap();
        rows.first().unwrap().text("t").unwrap()
    }

    /// An order as an honest SAM would give it: the next step of its act and the next items, if it is one to sign.
    pub fn order(&self, mut kind: OrderKind) -> ExecuteRequest {
        if let OrderKind::Sign {
            act,
            approved,
            step,
            items,
            ..
        } = &mut kind
        {
            let mut acts = self.acts.lock().unwrap();
            let (at, steps, first) = acts.entry(*act).or_insert((self.clock.now(), 0, 0));
            (*approved, *step) = (*at, *steps);
            *steps += 1;
            for item in items {
                (item.i, *first) = (*first, *first + 1);
            }
        }
        self.order_of(kind)
    }

    /// An order just as it says.
    pub fn order_of(&self, kind: OrderKind) -> ExecuteRequest {
        let name = kind.name().unwrap_or_else(|| SystemRandom.digest32());
        self.order_named(name, kind)
    }

    pub fn order_named(&self, order: Digest32, kind: OrderKind) -> ExecuteRequest {
        let body = OrderBody {
            sam: SAM.into(),
            order,
            epoch: EPOCH,
            exp: self.clock.now().plus(30),
            kind,
        };
        ExecuteRequest {
            statement: self.statement.clone(),
            order: Order::seal(&body, &self.act).unwrap(),
        }
    }

    pub async fn key(&self, alg: KeyAlg) -> KeyCreated {
        let request = self.order(generate(alg, Level::One));
        match self.module.execute(&request).await.unwrap() {
            Executed::Created(key) => key,
            other => panic!("a key was ordered: {other:?}"),
        }
    }
}

pub const EPOCH: Digest32 = Digest32([9; 32]);

async fn start(
    test: &TestStore,
    backend: &Arc<dyn Backend>,
    clock: Arc<ManualClock>,
    root: u8,
) -> Result<Module, cm_core::StartError> {
    start_with(test, backend, clock, root, &Setup::default()).await
}

/// The same two in every story of this process.
fn spare_officers() -> Vec<Jwk> {
    static SPARE: OnceLock<Vec<Jwk>> = OnceLock::new();
    let make = || (0..2).map(|_| SigningKey::generate().unwrap().0);
    let spare = SPARE.get_or_init(|| make().map(|k| k.public().clone()).collect());
    spare.clone()
}

/// What differs from the usual start.
pub struct Setup {
    pub policy: Policy,
    pub import_cas: Vec<ImportCa>,
    pub officers: Vec<Jwk>,
    pub officer_changes: Vec<String>,
    pub clock: ClockRule,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            policy: Policy::built_in().unwrap(),
            import_cas: Vec::new(),
            officers: Vec::new(),
            officer_changes: Vec::new(),
            clock: ClockRule::Unsynchronised,
        }
    }
}

async fn start_with(
    test: &TestStore,
    backend: &Arc<dyn Backend>,
    clock: Arc<ManualClock>,
    root: u8,
    setup: &Setup,
) -> Result<Module, cm_core::StartError> {
    let officers = match setup.officers.as_slice() {
        // Whom a story doesn't name can be anybody, but there have to be two.
        [] if backend.ceiling() > Level::One => spare_officers(),
        named => named.to_vec(),
    };
    let config = ModuleConfig {
        act_uses: 600,
        import_cas: setup.import_cas.clone(),
        officers,
        officer_changes: setup.officer_changes.clone(),
        administrator: Some("admin.test".to_owned()),
        clock: setup.clock,
        ..ModuleConfig::new(SAM, "cm-1", 1000)
    };
    let root = RootSecret::new(SecretBytes::new(vec![root; 32])).unwrap();
    let module = Module::start_with(
        config,
        setup.policy.clone(),
        backend.clone(),
        test.store.clone(),
        &root,
        clock,
        Arc::new(SystemRandom),
    )
    .await?;
    Ok(module.pausing(Arc::new(AtOnce)))
}

pub async fn statement(
    module: &Module,
    act: &SigningKey,
    now: UnixTime,
) -> Result<String, Refusal> {
    let (seal, _) = jose::SealKey::generate().unwrap();
    let mut request = StatementRequest {
        sam: SAM.into(),
        epoch: EPOCH,
        act: act.public().clone(),
        seal: seal.public().clone(),
        nbf: now,
        exp: now.plus(48 * 3600),
        endorsements: Vec::new(),
    };
    // The key that it is known by already, if it is.
    request.endorse(act).unwrap();
    module
        .statement(request)
        .await
        .map(|answer| answer.statement)
}

pub fn generate(alg: KeyAlg, level: Level) -> OrderKind {
    OrderKind::Generate {
        tenant: TenantId::parse("t").unwrap(),
        owner: PersonId::parse("hanako").unwrap(),
        alg,
        level,
        act: Digest32([1; 32]),
        exportable: false,
        one_time: false,
    }
}

pub fn sign(key: &KeyCreated, alg: SigAlg, dtbs: &[Vec<u8>]) -> OrderKind {
    let item = |(i, bytes): (u32, &Vec<u8>)| SignItem {
        i,
        dtbs: match alg.form() {
            DtbsForm::Digest => Dtbs::Digest(B64(bytes.clone())),
            DtbsForm::Message => Dtbs::Message(B64(bytes.clone())),
        },
    };
    let items = (0..).zip(dtbs).map(item).collect();
    OrderKind::Sign {
        key: key.key.clone(),
        version: key.version,
        spki: sha256(&[&key.spki.0]),
        alg,
        items,
        act: Digest32([2; 32]),
        proof: Digest32([3; 32]),
        approved: NOW,
        renewable: true,
        step: 0,
        attempt: 0,
        counter_sign: None,
    }
}

/// An order to sign, by another act.
pub fn by_act(number: u8, mut kind: OrderKind) -> OrderKind {
    if let OrderKind::Sign { act, .. } = &mut kind {
        *act = Digest32([number; 32]);
    }
    kind
}

pub fn digest(alg: SigAlg, text: &str) -> Vec<u8> {
    alg.dtbs(text.as_bytes())
}

/// The refusal in an answer.
pub fn refusal<T: std::fmt::Debug>(answer: Result<T, ModuleError>) -> Refusal {
    match answer {
        Err(ModuleError::Refused(refusal)) => refusal,
        other => panic!("it had to be refused: {other:?}"),
    }
}

/// Runs a story on the software back end and both stores; in a process that `on_tokens!` has started, on its library with token
/// keys and with wrapped keys.
pub async fn everywhere<F: AsyncFn(Story)>(_: OnTokens, story: F) {
    if let Some(library) = softhsm::childs_library() {
        let store = store_kit::testing::sqlite(MIGRATIONS).await;
        let path = library.path().unwrap();
        story(Story::begin(store, Arc::new(token(path.clone()))).await).await;
        // The same token again, as one that only makes keys and wraps them.
        if !library.wraps() {
            let cannot = Fault::Unfit("the token can't wrap with AES (RFC 5649)");
            let wrapped = WrappedKeys::open(token(path), None);
            assert_eq!(wrapped.err(), Some(cannot), "{}", library.name());
        }
        let wrapping = token(library.wrapping_path().unwrap());
        let wrapped = WrappedKeys::open(wrapping, None).unwrap();
        let store = store_kit::testing::sqlite(MIGRATIONS).await;
        return story(Story::begin(store, Arc::new(wrapped)).await).await;
    }
    for test in store_kit::testing::both(MIGRATIONS).await {
        story(Story::begin(test, Arc::new(SoftBackend)).await).await;
    }
}

fn token(module: PathBuf) -> Pkcs11Backend {
    let options = cm_pkcs11::Options {
        module,
        label: "natsuin-story".to_owned(),
        serial: None,
        pin: SecretBytes::from("12345678".to_owned()),
        declaration: None,
    };
    Pkcs11Backend::initialise(&options).unwrap();
    Pkcs11Backend::open(&options).unwrap()
}

pub const P256: SigAlg = SigAlg::Ecdsa(HashAlg::Sha256);
