//! Explicit mode through both versions: an application collected PIN and one-time code.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use core_types::bytes::b64;
use core_types::{HashAlg, KeyAlg};
use sam_api::Refusal;
use serde_json::{Value, json};
use service_kit::CallError;

use crate::web::{Answer, Browser, Stack, credential_request, hash, stacks};

const KEY: &str = "key-explicit";
const P256: &str = "1.2.840.10045.4.3.2";

async fn call(stack: &Stack, version: u8, method: &str, token: &str, body: &Value) -> Answer {
    let request = Request::post(format!("/csc/v{version}/{method}"))
        .header(header::AUTHORIZATION, format!("bearer {token}"))
        .header(header::CONTENT_TYPE, "application/json; charset=utf-8");
    stack
        .send(request.body(Body::from(body.to_string())).unwrap())
        .await
}

fn v1_body(change: impl FnOnce(&mut Value)) -> Value {
    let mut body = json!({ "credentialID": KEY, "numSignatures": 1, "hash": [b64(hash(1))], "PIN": "secret pin", "OTP": "123456" });
    change(&mut body);
    body
}

fn v2_body(change: impl FnOnce(&mut Value)) -> Value {
    let mut body = json!({ "credentialID": KEY, "numSignatures": 1, "hashes": [b64(hash(1))],
        "hashAlgorithmOID": HashAlg::Sha256.oid(),
        "authData": [{ "id": "PIN", "value": "secret pin" }, { "id": "OTP", "value": "123456" }] });
    change(&mut body);
    body
}

/// A service token of Hanako, who has a key for explicit mode beside the one for the approval page.
async fn service(stack: &Stack) -> String {
    let person = stack.users["hanako"].person.clone();
    stack.sam.add_key(&person, KEY, KeyAlg::P256);
    stack.service_token("app", "hanako").await
}

// shows: I-5.2.2-flow-may-vary
#[tokio::test]
async fn both_versions_authorize_and_sign_with_their_own_members() {
    for stack in stacks().await {
        let token = service(&stack).await;
        let list = call(
            &stack,
            1,
            "credentials/list",
            &token,
            &json!({ "maxResults": 3 }),
        )
        .await;
        assert_eq!(list.json(), json!({ "credentialIDs": ["key-hanako", KEY] }));
        let info = json!({ "credentialID": KEY, "authInfo": true, "certificates": "chain" });
        let v1 = call(&stack, 1, "credentials/info", &token, &info)
            .await
            .json();
        assert_eq!(
            (
                &v1["authMode"],
                &v1["SCAL"],
                &v1["PIN"]["presence"],
                &v1["OTP"]["type"]
            ),
            (
                &json!("explicit"),
                &json!("2"),
                &json!("true"),
                &json!("offline")
            )
        );
        assert!(v1.get("auth").is_none() && v1["multisign"].is_number());
        let v2 = call(&stack, 2, "credentials/info", &token, &info)
            .await
            .json();
        assert_eq!(v2["auth"]["mode"], "explicit");
        assert_eq!(v2["auth"]["objects"][1]["id"], "OTP");
        assert!(v2.get("authMode").is_none());

        for version in [1, 2] {
            let body = if version == 1 {
                v1_body(|_| ())
            } else {
                v2_body(|_| ())
            };
            let granted = call(&stack, version, "credentials/authorize", &token, &body).await;
            assert_eq!(granted.status, StatusCode::OK, "{}", granted.body);
            let sad = granted.text("SAD");
            assert!(granted.json()["expiresIn"].as_u64().unwrap() <= 300);
            let sign = match version {
                1 => {
                    json!({ "credentialID": KEY, "SAD": sad, "hash": [b64(hash(1))], "hashAlgo": HashAlg::Sha256.oid(), "signAlgo": P256 })
                }
                _ => {
                    json!({ "credentialID": KEY, "SAD": sad, "hashes": [b64(hash(1))], "signAlgo": P256 })
                }
            };
            let signed = call(&stack, version, "signatures/signHash", &token, &sign).await;
            assert_eq!(
                signed.json()["signatures"].as_array().map(Vec::len),
                Some(1)
            );
            let again = call(&stack, version, "signatures/signHash", &token, &sign).await;
            assert_eq!(again.told().2, "Invalid parameter SAD");
            // Revoked before its use it is nothing.
            let granted = call(&stack, version, "credentials/authorize", &token, &body).await;
            let sad = granted.text("SAD");
            let revoke = json!({ "token": sad });
            let done = call(&stack, version, "auth/revoke", &token, &revoke).await;
            assert_eq!(done.status, StatusCode::NO_CONTENT);
            let mut sign = sign;
            sign["SAD"] = json!(sad);
            let signed = call(&stack, version, "signatures/signHash", &token, &sign).await;
            assert_eq!(signed.told().0, 400);
        }
        let info = call(&stack, 1, "info", "x", &json!({})).await.json();
        assert_eq!(info["specs"], "1.0.3.0");
        assert!(info.get("signAlgorithms").is_none());
        let methods = info["methods"].as_array().unwrap();
        assert!(methods.contains(&json!("credentials/authorize")));
    }
}

