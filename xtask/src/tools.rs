//! Installs what the tests need and is missing: Debian packages, Node packages, a Python environment, a Go program, a PKCS#11
//! library.
//!
//! Every step looks first and does nothing if there is nothing to do; a step that was interrupted starts again.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;
use crate::{kryoptic, shell};

/// What the tests start beside our own programs: SoftHSM2 as a token, PostgreSQL as a store, other people's
/// validators for the signed files, `age` for backups, `curl` and `jq` for the guide of the API, a browser with the letters of our pages, `venv` for
/// pyHanko, and what the build of
/// [`kryoptic`] wants.
const DEBIAN_PACKAGES: &[&str] = &[
    "age",
    "chromium",
    "chromium-driver",
    "curl",
    "fonts-noto-cjk",
    "jq",
    "libclang-dev",
    "make",
    "openssl",
    "perl",
    "poppler-utils",
    "postgresql",
    "python3-venv",
    "qpdf",
    "softhsm2",
];

/// Written into an environment when it is complete; holds what it was made from.
const STAMP: &str = ".natsuin-complete";

/// Installs everything that is missing.
///
/// # Errors
/// Something is missing that can't be installed from here; the message has the command to run.
pub fn install(root: &Path) -> Result<()> {
    rust_components()?;
    debian(&missing_packages()?)?;
    node(&root.join("tests/browser"))?;
    python(root)?;
    go(root)?;
    kryoptic::install(root)?;
    Ok(())
}

/// The checker of exported logs made of Go's checksum database; tests find it as `NATSUIN_LOG_CHECK`.
pub fn log_check_path() -> Result<PathBuf> {
    Ok(go_folder()?.join("log-check"))
}

/// The interpreter with pyHanko, where [`install`] puts it; tests find it as `NATSUIN_PYTHON`.
pub fn python_path() -> Result<PathBuf> {
    Ok(venv()?.join("bin/python"))
}

/// `rustfmt` and `clippy`, which a minimal installation of Rust lacks.
fn rust_components() -> Result<()> {
    let has = |name: &str| shell::capture(shell::cargo().args([name, "--version"])).is_ok();
    let missing: Vec<&str> = [("fmt", "rustfmt"), ("clippy", "clippy")]
        .into_iter()
        .filter_map(|(command, component)| (!has(command)).then_some(component))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand = format!("rustup component add {}", missing.join(" "));
    let rustup = shell::find_program("rustup")
        .with_context(|| format!("Rust came without {}; `{by_hand}`", missing.join(" and ")))?;
    println!("installing Rust components: {}", missing.join(" "));
    shell::fetch(
        Command::new(rustup)
            .args(["component", "add"])
            .args(&missing),
    )
    .with_context(|| format!("couldn't install them; by hand: {by_hand}"))
}

fn missing_packages() -> Result<Vec<&'static str>> {
    if shell::find_program("dpkg-query").is_none() {
        bail!(
            "this isn't a Debian system: install the equivalents of {} and Node 18 or later with npm, \
             then run `cargo xtask test --offline-tools`",
            DEBIAN_PACKAGES.join(", ")
        );
    }
    let mut missing: Vec<&str> = DEBIAN_PACKAGES
        .iter()
        .copied()
        .filter(|name| !is_installed(name))
        .collect();
    // Only the missing half: a Node from elsewhere brings its own npm and conflicts with Debian's.
    for (program, package) in [("node", "nodejs"), ("npm", "npm"), ("go", "golang-go")] {
        if shell::find_program(program).is_none() {
            missing.push(package);
        }
    }
    Ok(missing)
}

fn is_installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat", "${db:Status-Status}", package]);
    shell::capture(&mut query).is_ok_and(|status| status == "installed")
}

