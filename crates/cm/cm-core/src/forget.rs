//! Forgetting a person in the module's log, which knows persons as owners of keys only.

use audit_log::ForgetError;
use cm_api::Refusal;
use core_types::{Digest32, KeyId, PersonId, UnixTime};
use store_kit::sql;

use crate::module::Module;
use crate::store::Failed;

const PAGE: i64 = 200;

/// Why a person isn't forgotten.
#[derive(Debug, thiserror::Error)]
pub enum NotForgotten {
    /// There is a key of an owner with this name, of whatever tenant.
    #[error("the module has a key of this person: they are a signer still")]
    Signer,
    /// A key's row can't be read, or the store is away.
    #[error("the module can't look whose its keys are: {0}")]
    Module(#[from] Refusal),
    /// Entries about them have to be kept longer, or the store.
    #[error(transparent)]
    Log(#[from] ForgetError),
}

impl Module {
    /// Forgets a person, as two officers approved (`by`), unless the module has a key of theirs, or something was recorded about them at
    /// `before` or later. Whether anything was known of them. What is made of them meanwhile is recorded, so that it counts in time.
    ///
    /// # Errors
    /// [`NotForgotten`]; nothing was done.
    pub async fn forget_person(
        &self,
        person: &PersonId,
        by: Digest32,
        before: UnixTime,
    ) -> Result<bool, NotForgotten> {
        let owns = self.owns_key(person).await;
        if owns.map_err(|failed| self.fail(failed))? {
            return Err(NotForgotten::Signer);
        }
        let (audit, now) = (self.audit(), self.clock.now());
        let done = audit.forget_person(&self.store, person, by, before, now);
        Ok(done.await?)
    }

    /// Whether there is a key of an owner with this name. A row that doesn't open may be one.
    async fn owns_key(&self, person: &PersonId) -> Result<bool, Failed> {
        let mut tx = self.store.read("cm-owner").await?;
        let mut after = String::new();
        loop {
            let query = sql("SELECT id FROM cm_key WHERE id > $1 ORDER BY id LIMIT $2");
            let rows = tx.fetch_all(query.bind(after.as_str()).bind(PAGE)).await?;
            let Some(last) = rows.last() else {
                return Ok(false);
            };
            after = last.text("id")?;
            for row in &rows {
                let key = KeyId::parse(row.text("id")?).map_err(|_| Failed::Tampered)?;
                if self.newest(&mut tx, &key).await?.attributes.owner == *person {
                    return Ok(true);
                }
            }
        }
    }
}
