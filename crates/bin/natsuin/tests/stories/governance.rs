//! What officers decide, carried out by the daemons' own commands: everything over the officers' gateway and with the files that
//! operators and auditors have.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use audit_log::{AuditLog, Event, LogKey, Place, Sequencer};
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::rpc::Method as _;
use core_types::{B64, Clock as _, PeerId, PersonId, SecretBytes};
use natsuin::office::{OFFICER_FILE, Officer, OfficerFile};
use natsuin::stack::{Device, NewFactors};
use sap::office::ACCOUNT;
use sap::office::calls::{Beside, BesideRequest, Looked};
use serde_json::{Value, json};
use sic_core::Voucher;
use store_kit::{Store, StoreError, StoreUrl, transaction};

use crate::archive::Medium;
use crate::daemons::Middle;
use crate::kit::{entries, natsuin, run, text};
use crate::site::{AUDITOR, OFFICERS, SamPorts, Site, port};

/// How long ago the SSA's log began here, in days: nothing of then has to be kept.
const LONG_AGO: i64 = 4000;
/// Somebody of whom nothing was heard since.
const GONE: &str = "p-taro";
/// Entries of then: more than a tile, so that a whole one can go.
const THEN: usize = 300;

/// The SSA's log as its daemon would have left it then.
async fn begin_long_ago(site: &Site) {
    let url = format!("sqlite:{}", site.at("ssa.db").display());
    let url = StoreUrl::parse(&url).unwrap();
    let opened = Store::open(&url, "ssa", ssa_service::MIGRATIONS, &SystemRandom).await;
    let store = opened.unwrap();
    let read = |name: &str| SecretBytes::new(fs::read(site.at(name)).unwrap());
    let log = AuditLog::new(
        "ssa",
        "ssa-1",
        read("ssa-chain.key"),
        Arc::new(SystemRandom),
    );
    let key = LogKey::from_seed("test/ssa", &read("ssa-log.key")).unwrap();
    let witness = Some(site.at("ssa-witness.txt"));
    let opened = Sequencer::open(log.clone(), key, witness, &store).await;
    let sequencer = opened.unwrap();
    let then = SystemClock.now().plus(-LONG_AGO * 24 * 3600);
    let failed = Event::LoginFailed {
        person: Some(PersonId::parse(GONE).unwrap()),
        method: "totp".into(),
        reason: "wrong".into(),
        from: Place::Unknown,
    };
    let mut events = vec![failed; THEN];
    let what = "login-passkey-counter".into();
    events.push(Event::Alarm { what });
    let written: Result<_, StoreError> = transaction!(store, "test", |tx| {
        log.append_all(tx, &events, then).await
    });
    written.unwrap();
    sequencer.sequence(&store, then).await.unwrap();
    store.close().await;
}

/// The officers with whom the installation began, each with a passkey and a file of their own.
struct Office<'s> {
    site: &'s Site,
    root: jose::Jwk,
    files: Vec<PathBuf>,
}

impl<'s> Office<'s> {
    /// Each enrols a passkey by the link of the ceremony.
    async fn enrol(site: &'s Site, root: &jose::Jwk) -> Self {
        let page = site.office_page();
        let mut files = Vec::new();
        for id in OFFICERS {
            let link = site.at("ceremony").join(format!("{id}.link"));
            let link = fs::read_to_string(link).unwrap();
            let (at, ticket) = link.split_once('#').unwrap();
            assert_eq!(at, format!("{page}/e"));
            let voucher = Voucher::parse(&SecretBytes::from(ticket.to_owned())).unwrap();
            let mut device = Device::new(&page, &SystemRandom).unwrap();
            let sic = site.sic(root, &page, &page, site.http());
            let enrolled = sic.enrol(voucher, NewFactors::Passkey(&mut device)).await;
            enrolled.unwrap();
            let (credential, key) = device.parts().unwrap();
            let file = OfficerFile {
                schema: OFFICER_FILE.to_owned(),
                url: page.clone(),
                account: PersonId::parse(format!("{ACCOUNT}{id}")).unwrap(),
                root: root.clone(),
                trust: site.anchors(),
                id: B64(credential),
                key,
            };
            let path = site.at(&format!("{id}.json"));
            fs::write(&path, serde_json::to_vec(&file).unwrap()).unwrap();
            files.push(path);
        }
        let root = root.clone();
        Self { site, root, files }
    }

