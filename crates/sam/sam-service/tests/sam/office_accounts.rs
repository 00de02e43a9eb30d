//! Accounts that are given by a link: whoever asks for one has that link, and is nobody else by it (`sap.md` §14, 54).

use audit_log::{LogKey, Sequencer};
use core_types::{Clock as _, PersonId, SecretBytes, VoucherId, sha256};
use sap::messages::SapRefusalCode;
use sap::office::calls::*;
use sap::office::{Measure, Role};

use crate::kit::*;
use crate::office_kit::*;

const WAIT: i64 = 72 * 3600;

/// An invitation of `name` to their account, and what only its proposer has.
fn account(name: &str) -> (Measure, SecretBytes) {
    account_of(name, name)
}

/// As [`account`], to an account of another name.
fn account_of(name: &str, account: &str) -> (Measure, SecretBytes) {
    let secret = secret();
    let measure = Measure::Account {
        officer: officer(name),
        account: PersonId::parse(format!("officer.{account}")).unwrap(),
        secret: sha256(&[secret.expose()]),
    };
    (measure, secret)
}

fn voucher(info: &ProposalInfo) -> VoucherId {
    VoucherId::parse(info.proposal.to_string()).unwrap()
}

/// `a` says that `b` has lost the passkey, and two others believe it.
async fn said_to_be_lost(
    world: &World,
    [a, c, d]: [&mut Device; 3],
) -> (ProposalInfo, SecretBytes) {
    let (measure, secret) = account("b");
    let asked = world.propose(a, measure).await.unwrap();
    world.approve_proposal(c, asked.proposal).await.unwrap();
    let done = world.approve_proposal(d, asked.proposal).await.unwrap();
    (done, secret)
}

/// What this session gets of everything there is to see or to end, if it may do nothing.
async fn sees_nothing(world: &World, session: &SecretBytes, proposal: core_types::Digest32) {
    let own = SessionRequest {
        session: session.clone(),
    };
    let about = ProposalRequest {
        session: session.clone(),
        proposal,
    };
    let search = AuditRequest {
        session: session.clone(),
        from: None,
        until: None,
        kinds: vec![],
        person: None,
        key: None,
        outcome: None,
        after: None,
    };
    let propose = ProposeRequest {
        session: session.clone(),
        measure: dismiss("c"),
        reason: "r".into(),
        ttl: 600,
    };
    for refused in [
        world.office::<People>(&own).await.err(),
        world.office::<State>(&own).await.err(),
        world.office::<Proposals>(&own).await.err(),
        world.office::<Audit>(&search).await.err(),
        world.office::<EvidenceOfProposal>(&about).await.err(),
        world.office::<Propose>(&propose).await.err(),
        world.office::<ProposalOpen>(&about).await.err(),
        world.office::<ProposalEnd>(&about).await.err(),
    ] {
        assert_eq!(rule(refused.unwrap()), "unconfirmed");
    }
}

