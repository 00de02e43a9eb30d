//! OAuth clients: who they are, how they prove it, where they may be answered.

use core_types::{ClientId, Digest32};
use jose::ForeignKey;
use serde::{Deserialize, Serialize};
use service_kit::Rate;
use store_kit::{Row, StoreError, Tx, sql};
use url::{Host, Url};

use crate::crypt::digest;

/// A registered client.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) id: ClientId,
    pub(crate) name: String,
    /// SHA-256 of the secret; `None` for a public client (RFC 6749 §2.1).
    secret: Option<String>,
    redirects: Vec<String>,
    native: bool,
    pub(crate) settings: ClientSettings,
    /// The keys of the settings, read.
    pub(crate) keys: Vec<ForeignKey>,
}

/// What the operator's contract with a client says. The default allows what every client may.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientSettings {
    /// Public keys (JWK) with which the client authenticates (`private_key_jwt`) and signs requests; then it has no
    /// secret.
    pub keys: Vec<serde_json::Value>,
    /// Gets refresh tokens for scope `service`.
    pub refresh: bool,
    /// Login names of people whose credentials it may read with a token of its own (client credentials); empty = none.
    pub users: Vec<String>,
    /// Has no browser for its users: `credentials/authorize` puts its requests into their portal, to be decided there.
    pub out_of_band: bool,
    /// Is a person's own program, which approves with a device key: beside the portal, it is told under which name the request
    /// lies at the approval page's host. Only with `out_of_band`.
    pub own_sic: bool,
    /// Runs where nobody can log in: its users do so with another device (RFC 8628).
    pub device: bool,
    /// Has to sign its authorization requests (RFC 9101).
    pub signed_requests: bool,
    /// Gets only tokens that are bound to a key (DPoP, RFC 9449).
    pub bound_tokens: bool,
    /// FAPI 2.0 Security Profile.
    pub fapi: bool,
    /// How often it may call, if not as often as every client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}

impl ClientSettings {
    /// The keys, if all of them can be used.
    pub(crate) fn read_keys(&self) -> Option<Vec<ForeignKey>> {
        self.keys
            .iter()
            .map(|key| ForeignKey::parse(key).ok())
            .collect()
    }
}

/// A client to register.
#[derive(Debug, Clone)]
pub struct NewClient {
    /// Its id.
    pub id: ClientId,
    /// Its name as people see it, 1 to 100 characters.
    pub name: String,
    /// Exact redirect URIs, at least one unless the settings name another way to reach its users. A native client's loopback URI matches with any port (RFC 8252 §7.3).
    pub redirect_uris: Vec<String>,
    /// Runs on the user's machine.
    pub native: bool,
    /// Gets no secret: it could not keep one.
    pub public: bool,
    /// What else it may and must.
    pub settings: ClientSettings,
}

impl Client {
    /// Whether this is the client's secret. A public client has none to compare.
    pub(crate) fn has_secret(&self, secret: &str) -> bool {
        // Digests are compared, so that the time tells nothing about the secret.
        self.secret.as_deref() == Some(digest(secret).as_str())
    }

    pub(crate) fn is_public(&self) -> bool {
        self.secret.is_none() && self.keys.is_empty()
    }

    /// Whether the FAPI 2.0 Security Profile holds for it.
    pub(crate) fn is_fapi(&self, ssa: &crate::Ssa) -> bool {
        self.settings.fapi || ssa.config().fapi
    }

    /// SHA-256 of its secret.
    pub(crate) fn secret_digest(&self) -> Option<Digest32> {
        Digest32::parse(self.secret.as_deref()?).ok()
    }

    /// The URI to answer to: the one asked for if it is registered, the only registered one if none was asked for.
    pub(crate) fn redirect(&self, asked: Option<&str>) -> Option<Url> {
        match (asked, self.redirects.as_slice()) {
            (None, [only]) => Url::parse(only).ok(),
            (None, _) => None,
            (Some(asked), registered) => {
                let fits = registered
                    .iter()
                    .any(|r| r == asked || self.native && same_but_port(r, asked));
                fits.then(|| Url::parse(asked).ok()).flatten()
            }
        }
    }
}

/// Loopback IP literals over plain HTTP, equal in everything but the port. The text must be what it parses to, so
/// that no reader of it can see another host.
fn same_but_port(registered: &str, asked: &str) -> bool {
    let read = |text: &str| {
        let mut url = Url::parse(text).ok()?;
        let exact = url.as_str() == text;
        let loopback = match url.host()? {
            Host::Ipv4(ip) => ip.is_loopback(),
            Host::Ipv6(ip) => ip.is_loopback(),
            Host::Domain(_) => false,
        };
        let plain = url.scheme() == "http" && url.username().is_empty() && url.password().is_none();
        url.set_port(None).ok()?;
        (exact && loopback && plain && url.fragment().is_none()).then_some(url)
    };
    matches!((read(registered), read(asked)), (Some(a), Some(b)) if a == b)
}

