//! Searching the log by time, type, person, key and outcome. Every search walks an index and reads a bounded number of
//! rows, whatever the size of the log.

use std::collections::BTreeSet;
use std::str::FromStr;

use core_types::{Digest32, KeyId, PersonName, UnixTime, sha256};
use store_kit::{Row, Store, StoreError, Tx, sql};

use crate::event::{Class, Event, Outcome, class_of};
use crate::export::{LoggedEntry, entry};
use crate::person::is_of;
use crate::place;
use crate::sequencer::{Archived, archived};

/// Most entries of one answer.
pub const MOST_FOUND: usize = 1000;
/// Rows read at a time, and how many such reads one search may take.
const PAGE: usize = 500;
const READS: usize = 20;

/// What to look for (`I-7.1.4.5-search`, `I-A5-audit-log-selectable`); empty members match everything.
#[derive(Debug, Clone)]
pub struct Query {
    /// From this time on.
    pub from: UnixTime,
    /// Before this time.
    pub until: UnixTime,
    /// Types, such as `key.used`, or beginnings of types, such as `key.`.
    pub kinds: Vec<String>,
    /// Person it is about.
    pub person: Option<PersonName>,
    /// Key it is about.
    pub key: Option<KeyId>,
    /// What became of it.
    pub outcome: Option<Outcome>,
    /// Class.
    pub class: Option<Class>,
    /// Behind this place, for the next page.
    pub after: Option<Cursor>,
    /// Most entries to be found, at most [`MOST_FOUND`].
    pub limit: usize,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            from: UnixTime(0),
            until: UnixTime(i64::MAX),
            kinds: Vec::new(),
            person: None,
            key: None,
            outcome: None,
            class: None,
            after: None,
            limit: 100,
        }
    }
}

/// A place in the order of search: by time, then node and number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    at: i64,
    node: String,
    n: i64,
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.at, self.n, self.node)
    }
}

/// A text that is no place in a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a place in a search; take the one that the search before answered")]
pub struct BadCursor;

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let mut parts = text.splitn(3, '/');
        let mut next = || parts.next().ok_or(BadCursor);
        let (at, n, node) = (next()?, next()?, next()?);
        Ok(Self {
            at: at.parse().map_err(|_| BadCursor)?,
            n: n.parse().map_err(|_| BadCursor)?,
            node: node.to_owned(),
        })
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// In order of time.
    pub entries: Vec<FoundEntry>,
    /// Where to go on, unless this is all.
    pub next: Option<Cursor>,
    /// Ranges that reach into the time asked for and lie in archives, deleted from here; oldest first.
    pub archived: Vec<Archived>,
}

/// An entry with what isn't in its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundEntry {
    /// As it is logged.
    pub entry: LoggedEntry,
    /// Whom it is about, unless that was forgotten.
    pub person: Option<String>,
    /// The address that the text's `from` stands for, unless that was forgotten.
    pub from: Option<String>,
}

impl Query {
    /// Names what is looked for, for the record of the reading.
    pub fn digest(&self) -> Digest32 {
        sha256(&[format!("{self:?}").as_bytes()])
    }

    /// The types that fit, of all there are.
    fn wanted(&self) -> BTreeSet<&'static str> {
        let named = |kind: &str| {
            let fits = |wanted: &String| {
                kind == wanted || (wanted.ends_with('.') && kind.starts_with(wanted.as_str()))
            };
            self.kinds.is_empty() || self.kinds.iter().any(fits)
        };
        let kinds = Event::KINDS.iter().copied();
        let kinds = kinds.filter(|kind| named(kind));
        let kinds = kinds.filter(|kind| self.class.is_none_or(|class| class_of(kind) == class));
        let outcome = |kind: &&str| {
            let fits = |outcome| Event::outcome_of(kind) == Some(outcome);
            self.outcome.is_none_or(fits)
        };
        kinds.filter(outcome).collect()
    }

    fn start(&self) -> Cursor {
        let first = Cursor {
            at: self.from.0,
            node: String::new(),
            n: 0,
        };
        self.after.clone().unwrap_or_default().max(first)
    }
}

impl Default for Cursor {
    fn default() -> Self {
        Self {
            at: i64::MIN,
            node: String::new(),
            n: 0,
        }
    }
}

