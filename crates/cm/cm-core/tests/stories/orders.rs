//! Names of orders are forgotten after a day, and no clock that is set brings one back.

use std::collections::HashMap;
use std::sync::Arc;

use cm_api::rpc::Reason;
use cm_api::{ExecuteRequest, KeyCreated, Order, OrderBody, OrderKind, Refusal};
use cm_core::{MIGRATIONS, Module};
use cm_soft::SoftBackend;
use core_types::clock::ManualClock;
use core_types::random::SeededRandom;
use core_types::{Clock as _, Digest32, KeyAlg, Random as _};
use store_kit::sql;

use crate::destroy::attack;
use crate::kit::{EPOCH, P256, SAM, Story, digest, refusal, sign};

const DAY: i64 = 86_400;

/// An order to sign one thing by an act of its own, approved now, and what it says.
fn once(
    story: &Story,
    key: &KeyCreated,
    number: u8,
    clock: &ManualClock,
) -> (ExecuteRequest, OrderKind) {
    let mut kind = sign(key, P256, &[digest(P256, "a")]);
    if let OrderKind::Sign {
        act,
        approved,
        renewable,
        ..
    } = &mut kind
    {
        (*act, *approved, *renewable) = (Digest32([number; 32]), clock.now(), false);
    }
    (given(story, &kind, clock), kind)
}

/// The order of a SAM that knows nothing of having given it before.
fn given(story: &Story, kind: &OrderKind, clock: &ManualClock) -> ExecuteRequest {
    let body = OrderBody {
        sam: SAM.into(),
        order: kind.name().unwrap(),
        epoch: EPOCH,
        exp: clock.now().plus(30),
        kind: kind.clone(),
    };
    ExecuteRequest {
        statement: story.statement.clone(),
        order: Order::seal(&body, &story.act).unwrap(),
    }
}

async fn names(story: &Story) -> i64 {
    let mut tx = story.test.store.read("look").await.unwrap();
    let row = tx
        .fetch_one(sql("SELECT count(*) AS n FROM cm_order"))
        .await;
    row.unwrap().int("n").unwrap()
}

// shows: T-USE-SAP-REPLAY, T-KEY-ABUSE
#[tokio::test]
async fn names_of_orders_are_forgotten_and_no_order_comes_back() {
    for test in store_kit::testing::both(MIGRATIONS).await {
        let mut story = Story::begin(test, Arc::new(SoftBackend)).await;
        let key = story.key(KeyAlg::P256).await;
        let (old, kind) = once(&story, &key, 1, &story.clock);
        story.module.execute(&old).await.unwrap();
        assert_eq!(names(&story).await, 2);
        story.clock.advance(2 * DAY);
        assert_eq!(
            story.module.forget_orders().await,
            Ok(0),
            "the SAM says no time yet"
        );
        story.renew().await;
        story
            .module
            .execute(&once(&story, &key, 2, &story.clock).0)
            .await
            .unwrap();
        assert_eq!(story.module.forget_orders().await, Ok(2));
        assert_eq!(names(&story).await, 1);

        // The same bytes, and those of a SAM that was set back.
        let spent = async |story: &Story, request: &ExecuteRequest| {
            refusal(story.module.execute(request).await)
        };
        assert_eq!(spent(&story, &old).await, Refusal::NotNow);
        let again = given(&story, &kind, &story.clock);
        let late = Refusal::NotAllowed(Reason::Reauthorization);
        assert_eq!(spent(&story, &again).await, late);
        // And with the clock at the time of the order.
        story.clock.set(-2 * DAY);
        for _ in 0..2 {
            assert_eq!(spent(&story, &old).await, Refusal::NotNow);
        }
        assert_eq!(story.audited("cm-clock-set-back").await, 1);
        // A process that has seen nothing has the mark, or else the log.
        story.module = story.again(7).await.unwrap();
        assert_eq!(spent(&story, &old).await, Refusal::NotNow);
        story.module = story.again(7).await.unwrap();
        attack(&story, "DELETE FROM cm_mark WHERE id = 'orders'").await;
        assert_eq!(spent(&story, &old).await, Refusal::NotOperational);
        story.module = story.again(7).await.unwrap();
        story.module.scrub().await.unwrap();
        assert_eq!(spent(&story, &old).await, Refusal::NotNow);
        // A small correction stops nothing.
        story.clock.set(2 * DAY - 3_600);
        story.renew().await;
        story
            .module
            .execute(&once(&story, &key, 3, &story.clock).0)
            .await
            .unwrap();
    }
}

