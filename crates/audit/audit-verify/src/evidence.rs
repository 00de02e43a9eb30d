//! The checker of evidence: who approved what, with which key, when, under which policy, and where it stands in the
//! audit log. Offline, from one file, three anchors and nothing of ours.
//!
//! A bundle is a JSON object: `format` (`natsuin-evidence/1`), `act` (base64url digest of the act it is about), `root`
//! (JWK of `K_root`, believed only for its thumbprint), `documents` (texts of evidence, each named by its SHA-256),
//! `certificates` (DER in base64url, the signer's first), `checkpoint` (a signed note of the log), `entries`
//! (`seq`, `body`, `proof`: hashes from the leaf to the root, RFC 6962 §2.1.1) and `salt` (base64url): entries name the
//! person by base64url(SHA-256("natsuin-audit-person\n" ‖ salt ‖ person)). Unknown members are refused.

mod certificate;
mod documents;
mod inclusion;
mod jws;
mod proof;
mod provider;
mod warrant;
#[cfg(test)]
mod wycheproof;

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::note::PublicKey;
pub use warrant::{DeletionApproved, ForgettingApproved, verify_deletion, verify_forgetting};

use documents::{Approval, Document, Signed};
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
    /// Kind of act, such as `sign` or `destroy`.
    pub kind: String,
    /// Digest of the act.
    pub act: String,
    /// The SAM that made it.
    pub sam: String,
    /// Who approved: id and name as shown to them.
    pub person: [String; 2],
    /// Key, if the act is about one: id, SHA-256 of its public key, subject of its certificate.
    pub key: Option<[String; 3]>,
    /// What was approved, in words of the act: items with their labels and hashes, or the change.
    pub what: Vec<String>,
    /// Who asked, if a client did: name, and whether the SAM knew it itself.
    pub client: Option<(String, bool)>,
    /// When it was approved, UTC seconds.
    pub approved_at: i64,
    /// Version of the policy it was approved under, and the level in the act.
    pub policy: (u32, u8),
    /// Method of the proof.
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
        let document: Document = serde_json::from_str(text)
            .map_err(|_| EvidenceFault::Form("a document of another form"))?;
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
    let approvals = Approvals {
        salt: &salt.ok_or(EvidenceFault::Form("a salt that isn't one"))?,
        root: &bundle.root,
        documents: &documents,
        logged: &logged,
    };
    let (name, approval) = approvals.of(&bundle.act)?;
    let act = approvals.check(name, approval)?;
    let chain = approvals.chain(approval, 0)?;

    let mut remarks = Vec::new();
    let key = act.key();
    if let Some(key) = key {
        match bundle.certificates.first() {
            Some(_) => certificate::check(&bundle.certificates, key, anchors.issuer, &mut remarks)?,
            None if act.signs() => {
                return Err(EvidenceFault::Broken("the signer's certificate is missing"));
            }
            None => remarks.push("no-certificate"),
        }
    }
    let method = approval.proof.method.as_str();
    let vouched = method == "idp"
        && provider::vouches(
            &approval.proof,
            &approval.factor,
            anchors.providers,
            (act.iat, approval.at),
        )?;
    let by_word = !vouched && !["passkey", "device"].contains(&method);
    if by_word && method != "idp" {
        remarks.push("the-sams-word-only");
    }
    if approval.proof.method == "device" {
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
    let signatures = approvals.signatures(&bundle.act, name, &act)?;
    let signed = documents.values().filter_map(|document| match document {
        Document::Signature(signed) if signed.act == bundle.act => Some(&signed.clock),
        _ => None,
    });
    if !signed.chain([&approval.clock]).all(|c| c == "synchronised") {
        remarks.push("clock-not-kept");
    }
    Ok(Shown {
        schema: "natsuin.evidence-verify/1",
        kind: act.kind.clone(),
        act: bundle.act.clone(),
        sam: act.sam.clone(),
        person: [act.person.id.clone(), act.person.name.clone()],
        key: key.map(|k| [k.id.clone(), k.spki.clone(), k.subject.clone()]),
        what: act.what(),
        client: act.client.as_ref().map(|c| (c.name.clone(), c.known)),
        approved_at: approval.at,
        policy: (approval.policy, act.level),
        method: approval.proof.method.clone(),
        by_word,
        chain,
        signatures,
        log: logged.iter().map(|e| (e.seq, e.kind.clone())).collect(),
        checkpoint,
        remarks,
    })
}

/// Evidence of approvals, tied to the log.
struct Approvals<'a> {
    salt: &'a [u8],
    root: &'a jws::Jwk,
    documents: &'a BTreeMap<String, Document>,
    logged: &'a [Logged],
}

impl<'a> Approvals<'a> {
    /// How entries name a person.
    fn alias(&self, person: &str) -> String {
        sha256(&[b"natsuin-audit-person\n", self.salt, person.as_bytes()].concat())
    }

    /// The approval of the act with this digest, with the document's name.
    fn of(&self, act: &str) -> Result<(&'a str, &'a Approval), EvidenceFault> {
        let mut found = self.documents.iter().filter_map(|(name, d)| match d {
            Document::Approval(a) if jws::act_digest(&a.act) == act => Some((name.as_str(), &**a)),
            _ => None,
        });
        found
            .next()
            .ok_or(EvidenceFault::Broken("there is no approval of this act"))
    }