    /// What an officer does with the command line; its exit code and answer.
    fn says(&self, who: usize, args: &[&str]) -> (i32, Value) {
        let mut command = natsuin();
        command.arg("--json").args(args).arg("--as");
        let said = run(command.arg(&self.files[who]));
        let value = serde_json::from_slice(&said.stdout).unwrap_or_default();
        (said.status.code().unwrap(), value)
    }

    /// The first asks for something, the others approve it, and who asked takes it: the file to carry it out with, and the proposal.
    fn decide(&self, name: &str, asked: &[&str]) -> (PathBuf, String) {
        let (code, made) = self.says(0, &[&["officer"][..], asked].concat());
        assert_eq!(code, 0, "{made}");
        let proposal = made["proposal"].as_str().unwrap();
        let taken = self.site.at(&format!("{name}-taken.json"));
        let file = taken.display().to_string();
        let take = ["approval", "take", proposal, "--out", &file];
        let give = ["approval", "give", proposal, "--yes"];
        // Nobody alone, and not who asked.
        assert_eq!(self.says(0, &give).0, 3);
        for (who, state) in [(1, "open"), (2, "approved")] {
            assert_ne!(self.says(0, &take).0, 0);
            let (code, said) = self.says(who, &give);
            assert_eq!((code, said["state"].as_str()), (0, Some(state)), "{said}");
        }
        let (code, said) = self.says(0, &take);
        assert_eq!(code, 0, "{said}");
        (taken, proposal.to_owned())
    }

    /// What the first sees of another zone in the console.
    async fn looks(&self, zone: &str, what: Looked) -> (u16, Value) {
        let known = OfficerFile::read(&self.files[0]).unwrap();
        let device = Device::restore(&known.url, known.id.0.clone(), &known.key);
        let (page, http) = (self.site.office_page(), self.site.http());
        let mut officer = Officer {
            sic: self.site.sic(&self.root, &page, &page, http.clone()),
            account: known.account,
            device: device.unwrap(),
        };
        let request = BesideRequest {
            session: officer.log_in().await.unwrap().session,
            zone: PeerId::parse(zone).unwrap(),
            what,
            search: "{}".to_owned(),
        };
        let sent = http.post(format!("{page}{}", Beside::PATH)).json(&request);
        let answer = sent.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or_default())
    }
}

/// What a zone's daemon does with what was approved.
struct Order<'o> {
    taken: &'o Path,
    root: String,
}

impl Order<'_> {
    fn run(&self, site: &Site, zone: &str, args: &[&str]) -> (bool, String) {
        let taken = self.taken.display().to_string();
        let mut all = [args, &["--taken", &taken]].concat();
        // The SAM has the module's root key in its configuration, the module in itself.
        if zone == "ssa" {
            all.extend(["--root", &self.root]);
        }
        let done = site.command(&format!("natsuin-{zone}"), &format!("{zone}-1"), &all);
        (done.status.success(), text(&done))
    }
}

/// Checks all exports as the auditor does.
fn verify(site: &Site, archive: Option<&Path>) -> String {
    let mut command = natsuin();
    command.args(["audit", "verify"]).arg(site.at("export"));
    for option in ["--witness", "--keys"] {
        command.arg(option).arg(site.at("auditor"));
    }
    if let Some(archive) = archive {
        command.arg("--archive").arg(archive);
    }
    let said = run(&mut command);
    assert!(said.status.success(), "{}", text(&said));
    text(&said)
}

/// An auditor takes the SSA's log over the network, as it is now, and checks it; its entries.
fn fetched(site: &Site, log_port: u16, name: &str) -> Vec<Value> {
    let all = site.at(name);
    let mut command = natsuin();
    command.args(["audit", "fetch", "--url"]);
    command.arg(format!("https://localhost:{log_port}"));
    for (option, file) in [
        ("--cert", "auditor-chain.pem"),
        ("--cert-key", "auditor-key.pem"),
        ("--ca", "zones-ca.pem"),
    ] {
        command.arg(option).arg(site.at(file));
    }
    let said = run(command.arg("--out").arg(all.join("ssa")));
    assert!(said.status.success(), "{}", text(&said));
    entries(&all, "ssa")
}

