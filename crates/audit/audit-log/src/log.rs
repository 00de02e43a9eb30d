//! The writer: rows in the caller's transaction, chained for each node.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use aws_lc_rs::hmac;
use core_types::bytes::b64u;
use core_types::{Digest32, PersonId, Random, SecretBytes, TenantId, UnixTime};
use jose::Jwk;
use serde::Serialize;
use store_kit::{Migration, Migrations, Store, StoreError, Tx, Written, sql, transaction};

use crate::event::{Class, Event, Outcome, Subject};
use crate::late::Late;
use crate::person::{ForgetError, Persons, check_over};
use crate::place;
use crate::restored::Restorers;

/// Tables of the log; give them to `Store::open` along with the zone's own.
pub const TABLES: Migrations = Migrations {
    component: "audit",
    steps: &[Migration {
        name: "0001-log",
        sqlite: "
            CREATE TABLE audit_head (node TEXT PRIMARY KEY, n BIGINT NOT NULL, mac BLOB NOT NULL);
            CREATE TABLE audit_entry (
                node TEXT NOT NULL, n BIGINT NOT NULL, at BIGINT NOT NULL, kind TEXT NOT NULL, person TEXT,
                body TEXT NOT NULL, leaf TEXT NOT NULL, mac BLOB NOT NULL, seq BIGINT, PRIMARY KEY (node, n)) WITHOUT ROWID;
            CREATE UNIQUE INDEX audit_entry_seq ON audit_entry (seq) WHERE seq IS NOT NULL;
            CREATE INDEX audit_entry_new ON audit_entry (node, n) WHERE seq IS NULL;
            CREATE INDEX audit_entry_at ON audit_entry (at);
            CREATE INDEX audit_entry_person ON audit_entry (person, at) WHERE person IS NOT NULL;
            CREATE TABLE audit_tree (id BIGINT PRIMARY KEY, version BIGINT NOT NULL, state TEXT NOT NULL, mac BLOB NOT NULL);
            CREATE TABLE audit_checkpoint (size BIGINT PRIMARY KEY, at BIGINT NOT NULL, note TEXT NOT NULL);",
        postgres: "
            CREATE TABLE audit_head (node TEXT PRIMARY KEY, n BIGINT NOT NULL, mac BYTEA NOT NULL) WITH (fillfactor = 50);
            CREATE TABLE audit_entry (
                node TEXT NOT NULL, n BIGINT NOT NULL, at BIGINT NOT NULL, kind TEXT NOT NULL, person TEXT,
                body TEXT NOT NULL, leaf TEXT NOT NULL, mac BYTEA NOT NULL, seq BIGINT, PRIMARY KEY (node, n));
            CREATE UNIQUE INDEX audit_entry_seq ON audit_entry (seq) WHERE seq IS NOT NULL;
            CREATE INDEX audit_entry_new ON audit_entry (node, n) WHERE seq IS NULL;
            CREATE INDEX audit_entry_at ON audit_entry (at);
            CREATE INDEX audit_entry_person ON audit_entry (person, at) WHERE person IS NOT NULL;
            CREATE TABLE audit_tree (id BIGINT PRIMARY KEY, version BIGINT NOT NULL, state TEXT NOT NULL, mac BYTEA NOT NULL);
            CREATE TABLE audit_checkpoint (size BIGINT PRIMARY KEY, at BIGINT NOT NULL, note TEXT NOT NULL);",
    },
    Migration {
        name: "0002-setting",
        sqlite: "CREATE TABLE audit_setting (node TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (node, name))",
        postgres: "CREATE TABLE audit_setting (node TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (node, name))",
    },
    Migration {
        name: "0003-subtree",
        sqlite: "CREATE TABLE audit_subtree (level BIGINT NOT NULL, n BIGINT NOT NULL, root TEXT NOT NULL, PRIMARY KEY (level, n)) WITHOUT ROWID",
        postgres: "CREATE TABLE audit_subtree (level BIGINT NOT NULL, n BIGINT NOT NULL, root TEXT NOT NULL, PRIMARY KEY (level, n))",
    },
    Migration {
        name: "0004-cosignature",
        sqlite: "
            CREATE TABLE audit_cosignature (size BIGINT NOT NULL, witness TEXT NOT NULL, line TEXT NOT NULL, PRIMARY KEY (size, witness)) WITHOUT ROWID;
            CREATE INDEX audit_cosignature_witness ON audit_cosignature (witness, size);",
        postgres: "
            CREATE TABLE audit_cosignature (size BIGINT NOT NULL, witness TEXT NOT NULL, line TEXT NOT NULL, PRIMARY KEY (size, witness));
            CREATE INDEX audit_cosignature_witness ON audit_cosignature (witness, size);",
    },
    Migration {
        name: "0005-search",
        sqlite: "
            CREATE TABLE audit_person (person TEXT PRIMARY KEY, alias TEXT NOT NULL, salt BLOB NOT NULL);
            CREATE UNIQUE INDEX audit_person_alias ON audit_person (alias);
            ALTER TABLE audit_entry ADD COLUMN key_id TEXT;
            UPDATE audit_entry SET key_id = json_extract(body, '$.detail.key');
            CREATE INDEX audit_entry_key ON audit_entry (key_id, at) WHERE key_id IS NOT NULL;
            CREATE INDEX audit_entry_kind ON audit_entry (kind, at);",
        postgres: "
            CREATE TABLE audit_person (person TEXT PRIMARY KEY, alias TEXT NOT NULL, salt BYTEA NOT NULL);
            CREATE UNIQUE INDEX audit_person_alias ON audit_person (alias);
            ALTER TABLE audit_entry ALTER COLUMN node TYPE TEXT COLLATE \"C\";
            ALTER TABLE audit_entry ADD COLUMN key_id TEXT;
            UPDATE audit_entry SET key_id = CAST(body AS json) -> 'detail' ->> 'key';
            CREATE INDEX audit_entry_key ON audit_entry (key_id, at, node, n) WHERE key_id IS NOT NULL;
            CREATE INDEX audit_entry_kind ON audit_entry (kind, at, node, n);",
    },
    Migration {
        name: "0006-cut",
        sqlite: "
            CREATE TABLE audit_cut (size BIGINT PRIMARY KEY, state TEXT NOT NULL, mac BLOB NOT NULL);
            CREATE TABLE audit_tile (n BIGINT PRIMARY KEY, hashes BLOB NOT NULL);
            CREATE TABLE audit_summary (part BIGINT PRIMARY KEY, body TEXT NOT NULL);
            ALTER TABLE audit_person ADD COLUMN seen BIGINT;",
        postgres: "
            CREATE TABLE audit_cut (size BIGINT PRIMARY KEY, state TEXT NOT NULL, mac BYTEA NOT NULL);
            CREATE TABLE audit_tile (n BIGINT PRIMARY KEY, hashes BYTEA NOT NULL);
            CREATE TABLE audit_summary (part BIGINT PRIMARY KEY, body TEXT NOT NULL);
            ALTER TABLE audit_person ADD COLUMN seen BIGINT;",
    },
    Migration {
        name: "0007-address",
        sqlite: "CREATE TABLE audit_address (alias TEXT NOT NULL, name TEXT NOT NULL, address TEXT NOT NULL, PRIMARY KEY (alias, name)) WITHOUT ROWID",
        postgres: "CREATE TABLE audit_address (alias TEXT NOT NULL, name TEXT NOT NULL, address TEXT NOT NULL, PRIMARY KEY (alias, name))",
    }],
};