    /// Checks act, statement, proof and place in the log of one approval.
    fn check(&self, name: &str, approval: &'a Approval) -> Result<documents::Act, EvidenceFault> {
        let digest = jws::act_digest(&approval.act);
        let act = act_of(self.root, &approval.act, &approval.statement, approval.at)?;
        proof::check(&approval.proof, &approval.factor, &digest, act.rp_host())?;
        let in_log = self.logged.iter().any(|e| {
            e.kind == "act.approved"
                && e.detail("act") == Some(digest.as_str())
                && e.detail("evidence") == Some(name)
                && e.detail("person") == Some(self.alias(&act.person.id).as_str())
        });
        if !in_log {
            return Err(EvidenceFault::Broken(
                "the log doesn't contain the approval",
            ));
        }
        Ok(act)
    }

    /// From the factor that proved back to the enrolment that began it.
    fn chain(&self, approval: &'a Approval, depth: usize) -> Result<Vec<String>, EvidenceFault> {
        let maker = approval.factor.act.as_str();
        if depth > 16 {
            return Err(EvidenceFault::Broken(
                "the chain of factors has no beginning",
            ));
        }
        let enrolment = self.documents.values().find_map(|d| match d {
            Document::Enrolment(e) if jws::act_digest(&e.act) == maker => Some(e),
            _ => None,
        });
        if let Some(enrolment) = enrolment {
            let act = act_of(
                self.root,
                &enrolment.act,
                &enrolment.statement,
                enrolment.at,
            )?;
            if act.kind != "enrol" {
                return Err(EvidenceFault::Broken(
                    "the enrolment is another kind of act",
                ));
            }
            self.made(&approval.factor, enrolment.factors.iter())?;
            proof::check_made(&approval.factor, enrolment.registration.as_ref(), maker)?;
            let in_log = self.logged.iter().any(|e| {
                matches!(e.kind.as_str(), "person.enrolled" | "factor.added")
                    && e.detail("act") == Some(maker)
                    && e.detail("factor") == Some(approval.factor.id.as_str())
            });
            return match in_log {
                true => Ok(vec![maker.to_owned()]),
                false => Err(EvidenceFault::Broken(
                    "the log doesn't contain the enrolment",
                )),
            };
        }
        // Added by an act that an older factor proved.
        let (name, adding) = self.of(maker)?;
        let act = self.check(name, adding)?;
        let made = adding.made.as_ref().filter(|_| act.kind == "factor");
        let made = made.ok_or(EvidenceFault::Broken(
            "the factor was made by another kind of act",
        ))?;
        self.made(&approval.factor, std::iter::once(&made.factor))?;
        if made.factor.device != act.adds_device() {
            return Err(EvidenceFault::Broken("the act added another device key"));
        }
        proof::check_made(&approval.factor, made.registration.as_ref(), maker)?;
        let mut chain = vec![maker.to_owned()];
        chain.extend(self.chain(adding, depth + 1)?);
        Ok(chain)
    }

    fn made<'f>(
        &self,
        used: &documents::Factor,
        mut made: impl Iterator<Item = &'f documents::Factor>,
    ) -> Result<(), EvidenceFault> {
        match made.any(|m| m == used) {
            true => Ok(()),
            false => Err(EvidenceFault::Broken(
                "the factor isn't the one that was made",
            )),
        }
    }

    /// Signatures that were made on this approval.
    fn signatures(
        &self,
        act: &str,
        approval: &str,
        of: &documents::Act,
    ) -> Result<Vec<SignatureShown>, EvidenceFault> {
        let mut shown = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        for (name, document) in self.documents {
            let Document::Signature(signed) = document else {
                continue;
            };
            if signed.act != act {
                continue;
            }
            self.signature(name, signed, approval, of)?;
            if !signed.indices.iter().all(|i| seen.insert(*i)) {
                return Err(EvidenceFault::Broken("an item was signed twice"));
            }
            shown.push(SignatureShown {
                alg: signed.alg.clone(),
                at: signed.at,
                items: signed.indices.clone(),
                filled: signed.filled.clone(),
                values: signed.values.clone(),
            });
        }
        Ok(shown)
    }

    fn signature(
        &self,
        name: &str,
        signed: &Signed,
        approval: &str,
        act: &documents::Act,
    ) -> Result<(), EvidenceFault> {
        let open = act.kind == "sign-open";
        let places = match open {
            true => act.count.and_then(|n| usize::try_from(n).ok()),
            false => act.items.as_ref().map(Vec::len),
        };
        let places = places.unwrap_or_default();
        let in_act = |i: &u32| usize::try_from(*i).is_ok_and(|i| i < places);
        // What nobody was shown is named by the signature's evidence, and only there.
        let named = if open { signed.indices.len() } else { 0 };
        let in_time = !open
            || act
                .until
                .is_some_and(|until| signed.at < until.saturating_add(LATE));
        let fits = signed.approval == approval
            && signed.filled.len() == named
            && in_time
            && signed.indices.len() == signed.values.len()
            && signed.indices.iter().all(in_act)
            && act.algs.as_ref().is_some_and(|a| a.contains(&signed.alg));
        if !fits {
            return Err(EvidenceFault::Broken(
                "a signature isn't one of those approved",
            ));
        }
        let in_log = self.logged.iter().any(|e| {
            e.kind == "signature.made"
                && e.detail("act") == Some(signed.act.as_str())
                && e.detail("evidence") == Some(name)
        });
        match in_log {
            true => Ok(()),
            false => Err(EvidenceFault::Broken(
                "the log doesn't contain the signature",
            )),
        }
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
