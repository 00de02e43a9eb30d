//! schemathesis behind the authorization: with tokens that sign, extend, and tell of keys that were made and ended. Whatever is sent,
//! the answer is in the documents, and no right is lost by what it isn't for.

use std::path::Path;

use core_types::bytes::b64;
use core_types::random::SystemRandom;
use core_types::{HashAlg, KeyAlg};
use csc_types::create::CreationRequest;
use csc_types::{Purpose, SecretText};
use natsuin::stack::Device;
use serde_json::{Value, json};

use crate::create::App;
use crate::kit::{Story, until};
use crate::renewed::call;
use crate::sign_doc::{documents, sign_doc};
use crate::spend::{ALG, Spender, approval, body, credential, hashes};
use crate::strangers::{finds_nothing, schemathesis};

const CREATE: &str = "credentials/create";
const DELETE: &str = "credentials/delete";
const EXTEND: &str = "credentials/extendTransaction";
const SIGN_DOC: &str = "signatures/signDoc";
const SIGN_HASH: &str = "signatures/signHash";
/// Of what the signer sees: ten refusals end an act.
const DEEP: u32 = 6;

/// What the hooks get for a method; they know no more than that.
struct Right<'a> {
    token: &'a SecretText,
    /// The token beside which it goes as `SAD`.
    reads: Option<&'a SecretText>,
    always: Value,
    /// Leads to what it is refused for last.
    deep: Value,
    budget: Option<u32>,
    /// That refusal.
    last: &'static str,
}

impl Right<'_> {
    fn for_hooks(&self) -> Value {
        let reads = self.reads.map(SecretText::expose);
        json!({ "token": self.token.expose(), "reads": reads, "always": self.always, "deep": self.deep,
            "budget": self.budget })
    }
}

