//! OCSP (RFC 6960): requests, responses, and who may sign them.

use core_types::{HashAlg, SigAlg, UnixTime};

use crate::alg::{self, AlgError, Signed};
use crate::asn1::{
    self, BIT_STRING, DerError, ENUMERATED, GENERALIZED_TIME, INTEGER, NULL, OCTET_STRING, OID,
    SEQUENCE, Tlv, Walker, context, context_constructed,
};
use crate::cert::{CertSignatureError, Certificate, Extension, parse_extensions};
use crate::crl::{encode_extension, key_bits};
use crate::oid;
use crate::path::{self, PathError, Purpose};
use crate::signed_attrs::sha1;

/// Media type of a request.
pub const REQUEST_TYPE: &str = "application/ocsp-request";
/// Media type of an answer.
pub const RESPONSE_TYPE: &str = "application/ocsp-response";
/// Longest answer that is read, in bytes.
pub const MAX_RESPONSE: usize = 64 * 1024;

/// Which certificate is meant (RFC 6960 §4.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertId {
    /// Hash of the two following; `None` is SHA-1, which identifies here and proves nothing.
    pub hash: Option<HashAlg>,
    /// Hash of the issuer's DER Name.
    pub issuer_name_hash: Vec<u8>,
    /// Hash of the octets of the issuer's key.
    pub issuer_key_hash: Vec<u8>,
    /// Contents octets of the serial number.
    pub serial: Vec<u8>,
}

impl CertId {
    /// The identifier of a certificate under its issuer. SHA-1 (`None`) is what most responders index by.
    pub fn new(issuer: &Certificate, serial: &[u8], hash: Option<HashAlg>) -> Self {
        let digest = |bytes: &[u8]| hash.map_or_else(|| sha1(bytes), |h| h.digest(bytes));
        Self {
            hash,
            issuer_name_hash: digest(issuer.subject()),
            issuer_key_hash: digest(key_bits(issuer.spki()).unwrap_or_default()),
            serial: serial.to_vec(),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let hash = self.hash.map_or(oid::SHA1, HashAlg::oid);
        asn1::sequence(&[
            &asn1::sequence(&[&asn1::oid(hash), &[NULL, 0]]),
            &asn1::octets(&self.issuer_name_hash),
            &asn1::octets(&self.issuer_key_hash),
            &asn1::tlv(INTEGER, &[&self.serial]),
        ])
    }

    fn parse(tlv: Tlv<'_>) -> Result<Self, AlgError> {
        let what = "OCSP CertID";
        let mut fields = tlv.open(SEQUENCE, what)?;
        let mut algorithm = fields.sequence(what)?;
        let id = algorithm.next(what)?.as_oid(what)?;
        algorithm.optional(NULL, what)?;
        algorithm.finish(what)?;
        let hash = match id.as_str() {
            oid::SHA1 => None,
            _ => Some(HashAlg::from_oid(&id).ok_or(AlgError::Unknown(id))?),
        };
        let issuer_name_hash = fields.expect(OCTET_STRING, what)?.value.to_vec();
        let issuer_key_hash = fields.expect(OCTET_STRING, what)?.value.to_vec();
        let serial = fields.expect(INTEGER, what)?.value.to_vec();
        fields.finish(what)?;
        Ok(Self {
            hash,
            issuer_name_hash,
            issuer_key_hash,
            serial,
        })
    }
}

/// A request; signatures on requests are ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OcspRequest {
    /// The certificates asked about.
    pub certificates: Vec<CertId>,
    /// Contents of the nonce extension's value, as sent.
    pub nonce: Option<Vec<u8>>,
}

impl OcspRequest {
    /// DER.
    pub fn encode(&self) -> Vec<u8> {
        let list: Vec<Vec<u8>> = self
            .certificates
            .iter()
            .map(|c| asn1::sequence(&[&c.encode()]))
            .collect();
        let parts: Vec<&[u8]> = list.iter().map(Vec::as_slice).collect();
        let extensions = nonce_extension(self.nonce.as_deref(), 2);
        asn1::sequence(&[&asn1::sequence(&[&asn1::sequence(&parts), &extensions])])
    }

