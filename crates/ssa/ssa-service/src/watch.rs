//! Looks what CAs publish about the certificates of signers' keys (`I-A4.2-revocation-prompt-destruction`), and brings the SAM what matters: it
//! judges by the CA's own signature and stops the key. Whether a CA can be reached stops nothing; that it can't is an alarm.

mod lists;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use audit_log::Event;
use core_types::{B64, Digest32, KeyId, sha256};
use lists::{Lists, Once, Place};
use pki::Certificate;
use pki::revocation::{self, Evidence, State};
use sam_api::ssa::{Published, RevocationRequest, WatchedCertificate, WatchedRequest};
use store_kit::{StoreError, transaction};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::Ssa;

/// Certificates asked about at once.
const AT_ONCE: usize = 24;
/// Of one CA, so that a silent one leaves room for the others.
const OF_ONE_CA: usize = 4;
/// Certificates under way before the SAM is asked for more.
const UNDER_WAY: usize = 400;

/// A CA (or its responder) doesn't say whether certificates are revoked.
const UNKNOWN: &str = "revocation-unknown";
/// The SAM doesn't say which certificates there are.
const UNASKED: &str = "revocation-unasked";
/// A look at all certificates takes longer than the time between two.
const LATE: &str = "revocation-late";

/// What is remembered from one look to the next.
#[derive(Debug, Default)]
pub(crate) struct Watch(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    /// Where the look at all certificates stands.
    turn: Turn,
    /// CAs whose silence was told.
    told: HashSet<Digest32>,
    /// CAs that said nothing since the look at all certificates began.
    silent: HashSet<Digest32>,
    /// That the SAM couldn't be asked was told.
    unasked: bool,
}

/// A look at all certificates, in several parts if the SAM doesn't say which come next. It begins where the one before left a
/// certificate out, so that those behind a responder where nobody is have their turn, and comes round to the keys before.
#[derive(Debug, Clone, Default)]
struct Turn {
    /// The key behind which it began; none: at the first.
    began: Option<KeyId>,
    /// The last key that the SAM named.
    after: Option<KeyId>,
    /// It came round to the first key.
    round: bool,
    /// Behind which key the next one begins: before the first certificate that was left out.
    next: Option<KeyId>,
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of a look at certificates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Looked {
    /// Certificates that were asked about.
    pub certificates: u32,
    /// Of which nobody says whether they are revoked.
    pub unknown: u32,
    /// What was brought to the SAM.
    pub brought: u32,
}

/// What is known of one certificate.
enum Found {
    /// Nothing that the SAM has to hear.
    Nothing,
    /// Nobody says anything.
    Unknown,
    /// To be brought.
    Matters(KeyId, Published),
}

/// What was done about one certificate.
enum Told {
    Nothing,
    Brought,
    /// An alarm, unless the log couldn't be written.
    Unknown(Option<StoreError>),
}

/// Where one look stands.
#[derive(Default)]
struct Round {
    looked: Looked,
    /// Looks under way, by the digest of the CA's certificate.
    tasks: JoinSet<Told>,
    cas: HashMap<tokio::task::Id, Digest32>,
    /// The log couldn't be written; the look goes on.
    trouble: Option<StoreError>,
}

impl Ssa {
    /// Looks at all certificates again and again, `every` so often, and never ends. A look that takes longer is an alarm, once until one
    /// is done in time. Safe on any node.
    pub async fn keep_watch(&self, every: Duration) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        ticks.tick().await;
        let mut told = false;
        loop {
            // Apart, so that it goes on while the alarm waits for the log; it ends with this one.
            let (mut look, ssa) = (JoinSet::new(), self.clone());
            look.spawn(async move { ssa.watch_certificates().await });
            let mut late = false;
            let looked = loop {
                tokio::select! {
                    biased;
                    looked = look.join_next() => break looked,
                    _ = ticks.tick() => {
                        late = true;
                        if !told {
                            told = self.alarm(LATE).await.is_ok();
                        }
                    }
                }
            };
            match looked {
                Some(Ok(Ok(_))) => {}
                Some(Ok(Err(error))) => {
                    tracing::error!(%error, "an alarm about certificates could not be recorded");
                }
                Some(Err(_)) | None => tracing::error!("the look at certificates broke off"),
            }
            if !late {
                told = false;
                ticks.tick().await;
            }
        }
    }

