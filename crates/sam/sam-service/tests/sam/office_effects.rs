//! What approvals of officers bring about: once, for the signer to see, and not without a record (`sap.md` §9; §14, 54).

use core_types::{Clock as _, Digest32, KeyAlg, KeyId};
use sap::act_digest;
use sap::messages::SapRefusalCode;
use sap::office::calls::*;
use sap::office::{KeyAction, Measure, Role, Zone};

use crate::kit::*;
use crate::office_kit::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_approved_who_was_removed_counts_no_more_and_two_officers_stay() {
    for world in worlds().await {
        let now = world.clock.now();
        let mut d = world.appoint("d", Role::SecurityOfficer).await;
        let mut founders = world.officers().await;
        let [a, b, c] = founders.devices.as_mut_slice() else {
            panic!("three")
        };
        // d approves, and is removed before the second approval.
        let (measure, _) = appointment("x", &[Role::SystemOperator], now);
        let proposal = world.propose(a, measure).await.unwrap().proposal;
        world.approve_proposal(&mut d, proposal).await.unwrap();
        let out = world.propose(a, dismiss("d")).await.unwrap().proposal;
        world.approve_proposal(b, out).await.unwrap();
        world.approve_proposal(c, out).await.unwrap();
        let info = world.approve_proposal(b, proposal).await.unwrap();
        assert_eq!((info.state, info.approvals.len()), (ProposalState::Open, 1));
        let info = world.approve_proposal(c, proposal).await.unwrap();
        assert_eq!(info.state, ProposalState::Done);
        // Three are left: an administrator asks to remove one of them, then another.
        drop(founders);
        let mut admin = world.appoint("m", Role::SystemAdministrator).await;
        let mut founders = world.officers().await;
        let [a, b, _] = founders.devices.as_mut_slice() else {
            panic!("three")
        };
        let out = world
            .propose(&mut admin, dismiss("c"))
            .await
            .unwrap()
            .proposal;
        world.approve_proposal(a, out).await.unwrap();
        world.approve_proposal(b, out).await.unwrap();
        let out = world
            .propose(&mut admin, dismiss("b"))
            .await
            .unwrap()
            .proposal;
        world.approve_proposal(a, out).await.unwrap();
        assert!(world.approval_act(b, out).await.is_err(), "about oneself");
        // Nor do they leave by a change of role.
        let measure = Measure::Office {
            officer: officer("b"),
            office: office_of(&[Role::SystemOperator], now),
        };
        let change = world.propose(&mut admin, measure).await.unwrap().proposal;
        world.approve_proposal(a, change).await.unwrap();
        let session = world.log_in(a).await.unwrap().session;
        let people = world
            .office::<People>(&SessionRequest { session })
            .await
            .unwrap();
        assert_eq!(people.usable, 2);
        assert!(people.officers.iter().any(|o| o.ended.is_some()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_approvals_at_once_on_two_nodes_bring_it_about_once() {
    for world in worlds().await {
        let now = world.clock.now();
        let node = world.node("sam-2").await;
        let (measure, _) = appointment("x", &[Role::SystemOperator], now);
        let mut founders = world.officers().await;
        let [a, b, c] = founders.devices.as_mut_slice() else {
            panic!("three")
        };
        let proposal = world.propose(a, measure).await.unwrap().proposal;
        let mut requests = Vec::new();
        for device in [b, c] {
            let act = act_digest(&world.approval_act(device, proposal).await.unwrap().act);
            let proof = device.passkey.prove(act).unwrap();
            requests.push(ProofRequest {
                proof,
                switch: None,
            });
        }
        let calls = (0..20).map(|n| {
            let sam = if n % 2 == 0 { &world.sam } else { &node };
            sam.office::<ProposalApprove>(OFFICE_GATEWAY, &requests[n / 2 % 2])
        });
        let done = futures_util::future::join_all(calls).await;
        assert_eq!(done.iter().filter(|d| d.is_ok()).count(), 2);
        assert_eq!(world.audited("officer.appointed", "\"x\"").await, 1);
        assert_eq!(world.audited("proposal.approved", "").await, 2);
    }
}

// shows: II-3.1.2-changes-under-control, I-4.2.2c-termination-causes
#[tokio::test(flavor = "multi_thread")]
async fn the_provider_stops_and_destroys_a_key_by_two_officers_and_the_signer_is_told() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let node = world.node("sam-2").await;
        let token = world.approved(&mut signer, &[hash(1)]).await;
        let key = signer.keys[0].key.clone();
        let measure = |action| Measure::Key {
            key: key.clone(),
            action,
        };
        let mut auditor = world.appoint("u", Role::SystemAuditor).await;
        let refused = world
            .propose(&mut auditor, measure(KeyAction::Suspend))
            .await;
        assert_eq!(rule(refused.unwrap_err()), "role");
        let done = world.decide(measure(KeyAction::Suspend)).await.unwrap();
        assert_eq!((done.state, done.approvals.len()), (ProposalState::Done, 1));
        // At once, on every node: the token that was good signs nothing.
        let request = world.sign_request(&signer, &token, &[hash(1)]);
        assert!(node.sign(SSA, request).await.is_err());
        let stopped = world.key(&signer).await;
        assert_eq!(
            stopped.stop.unwrap().cause,
            sam_api::ssa::StopCause::Provider
        );
        let told = world.history(&signer).await;
        assert_eq!(told[0].cause, Some(sam_api::ssa::StopCause::Provider));
        assert_eq!((told[0].act, told[0].proposal), (None, Some(done.proposal)));
        // Not the signer's to lift.
        let wish = sam_api::ssa::Wish::Resume { key: key.clone() };
        assert!(world.ask(&signer, wish).await.is_err());
        world.decide(measure(KeyAction::Resume)).await.unwrap();
        // Its state has changed since it was proposed: void.
        let mut founders = world.officers().await;
        let [a, b, c] = founders.devices.as_mut_slice() else {
            panic!("three")
        };
        let stale = world
            .propose(a, measure(KeyAction::Destroy))
            .await
            .unwrap()
            .proposal;
        world.approve_proposal(b, stale).await.unwrap();
        let changes = world.key(&signer).await.changes;
        world.stop(&signer, changes).await.unwrap();
        let refused = world.approve_proposal(c, stale).await.unwrap_err();
        assert_eq!(refused.code, SapRefusalCode::Withdrawn);
        drop(founders);
        let done = world.decide(measure(KeyAction::Destroy)).await.unwrap();
        assert_eq!(done.approvals.len(), 2);
        world.sam.maintain().await.unwrap();
        let gone = world.key(&signer).await;
        assert_eq!(gone.state, sam_api::ssa::KeyState::Destroyed);
        let told = gone.stop.unwrap().certificate.unwrap();
        let roots = [world.sam.root().clone()];
        let told = sam_keys::Destruction::verify(&told, &roots).unwrap();
        assert_eq!(told.cause, core_types::DestroyCause::Officers);
        assert_eq!(told.act, done.proposal);
        assert_eq!(world.audited("key.ended", "provider").await, 1);
        let unknown = Measure::Key {
            key: KeyId::parse("nobody").unwrap(),
            action: KeyAction::Suspend,
        };
        assert!(world.decide(unknown).await.is_err());
    }
}

// shows: I-7.1.1.2-system-operator
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_is_approved_for_the_operator_who_takes_it_once_with_the_evidence() {
    for world in worlds().await {
        let mut operator = world.appoint("o", Role::SystemOperator).await;
        let mut auditor = world.appoint("u", Role::SystemAuditor).await;
        let mut founders = world.officers().await;
        let [a, b, _] = founders.devices.as_mut_slice() else {
            panic!("three")
        };
        let delete = Measure::DeleteArchived {
            zone: Zone::Sam,
            archive: Digest32([4; 32]),
            size: 256,
        };
        let refused = world.propose(&mut auditor, delete.clone()).await;
        assert_eq!(rule(refused.unwrap_err()), "role");
        let asked = world.propose(&mut operator, delete).await.unwrap();
        let take = async |device: &mut Device| {
            let request = ProposalRequest {
                session: world.log_in(device).await?.session,
                proposal: asked.proposal,
            };
            world.office::<ProposalTake>(&request).await
        };
        assert!(take(&mut operator).await.is_err());
        world.approve_proposal(a, asked.proposal).await.unwrap();
        let done = world.approve_proposal(b, asked.proposal).await.unwrap();
        assert_eq!(done.state, ProposalState::Approved);
        assert!(take(a).await.is_err());
        let taken = take(&mut operator).await.unwrap();
        assert_eq!(taken.document, asked.document);
        assert_eq!(taken.approvals.len(), 2);
        assert_eq!(
            take(&mut operator).await.unwrap_err().code,
            SapRefusalCode::Used
        );
        assert_eq!(world.audited("proposal.taken", "").await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_recorded_appoints_nobody_and_lets_nobody_in() {
    for world in worlds().await {
        let (measure, _) = appointment("x", &[Role::SystemOperator], world.clock.now());
        let mut founders = world.officers().await;
        let [a, b, c] = founders.devices.as_mut_slice() else {
            panic!("three")
        };
        let proposal = world.propose(a, measure).await.unwrap().proposal;
        world.approve_proposal(b, proposal).await.unwrap();
        let act = act_digest(&world.approval_act(c, proposal).await.unwrap().act);
        let log_in = LogInOpenRequest {
            account: a.account.clone(),
        };
        let log_in = act_digest(&world.office::<LogInOpen>(&log_in).await.unwrap().act);
        run(&world, "ALTER TABLE audit_entry RENAME TO audit_gone").await;
        let request = |proof| ProofRequest {
            proof,
            switch: None,
        };
        let refused = world
            .office::<ProposalApprove>(&request(c.passkey.prove(act).unwrap()))
            .await;
        assert_eq!(refused.unwrap_err().code, SapRefusalCode::NotNow);
        let refused = world
            .office::<LogIn>(&request(a.passkey.prove(log_in).unwrap()))
            .await;
        assert_eq!(refused.unwrap_err().code, SapRefusalCode::NotNow);
        run(&world, "ALTER TABLE audit_gone RENAME TO audit_entry").await;
        let info = world.approve_proposal(c, proposal).await.unwrap();
        assert_eq!(info.state, ProposalState::Done);
        assert_eq!(world.audited("officer.appointed", "\"x\"").await, 1);
    }
}
