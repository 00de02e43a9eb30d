//! Accounts of officers: who is invited to one, whose passkey it gets, and who says that it is theirs.
//!
//! Whoever asks for an account makes the link that enrols its passkey, so they could use it themselves. Therefore a passkey that was
//! enrolled by such a link does nothing before somebody else has confirmed it, and one in the place of a passkey that counts waits.

use audit_log::Event;
use cm_api::CryptoModule;
use core_types::{Digest32, Level, OfficerId, PersonId, UnixTime, VoucherId};
use sam_core::Reason;
use sam_core::enrol::{Factor, FactorBody, Voucher, VoucherPhase};
use sam_core::office::account::{counting_of, fingerprint};
use sam_core::office::proposal::{FACTORS_OPEN, FACTORS_WAIT};
use sam_core::office::{Account, AccountPhase, Officer, Proposal};
use sap::enrol::{Invite, InvitedBy, Subject};
use sap::office::{Facts, Measure};
use store_kit::Tx;

use super::effects::{named, proposal_voucher};
use crate::failed::{Failed, readable};
use crate::rows::{self, Row};
use crate::sam::Sam;

/// For so long an invitation that waited for nothing can be used, in seconds.
const INVITATION: i64 = 24 * 3600;

/// Everything about an invitation to an account.
#[derive(Clone, Copy)]
pub(crate) struct Invitation<'a> {
    pub(crate) officer: &'a Officer,
    pub(crate) account: &'a PersonId,
    pub(crate) voucher: &'a VoucherId,
    pub(crate) secret: Digest32,
    pub(crate) exp: UnixTime,
    /// What invites: the proposal's document, the genesis record, or the reopening.
    pub(crate) source: &'a str,
    pub(crate) by: Digest32,
    /// Who asked for it and has the link; nobody where a ceremony hands the links out.
    pub(crate) asked_by: Option<&'a OfficerId>,
    /// Since when the passkey that counts is said to be lost.
    pub(crate) lost: Option<UnixTime>,
    /// The officer was made just now: nothing that an account of this name had before is theirs.
    pub(crate) is_new: bool,
}

impl<C: CryptoModule> Sam<C> {
    /// What approvers have to know of an invitation: whether the officer has a passkey that counts, by this account or another, beside
    /// or in place of which a new one comes only after the waiting time.
    pub(crate) async fn account_facts(
        &self,
        tx: &mut Tx,
        officer: &OfficerId,
        account: &PersonId,
    ) -> Result<Facts, Failed> {
        let name = self.in_office(tx, officer).await?.body.name;
        let known = rows::get::<Account>(tx, &self.sealer, account.as_str()).await;
        // One whose row is refused begins anew: its passkey proves nothing any more.
        let known = readable(known)?.flatten();
        if known.is_some_and(|row| row.body.officer != *officer) {
            return Err(Reason::Invalid("account").into());
        }
        let accounts = self.accounts_of(tx, officer).await?;
        let of = counting_of(accounts.iter().map(|row| &row.body));
        Ok(Facts {
            of,
            wait: of.map(|_| FACTORS_WAIT),
            ..named(&name)
        })
    }

    /// The accounts that say themselves that they are this officer's: the column could have been altered to hide one.
    pub(crate) async fn accounts_of(
        &self,
        tx: &mut Tx,
        officer: &OfficerId,
    ) -> Result<Vec<Row<Account>>, Failed> {
        let mut accounts = rows::all_readable::<Account>(tx, &self.sealer).await?;
        accounts.retain(|account| account.body.officer == *officer);
        Ok(accounts)
    }

    /// What approvers have to know of a passkey that is to be confirmed, once it is the one that the account has.
    pub(crate) async fn confirm_facts(
        &self,
        tx: &mut Tx,
        officer: &OfficerId,
        account: &PersonId,
        passkey: &str,
    ) -> Result<Facts, Failed> {
        let person = self.person(tx, account).await?;
        if person.officer.body.id != *officer {
            return Err(Reason::NotFound.into());
        }
        let (asked_by, of) = person.account.body.to_confirm()?;
        if self.fingerprint(tx, &person.account.body).await? != passkey {
            return Err(Reason::Invalid("passkey").into());
        }
        Ok(Facts {
            of: Some(of),
            asked_by: Some(asked_by.clone()),
            ..named(&person.officer.body.name)
        })
    }

    /// What people tell the passkey of an account by.
    pub(crate) async fn fingerprint(
        &self,
        tx: &mut Tx,
        account: &Account,
    ) -> Result<String, Failed> {
        let factors = self.office_factors(tx, account).await?;
        let [only] = factors.as_slice() else {
            return Err(Reason::NotNow.into());
        };
        match &only.body.body {
            FactorBody::Passkey(passkey) => Ok(fingerprint(passkey)?),
            _ => Err(Reason::NotNow.into()),
        }
    }

