//! Hostile authenticators: registrations and assertions never panic, and nothing verifies that no key of ours signed.
#![no_main]

use std::sync::LazyLock;

use core_types::{B64, Digest32};
use libfuzzer_sys::fuzz_target;
use webauthn::cbor::Cbor;
use webauthn::{
    Assertion, Attestation, CoseKey, Passkey, Registration, RelyingParty, verify_assertion,
    verify_registration,
};

const CHALLENGE: Digest32 = Digest32([7; 32]);

static RP: LazyLock<RelyingParty> = LazyLock::new(|| RelyingParty {
    origin: "https://sic.example".into(),
    rp_id: "sic.example".into(),
});

static CLIENT: LazyLock<[String; 2]> = LazyLock::new(|| {
    ["create", "get"].map(|kind| {
        format!(r#"{{"type":"webauthn.{kind}","challenge":"{CHALLENGE}","origin":"https://sic.example"}}"#)
    })
});

fuzz_target!(|data: &[u8]| {
    if let Ok((item, rest)) = Cbor::read(data) {
        assert!(rest.len() < data.len());
        let _ = CoseKey::from_cbor(&item);
    }
    let registration = |client_data| Registration {
        id: &[1, 2],
        client_data,
        attestation: data,
        transports: &[],
    };
    let _ = verify_registration(&RP, CHALLENGE, registration(CLIENT[0].as_bytes()));
    assert!(verify_registration(&RP, CHALLENGE, registration(data)).is_err());
    let passkey = Passkey {
        id: B64(vec![1, 2]),
        key: CoseKey::Eddsa {
            x: Digest32([9; 32]),
        },
        aaguid: B64(vec![0; 16]),
        counter: 0,
        backup_eligible: true,
        transports: Vec::new(),
        attestation: Attestation::None,
    };
    let assertion = |auth_data, client_data| Assertion {
        id: &[1, 2],
        auth_data,
        client_data,
        sig: data,
    };
    assert!(
        verify_assertion(
            &RP,
            CHALLENGE,
            &passkey,
            assertion(data, CLIENT[1].as_bytes())
        )
        .is_err()
    );
    assert!(verify_assertion(&RP, CHALLENGE, &passkey, assertion(data, data)).is_err());
});
