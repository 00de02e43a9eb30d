//! Officers (`sap.md` §9): how an installation begins, who is logged in, what they proposal, and what comes of it.

mod accounts;
mod alerts;
mod approve;
mod audit_search;
mod effects;
mod evidence;
mod factors;
mod genesis;
mod in_time;
mod log_in;
mod mail;
mod people;
mod proposals;

use audit_log::Event;
use cm_api::CryptoModule;
use core_types::{Digest32, Level, OfficerId, PersonId, SecretBytes, UnixTime, sha256};
use sam_core::Reason;
use sam_core::enrol::{Factor, Voucher};
use sam_core::office::{Account, Approver, Officer, Session};
use sam_core::passkey::RelyingParty;
use sap::act::Since;
use sap::office::calls::OfficeRefusal;
use sap::office::is_account;
use store_kit::{Tx, sql, transaction};

use crate::audit;
use crate::failed::{Failed, readable};
use crate::rows::{self, Row};
use crate::sam::Sam;

pub(crate) use alerts::AlertsTold;
pub use genesis::FoundError;
pub(crate) use proposals::check_deed;

/// By which listener somebody came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// The signers' gateway.
    Signers,
    /// The officers' gateway.
    Office,
}

impl Door {
    /// Vouchers for an office are enrolled at the officers' origin, all others at the signers': a privileged account has no
    /// place where signers act, and the reverse (`I-7.1.1.5`).
    pub(crate) fn check(self, voucher: &Voucher) -> Result<(), Reason> {
        let office = is_account(&voucher.invite.person);
        match office == (self == Self::Office) {
            true => Ok(()),
            false => Err(Reason::NotFound),
        }
    }
}

/// Somebody who is logged in.
pub(crate) struct Present {
    pub(crate) session: Row<Session>,
    pub(crate) person: Person,
}

/// A person with the account they use.
pub(crate) struct Person {
    pub(crate) officer: Row<Officer>,
    pub(crate) account: Row<Account>,
}

impl Person {
    pub(crate) fn as_approver(&self) -> Approver<'_> {
        Approver {
            officer: &self.officer.body,
            account: &self.account.body,
        }
    }

    pub(crate) fn since(&self) -> Since {
        Since {
            act: self.account.body.last_act,
            factors: self.account.body.factors_changed,
            keys: None,
        }
    }
}

/// What a call was about, for the record of its refusal.
#[derive(Default)]
pub(crate) struct About {
    pub(crate) account: Option<PersonId>,
    pub(crate) digest: Option<Digest32>,
}

impl<C: CryptoModule> Sam<C> {
    /// Records that a call of an officer was refused; answers what the page may know.
    pub(crate) async fn refused_office(
        &self,
        call: &'static str,
        about: About,
        failed: &Failed,
    ) -> OfficeRefusal {
        let reason = self.explain(failed).await;
        self.record(Event::OfficeRefused {
            call: call.into(),
            account: about.account,
            about: about.digest,
            reason: audit::reason(&reason),
        })
        .await;
        reason.to_office()
    }

    /// Who is logged in with this token. Notes the call.
    pub(crate) async fn present(
        &self,
        token: &SecretBytes,
        about: &mut About,
    ) -> Result<Present, Failed> {
        let id = session_id(token).to_string();
        let present = transaction!(self.store, "office-session", |tx| {
            let now = self.now(tx).await?;
            let row = rows::get::<Session>(tx, &self.sealer, &id).await?;
            let mut session = row.ok_or(Reason::NotFound)?;
            session.body.check(self.config.office.limits, now.time)?;
            let person = self.person(tx, &session.body.account).await?;
            if person.officer.body.id != session.body.officer {
                return Err(Reason::NotFound.into());
            }
            // Whoever lost the office while logged in is out at once, on every node; and for good, whoever has the account now.
            person.account.body.usable()?;
            let changed = person.account.body.factors_changed;
            if changed.is_some_and(|at| session.body.began < at) {
                return Err(Reason::NotFound.into());
            }
            person
                .officer
                .body
                .roles(now.time)
                .ok_or(Reason::NotFound)?;
            if let Some(next) = session.body.called(now.time) {
                rows::save(tx, &self.sealer, &session, &next).await?;
                self.rows_changed(tx, "session-called").await?;
                session.version += 1;
                session.body = next;
            }
            Ok::<_, Failed>(Present { session, person })
        })?;
        about.account = Some(present.person.account.body.id.clone());
        Ok(present)
    }

