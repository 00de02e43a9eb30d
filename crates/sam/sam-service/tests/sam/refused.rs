//! Rows that are refused, because somebody wrote to the store or a restore undid what came after it: they are of no use, and hold up
//! nobody else's stop, notice or office.

use core_types::{B64, Clock as _, KeyAlg, PersonId, VoucherId, sha256};
use sam_api::guard::GuardRequest;
use sam_api::ssa::*;
use sam_service::FoundError;
use sap::act::Version1;
use sap::manage::NoticeEffect;
use sap::office::calls::{
    People, PeopleAnswer, ProposalOpen, ProposalRequest, SessionRequest, State,
};
use sap::office::{KeyAction, Measure, Reopen, Role, TYP_REOPEN};

use crate::cm::Fault;
use crate::kit::*;
use crate::life::notice;
use crate::office_kit::*;
use crate::stores::run;

/// The rows of all persons but this one hold what is sealed for that one.
const SPOIL: &str = "UPDATE person SET sealed = (SELECT p.sealed FROM person p WHERE p.id = 'other') WHERE id <> 'other'";

async fn state(world: &World, signer: &Signer) -> (KeyState, Option<StopCause>) {
    let key = world.key(signer).await;
    (key.state, key.stop.map(|stop| stop.cause))
}

fn action(signer: &Signer, action: KeyAction) -> Measure {
    let key = signer.keys[0].key.clone();
    Measure::Key { key, action }
}

/// By whatever way a key is stopped or ended, the row of its owner isn't needed: not even if whoever holds the SSA writes to the
/// SAM's store as well, with an approval in hand.
// shows: I-4.2.2c-termination-causes, T-INS-OPERATOR, T-USE-CRED-ALTER, T-KEY-ABUSE
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_needs_nothing_of_its_owner_but_the_key() {
    for world in worlds().await {
        let other = world.enrol("other", false, &[KeyAlg::P256]).await;
        let p256 = [KeyAlg::P256];
        let by_login = world.enrol("login", false, &p256).await;
        let held = world.enrol("held", false, &p256).await;
        let revoked = world.enrol("revoked", false, &p256).await;
        let guarded = world.enrol("guarded", false, &p256).await;
        let officers = world.enrol("officers", false, &p256).await;
        let mut wrong = world.enrol("wrong", false, &p256).await;
        let expires = world.enrol("expires", false, &p256).await;
        let mut invitation = world.invitation("used", &p256);
        invitation.one_time = true;
        let mut used = world.enrol_by(invitation, false).await;
        let once = world.approved(&mut used, &[hash(1)]).await;
        let token = world.approved(&mut wrong, &[hash(2)]).await;
        run(&world, SPOIL).await;

        let seen = world.key(&by_login).await.changes;
        world.stop(&by_login, seen).await.unwrap();
        let stopped = |cause| (KeyState::Suspended, Some(cause));
        assert_eq!(state(&world, &by_login).await, stopped(StopCause::Login));
        assert_eq!(
            world.audited("alarm", "sealed-row-tampered").await,
            1,
            "in the place of the note"
        );

        let jws = world
            .ra
            .notice(&notice(&world, &held, NoticeEffect::Hold, 1));
        let request = NoticeRequest {
            notice: jws.unwrap(),
        };
        world.sam.notice(SSA, request).await.unwrap();
        assert_eq!(state(&world, &held).await, stopped(StopCause::Hold));

        let certificate = pki::Certificate::parse(&revoked.keys[0].chain[0].0).unwrap();
        world.ca.revoke(&certificate.info().serial, 1).unwrap();
        let request = RevocationRequest {
            key: revoked.keys[0].key.clone(),
            published: Published::Crl(B64(world.ca.crl().unwrap())),
        };
        world.sam.revocation(SSA, request).await.unwrap();
        let ended = |cause| (KeyState::Destroyed, Some(cause));
        assert_eq!(state(&world, &revoked).await, ended(StopCause::Revoked));

        let key = guarded.keys[0].key.clone();
        let stop = GuardRequest::Key { key };
        world.sam.guard_stop(GUARD, stop).await.unwrap();
        assert_eq!(state(&world, &guarded).await, stopped(StopCause::Provider));

        let stop = action(&officers, KeyAction::Suspend);
        world.decide(stop).await.unwrap();
        assert_eq!(state(&world, &officers).await, stopped(StopCause::Provider));
        // What gives the key back has to be told to its owner.
        let resume = action(&officers, KeyAction::Resume);
        assert!(world.decide(resume).await.is_err());
        assert_eq!(state(&world, &officers).await, stopped(StopCause::Provider));
        let destroy = action(&officers, KeyAction::Destroy);
        world.decide(destroy).await.unwrap();
        assert_eq!(state(&world, &officers).await, ended(StopCause::Provider));

        world.cm.next(Fault::BitFlip);
        assert!(world.sign(&wrong, &token, &[hash(2)]).await.is_err());
        assert_eq!(state(&world, &wrong).await, stopped(StopCause::WrongValue));
        assert_eq!(world.audited("signature.wrong", "").await, 1);

        world.sign(&used, &once, &[hash(1)]).await.unwrap();
        assert_eq!(state(&world, &used).await, ended(StopCause::Used));

        let until = world.key(&expires).await.until.unwrap();
        world.clock.advance(until.0 + 1 - world.clock.now().0);
        world.sam.maintain().await.unwrap();
        assert_eq!(state(&world, &expires).await, ended(StopCause::Expired));
        let person = other.person.clone();
        let told = world.sam.history(HistoryRequest { person }).await.unwrap();
        assert_eq!(told.entries[0].what, Happened::Destroyed, "as ever");
    }
}

