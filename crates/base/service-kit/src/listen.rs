//! Listeners: one router, one socket, plain or TLS, stopped gracefully.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use crate::crowd::{Crowd, MAX_CONNECTIONS};
use crate::limits::{Calls, Counted, Timely, idle_for};
use crate::peer::{Peer, PeerCertificates, name_of};
use crate::{Trouble, tls};

/// A handshake or a request head that takes longer is an attack or a dead peer.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a peer may take.
const LIMITS: Limits = Limits {
    patience: PATIENCE,
    idle: Duration::from_secs(60),
    crowded: Duration::from_secs(5),
    body: Duration::from_secs(30),
};

#[derive(Debug, Clone, Copy)]
struct Limits {
    /// For a request's head, and for the end of a connection.
    patience: Duration,
    /// Without any request, whatever else the connection is kept busy with. Our own clients let go of theirs before.
    idle: Duration,
    /// The same while the listener has many connections.
    crowded: Duration,
    /// For a request's body, above what it earns by coming.
    body: Duration,
}

/// Tells listeners to stop.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// The switch and what it switches. Dropping the sender stops as well.
    pub fn new() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// Waits until the switch is thrown.
    pub async fn requested(&mut self) {
        // An error means that the sender is gone, which is a request to stop too.
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

/// A listener at work.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Running {
    /// Waits until the listener has stopped.
    pub async fn stopped(self) {
        // A panic of the accept loop was reported by the runtime; there is nothing left to stop.
        let _ = self.task.await;
    }
}

/// Binds a socket; port 0 takes a free one.
///
/// # Errors
/// [`Trouble`] `port-in-use` or `cannot-listen`.
pub async fn bind(addr: SocketAddr) -> Result<TcpListener, Trouble> {
    TcpListener::bind(addr).await.map_err(|e| match e.kind() {
        std::io::ErrorKind::AddrInUse => Trouble::new(
            "port-in-use",
            format!("port {} is in use by another program", addr.port()),
            "stop it, or choose another port with --port (0 takes a free one)",
        ),
        _ => Trouble::new(
            "cannot-listen",
            format!("can't listen on {addr}: {e}"),
            "choose an address of this machine and a port above 1023",
        ),
    })
}

/// Serves `router` on `listener` until `shutdown`. With `tls` from [`tls::mutual_server`] each request carries the
/// verified [`Peer`]; a caller without a certificate never reaches the router.
///
/// # Errors
/// [`Trouble`] when the socket has no address.
pub fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<tls::Server>,
    mut shutdown: Shutdown,
) -> Result<Running, Trouble> {
    tls::install_provider();
    let addr = listener.local_addr().map_err(|e| {
        Trouble::new(
            "cannot-listen",
            format!("the socket has no address: {e}"),
            "start again",
        )
    })?;
    let acceptor = tls.map(|tls| (TlsAcceptor::from(tls.config), tls.mutual));
    let task = tokio::spawn(async move {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let crowd = Crowd::new();
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else {
                break;
            };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shutdown.requested() => break,
            };
            let Ok((stream, addr)) = accepted else {
                continue;
            };
            // Whoever has its share hears nothing.
            let Some(place) = crowd.enter(addr.ip()) else {
                continue;
            };
            let ends = Ends {
                shutdown: shutdown.clone(),
                crowded: crowd.crowded(),
            };
            let (acceptor, router) = (acceptor.clone(), router.clone());
            tokio::spawn(async move {
                connection(stream, addr, acceptor, router, ends).await;
                drop((slot, place));
            });
        }
    });
    Ok(Running { addr, task })
}

/// For what reasons of the listener's a connection ends.
struct Ends {
    shutdown: Shutdown,
    crowded: watch::Receiver<bool>,
}

async fn connection(
    stream: TcpStream,
    addr: SocketAddr,
    acceptor: Option<(TlsAcceptor, bool)>,
    router: Router,
    ends: Ends,
) {
    // Without it small answers wait for the peer's delayed acknowledgement. A socket that refuses is only slower.
    let _ = stream.set_nodelay(true);
    match acceptor {
        None => {
            talk(
                TokioIo::new(stream),
                Caller {
                    peer: Peer {
                        name: String::new(),
                        addr,
                    },
                    certificates: None,
                },
                router,
                ends,
                LIMITS,
            )
            .await
        }
        Some((acceptor, mutual)) => {
            let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await
            else {
                tracing::debug!(%addr, "TLS handshake failed");
                return;
            };
            let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
            // What a stranger's certificate says of itself is nobody's name.
            let name = shown.first().filter(|_| mutual).and_then(name_of);
            let certificates: Arc<[Vec<u8>]> = shown.iter().map(|c| c.to_vec()).collect();
            let caller = Caller {
                peer: Peer {
                    name: name.unwrap_or_default(),
                    addr,
                },
                certificates: (!certificates.is_empty()).then_some(PeerCertificates(certificates)),
            };
            talk(TokioIo::new(stream), caller, router, ends, LIMITS).await;
        }
    }
}

/// What requests of a connection are told about who is at its other end.
struct Caller {
    peer: Peer,
    certificates: Option<PeerCertificates>,
}

