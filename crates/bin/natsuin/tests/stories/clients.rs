//! Officers manage clients with the command line, over the SSA's listener for them.

use std::process::Command;

use core_types::KeyAlg;
use core_types::rpc::Method as _;
use natsuin::stack::{NAME_OFFICE, NAME_SIC, NAME_SSA, Stack};
use serde_json::Value;
use ssa_service::calls::{ClientList, ClientRotate};

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
    for name in [NAME_SSA, NAME_SIC, NAME_OFFICE] {
        let caller = stack.caller(&stack.inner.ssa_for_officers, name).unwrap();
        let answer = caller.forward(ClientList::PATH, b"{}".to_vec()).await;
        assert_eq!(answer.unwrap().0, 422, "{name}");
    }
    for path in [ClientList::PATH, ClientRotate::PATH] {
        let sent = stack.http.post(format!("{}{path}", stack.ssa_url));
        assert_eq!(sent.body("{}").send().await.unwrap().status().as_u16(), 404);
    }
    story.stack.stop().await;
}
