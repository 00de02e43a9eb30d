//! `natsuin evidence`: who approved what, checked offline by a program that shares nothing with the one that wrote it.

use std::path::{Path, PathBuf};

use audit_verify::{
    Anchors, EvidenceFault, ProposalShown, Shown, TrustedProvider, verify_evidence, verify_proposal,
};
use clap::Subcommand;
use core_types::{Digest32, UnixTime, random::SystemRandom};
use jose::Jwk;
use sam_service::{ReceiptError, bundle};
use serde_json::json;
use service_kit::Trouble;
use store_kit::{Store, StoreUrl};
use web_ui::{Messages, clean};

use crate::output::{Exit, Failure, Out};
use crate::stack::StoreChoice;
use crate::stores::choice;

/// Commands of `natsuin evidence`.
#[derive(Debug, Subcommand)]
pub enum EvidenceCommand {
    /// Write the evidence of an act of a stopped development stack to a file. Signers get theirs in the portal.
    Export {
        /// Directory of the stack.
        #[arg(long, default_value = "natsuin-dev")]
        data: PathBuf,
        /// `postgres://…` if the stack keeps its rows there, or `@FILE` with it.
        #[arg(long, value_name = "URL")]
        store: Option<String>,
        /// The module's root key, a JWK in a file.
        #[arg(long, value_name = "JWK")]
        root: PathBuf,
        /// Person that the act is of.
        #[arg(long, allow_hyphen_values = true)]
        person: String,
        /// Digest of the act.
        #[arg(long, allow_hyphen_values = true)]
        act: String,
        /// Where the file goes.
        #[arg(long)]
        out: PathBuf,
    },
    /// Check a bundle of evidence offline: a receipt, or what officers decided.
    Verify {
        /// The bundle: a receipt of the portal, or a file of `natsuin-sam export-evidence`, `natsuin approval evidence` or `natsuin evidence
        /// export`.
        file: PathBuf,
        /// The module's root key, a JWK in a file, known from before.
        #[arg(long, value_name = "JWK")]
        root: PathBuf,
        /// The SAM's log key, known from before.
        #[arg(long, value_name = "PUB")]
        log: PathBuf,
        /// Identity providers that you know (JSON array: issuer, client, keys, acr, amr), had from them. The word of any other is the service's only.
        #[arg(long)]
        providers: Option<PathBuf>,
        /// Certificate (PEM) of the issuer of signers' certificates.
        #[arg(long, value_name = "PEM")]
        issuer: Option<PathBuf>,
        /// Public key of a registration authority, a JWK in a file, had from it; may be given several times. Without any, who was invited is the service's word only.
        #[arg(long, value_name = "JWK")]
        authority: Vec<PathBuf>,
    },
}

/// What somebody knows from before who checks evidence: files.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The module's root key.
    pub root: &'a Path,
    /// The SAM's log key.
    pub log: &'a Path,
    /// Certificate of the issuer of signers' certificates.
    pub issuer: Option<&'a Path>,
    /// Identity providers.
    pub providers: Option<&'a Path>,
    /// Keys of registration authorities.
    pub authorities: &'a [PathBuf],
}

/// What to export, and from where.
#[derive(Debug)]
pub struct Export {
    /// Directory of the stack.
    pub data: PathBuf,
    /// Where its rows are.
    pub store: StoreChoice,
    /// The module's root key, a JWK in a file.
    pub root: PathBuf,
    /// The person.
    pub person: String,
    /// Digest of the act.
    pub act: String,
    /// Where the bundle goes.
    pub out: PathBuf,
}

/// Runs a command.
///
/// # Errors
/// [`Failure`] when the store or a file can't be used, or there is no such act.
pub async fn run(command: EvidenceCommand, out: Out) -> Result<Exit, Failure> {
    match command {
        EvidenceCommand::Export {
            data,
            store,
            root,
            person,
            act,
            out: file,
        } => {
            let what = Export {
                data,
                store: choice(store.as_deref())?,
                root,
                person,
                act,
                out: file,
            };
            export(what, out).await
        }
        EvidenceCommand::Verify {
            file,
            root,
            log,
            issuer,
            providers,
            authority,
        } => {
            let known = Known {
                root: &root,
                log: &log,
                issuer: issuer.as_deref(),
                providers: providers.as_deref(),
                authorities: &authority,
            };
            verify(&file, known, out)
        }
    }
}

