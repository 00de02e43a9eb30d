//! More clients of version 2. Those whose contract has them read leniently are said to be so.

use axum::http::StatusCode;
use core_types::bytes::{b64, b64u, from_b64};
use core_types::{HashAlg, KeyAlg};
use sam_api::ssa::KeyState;
use serde_json::{Value, json};
use service_kit::CallError;
use ssa_service::ClientSettings;

use super::lenient::lenient;
use super::raw;
use super::sequences::{P256, call, request};
use crate::create::{POLICY, at_sic, creations, enrol};
use crate::oauth::{Key, client};
use crate::web::{
    Browser, REDIRECT, VERIFIER, encode, hash, service_request, stacks, stacks_with, until, with,
};

/// Base64url with its padding, as some write hashes in an address.
fn padded(n: u8) -> String {
    b64(hash(n)).replace('+', "-").replace('/', "_")
}

fn bearer(granted: &Value) -> String {
    format!("Bearer {}", granted["access_token"].as_str().unwrap())
}

/// The tester of the EUDI wallet, in Python (`eudi-app-web-walletdriven-tester-py`), read leniently. It would begin authorizations itself and
/// hand its user the address where they go on; here the browser begins.
#[tokio::test]
async fn a_tester_in_python() {
    for stack in stacks_with(|config| config.creations = creations()).await {
        stack.contract("app", &lenient()).await;
        // #44: what one browser began is not gone on with in another, which could be anybody's.
        let form = request("service");
        let path = format!("/oauth2/authorize?{}", encode(&form));
        let begun = Browser::new(&stack).get(&path).await;
        let elsewhere = Browser::new(&stack).get(&begun.location()).await;
        assert!(!elsewhere.body.contains("name=\"password\""), "#44");
        // #43: all in the address, but for the secret.
        let basic = format!("Basic {}", b64(format!("app:{}", stack.clients["app"])));
        let redeem = async |code: &str, more: &[(&str, &str)]| {
            let mut pairs = vec![
                ("grant_type", "authorization_code"),
                ("code", code),
                ("client_id", "app"),
                ("redirect_uri", REDIRECT),
                ("code_verifier", VERIFIER),
            ];
            pairs.extend(more);
            let path = format!("/oauth2/token?{}", encode(&pairs));
            let answer = raw(&stack, &path, &[("authorization", basic.as_str())], "").await;
            assert_eq!(answer.status, StatusCode::OK, "#43: {}", answer.body);
            stack.next_code();
            answer.json()
        };
        let code = Browser::new(&stack).log_in_for_code(&form, "hanako").await;
        let service = bearer(&redeem(&code, &[]).await);
        // #4: as it is now, and as it was.
        for flag in [json!(true), json!("true")] {
            let body =
                json!({ "credentialInfo": flag, "certificates": "single", "certInfo": flag });
            let list = call(&stack, "/csc/v2/credentials/list", &service, &body).await;
            let one = &list.json()["credentialInfos"][0];
            assert!(one["cert"]["subjectDN"].is_string(), "#4: {}", list.body);
            let body = json!({ "credentialID": "key-hanako", "credentialInfo": flag, "certificates": "chain",
                "certInfo": flag });
            let info = call(&stack, "/csc/v2/credentials/info", &service, &body).await;
            let chain = info.json()["cert"]["certificates"].as_array().map(Vec::len);
            assert_eq!(chain, Some(2));
        }
        // #21: details as Python prints them, and at the token endpoint (#45) only the names in them.
        let kind = "https://cloudsignatureconsortium.org/2025/credential-";
        let printed = |kind: &str, member: &str| format!("[{{'type': '{kind}', {member}}}]");
        let names = [
            ("authorization_details", "type"),
            ("authorization_details", "credentialCreationRequest"),
        ];
        let wanted = format!("'credentialCreationRequest': {{'certificatePolicy': '{POLICY}'}}");
        // Scopes of the names that wallets and servers have for it, and none.
        let scopes = ["", "credential-creation", "credential_creation"];
        for (n, scope) in scopes.into_iter().enumerate() {
            let scope = Some(scope).filter(|scope| !scope.is_empty());
            let form = with(request("service"), "scope", scope);
            let details = printed(&format!("{kind}creation"), &wanted);
            let form = with(form, "authorization_details", Some(&details));
            let mut browser = Browser::new(&stack);
            at_sic(&mut browser, &form, "hanako").await;
            let back = enrol(&stack, &format!("key-made-{n}"));
            let code = browser.get(&back).await.param("code").unwrap();
            let granted = redeem(&code, &names).await;
            let body = json!({ "credentialCreationRequest": { "certificatePolicy": POLICY },
                "credentialInfo": true, "certificates": "single", "certInfo": true });
            let path = "/csc/v2/credentials/create";
            let made = call(&stack, path, &bearer(&granted), &body).await;
            assert_eq!(made.status, StatusCode::CREATED);
            assert_eq!(made.text("credentialID"), format!("key-made-{n}"));
        }
        // A signature, by plain parameters.
        let mut form = request("credential");
        form.extend([
            ("credentialID", "key-made-0".to_owned()),
            ("numSignatures", "1".to_owned()),
            ("hashes", padded(1)),
            ("hashAlgorithmOID", HashAlg::Sha256.oid().to_owned()),
        ]);
        let code = Browser::new(&stack).approve_for_code(&form, "hanako").await;
        let granted = redeem(&code, &[]).await;
        let body = json!({ "credentialID": "key-made-0", "hashes": [b64(hash(1))],
            "hashAlgorithmOID": HashAlg::Sha256.oid(), "signAlgo": P256, "operationMode": "S",
            "client_Data": "12345678" });
        let path = "/csc/v2/signatures/signHash";
        let signed = call(&stack, path, &bearer(&granted), &body).await;
        assert!(signed.json()["signatures"][0].is_string());
        // And the end of each.
        let scopes = ["", "credential-deletion", "credential_deletion"];
        for (n, scope) in scopes.into_iter().enumerate() {
            let scope = Some(scope).filter(|scope| !scope.is_empty());
            let key = format!("key-made-{n}");
            let form = with(request("service"), "scope", scope);
            let member = format!("'credentialID': '{key}'");
            let details = printed(&format!("{kind}deletion"), &member);
            let form = with(form, "authorization_details", Some(&details));
            let code = Browser::new(&stack).approve_for_code(&form, "hanako").await;
            crate::delete::state(&stack, &key, KeyState::Destroyed);
            let granted = redeem(&code, &names).await;
            let body = json!({ "credentialDeletionRequest": { "credentialID": key } });
            let path = "/csc/v2/credentials/delete";
            let ended = call(&stack, path, &bearer(&granted), &body).await;
            assert_eq!(ended.status, StatusCode::NO_CONTENT);
        }
    }
}

