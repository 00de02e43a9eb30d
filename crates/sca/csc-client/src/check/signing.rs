//! `signHash` without the right to, and with it: explicit mode, one signature over random bytes, verified.

use core_types::bytes::{b64, from_b64};
use csc_types::{HashType, SecretText};
use serde_json::{Value, json};

use super::known::WRONG_SAD;
use super::value::{self, Algorithm, SHA256};
use super::{Kind, Means, Run, ok, refusal};
use crate::error::ClientError;
use crate::plain::{Answer, Proof};
use crate::version::Version;

const SHA1: &str = "1.3.14.3.2.26";
pub(super) const SIGN: &str = "signatures/signHash";
const VALUE: &str = "the signature is the certificate's key's, over the hash";
const NO_RIGHT: &[u16] = &[400, 401, 403];

impl Run<'_> {
    pub(super) fn sign_body(
        &self,
        id: &str,
        algorithm: &Algorithm,
        sad: Option<&str>,
        hash: &[u8],
    ) -> Value {
        let (hashes, oid) = self.service.version().hash_members();
        let mut body = json!({ "credentialID": id, "signAlgo": algorithm.sign_algo });
        body[hashes] = json!([b64(hash)]);
        body[oid] = json!(SHA256);
        if let Some(params) = &algorithm.params {
            body["signAlgoParams"] = json!(b64(params));
        }
        if let Some(sad) = sad {
            body["SAD"] = json!(sad);
        }
        body
    }

    /// signHash without the right to.
    pub(super) async fn unauthorized(
        &mut self,
        bearer: Proof<'_>,
        id: &str,
        seen: &Value,
    ) -> Result<(), ClientError> {
        let (hashes, oid) = self.service.version().hash_members();
        let first = Algorithm::choose(seen, None, None);
        let good = self.sign_body(id, &first, None, &[1; 32]);
        let changed = |name: &str, value: Value| {
            let mut body = good.clone();
            body[name] = value;
            body
        };
        let mut cases = vec![
            ("signHash without a SAD is refused", good.clone()),
            (
                "signHash with an invented SAD is refused",
                changed("SAD", json!("invented")),
            ),
            (
                "signHash without hashes is refused",
                changed(hashes, json!([])),
            ),
            (
                "a hash that isn't base64 is refused",
                changed(hashes, json!(["*"])),
            ),
            ("SHA-1 is refused", changed(oid, json!(SHA1))),
            (
                "an unknown signAlgo is refused",
                changed("signAlgo", json!("1.2.3")),
            ),
        ];
        if self.service.version() == Version::V2 {
            cases.push((
                "an unknown operationMode is refused",
                changed("operationMode", json!("X")),
            ));
            cases.push((
                "a response_uri without asynchronous operation is refused",
                changed("response_uri", json!("https://elsewhere.invalid/")),
            ));
        }
        for (name, body) in cases {
            let answer = self.service.call(SIGN, bearer, &body).await?;
            let fault = refusal(&answer, NO_RIGHT);
            self.judge(name, "11.13", Kind::Negative, fault);
        }
        Ok(())
    }

    /// credentials/authorize that asks for something else than what is possible.
    pub(super) async fn wrongly_authorized(
        &mut self,
        bearer: Proof<'_>,
        id: &str,
    ) -> Result<(), ClientError> {
        let (hashes, _) = self.service.version().hash_members();
        let good = self.authorize_body(id, &[1; 32]);
        let changed = |name: &str, value: Value| {
            let mut body = good.clone();
            body[name] = value;
            body
        };
        for (name, body) in [
            (
                "authorize without numSignatures is refused",
                changed("numSignatures", Value::Null),
            ),
            (
                "authorize for no signature is refused",
                changed("numSignatures", json!(0)),
            ),
            (
                "authorize for more than multisign is refused",
                changed("numSignatures", json!(4_000_000_000_u32)),
            ),
            (
                "authorize for an unknown credential is refused",
                changed("credentialID", json!("no-such-credential")),
            ),
            (
                "authorize with a hash that isn't base64 is refused",
                changed(hashes, json!(["*"])),
            ),
        ] {
            let call = self.service.call("credentials/authorize", bearer, &body);
            let fault = refusal(&call.await?, &[400]);
            self.judge(name, "11.8", Kind::Negative, fault);
        }
        Ok(())
    }

    fn authorize_body(&self, id: &str, hash: &[u8]) -> Value {
        let (hashes, oid) = self.service.version().hash_members();
        let mut body = json!({ "credentialID": id, "numSignatures": 1 });
        body[hashes] = json!([b64(hash)]);
        if self.service.version() == Version::V2 {
            body[oid] = json!(SHA256);
            body["hashType"] = json!(HashType::Dtbsr.as_str());
        }
        body
    }

    /// One signature, with everything that has to be refused on the way.
    pub(super) async fn signing(
        &mut self,
        token: &SecretText,
        id: &str,
        seen: &Value,
        means: &Means,
    ) -> Result<(), ClientError> {
        let Some((pin, otp)) = &means.secrets else {
            return Ok(());
        };
        let (bearer, hash) = (Proof::Bearer(token), &means.hash);
        let places = self.service.version().places(seen);
        let explicit = "credentials/authorize in explicit mode";
        let given = match places.fill(Some(pin.expose()), Some(otp.expose())) {
            Ok(given) => given,
            Err(error) => {
                self.judge(explicit, "11.8", Kind::Positive, Some(error.to_string()));
                self.skip_signing("an authorization");
                return Ok(());
            }
        };
        let mut body = self.authorize_body(id, hash);
        for (name, value) in given {
            body[name] = value;
        }
        let authorize = "credentials/authorize";
        let answer = self.service.call(authorize, bearer, &body).await?;
        self.judge(explicit, "11.8", Kind::Positive, ok(&answer));
        let Some(sad) = answer.text("SAD") else {
            self.skip_signing("an authorization");
            return Ok(());
        };
        let again = self.service.call(authorize, bearer, &body).await?;
        let fault = refusal(&again, &[400]);
        self.judge("a one-time code works once", "11.8", Kind::Replay, fault);

        let right = Right {
            bearer,
            sad: Some(&sad),
            text: &sad,
        };
        self.used(right, (id, seen), means).await
    }

    /// Signs with a right to sign one hash, with everything that has to be refused before and after.
    pub(super) async fn used(
        &mut self,
        right: Right<'_>,
        (id, seen): (&str, &Value),
        means: &Means,
    ) -> Result<(), ClientError> {
        let (bearer, hash) = (right.bearer, &means.hash);
        let chain = value::certificates(seen).unwrap_or_default();
        let algorithm = Algorithm::choose(seen, chain.first(), means.sign_algo.as_deref());
        let other = self.sign_body(id, &algorithm, right.sad, &[9; 32]);
        let answer = self.service.call(SIGN, bearer, &other).await?;
        let fault = refusal(&answer, NO_RIGHT);
        let name = "a hash that wasn't authorized is refused";
        self.judge(name, "11.13", Kind::Negative, fault);
        let good = self.sign_body(id, &algorithm, right.sad, hash);
        match &means.other {
            Some(stranger) => {
                let stranger = Proof::Bearer(stranger);
                let stolen = self.sign_body(id, &algorithm, Some(right.text), hash);
                let answer = self.service.call(SIGN, stranger, &stolen).await?;
                let fault = refusal(&answer, NO_RIGHT);
                self.judge(WRONG_SAD, "8.1", Kind::WrongUser, fault);
            }
            None => self.skip(WRONG_SAD, "8.1", Kind::WrongUser, "a token of another user"),
        }
        let answer = self.service.call(SIGN, bearer, &good).await?;
        let (value, fault) = only_value(&answer);
        self.judge("authorize and sign", "11.13", Kind::Positive, fault);
        match value.map(|value| judged(&value, hash, &algorithm, chain.first())) {
            Some(Some(fault)) => self.judge(VALUE, "11.13", Kind::Encoding, fault),
            Some(None) | None => {
                let needs = "a value, and a certificate and an algorithm that this program knows";
                self.skip(VALUE, "11.13", Kind::Encoding, needs);
            }
        }
        let answer = self.service.call(SIGN, bearer, &good).await?;
        let fault = refusal(&answer, &[400, 401]);
        self.judge("a SAD works once", "8.1", Kind::Replay, fault);
        Ok(())
    }

    pub(super) fn skip_signing(&mut self, needs: &'static str) {
        let cases = [
            ("authorize and sign", "11.13", Kind::Positive),
            (VALUE, "11.13", Kind::Encoding),
            (WRONG_SAD, "8.1", Kind::WrongUser),
            ("a SAD works once", "8.1", Kind::Replay),
        ];
        self.skip_all(&cases, needs);
    }
}

