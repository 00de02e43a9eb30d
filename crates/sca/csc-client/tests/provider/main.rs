//! The client against a small provider in this process.

#![expect(clippy::unwrap_used, reason = "test helpers may fail loudly")]

mod bound;
mod fake;
mod faults;
mod methods;
mod v1;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use core_types::clock::SystemClock;
use core_types::random::{SeededRandom, SystemRandom};
use core_types::{HashAlg, sha256};
use csc_client::loopback::{Listener, PageLang};
use csc_client::{
    AuthorizeParams, Callback, Client, ClientCredentials, ClientError, ClientKey, HttpOptions,
    Pending, Provider,
};
use csc_types::{
    AuthorizeRequest, DocumentDigest, ExtendRequest, GetChallengeRequest, HashType, Params,
    Purpose, SecretText, SignHashRequest, SignatureAuthorization, TokenRequest,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use fake::{Fake, start};

fn purpose() -> Purpose {
    Purpose::Credential(SignatureAuthorization {
        credential_id: Some("k1".to_owned()),
        signature_qualifier: None,
        num_signatures: 1,
        digests: vec![DocumentDigest {
            hash: sha256(&[b"x"]).0.to_vec(),
            label: Some("契約書.pdf".to_owned()),
            hash_type: Some(HashType::Dtbsr),
            ..DocumentDigest::default()
        }],
        hash_algorithm: Some(HashAlg::Sha256),
        renewable_for: None,
    })
}

async fn authorize(client: &Client, provider: &Provider, purpose: Purpose) -> Pending {
    let params = AuthorizeParams {
        purpose,
        redirect_uri: "http://127.0.0.1:1/callback",
        lang: Some("ja"),
        description: None,
    };
    client
        .authorize(provider, &params, &SeededRandom::new(7))
        .await
        .unwrap()
}

fn back(pending: &Pending, more: &str) -> Callback {
    Callback::from_query(&format!("state={}{more}", pending.state)).unwrap()
}

fn parse(pairs: impl IntoIterator<Item = (String, String)>) -> AuthorizeRequest {
    AuthorizeRequest::parse(&Params::from_pairs(pairs).unwrap()).unwrap()
}

#[tokio::test]
async fn a_server_without_par_gets_the_request_by_query() {
    let (fake, client) = start(Fake::default()).await;
    let provider = client.discover().await.unwrap();
    let pending = authorize(&client, &provider, purpose()).await;
    let request = parse(pending.url.query_pairs().into_owned());
    assert_eq!(request.client_id, "app:1");
    assert_eq!(
        request.received_details, None,
        "the server doesn't announce RAR"
    );
    let Purpose::Credential(asked) = request.purpose else {
        panic!("credential scope")
    };
    assert_eq!(asked.digests[0].hash, sha256(&[b"x"]).0);
    let token = client
        .exchange(&provider, &pending, &back(&pending, "&code=good"))
        .await
        .unwrap();
    assert_eq!(token.access_token.expose(), "tok");
    let tokens = fake.tokens.lock().unwrap();
    let (form, headers) = &tokens[0];
    // Both halves are form-encoded before base64: "app%3A1:s3+cret".
    assert_eq!(headers["authorization"], "Basic YXBwJTNBMTpzMytjcmV0");
    let request = TokenRequest::parse(&Params::from_pairs(form.clone()).unwrap()).unwrap();
    let csc_types::Grant::AuthorizationCode { code_verifier, .. } = request.grant else {
        panic!("code grant")
    };
    let challenge = pending
        .url
        .query_pairs()
        .find(|(n, _)| n == "code_challenge")
        .unwrap()
        .1
        .into_owned();
    assert_eq!(
        core_types::bytes::b64u(sha256(&[code_verifier.expose().as_bytes()])),
        challenge
    );
}

#[tokio::test]
async fn par_carries_details_and_the_browser_only_a_reference() {
    let (fake, client) = start(Fake {
        par: true,
        rar: true,
        ..Fake::default()
    })
    .await;
    let provider = client.discover().await.unwrap();
    let pending = authorize(&client, &provider, purpose()).await;
    let query: HashMap<String, String> = pending.url.query_pairs().into_owned().collect();
    assert_eq!(query.len(), 2);
    assert_eq!(query["request_uri"], "urn:x:1");
    let pushed = fake.pushed.lock().unwrap()[0].clone();
    let request = parse(pushed);
    assert_eq!(request.purpose, purpose(), "labels and hash types arrive");
    client
        .exchange(&provider, &pending, &back(&pending, "&code=good"))
        .await
        .unwrap();
    let (form, _) = fake.tokens.lock().unwrap()[0].clone();
    assert_eq!(
        Some(&form["authorization_details"]),
        request.received_details.as_ref()
    );
}

#[tokio::test]
async fn metadata_decides_about_secret_and_issuer() {
    let (fake, client) = start(Fake {
        metadata: true,
        ..Fake::default()
    })
    .await;
    let provider = client.discover().await.unwrap();
    let base = fake.base.lock().unwrap().clone();
    assert_eq!(provider.endpoints.issuer.as_deref(), Some(base.as_str()));
    let pending = authorize(&client, &provider, Purpose::Service).await;
    let without = client
        .exchange(&provider, &pending, &back(&pending, "&code=good"))
        .await;
    assert!(
        matches!(without, Err(ClientError::IssuerMismatch)),
        "announced, so it must be there"
    );
    let evil = back(&pending, "&code=good&iss=https://evil.example");
    assert!(matches!(
        client.exchange(&provider, &pending, &evil).await,
        Err(ClientError::IssuerMismatch)
    ));
    let good = back(&pending, &format!("&code=good&iss={base}"));
    client.exchange(&provider, &pending, &good).await.unwrap();
    let tokens = fake.tokens.lock().unwrap();
    assert_eq!(tokens.len(), 1, "nothing was sent for the wrong ones");
    assert_eq!(tokens[0].0["client_secret"], "s3 cret");
    assert!(tokens[0].1.get("authorization").is_none());
}

#[tokio::test]
async fn metadata_of_another_issuer_is_not_used() {
    let (_, client) = start(Fake {
        metadata: true,
        foreign_issuer: true,
        ..Fake::default()
    })
    .await;
    assert_eq!(client.discover().await.unwrap().endpoints.issuer, None);
}

#[tokio::test]
async fn wrong_state_refusal_and_bad_codes_are_told_apart() {
    let (fake, client) = start(Fake::default()).await;
    let provider = client.discover().await.unwrap();
    let pending = authorize(&client, &provider, Purpose::Service).await;
    let forged = Callback::from_query("state=other&code=good").unwrap();
    assert!(matches!(
        client.exchange(&provider, &pending, &forged).await,
        Err(ClientError::StateMismatch)
    ));
    assert!(Callback::from_query("state=a&state=b&code=good").is_err());
    let no = client
        .exchange(&provider, &pending, &back(&pending, "&error=access_denied"))
        .await
        .unwrap_err();
    assert!(no.is_refusal());
    assert!(fake.tokens.lock().unwrap().is_empty());
    let bad = client
        .exchange(&provider, &pending, &back(&pending, "&code=bad"))
        .await
        .unwrap_err();
    let ClientError::Api {
        status: 400, body, ..
    } = bad
    else {
        panic!("{bad}")
    };
    assert_eq!(body.error, "invalid_grant");
}

#[tokio::test]
async fn credentials_come_from_short_and_long_lists() {
    for ids_only in [false, true] {
        let (_, client) = start(Fake {
            ids_only,
            ..Fake::default()
        })
        .await;
        let all = client.credentials(&"tok".to_owned().into()).await.unwrap();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].credential_id.as_deref(), Some("k1"));
        assert_eq!(all[0].cert.der(), Some(vec![vec![1, 2, 3]]));
    }
}

