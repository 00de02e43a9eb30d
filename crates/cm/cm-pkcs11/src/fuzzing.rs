//! Doors for the fuzz target `token`, which no product has: what is read of a blob, of a key that comes in, and of what a
//! token says.

use core_types::{KeyAlg, SecretBytes};
use pki::asn1::{SEQUENCE, Tlv};

use crate::wrapped::Blob;
use crate::{encode, import};

/// Reads a blob, and what of a wrapped key is in it: number of the wrapping key, public key, wrapped key.
pub fn blob(material: &[u8]) -> Option<(u32, Vec<u8>, Vec<u8>)> {
    let blob = Blob::read(&SecretBytes::new(material.to_vec())).ok()?;
    let again = blob.material().ok()?;
    let same = Blob::read(&again).ok()?;
    assert!(same == blob, "it is read as it was written");
    Some(blob.parts())
}

/// Reads a private key in PKCS#8 for an import into a token; answers how many attributes come of it.
pub fn pair(alg: KeyAlg, pkcs8: &[u8], spki: &[u8]) -> Option<usize> {
    let pair = import::pair(alg, &SecretBytes::new(pkcs8.to_vec()), spki).ok()?;
    Some(pair.0.len() + pair.1.expose().len())
}

/// A token's answers: a point, an RSA key, a signature value. What comes out is DER of one form.
pub fn answers(alg: KeyAlg, said: &[u8]) -> Vec<Vec<u8>> {
    let half = said.len() / 2;
    let rsa = encode::rsa_spki(&said[..half], &said[half..]);
    let read = [encode::ec_spki(alg, said), encode::ecdsa_value(said)];
    read.into_iter().flatten().chain([rsa]).collect()
}

/// What the fuzz target asserts of any input.
///
/// # Panics
/// When something is read that can't be there, or written in another form than it is read.
pub fn check(data: &[u8]) {
    if let Some((_, spki, wrapped)) = blob(data) {
        assert!(
            spki.len() + wrapped.len() < data.len(),
            "no more comes out than went in"
        );
    }
    let (first, second) = data.split_at(data.len() / 2);
    for alg in KeyAlg::ALL {
        if let Some(attributes) = pair(alg, data, data) {
            assert!((5..=12).contains(&attributes), "{alg} has {attributes}");
        }
        let _ = pair(alg, first, second);
        for der in answers(alg, data) {
            let whole = Tlv::single(&der, "answer").and_then(|tlv| tlv.open(SEQUENCE, "answer"));
            assert!(whole.is_ok(), "one sequence and nothing behind it");
        }
    }
}

#[cfg(test)]
mod tests {
    use core_types::Random as _;
    use core_types::random::SeededRandom;

    use super::*;

    const BLOB: &[u8] = br#"{"kek":7,"spki":"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE","wrapped":"q83vASNFZ4mrze8BI0VniavN7wEjRWeJ"}"#;

    /// The body of the fuzz target, over its seeds with a few bytes changed, taken away or put in.
    // shows: T-KEY-DATA-ALTER, III-3-9-protected-import-export
    #[test]
    fn whatever_is_changed_in_a_blob_a_key_or_an_answer_is_read_or_refused() {
        assert!(blob(BLOB).is_some());
        let seeds =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../fuzz/seeds/token");
        let seeds = std::fs::read_dir(seeds).unwrap();
        let seeds: Vec<_> = seeds
            .map(|seed| std::fs::read(seed.unwrap().path()).unwrap())
            .chain([BLOB.to_vec(), Vec::new()])
            .collect();
        let (random, mut read) = (SeededRandom::new(4), 0);
        for seed in &seeds {
            check(seed);
            for _ in 0..4_000 {
                let mut data = seed.clone();
                let mut drawn = [0; 12];
                random.fill(&mut drawn);
                for change in drawn.chunks(4).take(1 + usize::from(drawn[0] % 3)) {
                    let at = usize::from(change[0]) << 8 | usize::from(change[1]);
                    let at = at % (data.len() + 1);
                    match (change[2] % 3, at < data.len()) {
                        (0, true) => data[at] = change[3],
                        (1, true) => drop(data.remove(at)),
                        _ => data.insert(at, change[3]),
                    }
                }
                check(&data);
                read += usize::from(blob(&data).is_some());
            }
        }
        assert!(read > 100, "mutations reach the inside: {read}");
    }
}
