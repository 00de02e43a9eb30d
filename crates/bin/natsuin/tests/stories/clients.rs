//! Officers manage clients with the command line, over the SSA's listener for them.

use std::process::Command;

use core_types::KeyAlg;
use core_types::rpc::Method as _;
use natsuin::agent::Agent;
use natsuin::stack::{Factors, NAME_OFFICE, NAME_SIC, NAME_SSA, Stack};
use reqwest::{Method, Url};
use serde_json::Value;
use service_kit::Identity;
use service_kit::http::HttpOptions;
use ssa_service::calls::{ClientList, ClientRotate, ClientSuspend};

use crate::kit::Story;

/// What an officer of a stack does with `natsuin client`.
pub fn officer(stack: &Stack, id: &str, args: &[&str]) -> (i32, Value) {
    let mut officers = stack.client_officers.iter();
    let known = officers.find(|o| o.officer.as_str() == id).unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_natsuin"))
        .args(["--json", "client"])
        .args(args)
        .arg("--as")
        .arg(&known.file)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let value = serde_json::from_str(text.trim()).unwrap_or(Value::Null);
    (done.status.code().unwrap(), value)
}

// shows: I-7.1.1.10-only-privileged-manage-all-interfaces
#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_registered_used_stopped_and_managed_by_nobody_else() {
    let story = Story::begin(KeyAlg::P256).await;
    let stack = &story.stack;
    let run = |id: &str, args: &[&str]| officer(stack, id, args);
    let add = [
        "add",
        "new-app",
        "--name",
        "New <b>",
        "--redirect-uri",
        "https://app.example/cb",
        "--contract",
        "2026-17",
        "--per-day",
        "5",
        "--level",
        "1",
    ];
    let secret = tokio::task::block_in_place(|| {
        assert_eq!(run("ito", &add).0, 3);
        assert_eq!(run("watanabe", &["list"]).0, 3);
        let (code, made) = run("tanaka", &add);
        assert_eq!((code, made["state"].as_str()), (0, Some("new")), "{made}");
        assert_eq!(run("tanaka", &["rotate", "new-app"]).0, 3);
        let (code, given) = run("sato", &["rotate", "new-app"]);
        assert_eq!(code, 0, "{given}");
        let (code, all) = run("ito", &["list"]);
        assert_eq!(code, 0);
        assert!(!all.to_string().contains(given["secret"].as_str().unwrap()));
        let (code, set) = run("tanaka", &["set", "new-app", "--per-month", "50"]);
        assert_eq!(code, 0, "{set}");
        let quota = &set["contract"]["settings"]["quota"];
        assert_eq!(quota.to_string(), r#"{"per_day":5,"per_month":50}"#);
        assert_eq!(set["contract"]["settings"]["contract"], "2026-17");
        given["secret"].as_str().unwrap().to_owned()
    });
    let introspect = async || {
        let form = [
            ("client_id", "new-app"),
            ("client_secret", &secret),
            ("token", "x"),
        ];
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let url = format!("{}/oauth2/introspect", stack.ssa_url);
        let sent = stack.http.post(url).body(form);
        sent.send().await.unwrap().status().as_u16()
    };
    assert_eq!(introspect().await, 200);
    let switch = |what: &str| tokio::task::block_in_place(|| run("ito", &[what, "new-app"]));
    assert_eq!(switch("suspend").0, 0);
    assert_eq!(introspect().await, 401);
    assert_eq!(switch("resume").0, 0);
    assert_eq!(introspect().await, 200);
    // The zones' own certificates are nobody's office, and the public origin has no such door.
    // The officers' gateway lists them, and that is all.
    for (name, listed) in [(NAME_SSA, 422), (NAME_SIC, 422), (NAME_OFFICE, 200)] {
        let caller = stack.caller(&stack.inner.ssa_for_officers, name).unwrap();
        let answer = caller.forward(ClientList::PATH, b"{}".to_vec()).await;
        assert_eq!(answer.unwrap().0, listed, "{name}");
        let suspend = br#"{"client":"new-app"}"#.to_vec();
        let answer = caller.forward(ClientSuspend::PATH, suspend).await;
        assert_eq!(answer.unwrap().0, 422, "{name}");
    }
    for path in [ClientList::PATH, ClientRotate::PATH] {
        let sent = stack.http.post(format!("{}{path}", stack.ssa_url));
        assert_eq!(sent.body("{}").send().await.unwrap().status().as_u16(), 404);
    }
    story.stack.stop().await;
}

/// A client program with this certificate, or none.
fn with_certificate(stack: &Stack, identity: Option<Identity>) -> reqwest::Client {
    let ca = std::fs::read_to_string(stack.ca.trust_anchors_file()).unwrap();
    let options = HttpOptions {
        ca_pem: Some(ca),
        identity,
        ..HttpOptions::default()
    };
    service_kit::http::client(&options).unwrap()
}

