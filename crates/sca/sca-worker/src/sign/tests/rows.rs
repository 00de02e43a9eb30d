//! Every error that the tables of the specification have for `signatures/signDoc` (11.14), said by the worker itself: a row without a
//! case, or an answer without a row, fails. That the service passes them on, its own tests show.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use core_types::PssParams;
use core_types::bytes::{b64, from_b64};
use csc_types::algorithm::{EC_PUBLIC_KEY, RSASSA_PSS};
use pki::cms::SignedData;
use serde_json::{Value, json};

use super::provider::{AT, CONTRACT, DATED, DEAD_SAD, DIGEST, OLD_SAD, Provider, SAD, TOKEN};
use super::{Together, worker};
use crate::{WorkerRefusal, WorkerRequest};

const P256: &str = "1.2.840.10045.4.3.2";

/// Status and code stand before the words where they aren't 400 and `invalid_request`.
const ROWS: [&str; 38] = [
    "The request body must be one JSON object without repeated members",
    "Invalid object parameter documentDigests",
    "Invalid array parameter documents",
    "Empty documentDigests and documents objects",
    "Both documentDigests and documents parameters passed",
    "Invalid Base64 hashes string parameter",
    "Invalid Base64 documents string parameter",
    "Missing (or invalid type) string parameter signature_format",
    "Invalid parameter signature_format",
    "Invalid parameter conformance_level",
    "Invalid parameter signed_envelope_property",
    "Invalid parameter signed_props: x",
    "Invalid parameter signed_props: signing-time",
    "Invalid parameter signed_props: signing-time Reason",
    "String parameter hashAlgorithmOID contradicts with signAlgo parameter",
    "403 invalid_hash: Document or documentDigest does not match authorized hash",
    // As signatures/signHash.
    "Missing (or invalid type) string parameter SAD",
    "Invalid parameter SAD",
    "SAD expired",
    "Missing (or invalid type) string parameter credentialID",
    "Invalid parameter credentialID",
    "Missing (or invalid type) string parameter signAlgo",
    "Invalid parameter signAlgo",
    "Missing (or invalid type) string parameter signAlgoParams",
    "Invalid parameter signAlgoParams",
    "Invalid parameter signAlgoParams: not DER of RSASSA-PSS-params",
    "Invalid parameter signAlgoParams: salt length must be that of the digest, or the longest that the key allows",
    "Missing (or invalid type) string parameter hashAlgorithmOID",
    "Invalid parameter hashAlgorithmOID",
    "Invalid parameter clientData",
    "Invalid digest value length",
    "Signing certificate is expired",
    "Invalid certificate status",
    // Neither is offered with documents.
    "Invalid parameter operationMode",
    "Invalid parameter validity_period",
    "Invalid parameter response_uri",
    "Invalid parameter returnValidationInfo",
    "401 invalid_token: The access token is not valid",
];

/// An entry of `documents` with other members than the usual ones.
fn document(more: Value) -> Value {
    changed(
        json!({ "document": b64(CONTRACT), "signature_format": "C", "signAlgo": P256 }),
        more,
    )
}

/// An entry of `documentDigests`.
fn digests(more: Value) -> Value {
    changed(
        json!({ "hashes": [b64(DIGEST)], "signature_format": "P", "signAlgo": P256 }),
        more,
    )
}

fn changed(mut base: Value, more: Value) -> Value {
    let Value::Object(more) = more else {
        panic!("members")
    };
    for (name, value) in more {
        base[name] = value;
    }
    base
}

/// A call for this credential.
fn call(credential: &str, more: Value) -> Value {
    changed(json!({ "credentialID": credential }), more)
}

/// For entries of either kind, as its members tell.
fn of(entry: Value) -> Value {
    let list = match entry.get("document") {
        Some(_) => "documents",
        None => "documentDigests",
    };
    call("ec", json!({ list: [entry] }))
}

