//! Of what officers decided.

use audit_log::Event;
use audit_verify::{EvidenceFault, ProposalShown};
use core_types::{Clock as _, Digest32, KeyAlg, OfficerId, PersonId, VoucherId};
use sam_api::Refusal;
use sam_api::ssa::*;
use sap::messages::SapRefusalCode;
use sap::office::calls::*;
use sap::office::{KeyAction, Measure, Role};
use serde_json::{Value, json};
use store_kit::{StoreError, sql, transaction};

use super::{Judge, edit, without};
use crate::evidence::Log;
use crate::kit::*;
use crate::office_kit::*;

async fn evidence_of(
    world: &World,
    device: &mut Device,
    proposal: Digest32,
) -> Result<String, OfficeRefusal> {
    let session = world.log_in(device).await?.session;
    let request = ProposalRequest { session, proposal };
    let answer = world.office::<EvidenceOfProposal>(&request).await?;
    Ok(answer.bundle)
}

// shows: I-A2.12-evidence-provided, T-INS-OPERATOR
#[tokio::test(flavor = "multi_thread")]
async fn what_officers_decided_is_shown_by_whom_for_what_and_that_there_were_enough() {
    for world in worlds().await {
        let log = Log::of(&world).await;
        let signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let key = signer.keys[0].key.clone();
        let mut auditor = world.appoint("u", Role::SystemAuditor).await;
        let measure = Measure::Key {
            key: key.clone(),
            action: KeyAction::Destroy,
        };
        // While one is missing, and while the log has no checkpoint over it, nothing is shown.
        let (half, none) = {
            let mut founders = world.officers().await;
            let [a, b, c] = founders.devices.as_mut_slice() else {
                panic!("three")
            };
            let none = world.propose(a, dismiss("u")).await.unwrap().proposal;
            let half = world.propose(a, measure).await.unwrap().proposal;
            world.approve_proposal(b, half).await.unwrap();
            let early = evidence_of(&world, c, half).await.unwrap_err();
            assert_eq!(early.code, SapRefusalCode::NotNow);
            (half, none)
        };
        let judge = Judge::of(&world, &log);
        log.turn(&world).await;
        let first = evidence_of(&world, &mut auditor, half).await.unwrap();
        assert_eq!(
            judge.proposal(&first),
            Err(EvidenceFault::Broken(
                "fewer persons approved than it takes"
            ))
        );
        let refused = evidence_of(&world, &mut auditor, none).await.unwrap_err();
        assert_eq!(rule(refused), "no-approval");
        let unknown = evidence_of(&world, &mut auditor, Digest32([9; 32])).await;
        assert!(unknown.is_err());
        {
            let mut founders = world.officers().await;
            world
                .approve_proposal(&mut founders.devices[2], half)
                .await
                .unwrap();
        }
        log.turn(&world).await;
        let bundle = evidence_of(&world, &mut auditor, half).await.unwrap();
        let shown = judge.proposal(&bundle).unwrap();
        assert_eq!((shown.proposal.clone(), shown.needs), (half.to_string(), 2));
        let by: Vec<&str> = shown.approvals.iter().map(|a| &*a.person[0]).collect();
        assert_eq!(by, ["officer.b", "officer.c"]);
        let by: Vec<&str> = shown
            .approvals
            .iter()
            .filter_map(|a| a.officer.as_deref())
            .collect();
        assert_eq!(by, ["b", "c"]);
        for one in &shown.approvals {
            assert_eq!((&*one.kind, &*one.method), ("officer", "passkey"));
            assert_eq!(one.document, Some(half.to_string()));
            assert_eq!(one.chain.len(), 1, "back to the enrolment of the account");
            let what = one.what.join("\n");
            for part in [
                "measure {\"action\":\"destroy\"",
                key.as_str(),
                "because it is so",
                "asked by Officer a (officer.a)",
            ] {
                assert!(what.contains(part), "{part}: {what}");
            }
            assert!(one.log.iter().any(|(_, kind)| kind == "proposal.approved"));
        }
        forged(&judge, &bundle, &first);
        one_person(&world, &log, &judge, (half, &shown)).await;

        // Each time that it was handed out is an entry of whoever read it, with what was read.
        let read = async |what: &str| world.audited("audit.read", what).await;
        assert_eq!(read(&half.to_string()).await, 2);
        assert_eq!(read(&none.to_string()).await, 0);
        assert_eq!(read("\"evidence\"").await, 2);
        let by = format!("\"reader\":\"{}\"", auditor.account.as_str());
        assert_eq!(read(&by).await, 2);

        // The signer is told by what it was decided, and gets nothing that names the officers.
        let told = &world.history(&signer).await[0];
        assert_eq!((told.act, told.proposal), (None, Some(half)));
        let receipt = world.receipt(&signer, half).await;
        assert_eq!(receipt.unwrap_err(), Refusal::NotFound);
        // Nor does the SSA get it through the signers' call, by whoever asked or approved.
        for account in ["officer.a", "officer.b"] {
            for act in [&half.to_string(), &shown.approvals[0].act] {
                let request = ReceiptRequest {
                    person: PersonId::parse(account).unwrap(),
                    act: Digest32::parse(act).unwrap(),
                };
                let receipt = world.sam.receipt(request).await;
                assert_eq!(receipt.unwrap_err(), Refusal::NotFound, "{account}");
            }
        }

        // What can't be recorded isn't handed out, though the log can be read.
        let session = world.log_in(&mut auditor).await.unwrap().session;
        let broken: Result<(), StoreError> = transaction!(world.store.store, "broken", |tx| {
            tx.execute(sql("UPDATE audit_head SET n = 1")).await?;
            Ok(())
        });
        broken.unwrap();
        let request = SessionRequest {
            session: session.clone(),
        };
        assert!(world.office::<Proposals>(&request).await.is_ok());
        let request = ProposalRequest {
            session,
            proposal: half,
        };
        assert!(world.office::<EvidenceOfProposal>(&request).await.is_err());
    }
}

