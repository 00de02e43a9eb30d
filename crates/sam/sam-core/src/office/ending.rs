//! Ending all keys at the provider's side (`I-A4.4-provider-end`): whether a tenant's keys may still be used and made, and how far it is
//! with destroying them.
//!
//! Each tenant has one [`Standing`], from its first start on. Nothing rests on a row not being there: who deletes it stops the keys.

use core_types::{Digest32, UnixTime};
use sam_api::ssa::KeyState;
use sap::office::EndCause;
use serde::{Deserialize, Serialize};

use crate::Reason;
use crate::life::Life;

/// Whether a tenant's keys may be used and made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// They have all ended. Nothing takes that back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

/// The end of all keys of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// Digest of the proposal that decided it.
    pub by: Digest32,
    /// Because of what.
    pub cause: EndCause,
    /// It is that of the whole service, also for tenants that come later.
    pub whole: bool,
    /// When.
    pub at: UnixTime,
    /// How many keys there were.
    pub keys: u64,
    /// How many of them are marked as gone.
    pub marked: u64,
    /// How many of these the module has destroyed for good.
    pub destroyed: u64,
    /// How many persons were told.
    pub told: u64,
    /// Every key was looked at, and none is left.
    pub all_seen: bool,
    /// The end of the whole service, where it came after this tenant's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined: Option<Whole>,
}

/// The decision that ended the whole service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Whole {
    /// Digest of the proposal that decided it.
    pub by: Digest32,
    /// Because of what.
    pub cause: EndCause,
    /// When.
    pub at: UnixTime,
}

impl Standing {
    /// Whether keys may be used and made.
    ///
    /// # Errors
    /// [`Reason::Ended`].
    pub fn goes_on(&self) -> Result<(), Reason> {
        match self.ended {
            None => Ok(()),
            Some(_) => Err(Reason::Ended),
        }
    }

    /// All keys end, `keys` of them, as the proposal with this digest says.
    ///
    /// # Errors
    /// [`Reason::Ended`]: they have ended before.
    pub fn end(
        &self,
        by: Digest32,
        (cause, whole): (EndCause, bool),
        keys: u64,
        at: UnixTime,
    ) -> Result<Self, Reason> {
        self.goes_on()?;
        Ok(Self {
            ended: Some(Ended {
                by,
                cause,
                whole,
                at,
                keys,
                marked: 0,
                destroyed: 0,
                told: 0,
                all_seen: false,
                joined: None,
            }),
        })
    }

    /// The whole service ends, this tenant's keys having ended before. `None`: it was the whole service's end already, or they haven't.
    pub fn join(&self, whole: Whole) -> Option<Self> {
        self.ended.as_ref().filter(|ended| !ended.whole)?;
        Some(self.with(|ended| Ended {
            whole: true,
            joined: Some(whole),
            ..ended
        }))
    }

    /// The decision that ended the whole service, if it has ended.
    pub fn whole(&self) -> Option<Whole> {
        let ended = self.ended.as_ref().filter(|ended| ended.whole)?;
        Some(ended.joined.unwrap_or(Whole {
            by: ended.by,
            cause: ended.cause,
            at: ended.at,
        }))
    }

    /// As a tenant begins that comes into a service whose keys have all ended.
    #[must_use]
    pub fn of_newcomer(house: &Self) -> Self {
        Self {
            ended: house.whole().map(|whole| Ended {
                by: whole.by,
                cause: whole.cause,
                whole: true,
                at: whole.at,
                keys: 0,
                marked: 0,
                destroyed: 0,
                told: 0,
                all_seen: true,
                joined: None,
            }),
        }
    }

    /// With so many more keys marked as gone, and their owner told if `told`.
    #[must_use]
    pub fn marked(&self, keys: u64, told: bool) -> Self {
        self.with(|ended| Ended {
            marked: ended.marked.saturating_add(keys),
            told: ended.told.saturating_add(u64::from(told)),
            ..ended
        })
    }

    /// With every key looked at.
    #[must_use]
    pub fn all_seen(&self) -> Self {
        self.with(|ended| Ended {
            all_seen: true,
            ..ended
        })
    }

    /// With one more key destroyed for good, if it ended by this. `None`: it is none of them.
    pub fn destroyed(&self, by: Option<Digest32>) -> Option<Self> {
        self.ended.as_ref().filter(|e| Some(e.by) == by)?;
        Some(self.with(|ended| Ended {
            destroyed: ended.destroyed.saturating_add(1),
            ..ended
        }))
    }

    fn with(&self, next: impl FnOnce(Ended) -> Ended) -> Self {
        Self {
            ended: self.ended.clone().map(next),
        }
    }
}

impl Ended {
    /// Whether a key that lives so ends now. What its owner had approved to be handed over before goes to its receiver first,
    /// unless there is an incident.
    pub fn takes(&self, life: &Life) -> bool {
        let waits = self.cause == EndCause::EndOfService && life.is_leaving();
        life.state != KeyState::Destroyed && !waits
    }

    /// Whether nothing is left to do.
    pub fn is_complete(&self) -> bool {
        self.all_seen && self.destroyed >= self.marked
    }
}

#[cfg(test)]
mod tests {
    use sam_api::ssa::StopCause;

    use super::*;

