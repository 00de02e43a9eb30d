//! Certificate revocation lists (RFC 5280 §5): complete lists, signed by the issuer of the certificate.

use core_types::{SigAlg, UnixTime};

use crate::alg::{self, AlgError, Signed};
use crate::asn1::{
    self, BIT_STRING, DerError, ENUMERATED, GENERALIZED_TIME, INTEGER, SEQUENCE, Tlv, UTC_TIME,
    Walker, context_constructed,
};
use crate::cert::{CertSignatureError, Certificate, Extension, KeyUsage, parse_extensions};
use crate::oid;

/// One revoked certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedEntry {
    /// Contents octets of the serial number.
    pub serial: Vec<u8>,
    /// When it was revoked.
    pub at: UnixTime,
    /// CRLReason; 0 is unspecified, 1 keyCompromise, 6 certificateHold.
    pub reason: u32,
}

/// A parsed CRL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crl {
    tbs: Vec<u8>,
    sig_alg: Result<SigAlg, AlgError>,
    signature: Vec<u8>,
    issuer: Vec<u8>,
    /// When this list was made.
    pub this_update: UnixTime,
    /// When the next one comes at the latest.
    pub next_update: Option<UnixTime>,
    /// The revoked certificates.
    pub revoked: Vec<RevokedEntry>,
    extensions: Vec<Extension>,
    critical_entry_extension: Option<String>,
}

impl Crl {
    /// Parses a DER CertificateList.
    ///
    /// # Errors
    /// [`DerError`].
    pub fn parse(der: &[u8]) -> Result<Self, DerError> {
        let what = "CRL";
        let mut outer = Tlv::single(der, what)?.open(SEQUENCE, what)?;
        let tbs = outer.expect(SEQUENCE, what)?;
        let sig_alg = outer.expect(SEQUENCE, what)?;
        let signature = outer
            .expect(BIT_STRING, what)?
            .as_bits("CRL signature")?
            .to_vec();
        outer.finish(what)?;
        let mut body = Walker::new(tbs.value);
        if let Some(version) = body.optional(INTEGER, what)?
            && version.as_u32("CRL version")? != 1
        {
            return Err(DerError("CRL version"));
        }
        if body.expect(SEQUENCE, what)?.raw != sig_alg.raw {
            return Err(DerError("CRL: the two signature algorithms differ"));
        }
        let issuer = body.expect(SEQUENCE, "CRL issuer")?.raw.to_vec();
        let this_update = body.next(what)?.as_time("CRL thisUpdate")?;
        let next_update = match body.peek() {
            Some(UTC_TIME | GENERALIZED_TIME) => Some(body.next(what)?.as_time("CRL nextUpdate")?),
            _ => None,
        };
        let mut revoked = Vec::new();
        let mut critical_entry_extension = None;
        if let Some(list) = body.optional(SEQUENCE, what)? {
            for entry in Walker::new(list.value).all("CRL entry")? {
                let (entry, critical) = parse_entry(entry)?;
                revoked.push(entry);
                critical_entry_extension = critical_entry_extension.or(critical);
            }
        }
        let extensions = match body.optional(context_constructed(0), what)? {
            Some(wrapped) => parse_extensions(Tlv::single(wrapped.value, what)?)?,
            None => Vec::new(),
        };
        body.finish(what)?;
        Ok(Self {
            tbs: tbs.raw.to_vec(),
            sig_alg: alg::decode_sig_alg(sig_alg.raw, None),
            signature,
            issuer,
            this_update,
            next_update,
            revoked,
            extensions,
            critical_entry_extension,
        })
    }

    /// Verifies that this is the complete list of the CA `issuer`, signed by it.
    ///
    /// # Errors
    /// [`CrlError`]; delta, indirect and partitioned lists have critical extensions and are refused as such.
    pub fn verify(&self, issuer: &Certificate) -> Result<(), CrlError> {
        if self.issuer != issuer.subject() {
            return Err(CrlError::OtherIssuer);
        }
        if issuer
            .key_usage()?
            .is_some_and(|u| !u.intersects(KeyUsage::CRL_SIGN))
        {
            return Err(CrlError::KeyUsage);
        }
        let critical = self
            .extensions
            .iter()
            .find(|e| e.critical)
            .map(|e| e.oid.clone());
        if let Some(oid) = critical.or_else(|| self.critical_entry_extension.clone()) {
            return Err(CrlError::UnknownCritical(oid));
        }
        let alg = self
            .sig_alg
            .clone()
            .map_err(|e| CrlError::Signature(e.into()))?;
        alg::verify_signature(
            issuer.spki(),
            alg,
            Signed::Message(&self.tbs),
            &self.signature,
        )
        .map_err(|e| CrlError::Signature(e.into()))
    }

    /// The entry for a serial number (contents octets).
    pub fn entry(&self, serial: &[u8]) -> Option<&RevokedEntry> {
        self.revoked.iter().find(|e| e.serial == serial)
    }
}

