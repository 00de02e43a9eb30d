//! The SAM itself: start, recovery, and what all flows share.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use audit_log::{AuditLog, ClockWatch, Event};
use cm_api::CryptoModule;
use cm_api::rpc::{Empty, Root, RowKey, RowKeyRequest, Status};
use core_types::noise::Watched;
use core_types::timekeeping::ClockRule;
use core_types::{B64, Clock, Digest32, PeerId, Random, SecretBytes, UnixTime, sha256};
use jose::{Jwk, SealKey};
use sam_core::act::Issuer;
use sam_core::attest::Attesters;
use sam_core::enrol::Rules;
use sam_core::state::Now;
use sam_core::{ActState, Reason, Service};
use sap::office::calls::LevelsInfo;
use service_kit::{HourlyLimit, RateLimit};
use store_kit::{Store, StoreError, Tx, sql, transaction};
use tokio::sync::Semaphore;

use crate::backups::BackupsTold;
use crate::config::SamConfig;
use crate::courier::Courier;
use crate::failed::Failed;
use crate::flows::{AlertsTold, Endings};
use crate::metadata::Authenticators;
use crate::records::PersonRecord;
use crate::reminders::Reminded;
use crate::ring::{Ring, Rings};
use crate::rows::{self, Noun as _, Walk};
use crate::sealer::Sealer;
use crate::searches::Searches;
use crate::start_error::StartError;

/// How many PINs are hashed at once: each takes 19 MiB and a core.
const HASHES_AT_ONCE: usize = 2;
/// Above this number of items work moves to a thread of its own.
const FEW: usize = 64;
/// Rows handled by one step of pruning.
const BATCH: i64 = 200;
/// Acts and requests are kept this long after their end, for pages that ask what became of them.
const KEEP: i64 = 24 * 3600;

/// A running SAM in the hands of one tenant: of the others' rows it sees none. Cheap to clone; all clones share everything.
pub struct Sam<C> {
    inner: Arc<Inner<C>>,
    pub(crate) config: Arc<SamConfig>,
    pub(crate) sealer: Arc<Sealer>,
    pub(crate) service: Arc<Service>,
    pub(crate) audit: AuditLog,
}

/// What a SAM consists of. Not exported; public only because `Deref` asks for it.
pub struct Inner<C> {
    /// The tenants, the provider's own first.
    views: Vec<View>,
    pub(crate) module: C,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    /// The same generator, and what its tests say.
    watched: Arc<Watched>,
    /// Whether the log tells that it has failed.
    random_told: AtomicBool,
    /// Seals what is the SAM's own, and nobody's.
    pub(crate) house: Arc<Sealer>,
    pub(crate) rings: Rings,
    pub(crate) root: Jwk,
    pub(crate) hashing: Semaphore,
    pub(crate) clock_watch: ClockWatch,
    /// One at a time makes acts void.
    pub(crate) voiding: tokio::sync::Mutex<()>,
    pub(crate) backups_told: BackupsTold,
    pub(crate) authenticators: Authenticators,
    pub(crate) reminded: Reminded,
    /// Levels of the keys, as the last comparison of all rows met them.
    pub(crate) levels: Mutex<Option<LevelsInfo>>,
    pub(crate) courier: OnceLock<Arc<dyn Courier>>,
    /// Whether it was alarmed that something waits for a courier.
    pub(crate) courier_missed: AtomicBool,
    pub(crate) guards: HourlyLimit<PeerId>,
    pub(crate) strangers: RateLimit<PeerId>,
    pub(crate) searches: Searches,
    pub(crate) endings: Endings,
    pub(crate) alerts_told: AlertsTold,
}

/// What is different from tenant to tenant.
struct View {
    config: Arc<SamConfig>,
    sealer: Arc<Sealer>,
    service: Arc<Service>,
    audit: AuditLog,
}

impl<C> Clone for Sam<C> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            config: self.config.clone(),
            sealer: self.sealer.clone(),
            service: self.service.clone(),
            audit: self.audit.clone(),
        }
    }
}

impl<C> Deref for Sam<C> {
    type Target = Inner<C>;

    fn deref(&self) -> &Inner<C> {
        &self.inner
    }
}

