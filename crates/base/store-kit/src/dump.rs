//! A whole store as rows, whichever database it is: for backups, and to fill a blank store from one.
//!
//! Reading needs no lock and takes one snapshot, so that a zone goes on meanwhile.

use std::sync::{Arc, RwLock};

use core_types::{Digest32, sha256};

use crate::connect;
use crate::error::StoreError;
use crate::sql::{Cell, Kind, Sql, sql, sql_of};
use crate::sqlite::{EpochCell, Open, Readers, Snapshot};
use crate::store::{Store, admit};
use crate::transaction;
use crate::tx::{Dialect, Inner, Tx};
use crate::url::StoreUrl;

/// Rows read at a time, at most.
const PAGE: i64 = 200;
/// Bytes of texts and blobs read at a time, unless one row has more.
const PAGE_BYTES: i64 = 4 << 20;
/// What every store has of its own: never part of a dump.
const OWN: [&str; 2] = ["store_meta", "store_migration"];
/// Set in `store_meta` while a store is being filled.
const FILLING: &str = "filling";
/// What a store that was filled has to tell the log, in `store_meta` until it did.
const FILLED: &str = "filled";

/// A table: its columns in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Name.
    pub name: String,
    /// Name and kind of each column.
    pub columns: Vec<(String, Kind)>,
    /// Places of the columns of the primary key.
    key: Vec<usize>,
}

/// A snapshot of a store that is read table by table.
#[derive(Debug)]
pub struct Dump {
    tx: Tx,
    tables: Vec<Table>,
    migrations: Vec<(String, String)>,
    system: String,
}

impl Dump {
    /// Takes a snapshot of the store of the zone `schema`, which may be in use. Changes nothing and makes nothing.
    ///
    /// # Errors
    /// [`StoreError`], also when there is no such store, or it is another zone's.
    pub async fn open(url: &StoreUrl, schema: &'static str) -> Result<Self, StoreError> {
        admit(schema)?;
        let inner = match url {
            StoreUrl::Sqlite(path) => {
                let readers = Arc::new(Readers::new(vec![connect::sqlite_reader(path)?]));
                let snapshot = Snapshot::begin(readers).await?;
                let epoch = EpochCell {
                    place: String::new(),
                    known: RwLock::new(None),
                };
                Inner::Sqlite(Open::Read(snapshot), Arc::new(epoch))
            }
            StoreUrl::Postgres(url) => {
                sqlx::any::install_default_drivers();
                let pool = connect::postgres(url, schema).await?;
                let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
                Inner::Postgres(pool.begin_with(begin).await?)
            }
        };
        let mut tx = Tx::new(inner, "dump");
        let mut tables = tables(&mut tx).await?;
        if !OWN.iter().all(|own| tables.iter().any(|t| t.name == *own)) {
            return Err(StoreError::NoStore(schema));
        }
        tables.retain(|t| !OWN.contains(&t.name.as_str()));
        let found = meta(&mut tx, "zone").await?.unwrap_or_default();
        if found != schema {
            let expected = schema.to_owned();
            return Err(StoreError::OtherZone { expected, found });
        }
        let (migrations, system) = (
            migrations(&mut tx).await?,
            meta(&mut tx, "system_id").await?.unwrap_or_default(),
        );
        Ok(Self {
            tx,
            tables,
            migrations,
            system,
        })
    }

    /// The tables, without what every store has of its own.
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// Component and name of each step of the schema.
    pub fn migrations(&self) -> &[(String, String)] {
        &self.migrations
    }

    /// The store's random id.
    pub fn system(&self) -> &str {
        &self.system
    }

    /// The rows of a table that follow `after` in the order of its primary key, some hundred or some megabytes of them at most;
    /// none at the end.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn page(
        &mut self,
        table: &Table,
        after: Option<&[Cell]>,
    ) -> Result<Vec<Vec<Cell>>, StoreError> {
        let sized = table.columns.iter().filter(|(_, kind)| *kind != Kind::Int);
        let sizes = sized
            .map(|(name, _)| format!("coalesce(CAST(octet_length({name}) AS BIGINT), 0)"))
            .chain(["0".to_owned()]);
        let sizes = sizes.collect::<Vec<_>>().join(" + ");
        let sizes = format!("CAST({sizes} AS BIGINT) AS size");
        let (mut rows, mut bytes) = (0_i64, 0_i64);
        for row in self
            .tx
            .fetch_all(table.following(&sizes, after, PAGE))
            .await?
        {
            bytes = bytes.saturating_add(row.int("size")?);
            if rows > 0 && bytes > PAGE_BYTES {
                break;
            }
            rows += 1;
        }
        if rows == 0 {
            return Ok(Vec::new());
        }
        let names: Vec<_> = table.columns.iter().map(|(name, _)| &**name).collect();
        let kinds: Vec<Kind> = table.columns.iter().map(|(_, kind)| *kind).collect();
        let select = table.following(&names.join(", "), after, rows);
        let rows = self.tx.fetch_all(select).await?;
        rows.iter().map(|row| row.cells(&kinds)).collect()
    }
}

