//! The relying party's side of WebAuthn (W3C WebAuthn L3 §7): CBOR, COSE keys, authenticator data, registrations and
//! assertions as pure functions. The SAM checks signing passkeys with it, the SSA login passkeys; which is which is
//! a matter of the relying party and of the challenge, that the caller chooses.
//!
//! Stricter than the specification everywhere: user verification always, exact origin, no frames. Never knows what a
//! passkey is good for.

mod attestation;
pub mod cbor;
pub mod cose;
mod strict_json;
mod tpm;
mod verify;

pub use attestation::{Format, Statement};
pub use cose::CoseKey;
pub use verify::{
    Asserted, Assertion, Attestation, Passkey, PasskeyError, Registration, RelyingParty,
    verify_assertion, verify_attested, verify_registration,
};
