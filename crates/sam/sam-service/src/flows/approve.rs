//! `approve` (`sap.md` §6): accepting a person's proof, in the order of checks given there.

mod secret;

use audit_log::Event;
use cm_api::CryptoModule;
use core_types::{B64, Digest32, UnixTime, sha256};
use sam_api::ssa::HistoryEntry;
use sam_core::enrol::{Factor, FactorBody};
use sam_core::evidence::{Approval, Evidence, PublicProof};
use sam_core::passkey::{Asserted, Assertion, verify_assertion};
use sam_core::provider::{Identity, Providers};
use sam_core::state::{Now, Subject};
use sam_core::{ActState, Reason};
use sap::messages::{ApproveRequest, Done, SapRefusal};
use sap::proof::Method;
use sap::{NewFactor, Proof};
use store_kit::{Tx, transaction};

use super::change::{Applied, after};
use super::import::import_note;
use super::new_factor::Made;
use crate::audit;
use crate::failed::Failed;
use crate::records::{KeyRecord, PersonRecord, RequestPhase, RequestRecord};
use crate::rows::{self, KeyLock, Row};
use crate::sam::Sam;

/// What the proof is checked against.
pub(crate) struct Loaded {
    pub(crate) act: Row<ActState>,
    /// Its text, for the evidence.
    text: String,
    pub(crate) factor: Row<Factor>,
    pub(crate) now: Now,
}