// shows: T-USE-CRED-ALTER, I-4.2.2c-termination-causes
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_stands_when_the_row_of_its_owner_was_set_back_or_is_gone() {
    for world in worlds().await {
        let back = world.enrol("back", false, &[KeyAlg::P256]).await;
        let gone = world.enrol("gone", false, &[KeyAlg::P256]).await;
        run(&world, "CREATE TABLE kept_person AS SELECT * FROM person").await;
        let mut owner = back;
        // The row is written, and put back as it was before.
        world.approved(&mut owner, &[hash(1)]).await;
        run(
            &world,
            "UPDATE person SET sealed = (SELECT k.sealed FROM kept_person k WHERE k.id = person.id), \
             version = (SELECT k.version FROM kept_person k WHERE k.id = person.id)",
        )
        .await;
        run(&world, "DELETE FROM person WHERE id = 'gone'").await;
        for (signer, alarm) in [
            (&owner, "sealed-row-set-back"),
            (&gone, "sealed-row-missing"),
        ] {
            let before = world.audited("alarm", alarm).await;
            let seen = world.key(signer).await.changes;
            world.stop(signer, seen).await.unwrap();
            assert_eq!(world.key(signer).await.state, KeyState::Suspended);
            assert_eq!(world.audited("alarm", alarm).await, before + 1, "{alarm}");
        }
        assert_eq!(world.audited("key.suspended", "").await, 2);
    }
}

async fn people(world: &World, device: &mut Device) -> PeopleAnswer {
    let session = world.log_in(device).await.unwrap().session;
    world
        .office::<People>(&SessionRequest { session })
        .await
        .unwrap()
}

const OFFICE_AS_IT_WAS: [(&str, &str); 3] = [
    (
        "CREATE TABLE kept_account AS SELECT * FROM office_account",
        "UPDATE office_account SET sealed = (SELECT k.sealed FROM kept_account k WHERE k.id = office_account.id), \
         version = (SELECT k.version FROM kept_account k WHERE k.id = office_account.id) \
         WHERE id IN (SELECT id FROM kept_account)",
    ),
    (
        "CREATE TABLE kept_officer AS SELECT * FROM office_person",
        "UPDATE office_person SET sealed = (SELECT k.sealed FROM kept_officer k WHERE k.id = office_person.id), \
         version = (SELECT k.version FROM kept_officer k WHERE k.id = office_person.id) \
         WHERE id IN (SELECT id FROM kept_officer)",
    ),
    (
        "CREATE TABLE kept_factor AS SELECT * FROM factor",
        "UPDATE factor SET sealed = (SELECT k.sealed FROM kept_factor k WHERE k.id = factor.id), \
         version = (SELECT k.version FROM kept_factor k WHERE k.id = factor.id) \
         WHERE id IN (SELECT id FROM kept_factor)",
    ),
];

