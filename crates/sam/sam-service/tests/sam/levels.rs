//! Levels through the flows: what a module is declared to be decides what its keys are, and a service that has lost a
//! level doesn't use keys of it (`sap.md` §11, `I-3.5.1-*`).

use std::sync::Arc;

use cm_api::CryptoModule as _;
use cm_api::rpc::{Empty, Root};
use cm_core::backend::{Backend, Fault, NewKey, PrivateKey};
use cm_soft::SoftBackend;
use core_types::random::SystemRandom;
use core_types::{KeyAlg, Level, SecretBytes};
use sam_api::Refusal;
use sam_api::ssa::LevelPart;
use sam_core::Policy;
use sam_service::{FoundError, MIGRATIONS, Sam, SamConfig, StartError};
use sap::messages::{ApproveRequest, OpenRequest, SapRefusalCode};
use sap::office::calls::{SessionRequest, State};
use sap::office::{Document, KeyAction, Measure, Role};
use sap::{Act, SignAct, act_digest};
use store_kit::testing;

use crate::kit::*;
use crate::office_kit::Founders;

pub const REFERENCE: &str = "test, not evaluated";

/// The software back end, which says that it is a device, as a token of tests would.
pub struct Declared {
    pub level: Level,
    pub device: bool,
    pub reference: Option<&'static str>,
}

impl Declared {
    pub fn test(level: Level) -> Arc<Self> {
        Arc::new(Self {
            level,
            device: true,
            reference: Some(REFERENCE),
        })
    }
}

impl Backend for Declared {
    fn name(&self) -> &'static str {
        "test-token"
    }

    fn ceiling(&self) -> Level {
        self.level
    }

    fn device(&self) -> Option<String> {
        self.device.then(|| "Natsuin test token 1.0".to_owned())
    }

    fn declaration(&self) -> Option<String> {
        self.reference.map(str::to_owned)
    }

    fn self_test(&self) -> Result<(), Fault> {
        SoftBackend.self_test()
    }

    fn generate(&self, alg: KeyAlg) -> Result<NewKey, Fault> {
        SoftBackend.generate(alg)
    }

    fn import(&self, alg: KeyAlg, pkcs8: &SecretBytes, spki: &[u8]) -> Result<NewKey, Fault> {
        SoftBackend.import(alg, pkcs8, spki)
    }

    fn load(&self, alg: KeyAlg, material: &SecretBytes) -> Result<Box<dyn PrivateKey>, Fault> {
        SoftBackend.load(alg, material)
    }

    fn elsewhere(&self, material: &SecretBytes) -> Option<SecretBytes> {
        SoftBackend.elsewhere(material)
    }

    fn erase(&self, place: &SecretBytes) -> Result<(), Fault> {
        SoftBackend.erase(place)
    }
}

pub fn policy(ceiling: Level) -> Policy {
    Policy {
        ceiling,
        sam_declaration: (ceiling == Level::Three).then(|| REFERENCE.to_owned()),
        ..Policy::default()
    }
}

/// Two worlds whose module and SAM are declared good for `level`.
pub async fn worlds_at(level: Level) -> [World; 2] {
    let [sqlite, postgres] = testing::both(MIGRATIONS).await;
    [
        World::with(sqlite, Declared::test(level), policy(level)).await,
        World::with(postgres, Declared::test(level), policy(level)).await,
    ]
}

// shows: I-3.5.1-keygen-L1, I-3.5.1-retention-L1
#[tokio::test(flavor = "multi_thread")]
async fn a_software_key_is_level_one_and_says_what_the_next_level_needs() {
    for world in worlds().await {
        let signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let told = &signer.keys[0].level;
        assert_eq!(
            (told.level, told.because),
            (Level::One, LevelPart::Generation)
        );
        let needs = [
            "I-3.5.1-keygen-L2",
            "I-3.5.1-retention-L2",
            "I-3.5-level-definitions",
        ];
        assert_eq!(told.needs, needs);
        assert!(told.declared.is_empty());
    }
}

