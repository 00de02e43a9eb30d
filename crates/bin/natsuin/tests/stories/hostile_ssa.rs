//! An SSA that somebody took over whole: its certificate and every call it has, its database, and the key that opens what is sealed
//! there. At every level it gets the values that its signer approved, and no other (`sap.md` §12).

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use core_types::bytes::b64u;
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::{Digest32, KeyAlg, Level, Random as _, SecretBytes, TenantId, sha256};
use dev_ca::Ra;
use jose::SealKey;
use natsuin::agent::Agent;
use natsuin::stack::{Device, Factors, NewFactors, NewSigner, SAM, Stack, StoreChoice};
use sam_api::Refusal;
use sam_api::ssa::{
    Ask, AskRequest, Enrolment, EnrolmentAnswer, EnrolmentRequest, Explicit, ExplicitRequest,
    KeyInfo, KeyState, Keys, KeysRequest, RequestState, Stop, StopRequest, Voucher, VoucherRequest,
    Wish,
};
use sap::enrol::Invite;
use sap::manage::NoticeEffect;
use sap::messages::{Approve, ApproveRequest, BringNotice, NoticeRequest, Open, OpenRequest};
use sap::proof::Method as How;
use sap::{NewFactor, Proof, RevocationNotice, act_digest};
use service_kit::{CallError, Shutdown, bind, serve};
use soft_passkey::{Behaviour, SoftPasskey};
use store_kit::{Cell, Dump, StoreUrl};
use tokio::sync::watch;

use crate::bad_input::keys_used;
use crate::levels::{CLIENT, Levelled, SsaCalls, at_gateway, not_collected, stores};
use crate::spend::{Spender, body, credential};

/// Longest text of the database that is tried as a token.
const LONGEST: usize = 256;

/// What lies in the SSA's database, and what its key opens of it.
struct Stolen {
    /// All that could be a token.
    values: BTreeSet<String>,
    /// Requests at the SAM, which lie there sealed.
    requests: BTreeSet<Digest32>,
}

impl Stolen {
    async fn from(data: &Path, store: &StoreChoice, of: &SsaCalls) -> Self {
        let url = match store {
            StoreChoice::Postgres(url) => url.clone(),
            StoreChoice::Embedded => format!("sqlite:{}", data.join("ssa/ssa.db").display()),
        };
        let key = std::fs::read(data.join("ssa/ssa.key")).unwrap();
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, &key).unwrap());
        let place = format!("ssa/rid/{}/{}", of.person, of.client);
        let mut dump = Dump::open(&StoreUrl::parse(&url).unwrap(), "ssa")
            .await
            .unwrap();
        let tables = dump.tables().to_vec();
        let (mut values, mut requests) = (BTreeSet::new(), BTreeSet::new());
        for table in tables.iter().filter(|t| t.name.starts_with("ssa_")) {
            let mut rows = dump.page(table, None).await.unwrap();
            while let Some(last) = rows.last().cloned() {
                for cell in rows.iter().flatten() {
                    match cell {
                        Cell::Text(text) => {
                            values.insert(text.clone());
                        }
                        Cell::Blob(sealed) => {
                            values.insert(b64u(sealed));
                            requests.extend(opened(&key, &place, sealed));
                        }
                        Cell::Null | Cell::Int(_) => {}
                    }
                }
                rows = dump.page(table, Some(&last)).await.unwrap();
            }
        }
        values.extend(requests.iter().map(Digest32::to_string));
        values.retain(|value| value.len() <= LONGEST);
        Self { values, requests }
    }
}

/// A sealed request, if this is one.
fn opened(key: &LessSafeKey, place: &str, sealed: &[u8]) -> Option<Digest32> {
    let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut text = text.to_vec();
    let place = Aad::from(place.as_bytes());
    let plain: &[u8] = key.open_in_place(nonce, place, &mut text).ok()?;
    Some(Digest32(plain.try_into().ok()?))
}

