//! Comparison of the sealed rows with the audit log, which names every version that was ever written: a row that was set
//! back, put back or taken away is found here even if this process has never seen the newer one (`sap.md` §9).
//!
//! The log is protected by what lies outside the database: signed checkpoints and their witness.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::PoisonError;

use audit_log::{AuditError, Event, LogReader, Summary, Told};
use cm_api::CryptoModule;
use core_types::{Digest32, Level, UnixTime};
use sam_api::ssa::KeyState;
use sam_core::ActState;
use sam_core::enrol::{Factor, Voucher};
use sam_core::office::{Account, GenesisRecord, Officer, Proposal, Session, Standing};
use sap::office::calls::LevelsInfo;
use serde::{Deserialize, Serialize};
use signed_config::Trust;
use store_kit::{Seen, sql};

use crate::failed::Failed;
use crate::records::{KeyRecord, PersonRecord, RequestRecord};
use crate::rows::{self, Noun};
use crate::sam::Sam;

/// Type of the entry about a configuration that was obeyed.
pub(crate) const OBEYED: &str = "settings.adopted";
/// Rows compared in one go.
const PAGE: i64 = 500;
/// Acts and requests that are older than this have no power left, and their rows are deleted when it suits, in seconds.
const FLEETING: i64 = 26 * 3600;
/// How much further back the log is believed about them, in seconds: an act is written to for some time after its making.
const MARGIN: i64 = 4 * 3600;

/// What the comparison found. All of it is alarmed, and refused from then on, but what only lies in the wrong place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Rows that were compared.
    pub rows: u64,
    /// Rows older than the log says.
    pub set_back: Vec<Place>,
    /// Rows that this log has never named: from another time of the store.
    pub strange: Vec<Place>,
    /// Rows that don't open.
    pub tampered: Vec<Place>,
    /// Rows that are gone, though they are never deleted.
    pub missing: Vec<Place>,
    /// Rows that are as they were written, and whose index columns, by which they are found, say something else.
    pub misfiled: Vec<Place>,
}

impl Scrubbed {
    /// Whether a row of this table is refused.
    pub(crate) fn names(&self, table: &str) -> bool {
        let all = [&self.set_back, &self.strange, &self.tampered, &self.missing];
        all.into_iter().flatten().any(|(of, _)| *of == table)
    }
}

/// A row: its table and id.
pub type Place = (&'static str, String);

/// What the log says.
#[derive(Debug, Default)]
struct Ledger {
    /// The newest version of each row, by its table.
    rows: HashMap<String, HashMap<String, i64>>,
    obeyed: Option<Obeyed>,
}

/// The signed configuration that the log names last, as one that was obeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Obeyed {
    pub(crate) serial: u64,
    pub(crate) manifest: Digest32,
    /// Digest of the file of signatures.
    pub(crate) evidence: Digest32,
    /// Who signed it.
    pub(crate) first: Option<Digest32>,
    pub(crate) second: Option<Digest32>,
    /// Of its row.
    #[serde(default)]
    pub(crate) version: i64,
}

#[derive(Deserialize)]
struct Entry<'e> {
    #[serde(borrow)]
    zone: Cow<'e, str>,
    #[serde(borrow, default)]
    kind: Cow<'e, str>,
    at: UnixTime,
    #[serde(borrow, default)]
    rows: Vec<(Cow<'e, str>, Cow<'e, str>, i64)>,
}

