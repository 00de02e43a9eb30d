//! Starting the zones in order: CA, module, SAM, gateway, SSA, application.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use audit_log::{AuditLog, LogKey, Sequencer};
use axum::Router;
use cm_core::backend::Backend;
use cm_core::{Module, ModuleConfig, RootSecret};
use cm_pkcs11::Pkcs11Backend;
use cm_soft::SoftBackend;
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::{Clock, Level, Random, SecretBytes, TenantId};
use csc_client::ClientCredentials;
use csc_types::SecretText;
use dev_ca::{DevCa, Ra, Urls};
use sam_core::Policy;
use sam_core::passkey::RelyingParty;
use sam_service::{RemoteModule, Sam, SamConfig};
use service_kit::http::HttpOptions;
use service_kit::{Client, Identity, Running, Shutdown, Trouble, bind, serve, tls};
use sic_core::Trust;
use sic_gateway::{GatewayConfig, Rate};
use ssa_service::{HttpCertifier, PasswordCost, Ports as SsaPorts, Ssa};
use store_kit::{Store, StoreUrl};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::files::DataDir;
use super::state::{Ports, State};

/// Name of the one SAM, as in acts.
const SAM: &str = "sam.natsuin.localhost";
/// Names in the certificates of the zones.
const NAME_CM: &str = "cm.natsuin.internal";
const NAME_SAM: &str = "sam.natsuin.internal";
const NAME_SSA: &str = "ssa.natsuin.internal";
const NAME_SIC: &str = "sic.natsuin.internal";
/// How often entries get their place in the log.
const SEQUENCE_EVERY: Duration = Duration::from_secs(2);
/// How often what has ended is given up and pruned.
const MAINTAIN_EVERY: Duration = Duration::from_secs(60);
const MAX_USES: u64 = 100_000_000;

/// Where the zones keep their rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreChoice {
    /// A SQLite file a zone, in the data directory.
    Embedded,
    /// One PostgreSQL database, a schema a zone.
    Postgres(String),
}

/// How to start.
#[derive(Debug, Clone)]
pub struct Options {
    /// Directory of the stack.
    pub data: PathBuf,
    /// First port; the next ones follow. 0 = any that is free.
    pub port: u16,
    /// Store.
    pub store: StoreChoice,
    /// Everything over HTTPS with the development CA.
    pub tls: bool,
    /// PKCS#11 module in which keys are made and kept, instead of software.
    pub pkcs11: Option<PathBuf>,
    /// For benchmarks: the gateway lets one address call as often as it can.
    pub load: bool,
}

