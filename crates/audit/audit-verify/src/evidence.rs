//! The checker of evidence: who approved what, with which key, when, under which policy, and where it stands in the
//! audit log. Offline, from one file, three anchors and nothing of ours.
//!
//! A bundle is a JSON object: `format` (`natsuin-evidence/1`), `act` (base64url digest of the act, notice or evidence it is about), `root`
//! (JWK of `K_root`, believed only for its thumbprint), `documents` (texts of evidence, each named by its SHA-256),
//! `certificates` (DER in base64url, the signer's first), `checkpoint` (a signed note of the log), `entries`
//! (`seq`, `body`, `proof`: hashes from the leaf to the root, RFC 6962 §2.1.1) and `salt` (base64url): entries name the
//! person by base64url(SHA-256("natsuin-audit-person\n" ‖ salt ‖ person)). Unknown members are refused.
//!
//! What officers decided is one of those bundles for each approval ([`verify_proposal`]).

mod approvals;
mod certificate;
mod der;
mod documents;
mod inclusion;
mod jws;
#[cfg(test)]
mod made;
mod proof;
mod proposal;
mod provider;
mod published;
mod warrant;
#[cfg(test)]
mod wycheproof;

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::note::PublicKey;
pub use proposal::{ProposalShown, verify_proposal};
pub use warrant::{DeletionApproved, ForgettingApproved, verify_deletion, verify_forgetting};

use approvals::Approvals;
use documents::{Approval, Document, Enrolment};
use inclusion::Logged;
pub use provider::TrustedProvider;

/// What the checker believes, obtained before and not from the bundle.
#[derive(Debug, Clone, Copy)]
pub struct Anchors<'a> {
    /// RFC 7638 thumbprint of `K_root`, base64url.
    pub root: &'a str,
    /// The SAM's log key, `NAME+HASH+KEY`.
    pub log: &'a str,
    /// Certificate of the issuer of signers' certificates, DER. Without it the certificate's issuer isn't judged.
    pub issuer: Option<&'a [u8]>,
    /// Identity providers. The word of one that isn't among them is the SAM's word only.
    pub providers: &'a [TrustedProvider],
}

/// So many seconds after `until` a signature over what wasn't shown may say that it was made. The right was spent before `until`, and
/// no order of it is executed after; but the time is that of the evidence, which is written when the module has answered: an answer
/// is waited for forty seconds, and the clocks of two nodes may differ by a minute.
const LATE: i64 = 40 + 60;

/// Format of the report.
const SCHEMA: &str = "natsuin.evidence-verify/1";

