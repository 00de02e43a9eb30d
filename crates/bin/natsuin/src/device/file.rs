//! The file of a device key: the key sealed under a passphrase, and what is believed about the service, bound to it.
//!
//! The passphrase isn't the PIN: whoever has the file can try passphrases as long as they like, and would find the PIN with one.
//! The PIN is judged by the service alone, which counts.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use core_types::{B64, Random, SecretBytes};
use jose::{Jwk, SigningKey};
use serde::{Deserialize, Serialize};

use crate::output::{Exit, Failure};

/// Memory of Argon2id in KiB: a guess costs what few machines have much of.
const MEMORY_KIB: u32 = 64 * 1024;
/// Passes of Argon2id.
const PASSES: u32 = 3;
const SALT: usize = 16;
/// Longest file that is looked at.
const LONGEST: u64 = 16 * 1024;

/// What everybody may read of the file. Its bytes are bound to the sealed key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    format: Format,
    /// Origin of the approval page.
    pub sic: String,
    /// Root key of the service's module.
    pub root: Jwk,
    /// Public half of the device key.
    pub key: Jwk,
    salt: B64,
    memory_kib: u32,
    passes: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Format {
    #[serde(rename = "natsuin-device/1")]
    One,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    about: About,
    sealed: B64,
}

/// Makes a device key and its file, which must not be there yet.
///
/// # Errors
/// [`Failure`].
pub fn make(
    path: &Path,
    (sic, root): (String, Jwk),
    passphrase: &SecretBytes,
    random: &dyn Random,
) -> Result<About, Failure> {
    let (key, pkcs8) = SigningKey::generate().map_err(|e| broken(path, &e))?;
    let mut salt = vec![0; SALT];
    random.fill(&mut salt);
    let about = About {
        format: Format::One,
        sic,
        root,
        key: key.public().clone(),
        salt: B64(salt),
        memory_kib: MEMORY_KIB,
        passes: PASSES,
    };
    let mut sealed = pkcs8.expose().to_vec();
    let mut nonce = [0; NONCE_LEN];
    random.fill(&mut nonce);
    let aad = bound(path, &about)?;
    cipher(path, &about, passphrase)?
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(aad),
            &mut sealed,
        )
        .map_err(|e| broken(path, &e))?;
    let stored = Stored {
        about: about.clone(),
        sealed: B64([&nonce[..], &sealed].concat()),
    };
    let text = serde_json::to_string_pretty(&stored).map_err(|e| broken(path, &e))?;
    let remedy = "name a file that isn't there yet, on a disk that you can write";
    let made = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
    made.map_err(|e| failed(path, &e, remedy))?;
    Ok(about)
}

/// What the file says without its passphrase.
///
/// # Errors
/// [`Failure`].
pub fn about(path: &Path) -> Result<About, Failure> {
    Ok(read(path)?.about)
}

/// Opens the key. That it fits says that the rest of the file is what was written with it.
///
/// # Errors
/// [`Failure`].
pub fn open(path: &Path, passphrase: &SecretBytes) -> Result<(SigningKey, About), Failure> {
    let Stored { about, sealed } = read(path)?;
    let wrong = || {
        failed(
            path,
            &"the passphrase is wrong, or the file was changed",
            "try the passphrase again, or take the file from a copy",
        )
    };
    let (nonce, sealed) = sealed
        .0
        .split_first_chunk::<NONCE_LEN>()
        .ok_or_else(wrong)?;
    let mut plain = zeroize::Zeroizing::new(sealed.to_vec());
    let aad = bound(path, &about)?;
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let opened = cipher(path, &about, passphrase)?
        .open_in_place(nonce, Aad::from(aad), &mut plain)
        .map_err(|_| wrong())?;
    let key = SigningKey::from_pkcs8(&SecretBytes::new(opened.to_vec())).map_err(|_| wrong())?;
    match *key.public() == about.key {
        true => Ok((key, about)),
        false => Err(wrong()),
    }
}

fn bound(path: &Path, about: &About) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(about).map_err(|e| broken(path, &e))
}

