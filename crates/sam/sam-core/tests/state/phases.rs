//! What an act of each kind still allows in each phase, and until which second.

use core_types::{
    B64, Digest32, FactorId, HashAlg, KeyAlg, KeyId, OriginCase, PersonId, SecretBytes, VoucherId,
};
use sam_core::change::Change;
use sam_core::enrol::Seed;
use sam_core::import::{CA_BRINGS, Coming};
use sam_core::state::{CLOCKS_DIFFER, Items, MAX_SPOILED, Phase, Renewal, SIGN_WINDOW, Subject};
use sam_core::{ActState, Reason};
use sap::Item;
use sap::act::MAX_LIFE;
use sap::manage::FactorChange;
use sap::messages::ActOutcome;
use sap::proof::Method;

use super::{EPOCH, GRANT, T, approved, client, h, key, minted, now, take};

fn of(subject: Subject) -> ActState {
    ActState {
        subject,
        ..minted(&[1]).1
    }
}

fn factor() -> FactorId {
    FactorId::parse("f").unwrap()
}

fn change(change: FactorChange) -> ActState {
    of(Subject::Change {
        request: EPOCH,
        registration: VoucherId::parse("v").unwrap(),
        change: Change::Factor { change },
    })
}

fn adds(method: Method) -> ActState {
    change(FactorChange::Add { method })
}

/// A key that may be brought for the longest time there is.
fn import() -> ActState {
    let coming = Coming {
        alg: KeyAlg::P256,
        spki: EPOCH,
        case: OriginCase::CaDirect,
        until: T.plus(CA_BRINGS),
    };
    of(Subject::Import {
        request: EPOCH,
        registration: VoucherId::parse("v").unwrap(),
        coming,
    })
}

fn agreed(state: &ActState) -> ActState {
    state
        .approve(EPOCH, EPOCH, Method::Passkey, factor(), now(1))
        .unwrap()
}

#[test]
fn a_phase_is_called_what_its_json_says() {
    for phase in [
        Phase::Open,
        Phase::Approved,
        Phase::Closed,
        Phase::Refused,
        Phase::Superseded,
        Phase::Dead,
    ] {
        assert_eq!(serde_json::to_value(phase).unwrap(), phase.name());
    }
}

#[test]
fn a_right_is_good_for_its_window_and_for_no_clock_that_was_set_back() {
    let (_, signing) = approved(&[1]);
    let until = SIGN_WINDOW + 1;
    for (at, good) in [
        (until - 1, Ok(())),
        (until, Err(Reason::Expired)),
        (1 - CLOCKS_DIFFER, Ok(())),
        (-CLOCKS_DIFFER, Err(Reason::NotNow)),
    ] {
        assert_eq!(signing.check_right(now(at)).map(drop), good, "{at}");
    }
    let bringing = agreed(&import());
    for (at, good) in [
        (CA_BRINGS - 1, Ok(())),
        (CA_BRINGS, Err(Reason::Expired)),
        (-MAX_LIFE - CLOCKS_DIFFER, Ok(())),
        (-MAX_LIFE - CLOCKS_DIFFER - 1, Err(Reason::NotNow)),
    ] {
        assert_eq!(bringing.check_right(now(at)).map(drop), good, "{at}");
    }
}

#[test]
fn acts_of_older_builds_began_five_minutes_before_their_end() {
    let (_, state) = minted(&[1]);
    assert_eq!(state.began(), T);
    let old = ActState {
        iat: None,
        exp: T.plus(1000),
        ..state
    };
    assert_eq!(old.began(), T.plus(1000 - MAX_LIFE));
}

#[test]
fn what_the_page_hears_is_what_became_of_the_act() {
    let (_, open) = minted(&[1]);
    let outcome = |state: &ActState, at| state.outcome(now(at));
    assert_eq!(outcome(&open, 299), ActOutcome::Open);
    assert_eq!(outcome(&open, 300), ActOutcome::Expired);
    let refused = open.refuse(now(1)).unwrap();
    assert_eq!(outcome(&refused, 1), ActOutcome::Refused);
    let later = open.supersede().unwrap();
    assert_eq!(outcome(&later, 1), ActOutcome::Expired);
    assert_eq!(outcome(&agreed(&open), 1), ActOutcome::Approved);
    assert_eq!(open.check_right(now(1)).unwrap_err(), Reason::NotApproved);
    for gone in [refused, later] {
        let right = gone.check_right(now(1)).map(drop);
        assert_eq!(right, Err(Reason::Withdrawn));
    }
}

#[test]
fn a_token_is_bound_once() {
    let (_, state) = approved(&[1]);
    let bound = state.bind(GRANT, now(3)).unwrap();
    assert_eq!(bound, state);
    let other = state.bind(Digest32([8; 32]), now(3));
    assert_eq!(other.unwrap_err(), Reason::Used);
}

#[test]
fn a_seed_is_handed_out_once_and_gone_with_the_approval() {
    let seed = || Seed {
        act: EPOCH,
        seed: SecretBytes::new(vec![1; 20]),
    };
    let adding = adds(Method::PinTotp);
    let with = adding.with_seed(seed(), now(1)).unwrap();
    assert_eq!(with.seed, Some(seed()));
    assert_eq!(with.with_seed(seed(), now(1)).unwrap_err(), Reason::Used);
    assert_eq!(agreed(&with).seed, None);
    let (_, signing) = minted(&[1]);
    for other in [adds(Method::Passkey), signing] {
        let refused = other.with_seed(seed(), now(1)).unwrap_err();
        assert_eq!(refused, Reason::OtherKind);
        assert_eq!(other.enrolled(now(1)).unwrap_err(), Reason::OtherKind);
    }
    let enrolling = of(Subject::Enrol {
        voucher: VoucherId::parse("v").unwrap(),
        ends: None,
    });
    assert_eq!(enrolling.enrolled(now(1)).unwrap().phase, Phase::Closed);
    assert_eq!(enrolling.enrolled(now(300)).unwrap_err(), Reason::Expired);
}

