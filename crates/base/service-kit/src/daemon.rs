//! What the daemons have in common: how they start and tell why they can't, and configuration files: TOML with unknown
//! keys refused, PEM and key files beside.

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use core_types::{Digest32, SecretBytes, sha256};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tracing_subscriber::EnvFilter;

use crate::answer::tell_trouble;
use crate::http::HttpOptions;
use crate::logs::{self, Form};
use crate::{Identity, Trouble};

/// What to do about most trouble of a daemon at its start.
pub const CHECK: &str = "check the settings of this daemon";

/// Runs a daemon, or one of its commands, to its end: log lines go to standard error, and so does what went wrong (exit
/// code 4, or 75 if it passes by itself: service managers try that again), as a log line of the same form. `json`: a program has
/// called, which is told that in one JSON object on standard output.
pub fn main(json: bool, run: impl Future<Output = Result<(), Trouble>>) -> ExitCode {
    let form = match logs::begin(EnvFilter::new("info")) {
        Ok(form) => form,
        Err(trouble) => return report(Form::Text, &trouble),
    };
    let done = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Trouble::new("runtime", e.to_string(), "check the machine's limits"))
        .and_then(|runtime| runtime.block_on(run));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) if json => {
            tell_trouble(&trouble);
            ExitCode::from(exit(&trouble))
        }
        Err(trouble) => report(form, &trouble),
    }
}

#[expect(clippy::print_stderr, reason = "the one place that prints")]
fn report(form: Form, trouble: &Trouble) -> ExitCode {
    let Trouble { code, what, remedy } = trouble;
    match form {
        Form::Text => eprintln!("error: {what}  (code {code})\n  do:  {remedy}"),
        Form::Json => tracing::error!(code = *code, remedy = remedy.as_str(), "{what}"),
    }
    ExitCode::from(exit(trouble))
}

/// The number that `RestartPreventExitStatus` of the units names, or `EX_TEMPFAIL`.
fn exit(trouble: &Trouble) -> u8 {
    match trouble.code {
        Trouble::AWAY => 75,
        _ => 4,
    }
}

/// Files of a TLS identity and the CA that vouches for the other side.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// Own certificate chain, PEM.
    pub chain: PathBuf,
    /// Own private key, PKCS#8 PEM.
    pub key: PathBuf,
    /// CA of the other zones' certificates, PEM.
    pub ca: PathBuf,
}

impl TlsFiles {
    /// The own identity.
    ///
    /// # Errors
    /// [`Trouble`] when a file can't be read.
    pub fn identity(&self) -> Result<Identity, Trouble> {
        Ok(Identity {
            chain_pem: text(&self.chain)?,
            key_pem: SecretBytes::from(text(&self.key)?),
        })
    }

    /// A caller of other zones, with this identity.
    ///
    /// # Errors
    /// [`Trouble`] when a file can't be read.
    pub fn caller(&self) -> Result<HttpOptions, Trouble> {
        Ok(HttpOptions {
            ca_pem: Some(self.ca_pem()?),
            identity: Some(self.identity()?),
            ..HttpOptions::default()
        })
    }

    /// The CA's certificates, PEM.
    ///
    /// # Errors
    /// [`Trouble`] when the file can't be read.
    pub fn ca_pem(&self) -> Result<String, Trouble> {
        text(&self.ca)
    }
}

/// Reads a configuration file. Paths in it are taken as they stand.
///
/// # Errors
/// [`Trouble`] `bad-config`, with the place in the file.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, Trouble> {
    parse(path, &text(path)?)
}

fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, Trouble> {
    toml::from_str(text).map_err(|e| {
        Trouble::new(
            "bad-config",
            format!("{}: {e}", path.display()),
            "compare with the commented sample of this daemon",
        )
    })
}

/// Reads a text file.
///
/// # Errors
/// [`Trouble`] `config-file`.
pub fn text(path: &Path) -> Result<String, Trouble> {
    fs::read_to_string(path).map_err(|e| unreadable(path, &e))
}

/// Signatures over a configuration, a compact JWS each: a line each of the file beside it, `….toml.sig`; none without that file.
///
/// # Errors
/// [`Trouble`] `config-file`.
pub fn signatures(config: &Path) -> Result<Vec<String>, Trouble> {
    let beside = config.with_added_extension("sig");
    match beside.exists() {
        true => Ok(text(&beside)?.lines().map(str::to_owned).collect()),
        false => Ok(Vec::new()),
    }
}

