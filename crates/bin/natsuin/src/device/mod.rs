//! `natsuin device`: a key on this machine that approves together with a PIN, without a browser. Here the command line is its
//! person's signer's interaction component: it believes the pinned root key, not the service (`sap.md` §10).

mod file;
mod secret;

pub(crate) use file::own_text;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use core_types::random::SystemRandom;
use core_types::{Digest32, HashAlg, SecretBytes, sha256};
use jose::{Jwk, SigningKey};
use sap::messages::{Approve, Open, OpenRequest, SapRefusal, SapRefusalCode};
use sap::proof::Method;
use sap::{Item, SignAct};
use serde_json::json;
use sic_core::{MAX_PIN, MIN_PIN, Review};
use web_ui::{Arg, Lang, clean};

use crate::key::{group4, receiver_code, sic_at};
use crate::output::{Exit, Failure, Out};
use crate::stack::{Refused, Sic};

/// Fewest characters of the file's passphrase. Whoever has the file can try as often as they like.
const MIN_PASSPHRASE: usize = 12;

/// Commands of `natsuin device`.
#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    /// Make a device key, and show what to add in the portal and to compare on the approval page.
    Enrol {
        /// Where the key goes, sealed under a passphrase.
        file: PathBuf,
        /// Origin of the approval page, such as `https://sign-example.jp`.
        #[arg(long, value_name = "URL")]
        sic: String,
        /// The module's root key, a JWK in a file, from the one who enrolled you.
        #[arg(long, value_name = "JWK")]
        root: PathBuf,
        /// File with the passphrase on the first line, which only you can read; default: it is asked for.
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
    /// Show the public half of a device key and its code.
    Show {
        /// The device key.
        file: PathBuf,
    },
}

/// Runs a command.
///
/// # Errors
/// [`Failure`].
pub fn run(command: DeviceCommand, out: Out) -> Result<Exit, Failure> {
    match command {
        DeviceCommand::Enrol {
            file,
            sic,
            root,
            passphrase_file,
        } => enrol(&file, (&sic, &root), passphrase_file.as_deref(), out),
        DeviceCommand::Show { file } => show(&file, out),
    }
}

/// Makes a device key, and shows what its person takes to the portal and to the approval page.
///
/// # Errors
/// [`Failure`].
pub fn enrol(
    path: &Path,
    (sic, root): (&str, &Path),
    passphrase_file: Option<&Path>,
    out: Out,
) -> Result<Exit, Failure> {
    let root: Jwk = crate::key::root(root)?;
    let origin = sic.trim_end_matches('/').to_owned();
    sic_at(root.clone(), &origin, &[])?;
    let m = out.m();
    let passphrase = passphrase(&m.t("cli-device-new-passphrase"), passphrase_file)?;
    if std::str::from_utf8(passphrase.expose()).map_or(0, |t| t.chars().count()) < MIN_PASSPHRASE {
        return Err(Failure::new(
            Exit::Input,
            "passphrase",
            format!("a passphrase has {MIN_PASSPHRASE} characters at least"),
            "choose a longer one, such as five words; not the PIN",
        ));
    }
    if passphrase_file.is_none() {
        let again = self::passphrase(&m.t("cli-device-again"), None)?;
        if !again.ct_eq(passphrase.expose()) {
            let what = "the two passphrases differ";
            return Err(Failure::new(Exit::Input, "passphrase", what, "try again"));
        }
    }
    let about = file::make(path, (origin, root), &passphrase, &SystemRandom)?;
    told(path, &about, true, out);
    Ok(Exit::Good)
}

/// Shows the public half of a device key again.
///
/// # Errors
/// [`Failure`].
pub fn show(path: &Path, out: Out) -> Result<Exit, Failure> {
    let about = file::about(path)?;
    told(path, &about, false, out);
    Ok(Exit::Good)
}

fn told(path: &Path, about: &file::About, new: bool, out: Out) {
    let m = out.m();
    let code = receiver_code(&about.key);
    out.say(&m.t("cli-device-key"));
    out.say(&serde_json::to_string(&about.key).unwrap_or_default());
    out.say(&format!("{}  {}", m.t("cli-device-code"), group4(&code)));
    out.say(&format!("{}  {}", m.t("cli-device-sic"), clean(&about.sic)));
    if new {
        out.say(&m.t("cli-device-next"));
    }
    out.object(&json!({
        "schema": "natsuin.device/1", "file": path.display().to_string(), "key": about.key, "code": code, "sic": about.sic,
    }));
}

fn passphrase(prompt: &str, file: Option<&Path>) -> Result<SecretBytes, Failure> {
    secret::secret(
        &format!("{prompt} "),
        file,
        "run it at a terminal, or give --passphrase-file",
    )
}

/// A device key for one command.
pub struct Device {
    key: SigningKey,
    sic: Sic,
    pin_file: Option<PathBuf>,
}

/// What the command wants to have signed; the act has to say exactly this.
pub struct Wanted<'a> {
    /// The credential.
    pub credential: &'a str,
    /// Its certificate, DER, where the command knows it.
    pub certificate: Option<&'a [u8]>,
    /// Hash of all digests.
    pub hash: HashAlg,
    /// Names and digests, in order.
    pub files: &'a [(String, Vec<u8>)],
}

