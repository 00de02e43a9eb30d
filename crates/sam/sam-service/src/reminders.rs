//! Reminding of appointments and trainings that end, and of trainings that nobody recorded: an entry of the log, from which whoever watches it makes a mail.

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
pub(crate) struct Reminded(Mutex<BTreeMap<OfficerId, Due>>);

/// Of what somebody is reminded about one officer.
#[derive(Clone, Copy, Default)]
struct Due {
    end: Option<Reminder>,
    untrained: bool,
}

impl<C: CryptoModule> Sam<C> {
    /// Records whose appointment or training ends within a month, within a week, or has ended, and who is in office without a
    /// training: each of them once (`I-7.1.1.8-appointed-and-trained`).
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
        for (officer, due) in due {
            let before = told().get(&officer).copied().unwrap_or_default();
            let end = due.end.filter(|end| before.end != Some(*end));
            let mut events: Vec<Event> = end
                .map(|end| Event::OfficerDue {
                    officer: officer.clone(),
                    until: end.until,
                })
                .into_iter()
                .collect();
            if due.untrained && !before.untrained {
                events.push(Event::OfficerUntrained {
                    officer: officer.clone(),
                });
            }
            if !events.is_empty() {
                transaction!(self.store, "remind", |tx| {
                    self.audit.append_all(tx, &events, now).await.map(drop)
                })?;
            }
            told().insert(officer, due);
        }
        Ok(())
    }

    /// Of everybody, whether due or not.
    async fn due(&self, now: UnixTime) -> Result<Vec<(OfficerId, Due)>, Failed> {
        let mut tx = self.store.read("remind-look").await?;
        let mut due = Vec::new();
        for id in rows::ids::<Officer>(&mut tx).await? {
            match rows::get::<Officer>(&mut tx, &self.sealer, &id).await {
                Ok(row) => due.extend(row.map(|row| {
                    let is = Due {
                        end: row.body.reminder(now),
                        untrained: row.body.is_untrained(now),
                    };
                    (row.body.id, is)
                })),
                Err(failed @ Failed::Store(_)) => return Err(failed),
                // The comparison with the log tells of rows that aren't what they were.
                Err(_) => {}
            }
        }
        Ok(due)
    }
}
