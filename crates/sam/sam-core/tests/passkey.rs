//! The passkey verifier against a software authenticator.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use aws_lc_rs::rand::SystemRandom as AwsRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use core_types::random::SystemRandom;
use core_types::{B64, Digest32, sha256};
use sam_core::passkey::{
    Assertion, Attestation, Passkey, PasskeyError, RelyingParty, verify_assertion,
};
use sap::Proof;
use sap::enrol::PasskeyRegistration;
use soft_passkey::{Behaviour, SoftPasskey};
use webauthn::CoseKey;
use webauthn::cbor::Cbor;

#[path = "passkey/attest.rs"]
mod attest;

const ACT: Digest32 = Digest32([7; 32]);

fn verify_registration(
    rp: &RelyingParty,
    challenge: Digest32,
    registration: &PasskeyRegistration,
) -> Result<Passkey, PasskeyError> {
    sam_core::passkey::verify_registration(rp, challenge, registration).map(|(p, _)| p)
}

fn rp() -> RelyingParty {
    RelyingParty {
        origin: "https://sic.example".into(),
        rp_id: "sic.example".into(),
    }
}

fn good() -> Behaviour {
    Behaviour::honest("https://sic.example", "sic.example")
}

fn soft(behaviour: Behaviour) -> SoftPasskey {
    SoftPasskey::new(behaviour, &SystemRandom).unwrap()
}

#[test]
fn a_registration_and_its_assertions_verify() {
    let mut soft = soft(good());
    let passkey = verify_registration(&rp(), ACT, &soft.register(ACT).unwrap()).unwrap();
    assert_eq!(
        (passkey.attestation, passkey.backup_eligible),
        (Attestation::None, true)
    );
    let other = Digest32([8; 32]);
    let Proof::Passkey {
        id,
        auth_data,
        client_data,
        sig,
        ..
    } = soft.prove(other).unwrap()
    else {
        unreachable!()
    };
    let assertion = Assertion {
        id: &id.0,
        auth_data: &auth_data.0,
        client_data: &client_data.0,
        sig: &sig.0,
    };
    assert!(
        !verify_assertion(&rp(), other, &passkey, assertion)
            .unwrap()
            .counter_went_back
    );
    assert_eq!(
        verify_assertion(&rp(), ACT, &passkey, assertion),
        Err(PasskeyError::Challenge)
    );
    let foreign = RelyingParty {
        origin: "https://sic.example:8443".into(),
        ..rp()
    };
    assert_eq!(
        verify_assertion(&foreign, other, &passkey, assertion),
        Err(PasskeyError::Origin)
    );
    let assertion = Assertion {
        id: &[1],
        ..assertion
    };
    assert_eq!(
        verify_assertion(&rp(), other, &passkey, assertion),
        Err(PasskeyError::Credential)
    );
}

// shows: T-REG-IMPERSONATE, T-USE-CRED-FORGE
#[test]
fn registrations_are_checked_as_strictly_as_assertions() {
    let cases = [
        (
            Behaviour {
                origin: "https://ssa.example".into(),
                ..good()
            },
            PasskeyError::Origin,
        ),
        (
            Behaviour {
                rp_id: "ssa.example".into(),
                ..good()
            },
            PasskeyError::RpId,
        ),
        (
            Behaviour {
                kind: Some("webauthn.get".into()),
                ..good()
            },
            PasskeyError::Type,
        ),
        (
            Behaviour {
                cross_origin: Some(true),
                ..good()
            },
            PasskeyError::CrossOrigin,
        ),
        (
            Behaviour {
                user_verified: false,
                ..good()
            },
            PasskeyError::NotVerified,
        ),
        (
            Behaviour {
                backup_eligible: false,
                ..good()
            },
            PasskeyError::BackupFlags,
        ),
        (
            Behaviour {
                trailing: vec![0],
                ..good()
            },
            PasskeyError::AuthData,
        ),
        (
            Behaviour {
                more_members: r#","challenge":"x""#.into(),
                ..good()
            },
            PasskeyError::ClientData,
        ),
    ];
    for (behaviour, expected) in cases {
        let registration = soft(behaviour.clone()).register(ACT).unwrap();
        assert_eq!(
            verify_registration(&rp(), ACT, &registration),
            Err(expected),
            "{behaviour:?}"
        );
    }
    let registration = soft(good()).register(ACT).unwrap();
    let other_id = PasskeyRegistration {
        id: B64(vec![1; 16]),
        ..registration.clone()
    };
    assert_eq!(
        verify_registration(&rp(), ACT, &other_id),
        Err(PasskeyError::Credential)
    );
    let mut trailing = registration.clone();
    trailing.attestation.0.push(0);
    assert_eq!(
        verify_registration(&rp(), ACT, &trailing),
        Err(PasskeyError::Attestation)
    );
    let mut words = registration;
    words.transports = vec!["x".repeat(33)];
    assert_eq!(
        verify_registration(&rp(), ACT, &words),
        Err(PasskeyError::ClientData)
    );
}

