//! `enrol/open`, `enrol/seed`, `enrol/register` (`sap.md` §8.2, §8.3): the invited person enrols factors.

use audit_log::Event;
use cm_api::CryptoModule;
use core_types::{Digest32, FactorId, Level, SecretBytes, UnixTime, VoucherId, sha256};
use sam_api::ssa::{Happened, HistoryEntry, StopCause};
use sam_core::act::{EnrolContent, mint_enrol};
use sam_core::attest::NotVouched;
use sam_core::enrol::{
    Enrolled, Factor, FactorBody, PinTotp, Voucher, VoucherPhase, factors_digest,
};
use sam_core::evidence::{Enrolment, Evidence};
use sam_core::life::cause_code;
use sam_core::passkey::{Attestation, Passkey, RelyingParty, verify_registration};
use sam_core::provider::Provider;
use sam_core::state::{Now, Subject};
use sam_core::{ActState, FactorKind, Policy, Reason, pin};
use sap::act::Replaced;
use sap::enrol::{InvitedBy, PasskeyRegistration, SealedEnrolment};
use sap::messages::{
    Done, EnrolOpenAnswer, EnrolOpenRequest, EnrolRegisterRequest, EnrolSeedAnswer,
    EnrolSeedRequest, ProviderHint, SapRefusal,
};
use sap::office::is_account;
use sap::proof::Method;
use sap::{Act, TYP_ACT, act_digest};
use store_kit::{Tx, transaction};

use super::office::Door;
use super::open::passkey_hints;
use super::voucher_secret::Loaded;
use crate::audit;
use crate::failed::Failed;
use crate::records::{KeyRecord, PersonRecord};
use crate::rows::{self, Row};
use crate::sam::Sam;

impl<C: CryptoModule> Sam<C> {
    /// Mints the enrol act of a voucher; an older open act of it dies. The secret doesn't travel yet.
    ///
    /// # Errors
    /// [`SapRefusal`].
    pub async fn enrol_open(
        &self,
        request: EnrolOpenRequest,
    ) -> Result<EnrolOpenAnswer, SapRefusal> {
        self.enrol_open_at(Door::Signers, request).await
    }

    pub(crate) async fn enrol_open_at(
        &self,
        door: Door,
        request: EnrolOpenRequest,
    ) -> Result<EnrolOpenAnswer, SapRefusal> {
        match self.try_enrol_open(door, &request.voucher).await {
            Ok(answer) => Ok(answer),
            Err(failed) => Err(self
                .enrol_refused(Some(request.voucher), None, &failed)
                .await),
        }
    }

    /// Hands out a seed for one-time codes, once for each enrol act, to whoever knows the voucher's secret.
    ///
    /// # Errors
    /// [`SapRefusal`].
    pub async fn enrol_seed(
        &self,
        request: EnrolSeedRequest,
    ) -> Result<EnrolSeedAnswer, SapRefusal> {
        match self.try_enrol_seed(&request).await {
            Ok(answer) => Ok(answer),
            Err(failed) => Err(self.enrol_refused(None, Some(request.act), &failed).await),
        }
    }

    /// Enrols the factors.
    ///
    /// # Errors
    /// [`SapRefusal`].
    pub async fn enrol_register(&self, request: EnrolRegisterRequest) -> Result<Done, SapRefusal> {
        self.enrol_register_at(Door::Signers, request).await
    }

    pub(crate) async fn enrol_register_at(
        &self,
        door: Door,
        request: EnrolRegisterRequest,
    ) -> Result<Done, SapRefusal> {
        match self.try_enrol_register(door, &request).await {
            Ok(done) => Ok(done),
            Err(failed) => Err(self.enrol_refused(None, Some(request.act), &failed).await),
        }
    }

    async fn enrol_refused(
        &self,
        voucher: Option<VoucherId>,
        act: Option<Digest32>,
        failed: &Failed,
    ) -> SapRefusal {
        if let Some(act) = act {
            return self.refused_act(act, failed).await;
        }
        let reason = self.explain(failed).await;
        self.refused_voucher(voucher, &reason).await;
        reason.to_sap()
    }

    /// Records that a message about an act was refused; answers what the page may know.
    pub(crate) async fn refused_act(&self, act: Digest32, failed: &Failed) -> SapRefusal {
        let reason = self.explain(failed).await;
        let event = Event::SapRefused {
            act: Some(act),
            person: None,
            method: None,
            reason: audit::reason(&reason),
        };
        self.record(event).await;
        reason.to_sap()
    }

