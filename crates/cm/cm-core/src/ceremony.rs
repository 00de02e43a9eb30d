//! Ceremonies: two officers have a key of the provider made or ended, or let another SAM follow. It has one purpose for life, and no order of the SAM
//! makes, hands over or ends one.

use audit_log::Event;
use cm_api::ceremony::{
    Ceremony, CeremonyRequest, Held, MAX_CEREMONY_LIFE, ProviderKey, Subject, TYP_CEREMONY, Wanted,
};
use cm_api::{ModuleError, Refusal};
use core_types::words::is_reason;
use core_types::{
    B64, DestroyCause, Digest32, KeyAlg, KeyId, Level, PersonId, TenantId, UnixTime, sha256,
};

use crate::approvals;
use crate::attributes::{KeyAttributes, KeyUse, Purpose};
use crate::execute::on_thread;
use crate::ledger::End;
use crate::module::Module;
use crate::officers::{Approved, For};
use crate::store::{self, Failed};
use store_kit::transaction;

/// Owner and tenant in the attributes of keys that belong to no person.
const PROVIDER: &str = "provider";

impl Module {
    /// Does what two officers have approved, once.
    ///
    /// # Errors
    /// [`ModuleError::Refused`]: [`Refusal::NotAuthentic`] without the approvals of two different officers over the same
    /// bytes for this module, [`Refusal::Malformed`] without a reason, [`Refusal::NotNow`] outside their time, [`Refusal::Duplicate`] the second time. Each is
    /// recorded.
    pub async fn ceremony(&self, request: &CeremonyRequest) -> Result<Held, ModuleError> {
        let done = self.try_ceremony(request).await;
        if let Err(ModuleError::Refused(refusal)) = &done {
            let reason = match refusal {
                Refusal::NotAuthentic => "ceremony-not-approved",
                Refusal::NotNow => "ceremony-not-now",
                Refusal::Duplicate => "ceremony-held-before",
                _ => "ceremony-failed",
            };
            let event = Event::OrderRefused {
                order: None,
                reason: reason.into(),
            };
            self.record(event).await?;
        }
        done
    }

    async fn try_ceremony(&self, request: &CeremonyRequest) -> Result<Held, ModuleError> {
        let _running = self.running.begin().await;
        self.look_at_switch().await?;
        self.look_at_clock().await?;
        self.operational()?;
        let approved = self.approved_by_two(&request.approvals, TYP_CEREMONY)?;
        let held: Ceremony =
            serde_json::from_slice(&approved.payload).map_err(|_| Refusal::Malformed)?;
        let of = For {
            sam: &held.sam,
            root: &held.root,
            exp: held.exp,
        };
        self.approved_for_now(&of, MAX_CEREMONY_LIFE)?;
        if !is_reason(&held.reason) {
            return Err(Refusal::Malformed.into());
        }
        let act = sha256(&[b"natsuin-cm-ceremony-v1\n", &approved.payload]);
        match held.what {
            Wanted::SealKey {
                alg,
                level,
                subject,
                not_after,
            } => {
                let subject = name(&subject)?;
                let birth = Birth {
                    act,
                    alg,
                    level,
                    purpose: Purpose::Seal,
                    not_after,
                };
                self.make(&approved, birth, Some(subject)).await
            }
            Wanted::LogKey {
                origin,
                level,
                not_after,
            } => {
                if !audit_log::is_origin(&origin) {
                    return Err(Refusal::Malformed.into());
                }
                let birth = Birth {
                    act,
                    alg: KeyAlg::Ed25519,
                    level,
                    purpose: Purpose::Log(origin),
                    not_after,
                };
                self.make(&approved, birth, None).await
            }
            Wanted::Destroy { key, spki } => self.end(&approved, act, &key, spki).await,
            Wanted::NewSam {} => {
                let now = self.clock.now();
                let opened: Result<UnixTime, Failed> =
                    transaction!(self.store, "cm-ceremony", |tx| {
                        let what = "new-sam";
                        self.take_ceremony(tx, &approved, act, what, now).await?;
                        self.keeper().open_for_sam(tx).await
                    });
                Ok(Held::Open(opened.map_err(|failed| self.fail(failed))?))
            }
        }
    }

