//! The pages' requests.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::multipart::{Field, Multipart};
use axum::extract::{DefaultBodyLimit, Form, FromRequestParts, OriginalUri, Path};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, SET_COOKIE,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use tokio_util::io::ReaderStream;
use web_ui::Lang;

use crate::app::App;
use crate::begin::Place;
use crate::documents::{self, Document};
use crate::files::{self, Incoming};
use crate::guard;
use crate::pages::{self, Frame};
use crate::problem::Problem;
use crate::sessions::SessionId;
use crate::view::Stage;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(home))
        .route(
            "/documents",
            post(upload).layer(DefaultBodyLimit::disable()),
        )
        .route("/documents/{id}", get(document))
        .route("/documents/{id}/sign", post(sign))
        .route("/documents/{id}/choose", post(choose))
        .route("/documents/{id}/resume", post(resume))
        .route("/documents/{id}/go", get(go))
        .route("/documents/{id}/original.pdf", get(original))
        .route("/documents/{id}/prepared.pdf", get(prepared))
        .route("/documents/{id}/signed.pdf", get(signed))
        .route("/callback", get(callback))
        .fallback(lost)
}

/// Parts of a request that every page needs.
struct Ask {
    app: Arc<App>,
    lang: Lang,
    uri: Uri,
    headers: HeaderMap,
}

impl FromRequestParts<Arc<App>> for Ask {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Infallible> {
        let OriginalUri(uri) = OriginalUri::from_request_parts(parts, app).await?;
        Ok(Self {
            app: app.clone(),
            lang: Lang::from_request_parts(parts, app).await?,
            uri,
            headers: parts.headers.clone(),
        })
    }
}

impl Ask {
    fn frame(&self) -> Frame<'_> {
        Frame {
            app: &self.app,
            lang: self.lang,
            path: self.uri.path(),
            query: self.uri.query(),
        }
    }

    fn fail(&self, problem: &Problem) -> Response {
        pages::problem(&self.frame(), problem)
    }

    /// The session, if there is one.
    fn known_session(&self) -> Result<SessionId, Problem> {
        self.app.known_session(&self.headers)
    }

    /// A changing request from our own page: its session, when token and origin are right.
    fn proven(&self, proof: &Proof) -> Result<SessionId, Problem> {
        let owner = self.known_session().map_err(|_| Problem::FORM_STALE)?;
        guard::same_origin(&self.headers, &self.app.config.public_url)?;
        if is_token(&self.app, &owner, &proof.csrf) {
            Ok(owner)
        } else {
            Err(Problem::FORM_STALE)
        }
    }

    /// Adds the session's cookie, and the language when it was just chosen.
    fn with_cookies(&self, mut response: Response, session: Option<String>) -> Response {
        let query = self.uri.query();
        let chosen = query.is_some_and(|q| q.split('&').any(|p| p.starts_with("lang=")));
        let language = chosen.then(|| {
            format!(
                "lang={}; Path=/; SameSite=Lax; Max-Age=31536000",
                self.lang.tag()
            )
        });
        for cookie in session.into_iter().chain(language) {
            if let Ok(value) = HeaderValue::try_from(cookie) {
                response.headers_mut().append(SET_COOKIE, value);
            }
        }
        response
    }
}

async fn home(ask: Ask) -> Response {
    if let Err(problem) = guard::own_host(&ask.headers, &ask.app.host) {
        return ask.fail(&problem);
    }
    ask.app.sweep().await;
    let (owner, cookie) = ask.app.session(&ask.headers);
    let response = first_page(&ask, &owner, None);
    ask.with_cookies(response, cookie)
}

fn first_page(ask: &Ask, owner: &SessionId, problem: Option<&Problem>) -> Response {
    let (csrf, earlier) = {
        let inner = ask.app.lock();
        let csrf = inner
            .sessions
            .get(owner)
            .map(|s| s.csrf.clone())
            .unwrap_or_default();
        let mut mine: Vec<_> = inner.documents.of(owner).collect();
        mine.sort_by_key(|(_, d)| std::cmp::Reverse(d.expires));
        let earlier: Vec<_> = mine
            .into_iter()
            .map(|(id, d)| (id.clone(), d.name.clone()))
            .collect();
        (csrf, earlier)
    };
    pages::upload(&ask.frame(), &csrf, &earlier, problem)
}

