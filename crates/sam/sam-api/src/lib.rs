//! What the SSA and the SIC gateway may ask of the SAM.
//!
//! Two audiences, told apart by the certificate of the caller: the SSA creates powerless requests, binds tokens to
//! approved acts and asks for signatures; the gateway forwards the signer's own messages (`sap::messages`) and may
//! call nothing else. A guard may stop things ([`guard`]). Nothing in here names a key of the CM or a secret of a signer. The other way round there is one call:
//! the SAM's own to whoever brings one-time codes to signers ([`delivery`]).

pub mod delivery;
pub mod guard;
pub mod life;
pub mod refusal;
pub mod revocation;
pub mod ssa;

pub use refusal::Refusal;
