//! From a kept authorization to its answer: login, consent or the SIC page, then a code or an error.
//!
//! The handle in the URL works only in the browser that began, and after login only in that session: what one
//! person approved never becomes a code in another's browser.

use audit_log::Event;
use axum::extract::{Form, Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use core_types::{ClientId, Digest32, KeyId, PersonId};
use csc_types::{AuthorizeRequest, HashType, OAuthError, Purpose, SignatureAuthorization};
use sam_api::Refusal;
use sam_api::ssa::{
    AskRequest, DocItem, KeyState, PrepareItem, PrepareRequest, RequestState, StatusRequest, Wish,
    request_id,
};
use serde::Deserialize;
use service_kit::CallError;
use store_kit::{StoreError, transaction};
use url::Url;

use super::authorize::{refusal, success};
use super::request_object::REQUEST;
use super::{Refused, create, params};
use crate::clients::{self, Client};
use crate::flow::{self, CODE_LIFE, Code, Flow, FlowState};
use crate::keys::signs_open;
use crate::pages::{self, Visit, login, waiting};
use crate::session::{self, Session};
use crate::tokens::KeyFacts;
use crate::{Ssa, crypt, devices};

/// Life of a request at the SAM in seconds.
const REQUEST_LIFE: i64 = 600;
/// Life of a device's code in seconds, in which the device asks several times.
const DEVICE_CODE_LIFE: i64 = 120;
/// Longest label in characters, as the protocol has it.
const LABEL: usize = 200;

/// `GET /oauth2/continue/{handle}`
pub(super) async fn proceed(
    State(ssa): State<Ssa>,
    visit: Visit,
    Path(handle): Path<String>,
) -> Response {
    shown(&ssa, &visit, step(&ssa, &visit, &handle, false).await)
}

/// `GET /oauth2/resume/{handle}`: where the SIC page sends the browser back to.
pub(super) async fn resume(
    State(ssa): State<Ssa>,
    visit: Visit,
    Path(handle): Path<String>,
) -> Response {
    shown(&ssa, &visit, step(&ssa, &visit, &handle, true).await)
}

/// Answer to the consent page.
#[derive(Deserialize)]
pub(super) struct Agreement {
    flow: String,
    token: String,
    answer: String,
}

/// `POST /oauth2/agree`
pub(super) async fn agree(
    State(ssa): State<Ssa>,
    visit: Visit,
    headers: HeaderMap,
    Form(form): Form<Agreement>,
) -> Response {
    let agreed = agreed(&ssa, &visit, &headers, form).await;
    shown(&ssa, &visit, agreed)
}

fn shown(ssa: &Ssa, visit: &Visit, step: Result<Response, Refused>) -> Response {
    step.unwrap_or_else(|refused| pages::sorry(ssa, visit, pages::Trouble::of(&refused.told())))
}

async fn agreed(
    ssa: &Ssa,
    visit: &Visit,
    headers: &HeaderMap,
    form: Agreement,
) -> Result<Response, Refused> {
    let browser = visit.browser.as_ref();
    let (Some(browser), Some(session)) = (browser, ssa.session(browser).await?) else {
        return Ok(pages::sorry(ssa, visit, pages::Trouble::LinkExpired));
    };
    if !pages::own_form(ssa, headers, browser, &form.token) {
        return Ok(pages::sorry(ssa, visit, pages::Trouble::ForeignForm));
    }
    let Some(flow) = living(ssa, &form.flow, &session.id).await? else {
        return Ok(pages::sorry(ssa, visit, pages::Trouble::LinkExpired));
    };
    if form.answer != "yes" {
        return deny(ssa, visit, flow, &OAuthError::AccessDenied, "declined").await;
    }
    // A signature or a deletion is agreed to on the approval page and nowhere else.
    let here = flow.creates() || !flow.signs();
    if !here || flow.state != FlowState::Begun || !is_fresh(&flow, &session) {
        return Ok(pages::go(&format!("/oauth2/continue/{}", form.flow)));
    }
    if flow.creates() {
        return create::begin(ssa, visit, flow, &session, &form.flow).await;
    }
    if flow.device.is_some() {
        let mut tx = ssa.store().read("client").await?;
        let client = clients::find(&mut tx, flow.client.as_str()).await?;
        let client = client.ok_or(OAuthError::Invalid("client_id"))?;
        let served = client.settings.serves(&mut tx, &session.person).await?;
        drop(tx);
        let own = flow.person.as_ref().is_none_or(|p| *p == session.person);
        if !served || !own {
            return deny(ssa, visit, flow, &OAuthError::AccessDenied, "contract").await;
        }
        // Each device is agreed to by itself, and none opens the way for another.
        return finish(ssa, visit, flow, &session).await;
    }
    let now = ssa.now();
    transaction!(ssa.store(), "consent", |tx| {
        session::consent(tx, &session.id, flow.client.as_str(), now).await
    })?;
    Ok(pages::go(&format!("/oauth2/continue/{}", form.flow)))
}

/// Whether this login counts for it.
fn is_fresh(flow: &Flow, session: &Session) -> bool {
    !flow.wants_fresh_login() || session.created >= flow.created
}

pub(super) async fn living(
    ssa: &Ssa,
    handle: &str,
    browser: &str,
) -> Result<Option<Flow>, StoreError> {
    let mut tx = ssa.store().read("flow").await?;
    flow::find(&mut tx, handle, browser, ssa.now()).await
}

/// Whether this login counts for this authorization.
pub(super) fn counts(flow: &Flow, session: &Session) -> bool {
    let same = |person: &PersonId| *person == session.person;
    is_fresh(flow, session) && flow.person.as_ref().is_none_or(same)
}

async fn step(ssa: &Ssa, visit: &Visit, handle: &str, back: bool) -> Result<Response, Refused> {
    let Some(browser) = &visit.browser else {
        return not_here(ssa, visit, handle, back).await;
    };
    let Some(flow) = living(ssa, handle, &browser.id()).await? else {
        return not_here(ssa, visit, handle, back).await;
    };
    if flow.state == FlowState::Done {
        return Ok(pages::sorry(ssa, visit, pages::Trouble::LinkUsed));
    }
    let session = ssa.session(Some(browser)).await?;
    let Some(session) = session.filter(|session| counts(&flow, session)) else {
        return Ok(login::for_flow(ssa, visit, browser, handle, &flow).await?);
    };
    let mut tx = ssa.store().read("client").await?;
    let client = clients::find(&mut tx, flow.client.as_str()).await?;
    let client = client.ok_or(OAuthError::Invalid("client_id"))?;
    let served = client.settings.serves(&mut tx, &session.person).await?;
    drop(tx);
    if !served {
        return deny(ssa, visit, flow, &OAuthError::AccessDenied, "contract").await;
    }
    if flow.creates() {
        return match flow.state {
            FlowState::Asked => create::decided(ssa, visit, flow, &session, handle, back).await,
            _ => Ok(login::creation(ssa, visit, browser, handle, &flow).await?),
        };
    }
    match (flow.signs(), flow.state) {
        (true, FlowState::Asked) => decided(ssa, visit, flow, &session, handle, back).await,
        (true, _) => {
            // Up to 10,000 digests: read only where they are needed.
            let request = AuthorizeRequest::parse(&params(&flow.pairs)?)?;
            let asking = Asking {
                client,
                session: &session,
                handle,
            };
            match &request.purpose {
                Purpose::Credential(asked) => ask(ssa, visit, flow, asking, &request, asked).await,
                Purpose::Deletion { credential_id } => {
                    ask_to_delete(ssa, visit, flow, asking, credential_id).await
                }
                Purpose::Service | Purpose::Creation(_) => Err(OAuthError::ServerError.into()),
            }
        }
        (false, _) => {
            let mut tx = ssa.store().read("consent").await?;
            let known = session::consented(&mut tx, &session.id, flow.client.as_str()).await?;
            drop(tx);
            if known && flow.device.is_none() {
                finish(ssa, visit, flow, &session).await
            } else {
                Ok(login::consent(ssa, visit, browser, handle, &flow).await?)
            }
        }
    }
}

/// This browser has no such authorization. Whoever approved in another one than they began in goes on in that one, while it lives.
async fn not_here(ssa: &Ssa, visit: &Visit, handle: &str, back: bool) -> Result<Response, Refused> {
    let mut tx = ssa.store().read("flow").await?;
    let elsewhere = back && flow::lives(&mut tx, handle, ssa.now()).await?;
    drop(tx);
    let trouble = match elsewhere {
        true => pages::Trouble::BegunElsewhere,
        false => pages::Trouble::LinkExpired,
    };
    Ok(pages::sorry(ssa, visit, trouble))
}

/// Who asks whom.
struct Asking<'a> {
    client: Client,
    session: &'a Session,
    handle: &'a str,
}