    async fn try_enrol_open(&self, door: Door, id: &VoucherId) -> Result<EnrolOpenAnswer, Failed> {
        self.watch_clock().await?;
        self.check_clock()?;
        let epoch = self.epoch().await?;
        let ring = self.ring(epoch, self.clock.now()).await?;
        transaction!(self.store, "enrol-open", |tx| {
            let now = self.now(tx).await?;
            if now.epoch != epoch {
                return Err(Reason::NotNow.into());
            }
            let row = rows::get::<Voucher>(tx, &self.sealer, id.as_str())
                .await?
                .ok_or(Reason::NotFound)?;
            door.check(&row.body)?;
            if door == Door::Signers {
                self.goes_on(tx).await?;
            }
            row.body.check_open(now.time)?;
            let ceiling = row.body.ceiling();
            let (replaced, ends) = self.replaced(tx, &row.body).await?.unzip();
            let content = EnrolContent {
                invite: &row.body.invite,
                by: row.body.by,
                ceiling,
                methods: &self.enrolment_methods(&row.body),
                replaces: replaced.as_ref(),
                rp_id: &self.place(&row.body).rp_id,
                return_uri: &row.body.return_uri,
            };
            let act = mint_enrol(self.issuer(epoch), content, now.time, self.random.as_ref())?;
            let act = Act::Enrol(act);
            let payload = serde_json::to_vec(&act).map_err(|_| Reason::NotNow)?;
            let jws = ring
                .act
                .sign(TYP_ACT, &payload)
                .map_err(|_| Reason::NotNow)?;
            let digest = act_digest(&jws);
            let state = ActState::minted(
                Subject::Enrol {
                    voucher: id.clone(),
                    ends,
                },
                act.head(),
                0,
            );
            let next = Voucher {
                act: Some(digest),
                seed: None,
                ..row.body.clone()
            };
            rows::save(tx, &self.sealer, &row, &next).await?;
            let ended = self.end_act(tx, row.body.act, "superseded").await?;
            self.put_act(tx, digest, &jws, &state).await?;
            let mut events = Vec::from_iter(ended);
            events.push(Event::ActMinted {
                act: digest,
                what: "enrol".into(),
                person: state.person.clone(),
                key: None,
                items: 0,
                level: ceiling,
            });
            self.audit.append_all(tx, &events, now.time).await?;
            // Hints only: one that is refused is missing from them.
            let owner = state.person.as_str();
            let (known, _) = rows::readable_by_owner::<Factor>(tx, &self.sealer, owner).await?;
            let living = known
                .iter()
                .map(|f| &f.body)
                .filter(|f| f.removed.is_none());
            Ok::<_, Failed>(EnrolOpenAnswer {
                act: jws,
                exclude: passkey_hints(living),
                providers: self.enrolment_providers(&row.body),
            })
        })
    }

    async fn try_enrol_register(
        &self,
        door: Door,
        request: &EnrolRegisterRequest,
    ) -> Result<Done, Failed> {
        self.watch_clock().await?;
        let loaded = self.count_voucher_try(door, request.act).await?;
        let secrets = self
            .open_secret(request.act, &request.sealed, &loaded)
            .await?;
        let made = self.make_factors(request, secrets, &loaded).await;
        let done = match made {
            Ok(factors) => self.enrol(request, &loaded, factors).await,
            Err(failed) => Err(failed),
        };
        if done.is_err() {
            self.forget_voucher_try(request.act).await?;
        }
        done
    }

    fn enrolment_methods(&self, voucher: &Voucher) -> Vec<Method> {
        if voucher.invite.collected {
            return vec![Method::Collected];
        }
        let mut methods = self.config.policy.enrolment_methods(voucher.ceiling());
        if !self.enrolment_providers(voucher).is_empty() {
            methods.push(Method::Idp);
        }
        methods
    }

    /// Identity providers whose word counts for keys of this voucher. Officers aren't known to any.
    fn enrolment_providers(&self, voucher: &Voucher) -> Vec<ProviderHint> {
        if voucher.invite.collected || is_account(&voucher.invite.person) {
            return Vec::new();
        }
        self.providers_at(voucher.ceiling())
    }

