//! Who may say that a certificate is good, and how long that counts.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{ALG, NOW, Party, ca, purpose, usage};
use core_types::UnixTime;
use pki::asn1;
use pki::crl::{CrlError, RevokedEntry, assemble, encode_extension, encode_tbs};
use pki::ocsp::{self, CertId, CertStatus, OcspError, SingleResponse};
use pki::revocation::{Evidence, Source, State, Unusable, state};
use pki::{Certificate, PathError, oid};

struct Bench {
    ca: Party,
    ca_cert: Certificate,
    leaf: Party,
    leaf_cert: Certificate,
}

impl Bench {
    fn new() -> Self {
        let (ca_party, leaf) = (Party::new("ca"), Party::new("leaf"));
        let ca_cert = Certificate::parse(&ca_party.issue(&ca_party, &[ca(None)])).unwrap();
        let leaf_cert = Certificate::parse(&ca_party.issue(&leaf, &[usage([6, 0x40])])).unwrap();
        Self {
            ca: ca_party,
            ca_cert,
            leaf,
            leaf_cert,
        }
    }

    fn answer(&self, status: CertStatus) -> SingleResponse {
        SingleResponse {
            id: CertId::new(&self.ca_cert, self.leaf_cert.serial(), None),
            status,
            this_update: NOW,
            next_update: Some(NOW.plus(600)),
        }
    }

    /// A response by this party under this certificate.
    fn ocsp(&self, answer: SingleResponse, by: &Party, cert: &Certificate) -> Vec<u8> {
        let tbs = ocsp::encode_tbs(cert, NOW, &[answer], None);
        ocsp::encode_successful(&tbs, ALG, &by.sign(&tbs), cert)
    }

    fn good_by(&self, by: &Party, cert: &[u8]) -> State {
        let cert = Certificate::parse(cert).unwrap();
        let answer = self.ocsp(self.answer(CertStatus::Good), by, &cert);
        self.judge(&[], &[answer], NOW)
    }

    fn judge(&self, crls: &[Vec<u8>], responses: &[Vec<u8>], at: UnixTime) -> State {
        let evidence = Evidence {
            crls: crls.to_vec(),
            ocsp_responses: responses.to_vec(),
        };
        state(&self.leaf_cert, &self.ca_cert, &evidence, at)
    }

    fn crl(&self, by: &Party, revoked: &[RevokedEntry]) -> Vec<u8> {
        let tbs = encode_tbs(&self.ca_cert, ALG, NOW, NOW.plus(600), 1, revoked);
        assemble(&tbs, ALG, &by.sign(&tbs))
    }
}

fn no_check() -> Vec<u8> {
    encode_extension(oid::OCSP_NO_CHECK, false, &[5, 0])
}

#[test]
fn the_ca_and_its_delegate_may_answer() {
    let bench = Bench::new();
    let by_ca = bench.good_by(&bench.ca, bench.ca_cert.der());
    assert_eq!(
        by_ca,
        State::Good {
            source: Source::Ocsp,
            this_update: NOW
        }
    );
    let delegate = Party::new("responder");
    let cert = bench.ca.issue(
        &delegate,
        &[purpose(&[oid::KP_OCSP_SIGNING], false), no_check()],
    );
    assert!(matches!(
        bench.good_by(&delegate, &cert),
        State::Good { .. }
    ));
}

#[test]
fn nobody_else_may_answer() {
    let bench = Bench::new();
    // Any holder of a certificate by the same CA, such as the revoked signer.
    let by_leaf = bench.good_by(&bench.leaf, bench.leaf_cert.der());
    let State::Unknown(why) = by_leaf else {
        panic!("{by_leaf:?}")
    };
    assert!(
        matches!(
            why[..],
            [Unusable::Ocsp(OcspError::Responder(
                PathError::ExtKeyUsage { .. }
            ))]
        ),
        "{why:?}"
    );
    let responder = Party::new("responder");
    let signing = purpose(&[oid::KP_OCSP_SIGNING], false);
    // A responder of another CA, and of one that only has the name.
    for other in [Party::new("other"), Party::new("ca")] {
        let cert = other.issue(&responder, &[signing.clone(), no_check()]);
        let judged = bench.good_by(&responder, &cert);
        let State::Unknown(why) = judged else {
            panic!("{judged:?}")
        };
        assert!(
            matches!(why[..], [Unusable::Ocsp(OcspError::Responder(_))]),
            "{why:?}"
        );
    }
    // A responder whose own status would have to be known.
    let cert = bench.ca.issue(&responder, &[signing]);
    let expected = State::Unknown(vec![Unusable::Ocsp(OcspError::ResponderMayBeRevoked)]);
    assert_eq!(bench.good_by(&responder, &cert), expected);
    // The right certificate, another key.
    let judged = bench.good_by(&bench.leaf, bench.ca_cert.der());
    assert!(
        matches!(&judged, State::Unknown(why) if matches!(why[..], [Unusable::Ocsp(OcspError::Signature(_))]))
    );
}

