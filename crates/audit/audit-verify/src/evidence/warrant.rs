//! An approved proposal that was taken to be carried out: the SAM's warrant, with the evidence of the approvals.
//!
//! The text is a JSON object: `document` (the exact bytes that were approved), `approvals` (texts of evidence), `warrant`
//! (JWS of type `natsuin-warrant+jws` by the SAM's key, naming all of these by SHA-256) and `statement` (by `K_root`, about
//! that key). Whoever can write to the SAM's store, and has no key of it, can't make one.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::documents::Document;
use super::{EvidenceFault, act_of, jws, keys_of, proof, sha256, weight};

/// How far a clock may be behind the SAM's, in seconds.
const SKEW: i64 = 60;
/// How many persons it takes.
const PERSONS: usize = 2;

/// A deletion from a log that two officers approved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletionApproved {
    /// From which zone's log: `cm`, `sam` or `ssa`.
    pub zone: String,
    /// Digest that names the archive, base64url.
    pub archive: String,
    /// Entries below this place.
    pub size: u64,
    /// Digest of what was approved, base64url.
    pub proposal: String,
    /// Who approved it.
    pub officers: [String; PERSONS],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Taken {
    document: String,
    approvals: Vec<String>,
    warrant: String,
    statement: String,
}

/// Payload of the warrant.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Warrant {
    v: u8,
    sam: String,
    epoch: String,
    /// SHA-256 of the document.
    proposal: String,
    /// SHA-256 of each approval's evidence.
    evidence: Vec<String>,
    /// Who approved, in the same order.
    officers: Vec<String>,
    at: i64,
    exp: i64,
}

/// What is approved, as far as it is read here.
#[derive(Deserialize)]
struct Approved {
    sam: String,
    measure: Measure,
    requester: Requester,
}

#[derive(Deserialize)]
#[serde(tag = "measure", rename_all = "kebab-case", deny_unknown_fields)]
enum Measure {
    DeleteArchived {
        zone: String,
        archive: String,
        size: u64,
    },
    ForgetPerson {
        subject: String,
    },
}

/// Forgetting a person, as two officers approved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgettingApproved {
    /// Commitment to the person, base64url.
    pub subject: String,
    /// Digest of what was approved, base64url.
    pub proposal: String,
}

#[derive(Deserialize)]
struct Requester {
    officer: String,
}

/// Checks that two officers approved a deletion, and that the SAM lets it be carried out now. `root`: `K_root` as a JWK
/// (JSON), known from before; `now`: Unix time in seconds.
///
/// # Errors
/// [`EvidenceFault`]: the first check that failed.
pub fn verify_deletion(
    taken: &[u8],
    root: &str,
    now: i64,
) -> Result<DeletionApproved, EvidenceFault> {
    let (proposal, officers, measure) = approved(taken, root, now)?;
    match measure {
        Measure::DeleteArchived {
            zone,
            archive,
            size,
        } => Ok(DeletionApproved {
            zone,
            archive,
            size,
            proposal,
            officers,
        }),
        Measure::ForgetPerson { .. } => {
            Err(EvidenceFault::Broken("what was approved isn't a deletion"))
        }
    }
}

/// The same for forgetting a person.
///
/// # Errors
/// As [`verify_deletion`].
pub fn verify_forgetting(
    taken: &[u8],
    root: &str,
    now: i64,
) -> Result<ForgettingApproved, EvidenceFault> {
    let (proposal, _, measure) = approved(taken, root, now)?;
    match measure {
        Measure::ForgetPerson { subject } => Ok(ForgettingApproved { subject, proposal }),
        Measure::DeleteArchived { .. } => Err(EvidenceFault::Broken(
            "what was approved isn't that a person is forgotten",
        )),
    }
}

/// What two officers approved: its digest, they, and the measure.
fn approved(
    taken: &[u8],
    root: &str,
    now: i64,
) -> Result<(String, [String; PERSONS], Measure), EvidenceFault> {
    let broken = EvidenceFault::Broken;
    let root: jws::Jwk =
        serde_json::from_str(root).map_err(|_| EvidenceFault::Anchor("the root key"))?;
    let taken: Taken = serde_json::from_slice(taken)
        .map_err(|_| EvidenceFault::Form("not what was taken from the SAM"))?;
    let keys = keys_of(&root, &taken.statement, now)?;
    let payload = jws::verify(&taken.warrant, "natsuin-warrant+jws", &keys.act)
        .ok_or(broken("the warrant isn't by the SAM"))?;
    let warrant: Warrant = serde_json::from_slice(&payload)
        .map_err(|_| EvidenceFault::Form("the warrant's members"))?;
    if warrant.v != 1 || warrant.sam != keys.sam || warrant.epoch != keys.epoch {
        return Err(broken("the warrant is another SAM's"));
    }
    if now < warrant.at - SKEW || now >= warrant.exp {
        return Err(broken("the warrant is over"));
    }
    if sha256(taken.document.as_bytes()) != warrant.proposal {
        return Err(broken("something else was approved"));
    }
    let document: Approved = serde_json::from_str(&taken.document).map_err(|_| {
        broken("what was approved isn't a deletion, nor that a person is forgotten")
    })?;
    let evidence: Vec<String> = taken
        .approvals
        .iter()
        .map(|text| sha256(text.as_bytes()))
        .collect();
    if document.sam != keys.sam || evidence != warrant.evidence {
        return Err(broken("the approvals aren't those of the warrant"));
    }
    let mut accounts = BTreeSet::new();
    for text in &taken.approvals {
        let Ok(Document::Approval(approval)) = serde_json::from_str(text) else {
            return Err(EvidenceFault::Form("an approval"));
        };
        let act = act_of(&root, &approval.act, &approval.statement, approval.at)?;
        if act.kind != "officer" || act.document.as_ref() != Some(&warrant.proposal) {
            return Err(broken("an approval is of something else"));
        }
        let digest = jws::act_digest(&approval.act);
        proof::check(&approval.proof, &approval.factor, &digest, act.rp_host())?;
        weight::check(&act, &approval)?;
        accounts.insert(act.person.id);
    }
    let officers: BTreeSet<&String> = warrant.officers.iter().collect();
    let [officer, second] = warrant.officers.as_slice() else {
        return Err(broken("it takes two officers"));
    };
    if accounts.len() != PERSONS || officers.len() != PERSONS {
        return Err(broken("it takes two officers"));
    }
    if officers.contains(&document.requester.officer) {
        return Err(broken("who asked is one of those who approved"));
    }
    let officers = [officer.clone(), second.clone()];
    Ok((warrant.proposal, officers, document.measure))
}
