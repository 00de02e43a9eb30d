//! Messages of the signature activation protocol (SAP): what the signer's side and the SAM say to each other.
//!
//! Data and its encodings only: no I/O, no storage, no decision. Every type refuses unknown and doubled members
//! (`II-3.3.1-sap-*`). Times are UTC seconds, byte strings base64url without padding.

pub mod act;
pub mod enrol;
pub mod level;
pub mod manage;
pub mod messages;
pub mod office;
pub mod proof;
pub mod sign_open;

pub use act::{Act, ActHead, EnrolAct, Item, SignAct, act_digest};
pub use manage::{FactorChange, NewFactor, RevocationNotice, SealedFactor};
pub use proof::{Proof, SealedPin, SealedProof};
pub use sam_keys::{SamKeys, StatementError, TYP_KEYS};
pub use sign_open::SignOpenAct;

/// `typ` of an act.
pub const TYP_ACT: &str = "natsuin-act+jws";
/// `typ` of secrets sealed for the SAM.
pub const TYP_SEALED: &str = "natsuin-sad+jwe";
/// `typ` of a TOTP seed sealed for the page.
pub const TYP_SEED: &str = "natsuin-seed+jwe";
/// `typ` of an RA's approval of an invitation.
pub const TYP_INVITE: &str = "natsuin-invite+jws";
/// `typ` of the SAM's record of an enrolment.
pub const TYP_ENROLMENT: &str = "natsuin-enrolment+jws";
/// `typ` of an RA's or CA's notice about a certificate.
pub const TYP_NOTICE: &str = "natsuin-notice+jws";
/// `typ` of an RA's approval of a certificate.
pub const TYP_CERTIFY: &str = "natsuin-certify+jws";
