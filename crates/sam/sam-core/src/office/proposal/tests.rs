//! Every pair of persons that must not approve together.

use core_types::{TenantId, VoucherId};
use sap::act::Version1;
use sap::office::{EndCause, Facts, Office, Zone};

use super::super::account::AccountPhase;
use super::*;

const NOW: UnixTime = UnixTime(1_000_000);

fn id(text: &str) -> OfficerId {
    OfficerId::parse(text).unwrap()
}

fn officer(name: &str, role: Role) -> Officer {
    Officer {
        id: id(name),
        name: name.to_owned(),
        identity: sha256(&[name.as_bytes()]),
        office: Office {
            roles: vec![role],
            both: false,
            until: NOW.plus(100_000),
            training: None,
        },
        named_by: vec![],
        by: Digest32([0; 32]),
        since: UnixTime(0),
        ended: None,
    }
}

fn account(of: &Officer, n: u8) -> Account {
    Account {
        phase: AccountPhase::Active,
        registration: Some(VoucherId::parse("v").unwrap()),
        ..Account::invited(
            PersonId::parse(format!("officer.{}{n}", of.id)).unwrap(),
            of.id.clone(),
            VoucherId::parse("v").unwrap(),
            UnixTime(0),
        )
    }
}

fn asked(measure: Measure, by: &Officer) -> Proposal {
    Proposal::new(Document {
        v: Version1,
        sam: "sam.test".into(),
        tenant: TenantId::parse("t").unwrap(),
        nonce: Digest32([1; 32]),
        measure,
        facts: Facts::default(),
        reason: "because".into(),
        requester: Requester {
            account: account(by, 1).id,
            officer: by.id.clone(),
            name: by.name.clone(),
        },
        at: NOW,
        exp: NOW.plus(3600),
    })
    .unwrap()
}

fn given(by: &Officer, account: &Account) -> Given {
    Given {
        officer: by.id.clone(),
        name: by.name.clone(),
        account: account.id.clone(),
        act: Digest32([2; 32]),
        evidence: Digest32([3; 32]),
        at: NOW,
        switch: None,
    }
}

fn dismiss(whom: &str) -> Measure {
    Measure::Dismiss { officer: id(whom) }
}

fn approve(proposal: &Proposal, who: &Officer, n: u8, at: UnixTime) -> Result<Proposal, Reason> {
    let account = account(who, n);
    let approver = Approver {
        officer: who,
        account: &account,
    };
    proposal.approved(approver, given(who, &account), |_| true, at)
}

#[test]
fn two_persons_who_neither_asked_nor_are_meant_and_not_one_with_two_accounts() {
    let role = Role::SecurityOfficer;
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| officer(name, role));
    let proposal = asked(dismiss("d"), &a);
    let refused = |who: &Officer| approve(&proposal, who, 1, NOW).unwrap_err();
    assert_eq!(refused(&a), Reason::NotAllowed("requester-approves"));
    assert_eq!(refused(&d), Reason::NotAllowed("about-oneself"));
    for role in [
        Role::SystemAuditor,
        Role::SystemAdministrator,
        Role::SystemOperator,
    ] {
        assert_eq!(refused(&officer("x", role)), Reason::NotAllowed("role"));
    }
    let once = approve(&proposal, &b, 1, NOW).unwrap();
    assert_eq!(once.phase, Phase::Open);
    for account in [1, 2] {
        let again = approve(&once, &b, account, NOW).unwrap_err();
        assert_eq!(again, Reason::NotAllowed("approved-before"), "{account}");
    }
    let twice = approve(&once, &c, 1, NOW).unwrap();
    assert_eq!(twice.phase, Phase::Done);
    let e = officer("e", Role::SecurityOfficer);
    assert_eq!(approve(&twice, &e, 1, NOW).unwrap_err(), Reason::Used);
    // At the end, to the second.
    let late = approve(&once, &c, 1, NOW.plus(3600)).unwrap_err();
    assert_eq!(late, Reason::Expired);
    assert!(approve(&once, &c, 1, NOW.plus(3599)).is_ok());
}

