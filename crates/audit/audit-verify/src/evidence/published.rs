//! Stops that nobody approved: an authority's notice, and what a CA published about the certificate of a key. Each is judged by
//! its own signature, and stands in the log with what it meant for the key.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use serde::Deserialize;

use super::certificate::{Certificate, NO_CA, UNREAD};
use super::der::{
    BIT_STRING, ENUMERATED, INTEGER, SEQUENCE, content, elements, extension, has_critical, sequence,
};
use super::documents::{Notice, Revocation};
use super::shown::SCHEMA;
use super::{Case, EvidenceFault, Shown, from_b64u, jws, sha256};

/// The extension *reason code* of an entry (RFC 5280 §5.3.1).
const REASON: [u8; 3] = [0x55, 0x1d, 0x15];
const HOLD: u8 = 6;
const REMOVED: u8 = 8;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// Explicit tags and states of RFC 6960 §4.2.1.
const FIRST: u8 = 0xa0;
const GOOD: u8 = 0x80;
const REVOKED: u8 = 0xa1;
/// What is found of a publication.
const UNSIGNED: EvidenceFault = EvidenceFault::Broken("the CA didn't sign what was published");
const OTHERWISE: EvidenceFault = EvidenceFault::Broken("what was published says something else");
const IN_PART: EvidenceFault =
    EvidenceFault::Broken("what was published isn't the CA's whole list of its own");
const SHA1: [u8; 5] = [0x2b, 0x0e, 3, 2, 0x1a];
const SHA2: [u8; 9] = [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];

/// Payload of a notice.
#[derive(Deserialize)]
struct Said {
    sam: String,
    key: String,
    cert: String,
    effect: String,
}

/// Checks a notice by the key that signed it. Whose key that is, is the SAM's word.
pub(super) fn notice(case: &Case<'_>, name: &str, notice: &Notice) -> Result<Shown, EvidenceFault> {
    let authority = notice.authority.thumbprint();
    let payload = jws::verify(&notice.notice, "natsuin-notice+jws", &notice.authority).ok_or(
        EvidenceFault::Broken("the notice isn't by the authority's key"),
    )?;
    let said: Said = serde_json::from_slice(&payload)
        .map_err(|_| EvidenceFault::Form("the notice's members"))?;
    let in_log = case.approvals.logged.iter().any(|e| {
        e.kind == "notice.heeded"
            && e.detail("notice") == Some(case.bundle.act.as_str())
            && e.detail("evidence") == Some(name)
            && e.detail("authority") == Some(authority.as_str())
            && e.detail("key") == Some(said.key.as_str())
            && e.detail("effect") == Some(said.effect.as_str())
    });
    if !in_log {
        return Err(EvidenceFault::Broken("the log doesn't contain the notice"));
    }
    Ok(Shown {
        kind: "notice".to_owned(),
        sam: said.sam,
        software: notice.software.clone(),
        person: [authority, String::new()],
        what: vec![
            format!("effect {}", said.effect),
            format!("key {}", said.key),
            format!("certificate {}", said.cert),
        ],
        approved_at: notice.at,
        method: "notice".to_owned(),
        remarks: vec!["whose-key-is-the-sams-word"],
        ..nobody(case)
    })
}

