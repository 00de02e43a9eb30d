//! Acts without items (`sign-open`, CSC SCAL 1): level 1 only, off unless the policy allows them, bounded in number and time, for one
//! application, and named as what they are.

use std::sync::Arc;

use cm_soft::SoftBackend;
use core_types::{ClientId, Clock as _, Digest32, KeyAlg, Level};
use sam_api::Refusal;
use sam_api::ssa::*;
use sam_core::Policy;
use sam_core::act::read_act;
use sam_service::{MIGRATIONS, SamConfig};
use sap::messages::{ApproveRequest, OpenRequest, SapRefusalCode};
use sap::{Act, SignOpenAct, act_digest};
use store_kit::testing;
use tokio::sync::Notify;

use crate::kit::*;
use crate::levels::{Declared, policy};

const MOST: u32 = 3;

fn open_policy(level: Level) -> Policy {
    Policy {
        sign_open: MOST,
        ..policy(level)
    }
}

/// Worlds whose operator allows it.
async fn open_worlds() -> [World; 2] {
    let [sqlite, postgres] = testing::both(MIGRATIONS).await;
    let on = |store| World::with(store, Arc::new(SoftBackend), open_policy(Level::One));
    [on(sqlite).await, on(postgres).await]
}

fn request(world: &World, signer: &Signer, count: u32) -> PrepareRequest {
    PrepareRequest {
        open: Some(count),
        ..world.prepare_request(signer, Vec::new())
    }
}

async fn opened(world: &World, signer: &Signer, count: u32) -> (Digest32, Digest32, SignOpenAct) {
    let request = request(world, signer, count);
    let rid = world.sam.prepare(SSA, request).await.unwrap().rid;
    let answer = world.sam.open(OpenRequest { rid }).await.unwrap();
    let Act::SignOpen(act) = read_act(&answer.act).unwrap() else {
        panic!("an act without items");
    };
    (rid, act_digest(&answer.act), act)
}

/// Approved with the passkey; the token, and the act's digest.
async fn approved(world: &World, signer: &mut Signer, count: u32) -> (String, Digest32) {
    let (rid, act, _) = opened(world, signer, count).await;
    let proof = signer.passkey.prove(act).unwrap();
    world.approve(proof).await.unwrap();
    let token = random_token();
    let bound = world.bind(rid, &token).await.unwrap();
    assert_eq!((bound.count, bound.bare), (count, false));
    (token, act)
}

fn invalid(member: &str) -> Refusal {
    Refusal::Invalid {
        member: member.into(),
    }
}

// shows: II-A1-sad-once, T-USE-SAP-REPLAY
#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_shown_is_signed_once_and_its_evidence_says_what_it_was() {
    for world in open_worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        assert_eq!(world.sam.about().await.unwrap().max_open, MOST);
        let (_, _, act) = opened(&world, &signer, 2).await;
        assert_eq!((act.count, act.level), (2, Level::One));
        assert_eq!(act.until, act.iat.plus(600));
        let (token, act) = approved(&world, &mut signer, 2).await;
        let mut request = world.sign_request(&signer, &token, &[hash(1), hash(1)]);
        request.idempotency_key = Some("key-1".into());
        let made = world.sam.sign(SSA, request.clone()).await.unwrap();
        for value in &made.signatures {
            assert!(verifies(&signer.keys[0], &hash(1), value));
        }
        // The identical call gets the same values; everything else nothing.
        let again = world.sam.sign(SSA, request).await.unwrap();
        assert_eq!(again.signatures, made.signatures);
        let other = world.sign(&signer, &token, &[hash(2)]).await.unwrap_err();
        assert_eq!(other, Refusal::Used);
        let shown = world.shown(&signer, act).await;
        assert_eq!(shown.kind, "sign-open");
        assert!(shown.what[0].starts_with("any data of the application, up to 2"));
        assert!(shown.remarks.contains(&"the-data-was-not-shown"));
        assert_eq!(shown.signatures[0].filled.len(), 2);
    }
}

// shows: T-USE-DTBSR-FORGE, T-USE-SAP-REPLAY, T-KEY-ABUSE
#[tokio::test(flavor = "multi_thread")]
async fn its_bounds_hold_in_number_in_time_and_for_one_application() {
    for world in open_worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        // More than the policy has, none, with a list beside, or to be renewed.
        for (count, why) in [(0, "open"), (MOST + 1, "open")] {
            let refused = world.sam.prepare(SSA, request(&world, &signer, count));
            assert_eq!(refused.await.unwrap_err(), invalid(why), "{count}");
        }
        let mut listed = request(&world, &signer, 1);
        listed.items = hash_items(&[hash(1)]);
        let mut renewed = request(&world, &signer, 1);
        renewed.renew = 60;
        for wrong in [listed, renewed] {
            let refused = world.sam.prepare(SSA, wrong).await.unwrap_err();
            assert_eq!(refused, invalid("open"));
        }
        let (token, _) = approved(&world, &mut signer, 2).await;
        // Another application with the token, more than were approved, a hash of another length, none at all.
        let mut other = world.sign_request(&signer, &token, &[hash(1)]);
        other.client = ClientId::parse("client-2").unwrap();
        let refused = world.sam.sign(SSA, other).await.unwrap_err();
        assert_eq!(refused, Refusal::Mismatch);
        let long = core_types::B64(vec![1; 48]);
        for hashes in [vec![hash(1), hash(2), hash(3)], vec![long], vec![]] {
            let refused = world.sign(&signer, &token, &hashes).await.unwrap_err();
            assert_eq!(refused, Refusal::HashNotApproved);
        }
        // Fewer than approved: the rest is gone with the call.
        world.sign(&signer, &token, &[hash(1)]).await.unwrap();
        let rest = world.sign(&signer, &token, &[hash(2)]).await.unwrap_err();
        assert_eq!(rest, Refusal::Used);
        let next = world.renew(&signer, &token, "next").await;
        assert_eq!(next.unwrap_err(), Refusal::Mismatch);
        // At the end that the page has shown, whenever it was approved.
        let (rid, digest, act) = opened(&world, &signer, 1).await;
        world.clock.advance(299);
        let proof = signer.passkey.prove(digest).unwrap();
        world.approve(proof).await.unwrap();
        let bound = world.bind(rid, "late").await.unwrap();
        assert!(bound.sign_until <= act.until);
        world
            .clock
            .advance(bound.sign_until.0 - world.clock.now().0);
        let late = world.sign(&signer, "late", &[hash(1)]).await.unwrap_err();
        assert_eq!(late, Refusal::Expired);
    }
}