fn request(token: &str, body: String) -> WorkerRequest {
    WorkerRequest {
        token: token.to_owned().into(),
        body,
        idempotency_key: None,
    }
}

fn said(refusal: &WorkerRefusal) -> String {
    let WorkerRefusal {
        status,
        error,
        description,
    } = refusal;
    match (*status, error.as_str()) {
        (400, "invalid_request") => description.clone(),
        _ => format!("{status} {error}: {description}"),
    }
}

/// Calls that can't be meant, by the call and by its entries.
fn misread() -> Vec<Value> {
    let good = of(document(json!({})));
    let with = |more| changed(good.clone(), more);
    let mut all = vec![
        with(json!({ "credentialID": null })),
        with(json!({ "SAD": 7 })),
        with(json!({ "clientData": 7 })),
        with(json!({ "operationMode": "A" })),
        with(json!({ "validity_period": 1 })),
        with(json!({ "response_uri": "https://app.example/" })),
        with(json!({ "returnValidationInfo": true })),
        with(json!({ "documentDigests": [digests(json!({}))] })),
        call("ec", json!({})),
        call("ec", json!({ "documents": 7 })),
        call("ec", json!({ "documentDigests": 7 })),
        of(digests(json!({ "hashes": ["*"] }))),
    ];
    for more in [
        json!({ "document": "*" }),
        json!({ "signature_format": null }),
        json!({ "signature_format": "Z" }),
        json!({ "conformance_level": "AdES-B-Z" }),
        json!({ "signed_envelope_property": "Revision" }),
        json!({ "signed_props": [{ "attribute_name": "x" }] }),
        json!({ "signed_props": [{ "attribute_name": "signing-time" },
            { "attribute_name": "Reason", "attribute_value": "AQ==" }] }),
        json!({ "signAlgo": null }),
        json!({ "signAlgoParams": "*" }),
    ] {
        all.push(of(document(more)));
    }
    all.push(of(digests(json!({ "hashAlgorithmOID": 7 }))));
    all
}

/// Entries that are read and that can't be signed so, each with the words that name why.
fn not_offered() -> Vec<(Value, &'static str)> {
    let not_canonical = b64(pki::asn1::generalized_time(AT));
    let (sha1, sha256, sha384) = (
        "1.3.14.3.2.26",
        "2.16.840.1.101.3.4.2.1",
        "2.16.840.1.101.3.4.2.2",
    );
    vec![
        (
            document(json!({ "signature_format": "X" })),
            "Invalid parameter signature_format",
        ),
        (
            document(json!({ "signature_format": "J" })),
            "Invalid parameter signature_format",
        ),
        (
            document(json!({ "signature_format": "P" })),
            "Invalid array parameter documents",
        ),
        // There is nobody here who gives time-stamps.
        (
            document(json!({ "conformance_level": "AdES-B-T" })),
            "Invalid parameter conformance_level",
        ),
        (
            document(json!({ "conformance_level": "AdES-B-LTA" })),
            "Invalid parameter conformance_level",
        ),
        (
            document(json!({ "signed_envelope_property": "Parallel" })),
            "Invalid parameter signed_envelope_property",
        ),
        (
            digests(json!({ "signature_format": "C" })),
            "Invalid parameter signed_envelope_property",
        ),
        (
            document(
                json!({ "signed_props": [{ "attribute_name": "signing-time", "attribute_value": not_canonical }] }),
            ),
            "Invalid parameter signed_props: signing-time",
        ),
        (
            document(json!({ "signAlgo": "1.2.3" })),
            "Invalid parameter signAlgo",
        ),
        (
            document(json!({ "signAlgo": "1.2.840.113549.1.1.11" })),
            "Invalid parameter signAlgo",
        ),
        (
            document(json!({ "signAlgo": EC_PUBLIC_KEY })),
            "Missing (or invalid type) string parameter hashAlgorithmOID",
        ),
        (
            digests(json!({ "signAlgo": EC_PUBLIC_KEY })),
            "Missing (or invalid type) string parameter hashAlgorithmOID",
        ),
        (
            digests(json!({ "hashAlgorithmOID": sha1 })),
            "Invalid parameter hashAlgorithmOID",
        ),
        (
            digests(json!({ "hashAlgorithmOID": sha384 })),
            "String parameter hashAlgorithmOID contradicts with signAlgo parameter",
        ),
        (
            digests(json!({ "hashes": [b64([7; 20])], "hashAlgorithmOID": sha256 })),
            "Invalid digest value length",
        ),
        (
            digests(json!({ "hashes": [b64(DIGEST), b64([7; 48])] })),
            "Invalid digest value length",
        ),
        // What nobody approved: another document, the right one at another time, a digest twice.
        (
            document(json!({ "document": b64(b"forged") })),
            "403 invalid_hash: Document or documentDigest does not match authorized hash",
        ),
        (
            document(json!({ "document": b64(DATED) })),
            "403 invalid_hash: Document or documentDigest does not match authorized hash",
        ),
        (
            digests(json!({ "hashes": [b64(DIGEST), b64(DIGEST)] })),
            "403 invalid_hash: Document or documentDigest does not match authorized hash",
        ),
    ]
}

