//! Faults while the wrapping key is changed: whatever is late, fails, or happens twice at once, no key that was wrapped is lost.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use cm_core::backend::{Backend, Fault, NewKey, OPEN_WRAPPING_KEY};
use cm_pkcs11::{Pkcs11Backend, WrappedKeys};
use core_types::KeyAlg;
use cryptoki::object::{Attribute, KeyType, ObjectClass};
use pkcs11_faults::softhsm::{self, Library};

use crate::kit::{HASTY, LIMITS, Look, faults, options, token_with};

const ALG: KeyAlg = KeyAlg::P256;

pkcs11_faults::on_tokens!(kryoptic:
    a_change_that_comes_back_late_costs_no_key,
    two_that_change_the_wrapping_key_at_once_lose_nothing,
    nothing_is_wrapped_under_a_key_that_is_not_ready,
    who_was_logged_out_takes_no_wrapping_key_for_lost,
);

fn child(test: &str) -> bool {
    let child = softhsm::childs_library().is_some();
    if !child {
        softhsm::must_pass(&format!("tokens::wrapping::{test}"), Library::SoftHsm2);
    }
    child
}

fn labelled(look: &Look, label: &str) -> usize {
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::Token(true),
        Attribute::Label(label.as_bytes().to_vec()),
    ];
    look.all(&template).len()
}

/// How many are ready, made, and in the making.
fn wrapping(look: &Look) -> [usize; 3] {
    ["natsuin-kek", "natsuin-kek-made", "natsuin-kek-making"].map(|label| labelled(look, label))
}

fn signs(backend: &dyn Backend, made: &NewKey) {
    let key = backend.load(ALG, &made.material).unwrap();
    let alg = ALG.csr_alg();
    let value = key.sign(alg, &alg.dtbs(b"a")).unwrap();
    pki::verify_signature(&made.spki, alg, pki::Signed::Message(b"a"), &value).unwrap();
}

// shows: T-KEY-MALFUNCTION, III-A1.6-backup-keys
#[test]
fn a_change_that_comes_back_late_costs_no_key() {
    if !child("a_change_that_comes_back_late_costs_no_key") {
        return;
    }
    let options = options("natsuin-late");
    let wrapped = WrappedKeys::open(token_with(&options, HASTY), None).unwrap();
    let look = Look::into(&options);
    let first = wrapped.generate(ALG).unwrap();
    // The first try hangs and is given up; the second one succeeds, and keys are made under it.
    faults("C_GenerateKey hang 1");
    assert!(matches!(wrapped.renew_wrapping(), Err(Fault::Unknown(_))));
    wrapped.renew_wrapping().unwrap();
    let second = wrapped.generate(ALG).unwrap();
    assert!(wrapped.is_newest(&second.material).unwrap());
    wrapped.tidy();
    let before = look.all(&[]).len();
    assert_eq!(wrapping(&look), [2, 0, 0]);
    // The first one goes on: what it makes nobody uses, and it may take nothing else with it, nor be taken for another.
    faults("C_DestroyObject rv:0x30");
    // SoftHSM2 takes it back by itself, once the session of the call was closed.
    look.comes_to(before + 1, &wrapped);
    assert!(matches!(wrapping(&look), [2, 0, 0 | 1]));
    faults("");
    for made in [&first, &second] {
        signs(&wrapped, made);
    }
    assert!(wrapped.is_newest(&second.material).unwrap());
    // The next change clears it away.
    wrapped.renew_wrapping().unwrap();
    let third = wrapped.rewrap(ALG, &second.material).unwrap().unwrap();
    assert_eq!(wrapped.retire_wrapping().unwrap(), 2);
    assert_eq!(wrapping(&look), [1, 0, 0]);
    let third = NewKey {
        material: third,
        spki: second.spki,
    };
    signs(&wrapped, &third);
}

// shows: T-KEY-MALFUNCTION, III-A1.6-backup-keys
#[test]
fn two_that_change_the_wrapping_key_at_once_lose_nothing() {
    if !child("two_that_change_the_wrapping_key_at_once_lose_nothing") {
        return;
    }
    let options = options("natsuin-two");
    let first = WrappedKeys::open(token_with(&options, LIMITS), None).unwrap();
    let second = Pkcs11Backend::open_with(&options, LIMITS).unwrap();
    let second = WrappedKeys::open(second, None).unwrap();
    let nodes = [Arc::new(first), Arc::new(second)];
    let look = Look::into(&options);
    let old = nodes[0].generate(ALG).unwrap();
    // The one that is slower succeeds, or fails once its key is made.
    for (ready, (then, well)) in (2..).zip([("", true), ("C_SetAttributeValue rv:0x30", false)]) {
        faults("C_GenerateKey hang 1");
        let (told, done) = sync_channel(2);
        for (n, node) in nodes.iter().enumerate() {
            let (node, told) = (node.clone(), told.clone());
            std::thread::spawn(move || told.send((n, node.renew_wrapping())).unwrap());
        }
        // One hangs, and the other one has a new key by then.
        let (faster, changed) = done.recv().unwrap();
        changed.unwrap();
        let made = nodes[faster].generate(ALG).unwrap();
        faults(then);
        let (slower, changed) = done.recv().unwrap();
        assert_ne!(slower, faster);
        assert_eq!(changed.is_ok(), well, "{changed:?}");
        faults("");
        for node in &nodes {
            for made in [&old, &made] {
                signs(node.as_ref(), made);
            }
        }
        // Of the first round there are two new ones, of the second one.
        assert_eq!(wrapping(&look), [ready + 1, 0, 0]);
        assert_eq!(nodes[0].wrapping_keys().unwrap().len(), ready + 1);
    }
}

