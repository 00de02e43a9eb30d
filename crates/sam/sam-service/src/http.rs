//! The SAM's listeners. Which peer may call what is decided by the name in its certificate: the SSA's services reach
//! `/sam/v1/*` only, each within its tenant, the SIC gateways the signers' `/sap/v1/*` only, the officers' gateways theirs only.
//! An authority's notice speaks for itself and is heeded from either side: neither can keep it back alone.

use std::future::Future;
use std::sync::Arc;

use audit_log::Event;
use axum::Router;
use cm_api::CryptoModule;
use core_types::PeerId;
use sam_api::{Refusal, guard, ssa};
use sap::messages::{self as sic, SapRefusal, SapRefusalCode};
use sap::office::calls::{self as office, OfficeRefusal};
use service_kit::{Peer, Rate, Routes};

use crate::flows::Door;
use crate::sam::Sam;

/// Longest request of the SSA: 10,000 items with signedAttrs.
const SSA_LIMIT: usize = 32 * 1024 * 1024;
/// Longest message of the signer's side: a registration with certificates.
const GATEWAY_LIMIT: usize = 64 * 1024;

/// Routes for the listener of the SSA's services.
pub fn ssa_router<C: CryptoModule>(sam: Sam<C>) -> Router {
    Routes::new(Arc::new(sam), SSA_LIMIT)
        .method::<ssa::About, _, _>(|s, p, _| {
            whole(async move { admit(&s, &p).await?.about().await })
        })
        .method::<ssa::Prepare, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p).await?.prepare(&p.name, r).await })
        })
        .method::<ssa::Status, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p).await?.status(&p.name, r).await })
        })
        .method::<ssa::Bind, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p).await?.bind(&p.name, r).await })
        })
        .method::<ssa::Explicit, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p).await?.explicit(&p.name, r).await })
        })
        .method::<ssa::SendCode, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p).await?.send_code(&p.name, r).await })
        })
        .method::<ssa::Sign, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p).await?.sign(&p.name, r).await })
        })
        .method::<ssa::Renew, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p).await?.renew(&p.name, r).await })
        })
        .method::<ssa::Voucher, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p).await?.voucher(&p.name, r).await })
        })
        .method::<ssa::Enrolment, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p).await?.enrolment(&p.name, r).await })
        })
        .method::<ssa::Certificate, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p).await?.certificate(&p.name, r).await })
        })
        .method::<ssa::Keys, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p).await?.keys(r).await })
        })
        .method::<ssa::Ask, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p).await?.ask(&p.name, r).await })
        })
        .method::<ssa::Stop, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p).await?.stop(&p.name, r).await })
        })
        .method::<guard::GuardStop, _, _>(|s, p, r| {
            whole(async move { admit_guard(&s, &p).await?.guard_stop(&p.name, r).await })
        })
        .method::<ssa::Notice, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p).await?.notice(&p.name, r).await })
        })
        .method::<ssa::Watched, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p).await?.watched(&p.name, r).await })
        })
        .method::<ssa::Revocation, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p).await?.revocation(&p.name, r).await })
        })
        .method::<ssa::Factors, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p).await?.factors(r).await })
        })
        .method::<ssa::Signatures, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p).await?.signatures(r).await })
        })
        .method::<ssa::Receipt, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p).await?.receipt(r).await })
        })
        .method::<ssa::ReceiptOf, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p).await?.receipt_of(r).await })
        })
        .method::<ssa::HandedOver, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p).await?.handed_over(r).await })
        })
        .method::<ssa::History, _, _>(|s, p, r| {
            whole(async move { admit(&s, &p).await?.history(r).await })
        })
        .into_router()
}

