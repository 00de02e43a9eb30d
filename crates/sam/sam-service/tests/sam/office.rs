//! Officers: who may hold and do what, and what takes two persons (`sap.md` §9; §14, 54).

use core_types::{Clock as _, Digest32, KeyAlg, PersonId, VoucherId, sha256};
use sap::act_digest;
use sap::messages::{EnrolOpen, EnrolOpenRequest, SapRefusalCode};
use sap::office::calls::*;
use sap::office::{Measure, Office, Role, Zone};
use store_kit::{StoreError, sql, transaction};

use crate::kit::*;
use crate::office_kit::*;

// shows: I-7.1.1.4-not-all-roles-one-person, I-7.1.1.4-not-two-roles-one-person
// shows: I-7.1.1.6-officer-not-auditor, I-7.1.1.7-admin-operator-not-auditor-officer, T-INS-AUDITOR, T-USE-CRED-ALTER
#[tokio::test(flavor = "multi_thread")]
async fn no_way_of_assigning_gives_a_person_roles_that_exclude_each_other() {
    for world in worlds().await {
        let now = world.clock.now();
        let two = "I-7.1.1.4-not-two-roles-one-person";
        let never = "I-7.1.1.7-admin-operator-not-auditor-officer";
        use Role::{SecurityOfficer, SystemAdministrator, SystemAuditor, SystemOperator};
        for (roles, why) in [
            (
                vec![SecurityOfficer, SystemAuditor],
                "I-7.1.1.6-officer-not-auditor",
            ),
            (vec![SystemAdministrator, SystemAuditor], never),
            (vec![SystemAdministrator, SecurityOfficer], never),
            (vec![SystemOperator, SystemAuditor], never),
            (vec![SystemOperator, SecurityOfficer], never),
            (Role::ALL.to_vec(), "I-7.1.1.4-not-all-roles-one-person"),
            (vec![SystemAdministrator, SystemOperator], two),
        ] {
            // By appointment, and by change.
            let (measure, _) = appointment("x", &roles, now);
            assert_eq!(rule(world.decide(measure).await.unwrap_err()), why);
            let measure = Measure::Office {
                officer: officer("c"),
                office: Office {
                    both: why != two,
                    ..office_of(&roles, now)
                },
            };
            assert_eq!(rule(world.decide(measure).await.unwrap_err()), why);
        }
        // As a second person: the same human is one officer, whatever the name.
        world.appoint("o", SystemOperator).await;
        for (human, why) in [("a", "about-oneself"), ("o", "officer")] {
            let (mut measure, _) = appointment("y", &[SystemAuditor], now);
            if let Measure::Appoint { identity, .. } = &mut measure {
                *identity = sha256(&[b"staff", human.as_bytes()]);
            }
            assert_eq!(rule(world.decide(measure).await.unwrap_err()), why);
        }
        // Nor if whoever writes to the store hides the first from what is looked for; and somebody is told.
        run(
            &world,
            "UPDATE office_person SET link = 'somebody' WHERE id = 'o'",
        )
        .await;
        let (mut measure, _) = appointment("y", &[SystemAuditor], now);
        if let Measure::Appoint { identity, .. } = &mut measure {
            *identity = sha256(&[b"staff", b"o"]);
        }
        let refused = world.decide(measure).await.unwrap_err();
        assert_eq!(rule(refused), "officer");
        let found = world.sam.scrub().await.unwrap().misfiled;
        assert_eq!(found, [("office_person", "o".to_owned())]);
        assert_eq!(world.audited("alarm", "sealed-row-misfiled").await, 1);
        // Past the code: the store admits no other word, also for whoever writes to it by hand.
        for word in [
            "security-officer,system-auditor",
            "system-operator-and-auditor",
            "",
        ] {
            let store = &world.store.store;
            let done: Result<u64, StoreError> = transaction!(store, "attack", |tx| {
                let update = sql("UPDATE office_person SET state = $1 WHERE id = $2");
                tx.execute(update.bind(word).bind("a")).await
            });
            assert!(done.is_err(), "{word:?}");
        }
        // Declared, the one pair that is left.
        let (mut measure, _) = appointment("z", &[SystemAdministrator, SystemOperator], now);
        if let Measure::Appoint { office, .. } = &mut measure {
            office.both = true;
        }
        world.decide(measure).await.unwrap();
        assert_eq!(
            world
                .audited("officer.appointed", "administrator-and-operator")
                .await,
            1
        );
    }
}

