//! SoftHSM2 (from Debian) as a token for tests, and Kryoptic where [`KRYOPTIC`] names its library. They read their
//! configuration from the environment once a process, so that a test that wants a token starts itself again with
//! [`SoftHsm::child`].

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Variable that tells a test that it is the child.
pub const CHILD: &str = "NATSUIN_TOKEN_TEST";

/// Variable with the path of Kryoptic's library: another implementation of PKCS#11, which isn't in Debian.
pub const KRYOPTIC: &str = "NATSUIN_KRYOPTIC";
/// Variable that tells a child which library to use.
const LIBRARY: &str = "NATSUIN_TOKEN_LIBRARY";

/// The libraries there are, by name.
pub fn libraries() -> Vec<(&'static str, PathBuf)> {
    let kryoptic = std::env::var_os(KRYOPTIC).map(|path| ("Kryoptic", PathBuf::from(path)));
    library()
        .map(|path| ("SoftHSM2", path))
        .into_iter()
        .chain(kryoptic)
        .collect()
}

/// The library that a child has to use.
pub fn childs_library() -> Option<PathBuf> {
    std::env::var_os(LIBRARY).map(PathBuf::from)
}

/// SoftHSM2's library, where Debian puts it.
pub fn library() -> Option<PathBuf> {
    let places = [
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    ];
    places.iter().map(PathBuf::from).find(|p| p.exists())
}

/// Whether this process is the child of a test, with a token of its own.
pub fn in_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// A directory for tokens, empty at first.
pub struct SoftHsm {
    dir: TempDir,
}

impl SoftHsm {
    /// Makes the directory and its configuration.
    ///
    /// # Errors
    /// When the directory can't be written.
    pub fn new() -> std::io::Result<Self> {
        let dir = tempfile::Builder::new().prefix("natsuin-token").tempdir()?;
        let tokens = dir.path().join("tokens");
        std::fs::create_dir(&tokens)?;
        let text = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            tokens.display()
        );
        std::fs::write(dir.path().join("softhsm2.conf"), text)?;
        let text = format!(
            "[[slots]]\nslot = 1\ndbtype = \"sqlite\"\ndbargs = \"{}/kryoptic.sql\"\n",
            dir.path().display()
        );
        std::fs::write(dir.path().join("kryoptic.conf"), text)?;
        Ok(Self { dir })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// This test program again, for the one test of this name, with this library and the token's configuration.
    ///
    /// # Errors
    /// When the program's own path isn't known.
    pub fn child(&self, test: &str, library: &Path) -> std::io::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["--exact", test, "--nocapture"])
            .env("SOFTHSM2_CONF", self.path().join("softhsm2.conf"))
            .env("KRYOPTIC_CONF", self.path().join("kryoptic.conf"))
            .env(LIBRARY, library)
            .env(CHILD, self.path());
        Ok(command)
    }
}