/// Tries to approve a request with a passkey of its own, in its own name and in that of each that the signer has. `adds`: the
/// request is for one more passkey.
pub async fn forged(
    (http, origin): (&reqwest::Client, &str),
    rid: Digest32,
    own: &mut SoftPasskey,
    adds: bool,
) {
    let opened = at_gateway::<Open>(http, origin, &OpenRequest { rid }).await;
    let opened = opened.unwrap();
    assert!(opened.passkeys.iter().all(|hint| hint.id.0 != own.id));
    assert!(!opened.passkeys.is_empty(), "the signer has one");
    let act = act_digest(&opened.act);
    let made = own.prove(act).unwrap();
    let mut proofs = vec![made.clone()];
    for hint in opened.passkeys {
        let mut proof = made.clone();
        if let Proof::Passkey { id, .. } = &mut proof {
            *id = hint.id;
        }
        proofs.push(proof);
    }
    let mut another = SoftPasskey::new(own.behaviour.clone(), &SystemRandom).unwrap();
    for proof in proofs {
        let new = adds.then(|| NewFactor::Passkey {
            registration: another.register(act).unwrap(),
        });
        let request = ApproveRequest { proof, new };
        let approved = at_gateway::<Approve>(http, origin, &request).await;
        assert!(approved.is_err());
    }
}

impl SsaCalls {
    async fn key_info(&self) -> KeyInfo {
        let all = self.all_keys().await;
        all.into_iter().find(|info| info.key == self.key).unwrap()
    }

    async fn all_keys(&self) -> Vec<KeyInfo> {
        let person = self.person.clone();
        let request = KeysRequest { person };
        self.sam.call::<Keys>(&request).await.unwrap().keys
    }

    async fn ask(&self, wish: Wish) -> Result<Digest32, CallError<Refusal>> {
        let request = AskRequest {
            person: self.person.clone(),
            wish,
            return_uri: self.return_uri.clone(),
            ttl: 600,
        };
        self.sam.call::<Ask>(&request).await.map(|asked| asked.rid)
    }

    /// Invites its victim itself, with a secret that it knows, and enrols a passkey of its own.
    async fn enrols_for_its_victim(&self, stack: &Stack, own: &SoftPasskey) {
        let secret = SystemRandom.digest32().0[..16].to_vec();
        let invite = self.invite(stack.clock().now(), &secret);
        let voucher = invite.voucher.clone();
        // It can't say that the signer lost everything, so that the old registration would end.
        let registration = self.key_info().await.registration;
        let replacing = Invite {
            replaces: Some(registration),
            ..invite.clone()
        };
        for (invite, taken) in [(replacing, false), (invite, true)] {
            let request = VoucherRequest::Ssa {
                invite: Box::new(invite),
                return_uri: self.return_uri.clone(),
            };
            let answer = self.sam.call::<Voucher>(&request).await;
            assert_eq!(answer.is_ok(), taken, "{answer:?}");
        }
        let ticket = SecretBytes::from(format!("{voucher}.{}", b64u(&secret)));
        let ticket = sic_core::Voucher::parse(&ticket).unwrap();
        let (id, private) = (own.id.clone(), own.private().unwrap());
        let mut device = Device::restore(&stack.sic_url, id, &private).unwrap();
        let factors = NewFactors::Passkey(&mut device);
        stack.sic().enrol(ticket, factors).await.unwrap();
        let request = EnrolmentRequest { voucher };
        let answer = self.sam.call::<Enrolment>(&request).await.unwrap();
        assert!(matches!(answer, EnrolmentAnswer::Enrolled { .. }));
        // It has made itself keys of level 1, for which no authority gives it a certificate.
        let all = self.all_keys().await;
        let made: Vec<_> = all.iter().filter(|info| info.key != self.key).collect();
        assert_eq!(made.len(), 1);
        assert_eq!(
            (made[0].level.level, made[0].state),
            (Level::One, KeyState::Pending)
        );
    }

