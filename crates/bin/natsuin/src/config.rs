//! `natsuin config`: signing the configuration of a zone's nodes, and looking at what was signed. The zone itself decides
//! whether it obeys (`signed_config`).

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use core_types::bytes::from_b64u;
use core_types::clock::SystemClock;
use core_types::words::is_reason;
use core_types::{Clock as _, SecretBytes, UnixTime};
use jose::{Jwk, SigningKey};
use serde_json::json;
use service_kit::daemon;
use signed_config::{Manifest, TYP_SETTINGS, Zone};
use web_ui::Arg;

use crate::output::{Exit, Failure, Out};

/// Commands of `natsuin config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Sign a new configuration (with --serial), or add a signature to what another officer has signed.
    Sign {
        /// Which.
        #[command(flatten)]
        files: ConfigFiles,
        /// File of signatures; goes beside each node's configuration as `….toml.sig`.
        #[arg(long)]
        sig: PathBuf,
        /// Your private key, as `natsuin-cm officer-key` makes it.
        #[arg(long)]
        key: PathBuf,
        /// Number of the configuration, above the last one's.
        #[arg(long, requires_all = ["need", "signers", "reason"])]
        serial: Option<u64>,
        /// How many have to sign the next one; above level 1 at least two.
        #[arg(long, requires = "serial")]
        need: Option<u8>,
        /// Why it is changed; everybody who signs sees it, and it is kept.
        #[arg(long, requires = "serial")]
        reason: Option<String>,
        /// Hours within which it has to be obeyed for the first time.
        #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=168))]
        hours: u32,
        /// Public key (JWK) of somebody who may sign the next one; may be given more than once.
        #[arg(long = "signer", value_name = "JWK", requires = "serial")]
        signers: Vec<PathBuf>,
    },
    /// Show what was signed and by whom, and whether these are the files.
    Verify {
        /// Which.
        #[command(flatten)]
        files: ConfigFiles,
        /// File of signatures.
        #[arg(long)]
        sig: PathBuf,
    },
}

/// Configuration files, with what they name.
#[derive(Debug, Clone, Args)]
pub struct ConfigFiles {
    /// Configuration files of `natsuin-sam` (or of another zone), one for each node.
    #[arg(required = true)]
    pub configs: Vec<PathBuf>,
    /// Whose they are.
    #[arg(long, value_enum, default_value_t)]
    pub zone: Whose,
    /// Directory of copies from the machines: a file named there as /etc/natsuin/ca.pem is read as DIR/etc/natsuin/ca.pem.
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

/// Whose configuration it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Whose {
    /// `natsuin-sam`.
    #[default]
    Sam,
    /// `natsuin-ssa`.
    Ssa,
    /// `natsuin-cm`.
    Cm,
}

impl Whose {
    fn files(self) -> &'static [&'static str] {
        match self {
            Self::Sam => sam_service::SIGNED_FILES,
            Self::Ssa => ssa_service::SIGNED_FILES,
            Self::Cm => cm_core::SIGNED_FILES,
        }
    }

    /// Whose the configuration is, and its node.
    fn names(self, path: &Path) -> Result<(String, String), Failure> {
        match self {
            Self::Sam => {
                let config: SamNames = daemon::load(path)?;
                Ok((Zone::Sam.of(&config.sam), config.node))
            }
            Self::Ssa => {
                let config: LogNames = daemon::load(path)?;
                Ok((Zone::Ssa.of(&config.audit.log), config.node))
            }
            Self::Cm => {
                let config: LogNames = daemon::load(path)?;
                Ok((Zone::Cm.of(&config.audit.log), config.node))
            }
        }
    }
}

/// What to sign.
#[derive(Debug)]
pub struct Sign {
    /// The files.
    pub files: ConfigFiles,
    /// File of signatures.
    pub sig: PathBuf,
    /// Private key of the officer, PKCS#8.
    pub key: PathBuf,
    /// Of a new configuration. Nothing: the signature is added to what others have signed.
    pub new: Option<New>,
}

/// A new configuration.
#[derive(Debug)]
pub struct New {
    /// Its number.
    pub serial: u64,
    /// How many have to sign the next one.
    pub need: u8,
    /// Who may: JWKs.
    pub signers: Vec<PathBuf>,
    /// Why, 1 to 200 characters.
    pub reason: String,
    /// Until when it has to be obeyed for the first time.
    pub exp: UnixTime,
}

