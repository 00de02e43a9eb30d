//! The checker against a provider that does everything right, and against one fault at a time: each is found, by its name, and nothing else.

mod clients;
mod fake;
mod person;
mod table;

use std::collections::BTreeSet;

use core_types::bytes::b64;
use csc_client::check::{Case, Outcome};
use serde_json::json;

use fake::{Ask, Fault, Reply, no, run, run_with, start};
use table::FAULTS;

fn named(cases: &[Case], wanted: fn(&Outcome) -> bool) -> BTreeSet<&str> {
    let found = cases.iter().filter(|case| wanted(&case.outcome));
    found.map(|case| case.name.as_ref()).collect()
}

fn failed(cases: &[Case]) -> BTreeSet<&str> {
    named(cases, |o| matches!(o, Outcome::Failed { .. }))
}

#[tokio::test]
async fn a_provider_that_does_everything_right_passes_and_what_was_not_tried_is_named() {
    let (fake, service, _dir) = start().await;
    let cases = run(&fake, &service, |_, _| {}).await;
    assert_eq!(failed(&cases), BTreeSet::new(), "{cases:#?}");
    let untried = named(&cases, |o| matches!(o, Outcome::NotTested { .. }));
    for name in [
        "the method signatures/novelty",
        "a code works once",
        "a transaction is extended",
        "a person logs in with name and password",
        "a time-stamp holds the hash and the nonce",
    ] {
        assert!(untried.contains(name), "{name}: {untried:?}");
    }
    let passed = named(&cases, |o| matches!(o, Outcome::Passed));
    assert!(passed.contains(VALUE) && passed.len() > 50, "{passed:?}");
}

/// The case about a value.
const VALUE: &str = "the signature is the certificate's key's, over the hash";
const KEY: &str = "key.len, key.algo and key.curve are those of the certificate's key";

#[tokio::test]
async fn each_fault_is_found_by_its_name_and_alone() {
    let (fake, service, _dir) = start().await;
    for (n, (name, fault)) in FAULTS.into_iter().enumerate() {
        let cases = run(&fake, &service, fault).await;
        assert_eq!(failed(&cases), BTreeSet::from([name]), "fault {n}");
    }
}

#[tokio::test]
async fn a_value_that_is_none_is_found_and_told_how() {
    let (fake, service, _dir) = start().await;
    let faults: [(&str, Fault); 4] = [
        ("that are no DER", |a, r| {
            if a.at == "signatures/signHash" && r.status == 200 {
                r.body["signatures"] = json!([b64([0xaa; 70])]);
            }
        }),
        ("r and s side by side", |a, r| {
            if a.at == "signatures/signHash" && r.status == 200 {
                r.body["signatures"] = json!([b64([7; 64])]);
            }
        }),
        ("not base64", |a, r| {
            if a.at == "signatures/signHash" && r.status == 200 {
                r.body["signatures"] = json!(["*"]);
            }
        }),
        // A DER value of the right form that nobody made: r = s = 1.
        ("did not make it", |a, r| {
            if a.at == "signatures/signHash" && r.status == 200 {
                r.body["signatures"] = json!([b64([0x30, 6, 2, 1, 1, 2, 1, 1])]);
            }
        }),
    ];
    for (why, fault) in faults {
        let cases = run(&fake, &service, fault).await;
        assert_eq!(failed(&cases), BTreeSet::from([VALUE]), "{why}");
        let found = cases.iter().find(|case| case.name == VALUE).unwrap();
        let Outcome::Failed { why: told } = &found.outcome else {
            panic!("{found:?}")
        };
        assert!(told.contains(why), "{told}");
    }
}