/// An adapter that takes one profile of version 2.2 and nothing beside it (`CertConcord`).
#[tokio::test]
async fn an_adapter_that_takes_nothing_else() {
    for stack in stacks().await {
        let person = stack.users["hanako"].person.clone();
        stack.sam.add_key(&person, "key-explicit", KeyAlg::P256);
        let token = stack.service_token("app", "hanako").await;
        let token = format!("Bearer {token}");
        let exactly = async |method: &str, body: Value| {
            let answer = call(&stack, &format!("/csc/v2/{method}"), &token, &body).await;
            assert_eq!(answer.status, StatusCode::OK, "#27 {method}");
            assert_eq!(answer.headers["content-type"], "application/json", "#28");
            answer.json()
        };
        let info = exactly("info", json!({})).await;
        assert_eq!(info["specs"], "2.2.0.0", "#9");
        let methods = info["methods"].as_array().unwrap();
        for method in [
            "credentials/info",
            "credentials/authorize",
            "signatures/signHash",
        ] {
            assert!(methods.contains(&json!(method)), "#9 {method}");
        }
        let asked = json!({ "credentialID": "key-explicit", "certificates": "chain", "certInfo": true,
            "authInfo": true });
        let seen = exactly("credentials/info", asked).await;
        assert_eq!(
            (&seen["key"]["status"], &seen["key"]["curve"]),
            (&json!("enabled"), &json!("1.2.840.10045.3.1.7"))
        );
        let algorithms = seen["key"]["algo"].as_array().unwrap();
        assert!(algorithms.contains(&json!(P256)));
        assert_eq!(seen["cert"]["status"], "valid");
        let leaf = seen["cert"]["certificates"][0].as_str().unwrap();
        assert!(from_b64(leaf).is_ok(), "#37");
        assert_eq!(
            (&seen["auth"]["mode"], &seen["SCAL"]),
            (&json!("explicit"), &json!("2"))
        );
        assert!(seen["multisign"].as_u64().is_some_and(|n| n >= 1), "#28");
        // Its caller fills in each object by its id; names of version 1 it refuses itself.
        let objects = seen["auth"]["objects"].as_array().unwrap();
        let secret = |object: &Value| {
            let id = object["id"].as_str().unwrap();
            let value = if id == "OTP" { "123456" } else { "secret pin" };
            json!({ "id": id, "value": value })
        };
        let data: Vec<Value> = objects.iter().map(secret).collect();
        let hashes = json!([b64(hash(1))]);
        let asked = json!({ "credentialID": "key-explicit", "numSignatures": 1, "hashes": hashes,
            "hashAlgorithmOID": HashAlg::Sha256.oid(), "authData": data });
        let granted = exactly("credentials/authorize", asked).await;
        assert!(granted["expiresIn"].as_u64().is_some_and(|left| left > 0));
        let sad = granted["SAD"].as_str().unwrap();
        let asked = json!({ "credentialID": "key-explicit", "SAD": sad, "hashes": hashes,
            "hashAlgorithmOID": HashAlg::Sha256.oid(), "signAlgo": P256, "operationMode": "S",
            "clientData": "operation-1" });
        let signed = exactly("signatures/signHash", asked).await;
        let [value] = signed["signatures"].as_array().unwrap().as_slice() else {
            panic!("#28: {signed}")
        };
        assert!(from_b64(value.as_str().unwrap()).is_ok(), "#28");
        assert!(signed.get("responseID").is_none());
    }
}

