//! Servers on loopback that lie, stay silent, answer late, answer something else or want to be left alone.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use core_types::PeerId;
use core_types::random::SystemRandom;
use ntp::{Asked, FineClock, MachineClock, NoAnswer, PACKET, Source, Sources};
use tokio::net::UdpSocket;

/// Long enough for a busy machine; who doesn't answer isn't asked in most tests.
const PATIENT: Duration = Duration::from_secs(20);
/// Where somebody doesn't answer: those who do have that long.
const SHORT: Duration = Duration::from_secs(5);

/// How a server behaves.
#[derive(Clone, Copy)]
enum Manner {
    /// Its clock is ahead of the machine's by so many milliseconds.
    Ahead(i64),
    Silent,
    /// Answers each question when the next one comes.
    Late,
    /// First sends an answer to something else, from far in the future, then its own.
    Forged,
    /// Answers only what nobody asked.
    WrongOrigin,
    Kiss(&'static [u8; 4]),
    /// Says of itself that it isn't synchronised.
    Unsynchronised,
    /// Sends back what it got.
    Echo,
}

struct Server {
    address: SocketAddr,
    asked: Arc<AtomicU32>,
}

fn now_ahead(ms: i64) -> [u8; 8] {
    let wall = i128::try_from(MachineClock.wall().as_nanos()).unwrap() + i128::from(ms) * 1_000_000;
    let (seconds, nanos) = (wall / 1_000_000_000, wall % 1_000_000_000);
    let parts = (nanos << 32) / 1_000_000_000;
    let seconds = (seconds + 2_208_988_800) % (1 << 32);
    u64::try_from(seconds << 32 | parts).unwrap().to_be_bytes()
}

fn answer(question: &[u8], ahead: i64) -> [u8; PACKET] {
    let mut packet = [0; PACKET];
    packet[0] = 0x24;
    packet[1] = 2;
    packet[24..32].copy_from_slice(&question[40..48]);
    packet[32..40].copy_from_slice(&now_ahead(ahead));
    packet[40..48].copy_from_slice(&now_ahead(ahead));
    packet
}

async fn server(manner: Manner) -> Server {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let asked = Arc::new(AtomicU32::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        let mut kept: Option<(Vec<u8>, SocketAddr)> = None;
        let mut bytes = [0; 512];
        loop {
            let (n, from) = socket.recv_from(&mut bytes).await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let question = &bytes[..n];
            let mut answers = Vec::new();
            match manner {
                Manner::Ahead(ms) => answers.push((answer(question, ms).to_vec(), from)),
                Manner::Silent => {}
                Manner::Late => {
                    let before = kept.replace((answer(question, 0).to_vec(), from));
                    // Whoever asks may draw the same port again; then this would be an answer to something else.
                    answers.extend(before.filter(|(_, to)| *to != from));
                }
                Manner::Forged => {
                    answers.push((answer(&[7; PACKET], 3_600_000).to_vec(), from));
                    answers.push((answer(question, 0).to_vec(), from));
                }
                Manner::WrongOrigin => answers.push((answer(&[7; PACKET], 0).to_vec(), from)),
                Manner::Kiss(code) => {
                    let mut kiss = answer(question, 0).to_vec();
                    kiss[1] = 0;
                    kiss[12..16].copy_from_slice(code);
                    answers.push((kiss, from));
                }
                Manner::Unsynchronised => {
                    let mut packet = answer(question, 0).to_vec();
                    packet[0] |= 0xc0;
                    answers.push((packet, from));
                }
                Manner::Echo => answers.push((question.to_vec(), from)),
            }
            for (bytes, to) in answers {
                // Whoever asked may have gone.
                let _ = socket.send_to(&bytes, to).await;
            }
        }
    });
    Server { address, asked }
}

struct Round {
    servers: Vec<Server>,
    sources: Sources,
}

async fn round(manners: &[Manner], deadline: Duration) -> Round {
    let mut servers = Vec::new();
    for manner in manners {
        servers.push(server(*manner).await);
    }
    let named = servers.iter().enumerate().map(|(i, server)| Source {
        name: PeerId::parse(format!("source-{i}")).unwrap(),
        address: server.address.to_string(),
    });
    let sources = Sources::new(named.collect(), deadline).unwrap();
    Round { servers, sources }
}

impl Round {
    async fn ask(&mut self) -> Asked {
        let clock: Arc<dyn FineClock> = Arc::new(MachineClock);
        self.sources.ask(&clock, &SystemRandom).await
    }
}

fn states(asked: &Asked) -> Vec<&'static str> {
    asked.states().map(|(_, state, _)| state).collect()
}

