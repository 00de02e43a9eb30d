//! Tables and the one way to write them: read, check the seal and that no newer version was seen, compute the successor, seal with `version + 1`,
//! compare and swap (`sap.md` R6). Index columns are for finding; decisions read the sealed copy only.

mod owned;
mod walk;

use std::borrow::Cow;

use core_types::{TenantId, UnixTime};
use serde::Serialize;
use serde::de::DeserializeOwned;
use store_kit::{
    Dialect, Migration, Migrations, Row as SqlRow, Seen, StoreError, Tx, share_lock, sql,
};

use crate::failed::Failed;
use crate::records::{KeyRecord, PersonRecord};
use crate::sealer::{self, Sealer};

pub(crate) use owned::{all_readable, by_owner, keys_of, readable_by_owner, remove, remove_owned};
pub(crate) use walk::{ACTIVE, DOOMED, LEAVING, SPENT, SUSPENDED, TAKEN, WATCHED, Walk};

/// Rows that are read in one go.
pub(crate) const BATCH: i64 = 200;

/// Tables of the SAM, with those of its audit log, for opening its store.
pub const MIGRATIONS: &[Migrations] = &[TABLES, audit_log::TABLES];

macro_rules! table {
    ($name:literal, $bytes:literal) => {
        concat!(
            "CREATE TABLE ", $name, " (id TEXT PRIMARY KEY, version BIGINT NOT NULL, sealed ", $bytes,
            " NOT NULL, owner TEXT NOT NULL, link TEXT NOT NULL, state TEXT NOT NULL, stamp BIGINT NOT NULL);",
        )
    };
}

macro_rules! tables {
    ($bytes:literal) => {
        concat!(
            table!("keyring", $bytes),
            table!("person", $bytes),
            table!("factor", $bytes),
            table!("signing_key", $bytes),
            table!("voucher", $bytes),
            table!("request", $bytes),
            table!("act", $bytes),
            table!("result", $bytes),
            // Only what is asked for: each index is written along with its row.
            "CREATE INDEX factor_owner ON factor (owner);",
            "CREATE INDEX signing_key_owner ON signing_key (owner);",
            "CREATE INDEX signing_key_link ON signing_key (link);",
            "CREATE INDEX request_owner ON request (owner, link, state, stamp);",
            "CREATE INDEX request_stamp ON request (stamp);",
            "CREATE INDEX act_link ON act (link);",
            "CREATE INDEX act_stamp ON act (stamp);",
            "CREATE INDEX act_taken ON act (stamp) WHERE state = 'taken';",
            "CREATE INDEX result_stamp ON result (stamp);",
            // A credential id belongs to one person, ever.
            "CREATE UNIQUE INDEX factor_credential ON factor (link);",
            "CREATE TABLE act_text (id TEXT PRIMARY KEY, jws TEXT NOT NULL);",
            "CREATE TABLE evidence (id TEXT PRIMARY KEY, body ",
            $bytes,
            " NOT NULL);",
            "CREATE TABLE row_key (id BIGINT PRIMARY KEY, wrapped ",
            $bytes,
            " NOT NULL);",
        )
    };
}

/// Officers. A person's roles are one word in one row, so that the constraint holds against every way of assigning, also
/// two at once (`I-7.1.1.4`, `I-7.1.1.6`, `I-7.1.1.7`); words as in `sam_core::office::roles`.
macro_rules! office {
    ($bytes:literal) => {
        concat!(
            table!("office_genesis", $bytes),
            "CREATE TABLE office_person (id TEXT PRIMARY KEY, version BIGINT NOT NULL, sealed ", $bytes,
            " NOT NULL, owner TEXT NOT NULL, link TEXT NOT NULL, state TEXT NOT NULL CHECK (state IN ('none', ",
            "'security-officer', 'system-administrator', 'system-operator', 'system-auditor', ",
            "'administrator-and-operator')), stamp BIGINT NOT NULL);",
            // One human is one officer, ever.
            "CREATE UNIQUE INDEX office_person_identity ON office_person (link);",
            "CREATE TABLE office_account (id TEXT PRIMARY KEY CHECK (substr(id, 1, 8) = 'officer.'), version BIGINT NOT NULL, sealed ",
            $bytes,
            " NOT NULL, owner TEXT NOT NULL, link TEXT NOT NULL, state TEXT NOT NULL, stamp BIGINT NOT NULL);",
            "CREATE INDEX office_account_owner ON office_account (owner);",
            table!("office_proposal", $bytes),
            "CREATE INDEX office_proposal_state ON office_proposal (state, stamp);",
            "CREATE INDEX office_proposal_stamp ON office_proposal (stamp);",
            table!("office_session", $bytes),
            "CREATE INDEX office_session_stamp ON office_session (stamp);",
        )
    };
}