/// A running stack.
pub struct Stack {
    /// Origin of portal, OAuth 2 and CSC.
    pub ssa_url: String,
    /// Origin of the SIC page.
    pub sic_url: String,
    /// Origin of the e-contract application.
    pub sca_url: String,
    /// Origin of CA, OCSP, CRL and TSA.
    pub ca_url: String,
    /// The development CA.
    pub ca: Arc<DevCa>,
    /// Pinned roots for the signer's side.
    pub trust: Trust,
    /// HTTP client that trusts the development CA and knows `*.localhost`.
    pub http: reqwest::Client,
    /// Port of each public listener.
    pub ports: Vec<(&'static str, u16)>,
    pub(super) ra: Arc<Ra>,
    pub(super) ssa: Ssa,
    pub(super) data: DataDir,
    pub(super) state: State,
    pub(super) tenant: TenantId,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    sequencers: Vec<Zone>,
    shutdown: watch::Sender<bool>,
    failed: watch::Receiver<Option<String>>,
    running: Vec<Running>,
}

/// A zone's log and the store it lies in.
#[derive(Clone)]
struct Zone {
    name: &'static str,
    sequencer: Arc<Sequencer>,
    store: Store,
}

/// The public listeners, bound before anything starts, so that every URL is known.
struct Listeners {
    ssa: TcpListener,
    sic: TcpListener,
    sca: TcpListener,
    ca: TcpListener,
}

impl Listeners {
    async fn bind(first: u16, last: Ports) -> Result<(Self, Ports), Trouble> {
        let nth = |n: u16, before: u16| {
            if first == 0 {
                before
            } else {
                first.saturating_add(n)
            }
        };
        let ssa = listener(nth(0, last.ssa), first == 0).await?;
        let sic = listener(nth(1, last.sic), first == 0).await?;
        let sca = listener(nth(2, last.sca), first == 0).await?;
        let ca = listener(nth(3, last.ca), first == 0).await?;
        let ports = Ports {
            ssa: port(&ssa)?,
            sic: port(&sic)?,
            sca: port(&sca)?,
            ca: port(&ca)?,
        };
        Ok((Self { ssa, sic, sca, ca }, ports))
    }
}

/// Binds a port of the loopback; `any`: another one will do if it is taken.
async fn listener(port: u16, any: bool) -> Result<TcpListener, Trouble> {
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match bind(at(port)).await {
        Err(_) if any && port != 0 => bind(at(0)).await,
        bound => bound,
    }
}

fn port(listener: &TcpListener) -> Result<u16, Trouble> {
    let addr = listener.local_addr();
    addr.map(|a| a.port()).map_err(|e| {
        Trouble::new(
            "cannot-listen",
            format!("a socket has no address: {e}"),
            "start again",
        )
    })
}

/// What the steps of a start share.
struct Kit {
    data: DataDir,
    store: StoreChoice,
    pkcs11: Option<PathBuf>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    ca: Arc<DevCa>,
    internal_ca: String,
    shutdown: Shutdown,
    running: Vec<Running>,
    zones: Vec<Zone>,
}

impl Kit {
    async fn open(
        &self,
        zone: &'static str,
        tables: &[store_kit::Migrations],
    ) -> Result<Store, Trouble> {
        let url = match &self.store {
            StoreChoice::Embedded => format!(
                "sqlite:{}",
                self.data.join(&format!("{zone}/{zone}.db")).display()
            ),
            StoreChoice::Postgres(url) => url.clone(),
        };
        let url = StoreUrl::parse(&url).map_err(|e| store_trouble(zone, &e))?;
        Store::open(&url, zone, tables, self.random.as_ref())
            .await
            .map_err(|e| store_trouble(zone, &e))
    }

    async fn log(
        &mut self,
        zone: &'static str,
        log: AuditLog,
        store: &Store,
    ) -> Result<(), Trouble> {
        let key = log_key_in(&self.data, zone, self.random.as_ref())?;
        self.data
            .keep(&format!("witness/{zone}.pub"), &key.public())?;
        let witness = Some(self.data.join(&format!("witness/{zone}.txt")));
        let opened = Sequencer::open(log, key, witness, store).await;
        let sequencer = Arc::new(opened.map_err(|e| audit_trouble(zone, &e))?);
        self.zones.push(Zone {
            name: zone,
            sequencer,
            store: store.clone(),
        });
        Ok(())
    }

    fn identity(&self, name: &str) -> Result<Identity, Trouble> {
        self.ca
            .service_cert(name, &[name, "localhost"])
            .map_err(|e| ca_trouble(&e))
    }

    /// A listener between zones; answers with its base URL.
    async fn mutual(&mut self, name: &str, router: Router) -> Result<String, Trouble> {
        let config = tls::mutual_server(&self.identity(name)?, &self.internal_ca)?;
        let running = serve(
            listener(0, true).await?,
            router,
            Some(config),
            self.shutdown.clone(),
        )?;
        let url = format!("https://localhost:{}", running.addr.port());
        self.running.push(running);
        Ok(url)
    }

    fn client(&self, base: &str, as_whom: &str) -> Result<Client, Trouble> {
        Client::new(base, &self.inside(as_whom)?)
    }

