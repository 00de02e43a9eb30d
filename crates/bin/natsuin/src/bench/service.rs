//! Authorizing with a passkey and signing, through the whole service.
//!
//! Service and clients share the machine, and here the process; the clients have threads of their own, so that their
//! CPU time is told apart from the service's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use core_types::random::SystemRandom;
use core_types::{KeyAlg, Random as _, SigAlg};
use csc_client::{AuthorizeParams, Callback, Client, ClientCredentials, HttpOptions, Provider};
use csc_types::{
    DocumentDigest, HashType, Purpose, SecretText, SignHashRequest, SignatureAuthorization,
};
use serde::Serialize;
use tokio::runtime::Runtime;

use super::measure::{CLIENT_THREADS, Cpu, f64_of, millis, now, per_second, percentile};
use super::raw::{KEYS, Raw};
use crate::agent::Agent;
use crate::output::Out;
use crate::stack::{DevSigner, Device, Factors, NewFactors, NewSigner, Sic, Stack};

/// Signatures a round, and rounds under way at a time for each core. One alone shows the latency, several the
/// throughput.
const LOADS: [(usize, Workers); 5] = [
    (1, Workers::One),
    (1, Workers::PerCore(8)),
    (10, Workers::PerCore(4)),
    (100, Workers::PerCore(2)),
    (1000, Workers::PerCore(2)),
];

#[derive(Debug, Clone, Copy)]
enum Workers {
    One,
    PerCore(usize),
}

/// Authorize with a passkey, then `signHash`.
#[derive(Debug, Serialize)]
pub(super) struct Service {
    key: KeyAlg,
    batch: usize,
    /// Rounds under way at a time.
    workers: usize,
    signatures_per_second: f64,
    /// Of the library's sign + verify on all cores, the clients' share of the machine included.
    ratio_to_raw: f64,
    rounds: usize,
    rounds_per_second: f64,
    /// One round trip, milliseconds.
    p50_ms: f64,
    p99_ms: f64,
    /// `signHash` alone, milliseconds.
    sign_hash_p50_ms: f64,
    /// CPU of the service for a round, milliseconds.
    service_cpu_ms: f64,
    /// The same without what the library takes to sign and verify.
    service_cpu_without_signing_ms: f64,
    /// CPU of client, browser and authenticator for a round, milliseconds.
    client_cpu_ms: f64,
    /// CPU of the library's sign + verify by CPU of the service: the ratio if the clients ran elsewhere.
    cpu_ratio_to_raw: f64,
}

/// Measures all keys and loads on a running stack.
pub(super) async fn rows(
    stack: &Stack,
    raw: &[Raw],
    span: Duration,
    cores: usize,
    out: Out,
) -> Result<Vec<Service>> {
    let clients = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores)
        .thread_name(CLIENT_THREADS)
        .enable_all()
        .build()?;
    let rows = measured(stack, &clients, raw, span, cores, out).await;
    clients.shutdown_background();
    rows
}

