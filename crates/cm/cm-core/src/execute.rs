//! Execution of admitted orders.

use std::sync::Arc;

use audit_log::Event;
use cm_api::rpc::Reason;
use cm_api::{
    ExecuteRequest, Executed, KeyCreated, ModuleError, OrderBody, OrderKind, Refusal, SignItem,
};
use core_types::{
    B64, Digest32, KeyAlg, KeyId, Level, OriginCase, PersonId, SigAlg, TenantId, UnixTime, sha256,
};
use sam_keys::{Origin, TYP_ORIGIN};
use store_kit::{Seen, transaction};

use crate::attributes::{ByAct, KeyAttributes, KeyUse, Purpose};
use crate::backend::{NewKey, PrivateKey};
use crate::cache::cache_name;
use crate::import::Import;
use crate::module::Module;
use crate::store::{self, Failed, KeyRow};
use crate::{admit, backend::Fault, weak};

impl Module {
    pub(crate) async fn try_execute(
        &self,
        request: &ExecuteRequest,
    ) -> Result<Executed, ModuleError> {
        self.look_at_switch().await?;
        self.operational()?;
        let order = admit::admit(request, self.root(), &self.config.sam, self.clock.now())?;
        match &order.kind {
            OrderKind::Generate {
                tenant,
                owner,
                alg,
                level,
                act,
                exportable,
            } => {
                self.generate(&order, tenant, owner, *alg, *level, *act, *exportable)
                    .await
            }
            OrderKind::Import {
                tenant,
                owner,
                level,
                act,
                case,
                envelope,
            } => {
                let import = Import {
                    tenant,
                    owner,
                    level: *level,
                    act: *act,
                    case: *case,
                    envelope,
                };
                self.import(&order, import).await
            }
            OrderKind::HandOver {
                key,
                version,
                spki,
                receiver,
                act,
            } => {
                self.hand_over(&order, key, *version, *spki, receiver, *act)
                    .await
            }
            OrderKind::SignCsr {
                key,
                version,
                spki,
                info,
            } => self.sign_csr(&order, key, *version, *spki, info).await,
            OrderKind::Sign { .. } => self.sign(&order).await,
            OrderKind::Destroy {
                key,
                version,
                spki,
                act,
                cause,
            } => {
                self.destroy(&order, key, *version, *spki, *act, *cause)
                    .await
            }
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the members of one kind of order, in its order"
    )]
    async fn generate(
        &self,
        order: &OrderBody,
        tenant: &TenantId,
        owner: &PersonId,
        alg: KeyAlg,
        level: Level,
        act: Digest32,
        exportable: bool,
    ) -> Result<Executed, ModuleError> {
        let now = self.clock.now();
        if exportable && (level > Level::One || !self.backend.exports()) {
            return Err(Refusal::NotAllowed(Reason::Export).into());
        }
        if level > self.backend.ceiling() || (alg.experimental() && level > Level::One) {
            return Err(Refusal::NotAllowed(Reason::Level).into());
        }
        if !self.policy.may_generate(alg, now) {
            return Err(Refusal::NotAllowed(Reason::Algorithm).into());
        }
        // The order is spent before the back end is asked: asked again, it makes no second key.
        let taken: Result<_, Failed> = transaction!(self.store, "cm-generate", |tx| {
            store::take_order(tx, order, now).await?;
            let (order, what) = (order.order, "generate".into());
            let event = Event::OrderAdmitted { order, what };
            self.audit.append(tx, event, now).await?;
            Ok::<_, Failed>(())
        });
        taken.map_err(|failed| self.fail(failed))?;
        let _making = self.making.read().await;
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
            origin: self.backend.name().to_owned(),
            // A device counts as one only if its operator declares what it was evaluated for.
            case: if self.backend.ceiling() > Level::One {
                OriginCase::ProviderDevice
            } else {
                OriginCase::ProviderSoftware
            },
            act,
            created: now,
            not_after: self.not_after(now),
            max_uses: self.config.max_uses,
            act_uses: self.config.act_uses,
            act_seconds: self.config.act_seconds,
            used: KeyUse::default(),
        };
        let statement = self.origin_statement(&attributes)?;
        let stored: Result<bool, Failed> = transaction!(self.store, "cm-generated", |tx| {
            if !store::first_of_its_kind(tx, &attributes).await? {
                return Ok::<_, Failed>(false);
            }
            store::insert_key(
                tx,
                &self.vault,
                self.random.as_ref(),
                &attributes,
                &made.material,
            )
            .await?;
            let event = Event::KeyGenerated {
                key: attributes.key.clone(),
                owner: attributes.owner.clone(),
                alg,
                spki: attributes.spki,
                act,
            };
            self.audit.append(tx, event, now).await?;
            Ok(true)
        });
        if !stored.map_err(|failed| self.fail(failed))? {
            return Err(self
                .no_key(Fault::Broken("a key that exists already"))
                .await);
        }
        Ok(Executed::Created(KeyCreated {
            key: attributes.key,
            version: attributes.version,
            spki: B64(made.spki),
            origin: attributes.origin,
            statement,
        }))
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
            act: of.act,
            created: of.created,
        };
        let payload = serde_json::to_vec(&told).map_err(|_| Refusal::Malformed)?;
        let signed = self.root.sign(TYP_ORIGIN, &payload);
        signed.map_err(|_| Refusal::NotOperational)
    }

    /// Has a key made, and looks at it. What isn't fit for use is forgotten here: no key came into being.
    async fn new_key(&self, alg: KeyAlg) -> Result<NewKey, ModuleError> {
        let backend = self.backend.clone();
        let made = on_thread(move || {
            let made = backend.generate(alg)?;
            weak::check(alg, &made.spki).map_err(|_| Fault::Broken("a weak key was made"))?;
            Ok(made)
        });
        match made.await {
            Ok(made) => {
                self.well();
                Ok(made)
            }
            Err(fault) => Err(self.no_key(fault).await),
        }
    }

    /// A key that nobody was told of is no key, so that a fault here is a definite *no*.
    pub(crate) async fn no_key(&self, fault: Fault) -> ModuleError {
        self.note(&fault).await;
        match fault {
            Fault::Unfit(_) => Refusal::NotAllowed(Reason::Algorithm).into(),
            _ => Refusal::NotOperational.into(),
        }
    }

    async fn sign_csr(
        &self,
        order: &OrderBody,
        key: &KeyId,
        version: u32,
        spki: Digest32,
        info: &B64,
    ) -> Result<Executed, ModuleError> {
        let own = pki::csr::request_info_key(&info.0).map_err(|_| Refusal::Malformed)?;
        // The request must be for this very key, whoever built it (`T-REG-CSR-ALTER`).
        if sha256(&[own]) != spki {
            return Err(Refusal::Malformed.into());
        }
        let now = self.clock.now();
        let digest = sha256(&[&info.0]);
        let row: Result<_, Failed> = transaction!(self.store, "cm-csr", |tx| {
            store::take_order(tx, order, now).await?;
            let row = self.key_for_use(tx, key, version, spki).await?;
            self.approved(row.attributes.alg, row.attributes.alg.csr_alg())?;
            let next = row.attributes.after_csr()?;
            store::update_key(tx, &self.vault, self.random.as_ref(), &row, &next).await?;
            let event = Event::KeyCertificationRequested {
                key: key.clone(),
                owner: row.attributes.owner.clone(),
                request: digest,
            };
            self.audit.append(tx, event, now).await?;
            Ok::<_, Failed>(row)
        });
        let row = row.map_err(|failed| self.fail(failed))?;
        self.seen.note(key.as_str(), row.row_version + 1);
        let alg = row.attributes.alg.csr_alg();
        let item = SignItem::of_message(0, alg, &info.0);
        self.values(&row, alg, std::slice::from_ref(&item)).await
    }

    async fn sign(&self, order: &OrderBody) -> Result<Executed, ModuleError> {
        let OrderKind::Sign {
            key,
            version,
            spki,
            alg,
            items,
            act,
            approved,
            renewable,
            step,
            attempt,
            ..
        } = &order.kind
        else {
            return Err(Refusal::Malformed.into());
        };
        let (alg, act) = (*alg, *act);
        let by = ByAct {
            act,
            approved: *approved,
            renewable: *renewable,
        };
        let now = self.clock.now();
        let count = u32::try_from(items.len()).map_err(|_| Refusal::Malformed)?;
        let row: Result<_, Failed> = transaction!(self.store, "cm-sign", |tx| {
            store::take_order(tx, order, now).await?;
            let row = self.key_for_use(tx, key, *version, *spki).await?;
            self.approved(row.attributes.alg, alg)?;
            let next = row.attributes.after_signing(alg, count.into(), by, now)?;
            store::update_key(tx, &self.vault, self.random.as_ref(), &row, &next).await?;
            let event = Event::KeyUsed {
                key: key.clone(),
                owner: row.attributes.owner.clone(),
                alg,
                count,
                act,
                order: order.order,
                step: *step,
                attempt: *attempt,
            };
            self.audit.append(tx, event, now).await?;
            Ok::<_, Failed>(row)
        });
        let row = row.map_err(|failed| self.fail(failed))?;
        self.seen.note(key.as_str(), row.row_version + 1);
        self.values(&row, alg, items).await
    }

    /// The table of approved algorithms has the last word at every use.
    fn approved(&self, key: KeyAlg, alg: SigAlg) -> Result<(), Refusal> {
        if self.policy.may_sign(key, alg, self.clock.now()) {
            Ok(())
        } else {
            Err(Refusal::NotAllowed(Reason::Algorithm))
        }
    }

    pub(crate) async fn key(
        &self,
        tx: &mut store_kit::Tx,
        key: &KeyId,
        version: u32,
        spki: Digest32,
    ) -> Result<KeyRow, Failed> {
        let row = store::load_key(tx, &self.vault, key).await?;
        if !tx.is_newest(&self.seen, key.as_str(), row.row_version)? {
            return Err(Failed::Tampered);
        }
        if row.attributes.version != version || row.attributes.spki != spki {
            return Err(Refusal::NoSuchKey.into());
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

    /// Signs all digests, spread over the machine's cores. The order is spent by now. Only if not one value came into
    /// being is a fault a definite *no*.
    async fn values(
        &self,
        row: &KeyRow,
        alg: SigAlg,
        items: &[SignItem],
    ) -> Result<Executed, ModuleError> {
        let key = self.open(row).await?;
        let share = items.len().div_ceil(service_kit::cores()).max(1);
        let threads: Vec<_> = items
            .chunks(share)
            .map(|chunk| {
                let (key, chunk) = (key.clone(), chunk.to_vec());
                on_thread(move || {
                    let mut values = Vec::with_capacity(chunk.len());
                    for item in &chunk {
                        match key.sign(alg, item.bytes()) {
                            Ok(value) => values.push(B64(value)),
                            Err(fault) => return Ok((values, Some(fault))),
                        }
                    }
                    Ok((values, None))
                })
            })
            .collect();
        let (mut values, mut faults) = (Vec::with_capacity(items.len()), Vec::new());
        for thread in threads {
            match thread.await {
                Ok((part, fault)) => {
                    values.extend(part);
                    faults.extend(fault);
                }
                Err(fault) => faults.push(fault),
            }
        }
        if faults.is_empty() {
            self.well();
            return Ok(Executed::Signed(values));
        }
        self.judge(row, values.is_empty(), &faults).await
    }

    /// What faults at signing mean: for the caller, the key, and the module's state.
    async fn judge(
        &self,
        row: &KeyRow,
        no_value: bool,
        faults: &[Fault],
    ) -> Result<Executed, ModuleError> {
        let mut wrong = false;
        for fault in faults {
            if let Fault::Broken(what) = fault {
                tracing::error!(what, "the back end made a wrong value; testing it");
                wrong = true;
            } else {
                self.note(fault).await;
            }
        }
        if wrong {
            // A wrong value was destroyed, and its key is stopped (I4). Whether it was an accident or the device is no
            // longer what it was, its self-test decides.
            self.stop_key(row).await;
            self.alarm("cm-wrong-value").await;
            drop(self.self_test().await);
            return Ok(Executed::WrongValue);
        }
        if no_value && faults.iter().all(Fault::nothing_was_made) {
            Err(Refusal::NotOperational.into())
        } else {
            Err(ModuleError::Unknown)
        }
    }

    /// Stops a key for good. What can't be written holds in this process at least.
    async fn stop_key(&self, used: &KeyRow) {
        let (key, now) = (&used.attributes.key, self.clock.now());
        let stopped: Result<i64, Failed> = transaction!(self.store, "cm-stop-key", |tx| {
            let row = self.key(tx, key, used.attributes.version, used.attributes.spki);
            let row = row.await?;
            let next = row.attributes.after_wrong_value();
            store::update_key(tx, &self.vault, self.random.as_ref(), &row, &next).await?;
            let event = Event::KeySuspended {
                key: key.clone(),
                owner: next.owner,
                reason: "wrong-value".into(),
            };
            self.audit.append(tx, event, now).await?;
            Ok::<_, Failed>(row.row_version + 1)
        });
        match stopped {
            Ok(version) => self.seen.note(key.as_str(), version),
            Err(failed) => {
                tracing::error!(?failed, %key, "that the key is stopped couldn't be written");
                self.seen.note(key.as_str(), Seen::NEVER);
            }
        }
        self.cache.forget(&used.material);
    }

    /// The key ready for use. The back end must have the public key that the sealed attributes name.
    async fn open(&self, row: &KeyRow) -> Result<Arc<dyn PrivateKey>, ModuleError> {
        let name = cache_name(&row.material);
        let now = self.clock.now();
        let oldest = now.plus(-self.config.key_cache_seconds);
        if let Some(key) = self.cache.get(&name, oldest) {
            return Ok(key);
        }
        let (backend, alg, material) = (
            self.backend.clone(),
            row.attributes.alg,
            row.material.clone(),
        );
        let key: Arc<dyn PrivateKey> = match on_thread(move || backend.load(alg, &material)).await {
            Ok(key) => Arc::from(key),
            Err(Fault::Unfit(what)) => {
                tracing::error!(what, "a key isn't in the back end");
                self.alarm("cm-key-missing").await;
                return Err(Refusal::NoSuchKey.into());
            }
            Err(fault) => {
                self.note(&fault).await;
                return Err(Refusal::NotOperational.into());
            }
        };
        if sha256(&[key.spki()]) != row.attributes.spki {
            self.alarm("cm-key-exchanged").await;
            return Err(Refusal::NoSuchKey.into());
        }
        if self.config.key_cache_seconds > 0 {
            self.cache.put(name, key.clone(), now);
        }
        Ok(key)
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
