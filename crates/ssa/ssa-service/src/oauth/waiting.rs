//! What became of an approval, for the page that waits for it while its person decides in another browser. Nothing is changed by asking:
//! `resume` goes on.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use csc_types::OAuthError;
use sam_api::Refusal;
use sam_api::ssa::{RequestState, StatusRequest};
use service_kit::CallError;

use super::Refused;
use super::approve::{counts, living, open_rid};
use crate::Ssa;
use crate::flow::FlowState;
use crate::pages::Visit;
use crate::pages::waiting::Told;

/// `GET /oauth2/waiting/{handle}`
pub(super) async fn waiting(
    State(ssa): State<Ssa>,
    visit: Visit,
    Path(handle): Path<String>,
) -> Response {
    match told(&ssa, &visit, &handle).await {
        Ok(told) => told.answer(),
        Err(refused) => refused.answer(false),
    }
}

async fn told(ssa: &Ssa, visit: &Visit, handle: &str) -> Result<Told, Refused> {
    let Some(browser) = &visit.browser else {
        return Ok(Told::Nothing(StatusCode::NOT_FOUND));
    };
    // Another browser's, and one that never was, look the same.
    let Some(flow) = living(ssa, handle, &browser.id()).await? else {
        return Ok(Told::Nothing(StatusCode::NOT_FOUND));
    };
    if flow.state == FlowState::Done {
        return Ok(Told::Nothing(StatusCode::GONE));
    }
    let session = ssa.session_as_it_is(Some(browser)).await?;
    let asked = flow.state == FlowState::Asked && !flow.creates();
    let session = session.filter(|session| asked && counts(&flow, session));
    let rid = session.and_then(|session| open_rid(ssa, &flow, &session.person));
    let Some(rid) = rid else {
        // What there is to do is told by the page itself.
        return Ok(Told::Waits(false));
    };
    match ssa.sam().status(&StatusRequest { rid }).await {
        Ok(answer) => Ok(Told::Waits(answer.state == RequestState::Open)),
        Err(CallError::Refused(Refusal::NotFound | Refusal::Expired)) => Ok(Told::Waits(false)),
        Err(_) => Err(OAuthError::Unavailable.into()),
    }
}
