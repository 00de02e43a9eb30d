//! Identity providers whose word counts as a proof (`sap.md` §4, §6, §11): an ID token whose `nonce` is the digest of the act, by
//! a provider whose keys are part of the configuration. The SAM asks nobody anything.

use core_types::{Digest32, UnixTime};
use jose::openid::{Expected, Identified, identify};
use jose::{ForeignJws, ForeignKey};
use sap::messages::ProviderHint;
use serde::{Deserialize, Serialize};

use crate::Reason;
use crate::level::FactorKind;

/// A provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// Its name as signers see it.
    pub name: String,
    /// Its issuer identifier, exactly.
    pub issuer: String,
    /// The SAM's name there: the one audience of its tokens.
    pub client: String,
    /// Where the signer's page sends the signer.
    pub authorize: String,
    /// Its keys. What it signs with others is nothing.
    pub keys: Vec<ForeignKey>,
    /// Values of `acr`, one of which a token has to have; empty: any or none.
    pub acr: Vec<String>,
    /// Values of `amr`, all of which a token has to have.
    pub amr: Vec<String>,
    /// What those mean is two factors of different kinds. The operator's word.
    pub multi_factor: bool,
}

/// The providers whose word counts. None, unless configured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Providers(pub Vec<Provider>);

/// A person as a provider knows them, bound at the enrolment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
}

impl Providers {
    /// Whose word a token says it is, to find the factor. Nothing of it is true before [`Self::verify`].
    ///
    /// # Errors
    /// [`Reason::Malformed`].
    pub fn unchecked_identity(token: &str) -> Result<Identity, Reason> {
        #[derive(Deserialize)]
        struct Claims {
            iss: String,
            sub: String,
        }
        let jws = ForeignJws::read(token).map_err(|_| Reason::Malformed)?;
        let claims = serde_json::from_slice(jws.unchecked_payload());
        let Claims { iss, sub } = claims.map_err(|_| Reason::Malformed)?;
        Ok(Identity {
            issuer: iss,
            subject: sub,
        })
    }

    /// Who proved their will with this token, for the act with this digest, which began at `since`. They have to have proved
    /// themselves to the provider since then: that they were logged in there anyway is no will.
    ///
    /// # Errors
    /// [`Reason::ForeignFactor`] for an unknown provider, [`Reason::IdToken`].
    pub fn verify(
        &self,
        token: &str,
        act: Digest32,
        since: UnixTime,
        now: UnixTime,
    ) -> Result<Identity, Reason> {
        let claimed = Self::unchecked_identity(token)?;
        let provider = self.of(&claimed.issuer).ok_or(Reason::ForeignFactor)?;
        let expected = Expected {
            issuer: &provider.issuer,
            audience: &provider.client,
            nonce: &act.to_string(),
            acr: &provider.acr,
            amr: &provider.amr,
            since: Some(since),
            now,
        };
        let Identified { subject, .. } = identify(token, &provider.keys, expected)?;
        Ok(Identity {
            issuer: provider.issuer.clone(),
            subject,
        })
    }

    /// What the word of this issuer is worth; nothing for one that isn't configured any more.
    pub fn kind(&self, issuer: &str) -> Option<FactorKind> {
        Some(self.of(issuer)?.kind())
    }

    /// The key that signed a token, as evidence shows it; null for one that none of them signed.
    pub fn key_of(&self, token: &str) -> serde_json::Value {
        let signed_by =
            |key: &&ForeignKey| ForeignJws::read(token).is_ok_and(|jws| jws.verify(key).is_ok());
        let issuer = Self::unchecked_identity(token).map(|identity| identity.issuer);
        let provider = issuer.ok().and_then(|issuer| self.of(&issuer));
        let key = provider.and_then(|provider| provider.keys.iter().find(signed_by));
        key.map_or(serde_json::Value::Null, ForeignKey::to_jwk)
    }

    /// The provider with this issuer.
    pub fn of(&self, issuer: &str) -> Option<&Provider> {
        self.0.iter().find(|p| p.issuer == issuer)
    }
}

impl Provider {
    /// What its word is worth.
    pub fn kind(&self) -> FactorKind {
        match self.multi_factor {
            true => FactorKind::ProviderMulti,
            false => FactorKind::ProviderSingle,
        }
    }

    /// What the page needs to send a signer there.
    pub fn hint(&self) -> ProviderHint {
        ProviderHint {
            name: self.name.clone(),
            issuer: self.issuer.clone(),
            authorize: self.authorize.clone(),
            client: self.client.clone(),
            acr: self.acr.clone(),
        }
    }
}
