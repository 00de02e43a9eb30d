//! The state of an act (`sap.md` §4): `open → approved → closed`, or `refused | expired | dead`.
//!
//! Every function takes the state as it was read and returns the successor to be stored by compare-and-swap.
//! Whoever can't present such a row has no right (R1).

use core_types::{ClientId, Digest32, FactorId, KeyId, Level, PersonId, UnixTime, VoucherId};
use sap::act::MAX_LIFE;
use sap::manage::FactorChange;
use sap::messages::ActOutcome;
use sap::proof::Method;
use serde::{Deserialize, Serialize};

use crate::Reason;
use crate::change::Change;
use crate::enrol::Seed;
use crate::import::{CA_BRINGS, Coming, SIGNER_BRINGS};

mod items;
mod renewal;
mod signing;

pub use items::{ItemState, Items};
pub use renewal::Renewal;
pub use signing::{Asked, Job, JobState, Plan};

/// Seconds from approval until the right to sign ends.
pub const SIGN_WINDOW: i64 = 300;
/// Seconds by which the clocks of two nodes may differ.
pub const CLOCKS_DIFFER: i64 = 5;
/// Tries with guessable secrets on one act.
pub const MAX_TRIES: u8 = 5;
/// Failed sign requests after which an act is dead.
pub const MAX_SPOILED: u8 = 10;

/// Where an act stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Waits for the person.
    Open,
    /// The proof was accepted.
    Approved,
    /// All items are used up, or the enrolment is done.
    Closed,
    /// The person refused.
    Refused,
    /// A later act of the same request took its place.
    Superseded,
    /// Too many failures.
    Dead,
}

impl Phase {
    /// Name for the index column; decisions don't read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Approved => "approved",
            Self::Closed => "closed",
            Self::Refused => "refused",
            Self::Superseded => "superseded",
            Self::Dead => "dead",
        }
    }
}

/// What the act is about, copied from its bytes when it was minted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Subject {
    /// A signature.
    Sign {
        /// Hashed id of the request.
        request: Digest32,
        /// Key.
        key: KeyId,
        /// Version of the key's record.
        key_version: u32,
        /// Client.
        client: ClientId,
        /// Service identity that prepared the request; no other may use the act.
        service: String,
        /// Of an act without items: nothing is signed at or after this time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        open_until: Option<UnixTime>,
        /// The key is for one act: its row changes when this one is used.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        one_time: bool,
    },
    /// An enrolment.
    Enrol {
        /// Voucher.
        voucher: VoucherId,
        /// Digest of the keys and factors of the registration that ends with it, as the act names them.
        ends: Option<Digest32>,
    },
    /// A key that may come in.
    Import {
        /// Hashed id of the request.
        request: Digest32,
        /// Registration, by the voucher that began it.
        registration: VoucherId,
        /// The key.
        coming: Coming,
    },
    /// A change of a key's state, of factors, or the end of a registration.
    Change {
        /// Hashed id of the request.
        request: Digest32,
        /// Registration, by the voucher that began it.
        registration: VoucherId,
        /// What changes.
        change: Change,
    },
    /// An officer logs in or approves.
    Officer {
        /// Digest of the proposal's document; nothing for a log-in.
        proposal: Option<Digest32>,
    },
}

impl Subject {
    /// The request it was opened for.
    pub fn request(&self) -> Option<Digest32> {
        match self {
            Self::Sign { request, .. }
            | Self::Change { request, .. }
            | Self::Import { request, .. } => Some(*request),
            Self::Enrol { .. } | Self::Officer { .. } => None,
        }
    }

    /// Longest time in seconds for which an approval is good.
    fn window(&self) -> i64 {
        match self {
            Self::Sign { .. } => SIGN_WINDOW,
            Self::Import { .. } => SIGNER_BRINGS.max(CA_BRINGS) + MAX_LIFE,
            Self::Change { .. } | Self::Enrol { .. } | Self::Officer { .. } => 0,
        }
    }
}

/// The proof that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// Digest of the proof without its secrets.
    pub proof: Digest32,
    /// Digest of the evidence of the approval.
    pub evidence: Digest32,
    /// Method.
    pub method: Method,
    /// Factor.
    pub factor: FactorId,
    /// Time.
    pub at: UnixTime,
    /// The right ends here: to sign, or to bring a key.
    pub sign_until: UnixTime,
}

