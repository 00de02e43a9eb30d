//! `[clock]` of a daemon: how its machine's clock is kept, by what a time daemon says of it or by what several NTP servers say. Without
//! the table nobody keeps it, which the log says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use audit_log::{ClockSource, Heard};
use core_types::random::SystemRandom;
use core_types::timekeeping::{ClockEstimate, ClockRule};
use core_types::{Clock as _, Level, PeerId, clock::SystemClock};
use ntp::{Asked, FineClock, MachineClock, Source, Sources};
use serde::Deserialize;
use service_kit::Trouble;
use service_kit::daemon::{self, CHECK};
use store_kit::StoreError;

/// How often a file with an estimate is read, and how often it is looked whether somebody set the clock.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How often NTP servers are asked: other people's servers want no more, and an estimate ages by 6 ms in this time.
const ASK_EVERY: Duration = Duration::from_secs(64);
/// The same before they have agreed for the first time.
const ASK_FIRST: Duration = Duration::from_secs(16);
/// How long a server has for its answer.
const DEADLINE: Duration = Duration::from_secs(2);

/// `[clock]`: the declared bound, and either a time daemon's estimate or sources.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockConfig {
    /// Largest error that is tolerated, in milliseconds.
    pub bound_ms: u32,
    estimate: Option<PathBuf>,
    #[serde(default)]
    sources: BTreeMap<PeerId, String>,
}

impl ClockConfig {
    /// What is declared by this table, or by its absence.
    pub fn rule(config: Option<&Self>) -> ClockRule {
        config.map_or(ClockRule::Unsynchronised, |config| {
            ClockRule::BoundMs(config.bound_ms)
        })
    }

    /// Above level 1 the table is there.
    ///
    /// # Errors
    /// [`Trouble`] if it isn't.
    pub fn demanded(config: Option<&Self>, ceiling: Level) -> Result<(), Trouble> {
        match config {
            None if ceiling > Level::One => Err(Trouble::new(
                "bad-config",
                "above level 1 the error of the clock is bounded (I-7.1.1.12-synchronised), and [clock] is missing",
                CHECK,
            )),
            _ => Ok(()),
        }
    }
}

/// Where the estimate of the clock's error comes from.
pub struct ClockReading(Way);

enum Way {
    Nobody,
    File(PathBuf),
    Sources {
        sources: Sources,
        estimate: Option<ClockEstimate>,
    },
}

impl ClockReading {
    /// As configured.
    ///
    /// # Errors
    /// [`Trouble`] with both or none of the ways, and with sources that can't outvote a liar.
    pub fn of(config: Option<&ClockConfig>) -> Result<Self, Trouble> {
        let wrong = |what: &str| Trouble::new("bad-config", format!("clock: {what}"), CHECK);
        let Some(config) = config else {
            return Ok(Self(Way::Nobody));
        };
        match (&config.estimate, config.sources.is_empty()) {
            (Some(file), true) => Ok(Self(Way::File(file.clone()))),
            (None, false) => {
                let named = config.sources.iter().map(|(name, address)| Source {
                    name: name.clone(),
                    address: address.clone(),
                });
                let sources = Sources::new(named.collect(), DEADLINE).map_err(wrong)?;
                Ok(Self(Way::Sources {
                    sources,
                    estimate: None,
                }))
            }
            (Some(_), false) => Err(wrong(
                "has both an estimate and sources; one of them counts",
            )),
            (None, true) => Err(wrong("has neither an estimate nor sources")),
        }
    }

    /// Has what is known of the clock now heeded. The zone is to heed the estimate before it records anything.
    ///
    /// # Errors
    /// [`Trouble`], but not for a database that is away: what was found counts, and only its entry waits.
    pub async fn heed<F>(&mut self, heeds: &F) -> Result<(), Trouble>
    where
        F: AsyncFn(Heard) -> Result<(), StoreError>,
    {
        match heeds(self.hear().await).await {
            Ok(()) => Ok(()),
            Err(error) if error.is_away() => {
                tracing::warn!(%error, "what the clock says could not be recorded; that is tried again");
                Ok(())
            }
            Err(error) => Err(Trouble::new("store", error.to_string(), CHECK)),
        }
    }

    /// Goes on having it heeded; ends with what went wrong.
    pub async fn keep<F>(mut self, heeds: &F) -> Trouble
    where
        F: AsyncFn(Heard) -> Result<(), StoreError>,
    {
        loop {
            tokio::time::sleep(self.every()).await;
            if let Err(trouble) = self.heed(heeds).await {
                return trouble;
            }
        }
    }

