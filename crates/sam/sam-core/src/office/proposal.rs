//! Proposals: who may ask, who may approve, and how many persons it takes.

mod words;

use std::collections::BTreeMap;

use core_types::{Digest32, OfficerId, PersonId, UnixTime, sha256};
use jose::ForeignKey;
use sap::office::{Document, KeyAction, Measure, Requester, Role};
use serde::{Deserialize, Serialize};

use super::account::{Account, check_fingerprint};
use super::people::{Officer, check_account, check_office, check_words};
use crate::Reason;

pub use words::words;

/// Longest time for which a proposal can be approved, in seconds.
pub const MAX_PROPOSAL: i64 = 7 * 24 * 3600;
/// Time between the approval of new factors, for a signer or in the place of an officer's passkey, and their effect, in seconds
/// (`sap.md` §9).
pub const FACTORS_WAIT: i64 = 72 * 3600;
/// For so long after the waiting time they can be enrolled, in seconds.
pub const FACTORS_OPEN: i64 = 7 * 24 * 3600;
/// For so long an approved proposal can be taken by whoever carries it out, in seconds.
pub const TAKE_WITHIN: i64 = 24 * 3600;
/// Most proposals of one officer that wait for approvals: whoever floods the list hides nothing, and doesn't fill it.
pub const MOST_OPEN: usize = 20;
/// Most keys of an application.
const MAX_KEYS: usize = 8;

/// What a proposal takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Takes {
    /// Who may ask.
    pub ask: &'static [Role],
    /// Who may approve.
    pub approve: &'static [Role],
    /// How many persons have to approve; who asks is none of them.
    pub persons: u8,
    /// Somebody else carries it out, with the evidence of the approvals.
    pub taken: bool,
}

/// Every privileged role.
pub const ANY: &[Role] = &Role::ALL;
const OFFICERS: &[Role] = &[Role::SecurityOfficer];
const MANAGERS: &[Role] = &[Role::SecurityOfficer, Role::SystemAdministrator];
const RUNNERS: &[Role] = &[
    Role::SecurityOfficer,
    Role::SystemAdministrator,
    Role::SystemOperator,
];

/// What this proposal takes. Auditors neither ask nor approve: they judge it afterwards.
pub fn takes(proposal: &Measure) -> Takes {
    let two = |ask| Takes {
        ask,
        approve: OFFICERS,
        persons: 2,
        taken: false,
    };
    match proposal {
        Measure::Appoint { .. }
        | Measure::Account { .. }
        | Measure::Office { .. }
        | Measure::Dismiss { .. }
        | Measure::Client { .. }
        | Measure::ForgetClient { .. }
        | Measure::Settings { .. } => two(MANAGERS),
        // Whoever enrolled a passkey by a link asks, whatever the role; one officer has heard from them which it is.
        Measure::Confirm { .. } => Takes {
            persons: 1,
            ..two(ANY)
        },
        // Stopping is easy and can be undone: who asks, and one officer.
        Measure::Key {
            action: KeyAction::Suspend,
            ..
        } => Takes {
            persons: 1,
            ..two(RUNNERS)
        },
        Measure::Key { .. }
        | Measure::Module { .. }
        | Measure::EndKeys { .. }
        | Measure::Factors { .. } => two(RUNNERS),
        Measure::DeleteArchived { .. } => Takes {
            taken: true,
            ..two(RUNNERS)
        },
        Measure::ForgetPerson { .. } => Takes {
            taken: true,
            ..two(MANAGERS)
        },
    }
}

