//! Counter-signatures: added only where they belong, and judged for themselves.

use crate::common::{DOCUMENT, Signer, World, at_once};
use cades::{BuildError, Reason, Trust, Verdict, gather, verify};
use core_types::{HashAlg, SigAlg, UnixTime};
use pki::cms::SignedData;
use pki::counter::{assemble, counter_attrs};
use pki::oid;

const P256: SigAlg = SigAlg::Ecdsa(HashAlg::Sha256);

fn counter(by: &Signer, value: &[u8], at: UnixTime) -> Vec<u8> {
    let attrs = counter_attrs(value, by.alg.hash(), by.cert().der(), at).unwrap();
    let made = by.sign_value(&attrs);
    assemble(&attrs, by.alg, &made, by.cert().der()).unwrap()
}

/// A signature with the provider's certificates among its own.
fn signed(signer: &Signer, provider: &Signer) -> Vec<u8> {
    let attrs = cades::signed_attrs(&signer.alg.hash().digest(DOCUMENT), signer.cert().der());
    let attrs = attrs.unwrap();
    let value = signer.sign_value(&attrs);
    let rest: Vec<Vec<u8>> = signer.chain[1..]
        .iter()
        .chain(&provider.chain)
        .map(|c| c.der().to_vec())
        .collect();
    cades::build_signed_data(&attrs, signer.alg, &value, signer.cert().der(), &rest, None).unwrap()
}

/// The unsigned attribute as an attacker adds it, who checks nothing.
fn forced(cms: &[u8], info: &[u8]) -> Vec<u8> {
    let attribute = pki::cms::attribute(oid::COUNTER_SIGNATURE, info);
    pki::cms::add_unsigned_attribute(cms, &attribute).unwrap()
}

fn judged(world: &World, cms: &[u8], trust: &Trust) -> cades::CmsReport {
    let evidence = at_once(gather(cms, trust, world.now(), world));
    let digest = |hash: HashAlg| hash.digest(DOCUMENT);
    verify(cms, &digest, trust, &evidence, world.now())
}

// shows: III-A1.8-rssp-counter-signature
#[test]
fn a_counter_signature_is_added_and_judged() {
    let world = World::new();
    let (signer, provider) = (world.signer(P256), world.signer(P256));
    let cms = signed(&signer, &provider);
    let info = counter(
        &provider,
        &cades::signature_value(&cms).unwrap(),
        world.now(),
    );
    let both = cades::add_counter_signature(&cms, &info).unwrap();
    let report = judged(&world, &both, &world.trust());
    assert_eq!(report.verdict, Verdict::Passed, "{report:?}");
    let [counter] = &report.counters[..] else {
        panic!("{report:?}");
    };
    assert_eq!(counter.verdict, Verdict::Passed, "{counter:?}");
    assert_eq!(counter.signer, Some(provider.cert().subject_text()));
    assert_eq!(counter.claimed_time, Some(world.now()));
    assert!(judged(&world, &cms, &world.trust()).counters.is_empty());
}

// shows: III-A1.8-rssp-counter-signature
#[test]
fn what_is_no_counter_signature_of_this_value_shows_nothing_and_spoils_nothing() {
    let world = World::new();
    let (signer, provider) = (world.signer(P256), world.signer(P256));
    let cms = signed(&signer, &provider);
    let value = cades::signature_value(&cms).unwrap();

    let of_another = counter(&provider, b"another value", world.now());
    let mut broken = counter(&provider, &value, world.now());
    let last = broken.len() - 1;
    broken[last] ^= 1;
    // A document signature of the provider over the same bytes, put where a counter-signature belongs.
    let attrs = cades::signed_attrs(&HashAlg::Sha256.digest(&value), provider.cert().der());
    let attrs = attrs.unwrap();
    let made = provider.sign_value(&attrs);
    let document = assemble(&attrs, P256, &made, provider.cert().der()).unwrap();
    // By somebody else, who names the provider's certificate.
    let attrs = counter_attrs(&value, HashAlg::Sha256, provider.cert().der(), world.now()).unwrap();
    let forged = assemble(
        &attrs,
        P256,
        &signer.sign_value(&attrs),
        provider.cert().der(),
    )
    .unwrap();

    let cases = [
        (of_another, Reason::HashFailure),
        (broken, Reason::SigCryptoFailure),
        (document, Reason::FormatFailure),
        (forged, Reason::SigCryptoFailure),
    ];
    for (info, reason) in cases {
        let added = cades::add_counter_signature(&cms, &info);
        assert!(
            matches!(added, Err(BuildError::CounterSignature(_))),
            "{added:?}"
        );
        let report = judged(&world, &forced(&cms, &info), &world.trust());
        assert_eq!(report.verdict, Verdict::Passed, "{report:?}");
        assert_eq!(report.counters[0].reason, Some(reason), "{report:?}");
    }

    let garbage = forced(&cms, &[0x30, 0]);
    let report = judged(&world, &garbage, &world.trust());
    assert_eq!(report.counters[0].reason, Some(Reason::FormatFailure));
}

#[test]
fn an_unknown_counter_signer_is_named_but_not_believed() {
    let (world, elsewhere) = (World::new(), World::new());
    let (signer, stranger) = (world.signer(P256), elsewhere.signer(P256));
    let cms = signed(&signer, &stranger);
    let info = counter(
        &stranger,
        &cades::signature_value(&cms).unwrap(),
        world.now(),
    );
    let both = cades::add_counter_signature(&cms, &info).unwrap();
    let report = judged(&world, &both, &world.trust());
    assert_eq!(report.verdict, Verdict::Passed, "{report:?}");
    assert_eq!(report.counters[0].verdict, Verdict::Undetermined);

    let without = cades::add_counter_signature(&signer.sign(DOCUMENT), &info);
    assert!(without.is_err(), "its certificate isn't there");
    // Anybody can add more: only so many are looked at.
    let many = (0..40).fold(both, |cms, _| forced(&cms, &info));
    assert!(SignedData::parse(&many).is_ok());
    assert!(judged(&world, &many, &world.trust()).counters.len() <= 8);
}
