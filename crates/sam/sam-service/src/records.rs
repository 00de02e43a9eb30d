//! What stands in the sealed rows that `sam-core` doesn't define.

use core_types::{
    B64, ClientId, Digest32, KeyAlg, KeyId, OriginCase, PersonId, SecretBytes, UnixTime, VoucherId,
    sha256,
};
use sam_api::ssa::KeyState;
use sam_core::enrol::{Factor, FactorBody, Voucher, VoucherPhase};
use sam_core::state::{JobState, Subject};
use sam_core::{ActState, KeyFacts};
use sap::Item;
use sap::enrol::EnrolmentRecord;
use serde::{Deserialize, Serialize};

use crate::rows::{Columns, noun};

/// A set of keys the SAM acts with for a day.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RingRecord {
    pub(crate) act: SecretBytes,
    /// Erased when the statement has expired.
    pub(crate) seal: Option<SecretBytes>,
    pub(crate) statement: String,
    pub(crate) nbf: UnixTime,
    pub(crate) exp: UnixTime,
}

/// A person.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PersonRecord {
    pub(crate) id: PersonId,
    pub(crate) last_act: Option<UnixTime>,
    pub(crate) factors_changed: Option<UnixTime>,
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
    pub(crate) state: KeyState,
    pub(crate) facts: KeyFacts,
    pub(crate) record: EnrolmentRecord,
    pub(crate) enrolment: String,
    pub(crate) csr: B64,
    pub(crate) certify: Option<String>,
    pub(crate) chain: Vec<B64>,
    pub(crate) subject_text: String,
    pub(crate) created: UnixTime,
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

    pub(crate) fn is_active(&self) -> bool {
        self.state == KeyState::Active && !self.chain.is_empty()
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
    pub(crate) key: KeyId,
    pub(crate) client: ClientId,
    pub(crate) client_name: String,
    pub(crate) items: Vec<Item>,
    pub(crate) return_uri: String,
    pub(crate) created: UnixTime,
    pub(crate) exp: UnixTime,
    pub(crate) act: Option<Digest32>,
}

/// Values that were made, kept for the identical call until the right ends.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResultRecord {
    pub(crate) values: Vec<B64>,
    pub(crate) until: UnixTime,
}

noun!(RingRecord, "keyring", |r| Columns {
    owner: String::new(),
    link: "ring".to_owned(),
    state: "",
    stamp: r.nbf.0,
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
        FactorBody::PinTotp(_) => f.id.to_string(),
    },
    state: "",
    stamp: f.created.0,
});
noun!(KeyRecord, "signing_key", |k| Columns {
    owner: k.owner.to_string(),
    link: k.voucher.to_string(),
    state: match k.state {
        KeyState::Pending => "pending",
        KeyState::Active => "active",
        KeyState::Suspended => "suspended",
    },
    stamp: k.created.0,
});
noun!(Voucher, "voucher", |v| Columns {
    owner: v.invite.person.to_string(),
    link: String::new(),
    state: match v.phase {
        VoucherPhase::Open => "open",
        VoucherPhase::Used => "used",
        VoucherPhase::Dead => "dead",
    },
    stamp: v.invite.exp.0,
});
noun!(RequestRecord, "request", |r| Columns {
    owner: r.person.to_string(),
    link: r.client.to_string(),
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
noun!(ResultRecord, "result", |r| Columns {
    owner: String::new(),
    link: String::new(),
    state: "",
    stamp: r.until.0,
});

/// The request's name in the store: its capability is kept as a digest only.
pub(crate) fn request_id(rid: Digest32) -> Digest32 {
    sha256(&[b"natsuin-request-v1\n", &rid.0])
}

/// The request an act of kind `sign` belongs to.
pub(crate) fn request_of(act: &ActState) -> Option<Digest32> {
    match &act.subject {
        Subject::Sign { request, .. } => Some(*request),
        Subject::Enrol { .. } => None,
    }
}
