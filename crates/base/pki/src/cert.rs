//! X.509 certificates (RFC 5280), kept as received.

use core_types::bytes::hex;
use core_types::{Digest32, SigAlg, UnixTime, sha256};

use crate::alg::{self, AlgError, Signed, VerifyError};
use crate::asn1::{
    BIT_STRING, BOOLEAN, DerError, INTEGER, OCTET_STRING, SEQUENCE, Tlv, Walker, context,
    context_constructed,
};
use crate::{name, oid, pem};

/// An extension of a certificate, CRL, request or response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// Dotted object identifier.
    pub oid: String,
    /// Whether whoever doesn't understand it must refuse.
    pub critical: bool,
    /// Contents of `extnValue`.
    pub value: Vec<u8>,
}

/// `basicConstraints` (RFC 5280 §4.2.1.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BasicConstraints {
    /// The subject may issue certificates.
    pub ca: bool,
    /// How many non-self-issued intermediate certificates may follow.
    pub path_len: Option<u32>,
}

/// Bits of `keyUsage` (RFC 5280 §4.2.1.3), first bit of the BIT STRING in the highest place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyUsage(pub u16);

impl KeyUsage {
    /// digitalSignature.
    pub const DIGITAL_SIGNATURE: Self = Self(0x8000);
    /// nonRepudiation, also called contentCommitment.
    pub const NON_REPUDIATION: Self = Self(0x4000);
    /// keyCertSign.
    pub const KEY_CERT_SIGN: Self = Self(0x0400);
    /// cRLSign.
    pub const CRL_SIGN: Self = Self(0x0200);

    /// Whether any of the bits of `other` is set.
    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// A parsed certificate. Signed parts are the received bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    tbs: Vec<u8>,
    serial: Vec<u8>,
    issuer: Vec<u8>,
    subject: Vec<u8>,
    spki: Vec<u8>,
    not_before: UnixTime,
    not_after: UnixTime,
    sig_alg: Result<SigAlg, AlgError>,
    signature: Vec<u8>,
    extensions: Vec<Extension>,
}

impl Certificate {
    /// Parses one DER certificate of version 1 to 3.
    ///
    /// # Errors
    /// [`DerError`] when it isn't one, names an extension twice, or its two algorithm fields differ. An unknown
    /// algorithm or key is no parse error; it makes verification fail.
    pub fn parse(der: &[u8]) -> Result<Self, DerError> {
        let what = "certificate";
        let mut outer = Tlv::single(der, what)?.open(SEQUENCE, what)?;
        let tbs = outer.expect(SEQUENCE, what)?;
        let sig_alg = outer.expect(SEQUENCE, what)?;
        let signature = outer.next(what)?.as_bits("certificate signature")?;
        outer.finish(what)?;

        let mut body = Walker::new(tbs.value);
        if let Some(version) = body.optional(context_constructed(0), what)?
            && Tlv::single(version.value, what)?.as_u32("certificate version")? > 2
        {
            return Err(DerError("certificate version"));
        }
        let serial = body.expect(INTEGER, "certificate serial number")?;
        if body.expect(SEQUENCE, what)?.raw != sig_alg.raw {
            return Err(DerError("certificate: the two signature algorithms differ"));
        }
        let issuer = body.expect(SEQUENCE, "certificate issuer")?;
        let mut validity = body.sequence("certificate validity")?;
        let not_before = validity.next(what)?.as_time("certificate notBefore")?;
        let not_after = validity.next(what)?.as_time("certificate notAfter")?;
        validity.finish("certificate validity")?;
        let subject = body.expect(SEQUENCE, "certificate subject")?;
        let spki = body.expect(SEQUENCE, "certificate public key")?;
        body.optional(context(1), what)?;
        body.optional(context(2), what)?;
        let extensions = match body.optional(context_constructed(3), what)? {
            Some(wrapped) => parse_extensions(Tlv::single(wrapped.value, what)?)?,
            None => Vec::new(),
        };
        body.finish(what)?;
        if serial.value.is_empty() {
            return Err(DerError("certificate serial number"));
        }
        Ok(Self {
            tbs: tbs.raw.to_vec(),
            serial: serial.value.to_vec(),
            issuer: issuer.raw.to_vec(),
            subject: subject.raw.to_vec(),
            spki: spki.raw.to_vec(),
            not_before,
            not_after,
            sig_alg: alg::decode_sig_alg(sig_alg.raw, None),
            signature: signature.to_vec(),
            extensions,
            der: der.to_vec(),
        })
    }

    /// Parses every `CERTIFICATE` block of a PEM text.
    ///
    /// # Errors
    /// [`DerError`] when one is broken.
    pub fn parse_pem(text: &str) -> Result<Vec<Self>, DerError> {
        pem::decode_all("CERTIFICATE", text)?
            .iter()
            .map(|der| Self::parse(der))
            .collect()
    }