    const BY: Digest32 = Digest32([1; 32]);
    const OTHER: Digest32 = Digest32([2; 32]);
    const T: UnixTime = UnixTime(1000);

    fn ended(cause: EndCause, whole: bool) -> Standing {
        let fresh = Standing::default();
        assert_eq!(fresh.goes_on(), Ok(()));
        fresh.end(BY, (cause, whole), 3, T).unwrap()
    }

    // shows: I-A4.4-provider-end
    #[test]
    fn what_has_ended_goes_on_never_and_ends_once() {
        for cause in [EndCause::EndOfService, EndCause::Incident] {
            let standing = ended(cause, false);
            let later = [
                standing.clone(),
                standing.marked(3, true),
                standing.marked(3, true).all_seen(),
                standing.destroyed(Some(BY)).unwrap(),
            ];
            for next in later {
                assert_eq!(next.goes_on(), Err(Reason::Ended));
                assert_eq!(next.end(OTHER, (cause, true), 0, T), Err(Reason::Ended));
            }
        }
    }

    // shows: I-A4.4-provider-end
    #[test]
    fn keys_and_persons_are_counted_apart() {
        let standing = ended(EndCause::Incident, false);
        let twice = standing.marked(2, true).marked(1, false);
        let counted = twice.ended.unwrap();
        assert_eq!((counted.marked, counted.told, counted.destroyed), (3, 1, 0));
    }

    // shows: I-A4.4-provider-end
    #[test]
    fn it_is_complete_when_every_key_was_seen_and_is_destroyed() {
        let complete = |s: &Standing| s.ended.as_ref().unwrap().is_complete();
        let mut standing = ended(EndCause::Incident, false).marked(2, true);
        assert!(!complete(&standing));
        standing = standing.all_seen();
        for _ in 0..2 {
            assert!(!complete(&standing));
            // Keys that ended for other reasons don't count.
            assert_eq!(standing.destroyed(Some(OTHER)), None);
            assert_eq!(standing.destroyed(None), None);
            standing = standing.destroyed(Some(BY)).unwrap();
        }
        assert!(complete(&standing));
        assert_eq!(Standing::default().destroyed(Some(BY)), None);
    }

    // shows: I-A4.4-provider-end
    #[test]
    fn every_living_key_ends_and_only_one_that_leaves_already_may_leave_first() {
        let active = Life::made().certified(UnixTime(5000)).unwrap();
        let own = active.suspended(StopCause::Signer, None, T).unwrap();
        let provider = active.stopped_by_provider(None, T).unwrap();
        let leaving = active.leaving(OTHER, T).unwrap();
        let gone = active.destroyed(StopCause::Signer, None, T).unwrap();
        let service = ended(EndCause::EndOfService, true).ended.unwrap();
        let incident = ended(EndCause::Incident, true).ended.unwrap();
        for ended in [&service, &incident] {
            for life in [&Life::made(), &active, &own, &provider] {
                assert!(ended.takes(life), "{life:?}");
            }
            assert!(!ended.takes(&gone));
        }
        assert!(!service.takes(&leaving) && incident.takes(&leaving));
        // It ends all the same if the module kept it.
        assert!(service.takes(&leaving.stays(T).unwrap()));
    }

    // shows: I-A4.4-provider-end
    #[test]
    fn a_tenant_that_comes_after_the_end_of_the_whole_service_has_no_keys() {
        let whole = ended(EndCause::EndOfService, true);
        // However far it got there.
        let counted = whole.marked(3, true).destroyed(Some(BY)).unwrap();
        let late = Standing::of_newcomer(&counted);
        assert_eq!(late.goes_on(), Err(Reason::Ended));
        let none = late.ended.as_ref().unwrap();
        let counts = (none.keys, none.marked, none.destroyed, none.told);
        assert_eq!(counts, (0, 0, 0, 0));
        assert!(late.ended.unwrap().is_complete());
        let own = ended(EndCause::Incident, false);
        assert_eq!(Standing::of_newcomer(&own), Standing::default());
    }

    // shows: I-A4.4-provider-end
    #[test]
    fn the_end_of_the_whole_service_is_also_that_of_a_tenant_that_ended_before() {
        let whole = Whole {
            by: OTHER,
            cause: EndCause::EndOfService,
            at: UnixTime(2000),
        };
        assert_eq!(Standing::default().join(whole), None);
        assert_eq!(Standing::default().whole(), None);
        let own = ended(EndCause::Incident, false);
        assert_eq!(own.whole(), None);
        let joined = own.join(whole).unwrap();
        assert_eq!(joined.whole(), Some(whole));
        // Its own keys stay ended by its own measure.
        let (before, after) = (own.ended.unwrap(), joined.ended.clone().unwrap());
        assert!(after.whole);
        assert_eq!(
            (after.by, after.cause, after.at, after.keys),
            (before.by, before.cause, before.at, before.keys)
        );
        assert_eq!(joined.join(whole), None);
        let late = Standing::of_newcomer(&joined).ended.unwrap();
        assert_eq!(
            (late.by, late.cause, late.at),
            (OTHER, whole.cause, whole.at)
        );
        let first = ended(EndCause::Incident, true);
        let said = first.whole().unwrap();
        assert_eq!((said.by, said.cause, said.at), (BY, EndCause::Incident, T));
        assert_eq!(first.join(whole), None);
    }
}
