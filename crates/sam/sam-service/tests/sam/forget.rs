//! A person is forgotten: when, by whose leave, and what is left.

use core_types::{Clock as _, Digest32, KeyAlg};
use sam_api::ssa::*;
use sam_service::NotForgotten;
use sap::office::{KeyAction, Measure};
use store_kit::sql;

use crate::cm::Fault;
use crate::kit::*;
use crate::stores::run;

/// Seconds of a year.
const YEAR: i64 = 365 * 86_400;

async fn rows(world: &World, query: &'static str) -> i64 {
    let mut tx = world.store.read("rows").await.unwrap();
    tx.fetch_one(sql(query)).await.unwrap().int("n").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_left_long_ago_is_forgotten_and_nothing_else_is() {
    for world in worlds().await {
        let signer = world.enrol("gone", false, &[KeyAlg::P256]).await;
        world.enrol("stays", false, &[KeyAlg::P256]).await;
        let by = Digest32([9; 32]);
        let now = world.clock.now();
        let forget = async |before| world.sam.forget_person(&signer.person, by, before).await;
        let kept = forget(now.plus(-YEAR)).await;
        assert!(matches!(kept, Err(NotForgotten::Log(_))), "{kept:?}");
        let alive = forget(now.plus(YEAR)).await;
        assert!(matches!(alive, Err(NotForgotten::Signer)), "{alive:?}");
        run(
            &world,
            "CREATE TABLE then_key AS SELECT * FROM signing_key WHERE owner = 'gone'",
        )
        .await;
        let destroy = Measure::Key {
            key: signer.keys[0].key.clone(),
            action: KeyAction::Destroy,
        };
        world.decide(destroy).await.unwrap();
        world.sam.maintain().await.unwrap();
        world.clock.advance(2 * YEAR);
        let now = world.clock.now();
        assert!(forget(now.plus(-YEAR)).await.unwrap());
        assert!(!forget(now.plus(-YEAR)).await.unwrap(), "once");

        for query in [
            "SELECT count(*) AS n FROM person WHERE id = 'gone'",
            "SELECT count(*) AS n FROM factor WHERE owner = 'gone'",
            "SELECT count(*) AS n FROM signing_key WHERE owner = 'gone'",
            "SELECT count(*) AS n FROM voucher WHERE owner = 'gone'",
            "SELECT count(*) AS n FROM act WHERE owner = 'gone'",
            "SELECT count(*) AS n FROM notice WHERE owner = 'gone'",
            "SELECT count(*) AS n FROM audit_person WHERE person = 'gone'",
        ] {
            assert_eq!(rows(&world, query).await, 0, "{query}");
        }
        assert_eq!(world.audited("audit.person-forgotten", "").await, 1);
        // Rows and log agree, for who runs and for who starts.
        let found = world.sam.scrub().await.unwrap();
        let wrong = [
            &found.set_back,
            &found.strange,
            &found.missing,
            &found.tampered,
        ];
        assert!(wrong.iter().all(|places| places.is_empty()), "{found:?}");
        world.node("sam-2").await;
        assert_eq!(world.audited("alarm", "sealed-row").await, 0);
        let left = "SELECT count(*) AS n FROM signing_key WHERE owner = 'stays'";
        assert_eq!(rows(&world, left).await, 1);
        // What was removed for good doesn't come back.
        run(&world, "INSERT INTO signing_key SELECT * FROM then_key").await;
        let node = world.node("sam-3").await;
        let found = node.scrub().await.unwrap();
        assert_eq!(found.set_back.len(), 1, "{found:?}");
    }
}

/// Has the module destroy what ended; what ended may be dealt with in the background as well.
async fn destroyed(world: &World) {
    let left = "SELECT count(*) AS n FROM signing_key WHERE state = 'doomed'";
    for _ in 0..10 {
        world.sam.maintain().await.unwrap();
        if rows(world, left).await == 0 {
            return;
        }
    }
    panic!("keys are left");
}

/// Nobody is forgotten who has a key, or had one that the module still has: what isn't known any more is never destroyed.
// shows: III-A1.6-destroy-at-end, T-KEY-ABUSE
#[tokio::test(flavor = "multi_thread")]
async fn one_living_key_is_seen_among_however_many_that_are_gone() {
    // Real keys take a while; how rows are read by pages is tested on both stores.
    let [world, _] = worlds().await;
    let leave = async |signer: &mut Signer| {
        let newest = signer.keys.iter().max_by_key(|key| key.created).unwrap();
        let registration = newest.registration.clone();
        world.changed(Wish::Leave { registration }, signer).await
    };
    for _ in 0..26 {
        world.clock.advance(1);
        let mut signer = world.enrol("many", false, &[KeyAlg::P256; 8]).await;
        leave(&mut signer).await.unwrap();
    }
    destroyed(&world).await;
    world.clock.advance(1);
    let mut signer = world.enrol("many", false, &[KeyAlg::P256]).await;
    let living = signer.keys.iter().filter(|k| k.state == KeyState::Active);
    assert_eq!(living.count(), 1);
    assert_eq!(
        signer.keys.len(),
        201,
        "all that live, and the last of those that don't"
    );
    let by = Digest32([9; 32]);
    let person = signer.person.clone();
    let forget = async || {
        let later = world.clock.now().plus(YEAR);
        world.sam.forget_person(&person, by, later).await
    };
    let kept = forget().await;
    assert!(matches!(kept, Err(NotForgotten::Signer)), "{kept:?}");
    let all = "SELECT count(*) AS n FROM signing_key WHERE owner = 'many'";
    assert_eq!(rows(&world, all).await, 209);
    // It ended, and the module doesn't answer.
    world.cm.next(Fault::DestroyLost);
    world.cm.next(Fault::DestroyLost);
    leave(&mut signer).await.unwrap();
    let kept = forget().await;
    assert!(matches!(kept, Err(NotForgotten::Signer)), "{kept:?}");
    world.cm.calm();
    destroyed(&world).await;
    assert!(forget().await.unwrap());
    assert_eq!(rows(&world, all).await, 0);
    let found = world.sam.scrub().await.unwrap();
    assert_eq!((found.missing, found.strange), (vec![], vec![]));
}

/// Whoever is refused since a restore can't act any more, but can be forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_is_forgotten_unless_a_key_is_among_it() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        world.enrol("q", false, &[KeyAlg::P256]).await;
        for keep in [
            "CREATE TABLE kept_person AS SELECT * FROM person",
            "CREATE TABLE kept_factor AS SELECT * FROM factor",
            "CREATE TABLE kept_key AS SELECT * FROM signing_key",
        ] {
            run(&world, keep).await;
        }
        let destroy = Wish::Destroy {
            key: signer.keys[0].key.clone(),
        };
        world.changed(destroy, &mut signer).await.unwrap();
        destroyed(&world).await;
        run(&world, "CREATE TABLE gone_key AS SELECT * FROM signing_key").await;
        for back in [
            "UPDATE person SET sealed = (SELECT k.sealed FROM kept_person k WHERE k.id = person.id), \
             version = (SELECT k.version FROM kept_person k WHERE k.id = person.id)",
            "UPDATE factor SET sealed = (SELECT k.sealed FROM kept_factor k WHERE k.id = factor.id), \
             version = (SELECT k.version FROM kept_factor k WHERE k.id = factor.id)",
            "UPDATE signing_key SET sealed = (SELECT k.sealed FROM kept_key k WHERE k.id = signing_key.id), \
             version = (SELECT k.version FROM kept_key k WHERE k.id = signing_key.id)",
        ] {
            run(&world, back).await;
        }
        let later = world.clock.now().plus(YEAR);
        let forget = async || {
            let by = Digest32([9; 32]);
            world.sam.forget_person(&signer.person, by, later).await
        };
        let unknown = forget().await;
        assert!(matches!(unknown, Err(NotForgotten::Row)), "{unknown:?}");
        run(
            &world,
            "UPDATE signing_key SET sealed = (SELECT k.sealed FROM gone_key k WHERE k.id = signing_key.id), \
             version = (SELECT k.version FROM gone_key k WHERE k.id = signing_key.id)",
        )
        .await;
        // Another's row that was made to look like theirs doesn't go with it.
        run(&world, "UPDATE voucher SET owner = 'p' WHERE owner = 'q'").await;
        let foreign = forget().await;
        assert!(matches!(foreign, Err(NotForgotten::Row)), "{foreign:?}");
        run(
            &world,
            "UPDATE voucher SET owner = 'q' WHERE id IN (SELECT link FROM signing_key WHERE owner = 'q')",
        )
        .await;
        // Whoever wrote to a factor isn't rid of the trace with it.
        run(
            &world,
            "UPDATE factor SET sealed = (SELECT f.sealed FROM factor f WHERE f.owner = 'q' LIMIT 1) WHERE owner = 'p'",
        )
        .await;
        let factor = {
            let mut tx = world.store.read("factor").await.unwrap();
            let row = tx.fetch_one(sql("SELECT id FROM factor WHERE owner = 'p'"));
            row.await.unwrap().text("id").unwrap()
        };
        let alarms = world.audited("alarm", "sealed-row-tampered").await;
        assert!(forget().await.unwrap());
        assert_eq!(
            world.audited("alarm", "sealed-row-tampered").await,
            alarms + 1
        );
        assert_eq!(world.audited("alarm", &factor).await, 1, "it names the row");
        for query in [
            "SELECT count(*) AS n FROM person WHERE id = 'p'",
            "SELECT count(*) AS n FROM factor WHERE owner = 'p'",
        ] {
            assert_eq!(rows(&world, query).await, 0, "{query}");
        }
        let found = world.node("sam-2").await.scrub().await.unwrap();
        assert!(
            found.set_back.is_empty() && found.missing.is_empty(),
            "{found:?}"
        );
    }
}