impl<C: CryptoModule> Sam<C> {
    /// Asks the module for the row key, records the start, compares rows and log, and gives up what a crash left half
    /// done.
    ///
    /// `root`: pinned root key of the module, or nothing to trust the one that answers (first start).
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(
        config: SamConfig,
        module: C,
        store: Store,
        root: Option<Jwk>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, StartError> {
        let sam = Self::build(config, module, store, root, clock, random).await?;
        sam.check_begun().await?;
        sam.record_start().await?;
        let (found, told) = sam.scrub_and_tell().await?;
        sam.adopt_settings(&found, told.obeyed).await?;
        sam.adopt_policies(&told.policies).await?;
        sam.begin_metadata(&told.issues).await?;
        sam.declare_pages().await?;
        sam.make_standings(&found).await?;
        if sam.config.clock == ClockRule::Unsynchronised {
            sam.watch_clock().await?;
        }
        let now = sam.clock.now();
        for tenant in sam.tenants() {
            tenant.recover(now).await?;
        }
        let epoch = sam.epoch().await?;
        match sam.ring(epoch, now).await {
            Ok(_) => Ok(sam),
            Err(Failed::Store(error)) => Err(error.into()),
            Err(_) => Err(StartError::Unusable(
                "its keys don't open, or the module doesn't vouch for them",
            )),
        }
    }

    /// The log of a SAM that isn't started, for bringing it up after a restore and for reading it. Nothing is written but the wrapped row key.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn log_of(
        config: SamConfig,
        module: C,
        store: Store,
        root: Option<Jwk>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<AuditLog, StartError> {
        let sam = Self::build(config, module, store, root, clock, random).await?;
        sam.audit.knows_makers(&sam.config.restorers);
        Ok(sam.audit.clone())
    }

    /// A SAM that hasn't started: with its keys, and nothing written but the wrapped row key.
    pub(crate) async fn build(
        config: SamConfig,
        module: C,
        store: Store,
        root: Option<Jwk>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, StartError> {
        let watched = Arc::new(Watched::begin(random.clone())?);
        let answered = module.call::<Root>(&Empty {}).await?.root;
        if root.is_some_and(|pinned| pinned != answered) {
            return Err(StartError::OtherRoot);
        }
        let health = module.call::<Status>(&Empty {}).await?;
        config.check().map_err(StartError::Unusable)?;
        let row_key = row_key(&module, &store).await?;
        let house = Sealer::new(&row_key, config.tenant.clone(), watched.clone())
            .map_err(|_| StartError::Unusable("the row key has another form"))?;
        let house = Arc::new(house);
        let audit_key = sha256(&[b"natsuin-sam-audit-v1\n", row_key.expose()]);
        let audit_key = SecretBytes::new(audit_key.0.to_vec());
        let persons = Some(PersonRecord::TABLE);
        // The log isn't sealed with nonces, and has to tell of the generator's failure.
        let node = match config.beside {
            true => audit_log::beside(&config.node),
            false => config.node.clone(),
        };
        let audit = AuditLog::naming("sam", &node, audit_key, random, persons);
        let witness = config.witness_declaration.as_deref();
        let judged = |policy| Service::judge(&health, policy).map(|s| s.witnessed(witness));
        let mut views = vec![View {
            service: Arc::new(judged(&config.policy)?),
            sealer: house.clone(),
            audit: audit.clone(),
            config: Arc::new(config.clone()),
        }];
        for tenant in &config.tenants {
            views.push(View {
                service: Arc::new(judged(&tenant.policy)?),
                sealer: Arc::new(house.of(tenant.id.clone())),
                audit: audit.within(&tenant.id),
                config: Arc::new(config.within(tenant)),
            });
        }
        let clock_watch = ClockWatch::new(config.clock, clock.clone());
        let inner = Arc::new(Inner {
            views,
            module,
            store,
            clock,
            random: watched.clone(),
            watched,
            random_told: AtomicBool::new(false),
            house,
            rings: Rings::default(),
            root: answered,
            hashing: Semaphore::new(HASHES_AT_ONCE),
            clock_watch,
            voiding: tokio::sync::Mutex::default(),
            backups_told: BackupsTold::default(),
            authenticators: Authenticators::new(config.attestation.clone()),
            reminded: Reminded::default(),
            levels: Mutex::new(None),
            courier: OnceLock::new(),
            courier_missed: AtomicBool::new(false),
            guards: HourlyLimit::default(),
            strangers: RateLimit::default(),
            searches: Searches::default(),
            endings: Endings::default(),
            alerts_told: AlertsTold::default(),
        });
        let own = &inner.views[0];
        Ok(Self::with(inner.clone(), own))
    }

    fn with(inner: Arc<Inner<C>>, view: &View) -> Self {
        Self {
            config: view.config.clone(),
            sealer: view.sealer.clone(),
            service: view.service.clone(),
            audit: view.audit.clone(),
            inner,
        }
    }

    /// This SAM in the hands of each tenant, the provider's own first.
    pub(crate) fn tenants(&self) -> impl Iterator<Item = Self> {
        let inner = &self.inner;
        let views = inner.views.iter();
        views.map(|view| Self::with(inner.clone(), view))
    }

    /// The public root key of the module; other zones pin its thumbprint.
    pub fn root(&self) -> &Jwk {
        &self.root
    }

    /// Who brings one-time codes to signers; without one none are sent. The first one stays.
    pub fn send_codes_by(&self, courier: Arc<dyn Courier>) {
        self.courier.get_or_init(|| courier);
    }

    /// The audit log, for the sequencer of the composition root.
    pub fn audit(&self) -> &AuditLog {
        &self.audit
    }

    /// Gives up orders whose outcome nobody can know any more, ends keys whose certificates are over, has the module
    /// destroy what is gone, and deletes what has no power and no use left.
    /// Safe at any time on any node; the composition root calls it now and then.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn maintain(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        self.look_at_random().await;
        self.watch_clock().await?;
        self.watch_backups().await?;
        self.watch_metadata().await?;
        self.remind(now).await?;
        self.end_waiting(now).await?;
        self.end_overdue(now).await?;
        // Also where nobody asks for anything: the next keys want the word of these, while they are there.
        let epoch = self.epoch().await?;
        if self.ring(epoch, now).await.is_err() {
            tracing::warn!("there are no keys of today yet; it is tried again");
        }
        for tenant in self.tenants() {
            tenant.recover(now).await?;
            tenant.end_expired(now).await?;
            tenant.end_spent(now).await?;
            tenant.hand_over_leaving().await?;
            tenant.destroy_doomed().await?;
        }
        self.prune(now).await
    }

    /// Records once that the generator has failed. From then on no row is sealed and no act looked at, until a restart
    /// finds a good one (`II-3.3.2-random-quality`).
    async fn look_at_random(&self) {
        if self.watched.failed() && !self.random_told.swap(true, Ordering::SeqCst) {
            tracing::error!("the SAM's random generator failed: nothing is done until a restart");
            self.record(Event::Alarm {
                what: "sam-random-failed".into(),
            })
            .await;
        }
    }

    /// The epoch as of now; what is written under it is checked against [`Self::now`] in its transaction.
    pub(crate) async fn epoch(&self) -> Result<Digest32, StoreError> {
        Ok(sha256(&[&self.store.read_epoch_source().await?]))
    }

    /// The world as of this transaction.
    pub(crate) async fn now(&self, tx: &mut Tx) -> Result<Now, Failed> {
        if self.watched.failed() {
            return Err(Reason::NotNow.into());
        }
        Ok(self.at(sha256(&[&tx.epoch_source().await?])))
    }

    /// The world at this moment in this epoch.
    pub(crate) fn at(&self, epoch: Digest32) -> Now {
        Now {
            time: self.clock.now(),
            epoch,
            policy: self.config.policy.version,
        }
    }

    /// What decides how much a factor counts. `attesters`: what is known of authenticators, [`Self::attesters`].
    pub(crate) fn rules<'a>(&'a self, attesters: &'a Attesters) -> Rules<'a> {
        Rules {
            policy: &self.config.policy,
            attesters,
            providers: &self.config.providers,
        }
    }

    pub(crate) fn issuer(&self, epoch: Digest32) -> Issuer<'_> {
        Issuer {
            sam: &self.config.sam,
            tenant: &self.config.tenant,
            brand: self.config.brand.as_ref(),
            epoch,
            policy: self.config.policy.version,
        }
    }

