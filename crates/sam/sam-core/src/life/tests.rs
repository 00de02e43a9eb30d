use core_types::{KeyId, TenantId};

use super::*;

const CAUSES: [StopCause; 11] = [
    StopCause::Signer,
    StopCause::Login,
    StopCause::Hold,
    StopCause::Revoked,
    StopCause::Expired,
    StopCause::Left,
    StopCause::FactorsLost,
    StopCause::WrongValue,
    StopCause::HandedOver,
    StopCause::Provider,
    StopCause::Used,
];
const T: UnixTime = UnixTime(1000);

fn active() -> Life {
    Life::made().certified(UnixTime(5000)).unwrap()
}

fn notice(effect: NoticeEffect, iat: i64) -> RevocationNotice {
    RevocationNotice {
        sam: "sam".into(),
        tenant: TenantId::parse("t").unwrap(),
        key: KeyId::parse("k").unwrap(),
        cert: Digest32([1; 32]),
        effect,
        iat: UnixTime(iat),
    }
}

// shows: I-4.2.2c-termination-causes, I-4.2.2-life-cycle-phases
#[test]
fn every_cause_stops_or_destroys_and_nothing_else_does() {
    let suspending: Vec<_> = CAUSES
        .into_iter()
        .filter(|c| active().suspended(*c, None, T).is_ok())
        .collect();
    use StopCause as C;
    assert_eq!(suspending, [C::Signer, C::Login]);
    let destroying: Vec<_> = CAUSES
        .into_iter()
        .filter(|c| active().destroyed(*c, None, T).is_ok())
        .collect();
    assert_eq!(
        destroying,
        [
            C::Signer,
            C::Revoked,
            C::Expired,
            C::Left,
            C::FactorsLost,
            C::HandedOver,
            C::Provider,
            C::Used
        ]
    );
    for cause in suspending {
        assert!(!active().suspended(cause, None, T).unwrap().is_active(T));
    }
    for cause in destroying {
        let gone = active().destroyed(cause, None, T).unwrap();
        assert!(!gone.is_active(T) && gone.awaits_module());
        assert_eq!(gone.resumed(), Err(Reason::KeyNotActive));
        assert_eq!(gone.certified(T), Err(Reason::Used));
        assert_eq!(
            gone.suspended(C::Signer, None, T),
            Err(Reason::KeyNotActive)
        );
        assert_eq!(gone.destroyed(cause, None, T), Err(Reason::Used));
        let said = |after| Gone {
            unrecoverable_after: after,
            certificate: "c".into(),
        };
        // The device may be away: then the module is asked again.
        let half = gone.confirmed(said(None)).unwrap();
        assert!(half.awaits_module());
        let confirmed = half.confirmed(said(Some(T))).unwrap();
        assert!(!confirmed.awaits_module());
        assert_eq!(confirmed.confirmed(said(Some(T))), Err(Reason::Used));
    }
    let said = Gone {
        unrecoverable_after: None,
        certificate: String::new(),
    };
    assert_eq!(active().confirmed(said), Err(Reason::KeyNotActive));
    assert_eq!(
        Life::made().suspended(C::Signer, None, T),
        Err(Reason::KeyNotActive)
    );
    assert!(Life::made().destroyed(C::Signer, None, T).is_ok());
}

// shows: T-TERM-REPLAY, II-3.4-replay
#[test]
fn only_the_signers_own_stops_are_the_signers_to_lift() {
    for cause in [StopCause::Signer, StopCause::Login] {
        let stopped = active().suspended(cause, None, T).unwrap();
        assert_eq!(stopped.suspended(cause, None, T), Err(Reason::KeyNotActive));
        assert!(stopped.resumed().is_ok());
        let wrong = stopped.found_wrong(Digest32([7; 32]), T).unwrap();
        assert_eq!(wrong.resumed(), Err(Reason::KeyNotActive));
    }
    assert!(Life::made().found_wrong(Digest32([7; 32]), T).is_none());
    assert_eq!(active().resumed(), Err(Reason::KeyNotActive));
    // The call that stopped it once does nothing when it comes again after a resume.
    let seen = active().changes;
    let resumed = active()
        .stopped_by_login(seen, T)
        .unwrap()
        .resumed()
        .unwrap();
    assert!(resumed.is_active(T));
    assert_eq!(resumed.stopped_by_login(seen, T), Err(Reason::Used));
    assert!(resumed.stopped_by_login(resumed.changes, T).is_ok());
}

