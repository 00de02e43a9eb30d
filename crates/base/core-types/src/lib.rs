//! Words that every zone shares: identifiers, algorithms, levels, time, randomness and secret bytes.
//!
//! Knows no zone, does no I/O. Clock and randomness are traits so that decisions stay pure functions of
//! their arguments; the system implementations are named only by composition roots.

pub mod alg;
pub mod approval;
pub mod bytes;
pub mod clock;
pub mod id;
pub mod key;
pub mod level;
pub mod net;
pub mod noise;
pub mod pss;
pub mod random;
pub mod retry;
pub mod rpc;
pub mod secret;
pub mod timekeeping;
pub mod words;

pub use alg::{DtbsForm, HashAlg, KeyAlg, RsaSize, SigAlg};
pub use approval::{ApprovalError, Approvals};
pub use bytes::{B64, Digest32, sha256};
pub use clock::{Clock, UnixTime};
pub use id::{
    ClientId, FactorId, KeyId, OfficerId, PeerId, PersonId, PersonName, TenantId, VoucherId,
};
pub use key::{DestroyCause, OriginCase};
pub use level::Level;
pub use pss::{PssParams, PssRefusal};
pub use random::Random;
pub use secret::SecretBytes;
