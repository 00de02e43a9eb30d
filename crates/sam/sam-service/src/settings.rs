//! The record of who may sign the configuration: sealed, and so nobody's to change who only writes files.

use audit_log::Event;
use cm_api::CryptoModule;
use core_types::sha256;
use signed_config::{Brought, SettingsRefused, Trust, Zone, check, digest_of};
use store_kit::transaction;

use crate::failed::Failed;
use crate::rows::{self, Columns, Noun as _, noun};
use crate::sam::Sam;
use crate::scrub::Scrubbed;
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
    "counter_sign.certificate",
    "restorers",
    "tls.ca",
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

noun!(Trust, "settings", |_t| Columns {
    owner: String::new(),
    link: String::new(),
    state: "",
    stamp: 0,
});

impl<C: CryptoModule> Sam<C> {
    /// Obeys the configuration if those have signed it who may, and remembers who may sign the next one. Recorded either
    /// way. `found`: what the comparison of rows and log has just said.
    pub(crate) async fn adopt_settings(&self, found: &Scrubbed) -> Result<(), StartError> {
        let SettingsSource::Files(brought) = &self.config.source else {
            return Ok(());
        };
        let done = match found.names(Trust::TABLE) {
            true => Err(Failed::Tampered(Trust::TABLE)),
            false => self.try_adopt(brought).await,
        };
        let refused = match done {
            Ok(Ok(())) => return Ok(()),
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

    async fn try_adopt(&self, brought: &Brought) -> Result<Result<(), SettingsRefused>, Failed> {
        let ceiling = self.config.policy.ceiling;
        let of = Zone::Sam.of(&self.config.sam);
        let names = (of.as_str(), self.config.node.as_str());
        transaction!(self.store, "settings", |tx| {
            let row = rows::get::<Trust>(tx, &self.sealer, ROW).await?;
            let known = row.as_ref().map(|r| &r.body);
            let now = self.clock.now();
            let accepted = match check(names, ceiling, known, brought, now) {
                Ok(Some(accepted)) => accepted,
                Ok(None) => return Ok(Ok(())),
                Err(refused) => return Ok(Err(refused)),
            };
            let next = accepted.trust;
            match &row {
                Some(row) if row.body == next => return Ok(Ok(())),
                Some(row) => rows::save(tx, &self.sealer, row, &next).await?,
                None if rows::insert(tx, &self.sealer, ROW, &next).await? => {}
                // Another node was faster: look again.
                None => return Err(Failed::Store(tx.conflict())),
            }
            let kids: Vec<String> = next.signers.iter().map(jose::Jwk::kid).collect();
            let evidence = brought.evidence();
            let name = sha256(&[evidence.as_bytes()]);
            let mut by = accepted.by.into_iter();
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
            Ok::<_, Failed>(Ok(()))
        })
    }
}
