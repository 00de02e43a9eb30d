//! What stands in the sealed rows that `sam-core` doesn't define.

use core_types::{
    B64, ClientId, Digest32, KeyAlg, KeyId, Level, OriginCase, PersonId, SecretBytes, UnixTime,
    VoucherId, sha256,
};
use jose::Jwk;
use sam_api::ssa::{CounterSignatures, Happened, HistoryEntry, KeyState, Wish};
use sam_core::enrol::{Factor, FactorBody, Voucher, VoucherPhase};
use sam_core::life::Life;
use sam_core::office::{Account, AccountPhase, GenesisRecord, Officer, Proposal, Session};
use sam_core::state::JobState;
use sam_core::told::Notice;
use sam_core::{ActState, KeyFacts};
use sap::Item;
use sap::act::{ActKey, Since};
use sap::enrol::{CodeAddress, EnrolmentRecord, NoticeAddress};
use serde::{Deserialize, Serialize};

use crate::rows::{Columns, noun};

/// How many things a person's history holds.
const HISTORY: usize = 100;

/// A set of keys the SAM acts with for a day.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RingRecord {
    pub(crate) act: SecretBytes,
    pub(crate) seal: SecretBytes,
    pub(crate) statement: String,
    pub(crate) exp: UnixTime,
}

/// A person.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PersonRecord {
    pub(crate) id: PersonId,
    pub(crate) last_act: Option<UnixTime>,
    pub(crate) factors_changed: Option<UnixTime>,
    pub(crate) keys_changed: Option<UnixTime>,
    /// What happened lately, oldest first.
    pub(crate) history: Vec<HistoryEntry>,
    /// Where they are told of it, by an RA's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) notices: Option<NoticeAddress>,
}

impl PersonRecord {
    /// A person of whom nothing is known yet.
    pub(crate) fn new(id: PersonId) -> Self {
        Self {
            id,
            last_act: None,
            factors_changed: None,
            keys_changed: None,
            history: Vec::new(),
            notices: None,
        }
    }

    /// Notes what happened, for the person to see.
    pub(crate) fn note(&mut self, entry: HistoryEntry) {
        match entry.what {
            Happened::FactorLocked | Happened::CertificateEnding => {}
            Happened::FactorsOrdered => self.factors_changed = Some(entry.at),
            Happened::Suspended
            | Happened::Resumed
            | Happened::Destroyed
            | Happened::ImportApproved
            | Happened::Imported
            | Happened::HandedOver => {
                self.keys_changed = Some(entry.at);
            }
            Happened::Left => {
                self.keys_changed = Some(entry.at);
                self.factors_changed = Some(entry.at);
            }
            Happened::Enrolled
            | Happened::FactorAdded
            | Happened::FactorRemoved
            | Happened::PinChanged
            | Happened::FactorUnlocked => self.factors_changed = Some(entry.at),
        }
        self.history.push(entry);
        if self.history.len() > HISTORY {
            self.history.remove(0);
        }
    }

    pub(crate) fn since(&self) -> Since {
        Since {
            act: self.last_act,
            factors: self.factors_changed,
            keys: self.keys_changed,
        }
    }
}

/// A signing key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyRecord {
    pub(crate) key: KeyId,
    pub(crate) version: u32,
    pub(crate) owner: PersonId,
    pub(crate) voucher: VoucherId,
    pub(crate) service: String,
    pub(crate) alg: KeyAlg,
    pub(crate) spki: B64,
    pub(crate) origin: String,
    pub(crate) case: OriginCase,
    pub(crate) statement: String,
    pub(crate) life: Life,
    pub(crate) facts: KeyFacts,
    pub(crate) record: EnrolmentRecord,
    pub(crate) enrolment: String,
    pub(crate) csr: B64,
    pub(crate) certify: Option<String>,
    pub(crate) chain: Vec<B64>,
    pub(crate) subject_text: String,
    pub(crate) created: UnixTime,
    /// Its factor is one that applications collect.
    #[serde(default)]
    pub(crate) collected: bool,
    /// Where codes for it may be sent.
    #[serde(default)]
    pub(crate) codes: Option<CodeAddress>,
    /// Its owner may have it handed over.
    #[serde(default)]
    pub(crate) exportable: bool,
    /// To whom it leaves or left.
    #[serde(default)]
    pub(crate) receiver: Option<Jwk>,
    /// It is for one act.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) one_time: bool,
    /// Of a key for one act: that act, from the moment on in which its right was spent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) spent: Option<Spent>,
}

