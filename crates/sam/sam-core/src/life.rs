//! The life of a key (`I-4.2.2c-termination-causes`): made, active, stopped, gone; who may move it, and why.
//!
//! Stopping is easy, going on is hard, and what is gone never comes back.

use core_types::{Digest32, UnixTime};
use sam_api::ssa::{KeyState, StopCause, StopInfo};
use sap::manage::{NoticeEffect, RevocationNotice};
use serde::{Deserialize, Serialize};

use crate::Reason;

/// Where a key stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Life {
    /// State.
    pub state: KeyState,
    /// How often it changed.
    pub changes: u32,
    /// Why it is stopped or gone.
    pub stop: Option<Stop>,
    /// End of the certificate; the key can't be used at or after it.
    pub until: Option<UnixTime>,
    /// Time of the last authority's notice that was heeded: an older one is a replay.
    pub noticed: Option<UnixTime>,
}

/// Why a key is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// Why.
    pub cause: StopCause,
    /// Since when.
    pub at: UnixTime,
    /// Digest of the act or notice that says so.
    pub by: Option<Digest32>,
    /// Of a destroyed key: what the module said of it.
    pub gone: Option<Gone>,
    /// The stop it came on top of, which stays when this one is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub under: Option<Box<Stop>>,
}

/// What the module said of the end of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gone {
    /// No copy can bring the key back after this time. Nothing while the device's copy isn't erased.
    pub unrecoverable_after: Option<UnixTime>,
    /// The module's certificate of the destruction.
    pub certificate: String,
}

impl Life {
    /// A key that was just made.
    pub fn made() -> Self {
        Self {
            state: KeyState::Pending,
            changes: 0,
            stop: None,
            until: None,
            noticed: None,
        }
    }

    /// Whether it may be used at `now`.
    pub fn is_active(&self, now: UnixTime) -> bool {
        self.state == KeyState::Active && self.until.is_some_and(|until| now < until)
    }

    /// It has its certificate, which ends at `until`.
    ///
    /// # Errors
    /// [`Reason::Used`] unless it waits for one.
    pub fn certified(&self, until: UnixTime) -> Result<Self, Reason> {
        if self.state != KeyState::Pending {
            return Err(Reason::Used);
        }
        Ok(Self {
            until: Some(until),
            ..self.to(KeyState::Active, None)
        })
    }

    /// It stops for a while.
    ///
    /// # Errors
    /// [`Reason::KeyNotActive`] unless it is active, [`Reason::NotAllowed`] when the cause isn't the signer's.
    pub fn suspended(
        &self,
        cause: StopCause,
        by: Option<Digest32>,
        at: UnixTime,
    ) -> Result<Self, Reason> {
        if !matches!(cause, StopCause::Signer | StopCause::Login) {
            return Err(Reason::NotAllowed("stop-cause"));
        }
        if self.state != KeyState::Active {
            return Err(Reason::KeyNotActive);
        }
        Ok(self.to(KeyState::Suspended, Some(stop(cause, by, at))))
    }

    /// The signer lets it be used again. What an authority or the platform itself stopped isn't the signer's to lift.
    ///
    /// # Errors
    /// [`Reason::KeyNotActive`] unless it is stopped by the signer's side.
    pub fn resumed(&self) -> Result<Self, Reason> {
        match (self.state, &self.stop) {
            (
                KeyState::Suspended,
                Some(Stop {
                    cause: StopCause::Signer | StopCause::Login,
                    ..
                }),
            ) => Ok(self.to(KeyState::Active, None)),
            _ => Err(Reason::KeyNotActive),
        }
    }

    /// The provider stops it, whoever else has: what stopped it before stays when the provider's is over.
    ///
    /// # Errors
    /// [`Reason::KeyNotActive`] when it isn't in use, or stopped by the provider or the platform itself already.
    pub fn stopped_by_provider(&self, by: Option<Digest32>, at: UnixTime) -> Result<Self, Reason> {
        if self.state == KeyState::Pending || self.is_stopped_for_good() {
            return Err(Reason::KeyNotActive);
        }
        Ok(self.stopped(stop(StopCause::Provider, by, at)))
    }

    /// Whether the provider's stop, or its end, leaves nothing to stop.
    pub fn is_stopped_for_good(&self) -> bool {
        match self.state {
            KeyState::Destroyed => true,
            KeyState::Suspended => self.providers().is_some(),
            KeyState::Pending | KeyState::Active => false,
        }
    }

    /// The provider lets it go on: lifts what the provider or the platform itself stopped, one stop for each decision, and
    /// nobody else's.
    ///
    /// # Errors
    /// [`Reason::KeyNotActive`].
    pub fn resumed_by_provider(&self) -> Result<Self, Reason> {
        match (self.state, self.providers()) {
            (KeyState::Suspended, Some(stop)) => Ok(self.lifted(stop.cause)),
            _ => Err(Reason::KeyNotActive),
        }
    }