/// Puts the request before the SAM and sends the browser to the SIC page.
async fn ask(
    ssa: &Ssa,
    visit: &Visit,
    flow: Flow,
    asking: Asking<'_>,
    request: &AuthorizeRequest,
    asked: &SignatureAuthorization,
) -> Result<Response, Refused> {
    let Asking {
        client,
        session,
        handle,
    } = asking;
    let (facts, one_time) = match usable_key(ssa, &client, session, asked).await {
        Ok(usable) => usable,
        Err(error) => return deny(ssa, visit, flow, &error, "key").await,
    };
    let signed = flow.given(REQUEST);
    let kind = match flow.is_v1() || signed.is_some() {
        true => HashType::default(),
        false => client.settings.hash_type(),
    };
    let Some(items) = items(asked, request.description.as_deref(), kind) else {
        return Err(OAuthError::ServerError.into());
    };
    let count = asked.num_signatures;
    let open = asked.digests.is_empty().then_some(count);
    // What the application signs says for how long: where it says nothing, for no time.
    let renewal = match open.is_some() || signed.is_some() {
        true => 0,
        false => client.settings.renewal(count, one_time),
    };
    let asked = PrepareRequest {
        person: session.person.clone(),
        key: facts.key.clone(),
        client: flow.client.clone(),
        client_name: client.name,
        client_jws: signed.map(str::to_owned),
        items,
        open,
        renew: i64::from(asked.renewable_for.unwrap_or(renewal)),
        return_uri: format!("{}/oauth2/resume/{handle}", ssa.config().base_url),
        ttl: REQUEST_LIFE,
    };
    let prepared = match ssa.sam().prepare(&asked).await {
        Ok(prepared) => prepared,
        Err(error) => return deny(ssa, visit, flow, &prepare_refused(&error), "prepare").await,
    };
    put(ssa, flow, (session, handle), (prepared.rid, facts, count)).await
}

