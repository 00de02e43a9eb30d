//! Reading on for programs of auditors: entries in the order of the log, without names.

use std::sync::Arc;

use audit_log::{Event, Start, follow};
use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use core_types::{UnixTime, sha256};
use serde::{Deserialize, Serialize};
use service_kit::Peer;
use store_kit::StoreError;

use crate::tiles::Reading;

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

pub(crate) async fn handle(
    State(reading): State<Arc<Reading>>,
    Extension(peer): Extension<Peer>,
    body: axum::body::Bytes,
) -> Response {
    match answer(&reading, &peer, &body).await {
        Ok(response) => response,
        Err(error) => {
            tracing::error!(%error, "an auditor couldn't read the log on");
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
    }
}

async fn answer(reading: &Reading, peer: &Peer, body: &[u8]) -> Result<Response, StoreError> {
    let Some(reader) = reading.auditor(peer).await? else {
        return Ok(StatusCode::FORBIDDEN.into_response());
    };
    let Ok(request) = serde_json::from_slice::<FollowRequest>(body) else {
        return Ok((StatusCode::BAD_REQUEST, "not a place to read from").into_response());
    };
    let from = Start::Time(UnixTime(request.from));
    let start = request.after.map_or(from, Start::After);
    let found = follow(&reading.store, start, request.limit).await?;
    // What isn't recorded isn't handed out.
    reading
        .record(Event::AuditRead {
            reader,
            what: "follow".into(),
            query: sha256(&[format!("{request:?}").as_bytes()]),
            entries: u32::try_from(found.entries.len()).unwrap_or(u32::MAX),
        })
        .await?;
    let more = found.entries.len() >= request.limit.clamp(1, audit_log::MOST_FOUND);
    let size = u64::try_from(found.size).unwrap_or_default();
    let entries = found.entries.into_iter().map(|entry| Followed {
        seq: u64::try_from(entry.seq).unwrap_or_default(),
        body: entry.body,
    });
    Ok(Json(FollowAnswer {
        entries: entries.collect(),
        more,
        size,
    })
    .into_response())
}
