//! How far the project conforms to the guideline, told from what tests, documents and exceptions really say.
//!
//! | status | because |
//! | --- | --- |
//! | `shown` | a test bears its id in a `shows:` comment (see [`scan`]) |
//! | `declared` | a document or a configuration item covers it (`docs/conformity/declarations.toml`) |
//! | `excepted` | it doesn't apply, with a written reason (`docs/conformity/exceptions.toml`) |
//! | `open` | none of these |
//!
//! Never states more than its sources: a wrong id, a document that isn't there or an exception beside a test fails.

pub(crate) mod catalogue;
#[cfg(test)]
mod cited;
mod report;
mod scan;
pub(crate) mod statements;

use std::path::Path;

use anyhow::{Result, bail};

use catalogue::Catalogue;
use report::Report;
use statements::Statements;

/// Prints the status of every requirement and threat, as tables or as one JSON object.
///
/// # Errors
/// A source is missing, or something in it is wrong; all of it is printed first.
pub fn run(root: &Path, json: bool) -> Result<()> {
    let report = examine(root)?;
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.text());
    }
    refuse_problems(&report)
}

/// As [`run`], but prints the counts only.
pub fn check(root: &Path) -> Result<()> {
    let report = examine(root)?;
    print!("{}", report.summary());
    refuse_problems(&report)
}

fn refuse_problems(report: &Report) -> Result<()> {
    for problem in &report.problems {
        eprintln!("{problem}");
    }
    if !report.problems.is_empty() {
        bail!(
            "{} wrong statements about conformity",
            report.problems.len()
        );
    }
    Ok(())
}

fn examine(root: &Path) -> Result<Report> {
    let catalogue = Catalogue::read(root)?;
    let statements = Statements::read(root)?;
    let (claims, problems) = scan::scan(root)?;
    let mut report = Report::new(&catalogue, &statements, &claims);
    report.problems.extend(problems);
    report.problems.extend(statements.check_documents(root));
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::report::Status;
    use super::*;

    #[test]
    fn the_project_says_nothing_wrong_about_itself() {
        let report = examine(&crate::shell::root()).unwrap();
        assert!(report.problems.is_empty(), "{}", report.problems.join("\n"));
    }

    // shows: I-3.2-reader-chapters, I-7-requirement-set,
    // I-6.1-counter-threats, I-7.1.6-insider
    #[test]
    fn every_requirement_has_a_status_and_every_threat_its_requirements() {
        let root = crate::shell::root();
        let report = examine(&root).unwrap();
        let catalogue = std::fs::read_to_string(root.join("specs/requirements.toml")).unwrap();
        let count = |heading: &str| catalogue.lines().filter(|line| *line == heading).count();
        assert_eq!(report.requirements.len(), count("[[requirement]]"));
        assert_eq!(report.threats.len(), count("[[threat]]"));
        for part in ["I", "II", "III"] {
            assert!(report.requirements.iter().any(|row| row.part == part));
        }
        for threat in &report.threats {
            assert!(!threat.answered_by.is_empty(), "{}", threat.id);
            assert_eq!(
                threat.status,
                Status::Shown,
                "no attack test: {}",
                threat.id
            );
        }
    }
    // shows: I-6.1-counter-threats
    #[test]
    fn every_threat_of_use_registration_termination_and_insiders_stands_in_the_list_of_attacks() {
        let root = crate::shell::root();
        let report = examine(&root).unwrap();
        let list = std::fs::read_to_string(root.join("docs/design/0012-attacks.md")).unwrap();
        // The third column of each row.
        let named: Vec<&str> = list
            .lines()
            .filter(|line| line.starts_with("| "))
            .filter_map(|line| line.split(" | ").nth(2))
            .flat_map(|threats| threats.split(", "))
            .collect();
        let kinds = ["T-REG-", "T-USE-", "T-INS-", "T-TERM-"];
        let threats: Vec<&str> = report.threats.iter().map(|t| t.id.as_str()).collect();
        let own = threats
            .iter()
            .filter(|id| kinds.iter().any(|kind| id.starts_with(kind)));
        let missing: Vec<_> = own.filter(|id| !named.contains(*id)).collect();
        assert!(missing.is_empty(), "not in 0012: {missing:?}");
        let unknown = named.iter().filter(|id| id.starts_with("T-"));
        let unknown: Vec<_> = unknown.filter(|id| !threats.contains(*id)).collect();
        assert!(unknown.is_empty(), "not in the catalogue: {unknown:?}");
    }

    #[test]
    fn nothing_that_part_two_asks_of_the_system_is_left_without_a_test_or_a_reason() {
        let report = examine(&crate::shell::root()).unwrap();
        let system = |row: &&report::Row| row.part == "II" && row.kind == catalogue::Kind::System;
        let of_part: Vec<_> = report.requirements.iter().filter(system).collect();
        assert!(of_part.len() > 30, "{}", of_part.len());
        let open = of_part.iter().filter(|row| row.status == Status::Open);
        let open: Vec<&str> = open.map(|row| row.id.as_str()).collect();
        assert!(open.is_empty(), "{open:?}");
    }
}
