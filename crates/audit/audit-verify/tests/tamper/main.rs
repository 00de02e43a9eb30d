//! Exports of the real writer: intact ones pass, altered ones never do.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod drill;
mod kit;

use std::sync::atomic::Ordering;

use audit_log::{LogKey, Sequencer, TABLES};
use audit_verify::{Known, Place, Reason, verify, verify_each};
use core_types::{SecretBytes, UnixTime};
use proptest::prelude::*;
use proptest::sample::Index;
use store_kit::testing;
use tempfile::TempDir;

use kit::{CHECKPOINTS, ENTRIES, Files, START, Stamp, intact, place};

// shows: I-7.1.4.8-audit-integrity-verifier
#[test]
fn an_intact_export_passes() {
    let report = intact()[0].verify();
    assert!(report.ok, "{:?}", report.first_bad);
    assert_eq!(
        (report.entries, report.checkpoints, report.proven),
        (600, 4, 600)
    );
    assert_eq!((report.witnesses.agreeing, report.witnesses.given), (2, 2));
    let cosigned = &report.witnesses.cosigned[0];
    assert_eq!((cosigned.size, cosigned.at), (600, START + 30));
    let remarks: Vec<_> = report.remarks.iter().map(|r| r.code).collect();
    assert_eq!(remarks, ["time-went-back"]);
}

