//! What every answer tells a browser: pages, redirects, errors, and what is no page at all.

use axum::http::StatusCode;

use crate::coverage::routes;
use crate::web::{Answer, BASE, Browser, stacks, stacks_with};

/// Every path that the service has, with something in its places.
fn paths() -> Vec<String> {
    let sources = [
        (include_str!("../../src/pages/mod.rs"), "fn router()"),
        (include_str!("../../src/oauth/mod.rs"), "fn router()"),
    ];
    let known = sources
        .into_iter()
        .flat_map(|(source, from)| routes(source, from));
    let mut paths: Vec<String> = known
        .map(|path| {
            let parts = path.split('/').map(|part| match part.starts_with('{') {
                true => "x",
                false => part,
            });
            format!("/{}", parts.collect::<Vec<_>>().join("/"))
        })
        .collect();
    paths.extend(["/csc/v2/info", "/csc/v1/info", "/csc/v2/x", "/nothing"].map(str::to_owned));
    paths
}

fn check(path: &str, answer: &Answer, https: bool) {
    let header = |name: &str| {
        let value = answer.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    };
    let status = answer.status;
    let unknown = status == StatusCode::NOT_IMPLEMENTED;
    assert!(!status.is_server_error() || unknown, "{path}: {status}");
    let policy = header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'"), "{path}: {policy}");
    assert!(
        policy.contains("frame-ancestors 'none'"),
        "{path}: {policy}"
    );
    let forbidden = ["unsafe-inline", "unsafe-eval", "*"];
    assert!(
        !forbidden.iter().any(|word| policy.contains(word)),
        "{path}: {policy}"
    );
    assert_eq!(header("cache-control"), "no-store", "{path}");
    assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
    assert!(
        matches!(header("referrer-policy"), "no-referrer" | "same-origin"),
        "{path}"
    );
    let hsts = header("strict-transport-security");
    assert_eq!(
        hsts.starts_with("max-age=63072000"),
        https,
        "{path}: {hsts}"
    );
}

#[tokio::test]
async fn every_answer_has_its_security_headers() {
    let safe = |config: &mut ssa_service::Config| {
        config.base_url = BASE.replace("http:", "https:");
    };
    let (plain, tls) = (stacks().await, stacks_with(safe).await);
    for (stack, https) in [(&plain[0], false), (&tls[0], true)] {
        let mut kinds = std::collections::BTreeSet::new();
        for path in paths() {
            let answer = Browser::new(stack).get(&path).await;
            check(&path, &answer, https);
            kinds.insert(answer.status.as_u16() / 100);
        }
        // Pages, redirects and refusals were among them.
        assert_eq!(kinds.into_iter().collect::<Vec<_>>(), [2, 3, 4, 5]);
        // What the certificates' listener answers with.
        let request = axum::http::Request::get("/certificate/x");
        let request = request.body(axum::body::Body::empty()).unwrap();
        let answer = stack.send_to(stack.ssa.certificate_router(), request).await;
        check("/certificate/x", &answer, https);
    }
    // Of somebody who is logged in.
    let mut browser = Browser::new(&plain[0]);
    browser.log_in("hanako").await;
    let mut pages = 0;
    for path in paths() {
        let answer = browser.get(&path).await;
        check(&path, &answer, false);
        pages += u32::from(answer.status == StatusCode::OK);
    }
    assert!(pages > 10, "{pages}");
}
