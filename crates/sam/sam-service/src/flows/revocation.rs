//! `watched` and `revocation`: what CAs publish about the certificates of keys. The SSA looks and brings; what it means is judged here,
//! by the CA's own signature, so that a hostile SSA can neither end a key with it nor lift a hold.

use audit_log::Event;
use cm_api::CryptoModule;
use core_types::{B64, Digest32, KeyId, UnixTime, sha256};
use sam_api::Refusal;
use sam_api::ssa::{
    Empty, Happened, HistoryEntry, KeyState, Published, RevocationRequest, StopCause,
    WatchedAnswer, WatchedCertificate, WatchedRequest,
};
use sam_core::Reason;
use sam_core::evidence::{Evidence, Revocation};
use sam_core::revocation::{Said, issuer, judge};
use sap::RevocationNotice;
use sap::manage::NoticeEffect;
use store_kit::{Tx, sql, transaction};

use super::change::{key_event, key_note};
use crate::audit;
use crate::failed::Failed;
use crate::records::KeyRecord;
use crate::rows::{self, Row};
use crate::sam::Sam;

/// Keys in one answer.
const MOST_WATCHED: usize = 200;

impl<C: CryptoModule> Sam<C> {
    /// Certificates of keys of `service` that live.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn watched(
        &self,
        service: &str,
        request: WatchedRequest,
    ) -> Result<WatchedAnswer, Refusal> {
        match self.try_watched(service, request).await {
            Ok(answer) => Ok(answer),
            Err(failed) => Err(self.explain(&failed).await.to_ssa()),
        }
    }

    async fn try_watched(
        &self,
        service: &str,
        request: WatchedRequest,
    ) -> Result<WatchedAnswer, Failed> {
        let mut after = request
            .after
            .map_or_else(String::new, |key| key.to_string());
        let tenant = self.sealer.prefix().unwrap_or_default();
        let mut tx = self.store.read("watched").await?;
        let mut certificates = Vec::new();
        let mut refused = None;
        // As many pages of the table as one of an answer takes, which ends with a key of the service's own.
        loop {
            let select = sql(rows::WATCHED)
                .bind(after.as_str())
                .bind(tenant.as_str());
            let page = tx.fetch_all(select.bind(rows::BATCH)).await?;
            let Some(last) = page.last() else { break };
            after = last.text("id")?;
            for row in &page {
                let key = match rows::open::<KeyRecord>(&mut tx, &self.sealer, row) {
                    Ok(Some(key)) => key.body,
                    Ok(None) => continue,
                    // It signs nothing, and stands in nobody's way.
                    Err(failed) if failed.alarm().is_some() => {
                        refused = Some(failed);
                        continue;
                    }
                    Err(failed) => return Err(failed),
                };
                certificates.extend(self.watch(&mut tx, service, key).await?);
                if certificates.len() == MOST_WATCHED {
                    let next = certificates.last().map(|last| last.key.clone());
                    return Ok(WatchedAnswer { certificates, next });
                }
            }
        }
        drop(tx);
        if let Some(failed) = refused {
            self.explain(&failed).await;
        }
        Ok(WatchedAnswer {
            certificates,
            next: None,
        })
    }

    /// What there is to watch of a key of `service`.
    async fn watch(
        &self,
        tx: &mut Tx,
        service: &str,
        key: KeyRecord,
    ) -> Result<Option<WatchedCertificate>, Failed> {
        let (Some(certificate), Some(issuer)) = (key.chain.first().cloned(), self.issuer_of(&key))
        else {
            return Ok(None);
        };
        if key.service != service {
            return Ok(None);
        }
        Ok(Some(WatchedCertificate {
            held: self.holder(tx, &key).await?.is_some(),
            chain: vec![certificate, issuer],
            key: key.key,
        }))
    }

    /// Heeds what a CA published about the certificate of a key. That nothing is wrong with it lifts a hold that came this way, and
    /// no other stop.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn revocation(
        &self,
        service: &str,
        request: RevocationRequest,
    ) -> Result<Empty, Refusal> {
        let key = request.key.clone();
        match self.try_revocation(service, request).await {
            Ok(()) => Ok(Empty {}),
            Err(failed) => {
                let reason = self.explain(&failed).await;
                self.record(Event::RevocationRefused {
                    key,
                    reason: audit::reason(&reason),
                })
                .await;
                Err(reason.to_ssa())
            }
        }
    }

    async fn try_revocation(
        &self,
        service: &str,
        request: RevocationRequest,
    ) -> Result<(), Failed> {
        let now = self.clock.now();
        let mut tx = self.store.read("revocation-read").await?;
        let row = self.key_of_service(&mut tx, service, &request.key).await?;
        drop(tx);
        let issuer = self.issuer_of(&row.body).ok_or(Reason::NotFound)?;
        let chain: Vec<Vec<u8>> = row.body.chain.iter().map(|c| c.0.clone()).collect();
        let (issuers, published) = (self.config.issuers.clone(), request.published.clone());
        let said = self
            .blocking(move || judge(&chain, &issuers, &published, now))
            .await?;
        let leaf = row.body.chain.first().cloned().ok_or(Reason::NotFound)?;
        let evidence = proven(leaf, issuer.clone(), &request.published, now);
        let evidence = evidence.bytes()?;
        let digest = sha256(&[&evidence]);
        let done: Result<(), Failed> = transaction!(self.store, "revocation", |tx| {
            let row = self.key_of_service(tx, service, &request.key).await?;
            self.heed(tx, &row, (said, &issuer), (digest, &evidence))
                .await
        });
        done?;
        self.finish_soon();
        Ok(())
    }

    async fn heed(
        &self,
        tx: &mut Tx,
        row: &Row<KeyRecord>,
        (said, issuer): (Said, &B64),
        (digest, evidence): (Digest32, &[u8]),
    ) -> Result<(), Failed> {
        let now = self.clock.now();
        let held = row.body.life.stopped_for(StopCause::Hold).is_some();
        let nothing_new = match said.effect {
            // An authority's hold stays the authority's.
            NoticeEffect::Hold => held,
            NoticeEffect::Released => self.holder(tx, &row.body).await?.is_none(),
            NoticeEffect::Revoked => false,
        };
        if nothing_new {
            return Ok(());
        }
        let notice = RevocationNotice {
            sam: self.config.sam.clone(),
            tenant: self.config.tenant.clone(),
            key: row.body.key.clone(),
            cert: row.body.certificate(),
            effect: said.effect,
            iat: said.as_of,
        };
        let Some(life) = row.body.life.noticed(&notice, digest, now)? else {
            return Ok(());
        };
        let next = row.body.with_life(life);
        rows::save(tx, &self.sealer, row, &next).await?;
        let (happened, effect) = match said.effect {
            NoticeEffect::Revoked => (Happened::Destroyed, "revoked"),
            NoticeEffect::Hold => (Happened::Suspended, "hold"),
            NoticeEffect::Released if next.life.state == KeyState::Suspended => {
                (Happened::Suspended, "released")
            }
            NoticeEffect::Released => (Happened::Resumed, "released"),
        };
        let note = HistoryEntry {
            act: Some(digest),
            ..key_note(&next, happened, now)
        };
        self.note(tx, &next.owner, vec![note]).await?;
        self.put_evidence(tx, digest, evidence).await?;
        let mut events = vec![Event::RevocationHeeded {
            authority: sha256(&[&issuer.0]),
            key: next.key.clone(),
            owner: next.owner.clone(),
            effect: effect.into(),
            evidence: digest,
        }];
        if said.effect != NoticeEffect::Released {
            events.push(key_event(&next, digest));
        }
        Ok(self.audit.append_all(tx, &events, now).await.map(drop)?)
    }

    fn issuer_of(&self, key: &KeyRecord) -> Option<B64> {
        let chain: Vec<Vec<u8>> = key.chain.iter().map(|c| c.0.clone()).collect();
        issuer(&chain, &self.config.issuers).map(|der| B64(der.to_vec()))
    }

    async fn key_of_service(
        &self,
        tx: &mut Tx,
        service: &str,
        key: &KeyId,
    ) -> Result<Row<KeyRecord>, Failed> {
        let row = rows::get::<KeyRecord>(tx, &self.sealer, key.as_str()).await?;
        let row = row.filter(|k| k.body.service == service && !k.body.chain.is_empty());
        Ok(row.ok_or(Reason::NotFound)?)
    }

    /// The evidence by which the key's CA holds it: what was published, not an authority's notice, which only that authority takes
    /// back.
    async fn holder(&self, tx: &mut Tx, key: &KeyRecord) -> Result<Option<Digest32>, Failed> {
        let hold = key.life.stopped_for(StopCause::Hold);
        let Some(by) = hold.and_then(|stop| stop.by) else {
            return Ok(None);
        };
        let select = sql("SELECT body FROM evidence WHERE id = $1").bind(by.to_string());
        let Some(row) = tx.fetch_optional(select).await? else {
            return Ok(None);
        };
        let body = row.blob("body")?;
        let is = sha256(&[&body]) == by
            && matches!(serde_json::from_slice(&body), Ok(Evidence::Revocation(_)));
        Ok(is.then_some(by))
    }
}

fn proven(certificate: B64, issuer: B64, published: &Published, at: UnixTime) -> Evidence {
    let (Published::Crl(der) | Published::Ocsp(der)) = published;
    Evidence::Revocation(Box::new(Revocation {
        certificate,
        issuer,
        digest: sha256(&[&der.0]),
        published: Some(der.clone()).filter(|der| der.0.len() <= Revocation::LONGEST),
        at,
        software: env!("CARGO_PKG_VERSION").to_owned(),
    }))
}
