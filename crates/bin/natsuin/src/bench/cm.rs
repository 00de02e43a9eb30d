//! `natsuin bench cm`: what the cryptographic module costs beside its back end alone, without network, on SQLite with
//! durable commits.
//!
//! *Alone* is the back end's own signing: the library for software, sessions of the PKCS#11 library for tokens. The
//! module adds admission of the order, seals, the key's counters, the audit row and the commit. Recovery from faults is
//! timed by the drill (`cargo test -p pkcs11-faults --test drill -- --nocapture`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cm_api::rpc::StatementRequest;
use cm_api::{ExecuteRequest, Executed, KeyCreated, Order, OrderBody, OrderKind, SignItem};
use cm_core::backend::{Backend, PrivateKey};
use cm_core::{MIGRATIONS, Module, ModuleConfig, RootSecret};
use cm_pkcs11::{Options, Pkcs11Backend, WrappedKeys};
use cm_soft::SoftBackend;
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::{
    Clock as _, Digest32, KeyAlg, Level, PersonId, Random as _, SecretBytes, SigAlg, TenantId,
    sha256,
};
use jose::{SealKey, SigningKey};
use serde::Serialize;
use store_kit::{Store, StoreUrl};

use super::measure::{now, per_second, percentile};
use crate::output::Out;

