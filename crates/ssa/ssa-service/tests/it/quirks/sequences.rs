//! What some clients say from their first call to their last, word for word where a word matters. By whose name they go stands in
//! `docs/api/clients.md`; the one thing that all of them had to learn is PKCE, which version 1 doesn't have. More of them stand in
//! `sequences_v1.rs` and `sequences_v2.rs`.

use axum::http::StatusCode;
use core_types::HashAlg;
use core_types::bytes::{b64, b64u};
use sam_api::ssa::KeyState;
use serde_json::{Value, json};
use ssa_service::ClientSettings;

use super::raw;
use crate::oauth::client;
use crate::oauth::tokens::account_token;
use crate::web::{
    Answer, BASE, Browser, CHALLENGE, Form, PASSWORD, REDIRECT, Stack, VERIFIER, hash, stacks,
    stacks_with, until, with,
};

pub(super) const P256: &str = "1.2.840.10045.4.3.2";

pub(super) async fn call(stack: &Stack, path: &str, authorization: &str, body: &Value) -> Answer {
    let answer = ask(stack, path, authorization, body).await;
    assert!(answer.status.is_success(), "{path}: {}", answer.body);
    answer
}

/// The same, whatever is answered.
pub(super) async fn ask(stack: &Stack, path: &str, authorization: &str, body: &Value) -> Answer {
    let headers = [
        ("authorization", authorization),
        ("content-type", "application/json; charset=utf-8"),
        ("accept", "application/json"),
    ];
    let headers = match authorization {
        "" => &headers[1..],
        _ => &headers[..],
    };
    raw(stack, path, headers, &body.to_string()).await
}

