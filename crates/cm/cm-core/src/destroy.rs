//! The end of a key: unusable with one commit, erased in the device, certified for its owner.
//!
//! What stays is a tombstone: sealed attributes and the certificate, and until the device has erased its copy the place
//! of that copy. A device that is away doesn't hold up the end of a key, only the second date of the certificate.

use std::time::Duration;

use audit_log::Event;
use cm_api::rpc::Reason;
use cm_api::{Executed, KeyDestroyed, ModuleError, OrderBody, Refusal};
use core_types::{DestroyCause, Digest32, KeyId, Random, SecretBytes, UnixTime};
use jose::SigningKey;
use sam_keys::{Destruction, TYP_DESTRUCTION};
use serde::{Deserialize, Serialize};
use store_kit::{Seen, Tx, sql, transaction};

use crate::attributes::{KeyAttributes, Purpose};
use crate::execute::on_thread;
use crate::ledger::End;
use crate::module::Module;
use crate::store::{self, Failed};
use crate::vault::Vault;

/// What stays of a key.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tombstone {
    pub(crate) attributes: KeyAttributes,
    told: Destruction,
    certificate: String,
    /// Where the device has a copy that isn't erased yet.
    remains: Option<SecretBytes>,
}

/// A tombstone's row, opened.
pub(crate) struct TombstoneRow {
    version: i64,
    body: Tombstone,
}

impl TombstoneRow {
    pub(crate) fn attributes(&self) -> &KeyAttributes {
        &self.body.attributes
    }
}

/// Tombstones that are looked at in one go.
const AT_ONCE: i64 = 100;
/// How long the values of an act wait for the erasing of the key that was for it alone.
const ERASING: Duration = Duration::from_secs(2);

impl Module {
    pub(crate) async fn destroy(
        &self,
        order: &OrderBody,
        key: &KeyId,
        version: u32,
        spki: Digest32,
        act: Digest32,
        cause: DestroyCause,
    ) -> Result<Executed, ModuleError> {
        let end = End {
            at: self.clock.now(),
            act,
            cause,
        };
        let row: Result<_, Failed> = transaction!(self.store, "cm-destroy", |tx| {
            self.take_order(tx, order, end.at).await?;
            self.bury(tx, (key, version, spki), end, Purpose::is_signers)
                .await
        });
        Ok(Executed::Destroyed(self.buried(key, row).await?))
    }

    /// Ends a key, if its purpose allows it to whoever asks. One that has ended stays as it is.
    pub(crate) async fn bury(
        &self,
        tx: &mut Tx,
        (key, version, spki): (&KeyId, u32, Digest32),
        end: End,
        may: fn(&Purpose) -> bool,
    ) -> Result<(TombstoneRow, Option<SecretBytes>), Failed> {
        let burial = self.burial();
        if let Some(row) = self.tombstone(tx, key).await? {
            let attributes = &row.body.attributes;
            if attributes.version != version || attributes.spki != spki {
                return Err(Refusal::NoSuchKey.into());
            }
            return Ok((row, None));
        }
        let row = self.key(tx, key, version, spki).await?;
        if !may(&row.attributes.purpose) {
            return Err(Refusal::NotAllowed(Reason::Purpose).into());
        }
        store::delete_key(tx, &row).await?;
        let remains = self.backend.elsewhere(&row.material);
        let End { at, act, cause } = end;
        let told = burial.told(&row.attributes, act, cause, at, remains.is_none());
        let body = Tombstone {
            certificate: burial.certify(&told)?,
            attributes: row.attributes,
            told,
            remains,
        };
        burial.bury(tx, &body).await?;
        let event = Event::KeyDestroyed {
            key: key.clone(),
            owner: body.attributes.owner.clone(),
            reason: cause.as_str().into(),
            act: Some(act),
        };
        self.audit.append(tx, event, at).await?;
        Ok((TombstoneRow { version: 1, body }, Some(row.material)))
    }

    /// After the commit of [`Self::bury`]: has the device erase its copy, and answers what is known.
    pub(crate) async fn buried(
        &self,
        key: &KeyId,
        done: Result<(TombstoneRow, Option<SecretBytes>), Failed>,
    ) -> Result<KeyDestroyed, ModuleError> {
        let (row, held) = self.ended(key, done)?;
        if held {
            self.let_go().await;
        }
        let body = self.erase(row).await;
        Ok(KeyDestroyed {
            key: body.told.key,
            unusable_since: body.told.unusable_since,
            unrecoverable_after: body.told.unrecoverable_after,
            certificate: body.certificate,
        })
    }

