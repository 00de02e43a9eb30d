//! One-time codes that the SAM sends to signers itself, past the SSA: for one key and client, once, with the PIN
//! (`sap.md` §10, §14: 10, 11, 48).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use core_types::{ClientId, Level, PersonId, SecretBytes};
use futures_util::future::join_all;
use sam_api::Refusal;
use sam_api::delivery::{DeliverRequest, TellRequest};
use sam_api::ssa::*;
use sam_service::{Courier, Delivering, Undelivered};
use sap::enrol::{CodeAddress, Invite};

use crate::explicit::{APP_PIN, enrol, enrol_at, request, sign};
use crate::kit::*;

/// Keeps what it was given.
#[derive(Default)]
struct Letters {
    kept: Mutex<Vec<DeliverRequest>>,
    down: AtomicBool,
}

impl Courier for Letters {
    fn deliver<'a>(&'a self, request: &'a DeliverRequest) -> Delivering<'a> {
        Box::pin(async move {
            if self.down.load(Ordering::SeqCst) {
                return Err(Undelivered::Later);
            }
            self.kept.lock().unwrap().push(request.clone());
            Ok(())
        })
    }

    fn tell<'a>(&'a self, _: &'a TellRequest) -> Delivering<'a> {
        Box::pin(async { Err(Undelivered::Later) })
    }
}

impl Letters {
    fn of(world: &World) -> Arc<Self> {
        let letters = Arc::new(Self::default());
        world.sam.send_codes_by(letters.clone());
        letters
    }

    fn last(&self) -> SecretBytes {
        self.kept.lock().unwrap().last().unwrap().code.clone()
    }
}

fn mail() -> Option<CodeAddress> {
    Some(CodeAddress::Mail("hanako@example.jp".into()))
}

fn wish(person: &str, key: &KeyInfo) -> SendCodeRequest {
    SendCodeRequest {
        person: PersonId::parse(person).unwrap(),
        key: key.key.clone(),
        client: client(),
    }
}

// shows: I-3.5.2-L1-key-auth-delegated, T-USE-SAP-REPLAY, T-USE-CRED-FORGE, T-USE-CAPTURE
#[tokio::test(flavor = "multi_thread")]
async fn a_sent_code_authorizes_one_key_of_one_client_once() {
    for world in worlds().await {
        let (unannounced, _) = enrol_at(&world, "p", mail()).await;
        assert!(!unannounced.codes, "nobody brings codes yet");
        let early = world.sam.send_code(SSA, wish("p", &unannounced)).await;
        assert_eq!(early.unwrap_err(), Refusal::Mismatch);
        let letters = Letters::of(&world);
        let (key, seed) = enrol_at(&world, "p", mail()).await;
        world.sam.send_code(SSA, wish("p", &key)).await.unwrap();
        let code = letters.last();
        assert_eq!(code.len(), 8);
        let told = letters.kept.lock().unwrap()[0].clone();
        assert_eq!((Some(told.to), &*told.client), (mail(), "Known client"));
        // Without the PIN, for another key, and for another client it is nothing.
        let wrong = request("p", &key, "wrong-pin-1", code.clone(), "t0");
        let other = request("p", &unannounced, APP_PIN, code.clone(), "t0");
        let mut foreign = request("p", &key, APP_PIN, code.clone(), "t0");
        foreign.client = ClientId::parse("client-2").unwrap();
        for refused in [wrong, other, foreign] {
            let refused = world.sam.explicit(SSA, refused).await.unwrap_err();
            assert_eq!(refused, Refusal::SecretWrong);
        }
        let asked = request("p", &key, APP_PIN, code.clone(), "t1");
        world.sam.explicit(SSA, asked).await.unwrap();
        let value = sign(&world, &key, "t1", hash(1)).await.unwrap();
        assert!(verifies(&key, &hash(1), &value.signatures[0]));
        let again = request("p", &key, APP_PIN, code.clone(), "t2");
        let refused = world.sam.explicit(SSA, again).await.unwrap_err();
        assert_eq!(refused, Refusal::SecretWrong);
        // Codes of the app go on.
        let asked = request("p", &key, APP_PIN, world.otp(&seed, 0), "t3");
        world.sam.explicit(SSA, asked).await.unwrap();
        // A newer one ends the older, and time ends each.
        world.clock.advance(60);
        world.sam.send_code(SSA, wish("p", &key)).await.unwrap();
        let older = letters.last();
        world.clock.advance(60);
        world.sam.send_code(SSA, wish("p", &key)).await.unwrap();
        let late = letters.last();
        let asked = request("p", &key, APP_PIN, older, "t4");
        world.sam.explicit(SSA, asked).await.unwrap_err();
        world.clock.advance(300);
        let asked = request("p", &key, APP_PIN, late.clone(), "t5");
        world.sam.explicit(SSA, asked).await.unwrap_err();
        // No log holds a code or where it went.
        let text = world.audit_text().await.join("\n");
        assert_eq!(world.audited("code.sent", "").await, 3);
        for secret in [&code, &late] {
            let secret = std::str::from_utf8(secret.expose()).unwrap();
            assert!(!text.contains(secret) && !text.contains("hanako@"));
        }
    }
}

