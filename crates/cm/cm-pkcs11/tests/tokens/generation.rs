//! Faults while keys are made, imported and erased: what is answered is the device's fault and not the caller's, and no object
//! that nobody knows of stays in the token.

use cm_core::backend::{Backend, Fault, NewKey};
use cm_pkcs11::{Pkcs11Backend, WrappedKeys};
use core_types::KeyAlg;
use cryptoki::object::{Attribute, ObjectClass};
use pkcs11_faults::softhsm::{self, Library};

use crate::kit::{LIMITS, Look, faults, options, token};

pkcs11_faults::on_tokens!(kryoptic:
    what_fails_while_keys_are_made_leaves_nothing_in_the_token,
    an_unwrapped_key_ends_when_nobody_holds_it,
);

/// What is to come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Made,
    /// The device's fault, and certainly nothing came of it.
    Nothing,
    /// The device's fault.
    Failed,
}

fn answer(made: &Result<NewKey, Fault>) -> Answer {
    match made {
        Ok(_) => Answer::Made,
        Err(Fault::Unavailable(_)) => Answer::Nothing,
        Err(Fault::Unknown(_)) => Answer::Failed,
        Err(other) => panic!("whose fault? {other}"),
    }
}

// shows: T-KEY-MALFUNCTION, III-A1.6-destroy-at-end
#[test]
fn what_fails_while_keys_are_made_leaves_nothing_in_the_token() {
    if softhsm::childs_library().is_none() {
        let test = "generation::what_fails_while_keys_are_made_leaves_nothing_in_the_token";
        return softhsm::must_pass(&format!("tokens::{test}"), Library::SoftHsm2);
    }
    let options = options("natsuin-faulty");
    let inside = token(&options);
    let look = Look::into(&options);
    use Answer::{Failed, Made, Nothing};
    for (lines, expected) in [
        ("C_GenerateKeyPair rv:0x30 1", Made),
        // The pair is made, and the token says that it failed: there mustn't be two.
        ("C_GenerateKeyPair late:0x30 1", Made),
        ("C_GenerateKeyPair late:0x30", Failed),
        ("C_GenerateKeyPair rv:0xe0", Nothing),
        ("C_GenerateKeyPair rv:0x31", Nothing),
        ("C_GenerateKeyPair late:0x31", Nothing),
        (
            "C_GenerateKeyPair late:0x30 1\nC_DestroyObject rv:0x30",
            Failed,
        ),
        (
            "C_GenerateKeyPair late:0x30 1\nC_DestroyObject rv:0x30 1",
            Made,
        ),
        ("C_GenerateKeyPair hang", Failed),
        ("C_Sign rv:0x30", Failed),
    ] {
        is_clean(&look, &inside, lines, expected, |b| {
            b.generate(KeyAlg::P256)
        });
    }
    let made = cm_soft::SoftBackend.generate(KeyAlg::P256).unwrap();
    let import = |backend: &dyn Backend| backend.import(KeyAlg::P256, &made.material, &made.spki);
    for (lines, expected) in [
        ("C_CreateObject rv:0x30 1", Made),
        ("C_CreateObject late:0x30 1", Made),
        ("C_CreateObject late:0x30", Failed),
        ("C_CreateObject late:0x31", Nothing),
        ("C_CreateObject hang", Failed),
    ] {
        is_clean(&look, &inside, lines, expected, import);
    }
    drop(inside);

    // Wrapped ones, and the key that wraps them.
    let open = || WrappedKeys::open(Pkcs11Backend::open_with(&options, LIMITS).unwrap(), None);
    faults("C_GenerateKey rv:0x31");
    assert!(matches!(open().err(), Some(Fault::Unavailable(_))), "full");
    faults("C_GenerateKey late:0x30 1");
    let wrapped = open().unwrap();
    faults("");
    let wrapping = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::Token(true),
    ];
    assert_eq!(look.all(&wrapping).len(), 1, "one wrapping key");
    for (lines, expected) in [
        ("C_GenerateKeyPair late:0x30 1", Made),
        ("C_GenerateKeyPair late:0x30", Failed),
        ("C_GenerateKeyPair rv:0x31", Nothing),
        ("C_WrapKey rv:0x30 1", Made),
        ("C_WrapKey rv:0x30", Nothing),
        ("C_WrapKey rv:0xe0", Nothing),
        ("C_DestroyObject rv:0x30 1", Made),
        ("C_UnwrapKey rv:0x30", Nothing),
        ("C_WrapKey hang", Failed),
    ] {
        is_clean(&look, &wrapped, lines, expected, |b| {
            b.generate(KeyAlg::P256)
        });
    }
    is_clean(&look, &wrapped, "C_CreateObject late:0x30 1", Made, import);
    is_clean(&look, &wrapped, "C_WrapKey rv:0x30", Nothing, import);
}

fn is_clean(
    look: &Look,
    backend: &dyn Backend,
    lines: &str,
    expected: Answer,
    make: impl Fn(&dyn Backend) -> Result<NewKey, Fault>,
) {
    let before = look.all(&[]).len();
    faults(lines);
    let made = make(backend);
    faults("");
    assert_eq!(answer(&made), expected, "{lines}: {made:?}");
    let place = made.ok().and_then(|made| backend.elsewhere(&made.material));
    if let Some(place) = place {
        assert_eq!(look.all(&[]).len(), before + 2, "{lines}: one pair");
        backend.erase(&place).unwrap();
    }
    let clean = look.comes_to(before, backend);
    assert!(clean, "{lines}: {} of {before}", look.all(&[]).len());
}

// shows: T-KEY-DISCLOSE, III-3-17-retention-L1, III-A1.6-destroy-at-end
#[test]
fn an_unwrapped_key_ends_when_nobody_holds_it() {
    if softhsm::childs_library().is_none() {
        let test = "generation::an_unwrapped_key_ends_when_nobody_holds_it";
        return softhsm::must_pass(&format!("tokens::{test}"), Library::SoftHsm2);
    }
    let options = options("natsuin-unwrapped");
    let wrapped = WrappedKeys::open(token(&options), None).unwrap();
    let look = Look::into(&options);
    let alg = KeyAlg::P256;
    let blobs = [0; 2].map(|_| wrapped.generate(alg).unwrap().material);
    wrapped.tidy();
    assert_eq!(
        look.unwrapped(),
        0,
        "what was tried out while they were made"
    );
    let [first, second] = blobs.each_ref().map(|b| wrapped.load(alg, b).unwrap());
    for key in [&first, &second] {
        key.sign(alg.csr_alg(), &alg.csr_alg().dtbs(b"a")).unwrap();
    }
    assert!(look.unwrapped() >= 2, "ready for use in a session");
    wrapped.tidy();
    assert!(look.unwrapped() >= 2, "as long as they are held");
    drop(first);
    wrapped.tidy();
    assert_eq!(look.unwrapped(), 1, "the other one stays");
    drop(second);
    wrapped.tidy();
    assert_eq!(look.unwrapped(), 0);
    // More than one session has room for: the ones used last stay.
    let many: Vec<_> = (0..20).map(|_| wrapped.generate(alg).unwrap()).collect();
    let many: Vec<_> = many
        .iter()
        .map(|made| wrapped.load(alg, &made.material).unwrap())
        .collect();
    assert_eq!(look.unwrapped(), 16);
    drop(many);
    wrapped.tidy();
    assert_eq!(look.unwrapped(), 0);
}
