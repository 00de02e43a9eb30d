//! Stopping keys by cause (`I-4.2.2c-termination-causes`): by a login, by an authority's notice (from either listener), by the end of the
//! certificate; and having the module destroy what is gone. Stops by the signer's proof are in [`super::change`]; the
//! provider's, by officers, in [`super::office`].

use audit_log::Event;
use cm_api::{CryptoModule, Executed, OrderKind};
use core_types::{DestroyCause, Digest32, PeerId, UnixTime, sha256};
use sam_api::Refusal;
use sam_api::ssa::{
    Empty, Happened, HistoryEntry, KeyState, NoticeRequest, StopCause, StopRequest,
};
use sam_core::evidence::{Evidence, Notice, Stop, StopMethod};
use sam_core::life::{Gone, Life, cause_code};
use sam_core::{Reason, notice};
use sap::manage::NoticeEffect;
use sap::messages::{MAX_NOTICE, SapRefusal};
use store_kit::{StoreError, Tx, transaction};

use super::change::{key_event, key_note};
use crate::audit;
use crate::failed::Failed;
use crate::records::KeyRecord;
use crate::rows::{self, Noun as _, Row, Walk};
use crate::sam::Sam;

impl<C: CryptoModule> Sam<C> {
    /// Stops a key on the word of `service` that its owner is logged in. Easy on purpose; resuming takes a proof.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn stop(&self, service: &str, request: StopRequest) -> Result<Empty, Refusal> {
        match self.try_stop(service, &request).await {
            Ok(()) => Ok(Empty {}),
            Err(failed) => {
                let reason = self.explain(&failed).await;
                self.record(Event::RequestRefused {
                    client: None,
                    person: Some(request.person),
                    reason: audit::reason(&reason),
                })
                .await;
                Err(reason.to_ssa())
            }
        }
    }

    /// Heeds the notice of a registered authority: a revoked certificate ends its key, a hold stops it.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn notice(&self, service: &str, request: NoticeRequest) -> Result<Empty, Refusal> {
        match self.try_notice(Some(service), &request.notice).await {
            Ok(()) => Ok(Empty {}),
            Err(failed) => Err(self.notice_refused(&failed, &request).await.to_ssa()),
        }
    }

    /// The same, brought to the gateway by whoever likes: what it says is its authority's word, and no SSA is needed for it. Whose key
    /// it is about says the notice.
    ///
    /// # Errors
    /// [`SapRefusal`].
    pub async fn notice_brought(&self, request: NoticeRequest) -> Result<Empty, SapRefusal> {
        let named = notice::tenant_of(&request.notice);
        let of = named.and_then(|tenant| self.of(&tenant));
        let sam = of.as_ref().unwrap_or(self);
        match sam.try_notice(None, &request.notice).await {
            Ok(()) => Ok(Empty {}),
            Err(failed) => Err(sam.notice_refused(&failed, &request).await.to_sap()),
        }
    }

    async fn notice_refused(&self, failed: &Failed, request: &NoticeRequest) -> Reason {
        let reason = self.explain(failed).await;
        self.record(Event::NoticeRefused {
            notice: sha256(&[request.notice.as_bytes()]),
            reason: audit::reason(&reason),
        })
        .await;
        reason
    }

    async fn try_stop(&self, service: &str, request: &StopRequest) -> Result<(), Failed> {
        transaction!(self.store, "stop", |tx| {
            let now = self.clock.now();
            let row = rows::get::<KeyRecord>(tx, &self.sealer, request.key.as_str()).await?;
            let row = row
                .filter(|k| k.body.owner == request.person && k.body.service == service)
                .ok_or(Reason::NotFound)?;
            let life = row.body.life.stopped_by_login(request.changes, now)?;
            let peer = PeerId::parse(service).map_err(|_| Reason::NotFound)?;
            let events = self
                .stopped(tx, &row, life, (StopMethod::Login, &peer), now)
                .await?;
            self.audit.append_all(tx, &events, now).await?;
            Ok::<_, Failed>(())
        })
    }

    /// Stops a key on somebody's word, with evidence of who asked; answers what is to be recorded.
    pub(crate) async fn stopped(
        &self,
        tx: &mut Tx,
        row: &Row<KeyRecord>,
        life: Life,
        (method, peer): (StopMethod, &PeerId),
        now: UnixTime,
    ) -> Result<Vec<Event>, Failed> {
        let evidence = Evidence::Stop(Box::new(Stop {
            sam: self.config.sam.clone(),
            key: row.body.act_key(),
            person: row.body.owner.clone(),
            method,
            peer: peer.clone(),
            changes: row.body.life.changes,
            at: now,
            clock: self.clock_state(),
            software: env!("CARGO_PKG_VERSION").to_owned(),
        }));
        let evidence = evidence.bytes()?;
        let digest = sha256(&[&evidence]);
        let next = row.body.with_life(life);
        rows::save(tx, &self.sealer, row, &next).await?;
        let note = HistoryEntry {
            act: Some(digest),
            ..key_note(&next, Happened::Suspended, now)
        };
        self.note(tx, &next.owner, vec![note]).await?;
        self.put_evidence(tx, digest, &evidence).await?;
        let stopped = Event::KeyStopped {
            peer: peer.clone(),
            key: next.key.clone(),
            owner: next.owner.clone(),
            method: method.code().into(),
            evidence: digest,
        };
        Ok(vec![stopped, key_event(&next, digest)])
    }

    /// `service`: who brings it, if that is an SSA, which speaks of its own keys only.
    async fn try_notice(&self, service: Option<&str>, jws: &str) -> Result<(), Failed> {
        if jws.len() > MAX_NOTICE {
            return Err(Reason::Malformed.into());
        }
        let now = self.clock.now();
        let config = &self.config;
        let authorities = &config.registration_authorities;
        let checked = notice::check(jws, authorities, &config.sam, &config.tenant, now)?;
        let evidence = Evidence::Notice(Box::new(Notice {
            notice: jws.to_owned(),
            authority: checked.authority.clone(),
            at: now,
            software: env!("CARGO_PKG_VERSION").to_owned(),
        }));
        let evidence = evidence.bytes()?;
        let evidence_digest = sha256(&[&evidence]);
        let authority = Digest32::parse(&checked.authority.kid()).map_err(|_| Reason::Malformed)?;
        let done = transaction!(self.store, "notice", |tx| {
            let key = &checked.notice.key;
            let row = rows::get::<KeyRecord>(tx, &self.sealer, key.as_str()).await?;
            let row = row
                .filter(|k| service.is_none_or(|service| k.body.service == service))
                .ok_or(Reason::NotFound)?;
            notice::check_key(&checked.notice, &row.body.key, row.body.certificate())?;
            let Some(life) = row
                .body
                .life
                .noticed(&checked.notice, checked.digest, now)?
            else {
                return Ok(());
            };
            let next = row.body.with_life(life);
            rows::save(tx, &self.sealer, &row, &next).await?;
            let (happened, effect) = match checked.notice.effect {
                NoticeEffect::Revoked => (Happened::Destroyed, "revoked"),
                NoticeEffect::Hold => (Happened::Suspended, "hold"),
                // What the signer stopped before the hold stays stopped.
                NoticeEffect::Released if next.life.state == KeyState::Suspended => {
                    (Happened::Suspended, "released")
                }
                NoticeEffect::Released => (Happened::Resumed, "released"),
            };
            let note = HistoryEntry {
                act: Some(checked.digest),
                ..key_note(&next, happened, now)
            };
            self.note(tx, &next.owner, vec![note]).await?;
            self.put_evidence(tx, evidence_digest, &evidence).await?;
            let mut events = vec![Event::NoticeHeeded {
                notice: checked.digest,
                authority,
                key: next.key.clone(),
                owner: next.owner.clone(),
                effect: effect.into(),
                evidence: evidence_digest,
            }];
            if checked.notice.effect != NoticeEffect::Released {
                events.push(key_event(&next, checked.digest));
            }
            self.audit.append_all(tx, &events, now).await?;
            Ok::<_, Failed>(())
        });
        done?;
        self.finish_soon();
        Ok(())
    }

    /// Ends keys whose certificates are over. They can't be used since that very second; this only makes it final.
    pub(crate) async fn end_expired(&self, now: UnixTime) -> Result<(), StoreError> {
        for state in [rows::ACTIVE, rows::SUSPENDED, rows::LEAVING] {
            let mut over = Walk::new(state, &self.sealer, now);
            while let Some(id) = over.next(&self.store).await? {
                let ended: Result<(), Failed> = transaction!(self.store, "expire", |tx| {
                    let Some(row) = rows::get::<KeyRecord>(tx, &self.sealer, &id).await? else {
                        return Ok(());
                    };
                    let Some(life) = row.body.life.expired(now) else {
                        return Ok(());
                    };
                    let next = row.body.with_life(life);
                    rows::save(tx, &self.sealer, &row, &next).await?;
                    let note = key_note(&next, Happened::Destroyed, now);
                    self.note(tx, &next.owner, vec![note]).await?;
                    let event = key_event(&next, next.certificate());
                    self.audit.append(tx, event, now).await?;
                    Ok::<_, Failed>(())
                });
                self.go_on(&mut over, ended).await?;
            }
        }
        Ok(())
    }

    /// Has the module give away keys that leave and destroy keys that are gone, without holding up whoever decided it.
    pub(crate) fn finish_soon(&self) {
        let sam = self.clone();
        tokio::spawn(async move {
            let done = async {
                sam.hand_over_leaving().await?;
                sam.destroy_doomed().await.map(drop)
            };
            if let Err(error) = done.await {
                tracing::error!(%error, "keys that ended couldn't be dealt with yet; maintenance tries again");
            }
        });
    }

    /// Has the module destroy every key that ended; tells of how many it is done. Asked again, the module says the same again.
    pub(crate) async fn destroy_doomed(&self) -> Result<usize, StoreError> {
        let mut done = 0;
        let mut doomed = Walk::new(rows::DOOMED, &self.sealer, UnixTime(i64::MAX));
        while let Some(id) = doomed.next(&self.store).await? {
            match self.destroy_one(&id).await {
                Ok(gone) => done += usize::from(gone),
                // Every few seconds while all keys end; what is refused is told of once.
                Err(failed)
                    if failed.alarm().is_some() && !self.endings.is_news(KeyRecord::TABLE, &id) => {
                }
                Err(failed) => self.go_on(&mut doomed, Err(failed)).await?,
            }
        }
        Ok(done)
    }

    /// `true`: the key is gone for good, and was not before.
    async fn destroy_one(&self, id: &str) -> Result<bool, Failed> {
        let mut tx = self.store.read("doomed-key").await?;
        let row = rows::get::<KeyRecord>(&mut tx, &self.sealer, id).await?;
        drop(tx);
        let Some(key) = row.map(|r| r.body).filter(|k| k.life.awaits_module()) else {
            return Ok(false);
        };
        let Some(stop) = key.life.stop.clone() else {
            return Ok(false);
        };
        let kind = OrderKind::Destroy {
            key: key.key.clone(),
            version: key.version,
            spki: key.spki_digest(),
            act: stop.by.unwrap_or_else(|| key.certificate()),
            cause: destroy_cause(stop.cause),
        };
        let epoch = self.epoch().await?;
        let Executed::Destroyed(told) = self.command(epoch, kind).await? else {
            return Err(Reason::NotNow.into());
        };
        transaction!(self.store, "destroyed", |tx| {
            let now = self.clock.now();
            let row = rows::get::<KeyRecord>(tx, &self.sealer, id).await?;
            let row = row.ok_or(Reason::NotFound)?;
            let gone = Gone {
                unrecoverable_after: told.unrecoverable_after,
                certificate: told.certificate.clone(),
            };
            let first = row
                .body
                .life
                .stop
                .as_ref()
                .is_some_and(|s| s.gone.is_none());
            let same = row.body.life.stop.as_ref().and_then(|s| s.gone.as_ref()) == Some(&gone);
            let life = match row.body.life.confirmed(gone) {
                Ok(life) if !same => life,
                // Another node was told meanwhile, or there is nothing new.
                _ => return Ok(false),
            };
            let next = row.body.with_life(life);
            rows::save(tx, &self.sealer, &row, &next).await?;
            let gone = !next.life.awaits_module();
            if gone && stop.cause == StopCause::Provider {
                self.count_destroyed(tx, stop.by).await?;
            }
            if first {
                let event = Event::KeyDestroyed {
                    key: next.key,
                    owner: next.owner,
                    reason: cause_code(stop.cause).into(),
                    act: stop.by,
                };
                self.audit.append(tx, event, now).await?;
            } else {
                self.rows_changed(tx, "destruction-confirmed").await?;
            }
            Ok::<_, Failed>(gone)
        })
    }

    /// One key that can't be handled doesn't hold up the others; a store that fails does.
    pub(crate) async fn survive(&self, done: Result<(), Failed>) -> Result<(), StoreError> {
        match done {
            Err(Failed::Store(error)) => Err(error),
            Err(failed) => {
                self.explain(&failed).await;
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// The same on a walk, which tells once of rows that are refused.
    pub(crate) async fn go_on(
        &self,
        walk: &mut Walk,
        done: Result<(), Failed>,
    ) -> Result<(), StoreError> {
        match done {
            Err(failed) if !walk.failed(&failed) => Ok(()),
            done => self.survive(done).await,
        }
    }
}

fn destroy_cause(cause: StopCause) -> DestroyCause {
    match cause {
        StopCause::Revoked | StopCause::Hold => DestroyCause::Revoked,
        StopCause::Expired => DestroyCause::Expired,
        StopCause::FactorsLost => DestroyCause::Replaced,
        StopCause::HandedOver => DestroyCause::HandedOver,
        StopCause::Provider | StopCause::WrongValue => DestroyCause::Officers,
        StopCause::Used => DestroyCause::Used,
        StopCause::Signer | StopCause::Login | StopCause::Left => DestroyCause::Owner,
    }
}