/// What is wrong with the evidence: it shows nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceFault {
    /// The file isn't a bundle.
    #[error("this is not a bundle of evidence: {0}")]
    Form(&'static str),
    /// A check failed.
    #[error("the evidence doesn't hold: {0}")]
    Broken(&'static str),
    /// An anchor can't be used.
    #[error("{0} can't be used; give the one that you got when you enrolled or when the log began")]
    Anchor(&'static str),
}

/// What the evidence shows. Everything here was checked, except what `by_word` and `remarks` say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// Format of this report.
    pub schema: &'static str,
    /// Kind of act, such as `sign` or `destroy`; `notice` of an authority, `revocation` by a CA.
    pub kind: String,
    /// Digest of the act, of the notice, or of the evidence of what a CA published.
    pub act: String,
    /// The SAM that made or heeded it.
    pub sam: String,
    /// The store's epoch when the act was made; nothing where nobody approved an act.
    pub epoch: Option<String>,
    /// Version of the software that wrote the evidence.
    pub software: String,
    /// Who approved: id and name as shown to them. Of a notice: thumbprint of the authority's key, and no name; of what a CA published:
    /// SHA-256 of its certificate, and no name.
    pub person: [String; 2],
    /// Key, if the act is about one: id, SHA-256 of its public key, subject of its certificate.
    pub key: Option<[String; 3]>,
    /// What was approved, in words of the act: items with their labels and hashes, the change, or what officers decide; else what was
    /// heeded.
    pub what: Vec<String>,
    /// Who asked, if a client did: name, and whether the SAM knew it itself.
    pub client: Option<(String, bool)>,
    /// Whether the client signed the request, and the SAM verified it.
    pub client_signed: bool,
    /// Of an officer's approval: the person whose account it is, as the log said.
    pub officer: Option<String>,
    /// Of the same: digest of the exact bytes that were approved.
    pub document: Option<String>,
    /// Of the same: how many persons it takes.
    pub needs: Option<usize>,
    /// When it was approved or heeded, UTC seconds.
    pub approved_at: i64,
    /// Version of the policy it was approved under, and the level in the act; nothing where nobody approved an act.
    pub policy: Option<(u32, u8)>,
    /// Method of the proof: that of a factor, or `enrolment`, `notice`, `crl`, `ocsp`.
    pub method: String,
    /// Only the SAM's word stands behind the proof: secrets leave nothing that others could check.
    pub by_word: bool,
    /// From the proof's factor back to the enrolment: digests of the acts that made each.
    pub chain: Vec<String>,
    /// Signatures that were made: algorithm, items, SHA-256 of the values.
    pub signatures: Vec<SignatureShown>,
    /// Places in the log: number and kind.
    pub log: Vec<(u64, String)>,
    /// Size of the log at the checkpoint.
    pub checkpoint: u64,
    /// What a reader should know beside: codes.
    pub remarks: Vec<&'static str>,
}

/// A signature in the evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SignatureShown {
    /// Algorithm.
    pub alg: String,
    /// When, UTC seconds.
    pub at: i64,
    /// Items of the act, from 0, in the order asked.
    pub items: Vec<u32>,
    /// What was signed without having been shown, base64url; nothing when the items stand in the act.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filled: Vec<String>,
    /// SHA-256 of each value, base64url.
    pub values: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bundle {
    format: String,
    act: String,
    root: jws::Jwk,
    documents: Vec<String>,
    certificates: Vec<String>,
    checkpoint: String,
    entries: Vec<inclusion::Entry>,
    salt: String,
}

/// Checks a bundle.
///
/// # Errors
/// [`EvidenceFault`]: the first check that failed.
pub fn verify_evidence(bundle: &[u8], anchors: Anchors<'_>) -> Result<Shown, EvidenceFault> {
    let bundle: Bundle =
        serde_json::from_slice(bundle).map_err(|_| EvidenceFault::Form("not its JSON"))?;
    if bundle.format != "natsuin-evidence/1" {
        return Err(EvidenceFault::Form("another format"));
    }
    if bundle.root.thumbprint() != anchors.root {
        return Err(EvidenceFault::Broken(
            "its root key is not the one you know",
        ));
    }
    let log = PublicKey::parse(anchors.log).ok_or(EvidenceFault::Anchor("the log's key"))?;
    let (checkpoint, logged) = inclusion::check(&bundle.checkpoint, &log, &bundle.entries)?;

    let mut documents = BTreeMap::new();
    for text in &bundle.documents {
        let document =
            Document::read(text).ok_or(EvidenceFault::Form("a document of another form"))?;
        documents.insert(sha256(text.as_bytes()), document);
    }
    for name in documents.keys() {
        if !logged.iter().any(|e| e.detail("evidence") == Some(name)) {
            return Err(EvidenceFault::Broken(
                "a document that the log doesn't name",
            ));
        }
    }
    let named = |e: &Logged| {
        e.detail("evidence")
            .is_some_and(|n| documents.contains_key(n))
    };
    let own = |e: &&Logged| e.kind == "signature.made" && e.detail("act") == Some(&bundle.act);
    if !logged.iter().filter(own).all(named) {
        return Err(EvidenceFault::Broken(
            "a signature in the log isn't in the bundle",
        ));
    }
    let salt = from_b64u(&bundle.salt).filter(|salt| salt.len() == 32);
    let case = Case {
        bundle: &bundle,
        approvals: Approvals {
            salt: &salt.ok_or(EvidenceFault::Form("a salt that isn't one"))?,
            root: &bundle.root,
            documents: &documents,
            logged: &logged,
        },
        anchors,
    };
    let mut shown = match documents.get(&bundle.act) {
        Some(Document::Revocation(said)) => published::revocation(&case, said)?,
        _ => match case.notice() {
            Some((name, notice)) => published::notice(&case, name, notice)?,
            None => match case.approvals.enrolment(&bundle.act) {
                Some((name, enrolment)) => case.enrolled(name, enrolment)?,
                None => case.approved()?,
            },
        },
    };
    shown.log = logged.iter().map(|e| (e.seq, e.kind.clone())).collect();
    shown.checkpoint = checkpoint;
    Ok(shown)
}

/// What is judged.
struct Case<'a> {
    bundle: &'a Bundle,
    approvals: Approvals<'a>,
    anchors: Anchors<'a>,
}