#[test]
fn the_providers_stop_lies_on_top_of_the_signers_own() {
    let by = Some(Digest32([7; 32]));
    let own = active().suspended(StopCause::Signer, None, T).unwrap();
    let both = own.stopped_by_provider(by, T.plus(1)).unwrap();
    let stop = both.stop.clone().unwrap();
    assert_eq!((stop.cause, stop.by), (StopCause::Provider, by));
    assert_eq!(stop.under.map(|u| u.cause), Some(StopCause::Signer));
    assert_eq!(both.resumed(), Err(Reason::KeyNotActive));
    // Once it is over, the signer's own stands, and is the signer's to lift.
    let back = both.resumed_by_provider().unwrap();
    assert_eq!((back.state, &back.stop), (own.state, &own.stop));
    assert!(back.resumed().is_ok());
    let alone = active().stopped_by_provider(by, T).unwrap();
    assert!(alone.resumed_by_provider().unwrap().is_active(T));

    // It doesn't lift what others stopped.
    let held = active().noticed(&notice(NoticeEffect::Hold, 10), Digest32([8; 32]), T);
    let held = held.unwrap().unwrap();
    let closed = Err(Reason::KeyNotActive);
    for stopped in [&alone, &both, &Life::made()] {
        assert_eq!(stopped.stopped_by_provider(by, T), closed);
    }
    for others in [&own, &held, &active(), &Life::made()] {
        assert_eq!(others.resumed_by_provider(), closed);
    }
    let wrong = active().found_wrong(Digest32([9; 32]), T).unwrap();
    assert!(wrong.resumed_by_provider().is_ok());
    let gone = active().destroyed(StopCause::Provider, by, T).unwrap();
    for (life, good) in [
        (&alone, true),
        (&both, true),
        (&wrong, true),
        (&gone, true),
        (&held.stopped_by_provider(by, T).unwrap(), true),
        (&own, false),
        (&held, false),
        (&active(), false),
        (&Life::made(), false),
    ] {
        assert_eq!(life.is_stopped_for_good(), good, "{life:?}");
    }
}

/// The causes of what stops it, the latest first.
fn causes(life: &Life) -> Vec<StopCause> {
    life.stops().map(|stop| stop.cause).collect()
}

// shows: T-KEY-ABUSE, T-KEY-MALFUNCTION, I-4.2.2c-termination-causes
#[test]
fn a_wrong_value_wipes_out_nobodys_stop() {
    use StopCause as C;
    let (act, by) = (Digest32([7; 32]), Digest32([8; 32]));
    let step = |life: &Life, effect, iat| {
        let told = life.noticed(&notice(effect, iat), by, T);
        told.unwrap().unwrap()
    };
    let own = active().suspended(C::Signer, Some(by), T).unwrap();
    let held = step(&own, NoticeEffect::Hold, 10);
    let wrong = held.found_wrong(act, T.plus(1)).unwrap();
    assert_eq!(causes(&wrong), [C::WrongValue, C::Hold, C::Signer]);
    // Another one changes nothing about that.
    let wrong = wrong.found_wrong(act, T.plus(2)).unwrap();
    assert_eq!(causes(&wrong), [C::WrongValue, C::Hold, C::Signer]);
    assert_eq!(wrong.resumed(), Err(Reason::KeyNotActive));
    let left = wrong.resumed_by_provider().unwrap();
    assert_eq!((left.state, &left.stop), (held.state, &held.stop));
    assert_eq!(left.resumed(), Err(Reason::KeyNotActive));
    let left = step(&left, NoticeEffect::Released, 11);
    assert_eq!((left.state, &left.stop), (own.state, &own.stop));
    assert!(left.resumed().unwrap().is_active(T));

    // Whoever is first to lift their own: the others' stay.
    let first = step(&wrong, NoticeEffect::Released, 11);
    assert_eq!(causes(&first), [C::WrongValue, C::Signer]);
    let left = first.resumed_by_provider().unwrap();
    assert_eq!((left.state, &left.stop), (own.state, &own.stop));

    // What the provider had stopped is lifted by a decision of its own.
    let provider = active().stopped_by_provider(Some(by), T).unwrap();
    let both = provider.found_wrong(act, T).unwrap();
    let left = both.resumed_by_provider().unwrap();
    assert_eq!((left.state, &left.stop), (provider.state, &provider.stop));
    assert!(left.resumed_by_provider().unwrap().is_active(T));

    // A key that leaves goes on leaving, once the provider lets it.
    let leaving = active().leaving(by, T).unwrap();
    let wrong = leaving.found_wrong(act, T).unwrap();
    assert!(!wrong.is_leaving());
    assert!(wrong.resumed_by_provider().unwrap().is_leaving());
}