    /// The certificate as received.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// PEM text.
    pub fn pem(&self) -> String {
        pem::encode("CERTIFICATE", &self.der)
    }

    /// DER of tbsCertificate: what is signed.
    pub fn tbs(&self) -> &[u8] {
        &self.tbs
    }

    /// Contents octets of the serial number INTEGER.
    pub fn serial(&self) -> &[u8] {
        &self.serial
    }

    /// DER Name of the issuer.
    pub fn issuer(&self) -> &[u8] {
        &self.issuer
    }

    /// DER Name of the subject.
    pub fn subject(&self) -> &[u8] {
        &self.subject
    }

    /// Subject in RFC 4514 text.
    pub fn subject_text(&self) -> String {
        name::to_text(&self.subject)
    }

    /// DER SubjectPublicKeyInfo.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// First second of validity.
    pub fn not_before(&self) -> UnixTime {
        self.not_before
    }

    /// Last second of validity.
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// Algorithm of the issuer's signature.
    ///
    /// # Errors
    /// [`AlgError`] when it is unknown or not approved.
    pub fn sig_alg(&self) -> Result<SigAlg, AlgError> {
        self.sig_alg.clone()
    }

    /// Issuer and subject are the same name.
    pub fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
    }

    /// All extensions in their order.
    pub fn extensions(&self) -> &[Extension] {
        &self.extensions
    }

    /// The extension with this identifier.
    pub fn extension(&self, oid: &str) -> Option<&Extension> {
        self.extensions.iter().find(|e| e.oid == oid)
    }

    /// Verifies the issuer's signature with the issuer's public key; nothing else.
    ///
    /// # Errors
    /// [`CertSignatureError`].
    pub fn verify_signed_by(&self, issuer_spki: &[u8]) -> Result<(), CertSignatureError> {
        let alg = self.sig_alg.clone()?;
        Ok(alg::verify_signature(
            issuer_spki,
            alg,
            Signed::Message(&self.tbs),
            &self.signature,
        )?)
    }

    /// `basicConstraints`; absent means not a CA.
    ///
    /// # Errors
    /// [`DerError`] when the extension is broken.
    pub fn basic_constraints(&self) -> Result<BasicConstraints, DerError> {
        let what = "basicConstraints";
        let Some(extension) = self.extension(oid::BASIC_CONSTRAINTS) else {
            return Ok(BasicConstraints::default());
        };
        let mut walker = Tlv::single(&extension.value, what)?.open(SEQUENCE, what)?;
        let ca = walker
            .optional(BOOLEAN, what)?
            .map_or(Ok(false), |b| b.as_bool(what))?;
        let path_len = walker
            .optional(INTEGER, what)?
            .map(|n| n.as_u32(what))
            .transpose()?;
        walker.finish(what)?;
        Ok(BasicConstraints { ca, path_len })
    }

    /// `keyUsage`, if present.
    ///
    /// # Errors
    /// [`DerError`] when the extension is broken.
    pub fn key_usage(&self) -> Result<Option<KeyUsage>, DerError> {
        let what = "keyUsage";
        let Some(extension) = self.extension(oid::KEY_USAGE) else {
            return Ok(None);
        };
        let tlv = Tlv::single(&extension.value, what)?;
        match (tlv.tag, tlv.value) {
            (BIT_STRING, [unused, bits @ ..]) if *unused < 8 && (1..=2).contains(&bits.len()) => {
                let high = bits.first().copied().unwrap_or(0);
                let low = bits.get(1).copied().unwrap_or(0);
                Ok(Some(KeyUsage(u16::from_be_bytes([high, low]))))
            }
            _ => Err(DerError(what)),
        }
    }

    /// Purposes in `extKeyUsage` (dotted) and whether it is critical, if present.
    ///
    /// # Errors
    /// [`DerError`] when the extension is broken.
    pub fn ext_key_usage(&self) -> Result<Option<(Vec<String>, bool)>, DerError> {
        let what = "extKeyUsage";
        let Some(extension) = self.extension(oid::EXT_KEY_USAGE) else {
            return Ok(None);
        };
        let list = Tlv::single(&extension.value, what)?
            .open(SEQUENCE, what)?
            .all(what)?;
        let list = list
            .iter()
            .map(|p| p.as_oid(what))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Some((list, extension.critical)))
    }

    /// Policies in `certificatePolicies` (dotted); none if the extension isn't there.
    ///
    /// # Errors
    /// [`DerError`] when the extension is broken.
    pub fn policies(&self) -> Result<Vec<String>, DerError> {
        let what = "certificatePolicies";
        let Some(extension) = self.extension(oid::CERT_POLICIES) else {
            return Ok(Vec::new());
        };
        let list = Tlv::single(&extension.value, what)?
            .open(SEQUENCE, what)?
            .all(what)?;
        let identifier = |policy: &Tlv<'_>| policy.open(SEQUENCE, what)?.next(what)?.as_oid(what);
        list.iter().map(identifier).collect()
    }

    /// URLs of OCSP responders, in their order. A broken extension has none.
    pub fn ocsp_urls(&self) -> Vec<String> {
        self.access_urls(oid::AD_OCSP).unwrap_or_default()
    }

    /// URLs of the issuer's certificates, in their order. A broken extension has none.
    pub fn issuer_urls(&self) -> Vec<String> {
        self.access_urls(oid::AD_CA_ISSUERS).unwrap_or_default()
    }

    fn access_urls(&self, method: &str) -> Result<Vec<String>, DerError> {
        let what = "authorityInfoAccess";
        let Some(extension) = self.extension(oid::AUTHORITY_INFO) else {
            return Ok(Vec::new());
        };
        let mut urls = Vec::new();
        for access in Tlv::single(&extension.value, what)?
            .open(SEQUENCE, what)?
            .all(what)?
        {
            let mut access = access.open(SEQUENCE, what)?;
            if access.next(what)?.as_oid(what)? == method {
                urls.extend(uri(access.next(what)?));
            }
        }
        Ok(urls)
    }

    /// URLs of complete CRLs, in their order. A broken extension has none.
    pub fn crl_urls(&self) -> Vec<String> {
        self.distribution_points().unwrap_or_default()
    }

    fn distribution_points(&self) -> Result<Vec<String>, DerError> {
        let what = "cRLDistributionPoints";
        let Some(extension) = self.extension(oid::CRL_DISTRIBUTION) else {
            return Ok(Vec::new());
        };
        let mut urls = Vec::new();
        for point in Tlv::single(&extension.value, what)?
            .open(SEQUENCE, what)?
            .all(what)?
        {
            let mut point = point.open(SEQUENCE, what)?;
            let Some(name) = point.optional(context_constructed(0), what)? else {
                continue;
            };
            if let Some(full) = Walker::new(name.value).optional(context_constructed(0), what)? {
                urls.extend(
                    Walker::new(full.value)
                        .all(what)?
                        .into_iter()
                        .filter_map(uri),
                );
            }
        }
        Ok(urls)
    }

    /// Everything worth showing.
    pub fn info(&self) -> CertInfo {
        CertInfo {
            subject: self.subject_text(),
            issuer: name::to_text(&self.issuer),
            common_name: name::attribute(&self.subject, oid::COMMON_NAME),
            serial: hex(&self.serial),
            not_before: self.not_before,
            not_after: self.not_after,
            sha256: sha256(&[&self.der]),
            spki_sha256: sha256(&[&self.spki]),
            ocsp_urls: self.ocsp_urls(),
            crl_urls: self.crl_urls(),
            issuer_urls: self.issuer_urls(),
        }
    }
}

