//! What an operator sets.

use std::net::IpAddr;
use std::time::Duration;

use core_types::{ClientId, KeyAlg, SecretBytes, TenantId};
use service_kit::{Rate, Trouble};
use url::Url;

use crate::branding::Branding;
use crate::certificates::Certificates;
use crate::oauth::Registration;
use crate::providers::Provider;
use crate::published::Published;

/// Members of `natsuin-ssa`'s configuration that name files which are signed with it. Not those that are secret or renewed by
/// themselves, nor what is only shown: the logo, and the documents that are published.
pub const SIGNED_FILES: &[&str] = &[
    "outside_ca",
    "restorers",
    "tls.ca",
    "audit.witnesses.cosigners.*.key",
    "time_stamping.*.anchors",
    "certificates.login.anchors",
    "certificates.login.intermediates",
    "certificates.clients.anchors",
    "certificates.clients.intermediates",
    "registration.publishers.*.keys",
];

/// Settings of the SSA. URLs are origins (scheme, host, port) without a final slash.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where this service is reached: issuer of OAuth 2, base of `/csc/v2`, and the portal.
    pub base_url: String,
    /// Origin of the SIC page, where signers approve and enrol.
    pub sic_url: String,
    /// Name of the service, as in `info.name` and on pages.
    pub name: String,
    /// ISO 3166-1 alpha-2 code for `info.region`.
    pub region: String,
    /// How it looks.
    pub branding: Branding,
    /// What is published about the service.
    pub published: Published,
    /// Tenant of the SAM that this service belongs to.
    pub tenant: TenantId,
    /// Development: a banner on every page and a sentence in `info.description`.
    pub development: bool,
    /// 32 bytes that seal login seeds and request handles in the store; from a file of their own.
    pub key: SecretBytes,
    /// Cost of password hashing.
    pub password_cost: PasswordCost,
    /// FAPI 2.0 Security Profile for all clients: pushed requests, clients that authenticate with keys, tokens bound to
    /// keys. Off: for those clients alone whose settings say so.
    pub fapi: bool,
    /// Clients that register themselves; without, none can, and that endpoint isn't there.
    pub registration: Option<Registration>,
    /// The client whose contract holds for whoever calls `auth/login`, which doesn't say who calls; without it that method isn't
    /// there.
    pub login_client: Option<ClientId>,
    /// Client certificates, of people who log in and of clients; without, neither can use one.
    pub certificates: Option<Certificates>,
    /// OpenID providers at which people may log in, who bound their account there after another login; in the order shown.
    pub providers: Vec<Provider>,
    /// Time-stamping authorities for `signatures/timestamp`, asked in this order; none, and that method isn't there.
    pub time_stampers: Vec<TimeStamper>,
    /// Kinds of credential that clients may have their users make for themselves; none, and `credentials/create` isn't there.
    pub creations: Vec<Creation>,
    /// How often somebody may call.
    pub rates: Rates,
    /// Most pushed requests, and most authorizations in browsers and of devices, that one client may have under way; 64 KiB each on
    /// average. The oldest give way. Of calls that don't wait for their values, the newest.
    pub most_pending: u32,
    /// How long a call of version 1 in mode `implicit` waits for its person; clients give up after a minute or so.
    pub longest_call: Duration,
    /// Addresses of reverse proxies of our own, whose `X-Forwarded-For` is believed.
    pub proxies: Vec<IpAddr>,
}

/// A kind of credential that people make for themselves, at level 1, under the name that their other certificates have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Creation {
    /// Policy (OID) under which the CA issues its certificates, if clients may ask for it by that.
    pub policy: Option<String>,
    /// Its key.
    pub key: KeyAlg,
}

/// A time-stamping authority (RFC 3161).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeStamper {
    /// Where it is asked.
    pub url: String,
    /// Certificates (DER) that its own has to lead to.
    pub anchors: Vec<Vec<u8>>,
}

/// How often somebody may call; more is answered with status 429 and `Retry-After`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// An address (of IPv6 a /64) whose caller hasn't proved to be a client: logins, pages, wrong tokens.
    pub address: Rate,
    /// A client that authenticated or shows a good token, unless its settings say otherwise.
    pub client: Rate,
    /// A person, by all tokens of theirs.
    pub person: Rate,
}