/// A blank store that takes the rows of a dump. Until [`Fill::end`] nobody can open it.
#[derive(Debug)]
pub struct Fill {
    store: Store,
    tables: Vec<Table>,
}

impl Fill {
    /// Begins to fill a store that was just made.
    ///
    /// # Errors
    /// [`StoreError::NotBlank`] when it has rows, [`StoreError::OtherSchema`] when a program of another version made the
    /// dump.
    pub async fn begin(store: Store, of: &[(String, String)]) -> Result<Self, StoreError> {
        let begun: Result<_, StoreError> = transaction!(store, "fill-begin", |tx| {
            let mut tables = tables(tx).await?;
            tables.retain(|t| !OWN.contains(&t.name.as_str()));
            if migrations(tx).await? != of {
                return Err(StoreError::OtherSchema);
            }
            for table in &tables {
                let query = format!("SELECT 1 AS found FROM {} LIMIT 1", table.name);
                if tx.fetch_optional(sql_of(query)).await?.is_some() {
                    return Err(StoreError::NotBlank);
                }
            }
            let insert =
                "INSERT INTO store_meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING";
            tx.execute(sql(insert).bind(FILLING).bind("")).await?;
            Ok(tables)
        });
        let tables = begun?;
        Ok(Self { store, tables })
    }

    /// Puts rows into a table, all or none of them.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::OtherSchema`] for a table or columns that aren't there.
    pub async fn rows(
        &self,
        table: &str,
        columns: &[String],
        rows: &[Vec<Cell>],
    ) -> Result<(), StoreError> {
        let known = self.tables.iter().find(|t| t.name == table);
        let known = known.ok_or(StoreError::OtherSchema)?;
        let mut wanted: Vec<_> = known.columns.iter().map(|(name, _)| name).collect();
        let mut given: Vec<_> = columns.iter().collect();
        wanted.sort_unstable();
        given.sort_unstable();
        if wanted != given || rows.iter().any(|row| row.len() != columns.len()) {
            return Err(StoreError::OtherSchema);
        }
        let kinds: Vec<Kind> = columns.iter().filter_map(|c| known.kind(c)).collect();
        let places: Vec<_> = (1..=columns.len()).map(|n| format!("${n}")).collect();
        let text = format!(
            "INSERT INTO {table} ({}) VALUES ({})",
            columns.join(", "),
            places.join(", ")
        );
        transaction!(self.store, "fill", |tx| {
            for row in rows {
                let typed = row.iter().zip(&kinds);
                let insert = typed.fold(sql_of(text.clone()), |insert, (cell, kind)| {
                    insert.bind_as(cell.clone(), *kind)
                });
                tx.execute(insert).await?;
            }
            Ok(())
        })
    }

    /// The store is whole: it begins an epoch of its own, and can be opened from now on. Whoever opens it first finds `note`
    /// with [`take_filled`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end(self, note: &str) -> Result<Store, StoreError> {
        let done: Result<(), StoreError> = transaction!(self.store, "fill-end", |tx| {
            let insert =
                "INSERT INTO store_meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING";
            tx.execute(sql(insert).bind(FILLED).bind(note)).await?;
            tx.execute(sql("DELETE FROM store_meta WHERE key = $1").bind(FILLING))
                .await?;
            Ok(())
        });
        done?;
        self.store.mark_restored().await?;
        Ok(self.store)
    }
}

