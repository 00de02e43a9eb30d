//! Keys made elsewhere coming in, and keys leaving: the only two ways a private key crosses the module's border, both
//! sealed, both by an act of the owner, neither above the level that the guideline admits.

use audit_log::Event;
use cm_api::rpc::{ImportKeyAnswer, Reason};
use cm_api::{Executed, KeyCreated, ModuleError, OrderBody, Refusal};
use core_types::{
    B64, Digest32, KeyAlg, KeyId, Level, OriginCase, PersonId, TenantId, UnixTime, sha256,
};
use jose::Jwk;
use sam_keys::import::{
    CaImport, ImportKey, ImportedKey, MAX_IMPORT_KEY_LIFE, TYP_CA_IMPORT, TYP_IMPORT_KEY, hand_over,
};
use store_kit::{Tx, transaction};

use crate::attributes::{KeyAttributes, KeyUse, Purpose};
use crate::backend::{Fault, NewKey};
use crate::execute::on_thread;
use crate::module::Module;
use crate::store::{self, Failed};
use crate::weak;

/// What an order to import says.
pub(crate) struct Import<'o> {
    pub(crate) tenant: &'o TenantId,
    pub(crate) owner: &'o PersonId,
    pub(crate) level: Level,
    pub(crate) act: Digest32,
    pub(crate) case: OriginCase,
    pub(crate) spki: Digest32,
    pub(crate) envelope: &'o str,
}

/// Strength of the keys to which imports and hand-overs are sealed (P-256): nothing stronger travels under it (`III-A1.2-wrapping-strength`).
pub(crate) const WRAPPING_STRENGTH: u32 = 128;

impl Module {
    /// The key to which imports are sealed, vouched for by the root key.
    ///
    /// # Errors
    /// [`Refusal::NotOperational`] in the states *locked* and *error*.
    pub fn import_key(&self) -> Result<ImportKeyAnswer, Refusal> {
        self.operational()?;
        let now = self.clock.now();
        let told = ImportKey {
            sam: self.config.sam.clone(),
            key: self.import.public().clone(),
            nbf: now,
            exp: now.plus(MAX_IMPORT_KEY_LIFE),
        };
        let payload = serde_json::to_vec(&told).map_err(|_| Refusal::Malformed)?;
        let statement = self.root.sign(TYP_IMPORT_KEY, &payload);
        let statement = statement.map_err(|_| Refusal::NotOperational)?;
        Ok(ImportKeyAnswer { statement })
    }

    pub(crate) async fn import(
        &self,
        order: &OrderBody,
        import: Import<'_>,
    ) -> Result<Executed, ModuleError> {
        let now = self.clock.now();
        let key = self.unsealed(&import, now)?;
        let alg = pki::key_alg(&key.spki.0).ok_or(Refusal::NotAllowed(Reason::Algorithm))?;
        self.fit_for_import(&import, &key, alg, now)?;
        // As with generation, the order is spent before the back end is asked.
        let known: Result<_, Failed> = transaction!(self.store, "cm-import", |tx| {
            self.take_order(tx, order, now).await?;
            let known = self.known(tx, &import).await?;
            let (order, what) = (order.order, "import".into());
            self.audit
                .append(tx, Event::OrderAdmitted { order, what }, now)
                .await?;
            Ok::<_, Failed>(known)
        });
        if let Some(attributes) = known.map_err(|failed| self.fail(failed))? {
            return self.came_in(attributes, key.spki.0);
        }
        let backend = self.backend.clone();
        let (pkcs8, spki) = (key.pkcs8.clone(), key.spki.0.clone());
        let made = match on_thread(move || backend.import(alg, &pkcs8, &spki)).await {
            Ok(made) => made,
            Err(fault @ Fault::Unfit(_)) => {
                tracing::warn!(%fault, "a key that was to be imported doesn't fit");
                return Err(Refusal::NotAllowed(Reason::NotThisKey).into());
            }
            Err(fault) => return Err(self.no_key(fault).await),
        };
        let attributes = self.imported(&import, alg, &made, now);
        let stored: Result<bool, Failed> = transaction!(self.store, "cm-imported", |tx| {
            if !store::first_of_its_kind(tx, attributes.spki, attributes.key.as_str()).await? {
                return Ok::<_, Failed>(false);
            }
            let random = self.random.as_ref();
            store::insert_key(tx, &self.vault, random, &attributes, &made.material).await?;
            let event = Event::KeyImported {
                key: attributes.key.clone(),
                owner: attributes.owner.clone(),
                alg,
                spki: attributes.spki,
                origin: attributes.case.as_str().into(),
                act: import.act,
            };
            self.audit.append(tx, event, now).await?;
            Ok(true)
        });
        if !stored.map_err(|failed| self.fail(failed))? {
            // Whoever has it: a key is one person's only, and one that was destroyed doesn't come back.
            if let Some(place) = self.backend.elsewhere(&made.material) {
                let backend = self.backend.clone();
                drop(on_thread(move || backend.erase(&place)).await);
            }
            return Err(Refusal::NotAllowed(Reason::KnownKey).into());
        }
        self.came_in(attributes, made.spki)
    }

