//! What administrators and officers do by the program's commands.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use cm_api::rpc::Empty;
use cm_api::{Executed, ModuleState, Refusal};
use core_types::clock::SystemClock;
use core_types::{Clock as _, KeyAlg};
use pkcs11_faults::softhsm;
use service_kit::CallError;

use crate::kit::*;

/// A site with two officers and an administrator.
struct Ruled {
    site: Site,
    dir: PathBuf,
}

impl Ruled {
    fn new() -> Self {
        let mut site = Site::new();
        let dir = site.token.path().to_owned();
        site.settings = site.officers();
        let own = site.ca.service_cert("admin", &["admin.localhost"]).unwrap();
        fs::write(dir.join("admin.pem"), &own.chain_pem).unwrap();
        secret(&dir.join("admin.key"), own.key_pem.expose());
        Self { site, dir }
    }

    fn at(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// A command to the running module, as its administrator.
    fn asks(&self, command: &str, more: &[&str]) -> Output {
        let url = format!("https://cm.localhost:{}", self.site.port);
        let (chain, key) = (self.at("admin.pem"), self.at("admin.key"));
        let mut args = vec![command, "--url", &url, "--chain", &chain, "--key", &key];
        args.extend(more);
        self.site.aside(&args)
    }

    fn told(&self, command: &str, more: &[&str]) -> String {
        let done = self.asks(command, more);
        let wrong = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{command}: {wrong}");
        String::from_utf8(done.stdout).unwrap()
    }

    /// Both officers approve; answers the arguments that bring their approvals.
    fn approve(&self, to: &str, serial: &str, more: &[&str]) -> Vec<String> {
        let exp = SystemClock.now().plus(600).0.to_string();
        let root = self.at("root.jwk");
        let mut brought = Vec::new();
        for n in [1, 2] {
            let key = self.at(&format!("officer-{n}"));
            let mut args = vec!["approve", "--key", &key, "--root", &root, "--to", to];
            args.extend(["--serial", serial, "--reason", "保守", "--exp", &exp]);
            args.extend(more);
            let approval = self.at(&format!("{to}-{n}"));
            let done = self.site.aside(&args);
            let wrong = String::from_utf8_lossy(&done.stderr);
            assert!(done.status.success(), "{wrong}");
            for word in ["You sign: The module of sam.test", "because: 保守"] {
                assert!(wrong.contains(word), "{wrong}");
            }
            fs::write(&approval, done.stdout).unwrap();
            brought.extend(["--approval".to_owned(), approval]);
        }
        brought
    }

    fn switch(&self, approvals: &[String]) -> Output {
        let args: Vec<&str> = approvals.iter().map(String::as_str).collect();
        self.asks("switch", &args)
    }

    fn switched(&self, approvals: &[String]) -> String {
        let done = self.switch(approvals);
        let wrong = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{wrong}");
        String::from_utf8(done.stdout).unwrap()
    }
}

fn refused(answer: &Result<Executed, CallError<Refusal>>) -> bool {
    matches!(answer, Err(CallError::Refused(Refusal::NotOperational)))
}

// shows: III-A1.4.2-dual-control, III-A1.4.2-other-work-single, III-3-13-secure-state, III-3-4-authenticate-administrator
#[tokio::test]
async fn two_officers_disable_enable_and_recover_the_module_by_commands() {
    let ruled = Ruled::new();
    ruled.site.make_token();
    let faults = ruled.dir.join("faults");
    let backend = ruled
        .site
        .pkcs11(&softhsm::faulty().unwrap(), "natsuin", "");
    let (running, client, _) = ruled.site.start(&backend).await;
    let root = client.call::<cm_api::rpc::Root>(&Empty {}).await.unwrap();
    fs::write(
        ruled.at("root.jwk"),
        serde_json::to_vec(&root.root).unwrap(),
    )
    .unwrap();
    let sam = SamSide::new(client).await;
    let key = sam.key().await;
    let said = ruled.told("self-test", &[]);
    assert!(said.contains("Operational; switched 0 times"), "{said}");
    let said = ruled.told("status", &[]);
    let expected = "the module is Operational; switched 0 times; back end pkcs11; ceiling 1";
    assert!(said.starts_with(expected), "{said}");
    let said = ruled.told("status", &["--json"]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["schema"], "natsuin.answer/1");
    assert_eq!(said["health"]["state"], "operational");

    // One officer alone can't, also not twice.
    let off = ruled.approve("disabled", "1", &[]);
    assert_eq!(ruled.switch(&off[..2]).status.code(), Some(4));
    let twice = [&off[..2], &off[..2]].concat();
    assert_eq!(ruled.switch(&twice).status.code(), Some(4));
    let said = ruled.switched(&off);
    assert!(said.contains("Disabled; switched 1 times"), "{said}");
    assert!(refused(&sam.try_order(sign(&key, P256, 1)).await));
    assert_eq!(ruled.asks("self-test", &[]).status.code(), Some(4));
    drop(running);
    let (running, client, health) = ruled.site.start(&backend).await;
    assert_eq!(
        health.state,
        ModuleState::Disabled,
        "a restart ends nothing"
    );
    assert_eq!(ruled.switch(&off).status.code(), Some(4), "once");
    let on = ruled.approve("enabled", "2", &[]);
    let said = ruled.switched(&on);
    assert!(said.contains("Operational; switched 2 times"), "{said}");
    let sam = SamSide::new(client).await;
    let signed = sam.order(sign(&key, P256, 2)).await;
    assert!(matches!(signed, Executed::Signed(_)));

    // A device that fails its test.
    fs::write(&faults, "C_Sign flip").unwrap();
    let said = ruled.told("self-test", &[]);
    assert!(
        said.contains("Error; ") && said.contains("didn't pass"),
        "{said}"
    );
    let error = |said: &str| {
        let (_, error) = said.trim().rsplit_once("its error is ").unwrap();
        error.to_owned()
    };
    let first = error(&said);
    let early = ruled.approve("recovered", "3", &["--error", &first]);
    assert_eq!(ruled.switch(&early).status.code(), Some(4), "not tested");
    fs::write(&faults, "").unwrap();
    // As the service manager would after a crash: it starts with the good device, and says that it does nothing.
    drop(running);
    let (running, _, health) = ruled.site.start(&backend).await;
    assert_eq!(health.state, ModuleState::Error);
    assert_eq!(health.error.as_deref(), Some(first.as_str()));
    drop(running);
    let alone = ruled.site.with_backend(&backend, &["recover"]);
    assert_eq!(alone.status.code(), Some(4), "not by one person");
    let (running, client, _) = ruled.site.start(&backend).await;
    let sam = SamSide { client, ..sam };
    let said = ruled.told("self-test", &[]);
    assert!(
        said.contains("Error; ") && said.contains("the tests passed at"),
        "{said}"
    );
    assert!(refused(&sam.try_order(sign(&key, P256, 3)).await));
    let other = ruled.approve("recovered", "3", &["--error", "cm-1/1/1"]);
    assert_eq!(ruled.switch(&other).status.code(), Some(4), "another error");
    let good = ruled.approve("recovered", "3", &["--error", &error(&said)]);
    let said = ruled.switched(&good);
    assert!(said.contains("Operational; switched 3 times"), "{said}");
    let signed = sam.order(sign(&key, P256, 4)).await;
    assert!(matches!(signed, Executed::Signed(_)));
    drop(running);
    let log = ruled.at("log");
    ruled.site.done(&["export-log", "--out", &log]);
    for word in [
        "cm.switched",
        "disabled",
        "enabled",
        "recovered",
        "cm-error",
        "cm-error-held",
        "cm.error-kept",
        "cm.error-ended",
    ] {
        assert!(in_files(Path::new(&log), word.as_bytes()), "{word}");
    }
    // What they signed is handed out, as the log names it.
    let out = ruled.at("approvals");
    let said = ruled.site.done(&["export-approvals", "--out", &out]);
    assert!(said.contains("3 decisions"), "{said}");
    for line in fs::read_to_string(&out).unwrap().lines() {
        let kept: serde_json::Value = serde_json::from_str(line).unwrap();
        let approval = kept["approval"].as_str().unwrap();
        assert!(in_files(Path::new(&log), approval.as_bytes()), "{line}");
        assert_eq!(kept["signed"].as_array().unwrap().len(), 2);
    }
}

// shows: III-3-13-secure-state, T-KEY-MALFUNCTION
#[tokio::test]
async fn without_officers_a_person_on_the_machine_ends_an_error_and_no_restart_does() {
    let site = Site::new();
    site.make_token();
    let faults = site.token.path().join("faults");
    let backend = site.pkcs11(&softhsm::faulty().unwrap(), "natsuin", "");
    drop(site.start(&backend).await);
    let nothing = site.with_backend(&backend, &["recover"]);
    let said = String::from_utf8_lossy(&nothing.stdout).into_owned();
    assert!(said.contains("in no error"), "{said}");
    fs::write(&faults, "C_Sign flip").unwrap();
    site.refused(&backend);
    fs::write(&faults, "").unwrap();
    let (running, _, health) = site.start(&backend).await;
    assert_eq!(health.state, ModuleState::Error);
    drop(running);
    let ended = site.with_backend(&backend, &["recover"]);
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success(), "{said}");
    let (_running, _, health) = site.start(&backend).await;
    assert_eq!(health.state, ModuleState::Operational);
}

