//! Exports of the real writer: intact ones pass, altered ones never do.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use audit_log::{AuditLog, Event, LogKey, Sequencer, TABLES, export};
use audit_verify::{Place, Reason, Report, verify};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use core_types::{PersonId, SecretBytes, UnixTime, sha256};
use proptest::prelude::*;
use store_kit::{StoreError, testing, transaction};
use tempfile::TempDir;

const ENTRIES: usize = 24;
/// Sizes of the checkpoints.
const CHECKPOINTS: [usize; 4] = [1, 7, 16, 24];

/// The texts of an export and its witness.
#[derive(Clone, PartialEq, Eq)]
struct Files {
    entries: String,
    checkpoints: String,
    key: String,
    witness: String,
}

/// An intact export by two nodes, made once.
fn intact() -> &'static Files {
    static FILES: OnceLock<Files> = OnceLock::new();
    FILES.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime
            .expect("a runtime")
            .block_on(make())
            .expect("an export")
    })
}

async fn make() -> Result<Files, Box<dyn std::error::Error>> {
    let dir = TempDir::new()?;
    let witness = dir.path().join("witness");
    let store = testing::sqlite(&[TABLES]).await;
    let logs =
        ["node-1", "node-2"].map(|node| AuditLog::new("sam", node, SecretBytes::new(vec![1; 32])));
    let key = LogKey::from_seed("log.example/sam", &SecretBytes::new(vec![2; 32]))?;
    let sequencer = Sequencer::open(logs[0].clone(), key, Some(witness.clone()), &store).await?;
    for n in 0..ENTRIES {
        let event = Event::LoginSucceeded {
            person: PersonId::parse(format!("p{n}"))?,
            method: "totp".into(),
        };
        // The clock of entry 10 goes back.
        let at = UnixTime(1_800_000_000 + if n == 10 { 0 } else { i64::try_from(n)? });
        let log = &logs[usize::from(n % 3 == 0)];
        let done: Result<_, StoreError> = transaction!(store, "test", |tx| {
            log.append(tx, event.clone(), at).await
        });
        done?;
        if CHECKPOINTS.contains(&(n + 1)) {
            sequencer.sequence(&store, at).await?;
        }
    }
    let public = sequencer.public();
    assert_eq!(export(&store, dir.path(), &public).await?, ENTRIES as u64);
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name));
    Ok(Files {
        entries: read("entries.jsonl")?,
        checkpoints: read("checkpoints.txt")?,
        key: read("log.pub")?,
        witness: read("witness")?,
    })
}

impl Files {
    fn write(&self, dir: &Path) -> PathBuf {
        std::fs::write(dir.join("entries.jsonl"), &self.entries).expect("a file");
        std::fs::write(dir.join("checkpoints.txt"), &self.checkpoints).expect("a file");
        std::fs::write(dir.join("log.pub"), &self.key).expect("a file");
        std::fs::write(dir.join("witness"), &self.witness).expect("a file");
        dir.join("witness")
    }

    /// Verifies with the witness and with the key known beforehand.
    fn verify(&self) -> Report {
        let dir = TempDir::new().expect("a directory");
        let witness = self.write(dir.path());
        verify(dir.path(), Some(&witness), &intact().key).expect("readable files")
    }

    fn lines(&self) -> Vec<String> {
        self.entries
            .split_inclusive('\n')
            .map(str::to_owned)
            .collect()
    }

    fn notes(&self) -> Vec<String> {
        let lines: Vec<&str> = self.checkpoints.split_inclusive('\n').collect();
        lines.chunks(6).map(|note| note.concat()).collect()
    }

    fn with_lines(&self, lines: &[String]) -> Self {
        Self {
            entries: lines.concat(),
            ..self.clone()
        }
    }

    fn with_notes(&self, notes: &[String]) -> Self {
        Self {
            checkpoints: notes.concat(),
            ..self.clone()
        }
    }
}

/// Changes an entry's text and makes the line consistent again: the work of somebody who knows the format.
fn forge(line: &str, from: &str, to: &str) -> String {
    let mut entry: serde_json::Value = serde_json::from_str(line).expect("an entry");
    let body = entry["body"].as_str().expect("a body").replace(from, to);
    let leaf = URL_SAFE_NO_PAD.encode(sha256(&[&[0], body.as_bytes()]));
    let old = entry["leaf"].as_str().expect("a leaf").to_owned();
    let escaped = |text: &str| serde_json::to_string(text).expect("a text");
    let before = escaped(entry["body"].as_str().expect("a body"));
    entry["body"] = body.clone().into();
    line.replace(&old, &leaf).replace(&before, &escaped(&body))
}

