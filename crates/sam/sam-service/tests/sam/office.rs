//! Officers: how an installation begins, who may hold and do what, and what takes two persons (`sap.md` §9; §14, 54, 55).

use core_types::random::SystemRandom;
use core_types::{
    Clock as _, Digest32, KeyAlg, KeyId, OfficerId, PersonId, UnixTime, VoucherId, sha256,
};
use jose::SigningKey;
use sam_service::{FoundError, MIGRATIONS, Sam, StartError};
use sap::act::Version1;
use sap::act_digest;
use sap::messages::{EnrolOpen, EnrolOpenRequest, SapRefusalCode};
use sap::office::calls::*;
use sap::office::{KeyAction, Measure, Office, Reopen, Role, TYP_REOPEN, Zone};
use store_kit::testing;
use store_kit::{StoreError, sql, transaction};

use crate::kit::*;
use crate::office_kit::*;

fn rule(refusal: OfficeRefusal) -> String {
    refusal
        .rule
        .unwrap_or_else(|| format!("{:?}", refusal.code))
}

async fn run(world: &World, statement: &'static str) {
    let store = &world.store.store;
    let done: Result<u64, StoreError> =
        transaction!(store, "attack", |tx| { tx.execute(sql(statement)).await });
    done.unwrap();
}

fn officer(name: &str) -> OfficerId {
    OfficerId::parse(name).unwrap()
}

fn dismiss(name: &str) -> Measure {
    Measure::Dismiss {
        officer: officer(name),
    }
}

