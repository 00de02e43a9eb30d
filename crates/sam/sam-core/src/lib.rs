//! What the SAM decides, as pure functions of state, request and time (`sap.md` §§4-8, 11).
//!
//! Levels and which proof counts where, verification of passkeys, PINs and one-time codes, minting of acts and
//! their state machine, certification requests and the acceptance of certificates. Never knows a store, a server,
//! a clock, a private key of a signer, the SSA or the SIC host.

pub mod act;
pub mod attest;
pub mod backups;
pub mod certificate;
pub mod change;
pub mod client_jws;
pub mod csr;
pub mod enrol;
pub mod evidence;
pub mod import;
pub mod label;
pub mod level;
pub mod life;
pub mod notice;
pub mod office;
pub mod passkey;
pub mod pin;
pub mod provider;
pub mod reason;
pub mod revocation;
pub mod secrets;
pub mod sent;
pub mod state;
pub mod told;
pub mod totp;

pub use level::{Contradiction, FactorKind, KeyFacts, Policy, Service};
pub use reason::Reason;
pub use state::ActState;
