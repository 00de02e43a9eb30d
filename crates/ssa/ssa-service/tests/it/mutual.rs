//! Clients with certificates (RFC 8705): who they are, and tokens that only the holder of a certificate can use.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use serde_json::{Value, json};
use service_kit::PeerCertificates;
use ssa_service::{ClientCertificate, ClientSettings, NewClient};

use crate::certificates::{ASKING, at_listener, card, shown, with_ca, with_cas};
use crate::fake::{certificate, client_id};
use crate::web::{
    Answer, Browser, REDIRECT, Stack, VERIFIER, credential_request, encode, hash, service_request,
};

fn self_signed(name: &str) -> PeerCertificates {
    PeerCertificates(vec![certificate(name).0].into())
}

fn thumbprint(of: &PeerCertificates) -> core_types::Digest32 {
    core_types::sha256(&[&of.0[0]])
}

async fn register(stack: &Stack, id: &str, settings: ClientSettings) {
    let new = NewClient {
        id: client_id(id),
        name: id.to_owned(),
        redirect_uris: vec![REDIRECT.to_owned()],
        native: false,
        public: false,
        settings,
    };
    let made = stack.ssa.create_client(&new).await.unwrap();
    assert!(made.secret.is_none(), "its certificate is its way in");
}

fn by_thumbprint(of: &PeerCertificates) -> ClientSettings {
    ClientSettings {
        certificate: Some(ClientCertificate::Thumbprints(vec![thumbprint(of)])),
        refresh: true,
        ..ClientSettings::default()
    }
}

async fn post(
    stack: &Stack,
    path: &str,
    form: &[(&str, &str)],
    shown: Option<&PeerCertificates>,
) -> Answer {
    let request = Request::post(path)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from(encode(form)))
        .unwrap();
    at_listener(stack, request, shown).await
}

fn grant<'a>(client: &'a str, code: &'a str) -> [(&'a str, &'a str); 5] {
    [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
        ("client_id", client),
    ]
}

