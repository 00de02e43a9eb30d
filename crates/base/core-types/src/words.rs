//! What people write that others read: names, and reasons for what they decide.

/// Longest reason in characters.
pub const LONGEST_REASON: usize = 200;

/// Whether this is a reason that others can read: 1 to [`LONGEST_REASON`] characters, none of them hidden, no blanks around.
pub fn is_reason(text: &str) -> bool {
    is_plain(text, LONGEST_REASON)
}

/// Whether these are 1 to `most` characters, none of them hidden, without blanks around.
pub fn is_plain(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.chars().count())
        && !text.chars().any(is_hidden)
        && text.trim() == text
}

/// Control characters, line separators, bidirectional controls, zero-width characters and tags.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            u32::from(c),
            0x00ad
                | 0x061c
                | 0x115f..=0x1160
                | 0x180e
                | 0x200b..=0x200f
                | 0x2028..=0x202e
                | 0x2060..=0x206f
                | 0x3164
                | 0xfeff
                | 0xfff9..=0xfffb
                | 0xe0000..=0xe007f
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_short_and_all_of_it_is_seen() {
        for good in ["x", "人事異動", &"x".repeat(LONGEST_REASON)] {
            assert!(is_reason(good), "{good}");
        }
        let long = "x".repeat(LONGEST_REASON + 1);
        for bad in [
            "",
            " ",
            " x",
            "x ",
            "a\nb",
            "a\u{202e}b",
            "a\u{200b}b",
            &long,
        ] {
            assert!(!is_reason(bad), "{bad:?}");
        }
    }
}
