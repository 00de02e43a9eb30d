//! Methods that a service may offer or not. What sends something to a person, or makes or ends a key, isn't done by a check; it is
//! named as not tested, and so is every method that this checker has no case for.

use core_types::bytes::{b64, from_b64};
use pki::cms::SignedData;
use pki::tsp::TstInfo;
use serde_json::{Value, json};

use super::approval::POLLED;
use super::codes::REVOKED;
use super::value::SHA256;
use super::{Kind, Means, Run, ok, refusal};
use crate::error::ClientError;
use crate::plain::{Answer, Proof};
use crate::version::Version;

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
        for offer in offers(self.service.version()) {
            if !named(info, offer.method) {
                self.skip(offer.good, offer.clause, Kind::Positive, NOT_OFFERED);
                continue;
            }
            for (name, body, statuses) in offer.bad {
                let answer = self.service.call(offer.method, bearer, &body).await?;
                let fault = refusal(&answer, statuses);
                self.judge(name, offer.clause, Kind::Negative, fault);
            }
            // Somebody may have brought what it needs.
            if self.cases.iter().all(|case| case.name != offer.good) {
                self.skip(offer.good, offer.clause, Kind::Positive, offer.needs);
            }
        }
        self.timestamp(info, bearer).await
    }

    /// The same without a token.
    pub(super) fn skip_offered(&mut self, info: &Value) {
        let offers = offers(self.service.version()).into_iter();
        let offers = offers.map(|offer| (offer.method, offer.good, offer.clause));
        for (method, good, clause) in offers.chain([(TIMESTAMP, STAMPED, STAMP_CLAUSE)]) {
            let needs = match named(info, method) {
                true => "a token",
                false => NOT_OFFERED,
            };
            self.skip(good, clause, Kind::Positive, needs);
        }
    }

    /// `auth/login` of people whom nobody knows, and of the one whose password was given.
    pub(super) async fn logins(&mut self, info: &Value, means: &Means) -> Result<(), ClientError> {
        let good = "a person logs in with name and password";
        if !named(info, "auth/login") {
            self.skip(good, "11.2", Kind::Positive, NOT_OFFERED);
            return Ok(());
        }
        let password = csc_types::SecretText::new("this-is-nobodys-password".to_owned());
        let stranger = Proof::Basic {
            name: "nobody-of-this-name",
            password: &password,
        };
        for (name, proof, body) in [
            (
                "auth/login without a name is refused",
                Proof::None,
                json!({}),
            ),
            (
                "auth/login of an unknown person is refused",
                stranger,
                json!({}),
            ),
            (
                "auth/login with an unknown refresh token is refused",
                Proof::None,
                json!({ "refresh_token": "invented" }),
            ),
        ] {
            let answer = self.service.call("auth/login", proof, &body).await?;
            let fault = refusal(&answer, &[400, 401]);
            self.judge(name, "11.2", Kind::Negative, fault);
        }
        let Some((name, password)) = &means.login else {
            self.skip(good, "11.2", Kind::Positive, "a name and a password");
            return Ok(());
        };
        let known = Proof::Basic { name, password };
        let answer = self.service.call("auth/login", known, &json!({})).await?;
        let fault = match ok(&answer) {
            None => self.reads(info, answer.text("access_token")).await?,
            fault => fault,
        };
        self.judge(good, "11.2", Kind::Positive, fault);
        Ok(())
    }

    /// A time-stamp costs nobody anything: a good one is asked for too.
    async fn timestamp(&mut self, info: &Value, bearer: Proof<'_>) -> Result<(), ClientError> {
        if !named(info, TIMESTAMP) {
            self.skip(STAMPED, STAMP_CLAUSE, Kind::Positive, NOT_OFFERED);
            return Ok(());
        }
        let hash = [0x5a; 32];
        let good = json!({ "hash": b64(hash), "hashAlgo": SHA256, "nonce": "1234567890abcdef" });
        let changed = |name: &str, value: Value| {
            let mut body = good.clone();
            body[name] = value;
            body
        };
        for (name, body) in [
            (
                "a time-stamp over nothing is refused",
                changed("hash", Value::Null),
            ),
            (
                "a time-stamp over what isn't base64 is refused",
                changed("hash", json!("*")),
            ),
            (
                "a time-stamp over a short hash is refused",
                changed("hash", json!(b64([1; 20]))),
            ),
            (
                "a time-stamp with an unknown hash is refused",
                changed("hashAlgo", json!("1.2.3")),
            ),
        ] {
            let answer = self.service.call(TIMESTAMP, bearer, &body).await?;
            let fault = refusal(&answer, &[400]);
            self.judge(name, STAMP_CLAUSE, Kind::Negative, fault);
        }
        let answer = self.service.call(TIMESTAMP, bearer, &good).await?;
        let fault = ok(&answer).or_else(|| stamped(&answer, &hash));
        self.judge(STAMPED, STAMP_CLAUSE, Kind::Positive, fault);
        Ok(())
    }

    /// Methods that are named and that nothing here is about.
    pub(super) fn untried(&mut self, info: &Value) {
        let version = self.service.version();
        let known = |name: &str| {
            let always = [
                "info",
                "auth/login",
                TIMESTAMP,
                "credentials/list",
                "credentials/info",
                "credentials/authorize",
                "signatures/signHash",
                "oauth2/authorize",
                "oauth2/token",
                "oauth2/pushed_authorize",
                "oauth2/revoke",
            ];
            always.contains(&name) || offers(version).iter().any(|offer| offer.method == name)
        };
        let named = info["methods"].as_array().into_iter().flatten();
        let others: Vec<&str> = named
            .filter_map(Value::as_str)
            .filter(|name| !known(name))
            .collect();
        for name in others {
            let needs = "a case that this checker doesn't have";
            self.skip(format!("the method {name}"), "11", Kind::Positive, needs);
        }
    }
}

