//! Continuous health tests of random generators (`III-3-11-random`, `II-3.3.2-random-quality`, `III-3-13-detect-hardware`).
//!
//! The tests are those of SP 800-90B §4.4 (repetition count and adaptive proportion), over bytes, and one over whole draws. What
//! they see is conditioned: AWS-LC and PKCS#11 give the output of a generator and no raw noise. So they find a generator
//! that is stuck, that prefers a value or starts again from where it was; they can't tell whether a good generator was seeded
//! well. Since the output has eight bits of entropy a byte, the cutoffs can be chosen so that a good generator fails them
//! never (less than once in 2⁶⁰ bytes), and a failure needs no second opinion.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::{Random, sha256};

/// §4.4.1: as many equal bytes in a row, 1 + ⌈60 / 8⌉ and one more.
const REPEATED: u32 = 10;
/// §4.4.2: length of the window of a source that isn't binary.
const WINDOW: u32 = 512;
/// §4.4.2: as often the first byte of a window in it.
const PROPORTION: u32 = 26;
/// Bytes that two draws have to have in common to be called the same.
const DRAW: usize = 12;
/// Bytes of the digest by which a draw is remembered, and what it begins with.
const HEAD: usize = 16;
const HEADS: &[u8] = b"natsuin-draw-v1\n";
/// Draws that are remembered.
const DRAWS: usize = 1024;
/// Bytes that are looked at before a generator is used for the first time (§4.3: 1,024 at least).
pub const AT_START: usize = 4096;

/// A generator isn't one any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unhealthy {
    /// One byte again and again.
    #[error("a random generator repeats one value")]
    Repeats,
    /// One byte much too often.
    #[error("a random generator prefers one value")]
    Prefers,
    /// The same bytes as before.
    #[error("a random generator gave the same bytes again")]
    Again,
}

/// The beginning of a draw, by its digest: what was drawn may be a secret and stays nowhere. So many good bits are found by no trying.
type Head = [u8; HEAD];

/// The tests over one generator. Feed it all that is drawn.
#[derive(Debug, Default)]
pub struct HealthTest {
    last: Option<u8>,
    run: u32,
    first: u8,
    place: u32,
    count: u32,
    draws: VecDeque<Head>,
    known: HashSet<Head>,
}

impl HealthTest {
    /// Looks at what was drawn with one call.
    ///
    /// # Errors
    /// [`Unhealthy`]; the generator must not be used any more.
    pub fn feed(&mut self, drawn: &[u8]) -> Result<(), Unhealthy> {
        for byte in drawn {
            self.byte(*byte)?;
        }
        if let Some(head) = drawn.first_chunk::<DRAW>() {
            let digest = sha256(&[HEADS, head]);
            let mut head = [0; HEAD];
            head.copy_from_slice(&digest.0[..HEAD]);
            if !self.known.insert(head) {
                return Err(Unhealthy::Again);
            }
            self.draws.push_back(head);
            if self.draws.len() > DRAWS
                && let Some(oldest) = self.draws.pop_front()
            {
                self.known.remove(&oldest);
            }
        }
        Ok(())
    }

    fn byte(&mut self, byte: u8) -> Result<(), Unhealthy> {
        self.run = match self.last.replace(byte) {
            Some(last) if last == byte => self.run + 1,
            _ => 1,
        };
        if self.run >= REPEATED {
            return Err(Unhealthy::Repeats);
        }
        if self.place == 0 {
            (self.first, self.count) = (byte, 1);
        } else if byte == self.first {
            self.count += 1;
        }
        self.place = (self.place + 1) % WINDOW;
        if self.count >= PROPORTION {
            return Err(Unhealthy::Prefers);
        }
        Ok(())
    }
}

/// A generator all of whose output is tested. Once it has failed it counts as failed for good; who uses it asks before
/// anything that was drawn has an effect.
pub struct Watched {
    inner: Arc<dyn Random>,
    test: Mutex<HealthTest>,
    failed: AtomicBool,
}

impl Watched {
    /// Watches `inner` from now on.
    pub fn new(inner: Arc<dyn Random>) -> Self {
        Self {
            inner,
            test: Mutex::default(),
            failed: AtomicBool::new(false),
        }
    }

