//! Backups of a whole service: made while it runs, opened by others' tools, judged, refused when they aren't what they should
//! be, and restored into a service that signs on.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use ::backup::Identity;
use core_types::random::SystemRandom;
use core_types::{Clock as _, KeyAlg, clock::SystemClock};
use jose::SigningKey;
use natsuin::agent::Agent;
use natsuin::sample;
use natsuin::stack::{Options, Stack, StoreChoice};
use sam_core::backups::BackupReport;
use serde_json::Value;
use store_kit::{Store, StoreError, StoreUrl, sql, transaction};

use crate::bad_input::Ahead;
use crate::kit::{Story, cramped, entries, natsuin, private, run, text};
use crate::site::first_port;

/// What an operator has on the desk.
struct Desk {
    dir: PathBuf,
    store: StoreChoice,
    clock: Arc<Ahead>,
}

impl Desk {
    fn new(dir: &Path, store: StoreChoice, clock: Arc<Ahead>) -> Self {
        let desk = Self {
            dir: dir.to_owned(),
            store,
            clock,
        };
        for name in ["signer", "other", "operator", "officer"] {
            let (key, pkcs8) = SigningKey::generate().unwrap();
            fs::write(desk.at(&format!("{name}.key")), pkcs8.expose()).unwrap();
            let public = serde_json::to_vec(key.public()).unwrap();
            fs::write(desk.at(&format!("{name}.jwk")), public).unwrap();
        }
        fs::create_dir(desk.at("reports")).unwrap();
        for name in ["mine", "theirs"] {
            let identity = Identity::generate();
            fs::write(desk.at(name), identity.text().expose()).unwrap();
            fs::write(
                desk.at(&format!("{name}.pub")),
                identity.recipient().to_string(),
            )
            .unwrap();
        }
        desk
    }

    /// The name of the backup in a report for the console.
    fn reported(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.at("reports").join(name)).ok()?;
        Some(BackupReport::parse(&text).unwrap().backup.to_string())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn data(&self) -> PathBuf {
        self.at("data")
    }

    /// Runs `natsuin backup`, and gives its exit code and object. Words that begin with `@` are files on the desk.
    fn backup(&self, words: &str, stores: bool) -> (i32, Value) {
        self.with(natsuin(), words, stores)
    }

    fn with(&self, mut command: Command, words: &str, stores: bool) -> (i32, Value) {
        command.args(["backup", "--json"]);
        for word in words.split(' ') {
            match word.strip_prefix('@') {
                Some(name) => command.arg(self.at(name)),
                None => command.arg(word),
            };
        }
        if stores {
            command.arg("--data").arg(self.data());
            if let StoreChoice::Postgres(url) = &self.store {
                command.args(["--store", url]);
            }
        }
        let said = run(&mut command);
        let value =
            serde_json::from_slice(&said.stdout).unwrap_or_else(|_| panic!("{}", text(&said)));
        (said.status.code().unwrap(), value)
    }

    fn create(&self, to: &str, key: &str, recipients: &[&str]) -> (i32, Value) {
        self.create_by(natsuin(), to, key, recipients)
    }

    fn create_by(&self, by: Command, to: &str, key: &str, recipients: &[&str]) -> (i32, Value) {
        let recipients: Vec<_> = recipients
            .iter()
            .map(|r| format!(" --recipient {r}"))
            .collect();
        let to = match to.starts_with('/') {
            true => to.to_owned(),
            false => format!("@{to}"),
        };
        let words = format!(
            "create --to {to} --report @reports --key @{key}.key --operator @operator.jwk --officer @officer.jwk{}",
            recipients.join("")
        );
        self.with(by, &words, true)
    }

    fn verify(&self, file: &str, with: &str) -> (i32, Value) {
        let words = format!(
            "verify @{file} {with} --report @reports --key @signer.jwk --keys @data/witness --witness @data/witness"
        );
        self.backup(&words, false)
    }