    /// What it can ask for, it can't approve.
    async fn changes_nothing(&self, stack: &Stack, own: &mut SoftPasskey) {
        let registration = self.key_info().await.registration;
        let key = self.key.clone();
        let (receiver, _) = SealKey::generate().unwrap();
        let hand_over = Wish::HandOver {
            key: key.clone(),
            receiver: receiver.public().clone(),
        };
        assert!(matches!(
            self.ask(hand_over).await,
            Err(CallError::Refused(_))
        ));
        let add = Wish::AddFactor {
            registration: registration.clone(),
            method: How::Passkey,
        };
        let wishes = [
            (Wish::Destroy { key: key.clone() }, false),
            (add, true),
            (Wish::Leave { registration }, false),
        ];
        for (wish, adds) in wishes {
            let rid = self.ask(wish).await.unwrap();
            forged((&stack.http, &stack.sic_url), rid, own, adds).await;
            assert_eq!(self.state(rid).await, RequestState::Open);
        }
        assert_eq!(self.key_info().await.state, KeyState::Active);
        // Secrets that an application would collect are none for a key of this signer's own.
        let explicit = ExplicitRequest {
            person: self.person.clone(),
            key: key.clone(),
            client: self.client.clone(),
            client_name: "Bank".to_owned(),
            items: vec![self.item(&SystemRandom.digest32().0)],
            renew: 0,
            pin: SecretBytes::from("collected-pin-9".to_owned()),
            otp: SecretBytes::from("000000".to_owned()),
            grant: sha256(&[b"explicit"]),
        };
        not_collected(self.level, self.sam.call::<Explicit>(&explicit).await);
        // Stopping is easy, and letting go on isn't.
        let stop = StopRequest {
            person: self.person.clone(),
            key: key.clone(),
            changes: self.key_info().await.changes,
        };
        self.sam.call::<Stop>(&stop).await.unwrap();
        let rid = self.ask(Wish::Resume { key }).await.unwrap();
        forged((&stack.http, &stack.sic_url), rid, own, false).await;
        assert_eq!(self.key_info().await.state, KeyState::Suspended);
    }
}

/// An SSA that says yes to every notice and forgets it; it goes on until the sender is dropped.
async fn forgetful() -> (String, watch::Sender<bool>) {
    let (open, shutdown) = Shutdown::new();
    let yes = post(|| async { StatusCode::NO_CONTENT });
    let router = Router::new().route("/notice", yes);
    let socket = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let running = serve(socket, router, None, shutdown).unwrap();
    (format!("http://127.0.0.1:{}", running.addr.port()), open)
}

async fn an_ssa_that_drops_notices_at(level: Level) {
    for store in stores().await {
        let mut at = Levelled::begin(level, store, Arc::new(SystemClock)).await;
        let ssa = at.ssa();
        let ra = Ra::new(at.story.stack.ca.clone(), SAM, Vec::new()).unwrap();
        let (info, now) = (ssa.key_info().await, at.story.stack.clock().now());
        let say = |effect, after| {
            let said = RevocationNotice {
                sam: SAM.to_owned(),
                tenant: TenantId::parse("dev").unwrap(),
                key: info.key.clone(),
                cert: sha256(&[&info.chain[0].0]),
                effect,
                iat: now.plus(after),
            };
            ra.notice(&said).unwrap()
        };
        let http = at.story.stack.http.clone();
        let gateway = at.story.stack.sic_url.clone();
        let bring = async |notice: String| {
            let request = NoticeRequest { notice };
            at_gateway::<BringNotice>(&http, &gateway, &request).await
        };

        // It has an approval that waits, and every reason to keep the key going.
        let wanted = SystemRandom.digest32().0;
        let rid = ssa.prepare(&wanted).await;
        let factors = Factors::Passkey(&mut at.story.device);
        at.story.stack.sic().approve(rid, factors).await.unwrap();
        ssa.bind(rid, "a token").await.unwrap();
        let hold = say(NoticeEffect::Hold, 0);
        let (hostile, _open) = forgetful().await;
        let taken = http.post(format!("{hostile}/notice")).body(hold.clone());
        assert_eq!(taken.send().await.unwrap().status().as_u16(), 204);
        assert_eq!(ssa.key_info().await.state, KeyState::Active);

        // The authority sends it the other way as well, and there the SSA has no say.
        bring(hold).await.unwrap();
        assert_eq!(ssa.key_info().await.state, KeyState::Suspended);
        assert!(ssa.sign("a token", &wanted).await.is_err());
        let key = info.key.clone();
        assert!(ssa.ask(Wish::Resume { key }).await.is_err());
        bring(say(NoticeEffect::Released, 1)).await.unwrap();
        assert_eq!(ssa.key_info().await.state, KeyState::Active);
        bring(say(NoticeEffect::Revoked, 2)).await.unwrap();
        assert_eq!(ssa.key_info().await.state, KeyState::Destroyed);
        assert!(matches!(
            ssa.sign("a token", &wanted).await,
            Err(CallError::Refused(Refusal::KeyNotActive))
        ));
        at.story.stack.stop().await;
    }
}

