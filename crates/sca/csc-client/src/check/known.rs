//! Methods with a person's token: their credentials, and with the secrets of one a signature.

use core_types::bytes::b64;
use csc_types::SecretText;
use serde_json::{Value, json};

use super::{Kind, Means, Run, ok, refusal};
use crate::error::ClientError;
use crate::plain::{Proof, Version};

const SHA256: &str = "2.16.840.1.101.3.4.2.1";
const SHA1: &str = "1.3.14.3.2.26";

impl Run<'_> {
    pub(super) fn skip_known(&mut self) {
        for (name, clause, kind) in [
            ("credentials/list", "11.6", Kind::Positive),
            ("credentials/info", "11.7", Kind::Positive),
            ("another user's credential", "11.7", Kind::WrongUser),
            ("authorize and sign", "11.8", Kind::Positive),
            ("a SAD works once", "8.1", Kind::Replay),
            (
                "methods that not every service offers",
                "11",
                Kind::Negative,
            ),
        ] {
            self.skip(name, clause, kind, "a token");
        }
    }

    /// What a person's token opens.
    pub(super) async fn known(
        &mut self,
        token: &SecretText,
        means: &Means,
    ) -> Result<(), ClientError> {
        use Kind::{Encoding, Negative, Positive, WrongUser};
        let bearer = Proof::Bearer(token);
        let answer = self
            .service
            .call("credentials/list", bearer, &json!({}))
            .await?;
        let fault = ok(&answer).or_else(|| {
            let ids = answer.json()?["credentialIDs"].is_array();
            (!ids).then(|| "credentialIDs is no array".to_owned())
        });
        self.judge("credentials/list", "11.6", Positive, fault);
        let user = json!({ "userID": "somebody" });
        let answer = self.service.call("credentials/list", bearer, &user).await?;
        let fault = refusal(&answer, &[400]);
        self.judge(
            "userID beside a user's token is refused",
            "11.6",
            WrongUser,
            fault,
        );
        let nobodys = json!({ "credentialID": "no-such-credential" });
        let answer = self
            .service
            .call("credentials/info", bearer, &nobodys)
            .await?;
        self.judge(
            "an unknown credential is refused",
            "11.7",
            Negative,
            refusal(&answer, &[400]),
        );
        for (name, body) in [
            ("a missing credentialID is refused", json!({})),
            (
                "a credentialID of another type is refused",
                json!({ "credentialID": 7 }),
            ),
        ] {
            let answer = self.service.call("credentials/info", bearer, &body).await?;
            self.judge(name, "11.7", Negative, refusal(&answer, &[400]));
        }
        let Some(id) = &means.credential else {
            for (name, clause, kind) in [
                ("credentials/info", "11.7", Positive),
                ("another user's credential", "11.7", WrongUser),
                ("authorize and sign", "11.8", Positive),
                ("a SAD works once", "8.1", Kind::Replay),
            ] {
                self.skip(name, clause, kind, "a credential");
            }
            return Ok(());
        };
        let all = json!({ "credentialID": id, "certificates": "chain", "certInfo": true, "authInfo": true });
        let answer = self.service.call("credentials/info", bearer, &all).await?;
        let seen = answer.json().unwrap_or_default();
        self.judge("credentials/info", "11.7", Positive, ok(&answer));
        self.judge(
            "a credential has the required members",
            "11.7",
            Encoding,
            credential(&seen, self.service.version()),
        );
        let wrong = json!({ "credentialID": id, "certificates": "all" });
        let answer = self
            .service
            .call("credentials/info", bearer, &wrong)
            .await?;
        self.judge(
            "an unknown value of certificates is refused",
            "11.7",
            Negative,
            refusal(&answer, &[400]),
        );
        match &means.other {
            Some(other) => {
                let answer = self
                    .service
                    .call("credentials/info", Proof::Bearer(other), &all)
                    .await?;
                self.judge(
                    "another user's credential",
                    "11.7",
                    WrongUser,
                    refusal(&answer, &[400, 403]),
                );
            }
            None => self.skip(
                "another user's credential",
                "11.7",
                WrongUser,
                "a token of another user",
            ),
        }
        self.unauthorized(bearer, id, &seen).await?;
        match &means.secrets {
            Some((pin, otp)) => {
                self.signing(bearer, id, &seen, (pin, otp), &means.hash)
                    .await?
            }
            None => {
                self.skip(
                    "authorize and sign",
                    "11.8",
                    Positive,
                    "PIN and one-time code",
                );
                self.skip(
                    "a SAD works once",
                    "8.1",
                    Kind::Replay,
                    "PIN and one-time code",
                );
            }
        }
        Ok(())
    }

    fn sign_body(&self, id: &str, seen: &Value, sad: Option<&str>, hash: &[u8]) -> Value {
        let (hashes, algorithm) = self.service.version().hash_members();
        let mut body = json!({ "credentialID": id, "signAlgo": sign_algo(seen) });
        body[hashes] = json!([b64(hash)]);
        body[algorithm] = json!(SHA256);
        if let Some(sad) = sad {
            body["SAD"] = json!(sad);
        }
        body
    }

    /// signHash without the right to.
    async fn unauthorized(
        &mut self,
        bearer: Proof<'_>,
        id: &str,
        seen: &Value,
    ) -> Result<(), ClientError> {
        let sign = "signatures/signHash";
        let (hashes, algorithm) = self.service.version().hash_members();
        let good = self.sign_body(id, seen, None, &[1; 32]);
        let changed = |name: &str, value: Value| {
            let mut body = good.clone();
            body[name] = value;
            body
        };
        for (name, body) in [
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
            ("SHA-1 is refused", changed(algorithm, json!(SHA1))),
            (
                "an unknown signAlgo is refused",
                changed("signAlgo", json!("1.2.3")),
            ),
        ] {
            let answer = self.service.call(sign, bearer, &body).await?;
            self.judge(
                name,
                "11.13",
                Kind::Negative,
                refusal(&answer, &[400, 401, 403]),
            );
        }
        Ok(())
    }

    async fn signing(
        &mut self,
        bearer: Proof<'_>,
        id: &str,
        seen: &Value,
        (pin, otp): (&SecretText, &SecretText),
        hash: &[u8],
    ) -> Result<(), ClientError> {
        let (hashes, algorithm) = self.service.version().hash_members();
        let mut body = json!({ "credentialID": id, "numSignatures": 1 });
        body[hashes] = json!([b64(hash)]);
        if self.service.version() == Version::V2 {
            body[algorithm] = json!(SHA256);
        }
        let secrets = self.service.version();
        for (name, value) in secrets.secrets(Some(pin.expose()), Some(otp.expose())) {
            body[name] = value;
        }
        let answer = self
            .service
            .call("credentials/authorize", bearer, &body)
            .await?;
        self.judge(
            "credentials/authorize in explicit mode",
            "11.8",
            Kind::Positive,
            ok(&answer),
        );
        let Some(sad) = answer.text("SAD") else {
            self.skip(
                "authorize and sign",
                "11.13",
                Kind::Positive,
                "an authorization",
            );
            self.skip("a SAD works once", "8.1", Kind::Replay, "an authorization");
            return Ok(());
        };
        let again = self
            .service
            .call("credentials/authorize", bearer, &body)
            .await?;
        self.judge(
            "a one-time code works once",
            "11.8",
            Kind::Replay,
            refusal(&again, &[400]),
        );
        let sign = "signatures/signHash";
        let other = self.sign_body(id, seen, Some(&sad), &[9; 32]);
        let answer = self.service.call(sign, bearer, &other).await?;
        let fault = refusal(&answer, &[400, 401, 403]);
        self.judge(
            "a hash that wasn't authorized is refused",
            "11.13",
            Kind::Negative,
            fault,
        );
        let good = self.sign_body(id, seen, Some(&sad), hash);
        let answer = self.service.call(sign, bearer, &good).await?;
        let fault = ok(&answer).or_else(|| {
            let one = answer.json()?["signatures"].as_array().map(Vec::len) == Some(1);
            (!one).then(|| "not one signature".to_owned())
        });
        self.judge("authorize and sign", "11.13", Kind::Positive, fault);
        let answer = self.service.call(sign, bearer, &good).await?;
        self.judge(
            "a SAD works once",
            "8.1",
            Kind::Replay,
            refusal(&answer, &[400, 401]),
        );
        Ok(())
    }
}

