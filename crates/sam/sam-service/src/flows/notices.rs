//! Notices to signers (`sap.md` §9): what happens to keys and factors is noted in the person's record, and put on its way by mail in
//! the same transaction, to the address that a registration authority gave. The SSA is not on this way and can't hold anything
//! back; and nothing waits for it, a stop least of all.

use audit_log::Event;
use cm_api::CryptoModule;
use core_types::{Digest32, KeyId, PersonId, UnixTime};
use sam_api::delivery::TellRequest;
use sam_api::ssa::{Happened, HistoryEntry, KeyState};
use sam_core::Reason;
use sam_core::enrol::Voucher;
use sam_core::told::{About, Notice, is_news, is_stop, remind_at};
use sap::enrol::{InvitedBy, NoticeAddress};
use store_kit::{StoreError, Tx, sql, transaction};

use super::change::key_note;
use crate::courier::Undelivered;
use crate::failed::Failed;
use crate::records::{KeyRecord, PersonRecord};
use crate::rows::{self, Noun as _, Row};
use crate::sam::Sam;
use crate::sealer;

/// Notices sent in one go.
const AT_ONCE: i64 = 50;
/// Those of a tenant that isn't there are looked at again after so many seconds.
const PUT_OFF: i64 = 24 * 3600;

/// A notice as it is to be sent.
struct Letter {
    row: Row<Notice>,
    request: TellRequest,
}

impl<C: CryptoModule> Sam<C> {
    /// Notes what happened for the person to see, and tells them. A stop waits for nothing: where the person's row is refused or
    /// gone, it stands without its note, with an alarm in the same transaction. Whatever else happens fails with the row. Whether
    /// it was noted.
    pub(crate) async fn note(
        &self,
        tx: &mut Tx,
        person: &PersonId,
        entries: Vec<HistoryEntry>,
    ) -> Result<bool, Failed> {
        let read = rows::get::<PersonRecord>(tx, &self.sealer, person.as_str()).await;
        let alarm = match &read {
            Ok(Some(_)) => None,
            Ok(None) => Some("sealed-row-missing"),
            Err(failed) => failed.alarm(),
        };
        if let Some(what) = alarm.filter(|_| entries.iter().all(is_stop)) {
            tracing::error!(what, "a key is stopped, and its owner can't be told");
            let event = Event::Alarm { what: what.into() };
            let noted = self.audit.append(tx, event, self.clock.now());
            return Ok(noted.await.map(|_| false)?);
        }
        let row = read?.ok_or(Reason::NotFound)?;
        let mut next = row.body.clone();
        self.tell(tx, &mut next, entries).await?;
        rows::save(tx, &self.sealer, &row, &next).await?;
        Ok(true)
    }

    /// The same in a record that the caller saves.
    pub(crate) async fn tell(
        &self,
        tx: &mut Tx,
        person: &mut PersonRecord,
        entries: Vec<HistoryEntry>,
    ) -> Result<(), Failed> {
        if let Some(to) = person.notices.clone() {
            self.put_notice(tx, &person.id, to, &entries).await?;
        }
        entries.into_iter().for_each(|entry| person.note(entry));
        Ok(())
    }

    /// As [`Self::tell`], of an enrolment: an authority's invitation may name another address. The earlier one is told, too.
    pub(crate) async fn tell_enrolled(
        &self,
        tx: &mut Tx,
        person: &mut PersonRecord,
        voucher: &Voucher,
        entries: Vec<HistoryEntry>,
    ) -> Result<(), Failed> {
        let named = voucher.invite.notices.clone();
        let named = named.filter(|_| voucher.by == InvitedBy::Ra);
        if let Some(to) = named.filter(|to| person.notices.as_ref() != Some(to)) {
            self.put_notice(tx, &person.id, to.clone(), &entries)
                .await?;
            self.tell(tx, person, entries).await?;
            person.notices = Some(to);
            return Ok(());
        }
        self.tell(tx, person, entries).await
    }

    async fn put_notice(
        &self,
        tx: &mut Tx,
        person: &PersonId,
        to: NoticeAddress,
        entries: &[HistoryEntry],
    ) -> Result<(), Failed> {
        let news: Vec<_> = entries.iter().filter(|e| is_news(e)).cloned().collect();
        if news.is_empty() {
            return Ok(());
        }
        let notice = Notice::news(person.clone(), to, news, self.clock.now());
        self.insert_notice(tx, &notice).await
    }

