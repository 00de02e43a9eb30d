//! Parameters of RSASSA-PSS (RFC 4055 §3.1) in DER. The one place where they are read and written.

use crate::{HashAlg, KeyAlg, SigAlg};

/// Hash, and MGF1 with the same hash, a salt of so many bytes, trailer field 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PssParams {
    /// Hash.
    pub hash: HashAlg,
    /// Length of the salt in bytes.
    pub salt: u16,
}

/// Why parameters of RSASSA-PSS were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PssRefusal {
    /// Not DER of `RSASSA-PSS-params`.
    #[error("not DER of RSASSA-PSS-params")]
    Encoding,
    /// The hash is not SHA-256, SHA-384 or SHA-512.
    #[error("hash must be SHA-256, SHA-384 or SHA-512")]
    Hash,
    /// The mask generation function is not MGF1.
    #[error("mask generation function must be MGF1")]
    MaskFunction,
    /// MGF1 uses another hash than the signature.
    #[error("MGF1 must use the hash of the signature")]
    MaskHash,
    /// The salt is neither as long as the digest nor the longest that the key allows.
    #[error("salt length must be that of the digest, or the longest that the key allows")]
    SaltLength,
    /// The trailer field is not 1.
    #[error("trailer field must be 1")]
    Trailer,
}

impl PssParams {
    /// The parameters of an algorithm; nothing if it isn't RSASSA-PSS.
    pub fn of(alg: SigAlg) -> Option<Self> {
        let (hash, salt) = match alg {
            SigAlg::RsaPss(hash) => (hash, hash.len()),
            SigAlg::RsaPssLongest(hash, size) => (hash, size.longest_salt(hash)),
            _ => return None,
        };
        let salt = u16::try_from(salt).ok()?;
        Some(Self { hash, salt })
    }

    /// The algorithm that has these parameters.
    ///
    /// # Errors
    /// [`PssRefusal::SaltLength`] when none has.
    pub fn alg(self) -> Result<SigAlg, PssRefusal> {
        let all = SigAlg::all();
        let mut fitting = all.filter(|alg| Self::of(*alg) == Some(self));
        fitting.next().ok_or(PssRefusal::SaltLength)
    }

    /// The algorithm that has these parameters, for a key.
    ///
    /// # Errors
    /// [`PssRefusal::SaltLength`] when this key has none.
    pub fn alg_for(self, key: KeyAlg) -> Result<SigAlg, PssRefusal> {
        let mut all = key.sig_algs().into_iter();
        all.find(|alg| Self::of(*alg) == Some(self))
            .ok_or(PssRefusal::SaltLength)
    }

    /// DER of `RSASSA-PSS-params`.
    pub fn to_der(self) -> Vec<u8> {
        let [high, low] = self.salt.to_be_bytes();
        let salt = match (high, low) {
            (0, 0..0x80) => tlv(INTEGER, &[low]),
            _ => tlv(INTEGER, &[high, low]),
        };
        let identifier = tlv(SEQUENCE, &[hash_oid(self.hash), vec![0x05, 0x00]].concat());
        let mgf = tlv(SEQUENCE, &[MGF1, &identifier].concat());
        let fields = [tlv(0xa0, &identifier), tlv(0xa1, &mgf), tlv(0xa2, &salt)].concat();
        tlv(SEQUENCE, &fields)
    }

