//! Where the user of a device types its code (RFC 8628 §3.3).

use askama::Template;
use axum::extract::{Form, Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use store_kit::transaction;
use web_ui::Messages;

use super::{Content, Trouble, Visit, go, login, own_form, show, sorry, source};
use crate::flow::Flow;
use crate::{Ssa, crypt, devices, flow};

#[derive(Template)]
#[template(path = "device.html")]
struct View {
    m: Messages,
    token: String,
    code: String,
    /// What was wrong.
    error: String,
}

#[derive(Template)]
#[template(path = "device_done.html")]
struct DoneView {
    m: Messages,
    text: &'static str,
}

/// `GET /device`
pub(super) async fn page(State(ssa): State<Ssa>, visit: Visit) -> Response {
    shown(&ssa, &visit, "", false).await
}

/// `GET /device/{code}`: the same with the code filled in. The person compares it with what their device shows.
pub(super) async fn with_code(
    State(ssa): State<Ssa>,
    visit: Visit,
    Path(code): Path<String>,
) -> Response {
    let code = devices::normal(&code).map(|_| code).unwrap_or_default();
    shown(&ssa, &visit, &code, false).await
}

async fn shown(ssa: &Ssa, visit: &Visit, code: &str, wrong: bool) -> Response {
    let browser = visit.browser.as_ref();
    let session = match ssa.session(browser).await {
        Ok(session) => session,
        Err(error) => return sorry(ssa, visit, error.into()),
    };
    let (Some(browser), Some(_)) = (browser, session) else {
        let path = match code {
            "" => "/device".to_owned(),
            code => format!("/device/{code}"),
        };
        return login::first(&path);
    };
    let words = visit.words();
    let view = View {
        m: words,
        token: browser.form_token(),
        code: code.to_owned(),
        error: match wrong {
            true => words.t("portal-device-wrong"),
            false => String::new(),
        },
    };
    let body = view.render().unwrap_or_default();
    let title = words.t("portal-device-title");
    let content = Content {
        inside: true,
        // Browsers hold a form to its policy through all redirects that follow.
        leads: source(&ssa.config().sic_url).into_iter().collect(),
        ..Content::new(&title, &body)
    };
    show(ssa, visit, content)
}

/// What was typed.
#[derive(Deserialize)]
pub(super) struct Typed {
    token: String,
    code: String,
}

/// `POST /device`: the authorization begins in this browser, for the device.
pub(super) async fn submit(
    State(ssa): State<Ssa>,
    visit: Visit,
    headers: HeaderMap,
    Form(form): Form<Typed>,
) -> Response {
    let begun = async {
        let browser = visit.browser.as_ref();
        let (Some(browser), Some(session)) = (browser, ssa.session(browser).await?) else {
            return Err(Trouble::LinkExpired);
        };
        if !own_form(&ssa, &headers, browser, &form.token) {
            return Err(Trouble::ForeignForm);
        }
        // Counted before it is looked up: codes are short.
        ssa.admit_user_code(&session.person)
            .map_err(|_| Trouble::TooOften)?;
        let now = ssa.now();
        let mut tx = ssa.store().read("device").await?;
        let found = match devices::normal(&form.code) {
            Some(code) => devices::find_by_user_code(&mut tx, &code, now).await?,
            None => None,
        };
        drop(tx);
        let Some(device) = found else {
            return Ok(shown(&ssa, &visit, "", true).await);
        };
        let handle = crypt::draw(ssa.random());
        let mut flow = Flow::new(
            &handle,
            browser.id(),
            device.client,
            device.pairs,
            String::new(),
            now,
        );
        flow.person = Some(session.person);
        flow.device = Some(device.id);
        let bound = ssa.bound();
        transaction!(ssa.store(), "begin-device-flow", |tx| {
            flow::insert(tx, &flow, bound).await
        })?;
        Ok(go(&format!("/oauth2/continue/{}", handle.expose())))
    };
    begun
        .await
        .unwrap_or_else(|trouble| sorry(&ssa, &visit, trouble))
}

/// The end in this browser; the device goes on.
pub(crate) fn done(ssa: &Ssa, visit: &Visit, yes: bool) -> Response {
    let view = DoneView {
        m: visit.words(),
        text: match yes {
            true => "portal-device-approved",
            false => "portal-device-denied",
        },
    };
    let body = view.render().unwrap_or_default();
    let title = view.m.t("portal-device-title");
    let content = Content {
        inside: true,
        switch: false,
        ..Content::new(&title, &body)
    };
    show(ssa, visit, content)
}