#[test]
fn answers_count_in_their_time_and_for_their_certificate() {
    let bench = Bench::new();
    let good = bench.ocsp(bench.answer(CertStatus::Good), &bench.ca, &bench.ca_cert);
    let judge = |at| bench.judge(&[], std::slice::from_ref(&good), at);
    assert!(matches!(judge(NOW.plus(600)), State::Good { .. }));
    assert!(
        matches!(judge(NOW.plus(601)), State::Unknown(why) if matches!(why[..], [Unusable::Stale { .. }]))
    );
    assert!(
        matches!(judge(NOW.plus(-301)), State::Unknown(why) if matches!(why[..], [Unusable::Future { .. }]))
    );

    let mut other = bench.answer(CertStatus::Good);
    other.id.serial = vec![2];
    let other = bench.ocsp(other, &bench.ca, &bench.ca_cert);
    assert_eq!(bench.judge(&[], &[other], NOW), State::Unknown(Vec::new()));
    let unknown = bench.ocsp(bench.answer(CertStatus::Unknown), &bench.ca, &bench.ca_cert);
    assert_eq!(
        bench.judge(&[], &[unknown], NOW),
        State::Unknown(vec![Unusable::NotKnown])
    );
}

#[test]
fn any_revocation_outweighs_every_good_answer_and_never_grows_stale() {
    let bench = Bench::new();
    let good = bench.ocsp(bench.answer(CertStatus::Good), &bench.ca, &bench.ca_cert);
    let entry = RevokedEntry {
        serial: bench.leaf_cert.serial().to_vec(),
        at: NOW.plus(-5),
        reason: 1,
    };
    let crl = bench.crl(&bench.ca, &[entry]);
    let revoked = State::Revoked {
        source: Source::Crl,
        at: NOW.plus(-5),
        reason: 1,
    };
    assert_eq!(
        bench.judge(std::slice::from_ref(&crl), std::slice::from_ref(&good), NOW),
        revoked
    );
    assert_eq!(bench.judge(&[crl], &[], NOW.plus(100_000)), revoked);
    let empty = bench.crl(&bench.ca, &[]);
    let status = CertStatus::Revoked {
        at: NOW.plus(-9),
        reason: 4,
    };
    let answer = bench.ocsp(bench.answer(status), &bench.ca, &bench.ca_cert);
    let revoked = State::Revoked {
        source: Source::Ocsp,
        at: NOW.plus(-9),
        reason: 4,
    };
    assert_eq!(bench.judge(&[empty], &[answer, good], NOW), revoked);
}

#[test]
fn a_list_counts_only_by_the_issuer_and_complete() {
    let bench = Bench::new();
    assert!(matches!(
        bench.judge(&[bench.crl(&bench.ca, &[])], &[], NOW),
        State::Good { .. }
    ));
    let forged = bench.judge(&[bench.crl(&bench.leaf, &[])], &[], NOW);
    assert!(
        matches!(&forged, State::Unknown(why) if matches!(why[..], [Unusable::Crl(CrlError::Signature(_))])),
        "{forged:?}"
    );
    // A CA that may issue certificates but no lists.
    let restricted = bench.ca.issue(&bench.ca, &[ca(None), usage([2, 0x04])]);
    let crl = pki::crl::Crl::parse(&bench.crl(&bench.ca, &[])).unwrap();
    let restricted = Certificate::parse(&restricted).unwrap();
    assert_eq!(crl.verify(&restricted), Err(CrlError::KeyUsage));

    // A list of CA certificates only (critical issuingDistributionPoint) says nothing about signers.
    let scope = asn1::sequence(&[&asn1::tlv(asn1::context(2), &[&[0xff]])]);
    let scope = asn1::sequence(&[
        &asn1::try_oid("2.5.29.28").unwrap(),
        &asn1::tlv(asn1::BOOLEAN, &[&[0xff]]),
        &asn1::octets(&scope),
    ]);
    let tbs = asn1::sequence(&[
        &asn1::uint(&[1]),
        &pki::alg::encode_sig_alg(ALG),
        bench.ca_cert.subject(),
        &asn1::time(NOW),
        &asn1::time(NOW.plus(600)),
        &asn1::tlv(asn1::context_constructed(0), &[&asn1::sequence(&[&scope])]),
    ]);
    let partial = bench.judge(&[assemble(&tbs, ALG, &bench.ca.sign(&tbs))], &[], NOW);
    let expected = Unusable::Crl(CrlError::UnknownCritical("2.5.29.28".to_owned()));
    assert_eq!(partial, State::Unknown(vec![expected]));
}