async fn a_hostile_ssa_at(level: Level) {
    for store in stores().await {
        let mut at = Levelled::begin(level, store.clone(), Arc::new(SystemClock)).await;
        let ssa = at.ssa();
        let data = at.story.dir.path().join("data");
        let behaviour = Behaviour::honest(&at.story.stack.sic_url, "sic.localhost");
        let mut own = SoftPasskey::new(behaviour, &SystemRandom).unwrap();
        let (wanted, harmless) = (SystemRandom.digest32().0, SystemRandom.digest32().0);

        // Without the signer: no order of its own calls makes a right.
        let rid = ssa.prepare(&wanted).await;
        assert!(ssa.bind(rid, "my own token").await.is_err());
        assert!(ssa.sign("my own token", &wanted).await.is_err());
        if level == Level::Three {
            let bare = sam_api::ssa::PrepareItem {
                doc: None,
                ..ssa.item(&wanted)
            };
            let refused = ssa.prepare_item(bare).await;
            assert!(
                matches!(refused, Err(CallError::Refused(Refusal::Level { .. }))),
                "nothing that the SAM can't see through"
            );
        }

        // With passkeys of its own, at the gateway that everybody reaches: one that it enrolled for its victim itself, one that
        // nobody enrolled, and an accomplice's.
        ssa.enrols_for_its_victim(&at.story.stack, &own).await;
        let gateway = (&at.story.stack.http, at.story.stack.sic_url.as_str());
        forged(gateway, rid, &mut own, false).await;
        let mut unknown = at.device();
        let mut accomplice = at.device();
        let new = NewSigner {
            login: "mallory",
            name: "Mallory",
            keys: &[KeyAlg::P256],
            collected: false,
            exportable: false,
            one_time: false,
        };
        let factors = NewFactors::Passkey(&mut accomplice);
        at.story.stack.enrol(&new, factors).await.unwrap();
        for device in [&mut unknown, &mut accomplice] {
            let factors = Factors::Passkey(device);
            assert!(at.story.stack.sic().approve(rid, factors).await.is_err());
        }
        assert_eq!(ssa.state(rid).await, RequestState::Open);

        // With an approval that it got for something else: those bytes, once, and not one more.
        let rid = ssa.prepare(&harmless).await;
        let factors = Factors::Passkey(&mut at.story.device);
        at.story.stack.sic().approve(rid, factors).await.unwrap();
        ssa.bind(rid, "a token").await.unwrap();
        assert!(ssa.bind(rid, "another token").await.is_err());
        assert!(ssa.sign("another token", &harmless).await.is_err());
        assert!(matches!(
            ssa.sign("a token", &wanted).await,
            Err(CallError::Refused(Refusal::HashNotApproved))
        ));
        assert_eq!(ssa.sign("a token", &harmless).await.unwrap().len(), 1);
        for hash in [&harmless, &wanted] {
            assert!(ssa.sign("a token", hash).await.is_err());
        }
        assert!(ssa.bind(rid, "a third token").await.is_err());

        // With its database and its key, while an approved act waits for a token that an application has: nothing there is that
        // token, and the request in it has one already.
        let spender = Spender::new(&at.story.stack, CLIENT).await;
        let mut agent = Agent::new(&at.story.stack);
        let approved = vec![SystemRandom.digest32().0.to_vec()];
        let asked = at.purpose(&approved);
        let token = spender.token(&mut at.story, &mut agent, asked).await;
        let stolen = Stolen::from(&data, &store, &ssa).await;
        assert!(!stolen.requests.is_empty(), "its key opens its database");
        let digest = sha256(&[token.expose().as_bytes()]).to_string();
        assert!(stolen.values.contains(&digest), "of the token, its digest");
        assert!(!stolen.values.contains(token.expose()));
        for value in &stolen.values {
            let got = ssa.sign(value, &approved[0]).await;
            assert!(got.is_err(), "{value} is a token");
        }
        for rid in &stolen.requests {
            assert_eq!(ssa.state(*rid).await, RequestState::Approved);
            assert!(matches!(
                ssa.bind(*rid, "my own token").await,
                Err(CallError::Refused(Refusal::Used))
            ));
        }
        assert!(ssa.sign("my own token", &approved[0]).await.is_err());
        // All of that took nothing away from whom it was approved for.
        let request = body(&credential(&at.story), &approved);
        let (status, answer) = spender.post(&token, request, None).await;
        assert_eq!(status, 200, "{answer}");
        assert!(ssa.sign(token.expose(), &approved[0]).await.is_err());

        ssa.changes_nothing(&at.story.stack, &mut own).await;

        let dir = at.story.dir.path().to_owned();
        at.story.stack.stop().await;
        let made = keys_used(&dir, &store).await;
        assert_eq!(made, 2, "the module made the values that were approved");
    }
}