// shows: I-7.1.1.5-privileged-unprivileged-separate, T-INS-OPERATOR,
// I-7.1.1.3-unprivileged-roles-min-set
#[tokio::test(flavor = "multi_thread")]
async fn an_officers_account_is_no_signers_and_the_reverse() {
    for world in worlds().await {
        drop(world.officers().await);
        // A signer can't be invited under an officer's id.
        let invitation = world.invitation("officer.a", &[KeyAlg::P256]);
        let (invite, _, _) = world.ra.invite(invitation).unwrap();
        let request = sam_api::ssa::VoucherRequest::Ra {
            invite,
            return_uri: RETURN.into(),
        };
        assert!(world.sam.voucher(SSA, request).await.is_err());
        // Nor an officer under a signer's.
        let (mut measure, _) = appointment("x", &[Role::SystemOperator], world.clock.now());
        if let Measure::Appoint { account, .. } = &mut measure {
            *account = PersonId::parse("p").unwrap();
        }
        assert_eq!(rule(world.decide(measure).await.unwrap_err()), "account");
        // An officer's invitation isn't opened where signers enrol, nor a signer's where officers do.
        let (measure, _) = appointment("y", &[Role::SystemOperator], world.clock.now());
        let done = world.decide(measure).await.unwrap();
        let voucher = VoucherId::parse(done.proposal.to_string()).unwrap();
        let request = EnrolOpenRequest { voucher };
        let refused = world.sam.enrol_open(request.clone()).await.unwrap_err();
        assert_eq!(refused.code, SapRefusalCode::NotFound);
        assert!(world.office::<EnrolOpen>(&request).await.is_ok());
        let (voucher, _) = world.invite(world.invitation("p", &[KeyAlg::P256])).await;
        let refused = world
            .office::<EnrolOpen>(&EnrolOpenRequest { voucher })
            .await;
        assert_eq!(refused.unwrap_err().code, SapRefusalCode::NotFound);
        // The store holds them apart too.
        for update in [
            "UPDATE signing_key SET owner = 'officer.a' WHERE owner = $1",
            "UPDATE person SET id = 'officer.a' WHERE id = $1",
        ] {
            world.enrol("q", false, &[KeyAlg::P256]).await;
            let store = &world.store.store;
            let done: Result<u64, StoreError> = transaction!(store, "attack", |tx| {
                tx.execute(sql(update).bind("q")).await
            });
            assert!(done.is_err(), "{update}");
        }
    }
}

// shows: II-3.3.1-privileged-data-protected, II-3.3.1-privileged-data-changes, T-INS-OPERATOR
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_was_changed_in_the_store_is_not_honoured() {
    for world in worlds().await {
        let mut operator = world.appoint("o", Role::SystemOperator).await;
        let store = &world.store.store;
        // The plain word is for the constraint; what counts is sealed.
        let done: Result<u64, StoreError> = transaction!(store, "attack", |tx| {
            tx.execute(sql(
                "UPDATE office_person SET state = 'security-officer' WHERE id = 'o'",
            ))
            .await
        });
        assert_eq!(done.unwrap(), 1);
        let logged = world.log_in(&mut operator).await.unwrap();
        assert_eq!(logged.office.roles, vec![Role::SystemOperator]);
        // Another person's record in their place, or an edited one, opens no more.
        let done: Result<u64, StoreError> = transaction!(store, "attack", |tx| {
            let swap = "UPDATE office_person SET sealed = (SELECT sealed FROM office_person WHERE id = 'a') WHERE id = 'o'";
            tx.execute(sql(swap)).await
        });
        assert_eq!(done.unwrap(), 1);
        assert!(world.log_in(&mut operator).await.is_err());
        assert!(world.audited("alarm", "sealed-row-tampered").await >= 1);
        // Nothing of a passkey or token can be read.
        let mut tx = store.read("look").await.unwrap();
        let rows = tx
            .fetch_all(sql("SELECT id, sealed FROM office_session"))
            .await
            .unwrap();
        for row in rows {
            let text = String::from_utf8_lossy(&row.blob("sealed").unwrap()).into_owned();
            assert!(!text.contains("officer."));
        }
    }
}

