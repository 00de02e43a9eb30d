//! Texts of clients that a person will read.

pub use core_types::words::is_hidden;

/// Removes what isn't visible or turns the direction of text, and cuts to `max` characters.
pub fn clean(text: &str, max: usize) -> String {
    let visible = text.chars().filter(|c| !is_hidden(*c));
    visible.take(max).collect::<String>().trim().to_owned()
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
