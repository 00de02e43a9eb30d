use core_types::sha256;
use serde_json::{Value, json};

use super::acts::{ACT_LIFE, MOST_ACTS};
use super::*;

fn entry(at: i64, kind: &str, detail: Value) -> Entry {
    let text = json!({
        "v": 1, "zone": "sam", "node": "a", "n": 1, "at": at, "subject": "service:sam",
        "outcome": "failure", "class": "access", "kind": kind, "detail": detail,
    });
    Entry::parse(u64::try_from(at).unwrap(), &text.to_string(), None).unwrap()
}

fn rules(entries: &[(i64, &str, Value)]) -> Vec<String> {
    let seen = watched(entries).into_iter();
    seen.map(|alert| format!("{}@{}", alert.rule, alert.at.0))
        .collect()
}

/// The alerts of a log that is read twice to its end.
fn watched(entries: &[(i64, &str, Value)]) -> Vec<Alert> {
    let mut watch = Watch::new(Limits::default());
    let seen = entries
        .iter()
        .flat_map(|(at, kind, detail)| watch.see(&entry(*at, kind, detail.clone())));
    let mut seen: Vec<Alert> = seen.collect();
    for _ in 0..2 {
        seen.extend(watch.settle(SAM));
    }
    seen
}

#[test]
fn what_is_bad_by_itself_is_told_at_once() {
    for (kind, detail, rule) in [
        ("signature.wrong", json!({"key": "k"}), "wrong-value@5"),
        ("alarm", json!({"what": "sealed-row-tampered"}), "alarm@5"),
        ("alarm", json!({"what": "clock-beyond-bound"}), "clock@5"),
        ("clock.state", json!({"state": "stepped"}), "clock@5"),
        ("alarm", json!({"what": "backup-late"}), "alarm@5"),
        (
            "clock.source",
            json!({"source": "b", "state": "false"}),
            "clock@5",
        ),
        (
            "officer.due",
            json!({"officer": "o", "until": 9}),
            "officer-due@5",
        ),
        (
            "officer.untrained",
            json!({"officer": "o"}),
            "officer-due@5",
        ),
        (
            "officer.passkey-ordered",
            json!({"account": "officer.o", "officer": "o", "until": 9}),
            "officer-passkey@5",
        ),
        (
            "audit.witness-away",
            json!({"witness": "w"}),
            "witness-away@5",
        ),
        (
            "audit.read-refused",
            json!({"reader": "r"}),
            "reading-refused@5",
        ),
        (
            "settings.refused",
            json!({"reason": "unsigned"}),
            "settings-refused@5",
        ),
        (
            "sad.refused",
            json!({"client": "c", "reason": "used"}),
            "spent-approval@5",
        ),
    ] {
        assert_eq!(rules(&[(5, kind, detail)]), [rule], "{kind}");
    }
    let quiet = [
        (5, "clock.state", json!({"state": "synchronised"})),
        (5, "clock.source", json!({"source": "b", "state": "silent"})),
        (
            5,
            "sad.refused",
            json!({"client": "c", "reason": "expired"}),
        ),
        (5, "login.succeeded", json!({"person": "p"})),
        (5, "no.such-event", json!({})),
    ];
    assert!(rules(&quiet).is_empty());
}

// shows: I-7.1.4.7-alert-other-anomalies
#[test]
fn waves_are_counted_within_their_window() {
    let lock = |at| {
        (
            at,
            "factor.locked",
            json!({"person": "p", "factor": "f", "until": 9}),
        )
    };
    let slow: Vec<_> = (0..50).map(|n| lock(n * 200)).collect();
    assert!(rules(&slow).is_empty());
    let fast: Vec<_> = (0..9).map(|n| lock(n * 10)).collect();
    assert_eq!(rules(&fast), ["lockout-wave@40"]);
    let failed = |at| (at, "signature.failed", json!({"reason": "device"}));
    let many: Vec<_> = (0..5).map(failed).collect();
    assert_eq!(rules(&many), ["module-trouble@4"]);
}

#[test]
fn a_start_without_an_end_before_it_is_a_crash() {
    let (start, stop) = ("service.started", "service.stopped");
    let none = json!({});
    let orderly = [
        (1, start, none.clone()),
        (2, stop, none.clone()),
        (3, start, none.clone()),
    ];
    assert!(rules(&orderly).is_empty());
    assert_eq!(
        rules(&[(1, start, none.clone()), (3, start, none)]),
        ["crashed@3"]
    );
}

