//! A database that goes away under a zone, and comes back as its standby.

use std::time::Duration;

use audit_log::TABLES;
use core_types::{Clock, UnixTime};
use store_kit::testing::Replicated;
use store_kit::{Store, sql};

use crate::kit::{NOW, log, open, write};

/// A clock that stands.
struct Standing;

impl Clock for Standing {
    fn now(&self) -> UnixTime {
        NOW
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

// shows: I-7.1.4.3-no-unauthorised-deletion
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_waited_for_and_nothing_is_lost() {
    let mut database = Replicated::start();
    let random = core_types::random::SystemRandom;
    let opened = Store::open(database.url(), "audit", &[TABLES], &random).await;
    let store = opened.unwrap();
    let sequencer = open(&store).await.unwrap();
    write(&store, &log("a"), 0).await;
    let often = Duration::from_millis(1);
    let keep = sequencer.keep(&store, &Standing, often);
    let outage = async {
        let shown = |count| {
            let store = store.clone();
            async move {
                // A call on a connection to the server that is gone fails: the next has another.
                loop {
                    let Ok(mut tx) = store.read("count").await else {
                        continue;
                    };
                    let row = tx.fetch_one(sql(
                        "SELECT count(*) AS n FROM audit_entry WHERE seq IS NOT NULL",
                    ));
                    if row.await.and_then(|row| row.int("n")).ok() == Some(count) {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            }
        };
        shown(1).await;
        let database = tokio::task::spawn_blocking(move || {
            database.fail_over();
            database
        });
        let database = database.await.unwrap();
        shown(1).await;
        write(&store, &log("a"), 1).await;
        shown(2).await;
        drop(database);
    };
    let ended = tokio::select! {
        error = keep => Some(error),
        done = tokio::time::timeout(Duration::from_secs(60), outage) => {
            done.unwrap();
            None
        }
    };
    assert!(ended.is_none(), "{ended:?}");
}
