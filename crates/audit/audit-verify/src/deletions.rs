//! Deletions that logs tell of, and persons who were forgotten, against the SAM's log: two officers have approved each, for that and
//! nothing else, and somebody took it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::evidence::sha256;
use crate::note::split;
use crate::reconcile::Unmatched;

const DELETED: &str = "audit.log-deleted";
const FORGOTTEN: &str = "audit.person-forgotten";
const REPLAYED: &str = "audit.log-replayed";

/// Takes the entries of all logs, the SAM's first or last.
#[derive(Debug, Default)]
pub struct Deletions {
    /// By proposal: who approved it.
    approved: BTreeMap<String, BTreeSet<String>>,
    /// By proposal: what was admitted.
    admitted: BTreeMap<String, String>,
    taken: BTreeSet<String>,
    /// By zone and size: digests of the log's checkpoint.
    checkpoints: BTreeMap<(&'static str, u64), BTreeSet<String>>,
    told: Vec<Told>,
}

/// What comes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// How many deletions and forgotten persons were told of that rest on an approval, or have to.
    pub told: u64,
    /// The first of them that wasn't approved, or rests on a proposal that had been carried out before.
    pub unapproved: Option<Unmatched>,
    /// Persons who are said to have been forgotten with lost rows, right before the entry that says that the log was brought up, and
    /// whose entries don't name the checkpoint up to which it was: nobody knows why they were.
    pub open: u64,
}

/// An entry that has to rest on a proposal.
#[derive(Debug)]
struct Told {
    this: Unmatched,
    proposal: String,
    /// What has to be proposed.
    what: &'static str,
    /// Who approved that, as the entry has it.
    officers: Vec<String>,
    node: String,
    n: u64,
    /// Right behind it the log was brought up, to this size.
    up_to: Option<u64>,
}

#[derive(Deserialize)]
struct Entry {
    at: i64,
    kind: String,
    #[serde(default)]
    node: String,
    #[serde(default)]
    n: u64,
    detail: Detail,
}

#[derive(Deserialize)]
struct Detail {
    proposal: Option<String>,
    what: Option<String>,
    by: Option<String>,
    officer: Option<String>,
    second: Option<String>,
    size: Option<serde_json::Value>,
}

impl Deletions {
    /// Takes an entry of a zone's log: its place and text, as [`verify_each`](crate::verify_each) gives them out.
    pub fn take(&mut self, zone: &str, seq: u64, text: &str) {
        // Few entries are about this.
        let about = [DELETED, FORGOTTEN, REPLAYED, "proposal."];
        if !about.iter().any(|kind| text.contains(kind)) {
            return;
        }
        let Ok(entry) = serde_json::from_str::<Entry>(text) else {
            return;
        };
        let zone = known(zone);
        let Entry {
            at,
            kind,
            node,
            n,
            detail,
        } = entry;
        let mut tell = |kind, what, proposal: Option<String>, officers, fault| {
            let this = Unmatched {
                zone,
                seq,
                at,
                kind,
                what: fault,
            };
            self.told.push(Told {
                this,
                proposal: proposal.unwrap_or_default(),
                what,
                officers,
                node: node.clone(),
                n,
                up_to: None,
            });
        };
        match (kind.as_str(), detail.proposal) {
            (DELETED, proposal) => {
                let officers = vec![
                    detail.officer.unwrap_or_default(),
                    detail.second.unwrap_or_default(),
                ];
                let fault = "entries were deleted and no two officers had approved that";
                tell(DELETED, "delete-archived", proposal, officers, fault);
            }
            (FORGOTTEN, _) => {
                let fault = "a person was forgotten and no two officers had approved that";
                tell(FORGOTTEN, "forget-person", detail.by, Vec::new(), fault);
            }
            (REPLAYED, _) => {
                let size = detail.size.and_then(|size| size.as_u64());
                self.brought_up(zone, &node, n, size.unwrap_or(0));
            }
            ("proposal.approved", Some(proposal)) if zone == "sam" => {
                let officers = self.approved.entry(proposal).or_default();
                officers.extend(detail.officer);
            }
            ("proposal.admitted", Some(proposal)) if zone == "sam" => {
                let what = detail.what.unwrap_or_default();
                self.admitted.insert(proposal, what);
            }
            ("proposal.taken", Some(proposal)) if zone == "sam" => {
                self.taken.insert(proposal);
            }
            _ => {}
        }
    }

    /// Takes the checkpoints of a zone's log, as its export lists them. The log must have been found good.
    pub fn take_checkpoints(&mut self, zone: &str, listed: &str) {
        for note in split(listed).0 {
            let size = note.lines().nth(1).and_then(|size| size.parse().ok());
            // Text, an empty line, the log's own signature; then witnesses'.
            let signature = note.find("\n\n").map(|end| end + 2);
            let (Some(size), Some(signature)) = (size, signature) else {
                continue;
            };
            let end = note[signature..].find('\n');
            let own = &note[..end.map_or(note.len(), |end| signature + end + 1)];
            let digests = self.checkpoints.entry((known(zone), size)).or_default();
            digests.extend([sha256(note.as_bytes()), sha256(own.as_bytes())]);
        }
    }

