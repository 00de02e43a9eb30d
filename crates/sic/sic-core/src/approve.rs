//! Reviewing an act and turning the person's yes into a proof.

use core_types::{B64, Digest32, Level, Random, SecretBytes, UnixTime};
use jose::SigningKey;
use sap::act::{ActClient, Brand, Person, Since};
use sap::messages::{ApproveRequest, OutcomeRequest, PasskeyHint, ProviderHint, RefuseRequest};
use sap::proof::Method;
use sap::{Item, Proof, SealedPin, SealedProof, SignAct};

use crate::passkey::{Authenticator, GetAssertion};
use crate::provider::provider_address;
use crate::trust::{SicError, TrustedSam};
use crate::{MAX_PIN, MIN_PIN};

/// An authentic act that somebody has to look at. It can't be approved yet.
#[derive(Debug, Clone)]
pub struct Review<A = SignAct> {
    act: A,
    digest: Digest32,
    sam: TrustedSam,
    methods: Vec<Method>,
    passkeys: Vec<PasskeyHint>,
    providers: Vec<ProviderHint>,
}

/// What has to be shown before anybody is asked. Names and labels of the client are its own claims unless
/// `client.known` and `client.signed` say otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary<'a> {
    /// Who approves.
    pub person: &'a Person,
    /// Whose signer they are here, as the SAM has it.
    pub brand: Option<&'a Brand>,
    /// Who asked.
    pub client: &'a ActClient,
    /// Id of the key, the CSC `credentialID`.
    pub key: &'a str,
    /// Subject of the certificate (RFC 4514).
    pub subject: &'a str,
    /// Level of the key.
    pub level: Level,
    /// Evaluations on which that level rests by the operator's word alone.
    pub declared: &'a [String],
    /// What will be signed, in order.
    pub items: &'a [Item],
    /// Last accepted act and last change of factors.
    pub since: &'a Since,
    /// 0, or until when renewals may go on without asking.
    pub renew: i64,
}

/// What reviewing needs to know of an act.
pub trait Reviewed {
    /// End of its life, exclusive.
    fn exp(&self) -> UnixTime;
    /// Where the flow goes on.
    fn return_uri(&self) -> &str;
    /// Whether both say the same in everything but the moment of minting.
    fn says_the_same(&self, other: &Self) -> bool;
}

impl Reviewed for SignAct {
    fn exp(&self) -> UnixTime {
        self.exp
    }

    fn return_uri(&self) -> &str {
        &self.return_uri
    }

    fn says_the_same(&self, other: &Self) -> bool {
        shown(self) == shown(other)
    }
}

/// Everything that was shown or that limits what the approval is for. Nonce and times belong to the minting.
fn shown(a: &SignAct) -> impl PartialEq + '_ {
    (
        (&a.sam, &a.tenant, &a.brand),
        (&a.person, &a.key, &a.client, &a.algs),
        (
            &a.items,
            a.renew,
            &a.since,
            (a.level, &a.declared),
            a.policy,
            &a.return_uri,
        ),
    )
}

impl<A: Reviewed> Review<A> {
    pub(crate) fn new(
        act: A,
        digest: Digest32,
        sam: TrustedSam,
        methods: Vec<Method>,
        passkeys: Vec<PasskeyHint>,
        providers: Vec<ProviderHint>,
    ) -> Self {
        Self {
            act,
            digest,
            sam,
            methods,
            passkeys,
            providers,
        }
    }

    /// The act itself.
    pub fn act(&self) -> &A {
        &self.act
    }

    pub(crate) fn sam(&self) -> &TrustedSam {
        &self.sam
    }

    /// Ways to approve that the SAM accepts for this act.
    pub fn methods(&self) -> &[Method] {
        &self.methods
    }

    /// Until when it can be approved, exclusive.
    pub fn expires(&self) -> UnixTime {
        self.act.exp()
    }

    /// The person has looked at the summary and wants to approve it.
    pub fn confirm(self) -> Confirmed<A> {
        Confirmed(self)
    }

    /// The person does not want it. `unknown`: they know nothing of it.
    pub fn refuse(&self, unknown: bool) -> RefuseRequest {
        RefuseRequest {
            act: self.digest,
            unknown,
        }
    }
}

impl Review<SignAct> {
    /// What to show.
    pub fn summary(&self) -> Summary<'_> {
        Summary {
            person: &self.act.person,
            brand: self.act.brand.as_ref(),
            client: &self.act.client,
            key: self.act.key.id.as_str(),
            subject: &self.act.key.subject,
            level: self.act.level,
            declared: &self.act.declared,
            items: &self.act.items,
            since: &self.act.since,
            renew: self.act.renew,
        }
    }
}

