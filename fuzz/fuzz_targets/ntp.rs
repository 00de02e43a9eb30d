//! What a server of time answers: read or refused, and what is read is bounded.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let nonce = 0x0123_4567_89ab_cdef;
    let (sent, took) = (Duration::from_secs(1_790_000_000), Duration::from_millis(20));
    if let Ok(sample) = ntp::read(data, nonce, sent, took) {
        assert!((1..=1_000_000).contains(&sample.distance));
        // One voice of three is no agreement, and three are one.
        assert_eq!(ntp::agree(&[sample], 3), None);
        let bound = ntp::agree(&[sample; 3], 3).expect("they agree");
        assert!(bound.allows(sample));
        let _ = bound.error_ms();
    }
});
