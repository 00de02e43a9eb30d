//! Reading on for programs of auditors: entries in the order of the log, without names.

use audit_log::{Start, follow};
use core_types::{UnixTime, sha256};
use serde::{Deserialize, Serialize};
use store_kit::{Store, StoreError};

use crate::question::{Answered, Question};

/// Path of reading on.
pub const FOLLOW: &str = "/follow";

/// Where reading goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FollowRequest {
    /// Behind this place in the log.
    pub after: Option<u64>,
    /// Without a place: from the first entry of this time (seconds since 1970) or later.
    pub from: i64,
    /// Most entries, at most 1000.
    pub limit: usize,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FollowAnswer {
    /// In the order of the log.
    pub entries: Vec<Followed>,
    /// Whether there is more.
    pub more: bool,
    /// Entries in the log; not more than the last place read means that an old copy of it was put back.
    pub size: u64,
}

/// An entry at its place. Whom it is about isn't told: its text has an alias.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Followed {
    /// Place in the zone's log.
    pub seq: u64,
    /// Its text (JSON).
    pub body: String,
}

impl Question for FollowRequest {
    const NAME: &'static str = "follow";
    const MALFORMED: &'static str = "not a place to read from";
    type Query = Self;
    type Answer = FollowAnswer;

    fn query(self) -> Result<Self, &'static str> {
        Ok(self)
    }

    async fn answer(query: Self, store: &Store) -> Result<Answered<FollowAnswer>, StoreError> {
        let from = Start::Time(UnixTime(query.from));
        let start = query.after.map_or(from, Start::After);
        let found = follow(store, start, query.limit).await?;
        let entries = found.entries.into_iter().map(|entry| Followed {
            seq: u64::try_from(entry.seq).unwrap_or_default(),
            body: entry.body,
        });
        let entries: Vec<_> = entries.collect();
        Ok(Answered {
            query: sha256(&[format!("{query:?}").as_bytes()]),
            entries: entries.len(),
            answer: FollowAnswer {
                more: entries.len() >= query.limit.clamp(1, audit_log::MOST_FOUND),
                size: u64::try_from(found.size).unwrap_or_default(),
                entries,
            },
        })
    }
}
