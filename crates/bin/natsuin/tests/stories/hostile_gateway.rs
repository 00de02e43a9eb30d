//! A SIC gateway that somebody took over: it has the gateway's certificate, and all that an honest signer's side says and hears
//! passes through it. The signer's side finds out before it proves anything, or the SAM refuses; nothing is signed that wasn't
//! approved (`sap.md` §12).
//!
//! The signer's side here is a program with pinned roots. To whoever takes a page from the gateway, it can show what it likes; what
//! comes of that without an application's request is the same.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use core_types::bytes::{b64u, from_b64u};
use core_types::random::SystemRandom;
use core_types::rpc::{Empty, Method as _};
use core_types::{Digest32, Level, Random as _};
use jose::SigningKey;
use natsuin::stack::{Device, NAME_SIC};
use sam_api::ssa::RequestState;
use sap::enrol::PasskeyRegistration;
use sap::messages::{
    ActOutcome, Approve, ApproveRequest, Done, Keys, KeysAnswer, Open, OpenAnswer, OpenRequest,
    Outcome, OutcomeAnswer, OutcomeRequest, SapRefusal, SapRefusalCode,
};
use sap::{Item, Proof, SamKeys, TYP_ACT, TYP_KEYS, act_digest};
use service_kit::{Client, Shutdown, bind, serve};
use sic_core::{
    Assertion, Authenticator, AuthenticatorError, CreatePasskey, GetAssertion, SicError,
};

use crate::bad_input::{Ahead, keys_used};
use crate::levels::{Levelled, SsaCalls, at_gateway, stores};

type BendAct = Box<dyn Fn(&str) -> String + Send + Sync>;
type BendProof = Box<dyn Fn(&mut Proof) + Send + Sync>;

/// What the gateway does to the messages that pass.
#[derive(Default)]
struct Bends {
    /// The statement of keys that it shows.
    statement: Option<String>,
    /// The request that it opens, whatever was asked for.
    open: Option<Digest32>,
    /// What it makes of an act.
    act: Option<BendAct>,
    /// What it makes of a proof.
    proof: Option<BendProof>,
    passes: Passes,
}

/// How often it passes a proof on.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Passes {
    #[default]
    Once,
    Twice,
    /// It says that all went well.
    Never,
}

struct HostileGateway {
    sam: Client,
    bends: Mutex<Arc<Bends>>,
    /// The proof that came last.
    kept: Mutex<Option<ApproveRequest>>,
}

impl HostileGateway {
    fn bends(&self) -> Arc<Bends> {
        self.bends.lock().unwrap().clone()
    }

    /// The SAM's answer as it stands.
    async fn at_sam(&self, path: &str, body: Vec<u8>) -> (StatusCode, Vec<u8>) {
        let (status, answer) = self.sam.forward(path, body).await.unwrap();
        (StatusCode::from_u16(status).unwrap(), answer)
    }

    async fn approve(&self, bends: &Bends, body: &[u8]) -> (StatusCode, Vec<u8>) {
        let mut request: ApproveRequest = serde_json::from_slice(body).unwrap();
        *self.kept.lock().unwrap() = Some(request.clone());
        if let Some(change) = &bends.proof {
            change(&mut request.proof);
        }
        let body = serde_json::to_vec(&request).unwrap();
        match bends.passes {
            Passes::Once => self.at_sam(Approve::PATH, body).await,
            Passes::Twice => {
                let first = self.at_sam(Approve::PATH, body.clone()).await;
                let (second, _) = self.at_sam(Approve::PATH, body).await;
                assert_ne!(second, StatusCode::OK, "a proof counts once");
                first
            }
            Passes::Never => {
                let return_uri = "http://localhost/".to_owned();
                let invented = serde_json::to_vec(&Done { return_uri }).unwrap();
                (StatusCode::OK, invented)
            }
        }
    }
}

async fn bent(
    State(gateway): State<Arc<HostileGateway>>,
    uri: Uri,
    body: Bytes,
) -> (StatusCode, Vec<u8>) {
    let bends = gateway.bends();
    let path = uri.path();
    if path == Approve::PATH {
        return gateway.approve(&bends, &body).await;
    }
    if path == Outcome::PATH && bends.passes == Passes::Never {
        let invented = OutcomeAnswer {
            state: ActOutcome::Approved,
            return_uri: None,
        };
        return (StatusCode::OK, serde_json::to_vec(&invented).unwrap());
    }
    let body = match bends.open.filter(|_| path == Open::PATH) {
        Some(rid) => serde_json::to_vec(&OpenRequest { rid }).unwrap(),
        None => body.to_vec(),
    };
    let (status, mut answer) = gateway.at_sam(path, body).await;
    if let Some(statement) = bends.statement.clone().filter(|_| path == Keys::PATH) {
        answer = serde_json::to_vec(&KeysAnswer { statement }).unwrap();
    }
    if let Some(change) = bends.act.as_ref().filter(|_| path == Open::PATH) {
        let mut opened: OpenAnswer = serde_json::from_slice(&answer).unwrap();
        opened.act = change(&opened.act);
        answer = serde_json::to_vec(&opened).unwrap();
    }
    (status, answer)
}

