//! The portal's page for stopping keys and changing how to approve.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use core_types::{FactorId, KeyId, Level, PersonId, UnixTime, VoucherId};
use sam_api::ssa::{FactorInfo, KeyState, Wish};
use sap::proof::Method;

use crate::web::{Browser, SIC, Stack, stacks};

fn person_with_key(stack: &Stack) -> (PersonId, KeyId) {
    let person = stack.sam.with(|s| s.keys.keys().next().unwrap().clone());
    let key = stack.sam.with(|s| s.keys[&person][0].key.clone());
    let factor = |id: &str, method, locked| FactorInfo {
        factor: FactorId::parse(id).unwrap(),
        registration: VoucherId::parse("v-1").unwrap(),
        method,
        level: Level::One,
        created: UnixTime(1_800_000_000),
        locked_until: locked,
    };
    stack.sam.with(|s| {
        for person in s.keys.keys().cloned().collect::<Vec<_>>() {
            let list = vec![
                factor("f-1", Method::Passkey, None),
                factor("f-2", Method::PinTotp, Some(UnixTime(i64::MAX))),
            ];
            s.factors.insert(person, list);
        }
    });
    (person, key)
}

// shows: I-4.2.2c-signer-requests-stop, T-TERM-NOT-OWNER
#[tokio::test]
async fn a_login_stops_a_key_and_a_stale_page_does_not() {
    for stack in &stacks().await {
        person_with_key(stack);
        let mut browser = Browser::new(stack);
        assert_eq!(browser.get("/signing").await.status, StatusCode::SEE_OTHER);
        browser.log_in("hanako").await;
        let page = browser.get("/signing").await;
        assert!(!page.body.contains("portal-"), "{}", page.body);
        // The card of a registration says which keys its methods approve for.
        let card = page.body.split("data-keys").nth(1).unwrap();
        let card = card.split("</ul>").next().unwrap();
        assert!(
            card.contains("<code>key-hanako</code>") && !card.contains("key-taro"),
            "{card}"
        );
        let (token, key, changes) = (
            page.field("token"),
            page.field("key"),
            page.field("changes"),
        );
        let form = [
            ("token", token.as_str()),
            ("key", &key),
            ("changes", &changes),
        ];
        // Not from another site's form.
        let mut forged = form;
        forged[0].1 = "x";
        assert_eq!(
            browser.post("/signing/stop", &forged).await.status,
            StatusCode::FORBIDDEN
        );
        // Not from another browser.
        let mut stranger = Browser::new(stack);
        assert_eq!(
            stranger.post("/signing/stop", &form).await.status,
            StatusCode::NOT_FOUND
        );
        let stopped = browser.post("/signing/stop", &form).await;
        assert_eq!(stopped.status, StatusCode::SEE_OTHER);
        let states = stack.sam.with(|s| {
            let all: Vec<_> = s.keys.values().flatten().cloned().collect();
            all.into_iter()
                .filter(|k| k.state == KeyState::Suspended)
                .count()
        });
        assert_eq!(states, 1);
        assert_eq!(
            browser.post("/signing/stop", &form).await.status,
            StatusCode::CONFLICT
        );
        browser.lang = "ja";
        let page = browser.get("/signing").await;
        assert!(
            page.body.contains("このポータルから停止されました"),
            "{}",
            page.body
        );
        assert!(page.body.contains("再開"));
    }
}

// shows: I-4.2.2c-signer-requests-stop
#[tokio::test]
async fn everything_else_goes_to_the_approval_page() {
    for stack in &stacks().await {
        person_with_key(stack);
        let mut browser = Browser::new(stack);
        browser.log_in("hanako").await;
        let page = browser.get("/signing").await;
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains(SIC), "the form may lead there: {policy}");
        let (token, key) = (page.field("token"), page.field("key"));
        for (what, of) in [
            ("destroy", key.as_str()),
            ("factor-add-passkey", "v-1"),
            ("factor-remove", "f-1"),
            ("factor-unlock", "f-2"),
            ("leave", "v-1"),
        ] {
            let form = [("token", token.as_str()), ("do", what), ("of", of)];
            let answer = browser.post("/signing/ask", &form).await;
            assert_eq!(answer.status, StatusCode::FOUND, "{what}");
            assert!(
                answer.location().starts_with(&format!("{SIC}/a#")),
                "{what}"
            );
        }
        let unknown = [("token", token.as_str()), ("do", "sign"), ("of", "x")];
        assert_eq!(
            browser.post("/signing/ask", &unknown).await.status,
            StatusCode::BAD_REQUEST
        );
        let wishes = stack.sam.with(|s| s.wishes.clone());
        assert_eq!(wishes.len(), 5);
        assert!(wishes.iter().all(|w| w.person == wishes[0].person));
        assert!(matches!(&wishes[0].wish, Wish::Destroy { key: k } if k.as_str() == key));
    }
}

#[tokio::test]
async fn a_notice_speaks_for_itself_and_nonsense_is_refused() {
    let stack = &stacks().await[0];
    let send = |body: &'static str| async move {
        let request = Request::post("/notice").body(Body::from(body)).unwrap();
        stack.send(request).await.status
    };
    assert_eq!(send("good").await, StatusCode::NO_CONTENT);
    assert_eq!(send("forged").await, StatusCode::FORBIDDEN);
    assert_eq!(send("").await, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_receipt_is_for_the_person_alone() {
    for stack in &stacks().await {
        let mut browser = Browser::new(stack);
        let act = core_types::sha256(&[b"act"]);
        let path = format!("/signing/receipt/{act}");
        assert_eq!(browser.get(&path).await.status, StatusCode::SEE_OTHER);
        browser.log_in("hanako").await;
        let page = browser.get("/signing").await;
        assert!(page.body.contains(&path), "{}", page.body);
        let receipt = browser.get(&path).await;
        assert_eq!(
            (receipt.status, receipt.body.as_str()),
            (StatusCode::OK, "{}")
        );
        let other = format!("/signing/receipt/{}", core_types::sha256(&[b"x"]));
        assert_eq!(browser.get(&other).await.status, StatusCode::NOT_FOUND);
    }
}