/// Whoever says that another officer has lost the passkey isn't that officer by the link that they made: the present one is good for
/// three days more, everybody is told, and its first use is the end of it.
// shows: T-INS-OPERATOR, T-REG-IMPERSONATE
#[tokio::test(flavor = "multi_thread")]
async fn a_passkey_that_is_said_to_be_lost_and_is_not_ends_the_invitation() {
    for world in worlds().await {
        let mut d = world.appoint("d", Role::SecurityOfficer).await;
        let mut founders = world.officers().await;
        let [a, b, c] = founders.devices.as_mut_slice() else {
            panic!("three")
        };
        for after_waiting in [false, true] {
            // Of the last log-in there is a second between.
            world.clock.advance(1);
            let (done, secret) = said_to_be_lost(&world, [&mut *a, &mut *c, &mut d]).await;
            let due = world.clock.now().plus(WAIT);
            assert_eq!((done.state, done.due), (ProposalState::Waiting, Some(due)));
            let voucher = voucher(&done);
            assert!(world.enrol_officer(&voucher, &secret).await.is_err());
            world.clock.advance(WAIT - 1);
            world.sam.maintain().await.unwrap();
            assert!(world.enrol_officer(&voucher, &secret).await.is_err());
            if after_waiting {
                world.clock.advance(1);
                world.sam.maintain().await.unwrap();
            }
            // It was there all the time.
            world.log_in(b).await.unwrap();
            world.clock.advance(1);
            world.sam.maintain().await.unwrap();
            assert!(world.enrol_officer(&voucher, &secret).await.is_err());
            world.log_in(b).await.unwrap();
        }
        let told = async |kind: &str, with: &str| world.audited(kind, with).await;
        assert_eq!(
            told("officer.passkey-ordered", "\"officer\":\"b\"").await,
            2
        );
        assert_eq!(told("proposal.ended", "factor-not-lost").await, 1);
        assert_eq!(told("sap.refused", "factor-not-lost").await, 1);
        assert_eq!(told("factor.removed", "").await, 0);
        // Everybody has it among the alerts.
        let store = &world.store.store;
        let key = LogKey::from_seed("log.test/sam", &SecretBytes::new(vec![2; 32])).unwrap();
        let opened = Sequencer::open(world.sam.audit().clone(), key, None, store).await;
        let sequenced = opened.unwrap().sequence(store, world.clock.now()).await;
        sequenced.unwrap();
        let session = world.log_in(b).await.unwrap().session;
        let seen = world.office::<State>(&SessionRequest { session }).await;
        let alerts = seen.unwrap().alerts;
        let ordered = |entry: &&AuditEntry| entry.body.contains("officer.passkey-ordered");
        assert_eq!(alerts.iter().filter(ordered).count(), 2);
    }
}

/// Naming another account of the same officer leads around neither the waiting nor the telling.
// shows: T-INS-OPERATOR, T-REG-IMPERSONATE
#[tokio::test(flavor = "multi_thread")]
async fn another_account_of_an_officer_waits_for_the_passkey_that_they_have() {
    for world in worlds().await {
        let mut d = world.appoint("d", Role::SecurityOfficer).await;
        let mut founders = world.officers().await;
        let [a, b, c] = founders.devices.as_mut_slice() else {
            panic!("three")
        };
        for (name, after_waiting) in [("b2", false), ("b3", true)] {
            world.clock.advance(1);
            let (measure, secret) = account_of("b", name);
            let asked = world.propose(a, measure).await.unwrap();
            world.approve_proposal(c, asked.proposal).await.unwrap();
            let done = world.approve_proposal(&mut d, asked.proposal).await;
            let done = done.unwrap();
            let due = world.clock.now().plus(WAIT);
            assert_eq!((done.state, done.due), (ProposalState::Waiting, Some(due)));
            let voucher = voucher(&done);
            assert!(world.enrol_officer(&voucher, &secret).await.is_err());
            world.clock.advance(WAIT - 1);
            if after_waiting {
                world.clock.advance(1);
                world.sam.maintain().await.unwrap();
            }
            // By the account that they have all the time.
            world.log_in(b).await.unwrap();
            world.clock.advance(1);
            world.sam.maintain().await.unwrap();
            assert!(world.enrol_officer(&voucher, &secret).await.is_err());
        }
        let told = async |kind: &str, with: &str| world.audited(kind, with).await;
        assert_eq!(
            told("officer.passkey-ordered", "\"officer\":\"b\"").await,
            2
        );
        assert_eq!(told("proposal.ended", "factor-not-lost").await, 1);
        assert_eq!(told("sap.refused", "factor-not-lost").await, 1);
    }
}