    /// An account and whose it is, as they are in this transaction.
    pub(crate) async fn person(&self, tx: &mut Tx, account: &PersonId) -> Result<Person, Failed> {
        let account = rows::get::<Account>(tx, &self.sealer, account.as_str()).await?;
        let account = account.ok_or(Reason::NotFound)?;
        let officer = self.officer(tx, &account.body.officer).await?;
        Ok(Person {
            officer: officer.ok_or(Reason::NotFound)?,
            account,
        })
    }

    pub(crate) async fn officer(
        &self,
        tx: &mut Tx,
        id: &OfficerId,
    ) -> Result<Option<Row<Officer>>, Failed> {
        rows::get::<Officer>(tx, &self.sealer, id.as_str()).await
    }

    /// The living factors with which an account proves; one whose row is refused is none of them.
    pub(crate) async fn office_factors(
        &self,
        tx: &mut Tx,
        account: &Account,
    ) -> Result<Vec<Row<Factor>>, Failed> {
        let registration = account.usable()?;
        let owner = account.id.as_str();
        let (mut factors, _) = rows::readable_by_owner::<Factor>(tx, &self.sealer, owner).await?;
        factors.retain(|f| f.body.voucher == *registration && f.body.removed.is_none());
        Ok(factors)
    }

    /// The level at which a proof of an officer has to count: that of the service, and two in any case.
    pub(crate) fn office_level(&self) -> Level {
        self.service.ceiling.max(Level::Two)
    }

    /// Persons who could approve as security officers now: in office, with an account that has a passkey that counts and proves at the
    /// office's level, by what is known of its model today. Whose row is refused can't, and doesn't stand in the way of the others, nor
    /// of opening again.
    pub(crate) async fn usable_officers(
        &self,
        tx: &mut Tx,
        now: UnixTime,
    ) -> Result<Vec<OfficerId>, Failed> {
        let mut usable = Vec::new();
        let attesters = self.attesters();
        let (rules, level) = (self.rules(&attesters), self.office_level());
        for id in rows::ids::<Officer>(tx).await? {
            let officer = readable(rows::get::<Officer>(tx, &self.sealer, &id).await)?.flatten();
            let Some(officer) = officer.filter(|o| o.body.is_security_officer(now)) else {
                continue;
            };
            let (accounts, _) = rows::readable_by_owner::<Account>(tx, &self.sealer, &id).await?;
            for account in accounts.iter().filter(|a| a.body.counting().is_some()) {
                let factors = self.office_factors(tx, &account.body).await?;
                if factors.iter().any(|f| rules.check(level, &f.body).is_ok()) {
                    usable.push(officer.body.id.clone());
                    break;
                }
            }
        }
        Ok(usable)
    }

    /// Makes an officer whom no row that can be read names, in the place of one that is refused, if there is any. `false` if this
    /// human is an officer by another name, by the sealed copy of any row or by the column of one that is refused. Accounts of an earlier officer of this name end: that may have been another human.
    pub(crate) async fn make_officer(
        &self,
        tx: &mut Tx,
        officer: &Officer,
        events: &mut Vec<Event>,
        at: UnixTime,
    ) -> Result<bool, Failed> {
        let select = sql("SELECT id FROM office_person WHERE link = $1 AND id <> $2");
        let identity = officer.identity.to_string();
        let other = select.bind(identity).bind(officer.id.as_str());
        if tx.fetch_optional(other).await?.is_some() {
            return Ok(false);
        }
        // The column isn't sealed: whoever writes to the store could have changed it, so that the same human is appointed twice.
        let known = rows::all_readable::<Officer>(tx, &self.sealer).await?;
        let same =
            |row: &Row<Officer>| row.body.identity == officer.identity && row.body.id != officer.id;
        if known.iter().any(same) {
            return Ok(false);
        }
        // By what each row says itself: whoever spoiled the officer's may have hidden theirs behind another owner.
        let accounts = self.accounts_of(tx, &officer.id).await?;
        self.end_accounts(tx, accounts, officer.by, events, at)
            .await?;
        rows::put(tx, &self.sealer, officer.id.as_str(), officer, at).await
    }

    /// Where the factors of a voucher's person are made and used.
    pub(crate) fn place(&self, voucher: &Voucher) -> &RelyingParty {
        match is_account(&voucher.invite.person) {
            true => &self.config.office.relying_party,
            false => &self.config.relying_party,
        }
    }

    pub(crate) fn office_return(&self) -> String {
        format!("{}/o", self.config.office.relying_party.origin)
    }
}

/// A session's name in the store: its token is kept as a digest only.
pub(crate) fn session_id(token: &SecretBytes) -> Digest32 {
    sha256(&[b"natsuin-office-session-v1\n", token.expose()])
}
