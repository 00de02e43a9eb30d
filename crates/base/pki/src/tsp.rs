//! Time-stamps (RFC 3161, RFC 5816): requests, responses, tokens.

use core_types::{HashAlg, Random, UnixTime};

use crate::alg::{self, AlgError};
use crate::asn1::{
    self, BOOLEAN, DerError, GENERALIZED_TIME, INTEGER, OCTET_STRING, OID, SEQUENCE, Tlv, context,
    context_constructed,
};
use crate::cert::{Certificate, Extension, parse_extensions};
use crate::cms::{SignedData, SignerError};
use crate::fetch::{Fetch, FetchError};
use crate::path::{self, Path, PathError, Purpose};
use crate::{name, oid};

/// Media type of a request.
pub const QUERY_TYPE: &str = "application/timestamp-query";
/// Media type of an answer.
pub const REPLY_TYPE: &str = "application/timestamp-reply";
/// Longest answer that is read, in bytes.
pub const MAX_REPLY: usize = 64 * 1024;

/// A request (RFC 3161 §2.4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeStampReq {
    /// Hash function of the imprint.
    pub hash: HashAlg,
    /// The hash to be stamped.
    pub imprint: Vec<u8>,
    /// Policy asked for, dotted.
    pub policy: Option<String>,
    /// Magnitude of the nonce, no leading zero.
    pub nonce: Option<Vec<u8>>,
    /// Whether the answer shall include the TSA's certificate.
    pub cert_req: bool,
}

impl TimeStampReq {
    /// A request for this hash with a random nonce of 128 bits and the certificate.
    pub fn new(hash: HashAlg, imprint: Vec<u8>, random: &dyn Random) -> Self {
        let mut nonce = vec![0; 16];
        random.fill(&mut nonce);
        // The leading bit keeps the length and the absence of leading zeros certain.
        if let Some(first) = nonce.first_mut() {
            *first |= 0x40;
        }
        Self {
            hash,
            imprint,
            policy: None,
            nonce: Some(nonce),
            cert_req: true,
        }
    }

    /// DER.
    ///
    /// # Errors
    /// [`DerError`] when the policy isn't an object identifier.
    pub fn encode(&self) -> Result<Vec<u8>, DerError> {
        let policy = self
            .policy
            .as_deref()
            .map_or(Ok(Vec::new()), asn1::try_oid)?;
        let nonce = self.nonce.as_deref().map_or_else(Vec::new, asn1::uint);
        let cert_req = if self.cert_req {
            asn1::tlv(BOOLEAN, &[&[0xff]])
        } else {
            Vec::new()
        };
        let imprint = encode_imprint(self.hash, &self.imprint);
        Ok(asn1::sequence(&[
            &asn1::uint(&[1]),
            &imprint,
            &policy,
            &nonce,
            &cert_req,
        ]))
    }

    /// Parses DER. Requests with extensions are refused, because none is supported.
    ///
    /// # Errors
    /// [`AlgError`] when it is malformed, the hash function is unknown, or the imprint has a wrong length.
    pub fn parse(der: &[u8]) -> Result<Self, AlgError> {
        let what = "time-stamp request";
        let mut fields = Tlv::single(der, what)?.open(SEQUENCE, what)?;
        if fields.expect(INTEGER, what)?.as_u32(what)? != 1 {
            return Err(DerError("time-stamp request version").into());
        }
        let (hash, imprint) = parse_imprint(fields.expect(SEQUENCE, what)?)?;
        let policy = fields
            .optional(OID, what)?
            .map(|p| p.as_oid(what))
            .transpose()?;
        let nonce = fields
            .optional(INTEGER, what)?
            .map(|n| n.as_uint(what))
            .transpose()?;
        let cert_req = fields
            .optional(BOOLEAN, what)?
            .map_or(Ok(false), |b| b.as_bool(what))?;
        fields.finish("time-stamp request with extensions")?;
        Ok(Self {
            hash,
            imprint,
            policy,
            nonce: nonce.map(<[u8]>::to_vec),
            cert_req,
        })
    }
}

