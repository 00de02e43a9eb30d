//! Storage is hostile, breaks, or comes from a backup (`sap.md` §14, 27-29, 37, 58, 60).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use core_types::KeyAlg;
use core_types::bytes::b64u;
use sam_api::Refusal;
use sap::messages::*;
use store_kit::{StoreError, sql, transaction};
use tokio::sync::Notify;

use crate::cm::{Fault, Refused};
use crate::kit::*;

pub async fn run(world: &World, statement: &'static str) -> u64 {
    let done: Result<u64, StoreError> = transaction!(world.store.store, "attack", |tx| {
        tx.execute(sql(statement)).await
    });
    done.unwrap()
}

/// What maintenance and the console ask for walks an index, whatever the number of keys.
#[tokio::test(flavor = "multi_thread")]
async fn keys_in_a_state_are_found_without_looking_at_all_of_them() {
    let [world, _] = worlds().await;
    for (state, order) in [
        (
            "spent",
            "stamp <= 9 AND (stamp, id) > (1, 'a') AND owner NOT LIKE '%/%' ORDER BY stamp, id",
        ),
        ("active", "stamp > 1 AND stamp <= 9 ORDER BY stamp"),
    ] {
        let text = format!(
            "EXPLAIN QUERY PLAN SELECT id FROM signing_key WHERE state = '{state}' AND {order} LIMIT 2"
        );
        let mut tx = world.store.store.read("plan").await.unwrap();
        let rows = tx
            .fetch_all(sql(Box::leak(text.into_boxed_str())))
            .await
            .unwrap();
        let plan: Vec<_> = rows.iter().map(|row| row.text("detail").unwrap()).collect();
        assert!(plan[0].contains("INDEX signing_key_state"), "{plan:?}");
        // At most those of one second are sorted.
        let sorted = plan[1..].iter().all(|step| step.contains("OF ORDER BY"));
        assert!(sorted, "{plan:?}");
    }
}

