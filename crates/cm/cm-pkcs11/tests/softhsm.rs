//! The back end on SoftHSM2, a token in software from Debian.
//!
//! SoftHSM reads its configuration from the environment once a process, so the work is done by this test started again
//! with the variable set.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::path::PathBuf;
use std::process::Command;

use cm_core::backend::Backend as _;
use cm_pkcs11::{Options, Pkcs11Backend};
use core_types::{DtbsForm, KeyAlg, SecretBytes, SigAlg};

fn module() -> PathBuf {
    let places = [
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    ];
    let found = places.iter().map(PathBuf::from).find(|p| p.exists());
    found.unwrap_or_else(|| {
        panic!("SoftHSM2 isn't installed; `cargo xtask tools` installs what tests need")
    })
}

// shows: III-3-1-no-plaintext-private-key, III-3-17-retention-L2-inside, III-3-17-retention-L2-no-export
// shows: III-A1.6-destroy-at-end
#[test]
fn keys_are_made_in_the_token_stay_there_and_sign() {
    if std::env::var_os("SOFTHSM2_CONF")
        .is_some_and(|c| c.to_string_lossy().contains("natsuin-softhsm"))
    {
        return story();
    }
    let dir = tempfile::Builder::new()
        .prefix("natsuin-softhsm")
        .tempdir()
        .unwrap();
    let tokens = dir.path().join("tokens");
    std::fs::create_dir(&tokens).unwrap();
    let conf = dir.path().join("softhsm2.conf");
    std::fs::write(
        &conf,
        format!(
            "directories.tokendir = {}\nobjectstore.backend = file\n",
            tokens.display()
        ),
    )
    .unwrap();
    let mut again = Command::new(std::env::current_exe().unwrap());
    let said = again
        .env("SOFTHSM2_CONF", &conf)
        .arg("--nocapture")
        .output()
        .unwrap();
    assert!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );
}

fn story() {
    let pin = SecretBytes::from("12345678".to_owned());
    let options = Options {
        module: module(),
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
