//! Stories of the module through its public door, on every back end and on both stores.
#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod admission;
mod ahead;
mod algorithms;
mod away;
mod backup;
mod ceremony;
mod clock;
mod counter;
mod deletion;
mod destroy;
mod duplicates;
mod during;
mod faulty;
mod forget;
mod handed;
mod held;
mod import;
mod kit;
mod late;
mod lost;
mod noise;
mod office;
mod once;
mod one_time;
mod orders;
mod restore;
mod rewrap;
mod sam_key;
mod sealed;
mod several;
mod switch;
mod wrapped;

use std::sync::Arc;

use cm_api::rpc::{ModuleState, Reason};
use cm_api::{Executed, OrderKind, Refusal, SignItem};
use cm_core::Policy;
use cm_soft::SoftBackend;
use core_types::{Digest32, KeyAlg, Level, OriginCase, sha256};
use jose::SigningKey;
use kit::{NOW, P256, Setup, Story, digest, everywhere, generate, sign};
use sam_keys::Origin;

// shows: III-3-2-approved-algorithms, III-A1.1-safe-algorithm, III-A1.4-approved-algorithms, III-A1-cm-logical
#[tokio::test]
async fn keys_are_made_and_sign_what_is_ordered() {
    everywhere(
        keys_are_made_and_sign_what_is_ordered::ON_TOKENS,
        async |story| {
            for alg in [
                KeyAlg::P256,
                KeyAlg::P384,
                KeyAlg::P521,
                KeyAlg::Ed25519,
                KeyAlg::Rsa2048,
                KeyAlg::Rsa3072,
            ] {
                if alg == KeyAlg::Ed25519 && story.backend.name() == "pkcs11-wrapped" {
                    let refused = story.refused(generate(alg, Level::One)).await;
                    assert_eq!(refused, Refusal::NotAllowed(Reason::Algorithm));
                    continue;
                }
                let key = story.key(alg).await;
                for sig in alg.sig_algs() {
                    let texts: Vec<_> = (0..5).map(|i| format!("document {i}")).collect();
                    let dtbs: Vec<_> = texts.iter().map(|t| digest(sig, t)).collect();
                    let order = story.order(sign(&key, sig, &dtbs));
                    let done = story.module.execute(&order).await.unwrap();
                    let Executed::Signed(values) = done else {
                        panic!("signatures were ordered")
                    };
                    assert_eq!(values.len(), texts.len());
                    for (value, text) in values.iter().zip(&texts) {
                        let signed = pki::Signed::Message(text.as_bytes());
                        pki::verify_signature(&key.spki.0, sig, signed, &value.0).unwrap();
                    }
                }
            }
        },
    )
    .await;
}

// shows: III-3-2-approved-algorithms, III-3-16-keygen-L1
#[tokio::test]
async fn experimental_algorithms_want_their_switch_and_stay_at_level_one() {
    let store = store_kit::testing::sqlite(cm_core::MIGRATIONS).await;
    let mut story = Story::begin(store, Arc::new(SoftBackend)).await;
    let algorithm = Refusal::NotAllowed(Reason::Algorithm);
    for alg in [KeyAlg::MlDsa65, KeyAlg::MlDsa87] {
        assert_eq!(story.refused(generate(alg, Level::One)).await, algorithm);
    }
    let setup = Setup {
        policy: Policy::built_in().unwrap().experiments(true),
        ..Setup::default()
    };
    story.module = story.again_with(&setup).await;
    for alg in [KeyAlg::MlDsa65, KeyAlg::MlDsa87] {
        let key = story.key(alg).await;
        let order = story.order(sign(&key, alg.csr_alg(), &[b"message".to_vec()]));
        let Executed::Signed(values) = story.module.execute(&order).await.unwrap() else {
            panic!("a signature was ordered")
        };
        let signed = pki::Signed::Message(b"message");
        pki::verify_signature(&key.spki.0, alg.csr_alg(), signed, &values[0].0).unwrap();
        let hashed = OrderKind::Sign {
            key: key.key.clone(),
            version: 1,
            spki: sha256(&[&key.spki.0]),
            alg: alg.csr_alg(),
            items: vec![SignItem::digest(0, vec![0; 64])],
            act: Digest32([2; 32]),
            proof: Digest32([3; 32]),
            approved: NOW,
            renewable: false,
            step: 0,
            attempt: 0,
            counter_sign: None,
        };
        assert_eq!(
            story.refused(hashed).await,
            Refusal::Malformed,
            "no digest for a message"
        );
    }
}

// shows: III-A1.8-origin-distinguishable, III-A1.8-origin-immutable, III-A1.8-origin-matters, III-A1.1-attributes-at-generation,
// I-4.2.2a-no-import-if-rssp-generates
#[tokio::test]
async fn where_a_key_was_made_is_signed_when_it_is_made() {
    everywhere(
        where_a_key_was_made_is_signed_when_it_is_made::ON_TOKENS,
        async |story| {
            let key = story.key(KeyAlg::P256).await;
            let roots = [story.module.root().clone()];
            let told = Origin::verify(&key.statement, &roots).unwrap();
            assert_eq!(told.spki, sha256(&[&key.spki.0]));
            assert_eq!((&told.key, told.owner.as_str()), (&key.key, "hanako"));
            // Nothing is declared of the device, so that it doesn't count as one.
            assert_eq!(told.case, OriginCase::ProviderSoftware);
            assert_eq!(told.backend, story.backend.name());
            assert_eq!((told.level, told.created), (Level::One, NOW));
            let (stranger, _) = SigningKey::generate().unwrap();
            assert!(Origin::verify(&key.statement, &[stranger.public().clone()]).is_err());
        },
    )
    .await;
}

