//! Refresh tokens: once each, and what a second use of one means.

use axum::http::StatusCode;
use ssa_service::ClientSettings;

use super::{client, error, service_code};
use crate::web::{Answer, Browser, Stack, stacks};

async fn alive(stack: &Stack, token: &str) -> bool {
    stack.csc("credentials/list", token, "{}").await.status == StatusCode::OK
}

async fn refresh(stack: &Stack, client: &str, token: &str) -> Answer {
    let form = [("grant_type", "refresh_token"), ("refresh_token", token)];
    stack.client_form(client, "/oauth2/token", &form).await
}

// shows: T-USE-CAPTURE
#[tokio::test]
async fn a_refresh_token_counts_once_and_one_that_comes_again_ends_everything() {
    for mut stack in stacks().await {
        let settings = ClientSettings {
            refresh: true,
            ..ClientSettings::default()
        };
        client(&mut stack, "keeps", settings).await;
        let code = service_code(&stack, "keeps", "hanako").await;
        let first = stack.exchange("keeps", &code).await;
        let (token, one) = (first.text("access_token"), first.text("refresh_token"));
        let second = refresh(&stack, "keeps", &one).await;
        assert_eq!(second.status, StatusCode::OK, "{}", second.body);
        let (newer, two) = (second.text("access_token"), second.text("refresh_token"));
        assert!(one != two && alive(&stack, &newer).await && alive(&stack, &token).await);
        // No wider scope than it was given for.
        let form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", &two),
            ("scope", "credential"),
        ];
        let wider = stack.client_form("keeps", "/oauth2/token", &form).await;
        assert_eq!(error(&wider), "invalid_scope");
        // The first one again: whoever has it isn't the one who used it.
        let again = refresh(&stack, "keeps", &one).await;
        assert_eq!(error(&again), "invalid_grant");
        for token in [&token, &newer] {
            assert!(!alive(&stack, token).await);
        }
        assert_eq!(
            error(&refresh(&stack, "keeps", &two).await),
            "invalid_grant"
        );

        // Presented by another client it has leaked, too.
        let code = service_code(&stack, "keeps", "hanako").await;
        let one = stack.exchange("keeps", &code).await.text("refresh_token");
        assert_eq!(error(&refresh(&stack, "app", &one).await), "invalid_grant");
        assert_eq!(
            error(&refresh(&stack, "keeps", &one).await),
            "invalid_grant"
        );

        // Revoking it revokes what came of it; logging out everywhere ends it; so does time.
        let code = service_code(&stack, "keeps", "hanako").await;
        let tokens = stack.exchange("keeps", &code).await;
        let (token, one) = (tokens.text("access_token"), tokens.text("refresh_token"));
        let form = [
            ("token", one.as_str()),
            ("token_type_hint", "refresh_token"),
        ];
        let revoked = stack.client_form("keeps", "/oauth2/revoke", &form).await;
        assert_eq!(revoked.status, StatusCode::NO_CONTENT);
        assert!(!alive(&stack, &token).await);
        assert_eq!(
            error(&refresh(&stack, "keeps", &one).await),
            "invalid_grant"
        );

        let code = service_code(&stack, "keeps", "hanako").await;
        let tokens = stack.exchange("keeps", &code).await;
        let (token, one) = (tokens.text("access_token"), tokens.text("refresh_token"));
        let mut browser = Browser::new(&stack);
        browser.log_in("hanako").await;
        let page = browser.get("/security").await;
        let form = [("token", page.field("token"))];
        let form = form.each_ref().map(|(n, v)| (*n, v.as_str()));
        browser.post("/logout/others", &form).await;
        assert!(!alive(&stack, &token).await);
        assert_eq!(
            error(&refresh(&stack, "keeps", &one).await),
            "invalid_grant"
        );

        stack.next_code();
        let code = service_code(&stack, "keeps", "hanako").await;
        let one = stack.exchange("keeps", &code).await.text("refresh_token");
        stack.clock.advance(14 * 24 * 60 * 60);
        let late = refresh(&stack, "keeps", &one).await;
        assert_eq!(late.json()["error_description"], "Refresh token expired");
        // A client whose contract doesn't say so gets none, and signing never does.
        let code = service_code(&stack, "app", "hanako").await;
        let tokens = stack.exchange("app", &code).await;
        assert!(tokens.json().get("refresh_token").is_none());
    }
}

// shows: T-USE-CAPTURE
#[tokio::test]
async fn a_refresh_token_presented_twenty_times_at_once_leaves_no_two_chains() {
    for mut stack in stacks().await {
        let settings = ClientSettings {
            refresh: true,
            ..ClientSettings::default()
        };
        client(&mut stack, "keeps", settings).await;
        let code = service_code(&stack, "keeps", "hanako").await;
        let one = stack.exchange("keeps", &code).await.text("refresh_token");
        let all = (0..20).map(|_| refresh(&stack, "keeps", &one));
        let mut answers = Vec::new();
        for answer in futures_util::future::join_all(all).await {
            if answer.status == StatusCode::OK {
                answers.push(answer.text("refresh_token"));
            }
        }
        assert!(answers.len() <= 1, "{}", answers.len());
        // The other nineteen ended the chain.
        for next in answers {
            assert_eq!(
                error(&refresh(&stack, "keeps", &next).await),
                "invalid_grant"
            );
        }
    }
}
