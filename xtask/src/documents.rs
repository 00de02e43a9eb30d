//! Documents that name things of the code: these tests keep the names real.

use std::path::Path;

use crate::shell;
use crate::workspace::Workspace;

/// Every `crate::Type` and `crate::module::Type` in backquotes.
fn types(text: &str) -> Vec<(String, String)> {
    let words = text.split('`').skip(1).step_by(2);
    let pairs = words.filter_map(|word| word.split_once("::"));
    // A type may stand in a module of its crate.
    let last = |t: &str| t.rsplit("::").next().unwrap_or_default().to_owned();
    pairs.map(|(c, t)| (c.replace('_', "-"), last(t))).collect()
}

/// Is there a public type of this name, or a re-export (where a macro makes the type)?
fn defines(folder: &Path, name: &str) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return defines(&path, name);
        }
        let text = match path.extension() {
            Some(e) if e == "rs" => std::fs::read_to_string(&path).unwrap(),
            _ => return false,
        };
        let words = |text: &str| {
            let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
            words.map(str::to_owned).collect::<Vec<_>>()
        };
        let brought = text.split("pub use ").skip(1).any(|rest| {
            let list = rest.split(';').next().unwrap_or_default();
            words(list).iter().any(|word| word == name)
        });
        brought
            || text.lines().any(|line| {
                matches!(&words(line.trim())[..], [public, kind, own, ..]
                    if public == "pub" && own == name
                    && ["struct", "enum", "trait", "type"].contains(&kind.as_str()))
            })
    })
}

#[test]
fn the_types_of_the_glossary_exist() {
    let text = std::fs::read_to_string(shell::root().join("GLOSSARY.md")).unwrap();
    let workspace = Workspace::read().unwrap();
    let types = types(&text);
    assert!(types.len() > 10);
    let missing: Vec<String> = types
        .iter()
        .filter(|(owner, name)| {
            let package = workspace.packages.iter().find(|p| p.name == *owner);
            let sources = package.and_then(|p| p.library_sources());
            owner != "crate" && !sources.is_some_and(|sources| defines(sources, name))
        })
        .map(|(owner, name)| format!("{owner}::{name}"))
        .collect();
    assert!(
        missing.is_empty(),
        "GLOSSARY.md names {missing:?}, which aren't there"
    );
}

#[test]
fn every_dependency_has_its_reason() {
    let root = shell::root();
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let reasons = root.join("docs/design/0001-dependencies.md");
    let reasons = std::fs::read_to_string(reasons).unwrap();
    let dependencies = manifest["workspace"]["dependencies"].as_table().unwrap();
    let missing: Vec<&String> = dependencies
        .iter()
        .filter(|(_, how)| how.get("path").is_none())
        .map(|(name, _)| name)
        .filter(|name| !reasons.contains(&format!("`{name}`")))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/design/0001-dependencies.md says nothing of {missing:?}"
    );
}