fn forged(judge: &Judge, bundle: &str, other: &str) {
    let other: Value = serde_json::from_str(other).unwrap();
    judge.none_of(
        bundle,
        &[
            ("another proposal", &|b| {
                b["proposal"] = json!(Digest32([1; 32]));
            }),
            ("an approval less", &|b| {
                b["approvals"].as_array_mut().unwrap().pop();
            }),
            ("one approval twice", &|b| {
                b["approvals"][1] = b["approvals"][0].clone();
            }),
            ("the same of another checkpoint", &|b| {
                b["approvals"][1] = other["approvals"][0].clone();
            }),
            ("no approval", &|b| b["approvals"] = json!([])),
            ("another measure", &|b| {
                edit(&mut b["approvals"][0], "\"destroy\"", "\"suspend\"");
            }),
            ("another reason", &|b| {
                edit(&mut b["approvals"][1], "because it", "although it");
            }),
            ("no word of the proposal in the log", &|b| {
                without(&mut b["approvals"][0], "proposal.made");
            }),
            ("no word of the approval in the log", &|b| {
                without(&mut b["approvals"][1], "proposal.approved");
            }),
            ("an unknown member", &|b| b["more"] = json!(1)),
        ],
    );
}

/// Whoever has two accounts is one person still: the second approval shows nothing when the log says that its account is of the
/// officer who gave the first, or who asked.
async fn one_person(world: &World, log: &Log, judge: &Judge, of: (Digest32, &ProposalShown)) {
    let approvals = last_claimed(world, log, of, &["b", "a"]).await;
    for (officer, found) in [
        ("c", None),
        ("b", Some("one person approved twice")),
        ("a", Some("who asked is who approved")),
    ] {
        let judged = judge.proposal(&last_by(of.0, &approvals, officer));
        match found {
            None => assert_eq!(judged.unwrap().approvals.len(), 2),
            Some(what) => assert_eq!(judged, Err(EvidenceFault::Broken(what))),
        }
    }
}

/// The approvals of a proposal, once the log says that the last one was given by each of these officers too.
async fn last_claimed(
    world: &World,
    log: &Log,
    (proposal, shown): (Digest32, &ProposalShown),
    officers: &[&str],
) -> Vec<Value> {
    let (audit, now) = (world.sam.audit(), world.clock.now());
    let last = shown.approvals.last().unwrap();
    for officer in officers {
        let event = Event::ProposalApproved {
            proposal,
            act: Digest32::parse(&last.act).unwrap(),
            account: PersonId::parse(last.person[0].as_str()).unwrap(),
            officer: OfficerId::parse(*officer).unwrap(),
            given: 2,
            needs: 2,
        };
        let done: Result<(), StoreError> = transaction!(world.store.store, "claim", |tx| {
            audit.append(tx, event.clone(), now).await.map(drop)
        });
        done.unwrap();
    }
    log.turn(world).await;
    let mut approvals = Vec::new();
    for one in &shown.approvals {
        let act = Digest32::parse(&one.act).unwrap();
        let (store, root) = (&world.store.store, world.sam.root());
        let made = sam_service::bundle(store, root, &one.person[0], act).await;
        approvals.push(serde_json::from_str::<Value>(&made.unwrap()).unwrap());
    }
    approvals
}

