//! The newest entries that somebody has to look at, for the page. That is a reading of the log too, by whoever looks, so it is
//! recorded: not each time the page asks, but each entry once for a session.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use audit_log::Event;
use cm_api::CryptoModule;
use core_types::{Digest32, PeerId, SecretBytes, UnixTime, sha256};
use sam_core::Reason;
use sap::office::calls::AuditEntry;
use store_kit::transaction;

use super::{Person, session_id};
use crate::failed::Failed;
use crate::sam::Sam;

/// Types of entries that somebody has to look at.
const ALERTS: [&str; 7] = [
    "alarm",
    "audit.witness-away",
    "audit.read-refused",
    "factor.locked",
    "officer.passkey-ordered",
    "settings.refused",
    "signature.wrong",
];
const MOST_ALERTS: usize = 20;
/// Sessions that are remembered.
const SESSIONS: usize = 1024;

/// Places of the entries that each session was handed last by this node. Another node, the next start, and a session that gave
/// way to many others record once more: too often rather than never.
#[derive(Debug, Default)]
pub(crate) struct AlertsTold(Mutex<BTreeMap<Digest32, BTreeSet<i64>>>);

impl AlertsTold {
    /// How many of these entries the session wasn't handed before.
    fn new_of(&self, session: &Digest32, places: &BTreeSet<i64>) -> usize {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match told.get(session) {
            Some(before) => places.difference(before).count(),
            None => places.len(),
        }
    }

    fn told(&self, session: Digest32, places: BTreeSet<i64>) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= SESSIONS {
            told.clear();
        }
        told.insert(session, places);
    }
}

impl<C: CryptoModule> Sam<C> {
    /// The newest alerts, without whom they are about: that is for auditors. What isn't recorded isn't handed out.
    pub(super) async fn alerts(
        &self,
        session: &SecretBytes,
        person: &Person,
        now: UnixTime,
    ) -> Result<Vec<AuditEntry>, Failed> {
        let alerts = audit_log::newest(&self.store, &ALERTS, MOST_ALERTS).await?;
        let session = session_id(session);
        let places: BTreeSet<i64> = alerts.iter().map(|entry| entry.seq).collect();
        let new = self.alerts_told.new_of(&session, &places);
        if new > 0 {
            let reader = PeerId::parse(person.account.body.id.as_str());
            let read = Event::AuditRead {
                reader: reader.map_err(|_| Reason::Invalid("account"))?,
                what: "alerts".into(),
                query: sha256(&[ALERTS.join("\n").as_bytes()]),
                entries: u32::try_from(new).unwrap_or(u32::MAX),
            };
            transaction!(self.store, "audit-read", |tx| {
                self.audit.append(tx, read.clone(), now).await?;
                Ok::<_, Failed>(())
            })?;
        }
        self.alerts_told.told(session, places);
        let shown = alerts.into_iter().map(|entry| AuditEntry {
            seq: entry.seq,
            person: None,
            body: entry.body,
        });
        Ok(shown.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_new_once_to_each_session_and_memory_has_an_end() {
        let told = AlertsTold::default();
        let (a, b) = (Digest32([1; 32]), Digest32([2; 32]));
        let places = |all: &[i64]| all.iter().copied().collect::<BTreeSet<_>>();
        assert_eq!(told.new_of(&a, &places(&[3, 5])), 2);
        told.told(a, places(&[3, 5]));
        assert_eq!(told.new_of(&a, &places(&[3, 5])), 0);
        assert_eq!(told.new_of(&a, &places(&[5, 9])), 1);
        assert_eq!(told.new_of(&b, &places(&[5])), 1);
        for n in 0..SESSIONS {
            told.told(sha256(&[&n.to_be_bytes()]), places(&[]));
        }
        assert!(told.0.lock().unwrap().len() <= SESSIONS);
        assert_eq!(told.new_of(&a, &places(&[5])), 1, "recorded once more");
    }
}
