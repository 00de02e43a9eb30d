//! The style sheet and the icon, under names that change with their content.

use std::sync::OnceLock;

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use core_types::sha256;

const CSS: &str = include_str!("../static/ui.css");
const ICON: &str = include_str!("../static/icon.svg");

/// The style sheet itself.
pub fn css() -> &'static str {
    CSS
}

/// Address of the style sheet, with the beginning of its SHA-256 in the name.
pub fn css_path() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| format!("/static/ui.{}.css", tag(CSS)))
}

fn tag(text: &str) -> String {
    sha256(&[text.as_bytes()])
        .to_string()
        .chars()
        .take(12)
        .collect()
}

/// Serves `/static/ui.<hash>.css` (immutable), `/static/ui.css` and `/static/icon.svg` (with `ETag`).
pub fn static_router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route(
            css_path(),
            get(|headers: HeaderMap| async move { file(&headers, CSS, "text/css", true) }),
        )
        .route(
            "/static/ui.css",
            get(|headers: HeaderMap| async move { file(&headers, CSS, "text/css", false) }),
        )
        .route(
            "/static/icon.svg",
            get(|headers: HeaderMap| async move { file(&headers, ICON, "image/svg+xml", false) }),
        )
}

/// A script module of a surface: its name without ending, and its text.
#[derive(Debug, Clone, Copy)]
pub struct Script {
    /// Such as `passkey`.
    pub name: &'static str,
    /// The module.
    pub text: &'static str,
}

impl Script {
    /// Its address, with the beginning of its SHA-256 in the name.
    pub fn path(&self) -> String {
        format!("/static/{}.{}.mjs", self.name, tag(self.text))
    }

    /// Serves it there, immutable.
    pub fn router<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        let text = self.text;
        let serve = get(move |headers: HeaderMap| async move {
            file(&headers, text, "text/javascript", true)
        });
        Router::new().route(&self.path(), serve)
    }
}

fn file(request: &HeaderMap, text: &'static str, kind: &'static str, immutable: bool) -> Response {
    let etag = format!("\"{}\"", tag(text));
    let cache = if immutable {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let seen = request.get(IF_NONE_MATCH).and_then(|v| v.to_str().ok());
    if seen.is_some_and(|s| s.contains(&etag)) {
        return (
            StatusCode::NOT_MODIFIED,
            [(ETAG, etag), (CACHE_CONTROL, cache.to_owned())],
        )
            .into_response();
    }
    let kind = format!("{kind}; charset=utf-8");
    (
        [
            (CONTENT_TYPE, kind),
            (ETAG, etag),
            (CACHE_CONTROL, cache.to_owned()),
        ],
        text,
    )
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_style_sheet_keeps_its_budget_and_needs_nothing_inline() {
        assert!(CSS.len() <= 14_000, "{} bytes", CSS.len());
        assert!(!CSS.contains("@import") && !CSS.contains("url("));
    }

    #[test]
    fn a_known_version_is_not_sent_again() {
        let first = file(&HeaderMap::new(), CSS, "text/css", false);
        assert_eq!(first.status(), StatusCode::OK);
        let mut headers = HeaderMap::new();
        headers.insert(IF_NONE_MATCH, first.headers()[ETAG].clone());
        assert_eq!(
            file(&headers, CSS, "text/css", false).status(),
            StatusCode::NOT_MODIFIED
        );
    }

    /// Contrast as in WCAG 2.2 §1.4.3, computed from the tokens of both schemes.
    #[test]
    fn text_tokens_have_enough_contrast() {
        let schemes: Vec<&str> = CSS.split("prefers-color-scheme: dark").collect();
        assert_eq!(schemes.len(), 2);
        for scheme in schemes {
            let token = |name: &str| {
                let text = scheme.split_once(&format!("--{name}: #")).unwrap().1;
                let value = u32::from_str_radix(&text[..6], 16).unwrap();
                let part = |shift: u32| {
                    let c = f64::from((value >> shift) & 0xff) / 255.0;
                    if c <= 0.040_45 {
                        c / 12.92
                    } else {
                        ((c + 0.055) / 1.055).powf(2.4)
                    }
                };
                0.2126 * part(16) + 0.7152 * part(8) + 0.0722 * part(0)
            };
            let contrast = |a: &str, b: &str| {
                let (a, b) = (token(a), token(b));
                (a.max(b) + 0.05) / (a.min(b) + 0.05)
            };
            for (front, back, least) in [
                ("ink", "ground", 7.0),
                ("ink", "paper", 7.0),
                ("ink-2", "ground", 4.5),
                ("ink-2", "paper", 4.5),
                ("ink-2", "sunk", 4.5),
                ("shu", "ground", 4.5),
                ("shu", "tint", 4.5),
                ("ink", "tint", 7.0),
                ("on-shu", "shu", 4.5),
                ("line-2", "paper", 3.0),
            ] {
                let found = contrast(front, back);
                assert!(found >= least, "{front} on {back}: {found:.2}");
            }
        }
    }
}