/// An act that the person confirmed; the only thing proofs are made from.
#[derive(Debug, Clone)]
pub struct Confirmed<A = SignAct>(Review<A>);

impl<A: Reviewed> Confirmed<A> {
    /// Goes on with a freshly opened act after the first has expired (SAP step 5).
    ///
    /// # Errors
    /// The fresh [`Review`], when anything that was shown differs: the person has to be asked again.
    pub fn reopened(self, fresh: Review<A>) -> Result<Self, Box<Review<A>>> {
        if fresh.act.says_the_same(&self.0.act) {
            Ok(Self(fresh))
        } else {
            Err(Box::new(fresh))
        }
    }

    /// Until when it can be approved, exclusive.
    pub fn expires(&self) -> UnixTime {
        self.0.act.exp()
    }

    /// Where the flow goes on, as the SAM signed it; answers that say otherwise are not followed.
    pub fn return_uri(&self) -> &str {
        self.0.act.return_uri()
    }

    /// Asks what became of it, for a caller that lost the answer.
    pub fn outcome(&self) -> OutcomeRequest {
        OutcomeRequest { act: self.0.digest }
    }

    /// Approves with PIN and one-time code, sealed for the SAM alone.
    ///
    /// # Errors
    /// [`SicError::MethodNotOffered`], [`SicError::Expired`], or when PIN or code aren't of their form.
    pub fn pin_totp(
        &self,
        pin: &SecretBytes,
        otp: &SecretBytes,
        now: UnixTime,
        random: &dyn Random,
    ) -> Result<ApproveRequest, SicError> {
        self.ready(Method::PinTotp, now)?;
        check_pin(pin)?;
        check_otp(otp)?;
        let act = self.0.digest;
        let message = SealedProof {
            act,
            pin: pin.clone(),
            otp: otp.clone(),
        };
        let sealed = self.0.sam.seal(&message, act, random)?;
        Ok(ApproveRequest {
            proof: Proof::PinTotp { act, sealed },
            new: None,
        })
    }

    /// Approves with a device key, which signs the digest of the act, and its PIN, sealed for the SAM alone.
    ///
    /// # Errors
    /// [`SicError::MethodNotOffered`], [`SicError::Expired`], or when the PIN isn't of its form.
    pub fn device(
        &self,
        key: &SigningKey,
        pin: &SecretBytes,
        now: UnixTime,
        random: &dyn Random,
    ) -> Result<ApproveRequest, SicError> {
        self.ready(Method::Device, now)?;
        check_pin(pin)?;
        let act = self.0.digest;
        let message = SealedPin {
            act,
            pin: pin.clone(),
        };
        let sealed = self.0.sam.seal(&message, act, random)?;
        let sig = key.sign_bytes(&act.0).map_err(|_| SicError::DeviceKey)?;
        let key = key.public().thumbprint();
        Ok(ApproveRequest {
            proof: Proof::Device {
                act,
                key,
                sig: B64(sig),
                sealed,
            },
            new: None,
        })
    }

    /// Where the person proves their will to an identity provider: with `redirect_uri` and `state` of the caller's, to which the
    /// answer comes in the fragment (OpenID Connect Core 1.0 §3.2.2, `response_type=id_token`).
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
        let hint = self.0.providers.first().ok_or(SicError::MethodNotOffered)?;
        Ok(provider_address(hint, self.0.digest, redirect_uri, state))
    }

    /// Approves with an identity provider's word for this act.
    ///
    /// # Errors
    /// [`SicError::MethodNotOffered`], [`SicError::Expired`].
    pub fn provider(&self, id_token: String, now: UnixTime) -> Result<ApproveRequest, SicError> {
        self.ready(Method::Idp, now)?;
        let act = self.0.digest;
        Ok(ApproveRequest {
            proof: Proof::Idp { act, id_token },
            new: None,
        })
    }

    /// Approves with a passkey, whose challenge is the digest of the act.
    ///
    /// # Errors
    /// [`SicError::MethodNotOffered`], [`SicError::Expired`] or what the authenticator says.
    pub fn passkey(
        &self,
        authenticator: &mut dyn Authenticator,
        now: UnixTime,
    ) -> Result<ApproveRequest, SicError> {
        self.ready(Method::Passkey, now)?;
        let act = self.0.digest;
        let made = authenticator.get(&GetAssertion {
            challenge: act,
            rp_id: self.0.sam.rp_id(),
            origin: self.0.sam.origin(),
            allow: &self.0.passkeys,
        })?;
        Ok(ApproveRequest {
            proof: Proof::Passkey {
                act,
                id: made.id,
                auth_data: made.auth_data,
                client_data: made.client_data,
                sig: made.sig,
            },
            new: None,
        })
    }

    pub(crate) fn review(&self) -> &Review<A> {
        &self.0
    }

    fn ready(&self, method: Method, now: UnixTime) -> Result<(), SicError> {
        if !self.0.methods.contains(&method) {
            return Err(SicError::MethodNotOffered);
        }
        if now >= self.0.act.exp() {
            return Err(SicError::Expired);
        }
        Ok(())
    }
}

