//! The closed vocabulary: what may be recorded, and with which members.
//!
//! Members are identifiers, digests, counts, times and words fixed at compile time, so neither free text nor a
//! secret can get into the log (`I-A5-no-secrets-in-logs`).

use std::net::IpAddr;

use core_types::{
    ClientId, Digest32, FactorId, KeyAlg, KeyId, Level, OfficerId, PeerId, PersonId, SigAlg,
    UnixTime, VoucherId,
};
use serde::Serialize;

use crate::person::Opening;
pub use crate::place::Place;

/// A word that the program's text fixes, such as a reason or a method; never made from input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Code(&'static str);

impl From<&'static str> for Code {
    fn from(word: &'static str) -> Self {
        Self(word)
    }
}

impl Code {
    /// The word.
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

/// What became of it (`I-7.1.4.4-record-outcome`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Done.
    Success,
    /// Refused or failed; nothing happened except what the event says.
    Failure,
    /// About to be done; another entry tells the end. Its absence means that the right was lost.
    Intent,
}

impl Outcome {
    /// The outcome with this name: `success`, `failure` or `intent`.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "success" => Some(Self::Success),
            "failure" => Some(Self::Failure),
            "intent" => Some(Self::Intent),
            _ => None,
        }
    }
}

/// Which of the two classes of audit logs it belongs to (`I-A5-audit-two-classes`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// What users and administrators did, and what became of it.
    Transaction,
    /// Access to resources: logins, tokens, refusals, readings of the log.
    Access,
}

impl Class {
    /// The class with this name: `transaction` or `access`.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "transaction" => Some(Self::Transaction),
            "access" => Some(Self::Access),
            _ => None,
        }
    }
}

/// A member of an event, in which a person can be named by their alias.
trait Member: Clone {
    fn named(&self, _of: &Opening) -> Self {
        self.clone()
    }

    fn address(&self) -> Option<IpAddr> {
        None
    }

    fn key(&self) -> Option<&KeyId> {
        None
    }
}

macro_rules! members {
    ($($type:ty)*) => {
        $(impl Member for $type {})*
    };
}

members! { Code ClientId Digest32 FactorId KeyAlg Level OfficerId PeerId SigAlg UnixTime VoucherId bool u32 u64 }

impl Member for PersonId {
    fn named(&self, of: &Opening) -> Self {
        of.alias.clone()
    }
}

impl Member for Place {
    fn named(&self, of: &Opening) -> Self {
        Place::named(*self, of)
    }

    fn address(&self) -> Option<IpAddr> {
        Place::address(*self)
    }
}

impl Member for KeyId {
    fn key(&self) -> Option<&KeyId> {
        Some(self)
    }
}

impl<M: Member> Member for Option<M> {
    fn named(&self, of: &Opening) -> Self {
        self.as_ref().map(|member| member.named(of))
    }

    fn key(&self) -> Option<&KeyId> {
        self.as_ref().and_then(Member::key)
    }
}

