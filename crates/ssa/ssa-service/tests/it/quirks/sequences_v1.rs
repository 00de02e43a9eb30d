//! More clients of version 1. Those whose contract has them read leniently are said to be so.

use axum::http::StatusCode;
use core_types::bytes::{b64, b64u, from_b64};
use core_types::{HashAlg, KeyAlg};
use serde_json::{Value, json};
use ssa_service::ClientSettings;

use super::lenient::lenient;
use super::raw;
use super::sequences::{P256, ask, call, request, token};
use crate::oauth::client;
use crate::oauth::tokens::account_token;
use crate::timestamp::stamping;
use crate::web::{Browser, PASSWORD, REDIRECT, VERIFIER, hash, stacks, with};

/// A collection of calls for Postman (`cloud-signature-consortium`), read leniently: every method of version 1. Of its names one is misspelt,
/// `credentials/authorise`; and its checks want 200 where there is nothing to tell.
#[tokio::test]
async fn a_collection_of_every_method() {
    let set = |config: &mut ssa_service::Config| {
        config.login_client = Some(crate::fake::client_id("basic"));
    };
    let (_dir, stacks) = stamping(&["stamp://good"], set).await;
    for mut stack in stacks {
        let settings = ClientSettings {
            refresh: true,
            renew_seconds: 900,
            ..lenient()
        };
        client(&mut stack, "basic", settings).await;
        let person = stack.users["hanako"].person.clone();
        stack
            .sam
            .add_key(&person, "coded-explicit", KeyAlg::Rsa3072);
        let v1 = |method: &str| format!("/csc/v1/{method}");
        let info = call(&stack, &v1("info"), "", &json!({ "lang": "EN" })).await;
        assert_eq!(info.json()["lang"], "en");
        // A login with no body, one that is remembered, and one by what came of it.
        let basic = || b64(format!("hanako:{PASSWORD}{}", stack.code("hanako")));
        let header = format!("Basic {}", basic());
        let headers = [("authorization", header.as_str())];
        let first = raw(&stack, &v1("auth/login"), &headers, "").await;
        assert!(first.json()["access_token"].is_string(), "#3");
        stack.next_code();
        let header = format!("Basic {}", basic());
        let body = json!({ "rememberMe": "true" });
        let second = call(&stack, &v1("auth/login"), &header, &body).await;
        let refresh = second.text("refresh_token");
        stack.next_code();
        let body = json!({ "refresh_token": refresh });
        let third = call(&stack, &v1("auth/login"), "", &body).await;
        let bearer = format!("Bearer {}", third.text("access_token"));
        // #3: JSON by its media type, and nothing in it.
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let list = raw(&stack, &v1("credentials/list"), &headers, "").await;
        let ids = list.json()["credentialIDs"].clone();
        assert_eq!(ids, json!(["key-hanako", "coded-explicit"]), "#3");
        let key = ids[1].clone();
        let body = json!({ "credentialID": key, "certificates": "none", "certInfo": true, "authInfo": "true",
            "lang": "en-US" });
        let info = call(&stack, &v1("credentials/info"), &bearer, &body).await;
        let info = info.json();
        assert_eq!(info["OTP"]["type"], "online", "#4");
        assert!(info["cert"].get("certificates").is_none());
        let body = json!({ "credentialID": key });
        let sent = call(&stack, &v1("credentials/sendOTP"), &bearer, &body).await;
        assert_eq!(sent.status, StatusCode::NO_CONTENT, "#27");
        // SHA-512, two of them, their number a text.
        let hashes = [b"a", b"b"].map(|text| b64(HashAlg::Sha512.digest(text)));
        let body = json!({ "credentialID": key, "numSignatures": "2", "hash": hashes, "PIN": "secret pin",
            "OTP": "123456" });
        let granted = call(&stack, &v1("credentials/authorize"), &bearer, &body).await;
        let sign = |sad: &Value, hash: &str| {
            json!({ "credentialID": key, "SAD": sad, "hash": [hash], "signAlgo": "1.2.840.113549.1.1.13",
                "signAlgoParams": "", "clientData": "" })
        };
        let path = v1("signatures/signHash");
        let sad = granted.json()["SAD"].clone();
        let signed = call(&stack, &path, &bearer, &sign(&sad, &hashes[0])).await;
        assert!(signed.json()["signatures"][0].is_string(), "#2");
        let body =
            json!({ "credentialID": key, "SAD": sad, "hash": [hashes[1]], "clientData": "" });
        let next = ask(&stack, &v1("credentials/extendTransaction"), &bearer, &body).await;
        // Of collected secrets no rest is left, since no page showed its signer for how long.
        assert_eq!(next.told().2, "Invalid parameter SAD");
        let body = json!({ "credentialID": key, "numSignatures": "1", "hash": [hashes[1]], "PIN": "secret pin",
            "OTP": "123456" });
        let granted = call(&stack, &v1("credentials/authorize"), &bearer, &body).await;
        let sad = granted.json()["SAD"].clone();
        let signed = call(&stack, &path, &bearer, &sign(&sad, &hashes[1])).await;
        assert!(signed.json()["signatures"][0].is_string(), "#2");
        let body = json!({ "hash": b64(hash(1)), "hashAlgo": HashAlg::Sha256.oid(), "nonce": "00ff", "clientData": "" });
        let stamped = call(&stack, &v1("signatures/timestamp"), &bearer, &body).await;
        assert!(from_b64(&stamped.text("timestamp")).is_ok());
        // The same by OAuth; what comes back for a hash is a SAD by its own word.
        let mut form = request("credential");
        form.extend([
            ("lang", "en-US".to_owned()),
            ("credentialID", "key-hanako".to_owned()),
            ("numSignatures", "1".to_owned()),
            ("hash", b64u(hash(1))),
        ]);
        let code = Browser::new(&stack).approve_for_code(&form, "hanako").await;
        let granted = token(&stack, &code, &[]).await;
        assert_eq!(granted["token_type"], "SAD");
        // The end: with the refresh token goes what came of it.
        let body = json!({ "token": refresh, "token_type_hint": "refresh_token" });
        let ended = call(&stack, &v1("auth/revoke"), &bearer, &body).await;
        assert_eq!(ended.status, StatusCode::NO_CONTENT, "#27");
        let headers = [("authorization", bearer.as_str())];
        let after = raw(&stack, &v1("credentials/list"), &headers, "").await;
        assert_eq!(after.status, StatusCode::UNAUTHORIZED);
    }
}