    /// Whether the word of this provider counts at this level.
    pub(crate) fn check_provider(&self, issuer: &str, level: Level) -> Result<(), Reason> {
        let kind = self.config.providers.kind(issuer);
        kind.map_or(Ok(()), |kind| self.config.policy.check(level, kind))
    }

    /// Identity providers whose word counts at this level.
    pub(crate) fn providers_at(&self, level: Level) -> Vec<ProviderHint> {
        let all = self.config.providers.0.iter();
        let counts = all.filter(|provider| self.config.policy.admits(level, provider.kind()));
        counts.map(Provider::hint).collect()
    }

    /// Checks the new factors; the secret was right.
    async fn make_factors(
        &self,
        request: &EnrolRegisterRequest,
        secrets: SealedEnrolment,
        loaded: &Loaded,
    ) -> Result<Vec<Factor>, Failed> {
        let now = loaded.now.time;
        let mut bodies = Vec::new();
        if let Some(registration) = &request.passkey {
            let ceiling = loaded.voucher.body.ceiling();
            let place = self.place(&loaded.voucher.body);
            let passkey = self.new_passkey(place, request.act, registration, ceiling, now)?;
            bodies.push((
                FactorId::random(self.random.as_ref()),
                FactorBody::Passkey(passkey),
            ));
        }
        if let Some(token) = &request.id_token {
            let providers = &self.config.providers;
            let since = loaded.act.body.began();
            let identity = providers.verify(token, request.act, since, now)?;
            let hints = self.enrolment_providers(&loaded.voucher.body);
            if !hints.iter().any(|hint| hint.issuer == identity.issuer) {
                let ceiling = loaded.voucher.body.ceiling();
                self.check_provider(&identity.issuer, ceiling)?;
                return Err(Reason::NotAllowed("method").into());
            }
            bodies.push((
                FactorId::random(self.random.as_ref()),
                FactorBody::Idp(identity),
            ));
        }
        match (secrets.pin, secrets.otp) {
            (None, None) => {}
            (Some(pin), Some(otp)) => {
                let id = FactorId::random(self.random.as_ref());
                let body = self.new_pin(&id, pin, &otp, request.act, loaded).await?;
                bodies.push((id, FactorBody::PinTotp(body)));
            }
            _ => return Err(Reason::Malformed.into()),
        }
        let ceiling = loaded.voucher.body.ceiling();
        if loaded.voucher.body.invite.collected {
            for (_, body) in &mut bodies {
                match body {
                    FactorBody::PinTotp(secrets) => secrets.collected = true,
                    FactorBody::Passkey(_) | FactorBody::Device(_) | FactorBody::Idp(_) => {
                        return Err(Reason::NotAllowed("collected").into());
                    }
                }
            }
        }
        let factors: Vec<Factor> = bodies
            .into_iter()
            .map(|(id, body)| Factor {
                id,
                person: loaded.act.body.person.clone(),
                voucher: loaded.voucher.body.registration().clone(),
                act: request.act,
                created: now,
                body,
                removed: None,
            })
            .collect();
        let policy: &Policy = &self.config.policy;
        if factors.is_empty() {
            return Err(Reason::Malformed.into());
        }
        let methods = policy.enrolment_methods(ceiling);
        let with_pin = |f: &Factor| matches!(f.body, FactorBody::PinTotp(_));
        if !methods.contains(&Method::PinTotp) && factors.iter().any(with_pin) {
            policy.check(ceiling, FactorKind::PinTotp)?;
        }
        Ok(factors)
    }

    /// A passkey whose maker nobody vouches for is registered all the same, unless this enrolment is for level 3 or
    /// its model is compromised.
    pub(crate) fn new_passkey(
        &self,
        rp: &RelyingParty,
        act: Digest32,
        registration: &PasskeyRegistration,
        ceiling: Level,
        now: UnixTime,
    ) -> Result<Passkey, Reason> {
        let (mut passkey, statement) = verify_registration(rp, act, registration)?;
        match self.attesters().judge(&passkey, &statement, now) {
            Ok(()) => passkey.attestation = Attestation::Vouched,
            Err(NotVouched::Compromised) => return Err(NotVouched::Compromised.into()),
            Err(cause) if ceiling.min(self.service.ceiling) == Level::Three => {
                return Err(cause.into());
            }
            Err(_) => {}
        }
        Ok(passkey)
    }

