//! The SAM's daemon is killed at every step of the way of one signature, on both stores, and started again: before and after each
//! message between it and its neighbours, and on PostgreSQL in front of each commit. One kill meets many signatures, each at a step
//! of its own. What was taken is lost, what wasn't can be used once, and who calls again is told so by name.
//!
//! A message that is on the way and has no row here makes the story fail.

use std::collections::BTreeSet;
use std::sync::Arc;

use cm_api::rpc::{Execute, PinMac, Root, RowKey, Statement, Status as ModuleStatus};
use core_types::random::SystemRandom;
use core_types::rpc::Method as _;
use sam_api::ssa::{Bind, Prepare, Sign, Status};
use sam_core::state::MAX_TRIES;
use sap::messages::{Approve, Keys, Open};
use store_kit::{Store, StoreError, StoreUrl, sql, transaction};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::kit::{until, within};

mod applications;
mod doors;
mod logs;
mod way;
mod world;

use doors::{CUTS, Cut};
use way::{Callers, Far, Way};
use world::{At, World, dies_starting};

/// A message of the way, where it is stopped, and how far the signature has come once the SAM was killed then.
struct Step {
    at: At,
    path: &'static str,
    cut: Cut,
    after: Far,
}

const fn step(at: At, path: &'static str, cut: Cut, after: Far) -> Step {
    Step {
        at,
        path,
        cut,
        after,
    }
}

static STEPS: [Step; 18] = [
    step(At::Ssa, Prepare::PATH, Cut::Arrived, Far::Nothing),
    // There is a request, whose name nobody knows.
    step(At::Ssa, Prepare::PATH, Cut::Answered, Far::Nothing),
    step(At::Page, Open::PATH, Cut::Arrived, Far::Asked),
    step(At::Page, Open::PATH, Cut::Answered, Far::Asked),
    step(At::Page, Keys::PATH, Cut::Arrived, Far::Asked),
    step(At::Page, Keys::PATH, Cut::Answered, Far::Asked),
    step(At::Page, Approve::PATH, Cut::Arrived, Far::Opened),
    step(At::Module, PinMac::PATH, Cut::Arrived, Far::Opened),
    step(At::Module, PinMac::PATH, Cut::Answered, Far::Opened),
    step(At::Page, Approve::PATH, Cut::Answered, Far::Approved),
    step(At::Ssa, Status::PATH, Cut::Arrived, Far::Approved),
    step(At::Ssa, Status::PATH, Cut::Answered, Far::Approved),
    step(At::Ssa, Bind::PATH, Cut::Arrived, Far::Approved),
    step(At::Ssa, Bind::PATH, Cut::Answered, Far::Bound),
    step(At::Ssa, Sign::PATH, Cut::Arrived, Far::Bound),
    step(At::Module, Execute::PATH, Cut::Arrived, Far::Lost),
    step(At::Module, Execute::PATH, Cut::Answered, Far::Lost),
    step(At::Ssa, Sign::PATH, Cut::Answered, Far::Signed),
];

/// What it asks the module while it starts, the first of them when it has no keys of its own yet: nothing changes by dying there.
const START: [&str; 4] = [
    Statement::PATH,
    Root::PATH,
    ModuleStatus::PATH,
    RowKey::PATH,
];

/// A transaction of the way, from where it is reached, and how far the signature has come once the SAM was killed in front of
/// its commit.
struct Commit {
    what: &'static str,
    from: Far,
    after: Far,
    pin: bool,
}

const fn commit(what: &'static str, from: Far, after: Far, pin: bool) -> Commit {
    Commit {
        what,
        from,
        after,
        pin,
    }
}

static COMMITS: [Commit; 7] = [
    commit("the request", Far::Nothing, Far::Nothing, false),
    commit("the act", Far::Asked, Far::Asked, false),
    commit("a try with a PIN", Far::Opened, Far::Opened, true),
    commit("the approval", Far::Opened, Far::Opened, false),
    commit("the token", Far::Approved, Far::Approved, false),
    commit("the right is taken", Far::Bound, Far::Bound, false),
    commit("the values", Far::Bound, Far::Lost, false),
];

/// How many transactions of the SAM have written an act or a request and wait for something.
const WAITING: &str = "SELECT count(*) AS n FROM pg_locks w WHERE NOT w.granted AND EXISTS (\
     SELECT 1 FROM pg_locks h WHERE h.pid = w.pid AND h.granted AND h.mode = 'RowExclusiveLock' \
     AND h.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
     AND (h.relation = 'sam.act'::regclass OR h.relation = 'sam.request'::regclass))";

