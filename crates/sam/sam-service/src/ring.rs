//! `K_act` and `K_seal`: made by the SAM, vouched for by the CM's root, sealed in the store, shared by all nodes,
//! changed daily (`sap.md` §3).

use std::sync::{Arc, PoisonError, RwLock};

use cm_api::CryptoModule;
use cm_api::rpc::{Statement, StatementRequest};
use core_types::{Digest32, UnixTime};
use jose::{SealKey, SigningKey};
use sam_core::Reason;
use sap::SamKeys;
use store_kit::transaction;

use crate::failed::Failed;
use crate::records::RingRecord;
use crate::rows;
use crate::sam::Sam;

/// Seconds after which a new set is made.
const TURN: i64 = 24 * 3600;
/// Life of a statement: the longest allowed.
const LIFE: i64 = sam_keys::MAX_STATEMENT_LIFE;
/// A new statement is valid from a little earlier, for clocks that differ.
const EARLIER: i64 = 60;

/// An open set of keys.
pub(crate) struct Ring {
    slot: String,
    pub(crate) act: SigningKey,
    seal: Option<SealKey>,
    pub(crate) statement: String,
    exp: UnixTime,
}

/// Sets that were opened, newest last.
#[derive(Default)]
pub(crate) struct Rings(RwLock<Vec<Arc<Ring>>>);

impl Rings {
    fn get(&self, slot: &str) -> Option<Arc<Ring>> {
        let rings = self.0.read().unwrap_or_else(PoisonError::into_inner);
        rings.iter().find(|r| r.slot == slot).cloned()
    }

    fn live(&self, now: UnixTime) -> Vec<Arc<Ring>> {
        let rings = self.0.read().unwrap_or_else(PoisonError::into_inner);
        rings.iter().filter(|r| now < r.exp).cloned().collect()
    }

    fn put(&self, ring: Arc<Ring>, now: UnixTime) {
        let mut rings = self.0.write().unwrap_or_else(PoisonError::into_inner);
        rings.retain(|r| now < r.exp && r.slot != ring.slot);
        rings.push(ring);
    }
}

impl<C: CryptoModule> Sam<C> {
    /// The keys of today for this epoch; made when they aren't there yet.
    pub(crate) async fn ring(&self, epoch: Digest32, now: UnixTime) -> Result<Arc<Ring>, Failed> {
        let slot = format!("{epoch}.{}", now.0.div_euclid(TURN));
        if let Some(ring) = self.rings.get(&slot) {
            return Ok(ring);
        }
        let mut tx = self.store.read("ring").await?;
        let stored = rows::get::<RingRecord>(&mut tx, &self.sealer, &slot).await?;
        drop(tx);
        let record = match stored {
            Some(row) => row.body,
            None => self.make_ring(&slot, epoch, now).await?,
        };
        let ring = Arc::new(open(slot, &record)?);
        self.rings.put(ring.clone(), now);
        Ok(ring)
    }

    /// All keys with which something sealed may still be opened.
    pub(crate) async fn live_rings(
        &self,
        epoch: Digest32,
        now: UnixTime,
    ) -> Result<Vec<Arc<Ring>>, Failed> {
        self.ring(epoch, now).await?;
        if self.rings.live(now).len() < 2 {
            // After a start: those of yesterday, which a page may have used a moment ago.
            let mut tx = self.store.read("rings").await?;
            let stored = rows::by_link::<RingRecord>(&mut tx, &self.sealer, "ring").await?;
            for row in stored {
                if now < row.body.exp
                    && row.body.seal.is_some()
                    && self.rings.get(&row.id).is_none()
                {
                    self.rings.put(Arc::new(open(row.id, &row.body)?), now);
                }
            }
        }
        Ok(self.rings.live(now))
    }

    async fn make_ring(
        &self,
        slot: &str,
        epoch: Digest32,
        now: UnixTime,
    ) -> Result<RingRecord, Failed> {
        let (act, act_secret) = SigningKey::generate().map_err(|_| Reason::NotNow)?;
        let (seal, seal_secret) = SealKey::generate().map_err(|_| Reason::NotNow)?;
        let nbf = now.plus(-EARLIER);
        let request = StatementRequest {
            sam: self.config.sam.clone(),
            epoch,
            act: act.public().clone(),
            seal: seal.public().clone(),
            nbf,
            exp: nbf.plus(LIFE),
        };
        let answer = self
            .module
            .call::<Statement>(&request)
            .await
            .map_err(|error| {
                tracing::error!(%error, "the module doesn't vouch for the SAM's new keys");
                Reason::NotNow
            })?;
        let expected = SamKeys {
            sam: request.sam,
            epoch,
            act: request.act,
            seal: request.seal,
            nbf,
            exp: request.exp,
        };
        let signed = SamKeys::verify(&answer.statement, std::slice::from_ref(&self.root), now);
        if signed != Ok(expected) {
            tracing::error!("the module's statement is not what was asked for");
            return Err(Reason::NotNow.into());
        }
        let record = RingRecord {
            act: act_secret,
            seal: Some(seal_secret),
            statement: answer.statement,
            nbf,
            exp: nbf.plus(LIFE),
        };
        transaction!(self.store, "ring-make", |tx| {
            if rows::insert(tx, &self.sealer, slot, &record).await? {
                return Ok(record.clone());
            }
            // Another node was faster: its keys are everybody's.
            let stored = rows::get::<RingRecord>(tx, &self.sealer, slot).await?;
            Ok::<_, Failed>(stored.ok_or(Reason::NotNow)?.body)
        })
    }
}

impl Ring {
    /// The key that opens sealed secrets, until it is erased.
    pub(crate) fn seal(&self) -> Option<&SealKey> {
        self.seal.as_ref()
    }
}

fn open(slot: String, record: &RingRecord) -> Result<Ring, Failed> {
    let bad = || Failed::Tampered("keyring");
    let seal = record.seal.as_ref().map(SealKey::from_private).transpose();
    Ok(Ring {
        slot,
        act: SigningKey::from_pkcs8(&record.act).map_err(|_| bad())?,
        seal: seal.map_err(|_| bad())?,
        statement: record.statement.clone(),
        exp: record.exp,
    })
}
