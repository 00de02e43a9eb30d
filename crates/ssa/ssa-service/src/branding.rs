//! How a tenant's service looks: its name, colour and logo on every page of the portal, and in `info`. What signers approve is
//! shown by the approval page, with the name that the SAM has of the tenant.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use core_types::sha256;
use service_kit::Trouble;
use web_ui::Lang;

use crate::Ssa;

const LOGO: &str = "/brand/logo";
const STYLE: &str = "/brand/style.css";
/// Longest logo in bytes.
const MAX_LOGO: usize = 64 * 1024;
/// Longest name, and longest line about whom to ask, in characters.
const MAX_NAME: usize = 60;
const MAX_CONTACT: usize = 200;

/// How the service looks. What is missing is as the product has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Branding {
    /// Name in Japanese.
    pub ja: Option<String>,
    /// Name in English.
    pub en: Option<String>,
    /// Colour, `#` and six hexadecimal digits.
    pub colour: Option<String>,
    /// Logo.
    pub logo: Option<Logo>,
    /// Line at the foot of pages: whom to ask.
    pub contact: Option<String>,
}

/// A logo: a PNG or JPEG picture.
#[derive(Clone, PartialEq, Eq)]
pub struct Logo {
    kind: &'static str,
    bytes: Arc<[u8]>,
}

impl std::fmt::Debug for Logo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Logo({}, {} bytes)", self.kind, self.bytes.len())
    }
}

impl Logo {
    /// A picture of at most 64 KiB, told by its first bytes. No other kinds: an SVG is a document with scripts.
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        let kind = match bytes.as_slice() {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => "image/png",
            [0xff, 0xd8, 0xff, ..] => "image/jpeg",
            _ => return None,
        };
        (bytes.len() <= MAX_LOGO).then(|| Self {
            kind,
            bytes: bytes.into(),
        })
    }
}

impl Branding {
    /// The name in this language, if there is one in any.
    pub(crate) fn name(&self, lang: Lang) -> Option<&str> {
        let (first, second) = match lang {
            Lang::Ja => (&self.ja, &self.en),
            Lang::En => (&self.en, &self.ja),
        };
        first.as_deref().or(second.as_deref())
    }

    /// Where pages find the logo and the colour: addresses that change with them.
    pub(crate) fn addresses(&self) -> Addresses {
        let address = |path: &str, bytes: &[u8]| {
            let tag: String = sha256(&[bytes]).to_string().chars().take(12).collect();
            format!("{path}?{tag}")
        };
        let logo = self.logo.as_ref();
        let style = self.style();
        Addresses {
            logo: logo.map_or_else(String::new, |logo| address(LOGO, &logo.bytes)),
            style: style.map_or_else(String::new, |style| address(STYLE, style.as_bytes())),
        }
    }

    fn style(&self) -> Option<String> {
        let colour = self.colour.as_ref()?;
        Some(format!(".bar{{border-bottom:4px solid {colour}}}\n"))
    }

    /// # Errors
    /// [`Trouble`] `bad-config` that names the member.
    pub(crate) fn check(&self) -> Result<(), Trouble> {
        let line = |text: &Option<String>, most| {
            text.as_ref().is_none_or(|text| {
                (1..=most).contains(&text.chars().count()) && !text.chars().any(char::is_control)
            })
        };
        let colour = |text: &String| {
            let digits = text.strip_prefix('#').unwrap_or_default();
            digits.len() == 6 && digits.bytes().all(|d| d.is_ascii_hexdigit())
        };
        let wrong = |member: &str, rule: &str| {
            let remedy = "correct the table [branding] of the SSA";
            Err(Trouble::new(
                "bad-config",
                format!("branding.{member} {rule}"),
                remedy,
            ))
        };
        if !line(&self.ja, MAX_NAME) || !line(&self.en, MAX_NAME) {
            return wrong("ja, branding.en", "has not 1 to 60 characters");
        }
        if !line(&self.contact, MAX_CONTACT) {
            return wrong("contact", "has not 1 to 200 characters");
        }
        match self.colour.as_ref().is_none_or(colour) {
            true => Ok(()),
            false => wrong("colour", "is not a colour such as #0a5c8a"),
        }
    }
}

/// See [`Branding::addresses`]; empty where there is nothing.
pub(crate) struct Addresses {
    pub(crate) logo: String,
    pub(crate) style: String,
}

pub(crate) fn router() -> Router<Ssa> {
    Router::new()
        .route(LOGO, get(logo))
        .route(STYLE, get(style))
}

async fn logo(State(ssa): State<Ssa>) -> Response {
    match &ssa.config().branding.logo {
        Some(logo) => file(logo.kind, logo.bytes.to_vec()),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn style(State(ssa): State<Ssa>) -> Response {
    match ssa.config().branding.style() {
        Some(style) => file("text/css; charset=utf-8", style.into_bytes()),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn file(kind: &'static str, bytes: Vec<u8>) -> Response {
    let headers: [(HeaderName, &str); 4] = [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, "public, max-age=86400"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Applications show the logo that `info` names.
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "cross-origin",
        ),
    ];
    (headers, bytes).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_pictures_and_colours_are_colours() {
        let png = b"\x89PNG\r\n\x1a\n rest".to_vec();
        assert_eq!(Logo::new(png.clone()).unwrap().kind, "image/png");
        assert_eq!(
            Logo::new(vec![0xff, 0xd8, 0xff, 0]).unwrap().kind,
            "image/jpeg"
        );
        assert!(Logo::new(b"<svg xmlns='http://www.w3.org/2000/svg'/>".to_vec()).is_none());
        assert!(Logo::new([png, vec![0; MAX_LOGO]].concat()).is_none());
        let with = |colour: &str| Branding {
            colour: Some(colour.to_owned()),
            ..Branding::default()
        };
        assert!(with("#0a5C8a").check().is_ok() && Branding::default().check().is_ok());
        for bad in ["", "red", "#0a5c8", "#0a5c8a;}", "#0a5c8g"] {
            assert!(with(bad).check().is_err(), "{bad}");
        }
        let named = |ja: &str| Branding {
            ja: Some(ja.to_owned()),
            ..Branding::default()
        };
        assert!(named("みなと").check().is_ok());
        assert_eq!(named("みなと").name(Lang::En), Some("みなと"));
        assert!(named("").check().is_err() && named(&"x".repeat(61)).check().is_err());
    }
}