/// An invitation from when no passkey of the officer counted is void once one does, by whichever account.
// shows: T-INS-OPERATOR
#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_to_another_account_is_void_once_a_passkey_counts() {
    for world in worlds().await {
        let (measure, first) = appointment("e", &[Role::SystemOperator], world.clock.now());
        let appointed = world.decide(measure).await.unwrap();
        let (measure, secret) = account_of("e", "e2");
        let out = world.decide(measure).await.unwrap();
        assert_eq!(out.state, ProposalState::Done);
        let own = world.enrol_officer(&voucher(&appointed), &first).await;
        let mut own = own.unwrap();
        world
            .confirm(&mut own, &mut world.officers().await.devices[1])
            .await;
        let late = world.enrol_officer(&voucher(&out), &secret).await;
        assert_eq!(late.err().unwrap().code, SapRefusalCode::Withdrawn);
    }
}

/// And if it is lost, or its owner was away for days: who had the link has a passkey that nobody heeds, until an officer who had none of
/// it has heard from the owner which it is.
// shows: T-INS-OPERATOR, T-REG-IMPERSONATE, III-A1.4.2-dual-control
#[tokio::test(flavor = "multi_thread")]
async fn a_passkey_by_a_link_does_nothing_before_somebody_else_confirms_it() {
    for world in worlds().await {
        let mut d = world.appoint("d", Role::SecurityOfficer).await;
        let mut auditor = world.appoint("u", Role::SystemAuditor).await;
        let mut founders = world.officers().await;
        let [a, b, c] = founders.devices.as_mut_slice() else {
            panic!("three")
        };
        // Somebody approved something in this second.
        world.clock.advance(1);
        let (done, secret) = said_to_be_lost(&world, [&mut *a, &mut *c, &mut d]).await;
        world.clock.advance(WAIT);
        world.sam.maintain().await.unwrap();
        // By whoever has it; the one before ends.
        let taken = world.enrol_officer(&voucher(&done), &secret).await;
        let mut taken = taken.unwrap();
        assert!(world.log_in(b).await.is_err());

        let (measure, _) = appointment("x", &[Role::SystemOperator], world.clock.now());
        let open = world.propose(a, measure).await.unwrap().proposal;
        let known = world.log_in(&mut taken).await.unwrap();
        assert!(known.unconfirmed.is_some());
        sees_nothing(&world, &known.session, open).await;
        let usable = async |device: &mut Device| {
            let session = world.log_in(device).await.unwrap().session;
            let people = world.office::<People>(&SessionRequest { session }).await;
            let people = people.unwrap();
            let of_b = people
                .officers
                .into_iter()
                .find(|o| o.officer == officer("b"));
            (people.usable, of_b.unwrap().accounts[0].unconfirmed)
        };
        assert_eq!(usable(a).await, (3, true));

        // It asks for one thing: of its own passkey, by its true digits.
        let mut confirm = async |by: &str, of: &str, passkey: Option<String>| {
            let known = world.log_in(&mut taken).await.unwrap();
            let request = ProposeRequest {
                session: known.session,
                measure: Measure::Confirm {
                    officer: officer(by),
                    account: PersonId::parse(format!("officer.{of}")).unwrap(),
                    passkey: passkey.or(known.unconfirmed).unwrap(),
                },
                reason: "it is mine".into(),
                ttl: 3600,
            };
            world.office::<Propose>(&request).await
        };
        let other = "0000 1111 2222 3333 4444 5555".to_owned();
        let refused = confirm("b", "b", Some(other)).await.unwrap_err();
        assert_eq!(rule(refused), "passkey");
        for (by, of) in [("a", "a"), ("b", "a"), ("c", "b")] {
            let refused = confirm(by, of, None).await.unwrap_err();
            assert_eq!(rule(refused), "not-own-account", "{by} {of}");
        }
        let asked = confirm("b", "b", None).await.unwrap().proposal;
        // Neither who had the link nor the account itself, and nobody of another role.
        for (device, why) in [
            (&mut *a, "asked-for-account"),
            (&mut taken, "unconfirmed"),
            (&mut auditor, "role"),
        ] {
            let refused = world.approval_act(device, asked).await.unwrap_err();
            assert_eq!(rule(refused), why);
        }
        let done = world.approve_proposal(c, asked).await.unwrap();
        assert_eq!((done.state, done.needs), (ProposalState::Done, 1));
        assert_eq!(
            world
                .audited("officer.confirmed", "\"officer\":\"b\"")
                .await,
            1
        );
        assert_eq!(usable(a).await, (4, false));
        let known = world.log_in(&mut taken).await.unwrap();
        assert_eq!(known.unconfirmed, None);
        world.approve_proposal(&mut taken, open).await.unwrap();
        // Once.
        assert!(world.ask_confirm(&mut taken).await.is_err());
    }
}

