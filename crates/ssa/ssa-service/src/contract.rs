//! What the operator's contract with a client allows, and what of its quota is used.

use core_types::{ClientId, Digest32, Level, PersonId, UnixTime};
use csc_types::HashType;
use csc_types::details::MAX_RENEWAL;
use jose::ForeignKey;
use serde::{Deserialize, Serialize};
use service_kit::Rate;
use store_kit::{StoreError, Tx, sql};

use crate::{notices, users, waiting};

/// Methods of the CSC API that want a client, as contracts name them.
const METHODS: [&str; 16] = [
    "auth/login",
    "auth/revoke",
    "credentials/list",
    "credentials/info",
    "credentials/authorize",
    "credentials/authorizeCheck",
    "credentials/create",
    "credentials/delete",
    "credentials/getChallenge",
    "credentials/sendOTP",
    "credentials/extendTransaction",
    "signatures/signDoc",
    "signatures/signHash",
    "signatures/signPolling",
    "signatures/timestamp",
    "signatures/receipt",
];
/// Most keys, or certificates, of a client.
pub(crate) const KEYS: usize = 10;
/// Most addresses for notices.
const RESPONSE_URIS: usize = 20;
/// Most people that a contract names.
const PEOPLE: usize = 1000;

/// What the operator's contract with a client says. The default allows what every client may.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientSettings {
    /// Where the contract lies in the operator's files, up to 200 characters.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub contract: String,
    /// Public keys (JWK) with which the client authenticates (`private_key_jwt`) and signs requests; then it has no
    /// secret.
    pub keys: Vec<serde_json::Value>,
    /// Its certificate, if it authenticates with one (RFC 8705); then it has no secret, `keys` only sign its requests, and its tokens
    /// belong to the certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<ClientCertificate>,
    /// Gets refresh tokens for scope `service`.
    pub refresh: bool,
    /// Login names of people whose credentials it may read with a token of its own (client credentials); empty = none.
    pub users: Vec<String>,
    /// Login names of the only people that it may serve; empty = everybody.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub people: Vec<String>,
    /// CSC methods that it may call, such as `signatures/signHash`; empty = all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Scopes that it may have: `service`, `credential`; empty = both.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Levels of the keys that it may ask to sign with; empty = all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub levels: Vec<Level>,
    /// How many signatures it may ask for.
    #[serde(skip_serializing_if = "Quota::is_unlimited")]
    pub quota: Quota,
    /// Exact addresses that may be told when values of calls that don't wait are there (`response_uri`); at most 20.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub response_uris: Vec<String>,
    /// Counts the secrets with which such notices are signed: another number, another secret.
    #[serde(skip_serializing_if = "is_zero")]
    pub response_serial: u32,
    /// May ask for approvals without saying what will be signed (CSC SCAL 1), of keys of level 1, if the SAM's policy allows any.
    #[serde(skip_serializing_if = "is_false")]
    pub sign_open: bool,
    /// What it has approved are documents, where it doesn't say what was hashed (`hashType`): what is signed of them is computed here, as
    /// `signatures/signDoc` does it. Without, hashes are of data to be signed, as the specification has it. Not in version 1, which has no
    /// such method, nor in signed requests, which say what they mean.
    #[serde(skip_serializing_if = "is_false")]
    pub documents: bool,
    /// Seconds, 0 to 3600, for which the rest of a list may be signed after its approval (`credentials/extendTransaction`), where the client
    /// doesn't say so itself. The signer sees it with the list; not with collected secrets, where there is no page to see it on.
    #[serde(skip_serializing_if = "is_zero")]
    pub renew_seconds: u32,
    /// Is read leniently: texts that are numbers, names of version 1 in version 2 and the like ([`csc_types::habits`]), and JSON or parameters
    /// in the address at `oauth2/token`. What it may do, and what is checked of it, stays the same. Not for clients that sign requests or are
    /// under FAPI.
    #[serde(skip_serializing_if = "is_false")]
    pub lenient: bool,
    /// Has no browser for its users: `credentials/authorize` puts its requests into their portal, to be decided there.
    pub out_of_band: bool,
    /// Seconds, 60 to 86400, for which such a request waits; 0 = an hour, and in version 1 as long as the call. Its signer sees until when.
    /// The act itself is made when they open it, and counts for minutes.
    #[serde(skip_serializing_if = "is_zero")]
    pub wait_seconds: u32,
    /// Is a person's own program, which approves with a device key: beside the portal, it is told under which name the request
    /// lies at the approval page's host. Only with `out_of_band`.
    pub own_sic: bool,
    /// Runs where nobody can log in: its users do so with another device (RFC 8628).
    pub device: bool,
    /// Has to sign its authorization requests (RFC 9101).
    pub signed_requests: bool,
    /// Gets only tokens that are bound to a key (DPoP, RFC 9449) or to the certificate it calls with (RFC 8705 §3).
    pub bound_tokens: bool,
    /// FAPI 2.0 Security Profile.
    pub fapi: bool,
    /// How often it may call, if not as often as every client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}