impl Ledger {
    /// Takes note of an entry. What it says of acts and requests before `since` doesn't matter any more.
    fn read(&mut self, body: &str, since: UnixTime) -> Result<(), &'static str> {
        let entry: Entry<'_> =
            serde_json::from_str(body).map_err(|_| "it isn't an entry of a log")?;
        if entry.zone != "sam" {
            return Err("it isn't an entry of a SAM");
        }
        if entry.kind == OBEYED {
            #[derive(Deserialize)]
            struct Adopted {
                detail: Obeyed,
            }
            let written = entry.rows.iter().find(|(table, ..)| table == Trust::TABLE);
            let told = serde_json::from_str::<Adopted>(body).ok();
            let told = told.zip(written).map(|(adopted, (.., version))| Obeyed {
                version: *version,
                ..adopted.detail
            });
            // One of an older build, which doesn't say enough, is followed by nothing older.
            self.obeyed = told.and_then(|told| self.obeyed.max(Some(told)));
        }
        for (table, id, version) in entry.rows {
            if entry.at < since && is_fleeting(&table) {
                continue;
            }
            let known = self.rows.entry(table.into_owned()).or_default();
            let newest = known.entry(id.into_owned()).or_insert(version);
            *newest = version.max(*newest);
        }
        Ok(())
    }

    /// Takes note of an entry, or of what was noted of entries that are gone.
    fn take_note(&mut self, told: Told<'_>, since: UnixTime) -> Result<(), &'static str> {
        let part = match told {
            Told::Entry(body) => return self.read(body, since),
            Told::Summary(part) => serde_json::from_str::<Noted>(part),
            Told::Again => {
                *self = Self::default();
                return Ok(());
            }
        };
        let noted = part.map_err(|_| "what was noted of deleted entries is unreadable")?;
        self.obeyed = self.obeyed.max(noted.obeyed);
        self.rows.entry(noted.table).or_default().extend(noted.rows);
        Ok(())
    }

    /// The newest version of a row that is being compared. What is left in the end was never met.
    fn take(&mut self, table: &str, id: &str) -> Option<i64> {
        self.rows.get_mut(table)?.remove(id)
    }
}

/// Rows in a part of what is noted.
const NOTED: usize = 500;

/// What the SAM notes of entries that are deleted after archiving: the newest version of every row that they name, so that
/// the comparison goes on.
#[derive(Debug)]
pub struct LogSummary {
    ledger: Ledger,
    since: UnixTime,
}

/// A part of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Noted {
    table: String,
    /// Newest version by the row's name.
    rows: BTreeMap<String, i64>,
    /// With the rows of [`Trust`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    obeyed: Option<Obeyed>,
}

impl LogSummary {
    /// Nothing noted yet. Acts and requests that are without power at `now` aren't noted.
    pub fn new(now: UnixTime) -> Self {
        Self {
            ledger: Ledger::default(),
            since: now.plus(-FLEETING - MARGIN),
        }
    }
}

impl Summary for LogSummary {
    fn take(&mut self, told: Told<'_>) -> Result<(), &'static str> {
        self.ledger.take_note(told, self.since)
    }

    fn parts(&self) -> Result<Vec<String>, &'static str> {
        let mut parts = Vec::new();
        let tables: BTreeMap<_, _> = self.ledger.rows.iter().collect();
        for (table, rows) in tables {
            let mut rows: Vec<_> = rows.iter().collect();
            rows.sort_unstable();
            for some in rows.chunks(NOTED) {
                let noted = Noted {
                    table: table.clone(),
                    rows: some.iter().map(|(id, v)| ((*id).clone(), **v)).collect(),
                    obeyed: self.ledger.obeyed.filter(|_| table == Trust::TABLE),
                };
                let text = serde_json::to_string(&noted);
                parts.push(text.map_err(|_| "it has no text form")?);
            }
        }
        Ok(parts)
    }
}

fn is_fleeting(table: &str) -> bool {
    table == ActState::TABLE || table == RequestRecord::TABLE
}

impl<C: CryptoModule> Sam<C> {
    /// Checks the audit log in this store, and compares every row with it. What is found wrong is refused from then on
    /// and alarmed. Done at start; to be done again now and then. Reads the whole log.
    ///
    /// # Errors
    /// [`AuditError`] when the log was altered, or can't be read: the SAM must not go on.
    pub async fn scrub(&self) -> Result<Scrubbed, AuditError> {
        self.scrub_and_tell().await.map(|(found, _)| found)
    }

