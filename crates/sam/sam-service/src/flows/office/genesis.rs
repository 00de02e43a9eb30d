//! How an installation begins (entry 0 of its log), and how one with too few officers is opened again.

use std::sync::Arc;

use audit_log::Event;
use cm_api::CryptoModule;
use core_types::{Clock, Digest32, Random, UnixTime};
use jose::Jwk;
use sam_core::Reason;
use sam_core::office::genesis::check_genesis;
use sam_core::office::{GenesisRecord, Officer};
use sap::office::{Founder, Office, Role};
use store_kit::{Store, StoreError, Tx, sql, transaction};

use super::accounts::Invitation;
use crate::config::SamConfig;
use crate::failed::{Failed, readable};
use crate::rows;
use crate::sam::Sam;
use crate::start_error::StartError;

/// Id of the one row.
const GENESIS: &str = "genesis";

/// Why an installation didn't begin, or wasn't opened again. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum FoundError {
    /// The SAM can't be set up.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It has begun before, or its store holds something.
    #[error("this installation has begun before, or its store isn't empty: it begins once")]
    Begun,
    /// The record is refused.
    #[error("refused: {0}")]
    Refused(Reason),
    /// The store.
    #[error("the SAM's store: {0}")]
    Store(#[from] StoreError),
}

impl From<Failed> for FoundError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Store(error) => Self::Store(error),
            other => Self::Refused(other.reason()),
        }
    }
}

impl<C: CryptoModule> Sam<C> {
    /// Begins an installation with a genesis record: its security officers together, the recovery key, the settings in
    /// force. It becomes the first entry of the log. Done once, on an empty store; that it was done is a sealed row, and without
    /// that row nothing starts.
    ///
    /// # Errors
    /// [`FoundError`].
    pub async fn found(
        config: SamConfig,
        module: C,
        store: Store,
        root: Option<Jwk>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        genesis: &str,
    ) -> Result<(), FoundError> {
        check_empty(&store).await?;
        let sam = Self::build(config, module, store, root, clock, random).await?;
        let now = sam.clock.now();
        let (told, record) = check_genesis(genesis, now).map_err(FoundError::Refused)?;
        let ours =
            told.sam == sam.config.sam && told.tenant == sam.config.tenant && told.root == sam.root;
        if !ours {
            return Err(FoundError::Refused(Reason::Mismatch));
        }
        let thumbprint = Digest32::parse(&record.recovery.kid());
        let recovery = thumbprint.map_err(|_| FoundError::Refused(Reason::Malformed))?;
        let done: Result<bool, Failed> = transaction!(sam.store, "genesis", |tx| {
            let log = tx
                .fetch_optional(sql("SELECT node FROM audit_head LIMIT 1"))
                .await?;
            let first = rows::insert(tx, &sam.sealer, GENESIS, &record).await?;
            if log.is_some() || !first {
                return Ok(false);
            }
            let mut events = vec![Event::OfficeBegan {
                evidence: record.genesis,
                recovery,
                officers: count(&told.officers),
            }];
            sam.put_founders(
                tx,
                &told.officers,
                genesis,
                record.genesis,
                now,
                &mut events,
            )
            .await?;
            sam.put_evidence(tx, record.genesis, genesis.as_bytes())
                .await?;
            sam.audit.append_all(tx, &events, now).await?;
            Ok::<_, Failed>(true)
        });
        match done? {
            true => Ok(()),
            false => Err(FoundError::Begun),
        }
    }

    /// Opens an installation again that has fewer than three usable security officers, by a proposal of the recovery key. Officers
    /// and accounts whose rows are refused come back by it under their names; nodes that run heed them after their next start.
    ///
    /// # Errors
    /// [`FoundError`].
    pub async fn reopen(&self, proposal: &str) -> Result<(), FoundError> {
        let digest = core_types::sha256(&[proposal.as_bytes()]);
        let done: Result<(), Failed> = transaction!(self.store, "reopen", |tx| {
            let now = self.now(tx).await?.time;
            let row = rows::get::<GenesisRecord>(tx, &self.sealer, GENESIS).await?;
            let row = row.ok_or(Reason::NotFound)?;
            let usable = self.usable_officers(tx, now).await?;
            let (told, next) = row.body.reopen(proposal, &usable, now)?;
            rows::save(tx, &self.sealer, &row, &next).await?;
            let mut events = vec![Event::OfficeReopened {
                evidence: digest,
                serial: next.reopened,
                officers: count(&told.officers),
            }];
            self.put_founders(tx, &told.officers, proposal, digest, now, &mut events)
                .await?;
            self.put_evidence(tx, digest, proposal.as_bytes()).await?;
            self.audit.append_all(tx, &events, now).await?;
            Ok::<_, Failed>(())
        });
        Ok(done?)
    }

