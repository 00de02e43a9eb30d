//! The list of proposals: what waits for others is never hidden behind much else (`sap.md` §14, 54).

use core_types::{Digest32, SecretBytes};
use futures_util::future::join_all;
use sam_core::office::proposal::MOST_OPEN;
use sap::office::calls::*;
use sap::office::{Measure, Role, Zone};

use crate::kit::*;
use crate::office_kit::*;

fn request(session: &SecretBytes, n: u8) -> ProposeRequest {
    ProposeRequest {
        session: session.clone(),
        measure: Measure::DeleteArchived {
            zone: Zone::Ssa,
            archive: Digest32([n; 32]),
            size: 256,
        },
        reason: "noise".into(),
        ttl: 3600,
    }
}

async fn list(world: &World, session: &SecretBytes) -> Vec<ProposalInfo> {
    let session = session.clone();
    let answer = world.office::<Proposals>(&SessionRequest { session }).await;
    answer.unwrap().proposals
}

/// An operator floods the list, with what stays open and with what is over at once: a measure that waits is there for everybody.
// shows: T-INS-OPERATOR
#[tokio::test(flavor = "multi_thread")]
async fn whoever_proposes_much_hides_nothing_that_waits_for_others() {
    for world in worlds().await {
        let mut operator = world.appoint("o", Role::SystemOperator).await;
        let mut founders = world.officers().await;
        let [a, b, _] = founders.devices.as_mut_slice() else {
            panic!("three")
        };
        let waits = world.propose(a, dismiss("o")).await.unwrap().proposal;
        world.clock.advance(60);
        let session = world.log_in(&mut operator).await.unwrap().session;
        for n in 0..110 {
            let made = world
                .office::<Propose>(&request(&session, n))
                .await
                .unwrap();
            let end = ProposalRequest {
                session: session.clone(),
                proposal: made.proposal,
            };
            world.office::<ProposalEnd>(&end).await.unwrap();
        }
        world.clock.advance(1);
        for n in 0..20 {
            world
                .office::<Propose>(&request(&session, n))
                .await
                .unwrap();
        }
        let full = world.office::<Propose>(&request(&session, 20)).await;
        assert_eq!(rule(full.unwrap_err()), "too-many-open");
        let seen = world.log_in(b).await.unwrap().session;
        let all = list(&world, &seen).await;
        let open = |info: &ProposalInfo| info.state == ProposalState::Open;
        assert_eq!(all.iter().take_while(|info| open(info)).count(), 21);
        assert_eq!(all.len(), 21 + 100);
        let shown = all.iter().find(|info| info.proposal == waits).unwrap();
        assert!(shown.yours && open(shown));
        // Others propose as before, and so does the operator once something of theirs is over.
        let own = world.propose(a, dismiss("b")).await.unwrap();
        assert_eq!(own.state, ProposalState::Open);
        let end = ProposalRequest {
            session: session.clone(),
            proposal: all[0].proposal,
        };
        world.office::<ProposalEnd>(&end).await.unwrap();
        world
            .office::<Propose>(&request(&session, 20))
            .await
            .unwrap();
        // What nobody approved in its time is over, and waits no more.
        world.clock.advance(3600);
        world.sam.maintain().await.unwrap();
        let session = world.log_in(&mut operator).await.unwrap().session;
        let all = list(&world, &session).await;
        assert!(!all.iter().any(open));
        let expired = |info: &&ProposalInfo| info.state == ProposalState::Expired;
        assert!(all.iter().filter(expired).count() >= 21);
        let state = world.office::<State>(&SessionRequest { session }).await;
        assert_eq!(state.unwrap().open, 0);
        assert!(world.audited("proposal.ended", "\"expired\"").await >= 22);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_are_no_more_than_an_officer_may_have_open() {
    for world in worlds().await {
        let mut operator = world.appoint("o", Role::SystemOperator).await;
        let session = world.log_in(&mut operator).await.unwrap().session;
        for n in 0..15 {
            world
                .office::<Propose>(&request(&session, n))
                .await
                .unwrap();
        }
        let calls: Vec<_> = (0..20).map(|n| request(&session, 100 + n)).collect();
        let done = join_all(calls.iter().map(|call| world.office::<Propose>(call))).await;
        let made = done.iter().filter(|done| done.is_ok()).count();
        assert!(made > 0 && 15 + made <= MOST_OPEN, "{made}");
        let all = list(&world, &session).await;
        let open = |info: &&ProposalInfo| info.state == ProposalState::Open;
        assert_eq!(all.iter().filter(open).count(), 15 + made);
        // One after the other, it is as many as that and none more.
        for n in 15 + made..MOST_OPEN {
            let more = request(&session, 50 + u8::try_from(n).unwrap());
            world.office::<Propose>(&more).await.unwrap();
        }
        let full = world.office::<Propose>(&request(&session, 99)).await;
        assert_eq!(rule(full.unwrap_err()), "too-many-open");
    }
}