// shows: I-7.1.1.12-synchronised
#[tokio::test]
async fn a_liar_is_named_and_moves_nothing() {
    for lie in [3_600_000, -3_600_000] {
        let mut round = round(
            &[Manner::Ahead(0), Manner::Ahead(lie), Manner::Ahead(0)],
            PATIENT,
        )
        .await;
        let asked = round.ask().await;
        assert_eq!(states(&asked), ["agrees", "false", "agrees"]);
        let named: Vec<_> = asked.states().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(named[1], "source-1");
        // The machine is compared with itself: the truth is no offset at all.
        let bound = asked.bound.unwrap();
        assert!(bound.low <= 0 && bound.high >= 0, "{bound:?}");
    }
    // Two against one are believed: then it is our clock that is wrong.
    let mut round = round(
        &[
            Manner::Ahead(60_000),
            Manner::Ahead(60_000),
            Manner::Ahead(0),
        ],
        PATIENT,
    )
    .await;
    let asked = round.ask().await;
    assert_eq!(states(&asked), ["agrees", "agrees", "false"]);
    assert!(asked.bound.unwrap().error_ms() >= 60_000);
    // Each against each: nobody can tell.
    let mut round = round_of_three_opinions().await;
    let asked = round.ask().await;
    assert_eq!(states(&asked), ["no-majority"; 3]);
    assert_eq!(asked.bound, None);
}

async fn round_of_three_opinions() -> Round {
    let manners = [
        Manner::Ahead(0),
        Manner::Ahead(3_600_000),
        Manner::Ahead(-3_600_000),
    ];
    round(&manners, PATIENT).await
}

// shows: I-7.1.1.12-synchronised
#[tokio::test]
async fn who_is_silent_late_or_answers_something_else_has_no_voice() {
    let manners = [
        Manner::Silent,
        Manner::Late,
        Manner::WrongOrigin,
        Manner::Echo,
    ];
    let mut round = round(&manners, SHORT).await;
    for _ in 0..2 {
        let asked = round.ask().await;
        assert_eq!(asked.bound, None);
        assert_eq!(
            states(&asked),
            ["silent", "silent", "foreign-answer", "foreign-answer"],
            "an answer to the question before finds nobody"
        );
    }
    assert!(
        round
            .servers
            .iter()
            .all(|s| s.asked.load(Ordering::SeqCst) == 2)
    );
}

#[tokio::test]
async fn a_forged_answer_does_not_keep_the_true_one_away() {
    let mut round = round(
        &[Manner::Forged, Manner::Ahead(0), Manner::Ahead(0)],
        PATIENT,
    )
    .await;
    let asked = round.ask().await;
    assert_eq!(states(&asked), ["agrees"; 3]);
}

// shows: I-7.1.1.12-synchronised
#[tokio::test]
async fn who_wants_to_be_left_alone_is_and_nobody_else_gets_its_voice() {
    let manners = [
        Manner::Kiss(b"RATE"),
        Manner::Kiss(b"DENY"),
        Manner::Unsynchronised,
        Manner::Ahead(0),
        Manner::Ahead(0),
    ];
    let mut round = round(&manners, PATIENT).await;
    for _ in 0..4 {
        let asked = round.ask().await;
        let expected = ["asks-for-less", "denied", "source-unsynchronised"];
        assert_eq!(states(&asked)[..3], expected);
        assert_eq!(asked.bound, None, "two of five are no majority");
    }
    let asked: Vec<_> = round
        .servers
        .iter()
        .map(|s| s.asked.load(Ordering::SeqCst))
        .collect();
    assert_eq!(asked, [2, 1, 4, 4, 4]);
}

#[tokio::test]
async fn two_names_of_one_server_are_one_voice() {
    let (one, other) = (server(Manner::Ahead(0)).await, server(Manner::Silent).await);
    let port = one.address.port();
    let named = [
        ("a", one.address.to_string()),
        ("b", format!("[::ffff:127.0.0.1]:{port}")),
        ("c", format!("localhost:{port}")),
        ("d", other.address.to_string()),
    ];
    let named = named.map(|(name, address)| Source {
        name: PeerId::parse(name).unwrap(),
        address,
    });
    let sources = Sources::new(named.into(), SHORT).unwrap();
    let mut round = Round {
        servers: vec![one, other],
        sources,
    };
    let asked = round.ask().await;
    let answered = asked.said.iter().filter(|(_, said)| said.is_ok()).count();
    assert_eq!(answered, 1, "{asked:?}");
    assert_eq!(asked.bound, None);
    assert_eq!(NoAnswer::Same.code(), "same-address");
}
