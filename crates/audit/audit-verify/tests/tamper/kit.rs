//! An intact export of the real writer, made once, and its witnesses.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use audit_log::{
    Answer, Asking, AuditLog, Carrier, Event, LogKey, Measure, Place, Sequencer, TABLES, Witness,
    Witnesses, export,
};
use audit_verify::{Known, Report, verify};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use core_types::bytes::hex;
use core_types::{PersonId, SecretBytes, UnixTime, sha256};
use store_kit::testing::{self, TestStore};
use store_kit::{StoreError, transaction};
use tempfile::TempDir;

pub const ENTRIES: usize = 600;
/// Sizes of the checkpoints.
pub const CHECKPOINTS: [usize; 4] = [1, 200, 513, 600];
pub const START: i64 = 1_800_000_000;

/// The files of an export, and its witness's.
#[derive(Clone, PartialEq, Eq)]
pub struct Files {
    pub export: BTreeMap<String, Vec<u8>>,
    pub witness: String,
    pub cosigner: String,
}

/// A witness that signs whatever it is shown, at the time it is told.
#[derive(Clone)]
pub struct Stamp {
    pair: Arc<Ed25519KeyPair>,
    id: [u8; 4],
    pub key: String,
    pub now: Arc<AtomicI64>,
}

impl Stamp {
    pub fn new() -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).expect("a key");
        let typed = [&[4], pair.public_key().as_ref()].concat();
        let hash = sha256(&[b"witness.example\n", &typed]);
        let key = format!(
            "witness.example+{}+{}",
            hex(&hash.0[..4]),
            STANDARD.encode(&typed)
        );
        Self {
            pair: Arc::new(pair),
            id: [hash.0[0], hash.0[1], hash.0[2], hash.0[3]],
            key,
            now: Arc::new(AtomicI64::new(START)),
        }
    }

    pub fn watches(&self) -> Witnesses {
        let witness = Witness::new(&self.key, Box::new(self.clone())).expect("a witness");
        Witnesses {
            cosigners: vec![witness],
            patience: 60,
            measure: Measure::Stop,
        }
    }
}

impl Carrier for Stamp {
    fn add_checkpoint(&self, body: String) -> Asking<'_> {
        Box::pin(async move {
            let (_, note) = body.split_once("\n\n")?;
            let (text, _) = note.split_once("\n\n")?;
            let time = self.now.load(Ordering::SeqCst);
            let message = format!("cosignature/v1\ntime {time}\n{text}\n");
            let signature = self.pair.sign(message.as_bytes());
            let bytes = [&self.id[..], &time.to_be_bytes(), signature.as_ref()].concat();
            let line = format!("\u{2014} witness.example {}\n", STANDARD.encode(bytes));
            Some(Answer {
                status: 200,
                body: line.into_bytes(),
            })
        })
    }
}

pub fn log_key() -> LogKey {
    LogKey::from_seed("log.example/sam", &SecretBytes::new(vec![2; 32])).expect("a key")
}

pub fn log(node: &str) -> AuditLog {
    AuditLog::new(
        "sam",
        node,
        SecretBytes::new(vec![1; 32]),
        std::sync::Arc::new(core_types::random::SystemRandom),
    )
}

pub fn event(n: usize) -> Event {
    Event::LoginSucceeded {
        person: PersonId::parse(format!("p{n}")).expect("an id"),
        method: "totp".into(),
        session: None,
        from: Place::Unknown,
        credential: None,
    }
}

pub async fn append(store: &TestStore, log: &AuditLog, events: &[Event], at: i64) {
    let done: Result<_, StoreError> = transaction!(store.store, "test", |tx| {
        log.append_all(tx, events, UnixTime(at)).await
    });
    done.expect("entries");
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().expect("a runtime");
    runtime.block_on(work)
}

/// The whole log by two nodes, and its export before the last checkpoint.
pub fn intact() -> &'static [Files; 2] {
    static FILES: OnceLock<[Files; 2]> = OnceLock::new();
    FILES.get_or_init(|| block_on(make()))
}

async fn make() -> [Files; 2] {
    let dir = TempDir::new().expect("a directory");
    let witness = dir.path().join("witness");
    let store = testing::sqlite(&[TABLES]).await;
    let logs = ["node-1", "node-2"].map(log);
    let stamp = Stamp::new();
    let opened = Sequencer::open(logs[0].clone(), log_key(), Some(witness.clone()), &store).await;
    let watched = opened
        .expect("a log")
        .watched_by(stamp.watches(), &store, UnixTime(START));
    let sequencer = watched.await.expect("a watched log");
    let mut short = None;
    let mut n = 0;
    for (number, size) in CHECKPOINTS.into_iter().enumerate() {
        while n < size {
            let node = &logs[usize::from(n % 3 == 0)];
            // The clock of one entry goes back.
            let at = START
                + if n == 10 {
                    0
                } else {
                    i64::try_from(n / 100 + 1).expect("small")
                };
            append(&store, node, &[event(n)], at).await;
            n += 1;
        }
        let at = UnixTime(START + i64::try_from(10 * number).expect("small"));
        stamp.now.store(at.0, Ordering::SeqCst);
        sequencer.sequence(&store, at).await.expect("an intact log");
        if number + 2 == CHECKPOINTS.len() {
            short = Some(exported(&store, &sequencer.public(), &stamp, &witness).await);
        }
    }
    let whole = exported(&store, &sequencer.public(), &stamp, &witness).await;
    [whole, short.expect("an earlier export")]
}

