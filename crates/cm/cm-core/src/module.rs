//! The module: start, its own secrets, and the calls that are not orders.

mod health;
mod own;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};

use audit_log::{AuditLog, ClockWatch, Event, Heard, Restorers};
use cm_api::rpc::RootAnswer;
use cm_api::{ExecuteRequest, Executed, ModuleError, Refusal};
use core_types::noise::Watched;
use core_types::timekeeping::ClockRule;
use core_types::{Clock, Digest32, Random, sha256};
use jose::{Jwk, SealKey, SigningKey};
use store_kit::{Seen, Store, StoreError, sql, transaction};

use crate::backend::{Backend, Fault};
use crate::cache::KeyCache;
use crate::execute::on_thread;
use crate::handed::Handed;
use crate::mark;
use crate::nonces::Nonces;
use crate::not_started::{NotStarted, not_started};
use crate::office::{self, InOffice, Keeper, OfficersError};
use crate::policy::{self, Policy, PolicyError};
use crate::prune::{self, Times};
use crate::rewrap::Change;
use crate::running::Running;
use crate::selftest;
use crate::state::StateCell;
use crate::store::{self, Failed};
use crate::switch::{self, SwitchCell, Switched};
use crate::vault::{RootSecret, Vault};
use crate::wait::{Pause, SystemPause};
use crate::weak::Moduli;

pub use own::{OwnFiles, RunsAs};

/// How the module is set up.
#[derive(Debug, Clone)]
pub struct ModuleConfig {
    /// Name of the one SAM whose orders are executed.
    pub sam: String,
    /// Name of this node in the audit log.
    pub node: String,
    /// Most signatures in the life of a key.
    pub max_uses: u64,
    /// Days for which the operator keeps copies of the store and of the device, backups included: the certificate of a
    /// destruction rests on it.
    pub copies_kept_days: u32,
    /// Days after which a key is no longer used.
    pub key_life_days: u32,
    /// CAs that may send signing keys for persons they have identified.
    pub import_cas: Vec<ImportCa>,
    /// Keys of the officers, two of whom enable and disable the module.
    pub officers: Vec<Jwk>,
    /// What officers have signed when others took their place: [`cm_api::officers::OfficerList`], a compact JWS each.
    pub officer_changes: Vec<String>,
    /// DNS name in an administrator's client certificate, who may ask for state, self-tests and the change of the wrapping key,
    /// and bring officers' approvals.
    pub administrator: Option<String>,
    /// What the operator declares of the medium on which the witness's file of the log lies.
    pub witness_declaration: Option<String>,
    /// How long a key stays ready for use after it was opened, in seconds; 0: for one order.
    pub key_cache_seconds: i64,
    /// Most signatures by one act of a signer.
    pub act_uses: u64,
    /// How long one act lasts after its approval, in seconds.
    pub act_seconds: i64,
    /// What is declared of this machine's clock.
    pub clock: ClockRule,
}

/// A CA from which keys are taken: the operator declares that it is trustworthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportCa {
    /// Its public key.
    pub key: Jwk,
    /// What is declared of the way it makes keys; without it none of its keys is taken at level 2
    /// (`I-3.5.1-import-L2-ca-keygen`).
    pub generation: Option<String>,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

impl ModuleConfig {
    /// The usual settings: copies are kept for 90 days, keys live for five years, an act is good for what the protocol
    /// lets it be.
    pub fn new(sam: impl Into<String>, node: impl Into<String>, max_uses: u64) -> Self {
        Self {
            sam: sam.into(),
            node: node.into(),
            max_uses,
            copies_kept_days: 90,
            // As long as the longest certificates of persons live.
            key_life_days: 1826,
            import_cas: Vec::new(),
            officers: Vec::new(),
            officer_changes: Vec::new(),
            administrator: None,
            witness_declaration: None,
            // As long as an act lives.
            key_cache_seconds: 300,
            // As the protocol has them: items of an act, and an hour of renewals and the life of its last token.
            act_uses: 10_000,
            act_seconds: 3_900,
            clock: ClockRule::Unsynchronised,
        }
    }

    fn digest(&self) -> Digest32 {
        sha256(&[format!("{self:?}").as_bytes()])
    }
}

