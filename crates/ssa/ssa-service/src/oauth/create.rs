//! A new credential for somebody who has one (`credentials/create`, `docs/design/0024-create-and-open.md`): the person agrees here, makes key and
//! factor on the SIC page with an invitation of the SSA's own, which the SAM holds to level 1, and has a certificate for the name that
//! their other certificates have. Then the client gets its code.

use axum::response::Response;
use core_types::{PersonId, VoucherId};
use csc_types::{AuthorizeRequest, OAuthError, Purpose};
use pki::Certificate;
use sam_api::ssa::{KeyInfo, KeyState};
use sap::enrol::Subject;
use store_kit::transaction;

use super::approve::{deny, finish, prepare_refused};
use super::{Refused, params};
use crate::Ssa;
use crate::admin::{AdminError, NewInvitation};
use crate::config::Creation;
use crate::enrol::{self, EnrolError, Enrolled};
use crate::flow::{self, Flow, FlowState};
use crate::keys::read_certificate;
use crate::pages::{self, Visit, waiting};
use crate::port::CertifyError;
use crate::session::Session;
use crate::tokens::KeyFacts;

/// Life of the invitation in seconds.
const INVITATION_LIFE: i64 = 600;
/// Most living keys of a person that applications may bring them to.
const MOST: usize = 8;

/// What is made for this request, if the operator lets clients ask for it. Without a policy it is the first kind.
pub(super) fn kind<'s>(ssa: &'s Ssa, policy: Option<&str>) -> Result<&'s Creation, OAuthError> {
    let mut kinds = ssa.config().creations.iter();
    let found = kinds.find(|kind| policy.is_none() || kind.policy.as_deref() == policy);
    found.ok_or(OAuthError::InvalidDetails(
        "no such credential can be created here",
    ))
}

/// Whether this certificate was issued under this policy.
pub(crate) fn is_under(der: &[u8], policy: &str) -> bool {
    let policies = Certificate::parse(der).and_then(|cert| cert.policies());
    policies.is_ok_and(|policies| policies.iter().any(|known| known == policy))
}

/// The person agreed: invites them, and sends them to the SIC page.
pub(super) async fn begin(
    ssa: &Ssa,
    visit: &Visit,
    flow: Flow,
    session: &Session,
    handle: &str,
) -> Result<Response, Refused> {
    if flow.state != FlowState::Begun {
        return Ok(pages::go(&format!("/oauth2/continue/{handle}")));
    }
    let request = AuthorizeRequest::parse(&params(&flow.pairs)?)?;
    let Purpose::Creation(asked) = &request.purpose else {
        return Err(OAuthError::ServerError.into());
    };
    let kind = kind(ssa, asked.certificate_policy.as_deref())?;
    let keys = match ssa.keys_of(&session.person).await {
        Ok(keys) => keys,
        Err(error) => return deny(ssa, visit, flow, &prepare_refused(&error), "keys").await,
    };
    let Some(subject) = identity(ssa, &keys) else {
        // Nobody has said yet who this is; that is for a registration authority, and no client's wish.
        return deny(ssa, visit, flow, &OAuthError::AccessDenied, "identity").await;
    };
    let living = keys.iter().filter(|key| key.state != KeyState::Destroyed);
    if living.count() >= MOST {
        return deny(ssa, visit, flow, &OAuthError::AccessDenied, "key-count").await;
    }
    let invitation = NewInvitation {
        person: Some(session.person.clone()),
        subject,
        keys: vec![kind.key],
        life: INVITATION_LIFE,
    };
    let back = format!("{}/oauth2/resume/{handle}", ssa.config().base_url);
    let invited = match ssa.invite_and_return(invitation, |_| back).await {
        Ok(invited) => invited,
        Err(AdminError::Sam(error)) => {
            return deny(ssa, visit, flow, &prepare_refused(&error), "invitation").await;
        }
        Err(AdminError::Store(error)) => return Err(error.into()),
        Err(error) => {
            tracing::error!(%error, "a person could not be invited");
            return Err(OAuthError::ServerError.into());
        }
    };
    let place = voucher_place(&session.person, &flow);
    let sealed = ssa
        .sealer()
        .seal(ssa.random(), &place, invited.voucher.as_str().as_bytes());
    let mut next = flow;
    next.state = FlowState::Asked;
    next.person = Some(session.person.clone());
    next.rid = Some(sealed.ok_or(OAuthError::ServerError)?);
    let stored = transaction!(ssa.store(), "creation-begun", |tx| {
        flow::update(tx, &next).await
    })?;
    let link = ssa.enrolment_link(&invited).filter(|_| stored);
    Ok(match link {
        // The fragment never reaches a log or a Referer.
        Some(link) => pages::found(link.expose()),
        // The same button was pressed twice at once; the other invitation is the one that counts.
        None => pages::go(&format!("/oauth2/continue/{handle}")),
    })
}

