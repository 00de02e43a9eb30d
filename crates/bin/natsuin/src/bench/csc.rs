//! The CSC API under load: single calls and whole signatures at 1, 16 and 256 connections, and what an idle connection holds.
//!
//! Service and clients share the machine; the clients have threads of their own (idle ones a process, see [`super::idle`]), and each of
//! them has connections of its own. All of it is plain HTTP over loopback: in production whoever ends TLS in front of the service pays
//! for that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use core_types::random::SystemRandom;
use core_types::{HashAlg, KeyAlg, SigAlg};
use csc_client::AuthorizeParams;
use csc_types::{Purpose, SecretText};
use serde::Serialize;
use serde_json::json;
use tokio::runtime::Runtime;

use super::idle;
use super::measure::{CLIENT_THREADS, now, per_second, percentile};
use super::service::Bench;
use crate::agent::Agent;
use crate::output::Out;
use crate::stack::{Device, Factors, NewFactors, NewSigner, Sic, Stack};

const CONNECTIONS: [u16; 3] = [1, 16, 256];
/// Idle connections.
const IDLE: usize = 400;
/// Signers, among whom the connections are spread: nobody has hundreds of requests open at a time.
const PEOPLE: usize = 16;
const KEY: KeyAlg = KeyAlg::P256;
const ALG: SigAlg = SigAlg::Ecdsa(HashAlg::Sha256);

/// A kind of request at a number of connections.
#[derive(Debug, Serialize)]
pub(super) struct Calls {
    what: &'static str,
    connections: usize,
    requests: usize,
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct Csc {
    schema: &'static str,
    cores: usize,
    /// Whether connections are encrypted: never here.
    tls: bool,
    calls: Vec<Calls>,
    /// Growth of the service's memory for each idle connection, KiB; without TLS.
    idle_connection_kib: f64,
}

/// Measures on a running stack.
pub(super) async fn run(stack: &Stack, args: &CscArgs, span: Duration, out: Out) -> Result<Csc> {
    let connections: Vec<usize> = match args.connections.as_slice() {
        [] => CONNECTIONS.map(usize::from).into(),
        named => named.iter().copied().map(usize::from).collect(),
    };
    let cores = service_kit::cores();
    let clients = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores)
        .thread_name(CLIENT_THREADS)
        .enable_all()
        .build()?;
    let measured = measured(stack, &clients, &connections, span, out).await;
    clients.shutdown_background();
    measured
}

async fn measured(
    stack: &Stack,
    clients: &Runtime,
    all: &[usize],
    span: Duration,
    out: Out,
) -> Result<Csc> {
    let mut people = Vec::new();
    let most = all.iter().copied().max().unwrap_or(1);
    for n in 0..most.min(PEOPLE) {
        people.push(person(stack, clients, n).await?);
    }
    let first = people.first().context("nobody to sign")?;
    let (key, token) = (first.bench.credential(KEY)?, first.token.clone());
    let base = format!("{}/csc/v2", stack.ssa_url);
    let authorization = format!("Bearer {}", token.expose());
    let about = json!({ "credentialID": key, "certInfo": true, "authInfo": true }).to_string();
    let single = [
        (
            "info",
            format!("{base}/info"),
            String::new(),
            "{}".to_owned(),
        ),
        (
            "credentials/info",
            format!("{base}/credentials/info"),
            authorization,
            about,
        ),
    ];
    let mut calls = Vec::new();
    for connections in all.iter().copied() {
        for (what, url, authorization, body) in &single {
            let work = (0..connections).map(|_| {
                let (url, header, body) = (url.clone(), authorization.clone(), body.clone());
                async move { call_after_call(&url, &header, &body, span).await }
            });
            let row = row(clients, what, connections, work).await?;
            show(&row, out);
            calls.push(row);
        }
        let workers = people.iter().cycle().take(connections).map(|person| {
            let http = service_kit::http::client(&service_kit::http::HttpOptions::default())?;
            let agent = person.agent.clone().over(http);
            Ok((person.bench.apart()?, agent, person.device.clone()))
        });
        let workers = workers.collect::<Result<Vec<_>>>()?;
        let work = workers
            .into_iter()
            .map(|(bench, mut agent, mut device)| async move {
                let key = bench.credential(KEY)?;
                let begun = now();
                let mut times = Vec::new();
                while begun.elapsed() < span || times.is_empty() {
                    let round = bench.round(&mut agent, &mut device, ALG, &key, 1);
                    times.push(round.await?.whole);
                }
                Ok(times)
            });
        let row = row(clients, "authorize, token, signHash", connections, work).await?;
        show(&row, out);
        calls.push(row);
    }
    let idle = idle::measure(stack, IDLE, out).await?;
    Ok(Csc {
        schema: "natsuin.bench-csc/2",
        cores: service_kit::cores(),
        tls: false,
        calls,
        idle_connection_kib: idle.connection_kib,
    })
}

