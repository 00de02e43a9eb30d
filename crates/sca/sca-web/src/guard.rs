//! Who may send what: the session cookie, and proof that a request comes from our own pages.

use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, COOKIE, HOST, ORIGIN};

use crate::problem::Problem;

/// Name of the cookie; over HTTPS with the prefix that pins it to this host.
pub(crate) fn cookie_name(https: bool) -> &'static str {
    if https {
        "__Host-natsuin-sca"
    } else {
        "natsuin-sca"
    }
}

/// Value of a cookie.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(n, _)| *n == name)
        .map(|(_, value)| value)
}

/// `Set-Cookie` of a session. Lax, because the browser comes back from the provider by a link from elsewhere.
pub(crate) fn set_cookie(value: &str, https: bool, life: i64) -> String {
    let secure = if https { "; Secure" } else { "" };
    format!(
        "{}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={life}{secure}",
        cookie_name(https)
    )
}

/// Refuses a changing request that a page of another origin made a browser send: by `Sec-Fetch-Site`, else by
/// `Origin`. Programs that are no browsers send neither. Under `Referrer-Policy: no-referrer` browsers send the
/// origin `null` with forms of our own pages too, so beside a good `Sec-Fetch-Site` it says nothing.
pub(crate) fn same_origin(headers: &HeaderMap, own: &str) -> Result<(), Problem> {
    let text = |name: &str| headers.get(name).map(|v| v.to_str().unwrap_or("?"));
    let fits = match (text("sec-fetch-site"), text(ORIGIN.as_str())) {
        (Some(site), origin) => {
            site == "same-origin" && origin.is_none_or(|o| o == own || o == "null")
        }
        (None, Some(origin)) => origin == own,
        (None, None) => true,
    };
    if fits {
        Ok(())
    } else {
        Err(Problem::FORM_STALE)
    }
}

/// Refuses a request under another host name, which a rebound name of a stranger would bring.
pub(crate) fn own_host(headers: &HeaderMap, host: &str) -> Result<(), Problem> {
    let sent = headers.get(HOST).and_then(|v| v.to_str().ok());
    if sent.is_none_or(|h| h.eq_ignore_ascii_case(host)) {
        Ok(())
    } else {
        Err(Problem::NOT_FOUND)
    }
}

/// Length of the body as the sender announced it, which is as much as arrives at most.
pub(crate) fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    #[test]
    fn only_own_pages_and_plain_programs_may_send() {
        let own = "http://localhost:8403";
        let ok = |pairs| same_origin(&headers(pairs), own).is_ok();
        assert!(ok(&[]));
        assert!(ok(&[
            ("origin", "http://localhost:8403"),
            ("sec-fetch-site", "same-origin")
        ]));
        assert!(ok(&[("origin", "http://localhost:8403")]));
        assert!(!ok(&[("origin", "http://localhost:8401")]));
        assert!(ok(&[("origin", "null"), ("sec-fetch-site", "same-origin")]));
        assert!(!ok(&[("origin", "null")]));
        assert!(!ok(&[("origin", "null"), ("sec-fetch-site", "cross-site")]));
        assert!(!ok(&[("sec-fetch-site", "same-site")]));
        assert!(
            !ok(&[("sec-fetch-site", "none")]),
            "a changing request is never typed in"
        );
        assert!(!ok(&[
            ("sec-fetch-site", "same-origin"),
            ("origin", "https://evil.example")
        ]));
    }

    #[test]
    fn cookies_are_found_among_others() {
        let map = headers(&[("cookie", "a=1; natsuin-sca=x=y"), ("cookie", "b=2")]);
        assert_eq!(cookie(&map, "natsuin-sca"), Some("x=y"));
        assert_eq!(cookie(&map, "b"), Some("2"));
        assert_eq!(cookie(&map, "sca"), None);
        assert!(
            set_cookie("v", true, 60)
                .starts_with("__Host-natsuin-sca=v; Path=/; HttpOnly; SameSite=Lax")
        );
        assert!(set_cookie("v", true, 60).ends_with("; Secure"));
    }

    #[test]
    fn another_host_name_is_refused() {
        assert!(own_host(&headers(&[("host", "LocalHost:8403")]), "localhost:8403").is_ok());
        assert!(own_host(&headers(&[("host", "evil.example:8403")]), "localhost:8403").is_err());
    }
}
