//! Notices to clients that values of a call that didn't wait are there (`response_uri`). A notice says which call and whether it
//! went well, never a value: whoever gets it by mistake has nothing. It is signed in the form of *Standard Webhooks* with the
//! client's own secret for that, kept until it is delivered, and sent again with growing pauses.
//!
//! Addresses are the contract's, word by word; a redirect is not followed, and what leads to this machine or a private network
//! isn't called, except in development.

use std::sync::Arc;

use aws_lc_rs::hmac;
use core_types::bytes::b64;
use core_types::retry::next_try;
use core_types::{ClientId, SecretBytes, UnixTime};
use csc_types::SecretText;
use notify::NotifyError;
use notify::webhook::Target;
use serde::{Deserialize, Serialize};
use serde_json::json;
use store_kit::{StoreError, Tx, sql, transaction};
use url::Url;

use crate::clients::Client;
use crate::{Ssa, clients, later};

/// Nobody else sends a notice for so many seconds.
const LEASE: i64 = 60;
/// Notices sent at once, of all clients and of one: whose receiver hangs has no more hands than that.
const AT_ONCE: i64 = 40;
const AT_ONCE_OF_ONE: i64 = 4;

/// Whom to tell, and of what.
#[derive(Serialize, Deserialize)]
struct Notice {
    uri: String,
    response_id: String,
}

/// Whether an address can be meant: `https`, or `http` on this machine for development, written as it is read, with neither user
/// nor fragment. Whether it may be called is seen when it is.
pub(crate) fn plausible(uri: &str) -> bool {
    let dummy = SecretBytes::new(vec![0; 32]);
    let exact = Url::parse(uri).is_ok_and(|url| url.as_str() == uri);
    exact && uri.len() <= 500 && Target::new(uri, dummy, true).is_ok()
}

/// A notice for this call, sealed; `None` when it can't be.
pub(crate) fn sealed(
    ssa: &Ssa,
    id: &str,
    name: &SecretText,
    uri: String,
) -> Result<Option<Vec<u8>>, StoreError> {
    let notice = Notice {
        uri,
        response_id: name.expose().to_owned(),
    };
    let json = serde_json::to_vec(&notice).map_err(|_| StoreError::Column("notice"))?;
    Ok(ssa.sealer().seal(ssa.random(), &place(id), &json))
}

fn place(id: &str) -> String {
    format!("ssa/notice/{id}")
}

/// Puts a notice on its way.
pub(crate) async fn insert(
    tx: &mut Tx,
    id: &str,
    client: &ClientId,
    notice: &[u8],
    now: UnixTime,
) -> Result<(), StoreError> {
    let insert = "INSERT INTO ssa_notice (id, client, notice, failures, next, version) \
                  VALUES ($1, $2, $3, 0, $4, 0) ON CONFLICT DO NOTHING";
    let insert = sql(insert)
        .bind(id)
        .bind(client.as_str())
        .bind(notice)
        .bind(now.0);
    tx.execute(insert).await.map(drop)
}

/// Sends what is due without anybody waiting for it.
pub(crate) fn soon(ssa: &Ssa) {
    let ssa = ssa.clone();
    tokio::spawn(async move {
        if let Err(error) = send_due(&ssa).await {
            tracing::error!(%error, "notices could not be sent; they are tried again");
        }
    });
}

impl Ssa {
    /// Finishes calls that lost their worker and of which somebody is to be told, sends the notices that are due, and writes how
    /// often nobody known called this node. Safe at any time on any node; the composition root calls it every few seconds.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn send_notices(&self) -> Result<(), StoreError> {
        // What is over is told, whatever became of what isn't.
        let resumed = later::resume(self).await;
        let sent = send_due(self).await;
        let told = self.tell_strangers().await;
        resumed.and(sent).and(told)
    }

    /// With what notices to this client are signed: 32 bytes, bound to the client and the number in its contract.
    pub(crate) fn response_secret(&self, client: &Client) -> SecretBytes {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.config().key.expose());
        let (id, serial) = (&client.id, client.settings.response_serial);
        let what = format!("natsuin-response-secret-v1\n{id}\n{serial}");
        SecretBytes::new(hmac::sign(&key, what.as_bytes()).as_ref().to_vec())
    }
}

/// A secret as libraries for *Standard Webhooks* want it.
pub(crate) fn written(secret: &SecretBytes) -> SecretText {
    SecretText::new(format!("whsec_{}", b64(secret.expose())))
}

