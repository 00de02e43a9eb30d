//! The state machine of an act, and the matching of what is asked with what was approved.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "state/certificate.rs"]
mod certificate;
#[path = "state/members.rs"]
mod members;
#[path = "state/mint.rs"]
mod mint;
#[path = "state/model.rs"]
mod model;
#[path = "state/office.rs"]
mod office;
#[path = "state/phases.rs"]
mod phases;
#[path = "state/voucher.rs"]
mod voucher;

use std::collections::BTreeMap;

use core_types::{
    B64, ClientId, Digest32, FactorId, HashAlg, KeyAlg, KeyId, Level, PersonId, SigAlg, TenantId,
    UnixTime,
};
use proptest::prelude::*;
use sam_core::act::{Issuer, SignContent, mint_sign};
use sam_core::state::{Asked, ItemState, MAX_TRIES, Now, Phase, Plan, SIGN_WINDOW, Subject};
use sam_core::{ActState, Reason};
use sap::act::{ActClient, ActKey, Person, Since};
use sap::proof::Method;
use sap::{Act, Item, SignAct};

const T: UnixTime = UnixTime(1_000_000);
const EPOCH: Digest32 = Digest32([1; 32]);
const GRANT: Digest32 = Digest32([2; 32]);
const ALG: SigAlg = SigAlg::Ecdsa(HashAlg::Sha256);

fn now(seconds: i64) -> Now {
    Now {
        time: T.plus(seconds),
        epoch: EPOCH,
        policy: 1,
    }
}

fn h(n: u8) -> B64 {
    B64(vec![n; 32])
}

fn client() -> ClientId {
    ClientId::parse("c").unwrap()
}

fn key() -> KeyId {
    KeyId::parse("k").unwrap()
}

fn item(ha: HashAlg, h: B64) -> Item {
    Item::Hash {
        ha,
        h,
        label: String::new(),
    }
}

/// What is asked for until 1,000 s from now.
fn content(items: Vec<Item>) -> SignContent {
    SignContent {
        level: Level::One,
        declared: Vec::new(),
        person: Person {
            id: PersonId::parse("p").unwrap(),
            name: "p".into(),
        },
        key: ActKey {
            id: key(),
            version: 1,
            spki: EPOCH,
            cert: EPOCH,
            subject: "CN=p".into(),
        },
        alg: KeyAlg::P256,
        client: ActClient {
            id: client(),
            name: "c".into(),
            known: true,
            signed: false,
        },
        items,
        renew: 0,
        since: Since::default(),
        return_uri: "http://localhost/".into(),
        until: T.plus(1000),
    }
}

fn mint(content: SignContent, at: UnixTime) -> Result<SignAct, Reason> {
    let tenant = TenantId::parse("t").unwrap();
    let issuer = Issuer {
        sam: "sam",
        tenant: &tenant,
        brand: None,
        epoch: EPOCH,
        policy: 1,
    };
    let random = core_types::random::SeededRandom::new(1);
    mint_sign(issuer, content, at, &random)
}

fn minted(hashes: &[u8]) -> (SignAct, ActState) {
    let items = hashes.iter().map(|n| item(HashAlg::Sha256, h(*n)));
    let act = mint(content(items.collect()), T).unwrap();
    let subject = Subject::Sign {
        request: EPOCH,
        key: key(),
        key_version: 1,
        client: client(),
        service: "ssa".into(),
        open_until: None,
        one_time: false,
    };
    let state = ActState::minted(subject, Act::Sign(act.clone()).head(), hashes.len());
    (act, state)
}

fn approved(hashes: &[u8]) -> (SignAct, ActState) {
    let (act, state) = minted(hashes);
    let factor = FactorId::parse("f").unwrap();
    let state = state
        .approve(EPOCH, EPOCH, Method::Passkey, factor, now(1))
        .unwrap();
    (act, state.bind(GRANT, now(2)).unwrap())
}

fn plan(act: &SignAct, state: &ActState, hashes: &[B64], at: Now) -> Result<Plan, Reason> {
    let (client, key) = (client(), key());
    let asked = Asked {
        grant: GRANT,
        client: &client,
        key: &key,
        alg: ALG,
        hashes,
        idempotency_key: None,
    };
    state.plan(act, asked, at, 30)
}

