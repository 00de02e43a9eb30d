//! Tests that the list of attacks cites: each is in the tree, by the name that stands there.

use std::fs;
use std::path::{Path, PathBuf};

use crate::shell;

const LIST: &str = "docs/design/0012-attacks.md";
/// Folders with tests.
const FOLDERS: [&str; 3] = ["crates", "fuzz", "tests"];
/// Where `module::function` and `module::*` are looked for first.
const SAM: &str = "crates/sam/sam-service/tests/sam";
/// Where files are that are named without a folder outside of the table.
const STORIES: &str = "crates/bin/natsuin/tests/stories";
/// Where the model's guards stand.
const GUARDS: &str = "crates/sam/sam-core/tests/state/model/worlds.rs";

/// Sources, by their paths from the root.
struct Tree {
    root: PathBuf,
    files: Vec<String>,
}

impl Tree {
    fn read() -> Self {
        let mut tree = Self {
            root: shell::root(),
            files: Vec::new(),
        };
        for folder in FOLDERS {
            tree.add(Path::new(folder));
        }
        tree.files.sort();
        tree
    }

    fn add(&mut self, folder: &Path) {
        for entry in fs::read_dir(self.root.join(folder)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let path = folder.join(&name);
            if entry.file_type().unwrap().is_dir() {
                if !["target", "node_modules"].contains(&name.as_str()) {
                    self.add(&path);
                }
            } else if name.ends_with(".rs") || name.ends_with(".mjs") {
                self.files.push(path.to_str().unwrap().to_owned());
            }
        }
    }

    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.root.join(file)).unwrap()
    }

    fn define(&self, files: &[&String], function: &str) -> bool {
        let opening = format!("fn {function}(");
        files.iter().any(|file| self.text(file).contains(&opening))
    }

    /// A file or what a folder has, by the end of its path.
    fn at(&self, path: &str) -> Vec<&String> {
        let (end, within) = (format!("/{path}"), format!("/{path}/"));
        let is = |file: &&String| {
            let whole = format!("/{file}");
            whole.ends_with(&end) || whole.contains(&within)
        };
        self.files.iter().filter(is).collect()
    }

    /// The folder of what is cited; nothing if that isn't there. A name without a folder is looked for in the one before.
    fn found(&self, cited: &str, before: &str) -> Option<String> {
        let (place, name) = match cited.split_once("::") {
            Some((place, name)) => (place, Some(name)),
            None => (cited, None),
        };
        let is_file = place.ends_with(".rs") || place.ends_with(".mjs");
        match name {
            _ if is_file || place.contains('/') => {
                self.path(place.trim_end_matches('/'), name, before)
            }
            Some(name) => self.module(place, name),
            None if cited.starts_with(char::is_uppercase) => {
                let guard = format!("    {cited},\n");
                self.text(GUARDS)
                    .contains(&guard)
                    .then(|| before.to_owned())
            }
            None if cited.contains('_') => {
                let files: Vec<_> = self.at(before);
                self.define(&files, cited).then(|| before.to_owned())
            }
            None => FOLDERS.contains(&cited).then(|| cited.to_owned()),
        }
    }

    fn path(&self, path: &str, function: Option<&str>, before: &str) -> Option<String> {
        let beside = format!("{before}/{path}");
        let (files, path) = match self.at(&beside) {
            found if !path.contains('/') && !found.is_empty() => (found, beside.as_str()),
            _ => (self.at(path), path),
        };
        let first = files.first()?;
        if function.is_some_and(|name| !self.define(&files, name)) {
            return None;
        }
        let at = format!("/{first}").find(&format!("/{path}"))?;
        let whole = first.get(..at + path.len())?;
        let folder = match whole.len() == first.len() {
            true => whole.rsplit_once('/')?.0,
            false => whole,
        };
        Some(folder.to_owned())
    }

    /// A test of the SAM's by its module, or a crate's by the way to it.
    fn module(&self, first: &str, rest: &str) -> Option<String> {
        let (file, folder) = (format!("{SAM}/{first}.rs"), format!("{SAM}/{first}/"));
        let own = |f: &&String| **f == file || f.starts_with(&folder);
        let files: Vec<_> = self.files.iter().filter(own).collect();
        if !files.is_empty() {
            let there = rest == "*" || self.define(&files, rest);
            return there.then(|| SAM.to_owned());
        }
        let of_crate = |f: &&String| f.split('/').nth(2) == Some(first);
        let files: Vec<_> = self.files.iter().filter(of_crate).collect();
        let last = rest.rsplit("::").next()?;
        let (file, folder) = (format!("/{last}.rs"), format!("/{last}/"));
        let module = |f: &&String| f.ends_with(&file) || f.contains(&folder);
        let there = files.iter().any(module) || self.define(&files, last);
        let folder = files.first()?.split('/').take(3).collect::<Vec<_>>();
        there.then(|| folder.join("/"))
    }

    /// What a text cites that isn't there, and how much it cites.
    fn missing<'t>(&self, text: &'t str, first: &str) -> (Vec<&'t str>, usize) {
        let (mut before, mut missing, mut count) = (first.to_owned(), Vec::new(), 0);
        for cited in text.split('`').skip(1).step_by(2) {
            count += 1;
            match self.found(cited, &before) {
                Some(folder) => before = folder,
                None => missing.push(cited),
            }
        }
        (missing, count)
    }
}

