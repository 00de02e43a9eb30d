//! `credentials/delete`: what ends a key is its owner's proof on the approval page; the call only tells the client that it happened.

use axum::http::StatusCode;
use core_types::{KeyAlg, KeyId};
use sam_api::ssa::{KeyState, RequestState, Wish};
use serde_json::{Value, json};

use crate::web::{Answer, Browser, Form, REDIRECT, Stack, VERIFIER, details_request, hash, stacks};

const DETAILS: &str = "https://cloudsignatureconsortium.org/2025/credential-deletion";

fn request(client: &str, kind: &str, key: &str) -> Form {
    let details = json!([{ "type": kind, "credentialID": key }]);
    details_request(client, &details)
}

/// The key's state, as the SAM would tell it.
pub fn state(stack: &Stack, key: &str, state: KeyState) {
    stack.sam.with(|s| {
        let keys = s.keys.values_mut().flatten();
        keys.filter(|info| info.key.as_str() == key)
            .for_each(|info| info.state = state);
    });
}

/// What the token endpoint answers after the owner approved.
async fn redeemed(stack: &Stack, client: &str, login: &str, key: &str) -> Answer {
    let mut browser = Browser::new(stack);
    let form = request(client, "credential_deletion", key);
    let code = browser.approve_for_code(&form, login).await;
    state(stack, key, KeyState::Destroyed);
    let answer = stack.exchange(client, &code).await;
    stack.next_code();
    answer
}

/// A token that tells of a deletion.
pub async fn token(stack: &Stack, client: &str, login: &str, key: &str) -> String {
    let token = redeemed(stack, client, login, key).await;
    let token = token.text("access_token");
    if key == "key-taro" {
        // Others go on with it.
        state(stack, key, KeyState::Active);
    }
    token
}

async fn delete(stack: &Stack, token: &str, body: &Value) -> Answer {
    stack
        .csc("credentials/delete", token, &body.to_string())
        .await
}

// shows: T-TERM-NOT-OWNER, T-TERM-REPLAY
#[tokio::test]
async fn a_deletion_is_the_owners_act_and_told_once() {
    for stack in stacks().await {
        let person = stack.users["hanako"].person.clone();
        stack.sam.add_key(&person, "key-2", KeyAlg::P256);
        let answer = redeemed(&stack, "app", "hanako", "key-2").await;
        let told = answer.json();
        assert_eq!(told["credentialID"], "key-2", "{}", answer.body);
        assert_eq!(
            told["authorization_details"][0]["type"],
            "credential_deletion"
        );
        let wish = stack.sam.with(|s| s.wishes.pop().unwrap());
        let key = KeyId::parse("key-2").unwrap();
        assert_eq!((wish.person, wish.wish), (person, Wish::Destroy { key }));
        let token = told["access_token"].as_str().unwrap();
        // The token reads about this key alone, and signs nothing.
        let sign = json!({ "credentialID": "key-2", "hashes": ["AA=="], "signAlgo": "1.2" });
        let info = json!({ "credentialID": "key-hanako" });
        let this = json!({ "credentialID": "key-2" });
        let calls = [
            ("credentials/list", json!({}), 403),
            ("credentials/info", info, 400),
            ("credentials/info", this, 200),
            ("signatures/signHash", sign, 400),
        ];
        stack.answers(token, &calls).await;
        let other = json!({ "credentialDeletionRequest": { "credentialID": "key-hanako" } });
        let id = "Invalid parameter credentialID".to_owned();
        assert_eq!(delete(&stack, token, &other).await.error(), (400, id));
        let revoke = json!({ "credentialID": "key-2", "revoke": true, "revocationReason": 1 });
        assert_eq!(delete(&stack, token, &revoke).await.status, 400);
        let own = json!({ "credentialDeletionRequest": { "credentialID": "key-2" } });
        let done = delete(&stack, token, &own).await;
        assert_eq!(
            (done.status, done.body.as_str()),
            (StatusCode::NO_CONTENT, "")
        );
        assert_eq!(
            delete(&stack, token, &own).await.status,
            StatusCode::UNAUTHORIZED
        );
        // For everybody else it isn't there any more.
        let service = stack.service_token("app", "hanako").await;
        for body in ["{}", r#"{"credentialInfo":true}"#] {
            let list = stack.csc("credentials/list", &service, body).await.json();
            assert_eq!(list["credentialIDs"], json!(["key-hanako"]), "{list}");
        }
        let gone = json!({ "credentialID": "key-2" }).to_string();
        let gone = stack.csc("credentials/info", &service, &gone).await;
        let id = "Invalid parameter credentialID".to_owned();
        assert_eq!(gone.error(), (400, id));
    }
}

