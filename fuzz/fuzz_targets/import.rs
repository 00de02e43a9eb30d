//! Private keys on their way in: files of others (PKCS#12, PKCS#8 with and without a password), and what travels sealed.
#![no_main]

use cm_core::backend::Backend as _;
use cm_soft::SoftBackend;
use core_types::{KeyAlg, SecretBytes};
use libfuzzer_sys::fuzz_target;
use sam_keys::import::ImportedKey;

#[path = "../../crates/bin/natsuin/src/key/pkcs12.rs"]
mod pkcs12;

const KINDS: [KeyAlg; 4] = [KeyAlg::P256, KeyAlg::P384, KeyAlg::Ed25519, KeyAlg::Rsa2048];

fuzz_target!(|data: &[u8]| {
    let password = SecretBytes::from("natsuin".to_owned());
    for opened in [
        pkcs12::open(data, &password),
        pkcs12::open_pkcs8(data, &password),
    ] {
        if let Ok(pkcs8) = opened {
            bring(&pkcs8);
        }
    }
    bring(&SecretBytes::new(data.to_vec()));
    if let Ok(sent) = serde_json::from_slice::<ImportedKey>(data) {
        bring(&sent.pkcs8);
    }
});

/// What comes in is of the kind and public key that were said, and signs.
fn bring(pkcs8: &SecretBytes) {
    for alg in KINDS {
        assert!(SoftBackend.import(alg, pkcs8, b"another key").is_err());
        let Ok(key) = SoftBackend.load(alg, pkcs8) else {
            continue;
        };
        let Ok(made) = SoftBackend.import(alg, pkcs8, key.spki()) else {
            continue;
        };
        let key = SoftBackend.load(alg, &made.material).expect("what came in");
        assert_eq!(key.spki(), made.spki);
        let sig = alg.csr_alg();
        let value = key.sign(sig, &sig.dtbs(b"fuzz")).expect("a signature");
        let signed = pki::Signed::Message(b"fuzz");
        pki::verify_signature(&made.spki, sig, signed, &value).expect("a good one");
    }
}
