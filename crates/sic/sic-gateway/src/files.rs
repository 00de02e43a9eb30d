//! Static files of the page and their digests.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use core_types::sha256;
use web_ui::{Lang, Messages, css, css_path};

use crate::Gateway;
use crate::config::GatewayConfig;

const MODULES: [(&str, &str); 14] = [
    ("act.mjs", include_str!("../page/act.mjs")),
    ("approve.mjs", include_str!("../page/approve.mjs")),
    ("bring.mjs", include_str!("../page/bring.mjs")),
    ("change.mjs", include_str!("../page/change.mjs")),
    ("enrol.mjs", include_str!("../page/enrol.mjs")),
    ("jose.mjs", include_str!("../page/jose.mjs")),
    ("file.mjs", include_str!("../page/file.mjs")),
    ("list.mjs", include_str!("../page/list.mjs")),
    ("net.mjs", include_str!("../page/net.mjs")),
    ("passkey.mjs", include_str!("../page/passkey.mjs")),
    ("provider.mjs", include_str!("../page/provider.mjs")),
    ("return.mjs", include_str!("../page/return.mjs")),
    ("qr.mjs", include_str!("../page/qr.mjs")),
    ("ui.mjs", include_str!("../page/ui.mjs")),
];

/// What the officers' page has beside.
const OFFICE_MODULES: [(&str, &str); 7] = [
    ("confirm.mjs", include_str!("../page/confirm.mjs")),
    ("console.mjs", include_str!("../page/console.mjs")),
    ("desk.mjs", include_str!("../page/desk.mjs")),
    ("log.mjs", include_str!("../page/log.mjs")),
    ("measures.mjs", include_str!("../page/measures.mjs")),
    ("office.mjs", include_str!("../page/office.mjs")),
    ("propose.mjs", include_str!("../page/propose.mjs")),
];

/// Shared messages that the page uses besides its own.
const SHARED: [&str; 8] = [
    "product",
    "error-",
    "show",
    "hide",
    "back",
    "reference",
    "copy",
    "help",
];

/// The files under `/sic/`, by name.
pub(crate) struct Files(BTreeMap<String, File>);

struct File {
    kind: &'static str,
    text: String,
    digest: String,
}

impl Files {
    pub(crate) fn new(config: &GatewayConfig) -> Self {
        let mut files = Self(BTreeMap::new());
        let office = OFFICE_MODULES.iter().filter(|_| config.office);
        for (name, text) in MODULES.iter().chain(office) {
            files.add(name, "text/javascript", (*text).to_owned());
        }
        for lang in Lang::ALL {
            let name = format!("messages.{}.json", lang.tag());
            let texts = texts(lang, config.office);
            files.add(&name, "application/json", json(&texts));
        }
        files.add("config.json", "application/json", json(&config.public()));
        files
    }

    fn add(&mut self, name: &str, kind: &'static str, text: String) {
        let digest = sha256(&[text.as_bytes()]).to_string();
        self.0.insert(name.to_owned(), File { kind, text, digest });
    }

    /// Path and SHA-256 (base64url) of everything static that a page loads, pages included.
    pub(crate) fn digests(&self, pages: BTreeMap<String, String>) -> BTreeMap<String, String> {
        let digest = |text: &str| sha256(&[text.as_bytes()]).to_string();
        let mut all: BTreeMap<String, String> = self
            .0
            .iter()
            .map(|(name, file)| (format!("/sic/{name}"), file.digest.clone()))
            .collect();
        all.insert(css_path().to_owned(), digest(css()));
        all.extend(pages.into_iter().map(|(path, html)| (path, digest(&html))));
        all
    }
}

fn texts(lang: Lang, office: bool) -> BTreeMap<String, String> {
    let messages = Messages::new(lang);
    let shared = messages.catalogue("common").into_iter();
    let wanted = |id: &str| {
        SHARED
            .iter()
            .any(|s| id == *s || (s.ends_with('-') && id.starts_with(s)))
    };
    let surfaces = match office {
        true => &["sic", "office", "audit"][..],
        false => &["sic"][..],
    };
    shared
        .filter(|(id, _)| wanted(id))
        .chain(surfaces.iter().flat_map(|name| messages.catalogue(name)))
        .collect()
}

fn json(value: &impl serde::Serialize) -> String {
    // Maps of strings and our own configuration always have a JSON form; nothing served is better than half.
    serde_json::to_string(value).unwrap_or_default()
}

pub(crate) fn routes<F: crate::Forward>() -> Router<Arc<Gateway<F>>> {
    Router::new()
        .route("/sic/{name}", get(file))
        .route("/digests.json", get(digests))
}

async fn file<F: crate::Forward>(
    State(gateway): State<Arc<Gateway<F>>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    let Some(file) = gateway.files.0.get(&name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let etag = format!("\"{}\"", file.digest);
    // Revalidated each time, so that a page never mixes modules of two releases.
    let common = [(ETAG, etag.clone()), (CACHE_CONTROL, "no-cache".to_owned())];
    let seen = headers.get(IF_NONE_MATCH).and_then(|v| v.to_str().ok());
    if seen.is_some_and(|s| s.contains(&etag)) {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    let kind = format!("{}; charset=utf-8", file.kind);
    (common, [(CONTENT_TYPE, kind)], file.text.clone()).into_response()
}

async fn digests<F: crate::Forward>(State(gateway): State<Arc<Gateway<F>>>) -> Response {
    let all = gateway.files.digests(crate::pages::all(&gateway.config));
    (
        [
            (CONTENT_TYPE, "application/json"),
            (CACHE_CONTROL, "no-cache"),
        ],
        json(&all),
    )
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_write_no_html_and_keep_nothing() {
        for (name, text) in MODULES.iter().chain(&OFFICE_MODULES) {
            for never in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "Function(",
                "localStorage",
                "sessionStorage",
                "indexedDB",
                "document.cookie",
                "serviceWorker",
                "createPolicy",
                "console.",
            ] {
                assert!(!text.contains(never), "{name} uses {never}");
            }
        }
    }

    #[test]
    fn every_text_that_a_script_asks_for_exists_in_both_languages() {
        let quoted = |text: &str| {
            let parts: Vec<String> = text.split('\'').map(str::to_owned).collect();
            parts
                .into_iter()
                .filter(|p| {
                    let ours = ["sic-", "error-", "office-", "audit-"];
                    ours.iter().any(|o| p.starts_with(o))
                        && p.ends_with(|c: char| c.is_alphanumeric())
                })
                .collect::<Vec<_>>()
        };
        for lang in Lang::ALL {
            let known = texts(lang, true);
            for (name, text) in MODULES.iter().chain(&OFFICE_MODULES) {
                for id in quoted(text) {
                    let forms = [id.clone(), format!("{id}-one"), format!("{id}-many")];
                    assert!(
                        forms.iter().any(|f| known.contains_key(f)),
                        "{name}: {id} has no text in {lang:?}"
                    );
                }
            }
        }
    }
}
