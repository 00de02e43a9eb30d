//! Rows of the module: sealed keys, executed orders, its own secrets.

use cm_api::{Order, OrderBody, OrderKind, Refusal};
use core_types::{Digest32, KeyId, Random, SecretBytes, UnixTime};
use store_kit::{Migration, Migrations, StoreError, Tx, sql, update_lock};

use crate::attributes::KeyAttributes;
use crate::vault::Vault;

pub(crate) const TABLES: Migrations = Migrations {
    component: "cm",
    steps: &[
        Migration {
            name: "0001-key",
            sqlite: "CREATE TABLE cm_key (id TEXT PRIMARY KEY, version BIGINT NOT NULL, attributes TEXT NOT NULL, \
                     sealed BLOB NOT NULL)",
            postgres: "CREATE TABLE cm_key (id TEXT PRIMARY KEY, version BIGINT NOT NULL, attributes TEXT NOT NULL, \
                       sealed BYTEA NOT NULL)",
        },
        Migration {
            name: "0002-order",
            sqlite: "CREATE TABLE cm_order (id TEXT PRIMARY KEY, at BIGINT NOT NULL)",
            postgres: "CREATE TABLE cm_order (id TEXT PRIMARY KEY, at BIGINT NOT NULL)",
        },
        Migration {
            name: "0003-secret",
            sqlite: "CREATE TABLE cm_secret (id TEXT PRIMARY KEY, sealed BLOB NOT NULL)",
            postgres: "CREATE TABLE cm_secret (id TEXT PRIMARY KEY, sealed BYTEA NOT NULL)",
        },
        Migration {
            name: "0004-public-key",
            sqlite: "CREATE TABLE cm_public_key (spki TEXT PRIMARY KEY, key TEXT NOT NULL)",
            postgres: "CREATE TABLE cm_public_key (spki TEXT PRIMARY KEY, key TEXT NOT NULL)",
        },
        Migration {
            name: "0005-tombstone",
            sqlite: "CREATE TABLE cm_tombstone (id TEXT PRIMARY KEY, version BIGINT NOT NULL, pending BIGINT NOT NULL, \
                     sealed BLOB NOT NULL)",
            postgres: "CREATE TABLE cm_tombstone (id TEXT PRIMARY KEY, version BIGINT NOT NULL, pending BIGINT NOT NULL, \
                       sealed BYTEA NOT NULL)",
        },
        Migration {
            name: "0006-switch",
            sqlite: "CREATE TABLE cm_switch (id BIGINT PRIMARY KEY, version BIGINT NOT NULL, sealed BLOB NOT NULL)",
            postgres: "CREATE TABLE cm_switch (id BIGINT PRIMARY KEY, version BIGINT NOT NULL, sealed BYTEA NOT NULL)",
        },
        Migration {
            name: "0007-order-nothing",
            sqlite: "ALTER TABLE cm_order ADD COLUMN came_to_nothing BIGINT NOT NULL DEFAULT 0",
            postgres: "ALTER TABLE cm_order ADD COLUMN came_to_nothing BIGINT NOT NULL DEFAULT 0",
        },
        Migration {
            name: "0008-mark",
            sqlite: "CREATE TABLE cm_mark (id TEXT PRIMARY KEY, version BIGINT NOT NULL, sealed BLOB NOT NULL)",
            postgres: "CREATE TABLE cm_mark (id TEXT PRIMARY KEY, version BIGINT NOT NULL, sealed BYTEA NOT NULL)",
        },
        Migration {
            name: "0009-order-at",
            sqlite: "CREATE INDEX cm_order_at ON cm_order (at)",
            postgres: "CREATE INDEX cm_order_at ON cm_order (at)",
        },
        Migration {
            name: "0010-approval",
            sqlite: "CREATE TABLE cm_approval (id TEXT PRIMARY KEY, at BIGINT NOT NULL, sealed BLOB NOT NULL)",
            postgres: "CREATE TABLE cm_approval (id TEXT PRIMARY KEY, at BIGINT NOT NULL, sealed BYTEA NOT NULL)",
        },
    ],
};

