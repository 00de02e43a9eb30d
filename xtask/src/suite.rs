//! `cargo xtask test`: everything that has to hold before a change goes in, in the order of what fails fastest.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{boundaries, conformity, kryoptic, shell, tcb, tools};

/// Four times what compiling and running the tests takes on two cores: longer means that one hangs, and the line above says which.
const TESTS: Duration = Duration::from_secs(90 * 60);

/// Runs every step and stops at the first that fails.
pub fn run(offline_tools: bool) -> Result<()> {
    let root = shell::root();
    if !offline_tools {
        step("tools for the tests", || tools::install(&root))?;
    }
    step("format", || {
        shell::run(shell::cargo().args(["fmt", "--all", "--check"]))
    })?;
    step("boundaries", || boundaries::run(&root))?;
    step("conformity", || conformity::check(&root))?;
    step("size of SAM and CM", || tcb::run(&root, None))?;
    step("clippy", || {
        let args = [
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ];
        shell::run(shell::cargo().args(args))
    })?;
    // Tests start these as programs of their own.
    step("programs", || {
        shell::run(shell::cargo().args(["build", "--workspace", "--bins", "--examples"]))
    })?;
    step("tests", || {
        // All of them, so that one run tells every failure.
        let args = [
            "test",
            "--workspace",
            "--lib",
            "--bins",
            "--tests",
            "--no-fail-fast",
        ];
        test(&args)
    })?;
    let documented = crates_with_examples()?;
    if !documented.is_empty() {
        step("examples in the documentation", || {
            let mut args = vec!["test", "--doc"];
            args.extend(documented.iter().flat_map(|name| ["-p", name]));
            test(&args)
        })?;
    }
    Ok(())
}

fn test(args: &[&str]) -> Result<()> {
    let mut cargo = shell::cargo();
    cargo.args(args);
    let python = tools::python_path()?;
    if python.is_file() {
        cargo.env("NATSUIN_PYTHON", python);
    }
    let log_check = tools::log_check_path()?;
    if log_check.is_file() {
        cargo.env("NATSUIN_LOG_CHECK", log_check);
    }
    let kryoptic = kryoptic::path()?;
    if kryoptic.is_file() {
        cargo.env("NATSUIN_KRYOPTIC", kryoptic);
    }
    shell::run_within(TESTS, &mut cargo)
}

/// Names the step, does it, and says how long it took.
#[expect(
    clippy::disallowed_methods,
    reason = "shows a developer which step is slow; nothing depends on it"
)]
fn step(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("==> {name}");
    let start = Instant::now();
    let result = work();
    let verdict = if result.is_ok() { "done" } else { "failed" };
    println!(
        "<== {name}: {verdict} in {:.1} s",
        start.elapsed().as_secs_f64()
    );
    result.map_err(|error| error.context(format!("step {name:?}")))
}

/// Libraries whose documentation holds code: linking an empty documentation test of each other crate costs seconds.
fn crates_with_examples() -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for package in Workspace::read()?.packages {
        if let Some(sources) = package.library_sources()
            && holds_examples(sources)?
        {
            found.insert(package.name);
        }
    }
    Ok(found)
}

fn holds_examples(folder: &Path) -> Result<bool> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let found = if path.is_dir() {
            holds_examples(&path)?
        } else if path.extension().is_some_and(|e| e == "rs") {
            has_example(&std::fs::read_to_string(&path)?)
        } else {
            false
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Is there a fenced block in a documentation comment that is compiled?
fn has_example(source: &str) -> bool {
    let compiled = |words: &str| {
        let mut words = words.split(',').map(str::trim);
        words.all(|word| {
            let known = ["", "rust", "should_panic", "no_run", "compile_fail"];
            known.contains(&word) || word.starts_with("edition") || word.starts_with('E')
        })
    };
    let mut inside = false;
    for line in source.lines().map(str::trim_start) {
        let comment = line
            .strip_prefix("///")
            .or_else(|| line.strip_prefix("//!"));
        let Some(fence) = comment.and_then(|c| c.trim_start().strip_prefix("```")) else {
            continue;
        };
        if !inside && compiled(fence) {
            return true;
        }
        inside = !inside;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_code_in_documentation_comments() {
        assert!(has_example(
            "/// A\n/// ```\n/// let x = 1;\n/// ```\nfn a() {}"
        ));
        assert!(has_example(
            "//! ```compile_fail,E0433\n//! use cm_api;\n//! ```"
        ));
        assert!(!has_example("/// ```text\n/// a -> b\n/// ```\nfn a() {}"));
        assert!(!has_example("fn a() { let _ = \"```\"; }"));
    }
}