#[tokio::test]
async fn the_right_to_sign_reads_its_own_key_also_when_that_is_gone() {
    for stack in stacks().await {
        let service = stack.service_token("app", "hanako").await;
        let signing = stack.credential_token("app", "hanako", &[hash(1)]).await;
        // As the SAM leaves a one-time key after the first try: that call may be repeated, and its values need the certificate.
        state(&stack, "key-hanako", KeyState::Destroyed);
        let body = json!({ "credentialID": "key-hanako", "certificates": "chain" }).to_string();
        let told = stack.csc("credentials/info", &signing, &body).await;
        assert_eq!(told.status, StatusCode::OK, "{}", told.body);
        let chain = &told.json()["cert"]["certificates"];
        assert_eq!(chain.as_array().unwrap().len(), 2, "{chain}");
        let others = stack.csc("credentials/info", &service, &body).await;
        assert_eq!(others.told().2, "Invalid parameter credentialID");
    }
}

// shows: T-TERM-NOT-OWNER
#[tokio::test]
async fn nobody_is_told_of_a_deletion_that_the_sam_does_not_confirm() {
    for stack in stacks().await {
        let mut browser = Browser::new(&stack);
        let form = request("app", "credential_deletion", "key-hanako");
        // The login says what is asked for.
        let page = browser.authorize(&form).await;
        assert!(page.body.contains("asks you to delete one of your keys"));
        let answer = browser.log_in_here(&page, "hanako").await;
        let (rid, back) = browser.at_sic(&answer);
        stack.sam.decide(rid, RequestState::Approved);
        let code = browser.get(&back).await.param("code").unwrap();
        stack.sam.decide(rid, RequestState::Refused);
        let refused = stack.exchange("app", &code).await;
        assert_eq!(refused.json()["error"], "invalid_grant");
    }
}

// shows: T-TERM-NOT-OWNER, T-USE-SAP-BYPASS
#[tokio::test]
async fn no_client_ends_a_key_and_no_stranger_is_asked() {
    for stack in stacks().await {
        // Somebody else's key, one that isn't there, and one that is gone already.
        let person = stack.users["hanako"].person.clone();
        stack.sam.add_key(&person, "key-gone", KeyAlg::P256);
        state(&stack, "key-gone", KeyState::Destroyed);
        for key in ["key-taro", "nobodys", "key-gone"] {
            let mut browser = Browser::new(&stack);
            let page = browser.authorize(&request("app", DETAILS, key)).await;
            let answer = browser.log_in_here(&page, "hanako").await;
            assert_eq!(
                answer.param("error").as_deref(),
                Some("access_denied"),
                "{key}"
            );
            stack.next_code();
        }
        // Who wants the certificate revoked as well is told before anybody is asked.
        for member in ["revoke", "credentialDeletionRequest"] {
            let mut details = json!([{ "type": DETAILS, "credentialID": "key-hanako" }]);
            details[0][member] = match member {
                "revoke" => json!(true),
                _ => json!({ "credentialID": "key-hanako", "revoke": true, "revocationReason": 4 }),
            };
            let mut browser = Browser::new(&stack);
            let answer = browser.authorize(&details_request("app", &details)).await;
            let error = answer.param("error");
            assert_eq!(error.as_deref(), Some("invalid_authorization_details"));
            let words = answer.param("error_description").unwrap();
            assert!(words.contains("certification authority"), "{words}");
        }
        assert!(stack.sam.with(|s| s.wishes.is_empty()));
        // Refused on the approval page: no code, and the key goes on.
        let mut browser = Browser::new(&stack);
        let page = browser
            .authorize(&request("app", DETAILS, "key-hanako"))
            .await;
        let answer = browser.log_in_here(&page, "hanako").await;
        let (rid, back) = browser.at_sic(&answer);
        stack.sam.decide(rid, RequestState::Refused);
        let answer = browser.get(&back).await;
        assert_eq!(answer.param("error").as_deref(), Some("access_denied"));
        stack.next_code();
        // Approved, and not done yet: nothing is told that isn't so.
        let token = token(&stack, "app", "hanako", "key-hanako").await;
        state(&stack, "key-hanako", KeyState::Active);
        let own = json!({ "credentialID": "key-hanako" });
        let early = delete(&stack, &token, &own).await;
        assert_eq!(early.status, StatusCode::SERVICE_UNAVAILABLE);
        state(&stack, "key-hanako", KeyState::Destroyed);
        assert_eq!(
            delete(&stack, &token, &own).await.status,
            StatusCode::NO_CONTENT
        );
    }
}

#[tokio::test]
async fn a_code_for_a_deletion_is_for_nothing_else() {
    for stack in stacks().await {
        let mut browser = Browser::new(&stack);
        let form = request("app", "credential-deletion", "key-hanako");
        let code = browser.approve_for_code(&form, "hanako").await;
        let signs = json!([{ "type": "credential", "credentialID": "key-hanako", "numSignatures": 1,
            "hashAlgorithmOID": "2.16.840.1.101.3.4.2.1", "documentDigests": [{ "hash": "AA==" }] }]);
        let elsewhere = json!({ "type": "credential_deletion", "credentialID": "key-taro" });
        for details in [signs, elsewhere] {
            let form = [
                ("grant_type", "authorization_code"),
                ("code", code.as_str()),
                ("redirect_uri", REDIRECT),
                ("code_verifier", VERIFIER),
                ("authorization_details", &details.to_string()),
            ];
            let answer = stack.client_form("app", "/oauth2/token", &form).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.body);
        }
    }
}
