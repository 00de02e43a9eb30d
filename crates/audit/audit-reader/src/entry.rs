//! An entry as its text says it.

use core_types::UnixTime;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Members that name the person an event is about.
pub(crate) const PERSONS: [&str; 3] = ["person", "owner", "account"];

/// An entry of a zone's log, read from its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Place in the zone's log, from 0.
    pub seq: u64,
    /// Zone.
    pub zone: String,
    /// Node.
    pub node: String,
    /// Number in the node's chain, from 1.
    pub n: u64,
    /// Time of the event.
    pub at: UnixTime,
    /// Type, such as `key.used`.
    pub kind: String,
    /// `transaction` or `access`.
    pub class: String,
    /// `success`, `failure` or `intent`.
    pub outcome: String,
    /// Who is responsible, such as `client:demo`.
    pub subject: String,
    /// The event's own members.
    pub detail: Map<String, Value>,
    /// Whom it is about, if that is known beside the log; the text has a commitment.
    pub person: Option<String>,
    /// The address it came from, if that is known beside the log; the text has a commitment.
    pub from: Option<String>,
    /// The text.
    pub text: String,
}

#[derive(Deserialize)]
struct Body {
    zone: String,
    node: String,
    n: u64,
    at: i64,
    subject: String,
    outcome: String,
    class: String,
    kind: String,
    #[serde(default)]
    detail: Map<String, Value>,
}

impl Entry {
    /// Reads an entry's text; nothing if it isn't one.
    pub fn parse(seq: u64, text: &str, person: Option<String>) -> Option<Self> {
        let body: Body = serde_json::from_str(text).ok()?;
        Some(Self {
            seq,
            zone: body.zone,
            node: body.node,
            n: body.n,
            at: UnixTime(body.at),
            kind: body.kind,
            class: body.class,
            outcome: body.outcome,
            subject: body.subject,
            detail: body.detail,
            person,
            from: None,
            text: text.to_owned(),
        })
    }

    /// The same with the address that is known beside the log.
    #[must_use]
    pub fn come_from(self, from: Option<String>) -> Self {
        Self { from, ..self }
    }

    /// Name under which the entry has the person it is about.
    pub fn alias(&self) -> Option<&str> {
        PERSONS
            .iter()
            .find_map(|name| self.detail.get(*name)?.as_str())
    }

    /// The key it is about.
    pub fn key(&self) -> Option<&str> {
        self.detail.get("key")?.as_str()
    }
}