/// A right to sign one hash.
pub(super) struct Right<'a> {
    /// With what the call is made.
    pub(super) bearer: Proof<'a>,
    /// What stands in the body, if the call alone doesn't carry the right.
    pub(super) sad: Option<&'a str>,
    /// The right itself, as somebody who stole it would send it.
    pub(super) text: &'a str,
}

/// The one value of an answer, and what is wrong with the answer otherwise.
pub(super) fn only_value(answer: &Answer) -> (Option<String>, Option<String>) {
    let told = answer.json().unwrap_or_default();
    let values = told["signatures"].as_array().cloned().unwrap_or_default();
    let fault =
        ok(answer).or_else(|| (values.len() != 1).then(|| format!("{} signatures", values.len())));
    let first = values.first().map(|v| v.as_str().unwrap_or_default());
    (first.map(str::to_owned), fault)
}

/// What is wrong with a value; nothing where this program can't tell.
pub(super) fn judged(
    value: &str,
    hash: &[u8],
    algorithm: &Algorithm,
    signer: Option<&pki::Certificate>,
) -> Option<Option<String>> {
    let Ok(value) = from_b64(value) else {
        return Some(Some("not base64 without line breaks".to_owned()));
    };
    let (alg, signer) = algorithm.alg.zip(signer)?;
    Some(value::signature(&value, hash, alg, signer))
}