    /// As [`Self::buried`], for a key whose values wait to leave.
    pub(crate) async fn buried_with_its_act(
        &self,
        key: &KeyId,
        done: Result<(TombstoneRow, Option<SecretBytes>), Failed>,
    ) -> Result<(), Refusal> {
        let (row, held) = self.ended(key, done)?;
        if held {
            self.let_go_soon();
        }
        // What isn't erased by then is asked for again later (`Self::finish_destructions`).
        drop(tokio::time::timeout(ERASING, self.erase(row)).await);
        Ok(())
    }

    /// No process-wide memory knows the key any more; answers whether it ended just now, and the device may hold it.
    fn ended(
        &self,
        key: &KeyId,
        done: Result<(TombstoneRow, Option<SecretBytes>), Failed>,
    ) -> Result<(TombstoneRow, bool), Refusal> {
        let (row, material) = done.map_err(|failed| self.fail(failed))?;
        self.seen.note(key.as_str(), Seen::NEVER);
        if let Some(material) = &material {
            self.cache.forget(material);
        }
        Ok((row, material.is_some()))
    }

    /// Erases in the device what couldn't be erased when its key was destroyed. To be called again and again.
    ///
    /// # Errors
    /// [`Refusal::NotOperational`] when the store can't be read or the module is out of service.
    pub async fn finish_destructions(&self) -> Result<(), Refusal> {
        self.operational()?;
        let rows = async {
            let mut tx = self.store.read("cm-tombstones").await?;
            let query = sql("SELECT id FROM cm_tombstone WHERE pending = 1 ORDER BY id LIMIT $1");
            let mut rows = Vec::new();
            for row in tx.fetch_all(query.bind(AT_ONCE)).await? {
                let key = KeyId::parse(row.text("id")?).map_err(|_| Failed::Tampered)?;
                rows.extend(self.tombstone(&mut tx, &key).await?);
            }
            Ok::<_, Failed>(rows)
        };
        for row in rows.await.map_err(|failed| self.fail(failed))? {
            if self.erase(row).await.remains.is_some() {
                // The device is still away: no use in asking for the others.
                break;
            }
        }
        Ok(())
    }

    /// Has the device erase its copy, if it has one, and certifies that. Answers what is known in the end.
    async fn erase(&self, row: TombstoneRow) -> Tombstone {
        let Some(place) = row.body.remains.clone() else {
            return row.body;
        };
        let backend = self.backend.clone();
        match on_thread(move || backend.erase(&place)).await {
            Ok(()) => self.well(),
            Err(fault) => {
                tracing::warn!(%fault, "the device couldn't erase a destroyed key; it is asked again");
                self.note(&fault).await;
                return row.body;
            }
        }
        let (now, burial) = (self.clock.now(), self.burial());
        let (attributes, told) = (&row.body.attributes, &row.body.told);
        let told = Destruction {
            erased: Some(now),
            ..burial.told(attributes, told.act, told.cause, told.unusable_since, false)
        };
        let told = Destruction {
            unrecoverable_after: Some(burial.copies_gone(now)),
            ..told
        };
        let done: Result<_, Failed> = transaction!(self.store, "cm-erased", |tx| {
            let body = Tombstone {
                certificate: burial.certify(&told)?,
                told: told.clone(),
                remains: None,
                ..row.body.clone()
            };
            burial.rebury(tx, row.version, &body).await?;
            let event = Event::KeyErased {
                key: body.told.key.clone(),
                owner: body.told.owner.clone(),
            };
            self.audit.append(tx, event, now).await?;
            Ok::<_, Failed>(body)
        });
        match done {
            Ok(body) => body,
            Err(failed) => {
                tracing::warn!(?failed, "that a key was erased is recorded next time");
                row.body
            }
        }
    }

    fn burial(&self) -> Burial<'_> {
        Burial {
            sam: &self.config.sam,
            root: &self.root,
            vault: &self.vault,
            random: self.random.as_ref(),
            copies_kept_days: self.config.copies_kept_days,
        }
    }

    /// The tombstone of a key, if it is destroyed.
    pub(crate) async fn tombstone(
        &self,
        tx: &mut Tx,
        key: &KeyId,
    ) -> Result<Option<TombstoneRow>, Failed> {
        let query = sql("SELECT version, sealed FROM cm_tombstone WHERE id = $1");
        let Some(row) = tx.fetch_optional(query.bind(key.as_str())).await? else {
            return Ok(None);
        };
        let version = row.int("version")?;
        let body = open(&self.vault, key, version, &row.blob("sealed")?)?;
        Ok(Some(TombstoneRow { version, body }))
    }
}