// shows: I-7.1.4.7-user-activity-examples
#[test]
fn approvals_at_machine_speed_are_told_and_those_of_several_people_are_not() {
    let approve = |at: i64, who: &str| {
        (
            at,
            "act.approved",
            json!({"act": format!("a{at}"), "person": who}),
        )
    };
    let robot: Vec<_> = (0..12).map(|n| approve(n, "p")).collect();
    assert_eq!(rules(&robot), ["machine-speed@11"]);
    let people: Vec<_> = (0..12)
        .map(|n| approve(n, &format!("p{}", n % 3)))
        .collect();
    assert!(rules(&people).is_empty());
}

// shows: I-7.1.4.7-user-activity-examples
#[test]
fn every_step_of_a_signature_has_to_be_there() {
    let step = |at, kind: &'static str| (at, kind, json!({"act": "a", "person": "p"}));
    let (minted, approved) = (step(1, "act.minted"), step(2, "act.approved"));
    let (consumed, made) = (step(3, "sad.consumed"), step(4, "signature.made"));
    let all = [
        minted.clone(),
        approved.clone(),
        consumed.clone(),
        made.clone(),
    ];
    assert!(rules(&all).is_empty());
    assert_eq!(
        rules(&[minted.clone(), consumed.clone(), made.clone()]),
        ["skipped-step@3", "skipped-step@4"]
    );
    assert_eq!(rules(&[minted, approved, made.clone()]), ["skipped-step@4"]);
    // Of acts from before the watch began nothing is known, until that can't be.
    assert!(rules(std::slice::from_ref(&made)).is_empty());
    let later = step(ACT_LIFE + 5, "signature.made");
    assert_eq!(
        rules(&[made, later]),
        [format!("skipped-step@{}", ACT_LIFE + 5)]
    );
}

// shows: I-7.1.4.7-user-activity-examples
#[test]
fn sessions_of_officers_that_double_or_last_are_told() {
    let session = sha256(&[b"s"]).to_string();
    let who = json!({"account": "officer.a", "officer": "a", "session": session});
    let at = |at, kind: &'static str| (at, kind, who.clone());
    assert_eq!(
        rules(&[at(0, "officer.logged-in"), at(10, "officer.logged-in")]),
        ["double-session@10"]
    );
    assert!(
        rules(&[
            at(0, "officer.logged-in"),
            at(5, "officer.logged-out"),
            at(10, "officer.logged-in")
        ])
        .is_empty()
    );
    // What nobody used for so long has ended by itself; what was just used has not.
    assert!(rules(&[at(0, "officer.logged-in"), at(700, "officer.logged-in")]).is_empty());
    assert_eq!(
        rules(&[
            at(0, "officer.logged-in"),
            at(500, "officer.looked"),
            at(700, "officer.logged-in")
        ]),
        ["double-session@700"]
    );
    for deed in ["proposal.made", "officer.looked"] {
        assert!(rules(&[at(0, "officer.logged-in"), at(7_200, deed)]).is_empty());
        assert_eq!(
            rules(&[at(0, "officer.logged-in"), at(7_201, deed)]),
            ["long-session@7201"]
        );
    }
}

// shows: I-7.1.4.7-user-activity-examples
#[test]
fn a_session_that_ends_takes_no_other_with_it() {
    let at = |at, kind: &'static str, session: &str| {
        let session = sha256(&[session.as_bytes()]).to_string();
        let who = json!({"account": "officer.a", "officer": "a", "session": session});
        (at, kind, who)
    };
    // One that is taken up in place of another is followed like any.
    let anew = |between: Vec<_>| {
        let mut entries = vec![at(0, "officer.logged-in", "a")];
        entries.extend(between);
        entries.push(at(7_211, "proposal.made", "b"));
        rules(&entries)
    };
    let (begun, ended) = (
        at(10, "officer.logged-in", "b"),
        at(10, "officer.logged-out", "a"),
    );
    assert_eq!(
        anew(vec![begun.clone(), ended.clone()]),
        ["double-session@10", "long-session@7211"]
    );
    assert_eq!(
        anew(vec![ended.clone(), begun.clone()]),
        ["long-session@7211"]
    );
    assert!(rules(&[at(0, "officer.logged-in", "a"), ended, begun]).is_empty());
    // Nor does one that has no name.
    let nameless = json!({"account": "officer.a", "officer": "a", "session": ""});
    assert_eq!(
        rules(&[
            (0, "officer.logged-in", nameless.clone()),
            (5, "officer.logged-out", nameless.clone()),
            (10, "officer.logged-in", nameless)
        ]),
        ["double-session@10"]
    );
}

#[test]
fn certificates_are_told_of_before_they_end() {
    let (limits, now) = (Limits::default(), UnixTime(1_800_000_000));
    let day = 24 * 3600;
    assert_eq!(ending("x.pem", now.plus(31 * day), limits, now), None);
    let soon = ending("x.pem", now.plus(20 * day), limits, now).unwrap();
    assert_eq!(
        (soon.severity, soon.about.as_str()),
        (Severity::Warning, "x.pem")
    );
    assert_eq!(
        ending("x.pem", now.plus(day), limits, now)
            .unwrap()
            .severity,
        Severity::Critical
    );
    assert!(ending("x.pem", now.plus(-day), limits, now).is_some());
}

