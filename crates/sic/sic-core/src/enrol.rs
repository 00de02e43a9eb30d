//! Enrolling the signing factors with a voucher.

use core_types::bytes::{b64u, from_b64u};
use core_types::{Digest32, KeyAlg, Level, Random, SecretBytes, UnixTime, VoucherId};
use jose::{JweContext, SealKey};
use sap::act::{Person, Replaced};
use sap::enrol::{InvitedBy, SealedEnrolment, SealedSeed};
use sap::messages::{
    EnrolOpenRequest, EnrolRegisterRequest, EnrolSeedAnswer, EnrolSeedRequest, PasskeyHint,
    ProviderHint,
};
use sap::proof::Method;
use sap::{EnrolAct, TYP_SEED};

use crate::approve::{check_otp, check_pin};
use crate::passkey::{Authenticator, CreatePasskey};
use crate::provider::provider_address;
use crate::totp::Totp;
use crate::trust::{SicError, TrustedSam};

/// Bytes of a voucher's secret.
const SECRET_LEN: usize = 16;

/// What the person got from the registration authority: `voucher.secret`, the fragment of the link.
#[derive(Debug, Clone)]
pub struct Voucher {
    id: VoucherId,
    secret: SecretBytes,
}

impl Voucher {
    /// Reads `voucher.secret`.
    ///
    /// # Errors
    /// [`SicError::BadVoucher`] for any other form.
    pub fn parse(text: &SecretBytes) -> Result<Self, SicError> {
        let text = std::str::from_utf8(text.expose()).map_err(|_| SicError::BadVoucher)?;
        let (id, secret) = text.rsplit_once('.').ok_or(SicError::BadVoucher)?;
        let id = VoucherId::parse(id).map_err(|_| SicError::BadVoucher)?;
        let secret = SecretBytes::new(from_b64u(secret).map_err(|_| SicError::BadVoucher)?);
        if secret.len() == SECRET_LEN {
            Ok(Self { id, secret })
        } else {
            Err(SicError::BadVoucher)
        }
    }

    /// Opens the voucher; its secret stays here.
    pub fn open(&self) -> EnrolOpenRequest {
        EnrolOpenRequest {
            voucher: self.id.clone(),
        }
    }
}

/// An authentic enrol act that somebody has to look at.
#[derive(Debug, Clone)]
pub struct EnrolReview {
    act: EnrolAct,
    digest: Digest32,
    sam: TrustedSam,
    exclude: Vec<PasskeyHint>,
    providers: Vec<ProviderHint>,
}

/// What has to be shown before the person enrols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnrolSummary<'a> {
    /// Who enrols.
    pub person: &'a Person,
    /// Who invited.
    pub by: InvitedBy,
    /// Highest level that the keys can reach.
    pub ceiling: Level,
    /// Keys that will be made.
    pub keys: &'a [KeyAlg],
    /// Methods that may be enrolled.
    pub methods: &'a [Method],
    /// The earlier registration that ends with it, and its keys.
    pub replaces: Option<&'a Replaced>,
}

impl EnrolReview {
    pub(crate) fn new(
        act: EnrolAct,
        digest: Digest32,
        sam: TrustedSam,
        (exclude, providers): (Vec<PasskeyHint>, Vec<ProviderHint>),
    ) -> Self {
        Self {
            act,
            digest,
            sam,
            exclude,
            providers,
        }
    }

    /// What to show.
    pub fn summary(&self) -> EnrolSummary<'_> {
        EnrolSummary {
            person: &self.act.person,
            by: self.act.by,
            ceiling: self.act.level,
            keys: &self.act.keys,
            methods: &self.act.methods,
            replaces: self.act.replaces.as_ref(),
        }
    }

    /// The person wants to enrol with their voucher.
    ///
    /// # Errors
    /// [`SicError::BadVoucher`] when the act is for another voucher.
    pub fn confirm(self, voucher: Voucher) -> Result<Enrolling, SicError> {
        if voucher.id == self.act.voucher {
            Ok(Enrolling {
                review: self,
                secret: voucher.secret,
            })
        } else {
            Err(SicError::BadVoucher)
        }
    }
}

/// A confirmed enrolment.
#[derive(Debug, Clone)]
pub struct Enrolling {
    review: EnrolReview,
    secret: SecretBytes,
}

/// The key of this enrolment to which the seed comes sealed.
pub struct SeedKey {
    key: SealKey,
    act: Digest32,
}

/// A seed of one-time codes, shown once.
#[derive(Debug, Clone)]
pub struct TotpSeed {
    /// Base32 text, for people who type it.
    pub base32: SecretBytes,
    /// `otpauth://` address, for a QR code.
    pub uri: SecretBytes,
    /// The generator, for programs that keep the seed themselves.
    pub totp: Totp,
}

impl Enrolling {
    /// Where the flow goes on, as the SAM signed it.
    pub fn return_uri(&self) -> &str {
        &self.review.act.return_uri
    }

    /// Until when the factors can be enrolled, exclusive.
    pub fn expires(&self) -> UnixTime {
        self.review.act.exp
    }

