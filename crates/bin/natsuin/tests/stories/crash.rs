//! kill -9 under load, and what the logs say afterwards.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::{Clock, KeyAlg, SecretBytes};
use csc_types::SecretText;
use natsuin::agent::Agent;
use natsuin::stack::{DevClient, DevSigner, Factors, Sic, StoreChoice};
use serde_json::{Value, json};
use sic_core::{Totp, Trust};
use store_kit::StoreUrl;

use crate::kit::{entries, natsuin, run, signal, start, text};
use crate::site::{first_port, ports};
use crate::spend::{Spender, approval, body, hashes};

fn count(entries: &[Value], kind: &str) -> usize {
    entries.iter().filter(|e| e["kind"] == kind).count()
}

fn audit(data: &Path, export: &Path) -> Command {
    let said = run(natsuin()
        .args(["audit", "export", "--data"])
        .arg(data)
        .arg("--out")
        .arg(export));
    assert!(said.status.success(), "{}", text(&said));
    let mut verify = natsuin();
    verify
        .args(["audit", "verify"])
        .arg(export)
        .arg("--witness")
        .arg(data.join("witness"));
    verify.arg("--keys").arg(data.join("witness"));
    verify
}

/// Gives a stack ports of its own whose command can't be told any: it takes again those that it believes to have had. The next start
/// needs the same ones, and of those that the kernel gives to whoever asks another one could have drawn one meanwhile.
fn settle(data: &Path) {
    let first = ports(5);
    let [ssa, sic, office, sca, ca] = [0, 1, 2, 3, 4].map(|n| first + n);
    let last = json!({ "ssa": ssa, "sic": sic, "office": office, "sca": sca, "ca": ca });
    std::fs::create_dir_all(data).unwrap();
    let state = json!({ "ports": last }).to_string();
    std::fs::write(data.join("state.json"), state).unwrap();
}