    async fn new_pin(
        &self,
        id: &FactorId,
        new: SecretBytes,
        otp: &SecretBytes,
        act: Digest32,
        loaded: &Loaded,
    ) -> Result<PinTotp, Failed> {
        pin::check_new(&new)?;
        let seed = loaded.voucher.body.seed.as_ref().filter(|s| s.act == act);
        let seed = seed.ok_or(Reason::SealedWrong)?.seed.clone();
        self.fresh_pin(id, new, otp, seed, loaded.now.time).await
    }

    /// T_E: voucher used, person and factors there, act closed, evidence and audit, in one transaction.
    async fn enrol(
        &self,
        request: &EnrolRegisterRequest,
        loaded: &Loaded,
        factors: Vec<Factor>,
    ) -> Result<Done, Failed> {
        let attesters = self.attesters();
        let rules = self.rules(&attesters);
        let strengths = factors.iter().map(|f| rules.strength(f));
        let authorization = strengths.max().ok_or(Reason::Malformed)?;
        let digest = factors_digest(&factors)?;
        let evidence = self.enrolment_evidence(request, loaded, &factors).await?;
        let evidence_digest = sha256(&[&evidence]);
        let done = transaction!(self.store, "enrol", |tx| {
            let now = self.now(tx).await?;
            self.check_not_set()?;
            let current = self.load_enrolment(tx, request.act, now).await?;
            let act = current.act.body.enrolled(now)?;
            if !is_account(&act.person) {
                self.stays_so(tx).await?;
            }
            // As in every approval: before all that belongs to the person.
            let person = rows::get::<PersonRecord>(tx, &self.sealer, act.person.as_str()).await?;
            let enrolled = Enrolled {
                act: request.act,
                at: now.time,
                factors: digest,
                authorization,
                keys: Vec::new(),
            };
            let voucher = Voucher {
                phase: VoucherPhase::Used,
                seed: None,
                enrolled: Some(enrolled),
                ..current.voucher.body.clone()
            };
            rows::save(tx, &self.sealer, &current.act, &act).await?;
            rows::save(tx, &self.sealer, &current.voucher, &voucher).await?;
            // Before the new factor is there, which stays.
            let mut events = Vec::new();
            let rebound = match &voucher.rebinds {
                Some(rebinds) => {
                    self.rebind(tx, &voucher, rebinds, now.time, &mut events)
                        .await?
                }
                None => Vec::new(),
            };
            for factor in &factors {
                if !rows::insert(tx, &self.sealer, factor.id.as_str(), factor).await? {
                    return Err(Reason::CredentialKnown.into());
                }
            }
            events.push(Event::VoucherUsed {
                voucher: voucher.invite.voucher.clone(),
                person: act.person.clone(),
            });
            if is_account(&act.person) {
                self.enrol_account(tx, &voucher, now.time, &mut events)
                    .await?;
                events.extend(
                    factors
                        .iter()
                        .map(|f| enrolled_event(f, true, evidence_digest)),
                );
                self.put_evidence(tx, evidence_digest, &evidence).await?;
                self.audit.append_all(tx, &events, now.time).await?;
                return Ok(Done {
                    return_uri: act.return_uri,
                });
            }
            let mut notes = self
                .end_replaced(tx, &voucher, (&act, request.act), now.time, &mut events)
                .await?;
            notes.extend(rebound);
            notes.push(HistoryEntry {
                at: now.time,
                what: match voucher.rebinds {
                    Some(_) => Happened::FactorAdded,
                    None => Happened::Enrolled,
                },
                key: None,
                factor: None,
                act: Some(request.act),
                proposal: None,
                cause: None,
            });
            let fresh = self.put_person(tx, &voucher, person, notes).await?;
            events.extend(
                factors
                    .iter()
                    .enumerate()
                    .map(|(n, f)| enrolled_event(f, fresh && n == 0, evidence_digest)),
            );
            self.put_evidence(tx, evidence_digest, &evidence).await?;
            self.audit.append_all(tx, &events, now.time).await?;
            Ok::<_, Failed>(Done {
                return_uri: act.return_uri,
            })
        })?;
        if loaded.voucher.body.invite.replaces.is_some() {
            self.finish_soon();
        }
        Ok(done)
    }