fn take(act: &SignAct, state: &ActState, hashes: &[B64]) -> Result<ActState, Reason> {
    match plan(act, state, hashes, now(3))? {
        Plan::Take(next) => Ok(*next),
        other => panic!("{other:?}"),
    }
}

// shows: II-3.3.1-sad-verified
#[test]
fn an_act_is_approved_while_open_and_current_only() {
    let (_, state) = minted(&[1]);
    let approve = |state: &ActState, now| {
        state.approve(
            EPOCH,
            EPOCH,
            Method::Passkey,
            FactorId::parse("f").unwrap(),
            now,
        )
    };
    assert!(approve(&state, now(299)).is_ok());
    assert_eq!(approve(&state, now(300)).unwrap_err(), Reason::Expired);
    assert_eq!(approve(&state, now(-6)).unwrap_err(), Reason::NotNow);
    let other = Now {
        epoch: Digest32([9; 32]),
        ..now(1)
    };
    assert_eq!(approve(&state, other).unwrap_err(), Reason::OtherEpoch);
    assert_eq!(
        approve(
            &state,
            Now {
                policy: 2,
                ..now(1)
            }
        )
        .unwrap_err(),
        Reason::PolicyChanged
    );
    let done = approve(&state, now(1)).unwrap();
    assert_eq!(approve(&done, now(1)).unwrap_err(), Reason::Used);
    // The first moment of its life is the last one that a clock which was set back may show.
    assert!(approve(&state, now(-5)).is_ok());
    assert_eq!(
        approve(&state.refuse(now(1)).unwrap(), now(1)).unwrap_err(),
        Reason::Withdrawn
    );
    assert_eq!(
        approve(&state.supersede().unwrap(), now(1)).unwrap_err(),
        Reason::Withdrawn
    );
    assert_eq!(done.supersede(), None);
}

// shows: I-7.1.2.5-authentication-failure-lockout
#[test]
fn an_act_lasts_no_longer_than_its_request_and_is_renewed_for_an_hour_at_most() {
    let one = || vec![item(HashAlg::Sha256, h(1))];
    let last = mint(content(one()), T.plus(999)).unwrap();
    assert_eq!(last.exp, T.plus(1000));
    let late = mint(content(one()), T.plus(1000));
    assert_eq!(late.unwrap_err(), Reason::Expired);
    for (asked, until) in [(-5, 0), (0, 0), (100, T.0 + 100), (10_000, T.0 + 3600)] {
        let mut wanted = content(one());
        wanted.renew = asked;
        assert_eq!(mint(wanted, T).unwrap().renew, until, "{asked}");
    }
    // One item that the key can't sign is one too many.
    let mixed = vec![
        item(HashAlg::Sha256, h(1)),
        item(HashAlg::Sha512, B64(vec![2; 64])),
    ];
    let mixed = mint(content(mixed), T);
    assert_eq!(mixed.unwrap_err(), Reason::AlgorithmNotApproved);
}

#[test]
fn tries_are_counted_and_the_last_failure_kills() {
    let (_, mut state) = minted(&[1]);
    for _ in 0..MAX_TRIES {
        assert_eq!(state.after_failure(), None);
        state = state.try_secret(now(1)).unwrap();
    }
    assert_eq!(state.try_secret(now(1)).unwrap_err(), Reason::TooManyTries);
    let dead = state.after_failure().unwrap();
    assert_eq!(dead.check_open(now(1)).unwrap_err(), Reason::TooManyTries);
}

