//! The protocol over HTTP.

use std::sync::Arc;

use audit_verify::witness::Verdict;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use core_types::Clock;

use crate::keeper::{Keeper, Outcome};

/// Longest request in bytes: a proof of 63 hashes and a note with some signatures.
const LIMIT: usize = 32 * 1024;

#[derive(Clone)]
struct Serving {
    keeper: Arc<Keeper>,
    clock: Arc<dyn Clock>,
}

/// `POST /add-checkpoint` and `GET /<origin hash>/checkpoint`.
pub fn router(keeper: Arc<Keeper>, clock: Arc<dyn Clock>) -> Router {
    Router::new()
        .route("/add-checkpoint", post(add))
        .route("/{log}/checkpoint", get(latest))
        .layer(DefaultBodyLimit::max(LIMIT))
        .with_state(Serving { keeper, clock })
}

async fn add(State(serving): State<Serving>, body: String) -> Response {
    let Serving { keeper, clock } = serving;
    let added = tokio::task::spawn_blocking(move || keeper.add(&body, clock.now())).await;
    let status = match added {
        Ok(Ok(Outcome::Cosigned(line))) => return line.into_response(),
        Ok(Ok(Outcome::Refused(Verdict::Knows(size)))) => {
            let kind = [(header::CONTENT_TYPE, "text/x.tlog.size")];
            return (StatusCode::CONFLICT, kind, format!("{size}\n")).into_response();
        }
        Ok(Ok(Outcome::Refused(Verdict::Forbidden))) => StatusCode::FORBIDDEN,
        Ok(Ok(Outcome::Refused(Verdict::Contradicts))) => {
            tracing::error!(
                "a log showed a checkpoint that doesn't extend the last one: it was set back or shown in two forms"
            );
            StatusCode::UNPROCESSABLE_ENTITY
        }
        Ok(Ok(Outcome::Refused(_))) => StatusCode::BAD_REQUEST,
        Ok(Ok(Outcome::Unknown)) => StatusCode::NOT_FOUND,
        Ok(Err(error)) => {
            tracing::error!(%error, "a checkpoint couldn't be kept, so it isn't cosigned");
            StatusCode::INTERNAL_SERVER_ERROR
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    status.into_response()
}

async fn latest(State(serving): State<Serving>, Path(log): Path<String>) -> Response {
    match serving.keeper.latest(&log) {
        Some(note) => note.into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
