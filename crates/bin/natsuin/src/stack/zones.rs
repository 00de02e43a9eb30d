//! Starting each zone behind its socket, with its store, its log and its certificate.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use audit_log::{AuditLog, LogKey, Restorers, Sequencer};
use axum::Router;
use cm_core::backend::Backend;
use cm_core::{ImportCa, Module, ModuleConfig, RootSecret};
use cm_pkcs11::Pkcs11Backend;
use core_types::random::SystemRandom;
use core_types::{ClientId, Clock, KeyAlg, Level, Random, SecretBytes, TenantId, sha256};
use dev_ca::{DevCa, Ra};
use notify::webhook::Webhooks;
use sam_service::{RemoteModule, Sam, SamConfig};
use service_kit::http::HttpOptions;
use service_kit::{Client, Identity, Running, Shutdown, Trouble, serve, tls};
use signing_job::HttpFetch;
use ssa_service::{
    CertificateRule, Certificates, HttpCertifier, Ports as SsaPorts, Rates, Ssa, TimeStamper,
};
use store_kit::{Store, StoreUrl, transaction};
use tokio::sync::watch;

use super::assured;
use super::counter;
use super::files::DataDir;
use super::officers;
use super::start::{StoreChoice, listener, port};
use super::state::State;
use crate::{courier, worker};

/// Name of the one SAM, as in acts.
pub(super) const SAM: &str = "sam.natsuin.localhost";
/// Names in the certificates of the zones.
/// Name in the certificate of the module.
pub const NAME_CM: &str = "cm.natsuin.internal";
/// Name in the certificate of the SAM, as server and as the module's caller.
pub const NAME_SAM: &str = "sam.natsuin.internal";
/// Name in the certificate of the SSA's service.
pub const NAME_SSA: &str = "ssa.natsuin.internal";
/// Name in the certificate of the SIC gateway.
pub const NAME_SIC: &str = "sic.natsuin.internal";
/// Name in the certificate of the officers' gateway.
pub const NAME_OFFICE: &str = "office.natsuin.internal";
/// Name in the certificate of the courier of one-time codes.
pub const NAME_COURIER: &str = "courier.natsuin.internal";
/// Name in the certificate of the worker that signs documents.
pub const NAME_WORKER: &str = "worker.natsuin.internal";
/// Name in the certificate of the program that watches the logs and may stop what they warn of.
pub const NAME_GUARD: &str = "guard.natsuin.internal";
/// How often entries get their place in the log.
pub(super) const SEQUENCE_EVERY: Duration = Duration::from_secs(2);
/// How often what has ended is given up and pruned.
/// How often the SAM's rows are compared with its log.
pub(super) const SCRUB_EVERY: Duration = Duration::from_secs(3600);
/// How often SSA and SAM look for notices that are due.
const NOTICES_EVERY: Duration = Duration::from_secs(5);
pub(super) const MAINTAIN_EVERY: Duration = Duration::from_secs(60);
pub(super) const MAX_USES: u64 = 100_000_000;

/// Where codes for signers land in development, a line of JSON each.
pub(super) const CODES: &str = "codes.jsonl";
/// File in which the courier of a development stack leaves notices to signers.
const NOTICES: &str = "notices.jsonl";

/// A zone's log and the store it lies in.
#[derive(Clone)]
pub(super) struct Zone {
    pub(super) name: &'static str,
    pub(super) audit: AuditLog,
    pub(super) sequencer: Arc<Sequencer>,
    pub(super) store: Store,
}

/// What the steps of a start share.
pub(super) struct Kit {
    pub(super) data: DataDir,
    pub(super) store: StoreChoice,
    pub(super) pkcs11: Option<PathBuf>,
    /// What the module is declared good for.
    pub(super) level: Level,
    /// Every signature is counter-signed.
    pub(super) counter_sign: bool,
    /// Port of a mail server on this machine.
    pub(super) mail_port: Option<u16>,
    /// Nobody is held to a rate.
    pub(super) load: bool,
    pub(super) login_providers: Vec<ssa_service::Provider>,
    pub(super) restorers: Restorers,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    pub(super) ca: Arc<DevCa>,
    pub(super) internal_ca: String,
    pub(super) shutdown: Shutdown,
    pub(super) running: Vec<Running>,
    pub(super) zones: Vec<Zone>,
}

