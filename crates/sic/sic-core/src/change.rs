//! Reviewing acts about keys and factors, and proving them. Same checks, same proofs as for a signature.

use core_types::{Digest32, Random, SecretBytes, UnixTime};
use jose::SigningKey;
use sap::act::{Act, Person};
use sap::manage::{FactorChange, NewFactor, SealedFactor};
use sap::messages::{ApproveRequest, FactorSeedRequest, PasskeyHint, RefuseRequest};
use sap::proof::Method;

use crate::approve::{Confirmed, Review, Reviewed, check_otp, check_pin};
use crate::passkey::{Authenticator, CreatePasskey};
use crate::trust::SicError;

impl Reviewed for Act {
    fn exp(&self) -> UnixTime {
        self.head().exp
    }

    fn return_uri(&self) -> &str {
        self.head().return_uri
    }

    fn says_the_same(&self, other: &Self) -> bool {
        let shown = |act: &Self| {
            let mut value = serde_json::to_value(act).unwrap_or_default();
            for member in ["nonce", "iat", "exp"] {
                value[member] = serde_json::Value::Null;
            }
            value
        };
        shown(self) == shown(other)
    }
}

/// What the act brings about, for whoever has to explain it before asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consequence {
    /// The key can't sign until it is resumed.
    KeyStops,
    /// The key can sign again.
    KeyGoesOn,
    /// The key is gone for good.
    KeyIsDestroyed,
    /// All keys and factors of the registration are gone for good.
    RegistrationEnds,
    /// A new factor can prove what the others can.
    FactorIsAdded,
    /// A factor proves nothing any more.
    FactorIsRemoved,
    /// The old PIN doesn't count any more.
    PinChanges,
    /// A factor that was locked after wrong entries counts again.
    FactorIsUnlocked,
    /// A key that was made elsewhere may be brought.
    KeyMayComeIn,
    /// The key leaves; the service can't use it any more.
    KeyLeaves,
}

impl Consequence {
    /// Whether it can't be undone.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::KeyIsDestroyed | Self::RegistrationEnds | Self::KeyLeaves
        )
    }
}

/// An authentic act about keys or factors that somebody has to look at.
#[derive(Debug, Clone)]
pub struct ChangeReview {
    review: Review<Act>,
    exclude: Vec<PasskeyHint>,
}

impl ChangeReview {
    pub(crate) fn new(review: Review<Act>, exclude: Vec<PasskeyHint>) -> Self {
        Self { review, exclude }
    }

    /// The act, to show what it names.
    pub fn act(&self) -> &Act {
        self.review.act()
    }

    /// What it brings about.
    pub fn consequence(&self) -> Consequence {
        match self.act() {
            Act::Resume(_) => Consequence::KeyGoesOn,
            Act::Destroy(_) => Consequence::KeyIsDestroyed,
            Act::Leave(_) => Consequence::RegistrationEnds,
            Act::Factor(act) => match act.change {
                FactorChange::Add { .. } | FactorChange::AddDevice { .. } => {
                    Consequence::FactorIsAdded
                }
                FactorChange::Remove { .. } => Consequence::FactorIsRemoved,
                FactorChange::Pin { .. } => Consequence::PinChanges,
                FactorChange::Unlock { .. } => Consequence::FactorIsUnlocked,
            },
            Act::Import(_) => Consequence::KeyMayComeIn,
            Act::HandOver(_) => Consequence::KeyLeaves,
            // Acts to sign, to enrol and of officers don't come here.
            Act::Suspend(_) | Act::Sign(_) | Act::SignOpen(_) | Act::Enrol(_) | Act::Officer(_) => {
                Consequence::KeyStops
            }
        }
    }

    /// Who approves.
    pub fn person(&self) -> &Person {
        self.act().head().person
    }

    /// Ways to approve that the SAM accepts for this act.
    pub fn methods(&self) -> &[Method] {
        self.review.methods()
    }

    /// The person has looked at it and wants it.
    pub fn confirm(self) -> ConfirmedChange {
        ConfirmedChange {
            confirmed: self.review.confirm(),
            exclude: self.exclude,
            new: None,
        }
    }

    /// The person does not want it. `unknown`: they know nothing of it.
    pub fn refuse(&self, unknown: bool) -> RefuseRequest {
        self.review.refuse(unknown)
    }
}

/// An act about keys or factors that the person confirmed.
#[derive(Debug, Clone)]
pub struct ConfirmedChange {
    confirmed: Confirmed<Act>,
    exclude: Vec<PasskeyHint>,
    new: Option<NewFactor>,
}

impl ConfirmedChange {
    /// Where the flow goes on, as the SAM signed it.
    pub fn return_uri(&self) -> &str {
        self.confirmed.return_uri()
    }

