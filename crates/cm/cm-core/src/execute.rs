//! Execution of admitted orders.

use audit_log::Event;
use cm_api::rpc::Reason;
use cm_api::{ExecuteRequest, Executed, KeyCreated, ModuleError, OrderBody, OrderKind, Refusal};
use core_types::{
    B64, Digest32, KeyAlg, KeyId, Level, OriginCase, PersonId, TenantId, UnixTime, sha256,
};
use sam_keys::{Origin, TYP_ORIGIN};
use store_kit::transaction;

use crate::attributes::{KeyAttributes, KeyUse, Purpose, Tree};
use crate::backend::{NO_WRAPPING_KEY, NewKey};
use crate::import::{Import, WRAPPING_STRENGTH};
use crate::module::Module;
use crate::store::{self, Failed, KeyRow};
use crate::{admit, backend::Fault, weak};

/// What an order to make a key says.
struct Ordered<'o> {
    tenant: &'o TenantId,
    owner: &'o PersonId,
    alg: KeyAlg,
    level: Level,
    act: Digest32,
    exportable: bool,
    one_time: bool,
}

/// Both keys are given away, and their maker isn't to be trusted.
const COMMON_FACTOR: Fault = Fault::Broken("a key with a factor of another one");

impl Module {
    /// `named`: takes the order's name, once it is authentic.
    pub(crate) async fn try_execute(
        &self,
        request: &ExecuteRequest,
        named: &mut Option<Digest32>,
    ) -> Result<Executed, ModuleError> {
        let _running = self.running.begin().await;
        self.look_at_switch().await?;
        self.operational()?;
        self.look_at_clock().await?;
        let now = self.clock.now();
        let order = admit::authentic(request, self.root(), &self.config.sam, now)?;
        *named = Some(order.order);
        admit::admit(&order, now)?;
        let done = self.follow(&order).await;
        if done.is_ok() {
            self.executed(&order, now);
        }
        done
    }

    async fn follow(&self, order: &OrderBody) -> Result<Executed, ModuleError> {
        match &order.kind {
            OrderKind::Generate {
                tenant,
                owner,
                alg,
                level,
                act,
                exportable,
                one_time,
            } => {
                let ordered = Ordered {
                    tenant,
                    owner,
                    alg: *alg,
                    level: *level,
                    act: *act,
                    exportable: *exportable,
                    one_time: *one_time,
                };
                self.generate(order, ordered).await
            }
            OrderKind::Import {
                tenant,
                owner,
                level,
                act,
                case,
                spki,
                envelope,
            } => {
                let import = Import {
                    tenant,
                    owner,
                    level: *level,
                    act: *act,
                    case: *case,
                    spki: *spki,
                    envelope,
                };
                self.import(order, import).await
            }
            OrderKind::HandOver {
                key,
                version,
                spki,
                receiver,
                act,
            } => {
                self.hand_over(order, key, *version, *spki, receiver, *act)
                    .await
            }
            OrderKind::SignCsr {
                key,
                version,
                spki,
                info,
            } => self.sign_csr(order, key, *version, *spki, info).await,
            OrderKind::Sign { .. } => self.sign(order).await,
            OrderKind::Destroy {
                key,
                version,
                spki,
                act,
                cause,
            } => {
                self.destroy(order, key, *version, *spki, *act, *cause)
                    .await
            }
            OrderKind::Checkpoint {
                key,
                spki,
                size,
                root,
            } => {
                let tree = Tree {
                    size: *size,
                    root: *root,
                };
                self.checkpoint(key, *spki, tree).await
            }
        }
    }

