//! Backup and restore of the module's keys.
//!
//! A backup is a file of lines: a head, the rows as the store has them, each sealed once more, and a tail with the
//! module's signature over all of it. Rows stay sealed under keys derived from the root secret, so that a backup is of use
//! only with that secret: on another machine with the shares of several persons (`shares`). Keys in a token are in
//! the token's own backup; here are their names and attributes.
//!
//! A restore takes a verified audit log beside the backup, which knows what happened since: destroyed keys stay
//! destroyed, counters go on from where they were, spent orders stay spent; what was refused is told.

use std::io::{BufRead, Write};

use audit_log::Event;
use core_types::bytes::{b64u, from_b64u};
use core_types::{Digest32, KeyId, Random, SecretBytes, UnixTime};
use jose::{Jwk, SigningKey};
use serde::{Deserialize, Serialize};
use store_kit::{Row, Sql, StoreError, Tx, sql};

use crate::mark;
use crate::module::Module;
use crate::prune::ORDERS_KEPT;
use crate::store::{self, Failed};
use crate::switch::{self, Switched};
use crate::vault::{RootSecret, Vault};

mod restore;
mod there;

pub use restore::{RestoreReport, Restoring, restore, target};

const FORMAT: &str = "natsuin-cm-backup/1";
/// `typ` of the signature over a backup.
const TYP_BACKUP: &str = "natsuin-backup+jws";
const PAGE: i64 = 500;
/// Name of the secret that is the module's root key.
const ROOT: &str = "root";
/// Longest line that is looked at: a sealed ML-DSA key with its attributes takes a tenth of it.
const LONGEST: u64 = 256 * 1024;

/// Why a backup isn't made or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Reading or writing the file.
    #[error("the file: {0}")]
    File(#[from] std::io::Error),
    /// The store.
    #[error("the store: {0}")]
    Store(#[from] StoreError),
    /// A row that doesn't open: it is not copied on.
    #[error("a row of the store doesn't open; run the comparison with the audit log first")]
    Tampered,
    /// Altered, cut off, or not a backup.
    #[error("the backup is not whole or was altered: {0}")]
    Malformed(&'static str),
    /// Made under another root secret.
    #[error("the root secret (or these shares) is not the one of this backup")]
    WrongRoot,
    /// There are keys in the store.
    #[error("the store isn't empty: a restore never overwrites keys")]
    NotEmpty,
    /// Two officers of the module have to approve it.
    #[error(
        "two officers of the module haven't approved the restore of this backup into this store"
    )]
    NotApproved,
    /// It names fewer than two officers.
    #[error(
        "this backup names fewer than two officers who could approve its restore; above level 1 it isn't restored"
    )]
    NoOfficers,
    /// The log doesn't belong to the backup.
    #[error("the audit log doesn't reach as far as the backup")]
    OldLog,
}

