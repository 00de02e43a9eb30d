//! The daemon as operators start it: with each back end, and refusing to start with a token that can't be used.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod commands;
mod kit;
mod memory;
mod officers;
mod provider_keys;
mod restore;
mod several;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use cm_api::{Executed, ModuleState, Refusal};
use core_types::{Level, SecretBytes};
use pkcs11_faults::softhsm::{self};
use service_kit::CallError;

use kit::*;

// shows: III-3-4-authenticate-application, III-3-7-confidential-channel, III-3-8-integrity-channel
// shows: III-A1.2-import-secure-channel, III-A1.5-export-secure-channel, T-KEY-DATA-DISCLOSE
#[tokio::test]
async fn the_software_back_end_starts_and_answers_the_sam_only() {
    let site = Site::new();
    site.works("kind = \"software\"", "software", Level::One)
        .await;
}

// shows: III-3-13-secure-state, III-3-4-authenticate-administrator, III-3-14-audit-records
// shows: III-3-7-confidential-channel, T-KEY-DATA-DISCLOSE
#[tokio::test]
async fn a_token_is_used_as_configured_or_nothing_starts() {
    let module = softhsm::Library::SoftHsm2.path().unwrap();
    let mut site = Site::new();
    site.make_token();
    // Above level 1 there are two officers, or no module.
    let declared = "declared_level = 2\ndeclaration = \"test, not evaluated\"";
    let right = site.pkcs11(&module, "natsuin", declared);
    let alone = site.refused(&right);
    assert!(alone.contains("at least two different officers"), "{alone}");
    site.settings = site.officers();
    let pin = site.token.path().join("pin");
    let config = |module: &Path, token: &str, more: &str| site.pkcs11(module, token, more);
    let absent = site.refused(&config(Path::new("/nonexistent.so"), "natsuin", ""));
    assert!(
        absent.contains("/nonexistent.so") && absent.contains("pkcs11"),
        "{absent}"
    );
    let other = site.away(&config(&module, "another", ""));
    assert!(other.contains("\"another\""), "{other}");
    let undeclared = site.refused(&config(&module, "natsuin", "declared_level = 2"));
    assert!(undeclared.contains("declaration"), "{undeclared}");
    site.refused("kind = \"hsm\"");
    site.refused("kind = \"software\"\npin_file = \"/p\"");
    secret(&pin, b"87654321");
    let wrong = site.refused(&config(&module, "natsuin", ""));
    assert!(wrong.contains("login"), "{wrong}");
    secret(&pin, PIN.as_bytes());
    fs::set_permissions(&pin, fs::Permissions::from_mode(0o644)).unwrap();
    let open = site.refused(&config(&module, "natsuin", ""));
    assert!(open.contains("others may read"), "{open}");
    fs::set_permissions(&pin, fs::Permissions::from_mode(0o600)).unwrap();
    // A token of software can't be what a certificate names.
    let certified = "declared_level = 2\ndeclaration = \"certificate of a test\"";
    let contradicted = site.refused(&config(&module, "natsuin", certified));
    assert!(contradicted.contains("I-3.5.1-keygen-L2"), "{contradicted}");
    let serial = site.refused(&config(&module, "natsuin", "serial = \"another\""));
    assert!(serial.contains("another serial number"), "{serial}");
    site.works(&right, "pkcs11", Level::Two).await;
    // Keys outside the token count as level 2 only if also that way of keeping them is declared.
    for (more, level) in [
        (format!("{declared}\nkeys = \"wrapped\""), Level::One),
        (
            format!(
                "{declared}\nkeys = \"wrapped\"\nwrapped_declaration = \"test, not evaluated\""
            ),
            Level::Two,
        ),
    ] {
        let wrapped = config(&module, "natsuin", &more);
        site.works(&wrapped, "pkcs11-wrapped", level).await;
    }

    // A module that has a log says in it why it doesn't start.
    site.refused(&config(Path::new("/nonexistent.so"), "natsuin", ""));
    site.away(&config(&module, "another", ""));
    site.refused(&config(&module, "natsuin", certified));
    site.refused(&config(&module, "natsuin", "sessions = 0"));
    secret(&pin, b"87654321");
    site.refused(&config(&module, "natsuin", ""));
    let log = site.token.path().join("log");
    site.done(&["export-log", "--out", &log.display().to_string()]);
    for what in ["library", "token", "contradiction", "settings", "login"] {
        let what = format!("cm-start-{what}");
        assert!(in_files(&log, what.as_bytes()), "{what}");
    }
    // Without its root secret, or with another one, there is no log to write to, and nothing starts either.
    let root = site.token.path().join("root.key");
    secret(&root, &[9; 32]);
    let other = site.refused("kind = \"software\"");
    assert!(other.contains("doesn't open this store"), "{other}");
    fs::remove_file(&root).unwrap();
    let none = site.refused("kind = \"software\"");
    assert!(none.contains("root.key"), "{none}");
}

