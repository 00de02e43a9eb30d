//! What works: authorization, tokens, signing.

use axum::http::StatusCode;
use sam_api::ssa::RequestState;
use serde_json::json;

use crate::web::{
    BASE, Browser, CHALLENGE, REDIRECT, SIC, credential_request, encode, hash, service_request,
    stacks, with,
};

#[tokio::test]
async fn service_scope_by_pushed_request_login_and_code() {
    for stack in stacks().await {
        let request = with(service_request("app"), "client_id", None);
        let form: Vec<(&str, &str)> = request.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let pushed = stack
            .client_form("app", "/oauth2/pushed_authorize", &form)
            .await;
        assert_eq!(pushed.status, StatusCode::CREATED, "{}", pushed.body);
        let uri = pushed.text("request_uri");
        assert_eq!(pushed.json()["expires_in"], 90);

        let mut browser = Browser::new(&stack);
        // Some clients repeat the state beside the reference.
        let page = browser
            .authorize(&vec![
                ("client_id", "app".to_owned()),
                ("request_uri", uri),
                ("state", "x".to_owned()),
            ])
            .await;
        assert_eq!(page.status, StatusCode::OK);
        assert!(
            page.body.contains("app &#60;b&#62;") || page.body.contains("app &lt;b&gt;"),
            "{}",
            page.body
        );
        assert!(!page.body.contains("app <b>"));
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(
            policy.contains(&format!("form-action 'self' https://app.example {SIC};")),
            "{policy}"
        );

        let answer = browser.log_in_here(&page, "hanako").await;
        assert!(
            answer
                .location()
                .starts_with("https://app.example/cb?code="),
            "{}",
            answer.location()
        );
        assert_eq!(answer.param("state").as_deref(), Some("s t&="));
        assert_eq!(answer.param("iss").as_deref(), Some(BASE));
        let tokens = stack.exchange("app", &answer.param("code").unwrap()).await;
        assert_eq!(tokens.status, StatusCode::OK, "{}", tokens.body);
        assert_eq!(tokens.headers["cache-control"], "no-store");
        let tokens = tokens.json();
        assert_eq!(
            (&tokens["token_type"], &tokens["expires_in"]),
            (&json!("Bearer"), &json!(3600))
        );
        let token = tokens["access_token"].as_str().unwrap();
        let list = stack.csc("credentials/list", token, "{}").await;
        assert_eq!(list.json(), json!({ "credentialIDs": ["key-hanako"] }));

        // The same browser again: no second login, no second question.
        let again = browser.authorize(&service_request("app")).await;
        assert!(again.param("code").is_some());
        let kinds = stack.audit_kinds().await;
        for kind in ["account.made", "login.succeeded", "token.issued"] {
            assert!(kinds.iter().any(|k| k == kind), "{kind} not in {kinds:?}");
        }
    }
}

#[tokio::test]
async fn another_client_needs_the_persons_word_and_may_be_declined() {
    for stack in stacks().await {
        let mut browser = Browser::new(&stack);
        browser
            .log_in_for_code(&service_request("app"), "hanako")
            .await;
        for (answer, outcome) in [("no", "error"), ("yes", "code")] {
            let page = browser.authorize(&service_request("other")).await;
            assert_eq!(page.status, StatusCode::OK);
            assert!(page.body.contains("value=\"no\""), "{}", page.body);
            let (token, flow) = (page.field("token"), page.field("flow"));
            let form = [
                ("token", token.as_str()),
                ("flow", &flow),
                ("answer", answer),
            ];
            let next = browser.post("/oauth2/agree", &form).await;
            let next = browser.follow(next).await;
            assert!(next.param(outcome).is_some(), "{}", next.location());
        }
    }
}

