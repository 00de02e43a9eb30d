//! A document as its owner sees it, for pages and for the JSON API alike.

use core_types::Digest32;
use csc_types::Credential;
use serde::Serialize;
use signing_job::Outcome;
use web_ui::{Arg, Messages};

use crate::app::App;
use crate::documents::{Document, State, Trip};
use crate::problem::Problem;

/// A snapshot.
pub(crate) struct View {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) signed_name: String,
    pub(crate) size: u64,
    pub(crate) sha256: String,
    pub(crate) signatures: usize,
    pub(crate) stage: Stage,
    pub(crate) problem: Option<Problem>,
}

pub(crate) enum Stage {
    Ready,
    /// `next` is where the browser goes, `None` when it was sent there already; `purpose` is `login` or `approve`.
    /// `prepared`: name of the prepared file, if the approval page can compare it.
    Authorize {
        next: Option<String>,
        purpose: &'static str,
        prepared: Option<String>,
    },
    Choose(Vec<Choice>),
    Working,
    Resume,
    Signed(Box<Outcome>),
}

impl Stage {
    /// Stable name in the JSON API.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Authorize { .. } => "authorize",
            Self::Choose(_) => "choose",
            Self::Working => "working",
            Self::Resume => "resume",
            Self::Signed(_) => "signed",
        }
    }
}

/// A key to choose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Choice {
    /// The credential.
    pub(crate) id: String,
    /// The service's words about it; may be empty.
    pub(crate) label: String,
    /// Subject of the certificate.
    pub(crate) subject: String,
    /// Issuer of the certificate.
    pub(crate) issuer: String,
    /// Length and kind, such as `RSA 3072`.
    pub(crate) key: String,
}

impl Choice {
    fn of(credential: &Credential) -> Self {
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        let kind = if credential.key.curve.is_some() {
            "ECDSA"
        } else {
            "RSA"
        };
        Self {
            id: text(&credential.credential_id),
            label: text(&credential.description),
            subject: text(&credential.cert.subject_dn),
            issuer: text(&credential.cert.issuer_dn),
            key: format!("{kind} {}", credential.key.len),
        }
    }
}

impl App {
    /// How a document stands.
    pub(crate) fn view(&self, owner: &Digest32, id: &str) -> Result<View, Problem> {
        let inner = self.lock();
        let document = inner.documents.get(owner, id)?;
        Ok(View {
            id: id.to_owned(),
            name: document.name.clone(),
            signed_name: document.signed_name(),
            size: document.size,
            sha256: document.sha256.clone(),
            signatures: document.signatures,
            stage: stage(document),
            problem: document.problem.clone(),
        })
    }
}

fn stage(document: &Document) -> Stage {
    match &document.state {
        State::Ready => Stage::Ready,
        State::Authorize(trip) => Stage::Authorize {
            next: (!trip.opened).then(|| trip.pending.url.to_string()),
            purpose: match trip.purpose {
                Trip::Login => "login",
                Trip::Approve(_) => "approve",
            },
            prepared: document.prepared().map(|_| document.prepared_name()),
        },
        State::Choose(all) => Stage::Choose(all.iter().map(Choice::of).collect()),
        State::Working => Stage::Working,
        State::Resume(_) => Stage::Resume,
        State::Signed(outcome) => Stage::Signed(outcome.clone()),
    }
}

/// A problem in both halves.
pub(crate) fn words(m: &Messages, problem: &Problem) -> (String, String) {
    let id = format!("error-{}", problem.code);
    let quote = problem.quote.as_deref().unwrap_or_default();
    let args = [("quote", Arg::Text(quote))];
    (m.f(&id, &args), m.f(&format!("{id}-do"), &args))
}

/// Length of a file for people: 「291 KB」.
pub(crate) fn size_text(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} KB", bytes / 1_000),
        1_000_000..1_000_000_000 => {
            format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
        }
        _ => format!(
            "{}.{} GB",
            bytes / 1_000_000_000,
            bytes % 1_000_000_000 / 100_000_000
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_say_them() {
        for (bytes, text) in [
            (999, "999 B"),
            (291_400, "291 KB"),
            (1_250_000, "1.2 MB"),
            (1_073_741_824, "1.0 GB"),
        ] {
            assert_eq!(size_text(bytes), text);
        }
    }
}