/// The cells of a row that has a number.
fn row(line: &str) -> Option<Vec<&str>> {
    let cells: Vec<_> = line.strip_prefix("| ")?.split(" | ").collect();
    cells.first()?.parse::<u32>().ok()?;
    Some(cells)
}

#[test]
fn every_test_that_the_list_of_attacks_cites_is_there() {
    let tree = Tree::read();
    let list = tree.text(LIST);
    let (mut rows, mut cited) = (0, 0);
    for line in list.lines() {
        let Some(cells) = row(line) else {
            // Elsewhere only files and tests by their modules are meant.
            let tests =
                line.split('`').skip(1).step_by(2).filter(|text| {
                    text.contains("::") || text.contains('/') || text.ends_with(".rs")
                });
            for text in tests {
                assert!(tree.found(text, STORIES).is_some(), "{text}: {line}");
            }
            continue;
        };
        let (missing, count) = tree.missing(cells.last().unwrap(), SAM);
        assert!(missing.is_empty(), "{}: {missing:?}", cells[0]);
        assert!(count > 0 || cells.last().unwrap().starts_with("the same"));
        (rows, cited) = (rows + 1, cited + count);
    }
    assert!(rows > 60 && cited > 100, "{rows} rows, {cited} tests");
}

#[test]
fn a_test_that_is_cited_and_isnt_there_is_missed() {
    let tree = Tree::read();
    for good in [
        "`guard::*`, `once::a_wrong_value_never_leaves_and_stops_the_key`",
        "`cm-core/tests/stories/admission.rs`, `once.rs`",
        "`cm-core/tests/stories` (`an_item_of_an_act_is_signed_once_whatever_the_step`)",
        "`sam-core::act::items_are_counted_measured_and_cleaned`, `jose::jwe` (unit)",
        "`natsuin/tests/stories/walls.rs::a_zone_opens_to_its_own_callers_only`; model, guard `KeyCheck`",
        "`ssa-service/tests/it/grants.rs`, `oauth/`; `fuzz`",
    ] {
        assert!(tree.missing(good, SAM).0.is_empty(), "{good}");
    }
    for bad in [
        "`nowhere::*`",
        "`once::no_such_test`",
        "`cm-core/tests/stories/nowhere.rs`",
        "`natsuin/tests/stories/walls.rs::no_such_test`",
        "`sam-core::act::no_such_test`",
        "`cm-core/tests/stories` (`no_such_test`)",
        "`NoSuchGuard`",
        "`nothing`",
    ] {
        assert_eq!(tree.missing(bad, SAM).0.len(), 1, "{bad}");
    }
}