/// The one act of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Spent {
    /// Its digest.
    pub(crate) act: Digest32,
    /// No order of it is executed at or after this time.
    pub(crate) until: UnixTime,
}

impl KeyRecord {
    pub(crate) fn spki_digest(&self) -> Digest32 {
        sha256(&[&self.spki.0])
    }

    /// Digest of the certificate; all zeros before there is one.
    pub(crate) fn certificate(&self) -> Digest32 {
        self.chain
            .first()
            .map_or(Digest32([0; 32]), |c| sha256(&[&c.0]))
    }

    pub(crate) fn is_active(&self, now: UnixTime) -> bool {
        self.life.is_active(now) && !self.chain.is_empty() && self.spent.is_none()
    }

    /// The one act of this key begins: no other can any more.
    pub(crate) fn spent_by(&self, act: Digest32, until: UnixTime) -> Self {
        Self {
            spent: Some(Spent { act, until }),
            ..self.clone()
        }
    }

    pub(crate) fn level(&self) -> Level {
        self.facts.level().0
    }

    /// As acts name it.
    pub(crate) fn act_key(&self) -> ActKey {
        ActKey {
            id: self.key.clone(),
            version: self.version,
            spki: self.spki_digest(),
            cert: self.certificate(),
            subject: self.subject_text.clone(),
        }
    }

    pub(crate) fn with_life(&self, life: Life) -> Self {
        Self {
            life,
            ..self.clone()
        }
    }
}

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RequestPhase {
    Open,
    Approved,
    Refused,
    Withdrawn,
}

/// A request of the SSA. It has no power.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RequestRecord {
    pub(crate) phase: RequestPhase,
    pub(crate) service: String,
    pub(crate) person: PersonId,
    pub(crate) body: RequestBody,
    pub(crate) return_uri: String,
    pub(crate) created: UnixTime,
    pub(crate) exp: UnixTime,
    pub(crate) act: Option<Digest32>,
}

impl RequestRecord {
    /// The wish, if it is one to bring a key.
    pub(crate) fn imports(&self) -> Option<&Wish> {
        match &self.body {
            RequestBody::Change(ChangeBody { wish }) => {
                Some(wish).filter(|w| matches!(w, Wish::Import { .. }))
            }
            RequestBody::Sign(_) => None,
        }
    }
}

/// What is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub(crate) enum RequestBody {
    /// To sign.
    Sign(SignBody),
    /// To change something about a registration.
    Change(ChangeBody),
}

/// A request to sign.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignBody {
    pub(crate) key: KeyId,
    pub(crate) client: ClientId,
    pub(crate) client_name: String,
    /// The application's signed request, as it was verified.
    pub(crate) client_jws: Option<String>,
    pub(crate) items: Vec<Item>,
    /// For a key that signs messages: what it signs for each item (DER of signedAttrs). Nothing for others.
    #[serde(default)]
    pub(crate) messages: Vec<B64>,
    pub(crate) renew: i64,
    /// Instead of items: so many signatures over what nobody is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) open: Option<u32>,
}

/// A request to change something.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeBody {
    pub(crate) wish: Wish,
}

/// Values that were made, kept for the identical call until the right ends.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResultRecord {
    pub(crate) values: Vec<B64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) counter: Option<CounterSignatures>,
    pub(crate) until: UnixTime,
}

