//! A SAM whose store is older than its log: what it lacks comes back from an export, by the daemon's own command.

use std::fs;
use std::path::Path;

use crate::kit::text;
use crate::site::{SamPorts, Site, port};

/// Copies the files of the store, over those that are there.
fn copy(from: &Path, to: &Path) {
    for end in ["", "-wal", "-shm"] {
        let [from, to] = [from, to].map(|dir| dir.join(format!("sam.db{end}")));
        // There may be none.
        let _ = fs::remove_file(&to);
        if from.exists() {
            fs::copy(from, to).unwrap();
        }
    }
}

// shows: I-7.1.7.2-restore-state
#[tokio::test(flavor = "multi_thread")]
async fn a_sam_from_a_backup_beside_its_work_is_brought_up_to_its_log() {
    let site = Site::new();
    let cm = port();
    let (mut module, _) = site.module(cm).await;
    let ports = SamPorts {
        module: cm,
        ssa: port(),
        gateway: port(),
        office: port(),
        origin: "https://sic.localhost:1".to_owned(),
        home: "https://localhost:1".to_owned(),
        tenants: String::new(),
    };
    let (data, kept) = (site.dir.path().to_owned(), site.at("kept"));
    fs::create_dir(&kept).unwrap();
    let store = format!("sqlite:{}/sam.db", data.display());
    // Killed a moment after it began: what it wrote last waits for its place.
    site.sam("sam-1", &store, &ports).await.kill();
    copy(&data, &kept);
    for _ in 0..2 {
        site.sam("sam-1", &store, &ports).await.end();
    }
    let whole = site.entries("sam");

    copy(&kept, &data);
    let export = site.at("export/sam").display().to_string();
    let up = ["bring-up-log", "--log", &export];
    let said = site.command("natsuin-sam", "sam-1", &up);
    assert!(said.status.success(), "{}", text(&said));
    site.sam("sam-1", &store, &ports).await.end();
    let after = site.entries("sam");
    assert_eq!(after[..whole.len()], whole[..]);
    let told: Vec<_> = after
        .iter()
        .filter(|entry| entry["kind"] == "audit.log-replayed")
        .collect();
    assert_eq!(told.len(), 1);
    let detail = &told[0]["detail"];
    assert_eq!(detail["size"], whole.len());
    assert!(
        detail["from"].as_u64() < detail["size"].as_u64(),
        "{detail}"
    );
    module.end();
}
