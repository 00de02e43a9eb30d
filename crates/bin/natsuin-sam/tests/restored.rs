//! `natsuin-sam --restored`: a restore that shows by nothing else begins a new epoch, and nothing is served.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use core_types::random::SystemRandom;
use sam_service::MIGRATIONS;
use store_kit::{Store, StoreUrl};

/// The sample configuration with this store; only its TLS files need to be there.
fn daemon(dir: &Path, store: &str) -> Output {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../config/natsuin-sam.toml");
    let mut config: toml::Table = toml::from_str(&fs::read_to_string(sample).unwrap()).unwrap();
    config.insert("store".into(), store.into());
    let tls = config["tls"].as_table_mut().unwrap();
    for (name, path) in tls.iter_mut() {
        let file = dir.join(name);
        fs::write(&file, "").unwrap();
        *path = file.display().to_string().into();
    }
    let path = dir.join("sam.toml");
    fs::write(&path, config.to_string()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_natsuin-sam"));
    command.arg("--config").arg(path).arg("--restored");
    command.output().unwrap()
}

/// What acts are bound to, as a daemon sees it that opens the store now.
async fn epoch(store: &str) -> Vec<u8> {
    let url = StoreUrl::parse(store).unwrap();
    let opened = Store::open(&url, "sam", MIGRATIONS, &SystemRandom).await;
    let mut tx = opened.unwrap().read("look").await.unwrap();
    tx.epoch_source().await.unwrap()
}

// shows: I-7.1.7.2-restore-state
#[tokio::test]
async fn a_restore_that_is_told_of_begins_a_new_epoch_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}/sam.db", dir.path().display());
    let mut epochs = vec![epoch(&store).await];
    assert_eq!(epoch(&store).await, epochs[0], "opening it changes nothing");
    for _ in 0..2 {
        let done = daemon(dir.path(), &store);
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{said}");
        assert!(said.contains("a new epoch has begun"), "{said}");
        let now = epoch(&store).await;
        assert!(!epochs.contains(&now));
        epochs.push(now);
    }
    let in_a_file = format!("sqlite:{}/key/sam.db", dir.path().display());
    let absent = daemon(dir.path(), &in_a_file);
    assert_eq!(absent.status.code(), Some(4));
    let said = String::from_utf8_lossy(&absent.stderr);
    assert!(said.contains("store") && !said.contains("epoch"), "{said}");
}
