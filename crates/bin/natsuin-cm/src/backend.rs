//! Which back end holds the keys: a choice of the configuration, never of a caller, and no falling back to another.

mod several;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cm_core::NotStarted;
use cm_core::ahead::Ahead;
use cm_core::backend::{Backend, Fault, NO_WRAPPING_KEY, OPEN_WRAPPING_KEY};
use cm_core::several::Declared;
use cm_pkcs11::{Declaration, Limits, OpenError, Opening, Options, Pkcs11Backend, WrappedKeys};
use cm_soft::SoftBackend;
use core_types::{KeyAlg, Level, SecretBytes};
use serde::Deserialize;
use service_kit::Trouble;

pub(crate) use several::Missing;
use several::several;

/// The table `[backend]`.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum BackendConfig {
    /// Keys sealed in the store; level 1.
    Software {},
    /// Keys in a token.
    Pkcs11(Token),
    /// Several tokens as one.
    Several {
        /// Whether each can use all keys.
        shared: bool,
        tokens: Vec<Token>,
    },
}

impl BackendConfig {
    /// The highest level that is declared of a token.
    pub(crate) fn declared_level(&self) -> Level {
        let tokens: &[Token] = match self {
            Self::Software {} => &[],
            Self::Pkcs11(token) => std::slice::from_ref(token),
            Self::Several { tokens, .. } => tokens.as_slice(),
        };
        let levels = tokens.iter().map(|token| token.declared_level);
        levels.max().unwrap_or(Level::One)
    }

    /// Libraries that are given a PIN.
    pub(crate) fn libraries(&self) -> Vec<PathBuf> {
        match self {
            Self::Software {} => Vec::new(),
            Self::Pkcs11(token) => vec![token.module.clone()],
            Self::Several { tokens, .. } => tokens.iter().map(|t| t.module.clone()).collect(),
        }
    }
}

/// A PKCS#11 token.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Token {
    module: PathBuf,
    token: String,
    serial: Option<String>,
    pin_file: Option<PathBuf>,
    pin_credential: Option<String>,
    #[serde(default = "level_one")]
    declared_level: Level,
    declaration: Option<String>,
    declared_device: Option<String>,
    /// Where keys are kept.
    #[serde(default)]
    keys: Keys,
    /// Evaluation of external key storage, for wrapped keys above level 1.
    wrapped_declaration: Option<String>,
    #[serde(default = "sessions")]
    sessions: usize,
    #[serde(default = "patience")]
    patience_seconds: u64,
}

/// Where the keys of a token are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Keys {
    /// In the token.
    #[default]
    Token,
    /// In the store, wrapped by the token.
    Wrapped,
}

fn level_one() -> Level {
    Level::One
}

fn sessions() -> usize {
    Limits::default().sessions
}

fn patience() -> u64 {
    Limits::default().patience.as_secs()
}

/// Why there is no back end: in words, and as an alarm for the audit log.
#[derive(Debug)]
pub(crate) struct NotOpened {
    pub(crate) trouble: Trouble,
    pub(crate) what: &'static str,
}

/// The alarm of a device that isn't what it must be.
const FAULTY: &str = "cm-start-self-test";

impl NotOpened {
    /// What is recorded of it.
    pub(crate) fn why(&self) -> NotStarted {
        NotStarted {
            what: self.what,
            broken: self.what == FAULTY,
        }
    }

    /// Whether it may pass without a person.
    fn passes(&self) -> bool {
        self.trouble.code == Trouble::AWAY
    }
}

impl From<Trouble> for NotOpened {
    /// Settings, or a file that they name.
    fn from(trouble: Trouble) -> Self {
        let what = "cm-start-settings";
        Self { trouble, what }
    }
}

impl From<OpenError> for NotOpened {
    fn from(error: OpenError) -> Self {
        let what = match &error {
            OpenError::Module(..) => "cm-start-library",
            OpenError::NoToken(_) | OpenError::TwoTokens(_) => "cm-start-token",
            OpenError::Login(_) => "cm-start-login",
            OpenError::LastTry => "cm-start-last-try",
            OpenError::NoMechanism => "cm-start-mechanism",
            OpenError::Silent | OpenError::Away(_) => "cm-start-silent",
            OpenError::Serial { .. } | OpenError::Contradiction { .. } => "cm-start-contradiction",
        };
        let code = match error.passes() {
            true => Trouble::AWAY,
            false => "pkcs11",
        };
        let trouble = Trouble::new(code, error.to_string(), remedy(&error));
        Self { trouble, what }
    }
}

