//! Module, SAM and SSA lost together: they come back on clean machines from what operators put away by the documented commands.

use std::fs;
use std::path::{Path, PathBuf};

use core_types::Clock as _;
use core_types::clock::SystemClock;
use jose::SigningKey;
use natsuin::stack::{NAME_CM, NAME_SAM, NAME_SIC, NAME_SSA};
use serde_json::{Value, json};

use crate::kit::{natsuin, run, text};
use crate::site::Site;
use crate::whole::Running;

/// What isn't on the service's own machines: the authority, the auditor, the exports, and the desk of operators and officers.
const ELSEWHERE: [&str; 4] = ["ca", "auditor", "export", "desk"];

/// What is put away on the machine of one zone.
struct Machine {
    zone: &'static str,
    /// Settings, and what they name that nobody has to keep secret.
    settings: &'static [&'static str],
    /// Under what the zone wrote its store, by the name of its place in the settings.
    secrets: &'static [(&'static str, &'static str)],
    /// What goes in beside.
    more: &'static str,
}

const MACHINES: [Machine; 2] = [
    Machine {
        zone: "sam",
        settings: &[
            "sam-1.toml",
            "cm-1.toml",
            "sic-1.toml",
            "cm-root.jwk",
            "roots.json",
            "ra-keys.json",
            "restorers.json",
            "zones-ca.pem",
        ],
        secrets: &[("sam/audit.key", "sam-log.key")],
        more: " --cm-keys @cm-keys --report @reports",
    },
    Machine {
        zone: "ssa",
        settings: &["ssa-1.toml", "restorers.json", "zones-ca.pem", "logo.png"],
        secrets: &[
            ("ssa/audit.key", "ssa-log.key"),
            ("ssa/key", "ssa.key"),
            ("ssa/chain_key", "ssa-chain.key"),
        ],
        more: "",
    },
];

impl Machine {
    /// The files, with the secrets or without them.
    fn files(&self, site: &Site, secrets: bool) -> Vec<PathBuf> {
        let mut names = self.settings.to_vec();
        if secrets {
            names.extend(self.secrets.iter().map(|(_, name)| *name));
        }
        let mut files: Vec<PathBuf> = names.iter().map(|name| site.at(name)).collect();
        if self.zone == "sam" {
            files.push(site.ca.trust_anchors_file());
        }
        files
    }
}

/// What operators and officers have.
struct Desk<'s> {
    site: &'s Site,
    recipient: String,
}

impl<'s> Desk<'s> {
    /// Each makes a key; the module's root secret and the recipient of backups are dealt to shares; the zones are told of all that.
    fn new(site: &'s Site) -> Self {
        fs::create_dir_all(site.at("desk/reports")).unwrap();
        let mut desk = Self {
            site,
            recipient: String::new(),
        };
        let public = ["signer", "operator", "officer"].map(|name| {
            let (key, pkcs8) = SigningKey::generate().unwrap();
            fs::write(desk.at(&format!("{name}.key")), pkcs8.expose()).unwrap();
            let public = serde_json::to_value(key.public()).unwrap();
            fs::write(desk.at(&format!("{name}.jwk")), public.to_string()).unwrap();
            public
        });
        let [signer, operator, officer] = public;
        let restorers =
            json!({"backups": [signer], "operators": [operator], "officers": [officer]});
        fs::write(site.at("restorers.json"), restorers.to_string()).unwrap();
        for node in ["sam-1", "ssa-1"] {
            let config = site.at(&format!("{node}.toml"));
            let named = site.at("restorers.json");
            let text = fs::read_to_string(&config).unwrap();
            let text = format!("restorers = '{}'\n{text}", named.display());
            fs::write(config, text).unwrap();
        }
        let (code, dealt) = desk.backup("recipient --out @recipient --need 2 --of 3", &[]);
        assert_eq!(code, 0, "{dealt}");
        dealt["recipient"]
            .as_str()
            .unwrap()
            .clone_into(&mut desk.recipient);
        let dealt = "ceremony --out @shares --need 2 --of 3";
        desk.module("cm-1", dealt);
        desk
    }

    fn at(&self, name: &str) -> PathBuf {
        self.site.at("desk").join(name)
    }

    /// Words of a command; those that begin with `@` are files on the desk.
    fn words(&self, words: &str) -> Vec<String> {
        let word = |word: &str| match word.strip_prefix('@') {
            Some(name) => self.at(name).display().to_string(),
            None => word.to_owned(),
        };
        words.split(' ').map(word).collect()
    }

