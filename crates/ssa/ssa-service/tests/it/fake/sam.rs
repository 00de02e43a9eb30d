//! A SAM that remembers what it was asked, and keeps the rules that the SSA relies on.

use std::collections::HashMap;
use std::sync::Mutex;

use core_types::{B64, Digest32, KeyAlg, KeyId, Level, PersonId, UnixTime, sha256};
use sam_api::Refusal;
use sam_api::ssa::*;
use sap::enrol::Subject;
use service_kit::CallError;
use ssa_service::{Called, SamPort};

use super::{certificate, client_id};
use crate::web::START;

pub const SIGN_UNTIL: i64 = 300;
pub const MAX_ITEMS: u32 = 10_000;
pub const MAX_OPEN: u32 = 3;

#[derive(Clone)]
pub struct Request {
    pub asked: PrepareRequest,
    pub state: RequestState,
    pub grant: Option<Digest32>,
    pub used: bool,
}

#[derive(Default)]
pub struct State {
    pub keys: HashMap<PersonId, Vec<KeyInfo>>,
    pub requests: HashMap<Digest32, Request>,
    pub vouchers: Vec<VoucherRequest>,
    pub enrolment: HashMap<String, EnrolmentAnswer>,
    pub signed: Vec<SignRequest>,
    /// Answers to the next calls of `sign`, instead of the rules.
    pub sign_refusals: Vec<CallError<Refusal>>,
    pub prepare_refusal: Option<Refusal>,
    pub certified: Vec<KeyId>,
    /// Tries with collected secrets since the last good one.
    pub explicit: u32,
    /// Codes that were asked for, and the answer to the next calls instead.
    pub codes: Vec<SendCodeRequest>,
    /// Certificates of keys.
    pub watched: Vec<WatchedCertificate>,
    /// So many of them in one answer, if not all.
    pub watched_page: Option<usize>,
    /// It doesn't say which come after this one.
    pub watched_ends: Option<KeyId>,
    /// It never answers which come after this one.
    pub watched_hangs_after: Option<KeyId>,
    /// What CAs published.
    pub published: Vec<RevocationRequest>,
    pub code_refusals: Vec<CallError<Refusal>>,
    pub wishes: Vec<AskRequest>,
    /// Seconds by which tokens live longer, when a test goes to another day.
    pub later: i64,
    pub factors: HashMap<PersonId, Vec<FactorInfo>>,
    /// What it says of its clock, if not that nobody keeps it.
    pub clock: Option<ClockInfo>,
    /// Whose the service is, if not the provider's own.
    pub tenant: Option<TenantInfo>,
    /// It doesn't say what it is.
    pub away: bool,
    /// How often it was asked that.
    pub abouts: u32,
}

#[derive(Default)]
pub struct FakeSam(pub Mutex<State>);

impl FakeSam {
    pub fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.lock().unwrap())
    }

    /// Gives a person a key with a certificate.
    pub fn add_key(&self, person: &PersonId, key: &str, alg: KeyAlg) -> KeyId {
        let id = KeyId::parse(key).unwrap();
        let info = key_info(&id, alg, "髙橋 花子");
        self.with(|s| s.keys.entry(person.clone()).or_default().push(info));
        id
    }

    pub fn decide(&self, rid: Digest32, state: RequestState) {
        self.with(|s| s.requests.get_mut(&rid).unwrap().state = state);
    }

    fn answer<T>(value: Result<T, Refusal>) -> Result<T, CallError<Refusal>> {
        value.map_err(CallError::Refused)
    }
}