fn encode_imprint(hash: HashAlg, imprint: &[u8]) -> Vec<u8> {
    asn1::sequence(&[&alg::encode_hash_alg(hash), &asn1::octets(imprint)])
}

fn parse_imprint(tlv: Tlv<'_>) -> Result<(HashAlg, Vec<u8>), AlgError> {
    let what = "message imprint";
    let mut fields = tlv.open(SEQUENCE, what)?;
    let hash = alg::decode_hash_alg(fields.expect(SEQUENCE, what)?.raw)?;
    let imprint = fields.expect(OCTET_STRING, what)?.value.to_vec();
    fields.finish(what)?;
    if imprint.len() == hash.len() {
        Ok((hash, imprint))
    } else {
        Err(DerError(what).into())
    }
}

/// What a token states (RFC 3161 §2.4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TstInfo {
    /// Policy of the TSA, dotted.
    pub policy: String,
    /// Hash function of the imprint.
    pub hash: HashAlg,
    /// The stamped hash.
    pub imprint: Vec<u8>,
    /// Magnitude of the serial number.
    pub serial: Vec<u8>,
    /// The time, fractions of a second cut off.
    pub gen_time: UnixTime,
    /// Accuracy in seconds, rounded up, if stated.
    pub accuracy: Option<u32>,
    /// Nonce of the request.
    pub nonce: Option<Vec<u8>>,
}

impl TstInfo {
    /// DER, with accuracy in whole seconds.
    ///
    /// # Errors
    /// [`DerError`] when the policy isn't an object identifier.
    pub fn encode(&self) -> Result<Vec<u8>, DerError> {
        let accuracy = self.accuracy.map_or_else(Vec::new, |seconds| {
            asn1::sequence(&[&asn1::uint(&seconds.to_be_bytes())])
        });
        Ok(asn1::sequence(&[
            &asn1::uint(&[1]),
            &asn1::try_oid(&self.policy)?,
            &encode_imprint(self.hash, &self.imprint),
            &asn1::uint(&self.serial),
            &asn1::generalized_time(self.gen_time),
            &accuracy,
            &self.nonce.as_deref().map_or_else(Vec::new, asn1::uint),
        ]))
    }

    /// Parses DER.
    ///
    /// # Errors
    /// [`AlgError`] when it is malformed, has a critical extension, or its hash function is unknown.
    pub fn parse(der: &[u8]) -> Result<Self, AlgError> {
        let what = "TSTInfo";
        let mut fields = Tlv::single(der, what)?.open(SEQUENCE, what)?;
        if fields.expect(INTEGER, what)?.as_u32(what)? != 1 {
            return Err(DerError("TSTInfo version").into());
        }
        let policy = fields.expect(OID, what)?.as_oid(what)?;
        let (hash, imprint) = parse_imprint(fields.expect(SEQUENCE, what)?)?;
        let serial = fields
            .expect(INTEGER, what)?
            .as_uint("TSTInfo serial number")?
            .to_vec();
        let gen_time = gen_time(fields.expect(GENERALIZED_TIME, what)?)?;
        let accuracy = fields.optional(SEQUENCE, what)?.map(accuracy).transpose()?;
        fields
            .optional(BOOLEAN, what)?
            .map(|b| b.as_bool(what))
            .transpose()?;
        let nonce = fields
            .optional(INTEGER, what)?
            .map(|n| n.as_uint(what))
            .transpose()?;
        fields.optional(context_constructed(0), what)?;
        if let Some(list) = fields.optional(context_constructed(1), what)? {
            let list: Vec<Extension> = parse_extensions(Tlv {
                tag: SEQUENCE,
                ..list
            })?;
            if list.iter().any(|e| e.critical) {
                return Err(DerError("TSTInfo with a critical extension").into());
            }
        }
        fields.finish(what)?;
        let nonce = nonce.map(<[u8]>::to_vec);
        Ok(Self {
            policy,
            hash,
            imprint,
            serial,
            gen_time,
            accuracy,
            nonce,
        })
    }
}

