//! The model test of `sap.md` §14: two nodes on one store, an adversary who reorders, repeats and drops messages,
//! crashes anywhere, time that passes and backups that are restored. Whatever happens: a value exists only for an
//! item of an act that was approved, at most once, and never after the key was stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use core_types::{B64, Digest32, KeyAlg, sha256};
use futures_util::future::join_all;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use sam_api::ssa::{BindRequest, SignRequest};
use sam_service::Sam;
use sap::messages::{ApproveRequest, OpenRequest, RefuseRequest};
use sap::{Proof, act_digest};

use crate::cm::{Cm, Fault, Refused};
use crate::kit::*;

const CASES: u32 = 16;

/// What the adversary can do. Numbers choose among what there is, modulo their count.
#[derive(Debug, Clone)]
enum Op {
    Prepare {
        items: u8,
    },
    Open {
        request: u8,
    },
    Prove {
        act: u8,
    },
    Bind {
        request: u8,
        token: u8,
    },
    Sign {
        token: u8,
        mask: u8,
        idempotent: bool,
    },
    Refuse {
        act: u8,
    },
    /// Delivers a message again, or one that was held back.
    Deliver {
        message: u8,
        fault: Option<Fault>,
    },
    /// Delivers several at once, spread over both nodes.
    Race {
        messages: Vec<u8>,
    },
    Advance {
        seconds: u16,
    },
    Restart {
        node: bool,
    },
    Restore,
    /// Tries a PIN at a proof, with the code of the moment.
    Guess {
        act: u8,
        right: bool,
    },
    /// Guesses so many times, each for an act of its own and after a long wait.
    Siege {
        times: u8,
    },
    /// The signer stops the key.
    Suspend,
    /// The signer and an honest client go the whole way, step by step.
    Honest,
}

#[derive(Clone)]
enum Message {
    Approve(Proof),
    Bind(Digest32, String),
    Sign(Box<SignRequest>),
    Refuse(Digest32),
}

/// What an adversary knows and what must hold.
#[derive(Default)]
struct Model {
    requests: Vec<(Digest32, Vec<B64>)>,
    acts: Vec<(Digest32, Vec<B64>)>,
    messages: Vec<Message>,
    /// Items of acts for which a proof was accepted.
    approved: BTreeSet<Digest32>,
    refused: BTreeSet<Digest32>,
    /// Values that left, by item.
    values: BTreeMap<B64, B64>,
    stopped: bool,
    /// PINs that the module compared since one was right.
    guesses: usize,
    /// Right ones.
    opened: usize,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let fault = prop_oneof![
        Just(Fault::LostBefore),
        Just(Fault::LostAfter),
        Just(Fault::NeverAnswers),
        Just(Fault::NeverArrives),
        Just(Fault::Refuse(Refused::NotOperational)),
        Just(Fault::BitFlip),
    ];
    let op = prop_oneof![
        3 => (1..4u8).prop_map(|items| Op::Prepare { items }),
        4 => any::<u8>().prop_map(|request| Op::Open { request }),
        5 => any::<u8>().prop_map(|act| Op::Prove { act }),
        5 => (any::<u8>(), 0..2u8).prop_map(|(request, token)| Op::Bind { request, token }),
        6 => (0..2u8, any::<u8>(), any::<bool>())
            .prop_map(|(token, mask, idempotent)| Op::Sign { token, mask, idempotent }),
        1 => any::<u8>().prop_map(|act| Op::Refuse { act }),
        12 => (any::<u8>(), proptest::option::weighted(0.3, fault))
            .prop_map(|(message, fault)| Op::Deliver { message, fault }),
        4 => vec(any::<u8>(), 2..5).prop_map(|messages| Op::Race { messages }),
        2 => prop_oneof![Just(1u16), Just(31), Just(290), Just(301), Just(1000)].prop_map(|seconds| Op::Advance { seconds }),
        1 => any::<bool>().prop_map(|node| Op::Restart { node }),
        1 => Just(Op::Restore),
        4 => (any::<u8>(), proptest::bool::weighted(0.3))
            .prop_map(|(act, right)| Op::Guess { act, right }),
        1 => (8..13u8).prop_map(|times| Op::Siege { times }),
        1 => Just(Op::Suspend),
        3 => Just(Op::Honest),
    ];
    vec(op, 20..60)
}

