//! Every kind of act ends with its request, to the second.

use core_types::random::SeededRandom;
use core_types::{KeyAlg, KeyId, Level, PersonId, TenantId, UnixTime};
use sam_core::act::{
    EnrolContent, Issuer, MAX_RENEW, MAX_REQUEST_LIFE, OfficerContent, mint_enrol, mint_officer,
    mint_sign_open,
};
use sam_core::change::{Change, ChangeContent, mint};
use sam_core::office::genesis::MAX_INVITATION;
use sam_core::office::people::{DUE, MAX_TERM};
use sam_core::office::proposal::{FACTORS_OPEN, FACTORS_WAIT, MAX_PROPOSAL, TAKE_WITHIN};
use sam_core::{Reason, attest, evidence, pin};
use sap::act::{MAX_LIFE, Person, Since};
use sap::enrol::InvitedBy;
use sap::proof::Method;

use super::voucher::invite;
use super::{EPOCH, T, content};

fn issuer(tenant: &TenantId) -> Issuer<'_> {
    Issuer {
        sam: "sam",
        tenant,
        brand: None,
        epoch: EPOCH,
        policy: 1,
    }
}

fn person() -> Person {
    Person {
        id: PersonId::parse("p").unwrap(),
        name: "p".into(),
    }
}

/// When an act minted at this second ends, for every kind that has a request which ends at [`until`].
fn ends(at: UnixTime) -> [Result<UnixTime, Reason>; 4] {
    let tenant = TenantId::parse("t").unwrap();
    let (issuer, random) = (issuer(&tenant), SeededRandom::new(1));
    let open = mint_sign_open(issuer, content(Vec::new()), (2, 3600), at, &random);
    let invite = invite();
    let enrol = EnrolContent {
        invite: &invite,
        by: InvitedBy::Ssa,
        ceiling: Level::One,
        methods: &[Method::Passkey],
        replaces: None,
        rp_id: "localhost",
        return_uri: "http://localhost/",
    };
    let enrol = mint_enrol(issuer, enrol, at, &random);
    let officer = OfficerContent {
        level: Level::One,
        person: person(),
        what: "role".into(),
        document: EPOCH,
        text: "x".into(),
        needs: 2,
        since: Since::default(),
        return_uri: "http://localhost/".into(),
        until: until(),
    };
    let officer = mint_officer(issuer, officer, at, &random);
    let change = ChangeContent {
        change: Change::Suspend {
            key: KeyId::parse("k").unwrap(),
            changes: 0,
        },
        registration: invite.voucher.clone(),
        level: Level::One,
        person: person(),
        key: Some((content(Vec::new()).key, KeyAlg::P256)),
        keys: Vec::new(),
        factors: Vec::new(),
        rp_id: "localhost".into(),
        since: Since::default(),
        return_uri: "http://localhost/".into(),
        until: until(),
    };
    let change = mint(issuer, change, at, &random);
    [
        open.map(|act| act.exp),
        enrol.map(|act| act.exp),
        officer.map(|act| act.exp),
        change.map(|act| act.head().exp),
    ]
}

fn until() -> UnixTime {
    content(Vec::new()).until
}

// shows: T-USE-SAP-BYPASS
#[test]
fn no_kind_of_act_outlives_its_request_or_five_minutes() {
    for end in ends(T) {
        assert_eq!(end, Ok(T.plus(MAX_LIFE)));
    }
    for end in ends(until().plus(-1)) {
        assert_eq!(end, Ok(until()));
    }
    for end in ends(until()) {
        assert_eq!(end, Err(Reason::Expired));
    }
}

/// What `sap.md` §4 and the operators' documents promise.
#[test]
fn bounds_are_those_that_are_written_down() {
    assert_eq!(
        (MAX_LIFE, MAX_RENEW, MAX_REQUEST_LIFE),
        (300, 3_600, 86_400)
    );
    assert_eq!(attest::MAX_METADATA, 67_108_864);
    assert_eq!(evidence::Revocation::LONGEST, 262_144);
    assert_eq!((pin::MEMORY_KIB, pin::PASSES, pin::LANES), (19_456, 2, 1));
    let (hour, day) = (3_600, 86_400);
    assert_eq!((MAX_PROPOSAL, TAKE_WITHIN), (7 * day, day));
    assert_eq!((FACTORS_WAIT, FACTORS_OPEN), (72 * hour, 7 * day));
    assert_eq!(
        (MAX_TERM, DUE, MAX_INVITATION),
        (1_098 * day, 30 * day, day)
    );
}