    /// Asks for a seed of one-time codes, sealed to a fresh key.
    ///
    /// # Errors
    /// [`SicError::MethodNotOffered`], [`SicError::Expired`] or [`SicError::Seal`].
    pub fn seed_request(
        &self,
        now: UnixTime,
        random: &dyn Random,
    ) -> Result<(EnrolSeedRequest, SeedKey), SicError> {
        self.ready(Method::PinTotp, now)?;
        let (key, _) = SealKey::generate().map_err(|_| SicError::Seal)?;
        let act = self.review.digest;
        let request = EnrolSeedRequest {
            act,
            sealed: self.sealed(None, random)?,
            key: key.public().clone(),
        };
        Ok((request, SeedKey { key, act }))
    }

    /// Enrols PIN and one-time codes. `otp`: the first code of the new seed.
    ///
    /// # Errors
    /// [`SicError::MethodNotOffered`], [`SicError::Expired`], or when PIN or code aren't of their form.
    pub fn pin_totp(
        &self,
        pin: &SecretBytes,
        otp: &SecretBytes,
        now: UnixTime,
        random: &dyn Random,
    ) -> Result<EnrolRegisterRequest, SicError> {
        self.ready(Method::PinTotp, now)?;
        check_pin(pin)?;
        check_otp(otp)?;
        Ok(EnrolRegisterRequest {
            act: self.review.digest,
            sealed: self.sealed(Some((pin, otp)), random)?,
            passkey: None,
            id_token: None,
        })
    }

    /// Enrols a passkey.
    ///
    /// # Errors
    /// [`SicError::MethodNotOffered`], [`SicError::Expired`] or what the authenticator says.
    pub fn passkey(
        &self,
        authenticator: &mut dyn Authenticator,
        now: UnixTime,
        random: &dyn Random,
    ) -> Result<EnrolRegisterRequest, SicError> {
        self.ready(Method::Passkey, now)?;
        let made = authenticator.create(&CreatePasskey {
            challenge: self.review.digest,
            rp_id: self.review.sam.rp_id(),
            origin: self.review.sam.origin(),
            person: &self.review.act.person,
            exclude: &self.review.exclude,
        })?;
        Ok(EnrolRegisterRequest {
            act: self.review.digest,
            sealed: self.sealed(None, random)?,
            passkey: Some(made),
            id_token: None,
        })
    }

    /// Where the person shows who they are to an identity provider; see [`crate::Confirmed::provider_address`].
    ///
    /// # Errors
    /// [`SicError::MethodNotOffered`], [`SicError::Expired`].
    pub fn provider_address(
        &self,
        redirect_uri: &str,
        state: &str,
        now: UnixTime,
    ) -> Result<String, SicError> {
        self.ready(Method::Idp, now)?;
        let hint = self.review.providers.first();
        let hint = hint.ok_or(SicError::MethodNotOffered)?;
        Ok(provider_address(
            hint,
            self.review.digest,
            redirect_uri,
            state,
        ))
    }

    /// Binds whom an identity provider names in a token for this enrolment.
    ///
    /// # Errors
    /// [`SicError::MethodNotOffered`], [`SicError::Expired`] or [`SicError::Seal`].
    pub fn provider(
        &self,
        id_token: String,
        now: UnixTime,
        random: &dyn Random,
    ) -> Result<EnrolRegisterRequest, SicError> {
        self.ready(Method::Idp, now)?;
        Ok(EnrolRegisterRequest {
            act: self.review.digest,
            sealed: self.sealed(None, random)?,
            passkey: None,
            id_token: Some(id_token),
        })
    }

    /// Adds PIN and one-time codes to the enrolment of a passkey: both in one request.
    ///
    /// # Errors
    /// As [`Enrolling::pin_totp`] and [`Enrolling::passkey`].
    pub fn both(
        &self,
        authenticator: &mut dyn Authenticator,
        pin: &SecretBytes,
        otp: &SecretBytes,
        now: UnixTime,
        random: &dyn Random,
    ) -> Result<EnrolRegisterRequest, SicError> {
        let secrets = self.pin_totp(pin, otp, now, random)?;
        let passkey = self.passkey(authenticator, now, random)?;
        Ok(EnrolRegisterRequest {
            passkey: passkey.passkey,
            ..secrets
        })
    }

    fn ready(&self, method: Method, now: UnixTime) -> Result<(), SicError> {
        let methods = &self.review.act.methods;
        // Secrets that an application will collect are enrolled like those for the approval page.
        let collected = method == Method::PinTotp && methods.contains(&Method::Collected);
        if !methods.contains(&method) && !collected {
            return Err(SicError::MethodNotOffered);
        }
        if now >= self.review.act.exp {
            return Err(SicError::Expired);
        }
        Ok(())
    }