// shows: II-3.3.1-sap-replay-bypass-forgery, T-USE-SAP-REPLAY, T-USE-SAP-BYPASS, II-A1-sad-once,
// I-7.1.2.5-authentication-failure-lockout
#[tokio::test(flavor = "multi_thread")]
async fn no_order_of_messages_and_crashes_makes_an_unapproved_or_a_second_value() {
    for world in worlds().await {
        let mut runner = TestRunner::new(Config::default());
        let (mut values, mut opened) = (0, 0);
        for case in 0..CASES {
            let ops = ops().new_tree(&mut runner).unwrap().current();
            let model = play(&world, case, &ops).await;
            values += model.values.len();
            opened += model.opened;
        }
        // The adversary isn't kept from everything: some signatures were made, and each PIN was right once, or the test shows nothing.
        assert!(values > 0 && opened >= CASES as usize);
        let (made, taken) = (
            world.audited("signature.made", "").await,
            world.audited("sad.consumed", "").await,
        );
        assert!(made <= taken, "a value without its intent record");
    }
}

async fn play(world: &World, case: u32, ops: &[Op]) -> Model {
    let mut signer = world
        .enrol(&format!("p-{case}"), true, &[KeyAlg::P256])
        .await;

    let mut nodes = [world.sam.inside(), world.node("sam-2").await.inside()];
    let mut model = Model::default();
    // The signer proves the PIN once, so that there is something to guess.
    let first = [
        Op::Advance { seconds: 31 },
        Op::Prepare { items: 1 },
        Op::Open { request: 0 },
        Op::Guess {
            act: 0,
            right: true,
        },
    ];
    for (n, op) in first.iter().chain(ops).enumerate() {
        let node = nodes[n % 2].clone();
        match op {
            Op::Deliver { message, fault } => {
                let Some(message) = pick(&model.messages, *message).cloned() else {
                    continue;
                };
                fault.iter().for_each(|f| world.cm.next(*f));
                let outcome = deliver_or_die(world, node, message).await;
                world.cm.calm();
                model.learn(outcome, ops);
                model.stopped |= *fault == Some(Fault::BitFlip) && is_stopped(world, &signer).await;
            }
            Op::Race { messages } => {
                let chosen: Vec<_> = messages
                    .iter()
                    .filter_map(|m| pick(&model.messages, *m).cloned())
                    .collect();
                let calls = chosen
                    .into_iter()
                    .enumerate()
                    .map(|(i, m)| deliver(nodes[i % 2].clone(), m));
                for outcome in join_all(calls).await {
                    model.learn(outcome, ops);
                }
            }
            Op::Advance { seconds } => {
                world.clock.advance(i64::from(*seconds));
                node.maintain().await.unwrap();
            }
            Op::Restart { node } => {
                let name = if *node { "sam-1" } else { "sam-2" };
                nodes[usize::from(!*node)] = world.node(name).await.inside();
            }
            Op::Restore => world.store.mark_restored().await.unwrap(),
            Op::Guess { act, right } => {
                let Some((act, _)) = pick(&model.acts, *act).cloned() else {
                    continue;
                };
                guess(world, &signer, &mut model, node, (act, *right), ops).await;
            }
            Op::Siege { times } => {
                for _ in 0..*times {
                    world.clock.advance(1000);
                    for step in [Op::Prepare { items: 1 }, Op::Open { request: 0 }] {
                        make(world, &mut signer, &mut model, &node, case, &step).await;
                    }
                    let Some((act, _)) = pick(&model.acts, 0).cloned() else {
                        continue;
                    };
                    guess(world, &signer, &mut model, node.clone(), (act, false), ops).await;
                }
            }
            Op::Suspend => {
                // The number of changes that the signer saw: none.
                model.stopped |= world.stop(&signer, 0).await.is_ok();
            }
            Op::Honest => {
                let steps = [
                    Op::Prepare { items: 2 },
                    Op::Open { request: 0 },
                    Op::Prove { act: 0 },
                    Op::Bind {
                        request: 0,
                        token: 0,
                    },
                    Op::Sign {
                        token: 0,
                        mask: 0,
                        idempotent: true,
                    },
                ];
                for step in steps {
                    let before = model.messages.len();
                    make(world, &mut signer, &mut model, &node, case, &step).await;
                    let made: Vec<_> = model.messages[before..].to_vec();
                    for message in made {
                        let outcome = deliver(node.clone(), message).await;
                        model.learn(outcome, ops);
                    }
                }
            }
            op => make(world, &mut signer, &mut model, &node, case, op).await,
        }
        model.check(world, ops);
    }
    model
}