    /// Runs `natsuin backup`, and gives its exit code and object.
    fn backup(&self, words: &str, more: &[String]) -> (i32, Value) {
        let mut command = natsuin();
        command.args(["backup", "--json"]).args(self.words(words));
        let said = run(command.args(more));
        let value =
            serde_json::from_slice(&said.stdout).unwrap_or_else(|_| panic!("{}", text(&said)));
        (said.status.code().unwrap(), value)
    }

    /// Runs a command of the module's daemon; what it says.
    fn module(&self, node: &str, words: &str) -> String {
        let words = self.words(words);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let done = self.site.command("natsuin-cm", node, &words);
        assert!(done.status.success(), "{}", text(&done));
        text(&done)
    }

    /// Makes a backup of a zone with these files in it.
    fn create(&self, of: &Machine, files: &[PathBuf]) -> (i32, Value) {
        let zone = of.zone;
        let settings = self.site.at(&format!("{zone}-1.toml"));
        let mut more = vec!["--recipient".to_owned(), self.recipient.clone()];
        more.extend([
            "--zone".to_owned(),
            format!("{zone}=@{}", settings.display()),
        ]);
        for file in files {
            more.extend(["--file".to_owned(), file.display().to_string()]);
        }
        let words = format!(
            "create --to @{zone}.age --key @signer.key --operator @operator.jwk --officer @officer.jwk{}",
            of.more
        );
        self.backup(&words, &more)
    }

    /// Restores the backup of a zone as an operator and an officer approve it, with the files that are in it; its name is `name`.
    fn restore(&self, of: &Machine, name: &Value) {
        let zone = of.zone;
        let store = self.site.at(&format!("{zone}.db"));
        let stores = format!("--zone {zone}=sqlite:{}", store.display());
        let (code, target) = self.backup(&format!("target {stores}"), &[]);
        assert_eq!(code, 0, "{target}");
        for office in ["operator", "officer"] {
            self.approve(office, name, &target["target"]);
        }
        let words = format!(
            "restore {} {stores} --operator @operator.jwk --officer @officer.jwk --approval @yes-operator --approval @yes-officer \
             --files @restored-{zone}",
            self.judged(of)
        );
        let (code, told) = self.backup(&words, &[]);
        assert_eq!(code, 0, "{told}");
        let restored = self.at(&format!("restored-{zone}/files"));
        for file in of.files(self.site, true) {
            let name = file.file_name().unwrap();
            fs::copy(restored.join(name), self.site.dir.path().join(name)).unwrap();
        }
        // The witness is the auditor's.
        let witness = self.site.at("auditor").join(format!("{zone}.txt"));
        fs::copy(witness, self.site.at(&format!("{zone}-witness.txt"))).unwrap();
    }

    /// How a backup is opened and judged.
    fn judged(&self, of: &Machine) -> String {
        let (zone, auditor) = (of.zone, self.site.at("auditor"));
        format!(
            "@{zone}.age --share @recipient/share-1.txt --share @recipient/share-3.txt --key @signer.jwk --keys {0} --witness {0}",
            auditor.display()
        )
    }

    /// Approves the restore of a backup, in an office.
    fn approve(&self, office: &str, backup: &Value, target: &Value) {
        let exp = SystemClock.now().plus(3600).0.to_string();
        let [backup, target] = [backup, target].map(|name| name.as_str().unwrap().to_owned());
        let more = ["--backup", &backup, "--target", &target, "--exp", &exp].map(str::to_owned);
        let words = format!("approve --key @{office}.key --office {office} --reason fire");
        let (code, said) = self.backup(&words, &more);
        assert_eq!(code, 0, "{said}");
        let approval = said["approval"].as_str().unwrap();
        fs::write(self.at(&format!("yes-{office}")), approval).unwrap();
    }
}

/// Everything on the service's own machines is gone.
fn lose(site: &Site) {
    for entry in fs::read_dir(site.dir.path()).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            _ if ELSEWHERE.iter().any(|name| path.ends_with(name)) => {}
            true => fs::remove_dir_all(&path).unwrap(),
            false => fs::remove_file(&path).unwrap(),
        }
    }
}

/// Clean machines, with certificates and seeds of logs as an installation makes them.
fn install(site: &Site) {
    site.public();
    for (zone, name) in [
        ("cm2", NAME_CM),
        ("sam", NAME_SAM),
        ("sic", NAME_SIC),
        ("ssa", NAME_SSA),
    ] {
        site.zone(zone, name);
    }
}