    /// Asks for the seed of a new factor with one-time codes, sealed to `key`.
    pub fn seed(&self, key: jose::Jwk) -> FactorSeedRequest {
        FactorSeedRequest {
            act: self.digest(),
            key,
        }
    }

    /// Makes the new passkey that the act adds.
    ///
    /// # Errors
    /// [`SicError::MethodNotOffered`] when the act adds none, or what the authenticator says.
    pub fn with_passkey(self, authenticator: &mut dyn Authenticator) -> Result<Self, SicError> {
        let wanted = FactorChange::Add {
            method: Method::Passkey,
        };
        if self.change() != Some(&wanted) {
            return Err(SicError::MethodNotOffered);
        }
        let sam = self.confirmed.review().sam();
        let registration = authenticator.create(&CreatePasskey {
            challenge: self.digest(),
            rp_id: sam.rp_id(),
            origin: sam.origin(),
            person: self.confirmed.review().act().head().person,
            exclude: &self.exclude,
        })?;
        let new = Some(NewFactor::Passkey { registration });
        Ok(Self { new, ..self })
    }

    /// Seals the new PIN, also that of a new device key, with the first code of its seed when the act adds both.
    ///
    /// # Errors
    /// [`SicError::MethodNotOffered`] when the act wants something else, or when PIN or code aren't of their form.
    pub fn with_pin(
        self,
        new_pin: &SecretBytes,
        otp: Option<&SecretBytes>,
        random: &dyn Random,
    ) -> Result<Self, SicError> {
        let with_code = match self.change() {
            Some(FactorChange::Add {
                method: Method::PinTotp,
            }) => true,
            Some(FactorChange::Pin { .. } | FactorChange::AddDevice { .. }) => false,
            _ => return Err(SicError::MethodNotOffered),
        };
        if otp.is_some() != with_code {
            return Err(SicError::OtpForm);
        }
        check_pin(new_pin)?;
        otp.map_or(Ok(()), check_otp)?;
        let act = self.digest();
        let message = SealedFactor {
            act,
            new_pin: new_pin.clone(),
            otp: otp.cloned(),
        };
        let sealed = self.confirmed.review().sam().seal(&message, act, random)?;
        let new = Some(NewFactor::PinTotp { sealed });
        Ok(Self { new, ..self })
    }

    /// Brings a provider's word for this act as the account that the act adds.
    ///
    /// # Errors
    /// [`SicError::MethodNotOffered`] when the act adds none.
    pub fn with_provider(self, id_token: String) -> Result<Self, SicError> {
        let wanted = FactorChange::Add {
            method: Method::Idp,
        };
        if self.change() != Some(&wanted) {
            return Err(SicError::MethodNotOffered);
        }
        let new = Some(NewFactor::Idp { id_token });
        Ok(Self { new, ..self })
    }

    /// Approves with PIN and one-time code, sealed for the SAM alone.
    ///
    /// # Errors
    /// As [`Confirmed::pin_totp`].
    pub fn pin_totp(
        &self,
        pin: &SecretBytes,
        otp: &SecretBytes,
        now: UnixTime,
        random: &dyn Random,
    ) -> Result<ApproveRequest, SicError> {
        let request = self.confirmed.pin_totp(pin, otp, now, random)?;
        Ok(self.complete(request))
    }

    /// Approves with a device key and its PIN.
    ///
    /// # Errors
    /// As [`Confirmed::device`].
    pub fn device(
        &self,
        key: &SigningKey,
        pin: &SecretBytes,
        now: UnixTime,
        random: &dyn Random,
    ) -> Result<ApproveRequest, SicError> {
        let request = self.confirmed.device(key, pin, now, random)?;
        Ok(self.complete(request))
    }

    /// Approves with a passkey, whose challenge is the digest of the act.
    ///
    /// # Errors
    /// As [`Confirmed::passkey`].
    pub fn passkey(
        &self,
        authenticator: &mut dyn Authenticator,
        now: UnixTime,
    ) -> Result<ApproveRequest, SicError> {
        let request = self.confirmed.passkey(authenticator, now)?;
        Ok(self.complete(request))
    }

    /// Where the person proves their will to an identity provider.
    ///
    /// # Errors
    /// As [`Confirmed::provider_address`].
    pub fn provider_address(
        &self,
        redirect_uri: &str,
        state: &str,
        now: UnixTime,
    ) -> Result<String, SicError> {
        self.confirmed.provider_address(redirect_uri, state, now)
    }

    /// Approves with an identity provider's word for this act.
    ///
    /// # Errors
    /// As [`Confirmed::provider`].
    pub fn provider(&self, id_token: String, now: UnixTime) -> Result<ApproveRequest, SicError> {
        let request = self.confirmed.provider(id_token, now)?;
        Ok(self.complete(request))
    }

    fn complete(&self, request: ApproveRequest) -> ApproveRequest {
        ApproveRequest {
            new: self.new.clone(),
            ..request
        }
    }

