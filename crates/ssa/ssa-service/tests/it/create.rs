//! `credentials/create`: what makes a key is its person's act on the SIC page, under the name they are known by; the call brings it once.

use axum::http::StatusCode;
use core_types::{B64, KeyAlg, KeyId, Level};
use sam_api::ssa::{EnrolledKey, EnrolmentAnswer, KeyState, VoucherRequest};
use sap::enrol::Invite;
use serde_json::{Value, json};
use ssa_service::{CertifyError, ClientSettings, Creation};

use crate::fake::key_info;
use crate::web::{
    Answer, Browser, Form, REDIRECT, SIC, Stack, VERIFIER, credential_request, details_request,
    hash, stacks_with,
};

const DETAILS: &str = "https://cloudsignatureconsortium.org/2025/credential-creation";
/// What the certificates of the tests' RA are issued under.
pub const POLICY: &str = "1.3.6.1.4.1.32473.1";
/// A policy that the configuration names and the CA doesn't use.
const UNUSED: &str = "1.3.6.1.4.1.32473.2";

pub fn creations() -> Vec<Creation> {
    let kind = |policy: &str, key| Creation {
        policy: Some(policy.to_owned()),
        key,
    };
    vec![kind(POLICY, KeyAlg::P256), kind(UNUSED, KeyAlg::P384)]
}

async fn offering() -> Vec<Stack> {
    stacks_with(|config| config.creations = creations()).await
}

fn request(client: &str, kind: &str, asked: Value) -> Form {
    let details = json!([{ "type": kind, "credentialCreationRequest": asked }]);
    details_request(client, &details)
}

/// The person's answer to the page that asks whether a key shall be made.
async fn answer(browser: &mut Browser<'_>, page: &Answer, word: &str) -> Answer {
    assert!(page.body.contains("/oauth2/agree"), "{}", page.body);
    let (token, flow) = (page.field("token"), page.field("flow"));
    let form = [("token", token.as_str()), ("flow", &flow), ("answer", word)];
    let answer = browser.post("/oauth2/agree", &form).await;
    browser.follow(answer).await
}

/// The invitation that lies at the SAM, and where the SIC page goes back to.
fn invited(stack: &Stack) -> (Invite, String) {
    let last = stack.sam.with(|s| s.vouchers.last().cloned());
    match last {
        Some(VoucherRequest::Ssa { invite, return_uri }) => (*invite, return_uri),
        other => panic!("{other:?}"),
    }
}

/// The person makes the key on the SIC page; answers where that goes back to.
pub fn enrol(stack: &Stack, key: &str) -> String {
    let (invite, back) = invited(stack);
    let id = KeyId::parse(key).unwrap();
    let mut info = key_info(&id, invite.keys[0], &invite.subject.common_name);
    info.state = KeyState::Pending;
    info.chain = Vec::new();
    info.registration = invite.voucher.clone();
    stack.sam.with(|s| {
        s.keys.entry(invite.person.clone()).or_default().push(info);
        let enrolled = EnrolmentAnswer::Enrolled {
            person: invite.person.clone(),
            statement: "s".to_owned(),
            keys: vec![EnrolledKey {
                key: id,
                certified: false,
                enrolment: "e".to_owned(),
                csr: B64(vec![1]),
            }],
        };
        s.enrolment.insert(invite.voucher.to_string(), enrolled);
    });
    back
}

/// As far as the SIC page.
pub async fn at_sic(browser: &mut Browser<'_>, form: &Form, login: &str) -> Answer {
    let page = browser.authorize(form).await;
    let page = browser.log_in_here(&page, login).await;
    answer(browser, &page, "yes").await
}