/// Puts the wish to destroy a key before its owner: what a client says ends nothing, the owner's proof does.
async fn ask_to_delete(
    ssa: &Ssa,
    visit: &Visit,
    flow: Flow,
    asking: Asking<'_>,
    credential_id: &str,
) -> Result<Response, Refused> {
    let Asking {
        session, handle, ..
    } = asking;
    let key = KeyId::parse(credential_id);
    let key = key.map_err(|_| OAuthError::InvalidDetails("credentialID is unknown"))?;
    let found = ssa.key_of(&session.person, &key).await;
    let facts = match found {
        Ok(Some((info, cert))) if info.state != KeyState::Destroyed => KeyFacts {
            key: key.clone(),
            alg: info.alg,
            not_after: cert.not_after,
        },
        // A key of somebody else and one that isn't there, or not any more, look the same.
        Ok(_) => return deny(ssa, visit, flow, &OAuthError::AccessDenied, "key").await,
        Err(error) => return deny(ssa, visit, flow, &prepare_refused(&error), "key").await,
    };
    let wish = AskRequest {
        person: session.person.clone(),
        wish: Wish::Destroy { key },
        return_uri: format!("{}/oauth2/resume/{handle}", ssa.config().base_url),
        ttl: REQUEST_LIFE,
    };
    match ssa.sam().ask(&wish).await {
        Ok(asked) => put(ssa, flow, (session, handle), (asked.rid, facts, 0)).await,
        Err(error) => deny(ssa, visit, flow, &prepare_refused(&error), "prepare").await,
    }
}