// shows: I-5.2.2-flow-may-vary
#[tokio::test]
async fn a_signature_from_authorization_to_value() {
    for stack in stacks().await {
        let hashes = [hash(1), hash(2)];
        let mut browser = Browser::new(&stack);
        let page = browser
            .authorize(&credential_request("app", "key-hanako", &hashes))
            .await;
        let answer = browser.log_in_here(&page, "hanako").await;
        assert_eq!(answer.status, StatusCode::FOUND);
        let (rid, back) = browser.at_sic(&answer);
        let asked = stack.sam.with(|s| s.requests[&rid].asked.clone());
        assert_eq!(asked.person, stack.users["hanako"].person);
        assert_eq!(
            (asked.client_name.as_str(), asked.items.len()),
            ("app <b>", 2)
        );
        assert_eq!(
            (&asked.items[1].h.0, asked.items[1].label.as_str()),
            (&hashes[1], "契約書 <b>.pdf")
        );
        assert!(back.starts_with(&format!("{BASE}/oauth2/resume/")));

        // Back too early: a page, and the way to the SIC page again with the same request.
        let early = browser.get(&back).await;
        assert_eq!(early.status, StatusCode::OK);
        // It waits for what is decided in another browser: its script asks, and without one it is loaded again.
        let asks = back.replace("resume", "waiting");
        let path = asks.strip_prefix(BASE).unwrap();
        assert!(early.body.contains(path), "{}", early.body);
        let meta = "<noscript><meta http-equiv=\"refresh\"";
        assert!(early.body.contains(meta), "{}", early.body);
        assert_eq!(browser.get(&asks).await.json(), json!({ "waits": true }));
        let stranger = Browser::new(&stack).get(&asks).await;
        assert_eq!(stranger.status, StatusCode::NOT_FOUND);
        let again = browser.get(&back.replace("resume", "continue")).await;
        assert_eq!(browser.at_sic(&again).0, rid);

        stack.sam.decide(rid, RequestState::Approved);
        // However often it asks, nothing is done before it goes on.
        for _ in 0..2 {
            assert_eq!(browser.get(&asks).await.json(), json!({ "waits": false }));
        }
        // Whoever approved in another browser is told to go back to the first, which has it all.
        let other = Browser::new(&stack).get(&back).await;
        assert_eq!(other.status, StatusCode::NOT_FOUND);
        assert!(
            other.body.contains("You began in another browser"),
            "{}",
            other.body
        );
        let done = browser.get(&back).await;
        assert_eq!(browser.get(&asks).await.status, StatusCode::GONE);
        let tokens = stack
            .exchange("app", &done.param("code").unwrap())
            .await
            .json();
        assert_eq!(tokens["credentialID"], "key-hanako");
        assert_eq!(tokens["expires_in"], 300);
        let details = &tokens["authorization_details"][0];
        assert_eq!(
            (
                &details["locations"],
                &details["documentDigests"][0]["hashType"]
            ),
            (&json!(["x"]), &json!("DTBSR"))
        );
        let token = tokens["access_token"].as_str().unwrap();

        let info = stack
            .csc(
                "credentials/info",
                token,
                r#"{"credentialID":"key-hanako"}"#,
            )
            .await;
        assert_eq!(info.status, StatusCode::OK, "{}", info.body);
        let body = json!({ "credentialID": "key-hanako", "signAlgo": "1.2.840.10045.4.3.2",
            "hashes": hashes.iter().map(core_types::bytes::b64).collect::<Vec<_>>() });
        let signed = stack
            .csc("signatures/signHash", token, &body.to_string())
            .await;
        assert_eq!(signed.status, StatusCode::OK, "{}", signed.body);
        assert_eq!(signed.json()["signatures"].as_array().unwrap().len(), 2);
        let second = stack
            .csc("signatures/signHash", token, &body.to_string())
            .await;
        assert_eq!(
            (second.status, &second.json()["error"]),
            (StatusCode::UNAUTHORIZED, &json!("invalid_token"))
        );
    }
}

async fn is_sent_elsewhere(browser: &mut Browser<'_>, back: &str) -> bool {
    let page = browser.get(back).await;
    assert_eq!(page.status, StatusCode::NOT_FOUND);
    page.body.contains("You began in another browser")
}

#[tokio::test]
async fn what_is_too_old_is_not_said_to_have_begun_elsewhere() {
    for stack in stacks().await {
        let mut browser = Browser::new(&stack);
        browser.log_in("hanako").await;
        let request = credential_request("app", "key-hanako", &[hash(1)]);
        let answer = browser.authorize(&request).await;
        let (_, back) = browser.at_sic(&answer);
        let unknown = format!("{back}x");
        stack.clock.advance(899);
        let mut other = Browser::new(&stack);
        assert!(is_sent_elsewhere(&mut other, &back).await);
        assert!(!is_sent_elsewhere(&mut other, &unknown).await);
        stack.clock.advance(1);
        assert!(!is_sent_elsewhere(&mut browser, &back).await);
        assert!(!is_sent_elsewhere(&mut other, &back).await);
    }
}

