//! Level 3 wants an attested authenticator that stays where it is (`sap.md` §14, 50).

use std::collections::BTreeSet;
use std::sync::Arc;

use core_types::random::SystemRandom;
use core_types::{B64, HashAlg, KeyAlg, Level};
use sam_api::Refusal;
use sam_api::ssa::DocItem;
use sam_core::Policy;
use sam_core::attest::{Attesters, Metadata, Model};
use sam_service::SamConfig;
use sap::act_digest;
use sap::messages::{ApproveRequest, EnrolOpenRequest, EnrolRegisterRequest, SapRefusalCode};
use soft_passkey::{Attester, Behaviour, SoftPasskey};

use crate::kit::*;
use crate::levels::worlds_at;

const MODEL: [u8; 16] = [0xa1; 16];

fn maker() -> Arc<Attester> {
    Arc::new(Attester::new(MODEL, MODEL, START).unwrap())
}

fn honest() -> Behaviour {
    Behaviour::honest(ORIGIN, RP_ID)
}

fn attested(by: &Arc<Attester>) -> SoftPasskey {
    SoftPasskey::attested(honest(), by.clone(), &SystemRandom).unwrap()
}

fn bound() -> SoftPasskey {
    let bound = Behaviour {
        backup_eligible: false,
        backed_up: false,
        ..honest()
    };
    SoftPasskey::new(bound, &SystemRandom).unwrap()
}

fn trusting(by: &Attester, status: &[&str]) -> Attesters {
    let blob = by.metadata(status, "hardware", "2040-01-01").unwrap();
    Attesters {
        models: BTreeSet::from([Model::parse(&by.model()).unwrap()]),
        roots: Vec::new(),
        metadata: Some(Metadata::read(&blob, &by.root, START).unwrap()),
    }
}

/// The world with another node that vouches for these makers.
async fn vouching(mut world: World, attesters: Attesters) -> World {
    let config = SamConfig {
        attesters,
        node: "sam-2".into(),
        ..world.config.clone()
    };
    world.go_on_with(config).await;
    world
}

/// Enrols `person` with this passkey under a voucher of this ceiling.
async fn enrol(
    world: &World,
    person: &str,
    ceiling: Level,
    passkey: &mut SoftPasskey,
) -> Result<Signer, SapRefusalCode> {
    let mut invitation = world.invitation(person, &[KeyAlg::P256]);
    invitation.ceiling = ceiling;
    let (voucher, secret) = world.invite(invitation).await;
    let open = EnrolOpenRequest {
        voucher: voucher.clone(),
    };
    let act = act_digest(&world.sam.enrol_open(open).await.unwrap().act);
    let request = EnrolRegisterRequest {
        act,
        sealed: world.seal(act, &world.secrets(act, &secret)).await,
        passkey: Some(passkey.register(act).unwrap()),
        id_token: None,
    };
    world
        .sam
        .enrol_register(request)
        .await
        .map_err(|r| r.code)?;
    let keys = world.certify(&voucher).await;
    Ok(Signer {
        person: core_types::PersonId::parse(person).unwrap(),
        passkey: bound(),
        seed: None,
        keys,
    })
}

/// A signer with a key of level 3, in a world that vouches for their authenticator.
pub async fn signer_of_level_three(world: World) -> (World, Signer) {
    let by = maker();
    let world = vouching(world, trusting(&by, &[])).await;
    let mut passkey = attested(&by);
    let made = enrol(&world, "three", Level::Three, &mut passkey).await;
    let signer = Signer {
        passkey,
        ..made.unwrap()
    };
    (world, signer)
}

