//! Which of the two languages a reader gets.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::header::{ACCEPT_LANGUAGE, COOKIE};
use axum::http::request::Parts;

/// A language of the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Lang {
    /// Japanese.
    #[default]
    Ja,
    /// English.
    En,
}

impl Lang {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Ja, Self::En];

    /// BCP 47 tag: `ja` or `en`.
    pub fn tag(self) -> &'static str {
        match self {
            Self::Ja => "ja",
            Self::En => "en",
        }
    }

    /// The language the switch leads to.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Ja => Self::En,
            Self::En => Self::Ja,
        }
    }

    /// Reads a tag such as `ja`, `en-GB` or `EN`.
    pub fn from_tag(tag: &str) -> Option<Self> {
        let primary = tag.trim().split(['-', '_']).next().unwrap_or_default();
        Self::ALL
            .into_iter()
            .find(|l| primary.eq_ignore_ascii_case(l.tag()))
    }

    /// The language of a terminal: the first of these POSIX locales that is set decides (`LC_ALL`, `LC_MESSAGES`,
    /// `LANG`, in this order). English unless it is Japanese, since a plain `C` says nothing about its reader.
    pub fn from_locales<'a>(locales: impl IntoIterator<Item = &'a str>) -> Self {
        let set = locales.into_iter().find(|l| !l.is_empty());
        set.and_then(Self::from_tag).unwrap_or(Self::En)
    }

    /// Chooses by explicit choice first (`?lang=`), then the `lang` cookie, then `Accept-Language` with its
    /// weights (RFC 9110 §12.5.4). Japanese when nothing fits.
    pub fn negotiate(query: Option<&str>, cookies: Option<&str>, accept: Option<&str>) -> Self {
        let from_query = query.and_then(|q| pair(q, '&', "lang"));
        let from_cookie = || cookies.and_then(|c| pair(c, ';', "lang"));
        from_query
            .or_else(from_cookie)
            .and_then(Self::from_tag)
            .or_else(|| accept.and_then(by_weight))
            .unwrap_or_default()
    }

    /// The same address in the other language, for the switch at the top of the page.
    pub fn switch_url(self, path: &str, query: Option<&str>) -> String {
        let kept = query
            .unwrap_or_default()
            .split('&')
            .filter(|p| !p.is_empty() && !p.starts_with("lang="))
            .fold(String::new(), |all, p| format!("{all}{p}&"));
        // Two slashes at the start would name another site.
        let path = path.trim_start_matches(['/', '\\']);
        format!("/{path}?{kept}lang={}", self.other().tag())
    }
}

/// Value of `name` in a list of `name=value`.
fn pair<'a>(list: &'a str, separator: char, name: &str) -> Option<&'a str> {
    list.split(separator)
        .filter_map(|p| p.split_once('='))
        .find(|(n, _)| n.trim() == name)
        .map(|(_, v)| v.trim())
}

fn by_weight(accept: &str) -> Option<Lang> {
    let mut best = None;
    for range in accept.split(',') {
        let mut parts = range.split(';');
        let tag = parts.next().unwrap_or_default();
        let weight = parts
            .find_map(|p| p.trim().strip_prefix("q="))
            .map_or(1.0, |q| q.parse::<f32>().unwrap_or(0.0));
        if let Some(lang) = Lang::from_tag(tag)
            && weight > 0.0
            && best.is_none_or(|(_, w)| weight > w)
        {
            best = Some((lang, weight));
        }
    }
    best.map(|(lang, _)| lang)
}

impl<S: Send + Sync> FromRequestParts<S> for Lang {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let header = |name| parts.headers.get(name).and_then(|v| v.to_str().ok());
        Ok(Self::negotiate(
            parts.uri.query(),
            header(COOKIE),
            header(ACCEPT_LANGUAGE),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explicit_choice_beats_cookie_beats_browser() {
        let n = Lang::negotiate;
        assert_eq!(
            n(Some("a=1&lang=en"), Some("lang=ja"), Some("ja")),
            Lang::En
        );
        assert_eq!(n(None, Some("x=1; lang=en"), Some("ja")), Lang::En);
        assert_eq!(n(None, None, Some("fr, en-GB;q=0.7, ja;q=0.3")), Lang::En);
        assert_eq!(n(None, None, Some("ja-JP,ja;q=0.9,en;q=0.8")), Lang::Ja);
        assert_eq!(n(None, None, Some("en;q=0")), Lang::Ja);
        assert_eq!(n(Some("lang=xx"), None, None), Lang::Ja);
    }

    #[test]
    fn a_terminal_reads_what_its_locale_says() {
        let told = Lang::from_locales;
        assert_eq!(told(["", "", "ja_JP.UTF-8"]), Lang::Ja);
        assert_eq!(told(["C", "", "ja_JP.UTF-8"]), Lang::En);
        assert_eq!(told(["", "en_GB.UTF-8", "ja_JP.UTF-8"]), Lang::En);
        assert_eq!(told(["", "", ""]), Lang::En);
    }

    #[test]
    fn the_switch_keeps_everything_else() {
        assert_eq!(
            Lang::Ja.switch_url("/keys", Some("lang=ja&a=1")),
            "/keys?a=1&lang=en"
        );
        assert_eq!(Lang::En.switch_url("/", None), "/?lang=ja");
        for elsewhere in ["//evil.example/x", "/\\evil.example/x", "\\/evil.example/x"] {
            let here = Lang::Ja.switch_url(elsewhere, None);
            assert_eq!(here, "/evil.example/x?lang=en", "{elsewhere}");
        }
    }
}
