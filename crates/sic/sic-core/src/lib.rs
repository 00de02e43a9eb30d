//! The signer's side of SAP for programs: the command line, the demonstration and load tests.
//!
//! Believes no server: pinned roots vouch for the SAM's keys, those for the act, and only an act that was checked and
//! confirmed can be turned into a proof. Pure: no input or output, no clock or randomness of its own. Must never know
//! the SSA, and never sends anything itself.
//!
//! ```text
//! Trust ──check──▶ TrustedSam ──sign_act──▶ Review ──confirm──▶ Confirmed ──pin_totp / passkey / device──▶ ApproveRequest
//!                       ├─────change_act──▶ ChangeReview ──confirm──▶ ConfirmedChange ──…──▶ ApproveRequest
//!                       ├────officer_act──▶ OfficerReview ──confirm──▶ ConfirmedOfficer ──passkey──▶ ProofRequest
//!                       └─────enrol_act──▶ EnrolReview ──confirm──▶ Enrolling ──…──▶ EnrolRegisterRequest
//!   └────bring──▶ Bringing ──seal / seal_by──▶ ImportRequest
//! ```

mod approve;
mod bring;
mod change;
mod enrol;
mod office;
mod passkey;
mod provider;
#[cfg(test)]
mod testing;
mod totp;
mod trust;

pub use approve::{Confirmed, Review, Reviewed, Summary};
pub use bring::{Bringing, OwnKey};
pub use change::{ChangeReview, ConfirmedChange, Consequence};
pub use enrol::{EnrolReview, EnrolSummary, Enrolling, SeedKey, TotpSeed, Voucher};
pub use office::{ConfirmedOfficer, OfficerReview};
pub use passkey::{Assertion, Authenticator, AuthenticatorError, CreatePasskey, GetAssertion};
pub use totp::{Totp, TotpError};
pub use trust::{ActError, SicError, Trust, TrustedSam};

/// Fewest characters of a signing PIN that is checked by the SAM (NIST SP 800-63B-4 §3.1.1.2).
pub const MIN_PIN: usize = 8;
/// Most characters of a signing PIN.
pub const MAX_PIN: usize = 64;