/// Two clients of Sign8, in TypeScript and PHP: one extends with its token as SAD and signs with the SAD as its token, the other waits
/// for its values. Both name the credential here, which they would leave to the service.
#[tokio::test]
async fn clients_that_take_token_and_sad_for_one() {
    for stack in stacks().await {
        let settings = ClientSettings {
            renew_seconds: 900,
            documents: true,
            ..lenient()
        };
        stack.contract("app", &settings).await;
        let mut form = request("credential");
        form.extend([
            ("credentialID", "key-hanako".to_owned()),
            ("numSignatures", "2".to_owned()),
            ("hashes", format!("{},{}", padded(1), padded(2))),
            ("hashAlgorithmOID", HashAlg::Sha256.oid().to_owned()),
        ]);
        // By its secret in the form.
        let redeem = async |form: &crate::web::Form| {
            let code = Browser::new(&stack).approve_for_code(form, "hanako").await;
            let body = [
                ("grant_type", "authorization_code"),
                ("code", code.as_str()),
                ("redirect_uri", REDIRECT),
                ("client_id", "app"),
                ("client_secret", stack.clients["app"].as_str()),
                ("code_verifier", VERIFIER),
            ];
            let kind = [("content-type", "application/x-www-form-urlencoded")];
            let granted = raw(&stack, "/oauth2/token", &kind, &encode(&body)).await;
            assert_eq!(granted.status, StatusCode::OK, "{}", granted.body);
            stack.next_code();
            granted.text("access_token")
        };
        let token = redeem(&form).await;
        // #26: the token as SAD, and what comes of it as token.
        let hashes = json!([b64(hash(1)), b64(hash(2))]);
        let body = json!({ "SAD": token, "credentialID": "key-hanako", "hashes": hashes,
            "hashAlgorithmOID": HashAlg::Sha256.oid() });
        let path = "/csc/v2/credentials/extendTransaction";
        let extended = call(&stack, path, &format!("Bearer {token}"), &body).await;
        let sad = extended.text("SAD");
        let entry = json!({ "hashes": hashes, "hashAlgorithmOID": HashAlg::Sha256.oid(), "signAlgo": P256,
            "signature_format": "C", "conformance_level": "Ades-B-B", "signed_envelope_property": "Detached" });
        let body = json!({ "credentialID": "key-hanako", "operationMode": "S", "returnValidationInfo": true,
            "documentDigests": [entry] });
        let path = "/csc/v2/signatures/signDoc";
        let signed = call(&stack, path, &format!("Bearer {sad}"), &body).await;
        assert!(signed.json()["SignatureObject"][0].is_string(), "#26, #48");
        let asked = stack.worker.asked.lock().unwrap().pop().unwrap();
        assert_eq!(asked.token.expose(), sad, "#26");
        assert!(!asked.body.contains("returnValidationInfo"), "#48");

        // The other: hashes of data to be signed, in the background.
        let settings = ClientSettings {
            documents: false,
            ..settings
        };
        stack.contract("app", &settings).await;
        let form = with(form, "numSignatures", Some("1"));
        let form = with(form, "hashes", Some(&b64u(hash(3))));
        let token = redeem(&form).await;
        let bearer = format!("Bearer {token}");
        stack
            .sam
            .with(|s| s.sign_refusals = vec![CallError::Unreachable]);
        let body = json!({ "credentialID": "key-hanako", "hashes": [b64(hash(3))],
            "hashAlgorithmOID": HashAlg::Sha256.oid(), "signAlgo": P256, "operationMode": "A" });
        let begun = call(&stack, "/csc/v2/signatures/signHash", &bearer, &body).await;
        let body = json!({ "requestID": begun.text("responseID") });
        let path = "/csc/v2/signatures/signPolling";
        let pending = call(&stack, path, &bearer, &body).await;
        // #27: no error to it, and no values either, so that it asks again.
        assert_eq!(pending.status, StatusCode::ACCEPTED, "#27");
        assert!(pending.json().get("signatures").is_none(), "#27");
        crate::later::worked(&stack).await;
        stack.clock.advance(5);
        let signed = until("values", async || {
            let answer = call(&stack, path, &bearer, &body).await;
            answer.json()["signatures"][0].as_str().map(str::to_owned)
        });
        assert!(from_b64(&signed.await).is_ok());
        let form = [("token", token.as_str()), ("client_id", "app")];
        let revoked = stack.client_form("app", "/oauth2/revoke", &form).await;
        assert_eq!(revoked.status, StatusCode::NO_CONTENT, "#27");
    }
}

