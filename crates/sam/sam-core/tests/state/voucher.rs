//! Invitations, what becomes of them, and the guessable parts of factors: every bound on both sides.

use core_types::{
    B64, ClientId, Digest32, FactorId, KeyAlg, KeyId, Level, OriginCase, PersonId, SecretBytes,
    TenantId, UnixTime, VoucherId, sha256,
};
use jose::SigningKey;
use sam_core::Reason;
use sam_core::enrol::{
    Device, Enrolled, Factor, FactorBody, MAX_FAILS, MAX_KEYS, MAX_VOUCHER_LIFE, MAX_VOUCHER_TRIES,
    MadeKey, PinTotp, Rebinds, Seed, Voucher, VoucherPhase, check_certify, check_invite,
    check_ra_invite, factors_digest, record,
};
use sam_core::sent::SentCode;
use sap::enrol::{Certify, CodeAddress, Invite, InvitedBy, NoticeAddress, Subject};
use sap::proof::Method;
use sap::{TYP_CERTIFY, TYP_INVITE};

use super::T;

/// The 16 bytes that reach the person.
const SECRET: [u8; 16] = [7; 16];
const D: Digest32 = Digest32([3; 32]);

pub(super) fn invite() -> Invite {
    Invite {
        voucher: VoucherId::parse("v").unwrap(),
        tenant: TenantId::parse("t").unwrap(),
        person: PersonId::parse("p").unwrap(),
        subject: Subject {
            common_name: "p".into(),
            country: "JP".into(),
            organization: None,
            serial_number: "1".into(),
        },
        assurance: "in-person".into(),
        ceiling: Level::Two,
        keys: vec![KeyAlg::P256],
        exp: T.plus(1000),
        secret: sha256(&[&SECRET]),
        replaces: None,
        collected: false,
        codes: None,
        notices: None,
        exportable: false,
        one_time: false,
    }
}

fn voucher() -> Voucher {
    Voucher {
        invite: invite(),
        source: "source".into(),
        by: InvitedBy::Ra,
        service: "ssa".into(),
        return_uri: "http://localhost/".into(),
        phase: VoucherPhase::Open,
        tries: 0,
        act: None,
        seed: None,
        enrolled: None,
        rebinds: None,
    }
}

fn enrolled(keys: usize) -> Enrolled {
    Enrolled {
        act: D,
        at: T,
        factors: D,
        authorization: Level::Two,
        keys: (0..keys)
            .map(|n| KeyId::parse(format!("k{n}")).unwrap())
            .collect(),
    }
}

/// Used, with so many keys of the two it invited to.
fn used(keys: usize) -> Voucher {
    let mut voucher = voucher();
    voucher.invite.keys = vec![KeyAlg::P256; 2];
    voucher.phase = VoucherPhase::Used;
    voucher.enrolled = Some(enrolled(keys));
    voucher
}

fn checked(change: impl Fn(&mut Invite)) -> Result<(), Reason> {
    let mut invite = invite();
    change(&mut invite);
    check_invite(&invite, T)
}

fn bad(member: &'static str, change: impl Fn(&mut Invite)) {
    assert_eq!(checked(change), Err(Reason::Invalid(member)));
}