// shows: T-KEY-ABUSE, I-4.2.2c-termination-causes
#[test]
fn the_provider_stops_a_key_that_its_authority_holds_before_it_is_released() {
    let (by, at) = (Digest32([7; 32]), T.plus(1));
    let step = |life: &Life, effect, iat| {
        let told = life.noticed(&notice(effect, iat), Digest32([8; 32]), T);
        told.unwrap().unwrap()
    };
    let own = active().suspended(StopCause::Login, None, T).unwrap();
    for (before, alone) in [(active(), true), (own, false)] {
        let held = step(&before, NoticeEffect::Hold, 10);
        let both = held.stopped_by_provider(Some(by), at).unwrap();
        assert_eq!(both.stop.as_ref().unwrap().cause, StopCause::Provider);
        // The release lifts the hold under it, and nothing else.
        let released = step(&both, NoticeEffect::Released, 11);
        assert_eq!(released.resumed(), Err(Reason::KeyNotActive));
        assert!(released.is_stopped_for_good());
        let back = released.resumed_by_provider().unwrap();
        assert_eq!(back.stop, before.stop);
        assert_eq!(back.is_active(T), alone);
        // The officers' word lifts theirs, and not the hold, whichever lies on top.
        let again = step(&both, NoticeEffect::Hold, 11);
        for both in [&both, &again] {
            assert!(both.is_stopped_for_good());
            let left = both.resumed_by_provider().unwrap();
            assert_eq!(left.state, KeyState::Suspended);
            assert_eq!(left.stop.as_ref().unwrap().cause, StopCause::Hold);
            assert_eq!(left.resumed_by_provider(), Err(Reason::KeyNotActive));
        }
    }
    let leaving = active().leaving(by, T).unwrap();
    let stopped = leaving.stopped_by_provider(Some(by), at).unwrap();
    assert!(!stopped.is_leaving());
    assert!(stopped.resumed_by_provider().unwrap().is_leaving());
}

// shows: III-3-9-attributed-keys
#[test]
fn a_key_that_leaves_is_used_no_more_unless_the_module_keeps_it() {
    let act = Digest32([7; 32]);
    let own = active().suspended(StopCause::Login, None, T).unwrap();
    for before in [active(), own] {
        let leaving = before.leaving(act, T).unwrap();
        assert!(leaving.is_leaving() && !leaving.is_active(T));
        assert_eq!(leaving.resumed(), Err(Reason::KeyNotActive));
        assert_eq!(leaving.leaving(act, T), Err(Reason::KeyNotActive));
        let kept = leaving.stays(T).unwrap();
        assert!(kept.resumed().unwrap().is_active(T));
        assert_eq!(kept.stays(T), Err(Reason::KeyNotActive));
        let gone = leaving.destroyed(StopCause::HandedOver, Some(act), T);
        assert!(gone.unwrap().awaits_module());
    }
    let held = active()
        .noticed(&notice(NoticeEffect::Hold, 10), act, T)
        .unwrap();
    assert_eq!(held.unwrap().leaving(act, T), Err(Reason::KeyNotActive));
    let wrong = active().found_wrong(act, T).unwrap();
    assert_eq!(wrong.leaving(act, T), Err(Reason::KeyNotActive));
    assert!(Life::made().leaving(act, T).is_err());
}