    /// The same; answers also which signed configuration the log names last.
    pub(crate) async fn scrub_and_tell(&self) -> Result<(Scrubbed, Option<Obeyed>), AuditError> {
        let since = self.clock.now().plus(-FLEETING - MARGIN);
        let mut ledger = Ledger::default();
        let read = LogReader::sequenced(&self.audit, &self.store, |told| {
            ledger.take_note(told, since)
        });
        let mut comparison = Comparison {
            reader: read.await?,
            ledger,
            since,
            found: Scrubbed::default(),
        };
        self.compare_rows::<Trust>(&mut comparison).await?;
        self.compare_rows::<GenesisRecord>(&mut comparison).await?;
        self.compare_rows::<Officer>(&mut comparison).await?;
        self.compare_rows::<Account>(&mut comparison).await?;
        self.compare_rows::<Proposal>(&mut comparison).await?;
        self.compare_rows::<Session>(&mut comparison).await?;
        self.compare_rows::<Standing>(&mut comparison).await?;
        self.compare_rows::<PersonRecord>(&mut comparison).await?;
        self.compare_rows::<Factor>(&mut comparison).await?;
        let (at, mut levels) = (self.clock.now(), BTreeMap::<Level, u64>::new());
        let count = |key: &KeyRecord| {
            if key.life.state != KeyState::Destroyed {
                *levels.entry(key.level()).or_default() += 1;
            }
        };
        self.compare_rows_and(&mut comparison, count).await?;
        *self.levels.lock().unwrap_or_else(PoisonError::into_inner) = Some(LevelsInfo {
            at,
            keys: levels.into_iter().collect(),
        });
        self.compare_rows::<Voucher>(&mut comparison).await?;
        self.compare_rows::<RequestRecord>(&mut comparison).await?;
        self.compare_rows::<ActState>(&mut comparison).await?;
        let (found, obeyed) = (comparison.found, comparison.ledger.obeyed);
        for (table, id) in [&found.set_back, &found.strange, &found.missing]
            .into_iter()
            .flatten()
        {
            if let Some(seen) = self.sealer.seen(table) {
                seen.note(id, Seen::NEVER);
            }
        }
        for (places, what) in [
            (&found.set_back, "sealed-row-set-back"),
            (&found.strange, "sealed-row-strange"),
            (&found.tampered, "sealed-row-tampered"),
            (&found.missing, "sealed-row-missing"),
            (&found.misfiled, "sealed-row-misfiled"),
        ] {
            if places.is_empty() {
                continue;
            }
            tracing::error!(what, ?places, "sealed rows don't agree with the audit log");
            self.record(Event::Alarm { what: what.into() }).await;
        }
        Ok((found, obeyed))
    }

    async fn compare_rows<T: Noun>(&self, with: &mut Comparison<'_>) -> Result<(), AuditError> {
        self.compare_rows_and::<T>(with, |_| ()).await
    }

    /// The same; `each` is shown every row that opens.
    async fn compare_rows_and<T: Noun>(
        &self,
        with: &mut Comparison<'_>,
        mut each: impl FnMut(&T) + Send,
    ) -> Result<(), AuditError> {
        let mut after = String::new();
        loop {
            // Log and rows in one snapshot: then the newest versions are the same in both.
            let mut tx = self.store.read("scrub").await?;
            with.catch_up(&mut tx).await?;
            let page = sql(T::PAGE).bind(after.as_str()).bind(PAGE);
            let page = tx.fetch_all(page).await?;
            let Some(last) = page.last() else {
                return with.look_for_missing::<T>(&mut tx).await;
            };
            after = last.text("id")?;
            for row in &page {
                let id = row.text("id")?;
                let name = match T::TABLE == PersonRecord::TABLE {
                    true => audit_log::row_name(&mut tx, &id).await?,
                    false => None,
                };
                let opened = rows::unseal::<T>(&self.sealer, row);
                if let Ok(found) = &opened {
                    each(&found.body);
                    if !rows::is_filed(row, &found.body) {
                        with.found.misfiled.push((T::TABLE, id.clone()));
                    }
                }
                with.judge::<T>(id, name, opened)?;
            }
        }
    }
}

/// A comparison in progress.
struct Comparison<'l> {
    reader: LogReader<'l>,
    ledger: Ledger,
    since: UnixTime,
    found: Scrubbed,
}