    async fn generate(
        &self,
        order: &OrderBody,
        ordered: Ordered<'_>,
    ) -> Result<Executed, ModuleError> {
        let Ordered {
            tenant,
            owner,
            alg,
            level,
            act,
            exportable,
            one_time,
        } = ordered;
        let now = self.clock.now();
        let leaves = level == Level::One && !one_time && self.backend.exports();
        if exportable && !leaves {
            return Err(Refusal::NotAllowed(Reason::Export).into());
        }
        // What could never be handed over isn't said to be exportable.
        if exportable && alg.strength() > WRAPPING_STRENGTH {
            return Err(Refusal::NotAllowed(Reason::WrappingStrength).into());
        }
        self.may_make(alg, level, now)?;
        // The order is spent before the back end is asked: asked again, it makes no second key.
        let taken: Result<_, Failed> = transaction!(self.store, "cm-generate", |tx| {
            self.take_order(tx, order, now).await?;
            let (order, what) = (order.order, "generate".into());
            let event = Event::OrderAdmitted { order, what };
            self.audit.append(tx, event, now).await?;
            Ok::<_, Failed>(())
        });
        taken.map_err(|failed| self.fail(failed))?;
        let made = self.new_key(alg).await?;
        let attributes = KeyAttributes {
            key: KeyId::random(self.random.as_ref()),
            version: 1,
            tenant: tenant.clone(),
            owner: owner.clone(),
            alg,
            purpose: Purpose::Documents,
            spki: sha256(&[&made.spki]),
            level,
            exportable,
            one_time,
            origin: self.backend.name().to_owned(),
            case: self.case_here(),
            act,
            created: now,
            not_after: self.not_after(now),
            max_uses: match one_time {
                true => self.config.max_uses.min(self.config.act_uses),
                false => self.config.max_uses,
            },
            act_uses: self.config.act_uses,
            act_seconds: self.config.act_seconds,
            used: KeyUse::default(),
        };
        let statement = self.origin_statement(&attributes)?;
        self.keep(&attributes, &made, None).await?;
        Ok(Executed::Created(KeyCreated {
            key: attributes.key,
            version: attributes.version,
            spki: B64(made.spki),
            origin: attributes.origin,
            statement,
        }))
    }

    /// Whether a key of this kind may be made at this level now.
    pub(crate) fn may_make(&self, alg: KeyAlg, level: Level, now: UnixTime) -> Result<(), Refusal> {
        if level > self.backend.ceiling() || (alg.experimental() && level > Level::One) {
            return Err(Refusal::NotAllowed(Reason::Level));
        }
        if !self.policy.may_generate(alg, now) {
            return Err(Refusal::NotAllowed(Reason::Algorithm));
        }
        Ok(())
    }

    /// The guideline's case of keys that are made here. A device counts as one only if its operator declares what it was
    /// evaluated for.
    pub(crate) fn case_here(&self) -> OriginCase {
        if self.backend.ceiling() > Level::One {
            OriginCase::ProviderDevice
        } else {
            OriginCase::ProviderSoftware
        }
    }

    /// Stores a key that was made, if there is no other with this public half. `request`: digest of the
    /// CertificationRequestInfo that it has signed.
    pub(crate) async fn keep(
        &self,
        attributes: &KeyAttributes,
        made: &NewKey,
        request: Option<Digest32>,
    ) -> Result<(), ModuleError> {
        let stored: Result<bool, Failed> = transaction!(self.store, "cm-generated", |tx| {
            if !store::first_of_its_kind(tx, attributes.spki, attributes.key.as_str()).await? {
                return Ok::<_, Failed>(false);
            }
            let random = self.random.as_ref();
            store::insert_key(tx, &self.vault, random, attributes, &made.material).await?;
            let event = Event::KeyGenerated {
                key: attributes.key.clone(),
                owner: attributes.owner.clone(),
                alg: attributes.alg,
                spki: attributes.spki,
                act: attributes.act,
            };
            self.audit.append(tx, event, attributes.created).await?;
            if let Some(request) = request {
                let event = Event::KeyCertificationRequested {
                    key: attributes.key.clone(),
                    owner: attributes.owner.clone(),
                    request,
                };
                self.audit.append(tx, event, attributes.created).await?;
            }
            Ok(true)
        });
        if stored.map_err(|failed| self.fail(failed))? {
            return Ok(());
        }
        Err(self
            .no_key(Fault::Broken("a key that exists already"))
            .await)
    }

