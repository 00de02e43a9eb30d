//! Two tokens as one back end, one of them behind the faulty module.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cm_api::rpc::MemberState;
use cm_core::backend::{Backend, Fault, NO_WRAPPING_KEY, PrivateKey};
use cm_core::several::{Awaited, Declared, Device, NotOpen, Several};
use cm_pkcs11::{Limits, OpenError, Opening, Options, Pkcs11Backend, WrappedKeys};
use core_types::KeyAlg;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass};
use pkcs11_faults::softhsm::{self, Library};

use crate::kit::{LIMITS, Look, faults, options, token_with};

const ALG: KeyAlg = KeyAlg::P256;
/// Labels of wrapping keys: of one that wraps, and of one that is to when all devices have it.
const READY: &str = "natsuin-kek";
const MADE: &str = "natsuin-kek-made";
/// Its self-tests make RSA keys.
const PATIENT: Limits = Limits {
    patience: Duration::from_secs(3),
    ..LIMITS
};

fn child(test: &str) -> bool {
    let child = softhsm::childs_library().is_some();
    if !child {
        softhsm::must_pass(&format!("tokens::several::{test}"), Library::SoftHsm2);
    }
    child
}

/// A token in which the keys of its self-tests are made already, for which RSA may take its time.
fn tested(options: &Options) -> Pkcs11Backend {
    token_with(options, LIMITS).self_test().unwrap();
    token_with(options, PATIENT)
}

/// A wrapping key with this label and number, as if the maker's tools had copied it.
fn copied(into: &Options, label: &str, number: u32) {
    let wrapping = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Wrap(true),
        Attribute::Unwrap(true),
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Id(format!("natsuin-kek-{number}").into_bytes()),
        Attribute::Value(vec![number.to_be_bytes()[3]; 32]),
    ];
    Look::into(into).0.create_object(&wrapping).unwrap();
}

fn states(several: &Several) -> Vec<MemberState> {
    several.members().into_iter().map(|m| m.state).collect()
}

fn sign(key: &dyn PrivateKey) -> Result<(), Fault> {
    let alg = ALG.csr_alg();
    let value = key.sign(alg, &alg.dtbs(b"a"))?;
    pki::verify_signature(key.spki(), alg, pki::Signed::Message(b"a"), &value).unwrap();
    Ok(())
}

/// Two tokens of SoftHSM2 with one wrapping key, the first behind the faulty module.
fn pair() -> ([Options; 2], [Arc<dyn Backend>; 2]) {
    let direct: PathBuf = Library::SoftHsm2.path().unwrap();
    let first = options("natsuin-first");
    let second = Options {
        module: direct,
        label: "natsuin-second".to_owned(),
        ..first.clone()
    };
    let tokens = [&first, &second].map(tested);
    for options in [&first, &second] {
        copied(options, READY, 7);
    }
    let members = tokens.map(|t| Arc::new(WrappedKeys::join(t, None).unwrap()) as Arc<dyn Backend>);
    ([first, second], members)
}

// shows: T-KEY-MALFUNCTION, T-KEY-ABUSE, III-3-13-secure-state
#[test]
fn one_that_fails_or_hangs_costs_no_signature_and_is_told() {
    if !child("one_that_fails_or_hangs_costs_no_signature_and_is_told") {
        return;
    }
    let (_, members) = pair();
    let several = Several::new(members.to_vec(), true).unwrap();
    several.check().unwrap();
    let made = several.generate(ALG).unwrap();
    let key = several.load(ALG, &made.material).unwrap();
    let both = [MemberState::Well; 2];
    for _ in 0..4 {
        sign(key.as_ref()).unwrap();
    }
    assert_eq!((states(&several), several.news()), (both.to_vec(), vec![]));
    // Away: every order is signed, by the other one.
    faults("C_SignInit rv:0x30");
    for _ in 0..4 {
        sign(key.as_ref()).unwrap();
    }
    assert_eq!(states(&several), [MemberState::Away, MemberState::Well]);
    assert_eq!(several.news(), ["cm-device-away"], "told once");
    faults("");
    for _ in 0..2 {
        sign(key.as_ref()).unwrap();
    }
    assert_eq!(states(&several), both, "back by itself");
    several.look();
    // Hanging: one order at most is lost, and then it is left alone.
    faults("C_Sign hang");
    let lost = (0..6).filter(|_| sign(key.as_ref()).is_err()).count();
    assert_eq!(lost, 1);
    assert_eq!(states(&several), [MemberState::Resting, MemberState::Well]);
    assert_eq!(several.news(), ["cm-device-away"]);
    several.look();
    assert_eq!(states(&several)[0], MemberState::Resting, "it still hangs");
    faults("");
    several.look();
    assert_eq!(states(&several), both, "it passed its tests");
    for _ in 0..4 {
        sign(key.as_ref()).unwrap();
    }
    // A wrong value ends its use.
    faults("C_Sign flip");
    let wrong = (0..2).filter_map(|_| sign(key.as_ref()).err());
    assert!(matches!(
        wrong.collect::<Vec<_>>().as_slice(),
        [Fault::Broken(_)]
    ));
    faults("");
    several.look();
    assert_eq!(states(&several), [MemberState::Out, MemberState::Well]);
    assert_eq!(several.news(), ["cm-device-out"]);
    sign(key.as_ref()).unwrap();
}

