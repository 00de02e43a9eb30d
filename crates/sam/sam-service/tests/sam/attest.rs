//! Level 3 wants an attested authenticator that stays where it is (`sap.md` §14, 50).

use std::collections::BTreeSet;
use std::sync::Arc;

use core_types::random::SystemRandom;
use core_types::{B64, Clock as _, HashAlg, KeyAlg, Level};
use sam_api::Refusal;
use sam_api::ssa::{DocItem, FactorsRequest};
use sam_core::Policy;
use sam_core::attest::{AttestationPolicy, Format, Model};
use sam_service::{MetadataFile, MetadataRefused, SamConfig, StartError};
use sap::act::Version1;
use sap::act_digest;
use sap::messages::{ApproveRequest, EnrolOpenRequest, EnrolRegisterRequest, SapRefusalCode};
use sap::office::{Reopen, TYP_REOPEN};
use soft_passkey::{Attester, Behaviour, SoftPasskey};

use crate::kit::*;
use crate::levels::worlds_at;
use crate::office_kit::{OFFICE, founder, secret};
use crate::stores::run;

const MODEL: [u8; 16] = [0xa1; 16];
/// When a newer issue should exist.
const FAR: &str = "2040-01-01";

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

/// Puts an issue of the maker's metadata where the nodes of this world look for it.
fn publish(world: &World, by: &Attester, (number, until): (u64, &str), status: &[&str]) {
    let blob = by.metadata_issue(number, status, "hardware", until);
    std::fs::write(world.dir().join("metadata.jwt"), blob.unwrap()).unwrap();
}

/// A node that vouches for this maker.
fn trusting(world: &World, by: &Attester, node: &str) -> SamConfig {
    SamConfig {
        attestation: AttestationPolicy {
            models: BTreeSet::from([Model::parse(&by.model()).unwrap()]),
            formats: BTreeSet::from([Format::Packed]),
            roots: Vec::new(),
        },
        metadata: Some(MetadataFile {
            path: world.dir().join("metadata.jwt"),
            root: by.root.clone(),
        }),
        node: node.into(),
        ..world.config.clone()
    }
}

/// The world with another node that vouches for this maker, of whose model nothing is known.
async fn vouching(mut world: World, by: &Attester) -> World {
    publish(&world, by, (7, FAR), &[]);
    let config = trusting(&world, by, "sam-2");
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
    let world = vouching(world, &by).await;
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
        let world = vouching(world, &good).await;
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
        let world = vouching(world, &good).await;
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
        let mut world = world;
        world.go_on_with(lenient).await;
        publish(&world, &good, (8, FAR), &["REVOKED"]);
        let later = world.node("sam-3").await;
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
        world.sam = later;
        let outcome = enrol(&world, "new", Level::One, &mut attested(&good)).await;
        assert_eq!(outcome.err(), Some(SapRefusalCode::Refused));
    }
}

// shows: T-REG-IMPERSONATE
#[tokio::test(flavor = "multi_thread")]
async fn an_attestation_of_a_format_that_is_not_admitted_counts_for_nothing() {
    for world in worlds_at(Level::Three).await {
        let good = maker();
        let mut world = vouching(world, &good).await;
        let mut config = trusting(&world, &good, "sam-3");
        config.attestation.formats = BTreeSet::from([Format::Tpm]);
        world.go_on_with(config).await;
        let outcome = enrol(&world, "three", Level::Three, &mut attested(&good)).await;
        assert_eq!(outcome.err(), Some(SapRefusalCode::Refused));
        assert_eq!(world.audited("sap.refused", "attestation-format").await, 1);
    }
}

// shows: T-USE-CRED-FORGE, I-3.5.1-keyauth-L3
#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_known_of_a_model_counts_within_the_hour_and_is_not_forgotten() {
    for world in worlds_at(Level::Three).await {
        let good = maker();
        let world = vouching(world, &good).await;
        let mut device = attested(&good);
        let made = enrol(&world, "three", Level::Three, &mut device).await;
        let person = made.unwrap().person;
        let worth = async || {
            let request = FactorsRequest {
                person: person.clone(),
            };
            world.sam.factors(request).await.unwrap().factors[0].level
        };
        let later = async |seconds| {
            world.clock.advance(seconds);
            world.sam.maintain().await.unwrap();
        };
        let told = async |what: &str| world.audited("alarm", what).await;
        assert_eq!(worth().await, Level::Three);
        publish(&world, &good, (8, FAR), &["REVOKED"]);
        later(3599).await;
        assert_eq!(worth().await, Level::Three);
        later(1).await;
        assert_eq!(worth().await, Level::One);
        let eighth = "\"number\":8";
        assert_eq!(world.audited("attestation.metadata", eighth).await, 1);
        // From before the report, twice; something else; nothing.
        publish(&world, &good, (7, FAR), &[]);
        for _ in 0..2 {
            later(3600).await;
            assert_eq!(worth().await, Level::One);
            assert_eq!(told("metadata-older").await, 1);
        }
        let place = world.dir().join("metadata.jwt");
        for text in [Some("x.y.z"), None] {
            match text {
                Some(text) => std::fs::write(&place, text).unwrap(),
                None => std::fs::remove_file(&place).unwrap(),
            }
            later(3600).await;
            assert_eq!(worth().await, Level::One);
            assert_eq!(told("metadata-unusable").await, 1);
        }
        // A newer one, after whose day nothing new is vouched for.
        publish(&world, &good, (9, "2027-01-15"), &["REVOKED"]);
        later(3600).await;
        assert_eq!(told("metadata-outdated").await, 1);
        assert_eq!(worth().await, Level::One);
    }
}