/// Tries the PIN, or another one, at this act.
async fn guess(
    world: &World,
    signer: &Signer,
    model: &mut Model,
    node: Sam<Cm>,
    (act, right): (Digest32, bool),
    ops: &[Op],
) {
    let seed = signer.seed.as_ref().unwrap();
    let pin = if right { PIN } else { "another-pin" };
    let proof = world.pin_proof(act, pin, world.otp(seed, 0)).await;
    let before = world.cm.pins.load(Ordering::SeqCst);
    let outcome = deliver(node, Message::Approve(proof)).await;
    let compared = world.cm.pins.load(Ordering::SeqCst) - before;
    model.guess(&outcome, right, compared, ops);
    model.learn(outcome, ops);
}

/// Makes requests and acts, and messages that may be delivered later, again, or never.
async fn make(
    world: &World,
    signer: &mut Signer,
    model: &mut Model,
    node: &Sam<Cm>,
    case: u32,
    op: &Op,
) {
    match op {
        Op::Prepare { items } => {
            let base = case * 10_000 + model.requests.len() as u32 * 10;
            let hashes: Vec<_> = (0..u32::from(*items)).map(|i| hash(base + i)).collect();
            let request = world.prepare_request(signer, hash_items(&hashes));
            if let Ok(answer) = node.prepare(SSA, request).await {
                model.requests.push((answer.rid, hashes));
            }
        }
        Op::Open { request } => {
            let Some((rid, hashes)) = pick(&model.requests, *request).cloned() else {
                return;
            };
            if let Ok(answer) = node.open(OpenRequest { rid }).await {
                model.acts.push((act_digest(&answer.act), hashes));
            }
        }
        Op::Prove { act } => {
            let Some((act, _)) = pick(&model.acts, *act) else {
                return;
            };
            let proof = signer.passkey.prove(*act).unwrap();
            model.messages.push(Message::Approve(proof));
        }
        Op::Refuse { act } => {
            let Some((act, _)) = pick(&model.acts, *act) else {
                return;
            };
            model.messages.push(Message::Refuse(*act));
        }
        Op::Bind { request, token } => {
            let Some((rid, _)) = pick(&model.requests, *request) else {
                return;
            };
            model
                .messages
                .push(Message::Bind(*rid, token_text(*rid, *token)));
        }
        Op::Sign {
            token,
            mask,
            idempotent,
        } => {
            let Some((rid, hashes)) = pick(&model.requests, *mask) else {
                return;
            };
            let asked = hashes
                .iter()
                .enumerate()
                .filter(|(i, _)| mask >> i & 1 == 1 || *i == 0);
            let asked: Vec<B64> = asked.map(|(_, h)| h.clone()).collect();
            let mut request = world.sign_request(signer, &token_text(*rid, *token), &asked);
            request.idempotency_key = idempotent.then(|| "key".to_owned());
            model.messages.push(Message::Sign(Box::new(request)));
        }
        _ => {}
    }
}

enum Outcome {
    Approved(Digest32),
    Refused(Digest32),
    Signed(Vec<(B64, B64)>),
    Nothing,
}

