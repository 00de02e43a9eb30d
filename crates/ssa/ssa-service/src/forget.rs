//! Forgetting a person: their account with all that hangs on it, and who they are in the log.

use audit_log::{AuditLog, ForgetError};
use core_types::bytes::hex;
use core_types::{Digest32, PersonId, Random, TenantId, UnixTime};
use sam_api::Refusal;
use sam_api::ssa::{Empty, KeyState, KeysRequest};
use service_kit::CallError;
use store_kit::{Store, StoreError, Tx, sql, transaction};

use crate::port::SamPort;
use crate::{clients, users};

/// Everything that names a person by their id.
const ROWS: [&str; 14] = [
    "DELETE FROM ssa_consent WHERE session IN (SELECT id FROM ssa_session WHERE person = $1)",
    "DELETE FROM ssa_session WHERE person = $1",
    "DELETE FROM ssa_flow WHERE person = $1",
    "DELETE FROM ssa_code WHERE person = $1",
    "DELETE FROM ssa_token WHERE person = $1",
    "DELETE FROM ssa_refresh WHERE person = $1",
    "DELETE FROM ssa_invitation WHERE person = $1",
    "DELETE FROM ssa_passkey WHERE person = $1",
    "DELETE FROM ssa_waiting WHERE person = $1",
    "DELETE FROM ssa_later WHERE person = $1",
    "DELETE FROM ssa_mute WHERE person = $1",
    "DELETE FROM ssa_link WHERE person = $1",
    "UPDATE ssa_client SET person = NULL WHERE person = $1",
    "DELETE FROM ssa_user WHERE person = $1",
];

/// An order to forget a person, as two officers approved.
#[derive(Debug, Clone, Copy)]
pub struct ForgetOrder<'o> {
    /// Who is forgotten.
    pub person: &'o PersonId,
    /// Within which tenant; nothing: the provider's own.
    pub tenant: Option<&'o TenantId>,
    /// Digest of the proposal.
    pub by: Digest32,
    /// Nothing may have been recorded about them at this time or later.
    pub before: UnixTime,
}

/// Why a person isn't forgotten.
#[derive(Debug, thiserror::Error)]
pub enum NotForgotten {
    /// The order is about another tenant's person of this name.
    #[error("the order is about a person of another tenant than this service's")]
    OtherTenant,
    /// A key of theirs isn't destroyed.
    #[error("a key of this person isn't destroyed: they are a signer still")]
    Signer,
    /// The SAM doesn't say whose this service is, or which keys there are.
    #[error("the SAM can't be asked: {0}")]
    Sam(#[from] CallError<Refusal>),
    /// Entries about them have to be kept longer, or the store.
    #[error(transparent)]
    Log(#[from] ForgetError),
}

impl From<StoreError> for NotForgotten {
    fn from(error: StoreError) -> Self {
        Self::Log(error.into())
    }
}

/// Forgets a person of the tenant that `service` is for, unless the SAM has a key of theirs that isn't destroyed, or something was recorded
/// about them too late. Their login name is taken out of all contracts, so that nobody who has it later is served in their place. Whether anything was known of them.
///
/// # Errors
/// [`NotForgotten`]; nothing was done.
pub async fn forget_person(
    (store, audit): (&Store, &AuditLog),
    (sam, random): (&dyn SamPort, &dyn Random),
    service: &TenantId,
    order: ForgetOrder<'_>,
    now: UnixTime,
) -> Result<bool, NotForgotten> {
    may_be_forgotten(sam, service, order).await?;
    let person = order.person;
    transaction!(store, "forget-person", |tx| {
        audit_log::check_over(tx, person.as_str(), order.before).await?;
        if let Some(login) = users::login_of(tx, person).await? {
            take_out_of_contracts(tx, random, &login).await?;
        }
        let mut gone = 0;
        for statement in ROWS {
            gone += tx.execute(sql(statement).bind(person.as_str())).await?;
        }
        let known = audit.forget(tx, person, order.by, now).await?;
        Ok(known || gone > 0)
    })
}

/// What the SAM has to say before: that the order is for this tenant, and that the person signs nothing any more.
async fn may_be_forgotten(
    sam: &dyn SamPort,
    service: &TenantId,
    order: ForgetOrder<'_>,
) -> Result<(), NotForgotten> {
    let own = sam.about(&Empty {}).await?.tenant;
    let meant = match order.tenant {
        Some(tenant) => *tenant == own.name,
        None => own.own,
    };
    if !meant || own.name != *service {
        return Err(NotForgotten::OtherTenant);
    }
    let request = KeysRequest {
        person: order.person.clone(),
    };
    let keys = match sam.keys(&request).await {
        Ok(answer) => answer.keys,
        // Someone whom the SAM never knew, or has forgotten.
        Err(CallError::Refused(Refusal::NotFound)) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    match keys.iter().all(|key| key.state == KeyState::Destroyed) {
        true => Ok(()),
        false => Err(NotForgotten::Signer),
    }
}

async fn take_out_of_contracts(
    tx: &mut Tx,
    random: &dyn Random,
    login: &str,
) -> Result<(), StoreError> {
    for mut record in clients::all(tx).await? {
        let settings = &mut record.client.settings;
        let before = (settings.users.len(), settings.people.len());
        settings.users.retain(|name| name != login);
        settings.people.retain(|name| name != login);
        if before == (settings.users.len(), settings.people.len()) {
            continue;
        }
        if settings.people.is_empty() && before.1 > 0 {
            // None would be everybody: a name that nobody has.
            let nobody = hex(&random.digest32().0[..16]);
            settings.people.push(format!("forgotten-{nobody}"));
        }
        clients::update(tx, &record).await?;
    }
    Ok(())
}