// shows: T-USE-SAP-BYPASS, T-USE-DTBSR-FORGE
#[tokio::test]
async fn faults_have_the_words_of_each_version_and_authorize_nothing() {
    for stack in stacks().await {
        let token = service(&stack).await;
        let other = stack.service_token("other", "taro").await;
        let set = |name: &'static str, value: Value| {
            (
                v1_body(|b| b[name] = value.clone()),
                v2_body(|b| b[if name == "hash" { "hashes" } else { name }] = value.clone()),
            )
        };
        let request = |text: &str| (400, "invalid_request".to_owned(), text.to_owned());
        let cases = [
            (
                set("credentialID", Value::Null),
                "Missing (or invalid type) string parameter credentialID",
            ),
            (
                set("credentialID", json!("nobodys")),
                "Invalid parameter credentialID",
            ),
            // A key of the approval page, and somebody else's.
            (
                set("credentialID", json!("key-hanako")),
                "Invalid parameter credentialID",
            ),
            (
                set("credentialID", json!("key-taro")),
                "Invalid parameter credentialID",
            ),
            (
                set("numSignatures", json!("1")),
                "Missing (or invalid type) integer parameter numSignatures",
            ),
            (
                set("numSignatures", json!(0)),
                "Invalid value for parameter numSignatures",
            ),
            (
                set("numSignatures", json!(2)),
                "Invalid value for parameter numSignatures",
            ),
            (
                set("numSignatures", json!(20_000)),
                "Numbers of signatures is too high",
            ),
            (
                set("hash", json!([])),
                "Missing (or invalid type) array parameter hash",
            ),
            (
                set("hash", json!(["*"])),
                "Invalid Base64 hash string parameter",
            ),
            (
                set("hash", json!([b64([1; 20])])),
                "Invalid digest value length",
            ),
        ];
        for ((v1, v2), text) in cases {
            for (version, body) in [(1, v1), (2, v2)] {
                let answer = call(&stack, version, "credentials/authorize", &token, &body).await;
                assert_eq!(answer.told(), request(text), "v{version} {body}");
            }
        }
        let wrong = |v2: bool, pin: &str, otp: &str| match v2 {
            false => v1_body(|b| (b["PIN"], b["OTP"]) = (json!(pin), json!(otp))),
            true => v2_body(|b| {
                b["authData"] =
                    json!([{ "id": "PIN", "value": pin }, { "id": "OTP", "value": otp }]);
            }),
        };
        // Which of the two was wrong isn't told, and a missing one is a wrong one.
        for (pin, otp) in [
            ("secret pin", "000000"),
            ("guess", "123456"),
            ("", "123456"),
            ("secret pin", ""),
        ] {
            let v1 = call(
                &stack,
                1,
                "credentials/authorize",
                &token,
                &wrong(false, pin, otp),
            )
            .await;
            assert_eq!(
                v1.told(),
                (
                    400,
                    "invalid_pin".to_owned(),
                    "The PIN or the OTP is invalid".to_owned()
                )
            );
            let v2 = call(
                &stack,
                2,
                "credentials/authorize",
                &token,
                &wrong(true, pin, otp),
            )
            .await;
            assert_eq!(
                v2.told(),
                (
                    400,
                    "invalid_authentication_data".to_owned(),
                    "The authentication data is invalid".to_owned()
                )
            );
            stack.sam.with(|s| s.explicit = 0);
        }
        // What can't be a code is said to be none, whatever the PIN is, and costs no try.
        for (pin, otp) in [
            ("secret pin", "12345"),
            ("guess", "abcdef"),
            ("guess", "1234567"),
        ] {
            for (version, code, words) in [
                (1, "invalid_otp", "The OTP is invalid"),
                (
                    2,
                    "invalid_authentication_data",
                    "The authentication data is invalid",
                ),
            ] {
                let body = wrong(version == 2, pin, otp);
                let method = "credentials/authorize";
                let told = call(&stack, version, method, &token, &body).await.told();
                assert_eq!(told, (400, code.to_owned(), words.to_owned()), "{otp}");
            }
        }
        assert_eq!(stack.sam.with(|s| s.explicit), 0);
        for _ in 0..5 {
            call(
                &stack,
                2,
                "credentials/authorize",
                &token,
                &wrong(true, "guess", "123456"),
            )
            .await;
        }
        let locked = call(&stack, 2, "credentials/authorize", &token, &v2_body(|_| ())).await;
        assert_eq!(locked.told(), request("Credential locked"));
        let locked = call(&stack, 1, "credentials/authorize", &token, &v1_body(|_| ())).await;
        assert_eq!(locked.told(), request("PIN locked"));
        stack.sam.with(|s| s.explicit = 0);

        // Somebody else's login, no login, and a token that signs.
        let answer = call(&stack, 2, "credentials/authorize", &other, &v2_body(|_| ())).await;
        assert_eq!(answer.told().2, "Invalid parameter credentialID");
        let answer = call(
            &stack,
            1,
            "credentials/authorize",
            "unknown",
            &v1_body(|_| ()),
        )
        .await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        let mut browser = Browser::new(&stack);
        let signing = credential_request("app", "key-hanako", &[hash(1)]);
        let code = browser.approve_for_code(&signing, "hanako").await;
        let tokens = stack.exchange("app", &code).await.json();
        let signing = tokens["access_token"].as_str().unwrap();
        let answer = call(
            &stack,
            2,
            "credentials/authorize",
            signing,
            &v2_body(|_| ()),
        )
        .await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        // And the other way round: no browser authorizes a key of applications.
        stack.next_code();
        let mut browser = Browser::new(&stack);
        let page = browser
            .authorize(&credential_request("app", KEY, &[hash(1)]))
            .await;
        let answer = browser.log_in_here(&page, "hanako").await;
        assert_eq!(
            answer.param("error").as_deref(),
            Some("invalid_authorization_details")
        );
        let requests = stack.sam.with(|s| s.requests.len());
        assert_eq!(requests, 1, "only the one through the browser");
    }
}

