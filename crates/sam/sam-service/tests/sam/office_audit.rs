//! The audit log and the state of the SAM for officers: auditors read the log, nobody else, and each reading is an entry.

use audit_log::{Event, LogKey, Sequencer};
use core_types::{Clock as _, PeerId, SecretBytes};
use sap::office::Role;
use sap::office::calls::{
    Audit, AuditRequest, Beside, BesideRequest, Looked, SessionRequest, State,
};

use store_kit::{StoreError, sql, transaction};

use crate::kit::*;

fn about(session: &SecretBytes, kind: &str) -> AuditRequest {
    AuditRequest {
        session: session.clone(),
        from: None,
        until: None,
        kinds: vec![kind.to_owned()],
        person: None,
        key: None,
        outcome: None,
        after: None,
    }
}

// shows: I-7.1.4.6-deny-by-default
#[tokio::test(flavor = "multi_thread")]
async fn only_an_auditor_reads_the_log_and_each_reading_is_an_entry() {
    for world in worlds().await {
        let mut auditor = world.appoint("auditor", Role::SystemAuditor).await;
        let mut others = vec![
            world.appoint("admin", Role::SystemAdministrator).await,
            world.appoint("operator", Role::SystemOperator).await,
        ];
        others.push(world.officers().await.devices.remove(0));
        let store = &world.store.store;
        let key = LogKey::from_seed("log.test/sam", &SecretBytes::new(vec![2; 32])).unwrap();
        let opened = Sequencer::open(world.sam.audit().clone(), key, None, store).await;
        let sequencer = opened.unwrap();
        sequencer.sequence(store, world.clock.now()).await.unwrap();

        for other in &mut others {
            let session = world.log_in(other).await.unwrap().session;
            let refused = world.office::<Audit>(&about(&session, "officer.")).await;
            assert_eq!(refused.unwrap_err().rule.as_deref(), Some("role"));
        }
        assert_eq!(world.audited("audit.read", "search").await, 0);
        assert_eq!(world.audited("office.refused", "\"audit\"").await, 3);

        let session = world.log_in(&mut auditor).await.unwrap().session;
        let found = world
            .office::<Audit>(&about(&session, "officer.appointed"))
            .await
            .unwrap();
        assert_eq!((found.entries.len(), found.next), (6, None));
        let found = world
            .office::<Audit>(&about(&session, "officer.invited"))
            .await
            .unwrap();
        let named = found.entries.iter().filter_map(|e| e.person.clone());
        assert!(named.into_iter().any(|p| p == auditor.account.as_str()));
        assert_eq!(
            world.audited("audit.read", auditor.account.as_str()).await,
            2
        );

        let bad = AuditRequest {
            outcome: Some("x".to_owned()),
            ..about(&session, "officer.")
        };
        assert!(world.office::<Audit>(&bad).await.is_err());
        let bad = AuditRequest {
            after: Some("x".to_owned()),
            ..about(&session, "officer.")
        };
        assert!(world.office::<Audit>(&bad).await.is_err());
        assert!(
            world
                .office::<Audit>(&about(&session, "none"))
                .await
                .is_err()
        );

        let state = world
            .office::<State>(&SessionRequest { session })
            .await
            .unwrap();
        assert!(
            state.log.entries > 10 && state.log.new > 0,
            "{:?}",
            state.log
        );
        assert_eq!(state.log.checkpoint, Some(world.clock.now()));
        assert_eq!(state.nodes.len(), 1);
    }
}