/// Runs a command.
///
/// # Errors
/// [`Failure`]: a file can't be used, or isn't what the others have signed.
pub fn run(command: ConfigCommand, out: Out) -> Result<Exit, Failure> {
    match command {
        ConfigCommand::Sign {
            files,
            sig,
            key,
            serial,
            need,
            reason,
            hours,
            signers,
        } => {
            let exp = SystemClock.now().plus(i64::from(hours) * 3600);
            let new = serial
                .zip(need)
                .zip(reason)
                .map(|((serial, need), reason)| New {
                    serial,
                    need,
                    signers,
                    reason,
                    exp,
                });
            let sign = Sign {
                files,
                sig,
                key,
                new,
            };
            self::sign(&sign, out)
        }
        ConfigCommand::Verify { files, sig } => verify(&files, &sig, out),
    }
}

/// Signs a new configuration, or adds a signature.
///
/// # Errors
/// [`Failure`]: a file can't be used, or isn't what the others have signed.
pub fn sign(what: &Sign, out: Out) -> Result<Exit, Failure> {
    let key = SecretBytes::new(read(&what.key)?);
    let key = SigningKey::from_pkcs8(&key).map_err(|e| {
        input(
            &what.key,
            &e,
            "use a key that `natsuin-cm officer-key` has made",
        )
    })?;
    let (payload, mut signatures) = match &what.new {
        Some(new) => {
            let manifest = manifest(&what.files, new)?;
            (manifest.bytes().unwrap_or_default(), Vec::new())
        }
        None => {
            let signed = Signed::read(&what.sig)?;
            let same = manifest_of(&what.files, &signed.manifest)?;
            if same != signed.manifest {
                let not = "these files aren't those that were signed";
                return Err(input(
                    &what.sig,
                    &not,
                    "compare them with the other officers'",
                ));
            }
            (signed.payload, signed.signatures)
        }
    };
    let signature = key.sign(TYP_SETTINGS, &payload);
    signatures.push(signature.map_err(|e| input(&what.key, &e, "try again"))?);
    let text = signatures.join("\n") + "\n";
    std::fs::write(&what.sig, text)
        .map_err(|e| input(&what.sig, &e, "check that the directory may be written"))?;
    verify(&what.files, &what.sig, out)
}

/// Shows what was signed, by whom, and whether these are the files.
///
/// # Errors
/// [`Failure`]: a file can't be read.
pub fn verify(files: &ConfigFiles, sig: &Path, out: Out) -> Result<Exit, Failure> {
    let m = out.m();
    let signed = Signed::read(sig)?;
    let manifest = &signed.manifest;
    let same = manifest_of(files, manifest)?.nodes == manifest.nodes;
    let mut by = Vec::new();
    let mut bad = 0_u64;
    for signature in &signed.signatures {
        let good = manifest.signers.iter().find(|key| {
            jose::verify(signature, TYP_SETTINGS, key).is_ok_and(|p| p == signed.payload)
        });
        match good.map(Jwk::kid) {
            Some(kid) if !by.contains(&kid) => by.push(kid),
            Some(_) => {}
            // Those of the configuration before may have signed it, whom nobody knows here.
            None => bad += 1,
        }
    }
    let need = u64::from(manifest.need);
    let numbers = [
        ("serial", Arg::Num(manifest.serial)),
        ("need", Arg::Num(need)),
        ("of", Arg::Num(manifest.signers.len() as u64)),
        ("by", Arg::Num(by.len() as u64)),
        ("others", Arg::Num(bad)),
    ];
    let (exit, key) = match (same, bad) {
        (false, _) => (Exit::Negative, "cli-config-changed"),
        (true, 0) if by.len() as u64 >= need => (Exit::Good, "cli-config-signed"),
        (true, 0) => (Exit::Undetermined, "cli-config-more"),
        (true, _) => (Exit::Undetermined, "cli-config-others"),
    };
    out.say(&m.f(key, &numbers));
    let (until, shown) = (manifest.exp.rfc3339(), m.time(manifest.exp));
    let why = [
        ("reason", Arg::Text(&manifest.reason)),
        ("until", Arg::Own(&shown)),
    ];
    out.say(&m.f("cli-config-why", &why));
    for (node, files) in &manifest.nodes {
        for (name, digest) in files {
            out.say(&format!("  {node}  {name}  {digest}"));
        }
    }
    out.object(&json!({
        "schema": "natsuin.config/1",
        "ok": exit == Exit::Good,
        "same_files": same,
        "serial": manifest.serial,
        "reason": manifest.reason,
        "exp": until,
        "need": need,
        "signers": manifest.signers.iter().map(Jwk::kid).collect::<Vec<_>>(),
        "signed_by": by,
        "signed_by_others": bad,
        "nodes": manifest.nodes,
    }));
    Ok(exit)
}

