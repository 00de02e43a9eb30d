//! `auth/login` (CSC 11.2): service authorization without OAuth.

use core_types::bytes::from_b64;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::body::Body;
use crate::error::CscError;
use crate::secret::SecretText;

/// Request of `auth/login`; name and password come in the `Authorization` header.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginRequest {
    /// Takes the place of the header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<SecretText>,
    /// A refresh token is wanted.
    #[serde(rename = "rememberMe", default)]
    pub remember_me: bool,
}

impl LoginRequest {
    /// Reads a request body.
    ///
    /// # Errors
    /// The CSC error to answer with.
    pub fn parse(body: &[u8]) -> Result<Self, CscError> {
        let body = Body::parse(body)?;
        let refresh_token = match body.get("refresh_token") {
            None => None,
            // As our own are: base64url of 32 bytes.
            Some(Value::String(text)) if core_types::Digest32::parse(text).is_ok() => {
                Some(SecretText::new(text.clone()))
            }
            Some(_) => return Err(CscError::RefreshTokenFormat),
        };
        body.opt_string("clientData")?;
        Ok(Self {
            refresh_token,
            remember_me: body.flag("rememberMe")?,
        })
    }
}

/// Name and password of a Basic header (RFC 7617 §2).
///
/// # Errors
/// [`CscError::LoginHeader`] when it isn't one, [`CscError::LoginPair`] when it doesn't hold the two.
pub fn basic(header: Option<&str>) -> Result<(String, SecretText), CscError> {
    let (scheme, encoded) = header
        .and_then(|value| value.split_once(' '))
        .ok_or(CscError::LoginHeader)?;
    let plain = from_b64(encoded.trim()).map_err(|_| CscError::LoginHeader)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(CscError::LoginHeader);
    }
    let text = String::from_utf8(plain).map_err(|_| CscError::LoginPair)?;
    let (name, password) = text.split_once(':').ok_or(CscError::LoginPair)?;
    if name.is_empty() || password.is_empty() {
        return Err(CscError::LoginPair);
    }
    Ok((name.to_owned(), SecretText::new(password.to_owned())))
}

/// Answer of `auth/login`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginResponse {
    /// Token of scope `service`.
    pub access_token: SecretText,
    /// For the next login, if one was wanted and is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<SecretText>,
    /// Life in seconds; an hour where a service doesn't say.
    #[serde(default = "an_hour")]
    pub expires_in: u64,
}

fn an_hour() -> u64 {
    3600
}

#[cfg(test)]
mod tests {
    use super::*;
    use core_types::bytes::{b64, b64u};

    #[test]
    fn a_header_holds_a_name_and_a_password_or_has_its_fault() {
        let header = |text: &str| format!("basic {}", b64(text));
        let (name, password) = basic(Some(&header("hanako:a:b"))).unwrap();
        assert_eq!((name.as_str(), password.expose()), ("hanako", "a:b"));
        for bad in [
            None,
            Some("Basic"),
            Some("Bearer x"),
            Some("Basic *"),
            Some("Digest YTpi"),
        ] {
            assert_eq!(basic(bad), Err(CscError::LoginHeader), "{bad:?}");
        }
        for bad in ["hanako", ":x", "hanako:"] {
            assert_eq!(basic(Some(&header(bad))), Err(CscError::LoginPair), "{bad}");
        }
    }

    #[test]
    fn a_body_may_be_empty_and_faults_have_their_words() {
        assert_eq!(LoginRequest::parse(b""), Ok(LoginRequest::default()));
        let token = b64u([7; 32]);
        let body = format!(r#"{{"refresh_token":"{token}","rememberMe":true}}"#);
        let read = LoginRequest::parse(body.as_bytes()).unwrap();
        assert!(read.remember_me && read.refresh_token.is_some());
        for bad in [r#"{"refresh_token":1}"#, r#"{"refresh_token":"short"}"#] {
            let read = LoginRequest::parse(bad.as_bytes());
            assert_eq!(read, Err(CscError::RefreshTokenFormat));
        }
        let flag = LoginRequest::parse(br#"{"rememberMe":"true"}"#);
        assert_eq!(flag, Err(CscError::InvalidParameter("rememberMe")));
    }
}
