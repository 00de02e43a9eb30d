//! Spending an approved act (`sap.md` §7).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use core_types::{B64, ClientId, Digest32, KeyId, SigAlg, UnixTime, sha256};
use sap::SignAct;
use serde::{Deserialize, Serialize};

use super::{ActState, ItemState, MAX_SPOILED, Now, Phase, Subject};
use crate::Reason;

/// A sign request as the decision sees it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// SHA-256 of the token.
    pub grant: Digest32,
    /// Client that presented it.
    pub client: &'a ClientId,
    /// Key.
    pub key: &'a KeyId,
    /// Algorithm.
    pub alg: SigAlg,
    /// Hashes asked for.
    pub hashes: &'a [B64],
    /// The client's idempotency key.
    pub idempotency_key: Option<&'a str>,
}

impl Asked<'_> {
    /// Digest of everything but the token: what *identical request* means.
    pub fn digest(&self) -> Digest32 {
        let mut hashes = Vec::new();
        for hash in self.hashes {
            hashes.extend_from_slice(&(hash.0.len() as u64).to_be_bytes());
            hashes.extend_from_slice(&hash.0);
        }
        let head = format!(
            "natsuin-ask-v1\n{}\n{}\n{}\n",
            self.client, self.key, self.alg
        );
        sha256(&[head.as_bytes(), &hashes])
    }
}

/// The use of a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Digest of the request.
    pub request: Digest32,
    /// The client's idempotency key.
    pub idempotency_key: Option<String>,
    /// Algorithm.
    pub alg: SigAlg,
    /// Items in the order asked.
    pub indices: Vec<u32>,
    /// Number of the order within the step.
    pub attempt: u32,
    /// No order of this job is executed at or after this time.
    pub deadline: UnixTime,
    /// What became of it.
    pub state: JobState,
}

/// What became of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    /// An order is out, or was when the node died.
    Taken,
    /// Values were made and stored.
    Done,
    /// Unknown outcome: the right is lost.
    Lost,
}

/// What a sign request leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Take these items, then order; the successor state is to be stored first.
    Take(Box<ActState>),
    /// The identical request was served: give the stored values.
    Fetch,
    /// An order whose outcome nobody can tell any more: store this, then say *lost*.
    GiveUp(Box<ActState>),
}

impl ActState {
    /// Decides about a sign request on the verified act. Nothing is consumed by a refusal.
    ///
    /// # Errors
    /// [`Reason`]; whether it counts against the act says [`Self::spoil`].
    pub fn plan(
        &self,
        act: &SignAct,
        asked: Asked<'_>,
        now: Now,
        order_life: i64,
    ) -> Result<Plan, Reason> {
        let approval = self.check_right(now)?;
        if !self.grant.is_some_and(|g| g.ct_eq(&asked.grant)) {
            return Err(Reason::NotFound);
        }
        let Subject::Sign {
            key,
            client,
            open_until,
            ..
        } = &self.subject
        else {
            return Err(Reason::OtherKind);
        };
        if let Some(job) = &self.job {
            return self.plan_again(job, asked, now);
        }
        if key != asked.key || client != asked.client {
            return Err(Reason::Mismatch);
        }
        if !act.algs.contains(&asked.alg) {
            return Err(Reason::AlgorithmNotApproved);
        }
        let indices = match open_until {
            Some(_) => self.first_free(asked)?,
            None => self.matching(act, asked)?,
        };
        let mut next = self.clone();
        next.items.set(&indices, ItemState::Taken);
        next.job = Some(Job {
            request: asked.digest(),
            idempotency_key: asked.idempotency_key.map(str::to_owned),
            alg: asked.alg,
            indices,
            attempt: 0,
            deadline: now.time.plus(order_life).min(approval.sign_until),
            state: JobState::Taken,
        });
        Ok(Plan::Take(Box::new(next)))
    }

    /// Counts a failed sign request; ten of them kill the act. `None`: this refusal doesn't count.
    pub fn spoil(&self, reason: &Reason) -> Option<Self> {
        let counts = matches!(
            reason,
            Reason::Mismatch | Reason::AlgorithmNotApproved | Reason::HashNotApproved
        );
        if !counts || self.phase != Phase::Approved {
            return None;
        }
        let mut next = self.clone();
        next.spoiled = next.spoiled.saturating_add(1);
        if next.spoiled >= MAX_SPOILED {
            next.phase = Phase::Dead;
        }
        Some(next)
    }

    /// The module said that nothing was signed: the same items may be ordered once more.
    ///
    /// # Errors
    /// [`Reason::Lost`] when the job isn't out any more.
    pub fn again(&self, step: u32, attempt: u32) -> Result<Self, Reason> {
        let mut next = self.clone();
        let job = next.taken_job(step, attempt)?;
        job.attempt += 1;
        Ok(next)
    }

