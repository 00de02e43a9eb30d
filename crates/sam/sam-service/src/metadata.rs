//! FIDO metadata: read from a file of the operator's at the start and every hour, so that a model counts no more soon after
//! its maker has said so. The file is renewed every month and signed by its maker, so officers don't sign it. Whoever may
//! write it could bring an earlier issue, from before a report: the highest number that was ever read is a sealed row
//! and stands in the log, and nothing below it is read.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use audit_log::Event;
use cm_api::CryptoModule;
use core_types::{Digest32, UnixTime, sha256};
use sam_core::attest::{AttestationPolicy, Attesters, MAX_METADATA, Metadata};
use serde::{Deserialize, Serialize};
use store_kit::{StoreError, sql, transaction};

use crate::failed::{Failed, readable};
use crate::rows::{self, Columns, Noun as _, noun};
use crate::sam::Sam;
use crate::scrub::IssueTold;
use crate::start_error::StartError;

/// Type of the entry about an issue that counts.
pub(crate) const ADOPTED: &str = "attestation.metadata";
/// How often the file is read again, in seconds.
const EVERY: i64 = 3600;
/// The alarm that a newer issue should exist.
const OUTDATED: &str = "metadata-outdated";

/// Where FIDO metadata come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataFile {
    /// The BLOB as published.
    pub path: PathBuf,
    /// The root to which its signer leads, DER.
    pub root: Vec<u8>,
}

/// Why the file doesn't count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataRefused {
    /// It can't be read, or isn't its maker's.
    #[error("{}: {why}", .path.display())]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// An earlier issue than one that was read before.
    #[error(
        "{} is issue {number}, and issue {highest} was read before: it may lack what is known against a model since",
        .path.display()
    )]
    Older {
        /// Which file.
        path: PathBuf,
        /// Its number.
        number: u64,
        /// The highest that was read.
        highest: u64,
    },
}

impl MetadataRefused {
    /// The fixed word, also for the alarm.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unusable { .. } => "metadata-unusable",
            Self::Older { .. } => "metadata-older",
        }
    }
}

/// The highest issue that was ever read of those that lead to one root, which names the row: numbers of one maker say nothing of
/// another's, and a file from elsewhere must not shut out those of the right one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HighestIssue {
    number: u64,
}

noun!(HighestIssue, "attestation_metadata", |_h| Columns {
    owner: String::new(),
    link: String::new(),
    state: "",
    stamp: 0,
});

/// An issue as it was read.
struct Issue {
    metadata: Metadata,
    file: Digest32,
    /// SHA-256 of the root to which its signer leads.
    root: Digest32,
}

/// What this node knows of authenticators now.
pub(crate) struct Authenticators {
    attesters: RwLock<Arc<Attesters>>,
    watch: Mutex<Watch>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Watch {
    /// When the file was read last.
    read: Option<UnixTime>,
    /// Which alarm lasts.
    told: Option<&'static str>,
}

impl Authenticators {
    pub(crate) fn new(policy: AttestationPolicy) -> Self {
        let metadata = None;
        Self {
            attesters: RwLock::new(Arc::new(Attesters { policy, metadata })),
            watch: Mutex::default(),
        }
    }

    fn now(&self) -> Arc<Attesters> {
        let now = self.attesters.read();
        now.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes an issue in, unless a newer one is there.
    fn take(&self, metadata: Metadata) {
        let mut now = self
            .attesters
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let known = now.metadata.as_ref().map(|known| known.number);
        if known <= Some(metadata.number) {
            *now = Arc::new(Attesters {
                policy: now.policy.clone(),
                metadata: Some(metadata),
            });
        }
    }

    fn watch(&self) -> Watch {
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watched(&self, watch: Watch) {
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner) = watch;
    }
}

impl<C: CryptoModule> Sam<C> {
    /// What is known of authenticators now: the same for the whole of a decision.
    pub(crate) fn attesters(&self) -> Arc<Attesters> {
        self.authenticators.now()
    }

    /// Reads the file at the start. `told`: the highest issue that the log names of each root.
    pub(crate) async fn begin_metadata(
        &self,
        told: &BTreeMap<Option<Digest32>, IssueTold>,
    ) -> Result<(), StartError> {
        let Some(file) = &self.config.metadata else {
            return Ok(());
        };
        let now = self.clock.now();
        let told = told.get(&Some(digest_of(&file.root))).copied();
        match self.adopt(file, told, true, now).await? {
            Ok(outdated) => Ok(self.tell_metadata(outdated, now).await?),
            Err(refused) => {
                self.tell_metadata(Some(refused.code()), now).await?;
                Err(refused.into())
            }
        }
    }

    /// Reads the file again when an hour has passed. What is wrong with it is an alarm, told once; what is known goes on.
    pub(crate) async fn watch_metadata(&self) -> Result<(), StoreError> {
        let Some(file) = &self.config.metadata else {
            return Ok(());
        };
        let now = self.clock.now();
        // A clock that was set back is no reason to wait.
        let lately = |read: UnixTime| read <= now && now < read.plus(EVERY);
        if self.authenticators.watch().read.is_some_and(lately) {
            return Ok(());
        }
        let trouble = match self.adopt(file, None, false, now).await? {
            Ok(outdated) => outdated,
            Err(refused) => {
                tracing::error!(%refused, "the FIDO metadata are not taken; those from before go on");
                Some(refused.code())
            }
        };
        self.tell_metadata(trouble, now).await
    }

