//! Texts of clients that a person will read.

/// Removes what isn't visible or turns the direction of text, and cuts to `max` characters.
pub fn clean(text: &str, max: usize) -> String {
    let visible = text.chars().filter(|c| !is_hidden(*c));
    visible.take(max).collect::<String>().trim().to_owned()
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
    fn labels_lose_what_cannot_be_seen() {
        let tricky = "a\u{202e}fdp.exe\u{2066}\u{0007}\n";
        assert_eq!(clean(tricky, 200), "afdp.exe");
        assert_eq!(clean("契約書（髙橋）.pdf", 200), "契約書（髙橋）.pdf");
        assert_eq!(clean(&"x".repeat(10_000_000), 200).len(), 200);
        assert_eq!(clean("<b>x</b>", 200), "<b>x</b>");
    }
}
