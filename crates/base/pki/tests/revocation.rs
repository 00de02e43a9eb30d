//! Who may say that a certificate is good, and how long that counts.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use common::{ALG, NOW, Party, ca, purpose, usage};
use core_types::UnixTime;
use pki::asn1;
use pki::crl::{CrlError, RevokedEntry, assemble, encode_extension, encode_tbs};
use pki::fetch::{Fetch, FetchError, Fetching};
use pki::ocsp::{self, CertId, CertStatus, OcspError, SingleResponse};
use pki::revocation::{Evidence, Source, State, Unusable, gather, state};
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
        self.ocsp_of(NOW, answer, by, cert)
    }

    /// The same, signed at this time.
    fn ocsp_of(
        &self,
        produced_at: UnixTime,
        answer: SingleResponse,
        by: &Party,
        cert: &Certificate,
    ) -> Vec<u8> {
        let tbs = ocsp::encode_tbs(cert, produced_at, &[answer], None);
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
fn a_former_responder_may_not_answer_any_more() {
    let bench = Bench::new();
    let delegate = Party::new("responder");
    let cert = bench.ca.issue_until(
        &delegate,
        NOW.plus(300),
        &[purpose(&[oid::KP_OCSP_SIGNING], false), no_check()],
    );
    let cert = Certificate::parse(&cert).unwrap();
    // Its key is old and may be in anybody's hands, who dates the answer back.
    let answer = |status| SingleResponse {
        next_update: Some(NOW.plus(3_600)),
        ..bench.answer(status)
    };
    let good = bench.ocsp(answer(CertStatus::Good), &delegate, &cert);
    let judge = |der: &[u8], at| bench.judge(&[], &[der.to_vec()], at);
    assert!(matches!(judge(&good, NOW.plus(300)), State::Good { .. }));
    let later = judge(&good, NOW.plus(301));
    assert!(
        matches!(&later, State::Unknown(why) if matches!(
            why[..],
            [Unusable::Ocsp(OcspError::Responder(PathError::Expired { .. }))]
        )),
        "{later:?}"
    );
    // What it once said of a revocation stays true.
    let status = CertStatus::Revoked {
        at: NOW.plus(-9),
        reason: 1,
    };
    let revoked = bench.ocsp(answer(status), &delegate, &cert);
    assert!(matches!(
        judge(&revoked, NOW.plus(301)),
        State::Revoked { .. }
    ));
}

#[test]
fn an_answer_is_not_signed_before_it_is_known_nor_after_the_time_in_question() {
    let bench = Bench::new();
    let signed_at = |time| {
        let answer = bench.answer(CertStatus::Good);
        let der = bench.ocsp_of(time, answer, &bench.ca, &bench.ca_cert);
        bench.judge(&[], &[der], NOW)
    };
    assert!(matches!(signed_at(NOW), State::Good { .. }));
    assert!(matches!(signed_at(NOW.plus(300)), State::Good { .. }));
    assert!(
        matches!(signed_at(NOW.plus(-1)), State::Unknown(why) if matches!(why[..], [Unusable::Premature { .. }]))
    );
    assert!(
        matches!(signed_at(NOW.plus(301)), State::Unknown(why) if matches!(why[..], [Unusable::Future { .. }]))
    );
}

/// Answers by address, at once.
struct Net(Vec<(&'static str, Vec<u8>)>);

impl Net {
    fn answer(&self, url: &str) -> Fetching<'_> {
        let found = self.0.iter().find(|(u, _)| *u == url);
        let answer = found.map(|(_, bytes)| bytes.clone()).ok_or(FetchError {
            url: url.to_owned(),
            reason: "nobody there".to_owned(),
            answered: false,
        });
        Box::pin(std::future::ready(answer))
    }
}

impl Fetch for Net {
    fn get<'a>(&'a self, url: &'a str, _: usize) -> Fetching<'a> {
        self.answer(url)
    }

    fn post<'a>(&'a self, url: &'a str, _: &'a str, _: Vec<u8>, _: usize) -> Fetching<'a> {
        self.answer(url)
    }
}

#[test]
fn an_answer_that_says_nothing_does_not_keep_the_list_from_being_asked() {
    let mut bench = Bench::new();
    let uri = |url: &str| asn1::tlv(asn1::context(6), &[url.as_bytes()]);
    let access = asn1::sequence(&[&asn1::try_oid(oid::AD_OCSP).unwrap(), &uri("http://ocsp")]);
    let full = asn1::tlv(asn1::context_constructed(0), &[&uri("http://crl")]);
    let point = asn1::sequence(&[&asn1::tlv(asn1::context_constructed(0), &[&full])]);
    let leaf = bench.ca.issue(
        &bench.leaf,
        &[
            usage([6, 0x40]),
            encode_extension(oid::AUTHORITY_INFO, false, &asn1::sequence(&[&access])),
            encode_extension(oid::CRL_DISTRIBUTION, false, &asn1::sequence(&[&point])),
        ],
    );
    bench.leaf_cert = Certificate::parse(&leaf).unwrap();
    let entry = RevokedEntry {
        serial: bench.leaf_cert.serial().to_vec(),
        at: NOW.plus(-5),
        reason: 1,
    };
    let crl = bench.crl(&bench.ca, &[entry]);
    let mut stale = bench.answer(CertStatus::Good);
    stale.next_update = Some(NOW.plus(-1));
    let forged = bench.ocsp(bench.answer(CertStatus::Good), &bench.leaf, &bench.ca_cert);
    let unknown = bench.ocsp(bench.answer(CertStatus::Unknown), &bench.ca, &bench.ca_cert);
    let stale = bench.ocsp(stale, &bench.ca, &bench.ca_cert);
    let gathered = |ocsp: Vec<u8>| {
        let net = Net(vec![("http://ocsp", ocsp), ("http://crl", crl.clone())]);
        let mut work = pin!(gather(&bench.leaf_cert, &bench.ca_cert, NOW, &net));
        match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(evidence) => evidence,
            Poll::Pending => panic!("nothing here waits"),
        }
    };
    for answer in [stale, forged, unknown, b"<html>".to_vec()] {
        let evidence = gathered(answer);
        let state = state(&bench.leaf_cert, &bench.ca_cert, &evidence, NOW);
        assert!(matches!(state, State::Revoked { .. }), "{state:?}");
    }
    let good = bench.ocsp(bench.answer(CertStatus::Good), &bench.ca, &bench.ca_cert);
    assert!(gathered(good).crls.is_empty());
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
