//! Which policy a version names: the one with which it was first in force, for good. Acts and evidence name the version.

use std::collections::BTreeSet;

use audit_log::Event;
use cm_api::CryptoModule;
use core_types::{Digest32, TenantId};
use serde::{Deserialize, Serialize};
use store_kit::{sql, transaction};

use super::ending::Hold;
use crate::failed::Failed;
use crate::sam::Sam;
use crate::start_error::StartError;

/// Type of the entry about it.
pub(crate) const IN_FORCE: &str = "settings.policy-in-force";

/// A policy that was in force, as an entry says it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct InForce {
    /// Whose; nothing: the provider's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tenant: Option<TenantId>,
    detail: Numbered,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Numbered {
    version: u64,
    policy: Digest32,
}

impl InForce {
    /// What an entry of the type [`IN_FORCE`] says.
    pub(crate) fn read(body: &str) -> Option<Self> {
        serde_json::from_str(body).ok()
    }

    /// Whether both say the same of one version of one tenant's policy, or that it is another; nothing if they are about
    /// different ones.
    fn agrees(&self, other: &Self) -> Option<bool> {
        let about = self.tenant == other.tenant && self.detail.version == other.detail.version;
        about.then_some(self.detail.policy == other.detail.policy)
    }
}

impl<C: CryptoModule> Sam<C> {
    /// Each tenant's policy is the one that its version named before, or that one from now on. `known`: as the log says, what was
    /// deleted of it included.
    ///
    /// # Errors
    /// [`StartError::PolicyNotRaised`].
    pub(crate) async fn adopt_policies(&self, known: &BTreeSet<InForce>) -> Result<(), StartError> {
        for (n, of) in self.tenants().enumerate() {
            let policy = &of.config.policy;
            let own = InForce {
                tenant: (n > 0).then(|| of.config.tenant.clone()),
                detail: Numbered {
                    version: policy.version.into(),
                    policy: policy.digest(),
                },
            };
            let adopted = match of.adopt_policy(&own, known).await {
                Ok(adopted) => adopted,
                Err(Failed::Store(error)) => return Err(error.into()),
                Err(_) => return Err(StartError::Unusable("its policy can't be recorded")),
            };
            if !adopted {
                let what = "policy-not-raised".into();
                of.record(Event::Alarm { what }).await;
                return Err(StartError::PolicyNotRaised {
                    tenant: of.config.tenant.clone(),
                    version: policy.version,
                });
            }
        }
        Ok(())
    }

    async fn adopt_policy(&self, own: &InForce, known: &BTreeSet<InForce>) -> Result<bool, Failed> {
        transaction!(self.store, "policy", |tx| {
            // Of two nodes that start at once the second one sees what the first one wrote.
            self.hold(tx, Hold::Alone).await?;
            let told = sql("SELECT body FROM audit_entry WHERE kind = $1").bind(IN_FORCE);
            let mut said: BTreeSet<bool> = known.iter().filter_map(|k| k.agrees(own)).collect();
            for row in tx.fetch_all(told).await? {
                let entry = InForce::read(&row.text("body")?);
                said.extend(entry.and_then(|entry| entry.agrees(own)));
            }
            if said.is_empty() {
                let event = Event::PolicyInForce {
                    version: own.detail.version,
                    policy: own.detail.policy,
                };
                self.audit.append(tx, event, self.clock.now()).await?;
            }
            Ok::<_, Failed>(!said.contains(&false))
        })
    }
}