// shows: T-USE-CRED-FORGE, T-USE-CAPTURE
#[tokio::test(flavor = "multi_thread")]
async fn cards_and_clients_with_certificates_over_real_tls() {
    let mut story = Story::begin(KeyAlg::P256).await;
    let stack = &story.stack;
    let metadata = format!("{}/.well-known/oauth-authorization-server", stack.ssa_url);
    let metadata: Value = stack
        .http
        .get(metadata)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let endpoint = metadata["mtls_endpoint_aliases"]["token_endpoint"]
        .as_str()
        .unwrap();

    // A client whose certificate an officer took in, and the token that it alone can use.
    let own = stack.ca.person_cert("app.example").unwrap();
    let other = stack.ca.person_cert("other.example").unwrap();
    let pem = story.dir.path().join("app.pem");
    std::fs::write(&pem, &own.chain_pem).unwrap();
    let settings = story.dir.path().join("settings.json");
    std::fs::write(&settings, r#"{"users":["hanako"]}"#).unwrap();
    let (pem, settings) = (pem.display().to_string(), settings.display().to_string());
    tokio::task::block_in_place(|| {
        let add = [
            "add",
            "tls-app",
            "--name",
            "TLS",
            "--redirect-uri",
            "https://app.example/cb",
            "--settings",
            &settings,
        ];
        assert_eq!(officer(stack, "tanaka", &add).0, 0);
        let (code, given) = officer(stack, "sato", &["rotate", "tls-app", "--certificate", &pem]);
        assert_eq!((code, &given["secret"]), (0, &Value::Null), "{given}");
        assert_eq!(given["client"]["proof"], "certificate");
    });
    let ask = async |identity: Option<Identity>| {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", "tls-app"),
        ];
        let sent = with_certificate(stack, identity).post(endpoint).form(&form);
        sent.send().await.unwrap().json::<Value>().await.unwrap()
    };
    assert_eq!(ask(None).await["error"], "invalid_request");
    assert_eq!(ask(Some(other.clone())).await["error"], "invalid_client");
    let token = ask(Some(own.clone())).await;
    let token = token["access_token"].as_str().unwrap();
    let csc = endpoint.replace("/oauth2/token", "/csc/v2/credentials/list");
    let body = serde_json::json!({ "userID": story.signer.user });
    let list = async |identity: Option<Identity>| {
        let sent = with_certificate(stack, identity)
            .post(&csc)
            .bearer_auth(token)
            .json(&body);
        sent.send().await.unwrap().status().as_u16()
    };
    assert_eq!(list(None).await, 401);
    assert_eq!(list(Some(other)).await, 401);
    assert_eq!(list(Some(own)).await, 200);

    // A person's card: bound after a login, revoked later.
    let card = stack.ca.person_cert("hanako").unwrap();
    let browser = with_certificate(stack, Some(card.clone()));
    let mut agent = Agent::new(stack);
    let home = format!("{}/security", stack.ssa_url);
    let factors = Factors::Passkey(&mut story.device);
    agent
        .visit(
            &format!("{}/login?next=/security", stack.ssa_url),
            &home,
            &story.signer,
            factors,
        )
        .await
        .unwrap();
    let entered = async |agent: &mut Agent, page: &str, action: &str| {
        let page = Url::parse(&format!("{}{page}", stack.ssa_url)).unwrap();
        let shown = agent.request(Method::GET, &page);
        let html = agent
            .send(&page, shown)
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        let token = html.split("name=\"token\" value=\"").nth(1).unwrap();
        let token = token.split('"').next().unwrap();
        let to = page.join(action).unwrap();
        let pressed = agent.request(Method::POST, &to).form(&[("token", token)]);
        let left = agent.send(&to, pressed).await.unwrap();
        let there = left.headers()["location"].to_str().unwrap().to_owned();
        let back = browser.get(there).send().await.unwrap();
        let back = Url::parse(back.headers()["location"].to_str().unwrap()).unwrap();
        let came = agent.request(Method::GET, &back);
        let came = agent.send(&back, came).await.unwrap();
        let location = came.headers().get("location");
        location.map(|to| to.to_str().unwrap().to_owned())
    };
    let bound = entered(&mut agent, "/security", "/security/certificate").await;
    assert_eq!(bound.as_deref(), Some("/security"));
    let mut other = Agent::new(stack);
    let home = entered(&mut other, "/login", "/login/certificate").await;
    assert_eq!(home.as_deref(), Some("/keys"));
    let serial = pki::Certificate::parse_pem(&card.chain_pem).unwrap()[0]
        .info()
        .serial;
    stack.ca.revoke(&serial, 1).unwrap();
    let mut other = Agent::new(stack);
    assert_eq!(
        entered(&mut other, "/login", "/login/certificate").await,
        None
    );
    story.stack.stop().await;
}
