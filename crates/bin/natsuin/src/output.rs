//! What the command line prints: results on standard output, everything else on standard error.

use std::io::Write;
use std::process::ExitCode;

use core_types::UnixTime;
use serde::Serialize;
use serde_json::{Value, json};
use service_kit::Trouble;
use unicode_width::UnicodeWidthStr as _;
use web_ui::{Arg, Lang, Messages, clean};

/// Exit codes of every command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done and all good.
    Good = 0,
    /// A verification or an audit check failed.
    Negative = 1,
    /// Declined, cancelled or expired.
    Declined = 3,
    /// Can't reach something, or not ready.
    Unreachable = 4,
    /// An input can't be used.
    Input = 6,
    /// Nothing failed, but not everything can be said.
    Undetermined = 7,
    /// Some of it was done.
    Partly = 8,
    /// Our bug.
    Bug = 70,
    /// Passes by itself: service managers try it again, as the daemons have it.
    Away = 75,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error and the exit code it ends with.
#[derive(Debug, thiserror::Error)]
#[error("{}", .trouble.what)]
pub struct Failure {
    /// What happened and what to do.
    pub trouble: Trouble,
    /// Exit code.
    pub exit: Exit,
}

impl Failure {
    /// An error with its exit code.
    pub fn new(
        exit: Exit,
        code: &'static str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            trouble: Trouble::new(code, what, remedy),
            exit,
        }
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        let exit = match trouble.code {
            Trouble::AWAY => Exit::Away,
            _ => Exit::Unreachable,
        };
        Self { trouble, exit }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(
            Exit::Unreachable,
            "failed",
            format!("{error:#}"),
            "look at the lines above; try again",
        )
    }
}

/// Prints to the person or to the program that called.
#[derive(Debug, Clone, Copy)]
pub struct Out {
    /// Exactly one JSON object on standard output.
    pub json: bool,
    /// Language of what a person reads.
    pub lang: Lang,
}

impl Out {
    /// The words.
    pub fn m(self) -> Messages {
        Messages::new(self.lang)
    }

    /// Progress and notes for a person, beside the result.
    pub fn note(self, text: &str) {
        print(&mut std::io::stderr(), text);
    }

    /// The result for a person.
    pub fn say(self, text: &str) {
        if !self.json {
            print(&mut std::io::stdout(), text);
        }
    }

    /// The result for a program.
    pub fn object(self, value: &impl Serialize) {
        if self.json {
            let text = serde_json::to_string(value).unwrap_or_default();
            print(&mut std::io::stdout(), &text);
        }
    }

    /// An error for a person, in their language, or as the one object. The detail is what the program itself says, in English.
    pub fn failure(self, failure: &Failure) {
        let Trouble { code, what, remedy } = &failure.trouble;
        if self.json {
            let object =
                json!({"schema": "natsuin.error/1", "code": code, "what": what, "do": remedy});
            self.object(&object);
        } else {
            self.note(&told(self.m(), &failure.trouble));
        }
    }
}

fn told(words: Messages, trouble: &Trouble) -> String {
    let Trouble { code, what, remedy } = trouble;
    let own = format!("problem-{code}");
    let id = if words.has(&own) {
        own.as_str()
    } else {
        "problem-other"
    };
    let (happened, todo) = (words.t(id), words.t(&format!("{id}-do")));
    let head = words.f(
        "problem",
        &[("what", Arg::Own(&happened)), ("code", Arg::Own(code))],
    );
    let todo = words.f("problem-do", &[("do", Arg::Own(&todo))]);
    let detail = format!("{what}; {remedy}");
    let detail = words.f("problem-detail", &[("detail", Arg::Own(&detail))]);
    // What the program knows of this case comes before what holds for all of its kind.
    format!("{head}\n  {detail}\n  {todo}")
}

/// A reader that went away, such as `head`, is no reason to stop a service.
fn print(to: &mut dyn Write, text: &str) {
    let _ = writeln!(to, "{text}");
}

/// Pads to a display width; Japanese characters take two columns.
fn padded(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}

/// Table A-1 for a person, in the order in which pages and receipts show it. `outcome`: an object with the stable
/// names of `natsuin.sign/1`; `signed`: where the signed file lies.
pub fn table_a1(m: Messages, outcome: &Value, signed: &str, level: Option<&str>) -> String {
    let text = |name: &str| clean(outcome[name].as_str().unwrap_or_default());
    let time_note = match (
        outcome["time_source"].as_str(),
        outcome["time_authority"].as_str(),
    ) {
        (Some("timestamp"), Some(authority)) => {
            format!("{}, {}", m.t("sca-time-tsa"), clean(authority))
        }
        (Some("timestamp"), None) => m.t("sca-time-tsa"),
        _ => m.t("cli-time-own"),
    };
    let result = match outcome["result"].as_str() {
        Some("signed") => m.t("cli-result-signed"),
        _ => text("result"),
    };
    let signer_id = outcome["signer_id"].as_str();
    let mut rows = vec![
        ("cli-result", result),
        (
            "sca-signer-id",
            signer_id.map_or_else(|| m.t("sca-not-shown"), clean),
        ),
        ("sca-object", text("signed_object")),
        ("sca-document", signed.to_owned()),
        (
            "sca-time-label",
            format!("{} ({time_note})", shown_time(m, &text("signing_time"))),
        ),
        (
            "sca-signer-name",
            format!(
                "{} ({} {})",
                text("signer_name"),
                m.t("sca-issuer"),
                text("issuer_name")
            ),
        ),
        (
            "sca-verification",
            findings(m, &outcome["verification_result"]),
        ),
    ];
    if let Some(level) = level {
        rows.push(("portal-key-level", level.to_owned()));
    }
    let names: Vec<String> = rows.iter().map(|(id, _)| m.t(id)).collect();
    let width = names.iter().map(|n| n.width()).max().unwrap_or_default() + 2;
    let lines = names
        .iter()
        .zip(&rows)
        .map(|(name, (_, value))| format!("    {}{value}", padded(name, width)));
    lines.collect::<Vec<_>>().join("\n")
}