/// The parameters that all of them send.
pub(super) fn request(scope: &str) -> Form {
    let pairs = [
        ("response_type", "code"),
        ("client_id", "app"),
        ("redirect_uri", REDIRECT),
        ("scope", scope),
        ("state", "af0ifjsldkj"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    pairs.map(|(name, value)| (name, value.to_owned())).into()
}

pub(super) async fn token(stack: &Stack, code: &str, more: &[(&str, &str)]) -> Value {
    let mut form = vec![
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
        // #18
        ("client_id", "app"),
    ];
    form.extend(more);
    let answer = stack.client_form("app", "/oauth2/token", &form).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    stack.next_code();
    answer.json()
}

/// A wallet's library for version 2.2, strict in what it reads (`eudi-lib-jvm-rqes-csc-kt`).
#[tokio::test]
async fn the_library_of_a_wallet_on_the_jvm() {
    for stack in stacks().await {
        let info = call(&stack, "/csc/v2/info", "", &json!({ "lang": null }))
            .await
            .json();
        assert_eq!(info["specs"], "2.2.0.0", "#9");
        assert_eq!(info["supportsRar"], true);
        let base = info["oauth2"].as_str().unwrap().to_owned();
        let mut browser = Browser::new(&stack);
        let path = format!("{base}/.well-known/openid-configuration");
        let server = browser.get(&path).await.json();
        assert_eq!(server["issuer"], base.as_str());
        assert_eq!(
            server["pushed_authorization_request_endpoint"],
            format!("{base}/oauth2/pushed_authorize"),
            "#11"
        );
        // #15, #17: pushed, and a login wanted; #16: a state beside the reference.
        let push = async |form: Form| {
            let form: Vec<(&str, &str)> = form.iter().map(|(n, v)| (*n, v.as_str())).collect();
            let pushed = stack
                .client_form("app", "/oauth2/pushed_authorize", &form)
                .await;
            assert_eq!(pushed.status, StatusCode::CREATED, "{}", pushed.body);
            vec![
                ("client_id", "app".to_owned()),
                ("request_uri", pushed.text("request_uri")),
                ("state", "af0ifjsldkj".to_owned()),
            ]
        };
        let form = push(with(request("service"), "prompt", Some("login"))).await;
        let code = browser.log_in_for_code(&form, "hanako").await;
        let service = token(&stack, &code, &[]).await;
        let bearer = format!("Bearer {}", service["access_token"].as_str().unwrap());
        let body = json!({ "credentialInfo": true, "certificates": "chain", "certInfo": true, "authInfo": true,
            "onlyValid": true, "lang": null, "clientData": null });
        let list = call(&stack, "/csc/v2/credentials/list", &bearer, &body).await;
        let one = list.json()["credentialInfos"][0].clone();
        assert!(one["auth"].get("objects").is_some(), "#7");
        assert!(one["cert"]["validFrom"].is_string(), "#8");
        let key = one["credentialID"].as_str().unwrap();

        // #14: a scope beside the details, which are of the URI's type.
        let details = json!([{ "type": "https://cloudsignatureconsortium.org/2025/credential",
            "credentialID": key, "numSignatures": 2, "hashAlgorithmOID": HashAlg::Sha256.oid(),
            "documentDigests": [{ "hash": b64(hash(1)), "label": "a", "hashType": "DTBSR" },
                { "hash": b64(hash(2)), "label": "b", "hashType": "DTBSR" }] }])
        .to_string();
        let form = with(
            request("credential"),
            "authorization_details",
            Some(&details),
        );
        let form = push(with(form, "prompt", Some("login"))).await;
        let code = browser.approve_for_code(&form, "hanako").await;
        let granted = token(&stack, &code, &[("authorization_details", &details)]).await;
        let told = &granted["authorization_details"][0];
        assert_eq!(told["documentDigests"][1]["hashType"], "DTBSR", "#20");
        assert_eq!(told["credentialID"], key, "#20");
        assert!(told["numSignatures"].is_u64(), "#20");
        let bearer = format!("Bearer {}", granted["access_token"].as_str().unwrap());
        let body = json!({ "credentialID": key, "certificates": "chain", "certInfo": true, "authInfo": true,
            "lang": null, "clientData": null });
        let info = call(&stack, "/csc/v2/credentials/info", &bearer, &body).await;
        assert_eq!(info.json()["key"]["status"], "enabled", "#22");
        let body = json!({ "credentialID": key, "SAD": null, "hashes": [b64(hash(1)), b64(hash(2))],
            "hashAlgorithmOID": HashAlg::Sha256.oid(), "signAlgo": P256, "signAlgoParams": null,
            "operationMode": "S", "validity_period": null, "response_uri": null, "clientData": null });
        let signed = call(&stack, "/csc/v2/signatures/signHash", &bearer, &body).await;
        let values = signed.json()["signatures"].as_array().map(Vec::len);
        assert_eq!(values, Some(2), "#1");
    }
}

/// The same wallet's library on another system, older and looser (`eudi-lib-ios-rqes-csc-swift`). Of its person's keys one is
/// stopped and one destroyed.
#[tokio::test]
async fn the_library_of_a_wallet_on_ios() {
    for stack in stacks().await {
        let person = stack.users["hanako"].person.clone();
        for (key, state) in [
            ("key-stopped", KeyState::Suspended),
            ("key-gone", KeyState::Destroyed),
        ] {
            stack.sam.add_key(&person, key, core_types::KeyAlg::P256);
            crate::delete::state(&stack, key, state);
        }
        let info = call(&stack, "/csc/v2/info", "", &json!({ "lang": "en-US" }))
            .await
            .json();
        for name in ["oauth2", "logo"] {
            assert!(info[name].is_string(), "#10 {name}");
        }
        assert!(info["signAlgorithms"]["algoParams"].is_array(), "#10");
        let mut browser = Browser::new(&stack);
        let code = browser.log_in_for_code(&request("service"), "hanako").await;
        // #18: the state once more.
        let service = token(&stack, &code, &[("state", "af0ifjsldkj")]).await;
        assert!(service["expires_in"].is_u64());
        let bearer = format!("Bearer {}", service["access_token"].as_str().unwrap());
        // #5
        let body = json!({ "credentialInfo": true, "certificates": "chain", "certInfo": true, "auth_info": true,
            "only_valid": true, "lang": "en-US", "client_data": "x" });
        let list = call(&stack, "/csc/v2/credentials/list", &bearer, &body).await;
        // It doesn't say `onlyValid` in a way that counts, and reads no list with a member of a certificate missing.
        let infos = list.json()["credentialInfos"].as_array().unwrap().clone();
        let ids = infos.iter().map(|info| info["credentialID"].clone());
        assert_eq!(
            ids.collect::<Vec<_>>(),
            ["key-hanako", "key-stopped"].map(Value::from)
        );
        for info in &infos {
            for name in [
                "status",
                "certificates",
                "issuerDN",
                "serialNumber",
                "subjectDN",
                "validFrom",
                "validTo",
            ] {
                assert!(!info["cert"][name].is_null(), "{name}: {info}");
            }
        }
        let statuses = ["valid", "suspended"].map(Value::from);
        let told = infos.iter().map(|info| info["cert"]["status"].clone());
        assert_eq!(told.collect::<Vec<_>>(), statuses);
        let one = infos[0].clone();
        // What it takes for missing is optional to it: #6.
        assert!(one.get("scal").is_none(), "#6");
        let key = one["credentialID"].as_str().unwrap();
        let details = |hash: String| {
            json!([{ "documentDigests": [{ "label": "a", "hash": hash }], "credentialID": key,
                "hashAlgorithmOID": HashAlg::Sha256.oid(), "locations": [], "type": "credential" }])
            .to_string()
        };
        // #14, #19: another alphabet here than at the token endpoint, and no number of signatures.
        let asked = details(b64u(hash(1)));
        let form = with(request("credential"), "authorization_details", Some(&asked));
        let mut browser = Browser::new(&stack);
        let code = browser.approve_for_code(&form, "hanako").await;
        let again = details(b64(hash(1)));
        let more = [
            ("authorization_details", again.as_str()),
            ("state", "af0ifjsldkj"),
        ];
        let granted = token(&stack, &code, &more).await;
        let bearer = format!("Bearer {}", granted["access_token"].as_str().unwrap());
        let body = json!({ "credentialID": key, "hashes": [b64(hash(1))], "hashAlgorithmOID": HashAlg::Sha256.oid(),
            "signAlgo": P256, "sign_algo_params": "", "operationMode": "S", "client_data": "" });
        let signed = call(&stack, "/csc/v2/signatures/signHash", &bearer, &body).await;
        assert!(signed.json()["signatures"][0].is_string(), "#42");
    }
}

/// A library of version 1 in PHP (`SetaPDF-Signer-Addon-CSC`): a login for a named account, then both modes.
#[tokio::test]
async fn a_library_in_php() {
    for stack in stacks().await {
        let info = call(&stack, "/csc/v1/info", "", &json!({})).await.json();
        // #13: cut off if it is there.
        let base = info["oauth2"].as_str().unwrap();
        assert_eq!(base.trim_end_matches("/oauth2/authorize"), BASE, "#13");
        let secret = stack.clients["app"].clone();
        let named = account_token(&stack, &secret, |_| ());
        let form = with(request("service"), "account_token", Some(&named));
        let form = with(form, "lang", Some("en"));
        let mut browser = Browser::new(&stack);
        let code = browser.log_in_for_code(&form, "hanako").await;
        let service = token(&stack, &code, &[]).await;
        let bearer = format!("Bearer {}", service["access_token"].as_str().unwrap());
        let person = stack.users["hanako"].person.clone();
        stack
            .sam
            .add_key(&person, "key-explicit", core_types::KeyAlg::P256);
        // #3: nothing is sent where nothing is asked.
        let headers = [("authorization", bearer.as_str())];
        let list = raw(&stack, "/csc/v1/credentials/list", &headers, "").await;
        assert_eq!(
            list.json()["credentialIDs"],
            json!(["key-hanako", "key-explicit"]),
            "#3"
        );
        let read = async |key: &str| {
            let body = json!({ "credentialID": key, "certificates": "chain", "authInfo": true, "certInfo": true });
            call(&stack, "/csc/v1/credentials/info", &bearer, &body)
                .await
                .json()
        };
        let code = read("key-hanako").await;
        assert_eq!(code["authMode"], "oauth2code");
        let leaf = code["cert"]["certificates"][0].as_str().unwrap();
        let leaf = csc_types::decode_base64(leaf).unwrap();
        let leaf = pki::Certificate::parse(&leaf).unwrap();
        assert!(!leaf.info().subject.contains("CA"), "#37");
        // It takes the first algorithm, which therefore says its hash.
        let algorithm = code["key"]["algo"][0].as_str().unwrap().to_owned();
        assert_eq!(algorithm, P256);
        // #29: the hash all the same.
        let sign = async |key: &str, sad: &Value| {
            let body = json!({ "credentialID": key, "SAD": sad, "hash": [b64(hash(1))], "signAlgo": algorithm,
                "hashAlgo": HashAlg::Sha256.oid() });
            let signed = call(&stack, "/csc/v1/signatures/signHash", &bearer, &body).await;
            assert_eq!(signed.status, StatusCode::OK, "#27");
            assert!(signed.json()["signatures"][0].is_string(), "#29");
        };
        let explicit = read("key-explicit").await;
        assert_eq!(explicit["authMode"], "explicit");
        // #27: a code of the app needs no call that answers 204.
        assert_eq!(explicit["OTP"]["type"], "offline", "#27");
        let body = json!({ "credentialID": "key-explicit", "numSignatures": 1, "hash": [b64(hash(1))],
            "PIN": "secret pin", "OTP": "123456" });
        let granted = call(&stack, "/csc/v1/credentials/authorize", &bearer, &body).await;
        sign("key-explicit", &granted.json()["SAD"]).await;

        let mut form = request("credential");
        form.extend([
            ("credentialID", "key-hanako".to_owned()),
            ("numSignatures", "1".to_owned()),
            ("hash", b64u(hash(1))),
        ]);
        let mut browser = Browser::new(&stack);
        let code = browser.approve_for_code(&form, "hanako").await;
        let granted = token(&stack, &code, &[]).await;
        assert_eq!(granted["token_type"], "SAD");
        sign("key-hanako", &granted["access_token"]).await;
    }
}

/// A library of version 1 in Java (`laverca-csc-client`): a login by name, and mode `implicit`, since it has no way to send secrets.
#[tokio::test]
async fn a_library_in_java() {
    let set = |config: &mut ssa_service::Config| {
        config.login_client = Some(crate::fake::client_id("basic"));
    };
    for mut stack in stacks_with(set).await {
        let settings = ClientSettings {
            refresh: true,
            out_of_band: true,
            ..ClientSettings::default()
        };
        client(&mut stack, "basic", settings).await;
        call(&stack, "/csc/v1/info", "", &json!({})).await;
        let pair = b64(format!("hanako:{PASSWORD}{}", stack.code("hanako")));
        let path = "/csc/v1/auth/login";
        let body = json!({ "rememberMe": true });
        let first = call(&stack, path, &format!("Basic {pair}"), &body).await;
        stack.next_code();
        // #32: no header the next time.
        let body = json!({ "refresh_token": first.text("refresh_token"), "rememberMe": true });
        let second = call(&stack, path, "", &body).await;
        // #35
        let bearer = format!("bearer {}", second.text("access_token"));
        let body = json!({ "maxResults": 10 });
        let list = call(&stack, "/csc/v1/credentials/list", &bearer, &body).await;
        let key = list.json()["credentialIDs"][0].clone();
        // #30
        let body = json!({ "credentialID": key });
        let info = call(&stack, "/csc/v1/credentials/info", &bearer, &body).await;
        assert_eq!(info.json()["authMode"], "implicit", "#30, #31");
        let mut browser = Browser::new(&stack);
        browser.log_in("hanako").await;
        // #31: the call lasts as long as the person takes.
        let body = json!({ "credentialID": key, "numSignatures": 1, "hash": [b64(hash(1))] });
        let waiting = call(&stack, "/csc/v1/credentials/authorize", &bearer, &body);
        let person = async {
            until("the request in the portal", async || {
                let page = browser.get("/requests").await;
                page.body.contains("name=\"request\"").then_some(())
            })
            .await;
            let approved = sam_api::ssa::RequestState::Approved;
            crate::elsewhere::decide(&stack, &mut browser, approved).await
        };
        let (granted, _) = tokio::join!(waiting, person);
        let body = json!({ "credentialID": key, "SAD": granted.json()["SAD"], "hash": [b64(hash(1))], "signAlgo": P256 });
        let signed = call(&stack, "/csc/v1/signatures/signHash", &bearer, &body).await;
        assert!(signed.json()["signatures"][0].is_string());
        let body =
            json!({ "token": second.text("access_token"), "token_type_hint": "access_token" });
        let revoked = call(&stack, "/csc/v1/auth/revoke", &bearer, &body).await;
        assert_eq!(revoked.status, StatusCode::NO_CONTENT);
        let body = json!({ "credentialID": key }).to_string();
        let headers = [("authorization", bearer.as_str())];
        let after = raw(&stack, "/csc/v1/credentials/info", &headers, &body).await;
        assert_eq!(after.status, StatusCode::UNAUTHORIZED);
    }
}