impl From<Failed> for BackupError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Store(error) => Self::Store(error),
            Failed::Refused(_) | Failed::Tampered => Self::Tampered,
        }
    }
}

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupReport {
    /// Name of the backup.
    pub id: Digest32,
    /// Made at.
    pub made: UnixTime,
    /// SHA-256 over head and rows.
    pub sha256: Digest32,
    /// Rows.
    pub rows: u64,
    /// Live keys among them.
    pub keys: u64,
    /// Officers of the module; two of them have to approve a restore. With fewer nobody has to, and above level 1 nothing is restored.
    #[serde(default)]
    pub officers: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: String,
    id: Digest32,
    made: UnixTime,
    sam: String,
    root: Jwk,
    /// Two of whom have to approve a restore, whatever the configuration says by then.
    #[serde(default)]
    officers: Vec<Jwk>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tail {
    end: String,
}

/// A row on its way. Key and secret rows are as in the store, sealed for their place.
#[derive(Serialize, Deserialize)]
#[serde(tag = "row", rename_all = "kebab-case", deny_unknown_fields)]
enum Item {
    Key {
        id: String,
        version: i64,
        attributes: String,
        sealed: core_types::B64,
    },
    Tombstone {
        id: String,
        version: i64,
        pending: i64,
        sealed: core_types::B64,
    },
    PublicKey {
        spki: String,
        key: String,
    },
    Secret {
        id: String,
        sealed: core_types::B64,
    },
    Order {
        id: String,
        at: i64,
    },
    Switch {
        serial: u64,
        enabled: bool,
    },
    Mark {
        id: String,
        version: i64,
        sealed: core_types::B64,
    },
    Approval {
        id: String,
        at: i64,
        sealed: core_types::B64,
    },
}

impl Module {
    /// Writes a backup of all keys as they are at one moment, recorded in the audit log before its last line. What happens to them
    /// meanwhile, the log says to a restore. Blocks on file writes: not for a serving task.
    ///
    /// # Errors
    /// [`BackupError`]; then the file has no valid end and is refused by a restore.
    pub async fn backup(&self, out: &mut (dyn Write + Send)) -> Result<BackupReport, BackupError> {
        let (made, id) = (self.clock.now(), self.random.digest32());
        let head = Head {
            format: FORMAT.to_owned(),
            id,
            made,
            sam: self.config.sam.clone(),
            root: self.root().clone(),
            officers: self.config.officers.clone(),
        };
        let mut writer = Writer {
            out,
            vault: &self.vault,
            random: self.random.as_ref(),
            id,
            context: aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256),
            rows: 0,
        };
        writer.line(&serde_json::to_string(&head).map_err(|_| BackupError::Malformed("head"))?)?;
        let mut keys = 0;
        let mut after = String::new();
        // One snapshot for all of it: a key that is destroyed meanwhile isn't in it twice, as a key and as a tombstone.
        let mut tx = self.store.read("cm-backup").await?;
        let query =
            "SELECT id, version, attributes, sealed FROM cm_key WHERE id > $1 ORDER BY id LIMIT $2";
        while let Some(rows) = page(&mut tx, sql(query), "id", &mut after).await? {
            for row in &rows {
                let (id, version, attributes) = (
                    row.text("id")?,
                    row.int("version")?,
                    row.text("attributes")?,
                );
                let sealed = row.blob("sealed")?;
                // A row that doesn't open is not carried on as if it were good.
                let key = KeyId::parse(id.as_str()).map_err(|_| BackupError::Tampered)?;
                store::open_key(&self.vault, &key, version, &attributes, &sealed)?;
                keys += 1;
                writer.item(&Item::Key {
                    id,
                    version,
                    attributes,
                    sealed: core_types::B64(sealed),
                })?;
            }
        }
        self.rest(&mut tx, &mut writer, made).await?;
        drop(tx);
        let (rows, digest) = (writer.rows, writer.digest());
        let report = BackupReport {
            id,
            made,
            sha256: digest,
            rows,
            keys,
            officers: self.in_office.persons,
        };
        let event = Event::BackupMade {
            backup: id,
            rows,
            digest,
        };
        self.record(event).await.map_err(|_| {
            BackupError::Store(StoreError::Audit("the backup couldn't be recorded"))
        })?;
        let payload = serde_json::to_vec(&report).map_err(|_| BackupError::Malformed("tail"))?;
        let end = self
            .root
            .sign(TYP_BACKUP, &payload)
            .map_err(|_| BackupError::Malformed("tail"))?;
        let tail =
            serde_json::to_string(&Tail { end }).map_err(|_| BackupError::Malformed("tail"))?;
        writer.out.write_all(tail.as_bytes())?;
        writer.out.write_all(b"\n")?;
        writer.out.flush()?;
        Ok(report)
    }

    /// Tombstones, public keys, what officers approved, the module's own secrets, and the orders of the last day.
    async fn rest(
        &self,
        tx: &mut Tx,
        writer: &mut Writer<'_>,
        made: UnixTime,
    ) -> Result<(), BackupError> {
        let mut after = String::new();
        let query = "SELECT id, version, pending, sealed FROM cm_tombstone WHERE id > $1 ORDER BY id LIMIT $2";
        while let Some(rows) = page(tx, sql(query), "id", &mut after).await? {
            for row in &rows {
                writer.item(&Item::Tombstone {
                    id: row.text("id")?,
                    version: row.int("version")?,
                    pending: row.int("pending")?,
                    sealed: core_types::B64(row.blob("sealed")?),
                })?;
            }
        }
        let mut after = String::new();
        let query = "SELECT spki, key FROM cm_public_key WHERE spki > $1 ORDER BY spki LIMIT $2";
        while let Some(rows) = page(tx, sql(query), "spki", &mut after).await? {
            for row in &rows {
                let (spki, key) = (row.text("spki")?, row.text("key")?);
                writer.item(&Item::PublicKey { spki, key })?;
            }
        }
        let mut after = String::new();
        let query = "SELECT id, at, sealed FROM cm_approval WHERE id > $1 ORDER BY id LIMIT $2";
        while let Some(rows) = page(tx, sql(query), "id", &mut after).await? {
            for row in &rows {
                writer.item(&Item::Approval {
                    id: row.text("id")?,
                    at: row.int("at")?,
                    sealed: core_types::B64(row.blob("sealed")?),
                })?;
            }
        }
        let (Switched { serial, enabled }, _) = switch::read(tx, &self.vault).await?;
        writer.item(&Item::Switch { serial, enabled })?;
        for (id, version, sealed) in mark::all(tx).await? {
            writer.item(&Item::Mark {
                id,
                version,
                sealed,
            })?;
        }
        for row in tx
            .fetch_all(sql("SELECT id, sealed FROM cm_secret ORDER BY id"))
            .await?
        {
            writer.item(&Item::Secret {
                id: row.text("id")?,
                sealed: core_types::B64(row.blob("sealed")?),
            })?;
        }
        let mut after = String::new();
        let orders = || {
            let query =
                "SELECT id, at FROM cm_order WHERE at >= $1 AND id > $2 ORDER BY id LIMIT $3";
            sql(query).bind(made.0 - ORDERS_KEPT)
        };
        while let Some(rows) = page(tx, orders(), "id", &mut after).await? {
            for row in &rows {
                let (id, at) = (row.text("id")?, row.int("at")?);
                writer.item(&Item::Order { id, at })?;
            }
        }
        Ok(())
    }
}

