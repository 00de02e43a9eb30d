//! Deletion of archived entries from the SAM's log: by officers, over their own calls; comparison and receipts go on.

use std::path::Path;
use std::sync::Arc;

use audit_archive::{Archive, NotDeleted, Order, delete};
use audit_log::{Deleted, Event, LogKey, Sequencer, export};
use core_types::random::SystemRandom;
use core_types::{Clock as _, Digest32, KeyAlg, SecretBytes};
use jose::SigningKey;
use sam_core::Policy;
use sam_service::{LogSummary, SamConfig, StartError};
use sap::office::calls::{ProposalRequest, ProposalTake, TakenProposal};
use sap::office::{Measure, Role, Zone};
use store_kit::{StoreError, transaction};

use crate::kit::*;
use crate::office_kit::Device;
use crate::stores::run;

/// Seconds of a day.
const DAY: i64 = 86_400;

async fn sequencer(world: &World) -> Sequencer {
    let key = LogKey::from_seed("sam.test/log", &SecretBytes::new(vec![5; 32])).unwrap();
    let opened = Sequencer::open(world.sam.audit().clone(), key, None, &world.store);
    opened.await.unwrap()
}

/// What time brings to a log.
async fn filled(world: &World) {
    let events = vec![
        Event::ClockState {
            state: "unsynchronised".into()
        };
        300
    ];
    let now = world.clock.now();
    let done: Result<_, StoreError> = transaction!(world.store.store, "fill", |tx| {
        world.sam.audit().append_all(tx, &events, now).await
    });
    done.unwrap();
}

/// An archive of the log as it is.
async fn archived(world: &World, sequencer: &Sequencer, dir: &Path, key: &SigningKey) -> Archive {
    let (from, to) = (dir.join("export"), dir.join("archive"));
    let public = sequencer.public();
    let entries = export(&world.store, &from.join("sam"), &public).await;
    let entries = [("sam".to_owned(), entries.unwrap())].into();
    Archive::write(&from, &to, entries, key, world.clock.now()).unwrap();
    Archive::open(&to, key.public()).unwrap()
}

/// Two officers approve it; answers with what the operator takes it.
async fn approved(world: &World, operator: &mut Device, measure: Measure) -> ProposalRequest {
    let asked = world.propose(operator, measure).await.unwrap();
    let mut founders = world.officers().await;
    for device in founders.devices.iter_mut().take(2) {
        world
            .approve_proposal(device, asked.proposal)
            .await
            .unwrap();
    }
    ProposalRequest {
        session: world.log_in(operator).await.unwrap().session,
        proposal: asked.proposal,
    }
}