    /// A key that came in before by this very act: the answer didn't reach its sender, who asks again. Anybody else's
    /// second key is refused.
    async fn known(
        &self,
        tx: &mut Tx,
        import: &Import<'_>,
    ) -> Result<Option<KeyAttributes>, Failed> {
        let Some(key) = store::known_key(tx, import.spki).await? else {
            return Ok(None);
        };
        let row = match self.key(tx, &key, 1, import.spki).await {
            Ok(row) => Some(row.attributes),
            // Destroyed: it doesn't come back.
            Err(Failed::Refused(_)) => None,
            Err(failed) => return Err(failed),
        };
        let same = row.filter(|known| {
            known.act == import.act
                && known.owner == *import.owner
                && known.case == import.case
                && known.level == import.level
        });
        match same {
            Some(known) => Ok(Some(known)),
            None => Err(Refusal::NotAllowed(Reason::KnownKey).into()),
        }
    }

    fn came_in(&self, attributes: KeyAttributes, spki: Vec<u8>) -> Result<Executed, ModuleError> {
        let statement = self.origin_statement(&attributes)?;
        Ok(Executed::Created(KeyCreated {
            key: attributes.key,
            version: attributes.version,
            spki: B64(spki),
            origin: attributes.origin,
            statement,
        }))
    }

    /// Who may send what, by level (`III-3-15-import-*`), and the key that was sent.
    fn unsealed(&self, import: &Import<'_>, now: UnixTime) -> Result<ImportedKey, Refusal> {
        let no = |reason| Err(Refusal::NotAllowed(reason));
        if import.level == Level::Three {
            return no(Reason::ImportL3);
        }
        if import.level > self.backend.ceiling() {
            return no(Reason::Level);
        }
        if !import.case.imported() {
            return Err(Refusal::Malformed);
        }
        let by_ca = import.case == OriginCase::CaDirect;
        if import.level == Level::Two && !by_ca {
            return no(Reason::ImportL2);
        }
        let (jwe, promised) = if by_ca {
            let told = self.by_trusted_ca(import, now)?;
            (told.key, Some(told.spki))
        } else {
            (import.envelope.to_owned(), None)
        };
        let Ok(key) = ImportedKey::open(&jwe, import.act, &self.import) else {
            return no(Reason::NotThisKey);
        };
        let spki = sha256(&[&key.spki.0]);
        if key.sam != self.config.sam || key.owner != *import.owner || key.act != import.act {
            return no(Reason::ImportL1);
        }
        if spki != import.spki || promised.is_some_and(|promised| promised != spki) {
            return no(Reason::NotThisKey);
        }
        Ok(key)
    }

    /// A CA's word, for this person and this act.
    fn by_trusted_ca(&self, import: &Import<'_>, now: UnixTime) -> Result<CaImport, Refusal> {
        let no = |reason| Err(Refusal::NotAllowed(reason));
        let kid = jose::kid_of(import.envelope, TYP_CA_IMPORT).ok();
        let ca = self
            .config
            .import_cas
            .iter()
            .find(|ca| kid.as_ref() == Some(&ca.key.kid()));
        let Some(ca) = ca else {
            return no(Reason::ImportL2);
        };
        let told = CaImport::verify(import.envelope, std::slice::from_ref(&ca.key));
        let Ok(told) = told else {
            return no(Reason::ImportL2);
        };
        if now >= told.exp {
            return Err(Refusal::NotNow);
        }
        let same =
            told.sam == self.config.sam && told.owner == *import.owner && told.act == import.act;
        if !same {
            return no(Reason::ImportL1);
        }
        let undeclared = ca.generation.as_ref().is_none_or(|d| d.trim().is_empty());
        if import.level == Level::Two && undeclared {
            return no(Reason::CaKeygen);
        }
        Ok(told)
    }