/// What the documentation of itsme has its partners do, read leniently: a named account, JSON at the token endpoint, `bearer` in lower case.
#[tokio::test]
async fn a_partner_of_itsme() {
    for stack in stacks().await {
        stack.contract("app", &lenient()).await;
        let info = call(&stack, "/csc/v1/info", "", &json!({ "lang": "NL" })).await;
        let info = info.json();
        assert_eq!(info["specs"], "1.0.3.0");
        // #13: its own service publishes the whole address.
        let base = info["oauth2"].as_str().unwrap();
        assert!(!base.ends_with("/oauth2/authorize"), "#13");
        let secret = stack.clients["app"].clone();
        let redeem = async |code: &str| {
            let body = json!({ "grant_type": "authorization_code", "client_id": "app", "client_secret": secret,
                "code": code, "redirect_uri": REDIRECT, "code_verifier": VERIFIER });
            let answer = call(&stack, "/oauth2/token", "", &body).await;
            stack.next_code();
            answer.json()
        };
        let named = |jti: &str| account_token(&stack, &secret, |claims| claims["jti"] = json!(jti));
        let form = with(request("service"), "lang", Some("EN"));
        let form = with(form, "account_token", Some(&named("1")));
        let mut browser = Browser::new(&stack);
        let code = browser.log_in_for_code(&form, "hanako").await;
        let service = redeem(&code).await;
        assert_eq!(service["token_type"], "Bearer", "#33");
        let bearer = format!("bearer {}", service["access_token"].as_str().unwrap());
        let body = json!({ "maxResults": 10 });
        let list = call(&stack, "/csc/v1/credentials/list", &bearer, &body).await;
        let key = list.json()["credentialIDs"][0].clone();
        let body =
            json!({ "credentialID": key, "certificates": "chain", "certInfo": true, "lang": "NL" });
        let info = call(&stack, "/csc/v1/credentials/info", &bearer, &body).await;
        let info = info.json();
        assert_eq!(
            (&info["authMode"], &info["SCAL"]),
            (&json!("oauth2code"), &json!("2")),
            "#35"
        );
        // Padded, and the padding encoded once, as the address wants it.
        let mut form = with(request("credential"), "account_token", Some(&named("2")));
        form.extend([
            ("credentialID", key.as_str().unwrap().to_owned()),
            ("numSignatures", "1".to_owned()),
            ("hash", b64(hash(1)).replace('+', "-").replace('/', "_")),
            ("description", "exampleDescription".to_owned()),
        ]);
        let mut browser = Browser::new(&stack);
        let code = browser.approve_for_code(&form, "hanako").await;
        let granted = redeem(&code).await;
        let sign = json!({ "credentialID": key, "SAD": granted["access_token"], "hash": [b64(hash(1))],
            "signAlgo": P256 });
        let signed = call(&stack, "/csc/v1/signatures/signHash", &bearer, &sign).await;
        assert!(signed.json()["signatures"][0].is_string());
        let body = json!({ "token": service["access_token"], "token_type_hint": "access_token" });
        let ended = call(&stack, "/csc/v1/auth/revoke", &bearer, &body).await;
        assert_eq!(ended.status, StatusCode::NO_CONTENT);
    }
}