    async fn make(
        &self,
        approved: &Approved,
        birth: Birth,
        subject: Option<Vec<u8>>,
    ) -> Result<Held, ModuleError> {
        let now = self.clock.now();
        self.may_make(birth.alg, birth.level, now)?;
        if birth.not_after <= now {
            return Err(Refusal::NotNow.into());
        }
        let what = birth.purpose.word();
        // Spent before the back end is asked, as an order is.
        let taken: Result<(), Failed> = transaction!(self.store, "cm-ceremony", |tx| {
            self.take_ceremony(tx, approved, birth.act, what, now).await
        });
        taken.map_err(|failed| self.fail(failed))?;
        let made = self.new_key(birth.alg).await?;
        let request = match subject {
            None => None,
            Some(subject) => {
                let info = pki::csr::request_info(&subject, &made.spki);
                let (backend, material) = (self.backend.clone(), made.material.clone());
                let (alg, dtbs) = (birth.alg, birth.alg.csr_alg().dtbs(&info));
                let value: Result<Vec<u8>, _> =
                    on_thread(move || backend.load(alg, &material)?.sign(alg.csr_alg(), &dtbs))
                        .await;
                match value {
                    Ok(value) => Some((
                        sha256(&[&info]),
                        pki::csr::assemble(&info, alg.csr_alg(), &value),
                    )),
                    Err(fault) => return Err(self.no_key(fault).await),
                }
            }
        };
        let id = |_| Refusal::Malformed;
        let attributes = KeyAttributes {
            key: KeyId::random(self.random.as_ref()),
            version: 1,
            tenant: TenantId::parse(PROVIDER).map_err(id)?,
            owner: PersonId::parse(PROVIDER).map_err(id)?,
            alg: birth.alg,
            purpose: birth.purpose,
            spki: sha256(&[&made.spki]),
            level: birth.level,
            exportable: false,
            one_time: false,
            origin: self.backend.name().to_owned(),
            case: self.case_here(),
            act: birth.act,
            created: now,
            not_after: birth.not_after,
            // No order to sign for documents is good for it.
            max_uses: 0,
            act_uses: 0,
            act_seconds: 0,
            used: KeyUse {
                csr: request.is_some(),
                ..KeyUse::default()
            },
        };
        let requested = request.as_ref().map(|(digest, _)| *digest);
        self.keep(&attributes, &made, requested).await?;
        Ok(Held::Made(ProviderKey {
            key: attributes.key,
            spki: B64(made.spki),
            request: request.map(|(_, der)| B64(der)),
        }))
    }

    async fn end(
        &self,
        approved: &Approved,
        act: Digest32,
        key: &KeyId,
        spki: Digest32,
    ) -> Result<Held, ModuleError> {
        let now = self.clock.now();
        let end = End {
            at: now,
            act,
            cause: DestroyCause::Officers,
        };
        let row: Result<_, Failed> = transaction!(self.store, "cm-ceremony", |tx| {
            store::lock_key(tx, key).await?;
            self.take_ceremony(tx, approved, act, "destroy", now)
                .await?;
            self.bury(tx, (key, 1, spki), end, Purpose::is_providers)
                .await
        });
        Ok(Held::Destroyed(self.buried(key, row).await?))
    }

    async fn take_ceremony(
        &self,
        tx: &mut store_kit::Tx,
        approved: &Approved,
        act: Digest32,
        what: &'static str,
        now: UnixTime,
    ) -> Result<(), Failed> {
        if !store::take_name(tx, act, now).await? {
            return Err(Refusal::Duplicate.into());
        }
        self.can_be(tx, now).await?;
        let [officer, second] = approved.officers;
        let event = Event::CeremonyHeld {
            ceremony: act,
            what: what.into(),
            officer,
            second,
        };
        let (vault, random) = (&self.vault, self.random.as_ref());
        approvals::keep(tx, vault, random, act, &approved.signed, now).await?;
        self.audit.append(tx, event, now).await?;
        Ok(())
    }
}

/// What is fixed of a key by its ceremony.
struct Birth {
    act: Digest32,
    alg: KeyAlg,
    level: Level,
    purpose: Purpose,
    not_after: UnixTime,
}

/// The provider's name as DER; lengths of RFC 5280 Appendix A, nothing invisible.
fn name(subject: &Subject) -> Result<Vec<u8>, Refusal> {
    let text = |s: &str| {
        (1..=64).contains(&s.chars().count()) && s.trim() == s && !s.chars().any(char::is_control)
    };
    let country =
        subject.country.len() == 2 && subject.country.bytes().all(|b| b.is_ascii_uppercase());
    if !country || !text(&subject.organization) || !text(&subject.name) {
        return Err(Refusal::Malformed);
    }
    let parts = [
        (pki::oid::COUNTRY, subject.country.as_str()),
        (pki::oid::ORGANIZATION, &subject.organization),
        (pki::oid::COMMON_NAME, &subject.name),
    ];
    pki::name::encode(&parts).map_err(|_| Refusal::Malformed)
}