// shows: I-3.5.1-keygen-L2, I-3.5.1-keyauth-L2
#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_a_declared_module_is_level_two_and_names_the_declaration() {
    for world in worlds_at(Level::Two).await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let told = signer.keys[0].level.clone();
        assert_eq!(
            (told.level, told.because),
            (Level::Two, LevelPart::Generation)
        );
        assert_eq!(told.declared.len(), 2);
        assert!(told.declared.iter().all(|d| d.reference == REFERENCE));
        let token = world.approved(&mut signer, &[hash(1)]).await;
        assert!(world.sign(&signer, &token, &[hash(1)]).await.is_ok());
        // PIN and codes hold the key down, whatever the module is.
        let weak = world.enrol("q", true, &[KeyAlg::P256]).await;
        assert_eq!(weak.keys[0].level.level, Level::One);
    }
}

/// What only a certificate could prove is named wherever somebody approves or decides.
// shows: I-3.5-level-definitions
#[tokio::test(flavor = "multi_thread")]
async fn what_a_level_rests_on_is_named_to_signers_checkers_and_officers() {
    for world in worlds_at(Level::Two).await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let rid = world.prepare(&signer, &[hash(1)]).await;
        let opened = world.sam.open(OpenRequest { rid }).await.unwrap().act;
        assert_eq!(sign_act(&opened).declared, [REFERENCE]);
        let digest = act_digest(&opened);
        let proof = signer.passkey.prove(digest).unwrap();
        world.approve(proof).await.unwrap();
        world.bind(rid, "token").await.unwrap();
        let signed = world.sign(&signer, "token", &[hash(1)]).await;
        signed.unwrap();
        let shown = world.shown(&signer, digest).await;
        let word = "the-operators-word-for-the-level";
        assert!(shown.remarks.contains(&word), "{:?}", shown.remarks);
        assert!(shown.what.iter().any(|line| line.contains(REFERENCE)));

        let mut operator = world.appoint("o", Role::SystemOperator).await;
        let session = world.log_in(&mut operator).await.unwrap().session;
        let request = SessionRequest { session };
        let declared = world.office::<State>(&request).await.unwrap().declared;
        assert!(!declared.is_empty());
        assert!(declared.iter().all(|d| d.reference == REFERENCE));
        let key = &signer.keys[0];
        let measure = Measure::Key {
            key: key.key.clone(),
            action: KeyAction::Suspend,
        };
        let asked = world.propose(&mut operator, measure).await.unwrap();
        let document: Document = serde_json::from_str(&asked.document).unwrap();
        let told = document.facts.assurance.unwrap();
        assert_eq!(told.level, key.level);
        assert_eq!(
            (told.origin, told.case),
            (key.origin.clone(), key.origin_case)
        );
    }
    for world in worlds().await {
        let signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let rid = world.prepare(&signer, &[hash(1)]).await;
        let opened = world.sam.open(OpenRequest { rid }).await.unwrap().act;
        assert!(sign_act(&opened).declared.is_empty());
    }
}

fn sign_act(jws: &str) -> SignAct {
    match sam_core::act::read_act(jws).unwrap() {
        Act::Sign(act) => act,
        _ => panic!("an act to sign"),
    }
}

// shows: I-3.5.1-keygen-L2, I-3.5.1-keyauth-L3, I-3.5-level-definitions
#[tokio::test(flavor = "multi_thread")]
async fn a_sam_whose_configuration_facts_contradict_does_not_start() {
    let store = testing::sqlite(MIGRATIONS).await;
    let world = World::with(store, Declared::test(Level::Two), policy(Level::Two)).await;
    let start = async |cm: crate::cm::Cm, policy: Policy| {
        let config = SamConfig {
            policy,
            node: "sam-2".into(),
            ..world.config.clone()
        };
        let store = testing::sqlite(MIGRATIONS).await;
        let (clock, random) = (world.clock.clone(), Arc::new(SystemRandom));
        let root = cm.call::<Root>(&Empty {}).await.unwrap().root;
        let founders = Founders::new(&config, &root, START);
        let started = match founders.found(&config, &cm, &store, clock.clone()).await {
            Ok(()) => Sam::start(config, cm, store.store.clone(), None, clock, random).await,
            Err(FoundError::Start(error)) => Err(error),
            Err(other) => panic!("{other}"),
        };
        match started {
            Ok(_) => None,
            Err(StartError::Levels(contradiction)) => Some(contradiction.requirement),
            Err(other) => panic!("{other}"),
        }
    };
    let module = async |declared: Declared| {
        let store = testing::sqlite(MIGRATIONS).await;
        World::with(store, Arc::new(declared), Policy::default()).await
    };
    // At level 2 this one has started.
    assert_eq!(
        start(world.cm.clone(), policy(Level::Three)).await,
        Some("I-3.5.1-keygen-L3")
    );
    let three = module(Declared {
        level: Level::Three,
        device: true,
        reference: Some(REFERENCE),
    })
    .await;
    let undeclared = Policy {
        ceiling: Level::Three,
        ..Policy::default()
    };
    assert_eq!(
        start(three.cm.clone(), undeclared).await,
        Some("I-3.5.1-keyauth-L3")
    );
    let software = World::on(testing::sqlite(MIGRATIONS).await).await;
    assert_eq!(
        start(software.cm.clone(), policy(Level::Two)).await,
        Some("I-3.5.1-keygen-L2")
    );
}