// shows: I-5.2.2-flow-may-vary
#[tokio::test]
async fn plain_parameters_and_a_sad_beside_a_service_token() {
    for stack in stacks().await {
        let mut form = service_request("app");
        form.retain(|(name, _)| *name != "scope");
        let extra = [
            ("scope", "credential".to_owned()),
            ("credentialID", "key-taro".to_owned()),
            ("numSignatures", "1".to_owned()),
            ("hashes", core_types::bytes::b64u(hash(3))),
            (
                "hashAlgorithmOID",
                core_types::HashAlg::Sha256.oid().to_owned(),
            ),
            ("description", "Lease".to_owned()),
        ];
        form.extend(extra);
        let mut browser = Browser::new(&stack);
        let code = browser.approve_for_code(&form, "taro").await;
        let label = stack.sam.with(|s| {
            s.requests.values().next().unwrap().asked.items[0]
                .label
                .clone()
        });
        assert_eq!(label, "Lease");
        let tokens = stack.exchange("app", &code).await.json();
        assert!(tokens.get("authorization_details").is_none());
        let sad = tokens["access_token"].as_str().unwrap();
        stack.next_code();
        let service = stack.service_token("app", "taro").await;
        let body = json!({ "credentialID": "key-taro", "SAD": sad, "hashes": [core_types::bytes::b64(hash(3))],
            "signAlgo": "1.2.840.113549.1.1.1", "hashAlgorithmOID": "2.16.840.1.101.3.4.2.1", "signAlgoParams": null,
            "operationMode": "S", "unknown": [1] });
        let signed = stack
            .csc("signatures/signHash", &service, &body.to_string())
            .await;
        assert_eq!(signed.status, StatusCode::OK, "{}", signed.body);
        let again = stack
            .csc("signatures/signHash", &service, &body.to_string())
            .await;
        assert_eq!(again.json()["error_description"], "Invalid parameter SAD");
    }
}

// shows: T-USE-DTBSR-FORGE
#[tokio::test]
async fn a_document_reaches_the_sam_as_a_document() {
    for stack in stacks().await {
        let mut form = credential_request("app", "key-hanako", &[hash(1)]);
        let details = form
            .iter_mut()
            .find(|(name, _)| *name == "authorization_details");
        let details = &mut details.unwrap().1;
        let mut value: serde_json::Value = serde_json::from_str(details).unwrap();
        let digest = value.pointer_mut("/0/documentDigests/0").unwrap();
        digest["hashType"] = json!("sdr");
        digest["signedAttrs"] = json!("MQA=");
        digest["byteRange"] = json!([0, 10, 20, 30]);
        *details = value.to_string();
        let mut browser = Browser::new(&stack);
        browser.log_in("hanako").await;
        let answer = browser.authorize(&form).await;
        let (rid, _) = browser.at_sic(&answer);
        let asked = stack.sam.with(|s| s.requests[&rid].asked.clone());
        let doc = asked.items[0].doc.clone().unwrap();
        assert_eq!(doc.signed_attrs.unwrap().0, [0x31, 0]);
        assert_eq!(doc.ranges, Some([0, 10, 20, 30]));
    }
}

#[tokio::test]
async fn refused_expired_and_impossible_requests_end_with_an_error_for_the_client() {
    for stack in stacks().await {
        let mut browser = Browser::new(&stack);
        browser.log_in("hanako").await;
        for state in [RequestState::Refused, RequestState::Expired] {
            let answer = browser
                .authorize(&credential_request("app", "key-hanako", &[hash(1)]))
                .await;
            let (rid, back) = browser.at_sic(&answer);
            stack.sam.decide(rid, state);
            let answer = browser.get(&back).await;
            assert_eq!(answer.param("error").as_deref(), Some("access_denied"));
            assert_eq!(answer.param("state").as_deref(), Some("s t&="));
            let over = browser.get(&back).await;
            assert_eq!(over.status, StatusCode::GONE);
        }
        // Which key is the client's to say: there are no classes of signatures to choose by.
        let mut form = credential_request("app", "key-hanako", &[hash(1)]);
        for (_, value) in form
            .iter_mut()
            .filter(|(name, _)| *name == "authorization_details")
        {
            *value = value.replace("credentialID", "signatureQualifier");
        }
        let answer = browser.authorize(&form).await;
        let told = |name: &str| answer.param(name).unwrap();
        assert_eq!(told("error"), "invalid_authorization_details");
        assert_eq!(
            told("error_description"),
            "credentialID is needed: this service chooses none"
        );
        // Somebody else's key and no key at all look the same.
        for key in ["key-taro", "none"] {
            let answer = browser
                .authorize(&credential_request("app", key, &[hash(1)]))
                .await;
            assert_eq!(
                answer.param("error").as_deref(),
                Some("access_denied"),
                "{key}"
            );
        }
        stack
            .sam
            .with(|s| s.prepare_refusal = Some(sam_api::Refusal::NotNow));
        let answer = browser
            .authorize(&credential_request("app", "key-hanako", &[hash(1)]))
            .await;
        assert_eq!(
            answer.param("error").as_deref(),
            Some("temporarily_unavailable")
        );
        let kinds = stack.audit_kinds().await;
        assert!(
            kinds.iter().any(|k| k == "access.denied")
                && kinds.iter().any(|k| k == "request.prepared")
        );
    }
}