    /// Has the owner of a key told in time that its certificate ends.
    pub(crate) async fn remind_later(
        &self,
        tx: &mut Tx,
        key: &KeyRecord,
        until: UnixTime,
        now: UnixTime,
    ) -> Result<(), Failed> {
        let lead = self.config.notice_before_end;
        match remind_at(now, until, lead).filter(|_| !key.one_time) {
            Some(at) => {
                let notice = Notice::ending(key.owner.clone(), key.key.clone(), at);
                self.insert_notice(tx, &notice).await
            }
            None => Ok(()),
        }
    }

    async fn insert_notice(&self, tx: &mut Tx, notice: &Notice) -> Result<(), Failed> {
        let id = self.random.digest32().to_string();
        match rows::insert(tx, &self.sealer, &id, notice).await? {
            true => Ok(()),
            false => Err(Failed::Changed),
        }
    }

    /// Sends the notices to signers that are due, of all tenants. Safe at any time on any node; the composition root calls it every few seconds.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn send_notices(&self) -> Result<(), StoreError> {
        let select = sql("SELECT id, sealed FROM notice WHERE stamp <= $1 ORDER BY stamp LIMIT $2");
        let mut tx = self.store.read("notices-due").await?;
        let now = self.clock.now();
        let due = tx.fetch_all(select.bind(now.0).bind(AT_ONCE)).await?;
        drop(tx);
        for row in due {
            let id = row.text("id")?;
            let sent = match sealer::whose(&row.blob("sealed")?) {
                Ok(whose) => match self.of_row(whose.as_ref()) {
                    Some(tenant) => tenant.send_or_put_off(&id).await,
                    // Of a tenant that was stopped: its rows stay closed, and out of the way of others.
                    None => Ok(self.put_off(&id, now.plus(PUT_OFF)).await?),
                },
                Err(_) => Err(Failed::Tampered(Notice::TABLE)),
            };
            if matches!(sent, Err(Failed::Tampered(Notice::TABLE))) {
                // Alarmed below, once: it can't be read now or later.
                let gone: Result<u64, StoreError> = transaction!(self.store, "notice-bad", |tx| {
                    tx.execute(sql("DELETE FROM notice WHERE id = $1").bind(&id))
                        .await
                });
                gone?;
            }
            self.survive(sent).await?;
        }
        Ok(())
    }

    async fn put_off(&self, id: &str, until: UnixTime) -> Result<(), StoreError> {
        let update = || sql("UPDATE notice SET stamp = $1 WHERE id = $2");
        let done: Result<u64, StoreError> = transaction!(self.store, "notice-put-off", |tx| {
            tx.execute(update().bind(until.0).bind(id)).await
        });
        done.map(drop)
    }

    /// What can't be told now, because a row that it needs is refused or gone, goes out of the way of others.
    async fn send_or_put_off(&self, id: &str) -> Result<(), Failed> {
        match self.send_notice(id).await {
            done @ (Ok(()) | Err(Failed::Store(_) | Failed::Tampered(Notice::TABLE))) => done,
            Err(failed) => {
                tracing::warn!(%failed, "a notice to a signer can't be made");
                self.try_later(id).await
            }
        }
    }

    /// With growing pauses; in the end it is given up, and that is an alarm.
    async fn try_later(&self, id: &str) -> Result<(), Failed> {
        transaction!(self.store, "notice-later", |tx| {
            let now = self.clock.now();
            let Some(row) = rows::get::<Notice>(tx, &self.sealer, id).await? else {
                return Ok(());
            };
            if let Some(next) = row.body.failed(now) {
                return rows::save(tx, &self.sealer, &row, &next).await;
            }
            self.delete_notice(tx, &row).await?;
            let notice = Digest32::parse(id).map_err(|_| Failed::Tampered(Notice::TABLE))?;
            let events = [
                Event::SignerNotTold {
                    person: row.body.person,
                    notice,
                    reason: "given-up".into(),
                },
                Event::Alarm {
                    what: "notice-given-up".into(),
                },
            ];
            self.audit.append_all(tx, &events, now).await?;
            Ok::<_, Failed>(())
        })
    }

    async fn send_notice(&self, id: &str) -> Result<(), Failed> {
        let Some(letter) = self.take_notice(id).await? else {
            return Ok(());
        };
        let done = match self.courier.get().cloned() {
            Some(courier) => courier.tell(&letter.request).await,
            None => Err(Undelivered::Never),
        };
        let has_courier = self.courier.get().is_some();
        transaction!(self.store, "notice-sent", |tx| {
            let now = self.clock.now();
            let (person, notice) = (letter.row.body.person.clone(), letter.request.notice);
            let again = match done {
                Err(Undelivered::Later) => letter.row.body.failed(now),
                Ok(()) | Err(Undelivered::Never) => None,
            };
            let event = match done {
                Ok(()) => Event::SignerTold {
                    person,
                    notice,
                    entries: u32::try_from(letter.request.entries.len()).unwrap_or(u32::MAX),
                },
                Err(why) => Event::SignerNotTold {
                    person,
                    notice,
                    reason: match (why, &again) {
                        _ if !has_courier => "no-courier",
                        (Undelivered::Never, _) => "refused",
                        (Undelivered::Later, Some(_)) => "not-now",
                        (Undelivered::Later, None) => "given-up",
                    }
                    .into(),
                },
            };
            // Who took it after a while that this node slept through has it now.
            let mine = rows::get::<Notice>(tx, &self.sealer, id).await?;
            let mine = mine.filter(|row| row.version == letter.row.version);
            match (&mine, &again) {
                (Some(row), Some(next)) => rows::save(tx, &self.sealer, row, next).await?,
                (Some(row), None) => self.delete_notice(tx, row).await?,
                (None, _) => {}
            }
            // Without a courier each would alarm; that there is none stands on the officers' page.
            let lost = done.is_err() && again.is_none() && has_courier;
            let what = "notice-given-up".into();
            let alarm = lost.then_some(Event::Alarm { what });
            let events: Vec<_> = [event].into_iter().chain(alarm).collect();
            self.audit.append_all(tx, &events, now).await?;
            Ok::<_, Failed>(())
        })
    }

    /// Takes a notice, so that no other node sends it meanwhile. One about the end of a certificate becomes news first.
    async fn take_notice(&self, id: &str) -> Result<Option<Letter>, Failed> {
        transaction!(self.store, "notice-take", |tx| {
            let now = self.clock.now();
            let row = rows::get::<Notice>(tx, &self.sealer, id).await?;
            let Some(row) = row.filter(|row| row.body.is_due(now)) else {
                return Ok(None);
            };
            let (to, entries) = match &row.body.about {
                About::News { to, entries } => (to.clone(), entries.clone()),
                About::Ending { key } => {
                    self.remind_owner(tx, key, now).await?;
                    self.delete_notice(tx, &row).await?;
                    return Ok(None);
                }
            };
            let taken = row.body.taken(now);
            rows::save(tx, &self.sealer, &row, &taken).await?;
            let notice = Digest32::parse(id).map_err(|_| Failed::Tampered(Notice::TABLE))?;
            Ok::<_, Failed>(Some(Letter {
                row: Row {
                    version: row.version + 1,
                    body: taken,
                    id: row.id,
                },
                request: TellRequest {
                    to,
                    brand: self.config.brand.clone(),
                    notice,
                    entries,
                },
            }))
        })
    }

    /// The certificate of this key is about to end, if the key still lives.
    async fn remind_owner(&self, tx: &mut Tx, key: &KeyId, now: UnixTime) -> Result<(), Failed> {
        let row = rows::get::<KeyRecord>(tx, &self.sealer, key.as_str()).await?;
        let row = row.filter(|k| {
            let state = k.body.life.state;
            matches!(state, KeyState::Active | KeyState::Suspended)
        });
        let Some((key, until)) = row.and_then(|k| k.body.life.until.map(|until| (k.body, until)))
        else {
            return Ok(());
        };
        let entry = HistoryEntry {
            cause: None,
            ..key_note(&key, Happened::CertificateEnding, now)
        };
        self.note(tx, &key.owner, vec![entry]).await?;
        let event = Event::CertificateEnding {
            key: key.key,
            person: key.owner,
            until,
        };
        Ok(self.audit.append(tx, event, now).await.map(drop)?)
    }

    async fn delete_notice(&self, tx: &mut Tx, row: &Row<Notice>) -> Result<(), Failed> {
        let delete = sql("DELETE FROM notice WHERE id = $1 AND version = $2");
        tx.cas(delete.bind(&row.id).bind(row.version)).await?;
        Ok(())
    }
}
