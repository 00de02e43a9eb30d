//! How foreign text and times are shown.

use core_types::UnixTime;
use time::{OffsetDateTime, UtcOffset, Weekday};

use crate::Lang;

/// Makes text from outside visible as it is: control characters and marks that change the direction of text become
/// 「�」. Code points of names are kept exactly: no normalisation, variation selectors stay.
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if is_hidden(c) { '\u{fffd}' } else { c })
        .collect()
}

fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{e0000}'..='\u{e007f}')
}

/// Wraps text in first-strong isolates, for places that can't hold `<bdi>`, such as titles and sentences.
pub fn isolate(text: &str) -> String {
    format!("\u{2068}{text}\u{2069}")
}

/// Cuts text in the middle to at most `max` characters, so that the ending of a file name stays.
pub fn middle(text: &str, max: usize) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= max || max < 3 {
        return text.to_owned();
    }
    let tail = (max - 1) / 2;
    let head = max - 1 - tail;
    let head: String = chars[..head].iter().collect();
    let tail: String = chars[chars.len() - tail..].iter().collect();
    format!("{head}…{tail}")
}

/// Puts a space after every four characters, for hashes and seeds that people compare or type.
pub fn group4(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let groups: Vec<String> = chars.chunks(4).map(|c| c.iter().collect()).collect();
    groups.join(" ")
}

fn in_japan(at: UnixTime) -> Option<OffsetDateTime> {
    let offset = UtcOffset::from_hms(9, 0, 0).ok()?;
    let utc = OffsetDateTime::from_unix_timestamp(at.0).ok()?;
    utc.checked_to_offset(offset)
}

/// The day in Japan, with the day of the week in Japanese.
pub(crate) fn jst_date(lang: Lang, at: UnixTime) -> String {
    let Some(t) = in_japan(at) else {
        return at.rfc3339();
    };
    let (year, day) = (t.year(), t.day());
    match lang {
        Lang::Ja => {
            let weekday = match t.weekday() {
                Weekday::Monday => '月',
                Weekday::Tuesday => '火',
                Weekday::Wednesday => '水',
                Weekday::Thursday => '木',
                Weekday::Friday => '金',
                Weekday::Saturday => '土',
                Weekday::Sunday => '日',
            };
            format!("{year}年{}月{day}日({weekday})", u8::from(t.month()))
        }
        Lang::En => {
            let month: String = t.month().to_string().chars().take(3).collect();
            format!("{day} {month} {year}")
        }
    }
}

/// Day and time with seconds in Japan, without the zone's name.
pub(crate) fn jst_time(lang: Lang, at: UnixTime) -> String {
    let Some(t) = in_japan(at) else {
        return at.rfc3339();
    };
    let clock = format!("{:02}:{:02}:{:02}", t.hour(), t.minute(), t.second());
    match lang {
        Lang::Ja => format!("{} {clock}", jst_date(lang, at)),
        Lang::En => format!("{}, {clock}", jst_date(lang, at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Messages;

    #[test]
    fn hidden_and_turning_characters_are_shown_as_a_mark() {
        assert_eq!(
            clean("a\u{202e}fdp.exe\n\u{200b}"),
            "a\u{fffd}fdp.exe\u{fffd}\u{fffd}"
        );
        let kept = "髙﨑𠮷\u{fa19} 邉\u{e0100}";
        assert_eq!(clean(kept), kept);
    }

    #[test]
    fn names_are_cut_in_the_middle() {
        assert_eq!(middle("業務委託契約書(第三版).pdf", 11), "業務委託契…).pdf");
        assert_eq!(middle("a.pdf", 11), "a.pdf");
    }

    #[test]
    fn times_are_japanese_time_in_both_languages() {
        let at = UnixTime(1_795_323_912);
        let (ja, en) = (Messages::new(Lang::Ja), Messages::new(Lang::En));
        assert_eq!(ja.time(at), "2026年11月22日(日) 14:05:12 日本時間");
        assert_eq!(en.time(at), "22 Nov 2026, 14:05:12 JST");
        assert_eq!(ja.date(at), "2026年11月22日(日)");
    }

    #[test]
    fn groups_of_four() {
        assert_eq!(group4("0123456789"), "0123 4567 89");
    }
}
