//! What officers ask for and approve: bounds, and the words that all of them read.

use core_types::{ClientId, Digest32, KeyId, OfficerId, PersonId, TenantId, UnixTime, VoucherId};
use jose::SigningKey;
use sam_core::Reason;
use sam_core::office::people::{DUE, check_office};
use sam_core::office::proposal::{MAX_PROPOSAL, check_asking, check_measure, takes, words};
use sam_core::office::{Limits, Officer, Roles, Session, Urgency};
use sap::act::Version1;
use sap::office::{
    Document, Facts, KeyAction, Measure, Office, Part, Requester, Role, Training, Zone,
};

use super::T;

const D: Digest32 = Digest32([3; 32]);

fn office(role: Role) -> Office {
    Office {
        roles: vec![role],
        both: false,
        until: T.plus(10_000_000),
        training: None,
    }
}

fn id(text: &str) -> OfficerId {
    OfficerId::parse(text).unwrap()
}

fn key(action: KeyAction) -> Measure {
    Measure::Key {
        key: KeyId::parse("k1").unwrap(),
        action,
    }
}

fn client(keys: Vec<serde_json::Value>) -> Measure {
    Measure::Client {
        client: ClientId::parse("app").unwrap(),
        name: "アプリ".into(),
        keys,
    }
}

fn delete(size: u64) -> Measure {
    Measure::DeleteArchived {
        zone: Zone::Cm,
        archive: D,
        size,
    }
}

fn read(measure: Measure) -> String {
    words(&Document {
        v: Version1,
        sam: "sam".into(),
        tenant: TenantId::parse("t").unwrap(),
        nonce: D,
        measure,
        facts: Facts {
            name: Some("髙橋 花子".into()),
            ..Facts::default()
        },
        reason: "because".into(),
        requester: Requester {
            account: PersonId::parse("officer.a1").unwrap(),
            officer: id("a"),
            name: "A".into(),
        },
        at: T,
        exp: T.plus(60),
    })
}

// shows: T-INS-OPERATOR
#[test]
fn what_is_approved_is_said_in_words_that_differ() {
    let d = D.to_string();
    let appoint = |office| Measure::Appoint {
        officer: id("b"),
        name: "B".into(),
        identity: D,
        office,
        account: PersonId::parse("officer.b1").unwrap(),
        secret: D,
    };
    let both = Office {
        roles: vec![Role::SystemAdministrator, Role::SystemOperator],
        both: true,
        ..office(Role::SystemAdministrator)
    };
    let whom = read(key(KeyAction::Suspend));
    let whom = whom.strip_prefix("stop the key k1 of ").unwrap().to_owned();
    assert!(whom.contains("髙橋 花子"), "{whom}");
    let expected = [
        (
            appoint(office(Role::SecurityOfficer)),
            "appoint B as security officer".to_owned(),
        ),
        (
            appoint(office(Role::SystemAuditor)),
            "appoint B as system auditor".to_owned(),
        ),
        (
            appoint(both),
            "appoint B as system administrator and system operator".to_owned(),
        ),
        (
            Measure::Office {
                officer: id("b"),
                office: office(Role::SystemOperator),
            },
            format!("{whom} is system operator from here on"),
        ),
        (
            Measure::Dismiss { officer: id("b") },
            format!("remove {whom} from office"),
        ),
        (
            key(KeyAction::Resume),
            format!("let go on the key k1 of {whom}"),
        ),
        (
            key(KeyAction::Destroy),
            format!("destroy the key k1 of {whom}"),
        ),
        (
            client(vec![]),
            "register application app as アプリ".to_owned(),
        ),
        (
            Measure::Settings {
                part: Part::Policy,
                digest: D,
            },
            format!("admit policy settings {d}"),
        ),
        (
            Measure::Settings {
                part: Part::Audit,
                digest: D,
            },
            format!("admit audit settings {d}"),
        ),
        (
            Measure::Module { enabled: true },
            "enable the cryptographic module".to_owned(),
        ),
        (
            Measure::Module { enabled: false },
            "disable the cryptographic module".to_owned(),
        ),
        (
            delete(256),
            format!("delete the 256 oldest entries from the log of Cm, which archive {d} has"),
        ),
        (
            Measure::ForgetPerson { subject: D },
            format!("forget in all zones who the person of commitment {d} is"),
        ),
    ];
    for (measure, text) in expected {
        assert_eq!(read(measure), text);
    }
}

#[test]
fn what_others_carry_out_is_taken_by_them() {
    for measure in [delete(256), Measure::ForgetPerson { subject: D }] {
        assert!(takes(&measure).taken, "{measure:?}");
        assert_eq!(takes(&measure).persons, 2);
    }
    let factors = Measure::Factors {
        person: PersonId::parse("p").unwrap(),
        registration: VoucherId::parse("v").unwrap(),
        secret: D,
    };
    for measure in [
        key(KeyAction::Destroy),
        Measure::Module { enabled: true },
        factors,
    ] {
        assert!(!takes(&measure).taken, "{measure:?}");
        assert_eq!(takes(&measure).persons, 2);
    }
    assert_eq!(takes(&key(KeyAction::Suspend)).persons, 1);
}