/// The code of what a fault at the start leads to: the service manager tries again what a device that comes back ends. A
/// refused PIN isn't among it.
pub(crate) fn code(fault: &Fault, otherwise: &'static str) -> &'static str {
    match fault {
        Fault::Unavailable(_) | Fault::Unknown(_) => Trouble::AWAY,
        Fault::Unfit(_) | Fault::Locked(_) | Fault::Broken(_) => otherwise,
    }
}

/// Makes the back end ready.
///
/// # Errors
/// [`NotOpened`] with [`Trouble`] `pkcs11` when module, token or PIN can't be used, [`Trouble::AWAY`] when they may be by
/// themselves later, `bad-config` for settings that contradict each other. The PIN is tried at most once, and not if it is the token's last try.
pub(crate) fn open(
    config: &BackendConfig,
    missing: Missing,
) -> Result<Arc<dyn Backend>, NotOpened> {
    match config {
        BackendConfig::Software {} => Ok(Arc::new(SoftBackend)),
        BackendConfig::Pkcs11(token) => {
            let only = Wanted::of(token, false)?;
            only.keys(only.token()?, WrappingKey::Own)
        }
        BackendConfig::Several { shared, tokens } => several(*shared, tokens, missing),
    }
}

/// The same with a stock of keys, if one is wanted.
///
/// # Errors
/// [`NotOpened`] when the back end can't make such keys, or keeps keys in a place of their own.
pub(crate) fn ahead(
    backend: Arc<dyn Backend>,
    want: &BTreeMap<KeyAlg, usize>,
) -> Result<Arc<dyn Backend>, NotOpened> {
    if want.is_empty() {
        return Ok(backend);
    }
    let want = want.iter().map(|(alg, n)| (*alg, *n)).collect();
    match Ahead::new(backend, want) {
        Ok(ahead) => Ok(Arc::new(ahead)),
        Err(fault) => Err(NotOpened {
            trouble: Trouble::new(
                code(&fault, "bad-config"),
                fault.to_string(),
                "name kinds of keys the back end makes, and none for keys in a token",
            ),
            what: match fault {
                Fault::Broken(_) => FAULTY,
                OPEN_WRAPPING_KEY => "cm-start-wrapping",
                Fault::Locked(_) => "cm-start-login",
                Fault::Unavailable(_) | Fault::Unknown(_) => "cm-start-silent",
                Fault::Unfit(_) => "cm-start-settings",
            },
        }),
    }
}

/// Why it isn't known that keys are shared: only where a device said so are they not.
fn unchecked(fault: &Fault) -> NotOpened {
    let (what, remedy) = match fault {
        Fault::Unfit(_) => (LACKS, NOT_SHARED),
        Fault::Unavailable(_) | Fault::Unknown(_) => {
            ("cm-start-silent", remedy(&OpenError::Silent))
        }
        Fault::Locked(_) if *fault == OPEN_WRAPPING_KEY => ("cm-start-wrapping", OPEN),
        Fault::Locked(_) => ("cm-start-login", remedy(&OpenError::LastTry)),
        Fault::Broken(_) => (FAULTY, "look at the device: what it made doesn't verify"),
    };
    let trouble = Trouble::new(code(fault, "pkcs11"), fault.to_string(), remedy);
    NotOpened { trouble, what }
}

const OPEN: &str = "find out who put that wrapping key in; take it away, or set its attributes right with the maker's tools";
const LACKS: &str = "cm-start-not-shared";
const NOT_SHARED: &str = "shared = true is for tokens that can all use all keys: copy the wrapping key of the first one into the others with their maker's tools, or see that the members replicate";

/// Where a token has its wrapping key from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WrappingKey {
    /// It makes the first one itself.
    Own,
    /// From the others, by their maker's tools.
    Others,
}

/// A token of the configuration.
struct Wanted {
    opening: Opening,
    kept: Keys,
    /// Evaluation of external key storage.
    storage: Option<String>,
}

impl Wanted {
    /// `alone`: no other token has the same library.
    fn of(token: &Token, alone: bool) -> Result<Self, Trouble> {
        token.check()?;
        let options = Options {
            module: token.module.clone(),
            label: token.token.clone(),
            serial: token.serial.clone(),
            pin: token.pin()?,
            declaration: token.declaration.clone().map(|reference| Declaration {
                level: token.declared_level,
                reference,
                device: token.declared_device.clone(),
            }),
        };
        let limits = Limits {
            sessions: token.sessions,
            patience: Duration::from_secs(token.patience_seconds),
            ..Limits::default()
        };
        Ok(Self {
            opening: Opening::new(options, limits, alone),
            kept: token.keys,
            storage: token.wrapped_declaration.clone(),
        })
    }

