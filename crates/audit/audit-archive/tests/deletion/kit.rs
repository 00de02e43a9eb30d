//! A live log, and what an officer takes from a SAM.

use audit_log::{AuditLog, Event, LogKey, Sequencer};
use core_types::bytes::b64u;
use core_types::{Digest32, KeyId, PersonId, SecretBytes, UnixTime, sha256};
use jose::SigningKey;
use serde_json::{Value, json};
use store_kit::testing::TestStore;
use store_kit::{StoreError, sql, transaction};

pub const NOW: UnixTime = UnixTime(1_800_000_000);
/// Old enough for every setting but the longest.
pub const OLD: UnixTime = UnixTime(NOW.0 - 400 * 86_400);

pub fn log_key() -> LogKey {
    LogKey::from_seed("log.example/sam", &SecretBytes::new(vec![2; 32])).unwrap()
}

/// A zone's log, and how many entries it began with.
pub struct Live {
    pub store: TestStore,
    pub sequencer: Sequencer,
    log: AuditLog,
    written: i64,
    salt: i64,
}

impl Live {
    pub async fn begin(store: TestStore, entries: i64) -> Self {
        let random = std::sync::Arc::new(core_types::random::SystemRandom);
        let log = AuditLog::new("sam", "a", SecretBytes::new(vec![1; 32]), random);
        let opened = Sequencer::open(log.clone(), log_key(), None, &store.store);
        let mut live = Self {
            sequencer: opened.await.unwrap(),
            store,
            log,
            written: 0,
            salt: entries,
        };
        live.write(entries, OLD).await;
        live
    }

    /// Entries that no other log of these tests has.
    pub async fn write(&mut self, count: i64, at: UnixTime) {
        let events: Vec<_> = (0..count)
            .map(|n| Event::KeyErased {
                key: KeyId::parse(format!("k{}-{}", self.salt, self.written + n)).unwrap(),
                owner: PersonId::parse("p1").unwrap(),
            })
            .collect();
        for some in events.chunks(200) {
            let done: Result<_, StoreError> = transaction!(self.store, "test", |tx| {
                self.log.append_all(tx, some, at).await
            });
            done.unwrap();
        }
        self.written += count;
        self.sequencer.sequence(&self.store, at).await.unwrap();
    }

    pub async fn size(&self) -> u64 {
        let status = audit_log::status(&self.store).await.unwrap();
        u64::try_from(status.entries).unwrap()
    }

    pub async fn rows(&self) -> i64 {
        let mut tx = self.store.read("rows").await.unwrap();
        let row = tx.fetch_one(sql("SELECT count(*) AS n FROM audit_entry"));
        row.await.unwrap().int("n").unwrap()
    }
}

/// What was taken, with the keys to make another of it.
#[derive(Clone)]
pub struct Taken {
    pub document: String,
    pub approvals: Vec<String>,
    pub warrant: String,
    pub statement: String,
    /// `K_root`.
    pub root: String,
    act: std::sync::Arc<SigningKey>,
    payload: Value,
}

impl Taken {
    pub fn of(zone: &str, archive: Digest32, size: u64) -> Self {
        Self::by(zone, archive, size, &["o1", "o2"], "o3")
    }

    pub fn by(zone: &str, archive: Digest32, size: u64, officers: &[&str], asked: &str) -> Self {
        Self::at(NOW, zone, archive, size, officers, asked)
    }

    /// The same, taken at this time.
    pub fn at(
        now: UnixTime,
        zone: &str,
        archive: Digest32,
        size: u64,
        officers: &[&str],
        asked: &str,
    ) -> Self {
        let (root, act) = (
            SigningKey::generate().unwrap().0,
            SigningKey::generate().unwrap().0,
        );
        let statement = json!({
            "sam": "sam.example", "epoch": "e", "act": act.public(), "nbf": now.0 - 100, "exp": now.0 + 3600,
        });
        let statement = root
            .sign("natsuin-keys+jws", statement.to_string().as_bytes())
            .unwrap();
        let document = json!({
            "v": 1, "sam": "sam.example", "reason": "disks", "requester": {"officer": asked},
            "measure": {"measure": "delete-archived", "zone": zone, "archive": archive, "size": size},
        });
        let document = document.to_string();
        let proposal = sha256(&[document.as_bytes()]);
        let approvals: Vec<String> = officers
            .iter()
            .map(|who| approval(&act, &statement, proposal, who, now))
            .collect();
        let payload = json!({
            "v": 1, "sam": "sam.example", "epoch": "e", "proposal": proposal, "evidence": [],
            "officers": officers, "at": now.0 - 10, "exp": now.0 + 86_400,
        });
        let mut taken = Self {
            document,
            approvals,
            warrant: String::new(),
            statement,
            root: serde_json::to_string(root.public()).unwrap(),
            act: act.into(),
            payload,
        };
        taken.sign_evidence();
        taken
    }

    /// The warrant again, with a change.
    pub fn sign(&mut self, change: impl Fn(&mut Value)) {
        change(&mut self.payload);
        let payload = self.payload.to_string();
        let signed = self.act.sign("natsuin-warrant+jws", payload.as_bytes());
        self.warrant = signed.unwrap();
    }

    /// The warrant over the approvals that are there.
    pub fn sign_evidence(&mut self) {
        let names: Vec<_> = self
            .approvals
            .iter()
            .map(|text| sha256(&[text.as_bytes()]))
            .collect();
        self.sign(|w| w["evidence"] = json!(names));
    }

    /// The warrant over the document that is there.
    pub fn sign_document(&mut self) {
        let name = sha256(&[self.document.as_bytes()]);
        self.sign(|w| w["proposal"] = json!(name));
    }

    pub fn proposal(&self) -> String {
        sha256(&[self.document.as_bytes()]).to_string()
    }

    pub fn text(&self) -> String {
        json!({
            "document": self.document, "approvals": self.approvals,
            "warrant": self.warrant, "statement": self.statement,
        })
        .to_string()
    }
}

/// Evidence of an approval with a device key.
fn approval(
    act: &SigningKey,
    statement: &str,
    proposal: Digest32,
    who: &str,
    now: UnixTime,
) -> String {
    let device = SigningKey::generate().unwrap().0;
    let payload = json!({
        "kind": "officer", "sam": "sam.example", "tenant": "t", "epoch": "e", "policy": 1, "iat": now.0 - 60, "exp": now.0 + 240,
        "level": 2, "person": {"id": format!("officer.{who}"), "name": who}, "document": proposal,
        "what": "delete-archived", "text": "…", "needs": 2,
    });
    let jws = act
        .sign("natsuin-act+jws", payload.to_string().as_bytes())
        .unwrap();
    let digest = sha256(&[b"natsuin-act-v1\n", jws.as_bytes()]);
    let signature = device.sign_bytes(&digest.0).unwrap();
    json!({
        "evidence": "approval", "act": jws, "statement": statement, "at": now.0 - 50, "policy": 1,
        "clock": "synchronised", "software": "0.1.0", "made": null,
        "proof": {"method": "device", "act": digest, "sig": b64u(signature)},
        "factor": {"id": "f", "act": digest, "created": 1, "device": device.public()},
    })
    .to_string()
}
