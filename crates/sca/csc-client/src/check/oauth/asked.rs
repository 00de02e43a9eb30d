//! A request to the authorization endpoint, and what it comes to.

use url::Url;

use super::{CHALLENGE, STATE};
use crate::plain::Answer;

/// What an authorization request comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// Back to the client, with these parameters.
    Back(Vec<(String, String)>),
    /// A page that says no.
    Refused,
    /// A page where it goes on.
    GoesOn,
    /// To somebody else.
    Elsewhere(String),
}

impl Came {
    /// What is wrong if nothing should have come of it.
    pub(super) fn not_refused(&self) -> Option<String> {
        let error = |given: &[(String, String)]| given.iter().any(|(name, _)| name == "error");
        match self {
            Self::Refused => None,
            Self::Back(given) if error(given) => None,
            other => Some(format!("{other:?}")),
        }
    }
}

pub(super) fn request<'a>(client: &'a str, redirect_uri: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("response_type", "code"),
        ("client_id", client),
        ("redirect_uri", redirect_uri),
        ("scope", "service"),
        ("state", STATE),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ]
}

pub(super) fn without_pkce<'a>(pairs: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let kept = pairs.iter().filter(|(name, _)| !name.starts_with("code_"));
    kept.copied().collect()
}

pub(super) fn came(from: &Url, answer: &Answer, redirect_uri: &str) -> Came {
    let to = answer.leads_to.as_deref().and_then(|to| from.join(to).ok());
    match to {
        Some(to) => {
            let (path, query) = match to.as_str().split_once('?') {
                Some((path, query)) => (path, query),
                None => (to.as_str(), ""),
            };
            // Its own query stays in front of what is added (RFC 6749 §3.1.2).
            if Some(path) == redirect_uri.split('?').next() {
                let given = url::form_urlencoded::parse(query.as_bytes()).into_owned();
                Came::Back(given.collect())
            } else if to.origin() == from.origin() {
                Came::GoesOn
            } else {
                Came::Elsewhere(path.to_owned())
            }
        }
        None if answer.status >= 400 => Came::Refused,
        None => Came::GoesOn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_sent_back_also_when_its_redirect_uri_has_a_query() {
        let from = Url::parse("https://as.example/oauth2/authorize").unwrap();
        let led = |to: &str| {
            let answer = Answer {
                status: 302,
                media_type: String::new(),
                leads_to: Some(to.to_owned()),
                body: Vec::new(),
            };
            came(&from, &answer, "https://app.example/cb?x=1")
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let back = led("https://app.example/cb?x=1&error=invalid_request");
        let given = vec![pair("x", "1"), pair("error", "invalid_request")];
        assert_eq!(back, Came::Back(given));
        assert_eq!(back.not_refused(), None);
        let other = "https://app.example/other".to_owned();
        assert_eq!(led(&format!("{other}?x=1")), Came::Elsewhere(other));
    }
}
