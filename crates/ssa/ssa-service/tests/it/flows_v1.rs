//! What version 1 of the CSC API has otherwise: OAuth in its words (8.3.2 and 8.3.3 there), and lists in parts (11.4).

use axum::body::Body;
use axum::http::{Request, StatusCode};
use core_types::bytes::{b64, b64u};
use core_types::{HashAlg, KeyAlg};
use sam_api::ssa::KeyState;
use serde_json::{Value, json};

use crate::web::{Answer, Browser, Stack, service_request, stacks, with};

async fn v1(stack: &Stack, method: &str, token: &str, body: &Value) -> Answer {
    let request = Request::post(format!("/csc/v1/{method}"))
        .header("authorization", format!("Bearer {token}"));
    let request = request.body(Body::from(body.to_string())).unwrap();
    stack.send(request).await
}

// shows: I-5.2.2-flow-may-vary
#[tokio::test]
async fn version_1_asks_with_hash_alone_and_signs_with_the_sad_that_it_gets() {
    for stack in stacks().await {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA384, b"contract");
        let mut form = with(service_request("app"), "scope", Some("credential"));
        form.extend([
            ("credentialID", "key-taro".to_owned()),
            ("numSignatures", "1".to_owned()),
            ("hash", b64u(digest.as_ref())),
            ("description", "Lease".to_owned()),
        ]);
        let mut browser = Browser::new(&stack);
        let code = browser.approve_for_code(&form, "taro").await;
        let asked = stack
            .sam
            .with(|s| s.requests.values().next().unwrap().asked.clone());
        assert_eq!(asked.items[0].ha, HashAlg::Sha384);
        let tokens = stack.exchange("app", &code).await.json();
        assert_eq!(tokens["token_type"], "SAD");
        stack.next_code();
        let service = stack.service_token("app", "taro").await;
        let body = json!({ "credentialID": "key-taro", "SAD": tokens["access_token"],
            "hash": [b64(digest.as_ref())], "signAlgo": "1.2.840.113549.1.1.1",
            "hashAlgo": HashAlg::Sha384.oid() });
        let sign = async || v1(&stack, "signatures/signHash", &service, &body).await;
        let signed = sign().await;
        assert_eq!(signed.status, StatusCode::OK, "{}", signed.body);
        assert_eq!(signed.json()["signatures"].as_array().unwrap().len(), 1);
        assert_eq!(
            sign().await.json()["error_description"],
            "Invalid parameter SAD"
        );

        // Who names the hash speaks version 2, under whichever name; no length that isn't a hash's; PKCE as everybody.
        let oid = Some(HashAlg::Sha384.oid());
        let named = with(form.clone(), "hashAlgorithmOID", oid);
        let mut browser = Browser::new(&stack);
        let code = browser.approve_for_code(&named, "taro").await;
        let tokens = stack.exchange("app", &code).await;
        assert_eq!(tokens.text("token_type"), "Bearer");
        let short = b64u([1; 20]);
        for (wrong, words) in [
            (
                with(form.clone(), "hash", Some(&short)),
                "Invalid parameter hash",
            ),
            (
                with(form.clone(), "code_challenge", None),
                "PKCE is required: send code_challenge with code_challenge_method S256",
            ),
        ] {
            let answer = browser.authorize(&wrong).await;
            assert_eq!(answer.param("error").as_deref(), Some("invalid_request"));
            assert_eq!(answer.param("error_description").as_deref(), Some(words));
        }
    }
}

#[tokio::test]
async fn version_1_reads_a_list_in_parts_whatever_is_made_or_deleted_meanwhile() {
    for stack in stacks().await {
        let token = stack.service_token("app", "hanako").await;
        let person = stack.users["hanako"].person.clone();
        let mut all = vec!["key-hanako".to_owned()];
        for n in 0..4 {
            let id = format!("key-{n}");
            stack.sam.add_key(&person, &id, KeyAlg::P256);
            all.push(id);
        }
        let list = async |body: &Value| {
            let answer = v1(&stack, "credentials/list", &token, body).await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
            answer.json()
        };
        let mut read: Vec<String> = Vec::new();
        let mut body = json!({ "maxResults": 2 });
        // At most as many parts as there are keys.
        for part in 0..all.len() {
            let told = list(&body).await;
            let ids = told["credentialIDs"].as_array().unwrap();
            assert!(ids.len() <= 2);
            read.extend(ids.iter().map(|id| id.as_str().unwrap().to_owned()));
            if part == 0 {
                stack.sam.add_key(&person, "key-new", KeyAlg::P256);
                all.push("key-new".to_owned());
                // The last one of this part.
                crate::delete::state(&stack, "key-0", KeyState::Destroyed);
            }
            match told.get("nextPageToken") {
                Some(next) => body["pageToken"] = next.clone(),
                None => break,
            }
        }
        assert_eq!(read, all);
        all.retain(|id| id != "key-0");
        let whole = list(&json!({})).await;
        assert_eq!(whole, json!({ "credentialIDs": all }));
        // What stands for a part of hers stands for none of his; version 2 has no parts.
        stack.next_code();
        let taro = stack.service_token("app", "taro").await;
        let answer = v1(&stack, "credentials/list", &taro, &body).await;
        assert_eq!(
            answer.error(),
            (400, "Invalid parameter pageToken".to_owned())
        );
        let answer = stack
            .csc("credentials/list", &token, r#"{"maxResults":2}"#)
            .await;
        assert_eq!(answer.json(), json!({ "credentialIDs": all }));
    }
}
