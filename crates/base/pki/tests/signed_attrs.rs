//! The strict reader of signed attributes against everything a client could slip in.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use core_types::{HashAlg, SigAlg, UnixTime};
use pki::asn1::{self, SEQUENCE, SET, Tlv};
use pki::cms::{
    SignedAttrsError, attribute, minimal_signed_attrs, parse_signed_attrs_strict,
    signing_certificate,
};
use pki::{Certificate, alg, name, oid};
use proptest::prelude::*;

fn certificate(serial: u8) -> Certificate {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let alg = SigAlg::Ecdsa(HashAlg::Sha256);
    let name = name::encode(&[(oid::COMMON_NAME, "署名者")]).unwrap();
    let validity = asn1::sequence(&[&asn1::time(UnixTime(0)), &asn1::time(UnixTime(9))]);
    let tbs = asn1::sequence(&[
        &asn1::uint(&[serial]),
        &alg::encode_sig_alg(alg),
        &name,
        &validity,
        &name,
        key.public_key().as_der().unwrap().as_ref(),
    ]);
    let value = key.sign(&SystemRandom::new(), &tbs).unwrap();
    Certificate::parse(&pki::crl::assemble(&tbs, alg, value.as_ref())).unwrap()
}

/// The three required attributes, one by one.
fn required(digest: &[u8], cert: &Certificate) -> Vec<Vec<u8>> {
    let set = minimal_signed_attrs(digest, cert.der()).unwrap();
    let parts = Tlv::single(&set, "set")
        .unwrap()
        .open(SET, "set")
        .unwrap()
        .all("set")
        .unwrap();
    parts.iter().map(|p| p.raw.to_vec()).collect()
}

