//! The protocol as a model, explored exhaustively (`sap.md` §14, *Model*): one act with two items, two nodes, an
//! adversary who delivers what it likes as often as it likes, crashes nodes between any two steps, and sets back either
//! database. Every decision is made by the real functions of `sam-core`; the model adds only who stores what when.
//!
//! Each guard can be taken out; then the exploration has to find a violation, or the model shows nothing.

#[path = "model/worlds.rs"]
mod worlds;

use std::collections::{HashMap, HashSet, VecDeque};

use cm_api::order::MAX_ATTEMPTS;
use core_types::{B64, Digest32, FactorId, UnixTime};
use sam_api::ssa::StopCause;
use sam_core::life::Life;
use sam_core::state::{Asked, ItemState, JobState, Plan, Renewal};
use sap::SignAct;
use sap::proof::Method;

use self::worlds::{Acts, Ask, CmDb, Node, Power, Said, SamDb, Without, World, name, stored, with};
use super::{ALG, GRANT, T, client, h, key, minted, now};

/// Seconds at which the world may stand: all live, orders over, the first right over.
const TIMES: [i64; 3] = [0, 40, 310];
const ORDER_LIFE: i64 = 30;
/// More worlds than this would make the test too slow to be run each time.
const MOST: usize = 2_000_000;
const SECOND: Digest32 = Digest32([3; 32]);
const AFTER_STOP: &str = "begun after the key was stopped";

struct Model {
    act: SignAct,
    without: Without,
    power: Power,
    acts: Acts,
    active: Life,
    stopped: Life,
}

impl Model {
    fn new(without: Without, power: Power) -> (Self, World) {
        let (mut act, state) = minted(&[1, 2]);
        act.renew = match power {
            Power::TwoNodes | Power::SetBack { renewable: true } => T.plus(1000).0,
            Power::SetBack { renewable: false } => 0,
        };
        let active = Life::made().certified(T.plus(100_000)).unwrap();
        let stopped = active.suspended(StopCause::Login, None, T).unwrap();
        let mut acts = Acts {
            list: Vec::new(),
            numbers: HashMap::new(),
            said: HashMap::new(),
        };
        let sam = SamDb {
            act: acts.number(state),
            stopped: false,
        };
        let world = World {
            time: 0,
            sam,
            sam_copy: None,
            cm: CmDb::default(),
            nodes: [Node::Idle; 2],
            proved: false,
            made: [0; 2],
            sam_set_back: false,
            cm_set_back: false,
            renewed: false,
            broken: None,
        };
        let model = Self {
            act,
            without,
            power,
            acts,
            active,
            stopped,
        };
        (model, world)
    }

    fn key_is_active(&self, world: &World, time: UnixTime) -> bool {
        let life = if world.sam.stopped {
            &self.stopped
        } else {
            &self.active
        };
        life.is_active(time) || self.without == Without::KeyCheck
    }

