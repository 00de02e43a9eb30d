//! The portal: from an invitation to keys, in both languages.

use axum::http::StatusCode;
use core_types::{B64, KeyAlg, Level, UnixTime, sha256};
use sam_api::ssa::{ClockInfo, EnrolledKey, EnrolmentAnswer, KeyState, VoucherRequest};
use sap::enrol::Subject;
use ssa_service::{Branding, CertifyError, Enrolled, Invited, Logo, NewInvitation};

use crate::fake::key_info;
use crate::web::{Answer, BASE, Browser, SIC, START, Stack, stacks, stacks_with, totp};

async fn invite(stack: &Stack, name: &str) -> Invited {
    let subject = Subject {
        common_name: name.to_owned(),
        country: "JP".to_owned(),
        organization: None,
        serial_number: "7".to_owned(),
    };
    let new = NewInvitation {
        person: None,
        subject,
        keys: vec![KeyAlg::P256],
        life: 3600,
    };
    stack.ssa.invite(new).await.unwrap()
}

/// The person has been on the SIC page: the SAM has keys for them.
fn enrolled_at_sam(stack: &Stack, invited: &Invited) {
    let key = core_types::KeyId::parse("key-new").unwrap();
    let mut info = key_info(&key, KeyAlg::P256, "山田 太郎");
    (info.state, info.chain) = (KeyState::Pending, Vec::new());
    info.registration = invited.voucher.clone();
    let enrolled = EnrolledKey {
        key,
        certified: false,
        enrolment: "e".to_owned(),
        csr: B64(vec![1]),
    };
    stack.sam.with(|s| {
        s.keys.insert(invited.person.clone(), vec![info]);
        let answer = EnrolmentAnswer::Enrolled {
            person: invited.person.clone(),
            statement: "s".to_owned(),
            keys: vec![enrolled],
        };
        s.enrolment.insert(invited.voucher.to_string(), answer);
    });
}

fn seed_of(page: &Answer) -> String {
    let seed = page
        .body
        .split("id=\"seed\">")
        .nth(1)
        .unwrap()
        .split('<')
        .next()
        .unwrap();
    seed.chars().filter(|c| !c.is_whitespace()).collect()
}

async fn choose(
    browser: &mut Browser<'_>,
    code: &str,
    name: &str,
    password: &str,
    again: &str,
) -> Answer {
    let page = browser.get(&format!("{code}/account")).await;
    let token = page.field("token");
    let form = [
        ("token", token.as_str()),
        ("name", name),
        ("password", password),
        ("again", again),
        ("terms", "development"),
    ];
    browser.post(&format!("{code}/account"), &form).await
}

