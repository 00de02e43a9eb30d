//! Logging out: here, everywhere else, or both.

use axum::extract::{Form, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use serde::Deserialize;
use store_kit::transaction;

use super::{Trouble, Visit, go, login, own_form, sorry};
use crate::Ssa;
use crate::session;

#[derive(Deserialize)]
pub(super) struct Leaving {
    token: String,
}

/// `POST /logout`
pub(super) async fn log_out(
    State(ssa): State<Ssa>,
    visit: Visit,
    headers: HeaderMap,
    Form(form): Form<Leaving>,
) -> Response {
    left(&ssa, &visit, &headers, &form, false).await
}

/// `POST /logout/everywhere`: here, in all other browsers, and for applications that read about the person's keys.
pub(super) async fn log_out_everywhere(
    State(ssa): State<Ssa>,
    visit: Visit,
    headers: HeaderMap,
    Form(form): Form<Leaving>,
) -> Response {
    left(&ssa, &visit, &headers, &form, true).await
}

async fn left(
    ssa: &Ssa,
    visit: &Visit,
    headers: &HeaderMap,
    form: &Leaving,
    everywhere: bool,
) -> Response {
    let Some(browser) = &visit.browser else {
        return go("/");
    };
    if !own_form(ssa, headers, browser, &form.token) {
        return sorry(ssa, visit, Trouble::ForeignForm);
    }
    let ended = async {
        let Some(session) = ssa.session(Some(browser)).await? else {
            return Ok(());
        };
        transaction!(ssa.store(), "log-out", |tx| {
            if everywhere {
                ssa.end_elsewhere(tx, &session, ssa.now()).await?;
            }
            session::end(tx, browser).await?;
            let event = audit_log::Event::LoggedOut {
                person: session.person.clone(),
                reason: "asked".into(),
                session: session.named(),
            };
            ssa.audit().append(tx, event, ssa.now()).await.map(drop)
        })
    };
    if let Err(error) = ended.await {
        return sorry(ssa, visit, Trouble::from(error));
    }
    let mut response = go("/");
    let cookie = session::forget_cookie(ssa.config().https());
    response.headers_mut().append(header::SET_COOKIE, cookie);
    response
}

/// `POST /logout/others`: ending sessions never waits for another login.
pub(super) async fn log_out_others(
    State(ssa): State<Ssa>,
    visit: Visit,
    headers: HeaderMap,
    Form(form): Form<Leaving>,
) -> Response {
    let done = async {
        let browser = visit.browser.as_ref().ok_or(Trouble::ForeignForm)?;
        if !own_form(&ssa, &headers, browser, &form.token) {
            return Err(Trouble::ForeignForm);
        }
        let Some(session) = ssa.session(Some(browser)).await? else {
            return Ok(login::first("/security"));
        };
        let now = ssa.now();
        transaction!(ssa.store(), "log-out-others", |tx| {
            ssa.end_elsewhere(tx, &session, now).await
        })?;
        Ok(go("/security"))
    };
    done.await
        .unwrap_or_else(|trouble| sorry(&ssa, &visit, trouble))
}
