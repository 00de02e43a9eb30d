//! The auditor's checker, and that of single acts ([`verify_evidence`]).
//!
//! For the auditor: re-derives an exported audit log from its bytes and says where it first goes wrong.
//!
//! Works offline on the files of an export, the log's public key and what witnesses have. Shares no code with the
//! writer and must never depend on it: what it accepts is defined by the formats alone, that is
//!
//! - C2SP tlog-tiles: `tile/entries/<N>[.p/<W>]` (bundles of entries, each two bytes of length and its text),
//!   `tile/<L>/<N>[.p/<W>]` (hashes of the RFC 6962 tree over the texts), `checkpoint` (the last one). An entry's text is
//!   a JSON object with the members `v`, `zone`, `node`, `n` (from 1 over the node), `at`, `subject`, `outcome`, `class`,
//!   `kind`, `detail`.
//! - `checkpoints.txt` and the witness's file: all C2SP checkpoints (origin, size, root) as C2SP signed notes by an
//!   Ed25519 key of that name, cosigned or not, each followed by an empty line.
//! - `log.pub`: the public key, `NAME+HASH+KEY`.
//! - `archived.json`, where entries were deleted after archiving: a list of `from`, `size`, `archive`, `proposal` (and more),
//!   without gaps from place 0. Bundles of these ranges may be missing; their `tile/0` stays. The list is believed if an
//!   entry `audit.log-deleted` of the log has its digest (`chain`).

mod archived;
mod bundle;
mod deletions;
mod evidence;
mod files;
mod note;
mod reconcile;
mod report;
mod tree;
mod verify;
mod walk;
pub mod witness;

pub use deletions::{Deletions, Judged};
pub use evidence::{
    Anchors, DeletionApproved, EvidenceFault, ForgettingApproved, InvitedShown, ProposalShown,
    Shown, SignatureShown, TrustedProvider, verify_deletion, verify_evidence, verify_forgetting,
    verify_proposal,
};
pub use reconcile::{Reconciled, Reconciler, Unmatched};
pub use report::{Archived, Bad, Cosigned, Place, Reason, Remark, Report, Witnesses};
pub use verify::{Known, VerifyError, verify, verify_each};