    /// Reads DER of `RSASSA-PSS-params`. Absent fields mean SHA-1, MGF1 with SHA-1 and a salt of 20 bytes, and are refused
    /// under the field's name.
    ///
    /// # Errors
    /// [`PssRefusal`].
    pub fn read(der: &[u8]) -> Result<Self, PssRefusal> {
        let mut rest = only(der, SEQUENCE).ok_or(PssRefusal::Encoding)?;
        let (mut hash, mut mask, mut salt, mut last) = (None, None, None, 0);
        while !rest.is_empty() {
            let (tag, content, after) = take(rest).ok_or(PssRefusal::Encoding)?;
            if tag <= last {
                return Err(PssRefusal::Encoding);
            }
            match tag {
                0xa0 => hash = Some(read_hash(content)?),
                0xa1 => {
                    let mgf = only(content, SEQUENCE).ok_or(PssRefusal::Encoding)?;
                    let inner = mgf.strip_prefix(MGF1).ok_or(PssRefusal::MaskFunction)?;
                    mask = Some(read_hash(inner).map_err(|e| match e {
                        PssRefusal::Hash => PssRefusal::MaskHash,
                        other => other,
                    })?);
                }
                0xa2 => salt = Some(read_salt(content)?),
                // The default, which DER leaves out; some encoders write it all the same.
                0xa3 if only(content, INTEGER) == Some(&[1]) => {}
                0xa3 => return Err(PssRefusal::Trailer),
                _ => return Err(PssRefusal::Encoding),
            }
            (rest, last) = (after, tag);
        }
        let hash = hash.ok_or(PssRefusal::Hash)?;
        if mask != Some(hash) {
            return Err(PssRefusal::MaskHash);
        }
        let salt = salt.ok_or(PssRefusal::SaltLength)?;
        Ok(Self { hash, salt })
    }
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;

/// Object identifier 1.2.840.113549.1.1.8 in DER.
const MGF1: &[u8] = &[
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08,
];

/// Object identifier of the hash in DER: the SHA-2 arc 2.16.840.1.101.3.4.2 and one last byte.
fn hash_oid(hash: HashAlg) -> Vec<u8> {
    let last = match hash {
        HashAlg::Sha256 => 1,
        HashAlg::Sha384 => 2,
        HashAlg::Sha512 => 3,
    };
    vec![
        0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, last,
    ]
}

/// Everything in these parameters is shorter than 128 bytes, so one length byte is DER.
fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag, u8::try_from(content.len()).unwrap_or(u8::MAX)];
    out.extend_from_slice(content);
    out
}

/// Takes one element off the front: its tag, its content and what follows.
fn take(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&len, rest) = rest.split_first()?;
    // Lengths of 128 bytes and more don't occur in these parameters.
    if len >= 0x80 {
        return None;
    }
    let (content, rest) = rest.split_at_checked(usize::from(len))?;
    Some((tag, content, rest))
}

/// Takes one element with this tag that must fill the whole input.
fn only(input: &[u8], tag: u8) -> Option<&[u8]> {
    take(input)
        .filter(|(t, _, rest)| *t == tag && rest.is_empty())
        .map(|(_, content, _)| content)
}

/// `AlgorithmIdentifier` of a hash; parameters absent or NULL (RFC 4055 §2.1).
fn read_hash(element: &[u8]) -> Result<HashAlg, PssRefusal> {
    let content = only(element, SEQUENCE).ok_or(PssRefusal::Encoding)?;
    let find = |hash: &HashAlg| {
        content
            .strip_prefix(hash_oid(*hash).as_slice())
            .is_some_and(|rest| matches!(rest, [] | [5, 0]))
    };
    HashAlg::ALL.into_iter().find(find).ok_or(PssRefusal::Hash)
}