// shows: III-3-12-protect-security-functions, III-3-13-detect-software, T-KEY-MALFUNCTION
#[tokio::test]
async fn a_library_or_configuration_that_changes_is_found_by_the_administrators_test() {
    let ruled = Ruled::new();
    ruled.site.make_token();
    // A copy, which can be replaced.
    let library = ruled.dir.join("library.so");
    fs::copy(softhsm::faulty().unwrap(), &library).unwrap();
    let backend = ruled.site.pkcs11(&library, "natsuin", "");
    let replace = |file: &Path, bytes: &[u8]| {
        // As an installation does: what is loaded stays as it is.
        let beside = ruled.dir.join("beside");
        fs::write(&beside, bytes).unwrap();
        fs::rename(&beside, file).unwrap();
    };
    for file in [library.clone(), ruled.dir.join("cm.toml")] {
        let (running, ..) = ruled.site.start(&backend).await;
        let said = ruled.told("self-test", &[]);
        assert!(said.contains("Operational"), "{said}");
        let before = fs::read(&file).unwrap();
        replace(&file, &[&before[..], b"\n"].concat());
        let said = ruled.told("self-test", &[]);
        assert!(said.contains("is Error"), "{}: {said}", file.display());
        replace(&file, &before);
        drop(running);
    }
    let (_running, _, health) = ruled.site.start(&backend).await;
    assert_eq!(health.state, ModuleState::Operational, "a start tells");
}

