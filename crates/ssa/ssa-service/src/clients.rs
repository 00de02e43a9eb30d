//! OAuth clients: who they are, how they prove it, where they may be answered.

mod registered;

use core_types::{ClientId, Digest32, UnixTime};
use jose::ForeignKey;
use store_kit::{Row, StoreError, Tx, sql};
use url::{Host, Url};

pub(crate) use registered::{beyond_share, delete, of_software, registered_as, unused, used};

use crate::contract::{ClientSettings, read_keys};
use crate::crypt::digest;

/// A registered client.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) id: ClientId,
    pub(crate) name: String,
    /// SHA-256 of the secret; `None` for a public client (RFC 6749 §2.1).
    pub(crate) secret: Option<String>,
    pub(crate) redirects: Vec<String>,
    pub(crate) native: bool,
    pub(crate) settings: ClientSettings,
    /// The keys of the settings, read.
    keys: Vec<ForeignKey>,
    pub(crate) old: Old,
}

/// What a client proved itself with before the last rotation, and may for a while.
#[derive(Debug, Clone)]
pub(crate) struct Old {
    secret: Option<String>,
    keys: Vec<ForeignKey>,
    pub(crate) until: UnixTime,
}

/// Whether a client may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It has no secret or key yet.
    New,
    Active,
    /// Nobody knows it until it is resumed.
    Suspended,
}

impl State {
    const ALL: [Self; 3] = [Self::New, Self::Active, Self::Suspended];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Active => "active",
            Self::Suspended => "suspended",
        }
    }
}

/// A client as whoever manages it knows it.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) client: Client,
    pub(crate) state: State,
    pub(crate) created: UnixTime,
    pub(crate) version: i64,
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

impl NewClient {
    /// The member that can't be meant, if there is one.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        if !(1..=100).contains(&self.name.chars().count())
            || self.name.chars().any(char::is_control)
        {
            return Some("name");
        }
        let settings = &self.settings;
        let good = |uri: &String| registrable(uri, self.native);
        // Without one its users can't come back with a browser: it has to be of another kind.
        let reachable = settings.device || settings.out_of_band || settings.refresh;
        if (self.redirect_uris.is_empty() && !reachable) || !self.redirect_uris.iter().all(good) {
            return Some("redirect_uris");
        }
        settings.fault()
    }
}

impl Client {
    /// Whether this is the client's secret, or the one before while that counts. A public client has none to compare.
    pub(crate) fn has_secret(&self, secret: &str, now: UnixTime) -> bool {
        // Digests are compared, so that the time tells nothing about the secret.
        let given = digest(secret);
        let mut known = self.secrets(now);
        known.any(|secret| *secret == given)
    }

    fn secrets(&self, now: UnixTime) -> impl Iterator<Item = &String> {
        let old = self.old.secret.iter().filter(move |_| now < self.old.until);
        self.secret.iter().chain(old)
    }

    /// Public keys that count now.
    pub(crate) fn keys(&self, now: UnixTime) -> impl Iterator<Item = &ForeignKey> {
        let old = self.old.keys.iter().filter(move |_| now < self.old.until);
        self.keys.iter().chain(old)
    }

    pub(crate) fn is_public(&self) -> bool {
        self.secret.is_none() && self.keys.is_empty() && self.settings.certificate.is_none()
    }

    /// Whether it is read leniently. What is signed, or under the profile, isn't: also where the server has the profile for all.
    pub(crate) fn is_lenient(&self, ssa: &crate::Ssa) -> bool {
        self.settings.lenient && !self.settings.signed_requests && !self.is_fapi(ssa)
    }

    /// Whether the FAPI 2.0 Security Profile holds for it.
    pub(crate) fn is_fapi(&self, ssa: &crate::Ssa) -> bool {
        self.settings.fapi || ssa.config().fapi
    }

    /// SHA-256 of its secrets.
    pub(crate) fn secret_digests(&self, now: UnixTime) -> impl Iterator<Item = Digest32> {
        self.secrets(now)
            .filter_map(|secret| Digest32::parse(secret).ok())
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

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, name, secret, redirects, native, settings, state, created, version, old_secret, old_keys, old_until \
             FROM ssa_client ",
            $rest
        )
    };
}

/// Finds a client that may come now; one that was suspended is as unknown as one that never was.
pub(crate) async fn find(tx: &mut Tx, id: &str) -> Result<Option<Client>, StoreError> {
    let found = record(tx, id).await?;
    let active = found.filter(|found| found.state == State::Active);
    Ok(active.map(|found| found.client))
}

/// Finds a client in any state.
pub(crate) async fn record(tx: &mut Tx, id: &str) -> Result<Option<Record>, StoreError> {
    let query = sql(select!("WHERE id = $1")).bind(id);
    let row = tx.fetch_optional(query).await?;
    row.map(|row| read(&row)).transpose()
}

