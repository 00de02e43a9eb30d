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

impl TenantId {
    /// What `name`, such as a person's, is called in books that hold the names of several tenants. No identifier has
    /// this form, so no name of another tenant, or of nobody's, is ever taken for it.
    pub fn name(&self, name: &str) -> String {
        format!("{self}/{name}")
    }

    /// The name within its tenant, of one that may have been given by [`Self::name`].
    pub fn own_name(name: &str) -> &str {
        name.split_once('/').map_or(name, |(_, own)| own)
    }
}

/// A person's name where those of all tenants stand side by side: an identifier, or [`TenantId::name`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PersonName(String);

impl PersonName {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// [`BadId`] when the text has another form.
    pub fn parse(text: impl Into<String>) -> Result<Self, BadId> {
        let text = text.into();
        match text.split_once('/') {
            Some((tenant, own)) => check(tenant).and_then(|()| check(own))?,
            None => check(&text)?,
        }
        Ok(Self(text))
    }

    /// The tenant, and the person within it; no tenant: the provider's own.
    ///
    /// # Errors
    /// Never: both were checked.
    pub fn parts(&self) -> Result<(Option<TenantId>, PersonId), BadId> {
        match self.0.split_once('/') {
            Some((tenant, own)) => Ok((Some(TenantId::parse(tenant)?), PersonId::parse(own)?)),
            None => Ok((None, PersonId::parse(self.0.as_str())?)),
        }
    }

    /// The text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<PersonId> for PersonName {
    fn from(person: PersonId) -> Self {
        Self(person.0)
    }
}

impl fmt::Display for PersonName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PersonName {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::parse(String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
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

    #[test]
    fn a_tenants_names_are_nobody_elses() {
        let tenant = TenantId::parse("acme").unwrap();
        let name = tenant.name("taro");
        assert_eq!(TenantId::own_name(&name), "taro");
        assert_eq!(TenantId::own_name("taro"), "taro");
        assert!(PersonId::parse(name.clone()).is_err());
        assert_eq!(PersonName::parse(name).unwrap().as_str(), "acme/taro");
        let (of, own) = PersonName::parse("acme/taro").unwrap().parts().unwrap();
        assert_eq!((of, own.as_str()), (Some(tenant), "taro"));
        for bad in ["/taro", "acme/", "a/b/c", ""] {
            assert_eq!(PersonName::parse(bad), Err(BadId), "{bad:?}");
        }
    }

    fn serde_json_like(text: &str) -> bool {
        use serde::de::IntoDeserializer as _;
        let inner: serde::de::value::StrDeserializer<'_, serde::de::value::Error> =
            text.trim_matches('"').into_deserializer();
        KeyId::deserialize(inner).is_ok()
    }
}
