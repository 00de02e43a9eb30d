//! Start and end of a zone's process, and what is set otherwise than at the last start (`I-7.1.4.1~`).

use aws_lc_rs::hmac;
use core_types::bytes::b64u;
use core_types::{Digest32, UnixTime, sha256};
use jose::Jwk;
use serde::Deserialize;
use store_kit::{Store, StoreError, Tx, sql, transaction};

use crate::event::{Code, Event};
use crate::log::AuditLog;
use crate::restored::{Restorers, is_signed, restored};

/// A setting by its name and the digest of its value.
pub type Setting = (&'static str, Digest32);

/// The node as which a command writes beside the daemon `node`, which may run meanwhile: with one name for both, the start of
/// the command would be a crash of the daemon.
pub fn beside(node: &str) -> String {
    format!("{node}.command")
}

/// The daemon beside which a command with this name writes.
pub fn beside_of(node: &str) -> Option<&str> {
    node.strip_suffix(".command")
}

/// Whether this node has begun before in this store. The entries that say so stay when others are deleted.
///
/// # Errors
/// [`StoreError`].
pub async fn has_begun(tx: &mut Tx, node: &str) -> Result<bool, StoreError> {
    let entry = "SELECT 1 AS n FROM audit_entry WHERE kind = 'audit.started' AND node = $1 LIMIT 1";
    Ok(tx.fetch_optional(sql(entry).bind(node)).await?.is_some())
}

impl AuditLog {
    /// Records that the audit function and the service begin, whether the store came out of a backup and who of `restorers` wanted
    /// that, and which settings have changed since the last start of this node. The store itself is one of them (`store`): another
    /// one without a restore before it was put in its place.
    ///
    /// # Errors
    /// [`StoreError`]; then the service must not start.
    pub async fn starts(
        &self,
        tx: &mut Tx,
        version: Code,
        settings: &[Setting],
        restorers: &Restorers,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let all: Vec<u8> = settings
            .iter()
            .flat_map(|(name, value)| [name.as_bytes(), b"\n", &value.0].concat())
            .collect();
        let mut events = vec![
            Event::AuditStarted {},
            Event::ServiceStarted {
                version,
                settings: sha256(&[&all]),
            },
        ];
        self.knows_makers(restorers);
        events.extend(restored(tx, self.zone(), restorers).await?);
        let store = store_kit::store_names(tx).await?.pop();
        let store = store.map(|name| ("store", name));
        let noted: Vec<Setting> = settings.iter().copied().chain(store).collect();
        for (name, before, value) in self.changed(tx, &noted, 1).await? {
            events.push(Event::ParameterChanged {
                parameter: name.into(),
                before,
                value,
            });
        }
        self.append_all(tx, &events, now).await.map(drop)
    }

    /// Records which parameters of the audit function itself have changed since the last start of this node: where it
    /// writes to, how often, by which key.
    ///
    /// # Errors
    /// [`StoreError`]; then the service must not start.
    pub async fn audits_by(
        &self,
        store: &Store,
        parameters: &[Setting],
        now: UnixTime,
    ) -> Result<(), StoreError> {
        transaction!(store, "audit-parameters", |tx| {
            let changed = self.changed(tx, parameters, 2).await?;
            let events: Vec<_> = changed
                .into_iter()
                .map(|(name, before, value)| Event::AuditParameterChanged {
                    parameter: name.into(),
                    before,
                    value,
                })
                .collect();
            if !events.is_empty() {
                self.append_all(tx, &events, now).await?;
            }
            Ok(())
        })
    }

    /// Records that the service and its audit function end in order. A start without an end before it means a crash.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn stops(&self, store: &Store, now: UnixTime) -> Result<(), StoreError> {
        transaction!(store, "audit-stop", |tx| {
            let events = [Event::ServiceStopped {}, Event::AuditStopped {}];
            self.append_all(tx, &events, now).await.map(drop)
        })
    }

    /// Those that differ from what was noted last, with the value before. A first value is no change; but when this node
    /// has begun so often before, a value that is missing was removed, and what isn't authentic was altered: both count
    /// as changes, from zeros or from what stands there, so that nobody who can write to the table hides one.
    async fn changed(
        &self,
        tx: &mut Tx,
        now: &[Setting],
        begun: i64,
    ) -> Result<Vec<(&'static str, Digest32, Digest32)>, StoreError> {
        let mut changed = Vec::new();
        let count =
            "SELECT count(*) AS n FROM audit_entry WHERE kind = 'audit.started' AND node = $1";
        let count = tx.fetch_one(sql(count).bind(self.node())).await?;
        let first = count.int("n")? < begun;
        for (name, value) in now {
            let noted = self.noted(name, value);
            let select = "SELECT value FROM audit_setting WHERE node = $1 AND name = $2";
            let last = tx
                .fetch_optional(sql(select).bind(self.node()).bind(*name))
                .await?;
            let write = match last.map(|row| row.text("value")).transpose()? {
                Some(last) if last == noted => continue,
                Some(last) => {
                    let last = last.split('.').next().unwrap_or_default();
                    let last = Digest32::parse(last).unwrap_or(Digest32([0; 32]));
                    changed.push((*name, last, *value));
                    "UPDATE audit_setting SET value = $1 WHERE node = $2 AND name = $3"
                }
                None => {
                    if !first {
                        changed.push((*name, Digest32([0; 32]), *value));
                    }
                    "INSERT INTO audit_setting (value, node, name) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
                }
            };
            let write = sql(write).bind(noted).bind(self.node());
            tx.execute(write.bind(*name)).await?;
        }
        Ok(changed)
    }

    /// A value as it is noted, authenticated for its node and name.
    fn noted(&self, name: &str, value: &Digest32) -> String {
        let message = format!("{}\n{name}\n{value}", self.node());
        let mac = hmac::sign(&self.setting_key(), message.as_bytes());
        format!("{value}.{}", b64u(mac))
    }
}

