//! `enrolment`, `keys` and `about` for the SSA; making keys and certification requests (`sap.md` §8.4).

use cm_api::order::MAX_ORDER_LIFE;
use cm_api::{CryptoModule, Executed, KeyCreated, OrderKind};
use core_types::{B64, Digest32, KeyAlg, Level, VoucherId, sha256};
use pki::{Signed, verify_signature};
use sam_api::Refusal;
use sam_api::ssa::{
    AboutAnswer, ClockInfo, EnrolledKey, EnrolmentAnswer, EnrolmentRequest, KeyInfo, KeysAnswer,
    KeysRequest, TenantInfo,
};
use sam_core::enrol::{Enrolled, MadeKey, Voucher, VoucherPhase, record};
use sam_core::import::Coming;
use sam_core::life::Life;
use sam_core::{KeyFacts, Reason, csr};
use sam_keys::Origin;
use sap::TYP_ENROLMENT;
use sap::enrol::EnrolmentRecord;
use sap::level::KeyAssurance;
use store_kit::transaction;

use super::orders::Ordered;
use crate::failed::Failed;
use crate::records::KeyRecord;
use crate::ring::Ring;
use crate::rows::{self, Row};
use crate::sam::Sam;

/// A key that the module has and the SAM has no record of yet.
pub(crate) struct NewKey<'a> {
    pub(crate) voucher: &'a Voucher,
    pub(crate) enrolled: &'a Enrolled,
    pub(crate) created: KeyCreated,
    pub(crate) alg: KeyAlg,
    pub(crate) facts: KeyFacts,
    pub(crate) level: Level,
    /// What its owner agreed to, and by which act, if it was made elsewhere.
    pub(crate) imported: Option<(&'a Coming, Digest32)>,
}

impl<C: CryptoModule> Sam<C> {
    /// What this SAM is and can do.
    ///
    /// # Errors
    /// [`Refusal::NotNow`] when the module can't vouch for new keys.
    pub async fn about(&self) -> Result<AboutAnswer, Refusal> {
        match self.current_statement().await {
            Ok(statement) => Ok(AboutAnswer {
                sam: self.config.sam.clone(),
                tenant: TenantInfo {
                    name: self.config.tenant.clone(),
                    own: self.sealer.is_own(),
                },
                statement,
                ceiling: self.service.ceiling,
                declared: self.service.declared.clone(),
                providers: !self.providers_at(Level::One).is_empty(),
                max_items: u32::try_from(self.config.policy.max_items()).unwrap_or(u32::MAX),
                max_open: self.config.policy.max_open(),
                clock: ClockInfo {
                    state: self.clock_state().code().to_owned(),
                    bound_ms: self.config.clock.bound_ms(),
                    error_ms: self.clock_watch.error_ms(),
                },
            }),
            Err(failed) => Err(self.explain(&failed).await.to_ssa()),
        }
    }

