//! What CAs publish about certificates of keys: judged by the CA's own signature, whoever brings it.

use core_types::{B64, KeyAlg, KeyId};
use pki::Certificate;
use pki::ocsp::{CertId, OcspRequest};
use sam_api::Refusal;
use sam_api::guard::GuardRequest;
use sam_api::ssa::*;
use sap::office::{KeyAction, Measure};

use crate::kit::*;

fn certificate(signer: &Signer) -> Certificate {
    Certificate::parse(&signer.keys[0].chain[0].0).unwrap()
}

pub fn serial(signer: &Signer) -> String {
    certificate(signer).info().serial
}

impl World {
    pub fn crl(&self) -> Published {
        Published::Crl(B64(self.ca.crl().unwrap()))
    }

    pub fn ocsp(&self, signer: &Signer) -> Published {
        let id = CertId::new(self.ca.issuing_ca(), certificate(signer).serial(), None);
        let request = OcspRequest {
            certificates: vec![id],
            nonce: None,
        };
        Published::Ocsp(B64(self.ca.ocsp(&request.encode())))
    }

    pub async fn published(&self, signer: &Signer, published: Published) -> Result<Empty, Refusal> {
        let key = signer.keys[0].key.clone();
        let request = RevocationRequest { key, published };
        self.sam.revocation(SSA, request).await
    }
}

// shows: I-A4.2-revocation-prompt-destruction, I-4.2.2c-termination-causes, T-KEY-ABUSE, T-TERM-NOT-OWNER
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_its_ca_revoked_ends_the_key_at_once() {
    for world in worlds().await {
        for by_ocsp in [false, true] {
            let name = if by_ocsp { "q" } else { "p" };
            let mut signer = world.enrol(name, false, &[KeyAlg::P256]).await;
            let other = world.enrol("r", false, &[KeyAlg::P256]).await;
            let say = |world: &World, signer: &Signer| match by_ocsp {
                true => world.ocsp(signer),
                false => world.crl(),
            };
            let good = say(&world, &signer);
            world.published(&signer, good).await.unwrap();
            assert_eq!(world.key(&signer).await.state, KeyState::Active);
            let token = world.approved(&mut signer, &[hash(1)]).await;
            world.ca.revoke(&serial(&signer), 1).unwrap();
            let revoked = say(&world, &signer);
            // Another node looks; this one signs nothing any more.
            let node = world.node(&format!("sam-{name}")).await;
            let request = RevocationRequest {
                key: signer.keys[0].key.clone(),
                published: revoked.clone(),
            };
            let elsewhere = node.revocation("other-ssa.test", request.clone()).await;
            assert_eq!(elsewhere.unwrap_err(), Refusal::NotFound);
            node.revocation(SSA, request).await.unwrap();
            let refused = world.sign(&signer, &token, &[hash(1)]).await;
            assert_eq!(refused.unwrap_err(), Refusal::KeyNotActive);
            world.sam.maintain().await.unwrap();
            let key = world.key(&signer).await;
            assert_eq!(key.state, KeyState::Destroyed);
            let stop = key.stop.unwrap();
            assert_eq!(stop.cause, StopCause::Revoked);
            assert!(stop.certificate.is_some(), "the module said so");
            assert_eq!(world.history(&signer).await[0].what, Happened::Destroyed);
            // It says nothing about anybody else's key, and again nothing new about this one.
            if by_ocsp {
                let refused = world.published(&other, revoked.clone()).await;
                assert_eq!(refused.unwrap_err(), Refusal::RegistrationRefused);
            }
            world.published(&signer, revoked).await.unwrap();
            assert_eq!(world.key(&other).await.state, KeyState::Active);
        }
        assert_eq!(world.audited("revocation.heeded", "revoked").await, 2);
    }
}

// shows: I-4.2.2c-termination-causes, T-TERM-REPLAY, T-INS-OPERATOR
#[tokio::test(flavor = "multi_thread")]
async fn a_hold_stops_until_its_ca_says_otherwise_and_no_older_word_lifts_it() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let stale = world.crl();
        world.clock.advance(10);
        world.ca.revoke(&serial(&signer), 6).unwrap();
        world.published(&signer, world.ocsp(&signer)).await.unwrap();
        let key = world.key(&signer).await;
        let (state, cause) = (key.state, key.stop.map(|stop| stop.cause));
        assert_eq!((state, cause), (KeyState::Suspended, Some(StopCause::Hold)));
        let resume = Wish::Resume {
            key: signer.keys[0].key.clone(),
        };
        assert!(world.ask(&signer, resume).await.is_err());
        let watched = world.sam.watched(SSA, WatchedRequest { after: None });
        assert!(watched.await.unwrap().certificates[0].held);
        world.published(&signer, world.crl()).await.unwrap();
        assert_eq!(world.audited("revocation.heeded", "").await, 1, "no news");
        // A hostile SSA keeps the list from before, which is still in force.
        let refused = world.published(&signer, stale).await.unwrap_err();
        assert_eq!(refused, Refusal::Used);
        assert_eq!(world.key(&signer).await.state, KeyState::Suspended);
        world.clock.advance(10);
        world.ca.release(&serial(&signer)).unwrap();
        world.published(&signer, world.crl()).await.unwrap();
        assert_eq!(world.key(&signer).await.state, KeyState::Active);
        let token = world.approved(&mut signer, &[hash(1)]).await;
        assert!(world.sign(&signer, &token, &[hash(1)]).await.is_ok());
        let told: Vec<_> = world.history(&signer).await;
        assert_eq!(told[0].what, Happened::Resumed);
        assert_eq!(told[1].what, Happened::Suspended);
    }
}

