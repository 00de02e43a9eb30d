//! `natsuin bench`: what the service costs beside the bare library, measured in one run on one machine.
//!
//! Everything runs in this process: signer's side, client, SSA, gateway, SAM and CM, over loopback with mutual TLS and
//! durable commits. CPU per signature is that of the whole process, the client's share included.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use cm_core::backend::{Backend as _, PrivateKey};
use cm_soft::SoftBackend;
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::{Clock as _, HashAlg, KeyAlg, Random as _, SigAlg};
use csc_client::{AuthorizeParams, Callback, Client, ClientCredentials, HttpOptions, Provider};
use csc_types::{
    DocumentDigest, HashType, Purpose, SecretText, SignHashRequest, SignatureAuthorization,
};
use pdf_update::{Builder, Dict};
use serde::Serialize;

use crate::agent::Agent;
use crate::output::{Exit, Failure, Out};
use crate::stack::{
    DevSigner, Device, Factors, NewFactors, NewSigner, Options, Stack, StoreChoice,
};

const BATCHES: [usize; 4] = [1, 10, 100, 1000];
const MEGABYTES: [usize; 3] = [1, 10, 100];
/// Keys that are measured, with the algorithm used.
const KEYS: [(KeyAlg, SigAlg); 2] = [
    (KeyAlg::Rsa3072, SigAlg::RsaPkcs1(HashAlg::Sha256)),
    (KeyAlg::P256, SigAlg::Ecdsa(HashAlg::Sha256)),
];

/// The library alone, on all cores: one signature and its verification, as the service does both.
#[derive(Debug, Serialize)]
struct Raw {
    key: KeyAlg,
    sign_per_second: f64,
    sign_verify_per_second: f64,
}

/// Authorize with a passkey, then `signHash`.
#[derive(Debug, Serialize)]
struct Service {
    key: KeyAlg,
    batch: usize,
    signatures_per_second: f64,
    /// Of the library's sign + verify on all cores.
    ratio_to_raw: f64,
    /// One round trip, milliseconds.
    p50_ms: f64,
    p99_ms: f64,
    /// `signHash` alone, milliseconds.
    sign_hash_p50_ms: f64,
    cpu_ms_per_signature: f64,
    rounds: usize,
}

/// Preparing and embedding, beside a copy with SHA-256 of the same file.
#[derive(Debug, Serialize)]
struct Pdf {
    megabytes: usize,
    sign_ms: f64,
    copy_and_hash_ms: f64,
    ratio_to_copy: f64,
    /// Highest memory of the process above what it had before, mebibytes.
    peak_mib: f64,
    copy_peak_mib: f64,
}

#[derive(Debug, Serialize)]
struct Results {
    schema: &'static str,
    cores: usize,
    raw: Vec<Raw>,
    service: Vec<Service>,
    pdf: Vec<Pdf>,
}

/// Runs all measurements, `seconds` each. `data`: where the stack keeps its rows, if they shall stay.
///
/// # Errors
/// [`Failure`] when something can't be measured.
pub async fn run(seconds: u64, data: Option<PathBuf>, out: Out) -> Result<Exit, Failure> {
    let span = Duration::from_secs(seconds.max(1));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let results = measure(span, cores, data, out).await?;
    out.object(&results);
    Ok(Exit::Good)
}