/// By what a client's certificate is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientCertificate {
    /// `tls_client_auth`: issued under a CA of [`crate::Certificates::clients`] for this subject (RFC 4514 text).
    Subject(String),
    /// `self_signed_tls_client_auth`: SHA-256 of the certificate itself (`x5t#S256`). The next one is named beside the running
    /// one before it is used.
    Thumbprints(Vec<Digest32>),
}

impl ClientCertificate {
    fn can_be_meant(&self) -> bool {
        match self {
            Self::Subject(subject) => {
                (1..=500).contains(&subject.chars().count())
                    && !subject.chars().any(char::is_control)
            }
            Self::Thumbprints(known) => (1..=KEYS).contains(&known.len()),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// Most signatures in a day and in a month (UTC). One is used by asking: a token that could sign counts what it asked for
/// once, whatever comes of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quota {
    /// In a day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_day: Option<u32>,
    /// In a month.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_month: Option<u32>,
}

impl ClientSettings {
    /// The keys, if all of them can be used.
    pub(crate) fn read_keys(&self) -> Option<Vec<ForeignKey>> {
        read_keys(&self.keys)
    }

    /// The member that can't be meant, if there is one.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let plain = |text: &str| !text.chars().any(char::is_control);
        let names =
            |all: &[String]| all.len() <= PEOPLE && all.iter().all(|name| users::is_login(name));
        let checks = [
            (
                "contract",
                self.contract.chars().count() <= 200 && plain(&self.contract),
            ),
            ("users", names(&self.users)),
            ("people", names(&self.people)),
            (
                "methods",
                self.methods.iter().all(|m| METHODS.contains(&m.as_str())),
            ),
            (
                "scopes",
                self.scopes
                    .iter()
                    .all(|s| matches!(s.as_str(), "service" | "credential")),
            ),
            ("renew_seconds", self.renew_seconds <= MAX_RENEWAL),
            (
                "wait_seconds",
                self.wait_seconds == 0 || waiting::BOUNDS.contains(&self.wait_seconds),
            ),
            (
                "lenient",
                !(self.lenient && (self.fapi || self.signed_requests)),
            ),
            (
                "response_uris",
                self.response_uris.len() <= RESPONSE_URIS
                    && self.response_uris.iter().all(|uri| notices::plausible(uri)),
            ),
            ("keys", self.read_keys().is_some()),
            (
                "certificate",
                self.certificate
                    .as_ref()
                    .is_none_or(ClientCertificate::can_be_meant),
            ),
        ];
        let bad = checks.into_iter().find(|(_, good)| !good);
        bad.map(|(member, _)| member)
    }

    /// Whether its profile wants keys that it doesn't have: to sign requests with, or to authenticate with instead of a secret.
    /// `fapi`: the profile holds for all clients.
    pub(crate) fn lacks_keys(&self, fapi: bool) -> bool {
        let proves = !self.keys.is_empty() || self.certificate.is_some();
        self.signed_requests && self.keys.is_empty() || (self.fapi || fapi) && !proves
    }

    pub(crate) fn allows_method(&self, method: &str) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|m| m == method)
    }

    pub(crate) fn allows_scope(&self, scope: &str) -> bool {
        self.scopes.is_empty() || self.scopes.iter().any(|s| s == scope)
    }

    pub(crate) fn allows_level(&self, level: Level) -> bool {
        self.levels.is_empty() || self.levels.contains(&level)
    }

    /// What was hashed, where it doesn't say.
    pub(crate) fn hash_type(&self) -> HashType {
        match self.documents {
            true => HashType::Sdr,
            false => HashType::default(),
        }
    }

    /// For how many seconds the rest of so many signatures may be signed after the approval, where the client doesn't say. One leaves no
    /// rest, and a key that is for one approval is gone after it.
    pub(crate) fn renewal(&self, signatures: u32, one_time: bool) -> u32 {
        match signatures > 1 && !one_time {
            true => self.renew_seconds,
            false => 0,
        }
    }

    /// Whether it may serve this person.
    pub(crate) async fn serves(&self, tx: &mut Tx, person: &PersonId) -> Result<bool, StoreError> {
        if self.people.is_empty() {
            return Ok(true);
        }
        let login = users::login_of(tx, person).await?;
        Ok(login.is_some_and(|login| self.people.contains(&login)))
    }
}

