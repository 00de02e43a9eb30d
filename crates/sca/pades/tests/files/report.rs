//! The whole report, with certificates, revocation data and time-stamps of the development CA.

use std::sync::Arc;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use cades::{Trust, Verdict};
use core_types::clock::ManualClock;
use core_types::random::SeededRandom;
use core_types::{Clock as _, HashAlg, SigAlg, UnixTime};
use dev_ca::{DevCa, Urls};
use pades::{PrepareOptions, Prepared, Report, TimeSource, verify_file};
use pki::revocation::Evidence;
use pki::tsp::{TimeStampReq, token_of_response};
use pki::{Certificate, name, oid};

use crate::common::{NOW, append, document, options, prepare_to};

struct World {
    dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
    ca: DevCa,
    key: EcdsaKeyPair,
    chain: Vec<Certificate>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(NOW));
        let urls = Urls::under("http://127.0.0.1:9");
        let random = Arc::new(SeededRandom::new(1));
        let ca = DevCa::open(&dir.path().join("ca"), urls, clock.clone(), random).unwrap();
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let subject =
            name::encode(&[(oid::COUNTRY, "JP"), (oid::COMMON_NAME, "捺印 花子")]).unwrap();
        let spki = key.public_key().as_der().unwrap();
        let chain = ca.issue_for_key(spki.as_ref(), &subject, 365).unwrap();
        Self {
            dir,
            clock,
            ca,
            key,
            chain,
        }
    }

    /// Signs as the platform does: digest, attributes, value, CMS, and maybe a time-stamp.
    fn sign(&self, input: &[u8], stamped: bool) -> Vec<u8> {
        let path = self.dir.path().join("out.pdf");
        let (prepared, output) = prepare_to(&path, input, &with_room()).unwrap();
        let certificates: Vec<Vec<u8>> = self.chain.iter().map(|c| c.der().to_vec()).collect();
        let attrs = cades::signed_attrs(&prepared.digest, &certificates[0]).unwrap();
        let value = self.key.sign(&SystemRandom::new(), &attrs).unwrap();
        let alg = SigAlg::Ecdsa(HashAlg::Sha256);
        let mut cms = cades::build_signed_data(
            &attrs,
            alg,
            value.as_ref(),
            &certificates[0],
            &certificates[1..],
            None,
        )
        .unwrap();
        if stamped {
            let imprint = HashAlg::Sha256.digest(&cades::signature_value(&cms).unwrap());
            cms = cades::add_timestamp(&cms, &self.token(imprint)).unwrap();
        }
        prepared.embed(&output, &cms).unwrap();
        std::fs::read(path).unwrap()
    }

    fn token(&self, imprint: Vec<u8>) -> Vec<u8> {
        let request = TimeStampReq::new(HashAlg::Sha256, imprint, &SeededRandom::new(2));
        token_of_response(&self.ca.time_stamp(&request.encode().unwrap())).unwrap()
    }

    /// Adds a document time-stamp.
    fn stamp(&self, input: &[u8]) -> Vec<u8> {
        let path = self.dir.path().join("dts.pdf");
        let (mut prepared, output): (Prepared, _) = prepare_to(&path, input, &with_room()).unwrap();
        // Our writer makes signatures; the other kind differs in two words of the same place.
        let mut file = std::fs::read(&path).unwrap();
        let old = "/Type /Sig /Filter /Adobe.PPKLite /SubFilter /ETSI.CAdES.detached";
        let new = format!(
            "{:<1$}",
            "/Type /DocTimeStamp /Filter /A /SubFilter /ETSI.RFC3161",
            old.len()
        );
        let at = file
            .windows(old.len())
            .rposition(|w| w == old.as_bytes())
            .unwrap();
        file[at..at + old.len()].copy_from_slice(new.as_bytes());
        std::fs::write(&path, &file).unwrap();
        let [a, b, c, d] = prepared.byte_range.map(|n| usize::try_from(n).unwrap());
        prepared.digest = HashAlg::Sha256.digest(&[&file[a..b], &file[c..c + d]].concat());
        let token = self.token(prepared.digest.clone());
        prepared.embed(&output, &token).unwrap();
        std::fs::read(&path).unwrap()
    }

    fn trust(&self) -> Trust {
        let root = vec![self.ca.root().der().to_vec()];
        Trust {
            anchors: root.clone(),
            tsa_anchors: root,
            ..Trust::default()
        }
    }

    fn verify(&self, file: &[u8]) -> Report {
        let crls = vec![self.ca.crl().unwrap(), self.ca.root_crl().unwrap()];
        let evidence = Evidence {
            crls,
            ocsp_responses: Vec::new(),
        };
        verify_file(&file.to_vec(), &self.trust(), &evidence, self.clock.now()).unwrap()
    }
}

