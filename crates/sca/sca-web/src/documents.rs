//! The documents that are being signed, and the states they go through.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use core_types::{SigAlg, UnixTime};
use csc_client::Pending;
use csc_types::{Credential, SecretText, SignedValue};
use signing_job::{Outcome, Prepared, Signed};

use crate::problem::Problem;
use crate::sessions::SessionId;

/// Most documents at once, of all browsers and of one.
const MAX_DOCUMENTS: usize = 1_000;
const MAX_PER_SESSION: usize = 50;

/// An uploaded file and how far it got.
pub(crate) struct Document {
    pub(crate) owner: SessionId,
    /// File name as the browser gave it, without folders.
    pub(crate) name: String,
    pub(crate) size: u64,
    /// SHA-256 of the file, hexadecimal.
    pub(crate) sha256: String,
    /// Signatures that were in the file already.
    pub(crate) signatures: usize,
    pub(crate) expires: UnixTime,
    /// Directory of this document alone.
    pub(crate) dir: PathBuf,
    pub(crate) state: State,
    /// What the last try ended with.
    pub(crate) problem: Option<Problem>,
    /// `state` values of authorizations that ended, so that a reload of the way back finds its page.
    pub(crate) past: Vec<String>,
}

impl Document {
    pub(crate) fn original(&self) -> PathBuf {
        self.dir.join("original.pdf")
    }

    pub(crate) fn signed(&self) -> PathBuf {
        self.dir.join("signed.pdf")
    }

    /// The prepared file, while the signer's approval is waited for and names the document: then the approval page can say
    /// whether a file is what will be signed.
    pub(crate) fn prepared(&self) -> Option<&Path> {
        let State::Authorize(trip) = &self.state else {
            return None;
        };
        match &trip.purpose {
            Trip::Approve(waiting) if waiting.comparable => Some(waiting.prepared.prepared_file()),
            Trip::Approve(_) | Trip::Login => None,
        }
    }

    /// Name of the prepared file, such as `契約書-to-sign.pdf`.
    pub(crate) fn prepared_name(&self) -> String {
        format!("{}-to-sign.pdf", self.stem())
    }

    /// Name of the signed file, such as `契約書-signed.pdf`.
    pub(crate) fn signed_name(&self) -> String {
        format!("{}-signed.pdf", self.stem())
    }

    fn stem(&self) -> &str {
        self.name
            .strip_suffix(".pdf")
            .or(self.name.strip_suffix(".PDF"))
            .unwrap_or(&self.name)
    }
}

/// Where a document stands.
pub(crate) enum State {
    /// Can be signed.
    Ready,
    /// The browser is to go to the provider, or is there.
    Authorize(Box<Authorizing>),
    /// The signer has several keys.
    Choose(Vec<Credential>),
    /// Something is being done here.
    Working,
    /// Approved, but an answer is missing: goes on without a new approval.
    Resume(Box<Resume>),
    /// Signed and checked.
    Signed(Box<Outcome>),
}

/// A trip of the browser to the provider.
pub(crate) struct Authorizing {
    pub(crate) pending: Pending,
    /// Whether the browser was sent there: the address is good for one use.
    pub(crate) opened: bool,
    /// What it is for.
    pub(crate) purpose: Trip,
}

pub(crate) enum Trip {
    /// To log in.
    Login,
    /// To approve this signature.
    Approve(Box<Waiting>),
}

/// A prepared file that waits for its signature value.
pub(crate) struct Waiting {
    pub(crate) credential: Credential,
    pub(crate) alg: SigAlg,
    pub(crate) prepared: Prepared,
    /// Whether the approval is asked for with the document's own digest, so that the approval page can compare the file.
    pub(crate) comparable: bool,
    /// Same for every repetition of the call that signs.
    pub(crate) idempotency_key: String,
}

/// An approved signature whose next step failed for reasons that may pass.
pub(crate) struct Resume {
    pub(crate) waiting: Waiting,
    pub(crate) step: Step,
}

pub(crate) enum Step {
    /// `signHash` with this token; repeated with the same key it never signs twice.
    Sign(SecretText),
    /// The value is here; time-stamp and embedding are missing.
    Embed(SignedValue),
    /// The file is signed; only its check is missing.
    Check(Signed),
}

#[derive(Default)]
pub(crate) struct Documents {
    all: HashMap<String, Document>,
    /// Documents that are arriving: whose, and how many bytes they may have.
    arriving: HashMap<String, (SessionId, u64)>,
}

impl Documents {
    /// Takes room for another document of this browser, if it is allowed, until [`Documents::release`]. `size`:
    /// bytes that it may have. `room`: bytes that all files together may take, those that are still arriving and
    /// the signed copies included.
    pub(crate) fn reserve(
        &mut self,
        id: String,
        owner: &SessionId,
        size: u64,
        room: u64,
    ) -> Result<(), Problem> {
        let owners = self.all.values().map(|d| &d.owner);
        let owners = owners.chain(self.arriving.values().map(|(owner, _)| owner));
        let own = owners.filter(|o| *o == owner).count();
        let count = self.all.len() + self.arriving.len();
        if count >= MAX_DOCUMENTS || own >= MAX_PER_SESSION {
            return Err(Problem::TOO_MANY);
        }
        let sizes = self.all.values().map(|d| d.size);
        let sizes = sizes.chain(self.arriving.values().map(|(_, size)| *size));
        let taken = sizes.fold(size, u64::saturating_add);
        if taken.saturating_mul(2) > room {
            return Err(Problem::TOO_MANY);
        }
        self.arriving.insert(id, (*owner, size));
        Ok(())
    }

