//! Threads that each own one session, and calls that are answered in time whatever the token does.
//!
//! A call that takes too long is given up, not stopped: its thread is left alone with its session, what it may still
//! bring is thrown away, and another thread takes its place. If it hadn't begun a value by then, it never will ([`Turn`]).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cm_core::backend::{Fault, SILENT};

use crate::attempts::{Connection, attempts, close};
use crate::fault::{Cure, Failure};
use crate::keys::logged_in;
use crate::options::Limits;
use crate::token::Token;
use crate::turn::Turn;

/// Tries of one call for which the token has no room.
const TRIES: u32 = 4;

/// All of them are at work, which says nothing against the token.
const BUSY: Fault = Fault::Unavailable("all sessions are in use");

/// A thread that waits for work.
struct Worker {
    works: SyncSender<Work>,
}

type Work = Box<dyn FnOnce(&mut Option<Connection>) + Send>;

/// The pool. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Inner>);

struct Inner {
    token: Arc<Token>,
    limits: Limits,
    state: Mutex<State>,
    /// Told when a thread becomes idle.
    idle: Condvar,
    /// A call wasn't answered in time, and none was answered since.
    doubted: AtomicBool,
}

impl Drop for Inner {
    /// Idle threads close their sessions before the token counts as left: while one is open, the login lasts.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let idle = std::mem::take(&mut state.idle);
        end(idle, &self.token, self.limits.patience);
    }
}

/// Has these threads close their sessions and end; waits for that as long as for a call, and leaves alone who hangs.
fn end(idle: Vec<Worker>, token: &Arc<Token>, patience: Duration) {
    let (done, ended) = sync_channel::<()>(idle.len());
    for worker in idle {
        let (token, done) = (token.clone(), done.clone());
        let last: Work = Box::new(move |connection| {
            close(&token, connection);
            let _ = done.send(());
        });
        drop(worker.works.send(last));
    }
    drop(done);
    while ended.recv_timeout(patience).is_ok() {}
}

struct State {
    idle: Vec<Worker>,
    /// Threads with work that somebody waits for.
    busy: usize,
    /// Threads whose work was given up and hasn't ended.
    hung: usize,
    /// Most threads for now: less than the limit after the token said that it has no room.
    room: usize,
    /// Calls that went well since.
    well: u32,
    /// How often in a row nothing went beside calls that hang.
    nothing_goes: u32,
    /// That it is so for good was told.
    told: bool,
}

/// After so many good calls one more session is tried.
const GROW: u32 = 256;
/// After so many looks at which nothing went, only a new process helps.
const STUCK: u32 = 2;

impl Pool {
    pub(crate) fn new(token: Token, limits: Limits) -> Self {
        Self(Arc::new(Inner {
            token: Arc::new(token),
            limits,
            state: Mutex::new(State {
                idle: Vec::new(),
                busy: 0,
                hung: 0,
                room: limits.sessions.max(1),
                well: 0,
                nothing_goes: 0,
                told: false,
            }),
            idle: Condvar::new(),
            doubted: AtomicBool::new(false),
        }))
    }

