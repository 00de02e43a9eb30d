//! Logs on a medium of their own: what was signed is there, nothing else is, and one byte is enough to tell.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use core_types::KeyAlg;
use jose::SigningKey;
use natsuin::sample;
use serde_json::Value;

use crate::kit::{Story, cramped, files, natsuin, run, text};

/// Where archives go, and the key that signs them.
pub struct Medium {
    keys: PathBuf,
    private: PathBuf,
    pub public: PathBuf,
    /// The logs that are archived; none: all.
    zones: Vec<&'static str>,
}

impl Medium {
    pub fn new(dir: &Path, keys: PathBuf) -> Self {
        let (private, public) = (dir.join("archive.key"), dir.join("archive.jwk"));
        let (key, pkcs8) = SigningKey::generate().unwrap();
        fs::write(&private, pkcs8.expose()).unwrap();
        fs::write(&public, serde_json::to_vec(key.public()).unwrap()).unwrap();
        Self {
            keys,
            private,
            public,
            zones: Vec::new(),
        }
    }

    /// Says to a command which logs there are.
    fn name(&self, command: &mut Command) {
        for zone in &self.zones {
            command.arg("--zone").arg(zone);
        }
    }

    pub fn create(&self, export: &Path, to: &Path) -> Output {
        self.create_by(natsuin(), export, to)
    }

    fn create_by(&self, mut command: Command, export: &Path, to: &Path) -> Output {
        command.args(["archive", "create", "--json"]).arg(export);
        self.name(&mut command);
        command.arg("--to").arg(to).arg("--key").arg(&self.private);
        command.arg("--keys").arg(&self.keys).arg("--witness");
        run(command.arg(&self.keys))
    }

    fn verify(&self, dir: &Path, key: &Path) -> (i32, Value) {
        let mut command = natsuin();
        command.args(["archive", "verify", "--json"]).arg(dir);
        self.name(&mut command);
        command.arg("--key").arg(key).arg("--keys").arg(&self.keys);
        let said = run(command.arg("--witness").arg(&self.keys));
        let value = serde_json::from_slice(&said.stdout).unwrap_or_default();
        (said.status.code().unwrap(), value)
    }
}

/// Changes a file that was made read-only.
fn edit(path: &Path, change: impl Fn(&mut Vec<u8>)) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

