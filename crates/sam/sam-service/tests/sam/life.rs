//! The life of a key: stopped, resumed, destroyed, by whom and why (`sap.md` §9; §14, 3, 6, 40, 53).

use core_types::{DestroyCause, Digest32, KeyAlg, UnixTime, sha256};
use futures_util::future::join_all;
use jose::SigningKey;
use sam_api::Refusal;
use sam_api::ssa::*;
use sam_keys::Destruction;
use sap::manage::NoticeEffect;
use sap::messages::{OpenRequest, SapRefusalCode};
use sap::{Act, RevocationNotice, TYP_NOTICE};

use crate::kit::*;

fn suspend(signer: &Signer) -> Wish {
    Wish::Suspend {
        key: signer.keys[0].key.clone(),
    }
}

fn resume(signer: &Signer) -> Wish {
    Wish::Resume {
        key: signer.keys[0].key.clone(),
    }
}

fn destroy(signer: &Signer) -> Wish {
    Wish::Destroy {
        key: signer.keys[0].key.clone(),
    }
}

async fn act_of(world: &World, rid: Digest32) -> Act {
    let jws = world.sam.open(OpenRequest { rid }).await.unwrap().act;
    let payload = core_types::bytes::from_b64u(jws.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

// shows: T-TERM-REPLAY, II-3.4-replay, T-TERM-NOT-OWNER, I-4.2.2c-termination-causes
#[tokio::test(flavor = "multi_thread")]
async fn a_login_stops_a_key_once_and_only_a_proof_lets_it_go_on() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let other = world.enrol("q", false, &[KeyAlg::P256]).await;
        // Approved, bound, and opened before the stop.
        let token = world.approved(&mut signer, &[hash(1)]).await;
        let opened = world.open(world.prepare(&signer, &[hash(2)]).await).await;
        let seen = world.key(&signer).await.changes;

        let foreign = StopRequest {
            person: other.person.clone(),
            key: signer.keys[0].key.clone(),
            changes: seen,
        };
        let refused = world.sam.stop(SSA, foreign.clone()).await.unwrap_err();
        assert_eq!(refused, Refusal::NotFound);
        let elsewhere = StopRequest {
            person: signer.person.clone(),
            ..foreign
        };
        let refused = world
            .sam
            .stop("other-ssa.test", elsewhere)
            .await
            .unwrap_err();
        assert_eq!(refused, Refusal::NotFound);
        world.stop(&signer, seen).await.unwrap();
        assert_eq!(world.stop(&signer, seen).await.unwrap_err(), Refusal::Used);

        let key = world.key(&signer).await;
        assert_eq!(key.state, KeyState::Suspended);
        assert_eq!(key.stop.unwrap().cause, StopCause::Login);
        // Nothing signs: not the token bound before, not the act opened before, no new request.
        let refused = world.sign(&signer, &token, &[hash(1)]).await.unwrap_err();
        assert_eq!(refused, Refusal::KeyNotActive);
        let proof = signer.passkey.prove(opened).unwrap();
        assert_eq!(
            world.approve(proof).await.unwrap_err().code,
            SapRefusalCode::KeyStopped
        );
        let request = world.prepare_request(&signer, hash_items(&[hash(3)]));
        assert_eq!(
            world.sam.prepare(SSA, request).await.unwrap_err(),
            Refusal::KeyNotActive
        );

        let refused = world.ask(&other, resume(&signer)).await.unwrap_err();
        assert_eq!(refused, Refusal::NotFound);
        world.changed(resume(&signer), &mut signer).await.unwrap();
        assert_eq!(world.key(&signer).await.state, KeyState::Active);
        // The old call, caught on the way, stops nothing.
        assert_eq!(world.stop(&signer, seen).await.unwrap_err(), Refusal::Used);
        let token = world.approved(&mut signer, &[hash(4)]).await;
        assert!(world.sign(&signer, &token, &[hash(4)]).await.is_ok());
        assert_eq!(world.audited("key.suspended", "login").await, 1);
        assert_eq!(world.audited("key.resumed", "").await, 1);
    }
}