fn with_room() -> PrepareOptions {
    PrepareOptions {
        reserve: pades::reserve(2_000, Some(6_000)),
        ..options()
    }
}

fn codes(report: &Report) -> Vec<&'static str> {
    report
        .signatures
        .iter()
        .flat_map(|s| &s.reasons)
        .map(|r| r.code)
        .collect()
}

#[test]
fn good_signatures_pass_with_and_without_time_stamp() {
    let world = World::new();
    for stamped in [false, true] {
        let report = world.verify(&world.sign(&document(), stamped));
        assert_eq!(
            (report.verdict, codes(&report)),
            (Verdict::Passed, vec![]),
            "{report:?}"
        );
        let one = &report.signatures[0];
        assert_eq!(one.signer.as_deref(), Some("捺印 花子"));
        assert!(one.unchanged);
        assert_eq!((one.certificate, one.revocation), ("good", "good"));
        assert_eq!(one.signing_time, Some(UnixTime::rfc3339(NOW)));
        let expected = if stamped {
            ("good", TimeSource::Timestamp, Some("B-T"))
        } else {
            ("none", TimeSource::Claimed, Some("B-B"))
        };
        assert_eq!((one.time, one.time_source, one.level), expected);
    }
}

#[test]
fn a_second_signer_leaves_the_first_signature_good() {
    let world = World::new();
    let report = world.verify(&world.sign(&world.sign(&document(), true), true));
    assert_eq!(report.verdict, Verdict::Passed, "{report:?}");
    assert_eq!(report.signatures[0].later_fields, ["Signature2"]);
    assert_eq!(report.signatures[0].modification_level, "FORM_FILLING");
}

#[test]
fn changed_bytes_and_later_changes_fail() {
    let world = World::new();
    let file = world.sign(&document(), true);
    let at = file.windows(10).position(|w| w == b"(Contract)").unwrap();
    let mut forged = file.clone();
    forged[at + 1] = b'K';
    let report = world.verify(&forged);
    assert_eq!(
        (report.verdict, codes(&report)),
        (Verdict::Failed, vec!["HASH_FAILURE"])
    );
    assert!(!report.signatures[0].unchanged);

    let report = world.verify(&append(
        &file,
        &[(5, "<</Type /Font /Subtype /Type1 /BaseFont /Symbol>>")],
    ));
    assert_eq!(
        (report.verdict, codes(&report)),
        (Verdict::Failed, vec!["pdf-changed"])
    );
    assert!(!report.signatures[0].unchanged);
}

