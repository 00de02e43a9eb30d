//! The endpoints of OAuth against every wrong caller; see `coverage.rs`.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use serde_json::json;

use crate::coverage::{ready, routes};
use crate::web::{Browser, REDIRECT, Stack, VERIFIER, service_request};

/// A code of this client for Hanako.
async fn code(stack: &Stack, client: &str) -> String {
    let mut browser = Browser::new(stack);
    let code = browser
        .log_in_for_code(&service_request(client), "hanako")
        .await;
    stack.next_code();
    code
}

/// What can be wrong with whoever calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Missing,
    Client,
    User,
    Expired,
    Used,
}
use Wrong::{Client, Expired, Missing, Used, User};

const ALL: [Wrong; 5] = [Missing, Client, User, Expired, Used];

/// What is sent, and what has to come back.
enum Case {
    /// A form of this client, or of nobody who proves anything: status and `error`.
    Form(
        Option<&'static str>,
        Vec<(&'static str, String)>,
        u16,
        &'static str,
    ),
    /// A form of this client; nothing is told of what it asks about.
    Silent(&'static str, Vec<(&'static str, String)>),
    /// A browser goes there, with this cookie or none: status.
    Open(Option<String>, String, u16),
    /// There is no such caller; says why, or which test has it.
    Nobody(&'static str),
}
use Case::{Form, Nobody, Open, Silent};

struct Row {
    name: &'static str,
    cases: [Case; 5],
}

/// What the wrong callers have in their hands.
struct World {
    stolen: String,
    late: String,
    spent: String,
    token: String,
    old: String,
    revoked: String,
    uri: String,
    old_uri: String,
    spent_uri: String,
    device: String,
    old_device: String,
    flow: String,
    old_flow: String,
    old_cookie: Option<String>,
    done_flow: String,
    done_cookie: Option<String>,
}

async fn push(stack: &Stack) -> String {
    let form = service_request("app");
    let form: Vec<_> = form.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let path = "/oauth2/pushed_authorize";
    let answer = stack.client_form("app", path, &form).await;
    answer.text("request_uri")
}

async fn device(stack: &Stack) -> String {
    let path = "/oauth2/device_authorization";
    let form = [("scope", "service")];
    let answer = stack.client_form("terminal", path, &form).await;
    answer.text("device_code")
}

/// The path behind a handle of an authorization that a browser has begun.
async fn begun(browser: &mut Browser<'_>) -> String {
    let page = browser.authorize(&service_request("app")).await;
    format!("/oauth2/continue/{}", page.field("flow"))
}

fn open(uri: &str, client: &str) -> String {
    let query = crate::web::encode(&[("client_id", client), ("request_uri", uri)]);
    format!("/oauth2/authorize?{query}")
}

async fn world(stack: &Stack) -> World {
    let old = stack.service_token("app", "hanako").await;
    let (old_uri, old_device) = (push(stack).await, device(stack).await);
    let late = code(stack, "app").await;
    let mut browser = Browser::new(stack);
    let old_flow = begun(&mut browser).await;
    let old_cookie = browser.cookie.clone();
    // Its own browser could go on.
    assert_eq!(browser.get(&old_flow).await.status, StatusCode::OK);
    stack.clock.advance(3600);
    let spent = code(stack, "app").await;
    stack.exchange("app", &spent).await.text("access_token");
    let token = stack.service_token("app", "hanako").await;
    let form = [("token", token.as_str())];
    let known = stack.client_form("app", "/oauth2/introspect", &form).await;
    assert_eq!(known.json()["active"], true);
    let revoked = stack.service_token("app", "hanako").await;
    let form = [("token", revoked.as_str())];
    stack.client_form("app", "/oauth2/revoke", &form).await;
    let mut browser = Browser::new(stack);
    let page = browser.authorize(&service_request("app")).await;
    let done_flow = format!("/oauth2/continue/{}", page.field("flow"));
    let answer = browser.log_in_here(&page, "hanako").await;
    assert!(answer.param("code").is_some());
    stack.next_code();
    let spent_uri = push(stack).await;
    let opened = Browser::new(stack).get(&open(&spent_uri, "app")).await;
    assert!(opened.status.is_redirection());
    World {
        stolen: code(stack, "app").await,
        late,
        spent,
        token,
        old,
        revoked,
        uri: push(stack).await,
        old_uri,
        spent_uri,
        device: device(stack).await,
        old_device,
        flow: begun(&mut Browser::new(stack)).await,
        old_flow,
        old_cookie,
        done_flow,
        done_cookie: browser.cookie.clone(),
    }
}

/// Every endpoint with its five cases.
fn rows(w: &World) -> Vec<Row> {
    let code = |code: &str| -> Vec<(&'static str, String)> {
        let pairs = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", REDIRECT),
            ("code_verifier", VERIFIER),
        ];
        pairs.map(|(name, value)| (name, value.to_owned())).into()
    };
    let asks = |code: &str| {
        vec![
            (
                "grant_type",
                "urn:ietf:params:oauth:grant-type:device_code".to_owned(),
            ),
            ("device_code", code.to_owned()),
        ]
    };
    let one = |token: &str| vec![("token", token.to_owned())];
    let request = || service_request("app");
    let scope = || vec![("scope", "service".to_owned())];
    let (invalid, grant) = ("invalid_request", "invalid_grant");
    let of_nobody = "nobody is known here yet";
    let row = |name, cases| Row { name, cases };
    let revoke = |name| {
        row(
            name,
            [
                Form(None, one(&w.token), 400, invalid),
                Form(Some("other"), one(&w.token), 400, invalid),
                Nobody("a token is ended by its client"),
                Nobody("what is over is over"),
                Nobody("what is over is over"),
            ],
        )
    };
    let browsers = |name: &'static str, path: fn(&str) -> String| {
        row(
            name,
            [
                Open(None, path("/oauth2/continue/unknown"), 404),
                Nobody("an authorization keeps its client"),
                // Somebody else's browser, as all are that come without the cookie it began with.
                Open(None, path(&w.flow), 404),
                Open(w.old_cookie.clone(), path(&w.old_flow), 404),
                Open(w.done_cookie.clone(), path(&w.done_flow), 410),
            ],
        )
    };
    vec![
        row(
            "oauth2/token",
            [
                Form(None, code(&w.stolen), 400, invalid),
                Form(Some("other"), code(&w.stolen), 400, grant),
                Nobody("a code is its person's, whoever brings it for its client"),
                Form(Some("app"), code(&w.late), 400, grant),
                Form(Some("app"), code(&w.spent), 400, grant),
            ],
        ),
        // The same endpoint, with what a terminal brings.
        row(
            "oauth2/token",
            [
                Form(None, asks(&w.device), 400, invalid),
                Form(Some("kiosk"), asks(&w.device), 400, grant),
                Nobody("device.rs: codes_are_their_clients_end_and_are_not_guessed"),
                Form(Some("terminal"), asks(&w.old_device), 400, "expired_token"),
                Nobody("device.rs: a_terminal_gets_its_token_after_its_user_agreed_elsewhere"),
            ],
        ),
        revoke("oauth2/revoke"),
        revoke("/oauth2/revoke"),
        revoke("revoke"),
        row(
            "oauth2/introspect",
            [
                Form(None, one(&w.token), 400, invalid),
                Silent("other", one(&w.token)),
                Nobody("a token is its client's to ask about"),
                Silent("app", one(&w.old)),
                Silent("app", one(&w.revoked)),
            ],
        ),
        row(
            "oauth2/pushed_authorize",
            [
                Form(None, request(), 400, invalid),
                Form(Some("other"), request(), 401, "invalid_client"),
                Nobody(of_nobody),
                Nobody("oauth2/authorize has what it gave"),
                Nobody("oauth2/authorize has what it gave"),
            ],
        ),
        row(
            "oauth2/device_authorization",
            [
                Form(None, scope(), 400, invalid),
                Form(Some("app"), scope(), 400, "unauthorized_client"),
                Nobody(of_nobody),
                Nobody("oauth2/token has what it gave"),
                Nobody("oauth2/token has what it gave"),
            ],
        ),
        row(
            "oauth2/register",
            [
                Nobody("registration.rs: unless_somebody_vouches_nobody_registers"),
                Nobody(
                    "registration.rs: statements_and_members_that_do_not_count_register_nothing",
                ),
                Nobody(of_nobody),
                Nobody(
                    "registration.rs: statements_and_members_that_do_not_count_register_nothing",
                ),
                Nobody(
                    "registration.rs: a_client_registers_with_its_publishers_word_and_is_what_that_says",
                ),
            ],
        ),
        row(
            "oauth2/authorize",
            [
                Open(None, "/oauth2/authorize".to_owned(), 400),
                Open(None, open(&w.uri, "other"), 400),
                Nobody("whoever logs in is the person"),
                Open(None, open(&w.old_uri, "app"), 400),
                Open(None, open(&w.spent_uri, "app"), 400),
            ],
        ),
        browsers("oauth2/continue/{handle}", str::to_owned),
        browsers("oauth2/resume/{handle}", |path| {
            path.replace("continue", "resume")
        }),
        browsers("oauth2/waiting/{handle}", |path| {
            path.replace("continue", "waiting")
        }),
    ]
}