// shows: T-REG-IMPERSONATE
#[test]
fn every_member_of_an_invitation_has_its_bounds() {
    assert_eq!(checked(|i| i.exp = T.plus(1)), Ok(()));
    assert_eq!(checked(|i| i.exp = T), Err(Reason::Expired));
    assert_eq!(checked(|i| i.exp = T.plus(MAX_VOUCHER_LIFE)), Ok(()));
    bad("exp", |i| i.exp = T.plus(MAX_VOUCHER_LIFE + 1));
    assert_eq!(MAX_VOUCHER_LIFE, 7_776_000);

    assert_eq!(checked(|i| i.keys = vec![KeyAlg::P256; MAX_KEYS]), Ok(()));
    bad("keys", |i| i.keys = vec![KeyAlg::P256; MAX_KEYS + 1]);
    bad("keys", |i| i.keys.clear());

    for long in ["x".repeat(64), "あ".repeat(64)] {
        assert_eq!(checked(|i| i.assurance.clone_from(&long)), Ok(()));
        bad("assurance", |i| i.assurance = format!("{long}x"));
    }
    bad("assurance", |i| i.assurance.clear());
    bad("assurance", |i| i.assurance = "in\nperson".into());

    let other = VoucherId::parse("earlier").unwrap();
    assert_eq!(checked(|i| i.replaces = Some(other.clone())), Ok(()));
    bad("replaces", |i| i.replaces = Some(i.voucher.clone()));

    let mail = |mail: &str| NoticeAddress {
        mail: mail.into(),
        lang: None,
    };
    assert_eq!(checked(|i| i.notices = Some(mail("p@example.jp"))), Ok(()));
    bad("notices", |i| i.notices = Some(mail("nobody")));
}

#[test]
fn what_applications_collect_is_for_level_one_and_goes_with_nothing_else() {
    let collected = |i: &mut Invite| {
        i.collected = true;
        i.ceiling = Level::One;
    };
    assert_eq!(checked(collected), Ok(()));
    for (level, requirement) in [
        (Level::Two, "I-3.5.1-keyauth-L2"),
        (Level::Three, "I-3.5.1-keyauth-L3"),
    ] {
        let refused = checked(|i| (i.collected, i.ceiling) = (true, level));
        assert_eq!(refused, Err(Reason::Level(requirement)));
    }
    let codes = |i: &mut Invite, to: &str| i.codes = Some(CodeAddress::Mail(to.into()));
    let good = |i: &mut Invite| {
        collected(i);
        codes(i, "p@example.jp");
    };
    assert_eq!(checked(good), Ok(()));
    bad("codes", |i| codes(i, "p@example.jp"));
    bad("codes", |i| {
        collected(i);
        codes(i, "nobody");
    });
    assert_eq!(checked(|i| i.exportable = true), Ok(()));
    assert_eq!(checked(|i| i.one_time = true), Ok(()));
    bad("exportable", |i| {
        collected(i);
        i.exportable = true;
    });
    bad("one_time", |i| (i.exportable, i.one_time) = (true, true));
}

#[test]
fn a_voucher_is_open_until_its_second_and_for_five_tries() {
    let at = |left: i64| T.plus(1000 - left);
    let open = voucher();
    assert_eq!(open.check_open(at(1)), Ok(()));
    assert_eq!(open.check_open(at(0)), Err(Reason::Expired));
    let phases = [
        (VoucherPhase::Used, Reason::Used),
        (VoucherPhase::Dead, Reason::TooManyTries),
        (VoucherPhase::Ended, Reason::Withdrawn),
    ];
    for (phase, reason) in phases {
        let closed = Voucher { phase, ..voucher() };
        assert_eq!(closed.check_open(T), Err(reason.clone()));
        assert_eq!(closed.try_secret(T).unwrap_err(), reason);
    }
    let mut tried = open;
    for n in 1..=MAX_VOUCHER_TRIES {
        assert_eq!(tried.after_failure(), None);
        tried = tried.try_secret(T).unwrap();
        assert_eq!(tried.tries, n);
    }
    assert_eq!(tried.try_secret(T).unwrap_err(), Reason::TooManyTries);
    let dead = tried.after_failure().unwrap();
    assert_eq!(dead.phase, VoucherPhase::Dead);
    assert_eq!(dead.after_failure(), None);
    let used = Voucher {
        phase: VoucherPhase::Used,
        ..tried
    };
    assert_eq!(used.after_failure(), None);
}