    async fn enrolment_evidence(
        &self,
        request: &EnrolRegisterRequest,
        loaded: &Loaded,
        factors: &[Factor],
    ) -> Result<Vec<u8>, Failed> {
        let mut tx = self.store.read("enrol-text").await?;
        let act = self.act_text(&mut tx, request.act).await?;
        drop(tx);
        let Now { epoch, time, .. } = loaded.now;
        let registration = |r: &PasskeyRegistration| [r.client_data.clone(), r.attestation.clone()];
        let evidence = Evidence::Enrolment(Box::new(Enrolment {
            statement: self.statement_of(epoch, time, &act).await?,
            act,
            invite: loaded.voucher.body.source.clone(),
            factors: factors.iter().map(Factor::public).collect(),
            registration: request.passkey.as_ref().map(registration),
            at: loaded.now.time,
            clock: self.clock_state(),
            software: env!("CARGO_PKG_VERSION").to_owned(),
        }));
        Ok(evidence.bytes()?)
    }

    /// Makes the person, or notes what changed. `true`: the person is new.
    async fn put_person(
        &self,
        tx: &mut Tx,
        voucher: &Voucher,
        row: Option<Row<PersonRecord>>,
        notes: Vec<HistoryEntry>,
    ) -> Result<bool, Failed> {
        let id = &voucher.invite.person;
        let mut next = row
            .as_ref()
            .map_or_else(|| PersonRecord::new(id.clone()), |r| r.body.clone());
        self.tell_enrolled(tx, &mut next, voucher, notes).await?;
        match row {
            Some(row) => {
                rows::save(tx, &self.sealer, &row, &next).await?;
                Ok(false)
            }
            None if rows::insert(tx, &self.sealer, id.as_str(), &next).await? => Ok(true),
            None => Err(Reason::NotNow.into()),
        }
    }

    /// The earlier registration whose place this one takes, by an RA's word; as the act names it, and its digest.
    async fn replaced(
        &self,
        tx: &mut Tx,
        voucher: &Voucher,
    ) -> Result<Option<(Replaced, Digest32)>, Failed> {
        let (Some(old), InvitedBy::Ra) = (&voucher.invite.replaces, voucher.by) else {
            return Ok(None);
        };
        let of = self.registration(tx, &voucher.invite.person, old).await?;
        let replaced = Replaced {
            registration: old.clone(),
            keys: of.living().map(KeyRecord::act_key).collect(),
        };
        Ok(Some((replaced, of.digest())))
    }

    /// All factors of an earlier registration are lost, and an RA has said that this one takes its place. What ends is
    /// what the person saw.
    async fn end_replaced(
        &self,
        tx: &mut Tx,
        voucher: &Voucher,
        (state, act): (&ActState, Digest32),
        at: UnixTime,
        events: &mut Vec<Event>,
    ) -> Result<Vec<HistoryEntry>, Failed> {
        let (Some(old), InvitedBy::Ra) = (&voucher.invite.replaces, voucher.by) else {
            return Ok(Vec::new());
        };
        let of = self.registration(tx, &voucher.invite.person, old).await?;
        let seen = matches!(&state.subject, Subject::Enrol { ends: Some(ends), .. } if *ends == of.digest());
        if !seen {
            return Err(Reason::Withdrawn.into());
        }
        self.end_voucher(tx, &voucher.invite.person, old).await?;
        let cause = (StopCause::FactorsLost, act);
        let notes = self.end_keys(tx, &of.keys, cause, at, events).await?;
        for row in &of.factors {
            rows::save(tx, &self.sealer, row, &row.body.removed(at)).await?;
            events.push(Event::FactorRemoved {
                person: row.body.person.clone(),
                factor: row.body.id.clone(),
                act,
            });
        }
        events.push(Event::RegistrationEnded {
            person: voucher.invite.person.clone(),
            voucher: old.clone(),
            reason: cause_code(StopCause::FactorsLost).into(),
            act,
        });
        Ok(notes)
    }
}

fn enrolled_event(factor: &Factor, first: bool, evidence: Digest32) -> Event {
    let method = audit::method(factor.method());
    let (person, id, act) = (factor.person.clone(), factor.id.clone(), factor.act);
    if first {
        Event::Enrolled {
            person,
            factor: id,
            method,
            act,
            evidence,
        }
    } else {
        Event::FactorAdded {
            person,
            factor: id,
            method,
            act,
            evidence,
        }
    }
}
