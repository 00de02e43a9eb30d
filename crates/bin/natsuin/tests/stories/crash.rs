//! kill -9 under load, and what the logs say afterwards.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use natsuin::stack::StoreChoice;
use serde_json::Value;

use crate::kit::{natsuin, run, start, text};

fn entries(export: &Path, zone: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(export.join(zone).join("entries.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn count(entries: &[Value], kind: &str) -> usize {
    entries.iter().filter(|e| e["kind"] == kind).count()
}

fn audit(data: &Path, export: &Path) -> Command {
    let said = run(natsuin()
        .args(["audit", "export", "--data"])
        .arg(data)
        .arg("--out")
        .arg(export));
    assert!(said.status.success(), "{}", text(&said));
    let mut verify = natsuin();
    verify
        .args(["audit", "verify"])
        .arg(export)
        .arg("--witness")
        .arg(data.join("witness"));
    verify.arg("--keys").arg(data.join("witness"));
    verify
}

// shows: I-7.1.4.1-log-signing-events, I-7.1.4.3-no-unauthorised-deletion
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_stack_starts_clean_and_its_logs_hold() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut command = natsuin();
    command
        .args(["bench", "--seconds", "1", "--data"])
        .arg(&data);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Killed while signatures are made: after the first measurement through the service the next one runs.
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(
        lines
            .map(Result::unwrap)
            .any(|line| line.starts_with("service")),
        "load came up"
    );
    child.kill().unwrap();
    child.wait().unwrap();

    // The next start brings the logs up to date, gives up what was half done, and goes on.
    let stack = start(&data, StoreChoice::Embedded, false).await;
    stack.stop().await;
    let export = dir.path().join("export");
    let said = run(&mut audit(&data, &export));
    assert!(said.status.success(), "{}", text(&said));
    let (sam, cm) = (entries(&export, "sam"), entries(&export, "cm"));
    let (made, intents, used) = (
        count(&sam, "signature.made"),
        count(&sam, "sad.consumed"),
        count(&cm, "key.used"),
    );
    assert!(
        made > 0 && made <= used && used <= intents,
        "made {made} ≤ used {used} ≤ intents {intents}"
    );

    // What was exported can't be bent.
    let file = export.join("sam/entries.jsonl");
    let good = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    let mut swapped = lines.clone();
    swapped.swap(3, 4);
    let attacks = [
        (
            "edited",
            good.replacen(r#"outcome\":\"success"#, r#"outcome\":\"failure"#, 1),
        ),
        (
            "deleted",
            [&lines[..5], &lines[6..]].concat().join("\n") + "\n",
        ),
        ("reordered", swapped.join("\n") + "\n"),
        ("truncated", lines[..lines.len() - 1].join("\n") + "\n"),
    ];
    for (attack, bent) in attacks {
        assert!(bent != good, "{attack}");
        std::fs::write(&file, bent).unwrap();
        let mut verify = natsuin();
        verify
            .args(["audit", "verify"])
            .arg(&export)
            .arg("--witness")
            .arg(data.join("witness"));
        let said = run(verify.arg("--keys").arg(data.join("witness")));
        assert_eq!(said.status.code(), Some(1), "{attack}: {}", text(&said));
    }
}