#[test]
fn the_secret_is_its_sixteen_bytes() {
    let matches = |bytes: &[u8]| {
        let text = core_types::bytes::b64u(bytes);
        voucher().secret_matches(&SecretBytes::from(text))
    };
    assert!(matches(&SECRET));
    assert!(!matches(&[8; 16]) && !matches(&[]));
    // The right digest of something longer is no secret.
    let mut longer = voucher();
    longer.invite.secret = sha256(&[&[7; 17]]);
    let text = SecretBytes::from(core_types::bytes::b64u([7; 17]));
    assert!(!longer.secret_matches(&text));
    assert!(!voucher().secret_matches(&SecretBytes::new(vec![0xff; 22])));
}

#[test]
fn only_a_whole_registration_takes_more_keys() {
    assert!(used(2).takes_imports().is_ok());
    let more = used(2).with_imported(KeyId::parse("new").unwrap()).unwrap();
    assert_eq!(more.enrolled.unwrap().keys.len(), 3);
    let most = sap::manage::MAX_KEYS;
    assert!(used(most - 1).takes_imports().is_ok());
    let refused = [
        (used(1), Reason::NotNow),
        (used(most), Reason::NotAllowed("key-count")),
        (voucher(), Reason::NotFound),
        (used(2).ended(), Reason::Withdrawn),
    ];
    for (voucher, reason) in refused {
        assert_eq!(voucher.takes_imports().unwrap_err(), reason);
        let key = KeyId::parse("new").unwrap();
        assert_eq!(voucher.with_imported(key).unwrap_err(), reason);
    }
    let mut collected = used(2);
    collected.invite.collected = true;
    let office = Voucher {
        by: InvitedBy::Office,
        ..used(2)
    };
    for foreign in [collected, office] {
        let refused = foreign.takes_imports().unwrap_err();
        assert_eq!(refused, Reason::ForeignFactor);
    }
}

#[test]
fn a_registration_that_ended_forgets_its_seed() {
    let seed = Seed {
        act: D,
        seed: SecretBytes::new(vec![1; 20]),
    };
    let with = Voucher {
        seed: Some(seed.clone()),
        ..voucher()
    };
    let ended = with.ended();
    assert_eq!((ended.phase, ended.seed), (VoucherPhase::Ended, None));
    let other_act = Seed {
        act: Digest32([4; 32]),
        ..seed.clone()
    };
    let other_seed = Seed {
        seed: SecretBytes::new(vec![2; 20]),
        ..seed.clone()
    };
    assert_eq!(seed, seed.clone());
    assert!(seed != other_act && seed != other_seed);
}

#[test]
fn what_the_ssa_invites_stays_at_level_one() {
    let by = |by| Voucher { by, ..voucher() };
    assert_eq!(by(InvitedBy::Ra).ceiling(), Level::Two);
    assert_eq!(by(InvitedBy::Office).ceiling(), Level::Two);
    assert_eq!(by(InvitedBy::Ssa).ceiling(), Level::One);
    let earlier = VoucherId::parse("earlier").unwrap();
    let rebinds = Rebinds {
        registration: earlier.clone(),
        of: D,
        since: T,
    };
    assert_eq!(voucher().registration(), &voucher().invite.voucher);
    let again = Voucher {
        rebinds: Some(rebinds),
        ..voucher()
    };
    assert_eq!(again.registration(), &earlier);
}

