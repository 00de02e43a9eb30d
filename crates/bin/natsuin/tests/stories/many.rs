//! As many hashes as one act takes: asked, shown, approved once, signed in one call.

use std::collections::BTreeSet;

use core_types::bytes::from_b64;
use natsuin::agent::Agent;
use pki::{Certificate, Signed, verify_signature};

use crate::spend::{ALG, Spender, approval, body, credential, hashes, on_both};

const MANY: usize = 10_000;

// shows: II-A1-multi-method-1, I-4.2.2b-sad-per-document-or-batch
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_hashes_are_approved_at_once_and_signed_in_one_call() {
    on_both(async |mut story| {
        let spender = Spender::new(&story.stack, "test-client").await;
        let mut agent = Agent::new(&story.stack);
        let (id, approved) = (credential(&story), hashes(MANY));
        let asked = approval(&id, &approved);
        let token = spender.token(&mut story, &mut agent, asked).await;
        let certificate = spender.certificate(&token, &id).await;
        let certificate = Certificate::parse(&certificate).unwrap();

        // One that wasn't approved among them: nothing is signed, and nothing is used up.
        let mut swapped = approved.clone();
        swapped[MANY / 2] = hashes(1).remove(0);
        assert_eq!(spender.post(&token, body(&id, &swapped), None).await.0, 400);
        // In another order than they were approved in: the values follow the request.
        let reversed: Vec<_> = approved.iter().rev().cloned().collect();
        let request = body(&id, &reversed);
        let (status, answer) = spender.post(&token, request.clone(), None).await;
        assert_eq!(status, 200);
        let values = answer["signatures"].as_array().unwrap();
        let mut seen = BTreeSet::new();
        for (hash, value) in reversed.iter().zip(values) {
            let value = from_b64(value.as_str().unwrap()).unwrap();
            verify_signature(certificate.spki(), ALG, Signed::Digest(hash), &value).unwrap();
            seen.insert(value);
        }
        assert_eq!((values.len(), seen.len()), (MANY, MANY));
        assert_eq!(spender.post(&token, request, None).await.0, 401);
        story.stack.stop().await;
    })
    .await;
}
