//! The daemon's protection of itself (`III-3-12-protect-security-functions`, `III-3-13-detect-software`): nothing of its memory
//! goes to a file, and program and configuration are what they were when it started.
//!
//! What can't be had without unsafe code: wiping what the compiler spills to stack and registers, and keys inside the
//! cryptographic library apart from its own wiping. What no program can have: protection from whoever is root.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use core_types::Digest32;
use service_kit::Trouble;

/// Program and configuration as they were at the start.
pub(crate) struct Own {
    program: PathBuf,
    config: PathBuf,
    seen: (Digest32, Digest32),
}

impl Own {
    /// Takes their digests. `expected`: SHA-256 of the program as the operator has it from the release, hexadecimal.
    ///
    /// # Errors
    /// [`Trouble`] `integrity` when the program is another one.
    pub(crate) fn look(config: &Path, expected: Option<&str>) -> Result<Self, Trouble> {
        let remedy = "install the release again and compare its digest";
        let program = std::env::current_exe()
            .map_err(|e| Trouble::new("integrity", e.to_string(), remedy))?;
        let seen = (digest(&program)?, digest(config)?);
        let running = digest(Path::new("/proc/self/exe"))?;
        let hex = core_types::bytes::hex(running.0);
        let other = expected.is_some_and(|e| !e.trim().eq_ignore_ascii_case(&hex));
        if other || running != seen.0 {
            let what = format!("this program's SHA-256 is {hex}, which isn't the expected one");
            return Err(Trouble::new("integrity", what, remedy));
        }
        Ok(Self {
            program,
            config: config.to_owned(),
            seen,
        })
    }

    /// Digest of both, for the audit log.
    pub(crate) fn settings(&self) -> Digest32 {
        core_types::sha256(&[&self.seen.0.0, &self.seen.1.0])
    }

    /// Whether they are still the same.
    pub(crate) fn unchanged(&self) -> bool {
        let now = digest(&self.program).and_then(|program| Ok((program, digest(&self.config)?)));
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
    fn another_program_or_configuration_is_seen() {
        let config = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(config.path(), "a = 1\n").unwrap();
        let own = Own::look(config.path(), None).unwrap();
        assert!(own.unchanged());
        let program = std::env::current_exe().unwrap();
        let right = core_types::bytes::hex(digest(&program).unwrap().0);
        assert!(Own::look(config.path(), Some(&right)).is_ok());
        let other = right.replace(|c: char| c.is_ascii_digit(), "f");
        assert!(Own::look(config.path(), Some(&other)).is_err());
        std::fs::write(config.path(), "a = 2\n").unwrap();
        assert!(!own.unchanged());
        std::fs::remove_file(config.path()).unwrap();
        assert!(!own.unchanged(), "gone");
    }
}