/// A file of signatures, not verified.
struct Signed {
    payload: Vec<u8>,
    manifest: Manifest,
    signatures: Vec<String>,
}

impl Signed {
    fn read(path: &Path) -> Result<Self, Failure> {
        let wrong = |what: &str| input(path, &what, "sign the configuration first, with --serial");
        let text = daemon::text(path)?;
        let signatures: Vec<String> = text.lines().map(str::to_owned).collect();
        let payload = |jws: &String| from_b64u(jws.split('.').nth(1)?).ok();
        let first = signatures.first().and_then(payload);
        let first = first.ok_or_else(|| wrong("it holds no signature"))?;
        if signatures
            .iter()
            .any(|s| payload(s).as_ref() != Some(&first))
        {
            return Err(wrong("its signatures are over different things"));
        }
        let manifest = serde_json::from_slice(&first)
            .map_err(|_| wrong("what was signed isn't a configuration"))?;
        Ok(Self {
            payload: first,
            manifest,
            signatures,
        })
    }
}

fn manifest(files: &ConfigFiles, new: &New) -> Result<Manifest, Failure> {
    if !is_reason(&new.reason) {
        return Err(Failure::new(
            Exit::Input,
            "config-signature",
            "the reason is empty, longer than 200 characters, or has hidden characters",
            "say in a few plain words why",
        ));
    }
    let jwk = |path: &PathBuf| -> Result<Jwk, Failure> {
        let remedy = "give a public key as a JWK (P-256)";
        serde_json::from_str(&daemon::text(path)?).map_err(|e| input(path, &e, remedy))
    };
    let empty = Manifest {
        v: 2,
        of: String::new(),
        serial: new.serial,
        reason: new.reason.clone(),
        exp: new.exp,
        need: new.need,
        signers: new.signers.iter().map(jwk).collect::<Result<_, _>>()?,
        nodes: std::collections::BTreeMap::new(),
    };
    manifest_of(files, &empty)
}

/// `like`, with whose they are and the files that these configurations have now.
fn manifest_of(files: &ConfigFiles, like: &Manifest) -> Result<Manifest, Failure> {
    let mut made = Manifest {
        nodes: std::collections::BTreeMap::new(),
        ..like.clone()
    };
    for path in &files.configs {
        let (of, node) = files.zone.names(path)?;
        let digests = daemon::digests(path, files.zone.files(), files.root.as_deref())?;
        if !made.nodes.is_empty() && made.of != of {
            let not = "it is another service's than the one before";
            return Err(input(
                path,
                &not,
                "sign each service's configuration by itself",
            ));
        }
        made.of = of;
        if made.nodes.insert(node, digests).is_some() {
            let not = "two configurations of one node";
            return Err(input(path, &not, "give each node a name of its own"));
        }
    }
    Ok(made)
}

/// What is needed of a configuration here; the daemon reads all of it.
#[derive(serde::Deserialize)]
struct SamNames {
    sam: String,
    node: String,
}

/// The same of the others'.
#[derive(serde::Deserialize)]
struct LogNames {
    node: String,
    audit: LogName,
}

#[derive(serde::Deserialize)]
struct LogName {
    log: String,
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|e| input(path, &e, "check the path"))
}

fn input(path: &Path, what: &dyn std::fmt::Display, remedy: &'static str) -> Failure {
    let what = format!("{}: {what}", path.display());
    Failure::new(Exit::Input, "config-signature", what, remedy)
}

#[cfg(test)]
mod tests;