#[test]
fn proposals_are_measured() {
    let good = serde_json::to_value(SigningKey::generate().unwrap().0.public()).unwrap();
    let keys = |n: usize| check_measure(&client(vec![good.clone(); n]), T);
    for n in [0, 1, 8] {
        assert_eq!(keys(n), Ok(()), "{n}");
    }
    assert_eq!(keys(9), Err(Reason::Invalid("keys")));
    let mixed = client(vec![good.clone(), serde_json::json!({ "kty": "oct" })]);
    assert_eq!(check_measure(&mixed, T), Err(Reason::Invalid("keys")));
    for size in [256, 512, 25_600] {
        assert_eq!(check_measure(&delete(size), T), Ok(()));
    }
    for size in [0, 1, 255, 257] {
        assert_eq!(
            check_measure(&delete(size), T),
            Err(Reason::Invalid("size"))
        );
    }
    for (ttl, good) in [
        (59, false),
        (60, true),
        (MAX_PROPOSAL, true),
        (MAX_PROPOSAL + 1, false),
    ] {
        assert_eq!(check_asking("because", ttl).is_ok(), good, "{ttl}");
    }
    assert!(check_asking("", 60).is_err());
}

#[test]
fn a_training_lies_behind_and_lasts() {
    let with = |at: i64, until: i64| Office {
        training: Some(Training {
            at: T.plus(at),
            until: T.plus(until),
        }),
        ..office(Role::SystemOperator)
    };
    for (at, until) in [(0, 1), (-10, 100), (-10, -9)] {
        assert!(check_office(&with(at, until), T).is_ok(), "{at} {until}");
    }
    for (at, until) in [(1, 100), (0, 0), (-10, -10), (-10, -11)] {
        let refused = check_office(&with(at, until), T).unwrap_err();
        assert_eq!(refused, Reason::Invalid("training"), "{at} {until}");
    }
}

#[test]
fn a_reminder_presses_in_the_last_week() {
    let left = |seconds: i64| {
        let officer = Officer {
            id: id("b"),
            name: "B".into(),
            identity: D,
            office: Office {
                until: T.plus(seconds),
                ..office(Role::SystemOperator)
            },
            named_by: vec![],
            by: D,
            since: UnixTime(0),
            ended: None,
        };
        officer.reminder(T).map(|r| r.urgency)
    };
    let week = 7 * 86_400;
    assert_eq!(left(DUE + 1), None);
    assert_eq!(left(DUE), Some(Urgency::Soon));
    assert_eq!(left(week + 1), Some(Urgency::Soon));
    assert_eq!(left(week), Some(Urgency::Pressing));
    assert_eq!(left(1), Some(Urgency::Pressing));
    assert_eq!(left(0), Some(Urgency::Over));
}

#[test]
fn administrator_and_operator_are_one_person_only_where_it_says_so() {
    let of = |roles: &[Role], both| Roles::of(roles, both).unwrap();
    let administrator = Role::SystemAdministrator;
    assert!(of(&[administrator, Role::SystemOperator], true).both());
    assert!(!of(&[administrator], false).both());
}

// shows: I-7.1.2.4-privileged-session-limit
#[test]
fn a_session_bears_seconds_of_another_nodes_clock_and_no_more() {
    let limits = Limits::new(600, 12 * 3600).unwrap();
    assert_eq!(limits.idle(), 600);
    let session = Session::begin(PersonId::parse("officer.a").unwrap(), id("a"), limits, T);
    for (at, good) in [
        (0, Ok(())),
        (-5, Err(Reason::NotNow)),
        (-6, Err(Reason::NotNow)),
    ] {
        assert_eq!(session.check(limits, T.plus(at)), good, "{at}");
    }
    // Of a shorter one the clocks may differ a little.
    let limits = Limits::new(600, 3600).unwrap();
    let short = Session::begin(PersonId::parse("officer.a").unwrap(), id("a"), limits, T);
    for (at, good) in [(-5, Ok(())), (-6, Err(Reason::NotNow))] {
        assert_eq!(short.check(limits, T.plus(at)), good, "{at}");
    }
    // However it was called meanwhile, it lasts no longer than any may.
    let odd = Session {
        seen: T.plus(1),
        until: T.plus(12 * 3600 + 2),
        ..short
    };
    assert_eq!(odd.check(limits, T.plus(1)), Err(Reason::NotNow));
    assert_eq!(odd.check(limits, T.plus(2)), Ok(()));
}
