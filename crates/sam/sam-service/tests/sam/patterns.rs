//! The guideline's four patterns of key authorization, each at each level: used where the level admits it, refused by name or
//! without a way in where it doesn't (`keyauth_pattern`, `pattern_admission`).
//!
//! Pattern 4 is a proof that reaches a SAM declared certified, 1 the same proof at a SAM that nobody declares, 2 secrets that an
//! application collects, 3 the SSA on its own, for which no kind of factor stands and so no level. The same through the public doors:
//! `natsuin/tests/stories/patterns.rs`.

use core_types::{Digest32, KeyAlg, Level, SecretBytes};
use sam_api::Refusal;
use sam_api::ssa::*;
use sap::messages::EnrolOpenRequest;
use sap::{Proof, SealedProof};

use crate::attest;
use crate::explicit;
use crate::kit::*;
use crate::levels::worlds_at;

/// Documents, so that every level may sign them.
fn documents(n: u32) -> Vec<PrepareItem> {
    let mut items = hash_items(&[hash(n)]);
    items[0].doc = Some(DocItem {
        signed_attrs: None,
        ranges: None,
    });
    items
}

/// Worlds at this level, each with a signer who has a key of it.
async fn signers_at(level: Level) -> Vec<(World, Signer)> {
    let mut all = Vec::new();
    let worlds = match level {
        Level::One => worlds().await,
        level => worlds_at(level).await,
    };
    for world in worlds {
        let (world, signer) = match level {
            Level::Three => attest::signer_of_level_three(world).await,
            _ => {
                let signer = world.enrol("p", false, &[KeyAlg::P256]).await;
                (world, signer)
            }
        };
        assert_eq!(signer.keys[0].level.level, level);
        all.push((world, signer));
    }
    all
}

/// Prepares, has the signer approve, and signs with a token bound after that.
async fn signs(world: &World, signer: &mut Signer, n: u32) -> bool {
    let request = world.prepare_request(signer, documents(n));
    let rid = world.sam.prepare(SSA, request).await.unwrap().rid;
    let act = world.open(rid).await;
    let proof = signer.passkey.prove(act).unwrap();
    if world.approve(proof).await.is_err() {
        return false;
    }
    let token = random_token();
    world.bind(rid, &token).await.unwrap();
    world.sign(signer, &token, &[hash(n)]).await.is_ok()
}

// shows: I-3.5.2-L1-key-auth-direct, I-3.5.2-L2-patterns
#[tokio::test(flavor = "multi_thread")]
async fn pattern_1_a_signer_whom_no_certified_sam_asks_signs_up_to_level_two() {
    for level in [Level::One, Level::Two] {
        for (world, mut signer) in signers_at(level).await {
            assert_eq!(world.config.policy.sam_declaration, None);
            let told = &signer.keys[0].level;
            let of_sam = told
                .declared
                .iter()
                .any(|d| d.part == LevelPart::Authorization);
            assert!(!of_sam, "nobody vouches for the SAM");
            assert!(signs(&world, &mut signer, 1).await);
        }
    }
    // Level 3 with such a SAM: `levels::a_sam_whose_configuration_facts_contradict_does_not_start`.
}

// shows: I-3.5.2-L1-key-auth-delegated, I-3.5.2-L2-patterns, T-USE-SAP-BYPASS
#[tokio::test(flavor = "multi_thread")]
async fn pattern_2_an_application_authorizes_its_own_keys_of_level_one_and_no_other() {
    for level in [Level::One, Level::Two, Level::Three] {
        for (world, signer) in signers_at(level).await {
            // The application's own key: whatever the service is good for, it stays at level 1, and signs there.
            let (key, seed) = explicit::enrol(&world, "app-user").await;
            assert_eq!(key.level.level, Level::One);
            let pin = explicit::APP_PIN;
            let otp = world.otp(&seed, 0);
            let asked = explicit::request("app-user", &key, pin, otp, "token");
            world.sam.explicit(SSA, asked).await.unwrap();
            explicit::sign(&world, &key, "token", hash(1))
                .await
                .unwrap();
            // A key that its signer authorizes: secrets of the application's are nothing to it.
            let own = &signer.keys[0];
            let otp = world.otp(&seed, 1);
            let asked = explicit::request(signer.person.as_str(), own, pin, otp, "other");
            let refused = world.sam.explicit(SSA, asked).await.unwrap_err();
            let unmet = match level {
                Level::One => Refusal::Mismatch,
                level => Refusal::Level {
                    requirement: format!("I-3.5.1-keyauth-L{}", u8::from(level)),
                },
            };
            assert_eq!(refused, unmet);
        }
    }
}

