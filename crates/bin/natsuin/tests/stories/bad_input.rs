//! What a client may get wrong, over the running service: each case has the CSC error that belongs to it, and nothing
//! is signed. What the operator reads about it is tested with the SSA.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use core_types::bytes::b64;
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::{Clock, HashAlg, KeyAlg, UnixTime};
use csc_types::Purpose;
use natsuin::agent::Agent;
use natsuin::stack::{DevSigner, Device, NewFactors, NewSigner, StoreChoice};
use serde_json::{Value, json};
use store_kit::{Store, StoreUrl, sql};

use crate::kit::{Story, entries, natsuin, run};
use crate::spend::{Spender, approval, credential, hashes};

const P256: &str = "1.2.840.10045.4.3.2";

/// The machine's clock, some seconds ahead.
#[derive(Default)]
pub struct Ahead(AtomicI64);

impl Ahead {
    /// Moves it on.
    pub fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for Ahead {
    fn now(&self) -> UnixTime {
        SystemClock.now().plus(self.0.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> std::time::Duration {
        let ahead = self.0.load(Ordering::SeqCst).unsigned_abs();
        SystemClock.monotonic() + std::time::Duration::from_secs(ahead)
    }
}

/// How often the module's keys were used, from its own audit log.
pub async fn keys_used(dir: &Path, store: &StoreChoice) -> i64 {
    let url = match store {
        StoreChoice::Postgres(url) => url.clone(),
        StoreChoice::Embedded => format!("sqlite:{}", dir.join("data/cm/cm.db").display()),
    };
    let url = StoreUrl::parse(&url).unwrap();
    let opened = Store::open(&url, "cm", cm_core::MIGRATIONS, &SystemRandom).await;
    let store = opened.unwrap();
    let mut tx = store.read("count").await.unwrap();
    let query = "SELECT COUNT(*) AS n FROM audit_entry WHERE kind = 'key.used'";
    let row = tx.fetch_one(sql(query)).await.unwrap();
    let count = row.int("n").unwrap();
    drop(tx);
    store.close().await;
    count
}

async fn enrol(story: &Story, login: &str, name: &str, key: KeyAlg) -> (DevSigner, Device) {
    let mut device = Device::new(&story.stack.sic_url, &SystemRandom).unwrap();
    let new = NewSigner {
        login,
        name,
        keys: &[key],
        collected: false,
        exportable: false,
        one_time: false,
    };
    let factors = NewFactors::Passkey(&mut device);
    let signer = story.stack.enrol(&new, factors).await.unwrap().shown;
    (signer, device)
}

// shows: T-USE-DTBSR-FORGE, T-KEY-MISUSE, T-USE-SAP-REPLAY, T-USE-SAP-BYPASS
#[tokio::test(flavor = "multi_thread")]
async fn bad_calls_have_their_errors_and_sign_nothing() {
    let StoreUrl::Postgres(url) = store_kit::testing::postgres_database().await else {
        panic!("a PostgreSQL database was asked for");
    };
    for store in [
        StoreChoice::Embedded,
        StoreChoice::Postgres(url.to_string()),
    ] {
        let clock = Arc::new(Ahead::default());
        let mut story = Story::at(KeyAlg::P256, store.clone(), false, clock.clone()).await;
        let (other, mut his_device) = enrol(&story, "taro", "山田 太郎", KeyAlg::P256).await;
        let spender = Spender::new(&story.stack, "test-client").await;
        let mut agent = Agent::new(&story.stack);
        let approved = hashes(2);
        let asked = approval(&credential(&story), &approved);
        let token = spender.token(&mut story, &mut agent, asked).await;
        let own = story.signer.credentials[0].credential_id.clone();
        let good = json!({ "credentialID": own, "hashes": [b64(&approved[0])], "signAlgo": P256,
            "hashAlgorithmOID": HashAlg::Sha256.oid() });
        let with = |member: &str, value: Value| {
            let mut body = good.clone();
            body[member] = value;
            body.to_string()
        };
        let theirs = &other.credentials[0].credential_id;
        let cases = [
            (
                "unknown credential",
                with("credentialID", json!("no-such-key")),
                "Invalid parameter credentialID",
            ),
            (
                "other signer's key",
                with("credentialID", json!(theirs)),
                "Invalid parameter credentialID",
            ),
            (
                "no credential",
                with("credentialID", Value::Null),
                "Missing (or invalid type) string parameter credentialID",
            ),
            (
                "short hash",
                with("hashes", json!([b64([1; 20])])),
                "Invalid digest value length",
            ),
            (
                "long hash",
                with("hashes", json!([b64([1; 64])])),
                "Invalid digest value length",
            ),
            (
                "hash not in the act",
                with("hashes", json!([b64([1; 32])])),
                "Hash is not authorized by the SAD",
            ),
            (
                "one in the act, one not",
                with("hashes", json!([b64(&approved[0]), b64([1; 32])])),
                "Hash is not authorized by the SAD",
            ),
            (
                "one hash twice",
                with("hashes", json!([b64(&approved[0]), b64(&approved[0])])),
                "Hash is not authorized by the SAD",
            ),
            ("no hash", with("hashes", json!([])), "Empty hash array"),
            (
                "not base64",
                with("hashes", json!(["*"])),
                "Invalid Base64 hash string parameter",
            ),
            (
                "RSA with a P-256 key",
                with("signAlgo", json!("1.2.840.113549.1.1.11")),
                "Invalid parameter signAlgo",
            ),
            (
                "unknown algorithm",
                with("signAlgo", json!("1.2.3")),
                "Invalid parameter signAlgo",
            ),
            (
                "SHA-1",
                with("hashAlgorithmOID", json!("1.3.14.3.2.26")),
                "Invalid parameter hashAlgorithmOID",
            ),
            (
                "malformed JSON",
                "{\"credentialID\":".to_owned(),
                "The request body must be one JSON object without repeated members",
            ),
            (
                "member twice",
                r#"{"credentialID":"a","credentialID":"b"}"#.to_owned(),
                "The request body must be one JSON object without repeated members",
            ),
            (
                "deep nesting",
                "[".repeat(100_000),
                "The request body must be one JSON object without repeated members",
            ),
        ];
        for (case, body, text) in cases {
            let (status, told) = spender.post(&token, body, None).await;
            assert_eq!(
                (
                    status,
                    told["error"].as_str(),
                    told["error_description"].as_str()
                ),
                (400, Some("invalid_request"), Some(text)),
                "{case}"
            );
        }
        let (status, told) = spender.post_spaces(&token, 3 << 20).await;
        assert_eq!(
            (status, told["error"].as_str()),
            (413, Some("invalid_request"))
        );

        // Another client, and another person's token, with a right that is not theirs.
        let demo = Spender::new(&story.stack, "demo-app").await;
        let service = demo.token(&mut story, &mut agent, Purpose::Service).await;
        let mut foreign = good.clone();
        foreign["SAD"] = json!(token.expose());
        let (status, told) = demo.post(&service, foreign.to_string(), None).await;
        assert_eq!(
            (status, told["error_description"].as_str()),
            (400, Some("Invalid parameter SAD")),
            "other client"
        );
        std::mem::swap(&mut story.device, &mut his_device);
        let hers = std::mem::replace(&mut story.signer, other.clone());
        let mut his_agent = Agent::new(&story.stack);
        let service = spender
            .token(&mut story, &mut his_agent, Purpose::Service)
            .await;
        let (status, told) = spender.post(&service, foreign.to_string(), None).await;
        assert_eq!(
            (status, told["error_description"].as_str()),
            (400, Some("Invalid parameter SAD")),
            "other signer"
        );
        std::mem::swap(&mut story.device, &mut his_device);
        story.signer = hers;

        // Used: none of the above took anything away, and this call uses the token up.
        let (status, told) = spender.post(&token, good.to_string(), None).await;
        assert_eq!(status, 200, "{told}");
        let (status, told) = spender.post(&token, good.to_string(), None).await;
        assert_eq!(
            (status, told["error"].as_str()),
            (401, Some("invalid_token"))
        );

        // Expired.
        let asked = approval(&credential(&story), &approved);
        let token = spender.token(&mut story, &mut agent, asked).await;
        clock.advance(301);
        let (status, told) = spender.post(&token, good.to_string(), None).await;
        assert_eq!(
            (status, told["error"].as_str()),
            (401, Some("expired_token"))
        );

        let Story { stack, dir, .. } = story;
        stack.stop().await;
        assert_eq!(
            keys_used(dir.path(), &store).await,
            1,
            "one good call, one use"
        );
    }
}

/// As if the database had gone down and come back. Waits until each connection is gone: one that goes later would take what comes next.
async fn drop_connections(url: &StoreUrl) {
    let admin = Store::open(url, "cm", cm_core::MIGRATIONS, &SystemRandom).await;
    let mut tx = admin.unwrap().read("drop").await.unwrap();
    let query = "SELECT count(pg_terminate_backend(pid, 60000)) AS n FROM pg_stat_activity \
                 WHERE datname = current_database() AND pid <> pg_backend_pid()";
    assert!(tx.fetch_one(sql(query)).await.unwrap().int("n").unwrap() > 0);
}

// shows: T-KEY-ABUSE
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_away_in_the_middle_costs_calls_and_nothing_else() {
    let url = store_kit::testing::postgres_database().await;
    let StoreUrl::Postgres(text) = &url else {
        panic!("a PostgreSQL database was asked for");
    };
    let store = StoreChoice::Postgres(text.to_string());
    let mut story = Story::on(KeyAlg::P256, store, false).await;
    let spender = Spender::new(&story.stack, "test-client").await;
    let mut agent = Agent::new(&story.stack);
    let (key, mut signed) = (credential(&story), 0);
    for n in 0..5 {
        let approved = hashes(1);
        let asked = approval(&key, &approved);
        let token = spender.token(&mut story, &mut agent, asked).await;
        let body = crate::spend::body(&key, &approved);
        let post = || spender.post(&token, body.clone(), None);
        let (first, second) = match n {
            4 => (post().await.0, 401),
            _ => (
                tokio::join!(post(), drop_connections(&url)).0.0,
                post().await.0,
            ),
        };
        assert!(first != 200 || second != 200, "one approval, two answers");
        signed += usize::from(first == 200) + usize::from(second == 200);
        assert!(
            n < 4 || first == 200,
            "it goes on when the database is back"
        );
    }
    story.stack.stop().await;
    let (data, out) = (
        story.dir.path().join("data"),
        story.dir.path().join("export"),
    );
    let mut export = natsuin();
    export.args(["audit", "export", "--store", text.as_str(), "--data"]);
    let said = run(export.arg(&data).arg("--out").arg(&out));
    assert!(said.status.success(), "{}", crate::kit::text(&said));
    let mut verify = natsuin();
    verify
        .args(["audit", "verify"])
        .arg(&out)
        .arg("--keys")
        .arg(data.join("witness"));
    let said = run(verify.arg("--witness").arg(data.join("witness")));
    assert!(said.status.success(), "{}", crate::kit::text(&said));
    let sam = entries(&out, "sam");
    let made = sam.iter().filter(|e| e["kind"] == "signature.made").count();
    assert!(signed <= made && made <= 5, "signed {signed}, made {made}");
}
