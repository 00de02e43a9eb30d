//! Two nodes of one SSA on one PostgreSQL: they share its keys, and whoever was given another one for the log is told so before it
//! writes anything.

use std::fs;

use core_types::Random as _;
use core_types::random::SystemRandom;
use store_kit::StoreUrl;

use crate::site::{Site, port, secret};
use crate::whole::Running;

#[tokio::test(flavor = "multi_thread")]
async fn nodes_share_the_keys_of_their_service_and_one_with_another_key_stops_nobody_else() {
    let StoreUrl::Postgres(url) = store_kit::testing::postgres_database().await else {
        panic!("a PostgreSQL database was asked for");
    };
    let site = Site::new();
    // Its configuration becomes that of both nodes.
    let mut all = Running::begin(&site).await;
    all.service.program.end();
    let (at, officers) = ([all.ports[2], port()], all.service.officers);
    fs::remove_file(site.at("ssa-witness.txt")).unwrap();
    let embedded = format!("sqlite:{}", site.at("ssa.db").display());
    let config = site.at("ssa-1.toml");
    let first = fs::read_to_string(&config).unwrap();
    let first = first.replace(&embedded, url.as_str());
    fs::write(&config, &first).unwrap();
    let mut second = first.clone();
    for (from, to) in [
        ("node = 'ssa-1'".to_owned(), "node = 'ssa-2'".to_owned()),
        (format!(":{}'\nnode", at[0]), format!(":{}'\nnode", at[1])),
        (
            format!("listen = '127.0.0.1:{officers}'\nviewers"),
            format!("listen = '127.0.0.1:{}'\nviewers", port()),
        ),
    ] {
        assert_eq!(second.matches(&from).count(), 1, "{from}");
        second = second.replace(&from, &to);
    }
    secret(&site.at("other-chain.key"), &SystemRandom.digest32().0);
    let strange = second.replace("/ssa-chain.key'", "/other-chain.key'");
    assert_ne!(strange, second);

    let mut one = site.start("natsuin-ssa", &config, at[0]).await;
    let config = site.at("ssa-2.toml");
    fs::write(&config, strange).unwrap();
    let mut tried = site.spawn("natsuin-ssa", &config, None);
    assert_eq!(tried.ended().await, Some(4), "{}", tried.said());
    let said = tried.said();
    assert!(said.contains("audit-key"), "{said}");
    assert!(said.contains("chain_key"), "what to do: {said}");
    fs::write(&config, second).unwrap();
    let mut two = site.start("natsuin-ssa", &config, at[1]).await;
    assert!(one.runs(), "{}", one.said());
    one.end();
    two.end();

    let entries = site.entries("ssa");
    let of = |node: &str, kind: &str| {
        let is = |e: &&serde_json::Value| e["node"] == node && e["kind"] == kind;
        entries.iter().filter(is).count()
    };
    assert_eq!(of("ssa-1", "service.started"), 1);
    assert_eq!(of("ssa-2", "service.started"), 1);
    assert_eq!(of("ssa-2", "audit.parameter-changed"), 0);
}
