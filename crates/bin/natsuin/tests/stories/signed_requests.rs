//! Our own application signs its requests: the signer's act says so, and nobody else's request passes for its own.

use core_types::KeyAlg;
use core_types::bytes::from_b64u;
use core_types::random::SystemRandom;
use csc_client::{AuthorizeParams, Client, ClientCredentials, HttpOptions};
use natsuin::agent::Agent;
use natsuin::sample;
use natsuin::stack::{Factors, StoreChoice};
use reqwest::{Method, Url};
use serde_json::Value;
use store_kit::StoreUrl;
use store_kit::testing::postgres_database;

use crate::kit::Story;
use crate::spend::{approval, hashes};

async fn get(agent: &mut Agent, url: &str) -> String {
    let url = Url::parse(url).unwrap();
    let asked = agent.request(Method::GET, &url);
    let answer = agent.send(&url, asked).await.unwrap();
    answer.text().await.unwrap()
}

// shows: T-USE-DTBSR-FORGE, T-INS-OPERATOR
#[tokio::test(flavor = "multi_thread")]
async fn what_our_application_asks_for_is_shown_as_its_own_and_unsigned_requests_are_not_taken() {
    let StoreUrl::Postgres(database) = postgres_database().await else {
        panic!("a PostgreSQL database was asked for");
    };
    for store in [
        StoreChoice::Embedded,
        StoreChoice::Postgres(database.to_string()),
    ] {
        let mut story = Story::of_signing_application(KeyAlg::P256, store).await;
        let registered = story.stack.client("demo-app").unwrap().clone();
        assert_eq!(registered.client_secret, None, "its key is what it has");
        let contract = story.dir.path().join("contract.pdf");
        std::fs::write(&contract, sample::contract().unwrap()).unwrap();
        let (signed, _) = story.sign(&contract, "signed.pdf").await.unwrap();
        assert!(signed.exists());

        // The receipt holds the act as the signer saw it: name and list are the application's own.
        // It is there when its entry has its place in the log.
        let signing = format!("{}/signing", story.stack.ssa_url);
        let listed = async {
            loop {
                let page = get(&mut story.agent, &signing).await;
                if page.contains("/signing/receipt/") {
                    break page;
                }
            }
        };
        let page = tokio::time::timeout(std::time::Duration::from_secs(60), listed).await;
        let page = page.unwrap();
        let act = page.split("/signing/receipt/").nth(1).unwrap();
        let act = act.split('"').next().unwrap();
        let receipt = format!("{}/signing/receipt/{act}", story.stack.ssa_url);
        let receipt: Value = serde_json::from_str(&get(&mut story.agent, &receipt).await).unwrap();
        let acts = acts(&receipt);
        let signing: Vec<_> = acts.iter().filter(|act| act["kind"] == "sign").collect();
        assert!(!signing.is_empty(), "{receipt}");
        for act in signing {
            assert_eq!(act["client"]["id"], "demo-app");
            assert_eq!(
                (&act["client"]["known"], &act["client"]["signed"]),
                (&Value::Bool(true), &Value::Bool(true))
            );
        }

        // Whoever has its id, and not its key, gets nowhere.
        let credentials = ClientCredentials {
            client_id: registered.client_id.clone(),
            client_secret: None,
        };
        let options = HttpOptions {
            extra_roots_pem: Some(std::fs::read(story.anchors()).unwrap()),
            ..HttpOptions::default()
        };
        let base = format!("{}/csc/v2", story.stack.ssa_url);
        let unsigned = Client::new(&base, credentials, &options).unwrap();
        let provider = unsigned.discover().await.unwrap();
        let params = AuthorizeParams {
            purpose: approval(&story.signer.credentials[0].credential_id, &hashes(1)),
            redirect_uri: &registered.redirect_uris[0],
            lang: None,
            description: None,
        };
        let asked = unsigned.authorize(&provider, &params, &SystemRandom).await;
        if let Ok(pending) = asked {
            let mut agent = Agent::new(&story.stack);
            let factors = Factors::Passkey(&mut story.device);
            let home = &registered.redirect_uris[0];
            let back = agent
                .until(pending.url.as_str(), home, &story.signer, factors)
                .await;
            let refused = back.map_or(true, |back| !back.as_str().contains("code="));
            assert!(refused, "an unsigned request was taken");
        }
        story.stack.stop().await;
    }
}

/// The acts in a receipt, wherever they stand.
fn acts(receipt: &Value) -> Vec<Value> {
    match receipt {
        Value::String(text) => {
            let payload = text.split('.').nth(1).and_then(|part| from_b64u(part).ok());
            let act = payload.and_then(|json| serde_json::from_slice::<Value>(&json).ok());
            act.filter(|act| act["kind"].is_string())
                .into_iter()
                .collect()
        }
        Value::Array(all) => all.iter().flat_map(acts).collect(),
        Value::Object(all) => all.values().flat_map(acts).collect(),
        _ => Vec::new(),
    }
}
