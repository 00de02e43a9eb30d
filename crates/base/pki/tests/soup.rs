//! Whatever bytes arrive, every parser answers with a value.

use core_types::{HashAlg, SigAlg, UnixTime};
use pki::path::{Purpose, validate};
use pki::{Certificate, Signed, alg, cms, crl, csr, name, ocsp, pem, tsp, verify_signature};
use proptest::prelude::*;

/// Soup with some structure: random tags around random lengths, so that more than the first check is reached.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop::collection::vec(any::<u8>(), 0..40);
    leaf.prop_recursive(6, 64, 5, |inner| {
        let tag = prop::sample::select(vec![
            0x30u8, 0x31, 0x02, 0x03, 0x04, 0x06, 0x17, 0x18, 0xa0, 0xa1, 0xa2, 0x80, 0x82, 0x0a,
            0x01,
        ]);
        (tag, prop::collection::vec(inner, 0..5)).prop_map(|(tag, parts)| {
            let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            pki::asn1::tlv(tag, &parts)
        })
    })
}

fn feed(bytes: &[u8]) {
    if let Ok(cert) = Certificate::parse(bytes) {
        let _ = cert.info();
    }
    let _ = crl::Crl::parse(bytes);
    let _ = ocsp::BasicResponse::parse(bytes);
    let _ = ocsp::OcspRequest::parse(bytes);
    let _ = tsp::TimeStampReq::parse(bytes);
    let _ = tsp::TstInfo::parse(bytes);
    let _ = tsp::token_of_response(bytes);
    let _ = tsp::verify_token(bytes, &|h| h.digest(b""), None, &[], &[]);
    let _ = cms::SignedData::parse(bytes);
    let _ = cms::parse_signed_attrs_strict(bytes);
    let _ = cms::minimal_signed_attrs(b"", bytes);
    let _ = cms::add_unsigned_attribute(bytes, b"");
    let _ = csr::Csr::verify(bytes);
    let _ = csr::request_info_key(bytes);
    let _ = name::to_text(bytes);
    let _ = name::attribute(bytes, pki::oid::COMMON_NAME);
    let _ = alg::decode_sig_alg(bytes, Some(HashAlg::Sha256));
    let _ = alg::decode_hash_alg(bytes);
    let _ = alg::key_alg(bytes);
    let _ = pem::decode_all("CERTIFICATE", &String::from_utf8_lossy(bytes));
    let list = [bytes.to_vec()];
    let _ = validate(bytes, &list, &list, UnixTime(0), Purpose::Any);
    for alg in SigAlg::all() {
        assert!(verify_signature(bytes, alg, Signed::Message(bytes), bytes).is_err());
        assert!(verify_signature(bytes, alg, Signed::Digest(bytes), bytes).is_err());
    }
}

proptest! {
    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        feed(&bytes);
    }

    #[test]
    fn structured_bytes(bytes in soup()) {
        feed(&bytes);
    }
}
