//! Paths that must be refused, each for its own reason.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{NOW, Party, ca, purpose, usage};
use core_types::UnixTime;
use pki::asn1;
use pki::cert::Certificate;
use pki::crl::encode_extension;
use pki::oid;
use pki::path::{PathError, Purpose, validate};

/// root → middle → leaf with these extensions; validates the leaf.
fn check(
    root: &[Vec<u8>],
    middle: &[Vec<u8>],
    leaf: &[Vec<u8>],
    at: UnixTime,
    purpose: Purpose,
) -> Result<usize, PathError> {
    let [r, m, l] = ["root", "middle", "leaf"].map(Party::new);
    let (anchor, between, end) = (r.issue(&r, root), r.issue(&m, middle), m.issue(&l, leaf));
    validate(&end, &[between], &[anchor], at, purpose).map(|p| p.certificates.len())
}

#[test]
fn a_plain_path_is_valid_in_its_time_only() {
    let all = |at| check(&[ca(None)], &[ca(Some(0))], &[], at, Purpose::Signing);
    assert_eq!(all(NOW), Ok(3));
    assert_eq!(all(NOW.plus(3600)), Ok(3));
    assert!(matches!(
        all(NOW.plus(3601)),
        Err(PathError::Expired { .. })
    ));
    assert!(matches!(
        all(NOW.plus(-3601)),
        Err(PathError::NotYetValid { .. })
    ));
}

#[test]
fn issuers_must_be_allowed_to_issue() {
    let signing =
        |root: &[Vec<u8>], middle: &[Vec<u8>]| check(root, middle, &[], NOW, Purpose::Signing);
    assert!(matches!(
        signing(&[ca(None)], &[]),
        Err(PathError::NotCa { .. })
    ));
    assert!(matches!(
        signing(&[], &[ca(None)]),
        Err(PathError::NotCa { .. })
    ));
    let too_long = signing(&[ca(Some(0))], &[ca(None)]);
    assert!(
        matches!(
            too_long,
            Err(PathError::PathTooLong {
                allowed: 0,
                found: 1,
                ..
            })
        ),
        "{too_long:?}"
    );
    let no_cert_sign = [ca(None), usage([7, 0x80])];
    assert!(matches!(
        signing(&[ca(None)], &no_cert_sign),
        Err(PathError::KeyUsage { .. })
    ));
    assert_eq!(signing(&[ca(None)], &[ca(None), usage([2, 0x04])]), Ok(3));
}

#[test]
fn a_forged_signature_and_an_unknown_issuer_are_told_apart() {
    let [root, other, leaf] = [Party::new("root"), Party::new("root"), Party::new("leaf")];
    let anchor = root.issue(&root, &[ca(None)]);
    let forged = other.issue(&leaf, &[]);
    let error = validate(
        &forged,
        &[],
        std::slice::from_ref(&anchor),
        NOW,
        Purpose::Any,
    )
    .unwrap_err();
    assert!(matches!(error, PathError::BadSignature { .. }), "{error}");
    let stranger = Party::new("stranger").issue(&leaf, &[]);
    let error = validate(&stranger, &[], &[anchor], NOW, Purpose::Any).unwrap_err();
    assert!(matches!(error, PathError::NoIssuer { .. }), "{error}");
}

#[test]
fn a_renewed_ca_key_does_not_block_the_other() {
    let [old, new, leaf] = [Party::new("root"), Party::new("root"), Party::new("leaf")];
    let anchors = [old.issue(&old, &[ca(None)]), new.issue(&new, &[ca(None)])];
    for issuer in [&old, &new] {
        assert!(validate(&issuer.issue(&leaf, &[]), &[], &anchors, NOW, Purpose::Any).is_ok());
    }
}

#[test]
fn an_intermediate_is_not_an_anchor_and_a_loop_ends() {
    let [a, b, leaf] = [Party::new("a"), Party::new("b"), Party::new("leaf")];
    let loops = [
        a.issue(&b, &[ca(None)]),
        b.issue(&a, &[ca(None)]),
        a.issue(&a, &[ca(None)]),
    ];
    let error = validate(&a.issue(&leaf, &[]), &loops, &[], NOW, Purpose::Any).unwrap_err();
    assert!(matches!(error, PathError::NoIssuer { .. }), "{error}");
}

