//! What the SAM is and can do, for `info` and pages that anybody may ask for. It is asked now and then; while it gives no answer,
//! one caller waits a little and all others hear what was known.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use core_types::{Level, UnixTime};
use sam_api::ssa::{AboutAnswer, ClockInfo, Empty};

use crate::{SamPort, Ssa};

/// How long an answer counts, in seconds: the error of the SAM's clock changes.
const KEPT: i64 = 60;
/// How long nobody is asked after no answer came, in seconds.
const PAUSE: i64 = 10;
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// The highest level of what this SAM signs; nothing if it doesn't say in time.
pub async fn ceiling_of(sam: &dyn SamPort) -> Option<Level> {
    let answer = tokio::time::timeout(PATIENCE, sam.about(&Empty {})).await;
    answer.ok()?.ok().map(|about| about.ceiling)
}

/// What was heard last.
#[derive(Debug, Default)]
pub(crate) struct About {
    known: Mutex<Known>,
    asking: tokio::sync::Mutex<()>,
}

/// What the SAM said of itself, and when.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    /// When it answered.
    pub(crate) asked: UnixTime,
    answer: Arc<AboutAnswer>,
}

impl Heard {
    /// What it said of its clock, unless that is too long ago to say anything.
    pub(crate) fn clock(&self, now: UnixTime) -> Option<&ClockInfo> {
        let fresh = (0..KEPT * 2).contains(&(now.0 - self.asked.0));
        fresh.then_some(&self.answer.clock)
    }
}

impl std::ops::Deref for Heard {
    type Target = AboutAnswer;

    fn deref(&self) -> &AboutAnswer {
        &self.answer
    }
}

#[derive(Debug, Clone, Default)]
struct Known {
    answer: Option<Heard>,
    /// Until then nobody is asked.
    until: Option<UnixTime>,
}

impl About {
    fn known(&self) -> Known {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }
}

impl Ssa {
    /// What the SAM is and can do, as it said last; `None` before it ever did.
    pub(crate) async fn about(&self) -> Option<Heard> {
        let about = self.heard();
        let current = |known: &Known| known.until.is_some_and(|until| self.now() < until);
        let known = about.known();
        if current(&known) {
            return known.answer;
        }
        let _asking = match (about.asking.try_lock(), &known.answer) {
            (Ok(asking), _) => asking,
            // Somebody asks already: what was said last is good enough meanwhile.
            (Err(_), Some(answer)) => return Some(answer.clone()),
            (Err(_), None) => about.asking.lock().await,
        };
        // Whoever waited hears what the one before them found.
        let known = about.known();
        if current(&known) {
            return known.answer;
        }
        let asked = self.now();
        let answer = tokio::time::timeout(PATIENCE, self.sam().about(&Empty {})).await;
        let (answer, counts) = match answer {
            Ok(Ok(answer)) => {
                let answer = Arc::new(answer);
                (Some(Heard { asked, answer }), KEPT)
            }
            Ok(Err(_)) | Err(_) => (known.answer, PAUSE),
        };
        let mut known = about.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.answer.clone_from(&answer);
        known.until = Some(self.now().plus(counts));
        answer
    }
}
