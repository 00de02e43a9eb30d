//! The SAM's listeners. Which peer may call what is decided by the name in its certificate: the SSA's services reach
//! `/sam/v1/*` only, the SIC gateways the signers' `/sap/v1/*` only, the officers' gateways theirs only.

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use cm_api::CryptoModule;
use sam_api::{Refusal, guard, ssa};
use sap::messages::{self as sic, SapRefusal, SapRefusalCode};
use sap::office::calls::{self as office, OfficeRefusal};
use service_kit::{Peer, Routes};

use crate::flows::Door;
use crate::sam::Sam;

/// Longest request of the SSA: 10,000 items with signedAttrs.
const SSA_LIMIT: usize = 32 * 1024 * 1024;
/// Longest message of the signer's side: a registration with certificates.
const GATEWAY_LIMIT: usize = 64 * 1024;

/// Routes for the listener of the SSA's services.
pub fn ssa_router<C: CryptoModule>(sam: Sam<C>) -> Router {
    Routes::new(Arc::new(sam), SSA_LIMIT)
        .method::<ssa::About, _, _>(|s, p, _| whole(async move { admit(&s, &p)?.about().await }))
        .method::<ssa::Prepare, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p)?.prepare(&p.name, r).await })
        })
        .method::<ssa::Status, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p)?.status(&p.name, r).await })
        })
        .method::<ssa::Bind, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p)?.bind(&p.name, r).await })
        })
        .method::<ssa::Explicit, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p)?.explicit(&p.name, r).await })
        })
        .method::<ssa::SendCode, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p)?.send_code(&p.name, r).await })
        })
        .method::<ssa::Sign, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p)?.sign(&p.name, r).await })
        })
        .method::<ssa::Renew, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p)?.renew(&p.name, r).await })
        })
        .method::<ssa::Voucher, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p)?.voucher(&p.name, r).await })
        })
        .method::<ssa::Enrolment, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p)?.enrolment(&p.name, r).await })
        })
        .method::<ssa::Certificate, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p)?.certificate(&p.name, r).await })
        })
        .method::<ssa::Keys, _, _>(|s, p, r| whole(async move { admit(&s, &p)?.keys(r).await }))
        .method::<ssa::Ask, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p)?.ask(&p.name, r).await })
        })
        .method::<ssa::Stop, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p)?.stop(&p.name, r).await })
        })
        .method::<guard::GuardStop, _, _>(|s, p, r| {
            whole(async move { admit_guard(&s, &p)?.guard_stop(&p.name, r).await })
        })
        .method::<ssa::Notice, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p)?.notice(&p.name, r).await })
        })
        .method::<ssa::Factors, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p)?.factors(r).await })
        })
        .method::<ssa::Signatures, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p)?.signatures(r).await })
        })
        .method::<ssa::Receipt, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p)?.receipt(r).await })
        })
        .method::<ssa::HandedOver, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p)?.handed_over(r).await })
        })
        .method::<ssa::History, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p)?.history(r).await })
        })
        .into_router()
}

/// Routes for the listener of the SIC gateways.
pub fn gateway_router<C: CryptoModule>(sam: Sam<C>) -> Router {
    Routes::new(Arc::new(sam), GATEWAY_LIMIT)
        .method::<sic::Keys, _, _>(|s, p, _| {
            whole(async move { admit_gateway(&s, &p)?.statement().await })
        })
        .method::<sic::Open, _, _>(|s, p, r| {
            whole(async move { admit_gateway(&s, &p)?.open(r).await })
        })
        .method::<sic::Approve, _, _>(|s, p, r| {
            whole(async move { admit_gateway(&s, &p)?.approve(r).await })
        })
        .method::<sic::Refuse, _, _>(|s, p, r| {
            whole(async move { admit_gateway(&s, &p)?.refuse(r).await })
        })
        .method::<sic::Outcome, _, _>(|s, p, r| {
            whole(async move { admit_gateway(&s, &p)?.outcome(r).await })
        })
        .method::<sic::FactorSeed, _, _>(|s, p, r| {
            whole(async move { admit_gateway(&s, &p)?.factor_seed(r).await })
        })
        .method::<sic::ImportKey, _, _>(|s, p, r| {
            whole(async move { admit_gateway(&s, &p)?.import_key(r).await })
        })
        .method::<sic::Import, _, _>(|s, p, r| {
            whole(async move { admit_gateway(&s, &p)?.import(r).await })
        })
        .method::<sic::EnrolOpen, _, _>(|s, p, r| {
            whole(async move { admit_gateway(&s, &p)?.enrol_open(r).await })
        })
        .method::<sic::EnrolSeed, _, _>(|s, p, r| {
            whole(async move { admit_gateway(&s, &p)?.enrol_seed(r).await })
        })
        .method::<sic::EnrolRegister, _, _>(|s, p, r| {
            whole(async move { admit_gateway(&s, &p)?.enrol_register(r).await })
        })
        .into_router()
}