/// Which factor a proof is made with.
#[derive(Clone, Copy)]
pub(crate) enum Wanted<'a> {
    /// The passkey with this credential id.
    Passkey(&'a B64),
    /// PIN and one-time code, sealed by a SIC.
    Sealed,
    /// The device key with this thumbprint, and its PIN.
    Device(&'a Digest32),
    /// PIN and one-time code, collected by an application.
    Collected,
    /// The person whom an identity provider knows so.
    Idp(&'a Identity),
}

impl Wanted<'_> {
    fn is(self, factor: &FactorBody) -> bool {
        match (factor, self) {
            (FactorBody::Passkey(passkey), Self::Passkey(id)) => passkey.id == *id,
            (FactorBody::Device(device), Self::Device(key)) => device.key.thumbprint() == *key,
            (FactorBody::PinTotp(secrets), Self::Sealed) => !secrets.collected,
            (FactorBody::PinTotp(secrets), Self::Collected) => secrets.collected,
            (FactorBody::Idp(known), Self::Idp(identity)) => known == identity,
            _ => false,
        }
    }
}

/// A proof that was good, without its secrets.
pub(crate) struct Proved {
    pub(crate) act: Digest32,
    pub(crate) method: Method,
    pub(crate) public: PublicProof,
}

/// What a good proof changes in its factor.
pub(crate) enum Success {
    Passkey(Asserted),
    PinTotp {
        step: i64,
    },
    /// PIN and the sent code of this salt.
    PinSent {
        salt: B64,
    },
    Device,
    Idp,
}

impl<C: CryptoModule> Sam<C> {
    /// Accepts a proof, once.
    ///
    /// # Errors
    /// [`SapRefusal`]; which check failed stands in the audit log only.
    pub async fn approve(&self, request: ApproveRequest) -> Result<Done, SapRefusal> {
        let ApproveRequest { proof, new } = request;
        let mut person = None;
        let failed = match self.try_approve(&proof, new, &mut person).await {
            Ok(done) => return Ok(done),
            Err(failed) => failed,
        };
        let reason = self.explain(&failed).await;
        let event = Event::SapRefused {
            act: Some(proof.act()),
            person,
            method: Some(audit::method(proof.method())),
            reason: audit::reason(&reason),
        };
        self.record(event).await;
        Err(reason.to_sap())
    }

    async fn try_approve(
        &self,
        proof: &Proof,
        new: Option<NewFactor>,
        person: &mut Option<core_types::PersonId>,
    ) -> Result<Done, Failed> {
        if !proof.fits() {
            return Err(Reason::Malformed.into());
        }
        self.watch_clock().await?;
        let digest = proof.act();
        let brought;
        let (loaded, success) = match proof {
            Proof::Passkey {
                id,
                auth_data,
                client_data,
                sig,
                ..
            } => {
                let mut tx = self.store.read("approve-read").await?;
                let epoch = sha256(&[&tx.epoch_source().await?]);
                let loaded = self
                    .load(&mut tx, digest, Wanted::Passkey(id), epoch)
                    .await?;
                drop(tx);
                *person = Some(loaded.act.body.person.clone());
                brought = self.brought(&loaded.act.body, digest, new, epoch).await?;
                let FactorBody::Passkey(passkey) = &loaded.factor.body.body else {
                    return Err(Reason::ForeignFactor.into());
                };
                let assertion = Assertion {
                    id: &id.0,
                    auth_data: &auth_data.0,
                    client_data: &client_data.0,
                    sig: &sig.0,
                };
                let asserted =
                    verify_assertion(&self.config.relying_party, digest, passkey, assertion);
                let asserted = asserted.map_err(Reason::from)?;
                (loaded, Success::Passkey(asserted))
            }
            Proof::PinTotp { sealed, .. } => {
                let loaded = self.count_try(digest, Wanted::Sealed).await?;
                *person = Some(loaded.act.body.person.clone());
                let epoch = loaded.now.epoch;
                brought = self.brought(&loaded.act.body, digest, new, epoch).await?;
                match self.check_secrets(digest, sealed, &loaded).await {
                    Ok(success) => (loaded, success),
                    Err(failed) => {
                        self.after_wrong_secret(digest, &loaded).await?;
                        return Err(failed);
                    }
                }
            }
            Proof::Device {
                key, sig, sealed, ..
            } => {
                // Not guessable, so first: who doesn't have the key can't use up the tries with the PIN.
                let mut tx = self.store.read("approve-read").await?;
                let epoch = sha256(&[&tx.epoch_source().await?]);
                let wanted = Wanted::Device(key);
                let loaded = self.load(&mut tx, digest, wanted, epoch).await?;
                drop(tx);
                *person = Some(loaded.act.body.person.clone());
                let FactorBody::Device(device) = &loaded.factor.body.body else {
                    return Err(Reason::ForeignFactor.into());
                };
                device.verify(digest, &sig.0)?;
                let loaded = self.count_try(digest, wanted).await?;
                let epoch = loaded.now.epoch;
                brought = self.brought(&loaded.act.body, digest, new, epoch).await?;
                match self.check_pin(digest, sealed, &loaded).await {
                    Ok(()) => (loaded, Success::Device),
                    Err(failed) => {
                        self.after_wrong_secret(digest, &loaded).await?;
                        return Err(failed);
                    }
                }
            }
            Proof::Idp { id_token, .. } => {
                // Not guessable, so nothing is counted. Whose word it is said to be only finds the factor.
                let claimed = Providers::unchecked_identity(id_token)?;
                let mut tx = self.store.read("approve-read").await?;
                let epoch = sha256(&[&tx.epoch_source().await?]);
                let loaded = self
                    .load(&mut tx, digest, Wanted::Idp(&claimed), epoch)
                    .await?;
                drop(tx);
                *person = Some(loaded.act.body.person.clone());
                brought = self.brought(&loaded.act.body, digest, new, epoch).await?;
                let (since, now) = (loaded.act.body.began(), loaded.now.time);
                let identity = self.config.providers.verify(id_token, digest, since, now)?;
                if !Wanted::Idp(&identity).is(&loaded.factor.body.body) {
                    return Err(Reason::ForeignFactor.into());
                }
                (loaded, Success::Idp)
            }
        };
        let made = self.make(&loaded.act.body, digest, brought).await?;
        let proved = Proved {
            act: digest,
            method: proof.method(),
            public: PublicProof::of(proof, &loaded.factor.body.id, &self.config.providers),
        };
        self.accept(proved, &loaded, &success, made.as_ref()).await
    }

    /// Steps 2: act, factor and key, with all checks that need no secret.
    async fn load(
        &self,
        tx: &mut Tx,
        digest: Digest32,
        wanted: Wanted<'_>,
        epoch: Digest32,
    ) -> Result<Loaded, Failed> {
        let now = self.at(epoch);
        let act = rows::get::<ActState>(tx, &self.sealer, &digest.to_string()).await?;
        let act = act.ok_or(Reason::NotFound)?;
        act.body.check_open(now)?;
        let person = &act.body.person;
        let of = match &act.body.subject {
            Subject::Sign {
                key, key_version, ..
            } => {
                let key = rows::get::<KeyRecord>(tx, &self.sealer, key.as_str()).await?;
                let key = key.ok_or(Reason::KeyNotActive)?.body;
                let same = key.version == *key_version && key.owner == *person;
                if !key.is_active(now.time) || !same {
                    return Err(Reason::KeyNotActive.into());
                }
                self.registration(tx, person, &key.voucher).await?
            }
            Subject::Import {
                registration,
                coming,
                ..
            } => {
                self.may_come_in(tx, person, registration, act.body.level, coming)
                    .await?
                    .registration
            }
            Subject::Change {
                registration,
                change,
                ..
            } => {
                let of = self.registration(tx, person, registration).await?;
                if let Some((id, _)) = change.key() {
                    let key = of.keys.iter().find(|k| k.body.key == *id);
                    let key = key.ok_or(Reason::KeyNotActive)?;
                    after(&key.body.life, change, None, now.time)?;
                }
                of
            }
            Subject::Enrol { .. } | Subject::Officer { .. } => {
                return Err(Reason::OtherKind.into());
            }
        };
        let all = of.all();
        let factor = of.factors.into_iter().find(|f| wanted.is(&f.body.body));
        let factor = factor.ok_or(Reason::ForeignFactor)?;
        let attesters = self.attesters();
        let rules = self.rules(&attesters);
        rules.check(act.body.level, &factor.body)?;
        match &act.body.subject {
            Subject::Change {
                registration,
                change,
                ..
            } => change.check_prover(rules, registration, &factor.body, &all)?,
            // Whatever the service can't be vouched for any more: what is there can be stopped and ended.
            _ => self.service.vouch(act.body.level)?,
        }
        let text = self.act_text(tx, digest).await?;
        Ok(Loaded {
            act,
            text,
            factor,
            now,
        })
    }

    /// T_A: everything the approval means, in one transaction.
    pub(crate) async fn accept(
        &self,
        proved: Proved,
        loaded: &Loaded,
        success: &Success,
        made: Option<&Made>,
    ) -> Result<Done, Failed> {
        let Proved {
            act: digest,
            method,
            public,
        } = proved;
        let proof_digest = public.digest()?;
        let Now { epoch, time, .. } = loaded.now;
        let evidence = Evidence::Approval(Box::new(Approval {
            statement: self.statement_of(epoch, time, &loaded.text).await?,
            act: loaded.text.clone(),
            proof: public,
            factor: loaded.factor.body.public(),
            at: loaded.now.time,
            policy: self.config.policy.version,
            policy_digest: Some(self.config.policy.digest()),
            made: made.and_then(Made::public),
            clock: self.clock_state(),
            software: env!("CARGO_PKG_VERSION").to_owned(),
        }));
        let evidence = evidence.bytes()?;
        let evidence_digest = sha256(&[&evidence]);
        let done = transaction!(self.store, "approve", |tx| {
            let now = self.now(tx).await?;
            self.check_not_set()?;
            // Before all that belongs to the person, and written at the end: whoever changes it meanwhile starts again.
            let id = loaded.act.body.person.as_str();
            let person = rows::get::<PersonRecord>(tx, &self.sealer, id).await?;
            let person = person.ok_or(Reason::NotFound)?;
            let row = rows::get::<ActState>(tx, &self.sealer, &digest.to_string())
                .await?
                .ok_or(Reason::NotFound)?;
            let factor =
                rows::get::<Factor>(tx, &self.sealer, loaded.factor.body.id.as_str()).await?;
            let factor = factor
                .filter(|f| f.body.removed.is_none())
                .ok_or(Reason::ForeignFactor)?;
            let id = factor.body.id.clone();
            let next = row
                .body
                .approve(proof_digest, evidence_digest, method, id.clone(), now)?;
            let sign_until = next.approval.as_ref().map_or(now.time, |a| a.sign_until);
            let mut events = vec![
                Event::SapAuthenticated {
                    act: digest,
                    person: next.person.clone(),
                    factor: id,
                    method: audit::method(method),
                },
                Event::ActApproved {
                    act: digest,
                    person: next.person.clone(),
                    proof: proof_digest,
                    evidence: evidence_digest,
                    sign_until,
                },
            ];
            let mut proving = Factor {
                body: succeeded(&factor.body.body, success, &mut events)?,
                ..factor.body.clone()
            };
            let notes = match &next.subject {
                Subject::Sign {
                    key, key_version, ..
                } => {
                    let key =
                        rows::get_key(tx, &self.sealer, key.as_str(), KeyLock::Shared).await?;
                    let good = |k: &Row<KeyRecord>| {
                        k.body.is_active(now.time) && k.body.version == *key_version
                    };
                    if !key.as_ref().is_some_and(good) {
                        return Err(Reason::KeyNotActive.into());
                    }
                    Vec::new()
                }
                Subject::Change {
                    registration,
                    change,
                    ..
                } => {
                    let what = Applied {
                        act: digest,
                        evidence: evidence_digest,
                        state: &next,
                        registration,
                        change,
                        made,
                        at: now.time,
                    };
                    self.apply(tx, what, &mut proving, &mut events).await?
                }
                Subject::Import {
                    registration,
                    coming,
                    ..
                } => {
                    let person = &next.person;
                    self.may_come_in(tx, person, registration, next.level, coming)
                        .await?;
                    vec![import_note(digest, now.time)]
                }
                Subject::Enrol { .. } | Subject::Officer { .. } => {
                    return Err(Reason::OtherKind.into());
                }
            };
            let request = next.subject.request().ok_or(Reason::OtherKind)?;
            self.approve_request(tx, request, digest).await?;
            rows::save(tx, &self.sealer, &row, &next).await?;
            rows::save(tx, &self.sealer, &factor, &proving).await?;
            self.remember_act(tx, &person, now.time, notes).await?;
            self.put_evidence(tx, evidence_digest, &evidence).await?;
            self.audit.append_all(tx, &events, now.time).await?;
            Ok::<_, Failed>(Done {
                return_uri: next.return_uri,
            })
        })?;
        if matches!(loaded.act.body.subject, Subject::Change { .. }) {
            self.finish_soon();
        }
        Ok(done)
    }

    async fn approve_request(
        &self,
        tx: &mut Tx,
        id: Digest32,
        act: Digest32,
    ) -> Result<(), Failed> {
        let row = rows::get::<RequestRecord>(tx, &self.sealer, &id.to_string()).await?;
        let row = row.ok_or(Reason::Withdrawn)?;
        if row.body.phase != RequestPhase::Open || row.body.act != Some(act) {
            return Err(Reason::Withdrawn.into());
        }
        let next = RequestRecord {
            phase: RequestPhase::Approved,
            ..row.body.clone()
        };
        rows::save(tx, &self.sealer, &row, &next).await
    }

    async fn remember_act(
        &self,
        tx: &mut Tx,
        row: &Row<PersonRecord>,
        at: UnixTime,
        notes: Vec<HistoryEntry>,
    ) -> Result<(), Failed> {
        let mut next = PersonRecord {
            last_act: Some(at),
            ..row.body.clone()
        };
        self.tell(tx, &mut next, notes).await?;
        rows::save(tx, &self.sealer, row, &next).await
    }
}

fn succeeded(
    body: &FactorBody,
    success: &Success,
    events: &mut Vec<Event>,
) -> Result<FactorBody, Reason> {
    match (body, success) {
        (FactorBody::Passkey(passkey), Success::Passkey(asserted)) => {
            if asserted.counter_went_back {
                events.push(Event::Alarm {
                    what: "passkey-counter-went-back".into(),
                });
            }
            let mut next = passkey.clone();
            // Never back: a copied key is noticed at each use of the older copy.
            next.counter = next.counter.max(asserted.counter);
            Ok(FactorBody::Passkey(next))
        }
        (FactorBody::PinTotp(secrets), Success::PinTotp { step }) => {
            secrets.succeeded(*step).map(FactorBody::PinTotp)
        }
        (FactorBody::PinTotp(secrets), Success::PinSent { salt }) => {
            secrets.spent(salt).map(FactorBody::PinTotp)
        }
        (FactorBody::Device(_), Success::Device) => Ok(body.with_fails(0, UnixTime(0))),
        (FactorBody::Idp(_), Success::Idp) => Ok(body.clone()),
        _ => Err(Reason::ForeignFactor),
    }
}
