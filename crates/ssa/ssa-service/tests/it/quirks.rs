//! What clients in the field do that no specification says: each habit by its number in `docs/api/clients.md`.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use core_types::HashAlg;
use core_types::bytes::{b64, b64u};
use serde_json::{Value, json};

use crate::web::{
    Answer, BASE, Browser, REDIRECT, Stack, VERIFIER, credential_request, hash, service_request,
    stacks, with,
};

async fn raw(stack: &Stack, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut request = Request::post(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    stack
        .send(request.body(Body::from(body.to_owned())).unwrap())
        .await
}

/// A code for one hash of Hanako's, approved.
async fn approved(stack: &Stack, change: impl Fn(&mut Value)) -> String {
    let mut form = credential_request("app", "key-hanako", &[hash(1)]);
    for (name, value) in &mut form {
        if *name == "authorization_details" {
            let mut details: Value = serde_json::from_str(value).unwrap();
            change(&mut details);
            *value = details.to_string();
        }
    }
    let mut browser = Browser::new(stack);
    let code = browser.approve_for_code(&form, "hanako").await;
    stack.next_code();
    code
}

#[tokio::test]
async fn what_they_leave_out_or_add_to_a_body() {
    for stack in stacks().await {
        let token = stack.service_token("app", "hanako").await;
        for (number, method, body) in [
            (
                1,
                "credentials/info",
                r#"{"credentialID":"key-hanako","lang":null,"clientData":null}"#,
            ),
            (
                2,
                "credentials/info",
                r#"{"credentialID":"key-hanako","certificates":"","clientData":""}"#,
            ),
            (3, "credentials/list", ""),
            (
                5,
                "credentials/info",
                r#"{"credentialID":"key-hanako","auth_info":true,"only_valid":true}"#,
            ),
            (
                25,
                "credentials/list",
                r#"{"maxResults":3,"pageToken":"x"}"#,
            ),
            (30, "credentials/info", r#"{"credentialID":"key-hanako"}"#),
            (
                30,
                "credentials/info",
                r#"{"credentialID":"key-hanako","certificates":"chain","certInfo":false}"#,
            ),
        ] {
            let answer = stack.csc(method, &token, body).await;
            assert_eq!(answer.status, StatusCode::OK, "#{number}: {}", answer.body);
        }
        // 4: strings for numbers and booleans are a wrong type, as the tables say.
        let body = r#"{"credentialInfo":"true"}"#;
        let answer = stack.csc("credentials/list", &token, body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "#4");
        // 3, 41: GET does no harm where it reads nothing of anybody.
        let get = |path: &str| Request::get(path.to_owned()).body(Body::empty()).unwrap();
        assert_eq!(
            stack.send(get("/csc/v2/info")).await.status,
            StatusCode::OK,
            "#41"
        );
        let list = stack.send(get("/csc/v2/credentials/list")).await;
        assert_eq!(list.status, StatusCode::METHOD_NOT_ALLOWED, "#3");
        // 35, 42: scheme in any case, media type with a charset or none, whatever is accepted.
        for (number, headers) in [
            (
                35,
                vec![
                    ("authorization", format!("bearer {token}")),
                    ("content-type", "application/json;charset=UTF-8".to_owned()),
                ],
            ),
            (
                42,
                vec![
                    ("authorization", format!("BEARER {token}")),
                    ("accept", "text/plain".to_owned()),
                ],
            ),
        ] {
            let headers: Vec<(&str, &str)> =
                headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
            let answer = raw(&stack, "/csc/v1/credentials/list", &headers, "{}").await;
            assert_eq!(answer.status, StatusCode::OK, "#{number}");
            assert_eq!(answer.headers["content-type"], "application/json", "#28");
        }
    }
}

#[tokio::test]
async fn what_they_insist_on_in_an_answer() {
    for stack in stacks().await {
        let token = stack.service_token("app", "hanako").await;
        let info = stack.csc("info", "x", "{}").await.json();
        // 9
        assert_eq!(info["specs"], "2.2.0.0", "#9");
        for name in ["methods", "supportedHashTypes", "conformance_levels"] {
            assert!(!info[name].as_array().unwrap().is_empty(), "#9 {name}");
        }
        // 10, 11, 13: texts and arrays of the right kind, and an address without a slash or a path.
        assert!(
            info["logo"].is_string() && info["signAlgorithms"]["algoParams"].is_array(),
            "#10"
        );
        assert!(
            info["signature_formats"]["envelope_properties"].is_array(),
            "#10"
        );
        assert_eq!(info["oauth2"], BASE, "#11, #13");
        // 7, 8, 37
        let all =
            r#"{"credentialInfo":true,"certificates":"chain","certInfo":true,"authInfo":true}"#;
        let list = stack.csc("credentials/list", &token, all).await.json();
        let credential = &list["credentialInfos"][0];
        assert_eq!(
            credential["auth"],
            json!({ "mode": "oauth2code", "objects": [] }),
            "#7"
        );
        let cert = &credential["cert"];
        for name in [
            "status",
            "issuerDN",
            "serialNumber",
            "subjectDN",
            "validFrom",
            "validTo",
        ] {
            assert!(cert[name].is_string(), "#8 {name}");
        }
        assert!(cert["validTo"].as_str().unwrap().ends_with('Z'), "#8");
        assert!(
            cert["subjectDN"].as_str().unwrap().contains("髙橋"),
            "#37: the signer's certificate is the first one"
        );
        let chain = cert["certificates"].as_array().unwrap();
        assert_eq!(chain.len(), 2, "#37");
        let none = r#"{"credentialID":"key-hanako","certificates":"none"}"#;
        let bare = stack.csc("credentials/info", &token, none).await.json();
        assert!(
            bare["cert"].is_object() && bare["multisign"].is_u64(),
            "#8, #28"
        );
        assert!(matches!(bare["SCAL"].as_str(), Some("1" | "2")), "#28");
    }
}

#[tokio::test]
async fn what_they_do_with_codes_and_tokens() {
    for stack in stacks().await {
        // 18, 19: the client's id beside Basic, a state, and the same digests in another alphabet.
        let code = approved(&stack, |_| ()).await;
        let details = json!([{ "documentDigests": [{ "label": "契約書 <b>.pdf", "hash": b64u(hash(1)), "hashType": "dtbsr" }],
            "hashAlgorithmOID": HashAlg::Sha256.oid(), "numSignatures": 1, "credentialID": "key-hanako", "type": "credential" }]);
        let details = details.to_string();
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", REDIRECT),
            ("code_verifier", VERIFIER),
            ("client_id", "app"),
            ("state", "x"),
            ("authorization_details", &details),
        ];
        let tokens = stack.client_form("app", "/oauth2/token", &form).await;
        assert_eq!(
            tokens.status,
            StatusCode::OK,
            "#14, #18, #19: {}",
            tokens.body
        );
        let token = tokens.text("access_token");
        // 22: read about the key before signing, with the token that signs.
        let info = r#"{"credentialID":"key-hanako"}"#;
        assert_eq!(
            stack.csc("credentials/info", &token, info).await.status,
            StatusCode::OK,
            "#22"
        );
        // 38: below SHA-256.
        let sign = |change: fn(&mut Value)| {
            let mut body = json!({ "credentialID": "key-hanako", "hashes": [b64(hash(1))],
                "signAlgo": "1.2.840.10045.4.3.2", "hashAlgorithmOID": HashAlg::Sha256.oid() });
            change(&mut body);
            body
        };
        let sha1 = sign(|body| {
            body["hashes"] = json!([b64([1; 20])]);
            body["hashAlgorithmOID"] = json!("1.3.14.3.2.26");
        });
        let answer = stack
            .csc("signatures/signHash", &token, &sha1.to_string())
            .await;
        assert_eq!(
            answer.json()["error_description"],
            "Invalid parameter hashAlgorithmOID",
            "#38"
        );
        // 26, 29: the same text as bearer token and as SAD; the hash named beside an algorithm that implies it.
        let mut body = sign(|_| ());
        body["SAD"] = json!(token);
        let answer = stack
            .csc("signatures/signHash", &token, &body.to_string())
            .await;
        assert_eq!(answer.status, StatusCode::OK, "#26, #29: {}", answer.body);
        assert_eq!(
            answer.json()["signatures"].as_array().map(Vec::len),
            Some(1),
            "#28"
        );

        // 20, 21: one object instead of an array, echoed as it was spelt.
        let code = approved(&stack, |details| *details = details[0].take()).await;
        let tokens = stack.exchange("app", &code).await.json();
        let digest = &tokens["authorization_details"][0]["documentDigests"][0];
        assert_eq!(digest["hashType"], "DTBSR", "#20, #21");

        // 16, 17: pushed first, and a state beside the reference.
        let request = with(service_request("other"), "client_id", None);
        let form: Vec<(&str, &str)> = request.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let pushed = stack
            .client_form("other", "/oauth2/pushed_authorize", &form)
            .await;
        let uri = pushed.text("request_uri");
        let form = vec![
            ("client_id", "other".to_owned()),
            ("request_uri", uri),
            ("state", "y".to_owned()),
        ];
        let mut browser = Browser::new(&stack);
        let code = browser.log_in_for_code(&form, "hanako").await;
        stack.next_code();
        let tokens = stack.exchange("other", &code).await.json();
        // 34: the misspelt member of a sample.
        let refresh = tokens["refresh_token"].as_str().unwrap();
        let form = [("grant_type", "refresh_token"), ("refreshToken", refresh)];
        let again = stack.client_form("other", "/oauth2/token", &form).await;
        assert_eq!(again.status, StatusCode::OK, "#34: {}", again.body);
        // 12: where some look for the revocation endpoint.
        let access = again.text("access_token");
        let revoked = stack
            .client_form("other", "/revoke", &[("token", &access)])
            .await;
        assert_eq!(revoked.status, StatusCode::NO_CONTENT, "#12, #27");
        // 15: a login although there is a session.
        let mut form = service_request("other");
        form.push(("prompt", "login".to_owned()));
        let page = browser.authorize(&form).await;
        assert!(
            page.body.contains("name=\"password\""),
            "#15: {}",
            page.body
        );
    }
}
