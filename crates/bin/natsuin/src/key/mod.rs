//! `natsuin key`: the signer's side of keys that come in and keys that leave. Private keys are read, sealed and opened here,
//! on the signer's or the CA's machine, and never in the service.

mod command;
mod file;
mod pkcs12;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use core_types::bytes::{b64u, hex};
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::{Digest32, KeyId, SecretBytes, sha256};
use jose::{Jwk, SealKey, SigningKey};
use sam_keys::import::take_over;
use serde::Deserialize;
use serde_json::json;
use service_kit::http::{HttpOptions, client};
use sic_core::Trust;
use web_ui::Arg;

pub use command::{KeyCommand, run};
pub use file::KeyFile;

use crate::output::{Exit, Failure, Out};
use crate::stack::{Refused, Sic};

/// How long a CA vouches for a key that it sends, in seconds.
const CA_VOUCHES: i64 = 3600;

/// What `natsuin key import` is told.
#[derive(Debug, Clone)]
pub struct Import {
    /// The key.
    pub file: PathBuf,
    /// Where its password stands.
    pub password_file: Option<PathBuf>,
    /// The approval under which it is brought; without it, only what it is is shown.
    pub bring: Option<Bring>,
}

/// Where and under which approval a key is brought.
#[derive(Debug, Clone)]
pub struct Bring {
    /// Digest of the act.
    pub act: String,
    /// Origin of the approval page.
    pub sic: String,
    /// The module's root key (JWK).
    pub root: PathBuf,
    /// CA certificates for HTTPS (PEM).
    pub trust: Vec<PathBuf>,
    /// Key of the CA that sends it, PKCS#8.
    pub as_ca: Option<PathBuf>,
}

/// Shows what a key is, or brings it.
///
/// # Errors
/// [`Failure`].
pub async fn import(import: Import, out: Out) -> Result<Exit, Failure> {
    let key = KeyFile::read(&import.file, || password(import.password_file.as_deref()))?;
    let spki = sha256(&[key.spki()]);
    let m = out.m();
    let alg = key.alg.name();
    let Some(bring) = import.bring else {
        let public = b64u(key.spki());
        out.say(&m.f("cli-key-is", &[("alg", Arg::Text(alg))]));
        out.say(&format!(
            "  {}  {}",
            m.t("cli-key-print"),
            group4(&spki.to_string())
        ));
        out.say(&format!("  {}\n{public}", m.t("cli-key-public")));
        out.say(&m.t("cli-key-next"));
        out.object(&json!({
            "schema": "natsuin.key-import/1", "alg": alg, "spki": spki, "public": public,
        }));
        return Ok(Exit::Good);
    };
    let act = Digest32::parse(bring.act.trim()).map_err(|e| {
        let remedy = "copy the number from the approval page";
        Failure::new(
            Exit::Input,
            "key-act",
            format!("{}: {e}", bring.act),
            remedy,
        )
    })?;
    let ca = bring.as_ca.as_deref().map(ca_key).transpose()?;
    let sic = sic_at(root(&bring.root)?, &bring.sic, &bring.trust)?;
    let (clock, random) = (sic.clock.clone(), sic.random.clone());
    let brought = sic.bring(act, |bringing| {
        let own = key.prove(&bringing.binding())?;
        let sealed = match &ca {
            Some(ca) => {
                let exp = clock.now().plus(CA_VOUCHES);
                bringing.seal_by(ca, &own, exp, random.as_ref())
            }
            None => bringing.seal(&own, random.as_ref()),
        };
        Ok(sealed.map_err(|e| {
            let remedy =
                "use the file of the key that was approved, and begin anew if it took long";
            Failure::new(Exit::Input, "key-import", e.to_string(), remedy)
        })?)
    });
    let id = brought.await.map_err(refused)?;
    out.say(&format!(
        "OK  {}",
        m.f("cli-key-in", &[("key", Arg::Text(id.as_str()))])
    ));
    out.object(&json!({
        "schema": "natsuin.key-import/1", "alg": alg, "spki": spki, "key": id,
    }));
    Ok(Exit::Good)
}

/// The root key of a service's module, from a file.
pub(crate) fn root(path: &Path) -> Result<Jwk, Failure> {
    serde_json::from_str(&text(path)?)
        .map_err(|e| input(path, &e, "give the module's root key as a JWK (JSON)"))
}

/// The approval page's host at this origin, believed as far as this root key vouches for it.
pub(crate) fn sic_at(root: Jwk, origin: &str, ca: &[PathBuf]) -> Result<Sic, Failure> {
    let origin = origin.trim_end_matches('/').to_owned();
    let trust = Trust::new(vec![root], origin.clone());
    let trust = trust.map_err(|e| {
        Failure::new(
            Exit::Input,
            "key-sic",
            e.to_string(),
            "give the origin of the approval page",
        )
    })?;
    let mut ca_pem = String::new();
    for path in ca {
        ca_pem.push_str(&text(path)?);
    }
    let options = HttpOptions {
        ca_pem: Some(ca_pem).filter(|pem| !pem.is_empty()),
        ..HttpOptions::default()
    };
    Ok(Sic {
        origin,
        http: client(&options)?,
        trust,
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
    })
}

/// A refusal names the requirement that the key doesn't meet.
fn refused(error: anyhow::Error) -> Failure {
    let error = match error.downcast::<Failure>() {
        Ok(failure) => return failure,
        Err(error) => error,
    };
    match error.downcast_ref::<Refused>() {
        Some(Refused(refusal)) => {
            let remedy = match &refusal.requirement {
                Some(_) => {
                    "bring the key that was approved, unaltered; one that is weak, or known to the service, never comes in"
                }
                None => {
                    "look at the approval in the portal: it may be over, used, or not given yet"
                }
            };
            Failure::new(Exit::Declined, "key-refused", error.to_string(), remedy)
        }
        None => error.into(),
    }
}

