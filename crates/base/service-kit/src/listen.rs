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

use crate::peer::{Peer, name_of};
use crate::{Trouble, tls};

/// Most connections of one listener at a time; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 4096;
/// A handshake or a request head that takes longer is an attack or a dead peer.
const PATIENCE: Duration = Duration::from_secs(10);

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
    tls: Option<Arc<rustls::ServerConfig>>,
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
    let acceptor = tls.map(TlsAcceptor::from);
    let task = tokio::spawn(async move {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
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
            let (acceptor, router, shutdown) = (acceptor.clone(), router.clone(), shutdown.clone());
            tokio::spawn(async move {
                connection(stream, addr, acceptor, router, shutdown).await;
                drop(slot);
            });
        }
    });
    Ok(Running { addr, task })
}

async fn connection(
    stream: TcpStream,
    addr: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    router: Router,
    shutdown: Shutdown,
) {
    // Without it small answers wait for the peer's delayed acknowledgement. A socket that refuses is only slower.
    let _ = stream.set_nodelay(true);
    match acceptor {
        None => {
            talk(
                TokioIo::new(stream),
                Peer {
                    name: String::new(),
                    addr,
                },
                router,
                shutdown,
            )
            .await
        }
        Some(acceptor) => {
            let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await
            else {
                tracing::debug!(%addr, "TLS handshake failed");
                return;
            };
            let name = stream
                .get_ref()
                .1
                .peer_certificates()
                .and_then(|c| c.first())
                .and_then(name_of);
            let peer = Peer {
                name: name.unwrap_or_default(),
                addr,
            };
            talk(TokioIo::new(stream), peer, router, shutdown).await;
        }
    }
}

async fn talk<I>(io: I, peer: Peer, router: Router, mut shutdown: Shutdown)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let service = router.map_request(move |mut request: Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer.clone());
        request.map(axum::body::Body::new)
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(hyper_util::rt::TokioTimer::new())
        .header_read_timeout(PATIENCE);
    let connection = builder.serve_connection(io, TowerToHyperService::new(service));
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = shutdown.requested() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "connection ended early");
    }
}
