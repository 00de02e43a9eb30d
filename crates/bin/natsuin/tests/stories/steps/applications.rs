//! The same as an application hears it: from the SSA's daemon, which is not killed.

use std::collections::BTreeSet;
use std::sync::Arc;

use cm_api::rpc::Execute;
use core_types::bytes::b64;
use core_types::rpc::Method as _;
use csc_types::SecretText;
use sam_api::ssa::{About, Keys, Sign, SignAnswer, Watched};
use serde_json::json;

use super::doors::Cut;
use super::stopped;
use super::way::{CALL, EVERY, OTHERS};
use super::world::{At, World};
use crate::daemons::{Middle, Service, invite};
use crate::kit::{until, within};
use crate::site::Program;
use crate::spend::{Spender, approval, body, hashes};

/// What an SSA asks beside, without changing anything.
const BESIDE: [&str; 3] = [About::PATH, Keys::PATH, Watched::PATH];

/// The calls of applications that are cut.
pub const CALLS: [(At, &str, Cut); 3] = [
    (At::Module, Execute::PATH, Cut::Arrived),
    (At::Ssa, Sign::PATH, Cut::Arrived),
    (At::Ssa, Sign::PATH, Cut::Answered),
];

/// What stands before the SAM: the daemons of the page and of the SSA, and an application's call that is lost.
pub struct Front {
    pub gateway: Program,
    pub service: Service,
    spender: Arc<Spender>,
    lost: (SecretText, String),
}

impl World {
    /// Kills it under calls of an application, which hears of it from the SSA's daemon.
    pub async fn at_applications(&mut self) -> Front {
        let ([sic, portal], page) = (self.outside, &self.ports.origin);
        let gateway = self.site.gateway(sic, page, self.page.port).await;
        let middle = Middle {
            site: &self.site,
            root: self.root.clone(),
            page: page.clone(),
            sam: self.ssa.port,
            http: self.site.http(),
        };
        let ca = &self.site.ca;
        let service = middle.service("ssa", "test", portal, ca).await;
        let (invite, voucher) = invite(&service, "p-hanako");
        let (status, registered) = middle.hand_in(&service, invite).await;
        assert_eq!(status, 201, "{registered:?}");
        let registered = registered.unwrap();
        let mut member = middle.join(&service, &registered, voucher).await;
        for at in [At::Ssa, At::Page] {
            self.door(at).take_seen();
        }
        let (_, key, _) = member.sign().await;
        let beside = BESIDE.map(str::to_owned).into_iter();
        let known: BTreeSet<String> = stopped(At::Ssa).into_iter().chain(beside).collect();
        let seen = self.ssa.take_seen();
        assert!(seen.is_subset(&known), "without a row: {seen:?}");
        let seen = self.page.take_seen();
        assert!(seen.is_subset(&stopped(At::Page)), "{seen:?}");

        let mut calls = Vec::new();
        for call in CALLS {
            let approved = hashes(1);
            let token = member.token(approval(&key, &approved)).await;
            calls.push((call, token, body(&key, &approved)));
        }
        let spender = Arc::new(member.spender);
        let mut cut = Vec::new();
        for ((at, path, place), token, body) in calls {
            let held = self.door(at).stop_at(path, place);
            let (by, with, what) = (spender.clone(), token.clone(), body.clone());
            let post = async move { by.post(&with, what, Some(CALL)).await };
            let going = tokio::spawn(post);
            let held = within(path, held).await.unwrap();
            cut.push(((at, place), (token, body), going, held));
        }
        self.sam.kill();
        let mut told = Vec::new();
        for (place, call, going, held) in cut {
            let withheld = held.withhold();
            let (status, said) = within("an application's answer", going).await.unwrap();
            assert_eq!((status, &said["error"]), (500, &json!("server_error")));
            let advice = said["error_description"].as_str().unwrap();
            assert!(
                advice.contains("repeat with the same Idempotency-Key"),
                "{advice}"
            );
            told.push((place, call, withheld));
        }
        self.starts().await;
        let mut lost = None;
        for ((at, place), (token, body), withheld) in told {
            let (status, said) = spender.post(&token, body.clone(), Some(CALL)).await;
            if at == At::Module {
                let named = said["error"] == "temporarily_unavailable"
                    || said["error_description"] == csc_types::OUTCOME_LOST;
                assert!(named, "{status} {said}");
                lost = Some((token, body));
                continue;
            }
            assert_eq!(status, 200, "{said}");
            if place == Cut::Answered {
                let made: SignAnswer = serde_json::from_slice(&withheld).unwrap();
                assert_eq!(said["signatures"], json!([b64(&made.signatures[0])]));
            }
            for other in OTHERS {
                assert_eq!(spender.post(&token, body.clone(), other).await.0, 401);
            }
        }
        Front {
            gateway,
            service,
            spender,
            lost: lost.unwrap(),
        }
    }
}

impl Front {
    /// Once the end of its order is past, the call that was taken is told to be lost.
    pub async fn is_lost(&self) {
        let (token, body) = &self.lost;
        let post = async |call: Option<&'static str>| {
            let sent = self.spender.post(token, body.clone(), call);
            sent.await
        };
        let mut ticks = tokio::time::interval(EVERY);
        until("the end of the application's order", async || {
            ticks.tick().await;
            post(Some(CALL)).await.0 != 503
        })
        .await;
        let (status, said) = post(Some(CALL)).await;
        assert_eq!(status, 500, "{said}");
        assert_eq!(said["error_description"], csc_types::OUTCOME_LOST);
        for other in OTHERS {
            assert_eq!(post(other).await.0, 401);
        }
    }
}
