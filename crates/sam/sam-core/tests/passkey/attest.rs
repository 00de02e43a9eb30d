//! Who vouches for an authenticator: list of models, roots, metadata.

use std::collections::BTreeSet;
use std::sync::Arc;

use core_types::random::SystemRandom;
use core_types::{FactorId, PersonId, UnixTime, VoucherId};
use sam_core::FactorKind;
use sam_core::attest::{
    AttestationPolicy, Attesters, Format, MAX_METADATA, Metadata, Model, NotVouched,
};
use sam_core::enrol::{Factor, FactorBody};
use sam_core::passkey::{Attestation, Passkey, PasskeyError, verify_registration};
use soft_passkey::{Attester, SoftPasskey};
use webauthn::Statement;

use super::{ACT, good, rp, soft};

const NOW: UnixTime = UnixTime(1_800_000_000);
const MODEL: [u8; 16] = [0xa1; 16];

fn attester() -> Arc<Attester> {
    Arc::new(Attester::new(MODEL, MODEL, NOW).unwrap())
}

fn registered(by: &Arc<Attester>) -> (Passkey, Statement) {
    let mut soft = SoftPasskey::attested(good(), by.clone(), &SystemRandom).unwrap();
    verify_registration(&rp(), ACT, &soft.register(ACT).unwrap()).unwrap()
}

fn trusting(by: &Attester) -> Attesters {
    Attesters {
        policy: AttestationPolicy {
            models: BTreeSet::from([Model::parse(&by.model()).unwrap()]),
            formats: BTreeSet::from([Format::Packed]),
            roots: vec![by.root.clone()],
        },
        metadata: None,
    }
}

/// The same without a root of its own.
fn rootless(by: &Attester) -> Attesters {
    let mut attesters = trusting(by);
    attesters.policy.roots.clear();
    attesters
}

fn metadata(by: &Attester, status: &[&str], protection: &str, next: &str) -> Metadata {
    let blob = by.metadata(status, protection, next).unwrap();
    Metadata::read(&blob, &by.root, NOW).unwrap()
}

#[test]
fn a_model_on_the_list_with_a_configured_root_is_vouched_for() {
    let maker = attester();
    let (mut passkey, statement) = registered(&maker);
    assert_eq!(passkey.attestation, Attestation::Certified);
    let attesters = trusting(&maker);
    // Certified alone is worth no more than not attested.
    assert_eq!(attesters.kind(&passkey), FactorKind::PasskeyBound);
    assert_eq!(attesters.judge(&passkey, &statement, NOW), Ok(()));
    passkey.attestation = Attestation::Vouched;
    assert_eq!(attesters.kind(&passkey), FactorKind::PasskeyAttested);
    // The operator takes the model off the list.
    let empty = Attesters::default();
    assert_eq!(empty.kind(&passkey), FactorKind::PasskeyBound);
}

// shows: T-REG-IMPERSONATE
#[test]
fn whatever_is_missing_keeps_a_model_from_being_vouched_for() {
    let maker = attester();
    let (passkey, statement) = registered(&maker);
    let judge = |attesters: &Attesters| attesters.judge(&passkey, &statement, NOW);
    let nobody = Attesters::default();
    assert_eq!(judge(&nobody), Err(NotVouched::Model));
    assert_eq!(judge(&rootless(&maker)), Err(NotVouched::Root));
    let mut of_another_form = trusting(&maker);
    of_another_form.policy.formats = BTreeSet::from([Format::Tpm, Format::None]);
    assert_eq!(judge(&of_another_form), Err(NotVouched::Format));
    let another = Attester::new(MODEL, MODEL, NOW).unwrap();
    assert_eq!(judge(&trusting(&another)), Err(NotVouched::Root));
    // Ten years and more later the certificates have ended.
    let late = NOW.plus(11 * 365 * 86_400);
    let judged = trusting(&maker).judge(&passkey, &statement, late);
    assert_eq!(judged, Err(NotVouched::Root));
    let (plain, none) = verify_registration(
        &rp(),
        ACT,
        &soft(super::Behaviour {
            backup_eligible: false,
            backed_up: false,
            ..good()
        })
        .register(ACT)
        .unwrap(),
    )
    .unwrap();
    let judged = trusting(&maker).judge(&plain, &none, NOW);
    assert_eq!(judged, Err(NotVouched::Missing));
    let synced = Passkey {
        backup_eligible: true,
        ..passkey.clone()
    };
    let judged = trusting(&maker).judge(&synced, &statement, NOW);
    assert_eq!(judged, Err(NotVouched::Synced));
}

// shows: T-REG-IMPERSONATE
#[test]
fn an_attestation_certificate_for_another_model_is_refused() {
    let lying = Arc::new(Attester::new(MODEL, [0xb2; 16], NOW).unwrap());
    let mut soft = SoftPasskey::attested(good(), lying, &SystemRandom).unwrap();
    let refused = verify_registration(&rp(), ACT, &soft.register(ACT).unwrap());
    assert_eq!(refused, Err(PasskeyError::Attestation));
    let mut soft = SoftPasskey::attested(good(), attester(), &SystemRandom).unwrap();
    soft.format = Some("android-safetynet".to_owned());
    let refused = verify_registration(&rp(), ACT, &soft.register(ACT).unwrap()).unwrap_err();
    assert_eq!(refused.code(), "passkey-format-android-safetynet");
}

