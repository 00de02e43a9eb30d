//! Where secrets could be: what all zones say, their databases, and what leaves the service.

use std::io::BufRead as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use ::backup::Identity;
use core_types::bytes::{b64, b64u, hex};
use jose::SigningKey;
use natsuin::stack::StoreChoice;
use store_kit::{Cell, Dump, StoreUrl};

use crate::kit::{entries, files, natsuin, run, text};

/// What all zones log, at their most talkative, until it is taken.
#[derive(Clone)]
pub(super) struct Lines(pub(super) Arc<Mutex<Option<Vec<u8>>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if let Some(lines) = self.0.lock().unwrap().as_mut() {
            lines.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Whether these bytes are anywhere among those.
pub(super) fn holds(bytes: &[u8], what: &[u8]) -> bool {
    let mut rest = bytes;
    loop {
        let before = rest;
        // Megabytes of what all zones say: byte by byte takes too long.
        let read = rest.skip_until(what[0]).unwrap();
        if before[..read].last() != Some(&what[0]) {
            return false;
        }
        if rest.starts_with(&what[1..]) {
            return true;
        }
    }
}

/// What lies in a database server; of an embedded store the files have been read.
pub(super) async fn rows(store: &StoreChoice) -> Vec<(String, Vec<u8>)> {
    let StoreChoice::Postgres(url) = store else {
        return Vec::new();
    };
    let url = StoreUrl::parse(url).unwrap();
    let mut found = Vec::new();
    for zone in ["cm", "sam", "ssa"] {
        let mut dump = Dump::open(&url, zone).await.unwrap();
        for table in dump.tables().to_vec() {
            let mut all = Vec::new();
            let mut page = dump.page(&table, None).await.unwrap();
            while let Some(last) = page.last().cloned() {
                for cell in page.iter().flatten() {
                    match cell {
                        Cell::Text(text) => all.extend_from_slice(text.as_bytes()),
                        Cell::Blob(bytes) => all.extend_from_slice(bytes),
                        Cell::Null | Cell::Int(_) => {}
                    }
                    all.push(b'\n');
                }
                page = dump.page(&table, Some(&last)).await.unwrap();
            }
            found.push((format!("rows of {zone}.{}", table.name), all));
        }
    }
    found
}

/// Where a command finds the rows.
pub(super) fn in_store<'c>(command: &'c mut Command, store: &StoreChoice) -> &'c mut Command {
    match store {
        StoreChoice::Embedded => command,
        StoreChoice::Postgres(url) => command.args(["--store", url.as_str()]),
    }
}

/// Private keys in the stack's folder: each file, and how its key might be written elsewhere.
pub(super) fn private_keys(data: &Path) -> Vec<(String, Vec<Vec<u8>>)> {
    let mut keys = Vec::new();
    for path in files(data) {
        let bytes = std::fs::read(&path).unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let forms = match text.split_once("PRIVATE KEY-----\n") {
            // The second line of its PEM is in the middle of the key.
            Some((_, pem)) => vec![pem.lines().nth(1).unwrap().as_bytes().to_vec()],
            None if path.extension().is_some_and(|e| e == "key") => {
                let texts = [b64(&bytes), b64u(&bytes), hex(&bytes)];
                let texts = texts.map(String::into_bytes);
                texts.into_iter().chain([bytes]).collect()
            }
            None => continue,
        };
        keys.push((path.display().to_string(), forms));
    }
    for expected in ["cm/root.key", "sam/log.key", "ssa/ssa.key", "ca/"] {
        let found = keys.iter().any(|(name, _)| name.contains(expected));
        assert!(found, "no private key: {expected}");
    }
    keys
}

/// What else leaves the service: a search, evidence, a backup as it is, and its rows for who may open it.
pub(super) fn handed_out(
    dir: &Path,
    store: &StoreChoice,
    export: &Path,
    person: &str,
) -> Vec<(String, Vec<u8>)> {
    let (at, data) = (|name: &str| dir.join(name), dir.join("data"));
    let done = |command: &mut Command| {
        let said = run(command);
        assert!(said.status.success(), "{}", text(&said));
        said.stdout
    };
    let mut search = natsuin();
    search.args(["audit", "search", "--format", "csv", "--export"]);
    let csv = done(search.arg(export));
    let made = entries(export, "sam");
    let made = made.iter().find(|e| e["kind"] == "signature.made").unwrap();
    let mut evidence = natsuin();
    evidence.args(["evidence", "export", "--person", person, "--act"]);
    evidence.arg(made["detail"]["act"].as_str().unwrap());
    in_store(evidence.arg("--data").arg(&data), store);
    evidence.arg("--root");
    done(
        evidence
            .arg(data.join("root.jwk"))
            .arg("--out")
            .arg(at("evidence")),
    );
    let identity = Identity::generate();
    std::fs::write(at("identity"), identity.text().expose()).unwrap();
    let mut backup = natsuin();
    backup.args(["backup", "create", "--data"]).arg(&data);
    in_store(&mut backup, store);
    for name in ["key", "operator", "officer"] {
        let (key, pkcs8) = SigningKey::generate().unwrap();
        let public = serde_json::to_vec(key.public()).unwrap();
        std::fs::write(
            at(name),
            if name == "key" {
                pkcs8.expose()
            } else {
                &public
            },
        )
        .unwrap();
        backup.arg(format!("--{name}")).arg(at(name));
    }
    backup
        .arg("--recipient")
        .arg(identity.recipient().to_string());
    done(backup.arg("--to").arg(at("backup.age")));
    std::fs::create_dir(at("rows")).unwrap();
    let mut open = Command::new("age");
    open.arg("-d")
        .arg("-i")
        .arg(at("identity"))
        .arg("-o")
        .arg(at("tar"));
    done(open.arg(at("backup.age")));
    done(
        Command::new("tar")
            .arg("-xf")
            .arg(at("tar"))
            .arg("-C")
            .arg(at("rows")),
    );
    let rows = ["cm", "sam", "ssa"]
        .iter()
        .flat_map(|z| files(&dir.join("rows").join(z)));
    let all = rows.chain([at("evidence"), at("backup.age")]);
    let all = all.map(|path| (path.display().to_string(), std::fs::read(&path).unwrap()));
    all.chain([("a search".to_owned(), csv)]).collect()
}