pub fn key_info(id: &KeyId, alg: KeyAlg, name: &str) -> KeyInfo {
    KeyInfo {
        key: id.clone(),
        alg,
        state: KeyState::Active,
        subject: Subject {
            common_name: name.to_owned(),
            country: "JP".to_owned(),
            organization: None,
            serial_number: "1".to_owned(),
        },
        spki: B64(vec![1]),
        chain: vec![certificate(name), certificate("CA")],
        level: KeyLevel {
            level: Level::One,
            because: LevelPart::Retention,
            needs: vec!["I-3.5.1-retention-L2".to_owned()],
            declared: Vec::new(),
        },
        origin: "software".to_owned(),
        origin_case: core_types::OriginCase::ProviderSoftware,
        origin_statement: "statement".to_owned(),
        collected: id.as_str().ends_with("explicit"),
        codes: id.as_str().ends_with("coded-explicit"),
        exportable: id.as_str().starts_with("leaves"),
        one_time: false,
        created: UnixTime(1_800_000_000),
        registration: core_types::VoucherId::parse("v-1").unwrap(),
        until: Some(UnixTime(4_000_000_000)),
        changes: 1,
        stop: None,
    }
}

fn is_bare(items: &[PrepareItem]) -> bool {
    !items.is_empty() && items.iter().all(|item| item.doc.is_none())
}

impl SamPort for FakeSam {
    fn about<'a>(&'a self, _: &'a Empty) -> Called<'a, About> {
        let (clock, away) = self.with(|s| {
            s.abouts += 1;
            (s.clock.clone(), s.away)
        });
        let tenant = self.with(|s| s.tenant.clone());
        let tenant = tenant.unwrap_or_else(|| TenantInfo {
            name: core_types::TenantId::parse("t").unwrap(),
            own: true,
        });
        let clock = clock.unwrap_or(ClockInfo {
            state: "unsynchronised".to_owned(),
            bound_ms: None,
            error_ms: None,
        });
        Box::pin(async move {
            if away {
                return Err(CallError::Refused(Refusal::NotNow));
            }
            Ok(AboutAnswer {
                sam: "sam".to_owned(),
                tenant,
                statement: "s".to_owned(),
                ceiling: Level::One,
                declared: Vec::new(),
                providers: true,
                max_items: MAX_ITEMS,
                max_open: MAX_OPEN,
                clock,
            })
        })
    }

    fn prepare<'a>(&'a self, request: &'a PrepareRequest) -> Called<'a, Prepare> {
        let answer = self.with(|s| {
            if let Some(refusal) = s.prepare_refusal.clone() {
                return Err(refusal);
            }
            let own = s
                .keys
                .get(&request.person)
                .is_some_and(|keys| keys.iter().any(|k| k.key == request.key));
            if !own {
                return Err(Refusal::NotFound);
            }
            let rid = sha256(&[b"rid", &s.requests.len().to_be_bytes()]);
            let stored = Request {
                asked: request.clone(),
                state: RequestState::Open,
                grant: None,
                used: false,
            };
            s.requests.insert(rid, stored);
            Ok(PrepareAnswer {
                rid,
                exp: UnixTime(i64::MAX),
            })
        });
        Box::pin(async { Self::answer(answer) })
    }

    fn status<'a>(&'a self, request: &'a StatusRequest) -> Called<'a, Status> {
        let state = self.with(|s| s.requests.get(&request.rid).map(|r| r.state));
        let answer = state
            .map(|state| StatusAnswer { state })
            .ok_or(Refusal::NotFound);
        Box::pin(async { Self::answer(answer) })
    }

    fn bind<'a>(&'a self, request: &'a BindRequest) -> Called<'a, Bind> {
        let answer = self.with(|s| {
            let sign_until = UnixTime(START + SIGN_UNTIL + s.later);
            let found = s.requests.get_mut(&request.rid).ok_or(Refusal::NotFound)?;
            if found.state != RequestState::Approved {
                return Err(Refusal::NotApproved);
            }
            if found.grant.is_some_and(|grant| grant != request.grant) {
                return Err(Refusal::Used);
            }
            found.grant = Some(request.grant);
            Ok(BindAnswer {
                sign_until,
                key: found.asked.key.clone(),
                count: u32::try_from(found.asked.items.len()).unwrap(),
                bare: is_bare(&found.asked.items),
            })
        });
        Box::pin(async { Self::answer(answer) })
    }

