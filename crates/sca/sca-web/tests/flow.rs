//! The whole way of a document, against a small provider.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test helpers may fail loudly"
)]

mod kit;

use std::path::PathBuf;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};

use axum::http::StatusCode;
use core_types::bytes::hex;
use core_types::sha256;
use kit::{World, pdf};
use pdf_update::Builder;
use serde_json::Value;

// shows: I-A3-minimum-display, I-A3-further-display, I-A3-result-mandatory, I-A3-signer-id, I-A3-object, I-A3-signer-name,
// I-5.2.2-sca-stores
#[tokio::test]
async fn a_pdf_is_signed_through_the_pages() {
    let world = World::new().await;
    let browser = world.browser();
    let page = browser.upload("契約書.pdf", pdf()).await;
    let text = page.text();
    assert!(
        text.contains("この文書に署名しますか") && text.contains("契約書.pdf"),
        "{text}"
    );
    let path = page.url.strip_prefix(&world.base).unwrap().to_owned();
    let result = browser
        .submit(&format!("{path}/sign"), &[("csrf", &page.csrf())])
        .await;
    assert_eq!(result.url, page.url, "the result is where the document was");
    let text = result.text();
    // The order of Table A-1 as the application shows it.
    let items = [
        "署名できました",
        "署名者名",
        "捺印 花子",
        "署名者ID",
        "demo-signer",
        "署名対象",
        "契約書.pdf",
        "署名文書",
        "契約書-signed.pdf",
        "署名時刻",
        "タイムスタンプ局の時刻",
        "検証結果",
        "確認できました",
        "改ざんなし",
    ];
    let mut at = 0;
    for item in items {
        at += text[at..]
            .find(item)
            .unwrap_or_else(|| panic!("{item} is missing after {at}: {text}"));
    }
    let english = browser.visit(&format!("{path}?lang=en")).await.text();
    assert!(
        english.contains("Signed") && english.contains("unchanged"),
        "{english}"
    );
}

// shows: I-A3-signed-document, I-A3-signing-time, I-A3-signing-time-tsa, I-A3-verification-result
#[tokio::test]
async fn the_api_goes_the_same_way_and_hands_over_the_file() {
    let world = World::new().await;
    let browser = world.browser();
    let (id, state) = browser.run().await;
    assert_eq!(state["state"], "signed", "{state}");
    let result = &state["result"];
    assert_eq!(result["result"], "signed");
    assert_eq!(result["signer_id"], "demo-signer");
    assert_eq!(result["signed_object"], "契約書.pdf");
    assert_eq!(result["time_source"], "timestamp");
    let check = &result["verification_result"];
    assert_eq!(
        (&check["verdict"], &check["unchanged"]),
        (&"passed".into(), &true.into()),
        "{check}"
    );
    assert_eq!(
        (&check["revocation"], &check["time"]),
        (&"good".into(), &"good".into())
    );
    let file = browser.visit(state["signed"].as_str().unwrap()).await;
    assert_eq!(file.headers["content-type"], "application/pdf");
    assert!(
        file.headers["content-disposition"]
            .to_str()
            .unwrap()
            .starts_with("attachment; filename*=UTF-8''%E5")
    );
    assert!(
        file.body.starts_with(&pdf()),
        "the original's bytes are untouched"
    );
    assert_eq!(result["sha256"], hex(sha256(&[&file.body])));
    assert_eq!(browser.show(&id).await["problem"], serde_json::Value::Null);
}

// shows: T-USE-CAPTURE
#[tokio::test]
async fn its_tokens_may_belong_to_a_key_of_its_own() {
    for bound in [false, true] {
        let world = World::with(|config| config.bound_tokens = bound).await;
        let (_, state) = world.browser().run().await;
        assert_eq!(state["state"], "signed", "{state}");
        // The list, and the signature.
        let shown = world.switches.bound.load(SeqCst);
        assert_eq!(shown, if bound { 2 } else { 0 });
    }
}

