//! What the verifier says about good, changed, revoked, expired and untrusted signatures; OpenSSL as oracle.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod counter;

use std::fs;
use std::process::Command;

use cades::{CmsReport, Reason, Revocation, Trust, Verdict};
use common::{DOCUMENT, Signer, World, at_once};
use core_types::{Approvals, HashAlg, SigAlg};
use pki::revocation::Evidence;
use proptest::prelude::*;

const P256: SigAlg = SigAlg::Ecdsa(HashAlg::Sha256);
const DAY: i64 = 86_400;

fn report(world: &World, cms: &[u8], document: &[u8]) -> CmsReport {
    let trust = world.trust();
    let evidence = at_once(cades::gather(cms, &trust, world.now(), world));
    with(world, cms, document, &trust, &evidence)
}

fn with(
    world: &World,
    cms: &[u8],
    document: &[u8],
    trust: &Trust,
    evidence: &Evidence,
) -> CmsReport {
    cades::verify(
        cms,
        &|hash| hash.digest(document),
        trust,
        evidence,
        world.now(),
    )
}

fn stamped(world: &World, signer: &Signer) -> Vec<u8> {
    let cms = signer.sign(DOCUMENT);
    cades::add_timestamp(&cms, &world.token(&cms)).unwrap()
}

#[test]
fn every_algorithm_passes_here_and_at_openssl() {
    let world = World::new();
    let algs = [
        P256,
        SigAlg::Ecdsa(HashAlg::Sha384),
        SigAlg::RsaPkcs1(HashAlg::Sha256),
        SigAlg::RsaPkcs1(HashAlg::Sha512),
        SigAlg::RsaPss(HashAlg::Sha256),
        SigAlg::RsaPss(HashAlg::Sha512),
    ];
    for alg in algs {
        let signer = world.signer(alg);
        for cms in [signer.sign(DOCUMENT), stamped(&world, &signer)] {
            let report = report(&world, &cms, DOCUMENT);
            assert_eq!(report.verdict, Verdict::Passed, "{alg}: {report:?}");
            assert_eq!(report.sig_alg, Some(alg));
            assert_eq!(report.chain.len(), 3);
            assert!(matches!(
                report.signer_revocation(),
                Revocation::Good { .. }
            ));
            openssl_accepts(&world, &cms, DOCUMENT, true);
            openssl_accepts(&world, &cms, b"another contract", false);
        }
    }
}

fn openssl_accepts(world: &World, cms: &[u8], document: &[u8], expected: bool) {
    let [signature, content] = ["signature", "content"].map(|n| world.dir.path().join(n));
    fs::write(&signature, cms).unwrap();
    fs::write(&content, document).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args([
        "cms", "-verify", "-cades", "-binary", "-inform", "DER", "-purpose", "any",
    ]);
    openssl
        .arg("-in")
        .arg(signature)
        .arg("-content")
        .arg(content)
        .args(["-out", "/dev/null", "-CAfile"]);
    let output = openssl.arg(world.ca.trust_anchors_file()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.success(), expected, "{text}");
    assert_eq!(
        text.contains("CAdES Verification successful"),
        expected,
        "{text}"
    );
}

#[test]
fn a_time_stamp_names_time_and_authority() {
    let world = World::new();
    let cms = stamped(&world, &world.signer(P256));
    let stamped_at = world.now();
    world.clock.advance(60);
    let report = report(&world, &cms, DOCUMENT);
    let stamp = report.proved_time().unwrap();
    assert_eq!(stamp.time, Some(stamped_at));
    assert_eq!(
        stamp.tsa.as_deref(),
        Some("Natsuin Development Time-Stamping Authority")
    );
    assert!(matches!(stamp.revocation, Some(Revocation::Good { .. })));
    assert_eq!(report.best_signature_time, stamped_at);
}

