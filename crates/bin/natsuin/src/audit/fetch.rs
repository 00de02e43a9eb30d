//! `natsuin audit fetch`: an auditor takes a running zone's log from its listener; the directory is an export like any other. Nothing
//! of what comes is believed: `natsuin audit verify` judges it.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use audit_log::{Archived, Resource};
use serde_json::json;
use service_kit::daemon::TlsFiles;

use crate::output::{Exit, Failure, Out};

/// Entries of a bundle, and hashes of a tile.
const TILE: i64 = 256;
/// Longest answer in bytes: a bundle of 256 entries of 65,535 bytes with their lengths, and somewhat more.
const LONGEST: usize = 17 << 20;

/// Options of `natsuin audit fetch`.
#[derive(Debug, clap::Args)]
pub struct FetchArgs {
    /// A running zone's listener for auditors. Each bundle of entries that is read is an entry there.
    #[arg(long)]
    pub url: String,
    /// Your certificate (PEM), whose name the zone lists among its auditors.
    #[arg(long, value_name = "PEM")]
    pub cert: PathBuf,
    /// Its key (PEM).
    #[arg(long, value_name = "PEM")]
    pub cert_key: PathBuf,
    /// CA of the zones' certificates (PEM).
    #[arg(long, value_name = "PEM")]
    pub ca: PathBuf,
    /// Directory for this zone's log; it must be new.
    #[arg(long)]
    pub out: PathBuf,
}

/// Takes the log, as it is under its last checkpoint of now.
///
/// # Errors
/// [`Failure`] when the listener or the directory can't be used.
pub async fn run(args: FetchArgs, out: Out) -> Result<Exit, Failure> {
    let tls = TlsFiles {
        chain: args.cert,
        key: args.cert_key,
        ca: args.ca,
    };
    let log = Remote {
        url: args.url.trim_end_matches('/').to_owned(),
        client: service_kit::http::client(&tls.caller()?)?,
    };
    let dir = args.out.as_path();
    let parent = dir.parent().unwrap_or(dir);
    let made = fs::create_dir_all(parent).and_then(|()| fs::create_dir(dir));
    made.map_err(|e| unwritten(dir, &e))?;
    let archived = log.some("archived.json").await?;
    let ranges: Vec<Archived> = serde_json::from_slice(&archived).map_err(|_| log.other())?;
    let gone = ranges.iter().map(|range| range.size).max().unwrap_or(0);
    let (size, last) = checkpoints(&log, dir).await?;
    for resource in Resource::all(size) {
        let name = resource.to_string();
        let missing = match resource {
            Resource::Entries { n, .. } => i64::try_from(gone).is_ok_and(|g| (n + 1) * TILE <= g),
            _ => false,
        };
        match log.get(&name).await? {
            Some(bytes) => write(dir, &name, &bytes)?,
            // An archive has it.
            None if missing => {}
            None => return Err(log.changed()),
        }
    }
    write(dir, "log.pub", &log.some("log.pub").await?)?;
    if log.some("archived.json").await? != archived {
        return Err(log.changed());
    }
    if !ranges.is_empty() {
        write(dir, "archived.json", &archived)?;
    }
    // Last: whoever finds it finds everything that it covers.
    write(dir, "checkpoint", last.as_bytes())?;
    out.say(&format!("{size} entries in {}", dir.display()));
    out.object(&json!({"schema": "natsuin.audit-fetch/1", "ok": true, "entries": size}));
    Ok(Exit::Good)
}

/// Writes all checkpoints; the last one, and how many entries it covers.
async fn checkpoints(log: &Remote, dir: &Path) -> Result<(i64, String), Failure> {
    let path = dir.join("checkpoints.txt");
    let mut file = BufWriter::new(File::create(&path).map_err(|e| unwritten(&path, &e))?);
    let mut last = (0, String::new());
    loop {
        let page = log.some(&format!("checkpoints/{}", last.0)).await?;
        let notes: Vec<String> = serde_json::from_slice(&page).map_err(|_| log.other())?;
        if notes.is_empty() {
            break;
        }
        for note in notes {
            // Whoever tells the same ones for ever is left.
            let size = size_of(&note).filter(|size| *size > last.0);
            let size = size.ok_or_else(|| log.other())?;
            writeln!(file, "{note}").map_err(|e| unwritten(&path, &e))?;
            last = (size, note);
        }
    }
    file.flush().map_err(|e| unwritten(&path, &e))?;
    Ok(last)
}

/// How many entries a checkpoint says it covers: its second line.
fn size_of(note: &str) -> Option<i64> {
    note.lines().nth(1)?.parse().ok()
}

/// The listener for auditors of a zone.
struct Remote {
    url: String,
    client: reqwest::Client,
}

impl Remote {
    /// Something that every log has.
    async fn some(&self, name: &str) -> Result<Vec<u8>, Failure> {
        self.get(name).await?.ok_or_else(|| self.other())
    }

    /// A resource, if the log has it.
    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        let away = |e: reqwest::Error| {
            let todo = "check the address, that the zone runs, and the CA of its certificate";
            let what = format!("{} can't be reached: {e}", self.url);
            Failure::new(Exit::Unreachable, "unreachable", what, todo)
        };
        let sent = self.client.get(format!("{}/{name}", self.url)).send().await;
        let mut answer = sent.map_err(away)?;
        match answer.status().as_u16() {
            200 => {}
            404 => return Ok(None),
            403 => {
                let todo = "ask for your certificate's name in `auditors` of [audit.reading]";
                let what = format!("{} doesn't let you read", self.url);
                return Err(Failure::new(Exit::Input, "not-allowed", what, todo));
            }
            _ => return Err(self.other()),
        }
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(away)? {
            if body.len() + part.len() > LONGEST {
                return Err(self.other());
            }
            body.extend_from_slice(&part);
        }
        Ok(Some(body))
    }

    fn other(&self) -> Failure {
        let todo =
            "give the address of [audit.reading] of a zone; its journal says what is wrong there";
        let what = format!("{} answers something else than a log's listener", self.url);
        Failure::new(Exit::Unreachable, "unreachable", what, todo)
    }

    fn changed(&self) -> Failure {
        let todo = "fetch it again, into a new directory; if that goes on, export it at the zone's machine and verify that";
        let what = format!("the log at {} lacks what its checkpoint covers", self.url);
        Failure::new(Exit::Unreachable, "log-changed", what, todo)
    }
}

fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), Failure> {
    let path = dir.join(name);
    let folder = path.parent().unwrap_or(dir);
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(&path, bytes));
    written.map_err(|e| unwritten(&path, &e))
}

fn unwritten(path: &Path, error: &std::io::Error) -> Failure {
    let what = format!("{}: {error}", path.display());
    let todo = "name a directory that isn't there yet, on a disk with room";
    Failure::new(Exit::Input, "file", what, todo)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_says_its_size_in_its_second_line() {
        assert_eq!(size_of("log\n5\nROOT=\n\n\u{2014} log SIG=\n"), Some(5));
        for bad in ["", "log", "log\n-\nROOT=\n", "log\n99999999999999999999\n"] {
            assert_eq!(size_of(bad), None, "{bad}");
        }
    }
}