// shows: T-REG-IMPERSONATE, I-4.2.2a-keygen-by-rssp,
// I-4.2.2a-rsc-issued,
// I-4.2.2a-registration-steps, I-5.2.2-registration-prerequisites
#[tokio::test]
async fn from_an_invitation_to_a_certified_key() {
    for stack in stacks().await {
        let invited = invite(&stack, "山田 <太郎>").await;
        let VoucherRequest::Ssa { invite, return_uri } = stack.sam.with(|s| s.vouchers[0].clone())
        else {
            panic!("an invitation of the SSA's own");
        };
        assert_eq!(
            (invite.ceiling, invite.exp),
            (Level::One, UnixTime(START + 3600))
        );
        assert_eq!(
            invite.secret,
            sha256(&[invited.secret.as_ref().unwrap().expose()])
        );
        assert_eq!(return_uri, format!("{BASE}/enrolled/{}", invited.voucher));

        let path = invited.link.expose().strip_prefix(BASE).unwrap().to_owned();
        let mut browser = Browser::new(&stack);
        let page = browser.get(&path).await;
        assert_eq!(page.status, StatusCode::OK);
        assert!(
            !page.body.contains("<太郎>") && page.body.contains("Mail address only"),
            "{}",
            page.body
        );

        for (name, password, again) in [
            ("Ya mada", "long enough", "long enough"),
            ("yamada", "short", "short"),
            ("yamada12", "yamada12", "yamada12"),
            ("yamada", "long enough", "different one"),
            ("hanako", "long enough", "long enough"),
        ] {
            let answer = choose(&mut browser, &path, name, password, again).await;
            assert_eq!(
                answer.status,
                StatusCode::UNPROCESSABLE_ENTITY,
                "{name} {password}"
            );
            assert!(
                !answer.body.contains(password) || name == password,
                "a password came back"
            );
        }
        let answer = choose(&mut browser, &path, "Yamada ", "long enough", "long enough").await;
        let page = browser.follow(answer).await;
        assert!(
            page.body.contains("<svg") && page.body.contains("<path"),
            "{}",
            page.body
        );
        let seed = seed_of(&page);
        let token = page.field("token");
        let app = format!("{path}/app");
        // Somebody else with the same link sees nothing of it.
        let mut other = Browser::new(&stack);
        other.get("/login").await;
        assert_eq!(other.get(&app).await.location(), format!("{path}/account"));

        let wrong = browser
            .post(&app, &[("token", &token), ("code", "000000")])
            .await;
        assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
        let code = totp(&seed, START / 30);
        let done = browser
            .post(&app, &[("token", &token), ("code", &code)])
            .await;
        // A login passkey is offered; who goes on without it gets to the SIC page.
        assert_eq!(done.location(), format!("{path}/passkey"));
        let offer = browser.follow(done).await;
        let later = format!("/enrol/{}", invited.voucher);
        assert!(
            offer.body.contains(&later) && offer.body.contains("data-passkey=\"register\""),
            "{}",
            offer.body
        );
        assert_eq!(
            Browser::new(&stack)
                .get(&format!("{path}/passkey"))
                .await
                .status,
            StatusCode::NOT_FOUND
        );
        let link = stack.ssa.enrolment_link(&invited).unwrap();
        assert_eq!(browser.get(&later).await.location(), link.expose());
        assert!(
            link.expose()
                .starts_with(&format!("{SIC}/e#{}.", invited.voucher))
        );
        assert!(
            page.headers["content-security-policy"]
                .to_str()
                .unwrap()
                .contains(SIC)
        );

        // The link is used up; the person is logged in; nothing is enrolled yet.
        assert_eq!(
            browser.get(&format!("{path}/account")).await.status,
            StatusCode::GONE
        );
        let back = format!("/enrolled/{}", invited.voucher);
        let early = browser.get(&back).await;
        assert_eq!(browser.follow(early).await.location(), link.expose());

        enrolled_at_sam(&stack, &invited);
        *stack.ra.0.lock().unwrap() = Some(CertifyError::Unreachable);
        assert_eq!(
            browser.get(&back).await.status,
            StatusCode::SERVICE_UNAVAILABLE
        );
        let waiting = browser.get("/keys").await;
        assert!(
            waiting.body.contains("Waiting for its certificate") && waiting.body.contains(&back),
            "{}",
            waiting.body
        );
        *stack.ra.0.lock().unwrap() = Some(CertifyError::Refused(403));
        assert_eq!(browser.get(&back).await.status, StatusCode::FORBIDDEN);
        *stack.ra.0.lock().unwrap() = None;
        assert_eq!(browser.get(&back).await.location(), "/keys");
        let keys = browser.get("/keys").await;
        assert!(
            keys.body.contains("Ready to use")
                && keys
                    .body
                    .contains("Level 1, because of how the key is kept"),
            "{}",
            keys.body
        );
        assert!(keys.body.contains("Level 2 needs:"));
        // Coming again makes no second certificate.
        browser.get(&back).await;
        assert_eq!(stack.sam.with(|s| s.certified.len()), 1);
        let again = stack
            .ssa
            .complete_enrolment(&invited.voucher)
            .await
            .unwrap();
        assert!(matches!(again, Enrolled::Done { keys, .. } if keys.len() == 1));
    }
}

// shows: T-REG-IMPERSONATE
#[tokio::test]
async fn invitations_are_their_persons_and_end() {
    for stack in stacks().await {
        let invited = invite(&stack, "A").await;
        let path = invited.link.expose().strip_prefix(BASE).unwrap().to_owned();
        let mut hanako = Browser::new(&stack);
        hanako.log_in("hanako").await;
        for path in [
            format!("/enrol/{}", invited.voucher),
            format!("/enrolled/{}", invited.voucher),
        ] {
            assert_eq!(hanako.get(&path).await.status, StatusCode::NOT_FOUND);
            let anonymous = Browser::new(&stack).get(&path).await;
            assert_eq!(anonymous.location(), format!("/login?next={path}"));
        }
        assert_eq!(hanako.get("/i/unknown").await.status, StatusCode::NOT_FOUND);
        stack.clock.advance(3600);
        assert_eq!(hanako.get(&path).await.status, StatusCode::NOT_FOUND);
        assert_eq!(
            hanako.get(&format!("{path}/account")).await.status,
            StatusCode::NOT_FOUND
        );
    }
}

