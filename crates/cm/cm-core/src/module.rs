//! The module: start, its own secrets, and the calls that are not orders.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use audit_log::{AuditLog, Event};
use cm_api::rpc::{
    Health, PinMacAnswer, PinMacRequest, RootAnswer, RowKeyAnswer, RowKeyRequest, StatementAnswer,
    StatementRequest,
};
use cm_api::{ExecuteRequest, Executed, Refusal};
use core_types::{B64, Clock, Digest32, Random, SecretBytes, sha256};
use jose::{Jwk, SigningKey};
use sam_keys::{MAX_STATEMENT_LIFE, SamKeys, TYP_KEYS};
use store_kit::{Store, StoreError, transaction};

use crate::backend::{Backend, Fault};
use crate::execute::KeyCache;
use crate::store::{self, Failed};
use crate::vault::{RootSecret, Vault};

/// How the module is set up.
#[derive(Debug, Clone)]
pub struct ModuleConfig {
    /// Name of the one SAM whose orders are executed.
    pub sam: String,
    /// Name of this node in the audit log.
    pub node: String,
    /// Most signatures in the life of a key.
    pub max_uses: u64,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

impl ModuleConfig {
    fn digest(&self) -> Digest32 {
        sha256(&[format!("{self:?}").as_bytes()])
    }
}

/// Why the module didn't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The back end failed its self-test.
    #[error("the back end failed its self-test: {0}")]
    SelfTest(#[from] Fault),
    /// The store.
    #[error("the module's store: {0}")]
    Store(#[from] StoreError),
    /// The root secret isn't the one the store was made with, or the store was tampered with.
    #[error("the root secret doesn't open this store")]
    WrongRoot,
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
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    root: SigningKey,
    error: AtomicBool,
}

impl Module {
    /// Runs the self-tests, opens or makes the module's own keys, and records the start.
    ///
    /// # Errors
    /// [`StartError`]; a module that can't vouch for itself doesn't start (`III-3-13-secure-state`).
    pub async fn start(
        config: ModuleConfig,
        backend: Arc<dyn Backend>,
        store: Store,
        root_secret: &RootSecret,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, StartError> {
        backend.self_test()?;
        let vault = Vault::new(root_secret).map_err(|_| StartError::Keys)?;
        let audit = AuditLog::new("cm", &config.node, vault.audit_key());
        let (_, fresh) = SigningKey::generate().map_err(|_| StartError::Keys)?;
        let now = clock.now();
        let started: Result<_, Failed> = transaction!(store, "cm-start", |tx| {
            let root = store::secret(tx, &vault, random.as_ref(), "root", &fresh).await?;
            let settings = config.digest();
            audit.append(tx, Event::AuditStarted {}, now).await?;
            audit
                .append(
                    tx,
                    Event::ServiceStarted {
                        version: VERSION.into(),
                        settings,
                    },
                    now,
                )
                .await?;
            Ok::<_, Failed>(root)
        });
        let root = started.map_err(|failed| match failed {
            Failed::Store(e) => StartError::Store(e),
            Failed::Refused(_) | Failed::Tampered => StartError::WrongRoot,
        })?;
        let root = SigningKey::from_pkcs8(&root).map_err(|_| StartError::Keys)?;
        Ok(Self {
            config,
            backend,
            store,
            audit,
            vault,
            cache: KeyCache::default(),
            clock,
            random,
            root,
            error: AtomicBool::new(false),
        })
    }

    /// Public half of `K_root`, which the other zones pin.
    pub fn root(&self) -> &Jwk {
        self.root.public()
    }

    /// The audit log, for the sequencer of the composition root.
    pub fn audit(&self) -> &AuditLog {
        &self.audit
    }

    /// Enters the error state: no order is executed any more until a restart passes the self-tests.
    pub(crate) fn latch(&self, why: &'static str) {
        self.error.store(true, Ordering::SeqCst);
        tracing::error!(why, "the cryptographic module is in its error state");
    }

    /// Refuses in the error state (`III-3-13-secure-state`).
    pub(crate) fn operational(&self) -> Result<(), Refusal> {
        if self.error.load(Ordering::SeqCst) {
            Err(Refusal::NotOperational)
        } else {
            Ok(())
        }
    }

    pub(crate) fn root_answer(&self) -> RootAnswer {
        RootAnswer {
            root: self.root().clone(),
        }
    }

    pub(crate) fn health(&self) -> Health {
        Health {
            operational: self.operational().is_ok(),
            backend: self.backend.name().to_owned(),
            ceiling: self.backend.ceiling(),
        }
    }

    /// Vouches for the keys of the configured SAM, and signs nothing else with `K_root`.
    ///
    /// # Errors
    /// [`Refusal`]: another SAM, or times out of bounds.
    pub async fn statement(&self, request: StatementRequest) -> Result<StatementAnswer, Refusal> {
        self.operational()?;
        let now = self.clock.now();
        if request.sam != self.config.sam {
            return Err(Refusal::NotAuthentic);
        }
        if request.nbf > now.plus(60)
            || request.exp <= now
            || request.exp.0 - request.nbf.0 > MAX_STATEMENT_LIFE
        {
            return Err(Refusal::NotNow);
        }
        let event = Event::StatementSigned {
            act_key: request.act.thumbprint(),
        };
        let body = SamKeys {
            sam: request.sam,
            epoch: request.epoch,
            act: request.act,
            seal: request.seal,
            nbf: request.nbf,
            exp: request.exp,
        };
        let payload = serde_json::to_vec(&body).map_err(|_| Refusal::Malformed)?;
        self.record(event).await?;
        let statement = self
            .root
            .sign(TYP_KEYS, &payload)
            .map_err(|_| Refusal::NotOperational)?;
        Ok(StatementAnswer { statement })
    }

    /// Makes or unwraps the key that seals the SAM's rows.
    pub(crate) fn row_key(&self, request: &RowKeyRequest) -> Result<RowKeyAnswer, Refusal> {
        self.operational()?;
        match &request.wrapped {
            Some(wrapped) => {
                let key = self
                    .vault
                    .unwrap_row_key(&wrapped.0)
                    .map_err(|_| Refusal::NotAuthentic)?;
                Ok(RowKeyAnswer {
                    key,
                    wrapped: wrapped.clone(),
                })
            }
            None => {
                let key = SecretBytes::new(self.random.digest32().0.to_vec());
                let wrapped = self.vault.wrap_row_key(&key, self.random.as_ref());
                Ok(RowKeyAnswer {
                    key,
                    wrapped: B64(wrapped.map_err(|_| Refusal::NotOperational)?),
                })
            }
        }
    }

    /// Keyed hash of a PIN (`sap.md` §3, `K_pin`).
    pub(crate) fn pin_mac(&self, request: &PinMacRequest) -> Result<PinMacAnswer, Refusal> {
        self.operational()?;
        if request.hash.len() != 32 {
            return Err(Refusal::Malformed);
        }
        Ok(PinMacAnswer {
            mac: self.vault.pin_mac(request.factor.as_str(), &request.hash),
        })
    }

    /// Executes an order, once in its life.
    ///
    /// # Errors
    /// [`Refusal`]: definite, no private-key operation took place.
    pub async fn execute(&self, request: &ExecuteRequest) -> Result<Executed, Refusal> {
        let outcome = self.try_execute(request).await;
        if let Err(refusal) = &outcome {
            // A refusal that can't be recorded is refused all the same.
            if self
                .record(Event::OrderRefused {
                    order: None,
                    reason: refusal_code(refusal).into(),
                })
                .await
                .is_err()
            {
                return Err(Refusal::NotOperational);
            }
        }
        outcome
    }

    async fn record(&self, event: Event) -> Result<(), Refusal> {
        let now = self.clock.now();
        let written: Result<_, Failed> = transaction!(self.store, "cm-record", |tx| {
            self.audit.append(tx, event.clone(), now).await?;
            Ok::<_, Failed>(())
        });
        written.map_err(|failed| self.fail(failed))
    }

    /// What a failed transaction means for the caller; tampering latches the error state.
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

fn refusal_code(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::NotAuthentic => "not-authentic",
        Refusal::NotNow => "not-now",
        Refusal::Duplicate => "duplicate",
        Refusal::NoSuchKey => "no-such-key",
        Refusal::NotAllowed(_) => "not-allowed",
        Refusal::Malformed => "malformed",
        Refusal::NotOperational => "not-operational",
    }
}
