//! The module's officers are those of its first start, until two of them say otherwise.

use std::fs;
use std::process::Command;

use cm_api::rpc::Empty;
use core_types::Clock as _;
use core_types::clock::SystemClock;
use signed_config::{Manifest, TYP_SETTINGS, Zone};

use crate::kit::*;

const SOFTWARE: &str = "kind = \"software\"";

// shows: III-A1.4.2-dual-control, T-INS-OPERATOR
#[tokio::test]
async fn an_administrator_who_names_keys_of_their_own_has_no_module() {
    let mut site = Site::new();
    let dir = site.token.path().to_owned();
    let at = |name: &str| dir.join(name).display().to_string();
    site.settings = site.officers();
    let first = site.settings.clone();
    let (running, client, _) = site.start(SOFTWARE).await;
    let root = client.call::<cm_api::rpc::Root>(&Empty {}).await.unwrap();
    fs::write(at("root.jwk"), serde_json::to_vec(&root.root).unwrap()).unwrap();
    drop(running);
    for own in ["officer-3", "officer-4"] {
        let public = at(&format!("{own}.jwk"));
        site.done(&["officer-key", "--out", &at(own), "--public", &public]);
    }
    let (three, four) = (at("officer-3.jwk"), at("officer-4.jwk"));
    let own = format!("officers = [\"{three}\", \"{four}\"]\n");
    site.settings = own.clone();
    let said = site.refused(SOFTWARE);
    for word in [
        "(code cm-officers)",
        "list 1",
        "approve-officers",
        "officer_changes",
    ] {
        assert!(said.contains(word), "{said}");
    }
    // Whoever signs: their own keys, one officer, or two of those whom the module knows.
    let changes = at("changes.jws");
    let with_changes = format!("{own}officer_changes = \"{changes}\"\n");
    let sign = |site: &Site, by: [&str; 2]| {
        let line = |officer: &str| {
            site.done(&[
                "approve-officers",
                "--key",
                &at(&format!("officer-{officer}")),
                "--root",
                &at("root.jwk"),
                "--version",
                "2",
                "--reason",
                "both have left",
                "--officer",
                &three,
                "--officer",
                &four,
            ])
        };
        fs::write(&changes, by.map(line).concat()).unwrap();
    };
    for by in [["3", "4"], ["1", "3"], ["1", "1"]] {
        sign(&site, by);
        site.settings = with_changes.clone();
        let said = site.refused(SOFTWARE);
        assert!(said.contains("(code cm-officers)"), "{by:?}: {said}");
        site.settings = own.clone();
    }
    sign(&site, ["1", "2"]);
    site.settings = with_changes;
    drop(site.start(SOFTWARE).await);
    // Those of before aren't any more.
    site.settings = first;
    let said = site.refused(SOFTWARE);
    assert!(said.contains("list 2"), "{said}");
    site.settings = format!("{own}officer_changes = \"{changes}\"\n");
    let log = at("log");
    site.done(&["export-log", "--out", &log]);
    for told in ["cm.officers-in-force", "cm-officers-refused"] {
        assert!(in_files(log.as_ref(), told.as_bytes()), "{told}");
    }
    // Nothing has to run for the key of the log to be known.
    let exported = fs::read_to_string(dir.join("log/log.pub")).unwrap();
    assert_eq!(site.done(&["log-key"]).trim(), exported.trim());
    let backup = site.done(&["backup", "--out", &at("backup")]);
    assert!(backup.contains("two of 2 officers approve"), "{backup}");
}

// shows: III-A1.4.2-dual-control
#[test]
fn at_home_an_officer_needs_the_name_of_the_sam_and_no_more_of_the_configuration() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name).display().to_string();
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_natsuin-cm"));
        let done = command.arg("--config").arg(at("home.toml")).args(args);
        done.output().unwrap()
    };
    let (key, public) = (at("own.key"), at("own.jwk"));
    let made = run(&["officer-key", "--out", &key, "--public", &public]);
    assert!(made.status.success(), "{made:?}");
    // Any key of that kind will do for the module's.
    let approve = [
        "approve",
        "--key",
        &key,
        "--root",
        &public,
        "--to",
        "disabled",
        "--serial",
        "1",
        "--reason",
        "r",
        "--exp",
        "1790000000",
    ];
    assert!(!run(&approve).status.success(), "for whose module?");
    fs::write(at("home.toml"), "sam = \"sam.test\"\n").unwrap();
    let approved = run(&approve);
    assert!(approved.status.success(), "{approved:?}");
    let said = String::from_utf8_lossy(&approved.stderr);
    assert!(said.contains("The module of sam.test"), "{said}");
    // What concerns the module's machine isn't done with so little.
    let target = run(&["restore-target"]);
    assert!(!target.status.success(), "{target:?}");
}