/// Who is responsible (`I-7.1.4.4-record-subject`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'e> {
    /// A person, by an authenticated act or a failed try in their name.
    Person(&'e PersonId),
    /// A client of the CSC API.
    Client(&'e ClientId),
    /// A registration authority, by the digest of its key.
    Authority(&'e Digest32),
    /// A program, by the name in its certificate.
    Peer(&'e PeerId),
    /// The zone's own process.
    Service,
    /// Somebody who couldn't be identified.
    Unknown,
}

macro_rules! subject {
    (service) => {
        Subject::Service
    };
    (unknown) => {
        Subject::Unknown
    };
    (person $who:ident) => {
        Subject::Person($who)
    };
    (client $who:ident) => {
        Subject::Client($who)
    };
    (authority $who:ident) => {
        Subject::Authority($who)
    };
    (peer $who:ident) => {
        Subject::Peer($who)
    };
    (maybe_person $who:ident) => {
        $who.as_ref().map_or(Subject::Unknown, Subject::Person)
    };
    (maybe_client $who:ident) => {
        $who.as_ref().map_or(Subject::Unknown, Subject::Client)
    };
}

macro_rules! about {
    () => {
        None
    };
    (one $who:ident) => {
        Some($who)
    };
    (maybe $who:ident) => {
        $who.as_ref()
    };
}

macro_rules! events {
    (; $(
        $(#[$doc:meta])*
        $name:ident = $kind:literal, $outcome:ident, by($($by:tt)+), about($($about:tt)*)
        { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }
    )*) => {
        /// One event. Every variant fixes its type, its outcome and who is responsible.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
        #[serde(tag = "kind", content = "detail")]
        pub enum Event {
            $($(#[$doc])* #[serde(rename = $kind)] $name { $($(#[$field_doc])* $field: $type,)* },)*
        }

        impl Event {
            /// Every type of event there is.
            pub const KINDS: &'static [&'static str] = &[$($kind),*];

            /// The members of each type, in the order of [`Event::KINDS`].
            pub const MEMBERS: &'static [&'static [&'static str]] = &[$(&[$(stringify!($field)),*]),*];

            /// The type (`I-7.1.4.4-record-type`), such as `key.used`.
            pub fn kind(&self) -> &'static str {
                match self { $(Self::$name { .. } => $kind,)* }
            }

            /// The outcome.
            pub fn outcome(&self) -> Outcome {
                match self { $(Self::$name { .. } => Outcome::$outcome,)* }
            }

            /// Who is responsible.
            #[expect(unused_variables, reason = "each variant uses at most one of its members")]
            pub fn subject(&self) -> Subject<'_> {
                match self { $(Self::$name { $($field),* } => subject!($($by)+),)* }
            }

            /// The same event with the person under another name, and where they called from too.
            pub(crate) fn named(&self, of: &Opening) -> Self {
                match self {
                    $(Self::$name { $($field),* } => {
                        // A variant without members has nobody to name.
                        let _ = of;
                        Self::$name { $($field: $field.named(of)),* }
                    })*
                }
            }

            /// Where the call came from, if that is known.
            pub(crate) fn address(&self) -> Option<IpAddr> {
                let mut address = None;
                match self {
                    $(Self::$name { $($field),* } => {
                        $(address = address.or($field.address());)*
                    })*
                }
                address
            }

            /// The key it is about, for searching.
            pub fn key(&self) -> Option<&KeyId> {
                let mut key = None;
                match self {
                    $(Self::$name { $($field),* } => {
                        $(key = key.or($field.key());)*
                    })*
                }
                key
            }

            /// Its class.
            pub fn class(&self) -> Class {
                class_of(self.kind())
            }

            /// The outcome that entries of this type have.
            pub(crate) fn outcome_of(kind: &str) -> Option<Outcome> {
                match kind { $($kind => Some(Outcome::$outcome),)* _ => None }
            }

            /// The person whose data or key it is about, for searching by user.
            #[expect(unused_variables, reason = "each variant uses at most one of its members")]
            pub fn person(&self) -> Option<&PersonId> {
                match self { $(Self::$name { $($field),* } => about!($($about)*),)* }
            }
        }
    };
}

/// Accounts, clients, tokens and refusals of access are one class, everything else is the other.
pub(crate) fn class_of(kind: &str) -> Class {
    let access = [
        "login.",
        "authorization.",
        "token.",
        "client.refused",
        "access.",
        "account.",
        "audit.read",
        "officer.logged",
        "office.refused",
    ];
    match access.iter().any(|prefix| kind.starts_with(prefix)) {
        true => Class::Access,
        false => Class::Transaction,
    }
}

mod vocabulary;
pub use vocabulary::Event;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_unique_and_of_one_form() {
        let mut kinds = Event::KINDS.to_vec();
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(kinds.len(), Event::KINDS.len());
        let ok = |c: char| c.is_ascii_lowercase() || matches!(c, '.' | '-');
        assert!(kinds.iter().all(|k| k.chars().all(ok)));
    }

    // shows: I-7.1.4.4-record-type, I-7.1.4.4-record-subject, I-7.1.4.4-record-outcome
    #[test]
    fn an_event_tells_type_subject_and_outcome() {
        let person = PersonId::parse("p1").unwrap();
        let event = Event::LoginFailed {
            person: Some(person.clone()),
            method: "totp".into(),
            reason: "wrong".into(),
            from: Place::Unknown,
        };
        assert_eq!(event.kind(), "login.failed");
        assert_eq!(event.outcome(), Outcome::Failure);
        assert_eq!(event.subject(), Subject::Person(&person));
        let nobody = Event::LoginFailed {
            person: None,
            method: "totp".into(),
            reason: "unknown".into(),
            from: Place::Unknown,
        };
        assert_eq!(
            (nobody.subject(), nobody.person()),
            (Subject::Unknown, None)
        );
    }
}
