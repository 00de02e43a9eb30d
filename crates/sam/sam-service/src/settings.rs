//! The record of who may sign the configuration: sealed, and so nobody's to change who only writes files.

use audit_log::Event;
use cm_api::CryptoModule;
use core_types::{UnixTime, sha256};
use serde::Deserialize;
use signed_config::{Brought, SettingsRefused, Trust, Zone, check, digest_of};
use store_kit::{Tx, sql, transaction};

use crate::failed::Failed;
use crate::rows::{self, Columns, Noun as _, noun};
use crate::sam::Sam;
use crate::scrub::{OBEYED, Obeyed, Scrubbed};
use crate::start_error::StartError;

/// Members of `natsuin-sam`'s configuration that name files which are signed with it. Not those that are secret or
/// renewed by themselves: the own certificate and keys, and metadata with their maker's signature.
pub const SIGNED_FILES: &[&str] = &[
    "cm_root",
    "registration_authorities",
    "issuers",
    "clients.*.keys",
    "providers.*.keys",
    "attestation.roots",
    "attestation.metadata_root",
    "pages",
    "office.pages",
    "counter_sign.certificate",
    "restorers",
    "tls.ca",
    "audit.witnesses.cosigners.*.key",
    "tenants.*.registration_authorities",
    "tenants.*.issuers",
    "tenants.*.clients.*.keys",
    "tenants.*.providers.*.keys",
];

/// The one row.
const ROW: &str = "trust";

/// Where the settings come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingsSource {
    /// The program that starts the SAM: development and tests.
    Program,
    /// Files.
    Files(Brought),
}

/// What became of a configuration that is to be obeyed.
enum Adopted {
    /// It was before, or is from now on.
    Done,
    /// Its row is back already, above all that the log named: another node was faster, or somebody who isn't one.
    ByAnother,
}

noun!(Trust, "settings", |_t| Columns {
    owner: String::new(),
    link: String::new(),
    state: "",
    stamp: 0,
});