// shows: T-KEY-MALFUNCTION, III-A1.6-backup-keys
#[test]
fn nothing_is_wrapped_under_a_key_that_is_not_ready() {
    if !child("nothing_is_wrapped_under_a_key_that_is_not_ready") {
        return;
    }
    let options = options("natsuin-ready");
    let wrapped = Arc::new(WrappedKeys::open(token_with(&options, LIMITS), None).unwrap());
    let look = Look::into(&options);
    // It hangs where it is made and nobody may use it yet.
    faults("C_SetAttributeValue hang 1");
    let changing = {
        let wrapped = wrapped.clone();
        std::thread::spawn(move || wrapped.renew_wrapping())
    };
    let (_keep, never) = sync_channel::<()>(0);
    let there = (0..1000).any(|_| {
        let _ = never.recv_timeout(Duration::from_millis(5));
        wrapping(&look) == [1, 0, 1]
    });
    assert!(there, "it is being made");
    let made = wrapped.generate(ALG).unwrap();
    faults("");
    changing.join().unwrap().unwrap();
    assert_eq!(wrapping(&look), [2, 0, 0]);
    assert!(!wrapped.is_newest(&made.material).unwrap());
    signs(wrapped.as_ref(), &made);
    // An error after the deed: the one that is ready stays.
    faults("C_SetAttributeValue late:0x30 1");
    wrapped.renew_wrapping().unwrap();
    assert_eq!(wrapping(&look), [3, 0, 0]);
    // An error for good: nothing stays.
    faults("C_SetAttributeValue rv:0x30");
    assert!(wrapped.renew_wrapping().is_err());
    faults("");
    assert_eq!(wrapping(&look), [3, 0, 0]);
    // Of several devices: it wraps when all have it.
    wrapped.make_wrapping().unwrap();
    assert_eq!(wrapping(&look), [3, 1, 0]);
    let made = wrapped.generate(ALG).unwrap();
    let newest = wrapped.wrapping_keys().unwrap().pop().unwrap();
    for _ in 0..2 {
        wrapped.adopt_wrapping(newest).unwrap();
        assert_eq!(wrapping(&look), [4, 0, 0]);
    }
    assert!(!wrapped.is_newest(&made.material).unwrap());
    assert_eq!(wrapped.retire_wrapping().unwrap(), 3);
}

// shows: T-KEY-MALFUNCTION, III-A1.6-backup-keys
#[test]
fn who_was_logged_out_takes_no_wrapping_key_for_lost() {
    if !child("who_was_logged_out_takes_no_wrapping_key_for_lost") {
        return;
    }
    let options = options("natsuin-out");
    let wrapped = WrappedKeys::open(token_with(&options, LIMITS), None).unwrap();
    let made = wrapped.generate(ALG).unwrap();
    faults("C_FindObjectsInit logout 1");
    wrapped.renew_wrapping().unwrap();
    faults("C_FindObjectsInit logout 1");
    let next = wrapped.rewrap(ALG, &made.material).unwrap();
    faults("");
    let next = NewKey {
        material: next.expect("it is wrapped anew"),
        spki: made.spki,
    };
    assert_eq!(wrapped.retire_wrapping().unwrap(), 1);
    signs(&wrapped, &next);
}

// shows: III-3-17-retention-L2-no-export, T-KEY-DISCLOSE
#[test]
fn a_wrapping_key_whose_value_can_be_had_is_not_used() {
    if !child("a_wrapping_key_whose_value_can_be_had_is_not_used") {
        return;
    }
    let options = options("natsuin-open");
    let wrapped = WrappedKeys::open(token_with(&options, LIMITS), None).unwrap();
    let before = wrapped.generate(ALG).unwrap();
    let look = Look::into(&options);
    // Whoever knows the PIN, or copies keys between devices carelessly, puts in one that is taken for the newest.
    for (sensitive, extractable) in [(true, true), (false, false)] {
        let brought = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(sensitive),
            Attribute::Extractable(extractable),
            Attribute::Wrap(true),
            Attribute::Unwrap(true),
            Attribute::Label(b"natsuin-kek".to_vec()),
            Attribute::Id(format!("natsuin-kek-{}", u32::MAX).into_bytes()),
            Attribute::Value(vec![7; 32]),
        ];
        let brought = look.0.create_object(&brought).unwrap();
        assert_eq!(wrapped.generate(ALG).err(), Some(OPEN_WRAPPING_KEY));
        look.0.destroy_object(brought).unwrap();
        signs(&wrapped, &before);
        wrapped.generate(ALG).unwrap();
    }
}
