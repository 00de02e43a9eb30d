//! Schemas: applied once, in order, and never edited afterwards.

use core_types::bytes::b64u;
use core_types::{Random, sha256};

use crate::dump::refuse_half_filled;
use crate::error::StoreError;
use crate::sql::sql;
use crate::store::Store;
use crate::transaction;
use crate::tx::{Dialect, Tx};

/// The migrations of one component (a zone, or a crate such as the audit log inside a zone's store).
#[derive(Debug, Clone, Copy)]
pub struct Migrations {
    /// Name of the component; unique within a store.
    pub component: &'static str,
    /// Steps in order. Only ever append.
    pub steps: &'static [Migration],
}

/// One step. Both texts may hold several statements.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Name such as `0001-acts`; unique within the component.
    pub name: &'static str,
    /// Data definition for SQLite.
    pub sqlite: &'static str,
    /// Data definition for PostgreSQL.
    pub postgres: &'static str,
}

const OWN_SQLITE: &str = "
CREATE TABLE IF NOT EXISTS store_meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS store_migration (
    component TEXT NOT NULL, position BIGINT NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL,
    PRIMARY KEY (component, position));
";
const OWN_POSTGRES: &str = "
CREATE TABLE IF NOT EXISTS store_meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS store_migration (
    component TEXT NOT NULL, position BIGINT NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL,
    PRIMARY KEY (component, position));
";

/// Brings the schema up to date in one transaction; several nodes may do so at once.
pub(crate) async fn migrate(
    store: &Store,
    schema: &'static str,
    sets: &[Migrations],
    random: &dyn Random,
) -> Result<(), StoreError> {
    let system_id = random.digest32().to_string();
    transaction!(store, "migrate", |tx| {
        own_tables(tx, schema).await?;
        claim(tx, schema, &system_id).await?;
        refuse_half_filled(tx).await?;
        for set in sets {
            apply(tx, set).await?;
        }
        Ok(())
    })
}

async fn own_tables(tx: &mut Tx, schema: &'static str) -> Result<(), StoreError> {
    match tx.dialect() {
        Dialect::Sqlite => tx.batch(OWN_SQLITE.to_owned()).await,
        Dialect::Postgres => {
            // Nodes that start together queue here; the lock ends with the transaction.
            tx.fetch_one(
                sql("SELECT 1 AS got FROM pg_advisory_xact_lock(hashtext($1))").bind(schema),
            )
            .await?;
            // Safe to put together: `Store::open` admits only [a-z0-9_] as schema.
            tx.batch(format!(
                "CREATE SCHEMA IF NOT EXISTS {schema}; {OWN_POSTGRES}"
            ))
            .await
        }
    }
}

/// Marks a fresh store as this zone's, or checks that it is.
async fn claim(tx: &mut Tx, schema: &str, system_id: &str) -> Result<(), StoreError> {
    let insert = "INSERT INTO store_meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING";
    for (key, value) in [
        ("zone", schema),
        ("system_id", system_id),
        ("restores", "0"),
    ] {
        tx.execute(sql(insert).bind(key).bind(value)).await?;
    }
    let row = tx
        .fetch_one(sql("SELECT value FROM store_meta WHERE key = $1").bind("zone"))
        .await?;
    let found = row.text("value")?;
    if found == schema {
        return Ok(());
    }
    Err(StoreError::OtherZone {
        expected: schema.to_owned(),
        found,
    })
}

async fn apply(tx: &mut Tx, set: &Migrations) -> Result<(), StoreError> {
    let select = "SELECT name, digest FROM store_migration WHERE component = $1 ORDER BY position";
    let done = tx.fetch_all(sql(select).bind(set.component)).await?;
    for (position, row) in done.iter().enumerate() {
        let (name, digest) = (row.text("name")?, row.text("digest")?);
        let component = set.component.to_owned();
        let Some(step) = set.steps.get(position) else {
            return Err(StoreError::Newer { component, name });
        };
        if step.name != name || digest_of(step, tx.dialect()) != digest {
            return Err(StoreError::Edited { component, name });
        }
    }
    for (position, step) in set.steps.iter().enumerate().skip(done.len()) {
        let text = match tx.dialect() {
            Dialect::Sqlite => step.sqlite,
            Dialect::Postgres => step.postgres,
        };
        tx.batch(text.to_owned()).await?;
        let insert = "INSERT INTO store_migration (component, position, name, digest) VALUES ($1, $2, $3, $4)";
        let insert = sql(insert)
            .bind(set.component)
            .bind(position as i64)
            .bind(step.name);
        tx.execute(insert.bind(digest_of(step, tx.dialect())))
            .await?;
        tracing::info!(
            component = set.component,
            migration = step.name,
            "schema migrated"
        );
    }
    Ok(())
}

fn digest_of(step: &Migration, dialect: Dialect) -> String {
    let text = match dialect {
        Dialect::Sqlite => step.sqlite,
        Dialect::Postgres => step.postgres,
    };
    b64u(sha256(&[step.name.as_bytes(), b"\n", text.as_bytes()]))
}