// shows: T-TERM-REPLAY, II-3.4-replay, II-3.4-termination-requester-confirmed
#[tokio::test(flavor = "multi_thread")]
async fn a_proof_stops_a_key_and_none_of_it_works_twice() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let rid = world.ask(&signer, suspend(&signer)).await.unwrap();
        let act = world.open(rid).await;
        let proof = signer.passkey.prove(act).unwrap();
        world.approve(proof.clone()).await.unwrap();
        assert_eq!(
            world.key(&signer).await.stop.unwrap().cause,
            StopCause::Signer
        );
        let status = world.sam.status(SSA, StatusRequest { rid }).await.unwrap();
        assert_eq!(status.state, RequestState::Approved);
        // An act to stop carries no right to sign.
        assert!(world.bind(rid, "token").await.is_err());
        let again = world.approve(proof.clone()).await.unwrap_err();
        assert_eq!(again.code, SapRefusalCode::Used);
        // Minted while it was stopped, too late when it was resumed by another act.
        let first = world.change(&signer, resume(&signer)).await;
        let second = world.change(&signer, resume(&signer)).await;
        let proofs = [first, second].map(|act| signer.passkey.prove(act).unwrap());
        let [first, second] = proofs;
        world.approve(first).await.unwrap();
        world
            .stop(&signer, world.key(&signer).await.changes)
            .await
            .unwrap();
        let late = world.approve(second).await.unwrap_err();
        assert_eq!(late.code, SapRefusalCode::Withdrawn);
        assert_eq!(world.key(&signer).await.state, KeyState::Suspended);
        assert_eq!(
            world.approve(proof).await.unwrap_err().code,
            SapRefusalCode::Used
        );
        assert_eq!(world.audited("act.minted", "suspend").await, 1);
    }
}

// shows: I-4.2.2c-secure-destruction, T-TERM-NOT-OWNER, T-TERM-REPLAY, II-3.4-termination-requester-confirmed
#[tokio::test(flavor = "multi_thread")]
async fn only_the_owner_destroys_a_key_and_it_never_comes_back() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let mut other = world.enrol("q", false, &[KeyAlg::P256]).await;
        let token = world.approved(&mut signer, &[hash(1)]).await;
        let signing = world.open(world.prepare(&signer, &[hash(2)]).await).await;
        assert_eq!(
            world.ask(&other, destroy(&signer)).await.unwrap_err(),
            Refusal::NotFound
        );
        let act = world.change(&signer, destroy(&signer)).await;
        // Another person's passkey, and the owner's own proof for something else.
        let foreign = other.passkey.prove(act).unwrap();
        assert_eq!(
            world.approve(foreign).await.unwrap_err().code,
            SapRefusalCode::Refused
        );
        let mut moved = signer.passkey.prove(signing).unwrap();
        if let sap::Proof::Passkey { act: digest, .. } = &mut moved {
            *digest = act;
        }
        assert_eq!(
            world.approve(moved).await.unwrap_err().code,
            SapRefusalCode::Refused
        );
        assert_eq!(world.key(&signer).await.state, KeyState::Active);

        let proof = signer.passkey.prove(act).unwrap();
        world.approve(proof.clone()).await.unwrap();
        world.sam.maintain().await.unwrap();
        let key = world.key(&signer).await;
        assert_eq!(key.state, KeyState::Destroyed);
        let stop = key.stop.unwrap();
        assert_eq!(stop.cause, StopCause::Signer);
        // The module's certificate holds with the root alone and names the act.
        let roots = [world.sam.root().clone()];
        let told = Destruction::verify(&stop.certificate.unwrap(), &roots).unwrap();
        assert_eq!((told.act, told.cause), (act, DestroyCause::Owner));
        assert_eq!(told.spki, sha256(&[&key.spki.0]));
        assert!(stop.unrecoverable_after.is_some());

        assert_eq!(
            world.sign(&signer, &token, &[hash(1)]).await.unwrap_err(),
            Refusal::KeyNotActive
        );
        assert_eq!(
            world.approve(proof).await.unwrap_err().code,
            SapRefusalCode::Used
        );
        for wish in [suspend(&signer), resume(&signer), destroy(&signer)] {
            assert!(world.ask(&signer, wish).await.is_err());
        }
        assert!(world.stop(&signer, key.changes).await.is_err());
        assert_eq!(world.audited("key.ended", "").await, 1);
        assert_eq!(world.audited("key.destroyed", "signer").await, 1);
        assert_eq!(world.key(&other).await.state, KeyState::Active);
    }
}

