//! Officers who manage clients, on both stores: whose office it is, what a contract changes, and when.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::response::IntoResponse as _;
use core_types::bytes::b64;
use core_types::rpc::{Empty, Method};
use core_types::{Clock as _, Level, OfficerId, PeerId};
use sap::office::Role;
use serde_json::{Value, json};
use service_kit::Peer;
use ssa_service::calls::{
    AddRequest, ClientAdd, ClientInfo, ClientList, ClientProof, ClientRefusal, ClientRequest,
    ClientResume, ClientRotate, ClientSet, ClientShow, ClientState, ClientSuspend, Contract,
    RotateAnswer, RotateRequest, SetRequest,
};
use ssa_service::{ClientOfficer, ClientSettings, Quota};
use store_kit::{StoreError, sql, transaction};
use tower::ServiceExt as _;

use crate::fake::client_id;
use crate::web::{
    Answer, Browser, REDIRECT, Stack, credential_request, encode, hash, service_request, stacks,
};

const ADMINISTRATOR: &str = "tanaka.office";
const OPERATOR: &str = "ito.office";
pub const SECURITY: &str = "sato.office";
const AUDITOR: &str = "watanabe.office";
const GUARD: &str = "guard.test";

fn officers() -> Vec<ClientOfficer> {
    let officer = |peer: &str, role| ClientOfficer {
        peer: PeerId::parse(peer).unwrap(),
        officer: OfficerId::parse(peer.split('.').next().unwrap()).unwrap(),
        role,
    };
    vec![
        officer(ADMINISTRATOR, Role::SystemAdministrator),
        officer(OPERATOR, Role::SystemOperator),
        officer(SECURITY, Role::SecurityOfficer),
        officer(AUDITOR, Role::SystemAuditor),
    ]
}

/// A call as the listener hands it on, by whoever's certificate has this name.
pub async fn call<M: Method>(
    stack: &Stack,
    name: &str,
    request: &M::Request,
) -> Result<M::Response, M::Refusal> {
    let router = stack.ssa.officers_router(officers(), vec![peer(GUARD)]);
    call_at::<M>(router.unwrap(), name, request).await
}

/// The same at a listener that goes on.
async fn call_at<M: Method>(
    router: axum::Router,
    name: &str,
    request: &M::Request,
) -> Result<M::Response, M::Refusal> {
    let peer = Peer {
        name: name.to_owned(),
        addr: ([127, 0, 0, 1], 1).into(),
    };
    let body = Body::from(serde_json::to_vec(request).unwrap());
    let request = Request::post(M::PATH).extension(peer).body(body).unwrap();
    let response = router.oneshot(request).await.into_response();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), usize::MAX);
    let body = body.await.unwrap();
    match status {
        StatusCode::OK => Ok(serde_json::from_slice(&body).unwrap()),
        StatusCode::UNPROCESSABLE_ENTITY => Err(serde_json::from_slice(&body).unwrap()),
        other => panic!("{other}"),
    }
}

fn peer(name: &str) -> PeerId {
    PeerId::parse(name).unwrap()
}

fn contract(settings: ClientSettings) -> Contract {
    Contract {
        name: "New".to_owned(),
        redirect_uris: vec![REDIRECT.to_owned()],
        native: false,
        settings,
    }
}

fn add(id: &str) -> AddRequest {
    AddRequest {
        client: client_id(id),
        contract: contract(ClientSettings::default()),
        public: false,
    }
}

pub fn named(id: &str) -> ClientRequest {
    ClientRequest {
        client: client_id(id),
    }
}

fn rotate(info: &ClientInfo, overlap: i64) -> RotateRequest {
    RotateRequest {
        client: info.client.clone(),
        version: info.version,
        keys: Vec::new(),
        certificate: None,
        overlap,
    }
}

async fn shown(stack: &Stack, id: &str) -> ClientInfo {
    call::<ClientShow>(stack, OPERATOR, &named(id))
        .await
        .unwrap()
}

/// Changes the contract of a client.
pub async fn set(
    stack: &Stack,
    id: &str,
    change: impl FnOnce(&mut ClientSettings),
) -> Result<ClientInfo, ClientRefusal> {
    let info = shown(stack, id).await;
    let mut contract = info.contract;
    change(&mut contract.settings);
    let request = SetRequest {
        client: info.client,
        version: info.version,
        contract,
    };
    call::<ClientSet>(stack, ADMINISTRATOR, &request).await
}