const TIMESTAMP: &str = "signatures/timestamp";
const STAMPED: &str = "a time-stamp holds the hash and the nonce";
const STAMP_CLAUSE: &str = "11.16";

pub(super) fn named(info: &Value, method: &str) -> bool {
    let all = info["methods"].as_array();
    all.is_some_and(|all| all.iter().any(|name| name == method))
}

/// What is wrong with a time-stamp.
fn stamped(answer: &Answer, hash: &[u8]) -> Option<String> {
    let Some(Ok(token)) = answer.text("timestamp").map(|text| from_b64(&text)) else {
        return Some("timestamp is not base64 without line breaks".to_owned());
    };
    let info = SignedData::parse(&token)
        .ok()
        .and_then(|signed| signed.content);
    let Some(info) = info.and_then(|content| TstInfo::parse(&content).ok()) else {
        return Some("no time-stamp token (RFC 3161)".to_owned());
    };
    if info.imprint != hash {
        return Some("the token is over another hash".to_owned());
    }
    let nonce = info.nonce.map(core_types::bytes::hex);
    (nonce.as_deref() != Some("1234567890abcdef")).then(|| format!("the nonce is {nonce:?}"))
}

fn offers(version: Version) -> Vec<Offer> {
    const WRONG: &[u16] = &[400];
    const NO_RIGHT: &[u16] = &[400, 401, 403];
    let unknown = json!({ "credentialID": "no-such-credential" });
    let extend = |sad: &str| {
        let (hashes, oid) = version.hash_members();
        let mut body = json!({ "credentialID": "no-such-credential", "SAD": sad });
        body[hashes] = json!([b64([1; 32])]);
        if version == Version::V2 {
            body[oid] = json!(SHA256);
        }
        body
    };
    let mut without_sad = extend("");
    without_sad["SAD"] = Value::Null;
    let mut all = vec![
        Offer {
            method: "auth/revoke",
            clause: "11.3",
            good: REVOKED,
            needs: "a token that nobody needs any more",
            bad: vec![
                ("auth/revoke without a token is refused", json!({}), WRONG),
                (
                    "auth/revoke with an unknown token_type_hint is refused",
                    json!({ "token": "invented", "token_type_hint": "invented" }),
                    WRONG,
                ),
            ],
        },
        Offer {
            method: "credentials/extendTransaction",
            clause: "11.11",
            good: "a transaction is extended",
            needs: "an authorization that can be extended",
            bad: vec![
                (
                    "extendTransaction without a SAD is refused",
                    without_sad,
                    NO_RIGHT,
                ),
                (
                    "extendTransaction with an invented SAD is refused",
                    extend("invented"),
                    NO_RIGHT,
                ),
            ],
        },
        Offer {
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
        },
    ];
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
            method: "credentials/authorizeCheck",
            clause: "11.9",
            good: "an authorization is decided elsewhere",
            needs: "a person who decides elsewhere",
            bad: vec![
                ("authorizeCheck without a handle is refused", json!({}), WRONG),
                (
                    "authorizeCheck with an invented handle is refused",
                    json!({ "handle": "invented" }),
                    WRONG,
                ),
            ],
        },
        Offer {
            method: "signatures/signPolling",
            clause: "11.15",
            good: POLLED,
            needs: "an authorization of its own",
            bad: vec![
                ("signPolling without a requestID is refused", json!({}), WRONG),
                (
                    "signPolling with an invented requestID is refused",
                    json!({ "requestID": "invented" }),
                    WRONG,
                ),
            ],
        },
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
