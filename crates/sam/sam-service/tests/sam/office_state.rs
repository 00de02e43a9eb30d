//! What the state of the SAM shows to whom.

use core_types::{Clock as _, Digest32, KeyAlg, UnixTime};
use sam_core::backups::{BackupReport, BackupRule};
use sam_service::{BackupWatch, SamConfig};
use sap::office::calls::{People, SessionRequest, State};
use sap::office::{Measure, Office, Role, Training};
use store_kit::{StoreError, sql, transaction};

use crate::kit::*;
use crate::office_kit::*;

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_end_soon_are_shown_to_whoever_has_to_do_with_keys_and_to_nobody_else() {
    for world in worlds().await {
        let signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let mut security = world.appoint("s", Role::SecurityOfficer).await;
        let mut operator = world.appoint("o", Role::SystemOperator).await;
        let mut admin = world.appoint("a2", Role::SystemAdministrator).await;
        let mut auditor = world.appoint("u", Role::SystemAuditor).await;
        let state = async |device: &mut Device| {
            let session = world.log_in(device).await.unwrap().session;
            world
                .office::<State>(&SessionRequest { session })
                .await
                .unwrap()
        };
        for device in [&mut security, &mut operator] {
            let seen = state(device).await;
            assert!(seen.ending.is_empty() && !seen.keys.is_empty());
            // Counted when all rows were compared with the log: at the start there was no key.
            assert!(seen.levels.unwrap().keys.is_empty());
        }
        world.sam.scrub().await.unwrap();
        let seen = state(&mut operator).await;
        assert!(seen.declared.is_empty(), "a module in software has nothing");
        let levels = seen.levels.unwrap();
        assert_eq!(levels.keys, [(signer.keys[0].level.level, 1)]);
        assert_eq!(levels.at, world.clock.now());
        // As if it were a fortnight before the end: appointments would have ended long before.
        let done: Result<(), StoreError> = transaction!(world.store.store, "nearer", |tx| {
            let soon = world.clock.now().plus(14 * 24 * 3600);
            tx.execute(sql("UPDATE signing_key SET stamp = $1").bind(soon.0))
                .await?;
            Ok(())
        });
        done.unwrap();
        for device in [&mut security, &mut operator] {
            let seen = state(device).await;
            assert_eq!(seen.ending.len(), 1);
            assert_eq!(seen.ending[0].key, signer.keys[0].key);
            let told = seen.ending[0].assurance.as_ref().unwrap();
            assert_eq!(told.level, signer.keys[0].level);
        }
        for device in [&mut admin, &mut auditor] {
            let seen = state(device).await;
            assert!(seen.ending.is_empty() && seen.keys.is_empty() && seen.levels.is_none());
        }
        // Nobody renews appointments but whoever sees people.
        assert_eq!(state(&mut admin).await.due, 0);
        assert_eq!(state(&mut operator).await.clock_bound_ms, None);
    }
}

