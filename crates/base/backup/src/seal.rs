//! The outer form: age, X25519 recipients, no passphrases.

use std::io::{BufRead, Read, Write};

use age::secrecy::ExposeSecret as _;
use age::stream::StreamWriter;
use age::{DecryptError, Decryptor, Encryptor, x25519};
use core_types::{Random, SecretBytes};
use shares::Share;

use crate::BackupError;

/// Who may open a backup: a public key, `age1…`.
#[derive(Clone)]
pub struct Recipient(x25519::Recipient);

/// What opens a backup: a private key, `AGE-SECRET-KEY-1…`.
pub struct Identity(x25519::Identity);

impl std::fmt::Debug for Recipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Recipient({self})")
    }
}

impl std::fmt::Display for Recipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity")
    }
}

impl Recipient {
    /// Reads a public key.
    ///
    /// # Errors
    /// [`BackupError::Recipient`].
    pub fn parse(text: &str) -> Result<Self, BackupError> {
        let parsed = text.trim().parse();
        parsed.map(Self).map_err(|_| BackupError::Recipient)
    }
}

impl Identity {
    /// A new one, from the system's generator: the library that makes it takes no other.
    #[must_use]
    pub fn generate() -> Self {
        Self(x25519::Identity::generate())
    }

    /// Reads an identity as `age-keygen` writes it: comments, and one line with the key.
    ///
    /// # Errors
    /// [`BackupError::Identity`].
    pub fn parse(text: &SecretBytes) -> Result<Self, BackupError> {
        let text = std::str::from_utf8(text.expose()).map_err(|_| BackupError::Identity)?;
        let lines = text.lines().map(str::trim);
        let mut keys = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let (Some(key), None) = (keys.next(), keys.next()) else {
            return Err(BackupError::Identity);
        };
        let parsed = key.parse().map_err(|_| BackupError::Identity);
        parsed.map(Self)
    }

    /// Joins the shares of several persons.
    ///
    /// # Errors
    /// [`BackupError::Shares`], or [`BackupError::Identity`] when they are shares of something else.
    pub fn join(shares: &[Share]) -> Result<Self, BackupError> {
        Self::parse(&shares::join(shares)?)
    }

    /// Deals it to `of` shares, of which `need` open what is sealed for it.
    ///
    /// # Errors
    /// [`BackupError::Shares`].
    pub fn deal(&self, need: u8, of: u8, random: &dyn Random) -> Result<Vec<Share>, BackupError> {
        Ok(shares::deal(&self.text(), need, of, random)?)
    }

    /// The line that opens backups, here and with the stock tool.
    pub fn text(&self) -> SecretBytes {
        SecretBytes::from(self.0.to_string().expose_secret().to_owned())
    }

    /// Its public half.
    pub fn recipient(&self) -> Recipient {
        Recipient(self.0.to_public())
    }
}

/// Seals what is written for these recipients. Call `finish` at the end: without it the file counts as cut off.
///
/// # Errors
/// [`BackupError`].
pub fn sealing<W: Write>(recipients: &[Recipient], out: W) -> Result<StreamWriter<W>, BackupError> {
    let each = recipients.iter().map(|r| &r.0 as &dyn age::Recipient);
    let encryptor = Encryptor::with_recipients(each).map_err(|_| BackupError::NoRecipient)?;
    Ok(encryptor.wrap_output(out)?)
}

/// Opens what was sealed. What is read is authentic piece by piece; only its end shows that nothing was cut off.
///
/// # Errors
/// [`BackupError`].
pub fn opening(identity: &Identity, from: impl BufRead) -> Result<impl Read, BackupError> {
    let opened = Decryptor::new_buffered(from).and_then(|decryptor| {
        decryptor.decrypt(std::iter::once(&identity.0 as &dyn age::Identity))
    });
    opened.map_err(|error| match error {
        DecryptError::NoMatchingKeys => BackupError::Foreign,
        DecryptError::Io(error) => BackupError::Damaged(error.to_string()),
        other => BackupError::Damaged(format!("{other:?}")),
    })
}

#[cfg(test)]
mod tests {
    use core_types::random::SeededRandom;

    use super::*;

    fn sealed(recipients: &[Recipient], text: &[u8]) -> Vec<u8> {
        let mut writer = sealing(recipients, Vec::new()).unwrap();
        writer.write_all(text).unwrap();
        writer.finish().unwrap()
    }

    fn opened(identity: &Identity, file: &[u8]) -> Result<Vec<u8>, BackupError> {
        let mut text = Vec::new();
        let read = opening(identity, file)?.read_to_end(&mut text);
        read.map(|_| text)
            .map_err(|e| BackupError::Damaged(e.to_string()))
    }

    #[test]
    fn each_recipient_opens_it_alone_and_nobody_else() {
        let [a, b, c] = [(); 3].map(|()| Identity::generate());
        let file = sealed(&[a.recipient(), b.recipient()], b"rows");
        assert_eq!(opened(&a, &file).unwrap(), b"rows");
        let again = Identity::parse(&b.text()).unwrap();
        assert_eq!(opened(&again, &file).unwrap(), b"rows");
        assert!(matches!(opened(&c, &file), Err(BackupError::Foreign)));
        assert!(matches!(
            sealing(&[], Vec::new()),
            Err(BackupError::NoRecipient)
        ));
        let shown = a.recipient().to_string();
        assert!(Recipient::parse(&shown).is_ok());
        assert!(Recipient::parse(&shown[..shown.len() - 1]).is_err());
        assert!(Identity::parse(&SecretBytes::from(shown)).is_err());
    }

    #[test]
    fn as_many_shares_as_are_needed_open_it_and_fewer_do_not() {
        let identity = Identity::generate();
        let dealt = identity.deal(2, 3, &SeededRandom::new(1)).unwrap();
        let file = sealed(&[identity.recipient()], b"rows");
        let joined = Identity::join(&dealt[1..]).unwrap();
        assert_eq!(opened(&joined, &file).unwrap(), b"rows");
        assert!(matches!(
            Identity::join(&dealt[..1]),
            Err(BackupError::Shares(_))
        ));
    }

    #[test]
    fn what_is_cut_off_or_altered_does_not_open() {
        let identity = Identity::generate();
        // More than one piece of 64 KiB.
        let file = sealed(&[identity.recipient()], &[7; 100_000]);
        for length in [0, 10, 200, 70_000, file.len() - 1] {
            let cut = opened(&identity, &file[..length]);
            assert!(matches!(cut, Err(BackupError::Damaged(_))), "{length}");
        }
        for at in [30, 150, 300, 90_000, file.len() - 1] {
            let mut altered = file.clone();
            altered[at] ^= 1;
            assert!(opened(&identity, &altered).is_err(), "{at}");
        }
    }
}
