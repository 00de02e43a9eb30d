//! The module as its daemon serves it: behind a socket with mutual TLS, with a store on disk, durable commits and the
//! sequencer of its log; and the SAM that gives it orders.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use audit_log::{LogKey, Sequencer};
use cm_api::rpc::{Execute, Statement, StatementRequest};
use cm_api::{
    ExecuteRequest, Executed, KeyCreated, Order, OrderBody, OrderKind, Refusal, SignItem,
};
use cm_core::backend::Backend;
use cm_core::{MIGRATIONS, Module, ModuleConfig, Policy, RootSecret};
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::{
    Clock as _, Digest32, KeyAlg, Level, PersonId, Random as _, SecretBytes, SigAlg, TenantId,
    sha256,
};
use dev_ca::{DevCa, Urls};
use jose::{SealKey, SigningKey};
use service_kit::http::HttpOptions;
use service_kit::rpc::CallError;
use service_kit::{Client, Running, Shutdown, bind, serve, tls};
use store_kit::{Store, StoreUrl};
use tokio::sync::watch;

use super::super::measure::{now, per_second};

const SAM: &str = "bench";
/// Names in the certificates of the two sides.
const CM_NAME: &str = "cm.localhost";
const SAM_NAME: &str = "sam.localhost";
const EPOCH: Digest32 = Digest32([9; 32]);
/// How often entries get their place in the log, as in the daemon.
const SEQUENCE_EVERY: Duration = Duration::from_secs(10);

/// A running module and its SAM.
pub(super) struct Daemon {
    pub(super) module: Arc<Module>,
    pub(super) sam: Arc<Sam>,
    client: Client,
    stop: watch::Sender<bool>,
    running: Running,
    sequencing: tokio::task::JoinHandle<()>,
}

impl Daemon {
    /// Starts it in this directory, on `store` or on an SQLite file there, with kinds of key that are experimental or without them.
    pub(super) async fn start(
        dir: &Path,
        backend: Arc<dyn Backend>,
        store: Option<&str>,
        experiments: bool,
    ) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let url = match store {
            Some(url) => url.to_owned(),
            None => format!("sqlite:{}", dir.join("cm.db").display()),
        };
        let store = Store::open(&StoreUrl::parse(&url)?, "cm", MIGRATIONS, &SystemRandom).await?;
        let config = ModuleConfig {
            act_uses: u64::MAX,
            ..ModuleConfig::new(SAM, "cm-1", u64::MAX)
        };
        let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
        let secret = root(dir)?;
        let policy = Policy::built_in()?.experiments(experiments);
        let module = Module::start_with(
            config,
            policy,
            backend,
            store.clone(),
            &secret,
            clock.clone(),
            random.clone(),
        );
        let module = Arc::new(module.await?);
        let seed = SecretBytes::new(vec![8; 32]);
        let key = LogKey::from_seed("natsuin.bench/cm", &seed)?;
        let witness = Some(dir.join("witness.txt"));
        let sequencer = Sequencer::open(module.audit().clone(), key, witness, &store).await?;
        let ca = DevCa::open(
            &dir.join("ca"),
            Urls::under("http://127.0.0.1:1"),
            clock,
            random,
        )?;
        let identity = ca.service_cert("cm", &[CM_NAME])?;
        let mutual = tls::mutual_server(&identity, &ca.internal_ca_pem())?;
        let (stop, shutdown) = Shutdown::new();
        let running = serve(
            bind(([127, 0, 0, 1], 0).into()).await?,
            cm_core::router(module.clone(), SAM_NAME),
            Some(mutual),
            shutdown,
        )?;
        let options = HttpOptions {
            ca_pem: Some(ca.internal_ca_pem()),
            identity: Some(ca.service_cert("sam", &[SAM_NAME])?),
            ..HttpOptions::default()
        };
        let url = format!("https://{CM_NAME}:{}", running.addr.port());
        let client = Client::new(url, &options)?;
        let (act, (seal, _)) = (act(dir)?, SealKey::generate()?);
        let now = SystemClock.now();
        let mut request = StatementRequest {
            sam: SAM.to_owned(),
            epoch: EPOCH,
            act: act.public().clone(),
            seal: seal.public().clone(),
            nbf: now,
            exp: now.plus(48 * 3600),
            endorsements: Vec::new(),
        };
        request.endorse(&act)?;
        let statement = client.call::<Statement>(&request).await;
        let sequencing = tokio::spawn(async move {
            let error = sequencer.keep(&store, &SystemClock, SEQUENCE_EVERY).await;
            tracing::error!(%error, "the module's log can't be written");
        });
        Ok(Self {
            module,
            client,
            sam: Arc::new(Sam {
                act,
                statement: statement.context("the module's statement")?.statement,
            }),
            stop,
            running,
            sequencing,
        })
    }

    /// Ends it, so that its store can be opened again.
    pub(super) async fn stop(self) {
        drop(self.client);
        self.stop.send_replace(true);
        drop(self.stop);
        self.running.stopped().await;
        self.sequencing.abort();
        drop(self.sequencing.await);
    }

    /// A new key, or nothing when the back end makes none of this kind.
    pub(super) async fn key(&self, alg: KeyAlg) -> Result<Option<KeyCreated>> {
        let order = self.sam.generate(alg)?;
        match self.client.call::<Execute>(&order).await {
            Ok(Executed::Created(key)) => Ok(Some(key)),
            Err(CallError::Refused(Refusal::NotAllowed(_))) => Ok(None),
            other => bail!("a key was ordered: {other:?}"),
        }
    }

    /// One signature.
    pub(super) async fn once(&self, key: &KeyCreated, alg: SigAlg) -> Result<()> {
        let order = self.sam.sign(key, alg, 1)?;
        match self.client.call::<Execute>(&order).await {
            Ok(Executed::Signed(_)) => Ok(()),
            other => bail!("a signature was ordered: {other:?}"),
        }
    }

    /// Orders of so many signatures by so many askers at once, on these keys in turn; answers signatures a second, and the time
    /// of each order from request to answer.
    pub(super) async fn rate(
        &self,
        keys: &[KeyCreated],
        alg: SigAlg,
        batch: usize,
        askers: usize,
        span: Duration,
    ) -> Result<(f64, Vec<Duration>)> {
        let begun = now();
        let ask = async |first: usize| -> Result<Vec<Duration>> {
            let mut times = Vec::new();
            for key in keys.iter().cycle().skip(first) {
                if begun.elapsed() >= span {
                    break;
                }
                let order = self.sam.sign(key, alg, batch)?;
                let sent = now();
                let signed = self.client.call::<Execute>(&order).await;
                times.push(sent.elapsed());
                if !matches!(signed, Ok(Executed::Signed(values)) if values.len() == batch) {
                    bail!("signatures were ordered, and didn't come");
                }
            }
            Ok(times)
        };
        let all = futures_util::future::join_all((0..askers).map(ask)).await;
        let mut times = Vec::new();
        for some in all {
            times.extend(some?);
        }
        Ok((per_second(times.len() * batch, begun.elapsed()), times))
    }
}

