//! The shape of a call between zones: one path, one request type, one answer, one refusal.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A method that one zone offers to another over mutual TLS, as `POST PATH` with JSON bodies.
///
/// The API crate of a zone declares its methods; `service-kit` carries them, so that caller and server
/// can't disagree about path or types.
pub trait Method: Send + Sync + 'static {
    /// Absolute path of the endpoint, such as `/sam/v1/prepare`.
    const PATH: &'static str;
    /// Body of the request.
    type Request: Serialize + DeserializeOwned + Send + Sync + 'static;
    /// Body of a successful answer.
    type Response: Serialize + DeserializeOwned + Send + 'static;
    /// Body of a refusal: why the other zone said no. A refusal is definite: nothing was done.
    type Refusal: Serialize + DeserializeOwned + std::fmt::Debug + Send + 'static;
}