// shows: T-TERM-REPLAY, I-A4.2-revocation-prompt-destruction
#[test]
fn notices_count_once_in_their_order() {
    let by = Digest32([9; 32]);
    let step = |life: &Life, effect, iat| life.noticed(&notice(effect, iat), by, T);
    let held = step(&active(), NoticeEffect::Hold, 10).unwrap().unwrap();
    assert_eq!(
        (held.state, held.resumed()),
        (KeyState::Suspended, Err(Reason::KeyNotActive))
    );
    assert_eq!(held.stop.as_ref().unwrap().by, Some(by));
    assert_eq!(step(&held, NoticeEffect::Released, 10), Err(Reason::Used));
    let free = step(&held, NoticeEffect::Released, 11).unwrap().unwrap();
    assert!(free.is_active(T));
    assert_eq!(step(&free, NoticeEffect::Hold, 10), Err(Reason::Used));
    assert_eq!(
        step(&free, NoticeEffect::Released, 12),
        Err(Reason::KeyNotActive)
    );
    // A hold comes on top of the signer's own stop, and can't be lifted by the signer.
    let own = active().suspended(StopCause::Signer, None, T).unwrap();
    let both = step(&own, NoticeEffect::Hold, 10).unwrap().unwrap();
    assert_eq!(both.resumed(), Err(Reason::KeyNotActive));
    // Nor does the end of a hold, however often it was repeated, lift what the signer stopped.
    let again = step(&both, NoticeEffect::Hold, 11).unwrap().unwrap();
    for held in [&both, &again] {
        let own_again = step(held, NoticeEffect::Released, 12).unwrap().unwrap();
        assert!(!own_again.is_active(T));
        assert_eq!(own_again.stop, own.stop);
        assert!(own_again.resumed().unwrap().is_active(T));
    }
    // An authority can't clear a key whose values were wrong, but holds it all the same.
    let wrong = active().found_wrong(Digest32([7; 32]), T).unwrap();
    assert_eq!(
        step(&wrong, NoticeEffect::Released, 10),
        Err(Reason::KeyNotActive)
    );
    let held = step(&wrong, NoticeEffect::Hold, 10).unwrap().unwrap();
    let free = step(&held, NoticeEffect::Released, 11).unwrap().unwrap();
    assert_eq!(free.stop, wrong.stop);
    let free = held.resumed_by_provider().unwrap();
    assert_eq!(free.stop.as_ref().unwrap().cause, StopCause::Hold);
    let gone = step(&wrong, NoticeEffect::Revoked, 10).unwrap().unwrap();
    assert_eq!(gone.stop.as_ref().unwrap().cause, StopCause::Revoked);
    assert_eq!(step(&gone, NoticeEffect::Revoked, 11), Ok(None));
    assert!(step(&Life::made(), NoticeEffect::Hold, 1).is_err());
}

// shows: I-A4.2-revocation-prompt-destruction
#[test]
fn a_revocation_counts_whatever_notice_came_before_it() {
    let by = Digest32([9; 32]);
    let step = |life: &Life, effect, iat| life.noticed(&notice(effect, iat), by, T);
    let held = step(&active(), NoticeEffect::Hold, 10).unwrap().unwrap();
    let free = step(&held, NoticeEffect::Released, 300).unwrap().unwrap();
    for before in [&held, &free] {
        for iat in [1, 10, 300] {
            let gone = step(before, NoticeEffect::Revoked, iat).unwrap().unwrap();
            assert_eq!(gone.stop.as_ref().unwrap().cause, StopCause::Revoked);
        }
    }
}

// shows: I-4.2.2c-termination-causes
#[test]
fn a_key_ends_with_its_certificate_to_the_second() {
    let life = active();
    assert!(life.is_active(UnixTime(4999)) && life.expired(UnixTime(4999)).is_none());
    assert!(!life.is_active(UnixTime(5000)));
    let gone = life.expired(UnixTime(5000)).unwrap();
    assert_eq!(gone.stop.as_ref().unwrap().cause, StopCause::Expired);
    assert!(gone.expired(UnixTime(5001)).is_none());
    let stopped = life.suspended(StopCause::Signer, None, T).unwrap();
    assert!(stopped.expired(UnixTime(5000)).is_some());
    assert!(Life::made().expired(UnixTime(9999)).is_none());
    assert!(!Life::made().is_active(T));
}