// shows: II-3.1.1-signer-data-protected, T-USE-CRED-ALTER, T-USE-SAP-REPLAY
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_were_edited_swapped_or_set_back_are_not_believed() {
    for world in worlds().await {
        let mut a = world.enrol("a", false, &[KeyAlg::P256]).await;
        let mut b = world.enrol("b", false, &[KeyAlg::P256]).await;
        // B's factor in A's place: sealed to another id.
        run(&world, "UPDATE factor SET sealed = (SELECT f.sealed FROM factor f WHERE f.owner = 'b') WHERE owner = 'a'")
            .await;
        let rid = world.prepare(&a, &[hash(1)]).await;
        assert_eq!(
            world.sam.open(OpenRequest { rid }).await.unwrap_err().code,
            SapRefusalCode::NotNow
        );
        assert!(world.audited("alarm", "sealed-row-tampered").await >= 1);

        // An older version of an act, put back after its use.
        let token = world.approved(&mut b, &[hash(2)]).await;
        // It runs, and sees none of what follows.
        let other = world.node("sam-2").await;
        run(&world, "CREATE TABLE kept AS SELECT * FROM act").await;
        world.sign(&b, &token, &[hash(2)]).await.unwrap();
        run(
            &world,
            "UPDATE act SET sealed = (SELECT k.sealed FROM kept k WHERE k.id = act.id) \
                     WHERE id IN (SELECT id FROM kept)",
        )
        .await;
        assert_eq!(
            world.sign(&b, &token, &[hash(2)]).await.unwrap_err(),
            Refusal::NotNow
        );
        // With its version number it opens: the row is authentic and old. This node has seen the newer one; one that
        // has not looked since believes it, and the module refuses the order; one that starts finds it.
        run(&world, "UPDATE act SET version = (SELECT k.version FROM kept k WHERE k.id = act.id), \
                     state = (SELECT k.state FROM kept k WHERE k.id = act.id) WHERE id IN (SELECT id FROM kept)").await;
        assert_eq!(
            world.sign(&b, &token, &[hash(2)]).await.unwrap_err(),
            Refusal::NotNow
        );
        assert!(world.audited("alarm", "sealed-row-set-back").await >= 1);
        let request = world.sign_request(&b, &token, &[hash(2)]);
        let fresh = world.node("sam-3").await.sign(SSA, request.clone()).await;
        assert_eq!(fresh.unwrap_err(), Refusal::NotNow);
        assert_eq!(other.sign(SSA, request).await.unwrap_err(), Refusal::Lost);
        assert_eq!(world.cm.values.lock().unwrap().len(), 1);

        // The same for a right that was spent with a second order, when the first never reached the module.
        let token = world.approved(&mut b, &[hash(5)]).await;
        run(&world, "DROP TABLE kept").await;
        run(&world, "CREATE TABLE kept AS SELECT * FROM act").await;
        world.cm.next(Fault::Refuse(Refused::NotOperational));
        world.sign(&b, &token, &[hash(5)]).await.unwrap();
        assert_eq!(world.cm.values.lock().unwrap().len(), 2);
        run(
            &world,
            "UPDATE act SET sealed = (SELECT k.sealed FROM kept k WHERE k.id = act.id), \
                     version = (SELECT k.version FROM kept k WHERE k.id = act.id), \
                     state = (SELECT k.state FROM kept k WHERE k.id = act.id) WHERE id IN (SELECT id FROM kept)",
        )
        .await;
        run(&world, "DELETE FROM result").await;
        let orders = world.cm.orders.load(Ordering::SeqCst);
        let request = world.sign_request(&b, &token, &[hash(5)]);
        assert_eq!(other.sign(SSA, request).await.unwrap_err(), Refusal::Lost);
        assert_eq!(world.cm.orders.load(Ordering::SeqCst), orders + 1);
        assert_eq!(world.cm.values.lock().unwrap().len(), 2);

        // Plain columns are for finding only.
        let rid = world.prepare(&b, &[hash(3)]).await;
        let act = world.open(rid).await;
        run(
            &world,
            "UPDATE act SET state = 'approved', stamp = 9999999999",
        )
        .await;
        run(&world, "UPDATE request SET state = 'approved'").await;
        assert_eq!(
            world.bind(rid, "token").await.unwrap_err(),
            Refusal::NotApproved
        );
        world.clock.advance(301);
        let late = world
            .approve(b.passkey.prove(act).unwrap())
            .await
            .unwrap_err();
        assert_eq!(late.code, SapRefusalCode::Expired);

        // Deleting gives nothing.
        let token = world.approved(&mut b, &[hash(4)]).await;
        world.sign(&b, &token, &[hash(4)]).await.unwrap();
        run(&world, "DELETE FROM act").await;
        run(&world, "DELETE FROM result").await;
        assert_eq!(
            world.sign(&b, &token, &[hash(4)]).await.unwrap_err(),
            Refusal::NotFound
        );
        assert!(a.passkey.prove(act).is_ok());
    }
}

/// A table as it was, and its rows put back one by one, versions and all.
async fn put_back(world: &World, table: &'static str) {
    let text = match table {
        "signing_key" => {
            "UPDATE signing_key SET sealed = (SELECT k.sealed FROM kept_signing_key k WHERE k.id = signing_key.id), \
             version = (SELECT k.version FROM kept_signing_key k WHERE k.id = signing_key.id)"
        }
        "factor" => {
            "UPDATE factor SET sealed = (SELECT k.sealed FROM kept_factor k WHERE k.id = factor.id), \
             version = (SELECT k.version FROM kept_factor k WHERE k.id = factor.id)"
        }
        _ => {
            "UPDATE act SET sealed = (SELECT k.sealed FROM kept_act k WHERE k.id = act.id), \
             version = (SELECT k.version FROM kept_act k WHERE k.id = act.id) WHERE id IN (SELECT id FROM kept_act)"
        }
    };
    run(world, text).await;
}