// shows: T-REG-IMPERSONATE, I-3.5.1-keyauth-L3, II-3.3.1-dtbsr-integrity
#[tokio::test(flavor = "multi_thread")]
async fn level_three_is_enrolled_with_an_attested_bound_authenticator_only() {
    for world in worlds_at(Level::Three).await {
        let (good, other) = (maker(), maker());
        let world = vouching(world, trusting(&good, &[])).await;
        let refused = SapRefusalCode::Refused;
        for (n, mut passkey, why) in [
            (1, passkey(), "attestation-synced"),
            (2, bound(), "attestation-missing"),
            (3, attested(&other), "attestation-root"),
        ] {
            let person = format!("refused-{n}");
            let outcome = enrol(&world, &person, Level::Three, &mut passkey).await;
            assert_eq!(outcome.err(), Some(refused), "{why}");
            assert_eq!(world.audited("sap.refused", why).await, 1, "{why}");
        }
        // Whoever asks for less may have less.
        let two = enrol(&world, "two", Level::Two, &mut bound())
            .await
            .unwrap();
        assert_eq!(two.keys[0].level.level, Level::Two);
        let mut device = attested(&good);
        let mut three = enrol(&world, "three", Level::Three, &mut device)
            .await
            .unwrap();
        three.passkey = device;
        let level = &three.keys[0].level;
        assert_eq!(level.level, Level::Three);
        let parts: BTreeSet<_> = level.declared.iter().map(|d| d.part as u8).collect();
        assert_eq!(parts.len(), 3, "making, keeping and the SAM are declared");
        // At level 3 the SAM binds documents itself, and signs nothing that it can't see through.
        let bare = world.prepare_request(&three, hash_items(&[hash(1)]));
        let refused = Refusal::Level {
            requirement: "II-3.3.1-dtbsr-integrity".into(),
        };
        assert_eq!(world.sam.prepare(SSA, bare).await.unwrap_err(), refused);
        let mut items = hash_items(&[hash(1)]);
        items[0].doc = Some(DocItem {
            signed_attrs: None,
            ranges: None,
        });
        let request = world.prepare_request(&three, items);
        let rid = world.sam.prepare(SSA, request).await.unwrap().rid;
        let act = world.open(rid).await;
        let proof = three.passkey.prove(act).unwrap();
        world.approve(proof).await.unwrap();
        let token = random_token();
        world.bind(rid, &token).await.unwrap();
        let values = world.sign(&three, &token, &[hash(1)]).await.unwrap();
        let cert = &three.keys[0].chain[0].0;
        let attributes = pki::signed_attrs::minimal_signed_attrs(&hash(1).0, cert).unwrap();
        let signed = B64(HashAlg::Sha256.digest(&attributes));
        assert!(verifies(&three.keys[0], &signed, &values.signatures[0]));
    }
}

// shows: T-USE-CRED-FORGE, I-3.5.1-keyauth-L2
#[tokio::test(flavor = "multi_thread")]
async fn a_model_whose_compromise_becomes_known_signs_no_more_above_level_one() {
    for world in worlds_at(Level::Three).await {
        let good = maker();
        let world = vouching(world, trusting(&good, &[])).await;
        let mut device = attested(&good);
        let mut three = enrol(&world, "three", Level::Three, &mut device)
            .await
            .unwrap();
        three.passkey = device;
        let mut device = attested(&good);
        let mut two = enrol(&world, "two", Level::Two, &mut device).await.unwrap();
        two.passkey = device;
        let lenient = SamConfig {
            policy: Policy {
                version: 2,
                bare_hashes_at_level_3: true,
                ..world.config.policy.clone()
            },
            node: "sam-4".into(),
            ..world.config.clone()
        };
        let revoked = SamConfig {
            attesters: trusting(&good, &["REVOKED"]),
            node: "sam-3".into(),
            ..lenient.clone()
        };
        let later = world.node_with(revoked).await;
        let mut world = world;
        world.sam = world.node_with(lenient).await;
        for (signer, requirement) in [
            (&mut three, "I-3.5.1-keyauth-L3"),
            (&mut two, "I-3.5.1-keyauth-L2"),
        ] {
            let rid = world.prepare(signer, &[hash(1)]).await;
            let act = world.open(rid).await;
            let proof = signer.passkey.prove(act).unwrap();
            let outcome = later.approve(ApproveRequest { proof, new: None }).await;
            assert_eq!(outcome.unwrap_err().code, SapRefusalCode::Refused);
            assert_eq!(world.audited("sap.refused", requirement).await, 1);
        }
        let outcome = {
            let world = vouching(world, trusting(&good, &["REVOKED"])).await;
            enrol(&world, "new", Level::One, &mut attested(&good)).await
        };
        assert_eq!(outcome.err(), Some(SapRefusalCode::Refused));
    }
}