/// Routes for the listener of the SIC gateways.
pub fn gateway_router<C: CryptoModule>(sam: Sam<C>) -> Router {
    Routes::new(Arc::new(sam), GATEWAY_LIMIT)
        .method::<sic::Keys, _, _>(|s, p, _| {
            whole(async move { admit_gateway(&s, &p).await?.statement().await })
        })
        .method::<sic::Open, _, _>(|s, p, r| {
            whole(async move {
                admit_gateway(&s, &p)
                    .await?
                    .at_request(r.rid)
                    .await
                    .open(r)
                    .await
            })
        })
        .method::<sic::Approve, _, _>(|s, p, r| {
            whole(async move {
                admit_gateway(&s, &p)
                    .await?
                    .at_act(r.proof.act())
                    .await
                    .approve(r)
                    .await
            })
        })
        .method::<sic::Refuse, _, _>(|s, p, r| {
            whole(async move {
                admit_gateway(&s, &p)
                    .await?
                    .at_act(r.act)
                    .await
                    .refuse(r)
                    .await
            })
        })
        .method::<sic::Outcome, _, _>(|s, p, r| {
            whole(async move {
                admit_gateway(&s, &p)
                    .await?
                    .at_act(r.act)
                    .await
                    .outcome(r)
                    .await
            })
        })
        .method::<sic::FactorSeed, _, _>(|s, p, r| {
            whole(async move {
                admit_gateway(&s, &p)
                    .await?
                    .at_act(r.act)
                    .await
                    .factor_seed(r)
                    .await
            })
        })
        .method::<sic::ImportKey, _, _>(|s, p, r| {
            whole(async move {
                admit_gateway(&s, &p)
                    .await?
                    .at_act(r.act)
                    .await
                    .import_key(r)
                    .await
            })
        })
        .method::<sic::Import, _, _>(|s, p, r| {
            whole(async move {
                admit_gateway(&s, &p)
                    .await?
                    .at_act(r.act)
                    .await
                    .import(r)
                    .await
            })
        })
        .method::<sic::EnrolOpen, _, _>(|s, p, r| {
            whole(async move {
                admit_gateway(&s, &p)
                    .await?
                    .at_voucher(&r.voucher)
                    .await
                    .enrol_open(r)
                    .await
            })
        })
        .method::<sic::EnrolSeed, _, _>(|s, p, r| {
            whole(async move {
                admit_gateway(&s, &p)
                    .await?
                    .at_act(r.act)
                    .await
                    .enrol_seed(r)
                    .await
            })
        })
        .method::<sic::EnrolRegister, _, _>(|s, p, r| {
            whole(async move {
                admit_gateway(&s, &p)
                    .await?
                    .at_act(r.act)
                    .await
                    .enrol_register(r)
                    .await
            })
        })
        .method::<sic::BringNotice, _, _>(|s, p, r| {
            whole(async move { admit_gateway(&s, &p).await?.notice_brought(r).await })
        })
        .into_router()
}