async fn measure(span: Duration, cores: usize, data: Option<PathBuf>, out: Out) -> Result<Results> {
    let scratch = tempfile::Builder::new()
        .prefix("natsuin-bench-")
        .tempdir()?;
    out.say(&format!("{cores} cores; raw: AWS-LC, all cores; service: this process over loopback, SQLite, durable commits"));
    // First, while the process is still small.
    let mut pdf = Vec::new();
    for megabytes in MEGABYTES {
        let row = pdf_row(scratch.path(), megabytes).await?;
        out.say(&format!(
            "PDF {:>4} MB   sign {:>7.1} ms   copy + SHA-256 {:>7.1} ms   ratio {:>5.2}   peak memory {:>5.1} MiB (copy {:.1})",
            row.megabytes, row.sign_ms, row.copy_and_hash_ms, row.ratio_to_copy, row.peak_mib, row.copy_peak_mib
        ));
        pdf.push(row);
    }
    let mut raw = Vec::new();
    for (key, alg) in KEYS {
        let row = raw_row(key, alg, span, cores)?;
        out.say(&format!(
            "raw {key:<9} sign {:>9.0}/s   sign + verify {:>9.0}/s",
            row.sign_per_second, row.sign_verify_per_second
        ));
        raw.push(row);
    }
    let options = Options {
        data: data.unwrap_or_else(|| scratch.path().join("stack")),
        port: 0,
        store: StoreChoice::Embedded,
        tls: false,
        pkcs11: None,
        load: true,
    };
    let stack = Stack::start(&options, &|_| {}).await?;
    let service = service_rows(&stack, &raw, span, cores, out).await;
    stack.stop().await;
    Ok(Results {
        schema: "natsuin.bench/1",
        cores,
        raw,
        service: service?,
        pdf,
    })
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures")]
fn now() -> Instant {
    Instant::now()
}

fn raw_row(key: KeyAlg, alg: SigAlg, span: Duration, cores: usize) -> Result<Raw> {
    let made = SoftBackend.generate(key)?;
    let private: Arc<dyn PrivateKey> = Arc::from(SoftBackend.load(key, &made.material)?);
    let rate = |verify: bool| -> f64 {
        let threads: Vec<_> = (0..cores)
            .map(|thread| {
                let (private, spki) = (private.clone(), made.spki.clone());
                std::thread::spawn(move || {
                    let begun = now();
                    let mut count = 0_u64;
                    while begun.elapsed() < span {
                        let digest = alg.hash().digest(
                            &[thread.to_be_bytes(), (count as usize).to_be_bytes()].concat(),
                        );
                        let Ok(value) = private.sign(alg, &digest) else {
                            return 0.0;
                        };
                        if verify
                            && pki::verify_signature(
                                &spki,
                                alg,
                                pki::Signed::Digest(&digest),
                                &value,
                            )
                            .is_err()
                        {
                            return 0.0;
                        }
                        count += 1;
                    }
                    per_second(count as usize, begun.elapsed())
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap_or(0.0)).sum()
    };
    Ok(Raw {
        key,
        sign_per_second: rate(false),
        sign_verify_per_second: rate(true),
    })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of a benchmark are small"
)]
fn per_second(count: usize, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64().max(1e-9)
}

async fn service_rows(
    stack: &Stack,
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
    };
    let signer = stack
        .enrol(&new, NewFactors::Passkey(&mut device))
        .await?
        .shown;
    let bench = Bench::new(stack, signer).await?;
    // One login; the browsers of all workers share its session.
    let mut agent = Agent::new(stack);
    bench
        .round(
            &mut agent,
            &mut device,
            KEYS[1].1,
            &bench.credential(KEYS[1].0)?,
            1,
        )
        .await?;
    let mut rows = Vec::new();
    for ((key, alg), raw) in KEYS.into_iter().zip(raw) {
        let credential = bench.credential(key)?;
        for batch in BATCHES {
            let workers = if batch == 1 { cores * 2 } else { 1 };
            let row = bench
                .row(
                    &agent,
                    &device,
                    (key, alg, &credential),
                    batch,
                    workers,
                    span,
                    raw,
                )
                .await?;
            out.say(&format!(
                "service {key:<9} batch {batch:>4}   {:>7.0} sig/s   ratio {:>4.2}   round p50 {:>7.1} ms p99 {:>7.1} ms   \
                 signHash p50 {:>7.1} ms   CPU {:>6.2} ms/sig",
                row.signatures_per_second, row.ratio_to_raw, row.p50_ms, row.p99_ms, row.sign_hash_p50_ms,
                row.cpu_ms_per_signature
            ));
            rows.push(row);
        }
    }
    Ok(rows)
}

/// What all rounds share.
struct Bench {
    signer: DevSigner,
    client: Client,
    provider: Provider,
    redirect_uri: String,
}

/// Duration of a round trip and of the `signHash` in it.
struct Round {
    whole: Duration,
    sign_hash: Duration,
}

impl Bench {
    async fn new(stack: &Stack, signer: DevSigner) -> Result<Self> {
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
        let client = Client::new(
            &format!("{}/csc/v2", stack.ssa_url),
            credentials,
            &HttpOptions::default(),
        )?;
        let provider = client.discover().await?;
        Ok(Self {
            signer,
            client,
            provider,
            redirect_uri,
        })
    }

    fn credential(&self, key: KeyAlg) -> Result<String> {
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

    /// Authorizes `batch` fresh hashes and signs them.
    async fn round(
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
            hash_type: HashType::Dtbsr,
        });
        let asked = SignatureAuthorization {
            credential_id: Some(key.to_owned()),
            signature_qualifier: None,
            num_signatures: u32::try_from(batch)?,
            digests: digests.collect(),
            hash_algorithm: Some(alg.hash()),
        };
        let begun = now();
        let params = AuthorizeParams {
            purpose: Purpose::Credential(asked),
            redirect_uri: &self.redirect_uri,
            lang: None,
            description: None,
        };
        let pending = self
            .client
            .authorize(&self.provider, &params, &SystemRandom)
            .await?;
        let back = agent
            .until(
                pending.url.as_str(),
                &self.redirect_uri,
                &self.signer,
                Factors::Passkey(device),
            )
            .await?;
        let callback = Callback::from_query(back.query().unwrap_or_default())?;
        let token = self
            .client
            .exchange(&self.provider, &pending, &callback)
            .await?
            .access_token;
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

    #[expect(clippy::too_many_arguments, reason = "the axes of one measurement")]
    async fn row(
        &self,
        agent: &Agent,
        device: &Device,
        (key, alg, credential): (KeyAlg, SigAlg, &str),
        batch: usize,
        workers: usize,
        span: Duration,
        raw: &Raw,
    ) -> Result<Service> {
        let cpu = cpu_time()?;
        let begun = now();
        let work = (0..workers).map(|_| async {
            let (mut agent, mut device) = (agent.clone(), device.clone());
            let mut rounds = Vec::new();
            while begun.elapsed() < span || rounds.is_empty() {
                rounds.push(
                    self.round(&mut agent, &mut device, alg, credential, batch)
                        .await?,
                );
            }
            Ok::<_, anyhow::Error>(rounds)
        });
        let done = futures_util::future::try_join_all(work).await?;
        let elapsed = begun.elapsed();
        let cpu = cpu_time()?.saturating_sub(cpu);
        let rounds: Vec<Round> = done.into_iter().flatten().collect();
        let signatures = rounds.len() * batch;
        let rate = per_second(signatures, elapsed);
        Ok(Service {
            key,
            batch,
            signatures_per_second: rate,
            ratio_to_raw: rate / raw.sign_verify_per_second.max(1e-9),
            p50_ms: percentile(rounds.iter().map(|r| r.whole).collect(), 50),
            p99_ms: percentile(rounds.iter().map(|r| r.whole).collect(), 99),
            sign_hash_p50_ms: percentile(rounds.iter().map(|r| r.sign_hash).collect(), 50),
            cpu_ms_per_signature: 1000.0 / per_second(signatures, cpu),
            rounds: rounds.len(),
        })
    }
}

fn percentile(mut all: Vec<Duration>, percent: usize) -> f64 {
    all.sort_unstable();
    let at = (all.len() * percent / 100).min(all.len().saturating_sub(1));
    all.get(at).map_or(0.0, |d| d.as_secs_f64() * 1000.0)
}

/// CPU time of this process so far, user and system (proc(5): fields 14 and 15, in hundredths of a second).
fn cpu_time() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")
        .context("CPU time can't be read on this system")?;
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks = |i: usize| {
        fields
            .get(i)
            .and_then(|f| f.parse::<u64>().ok())
            .unwrap_or(0)
    };
    Ok(Duration::from_millis((ticks(11) + ticks(12)) * 10))
}

async fn pdf_row(dir: &Path, megabytes: usize) -> Result<Pdf> {
    let input = dir.join(format!("{megabytes}.pdf"));
    std::fs::write(&input, big_pdf(megabytes)?)?;
    let made = SoftBackend.generate(KeyAlg::P256)?;
    let private = SoftBackend.load(KeyAlg::P256, &made.material)?;
    let urls = dev_ca::Urls::under("http://localhost:1");
    let ca = dev_ca::DevCa::open(
        &dir.join("ca"),
        urls,
        Arc::new(SystemClock),
        Arc::new(SystemRandom),
    )?;
    let subject = dev_ca::ra::subject_name(&sap::enrol::Subject {
        common_name: "Bench".to_owned(),
        country: "JP".to_owned(),
        organization: None,
        serial_number: "BENCH".to_owned(),
    })?;
    let chain = ca.issue_for_key(&made.spki, &subject, 1)?;
    let certificate = chain.iter().map(|c| c.der().to_vec()).collect();
    let (copy, copy_peak_mib) = with_peak(|| copy_and_hash(&input, &dir.join("copy")))?;
    let alg = SigAlg::Ecdsa(HashAlg::Sha256);
    let request = signing_job::Request {
        input: input.clone(),
        output: dir.join(format!("{megabytes}-signed.pdf")),
        chain: certificate,
        alg,
        signing_time: SystemClock.now(),
        time_stamp: false,
        reason: None,
        location: None,
        field_name: None,
    };
    reset_peak()?;
    let before = peak_kib()?;
    let begun = now();
    let prepared = signing_job::prepare(&request)?;
    let value = private.sign(alg, prepared.hash_to_sign())?;
    prepared.finish(&value, None).await?;
    let elapsed = begun.elapsed();
    let peak_mib = mib(peak_kib()?.saturating_sub(before));
    std::fs::remove_file(&input)?;
    let (sign_ms, copy_and_hash_ms) = (elapsed.as_secs_f64() * 1000.0, copy.as_secs_f64() * 1000.0);
    Ok(Pdf {
        megabytes,
        sign_ms,
        copy_and_hash_ms,
        ratio_to_copy: sign_ms / copy_and_hash_ms.max(1e-9),
        peak_mib,
        copy_peak_mib,
    })
}

/// A one-page file with a stream of so many megabytes that no viewer has to look at.
fn big_pdf(megabytes: usize) -> Result<Vec<u8>> {
    let mut pdf = Builder::new("1.7");
    let mut filler = vec![0; megabytes * 1_000_000];
    SystemRandom.fill(&mut filler);
    let big = pdf.add_stream(Dict::new(), &filler);
    let pages = pdf.reserve();
    let page = pdf.add_object(format!(
        "<< /Type /Page /Parent {} 0 R /MediaBox [0 0 595 842] >>",
        pages.num
    ));
    pdf.set_object(
        pages,
        format!("<< /Type /Pages /Kids [{} 0 R] /Count 1 >>", page.num),
    );
    let root = pdf.add_object(format!(
        "<< /Type /Catalog /Pages {} 0 R /Big {} 0 R >>",
        pages.num, big.num
    ));
    pdf.finish(root, None, [7; 16])
        .context("the file can't be made")
}

fn copy_and_hash(from: &Path, to: &Path) -> Result<()> {
    use std::io::{Read as _, Write as _};
    let (mut input, mut output) = (std::fs::File::open(from)?, std::fs::File::create(to)?);
    let mut context = aws_lc_rs::digest::Context::new(HashAlg::Sha256.aws());
    let mut chunk = vec![0; 1 << 20];
    loop {
        let n = input.read(&mut chunk)?;
        if n == 0 {
            break;
        }
        context.update(&chunk[..n]);
        output.write_all(&chunk[..n])?;
    }
    output.sync_all()?;
    std::fs::remove_file(to)?;
    Ok(())
}

fn with_peak(work: impl FnOnce() -> Result<()>) -> Result<(Duration, f64)> {
    reset_peak()?;
    let before = peak_kib()?;
    let begun = now();
    work()?;
    let elapsed = begun.elapsed();
    Ok((elapsed, mib(peak_kib()?.saturating_sub(before))))
}

/// Sets the high-water mark of this process's memory to what it uses now (proc(5), `clear_refs`).
fn reset_peak() -> Result<()> {
    std::fs::write("/proc/self/clear_refs", "5")
        .context("the memory mark can't be reset on this system")
}

fn peak_kib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find(|l| l.starts_with("VmHWM:"))
        .context("no VmHWM")?;
    Ok(line
        .split_whitespace()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(0))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "memory in KiB is far below 2^52"
)]
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
