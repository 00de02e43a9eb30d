//! `credentials/extendTransaction`: the next token, and its errors.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use core_types::bytes::{b64, b64u};
use core_types::{HashAlg, KeyAlg};
use sam_api::ssa::RequestState;
use serde_json::{Value, json};
use ssa_service::ClientSettings;

use crate::oauth::client;
use crate::web::{
    Answer, Browser, Form, Stack, credential_request, hash, service_request, stacks, with,
};

const METHOD: &str = "credentials/extendTransaction";

/// A credential token whose authorization may be renewed.
async fn renewable(stack: &Stack, hashes: &[Vec<u8>]) -> String {
    let mut form = credential_request("app", "key-hanako", hashes);
    for (name, value) in &mut form {
        if *name == "authorization_details" {
            let mut details: Value = serde_json::from_str(value).unwrap();
            details[0]["renewableFor"] = json!(900);
            *value = details.to_string();
        }
    }
    let mut browser = Browser::new(stack);
    let code = browser.approve_for_code(&form, "hanako").await;
    let answer = stack.exchange("app", &code).await;
    stack.next_code();
    answer.text("access_token")
}

fn sign(n: u8, sad: Option<&str>) -> String {
    let mut body = json!({ "credentialID": "key-hanako", "hashes": [b64(hash(n))],
        "signAlgo": "1.2.840.10045.4.3.2" });
    if let Some(sad) = sad {
        body["SAD"] = json!(sad);
    }
    body.to_string()
}

// shows: II-A1-multi-method-2
#[tokio::test]
async fn the_next_token_takes_the_place_of_the_one_before() {
    for stack in &stacks().await {
        let token = renewable(stack, &[hash(1), hash(2)]).await;
        let asked = stack
            .sam
            .with(|s| s.requests.values().next().unwrap().asked.renew);
        assert_eq!(
            asked, 900,
            "what the client asks for reaches the signer's page"
        );
        assert_eq!(
            stack
                .csc("signatures/signHash", &token, &sign(1, None))
                .await
                .status,
            StatusCode::OK
        );
        let body = json!({ "credentialID": "key-hanako", "SAD": token, "hashes": [b64(hash(2))] });
        let answer = stack.csc(METHOD, &token, &body.to_string()).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        let next = answer.json();
        assert!(
            (1..=300).contains(&next["expiresIn"].as_i64().unwrap()),
            "{next}"
        );
        let next = next["SAD"].as_str().unwrap().to_owned();
        assert_ne!(next, token);
        // The new one is a bearer token and a SAD; the old one is neither.
        let signed = stack
            .csc("signatures/signHash", &next, &sign(2, Some(&next)))
            .await;
        assert_eq!(signed.status, StatusCode::OK, "{}", signed.body);
        for call in ["signatures/signHash", METHOD] {
            assert_eq!(
                stack.csc(call, &token, &body.to_string()).await.status,
                StatusCode::UNAUTHORIZED
            );
        }
        // As SAD beside a service token.
        let service = stack.service_token("app", "hanako").await;
        let old = json!({ "credentialID": "key-hanako", "SAD": token });
        let answer = stack.csc(METHOD, &service, &old.to_string()).await;
        assert_eq!(answer.json()["error_description"], "SAD expired");
        let current = json!({ "credentialID": "key-hanako", "SAD": next });
        let answer = stack.csc(METHOD, &service, &current.to_string()).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    }
}