// shows: I-7.1.5.1-archive-external-media, I-7.1.5.1-archive-all-audit-logs, I-7.1.5.1-archive-time,
// I-7.1.5.2-archive-integrity-check,
// I-7.1.5.2-archive-unaltered
#[tokio::test(flavor = "multi_thread")]
async fn logs_are_archived_signed_and_checked_and_one_byte_is_enough_to_tell() {
    let mut story = Story::begin(KeyAlg::P256).await;
    let input = story.dir.path().join("契約書.pdf");
    fs::write(&input, sample::contract().unwrap()).unwrap();
    story.sign(&input, "signed.pdf").await.unwrap();
    story.stack.stop().await;
    let (dir, data) = (story.dir.path(), story.dir.path().join("data"));
    let export = dir.join("export");
    let mut command = natsuin();
    command.args(["audit", "export", "--data"]).arg(&data);
    let said = run(command.arg("--out").arg(&export));
    assert!(said.status.success(), "{}", text(&said));

    let medium = Medium::new(dir, data.join("witness"));
    let archive = dir.join("medium");
    let said = medium.create(&export, &archive);
    assert!(said.status.success(), "{}", text(&said));
    let (code, good) = medium.verify(&archive, &medium.public);
    assert_eq!((code, &good["ok"]), (0, &Value::from(true)), "{good}");
    assert!(good["archived"].as_str().unwrap().ends_with('Z'), "{good}");
    for zone in ["cm", "sam", "ssa"] {
        assert!(
            good["zones"][zone]["entries"].as_u64().unwrap() > 0,
            "{good}"
        );
    }
    let all = files(&archive);
    for path in &all {
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o222, 0, "{} can be written", path.display());
    }

    // A disk without room has nothing that looks like an archive, and one that can't be written nothing at all.
    let said = medium.create_by(cramped(1), &export, &dir.join("full"));
    assert_eq!(said.status.code(), Some(6), "{}", text(&said));
    assert_eq!(medium.verify(&dir.join("full"), &medium.public).0, 1);
    let said = medium.create(&export, Path::new("/sys/archive"));
    assert_eq!(said.status.code(), Some(6), "{}", text(&said));

    // A second archive goes nowhere near the first.
    assert_eq!(medium.create(&export, &archive).status.code(), Some(6));
    let other = Medium::new(&dir.join("data"), data.join("witness"));
    let (code, bad) = medium.verify(&archive, &other.public);
    assert_eq!(code, 1, "another key: {bad}");

    for path in &all {
        let name = path.strip_prefix(&archive).unwrap().display().to_string();
        let kept = fs::read(path).unwrap();
        let (last, middle) = (kept.len() - 1, kept.len() / 2);
        for at in [0, middle, last] {
            edit(path, |bytes| bytes[at] ^= 1);
            let (code, bad) = medium.verify(&archive, &medium.public);
            assert_eq!(code, 1, "{name} {at}: {bad}");
            assert!(
                bad["bad"].as_str().unwrap().contains("archive.")
                    || bad["bad"].as_str().unwrap().contains(&name),
                "{bad}"
            );
            edit(path, |bytes| bytes.clone_from(&kept));
        }
    }
    let (gone, moved) = (&all[0], dir.join("moved"));
    fs::rename(gone, &moved).unwrap();
    assert_eq!(
        medium.verify(&archive, &medium.public).0,
        1,
        "a file is missing"
    );
    fs::rename(&moved, gone).unwrap();
    let added = archive.join("log/sam/added");
    fs::write(&added, b"").unwrap();
    assert_eq!(
        medium.verify(&archive, &medium.public).0,
        1,
        "a file was added"
    );
    fs::remove_file(&added).unwrap();
    std::os::unix::fs::symlink(&input, &added).unwrap();
    assert_eq!(medium.verify(&archive, &medium.public).0, 1, "a link");
    fs::remove_file(&added).unwrap();
    assert_eq!(
        medium.verify(&archive, &medium.public).0,
        0,
        "all is as it was"
    );

    // The log of a tenant's service is one by itself, if somebody says so.
    let (alone, desk) = (dir.join("alone"), dir.join("desk"));
    for folder in [&alone, &desk] {
        fs::create_dir(folder).unwrap();
    }
    let copied = run(Command::new("cp")
        .arg("-r")
        .arg(export.join("ssa"))
        .arg(&alone));
    assert!(copied.status.success(), "{}", text(&copied));
    let mut tenant = Medium::new(&desk, data.join("witness"));
    let judged = |medium: &Medium| {
        let mut command = natsuin();
        command.args(["audit", "verify"]).arg(&alone);
        medium.name(&mut command);
        run(command.arg("--keys").arg(data.join("witness")))
            .status
            .code()
    };
    assert_eq!(judged(&tenant), Some(6), "two are missing");
    tenant.zones.push("ssa");
    assert_eq!(judged(&tenant), Some(0));
    let said = tenant.create(&export, &dir.join("more"));
    assert_eq!(said.status.code(), Some(6), "{}", text(&said));
    let own = dir.join("medium-of-one");
    let said = tenant.create(&alone, &own);
    assert!(said.status.success(), "{}", text(&said));
    let (code, good) = tenant.verify(&own, &tenant.public);
    assert_eq!((code, &good["zones"]["sam"]), (0, &Value::Null), "{good}");
    assert_ne!(
        tenant.verify(&archive, &medium.public).0,
        0,
        "not all of it"
    );

    // An export that the logs didn't write isn't archived.
    let entries = files(&export.join("sam"));
    let entry = entries
        .iter()
        .find(|p| p.to_string_lossy().contains("/entries/"));
    edit(entry.unwrap(), |bytes| {
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
    });
    let refused = medium.create(&export, &dir.join("second"));
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(!dir.join("second").exists());
}