/// Largest body of an entry in bytes, as entry bundles (C2SP tlog-tiles) have it; what is bigger lies beside the log, by
/// its digest.
const MAX_BODY: usize = u16::MAX as usize;

/// The audit log of one zone, as one node writes it. Cheap to clone.
#[derive(Clone)]
pub struct AuditLog {
    inner: Arc<Inner>,
    /// The tenant whose persons events name; nothing: the provider's own.
    tenant: Option<TenantId>,
}

struct Inner {
    zone: &'static str,
    node: String,
    persons: Persons,
    /// Table whose rows are named after persons.
    table: Option<&'static str>,
    /// Key of the zone's log; every node's chain key is derived from it, so that one sequencer can check all.
    key: SecretBytes,
    chain: hmac::Key,
    /// Number of the last entry that this process has seen committed.
    end: Arc<AtomicI64>,
    /// Thumbprints of keys that sign backups, once the zone has started.
    makers: OnceLock<Vec<Digest32>>,
    late: Late,
}

impl std::fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AuditLog({}, {})", self.inner.zone, self.inner.node)
    }
}

/// Place of an entry in its node's chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryRef {
    /// Node.
    pub node: String,
    /// Number, from 1 without gaps.
    pub n: i64,
    /// Leaf hash of the entry (RFC 6962 §2.1).
    pub leaf: Digest32,
}

