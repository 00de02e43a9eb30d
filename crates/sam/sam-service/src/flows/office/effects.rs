//! What an approved proposal does, in the transaction of its last approval.

use audit_log::{AuditLog, Event};
use cm_api::CryptoModule;
use cm_api::rpc::{Empty, Status, SwitchModule, SwitchRequest};
use cm_api::switch::{MAX_SWITCH_LIFE, Switch, TYP_SWITCH};
use core_types::{Digest32, KeyId, TenantId, UnixTime, VoucherId};
use sam_api::ssa::{Happened, HistoryEntry, KeyState};
use sam_core::Reason;
use sam_core::office::people::check_enough;
use sam_core::office::{Account, Officer, Proposal};
use sam_core::state::Now;
use sap::office::{Facts, KeyAction, Measure, Office, Role};
use store_kit::Tx;

use crate::failed::{Failed, readable};
use crate::flows::change::{key_event, key_note};
use crate::records::KeyRecord;
use crate::rows::{self, Row};
use crate::sam::Sam;

impl<C: CryptoModule> Sam<C> {
    /// What the SAM knows of what is proposed, and until when it can be approved; refuses early what couldn't be done.
    pub(crate) async fn facts(
        &self,
        proposal: &Measure,
        reason: &str,
        exp: UnixTime,
    ) -> Result<(Facts, UnixTime), Failed> {
        let now = self.clock.now();
        if let Measure::Module { enabled } = proposal {
            return self.switch_facts(*enabled, reason, exp, now).await;
        }
        let mut tx = self.store.read("proposal-facts").await?;
        let facts = match proposal {
            Measure::Appoint { officer, name, .. } => {
                let known = readable(self.officer(&mut tx, officer).await)?.flatten();
                if known.is_some() {
                    return Err(Reason::Invalid("officer").into());
                }
                named(name)
            }
            Measure::Account {
                officer, account, ..
            } => self.account_facts(&mut tx, officer, account).await?,
            Measure::Confirm {
                officer,
                account,
                passkey,
            } => {
                self.confirm_facts(&mut tx, officer, account, passkey)
                    .await?
            }
            Measure::Office { officer, .. } | Measure::Dismiss { officer } => {
                named(&self.in_office(&mut tx, officer).await?.body.name)
            }
            Measure::Key { key, action } => {
                let of = self.of_key(&mut tx, key).await?;
                let row = of.signing_key(&mut tx, key).await?;
                by_provider(&row.body, *action, None, now)?;
                Facts {
                    person: Some(row.body.owner.clone()),
                    name: Some(row.body.record.subject.common_name.clone()),
                    subject: Some(row.body.subject_text.clone()),
                    assurance: Some(of.assurance(&row.body)),
                    changes: Some(row.body.life.changes),
                    tenant: self.other_than(&of),
                    ..Facts::default()
                }
            }
            Measure::Factors {
                person,
                registration,
                ..
            } => {
                let of = self.of_registration(&mut tx, registration).await?;
                Facts {
                    tenant: self.other_than(&of),
                    ..of.factor_facts(&mut tx, person, registration).await?
                }
            }
            Measure::EndKeys { tenant, .. } => self.end_facts(&mut tx, tenant.as_ref()).await?,
            Measure::DeleteArchived { .. } | Measure::ForgetPerson { .. } => Facts::default(),
            // These stand in the signed configuration.
            Measure::Client { .. }
            | Measure::ForgetClient { .. }
            | Measure::Settings { .. }
            | Measure::Module { .. } => return Err(Reason::OtherKind.into()),
        };
        Ok((facts, exp))
    }

    /// The bytes that officers sign for the module, with its next serial.
    async fn switch_facts(
        &self,
        enabled: bool,
        reason: &str,
        exp: UnixTime,
        now: UnixTime,
    ) -> Result<(Facts, UnixTime), Failed> {
        let health = self.module.call::<Status>(&Empty {}).await;
        let health = health.map_err(|_| Reason::NotNow)?;
        // A minute for the way to the module.
        let exp = exp.min(now.plus(MAX_SWITCH_LIFE - 60));
        let switch = Switch {
            recover: false,
            error: None,
            sam: self.config.sam.clone(),
            root: self.root.kid(),
            enabled,
            reason: reason.to_owned(),
            serial: health.switched.checked_add(1).ok_or(Reason::NotNow)?,
            exp,
        };
        let text = serde_json::to_string(&switch).map_err(|_| Reason::NotNow)?;
        let facts = Facts {
            switch: Some(text),
            ..Facts::default()
        };
        Ok((facts, exp))
    }