/// Which index is walked.
enum By<'q> {
    Time,
    Kind(&'static str),
    Person(&'q PersonName),
    Key(&'q KeyId),
}

/// Searches.
///
/// # Errors
/// [`StoreError`].
pub async fn search(store: &Store, query: &Query) -> Result<Found, StoreError> {
    let limit = query.limit.clamp(1, MOST_FOUND);
    let wanted = query.wanted();
    let mut tx = store.read("audit-search").await?;
    let mut found = if let Some(person) = &query.person {
        walk(&mut tx, query, &By::Person(person), &wanted, limit).await
    } else if let Some(key) = &query.key {
        walk(&mut tx, query, &By::Key(key), &wanted, limit).await
    } else if wanted.len() == Event::KINDS.len() {
        walk(&mut tx, query, &By::Time, &wanted, limit).await
    } else {
        merge(&mut tx, query, &wanted, limit).await
    }?;
    for found in &mut found.entries {
        found.from = place::of_entry(&mut tx, &found.entry.body).await?;
    }
    found.archived = archived(&mut tx).await?;
    let from = query.start().at;
    found.archived.retain(|range| range.last.0 >= from);
    Ok(found)
}

/// Follows one index, and takes what fits.
async fn walk(
    tx: &mut Tx,
    query: &Query,
    by: &By<'_>,
    wanted: &BTreeSet<&'static str>,
    limit: usize,
) -> Result<Found, StoreError> {
    let mut entries = Vec::new();
    let mut at = query.start();
    for _ in 0..READS {
        let page = page(tx, query, by, &at, PAGE).await?;
        let last = page.len() < PAGE;
        for found in page {
            at = place(&found);
            let fits = wanted.contains(found.entry.kind.as_str())
                && (query.key.is_none() || matches!(by, By::Key(_)) || about(&found, query));
            if fits {
                entries.push(found);
            }
            if entries.len() == limit {
                return Ok(Found {
                    entries,
                    next: Some(at),
                    archived: Vec::new(),
                });
            }
        }
        if last {
            return Ok(Found {
                entries,
                next: None,
                archived: Vec::new(),
            });
        }
    }
    Ok(Found {
        entries,
        next: Some(at),
        archived: Vec::new(),
    })
}

/// Joins the entries of several types in order.
async fn merge(
    tx: &mut Tx,
    query: &Query,
    wanted: &BTreeSet<&'static str>,
    limit: usize,
) -> Result<Found, StoreError> {
    let (mut entries, at) = (Vec::new(), query.start());
    for kind in wanted {
        entries.extend(page(tx, query, &By::Kind(kind), &at, limit).await?);
        // What comes behind the first `limit` of all is never needed.
        entries.sort_by_key(place);
        entries.truncate(limit);
    }
    let next = (entries.len() == limit).then(|| entries.last().map(place));
    Ok(Found {
        entries,
        next: next.flatten(),
        archived: Vec::new(),
    })
}

fn place(found: &FoundEntry) -> Cursor {
    Cursor {
        at: found.entry.at.0,
        node: found.entry.node.clone(),
        n: found.entry.n,
    }
}

/// Whether the entry is about the key that is looked for.
fn about(found: &FoundEntry, query: &Query) -> bool {
    let body: Option<serde_json::Value> = serde_json::from_str(&found.entry.body).ok();
    let key = body
        .as_ref()
        .and_then(|body| body["detail"]["key"].as_str());
    key == query.key.as_ref().map(KeyId::as_str)
}

macro_rules! select {
    ($which:literal) => {
        concat!(
            "SELECT e.seq, e.node, e.n, e.at, e.kind, e.leaf, e.body, e.person AS alias, p.person AS known, p.salt \
             FROM audit_entry e LEFT JOIN audit_person p ON p.alias = e.person \
             WHERE ",
            $which,
            " e.at < $1 AND (e.at, e.node, e.n) > ($2, $3, $4) AND e.seq IS NOT NULL \
             ORDER BY e.at, e.node, e.n LIMIT $5"
        )
    };
}

async fn page(
    tx: &mut Tx,
    query: &Query,
    by: &By<'_>,
    after: &Cursor,
    limit: usize,
) -> Result<Vec<FoundEntry>, StoreError> {
    let text = match by {
        By::Time => select!(""),
        By::Kind(_) => select!("e.kind = $6 AND "),
        By::Person(_) => {
            select!("e.person = (SELECT alias FROM audit_person WHERE person = $6) AND ")
        }
        By::Key(_) => select!("e.key_id = $6 AND "),
    };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let select = sql(text).bind(query.until.0).bind(after.at);
    let select = select.bind(after.node.as_str()).bind(after.n).bind(limit);
    let select = match by {
        By::Time => select,
        By::Kind(kind) => select.bind(*kind),
        By::Person(person) => select.bind(person.as_str()),
        By::Key(key) => select.bind(key.as_str()),
    };
    let rows = tx.fetch_all(select).await?;
    let found = |row: &Row| {
        let (alias, known) = (row.maybe_text("alias")?, row.maybe_text("known")?);
        let salt = row.maybe_blob("salt")?.unwrap_or_default();
        let known = known.zip(alias);
        // Whose alias it isn't isn't named.
        let known = known.filter(|(known, alias)| is_of(known, alias, &salt));
        Ok(FoundEntry {
            entry: entry(row)?,
            person: known.map(|(known, _)| known),
            from: None,
        })
    };
    rows.iter().map(found).collect()
}