async fn measured(
    stack: &Stack,
    clients: &Runtime,
    raw: &[Raw],
    span: Duration,
    cores: usize,
    out: Out,
) -> Result<Vec<Service>> {
    let mut device =
        Device::new(&stack.sic_url, &SystemRandom).map_err(|_| anyhow::anyhow!("no passkey"))?;
    let new = NewSigner {
        login: "bench",
        name: "Bench",
        keys: &[KeyAlg::Rsa3072, KeyAlg::P256],
        collected: false,
        exportable: false,
        one_time: false,
    };
    let signer = stack
        .enrol(&new, NewFactors::Passkey(&mut device))
        .await?
        .shown;
    let bench = Arc::new(Bench::new(stack, signer).await?);
    // A client of its own, whose connections live on the clients' threads.
    let sic = Sic {
        http: service_kit::http::client(&service_kit::http::HttpOptions::default())?,
        ..stack.sic()
    };
    // One login; the browsers of all workers share its session.
    let first = {
        let (bench, mut device) = (bench.clone(), device.clone());
        clients.spawn(async move {
            let mut agent = Agent::with(sic);
            let key = bench.credential(KEYS[1].0)?;
            bench
                .round(&mut agent, &mut device, KEYS[1].1, &key, 1)
                .await?;
            Ok::<_, anyhow::Error>(agent)
        })
    };
    let agent = first.await??;
    let mut rows = Vec::new();
    for ((key, alg), raw) in KEYS.into_iter().zip(raw) {
        for (batch, workers) in LOADS {
            let workers = match workers {
                Workers::One => 1,
                Workers::PerCore(n) => n * cores,
            };
            let load = Load {
                bench: bench.clone(),
                agent: agent.clone(),
                device: device.clone(),
                key,
                alg,
                batch,
                workers,
            };
            let row = load.row(clients, span, raw).await?;
            out.say(&format!(
                "service {key:<9} batch {batch:>4} × {workers:>2}   {:>7.0} sig/s   ratio {:>5.3}   {:>6.1} rounds/s   \
                 p50 {:>7.1} ms p99 {:>7.1} ms   signHash p50 {:>7.1} ms   CPU of a round: service {:>7.2} ms \
                 (without sign + verify {:>6.2}), client {:>6.2} ms; ratio by CPU {:>5.3}",
                row.signatures_per_second, row.ratio_to_raw, row.rounds_per_second, row.p50_ms, row.p99_ms,
                row.sign_hash_p50_ms, row.service_cpu_ms, row.service_cpu_without_signing_ms, row.client_cpu_ms,
                row.cpu_ratio_to_raw
            ));
            rows.push(row);
        }
    }
    Ok(rows)
}

/// One measurement.
struct Load {
    bench: Arc<Bench>,
    agent: Agent,
    device: Device,
    key: KeyAlg,
    alg: SigAlg,
    batch: usize,
    workers: usize,
}

impl Load {
    async fn row(self, clients: &Runtime, span: Duration, raw: &Raw) -> Result<Service> {
        let Self {
            key,
            batch,
            workers,
            ..
        } = self;
        let before = Cpu::so_far()?;
        let begun = now();
        let work: Vec<_> = (0..workers)
            .map(|_| clients.spawn(self.work(begun, span)))
            .collect();
        let mut rounds = Vec::new();
        for worker in work {
            rounds.extend(worker.await??);
        }
        let elapsed = begun.elapsed();
        let cpu = Cpu::so_far()?.since(before);
        let of_round = |time: Duration| millis(time) / f64_of(rounds.len()).max(1.0);
        let rate = per_second(rounds.len() * batch, elapsed);
        let (service_cpu_ms, raw_cpu_ms) = (of_round(cpu.service), raw.cpu_ms * f64_of(batch));
        Ok(Service {
            key,
            batch,
            workers,
            signatures_per_second: rate,
            ratio_to_raw: rate / raw.sign_verify_per_second.max(1e-9),
            rounds: rounds.len(),
            rounds_per_second: per_second(rounds.len(), elapsed),
            p50_ms: percentile(rounds.iter().map(|r| r.whole).collect(), 50),
            p99_ms: percentile(rounds.iter().map(|r| r.whole).collect(), 99),
            sign_hash_p50_ms: percentile(rounds.iter().map(|r| r.sign_hash).collect(), 50),
            service_cpu_ms,
            service_cpu_without_signing_ms: service_cpu_ms - raw_cpu_ms,
            client_cpu_ms: of_round(cpu.client),
            cpu_ratio_to_raw: raw_cpu_ms / service_cpu_ms.max(1e-9),
        })
    }

    /// Rounds one after the other until the time is over.
    fn work(
        &self,
        begun: Instant,
        span: Duration,
    ) -> impl Future<Output = Result<Vec<Round>>> + Send + 'static {
        let (bench, alg, batch) = (self.bench.clone(), self.alg, self.batch);
        let (mut agent, mut device) = (self.agent.clone(), self.device.clone());
        let key = self.key;
        async move {
            let key = bench.credential(key)?;
            let mut rounds = Vec::new();
            while begun.elapsed() < span || rounds.is_empty() {
                rounds.push(
                    bench
                        .round(&mut agent, &mut device, alg, &key, batch)
                        .await?,
                );
            }
            Ok(rounds)
        }
    }
}

/// What all rounds share.
pub(super) struct Bench {
    signer: DevSigner,
    base: String,
    credentials: ClientCredentials,
    client: Client,
    provider: Provider,
    pub(super) redirect_uri: String,
}