    /// Gives back the room of a document that arrived, and is counted as such, or will not arrive.
    pub(crate) fn release(&mut self, id: &str) {
        self.arriving.remove(id);
    }

    pub(crate) fn insert(&mut self, id: String, document: Document) {
        self.all.insert(id, document);
    }

    /// A document of this browser; somebody else's looks like none.
    pub(crate) fn get(&self, owner: &SessionId, id: &str) -> Result<&Document, Problem> {
        self.all
            .get(id)
            .filter(|d| d.owner == *owner)
            .ok_or(Problem::NOT_FOUND)
    }

    pub(crate) fn get_mut(
        &mut self,
        owner: &SessionId,
        id: &str,
    ) -> Result<&mut Document, Problem> {
        self.all
            .get_mut(id)
            .filter(|d| d.owner == *owner)
            .ok_or(Problem::NOT_FOUND)
    }

    /// The document of this browser that an authorization belongs to, pending or past.
    pub(crate) fn by_state(&self, owner: &SessionId, state: &str) -> Option<String> {
        let fits = |d: &Document| {
            let pending = matches!(&d.state, State::Authorize(a) if a.pending.state == state);
            d.owner == *owner && (pending || d.past.iter().any(|p| p == state))
        };
        self.all
            .iter()
            .find(|(_, d)| fits(d))
            .map(|(id, _)| id.clone())
    }

    /// Documents of this browser.
    pub(crate) fn of<'a>(
        &'a self,
        owner: &'a SessionId,
    ) -> impl Iterator<Item = (&'a String, &'a Document)> {
        self.all.iter().filter(|(_, d)| d.owner == *owner)
    }

    /// Takes out what ran out, except where work is going on; gives the directories to remove.
    pub(crate) fn sweep(&mut self, now: UnixTime) -> Vec<PathBuf> {
        let over: Vec<String> = self
            .all
            .iter()
            .filter(|(_, d)| d.expires <= now && !matches!(d.state, State::Working))
            .map(|(id, _)| id.clone())
            .collect();
        over.iter()
            .filter_map(|id| self.all.remove(id))
            .map(|d| d.dir)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core_types::Digest32;

    fn document(owner: u8, name: &str) -> Document {
        Document {
            owner: Digest32([owner; 32]),
            name: name.to_owned(),
            size: 1,
            sha256: String::new(),
            signatures: 0,
            expires: UnixTime(10),
            dir: PathBuf::from("d"),
            state: State::Ready,
            problem: None,
            past: vec![format!("s{owner}")],
        }
    }

    #[test]
    fn a_document_belongs_to_one_browser() {
        let mut all = Documents::default();
        all.insert("a".to_owned(), document(1, "x.pdf"));
        let (mine, other) = (Digest32([1; 32]), Digest32([2; 32]));
        assert!(all.get(&mine, "a").is_ok());
        assert_eq!(all.get(&other, "a").err(), Some(Problem::NOT_FOUND));
        assert_eq!(all.by_state(&mine, "s1").as_deref(), Some("a"));
        assert_eq!(all.by_state(&other, "s1"), None);
    }

    #[test]
    fn what_ran_out_goes_but_not_while_it_is_worked_on() {
        let mut all = Documents::default();
        all.insert("a".to_owned(), document(1, "x"));
        all.insert(
            "b".to_owned(),
            Document {
                state: State::Working,
                ..document(1, "y")
            },
        );
        assert!(all.sweep(UnixTime(9)).is_empty());
        assert_eq!(all.sweep(UnixTime(10)).len(), 1);
        assert!(all.get(&Digest32([1; 32]), "b").is_ok());
    }

    #[test]
    fn the_prepared_and_the_signed_file_have_names_of_their_own() {
        assert_eq!(
            document(1, "契約書.PDF").prepared_name(),
            "契約書-to-sign.pdf"
        );
        assert_eq!(document(1, "契約書.pdf").signed_name(), "契約書-signed.pdf");
        assert_eq!(document(1, "契約書").signed_name(), "契約書-signed.pdf");
    }

    #[test]
    fn room_is_limited_by_number_and_by_bytes() {
        let mut all = Documents::default();
        all.insert(
            "a".to_owned(),
            Document {
                size: 10,
                ..document(1, "x")
            },
        );
        let mut reserve = |id: &str, owner: u8, size, room| {
            all.reserve(id.to_owned(), &Digest32([owner; 32]), size, room)
        };
        assert_eq!(reserve("b", 1, 6, 31), Err(Problem::TOO_MANY));
        assert_eq!(reserve("b", 1, 5, 31), Ok(()));
        // What is still arriving counts as well, until it is given up.
        assert_eq!(reserve("c", 2, 5, 31), Err(Problem::TOO_MANY));
        assert_eq!(reserve("c", 2, 5, 40), Ok(()));
        all.release("b");
        let owner = Digest32([1; 32]);
        assert_eq!(all.reserve("b".to_owned(), &owner, 5, 40), Ok(()));
        for n in 2..MAX_PER_SESSION {
            let id = n.to_string();
            assert_eq!(all.reserve(id, &owner, 1, u64::MAX), Ok(()));
        }
        let more = |all: &mut Documents, n| {
            all.reserve("more".to_owned(), &Digest32([n; 32]), 1, u64::MAX)
        };
        assert_eq!(more(&mut all, 1), Err(Problem::TOO_MANY));
        assert_eq!(more(&mut all, 2), Ok(()));
    }
}