    /// Looks once at all certificates of keys that can be used or are stopped for a while; when the SAM doesn't say which come next, the
    /// next look goes on from there. Else that begins with the first certificate that was left out, and ends with those before. Safe at
    /// any time on any node.
    ///
    /// # Errors
    /// [`StoreError`] when an alarm can't be recorded; the certificates were looked at all the same.
    pub async fn watch_certificates(&self) -> Result<Looked, StoreError> {
        let (lists, all) = (
            Arc::new(Lists::default()),
            Arc::new(Semaphore::new(AT_ONCE)),
        );
        let mut of_ca: HashMap<Digest32, Arc<Semaphore>> = HashMap::new();
        let mut round = Round::default();
        let mut turn = self.watch().lock().turn.clone();
        let mut n = 0;
        loop {
            let request = WatchedRequest {
                after: turn.after.clone(),
            };
            let Ok(page) = self.sam().watched(&request).await else {
                tracing::error!("the SAM doesn't say which certificates there are");
                self.watch().lock().turn = turn.clone();
                round.trouble = self.tell_unasked().await.err();
                self.drain(&mut round, 0).await;
                self.watch().lock().turn = turn.left_out(&lists);
                return round.done();
            };
            self.watch().lock().unasked = false;
            let (mut behind, mut over) = (request.after, false);
            for certificate in page.certificates {
                let place = Place { n, behind };
                n += 1;
                behind = Some(certificate.key.clone());
                over = turn.round && turn.began == behind;
                let ca = sha256(&[certificate.chain.get(1).map_or(&[][..], |ca| &ca.0)]);
                let one = of_ca.entry(ca);
                let one = one.or_insert_with(|| Arc::new(Semaphore::new(OF_ONE_CA)));
                let (ssa, lists, all, one) =
                    (self.clone(), lists.clone(), all.clone(), one.clone());
                let task = round.tasks.spawn(async move {
                    // Nobody closes these.
                    let (_one, _all) = (one.acquire().await, all.acquire().await);
                    ssa.look_and_tell(&certificate, ca, &lists, &place).await
                });
                round.cas.insert(task.id(), ca);
                if over {
                    break;
                }
            }
            turn.after = page.next;
            let last = turn.after.is_none();
            if over || last && (turn.round || turn.began.is_none()) {
                break;
            }
            turn.round |= last;
            self.drain(&mut round, UNDER_WAY).await;
        }
        self.drain(&mut round, 0).await;
        let mut watch = self.watch().lock();
        let silent = std::mem::take(&mut watch.silent);
        watch.told.retain(|ca| silent.contains(ca));
        let began = turn.left_out(&lists).next;
        watch.turn = Turn {
            after: began.clone(),
            began,
            ..Turn::default()
        };
        drop(watch);
        round.done()
    }

    /// Takes up what comes of the looks under way, until so many are left.
    async fn drain(&self, round: &mut Round, left: usize) {
        while round.tasks.len() > left {
            let Some(ended) = round.tasks.join_next_with_id().await else {
                return;
            };
            round.looked.certificates += 1;
            let (told, ca) = match ended {
                Ok((id, told)) => {
                    round.cas.remove(&id);
                    (told, None)
                }
                // A look that broke off found nothing out.
                Err(broken) => (Told::Unknown(None), round.cas.remove(&broken.id())),
            };
            match told {
                Told::Nothing => {}
                Told::Brought => round.looked.brought += 1,
                Told::Unknown(trouble) => {
                    round.looked.unknown += 1;
                    let more = match ca {
                        Some(ca) => self.tell_silent(ca).await.err(),
                        None => None,
                    };
                    round.trouble = round.trouble.take().or(trouble).or(more);
                }
            }
        }
    }