    fn inside(&self, as_whom: &str) -> Result<HttpOptions, Trouble> {
        let identity = Some(self.identity(as_whom)?);
        Ok(HttpOptions {
            ca_pem: Some(self.internal_ca.clone()),
            identity,
            ..HttpOptions::default()
        })
    }
}

impl Stack {
    /// Starts everything; returns when every part answers.
    ///
    /// # Errors
    /// [`Trouble`]: what happened and what to do.
    pub async fn start(
        options: &Options,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<Self, Trouble> {
        tls::install_provider();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let random: Arc<dyn Random> = Arc::new(SystemRandom);
        let data = DataDir::open(&options.data)?;
        let mut state: State = data.load("state.json")?.unwrap_or_default();
        let (listeners, ports) = Listeners::bind(options.port, state.ports).await?;
        state.ports = ports;

        let scheme = if options.tls { "https" } else { "http" };
        let ssa_url = format!("{scheme}://localhost:{}", ports.ssa);
        let sic_url = format!("{scheme}://sic.localhost:{}", ports.sic);
        let sca_url = format!("{scheme}://localhost:{}", ports.sca);
        let ca_url = format!("{scheme}://localhost:{}", ports.ca);

        let opened = DevCa::open(
            &data.join("ca"),
            Urls::under(&ca_url),
            clock.clone(),
            random.clone(),
        );
        let ca = Arc::new(opened.map_err(|e| ca_trouble(&e))?);
        let public_tls = if options.tls {
            Some(tls::public_server(
                &ca.localhost_cert(&["localhost", "sic.localhost"])
                    .map_err(|e| ca_trouble(&e))?,
            )?)
        } else {
            None
        };
        let (stop, shutdown) = Shutdown::new();
        let internal_ca = ca.internal_ca_pem();
        let mut kit = Kit {
            data: data.clone(),
            store: options.store.clone(),
            pkcs11: options.pkcs11.clone(),
            clock: clock.clone(),
            random: random.clone(),
            ca: ca.clone(),
            internal_ca,
            shutdown: shutdown.clone(),
            running: Vec::new(),
            zones: Vec::new(),
        };
        let public =
            |listener, router| serve(listener, router, public_tls.clone(), shutdown.clone());
        let tenant = TenantId::parse("dev").map_err(|_| bug("tenant"))?;
        progress("ca");
        let running = public(listeners.ca, dev_ca::routes::public(ca.clone()))?;
        kit.running.push(running);

        let module_url = start_module(&mut kit).await?;
        progress("cm");
        let root_pin = state.root.clone();
        let ra_key = ca_ra_key(&ca)?;
        let config = SamConfig {
            sam: SAM.to_owned(),
            node: "sam-1".to_owned(),
            tenant: tenant.clone(),
            relying_party: RelyingParty {
                origin: sic_url.clone(),
                rp_id: "sic.localhost".to_owned(),
            },
            return_prefixes: vec![format!("{ssa_url}/")],
            registration_authorities: vec![ra_key],
            issuers: vec![ca.root().der().to_vec()],
            policy: Policy::default(),
            clients: super::seed::known_clients(),
            services: vec![NAME_SSA.to_owned()],
            gateways: vec![NAME_SIC.to_owned()],
        };
        let (sam_for_ssa, sam_for_sic, sam) =
            start_sam(&mut kit, config, &module_url, root_pin).await?;
        let root = sam.root().clone();
        state.root = Some(root.clone());
        data.save("state.json", &state)?;
        progress("sam");

        let trust = Trust::new(vec![root.clone()], sic_url.clone()).map_err(|_| bug("trust"))?;
        let mut gateway = GatewayConfig::new(vec![root.clone()], sic_url.clone())
            .map_err(|e| Trouble::new("bad-config", e.to_string(), "choose another --port"))?;
        gateway.dev = true;
        gateway.help = Some(ssa_url.clone());
        if options.load {
            gateway.rate = Rate {
                burst: u32::MAX,
                per_minute: u32::MAX,
            };
        }
        let forward = kit.client(&sam_for_sic, NAME_SIC)?;
        kit.running.push(public(
            listeners.sic,
            sic_gateway::router(gateway, forward, clock.clone()),
        )?);
        progress("sic");

        let ra = Arc::new(
            Ra::new(ca.clone(), SAM, vec![root]).map_err(|_| bug("registration authority"))?,
        );
        let ra_url = kit
            .mutual("ra.natsuin.internal", dev_ca::routes::ra(ra.clone()))
            .await?;
        let ssa = start_ssa(&mut kit, &ssa_url, &sic_url, &tenant, &sam_for_ssa, &ra_url).await?;
        kit.running.push(public(listeners.ssa, ssa.router())?);
        progress("ssa");

        let anchors = std::fs::read_to_string(ca.trust_anchors_file()).map_err(|e| {
            Trouble::new(
                "data-dir",
                format!("the trust anchors can't be read: {e}"),
                "check --data",
            )
        })?;
        let http_options = HttpOptions {
            ca_pem: Some(anchors.clone()),
            ..HttpOptions::default()
        };
        let http = service_kit::http::client(&http_options)?;
        let (failed_sender, failed) = watch::channel(None);
        let sequencers = kit.zones.clone();
        background(&kit, sam, failed_sender);
        let running = std::mem::take(&mut kit.running);
        let mut stack = Self {
            ports: vec![
                ("ssa", ports.ssa),
                ("sic", ports.sic),
                ("sca", ports.sca),
                ("ca", ports.ca),
            ],
            ssa_url,
            sic_url,
            sca_url,
            ca_url,
            ca,
            trust,
            http,
            ra,
            ssa,
            data,
            state,
            tenant,
            clock,
            random,
            sequencers,
            shutdown: stop,
            failed,
            running,
        };
        stack.seed_clients().await?;
        let sca = stack.sca_router(&anchors)?;
        let running = public(listeners.sca, sca)?;
        stack.running.push(running);
        progress("sca");
        Ok(stack)
    }

    fn sca_router(&self, anchors: &str) -> Result<Router, Trouble> {
        let client = self
            .client("demo-app")
            .ok_or_else(|| bug("the application's client"))?;
        let credentials = ClientCredentials {
            client_id: client.client_id.clone(),
            client_secret: client.client_secret.clone().map(SecretText::new),
        };
        let mut config = sca_web::Config::new(
            self.sca_url.clone(),
            format!("{}/csc/v2", self.ssa_url),
            credentials,
            self.data.join("sca"),
        );
        config.http.extra_roots_pem = Some(anchors.as_bytes().to_vec());
        config.tsa_url = Some(self.ca.urls().tsa.clone());
        config.anchors_pem = anchors.to_owned();
        config.private_network = true;
        config.dev = true;
        sca_web::router(config)
            .map_err(|e| Trouble::new("bad-config", e.to_string(), "check --data and --port"))
    }

    /// A registered client by id.
    pub fn client(&self, id: &str) -> Option<&super::DevClient> {
        self.state.clients.iter().find(|c| c.client_id == id)
    }

    /// The signers enrolled so far.
    pub fn signers(&self) -> &[super::DevSigner] {
        &self.state.signers
    }

    /// The registered clients.
    pub fn clients(&self) -> &[super::DevClient] {
        &self.state.clients
    }

    /// Time.
    pub fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    /// The signer's side at this stack's gateway.
    pub fn sic(&self) -> super::Sic {
        super::Sic {
            origin: self.sic_url.clone(),
            http: self.http.clone(),
            trust: self.trust.clone(),
            clock: self.clock.clone(),
            random: self.random.clone(),
        }
    }

    /// Waits until a zone can't go on, such as when its log can't be written.
    pub async fn failed(&self) -> String {
        let mut failed = self.failed.clone();
        match failed.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Stops in order: no new calls, what runs ends, logs are brought up to date.
    pub async fn stop(self) {
        // Nobody listens any more when this fails, which is what stopping wants.
        let _ = self.shutdown.send(true);
        for running in self.running {
            running.stopped().await;
        }
        for zone in &self.sequencers {
            if let Err(error) = zone.sequencer.sequence(&zone.store, self.clock.now()).await {
                tracing::error!(zone = zone.name, %error, "the log could not be brought up to date");
            }
            zone.store.close().await;
        }
    }
}

/// The module's back end. A PKCS#11 module gets a token of its own, made at the first start; its PIN lies with the stack's
/// other secrets. Nobody declared anything for it, so its keys are level 1.
fn backend(kit: &Kit) -> Result<Arc<dyn Backend>, Trouble> {
    let Some(module) = &kit.pkcs11 else {
        return Ok(Arc::new(SoftBackend));
    };
    let pin = kit.data.secret("cm/pkcs11.key", kit.random.as_ref())?;
    let options = cm_pkcs11::Options {
        module: module.clone(),
        label: "natsuin-dev".to_owned(),
        pin: SecretBytes::from(core_types::bytes::b64u(pin.expose())),
        declared: Level::One,
    };
    let opened = Pkcs11Backend::initialise(&options).and_then(|()| Pkcs11Backend::open(&options));
    let opened = opened.map_err(|e| {
        Trouble::new(
            "pkcs11",
            e.to_string(),
            "check --pkcs11 and the module's own configuration, such as SOFTHSM2_CONF",
        )
    })?;
    Ok(Arc::new(opened))
}

/// The key that signs a zone's checkpoints, from the directory of a stack.
///
/// # Errors
/// [`Trouble`] when the directory can't be used.
pub fn log_key(data: &std::path::Path, zone: &'static str) -> Result<LogKey, Trouble> {
    log_key_in(&DataDir::open(data)?, zone, &SystemRandom)
}

fn log_key_in(data: &DataDir, zone: &'static str, random: &dyn Random) -> Result<LogKey, Trouble> {
    let seed = data.secret(&format!("{zone}/log.key"), random)?;
    LogKey::from_seed(&format!("natsuin.localhost/{zone}"), &seed)
        .map_err(|e| audit_trouble(zone, &e))
}

async fn start_module(kit: &mut Kit) -> Result<String, Trouble> {
    let store = kit.open("cm", cm_core::MIGRATIONS).await?;
    let secret = kit.data.secret("cm/root.key", kit.random.as_ref())?;
    let root = RootSecret::new(secret).ok_or_else(|| bug("root secret"))?;
    let config = ModuleConfig {
        sam: SAM.to_owned(),
        node: "cm-1".to_owned(),
        max_uses: MAX_USES,
    };
    let backend = backend(kit)?;
    let started = Module::start(
        config,
        backend,
        store.clone(),
        &root,
        kit.clock.clone(),
        kit.random.clone(),
    )
    .await;
    let module = Arc::new(started.map_err(|e| {
        Trouble::new(
            "cm-start",
            e.to_string(),
            "check that data directory and store belong together",
        )
    })?);
    kit.log("cm", module.audit().clone(), &store).await?;
    kit.mutual(NAME_CM, cm_core::router(module, NAME_SAM)).await
}

async fn start_sam(
    kit: &mut Kit,
    config: SamConfig,
    module_url: &str,
    root: Option<jose::Jwk>,
) -> Result<(String, String, Sam<RemoteModule>), Trouble> {
    let store = kit.open("sam", sam_service::MIGRATIONS).await?;
    let module = RemoteModule::new(kit.client(module_url, NAME_SAM)?);
    let started = Sam::start(
        config,
        module,
        store.clone(),
        root,
        kit.clock.clone(),
        kit.random.clone(),
    )
    .await;
    let sam = started.map_err(|e| {
        Trouble::new(
            "sam-start",
            e.to_string(),
            "check that data directory and store belong together",
        )
    })?;
    kit.log("sam", sam.audit().clone(), &store).await?;
    let for_ssa = kit
        .mutual(NAME_SAM, sam_service::ssa_router(sam.clone()))
        .await?;
    let for_sic = kit
        .mutual(NAME_SAM, sam_service::gateway_router(sam.clone()))
        .await?;
    Ok((for_ssa, for_sic, sam))
}

async fn start_ssa(
    kit: &mut Kit,
    ssa_url: &str,
    sic_url: &str,
    tenant: &TenantId,
    sam_url: &str,
    ra_url: &str,
) -> Result<Ssa, Trouble> {
    let store = kit.open("ssa", ssa_service::MIGRATIONS).await?;
    let key = kit.data.secret("ssa/ssa.key", kit.random.as_ref())?;
    let audit = AuditLog::new(
        "ssa",
        "ssa-1",
        kit.data.secret("ssa/chain.key", kit.random.as_ref())?,
    );
    kit.log("ssa", audit.clone(), &store).await?;
    let config = ssa_service::Config {
        base_url: ssa_url.to_owned(),
        sic_url: sic_url.to_owned(),
        name: "Natsuin (development)".to_owned(),
        region: "JP".to_owned(),
        tenant: tenant.clone(),
        development: true,
        key,
        password_cost: PasswordCost::default(),
    };
    let certifier = HttpCertifier::new(format!("{ra_url}/ra/certify"), &kit.inside(NAME_SSA)?)?;
    let ports = SsaPorts {
        sam: Arc::new(kit.client(sam_url, NAME_SSA)?),
        certifier: Arc::new(certifier),
        clock: kit.clock.clone(),
        random: kit.random.clone(),
        audit,
    };
    Ssa::new(config, store, ports)
}

/// Gives entries their places, and ends what has run out. A log that can't be written stops the stack (I5).
fn background(kit: &Kit, sam: Sam<RemoteModule>, failed: watch::Sender<Option<String>>) {
    let failed = Arc::new(failed);
    for zone in kit.zones.clone() {
        let (clock, failed, mut shutdown) =
            (kit.clock.clone(), failed.clone(), kit.shutdown.clone());
        tokio::spawn(async move {
            tokio::select! {
                error = zone.sequencer.keep(&zone.store, clock.as_ref(), SEQUENCE_EVERY) => {
                    failed.send_replace(Some(format!("the audit log of {}: {error}", zone.name)));
                }
                () = shutdown.requested() => {}
            }
        });
    }
    let mut shutdown = kit.shutdown.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(MAINTAIN_EVERY) => {}
                () = shutdown.requested() => return,
            }
            if let Err(error) = sam.maintain().await {
                tracing::warn!(%error, "the SAM could not tidy up; it tries again");
            }
        }
    });
}

fn ca_ra_key(ca: &Arc<DevCa>) -> Result<jose::Jwk, Trouble> {
    let ra = Ra::new(ca.clone(), SAM, Vec::new()).map_err(|_| bug("registration authority"))?;
    Ok(ra.public_key().clone())
}

fn store_trouble(zone: &str, error: &store_kit::StoreError) -> Trouble {
    Trouble::new(
        "store",
        format!("the store of {zone} can't be used: {error}"),
        "check --data and --store; only one program may use an embedded store; a damaged one comes back from a backup",
    )
}

fn audit_trouble(zone: &str, error: &audit_log::AuditError) -> Trouble {
    Trouble::new(
        "audit",
        format!("the audit log of {zone} can't be continued: {error}"),
        "run `natsuin audit verify` and compare with the witness before starting again",
    )
}

fn ca_trouble(error: &dev_ca::DevCaError) -> Trouble {
    Trouble::new("dev-ca", error.to_string(), "check --data")
}

fn bug(what: &str) -> Trouble {
    Trouble::new(
        "bug",
        format!("{what} could not be set up"),
        "please report this with the output above",
    )
}