/// What the token endpoint answers after the person made the key.
async fn redeemed(stack: &Stack, client: &str, login: &str, key: &str, asked: Value) -> Answer {
    let mut browser = Browser::new(stack);
    let form = request(client, "credential_creation", asked);
    let there = at_sic(&mut browser, &form, login).await;
    assert!(there.location().starts_with(&format!("{SIC}/e#")));
    let back = enrol(stack, key);
    let done = browser.get(&back).await;
    let code = done
        .param("code")
        .unwrap_or_else(|| panic!("{}", done.location()));
    let answer = stack.exchange(client, &code).await;
    stack.next_code();
    answer
}

/// A token that brings a new credential.
pub async fn token(stack: &Stack, client: &str, login: &str, key: &str) -> String {
    let answer = redeemed(stack, client, login, key, json!({})).await;
    answer.text("access_token")
}

async fn create(stack: &Stack, token: &str, body: &Value) -> Answer {
    let method = "credentials/create";
    stack.csc(method, token, &body.to_string()).await
}

// shows: T-USE-SAP-BYPASS, T-REG-IMPERSONATE
#[tokio::test]
async fn a_new_credential_is_its_persons_own_act_and_brought_once() {
    for stack in offering().await {
        let person = stack.users["hanako"].person.clone();
        // A client says nothing about whose key it will be.
        let asked = json!({ "certificatePolicy": POLICY, "subjectData": { "given_name": "太郎" } });
        let answer = redeemed(&stack, "app", "hanako", "key-new", asked).await;
        let told = answer.json();
        assert_eq!(told["credentialID"], "key-new", "{}", answer.body);
        assert_eq!(told["authorization_details"][0]["credentialID"], "key-new");
        let (invite, _) = invited(&stack);
        assert_eq!((&invite.person, invite.ceiling), (&person, Level::One));
        assert_eq!(invite.subject.common_name, "髙橋 花子");
        assert_eq!(invite.keys, [KeyAlg::P256]);
        let token = told["access_token"].as_str().unwrap();
        // The token reads about this key alone, and signs nothing.
        let sign = json!({ "credentialID": "key-new", "hashes": ["AA=="], "signAlgo": "1.2" });
        let info = json!({ "credentialID": "key-hanako" });
        let own = json!({ "credentialID": "key-new" });
        let calls = [
            ("credentials/list", json!({}), 403),
            ("credentials/info", info, 400),
            ("credentials/delete", own, 403),
            ("signatures/signHash", sign, 400),
        ];
        stack.answers(token, &calls).await;
        let of =
            |policy: &str| json!({ "credentialCreationRequest": { "certificatePolicy": policy } });
        let other = "Invalid parameter certificatePolicy".to_owned();
        assert_eq!(
            create(&stack, token, &of(UNUSED)).await.error(),
            (400, other)
        );
        let mut body = of(POLICY);
        body["credentialInfo"] = json!(true);
        body["certificates"] = json!("chain");
        body["certInfo"] = json!(true);
        let made = create(&stack, token, &body).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
        let told = made.json();
        assert_eq!(
            (&told["credentialID"], &told["key"]["status"]),
            (&json!("key-new"), &json!("enabled"))
        );
        assert!(told["cert"]["certificates"][0].is_string());
        assert_eq!(
            create(&stack, token, &body).await.status,
            StatusCode::UNAUTHORIZED
        );
        // Shortly: the identifier alone.
        let token = self::token(&stack, "app", "hanako", "key-more").await;
        let short = create(&stack, &token, &json!({ "credentialCreationRequest": {} })).await;
        assert_eq!(
            (short.status, short.json()),
            (StatusCode::CREATED, json!({ "credentialID": "key-more" }))
        );
    }
}

