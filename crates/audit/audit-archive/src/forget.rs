//! Forgetting who somebody was, as two officers approved, once nothing has to be kept of them any more.

use std::path::Path;

use audit_log::subject_of;
use audit_verify::{EvidenceFault, verify_forgetting};
use core_types::bytes::from_b64u;
use core_types::{Digest32, PersonId, PersonName, TenantId, UnixTime};

/// No setting lets anybody be forgotten earlier, in days after the last entry about them.
pub const LEAST_REMEMBERED: u32 = 366;
const DAY: i64 = 86_400;

/// An order, as a daemon's command has it.
#[derive(Debug, Clone, Copy)]
pub struct Forgetting<'o> {
    /// File with what an officer took from the SAM.
    pub taken: &'o Path,
    /// Id of the person; of another tenant's, TENANT/ID.
    pub person: &'o str,
    /// File with the salt of the commitment, base64url.
    pub salt: &'o Path,
    /// `K_root` as a JWK (JSON), known from before.
    pub root: &'o str,
    /// How long persons are remembered at least after the last entry about them, in days.
    pub keep_days: u32,
}

/// What was approved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forget {
    /// Who is forgotten.
    pub person: PersonId,
    /// Within which tenant; nothing: the provider's own.
    pub tenant: Option<TenantId>,
    /// Digest of the proposal.
    pub by: Digest32,
    /// Nothing may have been recorded about them at this time or later.
    pub before: UnixTime,
}

/// Why nobody was forgotten.
#[derive(Debug, thiserror::Error)]
pub enum NotForgotten {
    /// A file or an id can't be used.
    #[error("{0}")]
    Input(String),
    /// The approvals don't hold.
    #[error(transparent)]
    Approval(#[from] EvidenceFault),
    /// They are for somebody else, or the salt is another.
    #[error("two officers approved this for somebody else, or the salt is another one's")]
    Other,
}

impl Forgetting<'_> {
    /// Checks the approvals, and that they are for this person.
    ///
    /// # Errors
    /// [`NotForgotten`].
    pub fn check(&self, now: UnixTime) -> Result<Forget, NotForgotten> {
        let read = |path: &Path| {
            let read = std::fs::read(path);
            read.map_err(|e| NotForgotten::Input(format!("{}: {e}", path.display())))
        };
        let unfit = |e: core_types::id::BadId| NotForgotten::Input(e.to_string());
        let name = PersonName::parse(self.person).map_err(unfit)?;
        let approved = verify_forgetting(&read(self.taken)?, self.root, now.0)?;
        let salt = String::from_utf8(read(self.salt)?).unwrap_or_default();
        let salt = from_b64u(salt.trim()).ok().filter(|salt| salt.len() == 32);
        let salt = salt.ok_or(NotForgotten::Other)?;
        if subject_of(&salt, &name).to_string() != approved.subject {
            return Err(NotForgotten::Other);
        }
        let kept = i64::from(self.keep_days.max(LEAST_REMEMBERED)) * DAY;
        let (tenant, person) = name.parts().map_err(unfit)?;
        Ok(Forget {
            person,
            tenant,
            by: Digest32::parse(&approved.proposal).map_err(|_| NotForgotten::Other)?,
            before: now.plus(-kept),
        })
    }
}