    fn approve(&self, office: &str, backup: &str, target: &str, to: &str) {
        let exp = SystemClock.now().0 + 3600;
        let words = format!(
            "approve --key @{office}.key --office {office} --backup {backup} --target {target} --reason outage --exp {exp}"
        );
        let (code, said) = self.backup(&words, false);
        assert_eq!(code, 0, "{said}");
        fs::write(self.at(to), said["approval"].as_str().unwrap()).unwrap();
    }

    fn restore(&self, file: &str, more: &str) -> (i32, Value) {
        let words = format!(
            "restore @{file} --identity @mine --key @signer.jwk --keys @data/witness --witness @data/witness --operator @operator.jwk --officer @officer.jwk {more}"
        );
        self.backup(&words, true)
    }

    /// The stores of SAM and SSA are gone; the module is another machine.
    async fn lose(&self) {
        let StoreChoice::Postgres(url) = &self.store else {
            for zone in ["sam", "ssa"] {
                for end in ["", "-wal", "-shm", ".lock"] {
                    let _ = fs::remove_file(self.data().join(format!("{zone}/{zone}.db{end}")));
                }
            }
            return;
        };
        let url = StoreUrl::parse(url).unwrap();
        let store = Store::open(&url, "cm", cm_core::MIGRATIONS, &SystemRandom);
        let store = store.await.unwrap();
        let gone: Result<(), StoreError> = transaction!(store, "lose", |tx| {
            tx.execute(sql("DROP SCHEMA sam CASCADE")).await?;
            tx.execute(sql("DROP SCHEMA ssa CASCADE")).await?;
            Ok(())
        });
        gone.unwrap();
        store.close().await;
    }

    /// Does something to the SSA's store, which lies in a file.
    async fn ssa(&self, what: &'static str) {
        let url = StoreUrl::Sqlite(self.data().join("ssa/ssa.db"));
        let store = Store::open(&url, "ssa", ssa_service::MIGRATIONS, &SystemRandom);
        let store = store.await.unwrap();
        let done: Result<(), StoreError> = transaction!(store, "meddle", |tx| {
            tx.execute(sql(what)).await?;
            Ok(())
        });
        done.unwrap();
        store.close().await;
    }

    async fn start(&self) -> Result<Stack, String> {
        let public = |name: &str| {
            let text = fs::read(self.at(&format!("{name}.jwk"))).unwrap();
            vec![serde_json::from_slice(&text).unwrap()]
        };
        let options = Options {
            port: first_port(&self.data()),
            store: self.store.clone(),
            load: true,
            restorers: audit_log::Restorers {
                backups: public("signer"),
                operators: public("operator"),
                officers: public("officer"),
            },
            ..Options::new(self.data())
        };
        self.clock.advance(120);
        let started = Stack::start_at(&options, self.clock.clone(), &|_| {}).await;
        started.map_err(|trouble| trouble.what)
    }
}

