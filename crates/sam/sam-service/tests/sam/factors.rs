//! Changing factors: who may, what stays, what is told (`sap.md` §9; §14, 6, 10, 52).

use core_types::{Digest32, FactorId, KeyAlg, Level, SecretBytes};
use jose::{JweContext, SealKey};
use sam_api::Refusal;
use sam_api::ssa::*;
use sap::enrol::SealedSeed;
use sap::messages::*;
use sap::proof::Method;
use sap::{NewFactor, SealedFactor, TYP_SEED, act_digest};
use soft_passkey::SoftPasskey;

use crate::kit::*;

const NEW_PIN: &str = "canary-pin-green-crane";

fn add(signer: &Signer, method: Method) -> Wish {
    Wish::AddFactor {
        registration: signer.keys[0].registration.clone(),
        method,
    }
}

fn new_passkey(passkey: &mut SoftPasskey, act: Digest32) -> Option<NewFactor> {
    Some(NewFactor::Passkey {
        registration: passkey.register(act).unwrap(),
    })
}

impl World {
    async fn new_pin(
        &self,
        act: Digest32,
        pin: &str,
        otp: Option<SecretBytes>,
    ) -> Option<NewFactor> {
        let plain = SealedFactor {
            act,
            new_pin: SecretBytes::from(pin.to_owned()),
            otp,
        };
        Some(NewFactor::PinTotp {
            sealed: self.seal(act, &plain).await,
        })
    }

    async fn factor_seed(&self, act: Digest32) -> Result<SecretBytes, SapRefusal> {
        let (page, _) = SealKey::generate().unwrap();
        let key = page.public().clone();
        let answer = self.sam.factor_seed(FactorSeedRequest { act, key }).await?;
        let context = JweContext {
            typ: TYP_SEED,
            apu: act,
        };
        let plain = page.open(&answer.sealed, context).unwrap();
        let plain: SealedSeed = serde_json::from_slice(plain.expose()).unwrap();
        Ok(SecretBytes::new(from_base32(plain.seed.expose())))
    }

    async fn factor_of(&self, signer: &Signer, method: Method) -> FactorId {
        let factors = self.factors(signer).await;
        factors
            .into_iter()
            .find(|f| f.method == method)
            .unwrap()
            .factor
    }

    async fn signs(&self, signer: &Signer, passkey: &mut SoftPasskey, n: u32) -> bool {
        let act = self.open(self.prepare(signer, &[hash(n)]).await).await;
        self.approve(passkey.prove(act).unwrap()).await.is_ok()
    }
}

// shows: II-3.1.1-signer-data-protected, T-REG-IMPERSONATE
#[tokio::test(flavor = "multi_thread")]
async fn a_passkey_adds_another_and_the_old_one_can_go() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let mut fresh = passkey();
        let act = world.change(&signer, add(&signer, Method::Passkey)).await;
        // Nothing is added without the new one, with another's challenge, or by the new one's own proof.
        let proof = signer.passkey.prove(act).unwrap();
        assert!(world.approve(proof.clone()).await.is_err());
        let foreign = new_passkey(&mut fresh, Digest32([9; 32]));
        assert!(world.approve_with(proof.clone(), foreign).await.is_err());
        let own = fresh.prove(act).unwrap();
        let new = new_passkey(&mut fresh, act);
        assert!(world.approve_with(own, new.clone()).await.is_err());
        assert_eq!(world.factors(&signer).await.len(), 1);
        let old = world.factor_of(&signer, Method::Passkey).await;

        world.clock.advance(1);
        world.approve_with(proof, new).await.unwrap();
        assert_eq!(world.factors(&signer).await.len(), 2);
        assert!(world.signs(&signer, &mut fresh, 1).await);
        // The same credential can't be registered again, for this or another person.
        let act = world.change(&signer, add(&signer, Method::Passkey)).await;
        let proof = signer.passkey.prove(act).unwrap();
        let again = new_passkey(&mut fresh, act);
        assert!(world.approve_with(proof, again).await.is_err());

        // An act opened before the removal dies with the factor.
        let opened = world.open(world.prepare(&signer, &[hash(2)]).await).await;
        let late = signer.passkey.prove(opened).unwrap();
        let remove = Wish::RemoveFactor { factor: old };
        let act = world.change(&signer, remove).await;
        world.approve(fresh.prove(act).unwrap()).await.unwrap();
        assert!(world.approve(late).await.is_err());
        let mut lost = signer.passkey;
        signer.passkey = passkey();
        assert!(!world.signs(&signer, &mut lost, 3).await);
        assert!(world.signs(&signer, &mut fresh, 4).await);
        // The last one stays: who wants none any more leaves.
        let last = world.factor_of(&signer, Method::Passkey).await;
        let refused = world
            .ask(&signer, Wish::RemoveFactor { factor: last })
            .await;
        assert_eq!(
            refused.unwrap_err(),
            Refusal::Invalid {
                member: "last-factor".into()
            }
        );
        let told: Vec<_> = world
            .history(&signer)
            .await
            .iter()
            .map(|e| e.what)
            .collect();
        use Happened::{Enrolled, FactorAdded, FactorRemoved};
        assert_eq!(told, [FactorRemoved, FactorAdded, Enrolled]);
        assert_eq!(world.audited("factor.added", "").await, 1);
        assert_eq!(world.audited("factor.removed", "").await, 1);
    }
}

