//! Requests that are signed, or pushed under FAPI 2.0; and the server's description of itself.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use core_types::Clock as _;
use core_types::bytes::b64u;
use sam_api::ssa::RequestState;
use serde_json::{Value, json};
use ssa_service::{ClientSettings, NewClient};

use super::{JWT_BEARER, Key, assertion, client, error, post};
use crate::device::type_code;
use crate::fake::client_id;
use crate::web::{
    BASE, Browser, Form, REDIRECT, Stack, VERIFIER, credential_request, hash, service_request,
    stacks, with,
};

fn request_object(stack: &Stack, key: &Key, id: &str, change: impl FnOnce(&mut Value)) -> String {
    let now = stack.clock.now();
    let mut claims = json!({ "iss": id, "aud": BASE, "exp": now.plus(300), "nbf": now });
    for (name, value) in credential_request(id, "key-hanako", &[hash(1)]) {
        claims[name] = match name {
            "authorization_details" => serde_json::from_str(&value).unwrap(),
            _ => json!(value),
        };
    }
    change(&mut claims);
    let header = json!({ "alg": "ES256", "typ": "oauth-authz-req+jwt" });
    key.sign(&header, &claims)
}

// shows: T-USE-DTBSR-FORGE
#[tokio::test]
async fn what_stands_in_a_signed_request_counts_and_nothing_beside_it() {
    for mut stack in stacks().await {
        let key = Key::new();
        let settings = ClientSettings {
            keys: vec![key.jwk()],
            signed_requests: true,
            renew_seconds: 900,
            ..ClientSettings::default()
        };
        client(&mut stack, "signs", settings).await;
        let open = async |object: &str, more: &[(&'static str, &str)]| {
            let mut form: Form = vec![
                ("client_id", "signs".to_owned()),
                ("request", object.to_owned()),
            ];
            form.extend(more.iter().map(|(n, v)| (*n, (*v).to_owned())));
            let mut browser = Browser::new(&stack);
            let page = browser.authorize(&form).await;
            if page.status != StatusCode::OK {
                return None;
            }
            let answer = browser.log_in_here(&page, "hanako").await;
            stack.next_code();
            let rid = browser.at_sic(&answer).0;
            Some(stack.sam.with(|s| s.requests[&rid].asked.clone()))
        };
        let good = request_object(&stack, &key, "signs", |_| ());
        // Somebody put other hashes beside it.
        let details = credential_request("signs", "key-hanako", &[hash(9)]);
        let details = &details.last().unwrap().1;
        let asked = open(&good, &[("authorization_details", details)])
            .await
            .unwrap();
        assert_eq!(asked.items[0].h.0, hash(1));
        // The SAM gets it as it came, to judge for itself.
        assert_eq!(asked.client_jws.as_deref(), Some(good.as_str()));
        // How long the rest may be signed stands in it too, and what stands nowhere is no time, whatever the contract says.
        let two = credential_request("signs", "key-hanako", &[hash(1), hash(2)]);
        let mut two: Value = serde_json::from_str(&two.last().unwrap().1).unwrap();
        for (says, renew) in [(None, 0), (Some(600), 600)] {
            if let Some(seconds) = says {
                two[0]["renewableFor"] = json!(seconds);
            }
            let signed = request_object(&stack, &key, "signs", |claims| {
                claims["authorization_details"] = two.clone();
            });
            assert_eq!(open(&signed, &[]).await.unwrap().renew, renew, "{says:?}");
        }

        let now = stack.clock.now();
        let other = Key::new();
        let change = |name: &str, value: Value| {
            request_object(&stack, &key, "signs", |claims| claims[name] = value)
        };
        let tampered = {
            let parts: Vec<&str> = good.split('.').collect();
            let claims = core_types::bytes::from_b64u(parts[1]).unwrap();
            let claims = String::from_utf8(claims).unwrap().replace("s t&=", "other");
            format!("{}.{}.{}", parts[0], b64u(claims), parts[2])
        };
        for (case, object) in [
            ("tampered", tampered),
            (
                "another key",
                request_object(&stack, &other, "signs", |_| ()),
            ),
            ("another client", change("iss", json!("app"))),
            ("another client inside", change("client_id", json!("app"))),
            (
                "another server",
                change("aud", json!("https://evil.example")),
            ),
            ("expired", change("exp", json!(now))),
            ("for a day", change("exp", json!(now.plus(86_400)))),
            ("a request in it", change("request_uri", json!("urn:x"))),
            ("a client's assertion", key.jwt(&json!({ "iss": "signs" }))),
        ] {
            assert!(open(&object, &[]).await.is_none(), "{case}");
        }
        // Once, if it says so.
        let once = request_object(&stack, &key, "signs", |claims| claims["jti"] = json!("1"));
        assert!(open(&once, &[]).await.is_some());
        assert!(open(&once, &[]).await.is_none());
        // Unsigned requests of this client are none.
        let mut browser = Browser::new(&stack);
        let plain = browser
            .authorize(&credential_request("signs", "key-hanako", &[hash(1)]))
            .await;
        assert_eq!(plain.status, StatusCode::BAD_REQUEST);
    }
}

// shows: T-USE-DTBSR-FORGE
#[tokio::test]
async fn a_devices_signed_request_reaches_the_sam_and_its_users_code_ends_with_it() {
    for mut stack in stacks().await {
        let key = Key::new();
        let settings = ClientSettings {
            keys: vec![key.jwk()],
            signed_requests: true,
            device: true,
            ..ClientSettings::default()
        };
        client(&mut stack, "signs", settings).await;
        let begin = async |object: &str, jti: &str| {
            let jwt = key.jwt(&assertion(&stack, "signs", jti));
            let form = [
                ("client_assertion_type", JWT_BEARER),
                ("client_assertion", jwt.as_str()),
                ("request", object),
            ];
            post(&stack, "/oauth2/device_authorization", &[], &form).await
        };
        let object = request_object(&stack, &key, "signs", |_| ());
        let codes = begin(&object, "1").await;
        let mut browser = Browser::new(&stack);
        browser.log_in("hanako").await;
        let away = type_code(&mut browser, &codes.text("user_code")).await;
        let (rid, back) = browser.at_sic(&away);
        let asked = stack.sam.with(|s| s.requests[&rid].asked.clone());
        // As it came: the SAM judges for itself.
        assert_eq!(asked.client_jws.as_deref(), Some(object.as_str()));
        assert_eq!(asked.items[0].h.0, hash(1));
        // Later than that the SAM wouldn't take it. Who came in time decides in time of their own.
        let late = begin(&object, "2").await;
        stack.clock.advance(300);
        let page = type_code(&mut browser, &late.text("user_code")).await;
        assert!(page.body.contains("No device waits"), "{}", page.body);
        stack.sam.decide(rid, RequestState::Approved);
        browser.get(&back).await;
        let jwt = key.jwt(&assertion(&stack, "signs", "3"));
        let code = codes.text("device_code");
        let form = [
            ("client_assertion_type", JWT_BEARER),
            ("client_assertion", jwt.as_str()),
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("device_code", code.as_str()),
        ];
        let token = post(&stack, "/oauth2/token", &[], &form).await;
        assert_eq!(token.json()["credentialID"], "key-hanako", "{}", token.body);
    }
}

// shows: T-USE-DTBSR-FORGE
#[tokio::test]
async fn a_client_whose_keys_the_sam_knows_is_told_to_sign_its_requests() {
    for stack in stacks().await {
        let unsigned = sam_api::Refusal::Invalid {
            member: "client_jws".to_owned(),
        };
        stack.sam.with(|s| s.prepare_refusal = Some(unsigned));
        let mut browser = Browser::new(&stack);
        let form = credential_request("app", "key-hanako", &[hash(1)]);
        let page = browser.authorize(&form).await;
        let answer = browser.log_in_here(&page, "hanako").await;
        assert_eq!(
            answer.param("error").as_deref(),
            Some("invalid_request_object")
        );
    }
}

// shows: T-USE-CRED-FORGE, T-USE-CAPTURE
#[tokio::test]
async fn under_fapi_requests_are_pushed_clients_have_keys_and_tokens_are_bound() {
    for mut stack in stacks().await {
        let key = Key::new();
        let settings = ClientSettings {
            keys: vec![key.jwk()],
            refresh: true,
            fapi: true,
            ..ClientSettings::default()
        };
        client(&mut stack, "bank", settings).await;
        let mut browser = Browser::new(&stack);
        let plain = browser.authorize(&service_request("bank")).await;
        assert_eq!(plain.status, StatusCode::BAD_REQUEST);

        let asserted = |jti: &str| key.jwt(&assertion(&stack, "bank", jti));
        let push = async |form: &Form, jwt: &str| {
            let mut form: Vec<(&str, &str)> = form.iter().map(|(n, v)| (*n, v.as_str())).collect();
            form.extend([
                ("client_assertion_type", JWT_BEARER),
                ("client_assertion", jwt),
            ]);
            post(&stack, "/oauth2/pushed_authorize", &[], &form).await
        };
        let nowhere = with(service_request("bank"), "redirect_uri", None);
        assert_eq!(
            push(&nowhere, &asserted("1")).await.status,
            StatusCode::BAD_REQUEST
        );
        // For the issuer, as one text: no other endpoint's fits, and none that is another server's too.
        for aud in [
            json!(format!("{BASE}/oauth2/token")),
            json!(format!("{BASE}/oauth2/pushed_authorize")),
            json!([BASE]),
            json!([BASE, "https://else.example"]),
        ] {
            let mut claims = assertion(&stack, "bank", "2");
            claims["aud"] = aud;
            let answer = push(&service_request("bank"), &key.jwt(&claims)).await;
            assert_eq!(error(&answer), "invalid_client", "{claims}");
        }
        let pushed = push(&service_request("bank"), &asserted("3")).await;
        let uri = pushed.text("request_uri");
        let form = vec![("client_id", "bank".to_owned()), ("request_uri", uri)];
        let code = browser.log_in_for_code(&form, "hanako").await;
        let exchange = async |jwt: &str, proof: Option<&str>, grant: &[(&str, &str)]| {
            let mut form = vec![
                ("client_assertion_type", JWT_BEARER),
                ("client_assertion", jwt),
            ];
            form.extend(grant);
            let headers: Vec<_> = proof.into_iter().map(|proof| ("dpop", proof)).collect();
            post(&stack, "/oauth2/token", &headers, &form).await
        };
        let grant = [
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", REDIRECT),
            ("code_verifier", VERIFIER),
        ];
        let unbound = exchange(&asserted("4"), None, &grant).await;
        assert_eq!(error(&unbound), "invalid_dpop_proof");
        let proof = |jti: &str| key.good_proof(&stack, "/oauth2/token", None, jti);
        let tokens = exchange(&asserted("5"), Some(&proof("p")), &grant).await;
        assert_eq!(tokens.text("token_type"), "DPoP");
        let refresh = tokens.text("refresh_token");
        // The refresh token is the client's, and stays the same: whoever has another key needs the client's, too.
        let grant = [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh.as_str()),
        ];
        let without = exchange(&asserted("6"), None, &grant).await;
        assert_eq!(error(&without), "invalid_dpop_proof");
        for n in ["7", "8"] {
            let again = exchange(&asserted(n), Some(&proof(n)), &grant).await;
            assert_eq!(again.status, StatusCode::OK, "{}", again.body);
            assert!(again.json().get("refresh_token").is_none());
        }
        // Clients without keys can't be made for it.
        let new = NewClient {
            id: client_id("weak"),
            name: "weak".to_owned(),
            redirect_uris: vec![REDIRECT.to_owned()],
            native: false,
            public: false,
            settings: ClientSettings {
                fapi: true,
                ..ClientSettings::default()
            },
        };
        assert!(stack.ssa.create_client(&new).await.is_err());
    }
}

