//! The documents for operators: both languages say the same, and what they name exists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::command_line::Program;
use crate::conformity::{catalogue, statements};
use crate::{filled, shell};

const DOCS: &str = "docs/operator";

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn below(folder: &Path, ending: &str) -> BTreeSet<PathBuf> {
    filled::below(folder, ending).unwrap()
}

/// Everything with these endings below a folder, in one text.
fn all(folder: &Path, endings: &[&str]) -> String {
    let files = endings.iter().flat_map(|ending| below(folder, ending));
    files.map(|file| text(&folder.join(file))).collect()
}

/// What two languages of a section have in common.
#[derive(Debug, Default, PartialEq, Eq)]
struct Section {
    /// Words in backquotes, in whatever order the language wants.
    code: BTreeMap<String, usize>,
    /// Blocks of code.
    blocks: Vec<String>,
    /// Boxes to tick.
    boxes: usize,
    rows: usize,
    links: usize,
}

/// A document by its headings: depth and number of each, with what stands below.
fn sections(text: &str) -> Vec<(String, Section)> {
    let mut found = vec![(String::new(), Section::default())];
    let mut block: Option<String> = None;
    for line in text.lines() {
        if let Some(lines) = &mut block {
            lines.push_str(line);
            lines.push('\n');
            if line.starts_with("```") {
                found.last_mut().unwrap().1.blocks.extend(block.take());
            }
            continue;
        }
        if line.starts_with("```") {
            block = Some(String::new());
            continue;
        }
        if let Some(heading) = filled::heading(line) {
            found.push((heading, Section::default()));
            continue;
        }
        let section = &mut found.last_mut().unwrap().1;
        for word in line.split('`').skip(1).step_by(2) {
            *section.code.entry(word.to_owned()).or_default() += 1;
        }
        section.boxes += line.matches("[ ]").count();
        section.rows += usize::from(line.starts_with('|'));
        section.links += line.matches("](").count();
    }
    found
}

#[test]
fn both_languages_have_the_same_sections_with_the_same_code_boxes_and_rows() {
    let root = shell::root().join(DOCS);
    let (en, ja) = (root.join("en"), root.join("ja"));
    let files = below(&en, "md");
    assert_eq!(files, below(&ja, "md"));
    assert!(files.len() > 10);
    for file in files {
        let (english, japanese) = (text(&en.join(&file)), text(&ja.join(&file)));
        let (english, japanese) = (sections(&english), sections(&japanese));
        let headings = |of: &[(String, Section)]| -> Vec<String> {
            of.iter().map(|(heading, _)| heading.clone()).collect()
        };
        assert_eq!(
            headings(&english),
            headings(&japanese),
            "{}",
            file.display()
        );
        for (one, other) in english.iter().zip(&japanese) {
            assert_eq!(one, other, "{}, section {:?}", file.display(), one.0);
        }
    }
}

#[test]
fn sections_differ_where_code_boxes_rows_or_links_do() {
    let base = "# A\ntext `a` `b`\n## 1 B\n- [ ] do [it](x)\n| r |\n```sh\nx\n```\n";
    assert_eq!(
        sections(base),
        sections(&base.replace("`a` `b`", "`b` 文 `a`"))
    );
    for (what, with) in [
        ("`b`", "`c`"),
        ("- [ ]", "-"),
        ("| r |", ""),
        ("](x)", ""),
        ("\nx\n", "\ny\n"),
        ("## 1", "## 2"),
    ] {
        assert_ne!(
            sections(base),
            sections(&base.replace(what, with)),
            "{what}"
        );
    }
}

/// Documents that people type commands from.
fn read_by_people() -> Vec<PathBuf> {
    let root = shell::root();
    let mut files = vec![root.join("README.md")];
    for folder in [DOCS, "docs/signer", "docs/api"] {
        let folder = root.join(folder);
        files.extend(below(&folder, "md").into_iter().map(|f| folder.join(f)));
    }
    files
}

