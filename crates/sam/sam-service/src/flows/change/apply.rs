//! What the proof over an act about a registration does (`sap.md` §9): the effect, its events, and its notes.

use audit_log::Event;
use cm_api::CryptoModule;
use core_types::{Digest32, FactorId, PersonId, UnixTime, VoucherId};
use sam_api::ssa::{Happened, HistoryEntry, KeyState, StopCause};
use sam_core::change::{Change, check_add, check_remove, unlock};
use sam_core::enrol::{Factor, Voucher};
use sam_core::life::{Life, cause_code};
use sam_core::{ActState, Reason, import};
use sap::FactorChange;
use store_kit::Tx;

use super::{Registration, is_living};
use crate::audit;
use crate::failed::Failed;
use crate::flows::new_factor::Made;
use crate::records::KeyRecord;
use crate::rows::{self, Row};
use crate::sam::Sam;

/// What a proof over an act of this kind does, as far as it goes beyond the factor that proved.
pub(crate) struct Applied<'a> {
    pub(crate) act: Digest32,
    pub(crate) evidence: Digest32,
    pub(crate) state: &'a ActState,
    pub(crate) registration: &'a VoucherId,
    pub(crate) change: &'a Change,
    pub(crate) made: Option<&'a Made>,
    pub(crate) at: UnixTime,
}

impl<C: CryptoModule> Sam<C> {
    /// T_A of these kinds: the effect, in the transaction of the approval. `proving` is the successor of the factor
    /// that proved, which the caller stores; it may itself be what changes.
    pub(crate) async fn apply(
        &self,
        tx: &mut Tx,
        what: Applied<'_>,
        proving: &mut Factor,
        events: &mut Vec<Event>,
    ) -> Result<Vec<HistoryEntry>, Failed> {
        let (person, at) = (&what.state.person, what.at);
        let of = self.registration(tx, person, what.registration).await?;
        let attesters = self.attesters();
        let rules = self.rules(&attesters);
        what.change
            .check_prover(rules, what.registration, proving, &of.all())?;
        match what.change {
            Change::Suspend { key, .. }
            | Change::Resume { key, .. }
            | Change::Destroy { key, .. }
            | Change::HandOver { key, .. } => {
                let row = of.keys.iter().find(|k| k.body.key == *key);
                let row = row.ok_or(Reason::KeyNotActive)?;
                let life = after(&row.body.life, what.change, Some(what.act), at)?;
                let mut next = row.body.with_life(life);
                if let Change::HandOver { receiver, .. } = what.change {
                    self.stays_so(tx).await?;
                    import::check_hand_over(next.exportable, next.level(), next.alg)?;
                    next.receiver = Some(receiver.clone());
                }
                rows::save(tx, &self.sealer, row, &next).await?;
                let happened = match what.change {
                    Change::HandOver { .. } => Happened::HandedOver,
                    Change::Resume { .. } => Happened::Resumed,
                    Change::Destroy { .. } => Happened::Destroyed,
                    _ => Happened::Suspended,
                };
                events.push(key_event(&next, what.act));
                Ok(vec![HistoryEntry {
                    act: Some(what.act),
                    ..key_note(&next, happened, at)
                }])
            }
            Change::Leave { of: seen } => {
                if of.digest() != *seen {
                    return Err(Reason::Withdrawn.into());
                }
                let cause = (StopCause::Left, what.act);
                let mut notes = self.end_keys(tx, &of.keys, cause, at, events).await?;
                for row in &of.factors {
                    if row.body.id != proving.id {
                        rows::save(tx, &self.sealer, row, &row.body.removed(at)).await?;
                    }
                    events.push(removed(&row.body, what.act));
                }
                *proving = proving.removed(at);
                self.end_voucher(tx, person, what.registration).await?;
                events.push(Event::RegistrationEnded {
                    person: person.clone(),
                    voucher: what.registration.clone(),
                    reason: cause_code(StopCause::Left).into(),
                    act: what.act,
                });
                notes.push(note(Happened::Left, what.act, at));
                Ok(notes)
            }
            Change::Factor { change } => {
                self.apply_factor(tx, &what, change, &of, proving, events)
                    .await
            }
        }
    }

    async fn apply_factor(
        &self,
        tx: &mut Tx,
        what: &Applied<'_>,
        change: &FactorChange,
        of: &Registration,
        proving: &mut Factor,
        events: &mut Vec<Event>,
    ) -> Result<Vec<HistoryEntry>, Failed> {
        let (act, at) = (what.act, what.at);
        let person = what.state.person.clone();
        let attesters = self.attesters();
        let rules = self.rules(&attesters);
        let (happened, factor) = match (change, what.made) {
            (
                FactorChange::Add { .. } | FactorChange::AddDevice { .. },
                Some(Made::Factor { factor, .. }),
            ) => {
                check_add(rules, proving, factor, &of.all())?;
                if !rows::insert(tx, &self.sealer, factor.id.as_str(), factor.as_ref()).await? {
                    return Err(Reason::CredentialKnown.into());
                }
                events.push(Event::FactorAdded {
                    person,
                    factor: factor.id.clone(),
                    method: audit::method(factor.method()),
                    act,
                    evidence: what.evidence,
                });
                (Happened::FactorAdded, factor.id.clone())
            }
            (FactorChange::Remove { factor, .. }, None) => {
                check_remove(rules, factor, of.highest(), &of.all())?;
                let gone = |f: &Factor| Ok(f.removed(at));
                let old = self.edit(tx, of, factor, proving, gone).await?;
                events.push(removed(&old, act));
                (Happened::FactorRemoved, old.id)
            }
            (FactorChange::Pin { factor }, Some(Made::Pin { salt, mac })) => {
                let change = |f: &Factor| {
                    Ok(Factor {
                        body: f.body.with_pin(salt, mac).ok_or(Reason::NotFound)?,
                        ..f.clone()
                    })
                };
                let factor = self.edit(tx, of, factor, proving, change).await?.id;
                events.push(Event::FactorChanged {
                    person,
                    factor: factor.clone(),
                    act,
                });
                (Happened::PinChanged, factor)
            }
            (FactorChange::Unlock { factor }, None) => {
                let change = |f: &Factor| {
                    Ok(Factor {
                        body: unlock(&f.body)?,
                        ..f.clone()
                    })
                };
                let factor = self.edit(tx, of, factor, proving, change).await?.id;
                events.push(Event::FactorUnlocked {
                    person,
                    factor: factor.clone(),
                    act,
                });
                (Happened::FactorUnlocked, factor)
            }
            _ => return Err(Reason::Malformed.into()),
        };
        Ok(vec![HistoryEntry {
            factor: Some(factor),
            ..note(happened, act, at)
        }])
    }

