//! `cargo xtask fuzz`: runs the targets of `fuzz/`, each for a while, from its seeds and from what earlier runs found.
//!
//! The flags below are what `cargo fuzz` would set apart from the address sanitizer, which wants a nightly compiler;
//! our parsers have no `unsafe`, so coverage and the assertions are what finds things. The layout is cargo-fuzz's own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell;
use crate::workspace::Workspace;

/// Instruments for libFuzzer; works with the stable compiler.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";

/// Runs `target`, or all of them one after another, for `seconds` each.
///
/// # Errors
/// A target found something; libFuzzer has printed where the input lies.
pub fn run(root: &Path, target: Option<&str>, seconds: u32) -> Result<()> {
    let all = targets(root)?;
    if let Some(name) = target.filter(|name| !all.iter().any(|known| known == name)) {
        bail!(
            "there is no fuzz target {name:?}; there are {}",
            all.join(", ")
        );
    }
    let host = host()?;
    let folder = Workspace::read()?.target_directory.join("fuzz");
    shell::run(
        shell::cargo()
            .env("RUSTFLAGS", FLAGS)
            .arg("build")
            .arg("--release")
            .args(["--manifest-path", "fuzz/Cargo.toml", "--target", &host])
            .arg("--target-dir")
            .arg(&folder),
    )?;
    for name in all.iter().filter(|name| target.is_none_or(|t| t == *name)) {
        println!("==> {name}, {seconds} s");
        let program = folder.join(&host).join("release").join(name);
        fuzz(root, &folder, &program, name, seconds)?;
    }
    Ok(())
}

fn fuzz(root: &Path, folder: &Path, program: &Path, name: &str, seconds: u32) -> Result<()> {
    let corpus = folder.join("corpus").join(name);
    let artifacts = folder.join("artifacts").join(name);
    for made in [&corpus, &artifacts] {
        std::fs::create_dir_all(made).with_context(|| format!("can't make {}", made.display()))?;
    }
    let mut command = Command::new(program);
    command
        .arg(&corpus)
        .arg(root.join("fuzz/seeds").join(name))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg(format!("-max_total_time={seconds}"))
        .args([
            "-timeout=10",
            "-rss_limit_mb=1024",
            "-verbosity=0",
            "-print_final_stats=1",
        ]);
    shell::run(&mut command)
}

fn targets(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("fuzz/fuzz_targets");
    let files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .with_context(|| format!("can't list {}", folder.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    let mut names: Vec<String> = files
        .iter()
        .filter_map(|file| file.file_stem()?.to_str())
        .map(str::to_owned)
        .collect();
    names.sort();
    Ok(names)
}

/// The compiler's own platform: naming it keeps the flags away from build scripts.
fn host() -> Result<String> {
    let version = shell::capture(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc doesn't tell its host")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_built_and_has_seeds() {
        let root = shell::root();
        let manifest = std::fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        let mut built: Vec<&str> = manifest["bin"]
            .as_array()
            .unwrap()
            .iter()
            .map(|bin| bin["name"].as_str().unwrap())
            .collect();
        built.sort_unstable();
        assert_eq!(built, targets(&root).unwrap());
        for name in built {
            let seeds = std::fs::read_dir(root.join("fuzz/seeds").join(name)).unwrap();
            assert!(seeds.count() > 0, "{name} has no seeds");
        }
    }
}
