//! Entries as lines of CSV (RFC 4180).

use web_ui::{Messages, clean};

use crate::entry::Entry;
use crate::words::{outcome, sentence};

/// Names of the columns, in the order of [`csv_line`].
pub fn csv_header() -> &'static str {
    "zone,place,node,number,time,type,class,outcome,subject,person,key,words,entry"
}

/// An entry as one record without its line end. No field begins in a way that a spreadsheet would compute.
pub fn csv_line(m: Messages, entry: &Entry) -> String {
    let fields = [
        entry.zone.clone(),
        entry.seq.to_string(),
        entry.node.clone(),
        entry.n.to_string(),
        entry.at.rfc3339(),
        entry.kind.clone(),
        entry.class.clone(),
        outcome(m, &entry.outcome),
        entry.subject.clone(),
        entry
            .person
            .as_deref()
            .or(entry.alias())
            .unwrap_or_default()
            .to_owned(),
        entry.key().unwrap_or_default().to_owned(),
        sentence(m, entry),
        entry.text.clone(),
    ];
    fields.map(|text| field(&text)).join(",")
}

/// What a spreadsheet takes for the beginning of a formula, full width included.
const FORMULA: [char; 11] = [
    '=', '+', '-', '@', '\t', '\r', '\n', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}',
];

/// Quoted, and with an apostrophe before what would be read as a formula.
fn field(text: &str) -> String {
    // Spaces and invisible characters may stand before the sign.
    let skipped = |c: char| c.is_whitespace() || clean(&c.to_string()) != c.to_string();
    let first = text.chars().find(|c| FORMULA.contains(c) || !skipped(*c));
    let guard = if first.is_some_and(|c| FORMULA.contains(&c)) {
        "'"
    } else {
        ""
    };
    format!("\"{guard}{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use web_ui::Lang;

    use super::*;

    #[test]
    fn nothing_begins_like_a_formula_and_quotes_stay_inside() {
        for (text, shown) in [
            ("plain", "\"plain\""),
            ("a,\"b\"\r\nc", "\"a,\"\"b\"\"\r\nc\""),
            ("=1+1", "\"'=1+1\""),
            ("+1", "\"'+1\""),
            ("-1", "\"'-1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("\t=1", "\"'\t=1\""),
            ("\r=1", "\"'\r=1\""),
            (" =1", "\"' =1\""),
            ("\u{200b}=1", "\"'\u{200b}=1\""),
            ("\u{ff1d}1", "\"'\u{ff1d}1\""),
            ("", "\"\""),
        ] {
            assert_eq!(field(text), shown, "{text:?}");
        }
    }

    /// Fields of a record as RFC 4180 has them.
    fn read(line: &str) -> Vec<String> {
        let (mut fields, mut quoted) = (vec![String::new()], false);
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            match (c, quoted) {
                ('"', true) if chars.next_if_eq(&'"').is_some() => {
                    fields.last_mut().unwrap().push('"');
                }
                ('"', _) => quoted = !quoted,
                (',', false) => fields.push(String::new()),
                (c, _) => fields.last_mut().unwrap().push(c),
            }
        }
        fields
    }

    #[test]
    fn a_hostile_name_in_an_entry_stays_in_its_field() {
        let text = r#"{"zone":"=x","node":"\",=2","n":1,"at":0,"subject":"@s","outcome":"-o","class":"+c","kind":"=k"}"#;
        let entry = Entry::parse(0, text, Some("=HYPERLINK(\"http://x\")".to_owned())).unwrap();
        let line = csv_line(Messages::new(Lang::En), &entry);
        let fields = read(&line);
        assert_eq!(fields.len(), csv_header().split(',').count(), "{line}");
        for field in fields {
            assert!(!field.starts_with(FORMULA), "{field:?} in {line}");
        }
    }
}