    /// Approved: the officer is invited, or is told of it in the log and on the console, and the waiting begins.
    pub(crate) async fn account_approved(
        &self,
        tx: &mut Tx,
        record: &Proposal,
        events: &mut Vec<Event>,
        at: UnixTime,
    ) -> Result<(), Failed> {
        let Measure::Account {
            officer, account, ..
        } = record.measure()
        else {
            return Err(Reason::OtherKind.into());
        };
        check_same(record, &self.account_facts(tx, officer, account).await?)?;
        if let Some(until) = record.due {
            events.push(Event::PasskeyOrdered {
                account: account.clone(),
                officer: officer.clone(),
                until,
                by: record.digest(),
            });
            return Ok(());
        }
        let row = self.in_office(tx, officer).await?;
        self.invite_by(tx, record, &row.body, None, events, at)
            .await
    }

    /// It has waited long enough: the officer is invited, unless a passkey of theirs has proved anything since it was approved.
    pub(crate) async fn account_due(
        &self,
        tx: &mut Tx,
        record: &Proposal,
        events: &mut Vec<Event>,
        at: UnixTime,
    ) -> Result<(), Failed> {
        let Measure::Account {
            officer, account, ..
        } = record.measure()
        else {
            return Err(Reason::OtherKind.into());
        };
        check_same(record, &self.account_facts(tx, officer, account).await?)?;
        let since = record.approvals.last().map_or(at, |given| given.at);
        check_lost(&self.accounts_of(tx, officer).await?, since)?;
        let row = self.in_office(tx, officer).await?;
        self.invite_by(tx, record, &row.body, Some(since), events, at)
            .await
    }

    /// Invites an officer to the account that a proposal names.
    pub(crate) async fn invite_by(
        &self,
        tx: &mut Tx,
        record: &Proposal,
        officer: &Officer,
        lost: Option<UnixTime>,
        events: &mut Vec<Event>,
        at: UnixTime,
    ) -> Result<(), Failed> {
        let (Measure::Appoint {
            account, secret, ..
        }
        | Measure::Account {
            account, secret, ..
        }) = record.measure()
        else {
            return Err(Reason::OtherKind.into());
        };
        let voucher = proposal_voucher(record.digest())?;
        // Whoever lost a passkey doesn't hear at once that the waiting is over.
        let open = lost.map_or(INVITATION, |_| FACTORS_OPEN);
        let invitation = Invitation {
            officer,
            account,
            voucher: &voucher,
            secret: *secret,
            exp: at.plus(open),
            source: &record.text,
            by: record.digest(),
            asked_by: Some(&record.requester().officer),
            lost,
            is_new: matches!(record.measure(), Measure::Appoint { .. }),
        };
        self.invite_account(tx, &invitation, events, at).await
    }

    /// Somebody who neither has the passkey nor had the link says that it is its officer's.
    pub(crate) async fn confirm_account(
        &self,
        tx: &mut Tx,
        record: &Proposal,
        events: &mut Vec<Event>,
    ) -> Result<(), Failed> {
        let Measure::Confirm {
            officer,
            account,
            passkey,
        } = record.measure()
        else {
            return Err(Reason::OtherKind.into());
        };
        let facts = self.confirm_facts(tx, officer, account, passkey).await?;
        check_same(record, &facts)?;
        let row = self.person(tx, account).await?.account;
        rows::save(tx, &self.sealer, &row, &row.body.confirmed()).await?;
        events.push(Event::AccountConfirmed {
            account: account.clone(),
            officer: officer.clone(),
            by: record.digest(),
        });
        Ok(())
    }

    /// Ends accounts, and removes their factors. What is refused of them is of no use to anybody.
    pub(crate) async fn end_accounts(
        &self,
        tx: &mut Tx,
        accounts: Vec<Row<Account>>,
        by: Digest32,
        events: &mut Vec<Event>,
        at: UnixTime,
    ) -> Result<(), Failed> {
        for account in accounts {
            let ended = Account {
                phase: AccountPhase::Ended,
                ..account.body.clone()
            };
            rows::save(tx, &self.sealer, &account, &ended).await?;
            let owner = account.body.id.as_str();
            let (factors, _) = rows::readable_by_owner::<Factor>(tx, &self.sealer, owner).await?;
            for factor in factors {
                if factor.body.removed.is_none() {
                    rows::save(tx, &self.sealer, &factor, &factor.body.removed(at)).await?;
                    events.push(Event::FactorRemoved {
                        person: account.body.id.clone(),
                        factor: factor.body.id.clone(),
                        act: by,
                    });
                }
            }
        }
        Ok(())
    }

