//! A line for the operator about each refused call of the API: which endpoint, which error. Never what was sent.

use std::borrow::Cow;

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;

/// What a caller was told; rides on the answer to the line in the log.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) error: &'static str,
    /// From the closed vocabulary of the wire, so that nothing a caller sent gets into the log.
    pub(crate) description: Cow<'static, str>,
}

/// Writes the line. 4xx is what a client did, 5xx what the operator has to look at.
pub(crate) async fn log(request: Request, next: Next) -> Response {
    let endpoint = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    if let Some(told) = response.extensions().get::<Told>() {
        let endpoint = endpoint.as_ref().map_or("none", MatchedPath::as_str);
        let status = response.status().as_u16();
        let Told { error, description } = told;
        if response.status().is_server_error() {
            tracing::error!(endpoint, status, error, %description, "a call failed");
        } else {
            tracing::warn!(endpoint, status, error, %description, "a call was refused");
        }
    }
    response
}
