//! What the command line prints: results on standard output, everything else on standard error.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the one place that prints"
)]

use std::process::ExitCode;

use core_types::UnixTime;
use serde::Serialize;
use serde_json::{Value, json};
use service_kit::Trouble;
use unicode_width::UnicodeWidthStr as _;

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
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error and the exit code it ends with.
#[derive(Debug)]
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
        Self {
            trouble,
            exit: Exit::Unreachable,
        }
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
}

impl Out {
    /// Progress and notes for a person; nothing with `--json`.
    pub fn note(self, text: &str) {
        if !self.json {
            eprintln!("{text}");
        }
    }

    /// The result for a person.
    pub fn say(self, text: &str) {
        if !self.json {
            println!("{text}");
        }
    }

    /// The result for a program.
    pub fn object(self, value: &impl Serialize) {
        if self.json {
            println!("{}", serde_json::to_string(value).unwrap_or_default());
        }
    }

    /// An error, as a pair of lines or as the one object.
    pub fn failure(self, failure: &Failure) {
        let Trouble { code, what, remedy } = &failure.trouble;
        if self.json {
            println!(
                "{}",
                json!({"schema": "natsuin.error/1", "code": code, "what": what, "do": remedy})
            );
        } else {
            eprintln!("error: {what}  (code {code})\n  do:  {remedy}");
        }
    }
}

/// Pads to a display width; Japanese characters take two columns.
fn padded(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}

/// Table A-1 for a person, in the order in which pages and receipts show it. `outcome`: an object with the stable
/// names of `natsuin.sign/1`; `signed`: where the signed file lies.
pub fn table_a1(outcome: &Value, signed: &str, level: Option<&str>) -> String {
    let text = |name: &str| outcome[name].as_str().unwrap_or_default().to_owned();
    let check = &outcome["verification_result"];
    let found = |name: &str| check[name].as_str().unwrap_or("unknown").to_owned();
    let unchanged = if check["unchanged"] == true {
        "unchanged"
    } else {
        "CHANGED after signing"
    };
    let time_note = match (
        outcome["time_source"].as_str(),
        outcome["time_authority"].as_str(),
    ) {
        (Some("timestamp"), Some(authority)) => format!("time-stamp, {authority}"),
        (Some("timestamp"), None) => "time-stamp".to_owned(),
        _ => "the signing program's clock".to_owned(),
    };
    let mut rows = vec![
        ("Result", text("result")),
        (
            "Signer ID",
            outcome["signer_id"]
                .as_str()
                .unwrap_or("not shown")
                .to_owned(),
        ),
        ("Object", text("signed_object")),
        ("Signed", signed.to_owned()),
        (
            "Time",
            format!("{} ({time_note})", jst(&text("signing_time"))),
        ),
        (
            "Signer",
            format!(
                "{} (issued by {})",
                text("signer_name"),
                text("issuer_name")
            ),
        ),
        (
            "Verification",
            format!(
                "{unchanged} · certificate {} · revocation {} · time-stamp {}",
                found("certificate"),
                found("revocation"),
                found("time")
            ),
        ),
    ];
    if let Some(level) = level {
        rows.push(("Level", level.to_owned()));
    }
    let lines = rows
        .iter()
        .map(|(name, value)| format!("    {}{value}", padded(name, 14)));
    lines.collect::<Vec<_>>().join("\n")
}

/// Japan Standard Time, such as `2026-11-22 14:05:12 JST`, from RFC 3339 in UTC.
fn jst(utc: &str) -> String {
    let shown = UnixTime::from_rfc3339(utc).map(|t| t.plus(9 * 3600).rfc3339());
    shown.map_or_else(
        || utc.to_owned(),
        |t| format!("{} JST", t.trim_end_matches('Z').replace('T', " ")),
    )
}

/// A step with what it took, such as `  start   cm sam ssa   1.1 s`.
pub fn step(name: &str, what: &str, seconds: f64) -> String {
    format!("  {}{}{seconds:.1} s", padded(name, 8), padded(what, 54))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_japan_and_columns_line_up() {
        assert_eq!(jst("2026-11-22T05:05:12Z"), "2026-11-22 14:05:12 JST");
        assert_eq!(padded("契約", 6), "契約  ");
    }
}