/// No privileged account is a signer's or owns a signer's key (`I-7.1.1.5`).
macro_rules! apart {
    ($table:literal, $column:literal, $event:literal) => {
        concat!(
            "CREATE TRIGGER ",
            $table,
            "_",
            $event,
            "_apart BEFORE ",
            $event,
            " ON ",
            $table,
            " WHEN substr(NEW.",
            $column,
            ", 1, 8) = 'officer.' ",
            "BEGIN SELECT RAISE(ABORT, 'a privileged account can not be a signer'); END;",
        )
    };
}

/// Notices to signers that wait.
macro_rules! notices {
    ($bytes:literal) => {
        concat!(
            table!("notice", $bytes),
            "CREATE INDEX notice_stamp ON notice (stamp);",
        )
    };
}

/// Maintenance and the console look for keys in a state whose time has come.
const KEYS_BY_STATE: &str = "CREATE INDEX signing_key_state ON signing_key (state, stamp);";

const TABLES: Migrations = Migrations {
    component: "sam",
    steps: &[
        Migration {
            name: "0001-sam",
            sqlite: tables!("BLOB"),
            postgres: tables!("BYTEA"),
        },
        Migration {
            name: "0002-office",
            sqlite: concat!(
                office!("BLOB"),
                apart!("person", "id", "INSERT"),
                apart!("person", "id", "UPDATE"),
                apart!("signing_key", "owner", "INSERT"),
                apart!("signing_key", "owner", "UPDATE"),
            ),
            postgres: concat!(
                office!("BYTEA"),
                "ALTER TABLE person ADD CONSTRAINT person_apart CHECK (substr(id, 1, 8) <> 'officer.');",
                "ALTER TABLE signing_key ADD CONSTRAINT signing_key_apart CHECK (substr(owner, 1, 8) <> 'officer.');",
            ),
        },
        Migration {
            name: "0003-settings",
            sqlite: table!("settings", "BLOB"),
            postgres: table!("settings", "BYTEA"),
        },
        Migration {
            name: "0004-notices",
            sqlite: notices!("BLOB"),
            postgres: notices!("BYTEA"),
        },
        Migration {
            name: "0005-keys-by-state",
            sqlite: KEYS_BY_STATE,
            postgres: KEYS_BY_STATE,
        },
        Migration {
            name: "0006-standing",
            sqlite: table!("standing", "BLOB"),
            postgres: table!("standing", "BYTEA"),
        },
    ],
};

/// Statements of one table, and what its index columns hold.
pub(crate) trait Noun: Serialize + DeserializeOwned + Clone + Send + Sync {
    const TABLE: &'static str;
    const SELECT: &'static str;
    /// Rows after an id, in the order of ids, with their index columns.
    const PAGE: &'static str;
    const BY_LINK: &'static str;
    /// Rows of a person after a place among them.
    const BY_OWNER: &'static str;
    const IDS: &'static str;
    /// The beginning of a row, which says whose it is.
    const HEAD: &'static str;
    const INSERT: &'static str;
    const UPDATE: &'static str;
    /// For a successor with the same columns, whose indexes then need no writing.
    const UPDATE_SEALED: &'static str;
    const DELETE: &'static str;

    fn columns(&self) -> Columns;
}

