//! `cargo xtask tcb`: what has to be right for SAM and CM to be right, and that it doesn't grow unnoticed.
//!
//! Counts our own lines and names other people's packages in the two daemons, and compares both with the record in
//! `docs/design/tcb.toml`. Less is fine; more needs the record raised, with a note that says what for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::shell;

const RECORD: &str = "docs/design/tcb.toml";
/// The parts and their programs.
const PARTS: [(&str, &str); 2] = [("cm", "natsuin-cm"), ("sam", "natsuin-sam")];
/// Records are rounded up to this, so that not every line is an event. Whatever grows by more has a note.
const STEP: usize = 250;
const HEAD: &str = "# What SAM and CM consist of. `cargo xtask tcb` fails when they grow beyond this; `cargo xtask tcb --raise NOTE`
# writes it anew, rounded up to 250. lines: non-blank lines of our own crates without tests, at most. packages: other people's.

";

/// What a part consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    /// Why it is as large as it is.
    note: String,
    lines: usize,
    crates: BTreeSet<String>,
    packages: BTreeSet<String>,
}

/// Compares with the record, or writes it anew with this note for the parts that grew.
///
/// # Errors
/// A part grew, or the record can't be used.
pub fn run(root: &Path, raise: Option<&str>) -> Result<()> {
    let path = root.join(RECORD);
    let mut record: BTreeMap<String, Part> = match fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text).with_context(|| format!("{RECORD} is malformed"))?,
        Err(_) if raise.is_some() => BTreeMap::new(),
        Err(error) => return Err(error).with_context(|| RECORD.to_owned()),
    };
    let mut grown = Vec::new();
    for (name, program) in PARTS {
        let part = measure(root, program)?;
        println!(
            "{name}: {} lines of our own in {} crates, {} packages of others",
            part.lines,
            part.crates.len(),
            part.packages.len()
        );
        let more = record.get(name).map_or_else(
            || vec!["it isn't recorded".to_owned()],
            |recorded| more(recorded, &part),
        );
        if more.is_empty() {
            continue;
        }
        if let Some(note) = raise {
            let before = record.get(name);
            if note.trim().is_empty() || before.is_some_and(|before| before.note == note) {
                bail!(
                    "{name}: {}\nsay what it grew for this time",
                    more.join(", ")
                );
            }
            let lines = rounded(part.lines);
            let note = note.to_owned();
            record.insert(
                name.to_owned(),
                Part {
                    note,
                    lines,
                    ..part
                },
            );
        } else {
            grown.push(format!("{name}: {}", more.join(", ")));
        }
    }
    if !grown.is_empty() {
        bail!(
            "{}\nmake it smaller, or say what for: cargo xtask tcb --raise NOTE",
            grown.join("\n")
        );
    }
    if raise.is_some() {
        fs::write(&path, HEAD.to_owned() + &toml::to_string_pretty(&record)?)?;
    }
    Ok(())
}

/// What is recorded of so many lines.
fn rounded(lines: usize) -> usize {
    lines.div_ceil(STEP) * STEP
}

/// What of a part goes beyond its record.
fn more(recorded: &Part, part: &Part) -> Vec<String> {
    let mut more = Vec::new();
    if recorded.note.trim().is_empty() {
        more.push("its record has no note".to_owned());
    }
    if part.lines > recorded.lines {
        more.push(format!(
            "{} lines instead of {}",
            part.lines, recorded.lines
        ));
    }
    let new = |now: &BTreeSet<String>, then: &BTreeSet<String>| {
        now.difference(then)
            .map(|name| format!("new: {name}"))
            .collect::<Vec<_>>()
    };
    more.extend(new(&part.crates, &recorded.crates));
    more.extend(new(&part.packages, &recorded.packages));
    more
}

fn measure(root: &Path, program: &str) -> Result<Part> {
    let tree = shell::capture(shell::cargo().args([
        "tree",
        "-p",
        program,
        "-e",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
        "--offline",
    ]))?;
    let (crates, packages) = read_tree(&tree);
    let mut lines = 0;
    for folder in crates.values() {
        let folder = Path::new(folder).join("src");
        lines += lines_under(&folder).with_context(|| folder.display().to_string())?;
    }
    if crates.is_empty() || lines == 0 {
        bail!("{program}: nothing was found under {}", root.display());
    }
    Ok(Part {
        note: String::new(),
        lines,
        crates: crates.into_keys().collect(),
        packages,
    })
}

/// Our crates with their folders, and other people's packages, from what `cargo tree` printed.
fn read_tree(tree: &str) -> (BTreeMap<String, String>, BTreeSet<String>) {
    let (mut ours, mut others) = (BTreeMap::new(), BTreeSet::new());
    for line in tree.lines() {
        let Some(name) = line.split(' ').next().filter(|name| !name.is_empty()) else {
            continue;
        };
        let folder = line
            .split_once(" (/")
            .and_then(|(_, rest)| rest.split(')').next());
        match folder {
            Some(folder) => drop(ours.insert(name.to_owned(), format!("/{folder}"))),
            None => drop(others.insert(name.to_owned())),
        }
    }
    (ours, others)
}

fn lines_under(folder: &Path) -> Result<usize> {
    let mut lines = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            lines += lines_under(&path)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            lines += count(&fs::read_to_string(&path)?);
        }
    }
    Ok(lines)
}

/// Lines that aren't blank, up to the tests, which stand last.
fn count(source: &str) -> usize {
    let product = source
        .split("\n#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default();
    product
        .lines()
        .filter(|line| !line.trim().is_empty())
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(lines: usize, packages: &[&str]) -> Part {
        Part {
            note: "as it is".into(),
            lines,
            crates: BTreeSet::from(["sam-core".into()]),
            packages: packages.iter().map(|p| (*p).to_owned()).collect(),
        }
    }

    #[test]
    fn growth_is_named_and_shrinking_is_fine() {
        let recorded = part(100, &["serde", "tokio"]);
        assert!(more(&recorded, &part(100, &["serde"])).is_empty());
        assert_eq!(more(&recorded, &part(101, &["serde"])).len(), 1);
        let new = more(&recorded, &part(1, &["serde", "left-pad"]));
        assert_eq!(new, ["new: left-pad"]);
        let silent = Part {
            note: " ".into(),
            ..recorded
        };
        assert_eq!(more(&silent, &part(1, &[])).len(), 1);
    }

    #[test]
    fn what_grows_by_more_than_a_small_step_has_a_note() {
        for lines in [1, 249, 250, 39_999, 40_000] {
            let recorded = part(rounded(lines), &[]);
            assert!(more(&recorded, &part(lines, &[])).is_empty());
            assert_eq!(more(&recorded, &part(lines + 250, &[])).len(), 1);
        }
    }

    #[test]
    fn the_tree_is_read_and_lines_are_counted() {
        let tree = "natsuin-sam v0.1.0 (/w/crates/bin/natsuin-sam)\nserde v1.0.0\nserde v1.0.0 (*)\n\nmacros v1.0.0 (proc-macro)\n";
        let (ours, others) = read_tree(tree);
        assert_eq!(ours["natsuin-sam"], "/w/crates/bin/natsuin-sam");
        assert_eq!(Vec::from_iter(others), ["macros", "serde"]);
        assert_eq!(count("a\n\n  b\n\n#[cfg(test)]\nmod tests {\n}\n"), 2);
    }
}