impl<'a> Case<'a> {
    /// The notice that the bundle is about, with the document's name.
    fn notice(&self) -> Option<(&'a str, &'a documents::Notice)> {
        self.approvals
            .documents
            .iter()
            .find_map(|(name, d)| match d {
                Document::Notice(notice) if sha256(notice.notice.as_bytes()) == self.bundle.act => {
                    Some((name.as_str(), notice))
                }
                _ => None,
            })
    }

    /// An act that somebody approved.
    fn approved(&self) -> Result<Shown, EvidenceFault> {
        let (bundle, approvals) = (self.bundle, &self.approvals);
        let (name, approval) = approvals.of(&bundle.act)?;
        let act = approvals.check(name, approval)?;
        let chain = approvals.chain(approval, 0)?;
        let mut remarks = Vec::new();
        let key = act.key();
        if let Some(key) = key {
            let issuer = self.anchors.issuer;
            match bundle.certificates.first() {
                Some(_) => certificate::check(&bundle.certificates, key, issuer, &mut remarks)?,
                None if act.signs() => {
                    return Err(EvidenceFault::Broken("the signer's certificate is missing"));
                }
                None => remarks.push("no-certificate"),
            }
        }
        let by_word = self.judge_method(&act, approval, &mut remarks)?;
        let (mut what, mut officer) = (act.what(), None);
        if act.kind == "officer"
            && let Some((decided, by)) = proposal::of(approvals, &act, &bundle.act)?
        {
            what.extend(decided);
            officer = Some(by);
        }
        let signatures = approvals.signatures(&bundle.act, name, &act)?;
        let signed = approvals.documents.values().filter_map(|d| match d {
            Document::Signature(signed) if signed.act == bundle.act => Some(&signed.clock),
            _ => None,
        });
        if !signed.chain([&approval.clock]).all(|c| c == "synchronised") {
            remarks.push("clock-not-kept");
        }
        Ok(Shown {
            schema: SCHEMA,
            kind: act.kind.clone(),
            act: bundle.act.clone(),
            sam: act.sam.clone(),
            epoch: Some(act.epoch.clone()),
            software: approval.software.clone(),
            person: [act.person.id.clone(), act.person.name.clone()],
            key: key.map(|k| [k.id.clone(), k.spki.clone(), k.subject.clone()]),
            what,
            client: act.client.as_ref().map(|c| (c.name.clone(), c.known)),
            client_signed: act.client.as_ref().is_some_and(|c| c.signed),
            officer,
            document: act.document.clone().filter(|_| act.kind == "officer"),
            needs: act.needs.filter(|_| act.kind == "officer"),
            approved_at: approval.at,
            policy: Some((approval.policy, act.level)),
            method: approval.proof.method.clone(),
            by_word,
            chain,
            signatures,
            log: Vec::new(),
            checkpoint: 0,
            remarks,
        })
    }

