//! Deletion after archiving by its public door: archive, approvals and live log of the real writer, and attacks on each.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod kit;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use audit_archive::{Archive, NotDeleted, Order, delete};
use audit_log::{DeletionError, export};
use audit_verify::{Known, Reason, Report, verify};
use core_types::UnixTime;
use serde_json::json;
use store_kit::testing;
use store_kit::{StoreError, sql, transaction};

use kit::{Live, NOW, OLD, Taken, log_key};

/// A directory of archives and exports.
struct Medium {
    dir: tempfile::TempDir,
    key: jose::SigningKey,
}

impl Medium {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            key: jose::SigningKey::generate().unwrap().0,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn export(&self, live: &Live, name: &str) -> PathBuf {
        let to = self.at(name);
        let public = live.sequencer.public();
        export(&live.store, &to.join("sam"), &public).await.unwrap();
        to
    }

    async fn archive(&self, live: &Live, name: &str) -> Archive {
        let from = self.export(live, &format!("{name}-export")).await;
        let entries = [("sam".to_owned(), live.size().await)].into();
        // Each at another time, and so with another name.
        let at = NOW.plus(i64::try_from(name.len()).unwrap());
        Archive::write(&from, &self.at(name), entries, &self.key, at).unwrap();
        Archive::open(&self.at(name), self.key.public()).unwrap()
    }
}

/// What a deletion is tried with.
struct Try<'t> {
    medium: &'t Medium,
    archive: &'t str,
    taken: &'t Taken,
    zone: &'static str,
    keep_days: u32,
    now: UnixTime,
}

impl<'t> Try<'t> {
    fn of(medium: &'t Medium, archive: &'t str, taken: &'t Taken) -> Self {
        Self {
            medium,
            archive,
            taken,
            zone: "sam",
            keep_days: 0,
            now: NOW,
        }
    }

    async fn at(&self, live: &Live) -> Result<audit_log::Deleted, NotDeleted> {
        let dir = self.medium.at(self.archive);
        let text = self.taken.text();
        let order = Order {
            zone: self.zone,
            archive: &dir,
            archive_key: self.medium.key.public(),
            taken: text.as_bytes(),
            root: &self.taken.root,
            keep_days: self.keep_days,
        };
        delete(order, &live.sequencer, &live.store, &mut (), self.now).await
    }
}

fn check(export: &Path, archives: &[&Path]) -> Report {
    let archives: Vec<PathBuf> = archives
        .iter()
        .map(|dir| Archive::logs(dir).join("sam"))
        .collect();
    let archives: Vec<&Path> = archives.iter().map(PathBuf::as_path).collect();
    let key = log_key().public();
    let known = Known {
        key: &key,
        zone: Some("sam"),
        archives: &archives,
        ..Known::default()
    };
    verify(&export.join("sam"), known).unwrap()
}