fn sign_algo(seen: &Value) -> Value {
    seen["key"]["algo"].get(0).cloned().unwrap_or_default()
}

fn credential(seen: &Value, version: Version) -> Option<String> {
    let key = &seen["key"];
    let status = key["status"].as_str();
    let mut faults = Vec::new();
    if !matches!(status, Some("enabled" | "disabled")) {
        faults.push("key.status");
    }
    if key["algo"].as_array().is_none_or(|all| all.is_empty()) {
        faults.push("key.algo");
    }
    if !key["len"].is_u64() {
        faults.push("key.len");
    }
    if seen["multisign"].as_u64().is_none_or(|n| n < 1) {
        faults.push("multisign");
    }
    if !matches!(seen["SCAL"].as_str(), None | Some("1" | "2")) {
        faults.push("SCAL");
    }
    let mode = match version {
        Version::V1 => &seen["authMode"],
        Version::V2 => &seen["auth"]["mode"],
    };
    if !mode.is_string() {
        faults.push("the authorization mode");
    }
    let chain = seen["cert"]["certificates"].as_array();
    let der = |v: &Value| {
        v.as_str()
            .is_some_and(|text| core_types::bytes::from_b64(text).is_ok())
    };
    if !chain.is_some_and(|all| !all.is_empty() && all.iter().all(der)) {
        faults.push("cert.certificates");
    }
    let date = |name: &str| {
        let text = seen["cert"][name].as_str().unwrap_or_default();
        text.len() == 15 && text.ends_with('Z') && text[..14].bytes().all(|b| b.is_ascii_digit())
    };
    if !date("validFrom") || !date("validTo") {
        faults.push("cert.validFrom or validTo");
    }
    (!faults.is_empty()).then(|| format!("missing or malformed: {}", faults.join(", ")))
}
