//! Answers of the authority: CRLs, OCSP responses and time-stamps. Pure but for the register.

use core_types::bytes::{from_b64, hex};
use pki::asn1;
use pki::cms::{self, NewSignedData};
use pki::crl::{self, RevokedEntry};
use pki::ocsp::{self, CertId, CertStatus, OcspRequest, SingleResponse};
use pki::oid;
use pki::tsp::{self, TimeStampReq, TstInfo};

use crate::DevCaError;
use crate::authority::{DevCa, Pair};
use crate::key::SIG_ALG;

const HOUR: i64 = 3600;
/// Policy under which development time-stamps are made, below the enterprise number for examples (RFC 5612).
const TSA_POLICY: &str = "1.3.6.1.4.1.32473.3161";
/// PKIFailureInfo bits (RFC 3161 §2.4.2).
const BAD_ALG: u8 = 0;
const BAD_DATA_FORMAT: u8 = 5;
const UNACCEPTED_POLICY: u8 = 15;

impl DevCa {
    /// The issuing CA's CRL, valid for a day.
    ///
    /// # Errors
    /// [`DevCaError`].
    pub fn crl(&self) -> Result<Vec<u8>, DevCaError> {
        let register = self.register();
        let revoked = register.issued.iter().filter_map(|(serial, issued)| {
            let (at, reason) = issued.revoked?;
            Some(RevokedEntry {
                serial: from_hex(serial)?,
                at,
                reason,
            })
        });
        self.sign_crl(
            &self.issuing,
            register.crl_number,
            &revoked.collect::<Vec<_>>(),
        )
    }

    /// The root's CRL, which is always empty.
    ///
    /// # Errors
    /// [`DevCaError`].
    pub fn root_crl(&self) -> Result<Vec<u8>, DevCaError> {
        self.sign_crl(&self.root, 0, &[])
    }

    fn sign_crl(
        &self,
        by: &Pair,
        number: u64,
        revoked: &[RevokedEntry],
    ) -> Result<Vec<u8>, DevCaError> {
        let now = self.clock.now();
        let tbs = crl::encode_tbs(
            &by.cert,
            SIG_ALG,
            now,
            now.plus(24 * HOUR),
            number + 1,
            revoked,
        );
        let signature = by.key.sign(&tbs)?;
        Ok(crl::assemble(&tbs, SIG_ALG, &signature))
    }

    /// Answers a DER OCSP request; errors are OCSP errors.
    pub fn ocsp(&self, request: &[u8]) -> Vec<u8> {
        const MALFORMED: u8 = 1;
        const INTERNAL: u8 = 2;
        let Ok(request) = OcspRequest::parse(request) else {
            return ocsp::encode_error(MALFORMED);
        };
        let now = self.clock.now();
        let single = |id: &CertId| SingleResponse {
            id: id.clone(),
            status: self.status(id),
            this_update: now,
            next_update: Some(now.plus(HOUR)),
        };
        let answers: Vec<_> = request.certificates.iter().take(16).map(single).collect();
        let tbs = ocsp::encode_tbs(&self.ocsp.cert, now, &answers, request.nonce.as_deref());
        match self.ocsp.key.sign(&tbs) {
            Ok(signature) => ocsp::encode_successful(&tbs, SIG_ALG, &signature, &self.ocsp.cert),
            Err(_) => ocsp::encode_error(INTERNAL),
        }
    }

    /// Answers the GET form: the request in base64 (RFC 6960 A.1), already percent-decoded.
    pub fn ocsp_get(&self, request: &str) -> Vec<u8> {
        self.ocsp(&from_b64(request).unwrap_or_default())
    }

    fn status(&self, id: &CertId) -> CertStatus {
        if *id != CertId::new(&self.issuing.cert, &id.serial, id.hash) {
            return CertStatus::Unknown;
        }
        match self.register().issued.get(&hex(&id.serial)) {
            None => CertStatus::Unknown,
            Some(issued) => match issued.revoked {
                None => CertStatus::Good,
                Some((at, reason)) => CertStatus::Revoked { at, reason },
            },
        }
    }

    /// Answers a DER time-stamp request (RFC 3161); errors are rejections.
    pub fn time_stamp(&self, request: &[u8]) -> Vec<u8> {
        let request = match TimeStampReq::parse(request) {
            Ok(request) => request,
            Err(pki::alg::AlgError::Malformed(_)) => return tsp::encode_rejected(BAD_DATA_FORMAT),
            Err(_) => return tsp::encode_rejected(BAD_ALG),
        };
        if request.policy.as_deref().is_some_and(|p| p != TSA_POLICY) {
            return tsp::encode_rejected(UNACCEPTED_POLICY);
        }
        match self.token(request) {
            Ok(token) => tsp::encode_granted(&token),
            Err(error) => {
                tracing::error!(%error, "the development time-stamping authority could not sign");
                tsp::encode_rejected(25)
            }
        }
    }

    fn token(&self, request: TimeStampReq) -> Result<Vec<u8>, DevCaError> {
        let mut serial = [0; 16];
        self.random.fill(&mut serial);
        let info = TstInfo {
            policy: TSA_POLICY.to_owned(),
            hash: request.hash,
            imprint: request.imprint,
            serial: serial.to_vec(),
            gen_time: self.clock.now(),
            accuracy: Some(1),
            nonce: request.nonce,
        };
        let content = info.encode()?;
        let digest = SIG_ALG.hash().digest(&content);
        let attrs = asn1::set_of(vec![
            cms::attribute(oid::CONTENT_TYPE, &asn1::try_oid(oid::TST_INFO)?),
            cms::attribute(oid::MESSAGE_DIGEST, &asn1::octets(&digest)),
            cms::attribute(oid::SIGNING_TIME, &asn1::time(info.gen_time)),
            cms::signing_certificate(&self.tsa.cert),
        ]);
        let signature = self.tsa.key.sign(&attrs)?;
        let new = NewSignedData {
            content_type: oid::TST_INFO,
            content: Some(&content),
            signed_attrs: &attrs,
            sig_alg: SIG_ALG,
            signature: &signature,
            signer_cert: self.tsa.cert.der(),
            chain: &[self.issuing.cert.der().to_vec()],
            unsigned_attrs: Vec::new(),
        };
        Ok(new.encode()?)
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return None;
    };
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.iter().map(byte).collect()
}
