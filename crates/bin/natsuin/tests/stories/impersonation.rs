//! A stolen password, and what an auditor sees of it: where each login came from, in which session, for which application and key.

use std::net::IpAddr;
use std::sync::Arc;

use core_types::KeyAlg;
use core_types::random::SystemRandom;
use natsuin::agent::Agent;
use natsuin::stack::{Device, Factors, Sic, StoreChoice};
use serde_json::Value;
use store_kit::StoreUrl;

use crate::bad_input::Ahead;
use crate::kit::{Story, natsuin, run, text};
use crate::spend::{Spender, approval, body, credential, hashes};

/// Reaches the stack from another address of this machine.
fn elsewhere(from: IpAddr) -> reqwest::Client {
    let here = ([127, 0, 0, 1], 0).into();
    let client = reqwest::Client::builder()
        .local_address(from)
        .resolve("localhost", here)
        .resolve("sic.localhost", here)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy();
    client.build().unwrap()
}

// shows: I-A5-audit-detects-impersonation, I-7.1.4.5-search, T-USE-CRED-FORGE
#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_password_is_told_from_its_owners_login() {
    let StoreUrl::Postgres(url) = store_kit::testing::postgres_database().await else {
        panic!("a PostgreSQL database was asked for");
    };
    for store in [
        StoreChoice::Embedded,
        StoreChoice::Postgres(url.to_string()),
    ] {
        let clock = Arc::new(Ahead::default());
        let mut story = Story::at(KeyAlg::P256, store.clone(), false, clock.clone()).await;
        let spender = Spender::new(&story.stack, "test-client").await;
        let (key, approved) = (credential(&story), hashes(1));

        // The thief has password and code, and no passkey of hers.
        let thief_at: IpAddr = [127, 0, 0, 2].into();
        let sic = Sic {
            http: elsewhere(thief_at),
            ..story.stack.sic()
        };
        let mut thief = Agent::with(sic);
        let mut his = Device::new(&story.stack.sic_url, &SystemRandom).unwrap();
        let factors = Factors::Passkey(&mut his);
        let asked = approval(&key, &approved);
        let approves = spender.approves(&story.signer, &mut thief, factors, asked);
        assert!(!approves.await, "it takes more than a password");

        // A code counts once: hers is the next one.
        clock.advance(60);
        let mut agent = Agent::new(&story.stack);
        let asked = approval(&key, &approved);
        let token = spender.token(&mut story, &mut agent, asked).await;
        let (status, told) = spender.post(&token, body(&key, &approved), None).await;
        assert_eq!(status, 200, "{told}");
        let Story {
            stack, dir, signer, ..
        } = story;
        stack.stop().await;

        let search = |args: &[&str]| {
            let mut command = natsuin();
            command.args(["audit", "search", "--json", "--all", "--data"]);
            command.arg(dir.path().join("data")).args(args);
            if let StoreChoice::Postgres(url) = &store {
                command.args(["--store", url]);
            }
            let said = run(&mut command);
            assert!(said.status.success(), "{}", text(&said));
            let said = String::from_utf8(said.stdout).unwrap();
            let answer: Value = serde_json::from_str(said.trim()).unwrap();
            answer["entries"].as_array().unwrap().clone()
        };
        let of = |all: &[Value], kind: &str| -> Vec<Value> {
            all.iter().filter(|e| e["kind"] == kind).cloned().collect()
        };
        let member = |entry: &Value, name: &str| entry["entry"]["detail"][name].clone();

        // By person: two logins, from two places, in two sessions.
        let all = search(&["--zone", "ssa", "--person", &signer.person]);
        let logins = of(&all, "login.succeeded");
        assert_eq!(logins.len(), 2, "{all:?}");
        assert_eq!(logins[0]["from"], "127.0.0.2");
        assert_eq!(logins[1]["from"], "127.0.0.1");
        let sessions = [0, 1].map(|n| member(&logins[n], "session"));
        assert!(sessions[0].is_string() && sessions[0] != sessions[1]);
        assert_ne!(member(&logins[0], "from"), member(&logins[1], "from"));

        // By key: who was sent to approve, from where, in whose session, for which application; and who came back.
        let about = search(&["--zone", "ssa", "--key", &key]);
        let sent = of(&about, "authorization.sent");
        let granted = of(&about, "authorization.granted");
        assert_eq!((sent.len(), granted.len()), (2, 1), "{about:?}");
        for (n, login) in logins.iter().enumerate() {
            assert_eq!(sent[n]["from"], login["from"]);
            assert_eq!(member(&sent[n], "session"), sessions[n]);
            assert_eq!(member(&sent[n], "client"), "test-client");
            assert_eq!(member(&sent[n], "key"), key);
            assert!(sent[n]["words"].as_str().unwrap().contains("127.0.0."));
        }
        assert_eq!(granted[0]["from"], "127.0.0.1");
        assert_eq!(member(&granted[0], "session"), sessions[1]);
        assert_eq!(
            member(&granted[0], "request"),
            member(&sent[1], "request"),
            "what she approved, and not what he was sent to"
        );

        // The SAM's log has the requests by the same names, and which factor approved, and nobody's address.
        let sams = search(&["--zone", "sam", "--person", &signer.person]);
        let opened = of(&sams, "request.opened");
        let hers = opened
            .iter()
            .find(|e| member(e, "request") == member(&sent[1], "request"));
        let act = member(hers.unwrap(), "act");
        let proved = of(&sams, "sap.authenticated");
        let proof = proved.iter().find(|e| member(e, "act") == act);
        assert!(member(proof.unwrap(), "factor").is_string());
        let made = of(&sams, "signature.made");
        assert_eq!((made.len(), member(&made[0], "act")), (1, act));
        assert!(sams.iter().all(|e| e["from"].is_null()));
        for entry in sams.iter().chain(&all) {
            let logged = entry["entry"].to_string();
            assert!(!logged.contains("127.0.0."), "{logged}");
        }
    }
}