#[test]
fn the_entries_are_given_out_in_order() {
    let dir = TempDir::new().unwrap();
    intact()[0].write(dir.path());
    let key = intact()[0].key();
    let known = Known {
        key: &key,
        ..Known::default()
    };
    let mut given = Vec::new();
    let report = verify_each(dir.path(), known, |seq, text| {
        given.push((seq, text.to_owned()))
    });
    assert!(report.unwrap().ok);
    assert_eq!(given.len(), ENTRIES);
    for (seq, (at, text)) in given.iter().enumerate() {
        assert_eq!(seq as u64, *at);
        assert!(text.contains(r#""kind":"login.succeeded""#), "{text}");
    }
}

#[test]
fn the_first_bad_entry_is_named_with_its_reason() {
    let files = &intact()[0];
    let first = |files: Files| files.verify().first_bad.unwrap();
    let bundle = place("entries", 300);
    let mut entries = files.bundle(&bundle);
    let text = String::from_utf8(entries[300 - 256].clone()).unwrap();
    entries[300 - 256] = text.replace("totp", "none").into_bytes();
    let bad = first(files.with_bundle(&bundle, &entries));
    assert_eq!(
        (bad.seq, bad.reason, bad.place),
        (Some(300), Reason::LeafDiffers, Place::Entry)
    );
    assert!(bad.node.is_some() && bad.kind.as_deref() == Some("login.succeeded"));

    // Who changes the hash too is found by the checkpoint, and by the tile above if that is nearer.
    let bad = first(files.forged(9, "totp", "none"));
    assert_eq!(
        (bad.seq, bad.until, bad.reason),
        (Some(1), Some(199), Reason::RootDiffers)
    );
    let bad = first(files.forged(250, "totp", "none"));
    assert_eq!(
        (bad.seq, bad.until, bad.reason),
        (Some(200), Some(255), Reason::RootDiffers)
    );

    let mut entries = files.bundle(&bundle);
    entries[7].clear();
    let bad = first(files.with_bundle(&bundle, &entries));
    assert_eq!((bad.seq, bad.reason), (Some(263), Reason::Missing));
    let mut entries = files.bundle(&bundle);
    entries.remove(7);
    let bad = first(files.with_bundle(&bundle, &entries));
    assert_eq!((bad.seq, bad.reason), (Some(263), Reason::LeafDiffers));

    let tile = "tile/1/000.p/2";
    let mut hashes = files.export[tile].clone();
    hashes[40] ^= 1;
    let bad = first(files.with(tile, hashes));
    assert_eq!(
        (bad.seq, bad.until, bad.place, bad.reason),
        (Some(256), Some(511), Place::Tile, Reason::TileDiffers)
    );
}

#[test]
fn a_cut_off_end_is_found_by_witnesses_only() {
    let [whole, short] = intact();
    let cut = Files {
        export: short.export.clone(),
        ..whole.clone()
    };
    let report = cut.verify();
    let bad = report.first_bad.unwrap();
    assert_eq!((bad.seq, bad.reason), (Some(513), Reason::Truncated));
    let dir = TempDir::new().unwrap();
    short.write(dir.path());
    let key = short.key();
    let known = Known {
        key: &key,
        ..Known::default()
    };
    let alone = verify(dir.path(), known).unwrap();
    assert!(alone.ok && alone.remarks.iter().any(|r| r.code == "no-witness"));
}

#[test]
fn a_log_rewritten_under_another_key_is_found() {
    let files = &intact()[0];
    let other = LogKey::from_seed("log.example/sam", &SecretBytes::new(vec![3; 32])).unwrap();
    let replaced = files.with("log.pub", other.public() + "\n");
    assert_eq!(
        replaced.verify().first_bad.unwrap().reason,
        Reason::KeyDiffers
    );
    let dir = TempDir::new().unwrap();
    replaced.write(dir.path());
    let key = other.public();
    let known = Known {
        key: &key,
        ..Known::default()
    };
    let report = verify(dir.path(), known).unwrap();
    assert_eq!(
        report.first_bad.unwrap().reason,
        Reason::CheckpointSignature
    );
}

#[test]
fn a_witness_torn_by_a_crash_is_no_fault() {
    let files = &intact()[0];
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

/// A log whose entries have these times, cosigned at those.
async fn timed(rounds: &[(i64, i64)]) -> (Files, String) {
    let store = testing::sqlite(&[TABLES]).await;
    let dir = TempDir::new().unwrap();
    let witness = dir.path().join("witness");
    let (log, stamp) = (kit::log("a"), Stamp::new());
    let opened = Sequencer::open(log.clone(), kit::log_key(), Some(witness.clone()), &store).await;
    let watched = opened
        .unwrap()
        .watched_by(stamp.watches(), &store, UnixTime(START));
    let sequencer = watched.await.unwrap();
    for (n, (entry, cosigned)) in rounds.iter().enumerate() {
        kit::append(&store, &log, &[kit::event(n)], START + entry).await;
        stamp.now.store(START + cosigned, Ordering::SeqCst);
        let at = UnixTime(START + cosigned);
        sequencer.sequence(&store, at).await.unwrap();
    }
    let files = kit::exported(&store, &sequencer.public(), &stamp, &witness).await;
    let key = files.key();
    (files, key)
}

#[tokio::test]
async fn back_dated_entries_and_jumps_of_the_clock_are_found_by_the_witnesses_time() {
    type Case = (&'static [(i64, i64)], Option<u64>);
    let cases: [Case; 4] = [
        (&[(0, 10), (5000, 5010), (5001, 5020)], None),
        // From before a checkpoint that didn't have it.
        (&[(0, 10), (5000, 5010), (20, 5020)], Some(2)),
        // From the future.
        (&[(0, 10), (9000, 5010)], Some(1)),
        (&[(9000, 10)], Some(0)),
    ];
    for (rounds, bad) in cases {
        let (files, key) = timed(rounds).await;
        let dir = TempDir::new().unwrap();
        files.write(dir.path());
        let cosigners = [files.cosigner.as_str()];
        let known = Known {
            key: &key,
            cosigners: &cosigners,
            ..Known::default()
        };
        let report = verify(dir.path(), known).unwrap();
        let found = report.first_bad.map(|b| (b.seq.unwrap(), b.reason));
        assert_eq!(
            found,
            bad.map(|seq| (seq, Reason::TimeDiffers)),
            "{rounds:?}"
        );
    }
}

/// One way to alter an export.
#[derive(Debug, Clone)]
enum Change {
    EditByte { file: Index, at: Index, to: u8 },
    DropByte { file: Index, at: Index },
    AddByte { file: Index, at: Index, byte: u8 },
    DeleteFile(Index),
    Delete(Index),
    Repeat(Index),
    Swap(Index, Index),
    Truncate(Index),
    CutOff,
    Forge(Index),
    DeleteNote(Index),
    SwapNotes(Index, Index),
    Uncosign(Index),
}

fn change() -> impl Strategy<Value = Change> {
    let index = any::<Index>;
    prop_oneof![
        6 => (index(), index(), any::<u8>()).prop_map(|(file, at, to)| Change::EditByte { file, at, to }),
        3 => (index(), index()).prop_map(|(file, at)| Change::DropByte { file, at }),
        3 => (index(), index(), prop_oneof![Just(b' '), Just(b'\n'), any::<u8>()])
            .prop_map(|(file, at, byte)| Change::AddByte { file, at, byte }),
        1 => index().prop_map(Change::DeleteFile),
        1 => index().prop_map(Change::Delete),
        1 => index().prop_map(Change::Repeat),
        1 => (index(), index()).prop_map(|(a, b)| Change::Swap(a, b)),
        1 => index().prop_map(Change::Truncate),
        1 => Just(Change::CutOff),
        1 => index().prop_map(Change::Forge),
        1 => index().prop_map(Change::DeleteNote),
        1 => (index(), index()).prop_map(|(a, b)| Change::SwapNotes(a, b)),
        1 => index().prop_map(Change::Uncosign),
    ]
}

impl Change {
    fn apply(&self, [files, short]: &[Files; 2]) -> Files {
        let names: Vec<&String> = files.export.keys().collect();
        let splice = |file: &Index, at: &Index, cut: usize, put: &[u8]| {
            let name = names[file.index(names.len())];
            let mut bytes = files.export[name].clone();
            let at = at.index(bytes.len());
            bytes.splice(at..at + cut, put.iter().copied());
            files.with(name, bytes)
        };
        let entries = |seq: &Index, change: &dyn Fn(&mut Vec<Vec<u8>>, usize)| {
            let seq = seq.index(ENTRIES);
            let name = place("entries", seq);
            let mut entries = files.bundle(&name);
            change(&mut entries, seq % 256);
            files.with_bundle(&name, &entries)
        };
        let notes = |change: &dyn Fn(&mut Vec<String>)| {
            let mut notes = files.notes();
            change(&mut notes);
            files.with("checkpoints.txt", notes.concat())
        };
        match self {
            Self::EditByte { file, at, to } => splice(file, at, 1, &[*to]),
            Self::DropByte { file, at } => splice(file, at, 1, &[]),
            Self::AddByte { file, at, byte } => splice(file, at, 0, &[*byte]),
            Self::DeleteFile(file) => {
                let tiles: Vec<_> = names.iter().filter(|n| n.starts_with("tile/")).collect();
                let mut less = files.clone();
                less.export.remove(*tiles[file.index(tiles.len())]);
                less
            }
            Self::Delete(seq) => entries(seq, &|e, at| drop(e.remove(at))),
            Self::Repeat(seq) => entries(seq, &|e, at| e.insert(at, e[at].clone())),
            Self::Swap(a, b) => entries(a, &|e, at| {
                let other = b.index(e.len());
                e.swap(at, other);
            }),
            Self::Truncate(seq) => entries(seq, &|e, at| e.truncate(at)),
            Self::CutOff => Files {
                export: short.export.clone(),
                ..files.clone()
            },
            Self::Forge(seq) => files.forged(seq.index(ENTRIES), "success", "failure"),
            Self::DeleteNote(at) => notes(&|n| drop(n.remove(at.index(CHECKPOINTS.len())))),
            Self::SwapNotes(a, b) => {
                notes(&|n| n.swap(a.index(CHECKPOINTS.len()), b.index(CHECKPOINTS.len())))
            }
            // Somebody else's signature in the witness's name.
            Self::Uncosign(at) => notes(&|n| {
                let from = n[(at.index(CHECKPOINTS.len()) + 1) % CHECKPOINTS.len()].clone();
                let line = from.lines().nth(5).unwrap_or_default().to_owned();
                let note = &mut n[at.index(CHECKPOINTS.len())];
                let own = note.lines().nth(5).unwrap_or_default().to_owned();
                *note = note.replace(&own, &line);
            }),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    // shows: I-7.1.4.3-no-unauthorised-deletion, I-7.1.4.8-audit-integrity
    #[test]
    fn every_edit_deletion_reordering_and_truncation_is_found(change in change()) {
        let altered = change.apply(intact());
        prop_assume!(altered != intact()[0]);
        // A witness's signature that isn't there says nothing of the log.
        let uncosign = matches!(change, Change::Uncosign(_));
        prop_assume!(uncosign || altered.without_cosignatures() != intact()[0].without_cosignatures());
        let report = altered.verify();
        prop_assert!(!report.ok, "{change:?}");
        prop_assert!(report.first_bad.is_some());
    }
}
