//! Joins what is asked with what is said, and prints it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;

use super::catalogue::{Catalogue, Kind};
use super::scan::Claim;
use super::statements::Statements;

/// The whole result; serialised by `--json`.
#[derive(Debug, Serialize)]
pub struct Report {
    pub counts: Counts,
    pub requirements: Vec<Row>,
    pub threats: Vec<ThreatRow>,
    pub problems: Vec<String>,
}

/// How many requirements have which status.
#[derive(Debug, Serialize)]
pub struct Counts {
    pub total: Count,
    pub part_and_kind: BTreeMap<String, Count>,
    pub threats: Count,
}

/// A tally of statuses.
#[derive(Clone, Copy, Debug, Default, Serialize, PartialEq, Eq)]
pub struct Count {
    pub shown: usize,
    pub declared: usize,
    pub excepted: usize,
    pub open: usize,
    pub all: usize,
}

/// A requirement and where it stands.
#[derive(Debug, Serialize)]
pub struct Row {
    pub id: String,
    pub status: Status,
    pub by: Vec<String>,
    pub part: String,
    pub section: String,
    pub kind: Kind,
    pub strength: String,
    pub levels: Vec<u8>,
    pub title: String,
    /// What the catalogue proposes as proof, to be held against `by`.
    pub check: String,
}

/// A threat and the attack tests against it.
#[derive(Debug, Serialize)]
pub struct ThreatRow {
    pub id: String,
    pub status: Status,
    pub by: Vec<String>,
    /// The requirements that answer it.
    pub answered_by: Vec<String>,
    pub title: String,
}

/// Best first.
#[derive(Clone, Copy, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Shown,
    Declared,
    Excepted,
    Open,
}

impl Report {
    /// Joins them; whatever contradicts itself or names an unknown id lands in `problems`.
    pub fn new(catalogue: &Catalogue, statements: &Statements, claims: &[Claim]) -> Self {
        let known: BTreeSet<&str> = catalogue.ids().collect();
        let mut problems = Vec::new();
        let mut tests: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for claim in claims {
            if !known.contains(claim.id.as_str()) {
                let nearest = catalogue.nearest(&claim.id);
                problems.push(format!(
                    "{}: {:?} is no id of the catalogue; the nearest is {nearest}",
                    claim.place, claim.id
                ));
            } else if !tests.entry(&claim.id).or_default().insert(&claim.test) {
                problems.push(format!("{}: {} stands there twice", claim.place, claim.id));
            }
        }
        let declared = single(
            statements
                .declared
                .iter()
                .map(|d| (&*d.id, &*d.by, &*d.text)),
            catalogue,
            "declarations.toml",
            &mut problems,
        );
        let excepted = single(
            statements
                .excepted
                .iter()
                .map(|e| (&*e.id, &*e.reason, &*e.reason)),
            catalogue,
            "exceptions.toml",
            &mut problems,
        );
        for id in excepted.keys() {
            if tests.contains_key(id) || declared.contains_key(id) {
                problems.push(format!(
                    "exceptions.toml: {id} is excepted, yet a test or a declaration covers it"
                ));
            }
        }

        let by = |id: &str| {
            let shown = tests.get(id).into_iter().flatten().copied();
            let rest = [declared.get(id), excepted.get(id)]
                .into_iter()
                .flatten()
                .copied();
            let by: Vec<String> = shown.chain(rest).map(str::to_owned).collect();
            let status = if tests.contains_key(id) {
                Status::Shown
            } else if declared.contains_key(id) {
                Status::Declared
            } else if excepted.contains_key(id) {
                Status::Excepted
            } else {
                Status::Open
            };
            (status, by)
        };
        let mut counts = Counts {
            total: Count::default(),
            part_and_kind: BTreeMap::new(),
            threats: Count::default(),
        };
        let mut requirements = Vec::new();
        for requirement in &catalogue.requirements {
            let (status, by) = by(&requirement.id);
            let group = format!("{} {}", requirement.part, requirement.kind.name());
            counts.total.add(status);
            counts.part_and_kind.entry(group).or_default().add(status);
            requirements.push(Row {
                id: requirement.id.clone(),
                status,
                by,
                part: requirement.part.clone(),
                section: requirement.section.clone(),
                kind: requirement.kind,
                strength: requirement.strength.clone(),
                levels: requirement.levels.clone(),
                title: requirement.title.clone(),
                check: requirement.check.clone(),
            });
        }
        let mut threats = Vec::new();
        for threat in &catalogue.threats {
            let (status, by) = by(&threat.id);
            counts.threats.add(status);
            let answers = catalogue.requirements.iter();
            let answers = answers.filter(|r| r.threats.contains(&threat.id));
            threats.push(ThreatRow {
                id: threat.id.clone(),
                status,
                by,
                answered_by: answers.map(|r| r.id.clone()).collect(),
                title: threat.title.clone(),
            });
        }
        Self {
            counts,
            requirements,
            threats,
            problems,
        }
    }

    /// Both tables and the counts.
    pub fn text(&self) -> String {
        let mut out = String::from("requirements\n");
        let rows = self.requirements.iter().map(|r| (r.status, &r.id, &r.by));
        table(&mut out, rows);
        out.push_str("\nthreats\n");
        table(
            &mut out,
            self.threats.iter().map(|t| (t.status, &t.id, &t.by)),
        );
        out.push('\n');
        out + &self.summary()
    }

