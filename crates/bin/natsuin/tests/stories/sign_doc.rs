//! `signatures/signDoc` over the running service: the worker behind its own socket, with the caller's token and nothing else.

use std::sync::Arc;

use core_types::bytes::{b64, from_b64};
use core_types::random::SystemRandom;
use core_types::{Clock as _, HashAlg, KeyAlg, Random as _, SecretBytes};
use csc_types::{DocumentDigest, HashType, Purpose, SecretText, SignatureAuthorization};
use natsuin::agent::Agent;
use natsuin::stack::{NAME_SAM, NewSigner, StoreChoice};
use pki::cms::SignedData;
use serde_json::{Value, json};
use sic_core::Totp;

use crate::bad_input::Ahead;
use crate::kit::Story;
use crate::spend::{Spender, credential};

const P256: &str = "1.2.840.10045.4.3.2";

/// An approval of documents by their hashes; what gets signed is the SAM's to compute.
pub fn documents(credential_id: &str, hashes: &[Vec<u8>]) -> Purpose {
    let digest = |hash: &Vec<u8>| DocumentDigest {
        hash: hash.clone(),
        label: Some("契約書".to_owned()),
        hash_type: Some(HashType::Sdr),
        ..DocumentDigest::default()
    };
    Purpose::Credential(SignatureAuthorization {
        credential_id: Some(credential_id.to_owned()),
        signature_qualifier: None,
        num_signatures: u32::try_from(hashes.len()).unwrap(),
        digests: hashes.iter().map(digest).collect(),
        hash_algorithm: Some(HashAlg::Sha256),
        renewable_for: None,
    })
}

pub async fn sign_doc(story: &Story, token: &SecretText, body: &Value) -> (u16, Value) {
    let url = format!("{}/csc/v2/signatures/signDoc", story.stack.ssa_url);
    let request = story.stack.http.post(url).bearer_auth(token.expose());
    let answer = request.json(body).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap_or_default())
}

fn found(told: &Value, member: &str) -> Vec<Vec<u8>> {
    let all = told[member].as_array().into_iter().flatten();
    all.map(|text| from_b64(text.as_str().unwrap()).unwrap())
        .collect()
}

// shows: T-USE-DTBSR-FORGE, T-USE-SAP-REPLAY
#[tokio::test(flavor = "multi_thread")]
async fn documents_are_signed_by_the_worker_with_the_callers_token_and_no_others() {
    let mut story = Story::begin(KeyAlg::P256).await;
    let spender = Spender::new(&story.stack, "test-client").await;
    let mut agent = Agent::new(&story.stack);
    let own = credential(&story);
    let text = "契約書の本文\n".repeat(1000).into_bytes();
    let (other, digest) = (b"another".to_vec(), SystemRandom.digest32().0.to_vec());
    let hash = |bytes: &[u8]| HashAlg::Sha256.digest(bytes);
    let approved = [hash(&text), hash(&other), digest.clone()];
    let token = spender
        .token(&mut story, &mut agent, documents(&own, &approved))
        .await;
    let common = |more: Value| {
        let mut entry = json!({ "signature_format": "C", "signAlgo": P256 });
        for (name, value) in more.as_object().unwrap() {
            entry[name] = value.clone();
        }
        entry
    };
    let of = |member: &str, entries: Value| json!({ "credentialID": own, member: entries });
    // Nothing of this signs, and nothing of it uses the right up.
    let forged = of(
        "documents",
        json!([common(json!({ "document": b64(b"forged") }))]),
    );
    let (status, told) = sign_doc(&story, &token, &forged).await;
    assert_eq!(
        (status, told["error"].as_str()),
        (403, Some("invalid_hash")),
        "{told}"
    );
    for (more, words) in [
        (
            json!({ "signature_format": "X" }),
            "Invalid parameter signature_format",
        ),
        (
            json!({ "signature_format": "P" }),
            "Invalid array parameter documents",
        ),
        (
            json!({ "conformance_level": "AdES-B-LTA" }),
            "Invalid parameter conformance_level",
        ),
        (
            json!({ "signed_envelope_property": "Parallel" }),
            "Invalid parameter signed_envelope_property",
        ),
        (
            json!({ "signAlgo": "1.2.840.113549.1.1.11" }),
            "Invalid parameter signAlgo",
        ),
    ] {
        let mut entry = common(json!({ "document": b64(&text) }));
        for (name, value) in more.as_object().unwrap() {
            entry[name] = value.clone();
        }
        let (status, told) = sign_doc(&story, &token, &of("documents", json!([entry]))).await;
        assert_eq!(
            (status, told["error_description"].as_str()),
            (400, Some(words))
        );
    }
    // Two documents: one in its signature with a time-stamp, one beside it.
    let entries = json!([
        common(json!({ "document": b64(&text), "conformance_level": "AdES-B-T" })),
        common(json!({ "document": b64(&other), "signed_envelope_property": "Detached" })),
    ]);
    let both = of("documents", entries);
    let (status, told) = sign_doc(&story, &token, &both).await;
    assert_eq!(status, 200, "{told}");
    let (with, without) = (
        found(&told, "DocumentWithSignature"),
        found(&told, "SignatureObject"),
    );
    assert_eq!((with.len(), without.len()), (1, 1), "{told}");
    let signed = SignedData::parse(&with[0]).unwrap();
    assert_eq!(signed.content.as_deref(), Some(text.as_slice()));
    assert!(SignedData::parse(&without[0]).unwrap().content.is_none());
    for (cms, document, stamps) in [(&with[0], &text, 1), (&without[0], &other, 0)] {
        let signed = SignedData::parse(cms).unwrap();
        let [signer] = signed.signers.as_slice() else {
            panic!("one signer")
        };
        let digest = signer.signed_attr(pki::oid::MESSAGE_DIGEST).unwrap();
        assert!(digest.ends_with(&hash(document)));
        let leaf = signed.signer_certificate(signer, &[]).unwrap();
        assert!(leaf.subject_text().contains("髙橋 花子"));
        let stamped = signer.unsigned.iter();
        let stamped = stamped.filter(|a| a.oid == pki::oid::SIGNATURE_TIME_STAMP);
        assert_eq!(stamped.count(), stamps);
    }
    let anchors = std::fs::read_to_string(story.anchors()).unwrap();
    let anchors = pki::Certificate::parse_pem(&anchors).unwrap();
    let trust = cades::Trust {
        anchors: anchors.iter().map(|c| c.der().to_vec()).collect(),
        ..cades::Trust::default()
    };
    let intact = |document: &[u8]| {
        let digest = |alg: HashAlg| alg.digest(document);
        let now = story.stack.clock().now();
        cades::verify(&without[0], &digest, &trust, &Default::default(), now).intact
    };
    assert!(intact(&other) && !intact(b"forged"));
    // The token made its one signHash: the same call gets the same values, if its answer was lost, and another gets none.
    let (status, again) = sign_doc(&story, &token, &both).await;
    assert_eq!(status, 200, "{again}");
    let value = |cms: &[u8]| SignedData::parse(cms).unwrap().signers[0].signature.clone();
    let with_again = found(&again, "DocumentWithSignature");
    assert_eq!(value(&with_again[0]), value(&with[0]));
    assert_eq!(found(&again, "SignatureObject"), without);
    let fewer = json!([common(json!({ "document": b64(&text) }))]);
    let (status, _) = sign_doc(&story, &token, &of("documents", fewer)).await;
    assert_eq!(status, 401);
    // A signature of a digest, as a PDF gets it.
    let token = spender
        .token(&mut story, &mut agent, documents(&own, &approved[2..]))
        .await;
    let entry = json!({ "hashes": [b64(&digest)], "signature_format": "P", "signAlgo": P256 });
    let (status, told) = sign_doc(&story, &token, &of("documentDigests", json!([entry]))).await;
    assert_eq!(status, 200, "{told}");
    assert_eq!(found(&told, "SignatureObject").len(), 1);
    // Nobody but the SSA may hand the worker anything.
    let worker = story.stack.inner.worker.clone();
    let stranger = story.stack.caller(&worker, NAME_SAM).unwrap();
    let request = csc_types::WorkerRequest {
        token,
        body: "{}".to_owned(),
        idempotency_key: None,
    };
    let refused = stranger.call::<csc_types::WorkerSignDoc>(&request).await;
    let Err(service_kit::CallError::Refused(refusal)) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(refusal.status, 403);
    story.stack.stop().await;
}