    /// Whether only the SAM's word stands behind the proof, and what a reader should know of its method.
    fn judge_method(
        &self,
        act: &documents::Act,
        approval: &Approval,
        remarks: &mut Vec<&'static str>,
    ) -> Result<bool, EvidenceFault> {
        let method = approval.proof.method.as_str();
        let vouched = method == "idp"
            && provider::vouches(
                &approval.proof,
                &approval.factor,
                self.anchors.providers,
                (act.iat, approval.at),
            )?;
        let by_word = !vouched && !["passkey", "device"].contains(&method);
        if by_word && method != "idp" {
            remarks.push("the-sams-word-only");
        }
        if method == "device" {
            remarks.push("the-sams-word-for-the-pin");
        }
        if method == "idp" {
            remarks.push(match vouched {
                true => "the-providers-word",
                false => "the-providers-key-unknown",
            });
        }
        if act.kind == "sign-open" {
            remarks.push("the-data-was-not-shown");
        }
        Ok(by_word)
    }

    /// An enrolment: nobody approved it with a factor, since it made the first ones.
    fn enrolled(&self, name: &str, enrolment: &Enrolment) -> Result<Shown, EvidenceFault> {
        let digest = self.bundle.act.as_str();
        let act = self.approvals.enrolled(enrolment)?;
        let alias = self.approvals.alias(&act.person.id);
        let in_log = self.approvals.logged.iter().any(|e| {
            matches!(e.kind.as_str(), "person.enrolled" | "factor.added")
                && e.detail("act") == Some(digest)
                && e.detail("evidence") == Some(name)
                && e.detail("person") == Some(alias.as_str())
        });
        if !in_log {
            return Err(EvidenceFault::Broken(
                "the log doesn't contain the enrolment",
            ));
        }
        let mut what = act.what();
        for factor in &enrolment.factors {
            proof::check_made(factor, enrolment.registration.as_ref(), digest)?;
            what.push(format!("factor {}", factor.id));
        }
        let mut remarks = vec!["the-sams-word-for-the-invitation"];
        if enrolment.clock != "synchronised" {
            remarks.push("clock-not-kept");
        }
        Ok(Shown {
            schema: SCHEMA,
            kind: act.kind.clone(),
            act: digest.to_owned(),
            sam: act.sam.clone(),
            epoch: Some(act.epoch.clone()),
            software: enrolment.software.clone(),
            person: [act.person.id.clone(), act.person.name.clone()],
            key: None,
            what,
            client: None,
            client_signed: false,
            officer: None,
            document: None,
            needs: None,
            approved_at: enrolment.at,
            policy: Some((act.policy, act.level)),
            method: "enrolment".to_owned(),
            by_word: enrolment.factors.iter().all(|f| f.passkey.is_none()),
            chain: Vec::new(),
            signatures: Vec::new(),
            log: Vec::new(),
            checkpoint: 0,
            remarks,
        })
    }
}

/// The SAM's keys, if `K_root` vouched for them at this time.
fn keys_of(root: &jws::Jwk, statement: &str, at: i64) -> Result<documents::Keys, EvidenceFault> {
    let payload = jws::verify(statement, "natsuin-keys+jws", root)
        .ok_or(EvidenceFault::Broken("the statement isn't by the root key"))?;
    let keys: documents::Keys = serde_json::from_slice(&payload)
        .map_err(|_| EvidenceFault::Form("the statement's members"))?;
    match at >= keys.nbf && at < keys.exp {
        true => Ok(keys),
        false => Err(EvidenceFault::Broken("the statement wasn't valid then")),
    }
}

/// An act by the SAM whose keys `K_root` vouched for when it was used.
fn act_of(
    root: &jws::Jwk,
    text: &str,
    statement: &str,
    at: i64,
) -> Result<documents::Act, EvidenceFault> {
    let keys = keys_of(root, statement, at)?;
    let payload = jws::verify(text, "natsuin-act+jws", &keys.act)
        .ok_or(EvidenceFault::Broken("the act isn't by the SAM"))?;
    let act: documents::Act =
        serde_json::from_slice(&payload).map_err(|_| EvidenceFault::Form("the act's members"))?;
    if act.sam != keys.sam || act.epoch != keys.epoch {
        return Err(EvidenceFault::Broken("the act is another SAM's"));
    }
    if at < act.iat - 60 || at >= act.exp {
        return Err(EvidenceFault::Broken(
            "the act wasn't open when it was approved",
        ));
    }
    Ok(act)
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, bytes))
}

fn from_b64u(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}
