//! From pinned roots to an act that may be shown.

use core_types::{SecretBytes, UnixTime};
use jose::{JoseError, JweContext, Jwk};
use sap::act::{MAX_ITEMS, MAX_LABEL, MAX_LIFE};
use sap::messages::{EnrolOpenAnswer, KeysAnswer, OpenAnswer};
use sap::{Act, Item, SamKeys, StatementError, TYP_ACT, TYP_SEALED, act_digest};

use crate::approve::Review;
use crate::change::ChangeReview;
use crate::enrol::EnrolReview;
use crate::passkey::AuthenticatorError;

/// How far an act may come from the future before the local clock is blamed, in seconds.
const SKEW: i64 = 60;

/// What the signer's side knows beforehand, from enrolment or configuration.
#[derive(Debug, Clone)]
pub struct Trust {
    roots: Vec<Jwk>,
    origin: String,
    rp_id: String,
}

/// Why the signer's side stopped. Nothing was approved.
#[derive(Debug, thiserror::Error)]
pub enum SicError {
    /// No root key is pinned.
    #[error("no root key is pinned; enrol first or name the root key's thumbprint")]
    NoRoot,
    /// The address of the signer's page isn't an origin.
    #[error("{0:?} is not an origin; give scheme and host, such as https://sign.example.jp")]
    NotAnOrigin(String),
    /// The statement about the SAM's keys was not accepted.
    #[error("the service could not show that it is the one you enrolled with: {0}")]
    Statement(#[from] StatementError),
    /// The act was not accepted.
    #[error(
        "what should be approved failed its check: {0}; do not approve it and tell the operator"
    )]
    Act(#[from] ActError),
    /// The act's time is over.
    #[error("the time to approve ran out; nothing was signed; prepare it again")]
    Expired,
    /// The local clock is off.
    #[error("this machine's clock is behind by more than a minute; set it right")]
    ClockBehind,
    /// The method isn't offered for this act.
    #[error("this way of approving is not offered here; choose another")]
    MethodNotOffered,
    /// The PIN's length is outside the limits.
    #[error("a signing PIN has {min} to {max} characters", min = crate::MIN_PIN, max = crate::MAX_PIN)]
    PinLength,
    /// The one-time code isn't six digits.
    #[error("a one-time code has six digits")]
    OtpForm,
    /// The voucher isn't of its form.
    #[error("this is not an invitation code; copy the whole link again")]
    BadVoucher,
    /// The seed that was sent is not authentic.
    #[error("the answer with the authenticator's seed failed its check; begin the enrolment anew")]
    BadSeed,
    /// The authenticator did not do it.
    #[error("{0}")]
    Authenticator(#[from] AuthenticatorError),
    /// Another key than the one that was approved.
    #[error("this is another key than the one you approved; choose the right file")]
    OtherKey,
    /// The device key can't sign.
    #[error("the device key can't sign; make a new one and add it")]
    DeviceKey,
    /// Sealing failed.
    #[error("the secrets could not be sealed for the service; begin anew")]
    Seal,
}

/// What is wrong with an act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ActError {
    /// Form or signature.
    #[error("not authentic ({0})")]
    Jose(#[from] JoseError),
    /// Members.
    #[error("its members are not as prescribed")]
    Malformed,
    /// It's for something else.
    #[error("it is of another kind than asked for")]
    Kind,
    /// Another SAM or store epoch than the statement's.
    #[error("it comes from another service or store than its key")]
    Issuer,
    /// Times that no act may have.
    #[error("its life is longer than allowed")]
    Life,
    /// It would bind a passkey to another host.
    #[error("it belongs to another approval address")]
    RpId,
}

impl Trust {
    /// Trust in `roots` only, for the signer's page at `origin` (scheme, host and port, nothing after).
    ///
    /// # Errors
    /// [`SicError::NoRoot`] without a root, [`SicError::NotAnOrigin`] when `origin` is of another form.
    pub fn new(roots: Vec<Jwk>, origin: impl Into<String>) -> Result<Self, SicError> {
        if roots.is_empty() {
            return Err(SicError::NoRoot);
        }
        let origin = origin.into();
        let host = origin
            .strip_prefix("https://")
            .or_else(|| origin.strip_prefix("http://"))
            .filter(|rest| !rest.is_empty() && !rest.contains(['/', '?', '#', '@', ' ']))
            .and_then(|rest| rest.split(':').next())
            .filter(|host| !host.is_empty());
        let Some(rp_id) = host.map(str::to_owned) else {
            return Err(SicError::NotAnOrigin(origin));
        };
        Ok(Self {
            roots,
            origin,
            rp_id,
        })
    }

    pub(crate) fn roots(&self) -> &[Jwk] {
        &self.roots
    }

    /// Checks which keys the SAM acts with now.
    ///
    /// # Errors
    /// [`SicError::Statement`] unless a pinned root signed it and `now` lies in its time.
    pub fn check(&self, answer: &KeysAnswer, now: UnixTime) -> Result<TrustedSam, SicError> {
        Ok(TrustedSam {
            keys: SamKeys::verify(&answer.statement, &self.roots, now)?,
            trust: self.clone(),
        })
    }
}

/// A SAM whose keys a pinned root vouches for.
#[derive(Debug, Clone)]
pub struct TrustedSam {
    keys: SamKeys,
    trust: Trust,
}

impl TrustedSam {
    /// Until when the statement holds; then [`Trust::check`] is due again.
    pub fn until(&self) -> UnixTime {
        self.keys.exp
    }

    /// Checks the act of an opened request.
    ///
    /// # Errors
    /// [`SicError::Act`] saying which check failed, [`SicError::Expired`] or [`SicError::ClockBehind`].
    pub fn sign_act(&self, answer: OpenAnswer, now: UnixTime) -> Result<Review, SicError> {
        let Act::Sign(act) = self.act(&answer.act, now)? else {
            return Err(ActError::Kind.into());
        };
        let fits = |i: &Item| {
            let len = i.hash_alg().len();
            let document = match i {
                Item::Hash { h, .. } | Item::Doc { h, .. } => h.0.len(),
            };
            i.digest().0.len() == len && document == len && i.label().chars().count() <= MAX_LABEL
        };
        if act.items.is_empty() || act.items.len() > MAX_ITEMS || !act.items.iter().all(fits) {
            return Err(ActError::Malformed.into());
        }
        let digest = act_digest(&answer.act);
        Ok(Review::new(
            act,
            digest,
            self.clone(),
            answer.methods,
            answer.passkeys,
            answer.providers,
        ))
    }

    /// Checks the act of an opened request to change a key or factors.
    ///
    /// # Errors
    /// As [`TrustedSam::sign_act`].
    pub fn change_act(&self, answer: OpenAnswer, now: UnixTime) -> Result<ChangeReview, SicError> {
        let act = self.act(&answer.act, now)?;
        match &act {
            Act::Sign(_) | Act::SignOpen(_) | Act::Enrol(_) | Act::Officer(_) => {
                return Err(ActError::Kind.into());
            }
            Act::Factor(factor) if factor.rp_id != self.trust.rp_id => {
                return Err(ActError::RpId.into());
            }
            _ => {}
        }
        let digest = act_digest(&answer.act);
        let (methods, passkeys) = (answer.methods, answer.passkeys);
        let providers = answer.providers;
        let review = Review::new(act, digest, self.clone(), methods, passkeys, providers);
        Ok(ChangeReview::new(review, answer.exclude))
    }

    /// Checks the act of an opened voucher.
    ///
    /// # Errors
    /// As [`TrustedSam::sign_act`].
    pub fn enrol_act(
        &self,
        answer: EnrolOpenAnswer,
        now: UnixTime,
    ) -> Result<EnrolReview, SicError> {
        let Act::Enrol(act) = self.act(&answer.act, now)? else {
            return Err(ActError::Kind.into());
        };
        if act.rp_id != self.trust.rp_id {
            return Err(ActError::RpId.into());
        }
        let digest = act_digest(&answer.act);
        let hints = (answer.exclude, answer.providers);
        Ok(EnrolReview::new(act, digest, self.clone(), hints))
    }

    pub(crate) fn act(&self, jws: &str, now: UnixTime) -> Result<Act, SicError> {
        let payload = jose::verify(jws, TYP_ACT, &self.keys.act).map_err(ActError::from)?;
        let act: Act = serde_json::from_slice(&payload).map_err(|_| ActError::Malformed)?;
        let head = act.head();
        if head.sam != self.keys.sam || head.epoch != self.keys.epoch {
            return Err(ActError::Issuer.into());
        }
        if head.exp <= head.iat || head.exp > head.iat.plus(MAX_LIFE) {
            return Err(ActError::Life.into());
        }
        if now >= head.exp {
            return Err(SicError::Expired);
        }
        if head.iat.0 > now.0.saturating_add(SKEW) {
            return Err(SicError::ClockBehind);
        }
        Ok(act)
    }

    pub(crate) fn origin(&self) -> &str {
        &self.trust.origin
    }

    pub(crate) fn rp_id(&self) -> &str {
        &self.trust.rp_id
    }

    /// Seals a message about the act with this digest for the SAM.
    pub(crate) fn seal(
        &self,
        message: &impl Sealable,
        act: core_types::Digest32,
        random: &dyn core_types::Random,
    ) -> Result<String, SicError> {
        // Reserved at once, so that no copy of the secrets is left behind by growing.
        let mut plain = Vec::with_capacity(1024);
        message.write(&mut plain).map_err(|_| SicError::Seal)?;
        let plain = SecretBytes::new(plain);
        let context = JweContext {
            typ: TYP_SEALED,
            apu: act,
        };
        jose::seal(&plain, &self.keys.seal, context, random).map_err(|_| SicError::Seal)
    }
}

/// Messages that travel sealed only.
pub(crate) trait Sealable {
    fn write(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error>;
}

impl Sealable for sap::SealedProof {
    fn write(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        serde_json::to_writer(out, self)
    }
}

impl Sealable for sap::SealedPin {
    fn write(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        serde_json::to_writer(out, self)
    }
}

impl Sealable for sap::SealedFactor {
    fn write(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        serde_json::to_writer(out, self)
    }
}

impl Sealable for sap::enrol::SealedEnrolment {
    fn write(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        serde_json::to_writer(out, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, Sam, trust};

    // shows: T-USE-SAP-BYPASS, T-KEY-DATA-ALTER
    #[test]
    fn only_a_pinned_root_vouches_and_only_in_its_time() {
        let sam = Sam::new();
        let trust = trust(&sam);
        assert!(trust.check(&sam.statement(), NOW).is_ok());
        let foreign = Sam::new();
        assert!(matches!(
            trust.check(&foreign.statement(), NOW),
            Err(SicError::Statement(StatementError::NotPinned))
        ));
        for late in [NOW.plus(-3601), NOW.plus(86_400)] {
            assert!(matches!(
                trust.check(&sam.statement(), late),
                Err(SicError::Statement(StatementError::NotNow { .. }))
            ));
        }
        assert!(matches!(
            Trust::new(vec![], "https://a"),
            Err(SicError::NoRoot)
        ));
        for bad in [
            "sign.example.jp",
            "https://",
            "https://a/b",
            "ftp://a",
            "https://:1",
        ] {
            let roots = vec![sam.root.public().clone()];
            assert!(
                matches!(Trust::new(roots, bad), Err(SicError::NotAnOrigin(_))),
                "{bad}"
            );
        }
    }

    // shows: T-USE-SAD-FORGE, T-USE-DTBSR-FORGE
    #[test]
    fn an_act_that_is_not_the_sams_own_is_never_shown() {
        let sam = Sam::new();
        let other = Sam::new();
        let trusted = trust(&sam).check(&sam.statement(), NOW).unwrap();
        let refused = |answer: OpenAnswer| match trusted.sign_act(answer, NOW) {
            Err(SicError::Act(e)) => e,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            refused(other.open(&other.sign_act())),
            ActError::Jose(JoseError::Malformed)
        );

        let good = sam.open(&sam.sign_act());
        let (head, rest) = good.act.split_once('.').unwrap();
        let (_, signature) = rest.split_once('.').unwrap();
        let mut changed = sam.sign_act();
        changed.client.name = "Somebody".into();
        let payload = core_types::bytes::b64u(serde_json::to_vec(&Act::Sign(changed)).unwrap());
        let forged = OpenAnswer {
            act: format!("{head}.{payload}.{signature}"),
            ..good
        };
        assert_eq!(refused(forged), ActError::Jose(JoseError::NotAuthentic));

        let with = |change: &dyn Fn(&mut sap::SignAct)| {
            let mut act = sam.sign_act();
            change(&mut act);
            refused(sam.open(&act))
        };
        assert_eq!(with(&|a| a.sam = "other".into()), ActError::Issuer);
        assert_eq!(with(&|a| a.epoch.0[0] ^= 1), ActError::Issuer);
        assert_eq!(with(&|a| a.exp = a.iat.plus(MAX_LIFE + 1)), ActError::Life);
        let ever = |a: &mut sap::SignAct| (a.iat, a.exp) = (UnixTime(i64::MIN), UnixTime(i64::MAX));
        assert_eq!(with(&ever), ActError::Life);
        assert_eq!(with(&|a| a.items.clear()), ActError::Malformed);
        assert_eq!(
            with(&|a| {
                if let Item::Hash { h, .. } = &mut a.items[0] {
                    h.0.pop();
                }
            }),
            ActError::Malformed
        );
        assert_eq!(
            with(&|a| {
                if let Item::Hash { label, .. } = &mut a.items[0] {
                    *label = "x".repeat(MAX_LABEL + 1);
                }
            }),
            ActError::Malformed
        );
        let enrol = sam.mint(&Act::Enrol(sam.enrol_act()));
        let answer = OpenAnswer {
            act: enrol,
            methods: vec![],
            passkeys: vec![],
            exclude: vec![],
            providers: vec![],
            new_providers: vec![],
        };
        assert_eq!(refused(answer), ActError::Kind);
    }

    #[test]
    fn a_late_act_and_a_late_clock_are_told_apart() {
        let sam = Sam::new();
        let trusted = trust(&sam).check(&sam.statement(), NOW).unwrap();
        let open = || sam.open(&sam.sign_act());
        assert!(matches!(
            trusted.sign_act(open(), NOW.plus(300)),
            Err(SicError::Expired)
        ));
        assert!(trusted.sign_act(open(), NOW.plus(299)).is_ok());
        assert!(matches!(
            trusted.sign_act(open(), NOW.plus(-61)),
            Err(SicError::ClockBehind)
        ));
    }

    // shows: T-REG-IMPERSONATE
    #[test]
    fn an_enrolment_for_another_host_is_refused() {
        let sam = Sam::new();
        let trusted = trust(&sam).check(&sam.statement(), NOW).unwrap();
        let mut act = sam.enrol_act();
        act.rp_id = "evil.test".into();
        let answer = EnrolOpenAnswer {
            act: sam.mint(&Act::Enrol(act)),
            exclude: vec![],
            providers: vec![],
        };
        assert!(matches!(
            trusted.enrol_act(answer, NOW),
            Err(SicError::Act(ActError::RpId))
        ));
    }
}