#[test]
fn an_act_closes_with_its_last_item() {
    let (act, state) = approved(&[1, 2]);
    let one = take(&act, &state, &[h(1)]).unwrap().done(0, 0).unwrap();
    assert_eq!(one.phase, Phase::Approved);
    for outcome in [ActState::done, ActState::lost] {
        let all = take(&act, &state, &[h(1), h(2)]).unwrap();
        let over = outcome(&all, 0, 0).unwrap();
        assert_eq!(over.phase, Phase::Closed);
        assert!(over.items.used_up() && !over.items.is_empty());
    }
    assert!(Items::free(0).is_empty());
    // A state of another number of items is none of this act.
    let longer = ActState {
        items: Items::free(3),
        ..state
    };
    let refused = take(&act, &longer, &[h(1)]).unwrap_err();
    assert_eq!(refused, Reason::HashNotApproved);
}

#[test]
fn only_wrong_wishes_for_a_right_spoil_it() {
    let (_, state) = approved(&[1]);
    for counts in [
        Reason::Mismatch,
        Reason::AlgorithmNotApproved,
        Reason::HashNotApproved,
    ] {
        assert_eq!(state.spoil(&counts).unwrap().spoiled, 1);
        assert_eq!(minted(&[1]).1.spoil(&counts), None);
    }
    for other in [Reason::Expired, Reason::NotFound, Reason::Used] {
        assert_eq!(state.spoil(&other), None);
    }
}

#[test]
fn a_chain_goes_on_with_either_hash_of_a_document() {
    let (mut act, state) = approved(&[1, 2]);
    act.renew = T.0 + SIGN_WINDOW + 5;
    act.items[0] = Item::Doc {
        ha: HashAlg::Sha256,
        h: h(1),
        label: String::new(),
        d: h(9),
        m: EPOCH,
        ranges: None,
    };
    let (client, key) = (client(), key());
    let renewed = |hashes: &[B64]| {
        let asked = Renewal {
            grant: GRANT,
            next: Digest32([9; 32]),
            client: &client,
            key: &key,
            hashes,
        };
        state.renew(&act, asked, now(3)).map(|s| s.step)
    };
    for hashes in [vec![], vec![h(1)], vec![h(9)], vec![h(2), h(9)]] {
        assert_eq!(renewed(&hashes), Ok(1), "{hashes:?}");
    }
    // Each step has the whole window again, and none goes beyond the end of the chain.
    for (at, until) in [(3, SIGN_WINDOW + 3), (7, SIGN_WINDOW + 5)] {
        let next = Renewal {
            grant: GRANT,
            next: Digest32([9; 32]),
            client: &client,
            key: &key,
            hashes: &[],
        };
        let next = state.renew(&act, next, now(at)).unwrap();
        assert_eq!(next.approval.unwrap().sign_until, T.plus(until), "{at}");
    }
    for hashes in [vec![h(3)], vec![h(1), h(9)], vec![h(2), h(2)]] {
        assert_eq!(renewed(&hashes), Err(Reason::HashNotApproved));
    }
}

// shows: III-3-15-import-L2
#[test]
fn a_key_is_brought_after_its_approval_in_ten_tries_and_once() {
    let waiting = import();
    assert_eq!(waiting.may_bring(now(1)).unwrap_err(), Reason::NotApproved);
    let mut tried = agreed(&waiting);
    for n in 1..=MAX_SPOILED {
        tried = tried.try_bring(now(2)).unwrap();
        assert_eq!((tried.spoiled, tried.phase), (n, Phase::Approved));
    }
    let dead = tried.try_bring(now(2)).unwrap();
    assert_eq!(dead.phase, Phase::Dead);
    assert_eq!(dead.may_bring(now(2)).unwrap_err(), Reason::Used);
    let closed = tried.brought(now(2)).unwrap();
    assert_eq!(closed.phase, Phase::Closed);
    assert_eq!(closed.may_bring(now(2)).unwrap_err(), Reason::Used);
    assert_eq!(closed.brought(now(2)).unwrap_err(), Reason::Used);
    let (_, signing) = approved(&[1]);
    assert_eq!(signing.may_bring(now(2)).unwrap_err(), Reason::OtherKind);
    let late = agreed(&import()).may_bring(now(CA_BRINGS)).map(drop);
    assert_eq!(late, Err(Reason::Expired));
}

#[test]
fn the_request_of_an_act_is_known_where_there_is_one() {
    for state in [import(), adds(Method::Passkey), minted(&[1]).1] {
        assert_eq!(state.subject.request(), Some(EPOCH));
    }
    let officer = Subject::Officer { proposal: None };
    assert_eq!(officer.request(), None);
    let key = KeyId::parse("k").unwrap();
    let stop = Change::Suspend {
        key: key.clone(),
        changes: 3,
    };
    assert_eq!(stop.key(), Some((&key, 3)));
    let leave = Change::Leave { of: EPOCH };
    assert_eq!(leave.key(), None);
    assert_eq!(import().person, PersonId::parse("p").unwrap());
}