// shows: T-USE-DTBSR-FORGE
#[tokio::test]
async fn a_client_that_signs_its_requests_is_told_that_this_way_carries_none() {
    let settings = ssa_service::ClientSettings {
        out_of_band: true,
        ..ssa_service::ClientSettings::default()
    };
    for mut stack in stacks().await {
        crate::oauth::client(&mut stack, "terminal", settings.clone()).await;
        let own = service(&stack).await;
        stack.next_code();
        let elsewhere = stack.service_token("terminal", "hanako").await;
        let unsigned = Refusal::Invalid {
            member: "client_jws".to_owned(),
        };
        stack.sam.with(|s| s.prepare_refusal = Some(unsigned));
        let asked = v2_body(|body| {
            body["credentialID"] = json!("key-hanako");
            body["authData"] = json!([{ "id": "portal" }]);
        });
        for (version, token, body) in [
            (1, &own, v1_body(|_| ())),
            (2, &own, v2_body(|_| ())),
            (2, &elsewhere, asked),
        ] {
            let answer = call(&stack, version, "credentials/authorize", token, &body).await;
            let (status, error, words) = answer.told();
            assert_eq!((status, error.as_str()), (403, "unauthorized_client"));
            assert!(words.contains("signed request object"), "{words}");
        }
    }
}