    fn declared(&self) -> Declared {
        let token = self.opening.declared();
        match self.kept {
            Keys::Token => token,
            Keys::Wrapped => WrappedKeys::declared(&token, self.storage.as_deref()),
        }
    }

    fn token(&self) -> Result<Pkcs11Backend, NotOpened> {
        self.opening.open().map_err(NotOpened::from)
    }

    /// The back end over this token.
    fn keys(
        &self,
        token: Pkcs11Backend,
        whose: WrappingKey,
    ) -> Result<Arc<dyn Backend>, NotOpened> {
        let storage = self.storage.clone();
        let wrapped = match (self.kept, whose) {
            (Keys::Token, _) => return Ok(Arc::new(token)),
            (Keys::Wrapped, WrappingKey::Own) => WrappedKeys::open(token, storage),
            (Keys::Wrapped, WrappingKey::Others) => WrappedKeys::join(token, storage),
        };
        match wrapped {
            Ok(wrapped) => Ok(Arc::new(wrapped)),
            Err(NO_WRAPPING_KEY) => Err(NotOpened {
                trouble: Trouble::new("pkcs11", NO_WRAPPING_KEY.to_string(), NOT_SHARED),
                what: LACKS,
            }),
            Err(fault) => Err(NotOpened {
                trouble: Trouble::new(
                    code(&fault, "pkcs11"),
                    fault.to_string(),
                    "use a token that wraps with AES (RFC 5649), or keys = \"token\"",
                ),
                what: match fault {
                    Fault::Broken(_) => FAULTY,
                    _ => "cm-start-wrapping",
                },
            }),
        }
    }
}

impl Token {
    fn check(&self) -> Result<(), Trouble> {
        let wrong = |what: &str| {
            let remedy = "see the comments in the sample of this daemon";
            Err(Trouble::new("bad-config", what.to_owned(), remedy))
        };
        let declared = self
            .declaration
            .as_deref()
            .is_some_and(|d| !d.trim().is_empty());
        if self.declared_level > Level::One && !declared {
            return wrong("a declared_level above 1 needs a declaration that names the evaluation");
        }
        // The SAM waits 10 seconds beyond the end of an order: it must hear of a hanging call before it gives up.
        if self.sessions == 0 || self.sessions > 1024 || !(1..=10).contains(&self.patience_seconds)
        {
            return wrong("sessions are 1 to 1024, patience_seconds 1 to 10");
        }
        if self.pin_file.is_some() == self.pin_credential.is_some() {
            return wrong("the token needs either pin_file or pin_credential");
        }
        Ok(())
    }

    fn pin(&self) -> Result<SecretBytes, Trouble> {
        match (&self.pin_file, &self.pin_credential) {
            (Some(path), _) => read_pin(path, true),
            (None, Some(name)) => {
                let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
                let directory = std::env::var_os("CREDENTIALS_DIRECTORY");
                match directory {
                    Some(directory) if name.chars().all(plain) => {
                        read_pin(&Path::new(&directory).join(name), false)
                    }
                    _ => Err(Trouble::new(
                        "config-file",
                        format!("there is no credential {name:?}"),
                        "give it with LoadCredentialEncrypted= in the unit of this daemon",
                    )),
                }
            }
            (None, None) => Err(Trouble::new("bad-config", "no PIN", "set pin_file")),
        }
    }
}

/// One line. `private`: nobody but its owner may read the file; credentials have a directory that sees to it.
fn read_pin(path: &Path, private: bool) -> Result<SecretBytes, Trouble> {
    let trouble = |what: String| {
        let remedy = "check the path, and that only this daemon's user may read it (chmod 600)";
        Trouble::new("config-file", format!("{}: {what}", path.display()), remedy)
    };
    let mode = fs::metadata(path).map_err(|e| trouble(e.to_string()))?;
    if private && mode.permissions().mode() & 0o077 != 0 {
        return Err(trouble("others may read the PIN".to_owned()));
    }
    let bytes = SecretBytes::new(fs::read(path).map_err(|e| trouble(e.to_string()))?);
    let line = bytes.expose().strip_suffix(b"\n").unwrap_or(bytes.expose());
    if line.is_empty() || line.contains(&b'\n') {
        return Err(trouble("a PIN is one line".to_owned()));
    }
    Ok(SecretBytes::new(line.to_vec()))
}

