//! Forgetting a person: their rows, their evidence, and who they are in the log; once nothing has to be kept of them.

use audit_log::{Event, ForgetError};
use cm_api::CryptoModule;
use core_types::{Digest32, PersonId, UnixTime};
use sam_core::enrol::{Factor, Voucher};
use store_kit::{StoreError, sql, transaction};

use crate::failed::Failed;
use crate::records::{KeyRecord, PersonRecord};
use crate::rows;
use crate::sam::Sam;

/// Why a person isn't forgotten.
#[derive(Debug, thiserror::Error)]
pub enum NotForgotten {
    /// A key of theirs isn't destroyed, in the module too.
    #[error("a key of this person isn't destroyed: they are a signer still")]
    Signer,
    /// Entries about them have to be kept longer, or the store.
    #[error(transparent)]
    Log(#[from] ForgetError),
    /// The row of a key can't be read: whether that key is destroyed isn't known.
    #[error("the row of a key of this person isn't as the SAM wrote it")]
    Row,
}

impl From<StoreError> for NotForgotten {
    fn from(error: StoreError) -> Self {
        Self::Log(error.into())
    }
}

impl From<Failed> for NotForgotten {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Store(error) => error.into(),
            _ => Self::Row,
        }
    }
}

impl<C: CryptoModule> Sam<C> {
    /// Forgets a person of this tenant, as two officers approved (`by`), unless a key of theirs isn't destroyed, or something was recorded
    /// about them at `before` or later. What else of them is refused, such as their own row after a restore, goes with the rest. Whether anything was known of them.
    ///
    /// # Errors
    /// [`NotForgotten`]; nothing was done.
    pub async fn forget_person(
        &self,
        person: &PersonId,
        by: Digest32,
        before: UnixTime,
    ) -> Result<bool, NotForgotten> {
        let now = self.clock.now();
        // Where those of all tenants stand side by side.
        let name = self.sealer.name(person.as_str());
        transaction!(self.store, "forget-person", |tx| {
            audit_log::check_over(tx, &name, before).await?;
            // All of them: what isn't known any more is never destroyed.
            let keys = rows::by_owner::<KeyRecord>(tx, &self.sealer, person.as_str()).await?;
            if keys.iter().any(|key| !key.body.life.is_gone()) {
                return Err(NotForgotten::Signer);
            }
            let evidence = audit_log::evidence_about(tx, &name).await?;
            for name in &evidence {
                let delete = sql("DELETE FROM evidence WHERE id = $1");
                tx.execute(delete.bind(name.to_string())).await?;
            }
            let owner = person.as_str();
            let log = (&self.audit, now);
            let mut gone = rows::remove_owned::<KeyRecord>(tx, &self.sealer, owner, log).await?;
            gone += rows::remove_owned::<Factor>(tx, &self.sealer, owner, log).await?;
            gone += rows::remove_owned::<Voucher>(tx, &self.sealer, owner, log).await?;
            gone += u64::from(rows::remove::<PersonRecord>(tx, &self.sealer, owner).await?);
            for statement in [
                "DELETE FROM act_text WHERE id IN (SELECT id FROM act WHERE owner = $1)",
                "DELETE FROM act WHERE owner = $1",
                "DELETE FROM request WHERE owner = $1",
                "DELETE FROM result WHERE owner = $1",
                "DELETE FROM notice WHERE owner = $1",
            ] {
                tx.execute(sql(statement).bind(&*name)).await?;
            }
            if gone > 0 {
                // The rows by the name that they have, while they have one.
                let why = "person-forgotten".into();
                self.audit
                    .append(tx, Event::RowsChanged { why }, now)
                    .await?;
            }
            let known = self.audit.forget(tx, person, by, now).await?;
            Ok(known || gone > 0)
        })
    }
}