/// Length in characters as a person counts them, near enough: code points.
pub(crate) fn check_pin(pin: &SecretBytes) -> Result<(), SicError> {
    let length = std::str::from_utf8(pin.expose())
        .map_err(|_| SicError::PinLength)?
        .chars()
        .count();
    if (MIN_PIN..=MAX_PIN).contains(&length) {
        Ok(())
    } else {
        Err(SicError::PinLength)
    }
}

pub(crate) fn check_otp(otp: &SecretBytes) -> Result<(), SicError> {
    let digits = otp.expose();
    if digits.len() == 6 && digits.iter().all(u8::is_ascii_digit) {
        Ok(())
    } else {
        Err(SicError::OtpForm)
    }
}

#[cfg(test)]
mod tests {
    use core_types::random::SeededRandom;
    use sap::TYP_SEALED;

    use super::*;
    use crate::testing::{NOW, Sam, secret, trust};

    fn review(sam: &Sam, act: &SignAct) -> Review {
        let trusted = trust(sam).check(&sam.statement(), NOW).unwrap();
        trusted.sign_act(sam.open(act), NOW).unwrap()
    }

    // shows: II-3.3.1-sap-sad-confidentiality, T-USE-CAPTURE
    #[test]
    fn pin_and_code_reach_the_sam_sealed_and_bound_to_the_act() {
        let sam = Sam::new();
        let random = SeededRandom::new(3);
        let confirmed = review(&sam, &sam.sign_act()).confirm();
        let (pin, otp) = (secret("correct horse"), secret("123456"));
        let request = confirmed.pin_totp(&pin, &otp, NOW, &random).unwrap();
        let text = serde_json::to_string(&request).unwrap();
        assert!(!text.contains("correct horse") && !text.contains("123456"));
        let Proof::PinTotp { act, sealed } = request.proof else {
            panic!("another method")
        };
        let opened = sam.open_sealed(&sealed, TYP_SEALED, act);
        let inside: SealedProof = serde_json::from_slice(opened.expose()).unwrap();
        assert_eq!(inside.act, act);
        assert!(inside.pin.ct_eq(b"correct horse") && inside.otp.ct_eq(b"123456"));
    }

    // shows: II-3.3.1-sap-sad-confidentiality, T-USE-SAD-FORGE
    #[test]
    fn a_device_key_signs_this_act_and_its_pin_is_sealed() {
        let sam = Sam::new();
        let random = SeededRandom::new(3);
        let (key, _) = SigningKey::generate().unwrap();
        let mut answer = sam.open(&sam.sign_act());
        let trusted = trust(&sam).check(&sam.statement(), NOW).unwrap();
        let make = |answer: &sap::messages::OpenAnswer, pin: &str, now| {
            let confirmed = trusted.sign_act(answer.clone(), NOW).unwrap().confirm();
            confirmed.device(&key, &secret(pin), now, &random)
        };
        let refused = make(&answer, "correct horse", NOW);
        assert!(matches!(refused, Err(SicError::MethodNotOffered)));
        answer.methods = vec![Method::Device];
        assert!(matches!(
            make(&answer, "1234567", NOW),
            Err(SicError::PinLength)
        ));
        assert!(matches!(
            make(&answer, "correct horse", NOW.plus(300)),
            Err(SicError::Expired)
        ));
        let request = make(&answer, "correct horse", NOW).unwrap();
        let text = serde_json::to_string(&request).unwrap();
        assert!(!text.contains("correct horse"));
        let Proof::Device {
            act,
            key: named,
            sig,
            sealed,
        } = request.proof
        else {
            panic!("another method")
        };
        assert_eq!(named, key.public().thumbprint());
        assert_eq!(jose::verify_bytes(&act.0, &sig.0, key.public()), Ok(()));
        let opened = sam.open_sealed(&sealed, TYP_SEALED, act);
        let inside: SealedPin = serde_json::from_slice(opened.expose()).unwrap();
        assert!(inside.act == act && inside.pin.ct_eq(b"correct horse"));
    }

