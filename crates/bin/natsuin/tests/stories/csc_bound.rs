//! `natsuin` at contracts that take nothing which a thief could use: keys and certificates instead of secrets, and bound tokens.

use std::process::Command;

use core_types::KeyAlg;
use core_types::bytes::b64;
use natsuin::sample;
use serde_json::Value;

use crate::clients::officer;
use crate::command_line::in_browser;
use crate::csc_command::Caller;
use crate::csc_unattended::csc;
use crate::kit::{Story, natsuin};

/// Registers a client of the command line with these proofs (options of `rotate`) and this contract.
fn register(story: &Story, id: &str, proof: &[&str], settings: &str) {
    let file = story.dir.path().join(format!("{id}.json"));
    std::fs::write(&file, settings).unwrap();
    let file = file.display().to_string();
    let back = "http://127.0.0.1/callback";
    tokio::task::block_in_place(|| {
        let add = ["add", id, "--name", id, "--native", "--redirect-uri", back];
        let rotate = [&["rotate", id][..], proof].concat();
        let set = ["set", id, "--settings", &file];
        let steps: [(&str, &[&str]); 3] = [("tanaka", &add), ("sato", &rotate), ("tanaka", &set)];
        for (who, args) in steps {
            let (code, told) = officer(&story.stack, who, args);
            assert_eq!(code, 0, "{told}");
        }
    });
}

/// A command with a browser, as somebody types it.
fn typed(caller: &Caller, words: &[&str]) -> Command {
    let mut natsuin = natsuin();
    natsuin
        .args(words)
        .args(["--json", "--no-browser", "--trust"])
        .arg(&caller.trust);
    natsuin
}

fn token(caller: &Caller, told: &Value, name: &str) -> String {
    let text = told["answer"]["access_token"].as_str();
    let text = text.unwrap_or_else(|| panic!("a token: {told}"));
    caller.file(name, text).display().to_string()
}

// shows: T-USE-CAPTURE, T-USE-CRED-FORGE
#[tokio::test(flavor = "multi_thread")]
async fn a_contract_that_binds_tokens_to_keys_serves_the_command_line() {
    let mut story = Story::begin(KeyAlg::P256).await;
    let caller = Caller {
        dir: story.dir.path().to_owned(),
        trust: story.anchors(),
        url: story.stack.ssa_url.clone(),
    };
    let (key, pkcs8) = jose::SigningKey::generate().unwrap();
    let public = serde_json::to_string(key.public()).unwrap();
    let public = caller.file("client.jwk", &public).display().to_string();
    let own = pki::pem::encode("PRIVATE KEY", pkcs8.expose());
    let own = caller.file("client.pem", &own).display().to_string();
    register(
        &story,
        "strict-cli",
        &["--key", &public],
        r#"{"fapi": true}"#,
    );
    story.portal("/signing").await;
    let mut agent = story.agent.clone();

    let url = format!("{}/csc/v2", caller.url);
    let session = caller.dir.join("session.pem").display().to_string();
    let client = [
        "--url",
        url.as_str(),
        "--client",
        "strict-cli",
        "--client-key-file",
        &own,
    ];
    let keyed = ["--dpop-key-file", session.as_str()];
    let words = [&["csc", "login"][..], &client, &keyed].concat();
    let mut login = typed(&caller, &words);
    let (code, told) = in_browser(&mut story, &mut agent, &mut login).await;
    assert_eq!(
        (code, &told["answer"]["token_type"]),
        (0, &Value::from("DPoP")),
        "{told}"
    );
    let reads = token(&caller, &told, "reads");
    // The token is worth something with its key alone.
    let bound = ["list", "--token-file", &reads, "--dpop-key-file", &session];
    let (code, list) = csc(&caller, 2, &bound);
    assert_eq!(code, 0, "{list}");
    let (_, stranger) = jose::SigningKey::generate().unwrap();
    let stranger = pki::pem::encode("PRIVATE KEY", stranger.expose());
    let stranger = caller.file("stranger.pem", &stranger).display().to_string();
    for without in [
        vec!["list", "--token-file", &reads],
        vec!["list", "--token-file", &reads, "--dpop-key-file", &stranger],
    ] {
        let (code, refused) = csc(&caller, 2, &without);
        assert_eq!((code, &refused["status"]), (3, &Value::from(401)));
    }
    // A check that gets tokens of its own would show them as if they belonged to that key.
    let back = "http://127.0.0.1/callback";
    let own_tokens = ["--client", "strict-cli", "--redirect-uri", back];
    let words = [&["check"][..], &own_tokens, &bound[1..]].concat();
    let (code, refused) = csc(&caller, 2, &words);
    assert_eq!((code, &refused["code"]), (6, &Value::from("usage")));
    // Without a key nobody gets a token, and what was agreed with the client isn't a secret.
    let mut plain = typed(&caller, &[&["csc", "login"][..], &client].concat());
    let (code, refused) = in_browser(&mut story, &mut agent, &mut plain).await;
    assert_eq!(code, 4, "{refused}");
    assert!(
        refused["what"]
            .as_str()
            .unwrap()
            .contains("invalid_dpop_proof"),
        "{refused}"
    );

    let (id, hash) = (
        story.signer.credentials[0].credential_id.clone(),
        b64([9; 32]),
    );
    let right = ["csc", "authorize", "--key", &id, "--hash", &hash];
    let mut right = typed(&caller, &[&right[..], &client, &keyed].concat());
    let (code, told) = in_browser(&mut story, &mut agent, &mut right).await;
    assert_eq!(code, 0, "{told}");
    let signs = token(&caller, &told, "signs");
    let (code, signed) = csc(
        &caller,
        2,
        &[
            "sign-hash",
            "--token-file",
            &signs,
            "--dpop-key-file",
            &session,
            "--key",
            &id,
            "--hash",
            &hash,
            "--sign-algo",
            "1.2.840.10045.4.3.2",
        ],
    );
    assert_eq!(code, 0, "{signed}");

    // A whole file, with a key of that process alone.
    let file = caller.dir.join("契約書.pdf");
    std::fs::write(&file, sample::contract().unwrap()).unwrap();
    let file = file.display().to_string();
    let words = [&["sign", file.as_str(), "--dpop"][..], &client].concat();
    let mut sign = typed(&caller, &words);
    let (code, signed) = in_browser(&mut story, &mut agent, &mut sign).await;
    assert_eq!((code, &signed["ok"]), (0, &Value::Bool(true)), "{signed}");
    story.stack.stop().await;
}