// shows: I-7.1.4.3-delete-after-archive, I-7.1.4.8-audit-integrity-verifier
#[tokio::test]
async fn what_two_officers_let_go_is_in_the_archive_and_both_are_checked_together() {
    for store in testing::both(&[audit_log::TABLES]).await {
        let mut live = Live::begin(store, 700).await;
        let medium = Medium::new();
        let archive = medium.archive(&live, "one").await;
        let taken = Taken::of("sam", archive.name(), 512);
        let done = Try::of(&medium, "one", &taken).at(&live).await.unwrap();
        assert_eq!((done.from, done.size), (0, 512));

        // Alone the export says what is missing and where it is; with the archive everything was read.
        let out = medium.export(&live, "after").await;
        let alone = check(&out, &[]);
        assert!(alone.ok, "{:?}", alone.first_bad);
        assert_eq!(alone.entries, 701);
        let part = &alone.archived[0];
        let name = archive.name().to_string();
        assert_eq!((part.from, part.size, part.read), (0, 512, false));
        assert_eq!((&part.archive, &part.proposal), (&name, &taken.proposal()));
        let both = check(&out, &[&medium.at("one")]);
        assert!(both.ok && both.archived[0].read, "{:?}", both.first_bad);

        // Twice is once.
        let again = Try::of(&medium, "one", &taken).at(&live).await;
        assert!(
            matches!(again, Err(NotDeleted::Live(DeletionError::Done(512)))),
            "{again:?}"
        );

        // The next archive has what follows, and the one before is still told of.
        live.write(700, OLD).await;
        let archive = medium.archive(&live, "two").await;
        // Late enough that the entry of the first deletion goes too.
        let later = NOW.plus(60 * 86_400);
        let taken = Taken::at(later, "sam", archive.name(), 1_280, &["o1", "o2"], "o3");
        let second = Try {
            now: later,
            ..Try::of(&medium, "two", &taken)
        };
        let done = second.at(&live).await.unwrap();
        assert_eq!((done.from, done.size), (512, 1_280));
        let out = medium.export(&live, "later").await;
        let alone = check(&out, &[]);
        assert!(alone.ok, "{:?}", alone.first_bad);
        let read = |report: &Report| report.archived.iter().map(|p| p.read).collect::<Vec<_>>();
        assert_eq!(read(&alone), [false, false]);
        let second = check(&out, &[&medium.at("two")]);
        assert!(second.ok, "{:?}", second.first_bad);
        assert_eq!(read(&second), [false, true]);
        let all = check(&out, &[&medium.at("one"), &medium.at("two")]);
        assert!(all.ok, "{:?}", all.first_bad);
        assert_eq!(read(&all), [true, true]);
    }
}

// shows: I-7.1.4.3-delete-after-archive, III-A1.4.2-dual-control
#[tokio::test]
async fn nothing_is_deleted_but_by_two_officers_for_this_archive_zone_and_range() {
    let live = Live::begin(testing::sqlite(&[audit_log::TABLES]).await, 600).await;
    let medium = Medium::new();
    let archive = medium.archive(&live, "one").await;
    let other = medium.archive(&live, "other").await;
    assert_ne!(archive.name(), other.name(), "made at another time");
    let good = Taken::of("sam", archive.name(), 512);
    let refused = async |this: Try<'_>, why: &str| {
        let error = this.at(&live).await.unwrap_err();
        assert!(error.to_string().contains(why), "{why}: {error}");
        assert_eq!(live.rows().await, 600, "{why}");
    };
    let with = |taken| Try::of(&medium, "one", taken);

    let mut nobody = good.clone();
    nobody.approvals.clear();
    refused(with(&nobody), "aren't those of the warrant").await;
    let mut none = good.clone();
    none.approvals.clear();
    none.sign(|w| {
        w["evidence"] = json!([]);
        w["officers"] = json!([]);
    });
    refused(with(&none), "two officers").await;
    let one = Taken::by("sam", archive.name(), 512, &["o1"], "o9");
    refused(with(&one), "two officers").await;
    let twice = Taken::by("sam", archive.name(), 512, &["o1", "o1"], "o9");
    refused(with(&twice), "two officers").await;
    let asked = Taken::by("sam", archive.name(), 512, &["o1", "o2"], "o2");
    refused(with(&asked), "who asked").await;

    // For something else.
    let zone = Taken::of("cm", archive.name(), 512);
    refused(with(&zone), "another zone").await;
    let another = Try {
        zone: "cm",
        ..with(&good)
    };
    refused(another, "another zone").await;
    let archived = Taken::of("sam", other.name(), 512);
    refused(with(&archived), "another archive").await;
    let mut range = good.clone();
    range.document = range.document.replace("512", "256");
    refused(with(&range), "something else was approved").await;
    let mut measure = good.clone();
    measure.document = measure.document.replace("delete-archived", "dismiss");
    measure.sign_document();
    refused(with(&measure), "isn't a deletion").await;
    let mut swapped = Taken::of("sam", other.name(), 512);
    swapped.document = good.document.clone();
    swapped.sign_document();
    refused(with(&swapped), "an approval is of something else").await;

    // By somebody else's keys, or without a signature.
    let mut stranger = good.clone();
    stranger.root = Taken::of("sam", archive.name(), 512).root;
    refused(with(&stranger), "isn't by the root key").await;
    let mut forged = good.clone();
    forged.warrant = Taken::of("sam", archive.name(), 512).warrant;
    refused(with(&forged), "isn't by the SAM").await;
    let mut unproved = good.clone();
    unproved.approvals[1] = unproved.approvals[1].replace("\"sig\":\"", "\"sig\":\"AAAA");
    unproved.sign_evidence();
    refused(with(&unproved), "device key").await;

    // Too late, and too early.
    let late = Try {
        now: NOW.plus(2 * 86_400),
        ..with(&good)
    };
    refused(late, "").await;
    let young = Try {
        keep_days: 4_000,
        ..with(&good)
    };
    refused(young, "has to be kept longer").await;

    let done = Try::of(&medium, "one", &good).at(&live).await.unwrap();
    assert_eq!(done.size, 512);
}

