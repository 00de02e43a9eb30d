//! Seals rows before they reach SQL: AES-256-GCM-SIV (RFC 8452) under `K_row`, bound to table, id, version and
//! tenant, so that a row can't be edited, moved to another place or mixed with another version.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use core_types::noise::Watched;
use core_types::{Random as _, SecretBytes, sha256};
use store_kit::Seen;
use zeroize::Zeroizing;

/// Format of sealed rows, part of what is authenticated.
const FORMAT: u8 = 1;
const NONCE: usize = 12;

/// Tables of which this node remembers the newest versions, and the log tells every change. Not the others: values made once are never changed, and the
/// SAM's own keys of a day may be made again after the clock was set back.
pub(crate) const REMEMBERED: [&str; 12] = [
    "settings",
    "person",
    "factor",
    "signing_key",
    "voucher",
    "request",
    "act",
    "office_genesis",
    "office_person",
    "office_account",
    "office_proposal",
    "office_session",
];

/// The open `K_row`, and the memory of what it sealed and opened.
pub(crate) struct Sealer {
    key: LessSafeKey,
    tenant: String,
    random: Arc<Watched>,
    seen: [Seen; REMEMBERED.len()],
}

/// A sealed row didn't open, or can't be sealed: the library refused, or the generator has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadSeal;

impl Sealer {
    pub(crate) fn new(
        key: &SecretBytes,
        tenant: &str,
        random: Arc<Watched>,
    ) -> Result<Self, BadSeal> {
        let key = UnboundKey::new(&AES_256_GCM_SIV, key.expose()).map_err(|_| BadSeal)?;
        Ok(Self {
            key: LessSafeKey::new(key),
            tenant: tenant.to_owned(),
            random,
            seen: REMEMBERED.map(Seen::recorded),
        })
    }

    /// What this node has seen of a table.
    pub(crate) fn seen(&self, table: &str) -> Option<&Seen> {
        let place = REMEMBERED.iter().position(|t| *t == table)?;
        self.seen.get(place)
    }

    pub(crate) fn seal(
        &self,
        table: &str,
        id: &str,
        version: i64,
        plain: Vec<u8>,
    ) -> Result<Vec<u8>, BadSeal> {
        let mut nonce = [0; NONCE];
        self.random.fill(&mut nonce);
        // What a failed generator gave, here or for the row itself, must not have an effect.
        if self.random.failed() {
            return Err(BadSeal);
        }
        let mut body = Zeroizing::new(plain);
        let tag = self.key.seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            self.aad(table, id, version),
            body.as_mut_slice(),
        );
        let tag = tag.map_err(|_| BadSeal)?;
        Ok([&[FORMAT], nonce.as_slice(), &body, tag.as_ref()].concat())
    }

    pub(crate) fn open(
        &self,
        table: &str,
        id: &str,
        version: i64,
        sealed: Vec<u8>,
    ) -> Result<Zeroizing<Vec<u8>>, BadSeal> {
        let (head, body) = sealed.split_at_checked(1 + NONCE).ok_or(BadSeal)?;
        let nonce: [u8; NONCE] = head[1..].try_into().map_err(|_| BadSeal)?;
        if head[0] != FORMAT {
            return Err(BadSeal);
        }
        let mut body = Zeroizing::new(body.to_vec());
        let nonce = Nonce::assume_unique_for_key(nonce);
        let plain = self
            .key
            .open_in_place(nonce, self.aad(table, id, version), &mut body)
            .map_err(|_| BadSeal)?
            .len();
        body.truncate(plain);
        Ok(body)
    }

    fn aad(&self, table: &str, id: &str, version: i64) -> Aad<[u8; 32]> {
        let length = |s: &str| (s.len() as u64).to_be_bytes();
        let digest = sha256(&[
            b"natsuin-row-v1\n",
            &length(table),
            table.as_bytes(),
            &length(id),
            id.as_bytes(),
            &version.to_be_bytes(),
            &length(&self.tenant),
            self.tenant.as_bytes(),
            &[FORMAT],
        ]);
        Aad::from(digest.0)
    }
}

#[cfg(test)]
mod tests {
    use core_types::random::SystemRandom;

    use super::*;

    // shows: T-USE-CRED-ALTER, II-3.1.1-signer-data-protected
    #[test]
    fn a_row_opens_only_where_and_as_it_was_sealed() {
        let sealer = |key, tenant| {
            Sealer::new(
                &SecretBytes::new(vec![key; 32]),
                tenant,
                Arc::new(Watched::new(Arc::new(SystemRandom))),
            )
            .unwrap()
        };
        let s = sealer(1, "t");
        let sealed = s.seal("act", "a", 1, b"secret".to_vec()).unwrap();
        assert!(!sealed.windows(6).any(|w| w == b"secret"));
        let open = |s: &Sealer, table, id, v, bytes: &[u8]| s.open(table, id, v, bytes.to_vec());
        assert_eq!(
            open(&s, "act", "a", 1, &sealed).unwrap().as_slice(),
            b"secret"
        );
        assert!(open(&s, "key", "a", 1, &sealed).is_err());
        assert!(open(&s, "act", "b", 1, &sealed).is_err());
        assert!(open(&s, "act", "a", 2, &sealed).is_err());
        assert!(open(&sealer(2, "t"), "act", "a", 1, &sealed).is_err());
        assert!(open(&sealer(1, "u"), "act", "a", 1, &sealed).is_err());
        for at in 0..sealed.len() {
            let mut other = sealed.clone();
            other[at] ^= 1;
            assert!(open(&s, "act", "a", 1, &other).is_err(), "{at}");
        }
    }
}