// shows: T-USE-SAP-REPLAY, T-KEY-ABUSE
#[tokio::test(flavor = "multi_thread")]
async fn a_database_set_back_to_before_a_renewal_or_an_order_gets_no_second_value() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let values = || world.cm.values.lock().unwrap().len();
        let chain = world
            .renewable(&mut signer, &[hash(1), hash(2)], 1800)
            .await;
        let single = world.approved(&mut signer, &[hash(3)]).await;
        // It runs, and sees none of what follows.
        let node = world.node("sam-2").await;
        run(&world, "CREATE TABLE kept_act AS SELECT * FROM act").await;
        world.sign(&signer, &chain, &[hash(1)]).await.unwrap();
        world.sign(&signer, &single, &[hash(3)]).await.unwrap();
        assert_eq!(values(), 2);
        put_back(&world, "act").await;
        run(&world, "DELETE FROM result").await;

        // The renewal gives the order another name, for an item that was signed.
        let renew = world.renew_request(&signer, &chain, "next");
        assert_eq!(node.renew(SSA, renew).await.unwrap().count, 2);
        let twice = world.sign_request(&signer, "next", &[hash(1)]);
        assert_eq!(node.sign(SSA, twice).await.unwrap_err(), Refusal::Lost);
        assert_eq!(values(), 2);
        let renew = world.renew_request(&signer, "next", "last");
        assert_eq!(node.renew(SSA, renew).await.unwrap().count, 1);
        let other = world.sign_request(&signer, "last", &[hash(2)]);
        node.sign(SSA, other).await.unwrap();
        assert_eq!(values(), 3, "what wasn't signed is, once");

        // So does the attempt after a *no* of a module that had done it before.
        world.cm.next(Fault::Refuse(Refused::NotOperational));
        let twice = world.sign_request(&signer, &single, &[hash(3)]);
        assert_eq!(node.sign(SSA, twice).await.unwrap_err(), Refusal::Lost);
        assert_eq!(values(), 3);
    }
}

// shows: II-3.1.1-signer-data-protected, T-USE-CRED-ALTER
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_stopped_stays_so_when_its_row_is_set_back() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let token = world.approved(&mut signer, &[hash(1)]).await;
        let act = world.open(world.prepare(&signer, &[hash(2)]).await).await;
        run(
            &world,
            "CREATE TABLE kept_signing_key AS SELECT * FROM signing_key",
        )
        .await;
        let changes = world.key(&signer).await.changes;
        world.stop(&signer, changes).await.unwrap();
        put_back(&world, "signing_key").await;
        assert_eq!(
            world.sign(&signer, &token, &[hash(1)]).await.unwrap_err(),
            Refusal::NotNow
        );
        let proof = signer.passkey.prove(act).unwrap();
        assert_eq!(
            world.approve(proof).await.unwrap_err().code,
            SapRefusalCode::NotNow
        );
        assert_eq!(world.cm.orders.load(Ordering::SeqCst), 0);
        assert!(world.audited("alarm", "sealed-row-set-back").await >= 2);
    }
}

// shows: T-USE-SAP-BYPASS
#[tokio::test(flavor = "multi_thread")]
async fn rows_set_back_give_no_more_tries_with_a_pin() {
    for world in worlds().await {
        let signer = world.enrol("p", true, &[KeyAlg::P256]).await;
        let act = world.open(world.prepare(&signer, &[hash(1)]).await).await;
        run(&world, "CREATE TABLE kept_factor AS SELECT * FROM factor").await;
        run(&world, "CREATE TABLE kept_act AS SELECT * FROM act").await;
        let before = world.cm.pins.load(Ordering::SeqCst);
        for _ in 0..8 {
            let otp = world.otp(signer.seed.as_ref().unwrap(), 0);
            let proof = world.pin_proof(act, "wrong-wrong-wrong", otp).await;
            assert!(world.approve(proof).await.is_err());
            put_back(&world, "factor").await;
            put_back(&world, "act").await;
        }
        assert_eq!(world.cm.pins.load(Ordering::SeqCst) - before, 1);
        assert!(world.audited("alarm", "sealed-row-set-back").await >= 1);
    }
}