async fn upload(
    ask: Ask,
    form: Result<Multipart, axum::extract::multipart::MultipartRejection>,
) -> Response {
    let owner = match ask.known_session() {
        Ok(owner) => owner,
        Err(_) => return ask.fail(&Problem::FORM_STALE),
    };
    let taken = async {
        guard::same_origin(&ask.headers, &ask.app.config.public_url)?;
        let form = form.map_err(|_| Problem::UPLOAD_BROKEN)?;
        receive(&ask.app, owner, guard::declared_length(&ask.headers), form).await
    };
    match taken.await {
        Ok(id) => Redirect::to(&format!("/documents/{id}")).into_response(),
        Err(problem) if problem == Problem::FORM_STALE => ask.fail(&problem),
        // On the form again, with what was wrong above it.
        Err(problem) => first_page(&ask, &owner, Some(&problem)),
    }
}

/// Reads the form: the token first, then the file, straight to disk.
async fn receive(
    app: &Arc<App>,
    owner: SessionId,
    declared: Option<u64>,
    mut form: Multipart,
) -> Result<String, Problem> {
    let mut proven = false;
    loop {
        let field = form
            .next_field()
            .await
            .map_err(|_| Problem::UPLOAD_BROKEN)?;
        let Some(field) = field else {
            return Err(Problem::NO_FILE);
        };
        match field.name() {
            Some("csrf") => proven = is_token(app, &owner, &short_text(field).await?),
            Some("file") if proven => {
                let name = field.file_name().unwrap_or_default().to_owned();
                if name.is_empty() {
                    return Err(Problem::NO_FILE);
                }
                let place = app.admit(&owner, declared)?;
                let stored = store(app, &place, field).await?;
                return app.accept(owner, place, &name, stored).await;
            }
            Some("file") => return Err(Problem::FORM_STALE),
            _ => {}
        }
    }
}

async fn short_text(mut field: Field<'_>) -> Result<String, Problem> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(|_| Problem::UPLOAD_BROKEN)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > 1_000 {
            return Err(Problem::FORM_STALE);
        }
    }
    String::from_utf8(bytes).map_err(|_| Problem::FORM_STALE)
}

async fn store(app: &App, place: &Place, mut field: Field<'_>) -> Result<files::Stored, Problem> {
    let mut incoming = Incoming::create(&app.config.data_dir, &place.id, place.size).await?;
    while let Some(chunk) = field.chunk().await.map_err(|_| Problem::UPLOAD_BROKEN)? {
        incoming.write(&chunk).await?;
    }
    incoming.finish().await
}

fn is_token(app: &App, owner: &SessionId, given: &str) -> bool {
    let inner = app.lock();
    let given = csc_types::SecretText::new(given.to_owned());
    inner
        .sessions
        .get(owner)
        .is_some_and(|s| given.ct_eq(&s.csrf))
}

async fn document(ask: Ask, Path(id): Path<String>) -> Response {
    let shown = ask.known_session().and_then(|owner| {
        let view = ask.app.view(&owner, &id)?;
        let csrf = ask
            .app
            .lock()
            .sessions
            .get(&owner)
            .map(|s| s.csrf.clone())
            .unwrap_or_default();
        Ok((view, csrf))
    });
    let response = match shown {
        Ok((view, csrf)) => {
            let mut response = pages::document(&ask.frame(), &csrf, &view);
            if matches!(view.stage, Stage::Working) {
                response
                    .headers_mut()
                    .insert("refresh", HeaderValue::from_static("2"));
            }
            response
        }
        Err(problem) => ask.fail(&problem),
    };
    ask.with_cookies(response, None)
}

#[derive(Deserialize)]
struct Proof {
    csrf: String,
    /// Log in anew.
    #[serde(default)]
    fresh: Option<String>,
    /// The chosen key.
    #[serde(default)]
    key: Option<String>,
}

async fn sign(ask: Ask, Path(id): Path<String>, Form(proof): Form<Proof>) -> Response {
    let done = async {
        let owner = ask.proven(&proof)?;
        ask.app
            .start(owner, id.clone(), ask.lang.tag(), proof.fresh.is_some())
            .await?;
        Ok(owner)
    };
    onward(&ask, &id, done.await)
}

async fn choose(ask: Ask, Path(id): Path<String>, Form(proof): Form<Proof>) -> Response {
    let done = async {
        let owner = ask.proven(&proof)?;
        let key = proof.key.as_deref().unwrap_or_default();
        ask.app
            .choose(owner, id.clone(), key, ask.lang.tag())
            .await?;
        Ok(owner)
    };
    onward(&ask, &id, done.await)
}

async fn resume(ask: Ask, Path(id): Path<String>, Form(proof): Form<Proof>) -> Response {
    let done = async {
        let owner = ask.proven(&proof)?;
        ask.app.resume(owner, id.clone()).await?;
        Ok(owner)
    };
    onward(&ask, &id, done.await)
}