impl AuditLog {
    /// The log of `zone` as `node` writes it. `key` is the zone's audit key (32 bytes, the same for all its nodes);
    /// `random` gives the salts of persons.
    pub fn new(zone: &'static str, node: &str, key: SecretBytes, random: Arc<dyn Random>) -> Self {
        Self::naming(zone, node, key, random, None)
    }

    /// The same for a zone that has a table of persons by id: entries name its rows by the persons' aliases, as everything
    /// that is about a person. [`row_of`](crate::row_of) finds such a row again.
    pub fn naming(
        zone: &'static str,
        node: &str,
        key: SecretBytes,
        random: Arc<dyn Random>,
        persons: Option<&'static str>,
    ) -> Self {
        let chain = chain_key(&key, node);
        let inner = Inner {
            zone,
            node: node.to_owned(),
            persons: Persons::new(random),
            table: persons,
            key,
            chain,
            end: Arc::default(),
            makers: OnceLock::new(),
            late: Late::default(),
        };
        Self {
            inner: Arc::new(inner),
            tenant: None,
        }
    }

    /// The same log for what happens within a tenant: its entries say so, and the persons they are about are the tenant's.
    #[must_use]
    pub fn within(&self, tenant: &TenantId) -> Self {
        Self {
            inner: self.inner.clone(),
            tenant: Some(tenant.clone()),
        }
    }

    fn name(&self, person: &PersonId) -> String {
        match &self.tenant {
            Some(tenant) => tenant.name(person.as_str()),
            None => person.to_string(),
        }
    }

    /// Records an event inside the caller's transaction: it becomes durable with the effect or not at all.
    ///
    /// # Errors
    /// [`StoreError`]; return it, so that nothing happens that isn't recorded.
    pub async fn append(
        &self,
        tx: &mut Tx,
        event: Event,
        now: UnixTime,
    ) -> Result<EntryRef, StoreError> {
        let mut written = self.append_all(tx, &[event], now).await?;
        written
            .pop()
            .ok_or(StoreError::Audit("nothing was written"))
    }

    /// Records several events in order, cheaper than one by one.
    ///
    /// # Errors
    /// As [`AuditLog::append`]; [`StoreError::Unplaced`] while the sequencer of this process doesn't get on.
    pub async fn append_all(
        &self,
        tx: &mut Tx,
        events: &[Event],
        now: UnixTime,
    ) -> Result<Vec<EntryRef>, StoreError> {
        match self.inner.late.is_late() {
            true => Err(StoreError::Unplaced),
            false => self.put(tx, events, now).await,
        }
    }