    /// Every world one step away.
    fn steps(&mut self, w: World) -> Vec<World> {
        let mut next = Vec::new();
        let at = now(TIMES[usize::from(w.time)]);

        // The person, the clock, the owner's stop, and the adversary's copies.
        next.push(World { proved: true, ..w });
        if usize::from(w.time) + 1 < TIMES.len() {
            next.push(World {
                time: w.time + 1,
                ..w
            });
        }
        next.push(World {
            sam: SamDb {
                stopped: true,
                ..w.sam
            },
            ..w
        });
        if self.power != Power::TwoNodes {
            self.set_back(w, &mut next);
        }

        // Approve, bind, renew, maintenance: one transaction each, on any node.
        let act = w.sam.act;
        if (w.proved || self.without == Without::Proof) && self.key_is_active(&w, at.time) {
            let said = self.acts.ask(act, Ask::Approve(w.time), |s| {
                let (factor, digest) = (FactorId::parse("f").unwrap(), Digest32([7; 32]));
                let approved = s.approve(digest, digest, Method::Passkey, factor, at);
                approved.ok().map(|s| (Said::Go, s))
            });
            next.extend(said.map(|(_, s)| stored(w, s)));
        }
        let said = self.acts.ask(act, Ask::Bind(w.time), |s| {
            s.bind(GRANT, at).ok().map(|s| (Said::Go, s))
        });
        next.extend(said.map(|(_, s)| stored(w, s)));
        if self.key_is_active(&w, at.time) {
            let terms = &self.act;
            let said = self.acts.ask(act, Ask::Renew(w.time), |s| {
                let (client, key) = (client(), key());
                let renewal = Renewal {
                    grant: GRANT,
                    next: SECOND,
                    client: &client,
                    key: &key,
                    hashes: &[],
                };
                s.renew(terms, renewal, at).ok().map(|s| (Said::Go, s))
            });
            next.extend(said.map(|(_, s)| World {
                renewed: true,
                ..stored(w, s)
            }));
        }
        let again = self.without == Without::GivingUp;
        let said = self.acts.ask(act, Ask::GiveUp(w.time), |s| {
            let lost = s.give_up(at.time)?;
            match again {
                true => s
                    .again(s.step, s.job.as_ref()?.attempt)
                    .ok()
                    .map(|s| (Said::Go, s)),
                false => Some((Said::Go, lost)),
            }
        });
        next.extend(said.map(|(_, s)| stored(w, s)));
        let nodes = match self.power {
            Power::TwoNodes => 2,
            Power::SetBack { .. } => 1,
        };
        for node in 0..nodes {
            next.push(with(w, node, Node::Idle));
            match w.nodes[node] {
                Node::Idle => self.begin(w, node, &mut next),
                Node::Ordering {
                    step,
                    attempt,
                    items,
                } => {
                    self.order(w, node, (step, attempt, items), &mut next);
                }
                Node::Holding {
                    step,
                    attempt,
                    items,
                } => {
                    self.finish(w, node, (step, attempt, items), &mut next);
                }
                Node::Refused {
                    step,
                    attempt,
                    items,
                } => {
                    self.again(w, node, (step, attempt, items), &mut next);
                }
                Node::Unsure { step, attempt } => {
                    let said = self.acts.ask(act, Ask::Lost(step, attempt), |s| {
                        let lost = s.lost(step.into(), attempt.into());
                        lost.ok().map(|s| (Said::Go, s))
                    });
                    let after = said.map_or(w, |(_, s)| stored(w, s));
                    next.push(with(after, node, Node::Idle));
                }
            }
        }
        next.retain(|n| *n != w);
        next
    }

    fn set_back(&self, w: World, next: &mut Vec<World>) {
        let job = self.acts.list[usize::from(w.sam.act)].job.as_ref();
        let quiet = job.is_none_or(|j| j.state != JobState::Taken);
        if w.sam_copy.is_none() && quiet {
            next.push(World {
                sam_copy: Some(w.sam),
                ..w
            });
        }
        if let Some(copy) = w.sam_copy.filter(|c| *c != w.sam) {
            next.push(World {
                sam: copy,
                sam_set_back: true,
                ..w
            });
        }
        if w.cm != CmDb::default() {
            next.push(World {
                cm: CmDb::default(),
                cm_set_back: true,
                ..w
            });
        }
    }

    /// T1: whatever token and hashes the adversary likes.
    fn begin(&mut self, w: World, node: usize, next: &mut Vec<World>) {
        let at = now(TIMES[usize::from(w.time)]);
        let active = self.key_is_active(&w, at.time);
        let without = self.without;
        for grant in [GRANT, SECOND] {
            for items in 1..4_u8 {
                let terms = &self.act;
                let said = self
                    .acts
                    .ask(w.sam.act, Ask::Plan(w.time, grant, items), |s| {
                        let (client, key) = (client(), key());
                        let hashes: Vec<B64> = (0..2)
                            .filter(|i| items >> i & 1 == 1)
                            .map(|i| h(i + 1))
                            .collect();
                        let asked = Asked {
                            grant: match without {
                                Without::OneToken => s.grant.unwrap_or(grant),
                                _ => grant,
                            },
                            client: &client,
                            key: &key,
                            alg: ALG,
                            hashes: &hashes,
                            idempotency_key: Some("k"),
                        };
                        match s.plan(terms, asked, at, ORDER_LIFE).ok()? {
                            Plan::Take(taken) => Some((Said::Take, *taken)),
                            Plan::GiveUp(_) if without == Without::GivingUp => {
                                let again = s.again(s.step, s.job.as_ref()?.attempt).ok()?;
                                Some((Said::Take, again))
                            }
                            Plan::GiveUp(lost) => Some((Said::Over, *lost)),
                            Plan::Fetch => None,
                        }
                    });
                match said {
                    Some((Said::Take, taken)) if active => {
                        let broken = match (w.sam.stopped, w.renewed && grant == GRANT) {
                            (true, _) => Some(AFTER_STOP),
                            (_, true) if !w.sam_set_back => {
                                Some("begun with a token that was renewed")
                            }
                            _ => None,
                        };
                        let state = &self.acts.list[usize::from(taken)];
                        let job = state.job.as_ref().unwrap();
                        assert_eq!(job.state, JobState::Taken);
                        let ordering = Node::Ordering {
                            step: u8::try_from(state.step).unwrap(),
                            attempt: u8::try_from(job.attempt).unwrap(),
                            items: job.indices.iter().fold(0, |bits, i| bits | 1 << i),
                        };
                        let durable = match without {
                            Without::TakingFirst => w,
                            _ => stored(w, taken),
                        };
                        next.push(with(World { broken, ..durable }, node, ordering));
                    }
                    Some((Said::Over, lost)) => next.push(stored(w, lost)),
                    _ => {}
                }
            }
        }
    }

