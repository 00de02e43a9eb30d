//! What T1 of `sign` took: the items, and the order for them.

use std::sync::Arc;

use cm_api::order::CounterSign;
use cm_api::{CryptoModule, Dtbs, OrderKind, SignItem};
use core_types::{B64, Digest32, DtbsForm, SigAlg, UnixTime, sha256};
use sam_core::state::Job;
use sam_core::{ActState, Reason};
use sap::Item;
use store_kit::transaction;

use super::sign::Found;
use crate::failed::Failed;
use crate::records::KeyRecord;
use crate::rows::{self, KeyLock};
use crate::sam::Sam;

/// A job whose items are taken (T1 is durable).
pub(crate) struct Taken {
    pub(crate) found: Found,
    pub(crate) key: KeyRecord,
    pub(crate) job: Job,
    pub(crate) step: u32,
    pub(crate) epoch: Digest32,
    pub(crate) proof: Digest32,
    pub(crate) approved: UnixTime,
    pub(crate) approval: Digest32,
    /// What is signed, in the order asked.
    pub(crate) dtbs: Arc<Vec<Dtbs>>,
}

/// The job that the state names, with what its items are to sign.
pub(crate) fn taken(
    found: Found,
    key: KeyRecord,
    state: &ActState,
    messages: Vec<B64>,
    epoch: Digest32,
) -> Result<Taken, Failed> {
    let job = state.job.clone().ok_or(Reason::Lost)?;
    let approval = state.approval.as_ref().ok_or(Reason::NotApproved)?;
    let indices = job.indices.iter();
    let dtbs: Option<Vec<_>> = indices
        .map(|i| to_sign(job.alg, *i, &found.act.items, &messages))
        .collect();
    let (proof, evidence, approved) = (approval.proof, approval.evidence, approval.at);
    Ok(Taken {
        dtbs: Arc::new(dtbs.ok_or(Reason::HashNotApproved)?),
        found,
        key,
        job,
        step: state.step,
        epoch,
        proof,
        approved,
        approval: evidence,
    })
}

impl<C: CryptoModule> Sam<C> {
    /// The module said that it signed nothing: the next attempt begins, as the first did, with a key that nobody has stopped
    /// meanwhile.
    pub(crate) async fn again(&self, taken: &mut Taken) -> Result<(), Failed> {
        let (act, step, attempt) = (taken.found.digest, taken.step, taken.job.attempt);
        transaction!(self.store, "sign-again", |tx| {
            let row = rows::get::<ActState>(tx, &self.sealer, &act.to_string())
                .await?
                .ok_or(Reason::Lost)?;
            let next = row.body.again(step, attempt)?;
            self.stays_so(tx).await?;
            let id = taken.key.key.as_str();
            let key = rows::get_key(tx, &self.sealer, id, KeyLock::Shared).await?;
            let key = key.ok_or(Reason::KeyNotActive)?.body;
            let same = key.version == taken.key.version && key.spki == taken.key.spki;
            // A key for one act was spent by this one.
            let spent = key.spent.as_ref().is_some_and(|s| s.act != act);
            if !key.life.is_active(self.clock.now()) || !same || spent {
                return Err(Reason::KeyNotActive.into());
            }
            rows::save(tx, &self.sealer, &row, &next).await?;
            self.rows_changed(tx, "ordered-again").await?;
            Ok::<_, Failed>(())
        })?;
        taken.job.attempt += 1;
        Ok(())
    }
}

/// What an algorithm signs for this item of the act: its digest, or the message that the act names by its hash.
fn to_sign(alg: SigAlg, index: u32, items: &[Item], messages: &[B64]) -> Option<Dtbs> {
    let index = usize::try_from(index).ok()?;
    let item = items.get(index)?;
    match (alg.form(), item) {
        (DtbsForm::Digest, item) => Some(Dtbs::Digest(item.digest().clone())),
        (DtbsForm::Message, Item::Doc { m, .. }) => {
            let message = messages.get(index)?;
            let approved = sha256(&[&message.0]).ct_eq(m);
            approved.then(|| Dtbs::Message(message.clone()))
        }
        (DtbsForm::Message, Item::Hash { .. }) => None,
    }
}

/// The order for it.
pub(crate) fn sign_order(taken: &Taken, counter_sign: Option<CounterSign>) -> OrderKind {
    let items = taken.job.indices.iter().zip(taken.dtbs.iter());
    OrderKind::Sign {
        key: taken.key.key.clone(),
        version: taken.key.version,
        spki: taken.key.spki_digest(),
        alg: taken.job.alg,
        items: items
            .map(|(i, dtbs)| SignItem {
                i: *i,
                dtbs: dtbs.clone(),
            })
            .collect(),
        act: taken.found.digest,
        proof: taken.proof,
        approved: taken.approved,
        renewable: taken.found.act.renew > 0,
        step: taken.step,
        attempt: taken.job.attempt,
        counter_sign,
    }
}

#[cfg(test)]
mod tests {
    use core_types::HashAlg;

    use super::*;

    // shows: T-USE-DTBSR-FORGE
    #[test]
    fn a_message_is_signed_only_if_the_act_names_it() {
        let (message, h) = (B64(vec![0x31, 0]), B64(vec![1; 64]));
        let doc = Item::Doc {
            ha: HashAlg::Sha512,
            h: h.clone(),
            label: String::new(),
            d: B64(vec![2; 64]),
            m: sha256(&[&message.0]),
            ranges: None,
        };
        let hash = Item::Hash {
            ha: HashAlg::Sha512,
            h,
            label: String::new(),
        };
        let alg = SigAlg::Ed25519;
        let items = [doc.clone(), hash];
        let messages = [message.clone(), message.clone()];
        let good = to_sign(alg, 0, &items, &messages);
        assert_eq!(good, Some(Dtbs::Message(message)));
        assert_eq!(to_sign(alg, 1, &items, &messages), None);
        assert_eq!(to_sign(alg, 0, &items, &[B64(vec![0x31, 1])]), None);
        assert_eq!(to_sign(alg, 0, &items, &[]), None);
        let digest = to_sign(SigAlg::Ecdsa(HashAlg::Sha512), 0, &items, &[]);
        assert_eq!(digest, Some(Dtbs::Digest(doc.digest().clone())));
    }
}