/// genTime may have fractions of a second (RFC 3161 §2.4.2), which plain DER times here don't.
fn gen_time(tlv: Tlv<'_>) -> Result<UnixTime, DerError> {
    let what = "TSTInfo genTime";
    let Some(dot) = tlv.value.iter().position(|b| *b == b'.') else {
        return tlv.as_time(what);
    };
    let (whole, fraction) = tlv.value.split_at(dot);
    let digits = match fraction {
        [b'.', digits @ .., b'Z'] if !digits.is_empty() => digits,
        _ => return Err(DerError(what)),
    };
    if !digits.iter().all(u8::is_ascii_digit) || digits.last() == Some(&b'0') {
        return Err(DerError(what));
    }
    let plain = asn1::tlv(GENERALIZED_TIME, &[whole, b"Z"]);
    Tlv::single(&plain, what)?.as_time(what)
}

fn accuracy(tlv: Tlv<'_>) -> Result<u32, DerError> {
    let what = "TSTInfo accuracy";
    let mut fields = tlv.open(SEQUENCE, what)?;
    let seconds = fields
        .optional(INTEGER, what)?
        .map_or(Ok(0), |n| n.as_u32(what))?;
    let millis = fields.optional(context(0), what)?;
    let micros = fields.optional(context(1), what)?;
    fields.finish(what)?;
    Ok(seconds.saturating_add(u32::from(millis.is_some() || micros.is_some())))
}

/// PKIStatus values (RFC 3161 §2.4.2).
const GRANTED: u32 = 0;
const GRANTED_WITH_MODS: u32 = 1;

/// DER of a granted response around a token.
pub fn encode_granted(token: &[u8]) -> Vec<u8> {
    asn1::sequence(&[&asn1::sequence(&[&asn1::uint(&[])]), token])
}

/// DER of a rejection with a bit of PKIFailureInfo, such as 0 (badAlg), 2 (badRequest) or 5 (badDataFormat).
pub fn encode_rejected(failure_bit: u8) -> Vec<u8> {
    let bytes = usize::from(failure_bit / 8) + 1;
    let mut flags = vec![0; bytes];
    if let Some(last) = flags.last_mut() {
        *last = 0x80 >> (failure_bit % 8);
    }
    let info = asn1::tlv(asn1::BIT_STRING, &[&[7 - failure_bit % 8], &flags]);
    asn1::sequence(&[&asn1::sequence(&[&asn1::uint(&[2]), &info])])
}

/// Takes the token out of a response; nothing in it is verified.
///
/// # Errors
/// [`TspError::Rejected`] when the TSA refused, [`TspError::Malformed`] when it isn't a response.
pub fn token_of_response(der: &[u8]) -> Result<Vec<u8>, TspError> {
    let what = "time-stamp response";
    let mut fields = Tlv::single(der, what)?.open(SEQUENCE, what)?;
    let mut status = fields.sequence(what)?;
    let code = status.expect(INTEGER, what)?.as_u32(what)?;
    if code != GRANTED && code != GRANTED_WITH_MODS {
        let text = status.optional(SEQUENCE, what)?.and_then(|texts| {
            let first = asn1::Walker::new(texts.value).next(what).ok()?;
            name::text(first)
        });
        return Err(TspError::Rejected {
            status: code,
            text: text.unwrap_or_default(),
        });
    }
    let token = fields.expect(SEQUENCE, what)?.raw.to_vec();
    fields.finish(what)?;
    Ok(token)
}

/// A verified token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedToken {
    /// What it states.
    pub info: TstInfo,
    /// The TSA's certificate up to its anchor, valid at `info.gen_time`.
    pub path: Path,
}

impl VerifiedToken {
    /// The TSA's certificate.
    pub fn tsa(&self) -> Option<&Certificate> {
        self.path.certificates.first()
    }
}