#[tokio::test]
async fn a_request_that_is_wrong_is_answered_to_its_client() {
    for stack in stacks().await {
        let mut browser = Browser::new(&stack);
        let credential = credential_request("app", "key-hanako", &[hash(1)]);
        let details = |text: &str| with(credential.clone(), "authorization_details", Some(text));
        let none = r#"{"type":"credential","credentialID":"k","numSignatures":1}"#;
        let sodr = format!(
            r#"{{"type":"credential","credentialID":"k","hashAlgorithmOID":"2.16.840.1.101.3.4.2.1","documentDigests":[{{"hash":"{}","hashType":"sodr"}}]}}"#,
            core_types::bytes::b64(hash(1))
        );
        let cases = [
            (
                with(service_request("app"), "code_challenge", None),
                "invalid_request",
            ),
            (
                with(
                    service_request("app"),
                    "code_challenge_method",
                    Some("plain"),
                ),
                "invalid_request",
            ),
            (
                with(service_request("app"), "code_challenge_method", None),
                "invalid_request",
            ),
            (
                with(service_request("app"), "code_challenge", Some("short")),
                "invalid_request",
            ),
            (
                with(service_request("app"), "response_type", Some("token")),
                "unsupported_response_type",
            ),
            (
                with(service_request("app"), "scope", Some("service credential")),
                "invalid_scope",
            ),
            (
                with(service_request("app"), "account_token", Some("x")),
                "invalid_request",
            ),
            (details("[{'type'}]"), "invalid_request"),
            (details(none), "invalid_authorization_details"),
            (details(&sodr), "invalid_authorization_details"),
        ];
        for (form, error) in cases {
            let answer = browser.authorize(&form).await;
            assert_eq!(answer.param("error").as_deref(), Some(error), "{form:?}");
            assert_eq!(answer.param("iss").as_deref(), Some(BASE));
        }
        assert!(stack.sam.with(|s| s.requests.is_empty()));
    }
}