/// Why a transaction of the module ended.
#[derive(Debug)]
pub(crate) enum Failed {
    /// A decision.
    Refused(Refusal),
    /// The store, or the audit log in it.
    Store(StoreError),
    /// A row that isn't what this module sealed.
    Tampered,
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// A key's row, opened.
#[derive(Debug)]
pub(crate) struct KeyRow {
    pub(crate) row_version: i64,
    pub(crate) attributes: KeyAttributes,
    pub(crate) material: SecretBytes,
}

fn place(id: &str, row_version: i64, attributes: &str) -> Vec<u8> {
    format!("natsuin-cm-key-v1\n{id}\n{row_version}\n{attributes}").into_bytes()
}

fn text(attributes: &KeyAttributes) -> Result<String, Failed> {
    serde_json::to_string(attributes).map_err(|_| Failed::Tampered)
}

/// Remembers a public key for good; answers whether it was new. A generator that makes one key twice is broken.
pub(crate) async fn first_of_its_kind(
    tx: &mut Tx,
    spki: Digest32,
    key: &str,
) -> Result<bool, StoreError> {
    let query = sql("INSERT INTO cm_public_key (spki, key) VALUES ($1, $2) ON CONFLICT DO NOTHING");
    Ok(tx.execute(query.bind(spki.to_string()).bind(key)).await? == 1)
}

/// The key that has or had this public half, as the table has it.
pub(crate) async fn holder(tx: &mut Tx, spki: Digest32) -> Result<Option<String>, StoreError> {
    let query = sql("SELECT key FROM cm_public_key WHERE spki = $1").bind(spki.to_string());
    let row = tx.fetch_optional(query).await?;
    row.map(|row| row.text("key")).transpose()
}

/// Has the table say whose public half this is.
pub(crate) async fn hold(tx: &mut Tx, spki: Digest32, key: &str) -> Result<(), StoreError> {
    let query = sql("UPDATE cm_public_key SET key = $1 WHERE spki = $2").bind(key);
    tx.execute(query.bind(spki.to_string())).await.map(drop)
}

/// The key that has or had this public half.
pub(crate) async fn known_key(tx: &mut Tx, spki: Digest32) -> Result<Option<KeyId>, Failed> {
    let holder = holder(tx, spki).await?.map(KeyId::parse);
    holder.transpose().map_err(|_| Failed::Tampered)
}

pub(crate) async fn insert_key(
    tx: &mut Tx,
    vault: &Vault,
    random: &dyn Random,
    attributes: &KeyAttributes,
    material: &SecretBytes,
) -> Result<(), Failed> {
    insert_key_at(tx, vault, random, attributes, material, 1).await
}

/// A row in a version of its own, as a restore makes it.
pub(crate) async fn insert_key_at(
    tx: &mut Tx,
    vault: &Vault,
    random: &dyn Random,
    attributes: &KeyAttributes,
    material: &SecretBytes,
    row_version: i64,
) -> Result<(), Failed> {
    let id = attributes.key.as_str();
    let json = text(attributes)?;
    let sealed = vault
        .seal(material, &place(id, row_version, &json), random)
        .map_err(|_| Failed::Tampered)?;
    let query = "INSERT INTO cm_key (id, version, attributes, sealed) VALUES ($1, $2, $3, $4)";
    let query = sql(query).bind(id).bind(row_version).bind(json);
    tx.execute(query.bind(sealed)).await?;
    Ok(())
}

/// Has others wait who change this row, until this transaction ends; for keys that many orders use at one time. To be called before
/// the row is read and before anything is recorded.
pub(crate) async fn lock_key(tx: &mut Tx, key: &KeyId) -> Result<(), StoreError> {
    let lock = update_lock!(tx, "SELECT version FROM cm_key WHERE id = $1");
    tx.fetch_optional(lock.bind(key.as_str())).await.map(drop)
}

pub(crate) async fn load_key(tx: &mut Tx, vault: &Vault, key: &KeyId) -> Result<KeyRow, Failed> {
    let query = sql(
        "SELECT k.version, k.attributes, k.sealed, t.id AS gone FROM cm_key k \
                     LEFT JOIN cm_tombstone t ON t.id = k.id WHERE k.id = $1",
    );
    let row = tx.fetch_optional(query.bind(key.as_str())).await?;
    let row = row.ok_or(Refusal::NoSuchKey)?;
    if row.maybe_text("gone")?.is_some() {
        // Somebody put the row of a destroyed key back.
        return Err(Failed::Tampered);
    }
    let (row_version, json) = (row.int("version")?, row.text("attributes")?);
    open_key(vault, key, row_version, &json, &row.blob("sealed")?)
}

/// Opens a row. Its parts must be the ones that were sealed together.
pub(crate) fn open_key(
    vault: &Vault,
    key: &KeyId,
    row_version: i64,
    json: &str,
    sealed: &[u8],
) -> Result<KeyRow, Failed> {
    let place = place(key.as_str(), row_version, json);
    let material = vault.open(sealed, &place).map_err(|_| Failed::Tampered)?;
    let attributes: KeyAttributes = serde_json::from_str(json).map_err(|_| Failed::Tampered)?;
    if attributes.key != *key {
        return Err(Failed::Tampered);
    }
    Ok(KeyRow {
        row_version,
        attributes,
        material,
    })
}

/// Writes the successor of a row: sealed anew with the next version, compare-and-swap (`sap.md` R6).
pub(crate) async fn update_key(
    tx: &mut Tx,
    vault: &Vault,
    random: &dyn Random,
    old: &KeyRow,
    attributes: &KeyAttributes,
) -> Result<(), Failed> {
    replace_key(tx, vault, random, old, attributes, &old.material).await
}

/// [`update_key`] with other material too, as wrapping anew gives.
pub(crate) async fn replace_key(
    tx: &mut Tx,
    vault: &Vault,
    random: &dyn Random,
    old: &KeyRow,
    attributes: &KeyAttributes,
    material: &SecretBytes,
) -> Result<(), Failed> {
    let (id, next) = (attributes.key.as_str(), old.row_version + 1);
    let json = text(attributes)?;
    let sealed = vault
        .seal(material, &place(id, next, &json), random)
        .map_err(|_| Failed::Tampered)?;
    tx.cas(
        sql("UPDATE cm_key SET version = $1, attributes = $2, sealed = $3 WHERE id = $4 AND version = $5")
            .bind(next)
            .bind(json)
            .bind(sealed)
            .bind(id)
            .bind(old.row_version),
    )
    .await?;
    Ok(())
}

/// Deletes the row of a key that is destroyed, in the version that was read.
pub(crate) async fn delete_key(tx: &mut Tx, row: &KeyRow) -> Result<(), Failed> {
    let query = sql("DELETE FROM cm_key WHERE id = $1 AND version = $2");
    let query = query
        .bind(row.attributes.key.as_str())
        .bind(row.row_version);
    Ok(tx.cas(query).await?)
}

/// Takes the name of an order, for as long as it could be admitted again, and with it those of all earlier attempts: one that was refused before it got
/// here must not be good later. A later attempt is good only if it is certain here that the earlier ones signed nothing,
/// whatever the SAM believes. The second barrier against double signing (`sap.md` §7).
pub(crate) async fn take_order(
    tx: &mut Tx,
    order: &OrderBody,
    now: UnixTime,
) -> Result<(), Failed> {
    if !take_name(tx, order.order, now).await? {
        return Err(Refusal::Duplicate.into());
    }
    if let OrderKind::Sign {
        act, step, attempt, ..
    } = &order.kind
    {
        for earlier in 0..*attempt {
            let name = Order::name(*act, *step, earlier);
            if !take_name(tx, name, now).await? && !made_nothing(tx, name).await? {
                return Err(Refusal::Duplicate.into());
            }
        }
    }
    Ok(())
}

/// Notes that of an order that was taken nothing came.
pub(crate) async fn note_nothing(tx: &mut Tx, order: Digest32) -> Result<(), StoreError> {
    let query = sql("UPDATE cm_order SET came_to_nothing = 1 WHERE id = $1");
    tx.execute(query.bind(order.to_string())).await.map(drop)
}

async fn made_nothing(tx: &mut Tx, order: Digest32) -> Result<bool, StoreError> {
    let query = sql("SELECT came_to_nothing FROM cm_order WHERE id = $1");
    let row = tx.fetch_one(query.bind(order.to_string())).await?;
    Ok(row.int("came_to_nothing")? == 1)
}

/// Whether the name was free.
pub(crate) async fn take_name(
    tx: &mut Tx,
    name: Digest32,
    now: UnixTime,
) -> Result<bool, StoreError> {
    let query = sql("INSERT INTO cm_order (id, at) VALUES ($1, $2) ON CONFLICT DO NOTHING");
    let query = query.bind(name.to_string()).bind(now.0);
    Ok(tx.execute(query).await? == 1)
}

/// A secret of the module itself: read, or made once and kept.
pub(crate) async fn secret(
    tx: &mut Tx,
    vault: &Vault,
    random: &dyn Random,
    id: &'static str,
    fresh: &SecretBytes,
) -> Result<SecretBytes, Failed> {
    let sealed = vault
        .seal(fresh, &secret_place(id), random)
        .map_err(|_| Failed::Tampered)?;
    tx.execute(
        sql("INSERT INTO cm_secret (id, sealed) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(id)
            .bind(sealed),
    )
    .await?;
    let row = tx
        .fetch_one(sql("SELECT sealed FROM cm_secret WHERE id = $1").bind(id))
        .await?;
    open_secret(vault, id, &row.blob("sealed")?)
}

/// Opens a secret of the module itself.
pub(crate) fn open_secret(vault: &Vault, id: &str, sealed: &[u8]) -> Result<SecretBytes, Failed> {
    let opened = vault.open(sealed, &secret_place(id));
    opened.map_err(|_| Failed::Tampered)
}

fn secret_place(id: &str) -> Vec<u8> {
    format!("natsuin-cm-secret-v1\n{id}").into_bytes()
}