    /// Watches `inner`, which has stood the test of [`AT_START`] bytes.
    ///
    /// # Errors
    /// [`Unhealthy`]; it must not be used.
    pub fn begin(inner: Arc<dyn Random>) -> Result<Self, Unhealthy> {
        let mut drawn = [0; AT_START];
        inner.fill(&mut drawn);
        let mut test = HealthTest::default();
        test.feed(&drawn)?;
        let watched = Self::new(inner);
        *watched.test.lock().unwrap_or_else(PoisonError::into_inner) = test;
        Ok(watched)
    }

    /// Whether it has failed.
    pub fn failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    /// Begins anew. To be used only if the tests of a start follow at once.
    pub fn begin_again(&self) {
        *self.test.lock().unwrap_or_else(PoisonError::into_inner) = HealthTest::default();
        self.failed.store(false, Ordering::SeqCst);
    }
}

impl Random for Watched {
    fn fill(&self, out: &mut [u8]) {
        self.inner.fill(out);
        let mut test = self.test.lock().unwrap_or_else(PoisonError::into_inner);
        if test.feed(out).is_err() {
            self.failed.store(true, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{SeededRandom, SystemRandom};

    /// Probability that of `n` bytes at least `k` are a given one.
    fn tail(n: u32, k: u32) -> f64 {
        let p: f64 = 1.0 / 256.0;
        let mut term = (1.0 - p).powi(i32::try_from(n).unwrap());
        let mut below = Vec::new();
        for i in 0..=n {
            below.push(term);
            term *= f64::from(n - i) / f64::from(i + 1) * p / (1.0 - p);
        }
        // The small ones first.
        below
            .split_off(usize::try_from(k).unwrap())
            .iter()
            .rev()
            .sum()
    }

    // shows: III-3-11-random, II-3.3.2-random-quality
    #[test]
    fn the_cutoffs_are_those_of_the_standard_for_eight_bits_a_byte() {
        let never = 2_f64.powi(-60);
        assert!(tail(WINDOW - 1, PROPORTION - 1) < never);
        assert!(
            tail(WINDOW - 1, PROPORTION - 2) > never,
            "no higher than that"
        );
        assert!(2_f64.powi(-8 * i32::try_from(REPEATED - 1).unwrap()) < never);
        assert!(2_f64.powi(-8 * i32::try_from(REPEATED - 2).unwrap()) > never / 32.0);
        assert!(2_f64.powi(-8 * 12) * 1024.0 < never);
    }

    // shows: III-3-11-random, II-3.3.2-random-quality, III-3-13-detect-hardware, T-KEY-DERIVE
    #[test]
    fn a_generator_that_is_stuck_biased_or_set_back_is_found() {
        let mut good = HealthTest::default();
        let mut drawn = vec![0; 1 << 12];
        for _ in 0..256 {
            SystemRandom.fill(&mut drawn);
            good.feed(&drawn).unwrap();
        }
        let mut stuck = HealthTest::default();
        assert_eq!(stuck.feed(&[7; 9]), Ok(()));
        assert_eq!(stuck.feed(&[7]), Err(Unhealthy::Repeats));
        // Every sixteenth byte the same, the others good.
        let mut biased = HealthTest::default();
        let random = SeededRandom::new(1);
        let mut told = Ok(());
        for _ in 0..64 {
            let mut drawn = vec![0; 512];
            random.fill(&mut drawn);
            drawn.iter_mut().step_by(16).for_each(|b| *b = 7);
            told = told.and(biased.feed(&drawn));
        }
        assert_eq!(told, Err(Unhealthy::Prefers));
        // A generator whose state was copied.
        let mut again = HealthTest::default();
        for (seed, told) in [(1, Ok(())), (2, Ok(())), (1, Err(Unhealthy::Again))] {
            let drawn = SeededRandom::new(seed).digest32();
            assert_eq!(again.feed(&drawn.0), told, "{seed}");
        }
    }

    #[test]
    fn nothing_of_what_was_drawn_stays() {
        let mut test = HealthTest::default();
        let drawn: Vec<u8> = (0..64).collect();
        test.feed(&drawn).unwrap();
        let kept = test.draws.iter().chain(&test.known);
        for head in kept {
            for part in drawn.windows(4) {
                assert!(!head.windows(4).any(|kept| kept == part));
            }
        }
        assert_eq!(test.feed(&drawn), Err(Unhealthy::Again));
    }
}