/// What each alert says can be stopped.
fn targets(entries: &[(i64, &str, Value)]) -> Vec<(String, Vec<String>)> {
    let seen = watched(entries).into_iter();
    let named = |alert: Alert| (alert.rule, alert.targets.iter().map(Target::name).collect());
    seen.map(named).collect()
}

#[test]
fn an_alert_names_what_can_be_stopped_and_nobody_else() {
    let (one, two) = (sha256(&[b"1"]).to_string(), sha256(&[b"2"]).to_string());
    let logged_in =
        |session: &str| json!({"account": "officer.a", "officer": "a", "session": session});
    assert_eq!(
        targets(&[
            (0, "officer.logged-in", logged_in(&one)),
            (10, "officer.logged-in", logged_in(&two))
        ]),
        [("double-session".to_owned(), vec![one.clone(), two])]
    );
    assert_eq!(
        targets(&[
            (0, "officer.logged-in", logged_in(&one)),
            (15_000, "proposal.made", logged_in(""))
        ]),
        [("long-session".to_owned(), vec![one])]
    );
    let mut robot = Vec::new();
    for n in 0..12 {
        let act = format!("a{n}");
        robot.push((
            n,
            "act.minted",
            json!({"act": act, "person": "p", "key": "key-1"}),
        ));
        robot.push((n, "act.approved", json!({"act": act, "person": "p"})));
    }
    assert_eq!(
        targets(&robot),
        [("machine-speed".to_owned(), vec!["key-1".to_owned()])]
    );
    // Who is attacked isn't stopped for it.
    let lock = |n| {
        (
            n,
            "factor.locked",
            json!({"person": "p", "factor": "f", "until": 9, "key": "k"}),
        )
    };
    let wave: Vec<_> = (0..5).map(lock).collect();
    assert_eq!(targets(&wave), [("lockout-wave".to_owned(), vec![])]);
}

#[test]
fn officers_at_machine_speed_are_told() {
    let made = |n| {
        (
            n,
            "proposal.made",
            json!({"account": "officer.a", "what": "key"}),
        )
    };
    let robot: Vec<_> = (0..12).map(made).collect();
    assert_eq!(rules(&robot), ["machine-speed@11"]);
    let person: Vec<_> = (0..12).map(|n| made(n * 30)).collect();
    assert!(rules(&person).is_empty());
}

/// At 8 in the morning in Japan the day begins; nights are days for whoever works then.
// shows: I-7.1.4.7-user-activity-examples, I-7.1.4.7-alert-other-anomalies
#[test]
fn what_officers_do_beyond_usual_hours_is_told_if_there_are_such_hours() {
    let at = |hours: i64| 1_800_000_000 - 1_800_000_000 % 86_400 + hours * 3600;
    let told = |usual: Option<[i64; 2]>, kind: &str, hour_in_japan: i64| {
        let mut watch = Watch::new(Limits {
            usual_hours: usual,
            ..Limits::default()
        });
        let who = json!({"account": "officer.a", "officer": "a"});
        let seen = watch.see(&entry(at(hour_in_japan - 9), kind, who));
        let unusual = seen.iter().find(|alert| alert.rule == "unusual-hours");
        unusual.map(|alert| alert.about.clone())
    };
    let day = Some([8, 20]);
    for (usual, hour, expected) in [
        (day, 7, true),
        (day, 8, false),
        (day, 19, false),
        (day, 20, true),
        (day, 3, true),
        (Some([22, 6]), 23, false),
        (Some([22, 6]), 5, false),
        (Some([22, 6]), 6, true),
        (None, 3, false),
    ] {
        for kind in ["officer.logged-in", "proposal.approved", "client.changed"] {
            let about = told(usual, kind, hour);
            assert_eq!(about.is_some(), expected, "{kind} {usual:?} {hour}");
            assert_eq!(about.as_deref(), expected.then_some("officer.a"));
        }
        // Signers sign when they like.
        assert_eq!(told(usual, "act.approved", hour), None);
    }
}

