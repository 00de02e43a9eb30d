//! The auditor's checker, and that of single acts ([`verify_evidence`]).
//!
//! For the auditor: re-derives an exported audit log from its bytes and says where it first goes wrong.
//!
//! Works offline on the files of an export, the log's public key and the witness's file. Shares no code with the
//! writer and must never depend on it: what it accepts is defined by the formats alone, that is
//!
//! - `entries.jsonl`: one JSON object a line, `{"seq","node","n","at","kind","leaf","body"}` in this order and
//!   without white space. `body` is the entry's text; `leaf` = base64url(SHA-256(0x00 ‖ body)); `seq` counts from 0
//!   over the log, `n` from 1 over the node; `node`, `n`, `at`, `kind` repeat members of the body.
//! - `checkpoints.txt` and the witness: C2SP checkpoints (origin, size, base64 root of the RFC 6962 tree over the
//!   bodies) as C2SP signed notes by an Ed25519 key of that name, each followed by an empty line.
//! - `log.pub`: the public key, `NAME+HASH+KEY`.

mod evidence;
mod note;
mod report;
mod tree;
mod verify;

pub use evidence::{Anchors, EvidenceFault, Shown, SignatureShown, verify_evidence};
pub use report::{Bad, Place, Reason, Remark, Report, Witnesses};
pub use verify::{VerifyError, verify};
