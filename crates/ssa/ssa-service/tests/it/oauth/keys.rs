//! Clients and tokens with keys: assertions, and tokens that are bound (DPoP).

use axum::body::Body;
use axum::http::{Request, StatusCode};
use core_types::bytes::{b64, b64u};
use core_types::{Clock as _, sha256};
use serde_json::{Value, json};
use ssa_service::ClientSettings;

use super::{JWT_BEARER, Key, assertion, client, csc, error, post, service_code};
use crate::certificates::{ASKING, with_cas};
use crate::web::{
    BASE, Browser, REDIRECT, VERIFIER, credential_request, hash, service_request, stacks,
    stacks_with, with,
};

// shows: T-USE-CRED-FORGE
#[tokio::test]
async fn a_client_with_keys_proves_them_each_time_anew() {
    for mut stack in stacks().await {
        let (key, other) = (Key::new(), Key::new());
        let settings = |key: &Key| ClientSettings {
            keys: vec![key.jwk()],
            users: vec!["hanako".to_owned()],
            ..ClientSettings::default()
        };
        client(&mut stack, "keyed", settings(&key)).await;
        client(&mut stack, "keyed2", settings(&other)).await;
        let ask = async |jwt: &str, more: &[(&str, &str)]| {
            let mut form = vec![
                ("grant_type", "client_credentials"),
                ("client_assertion_type", JWT_BEARER),
                ("client_assertion", jwt),
            ];
            form.extend(more);
            post(&stack, "/oauth2/token", &[], &form).await
        };
        let good = key.jwt(&assertion(&stack, "keyed", "1"));
        assert_eq!(
            ask(&good, &[("client_id", "keyed")]).await.status,
            StatusCode::OK
        );
        // RFC 9126 §2: the issuer, or one of two endpoints, among whatever else.
        for endpoint in ["token", "pushed_authorize"] {
            let url = format!("{BASE}/oauth2/{endpoint}");
            for aud in [json!(url), json!(["https://else.example", url])] {
                let mut claims = assertion(&stack, "keyed", &aud.to_string());
                claims["aud"] = aud;
                assert_eq!(ask(&key.jwt(&claims), &[]).await.status, StatusCode::OK);
            }
        }
        let named = {
            let header = json!({ "alg": "ES256", "typ": "client-authentication+jwt" });
            key.sign(&header, &assertion(&stack, "keyed", "2"))
        };
        assert_eq!(ask(&named, &[]).await.status, StatusCode::OK);
        let now = stack.clock.now();
        let change = |name: &str, value: Value| {
            let mut claims = assertion(&stack, "keyed", name);
            claims[name] = value;
            key.jwt(&claims)
        };
        let cases = [
            ("replayed", good.clone()),
            ("other key", other.jwt(&assertion(&stack, "keyed", "3"))),
            (
                "other audience",
                change("aud", json!("https://evil.example")),
            ),
            (
                "another endpoint",
                change("aud", json!(format!("{BASE}/oauth2/revoke"))),
            ),
            // Where nobody is asked for certificates.
            (
                "an address that isn't ours",
                change("aud", json!(format!("{ASKING}/oauth2/token"))),
            ),
            ("no audience", change("aud", Value::Null)),
            ("a signed request", {
                let header = json!({ "alg": "ES256", "typ": "oauth-authz-req+jwt" });
                key.sign(&header, &assertion(&stack, "keyed", "5"))
            }),
            ("expired", change("exp", json!(now))),
            ("for a year", change("exp", json!(now.plus(31_536_000)))),
            ("without an end", change("exp", Value::Null)),
            ("not yet", change("nbf", json!(now.plus(120)))),
            ("another issuer", change("iss", json!("keyed2"))),
            ("another client", change("sub", json!("keyed2"))),
            ("nobody", change("sub", json!("nobody"))),
            ("no jti", change("jti", Value::Null)),
            ("alg none", {
                let claims = assertion(&stack, "keyed", "4").to_string();
                format!("{}.{}.", b64u(r#"{"alg":"none"}"#), b64u(claims))
            }),
            ("no JWT", "x".to_owned()),
        ];
        for (case, jwt) in cases {
            let answer = ask(&jwt, &[]).await;
            assert_eq!(
                (answer.status, error(&answer).as_str()),
                (StatusCode::UNAUTHORIZED, "invalid_client"),
                "{case}"
            );
        }
        let fresh = |n: &str| key.jwt(&assertion(&stack, "keyed", n));
        for more in [("client_secret", "x"), ("client_id", "keyed2")] {
            assert_eq!(error(&ask(&fresh("5"), &[more]).await), "invalid_client");
        }
        // Its id alone, or a secret it doesn't have, is nothing.
        for form in [
            vec![("grant_type", "client_credentials"), ("client_id", "keyed")],
            vec![
                ("grant_type", "client_credentials"),
                ("client_id", "keyed"),
                ("client_secret", ""),
            ],
        ] {
            let answer = post(&stack, "/oauth2/token", &[], &form).await;
            assert!(answer.status.is_client_error(), "{}", answer.body);
        }
    }
}

#[tokio::test]
async fn an_assertion_may_be_for_where_certificates_are_asked_for() {
    let (_dir, stacks) = with_cas(|_| {}).await;
    for mut stack in stacks {
        let key = Key::new();
        let settings = ClientSettings {
            keys: vec![key.jwk()],
            users: vec!["hanako".to_owned()],
            ..ClientSettings::default()
        };
        client(&mut stack, "keyed", settings).await;
        for endpoint in ["token", "pushed_authorize"] {
            let mut claims = assertion(&stack, "keyed", endpoint);
            claims["aud"] = json!(format!("{ASKING}/oauth2/{endpoint}"));
            let jwt = key.jwt(&claims);
            let form = [
                ("grant_type", "client_credentials"),
                ("client_assertion_type", JWT_BEARER),
                ("client_assertion", jwt.as_str()),
            ];
            let answer = post(&stack, "/oauth2/token", &[], &form).await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        }
    }
}

#[tokio::test]
async fn where_all_clients_are_under_fapi_none_is_read_leniently() {
    for mut stack in stacks_with(|config| config.fapi = true).await {
        let key = Key::new();
        let settings = ClientSettings {
            keys: vec![key.jwk()],
            users: vec!["hanako".to_owned()],
            lenient: true,
            ..ClientSettings::default()
        };
        client(&mut stack, "keyed", settings).await;
        let jwt = key.jwt(&assertion(&stack, "keyed", "json"));
        let body = json!({ "grant_type": "client_credentials", "client_assertion_type": JWT_BEARER,
            "client_assertion": jwt });
        let request = Request::post("/oauth2/token").header("content-type", "application/json");
        let request = request.body(Body::from(body.to_string())).unwrap();
        let answer = stack.send(request).await;
        assert_eq!(answer.told().2, "Missing parameter grant_type");
    }
}

// shows: I-7.1.4.1-log-all-access-attempts
#[tokio::test]
async fn guesses_at_clients_fill_no_log() {
    for mut stack in stacks().await {
        let key = Key::new();
        let settings = ClientSettings {
            keys: vec![key.jwk()],
            users: vec!["hanako".to_owned()],
            ..ClientSettings::default()
        };
        client(&mut stack, "keyed", settings).await;
        let guess = async |id: &str| {
            let form = [
                ("grant_type", "client_credentials"),
                ("client_id", id),
                ("client_secret", "guess"),
            ];
            let answer = post(&stack, "/oauth2/token", &[], &form).await;
            assert_eq!(error(&answer), "invalid_client");
        };
        // Whoever says a name that no client has is nobody.
        for n in 0..5 {
            guess(&format!("invented-{n}")).await;
        }
        assert!(stack.audit_bodies("client.refused").await.is_empty());
        for _ in 0..70 {
            guess("app").await;
        }
        let named = stack.audit_bodies("client.refused").await.len();
        assert_eq!(named, 60, "by name while they are few");
        stack.clock.advance(61);
        stack.ssa.send_notices().await.unwrap();
        let told = stack.audit_bodies("access.unknown").await;
        // Those of nobody, and those in the name of a client, each at once and with the next.
        let wanted = [(false, 1), (true, 1), (false, 4), (true, 9)];
        assert_eq!(told.len(), wanted.len());
        for (entry, (named, tries)) in told.iter().zip(wanted) {
            let tries = format!(r#""tries":{tries}"#);
            let good = entry.contains("oauth2") && entry.contains(&tries);
            assert!(good, "{entry}");
            assert_eq!(entry.contains(r#""client":"app""#), named, "{entry}");
        }
        // Guesses at its name leave room for what its own key signed and another one brings again.
        for _ in 0..70 {
            guess("keyed").await;
        }
        let jwt = key.jwt(&assertion(&stack, "keyed", "once"));
        let form = [
            ("grant_type", "client_credentials"),
            ("client_assertion_type", JWT_BEARER),
            ("client_assertion", jwt.as_str()),
        ];
        for status in [StatusCode::OK, StatusCode::UNAUTHORIZED] {
            let answer = post(&stack, "/oauth2/token", &[], &form).await;
            assert_eq!(answer.status, status, "{}", answer.body);
        }
        let last = stack.audit_bodies("client.refused").await.pop().unwrap();
        assert!(
            last.contains("keyed") && last.contains("replayed"),
            "{last}"
        );
        // That costs no other client its entries, nor the tokens of this one theirs.
        guess("other").await;
        let last = stack.audit_bodies("client.refused").await.pop().unwrap();
        assert!(last.contains("other"), "{last}");
        let dead = stack.credential_token("app", "hanako", &[hash(1)]).await;
        stack.clock.advance(3600);
        let before = stack.audit_bodies("access.denied").await.len();
        for _ in 0..60 {
            csc(&stack, "credentials/list", &bearer(&dead), "{}").await;
        }
        let named = stack.audit_bodies("access.denied").await.len();
        assert_eq!(named, before + 60);
    }
}

fn bearer(token: &str) -> [(&'static str, String); 1] {
    [("authorization", format!("Bearer {token}"))]
}

// shows: T-USE-CAPTURE, T-USE-CRED-FORGE
#[tokio::test]
async fn a_bound_token_is_none_without_its_key() {
    for stack in stacks().await {
        let (key, thief) = (Key::new(), Key::new());
        let code = service_code(&stack, "app", "hanako").await;
        let basic = format!("Basic {}", b64(format!("app:{}", stack.clients["app"])));
        let exchange = async |code: &str, proof: &str| {
            let form = [
                ("grant_type", "authorization_code"),
                ("code", code),
                ("redirect_uri", REDIRECT),
                ("code_verifier", VERIFIER),
                ("client_id", "app"),
            ];
            let headers = [("authorization", basic.as_str()), ("dpop", proof)];
            post(&stack, "/oauth2/token", &headers, &form).await
        };
        let tokens = exchange(&code, &key.good_proof(&stack, "/oauth2/token", None, "t")).await;
        assert_eq!(tokens.text("token_type"), "DPoP");
        let token = tokens.text("access_token");

        let path = "/csc/v2/credentials/list";
        let list = async |scheme: &str, proofs: &[&str]| {
            let mut headers = vec![("authorization", format!("{scheme} {token}"))];
            headers.extend(proofs.iter().map(|proof| ("dpop", (*proof).to_owned())));
            csc(&stack, "credentials/list", &headers, "{}").await
        };
        let good = key.good_proof(&stack, path, Some(&token), "1");
        assert_eq!(list("DPoP", &[&good]).await.status, StatusCode::OK);
        let now = stack.clock.now();
        let ath = b64u(sha256(&[token.as_bytes()]).0);
        let change = |name: &str, value: Value| {
            let mut claims = json!({ "htm": "POST", "htu": format!("{BASE}{path}"), "jti": name, "iat": now, "ath": ath });
            claims[name] = value;
            key.proof(&claims)
        };
        let wrong_typ = {
            let header = json!({ "alg": "ES256", "typ": "JWT", "jwk": key.jwk() });
            key.sign(&header, &json!({ "htm": "POST", "htu": format!("{BASE}{path}"), "jti": "w", "iat": now, "ath": ath }))
        };
        let cases = [
            ("replayed", vec![good.clone()]),
            (
                "another key",
                vec![thief.good_proof(&stack, path, Some(&token), "2")],
            ),
            ("another token", vec![change("ath", json!(b64u([0; 32])))]),
            ("no token", vec![change("ath", Value::Null)]),
            ("another method", vec![change("htm", json!("GET"))]),
            (
                "another address",
                vec![change(
                    "htu",
                    json!(format!("{BASE}/csc/v2/credentials/info")),
                )],
            ),
            (
                "another site",
                vec![change(
                    "htu",
                    json!("https://evil.example/csc/v2/credentials/list"),
                )],
            ),
            ("old", vec![change("iat", json!(now.plus(-60)))]),
            ("from the future", vec![change("iat", json!(now.plus(120)))]),
            ("no id", vec![change("jti", Value::Null)]),
            ("another kind of JWT", vec![wrong_typ]),
            (
                "two proofs",
                vec![change("jti", json!("a")), change("jti", json!("b"))],
            ),
            ("none", vec![]),
        ];
        let wanted = stack.audit_bodies("access.denied").await.len() + cases.len();
        for (case, proofs) in cases {
            let proofs: Vec<&str> = proofs.iter().map(String::as_str).collect();
            let answer = list("DPoP", &proofs).await;
            assert_eq!(
                (answer.status, error(&answer).as_str()),
                (StatusCode::UNAUTHORIZED, "invalid_dpop_proof"),
                "{case}"
            );
        }
        let told = stack.audit_bodies("access.denied").await;
        assert_eq!(told.len(), wanted, "each try is an entry");
        let proof = key.good_proof(&stack, path, Some(&token), "3");
        assert_eq!(error(&list("Bearer", &[&proof]).await), "invalid_token");

        // A code that is bound to a key, by whoever holds it.
        let form = with(service_request("app"), "dpop_jkt", Some(&key.thumbprint()));
        let mut browser = Browser::new(&stack);
        let code = browser.log_in_for_code(&form, "taro").await;
        let stolen = exchange(&code, &thief.good_proof(&stack, "/oauth2/token", None, "4")).await;
        assert_eq!(error(&stolen), "invalid_grant");

        // The right to sign, bound to another key than the token that shows it.
        stack.next_code();
        let mut browser = Browser::new(&stack);
        let request = credential_request("app", "key-hanako", &[hash(1)]);
        let code = browser.approve_for_code(&request, "hanako").await;
        let bound = exchange(&code, &thief.good_proof(&stack, "/oauth2/token", None, "5")).await;
        let sad = bound.text("access_token");
        let body = json!({ "credentialID": "key-hanako", "SAD": sad, "hashes": [b64(hash(1))], "signAlgo": "1.2.840.10045.4.3.2" });
        let path = "/csc/v2/signatures/signHash";
        let proof = key.good_proof(&stack, path, Some(&token), "6");
        let headers = [("authorization", format!("DPoP {token}")), ("dpop", proof)];
        let answer = csc(&stack, "signatures/signHash", &headers, &body.to_string()).await;
        assert_eq!(answer.json()["error_description"], "Invalid parameter SAD");
        assert!(stack.sam.with(|s| s.signed.is_empty()));
        // With its own key it signs.
        let proof = thief.good_proof(&stack, path, Some(&sad), "7");
        let headers = [("authorization", format!("DPoP {sad}")), ("dpop", proof)];
        let answer = csc(&stack, "signatures/signHash", &headers, &body.to_string()).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    }
}

// shows: T-USE-CAPTURE
#[tokio::test]
async fn a_client_that_authenticates_may_change_its_key_but_not_leave_it_out() {
    for stack in stacks().await {
        let (old, new) = (Key::new(), Key::new());
        let code = service_code(&stack, "other", "hanako").await;
        let basic = format!("Basic {}", b64(format!("other:{}", stack.clients["other"])));
        let ask = async |form: &[(&str, &str)], proof: Option<&str>| {
            let mut headers = vec![("authorization", basic.as_str())];
            headers.extend(proof.map(|proof| ("dpop", proof)));
            post(&stack, "/oauth2/token", &headers, form).await
        };
        let path = "/oauth2/token";
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", REDIRECT),
            ("code_verifier", VERIFIER),
        ];
        let first = ask(&form, Some(&old.good_proof(&stack, path, None, "1"))).await;
        let refresh = first.text("refresh_token");
        let form = [("grant_type", "refresh_token"), ("refresh_token", &refresh)];
        let without = ask(&form, None).await;
        assert_eq!(error(&without), "invalid_dpop_proof");
        let renewed = ask(&form, Some(&new.good_proof(&stack, path, None, "2"))).await;
        assert_eq!(renewed.text("token_type"), "DPoP");
        // The new token is the new key's, and so is what comes after.
        let token = renewed.text("access_token");
        let path = "/csc/v2/credentials/list";
        for (key, status) in [(&old, StatusCode::UNAUTHORIZED), (&new, StatusCode::OK)] {
            let proof = key.good_proof(&stack, path, Some(&token), &key.thumbprint());
            let headers = [("authorization", format!("DPoP {token}")), ("dpop", proof)];
            let list = csc(&stack, "credentials/list", &headers, "{}").await;
            assert_eq!(list.status, status, "{}", list.body);
        }
    }
}
