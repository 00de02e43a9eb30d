//! Calls of officers to the SSA: `POST /ssa/v1/client/…` with JSON bodies, over mutual TLS.

use core_types::rpc::Empty;
use core_types::{ClientId, UnixTime};
use csc_types::SecretText;
use serde::{Deserialize, Serialize};

use crate::contract::{ClientCertificate, ClientSettings};

/// Why the SSA said no to an officer. Definite: nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "refused", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ClientRefusal {
    /// The caller holds no office in which this can be done.
    NotAllowed,
    /// There is no such client.
    Unknown,
    /// The id is taken.
    Taken,
    /// Somebody else changed it meanwhile.
    Changed,
    /// A member can't be meant.
    Invalid {
        /// Which.
        member: String,
    },
    /// The store doesn't answer.
    NotNow,
}

core_types::methods! {
    refusal = ClientRefusal;
    /// All clients, by id.
    ClientList: "/ssa/v1/client/list", Empty => ListAnswer;
    /// One client.
    ClientShow: "/ssa/v1/client/show", ClientRequest => ClientInfo;
    /// Registers a client. One that isn't public can't come before it has a secret or a key.
    ClientAdd: "/ssa/v1/client/add", AddRequest => ClientInfo;
    /// Changes name, addresses and contract of a client. Takes effect with its next call.
    ClientSet: "/ssa/v1/client/set", SetRequest => ClientInfo;
    /// Gives a client a new secret or new keys; what it had before counts for a while.
    ClientRotate: "/ssa/v1/client/rotate", RotateRequest => RotateAnswer;
    /// With what notices to a client are signed (`response_uri`).
    ClientResponseSecret: "/ssa/v1/client/response-secret", ClientRequest => ResponseSecretAnswer;
    /// Suspends a client: from then on nobody knows it or its tokens.
    ClientSuspend: "/ssa/v1/client/suspend", ClientRequest => ClientInfo;
    /// Ends a suspension.
    ClientResume: "/ssa/v1/client/resume", ClientRequest => ClientInfo;
}

/// Answer of [`ClientList`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListAnswer {
    /// The clients.
    pub clients: Vec<ClientInfo>,
}

/// Names a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientRequest {
    /// Its id.
    pub client: ClientId,
}

/// What an administrator fixes of a client; its keys aren't among it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    /// Its name as people see it, 1 to 100 characters.
    pub name: String,
    /// Exact redirect URIs.
    pub redirect_uris: Vec<String>,
    /// Runs on the user's machine.
    pub native: bool,
    /// What else it may and must; `keys` and `certificate` stay empty here.
    pub settings: ClientSettings,
}

/// Request of [`ClientAdd`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddRequest {
    /// Its id.
    pub client: ClientId,
    /// What is agreed.
    pub contract: Contract,
    /// Gets no secret and no key: it could not keep one.
    pub public: bool,
}

/// Request of [`ClientSet`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetRequest {
    /// Its id.
    pub client: ClientId,
    /// The version that was looked at.
    pub version: i64,
    /// What is agreed from here on.
    pub contract: Contract,
}

/// Request of [`ClientRotate`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotateRequest {
    /// Its id.
    pub client: ClientId,
    /// The version that was looked at.
    pub version: i64,
    /// New public keys (JWK).
    pub keys: Vec<serde_json::Value>,
    /// Its certificate from here on; with it the keys only sign requests. Without either it gets a new secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<ClientCertificate>,
    /// Seconds for which what it had before still counts, at most 30 days; 0 when that has leaked.
    pub overlap: i64,
}

/// Answer of [`ClientRotate`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotateAnswer {
    /// The client.
    pub client: ClientInfo,
    /// Its new secret, shown once; none if it has keys.
    pub secret: Option<SecretText>,
}

/// Answer of [`ClientResponseSecret`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResponseSecretAnswer {
    /// The secret in the form of *Standard Webhooks*: `whsec_` and base64. Another `response_serial` in the contract makes
    /// another one.
    pub secret: SecretText,
}

/// Whether a client may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientState {
    /// It has no secret or key yet.
    New,
    /// It may.
    Active,
    /// Nobody knows it.
    Suspended,
}

/// With what a client proves that it calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientProof {
    /// Nothing.
    None,
    /// A secret.
    Secret,
    /// Keys of its own.
    Keys,
    /// A certificate (mutual TLS).
    Certificate,
}

/// A client as officers see it. No secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientInfo {
    /// Its id.
    pub client: ClientId,
    /// Counts changes.
    pub version: i64,
    /// Whether it may come.
    pub state: ClientState,
    /// With what it proves that it calls.
    pub proof: ClientProof,
    /// What it had before the last rotation counts until then.
    pub overlap_until: Option<UnixTime>,
    /// Registered at.
    pub created: UnixTime,
    /// What is agreed, and its public keys.
    pub contract: Contract,
    /// Signatures counted in this day and this month (UTC), if it has a quota.
    pub used: [u64; 2],
}