#[test]
fn changes_are_found() {
    let world = World::new();
    let signer = world.signer(P256);
    let cms = signer.sign(DOCUMENT);
    let changed = report(&world, &cms, b"another contract");
    assert_eq!(
        (changed.verdict, changed.reason),
        (Verdict::Failed, Some(Reason::HashFailure))
    );
    assert!(!changed.intact);

    let mut damaged = cms.clone();
    let value = cades::signature_value(&cms).unwrap();
    let at = cms.windows(value.len()).position(|w| w == value).unwrap();
    damaged[at + value.len() - 1] ^= 1;
    let damaged = report(&world, &damaged, DOCUMENT);
    assert_eq!(
        damaged.reason,
        Some(Reason::SigCryptoFailure),
        "{damaged:?}"
    );

    let cut = report(&world, &cms[..cms.len() - 1], DOCUMENT);
    assert_eq!(
        (cut.verdict, cut.reason),
        (Verdict::Failed, Some(Reason::FormatFailure))
    );
}

#[test]
fn a_swapped_time_stamp_proves_nothing() {
    let world = World::new();
    let signer = world.signer(P256);
    let foreign = world.token(&signer.sign(b"something else"));
    let cms = cades::add_timestamp(&signer.sign(DOCUMENT), &foreign).unwrap();
    let report = report(&world, &cms, DOCUMENT);
    assert_eq!(
        report.verdict,
        Verdict::Passed,
        "the signature itself holds"
    );
    assert!(report.proved_time().is_none());
    assert_eq!(report.timestamps[0].reason, Some(Reason::HashFailure));
}

#[test]
fn without_trust_or_revocation_data_nothing_is_determined() {
    let world = World::new();
    let cms = world.signer(P256).sign(DOCUMENT);
    let trust = world.trust();
    let evidence = at_once(cades::gather(&cms, &trust, world.now(), &world));
    let nobody = with(&world, &cms, DOCUMENT, &Trust::default(), &evidence);
    let expected = (Verdict::Undetermined, Some(Reason::NoCertificateChainFound));
    assert_eq!((nobody.verdict, nobody.reason), expected);
    assert!(nobody.intact);
    let unknown = with(&world, &cms, DOCUMENT, &trust, &Evidence::default());
    assert_eq!(
        (unknown.verdict, unknown.reason),
        (Verdict::Undetermined, Some(Reason::TryLater))
    );
    assert_eq!(unknown.signer_revocation(), Revocation::Unknown);
    world.clock.advance(2 * DAY);
    let stale = with(&world, &cms, DOCUMENT, &trust, &evidence);
    assert_eq!(stale.reason, Some(Reason::TryLater), "{stale:?}");
}

#[test]
fn revocation_counts_unless_the_signature_is_proved_older() {
    let world = World::new();
    let signer = world.signer(P256);
    let (plain, proved) = (signer.sign(DOCUMENT), stamped(&world, &signer));
    world.clock.advance(60);
    world.ca.revoke(&signer.cert().info().serial, 1).unwrap();
    world.clock.advance(60);
    let after = stamped(&world, &signer);
    let revoked = report(&world, &plain, DOCUMENT);
    assert_eq!(
        (revoked.verdict, revoked.reason),
        (Verdict::Undetermined, Some(Reason::RevokedNoPoe))
    );
    assert_eq!(
        report(&world, &after, DOCUMENT).reason,
        Some(Reason::RevokedNoPoe)
    );
    let older = report(&world, &proved, DOCUMENT);
    assert_eq!(older.verdict, Verdict::Passed, "{older:?}");
    assert!(matches!(
        older.signer_revocation(),
        Revocation::Revoked { reason: 1, .. }
    ));
}

#[test]
fn a_revoked_authority_proves_no_time() {
    let world = World::new();
    let cms = stamped(&world, &world.signer(P256));
    world
        .ca
        .revoke(&world.ca.tsa_certificate().info().serial, 1)
        .unwrap();
    let report = report(&world, &cms, DOCUMENT);
    assert!(report.proved_time().is_none());
    assert_eq!(report.timestamps[0].reason, Some(Reason::RevokedNoPoe));
}

