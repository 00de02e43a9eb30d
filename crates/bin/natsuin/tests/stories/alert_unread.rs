//! What `natsuin audit alert` tells when a zone doesn't let it read, and how it ends.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use audit_service::{FOLLOW, FollowAnswer, FollowRequest, Followed};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use serde_json::{Value, json};
use service_kit::{Shutdown, bind, serve};
use tokio::sync::{Notify, mpsc};

use crate::kit::{natsuin, next, signal, within};

/// A zone's listener for auditors, which its operator can shut.
#[derive(Default)]
struct Zone {
    shut: bool,
    log: Vec<String>,
}

fn answer(zone: &Zone, request: &FollowRequest) -> Response {
    if zone.shut {
        return StatusCode::FORBIDDEN.into_response();
    }
    let behind = request.after.map_or(0, |after| after + 1);
    let entries = (0..).zip(&zone.log).filter(|(seq, _)| *seq >= behind);
    let entries = entries.map(|(seq, body)| Followed {
        seq,
        body: body.clone(),
    });
    Json(FollowAnswer {
        entries: entries.collect(),
        more: false,
        size: u64::try_from(zone.log.len()).unwrap(),
    })
    .into_response()
}

fn alarm(what: &str) -> String {
    json!({
        "zone": "sam", "node": "a", "n": 1, "at": 1_800_000_000, "subject": "service", "outcome": "failure",
        "class": "transaction", "kind": "alarm", "detail": {"what": what},
    })
    .to_string()
}

/// What a configuration names: a certificate of the program's own, a secret that it shares with receivers, a directory.
fn equip(dir: &Path) {
    let urls = dev_ca::Urls::under("http://127.0.0.1:1");
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    let ca = dev_ca::DevCa::open(&dir.join("ca"), urls, clock, random).unwrap();
    std::fs::write(dir.join("ca.pem"), ca.internal_ca_pem()).unwrap();
    let identity = ca
        .service_cert("alert.example", &["alert.example"])
        .unwrap();
    std::fs::write(dir.join("chain.pem"), identity.chain_pem).unwrap();
    std::fs::write(dir.join("key.pem"), identity.key_pem.expose()).unwrap();
    std::fs::write(dir.join("webhook.secret"), [5; 32]).unwrap();
    std::fs::create_dir(dir.join("data")).unwrap();
}

// shows: I-7.1.4.7-alert-notifies-administrator, T-INS-OPERATOR
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cant_be_read_is_told_and_one_bad_entry_ends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    equip(dir.path());

    let zone = Arc::new(Mutex::new(Zone::default()));
    let reading = {
        let zone = zone.clone();
        move |Json(request): Json<FollowRequest>| {
            let answer = answer(&zone.lock().unwrap(), &request);
            async { answer }
        }
    };
    let (hooked, mut hooks) = mpsc::unbounded_channel::<Value>();
    let hook = move |Json(body): Json<Value>| {
        hooked.send(body).unwrap();
        async { StatusCode::NO_CONTENT }
    };
    let (_stop, shutdown) = Shutdown::new();
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let doors = Router::new()
        .route(FOLLOW, post(reading))
        .route("/hook", post(hook));
    let doors = serve(listener, doors, None, shutdown).unwrap();
    let url = format!("http://{}", doors.addr);
    let config = format!(
        "service = \"test\"\ndata = \"{dir}/data\"\nevery_seconds = 1\nquiet_seconds = 3600\n\
         logs = [{{ zone = \"sam\", url = \"{url}\" }}]\n\
         [tls]\nchain = \"{dir}/chain.pem\"\nkey = \"{dir}/key.pem\"\nca = \"{dir}/ca.pem\"\n\
         [limits]\nunread_seconds = 1\n\
         [[webhook]]\nurl = \"{url}/hook\"\nsecret = \"{dir}/webhook.secret\"\nprivate = true\n",
        dir = dir.path().display()
    );
    std::fs::write(at("alert.toml"), config).unwrap();
    let mut command = natsuin();
    command
        .args(["audit", "alert", "--config"])
        .arg(at("alert.toml"));
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "watching");
    let mut heard = async || {
        let told = next("what is told", &mut hooks).await;
        let text = |name: &str| told[name].as_str().unwrap().to_owned();
        (text("rule"), text("about"), told["seq"].as_u64())
    };
    let told = |rule: &str, about: &str, seq| (rule.to_owned(), about.to_owned(), seq);

    // What isn't an entry names its place, and what lies behind it is judged.
    let more = ["no entry".to_owned(), alarm("behind-it")];
    zone.lock().unwrap().log.extend(more);
    assert_eq!(heard().await, told("entry-unread", "", Some(0)));
    assert_eq!(heard().await, told("alarm", "behind-it", Some(1)));

    // The zone's operator takes the reader out of `auditors`: somebody hears of it, and when it is over.
    zone.lock().unwrap().shut = true;
    assert_eq!(heard().await, told("log-unread", &url, None));
    zone.lock().unwrap().log.push(alarm("meanwhile"));
    zone.lock().unwrap().shut = false;
    assert_eq!(heard().await, told("log-read-again", &url, None));
    assert_eq!(heard().await, told("alarm", "meanwhile", Some(2)));
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A service manager says once that it is to end, and perhaps while it tells something.
#[tokio::test(flavor = "multi_thread")]
async fn it_ends_in_order_also_when_it_is_told_to_in_the_middle_of_a_round() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    equip(dir.path());
    let (hooked, mut hooks) = mpsc::unbounded_channel::<Value>();
    let let_go = Arc::new(Notify::new());
    let hook = {
        let let_go = let_go.clone();
        move |Json(body): Json<Value>| {
            hooked.send(body).unwrap();
            let let_go = let_go.clone();
            async move {
                let_go.notified().await;
                StatusCode::NO_CONTENT
            }
        }
    };
    let (_stop, shutdown) = Shutdown::new();
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let receiver = Router::new().route("/hook", post(hook));
    let receiver = serve(listener, receiver, None, shutdown).unwrap();
    // Its own certificate ends within so many days, which the first round tells.
    let config = format!(
        "service = \"test\"\ndata = \"{dir}/data\"\nevery_seconds = 1\nquiet_seconds = 3600\nlogs = []\n\
         certificates = [\"{dir}/chain.pem\"]\n\
         [tls]\nchain = \"{dir}/chain.pem\"\nkey = \"{dir}/key.pem\"\nca = \"{dir}/ca.pem\"\n\
         [limits]\ncertificate_days = 100000\n\
         [[webhook]]\nurl = \"http://{hook}/hook\"\nsecret = \"{dir}/webhook.secret\"\nprivate = true\npatience_seconds = 120\n",
        dir = dir.path().display(),
        hook = receiver.addr
    );
    std::fs::write(at("alert.toml"), config).unwrap();
    let mut command = natsuin();
    command
        .args(["audit", "alert", "--config"])
        .arg(at("alert.toml"))
        .stdout(Stdio::null());
    let mut command = tokio::process::Command::from(command);
    let mut child = command.kill_on_drop(true).spawn().unwrap();
    assert_eq!(
        next("what is told", &mut hooks).await["rule"],
        "certificate-ends"
    );
    signal("TERM", child.id().unwrap());
    let_go.notify_one();
    let ended = within("its end", child.wait()).await.unwrap();
    assert_eq!(ended.code(), Some(0));
    // What was told is noted as told.
    let state = std::fs::read_to_string(at("data/state.json")).unwrap();
    let state: Value = serde_json::from_str(&state).unwrap();
    assert_eq!(state["waiting"], json!({}));
}
