//! Two tokens as one back end, one of which isn't there when the daemon starts.

use std::fs;
use std::time::Duration;

use cm_api::rpc::MemberState::{Awaited, Well};
use cm_api::rpc::{Empty, MemberState, Status};
use cm_api::{Executed, Health, ModuleState};
use pkcs11_faults::softhsm::{self, Library};

use crate::kit::*;

/// The first one's library finds no slot.
const AWAY: &str = "C_GetSlotList rv:0x5";

/// Two tokens, label and PIN's file of each; the first behind the faulty module.
fn tokens(site: &Site, two: [(&str, &str); 2]) -> String {
    let modules = [softhsm::faulty(), Library::SoftHsm2.path()];
    let tables = modules.into_iter().zip(two).map(|(module, (token, pin))| {
        let (module, pin) = (module.unwrap(), site.token.path().join(pin));
        format!(
            "[[backend.tokens]]\nmodule = \"{}\"\ntoken = \"{token}\"\npin_file = \"{}\"\n",
            module.display(),
            pin.display()
        )
    });
    let tables: String = tables.collect();
    format!("kind = \"several\"\nshared = false\n{tables}")
}

fn states(health: &Health) -> Vec<MemberState> {
    health.members.iter().map(|m| m.state).collect()
}

// shows: T-KEY-MALFUNCTION, III-3-13-secure-state, III-3-14-audit-records
#[tokio::test]
async fn tokens_start_without_one_that_is_away_and_take_it_in_when_it_comes() {
    let site = Site::new();
    for label in ["natsuin", "natsuin-2"] {
        site.make(label);
    }
    let faults = site.token.path().join("faults");
    let right = tokens(&site, [("natsuin", "pin"), ("natsuin-2", "pin")]);
    // Before the module has ever started all have to be there: a label may be misspelt.
    fs::write(&faults, AWAY).unwrap();
    site.away(&right);
    fs::write(&faults, "").unwrap();
    let (running, _, health) = site.start(&right).await;
    assert_eq!(states(&health), [Well, Well]);
    drop(running);
    // One that is there and refuses the login stops the start, and so does it that nobody is there.
    fs::write(&faults, AWAY).unwrap();
    secret(&site.token.path().join("wrong"), b"87654321");
    let pin = tokens(&site, [("natsuin", "pin"), ("natsuin-2", "wrong")]);
    let refused = site.refused(&pin);
    assert!(refused.contains("login"), "{refused}");
    site.away(&tokens(&site, [("natsuin", "pin"), ("nobody", "pin")]));
    let (running, client, health) = site.start(&right).await;
    assert_eq!(states(&health), [Awaited, Well]);
    assert_eq!(health.state, ModuleState::Degraded);
    let sam = SamSide::new(client).await;
    let key = sam.key().await;
    let signed = sam.order(sign(&key, P256, 1)).await;
    assert!(matches!(signed, Executed::Signed(_)));
    drop(running);
    // It is away at the start, and there at the first look after it.
    fs::write(&faults, format!("{AWAY} 1")).unwrap();
    let (running, client, mut health) = site.start(&right).await;
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    for _ in 0..3600 {
        if states(&health) == [Well, Well] {
            break;
        }
        ticks.tick().await;
        health = client.call::<Status>(&Empty {}).await.unwrap();
    }
    assert_eq!(states(&health), [Well, Well]);
    assert_eq!(health.state, ModuleState::Operational);
    // It is used before that is recorded.
    for _ in 0..3600 {
        if in_files(site.token.path(), b"cm-device-joined") {
            break;
        }
        ticks.tick().await;
    }
    drop(running);
    let log = site.token.path().join("log");
    site.done(&["export-log", "--out", &log.display().to_string()]);
    for what in ["cm-device-awaited", "cm-device-joined", "cm-start-login"] {
        assert!(in_files(&log, what.as_bytes()), "{what}");
    }
}