    /// Brings a proposal about. Nothing of it stands if any of it fails. What happens to a tenant's goes to `theirs`, to be
    /// recorded within that tenant.
    pub(crate) async fn carry_out(
        &self,
        tx: &mut Tx,
        record: &Proposal,
        digest: Digest32,
        events: &mut Vec<Event>,
        theirs: &mut Vec<(AuditLog, Vec<Event>)>,
        now: Now,
    ) -> Result<(), Failed> {
        let at = now.time;
        match record.measure() {
            Measure::Appoint {
                officer,
                name,
                identity,
                office,
                ..
            } => {
                let fresh = Officer {
                    id: officer.clone(),
                    name: name.clone(),
                    identity: *identity,
                    office: office.clone(),
                    named_by: named_by(record),
                    by: digest,
                    since: at,
                    ended: None,
                };
                let known = readable(self.officer(tx, officer).await)?.flatten();
                if known.is_some() || !self.make_officer(tx, &fresh, events, at).await? {
                    return Err(Reason::Invalid("officer").into());
                }
                events.push(Event::OfficerAppointed {
                    officer: officer.clone(),
                    roles: fresh.word().into(),
                    until: office.until,
                    by: digest,
                });
                self.invite_by(tx, record, &fresh, None, events, at).await
            }
            Measure::Account { .. } => self.account_approved(tx, record, events, at).await,
            Measure::Confirm { .. } => self.confirm_account(tx, record, events).await,
            Measure::Office { officer, office } => {
                let row = self.in_office(tx, officer).await?;
                self.change_office(tx, &row, office, record, digest, events, at)
                    .await
            }
            Measure::Dismiss { officer } => self.dismiss(tx, officer, digest, events, at).await,
            Measure::Key { key, action } => {
                let of = self.of_key(tx, key).await?;
                let by = (record, digest, at);
                let event = of.key_by_provider(tx, key, *action, by).await?;
                match self.other_than(&of) {
                    Some(_) => theirs.push((of.audit.clone(), vec![event])),
                    None => events.push(event),
                }
                Ok(())
            }
            Measure::EndKeys { tenant, cause } => {
                let what = (tenant.as_ref(), *cause);
                self.end_all(tx, what, digest, theirs, at).await
            }
            // Done after the commit, or by others with the evidence.
            Measure::Module { .. }
            | Measure::DeleteArchived { .. }
            | Measure::ForgetPerson { .. } => Ok(()),
            Measure::Client { .. } | Measure::ForgetClient { .. } | Measure::Settings { .. } => {
                Err(Reason::OtherKind.into())
            }
            Measure::Factors { registration, .. } => {
                let of = self.of_registration(tx, registration).await?;
                of.announce_factors(tx, record, digest, at).await
            }
        }
    }