/// What became of it on the SIC page. `back`: the browser comes from there.
pub(super) async fn decided(
    ssa: &Ssa,
    visit: &Visit,
    mut flow: Flow,
    session: &Session,
    handle: &str,
    back: bool,
) -> Result<Response, Refused> {
    let voucher = open_voucher(ssa, &flow, &session.person).ok_or(OAuthError::ServerError)?;
    let denied = OAuthError::AccessDenied;
    let (person, keys) = match ssa.complete_enrolment(&voucher).await {
        Ok(Enrolled::Open) if back => return Ok(waiting::undecided(ssa, visit, handle, &flow)),
        Ok(Enrolled::Open) => return on(ssa, &voucher).await,
        Ok(Enrolled::Dead) => return deny(ssa, visit, flow, &denied, "expired").await,
        Ok(Enrolled::Done { person, keys }) => (person, keys),
        Err(EnrolError::Certify(CertifyError::Refused(_))) => {
            return deny(ssa, visit, flow, &denied, "registration").await;
        }
        Err(error) => {
            // Nothing is lost: the page can be loaded again.
            tracing::warn!(%error, "an enrolment could not be completed");
            return Err(OAuthError::Unavailable.into());
        }
    };
    let ([key], true) = (keys.as_slice(), person == session.person) else {
        tracing::error!("the SAM enrolled something else than was asked");
        return Err(OAuthError::ServerError.into());
    };
    let found = ssa.key_of(&person, key).await;
    let found = found.map_err(|error| prepare_refused(&error))?;
    let (info, cert) = found.ok_or(OAuthError::Unavailable)?;
    let request = AuthorizeRequest::parse(&params(&flow.pairs)?)?;
    if let Purpose::Creation(asked) = &request.purpose
        && let Some(policy) = &asked.certificate_policy
        && !info
            .chain
            .first()
            .is_some_and(|own| is_under(&own.0, policy))
    {
        tracing::error!(%policy, "a certificate was not issued under the policy that the configuration names");
        return deny(ssa, visit, flow, &OAuthError::ServerError, "policy").await;
    }
    flow.facts = Some(KeyFacts {
        key: key.clone(),
        alg: info.alg,
        not_after: cert.not_after,
    });
    finish(ssa, visit, flow, session).await
}

/// The name that an authority has approved for this person's newest usable key.
fn identity(ssa: &Ssa, keys: &[KeyInfo]) -> Option<Subject> {
    let now = ssa.now();
    let current = |key: &&KeyInfo| {
        let cert = key.chain.first().and_then(|own| read_certificate(&own.0));
        key.state == KeyState::Active && cert.is_some_and(|cert| now < cert.not_after)
    };
    let known = keys.iter().rev().find(current)?;
    Some(known.subject.clone())
}

async fn on(ssa: &Ssa, voucher: &VoucherId) -> Result<Response, Refused> {
    let mut tx = ssa.store().read("invitation").await?;
    let invitation = enrol::find_by_voucher(&mut tx, voucher.as_str()).await?;
    drop(tx);
    let link = invitation.and_then(|invitation| ssa.sic_link(&invitation));
    Ok(pages::found(&link.ok_or(OAuthError::ServerError)?))
}

/// What a sealed voucher is bound to.
fn voucher_place(person: &PersonId, flow: &Flow) -> String {
    format!("ssa/creation/{person}/{}", flow.client)
}

fn open_voucher(ssa: &Ssa, flow: &Flow, person: &PersonId) -> Option<VoucherId> {
    let place = voucher_place(person, flow);
    let voucher = ssa.sealer().open(&place, flow.rid.as_ref()?)?;
    VoucherId::parse(std::str::from_utf8(voucher.expose()).ok()?).ok()
}