async fn deliver(node: Sam<Cm>, message: Message) -> Outcome {
    match message {
        Message::Approve(proof) => {
            let act = proof.act();
            let done = node.approve(ApproveRequest { proof, new: None }).await;
            done.map_or(Outcome::Nothing, |_| Outcome::Approved(act))
        }
        Message::Refuse(act) => {
            let done = node
                .refuse(RefuseRequest {
                    act,
                    unknown: false,
                })
                .await;
            done.map_or(Outcome::Nothing, |_| Outcome::Refused(act))
        }
        Message::Bind(rid, token) => {
            let _ = node
                .bind(
                    SSA,
                    BindRequest {
                        rid,
                        grant: sha256(&[token.as_bytes()]),
                    },
                )
                .await;
            Outcome::Nothing
        }
        Message::Sign(request) => match node.sign(SSA, (*request).clone()).await {
            Ok(answer) => {
                Outcome::Signed(request.hashes.into_iter().zip(answer.signatures).collect())
            }
            Err(_) => Outcome::Nothing,
        },
    }
}

async fn deliver_or_die(world: &World, node: Sam<Cm>, message: Message) -> Outcome {
    tokio::select! {
        outcome = deliver(node, message) => outcome,
        () = world.cm.hanging.notified() => Outcome::Nothing,
    }
}

impl Model {
    /// Who guesses has ten tries, whatever else happens, until the person proves the PIN.
    fn guess(&mut self, outcome: &Outcome, right: bool, compared: usize, ops: &[Op]) {
        assert!(compared <= 1, "one message, two guesses: {ops:?}");
        self.guesses += compared;
        assert!(self.guesses <= 10, "an eleventh guess: {ops:?}");
        if matches!(outcome, Outcome::Approved(_)) {
            assert!(right && compared == 1, "approved by a wrong PIN: {ops:?}");
            self.guesses = 0;
            self.opened += 1;
        }
    }

    fn learn(&mut self, outcome: Outcome, ops: &[Op]) {
        match outcome {
            Outcome::Nothing => {}
            Outcome::Refused(act) => {
                assert!(
                    !self.approved.contains(&act),
                    "refused after approval: {ops:?}"
                );
                self.refused.insert(act);
            }
            Outcome::Approved(act) => {
                assert!(self.approved.insert(act), "approved twice: {ops:?}");
                assert!(
                    !self.refused.contains(&act),
                    "approved after refusal: {ops:?}"
                );
                assert!(!self.stopped, "approved after the key was stopped: {ops:?}");
            }
            Outcome::Signed(pairs) => {
                for (item, value) in pairs {
                    let old = self.values.insert(item, value.clone());
                    // What was made before may be fetched again by the identical call.
                    let fresh = old.is_none();
                    assert!(
                        old.is_none_or(|old| old == value),
                        "two values for an item: {ops:?}"
                    );
                    assert!(
                        !(fresh && self.stopped),
                        "signed after the key was stopped: {ops:?}"
                    );
                }
            }
        }
    }

    fn check(&self, world: &World, ops: &[Op]) {
        let made = world.cm.values.lock().unwrap();
        let mut seen = BTreeSet::new();
        for (item, value) in made.iter() {
            assert!(
                seen.insert(item),
                "the module made two values for an item: {ops:?}"
            );
            if let Some(left) = self.values.get(item) {
                assert_eq!(left, value, "another value left than was made: {ops:?}");
            }
        }
        let approved = |item: &B64| {
            self.acts
                .iter()
                .any(|(act, items)| self.approved.contains(act) && items.contains(item))
        };
        let own = |item: &B64| self.requests.iter().any(|(_, items)| items.contains(item));
        for (item, _) in made.iter().filter(|(item, _)| own(item)) {
            assert!(
                approved(item),
                "a value for an item nobody approved: {ops:?}"
            );
        }
        for item in self.values.keys() {
            assert!(seen.contains(item), "a value from nowhere: {ops:?}");
        }
    }
}

async fn is_stopped(world: &World, signer: &Signer) -> bool {
    let request = sam_api::ssa::KeysRequest {
        person: signer.person.clone(),
    };
    let keys = world.sam.keys(request).await.unwrap().keys;
    keys[0].state == sam_api::ssa::KeyState::Suspended
}

fn token_text(rid: Digest32, token: u8) -> String {
    format!("token-{rid}-{token}")
}

fn pick<T>(list: &[T], n: u8) -> Option<&T> {
    // The newest first: what was made last is most often what comes next.
    let n = usize::from(n).checked_rem(list.len())?;
    list.iter().rev().nth(n / 2)
}