// shows: T-USE-DTBSR-FORGE
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_collects_secrets_has_documents_signed_if_it_says_that_they_are_some() {
    let clock = Arc::new(Ahead::default());
    let key = KeyAlg::P256;
    let mut story = Story::at(key, StoreChoice::Embedded, false, clock.clone()).await;
    let of = NewSigner {
        login: "hanako",
        name: "髙橋 花子",
        keys: &[key],
        collected: false,
        exportable: false,
        one_time: false,
    };
    let mut signer = story.signer.clone();
    story.stack.enrol_collected(&of, &mut signer).await.unwrap();
    let spender = Spender::new(&story.stack, "test-client").await;
    let mut agent = Agent::new(&story.stack);
    let service = spender
        .token(&mut story, &mut agent, Purpose::Service)
        .await;
    let mut all = signer.credentials.iter();
    let own = all
        .find(|c| c.auth_mode == "explicit" && !c.algo.starts_with("rsa"))
        .unwrap();
    let seed = SecretBytes::from(own.totp_secret.clone().unwrap());
    let totp = Totp::from_base32(&seed).unwrap();
    let text = "契約書の本文\n".repeat(10).into_bytes();
    let entry = json!({ "document": b64(&text), "signature_format": "C", "signAlgo": P256 });
    // The hash that is approved is the document's in each case; what it is the hash of is what differs.
    for (said, status) in [(Value::Null, 400), (json!("sdr"), 200)] {
        clock.advance(60);
        let code = totp.code(clock.now()).expose().to_vec();
        let body = json!({ "credentialID": own.credential_id, "numSignatures": 1,
            "hashes": [b64(HashAlg::Sha256.digest(&text))], "hashAlgorithmOID": HashAlg::Sha256.oid(),
            "hashType": said, "authData": [{ "id": "PIN", "value": own.pin },
                { "id": "OTP", "value": String::from_utf8(code).unwrap() }] });
        let url = format!("{}/csc/v2/credentials/authorize", story.stack.ssa_url);
        let request = story.stack.http.post(url).bearer_auth(service.expose());
        let granted = request.json(&body).send().await.unwrap();
        let granted: Value = granted.json().await.unwrap();
        let body = json!({ "credentialID": own.credential_id, "SAD": granted["SAD"], "documents": [entry] });
        let (told, answer) = sign_doc(&story, &service, &body).await;
        assert_eq!(told, status, "{answer}");
        match status {
            200 => {
                let cms = found(&answer, "DocumentWithSignature");
                let signed = SignedData::parse(&cms[0]).unwrap();
                assert_eq!(signed.content.as_deref(), Some(text.as_slice()));
            }
            _ => {
                let words = answer["error_description"].as_str().unwrap();
                assert!(words.contains("ask with hashType sdr"), "{words}");
            }
        }
    }
    story.stack.stop().await;
}
