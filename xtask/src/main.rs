//! The project's own build commands: `cargo xtask <command>`.
//!
//! Judges the workspace from outside: it reads sources, `cargo metadata` and the tables in `boundaries.toml`,
//! `specs/` and `docs/conformity/`. It must never link a crate of the product.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line program: its output is for the terminal"
)]

mod audit;
mod boundaries;
#[cfg(test)]
mod command_line;
mod conformity;
#[cfg(test)]
mod documents;
mod filled;
mod fuzz;
mod kryoptic;
#[cfg(test)]
mod operator;
mod shell;
mod suite;
mod tcb;
mod tools;
mod workspace;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

const HELP: &str = "\
cargo xtask <command>

  test [--offline-tools]      install what the tests need and is missing, then run every check and all tests
  tools                       only install what the tests need and is missing
  boundaries                  compare every edge between our crates, and to guarded packages, with boundaries.toml
  conformity [--json]         status of every requirement of specs/requirements.toml; fails on wrong or unknown ids
  audit [--db DIR] [--if-present]
                              licences, sources and banned packages, and with DIR (a copy of the RustSec advisory
                              database) known vulnerabilities; --if-present: succeed where cargo-deny is missing
  tcb [--raise NOTE]          lines and packages of SAM and CM against docs/design/tcb.toml; a rise needs a note
  filled DIR [--lang ja]      what an operator's copy of docs/operator/en (or ja) still lacks
  fuzz [--target NAME] [--seconds N]
                              run the parsers against hostile input, 60 seconds each if not told otherwise
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[String]) -> Result<()> {
    let mut options = Options(args.iter().skip(1).map(String::as_str).collect());
    let command = args.first().map_or("help", String::as_str);
    match command {
        "test" => {
            let offline = options.flag("--offline-tools");
            options.done()?;
            suite::run(offline)
        }
        "tools" => {
            options.done()?;
            tools::install(&shell::root())
        }
        "boundaries" => {
            options.done()?;
            boundaries::run(&shell::root())
        }
        "conformity" => {
            let json = options.flag("--json");
            options.done()?;
            conformity::run(&shell::root(), json)
        }
        "audit" => {
            let db = options.value("--db")?;
            let if_present = options.flag("--if-present");
            options.done()?;
            audit::run(&shell::root(), db.as_deref(), if_present)
        }
        "tcb" => {
            let raise = options.value("--raise")?;
            options.done()?;
            tcb::run(&shell::root(), raise.as_deref())
        }
        "filled" => {
            let lang = options.value("--lang")?;
            let dir = options.first().context("name the folder with the copy")?;
            options.done()?;
            let lang = lang.as_deref().unwrap_or("en");
            filled::run(&shell::root(), dir.as_ref(), lang)
        }
        "fuzz" => {
            let target = options.value("--target")?;
            let seconds = options.value("--seconds")?;
            options.done()?;
            let seconds = seconds.as_deref().unwrap_or("60").parse();
            let seconds = seconds.context("--seconds wants a number")?;
            fuzz::run(&shell::root(), target.as_deref(), seconds)
        }
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        other => bail!("there is no command {other:?}; `cargo xtask help` lists them"),
    }
}

/// What stands after the command on the command line.
struct Options<'a>(Vec<&'a str>);

impl Options<'_> {
    fn flag(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|arg| *arg != name);
        self.0.len() < before
    }

    fn value(&mut self, name: &str) -> Result<Option<String>> {
        let Some(at) = self.0.iter().position(|arg| *arg == name) else {
            return Ok(None);
        };
        if at + 1 >= self.0.len() {
            bail!("{name} wants a value");
        }
        let value = self.0.remove(at + 1).to_owned();
        self.0.remove(at);
        Ok(Some(value))
    }

    /// The first argument that is no option.
    fn first(&mut self) -> Option<String> {
        let at = self.0.iter().position(|arg| !arg.starts_with('-'))?;
        Some(self.0.remove(at).to_owned())
    }

    fn done(self) -> Result<()> {
        match self.0.first() {
            None => Ok(()),
            Some(arg) => bail!("don't know {arg:?}; `cargo xtask help` lists commands and options"),
        }
    }
}