#[tokio::test]
async fn pages_speak_both_languages_and_carry_their_headers() {
    let stack = &stacks().await[0];
    let mut browser = Browser::new(stack);
    browser.log_in("hanako").await;
    for (lang, words) in [("ja", "鍵と証明書"), ("en", "Keys and certificates")] {
        browser.lang = lang;
        let page = browser.get("/keys").await;
        assert!(
            page.body.contains(words) && page.body.contains(&format!("<html lang=\"{lang}\">")),
            "{}",
            page.body
        );
        // No message id shows through.
        assert!(!page.body.contains("portal-"), "{}", page.body);
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
        assert!(!page.body.contains("style=") && !page.body.contains("<script"));
        assert_eq!(page.headers["cache-control"], "no-store");
        assert_eq!(page.headers["x-content-type-options"], "nosniff");
        assert!(page.body.contains("devbar"));
    }
    let chosen = browser.get("/keys?lang=ja").await;
    let cookies: Vec<_> = chosen.headers.get_all("set-cookie").iter().collect();
    assert!(
        cookies
            .iter()
            .any(|c| c.to_str().unwrap().starts_with("lang=ja"))
    );
    let missing = browser.get("/nothing").await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    // Whoever ended at a page that says no gets on from there.
    assert!(
        missing.body.contains("id=\"back\" href=\"/\""),
        "{}",
        missing.body
    );
    assert_eq!(Browser::new(stack).get("/").await.status, StatusCode::OK);
    let css = browser.get("/static/ui.css").await;
    assert_eq!(css.status, StatusCode::OK);
}

// shows: I-A2-documents, I-A2.01-conformity, I-A2.14-contact, I-3.2-selection-info-published
#[tokio::test]
async fn what_the_service_promises_is_there_before_anybody_has_an_account() {
    for stack in stacks().await {
        let told = Browser::new(&stack).get("/csc/v2/info").await;
        let told: serde_json::Value = serde_json::from_str(&told.body).unwrap();
        let service = &told["jt2aService"];
        assert_eq!(service["level"], 1, "{service}");
        assert!(service["guideline"].as_str().unwrap().contains("version 1"));
        let documents = service["documents"].as_array().unwrap();
        let kinds: Vec<_> = documents
            .iter()
            .map(|d| d["kind"].as_str().unwrap())
            .collect();
        assert_eq!(
            kinds,
            ["service-policy", "practice-statement", "terms-of-use"]
        );
        assert!(documents.iter().all(|d| d["version"] == "development"));
        assert!(service["contact"].is_string());
        for (lang, words) in [("ja", "連絡先"), ("en", "Contact")] {
            let mut nobody = Browser::new(&stack);
            nobody.lang = lang;
            let page = nobody.get("/about").await;
            assert_eq!(page.status, StatusCode::OK);
            assert!(page.body.contains(words), "{}", page.body);
            assert!(!page.body.contains("portal-"), "{}", page.body);
            let home = nobody.get("/").await;
            assert!(home.body.contains("href=\"/about\""));
        }
    }
}

// shows: I-7.1.1.12-accuracy-declared
#[tokio::test]
async fn how_exact_times_are_is_told_as_declared_and_as_measured() {
    for stack in stacks().await {
        let told = async || {
            let told = Browser::new(&stack).get("/csc/v2/info").await;
            let told: serde_json::Value = serde_json::from_str(&told.body).unwrap();
            told["jt2aService"]["time"].clone()
        };
        let page = async |lang: &'static str| {
            let mut nobody = Browser::new(&stack);
            nobody.lang = lang;
            nobody.get("/about").await.body
        };
        let clock = |state: &str, error_ms| {
            let clock = ClockInfo {
                state: state.to_owned(),
                bound_ms: Some(1000),
                error_ms,
            };
            stack.sam.with(|s| s.clock = Some(clock));
        };
        // Development says so, and declares nothing.
        let time = told().await;
        assert_eq!(time["state"], "unsynchronised");
        assert_eq!(time.get("declaredErrorMs"), None);
        assert!(page("ja").await.contains("宣言していません"));

        clock("synchronised", Some(12));
        // Whoever asks often doesn't have the SAM asked often.
        assert_eq!(told().await["state"], "unsynchronised");
        assert_eq!(stack.sam.with(|s| s.abouts), 1);
        stack.clock.advance(60);
        let time = told().await;
        assert_eq!(time["state"], "synchronised");
        assert_eq!(time["declaredErrorMs"], 1000);
        assert_eq!(time["measuredErrorMs"], 12);
        assert!(time["how"].as_str().unwrap().starts_with("http"));
        let shown = page("en").await;
        assert!(
            shown.contains("1000 ms at most") && shown.contains("at most 12 ms now"),
            "{shown}"
        );
        assert!(!shown.contains("vouched"));

        clock("beyond-bound", Some(4000));
        stack.clock.advance(60);
        assert_eq!(told().await["state"], "beyond-bound");
        assert!(
            page("en").await.contains("vouched") && page("ja").await.contains("保証できません")
        );
        // An old answer says nothing of the clock.
        stack.sam.with(|s| s.away = true);
        stack.clock.advance(120);
        assert!(told().await.is_null());
        assert!(!page("en").await.contains("id=\"time\""));
    }
}