/// Messages that are stopped on both ways.
fn stopped(at: At) -> BTreeSet<String> {
    let has = |path: &str, cut: Cut| {
        let mut steps = STEPS.iter();
        steps.any(|step| step.at == at && step.path == path && step.cut == cut)
    };
    let steps = STEPS.iter().map(|step| step.path);
    let start = START.into_iter().filter(|_| at == At::Module);
    let both = steps.filter(|path: &&str| CUTS.iter().all(|cut| has(path, *cut)));
    both.chain(start).map(str::to_owned).collect()
}

/// A signature whose way was cut.
struct Stopped {
    name: String,
    way: Way,
    /// The answer that nobody got.
    withheld: Option<Vec<u8>>,
    /// Tries with a PIN that are left after one more.
    left: Option<u8>,
    /// The module has made a value.
    made: bool,
}

/// It goes its way to the end, or to where it is cut.
fn going(mut way: Way, by: &Callers) -> JoinHandle<(Way, Result<(), String>)> {
    let by = by.clone();
    tokio::spawn(async move {
        let told = way.go(&by, Far::Signed).await;
        (way, told)
    })
}

/// Where it was cut. Its caller was told that nobody knows what was done.
async fn cut_off(name: &str, going: JoinHandle<(Way, Result<(), String>)>, after: Far) -> Way {
    let (mut way, told) = within(name, going).await.unwrap();
    assert_eq!(told, Err("Unknown".to_owned()), "{name}");
    way.far = after;
    way
}

/// The head of the SAM's log in other hands: a transaction takes it last, so whoever writes waits in front of its commit.
struct Head {
    let_go: Arc<Notify>,
    held: JoinHandle<()>,
}

impl Head {
    async fn hold(store: &Store) -> Self {
        let (reached, let_go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (store, has_it, waits) = (store.clone(), reached.clone(), let_go.clone());
        let held = tokio::spawn(async move {
            let done: Result<(), StoreError> = transaction!(store, "hold", |tx| {
                let head = sql("SELECT node FROM audit_head FOR UPDATE");
                tx.fetch_all(head).await?;
                has_it.notify_one();
                waits.notified().await;
                Ok(())
            });
            done.unwrap();
        });
        within("the head of the log", reached.notified()).await;
        Self { let_go, held }
    }

    async fn let_go(self) {
        self.let_go.notify_one();
        within("the head of the log to be free", self.held)
            .await
            .unwrap();
    }
}

/// Waits until so many transactions wait.
async fn wait(store: &Store, so_many: usize) {
    until("the SAM in front of its commits", async || {
        let mut tx = store.read("waiting").await.unwrap();
        let row = tx.fetch_one(sql(WAITING)).await.unwrap();
        usize::try_from(row.int("n").unwrap()).unwrap() >= so_many
    })
    .await;
}

impl World {
    /// What passes when nothing is cut; each message has its rows, and each row its message.
    async fn uncut(&mut self) {
        for pin in [false, true] {
            let mut way = self.way(pin).await;
            way.ends(&self.through, "uncut").await;
            self.ways.push(("uncut".to_owned(), way, true));
        }
        for at in [At::Ssa, At::Page, At::Module] {
            assert_eq!(self.door(at).take_seen(), stopped(at), "{at:?}");
        }
    }

    /// What has to hold of those that were cut, and then their ends.
    async fn go_on(&mut self, all: Vec<Stopped>) {
        for mut one in all {
            let (way, name) = (&mut one.way, one.name.as_str());
            way.holds(&self.straight, name, one.withheld.as_deref())
                .await;
            if one.left.is_some() {
                assert_eq!(way.guesses(&self.straight).await, one.left, "{name}");
            }
            if way.far != Far::Lost {
                way.ends(&self.straight, name).await;
            }
            self.ways.push((one.name, one.way, one.made));
        }
    }