/// After a step: to the provider when the browser is needed there, else to the document's page.
fn onward(ask: &Ask, id: &str, done: Result<SessionId, Problem>) -> Response {
    match done {
        Ok(owner) => Redirect::to(&next_page(&ask.app, &owner, id)).into_response(),
        // Somebody pressed twice: the page shows how it stands.
        Err(problem) if problem == Problem::WRONG_STATE => {
            Redirect::to(&format!("/documents/{id}")).into_response()
        }
        Err(problem) => ask.fail(&problem),
    }
}

/// The document's page, or the way to the provider. Where the approval page can compare the file, the signer goes on by
/// themselves: the prepared file is on the document's page.
fn next_page(app: &App, owner: &SessionId, id: &str) -> String {
    let leaves = app.view(owner, id).is_ok_and(|v| {
        let on = matches!(
            v.stage,
            Stage::Authorize {
                next: Some(_),
                prepared: None,
                ..
            }
        );
        v.problem.is_none() && on
    });
    format!("/documents/{id}{}", if leaves { "/go" } else { "" })
}

async fn go(ask: Ask, Path(id): Path<String>) -> Response {
    match ask
        .known_session()
        .and_then(|owner| ask.app.depart(&owner, &id))
    {
        Ok(Some(next)) => pages::leave(&ask.frame(), &next),
        // Back or reload: the address was good for one use.
        Ok(None) => Redirect::to(&format!("/documents/{id}")).into_response(),
        Err(problem) => ask.fail(&problem),
    }
}

async fn callback(ask: Ask) -> Response {
    let returned = async {
        let owner = ask.known_session()?;
        let returned = ask
            .app
            .callback(owner, ask.uri.query().unwrap_or_default(), ask.lang.tag())
            .await?;
        Ok::<_, Problem>((owner, returned))
    };
    match returned.await {
        Ok((owner, returned)) => {
            let response = Redirect::to(&next_page(&ask.app, &owner, &returned.id)).into_response();
            let life = ask.app.config.job_life;
            let cookie = returned
                .cookie
                .map(|c| guard::set_cookie(&c, ask.app.https(), life));
            ask.with_cookies(response, cookie)
        }
        Err(problem) => ask.fail(&problem),
    }
}

async fn original(ask: Ask, Path(id): Path<String>) -> Response {
    download(&ask, &id, |document| {
        let disposition = files::disposition("inline", &document.name);
        Ok((document.original(), disposition))
    })
    .await
}

/// The file with room for its signature, for the approval page to compare. Only while the approval is waited for.
async fn prepared(ask: Ask, Path(id): Path<String>) -> Response {
    download(&ask, &id, |document| {
        let path = document.prepared().ok_or(Problem::NOT_FOUND)?;
        let disposition = files::disposition("attachment", &document.prepared_name());
        Ok((path.to_owned(), disposition))
    })
    .await
}

async fn signed(ask: Ask, Path(id): Path<String>) -> Response {
    download(&ask, &id, |document| match document.state {
        documents::State::Signed(_) => Ok((
            document.signed(),
            files::disposition("attachment", &document.signed_name()),
        )),
        _ => Err(Problem::NOT_FOUND),
    })
    .await
}

/// A file of a document: its path, and under which name it goes.
async fn download(
    ask: &Ask,
    id: &str,
    of: impl FnOnce(&Document) -> Result<(PathBuf, String), Problem>,
) -> Response {
    let found = ask.known_session().and_then(|owner| {
        let inner = ask.app.lock();
        of(inner.documents.get(&owner, id)?)
    });
    match found {
        Ok((path, disposition)) => file(ask, &path, &disposition).await,
        Err(problem) => ask.fail(&problem),
    }
}

/// Streams a PDF.
async fn file(ask: &Ask, path: &std::path::Path, disposition: &str) -> Response {
    let opened = async {
        let file = tokio::fs::File::open(path).await?;
        let len = file.metadata().await?.len();
        std::io::Result::Ok((file, len))
    };
    let (file, len) = match opened.await {
        Ok(opened) => opened,
        Err(error) => {
            tracing::error!(%error, "a stored document could not be read");
            return ask.fail(&Problem::STORAGE);
        }
    };
    let headers = [
        (CONTENT_TYPE, "application/pdf".to_owned()),
        (CONTENT_LENGTH, len.to_string()),
        (CONTENT_DISPOSITION, disposition.to_owned()),
        (CACHE_CONTROL, "private, no-store".to_owned()),
    ];
    (
        StatusCode::OK,
        headers,
        Body::from_stream(ReaderStream::with_capacity(file, files::PIECE)),
    )
        .into_response()
}

async fn lost(ask: Ask) -> Response {
    ask.fail(&Problem::NOT_FOUND)
}
