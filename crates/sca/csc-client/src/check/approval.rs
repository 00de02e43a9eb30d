//! Signing where the signer approves at the authorization server: a token for it, one signature with it, verified, and one that is
//! fetched later.

use std::time::Duration;

use core_types::bytes::b64u;
use core_types::sha256;
use csc_types::SecretText;
use serde_json::{Value, json};

use super::oauth::TOKEN;
use super::offered::named;
use super::person::Errand;
use super::signing::{Right, SIGN, judged, only_value};
use super::value::{self, Algorithm, SHA256};
use super::{ClientMeans, Kind, Means, Run, ok};
use crate::error::ClientError;
use crate::plain::{Answer, Proof};
use crate::version::Version;

const BROUGHT: &str = "an approval brings a token for it";
/// The good use of `signatures/signPolling`.
pub(super) const POLLED: &str = "signatures of an asynchronous call are fetched";
const POLLING: &str = "signatures/signPolling";
/// Before each time that values are asked for, in milliseconds.
const PAUSES: [u64; 12] = [
    0, 100, 200, 500, 1000, 1000, 2000, 2000, 3000, 3000, 5000, 5000,
];

impl Run<'_> {
    /// One signature, and another that is made in the background.
    pub(super) async fn approved(
        &mut self,
        info: &Value,
        token: &SecretText,
        (id, seen): (&str, &Value),
        means: &Means,
    ) -> Result<(), ClientError> {
        let needs = "somebody who approves";
        let client = means.client.as_ref().filter(|_| self.person.is_some());
        let (Some(client), true) = (client, self.server.is_some()) else {
            self.skip(BROUGHT, TOKEN, Kind::Positive, needs);
            self.skip_signing(needs);
            return Ok(());
        };
        let right = match self.approval(client, means, id, &means.hash).await? {
            Ok(right) => right,
            Err(why) => {
                self.judge(BROUGHT, TOKEN, Kind::Positive, Some(why));
                self.skip_signing("an authorization");
                return Ok(());
            }
        };
        self.judge(BROUGHT, TOKEN, Kind::Positive, None);
        let text = right.expose();
        let (bearer, sad) = match self.service.version() {
            Version::V1 => (Proof::Bearer(token), Some(text)),
            Version::V2 => (Proof::Bearer(&right), None),
        };
        let right = Right { bearer, sad, text };
        self.used(right, (id, seen), means).await?;
        let later = info["asynchronousOperationMode"] == true && named(info, POLLING);
        match later {
            true => self.polled(client, (id, seen), means).await,
            false => Ok(()),
        }
    }

    /// Has somebody approve one hash; the token for it, or what is wrong.
    async fn approval(
        &mut self,
        client: &ClientMeans,
        means: &Means,
        id: &str,
        hash: &[u8],
    ) -> Result<Result<SecretText, String>, ClientError> {
        let Some(server) = self.server.clone() else {
            return Ok(Err("no authorization server".to_owned()));
        };
        let hashes = [hash.to_vec()];
        let listed = b64u(hash);
        let v1 = self.service.version() == Version::V1;
        let mut asked = vec![
            ("scope", "credential"),
            ("credentialID", id),
            ("numSignatures", "1"),
        ];
        match v1 {
            true => asked.push(("hash", listed.as_str())),
            false => asked.extend([("hashes", listed.as_str()), ("hashAlgorithmOID", SHA256)]),
        }
        let errand = Errand::Approve {
            credential: id,
            hashes: &hashes,
        };
        let code = match self.code(&server, (client, means), &asked, errand).await? {
            Ok(code) => code,
            Err(why) => return Ok(Err(why)),
        };
        let answer = self.redeem(&server, client, &code).await?;
        Ok(match ok(&answer).or_else(|| not_a_right(&answer, v1)) {
            Some(why) => Err(why),
            None => {
                let token = answer.text("access_token").map(SecretText::new);
                token.ok_or_else(|| "no access_token".to_owned())
            }
        })
    }

    /// A signature that isn't waited for.
    async fn polled(
        &mut self,
        client: &ClientMeans,
        (id, seen): (&str, &Value),
        means: &Means,
    ) -> Result<(), ClientError> {
        let hash = sha256(&[&means.hash]).0;
        let fault = match self.approval(client, means, id, &hash).await? {
            Err(why) => Some(why),
            Ok(right) => self.fetched(&right, &hash, (id, seen), means).await?,
        };
        self.judge(POLLED, "11.15", Kind::Positive, fault);
        Ok(())
    }

    async fn fetched(
        &self,
        right: &SecretText,
        hash: &[u8],
        (id, seen): (&str, &Value),
        means: &Means,
    ) -> Result<Option<String>, ClientError> {
        let chain = value::certificates(seen).unwrap_or_default();
        let algorithm = Algorithm::choose(seen, chain.first(), means.sign_algo.as_deref());
        let bearer = Proof::Bearer(right);
        let mut body = self.sign_body(id, &algorithm, None, hash);
        body["operationMode"] = json!("A");
        let begun = self.service.call(SIGN, bearer, &body).await?;
        let Some(id) = begun.text("responseID") else {
            let fault = ok(&begun).or_else(|| Some("no responseID".to_owned()));
            return Ok(fault.map(|why| format!("signHash: {why}")));
        };
        let body = json!({ "requestID": id });
        for pause in PAUSES {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let answer = self.service.call(POLLING, bearer, &body).await?;
            if answer.status == 202 {
                continue;
            }
            let (value, fault) = only_value(&answer);
            let judge = |value: String| judged(&value, hash, &algorithm, chain.first()).flatten();
            return Ok(fault.or_else(|| value.and_then(judge)));
        }
        Ok(Some("no values after half a minute".to_owned()))
    }
}

/// What is wrong with the type of a token that signs: version 1 has a word of its own.
fn not_a_right(answer: &Answer, v1: bool) -> Option<String> {
    let kind = answer.text("token_type").unwrap_or_default();
    let good = kind.eq_ignore_ascii_case("bearer") || v1 && kind.eq_ignore_ascii_case("SAD");
    (!good).then(|| format!("token_type is {kind:?}"))
}
