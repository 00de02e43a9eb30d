//! The way back on another machine.

use std::fs;

use cm_api::Executed;
use core_types::Clock as _;
use core_types::clock::SystemClock;

use crate::kit::*;

// shows: III-3-10-backup, I-7.1.7.2-privileged-restore, III-A1.4.1-protect-change-loss, T-INS-OPERATOR
#[tokio::test]
async fn a_module_comes_back_on_another_machine_with_two_persons_shares() {
    let mut site = Site::new();
    let dir = site.token.path().to_owned();
    let at = |name: &str| dir.join(name).display().to_string();
    site.settings = site.officers();
    let (running, client, _) = site.start("kind = \"software\"").await;
    let sam = SamSide::new(client).await;
    let keys = [sam.key().await, sam.key().await];
    drop(running);
    let shares = at("shares");
    site.done(&["ceremony", "--out", &shares, "--need", "2", "--of", "3"]);
    let made = site.done(&["backup", "--out", &at("backup")]);
    let backup = made.trim().rsplit(' ').next().unwrap().to_owned();
    let whole = site.done(&["check-backup", "--from", &at("backup")]);
    assert!(whole.contains("2 keys"), "{whole}");
    assert!(site.done(&["scrub"]).contains("2 keys agree"));
    // One of them ends after the backup.
    let (running, client, _) = site.start("kind = \"software\"").await;
    let sam = SamSide::new(client).await;
    let root = sam.root.clone();
    sam.order(destroy(&keys[1])).await;
    drop(running);
    site.done(&["export-log", "--out", &at("log")]);
    fs::copy(dir.join("log/log.pub"), dir.join("log-key")).unwrap();
    fs::copy(dir.join("witness.txt"), dir.join("old-witness")).unwrap();

    // Another machine: no store, no root secret, a log of its own.
    for gone in ["cm.db", "cm.db-wal", "cm.db-shm", "root.key", "witness.txt"] {
        let _ = fs::remove_file(dir.join(gone));
    }
    fs::write(at("root.jwk"), serde_json::to_vec(&root).unwrap()).unwrap();
    let target = site.done(&["restore-target"]);
    let exp = SystemClock.now().plus(600).0.to_string();
    for n in ["1", "2"] {
        let (key, root) = (at(&format!("officer-{n}")), at("root.jwk"));
        let approval = site.done(&[
            "approve-restore",
            "--key",
            &key,
            "--root",
            &root,
            "--backup",
            &backup,
            "--target",
            target.trim(),
            "--reason",
            "the machine burnt",
            "--exp",
            &exp,
        ]);
        fs::write(at(&format!("approval-{n}")), approval).unwrap();
    }
    // The officers of the backup count, not those of the configuration.
    let named = std::mem::take(&mut site.settings);
    let share = |n: u8| format!("{shares}/share-{n}.txt");
    let restore = |given: &[String], approvals: &[&str]| {
        let mut args = vec!["restore".to_owned(), "--from".into(), at("backup")];
        for share in given {
            args.extend(["--share".to_owned(), share.clone()]);
        }
        args.extend(["--log".into(), at("log"), "--log-key".into(), at("log-key")]);
        args.extend(["--witness".into(), at("old-witness")]);
        for approval in approvals {
            args.extend(["--approval".into(), at(&format!("approval-{approval}"))]);
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        site.command(&args)
    };
    for (few, approvals) in [
        (&[share(1)][..], &["1", "2"][..]),
        (&[share(1), share(1)], &["1", "2"]),
        (&[share(1), share(3)], &["1", "1"]),
        (&[share(1), share(3)], &[]),
    ] {
        let refused = restore(few, approvals);
        assert_eq!(refused.status.code(), Some(4));
        assert!(!dir.join("root.key").exists(), "nothing came of it");
    }
    // Where the root secret can't be written, the store stays empty: the next try finds it so.
    std::os::unix::fs::symlink(dir.join("nowhere/root.key"), dir.join("root.key")).unwrap();
    let refused = restore(&[share(3), share(1)], &["1", "2"]);
    assert_eq!(refused.status.code(), Some(4));
    fs::remove_file(dir.join("root.key")).unwrap();
    let done = restore(&[share(3), share(1)], &["1", "2"]);
    let said = String::from_utf8(done.stdout).unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(said.contains("1 keys are usable again"), "{said}");
    assert!(
        said.contains(keys[1].key.as_str()) && said.contains("destroyed"),
        "{said}"
    );
    let other = site.refused("kind = \"software\"");
    assert!(other.contains("(code cm-officers)"), "{other}");
    site.settings = named;
    let (_running, client, _) = site.start("kind = \"software\"").await;
    let sam = SamSide::new(client).await;
    assert_eq!(sam.root.kid(), root.kid(), "the same module");
    let signed = sam.order(sign(&keys[0], P256, 1)).await;
    assert!(matches!(signed, Executed::Signed(_)));
}