/// A salt's length: an integer in its shortest form that is not negative.
fn read_salt(element: &[u8]) -> Result<u16, PssRefusal> {
    match only(element, INTEGER).ok_or(PssRefusal::Encoding)? {
        [low @ 0..0x80] => Ok(u16::from(*low)),
        [0, low @ 0x80..=0xff] => Ok(u16::from(*low)),
        [high @ 1..0x80, low] => Ok(u16::from_be_bytes([*high, *low])),
        [] | [0, ..] | [0x80..=0xff, ..] => Err(PssRefusal::Encoding),
        _ => Err(PssRefusal::SaltLength),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::from_b64;

    fn digest_salt(hash: HashAlg) -> Vec<u8> {
        PssParams::of(SigAlg::RsaPss(hash)).unwrap().to_der()
    }

    #[test]
    fn parameters_are_those_that_openssl_writes() {
        // openssl asn1parse of PSS certificate requests by a key of 3072 bits: SHA-256 with salt 32, and with -2 (longest).
        let known = "MDSgDzANBglghkgBZQMEAgEFAKEcMBoGCSqGSIb3DQEBCDANBglghkgBZQMEAgEFAKIDAgEg";
        assert_eq!(digest_salt(HashAlg::Sha256), from_b64(known).unwrap());
        let longest =
            "MDWgDzANBglghkgBZQMEAgEFAKEcMBoGCSqGSIb3DQEBCDANBglghkgBZQMEAgEFAKIEAgIBXg==";
        let longest = from_b64(longest).unwrap();
        let read = PssParams::read(&longest).unwrap();
        assert_eq!((read.hash, read.salt), (HashAlg::Sha256, 350));
        assert_eq!(read.to_der(), longest);
        assert_eq!(read.alg_for(KeyAlg::Rsa2048), Err(PssRefusal::SaltLength));
        assert_eq!(read.alg_for(KeyAlg::P256), Err(PssRefusal::SaltLength));
        assert!(read.alg_for(KeyAlg::Rsa3072).is_ok());
    }

    #[test]
    fn every_algorithm_is_read_as_it_is_written() {
        for alg in SigAlg::all() {
            let Some(params) = PssParams::of(alg) else {
                continue;
            };
            assert_eq!(PssParams::read(&params.to_der()), Ok(params));
            assert_eq!(params.alg(), Ok(alg));
            let keys = KeyAlg::ALL
                .into_iter()
                .filter(|key| params.alg_for(*key).is_ok());
            let owners = if matches!(alg, SigAlg::RsaPss(_)) {
                3
            } else {
                1
            };
            assert_eq!(keys.count(), owners, "{alg}");
        }
    }

    #[test]
    fn other_parameters_are_refused_by_name() {
        let good = digest_salt(HashAlg::Sha256);
        let changed = |at: usize, to: u8| {
            let mut der = good.clone();
            der[at] = to;
            PssParams::read(&der)
        };
        let short = changed(good.len() - 1, 20).unwrap();
        assert_eq!(short.alg(), Err(PssRefusal::SaltLength));
        assert_eq!(
            changed(good.len() - 1, 0x80),
            Err(PssRefusal::Encoding),
            "negative"
        );
        assert_eq!(
            changed(16, 2),
            Err(PssRefusal::MaskHash),
            "hash SHA-384, MGF1 SHA-256"
        );
        assert_eq!(changed(16, 7), Err(PssRefusal::Hash));
        assert_eq!(changed(33, 9), Err(PssRefusal::MaskFunction));
        assert_eq!(
            PssParams::read(&[0x30, 0x00]),
            Err(PssRefusal::Hash),
            "the defaults are SHA-1"
        );
        assert_eq!(
            PssParams::read(&good[..good.len() - 1]),
            Err(PssRefusal::Encoding)
        );
        let mut trailer = good.clone();
        trailer.extend([0xa3, 3, 2, 1, 2]);
        trailer[1] += 5;
        assert_eq!(PssParams::read(&trailer), Err(PssRefusal::Trailer));
        let n = trailer.len();
        trailer[n - 1] = 1;
        assert!(PssParams::read(&trailer).is_ok());
        for (salt, outcome) in [
            (&[0x02, 0x02, 0x00, 0x20][..], Err(PssRefusal::Encoding)),
            (&[0x02, 0x02, 0x00, 0xde], Ok(222)),
            (&[0x02, 0x03, 0x01, 0x00, 0x00], Err(PssRefusal::SaltLength)),
            (&[0x02, 0x00], Err(PssRefusal::Encoding)),
            (&[0x04, 0x01, 0x20], Err(PssRefusal::Encoding)),
        ] {
            assert_eq!(read_salt(salt), outcome, "{salt:?}");
        }
    }
}
