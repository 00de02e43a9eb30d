//! OAuth beyond the code: refreshing, clients of their own, clients and tokens with keys, signed requests, FAPI 2.0.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use core_types::bytes::{b64, b64u};
use core_types::{Clock as _, sha256};
use serde_json::{Value, json};
use ssa_service::{ClientSettings, NewClient};

use crate::fake::client_id;
use crate::web::{
    Answer, BASE, Browser, Form, REDIRECT, Stack, VERIFIER, credential_request, encode, hash,
    service_request, stacks, with,
};

/// A key of a client.
struct Key(EcdsaKeyPair);

impl Key {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn jwk(&self) -> Value {
        let point = self.0.public_key().as_ref();
        json!({ "kty": "EC", "crv": "P-256", "x": b64u(&point[1..33]), "y": b64u(&point[33..]) })
    }

    fn thumbprint(&self) -> String {
        let jwk = self.jwk();
        let canonical = format!(
            r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#,
            jwk["x"], jwk["y"]
        );
        b64u(sha256(&[canonical.as_bytes()]).0)
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", b64u(header.to_string()), b64u(claims.to_string()));
        let value = self
            .0
            .sign(&SystemRandom::new(), signed.as_bytes())
            .unwrap();
        format!("{signed}.{}", b64u(value.as_ref()))
    }

    fn jwt(&self, claims: &Value) -> String {
        self.sign(&json!({ "alg": "ES256", "typ": "JWT" }), claims)
    }

    fn proof(&self, claims: &Value) -> String {
        let header = json!({ "alg": "ES256", "typ": "dpop+jwt", "jwk": self.jwk() });
        self.sign(&header, claims)
    }

    /// A good proof for a POST to `path`.
    fn good_proof(&self, stack: &Stack, path: &str, token: Option<&str>, jti: &str) -> String {
        let mut claims = json!({ "htm": "POST", "htu": format!("{BASE}{path}"), "jti": jti, "iat": stack.clock.now() });
        if let Some(token) = token {
            claims["ath"] = json!(b64u(sha256(&[token.as_bytes()]).0));
        }
        self.proof(&claims)
    }
}

pub async fn client(stack: &mut Stack, id: &str, settings: ClientSettings) {
    let new = NewClient {
        id: client_id(id),
        name: id.to_owned(),
        redirect_uris: vec![REDIRECT.to_owned()],
        native: false,
        public: false,
        settings,
    };
    if let Some(secret) = stack.ssa.create_client(&new).await.unwrap().secret {
        stack
            .clients
            .insert(id.to_owned(), secret.expose().to_owned());
    }
}

