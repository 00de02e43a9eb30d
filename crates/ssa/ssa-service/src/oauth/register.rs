//! Clients that register themselves (RFC 7591), with a software statement of a publisher that the operator trusts. What they are
//! called and where they are answered is the statement's word alone; what they may is the operator's contract for all of them.

use std::collections::VecDeque;

use audit_log::Event;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use core_types::{ClientId, UnixTime, sha256};
use csc_types::SecretText;
use jose::{ForeignJws, ForeignKey};
use serde::Deserialize;
use serde_json::{Value, json};
use service_kit::is_no_room;
use store_kit::{StoreError, Tx, sql, transaction};

use super::jwt::Claims;
use super::{Refused, Sender, never_cached};
use crate::clients::{self, NewClient, State as Phase};
use crate::contract::{ClientSettings, read_keys};
use crate::limits::Origin;
use crate::{Ssa, crypt};

/// Longest request in bytes.
const LIMIT: usize = 64 << 10;
/// A client that got no token after so many seconds is forgotten when another one comes.
const UNUSED: i64 = 60 * 60;
/// Where there is no room, one person keeps this part of a software's clients, and one at least.
const SHARES: u32 = 10;
/// Longest life of a statement in seconds: a year and a month.
const LONGEST: i64 = 396 * 24 * 60 * 60;

/// Which clients may register themselves, and what they may then.
#[derive(Debug, Clone)]
pub struct Registration {
    /// Who may vouch for software.
    pub publishers: Vec<Publisher>,
    /// The contract of each such client. Without keys and certificate, which are its own, and without names of people.
    pub contract: ClientSettings,
    /// Most clients of one piece of software.
    pub most: u32,
}

/// Somebody who vouches for software.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publisher {
    /// `iss` of their statements.
    pub issuer: String,
    /// Their keys (JWK).
    pub keys: Vec<Value>,
}

impl Registration {
    /// The member that can't be meant, if there is one.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let good = |publisher: &Publisher| {
            !publisher.keys.is_empty() && read_keys(&publisher.keys).is_some()
        };
        if self.publishers.is_empty() || !self.publishers.iter().all(good) {
            return Some("publishers");
        }
        let contract = &self.contract;
        let own = !contract.keys.is_empty() || contract.certificate.is_some();
        // A token of its own would read about people whom no person at this client knows; and a name in the configuration would stay
        // there when somebody is forgotten.
        if own || !contract.users.is_empty() || !contract.people.is_empty() {
            return Some("contract");
        }
        contract.fault()
    }
}

/// Why a client isn't registered (RFC 7591 §3.2.2).
enum Fault {
    Statement,
    Unapproved,
    Redirect,
    Metadata,
    /// There is no statement in it.
    Malformed,
    /// There is no room for the request while others are being read.
    Full,
    Store(StoreError),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Fault {
    /// As the audit log calls it; what has no statement, or failed by itself, isn't recorded.
    fn code(&self) -> Option<&'static str> {
        match self {
            Self::Statement => Some("registration-statement"),
            Self::Unapproved => Some("registration-unapproved"),
            Self::Redirect => Some("registration-redirect"),
            Self::Metadata => Some("registration-metadata"),
            Self::Malformed | Self::Full | Self::Store(_) => None,
        }
    }

