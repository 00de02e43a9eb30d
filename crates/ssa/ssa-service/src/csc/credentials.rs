//! `credentials/list` and `credentials/info` (CSC 11.6, 11.7).

use axum::body::Bytes;
use core_types::bytes::b64;
use core_types::{PersonId, UnixTime, sha256};
use csc_types::{
    AuthInfo, CertInfo, Certificates, Credential, CscError, InfoRequest, KeyInfo, KeyOrigin,
    LevelInfo, ListRequest, ListResponse, algo_list, v1,
};
use sam_api::ssa::{self, AboutAnswer, KeyState, LevelPart, StopCause};
use sap::level::references;
use serde_json::{Value, json};
use web_ui::{Lang, Messages};

use super::refusals::{Fault, of_keys};
use super::{Bearer, Call, bearer, refused};
use crate::clients::Client;
use crate::keys::{CertFacts, Declared, read_certificate, read_declared, signs_open};
use crate::tokens::Scope;
use crate::{Ssa, users};

pub(super) async fn list(ssa: &Ssa, call: &Call, body: Bytes) -> Result<ListResponse, Fault> {
    let bearer = bearer(ssa, call).await?;
    if bearer.token.scope != Scope::Service {
        refused(ssa, "credentials/list", &bearer.token, "scope").await?;
        return Err(CscError::AccessDenied.into());
    }
    let request = ListRequest::parse(&body)?;
    let page = match call.v1 {
        true => Some(v1::Page::read(&body)?),
        false => None,
    };
    let person = match (&bearer.token.person, &request.user_id) {
        (Some(person), None) => person.clone(),
        (_, user) => named(ssa, &bearer, user.as_deref().unwrap_or_default()).await?,
    };
    let keys = ssa.keys_of(&person).await.map_err(of_keys)?;
    let shown = keys.into_iter().filter_map(|key| {
        let cert = issued(&key)?;
        Some((key, cert))
    });
    let mut shown: Vec<_> = shown.collect();
    let next_page_token = turn(&mut shown, page.as_ref())?;
    let about = ssa.about().await.ok_or(CscError::Unavailable)?;
    let now = ssa.now();
    let mut answer = ListResponse {
        credential_infos: request.credential_info.then(Vec::new),
        only_valid: request.only_valid.then_some(true),
        next_page_token,
        ..ListResponse::default()
    };
    let wanted = Wanted::new(
        request.certificates,
        request.cert_info,
        request.lang.as_deref(),
    );
    let listed =
        |(key, cert): &&(ssa::KeyInfo, CertFacts)| !request.only_valid || usable(key, cert, now);
    for (key, cert) in shown.iter().filter(listed) {
        answer.credential_ids.push(key.key.to_string());
        if let Some(infos) = &mut answer.credential_infos {
            let mut credential = describe(&bearer.client, key, cert, wanted, &about, now);
            credential.credential_id = Some(key.key.to_string());
            infos.push(credential);
        }
    }
    Ok(answer)
}

pub(super) async fn info(ssa: &Ssa, call: &Call, body: Bytes) -> Result<Credential, Fault> {
    let bearer = bearer(ssa, call).await?;
    let request = InfoRequest::parse(&body)?;
    let other = |facts: &crate::tokens::KeyFacts| facts.key.as_str() != request.credential_id;
    if bearer.token.scope.facts().is_some_and(other) {
        refused(ssa, "credentials/info", &bearer.token, "key").await?;
        return Err(CscError::InvalidParameter("credentialID").into());
    }
    // A key that is gone is a credential only to who was told of its end, and to who may have it sign: a call that is repeated gets the
    // values of a one-time key again, and needs its certificate around them.
    let read: fn(&ssa::KeyInfo) -> Option<CertFacts> = match bearer.token.scope {
        Scope::Deletion(_) | Scope::Credential(_) => issued,
        Scope::Service | Scope::Creation(_) => certified,
    };
    let found = find(ssa, &bearer, &request.credential_id).await?;
    let found = found.and_then(|(_, key)| read(&key).map(|cert| (key, cert)));
    let (key, cert) = found.ok_or(CscError::InvalidParameter("credentialID"))?;
    let about = ssa.about().await.ok_or(CscError::Unavailable)?;
    let wanted = Wanted::new(
        request.certificates,
        request.cert_info,
        request.lang.as_deref(),
    );
    let mut told = describe(&bearer.client, &key, &cert, wanted, &about, ssa.now());
    if let (true, Some(own)) = (request.cert_info, key.chain.first()) {
        let Declared {
            policies,
            statements,
        } = read_declared(&own.0);
        told.cert.policy = Some(policies).filter(|all| !all.is_empty());
        told.cert.qc_statements = Some(statements).filter(|all| !all.is_empty());
    }
    Ok(told)
}

/// How much of a credential is told, and in which language.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    certificates: Certificates,
    cert_info: bool,
    lang: Lang,
}

