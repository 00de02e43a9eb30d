//! Reading a backup: first every byte of it, then what is wanted.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use core_types::{Digest32, UnixTime, sha256};
use jose::Jwk;
use store_kit::{Fill, Store};

use crate::manifest::{Approved, Authority, Listed, Manifest, SCHEMA, Signed, TYP_BACKUP};
use crate::seal::{Identity, opening};
use crate::{BackupError, MANIFEST, SIGNATURE, rows, tar};

/// A backup of which every byte is as it was signed.
#[derive(Debug)]
pub struct Backup<'i> {
    path: PathBuf,
    identity: &'i Identity,
    name: Digest32,
    signature: String,
    manifest: Manifest,
}

impl<'i> Backup<'i> {
    /// Reads a backup to its end, and believes it if `key` signed it.
    ///
    /// # Errors
    /// [`BackupError::Foreign`] when it is sealed for others or signed by another key, [`BackupError::Damaged`] when it is
    /// cut off or altered.
    pub fn open(path: &Path, identity: &'i Identity, key: &Jwk) -> Result<Self, BackupError> {
        let mut found = BTreeMap::new();
        let (mut text, mut signature) = (None, None);
        each(path, identity, |path, bytes| {
            let seen = match path.as_str() {
                MANIFEST => text.replace(bytes).is_some(),
                SIGNATURE => signature.replace(bytes).is_some(),
                _ => found.insert(path, listed(&bytes)).is_some(),
            };
            match seen {
                true => Err(damaged("a file is in it twice")),
                false => Ok(()),
            }
        })?;
        let (Some(text), Some(signature)) = (text, signature) else {
            return Err(damaged("it has no list"));
        };
        let signature = String::from_utf8(signature).unwrap_or_default();
        let payload = jose::verify(&signature, TYP_BACKUP, key).map_err(|_| BackupError::Signer)?;
        let signed: Signed =
            serde_json::from_slice(&payload).map_err(|_| damaged("its signature"))?;
        let name = sha256(&[&text]);
        let manifest: Manifest = serde_json::from_slice(&text).map_err(|_| damaged("its list"))?;
        if signed.manifest != name || manifest.schema != SCHEMA {
            return Err(damaged("its list isn't what was signed"));
        }
        if manifest.files != found {
            let differs = manifest
                .files
                .iter()
                .find(|(path, of)| found.get(*path) != Some(of));
            let path = differs.map(|(path, _)| path);
            let path = path.or_else(|| found.keys().find(|p| !manifest.files.contains_key(*p)));
            let path = path.cloned().unwrap_or_default();
            return Err(BackupError::Damaged(format!(
                "{path} isn't as it is listed"
            )));
        }
        Ok(Self {
            path: path.to_owned(),
            identity,
            name,
            signature,
            manifest,
        })
    }

    /// That its restore into these stores was approved, to be judged again by each zone; `stores`: see [`Approved::stores`].
    ///
    /// # Errors
    /// As [`Manifest::approved`].
    pub fn approved(
        &self,
        known: &Authority,
        stores: &str,
        approvals: &[String],
        now: UnixTime,
    ) -> Result<Approved, BackupError> {
        let target = sha256(&[stores.as_bytes()]);
        let manifest = &self.manifest;
        let approvals = manifest.approved(known, self.name, target, approvals, now)?;
        Ok(Approved {
            backup: self.name,
            stores: stores.to_owned(),
            signature: self.signature.clone(),
            approvals,
        })
    }

    /// Its name: what is approved.
    pub fn name(&self) -> Digest32 {
        self.name
    }

    /// What is in it.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Gives out the files that aren't rows, each compared with the list once more.
    ///
    /// # Errors
    /// [`BackupError`], also that of `take`.
    pub fn files(
        &self,
        mut take: impl FnMut(&str, &[u8]) -> Result<(), BackupError>,
    ) -> Result<(), BackupError> {
        each(&self.path, self.identity, |path, bytes| {
            let rows = path.split('/').next().unwrap_or_default();
            if self.manifest.zones.contains_key(rows) || [MANIFEST, SIGNATURE].contains(&&*path) {
                return Ok(());
            }
            self.compare(&path, &bytes)?;
            take(&path, &bytes)
        })
    }

    /// Fills blank stores, by zone; zones that aren't named are passed over. `approved` is what each zone records when it starts
    /// next; nothing for stores in which none will. Blocks on file reads: not for a serving task.
    ///
    /// # Errors
    /// [`BackupError`]. A store that wasn't filled to its end can't be opened any more.
    pub async fn fill(
        &self,
        stores: BTreeMap<String, Store>,
        approved: Option<&Approved>,
    ) -> Result<BTreeMap<String, Store>, BackupError> {
        let mut filling = BTreeMap::new();
        for (zone, store) in stores {
            let listed = self.manifest.zones.get(&zone);
            let listed = listed.ok_or_else(|| BackupError::NoZone(zone.clone()))?;
            let fill = Fill::begin(store, &listed.migrations).await?;
            filling.insert(zone, (fill, BTreeMap::<String, u64>::new()));
        }
        let mut from = opened(&self.path, self.identity)?;
        while let Some((path, bytes)) = tar::next(&mut from).map_err(unreadable)? {
            let zone = path.split('/').next().unwrap_or_default();
            let Some((fill, counts)) = filling.get_mut(zone) else {
                continue;
            };
            self.compare(&path, &bytes)?;
            let part = rows::parse(&bytes)?;
            fill.rows(&part.table, &part.columns, &part.rows).await?;
            *counts.entry(part.table).or_default() += part.rows.len() as u64;
        }
        let mut filled = BTreeMap::new();
        for (zone, (fill, mut counts)) in filling {
            let listed = &self.manifest.zones[&zone];
            for table in listed.rows.keys() {
                counts.entry(table.clone()).or_default();
            }
            if counts != listed.rows {
                return Err(damaged("rows are missing"));
            }
            let note = serde_json::to_string(&approved).unwrap_or_default();
            filled.insert(zone, fill.end(&note).await?);
        }
        Ok(filled)
    }

    /// What is read now must be what was checked.
    fn compare(&self, path: &str, bytes: &[u8]) -> Result<(), BackupError> {
        match self.manifest.files.get(path) == Some(&listed(bytes)) {
            true => Ok(()),
            false => Err(damaged("it was changed meanwhile")),
        }
    }
}

fn listed(bytes: &[u8]) -> Listed {
    Listed {
        size: bytes.len() as u64,
        sha256: sha256(&[bytes]),
    }
}

fn opened(path: &Path, identity: &Identity) -> Result<impl Read, BackupError> {
    opening(identity, BufReader::new(File::open(path)?))
}

fn each(
    path: &Path,
    identity: &Identity,
    mut take: impl FnMut(String, Vec<u8>) -> Result<(), BackupError>,
) -> Result<(), BackupError> {
    let mut from = opened(path, identity)?;
    while let Some((path, bytes)) = tar::next(&mut from).map_err(unreadable)? {
        take(path, bytes)?;
    }
    Ok(())
}

fn damaged(what: &str) -> BackupError {
    BackupError::Damaged(what.to_owned())
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unreadable(error: std::io::Error) -> BackupError {
    BackupError::Damaged(error.to_string())
}