impl Table {
    /// Selects so many rows after one, in the order of the primary key.
    fn following(&self, what: &str, after: Option<&[Cell]>, rows: i64) -> Sql<'static> {
        let key: Vec<_> = self.key.iter().map(|at| &*self.columns[*at].0).collect();
        let mut text = format!("SELECT {what} FROM {}", self.name);
        if after.is_some() {
            let places: Vec<_> = (1..=key.len()).map(|n| format!("${n}")).collect();
            text += &format!(" WHERE ({}) > ({})", key.join(", "), places.join(", "));
        }
        text += &format!(" ORDER BY {} LIMIT {rows}", key.join(", "));
        let mut query = sql_of(text);
        for at in after.into_iter().flat_map(|_| &self.key) {
            query = query.bind(
                after
                    .and_then(|row| row.get(*at))
                    .cloned()
                    .unwrap_or(Cell::Null),
            );
        }
        query
    }

    fn kind(&self, column: &str) -> Option<Kind> {
        let found = self.columns.iter().find(|(name, _)| name == column);
        found.map(|(_, kind)| *kind)
    }
}

/// What the one who filled this store left for its log, once: it is gone with this transaction.
///
/// # Errors
/// [`StoreError`].
pub async fn take_filled(tx: &mut Tx) -> Result<Option<String>, StoreError> {
    taken(tx, FILLED).await
}

/// The value of whoever deletes it: of two who do at once, one has it.
async fn taken(tx: &mut Tx, key: &str) -> Result<Option<String>, StoreError> {
    let delete = sql("DELETE FROM store_meta WHERE key = $1 RETURNING value").bind(key);
    let row = tx.fetch_optional(delete).await?;
    row.map(|row| row.text("value")).transpose()
}

/// Names that this store has had, one for each time it was restored, the present one last; at most a hundred. No other store has
/// them, unless somebody wrote its id there.
///
/// # Errors
/// [`StoreError`].
pub async fn store_names(tx: &mut Tx) -> Result<Vec<Digest32>, StoreError> {
    let id = meta(tx, "system_id").await?.unwrap_or_default();
    let restores = meta(tx, "restores").await?.unwrap_or_default();
    let restores: u64 = restores.parse().unwrap_or(0);
    let name = |n| sha256(&[format!("natsuin-store\n{id}\n{n}\n").as_bytes()]);
    Ok((restores.saturating_sub(99)..=restores).map(name).collect())
}

/// What notes of dumps are called in `store_meta`.
const DUMPED: &str = "dumped:";
/// Most notes taken at once.
const DUMPS: i64 = 20;

/// Leaves word in a store that it was dumped, for its zone's log, while its zone runs or not. `name`: of the dump, different
/// each time.
///
/// # Errors
/// [`StoreError`]; nobody will know of the dump then.
pub async fn leave_dumped(
    url: &StoreUrl,
    schema: &'static str,
    name: &str,
    note: &str,
) -> Result<(), StoreError> {
    admit(schema)?;
    let insert = "INSERT INTO store_meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING";
    let (key, note) = (format!("{DUMPED}{name}"), note.to_owned());
    match url {
        StoreUrl::Sqlite(path) => {
            let path = path.clone();
            let word = move || connect::sqlite_word(&path, insert, &key, &note);
            let left = tokio::task::spawn_blocking(word).await;
            left.map_err(|_| StoreError::Closed)?
        }
        StoreUrl::Postgres(url) => {
            sqlx::any::install_default_drivers();
            let pool = connect::postgres(url, schema).await?;
            let left = sqlx::query(insert).bind(key).bind(note).execute(&pool);
            let left = left.await;
            pool.close().await;
            left?;
            Ok(())
        }
    }
}

/// Whether such word was left.
///
/// # Errors
/// [`StoreError`].
pub async fn was_dumped(tx: &mut Tx) -> Result<bool, StoreError> {
    let select = sql("SELECT 1 AS found FROM store_meta WHERE key LIKE $1 LIMIT 1");
    let found = tx.fetch_optional(select.bind(format!("{DUMPED}%"))).await?;
    Ok(found.is_some())
}

/// The notes that were left, once: they are gone with this transaction.
///
/// # Errors
/// [`StoreError`].
pub async fn take_dumped(tx: &mut Tx) -> Result<Vec<String>, StoreError> {
    let select = "SELECT key FROM store_meta WHERE key LIKE $1 ORDER BY key LIMIT $2";
    let select = sql(select).bind(format!("{DUMPED}%")).bind(DUMPS);
    let mut notes = Vec::new();
    for row in tx.fetch_all(select).await? {
        notes.extend(taken(tx, &row.text("key")?).await?);
    }
    Ok(notes)
}