/// What stands behind the first slash of endpoints whose path begins with two.
const DOUBLED: [&str; 4] = [
    "/oauth2/authorize",
    "/oauth2/pushed_authorize",
    "/oauth2/revoke",
    "/oauth2/token",
];
/// What anybody may read.
const EVERYBODYS: [&str; 3] = [
    "oauth2/jwks",
    ".well-known/oauth-authorization-server",
    ".well-known/openid-configuration",
];
/// A form of our own page: `coverage_portal.rs`.
const FORM: &str = "oauth2/agree";

// shows: T-USE-CRED-FORGE, T-USE-SAP-REPLAY
#[tokio::test]
async fn every_oauth_endpoint_refuses_every_wrong_caller() {
    let mut served = routes(include_str!("../../src/oauth/mod.rs"), "fn router()");
    // Four of the endpoints once more, under the address that some clients write; what serves them is the same, which one shows.
    let doubled = served.iter().filter(|path| path.starts_with("/oauth2/"));
    assert_eq!(doubled.collect::<Vec<_>>(), DOUBLED);
    served.retain(|path| !path.starts_with("/oauth2/") || path == DOUBLED[2]);
    let tests = [
        ("device.rs", include_str!("device.rs")),
        ("registration.rs", include_str!("registration.rs")),
    ];
    for stack in ready().await {
        let world = world(&stack).await;
        let rows = rows(&world);
        let mut covered: BTreeSet<String> = rows.iter().map(|row| row.name.to_owned()).collect();
        covered.extend(EVERYBODYS.map(str::to_owned));
        covered.insert(FORM.to_owned());
        assert_eq!(served, covered, "an endpoint without its wrong callers");
        for row in rows {
            for (wrong, case) in ALL.into_iter().zip(row.cases) {
                let why = format!("{} {wrong:?}", row.name);
                let path = format!("/{}", row.name);
                let sent = async |client: Option<&str>, form: &[(&'static str, String)]| {
                    let form: Vec<_> = form.iter().map(|(n, v)| (*n, v.as_str())).collect();
                    match client {
                        Some(client) => stack.client_form(client, &path, &form).await,
                        None => {
                            let kind = "application/x-www-form-urlencoded";
                            let request = Request::post(&path).header(header::CONTENT_TYPE, kind);
                            let body = Body::from(crate::web::encode(&form));
                            stack.send(request.body(body).unwrap()).await
                        }
                    }
                };
                match case {
                    Form(client, form, status, error) => {
                        let answer = sent(client, &form).await;
                        let (told, code, _) = answer.told();
                        assert_eq!((told, code.as_str()), (status, error), "{why}");
                    }
                    Silent(client, form) => {
                        let answer = sent(Some(client), &form).await;
                        assert_eq!(answer.json(), json!({ "active": false }), "{why}");
                    }
                    Open(cookie, path, status) => {
                        let mut browser = Browser::new(&stack);
                        browser.cookie = cookie;
                        let answer = browser.get(&path).await;
                        assert_eq!(answer.status.as_u16(), status, "{why}: {}", answer.body);
                    }
                    Nobody(text) => {
                        // A test that is named is there.
                        if let Some((file, test)) = text.split_once(".rs: ") {
                            let file = format!("{file}.rs");
                            let found = tests.iter().find(|(name, _)| *name == file);
                            let found = found.is_some_and(|(_, text)| text.contains(test));
                            assert!(found, "{why}: {text}");
                        }
                    }
                }
            }
        }
    }
}

// shows: T-USE-CRED-FORGE, I-7.1.2.1-identify-authenticate-each-user
#[tokio::test]
async fn every_oauth_endpoint_wants_its_client() {
    for stack in ready().await {
        let token = stack.service_token("app", "hanako").await;
        let request = Request::get("/.well-known/oauth-authorization-server");
        let metadata = stack
            .send(request.body(Body::empty()).unwrap())
            .await
            .json();
        let endpoints: BTreeSet<String> = metadata
            .as_object()
            .unwrap()
            .iter()
            .filter(|(name, _)| name.ends_with("_endpoint") && *name != "authorization_endpoint")
            .filter_map(|(_, url)| Some(url.as_str()?.strip_prefix(crate::web::BASE)?.to_owned()))
            .collect();
        let covered = [
            "device_authorization",
            "introspect",
            "pushed_authorize",
            "revoke",
            "token",
        ];
        let covered: BTreeSet<String> = covered.map(|n| format!("/oauth2/{n}")).into();
        assert_eq!(endpoints, covered, "an endpoint without its wrong callers");
        for path in &endpoints {
            for (form, error) in [
                (vec![("token", token.as_str())], "invalid_request"),
                (
                    vec![("client_id", "app"), ("token", &token)],
                    "invalid_request",
                ),
                (
                    vec![
                        ("client_id", "app"),
                        ("client_secret", "guess"),
                        ("token", &token),
                    ],
                    "invalid_client",
                ),
                (
                    vec![
                        ("client_id", "nobody"),
                        ("client_secret", "x"),
                        ("token", &token),
                    ],
                    "invalid_client",
                ),
                // Another client's secret.
                (
                    vec![
                        ("client_id", "app"),
                        ("client_secret", stack.clients["other"].as_str()),
                        ("token", &token),
                    ],
                    "invalid_client",
                ),
                (
                    vec![("client_id", "app"), ("client_id", "other")],
                    "invalid_request",
                ),
            ] {
                let request = Request::post(path)
                    .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
                let body = Body::from(crate::web::encode(&form));
                let answer = stack.send(request.body(body).unwrap()).await;
                assert!(answer.status.is_client_error(), "{path} {form:?}");
                assert_eq!(answer.json()["error"], error, "{path} {form:?}");
            }
        }
    }
}