/// A form with headers, without any authentication of its own.
async fn post(
    stack: &Stack,
    path: &str,
    headers: &[(&str, &str)],
    form: &[(&str, &str)],
) -> Answer {
    let mut request =
        Request::post(path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    stack
        .send(request.body(Body::from(encode(form))).unwrap())
        .await
}

async fn csc(stack: &Stack, method: &str, headers: &[(&str, String)], body: &str) -> Answer {
    let mut request = Request::post(format!("/csc/v2/{method}"));
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    stack
        .send(request.body(Body::from(body.to_owned())).unwrap())
        .await
}

fn error(answer: &Answer) -> String {
    answer.json()["error"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn text(answer: &Answer, name: &str) -> String {
    answer.json()[name]
        .as_str()
        .unwrap_or_else(|| panic!("no {name}: {}", answer.body))
        .to_owned()
}

/// A code of scope `service` for this client.
async fn service_code(stack: &Stack, client: &str, login: &str) -> String {
    let mut browser = Browser::new(stack);
    let code = browser
        .log_in_for_code(&service_request(client), login)
        .await;
    stack.next_code();
    code
}

async fn alive(stack: &Stack, token: &str) -> bool {
    stack.csc("credentials/list", token, "{}").await.status == StatusCode::OK
}

async fn refresh(stack: &Stack, client: &str, token: &str) -> Answer {
    let form = [("grant_type", "refresh_token"), ("refresh_token", token)];
    stack.client_form(client, "/oauth2/token", &form).await
}

// shows: T-USE-CAPTURE
#[tokio::test]
async fn a_refresh_token_counts_once_and_one_that_comes_again_ends_everything() {
    for mut stack in stacks().await {
        let settings = ClientSettings {
            refresh: true,
            ..ClientSettings::default()
        };
        client(&mut stack, "keeps", settings).await;
        let code = service_code(&stack, "keeps", "hanako").await;
        let first = stack.exchange("keeps", &code).await;
        let (token, one) = (text(&first, "access_token"), text(&first, "refresh_token"));
        let second = refresh(&stack, "keeps", &one).await;
        assert_eq!(second.status, StatusCode::OK, "{}", second.body);
        let (newer, two) = (
            text(&second, "access_token"),
            text(&second, "refresh_token"),
        );
        assert!(one != two && alive(&stack, &newer).await && alive(&stack, &token).await);
        // No wider scope than it was given for.
        let form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", &two),
            ("scope", "credential"),
        ];
        let wider = stack.client_form("keeps", "/oauth2/token", &form).await;
        assert_eq!(error(&wider), "invalid_scope");
        // The first one again: whoever has it isn't the one who used it.
        let again = refresh(&stack, "keeps", &one).await;
        assert_eq!(error(&again), "invalid_grant");
        for token in [&token, &newer] {
            assert!(!alive(&stack, token).await);
        }
        assert_eq!(
            error(&refresh(&stack, "keeps", &two).await),
            "invalid_grant"
        );

        // Presented by another client it has leaked, too.
        let code = service_code(&stack, "keeps", "hanako").await;
        let one = text(&stack.exchange("keeps", &code).await, "refresh_token");
        assert_eq!(error(&refresh(&stack, "app", &one).await), "invalid_grant");
        assert_eq!(
            error(&refresh(&stack, "keeps", &one).await),
            "invalid_grant"
        );

        // Revoking it revokes what came of it; logging out everywhere ends it; so does time.
        let code = service_code(&stack, "keeps", "hanako").await;
        let tokens = stack.exchange("keeps", &code).await;
        let (token, one) = (
            text(&tokens, "access_token"),
            text(&tokens, "refresh_token"),
        );
        let form = [
            ("token", one.as_str()),
            ("token_type_hint", "refresh_token"),
        ];
        let revoked = stack.client_form("keeps", "/oauth2/revoke", &form).await;
        assert_eq!(revoked.status, StatusCode::NO_CONTENT);
        assert!(!alive(&stack, &token).await);
        assert_eq!(
            error(&refresh(&stack, "keeps", &one).await),
            "invalid_grant"
        );

        let code = service_code(&stack, "keeps", "hanako").await;
        let tokens = stack.exchange("keeps", &code).await;
        let (token, one) = (
            text(&tokens, "access_token"),
            text(&tokens, "refresh_token"),
        );
        let mut browser = Browser::new(&stack);
        browser.log_in("hanako").await;
        let page = browser.get("/security").await;
        let form = [("token", page.field("token"))];
        let form = form.each_ref().map(|(n, v)| (*n, v.as_str()));
        browser.post("/logout/others", &form).await;
        assert!(!alive(&stack, &token).await);
        assert_eq!(
            error(&refresh(&stack, "keeps", &one).await),
            "invalid_grant"
        );

        stack.next_code();
        let code = service_code(&stack, "keeps", "hanako").await;
        let one = text(&stack.exchange("keeps", &code).await, "refresh_token");
        stack.clock.advance(14 * 24 * 60 * 60);
        let late = refresh(&stack, "keeps", &one).await;
        assert_eq!(late.json()["error_description"], "Refresh token expired");
        // A client whose contract doesn't say so gets none, and signing never does.
        let code = service_code(&stack, "app", "hanako").await;
        let tokens = stack.exchange("app", &code).await;
        assert!(tokens.json().get("refresh_token").is_none());
    }
}

// shows: T-USE-CAPTURE
#[tokio::test]
async fn a_refresh_token_presented_twenty_times_at_once_leaves_no_two_chains() {
    for mut stack in stacks().await {
        let settings = ClientSettings {
            refresh: true,
            ..ClientSettings::default()
        };
        client(&mut stack, "keeps", settings).await;
        let code = service_code(&stack, "keeps", "hanako").await;
        let one = text(&stack.exchange("keeps", &code).await, "refresh_token");
        let all = (0..20).map(|_| refresh(&stack, "keeps", &one));
        let mut answers = Vec::new();
        for answer in futures_util::future::join_all(all).await {
            if answer.status == StatusCode::OK {
                answers.push(text(&answer, "refresh_token"));
            }
        }
        assert!(answers.len() <= 1, "{}", answers.len());
        // The other nineteen ended the chain.
        for next in answers {
            assert_eq!(
                error(&refresh(&stack, "keeps", &next).await),
                "invalid_grant"
            );
        }
    }
}

// shows: T-USE-SAP-BYPASS
#[tokio::test]
async fn a_clients_own_token_reads_about_the_people_of_its_contract_and_signs_nothing() {
    for mut stack in stacks().await {
        let settings = ClientSettings {
            users: vec!["hanako".to_owned()],
            ..ClientSettings::default()
        };
        client(&mut stack, "archive", settings).await;
        let form = [("grant_type", "client_credentials"), ("scope", "service")];
        let refused = stack.client_form("app", "/oauth2/token", &form).await;
        assert_eq!(error(&refused), "unauthorized_client");
        let answer = stack.client_form("archive", "/oauth2/token", &form).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        let token = text(&answer, "access_token");
        assert!(answer.json().get("refresh_token").is_none());
        let form = [form[0], ("scope", "credential")];
        let wider = stack.client_form("archive", "/oauth2/token", &form).await;
        assert_eq!(error(&wider), "invalid_scope");

        let list = async |body: &str| stack.csc("credentials/list", &token, body).await;
        let good = list(r#"{"userID":"hanako"}"#).await;
        assert_eq!(good.json()["credentialIDs"], json!(["key-hanako"]));
        for body in ["{}", r#"{"userID":"taro"}"#, r#"{"userID":"nobody"}"#] {
            let refused = list(body).await.json();
            assert_eq!(
                refused["error_description"], "Invalid parameter userID",
                "{body}"
            );
        }
        let info = async |key: &str| {
            let body = json!({ "credentialID": key }).to_string();
            stack.csc("credentials/info", &token, &body).await.status
        };
        assert_eq!(info("key-hanako").await, StatusCode::OK);
        assert_eq!(info("key-taro").await, StatusCode::BAD_REQUEST);
        let body = json!({ "credentialID": "key-hanako", "hashes": [b64(hash(1))], "signAlgo": "1.2.840.10045.4.3.2" });
        let signed = stack
            .csc("signatures/signHash", &token, &body.to_string())
            .await;
        assert_eq!(signed.status, StatusCode::BAD_REQUEST);
        assert!(stack.sam.with(|s| s.signed.is_empty()));
        let kinds = stack.audit_kinds().await;
        assert!(kinds.iter().any(|k| k == "token.issued-client"));
    }
}

fn assertion(stack: &Stack, id: &str, jti: &str) -> Value {
    let now = stack.clock.now();
    json!({ "iss": id, "sub": id, "aud": BASE, "iat": now, "exp": now.plus(60), "jti": jti })
}

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

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
        let token_endpoint = {
            let mut claims = assertion(&stack, "keyed", "2");
            claims["aud"] = json!([format!("{BASE}/oauth2/token")]);
            key.jwt(&claims)
        };
        assert_eq!(ask(&token_endpoint, &[]).await.status, StatusCode::OK);
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
            ("no audience", change("aud", Value::Null)),
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
        assert_eq!(text(&tokens, "token_type"), "DPoP");
        let token = text(&tokens, "access_token");

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
        for (case, proofs) in cases {
            let proofs: Vec<&str> = proofs.iter().map(String::as_str).collect();
            let answer = list("DPoP", &proofs).await;
            assert_eq!(
                (answer.status, error(&answer).as_str()),
                (StatusCode::UNAUTHORIZED, "invalid_dpop_proof"),
                "{case}"
            );
        }
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
        let sad = text(&bound, "access_token");
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
        let refresh = text(&first, "refresh_token");
        let form = [("grant_type", "refresh_token"), ("refresh_token", &refresh)];
        let without = ask(&form, None).await;
        assert_eq!(error(&without), "invalid_dpop_proof");
        let renewed = ask(&form, Some(&new.good_proof(&stack, path, None, "2"))).await;
        assert_eq!(text(&renewed, "token_type"), "DPoP");
        // The new token is the new key's, and so is what comes after.
        let token = text(&renewed, "access_token");
        let path = "/csc/v2/credentials/list";
        for (key, status) in [(&old, StatusCode::UNAUTHORIZED), (&new, StatusCode::OK)] {
            let proof = key.good_proof(&stack, path, Some(&token), &key.thumbprint());
            let headers = [("authorization", format!("DPoP {token}")), ("dpop", proof)];
            let list = csc(&stack, "credentials/list", &headers, "{}").await;
            assert_eq!(list.status, status, "{}", list.body);
        }
    }
}

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

fn account_token(stack: &Stack, secret: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut claims = json!({ "sub": "hanako", "iat": stack.clock.now(), "jti": "1", "azp": "app", "iss": "App" });
    change(&mut claims);
    let signed = format!(
        "{}.{}",
        b64u(r#"{"typ":"JWT","alg":"HS256"}"#),
        b64u(claims.to_string())
    );
    let key = sha256(&[secret.as_bytes()]);
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &key.0);
    let mac = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", b64u(mac.as_ref()))
}

// shows: T-USE-SAP-BYPASS
#[tokio::test]
async fn an_account_token_keeps_everybody_else_out() {
    for stack in stacks().await {
        let secret = stack.clients["app"].clone();
        let open = async |token: &str| {
            let form = with(service_request("app"), "account_token", Some(token));
            let mut browser = Browser::new(&stack);
            let page = browser.authorize(&form).await;
            (browser, page)
        };
        let good = account_token(&stack, &secret, |_| ());
        let (mut browser, page) = open(&good).await;
        // Somebody else's login leads back to the login.
        let again = browser.log_in_here(&page, "taro").await;
        assert_eq!(again.status, StatusCode::OK);
        assert!(again.body.contains("name=\"password\""), "{}", again.body);
        let done = browser.log_in_here(&again, "hanako").await;
        assert!(done.param("code").is_some());
        stack.next_code();

        let now = stack.clock.now();
        let change = |name: &str, value: Value| {
            account_token(&stack, &secret, |c| {
                c["jti"] = json!(name);
                c[name] = value;
            })
        };
        for (case, token) in [
            ("again", good),
            ("another client's", change("azp", json!("other"))),
            ("another secret", account_token(&stack, "guess", |_| ())),
            ("old", change("iat", json!(now.plus(-300)))),
            ("from the future", change("iat", json!(now.plus(120)))),
            ("of nobody", change("sub", json!("nobody"))),
            ("without id", change("jti", Value::Null)),
            ("alg none", format!("{}.e30.", b64u(r#"{"alg":"none"}"#))),
        ] {
            let (_, answer) = open(&token).await;
            let error = answer.param("error");
            assert_eq!(error.as_deref(), Some("invalid_request"), "{case}");
        }
    }
}

// shows: T-USE-CRED-FORGE
#[tokio::test]
async fn introspection_tells_a_client_about_its_own_tokens_only() {
    for stack in stacks().await {
        let ask = async |client: &str, token: &str| {
            let form = [("token", token)];
            stack.client_form(client, "/oauth2/introspect", &form).await
        };
        let signing = stack.credential_token("app", "hanako", &[hash(1)]).await;
        let own = ask("app", &signing).await.json();
        assert_eq!(own["credentialID"], "key-hanako");
        let token = stack.service_token("app", "hanako").await;
        let own = ask("app", &token).await.json();
        assert_eq!(
            (&own["active"], &own["scope"], &own["client_id"]),
            (&json!(true), &json!("service"), &json!("app"))
        );
        assert_eq!(own["sub"], json!(stack.users["hanako"].person));
        let nothing = json!({ "active": false });
        assert_eq!(ask("other", &token).await.json(), nothing);
        assert_eq!(ask("app", "unknown").await.json(), nothing);
        stack.clock.advance(3600);
        assert_eq!(ask("app", &token).await.json(), nothing);
        let anonymous = post(&stack, "/oauth2/introspect", &[], &[("token", &token)]).await;
        assert_eq!(anonymous.status, StatusCode::BAD_REQUEST);
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
        let wrong = {
            let mut claims = assertion(&stack, "bank", "2");
            claims["aud"] = json!(format!("{BASE}/oauth2/token"));
            key.jwt(&claims)
        };
        assert_eq!(
            error(&push(&service_request("bank"), &wrong).await),
            "invalid_client"
        );
        let pushed = push(&service_request("bank"), &asserted("3")).await;
        let uri = text(&pushed, "request_uri");
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
        assert_eq!(text(&tokens, "token_type"), "DPoP");
        let refresh = text(&tokens, "refresh_token");
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
    assert_eq!(metadata, get("/.well-known/openid-configuration").await);
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
