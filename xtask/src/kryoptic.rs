//! Builds Kryoptic, the other PKCS#11 implementation of the tests, from `tests/kryoptic`: a project of its own whose lock file
//! pins it, and OpenSSL's source with it. Debian has no package of it, and too old an OpenSSL.
//!
//! Of OpenSSL only `libcrypto.a` is built, without what Kryoptic doesn't ask for: that is most of the time it takes.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::shell;
use crate::tools::{complete, is_complete};
use crate::workspace::Workspace;

/// OpenSSL without programs, protocols and algorithms that no test uses, compiled quickly: its assembler stays as it is.
const CONFIGURE: &str = "no-shared no-module no-apps no-docs no-tests no-legacy no-engine no-dso no-ssl no-tls no-dtls no-quic \
    no-cmp no-cms no-ct no-ocsp no-ts no-srp no-http no-sock no-ui-console no-rfc3779 no-comp no-atexit no-deprecated no-aria \
    no-argon2 no-bf no-blake2 no-camellia no-cast no-des no-dsa no-ec2m no-gost no-idea no-lms no-md4 no-mdc2 no-ml-dsa \
    no-ml-kem no-rc2 no-rc4 no-rc5 no-rmd160 no-scrypt no-seed no-siphash no-siv no-slh-dsa no-sm2 no-sm3 no-sm4 \
    no-whirlpool enable-ec_nistp_64_gcc_128 -O1";

/// Where [`install`] puts the library; tests find it as `NATSUIN_KRYOPTIC`.
pub fn path() -> Result<PathBuf> {
    Ok(folder()?.join("libkryoptic_pkcs11.so"))
}

fn folder() -> Result<PathBuf> {
    Ok(Workspace::read()?
        .target_directory
        .join("test-tools/kryoptic"))
}

/// Builds it unless it is there from the same versions.
///
/// # Errors
/// A step of the build failed; the message names it.
pub fn install(root: &Path) -> Result<()> {
    let manifest = root.join("tests/kryoptic/Cargo.toml");
    let lock = std::fs::read_to_string(manifest.with_extension("lock"))?;
    let wanted = std::fs::read_to_string(&manifest)? + &lock + CONFIGURE;
    let folder = folder()?;
    if is_complete(&folder, &wanted) {
        return Ok(());
    }
    println!(
        "building Kryoptic and its OpenSSL into {} (some minutes)",
        folder.display()
    );
    // A half-built one isn't taken up again: it may be of other versions.
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    let build = folder.join("build");
    let openssl = openssl(&manifest, &folder).context("couldn't build OpenSSL for Kryoptic")?;
    let said = shell::capture(
        cargo(&manifest, "build")
            .args(["--release", "--message-format", "json-render-diagnostics"])
            .arg("--target-dir")
            .arg(&build)
            .env("KRYOPTIC_OPENSSL_SOURCES", &openssl),
    )
    .context("couldn't build Kryoptic; it needs libclang (Debian: libclang-dev)")?;
    let built = library(&said).context("the build of Kryoptic made no library")?;
    std::fs::copy(built, path()?)?;
    std::fs::remove_dir_all(&build)?;
    std::fs::remove_dir_all(&openssl)?;
    complete(&folder, &wanted)
}

fn cargo(manifest: &Path, command: &str) -> Command {
    let mut cargo = shell::cargo();
    cargo
        .arg(command)
        .arg("--manifest-path")
        .arg(manifest)
        .arg("--locked");
    cargo
}

/// A copy of OpenSSL's source with its library in it, where Kryoptic's build looks for it.
fn openssl(manifest: &Path, folder: &Path) -> Result<PathBuf> {
    let told = shell::capture(cargo(manifest, "metadata").args(["--format-version", "1"]))?;
    let told: Workspace = Workspace::parse(&told)?;
    let package = told.packages.iter().find(|p| p.name == "openssl-src");
    let source = package
        .and_then(|p| p.manifest_path.parent())
        .context("tests/kryoptic/Cargo.lock has no openssl-src")?
        .join("openssl");
    shell::run(Command::new("cp").args(["-R"]).arg(&source).arg(folder))?;
    let copy = folder.join("openssl");
    shell::capture(
        Command::new("perl")
            .current_dir(&copy)
            .arg("Configure")
            .args(CONFIGURE.split_whitespace()),
    )?;
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    for target in ["build_generated", "libcrypto.a"] {
        let mut make = Command::new("make");
        make.current_dir(&copy)
            .args(["-s", &format!("-j{cores}"), target]);
        shell::capture(&mut make)?;
    }
    Ok(copy)
}

/// Where cargo says that it put the library.
fn library(said: &str) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Message {
        target: Option<Target>,
        #[serde(default)]
        filenames: Vec<PathBuf>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
    }
    let messages = said
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok());
    let mut files = messages
        .filter(|m| {
            m.target
                .as_ref()
                .is_some_and(|t| t.name == "kryoptic_pkcs11")
        })
        .flat_map(|m| m.filenames);
    files.find(|f| f.extension().is_some_and(|e| e == "so"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_is_where_cargo_says() {
        let said = "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"serde\"},\"filenames\":[\"/b/libserde.so\"]}\n\
                    not a message\n\
                    {\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"kryoptic_pkcs11\"},\
                     \"filenames\":[\"/b/a.rlib\",\"/b/libkryoptic_pkcs11-1.so\"]}\n";
        assert_eq!(
            library(said),
            Some(PathBuf::from("/b/libkryoptic_pkcs11-1.so"))
        );
        assert_eq!(library("{\"reason\":\"build-finished\"}"), None);
    }
}