/// Types of version 2.2 in Rust with a signer of DPoP proofs, read leniently: names of version 1 among those of version 2.
#[tokio::test]
async fn a_module_in_rust_that_proves_its_key() {
    for mut stack in stacks().await {
        let settings = ClientSettings {
            bound_tokens: true,
            ..lenient()
        };
        client(&mut stack, "bound", settings).await;
        let person = stack.users["hanako"].person.clone();
        stack.sam.add_key(&person, "key-explicit", KeyAlg::P256);
        let key = Key::new();
        let code = Browser::new(&stack)
            .log_in_for_code(&service_request("bound"), "hanako")
            .await;
        stack.next_code();
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", REDIRECT),
            ("client_id", "bound"),
            ("code_verifier", VERIFIER),
        ];
        let basic = b64(format!("bound:{}", stack.clients["bound"]));
        let headers = [
            ("authorization", format!("Basic {basic}")),
            (
                "content-type",
                "application/x-www-form-urlencoded".to_owned(),
            ),
            ("dpop", key.good_proof(&stack, "/oauth2/token", None, "0")),
        ];
        let headers = headers.each_ref().map(|(n, v)| (*n, v.as_str()));
        let granted = raw(&stack, "/oauth2/token", &headers, &encode(&form)).await;
        assert_eq!(granted.text("token_type"), "DPoP");
        let token = granted.text("access_token");
        let proved = async |method: &str, jti: &str, body: Value| {
            let path = format!("/csc/v2/{method}");
            let proof = key.good_proof(&stack, &path, Some(&token), jti);
            let scheme = format!("DPoP {token}");
            let headers = [
                ("authorization", scheme.as_str()),
                ("dpop", proof.as_str()),
                ("content-type", "application/json"),
            ];
            raw(&stack, &path, &headers, &body.to_string()).await
        };
        let body = json!({ "maxResults": 10, "pageToken": null });
        let list = proved("credentials/list", "1", body).await;
        let ids = list.json()["credentialIDs"].clone();
        assert_eq!(ids, json!(["key-hanako", "key-explicit"]), "#25");
        let body = json!({ "credentialID": "key-explicit", "numSignatures": 1, "hash": [b64(hash(1))],
            "hashAlgo": HashAlg::Sha256.oid(), "PIN": "secret pin", "OTP": "123456" });
        let granted = proved("credentials/authorize", "2", body).await;
        assert_eq!(granted.status, StatusCode::OK, "#24: {}", granted.body);
        // #46: an hour, in its own words.
        let body = json!({ "credentialID": "key-explicit", "SAD": granted.text("SAD"), "hashes": [b64(hash(1))],
            "hashAlgorithmOID": HashAlg::Sha256.oid(), "signAlgo": P256, "operationMode": "A",
            "validityPeriod": 3_600_000 });
        let begun = proved("signatures/signHash", "3", body).await;
        let id = begun.text("responseID");
        let mut n = 3;
        let values = until("values", async || {
            n += 1;
            let body = json!({ "requestID": id });
            let answer = proved("signatures/signPolling", &n.to_string(), body).await;
            answer.json()["signatures"][0].as_str().map(str::to_owned)
        });
        assert!(from_b64(&values.await).is_ok(), "#46");
        // Without its key the token is nobody's.
        let body = json!({}).to_string();
        let stolen = [("authorization", format!("Bearer {token}"))];
        let stolen = stolen.each_ref().map(|(n, v)| (*n, v.as_str()));
        let answer = raw(&stack, "/csc/v2/credentials/list", &stolen, &body).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
}
