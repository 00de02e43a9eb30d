//! Keys that belong to no person.

use std::fs;
use std::path::Path;

use cm_api::rpc::Empty;
use core_types::clock::SystemClock;
use core_types::{Clock as _, sha256};

use crate::kit::*;

// shows: III-A1.4.2-dual-control, III-3-4-authenticate-administrator
#[tokio::test]
async fn two_officers_have_keys_of_the_provider_made_and_ended() {
    let mut site = Site::new();
    let dir = site.token.path().to_owned();
    let at = |name: &str| dir.join(name).display().to_string();
    site.settings = site.officers();
    let own = site.ca.service_cert("admin", &["admin.localhost"]).unwrap();
    fs::write(at("admin.pem"), &own.chain_pem).unwrap();
    secret(Path::new(&at("admin.key")), own.key_pem.expose());
    let (_running, client, _) = site.start("kind = \"software\"").await;
    let root = client.call::<cm_api::rpc::Root>(&Empty {}).await.unwrap();
    fs::write(at("root.jwk"), serde_json::to_vec(&root.root).unwrap()).unwrap();
    let now = SystemClock.now();
    let (exp, end) = (now.plus(600).0.to_string(), now.plus(86_400).0.to_string());
    let approve = |officer: &str, what: &[&str]| {
        let (key, root) = (at(&format!("officer-{officer}")), at("root.jwk"));
        let mut args = vec!["approve-key", "--key", &key, "--root", &root, "--exp", &exp];
        args.extend(["--reason", "renewal"]);
        args.extend(what);
        fs::write(at(&format!("approval-{officer}")), site.done(&args)).unwrap();
    };
    let url = format!("https://cm.localhost:{}", site.port);
    let hold = |approvals: &[&str], more: &[&str]| {
        let (chain, key) = (at("admin.pem"), at("admin.key"));
        let paths: Vec<_> = approvals
            .iter()
            .map(|a| at(&format!("approval-{a}")))
            .collect();
        let mut args = vec![
            "hold-ceremony",
            "--url",
            &url,
            "--chain",
            &chain,
            "--key",
            &key,
        ];
        for path in &paths {
            args.extend(["--approval", path]);
        }
        args.extend(more);
        site.command(&args)
    };
    let seal = [
        "seal",
        "--alg",
        "p-256",
        "--level",
        "1",
        "--country",
        "JP",
        "--organization",
        "Natsuin",
        "--name",
        "Remote signing",
        "--not-after",
        &end,
    ];
    approve("1", &seal);
    approve("2", &seal);
    let alone = hold(&["1"], &[]);
    assert_eq!(alone.status.code(), Some(4));
    assert_eq!(hold(&["1", "1"], &[]).status.code(), Some(4));
    let made = hold(&["1", "2"], &["--request", &at("seal.csr")]);
    let said = String::from_utf8(made.stdout).unwrap();
    assert!(made.status.success() && said.contains("was made"), "{said}");
    let pem = fs::read_to_string(at("seal.csr")).unwrap();
    let der = pki::pem::decode_all("CERTIFICATE REQUEST", &pem).unwrap();
    let csr = pki::csr::Csr::verify(&der[0]).unwrap();
    let spki = sha256(&[&csr.spki]).to_string();
    assert!(said.contains(&spki), "{said}");
    assert_eq!(hold(&["1", "2"], &[]).status.code(), Some(4), "once");
    let log = [
        "log",
        "--origin",
        "test/sam",
        "--level",
        "1",
        "--not-after",
        &end,
    ];
    approve("1", &log);
    approve("2", &log);
    let made = hold(&["2", "1"], &[]);
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let key = said.split(' ').nth(1).unwrap();
    let destroy = ["destroy", "--id", key, "--spki", &spki];
    approve("1", &destroy);
    approve("2", &destroy);
    let ended = hold(&["1", "2"], &[]);
    let said = String::from_utf8(ended.stdout).unwrap();
    assert!(said.contains("unrecoverable after"), "{said}");
}
