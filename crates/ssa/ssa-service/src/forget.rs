//! Forgetting a person: their account with all that hangs on it, and who they are in the log.

use audit_log::{AuditLog, ForgetError};
use core_types::{Digest32, PersonId, UnixTime};
use store_kit::{Store, sql, transaction};

/// Everything that names a person by their id.
const ROWS: [&str; 12] = [
    "DELETE FROM ssa_consent WHERE session IN (SELECT id FROM ssa_session WHERE person = $1)",
    "DELETE FROM ssa_session WHERE person = $1",
    "DELETE FROM ssa_flow WHERE person = $1",
    "DELETE FROM ssa_code WHERE person = $1",
    "DELETE FROM ssa_token WHERE person = $1",
    "DELETE FROM ssa_refresh WHERE person = $1",
    "DELETE FROM ssa_invitation WHERE person = $1",
    "DELETE FROM ssa_passkey WHERE person = $1",
    "DELETE FROM ssa_waiting WHERE person = $1",
    "DELETE FROM ssa_mute WHERE person = $1",
    "DELETE FROM ssa_link WHERE person = $1",
    "DELETE FROM ssa_user WHERE person = $1",
];

/// Forgets a person, as two officers approved (`by`), unless something was recorded about them at `before` or later. Whether
/// anything was known of them.
///
/// # Errors
/// [`ForgetError`]; nothing was done.
pub async fn forget_person(
    store: &Store,
    audit: &AuditLog,
    person: &PersonId,
    by: Digest32,
    before: UnixTime,
    now: UnixTime,
) -> Result<bool, ForgetError> {
    transaction!(store, "forget-person", |tx| {
        audit_log::check_over(tx, person.as_str(), before).await?;
        let mut gone = 0;
        for statement in ROWS {
            gone += tx.execute(sql(statement).bind(person.as_str())).await?;
        }
        let known = audit.forget(tx, person, by, now).await?;
        Ok(known || gone > 0)
    })
}