/// Routes for the listener of the officers' gateways. What signers call isn't here, and the reverse.
pub fn office_router<C: CryptoModule>(sam: Sam<C>) -> Router {
    Routes::new(Arc::new(sam), GATEWAY_LIMIT)
        .method::<sic::Keys, _, _>(|s, p, _| {
            whole(async move { enter(&s, &p, sap_no).await?.statement().await })
        })
        .method::<sic::EnrolOpen, _, _>(|s, p, r| {
            whole(async move {
                enter(&s, &p, sap_no)
                    .await?
                    .enrol_open_at(Door::Office, r)
                    .await
            })
        })
        .method::<sic::EnrolRegister, _, _>(|s, p, r| {
            whole(async move {
                enter(&s, &p, sap_no)
                    .await?
                    .enrol_register_at(Door::Office, r)
                    .await
            })
        })
        .method::<office::LogInOpen, _, _>(|s, p, r| {
            whole(async move { enter(&s, &p, no).await?.log_in_open(r).await })
        })
        .method::<office::LogIn, _, _>(|s, p, r| {
            whole(async move { enter(&s, &p, no).await?.log_in(r).await })
        })
        .method::<office::LogOut, _, _>(|s, p, r| {
            whole(async move { enter(&s, &p, no).await?.log_out(r).await })
        })
        .method::<office::Propose, _, _>(|s, p, r| {
            whole(async move { enter(&s, &p, no).await?.propose(r).await })
        })
        .method::<office::Proposals, _, _>(|s, p, r| {
            whole(async move { enter(&s, &p, no).await?.proposals(r).await })
        })
        .method::<office::ProposalOpen, _, _>(|s, p, r| {
            whole(async move { enter(&s, &p, no).await?.proposal_open(r).await })
        })
        .method::<office::ProposalApprove, _, _>(|s, p, r| {
            whole(async move { enter(&s, &p, no).await?.proposal_approve(r).await })
        })
        .method::<office::ProposalEnd, _, _>(|s, p, r| {
            whole(async move { enter(&s, &p, no).await?.proposal_end(r).await })
        })
        .method::<office::ProposalTake, _, _>(|s, p, r| {
            whole(async move { enter(&s, &p, no).await?.proposal_take(r).await })
        })
        .method::<office::EvidenceOfProposal, _, _>(|s, p, r| {
            whole(async move { enter(&s, &p, no).await?.proposal_evidence(r).await })
        })
        .method::<office::ProposalProgress, _, _>(|s, p, r| {
            whole(async move { enter(&s, &p, no).await?.proposal_progress(r).await })
        })
        .method::<office::ProposalCertificates, _, _>(|s, p, r| {
            whole(async move { enter(&s, &p, no).await?.proposal_certificates(r).await })
        })
        .method::<office::People, _, _>(|s, p, r| {
            whole(async move { enter(&s, &p, no).await?.people(r).await })
        })
        .method::<office::State, _, _>(|s, p, r| {
            whole(async move { enter(&s, &p, no).await?.state(r).await })
        })
        .method::<office::Audit, _, _>(|s, p, r| {
            whole(async move { enter(&s, &p, no).await?.audit_search(r).await })
        })
        .method::<office::Beside, _, _>(|s, p, r| {
            whole(async move { enter(&s, &p, no).await?.beside(r).await })
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

/// The SAM in the hands of the tenant whose service calls: whatever a request names is looked for among that tenant's alone.
async fn admit<C: CryptoModule>(sam: &Sam<C>, peer: &Peer) -> Result<Sam<C>, Refusal> {
    if let Some(tenant) = sam.serving(&peer.name) {
        return Ok(tenant);
    }
    sam.stranger(peer, "services").await;
    Err(Refusal::NotFound)
}

/// A guard is nobody's service: what it may do is one method.
async fn admit_guard<'s, C: CryptoModule>(
    sam: &'s Sam<C>,
    peer: &Peer,
) -> Result<&'s Sam<C>, Refusal> {
    if sam.config.guards.contains(&peer.name) {
        return Ok(sam);
    }
    sam.stranger(peer, "guards").await;
    Err(Refusal::NotFound)
}

async fn admit_gateway<'s, C: CryptoModule>(
    sam: &'s Sam<C>,
    peer: &Peer,
) -> Result<&'s Sam<C>, SapRefusal> {
    if sam.config.gateways.contains(&peer.name) {
        return Ok(sam);
    }
    sam.stranger(peer, "gateways").await;
    Err(SapRefusal::new(SapRefusalCode::NotFound))
}

async fn enter<'s, C: CryptoModule, R>(
    sam: &'s Sam<C>,
    peer: &Peer,
    no: fn(SapRefusalCode) -> R,
) -> Result<&'s Sam<C>, R> {
    if sam.config.office.gateways.contains(&peer.name) {
        return Ok(sam);
    }
    sam.stranger(peer, "office").await;
    Err(no(SapRefusalCode::NotFound))
}

/// How many calls of one stranger are entries: what comes beyond says nothing new, and mustn't fill the disk.
pub(crate) const STRANGERS: Rate = Rate {
    burst: 10,
    per_minute: 10,
};

impl<C: CryptoModule> Sam<C> {
    /// Records that somebody with a certificate of the zones called where they have nothing to do.
    async fn stranger(&self, peer: &Peer, door: &'static str) {
        tracing::warn!(peer = %peer.name, door, "a caller that has nothing to do here was refused");
        // A certificate without a name that could stand in the log is nobody's, too.
        let name = PeerId::parse(peer.name.as_str()).or_else(|_| PeerId::parse("unnamed"));
        let Ok(peer) = name else { return };
        if self
            .strangers
            .take(&peer, STRANGERS, self.clock.now())
            .is_ok()
        {
            let door = door.into();
            self.record(Event::PeerRefused { peer, door }).await;
        }
    }
}