    fn change(&self) -> Option<&FactorChange> {
        match self.confirmed.review().act() {
            Act::Factor(act) => Some(&act.change),
            _ => None,
        }
    }

    fn digest(&self) -> Digest32 {
        self.confirmed.outcome().act
    }
}

#[cfg(test)]
mod tests {
    use core_types::random::SeededRandom;
    use core_types::{KeyAlg, VoucherId};
    use sap::manage::{FactorAct, KeyAct};
    use sap::messages::OpenAnswer;
    use sap::{Proof, TYP_SEALED};

    use super::*;
    use crate::testing::{NOW, Sam, secret, trust};
    use crate::trust::ActError;

    fn key_act(sam: &Sam) -> KeyAct {
        let a = sam.sign_act();
        KeyAct {
            v: a.v,
            sam: a.sam,
            tenant: a.tenant,
            brand: a.brand,
            nonce: a.nonce,
            iat: a.iat,
            exp: a.exp,
            epoch: a.epoch,
            policy: a.policy,
            level: a.level,
            person: a.person,
            key: a.key,
            alg: KeyAlg::P256,
            since: a.since,
            return_uri: a.return_uri,
        }
    }

    fn factor_act(sam: &Sam, change: FactorChange) -> FactorAct {
        let a = sam.sign_act();
        FactorAct {
            v: a.v,
            sam: a.sam,
            tenant: a.tenant,
            brand: a.brand,
            nonce: a.nonce,
            iat: a.iat,
            exp: a.exp,
            epoch: a.epoch,
            policy: a.policy,
            level: a.level,
            person: a.person,
            registration: VoucherId::parse("v-1").unwrap(),
            change,
            rp_id: "sic.localhost".into(),
            since: a.since,
            return_uri: a.return_uri,
        }
    }

    fn opened(sam: &Sam, act: &Act) -> OpenAnswer {
        OpenAnswer {
            act: sam.mint(act),
            ..sam.open(&sam.sign_act())
        }
    }

    // shows: T-USE-SAP-BYPASS, T-TERM-NOT-OWNER
    #[test]
    fn a_change_is_never_taken_for_a_signature_nor_the_reverse() {
        let sam = Sam::new();
        let trusted = trust(&sam).check(&sam.statement(), NOW).unwrap();
        let destroy = Act::Destroy(key_act(&sam));
        let review = trusted.change_act(opened(&sam, &destroy), NOW).unwrap();
        assert!(review.consequence().is_final());
        assert!(matches!(
            trusted.sign_act(opened(&sam, &destroy), NOW),
            Err(SicError::Act(ActError::Kind))
        ));
        let sign = sam.open(&sam.sign_act());
        assert!(matches!(
            trusted.change_act(sign, NOW),
            Err(SicError::Act(ActError::Kind))
        ));
        let suspend = Act::Suspend(key_act(&sam));
        assert!(!suspend.says_the_same(&destroy));
        let mut later = key_act(&sam);
        later.nonce.0[0] ^= 1;
        assert!(suspend.says_the_same(&Act::Suspend(later)));
    }

    #[test]
    fn only_what_the_act_wants_is_made() {
        let sam = Sam::new();
        let random = SeededRandom::new(3);
        let trusted = trust(&sam).check(&sam.statement(), NOW).unwrap();
        let confirmed = |change| {
            let act = Act::Factor(factor_act(&sam, change));
            trusted
                .change_act(opened(&sam, &act), NOW)
                .unwrap()
                .confirm()
        };
        let add = || FactorChange::Add {
            method: Method::PinTotp,
        };
        let (pin, otp) = (secret("correct horse"), secret("123456"));
        assert!(confirmed(add()).with_pin(&pin, None, &random).is_err());
        let made = confirmed(add())
            .with_pin(&pin, Some(&otp), &random)
            .unwrap();
        let request = made
            .pin_totp(&secret("old old old"), &otp, NOW, &random)
            .unwrap();
        let Some(NewFactor::PinTotp { sealed }) = &request.new else {
            panic!("no new factor")
        };
        let Proof::PinTotp { act, .. } = request.proof else {
            panic!("another method")
        };
        let inside = sam.open_sealed(sealed, TYP_SEALED, act);
        let inside: SealedFactor = serde_json::from_slice(inside.expose()).unwrap();
        assert!(inside.new_pin.ct_eq(b"correct horse"));
        let passkey = confirmed(FactorChange::Add {
            method: Method::Passkey,
        });
        assert!(passkey.with_pin(&pin, Some(&otp), &random).is_err());
        let mut act = factor_act(&sam, add());
        act.rp_id = "evil.test".into();
        assert!(matches!(
            trusted.change_act(opened(&sam, &Act::Factor(act)), NOW),
            Err(SicError::Act(ActError::RpId))
        ));
    }
}
