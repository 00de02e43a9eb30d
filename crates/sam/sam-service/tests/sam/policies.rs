//! Under which policy something was approved: its version names one policy for good.

use std::sync::Arc;

use audit_log::{LogKey, Sequencer};
use core_types::random::SystemRandom;
use core_types::{Clock as _, SecretBytes};
use sam_core::Policy;
use sam_service::{SamConfig, StartError};

use crate::kit::*;
use crate::tenants::acme;

/// Starts a node with this policy; what stands against it.
async fn started(world: &World, policy: Policy) -> Option<StartError> {
    let config = SamConfig {
        node: "sam-2".into(),
        policy,
        ..world.config.clone()
    };
    let node = world.node_drawing(config, Arc::new(SystemRandom)).await;
    node.err()
}

const HIDDEN: &str = "UPDATE audit_entry SET kind = 'x' WHERE kind = 'settings.policy-in-force'";
const TAKEN: &str = "DELETE FROM audit_entry WHERE kind = 'settings.policy-in-force'";

fn not_raised(error: Option<StartError>, of: &str) -> bool {
    match error {
        Some(StartError::PolicyNotRaised { tenant, version: 1 }) => tenant.as_str() == of,
        _ => false,
    }
}

// shows: II-3.3.2-config-tamper-detected, T-INS-OPERATOR
#[tokio::test(flavor = "multi_thread")]
async fn a_version_names_one_policy_for_good() {
    for world in worlds().await {
        let first = world.config.policy.clone();
        assert_eq!(first.version, 1);
        let in_force = async |with: &str| world.audited("settings.policy-in-force", with).await;
        assert_eq!(in_force(&first.digest().to_string()).await, 1);
        assert!(started(&world, first.clone()).await.is_none());
        let lax = Policy {
            pin_totp_at_level_2: true,
            ..first.clone()
        };
        assert!(not_raised(started(&world, lax.clone()).await, "demo"));
        assert_eq!(world.audited("alarm", "policy-not-raised").await, 1);
        let second = Policy {
            version: 2,
            ..lax.clone()
        };
        assert!(started(&world, second.clone()).await.is_none());
        assert_eq!(in_force("").await, 2);
        assert_eq!(in_force(&second.digest().to_string()).await, 1);
        // The first one comes back as it was, and not as another one.
        assert!(started(&world, first).await.is_none());
        assert!(not_raised(started(&world, lax).await, "demo"));
        assert_eq!(in_force("").await, 2);
    }
}

/// Whoever writes to the store takes the entry away, or hides it from those who look for its kind, before and after it has its place
/// in the log: nothing starts at all, with whichever policy. Of one that was deleted after archiving `deletion.rs` tells.
// shows: II-3.3.2-config-tamper-detected, T-INS-OPERATOR
#[tokio::test(flavor = "multi_thread")]
async fn what_a_version_names_is_not_forgotten_with_its_entry() {
    for (has_place, attack) in [
        (false, HIDDEN),
        (true, HIDDEN),
        (false, TAKEN),
        (true, TAKEN),
    ] {
        for world in worlds().await {
            if has_place {
                let key = LogKey::from_seed("sam.test/log", &SecretBytes::new(vec![5; 32]));
                let (log, store) = (world.sam.audit().clone(), &world.store);
                let opened = Sequencer::open(log, key.unwrap(), None, store).await;
                let now = world.clock.now();
                opened.unwrap().sequence(store, now).await.unwrap();
            }
            crate::stores::run(&world, attack).await;
            let first = world.config.policy.clone();
            let lax = Policy {
                pin_totp_at_level_2: true,
                ..first.clone()
            };
            for policy in [lax, first] {
                let error = started(&world, policy).await;
                assert!(
                    matches!(error, Some(StartError::Log(_))),
                    "{has_place} {attack}: {error:?}"
                );
            }
        }
    }
}

// shows: II-3.3.2-config-tamper-detected
#[tokio::test(flavor = "multi_thread")]
async fn each_tenant_has_its_own_policies() {
    for mut world in worlds().await {
        let side = acme(&mut world).await;
        let of = world.config.tenants[0].policy.clone();
        assert_ne!(of, world.config.policy);
        let tenants = |version, max_items| {
            let mut tenants = world.config.tenants.clone();
            tenants[0].policy = Policy {
                version,
                max_items,
                ..of.clone()
            };
            SamConfig {
                node: "sam-3".into(),
                tenants,
                ..world.config.clone()
            }
        };
        let start = async |config| {
            let random = Arc::new(SystemRandom);
            world.node_drawing(config, random).await.err()
        };
        // The house's version 1 is another one than this tenant's.
        assert!(start(tenants(1, 3)).await.is_none());
        assert!(not_raised(start(tenants(1, 4)).await, "acme"));
        assert!(start(tenants(9, 2)).await.is_none());
        drop(side);
    }
}
