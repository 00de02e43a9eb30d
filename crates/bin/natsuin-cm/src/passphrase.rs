//! The root secret's file, sealed with a passphrase or not. The passphrase is for machines that can't seal it themselves, such as a
//! developer's: somebody has to give it at every start. Elsewhere the service manager hands the open file over (TPM,
//! systemd-creds), so that a restart needs nobody.

use std::fs;
use std::num::NonZeroU32;
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::pbkdf2::{PBKDF2_HMAC_SHA512, derive};
use core_types::{Random, SecretBytes};
use service_kit::{Trouble, daemon};
use zeroize::Zeroizing;

use crate::admin::trouble;

/// First line of a sealed file.
const MAGIC: &[u8] = b"natsuin-root-v1\n";
const SALT: usize = 16;
const NONCE: usize = 12;
/// About half a second; a passphrase is tried once at a start, and by a thief as often as he likes.
const ROUNDS: NonZeroU32 = NonZeroU32::new(600_000).unwrap();
/// Fewest characters of a passphrase.
const SHORTEST: usize = 15;

/// Reads the root secret; a sealed one with the passphrase in the first line of `passphrase`.
///
/// # Errors
/// [`Trouble`]: no such file, no passphrase, a wrong one.
pub(crate) fn read(path: &Path, passphrase: Option<&Path>) -> Result<SecretBytes, Trouble> {
    // Once, and into bytes that are wiped: what isn't sealed is the secret itself.
    let read = daemon::secret(path)?;
    let Some(sealed) = read.expose().strip_prefix(MAGIC) else {
        return daemon::of_32(path, read);
    };
    let Some(given) = passphrase else {
        return Err(trouble(
            "root-secret",
            format!("{} is sealed with a passphrase", path.display()),
            "name a file or pipe with it: --passphrase-file",
        ));
    };
    open(sealed, &line(given)?).ok_or_else(|| {
        trouble(
            "root-secret",
            format!(
                "{} doesn't open: wrong passphrase, or an altered file",
                path.display()
            ),
            "give the passphrase that sealed it; nothing was changed",
        )
    })
}

/// Seals the file of an open root secret in its place.
///
/// # Errors
/// [`Trouble`]: sealed already, no passphrase of 15 characters, files.
pub(crate) fn seal(
    path: &Path,
    passphrase: Option<&Path>,
    random: &dyn Random,
) -> Result<String, Trouble> {
    let secret = daemon::secret32(path)?;
    let given = passphrase.map(line).transpose()?;
    let long = |text: &SecretBytes| {
        std::str::from_utf8(text.expose()).is_ok_and(|t| t.chars().count() >= SHORTEST)
    };
    let Some(given) = given.filter(long) else {
        return Err(trouble(
            "root-secret",
            format!("a passphrase has {SHORTEST} characters at least"),
            "put one into a file or pipe and name it: --passphrase-file",
        ));
    };
    let mut head = [0; SALT + NONCE];
    random.fill(&mut head);
    let mut body = Zeroizing::new(secret.expose().to_vec());
    let key = key(&given, &head[..SALT]);
    let tag = key.and_then(|key| {
        let nonce = Nonce::try_assume_unique_for_key(&head[SALT..]).ok()?;
        key.seal_in_place_separate_tag(nonce, Aad::from(MAGIC), &mut body)
            .ok()
    });
    let tag = tag.ok_or_else(|| trouble("root-secret", "it can't be sealed", "report this"))?;
    let beside = path.with_extension("sealed");
    let sealed = [MAGIC, &head, &body, tag.as_ref()].concat();
    crate::admin::write_new(&beside, &sealed)?;
    fs::rename(&beside, path).map_err(|e| {
        let remedy = "check the folder's permissions";
        trouble("file", format!("{}: {e}", path.display()), remedy)
    })?;
    Ok(format!(
        "{} is sealed; without its passphrase, and without shares, nothing of this module opens any more. The open secret \
         may still be read from old blocks of the disk, its snapshots and copies: destroy or overwrite the medium when it \
         leaves the room, or make the next secret in a file system in memory",
        path.display()
    ))
}

fn open(sealed: &[u8], passphrase: &SecretBytes) -> Option<SecretBytes> {
    let (head, body) = sealed.split_at_checked(SALT + NONCE)?;
    let mut body = Zeroizing::new(body.to_vec());
    let nonce = Nonce::try_assume_unique_for_key(&head[SALT..]).ok()?;
    let key = key(passphrase, &head[..SALT])?;
    let plain = key.open_in_place(nonce, Aad::from(MAGIC), &mut body).ok()?;
    (plain.len() == 32).then(|| SecretBytes::new(plain.to_vec()))
}

fn key(passphrase: &SecretBytes, salt: &[u8]) -> Option<LessSafeKey> {
    let mut key = Zeroizing::new([0; 32]);
    derive(
        PBKDF2_HMAC_SHA512,
        ROUNDS,
        salt,
        passphrase.expose(),
        key.as_mut_slice(),
    );
    Some(LessSafeKey::new(
        UnboundKey::new(&AES_256_GCM, key.as_slice()).ok()?,
    ))
}

/// The first line of a file.
fn line(path: &Path) -> Result<SecretBytes, Trouble> {
    let text = SecretBytes::from(daemon::text(path)?);
    let line = text.expose().split(|b| matches!(b, b'\n' | b'\r')).next();
    Ok(SecretBytes::new(line.unwrap_or_default().to_vec()))
}

#[cfg(test)]
mod tests {
    use core_types::random::SystemRandom;

    use super::*;

    #[test]
    fn the_file_is_read_once() {
        use std::io::Write as _;
        use std::os::fd::AsRawFd as _;

        // Who reads a pipe again finds nothing more.
        for content in [vec![7_u8; 32], vec![7; 31]] {
            let (reader, mut writer) = std::io::pipe().unwrap();
            writer.write_all(&content).unwrap();
            drop(writer);
            let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
            let read = read(Path::new(&path), None).ok();
            let secret = read.as_ref().map(SecretBytes::expose);
            assert_eq!(secret, (content.len() == 32).then_some(&*content));
        }
    }

    // shows: III-3-1-no-plaintext-private-key
    #[test]
    fn a_sealed_secret_opens_with_its_passphrase_only() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        };
        let root = file("root.key", &[7; 32]);
        let good = file("good", "正しい 合言葉 を十五文字以上で\n".as_bytes());
        let bad = file("bad", "正しい 合言葉 を十五文字以上と\n".as_bytes());
        let short = file("short", b"too short\n");
        assert_eq!(read(&root, None).unwrap().expose(), [7; 32]);
        for passphrase in [None, Some(short.as_path())] {
            assert!(seal(&root, passphrase, &SystemRandom).is_err());
            assert_eq!(fs::read(&root).unwrap(), [7; 32], "nothing was lost");
        }
        seal(&root, Some(&good), &SystemRandom).unwrap();
        let sealed = fs::read(&root).unwrap();
        assert!(!sealed.windows(8).any(|w| w == [7; 8]));
        assert_eq!(read(&root, Some(&good)).unwrap().expose(), [7; 32]);
        for passphrase in [None, Some(bad.as_path())] {
            assert!(read(&root, passphrase).is_err());
        }
        assert!(
            seal(&root, Some(&good), &SystemRandom).is_err(),
            "sealed already"
        );
        let mut altered = sealed.clone();
        *altered.last_mut().unwrap() ^= 1;
        assert!(read(&file("altered", &altered), Some(&good)).is_err());
        assert!(read(&file("cut", &sealed[..40]), Some(&good)).is_err());
    }
}
