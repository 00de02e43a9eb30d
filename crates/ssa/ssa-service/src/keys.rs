//! A person's keys as the SAM tells them, with what their certificates say.

use core_types::bytes::hex;
use core_types::{DtbsForm, KeyId, Level, PersonId, UnixTime};
use der::Decode as _;
use sam_api::Refusal;
use sam_api::ssa::{AboutAnswer, KeyInfo, KeysRequest};
use service_kit::CallError;
use x509_cert::Certificate;

use crate::Ssa;

/// What a certificate says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CertFacts {
    /// RFC 4514 text.
    pub(crate) subject: String,
    /// RFC 4514 text.
    pub(crate) issuer: String,
    /// Hexadecimal, upper case.
    pub(crate) serial: String,
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
}

/// Reads a certificate; `None` when it isn't one.
pub(crate) fn read_certificate(der: &[u8]) -> Option<CertFacts> {
    let cert = Certificate::from_der(der).ok()?;
    let tbs = cert.tbs_certificate();
    let time = |t: &x509_cert::time::Time| {
        let seconds = t.to_unix_duration().as_secs();
        i64::try_from(seconds).ok().map(UnixTime)
    };
    let serial = tbs.serial_number().as_bytes();
    Some(CertFacts {
        subject: tbs.subject().to_string(),
        issuer: tbs.issuer().to_string(),
        serial: hex(serial).to_ascii_uppercase(),
        not_before: time(&tbs.validity().not_before)?,
        not_after: time(&tbs.validity().not_after)?,
    })
}

/// Whether a signer can be asked for signatures of this key without being shown what will be signed (CSC SCAL 1). The SAM decides
/// once more.
pub(crate) fn signs_open(key: &KeyInfo, about: &AboutAnswer) -> bool {
    about.max_open > 0
        && key.level.level == Level::One
        && key.alg.form() == DtbsForm::Digest
        && !key.collected
        && !key.one_time
}

impl Ssa {
    /// The person's keys, oldest first.
    ///
    /// # Errors
    /// [`CallError`] as the SAM gave it.
    pub async fn keys_of(&self, person: &PersonId) -> Result<Vec<KeyInfo>, CallError<Refusal>> {
        let request = KeysRequest {
            person: person.clone(),
        };
        match self.sam().keys(&request).await {
            Ok(answer) => Ok(answer.keys),
            // Someone who hasn't enrolled is unknown to the SAM: no keys.
            Err(CallError::Refused(Refusal::NotFound)) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// One of the person's keys that has a certificate.
    pub(crate) async fn key_of(
        &self,
        person: &PersonId,
        key: &KeyId,
    ) -> Result<Option<(KeyInfo, CertFacts)>, CallError<Refusal>> {
        let keys = self.keys_of(person).await?;
        let found = keys.into_iter().find(|info| info.key == *key);
        Ok(found.and_then(|info| {
            let facts = read_certificate(&info.chain.first()?.0)?;
            Some((info, facts))
        }))
    }
}