// shows: T-USE-CAPTURE, T-USE-CRED-FORGE
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_all_that_the_command_line_needs() {
    let mut story = Story::begin(KeyAlg::P256).await;
    let (plain, asking) = (story.stack.ssa_url.clone(), story.stack.asking_url.clone());
    let mut caller = Caller {
        dir: story.dir.path().to_owned(),
        trust: story.anchors(),
        url: asking.clone(),
    };
    let made = story.stack.ca.person_cert("cli.example").unwrap();
    let chain = caller.file("cli.crt", &made.chain_pem);
    let key = String::from_utf8(made.key_pem.expose().to_vec()).unwrap();
    let key = caller.file("cli.key", &key);
    let (chain, key) = (chain.display().to_string(), key.display().to_string());
    register(
        &story,
        "card-cli",
        &["--certificate", &chain],
        r#"{"bound_tokens": true}"#,
    );
    story.portal("/signing").await;
    let mut agent = story.agent.clone();

    let url = format!("{asking}/csc/v2");
    let shown = ["--tls-cert-file", &chain, "--tls-key-file", &key];
    let login = ["csc", "login", "--url", &url, "--client", "card-cli"];
    let mut login = typed(&caller, &[&login[..], &shown].concat());
    let (code, told) = in_browser(&mut story, &mut agent, &mut login).await;
    assert_eq!(code, 0, "{told}");
    let reads = token(&caller, &told, "reads");
    let list = ["list", "--token-file", &reads];
    let (code, told) = csc(&caller, 2, &[&list[..], &shown].concat());
    assert_eq!(code, 0, "{told}");
    let (code, refused) = csc(&caller, 2, &list);
    assert_eq!((code, &refused["status"]), (3, &Value::from(401)));
    caller.url = plain;
    let (code, refused) = csc(&caller, 2, &list);
    assert_eq!((code, &refused["status"]), (3, &Value::from(401)));
    story.stack.stop().await;
}