#[tokio::test]
async fn metadata_names_every_endpoint_and_method_and_is_the_same_at_both_addresses() {
    let stack = &stacks().await[0];
    let get = async |path: &str| {
        let request = Request::get(path).body(Body::empty()).unwrap();
        stack.send(request).await.json()
    };
    let metadata = get("/.well-known/oauth-authorization-server").await;
    // What readers of OpenID Connect insist on stands at that address alone.
    let mut openid = get("/.well-known/openid-configuration").await;
    for name in [
        "subject_types_supported",
        "id_token_signing_alg_values_supported",
    ] {
        let beside = openid.as_object_mut().unwrap().remove(name);
        assert!(beside.is_some_and(|value| value.is_array()), "{name}");
    }
    assert_eq!(metadata, openid);
    assert_eq!(metadata["issuer"], BASE);
    for endpoint in [
        "authorization_endpoint",
        "token_endpoint",
        "pushed_authorization_request_endpoint",
        "revocation_endpoint",
        "introspection_endpoint",
        "jwks_uri",
    ] {
        let url = metadata[endpoint].as_str().unwrap();
        let path = url.strip_prefix(BASE).unwrap();
        let request = Request::post(path).body(Body::empty()).unwrap();
        let status = stack.send(request).await.status;
        assert_ne!(status, StatusCode::NOT_FOUND, "{endpoint}");
    }
    for (name, value) in [
        ("grant_types_supported", "refresh_token"),
        ("token_endpoint_auth_methods_supported", "private_key_jwt"),
        ("dpop_signing_alg_values_supported", "ES256"),
        ("code_challenge_methods_supported", "S256"),
    ] {
        let list = metadata[name].as_array().unwrap();
        assert!(list.contains(&json!(value)), "{name}");
    }
    assert_eq!(
        metadata["authorization_response_iss_parameter_supported"],
        true
    );
}
