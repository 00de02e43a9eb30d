//! The shape of a call between zones: one path, one request type, one answer, one refusal.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

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

/// A body without members.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// Declares the methods of a module that share one refusal, and `PATHS`, the paths of all of them.
///
/// ```
/// use core_types::rpc::{Empty, Method};
///
/// core_types::methods! {
///     refusal = String;
///     /// The name of the zone.
///     Name: "/zone/v1/name", Empty => String;
/// }
///
/// assert_eq!(PATHS, [Name::PATH]);
/// ```
#[macro_export]
macro_rules! methods {
    (
        refusal = $refusal:ty;
        $($(#[$doc:meta])* $name:ident: $path:literal, $request:ty => $response:ty;)*
    ) => {
        /// Paths of all methods of this module.
        pub const PATHS: &[&str] = &[$($path),*];

        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy)]
            pub struct $name;

            impl $crate::rpc::Method for $name {
                const PATH: &'static str = $path;
                type Request = $request;
                type Response = $response;
                type Refusal = $refusal;
            }
        )*
    };
}