    fn fit_for_import(
        &self,
        import: &Import<'_>,
        key: &ImportedKey,
        alg: KeyAlg,
        now: UnixTime,
    ) -> Result<(), Refusal> {
        let no = |reason| Err(Refusal::NotAllowed(reason));
        if !self.policy.may_generate(alg, now) {
            return no(Reason::Algorithm);
        }
        if weak::check(alg, &key.spki.0).is_err() || !self.moduli.coprime(&key.spki.0) {
            return no(Reason::WeakKey);
        }
        if alg.strength() > WRAPPING_STRENGTH {
            return no(Reason::WrappingStrength);
        }
        let spki = sha256(&[&key.spki.0]);
        let bound = ImportedKey::binding(&self.config.sam, import.owner, import.act, spki);
        let signed = pki::Signed::Message(&bound);
        if pki::verify_signature(&key.spki.0, alg.csr_alg(), signed, &key.proof.0).is_err() {
            return no(Reason::ImportL1);
        }
        Ok(())
    }

    fn imported(
        &self,
        import: &Import<'_>,
        alg: KeyAlg,
        made: &NewKey,
        now: UnixTime,
    ) -> KeyAttributes {
        KeyAttributes {
            key: KeyId::random(self.random.as_ref()),
            version: 1,
            tenant: import.tenant.clone(),
            owner: import.owner.clone(),
            alg,
            purpose: Purpose::Documents,
            spki: sha256(&[&made.spki]),
            level: import.level,
            exportable: false,
            one_time: false,
            origin: self.backend.name().to_owned(),
            case: import.case,
            act: import.act,
            created: now,
            not_after: self.not_after(now),
            max_uses: self.config.max_uses,
            act_uses: self.config.act_uses,
            act_seconds: self.config.act_seconds,
            used: KeyUse::default(),
        }
    }

    /// Hands a key over: sealed to the receiver, and from then on of no use here but for being destroyed.
    pub(crate) async fn hand_over(
        &self,
        order: &OrderBody,
        key: &KeyId,
        version: u32,
        spki: Digest32,
        receiver: &Jwk,
        act: Digest32,
    ) -> Result<Executed, ModuleError> {
        let now = self.clock.now();
        let row: Result<_, Failed> = transaction!(self.store, "cm-hand-over", |tx| {
            self.take_order(tx, order, now).await?;
            let row = self.key_for_use(tx, key, version, spki).await?;
            let next = row.attributes.after_hand_over(act, receiver)?;
            if row.attributes.alg.strength() > WRAPPING_STRENGTH {
                return Err(Refusal::NotAllowed(Reason::WrappingStrength).into());
            }
            store::update_key(tx, &self.vault, self.random.as_ref(), &row, &next).await?;
            let event = Event::KeyHandedOver {
                key: key.clone(),
                owner: row.attributes.owner.clone(),
                receiver: receiver.thumbprint(),
                act,
            };
            self.audit.append(tx, event, now).await?;
            Ok::<_, Failed>(row)
        });
        let row = row.map_err(|failed| self.fail(failed))?;
        self.seen.note(key.as_str(), row.row_version + 1);
        self.cache.forget(&row.material);
        let backend = self.backend.clone();
        let (alg, material) = (row.attributes.alg, row.material.clone());
        let pkcs8 = match on_thread(move || backend.export(alg, &material)).await {
            Ok(pkcs8) => pkcs8,
            Err(Fault::Unfit(_)) => return Err(Refusal::NotAllowed(Reason::Export).into()),
            Err(fault) => {
                self.note(&fault).await;
                return Err(Refusal::NotOperational.into());
            }
        };
        let sealed = hand_over(&pkcs8, receiver, act, self.random.as_ref());
        Ok(Executed::HandedOver(
            sealed.map_err(|_| Refusal::Malformed)?,
        ))
    }
}