/// Index columns of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Columns {
    /// Person, or empty.
    pub(crate) owner: String,
    /// What else it is found by.
    pub(crate) link: String,
    /// State, for counting and pruning.
    pub(crate) state: &'static str,
    /// Time, for order and pruning.
    pub(crate) stamp: i64,
}

impl Columns {
    /// As they stand in the table, beside those of other tenants.
    pub(crate) fn of(self, sealer: &Sealer) -> Self {
        Self {
            owner: sealer.name(&self.owner).into_owned(),
            link: sealer.name(&self.link).into_owned(),
            ..self
        }
    }
}

macro_rules! noun {
    ($type:ty, $table:literal, |$this:ident| $columns:expr) => {
        impl $crate::rows::Noun for $type {
            const TABLE: &'static str = $table;
            const SELECT: &'static str =
                concat!("SELECT id, version, sealed FROM ", $table, " WHERE id = $1");
            const PAGE: &'static str = concat!(
                "SELECT id, version, sealed, owner, link, state, stamp FROM ",
                $table,
                " WHERE id > $1 ORDER BY id LIMIT $2"
            );
            const BY_LINK: &'static str = concat!(
                "SELECT id, version, sealed FROM ",
                $table,
                " WHERE link = $1 ORDER BY stamp, id LIMIT 200"
            );
            const BY_OWNER: &'static str = concat!(
                "SELECT id, version, sealed, stamp FROM ",
                $table,
                " WHERE owner = $1 AND (stamp, id) > ($2, $3) ORDER BY stamp, id LIMIT $4"
            );
            const IDS: &'static str =
                concat!("SELECT id FROM ", $table, " ORDER BY stamp, id LIMIT 1000");
            const HEAD: &'static str = concat!(
                // As long as a head can be: format, length, identifier.
                "SELECT substr(sealed, 1, 66) AS head FROM ",
                $table,
                " WHERE id = $1"
            );
            const INSERT: &'static str = concat!(
                "INSERT INTO ",
                $table,
                " (id, version, sealed, owner, link, state, stamp) ",
                "VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING"
            );
            const UPDATE: &'static str = concat!(
                "UPDATE ",
                $table,
                " SET sealed = $1, version = $2, owner = $3, link = $4, state = $5, stamp = $6 ",
                "WHERE id = $7 AND version = $8"
            );
            const UPDATE_SEALED: &'static str = concat!(
                "UPDATE ",
                $table,
                " SET sealed = $1, version = $2 WHERE id = $3 AND version = $4"
            );
            const DELETE: &'static str =
                concat!("DELETE FROM ", $table, " WHERE id = $1 AND version = $2");

            fn columns(&self) -> $crate::rows::Columns {
                let $this = self;
                $columns
            }
        }
    };
}
pub(crate) use noun;

/// A row whose seal was checked.
#[derive(Debug, Clone)]
pub(crate) struct Row<T> {
    pub(crate) id: String,
    pub(crate) version: i64,
    pub(crate) body: T,
}

/// The row with this id.
pub(crate) async fn get<T: Noun>(
    tx: &mut Tx,
    sealer: &Sealer,
    id: &str,
) -> Result<Option<Row<T>>, Failed> {
    let place = place::<T>(sealer, id);
    match tx.fetch_optional(sql(T::SELECT).bind(&*place)).await? {
        Some(row) => open(tx, sealer, &row),
        None => Ok(None),
    }
}

/// Whose the row with this id is, by what it says itself, of a table in which ids are one tenant's anyway. `None`: there is
/// no such row, or it can't say.
pub(crate) async fn whose<T: Noun>(
    tx: &mut Tx,
    id: &str,
) -> Result<Option<Option<TenantId>>, Failed> {
    let Some(row) = tx.fetch_optional(sql(T::HEAD).bind(id)).await? else {
        return Ok(None);
    };
    Ok(sealer::whose(&row.blob("head")?).ok())
}

/// Ids of all rows of a small table, oldest first.
pub(crate) async fn ids<T: Noun>(tx: &mut Tx) -> Result<Vec<String>, Failed> {
    let rows = tx.fetch_all(sql(T::IDS)).await?;
    Ok(rows
        .iter()
        .map(|row| row.text("id"))
        .collect::<Result<_, StoreError>>()?)
}