/// Whether a redirect URI may be registered: absolute, no fragment, no user, `https` or, for native clients, loopback
/// `http` or a private-use scheme with a dot (RFC 8252 §7.1).
pub(crate) fn registrable(text: &str, native: bool) -> bool {
    let Ok(url) = Url::parse(text) else {
        return false;
    };
    let local = match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    };
    let scheme = match url.scheme() {
        "https" => true,
        "http" => local,
        other => native && other.contains('.'),
    };
    scheme && url.as_str() == text && url.fragment().is_none() && url.username().is_empty()
}

/// Finds a client.
pub(crate) async fn find(tx: &mut Tx, id: &str) -> Result<Option<Client>, StoreError> {
    let query =
        "SELECT id, name, secret, redirects, native, settings FROM ssa_client WHERE id = $1";
    let row = tx.fetch_optional(sql(query).bind(id)).await?;
    row.map(|row| read(&row)).transpose()
}

fn read(row: &Row) -> Result<Client, StoreError> {
    let redirects = serde_json::from_str(&row.text("redirects")?);
    let settings: ClientSettings =
        serde_json::from_str(&row.text("settings")?).map_err(|_| StoreError::Column("settings"))?;
    Ok(Client {
        keys: settings.read_keys().ok_or(StoreError::Column("settings"))?,
        settings,
        id: ClientId::parse(row.text("id")?).map_err(|_| StoreError::Column("id"))?,
        name: row.text("name")?,
        secret: row.maybe_text("secret")?,
        redirects: redirects.map_err(|_| StoreError::Column("redirects"))?,
        native: row.int("native")? == 1,
    })
}

/// Registers a client; `false` when the id is taken.
pub(crate) async fn insert(
    tx: &mut Tx,
    new: &NewClient,
    secret: Option<&str>,
    now: i64,
) -> Result<bool, StoreError> {
    let redirects = serde_json::Value::from(new.redirect_uris.clone()).to_string();
    let settings =
        serde_json::to_string(&new.settings).map_err(|_| StoreError::Column("settings"))?;
    let query = "INSERT INTO ssa_client (id, name, secret, redirects, native, created, settings) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING";
    let insert = sql(query)
        .bind(new.id.as_str())
        .bind(&new.name)
        .bind(secret.map(digest))
        .bind(redirects)
        .bind(i64::from(new.native))
        .bind(now)
        .bind(settings);
    Ok(tx.execute(insert).await? == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(redirects: &[&str], native: bool) -> Client {
        Client {
            id: ClientId::parse("app").unwrap(),
            name: "App".to_owned(),
            secret: Some(digest("s3cret")),
            redirects: redirects.iter().map(|&r| r.to_owned()).collect(),
            native,
            settings: ClientSettings::default(),
            keys: Vec::new(),
        }
    }

    #[test]
    fn redirects_are_compared_exactly() {
        let web = client(&["https://app.example/cb"], false);
        assert!(web.redirect(Some("https://app.example/cb")).is_some());
        assert!(web.redirect(None).is_some());
        for bad in [
            "https://app.example/cb/",
            "https://app.example/cb?x=1",
            "https://app.example/cb#f",
            "https://app.example:443/cb",
            "https://app.example.evil.example/cb",
            "https://app.example@evil.example/cb",
            "http://app.example/cb",
            "HTTPS://app.example/cb",
            "https://app.example/../cb",
            "https://app.example/CB",
        ] {
            assert!(web.redirect(Some(bad)).is_none(), "{bad}");
        }
        let two = client(&["https://a.example/1", "https://a.example/2"], false);
        assert!(two.redirect(None).is_none());
    }

    #[test]
    fn a_native_client_may_choose_the_port_on_loopback_and_nothing_else() {
        let native = client(&["http://127.0.0.1/callback"], true);
        for good in [
            "http://127.0.0.1/callback",
            "http://127.0.0.1:49152/callback",
        ] {
            assert!(native.redirect(Some(good)).is_some(), "{good}");
        }
        for bad in [
            "http://localhost:49152/callback",
            "http://127.0.0.2:49152/callback",
            "https://127.0.0.1:49152/callback",
            "http://127.0.0.1:49152/other",
            "http://127.0.0.1:49152/callback?x",
            "http://127.0.0.1:49152/callback#x",
            "http://u@127.0.0.1:49152/callback",
            "http://127.1:49152/callback",
            "http://2130706433:49152/callback",
            "http://[::1]:49152/callback",
        ] {
            assert!(native.redirect(Some(bad)).is_none(), "{bad}");
        }
        let web = client(&["http://127.0.0.1/callback"], false);
        assert!(web.redirect(Some("http://127.0.0.1:1/callback")).is_none());
    }

    #[test]
    fn what_may_be_registered() {
        assert!(registrable("https://app.example/cb", false));
        assert!(registrable("http://127.0.0.1:8080/cb", false));
        assert!(registrable("http://localhost:8080/cb", false));
        assert!(registrable("com.example.app:/cb", true));
        for bad in [
            "http://app.example/cb",
            "com.example.app:/cb",
            "javascript:alert(1)",
            "https://a.example/#x",
            "/cb",
            "https://a.example",
        ] {
            assert!(!registrable(bad, false), "{bad}");
        }
    }
}
