//! A person's keys as the SAM tells them, with what their certificates say.

use core_types::bytes::hex;
use core_types::{DtbsForm, KeyId, Level, PersonId, UnixTime};
use der::Decode as _;
use pki::asn1::{DerError, SEQUENCE, Tlv};
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

/// What a certificate says about the service of its issuer, as dotted identifiers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Declared {
    /// Certificate policies (RFC 5280 §4.2.1.4).
    pub(crate) policies: Vec<String>,
    /// Qualified certificate statements (RFC 3739 §3.2.6).
    pub(crate) statements: Vec<String>,
}

/// Reads them; what is broken says nothing.
pub(crate) fn read_declared(der: &[u8]) -> Declared {
    let Ok(cert) = pki::Certificate::parse(der) else {
        return Declared::default();
    };
    let statements = cert.extension(QC_STATEMENTS);
    let statements = statements.and_then(|found| read_statements(&found.value).ok());
    Declared {
        policies: cert.policies().unwrap_or_default(),
        statements: statements.unwrap_or_default(),
    }
}

const QC_STATEMENTS: &str = "1.3.6.1.5.5.7.1.3";

fn read_statements(value: &[u8]) -> Result<Vec<String>, DerError> {
    let what = "qcStatements";
    let list = Tlv::single(value, what)?.open(SEQUENCE, what)?.all(what)?;
    let identifier = |one: &Tlv<'_>| one.open(SEQUENCE, what)?.next(what)?.as_oid(what);
    list.iter().map(identifier).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(statements: &[u8]) -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        let statements = rcgen::CustomExtension::from_oid_content(
            &[1, 3, 6, 1, 5, 5, 7, 1, 3],
            statements.to_vec(),
        );
        params.custom_extensions.push(statements);
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn statements_are_read_with_and_without_something_behind_them() {
        // esi4-qcStatement-1, and -6 with the type "for signatures" (EN 319 412-5 §4.2.1, §4.2.3).
        let der = b"\x30\x1f\x30\x08\x06\x06\x04\x00\x8e\x46\x01\x01\x30\x13\x06\x06\x04\x00\x8e\x46\x01\x06\
            \x30\x09\x06\x07\x04\x00\x8e\x46\x01\x06\x01";
        assert_eq!(
            read_declared(&certificate(der)).statements,
            ["0.4.0.1862.1.1", "0.4.0.1862.1.6"]
        );
        let broken = read_declared(&certificate(b"\x30\x02\x05\x00"));
        assert_eq!(broken, Declared::default());
        assert_eq!(read_declared(b"no certificate"), Declared::default());
    }
}