    /// The order at the module: executed, its answer lost, refused, or never arrived.
    fn order(&self, w: World, node: usize, order: (u8, u8, u8), next: &mut Vec<World>) {
        let (step, attempt, items) = order;
        let unsure = Node::Unsure { step, attempt };
        let refused = Node::Refused {
            step,
            attempt,
            items,
        };
        next.push(with(w, node, unsure));
        // Left out for renewals of databases that go back: with either of the others it is visited.
        let refuses = self.power != Power::SetBack { renewable: true };
        if refuses {
            // At the door, before anything is taken.
            next.push(with(w, node, refused));
        }
        if u32::from(attempt) >= MAX_ATTEMPTS {
            return;
        }
        let earlier = (0..attempt).fold(0, |names, a| names | name(step, a));
        let own = w.cm.orders & name(step, attempt) != 0 && self.without != Without::OrderOnce;
        let unsettled =
            w.cm.orders & earlier & !w.cm.nothing != 0 && self.without != Without::SurelyNothing;
        let taken = w.cm.items & items != 0 && self.without != Without::ItemOnce;
        if own || unsettled || taken {
            // *Executed before* is never an invitation.
            return;
        }
        let mut done = w;
        done.cm.orders |= name(step, attempt);
        if self.without != Without::EarlierAttempts {
            done.cm.orders |= earlier;
        }
        if self.act.renew > 0 {
            done.cm.items |= items;
        }
        // The module dies now.
        next.push(with(done, node, unsure));
        if refuses {
            // Its device does nothing, for certain.
            let mut nothing = done;
            nothing.cm.nothing |= name(step, attempt);
            nothing.cm.items &= !items;
            next.push(with(nothing, node, refused));
        }
        self.executed(done, node, order, next);
    }

    /// The values are made; the answer arrives, or is lost.
    fn executed(&self, mut done: World, node: usize, order: (u8, u8, u8), next: &mut Vec<World>) {
        let (step, attempt, items) = order;
        for item in 0..2 {
            if items >> item & 1 == 1 {
                done.made[item] = (done.made[item] + 1).min(2);
                if !done.proved {
                    done.broken = Some("a value nobody approved");
                }
            }
        }
        let both = done.sam_set_back && done.cm_set_back;
        if done.made.contains(&2) && !both {
            done.broken = Some("two values for an item");
        }
        next.push(with(
            done,
            node,
            Node::Holding {
                step,
                attempt,
                items,
            },
        ));
        next.push(with(done, node, Node::Unsure { step, attempt }));
    }

    /// The same items once more, where the module said that it signed nothing.
    fn again(&mut self, w: World, node: usize, held: (u8, u8, u8), next: &mut Vec<World>) {
        let (step, attempt, items) = held;
        let at = now(TIMES[usize::from(w.time)]);
        let active = self.key_is_active(&w, at.time) || self.without == Without::KeyCheckAgain;
        if u32::from(attempt) + 1 >= MAX_ATTEMPTS || !active {
            next.push(with(w, node, Node::Unsure { step, attempt }));
            return;
        }
        let said = self.acts.ask(w.sam.act, Ask::Again(step, attempt), |s| {
            let again = s.again(step.into(), attempt.into());
            again.ok().map(|s| (Said::Go, s))
        });
        let after = said.map_or(with(w, node, Node::Idle), |(_, s)| {
            let ordering = Node::Ordering {
                step,
                attempt: attempt + 1,
                items,
            };
            let broken = w.sam.stopped.then_some(AFTER_STOP);
            let after = World {
                broken,
                ..stored(w, s)
            };
            with(after, node, ordering)
        });
        next.push(after);
    }