/// Opens what was sealed as the tombstone of this key.
pub(crate) fn open(
    vault: &Vault,
    key: &KeyId,
    version: i64,
    sealed: &[u8],
) -> Result<Tombstone, Failed> {
    let opened = vault.open(sealed, &place(key, version));
    let opened = opened.map_err(|_| Failed::Tampered)?;
    serde_json::from_slice(opened.expose()).map_err(|_| Failed::Tampered)
}

/// What writing a tombstone takes: the running module's, or a restore's.
pub(crate) struct Burial<'m> {
    pub(crate) sam: &'m str,
    pub(crate) root: &'m SigningKey,
    pub(crate) vault: &'m Vault,
    pub(crate) random: &'m dyn Random,
    pub(crate) copies_kept_days: u32,
}

impl Burial<'_> {
    /// The tombstone of a key that was destroyed while a backup still had it. Its copy in the device is erased, though it
    /// may have been before: the device may have been restored as well.
    pub(crate) async fn again(
        &self,
        tx: &mut Tx,
        attributes: KeyAttributes,
        end: End,
        remains: Option<SecretBytes>,
        now: UnixTime,
    ) -> Result<(), Failed> {
        let told = self.told(&attributes, end.act, end.cause, end.at, false);
        let told = Destruction {
            // The copy that was restored counts, too.
            unrecoverable_after: remains.is_none().then(|| self.copies_gone(now)),
            ..told
        };
        let body = Tombstone {
            certificate: self.certify(&told)?,
            attributes,
            told,
            remains,
        };
        self.bury(tx, &body).await
    }

    fn told(
        &self,
        attributes: &KeyAttributes,
        act: Digest32,
        cause: DestroyCause,
        now: UnixTime,
        only_here: bool,
    ) -> Destruction {
        Destruction {
            sam: self.sam.to_owned(),
            key: attributes.key.clone(),
            spki: attributes.spki,
            owner: attributes.owner.clone(),
            act,
            cause,
            signatures: attributes.used.signatures,
            unusable_since: now,
            erased: None,
            unrecoverable_after: only_here.then(|| self.copies_gone(now)),
        }
    }

    /// When no copy made until `now` is kept any more, as the operator declares.
    fn copies_gone(&self, now: UnixTime) -> UnixTime {
        now.plus(i64::from(self.copies_kept_days) * 86_400)
    }

    fn certify(&self, told: &Destruction) -> Result<String, Failed> {
        let payload = serde_json::to_vec(told).map_err(|_| Refusal::Malformed)?;
        let signed = self.root.sign(TYP_DESTRUCTION, &payload);
        Ok(signed.map_err(|_| Refusal::NotOperational)?)
    }

    async fn bury(&self, tx: &mut Tx, body: &Tombstone) -> Result<(), Failed> {
        let query =
            "INSERT INTO cm_tombstone (id, version, pending, sealed) VALUES ($1, 1, $2, $3)";
        let query = sql(query)
            .bind(body.told.key.as_str())
            .bind(i64::from(body.remains.is_some()))
            .bind(self.sealed(body, 1)?);
        tx.execute(query).await?;
        Ok(())
    }

    async fn rebury(&self, tx: &mut Tx, version: i64, body: &Tombstone) -> Result<(), Failed> {
        let query = "UPDATE cm_tombstone SET version = $1, pending = $2, sealed = $3 WHERE id = $4 AND version = $5";
        let query = sql(query)
            .bind(version + 1)
            .bind(i64::from(body.remains.is_some()))
            .bind(self.sealed(body, version + 1)?)
            .bind(body.told.key.as_str())
            .bind(version);
        // Otherwise another node has recorded it meanwhile.
        if tx.execute(query).await? == 1 {
            Ok(())
        } else {
            Err(Refusal::Duplicate.into())
        }
    }

    fn sealed(&self, body: &Tombstone, version: i64) -> Result<Vec<u8>, Failed> {
        let json = serde_json::to_vec(body).map_err(|_| Failed::Tampered)?;
        let place = place(&body.told.key, version);
        let sealed = self
            .vault
            .seal(&SecretBytes::new(json), &place, self.random);
        sealed.map_err(|_| Failed::Tampered)
    }
}

fn place(key: &KeyId, version: i64) -> Vec<u8> {
    format!("natsuin-cm-tombstone-v1\n{key}\n{version}").into_bytes()
}
