//! The authorization request: checked, then kept until its person has decided.

use axum::extract::{RawQuery, State};
use axum::response::Response;
use core_types::Digest32;
use csc_types::{AuthorizeRequest, HashType, OAuthError, Params, Purpose};
use store_kit::transaction;
use url::Url;

use super::pushed::REFERENCE;
use super::{Refused, account_token, create, params, request_object};
use crate::clients::{self, Client};
use crate::flow::{self, Flow, Pairs};
use crate::pages::{self, Visit};
use crate::session::Browser;
use crate::{Ssa, crypt};

pub(super) async fn authorize(
    State(ssa): State<Ssa>,
    visit: Visit,
    RawQuery(query): RawQuery,
) -> Response {
    let query = query.unwrap_or_default();
    let pairs: Pairs = url::form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect();
    match begin(&ssa, &visit, pairs).await {
        Ok(response) => response,
        // Client or redirect URI are not known to be right: the person is told, nobody else (RFC 6749 §4.1.2.1).
        Err(refused) => pages::sorry(&ssa, &visit, pages::Trouble::of(&refused.told())),
    }
}

async fn begin(ssa: &Ssa, visit: &Visit, pairs: Pairs) -> Result<Response, Refused> {
    let now = ssa.now();
    let given = params(&pairs)?;
    let client = known_client(ssa, &given).await?;
    let pairs = match given.get("request_uri") {
        None if client.is_fapi(ssa) => return Err(OAuthError::Invalid("request_uri").into()),
        None => request_object::unwrap(ssa, &client, pairs).await?,
        Some(uri) => {
            let reference = uri.strip_prefix(REFERENCE).unwrap_or_default();
            let taken = transaction!(ssa.store(), "take-pushed", |tx| {
                flow::take_pushed(tx, reference, client.id.as_str(), now).await
            })?;
            taken.ok_or(OAuthError::Invalid("request_uri"))?
        }
    };
    let given = params(&pairs)?;
    let redirect = client
        .redirect(given.get("redirect_uri"))
        .ok_or(OAuthError::Invalid("redirect_uri"))?;
    let request = match AuthorizeRequest::parse(&given)
        .and_then(|r| check(ssa, &client, &r).map(|()| r))
        .and_then(|r| proof_key(&given).map(|_| r))
    {
        Ok(request) => request,
        Err(error) => {
            let target = refusal(ssa, &redirect, given.get("state"), &error);
            return Ok(pages::leave(&target));
        }
    };
    let person = match &request.account_token {
        None => None,
        Some(token) => match account_token::person(ssa, &client, token.expose()).await {
            Ok(person) => Some(person),
            Err(refused) => {
                let error = refused.told();
                let target = refusal(ssa, &redirect, given.get("state"), &error);
                return Ok(pages::leave(&target));
            }
        },
    };
    let (browser, fresh) = match &visit.browser {
        Some(browser) => (browser.clone(), false),
        None => (Browser::new(crypt::draw(ssa.random())), true),
    };
    let handle = crypt::draw(ssa.random());
    let mut flow = Flow::new(
        &handle,
        browser.id(),
        client.id,
        pairs,
        redirect.into(),
        now,
    );
    // Nobody else's login counts for it then.
    flow.person = person;
    let bound = ssa.bound();
    transaction!(ssa.store(), "begin-flow", |tx| {
        flow::insert(tx, &flow, bound).await
    })?;
    let lang = request.lang.as_deref().and_then(web_ui::Lang::from_tag);
    let lang = lang.map_or(String::new(), |lang| format!("?lang={}", lang.tag()));
    let next = format!("/oauth2/continue/{}{lang}", handle.expose());
    let next = pages::go(&next);
    Ok(if fresh {
        pages::with_cookie(ssa, next, &browser)
    } else {
        next
    })
}

async fn known_client(ssa: &Ssa, given: &Params) -> Result<Client, Refused> {
    let id = given
        .get("client_id")
        .ok_or(OAuthError::Missing("client_id"))?;
    let mut tx = ssa.store().read("client").await?;
    let client = clients::find(&mut tx, id).await?;
    Ok(client.ok_or(OAuthError::Invalid("client_id"))?)
}