pub(crate) fn read_keys(keys: &[serde_json::Value]) -> Option<Vec<ForeignKey>> {
    keys.iter().map(|key| ForeignKey::parse(key).ok()).collect()
}

impl Quota {
    /// Whether nothing is counted.
    pub(crate) fn is_unlimited(&self) -> bool {
        self.per_day.is_none() && self.per_month.is_none()
    }

    /// The running day and month, each with what it is called, its limit and the seconds until its end.
    fn periods(self, now: UnixTime) -> [(String, Option<u32>, i64); 2] {
        let today = now.rfc3339();
        let day: String = today.chars().take(10).collect();
        let month: String = today.chars().take(7).collect();
        [
            (day, self.per_day, seconds_until(&next_day(now), now)),
            (
                month.clone(),
                self.per_month,
                seconds_until(&next_month(&month), now),
            ),
        ]
    }
}

fn next_day(now: UnixTime) -> String {
    now.plus(24 * 60 * 60).rfc3339().chars().take(10).collect()
}

/// The first day of the month after this one (`2026-11`).
fn next_month(month: &str) -> String {
    let mut parts = month.split('-').map(|part| part.parse().unwrap_or(1));
    let (year, number): (i32, i32) = (parts.next().unwrap_or(1), parts.next().unwrap_or(1));
    match number {
        12 => format!("{:04}-01-01", year + 1),
        _ => format!("{year:04}-{:02}-01", number + 1),
    }
}

fn seconds_until(day: &str, now: UnixTime) -> i64 {
    let at = UnixTime::from_rfc3339(&format!("{day}T00:00:00Z"));
    at.map_or(1, |at| at.0.saturating_sub(now.0).max(1))
}

/// Why signatures weren't counted; then nothing of the transaction may stay.
#[derive(Debug)]
pub(crate) enum Uncounted {
    /// They don't fit into what is left; the longest period that is full ends in so many seconds.
    Exceeded { seconds: i64 },
    /// The store failed.
    Store(StoreError),
}