/// Routes for the listener of the officers' gateways. What signers call isn't here, and the reverse.
pub fn office_router<C: CryptoModule>(sam: Sam<C>) -> Router {
    Routes::new(Arc::new(sam), GATEWAY_LIMIT)
        .method::<sic::Keys, _, _>(|s, p, _| {
            whole(async move { enter(&s, &p, sap_no)?.statement().await })
        })
        .method::<sic::EnrolOpen, _, _>(|s, p, r| {
            whole(async move { enter(&s, &p, sap_no)?.enrol_open_at(Door::Office, r).await })
        })
        .method::<sic::EnrolRegister, _, _>(|s, p, r| {
            whole(async move {
                enter(&s, &p, sap_no)?
                    .enrol_register_at(Door::Office, r)
                    .await
            })
        })
        .method::<office::LogInOpen, _, _>(|s, p, r| {
            whole(async move { enter(&s, &p, no)?.log_in_open(r).await })
        })
        .method::<office::LogIn, _, _>(|s, p, r| {
            whole(async move { enter(&s, &p, no)?.log_in(r).await })
        })
        .method::<office::LogOut, _, _>(|s, p, r| {
            whole(async move { enter(&s, &p, no)?.log_out(r).await })
        })
        .method::<office::Propose, _, _>(|s, p, r| {
            whole(async move { enter(&s, &p, no)?.propose(r).await })
        })
        .method::<office::Proposals, _, _>(|s, p, r| {
            whole(async move { enter(&s, &p, no)?.proposals(r).await })
        })
        .method::<office::ProposalOpen, _, _>(|s, p, r| {
            whole(async move { enter(&s, &p, no)?.proposal_open(r).await })
        })
        .method::<office::ProposalApprove, _, _>(|s, p, r| {
            whole(async move { enter(&s, &p, no)?.proposal_approve(r).await })
        })
        .method::<office::ProposalEnd, _, _>(|s, p, r| {
            whole(async move { enter(&s, &p, no)?.proposal_end(r).await })
        })
        .method::<office::ProposalTake, _, _>(|s, p, r| {
            whole(async move { enter(&s, &p, no)?.proposal_take(r).await })
        })
        .method::<office::People, _, _>(|s, p, r| {
            whole(async move { enter(&s, &p, no)?.people(r).await })
        })
        .method::<office::State, _, _>(|s, p, r| {
            whole(async move { enter(&s, &p, no)?.state(r).await })
        })
        .method::<office::Audit, _, _>(|s, p, r| {
            whole(async move { enter(&s, &p, no)?.audit_search(r).await })
        })
        .into_router()
}

/// Says *not now*, as everybody does who can't tell more.
trait NotNow {
    fn not_now() -> Self;
}

impl NotNow for Refusal {
    fn not_now() -> Self {
        Self::NotNow
    }
}

impl NotNow for SapRefusal {
    fn not_now() -> Self {
        Self::new(SapRefusalCode::NotNow)
    }
}

impl NotNow for OfficeRefusal {
    fn not_now() -> Self {
        no(SapRefusalCode::NotNow)
    }
}

fn no(code: SapRefusalCode) -> OfficeRefusal {
    OfficeRefusal { code, rule: None }
}

fn sap_no(code: SapRefusalCode) -> SapRefusal {
    SapRefusal::new(code)
}

/// Runs a call in a task of its own, so that it isn't cut off half way when the connection closes.
async fn whole<T, R>(call: impl Future<Output = Result<T, R>> + Send + 'static) -> Result<T, R>
where
    T: Send + 'static,
    R: NotNow + Send + 'static,
{
    tokio::spawn(call)
        .await
        .unwrap_or_else(|_| Err(R::not_now()))
}

fn admit<'s, C: CryptoModule>(sam: &'s Sam<C>, peer: &Peer) -> Result<&'s Sam<C>, Refusal> {
    if sam.config.services.contains(&peer.name) {
        return Ok(sam);
    }
    tracing::warn!(peer = %peer.name, "a caller that is no service of the SSA was refused");
    Err(Refusal::NotFound)
}

/// A guard is nobody's service: what it may do is one method.
fn admit_guard<'s, C: CryptoModule>(sam: &'s Sam<C>, peer: &Peer) -> Result<&'s Sam<C>, Refusal> {
    if sam.config.guards.contains(&peer.name) {
        return Ok(sam);
    }
    tracing::warn!(peer = %peer.name, "a caller that is no guard was refused");
    Err(Refusal::NotFound)
}

fn admit_gateway<'s, C: CryptoModule>(
    sam: &'s Sam<C>,
    peer: &Peer,
) -> Result<&'s Sam<C>, SapRefusal> {
    if sam.config.gateways.contains(&peer.name) {
        return Ok(sam);
    }
    tracing::warn!(peer = %peer.name, "a caller that is no SIC gateway was refused");
    Err(SapRefusal::new(SapRefusalCode::NotFound))
}

fn enter<'s, C: CryptoModule, R>(
    sam: &'s Sam<C>,
    peer: &Peer,
    no: fn(SapRefusalCode) -> R,
) -> Result<&'s Sam<C>, R> {
    if sam.config.office.gateways.contains(&peer.name) {
        return Ok(sam);
    }
    tracing::warn!(peer = %peer.name, "a caller that is no gateway of officers was refused");
    Err(no(SapRefusalCode::NotFound))
}
