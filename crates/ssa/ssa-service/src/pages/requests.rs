//! What applications without a browser wait for: the person finds it here and decides on the SIC page.

use askama::Template;
use axum::extract::{Form, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use core_types::PersonId;
use sam_api::ssa::RequestState;
use serde::Deserialize;
use web_ui::{Arg, Messages};

use super::waiting::{SCRIPT, Told};
use super::{Content, Trouble, Visit, found, login, own_form, show, sorry, source};
use crate::waiting::{self, Waiting};
use crate::{Ssa, clients};

const PAGE: &str = "/requests";

#[derive(Template)]
#[template(path = "requests.html")]
struct View {
    m: Messages,
    token: String,
    requests: Vec<RequestView>,
    /// What became of the one that was decided just now; empty on the plain page.
    outcome: &'static str,
    /// Where the page asks whether it was decided meanwhile, if it waits for that; and where it goes on.
    waiting: String,
    next: String,
}

struct RequestView {
    label: String,
    client: String,
    count: String,
    key: String,
    asked: String,
    until: String,
}

/// `GET /requests`
pub(super) async fn page(State(ssa): State<Ssa>, visit: Visit) -> Response {
    shown(&ssa, &visit, "", None)
        .await
        .unwrap_or_else(|trouble| sorry(&ssa, &visit, trouble))
}

/// `waits`: the request that the page waits for.
async fn shown(
    ssa: &Ssa,
    visit: &Visit,
    outcome: &'static str,
    waits: Option<&str>,
) -> Result<Response, Trouble> {
    let browser = visit.browser.as_ref();
    let (Some(browser), Some(session)) = (browser, ssa.session(browser).await?) else {
        return Ok(login::first(PAGE));
    };
    let mut tx = ssa.store().read("requests").await?;
    let mut requests = Vec::new();
    for waiting in waiting::open(&mut tx, &session.person, ssa.now()).await? {
        // What an application asked that was suspended meanwhile needs no answer.
        if let Some(client) = clients::find(&mut tx, waiting.client.as_str()).await? {
            requests.push(request_view(&visit.words(), &waiting, &client.name));
        }
    }
    drop(tx);
    let view = View {
        m: visit.words(),
        token: browser.form_token(),
        requests,
        outcome,
        waiting: waits.map_or_else(String::new, |label| format!("{PAGE}/{label}/waiting")),
        next: waits.map_or_else(String::new, |label| format!("{PAGE}/{label}")),
    };
    let body = view.render().unwrap_or_default();
    let title = view.m.t("portal-requests-title");
    let script = SCRIPT.path();
    let scripts = [script.as_str()];
    let content = Content {
        inside: true,
        leads: source(&ssa.config().sic_url).into_iter().collect(),
        scripts: if waits.is_some() { &scripts } else { &[] },
        ..Content::new(&title, &body)
    };
    Ok(show(ssa, visit, content))
}

fn request_view(words: &Messages, waiting: &Waiting, client: &str) -> RequestView {
    let at = |id, time| words.f(id, &[("time", Arg::Own(&words.time(time)))]);
    RequestView {
        label: waiting.label.clone(),
        client: web_ui::clean(client),
        count: words.n("portal-request-count", waiting.items.unsigned_abs()),
        key: waiting.facts.key.to_string(),
        asked: at("portal-request-asked", waiting.created),
        until: at("portal-request-until", waiting.exp),
    }
}

/// The form of the button.
#[derive(Deserialize)]
pub(super) struct OpenForm {
    token: String,
    request: String,
}

/// `POST /requests`: on to the SIC page.
pub(super) async fn open(
    State(ssa): State<Ssa>,
    visit: Visit,
    headers: HeaderMap,
    Form(form): Form<OpenForm>,
) -> Response {
    let opened = async {
        let browser = visit.browser.as_ref();
        let (Some(browser), Some(session)) = (browser, ssa.session(browser).await?) else {
            return Err(Trouble::LinkExpired);
        };
        if !own_form(&ssa, &headers, browser, &form.token) {
            return Err(Trouble::ForeignForm);
        }
        let mut tx = ssa.store().read("request").await?;
        let waiting = waiting::of_person(&mut tx, &form.request, &session.person).await?;
        drop(tx);
        let waiting = waiting.filter(|waiting| waiting.lives(ssa.now()));
        let waiting = waiting.ok_or(Trouble::LinkExpired)?;
        let rid = ssa.rid_of(&waiting).ok_or(Trouble::Internal)?;
        // The fragment never reaches a log or a Referer.
        Ok(found(&format!("{}/a#{rid}", ssa.config().sic_url)))
    };
    opened
        .await
        .unwrap_or_else(|trouble| sorry(&ssa, &visit, trouble))
}

/// `GET /requests/{label}`: where the SIC page sends the browser back to.
pub(super) async fn decided(
    State(ssa): State<Ssa>,
    visit: Visit,
    Path(label): Path<String>,
) -> Response {
    let told = async {
        let Some(session) = ssa.session(visit.browser.as_ref()).await? else {
            return Ok(login::first(PAGE));
        };
        let state = state_of(&ssa, &session.person, &label).await?;
        let state = state.ok_or(Trouble::LinkExpired)?;
        // The application that waits needn't wait longer.
        ssa.decided().notify_waiters();
        let (outcome, waits) = match state {
            RequestState::Open => ("portal-request-open", Some(label.as_str())),
            RequestState::Approved => ("portal-request-approved", None),
            RequestState::Refused => ("portal-request-refused", None),
            RequestState::Expired => ("portal-request-over", None),
        };
        shown(&ssa, &visit, outcome, waits).await
    };
    told.await
        .unwrap_or_else(|trouble| sorry(&ssa, &visit, trouble))
}

/// `GET /requests/{label}/waiting`: whether that page shall go on waiting.
pub(super) async fn waits(
    State(ssa): State<Ssa>,
    visit: Visit,
    Path(label): Path<String>,
) -> Response {
    let told = async {
        let Some(session) = ssa.session_as_it_is(visit.browser.as_ref()).await? else {
            return Ok(Told::Nothing(StatusCode::UNAUTHORIZED));
        };
        let state = state_of(&ssa, &session.person, &label).await?;
        Ok::<_, Trouble>(match state {
            None => Told::Nothing(StatusCode::NOT_FOUND),
            Some(state) => Told::Waits(state == RequestState::Open),
        })
    };
    match told.await {
        Ok(told) => told.answer(),
        Err(trouble) => sorry(&ssa, &visit, trouble),
    }
}

/// What became of a request of this person's.
async fn state_of(
    ssa: &Ssa,
    person: &PersonId,
    label: &str,
) -> Result<Option<RequestState>, Trouble> {
    let mut tx = ssa.store().read("request").await?;
    let waiting = waiting::of_person(&mut tx, label, person).await?;
    drop(tx);
    let Some(waiting) = waiting else {
        return Ok(None);
    };
    let state = match waiting.state {
        waiting::State::Open => ssa.settle(&waiting).await?,
        waiting::State::Taken => Some(RequestState::Approved),
        waiting::State::Refused => Some(RequestState::Refused),
        waiting::State::Over => Some(RequestState::Expired),
    };
    state.ok_or(Trouble::NotNow).map(Some)
}