fn scope(request: &AuthorizeRequest) -> &'static str {
    match request.purpose {
        Purpose::Service => "service",
        Purpose::Credential(_) | Purpose::Deletion { .. } | Purpose::Creation(_) => "credential",
    }
}

/// CSC methods that bring what the person agreed to; without one of them in the contract nobody is asked.
fn methods(request: &AuthorizeRequest) -> &'static [&'static str] {
    match request.purpose {
        Purpose::Service => &[],
        Purpose::Credential(_) => &["signatures/signHash", "signatures/signDoc"],
        Purpose::Deletion { .. } => &["credentials/delete"],
        Purpose::Creation(_) => &["credentials/create"],
    }
}

/// What this service doesn't offer, or not to this client, although the messages allow it.
pub(super) fn check(
    ssa: &Ssa,
    client: &Client,
    request: &AuthorizeRequest,
) -> Result<(), OAuthError> {
    let contract = &client.settings;
    let methods = methods(request);
    let brought = methods.is_empty() || methods.iter().any(|m| contract.allows_method(m));
    if !brought || !contract.allows_scope(scope(request)) {
        return Err(OAuthError::UnauthorizedClient);
    }
    let asked = match &request.purpose {
        Purpose::Credential(asked) => asked,
        Purpose::Creation(asked) => {
            let policy = asked.certificate_policy.as_deref();
            return create::kind(ssa, policy).map(drop);
        }
        Purpose::Service | Purpose::Deletion { .. } => return Ok(()),
    };
    if asked.credential_id.is_none() {
        return Err(OAuthError::InvalidDetails(
            "credentialID is needed: this service chooses none",
        ));
    }
    if asked.digests.is_empty() && !client.settings.sign_open {
        return Err(OAuthError::InvalidDetails(
            "hashes are needed: every credential here has SCAL 2",
        ));
    }
    if asked.digests.is_empty() && asked.renewable_for.is_some_and(|seconds| seconds != 0) {
        return Err(OAuthError::InvalidDetails("renewableFor goes with hashes"));
    }
    for digest in &asked.digests {
        let more = digest.signed_attrs.is_some() || digest.byte_range.is_some();
        match digest.kind() {
            HashType::Sdr => {}
            HashType::Dtbsr if !more => {}
            HashType::Dtbsr => {
                return Err(OAuthError::InvalidDetails(
                    "signedAttrs and byteRange go with hashType sdr",
                ));
            }
            HashType::Sodr => {
                return Err(OAuthError::InvalidDetails("hashType must be dtbsr or sdr"));
            }
        }
    }
    Ok(())
}

/// `dpop_jkt`: thumbprint of the key that alone may present the code (RFC 9449 §10).
pub(super) fn proof_key(given: &Params) -> Result<Option<Digest32>, OAuthError> {
    let thumbprint = given.get("dpop_jkt").map(Digest32::parse).transpose();
    thumbprint.map_err(|_| OAuthError::Invalid("dpop_jkt"))
}

/// The client's URI with a code in it (RFC 6749 §4.1.2, RFC 9207 §2).
pub(super) fn success(ssa: &Ssa, redirect: &Url, state: Option<&str>, code: &str) -> Url {
    let mut target = redirect.clone();
    target.query_pairs_mut().append_pair("code", code);
    finish(ssa, target, state)
}

/// The client's URI with an error in it.
pub(super) fn refusal(ssa: &Ssa, redirect: &Url, state: Option<&str>, error: &OAuthError) -> Url {
    let mut target = redirect.clone();
    target
        .query_pairs_mut()
        .append_pair("error", error.error())
        .append_pair("error_description", &error.description());
    finish(ssa, target, state.filter(|state| state.len() <= 255))
}

fn finish(ssa: &Ssa, mut target: Url, state: Option<&str>) -> Url {
    if let Some(state) = state {
        target.query_pairs_mut().append_pair("state", state);
    }
    target
        .query_pairs_mut()
        .append_pair("iss", &ssa.config().base_url);
    target
}
