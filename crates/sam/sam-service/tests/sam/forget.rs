//! A person is forgotten: when, by whose leave, and what is left.

use core_types::{Clock as _, Digest32, KeyAlg};
use sam_service::NotForgotten;
use sap::office::{KeyAction, Measure};
use store_kit::sql;

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
