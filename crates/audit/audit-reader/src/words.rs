//! Entries as sentences.

use core_types::{Digest32, UnixTime};
use serde_json::{Value, json};
use web_ui::{Arg, Messages, clean};

use crate::entry::{Entry, PERSONS};

/// Members that are points in time.
const TIMES: [&str; 2] = ["until", "sign_until"];
/// Members whose words the program's text fixes.
const WORDS: [&str; 10] = [
    "reason", "method", "what", "state", "to", "why", "effect", "roles", "change", "whose",
];
/// Members that some types of events haven't had from the beginning.
const LATER: [&str; 5] = ["session", "from", "credential", "approval", "client"];
/// Characters of a digest that are shown.
const SHORT: usize = 10;

/// A value ready to stand in a sentence.
enum Shown {
    Foreign(String),
    Own(String),
    Number(u64),
}

/// What happened, in one sentence. An event that isn't in the vocabulary of this program is named by its type.
pub fn sentence(m: Messages, entry: &Entry) -> String {
    let id = format!("event-{}", entry.kind.replace('.', "-"));
    if !m.has(&id) {
        return m.f("audit-unknown-event", &[("kind", Arg::Text(&entry.kind))]);
    }
    let values = entry.detail.iter();
    let mut values: Vec<_> = values
        .map(|(name, value)| (name.as_str(), show(m, entry, name, value)))
        .collect();
    // Entries of older programs don't have them.
    for name in LATER {
        if !entry.detail.contains_key(name) {
            values.push((name, show(m, entry, name, &Value::Null)));
        }
    }
    let args = values.iter().map(|(name, value)| {
        let arg = match value {
            Shown::Foreign(text) => Arg::Text(text),
            Shown::Own(text) => Arg::Own(text),
            Shown::Number(n) => Arg::Num(*n),
        };
        (*name, arg)
    });
    m.f(&id, &args.collect::<Vec<_>>())
}

/// Time, place, outcome and sentence.
pub fn line(m: Messages, entry: &Entry) -> String {
    let (time, zone) = (m.time(entry.at), clean(&entry.zone));
    let outcome = outcome(m, &entry.outcome);
    format!(
        "{time}  {zone} #{}  [{outcome}]  {}",
        entry.seq,
        sentence(m, entry)
    )
}

/// The entry for programs: what its text says, with the sentence beside.
pub fn json(m: Messages, entry: &Entry) -> Value {
    let text: Value = serde_json::from_str(&entry.text).unwrap_or_default();
    json!({
        "zone": entry.zone, "seq": entry.seq, "node": entry.node, "n": entry.n,
        "time": entry.at.rfc3339(), "kind": entry.kind, "class": entry.class, "outcome": entry.outcome,
        "subject": entry.subject, "person": entry.person, "from": entry.from, "key": entry.key(),
        "words": sentence(m, entry), "entry": text,
    })
}

pub(crate) fn outcome(m: Messages, outcome: &str) -> String {
    let id = format!("audit-outcome-{outcome}");
    if m.has(&id) { m.t(&id) } else { clean(outcome) }
}

fn show(m: Messages, entry: &Entry, name: &str, value: &Value) -> Shown {
    let person = PERSONS.contains(&name);
    match (value, &entry.person) {
        (Value::Null, _) if person || name == "client" => Shown::Own(m.t("audit-somebody")),
        (Value::Null, _) if name == "from" => Shown::Own(m.t("audit-from-unknown")),
        (Value::Null, _) => Shown::Own(m.t("audit-none")),
        (Value::String(_), Some(known)) if person => Shown::Foreign(known.clone()),
        (Value::String(_), _) if name == "from" && entry.from.is_some() => {
            Shown::Foreign(entry.from.clone().unwrap_or_default())
        }
        (Value::String(text), _) if Digest32::parse(text).is_ok() => {
            Shown::Own(format!("{}…", text.get(..SHORT).unwrap_or_default()))
        }
        (Value::String(text), _) if WORDS.contains(&name) => word(m, text),
        (Value::String(text), _) => Shown::Foreign(text.clone()),
        (Value::Number(n), _) if TIMES.contains(&name) => {
            Shown::Own(m.time(UnixTime(n.as_i64().unwrap_or_default())))
        }
        (Value::Number(n), _) => n
            .as_u64()
            .map_or_else(|| Shown::Own(n.to_string()), Shown::Number),
        (Value::Bool(yes), _) => Shown::Own(m.t(if *yes { "audit-yes" } else { "audit-no" })),
        (other, _) => Shown::Foreign(other.to_string()),
    }
}