/// Rows with this link, oldest first.
pub(crate) async fn by_link<T: Noun>(
    tx: &mut Tx,
    sealer: &Sealer,
    link: &str,
) -> Result<Vec<Row<T>>, Failed> {
    let link = sealer.name(link);
    let rows = tx.fetch_all(sql(T::BY_LINK).bind(&*link)).await?;
    rows.iter()
        .filter_map(|row| open(tx, sealer, row).transpose())
        .collect()
}

/// Inserts the first version; `false` if the id, or something that must be unique, is there already.
pub(crate) async fn insert<T: Noun>(
    tx: &mut Tx,
    sealer: &Sealer,
    id: &str,
    body: &T,
) -> Result<bool, Failed> {
    insert_as(tx, sealer, id, 1, body).await
}

async fn insert_as<T: Noun>(
    tx: &mut Tx,
    sealer: &Sealer,
    id: &str,
    version: i64,
    body: &T,
) -> Result<bool, Failed> {
    let columns = body.columns().of(sealer);
    let id = place::<T>(sealer, id);
    let sealed = seal(sealer, &id, version, body)?;
    let statement = sql(T::INSERT)
        .bind(&*id)
        .bind(version)
        .bind(sealed)
        .bind(columns.owner)
        .bind(columns.link)
        .bind(columns.state)
        .bind(columns.stamp);
    let inserted = tx.execute(statement).await? == 1;
    if inserted && let Some(seen) = sealer.seen(T::TABLE) {
        tx.wrote(seen, &id, version);
    }
    Ok(inserted)
}

/// Replaces a row by its successor if it still has the version that was read.
pub(crate) async fn save<T: Noun>(
    tx: &mut Tx,
    sealer: &Sealer,
    read: &Row<T>,
    next: &T,
) -> Result<(), Failed> {
    let columns = next.columns();
    let version = read.version + 1;
    let sealed = seal(sealer, &read.id, version, next)?;
    let statement = match columns == read.body.columns() {
        true => sql(T::UPDATE_SEALED).bind(sealed).bind(version),
        false => {
            let columns = columns.of(sealer);
            sql(T::UPDATE)
                .bind(sealed)
                .bind(version)
                .bind(columns.owner)
                .bind(columns.link)
                .bind(columns.state)
                .bind(columns.stamp)
        }
    };
    let statement = statement.bind(&read.id).bind(read.version);
    tx.cas(statement).await?;
    if let Some(seen) = sealer.seen(T::TABLE) {
        tx.wrote(seen, &read.id, version);
    }
    Ok(())
}

/// Versions of a row that stand in for each second of [`put`].
pub(crate) const A_SECOND: i64 = 1 << 20;

/// Puts a row where there may be one that is refused, or was one that is gone. Its version is above all that the earlier one ever
/// had, so that a copy of that one is older, for the log and for every node: no row is written so often in a second. A node that has
/// refused the earlier one refuses this one too, until its next start. `false` if something that must be unique is there already.
pub(crate) async fn put<T: Noun>(
    tx: &mut Tx,
    sealer: &Sealer,
    id: &str,
    body: &T,
    at: UnixTime,
) -> Result<bool, Failed> {
    let place = place::<T>(sealer, id);
    let version = at.0.max(1).saturating_mul(A_SECOND).min(Seen::NEVER - 1);
    let found = tx.fetch_optional(sql(T::SELECT).bind(&*place)).await?;
    let Some(found) = found else {
        return insert_as(tx, sealer, id, version, body).await;
    };
    let columns = body.columns().of(sealer);
    let statement = sql(T::UPDATE)
        .bind(seal(sealer, &place, version, body)?)
        .bind(version)
        .bind(columns.owner)
        .bind(columns.link)
        .bind(columns.state)
        .bind(columns.stamp)
        .bind(&*place)
        .bind(found.int("version")?);
    tx.cas(statement).await?;
    if let Some(seen) = sealer.seen(T::TABLE) {
        tx.wrote(seen, &place, version);
    }
    Ok(true)
}

