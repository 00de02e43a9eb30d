//! The network as an argument.

use std::future::Future;
use std::pin::Pin;

/// A boxed future, so that a fetcher can be passed as `&dyn Fetch`.
pub type Fetching<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, FetchError>> + Send + 'a>>;

/// Gets revocation data and time-stamps over HTTP. Implementations bound time, redirects and addresses: the
/// URLs stand in certificates and are therefore an attacker's input.
pub trait Fetch: Send + Sync {
    /// `GET url`; answers longer than `limit` bytes are an error.
    fn get<'a>(&'a self, url: &'a str, limit: usize) -> Fetching<'a>;

    /// `POST url` with a body of this media type; answers longer than `limit` bytes are an error.
    fn post<'a>(
        &'a self,
        url: &'a str,
        content_type: &'a str,
        body: Vec<u8>,
        limit: usize,
    ) -> Fetching<'a>;
}

/// The other side couldn't be reached or answered with an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("could not fetch {url}: {reason}")]
pub struct FetchError {
    /// What was asked.
    pub url: String,
    /// Why it failed, for an operator.
    pub reason: String,
    /// Somebody is there: an answer came that can't be used (another status, too long).
    pub answered: bool,
}