/// Reads a file of secret bytes, once.
///
/// # Errors
/// [`Trouble`] `config-file`.
pub fn secret(path: &Path) -> Result<SecretBytes, Trouble> {
    let bytes = fs::read(path).map_err(|e| unreadable(path, &e))?;
    Ok(SecretBytes::new(bytes))
}

/// Reads a file of exactly 32 secret bytes.
///
/// # Errors
/// [`Trouble`] when it can't be read or has another length.
pub fn secret32(path: &Path) -> Result<SecretBytes, Trouble> {
    of_32(path, secret(path)?)
}

/// What was read of a file that has exactly 32 secret bytes.
///
/// # Errors
/// [`Trouble`] when it has another length.
pub fn of_32(path: &Path, bytes: SecretBytes) -> Result<SecretBytes, Trouble> {
    if bytes.len() == 32 {
        return Ok(bytes);
    }
    let what = format!("{} has {} bytes instead of 32", path.display(), bytes.len());
    Err(Trouble::new(
        "config-file",
        what,
        "make it once with: head -c 32 /dev/urandom",
    ))
}

/// Files as they were read, by name: what is signed is what was used, whoever writes to them meanwhile.
#[derive(Debug, Clone, Default)]
pub struct FilesRead(BTreeMap<String, Digest32>);

impl FilesRead {
    /// As [`load`], under the name `config`.
    ///
    /// # Errors
    /// As [`load`].
    pub fn load<T: DeserializeOwned>(&mut self, path: &Path) -> Result<T, Trouble> {
        let text = self.text("config", path)?;
        parse(path, &text)
    }

    /// As [`text`], under a name of the form that [`digests`] gives.
    ///
    /// # Errors
    /// As [`text`].
    pub fn text(&mut self, name: &str, path: &Path) -> Result<String, Trouble> {
        let text = text(path)?;
        self.0.insert(name.to_owned(), sha256(&[text.as_bytes()]));
        Ok(text)
    }

    /// SHA-256 of each.
    pub fn digests(self) -> BTreeMap<String, Digest32> {
        self.0
    }
}

/// SHA-256 of a configuration file, under the name `config`, and of the files that it names under these members
/// (`tls.ca`; `*` for every member of a table or an array), each under the member's name. Members that aren't there are left out.
/// `root`: where what it names lies if this is a copy from another machine.
///
/// # Errors
/// [`Trouble`] when a file can't be read or isn't TOML.
pub fn digests(
    config: &Path,
    members: &[&str],
    root: Option<&Path>,
) -> Result<BTreeMap<String, Digest32>, Trouble> {
    let mut read = FilesRead::default();
    let parsed: toml::Table = read.load(config)?;
    for (name, file) in found(&parsed, members) {
        let copied = root.map(|root| root.join(file.strip_prefix("/").unwrap_or(&file)));
        read.text(&name, copied.as_ref().unwrap_or(&file))?;
    }
    Ok(read.digests())
}

/// The value of a setting that may stand in a file of its own (`@FILE`), so that the configuration holds no secret.
///
/// # Errors
/// As [`text`].
pub fn kept_apart(setting: &str) -> Result<String, Trouble> {
    match setting.strip_prefix('@') {
        Some(file) => Ok(text(Path::new(file))?.trim().to_owned()),
        None => Ok(setting.to_owned()),
    }
}

/// The files that a configuration file names under these members, of the form that [`digests`] takes, by the names of their places.
/// They need not be there.
///
/// # Errors
/// [`Trouble`] when the configuration file can't be read or isn't TOML.
pub fn named(config: &Path, members: &[&str]) -> Result<BTreeMap<String, PathBuf>, Trouble> {
    Ok(found(&load(config)?, members))
}

fn found(parsed: &toml::Table, members: &[&str]) -> BTreeMap<String, PathBuf> {
    let mut named = Vec::new();
    for member in members {
        let path: Vec<&str> = member.split('.').collect();
        find(parsed, &path, String::new(), &mut named);
    }
    let named = named.into_iter();
    named.map(|(name, file)| (name, file.into())).collect()
}

