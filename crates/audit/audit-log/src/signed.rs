//! Whose configuration a zone obeys that has no sealed rows: what it obeyed last is noted under the log's key and compared with the log, so
//! that a note which was taken away, altered or set back is no way round.

use aws_lc_rs::hmac;
use core_types::bytes::{b64u, from_b64u};
use core_types::{Digest32, Level, UnixTime, sha256};
use serde::{Deserialize, Serialize};
use signed_config::{Brought, SettingsRefused, Trust, check, digest_of};
use store_kit::{Store, StoreError, Tx, sql, transaction};

use crate::event::Event;
use crate::log::AuditLog;

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
    /// where nobody has signed one so far and nobody demands it. One signature is never enough. Recorded either way.
    ///
    /// # Errors
    /// [`StoreError`]; then the service must not start. Inside, why the configuration isn't obeyed.
    pub async fn obeys(
        &self,
        store: &Store,
        (of, node): (&str, &str),
        demanded: bool,
        brought: &Brought,
        now: UnixTime,
    ) -> Result<Result<Option<u64>, SettingsRefused>, StoreError> {
        let judged: Result<Result<Option<u64>, SettingsRefused>, StoreError> =
            transaction!(store, "audit-obeys", |tx| {
                let (known, noted) = match self.trusted(tx).await? {
                    Ok(known) => (known, true),
                    // Also after a restore whose log was brought up: what the log names last goes on, whatever became of the note.
                    Err(last) => {
                        let last = |of: &Trust| last == Some((of.serial, of.manifest));
                        match brought.claims().filter(last) {
                            Some(claimed) => (Some(claimed), false),
                            None => return Ok(Err(SettingsRefused::Record)),
                        }
                    }
                };
                let signed = known.is_some() || !brought.signatures.is_empty();
                let level = match demanded || signed {
                    true => Level::Two,
                    false => Level::One,
                };
                let accepted = match check((of, node), level, known.as_ref(), brought, now) {
                    Ok(Some(accepted)) => accepted,
                    Ok(None) => return Ok(Ok(None)),
                    Err(refused) => return Ok(Err(refused)),
                };
                let serial = accepted.trust.serial;
                let again = known.as_ref() == Some(&accepted.trust);
                if again && noted {
                    return Ok(Ok(Some(serial)));
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
                Ok::<_, StoreError>(Ok(Some(serial)))
            });
        if let Ok(Err(refused)) = &judged {
            let event = Event::SettingsRefused {
                files: digest_of(&brought.files),
                reason: refused.code().into(),
            };
            let recorded: Result<(), StoreError> = transaction!(store, "audit-obeys", |tx| {
                self.append(tx, event.clone(), now).await.map(drop)
            });
            recorded?;
        }
        judged
    }

    /// What was noted last, if it is what the log says was obeyed last; otherwise number and digest of the latter, if they can be read.
    async fn trusted(
        &self,
        tx: &mut Tx,
    ) -> Result<Result<Option<Trust>, Option<(u64, Digest32)>>, StoreError> {
        #[derive(Deserialize)]
        struct Entry {
            detail: Detail,
        }
        #[derive(Deserialize)]
        struct Detail {
            serial: u64,
            manifest: Digest32,
        }
        let mut last: Option<(u64, Digest32)> = None;
        let told = sql("SELECT body FROM audit_entry WHERE kind = 'settings.adopted'");
        for row in tx.fetch_all(told).await? {
            let Ok(Entry { detail }) = serde_json::from_str(&row.text("body")?) else {
                return Ok(Err(None));
            };
            last = last.max(Some((detail.serial, detail.manifest)));
        }
        let noted = sql("SELECT value FROM audit_setting WHERE node = '' AND name = 'trust'");
        let Some(row) = tx.fetch_optional(noted).await? else {
            return Ok(match last {
                Some(_) => Err(last),
                None => Ok(None),
            });
        };
        let known = self.opened(&row.text("value")?);
        let same = |trust: &Trust| last == Some((trust.serial, trust.manifest));
        Ok(match known.filter(same) {
            Some(trust) => Ok(Some(trust)),
            None => Err(last),
        })
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

/// Other than of every other setting: their text is a node's, a line feed, and more.
fn message(text: &[u8]) -> Vec<u8> {
    [&b"\ntrust\n"[..], text].concat()
}
