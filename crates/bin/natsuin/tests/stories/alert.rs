//! `natsuin audit alert` as a program: what it tells and by which ways, and what receivers can't do to it.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::Arc;

use audit_log::{AuditLog, Event, LogKey, Sequencer, TABLES};
use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::{Clock, KeyId, PeerId, PersonId, SecretBytes, UnixTime, sha256};
use sam_api::guard::{GuardRequest, GuardStop};
use sam_api::ssa::Empty;
use serde_json::Value;
use service_kit::http::HttpOptions;
use service_kit::{Routes, Shutdown, bind, serve};
use store_kit::{StoreError, testing, transaction};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::kit::{natsuin, next, run, until};

const SECRET: [u8; 32] = [5; 32];

/// A mail server that takes everything, and gives out what it took.
pub async fn relay(mails: mpsc::UnboundedSender<String>) -> u16 {
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(converse(stream, mails.clone()));
        }
    });
    port
}

async fn converse(stream: TcpStream, mails: mpsc::UnboundedSender<String>) {
    let (read, mut write) = stream.into_split();
    let mut lines = tokio::io::BufReader::new(read).lines();
    write.write_all(b"220 relay\r\n").await.unwrap();
    let (mut data, mut mail) = (false, String::new());
    while let Ok(Some(line)) = lines.next_line().await {
        let answer = match line.as_str() {
            "." if data => {
                data = false;
                mails.send(std::mem::take(&mut mail)).unwrap();
                "250 taken"
            }
            _ if data => {
                mail.push_str(&line);
                mail.push('\n');
                continue;
            }
            "DATA" => {
                data = true;
                "354 go on"
            }
            _ => "250 good",
        };
        let sent = write.write_all(format!("{answer}\r\n").as_bytes()).await;
        if sent.is_err() {
            return;
        }
    }
}

