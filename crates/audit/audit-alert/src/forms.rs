//! The forms in which alerts are told: a mail, the body of a webhook, metrics.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use core_types::UnixTime;
use serde_json::json;
use web_ui::{Arg, Lang, Messages, clean};

use crate::quiet::Notice;
use crate::rules::{RULES, Severity};

/// What happened, and what to do.
fn words(m: Messages, notice: &Notice) -> (String, String) {
    let alert = &notice.alert;
    let id = format!("alert-{}", alert.rule);
    let values = [
        ("zone", Arg::Text(&alert.zone)),
        ("about", Arg::Text(&alert.about)),
    ];
    (m.f(&id, &values), m.t(&format!("{id}-do")))
}

/// Subject and text of a mail, in both languages. Nothing of it is a link, and nothing hurries.
pub fn mail(service: &str, notice: &Notice) -> (String, String) {
    let alert = &notice.alert;
    let mut text = String::new();
    for lang in Lang::ALL {
        let m = Messages::new(lang);
        let (what, todo) = words(m, notice);
        // A mail is plain text: marks that turn the direction of text don't belong there.
        let _ = writeln!(text, "{}\n{todo}\n", clean_marks(&what));
        let place = alert.seq.map_or_else(String::new, |seq| {
            format!("  {} #{seq}  {}", alert.zone, alert.kind)
        });
        let _ = writeln!(text, "{}{}", m.time(alert.at), clean(&place));
        if notice.more > 0 {
            let _ = writeln!(text, "{}", m.n("alert-more", notice.more));
        }
        text.push('\n');
    }
    let m = Messages::new(Lang::Ja);
    let id = match alert.severity {
        Severity::Critical => "alert-subject-critical",
        Severity::Warning => "alert-subject-warning",
    };
    let subject = m.f(
        id,
        &[
            ("service", Arg::Own(&clean(service))),
            ("rule", Arg::Own(&alert.rule)),
        ],
    );
    (subject, text)
}

fn clean_marks(text: &str) -> String {
    text.chars()
        .filter(|c| !matches!(c, '\u{2066}'..='\u{2069}'))
        .collect()
}

/// Body of a webhook (JSON).
pub fn webhook(service: &str, notice: &Notice) -> String {
    let alert = &notice.alert;
    let said = |lang| {
        let (what, todo) = words(Messages::new(lang), notice);
        json!({"what": clean_marks(&what), "do": todo})
    };
    json!({
        "schema": "natsuin.alert/1", "service": service, "rule": alert.rule, "severity": alert.severity,
        "time": alert.at.rfc3339(), "zone": alert.zone, "about": alert.about, "seq": alert.seq, "kind": alert.kind,
        "more": notice.more, "ja": said(Lang::Ja), "en": said(Lang::En),
    })
    .to_string()
}

/// What is counted for Prometheus.
#[derive(Debug, Default)]
pub struct Counts {
    alerts: BTreeMap<String, u64>,
    entries: BTreeMap<(String, String), u64>,
    last: BTreeMap<String, i64>,
    /// Readings of a zone's log that failed, by zone's address.
    pub unread: BTreeMap<String, u64>,
    /// Notices that couldn't be delivered, by way.
    pub undelivered: BTreeMap<String, u64>,
    /// When certificates end, by file.
    pub certificates: BTreeMap<String, i64>,
}

impl Counts {
    /// Counts an entry.
    pub fn entry(&mut self, zone: &str, outcome: &str, at: UnixTime) {
        *self
            .entries
            .entry((zone.to_owned(), outcome.to_owned()))
            .or_default() += 1;
        let last = self.last.entry(zone.to_owned()).or_insert(at.0);
        *last = at.0.max(*last);
    }

    /// Counts an alert.
    pub fn alert(&mut self, rule: &str) {
        *self.alerts.entry(rule.to_owned()).or_default() += 1;
    }