    /// A log was brought up after a restore: its node forgot, right before it says so, those whom only lost rows knew. No officer
    /// approves that.
    fn brought_up(&mut self, zone: &str, node: &str, n: u64, size: u64) {
        let mut by: Option<&str> = None;
        for (told, before) in self.told.iter_mut().rev().zip((0..n).rev()) {
            let follows = (told.this.zone, told.this.kind, told.n) == (zone, FORGOTTEN, before)
                && told.node == node
                && by.is_none_or(|by| by == told.proposal);
            if !follows {
                break;
            }
            told.up_to = Some(size);
            by = Some(&told.proposal);
        }
    }

    /// Judges what the logs told. They must have been found good, and the SAM's read in whole.
    #[must_use]
    pub fn judge(&self) -> Judged {
        let mut spent = BTreeSet::new();
        let mut judged = Judged {
            told: 0,
            unapproved: None,
            open: 0,
        };
        for told in &self.told {
            let is_approved = self.is_approved(told);
            if let Some(size) = told.up_to.filter(|_| !is_approved) {
                let digests = self.checkpoints.get(&(told.this.zone, size));
                let fits = digests.is_some_and(|digests| digests.contains(&told.proposal));
                judged.open += u64::from(!fits);
                continue;
            }
            judged.told += 1;
            // A person is forgotten in every zone; entries are deleted from the log of the one that the proposal names.
            let zone = match told.this.kind {
                FORGOTTEN => told.this.zone,
                _ => "",
            };
            let first = spent.insert((&told.proposal, zone));
            if judged.unapproved.is_none() && !(first && is_approved) {
                judged.unapproved = Some(told.this.clone());
            }
        }
        judged
    }

    fn is_approved(&self, told: &Told) -> bool {
        let Some(officers) = self.approved.get(&told.proposal) else {
            return false;
        };
        officers.len() >= 2
            && told
                .officers
                .iter()
                .all(|officer| officers.contains(officer))
            && self.admitted.get(&told.proposal).map(String::as_str) == Some(told.what)
            && self.taken.contains(&told.proposal)
    }
}