/// Words of the program's own text are translated if there are words for them; several may be joined by `+`.
fn word(m: Messages, text: &str) -> Shown {
    let ids = text.split('+').map(|part| format!("audit-word-{part}"));
    let ids: Vec<String> = ids.collect();
    if ids.iter().all(|id| m.has(id)) {
        let words: Vec<String> = ids.iter().map(|id| m.t(id)).collect();
        Shown::Own(words.join(" + "))
    } else {
        Shown::Foreign(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use audit_log::Event;
    use web_ui::Lang;

    use super::*;

    fn entry(kind: &str, detail: &Value) -> Entry {
        let text = json!({
            "v": 1, "zone": "sam", "node": "a", "n": 1, "at": 1_795_323_912, "subject": "service:sam",
            "outcome": "failure", "class": "access", "kind": kind, "detail": detail,
        });
        Entry::parse(7, &text.to_string(), None).unwrap()
    }

    // shows: I-7.1.4.5-readable
    #[test]
    fn every_event_has_a_sentence_in_both_languages_and_no_value_is_forgotten() {
        for (kind, members) in Event::KINDS.iter().zip(Event::MEMBERS) {
            let marked = members
                .iter()
                .map(|name| ((*name).to_owned(), Value::from("X1")));
            let entry = entry(kind, &Value::Object(marked.collect()));
            for lang in Lang::ALL {
                let m = Messages::new(lang);
                assert!(
                    m.has(&format!("event-{}", kind.replace('.', "-"))),
                    "{kind}: no sentence"
                );
                let said = sentence(m, &entry);
                assert!(!said.contains('$') && !said.contains('{'), "{kind}: {said}");
                assert!(
                    members.is_empty() || kind.ends_with("settings") || said.contains("X1"),
                    "{kind}: {said}"
                );
            }
        }
    }

    // shows: I-A5-audit-detects-impersonation
    #[test]
    fn a_login_tells_where_from_in_which_session_with_what_and_older_ones_that_nobody_knows() {
        let digest = |n: u8| Digest32([n; 32]).to_string();
        let login = entry(
            "login.succeeded",
            &json!({"person": digest(7), "method": "passkey", "session": digest(1), "from": digest(2), "credential": digest(3)}),
        );
        let en = Messages::new(Lang::En);
        let said = sentence(en, &login);
        for part in [digest(1), digest(2), digest(3)] {
            assert!(said.contains(&part[..SHORT]), "{said}");
        }
        let login = login.come_from(Some("203.0.113.5".to_owned()));
        let said = sentence(en, &login);
        assert!(said.contains("203.0.113.5") && !said.contains(&digest(2)[..SHORT]));
        let older = entry(
            "login.succeeded",
            &json!({"person": digest(7), "method": "totp"}),
        );
        let said = sentence(en, &older);
        assert!(!said.contains('$') && !said.contains('{'), "{said}");
    }

    #[test]
    fn there_is_no_sentence_without_an_event() {
        let known: BTreeSet<_> = Event::KINDS
            .iter()
            .map(|k| format!("event-{}", k.replace('.', "-")))
            .collect();
        assert_eq!(known.len(), Event::KINDS.len());
        let told = Messages::new(Lang::En).catalogue("audit").into_iter();
        let told: BTreeSet<_> = told
            .map(|(id, _)| id)
            .filter(|id| id.starts_with("event-"))
            .collect();
        assert_eq!(told, known);
    }

    #[test]
    fn persons_times_digests_and_words_are_shown_as_people_read_them() {
        let alias = Digest32([7; 32]).to_string();
        let mut locked = entry(
            "login.locked",
            &json!({"person": alias, "until": 1_795_323_912}),
        );
        let (ja, en) = (Messages::new(Lang::Ja), Messages::new(Lang::En));
        let said = sentence(en, &locked);
        assert_eq!(
            said,
            "Logins of BwcHBwcHBw… are locked until 22 Nov 2026, 14:05:12 JST."
        );
        locked.person = Some("hana\u{202e}ko".to_owned());
        assert_eq!(
            sentence(ja, &locked),
            "\u{2068}hana\u{fffd}ko\u{2069}のログインを2026年11月22日(日) 14:05:12 日本時間までロックした。"
        );
        let failed = entry(
            "login.failed",
            &json!({"person": null, "method": "totp", "reason": "odd"}),
        );
        assert_eq!(
            line(en, &failed),
            "22 Nov 2026, 14:05:12 JST  sam #7  [FAILED]  \
             A login of somebody unknown failed (one-time code): \u{2068}odd\u{2069}; from: unknown."
        );
        let roles = entry(
            "officer.changed",
            &json!({"officer": "jiro", "roles": "system-administrator+system-operator", "until": 0, "by": alias}),
        );
        assert!(sentence(ja, &roles).contains("システム管理者 + システム運用担当者"));
        let newer = entry("moon.rose", &json!({}));
        assert!(sentence(en, &newer).contains("moon.rose"));
    }
}
