//! Pages that wait for what their person decides on the SIC page, in another browser: they ask now and then, and go on by themselves. A
//! script asks, for an answer that changes nothing.

use askama::Template;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;
use web_ui::{Messages, Script};

use super::{Content, Visit, show};
use crate::Ssa;
use crate::flow::Flow;

/// The script of every page that waits.
pub(super) const SCRIPT: Script = Script {
    name: "waiting",
    text: include_str!("../../page/waiting.mjs"),
};

/// Seconds after which a browser without scripts loads the page of an authorization again, which ends within minutes. A request in the
/// portal may wait for a day, and nobody is kept logged in for that.
const AGAIN: u32 = 10;

/// What the script is told.
pub(crate) enum Told {
    /// Whether to go on waiting.
    Waits(bool),
    /// There is nothing to wait for in this browser.
    Nothing(StatusCode),
}

impl Told {
    pub(crate) fn answer(self) -> Response {
        match self {
            Self::Waits(waits) => Json(json!({ "waits": waits })).into_response(),
            Self::Nothing(status) => status.into_response(),
        }
    }
}

#[derive(Template)]
#[template(path = "undecided.html")]
struct UndecidedView {
    m: Messages,
    text: String,
    again: String,
    link: String,
    /// Where the script asks; empty where the answer isn't to be had without completing what is asked about.
    waiting: String,
    /// Where it goes on then.
    next: String,
}

/// The person came back from the SIC page without having decided what they were asked.
pub(crate) fn undecided(ssa: &Ssa, visit: &Visit, handle: &str, flow: &Flow) -> Response {
    let words = visit.words();
    let (text, again) = if flow.creates() {
        ("portal-undecided-create", "portal-undecided-create-again")
    } else if flow.deletes() {
        ("portal-undecided-delete", "portal-undecided-delete-again")
    } else {
        ("portal-undecided-text", "portal-undecided-again")
    };
    let waits = !flow.creates();
    let view = UndecidedView {
        text: words.t(text),
        again: words.t(again),
        m: words,
        link: format!("/oauth2/continue/{handle}"),
        waiting: match waits {
            true => format!("/oauth2/waiting/{handle}"),
            false => String::new(),
        },
        next: format!("/oauth2/resume/{handle}"),
    };
    let body = view.render().unwrap_or_default();
    let title = view.m.t("portal-undecided-title");
    let script = SCRIPT.path();
    let scripts = [script.as_str()];
    let content = Content {
        scripts: if waits { &scripts } else { &[] },
        again: if waits { AGAIN } else { 0 },
        ..Content::new(&title, &body)
    };
    show(ssa, visit, content)
}