const KINDS: [KeyAlg; 4] = [KeyAlg::P256, KeyAlg::P384, KeyAlg::Rsa3072, KeyAlg::Ed25519];
/// Signatures of one order, when many are ordered at once.
const BATCH: usize = 100;
const SAM: &str = "bench";
const EPOCH: Digest32 = Digest32([9; 32]);

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct CmArgs {
    /// PKCS#11 module, such as SoftHSM2's: its token is measured too, with keys in it and wrapped by it. A token with the
    /// label natsuin-bench is made if there is none.
    #[arg(long, value_name = "MODULE")]
    pub pkcs11: Option<PathBuf>,
    /// Make so many more keys of P-256 in the software module, and measure one order again beside them.
    #[arg(long, default_value_t = 0)]
    pub keys: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct Results {
    schema: &'static str,
    cores: usize,
    rows: Vec<Row>,
    scale: Option<Scale>,
}

/// One back end and kind of key. Rates are signatures a second, times milliseconds of one order.
#[derive(Debug, Serialize)]
struct Row {
    backend: &'static str,
    key: KeyAlg,
    alone_one: f64,
    alone_all: f64,
    module_one: f64,
    module_all: f64,
    module_batch: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// Batches by the module beside the back end alone, both on all cores.
    ratio: f64,
    generate_ms: f64,
}

/// Latency of one order before and after the store has grown.
#[derive(Debug, Serialize)]
struct Scale {
    keys: usize,
    before_p50_ms: f64,
    after_p50_ms: f64,
    after_p99_ms: f64,
}

/// Measures, and prints as it goes.
pub(super) async fn run(span: Duration, args: CmArgs, out: Out) -> Result<Results> {
    let cores = service_kit::cores();
    out.say(&format!(
        "{cores} cores; the module alone: no network; SQLite, durable commits; batches of {BATCH}"
    ));
    let scratch = tempfile::Builder::new()
        .prefix("natsuin-bench-")
        .tempdir()?;
    let mut backends: Vec<Arc<dyn Backend>> = vec![Arc::new(SoftBackend)];
    if let Some(module) = args.pkcs11 {
        let options = Options {
            module,
            label: "natsuin-bench".to_owned(),
            pin: SecretBytes::from("natsuin-bench".to_owned()),
            declaration: None,
        };
        Pkcs11Backend::initialise(&options)?;
        backends.push(Arc::new(Pkcs11Backend::open(&options)?));
        backends.push(Arc::new(WrappedKeys::open(
            Pkcs11Backend::open(&options)?,
            None,
        )?));
    }
    let mut rows = Vec::new();
    let mut scale = None;
    for backend in backends {
        let bench = Bench::start(scratch.path(), backend.clone()).await?;
        for alg in KINDS {
            let Some(row) = row(&bench, alg, span, cores).await? else {
                out.say(&format!(
                    "{:<15} {:<9} not to be had",
                    backend.name(),
                    alg.name()
                ));
                continue;
            };
            out.say(&format!(
                "{:<15} {:<9} alone {:>8.0}/s ({:>8.0}/s on all cores)   order of one {:>7.0}/s ({:>7.0}/s), p50 {:>6.2} ms, \
                 p99 {:>6.2} ms   batches {:>8.0}/s, ratio {:>5.2}   generate {:>7.1} ms",
                row.backend, alg.name(), row.alone_one, row.alone_all, row.module_one, row.module_all, row.p50_ms, row.p99_ms,
                row.module_batch, row.ratio, row.generate_ms
            ));
            rows.push(row);
        }
        if backend.name() == "software" && args.keys > 0 {
            let found = grow(&bench, args.keys, span).await?;
            out.say(&format!(
                "with {} more keys: one order p50 {:.2} ms before, {:.2} ms after (p99 {:.2} ms)",
                found.keys, found.before_p50_ms, found.after_p50_ms, found.after_p99_ms
            ));
            scale = Some(found);
        }
    }
    Ok(Results {
        schema: "natsuin.bench-cm/1",
        cores,
        rows,
        scale,
    })
}

/// A module, and the SAM that gives it orders.
struct Bench {
    module: Arc<Module>,
    backend: Arc<dyn Backend>,
    act: Arc<SigningKey>,
    statement: String,
}

impl Bench {
    async fn start(dir: &std::path::Path, backend: Arc<dyn Backend>) -> Result<Self> {
        let url = format!(
            "sqlite:{}",
            dir.join(format!("{}.db", backend.name())).display()
        );
        let store = Store::open(&StoreUrl::parse(&url)?, "cm", MIGRATIONS, &SystemRandom).await?;
        let root = RootSecret::new(SecretBytes::new(SystemRandom.digest32().0.to_vec()));
        let module = Module::start(
            ModuleConfig {
                act_uses: u64::MAX,
                ..ModuleConfig::new(SAM, "cm-1", u64::MAX)
            },
            backend.clone(),
            store,
            &root.context("32 bytes")?,
            Arc::new(SystemClock),
            Arc::new(SystemRandom),
        )
        .await?;
        let ((act, _), (seal, _)) = (SigningKey::generate()?, SealKey::generate()?);
        let now = SystemClock.now();
        let request = StatementRequest {
            sam: SAM.to_owned(),
            epoch: EPOCH,
            act: act.public().clone(),
            seal: seal.public().clone(),
            nbf: now,
            exp: now.plus(48 * 3600),
        };
        let statement = module.statement(request).await?.statement;
        Ok(Self {
            module: Arc::new(module),
            backend,
            act: Arc::new(act),
            statement,
        })
    }

    fn order(&self, kind: OrderKind) -> Result<ExecuteRequest> {
        let body = OrderBody {
            sam: SAM.to_owned(),
            order: kind.name().unwrap_or_else(|| SystemRandom.digest32()),
            epoch: EPOCH,
            exp: SystemClock.now().plus(30),
            kind,
        };
        Ok(ExecuteRequest {
            statement: self.statement.clone(),
            order: Order::seal(&body, &self.act)?,
        })
    }

    /// A new key, or nothing when the back end makes none of this kind.
    async fn key(&self, alg: KeyAlg) -> Result<Option<KeyCreated>> {
        let order = self.order(OrderKind::Generate {
            tenant: TenantId::parse("bench")?,
            owner: PersonId::parse("bench")?,
            alg,
            level: Level::One,
            act: Digest32([1; 32]),
            exportable: false,
        })?;
        match self.module.execute(&order).await {
            Ok(Executed::Created(key)) => Ok(Some(key)),
            Err(cm_api::ModuleError::Refused(cm_api::Refusal::NotAllowed(_))) => Ok(None),
            other => bail!("a key was ordered: {other:?}"),
        }
    }

    fn sign(&self, key: &KeyCreated, alg: SigAlg, count: usize) -> Result<ExecuteRequest> {
        let item = |i: u32| SignItem::of_message(i, alg, &i.to_be_bytes());
        self.order(OrderKind::Sign {
            key: key.key.clone(),
            version: key.version,
            spki: sha256(&[&key.spki.0]),
            alg,
            items: (0..u32::try_from(count)?).map(item).collect(),
            act: SystemRandom.digest32(),
            proof: Digest32([3; 32]),
            approved: SystemClock.now(),
            renewable: false,
            step: 0,
            attempt: 0,
            counter_sign: None,
        })
    }

    /// Orders of so many signatures by so many askers at once; answers signatures a second, and the time of each order.
    async fn rate(
        &self,
        key: &KeyCreated,
        alg: SigAlg,
        batch: usize,
        askers: usize,
        span: Duration,
    ) -> Result<(f64, Vec<Duration>)> {
        let begun = now();
        let ask = async || -> Result<Vec<Duration>> {
            let mut times = Vec::new();
            while begun.elapsed() < span {
                let order = self.sign(key, alg, batch)?;
                let sent = now();
                self.module.execute(&order).await?;
                times.push(sent.elapsed());
            }
            Ok(times)
        };
        let all = futures_util::future::join_all((0..askers).map(|_| ask())).await;
        let mut times = Vec::new();
        for some in all {
            times.extend(some?);
        }
        Ok((per_second(times.len() * batch, begun.elapsed()), times))
    }
}

async fn row(bench: &Bench, alg: KeyAlg, span: Duration, cores: usize) -> Result<Option<Row>> {
    let begun = now();
    let Some(key) = bench.key(alg).await? else {
        return Ok(None);
    };
    let generate_ms = super::measure::millis(begun.elapsed());
    let sig = alg.csr_alg();
    let made = bench.backend.generate(alg)?;
    let own: Arc<dyn PrivateKey> = Arc::from(bench.backend.load(alg, &made.material)?);
    let alone_one = alone(&own, sig, 1, span);
    let alone_all = alone(&own, sig, cores, span);
    if let Some(place) = bench.backend.elsewhere(&made.material) {
        bench.backend.erase(&place)?;
    }
    let (module_one, times) = bench.rate(&key, sig, 1, 1, span).await?;
    let (module_all, _) = bench.rate(&key, sig, 1, cores * 4, span).await?;
    let (module_batch, _) = bench.rate(&key, sig, BATCH, 2, span).await?;
    Ok(Some(Row {
        backend: bench.backend.name(),
        key: alg,
        alone_one,
        alone_all,
        module_one,
        module_all,
        module_batch,
        p50_ms: percentile(times.clone(), 50),
        p99_ms: percentile(times, 99),
        ratio: module_batch / alone_all.max(1e-9),
        generate_ms,
    }))
}

/// The back end alone.
fn alone(key: &Arc<dyn PrivateKey>, alg: SigAlg, threads: usize, span: Duration) -> f64 {
    let begun = now();
    let threads: Vec<_> = (0..threads)
        .map(|_| {
            let key = key.clone();
            std::thread::spawn(move || {
                let mut count = 0_usize;
                while begun.elapsed() < span {
                    let message = alg.dtbs(&count.to_be_bytes());
                    if key.sign(alg, &message).is_err() {
                        break;
                    }
                    count += 1;
                }
                count
            })
        })
        .collect();
    let count = threads.into_iter().filter_map(|t| t.join().ok()).sum();
    per_second(count, begun.elapsed())
}

async fn grow(bench: &Bench, keys: usize, span: Duration) -> Result<Scale> {
    let alg = KeyAlg::P256.csr_alg();
    let key = bench.key(KeyAlg::P256).await?.context("a key of P-256")?;
    let (_, before) = bench.rate(&key, alg, 1, 1, span).await?;
    let make = async |count: usize| -> Result<()> {
        for _ in 0..count {
            bench.key(KeyAlg::P256).await?.context("a key of P-256")?;
        }
        Ok(())
    };
    let askers = 32;
    let all =
        futures_util::future::join_all((0..askers).map(|_| make(keys.div_ceil(askers)))).await;
    all.into_iter().collect::<Result<Vec<()>>>()?;
    let (_, after) = bench.rate(&key, alg, 1, 1, span).await?;
    Ok(Scale {
        keys,
        before_p50_ms: percentile(before, 50),
        after_p50_ms: percentile(after.clone(), 50),
        after_p99_ms: percentile(after, 99),
    })
}
