//! SoftHSM2 (from Debian) and Kryoptic (built by `cargo xtask tools`) as tokens for tests. They read their configuration from
//! the environment once a process, so that a test that wants a token starts itself again with [`SoftHsm::child`].

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::control::{CONTROL, MODULE};

/// Variable with the path of Kryoptic's library, where it isn't below the target directory.
const KRYOPTIC: &str = "NATSUIN_KRYOPTIC";
/// Variable that tells a test that it is the child, and which library to use.
const LIBRARY: &str = "NATSUIN_TOKEN_LIBRARY";

/// The implementations of PKCS#11 that the tests run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// SoftHSM2.
    SoftHsm2,
    /// Kryoptic.
    Kryoptic,
}

impl Library {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::SoftHsm2, Self::Kryoptic];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::SoftHsm2 => "SoftHSM2",
            Self::Kryoptic => "Kryoptic",
        }
    }

    /// Whether it wraps keys for us (RFC 5649) as it is. Kryoptic knows that mechanism only as `CKM_AES_KEY_WRAP_KWP` of
    /// PKCS#11 3.0, which the binding in use (`cryptoki` 0.12) can't name.
    pub fn wraps(self) -> bool {
        self == Self::SoftHsm2
    }

    /// The library as one that wraps: behind the module of this crate where it has the mechanism under the newer name only.
    ///
    /// # Errors
    /// What to do when it isn't there.
    pub fn wrapping_path(self) -> Result<PathBuf, String> {
        match self.wraps() {
            true => self.path(),
            false => faulty(),
        }
    }

    /// Where it is.
    ///
    /// # Errors
    /// What to do when it isn't there.
    pub fn path(self) -> Result<PathBuf, String> {
        let found = match self {
            Self::SoftHsm2 => library(),
            Self::Kryoptic => kryoptic(),
        };
        found.ok_or_else(|| {
            format!(
                "{} isn't there; `cargo xtask tools` installs what tests need",
                self.name()
            )
        })
    }
}

/// The module of this crate, which Cargo puts beside the test program. A child's environment names what it forwards to.
///
/// # Errors
/// It isn't there.
pub fn faulty() -> Result<PathBuf, String> {
    let beside = std::env::current_exe().map_err(|e| e.to_string())?;
    let module = beside.with_file_name("libpkcs11_faults.so");
    match module.exists() {
        true => Ok(module),
        false => Err(format!("{} wasn't built", module.display())),
    }
}

/// The library that a child has to use; nothing in a process that is no child.
pub fn childs_library() -> Option<Library> {
    let name = std::env::var(LIBRARY).ok()?;
    Library::ALL.into_iter().find(|l| l.name() == name)
}

/// SoftHSM2's library, where Debian puts it.
fn library() -> Option<PathBuf> {
    let places = [
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    ];
    places.iter().map(PathBuf::from).find(|p| p.exists())
}

/// Kryoptic's, where `cargo xtask tools` puts it: in the target directory, in which this program lies too.
fn kryoptic() -> Option<PathBuf> {
    let named = std::env::var_os(KRYOPTIC).map(PathBuf::from);
    let program = std::env::current_exe().unwrap_or_default();
    let built = program
        .ancestors()
        .map(|dir| dir.join("test-tools/kryoptic/libkryoptic_pkcs11.so"));
    named.into_iter().chain(built).find(|p| p.exists())
}

/// Runs the test of this name again, in a process with a new token of this library; answers what it printed.
///
/// # Errors
/// The library is missing, or the test failed in the child: what it printed.
pub fn run_again(test: &str, library: Library) -> Result<String, String> {
    let trouble = |e: std::io::Error| format!("{test} on {}: {e}", library.name());
    let token = SoftHsm::new().map_err(trouble)?;
    let mut child = token.child(test, library)?;
    let said = child.output().map_err(trouble)?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    if said.status.success() && text.contains("1 passed") {
        return Ok(text);
    }
    let errors = String::from_utf8_lossy(&said.stderr);
    Err(format!("{test} on {}: {text}{errors}", library.name()))
}

/// Tests `NAME::softhsm2` and `NAME::kryoptic` beside a test `NAME`: the same on a token of each library, in a process of its
/// own. `NAME::ON_TOKENS` shows that they are there. `on_tokens!(kryoptic: NAME)`: for a `NAME` that is on SoftHSM2 itself.
#[macro_export]
macro_rules! on_tokens {
    (kryoptic: $($test:ident),+ $(,)?) => {$(
        mod $test {
            #[test]
            fn kryoptic() {
                $crate::softhsm::must_pass(module_path!(), $crate::softhsm::Library::Kryoptic);
            }
        }
    )+};
    ($($test:ident),+ $(,)?) => {$(
        mod $test {
            /// That this test is run on tokens too.
            pub const ON_TOKENS: $crate::softhsm::OnTokens = $crate::softhsm::OnTokens(());

            #[test]
            fn softhsm2() {
                $crate::softhsm::must_pass(module_path!(), $crate::softhsm::Library::SoftHsm2);
            }

            #[test]
            fn kryoptic() {
                $crate::softhsm::must_pass(module_path!(), $crate::softhsm::Library::Kryoptic);
            }
        }
    )+};
}

/// [`run_again`] for the test that is called as this module is, and a panic with what it printed if it fails.
///
/// # Panics
/// When the test fails, or the library is missing.
#[expect(clippy::print_stdout, reason = "what a drill measured")]
pub fn must_pass(module: &str, library: Library) {
    let test = module.split_once("::").map_or(module, |(_, inner)| inner);
    let ran = run_again(test, library);
    let said = ran.unwrap_or_else(|said| panic!("{said}"));
    for line in said.lines().filter(|line| line.starts_with("drill")) {
        println!("{} {line}", library.name());
    }
}

/// Made by [`on_tokens`](crate::on_tokens) for a test that runs on tokens too.
#[derive(Debug, Clone, Copy)]
pub struct OnTokens(#[doc(hidden)] pub ());

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
        std::fs::write(dir.path().join("faults"), "")?;
        Ok(Self { dir })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Bytes of all its files.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn bytes(&self) -> std::io::Result<u64> {
        bytes(self.path())
    }

    /// This test program again, for the one test of this name, with this library and the token's configuration.
    ///
    /// # Errors
    /// The library is missing, or the program's own path isn't known.
    pub fn child(&self, test: &str, library: Library) -> Result<Command, String> {
        let program = std::env::current_exe().map_err(|e| e.to_string())?;
        let mut command = Command::new(program);
        command
            .args(["--exact", test, "--nocapture"])
            .env(LIBRARY, library.name())
            .env(MODULE, library.path()?)
            .env(CONTROL, self.path().join("faults"));
        self.configure(&mut command);
        Ok(command)
    }

    /// Gives a program the token's configuration.
    pub fn configure(&self, command: &mut Command) {
        command
            .env("SOFTHSM2_CONF", self.path().join("softhsm2.conf"))
            .env("KRYOPTIC_CONF", self.path().join("kryoptic.conf"));
    }
}

fn bytes(dir: &Path) -> std::io::Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let told = entry.metadata()?;
        sum += if told.is_dir() {
            bytes(&entry.path())?
        } else {
            told.len()
        };
    }
    Ok(sum)
}
