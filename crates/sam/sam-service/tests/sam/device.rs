//! Device key and PIN: who may add one, what a proof with it is for, and what is left to whoever has only a part of it
//! (`sap.md` §6.4, §14, 2, 3, 5, 6, 9, 11, 52).

use std::sync::atomic::Ordering;

use core_types::{B64, Digest32, KeyAlg, Level, SecretBytes};
use futures_util::future::join_all;
use jose::SigningKey;
use sam_api::Refusal;
use sam_api::ssa::*;
use sap::messages::*;
use sap::proof::Method;
use sap::{Act, FactorChange, NewFactor, Proof, SealedFactor, SealedPin};

use crate::attest;
use crate::kit::*;
use crate::levels::worlds_at;
use crate::proof::{code_of, one_act};

pub const DEVICE_PIN: &str = "canary-pin-red-ibis";

pub fn device() -> SigningKey {
    SigningKey::generate().unwrap().0
}

pub fn add(signer: &Signer, key: &SigningKey) -> Wish {
    Wish::AddDevice {
        registration: signer.keys[0].registration.clone(),
        key: key.public().clone(),
    }
}

impl World {
    async fn device_pin(&self, act: Digest32, pin: &str) -> NewFactor {
        let plain = SealedFactor {
            act,
            new_pin: SecretBytes::from(pin.to_owned()),
            otp: None,
        };
        let sealed = self.seal(act, &plain).await;
        NewFactor::PinTotp { sealed }
    }

    /// The signer adds a device key by an act that their passkey proves.
    pub async fn add_device(&self, signer: &mut Signer, key: &SigningKey) -> Digest32 {
        let act = self.change(signer, add(signer, key)).await;
        let new = self.device_pin(act, DEVICE_PIN).await;
        let proof = signer.passkey.prove(act).unwrap();
        self.approve_with(proof, Some(new)).await.unwrap();
        act
    }

    pub async fn device_proof(&self, act: Digest32, key: &SigningKey, pin: &str) -> Proof {
        let pin = SealedPin {
            act,
            pin: SecretBytes::from(pin.to_owned()),
        };
        Proof::Device {
            act,
            key: key.public().thumbprint(),
            sig: B64(key.sign_bytes(&act.0).unwrap()),
            sealed: self.seal(act, &pin).await,
        }
    }

    async fn device_info(&self, signer: &Signer) -> FactorInfo {
        let factors = self.factors(signer).await;
        let found = factors.into_iter().find(|f| f.method == Method::Device);
        found.unwrap()
    }

    /// How many PINs the module was asked about.
    fn compared(&self) -> usize {
        self.cm.pins.load(Ordering::SeqCst)
    }
}

fn parts(proof: Proof) -> (Digest32, Digest32, B64, String) {
    match proof {
        Proof::Device {
            act,
            key,
            sig,
            sealed,
        } => (act, key, sig, sealed),
        other => panic!("{other:?}"),
    }
}

// shows: I-3.5.1-keyauth-L1, II-A1-sad-once
#[tokio::test(flavor = "multi_thread")]
async fn a_device_key_with_its_pin_signs_and_its_part_can_be_checked_by_anybody() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let key = device();
        let adding = world.add_device(&mut signer, &key).await;
        let info = world.device_info(&signer).await;
        assert_eq!((info.level, info.locked_until), (Level::Two, None));
        let rid = world.prepare(&signer, &[hash(1)]).await;
        let opened = world.sam.open(OpenRequest { rid }).await.unwrap();
        assert_eq!(opened.methods, [Method::Passkey, Method::Device]);
        let act = sap::act_digest(&opened.act);
        let proof = world.device_proof(act, &key, DEVICE_PIN).await;
        world.approve(proof).await.unwrap();
        world.bind(rid, "token").await.unwrap();
        let signed = world.sign(&signer, "token", &[hash(1)]).await.unwrap();
        assert!(verifies(&signer.keys[0], &hash(1), &signed.signatures[0]));

        let shown = world.shown(&signer, act).await;
        assert_eq!((shown.method.as_str(), shown.by_word), ("device", false));
        assert_eq!(shown.chain.first(), Some(&adding.to_string()));
        let remarks = [
            "the-sams-word-for-the-secret",
            "the-sams-word-for-the-pin",
            "clock-not-kept",
        ];
        assert_eq!(shown.remarks, remarks);
        assert!(!world.audit_text().await.concat().contains(DEVICE_PIN));
    }
}