noun!(RingRecord, "keyring", |r| Columns {
    owner: String::new(),
    link: String::new(),
    state: "",
    // When it is deleted: what was sealed for it stays sealed.
    stamp: r.exp.0,
});
noun!(PersonRecord, "person", |p| Columns {
    owner: p.id.to_string(),
    link: String::new(),
    state: "",
    stamp: 0,
});
noun!(Factor, "factor", |f| Columns {
    owner: f.person.to_string(),
    link: match &f.body {
        FactorBody::Passkey(p) => sha256(&[b"credential", &p.id.0]).to_string(),
        FactorBody::Device(d) => sha256(&[b"device", &d.key.thumbprint().0]).to_string(),
        FactorBody::PinTotp(_) | FactorBody::Idp(_) => f.id.to_string(),
    },
    state: "",
    stamp: f.created.0,
});
noun!(KeyRecord, "signing_key", |k| Columns {
    owner: k.owner.to_string(),
    link: k.voucher.to_string(),
    state: match k.life.state {
        KeyState::Pending => "pending",
        KeyState::Active | KeyState::Suspended if k.spent.is_some() => "spent",
        KeyState::Active => "active",
        KeyState::Suspended if k.life.is_leaving() => "leaving",
        KeyState::Suspended => "suspended",
        KeyState::Destroyed if k.life.awaits_module() => "doomed",
        KeyState::Destroyed => "destroyed",
    },
    // A living key: when its certificate ends, so that those that are over are found; of one whose only act began, when that
    // can't bring anything any more.
    stamp: match &k.spent {
        Some(spent) => spent.until.0,
        None => k.life.until.unwrap_or(k.created).0,
    },
});
noun!(Voucher, "voucher", |v| Columns {
    owner: v.invite.person.to_string(),
    link: String::new(),
    state: match v.phase {
        VoucherPhase::Open => "open",
        VoucherPhase::Used => "used",
        VoucherPhase::Dead => "dead",
        VoucherPhase::Ended => "ended",
    },
    stamp: v.invite.exp.0,
});
noun!(RequestRecord, "request", |r| Columns {
    owner: r.person.to_string(),
    link: match &r.body {
        RequestBody::Sign(sign) => sign.client.to_string(),
        // No client has this name: it isn't in the alphabet of identifiers.
        RequestBody::Change(_) => "/portal".to_owned(),
    },
    state: match r.phase {
        RequestPhase::Open => "open",
        RequestPhase::Approved => "approved",
        RequestPhase::Refused => "refused",
        RequestPhase::Withdrawn => "withdrawn",
    },
    stamp: r.created.0,
});
noun!(ActState, "act", |a| Columns {
    owner: a.person.to_string(),
    link: a.grant.map_or_else(String::new, |g| g.to_string()),
    state: match &a.job {
        Some(job) if job.state == JobState::Taken => "taken",
        _ => a.phase.name(),
    },
    stamp: a.exp.0,
});
noun!(GenesisRecord, "office_genesis", |g| Columns {
    owner: String::new(),
    link: String::new(),
    state: "",
    stamp: g.at.0,
});
noun!(Officer, "office_person", |o| Columns {
    owner: String::new(),
    link: o.identity.to_string(),
    // Constrained by the store: see the table.
    state: o.word(),
    stamp: o.since.0,
});
noun!(Account, "office_account", |a| Columns {
    owner: a.officer.to_string(),
    link: a
        .registration
        .as_ref()
        .map_or_else(String::new, ToString::to_string),
    state: match a.phase {
        AccountPhase::Invited => "invited",
        AccountPhase::Active => "active",
        AccountPhase::Ended => "ended",
    },
    stamp: a.since.0,
});
noun!(Proposal, "office_proposal", |o| Columns {
    owner: o.requester().officer.to_string(),
    link: o.measure().code().to_owned(),
    state: o.phase.name(),
    stamp: o.document.at.0,
});
noun!(Session, "office_session", |s| Columns {
    owner: s.account.to_string(),
    link: String::new(),
    state: "",
    stamp: s.until.0,
});
noun!(Notice, "notice", |n| Columns {
    owner: n.person.to_string(),
    link: String::new(),
    state: "",
    // When it is due.
    stamp: n.next.0,
});
noun!(ResultRecord, "result", |r| Columns {
    owner: String::new(),
    link: String::new(),
    state: "",
    stamp: r.until.0,
});