/// What programs report of backups is shown, and an alarm tells once that it has become late. A report that isn't one is none.
#[tokio::test(flavor = "multi_thread")]
async fn backups_that_are_late_or_were_never_tried_are_alarms_and_on_the_page() {
    for world in worlds().await {
        let reports = tempfile::tempdir().unwrap();
        let node = world
            .node_with(SamConfig {
                node: "sam-backups".into(),
                backups: Some(BackupWatch {
                    reports: reports.path().to_owned(),
                    rule: BackupRule {
                        made_hours: 26,
                        verified_days: 35,
                    },
                }),
                ..world.config.clone()
            })
            .await;
        let report = |name: &str, made: UnixTime| {
            let report = BackupReport {
                backup: Digest32([1; 32]),
                made,
                at: world.clock.now(),
            };
            std::fs::write(reports.path().join(name), report.text()).unwrap();
        };
        let mut operator = world.appoint("o", Role::SystemOperator).await;
        let session = world.log_in(&mut operator).await.unwrap().session;
        let state = async || {
            let request = SessionRequest {
                session: session.clone(),
            };
            node.state(request).await.unwrap().backups.unwrap()
        };
        let told = async |what: &str| world.audited("alarm", what).await;
        // Never is late.
        for _ in 0..2 {
            node.maintain().await.unwrap();
        }
        assert_eq!(
            (told("backup-late").await, told("backup-not-tried").await),
            (1, 1)
        );
        let seen = state().await;
        assert!(seen.made_late && seen.tried_late && seen.made.is_none());
        // Made now; what was tried is an old one.
        let now = world.clock.now();
        report("made.json", now);
        report("verified.json", now.plus(-36 * 24 * 3600));
        node.maintain().await.unwrap();
        let seen = state().await;
        assert_eq!((seen.made, seen.made_late), (Some(now), false));
        assert_eq!((seen.tried, seen.tried_late), (Some(now), true));
        report("verified.json", now);
        node.maintain().await.unwrap();
        assert!(!state().await.tried_late);
        assert_eq!(
            (told("backup-late").await, told("backup-not-tried").await),
            (1, 1)
        );
        // Somebody's job fails from now on, or writes something else.
        std::fs::write(reports.path().join("made.json"), "[]").unwrap();
        node.maintain().await.unwrap();
        assert_eq!(
            (told("backup-late").await, told("backup-not-tried").await),
            (2, 1)
        );
        // Who watches nothing says so.
        let request = SessionRequest { session };
        assert_eq!(world.office::<State>(&request).await.unwrap().backups, None);
    }
}

/// Whoever's appointment ends is in the log a month before, a week before and when it has ended, once each time.
// shows: I-7.1.1.8-appointed-and-trained
#[tokio::test(flavor = "multi_thread")]
async fn ends_of_appointments_are_in_the_log_before_they_come() {
    for world in worlds().await {
        let start = world.clock.now();
        world.appoint("o", Role::SystemOperator).await;
        let until = start.plus(YEAR);
        let told = async || world.audited("officer.due", "\"officer\":\"o\"").await;
        let day = 24 * 3600;
        for (left, expected) in [
            (31 * day, 0),
            (30 * day, 1),
            (8 * day, 1),
            (7 * day, 2),
            (0, 3),
            (-day, 3),
        ] {
            let now = world.clock.now();
            world.clock.advance(until.0 - left - now.0);
            for _ in 0..2 {
                world.sam.maintain().await.unwrap();
            }
            assert_eq!(told().await, expected, "{left}");
        }
    }
}

/// Who is in office without a training is in the log, once, and is due on the page, until two officers record one.
// shows: I-7.1.1.8-appointed-and-trained
#[tokio::test(flavor = "multi_thread")]
async fn a_training_that_nobody_recorded_is_in_the_log_and_on_the_page() {
    for world in worlds().await {
        let mut security = world.appoint("s", Role::SecurityOfficer).await;
        world.appoint("o", Role::SystemOperator).await;
        let told = async || {
            for _ in 0..2 {
                world.sam.maintain().await.unwrap();
            }
            world
                .audited("officer.untrained", "\"officer\":\"o\"")
                .await
        };
        let mut due = async || {
            let session = world.log_in(&mut security).await.unwrap().session;
            let request = SessionRequest { session };
            let people = world.office::<People>(&request).await.unwrap().officers;
            people
                .iter()
                .any(|one| one.officer == officer("o") && one.due)
        };
        assert_eq!((told().await, due().await), (1, true));
        let office = |training| Measure::Office {
            officer: officer("o"),
            office: Office {
                training,
                ..office_of(&[Role::SystemOperator], world.clock.now())
            },
        };
        let at = world.clock.now();
        let until = at.plus(YEAR);
        let trained = Training { at, until };
        world.decide(office(Some(trained))).await.unwrap();
        assert_eq!((told().await, due().await), (1, false));
        // An office that says nothing of it takes it away.
        world.decide(office(None)).await.unwrap();
        assert_eq!((told().await, due().await), (2, true));
    }
}
