//! Methods with a person's token: their credentials, and with the secrets of one a signature.

use csc_types::SecretText;
use serde_json::{Value, json};

use super::{Kind, Means, Run, ok, refusal, value};
use crate::error::ClientError;
use crate::plain::Proof;
use crate::version::Version;

pub(super) const WRONG_SAD: &str = "another user's SAD is refused";
const OF_A_CREDENTIAL: [(&str, &str, Kind); 2] = [
    ("credentials/info", "11.7", Kind::Positive),
    ("another user's credential", "11.7", Kind::WrongUser),
];

impl Run<'_> {
    pub(super) fn skip_known(&mut self) {
        let first = ("credentials/list", "11.6", Kind::Positive);
        self.skip_all(&[first], "a token");
        self.skip_all(&OF_A_CREDENTIAL, "a token");
        self.skip_signing("a token");
    }

    /// What a person's token opens.
    pub(super) async fn known(
        &mut self,
        info: &Value,
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
            self.skip_all(&OF_A_CREDENTIAL, "a credential");
            self.skip_signing("a credential");
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
        self.certificates(&seen);
        self.unauthorized(bearer, id, &seen).await?;
        self.wrongly_authorized(bearer, id).await?;
        let mode = mode(&seen, self.service.version());
        match (mode == "oauth2code", &means.secrets) {
            (true, _) => {
                self.approved(info, token, (id.as_str(), &seen), means)
                    .await
            }
            (false, Some(_)) => self.signing(token, id, &seen, means).await,
            (false, None) => {
                self.skip_signing("PIN and one-time code");
                Ok(())
            }
        }
    }

    /// What the credential says about itself, against its certificate.
    fn certificates(&mut self, seen: &Value) {
        let chain = value::certificates(seen);
        let fault = match &chain {
            Ok(chain) => value::order(chain),
            Err(why) => Some(why.clone()),
        };
        let ordered = "the certificates are a chain, the signer's first";
        self.judge(ordered, "11.7", Kind::Encoding, fault);
        let signer = chain.ok().and_then(|chain| chain.into_iter().next());
        for (name, fault) in [
            (
                "key.len, key.algo and key.curve are those of the certificate's key",
                value::key as fn(&Value, &pki::Certificate) -> Option<String>,
            ),
            (
                "serialNumber, validFrom and validTo are the certificate's",
                value::names,
            ),
        ] {
            match &signer {
                Some(signer) => self.judge(name, "11.7", Kind::Encoding, fault(seen, signer)),
                None => self.skip(
                    name,
                    "11.7",
                    Kind::Encoding,
                    "a certificate that can be read",
                ),
            }
        }
    }
}

/// How signatures with a credential are authorized; empty if it doesn't say.
fn mode(seen: &Value, version: Version) -> &str {
    let mode = match version {
        Version::V1 => &seen["authMode"],
        Version::V2 => &seen["auth"]["mode"],
    };
    mode.as_str().unwrap_or_default()
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
    if mode(seen, version).is_empty() {
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