    /// Parses DER.
    ///
    /// # Errors
    /// [`AlgError`] when it is malformed, has a critical extension that isn't known, or asks under an unknown hash.
    pub fn parse(der: &[u8]) -> Result<Self, AlgError> {
        let what = "OCSP request";
        let mut outer = Tlv::single(der, what)?.open(SEQUENCE, what)?;
        let mut tbs = outer.sequence(what)?;
        outer.optional(context_constructed(0), what)?;
        outer.finish(what)?;
        tbs.optional(context_constructed(0), what)?;
        tbs.optional(context_constructed(1), what)?;
        let list = tbs.expect(SEQUENCE, what)?;
        let extensions = tbs.optional(context_constructed(2), what)?;
        tbs.finish(what)?;
        let mut certificates = Vec::new();
        for one in Walker::new(list.value).all(what)? {
            certificates.push(CertId::parse(one.open(SEQUENCE, what)?.next(what)?)?);
        }
        Ok(Self {
            certificates,
            nonce: nonce_of(extensions)?,
        })
    }
}

fn nonce_extension(nonce: Option<&[u8]>, tag: u8) -> Vec<u8> {
    nonce.map_or_else(Vec::new, |nonce| {
        let list = asn1::sequence(&[&encode_extension(oid::OCSP_NONCE, false, nonce)]);
        asn1::tlv(context_constructed(tag), &[&list])
    })
}

fn nonce_of(wrapped: Option<Tlv<'_>>) -> Result<Option<Vec<u8>>, DerError> {
    let what = "OCSP extensions";
    let Some(wrapped) = wrapped else {
        return Ok(None);
    };
    let list: Vec<Extension> = parse_extensions(Tlv::single(wrapped.value, what)?)?;
    if list.iter().any(|e| e.critical && e.oid != oid::OCSP_NONCE) {
        return Err(DerError("OCSP message with an unknown critical extension"));
    }
    Ok(list
        .into_iter()
        .find(|e| e.oid == oid::OCSP_NONCE)
        .map(|e| e.value))
}

/// What a responder says about a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertStatus {
    /// Not revoked.
    Good,
    /// Revoked at this time for this CRLReason.
    Revoked {
        /// When.
        at: UnixTime,
        /// CRLReason, 0 if none is given.
        reason: u32,
    },
    /// The responder doesn't know the certificate.
    Unknown,
}

/// One answer of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SingleResponse {
    /// About which certificate.
    pub id: CertId,
    /// Its status.
    pub status: CertStatus,
    /// When this was known to be so.
    pub this_update: UnixTime,
    /// When newer information comes at the latest.
    pub next_update: Option<UnixTime>,
}

/// Who signed a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResponderId {
    /// DER Name.
    Name(Vec<u8>),
    /// SHA-1 of the octets of the key.
    Key(Vec<u8>),
}

impl ResponderId {
    fn names(&self, cert: &Certificate) -> bool {
        match self {
            Self::Name(name) => name == cert.subject(),
            Self::Key(hash) => key_bits(cert.spki()).is_some_and(|bits| sha1(bits) == *hash),
        }
    }
}

/// A parsed successful basic response (RFC 6960 §4.2.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BasicResponse {
    tbs: Vec<u8>,
    sig_alg: Result<SigAlg, AlgError>,
    signature: Vec<u8>,
    certificates: Vec<Vec<u8>>,
    /// Who says that it signed.
    pub responder: ResponderId,
    /// When it was signed.
    pub produced_at: UnixTime,
    /// The answers.
    pub responses: Vec<SingleResponse>,
    /// Contents of the nonce extension's value.
    pub nonce: Option<Vec<u8>>,
}

