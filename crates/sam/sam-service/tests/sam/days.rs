//! What happens over midnight, when the SAM's own keys change, and in the days after (`sap.md` §3).

use cm_api::rpc::{Statement, StatementRequest};
use cm_api::{CryptoModule as _, ModuleError, Refusal};
use core_types::{Clock as _, KeyAlg};
use jose::SigningKey;
use sam_api::ssa::*;
use sap::messages::*;
use sap::{SamKeys, TYP_ACT, act_digest};
use store_kit::{StoreError, sql, transaction};

use crate::kit::*;

const DAY: i64 = 24 * 3600;

/// Seconds from the world's start until ten before midnight.
fn late() -> i64 {
    DAY - START.0.rem_euclid(DAY) - 10
}

async fn count(world: &World, table: &'static str) -> i64 {
    let query = match table {
        "keyring" => "SELECT count(*) AS n FROM keyring",
        "result" => "SELECT count(*) AS n FROM result",
        _ => "SELECT count(*) AS n FROM act_text",
    };
    let mut tx = world.store.read("count").await.unwrap();
    tx.fetch_one(sql(query)).await.unwrap().int("n").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_that_waits_over_midnight_is_certified() {
    for world in worlds().await {
        world.clock.advance(late());
        let mut invitation = world.invitation("p", &[KeyAlg::P256, KeyAlg::P256]);
        invitation.exp = START.plus(3 * DAY);
        let (voucher, secret) = world.invite(invitation).await;
        let opened = world.sam.enrol_open(EnrolOpenRequest {
            voucher: voucher.clone(),
        });
        let act = act_digest(&opened.await.unwrap().act);
        let request = EnrolRegisterRequest {
            act,
            sealed: world.seal(act, &world.secrets(act, &secret)).await,
            passkey: Some(passkey().register(act).unwrap()),
            id_token: None,
        };
        world.sam.enrol_register(request).await.unwrap();
        let EnrolmentAnswer::Enrolled { keys: before, .. } = world.enrolment(&voucher).await else {
            panic!("enrolled")
        };
        world.clock.advance(20);
        let keys = world.certify(&voucher).await;
        assert!(keys.iter().all(|k| k.state == KeyState::Active));
        let same = |k: &KeyInfo| before.iter().any(|b| b.key == k.key);
        assert!(keys.len() == 2 && keys.iter().all(same));
        // What is certified is handed out as it was approved.
        let EnrolmentAnswer::Enrolled { keys: approved, .. } = world.enrolment(&voucher).await
        else {
            panic!("enrolled")
        };
        world.clock.advance(DAY);
        let EnrolmentAnswer::Enrolled { keys: later, .. } = world.enrolment(&voucher).await else {
            panic!("enrolled")
        };
        assert_eq!(approved[0].enrolment, later[0].enrolment);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_of_an_act_from_before_midnight_holds_the_statement_that_vouches_for_it() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        world.clock.advance(late());
        let rid = world.prepare(&signer, &[hash(1)]).await;
        let act = world.open(rid).await;
        let proof = signer.passkey.prove(act).unwrap();
        world.clock.advance(20);
        // The keys of the new day are there, and used.
        let today = world.sam.statement().await.unwrap().statement;
        world.approve(proof).await.unwrap();
        let mut tx = world.store.read("evidence").await.unwrap();
        let rows = tx
            .fetch_all(sql("SELECT body FROM evidence ORDER BY id"))
            .await
            .unwrap();
        let bodies = rows.iter().map(|r| r.blob("body").unwrap());
        let of_act = bodies
            .filter_map(|b| serde_json::from_slice::<serde_json::Value>(&b).ok())
            .find(|e| {
                let text = e["act"].as_str();
                text.is_some_and(|t| t.contains('.') && act_digest(t) == act)
            })
            .unwrap();
        let statement = of_act["statement"].as_str().unwrap();
        assert_ne!(statement, today);
        let roots = [world.sam.root().clone()];
        let keys = SamKeys::verify(statement, &roots, START.plus(late() + 10)).unwrap();
        jose::verify(of_act["act"].as_str().unwrap(), TYP_ACT, &keys.act).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_sealed_before_midnight_are_opened_by_a_node_that_starts_after_it() {
    for world in worlds().await {
        let signer = world.enrol("p", true, &[KeyAlg::P256]).await;
        world.clock.advance(late());
        let act = world.open(world.prepare(&signer, &[hash(1)]).await).await;
        let otp = world.otp(signer.seed.as_ref().unwrap(), 1);
        let proof = world.pin_proof(act, PIN, otp).await;
        world.clock.advance(20);
        let node = world.node("sam-2").await;
        node.approve(ApproveRequest { proof, new: None })
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sams_own_keys_end_with_their_statements_however_many_there_are() {
    for world in worlds().await {
        for _ in 0..204 {
            world.sam.statement().await.unwrap();
            world.clock.advance(DAY);
        }
        world.sam.statement().await.unwrap();
        assert_eq!(count(&world, "keyring").await, 205);
        world.sam.maintain().await.unwrap();
        // Those of today and of yesterday, whose statement holds for some hours more.
        assert_eq!(count(&world, "keyring").await, 2);
    }
}

// shows: III-3-4-authenticate-application, T-USE-SAP-BYPASS, T-KEY-ABUSE
#[tokio::test(flavor = "multi_thread")]
async fn the_sams_keys_follow_one_another_however_long_nobody_asked_and_nobody_elses_do() {
    for world in worlds().await {
        // Nobody signs anything for weeks, but it runs.
        for _ in 0..20 {
            world.clock.advance(DAY);
            world.sam.maintain().await.unwrap();
        }
        world.sam.statement().await.unwrap();
        // It stands still for weeks, and starts again.
        world.clock.advance(30 * DAY);
        let node = world.node("sam-2").await;
        node.maintain().await.unwrap();
        // Only the newest set is there, which vouches for the next one.
        world.clock.advance(40 * DAY);
        world.node("sam-3").await.maintain().await.unwrap();
        assert_eq!(count(&world, "keyring").await, 1);
        // With the certificate of the SAM and keys of one's own.
        let (act, _) = SigningKey::generate().unwrap();
        let (seal, _) = jose::SealKey::generate().unwrap();
        let now = world.clock.now();
        let mut own = StatementRequest {
            sam: world.config.sam.clone(),
            epoch: core_types::Digest32([1; 32]),
            act: act.public().clone(),
            seal: seal.public().clone(),
            nbf: now,
            exp: now.plus(3600),
            endorsements: Vec::new(),
        };
        own.endorse(&act).unwrap();
        let refused = world.cm.call::<Statement>(&own).await;
        let refused = refused.map(drop);
        assert_eq!(refused, Err(ModuleError::Refused(Refusal::NotAuthentic)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_round_of_maintenance_deletes_all_that_is_over() {
    for world in worlds().await {
        let (_, filler) = SigningKey::generate().unwrap();
        let done: Result<(), StoreError> = transaction!(world.store.store, "fill", |tx| {
            for n in 0..450_i64 {
                let insert = "INSERT INTO result (id, version, sealed, owner, link, state, stamp) \
                              VALUES ($1, 1, $2, '', '', '', $3)";
                let name = format!("r-{n}");
                tx.execute(sql(insert).bind(name).bind(filler.expose()).bind(1_i64))
                    .await?;
                let insert = "INSERT INTO act_text (id, jws) VALUES ($1, 'x')";
                tx.execute(sql(insert).bind(format!("t-{n}"))).await?;
            }
            Ok(())
        });
        done.unwrap();
        world.sam.maintain().await.unwrap();
        assert_eq!(count(&world, "result").await, 0);
        assert_eq!(count(&world, "act_text").await, 0);
    }
}
