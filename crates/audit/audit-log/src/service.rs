//! Start and end of a zone's process, and what is set otherwise than at the last start (`I-7.1.4.1~`).

use core_types::{Digest32, UnixTime, sha256};
use store_kit::{Store, StoreError, Tx, sql, transaction};

use crate::event::{Code, Event};
use crate::log::AuditLog;

/// A setting by its name and the digest of its value.
pub type Setting = (&'static str, Digest32);

impl AuditLog {
    /// Records that the audit function and the service begin, and which settings have changed since the last start of
    /// this node.
    ///
    /// # Errors
    /// [`StoreError`]; then the service must not start.
    pub async fn starts(
        &self,
        tx: &mut Tx,
        version: Code,
        settings: &[Setting],
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
        for (name, before, value) in self.changed(tx, settings).await? {
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
            let changed = self.changed(tx, parameters).await?;
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

    /// Those that differ from what was noted last, with the value before; a first value is no change.
    async fn changed(
        &self,
        tx: &mut Tx,
        now: &[Setting],
    ) -> Result<Vec<(&'static str, Digest32, Digest32)>, StoreError> {
        let mut changed = Vec::new();
        for (name, value) in now {
            let select = "SELECT value FROM audit_setting WHERE node = $1 AND name = $2";
            let last = tx
                .fetch_optional(sql(select).bind(self.node()).bind(*name))
                .await?;
            let write = match last.map(|row| row.text("value")).transpose()? {
                Some(last) if last == value.to_string() => continue,
                Some(last) => {
                    let last = Digest32::parse(&last).map_err(|_| StoreError::Column("value"))?;
                    changed.push((*name, last, *value));
                    "UPDATE audit_setting SET value = $1 WHERE node = $2 AND name = $3"
                }
                None => {
                    "INSERT INTO audit_setting (value, node, name) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
                }
            };
            let write = sql(write).bind(value.to_string()).bind(self.node());
            tx.execute(write.bind(*name)).await?;
        }
        Ok(changed)
    }
}
