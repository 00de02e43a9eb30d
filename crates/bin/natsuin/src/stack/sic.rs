//! A signer's side over HTTP: calls to the SIC gateway, as the page makes them.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use core_types::rpc::Method;
use core_types::{Clock, Digest32, KeyId, Random, SecretBytes};
use sap::messages::{
    Approve, Empty, EnrolOpen, EnrolRegister, EnrolSeed, Import, ImportKey, ImportKeyRequest,
    ImportRequest, Keys, Open, OpenRequest, SapRefusal,
};
use sic_core::{ActError, Authenticator, Bringing, SicError, Totp, Trust, TrustedSam, Voucher};

/// The SAM said no.
#[derive(Debug, thiserror::Error)]
#[error("the SAM refused: {:?}{}", .0.code, requirement(.0))]
pub struct Refused(pub SapRefusal);

fn requirement(refusal: &SapRefusal) -> String {
    let named = refusal.requirement.as_ref();
    named.map_or_else(String::new, |r| format!(" ({r})"))
}

/// A gateway and how a program reaches it: all that a signer's side needs to know of a service.
#[derive(Clone)]
pub struct Sic {
    /// Origin of the gateway.
    pub origin: String,
    /// Client that knows `*.localhost`.
    pub http: reqwest::Client,
    /// Pinned roots.
    pub trust: Trust,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
}

/// Factors of a signer that a program holds.
pub enum Factors<'a> {
    /// A passkey.
    Passkey(&'a mut (dyn Authenticator + Send)),
    /// PIN and one-time codes.
    PinTotp {
        /// PIN.
        pin: &'a SecretBytes,
        /// Generator.
        totp: &'a Totp,
    },
    /// An identity provider's word.
    Provider(&'a mut AtProvider),
}

/// The person at their identity provider: gets the address of its page, answers its ID token if it gave one.
pub type AtProvider = dyn FnMut(&str) -> Option<String> + Send;

impl Factors<'_> {
    /// The same factors for one more use.
    pub fn reborrow(&mut self) -> Factors<'_> {
        match self {
            Self::Passkey(device) => Factors::Passkey(&mut **device),
            Self::PinTotp { pin, totp } => Factors::PinTotp { pin, totp },
            Self::Provider(there) => Factors::Provider(&mut **there),
        }
    }
}

/// What the provider said at this address.
fn word(there: &mut AtProvider, address: &str) -> Result<String> {
    there(address).context("the identity provider gave no word")
}

/// A program that waits for one answer has nothing to tell apart.
const STATE: &str = "one";

impl Sic {
    /// Where a provider sends the signer back to.
    fn back(&self) -> String {
        format!("{}/p", self.origin)
    }

    pub(crate) async fn call<M: Method>(&self, request: &M::Request) -> Result<M::Response>
    where
        M::Refusal: std::fmt::Debug,
    {
        let answer = self
            .http
            .post(format!("{}{}", self.origin, M::PATH))
            .json(request)
            .send()
            .await?;
        let status = answer.status().as_u16();
        let body = answer.bytes().await?;
        match status {
            200 => serde_json::from_slice(&body).context("the gateway's answer can't be read"),
            422 => {
                if let Ok(refusal) = serde_json::from_slice(&body) {
                    return Err(Refused(refusal).into());
                }
                let refusal: M::Refusal = serde_json::from_slice(&body)?;
                bail!("the SAM refused: {refusal:?}")
            }
            other => bail!("the gateway answered with status {other}"),
        }
    }

    pub(crate) async fn sam(&self) -> Result<TrustedSam> {
        let keys = self.call::<Keys>(&Empty {}).await?;
        Ok(self.trust.check(&keys, self.clock.now())?)
    }

    /// Opens a request to sign or to change something, checks the act, approves it. Returns where the browser goes on.
    ///
    /// # Errors
    /// When the act isn't genuine, or the SAM refuses.
    pub async fn approve(&self, rid: Digest32, factors: Factors<'_>) -> Result<String> {
        self.approve_new(rid, None, factors).await
    }