// shows: I-3.5-level-definitions
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_lost_a_level_does_not_use_its_keys() {
    for world in worlds_at(Level::Two).await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let waiting = world.prepare(&signer, &[hash(1)]).await;
        let act = world.open(waiting).await;
        let proof = signer.passkey.prove(act).unwrap();
        let token = world.approved(&mut signer, &[hash(2)]).await;
        // The operator takes level 2 back; with the policy's new version what was minted under the old one is void beside.
        let lower = SamConfig {
            policy: Policy {
                version: 2,
                ..policy(Level::One)
            },
            node: "sam-2".into(),
            ..world.config.clone()
        };
        let lower = world.node_with(lower).await;
        let refused = Refusal::Level {
            requirement: "I-3.5-level-definitions".into(),
        };
        let request = world.prepare_request(&signer, hash_items(&[hash(3)]));
        assert_eq!(lower.prepare(SSA, request).await.unwrap_err(), refused);
        let request = OpenRequest { rid: waiting };
        let code = lower.open(request).await.unwrap_err().code;
        assert_eq!(code, SapRefusalCode::Refused);
        let code = lower.approve(ApproveRequest { proof, new: None }).await;
        assert_eq!(code.unwrap_err().code, SapRefusalCode::Expired);
        let request = world.sign_request(&signer, &token, &[hash(2)]);
        assert_eq!(lower.sign(SSA, request).await.unwrap_err(), refused);
        for (event, times) in [
            ("request.refused", 1),
            ("sap.refused", 1),
            ("sad.refused", 1),
        ] {
            let named = world.audited(event, "I-3.5-level-definitions").await;
            assert_eq!(named, times, "{event}");
        }
        // Nothing was consumed by that.
        assert!(world.sign(&signer, &token, &[hash(2)]).await.is_ok());
    }
}

// shows: II-A1-sad-each-time
#[tokio::test(flavor = "multi_thread")]
async fn one_proof_is_for_one_signature_unless_the_operator_lets_it_be_for_more() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        for most in [1, 2] {
            let policy = Policy {
                version: most + 1,
                max_items: most,
                ..Policy::default()
            };
            assert_eq!(Policy::default().max_items, 1);
            let node = world
                .node_with(SamConfig {
                    node: format!("sam-{most}"),
                    policy,
                    ..world.config.clone()
                })
                .await;
            assert_eq!(node.about().await.unwrap().max_items, most);
            let hashes: Vec<_> = (0..=most).map(hash).collect();
            let of = |n: u32| world.prepare_request(&signer, hash_items(&hashes[..n as usize]));
            let more = node.prepare(SSA, of(most + 1)).await;
            let items = Refusal::Invalid {
                member: "items".into(),
            };
            assert_eq!(more.unwrap_err(), items);
            let rid = node.prepare(SSA, of(most)).await.unwrap().rid;
            // The signer sees how many there are, and which.
            let opened = node.open(OpenRequest { rid }).await.unwrap();
            let act = sign_act(&opened.act);
            let shown: Vec<_> = act.items.iter().map(|i| i.digest().clone()).collect();
            assert_eq!(shown, hashes[..most as usize]);
        }
        world.approved(&mut signer, &[hash(1), hash(2)]).await;
    }
}