// shows: III-3-2-approved-algorithms, III-3-16-keygen-L1
#[tokio::test]
async fn no_key_is_made_or_used_after_its_approval_ended() {
    everywhere(
        no_key_is_made_or_used_after_its_approval_ended::ON_TOKENS,
        async |mut story| {
            let key = story.key(KeyAlg::P256).await;
            story.clock.advance(2_240_611_200 - NOW.0);
            story.renew().await;
            let algorithm = Refusal::NotAllowed(Reason::Algorithm);
            let order = sign(&key, P256, &[digest(P256, "a")]);
            assert_eq!(story.refused(order).await, algorithm);
            let order = generate(KeyAlg::P256, Level::One);
            assert_eq!(story.refused(order).await, algorithm);
            story.key(KeyAlg::P384).await;
        },
    )
    .await;
}

/// A generator that has got stuck.
struct Stuck;

impl core_types::Random for Stuck {
    fn fill(&self, out: &mut [u8]) {
        out.fill(7);
    }
}

// shows: III-3-11-random, III-3-13-detect-hardware, T-KEY-DERIVE
#[tokio::test]
async fn a_module_whose_generator_is_stuck_does_not_start() {
    let store = store_kit::testing::sqlite(cm_core::MIGRATIONS).await;
    let story = Story::begin(store, Arc::new(SoftBackend)).await;
    let stuck = story.again_drawing_from(Arc::new(Stuck)).await;
    assert!(matches!(stuck, Err(cm_core::StartError::SelfTest(_))));
    // Of the generator in use: as many ones as zeros, and no byte preferred (limits of six standard deviations).
    let mut drawn = vec![0; 1 << 20];
    core_types::Random::fill(&core_types::random::SystemRandom, &mut drawn);
    let ones: u32 = drawn.iter().map(|b| b.count_ones()).sum();
    assert!(
        (4_194_304 - 8_688..4_194_304 + 8_688).contains(&ones),
        "{ones}"
    );
    let mut counts = [0_u32; 256];
    for byte in &drawn {
        counts[usize::from(*byte)] += 1;
    }
    assert!(counts.iter().all(|n| (4096 - 384..4096 + 384).contains(n)));
}

// shows: III-3-14-audit-records, III-3-13-secure-state
#[tokio::test]
async fn why_a_module_does_not_start_is_told_once_while_it_lasts() {
    for test in store_kit::testing::both(cm_core::MIGRATIONS).await {
        let story = Story::begin(test, Arc::new(SoftBackend)).await;
        let secret = core_types::SecretBytes::new(vec![7; 32]);
        let root = cm_core::RootSecret::new(secret).unwrap();
        for (what, told_so_far) in [
            ("cm-start-token", 1),
            ("cm-start-token", 1),
            ("cm-start-silent", 2),
            ("cm-start-token", 3),
            ("cm-start-token", 3),
        ] {
            let random = Arc::new(core_types::random::SystemRandom);
            let (clock, store) = (story.clock.as_ref(), &story.test.store);
            let why = cm_core::NotStarted {
                what,
                broken: false,
            };
            let told = cm_core::not_started("cm-1", store, &root, clock, random, why);
            told.await.unwrap();
            assert_eq!(story.audited("cm-start-").await, told_so_far, "{what}");
        }
    }
}

// shows: III-A1.7-log-key-generation, III-3-14-audit-records, I-7.1.4.1-log-environment-and-key-events
#[tokio::test]
async fn every_key_is_in_the_log_with_its_owner_from_its_making_on() {
    everywhere(
        every_key_is_in_the_log_with_its_owner_from_its_making_on::ON_TOKENS,
        async |story| {
            let key = story.key(KeyAlg::P256).await;
            let order = story.order(sign(&key, P256, &[digest(P256, "a")]));
            story.module.execute(&order).await.unwrap();
            story.module.execute(&order).await.unwrap_err();
            for what in ["key.generated", "key.used", "cm.order-refused"] {
                assert_eq!(story.audited(what).await, 1, "{what}");
            }
            // A refusal names the order, once it is the SAM's, and the attribute that refused.
            let name = order.order.verify(story.act.public()).unwrap().order;
            let refused = |why: &str| format!("\"order\":\"{name}\",\"reason\":\"{why}\"");
            assert_eq!(story.audited(&refused("duplicate")).await, 1);
            let level = generate(KeyAlg::P256, Level::Three);
            story.refused(level).await;
            assert_eq!(story.audited("\"reason\":\"level\"").await, 1);
            assert_eq!(story.audited(key.key.as_str()).await, 2);
            // Entries name the owner by a commitment; who it is stands beside the log.
            assert_eq!(story.audited("hanako").await, 0);
            assert_eq!(story.audited(&story.alias("hanako").await).await, 2);
        },
    )
    .await;
}

// shows: III-3-13-detect-software, III-3-14-audit-records
#[tokio::test]
async fn self_tests_run_at_start_and_on_demand() {
    everywhere(
        self_tests_run_at_start_and_on_demand::ON_TOKENS,
        async |story| {
            let health = story.module.self_test().await.unwrap();
            assert_eq!(health.state, ModuleState::Operational);
            assert!(health.operational);
            assert_eq!(story.audited("service.started").await, 1);
            assert_eq!(story.audited("alarm").await, 0);
        },
    )
    .await;
}

pkcs11_faults::on_tokens!(
    keys_are_made_and_sign_what_is_ordered,
    where_a_key_was_made_is_signed_when_it_is_made,
    no_key_is_made_or_used_after_its_approval_ended,
    every_key_is_in_the_log_with_its_owner_from_its_making_on,
    self_tests_run_at_start_and_on_demand,
);