impl Rates {
    /// As often as the machine can, for load tests.
    pub const UNLIMITED: Self = Self {
        address: Rate::UNLIMITED,
        client: Rate::UNLIMITED,
        person: Rate::UNLIMITED,
    };
}

impl Default for Rates {
    /// An office behind one address logs in within minutes; a client does a hundred calls a second, a person ten.
    fn default() -> Self {
        let rate = |burst, per_minute| Rate { burst, per_minute };
        Self {
            address: rate(600, 1200),
            client: rate(2000, 6000),
            person: rate(300, 600),
        }
    }
}

/// Cost of Argon2id (RFC 9106 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordCost {
    /// Memory in KiB.
    pub memory: u32,
    /// Passes.
    pub passes: u32,
}

impl Default for PasswordCost {
    /// 46 MiB and one pass, one of the settings of OWASP's password storage advice.
    fn default() -> Self {
        Self {
            memory: 47_104,
            passes: 1,
        }
    }
}

impl Config {
    /// The settings of a service at these origins (its own, the approval page's), with the usual value for all that has
    /// one: nothing is switched on, and the rates are [`Rates::default`]. Whoever starts an SSA begins here.
    pub fn new(
        (base_url, sic_url): (String, String),
        name: String,
        tenant: TenantId,
        key: SecretBytes,
        published: Published,
    ) -> Self {
        Self {
            base_url,
            sic_url,
            name,
            region: "JP".to_owned(),
            branding: Branding::default(),
            published,
            tenant,
            development: false,
            key,
            password_cost: PasswordCost::default(),
            fapi: false,
            registration: None,
            login_client: None,
            certificates: None,
            providers: Vec::new(),
            time_stampers: Vec::new(),
            creations: Vec::new(),
            rates: Rates::default(),
            most_pending: 2000,
            longest_call: Duration::from_secs(60),
            proxies: Vec::new(),
        }
    }

    /// Checks what can be checked without a network.
    ///
    /// # Errors
    /// [`Trouble`] `bad-config` that names the setting.
    pub(crate) fn check(&self) -> Result<(), Trouble> {
        for (name, text) in [("base_url", &self.base_url), ("sic_url", &self.sic_url)] {
            if !is_origin(text) {
                return Err(trouble(format!(
                    "{name} is not the origin of a web site: {text}"
                )));
            }
        }
        if let Some(certificates) = &self.certificates {
            let url = &certificates.url;
            if !is_origin(url) || !url.starts_with("https://") || *url == self.base_url {
                return Err(trouble(format!(
                    "the listener for certificates needs an origin of its own with https: {url}"
                )));
            }
            let rules = [&certificates.login, &certificates.clients];
            if rules
                .into_iter()
                .flatten()
                .any(|rule| rule.anchors.is_empty())
            {
                return Err(trouble("certificates are taken, but of no CA".to_owned()));
            }
        }
        if self.fapi && self.login_client.is_some() {
            return Err(trouble(
                "fapi and login_client exclude each other: auth/login gives tokens without a key"
                    .to_owned(),
            ));
        }
        for (n, kind) in self.creations.iter().enumerate() {
            let which = kind.policy.as_deref().unwrap_or("none");
            if kind.policy.as_deref().is_some_and(|text| !is_oid(text)) {
                return Err(trouble(format!(
                    "[[creations]] number {} has a policy that is no OID: {which}",
                    n + 1
                )));
            }
            let mut earlier = self.creations[..n].iter();
            if let Some(first) = earlier.position(|k| k.policy == kind.policy) {
                return Err(trouble(format!(
                    "[[creations]] number {} and number {} have the same policy: {which}",
                    first + 1,
                    n + 1
                )));
            }
        }
        if let Some(member) = self.registration.as_ref().and_then(Registration::fault) {
            return Err(trouble(format!("registration has wrong {member}")));
        }
        for (n, provider) in self.providers.iter().enumerate() {
            let id = &provider.id;
            if let Some(member) = provider.fault(self.development) {
                return Err(trouble(format!("the provider {id} has a wrong {member}")));
            }
            let earlier = &self.providers[..n];
            if earlier
                .iter()
                .any(|p| p.id == *id || p.issuer == provider.issuer)
            {
                return Err(trouble(format!("the provider {id} is there twice")));
            }
        }
        // Passkeys belong to a host and to what lies below it: on the approval page's host, or below it, the portal could
        // ask for the passkeys that sign.
        if let (Some(own), Some(sic)) = (host(&self.base_url), host(&self.sic_url))
            && (own == sic || own.ends_with(&format!(".{sic}")))
        {
            return Err(trouble(format!(
                "base_url lies on the host of sic_url or below it: {own}"
            )));
        }
        if self.key.len() != 32 {
            return Err(trouble("the SSA's key is not 32 bytes long".to_owned()));
        }
        if self.name.is_empty() || self.name.chars().count() > 255 {
            return Err(trouble("the name must have 1 to 255 characters".to_owned()));
        }
        self.branding.check()?;
        self.published.check()
    }