    pub(crate) fn not_after(&self, now: UnixTime) -> UnixTime {
        now.plus(i64::from(self.config.key_life_days) * 86_400)
    }

    /// What the module says of a key's beginning, signed by its root key. It follows from the sealed attributes alone.
    pub(crate) fn origin_statement(&self, of: &KeyAttributes) -> Result<String, Refusal> {
        let told = Origin {
            sam: self.config.sam.clone(),
            key: of.key.clone(),
            version: of.version,
            spki: of.spki,
            owner: of.owner.clone(),
            alg: of.alg,
            case: of.case,
            backend: of.origin.clone(),
            declaration: self.backend.declaration(),
            level: of.level,
            exportable: of.exportable,
            one_time: of.one_time,
            act: of.act,
            created: of.created,
        };
        let payload = serde_json::to_vec(&told).map_err(|_| Refusal::Malformed)?;
        let signed = self.root.sign(TYP_ORIGIN, &payload);
        signed.map_err(|_| Refusal::NotOperational)
    }

    /// Has a key made, and looks at it. What isn't fit for use is forgotten here: no key came into being.
    pub(crate) async fn new_key(&self, alg: KeyAlg) -> Result<NewKey, ModuleError> {
        let (backend, moduli) = (self.backend.clone(), self.moduli.clone());
        let made = on_thread(move || {
            let made = backend.generate(alg)?;
            weak::check(alg, &made.spki).map_err(|_| Fault::Broken("a weak key was made"))?;
            if !moduli.coprime(&made.spki) {
                return Err(COMMON_FACTOR);
            }
            Ok(made)
        });
        let made = made.await;
        if let Err(COMMON_FACTOR) = made {
            self.alarm("cm-common-factor").await;
        }
        match made {
            Ok(made) => {
                self.well();
                // What was found meanwhile may be how it was made.
                self.operational()?;
                Ok(made)
            }
            Err(fault) => Err(self.no_key(fault).await),
        }
    }

    /// A key that nobody was told of is no key, so that a fault here is a definite *no*.
    pub(crate) async fn no_key(&self, fault: Fault) -> ModuleError {
        self.note(&fault).await;
        match fault {
            NO_WRAPPING_KEY => self.no_wrapping_key().await.into(),
            Fault::Unfit(_) => Refusal::NotAllowed(Reason::Algorithm).into(),
            _ => Refusal::NotOperational.into(),
        }
    }

    pub(crate) async fn key(
        &self,
        tx: &mut store_kit::Tx,
        key: &KeyId,
        version: u32,
        spki: Digest32,
    ) -> Result<KeyRow, Failed> {
        let row = self.newest(tx, key).await?;
        if row.attributes.version != version || row.attributes.spki != spki {
            return Err(Refusal::NoSuchKey.into());
        }
        Ok(row)
    }

    /// The row, if this process has seen no newer one.
    pub(crate) async fn newest(
        &self,
        tx: &mut store_kit::Tx,
        key: &KeyId,
    ) -> Result<KeyRow, Failed> {
        let row = store::load_key(tx, &self.vault, key).await?;
        if !tx.is_newest(&self.seen, key.as_str(), row.row_version)? {
            return Err(Failed::Tampered);
        }
        Ok(row)
    }

    /// A key that is going to be used: its level must be one that the back end still has. Without the declaration that a
    /// level rests on, the keys of that level can only be destroyed.
    pub(crate) async fn key_for_use(
        &self,
        tx: &mut store_kit::Tx,
        key: &KeyId,
        version: u32,
        spki: Digest32,
    ) -> Result<KeyRow, Failed> {
        let row = self.key(tx, key, version, spki).await?;
        if row.attributes.level > self.backend.ceiling() {
            return Err(Refusal::NotAllowed(Reason::Level).into());
        }
        Ok(row)
    }
}

pub(crate) fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> impl Future<Output = Result<T, Fault>> {
    let thread = tokio::task::spawn_blocking(work);
    async move {
        thread
            .await
            .unwrap_or(Err(Fault::Unknown("a worker thread")))
    }
}
