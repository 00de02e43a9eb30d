//! The JSON API beside the pages. It goes the same way and uses the same session cookie; whoever drives it visits
//! `next` with the signer's browser and asks again.
//!
//! - `POST /api/documents?name=…` with the PDF as body → the document
//! - `GET /api/documents/{id}` → the document
//! - `POST /api/documents/{id}/sign`, `/choose?key=…`, `/resume` → the document
//! - `GET /documents/{id}/prepared.pdf` → while the approval is waited for, the file that the approval page can compare
//! - `GET /documents/{id}/signed.pdf` → the signed file

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http_body_util::BodyExt as _;
use serde::{Deserialize, Serialize};
use signing_job::Outcome;
use web_ui::{Lang, Messages};

use crate::app::App;
use crate::begin::Place;
use crate::files::{Incoming, Stored};
use crate::guard;
use crate::problem::Problem;
use crate::sessions::SessionId;
use crate::view::{Choice, Stage, View, words};

type Shared = State<Arc<App>>;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route(
            "/api/documents",
            post(create).layer(DefaultBodyLimit::disable()),
        )
        .route("/api/documents/{id}", get(show))
        .route("/api/documents/{id}/sign", post(sign))
        .route("/api/documents/{id}/choose", post(choose))
        .route("/api/documents/{id}/resume", post(resume))
}

/// A document. Members are added, never renamed.
#[derive(Serialize)]
struct Answer {
    schema: &'static str,
    id: String,
    name: String,
    size: u64,
    sha256: String,
    signatures_before: usize,
    /// `ready`, `authorize`, `choose`, `working`, `resume` or `signed`.
    state: &'static str,
    /// Where the signer's browser has to go.
    next: Option<String>,
    /// What for: `login` or `approve`.
    purpose: Option<&'static str>,
    keys: Vec<Choice>,
    /// Address of the file with room for its signature, on this origin, while the approval is waited for and the approval page
    /// can say whether a file is what will be signed.
    prepared: Option<String>,
    /// Address of the signed file, on this origin.
    signed: Option<String>,
    result: Option<Outcome>,
    problem: Option<Trouble>,
}

#[derive(Serialize)]
struct Trouble {
    code: &'static str,
    what: String,
    #[serde(rename = "do")]
    todo: String,
}

#[derive(Serialize)]
struct ErrorAnswer {
    schema: &'static str,
    #[serde(flatten)]
    trouble: Trouble,
}

fn trouble(lang: Lang, problem: &Problem) -> Trouble {
    let (what, todo) = words(&Messages::new(lang), problem);
    Trouble {
        code: problem.code,
        what,
        todo,
    }
}

fn answer(lang: Lang, view: View) -> Answer {
    let (mut next, mut purpose, mut keys, mut result) = (None, None, Vec::new(), None);
    let (mut prepared, mut signed) = (None, None);
    let state = view.stage.name();
    match view.stage {
        Stage::Authorize {
            next: to,
            purpose: what,
            prepared: file,
        } => {
            (next, purpose) = (to, Some(what));
            prepared = file.map(|_| format!("/documents/{}/prepared.pdf", view.id));
        }
        Stage::Choose(choices) => keys = choices,
        Stage::Signed(outcome) => {
            signed = Some(format!("/documents/{}/signed.pdf", view.id));
            result = Some(*outcome);
        }
        Stage::Ready | Stage::Working | Stage::Resume => {}
    }
    Answer {
        schema: "natsuin.document/1",
        problem: view.problem.as_ref().map(|p| trouble(lang, p)),
        id: view.id,
        name: view.name,
        size: view.size,
        sha256: view.sha256,
        signatures_before: view.signatures,
        state,
        next,
        purpose,
        keys,
        prepared,
        signed,
        result,
    }
}

/// The document as it stands, or the error.
fn respond(
    app: &App,
    lang: Lang,
    status: StatusCode,
    done: Result<(SessionId, String), Problem>,
) -> Response {
    let shown = done.and_then(|(owner, id)| app.view(&owner, &id));
    let mut response = match shown {
        Ok(view) => (status, Json(answer(lang, view))).into_response(),
        Err(problem) => {
            let body = ErrorAnswer {
                schema: "natsuin.error/1",
                trouble: trouble(lang, &problem),
            };
            (problem.status, Json(body)).into_response()
        }
    };
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    name: String,
}

async fn create(
    State(app): Shared,
    lang: Lang,
    Query(named): Query<Named>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    app.sweep().await;
    let (owner, cookie) = app.session(&headers);
    let done = async {
        guard::own_host(&headers, &app.host)?;
        guard::same_origin(&headers, &app.config.public_url)?;
        // A type that no form can send.
        let kind = headers
            .get(CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default();
        if kind != "application/pdf" {
            return Err(Problem::NO_FILE);
        }
        let place = app.admit(&owner, guard::declared_length(&headers))?;
        let stored = store(&app, &place, body).await?;
        app.accept(owner, place, &named.name, stored)
            .await
            .map(|id| (owner, id))
    };
    let mut response = respond(&app, lang, StatusCode::CREATED, done.await);
    if let Some(value) = cookie.and_then(|c| HeaderValue::try_from(c).ok()) {
        response.headers_mut().insert(SET_COOKIE, value);
    }
    response
}

async fn store(app: &App, place: &Place, mut body: Body) -> Result<Stored, Problem> {
    let mut incoming = Incoming::create(&app.config.data_dir, &place.id, place.size).await?;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::UPLOAD_BROKEN)?;
        if let Some(chunk) = frame.data_ref() {
            incoming.write(chunk).await?;
        }
    }
    incoming.finish().await
}

async fn show(
    State(app): Shared,
    lang: Lang,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let done = app.known_session(&headers).map(|owner| (owner, id));
    respond(&app, lang, StatusCode::OK, done)
}

/// The session of a changing request. Browsers send `Origin` with every one of these, others have no cookie of
/// anybody.
fn proven(app: &App, headers: &HeaderMap) -> Result<SessionId, Problem> {
    guard::same_origin(headers, &app.config.public_url)?;
    app.known_session(headers)
}

async fn sign(
    State(app): Shared,
    lang: Lang,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let done = async {
        let owner = proven(&app, &headers)?;
        app.start(owner, id.clone(), lang.tag(), false)
            .await
            .map(|()| (owner, id))
    };
    respond(&app, lang, StatusCode::OK, done.await)
}

#[derive(Deserialize)]
struct Chosen {
    key: String,
}

async fn choose(
    State(app): Shared,
    lang: Lang,
    Path(id): Path<String>,
    Query(chosen): Query<Chosen>,
    headers: HeaderMap,
) -> Response {
    let done = async {
        let owner = proven(&app, &headers)?;
        app.choose(owner, id.clone(), &chosen.key, lang.tag())
            .await
            .map(|()| (owner, id))
    };
    respond(&app, lang, StatusCode::OK, done.await)
}

async fn resume(
    State(app): Shared,
    lang: Lang,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let done = async {
        let owner = proven(&app, &headers)?;
        app.resume(owner, id.clone()).await.map(|()| (owner, id))
    };
    respond(&app, lang, StatusCode::OK, done.await)
}
