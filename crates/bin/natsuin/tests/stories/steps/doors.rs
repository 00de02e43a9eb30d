//! A door of the test's between two zones, with a certificate for each side of it: whatever one says to the other passes here, is
//! known by its path, and can be stopped on the way there or on the way back.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use service_kit::{Client, Running, Shutdown, bind, serve, tls};
use tokio::sync::{oneshot, watch};

use crate::site::Site;

/// Where a message is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It came here and isn't passed on.
    Arrived,
    /// It was passed on and done, and the answer is withheld.
    Answered,
}

/// Both.
pub const CUTS: [Cut; 2] = [Cut::Arrived, Cut::Answered];

/// A message that is stopped here.
pub struct Held {
    /// The request, or its answer.
    body: Vec<u8>,
    goes_on: oneshot::Sender<()>,
}

impl Held {
    /// It goes on after all.
    pub fn let_go(self) {
        // Whoever sent it may be gone.
        let _ = self.goes_on.send(());
    }

    /// It never goes on; what it was. Who waits for an answer is told that there is none.
    pub fn withhold(self) -> Vec<u8> {
        self.body
    }
}

/// What the next message of this path runs into.
struct Trap {
    path: &'static str,
    cut: Cut,
    reached: oneshot::Sender<Held>,
}

struct Inside {
    to: Mutex<Client>,
    trap: Mutex<Option<Trap>>,
    seen: Mutex<BTreeSet<String>>,
}

impl Inside {
    fn sprung(&self, path: &str, cut: Cut) -> Option<Trap> {
        let mut set = self.trap.lock().unwrap();
        set.take_if(|trap| trap.path == path && trap.cut == cut)
    }

    /// Whether it goes on from here.
    async fn passes(&self, path: &str, cut: Cut, body: &[u8]) -> bool {
        let Some(trap) = self.sprung(path, cut) else {
            return true;
        };
        let (goes_on, passed) = oneshot::channel();
        let body = body.to_vec();
        // A test that doesn't wait for it any more has failed already.
        let _ = trap.reached.send(Held { body, goes_on });
        passed.await.is_ok()
    }
}

async fn pass(State(inside): State<Arc<Inside>>, uri: Uri, body: Bytes) -> (StatusCode, Vec<u8>) {
    let path = uri.path();
    inside.seen.lock().unwrap().insert(path.to_owned());
    let nothing = (StatusCode::GATEWAY_TIMEOUT, Vec::new());
    if !inside.passes(path, Cut::Arrived, &body).await {
        return nothing;
    }
    let to = inside.to.lock().unwrap().clone();
    let Ok((status, answer)) = to.forward(path, body.to_vec()).await else {
        return nothing;
    };
    if !inside.passes(path, Cut::Answered, &answer).await {
        return nothing;
    }
    (StatusCode::from_u16(status).unwrap(), answer)
}

/// An open door.
pub struct Door {
    pub port: u16,
    inside: Arc<Inside>,
    _open: (Running, watch::Sender<bool>),
}

impl Door {
    /// Opens one that is the zone `own` for those who come, and the zone `caller` at port `to`.
    pub async fn open(site: &Site, own: &str, caller: &str, to: u16) -> Self {
        let identity = site.ca.service_cert(own, &[own, "localhost"]).unwrap();
        let mutual = tls::mutual_server(&identity, &site.ca.internal_ca_pem()).unwrap();
        let inside = Arc::new(Inside {
            to: Mutex::new(site.caller(to, caller)),
            trap: Mutex::default(),
            seen: Mutex::default(),
        });
        let router = Router::new().fallback(pass).with_state(inside.clone());
        let (stop, shutdown) = Shutdown::new();
        let listener = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let running = serve(listener, router, Some(mutual), shutdown).unwrap();
        Self {
            port: running.addr.port(),
            inside,
            _open: (running, stop),
        }
    }

    /// From now on what passes goes there.
    pub fn leads_to(&self, to: Client) {
        *self.inside.to.lock().unwrap() = to;
    }

    /// Stops the next message of this path there, and gives it out.
    pub fn stop_at(&self, path: &'static str, cut: Cut) -> oneshot::Receiver<Held> {
        let (reached, held) = oneshot::channel();
        let trap = Trap { path, cut, reached };
        let before = self.inside.trap.lock().unwrap().replace(trap);
        assert!(before.is_none(), "{path}: the one before never came");
        held
    }

    /// The paths of all messages since this was last asked.
    pub fn take_seen(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.inside.seen.lock().unwrap())
    }
}