/// What was given out so far, and how often it was executed.
struct Given {
    request: ExecuteRequest,
    kind: OrderKind,
    executed: u32,
}

// shows: T-USE-SAP-REPLAY, T-KEY-ABUSE
#[tokio::test]
async fn whatever_happens_to_clocks_and_nodes_an_order_is_executed_once() {
    for seed in 1..=6 {
        for test in store_kit::testing::both(MIGRATIONS).await {
            let story = Story::begin(test, Arc::new(SoftBackend)).await;
            history(story, seed).await;
        }
    }
}

async fn history(mut story: Story, seed: u64) {
    let random = SeededRandom::new(seed);
    let draw = |below: u64| {
        let mut bytes = [0; 8];
        random.fill(&mut bytes);
        u64::from_be_bytes(bytes) % below
    };
    let key = story.key(KeyAlg::P256).await;
    let mut nodes: Vec<(Module, Arc<ManualClock>)> = Vec::new();
    for _ in 0..2 {
        let clock = Arc::new(ManualClock::at(story.clock.now()));
        nodes.push((story.node(clock.clone()).await, clock));
    }
    let mut orders: Vec<Given> = Vec::new();
    let mut seen: HashMap<&str, u32> = HashMap::new();
    for step in 0..200 {
        let at = usize::from(draw(2) == 1);
        let what = draw(12);
        if what < 3 && orders.len() < 250 {
            // The SAM's clock is right, and this node's is for once.
            let (module, clock) = &nodes[at];
            clock.set(story.clock.now().0 - clock.now().0);
            story.renew().await;
            let number = u8::try_from(orders.len() + 1).unwrap();
            let (request, kind) = once(&story, &key, number, &story.clock);
            let executed = u32::from(draw(3) > 0 && module.execute(&request).await.is_ok());
            *seen.entry("executed").or_default() += executed;
            orders.push(Given {
                request,
                kind,
                executed,
            });
        } else if what < 8 && !orders.is_empty() {
            let (module, clock) = &nodes[at];
            let nth = usize::try_from(draw(orders.len() as u64)).unwrap();
            let order = &mut orders[nth];
            let OrderKind::Sign { approved, .. } = order.kind else {
                continue;
            };
            if draw(2) == 0 {
                clock.set(approved.0 - clock.now().0);
            }
            let request = match draw(2) {
                0 => order.request.clone(),
                _ => ExecuteRequest {
                    order: given(&story, &order.kind, clock).order,
                    ..order.request.clone()
                },
            };
            let done = module.execute(&request).await.is_ok();
            *seen
                .entry(if done { "late" } else { "refused" })
                .or_default() += 1;
            order.executed += u32::from(done);
            assert!(order.executed <= 1, "seed {seed}, step {step}, order {nth}");
        } else if what == 8 {
            let forgotten = nodes[at].0.forget_orders().await.unwrap();
            *seen.entry("forgotten").or_default() += u32::try_from(forgotten).unwrap();
        } else if what == 9 {
            let clock = nodes[at].1.clone();
            nodes[at].0 = story.node(clock).await;
            nodes[at].0.scrub().await.unwrap();
        } else {
            // Within the life of an act, or beyond that of a name.
            let most = if draw(3) > 0 { 900 } else { 30 * 3_600 };
            let seconds = i64::try_from(draw(most)).unwrap();
            for clock in [&story.clock, &nodes[0].1, &nodes[1].1] {
                clock.advance(seconds);
            }
        }
    }
    for what in ["executed", "refused", "forgotten"] {
        assert!(seen.get(what).is_some_and(|n| *n > 0), "{seed}: {seen:?}");
    }
}