fn known(zone: &str) -> &'static str {
    match zone {
        "cm" => "cm",
        "sam" => "sam",
        _ => "ssa",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn entry(kind: &str, n: u64, detail: &Value) -> String {
        json!({"v": 1, "node": "a", "n": n, "at": 7, "kind": kind, "detail": detail}).to_string()
    }

    fn approvals(what: &str) -> Vec<String> {
        let by = |officer: &str| json!({"proposal": "p", "officer": officer});
        vec![
            entry("proposal.approved", 1, &by("o1")),
            entry("proposal.approved", 2, &by("o2")),
            entry(
                "proposal.admitted",
                3,
                &json!({"proposal": "p", "what": what, "state": "approved"}),
            ),
            entry("proposal.taken", 4, &by("o3")),
        ]
    }

    fn deleted(second: &str) -> String {
        let detail = json!({"proposal": "p", "officer": "o1", "second": second});
        entry("audit.log-deleted", 9, &detail)
    }

    fn forgotten(n: u64, by: &str) -> String {
        entry(
            "audit.person-forgotten",
            n,
            &json!({"alias": "a", "by": by}),
        )
    }

    fn judged(entries: &[(&str, &[String])]) -> (u64, Option<(&'static str, u64)>) {
        let mut deletions = Deletions::default();
        for (zone, texts) in entries {
            for (seq, text) in (0..).zip(*texts) {
                deletions.take(zone, seq, text);
            }
        }
        let Judged {
            told, unapproved, ..
        } = deletions.judge();
        (told, unapproved.map(|bad| (bad.zone, bad.seq)))
    }

    const OWN: &str = "log.example/sam\n9\nROOT=\n\n\u{2014} log.example/sam SIG=\n";

    /// Of the SAM's log alone: what rests on approvals, whether all of it does, and what nobody knows.
    fn brought_up(entries: &[String], checkpoints: &str) -> (u64, bool, u64) {
        let mut deletions = Deletions::default();
        for (seq, text) in (0..).zip(entries) {
            deletions.take("sam", seq, text);
        }
        deletions.take_checkpoints("sam", checkpoints);
        let judged = deletions.judge();
        (judged.told, judged.unapproved.is_none(), judged.open)
    }

    fn up(n: u64, size: u64) -> String {
        entry("audit.log-replayed", n, &json!({"from": 1, "size": size}))
    }

    // shows: I-7.1.4.8-audit-integrity-verifier
    #[test]
    fn who_is_forgotten_with_lost_rows_is_so_by_the_checkpoint_up_to_which_the_log_was_brought() {
        let whole = format!("{OWN}\u{2014} w.example SIG=\n");
        let other = OWN.replace("\n9\n", "\n8\n");
        let listed = format!("{other}\n{whole}\n");
        for by in [sha256(OWN.as_bytes()), sha256(whole.as_bytes())] {
            let told = [forgotten(9, &by), forgotten(10, &by), up(11, 9)];
            assert_eq!(brought_up(&told, &listed), (0, true, 0));
            assert_eq!(brought_up(&told, ""), (0, true, 2), "no checkpoints");
            assert_eq!(brought_up(&told, &other), (0, true, 2), "another one");
            let told = [forgotten(9, &by), forgotten(10, &by), up(11, 8)];
            assert_eq!(brought_up(&told, &listed), (0, true, 2), "another size");
        }
        let told = [forgotten(9, "c"), forgotten(10, "c"), up(11, 9)];
        assert_eq!(brought_up(&told, &listed), (0, true, 2), "whoever it was");
    }

    #[test]
    fn who_was_forgotten_before_a_log_was_brought_up_is_judged_by_the_approvals() {
        let sam = approvals("forget-person");
        let with = |more: &[String]| brought_up(&[&sam[..], more].concat(), &format!("{OWN}\n"));
        let by = sha256(OWN.as_bytes());
        // No strangers: the entry before is what it is.
        assert_eq!(with(&[forgotten(9, "p"), up(10, 9)]), (1, true, 0));
        let both = [forgotten(9, "p"), forgotten(10, &by), up(11, 9)];
        assert_eq!(with(&both), (1, true, 0));
        let twice = [forgotten(8, "p"), forgotten(9, "p"), up(10, 9)];
        assert_eq!(with(&twice), (2, false, 0));
        let unknown = [forgotten(9, "q"), forgotten(10, &by), up(11, 9)];
        assert_eq!(with(&unknown), (1, false, 0));
    }

    // shows: I-7.1.4.3-delete-after-archive
    #[test]
    fn a_deletion_wants_two_officers_and_somebody_who_took_it() {
        let (sam, cm) = (approvals("delete-archived"), [deleted("o2")]);
        assert_eq!(judged(&[("cm", &cm), ("sam", &sam)]), (1, None));
        for without in 0..4 {
            let mut less = sam.clone();
            less.remove(without);
            assert_eq!(judged(&[("cm", &cm), ("sam", &less)]).1, Some(("cm", 0)));
        }
        let mut one = sam.clone();
        one[1] = one[0].clone();
        assert!(judged(&[("cm", &cm), ("sam", &one)]).1.is_some(), "twice");
        assert!(
            judged(&[("cm", &cm), ("ssa", &sam)]).1.is_some(),
            "other log"
        );
        let other = [deleted("o3")];
        assert!(judged(&[("cm", &other), ("sam", &sam)]).1.is_some());
    }

    // shows: I-7.1.4.3-delete-after-archive
    #[test]
    fn a_proposal_is_good_for_what_it_proposes_and_once() {
        let (sam, cm) = (approvals("delete-archived"), [deleted("o2")]);
        for what in ["dismiss", "settings", "forget-person"] {
            let other = approvals(what);
            let told = judged(&[("cm", &cm), ("sam", &other)]);
            assert_eq!(told, (1, Some(("cm", 0))), "{what}");
        }
        let twice = [deleted("o2"), deleted("o2")];
        assert_eq!(judged(&[("cm", &twice), ("sam", &sam)]).1, Some(("cm", 1)));
        let two = judged(&[("cm", &cm), ("sam", &sam), ("ssa", &cm)]);
        assert_eq!(two.1, Some(("ssa", 0)));
    }

    #[test]
    fn a_person_is_forgotten_as_two_officers_approved_once_in_each_zone() {
        let (sam, one) = (approvals("forget-person"), [forgotten(9, "p")]);
        let all: [(&str, &[String]); 4] =
            [("cm", &one), ("sam", &sam), ("sam", &one), ("ssa", &one)];
        assert_eq!(judged(&all), (3, None));
        let other = approvals("delete-archived");
        assert_eq!(
            judged(&[("ssa", &one), ("sam", &other)]).1,
            Some(("ssa", 0))
        );
        let twice = [forgotten(9, "p"), forgotten(10, "p")];
        assert_eq!(
            judged(&[("ssa", &twice), ("sam", &sam)]).1,
            Some(("ssa", 1))
        );
        let unknown = [forgotten(9, "q")];
        assert!(judged(&[("ssa", &unknown), ("sam", &sam)]).1.is_some());
    }

    #[test]
    fn those_who_are_forgotten_with_lost_rows_are_followed_by_the_entry_that_says_so() {
        let up = |n| entry("audit.log-replayed", n, &json!({"from": 1, "size": 9}));
        let good = [forgotten(9, "c"), forgotten(10, "c"), up(11)];
        assert_eq!(judged(&[("sam", &good)]), (0, None));
        for (bad, left) in [
            ([forgotten(9, "c"), forgotten(10, "d"), up(11)], 1),
            ([forgotten(8, "c"), forgotten(10, "c"), up(11)], 1),
            ([forgotten(9, "c"), forgotten(10, "c"), up(12)], 2),
            ([up(8), forgotten(9, "c"), forgotten(10, "c")], 2),
        ] {
            let (told, first) = judged(&[("sam", &bad)]);
            assert_eq!((told, first.is_some()), (left, true), "{bad:?}");
        }
    }
}
