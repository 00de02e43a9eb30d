//! Which sources agree, and what follows for our clock (the idea of RFC 5905 §11.2.1, after Marzullo).

use crate::packet::Sample;

/// Between what our clock's error lies, in microseconds: the true time less our clock's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// At least.
    pub low: i64,
    /// At most.
    pub high: i64,
}

impl Bound {
    /// The largest error that is possible, in milliseconds, rounded up.
    pub fn error_ms(self) -> u32 {
        let worst = self.low.unsigned_abs().max(self.high.unsigned_abs());
        u32::try_from(worst.div_ceil(1000)).unwrap_or(u32::MAX)
    }

    /// Whether a source may be right: what it says and what is agreed on have a moment in common.
    pub fn allows(self, sample: Sample) -> bool {
        sample.offset.saturating_sub(sample.distance) <= self.high
            && sample.offset.saturating_add(sample.distance) >= self.low
    }
}

/// What more than half of `configured` sources agree on; `None` when they don't.
///
/// Each source says that the truth lies between offset − distance and offset + distance. The bound spans every moment that more
/// than half of the sources allow: as long as fewer than half of them lie, the truth is within it, and no end of it is further out than
/// an honest source allows.
pub fn agree(samples: &[Sample], configured: usize) -> Option<Bound> {
    let need = configured / 2 + 1;
    if samples.len() < need {
        return None;
    }
    // Where intervals begin (first) and end, in order; those that only touch have that moment in common.
    let mut edges: Vec<(i64, bool)> = Vec::with_capacity(samples.len() * 2);
    for sample in samples {
        edges.push((sample.offset.saturating_sub(sample.distance), false));
        edges.push((sample.offset.saturating_add(sample.distance), true));
    }
    edges.sort_unstable();
    let (mut open, mut bound) = (0_usize, None::<Bound>);
    for (at, ends) in edges {
        if ends {
            if open >= need {
                bound = bound.map(|bound| Bound { high: at, ..bound });
            }
            open -= 1;
        } else {
            open += 1;
            if open >= need && bound.is_none() {
                bound = Some(Bound { low: at, high: at });
            }
        }
    }
    bound
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(offset: i64, distance: i64) -> Sample {
        Sample { offset, distance }
    }

    #[test]
    fn one_liar_of_three_moves_nothing_beyond_what_the_honest_allow() {
        let honest = [says(1000, 5000), says(-2000, 4000)];
        let both = agree(&honest, 3).unwrap();
        assert_eq!(
            both,
            Bound {
                low: -4000,
                high: 2000
            }
        );
        assert_eq!(both.error_ms(), 4);
        // Far off, and vague enough to agree with everybody.
        for lie in [says(10_000_000, 100), says(-10_000_000, 100)] {
            let bound = agree(&[honest[0], lie, honest[1]], 3).unwrap();
            assert_eq!(bound, both);
            assert!(!bound.allows(lie));
            assert!(honest.iter().all(|sample| bound.allows(*sample)));
        }
        let vague = agree(&[honest[0], says(900_000, 1_000_000), honest[1]], 3).unwrap();
        assert_eq!(
            vague,
            Bound {
                low: -6000,
                high: 6000
            }
        );
    }

    #[test]
    fn without_more_than_half_of_all_there_is_no_agreement() {
        let (here, there) = (says(0, 10), says(500, 10));
        assert_eq!(agree(&[], 3), None);
        assert_eq!(agree(&[here], 3), None);
        assert_eq!(agree(&[here, there], 3), None);
        // Two of four, although the others are silent.
        assert_eq!(agree(&[here, here], 4), None);
        assert!(agree(&[here, here, here], 4).is_some());
        // Two against two.
        assert_eq!(agree(&[here, here, there, there], 4), None);
        // Three that meet in pairs, and not all at once: of five that is no majority.
        assert_eq!(agree(&[says(0, 10), says(15, 10), says(30, 10)], 5), None);
        assert!(agree(&[says(0, 10), says(20, 10)], 3).is_some());
        assert!(agree(&[says(0, 10), says(21, 10)], 3).is_none());
    }

    #[test]
    fn a_clock_that_is_off_is_what_the_majority_says() {
        let bound = agree(&[says(5_000_000, 20), says(5_000_010, 20), says(0, 20)], 3).unwrap();
        assert!(!bound.allows(says(0, 20)));
        assert_eq!(bound.error_ms(), 5001);
        let behind = agree(&[says(-1500, 100), says(-1500, 100), says(-1500, 100)], 3).unwrap();
        assert_eq!(behind.error_ms(), 2);
        let most = agree(&[says(i64::MIN, 1), says(i64::MIN, 1)], 3).unwrap();
        assert_eq!(most.error_ms(), u32::MAX);
    }

    /// As long as fewer than half lie, however they do it, the truth is within the bound, and the bound within what honest
    /// sources allow.
    #[test]
    fn the_truth_is_within_the_bound_whatever_a_minority_says() {
        let lies = [-7, -3, -1, 0, 1, 3, 7];
        let widths = [0, 1, 4, 20];
        // The truth is 0; honest sources are off by less than they say.
        let honest = [says(1, 2), says(-2, 2), says(0, 1)];
        for a in lies {
            for b in lies {
                for width in widths {
                    let all = [
                        honest[0],
                        says(a, width),
                        honest[1],
                        says(b, width),
                        honest[2],
                    ];
                    let bound = agree(&all, 5).unwrap();
                    assert!(bound.low <= 0 && bound.high >= 0, "{a} {b} {width}");
                    assert!(bound.low >= -4 && bound.high <= 3, "{bound:?}");
                }
            }
        }
    }
}
