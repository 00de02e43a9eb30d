//! `natsuin csc` where an answer comes later: approvals in the portal, lists in steps, values that are fetched; and documents,
//! time-stamps and the end of tokens.

use core_types::bytes::b64;
use core_types::{HashAlg, KeyAlg};
use natsuin::agent::Agent;
use natsuin::stack::Factors;
use reqwest::{Method, Url};
use serde_json::Value;

use crate::clients::officer;
use crate::command_line::in_browser;
use crate::csc_command::Caller;
use crate::csc_unattended::csc;
use crate::keys::between;
use crate::kit::{Story, natsuin, until};

const P256: &str = "1.2.840.10045.4.3.2";

/// A public client of the command line, whose requests wait in the portal.
fn register(story: &Story, id: &str, settings: &str) {
    let file = story.dir.path().join(format!("{id}.json"));
    std::fs::write(&file, settings).unwrap();
    let file = file.display().to_string();
    let back = "http://127.0.0.1/callback";
    let add = [
        "add",
        id,
        "--name",
        id,
        "--native",
        "--public",
        "--redirect-uri",
        back,
        "--settings",
        &file,
    ];
    let added = tokio::task::block_in_place(|| officer(&story.stack, "tanaka", &add));
    assert_eq!(added.0, 0, "{}", added.1);
}

/// The answer of a login in the browser.
async fn login(story: &mut Story, agent: &mut Agent, caller: &Caller, client: &str) -> Value {
    let mut login = natsuin();
    login
        .args(["csc", "login", "--json", "--no-browser"])
        .args(["--client", client, "--url"])
        .arg(format!("{}/csc/v2", caller.url))
        .arg("--trust")
        .arg(&caller.trust);
    let (code, told) = in_browser(story, agent, &mut login).await;
    assert_eq!(code, 0, "{told}");
    told["answer"].clone()
}

/// Finds the one request in the portal and approves it.
async fn approve(story: &mut Story) {
    let page = story.portal("/requests").await;
    let token = between(&page, "name=\"token\" value=\"", "\"").unwrap();
    let request = between(&page, "name=\"request\" value=\"", "\"").unwrap();
    let home = story.stack.ssa_url.clone();
    let url = Url::parse(&format!("{home}/requests")).unwrap();
    let form = [("token", token), ("request", request)];
    let sent = story.agent.request(Method::POST, &url);
    let sent = sent.header("origin", &home).form(&form);
    let answer = story.agent.send(&url, sent).await.unwrap();
    let to = answer.headers()["location"].to_str().unwrap().to_owned();
    assert!(to.starts_with(&story.stack.sic_url), "{to}");
    let factors = Factors::Passkey(&mut story.device);
    let back = story.agent.visit(&to, &home, &story.signer, factors);
    back.await.unwrap();
}