// shows: T-REG-IMPERSONATE
#[test]
fn only_a_registered_authority_invites_and_approves_this_key() {
    let (ra, _) = SigningKey::generate().unwrap();
    let (stranger, _) = SigningKey::generate().unwrap();
    let ras = [stranger.public().clone(), ra.public().clone()];
    let signed = |key: &SigningKey, typ: &str, body: &[u8]| key.sign(typ, body).unwrap();
    let body = serde_json::to_vec(&invite()).unwrap();
    let unknown = Reason::Registration("not signed by a registered authority");
    let read = |jws: &str, known: &[jose::Jwk]| check_ra_invite(jws, known, T);
    let good = signed(&ra, TYP_INVITE, &body);
    assert_eq!(read(&good, &ras), Ok(invite()));
    assert_eq!(read(&good, &ras[..1]), Err(unknown.clone()));
    assert_eq!(
        read(&signed(&ra, TYP_CERTIFY, &body), &ras),
        Err(unknown.clone())
    );
    // A known name over somebody else's signature.
    let theirs = signed(&stranger, TYP_INVITE, &body);
    let mixed = format!(
        "{}.{}",
        good.rsplit_once('.').unwrap().0,
        theirs.rsplit_once('.').unwrap().1
    );
    assert_eq!(read(&mixed, &ras), Err(unknown.clone()));
    assert_eq!(
        read(&signed(&ra, TYP_INVITE, b"{}"), &ras),
        Err(Reason::Invalid("invite"))
    );
    let over = check_ra_invite(&good, &ras, T.plus(1000));
    assert_eq!(over, Err(Reason::Expired));

    let key = KeyId::parse("k0").unwrap();
    let made = MadeKey {
        key: &key,
        alg: KeyAlg::P256,
        spki: b"spki",
        csr: b"csr",
        level: Level::One,
        origin: OriginCase::ProviderSoftware,
    };
    let record = record("sam", &used(1), &enrolled(1), made);
    assert_eq!(
        (record.spki, record.csr, record.invite),
        (sha256(&[b"spki"]), sha256(&[b"csr"]), sha256(&[b"source"]))
    );
    let approval = |change: &dyn Fn(&mut Certify)| {
        let mut certify = Certify {
            enrolment: sha256(&[b"the record"]),
            subject: record.subject.clone(),
            spki: record.spki,
            factors: record.factors,
            at: T,
        };
        change(&mut certify);
        let jws = signed(&ra, TYP_CERTIFY, &serde_json::to_vec(&certify).unwrap());
        check_certify(&jws, &ras, "the record", &record).map(drop)
    };
    assert_eq!(approval(&|_| ()), Ok(()));
    let other = Err(Reason::Registration(
        "the approval is for another key or factor set",
    ));
    assert_eq!(approval(&|c| c.enrolment = D), other);
    assert_eq!(approval(&|c| c.subject.common_name = "q".into()), other);
    assert_eq!(approval(&|c| c.spki = D), other);
    assert_eq!(approval(&|c| c.factors = Digest32([4; 32])), other);
}

fn factor(body: FactorBody) -> Factor {
    Factor {
        id: FactorId::parse("f").unwrap(),
        person: PersonId::parse("p").unwrap(),
        voucher: VoucherId::parse("v").unwrap(),
        act: D,
        created: T,
        body,
        removed: None,
    }
}

fn codes() -> PinTotp {
    PinTotp {
        salt: B64(vec![1]),
        mac: SecretBytes::new(vec![1]),
        seed: SecretBytes::new(vec![2]),
        last_step: 7,
        fails: 0,
        wait_until: UnixTime(0),
        collected: false,
        sent: None,
    }
}

fn device() -> Device {
    Device {
        key: SigningKey::generate().unwrap().0.public().clone(),
        salt: B64(vec![1]),
        mac: SecretBytes::new(vec![1]),
        fails: 0,
        wait_until: UnixTime(0),
    }
}

// shows: I-7.1.2.5-authentication-failure-lockout
#[test]
fn guesses_are_counted_first_and_cost_more_and_more() {
    for body in [FactorBody::PinTotp(codes()), FactorBody::Device(device())] {
        let mut now = T;
        let mut next = body;
        for (n, wait) in [0, 0, 0, 0, 60, 120, 240, 480, 960, 1920]
            .into_iter()
            .enumerate()
        {
            next = next.try_secret(now).unwrap();
            let after = next.guessable().unwrap();
            assert_eq!(
                (usize::from(after.fails), after.wait_until),
                (n + 1, now.plus(wait))
            );
            if wait > 0 {
                let early = next.try_secret(now.plus(wait - 1));
                assert_eq!(early.unwrap_err(), Reason::Locked);
            }
            now = now.plus(wait);
        }
        assert_eq!(next.guessable().unwrap().fails, MAX_FAILS);
        assert_eq!(
            next.try_secret(now.plus(1_000_000)).unwrap_err(),
            Reason::Locked
        );
    }
}