// shows: II-3.3.1-sad-protected-in-transit, T-USE-SAP-REPLAY, T-USE-SAP-BYPASS, T-USE-SAD-FORGE
#[tokio::test(flavor = "multi_thread")]
async fn a_proof_is_good_once_for_its_own_act_by_its_own_key() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let mut other = world.enrol("q", false, &[KeyAlg::P256]).await;
        let (key, foreign) = (device(), device());
        world.add_device(&mut signer, &key).await;
        world.add_device(&mut other, &foreign).await;
        let (a, b) = (
            one_act(&world, &signer).await,
            one_act(&world, &signer).await,
        );
        let (_, own, sig, sealed) = parts(world.device_proof(a, &key, DEVICE_PIN).await);
        let (_, _, sig_b, sealed_b) = parts(world.device_proof(b, &key, DEVICE_PIN).await);
        let proof = |act, key, sig: &B64, sealed: &str| Proof::Device {
            act,
            key,
            sig: sig.clone(),
            sealed: sealed.to_owned(),
        };
        let theirs = foreign.public().thumbprint();
        let before = world.compared();
        // Moved as a whole, in either of its parts, under another key's name, cut, empty.
        for bad in [
            proof(b, own, &sig, &sealed),
            proof(b, own, &sig, &sealed_b),
            proof(b, own, &sig_b, &sealed),
            proof(b, theirs, &sig_b, &sealed_b),
            proof(b, Digest32([0; 32]), &sig_b, &sealed_b),
            proof(b, own, &B64(sig_b.0[..63].to_vec()), &sealed_b),
            proof(b, own, &B64(Vec::new()), &sealed_b),
        ] {
            assert_eq!(code_of(&world, bad).await, SapRefusalCode::Refused);
        }
        // Another person's key, with everything else right.
        let stranger = world.device_proof(b, &foreign, DEVICE_PIN).await;
        assert_eq!(code_of(&world, stranger).await, SapRefusalCode::Refused);
        assert_eq!(world.compared(), before, "no PIN was compared");

        // A hundred times at once on two nodes, and again later: one approval.
        let good = proof(a, own, &sig, &sealed);
        let nodes = [world.sam.clone(), world.node("sam-2").await];
        let calls = (0..100).map(|n| {
            let (sam, proof) = (nodes[n % 2].clone(), good.clone());
            tokio::spawn(async move { sam.approve(ApproveRequest { proof, new: None }).await })
        });
        let done = join_all(calls).await;
        let approved = done.iter().filter(|d| d.as_ref().unwrap().is_ok()).count();
        assert_eq!(approved, 1);
        assert!(world.approve(good).await.is_err());
    }
}

// shows: I-7.1.2.5-authentication-failure-lockout, T-USE-CAPTURE
#[tokio::test(flavor = "multi_thread")]
async fn who_has_the_key_has_ten_tries_with_the_pin_and_who_has_not_has_none() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let key = device();
        world.add_device(&mut signer, &key).await;
        // The PIN is known and the key isn't: nothing is compared, and nobody can lock the owner out.
        let before = world.compared();
        for _ in 0..12 {
            let act = one_act(&world, &signer).await;
            let (act, _, _, sealed) = parts(world.device_proof(act, &key, DEVICE_PIN).await);
            let forged = Proof::Device {
                act,
                key: key.public().thumbprint(),
                sig: B64(device().sign_bytes(&act.0).unwrap()),
                sealed,
            };
            assert_eq!(code_of(&world, forged).await, SapRefusalCode::Refused);
        }
        assert_eq!(world.compared(), before);
        assert_eq!(world.device_info(&signer).await.locked_until, None);
        // The file was stolen, and its passphrase found: the PIN is missing.
        for n in 0..10 {
            world.clock.advance(4000);
            let act = one_act(&world, &signer).await;
            let wrong = format!("wrong-pin-{n}");
            let guess = world.device_proof(act, &key, &wrong).await;
            let refused = world.approve(guess).await.unwrap_err();
            assert_eq!(refused.code, SapRefusalCode::Refused);
            let left = 4.min(9 - n);
            assert_eq!(refused.tries_left, Some(left));
        }
        assert_eq!(world.compared(), before + 10);
        world.clock.advance(100_000);
        let act = one_act(&world, &signer).await;
        let right = world.device_proof(act, &key, DEVICE_PIN).await;
        assert_eq!(code_of(&world, right).await, SapRefusalCode::Locked);
        assert!(world.device_info(&signer).await.locked_until.is_some());
        // The passkey of the same key isn't locked by that, and takes the failures back; the device doesn't do so itself.
        let factor = world.device_info(&signer).await.factor;
        let unlock = Wish::UnlockFactor { factor };
        let act = world.change(&signer, unlock.clone()).await;
        let itself = world.device_proof(act, &key, DEVICE_PIN).await;
        assert!(world.approve(itself).await.is_err());
        world.changed(unlock, &mut signer).await.unwrap();
        let act = one_act(&world, &signer).await;
        let right = world.device_proof(act, &key, DEVICE_PIN).await;
        world.approve(right).await.unwrap();
    }
}