/// Whoever sits at the SAM's machine hands out who approved a proposal, to be judged elsewhere.
fn evidence_of_a_decision(site: &Site, proposal: &str) {
    let out = site.at("decided.json").display().to_string();
    let nothing = "A".repeat(43);
    for (proposal, good) in [
        (nothing.as_str(), false),
        (proposal, true),
        (proposal, false),
    ] {
        let args = ["export-evidence", "--proposal", proposal, "--out", &out];
        let done = site.command("natsuin-sam", "sam-1", &args);
        // Nothing is written over.
        assert_eq!(done.status.success(), good, "{}", text(&done));
    }
    let mut command = natsuin();
    command.args(["evidence", "verify", &out, "--json", "--root"]);
    command.arg(site.at("cm-root.jwk")).arg("--log");
    let said = run(command.arg(site.at("export/sam/log.pub")));
    assert!(said.status.success(), "{}", text(&said));
    for officer in [OFFICERS[1], OFFICERS[2]] {
        assert!(text(&said).contains(officer), "{}", text(&said));
    }
    let read = |e: &&Value| e["kind"] == "audit.read" && e["detail"]["query"] == proposal;
    assert_eq!(site.entries("sam").iter().filter(read).count(), 2);
}

/// Three officers at their gateway. All logs are taken out by the daemons' commands, checked and archived; then what is archived
/// goes from the SSA's log, and somebody is forgotten in all zones, each as two officers approved. The logs are good after it.
// shows: I-7.1.4.3-delete-after-archive, I-7.1.5.1-archive-all-audit-logs, I-7.1.1.10-only-privileged-manage-all-interfaces
#[tokio::test(flavor = "multi_thread")]
async fn officers_have_a_log_shortened_and_a_person_forgotten_by_the_daemons() {
    let mut site = Site::new();
    let log_port = port();
    site.reading = vec![("ssa", log_port)];
    let (cm, ssa) = (port(), port());
    site.zone("auditor", AUDITOR);
    begin_long_ago(&site).await;
    let (mut module, root) = site.module(cm).await;
    let ports = SamPorts {
        module: cm,
        ssa: port(),
        gateway: port(),
        office: port(),
        origin: "https://sic.localhost:1".to_owned(),
        home: format!("https://localhost:{ssa}"),
        tenants: String::new(),
    };
    let store = format!("sqlite:{}", site.at("sam.db").display());
    let mut sam = site.sam("sam-1", &store, &ports).await;
    let middle = Middle {
        site: &site,
        root: root.clone(),
        page: ports.origin.clone(),
        sam: ports.ssa,
        http: site.http(),
    };
    let mut service = middle.service("ssa", "test", ssa, &site.ca).await;
    let beside = format!(
        "[[beside]]\nname = 'ssa'\nclients = 'https://localhost:{}'\nlog = 'https://localhost:{log_port}'\n",
        service.officers
    );
    let mut console = site.office(ports.office, &beside).await;
    let office = Office::enrol(&site, &root).await;
    // Who manages the service sees its clients, how it is and what it has to be looked at for, and not its log.
    let (status, seen) = office.looks("ssa", Looked::Clients).await;
    assert_eq!((status, seen["clients"].is_array()), (200, true), "{seen}");
    let (status, seen) = office.looks("ssa", Looked::State).await;
    assert_eq!((status, &seen["nodes"][0]["node"]), (200, &json!("ssa-1")));
    let alerts = seen["alerts"].as_array().unwrap();
    let mut texts = alerts.iter().map(|alert| alert["body"].as_str().unwrap());
    assert!(
        texts.any(|body| body.contains("login-passkey-counter")),
        "{seen}"
    );
    assert_eq!(office.looks("ssa", Looked::Log).await.0, 422);
    assert_eq!(office.looks("cm", Looked::Clients).await.0, 400);

    let taken = fetched(&site, log_port, "fetched");
    // What it wrote at its start may not have a place yet.
    assert!(taken.len() >= THEN);

    for program in [&mut console, &mut service.program, &mut sam] {
        program.end();
    }
    site.export("ssa");
    site.export("sam");
    module.end();
    site.export("cm");
    let medium = Medium::new(site.dir.path(), site.auditor());
    let archive = site.at("medium");
    let said = medium.create(&site.at("export"), &archive);
    assert!(said.status.success(), "{}", text(&said));
    let archived: Value = serde_json::from_slice(&said.stdout).unwrap();

    let (mut module, _) = site.module(cm).await;
    let mut sam = site.sam("sam-1", &store, &ports).await;
    let mut console = site.office(ports.office, "").await;
    let measure = json!({
        "measure": "delete-archived", "zone": "ssa", "archive": archived["name"], "size": 256,
    });
    let file = site.at("delete.json");
    fs::write(&file, measure.to_string()).unwrap();
    let file = file.display().to_string();
    let (deletion, decided) = office.decide("delete", &["propose", &file, "--reason", "disk"]);
    let salt = site.at("salt.txt").display().to_string();
    let forget = ["forget", GONE, "--salt", &salt, "--reason", "request 1"];
    let (forgetting, _) = office.decide("forget", &forget);

    let order = |taken| Order {
        taken,
        root: site.at("cm-root.jwk").display().to_string(),
    };
    let (at, key) = (
        archive.display().to_string(),
        medium.public.display().to_string(),
    );
    let delete = ["delete-archived", "--archive", &at, "--archive-key", &key];
    // What was approved is one thing, not another.
    let (done, said) = order(&forgetting).run(&site, "ssa", &delete);
    assert!(!done, "{said}");
    let (done, said) = order(&deletion).run(&site, "ssa", &delete);
    assert!(done && said.contains("entries 0 to 255"), "{said}");
    let (done, said) = order(&deletion).run(&site, "ssa", &delete);
    assert!(!done && said.contains("up to 256 already"), "{said}");
    let forget = ["forget-person", "--person", GONE, "--salt", &salt];
    let (done, said) = order(&forgetting).run(&site, "ssa", &forget);
    assert!(done && said.contains("destroy the salt"), "{said}");
    console.end();
    sam.end();
    evidence_of_a_decision(&site, &decided);
    for zone in ["sam", "cm"] {
        if zone == "cm" {
            module.end();
        }
        let (done, said) = order(&deletion).run(&site, zone, &delete);
        assert!(!done && said.contains("another zone"), "{said}");
        let (done, said) = order(&forgetting).run(&site, zone, &forget);
        assert!(done && said.contains("knows nothing"), "{zone}: {said}");
        if zone == "sam" {
            site.export(zone);
        }
    }
    site.export("cm");
    let ssa_log = site.entries("ssa");
    let told = |kind: &str| ssa_log.iter().filter(|e| e["kind"] == kind).count();
    assert_eq!(told("audit.log-deleted"), 1);
    assert_eq!(told("audit.person-forgotten"), 1);
    assert!(told("login.failed") < THEN, "they lie in the archive");
    // Who read it over the network is told there too.
    let by_auditor = |e: &&Value| e["kind"] == "audit.read" && e["detail"]["reader"] == AUDITOR;
    assert!(ssa_log.iter().any(|e| by_auditor(&e)));
    site.auditor();
    verify(&site, Some(&archive));
    let said = verify(&site, None);
    assert!(said.contains(archived["name"].as_str().unwrap()), "{said}");
    // The service goes on with what is left.
    let config = site.at("ssa-1.toml");
    let (mut module, _) = site.module(cm).await;
    let mut sam = site.sam("sam-1", &store, &ports).await;
    let mut again = site.start("natsuin-ssa", &config, ssa).await;
    let taken = fetched(&site, log_port, "shortened");
    assert!(taken.iter().any(|e| e["kind"] == "audit.log-deleted"));
    again.end();
    sam.end();
    module.end();
}