    /// T2: what isn't stored doesn't leave.
    fn finish(&mut self, w: World, node: usize, held: (u8, u8, u8), next: &mut Vec<World>) {
        let (step, attempt, items) = held;
        let any_step = self.without == Without::OwnStep;
        let said = self.acts.ask(w.sam.act, Ask::Done(step, attempt), |s| {
            let step = if any_step { s.step } else { step.into() };
            s.done(step, attempt.into()).ok().map(|s| (Said::Go, s))
        });
        let mut after = match said {
            Some((_, done)) => stored(w, done),
            None if self.without == Without::StoringFirst => w,
            None => {
                next.push(with(w, node, Node::Idle));
                return;
            }
        };
        let recorded = &self.acts.list[usize::from(after.sam.act)].items;
        let durable = (0..2).all(|i| items >> i & 1 == 0 || recorded.get(i) == ItemState::Done);
        if !durable && !w.sam_set_back {
            after.broken = Some("a value left that isn't in the record");
        }
        next.push(with(after, node, Node::Idle));
    }

    /// All worlds that can be reached, up to the first violation.
    fn explore(&mut self, start: World) -> (usize, Option<World>) {
        let mut seen = HashSet::from([start]);
        let mut queue = VecDeque::from([start]);
        while let Some(world) = queue.pop_front() {
            if world.broken.is_some() {
                return (seen.len(), Some(world));
            }
            for mut next in self.steps(world) {
                // The nodes are alike.
                next.nodes.sort_by(|a, b| b.cmp(a));
                if seen.insert(next) {
                    queue.push_back(next);
                }
            }
            assert!(seen.len() < MOST, "too many worlds to visit them all");
        }
        (seen.len(), None)
    }
}

// shows: II-3.3.1-sap-replay-bypass-forgery, T-USE-SAP-REPLAY, T-USE-SAP-BYPASS, II-A1-sad-once
#[test]
fn no_order_of_steps_crashes_and_set_back_databases_breaks_a_promise() {
    for power in [
        Power::TwoNodes,
        Power::SetBack { renewable: false },
        Power::SetBack { renewable: true },
    ] {
        let (mut model, start) = Model::new(Without::Nothing, power);
        let (worlds, broken) = model.explore(start);
        assert_eq!(broken, None, "{power:?}");
        // It isn't small because everything was refused.
        assert!(worlds > 1000, "{power:?}: {worlds} worlds");
    }
}

#[test]
fn a_guard_that_is_taken_out_is_missed() {
    use Power::TwoNodes;
    let [fixed, renewable] = [false, true].map(|renewable| Power::SetBack { renewable });
    for (without, power, what) in [
        (Without::Proof, TwoNodes, "a value nobody approved"),
        (Without::TakingFirst, fixed, "two values for an item"),
        (Without::OrderOnce, fixed, "two values for an item"),
        (Without::EarlierAttempts, fixed, "two values for an item"),
        (Without::SurelyNothing, fixed, "two values for an item"),
        (Without::ItemOnce, renewable, "two values for an item"),
        (Without::KeyCheck, TwoNodes, AFTER_STOP),
        (Without::KeyCheckAgain, TwoNodes, AFTER_STOP),
        (Without::GivingUp, fixed, "two values for an item"),
        (
            Without::StoringFirst,
            TwoNodes,
            "a value left that isn't in the record",
        ),
        (
            Without::OneToken,
            TwoNodes,
            "begun with a token that was renewed",
        ),
        (
            Without::OwnStep,
            TwoNodes,
            "a value left that isn't in the record",
        ),
    ] {
        let (mut model, start) = Model::new(without, power);
        let (_, broken) = model.explore(start);
        assert_eq!(broken.and_then(|w| w.broken), Some(what), "{without:?}");
    }
}