    /// Changes a factor of the registration; answers what it was.
    async fn edit(
        &self,
        tx: &mut Tx,
        of: &Registration,
        id: &FactorId,
        proving: &mut Factor,
        change: impl Fn(&Factor) -> Result<Factor, Reason>,
    ) -> Result<Factor, Failed> {
        if proving.id == *id {
            let old = proving.clone();
            *proving = change(&old)?;
            return Ok(old);
        }
        let row = of.factors.iter().find(|f| f.body.id == *id);
        let row = row.ok_or(Reason::NotFound)?;
        rows::save(tx, &self.sealer, row, &change(&row.body)?).await?;
        Ok(row.body.clone())
    }

    /// The registration is over: no key that is still missing is made for it.
    pub(crate) async fn end_voucher(
        &self,
        tx: &mut Tx,
        person: &PersonId,
        id: &VoucherId,
    ) -> Result<(), Failed> {
        let row = rows::get::<Voucher>(tx, &self.sealer, id.as_str()).await?;
        match row.filter(|v| v.body.invite.person == *person) {
            Some(row) => rows::save(tx, &self.sealer, &row, &row.body.ended()).await,
            None => Ok(()),
        }
    }

    /// Ends the living keys among these.
    pub(crate) async fn end_keys(
        &self,
        tx: &mut Tx,
        keys: &[Row<KeyRecord>],
        (cause, by): (StopCause, Digest32),
        at: UnixTime,
        events: &mut Vec<Event>,
    ) -> Result<Vec<HistoryEntry>, Failed> {
        let mut notes = Vec::new();
        for row in keys.iter().filter(|k| is_living(&k.body)) {
            let next = row
                .body
                .with_life(row.body.life.destroyed(cause, Some(by), at)?);
            rows::save(tx, &self.sealer, row, &next).await?;
            events.push(key_event(&next, by));
            notes.push(key_note(&next, Happened::Destroyed, at));
        }
        Ok(notes)
    }
}

/// The state of a key after the change, if the person saw its present state.
pub(crate) fn after(
    life: &Life,
    change: &Change,
    act: Option<Digest32>,
    at: UnixTime,
) -> Result<Life, Reason> {
    let (_, seen) = change.key().ok_or(Reason::OtherKind)?;
    if life.changes != seen {
        return Err(Reason::Withdrawn);
    }
    match change {
        Change::Suspend { .. } => life.suspended(StopCause::Signer, act, at),
        Change::Resume { .. } => life.resumed(),
        Change::Destroy { .. } => life.destroyed(StopCause::Signer, act, at),
        Change::HandOver { .. } => life.leaving(act.unwrap_or(Digest32([0; 32])), at),
        Change::Leave { .. } | Change::Factor { .. } => Err(Reason::OtherKind),
    }
}

/// The event of a key's new state; `by` an act or notice.
pub(crate) fn key_event(key: &KeyRecord, by: Digest32) -> Event {
    let (id, owner) = (key.key.clone(), key.owner.clone());
    let reason = key
        .life
        .stop
        .as_ref()
        .map_or("", |s| cause_code(s.cause))
        .into();
    if let (true, Some(receiver)) = (key.life.is_leaving(), &key.receiver) {
        let approved = key.life.stop.as_ref().and_then(|s| s.by);
        return Event::KeyHandedOver {
            key: id,
            owner,
            receiver: receiver.thumbprint(),
            act: approved.unwrap_or(by),
        };
    }
    match key.life.state {
        KeyState::Destroyed => Event::KeyEnded {
            key: id,
            owner,
            reason,
            by: Some(by),
        },
        KeyState::Suspended => Event::KeySuspended {
            key: id,
            owner,
            reason,
        },
        KeyState::Active | KeyState::Pending => Event::KeyResumed {
            key: id,
            owner,
            act: by,
        },
    }
}

/// The note about a key's new state.
pub(crate) fn key_note(key: &KeyRecord, what: Happened, at: UnixTime) -> HistoryEntry {
    HistoryEntry {
        at,
        what,
        key: Some(key.key.clone()),
        factor: None,
        act: None,
        proposal: None,
        cause: key.life.stop.as_ref().map(|s| s.cause),
    }
}

fn note(what: Happened, act: Digest32, at: UnixTime) -> HistoryEntry {
    HistoryEntry {
        at,
        what,
        key: None,
        factor: None,
        act: Some(act),
        proposal: None,
        cause: None,
    }
}

fn removed(factor: &Factor, act: Digest32) -> Event {
    Event::FactorRemoved {
        person: factor.person.clone(),
        factor: factor.id.clone(),
        act,
    }
}