// shows: II-3.1.2-privileged-authenticated-first, II-3.3.2-privileged-authenticated-per-operation, T-REG-MGMT-PRIV-SPOOF
#[tokio::test(flavor = "multi_thread")]
async fn nobody_acts_as_an_officer_without_an_own_proof_to_the_sam() {
    for world in worlds().await {
        let mut founders = world.officers().await;
        let [a, b, _] = founders.devices.as_mut_slice() else {
            panic!("three")
        };
        // Other zones' certificates, also of the SSA and of the signers' gateway.
        let open = LogInOpenRequest {
            account: a.account.clone(),
        };
        for peer in [SSA, GATEWAY, "stranger.test"] {
            let refused = world
                .sam
                .office::<LogInOpen>(peer, &open)
                .await
                .unwrap_err();
            assert_eq!(refused.code, SapRefusalCode::NotFound, "{peer}");
        }
        // Every call without a session, and with one that isn't.
        let forged = core_types::SecretBytes::from("x".repeat(43));
        let session = SessionRequest {
            session: forged.clone(),
        };
        let about = ProposalRequest {
            session: forged.clone(),
            proposal: Digest32([1; 32]),
        };
        let propose = ProposeRequest {
            session: forged,
            measure: dismiss("c"),
            reason: "r".into(),
            ttl: 600,
        };
        let refused = [
            world.office::<Proposals>(&session).await.err(),
            world.office::<People>(&session).await.err(),
            world.office::<State>(&session).await.err(),
            world.office::<LogOut>(&session).await.err(),
            world.office::<Propose>(&propose).await.err(),
            world.office::<ProposalOpen>(&about).await.err(),
            world.office::<ProposalEnd>(&about).await.err(),
            world.office::<ProposalTake>(&about).await.err(),
            world.office::<EvidenceOfProposal>(&about).await.err(),
        ];
        for refusal in refused {
            assert_eq!(refusal.unwrap().code, SapRefusalCode::NotFound);
        }
        // A session approves nothing: each approval is a proof of its own, and for this officer's act only.
        let proposal = world.propose(a, dismiss("c")).await.unwrap().proposal;
        let act = world.approval_act(b, proposal).await.unwrap();
        let digest = act_digest(&act.act);
        let other = a.passkey.prove(digest).unwrap();
        let request = |proof| ProofRequest {
            proof,
            switch: None,
        };
        let refused = world.office::<ProposalApprove>(&request(other)).await;
        assert_eq!(refused.unwrap_err().code, SapRefusalCode::Refused);
        // The proof of a log-in is none of an approval, nor the reverse.
        let log_in = LogInOpenRequest {
            account: b.account.clone(),
        };
        let log_in = act_digest(&world.office::<LogInOpen>(&log_in).await.unwrap().act);
        let proof = b.passkey.prove(log_in).unwrap();
        assert!(
            world
                .office::<ProposalApprove>(&request(proof))
                .await
                .is_err()
        );
        let proof = b.passkey.prove(digest).unwrap();
        assert!(
            world
                .office::<LogIn>(&request(proof.clone()))
                .await
                .is_err()
        );
        // Where signers approve, it is nothing either.
        let signers = sap::messages::ApproveRequest { proof, new: None };
        assert!(world.sam.approve(signers).await.is_err());
        // Made at the signers' origin.
        b.passkey.behaviour.origin = ORIGIN.into();
        let proof = b.passkey.prove(digest).unwrap();
        let refused = world.office::<ProposalApprove>(&request(proof)).await;
        assert_eq!(refused.unwrap_err().code, SapRefusalCode::Refused);
        b.passkey.behaviour.origin = OFFICE.into();
        let proof = b.passkey.prove(digest).unwrap();
        let info = world
            .office::<ProposalApprove>(&request(proof))
            .await
            .unwrap();
        assert_eq!((info.state, info.approvals.len()), (ProposalState::Open, 1));
    }
}