/// Writes the evidence of one act of a stopped stack to a file.
///
/// # Errors
/// [`Failure`] when the store can't be used, or knows no such act.
pub async fn export(export: Export, out: Out) -> Result<Exit, Failure> {
    let root = root_key(&export.root)?;
    let act = Digest32::parse(&export.act).map_err(|_| {
        Failure::new(
            Exit::Input,
            "act",
            "this isn't the digest of an act".to_owned(),
            "give it as the portal or the audit log show it (base64url)",
        )
    })?;
    let url = match &export.store {
        StoreChoice::Embedded => {
            format!(
                "sqlite:{}",
                export.data.join("sam").join("sam.db").display()
            )
        }
        StoreChoice::Postgres(url) => url.clone(),
    };
    let open = async {
        let url = StoreUrl::parse(&url)?;
        Store::open(&url, "sam", sam_service::MIGRATIONS, &SystemRandom).await
    };
    let store = open.await.map_err(|e| {
        Trouble::new(
            "store",
            format!("the SAM's store can't be used: {e}"),
            "stop the stack first; check --data",
        )
    })?;
    let made = bundle(&store, &root, &export.person, act).await;
    store.close().await;
    let text = made.map_err(|error| {
        let todo = match &error {
            ReceiptError::NotFound => "check --person and --act",
            ReceiptError::NotYet => "let the service run a few seconds longer",
            ReceiptError::Store(_) => "check the store",
        };
        Failure::new(Exit::Input, "evidence", error.to_string(), todo)
    })?;
    std::fs::write(&export.out, text).map_err(|e| {
        Trouble::new(
            "file",
            format!("{} can't be written: {e}", export.out.display()),
            "check --out",
        )
    })?;
    out.say(&format!("{}", export.out.display()));
    out.object(&json!({"schema": "natsuin.evidence-export/1", "ok": true, "file": export.out}));
    Ok(Exit::Good)
}

/// Checks a bundle with what is known: the module's root key, the SAM's log key, and whatever else was given.
///
/// # Errors
/// [`Failure`] when a file can't be read; what is wrong with the evidence shows in the result.
pub fn verify(file: &Path, known: Known<'_>, out: Out) -> Result<Exit, Failure> {
    let bundle = read(
        file,
        "give the file that the portal, `natsuin-sam export-evidence`, `natsuin approval evidence` or `natsuin evidence export` wrote",
    )?;
    let root = root_key(known.root)?.kid();
    let log = read(known.log, "give the SAM's log key, sam.pub")?;
    let log = String::from_utf8_lossy(&log).into_owned();
    let issuer = known.issuer.map(certificate).transpose()?;
    let providers = known.providers.map(trusted).transpose()?;
    let providers = providers.unwrap_or_default();
    let authorities: Vec<String> = known
        .authorities
        .iter()
        .map(|path| authority(path))
        .collect::<Result<_, _>>()?;
    let anchors = Anchors {
        root: &root,
        log: log.trim(),
        issuer: issuer.as_deref(),
        providers: &providers,
        authorities: &authorities,
    };
    let no = |fault: EvidenceFault, schema: &str| {
        out.say(&format!("NG  {fault}"));
        out.object(&json!({"schema": schema, "ok": false, "what": fault.to_string()}));
        Ok(Exit::Negative)
    };
    if is_proposal(&bundle) {
        return match verify_proposal(&bundle, anchors) {
            Ok(shown) => {
                decided(out.m(), &shown).iter().for_each(|l| out.say(l));
                out.object(&good(&shown));
                Ok(Exit::Good)
            }
            Err(fault) => no(fault, "natsuin.proposal-verify/1"),
        };
    }
    match verify_evidence(&bundle, anchors) {
        Ok(shown) => {
            lines(out.m(), &shown).iter().for_each(|line| out.say(line));
            out.object(&good(&shown));
            Ok(Exit::Good)
        }
        Err(fault) => no(fault, "natsuin.evidence-verify/1"),
    }
}

/// Whether the file says of itself that officers decided what is in it.
fn is_proposal(bundle: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(bundle)
        .is_ok_and(|bundle| bundle["format"] == "natsuin-proposal/1")
}

/// Identity providers whose keys were had from them.
fn trusted(path: &Path) -> Result<Vec<TrustedProvider>, Failure> {
    let todo = "give a JSON array of objects with issuer, client, keys (JWK with alg), acr and amr";
    serde_json::from_slice(&read(path, todo)?).map_err(|e| {
        let what = format!("{} names no providers: {e}", path.display());
        Failure::new(Exit::Input, "file", what, todo)
    })
}

fn good(shown: &impl serde::Serialize) -> serde_json::Value {
    let mut value = serde_json::to_value(shown).unwrap_or_default();
    value["ok"] = true.into();
    value
}