/// State of an act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActState {
    /// Where it stands.
    pub phase: Phase,
    /// What it is about.
    pub subject: Subject,
    /// Person who has to approve.
    pub person: PersonId,
    /// Level in the act.
    pub level: Level,
    /// Expires at.
    pub exp: UnixTime,
    /// Issued at; acts of older builds don't tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat: Option<UnixTime>,
    /// Epoch in the act.
    pub epoch: Digest32,
    /// Policy in the act.
    pub policy: u32,
    /// Where the page goes.
    pub return_uri: String,
    /// Tries with guessable secrets so far.
    pub tries: u8,
    /// Failed sign requests so far.
    pub spoiled: u8,
    /// The accepted proof.
    pub approval: Option<Approval>,
    /// SHA-256 of the one token that may act now.
    pub grant: Option<Digest32>,
    /// Number of the current grant; raised by renewal.
    pub step: u32,
    /// The grant before this one, dead for everything but the repeated call to renew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewed_from: Option<Digest32>,
    /// What became of each item.
    pub items: Items,
    /// The use of the current grant.
    pub job: Option<Job>,
    /// Seed handed out for a new factor and not confirmed yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<Seed>,
}

/// The world as an act meets it.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Time.
    pub time: UnixTime,
    /// Epoch of the store.
    pub epoch: Digest32,
    /// Policy version.
    pub policy: u32,
}

impl ActState {
    /// The state of a new act with `items` items.
    pub fn minted(subject: Subject, head: sap::ActHead<'_>, items: usize) -> Self {
        Self {
            phase: Phase::Open,
            subject,
            person: head.person.id.clone(),
            level: head.level,
            exp: head.exp,
            iat: Some(head.iat),
            epoch: head.epoch,
            policy: head.policy,
            return_uri: head.return_uri.to_owned(),
            tries: 0,
            spoiled: 0,
            approval: None,
            grant: None,
            step: 0,
            renewed_from: None,
            items: Items::free(items),
            job: None,
            seed: None,
        }
    }

    /// When it began, at the earliest.
    pub fn began(&self) -> UnixTime {
        self.iat.unwrap_or(self.exp.plus(-MAX_LIFE))
    }

    /// Whether a proof may still be given.
    ///
    /// # Errors
    /// [`Reason`] saying why not.
    pub fn check_open(&self, now: Now) -> Result<(), Reason> {
        match self.phase {
            Phase::Open => {}
            Phase::Approved | Phase::Closed => return Err(Reason::Used),
            Phase::Refused | Phase::Superseded => return Err(Reason::Withdrawn),
            Phase::Dead => return Err(Reason::TooManyTries),
        }
        if self.epoch != now.epoch {
            return Err(Reason::OtherEpoch);
        }
        if self.policy != now.policy {
            return Err(Reason::PolicyChanged);
        }
        check_time(now.time, self.exp, MAX_LIFE)
    }

    /// Counts a try with a guessable secret, before anything is compared. `Err` with the successor kills the act.
    ///
    /// # Errors
    /// As [`Self::check_open`]; [`Reason::TooManyTries`] when the act has none left.
    pub fn try_secret(&self, now: Now) -> Result<Self, Reason> {
        self.check_open(now)?;
        if self.tries >= MAX_TRIES {
            return Err(Reason::TooManyTries);
        }
        Ok(Self {
            tries: self.tries + 1,
            ..self.clone()
        })
    }

    /// Ends an act whose tries are used up after the last one failed.
    pub fn after_failure(&self) -> Option<Self> {
        (self.phase == Phase::Open && self.tries >= MAX_TRIES).then(|| self.ended(Phase::Dead))
    }

    /// Accepts a proof: `open → approved`. An act that isn't spent later is done by this: `open → closed`, with its
    /// effect in the same transaction.
    ///
    /// # Errors
    /// As [`Self::check_open`].
    pub fn approve(
        &self,
        proof: Digest32,
        evidence: Digest32,
        method: Method,
        factor: FactorId,
        now: Now,
    ) -> Result<Self, Reason> {
        self.check_open(now)?;
        let (phase, sign_until) = match &self.subject {
            Subject::Sign { open_until, .. } => {
                let end = now.time.plus(SIGN_WINDOW);
                (
                    Phase::Approved,
                    open_until.map_or(end, |until| end.min(until)),
                )
            }
            Subject::Import { coming, .. } => (Phase::Approved, coming.until),
            Subject::Change { .. } | Subject::Officer { .. } => (Phase::Closed, now.time),
            Subject::Enrol { .. } => return Err(Reason::OtherKind),
        };
        Ok(Self {
            phase,
            seed: None,
            approval: Some(Approval {
                proof,
                evidence,
                method,
                factor,
                at: now.time,
                sign_until,
            }),
            ..self.clone()
        })
    }

