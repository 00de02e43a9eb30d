//! Renewing signature activation data (`sap.md` §7; `sad_method` 2): the total was fixed in the act, each step counts
//! once, and the old token is dead from then on.

use core_types::{B64, ClientId, Digest32, KeyId, UnixTime};
use sap::SignAct;

use super::{ActState, ItemState, JobState, Now, Phase, SIGN_WINDOW, Subject};
use crate::Reason;

/// A request to renew as the decision sees it.
#[derive(Debug, Clone, Copy)]
pub struct Renewal<'a> {
    /// SHA-256 of the current token.
    pub grant: Digest32,
    /// SHA-256 of the token that takes its place.
    pub next: Digest32,
    /// Client that presented it.
    pub client: &'a ClientId,
    /// Key.
    pub key: &'a KeyId,
    /// Hashes that will be asked for next, or none; they must be among the free items.
    pub hashes: &'a [B64],
}

impl ActState {
    /// Decides about a request to renew. The same call again gets the same answer, as long as the new token wasn't used.
    ///
    /// # Errors
    /// [`Reason::Used`] when nothing is left or nothing may be renewed, [`Reason::Expired`] when token or chain are over,
    /// [`Reason::NotNow`] while an order of the current token is out, and as a request to sign.
    pub fn renew(&self, act: &SignAct, asked: Renewal<'_>, now: Now) -> Result<Self, Reason> {
        let approval = self.check_right(now)?;
        let Subject::Sign { key, client, .. } = &self.subject else {
            return Err(Reason::OtherKind);
        };
        let is = |bound: Option<Digest32>, given: Digest32| bound.is_some_and(|g| g.ct_eq(&given));
        let repeated = is(self.renewed_from, asked.grant) && is(self.grant, asked.next);
        if repeated && self.job.is_none() {
            return Ok(self.clone());
        }
        if !is(self.grant, asked.grant) || asked.next.ct_eq(&asked.grant) {
            return Err(Reason::NotFound);
        }
        if key != asked.key || client != asked.client {
            return Err(Reason::Mismatch);
        }
        if act.renew == 0 || self.phase != Phase::Approved {
            return Err(Reason::Used);
        }
        if now.time.0 >= act.renew {
            return Err(Reason::Expired);
        }
        if self
            .job
            .as_ref()
            .is_some_and(|j| j.state == JobState::Taken)
        {
            return Err(Reason::NotNow);
        }
        self.check_free(act, asked.hashes)?;
        let mut next = self.clone();
        next.approval = Some(super::Approval {
            sign_until: now.time.plus(SIGN_WINDOW).min(UnixTime(act.renew)),
            ..approval.clone()
        });
        next.grant = Some(asked.next);
        next.renewed_from = Some(asked.grant);
        next.step = self.step.checked_add(1).ok_or(Reason::Used)?;
        next.job = None;
        Ok(next)
    }

    /// Whether something is left, and these hashes are among it.
    fn check_free(&self, act: &SignAct, hashes: &[B64]) -> Result<(), Reason> {
        let mut free: Vec<&sap::Item> = (0_u32..)
            .zip(&act.items)
            .filter(|(i, _)| self.items.get(*i) == ItemState::Free)
            .map(|(_, item)| item)
            .collect();
        if free.is_empty() {
            return Err(Reason::Used);
        }
        for hash in hashes {
            let fits = |item: &&sap::Item| {
                let document = match item {
                    sap::Item::Hash { h, .. } | sap::Item::Doc { h, .. } => h,
                };
                item.digest() == hash || document == hash
            };
            let at = free.iter().position(fits).ok_or(Reason::HashNotApproved)?;
            free.swap_remove(at);
        }
        Ok(())
    }
}
