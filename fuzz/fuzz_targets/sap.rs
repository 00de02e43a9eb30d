//! Hostile SAP messages: what is accepted means the same after it was written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sap::{enrol, messages};
use serde::Serialize;
use serde::de::DeserializeOwned;

fuzz_target!(|data: &[u8]| {
    stable::<sap::Act>(data);
    stable::<sap::Proof>(data);
    stable::<sap::SealedProof>(data);
    stable::<sap::SamKeys>(data);
    stable::<enrol::Invite>(data);
    stable::<enrol::SealedEnrolment>(data);
    stable::<enrol::EnrolmentRecord>(data);
    stable::<messages::OpenRequest>(data);
    stable::<messages::ApproveRequest>(data);
    stable::<messages::RefuseRequest>(data);
    stable::<messages::EnrolOpenRequest>(data);
    stable::<messages::EnrolSeedRequest>(data);
    stable::<messages::EnrolRegisterRequest>(data);
});

fn stable<T: Serialize + DeserializeOwned>(data: &[u8]) {
    if let Ok(message) = serde_json::from_slice::<T>(data) {
        let written = serde_json::to_vec(&message).expect("what was read can be written");
        let again: T = serde_json::from_slice(&written).expect("what was written can be read");
        assert_eq!(serde_json::to_vec(&again).expect("as before"), written);
    }
}