// shows: T-KEY-MALFUNCTION, III-A1.6-backup-keys
#[test]
fn tokens_that_share_a_wrapping_key_change_it_when_all_have_the_new_one() {
    if !child("tokens_that_share_a_wrapping_key_change_it_when_all_have_the_new_one") {
        return;
    }
    let (options, members) = pair();
    let several = Several::new(members.to_vec(), true).unwrap();
    let made = several.generate(ALG).unwrap();
    // A new one in the first token, which the second lacks.
    let Err(Fault::Unfit(_)) = several.renew_wrapping() else {
        panic!("the second token has no way to it")
    };
    assert!(
        several.retire_wrapping().is_err(),
        "nothing is destroyed before"
    );
    // It can't be copied out of SoftHSM2; so a known one takes its place, as after the maker's tools.
    let look = Look::into(&options[0]);
    let made_now = look.all(&[Attribute::Label(MADE.as_bytes().to_vec())]);
    let told = look.0.get_attributes(made_now[0], &[AttributeType::Id]);
    let told = told.unwrap();
    let [Attribute::Id(id)] = told.as_slice() else {
        panic!("its name")
    };
    let number = std::str::from_utf8(id).unwrap();
    let number: u32 = number
        .strip_prefix("natsuin-kek-")
        .unwrap()
        .parse()
        .unwrap();
    for old in made_now {
        look.0.destroy_object(old).unwrap();
    }
    copied(&options[0], MADE, number);
    // Until all have it the keys that are made meanwhile are good for all.
    several.check().unwrap();
    assert!(members[0].is_newest(&made.material).unwrap());
    copied(&options[1], MADE, number);
    several.renew_wrapping().unwrap();
    let next = several.rewrap(ALG, &made.material).unwrap().unwrap();
    assert!(several.rewrap(ALG, &next).unwrap().is_none());
    assert_eq!(several.retire_wrapping().unwrap(), 1);
    for _ in 0..4 {
        sign(several.load(ALG, &next).unwrap().as_ref()).unwrap();
        let old = several.load(ALG, &made.material).err();
        assert_eq!(old, Some(NO_WRAPPING_KEY), "older copies have ended");
    }
    several.check().unwrap();
    assert!(several.news().is_empty());
    // A token that lacks what another one wraps with: the other one is asked, and it is told.
    copied(&options[0], READY, number + 1);
    let newer = members[0].generate(ALG).unwrap();
    for _ in 0..4 {
        sign(several.load(ALG, &newer.material).unwrap().as_ref()).unwrap();
    }
    assert_eq!(several.news(), ["cm-device-lacks-key"], "once a minute");
    assert_eq!(
        several.check().unwrap_err().what(),
        "a device can't use the keys of another one"
    );
}

// shows: T-KEY-MALFUNCTION
#[test]
fn tokens_of_two_makers_have_keys_of_their_own_and_go_on_without_each_other() {
    if !child("tokens_of_two_makers_have_keys_of_their_own_and_go_on_without_each_other") {
        return;
    }
    let first = options("natsuin-first");
    let second = Options {
        module: Library::Kryoptic.path().unwrap(),
        label: "natsuin-second".to_owned(),
        ..first.clone()
    };
    let members = [&first, &second].map(|o| Arc::new(tested(o)) as Arc<dyn Backend>);
    let shared = Several::new(members.to_vec(), true).unwrap();
    assert!(
        matches!(shared.check(), Err(Fault::Unfit(_))),
        "they don't share"
    );
    let several = Several::new(members.to_vec(), false).unwrap();
    several.check().unwrap();
    let keys = [0; 4].map(|_| several.generate(ALG).unwrap());
    let keys = keys.map(|made| several.load(ALG, &made.material).unwrap());
    faults("C_Sign hang");
    let signed = keys.iter().filter(|key| sign(key.as_ref()).is_ok()).count();
    assert_eq!(signed, 2, "each key waits for its token");
    assert_eq!(states(&several), [MemberState::Resting, MemberState::Well]);
    // New ones are made in the other, and nobody waits.
    for _ in 0..4 {
        let made = several.generate(ALG).unwrap();
        sign(several.load(ALG, &made.material).unwrap().as_ref()).unwrap();
    }
    faults("");
    several.look();
    for key in &keys {
        sign(key.as_ref()).unwrap();
    }
}

/// A token with wrapped keys that wasn't there at the start.
struct Later(Opening);

impl Later {
    fn of(options: &Options) -> Self {
        Self(Opening::new(options.clone(), PATIENT, false))
    }
}

impl Awaited for Later {
    fn declared(&self) -> Declared {
        WrappedKeys::declared(&self.0.declared(), None)
    }

