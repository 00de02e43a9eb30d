use std::collections::BTreeMap;
use std::path::Path;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA256_ASN1_SIGNING,
    ECDSA_P521_SHA384_ASN1_SIGNING, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::super::approvals::Approvals;
use super::super::made::{self, ECDSA_SHA256, Key};
use super::super::{Anchors, Bundle};
use super::*;

/// No extensions.
const NONE: &[&[u8]] = &[];

fn seed(name: &str) -> Vec<u8> {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../fuzz/seeds/pki");
    std::fs::read(seeds.join(name)).unwrap()
}

#[test]
fn what_is_cut_or_altered_is_read_to_an_end_and_believed_of_nobody() {
    let der = seed("certificate");
    let known = Certificate::read(&der).unwrap();
    let believed = |der: &[u8]| {
        let by = [crl(der, &known, &known), ocsp(der, &known, &known)];
        by.iter().any(|said| matches!(said, Some(Ok(_))))
    };
    let (list, answer) = (seed("crl"), seed("ocsp-response"));
    let foreign = Some(Err(UNSIGNED));
    assert_eq!(crl(&list, &known, &known), foreign, "another CA's");
    assert_eq!(ocsp(&answer, &known, &known), foreign, "another CA's");
    assert_eq!(
        (crl(&answer, &known, &known), ocsp(&list, &known, &known)),
        (None, None)
    );
    for good in [list, answer, der.clone()] {
        for at in 0..good.len() {
            assert!(!believed(&good[..at]), "{at}");
            for bit in [1, 0x20, 0x80] {
                let mut bad = good.clone();
                bad[at] ^= bit;
                assert!(!believed(&bad), "{at}");
                // Nor does a certificate of any form stop the reader.
                let _ = Certificate::read(&bad).map(|c| (c.is_responder(), c.is_authority()));
            }
        }
    }
}

/// A CA's key and certificate, and the certificate number 7 by it.
fn ca(key: Key) -> (Key, Vec<u8>, Vec<u8>) {
    let own = made::certificate(("CA", &key), ("CA", &key), &[&made::authority()]);
    let leaf = made::certificate(("signer", &key), ("CA", &key), &[]);
    (key, own, leaf)
}

// shows: T-INS-OPERATOR
#[test]
fn a_list_that_isnt_whole_says_of_no_certificate_that_it_is_good() {
    let (key, own, leaf) = ca(Key::ec(&ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_SHA256));
    let (own, leaf) = (
        Certificate::read(&own).unwrap(),
        Certificate::read(&leaf).unwrap(),
    );
    let read = |der: Vec<u8>| crl(&der, &own, &leaf);
    let one = |name: u8, critical| made::extension(&[0x55, 0x1d, name], critical, &[5, 0]);
    // CRL number; delta CRL indicator; issuing distribution point.
    let (number, delta, part) = (one(0x14, false), one(0x1b, true), one(0x1c, true));
    assert_eq!(
        read(made::crl(("CA", &key), &[], &[&number])),
        Some(Ok("released"))
    );
    assert_eq!(
        read(made::crl(("CA", &key), &[(7, NONE)], &[&number])),
        Some(Ok("revoked"))
    );
    for part in [&delta, &part] {
        for listed in [None, Some((7, NONE)), Some((8, NONE))] {
            let said = read(made::crl(("CA", &key), listed.as_slice(), &[&number, part]));
            assert_eq!(said, Some(Err(IN_PART)));
        }
    }
    // The reason may be marked critical: whoever reads it knows it.
    let reason = |code| made::extension(&REASON, true, &[ENUMERATED, 1, code]);
    let (known, hold) = (reason(1), reason(HOLD));
    for (serial, reason, wanted) in [
        (7, &known, "revoked"),
        (7, &hold, "hold"),
        (8, &known, "released"),
    ] {
        let listed: [(u8, &[&[u8]]); 1] = [(serial, &[reason])];
        let said = read(made::crl(("CA", &key), &listed, &[&number]));
        assert_eq!(said, Some(Ok(wanted)));
    }
    let said = read(made::crl(("CA", &key), &[(7, NONE)], &[&known]));
    assert_eq!(said, Some(Err(IN_PART)), "none of the list's own");
    // From an entry that names another CA on, entries are that CA's.
    let another = one(0x1d, true);
    let listed: [(u8, &[&[u8]]); 2] = [(8, &[&another]), (7, NONE)];
    let said = read(made::crl(("CA", &key), &listed, &[&number]));
    assert_eq!(said, Some(Err(IN_PART)));
}