// shows: T-KEY-MALFUNCTION, T-KEY-ABUSE, T-USE-SAP-REPLAY
#[tokio::test]
async fn a_crash_of_the_library_costs_a_restart_and_gives_no_second_value() {
    let site = Site::new();
    site.make_token();
    let faults = site.token.path().join("faults");
    let backend = site.pkcs11(&softhsm::faulty().unwrap(), "natsuin", "");
    let (mut running, client, _) = site.start(&backend).await;
    let sam = SamSide::new(client).await;
    let key = sam.key().await;
    assert!(matches!(
        sam.order(sign(&key, P256, 1)).await,
        Executed::Signed(_)
    ));
    fs::write(&faults, "C_Sign crash 1").unwrap();
    let lost = sam.try_order(sign(&key, P256, 2)).await;
    assert!(
        !matches!(lost, Ok(_) | Err(CallError::Refused(_))),
        "nobody knows: {lost:?}"
    );
    assert!(!running.0.wait().unwrap().success());
    fs::write(&faults, "").unwrap();
    // As the service manager would.
    let (_again, client, health) = site.start(&backend).await;
    assert_eq!(health.state, ModuleState::Operational);
    let sam = SamSide::new(client).await;
    let spent = sam.try_order(sign(&key, P256, 2)).await;
    assert!(
        matches!(spent, Err(CallError::Refused(Refusal::Duplicate))),
        "{spent:?}"
    );
    assert!(matches!(
        sam.order(sign(&key, P256, 3)).await,
        Executed::Signed(_)
    ));
}

// shows: III-3-13-secure-state, T-KEY-MALFUNCTION
#[tokio::test]
async fn a_device_that_starts_after_the_daemon_wants_no_person_and_a_refused_pin_does() {
    let site = Site::new();
    let faults = site.token.path().join("faults");
    let backend = site.pkcs11(&softhsm::faulty().unwrap(), "natsuin", "");
    // The device isn't there yet, as after a power cut.
    let absent = site.away(&backend);
    assert!(absent.contains("\"natsuin\""), "{absent}");
    site.make_token();
    for line in [
        "C_Initialize rv:0x5",
        "C_GetSlotList rv:0x5",
        "C_OpenSession rv:0xe0",
        "C_Login rv:0x30",
        // Found by the self-tests: nothing signed, and nobody knows whether.
        "C_SignInit rv:0x32",
        "C_Sign rv:0x30",
    ] {
        fs::write(&faults, line).unwrap();
        site.away(&backend);
    }
    for line in ["C_Login rv:0xa0", "C_Sign flip"] {
        fs::write(&faults, line).unwrap();
        site.refused(&backend);
    }
    fs::write(&faults, "").unwrap();
    let (_running, client, health) = site.start(&backend).await;
    assert_eq!(health.state, ModuleState::Operational);
    let sam = SamSide::new(client).await;
    let key = sam.key().await;
    assert!(matches!(
        sam.order(sign(&key, P256, 1)).await,
        Executed::Signed(_)
    ));
}

// shows: III-3-4-authenticate-application, III-3-7-confidential-channel, T-KEY-DATA-DISCLOSE
#[tokio::test]
async fn the_daemon_with_a_kryoptic_token_answers_the_sam_only() {
    let Some(library) = softhsm::childs_library() else {
        let test = "the_daemon_with_a_kryoptic_token_answers_the_sam_only";
        return softhsm::must_pass(test, softhsm::Library::Kryoptic);
    };
    let site = Site::new();
    let module = library.path().unwrap();
    let options = cm_pkcs11::Options {
        module: module.clone(),
        label: "natsuin".to_owned(),
        serial: None,
        pin: SecretBytes::from(PIN.to_owned()),
        declaration: None,
    };
    cm_pkcs11::Pkcs11Backend::initialise(&options).unwrap();
    let backend = site.pkcs11(&module, "natsuin", "");
    site.works(&backend, "pkcs11", Level::One).await;
}
