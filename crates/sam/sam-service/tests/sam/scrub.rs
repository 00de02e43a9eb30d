//! The comparison of rows and log, at start and now and then (`sap.md` §9 *Rollback*; §14, 29, 56).

use std::sync::Arc;

use core_types::random::SystemRandom;
use core_types::{KeyAlg, PersonId};
use sam_api::Refusal;
use sam_api::ssa::*;
use sam_service::{Sam, Scrubbed, StartError};
use sap::messages::*;

use crate::kit::*;
use crate::office_kit::dismiss;
use crate::stores::run;

const KEEP: [&str; 6] = [
    "CREATE TABLE kept_person AS SELECT * FROM person",
    "CREATE TABLE kept_factor AS SELECT * FROM factor",
    "CREATE TABLE kept_signing_key AS SELECT * FROM signing_key",
    "CREATE TABLE kept_voucher AS SELECT * FROM voucher",
    "CREATE TABLE kept_request AS SELECT * FROM request",
    "CREATE TABLE kept_act AS SELECT * FROM act",
];

macro_rules! put_back {
    ($table:literal) => {
        concat!(
            "UPDATE ",
            $table,
            " SET sealed = (SELECT k.sealed FROM kept_",
            $table,
            " k WHERE k.id = ",
            $table,
            ".id), version = (SELECT k.version FROM kept_",
            $table,
            " k WHERE k.id = ",
            $table,
            ".id) WHERE id IN (SELECT id FROM kept_",
            $table,
            ")",
        )
    };
}

const PUT_BACK: [&str; 6] = [
    put_back!("person"),
    put_back!("factor"),
    put_back!("signing_key"),
    put_back!("voucher"),
    put_back!("request"),
    put_back!("act"),
];