async fn list(
    stack: &Stack,
    scheme: &str,
    token: &str,
    shown: Option<&PeerCertificates>,
) -> Answer {
    let request = Request::post("/csc/v2/credentials/list")
        .header(header::AUTHORIZATION, format!("{scheme} {token}"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from("{}"))
        .unwrap();
    at_listener(stack, request, shown).await
}

// shows: T-USE-CRED-FORGE, T-USE-CAPTURE
#[tokio::test]
async fn a_token_is_worth_nothing_without_the_certificate_it_belongs_to() {
    let (_dir, stacks) = with_cas(|_| {}).await;
    for stack in stacks {
        let (own, other) = (self_signed("app"), self_signed("app"));
        register(&stack, "certified", by_thumbprint(&own)).await;
        register(&stack, "neighbour", by_thumbprint(&other)).await;
        let mut browser = Browser::new(&stack);
        let request = service_request("certified");
        let code = browser.log_in_for_code(&request, "hanako").await;
        let answer = post(
            &stack,
            "/oauth2/token",
            &grant("certified", &code),
            Some(&own),
        )
        .await;
        let token = answer.text("access_token");
        assert_eq!(answer.json()["token_type"], "Bearer");
        assert_eq!(
            list(&stack, "Bearer", &token, Some(&own)).await.status,
            StatusCode::OK
        );
        for (scheme, shown) in [
            ("Bearer", None),
            ("Bearer", Some(&other)),
            ("DPoP", Some(&own)),
        ] {
            let refused = list(&stack, scheme, &token, shown).await;
            assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{scheme}");
            assert_eq!(refused.json()["error"], "invalid_token");
        }
        // Where nobody is asked for a certificate it is nothing either.
        let plain = stack.csc("credentials/list", &token, "{}").await;
        assert_eq!(plain.status, StatusCode::UNAUTHORIZED);
        let told = [("token", token.as_str()), ("client_id", "certified")];
        let told = post(&stack, "/oauth2/introspect", &told, Some(&own)).await;
        assert_eq!(told.json()["cnf"], json!({ "x5t#S256": thumbprint(&own) }));

        // Nor is the refresh token: to another client not, and not with another certificate.
        let refresh = answer.text("refresh_token");
        let form = |client| {
            [
                ("grant_type", "refresh_token"),
                ("refresh_token", refresh.as_str()),
                ("client_id", client),
            ]
        };
        for (shown, error) in [(None, "invalid_request"), (Some(&other), "invalid_client")] {
            let refused = post(&stack, "/oauth2/token", &form("certified"), shown).await;
            assert_eq!(refused.json()["error"], error);
        }
        let good = post(&stack, "/oauth2/token", &form("certified"), Some(&own)).await;
        let next = good.text("access_token");
        assert_eq!(
            list(&stack, "Bearer", &next, None).await.status,
            StatusCode::UNAUTHORIZED
        );
        assert_eq!(
            list(&stack, "Bearer", &next, Some(&own)).await.status,
            StatusCode::OK
        );

        // The right to sign.
        let request = credential_request("certified", "key-hanako", &[hash(1)]);
        let page = browser.authorize(&request).await;
        let (rid, back) = browser.at_sic(&page);
        stack.sam.decide(rid, sam_api::ssa::RequestState::Approved);
        let code = browser.get(&back).await.param("code").unwrap();
        let answer = post(
            &stack,
            "/oauth2/token",
            &grant("certified", &code),
            Some(&own),
        )
        .await;
        let token = answer.text("access_token");
        let body = json!({
            "credentialID": "key-hanako", "hashes": [core_types::bytes::b64(hash(1))],
            "hashAlgorithmOID": core_types::HashAlg::Sha256.oid(), "signAlgo": "1.2.840.10045.4.3.2",
        })
        .to_string();
        let sign = async |shown| {
            let request = Request::post("/csc/v2/signatures/signHash")
                .header(header::AUTHORIZATION, format!("Bearer {token}"))
                .header(header::CONTENT_TYPE, "application/json")
                .body(Body::from(body.clone()))
                .unwrap();
            at_listener(&stack, request, shown).await.status
        };
        assert_eq!(sign(Some(&other)).await, StatusCode::UNAUTHORIZED);
        assert_eq!(sign(None).await, StatusCode::UNAUTHORIZED);
        assert_eq!(
            stack.sam.with(|s| s.signed.len()),
            0,
            "the SAM wasn't asked"
        );
        assert_eq!(sign(Some(&own)).await, StatusCode::OK);
    }
}

// shows: T-USE-CRED-FORGE
#[tokio::test]
async fn a_client_with_a_certificate_has_no_other_way_in() {
    let (_dir, stacks) = with_cas(|_| {}).await;
    for stack in stacks {
        let (own, other) = (self_signed("app"), self_signed("app"));
        let (key, _) = jose::SigningKey::generate().unwrap();
        let settings = ClientSettings {
            keys: vec![serde_json::to_value(key.public()).unwrap()],
            ..by_thumbprint(&own)
        };
        register(&stack, "certified", settings).await;
        let now = crate::web::START;
        let claims = json!({ "iss": "certified", "sub": "certified", "aud": crate::web::BASE,
            "exp": now + 60, "jti": "j" });
        let assertion = key.sign("JWT", claims.to_string().as_bytes()).unwrap();
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        let mut browser = Browser::new(&stack);
        browser
            .log_in_for_code(&service_request("certified"), "hanako")
            .await;
        let again = browser.authorize(&service_request("certified")).await;
        let code = again.param("code").unwrap();
        let plain = grant("certified", &code);
        let with = |more: &[(&'static str, String)]| {
            let mut form: Vec<(&str, String)> =
                plain.iter().map(|(n, v)| (*n, (*v).to_owned())).collect();
            form.extend(more.iter().cloned());
            form
        };
        let secret = with(&[("client_secret", "x".to_owned())]);
        let asserted = with(&[
            ("client_assertion_type", kind.to_owned()),
            ("client_assertion", assertion),
        ]);
        for (form, shown) in [
            (&with(&[]), None),
            (&with(&[]), Some(&other)),
            (&secret, Some(&own)),
            (&asserted, None),
            (&asserted, Some(&own)),
        ] {
            let mut form: Vec<(&str, &str)> = form.iter().map(|(n, v)| (*n, v.as_str())).collect();
            let answer = post(&stack, "/oauth2/token", &form, shown).await;
            let error = answer.json()["error"].clone();
            assert!(
                error == "invalid_client"
                    || form.len() == plain.len() && error == "invalid_request",
                "{form:?}: {error}"
            );
            if !form.iter().any(|(name, _)| *name == "client_assertion") {
                // A client that isn't there is answered in the same way.
                form.retain(|(name, _)| *name != "client_id");
                form.push(("client_id", "nobody"));
                let nobody = post(&stack, "/oauth2/token", &form, shown).await;
                assert_eq!((nobody.status, nobody.body), (answer.status, answer.body));
            }
        }
        // None of them spent the code.
        let answer = post(&stack, "/oauth2/token", &plain, Some(&own)).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        let kinds = stack.audit_kinds().await;
        assert_eq!(kinds.iter().filter(|k| *k == "client.refused").count(), 5);
    }
}

// shows: T-USE-CRED-FORGE
#[tokio::test]
async fn a_subject_counts_under_the_ca_for_clients_while_it_is_not_revoked() {
    let (_dir, stacks) = with_cas(|_| {}).await;
    for stack in stacks {
        let (own, other) = (card(&stack, "app.example"), card(&stack, "evil.example"));
        let subject = pki::Certificate::parse(&own.0[0]).unwrap().subject_text();
        let settings = ClientSettings {
            certificate: Some(ClientCertificate::Subject(subject)),
            users: vec!["hanako".to_owned()],
            ..ClientSettings::default()
        };
        register(&stack, "named", settings).await;
        let form = [("grant_type", "client_credentials"), ("client_id", "named")];
        let ask = async |shown: &PeerCertificates| {
            let answer = post(&stack, "/oauth2/token", &form, Some(shown)).await;
            answer.json()["error"].as_str().unwrap_or("none").to_owned()
        };
        let away = tempfile::tempdir().unwrap();
        let foreign = dev_ca::DevCa::open(
            away.path(),
            dev_ca::Urls::under("http://ca"),
            stack.clock.clone(),
            std::sync::Arc::new(core_types::random::SeededRandom::new(9)),
        );
        let foreign = shown(
            &foreign
                .unwrap()
                .person_cert("app.example")
                .unwrap()
                .chain_pem,
        );
        for bad in [&other, &foreign, &self_signed("app.example")] {
            assert_eq!(ask(bad).await, "invalid_client");
        }
        // Nobody can say whether it was revoked; then it is found good, and for five minutes nobody is asked.
        let ca = stack.net.0.lock().unwrap().take();
        assert_eq!(ask(&own).await, "invalid_client");
        *stack.net.0.lock().unwrap() = ca;
        assert_eq!(ask(&own).await, "none");
        let serial = pki::Certificate::parse(&own.0[0]).unwrap().info().serial;
        with_ca(&stack, |ca| ca.revoke(&serial, 1).unwrap());
        assert_eq!(ask(&own).await, "none");
        stack.clock.advance(301);
        assert_eq!(ask(&own).await, "invalid_client");
    }
}

#[tokio::test]
async fn a_renewed_certificate_of_the_same_subject_goes_on_with_the_refresh_tokens() {
    let (_dir, stacks) = with_cas(|_| {}).await;
    for stack in stacks {
        let (own, renewed) = (card(&stack, "app.example"), card(&stack, "app.example"));
        assert_ne!(own, renewed);
        let subject = pki::Certificate::parse(&own.0[0]).unwrap().subject_text();
        let settings = ClientSettings {
            certificate: Some(ClientCertificate::Subject(subject)),
            refresh: true,
            ..ClientSettings::default()
        };
        register(&stack, "renewing", settings).await;
        let code = Browser::new(&stack)
            .log_in_for_code(&service_request("renewing"), "hanako")
            .await;
        let form = grant("renewing", &code);
        let first = post(&stack, "/oauth2/token", &form, Some(&own)).await;
        let refresh = first.text("refresh_token");
        let form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh.as_str()),
            ("client_id", "renewing"),
        ];
        let next = post(&stack, "/oauth2/token", &form, Some(&renewed)).await;
        let token = next.text("access_token");
        for (shown, status) in [(&own, StatusCode::UNAUTHORIZED), (&renewed, StatusCode::OK)] {
            let list = list(&stack, "Bearer", &token, Some(shown)).await;
            assert_eq!(list.status, status);
        }
    }
}