    /// The same for the sequencer itself, late or not.
    pub(crate) async fn put(
        &self,
        tx: &mut Tx,
        events: &[Event],
        now: UnixTime,
    ) -> Result<Vec<EntryRef>, StoreError> {
        let inner = &*self.inner;
        let mut written_rows = match events {
            [] => Vec::new(),
            _ => tx.take_unrecorded(),
        };
        for (_, id, _) in written_rows
            .iter_mut()
            .filter(|(table, ..)| inner.table == Some(*table))
        {
            let alias = inner.persons.alias(tx, id).await?;
            alias.as_str().clone_into(id);
        }
        let count = i64::try_from(events.len())
            .map_err(|_| StoreError::Audit("too many events at once"))?;
        let (last, mut mac) = self.take_numbers(tx, count).await?;
        // What has no place in the tree yet is vouched for by nobody else than who wrote it.
        if last < inner.end.load(Ordering::SeqCst) {
            return Err(StoreError::Audit("entries of this node were removed"));
        }
        let end = inner.end.clone();
        tx.when_committed(move || {
            end.fetch_max(last + count, Ordering::SeqCst);
        });
        let mut written = Vec::with_capacity(events.len());
        for (n, event) in (last + 1..).zip(events) {
            let event = match event.person() {
                Some(person) => {
                    let of = inner.persons.opening(tx, &self.name(person)).await?;
                    if let Some(address) = event.address() {
                        place::keep(tx, &of, address).await?;
                    }
                    &event.named(&of)
                }
                None => event,
            };
            // The last one tells which rows were written with all of them.
            let rows = if n == last + count {
                &written_rows[..]
            } else {
                &[]
            };
            let body = self.body(n, event, rows, now)?;
            mac = link(&inner.chain, &mac, &body);
            let leaf = crate::tree::leaf(body.as_bytes());
            let insert = "INSERT INTO audit_entry (node, n, at, kind, person, key_id, body, leaf, mac) \
                          VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
            let row = sql(insert)
                .bind(&inner.node)
                .bind(n)
                .bind(now.0)
                .bind(event.kind());
            let row = row
                .bind(event.person().map(|p| p.as_str()))
                .bind(event.key().map(|k| k.as_str()))
                .bind(&body)
                .bind(leaf.to_string());
            tx.execute(row.bind(mac.as_slice())).await?;
            written.push(EntryRef {
                node: inner.node.clone(),
                n,
                leaf,
            });
        }
        let update = "UPDATE audit_head SET mac = $1 WHERE node = $2 AND n = $3";
        tx.cas(
            sql(update)
                .bind(mac.as_slice())
                .bind(&inner.node)
                .bind(last + count),
        )
        .await?;
        Ok(written)
    }

    /// Reserves the next numbers. The update comes before any read, so concurrent writers of one node queue on the
    /// row's lock and each sees what the one before it left.
    async fn take_numbers(&self, tx: &mut Tx, count: i64) -> Result<(i64, Vec<u8>), StoreError> {
        let take = "UPDATE audit_head SET n = n + $1 WHERE node = $2 RETURNING n, mac";
        for _ in 0..2 {
            if let Some(row) = tx
                .fetch_optional(sql(take).bind(count).bind(&self.inner.node))
                .await?
            {
                return Ok((row.int("n")? - count, row.blob("mac")?));
            }
            let first = "INSERT INTO audit_head (node, n, mac) VALUES ($1, 0, $2) ON CONFLICT (node) DO NOTHING";
            let start = self.inner.chain_start();
            tx.execute(sql(first).bind(&self.inner.node).bind(start.as_slice()))
                .await?;
        }
        Err(StoreError::Audit("the head of the chain can't be made"))
    }

