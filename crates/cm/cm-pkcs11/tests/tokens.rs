//! The back end on SoftHSM2 and on Kryoptic: two tokens in software, of different make.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

use cm_core::backend::Backend as _;
use cm_pkcs11::{Options, Pkcs11Backend};
use core_types::{DtbsForm, KeyAlg, SecretBytes, SigAlg};
use pkcs11_faults::softhsm;

pkcs11_faults::on_tokens!(kryoptic: keys_are_made_in_the_token_stay_there_and_sign);

// shows: III-3-1-no-plaintext-private-key, III-3-17-retention-L2-inside, III-3-17-retention-L2-no-export
// shows: III-A1.6-destroy-at-end
#[test]
fn keys_are_made_in_the_token_stay_there_and_sign() {
    match softhsm::childs_library() {
        Some(library) => story(library.path().unwrap()),
        None => softhsm::must_pass(
            "tokens::keys_are_made_in_the_token_stay_there_and_sign",
            softhsm::Library::SoftHsm2,
        ),
    }
}

fn story(module: std::path::PathBuf) {
    let pin = SecretBytes::from("12345678".to_owned());
    let options = Options {
        module,
        label: "natsuin-test".to_owned(),
        pin,
        declaration: None,
    };
    Pkcs11Backend::initialise(&options).unwrap();
    Pkcs11Backend::initialise(&options).unwrap();
    let backend = Pkcs11Backend::open(&options).unwrap();
    backend.self_test().unwrap();
    for alg in [
        KeyAlg::P256,
        KeyAlg::P384,
        KeyAlg::P521,
        KeyAlg::Ed25519,
        KeyAlg::Rsa2048,
        KeyAlg::Rsa3072,
    ] {
        let made = backend.generate(alg).unwrap();
        assert_eq!(
            made.material.len(),
            16,
            "only the key's name leaves the token"
        );
        let key = backend.load(alg, &made.material).unwrap();
        for sig in SigAlg::all() {
            let value = key.sign(sig, &sig.dtbs(b"document"));
            assert_eq!(value.is_ok(), alg.sig_algs().contains(&sig), "{alg} {sig}");
            if let Ok(value) = value {
                let signed = pki::Signed::Message(b"document");
                pki::verify_signature(&made.spki, sig, signed, &value).unwrap();
                let short = key.sign(sig, &[0; 20]);
                assert_eq!(short.is_ok(), sig.form() == DtbsForm::Message);
            }
        }
        assert!(
            backend.load(alg, &SecretBytes::new(vec![7; 16])).is_err(),
            "an unknown name"
        );
        assert!(!backend.exports() && backend.export(alg, &made.material).is_err());
        backend.erase(&made.material).unwrap();
        backend.erase(&made.material).unwrap();
        assert!(backend.load(alg, &made.material).is_err(), "erased");
        assert!(key.sign(alg.csr_alg(), &alg.csr_alg().dtbs(b"a")).is_err());
    }
    let wrong = Options {
        pin: SecretBytes::from("87654321".to_owned()),
        ..options.clone()
    };
    drop(backend);
    assert!(Pkcs11Backend::open(&wrong).is_err());
    let other = Options {
        label: "absent".to_owned(),
        ..options
    };
    assert!(Pkcs11Backend::open(&other).is_err());
}