    /// What follows the commit of the last approval: the module is told.
    pub(crate) async fn after_approval(&self, record: &Proposal) -> Result<(), Failed> {
        if !matches!(record.measure(), Measure::Module { .. }) {
            return Ok(());
        }
        let approvals = record.approvals.iter();
        let request = SwitchRequest {
            approvals: approvals.filter_map(|g| g.switch.clone()).collect(),
        };
        match self.module.call::<SwitchModule>(&request).await {
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::error!(%error, "the module didn't heed its officers; they can bring their approvals to it themselves");
                self.record(Event::Alarm {
                    what: "module-not-switched".into(),
                })
                .await;
                Err(Reason::NotNow.into())
            }
        }
    }

    /// An officer who hasn't been removed.
    pub(super) async fn in_office(
        &self,
        tx: &mut Tx,
        id: &core_types::OfficerId,
    ) -> Result<Row<Officer>, Failed> {
        let row = self.officer(tx, id).await?;
        Ok(row
            .filter(|o| o.body.ended.is_none())
            .ok_or(Reason::NotFound)?)
    }

    pub(super) async fn signing_key(
        &self,
        tx: &mut Tx,
        key: &KeyId,
    ) -> Result<Row<KeyRecord>, Failed> {
        let row = rows::get::<KeyRecord>(tx, &self.sealer, key.as_str()).await?;
        Ok(row.ok_or(Reason::NotFound)?)
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one effect")]
    async fn change_office(
        &self,
        tx: &mut Tx,
        row: &Row<Officer>,
        office: &Office,
        record: &Proposal,
        digest: Digest32,
        events: &mut Vec<Event>,
        at: UnixTime,
    ) -> Result<(), Failed> {
        let next = Officer {
            office: office.clone(),
            named_by: named_by(record),
            by: digest,
            ..row.body.clone()
        };
        rows::save(tx, &self.sealer, row, &next).await?;
        events.push(Event::OfficerChanged {
            officer: next.id.clone(),
            roles: next.word().into(),
            until: office.until,
            by: digest,
        });
        self.check_left(tx, &row.body, at).await
    }

    async fn dismiss(
        &self,
        tx: &mut Tx,
        id: &core_types::OfficerId,
        digest: Digest32,
        events: &mut Vec<Event>,
        at: UnixTime,
    ) -> Result<(), Failed> {
        let row = self.in_office(tx, id).await?;
        let gone = Officer {
            ended: Some(at),
            by: digest,
            ..row.body.clone()
        };
        rows::save(tx, &self.sealer, &row, &gone).await?;
        events.push(Event::OfficerDismissed {
            officer: id.clone(),
            by: digest,
        });
        // What is refused is of no use to anybody, and without an officer it stays so.
        let (accounts, _) =
            rows::readable_by_owner::<Account>(tx, &self.sealer, id.as_str()).await?;
        self.end_accounts(tx, accounts, digest, events, at).await?;
        self.check_left(tx, &row.body, at).await
    }

    /// No proposal leaves an installation without the officers that it needs.
    async fn check_left(&self, tx: &mut Tx, was: &Officer, at: UnixTime) -> Result<(), Failed> {
        if was.office.roles.contains(&Role::SecurityOfficer) {
            check_enough(self.usable_officers(tx, at).await?.len())?;
        }
        Ok(())
    }

    /// What is done to a key of this tenant, and the event to be recorded.
    async fn key_by_provider(
        &self,
        tx: &mut Tx,
        key: &KeyId,
        action: KeyAction,
        (record, digest, at): (&Proposal, Digest32, UnixTime),
    ) -> Result<Event, Failed> {
        let row = self.signing_key(tx, key).await?;
        if record.document.facts.changes != Some(row.body.life.changes) {
            return Err(Reason::Withdrawn.into());
        }
        let next = by_provider(&row.body, action, Some(digest), at)?;
        rows::save(tx, &self.sealer, &row, &next).await?;
        let what = match action {
            // What others stopped before stays stopped.
            KeyAction::Resume if next.life.state == KeyState::Active => Happened::Resumed,
            KeyAction::Suspend | KeyAction::Resume => Happened::Suspended,
            KeyAction::Destroy => Happened::Destroyed,
        };
        let note = HistoryEntry {
            proposal: Some(digest),
            ..key_note(&next, what, at)
        };
        self.note(tx, &next.owner, vec![note]).await?;
        Ok(key_event(&next, digest))
    }

    /// The tenant in whose hands that one is, if it isn't this one's.
    fn other_than(&self, of: &Self) -> Option<TenantId> {
        let tenant = &of.config.tenant;
        (*tenant != self.config.tenant).then(|| tenant.clone())
    }
}

/// The key after what the provider does.
fn by_provider(
    key: &KeyRecord,
    action: KeyAction,
    by: Option<Digest32>,
    at: UnixTime,
) -> Result<KeyRecord, Reason> {
    use sam_api::ssa::StopCause::Provider;
    let life = match action {
        KeyAction::Suspend => key.life.stopped_by_provider(by, at)?,
        KeyAction::Resume => key.life.resumed_by_provider()?,
        KeyAction::Destroy => key.life.destroyed(Provider, by, at)?,
    };
    Ok(key.with_life(life))
}

pub(super) fn named(name: &str) -> Facts {
    Facts {
        name: Some(name.to_owned()),
        ..Facts::default()
    }
}

fn named_by(record: &Proposal) -> Vec<core_types::OfficerId> {
    record.approvals.iter().map(|g| g.officer.clone()).collect()
}

/// The voucher of a proposal is named like it, so that whoever made the secret knows it.
pub(crate) fn proposal_voucher(proposal: Digest32) -> Result<VoucherId, Reason> {
    VoucherId::parse(proposal.to_string()).map_err(|_| Reason::NotNow)
}

/// The officer's own signature for the module, over exactly the bytes of the proposal. Whether it is good is the module's to
/// say: it knows the officers' keys, and believes nobody else about them.
pub(crate) fn check_switch(
    proposal: &Measure,
    facts: &Facts,
    switch: Option<&str>,
) -> Result<Option<String>, Reason> {
    match (proposal, switch) {
        (Measure::Module { .. }, Some(jws)) => {
            jose::kid_of(jws, TYP_SWITCH).map_err(|_| Reason::Malformed)?;
            let payload = jws.split('.').nth(1).ok_or(Reason::Malformed)?;
            let payload = core_types::bytes::from_b64u(payload).map_err(|_| Reason::Malformed)?;
            match facts.switch.as_ref().map(String::as_bytes) == Some(payload.as_slice()) {
                true => Ok(Some(jws.to_owned())),
                false => Err(Reason::Mismatch),
            }
        }
        (Measure::Module { .. }, None) => Err(Reason::Invalid("switch")),
        (_, Some(_)) => Err(Reason::Malformed),
        (_, None) => Ok(None),
    }
}