/// An administrator has somebody appointed, and opens the link in their place.
// shows: T-INS-OPERATOR, T-REG-IMPERSONATE, I-7.1.4.6-deny-by-default
#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_an_auditor_appointed_reads_nothing_by_the_link() {
    for world in worlds().await {
        let mut admin = world.appoint("m", Role::SystemAdministrator).await;
        let mut founders = world.officers().await;
        let [a, b, _] = founders.devices.as_mut_slice() else {
            panic!("three")
        };
        let (measure, secret) = appointment("u", &[Role::SystemAuditor], world.clock.now());
        let asked = world.propose(&mut admin, measure).await.unwrap();
        for device in [&mut *a, &mut *b] {
            let given = world.approve_proposal(device, asked.proposal).await;
            given.unwrap();
        }
        let taken = world.enrol_officer(&voucher(&asked), &secret).await;
        let mut taken = taken.unwrap();
        let known = world.log_in(&mut taken).await.unwrap();
        let open = world.propose(a, dismiss("m")).await.unwrap().proposal;
        sees_nothing(&world, &known.session, open).await;
        assert_eq!(world.audited("audit.read", "").await, 0);
        // The auditor has no passkey, and can read no digits out: they are invited anew, which waits for nothing here.
        let (measure, secret) = account("u");
        let asked = world.propose(a, measure).await.unwrap();
        let mut c = founders.devices.pop().unwrap();
        let [_, b] = founders.devices.as_mut_slice() else {
            panic!("two")
        };
        for device in [&mut *b, &mut c] {
            let given = world.approve_proposal(device, asked.proposal).await;
            given.unwrap();
        }
        let own = world.enrol_officer(&voucher(&asked), &secret).await;
        let mut own = own.unwrap();
        assert!(world.log_in(&mut taken).await.is_err());
        world.confirm(&mut own, &mut c).await;
    }
}

/// What was proposed when there was no passkey that counts doesn't put another in the place of one that does by now.
// shows: T-INS-OPERATOR
#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_that_waits_for_nothing_is_void_once_a_passkey_counts() {
    for world in worlds().await {
        let now = world.clock.now();
        let (measure, first) = appointment("e", &[Role::SystemOperator], now);
        let appointed = world.decide(measure).await.unwrap();
        let mut founders = world.officers().await;
        let [a, b, c] = founders.devices.as_mut_slice() else {
            panic!("three")
        };
        let invite = async |a: &mut Device, b: &mut Device| {
            let (measure, secret) = account("e");
            let asked = world.propose(a, measure).await.unwrap();
            world.approve_proposal(b, asked.proposal).await.unwrap();
            (asked, secret)
        };
        // One that is approved before, and one that isn't yet.
        let (open, _) = invite(a, b).await;
        let mut e = world
            .enrol_officer(&voucher(&appointed), &first)
            .await
            .unwrap();
        let (out, secret) = invite(a, b).await;
        let done = world.approve_proposal(c, out.proposal).await.unwrap();
        assert_eq!(done.state, ProposalState::Done);
        world.confirm(&mut e, c).await;
        let late = world.enrol_officer(&voucher(&out), &secret).await;
        assert_eq!(late.err().unwrap().code, SapRefusalCode::Withdrawn);
        let late = world.approve_proposal(c, open.proposal).await;
        assert_eq!(late.unwrap_err().code, SapRefusalCode::Withdrawn);
        assert_eq!(world.log_in(&mut e).await.unwrap().unconfirmed, None);
    }
}