// --- the beginning ---

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_begins_once_and_that_is_the_first_entry_of_its_log() {
    for world in worlds().await {
        let entries = world.audit_text().await;
        assert!(entries[0].contains("\"office.began\""), "{}", entries[0]);
        assert_eq!(
            world.audited("officer.appointed", "security-officer").await,
            3
        );
        // Again: the same record, another one, and with rows deleted by whoever can write to the store.
        let root = world.sam.root().clone();
        let other = Founders::new(&world.config, &root, world.clock.now());
        let again = async |founders: &Founders| {
            let done = founders.found(&world.config, &world.cm, &world.store, world.clock.clone());
            done.await
        };
        let mine = world.founders.lock().await;
        assert!(matches!(again(&mine).await, Err(FoundError::Begun)));
        assert!(matches!(again(&other).await, Err(FoundError::Begun)));
        drop(mine);
        let store = &world.store.store;
        let done: Result<(), StoreError> = transaction!(store, "attack", |tx| {
            for table in [
                "DELETE FROM office_genesis",
                "DELETE FROM office_person",
                "DELETE FROM office_account",
                "DELETE FROM voucher",
                "DELETE FROM evidence",
                "DELETE FROM audit_entry",
                "DELETE FROM audit_head",
            ] {
                tx.execute(sql(table)).await?;
            }
            Ok(())
        });
        done.unwrap();
        assert!(matches!(again(&other).await, Err(FoundError::Begun)));
        // Without the record nothing starts.
        let (clock, random) = (world.clock.clone(), std::sync::Arc::new(SystemRandom));
        let started = Sam::start(
            world.config.clone(),
            world.cm.clone(),
            store.clone(),
            None,
            clock,
            random,
        );
        assert!(matches!(started.await, Err(StartError::NotBegun)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_two_different_persons_begin_an_installation_of_this_sam() {
    let world = World::on(testing::sqlite(MIGRATIONS).await).await;
    let root = world.sam.root().clone();
    let now = world.clock.now();
    let refused = async |change: fn(&mut Founders), config: &sam_service::SamConfig| {
        let store = testing::sqlite(MIGRATIONS).await;
        let mut founders = Founders::new(config, &root, now);
        change(&mut founders);
        let genesis = &founders.genesis;
        let again = Founders::of(
            config,
            &genesis.root,
            genesis.officers.clone(),
            founders.secrets,
            genesis.at,
        );
        let done = again.found(&world.config, &world.cm, &store, world.clock.clone());
        done.await.err().map(|e| e.to_string())
    };
    let config = &world.config;
    assert_eq!(refused(|_| (), config).await, None);
    for change in [
        (|f: &mut Founders| f.genesis.officers.truncate(1)) as fn(&mut Founders),
        |f| f.genesis.officers[1].identity = f.genesis.officers[0].identity,
        |f| f.genesis.officers[1].officer = f.genesis.officers[0].officer.clone(),
        |f| f.genesis.at = f.genesis.at.plus(-7200),
        |f| f.genesis.root = SigningKey::generate().unwrap().0.public().clone(),
    ] {
        assert!(refused(change, config).await.is_some());
    }
    let elsewhere = sam_service::SamConfig {
        sam: "another.test".into(),
        ..config.clone()
    };
    assert!(refused(|_| (), &elsewhere).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_open_an_installation_again_that_has_too_few_officers_and_no_other() {
    for world in worlds().await {
        let mut founders = world.officers().await;
        let record = world.sam.genesis().await.unwrap();
        let secrets = [secret(), secret()];
        let now = world.clock.now();
        let reopen = |serial: u32, at: UnixTime| Reopen {
            v: Version1,
            genesis: record.genesis,
            serial,
            officers: vec![founder("d", &secrets[0], at), founder("e", &secrets[1], at)],
            at,
        };
        let sign = |key: &SigningKey, reopen: &Reopen| {
            key.sign(TYP_REOPEN, &serde_json::to_vec(reopen).unwrap())
                .unwrap()
        };
        let needless = world
            .sam
            .reopen(&sign(&founders.recovery, &reopen(1, now)))
            .await;
        assert!(matches!(needless, Err(FoundError::Refused(_))));
        // All appointments run out.
        world.clock.advance(YEAR);
        let now = world.clock.now();
        let gone = world.log_in(&mut founders.devices[0]).await.unwrap_err();
        assert_eq!(gone.code, SapRefusalCode::NotFound);
        let told = reopen(1, now);
        let (stranger, _) = SigningKey::generate().unwrap();
        assert!(world.sam.reopen(&sign(&stranger, &told)).await.is_err());
        world
            .sam
            .reopen(&sign(&founders.recovery, &told))
            .await
            .unwrap();
        assert!(
            world
                .sam
                .reopen(&sign(&founders.recovery, &told))
                .await
                .is_err()
        );
        for (founder, secret) in told.officers.iter().zip(&secrets) {
            let mut device = world.enrol_officer(&founder.voucher, secret).await.unwrap();
            world.log_in(&mut device).await.unwrap();
        }
        let second = sign(&founders.recovery, &reopen(2, now));
        assert!(
            world.sam.reopen(&second).await.is_err(),
            "there are two again"
        );
        assert_eq!(world.audited("office.reopened", "").await, 1);
    }
}

// --- roles ---

// shows: I-7.1.1.4-not-all-roles-one-person, I-7.1.1.4-not-two-roles-one-person
// shows: I-7.1.1.6-officer-not-auditor, I-7.1.1.7-admin-operator-not-auditor-officer, T-INS-AUDITOR
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

// --- sessions and calls ---

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
            let refused = call_as::<LogInOpen>(&world.sam, peer, &open)
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
            measure: Measure::Restore {
                zone: Zone::Cm,
                backup: Digest32([1; 32]),
            },
            reason: "disk failure".into(),
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

// --- two persons ---

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
        world.approve_proposal(c, made.proposal).await.unwrap();
        let done = world.approve_proposal(&mut d, made.proposal).await.unwrap();
        assert_eq!(done.state, ProposalState::Done);
        let voucher = VoucherId::parse(made.proposal.to_string()).unwrap();
        let mut b2 = world.enrol_officer(&voucher, &key).await.unwrap();
        b2.officer = officer("b");

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
            call_as::<ProposalApprove>(sam, OFFICE_GATEWAY, &requests[n / 2 % 2])
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
        assert_eq!(told[0].act, Some(done.proposal));
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
async fn a_restore_is_approved_for_the_operator_who_takes_it_once_with_the_evidence() {
    for world in worlds().await {
        let mut operator = world.appoint("o", Role::SystemOperator).await;
        let mut founders = world.officers().await;
        let [a, b, _] = founders.devices.as_mut_slice() else {
            panic!("three")
        };
        let restore = Measure::Restore {
            zone: Zone::Sam,
            backup: Digest32([4; 32]),
        };
        let refused = world.propose(a, restore.clone()).await.unwrap_err();
        assert_eq!(rule(refused), "role");
        let asked = world.propose(&mut operator, restore).await.unwrap();
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
