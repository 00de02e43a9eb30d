//! The workspace as cargo sees it, without resolving dependencies (so without a network).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::shell;

/// The part of `cargo metadata` that our commands look at.
#[derive(Debug, Deserialize)]
pub struct Workspace {
    pub packages: Vec<Package>,
    pub target_directory: PathBuf,
}

/// One of our crates.
#[derive(Debug, Deserialize)]
pub struct Package {
    pub name: String,
    pub manifest_path: PathBuf,
    pub dependencies: Vec<Dependency>,
    pub targets: Vec<Target>,
}

/// A dependency as its manifest names it.
#[derive(Debug, Deserialize)]
pub struct Dependency {
    /// The package's own name, whatever the manifest calls it.
    pub name: String,
    /// `None` for an ordinary one, else `dev` or `build`.
    pub kind: Option<String>,
    /// The folder of one of ours.
    pub path: Option<PathBuf>,
}

/// A library, program or test of a crate.
#[derive(Debug, Deserialize)]
pub struct Target {
    pub kind: Vec<String>,
    pub src_path: PathBuf,
}

impl Workspace {
    /// # Errors
    /// A manifest is wrong, or cargo isn't there.
    pub fn read() -> Result<Self> {
        let args = [
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ];
        Self::parse(&shell::capture(shell::cargo().args(args))?)
    }

    /// From what `cargo metadata` printed.
    pub fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text).context("cargo metadata said something unexpected")
    }
}

impl Package {
    /// Zone and folder: `crates/<zone>/<folder>/Cargo.toml`; what lies elsewhere is a zone of its own.
    pub fn place(&self) -> Option<(&str, &str)> {
        let folder = self.manifest_path.parent()?;
        let name = folder.file_name()?.to_str()?;
        let zone = folder
            .parent()
            .filter(|zone| zone.parent().is_some_and(|p| p.ends_with("crates")))
            .and_then(|zone| zone.file_name()?.to_str());
        Some((zone.unwrap_or(name), name))
    }

    /// The folder of the library's sources, if there is a library.
    pub fn library_sources(&self) -> Option<&Path> {
        let is_library = |target: &&Target| target.kind.iter().any(|kind| kind == "lib");
        self.targets.iter().find(is_library)?.src_path.parent()
    }
}