// shows: I-A3-confirm-right-document-signed
#[tokio::test]
async fn what_will_be_signed_can_be_had_before_the_approval_and_only_then() {
    let world = World::new().await;
    world.switches.documents.store(true, SeqCst);
    let (browser, stranger) = (world.browser(), world.browser());
    let page = browser.upload("契約書.pdf", pdf()).await;
    let path = page.url.strip_prefix(&world.base).unwrap().to_owned();
    let id = path.strip_prefix("/documents/").unwrap().to_owned();
    let file = format!("{path}/prepared.pdf");
    assert_eq!(browser.show(&id).await["prepared"], Value::Null);
    assert_eq!(
        browser.visit(&file).await.status,
        StatusCode::NOT_FOUND,
        "nothing is prepared yet"
    );
    let page = browser
        .submit(&format!("{path}/sign"), &[("csrf", &page.csrf())])
        .await;
    assert_eq!(page.url, format!("{}{path}", world.base));
    let text = page.text();
    for link in [&file, &format!("{path}/go")] {
        assert!(text.contains(&format!("href=\"{link}\"")), "{text}");
    }
    let english = browser.visit(&format!("{path}?lang=en")).await.text();
    assert!(english.contains("Save the file to compare"), "{english}");

    let shown = browser.show(&id).await;
    assert_eq!(
        (&shown["state"], &shown["purpose"], &shown["prepared"]),
        (
            &"authorize".into(),
            &"approve".into(),
            &file.as_str().into()
        )
    );
    let got = browser.visit(&file).await;
    assert_eq!(got.headers["content-type"], "application/pdf");
    assert_eq!(got.headers["cache-control"], "private, no-store");
    let name = got.headers["content-disposition"].to_str().unwrap();
    assert!(
        name.starts_with("attachment; ") && name.ends_with("-to-sign.pdf"),
        "{name}"
    );
    assert!(got.body.starts_with(&pdf()) && got.body.len() > pdf().len());
    stranger.visit("/").await;
    assert_eq!(
        stranger.visit(&file).await.status,
        StatusCode::NOT_FOUND,
        "it is its owner's"
    );

    let result = browser.visit(&format!("{path}/go")).await;
    assert!(
        result.text().contains("署名できました"),
        "{}",
        result.text()
    );
    // It was the file that the approval named.
    let asked = world.switches.asked.lock().unwrap().clone().unwrap();
    let range = asked.byte_range.unwrap();
    let [start, length, second, rest] = range.map(|n| usize::try_from(n).unwrap());
    assert_eq!((start, second + rest), (0, got.body.len()));
    let parts = [&got.body[..length], &got.body[second..]];
    assert_eq!(asked.hash, sha256(&parts).0);
    assert_eq!(
        browser.visit(&file).await.status,
        StatusCode::NOT_FOUND,
        "it is signed"
    );
}

#[tokio::test]
async fn with_several_keys_the_signer_chooses() {
    let world = World::new().await;
    world.switches.keys.store(2, SeqCst);
    let browser = world.browser();
    let (id, state) = browser.run().await;
    assert_eq!(state["state"], "choose");
    let page = browser.visit(&format!("/documents/{id}")).await;
    assert!(
        page.text().contains("鍵1 &#60;b&#62;"),
        "names are escaped: {}",
        page.text()
    );
    let unknown = browser
        .send(browser.post_request(&format!("/api/documents/{id}/choose?key=k9")))
        .await;
    assert_eq!(unknown.status, StatusCode::CONFLICT);
    let form = [("csrf", page.csrf()), ("key", "k1".to_owned())];
    let form: Vec<(&str, &str)> = form.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let result = browser
        .submit(&format!("/documents/{id}/choose"), &form)
        .await;
    assert!(result.text().contains("捺印 太郎"), "{}", result.text());
}

// shows: I-A3-result-mandatory
#[tokio::test]
async fn a_refusal_signs_nothing_and_can_be_tried_again() {
    let world = World::new().await;
    world.switches.refuse.store(true, SeqCst);
    let browser = world.browser();
    let (id, state) = browser.run().await;
    assert_eq!(
        (&state["state"], &state["problem"]["code"]),
        (&"ready".into(), &"cancelled".into())
    );
    assert_eq!(world.switches.signed.load(SeqCst), 0);
    assert_eq!(world.files(), 1, "only the original is left");
    world.switches.refuse.store(false, SeqCst);
    let page = browser.visit(&format!("/documents/{id}")).await;
    assert!(page.text().contains("承認は行われていません"));
    browser
        .submit(&format!("/documents/{id}/sign"), &[("csrf", &page.csrf())])
        .await;
    assert_eq!(browser.show(&id).await["state"], "signed");
}

