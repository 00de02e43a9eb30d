//! Log lines for operators, on standard error: text for people, coloured on a terminal only, or an object a line for programs.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::Trouble;

/// The variable of the environment that says which form lines have.
const VARIABLE: &str = "NATSUIN_LOG";

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Form {
    /// As a setting has it; text where there is none.
    fn parse(setting: Option<&str>) -> Result<Self, Trouble> {
        match setting {
            None | Some("text") => Ok(Self::Text),
            Some("json") => Ok(Self::Json),
            Some(_) => Err(Trouble::new(
                "bad-config",
                format!("{VARIABLE} is neither text nor json"),
                "set it to one of them, or not at all",
            )),
        }
    }
}

/// From here on what `filter` lets through is told, in the form that the environment asks for; which is answered.
///
/// # Errors
/// [`Trouble`] `bad-config` for another form.
pub fn begin(filter: EnvFilter) -> Result<Form, Trouble> {
    let setting = std::env::var_os(VARIABLE);
    let setting = setting.map(|value| value.to_string_lossy().into_owned());
    let form = Form::parse(setting.as_deref())?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // The library prints what it could not print, and panics: a lost reader of the log must cost no request.
        .log_internal_errors(false);
    match form {
        Form::Text => lines.init(),
        Form::Json => lines.json().init(),
    }
    Ok(form)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_that_nobody_knows_is_an_error() {
        assert_eq!(Form::parse(None), Ok(Form::Text));
        assert_eq!(Form::parse(Some("text")), Ok(Form::Text));
        assert_eq!(Form::parse(Some("json")), Ok(Form::Json));
        for other in ["", "JSON", "yes"] {
            let refused = Form::parse(Some(other)).unwrap_err();
            assert_eq!(refused.code, "bad-config");
        }
    }
}