    /// The person says no.
    ///
    /// # Errors
    /// As [`Self::check_open`].
    pub fn refuse(&self, now: Now) -> Result<Self, Reason> {
        self.check_open(now)?;
        Ok(self.ended(Phase::Refused))
    }

    /// A later act takes the place of this one, if it is still open.
    pub fn supersede(&self) -> Option<Self> {
        (self.phase == Phase::Open).then(|| self.ended(Phase::Superseded))
    }

    /// Hands out a seed for a new factor, once for each act.
    ///
    /// # Errors
    /// [`Reason::Used`] the second time, [`Reason::OtherKind`] when no factor with one-time codes is added, and as
    /// [`Self::check_open`].
    pub fn with_seed(&self, seed: Seed, now: Now) -> Result<Self, Reason> {
        self.check_open(now)?;
        let wanted = matches!(
            &self.subject,
            Subject::Change {
                change: Change::Factor {
                    change: FactorChange::Add {
                        method: Method::PinTotp
                    }
                },
                ..
            }
        );
        match (&self.seed, wanted) {
            (_, false) => Err(Reason::OtherKind),
            (Some(_), true) => Err(Reason::Used),
            (None, true) => Ok(Self {
                seed: Some(seed),
                ..self.clone()
            }),
        }
    }

    /// An enrolment is done: `open → closed`, all in one step.
    ///
    /// # Errors
    /// As [`Self::check_open`].
    pub fn enrolled(&self, now: Now) -> Result<Self, Reason> {
        if !matches!(self.subject, Subject::Enrol { .. }) {
            return Err(Reason::OtherKind);
        }
        self.check_open(now)?;
        Ok(self.ended(Phase::Closed))
    }

    /// Binds the one token: once, and the same again gets the same answer.
    ///
    /// # Errors
    /// [`Reason`] when the act isn't approved, its time is over, or another token is bound.
    pub fn bind(&self, grant: Digest32, now: Now) -> Result<Self, Reason> {
        if !matches!(self.subject, Subject::Sign { .. }) {
            return Err(Reason::OtherKind);
        }
        self.check_right(now)?;
        match self.grant {
            Some(bound) if bound.ct_eq(&grant) => Ok(self.clone()),
            Some(_) => Err(Reason::Used),
            None => Ok(Self {
                grant: Some(grant),
                ..self.clone()
            }),
        }
    }

    /// The accepted proof of an act that may be used now.
    ///
    /// # Errors
    /// [`Reason`] saying why it may not.
    pub fn check_right(&self, now: Now) -> Result<&Approval, Reason> {
        let approval = match (self.phase, &self.approval) {
            (Phase::Approved | Phase::Closed, Some(approval)) => approval,
            (Phase::Open, _) => return Err(Reason::NotApproved),
            (Phase::Refused | Phase::Superseded, _) => return Err(Reason::Withdrawn),
            _ => return Err(Reason::Used),
        };
        if self.epoch != now.epoch {
            return Err(Reason::OtherEpoch);
        }
        check_time(now.time, approval.sign_until, self.subject.window())?;
        Ok(approval)
    }

    /// What the page may know.
    pub fn outcome(&self, now: Now) -> ActOutcome {
        match self.phase {
            Phase::Approved | Phase::Closed => ActOutcome::Approved,
            Phase::Refused => ActOutcome::Refused,
            Phase::Open if self.check_open(now).is_ok() => ActOutcome::Open,
            Phase::Open | Phase::Superseded | Phase::Dead => ActOutcome::Expired,
        }
    }

    fn ended(&self, phase: Phase) -> Self {
        Self {
            phase,
            ..self.clone()
        }
    }
}

/// Whether `now` lies before `end`, and not so far before it that the clock must have been set back.
fn check_time(now: UnixTime, end: UnixTime, life: i64) -> Result<(), Reason> {
    if now >= end {
        return Err(Reason::Expired);
    }
    if end.0 - now.0 > life + CLOCKS_DIFFER {
        return Err(Reason::NotNow);
    }
    Ok(())
}
