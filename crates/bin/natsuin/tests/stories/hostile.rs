//! Somebody who holds databases, files and logs of the service.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use ::backup::Identity;
use core_types::bytes::{b64, b64u, hex};
use core_types::{KeyAlg, SecretBytes};
use csc_types::Purpose;
use jose::SigningKey;
use natsuin::agent::Agent;
use natsuin::stack::{Factors, Options, Stack, StoreChoice};
use serde_json::Value;
use sic_core::Totp;

use crate::archive::Medium;
use crate::kit::{Story, entries, files, natsuin, run, start, text};
use crate::levels::stores;
use crate::set_back::{give_rows_back, keep_rows, set_back};
use crate::spend::{Spender, approval, body, credential, hashes};

// shows: T-USE-SAP-REPLAY, T-KEY-ABUSE
#[tokio::test(flavor = "multi_thread")]
async fn databases_set_back_are_noticed_and_get_no_second_value() {
    for store in stores().await {
        set_back_on(store).await;
    }
}

async fn set_back_on(store: StoreChoice) {
    let mut story = Story::on(KeyAlg::P256, store.clone(), false).await;
    let (data, copy) = (story.dir.path().join("data"), story.dir.path().join("copy"));
    let spender = Spender::new(&story.stack, "test-client").await;
    let mut agent = Agent::new(&story.stack);
    let key = credential(&story);
    let approved = hashes(1);
    let asked = approval(&key, &approved);
    let token = spender.token(&mut story, &mut agent, asked).await;
    let request = body(&key, &approved);
    story.stack.stop().await;
    for zone in ["sam", "ssa", "witness"] {
        set_back(&data, &copy, &[zone]);
    }
    keep_rows(&store).await;

    let stack = start(&data, store.clone(), false).await;
    let (status, answer) = spender.post(&token, request.clone(), None).await;
    assert_eq!(status, 200, "{answer}");
    stack.stop().await;

    // The witness saw the newer logs, so that the older databases don't even start.
    set_back(&copy, &data, &["sam", "ssa"]);
    give_rows_back(&store).await;
    let options = Options {
        store: store.clone(),
        ..Options::new(data.clone())
    };
    let refused = Stack::start(&options, &|_| {}).await.err().unwrap();
    assert_eq!(refused.code, "audit", "{}", refused.what);

    // With the witness set back too, the act is approved and unspent again; the module remembers its order.
    set_back(
        &copy,
        &data,
        &["sam", "ssa", "witness/sam.txt", "witness/ssa.txt"],
    );
    give_rows_back(&store).await;
    let stack = start(&data, store.clone(), false).await;
    let (status, answer) = spender.post(&token, request.clone(), None).await;
    assert_ne!(status, 200, "{answer}");
    assert_ne!(spender.post(&token, request, None).await.0, 200);
    stack.stop().await;
    let export = story.dir.path().join("export");
    let mut command = natsuin();
    command.args(["audit", "export", "--data"]).arg(&data);
    if let StoreChoice::Postgres(url) = &store {
        command.args(["--store", url.as_str()]);
    }
    let said = run(command.arg("--out").arg(&export));
    assert!(said.status.success(), "{}", text(&said));
    let log = entries(&export, "cm");
    let duplicate =
        |e: &&Value| e["kind"] == "cm.order-refused" && e["detail"]["reason"] == "duplicate";
    assert_eq!(
        log.iter().filter(duplicate).count(),
        1,
        "the module refused the order as one it knows"
    );
}

/// Request, authentication, use and value of the one signature in the log, each naming the next.
fn one_signature_is_linked(export: &Path) {
    let bodies = entries(export, "sam");
    let one = |kind: &str, member: &str, value: &Value| {
        let fits = |b: &&Value| b["kind"] == kind && b["detail"][member] == *value;
        let found: Vec<&Value> = bodies.iter().filter(fits).collect();
        assert_eq!(found.len(), 1, "{kind} with {member} {value}");
        &found[0]["detail"]
    };
    let made = bodies.iter().find(|b| b["kind"] == "signature.made");
    let made = &made.unwrap()["detail"];
    let act = &made["act"];
    let opened = one("request.opened", "act", act);
    let prepared = one("request.prepared", "request", &opened["request"]);
    let proved = one("sap.authenticated", "act", act);
    let used = one("sad.consumed", "act", act);
    assert_eq!(prepared["person"], proved["person"]);
    assert_eq!(
        (&prepared["key"], &used["key"]),
        (&made["key"], &made["key"])
    );
    assert!(made["certificate"].is_string(), "which certificate: {made}");
}

/// What all zones log, at their most talkative, until it is taken.
#[derive(Clone)]
struct Lines(Arc<Mutex<Option<Vec<u8>>>>);

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