    fn sealed(
        &self,
        pin: Option<(&SecretBytes, &SecretBytes)>,
        random: &dyn Random,
    ) -> Result<String, SicError> {
        let act = self.review.digest;
        let message = SealedEnrolment {
            act,
            secret: SecretBytes::from(b64u(self.secret.expose())),
            pin: pin.map(|(pin, _)| pin.clone()),
            otp: pin.map(|(_, otp)| otp.clone()),
        };
        self.review.sam.seal(&message, act, random)
    }
}

impl SeedKey {
    /// Opens the answer with the seed; the key is used up.
    ///
    /// # Errors
    /// [`SicError::BadSeed`] when it isn't sealed for this enrolment or not of its form.
    pub fn open(self, answer: &EnrolSeedAnswer) -> Result<TotpSeed, SicError> {
        let context = JweContext {
            typ: TYP_SEED,
            apu: self.act,
        };
        let plain = self
            .key
            .open(&answer.sealed, context)
            .map_err(|_| SicError::BadSeed)?;
        let seed: SealedSeed =
            serde_json::from_slice(plain.expose()).map_err(|_| SicError::BadSeed)?;
        let totp = Totp::from_base32(&seed.seed).map_err(|_| SicError::BadSeed)?;
        Ok(TotpSeed {
            base32: seed.seed,
            uri: seed.uri,
            totp,
        })
    }
}

#[cfg(test)]
mod tests {
    use core_types::random::SeededRandom;
    use sap::messages::EnrolOpenAnswer;
    use sap::{Act, TYP_SEALED};

    use super::*;
    use crate::testing::{NOW, Sam, secret, trust};

    fn enrolling(sam: &Sam) -> Enrolling {
        let trusted = trust(sam).check(&sam.statement(), NOW).unwrap();
        let act = sam.mint(&Act::Enrol(sam.enrol_act()));
        let review = trusted
            .enrol_act(
                EnrolOpenAnswer {
                    act,
                    exclude: vec![],
                    providers: vec![],
                },
                NOW,
            )
            .unwrap();
        let text = format!("v-1.{}", b64u([9; 16]));
        review
            .confirm(Voucher::parse(&secret(&text)).unwrap())
            .unwrap()
    }

    // shows: T-REG-IMPERSONATE
    #[test]
    fn a_voucher_has_one_form_and_fits_one_act() {
        for bad in ["", "v-1", "v-1.", "v-1.AAAA", "v 1.CQkJCQkJCQkJCQkJCQkJCQ"] {
            assert!(
                matches!(Voucher::parse(&secret(bad)), Err(SicError::BadVoucher)),
                "{bad}"
            );
        }
        let sam = Sam::new();
        let other = Voucher::parse(&secret(&format!("v-2.{}", b64u([9; 16])))).unwrap();
        assert!(matches!(
            enrolling(&sam).review.confirm(other),
            Err(SicError::BadVoucher)
        ));
    }

    // shows: T-USE-CAPTURE
    #[test]
    fn seed_and_secrets_travel_sealed_in_both_directions() {
        let sam = Sam::new();
        let random = SeededRandom::new(4);
        let enrolling = enrolling(&sam);
        let (request, key) = enrolling.seed_request(NOW, &random).unwrap();
        let opened = sam.open_sealed(&request.sealed, TYP_SEALED, request.act);
        let inside: SealedEnrolment = serde_json::from_slice(opened.expose()).unwrap();
        assert!(inside.secret.ct_eq(b64u([9; 16]).as_bytes()));
        assert!(inside.pin.is_none() && inside.otp.is_none());

        let seed = SealedSeed {
            seed: secret("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"),
            uri: secret("otpauth://totp/x?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"),
        };
        let plain = SecretBytes::new(serde_json::to_vec(&seed).unwrap());
        let context = JweContext {
            typ: TYP_SEED,
            apu: request.act,
        };
        let sealed = jose::seal(&plain, &request.key, context, &random).unwrap();
        let seed = key.open(&EnrolSeedAnswer { sealed }).unwrap();
        assert!(seed.totp.code(UnixTime(59)).ct_eq(b"287082"));

        let otp = seed.totp.code(NOW);
        let register = enrolling
            .pin_totp(&secret("correct horse"), &otp, NOW, &random)
            .unwrap();
        let opened = sam.open_sealed(&register.sealed, TYP_SEALED, register.act);
        let inside: SealedEnrolment = serde_json::from_slice(opened.expose()).unwrap();
        assert!(inside.pin.unwrap().ct_eq(b"correct horse"));
        assert!(inside.otp.unwrap().ct_eq(otp.expose()));
    }

    #[test]
    fn a_seed_of_another_enrolment_is_not_accepted() {
        let sam = Sam::new();
        let random = SeededRandom::new(5);
        let enrolling = enrolling(&sam);
        let (request, key) = enrolling.seed_request(NOW, &random).unwrap();
        let context = JweContext {
            typ: TYP_SEED,
            apu: Digest32([0; 32]),
        };
        let sealed = jose::seal(&secret("{}"), &request.key, context, &random).unwrap();
        assert!(matches!(
            key.open(&EnrolSeedAnswer { sealed }),
            Err(SicError::BadSeed)
        ));
    }
}