// shows: I-7.1.7.1-backup-integrity, I-7.1.7.1-backup-confidentiality, I-7.1.7.2-restore-state,
// I-7.1.7.2-privileged-restore,
// I-7.1.1.2-system-operator
#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_backed_up_while_it_runs_and_comes_back_from_it() {
    let StoreUrl::Postgres(url) = store_kit::testing::postgres_database().await else {
        panic!("a PostgreSQL database was asked for");
    };
    for store in [
        StoreChoice::Embedded,
        StoreChoice::Postgres(url.to_string()),
    ] {
        let clock = Arc::new(Ahead::default());
        let mut story = Story::at(KeyAlg::P256, store.clone(), false, clock.clone()).await;
        let desk = Desk::new(story.dir.path(), store, clock);
        let (code, dealt) = desk.backup("recipient --out @shares --need 2 --of 3", false);
        assert_eq!(code, 0, "{dealt}");
        let mine = fs::read_to_string(desk.at("mine.pub")).unwrap();
        let theirs = fs::read_to_string(desk.at("theirs.pub")).unwrap();
        let together = dealt["recipient"].as_str().unwrap();

        // While it runs; then it goes on.
        let (code, old) = desk.create_by(private(), "old", "signer", &[&mine, together]);
        assert_eq!(code, 0, "{old}");
        let mode = |name: &str| fs::metadata(desk.at(name)).unwrap().permissions().mode();
        assert_eq!(mode("old") & 0o777, 0o600);
        assert_eq!(mode("reports/made.json") & 0o777, 0o644, "the SAM reads it");
        let input = desk.at("契約書.pdf");
        fs::write(&input, sample::contract().unwrap()).unwrap();
        story.sign(&input, "signed.pdf").await.unwrap();
        let (signer, mut device) = (story.signer.clone(), story.device);
        story.stack.stop().await;

        let (code, told) = desk.verify(
            "old",
            "--share @shares/share-1.txt --share @shares/share-3.txt",
        );
        assert_eq!((code, &told["name"]), (0, &old["name"]), "{told}");
        let sam = told["zones"]
            .as_array()
            .unwrap()
            .iter()
            .find(|z| z["zone"] == "sam");
        assert_eq!(sam.unwrap()["older"], true, "{told}");
        assert_eq!(
            desk.reported("verified.json").as_deref(),
            old["name"].as_str()
        );
        let (code, made) = desk.create("new", "signer", &[&mine]);
        assert_eq!(code, 0, "{made}");
        assert_eq!(desk.reported("made.json").as_deref(), made["name"].as_str());
        let (code, told) = desk.verify("new", "--identity @mine");
        assert_eq!(code, 0, "{told}");
        for zone in told["zones"].as_array().unwrap() {
            assert_eq!(zone["older"], false, "{told}");
        }
        assert_eq!(
            desk.create("new", "signer", &[&mine]).0,
            6,
            "nothing is overwritten"
        );

        // A witness's file that was emptied vouches for nothing.
        let file = desk.data().join("witness/sam.txt");
        let whole = fs::read_to_string(&file).unwrap();
        fs::write(&file, "").unwrap();
        let (code, told) = desk.verify("new", "--identity @mine");
        let zones = told["zones"].as_array().unwrap();
        let sam = zones.iter().find(|z| z["zone"] == "sam").unwrap();
        assert_eq!((code, &sam["older"]), (0, &Value::Null), "{told}");
        fs::write(&file, whole).unwrap();

        // A disk without room, and one that can't be written, hold nothing that looks like a backup.
        let (code, told) = desk.create_by(cramped(64), "cramped", "signer", &[&mine]);
        assert_eq!((code, &told["code"]), (6, &Value::from("backup")), "{told}");
        assert!(!desk.at("cramped").exists());
        let (code, told) = desk.create("/sys/backup", "signer", &[&mine]);
        assert_eq!((code, &told["code"]), (6, &Value::from("backup")), "{told}");

        // What a zone can't be told of stays, as others have word of it; and that is said.
        let mut good = made["name"].clone();
        if desk.store == StoreChoice::Embedded {
            desk.ssa("CREATE TRIGGER mute BEFORE INSERT ON store_meta WHEN NEW.key LIKE 'dumped:%' BEGIN SELECT RAISE(ABORT, 'no'); END")
                .await;
            let (code, told) = desk.create("untold", "signer", &[&mine]);
            assert_eq!(code, 8, "{told}");
            assert_eq!(told["untold"], serde_json::json!(["ssa"]), "{told}");
            assert_eq!(desk.reported("made.json").as_deref(), told["name"].as_str());
            desk.ssa("DROP TRIGGER mute").await;
            let (code, told) = desk.verify("untold", "--identity @mine");
            assert_eq!(code, 0, "{told}");
            good = told["name"].clone();
        }

        // Whoever has the key of the daily backups can name whom they like.
        let words = format!(
            "create --to @own --key @signer.key --operator @other.jwk --officer @officer.jwk --recipient {mine}"
        );
        let (code, own) = desk.backup(&words, true);
        assert_eq!(code, 0, "{own}");

        // Nothing that opens what is in it goes in.
        let (etc, root) = (desk.at("etc"), desk.data().join("cm/root.key"));
        fs::create_dir(&etc).unwrap();
        fs::copy(&root, etc.join("copy")).unwrap();
        fs::write(etc.join("cm.toml"), format!("root_secret = {root:?}\n")).unwrap();
        for secret in ["@etc", "@etc/cm.toml --file @etc/copy"] {
            let words = format!(
                "create --to @secret --key @signer.key --operator @operator.jwk --officer @officer.jwk --recipient {mine} --file {secret}"
            );
            let (code, told) = desk.backup(&words, true);
            assert_eq!(
                (code, &told["code"]),
                (6, &Value::from("backup-secret")),
                "{told}"
            );
            assert!(!desk.at("secret").exists());
        }

        // Other people's tools open it, and the root secret isn't in it.
        let said = run(Command::new("age")
            .arg("-d")
            .arg("-i")
            .arg(desk.at("mine"))
            .arg("-o")
            .arg(desk.at("tar"))
            .arg(desk.at("new")));
        assert!(said.status.success(), "{}", text(&said));
        let said = run(Command::new("tar").arg("-tf").arg(desk.at("tar")));
        assert!(
            text(&said).contains("sam/signing_key/000001.jsonl"),
            "{}",
            text(&said)
        );
        let plain = fs::read(desk.at("tar")).unwrap();
        let root = fs::read(desk.data().join("cm/root.key")).unwrap();
        assert!(!plain.windows(root.len()).any(|w| w == root));

        // Damaged, cut off, of others, by others.
        let whole = fs::read(desk.at("new")).unwrap();
        for at in [100, whole.len() / 2, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(desk.at("bad"), &bytes).unwrap();
            let (code, told) = desk.verify("bad", "--identity @mine");
            assert_eq!(code, 1, "{at}: {told}");
            fs::write(desk.at("bad"), &whole[..at]).unwrap();
            let (code, told) = desk.verify("bad", "--identity @mine");
            assert_eq!(code, 1, "cut at {at}: {told}");
        }
        // What isn't good isn't reported as tried.
        assert_eq!(desk.reported("verified.json").as_deref(), good.as_str());
        assert_eq!(desk.create("foreign", "signer", &[&theirs]).0, 0);
        let (code, told) = desk.verify("foreign", "--identity @mine");
        assert_eq!(code, 1, "{told}");
        assert!(
            told["bad"].as_str().unwrap().contains("other recipients"),
            "{told}"
        );
        assert_eq!(desk.create("strange", "other", &[&mine]).0, 0);
        let (code, told) = desk.verify("strange", "--identity @mine");
        assert_eq!(code, 1, "{told}");
        assert!(told["bad"].as_str().unwrap().contains("signed"), "{told}");

        // A store in use, or with rows, takes none.
        desk.lose().await;
        let (code, target) = desk.backup("target", true);
        assert_eq!(code, 0, "{target}");
        let target = target["target"].as_str().unwrap();
        let named = target.to_owned();
        let (old, new) = (
            old["name"].as_str().unwrap(),
            made["name"].as_str().unwrap(),
        );
        desk.approve("operator", new, target, "yes-1");
        desk.approve("officer", new, target, "yes-2");
        desk.approve("officer", old, target, "yes-old");
        for too_few in [
            "--approval @yes-1",
            "--approval @yes-2",
            "--approval @yes-1 --approval @yes-old",
        ] {
            let (code, told) = desk.restore("new", too_few);
            assert_eq!(
                (code, &told["code"]),
                (1, &Value::from("backup-refused")),
                "{told}"
            );
        }
        let (code, told) = desk.restore("old", "--approval @yes-1 --approval @yes-old");
        assert!(
            code == 1 && told["what"].as_str().unwrap().contains("older"),
            "{told}"
        );
        let own = own["name"].as_str().unwrap();
        desk.approve("operator", own, target, "yes-own-1");
        desk.approve("officer", own, target, "yes-own-2");
        let (code, told) = desk.restore("own", "--approval @yes-own-1 --approval @yes-own-2");
        assert!(
            code == 1 && told["what"].as_str().unwrap().contains("names other"),
            "{told}"
        );
        let both = "--approval @yes-1 --approval @yes-2 --files @files";
        let file = desk.data().join("witness/sam.txt");
        let whole = fs::read(&file).unwrap();
        fs::write(&file, "").unwrap();
        let (code, told) = desk.restore("new", both);
        assert!(
            code == 1 && told["what"].as_str().unwrap().contains("nobody knows"),
            "{told}"
        );
        fs::write(&file, whole).unwrap();
        assert_eq!(desk.restore("bad", both).0, 1);
        let (code, told) = desk.restore("new", both);
        assert_eq!(code, 0, "{told}");
        let kept = desk.at("files/files/data/root.jwk");
        assert_eq!(
            fs::read(kept).unwrap(),
            fs::read(desk.data().join("root.jwk")).unwrap()
        );
        let (code, told) = desk.restore("new", both);
        assert_eq!(code, 1, "approved once: {told}");

        let stack = desk.start().await.unwrap();
        let (mut agent, signed) = (Agent::new(&stack), desk.at("again.pdf"));
        natsuin::demo::sign(&stack, &mut agent, &signer, &mut device, &input, &signed)
            .await
            .unwrap();
        stack.stop().await;
        let mut verify = natsuin();
        verify.args(["audit", "export", "--data"]).arg(desk.data());
        if let StoreChoice::Postgres(url) = &desk.store {
            verify.args(["--store", url]);
        }
        let said = run(verify.arg("--out").arg(desk.at("export")));
        assert!(said.status.success(), "{}", text(&said));
        let mut verify = natsuin();
        verify.args(["audit", "verify"]).arg(desk.at("export"));
        verify.arg("--witness").arg(desk.data().join("witness"));
        let said = run(verify.arg("--keys").arg(desk.data().join("witness")));
        assert!(said.status.success(), "{}", text(&said));

        for zone in ["sam", "ssa"] {
            let all = entries(&desk.at("export"), zone);
            let restored: Vec<_> = all
                .iter()
                .filter(|e| e["kind"] == "service.restored")
                .collect();
            assert_eq!(restored.len(), 1, "{zone}");
            assert_eq!(restored[0]["detail"]["backup"], new, "{zone}");
            assert_eq!(restored[0]["detail"]["target"], named, "{zone}");
        }

        // Each backup is told of in the log of the zone it was made of, whether that ran or not.
        let all = entries(&desk.at("export"), "cm");
        let told = all.iter().filter(|e| e["kind"] == "service.backed-up");
        let told: Vec<_> = told
            .map(|e| e["detail"]["backup"].as_str().unwrap())
            .collect();
        assert!(told.contains(&old) && told.contains(&new), "{told:?}");

        // What is older than its anchor is told before, and doesn't start after.
        desk.lose().await;
        let (_, target) = desk.backup("target", true);
        let target = target["target"].as_str().unwrap();
        desk.approve("operator", old, target, "yes-1");
        desk.approve("officer", old, target, "yes-2");
        let (code, told) = desk.restore("old", "--approval @yes-1 --approval @yes-2 --older");
        assert_eq!(code, 0, "{told}");
        let refused = desk.start().await.err().unwrap();
        assert!(refused.contains("audit log of sam"), "{refused}");
    }
}