fn parse_entry(entry: Tlv<'_>) -> Result<(RevokedEntry, Option<String>), DerError> {
    let what = "CRL entry";
    let mut fields = entry.open(SEQUENCE, what)?;
    let serial = fields.expect(INTEGER, what)?.value.to_vec();
    let at = fields.next(what)?.as_time("revocation date")?;
    let extensions = fields
        .optional(SEQUENCE, what)?
        .map_or(Ok(Vec::new()), parse_extensions)?;
    fields.finish(what)?;
    let reason = match extensions.iter().find(|e| e.oid == oid::CRL_REASON) {
        Some(e) => {
            let reason = Tlv::single(&e.value, "CRL reason")?;
            if reason.tag != ENUMERATED {
                return Err(DerError("CRL reason"));
            }
            reason.as_u32("CRL reason")?
        }
        None => 0,
    };
    let critical = extensions
        .iter()
        .find(|e| e.critical && e.oid != oid::CRL_REASON);
    Ok((
        RevokedEntry { serial, at, reason },
        critical.map(|e| e.oid.clone()),
    ))
}

/// A CRL was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CrlError {
    /// The issuer's certificate is broken.
    #[error(transparent)]
    Malformed(#[from] DerError),
    /// The list is another CA's.
    #[error("the CRL is that of another issuer")]
    OtherIssuer,
    /// The CA may not sign lists.
    #[error("the issuer's certificate does not allow signing CRLs")]
    KeyUsage,
    /// A critical extension that isn't processed here.
    #[error("the CRL has the critical extension {0}, which is not understood")]
    UnknownCritical(String),
    /// Not signed by the CA.
    #[error("the CRL is not signed by the issuer: {0}")]
    Signature(CertSignatureError),
}

/// DER TBSCertList (version 2) with CRL number and authority key identifier. Its hash is what the CA signs;
/// [`assemble`] joins both.
pub fn encode_tbs(
    issuer: &Certificate,
    sig_alg: SigAlg,
    this_update: UnixTime,
    next_update: UnixTime,
    number: u64,
    revoked: &[RevokedEntry],
) -> Vec<u8> {
    let entries: Vec<Vec<u8>> = revoked
        .iter()
        .map(|entry| {
            let reason = u8::try_from(entry.reason).unwrap_or(0);
            let reason = asn1::tlv(ENUMERATED, &[&[reason]]);
            let extension = encode_extension(oid::CRL_REASON, false, &reason);
            // Absent means unspecified (RFC 5280 §5.3.1).
            let extensions = if entry.reason == 0 {
                Vec::new()
            } else {
                asn1::sequence(&[&extension])
            };
            asn1::sequence(&[
                &asn1::tlv(INTEGER, &[&entry.serial]),
                &asn1::time(entry.at),
                &extensions,
            ])
        })
        .collect();
    let parts: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
    let entries = if parts.is_empty() {
        Vec::new()
    } else {
        asn1::sequence(&parts)
    };
    let key_id = key_identifier(issuer);
    let authority = asn1::sequence(&[&asn1::tlv(asn1::context(0), &[&key_id])]);
    let extensions = asn1::sequence(&[
        &encode_extension(oid::AUTHORITY_KEY_ID, false, &authority),
        &encode_extension(oid::CRL_NUMBER, false, &asn1::uint(&number.to_be_bytes())),
    ]);
    asn1::sequence(&[
        &asn1::uint(&[1]),
        &alg::encode_sig_alg(sig_alg),
        issuer.subject(),
        &asn1::time(this_update),
        &asn1::time(next_update),
        &entries,
        &asn1::tlv(context_constructed(0), &[&extensions]),
    ])
}

/// Joins to-be-signed bytes and signature: the outer form of certificates and CRLs.
pub fn assemble(tbs: &[u8], sig_alg: SigAlg, signature: &[u8]) -> Vec<u8> {
    asn1::sequence(&[tbs, &alg::encode_sig_alg(sig_alg), &asn1::bits(signature)])
}

/// DER Extension.
pub fn encode_extension(id: &'static str, critical: bool, value: &[u8]) -> Vec<u8> {
    let flag = if critical {
        asn1::tlv(asn1::BOOLEAN, &[&[0xff]])
    } else {
        Vec::new()
    };
    asn1::sequence(&[&asn1::oid(id), &flag, &asn1::octets(value)])
}

/// The subject key identifier: the extension's, else the first 160 bits of SHA-256 of the key's bits
/// (RFC 7093 §2).
pub fn key_identifier(cert: &Certificate) -> Vec<u8> {
    let stated = cert.extension(oid::SUBJECT_KEY_ID).and_then(|e| {
        Tlv::single(&e.value, "key identifier")
            .ok()
            .map(|t| t.value.to_vec())
    });
    stated.unwrap_or_else(|| derive_key_identifier(cert.spki()))
}

/// The first 160 bits of SHA-256 of the key's bits (RFC 7093 §2, method 1).
pub fn derive_key_identifier(spki: &[u8]) -> Vec<u8> {
    let bits = key_bits(spki).unwrap_or_default();
    core_types::sha256(&[bits])
        .0
        .iter()
        .copied()
        .take(20)
        .collect()
}

/// Octets of the BIT STRING in a SubjectPublicKeyInfo.
pub(crate) fn key_bits(spki: &[u8]) -> Option<&[u8]> {
    let what = "public key";
    let mut fields = Tlv::single(spki, what).ok()?.open(SEQUENCE, what).ok()?;
    fields.next(what).ok()?;
    fields.next(what).ok()?.as_bits(what).ok()
}
