//! Starting the zones in order: CA, module, SAM, gateway, SSA, application.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use audit_log::Restorers;
use axum::Router;
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::{Clock, Level, Random, TenantId};
use csc_client::{ClientCredentials, ClientKey};
use csc_types::SecretText;
use dev_ca::{DevCa, Ra, Urls};
use sam_core::backups::BackupRule;
use sam_core::office::Limits;
use sam_core::passkey::RelyingParty;
use sam_core::provider::Providers;
use sam_service::{BackupWatch, OfficeConfig, SamConfig};
use service_kit::http::HttpOptions;
use service_kit::{Rate, Running, Shutdown, Trouble, bind, serve, tls};
use sic_core::Trust;
use sic_gateway::GatewayConfig;
use ssa_service::Ssa;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::assured::{self, Assurance};
use super::beside;
use super::client_officers::{self, DevClientOfficer};
use super::files::DataDir;
use super::state::{Ports, State};
use super::zones::*;

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
    /// For tests: a level that everything is declared good for, instead of what it is.
    pub assurance: Option<Assurance>,
    /// The provider adds its counter-signature to each signature.
    pub counter_sign: bool,
    /// Port of a mail server on this machine that gets codes and notices to signers; without one they land in files.
    pub mail_port: Option<u16>,
    /// The e-contract application signs its requests with a key that SSA and SAM know; counts at the first start in a directory.
    pub signed_requests: bool,
    /// For benchmarks: everybody may call as often as they can.
    pub load: bool,
    /// OpenID providers at which people log in.
    pub login_providers: Vec<ssa_service::Provider>,
    /// Identity providers whose word counts for an act.
    pub providers: Providers,
    /// Who makes backups, and who approves their restore.
    pub restorers: Restorers,
}

impl Options {
    /// A stack in this directory, on free ports, with embedded stores and software keys.
    pub fn new(data: PathBuf) -> Self {
        Self {
            data,
            port: 0,
            store: StoreChoice::Embedded,
            tls: false,
            pkcs11: None,
            assurance: None,
            counter_sign: false,
            mail_port: None,
            signed_requests: false,
            load: false,
            login_providers: Vec::new(),
            providers: Providers::default(),
            restorers: Restorers::default(),
        }
    }
}

/// Base URLs of the listeners between the zones, mutual TLS.
#[derive(Debug, Clone)]
pub struct Inner {
    /// The module, for the SAM.
    pub module: String,
    /// The SAM, for the SSA's services.
    pub sam_for_ssa: String,
    /// The SAM, for SIC gateways.
    pub sam_for_sic: String,
    /// The SAM, for the officers' gateway.
    pub sam_for_office: String,
    /// The SSA, for officers who manage clients.
    pub ssa_for_officers: String,
    /// The worker that signs documents, for the SSA.
    pub worker: String,
}

/// A running stack.
pub struct Stack {
    /// Origin of portal, OAuth 2 and CSC.
    pub ssa_url: String,
    /// Origin of the SIC page.
    pub sic_url: String,
    /// Origin of the officers' page.
    pub office_url: String,
    /// Origin of the listener that asks for certificates.
    pub asking_url: String,
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
    /// Listeners between the zones.
    pub inner: Inner,
    /// Port of each public listener.
    pub ports: Vec<(&'static str, u16)>,
    /// Officers who manage clients.
    pub client_officers: Vec<DevClientOfficer>,
    pub(super) ra: Arc<Ra>,
    pub(super) ssa: Ssa,
    pub(super) data: DataDir,
    pub(super) state: State,
    pub(super) tenant: TenantId,
    /// What it is declared good for.
    pub(super) level: Level,
    /// Keys may be made that can be handed over: not in a token, nor in what is declared to be one.
    pub(super) exports: bool,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    sequencers: Vec<Zone>,
    shutdown: watch::Sender<bool>,
    failed: watch::Receiver<Option<String>>,
    running: Vec<Running>,
}

/// The public listeners, bound before anything starts, so that every URL is known.
pub(super) struct Listeners {
    pub(super) ssa: TcpListener,
    pub(super) sic: TcpListener,
    pub(super) office: TcpListener,
    pub(super) sca: TcpListener,
    pub(super) ca: TcpListener,
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
        let office = listener(nth(4, last.office), first == 0).await?;
        let ports = Ports {
            ssa: port(&ssa)?,
            sic: port(&sic)?,
            office: port(&office)?,
            sca: port(&sca)?,
            ca: port(&ca)?,
        };
        let all = Self {
            ssa,
            sic,
            office,
            sca,
            ca,
        };
        Ok((all, ports))
    }
}