/// A backup that is older than the last log-ins, brought up with the log: the rows of whoever logged in since are refused. Who is
/// left goes on if they are enough, and appoints the others anew.
// shows: T-USE-CRED-ALTER, I-7.1.1.8-appointed-and-trained
#[tokio::test(flavor = "multi_thread")]
async fn an_officer_whose_rows_are_refused_is_appointed_anew_by_the_others() {
    for mut world in worlds().await {
        let mut admin = world.appoint("d", Role::SystemAdministrator).await;
        let [mut a, mut b, mut c] = {
            let mut founders = world.officers().await;
            <[Device; 3]>::try_from(std::mem::take(&mut founders.devices))
                .ok()
                .unwrap()
        };
        for (keep, _) in OFFICE_AS_IT_WAS {
            run(&world, keep).await;
        }
        world.log_in(&mut c).await.unwrap();
        for (_, back) in OFFICE_AS_IT_WAS {
            run(&world, back).await;
        }
        world.sam = world.node("sam-2").await;
        assert!(world.log_in(&mut c).await.is_err());
        let seen = people(&world, &mut a).await;
        assert_eq!((seen.usable, seen.refused.len()), (2, 1));
        assert_eq!(seen.refused[0], officer("c"));
        let session = world.log_in(&mut a).await.unwrap().session;
        let shown = world.office::<State>(&SessionRequest { session }).await;
        assert_eq!(shown.unwrap().usable, 2);
        // An account of c's begins anew. The officer's own row is as it was.
        world.clock.advance(2);
        let secret = secret();
        let account = Measure::Account {
            officer: officer("c"),
            account: c.account.clone(),
            secret: sha256(&[secret.expose()]),
        };
        let asked = world.propose(&mut admin, account).await.unwrap();
        for device in [&mut a, &mut b] {
            let given = world.approve_proposal(device, asked.proposal).await;
            given.unwrap();
        }
        let voucher = VoucherId::parse(asked.proposal.to_string()).unwrap();
        world.sam = world.node("sam-3").await;
        assert_eq!(
            world.sam.scrub().await.unwrap().set_back.len(),
            1,
            "the old factor"
        );
        let mut anew = world.enrol_officer(&voucher, &secret).await.unwrap();
        world.confirm(&mut anew, &mut b).await;
        assert_eq!(people(&world, &mut a).await.usable, 3);
        assert!(
            world.log_in(&mut c).await.is_err(),
            "the old passkey is none"
        );
    }
}

// shows: T-USE-CRED-ALTER, I-7.1.1.8-appointed-and-trained
#[tokio::test(flavor = "multi_thread")]
async fn officers_whose_rows_are_refused_come_back_by_the_recovery_key() {
    for mut world in worlds().await {
        world.appoint("auditor", Role::SystemAuditor).await;
        let mut founders = world.officers().await;
        for (keep, _) in OFFICE_AS_IT_WAS {
            run(&world, keep).await;
        }
        for device in &mut founders.devices {
            world.log_in(device).await.unwrap();
        }
        for (_, back) in OFFICE_AS_IT_WAS {
            run(&world, back).await;
        }
        // Whoever writes to the store spoils an officer's own row as well.
        run(
            &world,
            "UPDATE office_person SET sealed = (SELECT p.sealed FROM office_person p WHERE p.id = 'c') WHERE id = 'a'",
        )
        .await;
        let node = world.node("sam-2").await;
        let secrets = [secret(), secret(), secret()];
        world.clock.advance(2);
        let now = world.clock.now();
        let told = Reopen {
            v: Version1,
            genesis: node.genesis().await.unwrap().genesis,
            serial: 1,
            officers: vec![
                founder("a", &secrets[0], now),
                founder("b", &secrets[1], now),
                founder("d", &secrets[2], now),
            ],
            at: now,
        };
        let sign = |told: &Reopen| {
            let payload = serde_json::to_vec(told).unwrap();
            founders.recovery.sign(TYP_REOPEN, &payload).unwrap()
        };
        // One human is one officer: not by another name, as long as the row of the first is there.
        let mut twice = told.clone();
        twice.officers[0].officer = officer("a2");
        let refused = node.reopen(&sign(&twice)).await;
        assert!(
            matches!(refused, Err(FoundError::Refused(_))),
            "{refused:?}"
        );
        node.reopen(&sign(&told)).await.unwrap();
        let jws = sign(&told);
        let mut old = std::mem::take(&mut founders.devices);
        drop(founders);

        world.sam = world.node("sam-3").await;
        assert!(world.sam.reopen(&jws).await.is_err(), "once");
        let mut devices = Vec::new();
        for (founder, secret) in told.officers.iter().zip(&secrets) {
            let device = world.enrol_officer(&founder.voucher, secret).await;
            devices.push(device.unwrap());
        }
        let seen = people(&world, &mut devices[0]).await;
        assert_eq!((seen.usable, seen.refused), (3, vec![officer("c")]));
        world.log_in(&mut devices[1]).await.unwrap();
        for device in &mut old {
            assert!(world.log_in(device).await.is_err(), "{}", device.account);
        }
        // An older copy of what took the place is noticed like any other. Of the new factors there is none.
        for (_, back) in &OFFICE_AS_IT_WAS[..2] {
            run(&world, back).await;
        }
        let found = world.node("sam-4").await.scrub().await.unwrap();
        let set_back = |id: &str| {
            let mut places = found.set_back.iter().chain(&found.tampered);
            places.any(|(_, place)| place == id)
        };
        assert!(set_back("officer.a") && set_back("officer.b"), "{found:?}");
    }
}

