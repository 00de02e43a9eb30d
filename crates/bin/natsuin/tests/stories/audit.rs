//! The audit log in an auditor's hands.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use audit_log::{AuditLog, LogKey, Sequencer, TABLES, Witnesses, export};
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::{Clock, KeyAlg, SecretBytes};
use serde_json::Value;
use service_kit::http::HttpOptions;
use store_kit::{StoreError, testing, transaction};

use crate::kit::{Story, natsuin, run, text};

/// Go's checker of transparency logs; see tests/go.
fn log_check() -> Command {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let built = || target.join("test-tools/go/log-check");
    let path = std::env::var_os("NATSUIN_LOG_CHECK").map_or_else(built, Into::into);
    assert!(
        path.exists(),
        "tests/go isn't built: `cargo xtask tools` builds what tests need"
    );
    Command::new(path)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_verified_by_somebody_elses_program_too() {
    let story = Story::begin(KeyAlg::P256).await;
    let data = story.dir.path().join("data");
    story.stack.stop().await;
    let out = story.dir.path().join("export");
    let said = run(natsuin()
        .args(["audit", "export", "--json", "--data"])
        .arg(&data)
        .arg("--out")
        .arg(&out));
    let counts: Value = serde_json::from_slice(&said.stdout).unwrap();
    for zone in ["cm", "sam", "ssa"] {
        let key = std::fs::read_to_string(data.join(format!("witness/{zone}.pub"))).unwrap();
        let check = || {
            let mut check = log_check();
            check.arg(out.join(zone)).arg(&key);
            check
        };
        let said = run(&mut check());
        let expected = format!("{}\n", counts["entries"][zone]);
        assert_eq!(
            String::from_utf8_lossy(&said.stdout),
            expected,
            "{}",
            text(&said)
        );
        // It is not one that says yes to everything.
        let bundles = out.join(zone).join("tile/entries");
        let bundle = std::fs::read_dir(bundles.join("000.p"))
            .map_or(bundles.join("000"), |mut d| {
                d.next().unwrap().unwrap().path()
            });
        let good = std::fs::read(&bundle).unwrap();
        let mut bent = good.clone();
        bent[40] ^= 1;
        std::fs::write(&bundle, bent).unwrap();
        assert!(!run(&mut check()).status.success());
        std::fs::write(&bundle, good).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_witness_is_a_program_of_its_own_and_its_signatures_count_everywhere() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let key = LogKey::from_seed("log.example/sam", &SecretBytes::new(vec![2; 32])).unwrap();
    std::fs::write(at("sam.pub"), key.public() + "\n").unwrap();
    std::fs::write(at("witness.key"), [3; 32]).unwrap();
    let config = format!(
        "listen = \"127.0.0.1:0\"\nname = \"witness.example\"\nkey = \"{}\"\ndata = \"{}\"\nlogs = [\"{}\"]\n",
        at("witness.key").display(),
        at("kept").display(),
        at("sam.pub").display()
    );
    std::fs::write(at("witness.toml"), &config).unwrap();
    let start = || {
        let mut command = natsuin();
        command
            .args(["audit", "witness", "--config"])
            .arg(at("witness.toml"));
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut next = || lines.next().unwrap().unwrap();
        (next(), format!("http://{}", next()), child)
    };
    let (public, url, mut child) = start();
    std::fs::write(at("witness.pub"), &public).unwrap();

    let store = testing::sqlite(&[TABLES]).await;
    let log = AuditLog::new(
        "sam",
        "a",
        SecretBytes::new(vec![1; 32]),
        std::sync::Arc::new(core_types::random::SystemRandom),
    );
    let now = SystemClock.now();
    let opened = Sequencer::open(log.clone(), key, None, &store)
        .await
        .unwrap();
    let watches = |url: &str| Witnesses {
        cosigners: vec![audit_service::reach(&public, url, &HttpOptions::default()).unwrap()],
        ..Witnesses::default()
    };
    let sequencer = opened.watched_by(watches(&url), &store, now).await.unwrap();
    let append = async || {
        let done: Result<_, StoreError> = transaction!(store.store, "test", |tx| {
            log.starts(tx, "1".into(), &[], &audit_log::Restorers::default(), now)
                .await
        });
        done.unwrap();
    };
    append().await;
    sequencer.sequence(&store, now).await.unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    // Another process at another address, with the same memory.
    let (_, url, mut child) = start();
    append().await;
    let key = LogKey::from_seed("log.example/sam", &SecretBytes::new(vec![2; 32])).unwrap();
    let opened = Sequencer::open(log.clone(), key, None, &store)
        .await
        .unwrap();
    let sequencer = opened.watched_by(watches(&url), &store, now).await.unwrap();
    let done = sequencer.sequence(&store, now).await.unwrap();
    child.kill().unwrap();
    child.wait().unwrap();

    let out = at("export");
    export(&store, &out, &sequencer.public()).await.unwrap();
    let known = audit_verify::Known {
        key: &sequencer.public(),
        cosigners: &[&public],
        ..audit_verify::Known::default()
    };
    let report = audit_verify::verify(&out, known).unwrap();
    assert!(report.ok, "{:?}", report.first_bad);
    assert_eq!(report.witnesses.agreeing, 1);
    let said = run(log_check().arg(&out).arg(sequencer.public()).arg(&public));
    let expected = format!("{}\n", done.size);
    assert_eq!(
        String::from_utf8_lossy(&said.stdout),
        expected,
        "{}",
        text(&said)
    );
}

#[test]
fn a_witness_without_tls_listens_on_this_machine_only() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = format!(
        "listen = \"0.0.0.0:{}\"\nname = \"w\"\nkey = \"k\"\ndata = \"d\"\nlogs = []\n",
        taken.local_addr().unwrap().port()
    );
    let file = dir.path().join("witness.toml");
    std::fs::write(&file, config).unwrap();
    let said = run(natsuin()
        .args(["audit", "witness", "--json", "--config"])
        .arg(&file));
    let error: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(
        (said.status.code(), error["code"].as_str()),
        (Some(4), Some("bad-config"))
    );
}

fn object(said: &std::process::Output) -> Value {
    serde_json::from_slice(&said.stdout).unwrap_or_else(|_| panic!("{}", text(said)))
}

// shows: I-A5-audit-log-needed
#[tokio::test(flavor = "multi_thread")]
async fn logs_are_searched_in_a_stopped_stack_and_in_an_export_in_words() {
    let story = Story::begin(KeyAlg::P256).await;
    let data = story.dir.path().join("data");
    let person = story.signer.person.clone();
    story.stack.stop().await;
    let search = |args: &[&str]| {
        let mut command = natsuin();
        command.args(["audit", "search"]).args(args);
        run(&mut command)
    };
    let at = data.display().to_string();
    let said = search(&[
        "--data", &at, "--json", "--person", &person, "--all", "--limit", "2",
    ]);
    let all = object(&said)["entries"].as_array().unwrap().clone();
    assert!(all.len() > 4, "{}", text(&said));
    assert!(all.iter().all(|e| e["person"] == *person));
    assert!(all.is_sorted_by_key(|e| e["entry"]["at"].as_i64().unwrap()));
    // The pages one by one are the same.
    let (mut paged, mut after) = (Vec::new(), None::<String>);
    loop {
        let mut args = vec!["--data", &at, "--json", "--person", &person, "--limit", "2"];
        if let Some(after) = &after {
            args.extend(["--after", after]);
        }
        let page = object(&search(&args));
        paged.extend(page["entries"].as_array().unwrap().clone());
        after = page["next"].as_str().map(str::to_owned);
        if after.is_none() {
            break;
        }
    }
    assert_eq!(paged, all);
    let words = search(&["--data", &at, "--lang", "ja", "--type", "person.enrolled"]);
    let words = String::from_utf8(words.stdout).unwrap();
    assert!(
        words.contains(&format!("\u{2068}{person}\u{2069}をパスキーで登録した。")),
        "{words}"
    );

    let out = story.dir.path().join("export").display().to_string();
    run(natsuin().args(["audit", "export", "--data", &at, "--out", &out]));
    let alias = all[0]["entry"]["detail"].as_object().unwrap();
    let alias = ["person", "owner", "account"]
        .iter()
        .find_map(|m| alias.get(*m)?.as_str());
    let zone = all[0]["zone"].as_str().unwrap();
    let args = [
        "--export",
        &out,
        "--zone",
        zone,
        "--person",
        alias.unwrap(),
        "--format",
        "csv",
    ];
    let said = search(&args);
    let lines = String::from_utf8(said.stdout.clone()).unwrap();
    let expected = all.iter().filter(|e| e["zone"] == zone).count();
    assert_eq!(lines.lines().count(), 1 + expected, "{}", text(&said));
    assert!(said.status.success() && lines.starts_with("zone,place,"));
    let bad = search(&["--export", &out, "--type", "key.none"]);
    assert_eq!(bad.status.code(), Some(6), "{}", text(&bad));
}

// shows: I-7.1.4.6-deny-by-default,
// I-7.1.1.2-system-auditor
#[tokio::test(flavor = "multi_thread")]
async fn an_auditor_searches_a_running_zone_and_nobody_else_does() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let urls = dev_ca::Urls::under("http://127.0.0.1:1");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let ca = dev_ca::DevCa::open(&at("ca"), urls, clock.clone(), Arc::new(SystemRandom)).unwrap();
    std::fs::write(at("ca.pem"), ca.internal_ca_pem()).unwrap();
    for name in ["auditor.example", "operator.example"] {
        let identity = ca.service_cert(name, &[name]).unwrap();
        std::fs::write(at(&format!("{name}.pem")), identity.chain_pem).unwrap();
        std::fs::write(at(&format!("{name}.key")), identity.key_pem.expose()).unwrap();
    }
    let store = testing::sqlite(&[TABLES]).await;
    let log = AuditLog::new(
        "sam",
        "a",
        SecretBytes::new(vec![1; 32]),
        Arc::new(SystemRandom),
    );
    let key = LogKey::from_seed("log.example/sam", &SecretBytes::new(vec![2; 32])).unwrap();
    let sequencer = Sequencer::open(log.clone(), key, None, &store)
        .await
        .unwrap();
    let event = audit_log::Event::LoginSucceeded {
        person: core_types::PersonId::parse("hanako").unwrap(),
        method: "passkey".into(),
        session: None,
        from: audit_log::Place::Unknown,
        credential: None,
    };
    let done: Result<_, StoreError> = transaction!(store.store, "test", |tx| {
        log.append(tx, event.clone(), SystemClock.now()).await
    });
    done.unwrap();
    sequencer.sequence(&store, SystemClock.now()).await.unwrap();
    let router = audit_service::router(audit_service::Reading {
        log: log.clone(),
        store: store.store.clone(),
        public: sequencer.public(),
        auditors: vec![core_types::PeerId::parse("auditor.example").unwrap()],
        clock,
    });
    let own = ca
        .service_cert("sam.example", &["sam.example", "localhost"])
        .unwrap();
    let mutual = service_kit::tls::mutual_server(&own, &ca.internal_ca_pem()).unwrap();
    let (stop, shutdown) = service_kit::Shutdown::new();
    let listener = service_kit::bind("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let running = service_kit::serve(listener, router, Some(mutual), shutdown).unwrap();
    let url = format!("https://localhost:{}", running.addr.port());
    let search = async |name: &str, args: &[&str]| {
        let mut command = natsuin();
        command
            .args(["audit", "search", "--json", "--url", &url])
            .args(args);
        command.arg("--ca").arg(at("ca.pem"));
        command.arg("--cert").arg(at(&format!("{name}.pem")));
        command.arg("--cert-key").arg(at(&format!("{name}.key")));
        tokio::task::spawn_blocking(move || run(&mut command))
            .await
            .unwrap()
    };
    let said = search("auditor.example", &["--person", "hanako"]).await;
    let entries = object(&said)["entries"].clone();
    assert_eq!(entries.as_array().map(Vec::len), Some(1), "{}", text(&said));
    assert_eq!(entries[0]["person"], "hanako");
    let said = search("operator.example", &[]).await;
    assert_eq!(
        (object(&said)["code"].clone(), said.status.code()),
        ("not-allowed".into(), Some(6))
    );
    sequencer.sequence(&store, SystemClock.now()).await.unwrap();
    let said = search("auditor.example", &["--type", "audit."]).await;
    let kinds: Vec<_> = object(&said)["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["kind"].clone())
        .collect();
    assert_eq!(
        kinds,
        ["audit.read", "audit.read-refused"],
        "{}",
        text(&said)
    );
    drop(stop);
    running.stopped().await;
}

/// A zone's log with these entries, exported with its key.
async fn exported(dir: &std::path::Path, zone: &'static str, events: &[audit_log::Event]) {
    let store = testing::sqlite(&[TABLES]).await;
    let random = Arc::new(SystemRandom);
    let log = AuditLog::new(zone, "a", SecretBytes::new(vec![1; 32]), random);
    let key = LogKey::from_seed(
        &format!("log.example/{zone}"),
        &SecretBytes::new(vec![2; 32]),
    );
    let sequencer = Sequencer::open(log.clone(), key.unwrap(), None, &store)
        .await
        .unwrap();
    let at = core_types::UnixTime(1_790_000_000);
    // What the other log can say something of lies within its time.
    let begin = (audit_log::Event::AuditStarted {}, at.plus(-60));
    let end = (audit_log::Event::AuditStopped {}, at.plus(60));
    let between = events.iter().map(|event| (event.clone(), at));
    for (event, at) in [begin].into_iter().chain(between).chain([end]) {
        let done: Result<_, StoreError> = transaction!(store.store, "test", |tx| {
            log.append(tx, event.clone(), at).await
        });
        done.unwrap();
    }
    let at = at.plus(60);
    sequencer.sequence(&store, at).await.unwrap();
    audit_log::export(&store, &dir.join(zone), &sequencer.public())
        .await
        .unwrap();
}

// shows: T-KEY-ABUSE
#[tokio::test(flavor = "multi_thread")]
async fn what_the_module_did_is_compared_with_what_the_sam_meant() {
    use audit_log::Event;
    let person = core_types::PersonId::parse("hanako").unwrap();
    let key = core_types::KeyId::parse("k").unwrap();
    let [act, other] = [1, 2].map(|n| core_types::Digest32([n; 32]));
    let meant = Event::SadConsumed {
        act,
        client: core_types::ClientId::parse("app").unwrap(),
        person: person.clone(),
        key: key.clone(),
        step: 1,
        items: 2,
        call: other,
    };
    let used = |act| Event::KeyUsed {
        key: key.clone(),
        owner: person.clone(),
        alg: crate::spend::ALG,
        count: 2,
        act,
        proof: other,
        order: other,
        step: 1,
        attempt: 0,
    };
    for (sam, cm, bad) in [
        (vec![meant.clone()], vec![used(act)], None),
        (vec![meant.clone()], vec![used(act), used(other)], Some(2)),
        (vec![meant], vec![used(act), used(act)], Some(2)),
    ] {
        let dir = tempfile::tempdir().unwrap();
        exported(dir.path(), "sam", &sam).await;
        exported(dir.path(), "cm", &cm).await;
        exported(dir.path(), "ssa", &[]).await;
        let said = run(natsuin()
            .args(["audit", "verify", "--json"])
            .arg(dir.path()));
        let told = object(&said)["reconciled"].clone();
        assert_eq!(said.status.success(), bad.is_none(), "{}", text(&said));
        assert_eq!(told["orders"], 1, "{}", text(&said));
        if let Some(seq) = bad {
            assert_eq!(
                (&told["first_bad"]["zone"], &told["first_bad"]["seq"]),
                (&"cm".into(), &seq.into())
            );
        }
    }
}