// shows: T-USE-SAP-BYPASS, T-REG-IMPERSONATE
#[tokio::test]
async fn nobody_gets_a_key_who_did_not_make_it() {
    for stack in offering().await {
        let form = |asked| request("app", DETAILS, asked);
        // Kinds that the operator doesn't offer, before anybody is asked.
        for asked in [
            json!({ "certificatePolicy": "1.2.3" }),
            json!({ "certificatePolicy": 7 }),
        ] {
            let answer = Browser::new(&stack).authorize(&form(asked)).await;
            let error = answer.param("error");
            assert_eq!(error.as_deref(), Some("invalid_authorization_details"));
        }
        // Asked and declined: nothing lies at the SAM.
        let denied = |answer: &Answer| {
            assert_eq!(answer.param("error").as_deref(), Some("access_denied"));
            stack.next_code();
        };
        let mut browser = Browser::new(&stack);
        let page = browser.authorize(&form(json!({}))).await;
        let page = browser.log_in_here(&page, "hanako").await;
        denied(&answer(&mut browser, &page, "no").await);
        assert!(stack.sam.with(|s| s.vouchers.is_empty()));
        // Who has no certificate has no name here yet; a stopped key's name is nobody's word for today.
        let taro = stack.users["taro"].person.clone();
        for change in [KeyState::Suspended, KeyState::Destroyed, KeyState::Pending] {
            stack
                .sam
                .with(|s| s.keys.get_mut(&taro).unwrap()[0].state = change);
            let mut browser = Browser::new(&stack);
            denied(&at_sic(&mut browser, &form(json!({})), "taro").await);
        }
        // Who has many has enough.
        stack
            .sam
            .with(|s| s.keys.get_mut(&taro).unwrap()[0].state = KeyState::Active);
        for n in 2..=8 {
            stack.sam.add_key(&taro, &format!("key-{n}"), KeyAlg::P256);
        }
        denied(&at_sic(&mut Browser::new(&stack), &form(json!({})), "taro").await);
        assert!(stack.sam.with(|s| s.vouchers.is_empty()));
        // Back without having made one: asked again, and no code. Another browser has no part in it.
        let mut browser = Browser::new(&stack);
        at_sic(&mut browser, &form(json!({})), "hanako").await;
        stack.next_code();
        let (invite, back) = invited(&stack);
        let undecided = browser.get(&back).await;
        assert_eq!(undecided.status, StatusCode::OK);
        assert!(
            undecided.body.contains("No key was made"),
            "{}",
            undecided.body
        );
        let path = back.replace("resume", "continue");
        let again = browser.get(&path).await;
        assert!(again.location().contains(invite.voucher.as_str()));
        let stranger = Browser::new(&stack).get(&back).await;
        assert!(stranger.status.is_client_error(), "{}", stranger.status);
        // The RA or its CA says no.
        enrol(&stack, "key-refused");
        *stack.ra.0.lock().unwrap() = Some(CertifyError::Unreachable);
        let later = browser.get(&back).await;
        assert!(later.status.is_server_error(), "{}", later.status);
        *stack.ra.0.lock().unwrap() = Some(CertifyError::Refused(403));
        denied(&browser.get(&back).await);
        *stack.ra.0.lock().unwrap() = None;
        // The invitation is over.
        let mut browser = Browser::new(&stack);
        at_sic(&mut browser, &form(json!({})), "hanako").await;
        let (invite, back) = invited(&stack);
        stack.sam.with(|s| {
            s.enrolment
                .insert(invite.voucher.to_string(), EnrolmentAnswer::Dead {})
        });
        denied(&browser.get(&back).await);
        // The CA doesn't issue under the policy that the operator named: no code for that.
        let mut browser = Browser::new(&stack);
        at_sic(
            &mut browser,
            &form(json!({ "certificatePolicy": UNUSED })),
            "hanako",
        )
        .await;
        stack.next_code();
        let back = enrol(&stack, "key-other");
        let answer = browser.get(&back).await;
        assert_eq!(answer.param("error").as_deref(), Some("server_error"));
    }
}

