//! Deletions that logs tell of, against the SAM's log: two officers have approved each, and somebody took it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::reconcile::Unmatched;

/// Takes the entries of all logs, the SAM's first or last.
#[derive(Debug, Default)]
pub struct Deletions {
    /// By proposal: who approved it.
    approved: BTreeMap<String, BTreeSet<String>>,
    taken: BTreeSet<String>,
    told: Vec<(Unmatched, String)>,
}

#[derive(Deserialize)]
struct Entry {
    at: i64,
    kind: String,
    detail: Detail,
}

#[derive(Deserialize)]
struct Detail {
    proposal: Option<String>,
    officer: Option<String>,
}

impl Deletions {
    /// Takes an entry of a zone's log: its place and text, as [`verify_each`](crate::verify_each) gives them out.
    pub fn take(&mut self, zone: &str, seq: u64, text: &str) {
        // Few entries are about this.
        if !text.contains("\"kind\":\"proposal.")
            && !text.contains("\"kind\":\"audit.log-deleted\"")
        {
            return;
        }
        let Ok(entry) = serde_json::from_str::<Entry>(text) else {
            return;
        };
        let Some(proposal) = entry.detail.proposal else {
            return;
        };
        let zone = match zone {
            "cm" => "cm",
            "sam" => "sam",
            _ => "ssa",
        };
        match entry.kind.as_str() {
            "proposal.approved" if zone == "sam" => {
                let officers = self.approved.entry(proposal).or_default();
                officers.extend(entry.detail.officer);
            }
            "proposal.taken" if zone == "sam" => {
                self.taken.insert(proposal);
            }
            "audit.log-deleted" => {
                let this = Unmatched {
                    zone,
                    seq,
                    at: entry.at,
                    kind: "audit.log-deleted",
                    what: "entries were deleted and no two officers had approved that",
                };
                self.told.push((this, proposal));
            }
            _ => {}
        }
    }

    /// How many deletions were told, and the first that wasn't approved. The logs must have been found good, and the
    /// SAM's read in whole.
    #[must_use]
    pub fn judge(&self) -> (u64, Option<Unmatched>) {
        let good = |proposal: &String| {
            self.taken.contains(proposal)
                && self.approved.get(proposal).is_some_and(|o| o.len() >= 2)
        };
        let bad = self.told.iter().find(|(_, proposal)| !good(proposal));
        (
            u64::try_from(self.told.len()).unwrap_or(u64::MAX),
            bad.map(|(this, _)| this.clone()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: &str, officer: &str) -> String {
        format!(
            r#"{{"v":1,"at":7,"kind":"{kind}","detail":{{"proposal":"p","officer":"{officer}"}}}}"#
        )
    }

    #[test]
    fn a_deletion_wants_two_officers_and_somebody_who_took_it() {
        let sam = [
            entry("proposal.approved", "o1"),
            entry("proposal.approved", "o2"),
            entry("proposal.taken", "o3"),
        ];
        let judged = |sam: &[String], zone: &str| {
            let mut deletions = Deletions::default();
            deletions.take("cm", 9, &entry("audit.log-deleted", "o1"));
            for text in sam {
                deletions.take(zone, 0, text);
            }
            deletions.judge()
        };
        assert_eq!(judged(&sam, "sam"), (1, None));
        for without in 0..3 {
            let mut less = sam.to_vec();
            less.remove(without);
            let bad = judged(&less, "sam").1.unwrap();
            assert_eq!((bad.zone, bad.seq), ("cm", 9));
        }
        let one = [sam[0].clone(), sam[0].clone(), sam[2].clone()];
        assert!(judged(&one, "sam").1.is_some(), "one officer twice");
        assert!(judged(&sam, "ssa").1.is_some(), "another zone's log");
    }
}