// shows: I-7.1.4.3-no-unauthorised-deletion,
// I-7.1.4.3-audit-retained
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_stack_starts_clean_and_its_logs_hold() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    settle(&data);
    let mut command = natsuin();
    command
        .args(["bench", "--seconds", "1", "--data"])
        .arg(&data);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Killed while signatures are made: after the first measurement through the service the next one runs.
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(
        lines
            .map(Result::unwrap)
            .any(|line| line.starts_with("service")),
        "load came up"
    );
    child.kill().unwrap();
    child.wait().unwrap();

    // The next start brings the logs up to date, gives up what was half done, and goes on.
    let stack = start(&data, StoreChoice::Embedded, false).await;
    stack.stop().await;
    let export = dir.path().join("export");
    let said = run(&mut audit(&data, &export));
    assert!(said.status.success(), "{}", text(&said));
    let (sam, cm) = (entries(&export, "sam"), entries(&export, "cm"));
    let (made, intents, used) = (
        count(&sam, "signature.made"),
        count(&sam, "sad.consumed"),
        count(&cm, "key.used"),
    );
    assert!(
        made > 0 && made <= used && used <= intents,
        "made {made} ≤ used {used} ≤ intents {intents}"
    );

    // What was exported can't be bent.
    let bundles = export.join("sam/tile/entries");
    let full = bundles.join("000");
    let file = match full.exists() {
        true => full,
        false => std::fs::read_dir(bundles.join("000.p"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path(),
    };
    let good = std::fs::read(&file).unwrap();
    let mut starts = vec![0];
    while let Some(length) = good[starts[starts.len() - 1]..].first_chunk::<2>() {
        starts.push(starts[starts.len() - 1] + 2 + usize::from(u16::from_be_bytes(*length)));
    }
    let entry = |n: usize| &good[starts[n]..starts[n + 1]];
    let success = good.windows(9).position(|w| w == br#""success""#).unwrap();
    let attacks = [
        (
            "edited",
            [&good[..success], br#""failure""#, &good[success + 9..]].concat(),
        ),
        ("deleted", [&good[..starts[5]], &good[starts[6]..]].concat()),
        (
            "reordered",
            [&good[..starts[3]], entry(4), entry(3), &good[starts[5]..]].concat(),
        ),
        ("truncated", good[..starts[starts.len() - 2]].to_vec()),
    ];
    for (attack, bent) in attacks {
        assert!(bent != good, "{attack}");
        std::fs::write(&file, bent).unwrap();
        let mut verify = natsuin();
        verify
            .args(["audit", "verify"])
            .arg(&export)
            .arg("--witness")
            .arg(data.join("witness"));
        let said = run(verify.arg("--keys").arg(data.join("witness")));
        assert_eq!(said.status.code(), Some(1), "{attack}: {}", text(&said));
    }
}

/// `natsuin dev` as a process of its own, which ends with its test.
pub struct Dev {
    process: Child,
    pub ready: Value,
}

impl Drop for Dev {
    fn drop(&mut self) {
        // One that was stopped already is gone.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Dev {
    pub fn start(dir: &Path, store: Option<&str>) -> Self {
        let mut command = natsuin();
        let data = dir.join("data");
        command.args(["dev", "--port", &first_port(&data).to_string()]);
        command.arg("--data").arg(data);
        command.arg("--ready-file").arg(dir.join("ready.json"));
        if let Some(url) = store {
            command.args(["--store", url]);
        }
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let told = BufReader::new(process.stderr.take().unwrap()).lines();
        let up = told
            .map(Result::unwrap)
            .any(|line| line.starts_with("Ready in"));
        assert!(up, "the stack starts");
        let ready = std::fs::read(dir.join("ready.json")).unwrap();
        let dev = Self {
            process,
            ready: serde_json::from_slice(&ready).unwrap(),
        };
        dev.tells_whom_to_test_with();
        dev
    }

    /// Two clients with secrets; each signer with two keys of their own, and two that applications may approve for.
    fn tells_whom_to_test_with(&self) {
        let clients: Vec<DevClient> =
            serde_json::from_value(self.ready["clients"].clone()).unwrap();
        for id in ["test-client", "other-client"] {
            let client = clients.iter().find(|c| c.client_id == id).unwrap();
            assert!(client.client_secret.is_some() && !client.redirect_uris.is_empty());
        }
        let signers: Vec<DevSigner> =
            serde_json::from_value(self.ready["signers"].clone()).unwrap();
        assert_eq!(signers.len(), 2);
        for signer in &signers {
            assert!(!signer.pin.is_empty() && !signer.totp_secret.is_empty());
            let mut keys: Vec<_> = signer
                .credentials
                .iter()
                .map(|key| (key.auth_mode.as_str(), key.algo.as_str()))
                .collect();
            keys.sort_unstable();
            let (ec, rsa) = (KeyAlg::P256.name(), KeyAlg::Rsa3072.name());
            assert_eq!(
                keys,
                [
                    ("explicit", ec),
                    ("explicit", rsa),
                    ("oauth2code", ec),
                    ("oauth2code", rsa)
                ]
            );
            for key in &signer.credentials {
                let explicit = key.auth_mode == "explicit";
                assert_eq!(
                    (key.pin.is_some(), key.totp_secret.is_some()),
                    (explicit, explicit)
                );
                assert!(!explicit || key.level == 1);
            }
        }
    }

    pub fn url(&self, name: &str) -> String {
        self.ready[name].as_str().unwrap().to_owned()
    }

    fn client(&self) -> DevClient {
        let all: Vec<DevClient> = serde_json::from_value(self.ready["clients"].clone()).unwrap();
        let found = all.into_iter().find(|c| c.client_id == "test-client");
        found.unwrap()
    }

    /// What a browser and a signer's side need to know of it.
    pub fn sic(&self, dir: &Path, pem: &str, clock: Arc<dyn Clock>) -> Sic {
        let state = std::fs::read(dir.join("data/state.json")).unwrap();
        let mut state: Value = serde_json::from_slice(&state).unwrap();
        let root = serde_json::from_value(state["root"].take()).unwrap();
        let origin = self.url("sic");
        let options = service_kit::http::HttpOptions {
            ca_pem: Some(pem.to_owned()),
            ..Default::default()
        };
        Sic {
            trust: Trust::new(vec![root], origin.clone()).unwrap(),
            origin,
            http: service_kit::http::client(&options).unwrap(),
            clock,
            random: Arc::new(SystemRandom),
        }
    }

    /// The n-th signer approves one hash with PIN and one-time code; the token and what it is good for.
    async fn approved(&self, spender: &Spender, sic: &Sic, n: usize) -> (SecretText, String) {
        let signer: DevSigner = serde_json::from_value(self.ready["signers"][n].clone()).unwrap();
        let own = signer
            .credentials
            .iter()
            .find(|c| c.algo == KeyAlg::P256.name() && c.auth_mode == "oauth2code");
        let key = own.unwrap().credential_id.clone();
        let pin = SecretBytes::from(signer.pin.clone());
        let seed = SecretBytes::from(signer.totp_secret.clone());
        let totp = Totp::from_base32(&seed).unwrap();
        let factors = Factors::PinTotp {
            pin: &pin,
            totp: &totp,
        };
        let hashes = hashes(1);
        let mut agent = Agent::with(sic.clone());
        let asked = approval(&key, &hashes);
        let token = spender.token_of(&signer, &mut agent, factors, asked).await;
        (token, body(&key, &hashes))
    }
}

// shows: T-USE-SAP-REPLAY
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_revives_nothing_and_costs_no_approval() {
    let StoreUrl::Postgres(url) = store_kit::testing::postgres_database().await else {
        panic!("a PostgreSQL database was asked for");
    };
    for store in [None, Some(url.to_string())] {
        let dir = tempfile::tempdir().unwrap();
        let mut dev = Dev::start(dir.path(), store.as_deref());
        let pem = std::fs::read_to_string(dev.url("trust_anchors")).unwrap();
        let sic = dev.sic(dir.path(), &pem, Arc::new(SystemClock));
        let (portal, client) = (dev.url("portal"), dev.client());
        let pem = pem.into_bytes();
        let spender = Spender::at(&portal, &client, pem.clone(), sic.http.clone()).await;
        let (spent, its) = dev.approved(&spender, &sic, 0).await;
        assert_eq!(spender.post(&spent, its.clone(), None).await.0, 200);
        let (unspent, other) = dev.approved(&spender, &sic, 1).await;
        dev.process.kill().unwrap();
        dev.process.wait().unwrap();

        let mut dev = Dev::start(dir.path(), store.as_deref());
        assert_eq!(dev.url("portal"), portal, "the same addresses again");
        // New connections: those of before lead to a process that is gone.
        let spender = Spender::at(&portal, &client, pem, reqwest::Client::new()).await;
        assert_eq!(spender.post(&spent, its, None).await.0, 401);
        let (status, answer) = spender.post(&unspent, other.clone(), None).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(spender.post(&unspent, other, None).await.0, 401);

        // Ctrl-C ends it in order: nobody is told of a service that isn't there.
        signal("INT", dev.process.id());
        assert_eq!(dev.process.wait().unwrap().code(), Some(0));
        assert!(!dir.path().join("ready.json").exists());
    }
}