#[test]
fn unknown_issuers_and_revoked_certificates_are_undetermined() {
    let world = World::new();
    let file = world.sign(&document(), false);
    let report = verify_file(&file, &Trust::default(), &Evidence::default(), NOW).unwrap();
    assert_eq!(
        (report.verdict, codes(&report)),
        (Verdict::Undetermined, vec!["NO_CERTIFICATE_CHAIN_FOUND"])
    );
    assert_eq!(report.signatures[0].certificate, "undetermined");

    // A time-stamp about which nobody can be asked isn't a bad one, and proves no time.
    let stamped = world.sign(&document(), true);
    let report = verify_file(&stamped, &world.trust(), &Evidence::default(), NOW).unwrap();
    let one = &report.signatures[0];
    assert_eq!(
        (report.verdict, one.time, one.time_source),
        (Verdict::Undetermined, "undetermined", TimeSource::Claimed)
    );

    world.ca.revoke(&world.chain[0].info().serial, 1).unwrap();
    world.clock.advance(60);
    let report = world.verify(&file);
    assert_eq!(
        (report.verdict, codes(&report)),
        (Verdict::Undetermined, vec!["REVOKED_NO_POE"])
    );
    assert_eq!(report.signatures[0].revocation, "revoked");
}

#[test]
fn a_document_time_stamp_is_judged_as_one() {
    let world = World::new();
    let file = world.stamp(&world.sign(&document(), true));
    let report = world.verify(&file);
    assert_eq!(
        (report.verdict, codes(&report)),
        (Verdict::Passed, vec![]),
        "{report:?}"
    );
    let stamp = &report.signatures[1];
    assert_eq!(
        (stamp.kind, stamp.time, stamp.level),
        ("document-timestamp", "good", None)
    );
    assert_eq!(report.signatures[0].modification_level, "LTA_UPDATES");

    let mut forged = file.clone();
    let at = file.windows(7).rposition(|w| w == b"(Tokyo)").unwrap();
    forged[at + 1] = b'K';
    let report = world.verify(&forged);
    assert_eq!(
        (report.verdict, codes(&report)),
        (Verdict::Failed, vec!["HASH_FAILURE"])
    );
}

/// Counts what is read.
struct Counting<'a>(&'a Vec<u8>, std::cell::Cell<u64>);

impl pdf_update::Source for Counting<'_> {
    fn size(&self) -> std::io::Result<u64> {
        pdf_update::Source::size(self.0)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
        self.1.set(self.1.get() + buf.len() as u64);
        pdf_update::Source::read_at(self.0, buf, offset)
    }
}

#[test]
fn a_store_that_names_one_object_again_and_again_is_read_once() {
    let world = World::new();
    let file = world.sign(&document(), false);
    let pdf = pdf_update::Pdf::open(&file).unwrap();
    let mut text = Vec::new();
    let store = pdf_update::Object::Ref(pdf_update::ObjId::new(40));
    pdf_update::Object::Dict(pdf.catalog().unwrap().with("DSS", store)).write(&mut text);
    let catalog = String::from_utf8(text).unwrap();
    let store = format!("<</Type /DSS /Certs [{}]>>", "41 0 R ".repeat(400));
    let size = 1 << 20;
    let stream = format!(
        "<</Length {size}>>\nstream\n{}\nendstream",
        "0".repeat(size)
    );
    let with_store = append(&file, &[(1, &catalog), (40, &store), (41, &stream)]);
    let found = pades::signatures(&with_store).unwrap();
    let source = Counting(&with_store, std::cell::Cell::new(0));
    let report = pades::verify(&source, &found, &world.trust(), &Evidence::default(), NOW).unwrap();
    assert_eq!(report.signatures[0].modification_level, "LTA_UPDATES");
    assert!(source.1.get() < 10 << 20, "{} bytes", source.1.get());
}

#[test]
fn a_file_without_signature_is_undetermined_also_with_a_good_time_stamp() {
    let world = World::new();
    for (file, stamps) in [(document(), 0), (world.stamp(&document()), 1)] {
        let report = world.verify(&file);
        assert_eq!(report.verdict, Verdict::Undetermined);
        assert_eq!(report.reasons[0].code, "no-signature");
        assert_eq!(report.signatures.len(), stamps);
        assert!(
            report
                .signatures
                .iter()
                .all(|s| s.verdict == Verdict::Passed)
        );
    }
}