    fn explicit<'a>(&'a self, request: &'a ExplicitRequest) -> Called<'a, Explicit> {
        let answer = self.with(|s| {
            if let Some(refusal) = s.prepare_refusal.clone() {
                return Err(refusal);
            }
            let key = s
                .keys
                .get(&request.person)
                .and_then(|keys| keys.iter().find(|k| k.key == request.key && k.collected));
            key.ok_or(Refusal::NotFound)?;
            s.explicit += 1;
            if s.explicit > 5 {
                return Err(Refusal::Locked);
            }
            if !request.pin.ct_eq(b"secret pin") || !request.otp.ct_eq(b"123456") {
                return Err(Refusal::SecretWrong);
            }
            s.explicit = 0;
            let rid = sha256(&[b"rid", &s.requests.len().to_be_bytes()]);
            let asked = PrepareRequest {
                person: request.person.clone(),
                key: request.key.clone(),
                client: request.client.clone(),
                client_name: request.client_name.clone(),
                items: request.items.clone(),
                client_jws: None,
                open: None,
                renew: request.renew,
                return_uri: String::new(),
                ttl: 60,
            };
            let count = u32::try_from(asked.items.len()).unwrap();
            let bare = is_bare(&asked.items);
            let stored = Request {
                asked,
                state: RequestState::Approved,
                grant: Some(request.grant),
                used: false,
            };
            s.requests.insert(rid, stored);
            Ok(BindAnswer {
                sign_until: UnixTime(START + SIGN_UNTIL),
                key: request.key.clone(),
                count,
                bare,
            })
        });
        Box::pin(async { Self::answer(answer) })
    }

    fn send_code<'a>(&'a self, request: &'a SendCodeRequest) -> Called<'a, SendCode> {
        let answer = self.with(|s| {
            s.codes.push(request.clone());
            s.code_refusals.pop().map_or(Ok(Empty {}), Err)
        });
        Box::pin(async { answer })
    }

    fn sign<'a>(&'a self, request: &'a SignRequest) -> Called<'a, Sign> {
        let answer = self.with(|s| {
            s.signed.push(request.clone());
            if let Some(refusal) = s.sign_refusals.pop() {
                return Err(refusal);
            }
            let grant = sha256(&[request.token.expose()]);
            let found = s.requests.values_mut().find(|r| r.grant == Some(grant));
            let found = found.ok_or(CallError::Refused(Refusal::NotFound))?;
            if found.used {
                return Err(CallError::Refused(Refusal::Used));
            }
            if found.asked.client != request.client || found.asked.key != request.key {
                return Err(CallError::Refused(Refusal::Mismatch));
            }
            let known = |h: &B64| found.asked.items.iter().any(|item| item.h == *h);
            let open = found.asked.open.unwrap_or(0) as usize;
            if request.hashes.len() > open && !request.hashes.iter().all(known) {
                return Err(CallError::Refused(Refusal::HashNotApproved));
            }
            found.used = true;
            let signatures = request
                .hashes
                .iter()
                .map(|h| B64(sha256(&[b"signed", &h.0]).0.to_vec()));
            Ok(SignAnswer {
                signatures: signatures.collect(),
                counter: None,
            })
        });
        Box::pin(async { answer })
    }

    fn renew<'a>(&'a self, request: &'a RenewRequest) -> Called<'a, Renew> {
        let answer = self.with(|s| {
            let grant = sha256(&[request.token.expose()]);
            let found = s.requests.values_mut().find(|r| r.grant == Some(grant));
            let found = found.ok_or(Refusal::NotFound)?;
            if found.asked.renew == 0 {
                return Err(Refusal::Used);
            }
            let known = |h: &B64| found.asked.items.iter().any(|item| item.h == *h);
            if !request.hashes.iter().all(known) {
                return Err(Refusal::HashNotApproved);
            }
            found.grant = Some(request.grant);
            found.used = false;
            Ok(BindAnswer {
                sign_until: UnixTime(START + SIGN_UNTIL),
                key: found.asked.key.clone(),
                count: 1,
                bare: is_bare(&found.asked.items),
            })
        });
        Box::pin(async { Self::answer(answer) })
    }

