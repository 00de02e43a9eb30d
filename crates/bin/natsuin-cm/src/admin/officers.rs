//! What officers decide about the module: their keys, their approvals, and bringing these to it.

use std::fs;
use std::path::{Path, PathBuf};

use cm_api::officers::OfficerList;
use cm_api::rpc::{Empty, Health, SelfTest, Status, SwitchModule, SwitchRequest};
use cm_api::switch::Switch;
use cm_core::Policy;
use core_types::words::is_reason;
use core_types::{SecretBytes, UnixTime};
use jose::SigningKey;
use serde_json::json;
use service_kit::{Answer, Client, Trouble, daemon};

use super::{To, file, trouble, write_new};

pub(crate) fn officer_key(out: &Path, public: &Path) -> Result<String, Trouble> {
    let made = SigningKey::generate();
    let (key, pkcs8) = made.map_err(|e| trouble("keys", e, "try again"))?;
    let jwk = serde_json::to_vec(key.public()).map_err(|e| trouble("keys", e, "try again"))?;
    write_new(out, pkcs8.expose())?;
    write_new(public, &jwk)?;
    Ok(format!(
        "{} is the officer's alone; {} belongs into officers",
        out.display(),
        public.display()
    ))
}

pub(crate) fn officer(key: &Path) -> Result<SigningKey, Trouble> {
    let pkcs8 = SecretBytes::new(fs::read(key).map_err(|e| file(key, &e))?);
    let remedy = "use a key that officer-key has made";
    SigningKey::from_pkcs8(&pkcs8).map_err(|e| trouble("keys", e, remedy))
}

pub(crate) fn sign_algorithms(key: &Path, table: &Path) -> Result<String, Trouble> {
    let signed = Policy::sign(&daemon::text(table)?, &officer(key)?);
    signed.map_err(|e| trouble("bad-config", e, "correct the table"))
}

pub(crate) fn approve_officers(
    sam: &str,
    key: &Path,
    root: &Path,
    (version, reason): (u64, &str),
    officers: &[PathBuf],
) -> Result<String, Trouble> {
    let public = |path: &PathBuf| {
        let jwk = serde_json::from_str(&daemon::text(path)?);
        jwk.map_err(|e| trouble("keys", e, "give a public key as a JWK (P-256)"))
    };
    let list = OfficerList {
        sam: sam.to_owned(),
        root: read_root(root)?.kid(),
        version,
        reason: checked(reason)?,
        officers: officers.iter().map(public).collect::<Result<_, _>>()?,
    };
    if !list.is_possible() {
        return Err(trouble(
            "cm-officers",
            "an officer is there twice, or there are more than 16",
            "name every officer once",
        ));
    }
    let approval = list.approve(&officer(key)?);
    approval.map_err(|e| trouble("keys", e, "use a key that officer-key has made"))
}

/// A reason that others can read.
pub(crate) fn checked(reason: &str) -> Result<String, Trouble> {
    match is_reason(reason) {
        true => Ok(reason.to_owned()),
        false => Err(trouble(
            "bad-value",
            "the reason is empty, longer than 200 characters, or has hidden characters",
            "say in a few plain words why",
        )),
    }
}

/// What an officer approves of the module's switch.
pub(crate) struct Decision<'d> {
    pub(crate) to: To,
    pub(crate) serial: u64,
    pub(crate) error: Option<String>,
    pub(crate) reason: &'d str,
    pub(crate) exp: i64,
}

/// Says what is going to be signed, where the signature itself doesn't go.
#[expect(
    clippy::print_stderr,
    reason = "for the officer, beside what is piped into a file"
)]
pub(crate) fn tell(sentence: &str) {
    eprintln!("You sign: {sentence}");
}

pub(crate) fn approve(
    sam: &str,
    key: &Path,
    root: &Path,
    decision: Decision<'_>,
) -> Result<String, Trouble> {
    let officer = officer(key)?;
    let to = decision.to;
    let wanted = Switch {
        sam: sam.to_owned(),
        root: read_root(root)?.kid(),
        enabled: to != To::Disabled,
        recover: to == To::Recovered,
        error: decision.error.filter(|_| to == To::Recovered),
        reason: checked(decision.reason)?,
        serial: decision.serial,
        exp: UnixTime(decision.exp),
    };
    tell(&wanted.sentence());
    let approval = wanted.approve(&officer);
    approval.map_err(|e| trouble("keys", e, "use a key that officer-key has made"))
}

/// The module's root key, as others pin it.
pub(crate) fn read_root(path: &Path) -> Result<jose::Jwk, Trouble> {
    serde_json::from_str(&daemon::text(path)?)
        .map_err(|e| trouble("keys", e, "give the module's root key as a JWK"))
}

/// Approvals, one in each file.
pub(crate) fn read_approvals(paths: &[PathBuf]) -> Result<Vec<String>, Trouble> {
    let read = |path: &PathBuf| Ok(daemon::text(path)?.trim().to_owned());
    paths.iter().map(read).collect()
}

pub(crate) async fn switch(client: &Client, approvals: Vec<String>) -> Result<Answer, Trouble> {
    let request = SwitchRequest { approvals };
    let health = client.call::<SwitchModule>(&request).await;
    let remedy = "two different officers approve the same bytes, with the next serial, within the hour; to leave the state error, \
                  natsuin-cm self-test has to pass first";
    let health = health.map_err(|e| trouble("switch", format!("{e:?}"), remedy))?;
    let words = format!(
        "the module is {:?}; switched {} times",
        health.state, health.switched
    );
    Ok(told(words, &health))
}

/// How the module is, in words and for programs.
fn told(words: String, health: &Health) -> Answer {
    Answer::new(words, json!({ "health": health }))
}

pub(crate) async fn status(client: &Client) -> Result<Answer, Trouble> {
    let health = client.call::<Status>(&Empty {}).await;
    let remedy = "start the module, and call it with the certificate that administrator of its settings names";
    let health = health.map_err(|e| trouble("status", format!("{e:?}"), remedy))?;
    let device = health.device.as_deref();
    let device = device.map(|device| format!("; device {device}"));
    let error = health.error.as_deref();
    let error = error.map(|error| format!("; its error is {error}"));
    let words = format!(
        "the module is {:?}; switched {} times; back end {}; ceiling {}{}{}",
        health.state,
        health.switched,
        health.backend,
        health.ceiling,
        device.unwrap_or_default(),
        error.unwrap_or_default()
    );
    Ok(told(words, &health))
}

pub(crate) async fn self_test(client: &Client) -> Result<Answer, Trouble> {
    let health = client.call::<SelfTest>(&Empty {}).await;
    let remedy = "a module that is locked or disabled isn't tested; else look at its log";
    let health = health.map_err(|e| trouble("self-test", format!("{e:?}"), remedy))?;
    let tested = match (health.operational, health.tested) {
        (true, _) => "; the tests passed".to_owned(),
        (false, Some(at)) => format!("; the tests passed at {at}"),
        (false, None) => "; the tests didn't pass".to_owned(),
    };
    let error = health.error.as_deref();
    let error = error.map(|error| format!("; its error is {error}"));
    let tokens = (0..).zip(&health.members);
    let tokens: String = tokens
        .map(|(index, member)| format!("; token {index} is {:?}", member.state))
        .collect();
    let words = format!(
        "the module is {:?}; switched {} times{tested}{}{tokens}",
        health.state,
        health.switched,
        error.unwrap_or_default()
    );
    Ok(told(words, &health))
}
