//! What the state of the SAM shows to whom.

use core_types::{Clock as _, KeyAlg};
use sap::office::Role;
use sap::office::calls::{SessionRequest, State};
use store_kit::{StoreError, sql, transaction};

use crate::kit::*;
use crate::office_kit::*;

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_end_soon_are_shown_to_whoever_has_to_do_with_keys_and_to_nobody_else() {
    for world in worlds().await {
        let signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let mut security = world.appoint("s", Role::SecurityOfficer).await;
        let mut operator = world.appoint("o", Role::SystemOperator).await;
        let mut admin = world.appoint("a2", Role::SystemAdministrator).await;
        let mut auditor = world.appoint("u", Role::SystemAuditor).await;
        let state = async |device: &mut Device| {
            let session = world.log_in(device).await.unwrap().session;
            world
                .office::<State>(&SessionRequest { session })
                .await
                .unwrap()
        };
        for device in [&mut security, &mut operator] {
            let seen = state(device).await;
            assert!(seen.ending.is_empty() && !seen.keys.is_empty());
        }
        // As if it were a fortnight before the end: appointments would have ended long before.
        let done: Result<(), StoreError> = transaction!(world.store.store, "nearer", |tx| {
            let soon = world.clock.now().plus(14 * 24 * 3600);
            tx.execute(sql("UPDATE signing_key SET stamp = $1").bind(soon.0))
                .await?;
            Ok(())
        });
        done.unwrap();
        for device in [&mut security, &mut operator] {
            let seen = state(device).await;
            assert_eq!(seen.ending.len(), 1);
            assert_eq!(seen.ending[0].key, signer.keys[0].key);
        }
        for device in [&mut admin, &mut auditor] {
            let seen = state(device).await;
            assert!(seen.ending.is_empty() && seen.keys.is_empty());
        }
        // Nobody renews appointments but whoever sees people.
        assert_eq!(state(&mut admin).await.due, 0);
        assert_eq!(state(&mut operator).await.clock_bound_ms, None);
    }
}