/// A device that counts how often it was asked for a proof.
struct Counted<'a> {
    device: &'a mut Device,
    asked: usize,
}

impl Authenticator for Counted<'_> {
    fn get(&mut self, request: &GetAssertion<'_>) -> Result<Assertion, AuthenticatorError> {
        self.asked += 1;
        self.device.get(request)
    }

    fn create(
        &mut self,
        request: &CreatePasskey<'_>,
    ) -> Result<PasskeyRegistration, AuthenticatorError> {
        self.device.create(request)
    }
}

/// Why a signer's side went no further.
#[derive(Debug)]
enum Stopped {
    /// A message failed its check.
    Check(SicError),
    /// It is genuine, and not what the person means to sign.
    OtherThing,
    /// The SAM refused.
    Sam(SapRefusal),
}

impl From<SicError> for Stopped {
    fn from(error: SicError) -> Self {
        Self::Check(error)
    }
}

impl From<SapRefusal> for Stopped {
    fn from(refusal: SapRefusal) -> Self {
        Self::Sam(refusal)
    }
}

/// An honest signer, an honest SSA, and the gateway between the signer and the SAM.
struct Stage {
    at: Levelled,
    ssa: SsaCalls,
    gateway: Arc<HostileGateway>,
    origin: String,
}

impl Stage {
    /// The signer means to sign this hash; whether it went through, and how often the device was asked.
    async fn approves(
        &mut self,
        (rid, means): (Digest32, [u8; 32]),
        bends: Bends,
    ) -> (Result<(), Stopped>, usize) {
        *self.gateway.bends.lock().unwrap() = Arc::new(bends);
        let mut device = Counted {
            device: &mut self.at.story.device,
            asked: 0,
        };
        let (stack, origin) = (&self.at.story.stack, &self.origin);
        let done = async {
            let now = stack.clock().now();
            let keys = at_gateway::<Keys>(&stack.http, origin, &Empty {}).await?;
            let request = OpenRequest { rid };
            let opened = at_gateway::<Open>(&stack.http, origin, &request).await?;
            let review = stack.trust.check(&keys, now)?.sign_act(opened, now)?;
            let shown = review.summary().items.iter().map(document);
            if shown.ne([means.as_slice()]) {
                return Err(Stopped::OtherThing);
            }
            let confirmed = review.confirm();
            let request = confirmed.passkey(&mut device, now)?;
            at_gateway::<Approve>(&stack.http, origin, &request).await?;
            // Whoever doubts the answer asks once more.
            let request: OutcomeRequest = confirmed.outcome();
            let outcome = at_gateway::<Outcome>(&stack.http, origin, &request).await?;
            assert_eq!(outcome.state, ActOutcome::Approved);
            Ok::<(), Stopped>(())
        };
        let done = done.await;
        (done, device.asked)
    }

    /// A request of the application's, and the hash that it is for.
    async fn asked(&self) -> (Digest32, [u8; 32]) {
        let hash = SystemRandom.digest32().0;
        (self.ssa.prepare(&hash).await, hash)
    }

    /// The signer's side saw through it: the device was never asked.
    async fn is_seen_through(&mut self, what: &str, bends: Bends) {
        let asked = self.asked().await;
        let (done, times) = self.approves(asked, bends).await;
        let seen = matches!(
            done,
            Err(Stopped::Check(SicError::Act(_) | SicError::Statement(_)))
        );
        assert!(seen, "{what}: {done:?}");
        assert_eq!(times, 0, "{what}");
        self.is_not_approved(asked).await;
    }

    /// The SAM took it for nothing.
    async fn is_refused(&mut self, what: &str, bends: Bends) {
        let asked = self.asked().await;
        let (done, times) = self.approves(asked, bends).await;
        let refused = |why: &SapRefusal| why.code == SapRefusalCode::Refused;
        assert!(
            matches!(&done, Err(Stopped::Sam(why)) if refused(why)),
            "{what}: {done:?}"
        );
        assert_eq!(times, 1, "{what}");
        self.is_not_approved(asked).await;
    }

