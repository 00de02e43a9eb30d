//! Security headers of every answer.

use axum::Router;
use axum::http::header::{
    CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::map_response;
use axum::response::Response;

/// What a surface's pages may load and where their forms may lead.
#[derive(Debug, Clone, Default)]
pub struct Csp {
    /// Origins that scripts may call besides the page's own.
    pub connect: Vec<String>,
    /// Origins that a form may lead to besides the page's own. Browsers apply this to the redirect after a POST too.
    pub form: Vec<String>,
    /// The approval origin: no form at all, passkeys for the page itself, scripts may not write HTML.
    pub approval: bool,
    /// Pages are served over HTTPS: tell browsers to stay there.
    pub https: bool,
}

impl Csp {
    fn policy(&self) -> String {
        let list = |origins: &[String]| {
            origins
                .iter()
                .fold(String::new(), |all, o| format!("{all} {o}"))
        };
        let form = if self.approval {
            " 'none'".to_owned()
        } else {
            format!(" 'self'{}", list(&self.form))
        };
        format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'{}; \
             form-action{form}; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
            list(&self.connect)
        )
    }

    /// The headers themselves.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        // An origin with a control character in it can't be a header; then nothing at all may load.
        let policy = HeaderValue::from_str(&self.policy())
            .unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"));
        headers.insert(CONTENT_SECURITY_POLICY, policy);
        let features = if self.approval {
            "publickey-credentials-get=(self), publickey-credentials-create=(self)"
        } else {
            "publickey-credentials-get=(self), publickey-credentials-create=(self), camera=(), microphone=(), geolocation=()"
        };
        for (name, value) in [
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, "no-referrer"),
            (
                HeaderName::from_static("cross-origin-opener-policy"),
                "same-origin",
            ),
            (
                HeaderName::from_static("cross-origin-resource-policy"),
                "same-origin",
            ),
            (HeaderName::from_static("permissions-policy"), features),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if self.https {
            headers.insert(
                STRICT_TRANSPORT_SECURITY,
                HeaderValue::from_static("max-age=63072000"),
            );
        }
        headers
    }
}

/// Adds the headers to every answer of `router`, errors included.
pub fn secure<S: Clone + Send + Sync + 'static>(router: Router<S>, csp: &Csp) -> Router<S> {
    let headers = csp.headers();
    router.layer(map_response(move |mut response: Response| {
        let headers = headers.clone();
        async move {
            response.headers_mut().extend(headers);
            response
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_approval_origin_takes_no_form_and_no_written_html() {
        let csp = Csp {
            approval: true,
            https: true,
            ..Csp::default()
        };
        let headers = csp.headers();
        assert_eq!(
            headers[CONTENT_SECURITY_POLICY],
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
             form-action 'none'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
        );
        assert!(headers.contains_key(STRICT_TRANSPORT_SECURITY));
    }

    #[test]
    fn other_surfaces_name_where_they_lead() {
        let csp = Csp {
            form: vec!["http://sic.localhost:1".into()],
            ..Csp::default()
        };
        let policy = csp.policy();
        assert!(
            policy.contains("form-action 'self' http://sic.localhost:1;"),
            "{policy}"
        );
        assert!(!csp.headers().contains_key(STRICT_TRANSPORT_SECURITY));
    }
}
