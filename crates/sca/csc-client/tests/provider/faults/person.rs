//! What the checker finds with somebody who logs in and approves: codes and what becomes of them, and signing without collected secrets.

use super::fake::{good, run_by_signer};
use super::*;

/// All that somebody has to bring, and that passes at a provider that does everything right.
const BROUGHT: [&str; 17] = [
    "a login leads back with a code",
    "a code brings a token that reads",
    "a code works once",
    "a wrong code_verifier is refused",
    "another redirect_uri at the token endpoint is refused",
    "a refresh token brings a token",
    "a refresh token that was replaced is refused",
    "a token that was revoked is refused",
    "a token is revoked",
    "a person logs in with name and password",
    "an approval brings a token for it",
    "a hash that wasn't authorized is refused",
    "another user's SAD is refused",
    "authorize and sign",
    VALUE,
    "a SAD works once",
    "signatures of an asynchronous call are fetched",
];

/// Each with the case that has to find it.
const FAULTS: [(&str, Fault); 17] = [
    (BROUGHT[0], |a, r| {
        if a.at == "decided" {
            let to = r.location.take().unwrap();
            r.location = Some(to.replace("state=", "status="));
        }
    }),
    (BROUGHT[1], |a, r| {
        let by_code = a.given.contains_key("code");
        if a.at == "/oauth2/token" && by_code && r.body["refresh_token"].is_string() {
            r.body["token_type"] = json!("mac");
        }
    }),
    (BROUGHT[2], |a, r| {
        if a.at == "/oauth2/token" && r.body["error_description"] == "used" {
            *r = good(json!({ "access_token": "x", "token_type": "Bearer" }));
        }
    }),
    (BROUGHT[3], |a, r| {
        if a.at == "/oauth2/token" && r.body["error_description"] == "verifier" {
            *r = good(json!({ "access_token": "x", "token_type": "Bearer" }));
        }
    }),
    (BROUGHT[4], |a, r| {
        if a.at == "/oauth2/token" && r.body["error_description"] == "redirect" {
            *r = good(json!({ "access_token": "x", "token_type": "Bearer" }));
        }
    }),
    (BROUGHT[5], |a, r| {
        if a.given.contains_key("refresh_token") && r.status == 200 {
            *r = no(400, "invalid_grant");
        }
    }),
    (BROUGHT[6], |a, r| {
        if a.at == "/oauth2/token" && r.body["error_description"] == "replaced" {
            *r = good(json!({ "access_token": "x", "token_type": "Bearer" }));
        }
    }),
    (BROUGHT[7], |a, r| {
        if a.at == "credentials/list" && r.body["error_description"] == "ended by revocation" {
            *r = good(json!({ "credentialIDs": ["k1"] }));
        }
    }),
    (BROUGHT[8], |a, r| {
        if a.at == "credentials/list" && r.body["error_description"] == "ended by auth/revoke" {
            *r = good(json!({ "credentialIDs": ["k1"] }));
        }
    }),
    (BROUGHT[9], |a, r| {
        if a.at == "auth/login" && r.status == 200 {
            r.body["access_token"] = json!("unknown");
        }
    }),
    (BROUGHT[10], |a, r| {
        let by_code = a.at == "/oauth2/token" && a.given.contains_key("code");
        if by_code && r.status == 200 && r.body["refresh_token"].is_null() {
            r.body["access_token"] = json!(null);
        }
    }),
    (BROUGHT[11], |a, r| {
        if a.at == "signatures/signHash" && a.body["hashes"][0] == b64([9; 32]) {
            *r = good(json!({ "signatures": ["AA=="] }));
        }
    }),
    (BROUGHT[12], |a, r| {
        if a.at == "signatures/signHash" && a.token == "Bearer others" {
            *r = good(json!({ "signatures": ["AA=="] }));
        }
    }),
    (BROUGHT[13], |a, r| {
        if a.at == "signatures/signHash" && r.body["signatures"].is_array() {
            r.body["signatures"] = json!([]);
        }
    }),
    (BROUGHT[14], |a, r| {
        if a.at == "signatures/signHash" && r.body["signatures"].is_array() {
            r.body["signatures"] = json!([b64([7; 64])]);
        }
    }),
    (BROUGHT[15], |a, r| {
        if a.at == "signatures/signHash" && r.body["error_description"] == "used" {
            *r = good(json!({ "signatures": ["AA=="] }));
        }
    }),
    (BROUGHT[16], |a, r| {
        if a.at == "signatures/signPolling" && r.status == 200 {
            r.body["signatures"] = json!([b64([0x30, 6, 2, 1, 1, 2, 1, 1])]);
        }
    }),
];

#[tokio::test]
async fn with_somebody_who_logs_in_and_approves_everything_of_it_passes() {
    let (fake, service, _dir) = start().await;
    let cases = run_by_signer(&fake, &service, |_, _| {}).await;
    assert_eq!(failed(&cases), BTreeSet::new(), "{cases:#?}");
    let passed = named(&cases, |o| matches!(o, Outcome::Passed));
    for name in BROUGHT {
        assert!(passed.contains(name), "{name}: {passed:?}");
    }
    // The token that the login brought opens what another one would have.
    assert!(passed.contains("credentials/info"), "{passed:?}");
    // Each case once, whatever brought it.
    assert_eq!(
        passed.len(),
        cases
            .iter()
            .filter(|c| c.outcome == Outcome::Passed)
            .count()
    );
    let untried = named(&cases, |o| matches!(o, Outcome::NotTested { .. }));
    assert!(untried.is_disjoint(&passed), "{untried:?}");
    assert!(untried.contains("a transaction is extended"));
}

#[tokio::test]
async fn each_fault_behind_a_login_is_found_by_its_name_and_alone() {
    let (fake, service, _dir) = start().await;
    for (name, fault) in FAULTS {
        let cases = run_by_signer(&fake, &service, fault).await;
        assert_eq!(failed(&cases), BTreeSet::from([name]), "{name}");
    }
}

#[tokio::test]
async fn nobody_to_log_in_is_no_fault_of_the_provider() {
    let (fake, service, _dir) = start().await;
    let cases = run(&fake, &service, |_, _| {}).await;
    let untried = named(&cases, |o| matches!(o, Outcome::NotTested { .. }));
    for name in &BROUGHT[..10] {
        assert!(untried.contains(name), "{name}: {untried:?}");
    }
}