#[test]
fn an_approval_counts_as_long_as_who_gave_it_may() {
    let [a, b, c] = ["a", "b", "c"].map(|name| officer(name, Role::SecurityOfficer));
    let once = approve(&asked(dismiss("d"), &a), &b, 1, NOW).unwrap();
    let account = account(&c, 1);
    let approver = Approver {
        officer: &c,
        account: &account,
    };
    let next = once.approved(approver, given(&c, &account), |who| *who != b.id, NOW);
    let next = next.unwrap();
    assert_eq!((next.phase, next.approvals.len()), (Phase::Open, 1));
    // Somebody whose own office has ended, or whose account has.
    let mut ended = b.clone();
    ended.office.until = NOW;
    assert_eq!(
        approve(&once, &ended, 1, NOW).unwrap_err(),
        Reason::NotFound
    );
}

#[test]
fn nobody_is_appointed_by_themselves_under_another_name() {
    let [a, b] = ["a", "b"].map(|name| officer(name, Role::SecurityOfficer));
    let proposal = Measure::Appoint {
        officer: id("new"),
        name: "New".into(),
        identity: b.identity,
        office: a.office.clone(),
        account: PersonId::parse("officer.new").unwrap(),
        secret: Digest32([5; 32]),
    };
    let refused = approve(&asked(proposal, &a), &b, 1, NOW).unwrap_err();
    assert_eq!(refused, Reason::NotAllowed("about-oneself"));
}

// shows: I-7.1.1.1-roles-differing-privileges
#[test]
fn each_pair_of_roles_differs_in_what_one_may_ask() {
    let proposals = [dismiss("x"), Measure::Module { enabled: false }];
    let asks = |role: Role| proposals.each_ref().map(|o| takes(o).ask.contains(&role));
    let approves = |role: Role| {
        proposals
            .each_ref()
            .map(|o| takes(o).approve.contains(&role))
    };
    for one in Role::ALL {
        for other in Role::ALL {
            let same = (asks(one), approves(one)) == (asks(other), approves(other));
            assert_eq!(same, one == other, "{one:?} {other:?}");
        }
    }
    let never = Role::SystemAuditor;
    assert!(!asks(never).contains(&true) && !approves(never).contains(&true));
}

#[test]
fn a_proposal_for_others_is_taken_once_by_who_asked() {
    let operator = officer("o", Role::SystemOperator);
    let [a, b] = ["a", "b"].map(|name| officer(name, Role::SecurityOfficer));
    let proposal = Measure::DeleteArchived {
        zone: Zone::Cm,
        archive: Digest32([0; 32]),
        size: 256,
    };
    let proposal = asked(proposal, &operator);
    let take = |proposal: &Proposal, who: &Officer, at| {
        let account = account(who, 1);
        let who = Approver {
            officer: who,
            account: &account,
        };
        proposal.taken(who, at)
    };
    assert_eq!(
        take(&proposal, &operator, NOW).unwrap_err(),
        Reason::NotApproved
    );
    let once = approve(&proposal, &a, 1, NOW).unwrap();
    let good = approve(&once, &b, 1, NOW).unwrap();
    assert_eq!(good.phase, Phase::Approved);
    assert!(take(&good, &a, NOW).is_err());
    assert_eq!(
        take(&good, &operator, NOW.plus(TAKE_WITHIN)).unwrap_err(),
        Reason::Expired
    );
    let withdrawn = take(&good.void(None), &operator, NOW);
    assert_eq!(withdrawn.unwrap_err(), Reason::Withdrawn);
    let done = take(&good, &operator, NOW).unwrap();
    assert_eq!(take(&done, &operator, NOW).unwrap_err(), Reason::Used);
}