// shows: I-4.2.2c-secure-destruction
#[tokio::test(flavor = "multi_thread")]
async fn what_the_module_could_not_destroy_yet_is_ordered_again() {
    use crate::cm::Fault;
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        world.cm.next(Fault::DestroyLost);
        world.changed(destroy(&signer), &mut signer).await.unwrap();
        let key = world.key(&signer).await;
        assert_eq!(
            key.state,
            KeyState::Destroyed,
            "unusable from the approval on"
        );
        world.sam.maintain().await.unwrap();
        world.sam.maintain().await.unwrap();
        let stop = world.key(&signer).await.stop.unwrap();
        assert!(stop.certificate.is_some());
        assert_eq!(world.audited("key.destroyed", "").await, 1);
    }
}

pub fn notice(
    world: &World,
    signer: &Signer,
    effect: NoticeEffect,
    after: i64,
) -> RevocationNotice {
    let key = &signer.keys[0];
    RevocationNotice {
        sam: world.config.sam.clone(),
        tenant: world.config.tenant.clone(),
        key: key.key.clone(),
        cert: sha256(&[&key.chain[0].0]),
        effect,
        iat: START.plus(after),
    }
}

// shows: I-A4.2-revocation-prompt-destruction, T-TERM-NOT-OWNER, T-TERM-REPLAY
#[tokio::test(flavor = "multi_thread")]
async fn an_authoritys_notice_holds_releases_and_destroys_once_each() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let send = |jws: String| world.sam.notice(SSA, NoticeRequest { notice: jws });
        let say = |effect, after| {
            world
                .ra
                .notice(&notice(&world, &signer, effect, after))
                .unwrap()
        };
        let (hold, released) = (say(NoticeEffect::Hold, 1), say(NoticeEffect::Released, 2));

        let (rogue, _) = SigningKey::generate().unwrap();
        let payload = notice(&world, &signer, NoticeEffect::Revoked, 1);
        let forged = rogue
            .sign(TYP_NOTICE, &serde_json::to_vec(&payload).unwrap())
            .unwrap();
        assert_eq!(
            send(forged).await.unwrap_err(),
            Refusal::RegistrationRefused
        );
        let mut wrong = payload.clone();
        wrong.cert = Digest32([1; 32]);
        assert_eq!(
            send(world.ra.notice(&wrong).unwrap()).await.unwrap_err(),
            Refusal::Mismatch
        );
        let mut wrong = payload.clone();
        wrong.sam = "other".into();
        assert!(send(world.ra.notice(&wrong).unwrap()).await.is_err());
        let mut wrong = payload;
        wrong.effect = NoticeEffect::Hold;
        wrong.iat = START.plus(10_000);
        assert_eq!(
            send(world.ra.notice(&wrong).unwrap()).await.unwrap_err(),
            Refusal::NotNow
        );
        assert_eq!(world.key(&signer).await.state, KeyState::Active);

        send(hold.clone()).await.unwrap();
        let key = world.key(&signer).await;
        assert_eq!(
            (key.state, key.stop.unwrap().cause),
            (KeyState::Suspended, StopCause::Hold)
        );
        assert!(
            world.ask(&signer, resume(&signer)).await.is_err(),
            "not the signer's to lift"
        );
        send(released.clone()).await.unwrap();
        for old in [hold, released] {
            assert_eq!(send(old).await.unwrap_err(), Refusal::Used);
        }
        let token = world.approved(&mut signer, &[hash(1)]).await;
        send(say_again(&world, &signer, 3)).await.unwrap();
        assert_eq!(
            world.sign(&signer, &token, &[hash(1)]).await.unwrap_err(),
            Refusal::KeyNotActive
        );
        world.sam.maintain().await.unwrap();
        let stop = world.key(&signer).await.stop.unwrap();
        assert_eq!(stop.cause, StopCause::Revoked);
        let roots = [world.sam.root().clone()];
        let told = Destruction::verify(&stop.certificate.unwrap(), &roots).unwrap();
        assert_eq!(told.cause, DestroyCause::Revoked);
        // Said again, it is answered the same; the signer was told each time.
        send(say_again(&world, &signer, 4)).await.unwrap();
        let told: Vec<_> = world
            .history(&signer)
            .await
            .iter()
            .map(|e| e.what)
            .collect();
        use Happened::{Destroyed, Enrolled, Resumed, Suspended};
        assert_eq!(told, [Destroyed, Resumed, Suspended, Enrolled]);
        assert_eq!(world.audited("notice.heeded", "").await, 3);
        assert_eq!(world.audited("notice.refused", "").await, 6);
    }
}