/// What the page shows of the log is a reading too: each entry is recorded once for a session, and isn't shown unless it is.
// shows: I-7.1.4.1-log-all-access-attempts
#[tokio::test(flavor = "multi_thread")]
async fn alerts_on_the_page_are_readings_that_are_recorded_once_for_a_session() {
    for world in worlds().await {
        let mut operator = world.appoint("operator", Role::SystemOperator).await;
        let store = &world.store.store;
        let key = LogKey::from_seed("log.test/sam", &SecretBytes::new(vec![2; 32])).unwrap();
        let opened = Sequencer::open(world.sam.audit().clone(), key, None, store).await;
        let sequencer = opened.unwrap();
        let alarm = async || {
            let now = world.clock.now();
            let written: Result<(), StoreError> = transaction!(store, "test", |tx| {
                let what = "backup-late".into();
                let event = Event::Alarm { what };
                world.sam.audit().append(tx, event, now).await.map(drop)
            });
            written.unwrap();
            sequencer.sequence(store, now).await.unwrap();
        };
        let look = async |session: &SecretBytes| {
            let session = session.clone();
            let state = world.office::<State>(&SessionRequest { session }).await;
            state.map(|state| state.alerts.len())
        };
        let recorded = async || world.audited("audit.read", "\"alerts\"").await;
        let [first, second, third] = [
            world.log_in(&mut operator).await.unwrap().session,
            world.log_in(&mut operator).await.unwrap().session,
            world.log_in(&mut operator).await.unwrap().session,
        ];
        sequencer.sequence(store, world.clock.now()).await.unwrap();
        let before = look(&first).await.unwrap();
        let nothing = recorded().await;
        assert_eq!(nothing, usize::from(before > 0));
        alarm().await;
        for _ in 0..3 {
            assert_eq!(look(&first).await.unwrap(), before + 1);
        }
        assert_eq!(recorded().await, nothing + 1);
        alarm().await;
        for _ in 0..2 {
            assert_eq!(look(&first).await.unwrap(), before + 2);
        }
        assert_eq!(recorded().await, nothing + 2);
        assert_eq!(look(&second).await.unwrap(), before + 2);
        assert_eq!(recorded().await, nothing + 3);
        let account = operator.account.as_str();
        assert_eq!(world.audited("audit.read", account).await, nothing + 3);
        // The chain takes nothing more: whoever has seen these entries sees them, nobody else.
        let broken: Result<(), StoreError> = transaction!(store, "broken", |tx| {
            tx.execute(sql("UPDATE audit_head SET n = 1")).await?;
            Ok(())
        });
        broken.unwrap();
        assert!(look(&first).await.is_ok());
        assert!(look(&third).await.is_err());
    }
}

/// Who may look at what other zones show: auditors at their logs, others at applications, everybody at how they are; each look is an
/// entry first.
// shows: I-7.1.4.6-deny-by-default
#[tokio::test(flavor = "multi_thread")]
async fn looking_at_other_zones_goes_by_role_and_is_recorded() {
    for world in worlds().await {
        let mut all = vec![
            (
                Role::SystemAuditor,
                world.appoint("auditor", Role::SystemAuditor).await,
            ),
            (
                Role::SystemAdministrator,
                world.appoint("admin", Role::SystemAdministrator).await,
            ),
            (
                Role::SystemOperator,
                world.appoint("operator", Role::SystemOperator).await,
            ),
        ];
        all.push((
            Role::SecurityOfficer,
            world.officers().await.devices.remove(0),
        ));
        let mut looked = 0;
        for (role, device) in &mut all {
            let session = world.log_in(device).await.unwrap().session;
            for what in [Looked::Clients, Looked::Log, Looked::State] {
                let request = BesideRequest {
                    session: session.clone(),
                    zone: PeerId::parse("shop").unwrap(),
                    what,
                    search: "{}".to_owned(),
                };
                let may = match what {
                    Looked::Clients => *role != Role::SystemAuditor,
                    Looked::Log => *role == Role::SystemAuditor,
                    Looked::State => true,
                };
                let answer = world.office::<Beside>(&request).await;
                assert_eq!(answer.is_ok(), may, "{role:?} {what:?}");
                looked += usize::from(may);
            }
        }
        assert_eq!(
            world.audited("officer.looked", "\"zone\":\"shop\"").await,
            looked
        );
        assert_eq!(
            world.audited("office.refused", "\"beside\"").await,
            12 - looked
        );
        // What can't be recorded isn't allowed.
        let session = world.log_in(&mut all[0].1).await.unwrap().session;
        let gone: Result<(), StoreError> = transaction!(world.store.store, "gone", |tx| {
            tx.execute(sql("ALTER TABLE audit_entry RENAME TO audit_gone"))
                .await?;
            Ok(())
        });
        gone.unwrap();
        let request = BesideRequest {
            session,
            zone: PeerId::parse("shop").unwrap(),
            what: Looked::Log,
            search: String::new(),
        };
        assert!(world.office::<Beside>(&request).await.is_err());
    }
}