fn remedy(error: &OpenError) -> &'static str {
    match error {
        OpenError::Module(..) => "check backend.module and the library's own configuration",
        OpenError::NoToken(_) | OpenError::TwoTokens(_) => {
            "check backend.token against the token's label, and that the device is there; where it is missing the service manager tries again"
        }
        OpenError::Login(_) | OpenError::LastTry => {
            "correct the PIN before the next start: every start with a wrong one brings the token nearer to its lock"
        }
        OpenError::NoMechanism => "use a token with RSA or ECDSA on P-256 or P-384",
        OpenError::Serial { .. } => {
            "use the token with the serial number of the configuration, or correct backend.serial"
        }
        OpenError::Contradiction { .. } => {
            "declare what was evaluated: reference, and maker, model and firmware as the token reports them"
        }
        OpenError::Silent | OpenError::Away(_) => {
            "check the device and its connection; the service manager tries again"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(lines: &str) -> Token {
        toml(&format!("module = \"/m.so\"\ntoken = \"t\"\n{lines}")).unwrap()
    }

    fn toml(text: &str) -> Option<Token> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        service_kit::daemon::load(file.path()).ok()
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        assert!(token("pin_file = \"/p\"").check().is_ok());
        for wrong in [
            "",
            "pin_file = \"/p\"\npin_credential = \"p\"",
            "pin_file = \"/p\"\ndeclared_level = 2",
            "pin_file = \"/p\"\ndeclared_level = 2\ndeclaration = \" \"",
            "pin_file = \"/p\"\nsessions = 0",
            "pin_file = \"/p\"\npatience_seconds = 11",
        ] {
            assert!(token(wrong).check().is_err(), "{wrong}");
        }
        let named = "pin_file = \"/p\"\ndeclared_level = 2\ndeclaration = \"certificate 1\"";
        assert!(token(named).check().is_ok());
        assert!(toml("module = \"/m.so\"\ntoken = \"t\"\npin = \"1234\"").is_none());
    }

    #[test]
    fn a_module_is_declared_for_the_highest_level_of_its_tokens() {
        let token = |level: u8| token(&format!("pin_file = \"/p\"\ndeclared_level = {level}"));
        let level = |backend: BackendConfig| backend.declared_level();
        assert_eq!(level(BackendConfig::Software {}), Level::One);
        assert_eq!(level(BackendConfig::Pkcs11(token(2))), Level::Two);
        let several = |tokens| BackendConfig::Several {
            shared: false,
            tokens,
        };
        assert_eq!(level(several(vec![token(1), token(3)])), Level::Three);
        assert_eq!(level(several(vec![token(1)])), Level::One);
    }

    // shows: III-3-13-secure-state
    #[test]
    fn a_device_that_is_away_is_tried_again_and_a_refused_pin_is_not() {
        for (fault, away) in [
            (Fault::Unavailable("away"), true),
            (Fault::Unknown("no answer"), true),
            (Fault::Locked("PIN"), false),
            (Fault::Broken("known answer"), false),
            (Fault::Unfit("no mechanism"), false),
        ] {
            assert_eq!(code(&fault, "other") == Trouble::AWAY, away, "{fault}");
        }
        for (fault, what, away) in [
            (Fault::Unavailable("away"), "cm-start-silent", true),
            (Fault::Unknown("no answer"), "cm-start-silent", true),
            (Fault::Unfit("no such key"), "cm-start-not-shared", false),
            (Fault::Locked("PIN"), "cm-start-login", false),
            (OPEN_WRAPPING_KEY, "cm-start-wrapping", false),
            (Fault::Broken("value"), "cm-start-self-test", false),
        ] {
            let told = unchecked(&fault);
            assert_eq!((told.what, told.passes()), (what, away));
            let broken = matches!(fault, Fault::Broken(_));
            assert_eq!(told.why().broken, broken, "{fault}");
        }
        let code = |error| NotOpened::from(error).trouble.code;
        assert_eq!(code(OpenError::Silent), Trouble::AWAY);
        for lasts in [OpenError::Login("PIN".into()), OpenError::LastTry] {
            assert_eq!(code(lasts), "pkcs11");
        }
    }

    // shows: T-KEY-DISCLOSE
    #[test]
    fn a_pin_that_others_can_read_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "12345678\n").unwrap();
        let mode =
            |mode| fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
        mode(0o600);
        assert!(read_pin(file.path(), true).unwrap().ct_eq(b"12345678"));
        mode(0o640);
        assert!(read_pin(file.path(), true).is_err());
        mode(0o600);
        for wrong in ["", "\n", "1234\n5678\n"] {
            fs::write(file.path(), wrong).unwrap();
            assert!(read_pin(file.path(), true).is_err());
        }
    }
}