    /// The counts per part and kind.
    pub fn summary(&self) -> String {
        let mut out = format!(
            "{:<14} {:>6} {:>9} {:>9} {:>6} {:>6}\n",
            "part, kind", "shown", "declared", "excepted", "open", "all"
        );
        let total = [
            ("all".to_owned(), self.counts.total),
            ("threats".to_owned(), self.counts.threats),
        ];
        let groups = self
            .counts
            .part_and_kind
            .iter()
            .map(|(k, v)| (k.clone(), *v));
        for (name, c) in groups.chain(total) {
            let _ = writeln!(
                out,
                "{name:<14} {:>6} {:>9} {:>9} {:>6} {:>6}",
                c.shown, c.declared, c.excepted, c.open, c.all
            );
        }
        out
    }
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Self::Shown => "shown",
            Self::Declared => "declared",
            Self::Excepted => "excepted",
            Self::Open => "open",
        }
    }
}

impl Count {
    fn add(&mut self, status: Status) {
        self.all += 1;
        match status {
            Status::Shown => self.shown += 1,
            Status::Declared => self.declared += 1,
            Status::Excepted => self.excepted += 1,
            Status::Open => self.open += 1,
        }
    }
}

fn table<'a>(out: &mut String, rows: impl Iterator<Item = (Status, &'a String, &'a Vec<String>)>) {
    for (status, id, by) in rows {
        let line = format!("{:<9} {id:<50} {}", status.name(), by.join("; "));
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

/// Requirement id to what is said of it, once each, and something is said.
fn single<'a>(
    entries: impl Iterator<Item = (&'a str, &'a str, &'a str)>,
    catalogue: &Catalogue,
    file: &str,
    problems: &mut Vec<String>,
) -> BTreeMap<&'a str, &'a str> {
    let mut found = BTreeMap::new();
    for (id, by, words) in entries {
        if !catalogue.requirements.iter().any(|r| r.id == id) {
            let nearest = catalogue.nearest(id);
            problems.push(format!(
                "{file}: {id:?} is no requirement; the nearest is {nearest}"
            ));
        } else if words.trim().is_empty() {
            problems.push(format!("{file}: {id} says nothing"));
        } else if found.insert(id, by).is_some() {
            problems.push(format!("{file}: {id} stands there twice"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::statements::{Declared, Excepted};
    use super::*;

    fn catalogue() -> Catalogue {
        let entry = |id: &str, kind: &str| {
            format!(
                "[[requirement]]\nid = {id:?}\npart = \"I\"\nsection = \"1\"\ntitle = \"t\"\nkind = {kind:?}\nstrength = \"shall\"\nlevels = [1]\nthreats = [\"T-X\"]\n"
            )
        };
        let text = ["A", "B", "C", "D"].map(|id| entry(id, "system")).concat()
            + "[[threat]]\nid = \"T-X\"\ntitle = \"t\"\n";
        toml::from_str(&text).unwrap()
    }

    fn claim(id: &str, test: &str) -> Claim {
        Claim {
            id: id.to_owned(),
            test: test.to_owned(),
            place: "a.rs:1".to_owned(),
        }
    }

    fn declared(id: &str) -> Declared {
        Declared {
            id: id.to_owned(),
            by: "docs/a.md#a".to_owned(),
            text: "t".to_owned(),
        }
    }

    fn excepted(id: &str) -> Excepted {
        Excepted {
            id: id.to_owned(),
            reason: "r".to_owned(),
        }
    }

    #[test]
    fn each_source_gives_its_status_and_nothing_gives_open() {
        let statements = Statements {
            declared: vec![declared("A"), declared("B")],
            excepted: vec![excepted("C")],
        };
        let claims = [claim("A", "x"), claim("A", "y"), claim("T-X", "x")];
        let report = Report::new(&catalogue(), &statements, &claims);
        assert_eq!(report.problems, Vec::<String>::new());
        let statuses: Vec<Status> = report.requirements.iter().map(|r| r.status).collect();
        assert_eq!(
            statuses,
            [
                Status::Shown,
                Status::Declared,
                Status::Excepted,
                Status::Open
            ]
        );
        assert_eq!(report.requirements[0].by, ["x", "y", "docs/a.md#a"]);
        assert_eq!(report.threats[0].status, Status::Shown);
        assert_eq!(report.threats[0].answered_by, ["A", "B", "C", "D"]);
        assert_eq!(report.counts.part_and_kind["I system"], report.counts.total);
        assert_eq!(report.counts.total.all, 4);
    }

    #[test]
    fn wrong_statements_are_caught() {
        let wrong = |claims: &[Claim], declared: Vec<Declared>, excepted: Vec<Excepted>| {
            let statements = Statements { declared, excepted };
            Report::new(&catalogue(), &statements, claims)
                .problems
                .len()
        };
        assert_eq!(wrong(&[claim("AA", "x")], vec![], vec![]), 1);
        assert_eq!(
            wrong(&[claim("A", "x"), claim("A", "x")], vec![], vec![]),
            1
        );
        assert_eq!(wrong(&[], vec![declared("A"), declared("A")], vec![]), 1);
        assert_eq!(wrong(&[], vec![declared("T-X")], vec![]), 1);
        assert_eq!(wrong(&[], vec![], vec![excepted("Z")]), 1);
        assert_eq!(wrong(&[], vec![declared("A")], vec![excepted("A")]), 1);
        assert_eq!(wrong(&[claim("A", "x")], vec![], vec![excepted("A")]), 1);
        let silent = Excepted {
            id: "A".to_owned(),
            reason: " ".to_owned(),
        };
        assert_eq!(wrong(&[], vec![], vec![silent]), 1);
    }
}