// shows: T-REG-IMPERSONATE
#[tokio::test]
async fn a_login_from_before_makes_no_key() {
    for stack in offering().await {
        let mut browser = Browser::new(&stack);
        browser.log_in("hanako").await;
        stack.clock.advance(60);
        // Whoever finds the browser is asked to log in, and its older login's form doesn't count.
        let page = browser.authorize(&request("app", DETAILS, json!({}))).await;
        assert!(page.body.contains("name=\"password\""), "{}", page.body);
        let (token, flow) = (page.field("token"), page.field("flow"));
        let form = [
            ("token", token.as_str()),
            ("flow", &flow),
            ("answer", "yes"),
        ];
        let agreed = browser.post("/oauth2/agree", &form).await;
        let again = browser.follow(agreed).await;
        assert!(again.body.contains("name=\"password\""), "{}", again.body);
        assert!(stack.sam.with(|s| s.vouchers.is_empty()));
        let page = browser.log_in_here(&page, "hanako").await;
        let there = answer(&mut browser, &page, "yes").await;
        assert!(there.location().starts_with(&format!("{SIC}/e#")));
    }
}

#[tokio::test]
async fn a_code_for_a_creation_is_for_nothing_else() {
    for stack in offering().await {
        let mut browser = Browser::new(&stack);
        let form = request("app", "credential-creation", json!({}));
        at_sic(&mut browser, &form, "hanako").await;
        let back = enrol(&stack, "key-new");
        let code = browser.get(&back).await.param("code").unwrap();
        let deletes = json!([{ "type": "credential_deletion", "credentialID": "key-new" }]);
        let other = json!([{ "type": "credential_creation",
            "credentialCreationRequest": { "certificatePolicy": POLICY } }]);
        for details in [deletes, other] {
            let form = [
                ("grant_type", "authorization_code"),
                ("code", code.as_str()),
                ("redirect_uri", REDIRECT),
                ("code_verifier", VERIFIER),
                ("authorization_details", &details.to_string()),
            ];
            let answer = stack.client_form("app", "/oauth2/token", &form).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.body);
        }
    }
}

#[tokio::test]
async fn without_a_kind_there_is_no_such_method() {
    for stack in crate::web::stacks().await {
        let token = stack.service_token("app", "hanako").await;
        let body = json!({ "credentialCreationRequest": {} });
        let answer = create(&stack, &token, &body).await;
        assert_eq!(answer.status, StatusCode::NOT_IMPLEMENTED);
        let form = request("app", DETAILS, json!({}));
        let answer = Browser::new(&stack).authorize(&form).await;
        let error = answer.param("error");
        assert_eq!(error.as_deref(), Some("invalid_authorization_details"));
        let info = stack.csc("info", &token, "{}").await.json();
        assert!(!info["methods"].to_string().contains("credentials/create"));
    }
}

// What a contract doesn't let a client finish isn't begun: no key is made, and none destroyed, for a call that is refused in the end.
#[tokio::test]
async fn a_contract_without_the_call_asks_nobody() {
    for stack in offering().await {
        let deletion = json!([{ "type": "credential_deletion", "credentialID": "key-hanako" }]);
        let mut deletion_form = request("app", "credential_creation", json!({}));
        deletion_form.retain(|(name, _)| *name != "authorization_details");
        deletion_form.push(("authorization_details", deletion.to_string()));
        let wishes = [
            (
                "credentials/create",
                request("app", "credential_creation", json!({})),
            ),
            ("credentials/delete", deletion_form),
            (
                "signatures/signHash",
                credential_request("app", "key-hanako", &[hash(1)]),
            ),
        ];
        for allowed in [
            "credentials/create",
            "credentials/delete",
            "signatures/signHash",
        ] {
            let contract = ClientSettings {
                methods: vec![allowed.to_owned()],
                ..ClientSettings::default()
            };
            stack.contract("app", &contract).await;
            for (method, form) in &wishes {
                let answer = Browser::new(&stack).authorize(form).await;
                let error = answer
                    .status
                    .is_redirection()
                    .then(|| answer.param("error"))
                    .flatten();
                let refused = (*method != allowed).then_some("unauthorized_client");
                assert_eq!(error.as_deref(), refused, "{method} with {allowed}");
            }
        }
    }
}
