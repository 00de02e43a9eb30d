//! What `natsuin csc check` found, as text, JSON and JUnit.

use csc_client::check::{Case, Outcome};
use serde_json::json;

use crate::output::{Exit, Out};

pub(super) fn report(url: &str, cases: &[Case], out: Out) -> Exit {
    let count = |wanted: fn(&Outcome) -> bool| cases.iter().filter(|c| wanted(&c.outcome)).count();
    let passed = count(|o| matches!(o, Outcome::Passed));
    let failed = count(|o| matches!(o, Outcome::Failed { .. }));
    let untested = count(|o| matches!(o, Outcome::NotTested { .. }));
    for case in cases {
        let line = match &case.outcome {
            Outcome::Passed => format!("OK  {}  ({})", case.name, case.clause),
            Outcome::Failed { why } => format!("NG  {}  ({}): {why}", case.name, case.clause),
            Outcome::NotTested { needs } => {
                format!("--  {}  ({}): {needs}", case.name, case.clause)
            }
        };
        out.say(&line);
    }
    let numbers = [
        ("passed", passed),
        ("failed", failed),
        ("untested", untested),
    ];
    let numbers = numbers.map(|(name, n)| (name, web_ui::Arg::Num(n as u64)));
    out.say(&out.m().f("cli-csc-checked", &numbers));
    out.object(
        &json!({ "schema": "natsuin.csc-check/1", "url": url, "passed": passed, "failed": failed,
        "not_tested": untested, "cases": cases }),
    );
    match failed {
        0 => Exit::Good,
        _ => Exit::Negative,
    }
}

pub(super) fn to_junit(url: &str, cases: &[Case]) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let failed = cases
        .iter()
        .filter(|c| matches!(c.outcome, Outcome::Failed { .. }));
    let skipped = cases
        .iter()
        .filter(|c| matches!(c.outcome, Outcome::NotTested { .. }));
    xml.push_str(&format!(
        "<testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" skipped=\"{}\">\n",
        escape(url),
        cases.len(),
        failed.count(),
        skipped.count()
    ));
    for case in cases {
        let inner = match &case.outcome {
            Outcome::Passed => String::new(),
            Outcome::Failed { why } => format!("<failure message=\"{}\"/>", escape(why)),
            Outcome::NotTested { needs } => {
                format!("<skipped message=\"needs {}\"/>", escape(needs))
            }
        };
        xml.push_str(&format!(
            "  <testcase classname=\"csc-{}\" name=\"{}\">{inner}</testcase>\n",
            escape(case.clause),
            escape(&case.name)
        ));
    }
    xml.push_str("</testsuite>\n");
    xml
}

/// What a provider says may hold anything; XML has no way to write most control characters.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use csc_client::check::Kind;

    #[test]
    fn a_report_in_xml_can_be_read_whatever_a_provider_says() {
        let case = |outcome| Case {
            name: "a <b>".into(),
            clause: "1",
            kind: Kind::Negative,
            outcome,
        };
        let why = "\u{0}\"'<&>\u{ffff}".to_owned();
        let cases = [
            case(Outcome::Passed),
            case(Outcome::Failed { why }),
            case(Outcome::NotTested { needs: "a token" }),
        ];
        let xml = to_junit("https://a.example/?a&b", &cases);
        assert!(
            xml.contains("tests=\"3\" failures=\"1\" skipped=\"1\""),
            "{xml}"
        );
        assert!(xml.contains("message=\" &quot;'&lt;&amp;&gt; \""), "{xml}");
        assert!(
            xml.contains("name=\"a &lt;b&gt;\"") && xml.contains("a&amp;b"),
            "{xml}"
        );
    }
}