fn cipher(path: &Path, about: &About, passphrase: &SecretBytes) -> Result<LessSafeKey, Failure> {
    // A file that asks for next to nothing, or for all memory, isn't one that was made here.
    let usual =
        about.memory_kib == MEMORY_KIB && about.passes == PASSES && about.salt.0.len() == SALT;
    let params = Params::new(about.memory_kib, about.passes, 1, Some(32)).ok();
    let params = params.filter(|_| usual);
    let params = params.ok_or_else(|| broken(path, &"unusual parameters"))?;
    let mut key = zeroize::Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.expose(), &about.salt.0, &mut *key)
        .map_err(|e| broken(path, &e))?;
    let key = UnboundKey::new(&AES_256_GCM, &*key).map_err(|e| broken(path, &e))?;
    Ok(LessSafeKey::new(key))
}

fn read(path: &Path) -> Result<Stored, Failure> {
    let text = own_text(path)?;
    let text = std::str::from_utf8(text.expose()).unwrap_or_default();
    serde_json::from_str(text).map_err(|e| broken(path, &e))
}

/// The content of a file that nobody but its owner may read. Judged on the open file, so that it can't be exchanged meanwhile.
///
/// # Errors
/// [`Failure`].
pub fn own_text(path: &Path) -> Result<SecretBytes, Failure> {
    let opened = fs::File::open(path).and_then(|file| Ok((file.metadata()?, file)));
    let (facts, mut file) = opened.map_err(|e| failed(path, &e, "check the path"))?;
    if facts.permissions().mode() & 0o077 != 0 {
        let remedy = "make it yours alone: chmod 600 FILE; who could read it may have copied it";
        return Err(failed(path, &"others may read or write this file", remedy));
    }
    if !facts.is_file() || facts.len() > LONGEST {
        return Err(failed(
            path,
            &"it isn't a file of this kind",
            "check the path",
        ));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(LONGEST).unwrap_or_default());
    file.read_to_end(&mut bytes)
        .map_err(|e| failed(path, &e, "check the path"))?;
    Ok(SecretBytes::new(bytes))
}

fn broken(path: &Path, what: &dyn std::fmt::Display) -> Failure {
    failed(path, what, "give the file that `natsuin device enrol` made")
}

fn failed(path: &Path, what: &dyn std::fmt::Display, remedy: &'static str) -> Failure {
    let what = format!("{}: {what}", path.display());
    Failure::new(Exit::Input, "device-file", what, remedy)
}

#[cfg(test)]
mod tests {
    use core_types::random::SystemRandom;

    use super::*;

    fn passphrase(text: &str) -> SecretBytes {
        SecretBytes::from(text.to_owned())
    }

    // shows: T-USE-CAPTURE
    #[test]
    fn the_key_opens_with_its_passphrase_for_its_owner_and_only_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("device.json");
        let root = SigningKey::generate().unwrap().0.public().clone();
        let of = ("https://sign.example".to_owned(), root.clone());
        let good = passphrase("seven grey herons");
        let made = make(&path, of.clone(), &good, &SystemRandom).unwrap();
        assert!(
            make(&path, of, &good, &SystemRandom).is_err(),
            "written over"
        );
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let (key, about) = open(&path, &good).unwrap();
        assert_eq!((key.public(), &about), (&made.key, &made));
        assert!(open(&path, &passphrase("seven grey heronS")).is_err());

        // Another root, page, key, cheaper guesses, a bit in the sealed key: the file isn't believed.
        let text = fs::read_to_string(&path).unwrap();
        let other = SigningKey::generate().unwrap().0.public().clone();
        type Change = fn(&mut serde_json::Value, &Jwk);
        let changes: [Change; 6] = [
            |f, other| f["about"]["root"] = serde_json::to_value(other).unwrap(),
            |f, _| f["about"]["sic"] = "https://evil.example".into(),
            |f, other| f["about"]["key"] = serde_json::to_value(other).unwrap(),
            |f, _| f["about"]["passes"] = 1.into(),
            |f, _| f["about"]["memory_kib"] = u32::MAX.into(),
            |f, _| {
                let sealed = f["sealed"].as_str().unwrap().to_owned();
                let first = if sealed.starts_with('A') { "B" } else { "A" };
                f["sealed"] = format!("{first}{}", &sealed[1..]).into();
            },
        ];
        for (n, change) in changes.into_iter().enumerate() {
            let mut file: serde_json::Value = serde_json::from_str(&text).unwrap();
            change(&mut file, &other);
            fs::write(&path, file.to_string()).unwrap();
            assert!(open(&path, &good).is_err(), "change {n}");
        }
        fs::write(&path, &text).unwrap();
        assert!(open(&path, &good).is_ok());
        for mode in [0o640, 0o604, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(open(&path, &good).is_err() && super::about(&path).is_err());
        }
    }
}