    /// The latest stop that is the provider's to lift.
    fn providers(&self) -> Option<&Stop> {
        self.stops()
            .find(|stop| matches!(stop.cause, StopCause::Provider | StopCause::WrongValue))
    }

    /// The stop of this cause, whatever came on top of it.
    pub fn stopped_for(&self, cause: StopCause) -> Option<&Stop> {
        self.stops().find(|stop| stop.cause == cause)
    }

    /// What stops it, the latest first.
    fn stops(&self) -> impl Iterator<Item = &Stop> {
        std::iter::successors(self.stop.as_ref(), |stop| stop.under.as_deref())
    }

    /// Its owner has it handed over: it is used no more, and destroyed as soon as the module has given it away.
    ///
    /// # Errors
    /// [`Reason::KeyNotActive`] unless it is active or was stopped by the signer's side.
    pub fn leaving(&self, by: Digest32, at: UnixTime) -> Result<Self, Reason> {
        let own = matches!(
            self.stop.as_ref().map(|s| s.cause),
            None | Some(StopCause::Signer | StopCause::Login)
        );
        match self.state {
            KeyState::Active | KeyState::Suspended if own => Ok(self.to(
                KeyState::Suspended,
                Some(stop(StopCause::HandedOver, Some(by), at)),
            )),
            _ => Err(Reason::KeyNotActive),
        }
    }

    /// The module would not give it away: it stays, and is the signer's to resume.
    ///
    /// # Errors
    /// [`Reason::KeyNotActive`] unless it was leaving.
    pub fn stays(&self, at: UnixTime) -> Result<Self, Reason> {
        if !self.is_leaving() {
            return Err(Reason::KeyNotActive);
        }
        let by = self.stop.as_ref().and_then(|s| s.by);
        Ok(self.to(KeyState::Suspended, Some(stop(StopCause::Signer, by, at))))
    }

    /// Whether the module still has to give it away.
    pub fn is_leaving(&self) -> bool {
        self.state == KeyState::Suspended
            && self
                .stop
                .as_ref()
                .is_some_and(|s| s.cause == StopCause::HandedOver)
    }

    /// It is gone for good.
    ///
    /// # Errors
    /// [`Reason::Used`] when it is gone already, [`Reason::NotAllowed`] when the cause isn't one for destroying.
    pub fn destroyed(
        &self,
        cause: StopCause,
        by: Option<Digest32>,
        at: UnixTime,
    ) -> Result<Self, Reason> {
        let destroys = matches!(
            cause,
            StopCause::Signer
                | StopCause::Revoked
                | StopCause::Expired
                | StopCause::Left
                | StopCause::FactorsLost
                | StopCause::HandedOver
                | StopCause::Provider
                | StopCause::Used
        );
        if !destroys {
            return Err(Reason::NotAllowed("stop-cause"));
        }
        if self.state == KeyState::Destroyed {
            return Err(Reason::Used);
        }
        Ok(self.to(KeyState::Destroyed, Some(stop(cause, by, at))))
    }

    /// A value of the module didn't verify: whoever stopped it before, nobody but the provider lets it go on, and then what
    /// stopped it before still does. `None`: it is gone already.
    pub fn found_wrong(&self, act: Digest32, at: UnixTime) -> Option<Self> {
        match self.state {
            KeyState::Active | KeyState::Suspended => {
                Some(self.stopped(stop(StopCause::WrongValue, Some(act), at)))
            }
            KeyState::Pending | KeyState::Destroyed => None,
        }
    }

    /// Somebody logged in as the owner stops it. `changes` as they saw it: an old call does nothing.
    ///
    /// # Errors
    /// [`Reason::Used`] when its state has changed since, and as [`Self::suspended`].
    pub fn stopped_by_login(&self, changes: u32, at: UnixTime) -> Result<Self, Reason> {
        if self.changes != changes {
            return Err(Reason::Used);
        }
        self.suspended(StopCause::Login, None, at)
    }