impl<C: CryptoModule> Sam<C> {
    /// Obeys the configuration if those have signed it who may, and remembers who may sign the next one. Recorded either
    /// way. `found`: what the comparison of rows and log has just said; `obeyed`: what the log names last.
    pub(crate) async fn adopt_settings(
        &self,
        found: &Scrubbed,
        obeyed: Option<Obeyed>,
    ) -> Result<(), StartError> {
        let SettingsSource::Files(brought) = &self.config.source else {
            return Ok(());
        };
        let done = match (found.names(Trust::TABLE), again(brought, obeyed)) {
            (false, _) => self.try_adopt(brought, None).await,
            // As after a restore whose log was brought up: what the log names last goes on, whatever became of its row.
            (true, Some(last)) => self.try_adopt(brought, Some(last)).await,
            (true, None) => Err(Failed::Tampered(Trust::TABLE)),
        };
        let done = match done {
            Ok(Ok(Adopted::ByAnother)) => {
                let (found, told) = self.scrub_and_tell().await?;
                let named = !found.names(Trust::TABLE) && again(brought, told.obeyed).is_some();
                match named {
                    true => Ok(Ok(Adopted::Done)),
                    false => Err(Failed::Tampered(Trust::TABLE)),
                }
            }
            done => done,
        };
        let refused = match done {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(refused)) => refused,
            Err(Failed::Store(error)) => return Err(error.into()),
            Err(failed) => {
                self.explain(&failed).await;
                SettingsRefused::Record
            }
        };
        tracing::error!(%refused, "the configuration isn't obeyed");
        self.record(Event::SettingsRefused {
            files: digest_of(&brought.files),
            reason: refused.code().into(),
        })
        .await;
        Err(refused.into())
    }

    /// `lost`: what is brought again, since its row is older than the log, or gone.
    async fn try_adopt(
        &self,
        brought: &Brought,
        lost: Option<Obeyed>,
    ) -> Result<Result<Adopted, SettingsRefused>, Failed> {
        let ceiling = self.config.policy.ceiling;
        let of = Zone::Sam.of(&self.config.sam);
        let names = (of.as_str(), self.config.node.as_str());
        transaction!(self.store, "settings", |tx| {
            let row = match lost {
                None => rows::get::<Trust>(tx, &self.sealer, ROW).await?,
                Some(_) => None,
            };
            let known = match lost {
                None => row.as_ref().map(|r| r.body.clone()),
                Some(_) => brought.claims(),
            };
            let now = self.clock.now();
            let accepted = match check(names, ceiling, known.as_ref(), brought, now) {
                Ok(Some(accepted)) => accepted,
                Ok(None) => return Ok(Ok(Adopted::Done)),
                Err(refused) => return Ok(Err(refused)),
            };
            let next = accepted.trust;
            let written = match (&row, lost) {
                (Some(row), _) if row.body == next => return Ok(Ok(Adopted::Done)),
                (Some(row), _) => {
                    rows::save(tx, &self.sealer, row, &next).await?;
                    true
                }
                (None, Some(last)) => match self.is_back(tx, &next, last).await? {
                    true => return Ok(Ok(Adopted::ByAnother)),
                    false => self.put_back(tx, &next, last, now).await?,
                },
                (None, None) => rows::insert(tx, &self.sealer, ROW, &next).await?,
            };
            if !written {
                // Another node was faster: look again.
                return Err(Failed::Store(tx.conflict()));
            }
            let kids: Vec<String> = next.signers.iter().map(jose::Jwk::kid).collect();
            let evidence = brought.evidence();
            let name = sha256(&[evidence.as_bytes()]);
            // What is judged for a second time was signed by those whom the log names.
            let signed = lost.map(|last| [last.first, last.second]);
            let signed = signed.into_iter().flatten().flatten();
            let mut by = signed.chain(accepted.by);
            let event = Event::SettingsAdopted {
                serial: next.serial,
                manifest: next.manifest,
                need: next.need.into(),
                signers: sha256(&[kids.join("\n").as_bytes()]),
                evidence: name,
                until: accepted.exp,
                first: by.next(),
                second: by.next(),
            };
            self.put_evidence(tx, name, evidence.as_bytes()).await?;
            self.audit.append(tx, event, now).await?;
            Ok::<_, Failed>(Ok(Adopted::Done))
        })
    }

    /// Whether the row is back, and the same. Locks the row that is there.
    async fn is_back(&self, tx: &mut Tx, trust: &Trust, last: Obeyed) -> Result<bool, Failed> {
        #[derive(Deserialize)]
        struct Entry {
            detail: Detail,
        }
        #[derive(Deserialize)]
        struct Detail {
            serial: u64,
        }
        let lock = sql("UPDATE settings SET version = version WHERE id = $1").bind(ROW);
        tx.execute(lock).await?;
        // Nothing goes back behind a later one, though its row be gone again since the comparison.
        let told = sql("SELECT body FROM audit_entry WHERE kind = $1").bind(OBEYED);
        for entry in tx.fetch_all(told).await? {
            let entry = serde_json::from_str::<Entry>(&entry.text("body")?);
            if entry.is_ok_and(|entry| entry.detail.serial > last.serial) {
                return Err(Failed::Tampered(Trust::TABLE));
            }
        }
        let row = tx.fetch_optional(sql(Trust::SELECT).bind(ROW)).await?;
        let Some(row) = row else { return Ok(false) };
        if row.int("version")? <= last.version {
            return Ok(false);
        }
        match rows::unseal::<Trust>(&self.sealer, &row)?.body == *trust {
            true => Ok(true),
            false => Err(Failed::Tampered(Trust::TABLE)),
        }
    }

    /// Writes the row above all that the log names of it.
    async fn put_back(
        &self,
        tx: &mut Tx,
        trust: &Trust,
        last: Obeyed,
        now: UnixTime,
    ) -> Result<bool, Failed> {
        let at = UnixTime(now.0.max(last.version / rows::A_SECOND + 1));
        rows::put(tx, &self.sealer, ROW, trust, at).await
    }
}

/// What the log names last, if that is brought: the very file of signatures that was judged then.
fn again(brought: &Brought, obeyed: Option<Obeyed>) -> Option<Obeyed> {
    let claimed = brought.claims()?;
    let evidence = sha256(&[brought.evidence().as_bytes()]);
    obeyed.filter(|last| {
        (last.serial, last.manifest, last.evidence) == (claimed.serial, claimed.manifest, evidence)
    })
}