/// Calls of other keys, and with other rights.
fn by_others() -> Vec<(Value, &'static str)> {
    let pss = |params: Value| json!({ "signAlgo": RSASSA_PSS, "signAlgoParams": params });
    let rsa = |params| call("rsa", json!({ "documents": [document(pss(params))] }));
    let hash = core_types::HashAlg::Sha256;
    let salt = b64(PssParams { hash, salt: 20 }.to_der());
    let entry = document(json!({}));
    let by = |credential, sad: &str| call(credential, json!({ "SAD": sad, "documents": [entry] }));
    let two = ["1.2.840.113549.1.1.11", "1.2.840.113549.1.1.12"];
    let two = two.map(|oid| document(json!({ "signAlgo": oid })));
    vec![
        (
            rsa(Value::Null),
            "Missing (or invalid type) string parameter signAlgoParams",
        ),
        (
            rsa(json!("AQID")),
            "Invalid parameter signAlgoParams: not DER of RSASSA-PSS-params",
        ),
        (
            rsa(json!(salt)),
            "Invalid parameter signAlgoParams: salt length must be that of the digest, or the longest that the key allows",
        ),
        // One token makes one signHash.
        (
            call("rsa", json!({ "documents": two })),
            "Invalid parameter signAlgo",
        ),
        (by("nobodys", SAD), "Invalid parameter credentialID"),
        (by("ec", DEAD_SAD), "Invalid parameter SAD"),
        (by("ec", OLD_SAD), "SAD expired"),
        (by("over", SAD), "Signing certificate is expired"),
        (by("broken", SAD), "Invalid certificate status"),
    ]
}

// shows: T-USE-DTBSR-FORGE
#[tokio::test]
async fn every_row_of_the_table_is_said_by_the_worker() {
    let (provider, service) = Provider::start().await;
    let worker = worker(&service, Together::of(1), Vec::new());
    let mut heard = BTreeSet::new();
    for body in misread() {
        let refused = worker.sign_doc(request(TOKEN, body.to_string())).await;
        heard.insert(said(&refused.unwrap_err()));
    }
    assert!(provider.asked.lock().unwrap().is_empty());
    let offered = not_offered().into_iter().map(|(e, words)| (of(e), words));
    for (body, words) in offered.chain(by_others()) {
        let refused = worker.sign_doc(request(TOKEN, body.to_string())).await;
        let told = said(&refused.expect_err(words));
        assert_eq!(told, words, "{body}");
        heard.insert(told);
    }
    for (token, body) in [
        (TOKEN, "{".to_owned()),
        ("unknown", of(document(json!({}))).to_string()),
    ] {
        let refused = worker.sign_doc(request(token, body)).await;
        heard.insert(said(&refused.unwrap_err()));
    }
    let wanted = BTreeSet::from(ROWS.map(str::to_owned));
    let missing: Vec<_> = wanted.difference(&heard).collect();
    let more: Vec<_> = heard.difference(&wanted).collect();
    assert!(
        missing.is_empty() && more.is_empty(),
        "not reached {missing:#?}, not in the table {more:#?}"
    );
}