impl BasicResponse {
    /// Parses a DER OCSPResponse. Answers with an unknown hash or critical extension are left out.
    ///
    /// # Errors
    /// [`OcspError::Status`] when the responder reports an error, [`OcspError::Malformed`] otherwise.
    pub fn parse(der: &[u8]) -> Result<Self, OcspError> {
        let what = "OCSP response";
        let mut outer = Tlv::single(der, what)?.open(SEQUENCE, what)?;
        let status = outer.expect(ENUMERATED, what)?.as_u32(what)?;
        if status != 0 {
            return Err(OcspError::Status(status));
        }
        let wrapped = outer.expect(context_constructed(0), what)?;
        outer.finish(what)?;
        let mut bytes = Tlv::single(wrapped.value, what)?.open(SEQUENCE, what)?;
        if bytes.expect(OID, what)?.as_oid(what)? != oid::OCSP_BASIC {
            return Err(DerError("OCSP response of another type").into());
        }
        let basic = bytes.expect(OCTET_STRING, what)?;
        bytes.finish(what)?;
        let mut basic = Tlv::single(basic.value, what)?.open(SEQUENCE, what)?;
        let tbs = basic.expect(SEQUENCE, what)?;
        let sig_alg = alg::decode_sig_alg(basic.expect(SEQUENCE, what)?.raw, None);
        let signature = basic.expect(BIT_STRING, what)?.as_bits(what)?.to_vec();
        let certificates = match basic.optional(context_constructed(0), what)? {
            None => Vec::new(),
            Some(list) => {
                let list = Tlv::single(list.value, what)?
                    .open(SEQUENCE, what)?
                    .all(what)?;
                list.iter().map(|c| c.raw.to_vec()).collect()
            }
        };
        basic.finish(what)?;
        let mut data = Walker::new(tbs.value);
        data.optional(context_constructed(0), what)?;
        let responder = data.next(what)?;
        let responder = match responder.tag {
            0xa1 => ResponderId::Name(Tlv::single(responder.value, "responder name")?.raw.to_vec()),
            0xa2 => ResponderId::Key(
                Tlv::single(responder.value, "responder key hash")?
                    .value
                    .to_vec(),
            ),
            _ => return Err(DerError("OCSP responder").into()),
        };
        let produced_at = data
            .expect(GENERALIZED_TIME, what)?
            .as_time("OCSP producedAt")?;
        let mut responses = Vec::new();
        for single in Walker::new(data.expect(SEQUENCE, what)?.value).all(what)? {
            responses.extend(parse_single(single)?);
        }
        let nonce = nonce_of(data.optional(context_constructed(1), what)?)?;
        data.finish(what)?;
        let tbs = tbs.raw.to_vec();
        Ok(Self {
            tbs,
            sig_alg,
            signature,
            certificates,
            responder,
            produced_at,
            responses,
            nonce,
        })
    }

    /// Verifies that this was signed by the CA `issuer`, or by a responder that the CA certified directly for
    /// that purpose with `id-pkix-ocsp-nocheck`. That certificate must be valid both when this was made, as it
    /// says, and `at` the time in question: who holds the key of a former responder can write any date.
    ///
    /// # Errors
    /// [`OcspError`].
    pub fn verify(&self, issuer: &Certificate, at: UnixTime) -> Result<(), OcspError> {
        let alg = self
            .sig_alg
            .clone()
            .map_err(|e| OcspError::Signature(e.into()))?;
        let signed_by = |cert: &Certificate| {
            alg::verify_signature(
                cert.spki(),
                alg,
                Signed::Message(&self.tbs),
                &self.signature,
            )
            .map_err(|e| OcspError::Signature(e.into()))
        };
        if self.responder.names(issuer) {
            return signed_by(issuer);
        }
        let included = self
            .certificates
            .iter()
            .filter_map(|der| Certificate::parse(der).ok());
        let delegate = included.into_iter().find(|c| self.responder.names(c));
        let delegate = delegate.ok_or(OcspError::NoResponder)?;
        let anchors = [issuer.der().to_vec()];
        // Clocks may differ a little, so that a response can be later than the time in question.
        for when in [self.produced_at, at.max(self.produced_at)] {
            path::validate(delegate.der(), &[], &anchors, when, Purpose::OcspSigning)?;
        }
        if delegate.extension(oid::OCSP_NO_CHECK).is_none() {
            return Err(OcspError::ResponderMayBeRevoked);
        }
        signed_by(&delegate)
    }

    /// The answer about this certificate.
    pub fn answer(&self, cert: &Certificate, issuer: &Certificate) -> Option<&SingleResponse> {
        self.responses
            .iter()
            .find(|r| r.id == CertId::new(issuer, cert.serial(), r.id.hash))
    }
}

fn parse_single(single: Tlv<'_>) -> Result<Option<SingleResponse>, DerError> {
    let what = "OCSP single response";
    let mut fields = single.open(SEQUENCE, what)?;
    let id = CertId::parse(fields.expect(SEQUENCE, what)?);
    let status = fields.next(what)?;
    let status = match status.tag {
        0x80 if status.value.is_empty() => CertStatus::Good,
        0x82 if status.value.is_empty() => CertStatus::Unknown,
        0xa1 => {
            let mut info = Walker::new(status.value);
            let at = info
                .expect(GENERALIZED_TIME, what)?
                .as_time("OCSP revocation time")?;
            let reason = match info.optional(context_constructed(0), what)? {
                Some(r) => Tlv::single(r.value, what)?.as_u32("OCSP reason")?,
                None => 0,
            };
            info.finish(what)?;
            CertStatus::Revoked { at, reason }
        }
        _ => return Err(DerError("OCSP status")),
    };
    let this_update = fields
        .expect(GENERALIZED_TIME, what)?
        .as_time("OCSP thisUpdate")?;
    let next_update = match fields.optional(context_constructed(0), what)? {
        Some(t) => Some(Tlv::single(t.value, what)?.as_time("OCSP nextUpdate")?),
        None => None,
    };
    let extensions = match fields.optional(context_constructed(1), what)? {
        Some(list) => parse_extensions(Tlv::single(list.value, what)?)?,
        None => Vec::new(),
    };
    fields.finish(what)?;
    if extensions.iter().any(|e| e.critical) {
        return Ok(None);
    }
    Ok(id.ok().map(|id| SingleResponse {
        id,
        status,
        this_update,
        next_update,
    }))
}

