//! `credentials/extendTransaction` over the running service, by clients that know what the specification says and no member of ours.

use core_types::bytes::b64;
use core_types::{HashAlg, KeyAlg};
use csc_types::{Purpose, SecretText};
use natsuin::agent::Agent;
use serde_json::{Value, json};

use crate::kit::Story;
use crate::spend::{Spender, approval, body, credential, hashes};

/// A call in a version of the API.
pub async fn call(
    story: &Story,
    version: u8,
    method: &str,
    token: &SecretText,
    body: &Value,
) -> (u16, Value) {
    let url = format!("{}/csc/v{version}/{method}", story.stack.ssa_url);
    let request = story.stack.http.post(url).bearer_auth(token.expose());
    let answer = request.json(body).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap_or_default())
}

// shows: II-A1-multi-method-2, T-USE-SAP-REPLAY
#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_signed_in_steps_where_the_contract_says_for_how_long() {
    const EXTEND: &str = "credentials/extendTransaction";
    let mut story = Story::begin(KeyAlg::P256).await;
    let spender = Spender::new(&story.stack, "test-client").await;
    let mut agent = Agent::new(&story.stack);
    let own = credential(&story);
    let service = spender
        .token(&mut story, &mut agent, Purpose::Service)
        .await;
    let list = hashes(3);
    let asked = approval(&own, &list);
    let mut token = spender.token(&mut story, &mut agent, asked).await;
    for (n, version) in [(0, 2), (1, 1), (2, 2)] {
        let (status, signed) = spender.post(&token, body(&own, &list[n..=n]), None).await;
        assert_eq!(status, 200, "{signed}");
        // A client that holds a token of each kind: the one that signs is the SAD.
        let names = if version == 1 { "hash" } else { "hashes" };
        let next: Vec<String> = list[n + 1..].iter().take(1).map(b64).collect();
        let mut extend = json!({ "credentialID": own, "SAD": token.expose() });
        if !next.is_empty() {
            extend[names] = json!(next);
        }
        let (status, told) = call(&story, version, EXTEND, &service, &extend).await;
        if n == 2 {
            assert_eq!(status, 400, "nothing is left: {told}");
            break;
        }
        assert_eq!(status, 200, "{told}");
        // What is over is over, in either place.
        let (status, _) = spender
            .post(&token, body(&own, &list[n + 1..=n + 1]), None)
            .await;
        assert_eq!(status, 401);
        assert_eq!(
            call(&story, version, EXTEND, &service, &extend).await.0,
            400
        );
        token = SecretText::new(told["SAD"].as_str().unwrap().to_owned());
    }
    // By the parameters of version 1, and with the token in both places.
    let list = hashes(2);
    let asked = approval(&own, &list);
    let older = Spender::in_version_1(&story.stack, "test-client").await;
    let token = older.token(&mut story, &mut agent, asked).await;
    let sign = |n: usize, sad: &SecretText| {
        json!({ "credentialID": own, "SAD": sad.expose(), "hash": [b64(&list[n])],
            "hashAlgo": HashAlg::Sha256.oid(), "signAlgo": "1.2.840.10045.4.3.2" })
    };
    let method = "signatures/signHash";
    let (status, told) = call(&story, 1, method, &token, &sign(0, &token)).await;
    assert_eq!(status, 200, "{told}");
    let extend = json!({ "credentialID": own, "SAD": token.expose(), "hash": [b64(&list[1])] });
    let (status, told) = call(&story, 1, EXTEND, &token, &extend).await;
    assert_eq!(status, 200, "{told}");
    let next = SecretText::new(told["SAD"].as_str().unwrap().to_owned());
    let (status, told) = call(&story, 1, method, &next, &sign(1, &next)).await;
    assert_eq!(status, 200, "{told}");
    // Another client's contract says nothing of it, and so the signer approved nothing of it.
    let other = Spender::new(&story.stack, "other-client").await;
    let list = hashes(2);
    let asked = approval(&own, &list);
    let token = other.token(&mut story, &mut agent, asked).await;
    let extend = json!({ "credentialID": own, "SAD": token.expose() });
    let (status, told) = call(&story, 2, EXTEND, &token, &extend).await;
    assert_eq!(status, 401, "{told}");
    story.stack.stop().await;
}
