//! The server signing application: the network's face of the service. OAuth 2 authorization server, CSC API v2, and
//! the portal where people log in, sign up and see their keys.
//!
//! It creates powerless requests at the SAM and hands results on. It must never know a signer's PIN, passkey or
//! signing seed, nor anything of the cryptographic module: the proof goes past it from the SIC page to the SAM
//! (`sap.md` R4, R5). Tokens, codes and cookies are stored as digests, so its database alone signs nothing.

mod about;
mod admin;
mod branding;
mod certificates;
mod clients;
mod config;
mod contract;
mod crypt;
mod csc;
mod devices;
mod enrol;
mod flow;
mod forget;
mod guard;
mod keys;
mod later;
mod limits;
mod links;
mod manage;
mod notices;
mod oauth;
mod pages;
mod passkeys;
mod password;
mod port;
mod providers;
mod published;
mod refresh;
mod refusal;
mod schema;
mod session;
mod strangers;
mod tokens;
mod trips;
mod users;
mod waiting;
mod watch;

use std::net::IpAddr;
use std::sync::Arc;

use audit_log::AuditLog;
use axum::Router;
use core_types::{ClientId, Clock, Random, UnixTime};
use service_kit::{Room, Rooms, Trouble};
use store_kit::{Store, StoreError, transaction};
use tokio::sync::{Notify, Semaphore};

pub use about::ceiling_of;
pub use admin::{AdminError, CreatedClient, CreatedUser, Invited, NewInvitation, NewUser};
pub use branding::{Branding, Logo};
pub use certificates::{CertificateRule, Certificates};
pub use clients::NewClient;
pub use config::{Config, Creation, PasswordCost, Rates, SIGNED_FILES, TimeStamper};
pub use contract::{ClientCertificate, ClientSettings, Quota};
pub use csc::WORKER_ANSWER;
pub use enrol::{EnrolError, Enrolled};
pub use forget::{ForgetOrder, NotForgotten, forget_person};
pub use manage::{ClientOfficer, calls, check_separation};
pub use oauth::{Publisher, Registration};
pub use port::{Asked, Called, CertifyError, CertifyPort, HttpCertifier, SamPort, WorkerPort};
pub use providers::{Endpoints, Provider};
pub use published::{Document, Published};
pub use watch::Looked;

/// Tables of the SSA, for opening its store.
pub const MIGRATIONS: &[store_kit::Migrations] = &[schema::TABLES, audit_log::TABLES];

/// Passwords hashed at a time; more wait.
const HASHERS: usize = 2;
/// Calls with documents at a time; more are told to come later.
const DOCUMENTS: u64 = 8;
/// Of one client.
const DOCUMENTS_OF_ONE: u64 = 2;
/// Bytes of requests' bodies that are being read, of all callers and of one address.
const READING: (u64, u64) = (256 << 20, 64 << 20);

/// The service. Cheap to clone; all clones share everything.
#[derive(Clone)]
pub struct Ssa(Arc<Inner>);

struct Inner {
    config: Config,
    store: Store,
    ports: Ports,
    sealer: crypt::Sealer,
    hashers: Arc<Semaphore>,
    password_work: Arc<password::Work>,
    documents: Arc<Rooms<ClientId>>,
    bodies: Arc<Rooms<IpAddr>>,
    limits: limits::Limits,
    decided: Notify,
    known_good: certificates::KnownGood,
    watch: watch::Watch,
    known_providers: providers::Known,
    about: about::About,
    strangers: strangers::Strangers,
}

/// What the service reaches out to.
#[derive(Clone)]
pub struct Ports {
    /// The SAM.
    pub sam: Arc<dyn SamPort>,
    /// RA and CA.
    pub certifier: Arc<dyn CertifyPort>,
    /// The network, for time-stamping authorities, OpenID providers, and whoever says whether a certificate was revoked. It
    /// refuses addresses of private networks, unless its maker was told that some of these lie there.
    pub fetch: Arc<dyn pki::fetch::Fetch>,
    /// Who signs documents; without one `signatures/signDoc` isn't there.
    pub worker: Option<Arc<dyn WorkerPort>>,
    /// Addresses of clients that are told when something is ready.
    pub webhooks: Arc<notify::webhook::Webhooks>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// The audit log of this zone, in the same store.
    pub audit: AuditLog,
}

impl Ssa {
    /// The service over a store that was opened with [`MIGRATIONS`].
    ///
    /// # Errors
    /// [`Trouble`] when the configuration can't be used.
    pub fn new(config: Config, store: Store, ports: Ports) -> Result<Self, Trouble> {
        config.check()?;
        let Some(sealer) = crypt::Sealer::new(&config.key) else {
            return Err(Trouble::new(
                "bad-config",
                "the SSA's key can't be used",
                "give it a file of 32 random bytes",
            ));
        };
        Ok(Self(Arc::new(Inner {
            config,
            store,
            ports,
            sealer,
            hashers: Arc::new(Semaphore::new(HASHERS)),
            password_work: Arc::default(),
            documents: Rooms::new(DOCUMENTS, DOCUMENTS_OF_ONE),
            bodies: Rooms::new(READING.0, READING.1),
            limits: limits::Limits::default(),
            decided: Notify::new(),
            known_good: certificates::KnownGood::default(),
            watch: watch::Watch::default(),
            known_providers: providers::Known::default(),
            about: about::About::default(),
            strangers: strangers::Strangers::default(),
        })))
    }