// shows: I-7.1.4.3-delete-after-archive
#[tokio::test]
async fn no_setting_lets_young_entries_go() {
    let mut live = Live::begin(testing::sqlite(&[audit_log::TABLES]).await, 100).await;
    live.write(500, NOW.plus(-30 * 86_400)).await;
    let medium = Medium::new();
    let archive = medium.archive(&live, "one").await;
    let taken = Taken::of("sam", archive.name(), 256);
    let error = Try::of(&medium, "one", &taken).at(&live).await;
    assert!(
        matches!(error, Err(NotDeleted::Live(DeletionError::Recent(100)))),
        "{error:?}"
    );
}

/// Changes a file that was made read-only.
fn edit(path: &Path, change: impl Fn(&mut Vec<u8>)) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

// shows: I-7.1.4.3-delete-after-archive, I-7.1.5.2-archive-integrity-check
#[tokio::test]
async fn an_archive_that_is_not_what_was_signed_lets_nothing_go() {
    let live = Live::begin(testing::sqlite(&[audit_log::TABLES]).await, 600).await;
    let medium = Medium::new();
    let archive = medium.archive(&live, "one").await;
    let taken = Taken::of("sam", archive.name(), 512);
    let dir = medium.at("one");
    for name in [
        "log/sam/tile/entries/000",
        "log/sam/tile/0/001",
        "log/sam/checkpoint",
        "archive.json",
        "archive.sig",
    ] {
        let path = dir.join(name);
        let kept = fs::read(&path).unwrap();
        edit(&path, |bytes| {
            let at = bytes.len() / 2;
            bytes[at] ^= 1;
        });
        let error = Try::of(&medium, "one", &taken).at(&live).await;
        assert!(matches!(error, Err(NotDeleted::Archive(_))), "{name}");
        edit(&path, |bytes| bytes.clone_from(&kept));
    }
    // Not yet whole: the signature comes last.
    let signature = dir.join("archive.sig");
    fs::rename(&signature, medium.at("sig")).unwrap();
    let error = Try::of(&medium, "one", &taken).at(&live).await;
    assert!(matches!(error, Err(NotDeleted::Archive(_))), "{error:?}");
    fs::rename(medium.at("sig"), &signature).unwrap();

    // Signed, but of a log that nobody wrote; and of another that somebody did.
    let from = medium.export(&live, "forged-export").await;
    edit(&from.join("sam/tile/entries/000"), |bytes| {
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
    });
    let entries: std::collections::BTreeMap<_, _> = [("sam".to_owned(), 600)].into();
    let to = medium.at("forged");
    Archive::write(&from, &to, entries.clone(), &medium.key, NOW).unwrap();
    let forged = Archive::open(&to, medium.key.public()).unwrap();
    let taken = Taken::of("sam", forged.name(), 512);
    let error = Try::of(&medium, "forged", &taken).at(&live).await;
    assert!(matches!(error, Err(NotDeleted::Log(_))), "{error:?}");

    let elsewhere = Live::begin(testing::sqlite(&[audit_log::TABLES]).await, 601).await;
    let foreign = medium.archive(&elsewhere, "foreign").await;
    let taken = Taken::of("sam", foreign.name(), 512);
    let error = Try::of(&medium, "foreign", &taken).at(&live).await;
    assert!(
        matches!(error, Err(NotDeleted::Live(DeletionError::NotArchived(0)))),
        "{error:?}"
    );
    // An archive that ends too early.
    let small = Live::begin(testing::sqlite(&[audit_log::TABLES]).await, 300).await;
    let early = medium.archive(&small, "early").await;
    let taken = Taken::of("sam", early.name(), 512);
    let error = Try::of(&medium, "early", &taken).at(&live).await;
    assert!(matches!(error, Err(NotDeleted::Short(300))), "{error:?}");
    assert_eq!(live.rows().await, 600);
}

