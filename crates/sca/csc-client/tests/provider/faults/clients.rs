//! Clients that the checker can't speak for, and authorization servers that it doesn't reach: neither is a fault of anything else.

use super::*;

const METADATA: &str = "the authorization server's metadata are its own";
const ANSWERS: &str = "the authorization server answers every request";

fn untested(cases: &[Case]) -> BTreeSet<&str> {
    named(cases, |o| matches!(o, Outcome::NotTested { .. }))
}

/// Whoever has to push gets a page without it.
fn pushed_only(ask: &Ask, reply: &mut Reply) {
    if ask.at == "/oauth2/authorize" && !ask.given.contains_key("request_uri") {
        *reply = no(400, "invalid_request");
    }
}

#[tokio::test]
async fn what_a_client_with_a_key_alone_would_get_is_not_tested_and_no_fault() {
    let (fake, service, _dir) = start().await;
    let by_secret = [
        "an unknown code is refused",
        "an unknown grant_type is refused",
        "an unknown refresh token is refused",
        "to revoke an unknown token is done, or refused",
        "a request is pushed",
    ];
    let cases = run_with(&fake, &service, pushed_only, None).await;
    assert_eq!(failed(&cases), BTreeSet::new(), "{cases:#?}");
    let untried = untested(&cases);
    let of_key = [
        "a refusal brings state back, and iss if it is announced",
        "a pushed request without PKCE is refused",
        "a request_uri of somebody else is refused",
        "a request_uri works once",
    ];
    for name in by_secret.iter().chain(&of_key) {
        assert!(untried.contains(name), "{name}: {untried:?}");
    }
    // Who has a secret isn't let off by a wrong one.
    let cases = run_with(&fake, &service, |_, _| {}, Some("other")).await;
    let found = failed(&cases);
    for name in by_secret {
        assert!(found.contains(name), "{name}: {found:?}");
    }
}

#[tokio::test]
async fn an_authorization_server_that_is_not_reached_costs_its_own_cases_alone() {
    let (fake, service, _dir) = start().await;
    let faults: [(&str, &str, Fault); 4] = [
        (METADATA, "without TLS", |a, r| {
            if a.at == "info" && r.status == 200 {
                r.body["oauth2"] = json!("http://as.example");
            }
        }),
        (METADATA, "no answer", |a, r| {
            if let ("info", 200, Some(told)) = (a.at.as_str(), r.status, r.body.as_object_mut()) {
                told.remove("oauth2");
                told.insert("oauth2Issuer".to_owned(), json!("http://localhost:1"));
            }
        }),
        (ANSWERS, "no answer", |a, r| {
            if a.at == "info" && r.status == 200 {
                r.body["oauth2"] = json!("http://localhost:1");
            }
        }),
        // Half of it is away.
        (ANSWERS, "no answer", |a, r| {
            if a.at.starts_with("/.well-known/") && r.status == 200 {
                r.body["authorization_endpoint"] = json!("http://localhost:1/authorize");
            }
        }),
    ];
    for (n, (name, why, fault)) in faults.into_iter().enumerate() {
        let cases = run(&fake, &service, fault).await;
        assert_eq!(failed(&cases), BTreeSet::from([name]), "fault {n}");
        let found: Vec<_> = cases.iter().filter(|case| case.name == name).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        let Outcome::Failed { why: told } = &found[0].outcome else {
            panic!("{found:?}")
        };
        assert!(told.contains(why), "{told}");
        let untried = untested(&cases);
        assert!(untried.contains("a request_uri works once"), "{untried:?}");
        assert!(untried.contains("a code works once"), "{untried:?}");
        assert!(named(&cases, |o| *o == Outcome::Passed).contains(VALUE));
        let unknown = "the token endpoint refuses an unknown client";
        let tried = cases.iter().filter(|case| case.name == unknown).count();
        assert_eq!(tried, 1, "fault {n}");
    }
}
