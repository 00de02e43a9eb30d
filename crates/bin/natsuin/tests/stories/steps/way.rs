//! The way of one signature, as the SSA and the signer's page go it at a SAM, from wherever it stands; and what has to hold where it
//! stands.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::{B64, ClientId, Clock as _, Digest32, Random as _, SecretBytes, sha256};
use sam_api::Refusal;
use sam_api::ssa::{
    Bind, BindAnswer, BindRequest, Prepare, RequestState, Sign, SignAnswer, SignRequest, Status,
    StatusRequest,
};
use sap::SignAct;
use sap::messages::{
    ActOutcome, Approve, ApproveRequest, Empty, Keys, Open, OpenAnswer, OpenRequest, Outcome,
    SapRefusal, SapRefusalCode,
};
use service_kit::{CallError, Client};
use sic_core::{Confirmed, Trust};

use crate::kit::until;
use crate::spend::ALG;
use crate::two_sams::{PIN, Signer, confirmed, wanted};

/// The `Idempotency-Key` of an application.
pub const CALL: &str = "one-call";
/// Other calls with the same token: one with another name, one without any.
pub const OTHERS: [Option<&str>; 2] = [Some("another-call"), None];
/// How often it is asked whether the end of an order is past.
pub const EVERY: Duration = Duration::from_millis(250);

/// How far a signature has come, as far as its callers know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Far {
    Nothing,
    /// There is a request.
    Asked,
    /// The signer looks at its act.
    Opened,
    Approved,
    /// A token may use it.
    Bound,
    /// Used, and nobody will have a value.
    Lost,
    Signed,
}

/// The SSA and the page's gateway, as the test is both.
#[derive(Clone)]
pub struct Callers {
    pub ssa: Client,
    pub page: Client,
    pub trust: Trust,
    /// Origin of the portal.
    pub home: String,
}

pub struct Way {
    signer: Arc<Signer>,
    hash: B64,
    token: String,
    pub far: Far,
    rid: Option<Digest32>,
    shown: Option<Confirmed<SignAct>>,
    proof: Option<ApproveRequest>,
    bound: Option<BindAnswer>,
    values: Vec<B64>,
}

/// What a caller is told, in one word.
fn told<R: Debug>(error: CallError<R>) -> String {
    format!("{error:?}")
}

/// Why it was refused; nothing, if it wasn't, or nobody knows.
fn refused<T, R: Debug>(answer: Result<T, CallError<R>>) -> Option<R> {
    match answer {
        Err(CallError::Refused(refusal)) => Some(refusal),
        _ => None,
    }
}

impl Way {
    /// Nothing of it was gone yet.
    pub fn of(signer: Arc<Signer>) -> Self {
        Self {
            signer,
            hash: B64(SystemRandom.digest32().0.to_vec()),
            token: format!("token-{}", SystemRandom.digest32()),
            far: Far::Nothing,
            rid: None,
            shown: None,
            proof: None,
            bound: None,
            values: Vec::new(),
        }
    }

    /// The act that was approved.
    pub fn act(&self) -> Digest32 {
        self.proof.as_ref().unwrap().proof.act()
    }

    /// Goes on from where it stands. The first call without an answer ends it, and what its caller is told.
    pub async fn go(&mut self, by: &Callers, to: Far) -> Result<(), String> {
        while self.far < to {
            self.far = match self.far {
                Far::Nothing => self.ask(by).await.map_err(told)?,
                Far::Asked => self.open(by).await.map_err(told)?,
                Far::Opened => self.approve(by).await.map_err(told)?,
                Far::Approved => self.bind(by).await.map_err(told)?,
                Far::Bound => self.sign(by).await.map_err(told)?,
                Far::Lost | Far::Signed => panic!("{:?} is an end", self.far),
            };
        }
        Ok(())
    }

    async fn ask(&mut self, by: &Callers) -> Result<Far, CallError<Refusal>> {
        let request = wanted(&self.signer, &self.hash, &by.home);
        self.rid = Some(by.ssa.call::<Prepare>(&request).await?.rid);
        Ok(Far::Asked)
    }

