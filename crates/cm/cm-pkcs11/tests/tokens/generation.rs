//! Faults while keys are made, imported and erased: what is answered is the device's fault and not the caller's, and no object
//! that nobody knows of stays in the token.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use cm_core::backend::{Backend, Fault, NewKey};
use cm_pkcs11::{Limits, Pkcs11Backend, WrappedKeys};
use core_types::{KeyAlg, SecretBytes};
use cryptoki::object::{Attribute, ObjectClass};
use pkcs11_faults::softhsm::{self, Library};

use crate::kit::{HASTY, LIMITS, Look, faults, options, token, token_with};

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
    let [inside, hasty] = [LIMITS, HASTY].map(|limits| token_with(&options, limits));
    let of = |lines: &str| match lines.ends_with("hang") {
        true => &hasty,
        false => &inside,
    };
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
        is_clean(&look, of(lines), lines, expected, |b| {
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
        is_clean(&look, of(lines), lines, expected, import);
    }
    drop((inside, hasty));

    // Wrapped ones, and the key that wraps them.
    let open_with =
        |limits| WrappedKeys::open(Pkcs11Backend::open_with(&options, limits).unwrap(), None);
    let open = || open_with(LIMITS);
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
    let hasty = open_with(HASTY).unwrap();
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
        let of = match lines.ends_with("hang") {
            true => &hasty,
            false => &wrapped,
        };
        is_clean(&look, of, lines, expected, |b| b.generate(KeyAlg::P256));
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

// shows: T-KEY-MALFUNCTION, III-3-13-secure-state
#[test]
fn a_token_with_much_to_do_beside_a_call_that_hangs_is_not_given_up() {
    if softhsm::childs_library().is_none() {
        let test = "generation::a_token_with_much_to_do_beside_a_call_that_hangs_is_not_given_up";
        return softhsm::must_pass(&format!("tokens::{test}"), Library::SoftHsm2);
    }
    let limits = Limits {
        sessions: 2,
        ..HASTY
    };
    let backend = Arc::new(token_with(&options("natsuin-busy"), limits));
    let alg = KeyAlg::P256;
    let made = backend.generate(alg).unwrap();
    let key = backend.load(alg, &made.material).unwrap();
    // One call hangs, and both sessions make keys that take long.
    faults("C_Sign hang 1\nC_GenerateKeyPair hang 2");
    let signed = key.sign(alg.csr_alg(), &alg.csr_alg().dtbs(b"a"));
    assert!(matches!(signed, Err(Fault::Unknown(_))));
    let making = [0; 2].map(|_| {
        let backend = backend.clone();
        std::thread::spawn(move || backend.generate(alg).map(|_| ()))
    });
    let nothing = SecretBytes::new(vec![7; 16]);
    let busy = Fault::Unavailable("all sessions are in use");
    let (_keep, never) = sync_channel::<()>(0);
    let at_work = (0..1000).any(|_| {
        // They must get a session too.
        let _ = never.recv_timeout(Duration::from_millis(5));
        backend.erase(&nothing) == Err(busy.clone())
    });
    assert!(at_work);
    for _ in 0..2 {
        backend.look();
        assert!(!backend.stuck(), "it works");
    }
    faults("");
    for made in making {
        made.join().unwrap().unwrap();
    }
}

// shows: T-KEY-MALFUNCTION, III-3-13-detect-hardware
#[test]
fn a_kind_that_the_token_does_not_make_after_all_is_not_offered_and_the_others_are() {
    if softhsm::childs_library().is_none() {
        let test = "generation::a_kind_that_the_token_does_not_make_after_all_is_not_offered_and_the_others_are";
        return softhsm::must_pass(&format!("tokens::{test}"), Library::SoftHsm2);
    }
    let lacks = |made: Result<NewKey, Fault>| matches!(made, Err(Fault::Unfit(_)));
    // Mechanism, curve, size: answers of a token that is well. The first kind that is tried is RSA-3072.
    for (label, rv) in [("a", "0x70"), ("b", "0x140"), ("c", "0x62"), ("d", "0x71")] {
        let options = options(&format!("natsuin-lacks-{label}"));
        let backend = token(&options);
        faults(&format!("C_GenerateKeyPair rv:{rv} 1"));
        backend.self_test().unwrap();
        faults("");
        assert!(lacks(backend.generate(KeyAlg::Rsa3072)), "{rv}");
        backend.generate(KeyAlg::P256).unwrap();
        // At the next start it is tried again.
        token(&options).self_test().unwrap();
        // While it works nobody waits for it as for a device that is away, either.
        faults("C_SignInit rv:0x70");
        assert!(lacks(backend.generate(KeyAlg::P256)), "{rv}");
        faults("");
        backend.generate(KeyAlg::P256).unwrap();
    }
}