/// Fuzzes these methods alone, each with its right; each is heard to be refused for what it is refused for last.
fn fuzzed(story: &Story, version: u8, rights: &[(&str, Right<'_>)]) {
    let given: serde_json::Map<String, Value> = rights
        .iter()
        .map(|(method, right)| (format!("/{method}"), right.for_hooks()))
        .collect();
    let dir = story.dir.path();
    let (file, heard) = (dir.join("rights.json"), dir.join("heard.json"));
    std::fs::write(&file, Value::Object(given).to_string()).unwrap();
    let hooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/python/rights.py");
    let mut command = schemathesis(story, version);
    command
        .env("SCHEMATHESIS_HOOKS", hooks)
        .env("NATSUIN_RIGHTS", &file)
        .env("NATSUIN_HEARD", &heard)
        .args(["--max-examples", "20"]);
    for (method, _) in rights {
        command.args(["--include-path", &format!("/{method}")]);
    }
    finds_nothing(&mut command);
    let heard = std::fs::read_to_string(&heard).unwrap();
    let heard: Value = serde_json::from_str(&heard).unwrap();
    for (method, right) in rights {
        let words = &heard[format!("/{method}")];
        let mut all = words.as_array().unwrap().iter();
        let last = all.any(|said| said.as_str().unwrap().starts_with(right.last));
        assert!(last, "{method} in version {version}: {words}");
    }
}

/// What the signer says to a hash that is none of the list.
const NOT_APPROVED: &str = "Hash is not authorized by the SAD";

// shows: II-A2-csc-conformance, T-USE-SAP-BYPASS
#[tokio::test(flavor = "multi_thread")]
async fn whatever_who_may_sends_the_answer_is_in_the_documents_and_no_right_is_lost() {
    let mut story = Story::begin(KeyAlg::P256).await;
    let app = App::of(&story).await;
    // Keys of their own for what tells of keys: the second ends.
    let mut made = Vec::new();
    for _ in 0..2 {
        let mut fresh = Device::new(&story.stack.sic_url, &SystemRandom).unwrap();
        let wish = Purpose::Creation(CreationRequest::default());
        let token = app.token(&mut story, wish, &mut fresh).await;
        made.push((token, fresh));
    }
    let (told, mut fresh) = made.remove(1);
    let creation = made.remove(0).0;
    let wish = json!({ "credentialCreationRequest": {} });
    let (status, told) = call(&story, 2, CREATE, &told, &wish).await;
    assert_eq!(status, 201, "{told}");
    let gone = told["credentialID"].as_str().unwrap().to_owned();
    let wish = Purpose::Deletion {
        credential_id: gone.clone(),
    };
    let deletion = app.token(&mut story, wish, &mut fresh).await;

    let spender = Spender::new(&story.stack, "test-client").await;
    // The same login: a one-time code counts once.
    let mut agent = story.agent.clone();
    let reading = spender
        .token(&mut story, &mut agent, Purpose::Service)
        .await;
    let (own, text) = (credential(&story), b"Lease".to_vec());
    let of_own = json!({ "credentialID": own });
    for version in [2, 1] {
        let (name, algorithm) = match version {
            1 => ("hash", "hashAlgo"),
            _ => ("hashes", "hashAlgorithmOID"),
        };
        let (one, two) = (hashes(1), hashes(2));
        let asked = approval(&own, &one);
        let signing = spender.token(&mut story, &mut agent, asked).await;
        let asked = approval(&own, &two);
        let extending = spender.token(&mut story, &mut agent, asked).await;
        let asked = documents(&own, &[HashAlg::Sha256.digest(&text)]);
        let signing_documents = spender.token(&mut story, &mut agent, asked).await;
        let other = json!([b64(&hashes(1)[0])]);
        let mut rights = vec![
            (
                SIGN_HASH,
                Right {
                    token: &signing,
                    reads: Some(&reading),
                    always: of_own.clone(),
                    deep: json!({ "credentialID": own, name: other, algorithm: HashAlg::Sha256.oid(),
                        "signAlgo": ALG.oid(), "SAD": signing.expose() }),
                    budget: Some(DEEP),
                    last: NOT_APPROVED,
                },
            ),
            (
                EXTEND,
                Right {
                    token: &extending,
                    reads: Some(&reading),
                    always: json!({}),
                    deep: json!({ "credentialID": own, name: other }),
                    budget: Some(DEEP),
                    last: NOT_APPROVED,
                },
            ),
        ];
        if version == 2 {
            let forged = json!([{ "document": b64(b"forged"), "signature_format": "C",
                "signAlgo": ALG.oid() }]);
            rights.push((
                SIGN_DOC,
                Right {
                    token: &signing_documents,
                    reads: Some(&reading),
                    always: of_own.clone(),
                    deep: json!({ "credentialID": own, "documents": forged }),
                    budget: Some(DEEP),
                    last: "Document or documentDigest does not match authorized hash",
                },
            ));
            // Told once: all that could be told is another policy's.
            let policy = json!({ "certificatePolicy": "1.2.3" });
            rights.push((
                CREATE,
                Right {
                    token: &creation,
                    reads: None,
                    always: json!({}),
                    deep: json!({ "credentialCreationRequest": policy }),
                    budget: None,
                    last: "Invalid parameter certificatePolicy",
                },
            ));
            let revoked = json!({ "credentialID": gone, "revoke": true, "revocationReason": 0 });
            rights.push((
                DELETE,
                Right {
                    token: &deletion,
                    reads: None,
                    always: json!({}),
                    deep: json!({ "credentialDeletionRequest": revoked }),
                    budget: None,
                    last: "The certificate isn't revoked",
                },
            ));
        }
        fuzzed(&story, version, &rights);

        // Each right is as good as before.
        if version == 2 {
            let wish = json!({ "credentialCreationRequest": {} });
            let (status, told) = call(&story, 2, CREATE, &creation, &wish).await;
            assert_eq!(status, 201, "{told}");
            let wish = json!({ "credentialDeletionRequest": { "credentialID": gone } });
            until("the deletion to be told", async || {
                call(&story, 2, DELETE, &deletion, &wish).await.0 == 204
            })
            .await;
        }
        let (status, told) = spender.post(&signing, body(&own, &one), None).await;
        assert_eq!(status, 200, "{told}");
        let next = json!({ "credentialID": own, name: [b64(&two[1])] });
        let (status, told) = call(&story, version, EXTEND, &extending, &next).await;
        assert_eq!(status, 200, "{told}");
        let document = json!({ "credentialID": own, "documents": [{ "document": b64(&text),
            "signature_format": "C", "signAlgo": ALG.oid() }] });
        let (status, told) = sign_doc(&story, &signing_documents, &document).await;
        assert_eq!(status, 200, "{told}");
    }
    story.stack.stop().await;
}
