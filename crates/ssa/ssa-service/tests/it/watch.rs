//! Looking what CAs publish about the certificates of keys: what is brought to the SAM, and what happens when a CA is silent.

use core_types::{B64, KeyId};
use pki::Certificate;
use sam_api::ssa::{Published, WatchedCertificate};
use ssa_service::Looked;

use crate::certificates::{with_ca, with_cas};
use crate::web::{Stack, until};

/// A key whose certificate is of the stack's CA; the serial number.
fn key(stack: &Stack, id: &str, held: bool) -> String {
    let pem = with_ca(stack, |ca| ca.person_cert(id).unwrap().chain_pem);
    let chain = Certificate::parse_pem(&pem).unwrap();
    let watched = WatchedCertificate {
        key: KeyId::parse(id).unwrap(),
        chain: chain[..2].iter().map(|c| B64(c.der().to_vec())).collect(),
        held,
    };
    stack.sam.with(|s| s.watched.push(watched));
    chain[0].info().serial
}

async fn look(stack: &Stack) -> (u32, u32, u32) {
    let Looked {
        certificates,
        unknown,
        brought,
    } = stack.ssa.watch_certificates().await.unwrap();
    (certificates, unknown, brought)
}

async fn alarms(stack: &Stack) -> usize {
    let kinds = stack.audit_kinds().await;
    kinds.iter().filter(|kind| *kind == "alarm").count()
}

// shows: I-A4.2-revocation-prompt-destruction, I-4.2.2c-termination-causes
#[tokio::test(flavor = "multi_thread")]
async fn what_a_ca_publishes_is_brought_and_its_silence_is_an_alarm_once() {
    let (_dir, stacks) = with_cas(|_| {}).await;
    for stack in stacks {
        let serial = key(&stack, "key-a", false);
        key(&stack, "key-b", false);
        assert_eq!(look(&stack).await, (2, 0, 0), "nothing to tell");
        with_ca(&stack, |ca| ca.revoke(&serial, 1).unwrap());
        assert_eq!(look(&stack).await, (2, 0, 1));
        let brought = stack.sam.with(|s| s.published.pop().unwrap());
        assert_eq!(brought.key.as_str(), "key-a");
        assert!(matches!(brought.published, Published::Ocsp(_)));
        // That a key which is on hold counts again is told, too.
        key(&stack, "key-c", true);
        assert_eq!(look(&stack).await, (3, 0, 2));
        let brought = stack.sam.with(|s| std::mem::take(&mut s.published));
        assert!(brought.iter().any(|b| b.key.as_str() == "key-c"));

        let ca = stack.net.0.lock().unwrap().take();
        assert_eq!(alarms(&stack).await, 0);
        for _ in 0..3 {
            assert_eq!(look(&stack).await, (3, 3, 0), "no stop");
        }
        assert_eq!(alarms(&stack).await, 1, "told once");
        assert!(stack.sam.with(|s| s.published.is_empty()));
        *stack.net.0.lock().unwrap() = ca;
        assert_eq!(look(&stack).await, (3, 0, 2));
        *stack.net.0.lock().unwrap() = None;
        look(&stack).await;
        assert_eq!(alarms(&stack).await, 2, "and when it happens again");
    }
}

// shows: I-A4.2-revocation-prompt-destruction
#[tokio::test(flavor = "multi_thread")]
async fn keys_behind_a_page_that_the_sam_does_not_give_are_looked_at_next_and_it_is_told() {
    let (_dir, stacks) = with_cas(|_| {}).await;
    for stack in stacks {
        let serials: Vec<String> = ["key-a", "key-b", "key-c"]
            .iter()
            .map(|id| key(&stack, id, false))
            .collect();
        with_ca(&stack, |ca| ca.revoke(&serials[2], 1).unwrap());
        let page = |ends: Option<&str>| {
            stack.sam.with(|s| {
                s.watched_page = Some(1);
                s.watched_ends = ends.map(|id| KeyId::parse(id).unwrap());
            });
        };
        page(Some("key-b"));
        for n in [2, 0] {
            assert_eq!(look(&stack).await, (n, 0, 0));
            assert_eq!(alarms(&stack).await, 1, "told once");
        }
        page(None);
        assert_eq!(look(&stack).await, (1, 0, 1), "it goes on behind the last");
        assert_eq!(look(&stack).await, (3, 0, 1), "and begins anew");
        page(Some("key-a"));
        look(&stack).await;
        assert_eq!(alarms(&stack).await, 2, "and when it happens again");
    }
}

// shows: I-A4.2-revocation-prompt-destruction
#[tokio::test]
async fn keys_behind_those_that_nobody_answers_for_have_their_turn() {
    let (_dir, stacks) = with_cas(|_| {}).await;
    for stack in stacks {
        let serials: Vec<String> = ('a'..='l')
            .map(|id| key(&stack, &format!("key-{id}"), false))
            .collect();
        with_ca(&stack, |ca| ca.revoke(&serials[11], 1).unwrap());
        stack.sam.with(|s| s.watched_page = Some(5));
        *stack.net.3.lock().unwrap() = serials[..8].to_vec();
        for _ in 0..4 {
            assert_eq!(look(&stack).await.0, 12, "all of them, each once");
        }
        let brought = stack.sam.with(|s| std::mem::take(&mut s.published));
        assert!(brought.iter().any(|b| b.key.as_str() == "key-l"));
        assert_eq!(alarms(&stack).await, 1, "told once");
        stack.net.3.lock().unwrap().clear();
        assert_eq!(look(&stack).await, (12, 0, 1));
        *stack.net.3.lock().unwrap() = serials[..8].to_vec();
        look(&stack).await;
        assert_eq!(alarms(&stack).await, 2, "and when it happens again");
    }
}

// shows: I-A4.2-revocation-prompt-destruction
#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_takes_too_long_is_an_alarm_and_so_is_a_ca_before_the_look_is_over() {
    let (_dir, stacks) = with_cas(|_| {}).await;
    for stack in stacks {
        key(&stack, "key-a", false);
        key(&stack, "key-b", false);
        let ca = stack.net.0.lock().unwrap().take();
        stack.sam.with(|s| {
            s.watched_page = Some(1);
            s.watched_hangs_after = KeyId::parse("key-a").ok();
        });
        let watching = stack.ssa.clone();
        let every = std::time::Duration::from_millis(50);
        let watching = tokio::spawn(async move { watching.keep_watch(every).await });
        until("both alarms", async || {
            (alarms(&stack).await == 2).then_some(())
        })
        .await;
        watching.abort();
        *stack.net.0.lock().unwrap() = ca;
    }
}