#[test]
fn who_asked_or_could_approve_ends_it_also_while_it_waits() {
    let [a, b, c] = ["a", "b", "c"].map(|name| officer(name, Role::SecurityOfficer));
    let mut proposal = asked(
        Measure::Factors {
            person: PersonId::parse("p").unwrap(),
            registration: VoucherId::parse("v").unwrap(),
            secret: Digest32([0; 32]),
        },
        &a,
    );
    proposal.document.facts.wait = Some(FACTORS_WAIT);
    let end = |proposal: &Proposal, who: &Officer| {
        let account = account(who, 1);
        let who = Approver {
            officer: who,
            account: &account,
        };
        proposal.ended(who, NOW)
    };
    assert!(end(&proposal, &officer("x", Role::SystemAuditor)).is_err());
    let twice = approve(&approve(&proposal, &b, 1, NOW).unwrap(), &c, 1, NOW).unwrap();
    assert_eq!(
        (twice.phase, twice.due),
        (Phase::Waiting, Some(NOW.plus(FACTORS_WAIT)))
    );
    for who in [&a, &b] {
        let ended = end(&twice, who).unwrap();
        assert_eq!(
            (ended.phase, ended.ended_by),
            (Phase::Ended, Some(who.id.clone()))
        );
    }
    assert!(end(&end(&proposal, &b).unwrap(), &a).is_err());
}

// shows: I-A4.4-provider-end
#[test]
fn ending_all_keys_takes_two_others_and_says_how_many_and_whose() {
    let [a, b, c] = ["a", "b", "c"].map(|name| officer(name, Role::SecurityOfficer));
    let mut proposal = asked(
        Measure::EndKeys {
            tenant: Some(TenantId::parse("acme").unwrap()),
            cause: EndCause::EndOfService,
        },
        &a,
    );
    proposal.document.facts.keys = Some(12);
    let said =
        "destroy all keys of tenant acme, 12 now, because the service ends; none is made again";
    assert_eq!(words(&proposal.document), said);
    assert!(approve(&proposal, &a, 1, NOW).is_err());
    let once = approve(&proposal, &b, 1, NOW).unwrap();
    assert_eq!(once.phase, Phase::Open);
    assert!(approve(&once, &b, 2, NOW).is_err());
    let done = approve(&once, &c, 1, NOW).unwrap();
    assert_eq!(done.phase, Phase::Done);
    assert_eq!(approve(&done, &c, 1, NOW).unwrap_err(), Reason::Used);
}

