//! What the project declares and excepts: `docs/conformity/{declarations,exceptions}.toml`.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// Both files.
#[derive(Debug, Default)]
pub struct Statements {
    pub declared: Vec<Declared>,
    pub excepted: Vec<Excepted>,
}

/// A document or a configuration item covers the requirement.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declared {
    pub id: String,
    /// `path#anchor`: the anchor is a heading of a Markdown file (as in links to it), or words of any other file.
    pub by: String,
    /// What is declared there, in a sentence.
    pub text: String,
}

/// The requirement doesn't apply to this project.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Excepted {
    pub id: String,
    pub reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeclarationFile {
    #[serde(default)]
    declared: Vec<Declared>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExceptionFile {
    #[serde(default)]
    excepted: Vec<Excepted>,
}

impl Statements {
    /// # Errors
    /// A file is missing or not in its format.
    pub fn read(root: &Path) -> Result<Self> {
        let declared: DeclarationFile = read(root, "docs/conformity/declarations.toml")?;
        let excepted: ExceptionFile = read(root, "docs/conformity/exceptions.toml")?;
        Ok(Self {
            declared: declared.declared,
            excepted: excepted.excepted,
        })
    }

    /// Declarations whose document or anchor isn't there, or that say nothing.
    pub fn check_documents(&self, root: &Path) -> Vec<String> {
        let mut problems = Vec::new();
        for declared in &self.declared {
            let Some((path, anchor)) = declared.by.split_once('#') else {
                problems.push(format!("{}: {:?} has no #anchor", declared.id, declared.by));
                continue;
            };
            match std::fs::read_to_string(root.join(path)) {
                Err(error) => problems.push(format!("{}: {path}: {error}", declared.id)),
                Ok(text) if !has_anchor(path, &text, anchor) => {
                    problems.push(format!("{}: {path} has no #{anchor}", declared.id));
                }
                Ok(_) => {}
            }
        }
        problems
    }
}

fn read<T: serde::de::DeserializeOwned>(root: &Path, name: &str) -> Result<T> {
    let path = root.join(name);
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("in {}", path.display()))
}

fn has_anchor(path: &str, text: &str, anchor: &str) -> bool {
    if anchor.is_empty() {
        return false;
    }
    if !path.ends_with(".md") {
        return text.contains(anchor);
    }
    text.lines()
        .filter_map(|line| line.strip_prefix('#'))
        .any(|heading| slug(heading.trim_start_matches('#')) == anchor)
}

/// The anchor that Markdown viewers give a heading: lower case, blanks to hyphens, punctuation dropped.
pub(crate) fn slug(heading: &str) -> String {
    heading
        .trim()
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            '-' | '_' => Some(c),
            _ if c.is_alphanumeric() => Some(c),
            _ => None,
        })
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_are_headings_of_markdown_and_words_of_other_files() {
        let text = "# Top\n\n## Reporting, and when?\ntext\n";
        assert!(has_anchor("a.md", text, "reporting-and-when"));
        assert!(!has_anchor("a.md", text, "text"));
        assert!(!has_anchor("a.md", text, ""));
        assert!(has_anchor(
            "a.toml",
            "max_pin_failures = 5",
            "max_pin_failures"
        ));
    }

    #[test]
    fn a_document_that_is_not_there_is_caught() {
        let declared = |by: &str| Declared {
            id: "X".to_owned(),
            by: by.to_owned(),
            text: String::new(),
        };
        let statements = Statements {
            declared: vec![
                declared("CONTRIBUTING.md"),
                declared("docs/no-such.md#top"),
                declared("CONTRIBUTING.md#no-such-heading"),
            ],
            excepted: Vec::new(),
        };
        assert_eq!(statements.check_documents(&crate::shell::root()).len(), 3);
    }
}