#[test]
fn after_expiry_only_a_time_stamp_helps() {
    let world = World::new();
    let signer = world.signer(P256);
    let (plain, proved) = (signer.sign(DOCUMENT), stamped(&world, &signer));
    let trust = world.trust();
    let evidence = at_once(cades::gather(&proved, &trust, world.now(), &world));
    world.clock.advance(400 * DAY);
    let expired = with(&world, &plain, DOCUMENT, &trust, &evidence);
    assert_eq!(
        expired.reason,
        Some(Reason::OutOfBoundsNoPoe),
        "{expired:?}"
    );
    // Revocation data of today for the authority, of then for the signer.
    let mut both = evidence;
    let fresh = at_once(cades::gather(&proved, &trust, world.now(), &world));
    both.crls.extend(fresh.crls);
    both.ocsp_responses.extend(fresh.ocsp_responses);
    let report = with(&world, &proved, DOCUMENT, &trust, &both);
    assert_eq!(report.verdict, Verdict::Passed, "{report:?}");
}

/// The built-in approvals, but these keys' signatures are trusted for two days only.
fn until_tomorrow(world: &World, key: &str) -> Trust {
    let built_in = Approvals::default();
    let day = world.now().plus(DAY).to_string()[..10].to_owned();
    let mut table: serde_json::Value = serde_json::from_str(built_in.text()).unwrap();
    for row in table["approved"].as_array_mut().unwrap() {
        if row["key"] == key {
            row["sign_until"] = day.clone().into();
            row["verify_until"] = day.clone().into();
        }
    }
    Trust {
        approvals: Approvals::parse(&table.to_string()).unwrap(),
        ..world.trust()
    }
}