/// Checks the members of a proposal.
///
/// # Errors
/// [`Reason::Invalid`] naming the member, [`Reason::NotAllowed`] naming the requirement that excludes it.
pub fn check_measure(proposal: &Measure, now: UnixTime) -> Result<(), Reason> {
    match proposal {
        Measure::Appoint {
            name,
            office,
            account,
            ..
        } => {
            check_words(name, "name")?;
            check_account(account)?;
            check_office(office, now).map(drop)
        }
        Measure::Account { account, .. } => check_account(account),
        Measure::Confirm {
            account, passkey, ..
        } => {
            check_account(account)?;
            check_fingerprint(passkey)
        }
        Measure::Office { office, .. } => check_office(office, now).map(drop),
        Measure::Client { name, keys, .. } => {
            check_words(name, "name")?;
            let good = |key| ForeignKey::parse(key).is_ok();
            if keys.len() > MAX_KEYS || !keys.iter().all(good) {
                return Err(Reason::Invalid("keys"));
            }
            Ok(())
        }
        Measure::Dismiss { .. }
        | Measure::Key { .. }
        | Measure::Factors { .. }
        | Measure::ForgetClient { .. }
        | Measure::Settings { .. }
        | Measure::Module { .. }
        | Measure::ForgetPerson { .. }
        | Measure::EndKeys { .. } => Ok(()),
        // Whole tiles of the log, so that its tree stays as it is.
        Measure::DeleteArchived { size, .. } => match *size > 0 && size.is_multiple_of(256) {
            true => Ok(()),
            false => Err(Reason::Invalid("size")),
        },
    }
}

/// Somebody who acts: a person by one of their accounts.
#[derive(Debug, Clone, Copy)]
pub struct Approver<'a> {
    /// Person.
    pub officer: &'a Officer,
    /// Account.
    pub account: &'a Account,
}

impl Approver<'_> {
    /// Whether the person holds one of these roles now, the account is theirs and can be used, and its passkey is known to be theirs.
    ///
    /// # Errors
    /// [`Reason::NotFound`] or [`Reason::NotAllowed`].
    pub fn check_role(&self, roles: &[Role], now: UnixTime) -> Result<(), Reason> {
        self.account.check_confirmed()?;
        self.check_held(roles, now)
    }

    /// The same of an account whose passkey nobody may have confirmed yet: for logging in and for asking for that.
    ///
    /// # Errors
    /// [`Reason::NotFound`] or [`Reason::NotAllowed`].
    pub fn check_held(&self, roles: &[Role], now: UnixTime) -> Result<(), Reason> {
        self.account.usable()?;
        if self.account.officer != self.officer.id {
            return Err(Reason::NotFound);
        }
        let held = self.officer.roles(now).ok_or(Reason::NotFound)?;
        match roles.iter().any(|role| held.has(*role)) {
            true => Ok(()),
            false => Err(Reason::NotAllowed("role")),
        }
    }

    /// Whether they may ask for this.
    ///
    /// # Errors
    /// As [`Self::check_role`]; [`Reason::NotAllowed`] for something about themselves, or about another's passkey.
    pub fn check_ask(&self, proposal: &Measure, now: UnixTime) -> Result<(), Reason> {
        let ask = takes(proposal).ask;
        if let Measure::Confirm {
            officer, account, ..
        } = proposal
        {
            self.check_held(ask, now)?;
            let own = *officer == self.officer.id && *account == self.account.id;
            return match own {
                true => Ok(()),
                false => Err(Reason::NotAllowed("not-own-account")),
            };
        }
        self.check_role(ask, now)?;
        self.check_not_subject(proposal)
    }

    fn check_not_subject(&self, proposal: &Measure) -> Result<(), Reason> {
        let same_human = matches!(proposal, Measure::Appoint { identity, .. } if *identity == self.officer.identity);
        match proposal.subject() == Some(&self.officer.id) || same_human {
            true => Err(Reason::NotAllowed("about-oneself")),
            false => Ok(()),
        }
    }
}

/// Where a proposal stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Waits for approvals.
    Open,
    /// Approved; its time hasn't come.
    Waiting,
    /// Approved; somebody has to take it.
    Approved,
    /// Done.
    Done,
    /// Somebody said no, or it is void.
    Ended,
    /// Its time ran out.
    Expired,
}

