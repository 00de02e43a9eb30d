//! What auditors ask in the body of a request, and the one way in which it is answered.

use std::future::Future;
use std::sync::Arc;

use audit_log::Event;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use core_types::Digest32;
use serde::Serialize;
use serde::de::DeserializeOwned;
use service_kit::Peer;
use store_kit::{Store, StoreError};

use crate::tiles::Desk;

/// A question, as it comes (JSON).
pub(crate) trait Question: DeserializeOwned + Send {
    /// As what reading is recorded.
    const NAME: &'static str;
    /// What is told to whoever sends something else.
    const MALFORMED: &'static str;
    /// The same, checked.
    type Query: Send;
    /// The answer's body.
    type Answer: Serialize + Send;

    /// Checks it; or what is wrong with it.
    fn query(self) -> Result<Self::Query, &'static str>;

    /// Reads the answer.
    fn answer(
        query: Self::Query,
        store: &Store,
    ) -> impl Future<Output = Result<Answered<Self::Answer>, StoreError>> + Send;
}

/// An answer, with what is recorded of it before it is handed out.
pub(crate) struct Answered<A> {
    /// Digest of the question.
    pub(crate) query: Digest32,
    /// How many entries are told.
    pub(crate) entries: usize,
    /// The answer.
    pub(crate) answer: A,
}

/// Answers an auditor; everybody else is refused.
pub(crate) async fn handle<Q: Question>(
    State(desk): State<Arc<Desk>>,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Response {
    match answer::<Q>(&desk, &peer, &body).await {
        Ok(response) => response,
        Err(error) => {
            tracing::error!(%error, what = Q::NAME, "an auditor couldn't read the log");
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
    }
}

async fn answer<Q: Question>(
    desk: &Desk,
    peer: &Peer,
    body: &[u8],
) -> Result<Response, StoreError> {
    let Some(reader) = desk.auditor(peer).await? else {
        return Ok(StatusCode::FORBIDDEN.into_response());
    };
    let question = serde_json::from_slice::<Q>(body).map_err(|_| Q::MALFORMED);
    let query = match question.and_then(Q::query) {
        Ok(query) => query,
        Err(why) => return Ok((StatusCode::BAD_REQUEST, why).into_response()),
    };
    let found = Q::answer(query, &desk.reading.store).await?;
    // What isn't recorded isn't handed out.
    desk.record(Event::AuditRead {
        reader,
        what: Q::NAME.into(),
        query: found.query,
        entries: u32::try_from(found.entries).unwrap_or(u32::MAX),
    })
    .await?;
    Ok(Json(found.answer).into_response())
}
