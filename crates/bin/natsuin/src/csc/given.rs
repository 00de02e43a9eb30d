//! What commands are given, and how an answer is told.

use std::path::Path;

use core_types::clock::SystemClock;
use core_types::{Clock as _, SecretBytes};
use csc_client::plain::{Answer, Service};
use csc_client::{ClientError, HttpOptions};
use csc_types::SecretText;
use serde_json::{Value, json};
use sic_core::Totp;

use super::At;
use crate::output::{Exit, Failure, Out};
use crate::proofs::of_session;

pub(super) fn options(at: &At) -> Result<HttpOptions, Failure> {
    let mut roots = Vec::new();
    for file in &at.trust {
        roots.extend(std::fs::read(file).map_err(|e| input(file, &e))?);
        roots.push(b'\n');
    }
    Ok(HttpOptions {
        extra_roots_pem: Some(roots).filter(|roots| !roots.is_empty()),
        identity_pem: at.certificate.pem()?,
        ..HttpOptions::default()
    })
}

pub(super) fn service(at: &At) -> Result<Service, Failure> {
    let service = Service::new(&at.url, &options(at)?).map_err(|e| address(&e))?;
    Ok(match &at.dpop_key_file {
        None => service,
        Some(file) => service.with_dpop(of_session(file, false)?),
    })
}

pub(super) fn address(error: &ClientError) -> Failure {
    Failure::new(
        Exit::Input,
        "address",
        error.to_string(),
        "give the address of the API with --url, and its CA with --trust",
    )
}

/// The password with the code of the moment directly behind it, as `auth/login` takes both.
pub(super) fn with_code(password: SecretText, seed: Option<&Path>) -> Result<SecretText, Failure> {
    let Some(seed) = seed else {
        return Ok(password);
    };
    let code = code(seed)?;
    Ok(SecretText::new(format!(
        "{}{}",
        password.expose(),
        code.expose()
    )))
}

pub(super) fn no_place(error: &ClientError) -> Failure {
    Failure::new(
        Exit::Input,
        "credential-mode",
        error.to_string(),
        "see the credential with natsuin csc list --key ID; one in OAuth mode is authorized with --client",
    )
}

/// One line of a file, without the end of the line.
pub(super) fn secret(file: &Path) -> Result<SecretText, Failure> {
    let text = std::fs::read_to_string(file).map_err(|e| input(file, &e))?;
    Ok(SecretText::new(
        text.trim_end_matches(['\r', '\n']).to_owned(),
    ))
}

/// The code of the moment.
pub(super) fn code(file: &Path) -> Result<SecretText, Failure> {
    let seed = SecretBytes::from(secret(file)?.expose().to_owned());
    let totp = Totp::from_base32(&seed).map_err(|_| input(file, &"not a seed in base32"))?;
    let code = totp.code(SystemClock.now());
    Ok(SecretText::new(
        String::from_utf8_lossy(code.expose()).into_owned(),
    ))
}

pub(super) fn input(file: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        Exit::Input,
        "file",
        format!("{}: {why}", file.display()),
        "name a file that can be read",
    )
}

pub(super) fn unreachable(error: &ClientError) -> Failure {
    Failure::new(
        Exit::Unreachable,
        "no-answer",
        error.to_string(),
        "check --url and --trust, and whether the service runs",
    )
}

/// Prints an answer as it came; a refusal is a result too.
pub(super) fn told(answer: Result<Answer, ClientError>, out: Out) -> Result<Exit, Failure> {
    let answer = answer.map_err(|e| unreachable(&e))?;
    let body = answer.json().unwrap_or(Value::Null);
    Ok(say(answer.status, &body, out))
}

/// The same of something that may still be on its way: then nothing failed, and there is no result.
pub(super) fn told_or_waits(
    answer: Result<Answer, ClientError>,
    out: Out,
) -> Result<Exit, Failure> {
    let waits = answer.as_ref().is_ok_and(|answer| answer.status == 202);
    let exit = told(answer, out)?;
    Ok(if waits { Exit::Undetermined } else { exit })
}

/// The same of what a registered client did, which has no answer but yes or no.
pub(super) fn done(outcome: Result<(), ClientError>, out: Out) -> Result<Exit, Failure> {
    match outcome {
        Ok(()) => Ok(say(204, &Value::Null, out)),
        Err(ClientError::Api { status, body, .. }) => Ok(say(status, &json!(body), out)),
        Err(error) => Err(unreachable(&error)),
    }
}

fn say(status: u16, body: &Value, out: Out) -> Exit {
    out.say(&serde_json::to_string_pretty(body).unwrap_or_default());
    out.object(&json!({ "schema": "natsuin.csc/1", "status": status, "answer": body }));
    match status {
        200..300 => Exit::Good,
        _ => Exit::Declined,
    }
}