// shows: T-USE-SAP-REPLAY
#[tokio::test(flavor = "multi_thread")]
async fn a_sent_code_is_used_once_however_many_ask() {
    for world in worlds().await {
        let letters = Letters::of(&world);
        let (key, _) = enrol_at(&world, "p", mail()).await;
        world.sam.send_code(SSA, wish("p", &key)).await.unwrap();
        let other = world.node("sam-2").await;
        let calls = (0..4).map(|n| {
            let asked = request("p", &key, APP_PIN, letters.last(), &format!("t{n}"));
            let sam = if n % 2 == 0 { &world.sam } else { &other };
            let sam = sam.clone();
            tokio::spawn(async move { sam.explicit(SSA, asked).await })
        });
        let outcomes = join_all(calls).await;
        let good = outcomes.into_iter().filter(|o| o.as_ref().unwrap().is_ok());
        assert_eq!(good.count(), 1);
    }
}

// shows: I-7.1.2.5-authentication-failure-lockout, T-USE-CRED-FORGE
#[tokio::test(flavor = "multi_thread")]
async fn codes_go_to_addresses_of_an_ra_only_and_not_without_end() {
    for world in worlds().await {
        let letters = Letters::of(&world);
        let phone = CodeAddress::Phone("+819012345678".into());
        let (key, seed) = enrol_at(&world, "p", Some(phone)).await;
        let (none, _) = enrol(&world, "p").await;
        let own = world.enrol("r", true, &[core_types::KeyAlg::P256]).await;
        assert!(!none.codes && !own.keys[0].codes);
        for (person, key, refusal) in [
            ("p", &none, Refusal::Mismatch),
            ("r", &own.keys[0], Refusal::Mismatch),
            ("q", &key, Refusal::NotFound),
        ] {
            let refused = world.sam.send_code(SSA, wish(person, key)).await;
            assert_eq!(refused.unwrap_err(), refusal);
        }
        let foreign = world.sam.send_code("other-ssa.test", wish("p", &key)).await;
        assert_eq!(foreign.unwrap_err(), Refusal::NotFound);
        // What isn't delivered is told, and doesn't open a way to send more.
        letters.down.store(true, Ordering::SeqCst);
        let lost = world.sam.send_code(SSA, wish("p", &key)).await;
        assert_eq!(lost.unwrap_err(), Refusal::NotNow);
        assert_eq!(world.audited("code.not-sent", "").await, 1);
        letters.down.store(false, Ordering::SeqCst);
        let soon = world.sam.send_code(SSA, wish("p", &key)).await;
        assert_eq!(soon.unwrap_err(), Refusal::Locked);
        for _ in 0..2 {
            world.clock.advance(61);
            world.sam.send_code(SSA, wish("p", &key)).await.unwrap();
            // Whoever asks again at once is told that it is on its way.
            world.sam.send_code(SSA, wish("p", &key)).await.unwrap();
        }
        let own = letters.last();
        assert_eq!(letters.kept.lock().unwrap().len(), 2);
        world.clock.advance(61);
        let many = world.sam.send_code(SSA, wish("p", &key)).await;
        assert_eq!(many.unwrap_err(), Refusal::Locked);
        // Another client gets its own, and doesn't end this one's.
        let of = |client| SendCodeRequest {
            client: ClientId::parse(client).unwrap(),
            ..wish("p", &key)
        };
        for _ in 0..3 {
            world.sam.send_code(SSA, of("client-2")).await.unwrap();
            world.clock.advance(61);
        }
        for client in ["client-2", "client-3"] {
            let many = world.sam.send_code(SSA, of(client)).await;
            assert_eq!(many.unwrap_err(), Refusal::Locked);
        }
        let asked = request("p", &key, APP_PIN, own, "own");
        world.sam.explicit(SSA, asked).await.unwrap();
        // Guessing them is counted like guessing all else.
        for n in 0..10 {
            let guess = SecretBytes::from(format!("{n:08}"));
            let asked = request("p", &key, APP_PIN, guess, &format!("t{n}"));
            world.sam.explicit(SSA, asked).await.unwrap_err();
        }
        let asked = request("p", &key, APP_PIN, world.otp(&seed, 0), "t");
        let refused = world.sam.explicit(SSA, asked).await.unwrap_err();
        assert_eq!(refused, Refusal::Locked);
        // The SSA can't have codes sent to itself.
        let invite = Invite {
            voucher: core_types::VoucherId::parse("v-evil").unwrap(),
            tenant: world.config.tenant.clone(),
            person: PersonId::parse("victim").unwrap(),
            subject: subject("victim"),
            assurance: "mail-only".into(),
            ceiling: Level::One,
            keys: vec![core_types::KeyAlg::P256],
            exp: core_types::Clock::now(&*world.clock).plus(3600),
            secret: core_types::sha256(&[&[5; 16]]),
            replaces: None,
            collected: true,
            codes: mail(),
            notices: None,
            exportable: false,
            one_time: false,
        };
        let by = |invite: &Invite| VoucherRequest::Ssa {
            invite: Box::new(invite.clone()),
            return_uri: RETURN.into(),
        };
        let refused = world.sam.voucher(SSA, by(&invite)).await.unwrap_err();
        let member = "codes".to_owned();
        assert_eq!(refused, Refusal::Invalid { member });
        let without = Invite {
            codes: None,
            ..invite
        };
        world.sam.voucher(SSA, by(&without)).await.unwrap();
    }
}