/// Command lines of our programs in a document: lines of code, and words in backquotes.
fn commands(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut block = false;
    for line in text.lines() {
        if line.starts_with("```") {
            block = !block;
        } else if block || line.starts_with("    ") {
            let end = line.find(['#', '>', '|', ';']).unwrap_or(line.len());
            found.push(line[..end].trim().to_owned());
        } else {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    let split = |line: String| {
        let line = line.replace("cargo run --release -- ", "natsuin ");
        let (program, words) = line.split_once(' ')?;
        program
            .starts_with("natsuin")
            .then(|| (program.to_owned(), words.to_owned()))
    };
    found.into_iter().filter_map(split).collect()
}

#[test]
fn every_command_in_the_documents_is_one_that_the_program_takes() {
    let root = shell::root();
    let mut seen = 0;
    let mut wrong = Vec::new();
    for file in read_by_people() {
        for (program, words) in commands(&text(&file)) {
            seen += 1;
            let read = Program::read(&root, &program).ok_or_else(|| program.clone());
            // `a|b` stands for either.
            let split = words.split_whitespace();
            let first = |word: &'_ str| word.split('|').next().unwrap_or_default().to_owned();
            let split: Vec<String> = split.map(first).collect();
            let split: Vec<&str> = split.iter().map(String::as_str).collect();
            if let Err(word) = read.and_then(|p| p.takes(&split)) {
                wrong.push(format!("{}: {program} {words}: {word}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 50);
}

/// Settings of the samples, such as `backend.kind`, and their last parts alone.
fn settings() -> BTreeSet<String> {
    let config = shell::root().join("config");
    let mut found = BTreeSet::new();
    for file in below(&config, "toml") {
        let mut table = String::new();
        for line in text(&config.join(file)).lines() {
            let line = line.trim_start_matches('#').trim();
            if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                table = name.trim_matches(['[', ']']).to_owned();
                found.insert(table.clone());
            } else if let Some((key, _)) = line.split_once(" = ") {
                found.insert(key.to_owned());
                if !table.is_empty() {
                    found.insert(format!("{table}.{key}"));
                }
            }
        }
    }
    found
}

/// A name in the documents that has to be somewhere: a setting, an event, an alarm, a member, a file.
fn is_name(word: &str) -> bool {
    let parts = |c: char| matches!(c, '_' | '.' | '-');
    word.contains(parts)
        && word.starts_with(|c: char| c.is_ascii_lowercase())
        && word.chars().all(|c| c.is_ascii_alphanumeric() || parts(c))
}

/// Names that aren't in the sources: other people's programs, an operator's own files, a crate, a member with its object.
const OTHERS: [&str; 8] = [
    "auth.mode",
    "cm.pub",
    "cm.txt",
    "natsuin-stores",
    "officers.toml",
    "pg_dump",
    "ssa-service",
    "systemd-journal-upload",
];

#[test]
fn what_operators_documents_name_exists() {
    let root = shell::root();
    let settings = settings();
    assert!(settings.contains("policy.ceiling") && settings.contains("pin_file"));
    let sources = all(&root.join("crates"), &["rs", "ftl"]) + &all(&root.join("config"), &["toml"]);
    let known: BTreeSet<&str> = sources
        .split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '.' | '-' | '/'))
        .map(|word| word.trim_matches(['.', '-']))
        .collect();
    let mut missing = BTreeSet::new();
    let english = root.join(DOCS).join("en");
    for file in below(&english, "md") {
        for (_, section) in sections(&text(&english.join(&file))) {
            for word in section
                .code
                .keys()
                .map(|word| word.split(" = ").next().unwrap_or_default())
            {
                let there = settings.contains(word)
                    || known.contains(word)
                    || OTHERS.contains(&word)
                    || Program::read(&root, word).is_some();
                if is_name(word) && !there {
                    missing.insert(format!("{}: {word}", file.display()));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_setting_of_the_samples_that_officers_have_to_know_is_in_the_administrators_document() {
    let document = text(&shell::root().join(DOCS).join("en/administration.md"));
    let policy = settings().into_iter().filter(|s| s.starts_with("policy."));
    let missing: Vec<_> = policy
        .filter(|s| !document.contains(&format!("`{s}`")))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// First words of the types of events, and words of alarms, as the sources have them.
fn events_and_alarms() -> (BTreeSet<String>, BTreeSet<String>) {
    let root = shell::root().join("crates");
    let vocabulary = all(&root.join("audit/audit-log/src/event"), &["rs"])
        + &text(&root.join("audit/audit-log/src/event.rs"));
    let mut events = BTreeSet::new();
    for part in vocabulary.split(" = \"").skip(1) {
        let (kind, rest) = part.split_once('"').unwrap();
        let outcome = rest.trim_start_matches([',', ' ', '\n']);
        if ["Success", "Failure", "Intent"]
            .iter()
            .any(|o| outcome.starts_with(o))
        {
            events.insert(kind.split('.').next().unwrap_or_default().to_owned());
        }
    }
    let mut alarms = BTreeSet::new();
    for zone in [
        "cm/cm-core/src",
        "sam/sam-service/src",
        "ssa/ssa-service/src",
    ] {
        let source = all(&root.join(zone), &["rs"]);
        for opening in [".alarm(\"", "what: \"", "let what = \""] {
            let words = source.split(opening).skip(1);
            let words =
                words.filter_map(|rest| rest.split_once("\".into()").or(rest.split_once("\")")));
            let short = words.map(|(word, _)| word).filter(|word| is_name(word));
            alarms.extend(short.map(str::to_owned));
        }
    }
    (events, alarms)
}

#[test]
fn every_kind_of_event_and_every_alarm_is_explained() {
    let root = shell::root().join(DOCS).join("en");
    let (events, alarms) = events_and_alarms();
    assert!(
        events.contains("service") && events.len() > 20,
        "{events:?}"
    );
    assert!(
        alarms.contains("cm-key-missing") && alarms.len() > 7,
        "{alarms:?}"
    );
    let logs = text(&root.join("logs.md"));
    let administration = text(&root.join("administration.md"));
    let missing: Vec<_> = events
        .iter()
        .filter(|e| !logs.contains(&format!("`{e}`")))
        .collect();
    assert!(missing.is_empty(), "logs.md says nothing of {missing:?}");
    let unexplained = |a: &&String| !administration.contains(&format!("`{a}`"));
    let missing: Vec<_> = alarms.iter().filter(unexplained).collect();
    assert!(
        missing.is_empty(),
        "administration.md says nothing of {missing:?}"
    );
    // They stand on the page of every officer.
    let words = shell::root().join("crates/base/web-ui/messages/en/audit.ftl");
    let words = text(&words);
    let missing: Vec<_> = alarms
        .iter()
        .filter(|alarm| !words.contains(&format!("\naudit-word-{alarm} = ")))
        .collect();
    assert!(missing.is_empty(), "there are no words for {missing:?}");
}

#[test]
fn declared_requirements_are_named_where_the_declaration_points() {
    let root = shell::root();
    let declared = statements::Statements::read(&root).unwrap().declared;
    let mut seen = 0;
    for one in &declared {
        let Some((path, anchor)) = one.by.split_once('#') else {
            continue;
        };
        if !path.starts_with("docs/operator/en/") {
            continue;
        }
        seen += 1;
        let below = section_text(&text(&root.join(path)), anchor);
        assert!(
            below.contains(&format!("`{}`", one.id)),
            "{} isn't named at {}",
            one.id,
            one.by
        );
    }
    assert!(seen > 40);
}

/// Text below a heading, with the headings below it.
fn section_text(document: &str, anchor: &str) -> String {
    let mut depth = 0;
    let mut found = String::new();
    for line in document.lines() {
        let hashes = line.bytes().take_while(|b| *b == b'#').count();
        if hashes > 0 {
            if depth > 0 && hashes <= depth {
                break;
            }
            if depth == 0 && statements::slug(line.trim_start_matches('#')) == anchor {
                depth = hashes;
            }
        }
        if depth > 0 {
            found.push_str(line);
            found.push('\n');
        }
    }
    found
}

#[test]
fn the_catalogues_lists_are_in_their_documents() {
    let root = shell::root();
    let table: toml::Table = text(&root.join("specs/requirements.toml")).parse().unwrap();
    let excepted = statements::Statements::read(&root).unwrap().excepted;
    for (list, document) in [
        ("physical_item", "premises.md"),
        ("key_management_item", "keys.md"),
        ("policy_item", "policy/service-policy.md"),
    ] {
        let document = text(&root.join(DOCS).join("en").join(document));
        for row in table[list].as_array().unwrap() {
            let id = row["requirement"].as_str().unwrap();
            let named = document.contains(&format!("`{id}`"));
            assert!(named || excepted.iter().any(|e| e.id == id), "{list}: {id}");
        }
    }
    let ids = catalogue::Catalogue::read(&root).unwrap();
    let ids: BTreeSet<&str> = ids.ids().collect();
    let english = root.join(DOCS).join("en");
    for file in below(&english, "md") {
        for (_, section) in sections(&text(&english.join(&file))) {
            for word in section.code.keys() {
                let is_id = ["I-", "II-", "III-", "T-"]
                    .iter()
                    .any(|p| word.starts_with(p));
                assert!(
                    !is_id || ids.contains(word.as_str()),
                    "{}: {word}",
                    file.display()
                );
            }
        }
    }
}