// shows: T-USE-SAP-BYPASS
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_later_is_asked_for_and_what_is_over_is_ended() {
    let mut story = Story::begin(KeyAlg::P256).await;
    let caller = Caller {
        dir: story.dir.path().to_owned(),
        trust: story.anchors(),
        url: story.stack.ssa_url.clone(),
    };
    let settings = r#"{"out_of_band": true, "renew_seconds": 900, "documents": true}"#;
    register(&story, "waiting-cli", settings);
    let settings = r#"{"out_of_band": true, "documents": true}"#;
    register(&story, "documents-cli", settings);
    story.portal("/signing").await;
    let mut agent = story.agent.clone();
    let told = login(&mut story, &mut agent, &caller, "waiting-cli").await;
    let file = |name: &str, told: &Value, member: &str| {
        let text = told[member].as_str();
        let text = text.unwrap_or_else(|| panic!("{member}: {told}"));
        caller.file(name, text).display().to_string()
    };
    let reads = file("reads", &told, "access_token");
    let id = story.signer.credentials[0].credential_id.clone();
    let (first, second) = (b64([1; 32]), b64([2; 32]));
    let with = ["--token-file", &reads, "--key", &id];

    // Approved elsewhere.
    let list = ["--hash", &first, "--hash", &second];
    let (code, told) = csc(&caller, 2, &[&["authorize"][..], &with, &list].concat());
    assert_eq!((code, &told["status"]), (0, &Value::from(202)), "{told}");
    let handle = file("handle", &told["answer"], "handle");
    let check = [
        "authorize-check",
        "--token-file",
        &reads,
        "--handle-file",
        &handle,
    ];
    let (code, told) = csc(&caller, 2, &check);
    assert_eq!((code, &told["status"]), (7, &Value::from(202)), "{told}");
    approve(&mut story).await;
    let (code, told) = csc(&caller, 2, &check);
    assert_eq!((code, &told["status"]), (0, &Value::from(200)), "{told}");
    let sad = file("sad", &told["answer"], "SAD");
    let (code, over) = csc(&caller, 2, &check);
    assert_eq!((code, &over["status"]), (3, &Value::from(400)), "{over}");

    // The first of the list later, the rest in a second step.
    let right = ["--sad-file", &sad];
    let sign = ["--hash", &first, "--sign-algo", P256, "--later"];
    let words = [&["sign-hash"][..], &with, &right, &sign].concat();
    let (code, told) = csc(&caller, 2, &words);
    assert_eq!(code, 0, "{told}");
    let request = file("request", &told["answer"], "responseID");
    let poll = ["poll", "--token-file", &reads, "--request-file", &request];
    let mut values = Value::Null;
    until("the value", async || {
        let (code, told) = csc(&caller, 2, &poll);
        assert!(matches!(code, 0 | 7), "{told}");
        values = told["answer"]["signatures"].clone();
        code == 0
    })
    .await;
    assert_eq!(values.as_array().map(Vec::len), Some(1), "{values}");
    let (code, refused) = csc(&caller, 1, &poll);
    assert_eq!((code, &refused["status"]), (3, &Value::from(501)));
    let next = ["--hash", &second];
    let words = [&["extend"][..], &with, &right, &next].concat();
    let (code, told) = csc(&caller, 2, &words);
    assert_eq!(code, 0, "{told}");
    let sad = file("sad", &told["answer"], "SAD");
    let right = ["--sad-file", &sad, "--sign-algo", P256];
    let words = [&["sign-hash"][..], &with, &right, &next].concat();
    let (code, signed) = csc(&caller, 2, &words);
    assert_eq!(code, 0, "{signed}");

    let stamp = ["timestamp", "--token-file", &reads, "--hash", &first];
    for version in [1, 2] {
        let (code, told) = csc(&caller, version, &stamp);
        assert_eq!(code, 0, "{told}");
        assert!(told["answer"]["timestamp"].is_string(), "{told}");
    }

    // A document, said to be one; above it was said to be none, whatever the contract means by nothing.
    let told = login(&mut story, &mut agent, &caller, "documents-cli").await;
    let reader = file("reader", &told, "access_token");
    let document = caller.file("letter.txt", "a letter");
    let hash = b64(HashAlg::Sha256.digest(b"a letter\n"));
    let with = ["--token-file", &reader, "--key", &id];
    let (code, told) = csc(
        &caller,
        2,
        &[&["authorize"][..], &with, &["--hash", &hash, "--documents"]].concat(),
    );
    assert_eq!(code, 0, "{told}");
    let handle = file("handle", &told["answer"], "handle");
    approve(&mut story).await;
    let check = [
        "authorize-check",
        "--token-file",
        &reader,
        "--handle-file",
        &handle,
    ];
    let (_, told) = csc(&caller, 2, &check);
    let sad = file("sad", &told["answer"], "SAD");
    let document = document.display().to_string();
    let right = ["--sad-file", &sad, "--sign-algo", P256];
    let words = [&["sign-doc", document.as_str()][..], &with, &right].concat();
    let (code, told) = csc(&caller, 2, &words);
    assert_eq!(code, 0, "{told}");
    let made = told["answer"]["DocumentWithSignature"].as_array();
    assert_eq!(made.map(Vec::len), Some(1), "{told}");

    // A token that reads ends itself; a client ends what it has.
    let words = ["revoke", "--revoke-file", &reads, "--token-file", &reads];
    let (code, told) = csc(&caller, 2, &words);
    assert_eq!((code, &told["status"]), (0, &Value::from(204)), "{told}");
    let ended = ["list", "--token-file", &reads];
    assert_eq!(csc(&caller, 2, &ended).1["status"], 401);
    let words = ["revoke", "--revoke-file", &reader, "--client"];
    let other = [&words[..], &["waiting-cli"]].concat();
    let (code, told) = csc(&caller, 2, &other);
    assert_eq!((code, &told["status"]), (3, &Value::from(400)), "{told}");
    let own = [&words[..], &["documents-cli"]].concat();
    let (code, told) = csc(&caller, 2, &own);
    assert_eq!((code, &told["status"]), (0, &Value::from(204)), "{told}");
    let ended = ["list", "--token-file", &reader];
    assert_eq!(csc(&caller, 2, &ended).1["status"], 401);
    story.stack.stop().await;
}