// shows: I-7.1.2.4-privileged-session-limit, I-7.1.2.2-reauthenticate-after-logout
#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_idle_in_time_and_at_once_with_logout_or_office() {
    for world in worlds().await {
        let mut operator = world.appoint("o", Role::SystemOperator).await;
        let sees = async |token: &core_types::SecretBytes| {
            let request = SessionRequest {
                session: token.clone(),
            };
            world.office::<State>(&request).await.map(drop)
        };
        let token = world.log_in(&mut operator).await.unwrap().session;
        world.clock.advance(IDLE - 1);
        assert!(sees(&token).await.is_ok());
        world.clock.advance(IDLE);
        assert_eq!(
            sees(&token).await.unwrap_err().code,
            SapRefusalCode::Expired
        );

        let token = world.log_in(&mut operator).await.unwrap().session;
        for _ in 0..SESSION / (IDLE - 1) {
            world.clock.advance(IDLE - 1);
            sees(&token).await.unwrap();
        }
        world.clock.advance(IDLE - 1);
        assert_eq!(
            sees(&token).await.unwrap_err().code,
            SapRefusalCode::Expired
        );

        let token = world.log_in(&mut operator).await.unwrap().session;
        let request = SessionRequest {
            session: token.clone(),
        };
        world.office::<LogOut>(&request).await.unwrap();
        assert_eq!(
            sees(&token).await.unwrap_err().code,
            SapRefusalCode::Expired
        );

        // What is consequential wants a session that has just begun.
        let token = world.log_in(&mut operator).await.unwrap().session;
        world.clock.advance(301);
        let request = ProposeRequest {
            session: token.clone(),
            measure: Measure::DeleteArchived {
                zone: Zone::Cm,
                archive: Digest32([1; 32]),
                size: 256,
            },
            reason: "disk nearly full".into(),
            ttl: 600,
        };
        let refused = world.office::<Propose>(&request).await.unwrap_err();
        assert_eq!(refused.code, SapRefusalCode::ProofNeeded);
        // Out of office, out of the session.
        world.decide(dismiss("o")).await.unwrap();
        assert!(sees(&token).await.is_err());
        assert!(world.log_in(&mut operator).await.is_err());
    }
}