    /// Kills it at each message between it and this neighbour.
    async fn at_messages(&mut self, at: At) {
        let mut cut = Vec::new();
        for step in STEPS.iter().filter(|step| step.at == at) {
            let way = self.way(step.path == PinMac::PATH).await;
            let held = self.door(at).stop_at(step.path, step.cut);
            let by = match at {
                // What they are told, they are told by the SAM's end itself.
                At::Module => &self.straight,
                At::Ssa | At::Page => &self.through,
            };
            let going = going(way, by);
            cut.push((step, going, within(step.path, held).await.unwrap()));
        }
        self.sam.kill();
        let mut all = Vec::new();
        for (step, going, held) in cut {
            let name = format!("{:?} {} {:?}", step.at, step.path, step.cut);
            let body = held.withhold();
            let answered = step.cut == Cut::Answered;
            all.push(Stopped {
                way: cut_off(&name, going, step.after).await,
                withheld: answered.then_some(body),
                // The killed one, and a wrong one afterwards.
                left: (step.path == PinMac::PATH).then_some(MAX_TRIES - 2),
                made: step.after != Far::Lost || answered,
                name,
            });
        }
        self.starts().await;
        self.go_on(all).await;
    }

    /// Kills it in front of each commit.
    async fn at_commits(&mut self) {
        let StoreUrl::Postgres(_) = &self.store else {
            return;
        };
        let opened = Store::open(&self.store, "sam", sam_service::MIGRATIONS, &SystemRandom);
        let store = opened.await.unwrap();
        let mut ways = Vec::new();
        for commit in &COMMITS {
            let mut way = self.way(commit.pin).await;
            way.go(&self.straight, commit.from).await.unwrap();
            ways.push((commit, way));
        }
        // The values of the last one are made, and come when all others wait.
        let (last, way) = ways.pop().unwrap();
        let values = self.module.stop_at(Execute::PATH, Cut::Answered);
        let last = (last, going(way, &self.straight));
        let values = within("the values", values).await.unwrap();
        self.module.take_seen();
        let head = Head::hold(&store).await;
        let mut cut = Vec::new();
        for (commit, way) in ways {
            cut.push((commit, going(way, &self.straight)));
            wait(&store, cut.len()).await;
        }
        values.let_go();
        cut.push(last);
        wait(&store, cut.len()).await;
        self.sam.kill();
        let compared = self.module.take_seen().contains(PinMac::PATH);
        assert!(!compared, "a PIN was compared in a try that isn't counted");
        head.let_go().await;
        store.close().await;
        let mut all = Vec::new();
        for (commit, going) in cut {
            all.push(Stopped {
                way: cut_off(commit.what, going, commit.after).await,
                name: commit.what.to_owned(),
                withheld: None,
                left: commit.pin.then_some(MAX_TRIES - 1),
                made: true,
            });
        }
        self.starts().await;
        self.go_on(all).await;
    }

    /// Kills it at each message of its start, while a right waits for its use.
    async fn at_its_start(&mut self) {
        let mut way = self.way(false).await;
        way.go(&self.straight, Far::Bound).await.unwrap();
        self.sam.kill();
        dies_starting(&self.site, &self.module, &self.config, &START[1..]).await;
        self.starts().await;
        let waits = Stopped {
            name: "its start".to_owned(),
            way,
            withheld: None,
            left: None,
            made: true,
        };
        self.go_on(vec![waits]).await;
    }

    /// What was taken is lost for good.
    async fn are_lost(&self) {
        for (name, way, _) in &self.ways {
            if way.far == Far::Lost {
                way.is_lost(&self.straight, name).await;
            }
        }
    }
}

async fn killed_at_every_step(store: Option<StoreUrl>) {
    let mut world = World::begin(store).await;
    world.uncut().await;
    let front = world.at_applications().await;
    world.at_messages(At::Module).await;
    world.at_commits().await;
    world.at_messages(At::Ssa).await;
    world.at_messages(At::Page).await;
    world.at_its_start().await;
    world.are_lost().await;
    front.is_lost().await;
    world.end(front);
}

// shows: T-USE-SAP-REPLAY, T-KEY-ABUSE, T-USE-CAPTURE, II-A1-sad-once
#[tokio::test(flavor = "multi_thread")]
async fn a_sam_that_is_killed_at_any_step_doubles_nothing_on_sqlite() {
    killed_at_every_step(None).await;
}

// shows: T-USE-SAP-REPLAY, T-KEY-ABUSE, T-USE-CAPTURE, II-A1-sad-once
#[tokio::test(flavor = "multi_thread")]
async fn a_sam_that_is_killed_at_any_step_doubles_nothing_on_postgresql() {
    let database = store_kit::testing::postgres_database().await;
    killed_at_every_step(Some(database)).await;
}