fn debian(missing: &[&str]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    let by_hand =
        format!("apt-get update && apt-get install --no-install-recommends -y {packages}");
    let user = shell::capture(Command::new("id").arg("-u"))?;
    if user.trim() != "0" {
        bail!("missing Debian packages; run as root, then again this command:\n  {by_hand}");
    }
    println!("installing Debian packages: {packages}");
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            // A machine that has just started may be updating itself.
            .args(["-o", "DPkg::Lock::Timeout=600"])
            .args(args);
        shell::fetch(&mut command)
    };
    apt(&["-qq", "update"])
        .and_then(|()| {
            let options = ["-qq", "-y", "--no-install-recommends", "install"];
            apt(&[&options[..], missing].concat())
        })
        .with_context(|| format!("couldn't install the Debian packages; by hand: {by_hand}"))
}

fn node(folder: &Path) -> Result<()> {
    let wanted = std::fs::read_to_string(folder.join("package-lock.json"))?;
    let modules = folder.join("node_modules");
    if is_complete(&modules, &wanted) {
        return Ok(());
    }
    println!("installing Node packages into {}", modules.display());
    let npm = shell::find_program("npm").context("npm isn't there although its package is")?;
    shell::fetch(Command::new(npm).current_dir(folder).args([
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
    ]))
    .context("couldn't install the Node packages; by hand: npm ci --prefix tests/browser")?;
    complete(&modules, &wanted)
}

fn python(root: &Path) -> Result<()> {
    let requirements = root.join("tests/python/requirements.txt");
    let venv = venv()?;
    // Debian's own interpreter has `venv` by the package above; another one in PATH may not.
    let system = shell::find_program("python3").context("python3 isn't there")?;
    let debian = PathBuf::from("/usr/bin/python3");
    let python = if debian.is_file() { debian } else { system };
    let version = shell::capture(Command::new(&python).arg("--version"))?;
    let wanted = version + &std::fs::read_to_string(&requirements)?;
    if is_complete(&venv, &wanted) {
        return Ok(());
    }
    println!("installing pyHanko into {}", venv.display());
    shell::run(
        Command::new(&python)
            .args(["-m", "venv", "--clear"])
            .arg(&venv),
    )
    .context("couldn't make a Python environment; Debian's package python3-venv has it")?;
    shell::fetch(
        Command::new(venv.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--require-hashes"])
            .args(["--disable-pip-version-check", "--only-binary", ":all:"])
            .arg("--requirement")
            .arg(&requirements),
    )
    .context("couldn't install the Python packages of tests/python/requirements.txt")?;
    complete(&venv, &wanted)
}

/// Modules and build cache lie with the program, so that nothing outside the target directory is touched.
fn go(root: &Path) -> Result<()> {
    let source = root.join("tests/go");
    let folder = go_folder()?;
    let mut wanted = String::new();
    for name in ["go.mod", "go.sum", "main.go"] {
        wanted += &std::fs::read_to_string(source.join(name))?;
    }
    if is_complete(&folder, &wanted) {
        return Ok(());
    }
    println!("building the log checker into {}", folder.display());
    let go = shell::find_program("go").context("go isn't there although its package is")?;
    std::fs::create_dir_all(&folder)?;
    shell::fetch(
        Command::new(go)
            .current_dir(&source)
            .env("GOMODCACHE", folder.join("modules"))
            .env("GOCACHE", folder.join("cache"))
            .env("GOFLAGS", "-mod=readonly -modcacherw -buildvcs=false")
            .args(["build", "-trimpath", "-o"])
            .arg(log_check_path()?)
            .arg("."),
    )
    .context("couldn't build tests/go; it needs Go 1.18 or later")?;
    complete(&folder, &wanted)
}

fn go_folder() -> Result<PathBuf> {
    let target = Workspace::read()?.target_directory;
    Ok(target.join("test-tools/go"))
}

fn venv() -> Result<PathBuf> {
    let target = Workspace::read()?.target_directory;
    Ok(target.join("test-tools/venv"))
}

pub(crate) fn is_complete(folder: &Path, wanted: &str) -> bool {
    std::fs::read_to_string(folder.join(STAMP)).is_ok_and(|stamp| stamp == wanted)
}

pub(crate) fn complete(folder: &Path, wanted: &str) -> Result<()> {
    let stamp = folder.join(STAMP);
    std::fs::write(&stamp, wanted).with_context(|| format!("can't write {}", stamp.display()))
}
