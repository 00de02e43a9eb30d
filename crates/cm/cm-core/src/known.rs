//! Known answers of what orders, imports and values are judged with: each with its negative case, so that a verification that
//! always says yes is found too. The keys are those of RFC 7515 §A.3 and RFC 7518 §C, and an RSA key of no use; the values were
//! made by another implementation (pyca/cryptography 48).

use core_types::bytes::from_b64u;
use core_types::{Digest32, HashAlg, SecretBytes, SigAlg};
use jose::{JweContext, Jwk, SealKey};

use crate::backend::Fault;
use crate::selftest::pass;

/// What is signed or sealed.
const MESSAGE: &[u8] = b"known answer";
const TYP_JWS: &str = "natsuin-test+jws";
const TYP_JWE: &str = "natsuin-test+jwe";
const JWK: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
/// ES256, as orders and statements are signed.
const JWS: &str = "eyJhbGciOiJFUzI1NiIsInR5cCI6Im5hdHN1aW4tdGVzdCtqd3MiLCJraWQiOiJvS0l5d3ZHVXBUVlR5eE1RM2J3SUllUVV1ZGZyX0NrTE1qQ0UxOUVDRC1VIn0.a25vd24gYW5zd2Vy.hzjhYs8GVxeV5WjJ1KTQEQLJvV9ZK4aU1Xu7Sq6uFoQuEte2Xepy5PSFozMI7nsxhCt4gCf2UeqwJFtpgBXYoQ";
/// The recipient of the message.
const PRIVATE: &str = "VEmDZpDXXK8p8N0Cndsxs924q6nS1RXFASRl6BfUqdw";
/// ECDH-ES on P-256 with A256GCM, as imports are sealed.
const JWE: &str = "eyJhbGciOiJFQ0RILUVTIiwiZW5jIjoiQTI1NkdDTSIsInR5cCI6Im5hdHN1aW4tdGVzdCtqd2UiLCJraWQiOiJWeTU3WHJBclVyVzBOYnBJMTJ0RXpESEFCeE13clRoNkhIWFJlblNwbkNvIiwiZXBrIjp7Imt0eSI6IkVDIiwiY3J2IjoiUC0yNTYiLCJ4IjoiZ0kwR0FJTEJkdTdUNTNha3JGbU15R2NzRjNuNWRPN01td05CSEtXNVNWMCIsInkiOiJTTFdfeFNmZnpsUFdySEVWSTMwREhNXzRlZ1Z3dDNOUXFlVUQ3bk1GcHBzIn0sImFwdSI6IkFRRUJBUUVCQVFFQkFRRUJBUUVCQVFFQkFRRUJBUUVCQVFFQkFRRUJBUUUiLCJhcHYiOiJWeTU3WHJBclVyVzBOYnBJMTJ0RXpESEFCeE13clRoNkhIWFJlblNwbkNvIn0..AAECAwQFBgcICQoL.T6XuiMHRItzSTo5d.IiXHMwln9Rll6vw-m8Kotw";
/// Values of keys: algorithm, public key (SubjectPublicKeyInfo), value.
const VALUES: [(SigAlg, &str, &str); 2] = [
    (
        SigAlg::Ecdsa(HashAlg::Sha256),
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEXH8UTNG72bfocs3-257rn0s2ldbqkLJK2KRiMohYjlrQ",
        "MEUCIGAusTdYF1DsoSJjnuD47QuiaGh4-7GS8jlFtLKwc0_jAiEAhbaRazpHmu6YKFi0a5I9w3BL5fD6ifZ5lJYqYBNnCjc",
    ),
    (
        SigAlg::RsaPkcs1(HashAlg::Sha256),
        "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAvFUM21AqRht2Y1gEQQR1BgK0hjbHydHl_lxTpZ1qnJyJROGw8E0FTukwiF0xwDrRg1IrAk-TPPgYECKjY-v4vBamgowopkbR9RCaZRI98-OLMv2rXD0ZnplAvrWSd_XqloXhi0cff0nJLn8_T5feWPkU04ZrXeYdaPtGCKmhGKKpipgI0ql6Olhe5_Si5Nle0G8ATPjR_y8IEHuF8IcGzzC2jZx6pGEnimglwyjzLjQHN8248Ry4bYTiB1ds3eqSgKJURTfFMON_f8Ygf8qATtQz8hkhbr_IHKie6ECJqcpgwbnysUfFT1ttfibvHv49TwKUOsIvPIAQyaIGviCUBwIDAQAB",
        "h5WBYCeVQ-YVqqH3MgthCB-LgYlusHOi7pRSuJKUZHf0nP34anpK9JEyOIFkO8Q_cmj6J9ITWKpeENrhyiDENUVlVPLWXV4UEakESfAA1CqOeQwlZYBwtE44zjXZlV0fIRTKL0MksG1oMfixfqpjfbmxlF_0DXEUr5cyk5BhpYwk7xyBS2VxEwPBKIw102pNt6Z5RN5JF33FNPt1WeqYtJycgC-j6RukmZ1rL5Dapgg3x3PwWfIUchKBu5vT-qgy7bQWPAI_auzN7Am5rOGNLy3Fqtnqu4yH6FuXpYJIwCym98goFia626MqQWptOdOWtidn3DGThWqU0T7aqZdtAw",
    ),
];