// shows: II-3.3.2-config-tamper-detected
#[tokio::test]
async fn a_signed_configuration_is_obeyed_and_a_changed_one_is_not() {
    let mut site = Site::new();
    let path = site.token.path().join("cm.toml");
    let beside = path.with_added_extension("sig");
    site.settings = "signed_settings = true".to_owned();
    let said = site.refused(SOFTWARE);
    assert!(said.contains("(code settings-refused)"), "{said}");
    let keys = [0; 2].map(|_| jose::SigningKey::generate().unwrap().0);
    let files = service_kit::daemon::digests(&path, cm_core::SIGNED_FILES, None).unwrap();
    let manifest = Manifest {
        v: 2,
        of: Zone::Cm.of("test/cm"),
        serial: 1,
        reason: "first start".into(),
        exp: SystemClock.now().plus(600),
        need: 2,
        signers: keys.iter().map(|k| k.public().clone()).collect(),
        nodes: [("cm-1".to_owned(), files)].into(),
    };
    let bytes = manifest.bytes().unwrap();
    let lines = keys
        .each_ref()
        .map(|k| k.sign(TYP_SETTINGS, &bytes).unwrap());
    fs::write(&beside, &lines[0]).unwrap();
    site.refused(SOFTWARE);
    fs::write(&beside, lines.join("\n")).unwrap();
    drop(site.start(SOFTWARE).await);
    // A command beside the daemon goes by it too; and so does a start that doesn't ask for signatures any more.
    let log = site.token.path().join("log").display().to_string();
    site.done(&["export-log", "--out", &log]);
    assert!(in_files(log.as_ref(), b"settings.adopted"));
    for settings in ["", "signed_settings = true\nkey_life_days = 9000"] {
        site.settings = settings.to_owned();
        let backup = site.token.path().join("backup");
        let out = backup.display().to_string();
        let none = site.token.path().join("none").display().to_string();
        let forget = ["forget-person", "--person", "p", "--salt", &none];
        for args in [
            vec![],
            vec!["backup", "--out", &out],
            [&forget[..], &["--taken", &none]].concat(),
        ] {
            site.args = args.iter().map(|arg| (*arg).to_owned()).collect();
            let said = site.refused(SOFTWARE);
            assert!(said.contains("(code settings-refused)"), "{args:?}: {said}");
        }
        assert!(!backup.exists());
        site.args.clear();
    }
    // Nor has it had an effect by then: no library was loaded that it names, and the officers are whom they were.
    let own = format!("signed_settings = true\n{}", site.officers());
    site.settings = own.clone();
    let library = site.pkcs11("/no/library.so".as_ref(), "natsuin", "");
    for backend in [SOFTWARE, &library] {
        let said = site.refused(backend);
        assert!(said.contains("(code settings-refused)"), "{said}");
    }
    let copy = site.token.path().join("copy").display().to_string();
    for beside_it in [&["scrub"][..], &["backup", "--out", &copy]] {
        let ended = site.command(beside_it);
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(said.contains("(code settings-refused)"), "{said}");
    }
    site.settings = "signed_settings = true".to_owned();
    drop(site.start(SOFTWARE).await);
    site.settings = own;
    fs::remove_file(&beside).unwrap();
    site.refused(SOFTWARE);
}

#[tokio::test]
async fn a_backup_without_officers_says_that_nobody_approves_its_restore() {
    let site = Site::new();
    drop(site.start(SOFTWARE).await);
    let out = site.token.path().join("backup").display().to_string();
    let made = site.done(&["backup", "--out", &out]);
    assert!(made.contains("NO OFFICER approves its restore"), "{made}");
    let checked = site.done(&["check-backup", "--from", &out]);
    assert!(
        checked.contains("NO OFFICER approves its restore"),
        "{checked}"
    );
}