    /// What is kept of the beginning.
    ///
    /// # Errors
    /// [`FoundError`] when it can't be read.
    pub async fn genesis(&self) -> Result<GenesisRecord, FoundError> {
        let read = async {
            let mut tx = self.store.read("genesis").await?;
            rows::get::<GenesisRecord>(&mut tx, &self.sealer, GENESIS).await
        };
        let row = read.await?;
        Ok(row.ok_or(StartError::NotBegun)?.body)
    }

    /// Nothing starts without the row that says that it began.
    pub(crate) async fn check_begun(&self) -> Result<(), StartError> {
        match self.genesis().await {
            Ok(_) => Ok(()),
            Err(FoundError::Start(error)) => Err(error),
            Err(FoundError::Store(error)) => Err(error.into()),
            Err(_) => Err(StartError::Unusable(
                "the record of its beginning doesn't open",
            )),
        }
    }

    async fn put_founders(
        &self,
        tx: &mut Tx,
        founders: &[Founder],
        source: &str,
        by: Digest32,
        at: UnixTime,
        events: &mut Vec<Event>,
    ) -> Result<(), Failed> {
        for founder in founders {
            let office = Office {
                roles: vec![Role::SecurityOfficer],
                both: false,
                until: founder.until,
                training: founder.training,
            };
            let officer = Officer {
                id: founder.officer.clone(),
                name: founder.name.clone(),
                identity: founder.identity,
                office,
                named_by: Vec::new(),
                by,
                since: at,
                ended: None,
            };
            let word = officer.word();
            let known = readable(self.officer(tx, &founder.officer).await)?.flatten();
            let is_new = known.is_none();
            match known {
                // Known from before: the same human only, and back in office.
                Some(row) if row.body.identity == founder.identity => {
                    rows::save(tx, &self.sealer, &row, &officer).await?;
                }
                Some(_) => return Err(Reason::Invalid("officers").into()),
                None if self.make_officer(tx, &officer, events, at).await? => {}
                None => return Err(Reason::Invalid("officers").into()),
            }
            events.push(Event::OfficerAppointed {
                officer: officer.id.clone(),
                roles: word.into(),
                until: founder.until,
                by,
            });
            let invitation = Invitation {
                officer: &officer,
                account: &founder.account,
                voucher: &founder.voucher,
                secret: founder.secret,
                exp: founder.exp,
                source,
                by,
                // The ceremony gives each link to whoever it is for.
                asked_by: None,
                lost: None,
                is_new,
            };
            self.invite_account(tx, &invitation, events, at).await?;
        }
        Ok(())
    }
}

fn count(founders: &[Founder]) -> u32 {
    u32::try_from(founders.len()).unwrap_or(u32::MAX)
}

/// Whoever can delete rows must not be able to begin anew with what is left: every table has to be empty, the row key's
/// included, so that nothing from before opens afterwards.
async fn check_empty(store: &Store) -> Result<(), FoundError> {
    let mut tx = store.read("found").await?;
    for select in [
        "SELECT id FROM row_key LIMIT 1",
        "SELECT id FROM office_genesis LIMIT 1",
        "SELECT id FROM office_person LIMIT 1",
        "SELECT id FROM office_account LIMIT 1",
        "SELECT id FROM person LIMIT 1",
        "SELECT id FROM factor LIMIT 1",
        "SELECT id FROM signing_key LIMIT 1",
        "SELECT id FROM voucher LIMIT 1",
        "SELECT id FROM evidence LIMIT 1",
        "SELECT node FROM audit_head LIMIT 1",
        "SELECT node FROM audit_entry LIMIT 1",
    ] {
        if tx.fetch_optional(sql(select)).await?.is_some() {
            return Err(FoundError::Begun);
        }
    }
    Ok(())
}