// shows: II-3.1.1-signer-data-protected
#[tokio::test(flavor = "multi_thread")]
async fn two_removals_at_once_leave_one_factor() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let first = world.factor_of(&signer, Method::Passkey).await;
        let mut other = passkey();
        let act = world.change(&signer, add(&signer, Method::Passkey)).await;
        let new = new_passkey(&mut other, act);
        let proof = signer.passkey.prove(act).unwrap();
        world.approve_with(proof, new).await.unwrap();
        let factors = world.factors(&signer).await;
        let second = factors.iter().find(|f| f.factor != first).unwrap();
        // Each is removed by its own proof.
        let mut proofs = Vec::new();
        for (factor, passkey) in [
            (first.clone(), &mut signer.passkey),
            (second.factor.clone(), &mut other),
        ] {
            let wish = Wish::RemoveFactor { factor };
            let request = AskRequest {
                person: signer.person.clone(),
                wish,
                return_uri: RETURN.into(),
                ttl: 600,
            };
            let rid = world.sam.ask(SSA, request).await.unwrap().rid;
            let act = world.open(rid).await;
            proofs.push((rid, passkey.prove(act).unwrap()));
        }
        let [(_, fast), (rid, slow)] = <[_; 2]>::try_from(proofs).unwrap();
        let done = if world.store.dialect() == store_kit::Dialect::Postgres {
            // The slow one has read the factors and waits for its request's row, while the fast one does it all.
            let held = Held::row_of(&world, rid).await;
            let (sam, late) = (world.sam.clone(), slow);
            let slow = tokio::spawn(async move {
                let request = ApproveRequest {
                    proof: late,
                    new: None,
                };
                sam.approve(request).await
            });
            let held = held.until_somebody_waits().await;
            let fast = world.approve(fast).await;
            drop(held);
            [fast, slow.await.unwrap()]
        } else {
            let (fast, slow) = tokio::join!(world.approve(fast), world.approve(slow));
            [fast, slow]
        };
        assert_eq!(done.iter().filter(|d| d.is_ok()).count(), 1, "{done:?}");
        assert_eq!(world.factors(&signer).await.len(), 1);
    }
}

/// Keeps a request's row locked until it is dropped.
struct Held {
    asked: tokio::sync::mpsc::Sender<tokio::sync::oneshot::Sender<()>>,
}

impl Held {
    async fn row_of(world: &World, rid: Digest32) -> Self {
        let id = core_types::sha256(&[b"natsuin-request-v1\n", &rid.0]).to_string();
        let (asked, mut questions) =
            tokio::sync::mpsc::channel::<tokio::sync::oneshot::Sender<()>>(1);
        let (locked, ready) = tokio::sync::oneshot::channel();
        let store = world.store.store.clone();
        tokio::spawn(async move {
            let mut locked = Some(locked);
            let done: Result<(), store_kit::StoreError> = store_kit::transaction!(
                store,
                "hold",
                |tx| {
                    let lock = "UPDATE request SET stamp = stamp WHERE id = $1";
                    assert_eq!(tx.execute(store_kit::sql(lock).bind(&id)).await?, 1);
                    locked.take().into_iter().for_each(|l| l.send(()).unwrap());
                    while let Some(waiting) = questions.recv().await {
                        let count = "SELECT count(*) AS n FROM pg_locks \
                                     WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))";
                        while tx.fetch_one(store_kit::sql(count)).await?.int("n")? == 0 {
                            tokio::task::yield_now().await;
                        }
                        waiting.send(()).unwrap();
                    }
                    Ok(())
                }
            );
            done.unwrap();
        });
        ready.await.unwrap();
        Self { asked }
    }