// shows: III-3-12-protect-security-functions, T-KEY-DISCLOSE
#[test]
fn a_command_that_holds_secrets_leaves_no_core_dump() {
    use std::io::Read as _;
    let site = Site::new();
    let at = |name: &str| site.token.path().join(name).display().to_string();
    let pipe = at("pipe");
    let mut mkfifo = std::process::Command::new("mkfifo");
    let made = mkfifo.args(["-m", "600", &pipe]).status();
    assert!(made.unwrap().success());
    let mut command = site.daemon("kind = \"software\"");
    command.args(["seal-root", "--passphrase-file", &pipe]);
    let mut running = Running(command.spawn().unwrap());
    // It has come to reading the passphrase when this end opens.
    let open = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    let limits = format!("/proc/{}/limits", running.0.id());
    let limits = fs::read_to_string(limits).unwrap();
    let core = limits.lines().find(|l| l.starts_with("Max core file size"));
    let words: Vec<&str> = core.unwrap().split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"]);
    drop(open);
    assert!(!running.0.wait().unwrap().success(), "no passphrase");
    let mut said = String::new();
    let mut told = running.0.stderr.take().unwrap();
    told.read_to_string(&mut said).unwrap();
    assert!(said.contains("passphrase"), "{said}");
}

// shows: III-3-9-protected-import-export, T-KEY-DISCLOSE
#[tokio::test]
async fn a_sealed_root_secret_wants_its_passphrase_at_every_start() {
    let mut site = Site::new();
    let dir = site.token.path().to_owned();
    let at = |name: &str| dir.join(name).display().to_string();
    let software = "kind = \"software\"";
    let (running, client, _) = site.start(software).await;
    let sam = SamSide::new(client).await;
    let root = sam.root.clone();
    drop(running);
    secret(Path::new(&at("short")), b"too short\n");
    secret(
        Path::new(&at("phrase")),
        "correct horse battery staple\n".as_bytes(),
    );
    secret(
        Path::new(&at("wrong")),
        "correct horse battery stable\n".as_bytes(),
    );
    let seal = |phrase: &str| site.command(&["seal-root", "--passphrase-file", &at(phrase)]);
    assert_eq!(seal("short").status.code(), Some(4));
    let sealed = seal("phrase");
    assert!(
        sealed.status.success(),
        "{}",
        String::from_utf8_lossy(&sealed.stderr)
    );
    assert!(
        !in_files(&dir, &[7; 32]),
        "the open secret is nowhere any more"
    );
    assert_eq!(seal("phrase").status.code(), Some(4), "sealed already");
    let said = site.refused(software);
    assert!(said.contains("sealed with a passphrase"), "{said}");
    site.args = vec!["--passphrase-file".to_owned(), at("wrong")];
    let said = site.refused(software);
    assert!(
        said.contains("wrong passphrase") && !said.contains("stable"),
        "{said}"
    );
    site.args = vec!["--passphrase-file".to_owned(), at("phrase")];
    let (_running, client, _) = site.start(software).await;
    let sam = SamSide::new(client).await;
    assert_eq!(sam.root.kid(), root.kid(), "the same module");
}