    /// As [`Self::approve`], with a new PIN for what the act adds or changes.
    ///
    /// # Errors
    /// As [`Self::approve`].
    pub async fn approve_new(
        &self,
        rid: Digest32,
        new_pin: Option<&SecretBytes>,
        factors: Factors<'_>,
    ) -> Result<String> {
        let opened = self.call::<Open>(&OpenRequest { rid }).await?;
        let (sam, now) = (self.sam().await?, self.clock.now());
        let request = match sam.change_act(opened.clone(), now) {
            Ok(review) => {
                let mut confirmed = review.confirm();
                if let Some(pin) = new_pin {
                    confirmed = confirmed.with_pin(pin, None, self.random.as_ref())?;
                }
                match factors {
                    Factors::Passkey(authenticator) => confirmed.passkey(authenticator, now)?,
                    Factors::PinTotp { pin, totp } => {
                        confirmed.pin_totp(pin, &totp.code(now), now, self.random.as_ref())?
                    }
                    Factors::Provider(there) => {
                        let to = confirmed.provider_address(&self.back(), STATE, now)?;
                        confirmed.provider(word(there, &to)?, now)?
                    }
                }
            }
            Err(SicError::Act(ActError::Kind)) => {
                let confirmed = sam.sign_act(opened, now)?.confirm();
                match factors {
                    Factors::Passkey(authenticator) => confirmed.passkey(authenticator, now)?,
                    Factors::PinTotp { pin, totp } => {
                        confirmed.pin_totp(pin, &totp.code(now), now, self.random.as_ref())?
                    }
                    Factors::Provider(there) => {
                        let to = confirmed.provider_address(&self.back(), STATE, now)?;
                        confirmed.provider(word(there, &to)?, now)?
                    }
                }
            }
            Err(error) => return Err(error.into()),
        };
        Ok(self.call::<Approve>(&request).await?.return_uri)
    }

    /// Brings a key under an approved act, sealed by `seal`.
    ///
    /// # Errors
    /// [`Refused`], what `seal` says, or when the act isn't genuine.
    pub async fn bring(
        &self,
        act: Digest32,
        seal: impl FnOnce(&Bringing) -> Result<ImportRequest>,
    ) -> Result<KeyId> {
        let answer = self.call::<ImportKey>(&ImportKeyRequest { act }).await?;
        let bringing = self.trust.bring(&answer, act, self.clock.now())?;
        Ok(self.call::<Import>(&seal(&bringing)?).await?.key)
    }

    /// Enrols with a voucher: a passkey, or PIN and one-time codes, whose seed is returned (base32).
    ///
    /// # Errors
    /// When the act isn't genuine, or the SAM refuses.
    pub async fn enrol(
        &self,
        voucher: Voucher,
        factors: NewFactors<'_>,
    ) -> Result<Option<SecretBytes>> {
        let (seed, _) = self.enrol_and_go_on(voucher, factors).await?;
        Ok(seed)
    }

    /// As [`Self::enrol`]; answers where the browser goes on, too.
    ///
    /// # Errors
    /// As [`Self::enrol`].
    pub async fn enrol_and_go_on(
        &self,
        voucher: Voucher,
        factors: NewFactors<'_>,
    ) -> Result<(Option<SecretBytes>, String)> {
        let opened = self.call::<EnrolOpen>(&voucher.open()).await?;
        let review = self.sam().await?.enrol_act(opened, self.clock.now())?;
        let enrolling = review.confirm(voucher)?;
        let now = self.clock.now();
        let goes_on = enrolling.return_uri().to_owned();
        let seed = match factors {
            NewFactors::Passkey(authenticator) => {
                let request = enrolling.passkey(authenticator, now, self.random.as_ref())?;
                self.call::<EnrolRegister>(&request).await?;
                None
            }
            NewFactors::Provider(there) => {
                let to = enrolling.provider_address(&self.back(), STATE, now)?;
                let request = enrolling.provider(word(there, &to)?, now, self.random.as_ref())?;
                self.call::<EnrolRegister>(&request).await?;
                None
            }
            NewFactors::PinTotp(pin) => {
                let (request, key) = enrolling.seed_request(now, self.random.as_ref())?;
                let seed = key.open(&self.call::<EnrolSeed>(&request).await?)?;
                let mut again = true;
                loop {
                    // The code of the step before, so that the code on the screen right after is still unused.
                    let now = self.clock.now();
                    let code = seed.totp.code(now.plus(-30));
                    let request = enrolling.pin_totp(pin, &code, now, self.random.as_ref())?;
                    let done = self.call::<EnrolRegister>(&request).await;
                    // Too old if the present step ended on the way.
                    let ended = self.clock.now().0.div_euclid(30) != now.0.div_euclid(30);
                    match done {
                        Err(_) if again && ended => again = false,
                        Err(refused) => return Err(refused),
                        Ok(_) => break Some(seed.base32),
                    }
                }
            }
        };
        Ok((seed, goes_on))
    }
}

/// Factors to enrol.
pub enum NewFactors<'a> {
    /// A passkey.
    Passkey(&'a mut (dyn Authenticator + Send)),
    /// A PIN; the SAM makes the seed.
    PinTotp(&'a SecretBytes),
    /// Whom an identity provider knows.
    Provider(&'a mut AtProvider),
}