/// Checks a CRL or OCSP response by the CA that issued the certificate.
pub(super) fn revocation(case: &Case<'_>, said: &Revocation) -> Result<Shown, EvidenceFault> {
    let form = || EvidenceFault::Form("what a CA published");
    let broken = EvidenceFault::Broken;
    let leaf_der = from_b64u(&said.certificate).ok_or_else(form)?;
    let issuer_der = from_b64u(&said.issuer).ok_or_else(form)?;
    let leaf = Certificate::read(&leaf_der).ok_or_else(form)?;
    let issuer = Certificate::read(&issuer_der).ok_or_else(form)?;
    if !leaf.signed_by(&issuer).ok_or(UNREAD)? {
        return Err(broken("the certificate isn't by that CA"));
    }
    if case.anchors.issuer != Some(issuer_der.as_slice()) && !issuer.is_authority() {
        return Err(broken(NO_CA));
    }
    let mut remarks = vec!["whose-certificate-is-the-sams-word"];
    match case.anchors.issuer {
        None => remarks.push("issuer-not-checked"),
        Some(known) => {
            let anchor = Certificate::read(known)
                .ok_or(EvidenceFault::Anchor("the issuer's certificate"))?;
            if known != issuer_der && !issuer.signed_by(&anchor).ok_or(UNREAD)? {
                return Err(broken("the certificate isn't by the issuer you know"));
            }
        }
    }
    let authority = sha256(&issuer_der);
    let mut entries = case.approvals.logged.iter().filter(|e| {
        e.kind == "revocation.heeded"
            && e.detail("evidence") == Some(case.bundle.act.as_str())
            && e.detail("authority") == Some(authority.as_str())
    });
    let heeded = entries
        .next()
        .and_then(|e| e.detail("key").zip(e.detail("effect")));
    let (key, effect) = heeded.ok_or(broken("the log doesn't contain what the CA published"))?;
    let method = match &said.published {
        // Too long to be kept: its digest is there, and whoever has it can compare.
        None => {
            remarks.push("the-sams-word-only");
            "digest"
        }
        Some(text) => {
            let der = from_b64u(text).ok_or_else(form)?;
            if sha256(&der) != said.digest {
                return Err(broken("what was published isn't what the digest names"));
            }
            let (method, found) = match crl(&der, &issuer, &leaf) {
                Some(found) => ("crl", found),
                None => ("ocsp", ocsp(&der, &issuer, &leaf).ok_or_else(form)?),
            };
            if found? != effect {
                return Err(OTHERWISE);
            }
            method
        }
    };
    Ok(Shown {
        kind: "revocation".to_owned(),
        software: said.software.clone(),
        person: [authority, String::new()],
        what: vec![
            format!("effect {effect}"),
            format!("key {key}"),
            format!("certificate {}", sha256(&leaf_der)),
            format!("published {}", said.digest),
        ],
        approved_at: said.at,
        method: method.to_owned(),
        by_word: method == "digest",
        remarks,
        ..nobody(case)
    })
}

/// Where nobody approved an act.
pub(super) fn nobody(case: &Case<'_>) -> Shown {
    let log = case.anchors.log.split('+').next().unwrap_or_default();
    Shown {
        schema: SCHEMA,
        kind: String::new(),
        act: case.bundle.act.clone(),
        sam: log.to_owned(),
        epoch: None,
        software: String::new(),
        person: [String::new(), String::new()],
        key: None,
        what: Vec::new(),
        client: None,
        client_signed: false,
        officer: None,
        document: None,
        needs: None,
        approved_at: 0,
        policy: None,
        policy_digest: None,
        method: String::new(),
        by_word: false,
        chain: Vec::new(),
        invited: None,
        signatures: Vec::new(),
        log: Vec::new(),
        checkpoint: 0,
        remarks: Vec::new(),
    }
}

/// What it means for the key that a certificate was revoked for this reason.
fn effect_of(reason: Option<u8>) -> Option<&'static str> {
    match reason {
        Some(HOLD) => Some("hold"),
        Some(REMOVED) => None,
        _ => Some("revoked"),
    }
}

/// What a CRL (RFC 5280 §5.1) says about a certificate; `None`: this is none; an error: it isn't by the issuer, or is a delta, an
/// indirect or a partitioned one. Those have critical extensions, and an entry that they don't have means nothing. An entry's
/// reason, which is read, may be critical.
fn crl(
    der: &[u8],
    issuer: &Certificate<'_>,
    leaf: &Certificate<'_>,
) -> Option<Result<&'static str, EvidenceFault>> {
    let whole = sequence(der)?;
    let [
        (SEQUENCE, tbs),
        (SEQUENCE, algorithm),
        (BIT_STRING, signature),
    ] = whole[..]
    else {
        return None;
    };
    let fields = elements(content(tbs)?)?;
    let mut fields = fields.iter().skip_while(|(tag, _)| *tag == INTEGER);
    let (_, inner) = fields.next()?;
    let (_, name) = fields.next()?;
    let rest = fields.filter(|(tag, _)| ![UTC_TIME, GENERALIZED_TIME].contains(tag));
    let rest: Vec<(u8, &[u8])> = rest.copied().collect();
    let listed = rest.iter().find(|(tag, _)| *tag == SEQUENCE);
    let extensions = rest.iter().find(|(tag, _)| *tag == FIRST);
    let (_, oid) = *sequence(algorithm)?.first()?;
    let signature = content(signature)?.strip_prefix(&[0])?;
    if *inner != algorithm || *name != issuer.subject || leaf.issuer != issuer.subject {
        return Some(Err(UNSIGNED));
    }
    match issuer.signed(tbs, content(oid)?, signature) {
        None => return Some(Err(UNREAD)),
        Some(false) => return Some(Err(UNSIGNED)),
        Some(true) => {}
    }
    if let Some((_, all)) = extensions
        && has_critical(content(all)?, &[])?
    {
        return Some(Err(IN_PART));
    }
    let Some((_, listed)) = listed else {
        return Some(Ok("released"));
    };
    for (_, entry) in elements(content(listed)?)? {
        let parts = sequence(entry)?;
        let extensions = parts.get(2).map(|(_, extensions)| *extensions);
        if let Some(extensions) = extensions
            && has_critical(extensions, &REASON)?
        {
            return Some(Err(IN_PART));
        }
        if parts.first()?.1 != leaf.serial {
            continue;
        }
        let reason = extensions.and_then(|all| extension(all, &REASON));
        return Some(effect_of(reason.and_then(code)).ok_or(OTHERWISE));
    }
    Some(Ok("released"))
}