#[tokio::test]
async fn metadata_and_info_say_where_everything_is() {
    let stack = &stacks().await[0];
    for path in [
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
    ] {
        let metadata = Browser::new(stack).get(path).await.json();
        assert_eq!(metadata["issuer"], BASE);
        assert_eq!(
            metadata["code_challenge_methods_supported"],
            json!(["S256"])
        );
        assert_eq!(
            metadata["pushed_authorization_request_endpoint"],
            format!("{BASE}/oauth2/pushed_authorize")
        );
        let oidc = metadata.get("subject_types_supported");
        assert_eq!(oidc.is_some(), path.ends_with("openid-configuration"));
    }
    // All that is accepted, and nothing that isn't.
    for stack in [stack, &crate::coverage::ready().await[0]] {
        let path = "/.well-known/openid-configuration";
        let metadata = Browser::new(stack).get(path).await.json();
        let text = |name: &str| metadata[name].to_string();
        let types = text("authorization_details_types_supported");
        let info = Browser::new(stack).get("/csc/v2/info").await.body;
        for (kind, offered) in [
            ("deletion", true),
            ("creation", info.contains("credentials/create")),
        ] {
            for name in [
                format!("\"credential_{kind}\""),
                format!("\"credential-{kind}\""),
                format!("\"https://cloudsignatureconsortium.org/2025/credential-{kind}\""),
            ] {
                assert_eq!(types.contains(&name), offered, "{name}");
            }
            let scope = format!("\"credential-{kind}\"");
            assert_eq!(text("scopes_supported").contains(&scope), offered);
        }
        assert_eq!(metadata["subject_types_supported"], json!(["public"]));
        assert_eq!(metadata["id_token_signing_alg_values_supported"], json!([]));
    }
    let info = Browser::new(stack).get("/csc/v2/info").await.json();
    assert_eq!(
        (&info["specs"], &info["oauth2"]),
        (&json!("2.2.0.0"), &json!(BASE))
    );
    assert!(
        info["description"]
            .as_str()
            .unwrap()
            .contains("Signatures made here have no effect")
    );
    assert_eq!(info["supportedHashTypes"], json!(["dtbsr", "sdr"]));
    let posted = stack.csc("info", "none", r#"{"lang":"ja"}"#).await.json();
    assert!(
        posted["description"]
            .as_str()
            .unwrap()
            .contains("開発用の環境です")
    );
    assert!(posted["description"].as_str().unwrap().chars().count() <= 255);
}

#[tokio::test]
async fn prompt_login_asks_again() {
    let stack = &stacks().await[0];
    let mut browser = Browser::new(stack);
    browser.log_in("hanako").await;
    stack.next_code();
    let form = with(
        credential_request("app", "key-hanako", &[hash(1)]),
        "prompt",
        Some("login"),
    );
    let page = browser.authorize(&form).await;
    assert_eq!(page.status, StatusCode::OK);
    let answer = browser.log_in_here(&page, "hanako").await;
    assert!(answer.location().starts_with(SIC));
}

#[tokio::test]
async fn client_secrets_work_in_header_and_body_and_nowhere_else() {
    let stack = &stacks().await[0];
    let secret = stack.clients["app"].clone();
    let send = async |form: &[(&str, &str)]| {
        let request = axum::http::Request::post("/oauth2/token");
        stack.send(request.body(encode(form).into()).unwrap()).await
    };
    let grant = [
        ("grant_type", "authorization_code"),
        ("code", "c"),
        ("code_verifier", CHALLENGE),
        ("redirect_uri", REDIRECT),
    ];
    let with_client = |client: &[(&'static str, &'static str)]| [grant.as_slice(), client].concat();
    let missing = send(&grant).await;
    assert_eq!(
        (missing.status, &missing.json()["error_description"]),
        (
            StatusCode::BAD_REQUEST,
            &json!("Missing parameter client_id")
        )
    );
    let none = send(&with_client(&[("client_id", "app")])).await;
    assert_eq!(
        none.json()["error_description"],
        "Client authorization required"
    );
    // Whether there is such a client isn't told.
    let nobody = send(&with_client(&[("client_id", "nobody")])).await;
    assert_eq!((nobody.status, nobody.body), (none.status, none.body));
    let wrong = send(&with_client(&[
        ("client_id", "app"),
        ("client_secret", "wrong"),
    ]))
    .await;
    assert_eq!(
        (wrong.status, &wrong.json()["error"]),
        (StatusCode::UNAUTHORIZED, &json!("invalid_client"))
    );
    let unknown = send(&with_client(&[
        ("client_id", "nobody"),
        ("client_secret", "wrong"),
    ]))
    .await;
    assert_eq!((unknown.status, unknown.body), (wrong.status, wrong.body));
    let right = [
        grant.as_slice(),
        &[("client_id", "app"), ("client_secret", secret.as_str())],
    ]
    .concat();
    let right = send(&right).await;
    assert_eq!(right.json()["error"], "invalid_grant");
    let other = stack
        .client_form(
            "app",
            "/oauth2/token",
            &with_client(&[("client_id", "other")]),
        )
        .await;
    assert_eq!(other.status, StatusCode::UNAUTHORIZED);
    assert!(other.headers.contains_key("www-authenticate"));
    let both = [grant.as_slice(), &[("client_secret", secret.as_str())]].concat();
    assert_eq!(
        stack
            .client_form("app", "/oauth2/token", &both)
            .await
            .status,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn a_public_native_client_comes_back_to_any_loopback_port_and_is_asked_for_once() {
    let stack = &stacks().await[0];
    let new = ssa_service::NewClient {
        id: crate::fake::client_id("cli"),
        name: "Command line".to_owned(),
        redirect_uris: vec!["http://127.0.0.1/callback".to_owned()],
        native: true,
        public: true,
        settings: ssa_service::ClientSettings::default(),
    };
    assert!(
        stack
            .ssa
            .create_client(&new)
            .await
            .unwrap()
            .secret
            .is_none()
    );
    assert!(stack.ssa.create_client(&new).await.is_err());
    let back = "http://127.0.0.1:49152/callback";
    let form = with(service_request("cli"), "redirect_uri", Some(back));
    let mut browser = Browser::new(stack);
    let page = browser.authorize(&form).await;
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(
        policy.contains("form-action 'self' http://127.0.0.1:49152 "),
        "{policy}"
    );
    let answer = browser.log_in_here(&page, "hanako").await;
    assert!(answer.location().starts_with(&format!("{back}?code=")));
    let code = answer.param("code").unwrap();
    let grant = [
        ("grant_type", "authorization_code"),
        ("client_id", "cli"),
        ("code", code.as_str()),
        ("redirect_uri", back),
        ("code_verifier", crate::web::VERIFIER),
    ];
    let request = axum::http::Request::post("/oauth2/token");
    let tokens = stack
        .send(request.body(encode(&grant).into()).unwrap())
        .await;
    assert_eq!(tokens.status, StatusCode::OK, "{}", tokens.body);
}
