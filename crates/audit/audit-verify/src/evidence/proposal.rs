//! What officers decided: the exact bytes that each of them approved, and that there were enough of them.
//!
//! The text is a JSON object: `format` (`natsuin-proposal/1`), `proposal` (SHA-256 of those bytes, base64url) and `approvals`
//! (a bundle of each approval).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::approvals::Approvals;
use super::documents::{Act, Document};
use super::{Anchors, EvidenceFault, Shown, verify_evidence};

/// What an officer's act is of that only logs in.
const LOG_IN: &str = "log-in";

/// A proposal that enough officers approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProposalShown {
    /// Format of this report.
    pub schema: &'static str,
    /// SHA-256 of what was approved, base64url.
    pub proposal: String,
    /// How many persons it takes.
    pub needs: usize,
    /// Each approval.
    pub approvals: Vec<Shown>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Decided {
    format: String,
    proposal: String,
    approvals: Vec<Value>,
}

/// Checks the evidence of what officers decided: every approval as [`verify_evidence`] does, that all are of the same bytes and of
/// different accounts of different persons, none of them the requester, whoever is meant, or whoever asked for the account that is
/// confirmed, and that there are as many as the acts say it takes. Whose an account is, is what the log said when they approved.
///
/// # Errors
/// [`EvidenceFault`]: the first check that failed.
pub fn verify_proposal(
    evidence: &[u8],
    anchors: Anchors<'_>,
) -> Result<ProposalShown, EvidenceFault> {
    let broken = EvidenceFault::Broken;
    let decided: Decided =
        serde_json::from_slice(evidence).map_err(|_| EvidenceFault::Form("not its JSON"))?;
    if decided.format != "natsuin-proposal/1" {
        return Err(EvidenceFault::Form("another format"));
    }
    let (mut approvals, mut needs) = (Vec::new(), 0);
    let (mut accounts, mut officers) = (BTreeSet::new(), BTreeSet::new());
    for bundle in &decided.approvals {
        let shown = verify_evidence(bundle.to_string().as_bytes(), anchors)?;
        if shown.document.as_ref() != Some(&decided.proposal) {
            return Err(broken("an approval is of something else"));
        }
        if !accounts.insert(shown.person[0].clone()) {
            return Err(broken("one account approved twice"));
        }
        let officer = shown.officer.clone();
        let officer = officer.ok_or(broken("a log-in decides nothing"))?;
        if !officers.insert(officer) {
            return Err(broken("one person approved twice"));
        }
        needs = needs.max(shown.needs.unwrap_or(usize::MAX));
        approvals.push(shown);
    }
    if approvals.is_empty() || approvals.len() < needs {
        return Err(broken("fewer persons approved than it takes"));
    }
    Ok(ProposalShown {
        schema: "natsuin.proposal-verify/1",
        proposal: decided.proposal,
        needs,
        approvals,
    })
}

/// What an officer's act decided, line by line, from the exact bytes that it names, and the person who did it; nothing of a log-in.
pub(super) fn of(
    approvals: &Approvals<'_>,
    act: &Act,
    digest: &str,
) -> Result<Option<(Vec<String>, String)>, EvidenceFault> {
    let broken = EvidenceFault::Broken;
    if act.decides() == Some(LOG_IN) {
        return Ok(None);
    }
    let name = act.document.as_deref().unwrap_or_default();
    let Some(Document::Proposal(proposal)) = approvals.documents.get(name) else {
        return Err(broken("what the officer approved is missing"));
    };
    let asked = approvals
        .logged
        .iter()
        .any(|e| e.kind == "proposal.made" && e.detail("evidence") == Some(name));
    let given = approvals.logged.iter().find(|e| {
        e.kind == "proposal.approved"
            && e.detail("act") == Some(digest)
            && e.detail("proposal") == Some(name)
    });
    let officer = given.filter(|_| asked).and_then(|e| e.detail("officer"));
    let officer = officer.ok_or(broken("the log doesn't contain the officers' proposal"))?;
    if proposal.sam != act.sam {
        return Err(broken("what the officer approved is another SAM's"));
    }
    let requester = &proposal.requester;
    if requester.account == act.person.id || requester.officer == officer {
        return Err(broken("who asked is who approved"));
    }
    let is_officer = |of: &Value| of.as_str() == Some(officer);
    if is_officer(&proposal.measure["officer"]) {
        return Err(broken("who is meant is who approved"));
    }
    // They had the link that enrolled the passkey.
    if is_officer(&proposal.facts["asked_by"]) {
        return Err(broken("who asked for the account is who confirmed it"));
    }
    let what = vec![
        format!("measure {}", proposal.measure),
        format!("facts {}", proposal.facts),
        format!("reason {:?}", proposal.reason),
        format!("asked by {} ({})", requester.name, requester.account),
    ];
    Ok(Some((what, officer.to_owned())))
}