// shows: I-7.1.4.8-audit-integrity-verifier
#[test]
fn an_intact_export_passes() {
    let report = intact().verify();
    assert!(report.ok, "{:?}", report.first_bad);
    assert_eq!(
        (report.entries, report.checkpoints, report.proven),
        (24, 4, 24)
    );
    assert_eq!((report.witnesses.agreeing, report.witnesses.given), (1, 1));
    let remarks: Vec<_> = report.remarks.iter().map(|r| r.code).collect();
    assert_eq!(remarks, ["time-went-back"]);
}

#[test]
fn the_first_bad_entry_is_named_with_its_reason() {
    let files = intact();
    let mut lines = files.lines();
    lines[9] = lines[9].replace("totp", "none");
    let bad = files.with_lines(&lines).verify().first_bad.unwrap();
    assert_eq!(
        (bad.seq, bad.reason, bad.place),
        (Some(9), Reason::LeafDiffers, Place::Entry)
    );
    assert!(
        bad.node.is_some() && bad.n.is_some() && bad.kind.as_deref() == Some("login.succeeded")
    );

    let mut lines = files.lines();
    lines[9] = forge(&lines[9], "totp", "none");
    let bad = files.with_lines(&lines).verify().first_bad.unwrap();
    assert_eq!(
        (bad.seq, bad.until, bad.reason),
        (Some(7), Some(15), Reason::RootDiffers)
    );

    let mut lines = files.lines();
    lines.remove(9);
    let bad = files.with_lines(&lines).verify().first_bad.unwrap();
    assert_eq!((bad.seq, bad.reason), (Some(9), Reason::OutOfPlace));
}

#[test]
fn a_cut_off_end_is_found_by_the_witness_only() {
    let files = intact();
    let short = files
        .with_lines(&files.lines()[..16])
        .with_notes(&files.notes()[..3]);
    let bad = short.verify().first_bad.unwrap();
    assert_eq!((bad.seq, bad.reason), (Some(16), Reason::Truncated));
    let dir = TempDir::new().unwrap();
    short.write(dir.path());
    let alone = verify(dir.path(), None, &files.key).unwrap();
    assert!(alone.ok && alone.remarks.iter().any(|r| r.code == "no-witness"));
}

#[test]
fn a_log_rewritten_under_another_key_is_found() {
    let files = intact();
    let other = LogKey::from_seed("log.example/sam", &SecretBytes::new(vec![3; 32])).unwrap();
    let replaced = Files {
        key: other.public() + "\n",
        ..files.clone()
    };
    assert_eq!(
        replaced.verify().first_bad.unwrap().reason,
        Reason::KeyDiffers
    );
    let dir = TempDir::new().unwrap();
    let witness = replaced.write(dir.path());
    let report = verify(dir.path(), Some(&witness), &other.public()).unwrap();
    assert_eq!(
        report.first_bad.unwrap().reason,
        Reason::CheckpointSignature
    );
}

#[test]
fn a_witness_torn_by_a_crash_is_no_fault() {
    let files = intact();
    for cut in 1..100 {
        let torn = Files {
            witness: files.witness[..files.witness.len() - cut].to_owned(),
            ..files.clone()
        };
        let report = torn.verify();
        assert!(report.ok, "{cut}: {:?}", report.first_bad);
        assert!(report.remarks.iter().any(|r| r.code == "witness-torn"));
    }
}

/// One way to alter an export.
#[derive(Debug, Clone)]
enum Change {
    EditByte {
        checkpoints: bool,
        at: prop::sample::Index,
        to: u8,
    },
    DropByte {
        checkpoints: bool,
        at: prop::sample::Index,
    },
    AddByte {
        checkpoints: bool,
        at: prop::sample::Index,
        byte: u8,
    },
    Delete(prop::sample::Index),
    Repeat(prop::sample::Index),
    Swap(prop::sample::Index, prop::sample::Index),
    Move(prop::sample::Index, prop::sample::Index),
    Truncate(usize),
    CutOff(usize),
    Forge(prop::sample::Index),
    DeleteNote(prop::sample::Index),
    SwapNotes(prop::sample::Index, prop::sample::Index),
}

