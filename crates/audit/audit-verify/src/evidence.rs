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
mod authority;
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
mod shown;
mod stop;
mod warrant;
mod weight;
#[cfg(test)]
mod wycheproof;

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::note::PublicKey;
pub use proposal::{ProposalShown, verify_proposal};
pub use shown::{InvitedShown, Shown, SignatureShown};
pub use warrant::{DeletionApproved, ForgettingApproved, verify_deletion, verify_forgetting};

use approvals::{Approvals, Checked};
use documents::{Document, Enrolment};
use inclusion::Logged;
pub use provider::TrustedProvider;
use shown::SCHEMA;

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
    /// Public keys of registration authorities (JWK). Without any, who invited a person is the SAM's word only.
    pub authorities: &'a [String],
}

/// Seconds by which the clocks of two nodes may differ.
const APART: i64 = 60;
/// So many seconds after the end of its right a signature may say that it was made. The right was spent before, and no order of it is
/// executed after; but the time is that of the evidence, which is written when the module has answered: an answer is waited for forty
/// seconds, maybe by another node.
const LATE: i64 = 40 + APART;
/// The right to sign ends so many seconds after the approval, unless the act is renewed.
const WINDOW: i64 = 300;

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
        authorities: authority::known(anchors.authorities)?,
    };
    let mut shown = match documents.get(&bundle.act) {
        Some(Document::Revocation(said)) => published::revocation(&case, said)?,
        Some(Document::Stop(said)) => stop::stop(&case, said)?,
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
    authorities: Vec<jws::Jwk>,
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
        let checked = approvals.check(name, approval)?;
        let chain = approvals.chain(&checked, 0)?;
        let act = &checked.act;
        let mut remarks = Vec::new();
        let (enrolment, enrol) = &chain.began;
        let invited = self.invited(enrolment, enrol, &mut remarks)?;
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
            let made = approvals.made_by(&bundle.act);
            let name = invited.as_ref().map(|_| enrol.person.name.as_str());
            let certified = authority::certified(&self.authorities, made, key, name)?;
            if act.signs() && invited.is_some() && !certified {
                remarks.push("no-authoritys-word-for-the-certificate");
            }
        }
        remarks.extend(weight::remark(act, approval));
        let by_word = self.judge_method(&checked, &mut remarks)?;
        let (mut what, mut officer) = (act.what(), None);
        if act.kind == "officer"
            && let Some((decided, by)) = proposal::of(approvals, act, &bundle.act)?
        {
            what.extend(decided);
            officer = Some(by);
        }
        let signatures = approvals.signatures(&bundle.act, name, &checked)?;
        let signed = approvals.made_by(&bundle.act).map(|signed| &signed.clock);
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
            policy_digest: approval.policy_digest.clone(),
            method: approval.proof.method.clone(),
            by_word,
            chain: chain.acts.clone(),
            invited,
            signatures,
            log: Vec::new(),
            checkpoint: 0,
            remarks,
        })
    }

    /// Whether only the SAM's word stands behind the proof, and what a reader should know of its method.
    fn judge_method(
        &self,
        Checked { approval, act, .. }: &Checked<'_>,
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
        if !act.declared.is_empty() {
            remarks.push("the-operators-word-for-the-level");
        }
        Ok(by_word)
    }

    /// What an authority said of the enrolment, where one did that is known. That the person had the invitation's secret nobody
    /// else can check.
    fn invited(
        &self,
        enrolment: &Enrolment,
        act: &documents::Act,
        remarks: &mut Vec<&'static str>,
    ) -> Result<Option<InvitedShown>, EvidenceFault> {
        let invited = authority::invited(&self.authorities, enrolment, act)?;
        remarks.push(match invited {
            Some(_) => "the-sams-word-for-the-secret",
            None => "the-sams-word-for-the-invitation",
        });
        Ok(invited)
    }

    /// An enrolment: nobody approved it with a factor, since it made the first ones.
    fn enrolled(&self, name: &str, enrolment: &Enrolment) -> Result<Shown, EvidenceFault> {
        let digest = self.bundle.act.as_str();
        let act = self.approvals.enrolled(enrolment)?;
        let in_log = self.approvals.logged.iter().any(|e| {
            matches!(e.kind.as_str(), "person.enrolled" | "factor.added")
                && e.detail("act") == Some(digest)
                && e.detail("evidence") == Some(name)
                && self.approvals.names(e, &act)
        });
        if !in_log {
            return Err(EvidenceFault::Broken(
                "the log doesn't contain the enrolment",
            ));
        }
        let mut what = act.what();
        for factor in &enrolment.factors {
            let registration = enrolment.registration.as_ref();
            proof::check_made(factor, registration, digest, act.rp_host())?;
            what.push(format!("factor {}", factor.id));
        }
        let mut remarks = Vec::new();
        let invited = self.invited(enrolment, &act, &mut remarks)?;
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
            policy_digest: None,
            method: "enrolment".to_owned(),
            by_word: enrolment.factors.iter().all(|f| f.passkey.is_none()),
            chain: Vec::new(),
            invited,
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
    if at < act.iat.saturating_sub(APART) || at >= act.exp {
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
