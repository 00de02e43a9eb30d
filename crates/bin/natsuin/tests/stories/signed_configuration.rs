//! The SAM's daemon obeys the configuration that its signers have signed, and no other: not with a byte changed, in the file
//! itself or in one that it names, not with a signature less, and not without any.

use std::fs;
use std::path::Path;

use crate::kit::{natsuin, run, text};
use crate::site::{SamPorts, Site, port};

/// A signature over the node's configuration by this key, and what the command says of it.
fn sign(site: &Site, key: &str, new: &[&str]) -> Option<i32> {
    let mut command = natsuin();
    command.args(["config", "sign"]).arg(site.at("sam-1.toml"));
    command.arg("--sig").arg(site.at("sam-1.toml.sig"));
    command.arg("--key").arg(site.at(key)).args(new);
    let done = run(&mut command);
    assert_ne!(done.status.code(), Some(6), "{}", text(&done));
    done.status.code()
}

/// Starts the daemon, which doesn't obey: it ends with 4 and says why.
async fn refused(site: &Site, config: &Path, why: &str) {
    let mut program = site.spawn("natsuin-sam", config, None);
    assert_eq!(program.ended().await, Some(4), "{why}: {}", program.said());
    assert!(program.said().contains(why), "{why}: {}", program.said());
}

// shows: II-3.3.2-config-tamper-detected, II-3.3.2-config-change-privileged-only, T-INS-OPERATOR
#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_its_signers_have_not_signed_starts_nothing_and_stands_in_the_log() {
    let site = Site::new();
    let cm = port();
    let (mut module, _) = site.module(cm).await;
    let ports = SamPorts {
        module: cm,
        ssa: port(),
        gateway: port(),
        office: port(),
        origin: "https://sic.localhost:1".to_owned(),
        home: "https://localhost:1".to_owned(),
        tenants: String::new(),
    };
    let store = format!("sqlite:{}/sam.db", site.dir.path().display());
    // Nobody has asked for signatures so far.
    site.sam("sam-1", &store, &ports).await.end();
    let config = site.at("sam-1.toml");
    let mut signers = Vec::new();
    for name in ["sato", "suzuki"] {
        let [key, public] = ["key", "jwk"].map(|end| site.at(&format!("{name}.{end}")));
        let [out, public] = [key, public].map(|path| path.display().to_string());
        let make = ["officer-key", "--out", &out, "--public", &public];
        let made = site.command("natsuin-cm", "cm-1", &make);
        assert!(made.status.success(), "{}", text(&made));
        signers.push(public);
    }
    let new = [
        "--serial",
        "1",
        "--need",
        "2",
        "--reason",
        "signed from now on",
        "--signer",
        &signers[0],
        "--signer",
        &signers[1],
    ];
    assert_eq!(sign(&site, "sato.key", &new), Some(7), "one is missing");
    refused(&site, &config, "not enough of those who may").await;
    assert_eq!(sign(&site, "suzuki.key", &[]), Some(0));
    site.start("natsuin-sam", &config, ports.gateway)
        .await
        .end();

    // Whoever can write files alone.
    let signatures = fs::read_to_string(site.at("sam-1.toml.sig")).unwrap();
    let changed = "a file of the configuration was changed";
    for (name, from, to) in [
        (
            "sam-1.toml",
            "session_seconds = 14400",
            "session_seconds = 14401",
        ),
        ("ra-keys.json", "[{", "[ {"),
    ] {
        let good = fs::read_to_string(site.at(name)).unwrap();
        assert_eq!(good.matches(from).count(), 1, "{name}");
        fs::write(site.at(name), good.replace(from, to)).unwrap();
        refused(&site, &config, changed).await;
        fs::write(site.at(name), good).unwrap();
    }
    fs::remove_file(site.at("sam-1.toml.sig")).unwrap();
    refused(&site, &config, "isn't signed").await;
    fs::write(site.at("sam-1.toml.sig"), &signatures).unwrap();
    site.start("natsuin-sam", &config, ports.gateway)
        .await
        .end();

    let told = |entries: &[serde_json::Value], kind: &str| -> Vec<String> {
        let of = entries.iter().filter(|entry| entry["kind"] == kind);
        of.map(|e| {
            e["detail"]["reason"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        })
        .collect()
    };
    let entries = site.entries("sam");
    assert_eq!(
        told(&entries, "settings.refused"),
        ["signers", "changed", "changed", "unsigned"]
    );
    assert_eq!(told(&entries, "settings.adopted").len(), 1);
    module.end();
}
