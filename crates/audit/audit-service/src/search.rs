//! Search for auditors over the network: the messages, and the handler.

use std::sync::Arc;

use audit_log::{Archived, Class, Event, Outcome, Query, search};
use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use core_types::{KeyId, PersonName, UnixTime};
use serde::{Deserialize, Serialize};
use service_kit::Peer;
use store_kit::StoreError;

use crate::tiles::Reading;

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
    /// Its text (JSON).
    pub body: String,
}

impl SearchRequest {
    /// The query, or what is wrong with it.
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
}

pub(crate) async fn handle(
    State(reading): State<Arc<Reading>>,
    Extension(peer): Extension<Peer>,
    body: axum::body::Bytes,
) -> Response {
    match answer(&reading, &peer, &body).await {
        Ok(response) => response,
        Err(error) => {
            tracing::error!(%error, "an auditor couldn't search the log");
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
    }
}

async fn answer(reading: &Reading, peer: &Peer, body: &[u8]) -> Result<Response, StoreError> {
    let Some(reader) = reading.auditor(peer).await? else {
        return Ok(StatusCode::FORBIDDEN.into_response());
    };
    let request = serde_json::from_slice::<SearchRequest>(body).map_err(|_| "not a search");
    let query = match request.and_then(SearchRequest::query) {
        Ok(query) => query,
        Err(why) => return Ok((StatusCode::BAD_REQUEST, why).into_response()),
    };
    let found = search(&reading.store, &query).await?;
    // What isn't recorded isn't handed out.
    reading
        .record(Event::AuditRead {
            reader,
            what: "search".into(),
            query: query.digest(),
            entries: u32::try_from(found.entries.len()).unwrap_or(u32::MAX),
        })
        .await?;
    let entries = found.entries.into_iter().map(|found| FoundEntry {
        seq: found.entry.seq,
        person: found.person,
        body: found.entry.body,
    });
    Ok(Json(SearchAnswer {
        entries: entries.collect(),
        next: found.next.map(|next| next.to_string()),
        archived: found.archived,
    })
    .into_response())
}