#[tokio::test]
async fn the_profile_for_high_stakes_takes_certificates_and_other_clients_may_bind_their_tokens() {
    let (_dir, stacks) = with_cas(|_| {}).await;
    for stack in stacks {
        let own = self_signed("app");
        let settings = ClientSettings {
            fapi: true,
            ..by_thumbprint(&own)
        };
        register(&stack, "strict", settings).await;
        let pushed = service_request("strict");
        let pushed: Vec<(&str, &str)> = pushed.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let refused = post(&stack, "/oauth2/pushed_authorize", &pushed, None).await;
        assert_eq!(refused.json()["error"], "invalid_request");
        let answer = post(&stack, "/oauth2/pushed_authorize", &pushed, Some(&own)).await;
        let reference = answer.text("request_uri");
        let mut browser = Browser::new(&stack);
        let form = vec![
            ("client_id", "strict".to_owned()),
            ("request_uri", reference),
        ];
        let code = browser.log_in_for_code(&form, "hanako").await;
        let answer = post(&stack, "/oauth2/token", &grant("strict", &code), Some(&own)).await;
        let token = answer.text("access_token");
        assert_eq!(
            list(&stack, "Bearer", &token, None).await.status,
            StatusCode::UNAUTHORIZED
        );
        assert_eq!(
            list(&stack, "Bearer", &token, Some(&own)).await.status,
            StatusCode::OK
        );

        // A client with a secret whose tokens have to be bound: to any certificate that it holds.
        let new = NewClient {
            id: client_id("binding"),
            name: "binding".to_owned(),
            redirect_uris: vec![REDIRECT.to_owned()],
            native: false,
            public: false,
            settings: ClientSettings {
                bound_tokens: true,
                ..ClientSettings::default()
            },
        };
        let secret = stack.ssa.create_client(&new).await.unwrap().secret.unwrap();
        let code = browser.authorize(&service_request("binding")).await;
        let code = match code.headers.contains_key(header::LOCATION) {
            true => code.param("code").unwrap(),
            false => {
                stack.next_code();
                Browser::new(&stack)
                    .log_in_for_code(&service_request("binding"), "hanako")
                    .await
            }
        };
        let mut form = grant("binding", &code).to_vec();
        form.push(("client_secret", secret.expose()));
        let unbound = post(&stack, "/oauth2/token", &form, None).await;
        assert_eq!(unbound.json()["error"], "invalid_dpop_proof");
        let answer = post(&stack, "/oauth2/token", &form, Some(&own)).await;
        let token = answer.text("access_token");
        assert_eq!(
            list(&stack, "Bearer", &token, None).await.status,
            StatusCode::UNAUTHORIZED
        );
        assert_eq!(
            list(&stack, "Bearer", &token, Some(&own)).await.status,
            StatusCode::OK
        );
    }
}