/// Duration of a round trip and of the `signHash` in it.
pub(super) struct Round {
    pub(super) whole: Duration,
    sign_hash: Duration,
}

impl Bench {
    pub(super) async fn new(stack: &Stack, signer: DevSigner) -> Result<Self> {
        let registered = stack
            .client("test-client")
            .context("the stack has no test client")?;
        let credentials = ClientCredentials {
            client_id: registered.client_id.clone(),
            client_secret: registered.client_secret.clone().map(SecretText::new),
        };
        let redirect_uri = registered
            .redirect_uris
            .first()
            .context("the client has no redirect URI")?
            .clone();
        let base = format!("{}/csc/v2", stack.ssa_url);
        let client = Client::new(&base, credentials.clone(), &HttpOptions::default())?;
        let provider = client.discover().await?;
        Ok(Self {
            signer,
            base,
            credentials,
            client,
            provider,
            redirect_uri,
        })
    }

    /// The same person with a client that shares no connection with another.
    pub(super) fn apart(&self) -> Result<Self> {
        let credentials = self.credentials.clone();
        Ok(Self {
            signer: self.signer.clone(),
            base: self.base.clone(),
            client: Client::new(&self.base, credentials.clone(), &HttpOptions::default())?,
            credentials,
            provider: self.provider.clone(),
            redirect_uri: self.redirect_uri.clone(),
        })
    }

    pub(super) fn credential(&self, key: KeyAlg) -> Result<String> {
        let found = self
            .signer
            .credentials
            .iter()
            .find(|c| c.algo == key.name());
        Ok(found
            .context("the signer lacks a key")?
            .credential_id
            .clone())
    }

    /// Has the signer log in where needed and approve; answers the token.
    pub(super) async fn authorized(
        &self,
        agent: &mut Agent,
        factors: Factors<'_>,
        params: &AuthorizeParams<'_>,
    ) -> Result<SecretText> {
        let pending = self
            .client
            .authorize(&self.provider, params, &SystemRandom)
            .await?;
        let back = agent
            .until(
                pending.url.as_str(),
                &self.redirect_uri,
                &self.signer,
                factors,
            )
            .await?;
        let callback = Callback::from_query(back.query().unwrap_or_default())?;
        let granted = self.client.exchange(&self.provider, &pending, &callback);
        Ok(granted.await?.access_token)
    }

    /// Authorizes `batch` fresh hashes and signs them.
    pub(super) async fn round(
        &self,
        agent: &mut Agent,
        device: &mut Device,
        alg: SigAlg,
        key: &str,
        batch: usize,
    ) -> Result<Round> {
        let hashes: Vec<Vec<u8>> = (0..batch)
            .map(|_| SystemRandom.digest32().0.to_vec())
            .collect();
        let digests = hashes.iter().enumerate().map(|(i, hash)| DocumentDigest {
            hash: hash.clone(),
            label: Some(format!("document-{i}.pdf")),
            hash_type: Some(HashType::Dtbsr),
            ..DocumentDigest::default()
        });
        let asked = SignatureAuthorization {
            credential_id: Some(key.to_owned()),
            signature_qualifier: None,
            num_signatures: u32::try_from(batch)?,
            digests: digests.collect(),
            hash_algorithm: Some(alg.hash()),
            // All of it is signed at once; and a key has room for few approvals that go on.
            renewable_for: Some(0),
        };
        let begun = now();
        let params = AuthorizeParams {
            purpose: Purpose::Credential(asked),
            redirect_uri: &self.redirect_uri,
            lang: None,
            description: None,
        };
        let token = self
            .authorized(agent, Factors::Passkey(device), &params)
            .await?;
        let signing = now();
        let request = SignHashRequest {
            credential_id: key.to_owned(),
            sad: None,
            hashes,
            hash_algorithm_oid: Some(alg.hash().oid().to_owned()),
            sign_algo: alg.oid().to_owned(),
            sign_algo_params: None,
            client_data: None,
        };
        let once = SystemRandom.digest32().to_string();
        let values = self.client.sign_hash(&token, &request, &once).await?;
        if values.len() != batch {
            bail!("{} values came for {batch} hashes", values.len());
        }
        Ok(Round {
            whole: begun.elapsed(),
            sign_hash: signing.elapsed(),
        })
    }
}