/// Whose passkey it is that was enrolled by a link: the account itself asks, and neither its officer nor whoever had the link answers.
// shows: T-INS-OPERATOR, III-A1.4.2-dual-control
#[test]
fn a_passkey_is_confirmed_by_somebody_who_neither_has_it_nor_had_the_link() {
    let [s1, s2, s3] = ["s1", "s2", "s3"].map(|name| officer(name, Role::SecurityOfficer));
    let unconfirmed = Account {
        unconfirmed: Some(s1.id.clone()),
        ..account(&s2, 1)
    };
    let confirm = |of: &Officer, n: u8| Measure::Confirm {
        officer: of.id.clone(),
        account: account(of, n).id,
        passkey: "0000 1111 2222 3333 4444 5555".into(),
    };
    let who = Approver {
        officer: &s2,
        account: &unconfirmed,
    };
    // It asks for this about itself, and for nothing else; it approves, takes and ends nothing.
    assert_eq!(who.check_ask(&confirm(&s2, 1), NOW), Ok(()));
    for other in [confirm(&s2, 2), confirm(&s3, 1)] {
        let refused = who.check_ask(&other, NOW);
        assert_eq!(refused, Err(Reason::NotAllowed("not-own-account")));
    }
    let never = Err(Reason::NotAllowed("unconfirmed"));
    assert_eq!(who.check_ask(&dismiss("s3"), NOW), never);
    assert_eq!(who.check_role(ANY, NOW), never);
    let other = asked(dismiss("x"), &s1);
    assert_eq!(other.check_approver(who, NOW), never);
    assert_eq!(other.ended(who, NOW).map(drop), never);
    // Not even what the same person asked for by an account that counts, or this one before it had another passkey.
    let second = Account {
        unconfirmed: Some(s1.id.clone()),
        ..account(&s2, 2)
    };
    let by_second = Approver {
        officer: &s2,
        account: &second,
    };
    let own = asked(dismiss("x"), &s2);
    for unconfirmed in [who, by_second] {
        assert_eq!(own.ended(unconfirmed, NOW).map(drop), never);
    }
    assert!(asked(confirm(&s2, 1), &s2).ended(who, NOW).is_ok());

    let mut proposal = asked(confirm(&s2, 1), &s2);
    proposal.document.facts.asked_by = Some(s1.id.clone());
    proposal.document.facts.name = Some("Suzuki".into());
    let said = "the passkey 0000 1111 2222 3333 4444 5555 of account officer.s21 is that of Suzuki";
    assert_eq!(words(&proposal.document), said);
    let refused = |who: &Officer| approve(&proposal, who, 1, NOW).unwrap_err();
    assert_eq!(refused(&s1), Reason::NotAllowed("asked-for-account"));
    assert_eq!(refused(&s2), Reason::NotAllowed("requester-approves"));
    for role in [
        Role::SystemAuditor,
        Role::SystemAdministrator,
        Role::SystemOperator,
    ] {
        assert_eq!(refused(&officer("x", role)), Reason::NotAllowed("role"));
    }
    assert_eq!(approve(&proposal, &s3, 1, NOW).unwrap().phase, Phase::Done);
}

#[test]
fn a_new_passkey_waits_where_one_counts() {
    let [a, b, c] = ["a", "b", "c"].map(|name| officer(name, Role::SecurityOfficer));
    let measure = Measure::Account {
        officer: id("d"),
        account: PersonId::parse("officer.d").unwrap(),
        secret: Digest32([0; 32]),
    };
    let mut proposal = asked(measure, &a);
    let both = |p: &Proposal| approve(&approve(p, &b, 1, NOW).unwrap(), &c, 1, NOW).unwrap();
    assert_eq!(both(&proposal).phase, Phase::Done);
    proposal.document.facts.wait = Some(FACTORS_WAIT);
    let waits = both(&proposal);
    assert_eq!(
        (waits.phase, waits.due),
        (Phase::Waiting, Some(NOW.plus(FACTORS_WAIT)))
    );
}

#[test]
fn what_nobody_approved_or_took_in_time_is_over() {
    let operator = officer("o", Role::SystemOperator);
    let [a, b] = ["a", "b"].map(|name| officer(name, Role::SecurityOfficer));
    let measure = Measure::DeleteArchived {
        zone: Zone::Cm,
        archive: Digest32([0; 32]),
        size: 256,
    };
    let open = asked(measure, &operator);
    assert_eq!(open.overdue(NOW.plus(3599)), None);
    let over = open.overdue(NOW.plus(3600)).unwrap();
    assert_eq!(over.phase, Phase::Expired);
    assert_eq!(
        approve(&over, &a, 1, NOW.plus(3600)).unwrap_err(),
        Reason::Expired
    );
    let good = approve(&approve(&open, &a, 1, NOW).unwrap(), &b, 1, NOW).unwrap();
    assert_eq!(good.overdue(NOW.plus(TAKE_WITHIN - 1)), None);
    let over = good.overdue(NOW.plus(TAKE_WITHIN)).unwrap();
    assert_eq!(over.phase, Phase::Expired);
    assert_eq!(over.overdue(NOW.plus(TAKE_WITHIN)), None);
    for open in 0..MOST_OPEN {
        assert_eq!(check_room(open), Ok(()));
    }
    let full = Err(Reason::NotAllowed("too-many-open"));
    assert_eq!(check_room(MOST_OPEN), full);
}
