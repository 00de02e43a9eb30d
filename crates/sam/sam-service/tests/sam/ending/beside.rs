//! The end of all keys beside what goes on: signatures, tenants that come and go, rows that are refused.

use store_kit::{Dialect, StoreError, Tx, sql, transaction};
use tokio::sync::oneshot;

use super::*;

// shows: I-A4.4-provider-end
#[tokio::test(flavor = "multi_thread")]
async fn the_whole_service_is_closed_to_whoever_comes_in_whatever_ended_before() {
    for mut world in worlds().await {
        let lone = world.config.clone();
        let mut side = acme(&mut world).await;
        let with = world.config.clone();
        let of = |name: &str| {
            let mut config = with.clone();
            config.tenants[0].id = TenantId::parse(name).unwrap();
            config
        };
        // One that is known and not served any more, and one that only another node serves.
        let other = world.node_with(of("other")).await;
        world.go_on_with(lone).await;
        let house = world.config.tenant.as_str().to_owned();
        let own = world.decide(end(Some(&house), EndCause::Incident)).await;
        assert_eq!(own.unwrap().state, ProposalState::Done);
        let all = world.decide(end(None, EndCause::EndOfService)).await;
        let all = all.unwrap();
        let told = world.progress(all.proposal).await.unwrap();
        assert_eq!((told.parts.len(), told.complete), (0, true));
        let again = world.decide(end(None, EndCause::Incident)).await;
        assert_eq!(rule(again.unwrap_err()), "service-ended");
        other.finish_ending().await.unwrap();
        let acme = world.node_with(of("acme")).await;
        let newcomer = world.node_with(of("newcomer")).await;
        let proposal = all.proposal.to_string();
        assert_eq!(world.audited("key.all-ended", &proposal).await, 2);
        for (name, node) in [("other", other), ("acme", acme), ("newcomer", newcomer)] {
            let tenant = TenantId::parse(name).unwrap();
            let node = node.of(&tenant).unwrap();
            world.turn(&mut side);
            let mut invitation = world.invitation("r", &[KeyAlg::P256]);
            invitation.tenant = tenant;
            let (invite, ..) = world.ra.invite(invitation).unwrap();
            let request = VoucherRequest::Ra {
                invite,
                return_uri: world.back.into(),
            };
            let refused = node.voucher(world.service, request).await.err();
            assert_eq!(refused, Some(ended()), "{name}");
            world.turn(&mut side);
        }
    }
}

// shows: I-A4.4-provider-end
#[tokio::test(flavor = "multi_thread")]
async fn the_last_approval_ends_nothing_where_not_all_tenants_with_keys_are_served() {
    for mut world in worlds().await {
        let lone = world.config.clone();
        let mut side = acme(&mut world).await;
        world.turn(&mut side);
        world.enrol("q", false, &[KeyAlg::P256]).await;
        world.turn(&mut side);
        let alone = world.node_with(lone).await;
        let mut founders = world.officers().await;
        let [a, b, _] = founders.devices.as_mut_slice() else {
            panic!("three")
        };
        let measure = end(None, EndCause::Incident);
        let proposal = world.propose(a, measure).await.unwrap().proposal;
        world.approve_proposal(b, proposal).await.unwrap();
        drop(founders);
        let served = std::mem::replace(&mut world.sam, alone);
        let mut founders = world.officers().await;
        let last = world.approve_proposal(&mut founders.devices[2], proposal);
        assert_eq!(rule(last.await.unwrap_err()), "tenant-not-served");
        drop(founders);
        assert_eq!(world.audited("key.all-ended", "").await, 0);
        world.sam = served;
        let mut founders = world.officers().await;
        let last = world.approve_proposal(&mut founders.devices[2], proposal);
        assert_eq!(last.await.unwrap().state, ProposalState::Done);
    }
}

// shows: I-A4.4-provider-end, T-USE-CRED-ALTER
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_refused_saves_no_other_and_alarms_once() {
    for world in worlds().await {
        let keys = [KeyAlg::P256, KeyAlg::P256];
        world.enrol("p", false, &keys).await;
        let done = world.decide(end(None, EndCause::Incident)).await.unwrap();
        let counts = async || {
            let told = world.progress(done.proposal).await.unwrap();
            let part = part(&told).clone();
            ((part.ended, part.destroyed, part.told), part.all_seen)
        };
        let spoil = "UPDATE signing_key SET version = version + 1 WHERE id = (SELECT MIN(id) FROM signing_key)";
        run(&world, spoil).await;
        // The third pass doesn't look at all keys again: the second moved nothing.
        for _ in 0..3 {
            world.sam.finish_ending().await.unwrap();
            assert_eq!(counts().await, ((1, 1, 1), false));
        }
        assert_eq!(world.audited("alarm", "sealed-row-tampered").await, 1);
        let heal = "UPDATE signing_key SET version = version - 1 WHERE state <> 'destroyed'";
        run(&world, heal).await;
        world.sam.finish_ending().await.unwrap();
        assert_eq!(counts().await, ((1, 1, 1), false));
        world.clock.advance(600);
        world.sam.finish_ending().await.unwrap();
        assert_eq!(counts().await, ((2, 2, 1), true));
    }
}

