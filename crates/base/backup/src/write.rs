//! Making a backup.

use std::collections::BTreeMap;
use std::io::Write;

use age::stream::StreamWriter;
use core_types::{Digest32, UnixTime, sha256};
use jose::SigningKey;
use store_kit::{Dump, Table};

use crate::manifest::{Authority, Listed, Manifest, SCHEMA, Signed, TYP_BACKUP, ZoneListed};
use crate::seal::{Recipient, sealing};
use crate::{BackupError, MANIFEST, SIGNATURE, rows, tar};

/// Bytes of rows after which a file ends, with the row that reaches them.
const PART: usize = 1 << 20;

/// A backup in the making; what it is sealed for can open it only after [`Writer::finish`].
pub struct Writer<W: Write> {
    out: StreamWriter<W>,
    zones: BTreeMap<String, ZoneListed>,
    files: BTreeMap<String, Listed>,
}

impl<W: Write> std::fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Writer({} files)", self.files.len())
    }
}

/// A backup that was made.
#[derive(Debug)]
pub struct Made<W> {
    /// Where it was written.
    pub out: W,
    /// Its name.
    pub name: Digest32,
    /// What is in it.
    pub manifest: Manifest,
    /// The signature over its name, a JWS.
    pub signature: String,
}

impl<W: Write> Writer<W> {
    /// Begins a backup that any of these can open.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn begin(recipients: &[Recipient], out: W) -> Result<Self, BackupError> {
        Ok(Self {
            out: sealing(recipients, out)?,
            zones: BTreeMap::new(),
            files: BTreeMap::new(),
        })
    }

    /// Puts in a file, such as one of the configuration, at this path.
    ///
    /// # Errors
    /// [`BackupError`], also for a path that isn't plain or is taken.
    pub fn file(&mut self, path: &str, bytes: &[u8]) -> Result<(), BackupError> {
        if !tar::is_plain(path) || self.files.contains_key(path) {
            return Err(BackupError::Damaged(format!("{path} can't be put in")));
        }
        tar::put(&mut self.out, path, bytes)?;
        let listed = Listed {
            size: bytes.len() as u64,
            sha256: sha256(&[bytes]),
        };
        self.files.insert(path.to_owned(), listed);
        Ok(())
    }

    /// Puts in a zone's store, as its snapshot has it. Blocks on file writes: not for a serving task.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn zone(&mut self, zone: &str, mut dump: Dump) -> Result<(), BackupError> {
        let mut counts = BTreeMap::new();
        for table in dump.tables().to_vec() {
            let count = self.table(zone, &mut dump, &table).await?;
            counts.insert(table.name, count);
        }
        let listed = ZoneListed {
            system: dump.system().to_owned(),
            migrations: dump.migrations().to_vec(),
            rows: counts,
        };
        self.zones.insert(zone.to_owned(), listed);
        Ok(())
    }

    async fn table(
        &mut self,
        zone: &str,
        dump: &mut Dump,
        table: &Table,
    ) -> Result<u64, BackupError> {
        let (mut count, mut parts, mut last) = (0, 0, None::<Vec<_>>);
        let head = rows::head(table);
        let mut text = String::new();
        loop {
            let page = dump.page(table, last.as_deref()).await?;
            for row in &page {
                if text.is_empty() {
                    text = format!("{head}\n");
                }
                text += &rows::line(row);
                text.push('\n');
                count += 1;
                if text.len() >= PART {
                    self.part(zone, table, &mut parts, &mut text)?;
                }
            }
            if page.is_empty() && !text.is_empty() {
                self.part(zone, table, &mut parts, &mut text)?;
            }
            match page.into_iter().next_back() {
                Some(row) => last = Some(row),
                None => return Ok(count),
            }
        }
    }

    fn part(
        &mut self,
        zone: &str,
        table: &Table,
        parts: &mut u32,
        text: &mut String,
    ) -> Result<(), BackupError> {
        *parts += 1;
        let path = format!("{zone}/{}/{parts:06}.jsonl", table.name);
        self.file(&path, text.as_bytes())?;
        text.clear();
        Ok(())
    }

    /// Puts in the list of everything, signed, and ends the file.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn finish(
        mut self,
        made: UnixTime,
        authority: Authority,
        key: &SigningKey,
    ) -> Result<Made<W>, BackupError> {
        authority.check()?;
        let manifest = Manifest {
            schema: SCHEMA.to_owned(),
            made,
            zones: self.zones,
            files: self.files,
            authority,
        };
        let text = serde_json::to_vec(&manifest).unwrap_or_default();
        let name = sha256(&[&text]);
        let payload = serde_json::to_vec(&Signed { manifest: name }).unwrap_or_default();
        let signature = key.sign(TYP_BACKUP, &payload);
        let signature = signature.map_err(|e| BackupError::Damaged(e.to_string()))?;
        tar::put(&mut self.out, MANIFEST, &text)?;
        tar::put(&mut self.out, SIGNATURE, signature.as_bytes())?;
        tar::end(&mut self.out)?;
        Ok(Made {
            out: self.out.finish()?,
            name,
            manifest,
            signature,
        })
    }
}

#[cfg(test)]
mod tests {
    use core_types::random::SystemRandom;
    use store_kit::{Migration, Migrations, Store, StoreError, StoreUrl, sql, transaction};

    use super::*;
    use crate::Identity;

    const TABLES: &[Migrations] = &[Migrations {
        component: "notes",
        steps: &[Migration {
            name: "0001",
            sqlite: "CREATE TABLE note (n BIGINT PRIMARY KEY, sealed BLOB NOT NULL)",
            postgres: "",
        }],
    }];

    #[tokio::test]
    async fn large_rows_fill_many_files_and_none_of_them_grows_with_a_page() {
        let dir = tempfile::tempdir().unwrap();
        let url = StoreUrl::Sqlite(dir.path().join("sam.db"));
        let store = Store::open(&url, "sam", TABLES, &SystemRandom).await;
        let store = store.unwrap();
        let done: Result<(), StoreError> = transaction!(store, "put", |tx| {
            for n in 0..20_i64 {
                let insert = sql("INSERT INTO note (n, sealed) VALUES ($1, $2)").bind(n);
                tx.execute(insert.bind(vec![7_u8; 300_000])).await?;
            }
            Ok(())
        });
        done.unwrap();
        let recipient = Identity::generate().recipient();
        let mut writer = Writer::begin(&[recipient], Vec::new()).unwrap();
        let dump = Dump::open(&url, "sam").await.unwrap();
        writer.zone("sam", dump).await.unwrap();
        assert_eq!(writer.zones["sam"].rows["note"], 20);
        let sizes: Vec<u64> = writer.files.values().map(|f| f.size).collect();
        // 400,000 bytes each as text.
        assert_eq!(sizes.len(), 7);
        assert!(sizes.iter().all(|size| *size < 1_300_000), "{sizes:?}");
    }
}