/// All clients, by id.
pub(crate) async fn all(tx: &mut Tx) -> Result<Vec<Record>, StoreError> {
    let rows = tx.fetch_all(sql(select!("ORDER BY id"))).await?;
    rows.iter().map(read).collect()
}

fn read(row: &Row) -> Result<Record, StoreError> {
    let bad = StoreError::Column;
    let redirects = serde_json::from_str(&row.text("redirects")?);
    let settings: ClientSettings =
        serde_json::from_str(&row.text("settings")?).map_err(|_| bad("settings"))?;
    let old_keys = row.maybe_text("old_keys")?;
    let old_keys = old_keys.map_or(Some(Vec::new()), |keys| {
        read_keys(&serde_json::from_str::<Vec<_>>(&keys).ok()?)
    });
    let state = row.text("state")?;
    let state = State::ALL.into_iter().find(|known| known.name() == state);
    let client = Client {
        keys: settings.read_keys().ok_or(bad("settings"))?,
        settings,
        id: ClientId::parse(row.text("id")?).map_err(|_| bad("id"))?,
        name: row.text("name")?,
        secret: row.maybe_text("secret")?,
        redirects: redirects.map_err(|_| bad("redirects"))?,
        native: row.int("native")? == 1,
        old: Old {
            secret: row.maybe_text("old_secret")?,
            keys: old_keys.ok_or(bad("old_keys"))?,
            until: UnixTime(row.int("old_until")?),
        },
    };
    Ok(Record {
        client,
        state: state.ok_or(bad("state"))?,
        created: UnixTime(row.int("created")?),
        version: row.int("version")?,
    })
}

/// Registers a client; `false` when the id is taken.
pub(crate) async fn insert(
    tx: &mut Tx,
    new: &NewClient,
    secret: Option<&str>,
    state: State,
    now: UnixTime,
) -> Result<bool, StoreError> {
    let (redirects, settings) = texts(&new.redirect_uris, &new.settings)?;
    let query = "INSERT INTO ssa_client (id, name, secret, redirects, native, created, settings, state) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING";
    let insert = sql(query)
        .bind(new.id.as_str())
        .bind(&new.name)
        .bind(secret.map(digest))
        .bind(redirects)
        .bind(i64::from(new.native))
        .bind(now.0)
        .bind(settings)
        .bind(state.name());
    Ok(tx.execute(insert).await? == 1)
}

/// Keeps what was changed of a client, apart from its secrets.
pub(crate) async fn update(tx: &mut Tx, record: &Record) -> Result<(), StoreError> {
    let client = &record.client;
    let (redirects, settings) = texts(&client.redirects, &client.settings)?;
    let query = "UPDATE ssa_client SET name = $1, redirects = $2, native = $3, settings = $4, state = $5, version = $6 \
                 WHERE id = $7 AND version = $8";
    let update = sql(query)
        .bind(&client.name)
        .bind(redirects)
        .bind(i64::from(client.native))
        .bind(settings)
        .bind(record.state.name())
        .bind(record.version + 1)
        .bind(client.id.as_str())
        .bind(record.version);
    tx.cas(update).await
}

/// Gives a client a new secret, or new keys in its settings; what it had before counts until `until`.
pub(crate) async fn rotate(
    tx: &mut Tx,
    record: &Record,
    secret: Option<&str>,
    settings: &ClientSettings,
    until: UnixTime,
) -> Result<(), StoreError> {
    let old_keys = serde_json::Value::from(record.client.settings.keys.clone()).to_string();
    let (_, settings) = texts(&[], settings)?;
    let query = "UPDATE ssa_client SET old_secret = secret, old_keys = $1, old_until = $2, secret = $3, settings = $4, \
                 state = $5, version = $6 WHERE id = $7 AND version = $8";
    let update = sql(query)
        .bind(old_keys)
        .bind(until.0)
        .bind(secret.map(digest))
        .bind(settings)
        .bind(record.state.name())
        .bind(record.version + 1)
        .bind(record.client.id.as_str())
        .bind(record.version);
    tx.cas(update).await
}

fn texts(redirects: &[String], settings: &ClientSettings) -> Result<(String, String), StoreError> {
    let settings = serde_json::to_string(settings).map_err(|_| StoreError::Column("settings"))?;
    Ok((
        serde_json::Value::from(redirects.to_vec()).to_string(),
        settings,
    ))
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
            old: Old {
                secret: None,
                keys: Vec::new(),
                until: UnixTime(0),
            },
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
    fn the_secret_before_counts_for_a_while() {
        let mut one = client(&[], false);
        one.old.secret = Some(digest("before"));
        one.old.until = UnixTime(100);
        let has = |secret, now| one.has_secret(secret, UnixTime(now));
        assert!(has("s3cret", 99) && has("s3cret", 100));
        assert!(has("before", 99) && !has("before", 100));
        assert!(!has("other", 99));
        assert_eq!(one.secret_digests(UnixTime(99)).count(), 2);
        assert_eq!(one.secret_digests(UnixTime(100)).count(), 1);
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