// shows: I-A2.03-signer-duties
#[tokio::test]
async fn who_makes_an_account_has_seen_the_duties_and_accepted_the_terms() {
    for stack in stacks().await {
        let invited = invite(&stack, "A").await;
        let path = invited.link.expose().strip_prefix(BASE).unwrap().to_owned();
        let mut browser = Browser::new(&stack);
        let page = browser.get(&format!("{path}/account")).await;
        let token = page.field("token");
        for duty in [
            "true information",
            "stop your keys",
            "brings in a key",
            "revocation",
        ] {
            assert!(page.body.contains(duty), "{duty}: {}", page.body);
        }
        let accepted = "account.terms-accepted".to_owned();
        for terms in ["", "an older version"] {
            let form = [
                ("token", token.as_str()),
                ("name", "yamada"),
                ("password", "long enough"),
                ("again", "long enough"),
                ("terms", terms),
            ];
            let answer = browser.post(&format!("{path}/account"), &form).await;
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
            assert!(answer.body.contains("value=\"yamada\""), "what was typed");
            assert!(!stack.audit_kinds().await.contains(&accepted));
        }
        let done = choose(&mut browser, &path, "yamada", "long enough", "long enough").await;
        assert_eq!(done.status, StatusCode::SEE_OTHER);
        assert!(stack.audit_kinds().await.contains(&accepted));
    }
}

/// A tenant's service looks like the tenant's, and what isn't named is as the product has it.
#[tokio::test]
async fn the_portal_and_info_have_the_look_of_their_tenant() {
    let png = b"\x89PNG\r\n\x1a\n<script>".to_vec();
    let look = Branding {
        ja: Some("みなと\"<b>".to_owned()),
        en: None,
        colour: Some("#0a5c8a".to_owned()),
        logo: Logo::new(png),
        contact: Some("Ask us".to_owned()),
    };
    for stack in stacks_with(|config| config.branding = look.clone()).await {
        let mut browser = Browser::new(&stack);
        for lang in ["ja", "en"] {
            let page = browser.get(&format!("/about?lang={lang}")).await.body;
            // Escaped, in the bar and in the title, in both languages as there is only one name.
            assert_eq!(page.matches("みなと").count(), 2, "{page}");
            assert!(!page.contains("<b>") && page.contains("Ask us"), "{page}");
        }
        let page = browser.get("/about").await.body;
        let address = |mark: &str| {
            let from = page.split(mark).nth(1).unwrap();
            format!("{mark}{}", from.split('"').next().unwrap())
        };
        let logo = browser.get(&address("/brand/logo")).await;
        assert_eq!(logo.headers["content-type"], "image/png");
        assert_eq!(logo.headers["x-content-type-options"], "nosniff");
        let style = browser.get(&address("/brand/style.css")).await;
        assert!(style.body.contains("#0a5c8a"), "{}", style.body);
        let info = stack.csc("info", "", r#"{"lang":"ja"}"#).await.json();
        assert_eq!(info["name"], "みなと\"<b>");
        let shown = info["logo"].as_str().unwrap();
        assert_eq!(shown.strip_prefix(BASE), Some(&*address("/brand/logo")));
    }
    for stack in stacks().await {
        let mut browser = Browser::new(&stack);
        let page = browser.get("/about").await.body;
        assert!(
            !page.contains("/brand/") && !page.contains("<img"),
            "{page}"
        );
        assert_eq!(
            browser.get("/brand/logo").await.status,
            StatusCode::NOT_FOUND
        );
        let info = stack.csc("info", "", "{}").await.json();
        assert_eq!(info["logo"], format!("{BASE}/static/icon.svg"));
    }
}