// shows: T-USE-SAP-REPLAY
#[tokio::test(flavor = "multi_thread")]
async fn acts_from_before_a_restore_are_dead() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let rid = world.prepare(&signer, &[hash(1)]).await;
        let open = world.open(rid).await;
        let token = world.approved(&mut signer, &[hash(2)]).await;
        world.store.mark_restored().await.unwrap();
        let proof = signer.passkey.prove(open).unwrap();
        assert_eq!(
            world.approve(proof).await.unwrap_err().code,
            SapRefusalCode::Expired
        );
        assert_eq!(
            world.sign(&signer, &token, &[hash(2)]).await.unwrap_err(),
            Refusal::Expired
        );
        // The person may approve anew: new keys of the SAM, vouched for again.
        let token = world.approved(&mut signer, &[hash(2)]).await;
        world.sign(&signer, &token, &[hash(2)]).await.unwrap();
    }
}

// shows: I-7.1.4.9-audit-timing, II-3.3.2-audit-tamper-detected
#[tokio::test(flavor = "multi_thread")]
async fn without_an_audit_log_nothing_is_approved_ordered_or_answered() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let (gone, back) = (
            "ALTER TABLE audit_entry RENAME TO audit_gone",
            "ALTER TABLE audit_gone RENAME TO audit_entry",
        );
        let rid = world.prepare(&signer, &[hash(1)]).await;
        let act = world.open(rid).await;
        let proof = signer.passkey.prove(act).unwrap();
        run(&world, gone).await;
        assert_eq!(
            world.approve(proof.clone()).await.unwrap_err().code,
            SapRefusalCode::NotNow
        );
        assert_eq!(
            world.bind(rid, "token").await.unwrap_err(),
            Refusal::NotApproved
        );
        run(&world, back).await;
        world.approve(proof).await.unwrap();
        world.bind(rid, "token").await.unwrap();
        // T1: no order.
        run(&world, gone).await;
        assert_eq!(
            world.sign(&signer, "token", &[hash(1)]).await.unwrap_err(),
            Refusal::NotNow
        );
        assert_eq!(world.cm.orders.load(Ordering::SeqCst), 0);
        run(&world, back).await;
        // T2: the value was made, and doesn't leave.
        let (reached, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        world.cm.delay(reached.clone(), release.clone());
        let (sam, request) = (
            world.sam.clone(),
            world.sign_request(&signer, "token", &[hash(1)]),
        );
        let call = tokio::spawn(async move { sam.sign(SSA, request).await });
        reached.notified().await;
        run(&world, gone).await;
        release.notify_one();
        assert_eq!(call.await.unwrap().unwrap_err(), Refusal::Lost);
        run(&world, back).await;
        world.clock.advance(31);
        world.sam.maintain().await.unwrap();
        assert!(world.sign(&signer, "token", &[hash(1)]).await.is_err());
        assert_eq!(world.cm.orders.load(Ordering::SeqCst), 1);
        assert_eq!(world.audited("signature.made", "").await, 0);
    }
}

