//! Addresses of stores on the command line, which everybody on the machine can read.

use std::path::Path;

use serde::Deserialize;
use service_kit::daemon;
use store_kit::StoreUrl;

use crate::output::{Exit, Failure};
use crate::stack::StoreChoice;

/// Of a zone's configuration only this.
#[derive(Deserialize)]
struct Zone {
    store: String,
}

/// The address that a word gives: itself, or `@FILE` for the one in a file, which is a zone's configuration or holds the address
/// alone.
///
/// # Errors
/// [`Failure`] for an address with a password, and for a file that has none.
pub(crate) fn address(word: &str) -> Result<String, Failure> {
    let Some(file) = word.strip_prefix('@') else {
        if StoreUrl::parse(word).is_ok_and(|url| url.has_password()) {
            return Err(Failure::new(
                Exit::Input,
                "store-password",
                "while a command runs, everybody on the machine can read a password on its line",
                "give @FILE instead: the zone's configuration, or a file of yours with the address",
            ));
        }
        return Ok(word.to_owned());
    };
    let path = Path::new(file);
    let text = daemon::text(path)?;
    if StoreUrl::parse(text.trim()).is_ok() {
        return Ok(text.trim().to_owned());
    }
    // What the reader says of a bad file would show lines of it.
    let zone: Result<Zone, _> = daemon::load(path);
    let zone = zone.map_err(|_| {
        Failure::new(
            Exit::Input,
            "store",
            format!("{file} names no store"),
            "name a zone's configuration with its `store`, or a file that holds the address alone",
        )
    })?;
    Ok(daemon::kept_apart(&zone.store)?)
}

/// The zone's configuration that a word names, where it isn't the address alone.
///
/// # Errors
/// [`Failure`] for a file that can't be read.
pub(crate) fn settings(word: &str) -> Result<Option<&Path>, Failure> {
    let Some(path) = word.strip_prefix('@').map(Path::new) else {
        return Ok(None);
    };
    let alone = StoreUrl::parse(daemon::text(path)?.trim()).is_ok();
    Ok((!alone).then_some(path))
}

/// Where a stack keeps its rows, as a word says it; without one in its own directory.
///
/// # Errors
/// As [`address`].
pub(crate) fn choice(word: Option<&str>) -> Result<StoreChoice, Failure> {
    Ok(match word {
        Some(word) => StoreChoice::Postgres(address(word)?),
        None => StoreChoice::Embedded,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // shows: III-3-1-no-plaintext-private-key, T-INS-OPERATOR
    #[test]
    fn a_password_comes_from_a_file_and_from_no_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            format!("@{}", path.display())
        };
        let secret = "postgres://sam:hunter2@localhost/natsuin";
        for word in [secret, "postgres://sam@localhost/n?password=hunter2"] {
            let refused = address(word).unwrap_err().trouble;
            assert_eq!(refused.code, "store-password");
            assert!(!format!("{refused:?}").contains("hunter2"));
        }
        let config = format!("node = \"sam-1\"\nstore = \"{secret}\"\n[policy]\nversion = 1\n");
        for word in [
            file("sam.toml", &config),
            file("url", &format!("{secret}\n")),
        ] {
            assert_eq!(address(&word).unwrap(), secret);
        }
        let apart = file(
            "apart.toml",
            &format!("store = \"{}\"\n", file("url", secret)),
        );
        assert_eq!(address(&apart).unwrap(), secret);
        for word in [
            "sqlite:/var/lib/natsuin/sam/sam.db",
            "postgres://sam@localhost/n",
        ] {
            assert_eq!(address(word).unwrap(), word);
        }
        let broken = file("broken", &format!("stroe = \"{secret}\"\n"));
        let refused = address(&broken).unwrap_err().trouble;
        assert!(!format!("{refused:?}").contains("hunter2"), "{refused:?}");
        assert!(address("@/nowhere").is_err());
    }
}