/// Keeps what lies at the SAM, and sends the browser there.
async fn put(
    ssa: &Ssa,
    flow: Flow,
    (session, handle): (&Session, &str),
    (rid, facts, count): (Digest32, KeyFacts, u32),
) -> Result<Response, Refused> {
    let place = rid_place(&session.person, &flow.client);
    let sealed = ssa.sealer().seal(ssa.random(), &place, &rid.0);
    let mut next = flow.clone();
    next.state = FlowState::Asked;
    next.person = Some(session.person.clone());
    next.rid = Some(sealed.ok_or(OAuthError::ServerError)?);
    next.facts = Some(facts.clone());
    let stored = transaction!(ssa.store(), "request-prepared", |tx| {
        if !flow::update(tx, &next).await? {
            return Ok(false);
        }
        let event = Event::RequestPrepared {
            request: request_id(rid),
            client: next.client.clone(),
            person: session.person.clone(),
            key: facts.key.clone(),
            items: count,
        };
        let sent = Event::AuthorizationSent {
            request: request_id(rid),
            client: next.client.clone(),
            person: session.person.clone(),
            key: facts.key.clone(),
            session: session.named(),
            from: session.from,
        };
        let events = [event, sent];
        ssa.audit().append_all(tx, &events, ssa.now()).await?;
        Ok::<_, StoreError>(true)
    })?;
    if stored {
        return Ok(to_sic(ssa, rid));
    }
    // The same page was loaded twice at once; the other request is the one that counts.
    let other = living(ssa, handle, &flow.browser).await?;
    let rid = other
        .as_ref()
        .and_then(|other| open_rid(ssa, other, &session.person));
    Ok(to_sic(ssa, rid.ok_or(OAuthError::ServerError)?))
}

/// The key, and whether it is for one approval.
async fn usable_key(
    ssa: &Ssa,
    client: &Client,
    session: &Session,
    asked: &SignatureAuthorization,
) -> Result<(KeyFacts, bool), OAuthError> {
    let id = asked.credential_id.clone().unwrap_or_default();
    let key =
        KeyId::parse(id).map_err(|_| OAuthError::InvalidDetails("credentialID is unknown"))?;
    let found = ssa
        .key_of(&session.person, &key)
        .await
        .map_err(|error| prepare_refused(&error))?;
    // A key of somebody else and a key that doesn't exist look the same.
    let (info, cert) = found.ok_or(OAuthError::AccessDenied)?;
    if info.collected {
        return Err(OAuthError::InvalidDetails(
            "this credential is authorized by credentials/authorize",
        ));
    }
    let allowed = client.settings.allows_level(info.level.level);
    if !allowed || info.state != KeyState::Active || ssa.now() >= cert.not_after {
        return Err(OAuthError::AccessDenied);
    }
    let about = ssa.about().await.ok_or(OAuthError::Unavailable)?;
    let open = asked.digests.is_empty();
    if open && !(client.settings.sign_open && signs_open(&info, &about)) {
        return Err(OAuthError::InvalidDetails(
            "hashes are needed: this credential has SCAL 2",
        ));
    }
    let most = if open {
        about.max_open
    } else {
        about.max_items
    };
    if asked.num_signatures > most {
        return Err(OAuthError::InvalidDetails(
            "too many hashes for one authorization",
        ));
    }
    let facts = KeyFacts {
        key,
        alg: info.alg,
        not_after: cert.not_after,
    };
    Ok((facts, info.one_time))
}