    async fn until_somebody_waits(self) -> Self {
        let (waiting, answer) = tokio::sync::oneshot::channel();
        self.asked.send(waiting).await.unwrap();
        answer.await.unwrap();
        self
    }
}

// shows: II-3.1.1-signer-data-protected, T-INS-ACTIVATION
#[tokio::test(flavor = "multi_thread")]
async fn a_weaker_factor_changes_no_stronger_one() {
    for world in worlds().await {
        let mut signer = world.enrol("p", true, &[KeyAlg::P256]).await;
        let seed = signer.seed.clone().unwrap();
        world.clock.advance(60);
        let strong = world.factor_of(&signer, Method::Passkey).await;
        let act = world.change(&signer, add(&signer, Method::Passkey)).await;
        let proof = world.pin_proof(act, PIN, world.otp(&seed, 0)).await;
        let new = new_passkey(&mut passkey(), act);
        assert_eq!(
            world.approve_with(proof, new).await.unwrap_err().code,
            SapRefusalCode::Refused
        );
        world.clock.advance(60);
        let removal = world
            .ask(&signer, Wish::RemoveFactor { factor: strong })
            .await
            .unwrap();
        let answer = world.sam.open(OpenRequest { rid: removal }).await.unwrap();
        assert_eq!(
            answer.methods,
            [Method::Passkey],
            "the page isn't offered the weaker way"
        );
        let act = act_digest(&answer.act);
        let proof = world.pin_proof(act, PIN, world.otp(&seed, 0)).await;
        assert!(world.approve(proof).await.is_err());
        assert_eq!(world.factors(&signer).await.len(), 2);
        // The stronger one may remove the weaker.
        let factor = world.factor_of(&signer, Method::PinTotp).await;
        world
            .changed(Wish::RemoveFactor { factor }, &mut signer)
            .await
            .unwrap();
        assert_eq!(world.factors(&signer).await.len(), 1);
    }
}

// shows: II-3.1.1-signer-data-protected
#[tokio::test(flavor = "multi_thread")]
async fn pin_and_codes_are_added_and_the_pin_is_changed() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        // A registration of level 1 admits them.
        let act = world.change(&signer, add(&signer, Method::PinTotp)).await;
        let seed = world.factor_seed(act).await.unwrap();
        assert_eq!(
            world.factor_seed(act).await.unwrap_err().code,
            SapRefusalCode::Used
        );
        let wrong = world.new_pin(act, NEW_PIN, Some(world.no_otp(&seed))).await;
        let proof = signer.passkey.prove(act).unwrap();
        assert!(world.approve_with(proof.clone(), wrong).await.is_err());
        let weak = world
            .new_pin(act, "12345678", Some(world.otp(&seed, 0)))
            .await;
        assert!(world.approve_with(proof.clone(), weak).await.is_err());
        let new = world.new_pin(act, NEW_PIN, Some(world.otp(&seed, 0))).await;
        world.approve_with(proof, new).await.unwrap();
        world.clock.advance(60);
        let act = world.open(world.prepare(&signer, &[hash(1)]).await).await;
        let proof = world.pin_proof(act, NEW_PIN, world.otp(&seed, 0)).await;
        world.approve(proof).await.unwrap();

        // The PIN's own proof changes it; the old one doesn't count any more.
        world.clock.advance(60);
        let factor = world.factor_of(&signer, Method::PinTotp).await;
        let act = world.change(&signer, Wish::ChangePin { factor }).await;
        let proof = world.pin_proof(act, NEW_PIN, world.otp(&seed, 0)).await;
        let new = world.new_pin(act, PIN, None).await;
        world.approve_with(proof, new).await.unwrap();
        world.clock.advance(60);
        let act = world.open(world.prepare(&signer, &[hash(2)]).await).await;
        let old = world.pin_proof(act, NEW_PIN, world.otp(&seed, 0)).await;
        assert!(world.approve(old).await.is_err());
        world.clock.advance(60);
        let proof = world.pin_proof(act, PIN, world.otp(&seed, 0)).await;
        world.approve(proof).await.unwrap();
        assert_eq!(world.audited("factor.changed", "").await, 1);
        // No second one beside it.
        assert!(
            world
                .changed(add(&signer, Method::PinTotp), &mut signer)
                .await
                .is_err()
        );
    }
}