impl Kit {
    pub(super) async fn open(
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

    pub(super) async fn log(
        &mut self,
        zone: &'static str,
        log: AuditLog,
        store: &Store,
    ) -> Result<(), Trouble> {
        let key = log_key_in(&self.data, zone, self.random.as_ref())?;
        self.data
            .keep(&format!("witness/{zone}.pub"), &key.public())?;
        let witness = Some(self.data.join(&format!("witness/{zone}.txt")));
        let opened = Sequencer::open(log.clone(), key, witness, store).await;
        let sequencer = Arc::new(opened.map_err(|e| audit_trouble(zone, &e))?);
        self.zones.push(Zone {
            name: zone,
            audit: log,
            sequencer,
            store: store.clone(),
        });
        Ok(())
    }

    pub(super) fn identity(&self, name: &str) -> Result<Identity, Trouble> {
        self.ca
            .service_cert(name, &[name, "localhost"])
            .map_err(|e| ca_trouble(&e))
    }

    /// A listener between zones; answers with its base URL.
    pub(super) async fn mutual(&mut self, name: &str, router: Router) -> Result<String, Trouble> {
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

    pub(super) fn client(&self, base: &str, as_whom: &str) -> Result<Client, Trouble> {
        Client::new(base, &self.inside(as_whom)?)
    }

    fn anchors(&self) -> Result<String, Trouble> {
        std::fs::read_to_string(self.ca.trust_anchors_file()).map_err(|e| {
            Trouble::new(
                "data-dir",
                format!("the trust anchors can't be read: {e}"),
                "check --data",
            )
        })
    }

    /// A client for what lies outside the zones and is the development CA's.
    fn outside(&self) -> Result<reqwest::Client, Trouble> {
        service_kit::http::client(&HttpOptions {
            ca_pem: Some(self.anchors()?),
            ..HttpOptions::default()
        })
    }

    fn webhooks(&self) -> Result<Webhooks, Trouble> {
        let made = Webhooks::new(Some(self.anchors()?), notify::webhook::PATIENCE);
        made.map_err(|e| Trouble::new("bad-config", e.to_string(), "check --data"))
    }

    pub(super) fn inside(&self, as_whom: &str) -> Result<HttpOptions, Trouble> {
        let identity = Some(self.identity(as_whom)?);
        Ok(HttpOptions {
            ca_pem: Some(self.internal_ca.clone()),
            identity,
            ..HttpOptions::default()
        })
    }
}

/// The module's back end. A PKCS#11 module gets a token of its own, made at the first start; its PIN lies with the stack's
/// other secrets. It is declared good for a level as what it is: a test.
pub(super) fn backend(kit: &Kit) -> Result<Arc<dyn Backend>, Trouble> {
    let Some(module) = &kit.pkcs11 else {
        return Ok(assured::software(kit.level));
    };
    let pin = kit.data.secret("cm/pkcs11.key", kit.random.as_ref())?;
    let options = cm_pkcs11::Options {
        module: module.clone(),
        label: "natsuin-dev".to_owned(),
        serial: None,
        pin: SecretBytes::from(core_types::bytes::b64u(pin.expose())),
        declaration: Some(cm_pkcs11::Declaration {
            level: kit.level,
            reference: cm_pkcs11::TEST.to_owned(),
            device: None,
        }),
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

pub(super) fn log_key_in(
    data: &DataDir,
    zone: &'static str,
    random: &dyn Random,
) -> Result<LogKey, Trouble> {
    let seed = data.secret(&format!("{zone}/log.key"), random)?;
    LogKey::from_seed(&format!("natsuin.localhost/{zone}"), &seed)
        .map_err(|e| audit_trouble(zone, &e))
}

/// Starts the module. `sender`: the development RA, whose keys for signers are taken too.
pub(super) async fn start_module(
    kit: &mut Kit,
    sender: jose::Jwk,
    state: &mut State,
) -> Result<String, Trouble> {
    let store = kit.open("cm", cm_core::MIGRATIONS).await?;
    let secret = kit.data.secret("cm/root.key", kit.random.as_ref())?;
    let root = RootSecret::new(secret).ok_or_else(|| bug("root secret"))?;
    let officers = counter::Officers::of(kit, state)?;
    let config = ModuleConfig {
        officers: officers.public(),
        import_cas: vec![ImportCa {
            key: sender,
            generation: Some("development, not audited".to_owned()),
        }],
        ..ModuleConfig::new(SAM, "cm-1", MAX_USES)
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
    module.scrub().await.map_err(|e| {
        Trouble::new(
            "cm-scrub",
            e.to_string(),
            "the module's log or rows were altered; keep the data directory as it is, and run natsuin audit verify on it",
        )
    })?;
    if kit.counter_sign && state.counter_signer.is_none() {
        state.counter_signer = Some(officers.make(kit, &module).await?);
        kit.data.save("state.json", state)?;
    }
    kit.mutual(NAME_CM, cm_core::router(module, NAME_SAM)).await
}

pub(super) async fn start_sam(
    kit: &mut Kit,
    config: SamConfig,
    module_url: &str,
    state: &mut State,
) -> Result<(SamUrls, Sam<RemoteModule>), Trouble> {
    let store = kit.open("sam", sam_service::MIGRATIONS).await?;
    let module = || Ok(RemoteModule::new(kit.client(module_url, NAME_SAM)?));
    officers::found(kit, state, &config, module()?, &store).await?;
    let (module, root) = (module()?, state.root.clone());
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
    let courier = courier::Courier {
        service: "Natsuin (development)".to_owned(),
        contact: String::new(),
        sams: vec![NAME_SAM.to_owned()],
        ways: courier::Ways::development(
            kit.mail_port,
            kit.data.join(CODES),
            kit.data.join(NOTICES),
        )?,
        clock: kit.clock.clone(),
        random: kit.random.clone(),
    };
    let url = kit.mutual(NAME_COURIER, courier::router(courier)).await?;
    sam.send_codes_by(Arc::new(kit.client(&url, NAME_SAM)?));
    let for_ssa = kit
        .mutual(NAME_SAM, sam_service::ssa_router(sam.clone()))
        .await?;
    let for_sic = kit
        .mutual(NAME_SAM, sam_service::gateway_router(sam.clone()))
        .await?;
    let for_office = kit
        .mutual(NAME_SAM, sam_service::office_router(sam.clone()))
        .await?;
    let urls = SamUrls {
        for_ssa,
        for_sic,
        for_office,
    };
    Ok((urls, sam))
}

/// Base URLs of the SAM's listeners.
pub(super) struct SamUrls {
    pub(super) for_ssa: String,
    pub(super) for_sic: String,
    pub(super) for_office: String,
}

pub(super) async fn start_ssa(
    kit: &mut Kit,
    ssa_url: &str,
    sic_url: &str,
    tenant: &TenantId,
    sam_url: &str,
    ra_url: &str,
) -> Result<(Ssa, String, String), Trouble> {
    let store = kit.open("ssa", ssa_service::MIGRATIONS).await?;
    let key = kit.data.secret("ssa/ssa.key", kit.random.as_ref())?;
    let audit = AuditLog::new(
        "ssa",
        "ssa-1",
        kit.data.secret("ssa/chain.key", kit.random.as_ref())?,
        kit.random.clone(),
    );
    kit.log("ssa", audit.clone(), &store).await?;
    // Certificates for people and clients come of the development CA, by its `person_cert`.
    let asking = listener(0, true).await?;
    let asking_url = format!("https://localhost:{}", port(&asking)?);
    let rule = CertificateRule {
        anchors: vec![kit.ca.root().der().to_vec()],
        intermediates: Vec::new(),
        policies: vec![dev_ca::PERSON_POLICY.to_owned()],
    };
    let config = ssa_service::Config {
        development: true,
        login_client: ClientId::parse(super::seed::LOGIN_CLIENT).ok(),
        certificates: Some(Certificates {
            url: asking_url.clone(),
            login: Some(rule.clone()),
            clients: Some(rule),
        }),
        providers: kit.login_providers.clone(),
        time_stampers: vec![TimeStamper {
            url: kit.ca.urls().tsa.clone(),
            anchors: vec![kit.ca.root().der().to_vec()],
        }],
        creations: vec![ssa_service::Creation {
            policy: None,
            key: KeyAlg::P256,
        }],
        rates: match kit.load {
            true => Rates::UNLIMITED,
            false => Rates::default(),
        },
        ..ssa_service::Config::new(
            (ssa_url.to_owned(), sic_url.to_owned()),
            "Natsuin (development)".to_owned(),
            tenant.clone(),
            key,
            ssa_service::Published::development(ssa_url),
        )
    };
    let anchors = kit.anchors()?;
    let stamper = worker::stamper(&kit.ca.urls().tsa, &anchors)?;
    let service = format!("{ssa_url}/csc/v2");
    let callers = vec![NAME_SSA.to_owned()];
    let signs = worker::worker(&service, callers, vec![stamper], &anchors)?;
    let worker_url = kit.mutual(NAME_WORKER, sca_worker::router(signs)).await?;
    let certifier = HttpCertifier::new(format!("{ra_url}/ra/certify"), &kit.inside(NAME_SSA)?)?;
    let ports = SsaPorts {
        sam: Arc::new(kit.client(sam_url, NAME_SSA)?),
        certifier: Arc::new(certifier),
        fetch: Arc::new(HttpFetch::new(kit.outside()?, true)),
        worker: Some(Arc::new(Client::new(
            &*worker_url,
            &HttpOptions {
                longest_answer: Some(ssa_service::WORKER_ANSWER),
                ..kit.inside(NAME_SSA)?
            },
        )?)),
        webhooks: Arc::new(kit.webhooks()?),
        clock: kit.clock.clone(),
        random: kit.random.clone(),
        audit,
    };
    let settings = [(
        "addresses",
        sha256(&[ssa_url.as_bytes(), b"\n", sic_url.as_bytes()]),
    )];
    let now = kit.clock.now();
    let started: Result<(), store_kit::StoreError> = transaction!(store, "ssa-start", |tx| {
        let version = env!("CARGO_PKG_VERSION").into();
        let restorers = &kit.restorers;
        ports
            .audit
            .starts(tx, version, &settings, restorers, now)
            .await
    });
    started.map_err(|e| store_trouble("ssa", &e))?;
    let ssa = Ssa::new(config, store, ports)?;
    let own = kit.ca.localhost_cert(&[]).map_err(|e| ca_trouble(&e))?;
    let tls = tls::asking_server(&own)?;
    let router = ssa.certificate_router();
    kit.running
        .push(serve(asking, router, Some(tls), kit.shutdown.clone())?);
    Ok((ssa, worker_url, asking_url))
}

/// Gives entries their places, and ends what has run out. A log that can't be written stops the stack (I5).
pub(super) fn background(
    kit: &Kit,
    sam: Sam<RemoteModule>,
    ssa: Ssa,
    failed: watch::Sender<Option<String>>,
) {
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
    let (mut shutdown, compared) = (kit.shutdown.clone(), sam.clone());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(SCRUB_EVERY) => {}
                () = shutdown.requested() => return,
            }
            if let Err(error) = compared.scrub().await {
                if error.is_away() {
                    tracing::warn!(%error, "rows could not be compared; that is tried again");
                    continue;
                }
                failed.send_replace(Some(format!("the audit log of sam: {error}")));
                return;
            }
        }
    });
    let (telling, looking) = (sam.clone(), ssa.clone());
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
            if let Err(error) = looking.watch_certificates().await {
                tracing::warn!(%error, "the SSA could not look at certificates; it tries again");
            }
        }
    });
    let mut shutdown = kit.shutdown.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(NOTICES_EVERY) => {}
                () = shutdown.requested() => return,
            }
            if let Err(error) = ssa.send_notices().await {
                tracing::warn!(%error, "the SSA could not send notices; it tries again");
            }
            if let Err(error) = telling.send_notices().await {
                tracing::warn!(%error, "the SAM could not send notices; it tries again");
            }
            if let Err(error) = telling.finish_ending().await {
                tracing::warn!(%error, "the SAM could not destroy all keys yet; it tries again");
            }
        }
    });
}

pub(super) fn ca_ra_key(ca: &Arc<DevCa>) -> Result<jose::Jwk, Trouble> {
    let ra = Ra::new(ca.clone(), SAM, Vec::new()).map_err(|_| bug("registration authority"))?;
    Ok(ra.public_key().clone())
}

pub(super) fn store_trouble(zone: &str, error: &store_kit::StoreError) -> Trouble {
    Trouble::new(
        "store",
        format!("the store of {zone} can't be used: {error}"),
        "check --data and --store; only one program may use an embedded store; a damaged one comes back from a backup",
    )
}

pub(super) fn audit_trouble(zone: &str, error: &audit_log::AuditError) -> Trouble {
    Trouble::new(
        "audit",
        format!("the audit log of {zone} can't be continued: {error}"),
        "run `natsuin audit verify` and compare with the witness before starting again",
    )
}

pub(super) fn ca_trouble(error: &dev_ca::DevCaError) -> Trouble {
    Trouble::new("dev-ca", error.to_string(), "check --data")
}

pub(super) fn bug(what: &str) -> Trouble {
    Trouble::new(
        "bug",
        format!("{what} could not be set up"),
        "please report this with the output above",
    )
}