    /// The values were made, verified and are about to be stored.
    ///
    /// # Errors
    /// [`Reason::Lost`] when the job was given up meanwhile.
    pub fn done(&self, step: u32, attempt: u32) -> Result<Self, Reason> {
        self.finish(step, attempt, JobState::Done, ItemState::Done)
    }

    /// The items are given up for good.
    ///
    /// # Errors
    /// [`Reason::Lost`] when the job isn't out any more.
    pub fn lost(&self, step: u32, attempt: u32) -> Result<Self, Reason> {
        self.finish(step, attempt, JobState::Lost, ItemState::Lost)
    }

    /// Gives up a job whose order has passed its time; for recovery.
    pub fn give_up(&self, now: UnixTime) -> Option<Self> {
        let job = self.job.as_ref()?;
        let over = job.state == JobState::Taken && now >= job.deadline;
        if over {
            self.lost(self.step, job.attempt).ok()
        } else {
            None
        }
    }

    fn plan_again(&self, job: &Job, asked: Asked<'_>, now: Now) -> Result<Plan, Reason> {
        if let Some(next) = self.give_up(now.time) {
            return Ok(Plan::GiveUp(Box::new(next)));
        }
        let same = job.idempotency_key.is_some()
            && job.idempotency_key.as_deref() == asked.idempotency_key
            && job.request == asked.digest();
        match (same, job.state) {
            (true, JobState::Done) => Ok(Plan::Fetch),
            (true, JobState::Taken) => Err(Reason::NotNow),
            (true, JobState::Lost) => Err(Reason::Lost),
            (false, _) => Err(Reason::Used),
        }
    }

    /// Places for what nobody was shown: no more than the act has.
    fn first_free(&self, asked: Asked<'_>) -> Result<Vec<u32>, Reason> {
        let right = |hash: &B64| hash.0.len() == asked.alg.hash().len();
        let count = u32::try_from(asked.hashes.len()).map_err(|_| Reason::HashNotApproved)?;
        let free = |index: &u32| self.items.get(*index) == ItemState::Free;
        let places: Vec<u32> = (0..count).filter(free).collect();
        if count == 0 || places.len() != asked.hashes.len() || !asked.hashes.iter().all(right) {
            return Err(Reason::HashNotApproved);
        }
        Ok(places)
    }

    /// Matches the asked hashes, as a multiset, with free items.
    fn matching(&self, act: &SignAct, asked: Asked<'_>) -> Result<Vec<u32>, Reason> {
        if asked.hashes.is_empty()
            || asked.hashes.len() > act.items.len()
            || act.items.len() != self.items.len()
        {
            return Err(Reason::HashNotApproved);
        }
        let mut free: BTreeMap<&[u8], VecDeque<u32>> = BTreeMap::new();
        for (index, item) in (0_u32..).zip(&act.items) {
            if item.hash_alg() != asked.alg.hash() || self.items.get(index) != ItemState::Free {
                continue;
            }
            free.entry(&item.digest().0).or_default().push_back(index);
            if let sap::Item::Doc { h, .. } = item {
                free.entry(&h.0).or_default().push_back(index);
            }
        }
        let mut taken = BTreeSet::new();
        asked
            .hashes
            .iter()
            .map(|hash| {
                let queue = free
                    .get_mut(hash.0.as_slice())
                    .ok_or(Reason::HashNotApproved)?;
                loop {
                    // An item of form `doc` stands in two queues and may be gone from the other.
                    let index = queue.pop_front().ok_or(Reason::HashNotApproved)?;
                    if taken.insert(index) {
                        return Ok(index);
                    }
                }
            })
            .collect()
    }

    /// The job that is out. A late answer of an earlier step must not be taken for one of this.
    fn taken_job(&mut self, step: u32, attempt: u32) -> Result<&mut Job, Reason> {
        if self.step != step {
            return Err(Reason::Lost);
        }
        match &mut self.job {
            Some(job) if job.state == JobState::Taken && job.attempt == attempt => Ok(job),
            _ => Err(Reason::Lost),
        }
    }

    fn finish(
        &self,
        step: u32,
        attempt: u32,
        job_state: JobState,
        item: ItemState,
    ) -> Result<Self, Reason> {
        let mut next = self.clone();
        let job = next.taken_job(step, attempt)?;
        job.state = job_state;
        let indices = job.indices.clone();
        next.items.set(&indices, item);
        if next.items.used_up() {
            next.phase = Phase::Closed;
        }
        Ok(next)
    }
}