/// A store that was being filled when its program ended is not used.
pub(crate) async fn refuse_half_filled(tx: &mut Tx) -> Result<(), StoreError> {
    match meta(tx, FILLING).await? {
        None => Ok(()),
        Some(_) => Err(StoreError::HalfFilled),
    }
}

async fn meta(tx: &mut Tx, key: &str) -> Result<Option<String>, StoreError> {
    let select = sql("SELECT value FROM store_meta WHERE key = $1").bind(key);
    let row = tx.fetch_optional(select).await?;
    row.map(|row| row.text("value")).transpose()
}

async fn migrations(tx: &mut Tx) -> Result<Vec<(String, String)>, StoreError> {
    let select = "SELECT component, name FROM store_migration ORDER BY component, position";
    let mut found = Vec::new();
    for row in tx.fetch_all(sql(select)).await? {
        found.push((row.text("component")?, row.text("name")?));
    }
    // One order, whatever the database's is.
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

async fn tables(tx: &mut Tx) -> Result<Vec<Table>, StoreError> {
    let select = match tx.dialect() {
        Dialect::Sqlite => {
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
        }
        Dialect::Postgres => {
            "SELECT CAST(table_name AS TEXT) AS name FROM information_schema.tables \
             WHERE table_schema = current_schema() AND table_type = 'BASE TABLE' ORDER BY 1"
        }
    };
    let mut found = Vec::new();
    for row in tx.fetch_all(sql(select)).await? {
        found.push(table(tx, row.text("name")?).await?);
    }
    Ok(found)
}

async fn table(tx: &mut Tx, name: String) -> Result<Table, StoreError> {
    let select = match tx.dialect() {
        Dialect::Sqlite => "SELECT name, type, pk FROM pragma_table_info($1) ORDER BY cid",
        Dialect::Postgres => {
            "SELECT CAST(c.column_name AS TEXT) AS name, CAST(c.data_type AS TEXT) AS type, \
                    CAST(coalesce((SELECT k.ordinal_position FROM information_schema.key_column_usage k \
                        JOIN information_schema.table_constraints t ON t.constraint_schema = k.constraint_schema \
                            AND t.constraint_name = k.constraint_name AND t.table_name = k.table_name \
                        WHERE t.constraint_type = 'PRIMARY KEY' AND k.table_schema = c.table_schema \
                            AND k.table_name = c.table_name AND k.column_name = c.column_name), 0) AS BIGINT) AS pk \
             FROM information_schema.columns c \
             WHERE c.table_schema = current_schema() AND c.table_name = $1 ORDER BY c.ordinal_position"
        }
    };
    let (mut columns, mut key) = (Vec::new(), Vec::new());
    for (at, row) in tx
        .fetch_all(sql(select).bind(&name))
        .await?
        .iter()
        .enumerate()
    {
        let (column, place) = (row.text("name")?, row.int("pk")?);
        let kind = match row.text("type")?.to_ascii_lowercase().as_str() {
            "integer" | "bigint" => Kind::Int,
            "text" => Kind::Text,
            "blob" | "bytea" => Kind::Blob,
            _ => return Err(StoreError::OtherSchema),
        };
        if place > 0 {
            key.push((place, at));
        }
        columns.push((plain(column)?, kind));
    }
    key.sort_unstable();
    let key: Vec<usize> = key.into_iter().map(|(_, at)| at).collect();
    if key.is_empty() {
        return Err(StoreError::OtherSchema);
    }
    let name = plain(name)?;
    Ok(Table { name, columns, key })
}

/// Names go into statements: what isn't plain isn't ours.
fn plain(name: String) -> Result<String, StoreError> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    match !name.is_empty() && name.chars().all(good) {
        true => Ok(name),
        false => Err(StoreError::OtherSchema),
    }
}

impl<'q> Sql<'q> {
    /// The value as a column of this kind takes it.
    fn bind_as(self, cell: Cell, kind: Kind) -> Self {
        match (cell, kind) {
            (Cell::Null, Kind::Int) => self.bind(None::<i64>),
            (Cell::Null, Kind::Text) => self.bind(None::<String>),
            (Cell::Null, Kind::Blob) => self.bind(None::<Vec<u8>>),
            (cell, _) => self.bind(cell),
        }
    }
}
