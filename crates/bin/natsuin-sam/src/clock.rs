//! How the machine's clock is kept: what a time daemon says of it, or what several NTP servers say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use core_types::random::SystemRandom;
use core_types::{Clock as _, PeerId, clock::SystemClock};
use ntp::{Asked, FineClock, MachineClock, Source, Sources};
use sam_core::clock::ClockEstimate;
use sam_service::{ClockSource, RemoteModule, Sam};
use serde::Deserialize;
use service_kit::Trouble;
use service_kit::daemon::{self, CHECK};
use store_kit::StoreError;

/// How often a file with an estimate is read.
const FILE_EVERY: Duration = Duration::from_secs(10);
/// How often NTP servers are asked: other people's servers want no more, and an estimate ages by 6 ms in this time.
const ASK_EVERY: Duration = Duration::from_secs(64);
/// The same before they have agreed for the first time.
const ASK_FIRST: Duration = Duration::from_secs(16);
/// How long a server has for its answer.
const DEADLINE: Duration = Duration::from_secs(2);

/// `[clock]`: the declared bound, and either a time daemon's estimate or sources.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClockConfig {
    pub(crate) bound_ms: u32,
    estimate: Option<PathBuf>,
    #[serde(default)]
    sources: BTreeMap<PeerId, String>,
}

/// Where the estimate of the clock's error comes from.
pub(crate) enum Watch {
    File(PathBuf),
    Sources {
        sources: Sources,
        estimate: Option<ClockEstimate>,
    },
}

impl ClockConfig {
    /// # Errors
    /// [`Trouble`] with both or none of them, and with sources that can't outvote a liar.
    pub(crate) fn watch(&self) -> Result<Watch, Trouble> {
        let wrong = |what: &str| Trouble::new("bad-config", format!("clock: {what}"), CHECK);
        match (&self.estimate, self.sources.is_empty()) {
            (Some(file), true) => Ok(Watch::File(file.clone())),
            (None, false) => {
                let named = self.sources.iter().map(|(name, address)| Source {
                    name: name.clone(),
                    address: address.clone(),
                });
                let sources = Sources::new(named.collect(), DEADLINE).map_err(wrong)?;
                Ok(Watch::Sources {
                    sources,
                    estimate: None,
                })
            }
            (Some(_), false) => Err(wrong(
                "has both an estimate and sources; one of them counts",
            )),
            (None, true) => Err(wrong("has neither an estimate nor sources")),
        }
    }
}

impl Watch {
    /// Tells the SAM what is known of the clock's error now.
    pub(crate) async fn heed(&mut self, sam: &Sam<RemoteModule>) -> Result<(), Trouble> {
        let heard = match self {
            Self::File(path) => read(path),
            Self::Sources { sources, estimate } => {
                let clock: Arc<dyn FineClock> = Arc::new(MachineClock);
                let asked = sources.ask(&clock, &SystemRandom).await;
                let said = said(&asked);
                *estimate = hold_over(*estimate, &asked);
                recorded(sam.heed_sources(said).await)?;
                *estimate
            }
        };
        recorded(sam.heed_clock(heard).await)
    }

    /// Goes on telling it; ends with what went wrong.
    pub(crate) async fn keep(mut self, sam: &Sam<RemoteModule>) -> Trouble {
        loop {
            tokio::time::sleep(self.every()).await;
            if let Err(trouble) = self.heed(sam).await {
                return trouble;
            }
        }
    }

    fn every(&self) -> Duration {
        match self {
            Self::File(_) => FILE_EVERY,
            Self::Sources { estimate: None, .. } => ASK_FIRST,
            Self::Sources { .. } => ASK_EVERY,
        }
    }
}

/// What was found counts; only its entry waits for a database that is away.
fn recorded(heeded: Result<(), StoreError>) -> Result<(), Trouble> {
    match heeded {
        Ok(()) => Ok(()),
        Err(error) if error.is_away() => {
            tracing::warn!(%error, "what the clock says could not be recorded; that is tried again");
            Ok(())
        }
        Err(error) => Err(Trouble::new("store", error.to_string(), CHECK)),
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
    use super::*;

    fn watch(text: &str) -> Result<Watch, String> {
        let config: ClockConfig = toml::from_str(text).map_err(|e| e.to_string())?;
        config.watch().map_err(|trouble| trouble.what)
    }

    #[test]
    fn a_clock_is_kept_by_a_time_daemon_or_by_three_sources() {
        let three =
            "bound_ms = 9\nsources = { a = '192.0.2.1', b = '192.0.2.2', c = '192.0.2.3:1' }";
        assert!(matches!(watch(three), Ok(Watch::Sources { .. })));
        let file = "bound_ms = 9\nestimate = '/run/x'";
        assert!(matches!(watch(file), Ok(Watch::File(_))));
        for bad in [
            "bound_ms = 9",
            "bound_ms = 9\nestimate = '/run/x'\nsources = { a = 'a', b = 'b', c = 'c' }",
            "bound_ms = 9\nsources = { a = '192.0.2.1', b = '192.0.2.2' }",
            "bound_ms = 9\nsources = { a = 'x', b = 'x', c = 'y' }",
            "sources = { a = 'a', b = 'b', c = 'c' }",
            "bound_ms = 9\nsources = { 'a b' = 'a', b = 'b', c = 'c' }",
        ] {
            assert!(watch(bad).is_err(), "{bad}");
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