/// Makes a key for receiving, and shows its public half.
///
/// # Errors
/// [`Failure`].
pub fn receiver(file: &Path, out: Out) -> Result<Exit, Failure> {
    let made = SealKey::generate().map(|(key, secret)| (key.public().clone(), secret));
    let (public, secret) =
        made.map_err(|e| Failure::new(Exit::Bug, "receiver", e.to_string(), "try again"))?;
    keep(file, b64u(secret.expose()).as_bytes())?;
    let line = serde_json::to_string(&public).unwrap_or_default();
    let code = receiver_code(&public);
    let m = out.m();
    out.say(&m.t("cli-receiver"));
    out.say(&line);
    out.say(&format!("{}  {}", m.t("cli-receiver-code"), group4(&code)));
    out.object(&json!({"schema": "natsuin.key-receiver/1", "receiver": public, "code": code}));
    Ok(Exit::Good)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HandedOver {
    format: String,
    key: KeyId,
    act: Digest32,
    sealed: String,
}

/// Opens a key that was handed over, and writes it as PKCS#8 in PEM.
///
/// # Errors
/// [`Failure`].
pub fn receive(bundle: &Path, with: &Path, to: &Path, out: Out) -> Result<Exit, Failure> {
    let wrong = "give the file that the portal hands out under the history";
    let told: HandedOver =
        serde_json::from_str(&text(bundle)?).map_err(|e| input(bundle, &e, wrong))?;
    if told.format != "natsuin-handed-over/1" {
        return Err(input(bundle, &"another format", wrong));
    }
    let secret = SecretBytes::from(text(with)?);
    let secret = std::str::from_utf8(secret.expose())
        .unwrap_or_default()
        .trim();
    let secret = core_types::bytes::from_b64u(secret).map(SecretBytes::new);
    let key = secret.ok().and_then(|s| SealKey::from_private(&s).ok());
    let key = key.ok_or_else(|| {
        input(
            with,
            &"not a receiver's key",
            "give the file that `key receive --new` made",
        )
    })?;
    let opened = take_over(&told.sealed, told.act, &key);
    let pkcs8 = opened.map_err(|e| {
        input(
            bundle,
            &e,
            "give the receiver's key for which it was sealed",
        )
    })?;
    let file = KeyFile::of(pkcs8.clone());
    let file = file.ok_or_else(|| input(bundle, &"no private key in it", wrong))?;
    let pem = SecretBytes::from(pki::pem::encode("PRIVATE KEY", pkcs8.expose()));
    keep(to, pem.expose())?;
    let spki = sha256(&[file.spki()]);
    let m = out.m();
    let words = [
        ("alg", Arg::Text(file.alg.name())),
        ("key", Arg::Text(told.key.as_str())),
    ];
    out.say(&format!("OK  {}", m.f("cli-received", &words)));
    out.say(&format!(
        "  {}  {}",
        m.t("cli-key-print"),
        group4(&spki.to_string())
    ));
    out.object(&json!({
        "schema": "natsuin.key-receive/1", "key": told.key, "alg": file.alg.name(), "spki": spki,
    }));
    Ok(Exit::Good)
}

/// What the key of a receiver or device is told by: 80 bits of its thumbprint, in hexadecimal. The approval page computes the same.
pub fn receiver_code(key: &Jwk) -> String {
    hex(&key.thumbprint().0[..10])
}

pub(crate) fn group4(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let groups = chars.chunks(4).map(|c| c.iter().collect::<String>());
    groups.collect::<Vec<_>>().join(" ")
}

fn password(file: Option<&Path>) -> Result<SecretBytes, Failure> {
    let Some(path) = file else {
        let what = "the file has a password";
        let remedy =
            "write it into a file that only you can read, and name that with --password-file";
        return Err(Failure::new(Exit::Input, "key-password", what, remedy));
    };
    let text = SecretBytes::from(text(path)?);
    let line = text.expose().split(|b| *b == b'\n').next();
    let line = line.unwrap_or_default();
    Ok(SecretBytes::new(
        line.strip_suffix(b"\r").unwrap_or(line).to_vec(),
    ))
}

fn ca_key(path: &Path) -> Result<SigningKey, Failure> {
    let wrong = "give the CA's key: P-256, PKCS#8 in PEM";
    let blocks = pki::pem::decode_all("PRIVATE KEY", &text(path)?);
    let der = blocks
        .map_err(|e| input(path, &e, wrong))?
        .into_iter()
        .next();
    let der = der.ok_or_else(|| input(path, &"no private key", wrong))?;
    SigningKey::from_pkcs8(&SecretBytes::new(der)).map_err(|e| input(path, &e, wrong))
}

/// Writes a secret into a new file that only its owner reads.
fn keep(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let remedy = "name a file that isn't there yet";
    let file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let mut file = file.map_err(|e| input(path, &e, remedy))?;
    file.write_all(bytes).map_err(|e| input(path, &e, remedy))
}

fn text(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|e| input(path, &e, "check the path"))
}

fn input(path: &Path, what: &dyn std::fmt::Display, remedy: &'static str) -> Failure {
    let what = format!("{}: {what}", path.display());
    Failure::new(Exit::Input, "key-file", what, remedy)
}
