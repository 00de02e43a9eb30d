//! The module's officers are those of its first start, until two of them say otherwise.

use std::fs;

use cm_api::rpc::Empty;

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
    let backup = site.done(&["backup", "--out", &at("backup")]);
    assert!(backup.contains("two of 2 officers approve"), "{backup}");
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
