//! Typed identifiers: a person's id can't be passed for a key's.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::bytes::b64u;
use crate::random::Random;

/// The text is not an identifier: 1 to 64 characters of `A-Z a-z 0-9 . _ -`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an identifier (1 to 64 characters of A-Z, a-z, 0-9, '.', '_', '-')")]
pub struct BadId;

fn check(text: &str) -> Result<(), BadId> {
    let ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if (1..=64).contains(&text.len()) && text.chars().all(ok) {
        Ok(())
    } else {
        Err(BadId)
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        pub struct $name(String);

        impl $name {
            /// Checks and wraps an identifier.
            ///
            /// # Errors
            /// [`BadId`] when the text has another form.
            pub fn parse(text: impl Into<String>) -> Result<Self, BadId> {
                let text = text.into();
                check(&text)?;
                Ok(Self(text))
            }

            /// Draws a fresh identifier of 128 random bits.
            pub fn random(random: &dyn Random) -> Self {
                let mut bytes = [0; 16];
                random.fill(&mut bytes);
                Self(b64u(bytes))
            }

            /// The text form.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                Self::parse(String::deserialize(d)?).map_err(serde::de::Error::custom)
            }
        }
    )*};
}

ids! {
    /// A natural person known to the SAM, such as a signer.
    PersonId;
    /// A signing key; the CSC `credentialID`.
    KeyId;
    /// A program, by the name in its certificate.
    PeerId;
    /// A client of the CSC API (an SCA).
    ClientId;
    /// A tenant of the provider.
    TenantId;
    /// An authentication factor of a person.
    FactorId;
    /// An enrolment voucher.
    VoucherId;
    /// A natural person who holds an office at the provider, whatever accounts they have.
    OfficerId;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_have_a_closed_alphabet() {
        assert!(KeyId::parse("Ab9._-").is_ok());
        for bad in ["", "a b", "a/b", "é", &"x".repeat(65)] {
            assert_eq!(KeyId::parse(bad), Err(BadId), "{bad:?}");
        }
        assert!(serde_json_like("\"ok\""));
    }

    fn serde_json_like(text: &str) -> bool {
        use serde::de::IntoDeserializer as _;
        let inner: serde::de::value::StrDeserializer<'_, serde::de::value::Error> =
            text.trim_matches('"').into_deserializer();
        KeyId::deserialize(inner).is_ok()
    }
}