pub async fn exported(store: &TestStore, public: &str, stamp: &Stamp, witness: &Path) -> Files {
    let dir = TempDir::new().expect("a directory");
    export(store, dir.path(), public).await.expect("an export");
    let mut files = BTreeMap::new();
    read(dir.path(), dir.path(), &mut files);
    Files {
        export: files,
        witness: std::fs::read_to_string(witness).expect("the witness"),
        cosigner: stamp.key.clone(),
    }
}

fn read(root: &Path, dir: &Path, into: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read(root, &path, into);
        } else {
            let name = path.strip_prefix(root).expect("inside");
            let bytes = std::fs::read(&path).expect("a file");
            into.insert(name.display().to_string(), bytes);
        }
    }
}

impl Files {
    pub fn key(&self) -> String {
        self.text("log.pub").trim_end().to_owned()
    }

    pub fn text(&self, name: &str) -> String {
        String::from_utf8(self.export[name].clone()).expect("text")
    }

    pub fn with(&self, name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        let mut files = self.clone();
        files.export.insert(name.to_owned(), bytes.into());
        files
    }

    pub fn write(&self, dir: &Path) -> PathBuf {
        for (name, bytes) in &self.export {
            let path = dir.join(name);
            let folder = path.parent().expect("a folder");
            std::fs::create_dir_all(folder).expect("a folder");
            std::fs::write(path, bytes).expect("a file");
        }
        let witness = dir.join("witness");
        std::fs::write(&witness, &self.witness).expect("a file");
        witness
    }

    /// Verifies with both witnesses and with the key known beforehand.
    pub fn verify(&self) -> Report {
        let dir = TempDir::new().expect("a directory");
        let witness = self.write(dir.path());
        let known = Known {
            key: &intact()[0].key(),
            witness: Some(&witness),
            cosigners: &[&intact()[0].cosigner],
            zone: Some("sam"),
            ..Known::default()
        };
        verify(dir.path(), known).expect("readable files")
    }

    /// Entries of a bundle.
    pub fn bundle(&self, name: &str) -> Vec<Vec<u8>> {
        Self::split(&self.export[name])
    }

    pub fn split(mut rest: &[u8]) -> Vec<Vec<u8>> {
        let mut entries = Vec::new();
        while let Some((length, after)) = rest.split_first_chunk::<2>() {
            let (entry, after) = after.split_at(usize::from(u16::from_be_bytes(*length)));
            entries.push(entry.to_vec());
            rest = after;
        }
        entries
    }

    pub fn with_bundle(&self, name: &str, entries: &[Vec<u8>]) -> Self {
        self.with(name, Self::joined(entries))
    }

    pub fn joined(entries: &[Vec<u8>]) -> Vec<u8> {
        let prefixed = entries.iter().flat_map(|entry| {
            let length = u16::try_from(entry.len()).expect("short").to_be_bytes();
            [&length[..], entry].concat()
        });
        prefixed.collect()
    }

    /// Changes an entry's text and its hash in the tile: the work of somebody who knows the format.
    pub fn forged(&self, seq: usize, from: &str, to: &str) -> Self {
        let (bundle, tile) = (place("entries", seq), place("0", seq));
        let mut entries = self.bundle(&bundle);
        let entry = &mut entries[seq % 256];
        let text = String::from_utf8(entry.clone()).expect("text");
        *entry = text.replace(from, to).into_bytes();
        let leaf = sha256(&[&[0], entry]);
        let mut hashes = self.export[&tile].clone();
        hashes[seq % 256 * 32..][..32].copy_from_slice(&leaf.0);
        self.with_bundle(&bundle, &entries).with(&tile, hashes)
    }

    pub fn without_cosignatures(&self) -> Self {
        let mut files = self.clone();
        for name in ["checkpoint", "checkpoints.txt"] {
            let text = String::from_utf8_lossy(&files.export[name]).into_owned();
            let foreign =
                |line: &&str| line.starts_with('\u{2014}') && !line.contains(" log.example/sam ");
            let lines = text.split_inclusive('\n').filter(|line| !foreign(line));
            let kept: String = lines.collect();
            files.export.insert(name.to_owned(), kept.into_bytes());
        }
        files
    }

    pub fn notes(&self) -> Vec<String> {
        let text = self.text("checkpoints.txt");
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        lines.chunks(7).map(|note| note.concat()).collect()
    }
}

/// File that holds a place of the whole log.
pub fn place(kind: &str, seq: usize) -> String {
    match seq / 256 {
        2 => format!("tile/{kind}/002.p/{}", ENTRIES - 512),
        n => format!("tile/{kind}/{n:03}"),
    }
}