// shows: II-A1-sad-once, T-USE-SAP-REPLAY
#[test]
fn a_grant_is_used_once_and_its_outcome_is_final() {
    let (act, state) = approved(&[1, 2]);
    let taken = take(&act, &state, &[h(1)]).unwrap();
    assert_eq!(
        plan(&act, &taken, &[h(1)], now(4)).unwrap_err(),
        Reason::Used
    );
    assert_eq!(taken.items.get(0), ItemState::Taken);
    let done = taken.done(0, 0).unwrap();
    assert_eq!(
        (done.items.get(0), done.items.get(1)),
        (ItemState::Done, ItemState::Free)
    );
    assert_eq!(done.phase, Phase::Approved);
    assert_eq!(done.done(0, 0).unwrap_err(), Reason::Lost);
    assert_eq!(done.lost(0, 0).unwrap_err(), Reason::Lost);
    assert_eq!(
        plan(&act, &done, &[h(2)], now(4)).unwrap_err(),
        Reason::Used
    );
    // A second attempt makes the first one's answer worthless.
    let again = taken.again(0, 0).unwrap();
    assert_eq!(again.done(0, 0).unwrap_err(), Reason::Lost);
    assert!(again.done(0, 1).is_ok());
    // Given up: a late answer is worthless, and so is the right.
    assert_eq!(taken.give_up(now(3).time), None);
    let lost = taken.give_up(now(33).time).unwrap();
    assert_eq!(lost.done(0, 0).unwrap_err(), Reason::Lost);
    assert!(
        matches!(plan(&act, &taken, &[h(1)], now(33)).unwrap(), Plan::GiveUp(next) if *next == lost)
    );
    assert_eq!(
        plan(&act, &state, &[h(1)], now(1 + SIGN_WINDOW)).unwrap_err(),
        Reason::Expired
    );
}

// shows: T-USE-DTBSR-FORGE
#[test]
fn a_document_is_signed_once_though_it_answers_to_two_hashes() {
    let (mut act, state) = approved(&[1, 2]);
    act.items[0] = Item::Doc {
        ha: HashAlg::Sha256,
        h: h(1),
        label: String::new(),
        d: h(9),
        m: EPOCH,
        ranges: None,
    };
    for one in [h(1), h(9)] {
        let next = take(&act, &state, &[one, h(2)]).unwrap();
        assert_eq!(next.job.unwrap().indices, [0, 1]);
    }
    assert_eq!(
        take(&act, &state, &[h(1), h(9)]).unwrap_err(),
        Reason::HashNotApproved
    );
    assert_eq!(
        take(&act, &state, &[h(9), h(9)]).unwrap_err(),
        Reason::HashNotApproved
    );
}

#[test]
fn a_state_survives_its_json() {
    let (act, state) = approved(&[1, 2, 2]);
    let taken = take(&act, &state, &[h(2), h(1)]).unwrap();
    let json = serde_json::to_string(&taken).unwrap();
    assert!(json.contains("\"ttf\""));
    assert_eq!(serde_json::from_str::<ActState>(&json).unwrap(), taken);
}

proptest! {
    // shows: T-USE-DTBSR-FORGE, T-KEY-MISUSE, I-4.2.2b-sad-per-document-or-batch, I-6.1-no-unintended-document
    #[test]
    fn what_is_asked_must_be_a_sub_multiset(
        have in proptest::collection::vec(0u8..4, 1..12),
        asked in proptest::collection::vec(0u8..5, 1..12),
    ) {
        let count = |list: &[u8]| list.iter().fold(BTreeMap::new(), |mut m: BTreeMap<u8, usize>, n| {
            *m.entry(*n).or_default() += 1;
            m
        });
        let (supply, demand) = (count(&have), count(&asked));
        let fits = demand.iter().all(|(n, wanted)| supply.get(n).is_some_and(|s| s >= wanted));
        let (act, state) = approved(&have);
        let hashes: Vec<B64> = asked.iter().map(|n| h(*n)).collect();
        match take(&act, &state, &hashes) {
            Ok(next) => {
                prop_assert!(fits);
                let job = next.job.unwrap();
                let mut distinct = job.indices.clone();
                distinct.sort_unstable();
                distinct.dedup();
                prop_assert_eq!(distinct.len(), asked.len());
                for (index, n) in job.indices.iter().zip(&asked) {
                    prop_assert_eq!(have[*index as usize], *n);
                    prop_assert_eq!(next.items.get(*index), ItemState::Taken);
                }
            }
            Err(reason) => {
                prop_assert!(!fits);
                prop_assert_eq!(reason, Reason::HashNotApproved);
            }
        }
    }
}
