//! Threads that each own one session, and calls that are answered in time whatever the token does.
//!
//! A call that takes too long is given up, not stopped: its thread is left alone with its session, what it may still
//! bring is thrown away, and another thread takes its place.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use cm_core::backend::Fault;
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;

use crate::fault::{Cure, Failure};
use crate::token::{Limits, Token};

/// Tries of one call, as long as it is certain that the earlier ones brought no value.
const TRIES: u32 = 4;

/// A session, and the handles of keys that were found in it; they die together.
pub(crate) struct Connection {
    pub(crate) session: Session,
    pub(crate) keys: HashMap<Vec<u8>, ObjectHandle>,
    /// Session objects that were unwrapped lately, oldest first.
    pub(crate) unwrapped: VecDeque<(Vec<u8>, ObjectHandle)>,
    /// How many keys had been let go of when these were unwrapped.
    pub(crate) let_go: u64,
    generation: u64,
    restarts: u64,
}

impl Connection {
    fn close(self, token: &Token) {
        token.disconnect(self.session, self.restarts);
    }
}

/// A thread that waits for work.
struct Worker {
    works: SyncSender<Work>,
    thread: JoinHandle<()>,
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
}

impl Drop for Inner {
    /// Idle threads close their sessions before the token counts as left: while one is open, the login lasts.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        for worker in state.idle.drain(..) {
            drop(worker.works);
            drop(worker.thread.join());
        }
    }
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
}

/// After so many good calls one more session is tried.
const GROW: u32 = 256;

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
            }),
            idle: Condvar::new(),
        }))
    }

    /// Runs a call in a session of its own, with the usual patience.
    ///
    /// The call is tried again after a cure as long as no value came back: an error of the token brings none. What
    /// doesn't come back in time is never tried again.
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
        let call = Arc::new(call);
        for _ in 0..TRIES {
            let worker = self.take(patience)?;
            let (answer, answered) = sync_channel(1);
            let (token, call) = (self.0.token.clone(), call.clone());
            let work: Work = Box::new(move |connection| {
                // Nobody waits any more when this can't be sent.
                drop(answer.send(attempts(&token, connection, call.as_ref())));
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
                    self.put(worker, outcome.is_ok());
                    return outcome.map_err(Failure::into_fault);
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.give_up(worker);
                    return Err(Fault::Unknown("the token didn't answer in time"));
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
        for worker in idle {
            drop(worker.works);
            drop(worker.thread.join());
        }
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
                return Err(Fault::Unavailable("all sessions are in use"));
            }
        }
    }

    fn spawn(&self) -> Result<Worker, Fault> {
        let (works, incoming) = sync_channel::<Work>(1);
        let token = self.0.token.clone();
        let spawned = std::thread::Builder::new()
            .name("pkcs11".to_owned())
            .spawn(move || run(&token, &incoming));
        spawned.map(|thread| Worker { works, thread }).map_err(|_| {
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
            pool.state().hung -= 1;
            pool.0.idle.notify_one();
        });
        if worker.works.send(last).is_err() {
            self.state().hung -= 1;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn token(&self) -> &Token {
        &self.0.token
    }
}

fn run(token: &Token, works: &Receiver<Work>) {
    let mut connection = None;
    while let Ok(work) = works.recv() {
        work(&mut connection);
    }
    close(token, &mut connection);
}

fn close(token: &Token, connection: &mut Option<Connection>) {
    if let Some(connection) = connection.take() {
        connection.close(token);
    }
}

fn attempts<T>(
    token: &Token,
    connection: &mut Option<Connection>,
    call: &dyn Fn(&mut Connection) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut maybe_made = false;
    let mut tried = 1;
    loop {
        let seen = token.generation();
        match attempt(token, connection, seen, call) {
            Ok(value) => return Ok(value),
            Err(failure) => {
                // A session in which something failed may be in any state.
                close(token, connection);
                maybe_made |= failure.maybe_made;
                if tried == TRIES || matches!(failure.cure, Cure::None | Cure::Fewer | Cure::Person)
                {
                    return Err(Failure {
                        maybe_made,
                        ..failure
                    });
                }
                // The same again after another session: then it is the token.
                let cure = if tried > 1 {
                    failure.cure.max(Cure::Token)
                } else {
                    failure.cure
                };
                token.renew(cure, seen);
                tried += 1;
            }
        }
    }
}

fn attempt<T>(
    token: &Token,
    connection: &mut Option<Connection>,
    generation: u64,
    call: &dyn Fn(&mut Connection) -> Result<T, Failure>,
) -> Result<T, Failure> {
    token.willing()?;
    if connection
        .as_ref()
        .is_none_or(|c| c.generation != generation)
    {
        close(token, connection);
        let restarts = token.restarts();
        *connection = Some(Connection {
            session: token.connect()?,
            restarts,
            keys: HashMap::new(),
            unwrapped: VecDeque::new(),
            let_go: 0,
            generation,
        });
    }
    match connection {
        Some(connection) => token.guarded(|| call(connection)),
        None => Err(Failure::plain(Fault::Unavailable("session"))),
    }
}
