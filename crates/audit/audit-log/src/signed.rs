//! Whose configuration a zone obeys that has no sealed rows: what it obeyed last is noted under the log's key and compared with the log, so
//! that a note which was taken away, altered or set back is no way round; nor is an entry that was, since the whole log is read back for it.

use aws_lc_rs::hmac;
use core_types::bytes::{b64u, from_b64u};
use core_types::{Digest32, Level, UnixTime, sha256};
use serde::{Deserialize, Serialize};
use signed_config::{Brought, SettingsRefused, Trust, check, digest_of};
use store_kit::{Store, StoreError, Tx, sql, transaction};

use crate::error::AuditError;
use crate::event::Event;
use crate::log::AuditLog;
use crate::sequencer::LogReader;

/// Type of the entry about a configuration that was obeyed.
const ADOPTED: &str = "settings.adopted";

/// Number of a configuration that was obeyed, and digest of its manifest. The last one has the highest number.
pub(crate) type Adopted = (u64, Digest32);

/// The configuration that an entry of this type says was obeyed; of other types, none.
pub(crate) fn adopted(kind: &str, body: &str) -> Option<Adopted> {
    #[derive(Deserialize)]
    struct Entry {
        detail: Detail,
    }
    #[derive(Deserialize)]
    struct Detail {
        serial: u64,
        manifest: Digest32,
    }
    if kind != ADOPTED {
        return None;
    }
    let Entry { detail } = serde_json::from_str(body).ok()?;
    Some((detail.serial, detail.manifest))
}

/// What is noted.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    trust: Trust,
    /// The file of signatures, with the reason: evidence of who agreed.
    signatures: Vec<String>,
}

impl AuditLog {
    /// Whether the configuration `brought` by `node` of the zone `of` ([`signed_config::Zone::of`]) is obeyed, and its number; nothing
    /// where nobody has signed one so far and nobody demands it. One signature is never enough. Recorded either way. Reads the
    /// whole log back.
    ///
    /// # Errors
    /// [`AuditError`], as [`read_back`](crate::read_back) and of the store; then the service must not start. Inside, why the
    /// configuration isn't obeyed.
    pub async fn obeys(
        &self,
        store: &Store,
        whose: (&str, &str),
        demanded: bool,
        brought: &Brought,
        now: UnixTime,
    ) -> Result<Result<Option<u64>, SettingsRefused>, AuditError> {
        self.decides(store, whose, demanded, brought, (now, true))
            .await
    }

    /// The same before it has any effect: nothing is adopted yet, so that one with which nothing starts can be taken back. A refusal is
    /// recorded.
    ///
    /// # Errors
    /// As [`Self::obeys`].
    pub async fn would_obey(
        &self,
        store: &Store,
        whose: (&str, &str),
        demanded: bool,
        brought: &Brought,
        now: UnixTime,
    ) -> Result<Result<Option<u64>, SettingsRefused>, AuditError> {
        self.decides(store, whose, demanded, brought, (now, false))
            .await
    }

    async fn decides(
        &self,
        store: &Store,
        whose: (&str, &str),
        demanded: bool,
        brought: &Brought,
        (now, adopt): (UnixTime, bool),
    ) -> Result<Result<Option<u64>, SettingsRefused>, AuditError> {
        let mut last = self.last_obeyed(store).await?;
        let judged = loop {
            let judged = self.judged(store, whose, demanded, brought, (last, adopt), now);
            if let Some(judged) = judged.await? {
                break judged;
            }
            // Another node was faster, or somebody who isn't one has put an entry in.
            let newer = self.last_obeyed(store).await?;
            if newer <= last {
                break Err(SettingsRefused::Record);
            }
            last = newer;
        };
        if let Err(refused) = &judged {
            let event = Event::SettingsRefused {
                files: digest_of(&brought.files),
                reason: refused.code().into(),
            };
            let recorded: Result<(), StoreError> = transaction!(store, "audit-obeys", |tx| {
                self.append(tx, event.clone(), now).await.map(drop)
            });
            recorded?;
        }
        Ok(judged)
    }

    /// What the log says was obeyed last, by entries that its keys vouch for and by what is kept of those that are gone.
    async fn last_obeyed(&self, store: &Store) -> Result<Option<Adopted>, AuditError> {
        let mut reader = LogReader::sequenced(self, store, |_| Ok(())).await?;
        let mut tx = store.read("audit-obeyed").await?;
        reader.newer(&mut tx, |_| Ok(())).await?;
        Ok(reader.obeyed)
    }