// shows: T-USE-CAPTURE, T-KEY-DATA-DISCLOSE, I-7.1.4.1-log-signing-events, I-7.1.4.1-signing-event-certificate,
// I-4.2.1-rssp-holds-verification-info, I-7.1.5.1-archive-no-secrets, I-7.1.7.1-backup-confidentiality,
// T-REG-INFO-CAPTURE, I-7.1.4.1-log-sad-management
#[tokio::test(flavor = "multi_thread")]
async fn no_log_database_or_export_holds_a_secret() {
    let lines = Lines(Arc::new(Mutex::new(Some(Vec::new()))));
    let writer = lines.clone();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(
            "trace,hyper=debug,h2=info,mio=info,sqlx=debug,rustls=debug",
        ))
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut stack = start(&data, StoreChoice::Embedded, false).await;
    stack.seed_signers().await.unwrap();
    let signer = stack.signers()[0].clone();
    let spender = Spender::new(&stack, "test-client").await;
    let mut agent = Agent::new(&stack);
    let seed = SecretBytes::from(signer.totp_secret.clone());
    let (pin, totp) = (
        SecretBytes::from(signer.pin.clone()),
        Totp::from_base32(&seed).unwrap(),
    );
    let key = signer
        .credentials
        .iter()
        .find(|c| c.algo == KeyAlg::P256.name())
        .unwrap()
        .credential_id
        .clone();
    let approved = hashes(1);
    let factors = Factors::PinTotp {
        pin: &pin,
        totp: &totp,
    };
    let asked = approval(&key, &approved);
    let token = spender.token_of(&signer, &mut agent, factors, asked).await;
    let (status, answer) = spender.post(&token, body(&key, &approved), None).await;
    assert_eq!(status, 200, "{answer}");
    let factors = Factors::PinTotp {
        pin: &pin,
        totp: &totp,
    };
    let service = spender
        .token_of(&signer, &mut agent, factors, Purpose::Service)
        .await;
    let client = stack.client("test-client").unwrap().clone();
    let cookies = agent.cookies();
    assert!(!cookies.is_empty(), "the browser has a session");
    stack.stop().await;
    let export = dir.path().join("export");
    let said = run(natsuin()
        .args(["audit", "export", "--data"])
        .arg(&data)
        .arg("--out")
        .arg(&export));
    assert!(said.status.success(), "{}", text(&said));

    let archive = dir.path().join("medium");
    let medium = Medium::new(dir.path(), data.join("witness"));
    let said = medium.create(&export, &archive);
    assert!(said.status.success(), "{}", text(&said));

    let told = handed_out(dir.path(), &export, &signer.person);

    one_signature_is_linked(&export);

    // Seeds as people type them and as bytes; everything else as text.
    let raw = |seed: &str| {
        let seed = SecretBytes::from(seed.to_owned());
        otp::from_base32(&seed).unwrap().expose().to_vec()
    };
    let mut secrets: Vec<(&str, Vec<u8>)> = vec![
        ("PIN", signer.pin.clone().into_bytes()),
        ("password", signer.password.clone().into_bytes()),
        ("signing seed", signer.totp_secret.clone().into_bytes()),
        ("signing seed in bytes", raw(&signer.totp_secret)),
        ("login seed", signer.login_totp_secret.clone().into_bytes()),
        ("login seed in bytes", raw(&signer.login_totp_secret)),
        ("token of the approval", token.expose().as_bytes().to_vec()),
        ("token of the login", service.expose().as_bytes().to_vec()),
        ("client secret", client.client_secret.unwrap().into_bytes()),
    ];
    secrets.extend(cookies.into_iter().map(|c| ("cookie", c.into_bytes())));
    let state: Value =
        serde_json::from_slice(&std::fs::read(data.join("state.json")).unwrap()).unwrap();
    let shares = state["office"]["shares"].as_array().unwrap();
    let shares = shares.iter().map(|s| s.as_str().unwrap().to_owned());
    secrets.extend(shares.map(|s| ("recovery share", s.into_bytes())));
    let keys = private_keys(&data);
    let mut places: Vec<(String, Vec<u8>)> = ["cm", "sam", "ssa", "sca", "witness"]
        .iter()
        .flat_map(|zone| files(&data.join(zone)))
        .chain(files(&export))
        .chain(files(&archive))
        .map(|path| (path.display().to_string(), std::fs::read(&path).unwrap()))
        .collect();
    places.push((
        "the log".to_owned(),
        lines.0.lock().unwrap().take().unwrap(),
    ));
    places.extend(told);
    // What isn't secret is found, so the search works.
    let known = [
        ("sam.db", key.as_bytes()),
        ("the log", b"sic_gateway::forward" as &[u8]),
    ];
    for (place, bytes) in known {
        let of = places.iter().filter(|(name, _)| name.ends_with(place));
        let seen = of.flat_map(|(_, all)| all.windows(bytes.len()));
        assert!(seen.into_iter().any(|w| w == bytes), "{place}");
    }
    for (place, bytes) in &places {
        for (what, secret) in &secrets {
            let found = bytes.windows(secret.len()).any(|w| w == &secret[..]);
            assert!(!found, "{place} holds a {what}");
        }
        for (what, forms) in keys.iter().filter(|(what, _)| what != place) {
            for form in forms {
                let found = bytes.windows(form.len()).any(|w| w == &form[..]);
                assert!(!found, "{place} holds {what}");
            }
        }
    }
}

/// Private keys in the stack's folder: each file, and how its key might be written elsewhere.
fn private_keys(data: &Path) -> Vec<(String, Vec<Vec<u8>>)> {
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
fn handed_out(dir: &Path, export: &Path, person: &str) -> Vec<(String, Vec<u8>)> {
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
    evidence.arg("--data").arg(&data).arg("--root");
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