fn tables(places: &[(&'static str, String)]) -> Vec<&'static str> {
    let mut tables: Vec<_> = places.iter().map(|(table, _)| *table).collect();
    tables.sort_unstable();
    tables.dedup();
    tables
}

/// Nothing but a number of rows that were compared.
fn in_order(found: &Scrubbed) -> bool {
    let rows = found.rows;
    *found
        == Scrubbed {
            rows,
            ..Scrubbed::default()
        }
}

// shows: T-USE-CRED-ALTER, II-3.1.1-signer-data-protected
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_seen_nothing_finds_rows_that_were_set_back() {
    for world in worlds().await {
        let mut stopped = world.enrol("stopped", false, &[KeyAlg::P256]).await;
        let mut other = world.enrol("other", false, &[KeyAlg::P256]).await;
        let guessed = world.enrol("guessed", true, &[KeyAlg::P256]).await;
        let (voucher, secret) = world
            .invite(world.invitation("invited", &[KeyAlg::P256]))
            .await;
        let guess = world.open(world.prepare(&guessed, &[hash(1)]).await).await;
        let refused = world.open(world.prepare(&stopped, &[hash(2)]).await).await;
        // It runs, and has nothing to do with any of them.
        let idle = world.node("sam-idle").await;
        for keep in KEEP {
            run(&world, keep).await;
        }

        let refuse = RefuseRequest {
            act: refused,
            unknown: false,
        };
        world.sam.refuse(refuse).await.unwrap();
        let changes = world.key(&stopped).await.changes;
        world.stop(&stopped, changes).await.unwrap();
        let otp = world.otp(guessed.seed.as_ref().unwrap(), 0);
        let proof = world.pin_proof(guess, "wrong-wrong-wrong", otp).await;
        world.approve(proof).await.unwrap_err();
        let request = EnrolOpenRequest {
            voucher: voucher.clone(),
        };
        let act = world.sam.enrol_open(request).await.unwrap().act;
        let act = sap::act_digest(&act);
        let registration = passkey().register(act).unwrap();
        let sealed = world.seal(act, &world.secrets(act, &secret)).await;
        let request = EnrolRegisterRequest {
            act,
            sealed,
            passkey: Some(registration),
            id_token: None,
        };
        world.sam.enrol_register(request).await.unwrap();

        for back in PUT_BACK {
            run(&world, back).await;
        }
        // Whoever wrote the newer ones finds them; whoever did not believes the old ones.
        let asked = KeysRequest {
            person: stopped.person.clone(),
        };
        assert_eq!(
            idle.keys(asked.clone()).await.unwrap().keys[0].state,
            KeyState::Active
        );
        let started = world.node("sam-started").await;
        assert_eq!(world.audited("alarm", "sealed-row-set-back").await, 1);
        let found = idle.scrub().await.unwrap();
        assert_eq!(
            tables(&found.set_back),
            [
                "act",
                "factor",
                "person",
                "request",
                "signing_key",
                "voucher"
            ]
        );
        assert_eq!(
            (&found.strange, &found.missing, &found.tampered),
            (&vec![], &vec![], &vec![])
        );
        assert!(
            found
                .set_back
                .contains(&("signing_key", stopped.keys[0].key.to_string()))
        );
        assert!(
            !found
                .set_back
                .contains(&("signing_key", other.keys[0].key.to_string()))
        );
        assert_eq!(world.audited("alarm", "sealed-row-set-back").await, 2);

        for node in [&idle, &started] {
            // Nothing of theirs is used any more.
            assert_eq!(node.keys(asked.clone()).await.unwrap_err(), Refusal::NotNow);
            let request = world.prepare_request(&stopped, hash_items(&[hash(3)]));
            assert_eq!(
                node.prepare(SSA, request).await.unwrap_err(),
                Refusal::NotNow
            );
            let proof = stopped.passkey.prove(refused).unwrap();
            let approved = node.approve(ApproveRequest { proof, new: None }).await;
            assert_eq!(approved.unwrap_err().code, SapRefusalCode::NotNow);
            let otp = world.otp(guessed.seed.as_ref().unwrap(), 0);
            let proof = world.pin_proof(guess, PIN, otp).await;
            let approved = node.approve(ApproveRequest { proof, new: None }).await;
            assert_eq!(approved.unwrap_err().code, SapRefusalCode::NotNow);
            let opened = node
                .enrol_open(EnrolOpenRequest {
                    voucher: voucher.clone(),
                })
                .await;
            assert_eq!(opened.unwrap_err().code, SapRefusalCode::NotNow);
        }
        // Everybody else goes on.
        let token = world.approved(&mut other, &[hash(4)]).await;
        let request = world.sign_request(&other, &token, &[hash(4)]);
        started.sign(SSA, request).await.unwrap();
    }
}

/// Whoever writes to the store has rows found as something else, or not at all, without touching what is sealed: it is told which.
// shows: T-USE-CRED-ALTER, T-INS-OPERATOR
#[tokio::test(flavor = "multi_thread")]
async fn rows_whose_columns_say_something_else_than_they_hold_are_named() {
    for world in worlds().await {
        let signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        world.open(world.prepare(&signer, &[hash(1)]).await).await;
        let mut founders = world.officers().await;
        let first = &mut founders.devices[0];
        world.propose(first, dismiss("c")).await.unwrap();
        drop(founders);
        assert!(in_order(&world.sam.scrub().await.unwrap()));
        let alarms = async || world.audited("alarm", "sealed-row-misfiled").await;
        for (n, (attack, table)) in [
            ("UPDATE factor SET owner = 'x' WHERE owner = 'p'", "factor"),
            ("UPDATE signing_key SET state = 'destroyed'", "signing_key"),
            ("UPDATE voucher SET stamp = stamp + 1", "voucher"),
            ("UPDATE person SET owner = 'x'", "person"),
            ("UPDATE request SET link = 'x'", "request"),
            ("UPDATE act SET stamp = stamp + 1", "act"),
            (
                "UPDATE office_person SET link = 'x' WHERE id = 'c'",
                "office_person",
            ),
            (
                "UPDATE office_account SET owner = 'x' WHERE id = 'officer.c'",
                "office_account",
            ),
            (
                "UPDATE office_proposal SET state = 'done'",
                "office_proposal",
            ),
            ("UPDATE office_session SET stamp = 0", "office_session"),
            ("UPDATE office_genesis SET link = 'x'", "office_genesis"),
        ]
        .into_iter()
        .enumerate()
        {
            assert!(run(&world, attack).await > 0, "{attack}");
            let found = world.sam.scrub().await.unwrap();
            let named = tables(&found.misfiled);
            assert_eq!(named.len(), n + 1, "{attack}: {named:?}");
            assert!(named.contains(&table), "{attack}: {named:?}");
            assert_eq!(alarms().await, n + 1);
            let (rows, misfiled) = (found.rows, found.misfiled.clone());
            let nothing_else = Scrubbed {
                rows,
                misfiled,
                ..Scrubbed::default()
            };
            assert_eq!(found, nothing_else, "{attack}");
        }
        // What is sealed is as it was, so it isn't refused.
        assert_eq!(world.key(&signer).await.state, KeyState::Active);
    }
}

// shows: T-REG-IMPERSONATE
#[tokio::test(flavor = "multi_thread")]
async fn a_voucher_whose_row_was_taken_away_is_not_used_again() {
    for world in worlds().await {
        let invitation = world.invitation("p", &[KeyAlg::P256]);
        let (invite, voucher, secret) = world.ra.invite(invitation).unwrap();
        let request = VoucherRequest::Ra {
            invite,
            return_uri: RETURN.into(),
        };
        world.sam.voucher(SSA, request.clone()).await.unwrap();
        let open = EnrolOpenRequest {
            voucher: voucher.clone(),
        };
        let act = sap::act_digest(&world.sam.enrol_open(open.clone()).await.unwrap().act);
        let registration = passkey().register(act).unwrap();
        let sealed = world.seal(act, &world.secrets(act, &secret)).await;
        let register = EnrolRegisterRequest {
            act,
            sealed,
            passkey: Some(registration),
            id_token: None,
        };
        world.sam.enrol_register(register).await.unwrap();

        run(&world, "DELETE FROM voucher").await;
        run(&world, "DELETE FROM person").await;
        let node = world.node("sam-2").await;
        let found = node.scrub().await.unwrap();
        assert_eq!(tables(&found.missing), ["person", "voucher"]);
        assert!(world.audited("alarm", "sealed-row-missing").await >= 1);
        // It can be brought, and is of no use.
        node.voucher(SSA, request).await.unwrap();
        let opened = node.enrol_open(open).await.unwrap_err();
        assert_eq!(opened.code, SapRefusalCode::NotNow);
    }
}

/// Everything back to how it was, log and all.
const SNAPSHOT: [(&str, &str, &str); 9] = [
    (
        "CREATE TABLE then_person AS SELECT * FROM person",
        "DELETE FROM person",
        "INSERT INTO person SELECT * FROM then_person",
    ),
    (
        "CREATE TABLE then_factor AS SELECT * FROM factor",
        "DELETE FROM factor",
        "INSERT INTO factor SELECT * FROM then_factor",
    ),
    (
        "CREATE TABLE then_key AS SELECT * FROM signing_key",
        "DELETE FROM signing_key",
        "INSERT INTO signing_key SELECT * FROM then_key",
    ),
    (
        "CREATE TABLE then_voucher AS SELECT * FROM voucher",
        "DELETE FROM voucher",
        "INSERT INTO voucher SELECT * FROM then_voucher",
    ),
    (
        "CREATE TABLE then_request AS SELECT * FROM request",
        "DELETE FROM request",
        "INSERT INTO request SELECT * FROM then_request",
    ),
    (
        "CREATE TABLE then_act AS SELECT * FROM act",
        "DELETE FROM act",
        "INSERT INTO act SELECT * FROM then_act",
    ),
    (
        "CREATE TABLE then_head AS SELECT * FROM audit_head",
        "DELETE FROM audit_head",
        "INSERT INTO audit_head SELECT * FROM then_head",
    ),
    (
        "CREATE TABLE then_entry AS SELECT * FROM audit_entry",
        "DELETE FROM audit_entry",
        "INSERT INTO audit_entry SELECT * FROM then_entry",
    ),
    (
        "CREATE TABLE then_tree AS SELECT * FROM audit_tree",
        "DELETE FROM audit_tree",
        "INSERT INTO audit_tree SELECT * FROM then_tree",
    ),
];

async fn restore(world: &World) {
    for (_, delete, insert) in SNAPSHOT {
        run(world, delete).await;
        run(world, insert).await;
    }
}

// shows: T-USE-CRED-ALTER
#[tokio::test(flavor = "multi_thread")]
async fn rows_from_a_time_that_a_restore_undid_are_strange() {
    for world in worlds().await {
        let signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let changes = world.key(&signer).await.changes;
        for (keep, ..) in SNAPSHOT {
            run(&world, keep).await;
        }
        world.stop(&signer, changes).await.unwrap();
        world.enrol("later", false, &[KeyAlg::P256]).await;
        run(
            &world,
            "CREATE TABLE later_factor AS SELECT * FROM factor WHERE owner = 'later'",
        )
        .await;
        run(
            &world,
            "CREATE TABLE later_key AS SELECT * FROM signing_key",
        )
        .await;
        restore(&world).await;
        let node = world.node("sam-2").await;
        assert!(in_order(&node.scrub().await.unwrap()));

        run(&world, "INSERT INTO factor SELECT * FROM later_factor").await;
        run(
            &world,
            "UPDATE signing_key SET sealed = (SELECT k.sealed FROM later_key k WHERE k.id = signing_key.id), \
             version = (SELECT k.version FROM later_key k WHERE k.id = signing_key.id)",
        )
        .await;
        let found = node.scrub().await.unwrap();
        assert_eq!(tables(&found.strange), ["factor", "signing_key"]);
        assert_eq!(world.audited("alarm", "sealed-row-strange").await, 1);
        let person = PersonId::parse("later").unwrap();
        let factors = node.factors(FactorsRequest { person }).await;
        assert_eq!(factors.unwrap_err(), Refusal::NotNow);
    }
}

// shows: T-USE-CRED-ALTER
#[tokio::test(flavor = "multi_thread")]
async fn with_an_altered_log_no_node_starts_or_goes_on() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let token = world.approved(&mut signer, &[hash(1)]).await;
        world.sign(&signer, &token, &[hash(1)]).await.unwrap();
        for (keep, ..) in SNAPSHOT {
            run(&world, keep).await;
        }
        for attack in [
            "UPDATE audit_entry SET body = replace(body, '\"n\":4,', '\"n\":40,') WHERE n = 4",
            "UPDATE audit_entry SET mac = (SELECT e.mac FROM audit_entry e WHERE e.n = 5) WHERE n = 4",
            "DELETE FROM audit_entry WHERE n = 4",
            "DELETE FROM audit_entry WHERE n = (SELECT max(n) FROM audit_entry)",
            "UPDATE audit_head SET n = n - 1",
            "DELETE FROM audit_head",
            "UPDATE audit_entry SET node = 'sam-9' WHERE n = (SELECT max(n) FROM audit_entry)",
        ] {
            assert_eq!(run(&world, attack).await, 1, "{attack}");
            assert!(world.sam.scrub().await.is_err(), "{attack}");
            let started = Sam::start(
                sam_service::SamConfig {
                    node: "sam-2".into(),
                    ..world.config.clone()
                },
                world.cm.clone(),
                world.store.store.clone(),
                Some(world.sam.root().clone()),
                world.clock.clone(),
                Arc::new(SystemRandom),
            );
            let started = started.await.err();
            assert!(
                matches!(started, Some(StartError::Log(_))),
                "{attack}: {started:?}"
            );
            restore(&world).await;
            assert!(in_order(&world.sam.scrub().await.unwrap()), "{attack}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_meanwhile_is_no_finding() {
    for world in worlds().await {
        let world = Arc::new(world);
        let mut signers = Vec::new();
        for n in 0..4 {
            signers.push(world.enrol(&format!("p{n}"), false, &[KeyAlg::P256]).await);
        }
        let busy: Vec<_> = signers
            .into_iter()
            .map(|mut signer| {
                let world = world.clone();
                tokio::spawn(async move {
                    for n in 0..6 {
                        let token = world.approved(&mut signer, &[hash(n)]).await;
                        world.sign(&signer, &token, &[hash(n)]).await.unwrap();
                    }
                })
            })
            .collect();
        let idle = world.node("sam-idle").await;
        while busy.iter().any(|task| !task.is_finished()) {
            for node in [&world.sam, &idle] {
                let found = node.scrub().await.unwrap();
                assert!(in_order(&found), "{found:?}");
            }
        }
        for task in busy {
            task.await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_power_left_is_neither_missed_nor_strange() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let token = world.approved(&mut signer, &[hash(1)]).await;
        world.sign(&signer, &token, &[hash(1)]).await.unwrap();
        // The node was down for days: the log isn't asked about these acts any more, and their rows are still there.
        world.clock.advance(40 * 3600);
        let found = world.sam.scrub().await.unwrap();
        assert!(in_order(&found), "{found:?}");
        world.sam.maintain().await.unwrap();
        let after = world.sam.scrub().await.unwrap();
        assert!(in_order(&after), "{after:?}");
        assert!(after.rows < found.rows);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_entry_names_a_person_otherwise_than_by_the_alias() {
    for world in worlds().await {
        let who = "hanako-tanaka";
        let mut signer = world.enrol(who, false, &[KeyAlg::P256]).await;
        let token = world.approved(&mut signer, &[hash(1)]).await;
        world.sign(&signer, &token, &[hash(1)]).await.unwrap();
        let entries = world.audit_text().await;
        assert!(entries.iter().any(|e| e.contains(r#"["person","#)));
        for entry in entries {
            assert!(!entry.contains(who), "{entry}");
        }
        assert!(in_order(&world.node("sam-2").await.scrub().await.unwrap()));
    }
}