impl Phase {
    /// Name for the index column.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Waiting => "waiting",
            Self::Approved => "approved",
            Self::Done => "done",
            Self::Ended => "ended",
            Self::Expired => "expired",
        }
    }
}

/// An approval that was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Given {
    /// Person.
    pub officer: OfficerId,
    /// Name.
    pub name: String,
    /// Account.
    pub account: PersonId,
    /// Digest of the act.
    pub act: Digest32,
    /// Digest of the evidence.
    pub evidence: Digest32,
    /// When.
    pub at: UnixTime,
    /// The officer's own signature for the module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch: Option<String>,
}

/// A proposal as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proposal {
    /// Where it stands.
    pub phase: Phase,
    /// The exact bytes that are approved: the JSON of a [`Document`].
    pub text: String,
    /// What they say.
    pub document: Document,
    /// Who has approved.
    pub approvals: Vec<Given>,
    /// The act minted last for each account.
    pub acts: BTreeMap<PersonId, Digest32>,
    /// When it takes effect, or until when it can be taken.
    pub due: Option<UnixTime>,
    /// Who ended it.
    pub ended_by: Option<OfficerId>,
}

impl Proposal {
    /// A new proposal: fixes its bytes.
    ///
    /// # Errors
    /// [`Reason::NotNow`] when they can't be written.
    pub fn new(document: Document) -> Result<Self, Reason> {
        let text = serde_json::to_string(&document).map_err(|_| Reason::NotNow)?;
        Ok(Self {
            phase: Phase::Open,
            text,
            document,
            approvals: Vec::new(),
            acts: BTreeMap::new(),
            due: None,
            ended_by: None,
        })
    }

    /// Its name: SHA-256 of the exact bytes.
    pub fn digest(&self) -> Digest32 {
        sha256(&[self.text.as_bytes()])
    }

    /// What is proposed.
    pub fn measure(&self) -> &Measure {
        &self.document.measure
    }

    /// Who asked.
    pub fn requester(&self) -> &Requester {
        &self.document.requester
    }

    /// Whether it waits for approvals.
    ///
    /// # Errors
    /// [`Reason`] saying why not.
    pub fn check_open(&self, now: UnixTime) -> Result<(), Reason> {
        match self.phase {
            Phase::Open if now < self.document.exp => Ok(()),
            Phase::Open | Phase::Expired => Err(Reason::Expired),
            Phase::Waiting | Phase::Approved | Phase::Done => Err(Reason::Used),
            Phase::Ended => Err(Reason::Withdrawn),
        }
    }

    /// Whether this person may approve it now (`III-A1.4.2-dual-control`, T-INS-OPERATOR): in the right role, not the one who
    /// asked, not the one it is about, not the one who asked for the account it is about, and not for a second time, whichever account
    /// they use.
    ///
    /// # Errors
    /// [`Reason`] saying why not.
    pub fn check_approver(&self, who: Approver<'_>, now: UnixTime) -> Result<(), Reason> {
        self.check_open(now)?;
        who.check_role(takes(self.measure()).approve, now)?;
        if who.officer.id == self.requester().officer {
            return Err(Reason::NotAllowed("requester-approves"));
        }
        who.check_not_subject(self.measure())?;
        // They have had the link that enrolled it.
        if self.document.facts.asked_by.as_ref() == Some(&who.officer.id) {
            return Err(Reason::NotAllowed("asked-for-account"));
        }
        if self.approvals.iter().any(|g| g.officer == who.officer.id) {
            return Err(Reason::NotAllowed("approved-before"));
        }
        Ok(())
    }

