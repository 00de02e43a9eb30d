//! The walls between zones: whose certificate opens what. What whole zones can do that somebody took over is in `hostile_ssa` and
//! `hostile_gateway`.

use core_types::random::SystemRandom;
use core_types::rpc::Method;
use core_types::{KeyAlg, Random as _};
use natsuin::stack::{NAME_CM, NAME_SAM, NAME_SIC, NAME_SSA};
use sam_api::ssa::{About, Status};
use service_kit::Client;

use crate::kit::Story;

/// The status with which a listener answers a well-formed message; nothing when it doesn't talk at all.
async fn status(caller: &Client, path: &str, body: &str) -> Option<u16> {
    let answer = caller.forward(path, body.as_bytes().to_vec()).await;
    answer.ok().map(|(status, _)| status)
}

// shows: III-3-4-authenticate-application, T-USE-SAP-BYPASS, I-7.1.2.1-identify-authenticate-each-user,
// I-4.2.1-player-roles
#[tokio::test(flavor = "multi_thread")]
async fn a_zone_opens_to_its_own_callers_only() {
    let story = Story::begin(KeyAlg::P256).await;
    let inner = story.stack.inner.clone();
    let rid = format!("{{\"rid\":\"{}\"}}", SystemRandom.digest32());
    let doors = [
        (
            &inner.module,
            NAME_SAM,
            vec![("/cm/v1/root", "{}"), ("/cm/v1/status", "{}")],
        ),
        (
            &inner.sam_for_ssa,
            NAME_SSA,
            vec![(About::PATH, "{}"), (Status::PATH, rid.as_str())],
        ),
        (
            &inner.sam_for_sic,
            NAME_SIC,
            vec![
                (sap::messages::Keys::PATH, "{}"),
                (sap::messages::Open::PATH, rid.as_str()),
            ],
        ),
    ];
    let everybody = [NAME_CM, NAME_SAM, NAME_SSA, NAME_SIC, "stranger.example"];
    let paths: Vec<&str> = doors
        .iter()
        .flat_map(|(.., own)| own.iter().map(|(path, _)| *path))
        .collect();
    for (door, owner, own) in &doors {
        for name in everybody {
            let caller = story.stack.caller(door, name).unwrap();
            for (path, body) in own {
                let got = status(&caller, path, body).await;
                if name != *owner {
                    assert_eq!(got, Some(422), "{name} at {path}");
                } else if *body == "{}" {
                    assert_eq!(got, Some(200), "{name} at {path}");
                }
            }
        }
        // What one listener serves, no other does: a gateway can't prepare, and an SSA can't approve.
        let caller = story.stack.caller(door, owner).unwrap();
        for path in paths.iter().filter(|p| !own.iter().any(|(o, _)| o == *p)) {
            assert_eq!(status(&caller, path, "{}").await, Some(404), "{path}");
        }
    }
    story.stack.stop().await;
}