fn request(hashes: Vec<Vec<u8>>) -> SignHashRequest {
    SignHashRequest {
        credential_id: "k1".to_owned(),
        sad: None,
        hashes,
        hash_algorithm_oid: None,
        sign_algo: "1.2.840.10045.4.3.2".to_owned(),
        sign_algo_params: None,
        client_data: None,
    }
}

#[tokio::test]
async fn signing_is_repeated_with_the_same_key_only() {
    let (fake, client) = start(Fake {
        stumbles: AtomicUsize::new(2),
        ..Fake::default()
    })
    .await;
    let hashes = vec![vec![1; 32], vec![2; 32]];
    let values = client
        .sign_hash(&"tok".to_owned().into(), &request(hashes.clone()), "key-1")
        .await
        .unwrap();
    let values: Vec<_> = values.into_iter().map(|signed| signed.value).collect();
    assert_eq!(values, hashes);
    let signs = fake.signs.lock().unwrap();
    assert_eq!(signs.len(), 3);
    assert!(
        signs
            .iter()
            .all(|(headers, _)| headers["idempotency-key"] == "key-1")
    );
    assert!(
        signs
            .iter()
            .all(|(headers, _)| headers["authorization"] == "Bearer tok")
    );
}

#[tokio::test]
async fn retries_end() {
    let (fake, client) = start(Fake {
        stumbles: AtomicUsize::new(9),
        ..Fake::default()
    })
    .await;
    let error = client
        .sign_hash(&"tok".to_owned().into(), &request(vec![vec![1; 32]]), "k")
        .await
        .unwrap_err();
    assert!(
        matches!(error, ClientError::Api { status: 503, .. }),
        "{error}"
    );
    assert_eq!(fake.signs.lock().unwrap().len(), 3);
}

