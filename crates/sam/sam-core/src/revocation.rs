//! What a CA published about the certificate of a key, and what that means for the key (`I-A4.2-revocation-prompt-destruction`).

use core_types::UnixTime;
use pki::revocation::{Evidence, State, state};
use pki::{Certificate, Purpose, path};
use sam_api::ssa::Published;
use sap::manage::NoticeEffect;

use crate::Reason;

/// CRLReason of a certificate that is on hold (RFC 5280 §5.3.1).
const HOLD: u32 = 6;
/// CRLReason of an entry that only says that a hold is over.
const REMOVED: u32 = 8;

/// What a CA says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// What it means for the key.
    pub effect: NoticeEffect,
    /// As of when. That a certificate is good says nothing about a hold which is heeded later than this.
    pub as_of: UnixTime,
}

/// The certificate (DER) by whose key the first one of `chain` was issued, as far as its name says: of the chain or of the pinned
/// `issuers`.
pub fn issuer<'a>(chain: &'a [Vec<u8>], issuers: &'a [Vec<u8>]) -> Option<&'a [u8]> {
    let (leaf, rest) = chain.split_first()?;
    let leaf = Certificate::parse(leaf).ok()?;
    let named = |der: &&Vec<u8>| {
        let parsed = Certificate::parse(der);
        parsed.is_ok_and(|parsed| parsed.subject() == leaf.issuer())
    };
    let found = rest.iter().chain(issuers).find(named);
    found.map(Vec::as_slice)
}

/// Judges what was published about the first certificate of `chain`, which leads to one of the pinned `issuers`. Good is
/// [`NoticeEffect::Released`]: it lifts a hold, and does nothing else.
///
/// # Errors
/// [`Reason::Registration`] when it says nothing about this certificate: it isn't by its CA or a responder of its, is too old, or
/// damaged.
pub fn judge(
    chain: &[Vec<u8>],
    issuers: &[Vec<u8>],
    published: &Published,
    now: UnixTime,
) -> Result<Said, Reason> {
    let bad = Reason::Registration("the CA's data says nothing about this certificate");
    let (leaf, rest) = chain.split_first().ok_or(bad.clone())?;
    let valid = path::validate(leaf, rest, issuers, now, Purpose::Signing);
    let valid = valid.map_err(|_| bad.clone())?;
    let (certificate, issuer): (&Certificate, &Certificate) =
        valid.links().next().ok_or(bad.clone())?;
    let evidence = match published {
        Published::Crl(der) => Evidence {
            crls: vec![der.0.clone()],
            ocsp_responses: Vec::new(),
        },
        Published::Ocsp(der) => Evidence {
            crls: Vec::new(),
            ocsp_responses: vec![der.0.clone()],
        },
    };
    match state(certificate, issuer, &evidence, now) {
        State::Good { this_update, .. } => Ok(Said {
            effect: NoticeEffect::Released,
            as_of: this_update,
        }),
        State::Revoked { reason: HOLD, .. } => Ok(Said {
            effect: NoticeEffect::Hold,
            as_of: now,
        }),
        State::Revoked {
            reason: REMOVED, ..
        }
        | State::Unknown(_) => Err(bad),
        State::Revoked { .. } => Ok(Said {
            effect: NoticeEffect::Revoked,
            as_of: now,
        }),
    }
}