fn uri(general_name: Tlv<'_>) -> Option<String> {
    let is_uri = general_name.tag == context(6) && general_name.value.is_ascii();
    is_uri.then(|| general_name.value.iter().map(|b| char::from(*b)).collect())
}

/// Parses `Extensions`, a SEQUENCE OF Extension; no identifier may come twice (RFC 5280 §4.2).
pub(crate) fn parse_extensions(list: Tlv<'_>) -> Result<Vec<Extension>, DerError> {
    let what = "extension";
    let mut out: Vec<Extension> = Vec::new();
    for extension in list.open(SEQUENCE, what)?.all(what)? {
        let mut fields = extension.open(SEQUENCE, what)?;
        let oid = fields.next(what)?.as_oid(what)?;
        let critical = fields
            .optional(BOOLEAN, what)?
            .map_or(Ok(false), |b| b.as_bool(what))?;
        let value = fields.expect(OCTET_STRING, what)?.value.to_vec();
        fields.finish(what)?;
        if out.iter().any(|e| e.oid == oid) {
            return Err(DerError("extension given twice"));
        }
        out.push(Extension {
            oid,
            critical,
            value,
        });
    }
    Ok(out)
}

/// The issuer's signature was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertSignatureError {
    /// Algorithm unknown or not approved.
    #[error(transparent)]
    Algorithm(#[from] AlgError),
    /// Wrong key, wrong kind of key, or damaged.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

/// What people and records want to know about a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertInfo {
    /// Subject in RFC 4514 text.
    pub subject: String,
    /// Issuer in RFC 4514 text.
    pub issuer: String,
    /// First commonName of the subject.
    pub common_name: Option<String>,
    /// Serial number, lower-case hexadecimal of the INTEGER's contents.
    pub serial: String,
    /// First second of validity.
    pub not_before: UnixTime,
    /// Last second of validity.
    pub not_after: UnixTime,
    /// SHA-256 of the certificate's DER.
    pub sha256: Digest32,
    /// SHA-256 of the SubjectPublicKeyInfo's DER.
    pub spki_sha256: Digest32,
    /// OCSP responders.
    pub ocsp_urls: Vec<String>,
    /// CRLs.
    pub crl_urls: Vec<String>,
    /// The issuer's certificates.
    pub issuer_urls: Vec<String>,
}