async fn introspect(stack: &Stack, client: &str, secret: &str, token: &str) -> Answer {
    let basic = b64(format!("{client}:{secret}"));
    let request = Request::post("/oauth2/introspect")
        .header(header::AUTHORIZATION, format!("Basic {basic}"))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let body = Body::from(encode(&[("token", token)]));
    stack.send(request.body(body).unwrap()).await
}

async fn sign(stack: &Stack, token: &str, hashes: &[Vec<u8>]) -> Answer {
    let hashes: Vec<String> = hashes.iter().map(b64).collect();
    let body = json!({ "credentialID": "key-hanako", "hashes": hashes, "signAlgo": "1.2.840.10045.4.3.2" });
    stack
        .csc("signatures/signHash", token, &body.to_string())
        .await
}

fn description(answer: &Answer) -> String {
    let told: Value = answer.json();
    told["error_description"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

// shows: I-7.1.1.10-only-privileged-manage-all-interfaces, I-7.1.3.1-access-control,
// I-7.1.1.2-system-administrator
#[tokio::test]
async fn every_office_does_its_own_and_strangers_nothing() {
    for stack in stacks().await {
        let everybody = [
            ADMINISTRATOR,
            OPERATOR,
            SECURITY,
            AUDITOR,
            "ssa.natsuin.internal",
            "",
        ];
        let app = shown(&stack, "app").await;
        let set = SetRequest {
            client: app.client.clone(),
            version: -1,
            contract: contract(ClientSettings::default()),
        };
        for (n, who) in everybody.into_iter().enumerate() {
            let no = ClientRefusal::NotAllowed;
            let may = |allowed: &[&str]| allowed.contains(&who);
            let running = [ADMINISTRATOR, OPERATOR, SECURITY];
            let list = call::<ClientList>(&stack, who, &Empty {}).await;
            assert_eq!(list.is_ok(), may(&running), "{who}");
            assert!(list.is_ok() || list == Err(no.clone()));
            let show = call::<ClientShow>(&stack, who, &named("app")).await;
            assert_eq!(show.is_ok(), may(&running), "{who}");
            let added = call::<ClientAdd>(&stack, who, &add(&format!("new-{n}"))).await;
            assert_eq!(added.is_ok(), may(&[ADMINISTRATOR]), "{who}");
            let changed = call::<ClientSet>(&stack, who, &set).await;
            let wanted = match may(&[ADMINISTRATOR]) {
                true => ClientRefusal::Changed,
                false => no.clone(),
            };
            assert_eq!(changed, Err(wanted), "{who}");
            let mut request = rotate(&app, 0);
            request.version = -1;
            let rotated = call::<ClientRotate>(&stack, who, &request).await;
            let wanted = match may(&[SECURITY]) {
                true => ClientRefusal::Changed,
                false => no.clone(),
            };
            assert_eq!(rotated, Err(wanted), "{who}");
            let stopped = call::<ClientSuspend>(&stack, who, &named("other")).await;
            assert_eq!(stopped.is_ok(), may(&running), "{who}");
            let resumed = call::<ClientResume>(&stack, who, &named("other")).await;
            assert_eq!(resumed.is_ok(), may(&running), "{who}");
        }
        let kinds = stack.audit_kinds().await;
        let count = |kind: &str| kinds.iter().filter(|k| *k == kind).count();
        // The auditor's and the stranger's seven tries each, two of the operator, one of the others; nobody without a name.
        assert_eq!(count("client.change-refused"), 7 + 7 + 3 + 1 + 2);
        assert_eq!(count("client.changed"), 1 + 3 * 2);
    }
}

// shows: I-7.1.1.6-officer-not-auditor, I-7.1.1.7-admin-operator-not-auditor-officer
#[tokio::test]
async fn no_person_has_two_offices_by_two_certificates() {
    for stack in stacks().await {
        let second = |person: &str, role| ClientOfficer {
            peer: peer("second.office"),
            officer: OfficerId::parse(person).unwrap(),
            role,
        };
        for (person, role) in [
            ("tanaka", Role::SecurityOfficer),
            ("tanaka", Role::SystemAuditor),
            ("tanaka", Role::SystemOperator),
            ("ito", Role::SecurityOfficer),
            ("sato", Role::SystemAuditor),
            ("watanabe", Role::SystemOperator),
        ] {
            let mut listed = officers();
            listed.push(second(person, role));
            let refused = stack.ssa.officers_router(listed, Vec::new()).unwrap_err();
            assert_eq!(refused.code, "roles-not-separate", "{person} {role:?}");
        }
        let mut listed = officers();
        listed.push(second("sato", Role::SecurityOfficer));
        assert!(stack.ssa.officers_router(listed, Vec::new()).is_ok());
    }
}

// shows: I-7.1.1.2-security-officer
#[tokio::test]
async fn an_administrator_registers_and_a_security_officer_hands_out_the_secret() {
    for mut stack in stacks().await {
        let made = call::<ClientAdd>(&stack, ADMINISTRATOR, &add("new")).await;
        let made = made.unwrap();
        assert_eq!(
            (made.state, made.proof),
            (ClientState::New, ClientProof::None)
        );
        let again = call::<ClientAdd>(&stack, ADMINISTRATOR, &add("new")).await;
        assert_eq!(again, Err(ClientRefusal::Taken));
        // Without a secret it isn't a public client: nobody knows it, and nothing but a secret changes that.
        let form = [("client_id", "new"), ("grant_type", "refresh_token")];
        let request = Request::post("/oauth2/token")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let body = Body::from(encode(&form));
        let refused = stack.send(request.body(body).unwrap()).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        let stopped = call::<ClientSuspend>(&stack, OPERATOR, &named("new")).await;
        assert!(matches!(stopped, Err(ClientRefusal::Invalid { .. })));
        let resumed = call::<ClientResume>(&stack, OPERATOR, &named("new")).await;
        assert!(matches!(resumed, Err(ClientRefusal::Invalid { .. })));
        let first = call::<ClientRotate>(&stack, SECURITY, &rotate(&made, 0)).await;
        let RotateAnswer { client, secret } = first.unwrap();
        assert_eq!(
            (client.state, client.proof),
            (ClientState::Active, ClientProof::Secret)
        );
        let secret = secret.unwrap().expose().to_owned();
        stack.clients.insert("new".to_owned(), secret.clone());
        let token = stack.service_token("new", "hanako").await;
        assert_eq!(
            introspect(&stack, "new", &secret, &token).await.status,
            StatusCode::OK
        );
        // The next secret counts beside the first for an hour; the one after it ends the first at once.
        let stale = call::<ClientRotate>(&stack, SECURITY, &rotate(&made, 0)).await;
        assert_eq!(stale, Err(ClientRefusal::Changed));
        let second = call::<ClientRotate>(&stack, SECURITY, &rotate(&client, 3600)).await;
        let second = second.unwrap();
        assert!(second.client.overlap_until.is_some());
        let next = second.secret.unwrap().expose().to_owned();
        for secret in [&secret, &next] {
            let answer = introspect(&stack, "new", secret, &token).await;
            assert_eq!(answer.status, StatusCode::OK);
        }
        stack.clock.advance(3600);
        let late = introspect(&stack, "new", &secret, &token).await;
        assert_eq!(late.status, StatusCode::UNAUTHORIZED);
        let good = introspect(&stack, "new", &next, &token).await;
        assert_eq!(good.status, StatusCode::OK);
        let leaked = call::<ClientRotate>(&stack, SECURITY, &rotate(&second.client, 0)).await;
        assert!(leaked.is_ok());
        let gone = introspect(&stack, "new", &next, &token).await;
        assert_eq!(gone.status, StatusCode::UNAUTHORIZED);
        let long = call::<ClientRotate>(&stack, SECURITY, &rotate(&client, i64::MAX)).await;
        assert!(matches!(long, Err(ClientRefusal::Invalid { .. })));
    }
}

// shows: T-USE-CRED-FORGE
#[tokio::test]
async fn a_suspended_client_is_unknown_with_all_its_tokens_at_once() {
    for stack in stacks().await {
        let token = stack.service_token("app", "hanako").await;
        let signing = stack.credential_token("app", "hanako", &[hash(1)]).await;
        let mut browser = Browser::new(&stack);
        let page = browser.authorize(&service_request("app")).await;
        let stopped = call::<ClientSuspend>(&stack, OPERATOR, &named("app")).await;
        assert_eq!(stopped.unwrap().state, ClientState::Suspended);
        for method in ["credentials/list", "credentials/info"] {
            let answer = stack.csc(method, &token, "{}").await;
            assert_eq!(answer.json()["error"], "invalid_token");
        }
        let answer = sign(&stack, &signing, &[hash(1)]).await;
        assert_eq!(answer.json()["error"], "invalid_token");
        let told = stack.audit_bodies("access.denied").await;
        let told = told.iter().filter(|b| b.contains(r#""reason":"client""#));
        assert_eq!(told.count(), 3, "each try is an entry");
        // Nor as the SAD of another client.
        let foreign = stack.service_token("other", "hanako").await;
        let body = json!({ "credentialID": "key-hanako", "SAD": signing, "hashes": [b64(hash(1))],
            "signAlgo": "1.2.840.10045.4.3.2" });
        let answer = stack
            .csc("signatures/signHash", &foreign, &body.to_string())
            .await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert!(stack.sam.with(|s| s.signed.is_empty()));
        let secret = stack.clients["app"].clone();
        let answer = introspect(&stack, "app", &secret, &token).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        // Whoever is in the middle of it comes no further.
        let ended = browser.log_in_here(&page, "hanako").await;
        assert_eq!(ended.status, StatusCode::BAD_REQUEST, "{}", ended.body);
        let began = Browser::new(&stack)
            .authorize(&service_request("app"))
            .await;
        assert_eq!(began.status, StatusCode::BAD_REQUEST);
        let resumed = call::<ClientResume>(&stack, OPERATOR, &named("app")).await;
        assert_eq!(resumed.unwrap().state, ClientState::Active);
        let answer = stack.csc("credentials/list", &token, "{}").await;
        assert_eq!(answer.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn what_a_contract_leaves_out_is_refused_from_the_next_call_on() {
    for stack in stacks().await {
        let token = stack.service_token("app", "hanako").await;
        let list = async || stack.csc("credentials/list", &token, "{}").await;
        assert_eq!(list().await.status, StatusCode::OK);
        let only = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        set(&stack, "app", |s| s.methods = only(&["credentials/info"]))
            .await
            .unwrap();
        assert_eq!(list().await.json()["error"], "unauthorized_client");
        let wrong = set(&stack, "app", |s| s.methods = only(&["signHash"])).await;
        assert!(matches!(wrong, Err(ClientRefusal::Invalid { .. })));
        set(&stack, "app", |s| {
            s.methods.clear();
            s.people = only(&["taro"]);
        })
        .await
        .unwrap();
        assert_eq!(list().await.json()["error"], "access_denied");
        let mut browser = Browser::new(&stack);
        let page = browser.authorize(&service_request("app")).await;
        let sent = browser.log_in_here(&page, "hanako").await;
        assert_eq!(sent.param("error").as_deref(), Some("access_denied"));
        stack.next_code();
        // Keys of another level, and another scope.
        set(&stack, "app", |s| {
            s.people.clear();
            s.levels = vec![Level::Two];
        })
        .await
        .unwrap();
        let request = credential_request("app", "key-hanako", &[hash(1)]);
        let mut browser = Browser::new(&stack);
        let page = browser.authorize(&request).await;
        let sent = browser.log_in_here(&page, "hanako").await;
        assert_eq!(sent.param("error").as_deref(), Some("access_denied"));
        stack.next_code();
        set(&stack, "app", |s| {
            s.levels.clear();
            s.scopes = only(&["credential"]);
        })
        .await
        .unwrap();
        assert_eq!(list().await.json()["error"], "unauthorized_client");
        let sent = Browser::new(&stack)
            .authorize(&service_request("app"))
            .await;
        assert_eq!(sent.param("error").as_deref(), Some("unauthorized_client"));
        // Keys are no administrator's to set, and what was set can't be forgotten by somebody who saw less.
        let keys = set(&stack, "app", |s| s.keys = vec![json!({})]).await;
        assert!(matches!(keys, Err(ClientRefusal::Invalid { member }) if member == "keys"));
        let strict = set(&stack, "app", |s| s.fapi = true).await;
        assert!(matches!(strict, Err(ClientRefusal::Invalid { .. })));
    }
}

#[tokio::test]
async fn signatures_are_counted_before_they_are_asked_for_and_each_token_once() {
    for stack in stacks().await {
        set(&stack, "app", |s| {
            s.quota = Quota {
                per_day: Some(3),
                per_month: Some(4),
            };
        })
        .await
        .unwrap();
        let two = [hash(1), hash(2)];
        let first = stack.credential_token("app", "hanako", &two).await;
        // What the SAM refuses counts once, however often it comes.
        let wrong = [hash(8), hash(9)];
        for _ in 0..3 {
            assert_eq!(
                sign(&stack, &first, &wrong).await.status,
                StatusCode::BAD_REQUEST
            );
        }
        assert_eq!(shown(&stack, "app").await.used, [2, 2]);
        assert_eq!(sign(&stack, &first, &two).await.status, StatusCode::OK);
        assert_eq!(shown(&stack, "app").await.used, [2, 2]);
        let second = stack.credential_token("app", "hanako", &two).await;
        let over = sign(&stack, &second, &two).await;
        assert_eq!(over.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(
            description(&over),
            "The application's quota of signatures is used up"
        );
        let wait: i64 = over.headers["retry-after"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        assert_eq!((stack.clock.now().0 + wait) % 86_400, 0, "until midnight");
        assert_eq!(
            shown(&stack, "app").await.used,
            [2, 2],
            "nothing of it stays"
        );
        assert_eq!(
            stack.sam.with(|s| s.signed.len()),
            4,
            "the SAM wasn't asked"
        );
        assert_eq!(
            sign(&stack, &second, &two[..1]).await.status,
            StatusCode::OK
        );
        assert_eq!(shown(&stack, "app").await.used, [3, 3]);
        // The next day has room, the month for one.
        stack.clock.advance(wait);
        stack.sam.with(|s| s.later = wait);
        let third = stack.credential_token("app", "hanako", &two).await;
        assert_eq!(
            sign(&stack, &third, &two).await.status,
            StatusCode::TOO_MANY_REQUESTS
        );
        assert_eq!(shown(&stack, "app").await.used, [0, 3]);
        assert_eq!(sign(&stack, &third, &two[..1]).await.status, StatusCode::OK);
        assert_eq!(shown(&stack, "app").await.used, [1, 4]);
        // Another client has its own.
        let other = stack.credential_token("other", "hanako", &two).await;
        assert_eq!(sign(&stack, &other, &two).await.status, StatusCode::OK);
        assert_eq!(shown(&stack, "other").await.used, [0, 0]);
    }
}

#[tokio::test]
async fn many_calls_at_once_never_pass_the_quota() {
    for stack in stacks().await {
        set(&stack, "app", |s| s.quota.per_month = Some(3))
            .await
            .unwrap();
        let mut tokens = Vec::new();
        for n in 0..6 {
            tokens.push(stack.credential_token("app", "hanako", &[hash(n)]).await);
        }
        let calls = tokens.iter().enumerate().map(|(n, token)| {
            let (stack, n) = (&stack, u8::try_from(n).unwrap());
            async move { sign(stack, token, &[hash(n)]).await.status }
        });
        let answers = futures_util::future::join_all(calls).await;
        let signed = answers.iter().filter(|s| **s == StatusCode::OK).count();
        assert_eq!(signed, 3, "{answers:?}");
        assert_eq!(stack.sam.with(|s| s.signed.len()), 3);
    }
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_changed() {
    for stack in stacks().await {
        transaction!(stack.store, "break-log", |tx| {
            let gone = sql("ALTER TABLE audit_entry RENAME TO audit_gone");
            tx.execute(gone).await?;
            Ok::<_, StoreError>(())
        })
        .unwrap();
        let stopped = call::<ClientSuspend>(&stack, OPERATOR, &named("app")).await;
        assert_eq!(stopped, Err(ClientRefusal::NotNow));
        assert_eq!(shown(&stack, "app").await.state, ClientState::Active);
    }
}

// shows: I-7.1.4.7-alert-starts-countermeasure
#[tokio::test]
async fn a_program_that_watches_the_logs_suspends_a_few_clients_and_does_nothing_else() {
    for stack in stacks().await {
        let router = stack
            .ssa
            .officers_router(officers(), vec![peer(GUARD)])
            .unwrap();
        for n in 0..7 {
            let id = format!("app-{n}");
            let added = call::<ClientAdd>(&stack, ADMINISTRATOR, &add(&id)).await;
            let given = rotate(&added.unwrap(), 0);
            call::<ClientRotate>(&stack, SECURITY, &given)
                .await
                .unwrap();
        }
        let no = ClientRefusal::NotAllowed;
        let listed = call_at::<ClientList>(router.clone(), GUARD, &Empty {}).await;
        assert_eq!(listed.unwrap_err(), no);
        let mut stopped = Vec::new();
        for n in 0..7 {
            let request = named(&format!("app-{n}"));
            let done = call_at::<ClientSuspend>(router.clone(), GUARD, &request).await;
            stopped.push(done.map(|info| info.state));
        }
        let (some, rest) = stopped.split_at(5);
        assert!(
            some.iter().all(|s| *s == Ok(ClientState::Suspended)),
            "{some:?}"
        );
        assert!(
            rest.iter().all(|s| *s == Err(ClientRefusal::NotNow)),
            "{rest:?}"
        );
        // A minute later as well: only an hour gives all of it back.
        stack.clock.advance(660);
        let more = call_at::<ClientSuspend>(router.clone(), GUARD, &named("app-5")).await;
        assert_eq!(more.unwrap_err(), ClientRefusal::NotNow);
        stack.clock.advance(60);
        let more = call_at::<ClientSuspend>(router.clone(), GUARD, &named("app-5")).await;
        assert_eq!(more.unwrap().state, ClientState::Suspended);
        let resumed = call_at::<ClientResume>(router.clone(), GUARD, &named("app-0")).await;
        assert_eq!(resumed.unwrap_err(), no);
        let resumed = call::<ClientResume>(&stack, ADMINISTRATOR, &named("app-0")).await;
        assert_eq!(resumed.unwrap().state, ClientState::Active);
        let kinds = stack.audit_kinds().await;
        let count = |kind: &str| kinds.iter().filter(|k| *k == kind).count();
        assert_eq!(count("client.change-refused"), 1 + 2 + 1 + 1);
        // Anybody can call in a public client's name, so that no guard stops it.
        let public = AddRequest {
            public: true,
            ..add("public")
        };
        let added = call::<ClientAdd>(&stack, ADMINISTRATOR, &public).await;
        assert_eq!(added.unwrap().state, ClientState::Active);
        stack.clock.advance(720);
        let stopped = call::<ClientSuspend>(&stack, GUARD, &named("public")).await;
        assert_eq!(stopped.unwrap_err(), no);
        assert_eq!(shown(&stack, "public").await.state, ClientState::Active);
        let kinds = stack.audit_kinds().await;
        let count = |kind: &str| kinds.iter().filter(|k| *k == kind).count();
        assert_eq!(count("client.change-refused"), 1 + 2 + 1 + 1 + 1);
        // A certificate is one thing or the other.
        let both = stack.ssa.officers_router(officers(), vec![peer(SECURITY)]);
        assert!(both.is_err());
    }
}

/// The gateway of the officers' console sees what is agreed with applications, no secret, and changes nothing.
#[tokio::test]
async fn a_gateway_of_officers_lists_clients_and_does_nothing_else() {
    const GATEWAY: &str = "office.natsuin.internal";
    for stack in stacks().await {
        let router = stack
            .ssa
            .officers_router_seen_by(officers(), vec![peer(GUARD)], vec![peer(GATEWAY)])
            .unwrap();
        let listed = call_at::<ClientList>(router.clone(), GATEWAY, &Empty {}).await;
        let own = call::<ClientList>(&stack, ADMINISTRATOR, &Empty {}).await;
        assert_eq!(listed, own);
        let no = ClientRefusal::NotAllowed;
        let app = named("app");
        let shown = call_at::<ClientShow>(router.clone(), GATEWAY, &app).await;
        assert_eq!(shown.unwrap_err(), no);
        let stopped = call_at::<ClientSuspend>(router.clone(), GATEWAY, &app).await;
        assert_eq!(stopped.unwrap_err(), no);
        let resumed = call_at::<ClientResume>(router.clone(), GATEWAY, &app).await;
        assert_eq!(resumed.unwrap_err(), no);
        let added = call_at::<ClientAdd>(router, GATEWAY, &add("new-one")).await;
        assert_eq!(added.unwrap_err(), no);
        // A certificate is one thing or the other.
        let (guards, viewers) = (vec![peer(GUARD)], vec![peer(GUARD)]);
        let both = stack
            .ssa
            .officers_router_seen_by(officers(), guards, viewers);
        assert!(both.is_err());
    }
}