fn join(parts: &[Vec<u8>]) -> Vec<u8> {
    asn1::tlv(SET, &parts.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

// shows: T-USE-DTBSR-FORGE
#[test]
fn minimal_attributes_bind_document_and_certificate() {
    let (cert, other) = (certificate(1), certificate(2));
    let der = minimal_signed_attrs(&[7; 32], cert.der()).unwrap();
    assert_eq!(der, minimal_signed_attrs(&[7; 32], cert.der()).unwrap());
    let attrs = parse_signed_attrs_strict(&der).unwrap();
    assert_eq!(
        attrs.present,
        [
            oid::CONTENT_TYPE,
            oid::MESSAGE_DIGEST,
            oid::SIGNING_CERTIFICATE_V2
        ]
    );
    assert_eq!(attrs.check(&[7; 32], &cert), Ok(()));
    assert_eq!(
        attrs.check(&[8; 32], &cert),
        Err(SignedAttrsError::OtherDocument)
    );
    assert_eq!(
        attrs.check(&[7; 32], &other),
        Err(SignedAttrsError::OtherCertificate)
    );
}

#[test]
fn one_set_has_one_encoding() {
    let parts = required(&[7; 32], &certificate(1));
    assert!(parse_signed_attrs_strict(&join(&parts)).is_ok());
    let mut reversed = parts.clone();
    reversed.reverse();
    assert_eq!(
        parse_signed_attrs_strict(&join(&reversed)),
        Err(SignedAttrsError::Unsorted)
    );
    let doubled = [
        parts[0].clone(),
        parts[0].clone(),
        parts[1].clone(),
        parts[2].clone(),
    ];
    assert!(parse_signed_attrs_strict(&join(&doubled)).is_err());

    let mut trailing = join(&parts);
    trailing.push(0);
    assert!(parse_signed_attrs_strict(&trailing).is_err());
    let mut stored = join(&parts);
    stored[0] = 0xa0;
    assert!(parse_signed_attrs_strict(&stored).is_err());
}

#[test]
fn attributes_of_one_kind_and_values_are_not_doubled() {
    let cert = certificate(1);
    let mut parts = required(&[7; 32], &cert);
    parts.push(attribute(oid::MESSAGE_DIGEST, &asn1::octets(&[8; 32])));
    let doubled = asn1::set_of(parts);
    let refused = parse_signed_attrs_strict(&doubled);
    assert_eq!(
        refused,
        Err(SignedAttrsError::Repeated(oid::MESSAGE_DIGEST.to_owned()))
    );

    let values = asn1::tlv(SET, &[&asn1::octets(&[7; 32]), &asn1::octets(&[8; 32])]);
    let two_values = asn1::sequence(&[&asn1::try_oid(oid::MESSAGE_DIGEST).unwrap(), &values]);
    let parts = required(&[7; 32], &cert);
    let kept = parts
        .into_iter()
        .filter(|p| !contains(p, oid::MESSAGE_DIGEST));
    let set = asn1::set_of(kept.chain([two_values]).collect());
    assert!(matches!(
        parse_signed_attrs_strict(&set),
        Err(SignedAttrsError::Malformed(_))
    ));
}

fn contains(attribute: &[u8], id: &str) -> bool {
    let id = asn1::try_oid(id).unwrap();
    attribute.windows(id.len()).any(|w| w == id)
}

#[test]
fn every_required_attribute_is_missed() {
    let cert = certificate(1);
    for id in [
        oid::CONTENT_TYPE,
        oid::MESSAGE_DIGEST,
        oid::SIGNING_CERTIFICATE_V2,
    ] {
        let parts = required(&[7; 32], &cert)
            .into_iter()
            .filter(|p| !contains(p, id))
            .collect();
        let refused = parse_signed_attrs_strict(&asn1::set_of(parts));
        assert!(
            matches!(refused, Err(SignedAttrsError::Missing(_))),
            "{id}: {refused:?}"
        );
    }
}

#[test]
fn only_listed_attributes_are_allowed() {
    let cert = certificate(1);
    let with = |extra: Vec<u8>| {
        let mut parts = required(&[7; 32], &cert);
        parts.push(extra);
        parse_signed_attrs_strict(&asn1::set_of(parts))
    };
    let at = UnixTime(1_800_000_000);
    let timed = with(attribute(oid::SIGNING_TIME, &asn1::time(at))).unwrap();
    assert_eq!(timed.signing_time, Some(at));
    // The same moment in the other form of time is no DER of signingTime.
    assert!(with(attribute(oid::SIGNING_TIME, &asn1::generalized_time(at))).is_err());
    let refused = with(attribute(oid::SIGNATURE_TIME_STAMP, &asn1::octets(&[])));
    assert_eq!(
        refused,
        Err(SignedAttrsError::NotAllowed(
            oid::SIGNATURE_TIME_STAMP.to_owned()
        ))
    );
    let old = with(attribute(oid::SIGNING_CERTIFICATE, &asn1::sequence(&[])));
    assert!(matches!(old, Err(SignedAttrsError::NotAllowed(_))));
}

#[test]
fn content_type_must_be_data() {
    let mut parts = required(&[7; 32], &certificate(1));
    parts.retain(|p| !contains(p, oid::CONTENT_TYPE));
    parts.push(attribute(
        oid::CONTENT_TYPE,
        &asn1::try_oid(oid::TST_INFO).unwrap(),
    ));
    let refused = parse_signed_attrs_strict(&asn1::set_of(parts));
    assert_eq!(refused, Err(SignedAttrsError::ContentType));
}

#[test]
fn a_second_certificate_in_the_reference_is_refused() {
    let (one, two) = (certificate(1), certificate(2));
    // signingCertificateV2 with both references in one list.
    let inner = |cert: &Certificate| {
        let der = signing_certificate(cert);
        let mut fields = Tlv::single(&der, "a").unwrap().open(SEQUENCE, "a").unwrap();
        fields.next("oid").unwrap();
        let value = fields
            .next("set")
            .unwrap()
            .open(SET, "set")
            .unwrap()
            .next("value")
            .unwrap();
        let list = value.open(SEQUENCE, "value").unwrap().next("list").unwrap();
        list.value.to_vec()
    };
    let list = asn1::sequence(&[&asn1::sequence(&[&inner(&one), &inner(&two)])]);
    let mut parts = required(&[7; 32], &one);
    parts.retain(|p| !contains(p, oid::SIGNING_CERTIFICATE_V2));
    parts.push(attribute(oid::SIGNING_CERTIFICATE_V2, &list));
    assert!(parse_signed_attrs_strict(&asn1::set_of(parts)).is_err());
}

proptest! {
    #[test]
    fn a_changed_byte_is_refused_or_changes_what_is_bound(at in 0usize..200, bit in 0u8..8) {
        let cert = certificate(1);
        let mut der = minimal_signed_attrs(&[7; 32], cert.der()).unwrap();
        let at = at % der.len();
        der[at] ^= 1 << bit;
        if let Ok(attrs) = parse_signed_attrs_strict(&der) {
            prop_assert!(attrs.check(&[7; 32], &cert).is_err());
        }
    }
}