#[test]
fn metadata_give_roots_and_take_confidence() {
    let maker = attester();
    let (mut passkey, statement) = registered(&maker);
    passkey.attestation = Attestation::Vouched;
    let with = |metadata| Attesters {
        metadata: Some(metadata),
        ..rootless(&maker)
    };
    let judge = |attesters: &Attesters| attesters.judge(&passkey, &statement, NOW);
    let far = "2030-01-01";
    let good = with(metadata(&maker, &["FIDO_CERTIFIED_L2"], "hardware", far));
    assert_eq!(judge(&good), Ok(()));
    assert_eq!(good.kind(&passkey), FactorKind::PasskeyAttested);
    let software = with(metadata(&maker, &[], "software", far));
    assert_eq!(judge(&software), Err(NotVouched::Software));
    let stale = with(metadata(&maker, &[], "hardware", "2026-12-31"));
    assert_eq!(judge(&stale), Err(NotVouched::Stale));
    for status in [
        "REVOKED",
        "USER_VERIFICATION_BYPASS",
        "ATTESTATION_KEY_COMPROMISE",
        "USER_KEY_REMOTE_COMPROMISE",
        "USER_KEY_PHYSICAL_COMPROMISE",
    ] {
        let bad = with(metadata(
            &maker,
            &["FIDO_CERTIFIED", status],
            "hardware",
            far,
        ));
        assert_eq!(judge(&bad), Err(NotVouched::Compromised), "{status}");
        assert_eq!(
            bad.kind(&passkey),
            FactorKind::PasskeyCompromised,
            "{status}"
        );
    }
}

#[test]
fn metadata_that_nobody_signed_are_not_read() {
    let (maker, another) = (attester(), attester());
    let blob = maker.metadata(&[], "hardware", "2030-01-01").unwrap();
    let read = |blob: &str, root: &[u8]| Metadata::read(blob, root, NOW).map(|m| m.number);
    assert_eq!(read(&blob, &maker.root), Ok(7));
    assert!(read(&blob, &another.root).is_err(), "another root");
    let other = maker
        .metadata(&["REVOKED"], "hardware", "2030-01-01")
        .unwrap();
    let parts = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (a, b) = (parts(&blob), parts(&other));
    let swapped = format!("{}.{}.{}", a[0], b[1], a[2]);
    assert!(read(&swapped, &maker.root).is_err(), "payload of another");
    assert!(read("", &maker.root).is_err());
    assert!(read(&format!("{}.{}.", a[0], a[1]), &maker.root).is_err());
    let none = core_types::bytes::b64u(r#"{"alg":"none","x5c":[]}"#);
    assert!(read(&format!("{none}.{}.", a[1]), &maker.root).is_err());
}

#[test]
fn what_is_shown_of_a_passkey_has_no_counter() {
    let (mut passkey, _) = registered(&attester());
    passkey.counter = 5;
    let factor = Factor {
        id: FactorId::parse("f").unwrap(),
        person: PersonId::parse("p").unwrap(),
        voucher: VoucherId::parse("v").unwrap(),
        act: ACT,
        created: NOW,
        body: FactorBody::Passkey(passkey.clone()),
        removed: None,
    };
    passkey.counter = 0;
    assert_eq!(factor.public().passkey, Some(passkey));
}

#[test]
fn metadata_are_measured_and_may_be_signed_with_rsa() {
    let maker = attester();
    let long = |bytes: usize| {
        let read = Metadata::read(&"x".repeat(bytes), &maker.root, NOW);
        read.unwrap_err().to_string().contains("too large")
    };
    assert!(!long(MAX_METADATA) && long(MAX_METADATA + 1));
    let rsa = maker.rsa_metadata("2030-01-01", NOW).unwrap();
    let read = Metadata::read(&rsa, &maker.root, NOW).unwrap();
    assert_eq!(read.number, 7);
    let (signed, _) = rsa.rsplit_once('.').unwrap();
    let wrong = format!("{signed}.{}", core_types::bytes::b64u([1; 256]));
    assert!(Metadata::read(&wrong, &maker.root, NOW).is_err());
}

#[test]
fn models_are_read_strictly() {
    assert!(Model::parse("a1a1a1a1-a1a1-a1a1-a1a1-a1a1a1a1a1a1").is_some());
    for bad in [
        "",
        "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1",
        "a1a1a1a1-a1a1-a1a1-a1a1-a1a1a1a1a1ag",
        "a1a1a1a1-a1a1-a1a1-a1a1-a1a1a1a1a1a1a1",
        "a1a1a1a1xa1a1-a1a1-a1a1-a1a1a1a1a1a1",
    ] {
        assert!(Model::parse(bad).is_none(), "{bad}");
    }
}

#[test]
fn formats_are_named_as_they_are_registered() {
    for (name, format) in [
        ("packed", Format::Packed),
        ("fido-u2f", Format::FidoU2f),
        ("tpm", Format::Tpm),
        ("apple", Format::Apple),
    ] {
        assert_eq!(Format::parse(name), Some(format));
    }
    // In which nobody says anything, or that isn't verified.
    for other in ["", "none", "Packed", "android-key", "compound"] {
        assert_eq!(Format::parse(other), None, "{other}");
    }
}
