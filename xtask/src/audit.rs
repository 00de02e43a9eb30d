//! `cargo xtask audit`: what we depend on, judged by cargo-deny after `deny.toml`, without a network.
//!
//! Licences, sources and banned packages always; known vulnerabilities when a folder with the RustSec advisory
//! database is given. Without it the output says so: no advisory was looked at.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::shell;
use crate::workspace::Workspace;

/// Where the database may be named beside `--db`.
const DB_VARIABLE: &str = "NATSUIN_ADVISORY_DB";

/// Runs cargo-deny; `if_present` makes a missing cargo-deny a message instead of an error.
pub fn run(root: &Path, db: Option<&str>, if_present: bool) -> Result<()> {
    let Some(deny) = shell::find_program("cargo-deny") else {
        let hint = "cargo-deny isn't installed: `cargo install --locked cargo-deny`";
        if if_present {
            println!("audit: skipped, {hint}");
            return Ok(());
        }
        bail!("{hint}");
    };
    // Where the sources of all dependencies are here already this does nothing, else cargo-deny needs them.
    shell::run(shell::cargo().args(["fetch", "--quiet", "--locked"]))?;
    let db = db
        .map(PathBuf::from)
        .or_else(|| std::env::var_os(DB_VARIABLE).map(PathBuf::from));
    let Some(db) = db else {
        println!(
            "audit: no advisory looked at; name a copy of the RustSec database by --db DIR or {DB_VARIABLE}"
        );
        let mut command = Deny::new(deny, root, &root.join("deny.toml"))?.0;
        return shell::run(command.args(["licenses", "bans", "sources"]));
    };
    let db = db
        .canonicalize()
        .with_context(|| format!("the advisory database {}", db.display()))?;
    if !db.join("crates").is_dir() {
        bail!(
            "{} has no folder `crates`, so it isn't a RustSec advisory database",
            db.display()
        );
    }
    let config = stage(&deny, root, &db)?;
    let mut command = Deny::new(deny, root, &config)?.0;
    shell::run(command.args(["advisories", "licenses", "bans", "sources"]))
}

/// A `cargo deny … check` to which the names of checks are added.
struct Deny(Command);

impl Deny {
    /// The place of `--config` changed between versions of cargo-deny; its help tells.
    fn new(program: PathBuf, root: &Path, config: &Path) -> Result<Self> {
        let help = shell::capture(Command::new(&program).arg("--help"))?;
        let mut command = Command::new(program);
        command.current_dir(root).arg("--offline");
        if help.contains("--config") {
            command.arg("--config").arg(config).arg("check");
        } else {
            command.arg("check").arg("--config").arg(config);
        }
        Ok(Self(command))
    }
}

/// Lays the database where cargo-deny looks for it and returns a configuration that says so.
///
/// cargo-deny finds a database by a name made from its address. Asked about an empty folder, it tells that name.
fn stage(deny: &Path, root: &Path, db: &Path) -> Result<PathBuf> {
    let folder = Workspace::read()?.target_directory.join("audit");
    let databases = folder.join("databases");
    if databases.exists() {
        std::fs::remove_dir_all(&databases)
            .with_context(|| format!("can't clear {}", databases.display()))?;
    }
    std::fs::create_dir_all(&databases)
        .with_context(|| format!("can't make {}", databases.display()))?;
    let config = folder.join("deny.toml");
    let text = std::fs::read_to_string(root.join("deny.toml")).context("can't read deny.toml")?;
    std::fs::write(&config, with_databases(&text, &databases)?)?;

    let mut probe = Deny::new(deny.to_owned(), root, &config)?.0;
    let output = probe.arg("advisories").stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let name = database_name(&said)
        .with_context(|| format!("cargo-deny doesn't tell where it looks: {}", said.trim()))?;
    let place = databases.join(name);
    if db.join(".git").exists() {
        std::os::unix::fs::symlink(db, place)?;
    } else {
        as_repository(db, &place)?;
    }
    Ok(config)
}

/// A plain copy of the database, such as an unpacked archive, made into what cargo-deny expects. Its age can't be told
/// any more, so it is the caller's to know.
fn as_repository(db: &Path, place: &Path) -> Result<()> {
    println!("audit: the database is no Git repository, so its age isn't checked");
    shell::run(Command::new("cp").arg("-r").arg(db).arg(place))?;
    let git = |args: &[&str]| {
        let mut git = Command::new("git");
        git.arg("-C").arg(place).args([
            "-c",
            "user.name=audit",
            "-c",
            "user.email=audit@localhost",
        ]);
        shell::capture(git.args(args)).map(drop)
    };
    git(&["init", "--quiet"])?;
    git(&["add", "--all", "--force"])?;
    git(&["commit", "--quiet", "--message", "copy"])?;
    // cargo-deny reads the time of the last fetch.
    std::fs::write(place.join(".git/FETCH_HEAD"), "")?;
    Ok(())
}

/// `deny.toml` with the folder of the databases set.
fn with_databases(text: &str, databases: &Path) -> Result<String> {
    let mut config: toml::Table = text.parse().context("in deny.toml")?;
    let advisories = config
        .get_mut("advisories")
        .and_then(toml::Value::as_table_mut)
        .context("deny.toml has no [advisories]")?;
    let path = databases.to_str().context("the path isn't UTF-8")?;
    advisories.insert("db-path".to_owned(), path.into());
    Ok(toml::to_string(&config)?)
}

fn database_name(message: &str) -> Option<&str> {
    let start = message.find("advisory-db-")?;
    let name = &message[start..];
    let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    Some(&name[..end.unwrap_or(name.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_name_is_found_in_the_message() {
        let message = r#"failed: ["-C", "/t/databases/advisory-db-3157b0e258782691", "show"]"#;
        assert_eq!(database_name(message), Some("advisory-db-3157b0e258782691"));
        assert_eq!(database_name("nothing"), None);
    }

    #[test]
    fn the_configuration_keeps_everything_else() {
        let text = std::fs::read_to_string(shell::root().join("deny.toml")).unwrap();
        let changed: toml::Table = with_databases(&text, Path::new("/x"))
            .unwrap()
            .parse()
            .unwrap();
        let mut original: toml::Table = text.parse().unwrap();
        let advisories = original["advisories"].as_table_mut().unwrap();
        advisories.insert("db-path".to_owned(), "/x".into());
        assert_eq!(changed, original);
    }
}