    /// With one more approval, of a person whom [`Self::check_approver`] admits. `others`: whether each of those who approved
    /// before still may; what somebody approved who was removed since doesn't count.
    ///
    /// # Errors
    /// As [`Self::check_approver`].
    pub fn approved(
        &self,
        who: Approver<'_>,
        given: Given,
        others: impl Fn(&OfficerId) -> bool,
        now: UnixTime,
    ) -> Result<Self, Reason> {
        self.check_approver(who, now)?;
        let mut next = self.clone();
        next.approvals.retain(|g| others(&g.officer));
        next.approvals.push(given);
        let takes = takes(self.measure());
        if next.approvals.len() < usize::from(takes.persons) {
            return Ok(next);
        }
        (next.phase, next.due) = match (takes.taken, self.document.facts.wait) {
            (true, _) => (Phase::Approved, Some(now.plus(TAKE_WITHIN))),
            (false, None) => (Phase::Done, None),
            (false, Some(wait)) => (Phase::Waiting, Some(now.plus(wait))),
        };
        Ok(next)
    }

    /// Somebody ends it: who asked, or who could approve it. Also while it waits for its time.
    ///
    /// # Errors
    /// [`Reason`] saying why not.
    pub fn ended(&self, who: Approver<'_>, now: UnixTime) -> Result<Self, Reason> {
        if self.phase != Phase::Waiting {
            self.check_open(now)?;
        }
        if who.officer.id == self.requester().officer {
            who.account.usable()?;
            // Whoever isn't confirmed asks for nothing else.
            if !matches!(self.measure(), Measure::Confirm { .. }) {
                who.account.check_confirmed()?;
            }
        } else {
            who.check_role(takes(self.measure()).approve, now)?;
        }
        Ok(self.void(Some(who.officer.id.clone())))
    }

    /// It is void.
    #[must_use]
    pub fn void(&self, by: Option<OfficerId>) -> Self {
        Self {
            phase: Phase::Ended,
            ended_by: by,
            ..self.clone()
        }
    }

    /// What becomes of it if nobody approved or took it in its time.
    pub fn overdue(&self, now: UnixTime) -> Option<Self> {
        let over = match self.phase {
            Phase::Open => now >= self.document.exp,
            Phase::Approved => self.due.is_none_or(|due| now >= due),
            Phase::Waiting | Phase::Done | Phase::Ended | Phase::Expired => false,
        };
        over.then(|| Self {
            phase: Phase::Expired,
            ..self.clone()
        })
    }

    /// Who asked for it takes it, once.
    ///
    /// # Errors
    /// [`Reason`] saying why not.
    pub fn taken(&self, who: Approver<'_>, now: UnixTime) -> Result<Self, Reason> {
        if self.phase != Phase::Approved {
            return Err(match self.phase {
                Phase::Done => Reason::Used,
                Phase::Ended => Reason::Withdrawn,
                Phase::Expired => Reason::Expired,
                Phase::Open | Phase::Waiting | Phase::Approved => Reason::NotApproved,
            });
        }
        if self.due.is_none_or(|due| now >= due) {
            return Err(Reason::Expired);
        }
        who.check_role(takes(self.measure()).ask, now)?;
        if who.officer.id != self.requester().officer {
            return Err(Reason::NotAllowed("not-requester"));
        }
        Ok(Self {
            phase: Phase::Done,
            ..self.clone()
        })
    }
}

/// Whether an officer with so many proposals that wait for approvals may make another one.
///
/// # Errors
/// [`Reason::NotAllowed`].
pub fn check_room(open: usize) -> Result<(), Reason> {
    match open < MOST_OPEN {
        true => Ok(()),
        false => Err(Reason::NotAllowed("too-many-open")),
    }
}

/// Checks the words and times with which a proposal is made.
///
/// # Errors
/// [`Reason::Invalid`] naming the member.
pub fn check_asking(reason: &str, ttl: i64) -> Result<(), Reason> {
    check_words(reason, "reason")?;
    if (60..=MAX_PROPOSAL).contains(&ttl) {
        Ok(())
    } else {
        Err(Reason::Invalid("ttl"))
    }
}

#[cfg(test)]
mod tests;