    /// State of an enrolment; makes the keys that are still missing.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn enrolment(
        &self,
        service: &str,
        request: EnrolmentRequest,
    ) -> Result<EnrolmentAnswer, Refusal> {
        match self.try_enrolment(service, &request.voucher).await {
            Ok(answer) => Ok(answer),
            Err(failed) => Err(self.explain(&failed).await.to_ssa()),
        }
    }

    /// Keys of a person: all that aren't gone, and the last of those that are.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn keys(&self, request: KeysRequest) -> Result<KeysAnswer, Refusal> {
        match self.try_keys(&request).await {
            Ok(answer) => Ok(answer),
            Err(failed) => Err(self.explain(&failed).await.to_ssa()),
        }
    }

    async fn try_enrolment(
        &self,
        service: &str,
        id: &VoucherId,
    ) -> Result<EnrolmentAnswer, Failed> {
        loop {
            let ring = self.ring(self.epoch().await?, self.clock.now()).await?;
            let mut tx = self.store.read("enrolment").await?;
            let row = rows::get::<Voucher>(&mut tx, &self.sealer, id.as_str()).await?;
            let row = row
                .filter(|r| r.body.service == service)
                .ok_or(Reason::NotFound)?;
            let voucher = &row.body;
            let enrolled = match (&voucher.enrolled, voucher.phase) {
                (Some(enrolled), VoucherPhase::Used) => enrolled.clone(),
                (_, VoucherPhase::Open) if self.clock.now() < voucher.invite.exp => {
                    return Ok(EnrolmentAnswer::Open {});
                }
                _ => return Ok(EnrolmentAnswer::Dead {}),
            };
            if let Some(alg) = voucher.invite.keys.get(enrolled.keys.len()) {
                self.goes_on(&mut tx).await?;
                drop(tx);
                self.make_key(&row, &enrolled, *alg).await?;
                continue;
            }
            let mut keys = Vec::new();
            let mut old = Vec::new();
            for key in &enrolled.keys {
                let row = rows::get::<KeyRecord>(&mut tx, &self.sealer, key.as_str()).await?;
                let row = row.ok_or(Reason::NotFound)?;
                let certified = !row.body.chain.is_empty();
                if !certified && !ring.signed(&row.body.enrolment, TYP_ENROLMENT) {
                    old.push(row.clone());
                }
                keys.push(EnrolledKey {
                    certified,
                    key: row.body.key,
                    enrolment: row.body.enrolment,
                    csr: row.body.csr,
                });
            }
            drop(tx);
            if !old.is_empty() {
                self.sign_again(&ring, &old).await?;
                continue;
            }
            return Ok(EnrolmentAnswer::Enrolled {
                person: voucher.invite.person.clone(),
                statement: ring.statement.clone(),
                keys,
            });
        }
    }

    /// Records that still wait for a certificate are handed out with the statement of the day, so that they have to be
    /// signed by its key. Who approved the older text is asked again.
    async fn sign_again(&self, ring: &Ring, old: &[Row<KeyRecord>]) -> Result<(), Failed> {
        for row in old {
            let enrolment = sign_record(ring, &row.body.record)?;
            let next = KeyRecord {
                enrolment,
                ..row.body.clone()
            };
            transaction!(self.store, "enrolment-again", |tx| {
                let current = rows::get::<KeyRecord>(tx, &self.sealer, &row.id).await?;
                match current.filter(|c| c.version == row.version) {
                    Some(current) => {
                        rows::save(tx, &self.sealer, &current, &next).await?;
                        Ok(self.rows_changed(tx, "record-signed-again").await?)
                    }
                    // It has its certificate, or another call signed it.
                    None => Ok::<_, Failed>(()),
                }
            })?;
        }
        Ok(())
    }

    /// Makes one key and its certification request. A crash in between leaves a key in the module that nobody
    /// names, which can sign nothing.
    async fn make_key(
        &self,
        row: &Row<Voucher>,
        enrolled: &Enrolled,
        alg: KeyAlg,
    ) -> Result<(), Failed> {
        let voucher = &row.body;
        let facts = KeyFacts::generated(&self.service, enrolled.authorization, voucher.ceiling());
        let (level, _) = facts.level();
        let epoch = self.epoch().await?;
        let created = self
            .generate(epoch, voucher, enrolled.act, alg, level)
            .await?;
        let new = NewKey {
            voucher,
            enrolled,
            created,
            alg,
            facts,
            level,
            imported: None,
        };
        let key = self.record_key(epoch, new).await?;
        self.keep_key(row, key).await
    }

    /// Checks what the module says it has, has the certification request signed, and makes the SAM's record of the key.
    pub(crate) async fn record_key(
        &self,
        epoch: Digest32,
        new: NewKey<'_>,
    ) -> Result<KeyRecord, Failed> {
        let NewKey {
            voucher,
            enrolled,
            created,
            alg,
            facts,
            level,
            imported,
        } = new;
        if pki::key_alg(&created.spki.0) != Some(alg) {
            tracing::error!("the module made a key of another kind than ordered");
            return Err(Reason::NotNow.into());
        }
        let owner = &voucher.invite.person;
        let told = Origin::verify(&created.statement, std::slice::from_ref(&self.root));
        let told = told.ok().filter(|told| {
            let as_agreed = match imported {
                Some((coming, act)) => {
                    told.case == coming.case && told.spki == coming.spki && told.act == act
                }
                None => {
                    let invite = &voucher.invite;
                    !told.case.imported()
                        && (told.exportable, told.one_time) == (invite.exportable, invite.one_time)
                }
            };
            as_agreed
                && told.key == created.key
                && told.spki == sha256(&[&created.spki.0])
                && told.owner == *owner
                && told.level == level
        });
        let Some(told) = told else {
            tracing::error!(
                "the module's statement of origin isn't about the key that was ordered"
            );
            return Err(Reason::NotNow.into());
        };
        let request = self
            .certification_request(epoch, voucher, &created, alg)
            .await?;
        let made = MadeKey {
            key: &created.key,
            alg,
            spki: &created.spki.0,
            csr: &request.0,
            level,
            origin: told.case,
        };
        let body = record(&self.config.sam, voucher, enrolled, made);
        let ring = self.ring(epoch, self.clock.now()).await?;
        let enrolment = sign_record(&ring, &body)?;
        Ok(KeyRecord {
            key: created.key,
            version: created.version,
            owner: voucher.invite.person.clone(),
            voucher: voucher.invite.voucher.clone(),
            service: voucher.service.clone(),
            alg,
            spki: created.spki,
            origin: created.origin,
            case: told.case,
            statement: created.statement,
            life: Life::made(),
            facts,
            record: body,
            enrolment,
            csr: request,
            certify: None,
            chain: Vec::new(),
            subject_text: String::new(),
            created: self.clock.now(),
            collected: voucher.invite.collected,
            codes: voucher.invite.codes.clone(),
            exportable: told.exportable,
            one_time: told.one_time,
            spent: None,
            receiver: None,
        })
    }

    async fn generate(
        &self,
        epoch: Digest32,
        voucher: &Voucher,
        act: Digest32,
        alg: KeyAlg,
        level: Level,
    ) -> Result<KeyCreated, Failed> {
        let kind = OrderKind::Generate {
            tenant: self.config.tenant.clone(),
            owner: voucher.invite.person.clone(),
            alg,
            level,
            act,
            exportable: voucher.invite.exportable,
            one_time: voucher.invite.one_time,
        };
        match self.command(epoch, kind).await? {
            Executed::Created(created) => Ok(created),
            _ => Err(Reason::NotNow.into()),
        }
    }

    /// The certification request, whose signature is checked with the new key before anybody sees it.
    async fn certification_request(
        &self,
        epoch: Digest32,
        voucher: &Voucher,
        created: &KeyCreated,
        alg: KeyAlg,
    ) -> Result<B64, Failed> {
        let info = csr::request_info(&voucher.invite.subject, &created.spki.0)?;
        let kind = OrderKind::SignCsr {
            key: created.key.clone(),
            version: created.version,
            spki: sha256(&[&created.spki.0]),
            info: B64(info.clone()),
        };
        let Executed::Signed(values) = self.command(epoch, kind).await? else {
            return Err(Reason::NotNow.into());
        };
        let [value] = values.as_slice() else {
            return Err(Reason::NotNow.into());
        };
        let signed = Signed::Message(&info);
        if verify_signature(&created.spki.0, alg.csr_alg(), signed, &value.0).is_err() {
            tracing::error!("the module's signature on a certification request is wrong");
            return Err(Reason::NotNow.into());
        }
        Ok(B64(csr::assemble(&info, alg, &value.0)))
    }

    pub(crate) async fn command(
        &self,
        epoch: Digest32,
        kind: OrderKind,
    ) -> Result<Executed, Failed> {
        let name = self.random.digest32();
        let exp = self.clock.now().plus(MAX_ORDER_LIFE);
        match self.order(name, epoch, exp, kind).await? {
            Ordered::Done(executed) => Ok(executed),
            Ordered::Refused(refusal) => {
                tracing::error!(%refusal, "the module refused an order of an enrolment");
                Err(Reason::NotNow.into())
            }
            Ordered::Unknown => Err(Reason::NotNow.into()),
        }
    }

    async fn keep_key(&self, seen: &Row<Voucher>, key: KeyRecord) -> Result<(), Failed> {
        transaction!(self.store, "key-keep", |tx| {
            self.stays_so(tx).await?;
            let row = rows::get::<Voucher>(tx, &self.sealer, &seen.id)
                .await?
                .ok_or(Reason::NotFound)?;
            if row.version != seen.version {
                // Another call made this key meanwhile; ours is forgotten.
                return Ok(());
            }
            let mut next = row.body.clone();
            next.enrolled
                .as_mut()
                .ok_or(Reason::NotFound)?
                .keys
                .push(key.key.clone());
            rows::save(tx, &self.sealer, &row, &next).await?;
            if !rows::insert(tx, &self.sealer, key.key.as_str(), &key).await? {
                return Err(Reason::NotNow.into());
            }
            let event = audit_log::Event::KeyGenerated {
                key: key.key.clone(),
                owner: key.owner.clone(),
                alg: key.alg,
                spki: key.spki_digest(),
                act: key_act(&next),
            };
            self.audit.append(tx, event, key.created).await?;
            Ok::<_, Failed>(())
        })
    }

    async fn try_keys(&self, request: &KeysRequest) -> Result<KeysAnswer, Failed> {
        let mut tx = self.store.read("keys").await?;
        let keys = rows::keys_of(&mut tx, &self.sealer, request.person.as_str()).await?;
        Ok(KeysAnswer {
            keys: keys.into_iter().map(|key| self.info(key.body)).collect(),
        })
    }

    /// What officers are told of a key before they decide about it.
    pub(crate) fn assurance(&self, key: &KeyRecord) -> KeyAssurance {
        KeyAssurance {
            level: key.facts.told(&self.service),
            origin: key.origin.clone(),
            case: key.case,
        }
    }

    fn info(&self, key: KeyRecord) -> KeyInfo {
        KeyInfo {
            key: key.key,
            alg: key.alg,
            state: key.life.state,
            until: key.life.until,
            changes: key.life.changes,
            stop: key.life.info(),
            registration: key.voucher,
            subject: key.record.subject,
            spki: key.spki,
            chain: key.chain,
            level: key.facts.told(&self.service),
            origin: key.origin,
            origin_case: key.case,
            origin_statement: key.statement,
            created: key.created,
            collected: key.collected,
            codes: key.codes.is_some() && self.courier.get().is_some(),
            exportable: key.exportable,
            one_time: key.one_time,
        }
    }
}

fn sign_record(ring: &Ring, record: &EnrolmentRecord) -> Result<String, Reason> {
    let payload = serde_json::to_vec(record).map_err(|_| Reason::NotNow)?;
    let signed = ring.act.sign(TYP_ENROLMENT, &payload);
    signed.map_err(|_| Reason::NotNow)
}

fn key_act(voucher: &Voucher) -> Digest32 {
    voucher
        .enrolled
        .as_ref()
        .map_or(Digest32([0; 32]), |e| e.act)
}
