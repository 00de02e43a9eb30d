//! Where a store is.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use ::url::Url;

use crate::error::StoreError;

/// Address of a store: `sqlite:PATH` or `postgres://USER:PASSWORD@HOST:PORT/DATABASE`. A Unix socket is
/// `postgres://USER@localhost/DATABASE?host=/run/postgresql`. Neither `Display` nor `Debug` show a password.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// A file of this process.
    Sqlite(PathBuf),
    /// A PostgreSQL database.
    Postgres(Url),
}

impl StoreUrl {
    /// Parses an address.
    ///
    /// # Errors
    /// [`StoreError::BadUrl`]. Also for PostgreSQL over a network without `sslmode=disable`: this build speaks no
    /// TLS to databases, and would otherwise fall back to clear text unasked.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() || path.starts_with(':') || path.contains(['?', '\0']) {
                return Err(StoreError::BadUrl("sqlite: needs the path of a file"));
            }
            return Ok(Self::Sqlite(PathBuf::from(path)));
        }
        let url = Url::parse(text).map_err(|_| StoreError::BadUrl("it doesn't parse"))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(StoreError::BadUrl("its scheme is unknown"));
        }
        if !is_local(&url)
            && !url
                .query_pairs()
                .any(|(k, v)| k == "sslmode" && v == "disable")
        {
            return Err(StoreError::BadUrl(
                "PostgreSQL on another host would be reached in clear text. Use a Unix socket, loopback or a \
                 protected tunnel, or say sslmode=disable",
            ));
        }
        Ok(Self::Postgres(url))
    }
}

impl StoreUrl {
    /// Whether it opens a database for whoever reads it.
    pub fn has_password(&self) -> bool {
        match self {
            Self::Sqlite(_) => false,
            Self::Postgres(url) => {
                url.password().is_some() || url.query_pairs().any(|(k, _)| k == "password")
            }
        }
    }
}

fn is_local(url: &Url) -> bool {
    if let Some((_, host)) = url
        .query_pairs()
        .find(|(k, _)| k == "host" || k == "hostaddr")
    {
        return host.starts_with('/') || matches!(&*host, "localhost" | "127.0.0.1" | "::1");
    }
    // The scheme isn't one the URL standard knows, so addresses arrive as plain names.
    match url.host_str() {
        None => true,
        Some(name) => {
            let name = name.trim_matches(['[', ']']);
            let is_loopback = || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
            name.is_empty()
                || name == "localhost"
                || name.to_ascii_lowercase().starts_with("%2f")
                || is_loopback()
        }
    }
}

impl std::str::FromStr for StoreUrl {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        Self::parse(text)
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => write!(
                f,
                "postgres://{}{}",
                url.host_str().unwrap_or("localhost"),
                url.path()
            ),
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed() {
        assert_eq!(
            StoreUrl::parse("sqlite:/a/b.db").unwrap(),
            StoreUrl::Sqlite("/a/b.db".into())
        );
        assert_eq!(
            StoreUrl::parse("sqlite://b.db").unwrap(),
            StoreUrl::Sqlite("b.db".into())
        );
        for good in [
            "postgres://u@localhost/d",
            "postgres://u@127.0.0.1:99/d",
            "postgres://u@[::1]/d",
            "postgres://u@localhost/d?host=/tmp/x",
            "postgres://u@db.example/d?sslmode=disable",
        ] {
            assert!(
                matches!(StoreUrl::parse(good), Ok(StoreUrl::Postgres(_))),
                "{good}"
            );
        }
        for bad in [
            "",
            "sqlite:",
            "sqlite::memory:",
            "sqlite:a?mode=ro",
            "mysql://h/d",
            "postgres://u@db.example/d",
            "postgres://u@localhost/d?host=db.example",
        ] {
            assert!(StoreUrl::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let url =
            StoreUrl::parse("postgres://sam:hunter2@localhost/natsuin?password=hunter2").unwrap();
        assert!(!format!("{url} {url:?}").contains("hunter2"));
        for (text, has) in [
            ("postgres://sam:hunter2@localhost/natsuin", true),
            ("postgres://sam@localhost/natsuin?password=hunter2", true),
            (
                "postgres://sam@localhost/natsuin?host=/run/postgresql",
                false,
            ),
            ("sqlite:/a:b@c/d.db", false),
        ] {
            assert_eq!(StoreUrl::parse(text).unwrap().has_password(), has, "{text}");
        }
    }
}