    /// Runs slow work on a thread for it.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Reason> + Send + 'static,
    ) -> Result<T, Reason> {
        tokio::task::spawn_blocking(work)
            .await
            .unwrap_or(Err(Reason::NotNow))
    }

    /// Runs work that is slow only for many items: a few are done here, which takes less than handing them over.
    pub(crate) async fn by_size<T: Send + 'static>(
        &self,
        items: usize,
        work: impl FnOnce() -> Result<T, Reason> + Send + 'static,
    ) -> Result<T, Reason> {
        if items <= FEW {
            work()
        } else {
            self.blocking(work).await
        }
    }

    /// The text of an act, checked against its name.
    pub(crate) async fn act_text(&self, tx: &mut Tx, digest: Digest32) -> Result<String, Failed> {
        let select = sql("SELECT jws FROM act_text WHERE id = $1");
        let row = tx.fetch_optional(select.bind(digest.to_string())).await?;
        let jws = row.ok_or(Reason::NotFound)?.text("jws")?;
        if sap::act_digest(&jws) == digest {
            Ok(jws)
        } else {
            Err(Failed::Tampered("act_text"))
        }
    }

    /// Stores evidence under its digest.
    pub(crate) async fn put_evidence(
        &self,
        tx: &mut Tx,
        digest: Digest32,
        bytes: &[u8],
    ) -> Result<(), Failed> {
        let insert = sql("INSERT INTO evidence (id, body) VALUES ($1, $2) ON CONFLICT DO NOTHING");
        tx.execute(insert.bind(digest.to_string()).bind(bytes))
            .await?;
        Ok(())
    }

    /// Evidence by its digest, for receipts and the auditor's export.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn evidence(&self, digest: Digest32) -> Result<Option<Vec<u8>>, StoreError> {
        let mut tx = self.store.read("evidence").await?;
        let select = sql("SELECT body FROM evidence WHERE id = $1").bind(digest.to_string());
        let row = tx.fetch_optional(select).await?;
        let body = row.map(|r| r.blob("body")).transpose()?;
        Ok(body.filter(|b| sha256(&[b]) == digest))
    }

    /// Records something that isn't joined to an effect, such as a refusal. Refusals stand even if this fails, so
    /// that a full log can't turn a *no* into anything else.
    pub(crate) async fn record(&self, event: Event) {
        let now = self.clock.now();
        let written: Result<(), StoreError> = transaction!(self.store, "sam-record", |tx| {
            self.audit.append(tx, event.clone(), now).await?;
            Ok::<_, StoreError>(())
        });
        if let Err(error) = written {
            tracing::error!(%error, "a refusal could not be recorded");
        }
    }

    /// Turns the end of a flow into its reason, and tells operators what they must look at.
    pub(crate) async fn explain(&self, failed: &Failed) -> Reason {
        if let Some(what) = failed.alarm() {
            tracing::error!(what, %failed, "somebody wrote to the SAM's store");
            self.record(Event::Alarm { what: what.into() }).await;
        } else if let Failed::Store(error) = failed {
            tracing::error!(%error, "the SAM's store or audit log failed");
        }
        self.look_at_random().await;
        failed.reason()
    }

    /// Records that rows were written in this transaction, where no event says more.
    pub(crate) async fn rows_changed(
        &self,
        tx: &mut Tx,
        why: &'static str,
    ) -> Result<(), StoreError> {
        let event = Event::RowsChanged { why: why.into() };
        self.audit
            .append(tx, event, self.clock.now())
            .await
            .map(drop)
    }

    async fn record_start(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let digest = |text: String| sha256(&[text.as_bytes()]);
        let settings = [
            ("policy", self.config.policy.digest()),
            ("settings", digest(format!("{:?}", self.config))),
        ];
        transaction!(self.store, "sam-start", |tx| {
            let version = env!("CARGO_PKG_VERSION").into();
            let restorers = &self.config.restorers;
            self.audit
                .starts(tx, version, &settings, restorers, now)
                .await?;
            Ok::<_, StoreError>(())
        })
    }

    /// Jobs whose orders have passed their time become lost.
    async fn recover(&self, now: UnixTime) -> Result<(), StoreError> {
        let mut taken = Walk::new(rows::TAKEN, &self.sealer, UnixTime(i64::MAX));
        while let Some(id) = taken.next(&self.store).await? {
            let done: Result<(), Failed> = transaction!(self.store, "give-up", |tx| {
                let Some(row) = rows::get::<ActState>(tx, &self.sealer, &id).await? else {
                    return Ok(());
                };
                if let Some(next) = row.body.give_up(now) {
                    rows::save(tx, &self.sealer, &row, &next).await?;
                    let act = Digest32::parse(&id).map_err(|_| Failed::Tampered("act"))?;
                    let person = Some(row.body.person.clone());
                    let event = Event::SadEnded {
                        act,
                        person,
                        reason: "lost".into(),
                    };
                    self.audit.append(tx, event, now).await?;
                }
                Ok::<_, Failed>(())
            });
            self.go_on(&mut taken, done).await?;
        }
        Ok(())
    }

    /// Deleting is always safe: authority is a row that is there (R1).
    async fn prune(&self, now: UnixTime) -> Result<(), StoreError> {
        self.rings.forget(now);
        let (old, expired) = (now.plus(-KEEP).0, now.0);
        loop {
            let most: Result<u64, StoreError> = transaction!(self.store, "prune", |tx| {
                let mut most = 0;
                for (statement, before) in [
                    (
                        "DELETE FROM result WHERE id IN (SELECT id FROM result WHERE stamp <= $1 LIMIT $2)",
                        expired,
                    ),
                    (
                        "DELETE FROM request WHERE id IN (SELECT id FROM request WHERE stamp <= $1 LIMIT $2)",
                        old - sam_core::act::MAX_REQUEST_LIFE,
                    ),
                    (
                        "DELETE FROM act WHERE id IN (SELECT id FROM act WHERE stamp <= $1 AND state <> 'taken' LIMIT $2)",
                        old,
                    ),
                    // The SAM's own keys end with their statements: what was sealed for them stays sealed. The newest stay until others follow.
                    (
                        "DELETE FROM keyring WHERE id IN (SELECT id FROM keyring WHERE stamp <= $1 AND id <> \
                         (SELECT id FROM keyring WHERE id <> 'next' ORDER BY stamp DESC LIMIT 1) LIMIT $2)",
                        expired,
                    ),
                ] {
                    let deleted = tx.execute(sql(statement).bind(before).bind(BATCH)).await?;
                    most = deleted.max(most);
                }
                let texts = "DELETE FROM act_text WHERE id IN (SELECT t.id FROM act_text t LEFT JOIN act a ON a.id = t.id \
                             WHERE a.id IS NULL LIMIT $1)";
                let deleted = tx.execute(sql(texts).bind(BATCH)).await?;
                Ok::<_, StoreError>(deleted.max(most))
            });
            // One batch at a time, so that nobody waits long; as many as there are.
            if most? < BATCH.unsigned_abs() {
                return Ok(());
            }
        }
    }
}