    /// How many passwords were derived since the start. A guess costs the same, whether or not its account is there.
    pub fn passwords_derived(&self) -> u64 {
        self.0.password_work.done()
    }

    pub(crate) fn password_work(&self) -> Arc<password::Work> {
        self.0.password_work.clone()
    }

    /// Everything this service answers to.
    pub fn router(&self) -> Router {
        let router = Router::new()
            .merge(oauth::router())
            .nest("/csc/v1", csc::router_v1())
            .nest("/csc/v2", csc::router())
            .merge(pages::router())
            .layer(axum::middleware::from_fn_with_state(
                self.clone(),
                limits::by_address,
            ))
            .layer(axum::middleware::from_fn(refusal::log))
            .with_state(self.clone());
        guard::guarded(router, self.config().https())
    }

    /// What clients with certificates call, and where people show theirs; for a listener with
    /// [`service_kit::tls::asking_server`] at [`Certificates::url`]. Of the portal it has the one page that reads a certificate.
    pub fn certificate_router(&self) -> Router {
        let router = Router::new()
            .merge(oauth::router_for_certificates())
            .nest("/csc/v1", csc::router_v1())
            .nest("/csc/v2", csc::router())
            .merge(pages::router_for_certificates())
            .layer(axum::middleware::from_fn_with_state(
                self.clone(),
                limits::by_address,
            ))
            .layer(axum::middleware::from_fn(refusal::log))
            .with_state(self.clone());
        guard::guarded(router, self.config().https())
    }

    /// Where people show certificates to log in, if they can.
    pub(crate) fn certificate_login(&self) -> Option<&str> {
        let certificates = self.config().certificates.as_ref()?;
        let login = certificates.login.is_some();
        login.then_some(certificates.url.as_str())
    }

    pub(crate) fn known_providers(&self) -> &providers::Known {
        &self.0.known_providers
    }

    pub(crate) fn strangers(&self) -> &strangers::Strangers {
        &self.0.strangers
    }

    pub(crate) fn known_good(&self) -> &certificates::KnownGood {
        &self.0.known_good
    }

    pub(crate) fn watch(&self) -> &watch::Watch {
        &self.0.watch
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    pub(crate) fn sam(&self) -> &dyn SamPort {
        self.0.ports.sam.as_ref()
    }

    pub(crate) fn certifier(&self) -> &dyn CertifyPort {
        self.0.ports.certifier.as_ref()
    }

    pub(crate) fn worker(&self) -> Option<&dyn WorkerPort> {
        self.0.ports.worker.as_deref()
    }

    /// Room for a call of this client with documents, if there is any.
    pub(crate) fn room_for_documents(&self, client: &ClientId) -> Option<Room<ClientId>> {
        self.0.documents.enter(client.clone(), 1)
    }

    /// Room for bodies of requests by network, in bytes.
    pub(crate) fn bodies(&self) -> &Arc<Rooms<IpAddr>> {
        &self.0.bodies
    }

    pub(crate) fn fetch(&self) -> &dyn pki::fetch::Fetch {
        self.0.ports.fetch.as_ref()
    }

    pub(crate) fn audit(&self) -> &AuditLog {
        &self.0.ports.audit
    }

    pub(crate) fn now(&self) -> UnixTime {
        self.0.ports.clock.now()
    }

    pub(crate) fn random(&self) -> &dyn Random {
        self.0.ports.random.as_ref()
    }

    pub(crate) fn random_arc(&self) -> Arc<dyn Random> {
        self.0.ports.random.clone()
    }

    /// Wakes calls that wait for a person's decision.
    pub(crate) fn decided(&self) -> &Notify {
        &self.0.decided
    }

    pub(crate) fn limits(&self) -> &limits::Limits {
        &self.0.limits
    }

    pub(crate) fn sealer(&self) -> &crypt::Sealer {
        &self.0.sealer
    }

    /// Runs password hashing apart from the threads that serve, a few at a time.
    pub(crate) async fn hashing<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let slot = self.0.hashers.clone().acquire_owned().await.ok()?;
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(slot);
            done
        });
        done.await.ok()
    }

    /// What the SAM said of itself last.
    pub(crate) fn heard(&self) -> &about::About {
        &self.0.about
    }

    /// Most items of one act.
    pub(crate) async fn max_items(&self) -> Option<u32> {
        self.about().await.map(|about| about.max_items)
    }

    /// The session of a browser, kept alive by asking.
    pub(crate) async fn session(
        &self,
        browser: Option<&session::Browser>,
    ) -> Result<Option<session::Session>, StoreError> {
        let found = self.session_as_it_is(browser).await?;
        let now = self.now();
        if let Some(found) = found.as_ref().filter(|found| found.wants_touch(now)) {
            transaction!(self.store(), "touch", |tx| {
                session::touch(tx, &found.id, now).await
            })?;
        }
        Ok(found)
    }

    /// The same for a page that asks by itself: that keeps nobody logged in.
    pub(crate) async fn session_as_it_is(
        &self,
        browser: Option<&session::Browser>,
    ) -> Result<Option<session::Session>, StoreError> {
        let Some(browser) = browser else {
            return Ok(None);
        };
        let mut tx = self.store().read("session").await?;
        session::find(&mut tx, browser, self.now()).await
    }
}

impl std::fmt::Debug for Ssa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ssa({})", self.0.config.base_url)
    }
}
