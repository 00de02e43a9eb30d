//! Comparison of the sealed rows with the audit log, which names every version that was ever written: a row that was set
//! back, put back or taken away is found here even if this process has never seen the newer one (`sap.md` §9).
//!
//! The log is protected by what lies outside the database: signed checkpoints and their witness.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
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
use crate::flows::{IN_FORCE, InForce};
use crate::metadata::{self, HighestIssue};
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
    told: FromLog,
}

/// What a start asks the log for, beside the rows.
#[derive(Debug, Default)]
pub(crate) struct FromLog {
    /// The signed configuration that it names last, as one that was obeyed.
    pub(crate) obeyed: Option<Obeyed>,
    /// Every policy that was in force.
    pub(crate) policies: BTreeSet<InForce>,
    /// Of each root the highest issue of the FIDO metadata.
    pub(crate) issues: BTreeMap<Option<Digest32>, IssueTold>,
}

impl FromLog {
    fn note_issue(&mut self, told: IssueTold) {
        let highest = self.issues.entry(told.root).or_insert(told);
        *highest = told.max(*highest);
    }
}

/// An issue of the FIDO metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct IssueTold {
    pub(crate) number: u64,
    /// SHA-256 of the root to which its signer leads. Numbers of one maker say nothing of another's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) root: Option<Digest32>,
    /// Of its row.
    #[serde(default)]
    pub(crate) version: i64,
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
            self.told.obeyed = told.and_then(|told| self.told.obeyed.max(Some(told)));
        }
        if entry.kind == IN_FORCE {
            let policy = InForce::read(body).ok_or("a policy in force has no number")?;
            self.told.policies.insert(policy);
        }
        if entry.kind == metadata::ADOPTED {
            #[derive(Deserialize)]
            struct Adopted {
                detail: IssueTold,
            }
            let mut rows = entry.rows.iter();
            let written = rows.find(|(table, ..)| table == HighestIssue::TABLE);
            let told = serde_json::from_str::<Adopted>(body);
            let told = told.map_err(|_| "it names an issue without a number")?;
            let told = IssueTold {
                version: written.map_or(0, |(.., version)| *version),
                ..told.detail
            };
            self.told.note_issue(told);
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
        self.told.obeyed = self.told.obeyed.max(noted.obeyed);
        for told in noted.issues {
            self.told.note_issue(told);
        }
        self.told.policies.extend(noted.policies);
        if !noted.rows.is_empty() {
            self.rows.entry(noted.table).or_default().extend(noted.rows);
        }
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
    /// In a part of their own.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    policies: BTreeSet<InForce>,
    /// With the rows of [`HighestIssue`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    issues: Vec<IssueTold>,
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
        let mut all = Vec::new();
        let told = &self.ledger.told;
        let tables: BTreeMap<_, _> = self.ledger.rows.iter().collect();
        for (table, rows) in tables {
            let mut rows: Vec<_> = rows.iter().collect();
            rows.sort_unstable();
            for some in rows.chunks(NOTED) {
                all.push(Noted {
                    table: table.clone(),
                    rows: some.iter().map(|(id, v)| ((*id).clone(), **v)).collect(),
                    obeyed: told.obeyed.filter(|_| table == Trust::TABLE),
                    policies: BTreeSet::new(),
                    issues: match table == HighestIssue::TABLE {
                        true => told.issues.values().copied().collect(),
                        false => Vec::new(),
                    },
                });
            }
        }
        let policies: Vec<_> = told.policies.iter().collect();
        for some in policies.chunks(NOTED) {
            all.push(Noted {
                table: String::new(),
                rows: BTreeMap::new(),
                obeyed: None,
                policies: some.iter().map(|policy| (*policy).clone()).collect(),
                issues: Vec::new(),
            });
        }
        let text = |noted: &Noted| serde_json::to_string(noted).map_err(|_| "it has no text form");
        all.iter().map(text).collect()
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

    /// The same; answers also what else a start asks the log for.
    pub(crate) async fn scrub_and_tell(&self) -> Result<(Scrubbed, FromLog), AuditError> {
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
        self.compare_rows::<HighestIssue>(&mut comparison).await?;
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
        let (found, told) = (comparison.found, comparison.ledger.told);
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
        Ok((found, told))
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
        assert_eq!(again.ledger.told.obeyed, Some(obeyed(2, 2)));
        // The same one, put back after a restore.
        again.take(Told::Entry(&entry(obeyed(2, 7)))).unwrap();
        assert_eq!(again.ledger.told.obeyed, Some(obeyed(2, 7)));
        again.take(Told::Again).unwrap();
        assert_eq!(again.ledger.told.obeyed, None);
    }

    #[test]
    fn which_policies_were_in_force_is_known_of_entries_that_are_gone() {
        let entry = |tenant: Option<&str>, version: u32, policy: u8| {
            let mut entry = serde_json::json!({"zone": "sam", "kind": IN_FORCE, "at": 1_800_000_000,
                "detail": {"version": version, "policy": Digest32([policy; 32])}});
            if let Some(tenant) = tenant {
                entry["tenant"] = tenant.into();
            }
            entry.to_string()
        };
        let mut noted = LogSummary::new(UnixTime(1_800_000_000));
        for entry in [
            entry(None, 1, 1),
            entry(None, 2, 2),
            entry(None, 1, 1),
            entry(Some("acme"), 1, 3),
        ] {
            noted.take(Told::Entry(&entry)).unwrap();
        }
        let mut again = LogSummary::new(UnixTime(1_800_000_000));
        for part in noted.parts().unwrap() {
            again.take(Told::Summary(&part)).unwrap();
        }
        assert_eq!(again.ledger.told.policies.len(), 3);
        assert_eq!(again.ledger.told.policies, noted.ledger.told.policies);
        let bad = r#"{"zone":"sam","kind":"settings.policy-in-force","at":1800000000,"detail":{}}"#;
        assert!(again.take(Told::Entry(bad)).is_err());
    }

    #[test]
    fn the_highest_issue_of_each_maker_is_known_of_entries_that_are_gone() {
        let [one, other] = [Digest32([1; 32]), Digest32([2; 32])];
        let entry = |root: Digest32, number: u64, version: i64| {
            serde_json::json!({"zone": "sam", "kind": "attestation.metadata", "at": 1_800_000_000,
                "detail": {"number": number, "root": root},
                "rows": [["attestation_metadata", root, version]]})
            .to_string()
        };
        let now = UnixTime(1_800_000_000);
        let mut noted = LogSummary::new(now);
        let entries = [(8, 1), (9, 2), (9, 5), (7, 9)].map(|told| (one, told));
        for (root, (number, version)) in entries.into_iter().chain([(other, (900, 1))]) {
            let told = entry(root, number, version);
            noted.take(Told::Entry(&told)).unwrap();
        }
        let mut again = LogSummary::new(now);
        for part in noted.parts().unwrap() {
            again.take(Told::Summary(&part)).unwrap();
        }
        let highest = |root, number, version| {
            let root = Some(root);
            let told = IssueTold {
                number,
                root,
                version,
            };
            (root, told)
        };
        let issues = BTreeMap::from([highest(one, 9, 5), highest(other, 900, 1)]);
        assert_eq!(again.ledger.told.issues, issues);
    }
}