/// Verifies a token: structure, imprint, signature, reference to the certificate, and the TSA's certificate at
/// the stated time, whose extended key usage must be exactly timeStamping and critical. Revocation of the TSA is
/// left to [`crate::revocation`].
///
/// `imprint` computes the stamped data's hash; `nonce` is that of our own request, if we just made it.
///
/// # Errors
/// [`TspError`].
pub fn verify_token(
    token: &[u8],
    imprint: &dyn Fn(HashAlg) -> Vec<u8>,
    nonce: Option<&[u8]>,
    extra: &[Vec<u8>],
    anchors: &[Vec<u8>],
) -> Result<VerifiedToken, TspError> {
    let signed = SignedData::parse(token)?;
    let [signer] = signed.signers.as_slice() else {
        return Err(TspError::Signers(signed.signers.len()));
    };
    let content = match &signed.content {
        Some(content) if signed.content_type == oid::TST_INFO => content,
        _ => return Err(DerError("the token holds no TSTInfo").into()),
    };
    let info = TstInfo::parse(content)?;
    if imprint(info.hash) != info.imprint {
        return Err(TspError::Imprint);
    }
    if nonce.is_some() && info.nonce.as_deref() != nonce {
        return Err(TspError::Nonce);
    }
    let tsa = signed
        .signer_certificate(signer, extra)
        .ok_or(TspError::NoCertificate)?;
    signer.check_signing_certificate(&tsa, true)?;
    signer.verify(oid::TST_INFO, &|hash| hash.digest(content), tsa.spki())?;
    let mut intermediates = signed.certificates.clone();
    intermediates.extend_from_slice(extra);
    let path = path::validate(
        tsa.der(),
        &intermediates,
        anchors,
        info.gen_time,
        Purpose::TimeStamping,
    )?;
    Ok(VerifiedToken { info, path })
}

/// Asks a TSA for a time-stamp over a hash and verifies what comes back, up to one of the anchors.
///
/// # Errors
/// [`TspError`].
pub async fn request(
    fetch: &dyn Fetch,
    url: &str,
    hash: HashAlg,
    imprint: &[u8],
    anchors: &[Vec<u8>],
    random: &dyn Random,
) -> Result<(Vec<u8>, VerifiedToken), TspError> {
    ask(
        fetch,
        url,
        &TimeStampReq::new(hash, imprint.to_vec(), random),
        anchors,
    )
    .await
}

/// Asks a TSA with a request of the caller's, and verifies what comes back, up to one of the anchors.
///
/// # Errors
/// [`TspError`].
pub async fn ask(
    fetch: &dyn Fetch,
    url: &str,
    query: &TimeStampReq,
    anchors: &[Vec<u8>],
) -> Result<(Vec<u8>, VerifiedToken), TspError> {
    let reply = fetch
        .post(url, QUERY_TYPE, query.encode()?, MAX_REPLY)
        .await?;
    let token = token_of_response(&reply)?;
    let same = |asked: HashAlg| {
        if asked == query.hash {
            query.imprint.clone()
        } else {
            Vec::new()
        }
    };
    let verified = verify_token(&token, &same, query.nonce.as_deref(), &[], anchors)?;
    Ok((token, verified))
}

/// A time-stamp was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TspError {
    /// Not DER, or not a time-stamp.
    #[error(transparent)]
    Malformed(#[from] DerError),
    /// An algorithm is unknown or not approved.
    #[error(transparent)]
    Algorithm(#[from] AlgError),
    /// The TSA said no.
    #[error("the time-stamping authority refused with status {status} {text}")]
    Rejected {
        /// PKIStatus.
        status: u32,
        /// The TSA's words.
        text: String,
    },
    /// A token has exactly one signer.
    #[error("a time-stamp has one signer, this one has {0}")]
    Signers(usize),
    /// The stamped hash is another one.
    #[error("the time-stamp is over something else")]
    Imprint,
    /// The answer belongs to another request.
    #[error("the time-stamp answers another request")]
    Nonce,
    /// The TSA's certificate wasn't found.
    #[error("the certificate of the time-stamping authority is not included")]
    NoCertificate,
    /// The TSA's signature or its attributes are wrong.
    #[error("the signature of the time-stamp is wrong: {0}")]
    Signer(#[from] SignerError),
    /// The TSA's certificate isn't valid for this.
    #[error("the certificate of the time-stamping authority: {0}")]
    Path(#[from] PathError),
    /// The TSA couldn't be reached.
    #[error(transparent)]
    Fetch(#[from] FetchError),
}