impl Wanted {
    /// English for whoever wants no language or one that isn't there.
    pub(super) fn new(certificates: Certificates, cert_info: bool, lang: Option<&str>) -> Self {
        Self {
            certificates,
            cert_info,
            lang: lang.and_then(Lang::from_tag).unwrap_or(Lang::En),
        }
    }
}

/// `credentials/list` of version 1: identifiers alone.
pub(super) fn list_in_v1(mut told: Value, _: &[u8]) -> Value {
    if let Some(members) = told.as_object_mut() {
        members.retain(|name, _| matches!(name.as_str(), "credentialIDs" | "nextPageToken"));
    }
    told
}

/// `credentials/info` of version 1.
pub(super) fn info_in_v1(told: Value, body: &[u8]) -> Value {
    let auth_info = InfoRequest::parse(body).is_ok_and(|request| request.auth_info);
    v1::credential(told, auth_info)
}

/// Leaves the credentials that are wanted, of a list in parts one of them, and tells what to ask for the next one with.
fn turn(
    shown: &mut Vec<(ssa::KeyInfo, CertFacts)>,
    page: Option<&v1::Page>,
) -> Result<Option<String>, CscError> {
    if let Some(token) = page.and_then(|page| page.token.as_ref()) {
        // Also behind a key that was destroyed since the part before.
        let last = shown.iter().position(|(key, _)| after(key) == *token);
        let last = last.ok_or(CscError::InvalidParameter("pageToken"))?;
        shown.drain(..=last);
    }
    shown.retain(|(key, _)| key.state != KeyState::Destroyed);
    let Some(page) = page else { return Ok(None) };
    let more = shown.len() > page.most;
    shown.truncate(page.most);
    let last = shown.last().filter(|_| more);
    Ok(last.map(|(key, _)| after(key)))
}

/// Stands for what comes after a key in the list of its person, whatever is made meanwhile. It opens nothing: whose list it is,
/// the access token says.
fn after(key: &ssa::KeyInfo) -> String {
    sha256(&[b"natsuin-list-v1\n", key.key.as_str().as_bytes()]).to_string()
}

/// The person of this login name whose credentials a client may read with a token of its own.
pub(super) async fn named(ssa: &Ssa, bearer: &Bearer, login: &str) -> Result<PersonId, Fault> {
    if bearer.token.person.is_some() {
        return Err(CscError::UserIdMustBeNull.into());
    }
    let mut people = people_of(ssa, bearer).await?.into_iter();
    let found = people.find(|(known, _)| known == login);
    let (_, person) = found.ok_or(CscError::InvalidParameter("userID"))?;
    Ok(person)
}

/// A key that this token may read about, and whose it is.
pub(super) async fn find(
    ssa: &Ssa,
    bearer: &Bearer,
    id: &str,
) -> Result<Option<(PersonId, ssa::KeyInfo)>, Fault> {
    let people = match &bearer.token.person {
        Some(person) => vec![person.clone()],
        None => {
            let people = people_of(ssa, bearer).await?;
            people.into_iter().map(|(_, person)| person).collect()
        }
    };
    for person in people {
        let keys = ssa.keys_of(&person).await.map_err(of_keys)?;
        if let Some(key) = keys.into_iter().find(|key| key.key.as_str() == id) {
            return Ok(Some((person, key)));
        }
    }
    Ok(None)
}

/// Login names and persons whose credentials a client may read with a token of its own.
async fn people_of(ssa: &Ssa, bearer: &Bearer) -> Result<Vec<(String, PersonId)>, Fault> {
    let mut tx = ssa.store().read("client-users").await?;
    let mut people = Vec::new();
    for login in &bearer.client.settings.users {
        if let Some(person) = users::person_of(&mut tx, login).await? {
            people.push((login.clone(), person));
        }
    }
    Ok(people)
}

/// Facts of the certificate of a key that is a credential: what is gone is none any more.
pub(super) fn certified(key: &ssa::KeyInfo) -> Option<CertFacts> {
    issued(key).filter(|_| key.state != KeyState::Destroyed)
}

/// The same of a key that may be gone.
pub(super) fn issued(key: &ssa::KeyInfo) -> Option<CertFacts> {
    (key.state != KeyState::Pending)
        .then(|| read_certificate(&key.chain.first()?.0))
        .flatten()
}

/// What is said of the certificate, always: some clients read no credential without it. A revocation that the provider learns of ends
/// the key, so an enabled key's certificate is valid as far as anybody here knows. Of a stopped key nobody is told that it is, whether
/// its CA put it on hold or its owner stopped the key here alone.
fn status(key: &ssa::KeyInfo, cert: &CertFacts, now: UnixTime) -> &'static str {
    let cause = key.stop.as_ref().map(|stop| stop.cause);
    match key.state {
        _ if cause == Some(StopCause::Revoked) => "revoked",
        _ if now >= cert.not_after => "expired",
        KeyState::Active => "valid",
        KeyState::Pending | KeyState::Suspended | KeyState::Destroyed => "suspended",
    }
}