fn say_again(world: &World, signer: &Signer, after: i64) -> String {
    let revoked = notice(world, signer, NoticeEffect::Revoked, after);
    world.ra.notice(&revoked).unwrap()
}

// shows: T-TERM-NOT-OWNER
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_an_authoritys_hold_lifts_no_stop_of_the_signer() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let changes = world.key(&signer).await.changes;
        world.stop(&signer, changes).await.unwrap();
        for (effect, after) in [(NoticeEffect::Hold, 1), (NoticeEffect::Released, 2)] {
            let notice = world
                .ra
                .notice(&notice(&world, &signer, effect, after))
                .unwrap();
            world
                .sam
                .notice(SSA, NoticeRequest { notice })
                .await
                .unwrap();
        }
        let key = world.key(&signer).await;
        assert_eq!(
            (key.state, key.stop.unwrap().cause),
            (KeyState::Suspended, StopCause::Login)
        );
        assert_eq!(world.history(&signer).await[0].what, Happened::Suspended);
        world.changed(resume(&signer), &mut signer).await.unwrap();
        assert_eq!(world.key(&signer).await.state, KeyState::Active);
    }
}

// shows: I-4.2.2c-termination-causes, I-7.1.1.12-utc-for-expiry
#[tokio::test(flavor = "multi_thread")]
async fn a_key_ends_with_its_certificate() {
    for world in worlds().await {
        let signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let UnixTime(until) = world.key(&signer).await.until.unwrap();
        world.clock.advance(until - START.0 - 1);
        world.prepare(&signer, &[hash(1)]).await;
        world.sam.maintain().await.unwrap();
        assert_eq!(world.key(&signer).await.state, KeyState::Active);
        world.clock.advance(1);
        let request = world.prepare_request(&signer, hash_items(&[hash(1)]));
        assert_eq!(
            world.sam.prepare(SSA, request).await.unwrap_err(),
            Refusal::KeyNotActive
        );
        world.sam.maintain().await.unwrap();
        let stop = world.key(&signer).await.stop.unwrap();
        assert_eq!(stop.cause, StopCause::Expired);
        assert!(stop.certificate.is_some());
    }
}

