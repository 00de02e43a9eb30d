//! Forgetting a person: their rows, their evidence, and who they are in the log; once nothing has to be kept of them.

use audit_log::{Event, ForgetError};
use cm_api::CryptoModule;
use core_types::{Digest32, PersonId, UnixTime};
use sam_api::ssa::KeyState;
use sam_core::enrol::{Factor, Voucher};
use store_kit::{StoreError, Tx, sql, transaction};

use crate::failed::Failed;
use crate::records::{KeyRecord, PersonRecord};
use crate::rows::{self, Noun};
use crate::sam::Sam;

/// Why a person isn't forgotten.
#[derive(Debug, thiserror::Error)]
pub enum NotForgotten {
    /// A key of theirs isn't destroyed.
    #[error("a key of this person isn't destroyed: they are a signer still")]
    Signer,
    /// Entries about them have to be kept longer, or the store.
    #[error(transparent)]
    Log(#[from] ForgetError),
    /// A row can't be read.
    #[error("a row of this person isn't as the SAM wrote it")]
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
    /// about them at `before` or later. Whether anything was known of them.
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
            let keys = rows::by_owner::<KeyRecord>(tx, &self.sealer, person.as_str()).await?;
            if keys
                .iter()
                .any(|k| k.body.life.state != KeyState::Destroyed)
            {
                return Err(NotForgotten::Signer);
            }
            let evidence = audit_log::evidence_about(tx, &name).await?;
            for name in &evidence {
                let delete = sql("DELETE FROM evidence WHERE id = $1");
                tx.execute(delete.bind(name.to_string())).await?;
            }
            let mut gone = self.remove_all::<KeyRecord>(tx, person).await?;
            gone += self.remove_all::<Factor>(tx, person).await?;
            gone += self.remove_all::<Voucher>(tx, person).await?;
            if let Some(row) = rows::get::<PersonRecord>(tx, &self.sealer, person.as_str()).await? {
                rows::remove(tx, &self.sealer, &row).await?;
                gone += 1;
            }
            for statement in [
                "DELETE FROM act_text WHERE id IN (SELECT id FROM act WHERE owner = $1)",
                "DELETE FROM act WHERE owner = $1",
                "DELETE FROM request WHERE owner = $1",
                "DELETE FROM result WHERE owner = $1",
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

    async fn remove_all<T: Noun>(
        &self,
        tx: &mut Tx,
        person: &PersonId,
    ) -> Result<u64, NotForgotten> {
        let mut gone = 0;
        loop {
            let rows = rows::by_owner::<T>(tx, &self.sealer, person.as_str()).await?;
            if rows.is_empty() {
                return Ok(gone);
            }
            for row in &rows {
                rows::remove(tx, &self.sealer, row).await?;
                gone += 1;
            }
        }
    }
}
