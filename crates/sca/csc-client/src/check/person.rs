//! Somebody in front of a browser, for a check that may use one.

use std::future::Future;
use std::pin::Pin;

use url::Url;

/// What they are asked for.
#[derive(Debug, Clone, Copy)]
pub enum Errand<'a> {
    /// To log in.
    LogIn,
    /// To approve signatures over these digests (SHA-256), in this order.
    Approve {
        /// With this credential.
        credential: &'a str,
        /// The digests.
        hashes: &'a [Vec<u8>],
    },
}

/// Where the browser was sent, or why it wasn't.
pub type Brought<'a> = Pin<Box<dyn Future<Output = Result<Url, String>> + Send + 'a>>;

/// Brings codes as a browser does with somebody in front of it.
pub trait Person: Send {
    /// Goes to an address of the authorization server, does the errand, and tells where the browser was sent back to the client, whose
    /// redirect URI is `back`. That address isn't visited.
    fn bring<'a>(&'a mut self, url: &'a Url, back: &'a str, errand: Errand<'a>) -> Brought<'a>;
}