/// Two officers approve it, and the operator takes it.
async fn taken(world: &World, operator: &mut Device, measure: Measure) -> TakenProposal {
    let request = approved(world, operator, measure).await;
    world.office::<ProposalTake>(&request).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_handed_out_now_is_not_spent() {
    for world in worlds().await {
        let mut operator = world.appoint("o", Role::SystemOperator).await;
        let measure = Measure::DeleteArchived {
            zone: Zone::Ssa,
            archive: Digest32([3; 32]),
            size: 256,
        };
        let request = approved(&world, &mut operator, measure).await;
        let told = async || world.audited("proposal.taken", "").await;
        run(&world, "CREATE TABLE kept AS SELECT * FROM evidence").await;
        run(&world, "DELETE FROM evidence").await;
        let refused = world.office::<ProposalTake>(&request).await;
        assert!(refused.is_err(), "nothing proves the approvals");
        assert_eq!(told().await, 0);
        run(&world, "INSERT INTO evidence SELECT * FROM kept").await;
        let taken = world.office::<ProposalTake>(&request).await.unwrap();
        assert_eq!((taken.approvals.len(), told().await), (2, 1));
        assert!(world.office::<ProposalTake>(&request).await.is_err());
        assert_eq!(told().await, 1, "once");
    }
}

// shows: I-7.1.4.3-delete-after-archive, III-A1.4.2-dual-control, T-USE-CRED-ALTER
#[tokio::test(flavor = "multi_thread")]
async fn officers_let_archived_entries_go_and_every_row_is_still_known() {
    for world in worlds().await {
        let sequencer = sequencer(&world).await;
        let mut operator = world.appoint("o", Role::SystemOperator).await;
        let stopped = world.enrol("stopped", false, &[KeyAlg::P256]).await;
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let changes = world.key(&stopped).await.changes;
        run(&world, "CREATE TABLE then_key AS SELECT * FROM signing_key").await;
        world.stop(&stopped, changes).await.unwrap();
        filled(&world).await;
        let now = world.clock.now();
        let size = sequencer.sequence(&world.store, now).await.unwrap().size / 256 * 256;
        world.clock.advance(60 * DAY);

        let dir = tempfile::tempdir().unwrap();
        let (key, _) = SigningKey::generate().unwrap();
        let archive = archived(&world, &sequencer, dir.path(), &key).await;
        let measure = |size| Measure::DeleteArchived {
            zone: Zone::Sam,
            archive: archive.name(),
            size,
        };
        let odd = world.propose(&mut operator, measure(size - 1)).await;
        assert!(odd.is_err(), "not whole tiles");
        let mut approved = taken(&world, &mut operator, measure(size)).await;
        let root = serde_json::to_string(world.sam.root()).unwrap();
        let try_it = async |approved: &TakenProposal| -> Result<Deleted, NotDeleted> {
            let now = world.clock.now();
            let order = Order {
                zone: "sam",
                archive: &dir.path().join("archive"),
                archive_key: key.public(),
                taken: &serde_json::to_vec(approved).unwrap(),
                root: &root,
                keep_days: 31,
            };
            let mut noted = LogSummary::new(now);
            delete(order, &sequencer, &world.store, &mut noted, now).await
        };
        // One approval doesn't do, whoever brings it.
        let second = approved.approvals.pop().unwrap();
        assert!(matches!(
            try_it(&approved).await,
            Err(NotDeleted::Approval(_))
        ));
        approved.approvals.push(second);
        let done = try_it(&approved).await.unwrap();
        assert_eq!((done.from, done.size), (0, size));
        assert!(done.kept > 0);

        // Rows and log agree, for who runs and for who starts; a receipt leads back to an enrolment of before the cut.
        let found = world.sam.scrub().await.unwrap();
        assert_eq!(found.rows, found.rows.max(1));
        assert!(
            found.set_back.is_empty() && found.strange.is_empty(),
            "{found:?}"
        );
        assert!(
            found.missing.is_empty() && found.tampered.is_empty(),
            "{found:?}"
        );
        world.node("sam-2").await;
        assert_eq!(world.audited("alarm", "sealed-row").await, 0);
        // And the version of a policy names the one that an entry named which is gone.
        assert_eq!(world.audited("settings.policy-in-force", "").await, 0);
        let lax = SamConfig {
            node: "sam-4".into(),
            policy: Policy {
                pin_totp_at_level_2: true,
                ..world.config.policy.clone()
            },
            ..world.config.clone()
        };
        let lax = world.node_drawing(lax, Arc::new(SystemRandom)).await.err();
        assert!(
            matches!(lax, Some(StartError::PolicyNotRaised { version: 1, .. })),
            "{lax:?}"
        );
        let rid = world.prepare(&signer, &[hash(1)]).await;
        let act = world.open(rid).await;
        let proof = signer.passkey.prove(act).unwrap();
        world.approve(proof).await.unwrap();
        world.bind(rid, "token").await.unwrap();
        world.sign(&signer, "token", &[hash(1)]).await.unwrap();
        assert_eq!(world.shown(&signer, act).await.chain.len(), 1);

        // A row that is older than what was noted of entries that are gone.
        run(
            &world,
            "UPDATE signing_key SET sealed = (SELECT k.sealed FROM then_key k WHERE k.id = signing_key.id), \
             version = (SELECT k.version FROM then_key k WHERE k.id = signing_key.id) \
             WHERE id IN (SELECT id FROM then_key WHERE version <> signing_key.version)",
        )
        .await;
        let node = world.node("sam-3").await;
        assert_eq!(world.audited("alarm", "sealed-row-set-back").await, 1);
        let found = node.scrub().await.unwrap();
        assert_eq!(found.set_back.len(), 1, "{found:?}");
        // And one that is gone altogether.
        run(&world, "DELETE FROM person WHERE id = 'stopped'").await;
        let found = node.scrub().await.unwrap();
        assert_eq!(found.missing, [("person", "stopped".to_owned())]);
    }
}
