//! `signatures/signHash` (CSC 11.13). The SSA checks form and rights it knows; whether these hashes may be signed is
//! the SAM's decision alone.

use axum::body::Bytes;
use axum::http::HeaderMap;
use core_types::bytes::b64;
use core_types::{ClientId, PersonId, SecretBytes};
use csc_types::algorithm::{check_digests, decide};
use csc_types::{
    CounterSignatures, CscError, SecretText, SignHashAnswer, SignHashRequest, SignHashResponse,
    SignMode,
};
use sam_api::ssa::{SignAnswer, SignRequest};
use store_kit::transaction;

use super::refusals::{Fault, Presented, of_sign};
use super::{Bearer, Call, bearer, lookup, refused};
use crate::contract::{self, Quota, Uncounted};
use crate::limits::Wait;
use crate::tokens::{KeyFacts, Scope, Token};
use crate::{Ssa, crypt, later};

const METHOD: &str = "signatures/signHash";

pub(super) async fn sign_hash(
    ssa: &Ssa,
    call: &Call,
    body: Bytes,
) -> Result<SignHashAnswer, Fault> {
    let bearer = bearer(ssa, call).await?;
    let person = bearer.token.clone();
    let done = attempt(ssa, call, bearer, body).await;
    if let Err(fault) = &done {
        refused(ssa, METHOD, &person, fault.reason()).await?;
    }
    done
}

async fn attempt(
    ssa: &Ssa,
    call: &Call,
    bearer: Bearer,
    body: Bytes,
) -> Result<SignHashAnswer, Fault> {
    let (request, mode) = SignHashRequest::parse_with_mode(&body)?;
    if call.v1 && mode != SignMode::Now {
        return Err(CscError::InvalidParameter("operationMode").into());
    }
    let settings = &bearer.client.settings;
    if let SignMode::Later {
        response_uri: Some(uri),
        ..
    } = &mode
        && !settings.response_uris.contains(uri)
    {
        return Err(CscError::InvalidParameter("response_uri").into());
    }
    if mode != SignMode::Now && !later::has_room(ssa, &bearer.client.id).await? {
        return Err(Fault::from(Wait(5)));
    }
    let quota = settings.quota;
    let (token, text, facts, presented) = authority(ssa, bearer, request.sad.as_ref()).await?;
    if request.credential_id != facts.key.as_str() {
        return Err(CscError::InvalidParameter("credentialID").into());
    }
    let params = request.sign_algo_params.as_deref();
    let alg = decide(
        facts.alg,
        &request.sign_algo,
        request.hash_algorithm_oid.as_deref(),
        params,
    )?;
    check_digests(alg, &request.hashes)?;
    if ssa.now() >= facts.not_after {
        return Err(ran_out(ssa, call, token.person.as_ref(), &facts)
            .await
            .into());
    }
    if !quota.is_unlimited() {
        let n = u32::try_from(request.hashes.len()).unwrap_or(u32::MAX);
        count(ssa, &token.client, quota, &text, n).await?;
    }
    let asked = SignRequest {
        token: SecretBytes::from(text.expose().to_owned()),
        client: token.client.clone(),
        key: facts.key,
        alg,
        hashes: request.hashes.into_iter().map(Into::into).collect(),
        idempotency_key: idempotency_key(&call.headers)?,
    };
    if let SignMode::Later { keep, response_uri } = mode {
        let response_id = later::begin(ssa, &token, asked, keep, response_uri).await?;
        let response_id = response_id.ok_or(CscError::Internal)?;
        return Ok(SignHashAnswer::Accepted { response_id });
    }
    let answer = ssa
        .sam()
        .sign(&asked)
        .await
        .map_err(|error| of_sign(error, presented))?;
    Ok(SignHashAnswer::Signed(signed(answer)))
}

/// Values as clients get them.
pub(crate) fn signed(answer: SignAnswer) -> SignHashResponse {
    let values: Vec<Vec<u8>> = answer.signatures.into_iter().map(|value| value.0).collect();
    let counter_signatures = answer.counter.map(|counter| CounterSignatures {
        signer_infos: counter.infos.iter().map(|info| b64(&info.0)).collect(),
        certificates: counter.chain.iter().map(|cert| b64(&cert.0)).collect(),
    });
    SignHashResponse {
        counter_signatures,
        ..SignHashResponse::new(&values)
    }
}

/// The certificate ran out. Version 1 names its owner, as far as the SAM can be asked.
pub(super) async fn ran_out(
    ssa: &Ssa,
    call: &Call,
    person: Option<&PersonId>,
    facts: &KeyFacts,
) -> CscError {
    let Some(person) = person.filter(|_| call.v1) else {
        return CscError::CertificateExpired(None);
    };
    let found = ssa.key_of(person, &facts.key).await.ok().flatten();
    CscError::CertificateExpired(found.map(|(key, _)| {
        let organization = key.subject.organization.map(|o| format!("O={o},"));
        let organization = organization.unwrap_or_default();
        format!("{organization}CN={}", key.subject.common_name)
    }))
}

/// Takes what is asked for from the client's quota.
async fn count(
    ssa: &Ssa,
    client: &ClientId,
    quota: Quota,
    token: &SecretText,
    asked: u32,
) -> Result<(), Fault> {
    let (id, now) = (crypt::digest(token.expose()), ssa.now());
    let counted = transaction!(ssa.store(), "count-signatures", |tx| {
        contract::count(tx, client, quota, &id, asked, now).await
    });
    counted.map_err(|uncounted| match uncounted {
        Uncounted::Exceeded { seconds } => {
            Fault::over_quota(Wait(u32::try_from(seconds).unwrap_or(u32::MAX)))
        }
        Uncounted::Store(error) => error.into(),
    })
}

/// The token that carries the right to sign: the bearer token itself, or a `SAD` of the same person and client.
pub(super) async fn authority(
    ssa: &Ssa,
    bearer: Bearer,
    sad: Option<&SecretText>,
) -> Result<(Token, SecretText, KeyFacts, Presented), Fault> {
    if let Scope::Credential(facts) = bearer.token.scope.clone() {
        // Some clients send the same token in both places; another one would be somebody else's right.
        if sad.is_some_and(|sad| *sad != bearer.text) {
            return Err(CscError::InvalidParameter("SAD").into());
        }
        return Ok((bearer.token, bearer.text, facts, Presented::Bearer));
    }
    let sad = sad.ok_or(CscError::MissingString("SAD"))?;
    let token = lookup(ssa, sad).await?.ok_or(Presented::Sad.dead())?;
    // The caller proved the key of the bearer token only: the right to sign must be bound to the same one.
    let same = token.client == bearer.token.client
        && (token.person == bearer.token.person || bearer.token.person.is_none())
        && token.holder == bearer.token.holder;
    let Scope::Credential(facts) = token.scope.clone() else {
        return Err(Presented::Sad.dead().into());
    };
    if !same {
        return Err(Presented::Sad.dead().into());
    }
    if !token.live(ssa.now()) {
        return Err(Presented::Sad.expired().into());
    }
    Ok((token, sad.clone(), facts, Presented::Sad))
}

/// 1 to 128 visible ASCII characters.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, CscError> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default();
    let visible = text.chars().all(|c| c.is_ascii_graphic());
    if visible && (1..=128).contains(&text.len()) {
        Ok(Some(text.to_owned()))
    } else {
        Err(CscError::InvalidParameter("Idempotency-Key"))
    }
}