// shows: I-7.1.4.8-audit-integrity-verifier, T-INS-OPERATOR
#[tokio::test]
async fn what_is_missing_without_the_logs_word_is_found() {
    let live = Live::begin(testing::sqlite(&[audit_log::TABLES]).await, 800).await;
    let medium = Medium::new();
    let archive = medium.archive(&live, "one").await;
    let taken = Taken::of("sam", archive.name(), 256);
    Try::of(&medium, "one", &taken).at(&live).await.unwrap();
    let found = |out: &Path| {
        let bad = check(out, &[]).first_bad.unwrap();
        assert!(!check(out, &[&medium.at("one")]).ok, "the archive has them");
        (bad.seq, bad.reason)
    };

    // The next bundle too, by the hands of somebody with the database.
    let out = medium.export(&live, "good").await;
    assert!(check(&out, &[]).ok);
    let bundle = out.join("sam/tile/entries/001");
    let kept = fs::read(&bundle).unwrap();
    fs::remove_file(&bundle).unwrap();
    assert_eq!(found(&out), (Some(256), Reason::Truncated));
    // With a claim that it was archived.
    let told = out.join("sam/archived.json");
    let list = fs::read_to_string(&told).unwrap();
    let mut ranges: Vec<serde_json::Value> = serde_json::from_str(&list).unwrap();
    let mut more = ranges[0].clone();
    more["from"] = 256.into();
    more["size"] = 512.into();
    ranges.push(more);
    fs::write(&told, serde_json::to_vec(&ranges).unwrap()).unwrap();
    assert_eq!(found(&out), (Some(256), Reason::NotDeleted));
    // The one claim, made wider, or of another archive.
    fs::write(&told, list.replacen("256", "512", 1)).unwrap();
    assert_eq!(found(&out), (Some(0), Reason::NotDeleted));
    fs::write(&bundle, kept).unwrap();
    let other = list.replacen("\"archive\": \"", "\"archive\": \"x", 1);
    fs::write(&told, other).unwrap();
    assert_eq!(found(&out), (Some(0), Reason::NotDeleted));
    fs::write(&told, "[]").unwrap();
    assert_eq!(found(&out), (Some(0), Reason::Truncated));
    fs::remove_file(&told).unwrap();
    assert_eq!(found(&out), (Some(0), Reason::Truncated));

    // In the database itself.
    let done: Result<_, StoreError> = transaction!(live.store, "tamper", |tx| {
        let gone = "DELETE FROM audit_entry WHERE seq >= 256 AND seq < 512";
        tx.execute(sql(gone)).await?;
        let tile = "INSERT INTO audit_tile SELECT 1, hashes FROM audit_tile WHERE n = 0";
        tx.execute(sql(tile)).await
    });
    done.unwrap();
    let out = medium.export(&live, "bad").await;
    let bad = check(&out, &[]);
    assert!(!bad.ok);
    assert_eq!(bad.first_bad.unwrap().seq, Some(256));
}