    /// What an authority's notice does, whose digest is `by`. `None`: nothing is left to do.
    ///
    /// # Errors
    /// [`Reason::Used`] for a hold or release that isn't later than the last notice, [`Reason::KeyNotActive`] when it
    /// doesn't fit the state. A revocation is final, so that it counts whenever it comes.
    pub fn noticed(
        &self,
        notice: &RevocationNotice,
        by: Digest32,
        at: UnixTime,
    ) -> Result<Option<Self>, Reason> {
        let ordered = notice.effect != NoticeEffect::Revoked;
        if ordered && self.noticed.is_some_and(|last| notice.iat <= last) {
            return Err(Reason::Used);
        }
        let next = match (notice.effect, self.state) {
            (_, KeyState::Destroyed) => return Ok(None),
            (NoticeEffect::Revoked, _) => self.destroyed(StopCause::Revoked, Some(by), at)?,
            // On top of whatever stops it: who stopped it before can't lift this.
            (NoticeEffect::Hold, KeyState::Active | KeyState::Suspended) => {
                self.stopped(stop(StopCause::Hold, Some(by), at))
            }
            // The authority lifts its own stop, and nobody else's.
            (NoticeEffect::Released, KeyState::Suspended)
                if self.stopped_for(StopCause::Hold).is_some() =>
            {
                self.lifted(StopCause::Hold)
            }
            _ => return Err(Reason::KeyNotActive),
        };
        Ok(Some(Self {
            noticed: self.noticed.max(Some(notice.iat)),
            ..next
        }))
    }

    /// The certificate has ended: the key is gone. `None`: not yet, or gone already.
    pub fn expired(&self, now: UnixTime) -> Option<Self> {
        let over = self.until.is_some_and(|until| now >= until);
        if !over {
            return None;
        }
        self.destroyed(StopCause::Expired, None, now).ok()
    }

    /// What the module said of the destruction.
    ///
    /// # Errors
    /// [`Reason::KeyNotActive`] unless the destruction was decided, [`Reason::Used`] when the module said all before.
    pub fn confirmed(&self, gone: Gone) -> Result<Self, Reason> {
        match (self.state, &self.stop) {
            (KeyState::Destroyed, Some(stop)) if self.awaits_module() => Ok(Self {
                stop: Some(Stop {
                    gone: Some(gone),
                    ..stop.clone()
                }),
                ..self.clone()
            }),
            (KeyState::Destroyed, _) => Err(Reason::Used),
            _ => Err(Reason::KeyNotActive),
        }
    }

    /// Whether the module still has to destroy the private key, or to tell from when on nothing can bring it back.
    pub fn awaits_module(&self) -> bool {
        let said = self.stop.as_ref().and_then(|s| s.gone.as_ref());
        self.state == KeyState::Destroyed && said.is_none_or(|g| g.unrecoverable_after.is_none())
    }

    /// Whether the key is destroyed, and the module has said for good that it is.
    pub fn is_gone(&self) -> bool {
        self.state == KeyState::Destroyed && !self.awaits_module()
    }

    /// As the SSA may know it.
    pub fn info(&self) -> Option<StopInfo> {
        self.stop.as_ref().map(|s| StopInfo {
            cause: s.cause,
            at: s.at,
            unrecoverable_after: s.gone.as_ref().and_then(|g| g.unrecoverable_after),
            certificate: s.gone.as_ref().map(|g| g.certificate.clone()),
        })
    }

    /// With one more stop on top, which takes the place of an earlier one of its cause.
    fn stopped(&self, top: Stop) -> Self {
        let under = without(self.stop.as_ref(), top.cause).map(Box::new);
        self.to(KeyState::Suspended, Some(Stop { under, ..top }))
    }

    /// Without the stop of this cause; every other one stays.
    fn lifted(&self, cause: StopCause) -> Self {
        match without(self.stop.as_ref(), cause) {
            Some(left) => self.to(KeyState::Suspended, Some(left)),
            None => self.to(KeyState::Active, None),
        }
    }

    fn to(&self, state: KeyState, stop: Option<Stop>) -> Self {
        Self {
            state,
            stop,
            changes: self.changes.saturating_add(1),
            ..self.clone()
        }
    }
}

fn stop(cause: StopCause, by: Option<Digest32>, at: UnixTime) -> Stop {
    Stop {
        cause,
        at,
        by,
        gone: None,
        under: None,
    }
}

/// This stop and those under it, except those of one cause.
fn without(stop: Option<&Stop>, cause: StopCause) -> Option<Stop> {
    let stop = stop?;
    let under = without(stop.under.as_deref(), cause);
    match stop.cause == cause {
        true => under,
        false => Some(Stop {
            under: under.map(Box::new),
            ..stop.clone()
        }),
    }
}

/// The fixed word for the audit log.
pub fn cause_code(cause: StopCause) -> &'static str {
    match cause {
        StopCause::Signer => "signer",
        StopCause::Login => "login",
        StopCause::Hold => "hold",
        StopCause::Revoked => "revoked",
        StopCause::Expired => "expired",
        StopCause::Left => "left",
        StopCause::FactorsLost => "factors-lost",
        StopCause::HandedOver => "handed-over",
        StopCause::WrongValue => "wrong-value",
        StopCause::Provider => "provider",
        StopCause::Used => "used",
    }
}

#[cfg(test)]
mod tests;
