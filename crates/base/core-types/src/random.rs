//! Randomness as an argument.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::bytes::{Digest32, sha256};

/// Where random bytes come from. Implementations must be unpredictable unless they are for tests.
pub trait Random: Send + Sync {
    /// Fills `out` with random bytes.
    fn fill(&self, out: &mut [u8]);

    /// 32 random bytes.
    fn digest32(&self) -> Digest32 {
        let mut out = [0; 32];
        self.fill(&mut out);
        Digest32(out)
    }
}

/// The operating system's generator through AWS-LC; only composition roots name it.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    #[expect(
        clippy::expect_used,
        reason = "without randomness nothing may go on: fail closed"
    )]
    fn fill(&self, out: &mut [u8]) {
        aws_lc_rs::rand::fill(out).expect("the system's random generator failed");
    }
}

/// Predictable bytes from a seed, for tests only.
#[derive(Debug)]
pub struct SeededRandom {
    seed: u64,
    counter: AtomicU64,
}

impl SeededRandom {
    /// A generator that yields the same bytes for the same seed.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            counter: AtomicU64::new(0),
        }
    }
}

impl Random for SeededRandom {
    fn fill(&self, out: &mut [u8]) {
        for chunk in out.chunks_mut(32) {
            let n = self.counter.fetch_add(1, Ordering::SeqCst);
            let block = sha256(&[b"seeded-random", &self.seed.to_be_bytes(), &n.to_be_bytes()]);
            chunk.copy_from_slice(&block.0[..chunk.len()]);
        }
    }
}
