//! Hostile DER: reading ends, what we write of it reads the same, and nothing verifies by itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pki::Certificate;
use pki::cms::SignedData;
use pki::crl::Crl;
use pki::csr::Csr;
use pki::ocsp::{BasicResponse, OcspRequest};
use pki::signed_attrs::parse_signed_attrs_strict;
use pki::tsp::{TimeStampReq, TstInfo, token_of_response, verify_token};

fuzz_target!(|data: &[u8]| {
    certificates(data);
    revocation(data);
    time_stamps(data);
    if let Ok(attributes) = parse_signed_attrs_strict(data) {
        assert_eq!(data[0], 0x31);
        assert!(attributes.present.len() >= 3);
    }
    if let Ok(signed) = SignedData::parse(data) {
        for signer in &signed.signers {
            assert!(
                signer
                    .verify(&signed.content_type, &|_| vec![7; 32], &[])
                    .is_err()
            );
        }
    }
});

fn certificates(data: &[u8]) {
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
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Certificate::parse_pem(text);
    }
}

fn revocation(data: &[u8]) {
    let _ = Crl::parse(data);
    let _ = BasicResponse::parse(data);
    if let Ok(request) = OcspRequest::parse(data) {
        assert_eq!(OcspRequest::parse(&request.encode()), Ok(request));
    }
}

fn time_stamps(data: &[u8]) {
    let _ = token_of_response(data);
    assert!(verify_token(data, &|_| vec![7; 32], None, &[], &[]).is_err());
    if let Ok(request) = TimeStampReq::parse(data) {
        let written = request.encode().expect("what was read can be written");
        assert_eq!(TimeStampReq::parse(&written), Ok(request));
    }
    if let Ok(info) = TstInfo::parse(data) {
        let written = info.encode().expect("what was read can be written");
        let again = TstInfo::parse(&written).expect("and read again");
        assert_eq!(
            (again.gen_time, again.imprint),
            (info.gen_time, info.imprint)
        );
    }
}
