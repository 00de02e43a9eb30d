//! Redirect to a program on the same machine (RFC 8252 §7.3): a listener on `127.0.0.1` for one answer.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::authorize::{Callback, Pending};

const PATH: &str = "/callback";
/// Longest request head; a code and a state are far shorter.
const MAX_HEAD: usize = 16 * 1024;
const READ_TIME: Duration = Duration::from_secs(10);

/// Language of the small page that the browser shows at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageLang {
    /// Japanese.
    Ja,
    /// English.
    En,
}

/// Waits on a free port of `127.0.0.1` for the browser to come back.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    port: u16,
    lang: PageLang,
}

impl Listener {
    /// Takes a free port.
    ///
    /// # Errors
    /// When no port can be opened.
    pub async fn bind(lang: PageLang) -> io::Result<Self> {
        let socket = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = socket.local_addr()?.port();
        Ok(Self { socket, port, lang })
    }

    /// The redirect URI, such as `http://127.0.0.1:51004/callback`. Servers compare it without the port.
    pub fn redirect_uri(&self) -> String {
        format!("http://127.0.0.1:{}{PATH}", self.port)
    }

    /// Waits for the answer that carries the `state` of `pending`. Other requests, from other programs or
    /// older pages, get a page that says so and don't end the wait. The caller sets the time limit.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn wait(&self, pending: &Pending) -> io::Result<Callback> {
        let (found, mut callbacks) = mpsc::channel(1);
        loop {
            tokio::select! {
                accepted = self.socket.accept() => {
                    let (stream, _) = accepted?;
                    let (found, state, lang) = (found.clone(), pending.state.clone(), self.lang);
                    // Each connection on its own: browsers open some that never say anything.
                    tokio::spawn(async move {
                        if let Ok(Ok(Some(callback))) =
                            tokio::time::timeout(READ_TIME, answer(stream, &state, lang)).await
                        {
                            let _ = found.send(callback).await;
                        }
                    });
                }
                Some(callback) = callbacks.recv() => return Ok(callback),
            }
        }
    }
}

/// Reads one request and answers it; gives the callback when it is the one that is waited for.
async fn answer(
    mut stream: TcpStream,
    state: &str,
    lang: PageLang,
) -> io::Result<Option<Callback>> {
    let head = read_head(&mut stream).await?;
    let found = query_of(&head)
        .and_then(|query| Callback::from_query(query).ok())
        .filter(|callback| callback.state() == Some(state));
    let (status, page) = match (&found, lang) {
        (Some(_), PageLang::Ja) => ("200 OK", include_str!("pages/done.ja.html")),
        (Some(_), PageLang::En) => ("200 OK", include_str!("pages/done.en.html")),
        (None, PageLang::Ja) => ("404 Not Found", include_str!("pages/other.ja.html")),
        (None, PageLang::En) => ("404 Not Found", include_str!("pages/other.en.html")),
    };
    let response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n\
         Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\nReferrer-Policy: no-referrer\r\n\
         Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n{page}",
        page.len()
    );
    // The answer counts even if the browser went away before its page.
    let _ = stream.write_all(response.as_bytes()).await;
    let _ = stream.shutdown().await;
    Ok(found)
}

async fn read_head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    let mut chunk = [0; 2048];
    while !head.windows(4).any(|w| w == b"\r\n\r\n") {
        let n = stream.read(&mut chunk).await?;
        if n == 0 || head.len() + n > MAX_HEAD {
            return Err(io::ErrorKind::InvalidData.into());
        }
        head.extend_from_slice(&chunk[..n]);
    }
    String::from_utf8(head).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// The query of `GET /callback?… HTTP/1.1`.
fn query_of(head: &str) -> Option<&str> {
    let target = head
        .lines()
        .next()?
        .strip_prefix("GET ")?
        .split(' ')
        .next()?;
    target.strip_prefix(PATH)?.strip_prefix('?')
}