/// What officers decided, for people.
fn decided(m: Messages, shown: &ProposalShown) -> Vec<String> {
    let count = shown.approvals.len();
    let mut all = vec![format!(
        "OK  {}   {count} / {}",
        shown.proposal, shown.needs
    )];
    all.extend(shown.approvals.iter().flat_map(|one| lines(m, one)));
    all
}

/// The result for people: every line says one thing that was checked, and the last ones what was not.
fn lines(m: Messages, shown: &Shown) -> Vec<String> {
    let mut lines = vec![format!(
        "OK  {}   {}",
        shown.kind,
        m.time(UnixTime(shown.approved_at))
    )];
    let mut say = |name: &str, text: String| lines.push(format!("    {:<12} {text}", m.t(name)));
    let [id, name] = &shown.person;
    match name.is_empty() {
        // Nobody approved it: an authority or a CA said it.
        true => say("evidence-authority", clean(id)),
        false => say(
            "evidence-person",
            format!("{} ({})", clean(name), clean(id)),
        ),
    }
    if let Some([id, _, subject]) = &shown.key {
        say(
            "evidence-key",
            format!("{} ({})", clean(subject), clean(id)),
        );
    }
    if let Some((client, known)) = &shown.client {
        let word = if *known { "" } else { "?" };
        let signed = match shown.client_signed {
            true => format!(" · {}", m.t("evidence-client-signed")),
            false => String::new(),
        };
        say(
            "evidence-client",
            format!("{}{word}{signed}", clean(client)),
        );
    }
    for what in &shown.what {
        say("evidence-what", clean(what));
    }
    for signature in &shown.signatures {
        let items = signature.items.len();
        say("evidence-signed", format!("{items} × {}", signature.alg));
        for hash in &signature.filled {
            say("evidence-what", clean(hash));
        }
    }
    let method = match shown.by_word {
        true => format!("{} · {}", shown.method, m.t("evidence-by-word")),
        false => format!("{} · {}", shown.method, m.t("evidence-by-proof")),
    };
    say("evidence-method", method);
    if let Some((version, level)) = shown.policy {
        let level = m.n("level", level.into());
        let digest = shown.policy_digest.as_ref();
        let digest = digest.map_or_else(String::new, |digest| format!(" · {}", clean(digest)));
        say("evidence-policy", format!("{version} · {level}{digest}"));
    }
    if let Some(invited) = &shown.invited {
        let ceiling = m.n("level", invited.ceiling.into());
        let assurance = clean(&invited.assurance);
        say(
            "evidence-invited",
            format!("{} · {assurance} · {ceiling}", invited.authority),
        );
    }
    if let Some(document) = &shown.document {
        say("evidence-document", document.clone());
    }
    if let Some(epoch) = &shown.epoch {
        say("evidence-epoch", epoch.clone());
    }
    say("evidence-software", clean(&shown.software));
    let places: Vec<String> = shown.log.iter().map(|(n, _)| n.to_string()).collect();
    say(
        "evidence-log",
        format!("{} / {}", places.join(", "), shown.checkpoint),
    );
    for remark in &shown.remarks {
        let text = m.t(&format!("evidence-remark-{remark}"));
        lines.push(format!("    ! {text}"));
    }
    lines
}

fn read(path: &Path, todo: &'static str) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|e| {
        let what = format!("{} can't be read: {e}", path.display());
        Failure::new(Exit::Input, "file", what, todo)
    })
}

fn root_key(path: &Path) -> Result<Jwk, Failure> {
    let todo = "give the module's root key as a JWK (JSON)";
    serde_json::from_slice(&read(path, todo)?).map_err(|e| {
        let what = format!("{} is no key: {e}", path.display());
        Failure::new(Exit::Input, "root", what, todo)
    })
}

fn authority(path: &Path) -> Result<String, Failure> {
    let todo = "give the authority's public key as a JWK (JSON)";
    let text = String::from_utf8_lossy(&read(path, todo)?).into_owned();
    match serde_json::from_str::<Jwk>(&text) {
        Ok(_) => Ok(text),
        Err(e) => {
            let what = format!("{} is no key: {e}", path.display());
            Err(Failure::new(Exit::Input, "authority", what, todo))
        }
    }
}

fn certificate(path: &Path) -> Result<Vec<u8>, Failure> {
    let todo = "give the issuer's certificate as PEM";
    let text = String::from_utf8_lossy(&read(path, todo)?).into_owned();
    let first = pki::Certificate::parse_pem(&text)
        .ok()
        .and_then(|all| all.into_iter().next());
    let first = first.ok_or_else(|| {
        let what = format!("{} has no certificate", path.display());
        Failure::new(Exit::Input, "issuer", what, todo)
    })?;
    Ok(first.der().to_vec())
}