async fn talk<I>(io: I, caller: Caller, router: Router, ends: Ends, limits: Limits)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let Ends {
        mut shutdown,
        crowded,
    } = ends;
    let (calls, mut busy) = Calls::new();
    let waiting = without_requests(busy.clone(), crowded, limits);
    let service = tower::service_fn(move |mut request: Request<hyper::body::Incoming>| {
        let call = calls.begin();
        request.extensions_mut().insert(caller.peer.clone());
        if let Some(certificates) = &caller.certificates {
            request.extensions_mut().insert(certificates.clone());
        }
        let router = router.clone();
        async move {
            let response = router
                .oneshot(request.map(|body| Timely::wrap(body, limits.body)))
                .await?;
            // A call lasts until its answer is on its way to the last byte.
            Ok::<_, std::convert::Infallible>(response.map(|body| Counted::wrap(body, call)))
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(hyper_util::rt::TokioTimer::new())
        .header_read_timeout(limits.patience);
    builder
        .http2()
        .timer(hyper_util::rt::TokioTimer::new())
        .keep_alive_interval(limits.idle)
        .keep_alive_timeout(limits.patience);
    let connection = builder.serve_connection(io, TowerToHyperService::new(service));
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = shutdown.requested() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = waiting => {
            connection.as_mut().graceful_shutdown();
            // A call that came in the same moment is finished; a peer that only won't go is left.
            tokio::select! {
                outcome = connection.as_mut() => outcome,
                () = idle_for(&mut busy, limits.patience) => {
                    return tracing::debug!("a connection without requests was closed");
                }
            }
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "connection ended early");
    }
}

/// Returns when there was no request for as long as the listener bears it.
async fn without_requests(
    mut busy: watch::Receiver<usize>,
    mut crowded: watch::Receiver<bool>,
    limits: Limits,
) {
    let mut meanwhile = busy.clone();
    let sooner = async {
        // Without a listener nothing is crowded.
        let many = crowded.wait_for(|crowded| *crowded).await.is_ok();
        match many {
            true => idle_for(&mut meanwhile, limits.crowded).await,
            false => std::future::pending().await,
        }
    };
    tokio::select! {
        () = idle_for(&mut busy, limits.idle) => {}
        () = sooner => {}
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::post;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    /// A connection to a service that reads a body, with limits that are over at once.
    fn connected() -> (DuplexStream, [watch::Sender<bool>; 2]) {
        with_idle(Duration::from_millis(40), false)
    }

    /// The same where a connection without requests is borne so long, and there are many or not. What is said has room, so that
    /// the peer never waits with it.
    fn with_idle(idle: Duration, many: bool) -> (DuplexStream, [watch::Sender<bool>; 2]) {
        let (peer, server) = tokio::io::duplex(2 << 20);
        let limits = Limits {
            patience: Duration::from_millis(40),
            idle,
            crowded: Duration::from_millis(40),
            body: Duration::from_millis(40),
        };
        let router = Router::new().route("/", post(|body: String| async move { body }));
        let caller = Caller {
            peer: Peer {
                name: String::new(),
                addr: ([127, 0, 0, 1], 1).into(),
            },
            certificates: None,
        };
        let (stop, shutdown) = Shutdown::new();
        let (crowd, crowded) = watch::channel(many);
        let ends = Ends { shutdown, crowded };
        tokio::spawn(talk(TokioIo::new(server), caller, router, ends, limits));
        (peer, [stop, crowd])
    }

    /// What a peer hears until it is left. That it is left at all is what is tested.
    async fn heard(mut peer: DuplexStream, said: &[u8]) -> String {
        peer.write_all(said).await.unwrap();
        let mut heard = Vec::new();
        let end = tokio::time::timeout(Duration::from_secs(30), peer.read_to_end(&mut heard));
        end.await.expect("the connection is held").unwrap();
        String::from_utf8_lossy(&heard).into_owned()
    }

    #[tokio::test]
    async fn a_connection_is_not_held_by_a_peer_that_says_nothing_or_goes_on_for_ever() {
        let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n";
        let whole = format!("{head}abc");
        let h2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        let much = format!(
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000001\r\n\r\n{}",
            "a".repeat(1_000_000)
        );
        for (what, said, answer) in [
            // Four minutes at the slowest pace were earned.
            ("a body that stops", much.as_bytes(), "400"),
            ("nothing", &b""[..], ""),
            ("half a head", b"POST / HTTP/1.1\r\nhost:", ""),
            ("HTTP/2 and no request", h2, ""),
            ("a body that doesn't come", head.as_bytes(), "400"),
            ("a request and nothing more", whole.as_bytes(), "abc"),
        ] {
            let (peer, _stop) = connected();
            let heard = heard(peer, said).await;
            assert!(heard.contains(answer), "{what}: {heard}");
        }
    }

    #[tokio::test]
    async fn where_there_are_many_a_connection_without_requests_goes_sooner() {
        let (peer, [_stop, _crowd]) = with_idle(Duration::from_secs(3600), true);
        let said = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc";
        assert!(heard(peer, said).await.contains("abc"));
    }
}
