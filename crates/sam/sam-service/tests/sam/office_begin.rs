//! The beginning of an installation: who begins it, once, and who opens it again (`sap.md` §14, 55).

use core_types::random::SystemRandom;
use core_types::{Clock as _, UnixTime};
use jose::SigningKey;
use sam_service::{FoundError, MIGRATIONS, Sam, StartError};
use sap::act::Version1;
use sap::messages::SapRefusalCode;
use sap::office::{Reopen, Role, TYP_REOPEN};
use store_kit::testing;
use store_kit::{StoreError, sql, transaction};

use crate::kit::*;
use crate::office_kit::*;

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_begins_once_and_that_is_the_first_entry_of_its_log() {
    for world in worlds().await {
        let entries = world.audit_text().await;
        assert!(entries[0].contains("\"office.began\""), "{}", entries[0]);
        assert_eq!(
            world.audited("officer.appointed", "security-officer").await,
            3
        );
        // Again: the same record, another one, and with rows deleted by whoever can write to the store.
        let root = world.sam.root().clone();
        let other = Founders::new(&world.config, &root, world.clock.now());
        let again = async |founders: &Founders| {
            let done = founders.found(&world.config, &world.cm, &world.store, world.clock.clone());
            done.await
        };
        let mine = world.founders.lock().await;
        assert!(matches!(again(&mine).await, Err(FoundError::Begun)));
        assert!(matches!(again(&other).await, Err(FoundError::Begun)));
        drop(mine);
        let store = &world.store.store;
        let done: Result<(), StoreError> = transaction!(store, "attack", |tx| {
            for table in [
                "DELETE FROM office_genesis",
                "DELETE FROM office_person",
                "DELETE FROM office_account",
                "DELETE FROM voucher",
                "DELETE FROM evidence",
                "DELETE FROM audit_entry",
                "DELETE FROM audit_head",
            ] {
                tx.execute(sql(table)).await?;
            }
            Ok(())
        });
        done.unwrap();
        assert!(matches!(again(&other).await, Err(FoundError::Begun)));
        // Without the record nothing starts.
        let (clock, random) = (world.clock.clone(), std::sync::Arc::new(SystemRandom));
        let started = Sam::start(
            world.config.clone(),
            world.cm.clone(),
            store.clone(),
            None,
            clock,
            random,
        );
        assert!(matches!(started.await, Err(StartError::NotBegun)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_three_different_persons_begin_an_installation_of_this_sam() {
    let world = World::on(testing::sqlite(MIGRATIONS).await).await;
    let root = world.sam.root().clone();
    let now = world.clock.now();
    let refused = async |change: fn(&mut Founders), config: &sam_service::SamConfig| {
        let store = testing::sqlite(MIGRATIONS).await;
        let mut founders = Founders::new(config, &root, now);
        change(&mut founders);
        let genesis = &founders.genesis;
        let again = Founders::of(
            config,
            &genesis.root,
            genesis.officers.clone(),
            founders.secrets,
            genesis.at,
        );
        let done = again.found(&world.config, &world.cm, &store, world.clock.clone());
        done.await.err().map(|e| e.to_string())
    };
    let config = &world.config;
    assert_eq!(refused(|_| (), config).await, None);
    for change in [
        (|f: &mut Founders| f.genesis.officers.truncate(2)) as fn(&mut Founders),
        |f| f.genesis.officers[1].identity = f.genesis.officers[0].identity,
        |f| f.genesis.officers[1].officer = f.genesis.officers[0].officer.clone(),
        |f| f.genesis.at = f.genesis.at.plus(-7200),
        |f| f.genesis.root = SigningKey::generate().unwrap().0.public().clone(),
    ] {
        assert!(refused(change, config).await.is_some());
    }
    let elsewhere = sam_service::SamConfig {
        sam: "another.test".into(),
        ..config.clone()
    };
    assert!(refused(|_| (), &elsewhere).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_open_an_installation_again_that_has_too_few_officers_and_no_other() {
    for world in worlds().await {
        let mut founders = world.officers().await;
        let record = world.sam.genesis().await.unwrap();
        let secrets = [secret(), secret(), secret()];
        let now = world.clock.now();
        let reopen = |serial: u32, at: UnixTime| Reopen {
            v: Version1,
            genesis: record.genesis,
            serial,
            officers: vec![
                founder("d", &secrets[0], at),
                founder("e", &secrets[1], at),
                founder("f", &secrets[2], at),
            ],
            at,
        };
        let sign = |key: &SigningKey, reopen: &Reopen| {
            key.sign(TYP_REOPEN, &serde_json::to_vec(reopen).unwrap())
                .unwrap()
        };
        let needless = world
            .sam
            .reopen(&sign(&founders.recovery, &reopen(1, now)))
            .await;
        assert!(matches!(needless, Err(FoundError::Refused(_))));
        // All appointments run out.
        world.clock.advance(YEAR);
        let now = world.clock.now();
        let gone = world.log_in(&mut founders.devices[0]).await.unwrap_err();
        assert_eq!(gone.code, SapRefusalCode::NotFound);
        let told = reopen(1, now);
        let (stranger, _) = SigningKey::generate().unwrap();
        assert!(world.sam.reopen(&sign(&stranger, &told)).await.is_err());
        // Two would be stuck again.
        let mut two = told.clone();
        two.officers.truncate(2);
        let few = world.sam.reopen(&sign(&founders.recovery, &two)).await;
        assert!(matches!(few, Err(FoundError::Refused(_))), "{few:?}");
        world
            .sam
            .reopen(&sign(&founders.recovery, &told))
            .await
            .unwrap();
        assert!(
            world
                .sam
                .reopen(&sign(&founders.recovery, &told))
                .await
                .is_err()
        );
        // The third never opens the link: those two open it again, by one more.
        for (founder, secret) in told.officers.iter().zip(&secrets[..2]) {
            let mut device = world.enrol_officer(&founder.voucher, secret).await.unwrap();
            world.log_in(&mut device).await.unwrap();
        }
        let last = secret();
        let one_more = Reopen {
            officers: vec![founder("g", &last, now)],
            ..reopen(2, now)
        };
        world
            .sam
            .reopen(&sign(&founders.recovery, &one_more))
            .await
            .unwrap();
        let voucher = &one_more.officers[0].voucher;
        let mut device = world.enrol_officer(voucher, &last).await.unwrap();
        world.log_in(&mut device).await.unwrap();
        let third = sign(&founders.recovery, &reopen(3, now));
        assert!(
            world.sam.reopen(&third).await.is_err(),
            "there are three again"
        );
        assert_eq!(world.audited("office.reopened", "").await, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_dismissed_comes_back_when_the_shares_name_them() {
    for world in worlds().await {
        let mut before = world.appoint("d", Role::SecurityOfficer).await;
        world.decide(dismiss("d")).await.unwrap();
        assert!(world.log_in(&mut before).await.is_err());
        world.clock.advance(YEAR);
        let now = world.clock.now();
        let secrets = [secret(), secret(), secret()];
        let told = Reopen {
            v: Version1,
            genesis: world.sam.genesis().await.unwrap().genesis,
            serial: 1,
            officers: vec![
                founder("d", &secrets[0], now),
                founder("e", &secrets[1], now),
                founder("f", &secrets[2], now),
            ],
            at: now,
        };
        let founders = world.officers().await;
        let payload = serde_json::to_vec(&told).unwrap();
        let jws = founders.recovery.sign(TYP_REOPEN, &payload).unwrap();
        world.sam.reopen(&jws).await.unwrap();
        for (founder, secret) in told.officers.iter().zip(&secrets) {
            let mut device = world.enrol_officer(&founder.voucher, secret).await.unwrap();
            world.log_in(&mut device).await.unwrap();
        }
        assert!(
            world.log_in(&mut before).await.is_err(),
            "what ended stays ended"
        );
    }
}
