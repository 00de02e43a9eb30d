//! The control file: which call is spoilt, and how.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Name of the variable with the path of the control file.
pub const CONTROL: &str = "NATSUIN_FAULTS";
/// Name of the variable with the path of the real module.
pub const MODULE: &str = "NATSUIN_FAULTS_MODULE";

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Answers with this code instead of calling.
    Rv(u64),
    /// Calls, and answers with this code all the same.
    Late(u64),
    /// Doesn't answer while the control file says so.
    Hang,
    /// Calls, and adds these flags to the answer (`C_GetTokenInfo`).
    Flags(u64),
    /// Calls, and changes a bit of the value.
    Flip,
    /// Calls, and gives the same bytes every time (`C_GenerateRandom`).
    Stuck,
    /// Logs out first.
    Logout,
    /// Closes all sessions first.
    CloseAll,
    /// Stops the real library first.
    Finalize,
    /// Ends the process, as a crash in the library would.
    Crash,
}

impl Action {
    fn parse(word: &str) -> Option<Self> {
        let code = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
        match word.split_once(':') {
            Some(("rv", text)) => code(text).map(Self::Rv),
            Some(("late", text)) => code(text).map(Self::Late),
            Some(("flags", text)) => code(text).map(Self::Flags),
            Some(_) => None,
            None => match word {
                "hang" => Some(Self::Hang),
                "flip" => Some(Self::Flip),
                "stuck" => Some(Self::Stuck),
                "logout" => Some(Self::Logout),
                "closeall" => Some(Self::CloseAll),
                "finalize" => Some(Self::Finalize),
                "crash" => Some(Self::Crash),
                _ => None,
            },
        }
    }
}

/// How often each line of the present control file has been used.
#[derive(Debug, Default)]
pub struct Control {
    text: String,
    used: HashMap<usize, u32>,
}

impl Control {
    /// The action for a call of `function` under this control file. A file with a line that can't be read spoils
    /// nothing by accident: that line is ignored.
    pub fn action(&mut self, text: &str, function: &str) -> Option<Action> {
        if self.text != text {
            text.clone_into(&mut self.text);
            self.used.clear();
        }
        for (n, line) in text.lines().enumerate() {
            let mut words = line.split_whitespace();
            let (Some(name), Some(action)) = (words.next(), words.next().and_then(Action::parse))
            else {
                continue;
            };
            if name != function && name != "*" {
                continue;
            }
            let Some(times) = words.next() else {
                return Some(action);
            };
            let used = self.used.entry(n).or_default();
            if times.parse().is_ok_and(|times| *used < times) {
                *used += 1;
                return Some(action);
            }
        }
        None
    }
}

/// Writes the control file that this process was given, in one step, so that no call reads half of it.
///
/// # Errors
/// There is none, or it can't be written.
pub fn set(lines: &str) -> std::io::Result<()> {
    let path = std::env::var_os(CONTROL).map(std::path::PathBuf::from);
    let path = path.ok_or(std::io::ErrorKind::NotFound)?;
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, lines)?;
    std::fs::rename(&fresh, &path)
}

/// The action for a call of `function` now.
pub(crate) fn now(function: &str) -> Option<Action> {
    static CONTROLLED: Mutex<Option<Control>> = Mutex::new(None);
    let text = text();
    let mut control = CONTROLLED.lock().unwrap_or_else(PoisonError::into_inner);
    control.get_or_insert_default().action(&text, function)
}

/// Whether the control file is still the same.
pub(crate) fn is(text_then: &str) -> bool {
    text() == text_then
}

/// The control file as it is now.
pub(crate) fn text() -> String {
    std::env::var_os(CONTROL)
        .and_then(|path| std::fs::read_to_string(path).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_used_as_often_as_they_say() {
        let mut control = Control::default();
        let text = "C_Sign rv:0x30 1\nnonsense\n* hang 1\nC_Login late:0x5";
        assert_eq!(control.action(text, "C_Sign"), Some(Action::Rv(0x30)));
        assert_eq!(control.action(text, "C_Sign"), Some(Action::Hang));
        assert_eq!(control.action(text, "C_Sign"), None);
        assert_eq!(control.action(text, "C_Login"), Some(Action::Late(5)));
        assert_eq!(control.action(text, "C_Login"), Some(Action::Late(5)));
        assert_eq!(
            control.action("C_Sign flip 1", "C_Sign"),
            Some(Action::Flip)
        );
    }
}