/// What the making of a backup left to be recorded.
#[derive(Deserialize)]
struct BackedUp {
    backup: Digest32,
    /// Whose it is.
    key: Jwk,
    /// Signature of the backup.
    signature: String,
}

impl AuditLog {
    /// Records backups that were made since the last time.
    pub(crate) async fn notes_backups(
        &self,
        store: &Store,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let mut tx = store.read("audit-backups").await?;
        if !store_kit::was_dumped(&mut tx).await? {
            return Ok(());
        }
        drop(tx);
        transaction!(store, "audit-backups", |tx| {
            let mut events = Vec::new();
            for note in store_kit::take_dumped(tx).await? {
                events.extend(self.backed_up(tx, &note).await?);
            }
            self.put(tx, &events, now).await.map(drop)
        })
    }

    /// What such a note says, as far as it is believed: whoever writes into the store may leave anything. Who holds a key and has
    /// no business to make backups is told of too, where the zone knows who has.
    async fn backed_up(&self, tx: &mut Tx, note: &str) -> Result<Vec<Event>, StoreError> {
        let alarm = |what: &'static str| Event::Alarm { what: what.into() };
        let Ok(of) = serde_json::from_str::<BackedUp>(note) else {
            return Ok(vec![alarm("backup-note-unreadable")]);
        };
        if !is_signed(of.backup, &of.signature, &of.key) {
            return Ok(vec![alarm("backup-note-unsigned")]);
        }
        let told = "SELECT 1 AS found FROM audit_entry WHERE kind = 'service.backed-up' AND body LIKE $1 LIMIT 1";
        let told = sql(told).bind(format!("%\"backup\":\"{}\"%", of.backup));
        if tx.fetch_optional(told).await?.is_some() {
            return Ok(vec![alarm("backup-note-again")]);
        }
        let signer = of.key.thumbprint();
        let mut events = vec![Event::StoreBackedUp {
            backup: of.backup,
            signer,
        }];
        let makers = self.makers();
        if !makers.is_empty() && !makers.contains(&signer) {
            events.push(alarm("backup-by-unknown-key"));
        }
        Ok(events)
    }
}
