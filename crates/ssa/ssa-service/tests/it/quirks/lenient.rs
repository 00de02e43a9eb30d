//! What a contract that has its client read leniently lets pass (`csc_types::habits`), and what no contract does.

use axum::http::StatusCode;
use core_types::HashAlg;
use core_types::bytes::b64;
use serde_json::{Value, json};
use ssa_service::ClientSettings;

use super::sequences::P256;
use super::{approved, approved_token, raw};
use crate::web::{
    Answer, Browser, REDIRECT, Stack, VERIFIER, credential_request, encode, hash, service_request,
    stacks, with,
};

pub(super) fn lenient() -> ClientSettings {
    ClientSettings {
        lenient: true,
        ..ClientSettings::default()
    }
}

/// Its hash, percent-encoded.
fn percent(n: u8) -> String {
    b64(hash(n))
        .replace('+', "%2B")
        .replace('/', "%2f")
        .replace('=', "%3D")
}

async fn redeem(stack: &Stack, headers: &[(&str, &str)], query: &str, body: &str) -> Answer {
    raw(stack, &format!("/oauth2/token{query}"), headers, body).await
}

// shows: T-USE-SAP-BYPASS
#[tokio::test]
async fn what_can_mean_one_thing_only_passes_by_contract_and_by_nothing_else() {
    for stack in stacks().await {
        let person = stack.users["hanako"].person.clone();
        stack
            .sam
            .add_key(&person, "key-explicit", core_types::KeyAlg::P256);
        let service = stack.service_token("app", "hanako").await;
        let sign = |hashes: (&str, Value)| {
            let mut body = json!({ "credentialID": "key-hanako", "signAlgo": P256 });
            body[hashes.0] = hashes.1;
            body
        };
        let secrets = json!({ "credentialID": "key-explicit", "numSignatures": "1", "hash": [b64(hash(1))],
            "hashAlgo": HashAlg::Sha256.oid(), "PIN": "secret pin", "OTP": "123456" });
        let mut later = sign(("hashes", json!([b64(hash(1))])));
        later["operationMode"] = json!("A");
        later["validityPeriod"] = json!("0");
        let document = json!({ "credentialID": "key-hanako", "documents": [{ "document": "AQID",
            "signature_format": "C", "signAlgo": P256 }], "returnValidationInfo": true });
        for allowed in [false, true] {
            if allowed {
                stack.contract("app", &lenient()).await;
            }
            let passes = StatusCode::OK;
            for (number, method, signs, body, status) in [
                (
                    "#4",
                    "credentials/list",
                    false,
                    json!({ "credentialInfo": "true", "onlyValid": "False" }),
                    passes,
                ),
                (
                    "#23",
                    "signatures/signHash",
                    true,
                    sign(("hashes", json!([percent(1)]))),
                    passes,
                ),
                (
                    "#24",
                    "signatures/signHash",
                    true,
                    sign(("hash", json!([b64(hash(1))]))),
                    passes,
                ),
                (
                    "#4, #24",
                    "credentials/authorize",
                    false,
                    secrets.clone(),
                    passes,
                ),
                // Read as what is meant, which is too short.
                (
                    "#46",
                    "signatures/signHash",
                    true,
                    later.clone(),
                    StatusCode::BAD_REQUEST,
                ),
            ] {
                let token = match signs {
                    true => approved_token(&stack).await,
                    false => service.clone(),
                };
                let answer = stack.csc(method, &token, &body.to_string()).await;
                let told = answer.told();
                match (allowed, number) {
                    (true, "#46") => {
                        assert_eq!(told.2, "Out of bounds parameter validity_period", "#46");
                    }
                    // Members that nobody knows are passed over.
                    (false, "#46") => assert_eq!(answer.status, StatusCode::OK, "#46"),
                    (true, _) => assert_eq!(answer.status, status, "{number}: {}", answer.body),
                    (false, _) => assert_eq!(told.0, 400, "{number}"),
                }
            }
            // Nobody has validation data; who wants some all the same gets the signature.
            let token = stack.document_token("app", "hanako", &[hash(1)]).await;
            let signed = stack
                .csc("signatures/signDoc", &token, &document.to_string())
                .await;
            let wanted = if allowed { 200 } else { 400 };
            assert_eq!(signed.status.as_u16(), wanted, "#48: {}", signed.body);
        }
    }
}