impl Device {
    /// Opens the file with its passphrase.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn open(
        path: &Path,
        passphrase_file: Option<&Path>,
        pin_file: Option<PathBuf>,
        trust: &[PathBuf],
        out: Out,
    ) -> Result<Self, Failure> {
        // Said before anything is typed.
        file::about(path)?;
        let typed = passphrase(&out.m().t("cli-device-passphrase"), passphrase_file)?;
        let (key, about) = file::open(path, &typed)?;
        Ok(Self {
            key,
            sic: sic_at(about.root, &about.sic, trust)?,
            pin_file,
        })
    }

    /// Opens the request, checks that the act is the SAM's and says what is wanted, shows it, and approves it.
    ///
    /// # Errors
    /// [`Failure`]: nothing was approved.
    pub async fn approve(&self, rid: &str, wanted: &Wanted<'_>, out: Out) -> Result<(), Failure> {
        let sic = &self.sic;
        let review = opened(sic, rid, wanted, out).await?;
        if !review.methods().contains(&Method::Device) {
            let what = "this key isn't approved with this device";
            let remedy = "add the device key in the portal; at level 3 none counts";
            return Err(Failure::new(Exit::Declined, "device", what, remedy));
        }
        let confirmed = review.confirm();
        loop {
            let pin = secret::secret(
                &format!("{} ", out.m().t("cli-device-pin")),
                self.pin_file.as_deref(),
                "run it at a terminal, or give --pin-file",
            )?;
            let made = confirmed.device(&self.key, &pin, sic.clock.now(), sic.random.as_ref());
            let request = made.map_err(|e| {
                let remedy = "a signing PIN has the length that you chose it with";
                let what = format!("{e} ({MIN_PIN}–{MAX_PIN})");
                Failure::new(Exit::Declined, "device", what, remedy)
            })?;
            let Err(error) = sic.call::<Approve>(&request).await else {
                return Ok(());
            };
            match error.downcast_ref::<Refused>() {
                // Typed wrong: the service has counted it.
                Some(Refused(SapRefusal {
                    tries_left: Some(left @ 1..),
                    ..
                })) if self.pin_file.is_none() => {
                    out.note(&out.m().n("cli-device-pin-wrong", u64::from(*left)));
                }
                _ => return Err(refused(error, out)),
            }
        }
    }
}

/// Opens a request, checks that the act is the SAM's and says what is wanted, and shows it.
///
/// # Errors
/// [`Failure`]: there is nothing that could be approved.
pub(crate) async fn opened(
    sic: &Sic,
    rid: &str,
    wanted: &Wanted<'_>,
    out: Out,
) -> Result<Review, Failure> {
    let rid = Digest32::parse(rid).map_err(|_| other("the request has no name"))?;
    let opened = sic.call::<Open>(&OpenRequest { rid }).await;
    let opened = opened.map_err(|e| refused(e, out))?;
    let sam = sic.sam().await?;
    let checked = sam.sign_act(opened, sic.clock.now());
    let review = checked.map_err(|e| other(&e.to_string()))?;
    check(review.act(), wanted)?;
    shown(&review, wanted, out);
    Ok(review)
}

/// Whether the act is for this key and certificate, and for these digests in this order and no others.
fn check(act: &SignAct, wanted: &Wanted<'_>) -> Result<(), Failure> {
    let certificate = |der| act.key.cert == sha256(&[der]);
    let key =
        act.key.id.as_str() == wanted.credential && wanted.certificate.is_none_or(certificate);
    let digests = act.items.iter().map(|item| match item {
        Item::Hash { ha, h, .. } if *ha == wanted.hash => Some(h.0.as_slice()),
        _ => None,
    });
    let same = digests.eq(wanted
        .files
        .iter()
        .map(|(_, digest)| Some(digest.as_slice())));
    match key && same && act.renew == 0 {
        true => Ok(()),
        false => Err(other(
            "it is for something else than these files and this key",
        )),
    }
}

fn shown(review: &Review, wanted: &Wanted<'_>, out: Out) {
    let (m, summary) = (out.m(), review.summary());
    let level = u64::from(u8::from(summary.level));
    out.note(&m.f(
        "cli-device-asked",
        &[
            ("name", Arg::Text(&summary.person.name)),
            ("client", Arg::Text(&summary.client.name)),
            ("key", Arg::Text(summary.subject)),
            ("n", Arg::Num(level)),
        ],
    ));
    if !summary.declared.is_empty() {
        let what = summary.declared.join(", ");
        out.note(&m.f("sic-declared-by", &[("what", Arg::Text(&what))]));
    }
    if let Some(brand) = summary.brand {
        let name = brand.name(m.lang == Lang::Ja);
        out.note(&m.f("sic-brand", &[("name", Arg::Text(name))]));
    }
    for (name, digest) in wanted.files {
        let hash = core_types::bytes::hex(digest);
        out.note(&format!("  {}\n    {}", clean(name), group4(&hash)));
    }
    if let Some(at) = summary.since.factors {
        out.note(&m.f("cli-device-since", &[("time", Arg::Own(&m.time(at)))]));
    }
}

/// What was answered isn't what was asked for: nobody is asked then.
fn other(what: &str) -> Failure {
    Failure::new(
        Exit::Declined,
        "act",
        format!(
            "what should be approved failed its check: {}. Nothing was signed.",
            clean(what)
        ),
        "tell the operator; don't approve it elsewhere",
    )
}

/// A refusal of the SAM, in the words of somebody who wanted to approve.
pub(crate) fn refused(error: anyhow::Error, out: Out) -> Failure {
    let Some(Refused(refusal)) = error.downcast_ref::<Refused>() else {
        return error.into();
    };
    let m = out.m();
    let what = match (refusal.code, refusal.tries_left) {
        (SapRefusalCode::Locked, _) | (_, Some(0)) => m.t("cli-device-locked"),
        (_, Some(left)) => m.n("cli-device-pin-wrong", u64::from(left)),
        _ => error.to_string(),
    };
    let remedy = "look at your keys and ways to approve in the portal; a locked PIN is unlocked with another way";
    Failure::new(Exit::Declined, "declined", what, remedy)
}
