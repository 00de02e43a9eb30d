//! The 48 bytes that go to a server and come back (RFC 5905 §7.3).

use std::time::Duration;

/// Size of a packet without extensions, in bytes.
pub const PACKET: usize = 48;
/// Version 4, mode 3 (client), nothing said of leap seconds.
const CLIENT: u8 = (4 << 3) | 3;
/// Seconds from 1900, where NTP begins, to 1970.
const FROM_1900: u64 = 2_208_988_800;
/// Servers beyond this stratum aren't synchronised (RFC 5905 §7.3).
const MOST_STRATUM: u8 = 15;
/// Whoever may be off by more than this, in microseconds, tells nothing (MAXDIST of RFC 5905 is 1.5 s).
const MOST_DISTANCE: i64 = 1_000_000;
/// What reading our own clock costs, in microseconds.
const OWN: i64 = 1000;

/// What one server said of our clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Its clock less ours, in microseconds.
    pub offset: i64,
    /// How far that may be from the truth, in microseconds: half of the ways there and to its own source, and its dispersion
    /// (the root synchronisation distance of RFC 5905 §11.1).
    pub distance: i64,
}

/// Why a server's answer is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAnswer {
    /// Nothing came in time.
    Silent,
    /// Its name has no address, or nothing could be sent there.
    Unreachable,
    /// It has the address of another source: it isn't counted twice.
    Same,
    /// Something came that answers no request of ours: an answer to an older one, or a forged one.
    Foreign,
    /// No packet of a server.
    Malformed,
    /// It says of itself that it isn't synchronised (any other kiss code, leap indicator, stratum), or may be off by more than a
    /// second.
    Unsynchronised,
    /// It asks for fewer questions (kiss code `RATE`, RFC 5905 §7.4).
    Slower,
    /// It wants no questions of ours (`DENY`, `RSTR`).
    Denied,
}

impl NoAnswer {
    /// The word for logs.
    pub fn code(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Unreachable => "unreachable",
            Self::Same => "same-address",
            Self::Foreign => "foreign-answer",
            Self::Malformed => "malformed",
            Self::Unsynchronised => "source-unsynchronised",
            Self::Slower => "asks-for-less",
            Self::Denied => "denied",
        }
    }
}

/// A request. `nonce`: stands where a client's clock would stand, and comes back as the origin timestamp; random, so that nobody
/// who doesn't see it can answer, and that nobody who sees it learns our clock.
pub fn request(nonce: u64) -> [u8; PACKET] {
    let mut packet = [0; PACKET];
    packet[0] = CLIENT;
    packet[40..].copy_from_slice(&nonce.to_be_bytes());
    packet
}

/// Reads an answer to [`request`]. `sent`: what our clock said then, as time since 1970. `took`: what passed until the answer came.
///
/// # Errors
/// [`NoAnswer`]: what is none. [`NoAnswer::Foreign`] before anything else of it is believed.
pub fn read(bytes: &[u8], nonce: u64, sent: Duration, took: Duration) -> Result<Sample, NoAnswer> {
    // What follows the 48 bytes is extensions that we didn't ask for.
    let packet: &[u8; PACKET] = bytes.first_chunk().ok_or(NoAnswer::Malformed)?;
    if long(packet, 24) != nonce {
        return Err(NoAnswer::Foreign);
    }
    let (leap, version, mode) = (packet[0] >> 6, (packet[0] >> 3) & 7, packet[0] & 7);
    if mode != 4 || !(3..=4).contains(&version) {
        return Err(NoAnswer::Malformed);
    }
    let stratum = packet[1];
    if stratum == 0 {
        return Err(match &packet[12..16] {
            b"RATE" => NoAnswer::Slower,
            b"DENY" | b"RSTR" => NoAnswer::Denied,
            _ => NoAnswer::Unsynchronised,
        });
    }
    let (received, answered) = (long(packet, 32), long(packet, 40));
    if leap == 3 || stratum > MOST_STRATUM || received == 0 || answered == 0 {
        return Err(NoAnswer::Unsynchronised);
    }
    let (begun, ended) = (stamp(sent), stamp(sent.saturating_add(took)));
    // Differences are taken modulo 2^32 seconds, so that the end of the era in 2036 is a moment like any other.
    let (there, back) = (micros(received, begun), micros(answered, ended));
    let offset = there.midpoint(back);
    let took = i64::try_from(took.as_micros()).unwrap_or(i64::MAX);
    let kept = micros(answered, received);
    // Nobody answers before the question, nor keeps it for longer than it was away.
    if kept < 0 || kept > took.saturating_add(OWN) {
        return Err(NoAnswer::Malformed);
    }
    let delay = took.saturating_sub(kept).max(0);
    let (root_delay, dispersion) = (short(packet, 4), short(packet, 8));
    let distance = (root_delay.saturating_add(delay) / 2)
        .saturating_add(dispersion)
        .saturating_add(OWN);
    match distance > MOST_DISTANCE {
        true => Err(NoAnswer::Unsynchronised),
        false => Ok(Sample { offset, distance }),
    }
}