// shows: III-3-2-approved-algorithms, III-A1.4-approved-algorithms
#[tokio::test]
async fn a_table_of_algorithms_counts_as_an_officer_signed_it_by_command() {
    let mut ruled = Ruled::new();
    let software = "kind = \"software\"";
    let built_in = core_types::Approvals::built_in().unwrap();
    let mut table: serde_json::Value = serde_json::from_str(built_in.text()).unwrap();
    table["version"] = (built_in.version() + 1).into();
    // P-256 is broken.
    let rows = table["approved"].as_array_mut().unwrap();
    rows.retain(|row| row["key"] != "p-256");
    fs::write(ruled.at("table.json"), table.to_string()).unwrap();
    let (key, path) = (ruled.at("officer-1"), ruled.at("table.json"));
    let signed = ruled
        .site
        .done(&["sign-algorithms", "--key", &key, "--table", &path]);
    fs::write(ruled.at("table.jws"), signed).unwrap();
    let officers = ruled.site.settings.clone();
    let with = |file: &str| format!("{officers}\nalgorithms = \"{}\"", ruled.at(file));
    let (signed, open) = (with("table.jws"), with("table.json"));
    ruled.site.settings = open;
    let said = ruled.site.refused(software);
    assert!(
        said.contains("isn't signed by a security officer"),
        "{said}"
    );
    ruled.site.settings = signed;
    let (_running, client, _) = ruled.site.start(software).await;
    let sam = SamSide::new(client).await;
    let no = Refusal::NotAllowed(cm_api::rpc::Reason::Algorithm);
    let refused = sam.try_order(generate(KeyAlg::P256)).await;
    assert!(matches!(refused, Err(CallError::Refused(r)) if r == no));
    let made = sam.order(generate(KeyAlg::P384)).await;
    assert!(matches!(made, Executed::Created(_)));
    // A table that makes no sense isn't signed.
    fs::write(ruled.at("table.json"), "{}").unwrap();
    let wrong = ruled
        .site
        .command(&["sign-algorithms", "--key", &key, "--table", &path]);
    assert_eq!(wrong.status.code(), Some(4));
}

// shows: III-A1.6-backup-keys, III-3-4-authenticate-administrator
#[tokio::test]
async fn the_running_daemon_changes_its_wrapping_key_by_command() {
    let mut ruled = Ruled::new();
    ruled.site.make_token();
    ruled.site.settings += "\nkeys_ahead = { p-256 = 2 }";
    let library = softhsm::Library::SoftHsm2.path().unwrap();
    let wrapped = ruled.site.pkcs11(&library, "natsuin", "keys = \"wrapped\"");
    let (running, client, health) = ruled.site.start(&wrapped).await;
    assert_eq!(health.backend, "pkcs11-wrapped");
    let sam = SamSide::new(client).await;
    let key = sam.key().await;
    let said = ruled.told("change-wrapping", &[]);
    for words in [
        "1 keys wrapped anew, 1 wrapping keys destroyed",
        "NO BACKUP of the module from before",
        "make a new one now",
    ] {
        assert!(said.contains(words), "{said}");
    }
    let later = sam.key().await;
    for (act, key) in [(1, &key), (2, &later)] {
        let signed = sam.order(sign(key, P256, act)).await;
        assert!(matches!(signed, Executed::Signed(_)));
    }
    // Nobody else may, and where nothing is wrapped nothing is changed.
    let stranger = ruled.site.client("ssa.localhost");
    let begin = cm_api::rpc::WrappingRequest { begin: true };
    let no = stranger.call::<cm_api::rpc::ChangeWrapping>(&begin).await;
    assert!(
        matches!(no, Err(CallError::Refused(Refusal::NotAuthentic))),
        "{no:?}"
    );
    drop(running);
    let plain = ruled.site.pkcs11(&library, "natsuin", "");
    ruled.site.settings = ruled.site.settings.replace("keys_ahead", "# keys_ahead");
    let (_running, ..) = ruled.site.start(&plain).await;
    let refused = ruled.asks("change-wrapping", &[]);
    assert_eq!(refused.status.code(), Some(4));
}