/// How a key row is read that must not change before the transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyLock {
    /// Others may read it so, too: many sign with one key at once.
    Shared,
    /// This transaction changes it itself. Two that had shared it would wait for each other.
    ToChange,
}

/// The key row, read so that it can't change before the transaction ends.
pub(crate) async fn get_key(
    tx: &mut Tx,
    sealer: &Sealer,
    id: &str,
    lock: KeyLock,
) -> Result<Option<Row<KeyRecord>>, Failed> {
    let statement = match (lock, tx.dialect()) {
        (KeyLock::ToChange, Dialect::Postgres) => {
            sql("SELECT id, version, sealed FROM signing_key WHERE id = $1 FOR UPDATE")
        }
        _ => share_lock!(
            tx,
            "SELECT id, version, sealed FROM signing_key WHERE id = $1"
        ),
    };
    match tx.fetch_optional(statement.bind(id)).await? {
        Some(row) => open(tx, sealer, &row),
        None => Ok(None),
    }
}

/// Where a row lies. Persons are named by their tenants; all other ids are drawn or are digests.
fn place<'a, T: Noun>(sealer: &Sealer, id: &'a str) -> Cow<'a, str> {
    match T::TABLE == PersonRecord::TABLE {
        true => sealer.name(id),
        false => Cow::Borrowed(id),
    }
}

fn seal<T: Noun>(sealer: &Sealer, id: &str, version: i64, body: &T) -> Result<Vec<u8>, Failed> {
    let cannot = || StoreError::Audit("a row can't be sealed");
    let plain = serde_json::to_vec(body).map_err(|_| cannot())?;
    Ok(sealer
        .seal(T::TABLE, id, version, plain)
        .map_err(|_| cannot())?)
}

/// A row whose seal holds, whosever it is and whatever this node has seen of it: for the comparison with the log.
pub(crate) fn unseal<T: Noun>(sealer: &Sealer, row: &SqlRow) -> Result<Row<T>, Failed> {
    let (id, version) = (row.text("id")?, row.int("version")?);
    let sealed = row.blob("sealed")?;
    let plain = sealer
        .open_any(T::TABLE, &id, version, sealed)
        .map_err(|_| Failed::Tampered(T::TABLE))?;
    let body = serde_json::from_slice(&plain).map_err(|_| Failed::Tampered(T::TABLE))?;
    Ok(Row { id, version, body })
}

/// Whether the index columns of a row say what it holds. They aren't sealed: by them it is found or not, and nothing else is decided.
pub(crate) fn is_filed<T: Noun>(row: &SqlRow, body: &T) -> bool {
    let sealed = row.blob("sealed").unwrap_or_default();
    let Ok(tenant) = sealer::whose(&sealed) else {
        return false;
    };
    let says = |column, name: &str| {
        let name = sealer::name_of(tenant.as_ref(), name);
        row.text(column).is_ok_and(|text| text == *name)
    };
    let columns = body.columns();
    says("owner", &columns.owner)
        && says("link", &columns.link)
        && row.text("state").is_ok_and(|text| text == columns.state)
        && row.int("stamp").is_ok_and(|stamp| stamp == columns.stamp)
}

/// A row of this tenant's; nothing, if it is another's.
pub(crate) fn open<T: Noun>(
    tx: &mut Tx,
    sealer: &Sealer,
    row: &SqlRow,
) -> Result<Option<Row<T>>, Failed> {
    let (id, version) = (row.text("id")?, row.int("version")?);
    let opened = sealer.open(T::TABLE, &id, version, row.blob("sealed")?);
    let Some(plain) = opened.map_err(|_| Failed::Tampered(T::TABLE))? else {
        return Ok(None);
    };
    let body = serde_json::from_slice(&plain).map_err(|_| Failed::Tampered(T::TABLE))?;
    if let Some(seen) = sealer.seen(T::TABLE)
        && !tx.is_newest(seen, &id, version)?
    {
        return Err(Failed::SetBack(T::TABLE));
    }
    Ok(Some(Row { id, version, body }))
}