/// Eight bytes from `at` on: seconds since 1900 and their 2^-32 parts.
fn long(packet: &[u8; PACKET], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&packet[at..at + 8]);
    u64::from_be_bytes(bytes)
}

/// Four bytes from `at` on, seconds and their 2^-16 parts, in microseconds, rounded up.
fn short(packet: &[u8; PACKET], at: usize) -> i64 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&packet[at..at + 4]);
    let parts = u64::from(u32::from_be_bytes(bytes));
    i64::try_from((parts * 1_000_000).div_ceil(1 << 16)).unwrap_or(i64::MAX)
}

/// Time since 1970 in NTP's form.
pub(crate) fn stamp(since_1970: Duration) -> u64 {
    let parts = (u64::from(since_1970.subsec_nanos()) << 32) / 1_000_000_000;
    (since_1970.as_secs().wrapping_add(FROM_1900) << 32) | parts
}

/// `a` less `b` in microseconds; of the two ways around the era the shorter one.
fn micros(a: u64, b: u64) -> i64 {
    let parts = i128::from(a.wrapping_sub(b).cast_signed());
    i64::try_from((parts * 1_000_000) >> 32).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: u64 = 0x0123_4567_89ab_cdef;
    const SENT: Duration = Duration::from_secs(1_790_000_000);
    const TOOK: Duration = Duration::from_millis(20);

    /// A server whose clock is ahead by so much, that answers at once in the middle of the way.
    fn answer(ahead_micros: i64) -> [u8; PACKET] {
        let middle = SENT + TOOK / 2;
        let by = Duration::from_micros(ahead_micros.unsigned_abs());
        let theirs = if ahead_micros < 0 {
            middle - by
        } else {
            middle + by
        };
        let mut packet = [0; PACKET];
        packet[0] = (4 << 3) | 4;
        packet[1] = 1;
        packet[24..32].copy_from_slice(&NONCE.to_be_bytes());
        packet[32..40].copy_from_slice(&stamp(theirs).to_be_bytes());
        packet[40..48].copy_from_slice(&stamp(theirs).to_be_bytes());
        packet
    }

    fn got(packet: &[u8]) -> Result<Sample, NoAnswer> {
        read(packet, NONCE, SENT, TOOK)
    }

    #[test]
    fn an_offset_is_found_to_the_microsecond_and_its_doubt_is_half_the_way() {
        for ahead in [0, 1, -1, 250_000, -250_000, 3_600_000_000, -3_600_000_000] {
            let sample = got(&answer(ahead)).unwrap();
            assert!((sample.offset - ahead).abs() <= 2, "{ahead} {sample:?}");
            assert!((sample.distance - 10_000 - OWN).abs() <= 2, "{sample:?}");
        }
        // What the server says of its own way to the time is added: 1/4 s of delay, 1/8 s of dispersion.
        let mut vague = answer(0);
        vague[4..8].copy_from_slice(&0x4000_u32.to_be_bytes());
        vague[8..12].copy_from_slice(&0x2000_u32.to_be_bytes());
        let sample = got(&vague).unwrap();
        assert!((sample.distance - 10_000 - OWN - 250_000).abs() <= 2);
    }

    #[test]
    fn what_answers_another_question_is_believed_in_nothing() {
        let mut other = answer(0);
        other[31] ^= 1;
        // Not even in that it wants no more questions.
        other[1] = 0;
        other[12..16].copy_from_slice(b"DENY");
        assert_eq!(got(&other), Err(NoAnswer::Foreign));
        assert_eq!(got(&[0; 47]), Err(NoAnswer::Malformed));
        assert_eq!(got(&[0; PACKET]), Err(NoAnswer::Foreign));
        // Our own request, sent back.
        assert_eq!(got(&request(NONCE)), Err(NoAnswer::Foreign));
    }

    #[test]
    fn who_is_no_synchronised_server_says_nothing_of_the_time() {
        let changed = |change: &dyn Fn(&mut [u8; PACKET])| {
            let mut packet = answer(0);
            change(&mut packet);
            got(&packet)
        };
        use NoAnswer::{Denied, Malformed, Slower, Unsynchronised};
        let kiss = |code: &'static [u8; 4]| {
            changed(&|p| {
                p[1] = 0;
                p[12..16].copy_from_slice(code);
            })
        };
        assert_eq!(kiss(b"RATE"), Err(Slower));
        assert_eq!(kiss(b"DENY"), Err(Denied));
        assert_eq!(kiss(b"RSTR"), Err(Denied));
        assert_eq!(kiss(b"INIT"), Err(Unsynchronised));
        assert_eq!(changed(&|p| p[0] |= 0xc0), Err(Unsynchronised));
        assert_eq!(changed(&|p| p[1] = 16), Err(Unsynchronised));
        assert_eq!(changed(&|p| p[40..48].fill(0)), Err(Unsynchronised));
        // A dispersion of more than a second.
        assert_eq!(changed(&|p| p[9] = 2), Err(Unsynchronised));
        assert_eq!(changed(&|p| p[4..8].fill(0xff)), Err(Unsynchronised));
        assert_eq!(changed(&|p| p[0] = (4 << 3) | 5), Err(Malformed));
        assert_eq!(changed(&|p| p[0] = (4 << 3) | 3), Err(Malformed));
        assert_eq!(changed(&|p| p[0] = (1 << 3) | 4), Err(Malformed));
        // Kept for a second, of which only 20 ms had passed here; and answered before it came.
        assert_eq!(changed(&|p| p[43] = p[43].wrapping_add(1)), Err(Malformed));
        assert_eq!(changed(&|p| p[35] = p[35].wrapping_add(1)), Err(Malformed));
    }

    #[test]
    fn the_end_of_the_era_is_a_moment_like_any_other() {
        // 2036-02-07T06:28:16Z.
        let end = Duration::from_secs((1 << 32) - FROM_1900);
        assert_eq!(stamp(end), 0);
        assert_eq!(stamp(end + Duration::from_secs(1)) >> 32, 1);
        let sent = end - Duration::from_millis(5);
        let mut packet = answer(0);
        let there = stamp(end + Duration::from_millis(5)).to_be_bytes();
        packet[32..40].copy_from_slice(&there);
        packet[40..48].copy_from_slice(&there);
        let sample = read(&packet, NONCE, sent, TOOK).unwrap();
        assert!(sample.offset.abs() <= 2, "{sample:?}");
    }

    /// Whatever comes, it is read or refused, and what is read is bounded.
    #[test]
    fn no_bytes_make_an_endless_doubt() {
        for byte in 0..PACKET {
            for value in 0..=255 {
                let mut packet = answer(0);
                packet[byte] = value;
                if let Ok(sample) = got(&packet) {
                    assert!((OWN..=MOST_DISTANCE).contains(&sample.distance));
                }
                let _ = read(&packet, NONCE, Duration::ZERO, Duration::MAX);
                let _ = read(&packet, NONCE, Duration::MAX, Duration::ZERO);
            }
        }
    }
}