    #[test]
    fn secrets_of_another_form_and_late_proofs_are_not_made() {
        let sam = Sam::new();
        let random = SeededRandom::new(3);
        let confirmed = review(&sam, &sam.sign_act()).confirm();
        let make = |pin: &str, otp: &str, now| {
            confirmed.pin_totp(&secret(pin), &secret(otp), now, &random)
        };
        assert!(matches!(
            make("1234567", "123456", NOW),
            Err(SicError::PinLength)
        ));
        assert!(matches!(
            make("12345678", "12345", NOW),
            Err(SicError::OtpForm)
        ));
        assert!(matches!(
            make("12345678", "12345x", NOW),
            Err(SicError::OtpForm)
        ));
        assert!(matches!(
            make("12345678", "123456", NOW.plus(300)),
            Err(SicError::Expired)
        ));
        assert!(make("12345678", "123456", NOW.plus(299)).is_ok());
    }

    // shows: II-3.3.1-sap-replay-bypass-forgery, T-USE-DTBSR-FORGE
    #[test]
    fn a_fresh_act_goes_on_without_asking_only_if_all_that_was_shown_is_equal() {
        let sam = Sam::new();
        let first = sam.sign_act();
        let mut same = first.clone();
        same.nonce.0[0] ^= 1;
        same.iat = same.iat.plus(10);
        same.exp = same.exp.plus(10);
        let went_on = review(&sam, &first)
            .confirm()
            .reopened(review(&sam, &same))
            .unwrap();
        assert_eq!(went_on.expires(), same.exp);

        let changes: [fn(&mut SignAct); 8] = [
            |a| a.items.push(a.items[0].clone()),
            |a| a.items.swap(0, 1),
            |a| a.client.signed = !a.client.signed,
            |a| a.key.version += 1,
            |a| a.renew = 1,
            |a| a.since.factors = Some(NOW),
            |a| a.return_uri.push('x'),
            |a| a.algs.clear(),
        ];
        for (n, change) in changes.into_iter().enumerate() {
            let mut other = same.clone();
            change(&mut other);
            let asked = review(&sam, &first)
                .confirm()
                .reopened(review(&sam, &other));
            assert!(asked.is_err(), "change {n} went unnoticed");
        }
    }

    #[test]
    fn a_passkey_signs_the_digest_of_this_act_and_no_other_host() {
        struct Recorder(Vec<(Digest32, String, String)>);
        impl Authenticator for Recorder {
            fn get(
                &mut self,
                r: &GetAssertion<'_>,
            ) -> Result<crate::Assertion, crate::AuthenticatorError> {
                self.0
                    .push((r.challenge, r.rp_id.to_owned(), r.origin.to_owned()));
                let empty = || core_types::B64(vec![]);
                Ok(crate::Assertion {
                    id: empty(),
                    auth_data: empty(),
                    client_data: empty(),
                    sig: empty(),
                })
            }
            fn create(
                &mut self,
                _: &crate::CreatePasskey<'_>,
            ) -> Result<sap::enrol::PasskeyRegistration, crate::AuthenticatorError> {
                Err(crate::AuthenticatorError::Refused)
            }
        }
        let sam = Sam::new();
        let act = sam.sign_act();
        let mut recorder = Recorder(vec![]);
        let request = review(&sam, &act)
            .confirm()
            .passkey(&mut recorder, NOW)
            .unwrap();
        let (challenge, rp_id, origin) = recorder.0.pop().unwrap();
        assert_eq!(challenge, request.proof.act());
        assert_eq!(
            (rp_id.as_str(), origin.as_str()),
            ("sic.localhost", "http://sic.localhost:8402")
        );
        let mut only_pin = sam.open(&act);
        only_pin.methods = vec![Method::PinTotp];
        let trusted = trust(&sam).check(&sam.statement(), NOW).unwrap();
        let confirmed = trusted.sign_act(only_pin, NOW).unwrap().confirm();
        assert!(matches!(
            confirmed.passkey(&mut recorder, NOW),
            Err(SicError::MethodNotOffered)
        ));
    }
}
