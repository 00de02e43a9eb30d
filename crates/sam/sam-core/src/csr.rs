//! Certification requests (PKCS#10, RFC 2986) built from the SAM's own record of the key and the RA's subject data,
//! never from outside bytes (`II-3.1.3-csr-person-content-checked`).

use core_types::KeyAlg;
use sap::enrol::Subject;

use crate::Reason;
use crate::label::is_hidden;

/// Checks subject data: lengths of RFC 5280 Appendix A, alphabets, nothing invisible.
///
/// # Errors
/// [`Reason::Invalid`] naming the member.
pub fn check_subject(subject: &Subject) -> Result<(), Reason> {
    let text = |s: &str| {
        (1..=64).contains(&s.chars().count()) && !s.chars().any(is_hidden) && s.trim() == s
    };
    if !text(&subject.common_name) {
        return Err(Reason::Invalid("subject.common_name"));
    }
    if subject.country.len() != 2 || !subject.country.bytes().all(|b| b.is_ascii_uppercase()) {
        return Err(Reason::Invalid("subject.country"));
    }
    if subject.organization.as_deref().is_some_and(|o| !text(o)) {
        return Err(Reason::Invalid("subject.organization"));
    }
    let printable = |b: u8| b.is_ascii_alphanumeric() || b"'()+,-./:=? ".contains(&b);
    if !text(&subject.serial_number) || !subject.serial_number.bytes().all(printable) {
        return Err(Reason::Invalid("subject.serial_number"));
    }
    Ok(())
}

/// The attributes of the subject in the order they are written: object identifier and text.
pub fn attributes(subject: &Subject) -> Vec<(&'static str, &str)> {
    let mut out = vec![("2.5.4.6", subject.country.as_str())];
    if let Some(organization) = &subject.organization {
        out.push(("2.5.4.10", organization));
    }
    out.push(("2.5.4.3", &subject.common_name));
    out.push(("2.5.4.5", &subject.serial_number));
    out
}

/// DER of the subject's Name.
///
/// # Errors
/// [`Reason::Invalid`] when the data can't be written.
pub fn subject_name(subject: &Subject) -> Result<Vec<u8>, Reason> {
    pki::name::encode(&attributes(subject)).map_err(|_| Reason::Invalid("subject"))
}

/// DER of the CertificationRequestInfo. `spki` is the DER of the key's SubjectPublicKeyInfo.
///
/// # Errors
/// [`Reason::Invalid`] when the subject can't be written.
pub fn request_info(subject: &Subject, spki: &[u8]) -> Result<Vec<u8>, Reason> {
    Ok(pki::csr::request_info(&subject_name(subject)?, spki))
}

/// DER of the CertificationRequest from its info and signature value.
pub fn assemble(info: &[u8], key: KeyAlg, signature: &[u8]) -> Vec<u8> {
    pki::csr::assemble(info, key.csr_alg(), signature)
}

#[cfg(test)]
mod tests {
    use der::{Decode as _, Encode as _};
    use x509_cert::request::CertReq;

    use super::*;

    fn subject() -> Subject {
        Subject {
            common_name: "髙橋, 花子".into(),
            country: "JP".into(),
            organization: Some("株式会社テスト".into()),
            serial_number: "p-1".into(),
        }
    }

    // shows: T-REG-CSR-ALTER, II-3.1.3-csr-person-content-checked
    #[test]
    fn an_independent_parser_reads_what_was_meant() {
        let pair = aws_lc_rs::signature::EcdsaKeyPair::generate(
            &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1_SIGNING,
        )
        .unwrap();
        use aws_lc_rs::encoding::AsDer as _;
        use aws_lc_rs::signature::KeyPair as _;
        let spki: aws_lc_rs::encoding::PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let info = request_info(&subject(), spki.as_ref()).unwrap();
        let csr = assemble(&info, KeyAlg::P256, &[1, 2, 3]);
        let parsed = CertReq::from_der(&csr).unwrap();
        assert_eq!(parsed.info.to_der().unwrap(), info);
        assert_eq!(parsed.info.public_key.to_der().unwrap(), spki.as_ref());
        assert_eq!(parsed.signature.raw_bytes(), [1, 2, 3]);
        assert!(parsed.info.attributes.is_empty());
        let name = parsed.info.subject.common_name().unwrap().unwrap();
        assert_eq!(name.value(), "髙橋, 花子");
    }

    #[test]
    fn subject_data_are_bounded() {
        assert_eq!(check_subject(&subject()), Ok(()));
        let long = "x".repeat(65);
        for name in ["", " x", "a\u{202e}b", long.as_str()] {
            let bad = Subject {
                common_name: name.into(),
                ..subject()
            };
            assert!(check_subject(&bad).is_err(), "{name:?}");
        }
        let bad = Subject {
            country: "jp".into(),
            ..subject()
        };
        assert!(check_subject(&bad).is_err());
        let bad = Subject {
            serial_number: "花".into(),
            ..subject()
        };
        assert!(check_subject(&bad).is_err());
    }
}