// shows: I-7.1.4.7-alert-notifies-administrator
#[tokio::test(flavor = "multi_thread")]
async fn alerts_are_told_once_by_every_way_and_hostile_receivers_hold_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let urls = dev_ca::Urls::under("http://127.0.0.1:1");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let ca = dev_ca::DevCa::open(&at("ca"), urls, clock.clone(), Arc::new(SystemRandom)).unwrap();
    std::fs::write(at("ca.pem"), ca.internal_ca_pem()).unwrap();
    let identity = ca
        .service_cert("alert.example", &["alert.example"])
        .unwrap();
    std::fs::write(at("chain.pem"), identity.chain_pem).unwrap();
    std::fs::write(at("key.pem"), identity.key_pem.expose()).unwrap();
    std::fs::write(at("webhook.secret"), SECRET).unwrap();
    std::fs::create_dir(at("data")).unwrap();

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
    let happen = async |event: Event| {
        let done: Result<_, StoreError> = transaction!(store.store, "test", |tx| {
            log.append(tx, event.clone(), SystemClock.now()).await
        });
        done.unwrap();
        sequencer.sequence(&store, SystemClock.now()).await.unwrap();
    };
    let alarm = async |what: &'static str| happen(Event::Alarm { what: what.into() }).await;
    let reading = audit_service::router(audit_service::Reading {
        log: log.clone(),
        store: store.store.clone(),
        public: sequencer.public(),
        auditors: vec![PeerId::parse("alert.example").unwrap()],
        clock,
    });
    let own = ca
        .service_cert("sam.example", &["sam.example", "localhost"])
        .unwrap();
    let mutual = service_kit::tls::mutual_server(&own, &ca.internal_ca_pem()).unwrap();
    let (_stop, shutdown) = Shutdown::new();
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let zone = serve(listener, reading, Some(mutual), shutdown.clone()).unwrap();

    // The SAM's door for guards, which takes the name in the caller's certificate for what it is.
    let (stopped, mut stops) = mpsc::unbounded_channel::<(String, GuardRequest)>();
    let doors = Routes::new(Arc::new(stopped), 4096).method::<GuardStop, _, _>(
        |stopped, peer, request| async move {
            stopped.send((peer.name, request)).unwrap();
            Ok(Empty {})
        },
    );
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let mutual = service_kit::tls::mutual_server(&own, &ca.internal_ca_pem()).unwrap();
    let doors = serve(
        listener,
        doors.into_router(),
        Some(mutual),
        shutdown.clone(),
    )
    .unwrap();
    let guard = ca
        .service_cert("guard.example", &["guard.example"])
        .unwrap();
    std::fs::write(at("guard-chain.pem"), guard.chain_pem).unwrap();
    std::fs::write(at("guard-key.pem"), guard.key_pem.expose()).unwrap();

    let (hooked, mut hooks) = mpsc::unbounded_channel::<(HeaderMap, String)>();
    let (strayed, mut strays) = mpsc::unbounded_channel::<()>();
    let inward = move || {
        strayed.send(()).unwrap();
        async { StatusCode::OK }
    };
    let good = move |headers: HeaderMap, body: String| {
        hooked.send((headers, body)).unwrap();
        async { StatusCode::NO_CONTENT }
    };
    let receivers = Router::new()
        .route("/hangs", post(std::future::pending::<StatusCode>))
        .route(
            "/redirects",
            post(|| async {
                (
                    StatusCode::TEMPORARY_REDIRECT,
                    [(header::LOCATION, "/inward")],
                )
            }),
        )
        .route("/inward", post(inward.clone()).get(inward))
        .route("/good", post(good));
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let receivers = serve(listener, receivers, None, shutdown).unwrap();
    let (mailed, mut mails) = mpsc::unbounded_channel();
    let relay = relay(mailed).await;
    // Only who hangs is short of time; the others have more than a busy machine needs.
    let hook = |path: &str, patience: u32| {
        let (port, secret) = (receivers.addr.port(), at("webhook.secret"));
        format!(
            "[[webhook]]\nurl = \"http://127.0.0.1:{port}{path}\"\nsecret = \"{}\"\nprivate = true\npatience_seconds = {patience}\n",
            secret.display()
        )
    };
    let config = format!(
        "service = \"test\"\ndata = \"{}\"\nevery_seconds = 1\nquiet_seconds = 3600\nlogs = [{{ zone = \"sam\", url = \"https://localhost:{}\" }}]\n\
         certificates = [\"{}\"]\nmetrics = \"127.0.0.1:0\"\n[tls]\nchain = \"{}\"\nkey = \"{}\"\nca = \"{}\"\n\
         [limits]\ncertificate_days = 100000\n\
         [act]\nrules = {{ wrong-value = \"key\" }}\nper_hour = 1\nsam = \"https://localhost:{}\"\n\
         [act.tls]\nchain = \"{guard}-chain.pem\"\nkey = \"{guard}-key.pem\"\nca = \"{}\"\n\
         [mail]\nhost = \"127.0.0.1\"\nport = {relay}\ntls = \"none\"\nfrom = \"natsuin@example.jp\"\nto = [\"duty@example.jp\"]\n{}{}{}",
        at("data").display(),
        zone.addr.port(),
        at("chain.pem").display(),
        at("chain.pem").display(),
        at("key.pem").display(),
        at("ca.pem").display(),
        doors.addr.port(),
        at("ca.pem").display(),
        hook("/hangs", 1),
        hook("/redirects", 60),
        hook("/good", 60),
        guard = at("guard").display(),
    );
    // A receiver in a private network is one by the operator's word only.
    std::fs::write(
        at("alert.toml"),
        config.replace("private = true", "private = false"),
    )
    .unwrap();
    let refused = run(natsuin()
        .args(["audit", "alert", "--json", "--config"])
        .arg(at("alert.toml")));
    let refused: Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!(refused["code"].as_str(), Some("bad-config"), "{refused}");
    std::fs::write(at("alert.toml"), config).unwrap();
    let begin = || {
        let mut command = natsuin();
        command
            .args(["audit", "alert", "--config"])
            .arg(at("alert.toml"));
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let addr = lines.next().unwrap().unwrap();
        (child, addr)
    };
    let (mut child, addr) = begin();
    // The first round tells of the certificate, and begins to read.
    let (headers, body) = next("a webhook", &mut hooks).await;
    let told: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (told["rule"].as_str(), told["service"].as_str()),
        (Some("certificate-ends"), Some("test"))
    );
    let header = |name: &str| headers[name].to_str().unwrap();
    let sent = UnixTime(header("webhook-timestamp").parse().unwrap());
    let signed = notify::webhook::signature(
        &SecretBytes::new(SECRET.to_vec()),
        header("webhook-id"),
        sent,
        body.as_bytes(),
    );
    assert_eq!(header("webhook-signature"), signed);
    assert!(
        next("a mail", &mut mails)
            .await
            .contains("To: duty@example.jp")
    );

    alarm("sealed-row-tampered").await;
    alarm("sealed-row-tampered").await;
    let (_, body) = next("a webhook", &mut hooks).await;
    let told: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (told["rule"].as_str(), told["zone"].as_str()),
        (Some("alarm"), Some("sam"))
    );
    assert!(next("a mail", &mut mails).await.contains("Subject: "));

    let http = service_kit::http::client(&HttpOptions::default()).unwrap();
    let metrics = async || {
        let answer = http
            .get(format!("http://{addr}/metrics"))
            .send()
            .await
            .unwrap();
        answer.text().await.unwrap()
    };
    // Both alarms are counted, whether they were told or held back.
    let counted = "natsuin_alerts_total{rule=\"alarm\",severity=\"critical\"} 2\n";
    until("both alarms", async || metrics().await.contains(counted)).await;
    let counts = metrics().await;
    for way in ["/hangs", "/redirects"] {
        let failed = |line: &&str| {
            line.starts_with("natsuin_alerts_undelivered_total") && line.contains(way)
        };
        assert!(counts.lines().any(|line| failed(&line)), "{way}: {counts}");
    }
    assert!(
        !counts
            .lines()
            .any(|l| l.contains("undelivered") && (l.contains("/good") || l.contains("mail")))
    );
    assert!(strays.try_recv().is_err(), "no redirect is followed");

    // What was told isn't told again after a restart, and what couldn't be still waits.
    let waits = async || {
        let state = std::fs::read_to_string(at("data/state.json")).unwrap();
        let state: Value = serde_json::from_str(&state).unwrap();
        let waits = state["waiting"].as_object().unwrap();
        let count = |end: &str| {
            let way = waits.iter().find(|(way, _)| way.ends_with(end));
            way.and_then(|(_, left)| left.as_array())
                .map_or(0, Vec::len)
        };
        (count("/good"), count("duty@example.jp"), count("/hangs")) == (0, 0, 2)
    };
    until("what couldn't be told to wait", waits).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let (mut child, _) = begin();
    alarm("module-not-switched").await;
    let (_, body) = next("a webhook", &mut hooks).await;
    let told: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(told["about"].as_str(), Some("module-not-switched"));

    // A key whose value is wrong is stopped, with the guard's certificate; of the next one people are told.
    let wrong = async |key: &str| {
        happen(Event::SignatureWrong {
            act: sha256(&[key.as_bytes()]),
            person: PersonId::parse("p").unwrap(),
            key: KeyId::parse(key).unwrap(),
        })
        .await;
    };
    wrong("key-1").await;
    let (who, what) = next("a stop", &mut stops).await;
    let one = KeyId::parse("key-1").unwrap();
    assert_eq!(
        (who.as_str(), what),
        ("guard.example", GuardRequest::Key { key: one })
    );
    let mut rules = Vec::new();
    wrong("key-2").await;
    while rules.last().map(String::as_str) != Some("held-back") {
        let (_, body) = next("a webhook", &mut hooks).await;
        let told: Value = serde_json::from_str(&body).unwrap();
        rules.push(told["rule"].as_str().unwrap().to_owned());
    }
    assert_eq!(
        rules,
        ["wrong-value", "stopped", "wrong-value", "held-back"]
    );
    assert!(stops.try_recv().is_err(), "no more than the bound");

    // A node whose clock is behind is heard, too.
    let behind = AuditLog::new(
        "sam",
        "0",
        SecretBytes::new(vec![1; 32]),
        Arc::new(SystemRandom),
    );
    let done: Result<_, StoreError> = transaction!(store.store, "test", |tx| {
        let late = Event::Alarm {
            what: "of-a-node-behind".into(),
        };
        behind.append(tx, late, SystemClock.now().plus(-3)).await
    });
    done.unwrap();
    sequencer.sequence(&store, SystemClock.now()).await.unwrap();
    let (_, body) = next("a webhook", &mut hooks).await;
    let told: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(told["about"].as_str(), Some("of-a-node-behind"));
    child.kill().unwrap();
    child.wait().unwrap();

    // A log that is shorter than what was read of it is told of, and read again.
    let state = std::fs::read_to_string(at("data/state.json")).unwrap();
    let mut state: Value = serde_json::from_str(&state).unwrap();
    for place in state["places"].as_object_mut().unwrap().values_mut() {
        *place = 1_000_000.into();
    }
    std::fs::write(at("data/state.json"), state.to_string()).unwrap();
    let (mut child, _) = begin();
    let mut heard = async || {
        let (_, body) = next("a webhook", &mut hooks).await;
        let told: Value = serde_json::from_str(&body).unwrap();
        told["about"].as_str().unwrap().to_owned()
    };
    // What was told when the program was killed may be told once more: it never knew.
    let mut about = heard().await;
    if about == "of-a-node-behind" {
        about = heard().await;
    }
    assert_eq!(about, "log-set-back");
    alarm("after-that").await;
    assert_eq!(heard().await, "after-that");
    child.kill().unwrap();
    child.wait().unwrap();

    // What a zone's log says is of that zone: the program that takes it for another's believes nothing of it.
    let config = std::fs::read_to_string(at("alert.toml")).unwrap();
    let config = config.replace("zone = \"sam\"", "zone = \"ssa\"");
    std::fs::write(at("alert.toml"), config).unwrap();
    let (mut child, _) = begin();
    wrong("key-3").await;
    let told = loop {
        let (_, body) = next("a webhook", &mut hooks).await;
        let told: Value = serde_json::from_str(&body).unwrap();
        // As above.
        if told["about"] != "after-that" {
            break told;
        }
    };
    assert_eq!(
        (told["zone"].as_str(), told["about"].as_str()),
        (Some("ssa"), Some("entry-of-another-zone"))
    );
    child.kill().unwrap();
    child.wait().unwrap();
}