/// Binds a port of the loopback; `any`: another one will do if it is taken.
pub(super) async fn listener(port: u16, any: bool) -> Result<TcpListener, Trouble> {
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match bind(at(port)).await {
        Err(_) if any && port != 0 => bind(at(0)).await,
        bound => bound,
    }
}

pub(super) fn port(listener: &TcpListener) -> Result<u16, Trouble> {
    let addr = listener.local_addr();
    addr.map(|a| a.port()).map_err(|e| {
        Trouble::new(
            "cannot-listen",
            format!("a socket has no address: {e}"),
            "start again",
        )
    })
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
        Self::start_at(options, Arc::new(SystemClock), progress).await
    }

    /// The same with another clock in every zone, so that a test needn't wait.
    ///
    /// # Errors
    /// As [`Stack::start`].
    pub async fn start_at(
        options: &Options,
        clock: Arc<dyn Clock>,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<Self, Trouble> {
        tls::install_provider();
        super::providers::apart(options)?;
        let random: Arc<dyn Random> = Arc::new(SystemRandom);
        let data = DataDir::open(&options.data)?;
        let mut state: State = data.load("state.json")?.unwrap_or_default();
        let (listeners, ports) = Listeners::bind(options.port, state.ports).await?;
        state.ports = ports;

        let scheme = if options.tls { "https" } else { "http" };
        let ssa_url = format!("{scheme}://localhost:{}", ports.ssa);
        let sic_url = format!("{scheme}://sic.localhost:{}", ports.sic);
        let office_url = format!("{scheme}://sic.localhost:{}", ports.office);
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
        let level = assured::level(options);
        let internal_ca = ca.internal_ca_pem();
        let mut kit = Kit {
            data: data.clone(),
            store: options.store.clone(),
            pkcs11: options.pkcs11.clone(),
            level,
            counter_sign: options.counter_sign,
            mail_port: options.mail_port,
            load: options.load,
            login_providers: options.login_providers.clone(),
            restorers: options.restorers.clone(),
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

        let ra_key = ca_ra_key(&ca)?;
        let module_url = start_module(&mut kit, ra_key.clone(), &mut state).await?;
        progress("cm");
        if options.signed_requests {
            super::seed::make_app_key(&mut state)?;
        }
        let app_key = super::seed::app_key(&state)?;
        let config = SamConfig {
            sam: SAM.to_owned(),
            node: "sam-1".to_owned(),
            beside: false,
            tenant: tenant.clone(),
            brand: None,
            tenants: Vec::new(),
            relying_party: RelyingParty {
                origin: sic_url.clone(),
                rp_id: "sic.localhost".to_owned(),
            },
            return_prefixes: vec![format!("{ssa_url}/")],
            registration_authorities: vec![ra_key],
            issuers: vec![ca.root().der().to_vec()],
            policy: assured::policy(level),
            attestation: assured::attestation(options),
            metadata: None,
            providers: options.providers.clone(),
            pages: Vec::new(),
            restorers: options.restorers.clone(),
            clients: super::seed::known_clients(app_key.as_ref()),
            services: vec![NAME_SSA.to_owned()],
            gateways: vec![NAME_SIC.to_owned()],
            guards: vec![NAME_GUARD.to_owned()],
            // For whoever tries backups out: the folder has to be there.
            backups: Some(data.join("backup-reports"))
                .filter(|reports| reports.is_dir())
                .map(|reports| BackupWatch {
                    reports,
                    rule: BackupRule {
                        made_hours: 26,
                        verified_days: 35,
                    },
                }),
            clock: core_types::timekeeping::ClockRule::Unsynchronised,
            witness_declaration: assured::witness_declaration(level),
            notice_before_end: 30 * 24 * 3600,
            counter_sign: state
                .counter_signer
                .clone()
                .filter(|_| options.counter_sign)
                .map(Into::into),
            office: OfficeConfig {
                relying_party: RelyingParty {
                    origin: office_url.clone(),
                    rp_id: "sic.localhost".to_owned(),
                },
                gateways: vec![NAME_OFFICE.to_owned()],
                limits: Limits::new(600, 4 * 3600).map_err(|_| bug("limits of sessions"))?,
            },
            source: sam_service::SettingsSource::Program,
        };
        let (urls, sam) = start_sam(&mut kit, config, &module_url, &mut state).await?;
        let root = sam.root().clone();
        state.root = Some(root.clone());
        data.save("state.json", &state)?;
        // What programs of signers and checkers have to know beforehand.
        data.save("root.jwk", &root)?;
        progress("sam");

        let trust = Trust::new(vec![root.clone()], sic_url.clone()).map_err(|_| bug("trust"))?;
        let mut gateway = GatewayConfig::new(vec![root.clone()], sic_url.clone())
            .map_err(|e| Trouble::new("bad-config", e.to_string(), "choose another --port"))?;
        gateway.dev = true;
        gateway.help = Some(ssa_url.clone());
        if options.load {
            gateway.rate = Rate::UNLIMITED;
        }
        let mut office = GatewayConfig::new(vec![root.clone()], office_url.clone())
            .map_err(|e| Trouble::new("bad-config", e.to_string(), "choose another --port"))?;
        office.dev = true;
        office.office = true;
        // Six officers at one address, who do in a second what takes an hour elsewhere.
        office.rate = Rate {
            burst: 600,
            per_minute: 600,
        };
        let forward = kit.client(&urls.for_sic, NAME_SIC)?;
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
        let (ssa, worker, asking_url) = start_ssa(
            &mut kit,
            &ssa_url,
            &sic_url,
            &tenant,
            &urls.for_ssa,
            &ra_url,
        )
        .await?;
        kit.running.push(public(listeners.ssa, ssa.router())?);
        let (ssa_for_officers, client_officers) = client_officers::start(&mut kit, &ssa).await?;
        let forward = kit.client(&urls.for_office, NAME_OFFICE)?;
        let beside = beside::neighbours(&mut kit, &ssa_for_officers).await?;
        kit.running.push(public(
            listeners.office,
            sic_gateway::router_beside(office, forward, beside, clock.clone()),
        )?);
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
        background(&kit, sam, ssa.clone(), failed_sender);
        let running = std::mem::take(&mut kit.running);
        let mut stack = Self {
            ports: vec![
                ("ssa", ports.ssa),
                ("sic", ports.sic),
                ("office", ports.office),
                ("sca", ports.sca),
                ("ca", ports.ca),
            ],
            ssa_url,
            sic_url,
            office_url,
            asking_url,
            sca_url,
            ca_url,
            ca,
            trust,
            http,
            inner: Inner {
                module: module_url,
                sam_for_ssa: urls.for_ssa,
                sam_for_sic: urls.for_sic,
                sam_for_office: urls.for_office,
                ssa_for_officers,
                worker,
            },
            client_officers,
            ra,
            ssa,
            data,
            state,
            tenant,
            level,
            exports: options.pkcs11.is_none() && level == Level::One,
            clock,
            random,
            sequencers,
            shutdown: stop,
            failed,
            running,
        };
        // At level 3 officers need authenticators that somebody vouches for; such a stack has none.
        if level < Level::Three {
            stack.seed_officers().await?;
        }
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
        config.key = super::seed::app_key(&self.state)?
            .map(|key| ClientKey::new(key, self.clock.clone(), self.random.clone()));
        config.http.extra_roots_pem = Some(anchors.as_bytes().to_vec());
        config.tsa_url = Some(self.ca.urls().tsa.clone());
        config.anchors_pem = anchors.to_owned();
        config.private_network = true;
        config.dev = true;
        sca_web::router(config)
            .map_err(|e| Trouble::new("bad-config", e.to_string(), "check --data and --port"))
    }

    /// A caller between zones with a certificate of this name, by the zones' own CA: what somebody could try who has
    /// taken over the zone of that name.
    ///
    /// # Errors
    /// [`Trouble`] when no certificate can be made.
    pub fn caller(&self, base: &str, name: &str) -> Result<service_kit::Client, Trouble> {
        let identity = self.ca.service_cert(name, &[name, "localhost"]);
        let options = HttpOptions {
            ca_pem: Some(self.ca.internal_ca_pem()),
            identity: Some(identity.map_err(|e| ca_trouble(&e))?),
            ..HttpOptions::default()
        };
        service_kit::Client::new(base, &options)
    }

    /// Looks now what the CA publishes about the certificates of keys, as the SSA does every minute.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn look_at_certificates(&self) -> Result<ssa_service::Looked, Trouble> {
        let looked = self.ssa.watch_certificates().await;
        looked.map_err(|e| store_trouble("ssa", &e))
    }

    /// A registered client by id.
    pub fn client(&self, id: &str) -> Option<&super::DevClient> {
        self.state.clients.iter().find(|c| c.client_id == id)
    }

    /// The file in which one-time codes for signers land, a line of JSON each.
    pub fn codes_file(&self) -> PathBuf {
        self.data.join(super::zones::CODES)
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
            if let Err(error) = zone.audit.stops(&zone.store, self.clock.now()).await {
                tracing::error!(zone = zone.name, %error, "the end could not be recorded");
            }
            if let Err(error) = zone.sequencer.sequence(&zone.store, self.clock.now()).await {
                tracing::error!(zone = zone.name, %error, "the log could not be brought up to date");
            }
            zone.store.close().await;
        }
    }
}