// shows: I-A4.3-leaving-service, T-TERM-NOT-OWNER
#[tokio::test(flavor = "multi_thread")]
async fn leaving_ends_a_registration_as_it_was_shown_and_no_other() {
    for world in worlds().await {
        let mut signer = world
            .enrol("p", true, &[KeyAlg::P256, KeyAlg::Rsa3072])
            .await;
        let other = world.enrol("q", false, &[KeyAlg::P256]).await;
        let leave = |signer: &Signer| Wish::Leave {
            registration: signer.keys[0].registration.clone(),
        };
        assert!(world.ask(&other, leave(&signer)).await.is_err());
        // A key less than was shown: the act is void.
        let stale = world.change(&signer, leave(&signer)).await;
        world.changed(destroy(&signer), &mut signer).await.unwrap();
        let proof = signer.passkey.prove(stale).unwrap();
        assert_eq!(
            world.approve(proof).await.unwrap_err().code,
            SapRefusalCode::Withdrawn
        );
        assert_eq!(world.factors(&signer).await.len(), 2);

        world.changed(leave(&signer), &mut signer).await.unwrap();
        world.sam.maintain().await.unwrap();
        let request = KeysRequest {
            person: signer.person.clone(),
        };
        let keys = world.sam.keys(request).await.unwrap().keys;
        assert!(keys.iter().all(|k| k.state == KeyState::Destroyed));
        assert!(
            keys.iter()
                .all(|k| k.stop.as_ref().unwrap().certificate.is_some())
        );
        assert_eq!(keys[1].stop.as_ref().unwrap().cause, StopCause::Left);
        assert!(world.factors(&signer).await.is_empty());
        assert!(world.ask(&signer, leave(&signer)).await.is_err());
        assert_eq!(world.key(&other).await.state, KeyState::Active);
        assert_eq!(world.audited("registration.ended", "\"left\"").await, 1);
    }
}

// shows: T-TERM-NOT-OWNER, II-3.3.1-sap-replay-bypass-forgery
#[tokio::test(flavor = "multi_thread")]
async fn no_signature_starts_after_a_stop_on_any_node() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let mut tokens = Vec::new();
        for n in 0..12 {
            tokens.push((world.approved(&mut signer, &[hash(n)]).await, hash(n)));
        }
        let nodes = [world.sam.clone(), world.node("sam-2").await];
        let changes = world.key(&signer).await.changes;
        let calls: Vec<_> = tokens
            .into_iter()
            .enumerate()
            .map(|(n, (token, hash))| {
                let sam = nodes[n % 2].clone();
                let request = world.sign_request(&signer, &token, &[hash]);
                tokio::spawn(async move { sam.sign(SSA, request).await })
            })
            .collect();
        world.stop(&signer, changes).await.unwrap();
        let begun = world.audited("sad.consumed", "").await;
        let outcomes = join_all(calls).await;
        let signed = outcomes
            .iter()
            .filter(|o| o.as_ref().unwrap().is_ok())
            .count();
        assert_eq!(world.audited("sad.consumed", "").await, begun);
        assert_eq!(signed, begun);
        for refused in outcomes
            .iter()
            .filter_map(|o| o.as_ref().unwrap().as_ref().err())
        {
            assert!(
                matches!(refused, Refusal::KeyNotActive | Refusal::NotNow),
                "{refused:?}"
            );
        }
    }
}

// shows: T-INS-OPERATOR
#[tokio::test(flavor = "multi_thread")]
async fn the_next_act_shows_what_a_provider_may_have_hidden() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        world.clock.advance(10);
        world
            .stop(&signer, world.key(&signer).await.changes)
            .await
            .unwrap();
        world.clock.advance(10);
        let rid = world.ask(&signer, resume(&signer)).await.unwrap();
        let Act::Resume(act) = act_of(&world, rid).await else {
            panic!("another kind")
        };
        assert_eq!(act.since.keys, Some(START.plus(10)));
        let act = world.open(rid).await;
        world
            .approve(signer.passkey.prove(act).unwrap())
            .await
            .unwrap();
        let rid = world.prepare(&signer, &[hash(1)]).await;
        let Act::Sign(act) = act_of(&world, rid).await else {
            panic!("another kind")
        };
        assert_eq!(act.since.keys, Some(START.plus(20)));
        assert_eq!(act.since.act, Some(START.plus(20)));
        assert_eq!(act.since.factors, Some(START));
    }
}
