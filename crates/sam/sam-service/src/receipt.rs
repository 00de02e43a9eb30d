//! Bundles of evidence: everything a checker needs about one act, from rows that need no key to be read. What the bundle
//! shows is judged by `audit-verify`, which shares nothing with this.

use std::collections::BTreeMap;

use audit_log::LoggedEntry;
use core_types::bytes::{b64u, from_b64u};
use core_types::{Digest32, sha256};
use jose::Jwk;
use sam_core::evidence::Evidence;
use sap::Act;
use sap::office::Document;
use serde_json::{Value, json};
use store_kit::{Store, StoreError, Tx, sql};

/// Longest chain from a factor back to its enrolment.
const DEPTH: usize = 16;

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    /// The log knows nothing with evidence that this digest names, about this person.
    #[error("there is no such act of this person")]
    NotFound,
    /// The log's next checkpoint is due.
    #[error("the log has no checkpoint over it yet; ask again in a few seconds")]
    NotYet,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The bundle about `act` of `person` (or the notice, or what a CA published, that was heeded) from a SAM's store, as JSON. `root`: the module's root key, which a checker
/// compares with the one it knows. A person of a tenant is named by [`core_types::TenantId::name`].
///
/// # Errors
/// [`ReceiptError`].
pub async fn bundle(
    store: &Store,
    root: &Jwk,
    person: &str,
    act: Digest32,
) -> Result<String, ReceiptError> {
    let mut entries: BTreeMap<i64, LoggedEntry> = BTreeMap::new();
    let mut documents: BTreeMap<Digest32, String> = BTreeMap::new();
    let mut certificates = Vec::new();
    let mut decided = None;
    let mut next = Some(act);
    for _ in 0..DEPTH {
        let Some(about) = next.take() else { break };
        let found = audit_log::about(store, person, about).await?;
        for named in found.iter().filter_map(evidence_of) {
            let mut tx = store.read("evidence").await?;
            let Some(text) = document(&mut tx, named).await? else {
                continue;
            };
            let parsed = serde_json::from_str::<Evidence>(&text).ok();
            match &parsed {
                Some(Evidence::Approval(approval)) if sap::act_digest(&approval.act) == about => {
                    if about == act {
                        decided = proposal_of(&approval.act);
                    }
                    next = Some(approval.factor.act).filter(|made| *made != about);
                }
                Some(Evidence::Signature(signed)) if about == act => {
                    certificates.clone_from(&signed.certificates);
                }
                _ => {}
            }
            documents.insert(named, text);
        }
        entries.extend(found.into_iter().map(|e| (e.seq, e)));
    }
    if documents.is_empty() {
        return Err(ReceiptError::NotFound);
    }
    if let Some(name) = decided {
        let mut tx = store.read("evidence").await?;
        let text = document(&mut tx, name).await?;
        drop(tx);
        let asked = text.as_deref().map(serde_json::from_str::<Document>);
        if let (Some(text), Some(Ok(asked))) = (text, asked) {
            let requester = asked.requester.account;
            let found = audit_log::about(store, requester.as_str(), name).await?;
            let made = found.into_iter().filter(|e| evidence_of(e) == Some(name));
            entries.extend(made.map(|e| (e.seq, e)));
            documents.insert(name, text);
        }
    }
    let places: Vec<i64> = entries.keys().copied().collect();
    let proofs = audit_log::prove(store, &places).await?;
    let proofs = proofs.ok_or(ReceiptError::NotYet)?;
    let opening = audit_log::opening(store, person).await?;
    let opening = opening.ok_or(ReceiptError::NotFound)?;
    let entries: Vec<Value> = entries
        .values()
        .zip(&proofs.paths)
        .map(|(e, path)| json!({ "seq": e.seq, "body": e.body, "proof": path }))
        .collect();
    let bundle = json!({
        "format": "natsuin-evidence/1",
        "act": act,
        "root": root,
        "documents": documents.values().collect::<Vec<_>>(),
        "certificates": certificates,
        "checkpoint": proofs.checkpoint,
        "entries": entries,
        "salt": b64u(&opening.salt),
    });
    Ok(bundle.to_string())
}

/// The bundles of all approvals of a proposal that the log names, as JSON, for whoever sits at the SAM's machine and has no session;
/// nothing where it names none.
///
/// # Errors
/// As [`bundle`] for each.
pub async fn proposal_bundle(
    store: &Store,
    root: &Jwk,
    proposal: Digest32,
) -> Result<Option<String>, ReceiptError> {
    let mut bundles = Vec::new();
    for approved in audit_log::of_kind(store, "proposal.approved", proposal).await? {
        let Some((account, act)) = approval_of(&approved, proposal) else {
            continue;
        };
        let mut tx = store.read("evidence").await?;
        let account = audit_log::row_of(&mut tx, &account).await?;
        drop(tx);
        let account = account.ok_or(ReceiptError::NotFound)?;
        let text = bundle(store, root, &account, act).await?;
        bundles.push(serde_json::from_str(&text).map_err(|_| ReceiptError::NotFound)?);
    }
    Ok((!bundles.is_empty()).then(|| proposal_text(proposal, bundles)))
}

/// The bundles of a proposal's approvals, as one text.
pub(crate) fn proposal_text(proposal: Digest32, approvals: Vec<Value>) -> String {
    let all = json!({
        "format": "natsuin-proposal/1",
        "proposal": proposal,
        "approvals": approvals,
    });
    all.to_string()
}

/// By what name the entry has the account that approved this proposal, and its act.
fn approval_of(entry: &LoggedEntry, proposal: Digest32) -> Option<(String, Digest32)> {
    let body: Value = serde_json::from_str(&entry.body).ok()?;
    let detail = body.get("detail")?;
    let digest = |name: &str| Digest32::parse(detail.get(name)?.as_str()?).ok();
    let account = detail.get("account")?.as_str()?.to_owned();
    (digest("proposal")? == proposal).then_some((account, digest("act")?))
}

/// What an officer's act is about.
fn proposal_of(act: &str) -> Option<Digest32> {
    let payload = from_b64u(act.split('.').nth(1)?).ok()?;
    match serde_json::from_slice(&payload).ok()? {
        Act::Officer(act) => Some(act.document),
        _ => None,
    }
}

fn evidence_of(entry: &LoggedEntry) -> Option<Digest32> {
    let body: Value = serde_json::from_str(&entry.body).ok()?;
    Digest32::parse(body.get("detail")?.get("evidence")?.as_str()?).ok()
}

/// The text of a piece of evidence, if it is there and is what its name says.
async fn document(tx: &mut Tx, name: Digest32) -> Result<Option<String>, StoreError> {
    let select = sql("SELECT body FROM evidence WHERE id = $1").bind(name.to_string());
    let row = tx.fetch_optional(select).await?;
    let body = row.map(|r| r.blob("body")).transpose()?;
    Ok(body
        .filter(|b| sha256(&[b]) == name)
        .and_then(|b| String::from_utf8(b).ok()))
}