#[test]
fn packed_attestation_is_by_the_credential_or_kept_as_evidence() {
    let (registration, key) = packed(|_| {}, -7, None);
    let passkey = verify_registration(&rp(), ACT, &registration).unwrap();
    assert_eq!(passkey.attestation, Attestation::Own);
    assert_eq!(passkey.key, key);
    let (registration, _) = packed(|sig| sig[10] ^= 1, -7, None);
    assert_eq!(
        verify_registration(&rp(), ACT, &registration),
        Err(PasskeyError::Attestation)
    );
    let (registration, _) = packed(|_| {}, -257, None);
    assert_eq!(
        verify_registration(&rp(), ACT, &registration),
        Err(PasskeyError::Attestation)
    );
    let (registration, _) = packed(|_| {}, -7, Some(vec![1, 2, 3]));
    assert_eq!(
        verify_registration(&rp(), ACT, &registration),
        Err(PasskeyError::Attestation)
    );
}

#[test]
fn the_three_algorithms_verify_and_aren_t_mixed_up() {
    let message = b"message";
    let random = AwsRandom::new();
    let ed = Ed25519KeyPair::generate().unwrap();
    let ed_key = CoseKey::Eddsa {
        x: Digest32(ed.public_key().as_ref().try_into().unwrap()),
    };
    let ed_sig = ed.sign(message);
    assert!(ed_key.verifies(message, ed_sig.as_ref()));
    assert!(!ed_key.verifies(b"massage", ed_sig.as_ref()));
    let rsa = RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let mut sig = vec![0; rsa.public_modulus_len()];
    rsa.sign(&RSA_PKCS1_SHA256, &random, message, &mut sig)
        .unwrap();
    let public = rsa.public_key();
    let part = |bytes: &[u8]| B64(bytes.iter().copied().skip_while(|b| *b == 0).collect());
    let rsa_key = CoseKey::Rs256 {
        n: part(public.modulus().big_endian_without_leading_zero()),
        e: part(public.exponent().big_endian_without_leading_zero()),
    };
    assert!(rsa_key.verifies(message, &sig));
    sig[0] ^= 1;
    assert!(!rsa_key.verifies(message, &sig));
    // A key that names another algorithm than its kind, or more members, isn't read.
    let bad = [
        vec![(1, Cbor::Int(2)), (3, Cbor::Int(-257))],
        vec![
            (1, Cbor::Int(1)),
            (3, Cbor::Int(-8)),
            (-1, Cbor::Int(6)),
            (-2, Cbor::Bytes(vec![1; 31])),
        ],
        vec![
            (1, Cbor::Int(1)),
            (3, Cbor::Int(-8)),
            (-1, Cbor::Int(6)),
            (-2, Cbor::Bytes(vec![1; 32])),
            (4, Cbor::Null),
        ],
    ];
    for members in bad {
        let map = Cbor::Map(
            members
                .into_iter()
                .map(|(k, v)| (Cbor::Int(k), v))
                .collect(),
        );
        assert_eq!(CoseKey::from_cbor(&map), None);
    }
}

/// A registration with attestation `packed`.
fn packed(
    spoil: impl Fn(&mut [u8]),
    alg: i64,
    x5c: Option<Vec<u8>>,
) -> (PasskeyRegistration, CoseKey) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let point = pair.public_key().as_ref().to_vec();
    let mut auth_data = sha256(&[b"sic.example"]).0.to_vec();
    auth_data.extend_from_slice(&[0b0100_0101, 0, 0, 0, 0]);
    auth_data.extend_from_slice(&[9; 16]);
    auth_data.extend_from_slice(&[0, 2, 1, 2]);
    auth_data.extend_from_slice(&[0xa5, 1, 2, 3, 0x26, 0x20, 1, 0x21, 0x58, 32]);
    auth_data.extend_from_slice(&point[1..33]);
    auth_data.extend_from_slice(&[0x22, 0x58, 32]);
    auth_data.extend_from_slice(&point[33..]);
    let client_data = format!(
        r#"{{"type":"webauthn.create","challenge":"{ACT}","origin":"https://sic.example"}}"#
    )
    .into_bytes();
    let signed = [auth_data.as_slice(), &sha256(&[&client_data]).0].concat();
    let mut sig = pair
        .sign(&AwsRandom::new(), &signed)
        .unwrap()
        .as_ref()
        .to_vec();
    spoil(&mut sig);
    let members = if x5c.is_some() { 0xa3 } else { 0xa2 };
    let mut object = vec![0xa3, 0x63];
    object.extend_from_slice(b"fmt");
    object.push(0x66);
    object.extend_from_slice(b"packed");
    object.push(0x67);
    object.extend_from_slice(b"attStmt");
    object.extend_from_slice(&[members, 0x63]);
    object.extend_from_slice(b"alg");
    if alg == -7 {
        object.push(0x26);
    } else {
        object.extend_from_slice(&[0x39, 1, 0]);
    }
    object.push(0x63);
    object.extend_from_slice(b"sig");
    object.extend_from_slice(&[0x58, sig.len() as u8]);
    object.extend_from_slice(&sig);
    if let Some(cert) = x5c {
        object.push(0x63);
        object.extend_from_slice(b"x5c");
        object.extend_from_slice(&[0x81, 0x40 | cert.len() as u8]);
        object.extend_from_slice(&cert);
    }
    object.push(0x68);
    object.extend_from_slice(b"authData");
    object.extend_from_slice(&[0x58, auth_data.len() as u8]);
    object.extend_from_slice(&auth_data);
    let registration = PasskeyRegistration {
        id: B64(vec![1, 2]),
        client_data: B64(client_data),
        attestation: B64(object),
        transports: vec![],
    };
    let half = |r: &[u8]| Digest32(r.try_into().unwrap());
    (
        registration,
        CoseKey::Es256 {
            x: half(&point[1..33]),
            y: half(&point[33..]),
        },
    )
}