    async fn is_not_approved(&self, (rid, hash): (Digest32, [u8; 32])) {
        assert_eq!(self.ssa.state(rid).await, RequestState::Open);
        assert!(self.ssa.bind(rid, "token").await.is_err());
        assert!(self.ssa.sign("token", &hash).await.is_err());
    }

    /// Sends the proof that it kept once more.
    async fn repeats(&self) -> StatusCode {
        let kept = self.gateway.kept.lock().unwrap().clone().unwrap();
        let body = serde_json::to_vec(&kept).unwrap();
        self.gateway.at_sam(Approve::PATH, body).await.0
    }
}

/// The hash that a person compares.
fn document(item: &Item) -> &[u8] {
    match item {
        Item::Hash { h, .. } | Item::Doc { h, .. } => &h.0,
    }
}

/// The payload of a JWS.
fn payload(jws: &str) -> Vec<u8> {
    from_b64u(jws.split('.').nth(1).unwrap()).unwrap()
}

/// The same with another character in the middle of a part.
fn altered(jws: &str, part: usize) -> String {
    let mut parts: Vec<String> = jws.split('.').map(str::to_owned).collect();
    let at = parts[part].len() / 2;
    let other = match &parts[part][at..=at] {
        "A" => "B",
        _ => "A",
    };
    parts[part].replace_range(at..=at, other);
    parts.join(".")
}

/// Acts and statements that it makes or changes itself.
async fn forges(stage: &mut Stage) {
    let (own, _) = SigningKey::generate().unwrap();
    let own = Arc::new(own);
    let by_own = || {
        let own = own.clone();
        let other = move |jws: &str| {
            let text = String::from_utf8(payload(jws)).unwrap();
            let text = text.replace("harmless.pdf", "another.pdf");
            own.sign(TYP_ACT, text.as_bytes()).unwrap()
        };
        Bends {
            act: Some(Box::new(other)),
            ..Bends::default()
        }
    };
    stage.is_seen_through("an act of its own", by_own()).await;
    for part in 0..3 {
        let bends = Bends {
            act: Some(Box::new(move |jws: &str| altered(jws, part))),
            ..Bends::default()
        };
        stage
            .is_seen_through("one character of the act", bends)
            .await;
    }

    let stack = &stage.at.story.stack;
    let genuine = at_gateway::<Keys>(&stack.http, &stack.sic_url, &Empty {}).await;
    let genuine = genuine.unwrap().statement;
    let mut keys: SamKeys = serde_json::from_slice(&payload(&genuine)).unwrap();
    keys.act = own.public().clone();
    let theirs = serde_json::to_vec(&keys).unwrap();
    let (head, rest) = genuine.split_once('.').unwrap();
    let (_, signature) = rest.split_once('.').unwrap();
    let spliced = format!("{head}.{}.{signature}", b64u(&theirs));
    for (what, statement) in [
        ("a root of its own", own.sign(TYP_KEYS, &theirs).unwrap()),
        ("a statement with its keys", spliced),
    ] {
        let bends = Bends {
            statement: Some(statement),
            ..by_own()
        };
        stage.is_seen_through(what, bends).await;
    }
}

/// Messages that are genuine, in another's place or changed on their way.
async fn mixes(stage: &mut Stage) {
    let (asked, other) = (stage.asked().await, stage.asked().await);
    let bends = Bends {
        open: Some(other.0),
        ..Bends::default()
    };
    let (done, times) = stage.approves(asked, bends).await;
    assert!(matches!(done, Err(Stopped::OtherThing)), "{done:?}");
    assert_eq!(times, 0);
    stage.is_not_approved(asked).await;

    let request = OpenRequest { rid: other.0 };
    let opened = stage.gateway.sam.call::<Open>(&request).await.unwrap();
    let act = act_digest(&opened.act);
    let moves = move |proof: &mut Proof| {
        if let Proof::Passkey { act: of, .. } = proof {
            *of = act;
        }
    };
    let bends = Bends {
        proof: Some(Box::new(moves)),
        ..Bends::default()
    };
    stage.is_refused("a proof of another act", bends).await;
    stage.is_not_approved(other).await;
    for member in 0..3 {
        let changes = move |proof: &mut Proof| {
            if let Proof::Passkey {
                auth_data,
                client_data,
                sig,
                ..
            } = proof
            {
                let changed = [auth_data, client_data, sig].into_iter().nth(member);
                *changed.unwrap().0.last_mut().unwrap() ^= 1;
            }
        };
        let bends = Bends {
            proof: Some(Box::new(changes)),
            ..Bends::default()
        };
        stage.is_refused("one bit of the proof", bends).await;
    }
}