/// DER ResponseData, named by the responder's key. Its hash is what the responder signs.
pub fn encode_tbs(
    responder: &Certificate,
    produced_at: UnixTime,
    responses: &[SingleResponse],
    nonce: Option<&[u8]>,
) -> Vec<u8> {
    let key_hash = sha1(key_bits(responder.spki()).unwrap_or_default());
    let list: Vec<Vec<u8>> = responses.iter().map(encode_single).collect();
    let parts: Vec<&[u8]> = list.iter().map(Vec::as_slice).collect();
    asn1::sequence(&[
        &asn1::tlv(context_constructed(2), &[&asn1::octets(&key_hash)]),
        &asn1::generalized_time(produced_at),
        &asn1::sequence(&parts),
        &nonce_extension(nonce, 1),
    ])
}

fn encode_single(single: &SingleResponse) -> Vec<u8> {
    let status = match single.status {
        CertStatus::Good => vec![context(0), 0],
        CertStatus::Unknown => vec![context(2), 0],
        CertStatus::Revoked { at, reason } => {
            let reason = asn1::tlv(ENUMERATED, &[&[u8::try_from(reason).unwrap_or(0)]]);
            let reason = asn1::tlv(context_constructed(0), &[&reason]);
            asn1::tlv(
                context_constructed(1),
                &[&asn1::generalized_time(at), &reason],
            )
        }
    };
    let next = single.next_update.map_or_else(Vec::new, |t| {
        asn1::tlv(context_constructed(0), &[&asn1::generalized_time(t)])
    });
    asn1::sequence(&[
        &single.id.encode(),
        &status,
        &asn1::generalized_time(single.this_update),
        &next,
    ])
}

/// DER OCSPResponse around signed [`encode_tbs`] bytes, with the responder's certificate.
pub fn encode_successful(
    tbs: &[u8],
    sig_alg: SigAlg,
    signature: &[u8],
    responder: &Certificate,
) -> Vec<u8> {
    let certs = asn1::tlv(
        context_constructed(0),
        &[&asn1::sequence(&[responder.der()])],
    );
    let basic = asn1::sequence(&[
        tbs,
        &alg::encode_sig_alg(sig_alg),
        &asn1::bits(signature),
        &certs,
    ]);
    let bytes = asn1::sequence(&[&asn1::oid(oid::OCSP_BASIC), &asn1::octets(&basic)]);
    let status = asn1::tlv(ENUMERATED, &[&[0]]);
    asn1::sequence(&[&status, &asn1::tlv(context_constructed(0), &[&bytes])])
}

/// DER OCSPResponse with an error: 1 malformedRequest, 2 internalError, 3 tryLater, 6 unauthorized.
pub fn encode_error(status: u8) -> Vec<u8> {
    asn1::sequence(&[&asn1::tlv(ENUMERATED, &[&[status]])])
}

/// An OCSP response was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OcspError {
    /// Not DER, or not a response.
    #[error(transparent)]
    Malformed(#[from] DerError),
    /// The responder reports an error.
    #[error("the OCSP responder answered with status {0}")]
    Status(u32),
    /// The responder's certificate isn't included.
    #[error("the OCSP response does not include its responder's certificate")]
    NoResponder,
    /// The responder wasn't authorised by the issuer.
    #[error("the OCSP responder is not authorised by the issuer: {0}")]
    Responder(#[from] PathError),
    /// The responder's own status would be needed.
    #[error(
        "the OCSP responder's certificate lacks id-pkix-ocsp-nocheck, and its status is not known"
    )]
    ResponderMayBeRevoked,
    /// Not signed by the responder.
    #[error("the OCSP response is not signed by its responder: {0}")]
    Signature(CertSignatureError),
}
