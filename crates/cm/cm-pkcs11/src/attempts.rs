//! The tries of one call in one thread: in a session of its own, with a cure in between. A token that stays away is waited
//! for by whoever gave the order.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use cm_core::backend::Fault;
use cryptoki::context::Pkcs11;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;
use cryptoki::slot::Slot;

use crate::fault::{Cure, Failure};
use crate::token::Token;
use crate::turn::Turn;

/// Tries of one call.
const TRIES: u32 = 4;

/// A session, and the handles of keys that were found in it; they die together.
pub(crate) struct Connection {
    pub(crate) session: Session,
    pub(crate) keys: HashMap<Vec<u8>, ObjectHandle>,
    /// Session objects that were unwrapped, the one that was used last at the end.
    pub(crate) unwrapped: VecDeque<(Vec<u8>, ObjectHandle)>,
    /// How many keys had been let go of when these were looked through.
    pub(crate) let_go: u64,
    /// Nothing was heard of the token here for a while.
    pub(crate) rested: bool,
    turn: Arc<Turn>,
    doubted: bool,
    library: Pkcs11,
    slot: Slot,
    generation: u64,
    restarts: u64,
}

impl Connection {
    /// To be won just before whatever makes a value or a key: a call that was given up before never makes one.
    ///
    /// # Errors
    /// [`Failure`] without a cure.
    pub(crate) fn begin(&self) -> Result<(), Failure> {
        self.turn.begin()
    }

    /// [`Self::begin`] for a signature. The binding calls `C_SignInit` and `C_Sign` in one go. So that a token that answers
    /// nothing any more is found out before a value is begun, one that hasn't answered lately has to begin to sign in another
    /// session first, which is closed again; what it answers doesn't matter.
    pub(crate) fn begin_signing(
        &mut self,
        mechanism: &Mechanism<'_>,
        key: ObjectHandle,
    ) -> Result<(), Failure> {
        if (self.rested || self.doubted)
            && let Ok(other) = self.library.open_rw_session_no_drop(self.slot)
        {
            drop(other.sign_init(mechanism, key));
            drop(other.close());
        }
        self.rested = false;
        self.begin()
    }

    /// Whether its session is one of this start of the library. To be asked while nobody can start it anew
    /// ([`Token::guarded`]): handles of before may belong to others.
    pub(crate) fn valid(&self, token: &Token) -> bool {
        self.restarts == token.restarts() && self.generation == token.generation()
    }

    /// Whether somebody still waits for this call.
    pub(crate) fn awaited(&self) -> bool {
        self.turn.awaited()
    }
}

pub(crate) fn close(token: &Token, connection: &mut Option<Connection>) {
    if let Some(connection) = connection.take() {
        token.disconnect(connection.session, connection.restarts);
    }
}

/// Tries a call until it brings something, no cure helps, or nobody waits any more. `doubted`: the token may answer nothing
/// any more.
pub(crate) fn attempts<T>(
    token: &Token,
    connection: &mut Option<Connection>,
    (turn, doubted): (&Arc<Turn>, bool),
    call: &dyn Fn(&mut Connection) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut maybe_made = false;
    let mut tried = 1;
    loop {
        let seen = token.generation();
        let failure = match attempt(token, connection, (turn, doubted), seen, call) {
            Ok(value) => return Ok(value),
            Err(failure) => failure,
        };
        // A session in which something failed may be in any state.
        close(token, connection);
        maybe_made |= failure.maybe_made;
        if !maybe_made {
            turn.made_nothing();
        }
        let helpless = matches!(failure.cure, Cure::None | Cure::Fewer | Cure::Person);
        if helpless || tried == TRIES || !turn.awaited() {
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

fn attempt<T>(
    token: &Token,
    connection: &mut Option<Connection>,
    (turn, doubted): (&Arc<Turn>, bool),
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
        let (library, slot) = token.place();
        *connection = Some(Connection {
            session: token.connect()?,
            keys: HashMap::new(),
            unwrapped: VecDeque::new(),
            let_go: 0,
            rested: false,
            turn: turn.clone(),
            doubted: false,
            library,
            slot,
            generation,
            restarts,
        });
    }
    match connection {
        Some(connection) => {
            connection.turn = turn.clone();
            connection.doubted = doubted;
            token.guarded(|| match connection.restarts == token.restarts() {
                true => call(connection),
                // Its handle may be another session's by now.
                false => Err(Failure {
                    cure: Cure::Session,
                    maybe_made: false,
                    what: "the library was started anew",
                    fault: None,
                }),
            })
        }
        None => Err(Failure::plain(Fault::Unavailable("session"))),
    }
}