/// What a check found, from an object with `unchanged`, `certificate`, `revocation` and `time`.
pub fn findings(m: Messages, check: &Value) -> String {
    let found = |name: &str| {
        let word = check[name].as_str().unwrap_or("unknown");
        m.t(&format!("sca-{name}-{word}"))
    };
    let unchanged = if check["unchanged"] == true {
        "sca-unchanged"
    } else {
        "sca-changed"
    };
    let parts = [
        m.t(unchanged),
        found("certificate"),
        found("revocation"),
        found("time"),
    ];
    parts.join(&m.t("sca-separator"))
}

/// A time in RFC 3339 as pages show it: in Japan, with the zone named.
pub fn shown_time(m: Messages, utc: &str) -> String {
    UnixTime::from_rfc3339(utc).map_or_else(|| utc.to_owned(), |at| m.time(at))
}

/// A step with what it took, such as `  start   cm sam ssa   1.1 s`.
pub fn step(name: &str, what: &str, seconds: f64) -> String {
    format!("  {}{}{seconds:.1} s", padded(name, 8), padded(what, 54))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes of errors as the sources name them, here and in what the command line is made of.
    fn codes() -> std::collections::BTreeSet<String> {
        let crates = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
        let mut files: Vec<_> = ["bin/natsuin", "base/service-kit", "audit/audit-service"]
            .map(|name| std::path::Path::new(crates).join(name).join("src"))
            .into();
        let mut codes = std::collections::BTreeSet::new();
        while let Some(path) = files.pop() {
            if path.is_dir() {
                files.extend(std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path()));
                continue;
            }
            let text = std::fs::read_to_string(path).unwrap();
            for made in ["Trouble::new(", "Failure::new(", " input(", " trouble("] {
                for rest in text.split(made).skip(1) {
                    let rest = rest.trim_start();
                    let rest = match rest.strip_prefix("Exit::") {
                        Some(rest) => rest.split_once(',').unwrap().1.trim_start(),
                        None => rest,
                    };
                    let code = rest.strip_prefix('"').and_then(|r| r.split_once("\","));
                    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
                    codes.extend(
                        code.map(|(c, _)| c.to_owned())
                            .filter(|c| c.chars().all(word)),
                    );
                }
            }
        }
        codes
    }

    #[test]
    fn every_error_is_told_in_the_readers_language() {
        let codes = codes();
        assert!(codes.len() > 60, "{codes:?}");
        for lang in Lang::ALL {
            let words = Messages::new(lang);
            for code in &codes {
                let id = format!("problem-{code}");
                assert!(words.has(&id) && words.has(&format!("{id}-do")), "{code}");
            }
        }
        let trouble = Trouble::new("port-in-use", "port 1 is in use", "choose another");
        let ja = told(Messages::new(Lang::Ja), &trouble);
        assert!(
            ja.starts_with("エラー: ポートは") && ja.contains("対処: "),
            "{ja}"
        );
        assert!(ja.contains("port 1 is in use"), "{ja}");
        let before = ja.find("port 1 is in use; choose another") < ja.find("対処: ");
        assert!(before, "{ja}");
        let en = told(Messages::new(Lang::En), &trouble);
        assert!(en.starts_with("error: The port is in use"), "{en}");
        let unknown = "no-such-code";
        let other = Trouble::new(unknown, "x", "y");
        assert!(told(Messages::new(Lang::Ja), &other).contains("no-such-code"));
    }

    #[test]
    fn what_passes_by_itself_is_for_the_service_manager_to_try_again() {
        let exit = |code| Failure::from(Trouble::new(code, "x", "y")).exit;
        assert_eq!(exit(Trouble::AWAY) as u8, 75);
        assert_eq!(exit("port-in-use") as u8, 4);
        for lang in Lang::ALL {
            let id = format!("problem-{}", Trouble::AWAY);
            let words = Messages::new(lang);
            assert!(words.has(&id) && words.has(&format!("{id}-do")));
        }
    }

    #[test]
    fn times_are_shown_in_japan_and_columns_line_up() {
        let m = Messages::new(Lang::Ja);
        let shown = shown_time(m, "2026-11-22T05:05:12Z");
        assert_eq!(shown, "2026年11月22日(日) 14:05:12 日本時間");
        assert_eq!(padded("契約", 6), "契約  ");
    }
}
