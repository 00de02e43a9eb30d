//! The pages. They hold no data of anybody: what they show comes from the SAM and is checked by their scripts.

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT_LANGUAGE, CACHE_CONTROL, VARY};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::get;
use web_ui::{Lang, Messages, Page};

use crate::config::GatewayConfig;
use crate::{Forward, Gateway};

#[derive(Template)]
#[template(path = "sic.html")]
struct Frame {
    m: Messages,
}

/// A page: its path, the id of its title, its script, and whether signers or officers have it.
const PAGES: [(&str, &str, &str, Whose); 4] = [
    (
        "/a",
        "sic-title-approve",
        "/sic/approve.mjs",
        Whose::Signers,
    ),
    ("/e", "sic-title-enrol", "/sic/enrol.mjs", Whose::Both),
    ("/p", "sic-provider-back", "/sic/return.mjs", Whose::Signers),
    ("/o", "office-title", "/sic/console.mjs", Whose::Officers),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Signers,
    Officers,
    Both,
}

fn served(office: bool) -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let ours = PAGES.into_iter();
    let not = if office {
        Whose::Signers
    } else {
        Whose::Officers
    };
    let ours = ours.filter(move |(.., whose)| *whose != not);
    ours.map(|(path, title, script, _)| (path, title, script))
}

pub(crate) fn routes<F: Forward>(office: bool) -> Router<Arc<Gateway<F>>> {
    served(office)
        .fold(Router::new(), |router, (path, ..)| {
            router.route(path, get(page))
        })
        .fallback(nothing)
}

/// Every page in every language, by the address that gives exactly this text.
pub(crate) fn all(config: &GatewayConfig) -> BTreeMap<String, String> {
    let mut pages = BTreeMap::new();
    for (path, ..) in served(config.office) {
        for lang in Lang::ALL {
            pages.insert(
                format!("{path}?lang={}", lang.tag()),
                html(config, lang, path),
            );
        }
    }
    pages
}

fn html(config: &GatewayConfig, lang: Lang, path: &str) -> String {
    let m = Messages::new(lang);
    let (title, script) = served(config.office)
        .find(|(p, ..)| *p == path)
        .map_or(("not-found", None), |(_, title, script)| {
            (title, Some(script))
        });
    let body = match script {
        // The template writes to a string, which can't fail.
        Some(_) => Frame { m }.render().unwrap_or_default(),
        None => format!(
            "<h1>{}</h1><p>{}</p>",
            m.t("not-found"),
            m.t("not-found-do")
        ),
    };
    let scripts: Vec<&str> = script.into_iter().collect();
    Page {
        surface: &m.t(if config.office {
            "office-surface"
        } else {
            "sic-surface"
        }),
        host: config.rp_id(),
        switch: &lang.switch_url(path, None),
        dev: config.dev,
        scripts: &scripts,
        ..Page::new(lang, &m.t(title), &body)
    }
    .to_html()
}

/// No cookie decides here: only the address and the browser's own languages.
fn language(uri: &Uri, headers: &HeaderMap) -> Lang {
    let accept = headers.get(ACCEPT_LANGUAGE).and_then(|v| v.to_str().ok());
    Lang::negotiate(uri.query(), None, accept)
}

async fn page<F: Forward>(
    State(gateway): State<Arc<Gateway<F>>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let html = html(&gateway.config, language(&uri, &headers), uri.path());
    (
        [(CACHE_CONTROL, "no-cache"), (VARY, "accept-language")],
        Html(html),
    )
        .into_response()
}

async fn nothing<F: Forward>(
    State(gateway): State<Arc<Gateway<F>>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    // The path is not echoed, not even into the language switch.
    let html = html(&gateway.config, language(&uri, &headers), "/");
    (
        StatusCode::NOT_FOUND,
        [(CACHE_CONTROL, "no-store")],
        Html(html),
    )
        .into_response()
}
