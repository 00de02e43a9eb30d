//! Every endpoint against every wrong caller. The endpoints are those of the routers' own text, so that a new one without its
//! six cases fails here.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use core_types::bytes::b64;
use core_types::{HashAlg, KeyAlg};
use sam_api::ssa::RequestState;
use serde_json::{Value, json};
use ssa_service::{ClientSettings, TimeStamper};

use crate::fake::client_id;
use crate::oauth::client;
use crate::web::{Answer, PASSWORD, Stack, hash, stacks_with};

/// What can be wrong with a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wrong {
    NoToken,
    Scope,
    User,
    Client,
    Expired,
    Used,
}
use Wrong::{Client, Expired, NoToken, Scope, Used, User};

const ALL: [Wrong; 6] = [NoToken, Scope, User, Client, Expired, Used];

/// What is sent, and what has to come back.
enum Case {
    /// With this `Authorization` and body: this status, and this error or description.
    Refused(String, Value, u16, &'static str),
    /// There is no such caller; says why.
    Nobody(&'static str),
}
use Case::{Nobody, Refused};

struct Row {
    name: &'static str,
    cases: Vec<(Wrong, Case)>,
}

/// Paths of the routes in a source's router.
pub fn routes(source: &str, from: &str) -> BTreeSet<String> {
    let router = source.split(from).nth(1).unwrap();
    let router = router.split("\n}\n").next().unwrap();
    let paths = router.split("\"/").skip(1);
    paths
        .map(|rest| rest.split('"').next().unwrap().to_owned())
        .collect()
}

/// Tokens of all kinds, for Hanako's things unless the name says otherwise.
struct World {
    expired: String,
    expired_signing: String,
    revoked: String,
    service: String,
    taro: String,
    other: String,
    signing: String,
    spent: String,
    terminal: String,
    terminal_taro: String,
    kiosk: String,
    handle: String,
    taken: String,
    later: String,
    login_refresh: String,
    old_refresh: String,
    deletion_taro: String,
    deleted: String,
    expired_creation: String,
    created: String,
}

const LATER: i64 = 15 * 24 * 60 * 60;

pub async fn ready() -> Vec<Stack> {
    let set = |config: &mut ssa_service::Config| {
        config.login_client = Some(client_id("basic"));
        config.creations = crate::create::creations();
        config.time_stampers = vec![TimeStamper {
            url: "stamp://down".to_owned(),
            anchors: Vec::new(),
        }];
    };
    let mut all = Vec::new();
    for mut stack in stacks_with(set).await {
        let settings = ClientSettings {
            refresh: true,
            ..ClientSettings::default()
        };
        client(&mut stack, "basic", settings).await;
        for id in ["terminal", "kiosk"] {
            let settings = ClientSettings {
                out_of_band: true,
                device: true,
                ..ClientSettings::default()
            };
            client(&mut stack, id, settings).await;
        }
        let person = stack.users["hanako"].person.clone();
        stack.sam.add_key(&person, "key-explicit", KeyAlg::P256);
        stack.sam.add_key(&person, "coded-explicit", KeyAlg::P256);
        stack.sam.add_key(&person, "key-ended", KeyAlg::P256);
        all.push(stack);
    }
    all
}

async fn call(stack: &Stack, path: &str, authorization: &str, body: &Value) -> (Answer, String) {
    call_to(stack, stack.ssa.router(), path, authorization, body).await
}

async fn call_to(
    stack: &Stack,
    router: axum::Router,
    path: &str,
    authorization: &str,
    body: &Value,
) -> (Answer, String) {
    let mut request = Request::post(path);
    if !authorization.is_empty() {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    let request = request.body(Body::from(body.to_string())).unwrap();
    let answer = stack.send_to(router, request).await;
    let told: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let text = |name: &str| told[name].as_str().unwrap_or_default().to_owned();
    let words = format!("{}: {}", text("error"), text("error_description"));
    (answer, words)
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

fn login_header(stack: &Stack) -> String {
    format!(
        "Basic {}",
        b64(format!("hanako:{PASSWORD}{}", stack.code("hanako")))
    )
}

async fn remembered(stack: &Stack) -> String {
    let body = json!({ "rememberMe": true });
    let header = login_header(stack);
    let (answer, _) = call(stack, "/csc/v2/auth/login", &header, &body).await;
    stack.next_code();
    answer.text("refresh_token")
}

async fn waiting(stack: &Stack, token: &str, n: u8) -> String {
    let body = json!({ "credentialID": "key-hanako", "numSignatures": 1, "hashes": [b64(hash(n))],
        "hashAlgorithmOID": HashAlg::Sha256.oid(), "authData": [{ "id": "portal" }] });
    let path = "/csc/v2/credentials/authorize";
    let (answer, _) = call(stack, path, &bearer(token), &body).await;
    answer.text("handle")
}

async fn world(stack: &Stack) -> World {
    let old_refresh = remembered(stack).await;
    stack.clock.advance(LATER);
    stack.sam.with(|s| s.later = LATER);
    let expired = stack.service_token("app", "hanako").await;
    let expired_signing = stack.credential_token("app", "hanako", &[hash(1)]).await;
    let expired_creation = crate::create::token(stack, "app", "hanako", "key-old").await;
    stack.clock.advance(3600);
    stack.sam.with(|s| s.later = LATER + 7200);
    let revoked = stack.service_token("app", "hanako").await;
    let form = [("token", revoked.as_str())];
    stack.client_form("app", "/oauth2/revoke", &form).await;
    let spent = stack.document_token("app", "hanako", &[hash(1)]).await;
    let (signed, _) = call(
        stack,
        "/csc/v2/signatures/signHash",
        &bearer(&spent),
        &sign(2),
    )
    .await;
    assert_eq!(signed.status, StatusCode::OK);
    stack.sam.with(|s| s.signed.clear());
    let terminal = stack.service_token("terminal", "hanako").await;
    let taken = waiting(stack, &terminal, 1).await;
    stack.sam.with(|s| {
        for request in s.requests.values_mut() {
            request.state = RequestState::Approved;
        }
    });
    let check = json!({ "handle": taken });
    let path = "/csc/v2/credentials/authorizeCheck";
    let (first, _) = call(stack, path, &bearer(&terminal), &check).await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.body);
    let mut body = sign(2);
    body["operationMode"] = json!("A");
    let path = "/csc/v2/signatures/signHash";
    let (later, _) = call(stack, path, &bearer(&spent), &body).await;
    let deleted = crate::delete::token(stack, "app", "hanako", "key-ended").await;
    let body = json!({ "credentialID": "key-ended" });
    let path = "/csc/v2/credentials/delete";
    let (done, words) = call(stack, path, &bearer(&deleted), &body).await;
    assert_eq!(done.status, StatusCode::NO_CONTENT, "{words}");
    let created = crate::create::token(stack, "app", "hanako", "key-made").await;
    let body = json!({ "credentialCreationRequest": {} });
    let path = "/csc/v2/credentials/create";
    let (done, words) = call(stack, path, &bearer(&created), &body).await;
    assert_eq!(done.status, StatusCode::CREATED, "{words}");
    let deletion_taro = crate::delete::token(stack, "app", "taro", "key-taro").await;
    World {
        expired_creation,
        created,
        deletion_taro,
        deleted,
        later: later.text("responseID"),
        expired,
        expired_signing,
        revoked,
        service: stack.service_token("app", "hanako").await,
        taro: stack.service_token("app", "taro").await,
        other: stack.service_token("other", "hanako").await,
        signing: stack.credential_token("app", "hanako", &[hash(1)]).await,
        spent,
        terminal_taro: stack.service_token("terminal", "taro").await,
        kiosk: stack.service_token("kiosk", "hanako").await,
        handle: waiting(stack, &terminal, 2).await,
        terminal,
        taken,
        login_refresh: {
            let first = remembered(stack).await;
            let body = json!({ "refresh_token": first, "rememberMe": true });
            call(stack, "/csc/v2/auth/login", "", &body).await;
            first
        },
        old_refresh,
    }
}

fn sign(version: u8) -> Value {
    let hashes = if version == 1 { "hash" } else { "hashes" };
    json!({ "credentialID": "key-hanako", hashes: [b64(hash(1))], "signAlgo": "1.2.840.10045.4.3.2" })
}

fn with_sad(mut body: Value, sad: &str) -> Value {
    body["SAD"] = json!(sad);
    body
}

/// Every method of a version with its six cases.
fn rows(version: u8, w: &World, stack: &Stack) -> Vec<Row> {
    let hashes = if version == 1 { "hash" } else { "hashes" };
    let header = "Malformed authorization header";
    let no_token = |body: &Value| (NoToken, Refused(String::new(), body.clone(), 400, header));
    let expired = |token: &str, body: &Value| {
        let token = bearer(token);
        (Expired, Refused(token, body.clone(), 401, "expired_token"))
    };
    let refused = |wrong, token: &str, body: &Value, status, words| {
        (wrong, Refused(bearer(token), body.clone(), status, words))
    };
    let nobody = |wrong, why| (wrong, Nobody(why));
    let id = "Invalid parameter credentialID";
    let sad = "Invalid parameter SAD";
    let no_sad = "Missing (or invalid type) string parameter SAD";

    let list = json!({});
    let info = json!({ "credentialID": "key-hanako" });
    let authorize = json!({ "credentialID": "key-explicit", hashes: [b64(hash(1))], "numSignatures": 1,
        "hashAlgorithmOID": HashAlg::Sha256.oid(), "PIN": "secret pin", "OTP": "123456",
        "authData": [{ "id": "PIN", "value": "secret pin" }, { "id": "OTP", "value": "123456" }] });
    let extend = json!({ "credentialID": "key-hanako", hashes: [b64(hash(1))] });
    let stamp = json!({ "hash": b64(hash(1)), "hashAlgo": HashAlg::Sha256.oid() });
    let revoke = json!({ "token": w.service });
    let row = |name, cases: [(Wrong, Case); 6]| Row {
        name,
        cases: cases.into(),
    };
    let signing = |name, body: &Value| {
        row(
            name,
            [
                no_token(body),
                refused(Scope, &w.service, body, 400, no_sad),
                refused(User, &w.taro, &with_sad(body.clone(), &w.signing), 400, sad),
                refused(
                    Client,
                    &w.other,
                    &with_sad(body.clone(), &w.signing),
                    400,
                    sad,
                ),
                expired(&w.expired_signing, body),
                refused(Used, &w.spent, body, 401, "invalid_token"),
            ],
        )
    };
    let code = json!({ "credentialID": "coded-explicit", "authObjectID": "OTP" });
    let sending = |name| {
        row(
            name,
            [
                no_token(&code),
                refused(Scope, &w.signing, &code, 403, "access_denied"),
                refused(User, &w.taro, &code, 400, id),
                nobody(Client, "the code counts for the client that asked"),
                expired(&w.expired, &code),
                refused(Used, &w.revoked, &code, 401, "expired_token"),
            ],
        )
    };
    let mut rows = vec![
        sending("credentials/sendOTP"),
        row(
            "auth/login",
            [
                (
                    NoToken,
                    Refused(
                        String::new(),
                        json!({}),
                        401,
                        "Malformed authentication parameter",
                    ),
                ),
                refused(
                    Scope,
                    &w.service,
                    &json!({}),
                    401,
                    "Malformed authentication parameter",
                ),
                (User, {
                    let header = format!(
                        "Basic {}",
                        b64(format!("taro:{PASSWORD}{}", stack.code("hanako")))
                    );
                    Refused(header, json!({}), 400, "authentication_error")
                }),
                nobody(Client, "it doesn't say which client calls"),
                (
                    Expired,
                    Refused(
                        String::new(),
                        json!({ "refresh_token": w.old_refresh }),
                        400,
                        "Invalid refresh_token",
                    ),
                ),
                (
                    Used,
                    Refused(
                        String::new(),
                        json!({ "refresh_token": w.login_refresh }),
                        400,
                        "Invalid refresh_token",
                    ),
                ),
            ],
        ),
        row(
            "auth/revoke",
            [
                no_token(&revoke),
                refused(Scope, &w.signing, &revoke, 403, "access_denied"),
                refused(
                    User,
                    &w.taro,
                    &revoke,
                    400,
                    "Invalid string parameter token",
                ),
                refused(
                    Client,
                    &w.other,
                    &revoke,
                    400,
                    "Invalid string parameter token",
                ),
                expired(&w.expired, &revoke),
                refused(Used, &w.revoked, &revoke, 401, "expired_token"),
            ],
        ),
        row(
            "credentials/list",
            [
                no_token(&list),
                refused(Scope, &w.signing, &list, 403, "access_denied"),
                refused(
                    User,
                    &w.taro,
                    &json!({ "userID": "hanako" }),
                    400,
                    "userID parameter MUST be null",
                ),
                nobody(Client, "every application of the person may look"),
                expired(&w.expired, &list),
                refused(Used, &w.revoked, &list, 401, "expired_token"),
            ],
        ),
        row(
            "credentials/info",
            [
                no_token(&info),
                refused(
                    Scope,
                    &w.signing,
                    &json!({ "credentialID": "key-explicit" }),
                    400,
                    id,
                ),
                refused(User, &w.taro, &info, 400, id),
                nobody(Client, "every application of the person may look"),
                expired(&w.expired, &info),
                refused(Used, &w.revoked, &info, 401, "expired_token"),
            ],
        ),
        row(
            "credentials/authorize",
            [
                no_token(&authorize),
                refused(Scope, &w.signing, &authorize, 403, "access_denied"),
                refused(User, &w.taro, &authorize, 400, id),
                nobody(
                    Client,
                    "PIN and code decide, by whichever application they were collected",
                ),
                expired(&w.expired, &authorize),
                refused(Used, &w.revoked, &authorize, 401, "expired_token"),
            ],
        ),
        signing("credentials/extendTransaction", &extend),
        signing("signatures/signHash", &sign(version)),
        row(
            "signatures/timestamp",
            [
                no_token(&stamp),
                refused(Scope, &w.signing, &stamp, 403, "access_denied"),
                nobody(User, "a time-stamp is about nobody"),
                nobody(Client, "a time-stamp is about nobody"),
                expired(&w.expired, &stamp),
                refused(Used, &w.revoked, &stamp, 401, "expired_token"),
            ],
        ),
    ];
    if version == 2 {
        let check = json!({ "handle": w.handle });
        let handle = "Invalid parameter handle";
        let poll = json!({ "requestID": w.later });
        let request = "Invalid parameter requestID";
        rows.push(row(
            "signatures/signPolling",
            [
                no_token(&poll),
                nobody(Scope, "whoever may call may ask"),
                refused(User, &w.taro, &poll, 400, request),
                refused(Client, &w.other, &poll, 400, request),
                expired(&w.expired, &poll),
                nobody(Used, "asking uses nothing up"),
            ],
        ));
        let made =
            json!({ "credentialID": "key-hanako", "signature": core_types::bytes::b64("value") });
        let signature = "Invalid parameter signature";
        rows.push(row(
            "signatures/receipt",
            [
                no_token(&made),
                nobody(Scope, "whoever may call may ask"),
                refused(User, &w.taro, &made, 400, signature),
                refused(Client, &w.other, &made, 400, signature),
                expired(&w.expired, &made),
                nobody(Used, "asking uses nothing up"),
            ],
        ));
        rows.push(sending("credentials/getChallenge"));
        let delete = json!({ "credentialDeletionRequest": { "credentialID": "key-hanako" } });
        rows.push(row(
            "credentials/delete",
            [
                no_token(&delete),
                refused(Scope, &w.service, &delete, 403, "access_denied"),
                refused(User, &w.deletion_taro, &delete, 400, id),
                nobody(
                    Client,
                    "the token is the application's that the owner approved",
                ),
                expired(&w.expired, &delete),
                refused(Used, &w.deleted, &delete, 401, "expired_token"),
            ],
        ));
        let create = json!({ "credentialCreationRequest": {} });
        rows.push(row(
            "credentials/create",
            [
                no_token(&create),
                refused(Scope, &w.deletion_taro, &create, 403, "access_denied"),
                nobody(User, "the token brings its own person's key and names it"),
                nobody(
                    Client,
                    "the token is the application's that the person agreed to",
                ),
                expired(&w.expired_creation, &create),
                refused(Used, &w.created, &create, 401, "expired_token"),
            ],
        ));
        let document = json!({ "credentialID": "key-hanako", "documents": [
            { "document": "AQID", "signature_format": "C", "signAlgo": "1.2.840.10045.4.3.2" }] });
        rows.push(signing("signatures/signDoc", &document));
        rows.push(row(
            "credentials/authorizeCheck",
            [
                no_token(&check),
                refused(Scope, &w.signing, &check, 403, "access_denied"),
                refused(User, &w.terminal_taro, &check, 400, handle),
                refused(Client, &w.kiosk, &check, 400, handle),
                expired(&w.expired, &check),
                refused(
                    Used,
                    &w.terminal,
                    &json!({ "handle": w.taken }),
                    400,
                    handle,
                ),
            ],
        ));
    }
    rows
}

// shows: T-USE-SAP-BYPASS, T-USE-CRED-FORGE, T-USE-SAP-REPLAY, I-4.2.2b-login-then-request,
// I-7.1.2.1-identify-authenticate-each-user, I-7.1.3.1-access-control,
// I-7.1.1.3-sca, I-5.2.2-flow,
// I-3.3-confirm-instructing-person
#[tokio::test]
async fn every_method_of_both_versions_refuses_every_wrong_caller() {
    let source = include_str!("../../src/csc/mod.rs");
    for stack in ready().await {
        let world = world(&stack).await;
        for version in [1, 2] {
            let from = match version {
                1 => "fn router_v1()",
                _ => "fn router()",
            };
            let mut served = routes(source, from);
            assert!(served.remove("info"), "info is everybody's");
            let rows = rows(version, &world, &stack);
            let covered = rows.iter().map(|row| row.name.to_owned()).collect();
            assert_eq!(served, covered, "a method without its wrong callers");
            for row in rows {
                let kinds: Vec<Wrong> = row.cases.iter().map(|(wrong, _)| *wrong).collect();
                assert_eq!(kinds, ALL, "{}", row.name);
                for (wrong, case) in row.cases {
                    let why = format!("v{version} {} {wrong:?}", row.name);
                    let (authorization, body, status, wanted) = match case {
                        Refused(authorization, body, status, words) => {
                            (authorization, body, status, words)
                        }
                        Nobody(why) => {
                            assert!(!why.is_empty());
                            continue;
                        }
                    };
                    let path = format!("/csc/v{version}/{}", row.name);
                    // On the listener that asks for certificates, too: a certificate is no token.
                    for router in [stack.ssa.router(), stack.ssa.certificate_router()] {
                        let called = call_to(&stack, router, &path, &authorization, &body);
                        let (answer, words) = called.await;
                        assert_eq!(answer.status.as_u16(), status, "{why}: {words}");
                        assert!(words.contains(wanted), "{why}: {words}");
                    }
                }
                let path = format!("/csc/v{version}/{}", row.name);
                if row.name != "auth/login" {
                    let (answer, words) = call(&stack, &path, "Bearer unknown", &json!({})).await;
                    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
                    assert!(words.starts_with("invalid_token"), "{path}: {words}");
                }
            }
        }
        assert!(stack.sam.with(|s| {
            s.signed
                .iter()
                .all(|s| s.token.ct_eq(world.spent.as_bytes()))
        }));
        assert!(stack.sam.with(|s| s.codes.is_empty()), "no code went out");
        // Nothing of this has spoilt what is right.
        let (good, words) = call(
            &stack,
            "/csc/v1/signatures/signHash",
            &bearer(&world.service),
            &with_sad(sign(1), &world.signing),
        )
        .await;
        assert_eq!(good.status, StatusCode::OK, "{words}");
    }
}