/// What an OCSP response (RFC 6960 §4.2.1) says about a certificate; `None`: this is none that does; an error: it isn't by the
/// issuer or a responder of its.
fn ocsp(
    der: &[u8],
    issuer: &Certificate<'_>,
    leaf: &Certificate<'_>,
) -> Option<Result<&'static str, EvidenceFault>> {
    let whole = sequence(der)?;
    let [(ENUMERATED, status), (FIRST, bytes)] = whole[..] else {
        return None;
    };
    if code(status) != Some(0) {
        return None;
    }
    let response = sequence(content(bytes)?)?;
    let basic = sequence(content(response.get(1)?.1)?)?;
    let [
        (SEQUENCE, tbs),
        (SEQUENCE, algorithm),
        (BIT_STRING, signature),
        ref more @ ..,
    ] = basic[..]
    else {
        return None;
    };
    let (_, oid) = *sequence(algorithm)?.first()?;
    let (oid, signature) = (content(oid)?, content(signature)?.strip_prefix(&[0])?);
    let brought = match more.first() {
        Some((FIRST, certificates)) => sequence(content(certificates)?)?,
        _ => Vec::new(),
    };
    let mut by = vec![issuer.signed(tbs, oid, signature)];
    for (_, der) in &brought {
        let responder = Certificate::read(der).filter(Certificate::is_responder);
        by.extend(
            responder.map(|responder| match responder.signed_by(issuer) {
                Some(true) => responder.signed(tbs, oid, signature),
                other => other,
            }),
        );
    }
    if !by.contains(&Some(true)) {
        let unread = by.contains(&None);
        return Some(Err(if unread { UNREAD } else { UNSIGNED }));
    }
    let fields = elements(content(tbs)?)?;
    let (_, answers) = *fields.iter().find(|(tag, _)| *tag == SEQUENCE)?;
    for (_, answer) in elements(content(answers)?)? {
        let parts = sequence(answer)?;
        let [(SEQUENCE, id), (state, said), ..] = parts[..] else {
            return None;
        };
        if !is_about(id, issuer, leaf)? {
            continue;
        }
        return match state {
            GOOD => Some(Ok("released")),
            REVOKED => {
                let reason = elements(content(said)?)?;
                let reason = reason.iter().find(|(tag, _)| *tag == FIRST);
                let effect = effect_of(reason.and_then(|(_, r)| code(content(r)?)));
                Some(effect.ok_or(OTHERWISE))
            }
            _ => None,
        };
    }
    None
}

/// Whether a CertID is of this certificate of this issuer.
fn is_about(id: &[u8], issuer: &Certificate<'_>, leaf: &Certificate<'_>) -> Option<bool> {
    let parts = sequence(id)?;
    let [(_, algorithm), (_, name), (_, key), (_, serial)] = parts[..] else {
        return None;
    };
    let (_, oid) = *sequence(algorithm)?.first()?;
    let hash = match content(oid)? {
        oid if *oid == SHA1 => &SHA1_FOR_LEGACY_USE_ONLY,
        oid if *oid == SHA2 => &SHA256,
        _ => return None,
    };
    let own = digest(hash, issuer.subject);
    let own_key = digest(hash, issuer.key()?);
    Some(
        serial == leaf.serial
            && content(name)? == own.as_ref()
            && content(key)? == own_key.as_ref(),
    )
}

/// The value of an ENUMERATED of one byte.
fn code(der: &[u8]) -> Option<u8> {
    match *der {
        [ENUMERATED, 1, value] => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
