//! Files on disk: a private directory for each document, written as the upload arrives.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use core_types::bytes::hex;
use tokio::io::{AsyncWriteExt as _, BufWriter};

use crate::SetupError;
use crate::problem::Problem;

/// Makes the directory of all documents, readable for this user alone, and empties it: what an earlier run left
/// belongs to sessions that are gone.
pub(crate) fn start(data_dir: &Path) -> Result<(), SetupError> {
    let make = || -> io::Result<()> {
        let jobs = data_dir.join("documents");
        if jobs.exists() {
            std::fs::remove_dir_all(&jobs)?;
        }
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&jobs)
    };
    make().map_err(|e| SetupError::DataDir {
        path: data_dir.display().to_string(),
        reason: e.to_string(),
    })
}

/// What is read from or written to the disk at once, in bytes: the network's own pieces are small, and each access is a
/// trip to another thread.
pub(crate) const PIECE: usize = 1 << 20;

/// A file that is being written, chunk by chunk. Its directory goes away unless it is finished.
pub(crate) struct Incoming {
    dir: PathBuf,
    file: BufWriter<tokio::fs::File>,
    context: aws_lc_rs::digest::Context,
    size: u64,
    limit: u64,
    keep: bool,
}

/// A file that arrived whole.
pub(crate) struct Stored {
    pub(crate) dir: PathBuf,
    pub(crate) size: u64,
    pub(crate) sha256: String,
}

impl Incoming {
    pub(crate) async fn create(data_dir: &Path, id: &str, limit: u64) -> Result<Self, Problem> {
        let dir = data_dir.join("documents").join(id);
        let make = || std::fs::DirBuilder::new().mode(0o700).create(&dir);
        make().map_err(|e| storage(&e))?;
        let mut options = tokio::fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let file = options
            .open(dir.join("original.pdf"))
            .await
            .map_err(|e| storage(&e))?;
        let context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        Ok(Self {
            dir,
            file: BufWriter::with_capacity(PIECE, file),
            context,
            size: 0,
            limit,
            keep: false,
        })
    }

    pub(crate) async fn write(&mut self, chunk: &[u8]) -> Result<(), Problem> {
        self.size = self.size.saturating_add(chunk.len() as u64);
        if self.size > self.limit {
            return Err(Problem::TOO_LARGE);
        }
        self.context.update(chunk);
        self.file.write_all(chunk).await.map_err(|e| storage(&e))
    }

    pub(crate) async fn finish(mut self) -> Result<Stored, Problem> {
        if self.size == 0 {
            return Err(Problem::NO_FILE);
        }
        self.file.flush().await.map_err(|e| storage(&e))?;
        self.keep = true;
        let sha256 = hex(self.context.clone().finish().as_ref());
        Ok(Stored {
            dir: self.dir.clone(),
            size: self.size,
            sha256,
        })
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.keep {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

fn storage(error: &io::Error) -> Problem {
    tracing::error!(%error, "an upload could not be stored");
    Problem::STORAGE
}

/// The file name without folders, at most 200 characters; characters are kept as they are.
pub(crate) fn file_name(given: &str) -> String {
    let last = given.rsplit(['/', '\\']).next().unwrap_or_default().trim();
    let name: String = last.chars().filter(|c| !c.is_control()).collect();
    if matches!(name.as_str(), "" | "." | "..") {
        "document.pdf".to_owned()
    } else {
        web_ui::middle(&name, 200)
    }
}

/// `Content-Disposition` with the name in UTF-8 (RFC 6266 §4.3).
pub(crate) fn disposition(kind: &str, name: &str) -> String {
    let mut encoded = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    format!("{kind}; filename*=UTF-8''{encoded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_their_folders_and_nothing_else() {
        assert_eq!(file_name("C:\\x\\契約書.pdf"), "契約書.pdf");
        assert_eq!(file_name("../../etc/passwd"), "passwd");
        for none in ["", "..", "a/", "\u{0}"] {
            assert_eq!(file_name(none), "document.pdf", "{none:?}");
        }
        assert_eq!(file_name(&"あ".repeat(300)).chars().count(), 200);
    }

    #[test]
    fn a_name_can_not_leave_its_header() {
        assert_eq!(
            disposition("attachment", "a\"\r\nX: 契.pdf"),
            "attachment; filename*=UTF-8''a%22%0D%0AX%3A%20%E5%A5%91.pdf"
        );
    }

    #[tokio::test]
    async fn an_upload_is_measured_limited_and_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = tempfile::tempdir().unwrap();
        start(root.path()).unwrap();
        let mut small = Incoming::create(root.path(), "a", 4).await.unwrap();
        small.write(b"ab").await.unwrap();
        small.write(b"c").await.unwrap();
        let stored = small.finish().await.unwrap();
        assert_eq!(stored.size, 3);
        assert_eq!(stored.sha256, hex(core_types::sha256(&[b"abc"])));
        let mode = std::fs::metadata(stored.dir.join("original.pdf"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);

        let mut large = Incoming::create(root.path(), "b", 4).await.unwrap();
        assert_eq!(large.write(b"abcde").await, Err(Problem::TOO_LARGE));
        drop(large);
        assert!(
            !root.path().join("documents/b").exists(),
            "nothing stays of a refused upload"
        );

        start(root.path()).unwrap();
        assert!(
            !root.path().join("documents/a").exists(),
            "an earlier run leaves nothing"
        );
    }
}