// shows: T-REG-IMPERSONATE, T-INS-OPERATOR, T-INS-ACTIVATION
#[tokio::test(flavor = "multi_thread")]
async fn the_act_names_the_key_that_is_added_and_nothing_else_adds_one() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let (key, evil) = (device(), device());
        // The SSA puts its own key in place of the signer's: the act says so, and the page asks for the code of the right one.
        let rid = world.ask(&signer, add(&signer, &evil)).await.unwrap();
        let opened = world.sam.open(OpenRequest { rid }).await.unwrap();
        let payload = opened.act.split('.').nth(1).unwrap();
        let payload = core_types::bytes::from_b64u(payload).unwrap();
        let Act::Factor(act) = serde_json::from_slice(&payload).unwrap() else {
            panic!("another kind")
        };
        let named = FactorChange::AddDevice {
            key: evil.public().clone(),
        };
        assert_eq!(act.change, named);
        // Without the signer's proof, by its own signature, without a PIN, or with a weak one nothing is added.
        let act = world.change(&signer, add(&signer, &key)).await;
        let new = world.device_pin(act, DEVICE_PIN).await;
        let own = world.device_proof(act, &key, DEVICE_PIN).await;
        assert!(world.approve_with(own, Some(new.clone())).await.is_err());
        let proof = signer.passkey.prove(act).unwrap();
        assert!(world.approve(proof.clone()).await.is_err());
        let weak = world.device_pin(act, "12345678").await;
        assert!(world.approve_with(proof.clone(), Some(weak)).await.is_err());
        let moved = world.device_pin(Digest32([9; 32]), DEVICE_PIN).await;
        assert!(
            world
                .approve_with(proof.clone(), Some(moved))
                .await
                .is_err()
        );
        assert_eq!(world.factors(&signer).await.len(), 1);
        // There is no way in without the public half.
        let method = Method::Device;
        let registration = signer.keys[0].registration.clone();
        let bare = Wish::AddFactor {
            registration,
            method,
        };
        assert!(world.ask(&signer, bare).await.is_err());
        world.approve_with(proof, Some(new)).await.unwrap();
        assert_eq!(world.audited("factor.added", "device").await, 1);
        // The next act tells the signer that something was added.
        let since = world.history(&signer).await;
        assert_eq!(since[0].what, Happened::FactorAdded);
    }
}

// shows: II-3.1.1-signer-data-protected, T-USE-SAP-BYPASS
#[tokio::test(flavor = "multi_thread")]
async fn a_removed_device_key_proves_nothing_and_never_comes_back() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let mut other = world.enrol("q", false, &[KeyAlg::P256]).await;
        let key = device();
        world.add_device(&mut signer, &key).await;
        let again = world.change(&signer, add(&signer, &key)).await;
        let opened = one_act(&world, &signer).await;
        let late = world.device_proof(opened, &key, DEVICE_PIN).await;
        let factor = world.device_info(&signer).await.factor;
        let removal = Wish::RemoveFactor { factor };
        world.changed(removal, &mut signer).await.unwrap();
        assert_eq!(code_of(&world, late).await, SapRefusalCode::Refused);
        let act = one_act(&world, &signer).await;
        let proof = world.device_proof(act, &key, DEVICE_PIN).await;
        assert_eq!(code_of(&world, proof).await, SapRefusalCode::Refused);
        let elsewhere = world.change(&other, add(&other, &key)).await;
        for (act, by) in [(again, &mut signer), (elsewhere, &mut other)] {
            let new = world.device_pin(act, DEVICE_PIN).await;
            let proof = by.passkey.prove(act).unwrap();
            assert!(world.approve_with(proof, Some(new)).await.is_err());
            assert_eq!(world.factors(by).await.len(), 1);
        }
    }
}

// shows: I-3.5.1-keyauth-L2, II-3.2-keyauth-L2-mfa
#[tokio::test(flavor = "multi_thread")]
async fn a_device_key_uses_keys_up_to_level_two() {
    for world in worlds_at(Level::Two).await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        assert_eq!(signer.keys[0].level.level, Level::Two);
        let key = device();
        world.add_device(&mut signer, &key).await;
        let rid = world.prepare(&signer, &[hash(1)]).await;
        let act = world.open(rid).await;
        let proof = world.device_proof(act, &key, DEVICE_PIN).await;
        world.approve(proof).await.unwrap();
        // It changes what it is as strong as: the PIN of its own.
        let factor = world.device_info(&signer).await.factor;
        let act = world.change(&signer, Wish::ChangePin { factor }).await;
        let proof = world.device_proof(act, &key, DEVICE_PIN).await;
        let new = world.device_pin(act, "canary-pin-grey-rail").await;
        world.approve_with(proof, Some(new)).await.unwrap();
        let act = one_act(&world, &signer).await;
        let old = world.device_proof(act, &key, DEVICE_PIN).await;
        assert_eq!(code_of(&world, old).await, SapRefusalCode::Refused);
        let proof = world.device_proof(act, &key, "canary-pin-grey-rail").await;
        world.approve(proof).await.unwrap();
    }
}

// shows: I-3.5.1-keyauth-L3
#[tokio::test(flavor = "multi_thread")]
async fn no_device_key_reaches_a_key_of_level_three() {
    for world in worlds_at(Level::Three).await {
        let (world, signer) = attest::signer_of_level_three(world).await;
        assert_eq!(signer.keys[0].level.level, Level::Three);
        let refused = world.ask(&signer, add(&signer, &device())).await;
        let requirement = "I-3.5.1-keyauth-L3".to_owned();
        assert_eq!(refused, Err(Refusal::Level { requirement }));
    }
}
