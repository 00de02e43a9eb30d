//! Methods that a service may offer or not: `sendOTP`, `getChallenge`, `signDoc`, `create`, `delete`. What sends something to a person, or makes or
//! ends a key, isn't done by a check; it is named as not tested.

use core_types::bytes::b64;
use serde_json::{Value, json};

use super::{Kind, Run, refusal};
use crate::error::ClientError;
use crate::plain::{Proof, Version};

/// What isn't given when the service doesn't name the method in `info.methods`.
const NOT_OFFERED: &str = "a service that offers it";

/// A method, its clause, what would be its good use, and what that needs.
struct Offer {
    method: &'static str,
    clause: &'static str,
    good: &'static str,
    needs: &'static str,
    /// Calls that have to be refused, with the statuses.
    bad: Vec<(&'static str, Value, &'static [u16])>,
}

impl Run<'_> {
    /// Refusals of each method that `info` names, with a token that reads.
    pub(super) async fn offered(
        &mut self,
        info: &Value,
        bearer: Proof<'_>,
    ) -> Result<(), ClientError> {
        let named = |method: &str| {
            let all = info["methods"].as_array();
            all.is_some_and(|all| all.iter().any(|name| name == method))
        };
        for offer in offers(self.service.version()) {
            if !named(offer.method) {
                self.skip(offer.good, offer.clause, Kind::Positive, NOT_OFFERED);
                continue;
            }
            for (name, body, statuses) in offer.bad {
                let answer = self.service.call(offer.method, bearer, &body).await?;
                let fault = refusal(&answer, statuses);
                self.judge(name, offer.clause, Kind::Negative, fault);
            }
            self.skip(offer.good, offer.clause, Kind::Positive, offer.needs);
        }
        Ok(())
    }
}

fn offers(version: Version) -> Vec<Offer> {
    const WRONG: &[u16] = &[400];
    const NO_RIGHT: &[u16] = &[400, 401, 403];
    let unknown = json!({ "credentialID": "no-such-credential" });
    let mut all = vec![Offer {
        method: "credentials/sendOTP",
        clause: "11.12",
        good: "a one-time code is sent",
        needs: "a person who expects a code",
        bad: vec![
            (
                "sendOTP without a credentialID is refused",
                json!({}),
                WRONG,
            ),
            (
                "sendOTP for an unknown credential is refused",
                unknown,
                WRONG,
            ),
        ],
    }];
    if version == Version::V1 {
        return all;
    }
    let document = json!({ "document": b64("x"), "signature_format": "C", "signAlgo": "1.2.840.113549.1.1.11" });
    let documents = |changed: &[(&str, Value)]| {
        let mut body = json!({ "credentialID": "no-such-credential", "SAD": "invented",
            "documents": [document.clone()] });
        for (name, value) in changed {
            body[*name] = value.clone();
        }
        body
    };
    let challenge = |id: &str| json!({ "credentialID": id, "authObjectID": "no-such-object" });
    let policy = json!({ "certificatePolicy": "0.4.0.2042.1.1" });
    all.extend([
        Offer {
            method: "credentials/getChallenge",
            clause: "11.10",
            good: "a challenge is sent",
            needs: "a person who expects a challenge",
            bad: vec![
                (
                    "getChallenge without an authObjectID is refused",
                    json!({ "credentialID": "no-such-credential" }),
                    WRONG,
                ),
                (
                    "getChallenge for an unknown credential is refused",
                    challenge("no-such-credential"),
                    WRONG,
                ),
            ],
        },
        Offer {
            method: "signatures/signDoc",
            clause: "11.14",
            good: "a document is signed",
            needs: "an authorization for a document",
            bad: vec![
                (
                    "signDoc without documents is refused",
                    documents(&[("documents", Value::Null)]),
                    NO_RIGHT,
                ),
                (
                    "signDoc with documents and digests is refused",
                    documents(&[("documentDigests", json!([{ "hashes": [b64([1; 32])] }]))]),
                    NO_RIGHT,
                ),
                (
                    "a document that isn't base64 is refused",
                    documents(&[("documents", json!([{ "document": "*", "signature_format": "C" }]))]),
                    NO_RIGHT,
                ),
                (
                    "signDoc with an invented SAD is refused",
                    documents(&[]),
                    NO_RIGHT,
                ),
            ],
        },
        Offer {
            method: "credentials/create",
            clause: "11.4",
            good: "a credential is created",
            needs: "an authorization to create a credential",
            bad: vec![
                (
                    "create without a credentialCreationRequest is refused",
                    json!({}),
                    NO_RIGHT,
                ),
                (
                    "a token that reads creates no credential",
                    json!({ "credentialCreationRequest": policy }),
                    NO_RIGHT,
                ),
            ],
        },
        Offer {
            method: "credentials/delete",
            clause: "11.5",
            good: "a credential is deleted",
            needs: "an authorization to delete a credential",
            bad: vec![
                (
                    "delete without a credentialDeletionRequest is refused",
                    json!({}),
                    NO_RIGHT,
                ),
                (
                    "a token that reads deletes no credential",
                    json!({ "credentialDeletionRequest": { "credentialID": "no-such-credential" } }),
                    NO_RIGHT,
                ),
            ],
        },
    ]);
    all
}