#[test]
fn after_the_end_of_an_algorithm_only_a_time_stamp_helps() {
    let world = World::new();
    let signer = world.signer(SigAlg::RsaPkcs1(HashAlg::Sha256));
    let (plain, proved) = (signer.sign(DOCUMENT), stamped(&world, &signer));
    let (rsa, ec) = (
        until_tomorrow(&world, "rsa-3072"),
        until_tomorrow(&world, "p-256"),
    );
    let check = |cms: &[u8], trust: &Trust| {
        let evidence = at_once(cades::gather(cms, trust, world.now(), &world));
        with(&world, cms, DOCUMENT, trust, &evidence)
    };
    for trust in [&rsa, &ec] {
        assert_eq!(check(&plain, trust).verdict, Verdict::Passed);
        assert_eq!(check(&proved, trust).verdict, Verdict::Passed);
    }
    world.clock.advance(2 * DAY);
    let outdated = Some(Reason::CryptoConstraintsFailureNoPoe);
    let late = check(&plain, &rsa);
    assert_eq!(
        (late.verdict, late.reason),
        (Verdict::Undetermined, outdated)
    );
    assert!(late.intact, "its value is right");
    assert_eq!(check(&proved, &rsa).verdict, Verdict::Passed);
    // A time-stamp whose own key isn't trusted any more proves no time.
    let late = check(&proved, &ec);
    assert!(late.proved_time().is_none());
    assert_eq!(late.timestamps[0].reason, outdated);
    assert_eq!(
        (late.verdict, late.reason),
        (Verdict::Undetermined, outdated)
    );
    // What isn't in the table isn't trusted at all.
    let none = Trust {
        approvals: Approvals::parse(r#"{"version":1,"approved":[]}"#).unwrap(),
        ..world.trust()
    };
    assert_eq!(check(&proved, &none).reason, outdated);
}

#[test]
fn another_certificate_of_the_same_key_is_noticed() {
    let world = World::new();
    let signer = world.signer(P256);
    let cms = signer.sign(DOCUMENT);
    // The same name and key under another certificate: the signed reference is to the first one.
    let other = world
        .ca
        .issue_for_key(signer.cert().spki(), signer.cert().subject(), 365)
        .unwrap();
    let digest = P256.hash().digest(DOCUMENT);
    let attrs = cades::signed_attrs(&digest, signer.cert().der()).unwrap();
    let value = signer.sign_value(&attrs);
    let build = cades::build_signed_data(&attrs, P256, &value, other[0].der(), &[], None);
    assert!(
        matches!(build, Err(cades::BuildError::Attributes(_))),
        "{build:?}"
    );
    let new = pki::cms::NewSignedData {
        content_type: pki::oid::DATA,
        content: None,
        signed_attrs: &attrs,
        sig_alg: P256,
        signature: &value,
        signer_cert: other[0].der(),
        chain: &[other[1].der().to_vec()],
        unsigned_attrs: Vec::new(),
    };
    let swapped = report(&world, &new.encode().unwrap(), DOCUMENT);
    assert_eq!(
        swapped.reason,
        Some(Reason::NoSigningCertificateFound),
        "{swapped:?}"
    );
    assert_eq!(report(&world, &cms, DOCUMENT).verdict, Verdict::Passed);
}

#[test]
fn nothing_is_built_around_a_wrong_value() {
    let world = World::new();
    let (signer, other) = (world.signer(P256), world.signer(P256));
    let attrs = cades::signed_attrs(&P256.hash().digest(DOCUMENT), signer.cert().der()).unwrap();
    let wrong = other.sign_value(&attrs);
    let build = cades::build_signed_data(&attrs, P256, &wrong, signer.cert().der(), &[], None);
    assert!(
        matches!(build, Err(cades::BuildError::Signature(_))),
        "{build:?}"
    );
    let short = cades::signed_attrs(&[0; 20], signer.cert().der()).unwrap();
    let value = signer.sign_value(&short);
    let build = cades::build_signed_data(&short, P256, &value, signer.cert().der(), &[], None);
    assert!(
        matches!(build, Err(cades::BuildError::DigestLength(_))),
        "{build:?}"
    );
}

#[test]
fn the_estimate_is_never_too_small() {
    let world = World::new();
    for alg in [P256, SigAlg::RsaPss(HashAlg::Sha512)] {
        let signer = world.signer(alg);
        let chain: Vec<Vec<u8>> = signer.chain[1..].iter().map(|c| c.der().to_vec()).collect();
        let plain = signer.sign(DOCUMENT);
        let token = world.token(&plain);
        let estimate = |token| cades::size_estimate(signer.cert().der(), &chain, token).unwrap();
        let stamped = cades::add_timestamp(&plain, &token).unwrap();
        assert!(plain.len() <= estimate(0) && estimate(0) < plain.len() + 2048);
        assert!(stamped.len() <= estimate(token.len()));
        assert!(estimate(token.len()) < stamped.len() + 4096);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_input_is_reported_and_never_passes_as_other_content(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let world = World::new();
        let original = stamped(&world, &world.signer(P256));
        let trust = world.trust();
        let evidence = at_once(cades::gather(&original, &trust, world.now(), &world));
        let mut cms = original.clone();
        for (at, mask) in flips {
            let at = at.index(cms.len());
            cms[at] ^= mask;
        }
        let report = with(&world, &cms, b"another contract", &trust, &evidence);
        prop_assert_ne!(report.verdict, Verdict::Passed);
        let report = with(&world, &original[..cut.index(original.len())], DOCUMENT, &trust, &evidence);
        prop_assert_eq!(report.reason, Some(Reason::FormatFailure));
        for der in evidence.crls.iter().chain(&evidence.ocsp_responses) {
            let mut der = der.clone();
            let at = cut.index(der.len());
            der[at] ^= 0x10;
            let broken = Evidence { crls: vec![der.clone()], ocsp_responses: vec![der] };
            let report = with(&world, &original, DOCUMENT, &trust, &broken);
            prop_assert_ne!(report.verdict, Verdict::Passed);
        }
    }
}