    /// Whether cookies can be `Secure`.
    pub(crate) fn https(&self) -> bool {
        self.base_url.starts_with("https://")
    }
}

fn trouble(what: String) -> Trouble {
    let remedy = "correct the configuration of the SSA; URLs look like https://sign.example.jp";
    Trouble::new("bad-config", what, remedy)
}

fn host(text: &str) -> Option<String> {
    Some(Url::parse(text).ok()?.host_str()?.to_owned())
}

/// An object identifier as it is written, such as `1.3.6.1.4.1.32473.1`, of which certificates can hold one.
fn is_oid(text: &str) -> bool {
    let parsed = text.parse::<der::oid::ObjectIdentifier>();
    parsed.is_ok_and(|oid| oid.to_string() == text)
}

fn is_origin(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "https" | "http") && url.origin().ascii_serialization() == text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // shows: T-USE-SAP-BYPASS
    #[test]
    fn settings_that_would_open_what_others_close_are_refused() {
        let config = |base: &str, sic: &str| {
            Config::new(
                (base.to_owned(), sic.to_owned()),
                "n".to_owned(),
                TenantId::parse("t").unwrap(),
                SecretBytes::new(vec![1; 32]),
                Published::development(base),
            )
        };
        let sic = "https://sign.example";
        assert!(config("https://portal.example", sic).check().is_ok());
        assert!(config("https://mysign.example", sic).check().is_ok());
        for bad in [
            sic,
            "https://sign.example:8443",
            "https://portal.sign.example",
        ] {
            assert!(config(bad, sic).check().is_err(), "{bad}");
        }
        // Nor does one call undo what holds for all others.
        let mut strict = config("https://portal.example", sic);
        strict.login_client = Some(ClientId::parse("basic").unwrap());
        assert!(strict.check().is_ok());
        strict.fapi = true;
        assert!(strict.check().is_err());
    }

    #[test]
    fn kinds_of_credential_are_told_apart_by_policies_that_there_can_be() {
        let check = |policies: &[Option<&str>]| {
            let base = "https://portal.example";
            let mut config = Config::new(
                (base.to_owned(), "https://sign.example".to_owned()),
                "n".to_owned(),
                TenantId::parse("t").unwrap(),
                SecretBytes::new(vec![1; 32]),
                Published::development(base),
            );
            let kind = |policy: &Option<&str>| Creation {
                policy: policy.map(str::to_owned),
                key: core_types::KeyAlg::P256,
            };
            config.creations = policies.iter().map(kind).collect();
            config.check().map_err(|trouble| format!("{trouble:?}"))
        };
        let (a, b) = (Some("1.3.6.1.4.1.32473.1"), Some("1.3.6.1.4.1.32473.2"));
        assert_eq!(check(&[a, None, b]), Ok(()));
        for bad in [
            "",
            "x",
            "1",
            "1.3.",
            "1..3",
            "3.1.2",
            "1.3.6.1 ",
            "urn:oid:1.3.6",
        ] {
            let wrong = check(&[a, Some(bad)]).unwrap_err();
            assert!(wrong.contains("number 2"), "{bad}: {wrong}");
        }
        for twice in [[a, b, a], [None, b, None]] {
            let wrong = check(&twice).unwrap_err();
            assert!(wrong.contains("number 1 and number 3"), "{wrong}");
        }
    }

    #[test]
    fn only_origins_are_taken() {
        for good in ["https://a.example", "http://127.0.0.1:8080"] {
            assert!(is_origin(good), "{good}");
        }
        for bad in [
            "https://a.example/",
            "https://a.example/x",
            "https://u@a.example",
            "ftp://a",
            "a",
            "HTTPS://a.example",
            "https://a.example:443",
        ] {
            assert!(!is_origin(bad), "{bad}");
        }
    }
}