// shows: T-USE-CAPTURE
#[tokio::test]
async fn codes_are_sent_by_the_sam_and_no_answer_holds_one() {
    for stack in stacks().await {
        let token = service(&stack).await;
        let person = stack.users["hanako"].person.clone();
        let coded = "key-coded-explicit";
        stack.sam.add_key(&person, coded, KeyAlg::P256);
        let info = json!({ "credentialID": coded, "authInfo": true });
        let v1 = call(&stack, 1, "credentials/info", &token, &info).await;
        assert_eq!(v1.json()["OTP"]["type"], "online");
        let v2 = call(&stack, 2, "credentials/info", &token, &info).await;
        let object = &v2.json()["auth"]["objects"][1];
        assert_eq!(
            (&object["type"], &object["id"]),
            (&json!("ChallengeResponse"), &json!("OTP"))
        );
        let send = json!({ "credentialID": coded });
        let challenge = json!({ "credentialID": coded, "authObjectID": "OTP" });
        for (version, method, body) in [
            (1, "credentials/sendOTP", &send),
            (2, "credentials/sendOTP", &send),
            (2, "credentials/getChallenge", &challenge),
        ] {
            let sent = call(&stack, version, method, &token, body).await;
            assert_eq!(
                (sent.status, sent.body.as_str()),
                (StatusCode::NO_CONTENT, "")
            );
        }
        let asked = stack.sam.with(|s| s.codes.clone());
        assert_eq!(asked.len(), 3);
        assert!(
            asked.iter().all(|a| a.key.as_str() == coded
                && a.client.as_str() == "app"
                && a.person == person)
        );

        let request = |text: &str| (400, "invalid_request".to_owned(), text.to_owned());
        let id = "Invalid parameter credentialID";
        for (method, body, text) in [
            (
                "sendOTP",
                json!({}),
                "Missing (or invalid type) string parameter credentialID",
            ),
            (
                "sendOTP",
                json!({ "credentialID": 1 }),
                "Missing (or invalid type) string parameter credentialID",
            ),
            ("sendOTP", json!({ "credentialID": "key-taro" }), id),
            ("sendOTP", json!({ "credentialID": KEY }), id),
            ("sendOTP", json!({ "credentialID": "key-hanako" }), id),
            ("getChallenge", json!({}), id),
            (
                "getChallenge",
                json!({ "credentialID": "key-taro", "authObjectID": "OTP" }),
                id,
            ),
            (
                "getChallenge",
                json!({ "credentialID": coded }),
                "Invalid parameter authObjectID",
            ),
            (
                "getChallenge",
                json!({ "credentialID": coded, "authObjectID": "PIN" }),
                "Invalid parameter authObjectID",
            ),
            (
                "getChallenge",
                json!({ "credentialID": KEY, "authObjectID": "OTP" }),
                "Invalid parameter authObjectID",
            ),
        ] {
            let method = format!("credentials/{method}");
            let answer = call(&stack, 2, &method, &token, &body).await;
            assert_eq!(answer.told(), request(text), "{method} {body}");
        }
        assert_eq!(stack.sam.with(|s| s.codes.len()), 3);
        for (refusal, status, text) in [
            (CallError::Refused(Refusal::Locked), 400, "OTP locked"),
            (
                CallError::Refused(Refusal::KeyNotActive),
                400,
                "The credential identified by credentialID is disabled",
            ),
            (
                CallError::Refused(Refusal::NotNow),
                503,
                "The service can't answer now; try again later",
            ),
            (
                CallError::Unknown,
                503,
                "The service can't answer now; try again later",
            ),
        ] {
            stack.sam.with(|s| s.code_refusals.push(refusal));
            let answer = call(&stack, 1, "credentials/sendOTP", &token, &send).await;
            let (code, _, words) = answer.told();
            assert_eq!((code, words.as_str()), (status, text));
        }
        // Version 1 has no such method.
        let none = call(&stack, 1, "credentials/getChallenge", &token, &challenge).await;
        assert_eq!(none.status, StatusCode::NOT_IMPLEMENTED);
    }
}