    fn open(&self) -> Result<Arc<dyn Backend>, NotOpen> {
        let token = self.0.open().map_err(|error| match error.passes() {
            true => NotOpen::Away,
            false => NotOpen::Refused(error.to_string()),
        })?;
        match WrappedKeys::join(token, None) {
            Ok(wrapped) => Ok(Arc::new(wrapped)),
            Err(NO_WRAPPING_KEY) => Err(NotOpen::Lacks(NO_WRAPPING_KEY.to_string())),
            Err(_) => Err(NotOpen::Away),
        }
    }
}

// shows: T-KEY-MALFUNCTION, T-KEY-ABUSE, III-3-13-secure-state
#[test]
fn one_that_comes_later_is_used_when_it_has_the_same_wrapping_key() {
    if !child("one_that_comes_later_is_used_when_it_has_the_same_wrapping_key") {
        return;
    }
    let ([first, second], members) = pair();
    drop(members);
    let third = options("natsuin-third");
    drop(tested(&third));
    let there = token_with(&second, PATIENT);
    let there: Arc<dyn Backend> = Arc::new(WrappedKeys::join(there, None).unwrap());
    let with = |late: &Options| {
        let late = Device::Away(Box::new(Later::of(late)));
        Several::new([Device::There(there.clone()), late], true).unwrap()
    };
    let (waits, both) = (
        [MemberState::Well, MemberState::Awaited],
        [MemberState::Well; 2],
    );
    faults("C_GetSlotList rv:0x5");
    let several = with(&first);
    several.check().unwrap();
    let made = several.generate(ALG).unwrap();
    let key = several.load(ALG, &made.material).unwrap();
    sign(key.as_ref()).unwrap();
    several.look();
    assert_eq!(states(&several), waits);
    assert_eq!(several.news(), ["cm-device-awaited"]);
    // One change of the wrapping key would leave it behind.
    assert!(matches!(
        several.renew_wrapping(),
        Err(Fault::Unavailable(_))
    ));
    faults("");
    several.look();
    assert_eq!(states(&several), both);
    assert_eq!(several.news(), ["cm-device-joined"]);
    // What was opened before it came signs in it too.
    faults("C_SignInit rv:0x30");
    for _ in 0..4 {
        sign(key.as_ref()).unwrap();
    }
    faults("");
    assert_eq!(several.news(), ["cm-device-away"], "it was asked");
    // One without a wrapping key, one with another, and the right one in the end.
    let several = with(&third);
    several.check().unwrap();
    several.look();
    assert_eq!(states(&several), waits);
    assert_eq!(several.news(), ["cm-device-awaited", "cm-device-refused"]);
    copied(&third, READY, 9);
    several.look();
    assert_eq!(states(&several), waits, "not theirs");
    let look = Look::into(&third);
    for other in look.all(&[Attribute::Label(READY.as_bytes().to_vec())]) {
        look.0.destroy_object(other).unwrap();
    }
    copied(&third, READY, 7);
    several.look();
    assert_eq!(states(&several), both);
    assert_eq!(several.news(), ["cm-device-joined"]);
    let key = several.load(ALG, &made.material).unwrap();
    for _ in 0..4 {
        sign(key.as_ref()).unwrap();
    }
}

// shows: T-KEY-MALFUNCTION, III-3-13-secure-state
#[test]
fn a_token_that_is_waited_for_gets_one_try_of_its_pin_and_none_beside_a_call_that_hangs() {
    if !child(
        "a_token_that_is_waited_for_gets_one_try_of_its_pin_and_none_beside_a_call_that_hangs",
    ) {
        return;
    }
    let first = options("natsuin-first");
    drop(token_with(&first, PATIENT));
    // Another token with this label is given no PIN.
    let other = Options {
        serial: Some("another".to_owned()),
        ..first.clone()
    };
    faults("C_Login rv:0xa0");
    let other = Opening::new(other, PATIENT, false).open().err();
    assert!(matches!(other, Some(OpenError::Serial { .. })));
    // Refused once; the next login would succeed.
    faults("C_Login rv:0xa0 1");
    let opening = Opening::new(first.clone(), PATIENT, false);
    for _ in 0..2 {
        assert!(matches!(opening.open().err(), Some(OpenError::Login(_))));
    }
    assert!(Opening::new(first.clone(), PATIENT, false).open().is_ok());
    // What hangs is what is waited for: it comes back to a refused PIN, and another try would have succeeded.
    let hasty = Limits {
        patience: Duration::from_millis(50),
        ..PATIENT
    };
    faults("C_OpenSession hang");
    let opening = Opening::new(first, hasty, false);
    for _ in 0..2 {
        assert!(matches!(opening.open().err(), Some(OpenError::Silent)));
    }
    faults("C_Login rv:0xa0 1");
    let (_keep, never) = std::sync::mpsc::sync_channel::<()>(0);
    let mut came = None;
    for _ in 0..1000 {
        came = opening.open().err();
        if !matches!(came, Some(OpenError::Silent)) {
            break;
        }
        let _ = never.recv_timeout(Duration::from_millis(5));
    }
    assert!(matches!(came, Some(OpenError::Login(_))), "{came:?}");
}