    /// Looks at one certificate, and tells at once what came of it.
    async fn look_and_tell(
        &self,
        of: &WatchedCertificate,
        ca: Digest32,
        lists: &Lists,
        place: &Place,
    ) -> Told {
        match self.look(of, lists, place).await {
            Found::Nothing => Told::Nothing,
            Found::Matters(key, published) => {
                self.bring(key, published).await;
                Told::Brought
            }
            Found::Unknown => Told::Unknown(self.tell_silent(ca).await.err()),
        }
    }

    async fn look(&self, of: &WatchedCertificate, lists: &Lists, place: &Place) -> Found {
        let [certificate, issuer] = of.chain.as_slice() else {
            return Found::Unknown;
        };
        let parsed = Certificate::parse(&certificate.0)
            .and_then(|c| Ok((c, Certificate::parse(&issuer.0)?)));
        let Ok((certificate, issuer)) = parsed else {
            return Found::Unknown;
        };
        let now = self.now();
        let fetch = Once {
            fetch: self.fetch(),
            lists,
            place,
        };
        let evidence = revocation::gather(&certificate, &issuer, now, &fetch).await;
        let said = |state: &State| match state {
            State::Revoked { .. } => true,
            State::Good { .. } => of.held,
            State::Unknown(_) => false,
        };
        match revocation::state(&certificate, &issuer, &evidence, now) {
            State::Unknown(why) => {
                tracing::error!(key = %of.key, ?why, "nobody says whether the certificate of a key is revoked");
                Found::Unknown
            }
            state if said(&state) => {
                let published = pieces(evidence).into_iter().find(|piece| {
                    let alone = revocation::state(&certificate, &issuer, &whole(piece), now);
                    alone == state
                });
                published.map_or(Found::Nothing, |p| Found::Matters(of.key.clone(), p))
            }
            _ => Found::Nothing,
        }
    }

    async fn bring(&self, key: KeyId, published: Published) {
        let request = RevocationRequest { key, published };
        match self.sam().revocation(&request).await {
            Ok(_) => {
                tracing::info!(key = %request.key, "what a CA published about a key was heeded")
            }
            Err(error) => {
                tracing::error!(key = %request.key, %error, "what a CA published about a key wasn't heeded; it is brought again");
            }
        }
    }

    /// Alarms for each CA that has become silent: at once, not when the look is over.
    async fn tell_silent(&self, ca: Digest32) -> Result<(), StoreError> {
        let news = {
            let mut watch = self.watch().lock();
            watch.silent.insert(ca) && !watch.told.contains(&ca)
        };
        if news {
            self.alarm(UNKNOWN).await?;
            self.watch().lock().told.insert(ca);
        }
        Ok(())
    }

    /// Alarms once until the SAM answers again.
    async fn tell_unasked(&self) -> Result<(), StoreError> {
        let told = self.watch().lock().unasked;
        if !told {
            self.alarm(UNASKED).await?;
            self.watch().lock().unasked = true;
        }
        Ok(())
    }

    async fn alarm(&self, what: &'static str) -> Result<(), StoreError> {
        let now = self.now();
        transaction!(self.store(), "watch-alarm", |tx| {
            let event = Event::Alarm { what: what.into() };
            self.audit().append(tx, event, now).await.map(drop)
        })
    }
}

impl Turn {
    /// With what was left out, unless an earlier part left out something already.
    fn left_out(mut self, lists: &Lists) -> Self {
        let left_out = lists.left_out().and_then(|place| place.behind);
        self.next = self.next.or(left_out);
        self
    }
}

impl Round {
    fn done(self) -> Result<Looked, StoreError> {
        self.trouble.map_or(Ok(self.looked), Err)
    }
}

fn pieces(evidence: Evidence) -> Vec<Published> {
    let ocsp = evidence.ocsp_responses.into_iter();
    let ocsp = ocsp.map(|der| Published::Ocsp(B64(der)));
    let crls = evidence
        .crls
        .into_iter()
        .map(|der| Published::Crl(B64(der)));
    ocsp.chain(crls).collect()
}

fn whole(piece: &Published) -> Evidence {
    match piece {
        Published::Crl(der) => Evidence {
            crls: vec![der.0.clone()],
            ocsp_responses: Vec::new(),
        },
        Published::Ocsp(der) => Evidence {
            crls: Vec::new(),
            ocsp_responses: vec![der.0.clone()],
        },
    }
}