/// Evidence with what the log says of the last approval by this officer only.
fn last_by(proposal: Digest32, approvals: &[Value], officer: &str) -> String {
    let mut approvals = approvals.to_vec();
    let last = approvals.last_mut().unwrap();
    let own = format!("\"officer\":\"{officer}\"");
    last["entries"].as_array_mut().unwrap().retain(|e| {
        let body = e["body"].as_str().unwrap();
        !body.contains("\"proposal.approved\"") || body.contains(&own)
    });
    let all = json!({
        "format": "natsuin-proposal/1",
        "proposal": proposal,
        "approvals": approvals,
    });
    all.to_string()
}

/// Nor by whoever had the link of the account that is confirmed, or by whoever is meant, whatever the log says.
// shows: I-A2.12-evidence-provided, T-INS-OPERATOR, T-REG-IMPERSONATE
#[tokio::test(flavor = "multi_thread")]
async fn an_approval_by_who_had_the_link_or_is_meant_shows_nothing() {
    for world in worlds().await {
        let log = Log::of(&world).await;
        let judge = Judge::of(&world, &log);
        let (measure, secret) = appointment("u", &[Role::SystemAuditor], world.clock.now());
        let done = world.decide(measure).await.unwrap();
        let voucher = VoucherId::parse(done.proposal.to_string()).unwrap();
        let mut meant = world.enrol_officer(&voucher, &secret).await.unwrap();
        let confirmed = world.ask_confirm(&mut meant).await.unwrap().proposal;
        let by_b = world
            .approve_proposal(&mut world.officers().await.devices[1], confirmed)
            .await;
        assert_eq!(by_b.unwrap().state, ProposalState::Done);
        let dismissed = world.decide(dismiss("u")).await.unwrap().proposal;
        log.turn(&world).await;
        for (proposal, officer, found) in [
            (
                confirmed,
                "a",
                "who asked for the account is who confirmed it",
            ),
            (dismissed, "u", "who is meant is who approved"),
        ] {
            let mut founders = world.officers().await;
            let bundle = evidence_of(&world, &mut founders.devices[2], proposal).await;
            drop(founders);
            let shown = judge.proposal(&bundle.unwrap()).unwrap();
            let own = shown.approvals.last().unwrap().officer.clone().unwrap();
            let approvals = last_claimed(&world, &log, (proposal, &shown), &[officer]).await;
            let judged = |officer: &str| judge.proposal(&last_by(proposal, &approvals, officer));
            assert_eq!(judged(officer), Err(EvidenceFault::Broken(found)));
            assert!(judged(&own).is_ok());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_in_of_an_officer_decides_nothing() {
    for world in worlds().await {
        let log = Log::of(&world).await;
        let act = {
            let mut founders = world.officers().await;
            let device = &mut founders.devices[0];
            let request = LogInOpenRequest {
                account: device.account.clone(),
            };
            let act = world.office::<LogInOpen>(&request).await.unwrap().act;
            let act = sap::act_digest(&act);
            let proof = device.passkey.prove(act).unwrap();
            let request = ProofRequest {
                proof,
                switch: None,
            };
            world.office::<LogIn>(&request).await.unwrap();
            act
        };
        log.turn(&world).await;
        let made =
            sam_service::bundle(&world.store.store, world.sam.root(), "officer.a", act).await;
        let text = made.unwrap();
        let judge = Judge::of(&world, &log);
        let shown = judge.one(&text).unwrap();
        assert!(shown.what[0].starts_with("log-in: "), "{:?}", shown.what);
        let one: Value = serde_json::from_str(&text).unwrap();
        let all = json!({
            "format": "natsuin-proposal/1",
            "proposal": Digest32([1; 32]),
            "approvals": [one],
        });
        assert!(judge.proposal(&all.to_string()).is_err());
    }
}
