//! The portal's pages for bringing a key and for having one handed over.

use axum::http::StatusCode;
use core_types::bytes::b64u;
use core_types::{B64, KeyAlg, KeyId, Level, OriginCase, sha256};
use jose::SealKey;
use rcgen::PublicKeyData as _;
use sam_api::ssa::Wish;

use crate::fake::key_info;
use crate::web::{BASE, Browser, SIC, stacks};

// shows: I-4.2.2a-keygen-signer-triggered
#[tokio::test]
async fn the_public_half_of_a_key_is_put_before_the_sam_and_never_the_private_one() {
    for stack in &stacks().await {
        let mut browser = Browser::new(stack);
        let path = "/signing/import/v-1";
        assert_eq!(browser.get(path).await.status, StatusCode::SEE_OTHER);
        browser.log_in("hanako").await;
        let page = browser.get(path).await;
        assert!(!page.body.contains("portal-"), "{}", page.body);
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains(SIC), "the form may lead there: {policy}");
        let token = page.field("token");
        let key = rcgen::KeyPair::generate().unwrap();
        let (spki, public) = (key.subject_public_key_info(), key.public_key_pem());
        let form = |key: &str, case: &str, token: &str| {
            let (key, case, token) = (key.to_owned(), case.to_owned(), token.to_owned());
            [
                ("token", token),
                ("of", "v-1".to_owned()),
                ("key", key),
                ("case", case),
            ]
        };
        let mut send = async |form: [(&'static str, String); 4]| {
            let form: Vec<_> = form.iter().map(|(n, v)| (*n, v.as_str())).collect();
            browser.post("/signing/import", &form).await
        };
        for (text, case) in [
            (key.serialize_pem(), "3-i"),
            ("nothing".to_owned(), "3-i"),
            (public.clone(), "1-i"),
        ] {
            let answer = send(form(&text, case, &token)).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{case}");
        }
        let forged = send(form(&public, "3-i", "x")).await;
        assert_eq!(forged.status, StatusCode::FORBIDDEN);
        assert!(stack.sam.with(|s| s.wishes.is_empty()));
        for (text, case) in [(public, "3-i"), (b64u(&spki), "2-i-2")] {
            let answer = send(form(&text, case, &token)).await;
            assert_eq!(answer.status, StatusCode::FOUND, "{case}");
            assert!(answer.location().starts_with(&format!("{SIC}/a#")));
        }
        let wishes = stack.sam.with(|s| s.wishes.clone());
        let wish = |case, level| Wish::Import {
            registration: core_types::VoucherId::parse("v-1").unwrap(),
            spki: B64(spki.clone()),
            case,
            level,
        };
        assert_eq!(wishes[0].wish, wish(OriginCase::Signer, Level::One));
        assert_eq!(wishes[1].wish, wish(OriginCase::CaDirect, Level::Two));
        // From there to the certificate.
        assert_eq!(wishes[0].return_uri, format!("{BASE}/enrolled/v-1"));
    }
}

// shows: III-3-9-attributed-keys
#[tokio::test]
async fn a_key_that_may_leave_is_asked_for_with_its_receiver_and_fetched_by_its_owner() {
    for stack in &stacks().await {
        let leaves = KeyId::parse("leaves-1").unwrap();
        stack.sam.with(|s| {
            for keys in s.keys.values_mut() {
                keys.push(key_info(&leaves, KeyAlg::P256, "髙橋 花子"));
            }
        });
        let mut browser = Browser::new(stack);
        browser.log_in("hanako").await;
        let page = browser.get("/signing").await;
        let path = "/signing/hand-over/leaves-1";
        assert_eq!(page.body.matches("/signing/hand-over/").count(), 1);
        assert!(page.body.contains(path), "{}", page.body);
        let page = browser.get(path).await;
        assert!(!page.body.contains("portal-"), "{}", page.body);
        let token = page.field("token");
        let (receiver, _) = SealKey::generate().unwrap();
        let good = serde_json::to_string(receiver.public()).unwrap();
        for (text, status) in [
            ("{}", StatusCode::BAD_REQUEST),
            (good.as_str(), StatusCode::FOUND),
        ] {
            let form = [
                ("token", token.as_str()),
                ("of", "leaves-1"),
                ("receiver", text),
            ];
            let answer = browser.post("/signing/hand-over", &form).await;
            assert_eq!(answer.status, status, "{text}");
        }
        let wish = stack.sam.with(|s| s.wishes[0].clone());
        let expected = Wish::HandOver {
            key: leaves,
            receiver: receiver.public().clone(),
        };
        assert_eq!(wish.wish, expected);

        let act = sha256(&[b"act"]);
        let path = format!("/signing/handed-over/{act}");
        let anonymous = Browser::new(stack).get(&path).await;
        assert_eq!(anonymous.status, StatusCode::SEE_OTHER);
        let file = browser.get(&path).await;
        assert_eq!(file.status, StatusCode::OK);
        assert!(file.body.contains("natsuin-handed-over/1") && file.body.contains("sealed"));
        let other = format!("/signing/handed-over/{}", sha256(&[b"x"]));
        assert_eq!(browser.get(&other).await.status, StatusCode::NOT_FOUND);
    }
}