// shows: I-3.5.2-L2-patterns, I-3.5.2-L3-pattern, II-A1-sad-needed-after-login, T-USE-SAP-BYPASS
#[tokio::test(flavor = "multi_thread")]
async fn pattern_3_an_ssa_on_its_own_authorizes_nothing_at_any_level() {
    for level in [Level::One, Level::Two, Level::Three] {
        for (world, signer) in signers_at(level).await {
            let request = world.prepare_request(&signer, documents(1));
            let rid = world.sam.prepare(SSA, request).await.unwrap().rid;
            // Whatever it says of a login: no token before the signer's proof, opened or not.
            assert_eq!(
                world.bind(rid, "t").await.unwrap_err(),
                Refusal::NotApproved
            );
            let act = world.open(rid).await;
            assert_eq!(
                world.bind(rid, "t").await.unwrap_err(),
                Refusal::NotApproved
            );
            assert!(world.sign(&signer, "t", &[hash(1)]).await.is_err());
            // Nor by what it can make up: another's passkey, secrets that the signer doesn't have, a device key of its own.
            let mut own = passkey();
            own.register(act).unwrap();
            let made_up = SealedProof {
                act,
                pin: SecretBytes::from(PIN.to_owned()),
                otp: SecretBytes::from("000000".to_owned()),
            };
            let sealed = world.seal(act, &made_up).await;
            let device = crate::device::device();
            for proof in [
                own.prove(act).unwrap(),
                Proof::PinTotp { act, sealed },
                world.device_proof(act, &device, PIN).await,
            ] {
                assert!(world.approve(proof).await.is_err());
            }
            assert_eq!(
                world.bind(rid, "t").await.unwrap_err(),
                Refusal::NotApproved
            );
            // It stops keys, which is easy; it lets none go on.
            world
                .stop(&signer, world.key(&signer).await.changes)
                .await
                .unwrap();
            let key = signer.keys[0].key.clone();
            let act = world.change(&signer, Wish::Resume { key }).await;
            assert!(world.approve(own.prove(act).unwrap()).await.is_err());
            assert_eq!(world.key(&signer).await.state, KeyState::Suspended);
            assert_eq!(world.audited("sad.consumed", "").await, 0);
        }
    }
}

// shows: I-3.5.2-L1-key-auth-direct, I-3.5.2-L2-patterns, I-3.5.2-L3-pattern,
// I-3.5.1-retention-L3
#[tokio::test(flavor = "multi_thread")]
async fn pattern_4_a_signer_whom_a_declared_sam_asks_signs_at_every_level() {
    for (world, mut signer) in signers_at(Level::Three).await {
        assert!(world.config.policy.sam_declaration.is_some());
        assert!(signs(&world, &mut signer, 1).await);
        // The same SAM has keys of lower levels.
        for (person, ceiling) in [("one", Level::One), ("two", Level::Two)] {
            let mut invitation = world.invitation(person, &[KeyAlg::P256]);
            invitation.ceiling = ceiling;
            let mut lower = world.enrol_by(invitation, false).await;
            assert_eq!(lower.keys[0].level.level, ceiling);
            assert!(signs(&world, &mut lower, 2).await);
        }
        // And a factor that level 3 doesn't admit makes no key of it.
        let (voucher, secret) = world
            .invite(world.invitation("four", &[KeyAlg::P256]))
            .await;
        let opened = world.sam.enrol_open(EnrolOpenRequest { voucher }).await;
        let act: Digest32 = sap::act_digest(&opened.unwrap().act);
        let request = sap::messages::EnrolRegisterRequest {
            act,
            sealed: world.seal(act, &world.secrets(act, &secret)).await,
            passkey: Some(passkey().register(act).unwrap()),
            id_token: None,
        };
        assert!(world.sam.enrol_register(request).await.is_err());
    }
}
