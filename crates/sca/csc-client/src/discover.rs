//! What a provider offers and where: `info` and authorization server metadata (RFC 8414).

use csc_types::{HashType, Info, ServerMetadata};
use url::Url;

use crate::error::ClientError;
use crate::http::safe_url;
use crate::version::Version;

/// Endpoints of the authorization server.
#[derive(Debug, Clone)]
pub struct Endpoints {
    /// `oauth2/authorize`.
    pub authorize: Url,
    /// `oauth2/token`.
    pub token: Url,
    /// `oauth2/pushed_authorize`, where it may exist.
    pub pushed: Option<Url>,
    /// Whether PAR is surely there; otherwise a missing endpoint means: use the query.
    pub pushed_is_sure: bool,
    /// `oauth2/revoke`, where it may exist.
    pub revocation: Option<Url>,
    /// Where a device without a browser begins (RFC 8628), if anywhere.
    pub device: Option<Url>,
    /// Issuer to compare `iss` of the redirect with, if the server announces one.
    pub issuer: Option<String>,
    /// Whether `iss` must be in the redirect (RFC 9207).
    pub iss_is_sent: bool,
    /// Whether the client secret goes into the body instead of HTTP Basic.
    pub secret_in_body: bool,
}

/// A provider as it describes itself.
#[derive(Debug, Clone)]
pub struct Provider {
    /// Answer of `info`.
    pub info: Info,
    /// Its authorization server.
    pub endpoints: Endpoints,
    /// Whether `authorization_details` may be used.
    pub rar: bool,
}

impl Provider {
    /// Whether an authorization may name documents (`sdr`) instead of what is signed: then the signer's side can
    /// compare them, and the service binds them itself.
    pub fn takes_documents(&self) -> bool {
        let types = &self.info.supported_hash_types;
        self.rar
            && types
                .iter()
                .any(|t| HashType::parse(t) == Some(HashType::Sdr))
    }
}

/// Where the authorization server says it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Authority {
    /// `oauth2`: endpoints have fixed names under this URL.
    Base(String),
    /// `oauth2Issuer`: endpoints are in the metadata.
    Issuer(String),
}

/// Finds the authorization server for the code grant, and whether it understands `authorization_details`.
pub(crate) fn authority(info: &Info) -> Result<(Authority, bool), ClientError> {
    let rar = info.supports_rar.unwrap_or(false);
    if let Some(issuer) = &info.oauth2_issuer {
        return Ok((Authority::Issuer(issuer.clone()), rar));
    }
    if let Some(base) = &info.oauth2 {
        // Some services publish the full address of the authorization endpoint.
        let base = base.trim_end_matches('/');
        let base = base.strip_suffix("/oauth2/authorize").unwrap_or(base);
        return Ok((Authority::Base(base.to_owned()), rar));
    }
    for server in info
        .oauth2_servers
        .iter()
        .filter(|s| s.auth_type.iter().any(|t| t == "oauth2code"))
    {
        let rar = server.supports_rar.unwrap_or(false);
        if let Some(issuer) = &server.issuer_identifier {
            return Ok((Authority::Issuer(issuer.clone()), rar));
        }
        if let Some(base) = &server.base_uri {
            return Ok((Authority::Base(base.trim_end_matches('/').to_owned()), rar));
        }
    }
    Err(ClientError::Unsupported(
        "OAuth 2.0 authorization (info names no authorization server)",
    ))
}

/// Addresses where metadata of an issuer may lie, in the order to try: RFC 8414 §3.1 and OpenID Discovery.
pub(crate) fn metadata_urls(issuer: &str) -> Result<Vec<Url>, ClientError> {
    let url = safe_url(issuer)?;
    let path = url.path().trim_end_matches('/').to_owned();
    let mut places = Vec::new();
    for name in ["oauth-authorization-server", "openid-configuration"] {
        places.push(format!("/.well-known/{name}{path}"));
        if !path.is_empty() {
            places.push(format!("{path}/.well-known/{name}"));
        }
    }
    let at = |place: String| {
        let mut url = url.clone();
        url.set_path(&place);
        url.set_query(None);
        url.set_fragment(None);
        url
    };
    Ok(places.into_iter().map(at).collect())
}

/// Endpoints under a base URL (CSC 8.2). Version 1 has no PAR.
pub(crate) fn fixed_endpoints(
    base: &str,
    info: &Info,
    version: Version,
) -> Result<Endpoints, ClientError> {
    let at = |name: &str| safe_url(&format!("{base}/oauth2/{name}"));
    let pushed_is_sure = info.methods.iter().any(|m| m == "oauth2/pushed_authorize");
    let may_push = pushed_is_sure || version == Version::V2;
    Ok(Endpoints {
        authorize: at("authorize")?,
        token: at("token")?,
        pushed: may_push.then(|| at("pushed_authorize")).transpose()?,
        pushed_is_sure,
        revocation: Some(at("revoke")?),
        device: None,
        issuer: None,
        iss_is_sent: false,
        secret_in_body: false,
    })
}

