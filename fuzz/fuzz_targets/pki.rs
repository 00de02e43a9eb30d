//! Hostile DER: reading ends, and signed attributes that pass have exactly the order that DER gives them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pki::Certificate;
use pki::csr::Csr;
use pki::signed_attrs::parse_signed_attrs_strict;

fuzz_target!(|data: &[u8]| {
    if let Ok(certificate) = Certificate::parse(data) {
        assert_eq!(certificate.der(), data);
        let _ = certificate.subject_text();
        let _ = certificate.sig_alg();
        let _ = certificate.basic_constraints();
        let _ = certificate.key_usage();
        let _ = certificate.ext_key_usage();
        let _ = certificate.ocsp_urls();
        let _ = certificate.issuer_urls();
        let _ = certificate.crl_urls();
        let _ = certificate.info();
        let _ = certificate.verify_signed_by(certificate.spki());
    }
    let _ = Csr::verify(data);
    if let Ok(attributes) = parse_signed_attrs_strict(data) {
        assert_eq!(data[0], 0x31);
        assert!(attributes.present.len() >= 3);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Certificate::parse_pem(text);
    }
});