impl From<StoreError> for Uncounted {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Counts `asked` signatures of a token against its client's quota, once: before anything is asked of the SAM, in one
/// transaction with the mark on the token.
pub(crate) async fn count(
    tx: &mut Tx,
    client: &ClientId,
    quota: Quota,
    token: &str,
    asked: u32,
    now: UnixTime,
) -> Result<(), Uncounted> {
    let asked = i64::from(asked);
    let before = sql("SELECT counted FROM ssa_token WHERE id = $1").bind(token);
    let Some(before) = tx.fetch_optional(before).await? else {
        // It was revoked and removed meanwhile; the SAM decides.
        return Ok(());
    };
    let before = before.int("counted")?;
    let more = asked - before;
    if more <= 0 {
        return Ok(());
    }
    let mark = "UPDATE ssa_token SET counted = $1 WHERE id = $2 AND counted = $3";
    tx.cas(sql(mark).bind(asked).bind(token).bind(before))
        .await?;
    let mut exceeded = None;
    for (period, most, seconds) in quota.periods(now) {
        let Some(most) = most else { continue };
        let first =
            "INSERT INTO ssa_use (client, period, n) VALUES ($1, $2, 0) ON CONFLICT DO NOTHING";
        let first = sql(first).bind(client.as_str()).bind(&period);
        tx.execute(first).await?;
        let add =
            "UPDATE ssa_use SET n = n + $1 WHERE client = $2 AND period = $3 AND n + $1 <= $4";
        let add = sql(add)
            .bind(more)
            .bind(client.as_str())
            .bind(&period)
            .bind(i64::from(most));
        if tx.execute(add).await? != 1 {
            exceeded = Some(Uncounted::Exceeded { seconds });
        }
    }
    exceeded.map_or(Ok(()), Err)
}

/// What is counted for a client in the running day and month.
pub(crate) async fn used(
    tx: &mut Tx,
    client: &ClientId,
    now: UnixTime,
) -> Result<[u64; 2], StoreError> {
    let mut used = [0; 2];
    for (place, (period, ..)) in used.iter_mut().zip(Quota::default().periods(now)) {
        let query = sql("SELECT n FROM ssa_use WHERE client = $1 AND period = $2")
            .bind(client.as_str())
            .bind(period);
        if let Some(row) = tx.fetch_optional(query).await? {
            *place = row.int("n")?.unsigned_abs();
        }
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_months_end_when_the_calendar_says_so() {
        let at = |text| UnixTime::from_rfc3339(text).unwrap();
        let quota = Quota::default();
        let [day, month] = quota.periods(at("2026-12-31T23:59:50Z"));
        assert_eq!((day.0.as_str(), day.2), ("2026-12-31", 10));
        assert_eq!((month.0.as_str(), month.2), ("2026-12", 10));
        let [day, month] = quota.periods(at("2028-02-28T00:00:00Z"));
        assert_eq!((day.0.as_str(), day.2), ("2028-02-28", 86_400));
        assert_eq!((month.0.as_str(), month.2), ("2028-02", 2 * 86_400));
    }

    #[test]
    fn contracts_name_what_there_is() {
        let fault = |set: &dyn Fn(&mut ClientSettings)| {
            let mut settings = ClientSettings::default();
            set(&mut settings);
            settings.fault()
        };
        assert_eq!(fault(&|_| {}), None);
        let text = |t: &str| vec![t.to_owned()];
        assert_eq!(fault(&|s| s.methods = text("signatures/signHash")), None);
        assert_eq!(fault(&|s| s.methods = text("signHash")), Some("methods"));
        assert_eq!(fault(&|s| s.scopes = text("openid")), Some("scopes"));
        assert_eq!(fault(&|s| s.people = text("a b")), Some("people"));
        assert_eq!(fault(&|s| s.contract = "x\ny".to_owned()), Some("contract"));
        assert_eq!(fault(&|s| s.keys = vec![1.into()]), Some("keys"));
        assert_eq!(fault(&|s| s.renew_seconds = 3600), None);
        let long = fault(&|s| s.renew_seconds = 3601);
        assert_eq!(long, Some("renew_seconds"));
        for (seconds, good) in [
            (0, true),
            (59, false),
            (60, true),
            (86_400, true),
            (86_401, false),
        ] {
            let found = fault(&|s| s.wait_seconds = seconds);
            assert_eq!(found, (!good).then_some("wait_seconds"), "{seconds}");
        }
        assert_eq!(fault(&|s| s.lenient = true), None);
        let strict = fault(&|s| (s.lenient, s.fapi) = (true, true));
        assert_eq!(strict, Some("lenient"));
        let strict = fault(&|s| (s.lenient, s.signed_requests) = (true, true));
        assert_eq!(strict, Some("lenient"));
        let hooks = "https://app.example/done?a=b";
        assert_eq!(fault(&|s| s.response_uris = text(hooks)), None);
        for bad in [
            "http://app.example/",
            "https://app.example/#a",
            "https://u:p@app.example/",
            "https://app.example",
            "/done",
        ] {
            let fault = fault(&|s| s.response_uris = text(bad));
            assert_eq!(fault, Some("response_uris"), "{bad}");
        }
        assert_eq!(
            fault(&|s| s.response_uris = vec![hooks.to_owned(); 21]),
            Some("response_uris")
        );
    }
}