/// What a client says that asks in the words of its version, and knows no member of ours.
fn plain(names: &[(&'static str, &str)], count: u8) -> Form {
    let hashes: Vec<String> = (1..=count).map(|n| b64u(hash(n))).collect();
    let mut form = with(service_request("app"), "scope", Some("credential"));
    form.extend([
        ("credentialID", "key-hanako".to_owned()),
        ("numSignatures", count.to_string()),
    ]);
    form.extend(names.iter().map(|(name, value)| match *value {
        "" => (*name, hashes.join(",")),
        value => (*name, value.to_owned()),
    }));
    form
}

async fn call(stack: &Stack, version: u8, method: &str, token: &str, body: &Value) -> Answer {
    let request = Request::post(format!("/csc/v{version}/{method}"))
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json");
    let request = request.body(Body::from(body.to_string())).unwrap();
    stack.send(request).await
}

/// Signs the first of two hashes with a SAD, renews that, and signs the second. The SAM was asked for so many seconds.
async fn in_two_steps(stack: &Stack, version: u8, bearer: &str, key: &str, first: &str) {
    let hashes = if version == 1 { "hash" } else { "hashes" };
    let sign = async |n: u8, sad: &str| {
        let body = json!({ "credentialID": key, "SAD": sad, hashes: [b64(hash(n))],
            "signAlgo": "1.2.840.10045.4.3.2" });
        call(stack, version, "signatures/signHash", bearer, &body).await
    };
    let signed = sign(1, first).await;
    assert_eq!(signed.status, StatusCode::OK, "{}", signed.body);
    let body = json!({ "credentialID": key, "SAD": first, hashes: [b64(hash(2))] });
    let renewed = call(stack, version, METHOD, bearer, &body).await;
    assert_eq!(renewed.status, StatusCode::OK, "{}", renewed.body);
    let signed = sign(2, &renewed.text("SAD")).await;
    assert_eq!(signed.status, StatusCode::OK, "{}", signed.body);
    assert_eq!(sign(2, first).await.told().2, "SAD expired");
}

/// For how long the latest request may be renewed.
fn asked(stack: &Stack, hashes: usize) -> i64 {
    stack.sam.with(|s| {
        let all = s.requests.values();
        let mut lasts = all.filter(|r| r.asked.items.len() == hashes);
        let last = lasts.next().unwrap().asked.renew;
        s.requests.clear();
        last
    })
}

// shows: II-A1-multi-method-2
#[tokio::test]
async fn what_the_contract_says_holds_for_clients_that_know_no_member_of_ours() {
    for mut stack in stacks().await {
        let settings = ClientSettings {
            renew_seconds: 900,
            ..ClientSettings::default()
        };
        stack.contract("app", &settings).await;
        let person = stack.users["hanako"].person.clone();
        stack.sam.add_key(&person, "key-explicit", KeyAlg::P256);
        let service = stack.service_token("app", "hanako").await;
        // By OAuth: with details, with the parameters of version 2, and with those of version 1.
        let oid = ("hashAlgorithmOID", HashAlg::Sha256.oid());
        for (version, form) in [
            (
                2,
                credential_request("app", "key-hanako", &[hash(1), hash(2)]),
            ),
            (2, plain(&[("hashes", ""), oid], 2)),
            (1, plain(&[("hash", "")], 2)),
        ] {
            let code = Browser::new(&stack).approve_for_code(&form, "hanako").await;
            let token = stack.exchange("app", &code).await.text("access_token");
            stack.next_code();
            in_two_steps(&stack, version, &service, "key-hanako", &token).await;
            assert_eq!(asked(&stack, 2), 900, "the signer sees it");
        }
        // With collected secrets.
        let secrets = |version, count: u8| {
            let hashes: Vec<String> = (1..=count).map(|n| b64(hash(n))).collect();
            match version {
                1 => {
                    json!({ "credentialID": "key-explicit", "numSignatures": count, "hash": hashes,
                    "PIN": "secret pin", "OTP": "123456" })
                }
                _ => {
                    json!({ "credentialID": "key-explicit", "numSignatures": count, "hashes": hashes,
                    "hashAlgorithmOID": HashAlg::Sha256.oid(), "authData": [{ "id": "PIN", "value": "secret pin" },
                        { "id": "OTP", "value": "123456" }] })
                }
            }
        };
        let authorize = "credentials/authorize";
        for version in [1, 2] {
            // No page shows the signer for how long, so that nothing is left unless the call itself says so.
            for count in [1, 2] {
                let body = secrets(version, count);
                let granted = call(&stack, version, authorize, &service, &body).await;
                let body = json!({ "credentialID": "key-explicit", "SAD": granted.text("SAD") });
                let refused = call(&stack, version, METHOD, &service, &body).await;
                assert_eq!(refused.told().2, "Invalid parameter SAD");
                assert_eq!(asked(&stack, count.into()), 0);
            }
            let mut said = secrets(version, 2);
            said["renewableFor"] = json!(600);
            let granted = call(&stack, version, authorize, &service, &said).await;
            let sad = granted.text("SAD");
            in_two_steps(&stack, version, &service, "key-explicit", &sad).await;
            assert_eq!(asked(&stack, 2), 600);
        }
        // Out of band.
        let settings = ClientSettings {
            out_of_band: true,
            ..settings
        };
        client(&mut stack, "terminal", settings).await;
        let token = stack.service_token("terminal", "hanako").await;
        let body = json!({ "credentialID": "key-hanako", "numSignatures": 2, "hashes": [b64(hash(1)), b64(hash(2))],
            "hashAlgorithmOID": HashAlg::Sha256.oid(), "authData": [{ "id": "portal" }] });
        let waits = call(&stack, 2, authorize, &token, &body).await;
        let mut browser = Browser::new(&stack);
        browser.log_in("hanako").await;
        stack.next_code();
        crate::elsewhere::decide(&stack, &mut browser, RequestState::Approved).await;
        let body = json!({ "handle": waits.text("handle") });
        let granted = call(&stack, 2, "credentials/authorizeCheck", &token, &body).await;
        in_two_steps(&stack, 2, &token, "key-hanako", &granted.text("SAD")).await;
        assert_eq!(asked(&stack, 2), 900);
        // What the client says itself counts, also that it wants none; and a key for one approval can't be renewed.
        for (said, one_time, wanted) in
            [(Some(60), false, 60), (Some(0), false, 0), (None, true, 0)]
        {
            stack.sam.with(|s| {
                let keys = s.keys.values_mut().flatten();
                keys.for_each(|key| key.one_time = one_time);
            });
            let mut form = credential_request("app", "key-hanako", &[hash(1), hash(2)]);
            let (_, details) = form.last_mut().unwrap();
            let mut value: Value = serde_json::from_str(details).unwrap();
            value[0]["renewableFor"] = json!(said);
            *details = value.to_string();
            Browser::new(&stack).approve_for_code(&form, "hanako").await;
            stack.next_code();
            assert_eq!(asked(&stack, 2), wanted);
        }
    }
}

#[tokio::test]
async fn faults_have_the_words_of_sign_hash() {
    for stack in &stacks().await {
        let service = stack.service_token("app", "hanako").await;
        let token = renewable(stack, &[hash(1), hash(2)]).await;
        let fixed = stack.credential_token("app", "hanako", &[hash(3)]).await;
        let good = json!({ "credentialID": "key-hanako", "SAD": token });
        let with = |name: &str, value: Value| {
            let mut body = good.clone();
            body[name] = value;
            body.to_string()
        };
        let cases = [
            (
                service.as_str(),
                with("SAD", Value::Null),
                "Missing (or invalid type) string parameter SAD",
            ),
            (
                service.as_str(),
                with("SAD", json!("nobody's")),
                "Invalid parameter SAD",
            ),
            (
                service.as_str(),
                with("credentialID", json!("other")),
                "Invalid parameter credentialID",
            ),
            (
                service.as_str(),
                with("hashes", json!(["%"])),
                "Invalid Base64 hash string parameter",
            ),
            (
                service.as_str(),
                with("hashes", json!([b64(hash(9))])),
                "Hash is not authorized by the SAD",
            ),
            (
                service.as_str(),
                with("SAD", json!(fixed)),
                "Invalid parameter SAD",
            ),
            (
                token.as_str(),
                with("SAD", json!("another")),
                "Invalid parameter SAD",
            ),
        ];
        for (bearer, body, words) in cases {
            let answer = stack.csc(METHOD, bearer, &body).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
            assert_eq!(answer.json()["error_description"], words, "{body}");
        }
        assert_eq!(
            stack.csc(METHOD, "nobody", &good.to_string()).await.status,
            StatusCode::UNAUTHORIZED
        );
        let info = stack.csc("info", "x", "{}").await;
        assert!(info.body.contains(METHOD));
    }
}
