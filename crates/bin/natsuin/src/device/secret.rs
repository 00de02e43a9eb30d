//! Secrets that are typed at a terminal, or stand in a file of their owner's.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use core_types::SecretBytes;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::file::own_text;
use crate::output::{Exit, Failure};

/// Most bytes that are typed.
const LONGEST: usize = 256;

/// The first line of the file, or what is typed.
///
/// # Errors
/// [`Failure`], also when there is neither a file nor a terminal.
pub fn secret(
    prompt: &str,
    file: Option<&Path>,
    option: &'static str,
) -> Result<SecretBytes, Failure> {
    let Some(path) = file else {
        let typed = OpenOptions::new().read(true).write(true).open("/dev/tty");
        return typed.and_then(|tty| ask(&tty, prompt)).map_err(|e| {
            let what = format!("nothing could be typed: {e}");
            Failure::new(Exit::Input, "no-terminal", what, option)
        });
    };
    let text = own_text(path)?;
    let line = text.expose().split(|b| *b == b'\n').next();
    let line = line.unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    Ok(SecretBytes::new(line.to_vec()))
}

/// Asks at a terminal. What is typed isn't shown, from before the prompt on: a fast hand begins as soon as it sees it.
fn ask(mut tty: &File, prompt: &str) -> io::Result<SecretBytes> {
    let hidden = Hidden::new(tty)?;
    tty.write_all(prompt.as_bytes())?;
    tty.flush()?;
    let typed = line(tty);
    drop(hidden);
    tty.write_all(b"\n")?;
    typed
}

/// A terminal that shows nothing, until this is dropped. Keys that would end the program are read as such, so that it never
/// ends with a terminal that stays silent.
struct Hidden<'a> {
    tty: &'a File,
    before: Termios,
}

impl<'a> Hidden<'a> {
    fn new(tty: &'a File) -> io::Result<Self> {
        let before = tcgetattr(tty)?;
        let mut hidden = before.clone();
        hidden
            .local_modes
            .remove(LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG);
        // What was typed ahead isn't thrown away: it is the beginning of the secret.
        tcsetattr(tty, OptionalActions::Now, &hidden)?;
        Ok(Self { tty, before })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        if let Err(error) = tcsetattr(self.tty, OptionalActions::Now, &self.before) {
            tracing::warn!(%error, "the terminal stays silent; type: stty sane");
        }
    }
}

/// One line, with the keys that people expect to work.
fn line(mut from: impl Read) -> io::Result<SecretBytes> {
    // Never grows, so that no copy is left behind.
    let mut typed = zeroize::Zeroizing::new(Vec::with_capacity(LONGEST));
    loop {
        let mut byte = [0];
        if from.read(&mut byte)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match byte[0] {
            b'\n' | b'\r' => return Ok(SecretBytes::new(typed.to_vec())),
            // Ctrl-C, Ctrl-\; Ctrl-D on an empty line.
            3 | 28 => return Err(io::ErrorKind::Interrupted.into()),
            4 if typed.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
            // Backspace takes a whole character, Ctrl-U all.
            8 | 127 => while typed.pop().is_some_and(|b| b & 0xc0 == 0x80) {},
            21 => typed.clear(),
            _ if typed.len() == LONGEST => return Err(io::ErrorKind::InvalidInput.into()),
            byte => typed.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::PermissionsExt as _;

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    use super::*;

    /// Both ends of a terminal.
    fn terminal() -> (File, File) {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let person: OwnedFd = openpt(flags).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let name = ptsname(&person, Vec::new()).unwrap();
        let program = OpenOptions::new()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap();
        (person.into(), program)
    }

    fn shows(tty: &File) -> bool {
        tcgetattr(tty)
            .unwrap()
            .local_modes
            .contains(LocalModes::ECHO)
    }

    // shows: T-USE-CAPTURE
    #[test]
    fn nothing_typed_is_shown_from_the_first_letter_of_the_prompt_on() {
        let (mut person, program) = terminal();
        assert!(shows(&program));
        let watched = program.try_clone().unwrap();
        let asking = std::thread::spawn(move || ask(&program, "PIN: "));
        // The prompt can be read: whoever types now is already unseen.
        let mut seen = [0; 5];
        person.read_exact(&mut seen).unwrap();
        assert_eq!(&seen, b"PIN: ");
        assert!(!shows(&watched));
        person
            .write_all("canary-pi\u{3042}\u{7f}n\r".as_bytes())
            .unwrap();
        let typed = asking.join().unwrap().unwrap();
        assert!(typed.ct_eq(b"canary-pin"));
        assert!(shows(&watched), "the terminal is as it was");
        let mut rest = [0; 2];
        person.read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"\r\n", "nothing but the end of the line");
    }

    #[test]
    fn keys_that_end_give_the_terminal_back() {
        for (keys, kind) in [
            ("abc\u{3}", io::ErrorKind::Interrupted),
            ("\u{4}", io::ErrorKind::UnexpectedEof),
        ] {
            let (mut person, program) = terminal();
            let watched = program.try_clone().unwrap();
            let asking = std::thread::spawn(move || ask(&program, "PIN: "));
            person.read_exact(&mut [0; 5]).unwrap();
            person.write_all(keys.as_bytes()).unwrap();
            let refused = asking.join().unwrap();
            assert_eq!(refused.unwrap_err().kind(), kind);
            assert!(shows(&watched));
        }
        let typed = line(&b"wrong\x15right\n"[..]).unwrap();
        assert!(typed.ct_eq(b"right"));
        assert!(line(&[b'x'; LONGEST + 1][..]).is_err());
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pin");
        std::fs::write(&path, "canary-pin\r\nmore").unwrap();
        let mode = |m| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(m));
        mode(0o600).unwrap();
        let read = secret("PIN: ", Some(&path), "").unwrap();
        assert!(read.ct_eq(b"canary-pin"));
        mode(0o644).unwrap();
        assert!(secret("PIN: ", Some(&path), "").is_err());
    }
}