// shows: I-A5-no-secrets-in-logs, T-REG-MGMT-CRED-DISCLOSE
#[tokio::test(flavor = "multi_thread")]
async fn a_dump_of_the_store_holds_no_secret() {
    for world in worlds().await {
        let mut invitation = world.invitation("p", &[KeyAlg::P256]);
        invitation.ceiling = core_types::Level::One;
        let (voucher, secret) = world.invite(invitation).await;
        let act = world
            .sam
            .enrol_open(EnrolOpenRequest {
                voucher: voucher.clone(),
            })
            .await
            .unwrap()
            .act;
        let act = sap::act_digest(&act);
        let seed = world.fetch_seed(act, &secret).await.unwrap();
        let mut sealed = world.secrets(act, &secret);
        sealed.pin = Some(core_types::SecretBytes::from(PIN.to_owned()));
        sealed.otp = Some(world.otp(&seed, 0));
        let sealed = world.seal(act, &sealed).await;
        world
            .sam
            .enrol_register(EnrolRegisterRequest {
                act,
                sealed,
                passkey: None,
                id_token: None,
            })
            .await
            .unwrap();
        let keys = world.certify(&voucher).await;
        let person = core_types::PersonId::parse("p").unwrap();
        let signer = Signer {
            person,
            passkey: passkey(),
            seed: Some(seed.clone()),
            keys,
        };
        world.clock.advance(60);
        let rid = world.prepare(&signer, &[hash(1)]).await;
        let act = world.open(rid).await;
        let otp = world.otp(&seed, 0);
        world
            .approve(world.pin_proof(act, PIN, otp.clone()).await)
            .await
            .unwrap();
        let token = random_token();
        world.bind(rid, &token).await.unwrap();
        let value = world
            .sign(&signer, &token, &[hash(1)])
            .await
            .unwrap()
            .signatures
            .remove(0);

        let base32 = sam_core::totp::base32(&seed);
        let canaries: Vec<Vec<u8>> = vec![
            b"canary".to_vec(),
            PIN.into(),
            b64u(PIN).into_bytes(),
            b64u(&token).into_bytes(),
            seed.expose().to_vec(),
            b64u(seed.expose()).into_bytes(),
            base32.expose().to_vec(),
            secret.expose().to_vec(),
            b64u(secret.expose()).into_bytes(),
            rid.0.to_vec(),
            rid.to_string().into_bytes(),
            value.0.clone(),
            b64u(&value.0).into_bytes(),
        ];
        let dump = dump(&world).await;
        // The dump is what it should be: public things are in it.
        assert!(contains(&dump, act.to_string().as_bytes()));
        for (n, canary) in canaries.iter().enumerate() {
            assert!(!contains(&dump, canary), "canary {n}");
        }
    }
}

fn contains(dump: &[u8], what: &[u8]) -> bool {
    dump.windows(what.len()).any(|w| w == what)
}

/// All cells of all tables.
async fn dump(world: &World) -> Vec<u8> {
    let mut tx = world.store.read("dump").await.unwrap();
    let mut out = Vec::new();
    for (query, text, blob) in [
        (
            "SELECT id || owner || link || state AS t, sealed AS b FROM keyring",
            "t",
            "b",
        ),
        (
            "SELECT id || owner || link || state AS t, sealed AS b FROM person",
            "t",
            "b",
        ),
        (
            "SELECT id || owner || link || state AS t, sealed AS b FROM factor",
            "t",
            "b",
        ),
        (
            "SELECT id || owner || link || state AS t, sealed AS b FROM signing_key",
            "t",
            "b",
        ),
        (
            "SELECT id || owner || link || state AS t, sealed AS b FROM voucher",
            "t",
            "b",
        ),
        (
            "SELECT id || owner || link || state AS t, sealed AS b FROM request",
            "t",
            "b",
        ),
        (
            "SELECT id || owner || link || state AS t, sealed AS b FROM act",
            "t",
            "b",
        ),
        (
            "SELECT id || owner || link || state AS t, sealed AS b FROM result",
            "t",
            "b",
        ),
        ("SELECT id AS t, body AS b FROM evidence", "t", "b"),
        ("SELECT body AS t, mac AS b FROM audit_entry", "t", "b"),
    ] {
        for row in tx.fetch_all(sql(query)).await.unwrap() {
            out.extend_from_slice(row.text(text).unwrap().as_bytes());
            out.extend_from_slice(&row.blob(blob).unwrap());
        }
    }
    for row in tx
        .fetch_all(sql("SELECT id || jws AS t FROM act_text"))
        .await
        .unwrap()
    {
        let text = row.text("t").unwrap();
        out.extend_from_slice(text.as_bytes());
        for part in text.split('.') {
            out.extend_from_slice(&core_types::bytes::from_b64u(part).unwrap_or_default());
        }
    }
    out
}