    /// Forgets which person an alias in the entries was: what the law of data protection asks for, once nothing else does.
    /// Entries, proofs and checkpoints stay as they are. Other nodes that run go on using the alias, which means nobody.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget(
        &self,
        tx: &mut Tx,
        person: &PersonId,
        by: Digest32,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let Some(alias) = self.inner.persons.forget(tx, &self.name(person)).await? else {
            return Ok(false);
        };
        let alias = Digest32::parse(alias.as_str());
        let alias = alias.map_err(|_| StoreError::Column("alias"))?;
        self.append(tx, Event::PersonForgotten { alias, by }, now)
            .await?;
        Ok(true)
    }

    /// The same, unless something was recorded about the person at `before` or later: then it has to be kept.
    ///
    /// # Errors
    /// [`ForgetError`].
    pub async fn forget_after(
        &self,
        tx: &mut Tx,
        person: &PersonId,
        by: Digest32,
        before: UnixTime,
        now: UnixTime,
    ) -> Result<bool, ForgetError> {
        check_over(tx, &self.name(person), before).await?;
        Ok(self.forget(tx, person, by, now).await?)
    }

    /// The same in a transaction of its own, for a zone that keeps nothing else of persons.
    ///
    /// # Errors
    /// [`ForgetError`].
    pub async fn forget_person(
        &self,
        store: &Store,
        person: &PersonId,
        by: Digest32,
        before: UnixTime,
        now: UnixTime,
    ) -> Result<bool, ForgetError> {
        transaction!(store, "audit-forget", |tx| {
            self.forget_after(tx, person, by, before, now).await
        })
    }

    fn body(
        &self,
        n: i64,
        event: &Event,
        rows: &[Written],
        now: UnixTime,
    ) -> Result<String, StoreError> {
        let body = Body {
            v: 1,
            zone: self.inner.zone,
            node: &self.inner.node,
            n,
            at: now,
            tenant: self.tenant.as_ref(),
            subject: subject_text(event.subject(), self.inner.zone),
            outcome: event.outcome(),
            rows,
            class: event.class(),
            event,
        };
        let text = serde_json::to_string(&body)
            .map_err(|_| StoreError::Audit("the event has no text form"))?;
        if text.len() > MAX_BODY {
            Err(StoreError::Audit("the event is too large"))
        } else {
            Ok(text)
        }
    }

    /// Takes note of who makes backups, as the zone's settings have it; only the first word counts. Commands that sequence without a
    /// start call it: a note that they enter is judged once, then or never.
    pub fn knows_makers(&self, restorers: &Restorers) {
        let makers = || restorers.backups.iter().map(Jwk::thumbprint).collect();
        self.inner.makers.get_or_init(makers);
    }

    /// Who makes backups; nobody until it was said, or if the zone's settings name nobody.
    pub(crate) fn makers(&self) -> &[Digest32] {
        self.inner.makers.get().map_or(&[], Vec::as_slice)
    }

    /// Whether its sequencer gets on.
    pub(crate) fn late(&self) -> &Late {
        &self.inner.late
    }

    /// Name of the node that writes.
    pub fn node(&self) -> &str {
        &self.inner.node
    }

    pub(crate) fn zone(&self) -> &'static str {
        self.inner.zone
    }

    pub(crate) fn key_of(&self, node: &str) -> hmac::Key {
        chain_key(&self.inner.key, node)
    }

    /// Key that authenticates the sequencer's own row.
    pub(crate) fn tree_key(&self) -> hmac::Key {
        hmac::Key::new(
            hmac::HMAC_SHA256,
            derive(&self.inner.key, "tree", "").as_ref(),
        )
    }

    /// Key that authenticates the settings of the last start.
    pub(crate) fn setting_key(&self) -> hmac::Key {
        let key = derive(&self.inner.key, "setting", "");
        hmac::Key::new(hmac::HMAC_SHA256, key.as_ref())
    }
}

impl Inner {
    fn chain_start(&self) -> Vec<u8> {
        start_of(&self.chain)
    }
}

/// What a chain starts from: a node's first entry can't be taken for another's.
pub(crate) fn start_of(chain: &hmac::Key) -> Vec<u8> {
    hmac::sign(chain, b"start").as_ref().to_vec()
}

/// MAC of the entry that follows the one with `previous`.
pub(crate) fn link(chain: &hmac::Key, previous: &[u8], body: &str) -> Vec<u8> {
    let mut context = hmac::Context::with_key(chain);
    context.update(previous);
    context.update(body.as_bytes());
    context.sign().as_ref().to_vec()
}

fn chain_key(key: &SecretBytes, node: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, derive(key, "node", node).as_ref())
}

fn derive(key: &SecretBytes, purpose: &str, name: &str) -> hmac::Tag {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
    hmac::sign(
        &key,
        format!("natsuin-audit-v1\n{purpose}\n{name}").as_bytes(),
    )
}

fn subject_text(subject: Subject<'_>, zone: &str) -> String {
    match subject {
        Subject::Person(id) => format!("person:{id}"),
        Subject::Client(id) => format!("client:{id}"),
        Subject::Authority(key) => format!("authority:{}", b64u(key)),
        Subject::Peer(name) => format!("peer:{name}"),
        Subject::Service => format!("service:{zone}"),
        Subject::Unknown => "unknown".to_owned(),
    }
}

/// Text of an entry; its bytes are the leaf of the Merkle tree.
#[derive(Serialize)]
struct Body<'e> {
    v: u8,
    zone: &'e str,
    node: &'e str,
    n: i64,
    at: UnixTime,
    /// Within which tenant; nothing: the provider's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'e TenantId>,
    subject: String,
    outcome: Outcome,
    /// Sealed rows that were written with this entry and those right before it: table, id, version.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    rows: &'e [Written],
    class: Class,
    #[serde(flatten)]
    event: &'e Event,
}