/// Seconds for which an order is good: so short that none waits for a device that is away, since the drill measures what the
/// call costs.
const LIFE: i64 = 10;

/// Who gives the orders.
pub(super) struct Sam {
    act: SigningKey,
    statement: String,
}

impl Sam {
    fn order(&self, kind: OrderKind) -> Result<ExecuteRequest> {
        let body = OrderBody {
            sam: SAM.to_owned(),
            order: kind.name().unwrap_or_else(|| SystemRandom.digest32()),
            epoch: EPOCH,
            exp: SystemClock.now().plus(LIFE),
            kind,
        };
        Ok(ExecuteRequest {
            statement: self.statement.clone(),
            order: Order::seal(&body, &self.act)?,
        })
    }

    fn generate(&self, alg: KeyAlg) -> Result<ExecuteRequest> {
        self.order(OrderKind::Generate {
            tenant: TenantId::parse("bench")?,
            owner: PersonId::parse("bench")?,
            alg,
            level: Level::One,
            act: Digest32([1; 32]),
            exportable: false,
            one_time: false,
        })
    }

    /// A new key by an order that takes the short way, for a store that is to grow.
    pub(super) async fn key_without_socket(
        &self,
        module: &Module,
        alg: KeyAlg,
    ) -> Result<KeyCreated> {
        match module.execute(&self.generate(alg)?).await {
            Ok(Executed::Created(key)) => Ok(key),
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
}

/// The SAM's key: the module lets no other one follow when it is started again.
fn act(dir: &Path) -> Result<SigningKey> {
    let path = dir.join("act.key");
    if !path.exists() {
        std::fs::write(&path, SigningKey::generate()?.1.expose())?;
    }
    Ok(SigningKey::from_pkcs8(&SecretBytes::new(std::fs::read(
        path,
    )?))?)
}

/// The root secret of this directory's module.
fn root(dir: &Path) -> Result<RootSecret> {
    let path = dir.join("root.key");
    if !path.exists() {
        std::fs::write(&path, SystemRandom.digest32().0)?;
    }
    RootSecret::new(SecretBytes::new(std::fs::read(path)?)).context("a root secret has 32 bytes")
}
