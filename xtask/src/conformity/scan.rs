//! Finds the tests that claim to show a requirement: a comment `shows: ID, ID` directly above the test.
//!
//! In Rust the next thing after comments and attributes must be a test function that runs; in scripts under
//! `tests/` it must be a named test, or the comment heads the file and speaks for the whole of it. A script must be
//! started by some Rust test, or nobody runs it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// One id that one test claims to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub id: String,
    /// `path::test`, the path from the workspace's root.
    pub test: String,
    /// Where the claim stands, `path:line`.
    pub place: String,
}

/// All claims of the workspace, and what is wrong with the way they are written.
pub fn scan(root: &Path) -> Result<(Vec<Claim>, Vec<String>)> {
    let mut rust = Vec::new();
    let mut scripts = Vec::new();
    for folder in ["crates", "xtask", "tests", "fuzz"] {
        collect(
            &root.join(folder),
            &mut |file| match file.extension().and_then(|e| e.to_str()) {
                Some("rs") => rust.push(file),
                Some("mjs" | "py" | "sh") => scripts.push(file),
                _ => {}
            },
        )?;
    }
    let mut claims = Vec::new();
    let mut problems = Vec::new();
    let mut sources = String::new();
    for file in rust {
        let text = read(&file)?;
        scan_rust(&relative(root, &file), &text, &mut claims, &mut problems);
        sources.push_str(&text);
    }
    for file in scripts {
        let before = claims.len();
        let path = relative(root, &file);
        scan_script(&path, &read(&file)?, &mut claims, &mut problems);
        let name = path.rsplit('/').next().unwrap_or_default();
        if claims.len() > before && !sources.contains(name) {
            problems.push(format!(
                "{path}: says what it shows, but no Rust test starts it"
            ));
        }
    }
    Ok((claims, problems))
}

/// Collects ids until it is known which test they belong to.
#[derive(Default)]
struct Pending {
    line: usize,
    ids: Vec<String>,
    /// The list ended with a comma and goes on in the next comment line.
    open: bool,
}

impl Pending {
    /// Takes a comment line (without its marks) if it is part of a list of ids.
    fn take(&mut self, line: usize, comment: &str) -> bool {
        let list = match comment.strip_prefix("shows:") {
            Some(list) => list,
            None if self.open => comment,
            None => return false,
        };
        if self.ids.is_empty() {
            self.line = line;
        }
        self.open = list.trim_end().ends_with(',');
        let ids = list.split(',').map(str::trim).filter(|id| !id.is_empty());
        self.ids.extend(ids.map(str::to_owned));
        true
    }

    fn resolve(&mut self, path: &str, test: &str, claims: &mut Vec<Claim>) {
        let place = format!("{path}:{}", self.line);
        claims.extend(self.ids.drain(..).map(|id| Claim {
            id,
            test: format!("{path}{test}"),
            place: place.clone(),
        }));
        self.open = false;
    }

    fn reject(&mut self, path: &str, why: &str, problems: &mut Vec<String>) {
        problems.push(format!("{path}:{}: `shows:` {why}", self.line));
        *self = Self::default();
    }
}

fn scan_rust(path: &str, text: &str, claims: &mut Vec<Claim>, problems: &mut Vec<String>) {
    let mut pending = Pending::default();
    let mut attributes: Vec<String> = Vec::new();
    let mut depth = 0_i32;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if depth > 0 || line.starts_with("#[") {
            depth += brackets(line);
            attributes.push(line.to_owned());
            continue;
        }
        if let Some(comment) = line.strip_prefix("//") {
            pending.take(index + 1, comment.trim());
            continue;
        }
        if !pending.ids.is_empty() {
            match function_name(line) {
                Some(_) if attributes.iter().any(|a| a.starts_with("#[ignore")) => {
                    pending.reject(path, "stands above a test that is ignored", problems);
                }
                Some(name) if attributes.iter().any(|a| is_test(a)) => {
                    pending.resolve(path, &format!("::{name}"), claims);
                }
                _ => pending.reject(path, "isn't directly above a test function", problems),
            }
        }
        attributes.clear();
    }
    if !pending.ids.is_empty() {
        pending.reject(path, "has no test below it", problems);
    }
}

fn scan_script(path: &str, text: &str, claims: &mut Vec<Claim>, problems: &mut Vec<String>) {
    let mut pending = Pending::default();
    let mut at_head = true;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        let comment = line.strip_prefix("//").or_else(|| line.strip_prefix('#'));
        if let Some(comment) = comment {
            pending.take(index + 1, comment.trim());
            continue;
        }
        if !pending.ids.is_empty() {
            if let Some(name) = script_test_name(line) {
                pending.resolve(path, &format!("::{name}"), claims);
            } else if at_head {
                pending.resolve(path, "", claims);
            } else {
                pending.reject(path, "isn't directly above a test", problems);
            }
        }
        at_head = at_head && line.is_empty();
    }
    if !pending.ids.is_empty() {
        pending.reject(path, "has no test below it", problems);
    }
}