// shows: II-3.1.1-signer-data-protected, T-USE-CRED-FORGE
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_pin_is_unlocked_by_another_factor_only() {
    for world in worlds().await {
        let mut signer = world.enrol("p", true, &[KeyAlg::P256]).await;
        let seed = signer.seed.clone().unwrap();
        let factor = world.factor_of(&signer, Method::PinTotp).await;
        let unlock = Wish::UnlockFactor {
            factor: factor.clone(),
        };
        assert!(
            world.ask(&signer, unlock.clone()).await.is_err(),
            "nothing to unlock"
        );
        for _ in 0..10 {
            world.clock.advance(4000);
            let act = world.open(world.prepare(&signer, &[hash(1)]).await).await;
            let wrong = world
                .pin_proof(act, "wrong wrong", world.otp(&seed, 0))
                .await;
            assert!(world.approve(wrong).await.is_err());
        }
        world.clock.advance(100_000);
        let locked = world.factors(&signer).await;
        let locked = locked.iter().find(|f| f.factor == factor).unwrap();
        assert!(locked.locked_until.is_some());
        let act = world.open(world.prepare(&signer, &[hash(1)]).await).await;
        let right = world.pin_proof(act, PIN, world.otp(&seed, 0)).await;
        assert_eq!(
            world.approve(right).await.unwrap_err().code,
            SapRefusalCode::Locked
        );
        // Not by itself.
        let act = world.change(&signer, unlock.clone()).await;
        let itself = world.pin_proof(act, PIN, world.otp(&seed, 0)).await;
        assert!(world.approve(itself).await.is_err());
        world.changed(unlock, &mut signer).await.unwrap();
        world.clock.advance(60);
        let act = world.open(world.prepare(&signer, &[hash(2)]).await).await;
        let right = world.pin_proof(act, PIN, world.otp(&seed, 0)).await;
        world.approve(right).await.unwrap();
        assert_eq!(world.audited("factor.unlocked", "").await, 1);
    }
}

// shows: II-3.1.1-signer-data-protected, T-REG-IMPERSONATE,
// I-A4.1-renewal
#[tokio::test(flavor = "multi_thread")]
async fn all_factors_lost_means_a_new_key_and_the_old_one_gone() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let token = world.approved(&mut signer, &[hash(1)]).await;
        let old = signer.keys[0].registration.clone();
        let mut invitation = world.invitation("p", &[KeyAlg::P256]);
        invitation.replaces = Some(old.clone());
        let (voucher, secret) = world.invite(invitation).await;
        assert_eq!(
            world.key(&signer).await.state,
            KeyState::Active,
            "not before the person came"
        );
        let opened = world.sam.enrol_open(EnrolOpenRequest {
            voucher: voucher.clone(),
        });
        // The act says what ends with it.
        let opened = opened.await.unwrap().act;
        let payload = core_types::bytes::from_b64u(opened.split('.').nth(1).unwrap()).unwrap();
        let said: sap::EnrolAct = serde_json::from_slice::<serde_json::Value>(&payload)
            .map(|mut act| {
                act.as_object_mut().unwrap().remove("kind");
                serde_json::from_value(act).unwrap()
            })
            .unwrap();
        let replaced = said.replaces.unwrap();
        assert_eq!(replaced.registration, old);
        assert_eq!(replaced.keys[0].id, signer.keys[0].key);
        assert_eq!(replaced.keys.len(), 1);
        // What changed meanwhile isn't ended unseen.
        let act = act_digest(&opened);
        let request = EnrolRegisterRequest {
            act,
            sealed: world.seal(act, &world.secrets(act, &secret)).await,
            passkey: Some(passkey().register(act).unwrap()),
            id_token: None,
        };
        let mut second = passkey();
        let more = world.change(&signer, add(&signer, Method::Passkey)).await;
        let new = new_passkey(&mut second, more);
        let proof = signer.passkey.prove(more).unwrap();
        world.approve_with(proof, new).await.unwrap();
        assert!(world.sam.enrol_register(request).await.is_err());
        assert_eq!(world.key(&signer).await.state, KeyState::Active);
        let opened = world.sam.enrol_open(EnrolOpenRequest {
            voucher: voucher.clone(),
        });
        let act = act_digest(&opened.await.unwrap().act);
        let mut fresh = passkey();
        let request = EnrolRegisterRequest {
            act,
            sealed: world.seal(act, &world.secrets(act, &secret)).await,
            passkey: Some(fresh.register(act).unwrap()),
            id_token: None,
        };
        world.sam.enrol_register(request).await.unwrap();
        world.sam.maintain().await.unwrap();
        let keys = world.certify(&voucher).await;
        assert_eq!(keys.len(), 2);
        let (gone, fresh_key) = match keys[0].registration == old {
            true => (&keys[0], &keys[1]),
            false => (&keys[1], &keys[0]),
        };
        let stop = gone.stop.as_ref().unwrap();
        assert_eq!(stop.cause, StopCause::FactorsLost);
        assert!(stop.certificate.is_some());
        assert_eq!(fresh_key.state, KeyState::Active);
        assert_eq!(
            world.sign(&signer, &token, &[hash(1)]).await.unwrap_err(),
            Refusal::KeyNotActive
        );
        let factors = world.factors(&signer).await;
        assert!(factors.iter().all(|f| f.registration == voucher));
        signer.keys = vec![fresh_key.clone()];
        assert!(world.signs(&signer, &mut fresh, 2).await);
        let mut lost = signer.passkey;
        signer.passkey = passkey();
        assert!(!world.signs(&signer, &mut lost, 3).await);

        // The SSA can't say that anything was lost.
        let invite = sap::enrol::Invite {
            voucher: core_types::VoucherId::parse("v-evil").unwrap(),
            tenant: world.config.tenant.clone(),
            person: signer.person.clone(),
            subject: subject("p"),
            assurance: "mail-only".into(),
            ceiling: Level::One,
            keys: vec![KeyAlg::P256],
            exp: START.plus(3600),
            secret: core_types::sha256(&[&[5; 16]]),
            replaces: Some(voucher),
            collected: false,
            codes: None,
            notices: None,
            exportable: false,
            one_time: false,
        };
        let request = VoucherRequest::Ssa {
            invite: Box::new(invite),
            return_uri: RETURN.into(),
        };
        assert!(world.sam.voucher(SSA, request).await.is_err());
    }
}

