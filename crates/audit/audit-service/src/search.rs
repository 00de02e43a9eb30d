//! Search for auditors over the network: the messages, and what answers them.

use audit_log::{Archived, Class, Event, Outcome, Query, search};
use core_types::{KeyId, PersonName, UnixTime};
use serde::{Deserialize, Serialize};
use store_kit::{Store, StoreError};

use crate::question::{Answered, Question};

/// Path of a search.
pub const SEARCH: &str = "/search";

/// What to look for; what is missing matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SearchRequest {
    /// From this time on, seconds since 1970.
    pub from: Option<i64>,
    /// Before this time.
    pub until: Option<i64>,
    /// Types, such as `key.used`, or beginnings of types, such as `key.`.
    pub kinds: Vec<String>,
    /// Person it is about.
    pub person: Option<PersonName>,
    /// Key it is about.
    pub key: Option<KeyId>,
    /// `success`, `failure` or `intent`.
    pub outcome: Option<String>,
    /// `transaction` or `access`.
    pub class: Option<String>,
    /// `next` of the answer before.
    pub after: Option<String>,
    /// Most entries, at most 1000.
    pub limit: Option<usize>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchAnswer {
    /// In order of time.
    pub entries: Vec<FoundEntry>,
    /// Where to go on, unless this is all.
    pub next: Option<String>,
    /// Ranges that reach into the time asked for and lie in archives, deleted from this log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub archived: Vec<Archived>,
}

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FoundEntry {
    /// Place in the zone's log.
    pub seq: i64,
    /// Whom it is about, unless that was forgotten; the text has an alias.
    pub person: Option<String>,
    /// The address that `from` in the text stands for, unless that was forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Its text (JSON).
    pub body: String,
}

impl Question for SearchRequest {
    const NAME: &'static str = "search";
    const MALFORMED: &'static str = "not a search";
    type Query = Query;
    type Answer = SearchAnswer;

    fn query(self) -> Result<Query, &'static str> {
        let outcome = self
            .outcome
            .map(|name| Outcome::parse(&name).ok_or("an outcome is success, failure or intent"));
        let class = self
            .class
            .map(|name| Class::parse(&name).ok_or("a class is transaction or access"));
        let known = |kind: &String| {
            let begins = |k: &&str| kind.ends_with('.') && k.starts_with(kind.as_str());
            Event::KINDS.iter().any(|k| k == kind || begins(k))
        };
        if !self.kinds.iter().all(known) {
            return Err("there is no such type of event");
        }
        let after = self.after.map(|text| text.parse()).transpose();
        let every = Query::default();
        Ok(Query {
            from: self.from.map_or(every.from, UnixTime),
            until: self.until.map_or(every.until, UnixTime),
            kinds: self.kinds,
            person: self.person,
            key: self.key,
            outcome: outcome.transpose()?,
            class: class.transpose()?,
            after: after.map_err(|_| "after is the place that the answer before told")?,
            limit: self.limit.unwrap_or(every.limit),
        })
    }

    async fn answer(query: Query, store: &Store) -> Result<Answered<SearchAnswer>, StoreError> {
        let found = search(store, &query).await?;
        let entries = found.entries.into_iter().map(|found| FoundEntry {
            seq: found.entry.seq,
            person: found.person,
            from: found.from,
            body: found.entry.body,
        });
        let entries: Vec<_> = entries.collect();
        Ok(Answered {
            query: query.digest(),
            entries: entries.len(),
            answer: SearchAnswer {
                entries,
                next: found.next.map(|next| next.to_string()),
                archived: found.archived,
            },
        })
    }
}