/// What is measured of the API.
#[derive(Debug, Clone, clap::Args)]
pub struct CscArgs {
    /// Connections at a time; may be given more than once, and then replaces 1, 16 and 256.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), conflicts_with = "idle")]
    pub connections: Vec<u16>,
    /// Only what idle connections hold: so many of them, 10000 if you don't say. Their clients are a process of their own; each of the two
    /// raises the number of files that it may have open, as far as it is allowed to (`ulimit -Hn`).
    #[arg(long, num_args = 0..=1, default_missing_value = "10000", value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=12_000))]
    pub idle: Option<u32>,
}

/// Somebody who is logged in and has a key.
struct Signer {
    bench: Arc<Bench>,
    agent: Agent,
    device: Device,
    /// Reads.
    token: SecretText,
}

async fn person(stack: &Stack, clients: &Runtime, n: usize) -> Result<Signer> {
    let mut device =
        Device::new(&stack.sic_url, &SystemRandom).map_err(|_| anyhow::anyhow!("no passkey"))?;
    let login = format!("bench-{n}");
    let new = NewSigner {
        login: &login,
        name: "Bench",
        keys: &[KEY],
        collected: false,
        exportable: false,
        one_time: false,
    };
    let enrolled = stack.enrol(&new, NewFactors::Passkey(&mut device)).await?;
    let bench = Arc::new(Bench::new(stack, enrolled.shown).await?);
    let sic = Sic {
        http: service_kit::http::client(&service_kit::http::HttpOptions::default())?,
        ..stack.sic()
    };
    // One login; its connections live on the clients' threads.
    let begin = clients.spawn(async move {
        let mut agent = Agent::with(sic);
        let token = bench.reading(&mut agent, &mut device).await?;
        Ok(Signer {
            bench,
            agent,
            device,
            token,
        })
    });
    begin.await?
}

async fn row(
    clients: &Runtime,
    what: &'static str,
    connections: usize,
    work: impl Iterator<Item = impl Future<Output = Result<Vec<Duration>>> + Send + 'static>,
) -> Result<Calls> {
    let begun = now();
    let work: Vec<_> = work.map(|worker| clients.spawn(worker)).collect();
    let mut times = Vec::new();
    for worker in work {
        times.extend(worker.await??);
    }
    let elapsed = begun.elapsed();
    Ok(Calls {
        what,
        connections,
        requests: times.len(),
        per_second: per_second(times.len(), elapsed),
        p50_ms: percentile(times.clone(), 50),
        p99_ms: percentile(times, 99),
    })
}

fn show(row: &Calls, out: Out) {
    out.say(&format!(
        "{:<26} × {:>3}   {:>8.0} /s   p50 {:>7.2} ms   p99 {:>7.2} ms",
        row.what, row.connections, row.per_second, row.p50_ms, row.p99_ms
    ));
}

/// One connection, one call after the other until the time is over.
async fn call_after_call(
    url: &str,
    authorization: &str,
    body: &str,
    span: Duration,
) -> Result<Vec<Duration>> {
    let http = service_kit::http::client(&service_kit::http::HttpOptions::default())?;
    let begun: Instant = now();
    let mut times = Vec::new();
    while begun.elapsed() < span || times.is_empty() {
        let sent = now();
        let mut request = http
            .post(url)
            .header("content-type", "application/json")
            .body(body.to_owned());
        if !authorization.is_empty() {
            request = request.header("authorization", authorization);
        }
        let answer = request.send().await?;
        if answer.status() != 200 {
            bail!("{url} answered {}", answer.status());
        }
        answer.bytes().await?;
        times.push(sent.elapsed());
    }
    Ok(times)
}

impl Bench {
    /// A token of scope `service`.
    async fn reading(&self, agent: &mut Agent, device: &mut Device) -> Result<SecretText> {
        let params = AuthorizeParams {
            purpose: Purpose::Service,
            redirect_uri: &self.redirect_uri,
            lang: None,
            description: None,
        };
        self.authorized(agent, Factors::Passkey(device), &params)
            .await
    }
}