    async fn hear(&mut self) -> Heard {
        match &mut self.0 {
            Way::Nobody => Heard::default(),
            Way::File(path) => Heard {
                estimate: read(path),
                sources: Vec::new(),
            },
            Way::Sources { sources, estimate } => {
                let clock: Arc<dyn FineClock> = Arc::new(MachineClock);
                let asked = sources.ask(&clock, &SystemRandom).await;
                *estimate = hold_over(*estimate, &asked);
                Heard {
                    estimate: *estimate,
                    sources: said(&asked),
                }
            }
        }
    }

    fn every(&self) -> Duration {
        match self.0 {
            Way::Nobody | Way::File(_) => LOOK_EVERY,
            Way::Sources { estimate: None, .. } => ASK_FIRST,
            Way::Sources { .. } => ASK_EVERY,
        }
    }
}

/// What the file says; one that says nothing is no estimate.
fn read(file: &Path) -> Option<ClockEstimate> {
    ClockEstimate::parse(&daemon::text(file).unwrap_or_default())
}

/// The new estimate, or the one before while there is none: it ages, and is beyond the bound in its time.
fn hold_over(before: Option<ClockEstimate>, asked: &Asked) -> Option<ClockEstimate> {
    let agreed = asked.bound.map(|bound| ClockEstimate {
        error_ms: bound.error_ms(),
        at: SystemClock.now(),
    });
    agreed.or(before)
}

fn said(asked: &Asked) -> Vec<ClockSource> {
    let states = asked.states().map(|(name, state, offset)| ClockSource {
        name: name.clone(),
        state,
        offset_ms: offset.map(|micros| micros / 1000),
    });
    states.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn way(config: Value) -> Result<Way, String> {
        let config: ClockConfig = serde_json::from_value(config).map_err(|e| e.to_string())?;
        let reading = ClockReading::of(Some(&config));
        reading.map(|r| r.0).map_err(|trouble| trouble.what)
    }

    #[test]
    fn a_clock_is_kept_by_a_time_daemon_or_by_three_sources() {
        let three = json!({"a": "192.0.2.1", "b": "192.0.2.2", "c": "192.0.2.3:1"});
        let sources = way(json!({"bound_ms": 9, "sources": three}));
        assert!(matches!(sources, Ok(Way::Sources { .. })));
        let file = way(json!({"bound_ms": 9, "estimate": "/run/x"}));
        assert!(matches!(file, Ok(Way::File(_))));
        for bad in [
            json!({"bound_ms": 9}),
            json!({"bound_ms": 9, "estimate": "/run/x", "sources": three}),
            json!({"bound_ms": 9, "sources": {"a": "192.0.2.1", "b": "192.0.2.2"}}),
            json!({"bound_ms": 9, "sources": {"a": "x", "b": "x", "c": "y"}}),
            json!({"sources": three}),
            json!({"bound_ms": 9, "sources": {"a b": "a", "b": "b", "c": "c"}}),
        ] {
            assert!(way(bad.clone()).is_err(), "{bad}");
        }
    }

    // shows: I-7.1.1.12-synchronised
    #[test]
    fn above_level_1_a_bound_is_declared() {
        let kept = ClockConfig {
            bound_ms: 9,
            estimate: None,
            sources: BTreeMap::new(),
        };
        assert_eq!(ClockConfig::rule(None), ClockRule::Unsynchronised);
        assert_eq!(ClockConfig::rule(Some(&kept)), ClockRule::BoundMs(9));
        for (ceiling, begins) in [
            (Level::One, true),
            (Level::Two, false),
            (Level::Three, false),
        ] {
            assert_eq!(ClockConfig::demanded(None, ceiling).is_ok(), begins);
            assert!(ClockConfig::demanded(Some(&kept), ceiling).is_ok());
        }
    }

    #[test]
    fn without_a_majority_the_last_estimate_counts_on() {
        let name = PeerId::parse("a").unwrap();
        let nobody = Asked {
            bound: None,
            said: vec![(name.clone(), Err(ntp::NoAnswer::Silent))],
        };
        let old = ClockEstimate {
            error_ms: 7,
            at: core_types::UnixTime(1000),
        };
        assert_eq!(hold_over(Some(old), &nobody), Some(old));
        assert_eq!(hold_over(None, &nobody), None);
        let agreed = Asked {
            bound: ntp::agree(
                &[ntp::Sample {
                    offset: -2500,
                    distance: 100,
                }; 3],
                3,
            ),
            said: Vec::new(),
        };
        assert_eq!(hold_over(Some(old), &agreed).unwrap().error_ms, 3);
        let told = said(&nobody);
        assert_eq!(
            (told[0].name.clone(), told[0].state, told[0].offset_ms),
            (name, "silent", None)
        );
    }
}
