//! What every answer says to browsers, redirects and errors included. Pages say more themselves ([`web_ui::Csp`]).

use std::sync::Arc;

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::map_response;
use axum::response::Response;
use web_ui::Csp;

/// Gives each answer the headers that it doesn't bring itself. `https`: pages are served over HTTPS.
pub(crate) fn guarded(router: Router, https: bool) -> Router {
    let page = Csp {
        https,
        ..Csp::default()
    }
    .headers();
    let same = [
        X_CONTENT_TYPE_OPTIONS,
        REFERRER_POLICY,
        STRICT_TRANSPORT_SECURITY,
    ];
    let mut headers: HeaderMap = same
        .into_iter()
        .filter_map(|name| Some((name.clone(), page.get(&name)?.clone())))
        .collect();
    // What isn't a page loads nothing and is shown in none.
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let headers = Arc::new(headers);
    router.layer(map_response(move |mut response: Response| {
        let headers = headers.clone();
        async move {
            for (name, value) in headers.iter() {
                response
                    .headers_mut()
                    .entry(name)
                    .or_insert_with(|| value.clone());
            }
            response
        }
    }))
}
