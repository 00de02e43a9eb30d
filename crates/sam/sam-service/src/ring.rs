//! `K_act` and `K_seal`: made by the SAM, vouched for by the CM's root, sealed in the store, shared by all nodes,
//! changed daily (`sap.md` §3). The module takes new ones only with the word of an act key before them, so that the newest set stays in
//! the store until another one follows, and a set that the module may have taken is there before it is asked.

use std::sync::{Arc, PoisonError, RwLock};

use cm_api::CryptoModule;
use cm_api::rpc::{Statement, StatementRequest};
use core_types::{Digest32, UnixTime};
use jose::{SealKey, SigningKey};
use sam_core::Reason;
use sap::{SamKeys, TYP_ACT};
use store_kit::{sql, transaction};

use crate::failed::{Failed, readable};
use crate::records::RingRecord;
use crate::rows::{self, Noun as _};
use crate::sam::Sam;

/// Seconds after which a new set is made.
const TURN: i64 = 24 * 3600;
/// Life of a statement: the longest allowed.
const LIFE: i64 = sam_keys::MAX_STATEMENT_LIFE;
/// A new statement is valid from a little earlier, for clocks that differ.
const EARLIER: i64 = 60;
/// Where keys lie that have no statement yet.
const DRAFT: &str = "next";
/// How many of the last sets vouch for the next one: the module may come from a backup that knows fewer.
const ENDORSING: usize = 4;

/// An open set of keys.
pub(crate) struct Ring {
    slot: String,
    pub(crate) act: SigningKey,
    kid: String,
    seal: SealKey,
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

    fn put(&self, ring: Arc<Ring>, now: UnixTime) {
        let mut rings = self.0.write().unwrap_or_else(PoisonError::into_inner);
        rings.retain(|r| now < r.exp && r.slot != ring.slot);
        rings.push(ring);
    }

    /// Forgets the keys whose statements are over.
    pub(crate) fn forget(&self, now: UnixTime) {
        let mut rings = self.0.write().unwrap_or_else(PoisonError::into_inner);
        rings.retain(|r| now < r.exp);
    }
}

fn slot(epoch: Digest32, turn: i64) -> String {
    format!("{epoch}.{turn}")
}

impl<C: CryptoModule> Sam<C> {
    /// The keys of today for this epoch; made when they aren't there yet.
    pub(crate) async fn ring(&self, epoch: Digest32, now: UnixTime) -> Result<Arc<Ring>, Failed> {
        let slot = slot(epoch, now.0.div_euclid(TURN));
        if let Some(ring) = self.stored_ring(&slot, now).await? {
            return Ok(ring);
        }
        let record = self.make_ring(&slot, epoch, now).await?;
        let ring = Arc::new(open(slot, &record)?);
        self.rings.put(ring.clone(), now);
        Ok(ring)
    }

    /// All keys of this epoch whose statements hold: those of today first, then those that a page may have used a
    /// moment ago.
    pub(crate) async fn live_rings(
        &self,
        epoch: Digest32,
        now: UnixTime,
    ) -> Result<Vec<Arc<Ring>>, Failed> {
        let mut live = vec![self.ring(epoch, now).await?];
        let today = now.0.div_euclid(TURN);
        for turn in (today - LIFE.div_euclid(TURN)..today).rev() {
            let ring = self.stored_ring(&slot(epoch, turn), now).await?;
            live.extend(ring.filter(|r| now < r.exp));
        }
        Ok(live)
    }

    /// The statement that vouches for the key by which this act was signed, which may be yesterday's.
    pub(crate) async fn statement_of(
        &self,
        epoch: Digest32,
        now: UnixTime,
        act: &str,
    ) -> Result<String, Failed> {
        let ring = self.ring(epoch, now).await?;
        if ring.signed(act, TYP_ACT) {
            return Ok(ring.statement.clone());
        }
        let rings = self.live_rings(epoch, now).await?;
        let ring = rings.iter().find(|r| r.signed(act, TYP_ACT));
        Ok(ring.ok_or(Reason::NotNow)?.statement.clone())
    }

    async fn stored_ring(&self, slot: &str, now: UnixTime) -> Result<Option<Arc<Ring>>, Failed> {
        if let Some(ring) = self.rings.get(slot) {
            return Ok(Some(ring));
        }
        let mut tx = self.store.read("ring").await?;
        let stored = rows::get::<RingRecord>(&mut tx, &self.house, slot).await?;
        drop(tx);
        let Some(row) = stored else {
            return Ok(None);
        };
        let ring = Arc::new(open(row.id, &row.body)?);
        self.rings.put(ring.clone(), now);
        Ok(Some(ring))
    }