// shows: I-4.2.2c-termination-causes, T-TERM-NOT-OWNER
#[tokio::test(flavor = "multi_thread")]
async fn a_hold_is_lifted_as_published_under_the_providers_stop_which_stays() {
    for world in worlds().await {
        let signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let key = signer.keys[0].key.clone();
        world.clock.advance(10);
        world.ca.revoke(&serial(&signer), 6).unwrap();
        world.published(&signer, world.crl()).await.unwrap();
        let stop = GuardRequest::Key { key: key.clone() };
        world.sam.guard_stop(GUARD, stop).await.unwrap();
        let watched = world.sam.watched(SSA, WatchedRequest { after: None });
        assert!(watched.await.unwrap().certificates[0].held);
        world.published(&signer, world.crl()).await.unwrap();
        assert_eq!(world.audited("revocation.heeded", "").await, 1, "no news");
        world.clock.advance(10);
        world.ca.release(&serial(&signer)).unwrap();
        world.published(&signer, world.crl()).await.unwrap();
        let stop = world.key(&signer).await.stop.unwrap();
        assert_eq!(stop.cause, StopCause::Provider);
        let resume = Measure::Key {
            key,
            action: KeyAction::Resume,
        };
        world.decide(resume).await.unwrap();
        assert_eq!(world.key(&signer).await.state, KeyState::Active);
    }
}

// shows: T-TERM-NOT-OWNER, T-INS-OPERATOR
#[tokio::test(flavor = "multi_thread")]
async fn what_no_ca_of_the_key_said_stops_and_lifts_nothing() {
    for world in worlds().await {
        let signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let unknown = RevocationRequest {
            key: KeyId::parse("no-such-key").unwrap(),
            published: world.crl(),
        };
        let refused = world.sam.revocation(SSA, unknown).await.unwrap_err();
        assert_eq!(refused, Refusal::NotFound);
        // Of another CA that has the same number, of the root, edited, cut, empty, too old.
        let dir = tempfile::tempdir().unwrap();
        let urls = world.ca.urls().clone();
        let random = std::sync::Arc::new(core_types::random::SystemRandom);
        let other = dev_ca::DevCa::open(dir.path(), urls, world.clock.clone(), random).unwrap();
        let Published::Crl(own) = world.crl() else {
            unreachable!()
        };
        let mut edited = own.0.clone();
        let middle = edited.len() / 2;
        edited[middle] ^= 1;
        for der in [
            other.crl().unwrap(),
            world.ca.root_crl().unwrap(),
            edited,
            own.0[..own.0.len() - 1].to_vec(),
            Vec::new(),
        ] {
            for published in [Published::Crl(B64(der.clone())), Published::Ocsp(B64(der))] {
                let refused = world.published(&signer, published).await.unwrap_err();
                assert_eq!(refused, Refusal::RegistrationRefused);
            }
        }
        world.clock.advance(2 * 24 * 3600);
        let refused = world.published(&signer, Published::Crl(own)).await;
        assert_eq!(refused.unwrap_err(), Refusal::RegistrationRefused);
        assert_eq!(world.key(&signer).await.state, KeyState::Active);
        assert_eq!(world.audited("revocation.refused", "").await, 12);

        // An authority's hold isn't lifted by a list that never had it, nor taken over by one that has.
        let notice = crate::life::notice(&world, &signer, sap::manage::NoticeEffect::Hold, 1);
        let notice = world.ra.notice(&notice).unwrap();
        world
            .sam
            .notice(SSA, NoticeRequest { notice })
            .await
            .unwrap();
        world.clock.advance(10);
        world.published(&signer, world.crl()).await.unwrap();
        world.ca.revoke(&serial(&signer), 6).unwrap();
        world.published(&signer, world.crl()).await.unwrap();
        world.ca.release(&serial(&signer)).unwrap();
        world.clock.advance(10);
        world.published(&signer, world.crl()).await.unwrap();
        assert_eq!(world.key(&signer).await.state, KeyState::Suspended);
        assert_eq!(world.audited("revocation.heeded", "").await, 0);
    }
}