/// Proofs that it keeps, for later or for ever, and proofs that it repeats.
async fn keeps(stage: &mut Stage, clock: &Ahead) {
    let asked = stage.asked().await;
    let never = Bends {
        passes: Passes::Never,
        ..Bends::default()
    };
    let (done, times) = stage.approves(asked, never).await;
    assert!(done.is_ok(), "the signer's side can't know: {done:?}");
    assert_eq!(times, 1);
    stage.is_not_approved(asked).await;
    clock.advance(301);
    assert_ne!(stage.repeats().await, StatusCode::OK, "too late");
    stage.is_not_approved(asked).await;

    let (rid, hash) = stage.asked().await;
    let twice = Bends {
        passes: Passes::Twice,
        ..Bends::default()
    };
    let (done, _) = stage.approves((rid, hash), twice).await;
    assert!(done.is_ok(), "{done:?}");
    stage.ssa.bind(rid, "the token").await.unwrap();
    assert_ne!(stage.repeats().await, StatusCode::OK);
    assert!(stage.ssa.bind(rid, "another token").await.is_err());
    let signed = stage.ssa.sign("the token", &hash).await.unwrap();
    assert_eq!(signed.len(), 1);
    assert_ne!(stage.repeats().await, StatusCode::OK);
    assert!(stage.ssa.sign("the token", &hash).await.is_err());
}

/// What the SSA may call, it may not.
async fn calls_what_is_the_ssas(stage: &Stage) {
    let stack = &stage.at.story.stack;
    let as_gateway = stack.caller(&stack.inner.sam_for_ssa, NAME_SIC).unwrap();
    let (rid, hash) = stage.asked().await;
    let calls = SsaCalls {
        sam: as_gateway,
        ..stage.at.ssa()
    };
    let item = calls.item(&hash);
    assert!(calls.prepare_item(item).await.is_err());
    assert!(calls.bind(rid, "token").await.is_err());
    assert!(calls.sign("token", &hash).await.is_err());
}

async fn a_hostile_gateway_at(level: Level) {
    for store in stores().await {
        let clock = Arc::new(Ahead::default());
        let at = Levelled::begin(level, store.clone(), clock.clone()).await;
        let stack = &at.story.stack;
        let gateway = Arc::new(HostileGateway {
            sam: stack.caller(&stack.inner.sam_for_sic, NAME_SIC).unwrap(),
            bends: Mutex::default(),
            kept: Mutex::default(),
        });
        let router = Router::new().fallback(bent).with_state(gateway.clone());
        let (stop, shutdown) = Shutdown::new();
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let running = serve(listener, router, None, shutdown).unwrap();
        let mut stage = Stage {
            ssa: at.ssa(),
            at,
            gateway,
            origin: format!("http://127.0.0.1:{}", running.addr.port()),
        };
        forges(&mut stage).await;
        mixes(&mut stage).await;
        calls_what_is_the_ssas(&stage).await;
        keeps(&mut stage, &clock).await;

        stop.send(true).unwrap();
        running.stopped().await;
        let story = stage.at.story;
        story.stack.stop().await;
        let made = keys_used(story.dir.path(), &store).await;
        assert_eq!(made, 1, "the module made the value that was approved");
    }
}

// shows: T-USE-CAPTURE, T-USE-SAD-FORGE, T-USE-SAP-REPLAY, T-USE-SAP-BYPASS, T-KEY-DATA-ALTER, I-6.1-nobody-else-signs
#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_gateway_bends_messages_in_vain_at_level_one() {
    a_hostile_gateway_at(Level::One).await;
}

// shows: T-USE-CAPTURE, T-USE-SAD-FORGE, T-USE-SAP-REPLAY, T-USE-SAP-BYPASS, T-KEY-DATA-ALTER
#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_gateway_bends_messages_in_vain_at_level_two() {
    a_hostile_gateway_at(Level::Two).await;
}

// shows: T-USE-CAPTURE, T-USE-SAD-FORGE, T-USE-SAP-REPLAY, T-USE-SAP-BYPASS, T-KEY-DATA-ALTER
#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_gateway_bends_messages_in_vain_at_level_three() {
    a_hostile_gateway_at(Level::Three).await;
}