// shows: I-4.2.2c-termination-causes
#[tokio::test(flavor = "multi_thread")]
async fn no_key_is_made_for_a_registration_that_has_ended() {
    for world in worlds().await {
        // Enrolled, and the keys were never asked for.
        let enrolled = async |replaces: Option<core_types::VoucherId>| {
            let mut invitation = world.invitation("p", &[KeyAlg::P256]);
            invitation.replaces = replaces;
            let (voucher, secret) = world.invite(invitation).await;
            let opened = world.sam.enrol_open(EnrolOpenRequest {
                voucher: voucher.clone(),
            });
            let act = act_digest(&opened.await.unwrap().act);
            let mut passkey = passkey();
            let request = EnrolRegisterRequest {
                act,
                sealed: world.seal(act, &world.secrets(act, &secret)).await,
                passkey: Some(passkey.register(act).unwrap()),
                id_token: None,
            };
            world.sam.enrol_register(request).await.unwrap();
            (voucher, passkey)
        };
        let dead = async |voucher: &core_types::VoucherId| {
            let answer = world.enrolment(voucher).await;
            assert!(matches!(answer, EnrolmentAnswer::Dead {}), "{answer:?}");
        };
        let (first, _) = enrolled(None).await;
        let (second, mut passkey) = enrolled(Some(first.clone())).await;
        dead(&first).await;
        let request = AskRequest {
            person: core_types::PersonId::parse("p").unwrap(),
            wish: Wish::Leave {
                registration: second.clone(),
            },
            return_uri: RETURN.into(),
            ttl: 600,
        };
        let rid = world.sam.ask(SSA, request).await.unwrap().rid;
        let act = world.open(rid).await;
        world.approve(passkey.prove(act).unwrap()).await.unwrap();
        dead(&second).await;
        assert_eq!(world.audited("key.generated", "").await, 0);
    }
}

// shows: T-REG-IMPERSONATE, T-INS-OPERATOR
#[tokio::test(flavor = "multi_thread")]
async fn a_factor_of_a_later_invitation_reaches_no_older_registration() {
    for world in worlds().await {
        let signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        // The hostile SSA invites the same person again, and enrols its own passkey.
        let mut evil = world.enrol("p", true, &[KeyAlg::P256]).await;
        let old = signer.keys[0].clone();
        for wish in [
            add(&signer, Method::Passkey),
            Wish::Destroy {
                key: old.key.clone(),
            },
            Wish::Suspend {
                key: old.key.clone(),
            },
            Wish::Leave {
                registration: old.registration.clone(),
            },
        ] {
            let act = world.change(&signer, wish).await;
            let proof = evil.passkey.prove(act).unwrap();
            let new = new_passkey(&mut passkey(), act);
            assert!(world.approve_with(proof.clone(), new).await.is_err());
            assert!(world.approve(proof).await.is_err());
        }
        assert_eq!(world.key(&signer).await.state, KeyState::Active);
    }
}