/// Nodes' entries get their places in batches: `b` approved before `a` used it, and stands behind it.
#[test]
fn a_step_that_stands_before_the_one_it_rests_on_is_waited_for() {
    let step = |at, kind: &str| entry(at, kind, json!({"act": "a", "person": "p", "key": "k"}));
    let mut watch = Watch::new(Limits::default());
    assert!(watch.see(&step(1, "act.minted")).is_empty());
    assert!(watch.see(&step(2, "sad.consumed")).is_empty());
    assert!(watch.see(&step(2, "signature.made")).is_empty());
    assert!(watch.settle(SAM).is_empty(), "read to its end once");
    assert!(watch.see(&step(2, "act.approved")).is_empty());
    assert!(watch.settle(SAM).is_empty() && watch.settle(SAM).is_empty());
    // Another zone's end is no end of this one.
    let mut watch = Watch::new(Limits::default());
    watch.see(&step(1, "act.minted"));
    watch.see(&step(2, "sad.consumed"));
    for _ in 0..3 {
        assert!(watch.settle("cm").is_empty());
    }
    assert!(watch.settle(SAM).is_empty());
    let skipped = watch.settle(SAM);
    assert_eq!(skipped.len(), 1);
    assert_eq!(skipped[0].rule, "skipped-step");
}

#[test]
fn more_acts_than_can_be_remembered_are_told_of_and_nobody_is_blamed() {
    let act = |at, kind: &str, n: usize| {
        let detail = json!({"act": format!("a{n}"), "person": format!("p{n}"), "key": "k", "sign_until": 100});
        entry(at, kind, detail)
    };
    let mut watch = Watch::new(Limits::default());
    // Long enough ago that an act that isn't known is one without an approval.
    watch.see(&act(0, "alarm", 0));
    let begun = ACT_LIFE + 10;
    let mut told = Vec::new();
    for n in 0..MOST_ACTS + 10 {
        told.extend(watch.see(&act(begun, "act.minted", n)));
    }
    let rules = told
        .iter()
        .map(|alert| (alert.rule.as_str(), alert.about.as_str()));
    assert_eq!(rules.collect::<Vec<_>>(), [("alarm", "acts-not-followed")]);
    let mut spend = |n: usize| {
        for kind in ["act.approved", "sad.consumed", "signature.made"] {
            watch.see(&act(begun + 1, kind, n));
        }
        [watch.settle(SAM), watch.settle(SAM)].concat().len()
    };
    assert_eq!((spend(0), spend(MOST_ACTS + 1)), (0, 0));
}

#[test]
fn acts_are_forgotten_when_their_rights_end_so_that_a_busy_day_has_room() {
    let mut watch = Watch::new(Limits::default());
    let hour = 3600;
    for n in 0..MOST_ACTS as i64 * 2 {
        let at = n * 24 * hour / (MOST_ACTS as i64 * 2);
        let detail =
            json!({"act": format!("a{n}"), "person": format!("p{n}"), "sign_until": at + 300});
        for kind in [
            "act.minted",
            "act.approved",
            "sad.consumed",
            "signature.made",
        ] {
            let told = watch.see(&entry(at, kind, detail.clone()));
            assert!(told.is_empty(), "{told:?}");
        }
    }
    assert!(watch.settle(SAM).is_empty() && watch.settle(SAM).is_empty());
}

#[test]
fn an_application_is_named_when_spent_approvals_of_many_persons_come_from_it() {
    let spent = |at: i64, who: String| {
        (
            at,
            "sad.refused",
            json!({"client": "app", "reason": "used", "person": who}),
        )
    };
    let named = |entries: &[(i64, &str, Value)]| {
        let alerts = targets(entries);
        assert_eq!(alerts.len(), entries.len(), "each is told");
        alerts
            .into_iter()
            .flat_map(|(_, named)| named)
            .collect::<Vec<_>>()
    };
    let own: Vec<_> = (0..100).map(|n| spent(n, "p".to_owned())).collect();
    assert!(named(&own).is_empty(), "one signer can stop no application");
    let slow: Vec<_> = (0..30).map(|n| spent(n * 100, format!("p{n}"))).collect();
    assert!(named(&slow).is_empty());
    let many: Vec<_> = (0..10).map(|n| spent(n, format!("p{n}"))).collect();
    assert_eq!(named(&many), ["app"]);
}

#[test]
fn another_zone_does_not_speak_as_the_sam() {
    let mut watch = Watch::new(Limits::default());
    for (kind, detail) in [
        ("signature.wrong", json!({"key": "k"})),
        ("sad.consumed", json!({"act": "a", "key": "k"})),
        (
            "officer.logged-in",
            json!({"account": "officer.a", "session": "s"}),
        ),
    ] {
        let mut entry = entry(ACT_LIFE * 2, kind, detail);
        entry.zone = "ssa".to_owned();
        let told = watch.see(&entry);
        let told: Vec<_> = told
            .iter()
            .map(|a| (a.about.as_str(), a.targets.len()))
            .collect();
        assert_eq!(told, [("entry-of-another-zone", 0)], "{kind}");
    }
    assert!(watch.settle(SAM).is_empty() && watch.settle(SAM).is_empty());
}