/// Why the module didn't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A self-test failed, of the module or of its back end.
    #[error("the self-test failed: {0}")]
    SelfTest(#[from] Fault),
    /// The store.
    #[error("the module's store: {0}")]
    Store(#[from] StoreError),
    /// The root secret isn't the one the store was made with, or the store was tampered with.
    #[error("the root secret doesn't open this store")]
    WrongRoot,
    /// The table of approved algorithms.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The officers aren't those that the module remembers.
    #[error(transparent)]
    Officers(#[from] OfficersError),
    /// The library can't make keys.
    #[error("the module can't make its own keys")]
    Keys,
}

/// A running module. Shared by all its connections.
pub struct Module {
    pub(crate) config: ModuleConfig,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) store: Store,
    pub(crate) audit: AuditLog,
    pub(crate) vault: Vault,
    pub(crate) cache: KeyCache,
    pub(crate) seen: Seen,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<Watched>,
    /// That it failed was told, since it began.
    pub(crate) random_told: AtomicBool,
    pub(crate) nonces: Nonces,
    pub(crate) moduli: Arc<Moduli>,
    pub(crate) policy: Policy,
    pub(crate) root: SigningKey,
    pub(crate) import: SealKey,
    pub(crate) state: StateCell,
    /// Whoever writes errors or their end, and brings the state to what is written.
    pub(crate) keeping: tokio::sync::Mutex<()>,
    pub(crate) times: Times,
    pub(crate) clock_watch: ClockWatch,
    pub(crate) switch: SwitchCell,
    pub(crate) pause: Arc<dyn Pause>,
    /// Orders under way, so that a change of the wrapping key leaves none without its key.
    pub(crate) running: Running,
    pub(crate) change: Change,
    /// The list of officers that this process goes by.
    pub(crate) in_office: InOffice,
    pub(crate) handed: Handed,
    /// The latest version of the SAM's mark that this process has met.
    pub(crate) sam_met: AtomicI64,
    pub(crate) own: Option<Arc<dyn OwnFiles>>,
}

impl Module {
    /// Starts with the table of approved algorithms that comes with the program; see [`Self::start_with`].
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(
        config: ModuleConfig,
        backend: Arc<dyn Backend>,
        store: Store,
        root_secret: &RootSecret,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, StartError> {
        let policy = Policy::built_in()?;
        Self::start_with(config, policy, backend, store, root_secret, clock, random).await
    }

    /// Runs the self-tests, opens or makes the module's own keys, and records the start.
    ///
    /// # Errors
    /// [`StartError`]; a module that can't vouch for itself doesn't start (`III-3-13-secure-state`).
    pub async fn start_with(
        config: ModuleConfig,
        policy: Policy,
        backend: Arc<dyn Backend>,
        store: Store,
        root_secret: &RootSecret,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, StartError> {
        let random = Arc::new(Watched::new(random));
        if let Err(fault) = self_tests(backend.clone(), random.clone()).await {
            let (node, clock) = (config.node.as_str(), clock.as_ref());
            let why = NotStarted::by(&fault);
            not_started(node, &store, root_secret, clock, random, why).await?;
            return Err(fault.into());
        }
        let vault = Vault::new(root_secret).map_err(|_| StartError::Keys)?;
        let audit = AuditLog::new("cm", &config.node, vault.audit_key(), random.clone());
        let (_, fresh) = SigningKey::generate().map_err(|_| StartError::Keys)?;
        let (_, fresh_import) = SealKey::generate().map_err(|_| StartError::Keys)?;
        let now = clock.now();
        let started: Result<Result<_, StartError>, Failed> =
            transaction!(store, "cm-start", |tx| {
                let made = tx
                    .fetch_one(sql("SELECT count(*) AS n FROM cm_secret"))
                    .await?;
                let fresh_store = made.int("n")? == 0;
                if fresh_store {
                    // Before anything is made, so that a store isn't begun and then refused for ever.
                    if let Err(error) = office::enough(&config.officers, backend.ceiling()) {
                        return Ok(Err(error.into()));
                    }
                    switch::insert(tx, &vault, random.as_ref(), Switched::FIRST).await?;
                }
                let (switched, _) = switch::read(tx, &vault).await?;
                let root = store::secret(tx, &vault, random.as_ref(), "root", &fresh).await?;
                let import =
                    store::secret(tx, &vault, random.as_ref(), "import", &fresh_import).await?;
                let kid = SigningKey::from_pkcs8(&root).map_err(|_| Failed::Tampered)?;
                let kid = kid.public().kid();
                let keeper = Keeper {
                    vault: &vault,
                    random: random.as_ref(),
                    audit: &audit,
                    now,
                };
                let place = office::Place {
                    sam: &config.sam,
                    root: &kid,
                    ceiling: backend.ceiling(),
                };
                let named = (
                    config.officers.as_slice(),
                    config.officer_changes.as_slice(),
                );
                let office = match keeper.begin(tx, named, &place, fresh_store).await? {
                    Ok(office) => office,
                    Err(error) => return Ok(Err(error.into())),
                };
                let held = keeper.held(tx, fresh_store).await?;
                prune::begin(tx, &vault, random.as_ref()).await?;
                let last = mark::read(tx, &vault, mark::ALGORITHMS).await?;
                let (last, row): (Option<policy::Held>, _) = last.unzip();
                let next = match policy.follows(last.as_ref(), !config.officers.is_empty()) {
                    Ok(next) => next,
                    Err(error) => return Ok(Err(error.into())),
                };
                if let Some(next) = &next {
                    let random = random.as_ref();
                    mark::write(tx, &vault, random, mark::ALGORITHMS, next, row).await?;
                    let event = Event::AlgorithmsInForce {
                        version: next.version,
                        table: policy.table(),
                        officers: policy.signers(),
                    };
                    audit.append(tx, event, now).await?;
                }
                let settings = [
                    ("settings", config.digest()),
                    ("algorithms", policy.digest()),
                ];
                // No backup of a service is ever restored into the module's own store.
                let nobody = Restorers::default();
                audit
                    .starts(tx, VERSION.into(), &settings, &nobody, now)
                    .await?;
                if held.is_some() {
                    let what = "cm-error-held".into();
                    audit.append(tx, Event::Alarm { what }, now).await?;
                }
                Ok::<_, Failed>(Ok((root, import, switched, office, held)))
            });
        let started = started.map_err(start_error)?;
        let (root, import, switched, office, held) = match started {
            Ok(started) => started,
            Err(error) => {
                let what = match &error {
                    StartError::Officers(_) => "cm-officers-refused",
                    _ => "cm-algorithms-refused",
                };
                let what = Event::Alarm { what: what.into() };
                let told: Result<_, Failed> = transaction!(store, "cm-start", |tx| {
                    audit.append(tx, what.clone(), now).await?;
                    Ok::<_, Failed>(())
                });
                told.map_err(start_error)?;
                return Err(error);
            }
        };
        let root = SigningKey::from_pkcs8(&root).map_err(|_| StartError::Keys)?;
        let import = SealKey::from_private(&import).map_err(|_| StartError::Keys)?;
        if let Some(error) = &held {
            tracing::error!(
                error,
                "the module begins in its error state, which a restart doesn't end"
            );
            backend.hold(true);
        }
        let state = StateCell::begin(&config.node, now, held);
        let clock_watch = ClockWatch::new(config.clock, clock.clone());
        Ok(Self {
            config,
            backend,
            store,
            audit,
            vault,
            cache: KeyCache::default(),
            seen: Seen::lasting(),
            clock,
            random,
            random_told: AtomicBool::new(false),
            nonces: Nonces::default(),
            moduli: Arc::default(),
            policy,
            root,
            import,
            state,
            keeping: tokio::sync::Mutex::default(),
            times: Times::new(),
            clock_watch,
            switch: SwitchCell::new(switched, now),
            pause: Arc::new(SystemPause),
            running: Running::default(),
            change: Change::default(),
            in_office: office.in_office(),
            handed: Handed::new(now),
            sam_met: AtomicI64::new(0),
            own: None,
        })
    }

    /// The same module, which waits for a device in this way; for tests, in which no time passes.
    #[must_use]
    pub fn pausing(mut self, pause: Arc<dyn Pause>) -> Self {
        self.pause = pause;
        self
    }

    /// Public half of `K_root`, which the other zones pin.
    pub fn root(&self) -> &Jwk {
        self.root.public()
    }

    /// The audit log, for the sequencer of the composition root.
    pub fn audit(&self) -> &AuditLog {
        &self.audit
    }

    /// The same module, which stops for good when these files change.
    #[must_use]
    pub fn watching(mut self, own: Arc<dyn OwnFiles>) -> Self {
        self.own = Some(own);
        self
    }

    /// Records what the module runs as (`III-A1.7-log-hsm-settings`).
    ///
    /// # Errors
    /// [`Refusal::NotOperational`] when it can't be recorded.
    pub async fn runs_as(&self, files: RunsAs) -> Result<(), Refusal> {
        let RunsAs {
            program,
            configuration,
            library,
        } = files;
        let event = Event::ModuleSettings {
            settings: sha256(&[&program.0, &configuration.0]),
            program,
            library,
        };
        self.record(event).await
    }

    /// Takes note of what is known of the clock; what changed is recorded. With a declared bound no order is executed before this was
    /// called, so that the composition root calls it at start and then every few seconds.
    ///
    /// # Errors
    /// [`StoreError`]; then it counts all the same.
    pub async fn heed_clock(&self, heard: Heard) -> Result<(), StoreError> {
        let heeded = self.clock_watch.heed(heard, &self.audit, &self.store);
        heeded.await
    }

    pub(crate) fn root_answer(&self) -> RootAnswer {
        RootAnswer {
            root: self.root().clone(),
        }
    }

    /// Executes an order, once in its life.
    ///
    /// # Errors
    /// [`ModuleError::Refused`]: definite, no value came into being; [`ModuleError::Unknown`]: one may have, and the
    /// order is spent.
    pub async fn execute(&self, request: &ExecuteRequest) -> Result<Executed, ModuleError> {
        let mut order = None;
        let outcome = self.try_execute(request, &mut order).await;
        self.look_at_random().await;
        self.tell_news().await;
        match &outcome {
            Ok(_) => {}
            Err(ModuleError::Unknown) => self.alarm("cm-outcome-unknown").await,
            Err(ModuleError::Refused(refusal)) => {
                // A refusal that can't be recorded stands as it is: made into another one, the caller would take it for
                // leave to try again.
                let event = Event::OrderRefused {
                    order,
                    reason: refusal_code(refusal).into(),
                };
                if self.record(event).await.is_err() {
                    tracing::error!(%refusal, "a refusal couldn't be recorded");
                }
            }
        }
        outcome
    }

    pub(crate) async fn record(&self, event: Event) -> Result<(), Refusal> {
        let now = self.clock.now();
        let written: Result<_, Failed> = transaction!(self.store, "cm-record", |tx| {
            self.audit.append(tx, event.clone(), now).await?;
            Ok::<_, Failed>(())
        });
        written.map_err(|failed| self.fail(failed))
    }

    /// What a failed transaction means for the caller.
    pub(crate) fn fail(&self, failed: Failed) -> Refusal {
        match failed {
            Failed::Refused(refusal) => refusal,
            Failed::Store(error) => {
                tracing::error!(%error, "the module's store failed");
                Refusal::NotOperational
            }
            Failed::Tampered => {
                tracing::error!(
                    "a sealed row of the module doesn't open: it was altered, moved or set back"
                );
                Refusal::NoSuchKey
            }
        }
    }
}

pub(crate) fn start_error(failed: Failed) -> StartError {
    match failed {
        Failed::Store(e) => StartError::Store(e),
        Failed::Refused(_) | Failed::Tampered => StartError::WrongRoot,
    }
}

async fn self_tests(backend: Arc<dyn Backend>, random: Arc<dyn Random>) -> Result<(), Fault> {
    on_thread(move || {
        selftest::run(random.as_ref())?;
        backend.self_test()
    })
    .await
}

fn refusal_code(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::NotAuthentic => "not-authentic",
        Refusal::NotNow => "not-now",
        Refusal::Duplicate => "duplicate",
        Refusal::NoSuchKey => "no-such-key",
        Refusal::NotAllowed(reason) => reason.word(),
        Refusal::Malformed => "malformed",
        Refusal::NotOperational => "not-operational",
    }
}
