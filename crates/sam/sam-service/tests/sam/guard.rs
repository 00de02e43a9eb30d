//! A program that watches the logs stops keys and officers' sessions; it does nothing else, and not much of it.

use core_types::{Digest32, KeyAlg, KeyId, sha256};
use sam_api::Refusal;
use sam_api::guard::GuardRequest;
use sam_api::life::StopCause;
use sam_api::ssa::{About, KeyState, KeysRequest};
use sap::messages::SapRefusalCode;
use sap::office::calls::{SessionRequest, State};
use sap::office::{KeyAction, Measure};

use crate::kit::*;

async fn stop(world: &World, peer: &str, request: GuardRequest) -> Result<(), Refusal> {
    world.sam.guard_stop(peer, request).await.map(|_| ())
}

fn key(key: &KeyId) -> GuardRequest {
    GuardRequest::Key { key: key.clone() }
}

async fn state(world: &World, signer: &Signer) -> KeyState {
    let request = KeysRequest {
        person: signer.person.clone(),
    };
    world.sam.keys(request).await.unwrap().keys[0].state
}

// shows: I-7.1.4.7-alert-starts-countermeasure
#[tokio::test(flavor = "multi_thread")]
async fn a_guard_stops_a_key_at_once_and_two_officers_let_it_go_on() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let hashes = [hash(1)];
        let rid = world.prepare(&signer, &hashes).await;
        let act = world.open(rid).await;
        let id = signer.keys[0].key.clone();
        // Nobody else has that door, and the guard has no other.
        for peer in [SSA, GATEWAY, "", "unknown.test"] {
            assert_eq!(stop(&world, peer, key(&id)).await, Err(Refusal::NotFound));
        }
        let about = world
            .sam
            .ask_as::<About>(GUARD, &sam_api::ssa::Empty {})
            .await;
        assert_eq!(about.err(), Some(Refusal::NotFound));
        assert_eq!(state(&world, &signer).await, KeyState::Active);

        stop(&world, GUARD, key(&id)).await.unwrap();
        assert_eq!(state(&world, &signer).await, KeyState::Suspended);
        let proof = signer.passkey.prove(act).unwrap();
        assert!(world.approve(proof).await.is_err(), "what was open is over");
        // Again is nothing; what isn't there is a refusal, and recorded.
        stop(&world, GUARD, key(&id)).await.unwrap();
        let none = KeyId::parse("nobodys").unwrap();
        assert_eq!(
            stop(&world, GUARD, key(&none)).await,
            Err(Refusal::NotFound)
        );
        assert_eq!(world.audited("guard.stopped", id.as_str()).await, 1);
        assert_eq!(world.audited("key.suspended", id.as_str()).await, 1);
        assert_eq!(world.audited("guard.refused", GUARD).await, 1);
        // A flood of them is some.
        for _ in 0..40 {
            assert!(stop(&world, GUARD, key(&none)).await.is_err());
        }
        let told = world.audited("guard.refused", GUARD).await;
        assert!((2..=10).contains(&told), "{told}");

        let measure = Measure::Key {
            key: id,
            action: KeyAction::Resume,
        };
        world.decide(measure).await.unwrap();
        assert_eq!(state(&world, &signer).await, KeyState::Active);
    }
}

/// A thief with the signer's login stops the key first, and lets it go on when the guard is done.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_guard_stopped_is_not_the_signers_to_let_go_on() {
    for world in worlds().await {
        let signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let id = signer.keys[0].key.clone();
        let changes = world.key(&signer).await.changes;
        world.stop(&signer, changes).await.unwrap();
        assert_eq!(state(&world, &signer).await, KeyState::Suspended);
        stop(&world, GUARD, key(&id)).await.unwrap();
        assert_eq!(world.audited("guard.stopped", id.as_str()).await, 1);
        let stopped = world.key(&signer).await.stop.unwrap();
        assert_eq!(stopped.cause, StopCause::Provider);
        // It is stopped already.
        stop(&world, GUARD, key(&id)).await.unwrap();
        assert_eq!(world.audited("guard.stopped", id.as_str()).await, 1);
    }
}

/// A guard's certificate that was stolen is worth a day's share, on whatever node and after however many restarts.
#[tokio::test(flavor = "multi_thread")]
async fn a_guard_ends_no_more_than_a_days_share_of_sessions() {
    let [world, _] = worlds().await;
    let mut officers = world.officers().await;
    let mut ended = 0;
    for _ in 0..12 {
        let session = world
            .log_in(&mut officers.devices[0])
            .await
            .unwrap()
            .session;
        let session = sha256(&[b"natsuin-office-session-v1\n", session.expose()]);
        match stop(&world, GUARD, GuardRequest::Session { session }).await {
            Ok(()) => ended += 1,
            Err(refusal) => assert_eq!(refusal, Refusal::NotNow),
        }
        // The node's own share isn't what ends it.
        world.clock.advance(720);
    }
    assert_eq!(ended, 10);
    assert_eq!(world.audited("guard.refused", GUARD).await, 2);
    // Keys are counted apart.
    let signer = world.enrol("p", false, &[KeyAlg::P256]).await;
    stop(&world, GUARD, key(&signer.keys[0].key)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_that_is_misused_stops_a_few_and_then_waits() {
    let [world, _] = worlds().await;
    let mut signers = Vec::new();
    for n in 0..7 {
        signers.push(world.enrol(&format!("p-{n}"), false, &[KeyAlg::P256]).await);
    }
    let mut stopped = 0;
    for signer in &signers {
        match stop(&world, GUARD, key(&signer.keys[0].key)).await {
            Ok(()) => stopped += 1,
            Err(refusal) => assert_eq!(refusal, Refusal::NotNow),
        }
    }
    assert_eq!(stopped, 5);
    assert_eq!(world.audited("guard.refused", GUARD).await, 2);
    world.clock.advance(720);
    stop(&world, GUARD, key(&signers[5].keys[0].key))
        .await
        .unwrap();
    assert_eq!(state(&world, &signers[6]).await, KeyState::Active);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_ends_an_officers_session_and_no_other() {
    for world in worlds().await {
        let mut officers = world.officers().await;
        let [first, second, ..] = officers.devices.as_mut_slice() else {
            panic!("two officers")
        };
        let (one, two) = (
            world.log_in(first).await.unwrap().session,
            world.log_in(second).await.unwrap().session,
        );
        let works = async |session: &core_types::SecretBytes| {
            let request = SessionRequest {
                session: session.clone(),
            };
            world
                .office::<State>(&request)
                .await
                .map(drop)
                .map_err(|r| r.code)
        };
        assert!(works(&one).await.is_ok() && works(&two).await.is_ok());
        let session = sha256(&[b"natsuin-office-session-v1\n", one.expose()]);
        stop(&world, GUARD, GuardRequest::Session { session })
            .await
            .unwrap();
        assert_eq!(works(&one).await, Err(SapRefusalCode::Expired));
        assert!(works(&two).await.is_ok());
        let unknown = GuardRequest::Session {
            session: Digest32([1; 32]),
        };
        assert_eq!(stop(&world, GUARD, unknown).await, Err(Refusal::NotFound));
        assert_eq!(
            world.audited("guard.stopped", &session.to_string()).await,
            1
        );
    }
}
