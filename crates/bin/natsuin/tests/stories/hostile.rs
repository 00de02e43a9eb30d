//! Somebody who holds databases, files and logs of the service.

use core_types::KeyAlg;
use natsuin::agent::Agent;
use natsuin::stack::{Options, Stack, StoreChoice};
use serde_json::Value;

use crate::kit::{Story, entries, natsuin, run, start, text};
use crate::levels::stores;
use crate::set_back::{give_rows_back, keep_rows, set_back};
use crate::spend::{Spender, approval, body, credential, hashes};

// shows: T-USE-SAP-REPLAY, T-KEY-ABUSE
#[tokio::test(flavor = "multi_thread")]
async fn databases_set_back_are_noticed_and_get_no_second_value() {
    for store in stores().await {
        set_back_on(store).await;
    }
}

async fn set_back_on(store: StoreChoice) {
    let mut story = Story::on(KeyAlg::P256, store.clone(), false).await;
    let (data, copy) = (story.dir.path().join("data"), story.dir.path().join("copy"));
    let spender = Spender::new(&story.stack, "test-client").await;
    let mut agent = Agent::new(&story.stack);
    let key = credential(&story);
    let approved = hashes(1);
    let asked = approval(&key, &approved);
    let token = spender.token(&mut story, &mut agent, asked).await;
    let request = body(&key, &approved);
    story.stack.stop().await;
    for zone in ["sam", "ssa", "witness"] {
        set_back(&data, &copy, &[zone]);
    }
    keep_rows(&store).await;

    let stack = start(&data, store.clone(), false).await;
    let (status, answer) = spender.post(&token, request.clone(), None).await;
    assert_eq!(status, 200, "{answer}");
    stack.stop().await;

    // The witness saw the newer logs, so that the older databases don't even start.
    set_back(&copy, &data, &["sam", "ssa"]);
    give_rows_back(&store).await;
    let options = Options {
        store: store.clone(),
        ..Options::new(data.clone())
    };
    let refused = Stack::start(&options, &|_| {}).await.err().unwrap();
    assert_eq!(refused.code, "audit", "{}", refused.what);

    // With the witness set back too, the act is approved and unspent again; the module remembers its order.
    set_back(
        &copy,
        &data,
        &["sam", "ssa", "witness/sam.txt", "witness/ssa.txt"],
    );
    give_rows_back(&store).await;
    let stack = start(&data, store.clone(), false).await;
    let (status, answer) = spender.post(&token, request.clone(), None).await;
    assert_ne!(status, 200, "{answer}");
    assert_ne!(spender.post(&token, request, None).await.0, 200);
    stack.stop().await;
    let export = story.dir.path().join("export");
    let mut command = natsuin();
    command.args(["audit", "export", "--data"]).arg(&data);
    if let StoreChoice::Postgres(url) = &store {
        command.args(["--store", url.as_str()]);
    }
    let said = run(command.arg("--out").arg(&export));
    assert!(said.status.success(), "{}", text(&said));
    let log = entries(&export, "cm");
    let duplicate =
        |e: &&Value| e["kind"] == "cm.order-refused" && e["detail"]["reason"] == "duplicate";
    assert_eq!(
        log.iter().filter(duplicate).count(),
        1,
        "the module refused the order as one it knows"
    );
}