/// The keys of live rings that open sealed secrets.
pub(crate) fn seal_keys(rings: &[Arc<Ring>]) -> Vec<&SealKey> {
    rings.iter().map(|r| r.seal()).collect()
}

async fn row_key<C: CryptoModule>(module: &C, store: &Store) -> Result<SecretBytes, StartError> {
    let read = || async {
        let mut tx = store.read("row-key").await?;
        let row = tx
            .fetch_optional(sql("SELECT wrapped FROM row_key WHERE id = $1").bind(1_i64))
            .await?;
        row.map(|r| r.blob("wrapped").map(B64)).transpose()
    };
    let mut wrapped = read().await?;
    if wrapped.is_none() {
        let made = module
            .call::<RowKey>(&RowKeyRequest { wrapped: None })
            .await?;
        let stored: Result<u64, StoreError> = transaction!(store, "row-key-make", |tx| {
            let insert =
                sql("INSERT INTO row_key (id, wrapped) VALUES ($1, $2) ON CONFLICT DO NOTHING");
            tx.execute(insert.bind(1_i64).bind(made.wrapped.0.as_slice()))
                .await
        });
        stored?;
        // Another node may have been faster: what stands in the store counts.
        wrapped = read().await?;
    }
    Ok(module.call::<RowKey>(&RowKeyRequest { wrapped }).await?.key)
}
