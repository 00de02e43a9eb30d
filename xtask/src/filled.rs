//! `cargo xtask filled DIR`: what an operator's filled-in copy of the documents still lacks.
//!
//! It can tell that something was written, never that it is true.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Begins what has to be filled in, in both languages.
const BLANK: char = '〔';
/// A box that nobody has ticked. `[x]` is done; `[-]` doesn't apply, with the reason behind it.
const BOX: &str = "[ ]";

/// Compares the copy in `dir` with the documents in one language, prints what is missing.
///
/// # Errors
/// Something is missing, or a file can't be read.
pub fn run(root: &Path, dir: &Path, lang: &str) -> Result<()> {
    let templates = root.join("docs/operator").join(lang);
    let files = below(&templates, "md").context("languages are en and ja")?;
    let mut lacking = Vec::new();
    for file in &files {
        let template = std::fs::read_to_string(templates.join(file))?;
        match std::fs::read_to_string(dir.join(file)) {
            Ok(copy) => {
                let found = lacks(&template, &copy);
                lacking.extend(found.into_iter().map(|l| format!("{}{l}", file.display())));
            }
            Err(error) => lacking.push(format!("{}: {error}", file.display())),
        }
    }
    for line in &lacking {
        println!("{line}");
    }
    if lacking.is_empty() {
        println!("{} documents, nothing left blank", files.len());
        return Ok(());
    }
    bail!("{} things are missing", lacking.len())
}

/// Files with this ending below a folder, as paths from it.
///
/// # Errors
/// A folder can't be read.
pub fn below(folder: &Path, ending: &str) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let entries = std::fs::read_dir(folder);
    for entry in entries.with_context(|| format!("can't read {}", folder.display()))? {
        let path = entry?.path();
        let Some(name) = path.file_name().map(PathBuf::from) else {
            continue;
        };
        if path.is_dir() {
            let inner = below(&path, ending)?;
            found.extend(inner.into_iter().map(|file| name.join(file)));
        } else if path.extension().is_some_and(|e| e == ending) {
            found.insert(name);
        }
    }
    Ok(found)
}

/// Depth and number of a heading, such as `### 3.11`, which both languages share.
pub fn heading(line: &str) -> Option<String> {
    let number = |c: &char| c.is_ascii_digit() || matches!(c, '#' | ' ' | '.');
    let heading: String = line.chars().take_while(number).collect();
    line.starts_with('#').then(|| heading.trim_end().to_owned())
}

/// Requirements that a line names.
fn ids(line: &str) -> impl Iterator<Item = &str> {
    let words = line.split('`').skip(1).step_by(2);
    words.filter(|word| {
        ["I-", "II-", "III-"]
            .iter()
            .any(|part| word.starts_with(part))
    })
}

/// Everything that lines of a document have to keep: headings, and requirements under the heading they stand under.
fn fixed(text: &str) -> BTreeSet<String> {
    let mut under = String::new();
    let mut found = BTreeSet::new();
    for line in text.lines() {
        if let Some(heading) = heading(line) {
            found.insert(format!("section {heading:?}"));
            under = heading;
        }
        found.extend(ids(line).map(|id| format!("{id} in section {under:?}")));
    }
    found
}

/// What a copy lacks, each with its place.
fn lacks(template: &str, copy: &str) -> Vec<String> {
    let kept = fixed(copy);
    let gone = fixed(template)
        .into_iter()
        .filter(|what| !kept.contains(what));
    let mut lacking: Vec<String> = gone.map(|what| format!(": {what} is gone")).collect();
    for (n, line) in copy.lines().enumerate() {
        if line.contains(BLANK) {
            lacking.push(format!(":{}: not filled in: {}", n + 1, line.trim()));
        }
        if line.contains(BOX) {
            lacking.push(format!(":{}: not ticked: {}", n + 1, line.trim()));
        }
        if line.trim_end().ends_with("[-]") {
            lacking.push(format!(":{}: no reason why it doesn't apply", n + 1));
        }
    }
    lacking
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_blank_or_taken_out_is_found() {
        let template = "# T\n## 1 A\n- [ ] done (`I-7.2-iso27002`)\n### 1.1 Law\n`I-A2.11-applicable-law` 〔law〕\n";
        let filled = template
            .replace("[ ]", "[x]")
            .replace("〔law〕", "of Japan");
        assert_eq!(lacks(template, &filled), Vec::<String>::new());
        let translated = filled.replace("1.1 Law", "1.1 法令");
        assert_eq!(lacks(template, &translated), Vec::<String>::new());
        for (taken, put) in [
            ("of Japan", "〔law〕"),
            ("[x]", "[ ]"),
            ("(`I-7.2-iso27002`)", ""),
            ("`I-A2.11-applicable-law`", ""),
            ("### 1.1 Law\n", ""),
            ("- [x] done (`I-7.2-iso27002`)", "`I-7.2-iso27002` [-]"),
        ] {
            assert!(filled.contains(taken));
            assert!(
                !lacks(template, &filled.replace(taken, put)).is_empty(),
                "{taken}"
            );
        }
    }

    #[test]
    fn the_documents_themselves_are_not_filled_in() {
        let root = crate::shell::root();
        for lang in ["en", "ja"] {
            let templates = root.join("docs/operator").join(lang);
            assert!(run(&root, &templates, lang).is_err());
        }
        assert!(run(&root, &root, "fr").is_err());
    }
}