/// Every text under `path`, with the name of its place.
fn find(table: &toml::Table, path: &[&str], place: String, found: &mut Vec<(String, String)>) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    for (name, value) in table.iter().filter(|(n, _)| *first == "*" || n == first) {
        let place = match place.is_empty() {
            true => name.clone(),
            false => format!("{place}.{name}"),
        };
        match value {
            toml::Value::Table(inner) => find(inner, rest, place, found),
            toml::Value::String(file) if rest.is_empty() => found.push((place, file.clone())),
            toml::Value::Array(all) => {
                // Its members by their numbers from 0.
                let numbered = all.iter().enumerate();
                let numbered = numbered.map(|(n, value)| (n.to_string(), value.clone()));
                find(&numbered.collect::<toml::Table>(), rest, place, found);
            }
            _ => {}
        }
    }
}

/// Waits for Ctrl-C or the signal that service managers send, from the call on and not from the first poll: a daemon that calls it
/// before it opens its doors is ended in order by whoever found them open.
pub fn interrupted() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = [SignalKind::interrupt(), SignalKind::terminate()].map(|kind| signal(kind).ok());
    async move {
        let [interrupt, terminate] = signals.map(|signal| async {
            match signal {
                Some(mut signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        });
        tokio::select! {
            _ = interrupt => {}
            _ = terminate => {}
        }
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Trouble {
    Trouble::new(
        "config-file",
        format!("{} can't be read: {error}", path.display()),
        "check the path and that only this daemon's user may read it",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_tried_again() {
        let away = Trouble::new(Trouble::AWAY, "the database is away", "wait");
        let store = Trouble::new("store", "it is another's", CHECK);
        assert_eq!((exit(&away), exit(&store)), (75, 4));
    }

    #[test]
    fn a_setting_stands_in_the_configuration_or_in_a_file_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("store");
        fs::write(&file, "postgres://sam:pw@localhost/n\n").unwrap();
        let apart = kept_apart(&format!("@{}", file.display()));
        assert_eq!(apart.unwrap(), "postgres://sam:pw@localhost/n");
        assert_eq!(kept_apart("sqlite:/a").unwrap(), "sqlite:/a");
        assert_eq!(kept_apart("@/nowhere").unwrap_err().code, "config-file");
    }

    #[test]
    fn every_file_that_is_named_counts_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["root", "ca", "one", "two", "key"] {
            fs::write(at(name), name).unwrap();
        }
        let text = format!(
            "root = '{d}/root'\nport = 1\n[tls]\nca = '{d}/ca'\nkey = '{d}/key'\n[clients]\na = {{ keys = '{d}/one' }}\n\
             b = {{ keys = '{d}/two' }}\nc = 'a name'\n[[stamping]]\nanchors = '{d}/one'\n[[stamping]]\nanchors = '{d}/ca'\n",
            d = dir.path().display()
        );
        fs::write(at("config"), &text).unwrap();
        let of = |members: &[&str]| digests(&at("config"), members, None);
        let members = [
            "root",
            "tls.ca",
            "clients.*.keys",
            "stamping.*.anchors",
            "absent",
            "absent.too",
            "port",
        ];
        let found = of(&members).unwrap();
        let digest = |text: &str| sha256(&[text.as_bytes()]);
        let expected = [
            ("config", digest(&text)),
            ("root", digest("root")),
            ("tls.ca", digest("ca")),
            ("clients.a.keys", digest("one")),
            ("clients.b.keys", digest("two")),
            ("stamping.0.anchors", digest("one")),
            ("stamping.1.anchors", digest("ca")),
        ];
        let expected: BTreeMap<_, _> = expected.map(|(n, d)| (n.to_owned(), d)).into();
        assert_eq!(found, expected);
        fs::write(at("two"), "other").unwrap();
        assert_ne!(of(&members).unwrap(), expected);
        fs::remove_file(at("two")).unwrap();
        assert_eq!(of(&members).unwrap_err().code, "config-file");
        // Which files there should be is known without them.
        let should = named(&at("config"), &members).unwrap();
        assert_eq!(should.len(), expected.len() - 1);
        assert_eq!(should["clients.b.keys"], at("two"));
    }
}