// shows: T-INS-OPERATOR, T-INS-AUDITOR
#[tokio::test(flavor = "multi_thread")]
async fn an_approval_is_of_another_person_once_for_these_bytes_in_time() {
    for world in worlds().await {
        let now = world.clock.now();
        let mut auditor = world.appoint("u", Role::SystemAuditor).await;
        // One person under two accounts.
        let key = secret();
        let second = Measure::Account {
            officer: officer("b"),
            account: PersonId::parse("officer.b2").unwrap(),
            secret: sha256(&[key.expose()]),
        };
        let mut founders = world.officers().await;
        let [a, b, _] = founders.devices.as_mut_slice() else {
            panic!("three")
        };
        let made = world.propose(a, second).await.unwrap();
        // About oneself.
        let own = world.approval_act(b, made.proposal).await.unwrap_err();
        assert_eq!(rule(own), "about-oneself");
        drop(founders);
        let (measure, d_secret) = appointment("d", &[Role::SecurityOfficer], now);
        let done = world.decide(measure).await.unwrap();
        let voucher = VoucherId::parse(done.proposal.to_string()).unwrap();
        let mut d = world.enrol_officer(&voucher, &d_secret).await.unwrap();
        let mut founders = world.officers().await;
        let [a, b, c] = founders.devices.as_mut_slice() else {
            panic!("three")
        };
        world.confirm(&mut d, c).await;
        // Of b's last proof there is a second between.
        world.clock.advance(1);
        world.approve_proposal(c, made.proposal).await.unwrap();
        let done = world.approve_proposal(&mut d, made.proposal).await.unwrap();
        assert_eq!(done.state, ProposalState::Waiting);
        world.clock.advance(72 * 3600);
        world.sam.maintain().await.unwrap();
        let voucher = VoucherId::parse(made.proposal.to_string()).unwrap();
        let mut b2 = world.enrol_officer(&voucher, &key).await.unwrap();
        b2.officer = officer("b");
        world.confirm(&mut b2, c).await;

        let (measure, _) = appointment("x", &[Role::SystemOperator], now);
        let asked = world.propose(a, measure).await.unwrap();
        let proposal = asked.proposal;
        assert!(!asked.yours);
        let refused = world.approval_act(a, proposal).await.unwrap_err();
        assert_eq!(rule(refused), "requester-approves");
        let refused = world
            .approval_act(&mut auditor, proposal)
            .await
            .unwrap_err();
        assert_eq!(rule(refused), "role");
        let once = world.approve_proposal(b, proposal).await.unwrap();
        assert_eq!((once.state, once.approvals.len()), (ProposalState::Open, 1));
        let refused = world.approval_act(&mut b2, proposal).await.unwrap_err();
        assert_eq!(rule(refused), "approved-before", "one person, two accounts");

        // Both acts opened before either approved: the second account's proof comes too late.
        let (measure, _) = appointment("y", &[Role::SystemOperator], now);
        let other = world.propose(a, measure).await.unwrap().proposal;
        let first = act_digest(&world.approval_act(b, other).await.unwrap().act);
        let second = act_digest(&world.approval_act(&mut b2, other).await.unwrap().act);
        let approve = async |device: &mut Device, act| {
            let request = ProofRequest {
                proof: device.passkey.prove(act).unwrap(),
                switch: None,
            };
            world.office::<ProposalApprove>(&request).await
        };
        approve(b, first).await.unwrap();
        assert_eq!(
            rule(approve(&mut b2, second).await.unwrap_err()),
            "approved-before"
        );
        // Replayed.
        assert_eq!(
            approve(b, first).await.unwrap_err().code,
            SapRefusalCode::Used
        );
        // For other bytes: a proof of one proposal is none of another.
        let act = act_digest(&world.approval_act(c, other).await.unwrap().act);
        let mut moved = c.passkey.prove(act).unwrap();
        let target = act_digest(&world.approval_act(c, proposal).await.unwrap().act);
        if let sap::Proof::Passkey { act, .. } = &mut moved {
            *act = target;
        }
        let request = ProofRequest {
            proof: moved,
            switch: None,
        };
        let refused = world.office::<ProposalApprove>(&request).await.unwrap_err();
        assert_eq!(refused.code, SapRefusalCode::Refused);
        // Superseded by a later opening, and after the end.
        let late = act_digest(&world.approval_act(c, proposal).await.unwrap().act);
        assert!(approve(c, target).await.is_err());
        let proof = c.passkey.prove(late).unwrap();
        world.clock.advance(300);
        let request = ProofRequest {
            proof,
            switch: None,
        };
        let refused = world.office::<ProposalApprove>(&request).await.unwrap_err();
        assert_eq!(refused.code, SapRefusalCode::Expired);
        world.clock.advance(3600);
        let refused = world.approval_act(c, proposal).await.unwrap_err();
        assert_eq!(refused.code, SapRefusalCode::Expired);
        assert_eq!(world.audited("officer.appointed", "\"x\"").await, 0);
        assert!(world.audited("office.refused", "requester-approves").await >= 1);
    }
}