/// `kind`: what was hashed, where it isn't said.
fn items(
    asked: &SignatureAuthorization,
    description: Option<&str>,
    kind: HashType,
) -> Option<Vec<PrepareItem>> {
    if asked.digests.is_empty() {
        return Some(Vec::new());
    }
    let ha = asked.hash_algorithm?;
    let item = |digest: &csc_types::DocumentDigest| PrepareItem {
        ha,
        h: digest.hash.clone().into(),
        label: web_ui::clean(digest.label.as_deref().or(description).unwrap_or_default())
            .chars()
            .take(LABEL)
            .collect(),
        // The SAM checks or builds what binds the document, and signs that.
        doc: (digest.hash_type.unwrap_or(kind) == HashType::Sdr).then(|| DocItem {
            signed_attrs: digest.signed_attrs.clone().map(Into::into),
            ranges: digest.byte_range,
        }),
    };
    Some(asked.digests.iter().map(item).collect())
}

/// What became of the request on the SIC page. `back`: the browser comes from there.
async fn decided(
    ssa: &Ssa,
    visit: &Visit,
    flow: Flow,
    session: &Session,
    handle: &str,
    back: bool,
) -> Result<Response, Refused> {
    let rid = open_rid(ssa, &flow, &session.person).ok_or(OAuthError::ServerError)?;
    match ssa.sam().status(&StatusRequest { rid }).await {
        Ok(answer) => match answer.state {
            RequestState::Approved => finish(ssa, visit, flow, session).await,
            RequestState::Refused => {
                deny(ssa, visit, flow, &OAuthError::AccessDenied, "refused").await
            }
            RequestState::Expired => {
                deny(ssa, visit, flow, &OAuthError::AccessDenied, "expired").await
            }
            RequestState::Open if back => Ok(waiting::undecided(ssa, visit, handle, &flow)),
            RequestState::Open => Ok(to_sic(ssa, rid)),
        },
        Err(CallError::Refused(Refusal::NotFound | Refusal::Expired)) => {
            deny(ssa, visit, flow, &OAuthError::AccessDenied, "gone").await
        }
        // Nothing is lost: the page can be loaded again.
        Err(_) => Err(OAuthError::Unavailable.into()),
    }
}

/// Ends the authorization with a code.
pub(super) async fn finish(
    ssa: &Ssa,
    visit: &Visit,
    mut flow: Flow,
    session: &Session,
) -> Result<Response, Refused> {
    let challenge = flow.given("code_challenge");
    let challenge = challenge.ok_or(OAuthError::ServerError)?.to_owned();
    let text = crypt::draw(ssa.random());
    let now = ssa.now();
    flow.state = FlowState::Done;
    let device = flow.device.clone();
    let id = device
        .clone()
        .unwrap_or_else(|| crypt::digest(text.expose()));
    let code = Code {
        id,
        live: true,
        client: flow.client.clone(),
        redirect: flow.redirect.clone(),
        redirect_given: flow.given("redirect_uri").is_some(),
        challenge,
        jkt: super::authorize::proof_key(&params(&flow.pairs)?)?,
        details: flow.given("authorization_details").map(str::to_owned),
        v1: flow.is_v1(),
        person: session.person.clone(),
        facts: flow.facts.clone(),
        rid: flow.rid.clone(),
        exp: now.plus(match device {
            Some(_) => DEVICE_CODE_LIFE,
            None => CODE_LIFE,
        }),
    };
    let request = open_rid(ssa, &flow, &session.person);
    let granted = Event::AuthorizationGranted {
        request: request.map(request_id),
        client: flow.client.clone(),
        person: session.person.clone(),
        key: flow.facts.as_ref().map(|facts| facts.key.clone()),
        session: session.named(),
        from: session.from,
    };
    let first = transaction!(ssa.store(), "issue-code", |tx| {
        let mut first = flow::update(tx, &flow).await?;
        if let (true, Some(device)) = (first, &flow.device) {
            first = devices::decide(tx, device, devices::State::Approved, now).await?;
        }
        if first {
            flow::insert_code(tx, &code, now).await?;
            ssa.audit().append(tx, granted.clone(), now).await?;
        }
        Ok::<_, StoreError>(first)
    })?;
    if !first {
        return Ok(pages::sorry(ssa, visit, pages::Trouble::LinkUsed));
    }
    if device.is_some() {
        return Ok(pages::device::done(ssa, visit, true));
    }
    let redirect = Url::parse(&flow.redirect).map_err(|_| OAuthError::ServerError)?;
    let target = success(ssa, &redirect, flow.given("state"), text.expose());
    Ok(pages::leave(&target))
}