    async fn open(&mut self, by: &Callers) -> Result<Far, CallError<SapRefusal>> {
        let request = OpenRequest {
            rid: self.rid.unwrap(),
        };
        let opened = by.page.call::<Open>(&request).await?;
        self.shown = Some(shown(by, opened).await?);
        Ok(Far::Opened)
    }

    async fn approve(&mut self, by: &Callers) -> Result<Far, CallError<SapRefusal>> {
        let proof = self.prove(self.shown.as_ref().unwrap(), PIN);
        self.proof = Some(proof.clone());
        by.page.call::<Approve>(&proof).await?;
        Ok(Far::Approved)
    }

    async fn bind(&mut self, by: &Callers) -> Result<Far, CallError<Refusal>> {
        assert_eq!(self.state(by).await?, RequestState::Approved);
        self.bound = Some(self.binds(by, &self.token).await?);
        Ok(Far::Bound)
    }

    async fn sign(&mut self, by: &Callers) -> Result<Far, CallError<Refusal>> {
        self.values = self.signs(by, Some(CALL)).await?.signatures;
        Ok(Far::Signed)
    }

    fn prove(&self, act: &Confirmed<SignAct>, pin: &str) -> ApproveRequest {
        let now = SystemClock.now();
        let made = match &self.signer.seed {
            Some(seed) => {
                let pin = SecretBytes::from(pin.to_owned());
                act.pin_totp(&pin, &seed.code(now), now, &SystemRandom)
            }
            None => act.passkey(&mut self.signer.device.clone(), now),
        };
        made.unwrap()
    }

    async fn state(&self, by: &Callers) -> Result<RequestState, CallError<Refusal>> {
        let request = StatusRequest {
            rid: self.rid.unwrap(),
        };
        Ok(by.ssa.call::<Status>(&request).await?.state)
    }

    async fn binds(&self, by: &Callers, token: &str) -> Result<BindAnswer, CallError<Refusal>> {
        let request = BindRequest {
            rid: self.rid.unwrap(),
            grant: sha256(&[token.as_bytes()]),
        };
        by.ssa.call::<Bind>(&request).await
    }

    async fn signs(
        &self,
        by: &Callers,
        call: Option<&str>,
    ) -> Result<SignAnswer, CallError<Refusal>> {
        let request = SignRequest {
            token: SecretBytes::from(self.token.clone()),
            client: ClientId::parse("app").unwrap(),
            key: self.signer.key.clone(),
            alg: ALG,
            hashes: vec![self.hash.clone()],
            idempotency_key: call.map(str::to_owned),
        };
        by.ssa.call::<Sign>(&request).await
    }

    /// Guesses the PIN of the act that the signer looks at, and guesses wrong; how many tries are left.
    pub async fn guesses(&self, by: &Callers) -> Option<u8> {
        let proof = self.prove(self.shown.as_ref().unwrap(), "not the right one");
        let wrong = refused(by.page.call::<Approve>(&proof).await).unwrap();
        assert_eq!(wrong.code, SapRefusalCode::Refused);
        wrong.tries_left
    }
}

/// The act as the signer looks at it.
async fn shown(
    by: &Callers,
    opened: OpenAnswer,
) -> Result<Confirmed<SignAct>, CallError<SapRefusal>> {
    let keys = by.page.call::<Keys>(&Empty {}).await?;
    Ok(confirmed(&by.trust, opened, &keys))
}

/// What has to hold where it stands.
impl Way {
    /// Everything that its callers repeat or try has its answer by name. `withheld`: the answer that nobody got.
    pub async fn holds(&mut self, by: &Callers, name: &str, withheld: Option<&[u8]>) {
        match self.far {
            Far::Nothing => {}
            Far::Asked | Far::Opened => self.is_no_right(by, name).await,
            Far::Approved => self.is_approved_once(by, name).await,
            Far::Bound => self.is_bound_once(by, name, withheld).await,
            Far::Lost => {
                // Until its order's own end nobody can tell that it is lost, and it can't be used already.
                let again = refused(self.signs(by, Some(CALL)).await);
                let gone = matches!(again, Some(Refusal::NotNow | Refusal::Lost));
                assert!(gone, "{name}: {again:?}");
                for other in OTHERS {
                    let other = refused(self.signs(by, other).await);
                    let gone = matches!(other, Some(Refusal::Used | Refusal::Lost));
                    assert!(gone, "{name}: {other:?}");
                }
                let other = self.binds(by, "another-token").await;
                assert_eq!(refused(other), Some(Refusal::Used), "{name}");
            }
            Far::Signed => {
                let signed: SignAnswer = serde_json::from_slice(withheld.unwrap()).unwrap();
                self.values = signed.signatures;
            }
        }
        if self.far == Far::Asked
            && let Some(opened) = withheld.and_then(|body| serde_json::from_slice(body).ok())
        {
            self.opens_anew(by, name, opened).await;
        }
    }

