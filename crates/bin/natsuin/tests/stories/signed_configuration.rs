//! The daemons obey the configuration that its signers have signed, and no other: not with a byte changed, in the file itself or in
//! one that it names, not with a signature less, and above level 1 not without any.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use core_types::{Level, TenantId};
use jose::SigningKey;
use natsuin::stack::NAME_SAM;
use sam_api::ssa::{About, AboutAnswer, ClockInfo, Empty, TenantInfo};
use service_kit::{Peer, Routes, Running, Shutdown, bind, serve, tls};

use crate::daemons::Middle;
use crate::kit::{natsuin, run, text};
use crate::site::{SAM, SamPorts, Site, port};

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

/// A SAM that says of itself no more than its level.
async fn sam_of(site: &Site, ceiling: Level) -> (Running, tokio::sync::watch::Sender<bool>) {
    let names = [NAME_SAM, "localhost"];
    let own = site.ca.service_cert(NAME_SAM, &names).unwrap();
    let mutual = tls::mutual_server(&own, &site.ca.internal_ca_pem()).unwrap();
    let about = |ceiling: Arc<Level>, _: Peer, _: Empty| async move {
        Ok(AboutAnswer {
            sam: SAM.to_owned(),
            tenant: TenantInfo {
                name: TenantId::parse("test").unwrap(),
                own: true,
            },
            statement: String::new(),
            ceiling: *ceiling,
            declared: Vec::new(),
            providers: false,
            max_items: 1,
            max_open: 0,
            clock: ClockInfo {
                state: "unsynchronised".to_owned(),
                bound_ms: None,
                error_ms: None,
            },
        })
    };
    let routes = Routes::new(Arc::new(ceiling), 1024).method::<About, _, _>(about);
    let (stop, shutdown) = Shutdown::new();
    let at = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let running = serve(at, routes.into_router(), Some(mutual), shutdown);
    (running.unwrap(), stop)
}

/// Nobody in production has to remember to ask for signatures: the SSA's SAM says that they are wanted.
// shows: II-3.3.2-config-change-privileged-only, T-INS-OPERATOR
#[tokio::test(flavor = "multi_thread")]
async fn an_ssa_above_level_1_starts_with_a_signed_configuration_only() {
    let site = Site::new();
    let (one, _one) = sam_of(&site, Level::One).await;
    let (two, _two) = sam_of(&site, Level::Two).await;
    let (root, _) = SigningKey::generate().unwrap();
    let middle = Middle {
        site: &site,
        root: root.public().clone(),
        page: "https://sic.localhost:1".to_owned(),
        sam: one.addr.port(),
        http: site.http(),
    };
    let at = port();
    let mut service = middle.service("ssa", "test", at, &site.ca).await;
    service.program.end();
    let config = site.at("ssa-1.toml");
    let lower = fs::read_to_string(&config).unwrap();
    let with = |port: u16| {
        let [from, to] = [one.addr.port(), port].map(|port| format!("localhost:{port}'\ncertify"));
        assert_eq!(lower.matches(&from).count(), 1);
        lower.replace(&from, &to)
    };
    let ends = async |text: &str, code: i32, why: &str| {
        fs::write(&config, text).unwrap();
        let mut program = site.spawn("natsuin-ssa", &config, None);
        assert_eq!(program.ended().await, Some(code), "{}", program.said());
        assert!(program.said().contains(why), "{}", program.said());
    };
    let higher = with(two.addr.port());
    ends(&higher, 4, "settings-refused").await;
    // Who doesn't know waits for the SAM.
    ends(&with(port()), 75, "natsuin config sign").await;
    let named = format!("development = true\n{higher}");
    ends(&named, 4, "settings-refused").await;
    fs::write(&config, &higher).unwrap();
    let sig = site.at("ssa-1.toml.sig");
    let mut signers = Vec::new();
    for name in ["sato", "suzuki"] {
        let (key, pkcs8) = SigningKey::generate().unwrap();
        fs::write(site.at(&format!("{name}.key")), pkcs8.expose()).unwrap();
        let public = site.at(&format!("{name}.jwk"));
        fs::write(&public, serde_json::to_vec(key.public()).unwrap()).unwrap();
        signers.push(public);
    }
    let sign = |key: &str, new: bool| {
        let mut command = natsuin();
        command
            .args(["config", "sign", "--zone", "ssa"])
            .arg(&config);
        command
            .arg("--sig")
            .arg(&sig)
            .arg("--key")
            .arg(site.at(key));
        if new {
            command.args(["--serial", "1", "--need", "2", "--reason", "level 2"]);
            for signer in &signers {
                command.arg("--signer").arg(signer);
            }
        }
        run(&mut command)
    };
    let said = sign("sato.key", true);
    assert_eq!(said.status.code(), Some(7), "{}", text(&said));
    ends(&higher, 4, "settings-refused").await;
    let said = sign("suzuki.key", false);
    assert!(said.status.success(), "{}", text(&said));
    site.start("natsuin-ssa", &config, at).await.end();
    // From here on no SAM lets another one count.
    ends(&lower, 4, "settings-refused").await;
}