/// Endpoints from metadata; they must be reachable safely too.
pub(crate) fn announced_endpoints(metadata: &ServerMetadata) -> Result<Endpoints, ClientError> {
    let methods = &metadata.token_endpoint_auth_methods_supported;
    let has = |name: &str| methods.iter().any(|m| m == name);
    let pushed = safe(&metadata.pushed_authorization_request_endpoint)?;
    Ok(Endpoints {
        authorize: safe_url(&metadata.authorization_endpoint)?,
        token: safe_url(&metadata.token_endpoint)?,
        pushed_is_sure: pushed.is_some(),
        pushed,
        // Without these everything else works.
        revocation: safe(&metadata.revocation_endpoint).unwrap_or_default(),
        device: safe(&metadata.device_authorization_endpoint).unwrap_or_default(),
        issuer: Some(metadata.issuer.clone()),
        iss_is_sent: metadata.authorization_response_iss_parameter_supported,
        // Basic is the default of RFC 8414 §2.
        secret_in_body: has("client_secret_post") && !has("client_secret_basic"),
    })
}

impl Endpoints {
    /// The same for a client that shows a certificate: what asks for one, where the server names it (RFC 8705 §5).
    pub(crate) fn asking(self, metadata: &ServerMetadata) -> Result<Self, ClientError> {
        let Some(aliases) = &metadata.mtls_endpoint_aliases else {
            return Ok(self);
        };
        let pushed = safe(&aliases.pushed_authorization_request_endpoint)?.or(self.pushed);
        Ok(Self {
            token: safe(&aliases.token_endpoint)?.unwrap_or(self.token),
            pushed_is_sure: pushed.is_some(),
            pushed,
            revocation: safe(&aliases.revocation_endpoint)?.or(self.revocation),
            device: safe(&aliases.device_authorization_endpoint)?.or(self.device),
            ..self
        })
    }
}

fn safe(url: &Option<String>) -> Result<Option<Url>, ClientError> {
    url.as_deref().map(safe_url).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(extra: &str) -> Info {
        serde_json::from_str(&format!(r#"{{"specs":"2.2.0.0","name":"x"{extra}}}"#)).unwrap()
    }

    #[test]
    fn the_authority_is_found_in_every_form() {
        let base = |text: &str| Authority::Base(text.to_owned());
        let find = |extra: &str| authority(&info(extra)).unwrap();
        assert_eq!(
            find(r#","oauth2":"https://a/""#),
            (base("https://a"), false)
        );
        assert_eq!(
            find(r#","oauth2":"https://a/x/oauth2/authorize","supportsRar":true"#),
            (base("https://a/x"), true)
        );
        assert_eq!(
            find(r#","oauth2Issuer":"https://i""#).0,
            Authority::Issuer("https://i".to_owned())
        );
        let servers = r#","oauth2Servers":[{"baseUri":"https://m","authType":["oauth2client"]},
            {"baseUri":"https://c","authType":["oauth2code"],"supportsRar":true}]"#;
        assert_eq!(find(servers), (base("https://c"), true));
        assert!(authority(&info("")).is_err());
    }

    #[test]
    fn metadata_lies_before_or_after_the_path() {
        let urls: Vec<String> = metadata_urls("https://a.example/t")
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            urls[0],
            "https://a.example/.well-known/oauth-authorization-server/t"
        );
        assert_eq!(
            urls[1],
            "https://a.example/t/.well-known/oauth-authorization-server"
        );
        assert_eq!(urls.len(), 4);
        assert_eq!(metadata_urls("https://a.example").unwrap().len(), 2);
    }

    #[test]
    fn announced_endpoints_without_tls_are_refused() {
        let metadata: ServerMetadata = serde_json::from_str(
            r#"{"issuer":"https://a","authorization_endpoint":"https://a/x","token_endpoint":"http://a/t"}"#,
        )
        .unwrap();
        assert!(matches!(
            announced_endpoints(&metadata),
            Err(ClientError::Insecure(_))
        ));
    }

    #[test]
    fn whoever_shows_a_certificate_calls_what_asks_for_one() {
        let metadata: ServerMetadata = serde_json::from_str(
            r#"{"issuer":"https://a","authorization_endpoint":"https://a/x","token_endpoint":"https://a/t",
                "revocation_endpoint":"https://a/r","mtls_endpoint_aliases":{"token_endpoint":"https://m/t"}}"#,
        )
        .unwrap();
        let plain = announced_endpoints(&metadata).unwrap();
        let asking = plain.clone().asking(&metadata).unwrap();
        let told = |found: Endpoints| {
            let revocation = found.revocation.unwrap();
            [found.token, revocation, found.authorize].map(|url| url.to_string())
        };
        assert_eq!(
            told(plain),
            ["https://a/t", "https://a/r", "https://a/x"].map(str::to_owned)
        );
        assert_eq!(
            told(asking),
            ["https://m/t", "https://a/r", "https://a/x"].map(str::to_owned)
        );
        let mut open = metadata.clone();
        open.mtls_endpoint_aliases = Some(csc_types::EndpointAliases {
            token_endpoint: Some("http://m/t".to_owned()),
            ..csc_types::EndpointAliases::default()
        });
        let asking = announced_endpoints(&open).unwrap().asking(&open);
        assert!(matches!(asking, Err(ClientError::Insecure(_))));
    }
}
