//! Officers at their own gateway: what their page and the command line do, over the real sockets.

use std::process::Command;

use core_types::KeyAlg;
use core_types::rpc::Method as _;
use natsuin::stack::{NAME_OFFICE, NAME_SIC, NAME_SSA};
use sap::messages::{Approve, Open};
use sap::office::calls::{LogInOpen, State};
use serde_json::Value;

use crate::kit::{Story, natsuin, until};

fn run(who: &std::path::Path, args: &[&str]) -> (i32, Value) {
    let done = Command::new(env!("CARGO_BIN_EXE_natsuin"))
        .arg("--json")
        .args(args)
        .arg("--as")
        .arg(who)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let value = serde_json::from_str(text.trim()).unwrap_or(Value::Null);
    (done.status.code().unwrap(), value)
}

// shows: I-A2.12-evidence-provided
#[tokio::test(flavor = "multi_thread")]
async fn officers_stop_a_signers_key_from_the_command_line_and_nobody_alone() {
    let story = Story::begin(KeyAlg::P256).await;
    let file = |id: &str| {
        let officers = story.stack.officers();
        let known = officers.iter().find(|o| o.officer.as_str() == id).unwrap();
        known.file.clone()
    };
    let key = story.signer.credentials[0].credential_id.clone();
    let measure = story.dir.path().join("measure.json");
    let json = serde_json::json!({"measure": "key", "key": key, "action": "destroy"});
    std::fs::write(&measure, json.to_string()).unwrap();
    let path = measure.display().to_string();
    let propose = ["officer", "propose", &path, "--reason", "leaked"];
    let (code, made) = tokio::task::block_in_place(|| run(&file("ito"), &propose));
    assert_eq!(code, 0, "{made}");
    let proposal = made["proposal"].as_str().unwrap();
    let give = ["approval", "give", proposal, "--yes"];
    tokio::task::block_in_place(|| {
        // The auditor, and who asked.
        assert_eq!(run(&file("watanabe"), &give).0, 3);
        assert_eq!(run(&file("ito"), &give).0, 3);
        let (code, once) = run(&file("sato"), &give);
        assert_eq!((code, once["state"].as_str()), (0, Some("open")));
        assert_eq!(run(&file("sato"), &give).0, 3);
        let (code, done) = run(&file("suzuki"), &give);
        assert_eq!((code, done["state"].as_str()), (0, Some("done")));
        let (code, people) = run(&file("watanabe"), &["officer", "people"]);
        assert_eq!((code, people["usable"].as_u64()), (0, Some(3)));
        // Who holds which office is nothing for operators.
        assert_eq!(run(&file("ito"), &["officer", "people"]).0, 3);
        let (code, state) = run(&file("ito"), &["officer", "state"]);
        assert_eq!((code, state["usable"].as_u64()), (0, Some(3)));
    });
    // Whoever sees proposals takes the evidence away, and anybody checks it with the two keys known from before.
    let bundle = story.dir.path().join("decided.json");
    let name = bundle.display().to_string();
    let take = ["approval", "evidence", proposal, "--out", &name];
    until("the evidence of the approvals", async || {
        tokio::task::block_in_place(|| run(&file("watanabe"), &take)).0 == 0
    })
    .await;
    let data = story.dir.path().join("data");
    let check = || {
        let mut verify = natsuin();
        verify.args(["evidence", "verify", "--json"]).arg(&bundle);
        verify.arg("--root").arg(data.join("root.jwk"));
        let done = verify.arg("--log").arg(data.join("witness/sam.pub"));
        let done = done.output().unwrap();
        let shown: Value = serde_json::from_slice(&done.stdout).unwrap();
        (done.status.code().unwrap(), shown)
    };
    let (code, shown) = tokio::task::block_in_place(check);
    assert_eq!(code, 0, "{shown}");
    assert_eq!(
        (&shown["proposal"], &shown["needs"]),
        (&proposal.into(), &2.into())
    );
    let approvals = shown["approvals"].as_array().unwrap();
    let by: Vec<&str> = approvals
        .iter()
        .filter_map(|one| one["person"][0].as_str())
        .collect();
    assert_eq!(by, ["officer.sato", "officer.suzuki"]);
    for one in approvals {
        let what = one["what"].to_string();
        assert!(what.contains("leaked") && what.contains(&key), "{what}");
    }
    // One of them alone isn't enough.
    let mut half: Value = serde_json::from_slice(&std::fs::read(&bundle).unwrap()).unwrap();
    half["approvals"].as_array_mut().unwrap().pop();
    std::fs::write(&bundle, half.to_string()).unwrap();
    let (code, shown) = tokio::task::block_in_place(check);
    assert_eq!((code, &shown["ok"]), (1, &Value::Bool(false)), "{shown}");
}