#[test]
fn what_cas_sign_with_other_algorithms_is_read_and_what_isnt_is_not_called_forged() {
    let ecdsa = |last: u8| [&ECDSA_SHA256[..7], &[last][..]].concat();
    let rsa = |last: u8| vec![0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, last];
    let keys = [
        Key::ec(&ECDSA_P256_SHA256_ASN1_SIGNING, &ecdsa(2)),
        Key::ec(&ECDSA_P384_SHA384_ASN1_SIGNING, &ecdsa(3)),
        Key::ec(&ECDSA_P521_SHA256_ASN1_SIGNING, &ecdsa(2)),
        Key::ec(&ECDSA_P521_SHA384_ASN1_SIGNING, &ecdsa(3)),
        Key::rsa(&RSA_PKCS1_SHA256, &rsa(11)),
        Key::rsa(&RSA_PKCS1_SHA384, &rsa(12)),
        Key::rsa(&RSA_PKCS1_SHA512, &rsa(13)),
    ];
    for (at, key) in keys.into_iter().enumerate() {
        let (key, own, leaf) = ca(key);
        let (own, leaf) = (
            Certificate::read(&own).unwrap(),
            Certificate::read(&leaf).unwrap(),
        );
        assert_eq!(leaf.signed_by(&own), Some(true), "{at}");
        let list = made::crl(("CA", &key), &[], &[]);
        assert_eq!(crl(&list, &own, &leaf), Some(Ok("released")), "{at}");
        let mut forged = list;
        let last = forged.len() - 1;
        forged[last] ^= 1;
        assert_eq!(crl(&forged, &own, &leaf), Some(Err(UNSIGNED)), "{at}");
    }
    // RSASSA-PSS isn't read: whether it is forged isn't known.
    let (key, own, leaf) = ca(Key::rsa(&RSA_PKCS1_SHA256, &rsa(10)));
    let (own, leaf) = (
        Certificate::read(&own).unwrap(),
        Certificate::read(&leaf).unwrap(),
    );
    assert_eq!(leaf.signed_by(&own), None);
    let list = made::crl(("CA", &key), &[], &[]);
    assert_eq!(crl(&list, &own, &leaf), Some(Err(UNREAD)));
}

/// What is found of a certificate by `issuer`, before the log is asked.
fn judged(leaf: &[u8], issuer: &[u8], known: Option<&[u8]>) -> Option<EvidenceFault> {
    let root = json!({"kty": "EC", "crv": "P-256", "x": "", "y": ""});
    let bundle = Bundle {
        format: String::new(),
        act: String::new(),
        root: serde_json::from_value(root).unwrap(),
        documents: Vec::new(),
        certificates: Vec::new(),
        checkpoint: String::new(),
        entries: Vec::new(),
        salt: String::new(),
    };
    let case = Case {
        bundle: &bundle,
        approvals: Approvals {
            salt: &[],
            root: &bundle.root,
            documents: &BTreeMap::new(),
            logged: &[],
        },
        anchors: Anchors {
            root: "",
            log: "",
            issuer: known,
            providers: &[],
            authorities: &[],
        },
        authorities: Vec::new(),
    };
    let said = Revocation {
        certificate: URL_SAFE_NO_PAD.encode(leaf),
        issuer: URL_SAFE_NO_PAD.encode(issuer),
        digest: String::new(),
        published: None,
        at: 0,
        software: String::new(),
    };
    revocation(&case, &said).err()
}

// shows: T-INS-OPERATOR
#[test]
fn the_holder_of_a_certificate_isnt_taken_for_a_ca() {
    let key = || Key::ec(&ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_SHA256);
    let (root, middle) = (key(), key());
    let known = made::certificate(("root", &root), ("root", &root), &[]);
    let holder = made::certificate(("middle", &middle), ("root", &root), &[]);
    let authority = made::authority();
    let real = made::certificate(("middle", &middle), ("root", &root), &[&authority]);
    let leaf = made::certificate(("signer", &key()), ("middle", &middle), &[]);
    let by_root = made::certificate(("signer", &key()), ("root", &root), &[]);
    let no_ca = Some(EvidenceFault::Broken(NO_CA));
    let not_in_log = EvidenceFault::Broken("the log doesn't contain what the CA published");
    assert_eq!(judged(&leaf, &holder, Some(&known[..])), no_ca);
    assert_eq!(judged(&leaf, &holder, None), no_ca);
    // The one that the reader named is believed, whatever it says of itself.
    for (leaf, issuer, known) in [
        (&leaf, &real, Some(&known[..])),
        (&leaf, &real, None),
        (&by_root, &known, Some(&known[..])),
    ] {
        assert_eq!(judged(leaf, issuer, known).as_ref(), Some(&not_in_log));
    }
}