// shows: T-USE-CRED-FORGE, T-INS-OPERATOR
#[tokio::test(flavor = "multi_thread")]
async fn no_node_starts_with_an_older_issue_whatever_becomes_of_the_row() {
    for world in worlds_at(Level::Three).await {
        let good = maker();
        let world = vouching(world, &good).await;
        run(
            &world,
            "CREATE TABLE kept AS SELECT * FROM attestation_metadata",
        )
        .await;
        let start = async || {
            let config = trusting(&world, &good, "sam-3");
            let started = world.node_drawing(config, Arc::new(SystemRandom)).await;
            match started {
                Ok(_) => Ok(()),
                Err(StartError::Metadata(refused)) => Err(refused),
                Err(error) => panic!("{error}"),
            }
        };
        publish(&world, &good, (8, FAR), &["REVOKED"]);
        start().await.unwrap();
        let eighth = "\"number\":8";
        for (n, attack) in [
            "UPDATE attestation_metadata SET stamp = 1",
            "DELETE FROM attestation_metadata",
            "UPDATE attestation_metadata SET sealed = (SELECT sealed FROM kept), version = (SELECT version FROM kept)",
            "UPDATE attestation_metadata SET version = version + 1",
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(world.audited("attestation.metadata", eighth).await, 1.max(n));
            run(&world, attack).await;
            publish(&world, &good, (7, FAR), &[]);
            let refused = MetadataRefused::Older {
                path: world.dir().join("metadata.jwt"),
                number: 7,
                highest: 8,
            };
            assert_eq!(start().await, Err(refused), "{attack}");
            assert_eq!(world.audited("alarm", "metadata-older").await, n + 1);
            publish(&world, &good, (8, FAR), &["REVOKED"]);
            start().await.unwrap();
        }
        // What was put right is as it was.
        let alarms = world.audited("alarm", "sealed-row").await;
        start().await.unwrap();
        assert_eq!(world.audited("alarm", "sealed-row").await, alarms);
        std::fs::remove_file(world.dir().join("metadata.jwt")).unwrap();
        assert_eq!(start().await.unwrap_err().code(), "metadata-unusable");
    }
}

/// A file from elsewhere, however high its number, doesn't shut out those of the right maker.
// shows: T-USE-CRED-FORGE
#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_an_issue_is_compared_with_those_of_its_maker_only() {
    for world in worlds_at(Level::Three).await {
        let (other, good) = (maker(), maker());
        for (by, number, highest) in [
            (&other, 900, None),
            (&good, 8, None),
            (&good, 7, Some(8)),
            (&other, 899, Some(900)),
            (&other, 900, None),
            (&good, 8, None),
        ] {
            publish(&world, by, (number, FAR), &[]);
            let config = trusting(&world, by, "sam-3");
            let started = world.node_drawing(config, Arc::new(SystemRandom)).await;
            let refused = match started {
                Ok(_) => None,
                Err(StartError::Metadata(MetadataRefused::Older { highest, .. })) => Some(highest),
                Err(error) => panic!("{error}"),
            };
            assert_eq!(refused, highest, "{number}");
        }
        assert_eq!(world.audited("attestation.metadata", "").await, 2);
    }
}

/// Officers who can't log in any more keep nobody from opening the installation again.
#[tokio::test(flavor = "multi_thread")]
async fn officers_with_a_compromised_model_do_not_stand_in_the_way_of_opening_again() {
    for world in worlds().await {
        let by = maker();
        let mut world = vouching(world, &by).await;
        let now = world.clock.now();
        let secrets = [secret(), secret(), secret()];
        let told = Reopen {
            v: Version1,
            genesis: world.sam.genesis().await.unwrap().genesis,
            serial: 1,
            officers: vec![
                founder("d", &secrets[0], now),
                founder("e", &secrets[1], now),
                founder("f", &secrets[2], now),
            ],
            at: now,
        };
        let payload = serde_json::to_vec(&told).unwrap();
        let (mut devices, jws) = {
            let founders = world.founders.lock().await;
            let mut devices = Vec::new();
            for (one, secret) in founders.genesis.officers.iter().zip(&founders.secrets) {
                let behaviour = Behaviour::honest(OFFICE, RP_ID);
                let passkey = SoftPasskey::attested(behaviour, by.clone(), &SystemRandom);
                let made = world.enrol_officer_with(&one.voucher, secret, passkey.unwrap());
                devices.push(made.await.unwrap());
            }
            (
                devices,
                founders.recovery.sign(TYP_REOPEN, &payload).unwrap(),
            )
        };
        for device in &mut devices {
            world.log_in(device).await.unwrap();
        }
        assert!(world.sam.reopen(&jws).await.is_err(), "there are enough");
        publish(&world, &by, (8, FAR), &["REVOKED"]);
        let config = trusting(&world, &by, "sam-3");
        world.go_on_with(config).await;
        for device in &mut devices {
            assert!(world.log_in(device).await.is_err());
        }
        world.sam.reopen(&jws).await.unwrap();
        for (one, secret) in told.officers.iter().zip(&secrets) {
            let mut device = world.enrol_officer(&one.voucher, secret).await.unwrap();
            world.log_in(&mut device).await.unwrap();
        }
    }
}
