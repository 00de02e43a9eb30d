//! Notices of registration authorities and CAs about certificates.

use core_types::{Digest32, KeyId, TenantId, UnixTime, sha256};
use jose::Jwk;
use sap::TYP_NOTICE;
use sap::manage::{NoticeEffect, RevocationNotice};

use crate::Reason;

/// How far ahead of our clock a hold or release may be, in seconds.
const AHEAD: i64 = 300;

/// A notice whose signature was checked.
#[derive(Debug, Clone)]
pub struct Checked<'a> {
    /// What it says.
    pub notice: RevocationNotice,
    /// Digest of its text.
    pub digest: Digest32,
    /// Who signed it.
    pub authority: &'a Jwk,
}

/// Checks that a registered authority signed the notice, and that it is for this SAM and tenant.
///
/// # Errors
/// [`Reason::Registration`] when nobody registered signed it, [`Reason::Invalid`] when it is for somebody else,
/// [`Reason::NotNow`] when a hold or release comes from the future; a revocation only ends what is ended anyway then.
pub fn check<'a>(
    jws: &str,
    authorities: &'a [Jwk],
    sam: &str,
    tenant: &TenantId,
    now: UnixTime,
) -> Result<Checked<'a>, Reason> {
    let (payload, authority) = crate::enrol::verify_by(jws, TYP_NOTICE, authorities)?;
    let notice: RevocationNotice =
        serde_json::from_slice(&payload).map_err(|_| Reason::Invalid("notice"))?;
    if notice.sam != sam || notice.tenant != *tenant {
        return Err(Reason::Invalid("notice"));
    }
    if notice.effect != NoticeEffect::Revoked && notice.iat > now.plus(AHEAD) {
        return Err(Reason::NotNow);
    }
    Ok(Checked {
        digest: sha256(&[jws.as_bytes()]),
        notice,
        authority,
    })
}

/// Whether the notice is about this key and this certificate of it.
///
/// # Errors
/// [`Reason::Mismatch`].
pub fn check_key(
    notice: &RevocationNotice,
    key: &KeyId,
    certificate: Digest32,
) -> Result<(), Reason> {
    if notice.key == *key && notice.cert == certificate {
        Ok(())
    } else {
        Err(Reason::Mismatch)
    }
}