    /// Reads the file, and takes it in if no later issue was read before, anywhere; tells whether a newer one should exist.
    async fn adopt(
        &self,
        file: &MetadataFile,
        told: Option<IssueTold>,
        starts: bool,
        now: UnixTime,
    ) -> Result<Result<Option<&'static str>, MetadataRefused>, StoreError> {
        let issue = match read_at(file.clone(), now).await {
            Ok(issue) => issue,
            Err(why) => {
                let path = file.path.clone();
                return Ok(Err(MetadataRefused::Unusable { path, why }));
            }
        };
        match self.note_issue(&issue, told, starts, now).await {
            Ok(Ok(())) => {}
            Ok(Err(highest)) => {
                return Ok(Err(MetadataRefused::Older {
                    path: file.path.clone(),
                    number: issue.metadata.number,
                    highest,
                }));
            }
            Err(Failed::Store(error)) => return Err(error),
            Err(failed) => {
                let why = self.explain(&failed).await.to_string();
                let path = file.path.clone();
                return Ok(Err(MetadataRefused::Unusable { path, why }));
            }
        }
        let outdated = now >= issue.metadata.next_update;
        if outdated {
            tracing::warn!("the FIDO metadata are out of date: no new model is vouched for");
        }
        self.authenticators.take(issue.metadata);
        Ok(Ok(outdated.then_some(OUTDATED)))
    }

    /// Compares an issue with the highest of its root that is known, and seals it as the highest if it is. The error is that number.
    async fn note_issue(
        &self,
        issue: &Issue,
        told: Option<IssueTold>,
        starts: bool,
        now: UnixTime,
    ) -> Result<Result<(), u64>, Failed> {
        let number = issue.metadata.number;
        let place = issue.root.to_string();
        let own = self.attesters().metadata.as_ref().map(|own| own.number);
        transaction!(self.store, "metadata", |tx| {
            // A row that is older than the log says was the highest once all the same.
            let stored = tx
                .fetch_optional(sql(HighestIssue::SELECT).bind(&place))
                .await?;
            let opened = match &stored {
                Some(row) => readable(rows::unseal::<HighestIssue>(&self.house, row))?,
                None => None,
            };
            let sealed = opened.as_ref().map(|row| row.body.number);
            let told_number = told.map(|told| told.number);
            if let Some(highest) = [sealed, told_number, own].into_iter().flatten().max()
                && number < highest
            {
                return Ok(Err(highest));
            }
            let next = HighestIssue { number };
            match readable(rows::get::<HighestIssue>(tx, &self.house, &place).await)?.flatten() {
                Some(row) if row.body.number == number => return Ok(Ok(())),
                Some(row) => rows::save(tx, &self.house, &row, &next).await?,
                // Refused until the next start, which puts it right.
                None if !starts && own == Some(number) => return Ok(Ok(())),
                None => {
                    let told_version = told.map_or(0, |told| told.version);
                    let version = opened.map_or(0, |row| row.version).max(told_version);
                    let at = UnixTime(now.0.max(version / rows::A_SECOND + 1));
                    if !rows::put(tx, &self.house, &place, &next, at).await? {
                        return Err(Failed::Store(tx.conflict()));
                    }
                }
            }
            let event = Event::MetadataAdopted {
                number,
                root: issue.root,
                file: issue.file,
                until: issue.metadata.next_update,
            };
            self.audit.append(tx, event, now).await?;
            Ok::<_, Failed>(Ok(()))
        })
    }

    /// Alarms when something about the file is wrong that wasn't before.
    async fn tell_metadata(
        &self,
        trouble: Option<&'static str>,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        if let Some(what) = trouble
            && self.authenticators.watch().told != trouble
        {
            let event = Event::Alarm { what: what.into() };
            transaction!(self.store, "metadata-told", |tx| {
                self.audit.append(tx, event.clone(), now).await.map(drop)
            })?;
        }
        self.authenticators.watched(Watch {
            read: Some(now),
            told: trouble,
        });
        Ok(())
    }
}

/// Reads and checks the file on a thread for it: the published one has some 6 MB.
async fn read_at(file: MetadataFile, now: UnixTime) -> Result<Issue, String> {
    let read = move || read(&file.path, &file.root, now);
    let done = tokio::task::spawn_blocking(read).await;
    done.unwrap_or_else(|_| Err("reading it was broken off".to_owned()))
}

fn read(path: &Path, root: &[u8], now: UnixTime) -> Result<Issue, String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    // One byte more tells a file that is too long from the longest.
    let read = file.take(MAX_METADATA as u64 + 1).read_to_string(&mut text);
    read.map_err(|e| e.to_string())?;
    let metadata = Metadata::read(&text, root, now).map_err(|e| e.to_string())?;
    Ok(Issue {
        metadata,
        file: digest_of(text.as_bytes()),
        root: digest_of(root),
    })
}

fn digest_of(bytes: &[u8]) -> Digest32 {
    sha256(&[bytes])
}
