//! What clients in the field do that no specification says: each habit by its number in `docs/api/clients.md`. Whole sequences of
//! some clients stand in `quirks/sequences*.rs`.

mod lenient;
mod sequences;
mod sequences_v1;
mod sequences_v2;

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

/// All habits, by the number that tests and documents call them.
const HABITS: [(u8, &str); 48] = [
    (1, "null for members that aren't used"),
    (2, "empty texts for members that aren't used"),
    (3, "no body, or GET, where something is read"),
    (4, "numbers and booleans as texts"),
    (5, "members in snake_case"),
    (6, "answers read in snake_case"),
    (7, "auth.objects insisted on"),
    (8, "auth and cert insisted on, names and dates parsed"),
    (9, "info of exactly 2.2.0.0"),
    (10, "texts and arrays of info insisted on"),
    (11, "paths appended to oauth2 without looking"),
    (12, "revocation looked for at /revoke"),
    (13, "the path cut off oauth2"),
    (14, "scope beside authorization_details"),
    (15, "prompt=login"),
    (16, "state beside request_uri"),
    (17, "PAR tried first"),
    (18, "client_id beside Basic, state at the token endpoint"),
    (19, "details spelt otherwise at the token endpoint"),
    (20, "its own spelling of details wanted back"),
    (21, "one object, or Python text, for details"),
    (22, "the credential token reads about its credential"),
    (23, "percent-encoded base64"),
    (24, "members of version 1 in version 2"),
    (25, "maxResults and pageToken in version 2"),
    (26, "one text as bearer token and SAD"),
    (27, "only 200 counts"),
    (28, "media type, numbers and count of values insisted on"),
    (29, "hashAlgo beside an algorithm that implies it"),
    (30, "credentials/info with the identifier alone"),
    (31, "no way to send secrets"),
    (32, "auth/login by refresh token alone"),
    (33, "JSON at the token endpoint"),
    (34, "refreshToken"),
    (35, "bearer in lower case, charset behind the media type"),
    (36, "no authorization at all"),
    (37, "the signer's certificate first"),
    (38, "SHA-1"),
    (39, "one signature at a time, state always"),
    (40, "many hashes in one URL"),
    (41, "GET /info"),
    (42, "any Accept, or none"),
    (43, "parameters of the token request in the address"),
    (44, "an authorization that the browser didn't begin"),
    (45, "details at the token endpoint that say nothing"),
    (46, "asynchronous members in another style"),
    (47, "a bare + in the address"),
    (48, "validation data wanted"),
];

/// A habit that is in no test, or in no document, is forgotten the next time somebody changes what it rests on.
#[test]
fn every_habit_is_replayed_and_documented() {
    let tests = [
        include_str!("quirks.rs"),
        include_str!("quirks/lenient.rs"),
        include_str!("quirks/sequences.rs"),
        include_str!("quirks/sequences_v1.rs"),
        include_str!("quirks/sequences_v2.rs"),
    ]
    .concat();
    // Numbers behind this mark, wherever it stands in a test.
    let numbers = |text: &str, mark: &str| -> std::collections::BTreeSet<u8> {
        let behind = text.split(mark).skip(1);
        behind
            .filter_map(|rest| {
                let digits = rest.find(|c: char| !c.is_ascii_digit());
                rest[..digits.unwrap_or(rest.len())].parse().ok()
            })
            .collect()
    };
    let all = HABITS.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers(&tests, "#"), all);
    let table = include_str!("../../../../../docs/api/clients.md");
    let cells = table.lines().filter_map(|line| line.strip_prefix("| "));
    let cells: String = cells
        .filter_map(|line| line.split_once(" |"))
        .map(|(numbers, _)| {
            numbers
                .split(", ")
                .map(|n| format!("#{n} "))
                .collect::<String>()
        })
        .collect();
    assert_eq!(numbers(&cells, "#"), all, "docs/api/clients.md");
}