#[tokio::test]
async fn what_was_approved_is_signed_in_one_call_and_comes_back_in_its_form() {
    let (provider, service) = Provider::start().await;
    let worker = worker(&service, Together::of(1), Vec::new());
    let at = b64(pki::asn1::time(AT));
    let at = json!([{ "attribute_name": "signing-time", "attribute_value": at }]);
    let detached = json!({ "document": b64(DATED), "signed_envelope_property": "Detached" });
    let dated = document(changed(detached, json!({ "signed_props": at })));
    let documents = json!([document(json!({})), dated]);
    let both = call("ec", json!({ "SAD": SAD, "documents": documents })).to_string();
    let done = worker.sign_doc(request(TOKEN, both.clone())).await.unwrap();
    let ([with], [without]) = (done.documents.as_slice(), done.signatures.as_slice()) else {
        panic!("{done:?}")
    };
    let read = |text: &String| SignedData::parse(&from_b64(text).unwrap()).unwrap();
    assert_eq!(read(with).content.as_deref(), Some(CONTRACT));
    let beside = read(without);
    assert_eq!(beside.content, None);
    let said = beside.signers[0].signed_attr(pki::oid::SIGNING_TIME);
    assert_eq!(said.unwrap(), pki::asn1::time(AT));
    // A digest, of which there is nothing that could be attached.
    let digest = of(digests(json!({}))).to_string();
    let done = worker.sign_doc(request(TOKEN, digest)).await.unwrap();
    assert_eq!((done.documents.len(), done.signatures.len()), (0, 1));
    // One call each, with the caller's SAD; the same call has the same name, and another another.
    provider.lose_answer.store(true, Ordering::SeqCst);
    let lost = worker.sign_doc(request(TOKEN, both)).await.unwrap_err();
    assert_eq!(
        (lost.status, lost.description.as_str()),
        (500, csc_types::OUTCOME_LOST)
    );
    let asked = std::mem::take(&mut *provider.asked.lock().unwrap());
    let [(first, two), (second, one), (again, _)] = asked.as_slice() else {
        panic!("{asked:?}")
    };
    assert!(first == again && first != second);
    assert_eq!((two.hashes.len(), one.hashes.len()), (2, 1));
    assert!(two.sad.as_ref().is_some_and(|sad| sad.ct_eq(SAD)) && one.sad.is_none());
    let hash = core_types::HashAlg::Sha256.oid();
    assert_eq!(two.hash_algorithm_oid.as_deref(), Some(hash));
}

#[tokio::test]
async fn a_call_with_a_one_time_key_that_failed_after_its_values_is_repeated() {
    let (provider, service) = Provider::start().await;
    let worker = worker(&service, Together::of(1), Vec::new());
    let documents = json!([document(json!({}))]);
    let body = call("once", json!({ "SAD": SAD, "documents": documents })).to_string();
    provider.lose_answer.store(true, Ordering::SeqCst);
    let lost = worker.sign_doc(request(TOKEN, body.clone())).await;
    assert_eq!(lost.unwrap_err().description, csc_types::OUTCOME_LOST);
    // The key is gone by now.
    provider.lose_answer.store(false, Ordering::SeqCst);
    let done = worker.sign_doc(request(TOKEN, body)).await.unwrap();
    assert_eq!(done.documents.len(), 1);
    let asked = provider.asked.lock().unwrap();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].0, asked[1].0, "the same call");
}