async fn browse(uri: &str, query: &str) -> String {
    let address = uri
        .strip_prefix("http://")
        .unwrap()
        .split('/')
        .next()
        .unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {query} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn the_loopback_listener_takes_only_the_right_answer() {
    let (_, client) = start(Fake::default()).await;
    let provider = client.discover().await.unwrap();
    let pending = authorize(&client, &provider, Purpose::Service).await;
    let listener = Listener::bind(PageLang::Ja).await.unwrap();
    let uri = listener.redirect_uri();
    // A connection that never speaks must not hold the others up.
    let silent = tokio::net::TcpStream::connect(
        uri.strip_prefix("http://")
            .unwrap()
            .split('/')
            .next()
            .unwrap(),
    );
    let _silent = silent.await.unwrap();
    let state = pending.state.clone();
    let browser = tokio::spawn(async move {
        assert!(
            browse(&uri, "/favicon.ico")
                .await
                .starts_with("HTTP/1.1 404")
        );
        assert!(
            browse(&uri, "/callback?state=forged&code=evil")
                .await
                .starts_with("HTTP/1.1 404")
        );
        browse(&uri, &format!("/callback?code=good&state={state}")).await
    });
    let callback = listener.wait(&pending).await.unwrap();
    assert_eq!(pending.accept(&callback).unwrap().expose(), "good");
    let page = browser.await.unwrap();
    assert!(
        page.starts_with("HTTP/1.1 200") && page.contains("lang=\"ja\""),
        "{page}"
    );
}

#[tokio::test]
async fn a_token_is_extended_once_and_the_call_is_never_repeated_by_itself() {
    let (fake, client) = start(Fake::default()).await;
    let token = SecretText::new("abc".to_owned());
    let request = ExtendRequest {
        credential_id: "k1".into(),
        sad: Some(token.clone()),
        hashes: vec![vec![1; 32]],
        client_data: None,
    };
    let next = client.extend(&token, &request).await.unwrap();
    assert_eq!((next.sad.expose(), next.expires_in), ("cba", Some(300)));
    assert!(client.extend(&token, &request).await.is_err());
    assert_eq!(fake.extended.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn codes_and_challenges_are_asked_for() {
    let (_, client) = start(Fake::default()).await;
    let token = SecretText::new("abc".to_owned());
    client.send_otp(&token, "k1").await.unwrap();
    let refused = client.send_otp(&token, "k2").await.unwrap_err();
    assert!(refused.to_string().contains("credentialID"), "{refused}");
    let object = |id: &str| GetChallengeRequest {
        credential_id: "k1".into(),
        auth_object_id: id.into(),
    };
    let sent = client.challenge(&token, &object("OTP")).await.unwrap();
    assert!(sent.is_none());
    let told = client.challenge(&token, &object("token")).await.unwrap();
    assert_eq!(told.unwrap().expose(), "42");
}

#[tokio::test]
async fn a_client_with_a_key_signs_its_requests_and_needs_no_secret() {
    let fake = Fake {
        par: true,
        metadata: true,
        rar: true,
        ..Fake::default()
    };
    let (fake, _) = start(fake).await;
    let base = fake.base.lock().unwrap().clone();
    let (key, _) = jose::SigningKey::generate().unwrap();
    let known = serde_json::to_value(key.public()).unwrap();
    let known = jose::ForeignKey::parse(&known).unwrap();
    let own = ClientKey::new(key, Arc::new(SystemClock), Arc::new(SystemRandom));
    let credentials = ClientCredentials {
        client_id: "app:1".to_owned(),
        client_secret: None,
    };
    let client = Client::new(&base, credentials, &HttpOptions::default());
    let client = client.unwrap().with_key(own);
    let provider = client.discover().await.unwrap();
    let purpose = Purpose::Credential(SignatureAuthorization {
        credential_id: Some("k1".into()),
        signature_qualifier: None,
        num_signatures: 1,
        digests: vec![DocumentDigest {
            hash: vec![1; 32],
            label: Some("契約書".into()),
            ..DocumentDigest::default()
        }],
        hash_algorithm: Some(HashAlg::Sha256),
        renewable_for: None,
    });
    authorize(&client, &provider, purpose).await;
    let pushed = fake.pushed.lock().unwrap().pop().unwrap();
    let names: Vec<&str> = pushed.keys().map(String::as_str).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    let read = |name: &str, typ: &str| {
        let jws = jose::ForeignJws::read(&pushed[name]).unwrap();
        assert_eq!(jws.typ().as_deref(), Some(typ));
        let payload = jws.verify(&known).unwrap();
        let claims: Value = serde_json::from_slice(payload).unwrap();
        assert_eq!(
            (&claims["iss"], &claims["aud"]),
            (&json!("app:1"), &json!(base))
        );
        let life = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
        assert!((1..=600).contains(&life));
        claims
    };
    let request = read("request", "oauth-authz-req+jwt");
    assert_eq!(request["client_id"], "app:1");
    let details = &request["authorization_details"][0];
    assert_eq!(details["documentDigests"][0]["label"], "契約書");
    let word = read("client_assertion", "jwt");
    assert_eq!(word["sub"], "app:1");
    assert_ne!(word["jti"], request["jti"]);
}