    async fn is_no_right(&self, by: &Callers, name: &str) {
        assert_eq!(self.state(by).await.unwrap(), RequestState::Open, "{name}");
        let early = refused(self.binds(by, &self.token).await);
        assert_eq!(early, Some(Refusal::NotApproved), "{name}");
        let early = refused(self.signs(by, Some(CALL)).await);
        assert_eq!(early, Some(Refusal::NotFound), "{name}");
    }

    /// The page never got the first act: its proof is none any more once there is another one.
    async fn opens_anew(&mut self, by: &Callers, name: &str, first: OpenAnswer) {
        let first = shown(by, first).await.unwrap();
        self.go(by, Far::Opened).await.unwrap();
        let proof = self.prove(&first, PIN);
        let old = refused(by.page.call::<Approve>(&proof).await).unwrap();
        assert_eq!(old.code, SapRefusalCode::Withdrawn, "{name}");
    }

    async fn is_approved_once(&self, by: &Callers, name: &str) {
        let state = self.state(by).await.unwrap();
        assert_eq!(state, RequestState::Approved, "{name}");
        let asked = self.shown.as_ref().unwrap().outcome();
        let outcome = by.page.call::<Outcome>(&asked).await.unwrap();
        assert_eq!(outcome.state, ActOutcome::Approved, "{name}");
        let again = by.page.call::<Approve>(self.proof.as_ref().unwrap()).await;
        assert_eq!(refused(again).unwrap().code, SapRefusalCode::Used, "{name}");
        let early = refused(self.signs(by, Some(CALL)).await);
        assert_eq!(early, Some(Refusal::NotFound), "{name}");
    }

    async fn is_bound_once(&mut self, by: &Callers, name: &str, withheld: Option<&[u8]>) {
        let first: BindAnswer = match withheld {
            Some(body) => serde_json::from_slice(body).unwrap(),
            None => self.bound.clone().unwrap(),
        };
        let again = self.binds(by, &self.token).await.unwrap();
        assert_eq!(again.sign_until, first.sign_until, "{name}");
        let other = refused(self.binds(by, "another-token").await);
        assert_eq!(other, Some(Refusal::Used), "{name}");
        self.bound = Some(again);
    }

    /// Goes on to its end, and no further: the identical call gets the same values, and no other gets any.
    pub async fn ends(&mut self, by: &Callers, name: &str) {
        let end = self.go(by, Far::Signed).await;
        assert_eq!(end, Ok(()), "{name}");
        assert_eq!(self.values.len(), 1, "{name}");
        let again = self.signs(by, Some(CALL)).await.unwrap().signatures;
        assert!(again == self.values, "{name}: another value");
        for other in OTHERS {
            let other = refused(self.signs(by, other).await);
            assert_eq!(other, Some(Refusal::Used), "{name}");
        }
    }

    /// Once the end of its order is past it is lost, and said to be.
    pub async fn is_lost(&self, by: &Callers, name: &str) {
        let mut ticks = tokio::time::interval(EVERY);
        until("the end of an order", async || {
            ticks.tick().await;
            refused(self.signs(by, Some(CALL)).await) != Some(Refusal::NotNow)
        })
        .await;
        let again = refused(self.signs(by, Some(CALL)).await);
        assert_eq!(again, Some(Refusal::Lost), "{name}");
        for other in OTHERS {
            let other = refused(self.signs(by, other).await);
            assert_eq!(other, Some(Refusal::Used), "{name}");
        }
    }
}