/// Ends the authorization with an error.
pub(super) async fn deny(
    ssa: &Ssa,
    visit: &Visit,
    mut flow: Flow,
    error: &OAuthError,
    reason: &'static str,
) -> Result<Response, Refused> {
    let now = ssa.now();
    flow.state = FlowState::Done;
    transaction!(ssa.store(), "deny", |tx| {
        // If somebody ended it meanwhile, the client has its answer; this one says only no.
        flow::update(tx, &flow).await?;
        if let Some(device) = &flow.device {
            devices::decide(tx, device, devices::State::Denied, now).await?;
        }
        let event = Event::AccessDenied {
            endpoint: "oauth2/authorize".into(),
            client: Some(flow.client.clone()),
            person: flow.person.clone(),
            reason: reason.into(),
        };
        ssa.audit().append(tx, event, now).await.map(drop)
    })?;
    if flow.device.is_some() {
        return Ok(pages::device::done(ssa, visit, false));
    }
    let redirect = Url::parse(&flow.redirect).map_err(|_| OAuthError::ServerError)?;
    Ok(pages::leave(&refusal(
        ssa,
        &redirect,
        flow.given("state"),
        error,
    )))
}

fn to_sic(ssa: &Ssa, rid: Digest32) -> Response {
    // The fragment never reaches a log or a Referer.
    pages::found(&format!("{}/a#{rid}", ssa.config().sic_url))
}

/// What a sealed request handle is bound to.
pub(super) fn rid_place(person: &PersonId, client: &ClientId) -> String {
    format!("ssa/rid/{person}/{client}")
}

pub(super) fn open_rid(ssa: &Ssa, flow: &Flow, person: &PersonId) -> Option<Digest32> {
    let rid = ssa
        .sealer()
        .open(&rid_place(person, &flow.client), flow.rid.as_ref()?)?;
    Some(Digest32(rid.expose().try_into().ok()?))
}

pub(super) fn prepare_refused(error: &CallError<Refusal>) -> OAuthError {
    match error {
        CallError::Refused(
            Refusal::NotFound | Refusal::Mismatch | Refusal::KeyNotActive | Refusal::Level { .. },
        ) => OAuthError::AccessDenied,
        // The SAM knows keys of this client, and believes nothing that they haven't signed.
        CallError::Refused(Refusal::Invalid { member }) if member == "client_jws" => {
            OAuthError::InvalidRequestObject
        }
        CallError::Refused(Refusal::Invalid { member }) => {
            tracing::warn!(%member, "the SAM refused a member of a request");
            OAuthError::InvalidDetails("the request can't be put before the signer")
        }
        CallError::Refused(Refusal::AlgorithmNotApproved) => {
            OAuthError::InvalidDetails("this credential has no algorithm for hashAlgorithmOID")
        }
        CallError::Refused(Refusal::BareHash) => OAuthError::InvalidDetails(csc_types::BARE_HASH),
        CallError::Refused(Refusal::NotNow) | CallError::Unreachable => OAuthError::Unavailable,
        CallError::Refused(refusal) => {
            tracing::error!(%refusal, "the SAM refused a request");
            OAuthError::ServerError
        }
        CallError::Unknown => OAuthError::ServerError,
    }
}