    /// Runs a call in a session of its own, with the usual patience.
    ///
    /// The call is tried again after a cure as long as no value came back: an error of the token brings none. What
    /// doesn't come back in time is never tried again: [`SILENT`] if the call hadn't begun a value ([`Connection::begin`]),
    /// and won't.
    pub(crate) fn with<T, F>(&self, call: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: Fn(&mut Connection) -> Result<T, Failure> + Send + Sync + 'static,
    {
        self.within(self.0.limits.patience, call)
    }

    /// [`Self::with`] and six times the patience, for making keys.
    pub(crate) fn slowly<T, F>(&self, call: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: Fn(&mut Connection) -> Result<T, Failure> + Send + Sync + 'static,
    {
        self.within(self.0.limits.patience * 6, call)
    }

    fn within<T, F>(&self, patience: Duration, call: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: Fn(&mut Connection) -> Result<T, Failure> + Send + Sync + 'static,
    {
        let (call, turn) = (Arc::new(call), Arc::new(Turn::default()));
        let trusting = !self.0.limits.trust.is_zero();
        for _ in 0..TRIES {
            let worker = self.take(patience)?;
            let (answer, answered) = sync_channel(1);
            let doubted = !trusting || self.0.doubted.load(Ordering::SeqCst);
            let (token, call, own) = (self.0.token.clone(), call.clone(), turn.clone());
            let work: Work = Box::new(move |connection| {
                let done = attempts(&token, connection, (&own, doubted), call.as_ref());
                // Nobody waits any more when this can't be sent.
                drop(answer.send(done));
            });
            if worker.works.send(work).is_err() {
                self.ended();
                return Err(Fault::Unavailable("a thread of the pool"));
            }
            match answered.recv_timeout(patience) {
                Ok(Err(Failure {
                    cure: Cure::Fewer,
                    maybe_made: false,
                    ..
                })) => self.shrink(worker),
                Ok(outcome) => {
                    if outcome.is_ok() {
                        self.0.doubted.store(false, Ordering::SeqCst);
                    }
                    self.put(worker, outcome.is_ok());
                    return outcome.map_err(Failure::into_fault);
                }
                Err(RecvTimeoutError::Timeout) => {
                    let nothing = turn.give_up();
                    self.0.doubted.store(true, Ordering::SeqCst);
                    self.give_up(worker);
                    return Err(match nothing {
                        true => SILENT,
                        false => Fault::Unknown("the token didn't answer in time"),
                    });
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.ended();
                    return Err(Fault::Unknown("a thread of the pool ended"));
                }
            }
        }
        Err(Fault::Unavailable("the token has no room for a session"))
    }

    /// Ends all sessions, and with them every session object: idle ones at once, others after their call.
    pub(crate) fn end_sessions(&self) {
        self.0.token.outdate();
        let idle = std::mem::take(&mut self.state().idle);
        end(idle, &self.0.token, self.0.limits.patience);
    }

    /// Has every session that is idle do this, one after the other, until one hangs. One in which it fails is closed.
    pub(crate) fn each_idle<F>(&self, job: F)
    where
        F: Fn(&mut Connection) -> Result<(), Failure> + Send + Sync + 'static,
    {
        let job = Arc::new(job);
        let count = self.state().idle.len();
        for _ in 0..count {
            let worker = {
                let mut state = self.state();
                if state.idle.is_empty() {
                    return;
                }
                state.busy += 1;
                // The one that was idle longest.
                state.idle.remove(0)
            };
            let (answer, answered) = sync_channel(1);
            let (token, job) = (self.0.token.clone(), job.clone());
            let work: Work = Box::new(move |connection| {
                if let Some(open) = connection.as_mut()
                    && !token.guarded(|| open.valid(&token) && job(open).is_ok())
                {
                    close(&token, connection);
                }
                let _ = answer.send(());
            });
            if worker.works.send(work).is_err() {
                self.ended();
                continue;
            }
            match answered.recv_timeout(self.0.limits.patience) {
                Ok(()) => self.put(worker, false),
                Err(RecvTimeoutError::Timeout) => return self.give_up(worker),
                Err(RecvTimeoutError::Disconnected) => self.ended(),
            }
        }
    }

    /// Looks whether anything goes beside calls that hang. To be called now and then: what is so at two looks is so for
    /// good.
    pub(crate) fn look(&self) {
        let hangs = self.state().hung > 0;
        // A token that wants a person isn't helped by a new process, which would try the PIN once more.
        let nothing_goes = hangs
            && matches!(
                self.with(|c| logged_in(&c.session)),
                Err(fault @ (Fault::Unavailable(_) | Fault::Unknown(_))) if fault != BUSY
            );
        let mut state = self.state();
        state.nothing_goes = match nothing_goes {
            true => state.nothing_goes.saturating_add(1),
            false => 0,
        };
    }

    /// Whether only a new process helps: a library can't be started again beside calls that hang in it.
    pub(crate) fn stuck(&self) -> bool {
        self.state().nothing_goes >= STUCK
    }

    /// The same, told once.
    pub(crate) fn stuck_now(&self) -> bool {
        let mut state = self.state();
        let stuck = state.nothing_goes >= STUCK;
        let new = stuck && !state.told;
        state.told = stuck;
        new
    }

    fn take(&self, patience: Duration) -> Result<Worker, Fault> {
        let mut state = self.state();
        loop {
            if let Some(worker) = state.idle.pop() {
                state.busy += 1;
                return Ok(worker);
            }
            // As many may hang as may work: then the token gets nothing more to do until one comes back.
            if state.hung >= self.0.limits.sessions {
                return Err(Fault::Unavailable("the token answers no call any more"));
            }
            if state.busy < state.room {
                state.busy += 1;
                drop(state);
                return self.spawn();
            }
            let (next, waited) = self
                .0
                .idle
                .wait_timeout(state, patience)
                .unwrap_or_else(PoisonError::into_inner);
            state = next;
            if waited.timed_out() && state.idle.is_empty() {
                return Err(BUSY);
            }
        }
    }

    fn spawn(&self) -> Result<Worker, Fault> {
        let (works, incoming) = sync_channel::<Work>(1);
        let (token, trust) = (self.0.token.clone(), self.0.limits.trust);
        let spawned = std::thread::Builder::new()
            .name("pkcs11".to_owned())
            .spawn(move || run(&token, &incoming, trust));
        spawned.map(|_| Worker { works }).map_err(|_| {
            self.ended();
            Fault::Unavailable("a thread of the pool")
        })
    }

    fn put(&self, worker: Worker, well: bool) {
        let mut state = self.state();
        state.busy -= 1;
        state.idle.push(worker);
        if well && state.room < self.0.limits.sessions {
            state.well += 1;
            if state.well >= GROW {
                state.well = 0;
                state.room += 1;
            }
        }
        self.0.idle.notify_one();
    }

    fn ended(&self) {
        self.state().busy -= 1;
        self.0.idle.notify_one();
    }

    /// The token has no room for this thread's session: as many as work now are enough for now. With nobody else
    /// at work, waiting sessions make room.
    fn shrink(&self, worker: Worker) {
        drop(worker);
        let mut state = self.state();
        state.busy -= 1;
        state.well = 0;
        state.room = (state.busy + state.idle.len()).max(1);
        self.0.idle.notify_one();
    }

    /// Leaves a thread alone with its call. A last work tells when it has come back; then the thread ends with its
    /// session.
    fn give_up(&self, worker: Worker) {
        let mut state = self.state();
        state.busy -= 1;
        state.hung += 1;
        drop(state);
        self.0.idle.notify_one();
        let pool = self.clone();
        let last: Work = Box::new(move |connection| {
            close(pool.token(), connection);
            pool.back();
        });
        if worker.works.send(last).is_err() {
            self.back();
        }
    }

    /// A thread that hung has come back.
    fn back(&self) {
        self.state().hung -= 1;
        self.0.idle.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn token(&self) -> &Token {
        &self.0.token
    }
}

/// `trust`: how long after its last work a session counts as one that answers.
fn run(token: &Token, works: &Receiver<Work>, trust: Duration) {
    let mut connection: Option<Connection> = None;
    loop {
        let next = match works.recv_timeout(trust) {
            Err(RecvTimeoutError::Timeout) => {
                if let Some(open) = connection.as_mut() {
                    open.rested = true;
                }
                works.recv().ok()
            }
            next => next.ok(),
        };
        let Some(work) = next else {
            break;
        };
        work(&mut connection);
    }
    close(token, &mut connection);
}