/// What the documentation of ZealiD has its partners do, read leniently: the digest of the secret as key of the account token, a bare `+` in the
/// address, and a pushed request for more hashes than an address holds.
#[tokio::test]
async fn a_partner_of_zealid() {
    for stack in stacks().await {
        stack.contract("app", &lenient()).await;
        let secret = stack.clients["app"].clone();
        let n = (0..=255).find(|n| b64(hash(*n)).contains('+')).unwrap();
        let named = account_token(&stack, &secret, |_| ());
        let mut form = with(request("credential"), "account_token", Some(&named));
        form.extend([
            ("credentialID", "key-hanako".to_owned()),
            ("numSignatures", "1".to_owned()),
        ]);
        // #47: nothing of the hash is encoded; what stands before it is.
        let query = format!("{}&hash={}", crate::web::encode(&form), b64(hash(n)));
        let mut browser = Browser::new(&stack);
        let page = browser.get(&format!("/oauth2/authorize?{query}")).await;
        let page = browser.follow(page).await;
        let there = browser.log_in_here(&page, "hanako").await;
        let (rid, back) = browser.at_sic(&there);
        let asked = stack
            .sam
            .with(|s| s.requests[&rid].asked.items[0].h.clone());
        assert_eq!(asked.0, hash(n), "#47");
        stack.sam.decide(rid, sam_api::ssa::RequestState::Approved);
        let code = browser.get(&back).await.param("code").unwrap();
        let granted = token(&stack, &code, &[]).await;
        assert_eq!(granted["token_type"], "SAD");
        // #40
        let hashes: Vec<_> = (0..40).map(hash).collect();
        let listed: Vec<_> = hashes.iter().map(b64u).collect();
        let mut form = request("credential");
        form.extend([
            ("credentialID", "key-hanako".to_owned()),
            ("numSignatures", "40".to_owned()),
            ("hash", listed.join(",")),
        ]);
        let pairs: Vec<(&str, &str)> = form.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let path = "/oauth2/pushed_authorize";
        let pushed = stack.client_form("app", path, &pairs).await;
        let form = vec![
            ("client_id", "app".to_owned()),
            ("request_uri", pushed.text("request_uri")),
        ];
        let mut browser = Browser::new(&stack);
        let code = browser.approve_for_code(&form, "hanako").await;
        let granted = token(&stack, &code, &[]).await;
        let service = stack.service_token("app", "hanako").await;
        let body = json!({ "credentialID": "key-hanako", "SAD": granted["access_token"],
            "hash": hashes.iter().map(b64).collect::<Vec<_>>(), "signAlgo": P256 });
        let bearer = format!("Bearer {service}");
        let signed = call(&stack, "/csc/v1/signatures/signHash", &bearer, &body).await;
        let values = signed.json()["signatures"].as_array().map(Vec::len);
        assert_eq!(values, Some(40), "#40");
    }
}