/// Another node with a log of its own, as the settings of the module that was lost become those of the one that takes its place.
fn another_module(site: &Site, restored: &Path) {
    let mut text = fs::read_to_string(restored.join("cm-1.toml")).unwrap();
    for (from, to) in [
        ("node = 'cm-1'", "node = 'cm-2'"),
        ("log = 'test/cm'", "log = 'test/cm2'"),
        ("/cm-log.key'", "/cm2-log.key'"),
        ("/cm-witness.txt'", "/cm2-witness.txt'"),
        ("/cm-chain.pem'", "/cm2-chain.pem'"),
        ("/cm-key.pem'", "/cm2-key.pem'"),
    ] {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        text = text.replace(from, to);
    }
    fs::write(site.at("cm-2.toml"), text).unwrap();
}

// shows: I-7.1.7.2-restore-state, I-7.1.7.2-privileged-restore
#[tokio::test(flavor = "multi_thread")]
async fn a_service_comes_back_on_clean_machines_from_its_backups() {
    let site = Site::new();
    let all = Running::begin(&site).await;
    let mut hanako = all.member().await;
    let (_, key, _) = hanako.sign().await;
    let [cm, sam, ssa, sic] = all.ports;
    all.end();

    let desk = Desk::new(&site);
    desk.module("cm-1", "backup --out @cm-keys");
    let whole = desk.module("cm-1", "check-backup --from @cm-keys");
    assert!(whole.contains("1 keys"), "{whole}");
    site.export("cm");
    let auditor = site.auditor();
    let mut names = Vec::new();
    for of in &MACHINES {
        // Whoever forgets what the store was written under is told which, before the machine is gone.
        let (code, told) = desk.create(of, &of.files(&site, false));
        assert_eq!(code, 6, "{told}");
        assert_eq!(told["code"], "backup-incomplete");
        let what = told["what"].as_str().unwrap();
        for (name, _) in of.secrets {
            assert!(what.contains(&format!("{name} (")), "{what}");
        }
        assert_eq!(what.matches(" (").count(), of.secrets.len(), "{what}");
        assert!(!desk.at(&format!("{}.age", of.zone)).exists());
        let (code, made) = desk.create(of, &of.files(&site, true));
        assert_eq!(code, 0, "{made}");
        let (code, told) = desk.backup(&format!("verify {}", desk.judged(of)), &[]);
        assert_eq!(code, 0, "{told}");
        assert_eq!(told["zones"][0]["older"], false, "{told}");
        names.push(made["name"].clone());
    }

    lose(&site);
    install(&site);
    for (of, name) in MACHINES.iter().zip(&names) {
        desk.restore(of, name);
    }
    another_module(&site, &desk.at("restored-sam/files"));
    let words = format!(
        "restore --from @restored-sam/module/keys --share @shares/share-2.txt --share @shares/share-3.txt --log {} --log-key {1}/cm.pub \
         --witness {1}/cm.txt",
        site.at("export/cm").display(),
        auditor.display()
    );
    let said = desk.module("cm-2", &words);
    assert!(said.contains("1 keys are usable again"), "{said}");

    let start = async |name: &str, node: &str, port: u16| {
        let config = site.at(&format!("{node}.toml"));
        site.start(name, &config, port).await
    };
    let mut module = start("natsuin-cm", "cm-2", cm).await;
    let mut activation = start("natsuin-sam", "sam-1", sam).await;
    let mut gateway = start("natsuin-sic", "sic-1", sic).await;
    let mut service = start("natsuin-ssa", "ssa-1", ssa).await;
    let (_, again, _) = hanako.sign().await;
    assert_eq!(again, key, "the same key");
    for program in [&mut service, &mut gateway, &mut activation] {
        program.end();
    }
    for (of, name) in MACHINES.iter().zip(&names) {
        let entries = site.entries(of.zone);
        let restored = entries.iter().filter(|e| {
            let kind = e["kind"].as_str().unwrap_or_default();
            kind.starts_with("service.restored")
        });
        let restored: Vec<_> = restored.collect();
        assert_eq!(restored.len(), 1, "{}", of.zone);
        assert_eq!(restored[0]["kind"], "service.restored", "{}", of.zone);
        assert_eq!(restored[0]["detail"]["backup"], *name, "{}", of.zone);
    }
    module.end();
}
