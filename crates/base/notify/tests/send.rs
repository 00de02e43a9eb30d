//! Real sockets: a mail server and a receiver of web hooks, as small as they can be.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Router, response::Redirect};
use core_types::{SecretBytes, UnixTime};
use notify::NotifyError;
use notify::mail::{MailConfig, MailTls, Mailer};
use notify::webhook::{PATIENCE, Target, Webhooks, signature};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

/// Takes one mail and answers what it was told to its recipient.
async fn mail_server(answer: &'static str) -> (u16, tokio::task::JoinHandle<String>) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let taken = tokio::spawn(async move {
        let (stream, _) = socket.accept().await.unwrap();
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        write.write_all(b"220 here\r\n").await.unwrap();
        let (mut text, mut data) = (String::new(), false);
        while let Ok(Some(line)) = lines.next_line().await {
            text.push_str(&line);
            text.push('\n');
            let said = match line.as_str() {
                "." if data => {
                    data = false;
                    "250 taken\r\n"
                }
                _ if data => continue,
                "DATA" => {
                    data = true;
                    "354 go on\r\n"
                }
                "QUIT" => "221 bye\r\n",
                line if line.starts_with("RCPT") => answer,
                _ => "250 good\r\n",
            };
            write.write_all(said.as_bytes()).await.unwrap();
        }
        text
    });
    (port, taken)
}

fn config(port: u16) -> MailConfig {
    MailConfig {
        host: "127.0.0.1".to_owned(),
        port,
        tls: MailTls::None,
        ca_pem: None,
        login: None,
        from: "Natsuin <no-reply@sign.example.jp>".to_owned(),
    }
}

#[tokio::test]
async fn a_mail_arrives_as_it_was_written() {
    let (port, taken) = mail_server("250 good\r\n").await;
    let mailer = Mailer::new(&config(port)).unwrap();
    let sent = mailer.send("hanako@example.jp", "ワンタイムコード", "123456\n.\n");
    sent.await.unwrap();
    drop(mailer);
    let text = taken.await.unwrap();
    assert!(text.contains("RCPT TO:<hanako@example.jp>"), "{text}");
    assert!(text.contains("Subject: =?utf-8?b?"), "{text}");
    assert!(text.contains("123456"), "{text}");
}

#[tokio::test]
async fn a_refusal_is_final_or_not_and_nothing_is_smuggled_in() {
    for (answer, transient) in [("550 no\r\n", false), ("451 later\r\n", true)] {
        let (port, _taken) = mail_server(answer).await;
        let mailer = Mailer::new(&config(port)).unwrap();
        let refused = mailer.send("a@example.jp", "s", "t").await.unwrap_err();
        assert_eq!(refused.is_transient(), transient, "{refused}");
    }
    let mailer = Mailer::new(&config(1)).unwrap();
    for (to, subject) in [
        ("a@example.jp\r\nRCPT TO:<b@example.jp>", "s"),
        ("a@example.jp, b@example.jp", "s"),
        ("", "s"),
        ("a@example.jp", "s\r\nBcc: b@example.jp"),
    ] {
        let refused = mailer.send(to, subject, "t").await.unwrap_err();
        assert!(
            matches!(refused, NotifyError::Address(_) | NotifyError::Settings(_)),
            "{refused}"
        );
    }
    let closed = mailer.send("a@example.jp", "s", "t").await.unwrap_err();
    assert!(closed.is_transient(), "{closed}");
    let elsewhere = MailConfig {
        host: "mail.example.jp".to_owned(),
        ..config(25)
    };
    assert!(matches!(
        Mailer::new(&elsewhere),
        Err(NotifyError::Settings(_))
    ));
}

type Seen = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

async fn receiver() -> (String, Seen) {
    let seen = Seen::default();
    let take = async |State(seen): State<Seen>, headers: HeaderMap, body: Bytes| {
        seen.lock().unwrap().push((headers, body));
    };
    let router = Router::new()
        .route("/good", post(take))
        .route("/moved", post(async || Redirect::temporary("/good")))
        .route("/gone", post(async || StatusCode::GONE))
        .route("/busy", post(async || StatusCode::SERVICE_UNAVAILABLE))
        .with_state(seen.clone());
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://127.0.0.1:{}", socket.local_addr().unwrap().port());
    tokio::spawn(async move { axum::serve(socket, router).await });
    (base, seen)
}

fn secret() -> SecretBytes {
    SecretBytes::new(vec![9; 32])
}

#[tokio::test]
async fn a_receiver_can_check_who_calls_and_no_redirect_is_followed() {
    let (base, seen) = receiver().await;
    let hooks = Webhooks::new(None, PATIENCE).unwrap();
    let at = UnixTime(1_700_000_000);
    let call = async |path: &str| {
        let target = Target::new(&format!("{base}{path}"), secret(), true).unwrap();
        hooks.post(&target, "m1", at, b"{}".to_vec()).await
    };
    call("/good").await.unwrap();
    {
        let seen = seen.lock().unwrap();
        let (headers, body) = &seen[0];
        assert_eq!(headers["webhook-id"], "m1");
        assert_eq!(headers["webhook-timestamp"], "1700000000");
        let expected = signature(&secret(), "m1", at, body);
        assert_eq!(headers["webhook-signature"], expected.as_str());
    }
    assert!(matches!(call("/gone").await, Err(NotifyError::Refused(_))));
    for path in ["/busy", "/moved"] {
        let later = call(path).await.unwrap_err();
        assert!(later.is_transient(), "{path}: {later}");
        assert!(
            !later.to_string().contains(&base),
            "no address in the error"
        );
    }
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_name_that_leads_inside_is_not_called() {
    // The name is fine by its form; what it resolves to isn't. No resolver outside this machine is asked.
    let hooks = Webhooks::new(None, PATIENCE).unwrap();
    let target = Target::new("https://ip6-localhost./", secret(), false).unwrap();
    let refused = hooks.post(&target, "m1", UnixTime(1), Vec::new()).await;
    assert!(refused.unwrap_err().is_transient());
}

#[tokio::test]
async fn a_receiver_that_hangs_holds_nobody() {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", socket.local_addr().unwrap());
    let target = Target::new(&url, secret(), true).unwrap();
    let hooks = Webhooks::new(None, Duration::from_millis(50)).unwrap();
    let refused = hooks.post(&target, "m1", UnixTime(1), Vec::new()).await;
    assert!(refused.unwrap_err().is_transient());
}