#[tokio::test]
async fn a_token_request_in_another_form_passes_by_contract_and_spends_nothing_without() {
    for stack in stacks().await {
        let secret = stack.clients["app"].clone();
        let basic = format!("Basic {}", b64(format!("app:{secret}")));
        let pairs = |code: &str| {
            [
                ("grant_type", "authorization_code".to_owned()),
                ("code", code.to_owned()),
                ("client_id", "app".to_owned()),
                ("redirect_uri", REDIRECT.to_owned()),
                ("code_verifier", VERIFIER.to_owned()),
            ]
        };
        let json_type = ("content-type", "application/json; charset=utf-8");
        let as_json = |code: &str| {
            let mut body = json!({ "client_secret": secret, "authorization_details": null });
            for (name, value) in pairs(code) {
                body[name] = json!(value);
            }
            body.to_string()
        };
        let address = |code: &str| format!("?{}", encode(&pairs(code)));
        let code = approved(&stack, |_| ()).await;
        let refused = "Missing parameter grant_type".to_owned();
        let strict = redeem(&stack, &[json_type], "", &as_json(&code)).await;
        assert_eq!(strict.error(), (400, refused.clone()), "#33");
        let proof = [("authorization", basic.as_str())];
        let strict = redeem(&stack, &proof, &address(&code), "").await;
        assert_eq!(strict.error(), (400, refused), "#43");

        stack.contract("app", &lenient()).await;
        // No contract makes a secret in the address one, two texts one, or a wrong secret right.
        let told = format!("{}&client_secret={secret}", address(&code));
        let answer = redeem(&stack, &[], &told, "").await;
        assert_eq!(answer.error().1, "Missing parameter client_id");
        let twice = as_json(&code).replacen('{', r#"{"code":"other","#, 1);
        let answer = redeem(&stack, &[json_type], "", &twice).await;
        assert_eq!(answer.error(), (400, "Invalid parameter body".to_owned()));
        let guessed = as_json(&code).replace(&secret, "guess");
        let answer = redeem(&stack, &[json_type], "", &guessed).await;
        assert_eq!(answer.told().1, "invalid_client");
        let good = redeem(&stack, &[json_type], "", &as_json(&code)).await;
        assert_eq!(good.status, StatusCode::OK, "#33: {}", good.body);
        // Nor does one take from there what another could use who reads it there.
        for (grant, name) in [
            ("refresh_token", "refresh_token"),
            (
                "urn:ietf:params:oauth:grant-type:device_code",
                "device_code",
            ),
        ] {
            let told = encode(&[("grant_type", grant), (name, "x")]);
            let answer = redeem(&stack, &proof, &format!("?client_id=app&{told}"), "").await;
            assert_eq!(answer.error().1, "Missing parameter grant_type", "{grant}");
        }
        // A code counts once in whatever form.
        let again = redeem(&stack, &proof, &address(&code), "").await;
        assert_eq!(again.told().1, "invalid_grant");
        // What may be left out may be unreadable: what else it says is another matter.
        for odd in [
            "&authorization_details=type",
            "&authorization_details=a&authorization_details=b",
        ] {
            let code = approved(&stack, |_| ()).await;
            let address = format!("{}{odd}", address(&code));
            let good = redeem(&stack, &proof, &address, "").await;
            assert_eq!(good.status, StatusCode::OK, "#43, #45: {}", good.body);
        }
        let code = approved(&stack, |_| ()).await;
        let others = json!([{ "type": "credential", "credentialID": "key-hanako", "numSignatures": 1,
            "hashAlgorithmOID": HashAlg::Sha256.oid(), "documentDigests": [{ "hash": b64(hash(9)) }] }]);
        let others = encode(&[("authorization_details", others.to_string())]);
        let address = format!("{}&{others}", address(&code));
        let answer = redeem(&stack, &proof, &address, "").await;
        assert_eq!(answer.told().1, "invalid_authorization_details");
    }
}

// shows: T-USE-DTBSR-FORGE
#[tokio::test]
async fn a_lenient_contract_approves_and_signs_nothing_else() {
    for stack in stacks().await {
        stack.contract("app", &lenient()).await;
        // #47: a bare + of base64, which arrives as a space; each way of writing asks for the same bytes.
        let n = (0..=255).find(|n| b64(hash(*n)).contains('+')).unwrap();
        let mut plain = with(service_request("app"), "scope", Some("credential"));
        plain.extend([
            ("credentialID", "key-hanako".to_owned()),
            ("numSignatures", "1".to_owned()),
            ("hash", b64(hash(n)).replace('+', " ")),
        ]);
        let printed = format!(
            "[{{'type': 'credential', 'credentialID': 'key-hanako', 'numSignatures': '1', \
             'hashAlgorithmOID': '{}', 'documentDigests': [{{'hash': '{}', 'label': 'a'}}]}}]",
            HashAlg::Sha256.oid(),
            percent(n)
        );
        let details = with(
            credential_request("app", "key-hanako", &[]),
            "authorization_details",
            Some(&printed),
        );
        for (number, form) in [("#47", plain), ("#4, #21, #23", details)] {
            Browser::new(&stack).approve_for_code(&form, "hanako").await;
            stack.next_code();
            let asked = stack.sam.with(|s| {
                let all = s.requests.drain().map(|(_, request)| request);
                all.flat_map(|request| request.asked.items)
                    .map(|item| item.h.0)
                    .collect::<Vec<_>>()
            });
            assert_eq!(asked, [hash(n)], "{number}");
        }
        let signing = approved_token(&stack).await;
        let service = stack.service_token("app", "hanako").await;
        let sign = json!({ "credentialID": "key-hanako", "signAlgo": P256, "hash": [percent(2)] });
        let answer = stack
            .csc("signatures/signHash", &signing, &sign.to_string())
            .await;
        assert_eq!(answer.told().2, "Hash is not authorized by the SAD");
        let person = stack.users["hanako"].person.clone();
        stack
            .sam
            .add_key(&person, "key-explicit", core_types::KeyAlg::P256);
        let guess = json!({ "credentialID": "key-explicit", "numSignatures": "1", "hash": [b64(hash(1))],
            "hashAlgo": HashAlg::Sha256.oid(), "PIN": "guess", "OTP": "123456" });
        let answer = stack
            .csc("credentials/authorize", &service, &guess.to_string())
            .await;
        assert_eq!(answer.told().1, "invalid_authentication_data");
        // Another client's contract is not one's own.
        let other = stack.service_token("other", "hanako").await;
        let body = r#"{"credentialInfo":"true"}"#;
        let answer = stack.csc("credentials/list", &other, body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    }
}