fn change() -> impl Strategy<Value = Change> {
    use prop::sample::Index;
    prop_oneof![
        4 => (any::<bool>(), any::<Index>(), 0x20..0x7f_u8)
            .prop_map(|(checkpoints, at, to)| Change::EditByte { checkpoints, at, to }),
        2 => (any::<bool>(), any::<Index>()).prop_map(|(checkpoints, at)| Change::DropByte { checkpoints, at }),
        3 => (any::<bool>(), any::<Index>(), prop_oneof![Just(b' '), Just(b'\n'), 0x20..0x7f_u8])
            .prop_map(|(checkpoints, at, byte)| Change::AddByte { checkpoints, at, byte }),
        1 => any::<Index>().prop_map(Change::Delete),
        1 => any::<Index>().prop_map(Change::Repeat),
        1 => any::<(Index, Index)>().prop_map(|(a, b)| Change::Swap(a, b)),
        1 => any::<(Index, Index)>().prop_map(|(a, b)| Change::Move(a, b)),
        1 => (0..ENTRIES).prop_map(Change::Truncate),
        1 => (0..CHECKPOINTS.len()).prop_map(Change::CutOff),
        1 => any::<Index>().prop_map(Change::Forge),
        1 => any::<Index>().prop_map(Change::DeleteNote),
        1 => any::<(Index, Index)>().prop_map(|(a, b)| Change::SwapNotes(a, b)),
    ]
}

impl Change {
    fn apply(&self, files: &Files) -> Files {
        let (mut lines, mut notes) = (files.lines(), files.notes());
        match self {
            Self::EditByte {
                checkpoints,
                at,
                to,
            } => return edit(files, *checkpoints, *at, 1, &[*to]),
            Self::DropByte { checkpoints, at } => return edit(files, *checkpoints, *at, 1, &[]),
            Self::AddByte {
                checkpoints,
                at,
                byte,
            } => return edit(files, *checkpoints, *at, 0, &[*byte]),
            Self::Delete(at) => drop(lines.remove(at.index(ENTRIES))),
            Self::Repeat(at) => lines.insert(at.index(ENTRIES), lines[at.index(ENTRIES)].clone()),
            Self::Swap(a, b) => lines.swap(a.index(ENTRIES), b.index(ENTRIES)),
            Self::Move(a, b) => {
                let line = lines.remove(a.index(ENTRIES));
                lines.insert(b.index(ENTRIES), line);
            }
            Self::Truncate(to) => lines.truncate(*to),
            Self::CutOff(to) => {
                notes.truncate(*to);
                lines.truncate(to.checked_sub(1).map_or(0, |last| CHECKPOINTS[last]));
            }
            Self::Forge(at) => {
                let at = at.index(ENTRIES);
                lines[at] = forge(&lines[at], "success", "failure");
            }
            Self::DeleteNote(at) => drop(notes.remove(at.index(CHECKPOINTS.len()))),
            Self::SwapNotes(a, b) => {
                notes.swap(a.index(CHECKPOINTS.len()), b.index(CHECKPOINTS.len()))
            }
        }
        files.with_lines(&lines).with_notes(&notes)
    }
}

fn edit(
    files: &Files,
    checkpoints: bool,
    at: prop::sample::Index,
    cut: usize,
    put: &[u8],
) -> Files {
    let text = if checkpoints {
        &files.checkpoints
    } else {
        &files.entries
    };
    let mut bytes = text.clone().into_bytes();
    let at = at.index(bytes.len());
    bytes.splice(at..at + cut, put.iter().copied());
    let text = String::from_utf8_lossy(&bytes).into_owned();
    if checkpoints {
        Files {
            checkpoints: text,
            ..files.clone()
        }
    } else {
        Files {
            entries: text,
            ..files.clone()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    // shows: I-7.1.4.3-no-unauthorised-deletion, I-7.1.4.8-audit-integrity
    #[test]
    fn every_edit_deletion_reordering_and_truncation_is_found(change in change()) {
        let altered = change.apply(intact());
        prop_assume!(altered != *intact());
        let report = altered.verify();
        prop_assert!(!report.ok, "{change:?}");
        prop_assert!(report.first_bad.is_some());
    }
}
