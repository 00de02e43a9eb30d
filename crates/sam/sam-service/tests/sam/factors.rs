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
        let wrong = world
            .new_pin(act, NEW_PIN, Some(SecretBytes::from("000000".to_owned())))
            .await;
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

// shows: II-3.1.1-signer-data-protected, T-REG-IMPERSONATE
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
        let act = act_digest(&opened.await.unwrap().act);
        let mut fresh = passkey();
        let request = EnrolRegisterRequest {
            act,
            sealed: world.seal(act, &world.secrets(act, &secret)).await,
            passkey: Some(fresh.register(act).unwrap()),
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
        };
        let request = VoucherRequest::Ssa {
            invite: Box::new(invite),
            return_uri: RETURN.into(),
        };
        assert!(world.sam.voucher(SSA, request).await.is_err());
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