    /// Whether it is obeyed after `last`; nothing where the store has an entry about a later one.
    async fn judged(
        &self,
        store: &Store,
        whose: (&str, &str),
        demanded: bool,
        brought: &Brought,
        (last, adopt): (Option<Adopted>, bool),
        now: UnixTime,
    ) -> Result<Option<Result<Option<u64>, SettingsRefused>>, StoreError> {
        transaction!(store, "audit-obeys", |tx| {
            if newest(tx).await? > last {
                return Ok(None);
            }
            let (known, noted) = match self.trusted(tx, last).await? {
                Some(known) => (known, true),
                // Also after a restore whose log was brought up: what the log names last goes on, whatever became of the note.
                None => {
                    let last = |of: &Trust| last == Some((of.serial, of.manifest));
                    match brought.claims().filter(last) {
                        Some(claimed) => (Some(claimed), false),
                        None => return Ok(Some(Err(SettingsRefused::Record))),
                    }
                }
            };
            let signed = known.is_some() || !brought.signatures.is_empty();
            let level = match demanded || signed {
                true => Level::Two,
                false => Level::One,
            };
            let accepted = match check(whose, level, known.as_ref(), brought, now) {
                Ok(Some(accepted)) => accepted,
                Ok(None) => return Ok(Some(Ok(None))),
                Err(refused) => return Ok(Some(Err(refused))),
            };
            let serial = accepted.trust.serial;
            let again = known.as_ref() == Some(&accepted.trust);
            if (again && noted) || !adopt {
                return Ok(Some(Ok(Some(serial))));
            }
            let kids = accepted.trust.signers.iter().map(jose::Jwk::kid);
            let kids: Vec<String> = kids.collect();
            let mut by = accepted.by.into_iter();
            let event = Event::SettingsAdopted {
                serial,
                manifest: accepted.trust.manifest,
                need: accepted.trust.need.into(),
                signers: sha256(&[kids.join("\n").as_bytes()]),
                evidence: sha256(&[brought.evidence().as_bytes()]),
                until: accepted.exp,
                first: by.next(),
                second: by.next(),
            };
            let note = Note {
                trust: accepted.trust,
                signatures: brought.signatures.clone(),
            };
            self.trusts(tx, &note).await?;
            if !again {
                self.append(tx, event, now).await?;
            }
            Ok::<_, StoreError>(Some(Ok(Some(serial))))
        })
    }

    /// What was noted, if it is what the log says was obeyed last, or neither knows of any; nothing where they differ.
    async fn trusted(
        &self,
        tx: &mut Tx,
        last: Option<Adopted>,
    ) -> Result<Option<Option<Trust>>, StoreError> {
        let noted = sql("SELECT value FROM audit_setting WHERE node = '' AND name = 'trust'");
        let Some(row) = tx.fetch_optional(noted).await? else {
            return Ok(last.is_none().then_some(None));
        };
        let known = self.opened(&row.text("value")?);
        let same = |trust: &Trust| last == Some((trust.serial, trust.manifest));
        Ok(known.filter(same).map(Some))
    }

    async fn trusts(&self, tx: &mut Tx, note: &Note) -> Result<(), StoreError> {
        let text = serde_json::to_vec(note);
        let text = text.map_err(|_| StoreError::Audit("what is trusted has no text form"))?;
        let mac = hmac::sign(&self.setting_key(), &message(&text));
        let value = format!("{}.{}", b64u(&text), b64u(mac));
        let write = "INSERT INTO audit_setting (node, name, value) VALUES ('', 'trust', $1) \
                     ON CONFLICT (node, name) DO UPDATE SET value = excluded.value";
        tx.execute(sql(write).bind(value)).await.map(drop)
    }

    fn opened(&self, value: &str) -> Option<Trust> {
        let (text, mac) = value.split_once('.')?;
        let (text, mac) = (from_b64u(text).ok()?, from_b64u(mac).ok()?);
        hmac::verify(&self.setting_key(), &message(&text), &mac).ok()?;
        let note: Note = serde_json::from_slice(&text).ok()?;
        Some(note.trust)
    }
}

/// The last one that the store names, which is believed only where the log was read back.
async fn newest(tx: &mut Tx) -> Result<Option<Adopted>, StoreError> {
    let told = sql("SELECT body FROM audit_entry WHERE kind = $1").bind(ADOPTED);
    let mut last: Option<Adopted> = None;
    for row in tx.fetch_all(told).await? {
        last = last.max(adopted(ADOPTED, &row.text("body")?));
    }
    Ok(last)
}

/// Other than of every other setting: their text is a node's, a line feed, and more.
fn message(text: &[u8]) -> Vec<u8> {
    [&b"\ntrust\n"[..], text].concat()
}
