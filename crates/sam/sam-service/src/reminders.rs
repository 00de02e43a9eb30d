//! Reminding of appointments and trainings that end: an entry of the log, from which whoever watches it makes a mail.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use audit_log::Event;
use cm_api::CryptoModule;
use core_types::{OfficerId, UnixTime};
use sam_core::office::{Officer, Reminder};
use store_kit::{StoreError, transaction};

use crate::failed::Failed;
use crate::rows;
use crate::sam::Sam;

/// What a node has reminded of since its start. Another node, and the next start, remind once more: too often rather than never.
#[derive(Default)]
pub(crate) struct Reminded(Mutex<BTreeMap<OfficerId, Reminder>>);

impl<C: CryptoModule> Sam<C> {
    /// Records whose appointment or training ends within a month, within a week, or has ended: each of them once
    /// (`I-7.1.1.8-appointed-and-trained`).
    pub(crate) async fn remind(&self, now: UnixTime) -> Result<(), StoreError> {
        let due = match self.due(now).await {
            Ok(due) => due,
            Err(Failed::Store(error)) => return Err(error),
            Err(_) => Vec::new(),
        };
        let told = || {
            self.reminded
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        for (officer, reminder) in due {
            if told().get(&officer) == Some(&reminder) {
                continue;
            }
            let event = Event::OfficerDue {
                officer: officer.clone(),
                until: reminder.until,
            };
            transaction!(self.store, "remind", |tx| {
                self.audit.append(tx, event.clone(), now).await.map(drop)
            })?;
            told().insert(officer, reminder);
        }
        Ok(())
    }

    async fn due(&self, now: UnixTime) -> Result<Vec<(OfficerId, Reminder)>, Failed> {
        let mut tx = self.store.read("remind-look").await?;
        let mut due = Vec::new();
        for id in rows::ids::<Officer>(&mut tx).await? {
            match rows::get::<Officer>(&mut tx, &self.sealer, &id).await {
                Ok(row) => {
                    let row = row.map(|row| row.body);
                    let reminder = row.as_ref().and_then(|officer| officer.reminder(now));
                    due.extend(row.map(|officer| officer.id).zip(reminder));
                }
                Err(failed @ Failed::Store(_)) => return Err(failed),
                // The comparison with the log tells of rows that aren't what they were.
                Err(_) => {}
            }
        }
        Ok(due)
    }
}