/// A notice that is due.
struct Due {
    id: String,
    client: String,
    notice: Vec<u8>,
    failures: u32,
    version: i64,
}

async fn send_due(ssa: &Ssa) -> Result<(), StoreError> {
    let due = take_due(ssa).await?;
    let tasks: Vec<_> = due
        .into_iter()
        .map(|due| {
            let ssa = ssa.clone();
            // Each by itself: who doesn't answer holds up nobody else.
            tokio::spawn(async move { send(&ssa, due).await })
        })
        .collect();
    let mut outcome = Ok(());
    for task in tasks {
        if let Ok(Err(error)) = task.await {
            outcome = Err(error);
        }
    }
    outcome
}

/// Takes notices, so that no other node sends them meanwhile.
async fn take_due(ssa: &Ssa) -> Result<Vec<Due>, StoreError> {
    let now = ssa.now();
    let due = transaction!(ssa.store(), "take-notices", |tx| {
        let query = "SELECT id, client, notice, failures, version FROM (SELECT id, client, notice, failures, version, next, \
                     ROW_NUMBER() OVER (PARTITION BY client ORDER BY next, id) AS place FROM ssa_notice WHERE next <= $1) AS due \
                     WHERE place <= $2 ORDER BY next, id LIMIT $3";
        let query = sql(query).bind(now.0).bind(AT_ONCE_OF_ONE).bind(AT_ONCE);
        let rows = tx.fetch_all(query).await?;
        let mut mine = Vec::new();
        for row in &rows {
            let due = Due {
                id: row.text("id")?,
                client: row.text("client")?,
                notice: row.blob("notice")?,
                failures: u32::try_from(row.int("failures")?).unwrap_or(u32::MAX),
                version: row.int("version")? + 1,
            };
            let take =
                "UPDATE ssa_notice SET next = $1, version = $2 WHERE id = $3 AND version = $4";
            let take = sql(take)
                .bind(now.plus(LEASE).0)
                .bind(due.version)
                .bind(&due.id)
                .bind(due.version - 1);
            if tx.execute(take).await? == 1 {
                mine.push(due);
            }
        }
        Ok::<_, StoreError>(mine)
    })?;
    Ok(due)
}

async fn send(ssa: &Ssa, due: Due) -> Result<(), StoreError> {
    let mut tx = ssa.store().read("client").await?;
    let client = clients::find(&mut tx, &due.client).await?;
    drop(tx);
    let done = match client {
        Some(client) => post(ssa, &client, &due).await,
        None => Err(NotifyError::Refused(
            "the client is gone or suspended".to_owned(),
        )),
    };
    let now = ssa.now();
    let again = match &done {
        Ok(()) => None,
        Err(error) => {
            tracing::warn!(client = due.client, %error, "a notice to a client wasn't delivered");
            let failures = due.failures.saturating_add(1);
            let again = error.is_transient().then(|| next_try(failures, now));
            let again = again.flatten();
            if again.is_none() {
                tracing::error!(client = due.client, "a notice to a client was given up");
            }
            again
        }
    };
    transaction!(ssa.store(), "sent-notice", |tx| {
        let after = match again {
            None => sql("DELETE FROM ssa_notice WHERE id = $1 AND version = $2")
                .bind(&due.id)
                .bind(due.version),
            Some(next) => {
                let update = "UPDATE ssa_notice SET failures = failures + 1, next = $3, version = version + 1 \
                              WHERE id = $1 AND version = $2";
                sql(update).bind(&due.id).bind(due.version).bind(next.0)
            }
        };
        tx.execute(after).await.map(drop)
    })
}

async fn post(ssa: &Ssa, client: &Client, due: &Due) -> Result<(), NotifyError> {
    let unreadable = || NotifyError::Refused("the notice doesn't open".to_owned());
    let json = ssa.sealer().open(&place(&due.id), &due.notice);
    let json = json.ok_or_else(unreadable)?;
    let notice: Notice = serde_json::from_slice(json.expose()).map_err(|_| unreadable())?;
    // What the contract says now.
    if !client.settings.response_uris.contains(&notice.uri) {
        let what = "the address isn't in the contract any more";
        return Err(NotifyError::Refused(what.to_owned()));
    }
    let secret = ssa.response_secret(client);
    let target = Target::new(&notice.uri, secret, ssa.config().development)?;
    let body = json!({ "type": "signatures.ready", "responseID": notice.response_id });
    let body = body.to_string().into_bytes();
    let webhooks = Arc::clone(&ssa.0.ports.webhooks);
    webhooks.post(&target, &due.id, ssa.now(), body).await
}