/// Runs all of them.
///
/// # Errors
/// [`Fault::Broken`], naming the first that failed.
pub(crate) fn run() -> Result<(), Fault> {
    let verified = serde_json::from_str(JWK).is_ok_and(|key: Jwk| {
        order(|jws| jose::verify(jws, TYP_JWS, &key).is_ok_and(|payload| payload == MESSAGE))
    });
    pass(verified, "known answer of verifying an order")?;
    pass(import(opened), "known answer of opening an import")?;
    let values = VALUES.iter().all(|(alg, spki, made)| {
        value(spki, made, |spki, message, value| {
            let signed = pki::Signed::Message(message);
            pki::verify_signature(spki, *alg, signed, value).is_ok()
        })
    });
    pass(values, "known answer of verifying a value")
}

/// Whether the order verifies, and none with another payload or value.
fn order(verifies: impl Fn(&str) -> bool) -> bool {
    let altered = [JWS.replace(".a25v", ".a25u"), JWS.replace(".hzjh", ".hzji")];
    verifies(JWS) && !altered.iter().any(|jws| verifies(jws))
}

/// Whether the message opens, and not for another act or with another bit.
fn import(opens: impl Fn(&str, Digest32) -> bool) -> bool {
    let act = Digest32([1; 32]);
    let altered = JWE.replace(".T6Xu", ".T6Xv");
    opens(JWE, act) && !opens(JWE, Digest32([2; 32])) && !opens(&altered, act)
}

fn opened(jwe: &str, apu: Digest32) -> bool {
    let private = from_b64u(PRIVATE).map(SecretBytes::new);
    let key = private.ok().and_then(|p| SealKey::from_private(&p).ok());
    let context = JweContext { typ: TYP_JWE, apu };
    key.and_then(|key| key.open(jwe, context).ok())
        .is_some_and(|plain| plain.ct_eq(MESSAGE))
}

/// Whether the value verifies, and neither over another message nor with another bit.
fn value(spki: &str, value: &str, verifies: impl Fn(&[u8], &[u8], &[u8]) -> bool) -> bool {
    let (Ok(spki), Ok(value)) = (from_b64u(spki), from_b64u(value)) else {
        return false;
    };
    let mut altered = value.clone();
    if let Some(last) = altered.last_mut() {
        *last ^= 1;
    }
    verifies(&spki, MESSAGE, &value)
        && !verifies(&spki, b"known answers", &value)
        && !verifies(&spki, MESSAGE, &altered)
}

#[cfg(test)]
mod tests {
    use super::*;

    // shows: III-3-13-detect-software
    #[test]
    fn a_verification_that_always_says_the_same_is_seen() {
        run().unwrap();
        for always in [true, false] {
            assert!(!order(|_| always));
            assert!(!import(|_, _| always));
            for (alg, spki, made) in &VALUES {
                assert!(!value(spki, made, |_, _, _| always), "{alg}");
            }
        }
        // An act that isn't looked at.
        assert!(!import(|jwe, _| opened(jwe, Digest32([1; 32]))));
    }
}