    /// The text of `/metrics` (Prometheus exposition format). Every rule is there from the beginning, so that a first alert is
    /// an increase.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, help: &str, lines: Vec<(String, String)>| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in lines {
                let _ = writeln!(text, "{name}{{{labels}}} {value}");
            }
        };
        let alerts = RULES.iter().map(|(rule, severity)| {
            let severity = match severity {
                Severity::Critical => "critical",
                Severity::Warning => "warning",
            };
            let n = self.alerts.get(*rule).copied().unwrap_or_default();
            (
                format!("rule=\"{rule}\",severity=\"{severity}\""),
                n.to_string(),
            )
        });
        family(
            "natsuin_alerts_total",
            "counter",
            "Alerts by rule, told or held back.",
            alerts.collect(),
        );
        let entries = self.entries.iter();
        let entries = entries.map(|((zone, outcome), n)| {
            (
                format!("zone=\"{}\",outcome=\"{}\"", label(zone), label(outcome)),
                n.to_string(),
            )
        });
        family(
            "natsuin_audit_entries_total",
            "counter",
            "Entries of the logs that were read.",
            entries.collect(),
        );
        let one = |of: &BTreeMap<String, i64>, name: &str| {
            of.iter()
                .map(|(k, n)| (format!("{name}=\"{}\"", label(k)), n.to_string()))
                .collect()
        };
        let many = |of: &BTreeMap<String, u64>, name: &str| {
            of.iter()
                .map(|(k, n)| (format!("{name}=\"{}\"", label(k)), n.to_string()))
                .collect()
        };
        family(
            "natsuin_audit_last_entry_timestamp_seconds",
            "gauge",
            "Time of the newest entry that was read.",
            one(&self.last, "zone"),
        );
        family(
            "natsuin_audit_unread_total",
            "counter",
            "Readings of a log that failed.",
            many(&self.unread, "url"),
        );
        family(
            "natsuin_alerts_undelivered_total",
            "counter",
            "Notices that couldn't be delivered.",
            many(&self.undelivered, "way"),
        );
        family(
            "natsuin_certificate_end_timestamp_seconds",
            "gauge",
            "When a certificate ends.",
            one(&self.certificates, "file"),
        );
        text
    }
}

/// A label's value: what could end it or begin a line is escaped.
fn label(text: &str) -> String {
    clean(text).replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Alert;

    fn notice(rule: &str, about: &str) -> Notice {
        let alert = Alert {
            rule: rule.to_owned(),
            severity: Severity::Critical,
            at: UnixTime(1_795_323_912),
            zone: "sam".to_owned(),
            about: about.to_owned(),
            seq: Some(7),
            kind: "alarm".to_owned(),
            targets: Vec::new(),
        };
        Notice { alert, more: 3 }
    }

    #[test]
    fn every_rule_has_words_in_both_languages() {
        for (rule, _) in RULES {
            for lang in Lang::ALL {
                let (what, todo) = words(Messages::new(lang), &notice(rule, "X1"));
                assert!(
                    !what.starts_with("alert-") && !todo.starts_with("alert-"),
                    "{rule}: {what} / {todo}"
                );
                assert!(
                    !what.contains('$') && !todo.contains('$'),
                    "{rule}: {what} / {todo}"
                );
            }
        }
    }

    #[test]
    fn hostile_text_stays_what_it_is() {
        let hostile = "x\r\nBcc: a@b\u{202e}\"} 1\n# y";
        let (subject, text) = mail("svc\r\nX: y", &notice("alarm", hostile));
        assert!(!subject.contains(['\r', '\n']), "{subject:?}");
        assert!(
            !text.contains("\nBcc") && !text.contains('\r') && !text.contains('\u{202e}'),
            "{text:?}"
        );
        assert!(text.contains("3件") && text.contains("sam #7"), "{text}");
        let mut counts = Counts::default();
        counts.entry(hostile, "success", UnixTime(5));
        counts.unread.insert(hostile.to_owned(), 1);
        for line in counts.text().lines() {
            let ours = line.starts_with("# HELP natsuin_")
                || line.starts_with("# TYPE natsuin_")
                || line.starts_with("natsuin_");
            assert!(ours, "{line}");
        }
    }

    #[test]
    fn a_webhook_says_the_same_in_both_languages() {
        let sent: serde_json::Value =
            serde_json::from_str(&webhook("svc", &notice("alarm", "x"))).unwrap();
        assert_eq!(
            (sent["rule"].as_str(), sent["more"].as_u64()),
            (Some("alarm"), Some(3))
        );
        assert!(sent["ja"]["what"].as_str().unwrap().contains("警報"));
        assert!(sent["en"]["do"].as_str().unwrap().contains("incidents"));
    }

    #[test]
    fn counters_begin_with_zero_for_every_rule() {
        let mut counts = Counts::default();
        assert!(
            counts
                .text()
                .contains("natsuin_alerts_total{rule=\"wrong-value\",severity=\"critical\"} 0\n")
        );
        counts.alert("wrong-value");
        assert!(
            counts
                .text()
                .contains("natsuin_alerts_total{rule=\"wrong-value\",severity=\"critical\"} 1\n")
        );
    }
}