// shows: I-3.3-key-held-used-on-instruction, T-INS-OPERATOR, T-USE-SAP-BYPASS, T-USE-SAD-FORGE, T-USE-DTBSR-FORGE,
// I-3.4-use-auth-and-key-auth, I-3.4-signer-intent-through-app, I-4.2.1-rssp-signs-on-key-auth,
// I-6.1-nobody-else-signs
#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_ssa_gets_nothing_that_its_signer_did_not_approve_at_level_one() {
    a_hostile_ssa_at(Level::One).await;
}

// shows: T-INS-OPERATOR, T-USE-SAP-BYPASS, T-USE-SAD-FORGE, T-USE-DTBSR-FORGE, T-REG-IMPERSONATE, I-3.5.2-L2-patterns
#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_ssa_gets_nothing_that_its_signer_did_not_approve_at_level_two() {
    a_hostile_ssa_at(Level::Two).await;
}

// shows: T-INS-OPERATOR, T-USE-SAP-BYPASS, T-USE-SAD-FORGE, T-USE-DTBSR-FORGE, T-REG-IMPERSONATE, I-3.5.2-L3-pattern
#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_ssa_gets_nothing_that_its_signer_did_not_approve_at_level_three() {
    a_hostile_ssa_at(Level::Three).await;
}

// shows: I-A4.2-revocation-prompt-destruction, T-INS-OPERATOR
#[tokio::test(flavor = "multi_thread")]
async fn an_ssa_that_drops_an_authoritys_notice_keeps_no_key_going_at_level_one() {
    an_ssa_that_drops_notices_at(Level::One).await;
}

// shows: I-A4.2-revocation-prompt-destruction, T-INS-OPERATOR
#[tokio::test(flavor = "multi_thread")]
async fn an_ssa_that_drops_an_authoritys_notice_keeps_no_key_going_at_level_two() {
    an_ssa_that_drops_notices_at(Level::Two).await;
}

// shows: I-A4.2-revocation-prompt-destruction, T-INS-OPERATOR
#[tokio::test(flavor = "multi_thread")]
async fn an_ssa_that_drops_an_authoritys_notice_keeps_no_key_going_at_level_three() {
    an_ssa_that_drops_notices_at(Level::Three).await;
}
