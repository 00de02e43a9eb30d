//! The first page.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use web_ui::Messages;

use super::{Content, Visit, go, show, sorry};
use crate::Ssa;

#[derive(Template)]
#[template(path = "home.html")]
struct View {
    m: Messages,
}

/// `GET /`
pub(super) async fn home(State(ssa): State<Ssa>, visit: Visit) -> Response {
    match ssa.session(visit.browser.as_ref()).await {
        Ok(Some(_)) => go("/keys"),
        Ok(None) => {
            let view = View { m: visit.words() };
            let body = view.render().unwrap_or_default();
            let title = view.m.t("portal-home-title");
            show(&ssa, &visit, Content::new(&title, &body))
        }
        Err(error) => sorry(&ssa, &visit, error.into()),
    }
}