// shows: I-7.1.1.5-privileged-unprivileged-separate, II-3.3.2-privileged-authenticated-per-operation,
// I-3.5.1-only-signer-activates,
// I-7.1.1.3-signer,
// I-7.1.1.3-unprivileged-roles-min-set
#[tokio::test(flavor = "multi_thread")]
async fn officers_and_signers_have_no_door_in_common() {
    let story = Story::begin(KeyAlg::P256).await;
    let stack = &story.stack;
    // Between the zones, by certificate.
    for (door, name) in [
        (&stack.inner.sam_for_office, NAME_SIC),
        (&stack.inner.sam_for_office, NAME_SSA),
        // Those of an application, a registration authority and a CA, whom the zones' CA may know as well.
        (&stack.inner.sam_for_office, "sca.natsuin.internal"),
        (&stack.inner.sam_for_office, "ra.natsuin.internal"),
        (&stack.inner.sam_for_office, "ca.natsuin.internal"),
        (&stack.inner.sam_for_sic, NAME_OFFICE),
        (&stack.inner.sam_for_ssa, NAME_OFFICE),
    ] {
        let caller = stack.caller(door, name).unwrap();
        for path in [State::PATH, LogInOpen::PATH, Open::PATH] {
            let answer = caller.forward(path, b"{}".to_vec()).await;
            let status = answer.map(|(status, _)| status).unwrap_or(0);
            assert_ne!(status, 200, "{name} at {path}");
        }
    }
    // At the public origins.
    let post = async |origin: &str, path: &str| {
        let sent = stack
            .http
            .post(format!("{origin}{path}"))
            .json(&serde_json::json!({}));
        sent.send().await.unwrap().status().as_u16()
    };
    for path in [State::PATH, LogInOpen::PATH] {
        assert_eq!(post(&stack.sic_url, path).await, 404, "{path}");
    }
    for path in [Open::PATH, Approve::PATH] {
        assert_eq!(post(&stack.office_url, path).await, 404, "{path}");
    }
}

// shows: I-A4.4-provider-end
#[tokio::test(flavor = "multi_thread")]
async fn officers_end_all_keys_from_the_command_line_and_read_the_report() {
    let story = Story::begin(KeyAlg::P256).await;
    let file = |id: &str| {
        let officers = story.stack.officers();
        let known = officers.iter().find(|o| o.officer.as_str() == id).unwrap();
        known.file.clone()
    };
    let end = [
        "officer",
        "end-keys",
        "--whole-service",
        "--cause",
        "end-of-service",
        "--reason",
        "the contract ends",
    ];
    let (proposal, keys) = tokio::task::block_in_place(|| {
        // Either a tenant or the whole service.
        assert_ne!(run(&file("ito"), &[&end[..2], &end[3..]].concat()).0, 0);
        let (code, made) = run(&file("ito"), &end);
        assert_eq!(code, 0, "{made}");
        let document: Value = serde_json::from_str(made["document"].as_str().unwrap()).unwrap();
        let proposal = made["proposal"].as_str().unwrap();
        let report = ["officer", "ended", proposal];
        // There is nothing to report yet.
        assert_eq!(run(&file("ito"), &report).0, 3);
        let give = ["approval", "give", proposal, "--yes"];
        assert_eq!(run(&file("ito"), &give).0, 3);
        assert_eq!(run(&file("sato"), &give).0, 0);
        let (code, done) = run(&file("suzuki"), &give);
        assert_eq!((code, done["state"].as_str()), (0, Some("done")));
        // It is over once and for all.
        assert_eq!(run(&file("ito"), &end).0, 3);
        (proposal.to_owned(), document["facts"]["keys"].clone())
    });
    let certificates = story.dir.path().join("destroyed.txt");
    let name = certificates.display().to_string();
    let with_them = ["officer", "ended", &proposal, "--certificates", &name];
    let mut told = Value::Null;
    // Asked as often as it takes: until the last key is destroyed there is no file that would be in the way.
    until("every key to be destroyed", async || {
        let (code, said) = tokio::task::block_in_place(|| run(&file("ito"), &with_them));
        let complete = said["progress"]["complete"] == true;
        assert_eq!(code, if complete { 0 } else { 8 }, "{said}");
        assert_eq!(certificates.exists(), complete);
        told = said;
        complete
    })
    .await;
    let part = &told["progress"]["parts"][0];
    assert_eq!(part["keys"], keys);
    assert_ne!(part["keys"].as_u64(), Some(0));
    assert_eq!(part["waiting"].as_u64(), Some(0));
    let lines = std::fs::read_to_string(&certificates).unwrap();
    let lines = u64::try_from(lines.lines().count()).unwrap();
    assert_eq!(told["certificates"].as_u64(), Some(lines));
}