fn brackets(line: &str) -> i32 {
    line.chars().fold(0, |depth, c| match c {
        '[' => depth + 1,
        ']' => depth - 1,
        _ => depth,
    })
}

/// `#[test]`, `#[tokio::test(…)]`: an attribute whose path ends in `test`.
fn is_test(attribute: &str) -> bool {
    let path = attribute.trim_start_matches("#[");
    let end = path.find(['(', ']']).unwrap_or(path.len());
    path[..end].trim().rsplit("::").next() == Some("test")
}

fn function_name(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ")?;
    let words = before.split_whitespace();
    let only_qualifiers = words
        .into_iter()
        .all(|word| word == "async" || word == "const" || word.starts_with("pub"));
    let end = after.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    (only_qualifiers && end > 0).then(|| &after[..end])
}

/// `test('name', …)` or `it("name", …)` in JavaScript, `def test_name(` in Python, `test_name() {` in a shell script.
fn script_test_name(line: &str) -> Option<&str> {
    let line = line.strip_prefix("await ").unwrap_or(line);
    let line = line.strip_prefix("async ").unwrap_or(line);
    if let Some(name) = line.strip_prefix("def ").or(Some(line)) {
        let end = name.find('(')?;
        if name[..end].starts_with("test_") {
            return Some(&name[..end]);
        }
    }
    let call = line
        .strip_prefix("test(")
        .or_else(|| line.strip_prefix("it("))?;
    let quote = call
        .chars()
        .next()
        .filter(|c| matches!(c, '\'' | '"' | '`'))?;
    call[1..].split(quote).next()
}

fn collect(folder: &Path, found: &mut impl FnMut(PathBuf)) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(|| format!("can't list {}", folder.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    entries.sort();
    for entry in entries {
        let name = entry.file_name().and_then(|n| n.to_str()).unwrap_or("");
        if name.starts_with('.') || name == "node_modules" || name == "target" {
            continue;
        }
        if entry.is_dir() {
            collect(&entry, found)?;
        } else {
            found(entry);
        }
    }
    Ok(())
}

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))
}

fn relative(root: &Path, file: &Path) -> String {
    file.strip_prefix(root)
        .unwrap_or(file)
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rust(lines: &[&str]) -> (Vec<(String, String)>, Vec<String>) {
        let (mut claims, mut problems) = (Vec::new(), Vec::new());
        scan_rust("a.rs", &lines.join("\n"), &mut claims, &mut problems);
        (pairs(claims), problems)
    }

    fn script(lines: &[&str]) -> (Vec<(String, String)>, Vec<String>) {
        let (mut claims, mut problems) = (Vec::new(), Vec::new());
        scan_script("a.mjs", &lines.join("\n"), &mut claims, &mut problems);
        (pairs(claims), problems)
    }

    fn pairs(claims: Vec<Claim>) -> Vec<(String, String)> {
        claims.into_iter().map(|c| (c.id, c.test)).collect()
    }

    fn pair(id: &str, test: &str) -> (String, String) {
        (id.to_owned(), test.to_owned())
    }

    #[test]
    fn ids_belong_to_the_test_below() {
        let (claims, problems) = rust(&[
            "    // shows: A, B,",
            "    // C",
            "    /// What it does.",
            "    #[tokio::test(flavor = \"multi_thread\",",
            "        worker_threads = 2)]",
            "    async fn spends_once() {}",
            "#[test]",
            "// shows: D",
            "fn below_the_attribute() {}",
        ]);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(
            claims,
            [
                pair("A", "a.rs::spends_once"),
                pair("B", "a.rs::spends_once"),
                pair("C", "a.rs::spends_once"),
                pair("D", "a.rs::below_the_attribute"),
            ]
        );
    }

    #[test]
    fn only_a_test_that_runs_can_show() {
        for lines in [
            &["// shows: A", "fn helper() {}"][..],
            &[
                "// shows: A",
                "#[test]",
                "#[ignore = \"slow\"]",
                "fn ignored() {}",
            ],
            &["// shows: A", "", "#[test]", "fn too_far() {}"],
            &["// shows: A", "#[test_helper]", "fn other_attribute() {}"],
            &["// shows: A", "const X: u8 = 1;"],
            &["// shows: A"],
        ] {
            let (claims, problems) = rust(lines);
            assert_eq!((claims.len(), problems.len()), (0, 1), "{lines:?}");
        }
    }

    #[test]
    fn scripts_name_their_tests_or_speak_as_a_whole() {
        let (claims, problems) = script(&[
            "// shows: A",
            "import test from 'node:test';",
            "// shows: B",
            "await test('signs a file', async () => {});",
            "# shows: C",
            "def test_accepts(path):",
            "// shows: D",
            "const x = 1;",
        ]);
        assert_eq!(
            claims,
            [
                pair("A", "a.mjs"),
                pair("B", "a.mjs::signs a file"),
                pair("C", "a.mjs::test_accepts"),
            ]
        );
        assert_eq!(problems.len(), 1);
    }
}