#[test]
fn a_code_counts_once_and_takes_failures_back() {
    let failed = PinTotp {
        fails: 3,
        wait_until: T,
        ..codes()
    };
    let good = failed.succeeded(8).unwrap();
    assert_eq!(
        (good.fails, good.wait_until, good.last_step),
        (0, UnixTime(0), 8)
    );
    for step in [7, 6] {
        let old = failed.succeeded(step).unwrap_err();
        assert_eq!(old, Reason::SecretWrong { tries_left: 7 });
    }
}

#[test]
fn a_new_pin_changes_the_pin_and_nothing_else() {
    let (salt, mac) = (B64(vec![9]), SecretBytes::new(vec![9]));
    for body in [FactorBody::PinTotp(codes()), FactorBody::Device(device())] {
        let body = body.with_fails(2, T);
        let next = body.with_pin(&salt, &mac).unwrap();
        let new = next.guessable().unwrap();
        assert_eq!(
            (new.salt, new.mac.expose(), new.fails),
            (&salt, &[9][..], 2)
        );
        if let FactorBody::PinTotp(codes) = next {
            assert_eq!((codes.seed.expose(), codes.last_step), (&[2][..], 7));
        }
    }
}

#[test]
fn a_removed_factor_keeps_its_name_and_no_secret() {
    let sent = PinTotp {
        collected: true,
        ..codes()
    };
    assert_eq!(
        factor(FactorBody::PinTotp(sent.clone())).method(),
        Method::Collected
    );
    assert_eq!(
        factor(FactorBody::PinTotp(codes())).method(),
        Method::PinTotp
    );
    let code = SentCode {
        key: KeyId::parse("k").unwrap(),
        client: ClientId::parse("c").unwrap(),
        salt: B64(vec![1]),
        mac: SecretBytes::new(vec![1]),
    };
    let sent = sent.with_sent(code, T).unwrap();
    let gone = factor(FactorBody::PinTotp(sent)).removed(T.plus(1));
    assert_eq!(gone.removed, Some(T.plus(1)));
    let FactorBody::PinTotp(rest) = &gone.body else {
        panic!("another kind")
    };
    assert!(rest.mac.is_empty() && rest.seed.is_empty() && rest.sent.is_none());
    let gone = factor(FactorBody::Device(device())).removed(T);
    let FactorBody::Device(rest) = &gone.body else {
        panic!("another kind")
    };
    assert!(rest.mac.is_empty());
}

#[test]
fn a_device_proves_its_act_with_its_own_key() {
    let (key, _) = SigningKey::generate().unwrap();
    let device = Device {
        key: key.public().clone(),
        ..device()
    };
    let signature = key.sign_bytes(&D.0).unwrap();
    assert_eq!(device.verify(D, &signature), Ok(()));
    let other = device.verify(Digest32([4; 32]), &signature);
    assert_eq!(other, Err(Reason::DeviceSignature));
    let public = factor(FactorBody::Device(device.clone())).public();
    assert_eq!(public.device, Some(device.key));
    assert!(public.passkey.is_none() && public.provider.is_none());
}

#[test]
fn the_digest_of_factors_knows_each_and_no_order() {
    let one = factor(FactorBody::PinTotp(codes()));
    let two = Factor {
        id: FactorId::parse("g").unwrap(),
        ..factor(FactorBody::Device(device()))
    };
    let both = factors_digest(&[one.clone(), two.clone()]).unwrap();
    assert_eq!(factors_digest(&[two.clone(), one.clone()]).unwrap(), both);
    assert_ne!(factors_digest(&[one]).unwrap(), both);
    assert_eq!(two.method(), Method::Device);
}