    fn voucher<'a>(&'a self, request: &'a VoucherRequest) -> Called<'a, Voucher> {
        let VoucherRequest::Ssa { invite, .. } = request else {
            return Box::pin(async { Err(CallError::Refused(Refusal::RegistrationRefused)) });
        };
        let answer = VoucherAnswer {
            voucher: invite.voucher.clone(),
            person: invite.person.clone(),
            exp: invite.exp,
        };
        self.with(|s| {
            s.vouchers.push(request.clone());
            s.enrolment
                .insert(invite.voucher.to_string(), EnrolmentAnswer::Open {});
        });
        Box::pin(async { Ok(answer) })
    }

    fn enrolment<'a>(&'a self, request: &'a EnrolmentRequest) -> Called<'a, Enrolment> {
        let answer = self.with(|s| s.enrolment.get(request.voucher.as_str()).cloned());
        Box::pin(async { Self::answer(answer.ok_or(Refusal::NotFound)) })
    }

    fn certificate<'a>(&'a self, request: &'a CertificateRequest) -> Called<'a, Certificate> {
        self.with(|s| {
            s.certified.push(request.key.clone());
            for info in s
                .keys
                .values_mut()
                .flatten()
                .filter(|info| info.key == request.key)
            {
                info.chain.clone_from(&request.chain);
                info.state = KeyState::Active;
            }
            for answer in s.enrolment.values_mut() {
                if let EnrolmentAnswer::Enrolled { keys, .. } = answer {
                    keys.iter_mut()
                        .filter(|k| k.key == request.key)
                        .for_each(|k| k.certified = true);
                }
            }
        });
        Box::pin(async { Ok(Empty {}) })
    }

    fn keys<'a>(&'a self, request: &'a KeysRequest) -> Called<'a, Keys> {
        let keys = self.with(|s| s.keys.get(&request.person).cloned());
        let answer = keys
            .map(|keys| KeysAnswer { keys })
            .ok_or(Refusal::NotFound);
        Box::pin(async { Self::answer(answer) })
    }

    fn ask<'a>(&'a self, request: &'a AskRequest) -> Called<'a, Ask> {
        let answer = self.with(|s| {
            s.wishes.push(request.clone());
            let rid = sha256(&[b"wish", &s.wishes.len().to_be_bytes()]);
            let key = match &request.wish {
                Wish::Destroy { key } => key.clone(),
                _ => KeyId::parse("no-key").unwrap(),
            };
            let asked = PrepareRequest {
                person: request.person.clone(),
                key,
                client: client_id("portal"),
                client_name: String::new(),
                client_jws: None,
                items: Vec::new(),
                open: None,
                renew: 0,
                return_uri: request.return_uri.clone(),
                ttl: request.ttl,
            };
            let stored = Request {
                asked,
                state: RequestState::Open,
                grant: None,
                used: false,
            };
            s.requests.insert(rid, stored);
            PrepareAnswer {
                rid,
                exp: UnixTime(i64::MAX),
            }
        });
        Box::pin(async { Ok(answer) })
    }

    fn stop<'a>(&'a self, request: &'a StopRequest) -> Called<'a, Stop> {
        let answer = self.with(|s| {
            let keys = s.keys.get_mut(&request.person).ok_or(Refusal::NotFound)?;
            let key = keys.iter_mut().find(|k| k.key == request.key);
            let key = key.ok_or(Refusal::NotFound)?;
            if key.changes != request.changes {
                return Err(Refusal::Used);
            }
            key.state = KeyState::Suspended;
            key.changes += 1;
            key.stop = Some(StopInfo {
                cause: StopCause::Login,
                at: UnixTime(1_800_000_000),
                unrecoverable_after: None,
                certificate: None,
            });
            Ok(Empty {})
        });
        Box::pin(async { Self::answer(answer) })
    }

    fn notice<'a>(&'a self, request: &'a NoticeRequest) -> Called<'a, Notice> {
        let answer = match request.notice.as_str() {
            "good" => Ok(Empty {}),
            _ => Err(Refusal::RegistrationRefused),
        };
        Box::pin(async { Self::answer(answer) })
    }