    async fn make_ring(
        &self,
        slot: &str,
        epoch: Digest32,
        now: UnixTime,
    ) -> Result<RingRecord, Failed> {
        let draft = self.draft(now).await?;
        let next = open(DRAFT.to_owned(), &draft)?;
        let nbf = now.plus(-EARLIER);
        let mut request = StatementRequest {
            sam: self.config.sam.clone(),
            epoch,
            act: next.act.public().clone(),
            seal: next.seal.public().clone(),
            nbf,
            exp: nbf.plus(LIFE),
            endorsements: Vec::new(),
        };
        for earlier in self.last_rings().await? {
            request.endorse(&earlier.act).map_err(|_| Reason::NotNow)?;
        }
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
            statement: answer.statement,
            exp: nbf.plus(LIFE),
            ..draft
        };
        transaction!(self.store, "ring-make", |tx| {
            if let Some(draft) = rows::get::<RingRecord>(tx, &self.house, DRAFT).await? {
                let delete = sql(RingRecord::DELETE).bind(&draft.id);
                tx.cas(delete.bind(draft.version)).await?;
            }
            if rows::insert(tx, &self.house, slot, &record).await? {
                return Ok(record.clone());
            }
            // Another node was faster: its keys are everybody's.
            let stored = rows::get::<RingRecord>(tx, &self.house, slot).await?;
            Ok::<_, Failed>(stored.ok_or(Reason::NotNow)?.body)
        })
    }
}

impl<C: CryptoModule> Sam<C> {
    /// Keys for the next set: those that are there from a try that came to nothing, or new ones.
    async fn draft(&self, now: UnixTime) -> Result<RingRecord, Failed> {
        let (_, act) = SigningKey::generate().map_err(|_| Reason::NotNow)?;
        let (_, seal) = SealKey::generate().map_err(|_| Reason::NotNow)?;
        let fresh = RingRecord {
            act,
            seal,
            statement: String::new(),
            exp: now.plus(LIFE),
        };
        transaction!(self.store, "ring-draft", |tx| {
            if let Some(draft) = rows::get::<RingRecord>(tx, &self.house, DRAFT).await? {
                return Ok(draft.body);
            }
            if rows::insert(tx, &self.house, DRAFT, &fresh).await? {
                return Ok(fresh.clone());
            }
            // Another node was faster.
            let stored = rows::get::<RingRecord>(tx, &self.house, DRAFT).await?;
            Ok::<_, Failed>(stored.ok_or(Reason::NotNow)?.body)
        })
    }

    /// The last sets, the newest first, also those whose statements are over.
    async fn last_rings(&self) -> Result<Vec<Ring>, Failed> {
        let mut tx = self.store.read("rings").await?;
        let ids = rows::ids::<RingRecord>(&mut tx).await?;
        let mut rings = Vec::new();
        for id in ids.into_iter().rev().filter(|id| id != DRAFT) {
            // One that is refused vouches for nothing, and stands in no other's way.
            let row = rows::get::<RingRecord>(&mut tx, &self.house, &id).await;
            if let Some(row) = readable(row)?.flatten() {
                rings.push(open(row.id, &row.body)?);
            }
            if rings.len() == ENDORSING {
                break;
            }
        }
        Ok(rings)
    }
}

impl Ring {
    /// The key that opens sealed secrets.
    pub(crate) fn seal(&self) -> &SealKey {
        &self.seal
    }

    /// Whether this set's key made the signature, by its name.
    pub(crate) fn signed(&self, jws: &str, typ: &str) -> bool {
        jose::kid_of(jws, typ).is_ok_and(|kid| kid == self.kid)
    }
}

fn open(slot: String, record: &RingRecord) -> Result<Ring, Failed> {
    let bad = || Failed::Tampered("keyring");
    let act = SigningKey::from_pkcs8(&record.act).map_err(|_| bad())?;
    Ok(Ring {
        slot,
        kid: act.public().kid(),
        act,
        seal: SealKey::from_private(&record.seal).map_err(|_| bad())?,
        statement: record.statement.clone(),
        exp: record.exp,
    })
}
