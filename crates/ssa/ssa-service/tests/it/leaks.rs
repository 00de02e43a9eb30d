//! What a copy of the SSA's database is worth.

use store_kit::sql;

use crate::web::{Browser, credential_request, hash, service_request, stacks};

// shows: T-INS-OPERATOR
#[tokio::test]
async fn the_database_holds_no_token_code_cookie_or_secret() {
    for stack in stacks().await {
        let mut browser = Browser::new(&stack);
        let code = browser
            .approve_for_code(
                &credential_request("app", "key-hanako", &[hash(1)]),
                "hanako",
            )
            .await;
        let token = stack.exchange("app", &code).await.text("access_token");
        stack.next_code();
        let mut another = Browser::new(&stack);
        let refreshable = another
            .log_in_for_code(&service_request("other"), "hanako")
            .await;
        let refreshable = stack.exchange("other", &refreshable).await.json();
        let refresh = refreshable["refresh_token"].as_str().unwrap().to_owned();
        let rid = stack.sam.with(|s| *s.requests.keys().next().unwrap());
        let secrets = [
            code,
            token,
            refresh,
            browser.cookie.clone().unwrap(),
            stack.clients["app"].clone(),
            stack.users["hanako"].seed.clone(),
            crate::web::PASSWORD.to_owned(),
            rid.to_string(),
        ];
        let mut dump = String::new();
        let mut tx = stack.store.read("dump").await.unwrap();
        for query in [
            "SELECT person || login || name || password AS t, seed AS b FROM ssa_user",
            "SELECT id || person AS t, NULL AS b FROM ssa_session",
            "SELECT id || name || COALESCE(secret, '') || redirects AS t, NULL AS b FROM ssa_client",
            "SELECT id || browser || params || redirect AS t, rid AS b FROM ssa_flow",
            "SELECT id || client || challenge AS t, rid AS b FROM ssa_code",
            "SELECT id || grant_id || client AS t, NULL AS b FROM ssa_token",
            "SELECT id || grant_id || client AS t, NULL AS b FROM ssa_refresh",
            "SELECT kind || body AS t, NULL AS b FROM audit_entry",
        ] {
            let rows = tx.fetch_all(sql(query)).await.unwrap();
            assert!(!rows.is_empty(), "{query}");
            for row in rows {
                dump.push_str(&row.text("t").unwrap());
                let blob = if query.contains("NULL AS b") {
                    Vec::new()
                } else {
                    row.maybe_blob("b").unwrap().unwrap_or_default()
                };
                dump.push_str(&String::from_utf8_lossy(&blob));
                assert!(!blob.windows(32).any(|w| w == rid.0));
            }
        }
        for secret in secrets {
            assert!(!dump.contains(&secret), "{secret}");
        }
    }
}