// shows: T-USE-DTBSR-FORGE
#[tokio::test(flavor = "multi_thread")]
async fn a_shorter_time_of_the_operators_is_kept() {
    for mut world in open_worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let policy = Policy {
            version: 2,
            sign_open_seconds: 90,
            ..world.config.policy.clone()
        };
        let config = SamConfig {
            node: "sam-short".into(),
            policy,
            ..world.config.clone()
        };
        world.go_on_with(config).await;
        let (rid, act, _) = opened(&world, &signer, 1).await;
        let proof = signer.passkey.prove(act).unwrap();
        world.clock.advance(80);
        world.approve(proof).await.unwrap();
        let bound = world.bind(rid, "token").await.unwrap();
        assert_eq!(bound.sign_until.0 - world.clock.now().0, 10);
        world.clock.advance(10);
        let late = world.sign(&signer, "token", &[hash(1)]).await.unwrap_err();
        assert_eq!(late, Refusal::Expired);
    }
}

/// The right is spent in its last second; the module takes its time. What came of it is good evidence, and says when.
// shows: I-A2.12-evidence-provided, II-A1-sad-once
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_after_the_last_second_is_good_evidence() {
    for world in open_worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let (rid, digest, act) = opened(&world, &signer, 1).await;
        world.clock.advance(299);
        let proof = signer.passkey.prove(digest).unwrap();
        world.approve(proof).await.unwrap();
        let until = world.bind(rid, "token").await.unwrap().sign_until;
        // Five minutes after the approval, which is a second before the end of all.
        assert_eq!(act.until.0 - until.0, 1);
        world.clock.advance(until.0 - 1 - world.clock.now().0);
        let (reached, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        world.cm.delay(reached.clone(), release.clone());
        let request = world.sign_request(&signer, "token", &[hash(1)]);
        let sam = world.sam.clone();
        let call = tokio::spawn(async move { sam.sign(SSA, request).await });
        reached.notified().await;
        world.clock.advance(30);
        release.notify_one();
        call.await.unwrap().unwrap();
        let shown = world.shown(&signer, digest).await;
        assert!(shown.signatures[0].at > act.until.0);
    }
}

// shows: II-3.3.1-sad-verified, T-USE-DTBSR-FORGE, T-USE-SAP-BYPASS
#[tokio::test(flavor = "multi_thread")]
async fn it_is_off_by_default_and_never_for_a_key_above_level_one() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        assert_eq!(world.sam.about().await.unwrap().max_open, 0);
        let refused = world.sam.prepare(SSA, request(&world, &signer, 1)).await;
        assert_eq!(refused.unwrap_err(), invalid("sign-open"));
        assert_eq!(world.audited("request.refused", "sign-open").await, 1);
        // Taken back by the operator while requests wait and approvals are unused.
        let config = SamConfig {
            node: "sam-open".into(),
            policy: Policy {
                version: 2,
                sign_open: MOST,
                ..world.config.policy.clone()
            },
            ..world.config.clone()
        };
        let node = world.node_with(config).await;
        let prepared = node.prepare(SSA, request(&world, &signer, 1)).await;
        let waiting = prepared.unwrap().rid;
        let prepared = node.prepare(SSA, request(&world, &signer, 1)).await;
        let rid = prepared.unwrap().rid;
        let answer = node.open(OpenRequest { rid }).await.unwrap();
        let proof = signer.passkey.prove(act_digest(&answer.act)).unwrap();
        // The act names the policy of the node that made it.
        let approval = ApproveRequest { proof, new: None };
        node.approve(approval).await.unwrap();
        world.bind(rid, "token").await.unwrap();
        let opened = world.sam.open(OpenRequest { rid: waiting }).await;
        assert_eq!(opened.unwrap_err().code, SapRefusalCode::Refused);
        let signed = world.sign(&signer, "token", &[hash(1)]).await;
        assert_eq!(signed.unwrap_err(), invalid("sign-open"));
        let request = world.sign_request(&signer, "token", &[hash(1)]);
        assert!(
            node.sign(SSA, request).await.is_ok(),
            "nothing was consumed"
        );
        // Keys that sign messages have no use for it.
        let signer = world.enrol("q", false, &[KeyAlg::Ed25519]).await;
        let refused = node.prepare(SSA, self::request(&world, &signer, 1)).await;
        assert_eq!(refused.unwrap_err(), Refusal::BareHash);
    }
    let [sqlite, postgres] = testing::both(MIGRATIONS).await;
    for store in [sqlite, postgres] {
        let world = World::with(store, Declared::test(Level::Two), open_policy(Level::Two)).await;
        let signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        assert_eq!(signer.keys[0].level.level, Level::Two);
        let refused = world.sam.prepare(SSA, request(&world, &signer, 1)).await;
        let level = Refusal::Level {
            requirement: "II-3.3.1-sad-verified".into(),
        };
        assert_eq!(refused.unwrap_err(), level);
    }
}