impl Comparison<'_> {
    async fn catch_up(&mut self, tx: &mut store_kit::Tx) -> Result<(), AuditError> {
        let (ledger, since) = (&mut self.ledger, self.since);
        let each = |told: Told<'_>| ledger.take_note(told, since);
        self.reader.newer(tx, each).await
    }

    /// `name`: what entries call a row whose id they don't tell.
    fn judge<T: Noun>(
        &mut self,
        id: String,
        name: Option<String>,
        opened: Result<rows::Row<T>, Failed>,
    ) -> Result<(), AuditError> {
        self.found.rows += 1;
        let row = match opened {
            Ok(row) => row,
            Err(Failed::Store(error)) => return Err(error.into()),
            Err(_) => {
                self.found.tampered.push((T::TABLE, id));
                return Ok(());
            }
        };
        let powerless = row.body.columns().stamp < self.since.plus(MARGIN).0;
        // Entries of older builds have the id itself.
        let told = self.ledger.take(T::TABLE, &id);
        let named = name.and_then(|name| self.ledger.take(T::TABLE, &name));
        match told.max(named) {
            Some(version) if row.version == version => {}
            Some(version) if row.version < version => self.found.set_back.push((T::TABLE, id)),
            None if is_fleeting(T::TABLE) && powerless => {}
            _ => self.found.strange.push((T::TABLE, id)),
        }
        Ok(())
    }

    /// What the log names and no page showed, unless it is a kind of row that is deleted in time.
    async fn look_for_missing<T: Noun>(
        &mut self,
        tx: &mut store_kit::Tx,
    ) -> Result<(), AuditError> {
        let named = self.ledger.rows.remove(T::TABLE).unwrap_or_default();
        if is_fleeting(T::TABLE) {
            return Ok(());
        }
        for (name, version) in named {
            // Removed for good, as the log says.
            if version == Seen::NEVER {
                continue;
            }
            let mut id = name;
            if T::TABLE == PersonRecord::TABLE {
                match audit_log::row_of(tx, &id).await? {
                    Some(person) => id = person,
                    // Who was forgotten has no row any more, or one that is strange.
                    None if audit_log::is_forgotten(tx, &id).await? => continue,
                    None => {}
                }
            }
            // It may have been written again after its page.
            if tx.fetch_optional(sql(T::SELECT).bind(&id)).await?.is_none() {
                self.found.missing.push((T::TABLE, id));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_again_is_noted_once() {
        let mut noted = LogSummary::new(UnixTime(1_800_000_000));
        let entry = r#"{"zone":"sam","at":1800000000,"rows":[["person","p1",3]]}"#;
        noted.take(Told::Entry(entry)).unwrap();
        assert_eq!(noted.parts().unwrap().len(), 1);
        noted.take(Told::Again).unwrap();
        assert!(noted.parts().unwrap().is_empty());
    }

    #[test]
    fn which_configuration_was_obeyed_last_is_known_of_entries_that_are_gone() {
        let obeyed = |serial: u8, version| Obeyed {
            serial: serial.into(),
            manifest: Digest32([9 - serial; 32]),
            evidence: Digest32([serial; 32]),
            first: Some(Digest32([1; 32])),
            second: None,
            version,
        };
        let entry = |of: Obeyed| {
            let mut detail = serde_json::to_value(of).unwrap();
            detail.as_object_mut().unwrap().remove("version");
            serde_json::json!({"zone": "sam", "kind": "settings.adopted", "at": 1_800_000_000, "detail": detail,
                "rows": [["settings", "trust", of.version]]})
            .to_string()
        };
        let mut noted = LogSummary::new(UnixTime(1_800_000_000));
        for of in [obeyed(2, 2), obeyed(1, 1)] {
            noted.take(Told::Entry(&entry(of))).unwrap();
        }
        let mut again = LogSummary::new(UnixTime(1_800_000_000));
        for part in noted.parts().unwrap() {
            again.take(Told::Summary(&part)).unwrap();
        }
        assert_eq!(again.ledger.obeyed, Some(obeyed(2, 2)));
        // The same one, put back after a restore.
        again.take(Told::Entry(&entry(obeyed(2, 7)))).unwrap();
        assert_eq!(again.ledger.obeyed, Some(obeyed(2, 7)));
        again.take(Told::Again).unwrap();
        assert_eq!(again.ledger.obeyed, None);
    }
}
