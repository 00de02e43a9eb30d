//! Certificates and signedAttrs: the bounds that only a hostile caller comes near.

use core_types::UnixTime;
use pki::signed_attrs::signed_attrs_at;
use sam_core::certificate::{CLOCK_BOUND, accept, signed_attrs};
use sam_core::{Reason, revocation};
use soft_passkey::Attester;

use super::voucher::invite;

const NOW: UnixTime = UnixTime(1_800_000_000);

fn maker() -> Attester {
    Attester::new([1; 16], [1; 16], NOW).unwrap()
}

#[test]
fn chains_are_measured_before_they_are_read() {
    let accepted = |chain: &[Vec<u8>]| accept(chain, &[], &invite().subject, &[], NOW);
    let long = Err(Reason::Registration("too many or too large certificates"));
    let read = Err(Reason::Registration("malformed certificate"));
    assert_eq!(accepted(&vec![vec![0]; 9]), long);
    assert_eq!(accepted(&vec![vec![0]; 8]), read);
    assert_eq!(accepted(&[vec![0], vec![0; 32_769]]), long);
    assert_eq!(accepted(&[vec![0], vec![0; 32_768]]), read);
    assert_eq!(accepted(&[vec![0; 32_769]]), long);
    assert_eq!(accepted(&[]), Err(Reason::Registration("no certificate")));
}

// shows: T-USE-DTBSR-FORGE
#[test]
fn the_claimed_time_of_signing_is_ours_within_ten_minutes() {
    let (certificate, document) = (maker().leaf, [7; 32]);
    let given = |at: i64| {
        let at = NOW.plus(at);
        let attributes = signed_attrs_at(&document, &certificate, Some(at)).unwrap();
        let read = signed_attrs(&document, Some(&attributes), &certificate, NOW);
        assert!(read.as_ref().is_err() || read == Ok(attributes));
        read.map(drop)
    };
    assert_eq!(CLOCK_BOUND, 600);
    for near in [0, 600, -600] {
        assert_eq!(given(near), Ok(()), "{near}");
    }
    for far in [601, -601, 1_000_000] {
        let bad = Reason::Invalid("items.doc.signed_attrs");
        assert_eq!(given(far), Err(bad), "{far}");
    }
    let minimal = signed_attrs(&document, None, &certificate, NOW).unwrap();
    let without = signed_attrs(&document, Some(&minimal), &certificate, NOW);
    assert_eq!(without, Ok(minimal));
}

#[test]
fn the_ca_that_is_asked_is_the_one_the_certificate_names() {
    let maker = maker();
    let chain = [maker.leaf.clone()];
    // The leaf's own subject is no CA of anything here.
    let issuers = [maker.leaf.clone(), maker.root.clone()];
    assert_eq!(revocation::issuer(&chain, &issuers), Some(&*maker.root));
    assert_eq!(revocation::issuer(&chain, &issuers[..1]), None);
    let whole = [maker.leaf.clone(), maker.root.clone()];
    assert_eq!(revocation::issuer(&whole, &[]), Some(&*maker.root));
    assert_eq!(revocation::issuer(&[], &issuers), None);
}