#[tokio::test]
async fn what_they_leave_out_or_add_to_a_body() {
    for stack in stacks().await {
        let token = stack.service_token("app", "hanako").await;
        for (number, method, body) in [
            (
                "#1",
                "credentials/info",
                r#"{"credentialID":"key-hanako","lang":null,"clientData":null}"#,
            ),
            (
                "#2",
                "credentials/info",
                r#"{"credentialID":"key-hanako","certificates":"","clientData":""}"#,
            ),
            ("#3", "credentials/list", ""),
            (
                "#5",
                "credentials/info",
                r#"{"credentialID":"key-hanako","auth_info":true,"only_valid":true}"#,
            ),
            (
                "#25",
                "credentials/list",
                r#"{"maxResults":3,"pageToken":"x"}"#,
            ),
            (
                "#30",
                "credentials/info",
                r#"{"credentialID":"key-hanako"}"#,
            ),
            (
                "#30",
                "credentials/info",
                r#"{"credentialID":"key-hanako","certificates":"chain","certInfo":false}"#,
            ),
        ] {
            let answer = stack.csc(method, &token, body).await;
            assert_eq!(answer.status, StatusCode::OK, "{number}: {}", answer.body);
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
                "#35",
                vec![
                    ("authorization", format!("bearer {token}")),
                    ("content-type", "application/json;charset=UTF-8".to_owned()),
                ],
            ),
            (
                "#42",
                vec![
                    ("authorization", format!("BEARER {token}")),
                    ("accept", "text/plain".to_owned()),
                ],
            ),
        ] {
            let headers: Vec<(&str, &str)> =
                headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
            let answer = raw(&stack, "/csc/v1/credentials/list", &headers, "{}").await;
            assert_eq!(answer.status, StatusCode::OK, "{number}");
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
        // Whoever has a slash there all the same.
        for endpoint in ["token", "revoke", "pushed_authorize"] {
            let answer = raw(&stack, &format!("//oauth2/{endpoint}"), &[], "").await;
            let words = "Missing parameter client_id".to_owned();
            assert_eq!(answer.error(), (400, words), "#11");
        }
        let mut browser = Browser::new(&stack);
        let query = crate::web::encode(&service_request("app"));
        let page = browser.get(&format!("//oauth2/authorize?{query}")).await;
        let page = browser.follow(page).await;
        assert!(page.body.contains("name=\"password\""), "#11");
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

        // #16, #17: pushed first, and a state beside the reference.
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

#[tokio::test]
async fn what_is_refused_and_stays_so() {
    for stack in stacks().await {
        let token = stack.service_token("app", "hanako").await;
        let signing = approved_token(&stack).await;
        let sign = |hashes: Value| json!({ "credentialID": "key-hanako", "hashes": hashes, "signAlgo": "1.2.840.10045.4.3.2" });
        let percent = b64(hash(1)).replace('+', "%2B").replace('/', "%2F");
        let percent = percent.replace('=', "%3D");
        assert!(percent.contains('%'));
        let mut old = sign(Value::Null);
        old["hash"] = json!([b64(hash(1))]);
        let secrets = json!({ "credentialID": "key-explicit", "numSignatures": 1, "hashes": [b64(hash(1))],
            "hashAlgorithmOID": HashAlg::Sha256.oid(), "PIN": "secret pin", "OTP": "123456" });
        let person = stack.users["hanako"].person.clone();
        stack
            .sam
            .add_key(&person, "key-explicit", core_types::KeyAlg::P256);
        for (number, method, token, body, words) in [
            (
                "#23",
                "signatures/signHash",
                &signing,
                sign(json!([percent])),
                "Invalid Base64 hash string parameter",
            ),
            (
                "#24",
                "signatures/signHash",
                &signing,
                old,
                "Missing (or invalid type) array parameter hash",
            ),
            (
                "#24",
                "credentials/authorize",
                &token,
                secrets,
                "The authentication data is invalid",
            ),
        ] {
            let answer = stack.csc(method, token, &body.to_string()).await;
            assert_eq!(answer.error(), (400, words.to_owned()), "{number}");
        }
        assert!(stack.sam.with(|s| s.signed.is_empty() && s.explicit == 0));
        // Not even with the right secret: there is no form.
        let code = approved(&stack, |_| ()).await;
        let body = json!({ "grant_type": "authorization_code", "code": code, "client_id": "app",
            "client_secret": stack.clients["app"], "redirect_uri": REDIRECT, "code_verifier": VERIFIER });
        let json = [("content-type", "application/json")];
        let answer = raw(&stack, "/oauth2/token", &json, &body.to_string()).await;
        assert_eq!(
            answer.error(),
            (400, "Missing parameter grant_type".to_owned()),
            "#33"
        );
        // Whoever reads about somebody says who they are.
        for version in [1, 2] {
            let path = format!("/csc/v{version}/credentials/list");
            let answer = raw(&stack, &path, &[], r#"{"userID":"hanako"}"#).await;
            assert_eq!(
                answer.error(),
                (400, "Malformed authorization header".to_owned()),
                "#36"
            );
        }
    }
}

/// A token that signs one hash of Hanako's.
async fn approved_token(stack: &Stack) -> String {
    let code = approved(stack, |_| ()).await;
    stack.exchange("app", &code).await.text("access_token")
}

#[tokio::test]
async fn what_others_demand_is_not_demanded_here() {
    for stack in stacks().await {
        // #39: another server takes one signature at a time, and no request without a state.
        let hashes: Vec<_> = (0..40).map(hash).collect();
        let form = with(
            credential_request("app", "key-hanako", &hashes),
            "state",
            None,
        );
        // #40: too long for a URL, so that it is pushed.
        let pairs: Vec<(&str, &str)> = form.iter().map(|(n, v)| (*n, v.as_str())).collect();
        assert!(crate::web::encode(&pairs).len() > 2083, "#40");
        let pushed = stack
            .client_form("app", "/oauth2/pushed_authorize", &pairs)
            .await;
        assert_eq!(pushed.status, StatusCode::CREATED, "{}", pushed.body);
        let form = vec![
            ("client_id", "app".to_owned()),
            ("request_uri", pushed.text("request_uri")),
        ];
        let mut browser = Browser::new(&stack);
        let page = browser.authorize(&form).await;
        let answer = browser.log_in_here(&page, "hanako").await;
        let (rid, back) = browser.at_sic(&answer);
        stack.sam.decide(rid, sam_api::ssa::RequestState::Approved);
        let answer = browser.get(&back).await;
        assert_eq!(answer.param("state"), None, "#39");
        let code = answer.param("code").unwrap();
        let token = stack.exchange("app", &code).await.text("access_token");
        let body = json!({ "credentialID": "key-hanako", "signAlgo": "1.2.840.10045.4.3.2",
            "hashes": hashes.iter().map(b64).collect::<Vec<_>>() });
        let signed = stack
            .csc("signatures/signHash", &token, &body.to_string())
            .await
            .json();
        assert_eq!(
            signed["signatures"].as_array().map(Vec::len),
            Some(40),
            "#39"
        );
        // #6: names are the specification's, whatever some read.
        stack.next_code();
        let token = stack.service_token("app", "hanako").await;
        let info = r#"{"credentialID":"key-hanako"}"#;
        let told = stack.csc("credentials/info", &token, info).await.json();
        assert!(told["SCAL"].is_string() && told.get("scal").is_none(), "#6");
    }
}