fn usable(key: &ssa::KeyInfo, cert: &CertFacts, now: UnixTime) -> bool {
    key.state == KeyState::Active && cert.not_before <= now && now < cert.not_after
}

pub(super) fn describe(
    client: &Client,
    key: &ssa::KeyInfo,
    cert: &CertFacts,
    wanted: Wanted,
    about: &AboutAnswer,
    now: UnixTime,
) -> Credential {
    let Wanted {
        certificates,
        cert_info,
        lang,
    } = wanted;
    // To this application, which the operator lets ask without hashes.
    let open = client.settings.sign_open && !client.settings.out_of_band && signs_open(key, about);
    let chain = key.chain.iter().map(|cert| b64(&cert.0));
    let certificates = match certificates {
        Certificates::None => None,
        Certificates::Single => Some(chain.take(1).collect()),
        Certificates::Chain => Some(chain.collect()),
    };
    let enabled = key.state == KeyState::Active;
    let named = |text: &String| cert_info.then(|| text.clone());
    let dated = |time: UnixTime| cert_info.then(|| compact(time));
    Credential {
        credential_id: None,
        description: None,
        signature_qualifier: None,
        key: KeyInfo {
            status: if enabled { "enabled" } else { "disabled" }.to_owned(),
            algo: algo_list(key.alg),
            len: key.alg.bits(),
            curve: key.alg.curve_oid().map(str::to_owned),
            origin: Some(KeyOrigin {
                case: key.origin_case.to_string(),
                statement: key.origin_statement.clone(),
            }),
            one_time: key.one_time,
        },
        cert: CertInfo {
            status: Some(status(key, cert, now).to_owned()),
            certificates,
            issuer_dn: named(&cert.issuer),
            serial_number: named(&cert.serial),
            subject_dn: named(&cert.subject),
            valid_from: dated(cert.not_before),
            valid_to: dated(cert.not_after),
            policy: None,
            qc_statements: None,
        },
        auth: auth_info(key, client.settings.out_of_band, Messages::new(lang)),
        scal: if open { "1" } else { "2" }.to_owned(),
        multisign: if open {
            about.max_open
        } else {
            about.max_items
        },
        lang: Some(lang.tag().to_owned()),
        level: Some(level(key)),
    }
}

fn level(key: &ssa::KeyInfo) -> LevelInfo {
    let because = match key.level.because {
        LevelPart::Generation => "generation",
        LevelPart::Import => "import",
        LevelPart::Retention => "retention",
        LevelPart::Authorization => "authorization",
        LevelPart::Enrolment => "enrolment",
        LevelPart::Service => "service",
    };
    LevelInfo {
        level: key.level.level.into(),
        origin: key.origin.clone(),
        because: because.to_owned(),
        needs: key.level.needs.clone(),
        declared: references(&key.level.declared),
    }
}

/// How a client gets an authorization: through the person's browser, in their portal, or with secrets it collects.
fn auth_info(key: &ssa::KeyInfo, out_of_band: bool, words: Messages) -> AuthInfo {
    let (mode, objects) = match (key.collected, out_of_band) {
        (true, _) => ("explicit", secrets(key.codes, words)),
        (false, true) => ("explicit", vec![portal(words)]),
        (false, false) => ("oauth2code", Vec::new()),
    };
    AuthInfo {
        mode: mode.to_owned(),
        expression: key
            .collected
            .then(|| format!("{} AND {}", v1::PIN, v1::OTP)),
        objects,
    }
}

fn portal(words: Messages) -> Value {
    json!({ "type": "ChallengeResponseOOB", "id": v1::PORTAL, "label": words.t("csc-portal"),
        "description": words.t("csc-portal-does") })
}

/// `codes`: they can be sent to the signer, beside those of the app.
fn secrets(codes: bool, words: Messages) -> Vec<Value> {
    let label = words.t("csc-otp");
    let otp = match codes {
        true => {
            json!({ "type": "ChallengeResponse", "id": v1::OTP, "format": "N", "label": label,
            "description": words.t("csc-otp-sent") })
        }
        false => {
            json!({ "type": "Password", "id": v1::OTP, "format": "N", "generator": "totp", "label": label,
            "description": words.t("csc-otp-app") })
        }
    };
    vec![
        json!({ "type": "Password", "id": v1::PIN, "format": "A", "label": words.t("csc-pin"),
            "description": words.t("csc-pin-does") }),
        otp,
    ]
}

/// `YYYYMMDDHHMMSSZ`
fn compact(time: UnixTime) -> String {
    time.rfc3339()
        .chars()
        .filter(|c| !"-:T".contains(*c))
        .collect()
}