// shows: I-A3-confirm-right-document-signed
#[tokio::test]
async fn a_value_that_is_not_the_signature_is_not_embedded() {
    let world = World::new().await;
    world.switches.wrong_value.store(true, SeqCst);
    let browser = world.browser();
    let (id, state) = browser.run().await;
    assert_eq!(
        (&state["state"], &state["problem"]["code"]),
        (&"ready".into(), &"sca-wrong-signature".into())
    );
    assert_eq!(world.files(), 1);
    assert_eq!(
        browser
            .visit(&format!("/documents/{id}/signed.pdf"))
            .await
            .status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_without_a_second_signature() {
    let world = World::new().await;
    world.switches.lose_answer.store(true, SeqCst);
    let browser = world.browser();
    let (id, state) = browser.run().await;
    assert_eq!(
        (&state["state"], &state["problem"]["code"]),
        (&"resume".into(), &"unknown-outcome".into())
    );
    world.switches.lose_answer.store(false, SeqCst);
    let again = browser
        .send(browser.post_request(&format!("/api/documents/{id}/sign")))
        .await;
    assert_eq!(
        again.status,
        StatusCode::CONFLICT,
        "no second approval while the first is open"
    );
    let page = browser.visit(&format!("/documents/{id}")).await;
    browser
        .submit(
            &format!("/documents/{id}/resume"),
            &[("csrf", &page.csrf())],
        )
        .await;
    assert_eq!(browser.show(&id).await["state"], "signed");
    assert_eq!(
        (
            world.switches.signed.load(SeqCst),
            world.switches.approvals.load(SeqCst)
        ),
        (1, 1)
    );
}

#[tokio::test]
async fn an_outcome_that_the_service_has_lost_is_not_asked_for_again() {
    let world = World::new().await;
    world.switches.lost.store(true, SeqCst);
    let browser = world.browser();
    let (_, state) = browser.run().await;
    assert_eq!(
        (&state["state"], &state["problem"]["code"]),
        (&"ready".into(), &"sca-lost".into())
    );
}

#[tokio::test]
async fn a_signed_file_whose_check_failed_is_checked_again_and_signed_only_once() {
    let world = World::new().await;
    // The file is cut off in the middle of its check.
    let kept = Arc::new(Mutex::new(None::<(PathBuf, Vec<u8>)>));
    let (documents, keep) = (world.dir.path().join("sca/documents"), kept.clone());
    let cut = move || {
        let mut kept = keep.lock().unwrap();
        let Some(own) = std::fs::read_dir(&documents).unwrap().next() else {
            return;
        };
        let file = own.unwrap().path().join("signed.pdf");
        if kept.is_none() && file.exists() {
            *kept = Some((file.clone(), std::fs::read(&file).unwrap()));
            std::fs::write(&file, b"%PDF-1.7").unwrap();
        }
    };
    *world.switches.on_revocation.lock().unwrap() = Some(Box::new(cut));
    let browser = world.browser();
    let (id, state) = browser.run().await;
    assert_eq!(
        (&state["state"], &state["problem"]["code"]),
        (&"resume".into(), &"sca-not-checked".into())
    );
    let (file, bytes) = kept.lock().unwrap().clone().unwrap();
    std::fs::write(file, bytes).unwrap();
    let done = browser
        .send(browser.post_request(&format!("/api/documents/{id}/resume")))
        .await
        .json();
    assert_eq!(done["state"], "signed", "{done}");
    assert_eq!(
        (
            world.switches.signed.load(SeqCst),
            world.switches.approvals.load(SeqCst)
        ),
        (1, 1)
    );
}

#[tokio::test]
async fn a_silent_time_stamp_authority_costs_no_new_approval() {
    let world = World::new().await;
    world.switches.tsa_down.store(true, SeqCst);
    let browser = world.browser();
    let (id, state) = browser.run().await;
    assert_eq!(
        (&state["state"], &state["problem"]["code"]),
        (&"resume".into(), &"sca-tsa".into())
    );
    world.switches.tsa_down.store(false, SeqCst);
    let done = browser
        .send(browser.post_request(&format!("/api/documents/{id}/resume")))
        .await
        .json();
    assert_eq!(
        (&done["state"], &done["result"]["time_source"]),
        (&"signed".into(), &"timestamp".into())
    );
    assert_eq!(
        (
            world.switches.signed.load(SeqCst),
            world.switches.approvals.load(SeqCst)
        ),
        (1, 1)
    );
}

#[tokio::test]
async fn files_that_can_not_be_signed_are_refused_by_name() {
    let world = World::new().await;
    let browser = world.browser();
    let mut encrypted = pdf();
    let root = encrypted.windows(5).rposition(|w| w == b"/Root").unwrap();
    encrypted.splice(root..root, *b"/Encrypt 1 0 R ");
    let mut truncated = pdf();
    truncated.truncate(truncated.len() / 2);
    let mut fields = Builder::new("1.7");
    let root =
        fields.add_object("<</Type /Catalog /Pages 2 0 R /AcroForm <</Fields [4 0 R 5 0 R]>>>>");
    fields.add_object("<</Type /Pages /Kids [3 0 R] /Count 1>>");
    fields.add_object("<</Type /Page /Parent 2 0 R /MediaBox [0 0 9 9]>>");
    fields.add_object("<</FT /Sig /T (Seller)>>");
    fields.add_object("<</FT /Sig /T (Buyer)>>");
    let fields = fields.finish(root, None, [1; 16]).unwrap();
    let cases = [
        (
            b"hello".to_vec(),
            "pdf-not-a-pdf",
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        (encrypted, "pdf-encrypted", StatusCode::UNPROCESSABLE_ENTITY),
        (truncated, "pdf-broken", StatusCode::UNPROCESSABLE_ENTITY),
        (fields, "pdf-field-choice", StatusCode::UNPROCESSABLE_ENTITY),
        (Vec::new(), "sca-no-file", StatusCode::BAD_REQUEST),
        (
            vec![0; 1_000_001],
            "sca-too-large",
            StatusCode::PAYLOAD_TOO_LARGE,
        ),
    ];
    for (bytes, code, status) in cases {
        let answer = browser.create("x.pdf", bytes.clone()).await;
        assert_eq!(
            (answer.status, answer.json()["code"].as_str()),
            (status, Some(code))
        );
        let words = answer.json()["what"].as_str().unwrap().to_owned();
        let page = browser.upload("x.pdf", bytes).await;
        assert_eq!(page.status, status, "{code}");
        assert!(
            page.text().contains(&words) && page.text().contains("エラー"),
            "{code}: {}",
            page.text()
        );
    }
    assert_eq!(world.files(), 0, "nothing of them is kept");
}

#[tokio::test]
async fn other_origins_and_other_browsers_get_nowhere() {
    let world = World::new().await;
    let (browser, stranger) = (world.browser(), world.browser());
    let (id, _) = browser.run().await;
    stranger.visit("/").await;
    for path in ["", "/go", "/original.pdf", "/signed.pdf"] {
        let page = stranger.visit(&format!("/documents/{id}{path}")).await;
        assert_eq!(page.status, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(
        stranger.visit(&format!("/api/documents/{id}")).await.status,
        StatusCode::NOT_FOUND
    );

    let csrf = browser.visit("/").await.csrf();
    let fresh = browser.create("b.pdf", pdf()).await.json()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/documents/{fresh}/sign");
    let no_token = browser.post_request(&path).form(&[("csrf", "guess")]);
    assert_eq!(browser.send(no_token).await.status, StatusCode::FORBIDDEN);
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("sec-fetch-site", "cross-site"),
    ] {
        let forged = browser
            .post_request(&path)
            .form(&[("csrf", &csrf)])
            .header(name, value);
        assert_eq!(
            browser.send(forged).await.status,
            StatusCode::FORBIDDEN,
            "{name}"
        );
        let forged = browser
            .post_request(&format!("/api{path}"))
            .header(name, value);
        assert_eq!(
            browser.send(forged).await.status,
            StatusCode::FORBIDDEN,
            "{name}"
        );
    }
    let rebound = browser.get_request("/").header("host", "evil.example");
    assert_eq!(browser.send(rebound).await.status, StatusCode::NOT_FOUND);
    assert_eq!(browser.show(&fresh).await["state"], "ready");
    let file = reqwest::multipart::Part::bytes(pdf()).file_name("c.pdf");
    let late = reqwest::multipart::Form::new()
        .part("file", file)
        .text("csrf", csrf);
    let page = browser
        .send(browser.post_request("/documents").multipart(late))
        .await;
    assert_eq!(
        page.status,
        StatusCode::FORBIDDEN,
        "no file is read before its token"
    );
}

#[tokio::test]
async fn reload_back_and_forgery_of_the_return_are_safe() {
    let world = World::new().await;
    let browser = world.browser();
    let id = browser.create("a.pdf", pdf()).await.json()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let answer = browser
        .send(browser.post_request(&format!("/api/documents/{id}/sign")))
        .await
        .json();
    assert_eq!(
        (&answer["state"], &answer["purpose"]),
        (&"authorize".into(), &"login".into())
    );
    let planted = browser.cookie.lock().unwrap().clone();
    // Up to the way back, by hand.
    let away = browser
        .send(browser.get_request(answer["next"].as_str().unwrap()))
        .await;
    let back = away.headers["location"].to_str().unwrap().to_owned();
    let forged = back.replace("state=", "state=x");
    assert_eq!(browser.visit(&forged).await.status, StatusCode::NOT_FOUND);
    let stranger = world.browser();
    stranger.visit("/").await;
    assert_eq!(
        stranger.visit(&back).await.status,
        StatusCode::NOT_FOUND,
        "a return belongs to one browser"
    );
    browser.send(browser.get_request(&back)).await;
    assert_ne!(
        *browser.cookie.lock().unwrap(),
        planted,
        "the session gets a new cookie at login"
    );
    assert_eq!(browser.show(&id).await["purpose"], "approve");

    let reload = browser.send(browser.get_request(&back)).await;
    assert!(
        reload.headers["location"]
            .to_str()
            .unwrap()
            .starts_with(&format!("/documents/{id}"))
    );
    assert_eq!(
        world.switches.redeemed.load(SeqCst),
        1,
        "the code is not sent twice"
    );

    let go = format!("/documents/{id}/go");
    assert_eq!(
        browser.send(browser.get_request(&go)).await.status,
        StatusCode::OK
    );
    let second = browser.send(browser.get_request(&go)).await;
    assert_eq!(
        second.headers["location"],
        format!("/documents/{id}"),
        "an address is good once"
    );
    let page = browser.visit(&format!("/documents/{id}")).await;
    assert!(page.text().contains("もう一度用意する"));
    browser
        .submit(&format!("/documents/{id}/sign"), &[("csrf", &page.csrf())])
        .await;
    assert_eq!(
        browser.show(&id).await["state"],
        "signed",
        "who is logged in isn't asked again"
    );
    assert_eq!(world.switches.redeemed.load(SeqCst), 2);
}

// shows: I-A3-signer-id-hidden
#[tokio::test]
async fn without_an_authority_the_time_is_our_own_and_said_so() {
    let world = World::with(|c| (c.tsa_url, c.show_signer_id) = (None, false)).await;
    let browser = world.browser();
    let (id, state) = browser.run().await;
    assert_eq!(
        (&state["state"], &state["result"]["time_source"]),
        (&"signed".into(), &"system".into()),
        "{state}"
    );
    assert_eq!(state["result"]["signer_id"], serde_json::Value::Null);
    let page = browser.visit(&format!("/documents/{id}")).await.text();
    assert!(
        page.contains("このサービスの時計の時刻") && page.contains("表示しない"),
        "{page}"
    );
}
