//! The log for auditors, as C2SP tlog-tiles over mutual TLS.

use std::sync::Arc;

use audit_log::{AuditLog, Event, Resource, archived, checkpoints, fetch};
use axum::extract::{DefaultBodyLimit, Extension, Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use core_types::{Clock, PeerId, sha256};
use service_kit::{Peer, Rate, RateLimit};
use store_kit::{Store, StoreError, transaction};

use crate::follow::{FOLLOW, FollowRequest};
use crate::question::handle;
use crate::search::{SEARCH, SearchRequest};
use crate::state::{STATE, StateRequest};

/// What auditors read from.
pub struct Reading {
    /// The log, in which each reading is recorded.
    pub log: AuditLog,
    /// Its store.
    pub store: Store,
    /// Its public key, as `log.pub` of an export has it.
    pub public: String,
    /// Names in the certificates of those who may read; everybody else is refused.
    pub auditors: Vec<PeerId>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// How many calls of one stranger are entries: what comes beyond says nothing new, and mustn't fill the disk.
const STRANGERS: Rate = Rate {
    burst: 10,
    per_minute: 10,
};

/// Where auditors read.
pub(crate) struct Desk {
    pub(crate) reading: Reading,
    strangers: RateLimit<PeerId>,
}

/// Longest search in bytes.
const LONGEST: usize = 16 * 1024;

/// `GET /checkpoint`, `GET /tile/…`, and what an export has beside: `GET /checkpoints/AFTER` (a JSON array of the notes of at most 1000
/// checkpoints over more than so many entries), `GET /log.pub`, `GET /archived.json` (an empty array where nothing was deleted); `POST /search`, `POST /follow` and `POST /state`; for a listener with [`service_kit::tls::mutual_server`].
pub fn router(reading: Reading) -> Router {
    Router::new()
        .route("/checkpoint", get(checkpoint))
        .route("/tile/{*path}", get(tile))
        .route("/checkpoints/{after}", get(older))
        .route("/log.pub", get(public))
        .route("/archived.json", get(deleted))
        .route(SEARCH, post(handle::<SearchRequest>))
        .route(FOLLOW, post(handle::<FollowRequest>))
        .route(STATE, post(handle::<StateRequest>))
        .layer(DefaultBodyLimit::max(LONGEST))
        .with_state(Arc::new(Desk {
            reading,
            strangers: RateLimit::default(),
        }))
}

async fn checkpoint(State(desk): State<Arc<Desk>>, Extension(peer): Extension<Peer>) -> Response {
    desk.answer(&peer, Some(Resource::Checkpoint)).await
}

async fn tile(
    State(desk): State<Arc<Desk>>,
    Extension(peer): Extension<Peer>,
    Path(path): Path<String>,
) -> Response {
    let resource = Resource::parse(&format!("tile/{path}"));
    desk.answer(&peer, resource).await
}

async fn older(
    State(desk): State<Arc<Desk>>,
    Extension(peer): Extension<Peer>,
    Path(after): Path<String>,
) -> Response {
    let notes = async {
        let Some(after) = after.parse().ok().filter(|after| *after >= 0) else {
            return Ok::<_, StoreError>(StatusCode::NOT_FOUND.into_response());
        };
        let notes = checkpoints(&desk.reading.store, after).await?;
        Ok(Json(notes).into_response())
    };
    desk.beside(&peer, notes).await
}

async fn public(State(desk): State<Arc<Desk>>, Extension(peer): Extension<Peer>) -> Response {
    let key = format!("{}\n", desk.reading.public);
    desk.beside(&peer, async { Ok(key.into_response()) }).await
}

async fn deleted(State(desk): State<Arc<Desk>>, Extension(peer): Extension<Peer>) -> Response {
    let ranges = async {
        let mut tx = desk.reading.store.read("audit-archived").await?;
        Ok::<_, StoreError>(Json(archived(&mut tx).await?).into_response())
    };
    desk.beside(&peer, ranges).await
}

impl Desk {
    /// What tells of no entry, and so is recorded as little as hashes are.
    async fn beside(
        &self,
        peer: &Peer,
        answer: impl Future<Output = Result<Response, StoreError>> + Send,
    ) -> Response {
        let answered = async {
            match self.auditor(peer).await? {
                Some(_) => answer.await,
                None => Ok(StatusCode::FORBIDDEN.into_response()),
            }
        };
        match answered.await {
            Ok(response) => response,
            Err(error) => unread(&error),
        }
    }

    async fn answer(&self, peer: &Peer, resource: Option<Resource>) -> Response {
        match self.read(peer, resource).await {
            Ok(Ok(response)) => response,
            Ok(Err(status)) => status.into_response(),
            Err(error) => unread(&error),
        }
    }

    /// Recorded first: what isn't recorded isn't handed out.
    async fn read(
        &self,
        peer: &Peer,
        resource: Option<Resource>,
    ) -> Result<Result<Response, StatusCode>, StoreError> {
        let Some(reader) = self.auditor(peer).await? else {
            return Ok(Err(StatusCode::FORBIDDEN));
        };
        let Some(resource) = resource else {
            return Ok(Err(StatusCode::NOT_FOUND));
        };
        let Some(bytes) = fetch(&self.reading.store, resource).await? else {
            return Ok(Err(StatusCode::NOT_FOUND));
        };
        let (kind, caching) = match resource {
            Resource::Checkpoint => ("text/plain; charset=utf-8", "no-cache"),
            _ => (
                "application/octet-stream",
                "private, max-age=31536000, immutable",
            ),
        };
        if let Resource::Entries { width, .. } = resource {
            let event = Event::AuditRead {
                reader,
                what: "bundle".into(),
                query: sha256(&[resource.to_string().as_bytes()]),
                entries: u32::try_from(width).unwrap_or(u32::MAX),
            };
            self.record(event).await?;
        }
        let mut response = bytes.into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
        Ok(Ok(response))
    }

    /// Who reads, if they may; who may not is recorded, at a bounded rate.
    pub(crate) async fn auditor(&self, peer: &Peer) -> Result<Option<PeerId>, StoreError> {
        let Ok(reader) = PeerId::parse(peer.name.as_str()) else {
            return Ok(None);
        };
        if self.reading.auditors.contains(&reader) {
            return Ok(Some(reader));
        }
        tracing::warn!(%reader, "a caller that is no auditor was refused");
        let now = self.reading.clock.now();
        if self.strangers.take(&reader, STRANGERS, now).is_ok() {
            self.record(Event::AuditReadRefused { reader }).await?;
        }
        Ok(None)
    }

    pub(crate) async fn record(&self, event: Event) -> Result<(), StoreError> {
        let Reading {
            log, store, clock, ..
        } = &self.reading;
        transaction!(store, "audit-read", |tx| {
            log.append(tx, event.clone(), clock.now()).await.map(drop)
        })
    }
}

fn unread(error: &StoreError) -> Response {
    tracing::error!(%error, "an auditor couldn't read the log");
    StatusCode::SERVICE_UNAVAILABLE.into_response()
}
