//! Hostile JOSE: nothing verifies or opens that we didn't make.
#![no_main]

use std::sync::LazyLock;

use core_types::{Digest32, UnixTime};
use jose::openid::{Expected, identify};
use jose::{JweContext, Jwk, SealKey, SigningKey};
use libfuzzer_sys::fuzz_target;

static KEYS: LazyLock<(SigningKey, SealKey)> = LazyLock::new(|| {
    let (signing, _) = SigningKey::generate().expect("a key");
    let (seal, _) = SealKey::generate().expect("a key");
    (signing, seal)
});

const CONTEXT: JweContext<'static> = JweContext {
    typ: "natsuin-sad+jwe",
    apu: Digest32([7; 32]),
};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (signing, seal) = &*KEYS;
    let _ = jose::kid_of(text, "natsuin-act+jws");
    assert!(jose::verify(text, "natsuin-act+jws", signing.public()).is_err());
    assert!(seal.open(text, CONTEXT).is_err());
    if let Ok(jws) = jose::ForeignJws::read(text) {
        let own = serde_json::to_value(signing.public()).expect("a JWK");
        let own = jose::ForeignKey::parse(&own).expect("our own key");
        assert!(jws.verify(&own).is_err());
        let _ = (jws.typ(), jws.kid(), jws.jwk());
        let expected = Expected {
            issuer: "https://op.example",
            audience: "natsuin",
            nonce: "n",
            acr: &[],
            amr: &[],
            since: None,
            now: UnixTime(1_800_000_000),
        };
        assert!(identify(text, &[own], expected).is_err());
    }
    if let Ok(value) = serde_json::from_str(text) {
        let _ = jose::ForeignKey::parse(&value).map(|key| key.thumbprint());
    }
    if let Ok(key) = serde_json::from_str::<Jwk>(text) {
        assert_eq!(Jwk::from_point(&key.point()).expect("its own point"), key);
    }
});