/// The next rows after `after`, which is the last one's `key` then; nothing at the end. The statement wants that and a number.
async fn page(
    tx: &mut Tx,
    query: Sql<'_>,
    key: &'static str,
    after: &mut String,
) -> Result<Option<Vec<Row>>, BackupError> {
    let query = query.bind(after.as_str()).bind(PAGE);
    let rows = tx.fetch_all(query).await?;
    let Some(last) = rows.last() else {
        return Ok(None);
    };
    *after = last.text(key)?;
    Ok(Some(rows))
}

struct Writer<'w> {
    out: &'w mut (dyn Write + Send),
    vault: &'w Vault,
    random: &'w dyn Random,
    id: Digest32,
    context: aws_lc_rs::digest::Context,
    rows: u64,
}

impl Writer<'_> {
    fn line(&mut self, text: &str) -> Result<(), BackupError> {
        for part in [text.as_bytes(), b"\n"] {
            self.context.update(part);
            self.out.write_all(part)?;
        }
        Ok(())
    }

    fn item(&mut self, item: &Item) -> Result<(), BackupError> {
        self.rows += 1;
        let json = serde_json::to_vec(item).map_err(|_| BackupError::Malformed("row"))?;
        let sealed = self.vault.seal_backup(
            &SecretBytes::new(json),
            &place(self.id, self.rows),
            self.random,
        );
        let sealed = sealed.map_err(|_| BackupError::Malformed("row"))?;
        self.line(&b64u(sealed))
    }

    fn digest(&self) -> Digest32 {
        digest(self.context.clone())
    }
}