#[test]
fn unknown_critical_extensions_are_refused() {
    let unknown = encode_extension(oid::OCSP_NO_CHECK, true, &[5, 0]);
    let harmless = encode_extension(oid::OCSP_NO_CHECK, false, &[5, 0]);
    let with = |e: &[Vec<u8>]| check(&[ca(None)], &[ca(None)], e, NOW, Purpose::Signing);
    assert!(matches!(
        with(std::slice::from_ref(&unknown)),
        Err(PathError::UnknownCritical { .. })
    ));
    assert_eq!(with(std::slice::from_ref(&harmless)), Ok(3));
    // Twice the same: the certificate itself is malformed.
    assert!(matches!(
        with(&[harmless.clone(), harmless]),
        Err(PathError::Malformed(_))
    ));
    let in_ca = check(
        &[ca(None)],
        &[ca(None), unknown],
        &[],
        NOW,
        Purpose::Signing,
    );
    assert!(matches!(in_ca, Err(PathError::UnknownCritical { .. })));
}

#[test]
fn purposes_are_exact() {
    let with =
        |leaf: &[Vec<u8>], purpose| check(&[ca(None)], &[ca(None)], leaf, NOW, purpose).is_ok();
    let stamps = oid::KP_TIME_STAMPING;
    assert!(with(&[purpose(&[stamps], true)], Purpose::TimeStamping));
    assert!(!with(&[purpose(&[stamps], false)], Purpose::TimeStamping));
    assert!(!with(
        &[purpose(&[stamps, oid::KP_CLIENT_AUTH], true)],
        Purpose::TimeStamping
    ));
    assert!(!with(&[], Purpose::TimeStamping));
    assert!(with(
        &[purpose(&[oid::KP_OCSP_SIGNING], false)],
        Purpose::OcspSigning
    ));
    assert!(!with(&[purpose(&[stamps], true)], Purpose::OcspSigning));
    // Whoever logs in shows a certificate made for that: not one for signing, nor one for anything.
    let logs_in = |extensions: &[Vec<u8>]| with(extensions, Purpose::ClientAuthentication);
    let client = || purpose(&[oid::KP_CLIENT_AUTH], false);
    assert!(logs_in(&[client()]) && logs_in(&[usage([7, 0x80]), client()]));
    assert!(!logs_in(&[usage([6, 0x40]), client()]));
    assert!(!logs_in(&[]) && !logs_in(&[purpose(&[oid::KP_ANY], false)]));
    assert!(!logs_in(&[purpose(&[oid::KP_SERVER_AUTH], false)]));
    assert!(with(&[usage([6, 0x40])], Purpose::Signing));
    assert!(with(&[usage([7, 0x80])], Purpose::Signing));
    assert!(!with(&[usage([5, 0x20])], Purpose::Signing));
    // A person's certificate, and those of a time-stamping authority, a responder, a web server, a program.
    let code = "1.3.6.1.5.5.7.3.3";
    for (purposes, signs) in [
        (&[oid::KP_DOCUMENT_SIGNING][..], true),
        (&[oid::KP_EMAIL_PROTECTION], true),
        (&[oid::KP_SERVER_AUTH, oid::KP_CLIENT_AUTH], true),
        (&[oid::KP_ANY], true),
        (&[stamps], false),
        (&[oid::KP_OCSP_SIGNING], false),
        (&[oid::KP_SERVER_AUTH], false),
        (&[code], false),
    ] {
        for critical in [false, true] {
            let extension = purpose(purposes, critical);
            assert_eq!(with(&[extension], Purpose::Signing), signs, "{purposes:?}");
        }
    }
}

#[test]
fn policies_are_read_as_they_stand() {
    let party = Party::new("leaf");
    let policy = |oid: &str| asn1::sequence(&[&asn1::try_oid(oid).unwrap()]);
    let (a, b) = (policy("1.2.3"), policy("1.2.4"));
    let list = encode_extension(oid::CERT_POLICIES, false, &asn1::sequence(&[&a, &b]));
    let read = |extensions: &[Vec<u8>]| {
        let cert = Certificate::parse(&party.issue(&party, extensions)).unwrap();
        cert.policies()
    };
    assert_eq!(read(&[list]).unwrap(), ["1.2.3", "1.2.4"]);
    assert!(read(&[]).unwrap().is_empty());
    let broken = encode_extension(oid::CERT_POLICIES, false, &asn1::sequence(&[&[5, 0]]));
    assert!(read(&[broken]).is_err());
}

#[test]
fn an_anchor_is_trusted_as_a_leaf_only_byte_by_byte() {
    let root = Party::new("root");
    let [one, two] = [root.issue(&root, &[]), root.issue(&root, &[])];
    assert!(validate(&one, &[], std::slice::from_ref(&one), NOW, Purpose::Any).is_ok());
    // Same name and key, another signature: it isn't a CA, so it vouches for nothing.
    assert!(matches!(
        validate(&two, &[], &[one], NOW, Purpose::Any),
        Err(PathError::NotCa { .. })
    ));
}