    fn answer(self) -> Response {
        let (status, error, why) = match self {
            Self::Statement => (
                StatusCode::BAD_REQUEST,
                "invalid_software_statement",
                "the statement isn't signed by its publisher, or lacks a member, or is past its time",
            ),
            Self::Unapproved => (
                StatusCode::BAD_REQUEST,
                "unapproved_software_statement",
                "this publisher or this software can't register here any more",
            ),
            Self::Redirect => (
                StatusCode::BAD_REQUEST,
                "invalid_redirect_uri",
                "a redirect URI isn't among the statement's, or can't be used",
            ),
            Self::Metadata | Self::Malformed => (
                StatusCode::BAD_REQUEST,
                "invalid_client_metadata",
                "a member can't be used",
            ),
            Self::Full => return Refused::Full.answer(false),
            Self::Store(error) => {
                tracing::error!(%error, "the store failed a registration");
                let (status, error) = match error.is_away() {
                    true => (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable"),
                    false => (StatusCode::INTERNAL_SERVER_ERROR, "server_error"),
                };
                (status, error, "try again later")
            }
        };
        let body = json!({ "error": error, "error_description": why });
        (status, Json(body)).into_response()
    }
}

/// What a client says about itself. Other members are ignored (§2).
#[derive(Deserialize)]
struct Wanted {
    software_statement: String,
    redirect_uris: Option<Vec<String>>,
    jwks: Option<KeySet>,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

/// A statement that a publisher signed.
struct Software {
    publisher: String,
    id: String,
    name: String,
    redirects: Vec<String>,
    keys: Option<Vec<Value>>,
}

/// `POST /oauth2/register`; not there unless the operator says who vouches.
pub(super) async fn register(State(ssa): State<Ssa>, sender: Sender, body: Body) -> Response {
    let Some(rules) = &ssa.config().registration else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let done = match registered(&ssa, rules, body).await {
        Ok(client) => Ok(client),
        Err(fault) => Err(refused(&ssa, sender.origin, fault).await),
    };
    never_cached(match done {
        Ok(client) => (StatusCode::CREATED, Json(client)).into_response(),
        Err(fault) => fault.answer(),
    })
}

/// Records that somebody wasn't registered: with the reason while that is seldom, and counted beyond.
async fn refused(ssa: &Ssa, origin: Origin, fault: Fault) -> Fault {
    let Some(reason) = fault.code() else {
        return fault;
    };
    let recorded: Result<(), StoreError> = match ssa.names_registration(origin) {
        true => transaction!(ssa.store(), "registration-refused", |tx| {
            let event = Event::ClientRefused {
                client: None,
                reason: reason.into(),
            };
            ssa.audit().append(tx, event, ssa.now()).await.map(drop)
        }),
        false => ssa.knocked("oauth2/register").await,
    };
    recorded.map_or_else(Fault::Store, |()| fault)
}

async fn registered(ssa: &Ssa, rules: &Registration, body: Body) -> Result<Value, Fault> {
    let body = axum::body::to_bytes(body, LIMIT).await;
    let body = body.map_err(|error| match is_no_room(&error) {
        true => Fault::Full,
        false => Fault::Malformed,
    })?;
    let wanted: Wanted = serde_json::from_slice(&body).map_err(|_| Fault::Malformed)?;
    let done = judged(ssa, rules, &wanted).await;
    if done.is_err() {
        let statement = sha256(&[wanted.software_statement.as_bytes()]);
        tracing::warn!(%statement, "a client wasn't registered");
    }
    done
}

async fn judged(ssa: &Ssa, rules: &Registration, wanted: &Wanted) -> Result<Value, Fault> {
    let now = ssa.now();
    let software = vouched(rules, &wanted.software_statement, now)?;
    let redirects = match &wanted.redirect_uris {
        None => software.redirects,
        Some(own) if own.iter().all(|uri| software.redirects.contains(uri)) => own.clone(),
        Some(_) => return Err(Fault::Redirect),
    };
    // The statement's keys are the last word; a client of software without any brings its own.
    let keys = software
        .keys
        .or(wanted.jwks.as_ref().map(|set| set.keys.clone()));
    let keys = keys.unwrap_or_default();
    let mut settings = rules.contract.clone();
    settings.contract = format!("{} of {}", software.id, software.publisher);
    settings.contract = web_ui::clean(&settings.contract)
        .chars()
        .take(200)
        .collect();
    settings.keys.clone_from(&keys);
    let mut random = [0; 16];
    ssa.random().fill(&mut random);
    let id = format!("dyn.{}", core_types::bytes::hex(random));
    let new = NewClient {
        id: ClientId::parse(id).map_err(|_| Fault::Metadata)?,
        name: software.name,
        redirect_uris: redirects,
        native: false,
        public: false,
        settings,
    };
    match new.fault() {
        Some("redirect_uris") => return Err(Fault::Redirect),
        Some(_) => return Err(Fault::Metadata),
        None if keys.len() > crate::contract::KEYS
            || new.settings.lacks_keys(ssa.config().fapi) =>
        {
            return Err(Fault::Metadata);
        }
        None => {}
    }
    let secret = keys.is_empty().then(|| crypt::draw(ssa.random()));
    let name = format!("{}\n{}", software.publisher, software.id);
    let software_id = crypt::digest(&name);
    let statement = sha256(&[wanted.software_statement.as_bytes()]);
    let made = transaction!(ssa.store(), "register-client", |tx| {
        if !has_room(ssa, tx, &software_id, rules.most, now).await? {
            return Ok::<_, StoreError>(false);
        }
        let text = secret.as_ref().map(SecretText::expose);
        let made = clients::insert(tx, &new, text, Phase::Active, now).await?;
        clients::registered_as(tx, &new.id, &software_id).await?;
        let event = Event::ClientRegisteredItself {
            client: new.id.clone(),
            publisher: sha256(&[software.publisher.as_bytes()]),
            statement,
        };
        ssa.audit().append(tx, event, now).await?;
        Ok(made)
    })?;
    if !made {
        return Err(Fault::Unapproved);
    }
    let mut answer = json!({
        "client_id": new.id,
        "client_id_issued_at": now,
        "client_name": new.name,
        "redirect_uris": new.redirect_uris,
        "token_endpoint_auth_method": if secret.is_some() { "client_secret_basic" } else { "private_key_jwt" },
        "grant_types": if new.settings.refresh { json!(["authorization_code", "refresh_token"]) } else { json!(["authorization_code"]) },
        "response_types": ["code"],
        "software_id": software.id,
        "software_statement": wanted.software_statement,
    });
    match &secret {
        Some(secret) => {
            answer["client_secret"] = json!(secret.expose());
            answer["client_secret_expires_at"] = json!(0);
        }
        None => answer["jwks"] = json!({ "keys": keys }),
    }
    Ok(answer)
}

/// Reads a statement that one of the publishers signed and that is good now (RFC 7591 §2.3).
fn vouched(rules: &Registration, statement: &str, now: UnixTime) -> Result<Software, Fault> {
    let bad = Fault::Statement;
    let jws = ForeignJws::read(statement).map_err(|_| Fault::Statement)?;
    let Some(said) = Claims::read(jws.unchecked_payload()) else {
        return Err(bad);
    };
    let known = |publisher: &&Publisher| said.text("iss") == Some(publisher.issuer.as_str());
    let publisher = rules.publishers.iter().find(known);
    let publisher = publisher.ok_or(Fault::Unapproved)?;
    let fits = matches!(
        jws.typ().as_deref(),
        None | Some("jwt" | "software-statement+jwt")
    );
    let keys = publisher
        .keys
        .iter()
        .filter_map(|key| ForeignKey::parse(key).ok());
    let mut keys = keys.filter(|key| match (jws.kid(), key.kid()) {
        (Some(wanted), Some(kid)) => wanted == kid,
        _ => true,
    });
    let payload = keys.find_map(|key| jws.verify(&key).ok());
    let claims = payload.filter(|_| fits).and_then(Claims::read);
    let claims = claims
        .filter(|claims| claims.is_current(now, LONGEST))
        .ok_or(bad)?;
    let text = |name: &str| {
        let text = claims
            .text(name)
            .filter(|text| (1..=100).contains(&text.chars().count()));
        text.map(str::to_owned).ok_or(Fault::Statement)
    };
    let redirects = claims.0.get("redirect_uris").cloned().unwrap_or_default();
    let redirects: Vec<String> = serde_json::from_value(redirects).map_err(|_| Fault::Redirect)?;
    let keys = match claims.0.get("jwks") {
        None => None,
        Some(set) => {
            let set: KeySet = serde_json::from_value(set.clone()).map_err(|_| Fault::Statement)?;
            Some(set.keys)
        }
    };
    Ok(Software {
        publisher: publisher.issuer.clone(),
        id: text("software_id")?,
        name: text("client_name")?,
        redirects,
        keys,
    })
}

/// Whether one more client of this software may be there. Those that are suspended don't count. Those that got no token within an hour
/// give way, and whatever their age the oldest of them where they have half of the places: whoever has a copy of the statement and no
/// account takes no more. Where there is no room then, one of whoever has more than a share gives way, and without such a person the
/// oldest without a token: who has one account keeps few places. It takes as many accounts as there are shares to keep others out; who
/// registers fast enough still pushes out others before their first token.
async fn has_room(
    ssa: &Ssa,
    tx: &mut Tx,
    software: &str,
    most: u32,
    now: UnixTime,
) -> Result<bool, StoreError> {
    let first = "INSERT INTO ssa_software (id, n) VALUES ($1, 0) ON CONFLICT DO NOTHING";
    tx.execute(sql(first).bind(software)).await?;
    // Whoever registers the same software waits for this transaction.
    let lock = "UPDATE ssa_software SET n = n + 1 WHERE id = $1";
    tx.execute(sql(lock).bind(software)).await?;
    let mut unused = VecDeque::from(clients::unused(tx, software).await?);
    let part = usize::try_from((most / 2).max(1)).unwrap_or(usize::MAX);
    while let Some(created) = unused.front().map(|(_, created)| *created)
        && (created <= now.plus(-UNUSED) || unused.len() >= part)
        && let Some((client, _)) = unused.pop_front()
    {
        gives_way(ssa, tx, client, now).await?;
    }
    if clients::of_software(tx, software).await? < i64::from(most) {
        return Ok(true);
    }
    let share = i64::from((most / SHARES).max(1));
    let client = clients::beyond_share(tx, software, share).await?;
    let oldest = unused.pop_front().map(|(client, _)| client);
    let Some(client) = client.or(oldest) else {
        return Ok(false);
    };
    gives_way(ssa, tx, client, now).await?;
    Ok(clients::of_software(tx, software).await? < i64::from(most))
}

async fn gives_way(
    ssa: &Ssa,
    tx: &mut Tx,
    client: ClientId,
    now: UnixTime,
) -> Result<(), StoreError> {
    clients::delete(tx, &client).await?;
    let event = Event::ClientGaveWay { client };
    ssa.audit().append(tx, event, now).await.map(drop)
}

#[cfg(test)]
mod tests {
    use jose::SigningKey;

    use super::*;

    #[test]
    fn the_contract_of_all_that_register_names_nobody() {
        let (key, _) = SigningKey::generate().unwrap();
        let fault = |set: &dyn Fn(&mut ClientSettings)| {
            let mut contract = ClientSettings::default();
            set(&mut contract);
            let publisher = Publisher {
                issuer: "https://publisher.example".to_owned(),
                keys: vec![serde_json::to_value(key.public()).unwrap()],
            };
            let rules = Registration {
                publishers: vec![publisher],
                contract,
                most: 5,
            };
            rules.fault()
        };
        let hanako = || vec!["hanako".to_owned()];
        assert_eq!(fault(&|_| {}), None);
        assert_eq!(fault(&|c| c.users = hanako()), Some("contract"));
        assert_eq!(fault(&|c| c.people = hanako()), Some("contract"));
    }
}
