//! What evidence shows.

use serde::Serialize;

/// Format of the report.
pub(super) const SCHEMA: &str = "natsuin.evidence-verify/1";

/// What the evidence shows. Everything here was checked, except what `by_word` and `remarks` say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// Format of this report.
    pub schema: &'static str,
    /// Kind of act, such as `sign` or `destroy`; `notice` of an authority, `revocation` by a CA, `stop` on somebody's word.
    pub kind: String,
    /// Digest of the act, of the notice, or of the evidence of what a CA published.
    pub act: String,
    /// The SAM that made or heeded it.
    pub sam: String,
    /// The store's epoch when the act was made; nothing where nobody approved an act.
    pub epoch: Option<String>,
    /// Version of the software that wrote the evidence.
    pub software: String,
    /// Who approved: id and name as shown to them. Of a notice: thumbprint of the authority's key, and no name; of what a CA published:
    /// SHA-256 of its certificate, and no name.
    pub person: [String; 2],
    /// Key, if the act is about one: id, SHA-256 of its public key, subject of its certificate.
    pub key: Option<[String; 3]>,
    /// What was approved, in words of the act: items with their labels and hashes, the change, or what officers decide; else what was
    /// heeded.
    pub what: Vec<String>,
    /// Who asked, if a client did: name, and whether the SAM knew it itself.
    pub client: Option<(String, bool)>,
    /// Whether the client signed the request, and the SAM verified it.
    pub client_signed: bool,
    /// Of an officer's approval: the person whose account it is, as the log said.
    pub officer: Option<String>,
    /// Of the same: digest of the exact bytes that were approved.
    pub document: Option<String>,
    /// Of the same: how many persons it takes.
    pub needs: Option<usize>,
    /// When it was approved or heeded, UTC seconds.
    pub approved_at: i64,
    /// Version of the policy it was approved under, and the level in the act; nothing where nobody approved an act.
    pub policy: Option<(u32, u8)>,
    /// Digest of that policy, by which the log names it too; nothing in evidence of older builds, and where nobody approved an act.
    pub policy_digest: Option<String>,
    /// Method of the proof: that of a factor, or `enrolment`, `notice`, `crl`, `ocsp`, `login`, `guard`.
    pub method: String,
    /// Only the SAM's word stands behind the proof: secrets leave nothing that others could check.
    pub by_word: bool,
    /// From the proof's factor back to the enrolment: digests of the acts that made each.
    pub chain: Vec<String>,
    /// The invitation to that enrolment, where a registration authority that the reader knows signed it.
    pub invited: Option<InvitedShown>,
    /// Signatures that were made: algorithm, items, SHA-256 of the values.
    pub signatures: Vec<SignatureShown>,
    /// Places in the log: number and kind.
    pub log: Vec<(u64, String)>,
    /// Size of the log at the checkpoint.
    pub checkpoint: u64,
    /// What a reader should know beside: codes.
    pub remarks: Vec<&'static str>,
}

/// An invitation by a registration authority that the reader knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InvitedShown {
    /// RFC 7638 thumbprint of the authority's key, base64url.
    pub authority: String,
    /// How it proved the person's identity, in its own word.
    pub assurance: String,
    /// Highest level of keys made with the invitation.
    pub ceiling: u8,
}

/// A signature in the evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SignatureShown {
    /// Algorithm.
    pub alg: String,
    /// When, UTC seconds.
    pub at: i64,
    /// Items of the act, from 0, in the order asked.
    pub items: Vec<u32>,
    /// What was signed without having been shown, base64url; nothing when the items stand in the act.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filled: Vec<String>,
    /// SHA-256 of each value, base64url.
    pub values: Vec<String>,
}