fn digest(context: aws_lc_rs::digest::Context) -> Digest32 {
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    Digest32(out)
}

fn place(id: Digest32, row: u64) -> Vec<u8> {
    format!("{FORMAT}\n{id}\n{row}").into_bytes()
}

/// Checks a backup to its last line: whole, unaltered, and of this root secret. Nothing is written.
///
/// # Errors
/// [`BackupError`].
pub fn check(from: &mut dyn BufRead, root: &RootSecret) -> Result<BackupReport, BackupError> {
    let vault = Vault::new(root).map_err(|_| BackupError::WrongRoot)?;
    Ok(read(from, &vault, |_| Ok(()))?.1)
}

/// Reads a backup line by line, and answers its head and what its end says; gives out rows before the signature at its end is seen, so that the caller must check
/// first what it is going to believe.
fn read(
    from: &mut dyn BufRead,
    vault: &Vault,
    mut each: impl FnMut(Item) -> Result<(), BackupError>,
) -> Result<(Head, BackupReport), BackupError> {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let first = line(from)?.ok_or(BackupError::Malformed("it is empty"))?;
    let head: Head = serde_json::from_str(&first).map_err(|_| BackupError::Malformed("head"))?;
    if head.format != FORMAT {
        return Err(BackupError::Malformed("another format"));
    }
    context.update(first.as_bytes());
    context.update(b"\n");
    let (mut rows, mut root_seen) = (0, false);
    loop {
        let text = line(from)?.ok_or(BackupError::Malformed("its end is missing"))?;
        if text.starts_with('{') {
            let tail: Tail =
                serde_json::from_str(&text).map_err(|_| BackupError::Malformed("end"))?;
            let payload = jose::verify(&tail.end, TYP_BACKUP, &head.root)
                .map_err(|_| BackupError::Malformed("the signature at its end"))?;
            let told: BackupReport =
                serde_json::from_slice(&payload).map_err(|_| BackupError::Malformed("end"))?;
            let whole = told.id == head.id
                && told.made == head.made
                && told.rows == rows
                && told.sha256 == digest(context);
            // The key in the head is only claimed until it is found among the rows, which nobody can seal who hasn't the
            // root secret.
            if !root_seen {
                return Err(BackupError::Malformed("the module's root key is missing"));
            }
            if !whole || line(from)?.is_some() {
                return Err(BackupError::Malformed("rows are missing, added or altered"));
            }
            return Ok((head, told));
        }
        context.update(text.as_bytes());
        context.update(b"\n");
        rows += 1;
        let sealed = from_b64u(&text).map_err(|_| BackupError::Malformed("row"))?;
        let json = vault.open_backup(&sealed, &place(head.id, rows));
        let json = json.map_err(|_| {
            if rows == 1 {
                BackupError::WrongRoot
            } else {
                BackupError::Malformed("a row was altered or moved")
            }
        })?;
        let item = serde_json::from_slice(json.expose());
        let item = item.map_err(|_| BackupError::Malformed("row"))?;
        if let Item::Secret { id, sealed } = &item
            && id == ROOT
        {
            if *root_key(vault, &sealed.0)?.public() != head.root {
                return Err(BackupError::Malformed(
                    "another key than the module's root key",
                ));
            }
            root_seen = true;
        }
        each(item)?;
    }
}

fn root_key(vault: &Vault, sealed: &[u8]) -> Result<SigningKey, BackupError> {
    let pkcs8 = store::open_secret(vault, ROOT, sealed)?;
    SigningKey::from_pkcs8(&pkcs8).map_err(|_| BackupError::Malformed("the module's root key"))
}

fn line(from: &mut dyn BufRead) -> Result<Option<String>, BackupError> {
    let mut text = String::new();
    let mut limited = std::io::Read::take(&mut *from, LONGEST);
    if limited.read_line(&mut text)? == 0 {
        return Ok(None);
    }
    if text.pop() != Some('\n') {
        return Err(BackupError::Malformed("a line without its end"));
    }
    Ok(Some(text))
}
