//! What the provider publishes about the service before anybody has an account (appendix 2 of the guideline).

use serde::{Deserialize, Serialize};
use service_kit::Trouble;
use url::Url;

/// The guideline to which the service claims conformity, at the ceiling of its SAM.
pub const GUIDELINE: &str = "JT2A Remote Signature Guideline, version 1 (2020)";

/// The three documents, and whom to ask (`I-A2-documents`, `I-A2.14-contact`). Templates of the documents come along in
/// `docs/operator`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// The service policy, with the fourteen items that signers and relying parties should check.
    pub policy: Document,
    /// The practice statement.
    pub practice: Document,
    /// The terms of use, which everybody accepts who makes an account.
    pub terms: Document,
    /// Where the provider is reached: `https:`, `mailto:` or `tel:`.
    pub contact: String,
}

/// A document that anybody can read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Its address, which takes no login.
    pub url: String,
    /// Version, 1 to 32 characters; raised with every change.
    pub version: String,
}

impl Published {
    /// What a development stack says of itself, on its own page.
    pub fn development(base_url: &str) -> Self {
        let document = || Document {
            url: format!("{base_url}/about"),
            version: "development".to_owned(),
        };
        Self {
            policy: document(),
            practice: document(),
            terms: document(),
            contact: format!("{base_url}/about"),
        }
    }

    /// The documents, with the names that `info` and messages have for them.
    pub fn documents(&self) -> [(&'static str, &Document); 3] {
        [
            ("service-policy", &self.policy),
            ("practice-statement", &self.practice),
            ("terms-of-use", &self.terms),
        ]
    }

    /// Checks that nothing is missing.
    ///
    /// # Errors
    /// [`Trouble`] `bad-config` that names the setting.
    pub(crate) fn check(&self) -> Result<(), Trouble> {
        let address = |text: &str, schemes: &[&str]| {
            Url::parse(text).is_ok_and(|url| schemes.contains(&url.scheme()))
        };
        for (name, document) in self.documents() {
            if !address(&document.url, &["https", "http"]) {
                return Err(missing(name, "has no address on the web"));
            }
            let length = document.version.trim().chars().count();
            if length == 0 || length > 32 || document.version.chars().any(char::is_control) {
                return Err(missing(name, "has no version of 1 to 32 characters"));
            }
        }
        if !address(&self.contact, &["https", "http", "mailto", "tel"]) {
            return Err(missing("contact", "is no address"));
        }
        Ok(())
    }
}

fn missing(name: &str, what: &str) -> Trouble {
    Trouble::new(
        "bad-config",
        format!("published.{name} {what}"),
        "publish the documents of docs/operator/en/policy, filled in, where they can be read without a login, and name them",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    // shows: I-A2-documents, I-3.2-selection-info-published
    #[test]
    fn nothing_may_be_missing() {
        let good = Published::development("https://rssp.example");
        assert!(good.check().is_ok());
        let spoilt: [fn(&mut Published); 6] = [
            |p| p.policy.url.clear(),
            |p| p.practice.url = "javascript:alert(1)".to_owned(),
            |p| p.terms.version = "  ".to_owned(),
            |p| p.policy.version = "1\n".to_owned(),
            |p| p.terms.version = "1".repeat(33),
            |p| p.contact = "somebody".to_owned(),
        ];
        for spoil in spoilt {
            let mut bad = good.clone();
            spoil(&mut bad);
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