/// Whoever writes to the store spoils the row of an officer, whom the others appoint anew, another human this time: the account of
/// the first one isn't the second's, nor is what they were logged in with.
// shows: I-7.1.1.8-appointed-and-trained, T-USE-CRED-ALTER
#[tokio::test(flavor = "multi_thread")]
async fn who_was_an_officer_before_has_nothing_of_the_one_who_has_the_name_now() {
    let spoilt: &[&str] = &[
        "UPDATE office_person SET sealed = (SELECT p.sealed FROM office_person p WHERE p.id = 'a') WHERE id = 'c'",
    ];
    let gone: &[&str] = &[
        "DELETE FROM office_person WHERE id = 'c'",
        "UPDATE office_account SET owner = 'x' WHERE id = 'officer.c'",
    ];
    for (attack, name) in [
        (spoilt, "officer.c"),
        (gone, "officer.c"),
        (gone, "officer.c2"),
    ] {
        for world in worlds().await {
            let mut admin = world.appoint("d", Role::SystemAdministrator).await;
            let [mut a, mut b, mut c] = {
                let mut founders = world.officers().await;
                <[Device; 3]>::try_from(std::mem::take(&mut founders.devices))
                    .ok()
                    .unwrap()
            };
            let session = world.log_in(&mut c).await.unwrap().session;
            for statement in attack {
                run(&world, statement).await;
            }
            world.clock.advance(2);
            let now = world.clock.now();
            let (mut measure, secret) = appointment("c", &[Role::SecurityOfficer], now);
            if let Measure::Appoint {
                identity, account, ..
            } = &mut measure
            {
                *identity = sha256(&[b"somebody else"]);
                *account = PersonId::parse(name).unwrap();
            }
            let asked = world.propose(&mut admin, measure).await.unwrap();
            for device in [&mut a, &mut b] {
                let given = world.approve_proposal(device, asked.proposal).await;
                given.unwrap();
            }
            assert!(world.log_in(&mut c).await.is_err(), "{attack:?} {name}");
            let voucher = VoucherId::parse(asked.proposal.to_string()).unwrap();
            let mut anew = world.enrol_officer(&voucher, &secret).await.unwrap();
            world.confirm(&mut anew, &mut b).await;

            assert!(world.log_in(&mut c).await.is_err(), "{attack:?} {name}");
            let (measure, _) = appointment("e", &[Role::SystemAuditor], now);
            let next = world.propose(&mut admin, measure).await.unwrap();
            let proposal = next.proposal;
            let given = world.approve_proposal(&mut c, proposal).await;
            assert!(given.is_err(), "{attack:?} {name}");
            let shown = ProposalRequest { session, proposal };
            let shown = world.office::<ProposalOpen>(&shown).await;
            assert!(shown.is_err(), "{attack:?} {name}");
            world.approve_proposal(&mut anew, proposal).await.unwrap();
        }
    }
}
