//! The daemon's protection of itself (`III-3-12-protect-security-functions`, `III-3-13-detect-software`): nothing of its memory
//! goes to a file, and program, configuration and the libraries that get a PIN are what they were when it started. What a library
//! loads itself isn't looked at.
//!
//! What can't be had without unsafe code: wiping what the compiler spills to stack and registers, and keys inside the
//! cryptographic library apart from its own wiping. What no program can have: protection from whoever is root.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use cm_core::{OwnFiles, RunsAs};
use core_types::Digest32;
use service_kit::Trouble;

/// Files as they were at the start.
pub(crate) struct Own {
    program: PathBuf,
    config: PathBuf,
    libraries: Vec<PathBuf>,
    seen: Seen,
}

#[derive(PartialEq, Eq)]
struct Seen {
    program: Digest32,
    config: Digest32,
    /// In the order of the configuration; nothing for one that isn't there, with which nothing starts.
    libraries: Vec<Option<Digest32>>,
}

impl Seen {
    fn look(program: &Path, config: &Path, libraries: &[PathBuf]) -> Result<Self, Trouble> {
        Ok(Self {
            program: digest(program)?,
            config: digest(config)?,
            libraries: libraries.iter().map(|path| digest(path).ok()).collect(),
        })
    }
}

impl Own {
    /// Takes their digests. `expected`: SHA-256 of the program as the operator has it from the release, hexadecimal.
    ///
    /// # Errors
    /// [`Trouble`] `integrity` when the program is another one.
    pub(crate) fn look(
        config: &Path,
        libraries: Vec<PathBuf>,
        expected: Option<&str>,
    ) -> Result<Self, Trouble> {
        let remedy = "install the release again and compare its digest";
        let program = std::env::current_exe()
            .map_err(|e| Trouble::new("integrity", e.to_string(), remedy))?;
        let seen = Seen::look(&program, config, &libraries)?;
        let running = digest(Path::new("/proc/self/exe"))?;
        let hex = core_types::bytes::hex(running.0);
        let other = expected.is_some_and(|e| !e.trim().eq_ignore_ascii_case(&hex));
        if other || running != seen.program {
            let what = format!("this program's SHA-256 is {hex}, which isn't the expected one");
            return Err(Trouble::new("integrity", what, remedy));
        }
        Ok(Self {
            program,
            config: config.to_owned(),
            libraries,
            seen,
        })
    }

    /// For the audit log.
    pub(crate) fn runs_as(&self) -> RunsAs {
        let all = self.seen.libraries.iter().flatten();
        let all: Vec<&[u8]> = all.map(|digest| digest.0.as_slice()).collect();
        RunsAs {
            program: self.seen.program,
            configuration: self.seen.config,
            library: match self.seen.libraries.as_slice() {
                [] => None,
                [one] => *one,
                _ => Some(core_types::sha256(&all)),
            },
        }
    }
}

impl OwnFiles for Own {
    fn unchanged(&self) -> bool {
        let now = Seen::look(&self.program, &self.config, &self.libraries);
        now.is_ok_and(|now| now == self.seen)
    }
}

fn digest(path: &Path) -> Result<Digest32, Trouble> {
    let trouble = |e: std::io::Error| {
        let what = format!("{}: {e}", path.display());
        Trouble::new(
            "integrity",
            what,
            "check that the daemon may read its program and configuration",
        )
    };
    let mut file = File::open(path).map_err(trouble)?;
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let mut chunk = vec![0; 1 << 16];
    loop {
        match file.read(&mut chunk).map_err(trouble)? {
            0 => break,
            n => context.update(&chunk[..n]),
        }
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    Ok(Digest32(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    // shows: III-3-12-protect-security-functions, III-3-13-detect-software, T-KEY-MALFUNCTION
    #[test]
    fn another_program_configuration_or_library_is_seen() {
        let config = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(config.path(), "a = 1\n").unwrap();
        let look = |expected| Own::look(config.path(), Vec::new(), expected);
        let own = look(None).unwrap();
        assert!(own.unchanged());
        let program = std::env::current_exe().unwrap();
        let right = core_types::bytes::hex(digest(&program).unwrap().0);
        assert!(look(Some(&right)).is_ok());
        let other = right.replace(|c: char| c.is_ascii_digit(), "f");
        assert!(look(Some(&other)).is_err());
        std::fs::write(config.path(), "a = 2\n").unwrap();
        assert!(!own.unchanged());
        std::fs::remove_file(config.path()).unwrap();
        assert!(!own.unchanged(), "gone");
    }

    // shows: III-3-12-protect-security-functions, III-3-13-detect-software, T-KEY-DISCLOSE
    #[test]
    fn the_libraries_that_get_a_pin_are_watched_and_named_in_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let [config, one, two] = ["cm.toml", "one.so", "two.so"].map(|name| {
            let path = dir.path().join(name);
            std::fs::write(&path, name).unwrap();
            path
        });
        let look = |libraries: &[&PathBuf]| {
            let libraries = libraries.iter().map(|path| (*path).clone()).collect();
            Own::look(&config, libraries, None).unwrap()
        };
        assert_eq!(look(&[]).runs_as().library, None);
        let own = look(&[&one]);
        let alone = own.runs_as().library;
        assert_eq!(alone, Some(digest(&one).unwrap()), "as its maker says it");
        let both = look(&[&one, &two]);
        assert_ne!(both.runs_as().library, alone);
        assert!(own.unchanged() && both.unchanged());
        std::fs::write(&two, "another").unwrap();
        assert!(own.unchanged() && !both.unchanged());
        std::fs::remove_file(&one).unwrap();
        assert!(!own.unchanged(), "gone");
        assert_eq!(look(&[&one]).runs_as().library, None, "it isn't there");
    }
}