    /// Makes an account, or invites a known one anew. Nothing is written before it is clear that it can be.
    pub(crate) async fn invite_account(
        &self,
        tx: &mut Tx,
        invitation: &Invitation<'_>,
        events: &mut Vec<Event>,
        at: UnixTime,
    ) -> Result<(), Failed> {
        let Invitation {
            officer,
            account,
            voucher,
            source,
            by,
            asked_by,
            lost,
            is_new,
            ..
        } = *invitation;
        let known = rows::get::<Account>(tx, &self.sealer, account.as_str()).await;
        let known = readable(known)?.flatten();
        if known
            .as_ref()
            .is_some_and(|row| row.body.officer != officer.id)
        {
            return Err(Reason::Invalid("account").into());
        }
        let made = Voucher {
            invite: Invite {
                voucher: voucher.clone(),
                tenant: self.config.tenant.clone(),
                person: account.clone(),
                // Nothing is certified: there is no key.
                subject: Subject {
                    common_name: officer.name.clone(),
                    country: String::new(),
                    organization: None,
                    serial_number: officer.id.to_string(),
                },
                assurance: "office".to_owned(),
                ceiling: Level::Three,
                keys: Vec::new(),
                exp: invitation.exp,
                secret: invitation.secret,
                replaces: None,
                collected: false,
                codes: None,
                notices: None,
                exportable: false,
                one_time: false,
            },
            source: source.to_owned(),
            by: InvitedBy::Office,
            service: String::new(),
            return_uri: self.office_return(),
            phase: VoucherPhase::Open,
            tries: 0,
            act: None,
            seed: None,
            enrolled: None,
            rebinds: None,
        };
        if !rows::insert(tx, &self.sealer, voucher.as_str(), &made).await? {
            return Err(Reason::Used.into());
        }
        let mut fresh = Account::invited(account.clone(), officer.id.clone(), voucher.clone(), at);
        (fresh.asked_by, fresh.lost) = (asked_by.cloned(), lost);
        match known {
            // Whoever comes back into office has nothing of what ended.
            Some(row) if is_new || row.body.phase == AccountPhase::Ended => {
                rows::save(tx, &self.sealer, &row, &fresh).await?;
            }
            Some(row) => {
                let next = Account {
                    voucher: fresh.voucher,
                    asked_by: fresh.asked_by,
                    lost: fresh.lost,
                    ..row.body.clone()
                };
                rows::save(tx, &self.sealer, &row, &next).await?;
            }
            // One whose row is refused begins anew: its earlier factors and sessions are of no use to whoever has it now.
            None => {
                if !rows::put(tx, &self.sealer, account.as_str(), &fresh, at).await? {
                    return Err(Failed::Changed);
                }
            }
        }
        events.push(Event::AccountInvited {
            account: account.clone(),
            officer: officer.id.clone(),
            voucher: voucher.clone(),
            by,
        });
        Ok(())
    }

    /// The account has factors from here on; those of an earlier invitation end.
    pub(crate) async fn enrol_account(
        &self,
        tx: &mut Tx,
        voucher: &Voucher,
        at: UnixTime,
        events: &mut Vec<Event>,
    ) -> Result<(), Failed> {
        let person = self.person(tx, &voucher.invite.person).await?;
        let (account, id) = (&person.account.body, &voucher.invite.voucher);
        let next = account.enrolled(id, at)?;
        person.officer.body.roles(at).ok_or(Reason::Withdrawn)?;
        let accounts = self.accounts_of(tx, &account.officer).await?;
        match (account.lost, &account.asked_by) {
            (Some(since), _) => check_lost(&accounts, since)?,
            // Invited when no passkey of the officer counted, by any account.
            (None, Some(_)) if counting_of(accounts.iter().map(|row| &row.body)).is_some() => {
                return Err(Reason::Withdrawn.into());
            }
            (None, _) => {}
        }
        let owner = account.id.as_str();
        let (factors, _) = rows::readable_by_owner::<Factor>(tx, &self.sealer, owner).await?;
        for row in factors {
            if row.body.voucher != *id && row.body.removed.is_none() {
                rows::save(tx, &self.sealer, &row, &row.body.removed(at)).await?;
                events.push(Event::FactorRemoved {
                    person: account.id.clone(),
                    factor: row.body.id.clone(),
                    act: voucher.act.unwrap_or(Digest32([0; 32])),
                });
            }
        }
        rows::save(tx, &self.sealer, &person.account, &next).await
    }
}

/// Whether no passkey of an officer that counts has proved anything since this time.
fn check_lost(accounts: &[Row<Account>], since: UnixTime) -> Result<(), Reason> {
    let mut counting = accounts.iter().filter(|a| a.body.counting().is_some());
    counting.try_for_each(|account| account.body.check_lost(since))
}

/// Void as soon as what it rests on isn't as it was when it was proposed.
fn check_same(record: &Proposal, now: &Facts) -> Result<(), Reason> {
    let then = &record.document.facts;
    let same = then.of == now.of && then.wait == now.wait && then.asked_by == now.asked_by;
    match same {
        true => Ok(()),
        false => Err(Reason::Withdrawn),
    }
}