// shows: I-A4.4-provider-end, T-USE-CRED-ALTER
#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_be_told_does_not_count_as_told() {
    for world in worlds().await {
        world.enrol("p", false, &[KeyAlg::P256]).await;
        world.enrol("q", false, &[KeyAlg::P256]).await;
        let done = world.decide(end(None, EndCause::Incident)).await.unwrap();
        let spoil = "UPDATE person SET version = version + 1 WHERE id = 'p'";
        run(&world, spoil).await;
        world.sam.finish_ending().await.unwrap();
        let told = world.progress(done.proposal).await.unwrap();
        let found = part(&told);
        assert_eq!((found.keys, found.ended, found.told), (2, 2, 1));
        assert!(found.all_seen);
    }
}

// shows: I-A4.4-provider-end
#[tokio::test(flavor = "multi_thread")]
async fn who_would_sign_while_the_end_waits_queues_behind_it() {
    for world in worlds().await {
        // SQLite has one writer at a time.
        if world.store.dialect() == Dialect::Sqlite {
            continue;
        }
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let token = world.approved(&mut signer, &[hash(1)]).await;
        let request = world.sign_request(&signer, &token, &[hash(1)]);
        // A signature that has begun.
        let key = core_types::sha256(&[
            b"natsuin-standing-v1\n",
            world.store.schema.as_bytes(),
            b"\n",
            world.config.tenant.as_str().as_bytes(),
        ]);
        let key = i64::from_be_bytes(*key.0.first_chunk().unwrap());
        let (locked, ready) = oneshot::channel();
        let (go, going) = oneshot::channel();
        let (store, mut locked, mut going) = (world.store.store.clone(), Some(locked), Some(going));
        let (waits, waiting) = oneshot::channel();
        let mut waits = Some(waits);
        let held = tokio::spawn(async move {
            let done: Result<(), StoreError> = transaction!(store, "hold", |tx| {
                let lock = "SELECT 1 AS got FROM pg_advisory_xact_lock_shared($1)";
                tx.fetch_one(sql(lock).bind(key)).await?;
                locked.take().unwrap().send(()).unwrap();
                let end = "SELECT count(*) AS n FROM pg_locks \
                           WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))";
                until_some(tx, end).await?;
                waits.take().unwrap().send(()).unwrap();
                going.take().unwrap().await.unwrap();
                // And behind the end one that would sign.
                let signs = "SELECT count(*) AS n FROM pg_locks s, pg_locks e \
                             WHERE NOT s.granted AND NOT e.granted AND e.pid = ANY(pg_blocking_pids(s.pid)) \
                             AND pg_backend_pid() = ANY(pg_blocking_pids(e.pid))";
                until_some(tx, signs).await?;
                Ok(())
            });
            done.unwrap();
        });
        ready.await.unwrap();
        let ending = world.decide(end(None, EndCause::Incident));
        let signing = async {
            waiting.await.unwrap();
            let (sam, service) = (world.sam.clone(), world.service);
            let signing = tokio::spawn(async move { sam.sign(service, request).await });
            go.send(()).unwrap();
            signing.await.unwrap()
        };
        let (done, signed) = tokio::join!(ending, signing);
        held.await.unwrap();
        assert_eq!(done.unwrap().state, ProposalState::Done);
        assert_eq!(signed.err(), Some(ended()));
    }
}

/// Waits until the statement counts somebody, for a minute at most.
async fn until_some(tx: &mut Tx, counting: &'static str) -> Result<(), StoreError> {
    let counted = async {
        while tx.fetch_one(sql(counting)).await?.int("n")? == 0 {
            tokio::task::yield_now().await;
        }
        Ok(())
    };
    let longest = std::time::Duration::from_secs(60);
    tokio::time::timeout(longest, counted)
        .await
        .expect("somebody waits for the lock")
}
