//! Our own application signs its requests: the signer's act says so, and nobody else's request passes for its own.

use std::sync::Arc;

use core_types::bytes::from_b64u;
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::{KeyAlg, SecretBytes};
use csc_client::{AuthorizeParams, Client, ClientCredentials, ClientKey, HttpOptions};
use natsuin::agent::Agent;
use natsuin::sample;
use natsuin::stack::StoreChoice;
use reqwest::{Method, Url};
use serde_json::Value;
use store_kit::StoreUrl;
use store_kit::testing::postgres_database;

use crate::kit::{Story, natsuin, run, until};
use crate::spend::{approval, hashes};

async fn get(agent: &mut Agent, url: &str) -> String {
    let url = Url::parse(url).unwrap();
    let asked = agent.request(Method::GET, &url);
    let answer = agent.send(&url, asked).await.unwrap();
    answer.text().await.unwrap()
}

// shows: T-USE-DTBSR-FORGE, T-INS-OPERATOR, I-A2.12-evidence-provided
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
        let mut page = String::new();
        until("a receipt in the list", async || {
            page = get(&mut story.agent, &signing).await;
            page.contains("/signing/receipt/")
        })
        .await;
        let act = page.split("/signing/receipt/").nth(1).unwrap();
        let act = act.split('"').next().unwrap();
        let receipt = format!("{}/signing/receipt/{act}", story.stack.ssa_url);
        let receipt = get(&mut story.agent, &receipt).await;
        verified(&story, &receipt);
        let receipt: Value = serde_json::from_str(&receipt).unwrap();
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
        let mut provider = unsigned.discover().await.unwrap();
        let params = AuthorizeParams {
            purpose: approval(&story.signer.credentials[0].credential_id, &hashes(1)),
            redirect_uri: &registered.redirect_uris[0],
            lang: None,
            description: None,
        };
        let pushed = unsigned.authorize(&provider, &params, &SystemRandom).await;
        let pushed = pushed.unwrap_err().to_string();
        assert!(pushed.contains("Client authorization required"), "{pushed}");
        // Nor past the way on which a client says who it is: the same query counts when the key has signed it, and only then.
        provider.endpoints.pushed = None;
        let signed = unsigned.clone().with_key(key_of(&story));
        for (client, status) in [(&unsigned, 400), (&signed, 303)] {
            let pending = client.authorize(&provider, &params, &SystemRandom).await;
            let url = pending.unwrap().url;
            let mut agent = Agent::new(&story.stack);
            let asked = agent.request(Method::GET, &url);
            let answer = agent.send(&url, asked).await.unwrap();
            assert_eq!(answer.status().as_u16(), status, "{url}");
            let to = answer.headers().get("location");
            let to = to.map(|to| to.to_str().unwrap().to_owned());
            match status {
                400 => {
                    assert_eq!(to, None);
                    let page = answer.text().await.unwrap();
                    let words = web_ui::Messages::new(web_ui::Lang::Ja).t("portal-trouble-request");
                    assert!(page.contains(&words), "{page}");
                }
                _ => assert!(to.unwrap().contains("/oauth2/continue/")),
            }
        }
        story.stack.stop().await;
    }
}

/// The portal's receipt holds for whoever has the root key and the log's key from before, and with one byte changed it doesn't.
fn verified(story: &Story, receipt: &str) {
    let file = story.dir.path().join("receipt.json");
    let data = story.dir.path().join("data");
    let verify = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let mut command = natsuin();
        command.args(["evidence", "verify", "--json"]).arg(&file);
        command.arg("--root").arg(data.join("root.jwk"));
        command.arg("--log").arg(data.join("witness/sam.pub"));
        let done = tokio::task::block_in_place(|| run(&mut command));
        let shown: Value = serde_json::from_slice(&done.stdout).unwrap();
        (done.status.code(), shown)
    };
    let (code, shown) = verify(receipt);
    assert_eq!(
        (code, &shown["ok"], &shown["kind"]),
        (Some(0), &true.into(), &"sign".into()),
        "{shown}"
    );
    assert_eq!(shown["client_signed"], true);
    assert_eq!(shown["software"], env!("CARGO_PKG_VERSION"));
    // Another name in the signer's act.
    let bundle: Value = serde_json::from_str(receipt).unwrap();
    let documents = bundle["documents"].as_array().unwrap();
    let text = documents.iter().find_map(|d| {
        let text = d.as_str().unwrap();
        text.contains("\"evidence\":\"approval\"").then_some(text)
    });
    let changed = text.unwrap().replacen("\"at\":1", "\"at\":2", 1);
    assert_ne!(text, Some(changed.as_str()));
    let mut bad = bundle.clone();
    for document in bad["documents"].as_array_mut().unwrap() {
        if document.as_str() == text {
            *document = Value::String(changed.clone());
        }
    }
    let (code, shown) = verify(&bad.to_string());
    assert_eq!((code, &shown["ok"]), (Some(1), &false.into()), "{shown}");
}

/// The application's key, with which it says that a request is its own.
fn key_of(story: &Story) -> ClientKey {
    let state = std::fs::read(story.dir.path().join("data/state.json")).unwrap();
    let state: Value = serde_json::from_slice(&state).unwrap();
    let key: SecretBytes = serde_json::from_value(state["app_key"].clone()).unwrap();
    let key = jose::SigningKey::from_pkcs8(&key).unwrap();
    ClientKey::new(key, Arc::new(SystemClock), Arc::new(SystemRandom))
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
