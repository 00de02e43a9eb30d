//! What can be said of a key's beginning and end.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a key was destroyed (`III-A1.6-destroy-at-end`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DestroyCause {
    /// Its owner wanted it, with full proof.
    Owner,
    /// Its certificate was revoked.
    Revoked,
    /// Its certificate expired.
    Expired,
    /// Another key takes its place, such as after the loss of all factors.
    Replaced,
    /// Two officers approved it.
    Officers,
    /// It was made and never came into use.
    Unused,
    /// It was handed over to another provider or to its owner.
    HandedOver,
    /// It was made for one act, and that act is over.
    Used,
}

impl DestroyCause {
    /// The word, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Replaced => "replaced",
            Self::Officers => "officers",
            Self::Unused => "unused",
            Self::HandedOver => "handed-over",
            Self::Used => "used",
        }
    }
}

impl fmt::Display for DestroyCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a key was made and how it got here: the guideline's five cases (`III-A1.8-origin-cases`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OriginCase {
    /// Made by the provider in a device that the operator declares to meet the requirements of the level.
    #[serde(rename = "1-i")]
    ProviderDevice,
    /// Made by the provider without such a device, managed safely.
    #[serde(rename = "1-ii")]
    ProviderSoftware,
    /// Made by a CA that manages keys safely, and sent to the provider only.
    #[serde(rename = "2-i")]
    CaDirect,
    /// Made by a CA, and passed on through the signer.
    #[serde(rename = "2-ii")]
    CaThroughSigner,
    /// Made in the signer's environment.
    #[serde(rename = "3-i")]
    Signer,
}

impl OriginCase {
    /// All of them, in the guideline's order.
    pub const ALL: [Self; 5] = [
        Self::ProviderDevice,
        Self::ProviderSoftware,
        Self::CaDirect,
        Self::CaThroughSigner,
        Self::Signer,
    ];

    /// The guideline's mark, such as `1-i`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ProviderDevice => "1-i",
            Self::ProviderSoftware => "1-ii",
            Self::CaDirect => "2-i",
            Self::CaThroughSigner => "2-ii",
            Self::Signer => "3-i",
        }
    }

    /// Whether the key exists at the provider only. Follows from the case and can't be set.
    pub fn only_at_provider(self) -> bool {
        match self {
            Self::ProviderDevice | Self::ProviderSoftware | Self::CaDirect => true,
            Self::CaThroughSigner | Self::Signer => false,
        }
    }

    /// Whether the key was made elsewhere.
    pub fn imported(self) -> bool {
        !matches!(self, Self::ProviderDevice | Self::ProviderSoftware)
    }
}

impl fmt::Display for OriginCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // shows: III-A1.8-origin-cases
    #[test]
    fn uniqueness_follows_from_the_case() {
        let told: Vec<_> = OriginCase::ALL
            .iter()
            .map(|c| (c.as_str(), c.only_at_provider()))
            .collect();
        let expected = [
            ("1-i", true),
            ("1-ii", true),
            ("2-i", true),
            ("2-ii", false),
            ("3-i", false),
        ];
        assert_eq!(told, expected);
        for case in OriginCase::ALL {
            let json = serde_json::to_string(&case).unwrap();
            assert_eq!(json, format!("\"{case}\""));
        }
    }
}
