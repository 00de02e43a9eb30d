//! Messages of the Cloud Signature Consortium API v2 (2.0.0.2 to 2.2.0.0) and of the OAuth 2.0 endpoints beside it.
//!
//! Requests are written by `Serialize` or `to_pairs` and read by `parse`, which answers with the error the
//! specification prescribes. Answers implement both serde directions. Reading is tolerant where real clients
//! need it: `null` and `""` mean absent for optional members, unknown members are ignored. What more some of them need is put into
//! the words of the specification before it is read ([`habits`]), for those whose operator allows it.
//!
//! Pure data: no I/O, no clock, no keys. Must never know the SAM, the signing protocol or any store.

pub mod algorithm;
pub mod authorize;
mod body;
pub mod create;
pub mod credentials;
pub mod details;
pub mod error;
pub mod extend;
pub mod habits;
pub mod info;
mod lenient;
pub mod login;
pub mod oauth;
pub mod openapi;
pub mod receipt;
pub mod secret;
pub mod sign;
pub mod sign_doc;
pub mod timestamp;
pub mod token;
pub mod v1;
pub mod waiting;

pub use algorithm::{algo_list, decide};
pub use authorize::{
    CredentialAuthorizeRequest, CredentialAuthorizeResponse, Granted, Pending, RevokeRequest,
};
pub use create::{CreateRequest, CreateResponse, CreationRequest};
pub use credentials::{
    AuthInfo, CertInfo, Certificates, Credential, InfoRequest, KeyInfo, KeyOrigin, LevelInfo,
    ListRequest, ListResponse,
};
pub use details::{DetailsType, DocumentDigest, HashType, SignatureAuthorization};
pub use error::{BARE_HASH, CscError, ErrorBody, OAuthError, OUTCOME_LOST};
pub use extend::{ExtendRequest, ExtendResponse};
pub use info::{
    DocumentInfo, Info, InfoQuery, OAuthServer, ServiceInfo, SignAlgorithms, SignatureFormats,
    TimeInfo,
};
pub use lenient::decode_base64;
pub use login::{LoginRequest, LoginResponse};
pub use oauth::{AuthorizeRequest, Params, Purpose, PushedResponse};
pub use receipt::ReceiptRequest;
pub use secret::SecretText;
pub use sign::{
    CounterSignature, CounterSignatures, SignHashAnswer, SignHashRequest, SignHashResponse,
    SignMode, SignPollingRequest, SignedValue,
};
pub use sign_doc::{SignDocRequest, SignDocResponse, WorkerRefusal, WorkerRequest, WorkerSignDoc};
pub use timestamp::{TimestampRequest, TimestampResponse};
pub use token::{
    ClientAuth, DeviceResponse, EndpointAliases, Grant, ServerMetadata, TokenRequest, TokenResponse,
};
pub use waiting::{AuthorizeCheckRequest, DeleteRequest, GetChallengeRequest, SendOtpRequest};

/// The value of `info.specs` that this crate follows.
pub const SPECS: &str = "2.2.0.0";