#[tokio::test]
async fn the_metadata_say_where_certificates_are_asked_for() {
    const PATH: &str = "/.well-known/oauth-authorization-server";
    let metadata = async |stack: &Stack| {
        let request = Request::get(PATH).body(Body::empty()).unwrap();
        stack.send(request).await.json()
    };
    let (_dir, stacks) = with_cas(|_| {}).await;
    for stack in stacks {
        let told = metadata(&stack).await;
        assert_eq!(told["tls_client_certificate_bound_access_tokens"], true);
        let aliases = &told["mtls_endpoint_aliases"];
        assert_eq!(aliases["token_endpoint"], format!("{ASKING}/oauth2/token"));
        let methods = told["token_endpoint_auth_methods_supported"]
            .as_array()
            .unwrap();
        for method in ["tls_client_auth", "self_signed_tls_client_auth"] {
            assert!(methods.contains(&Value::from(method)), "{method}");
        }
        // What it names is there, and no page of the portal is.
        for (_, address) in aliases.as_object().unwrap() {
            let path = address.as_str().unwrap().strip_prefix(ASKING).unwrap();
            let answer = post(&stack, path, &[], None).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        }
        for path in ["/login", "/keys", "/oauth2/authorize"] {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let answer = at_listener(&stack, request, None).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        }
    }
    for stack in crate::web::stacks().await {
        assert!(
            metadata(&stack)
                .await
                .get("mtls_endpoint_aliases")
                .is_none()
        );
    }
}
