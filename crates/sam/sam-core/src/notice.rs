//! Notices of registration authorities and CAs about certificates.

use core_types::bytes::from_b64u;
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

/// Which tenant a notice names: whose authorities are asked whether they signed it. Not to be believed before.
pub fn tenant_of(jws: &str) -> Option<TenantId> {
    let payload = from_b64u(jws.split('.').nth(1)?).ok()?;
    let notice: RevocationNotice = serde_json::from_slice(&payload).ok()?;
    Some(notice.tenant)
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

#[cfg(test)]
mod tests {
    use jose::SigningKey;

    use super::*;

    const NOW: UnixTime = UnixTime(1_800_000_000);

    // shows: T-TERM-REPLAY
    #[test]
    fn a_notice_is_an_authoritys_for_us_and_of_now() {
        let (key, _) = SigningKey::generate().unwrap();
        let (stranger, _) = SigningKey::generate().unwrap();
        let tenant = |id| TenantId::parse(id).unwrap();
        let said = |by: &SigningKey, change: &dyn Fn(&mut RevocationNotice)| {
            let mut notice = RevocationNotice {
                sam: "sam".into(),
                tenant: tenant("t"),
                key: KeyId::parse("k").unwrap(),
                cert: Digest32([1; 32]),
                effect: NoticeEffect::Hold,
                iat: NOW,
            };
            change(&mut notice);
            let payload = serde_json::to_vec(&notice).unwrap();
            by.sign(TYP_NOTICE, &payload).unwrap()
        };
        let checked = |by: &SigningKey, change: &dyn Fn(&mut RevocationNotice)| {
            let known = [key.public().clone()];
            check(&said(by, change), &known, "sam", &tenant("t"), NOW).map(|c| c.notice)
        };
        assert!(checked(&key, &|_| ()).is_ok());
        assert!(checked(&stranger, &|_| ()).is_err());
        let other = Reason::Invalid("notice");
        let sam = checked(&key, &|n| n.sam = "another".into());
        assert_eq!(sam.unwrap_err(), other);
        let of = checked(&key, &|n| n.tenant = tenant("u"));
        assert_eq!(of.unwrap_err(), other);
        for effect in [NoticeEffect::Hold, NoticeEffect::Released] {
            let at = |ahead: i64| checked(&key, &|n| (n.effect, n.iat) = (effect, NOW.plus(ahead)));
            assert!(at(AHEAD).is_ok());
            assert_eq!(at(AHEAD + 1).unwrap_err(), Reason::NotNow);
        }
        let revoked = checked(&key, &|n| {
            (n.effect, n.iat) = (NoticeEffect::Revoked, NOW.plus(1_000_000));
        });
        let notice = revoked.unwrap();
        let (named, cert) = (notice.key.clone(), notice.cert);
        assert_eq!(check_key(&notice, &named, cert), Ok(()));
        let another = KeyId::parse("l").unwrap();
        assert_eq!(check_key(&notice, &another, cert), Err(Reason::Mismatch));
        let newer = check_key(&notice, &named, Digest32([2; 32]));
        assert_eq!(newer, Err(Reason::Mismatch));

        // Whose it says that it is, whoever signed it.
        let named = said(&stranger, &|n| n.tenant = tenant("u"));
        assert_eq!(tenant_of(&named), Some(tenant("u")));
        for text in ["", "a", "a.!.c", "a.e30.c"] {
            assert_eq!(tenant_of(text), None, "{text}");
        }
    }
}