    fn watched<'a>(&'a self, request: &'a WatchedRequest) -> Called<'a, Watched> {
        let answer = self.with(|s| {
            let after = |w: &WatchedCertificate| Some(&w.key) == request.after.as_ref();
            let from = s.watched.iter().position(after).map_or(0, |n| n + 1);
            let page = s.watched_page.unwrap_or(usize::MAX);
            let certificates: Vec<_> = s.watched[from..].iter().take(page).cloned().collect();
            let more = from + certificates.len() < s.watched.len();
            let next = certificates.last().filter(|_| more).map(|w| w.key.clone());
            let ends = request.after.is_some() && request.after == s.watched_ends;
            match ends {
                true => Err(CallError::Unreachable),
                false => Ok(WatchedAnswer { certificates, next }),
            }
        });
        let hangs =
            self.with(|s| request.after.is_some() && request.after == s.watched_hangs_after);
        Box::pin(async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            answer
        })
    }

    fn revocation<'a>(&'a self, request: &'a RevocationRequest) -> Called<'a, Revocation> {
        self.with(|s| s.published.push(request.clone()));
        Box::pin(async { Ok(Empty {}) })
    }

    fn factors<'a>(&'a self, request: &'a FactorsRequest) -> Called<'a, Factors> {
        let factors = self.with(|s| s.factors.get(&request.person).cloned());
        let answer = FactorsAnswer {
            factors: factors.unwrap_or_default(),
        };
        Box::pin(async { Ok(answer) })
    }

    fn signatures<'a>(&'a self, _: &'a SignaturesRequest) -> Called<'a, Signatures> {
        let entry = SignedEntry {
            at: UnixTime(1_800_000_000),
            act: sha256(&[b"act"]),
            client: client_id("app"),
            key: KeyId::parse("k").unwrap(),
            count: 2,
        };
        Box::pin(async {
            Ok(SignaturesAnswer {
                entries: vec![entry],
            })
        })
    }

    fn receipt<'a>(&'a self, request: &'a ReceiptRequest) -> Called<'a, Receipt> {
        let own = self.with(|s| s.keys.contains_key(&request.person));
        let answer = match own && request.act == sha256(&[b"act"]) {
            true => Ok(ReceiptAnswer {
                bundle: "{}".to_owned(),
            }),
            false => Err(Refusal::NotFound),
        };
        Box::pin(async { Self::answer(answer) })
    }

    fn receipt_of<'a>(&'a self, request: &'a ReceiptOfRequest) -> Called<'a, ReceiptOf> {
        let theirs = request.person.as_ref().is_none_or(|person| {
            self.with(|s| {
                s.keys
                    .get(person)
                    .is_some_and(|keys| keys.iter().any(|k| k.key == request.key))
            })
        });
        let own = theirs && request.client.as_str() == "app";
        let answer = match own && request.value == sha256(&[b"value"]) {
            true => Ok(ReceiptAnswer {
                bundle: "{\"format\":\"natsuin-evidence/1\"}".to_owned(),
            }),
            false => Err(Refusal::NotFound),
        };
        Box::pin(async { Self::answer(answer) })
    }

    fn handed_over<'a>(&'a self, request: &'a HandedOverRequest) -> Called<'a, HandedOver> {
        let own = self.with(|s| s.keys.contains_key(&request.person));
        let answer = match own && request.act == sha256(&[b"act"]) {
            true => Ok(HandedOverAnswer {
                key: KeyId::parse("k").unwrap(),
                sealed: "sealed".to_owned(),
                until: UnixTime(i64::MAX),
            }),
            false => Err(Refusal::NotFound),
        };
        Box::pin(async { Self::answer(answer) })
    }

    fn history<'a>(&'a self, _: &'a HistoryRequest) -> Called<'a, History> {
        let entry = HistoryEntry {
            at: UnixTime(1_800_000_000),
            what: Happened::Enrolled,
            key: None,
            factor: None,
            act: None,
            proposal: None,
            cause: None,
        };
        Box::pin(async {
            Ok(HistoryAnswer {
                entries: vec![entry],
                mailed: true,
            })
        })
    }
}
