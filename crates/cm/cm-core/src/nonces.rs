//! Nonces in signature values (`III-3-13-detect-hardware`). Generators themselves are tested by [`core_types::noise`].

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use core_types::{Digest32, SigAlg, sha256};
use pki::asn1::{INTEGER, SEQUENCE, Tlv};

/// Signature values whose nonces are remembered.
const NONCES: usize = 65_536;

/// Nonces of ECDSA values that were made lately. Two values over different things with one nonce give the key away, so that
/// the second of them must not leave.
#[derive(Default)]
pub(crate) struct Nonces(Mutex<(HashMap<Digest32, Digest32>, VecDeque<Digest32>)>);

impl Nonces {
    /// Takes note of a value (DER) by the key `spki` over `dtbs`; answers whether its nonce is a new one. A generator may
    /// be deterministic (RFC 6979): the same value over the same thing is no fault.
    pub(crate) fn new_one(&self, spki: Digest32, alg: SigAlg, dtbs: &[u8], value: &[u8]) -> bool {
        let SigAlg::Ecdsa(_) = alg else {
            return true;
        };
        // What isn't a value at all is somebody else's to find.
        let Some(r) = nonce_of(value) else {
            return true;
        };
        let (name, over) = (sha256(&[&spki.0, r]), sha256(&[dtbs]));
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (nonces, order) = &mut *known;
        if let Some(before) = nonces.get(&name) {
            return *before == over;
        }
        nonces.insert(name, over);
        order.push_back(name);
        if order.len() > NONCES
            && let Some(oldest) = order.pop_front()
        {
            nonces.remove(&oldest);
        }
        true
    }
}

/// What the nonce of an ECDSA value left in it: r.
fn nonce_of(value: &[u8]) -> Option<&[u8]> {
    const WHAT: &str = "ECDSA value";
    let mut parts = Tlv::single(value, WHAT).ok()?.open(SEQUENCE, WHAT).ok()?;
    parts.expect(INTEGER, WHAT).ok()?.as_uint(WHAT).ok()
}

#[cfg(test)]
mod tests {
    use core_types::HashAlg;

    use super::*;

    // shows: III-3-13-detect-hardware, T-KEY-DERIVE
    #[test]
    fn a_nonce_is_used_for_one_thing_only() {
        let nonces = Nonces::default();
        let alg = SigAlg::Ecdsa(HashAlg::Sha256);
        let (key, other) = (Digest32([1; 32]), Digest32([2; 32]));
        let value = |r: u8, s: u8| vec![0x30, 6, 2, 1, r, 2, 1, s];
        assert!(nonces.new_one(key, alg, b"a", &value(5, 6)));
        assert!(
            nonces.new_one(key, alg, b"a", &value(5, 6)),
            "the same again"
        );
        assert!(!nonces.new_one(key, alg, b"b", &value(5, 7)));
        assert!(
            nonces.new_one(other, alg, b"b", &value(5, 7)),
            "another key"
        );
        assert!(nonces.new_one(key, alg, b"b", &value(6, 7)));
        assert!(nonces.new_one(key, SigAlg::Ed25519, b"c", &value(5, 7)));
        assert!(nonces.new_one(key, alg, b"c", b"no value"));
    }
}
