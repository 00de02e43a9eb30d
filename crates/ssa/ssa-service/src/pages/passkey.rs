//! Login passkeys on the pages: the challenge a script asks for, and the forms it sends. WebAuthn needs a script; where
//! there is none, nothing of this is shown.

use axum::Json;
use axum::extract::{Form, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use core_types::Digest32;
use core_types::bytes::from_b64u;
use serde::Deserialize;
use serde_json::json;
use store_kit::StoreError;
use web_ui::{Arg, Script};

use super::login::{Destination, arrive, back_to_login, first};
use super::{Trouble, Visit, go, own_form, sorry, with_cookie};
use crate::passkeys::{Ceremony, Made, Shown, hints, tidy_name, user_handle};
use crate::{Ssa, crypt};

/// The script of every page with a passkey on it.
pub(super) const SCRIPT: Script = Script {
    name: "passkey",
    text: include_str!("../../page/passkey.mjs"),
};

/// What the script asks when its page has come.
#[derive(Deserialize)]
pub(super) struct Wanted {
    token: String,
    ceremony: String,
}

/// `POST /passkeys/begin`
pub(super) async fn begin(
    State(ssa): State<Ssa>,
    visit: Visit,
    headers: HeaderMap,
    Form(wanted): Form<Wanted>,
) -> Response {
    let mut response = match begun(&ssa, &visit, &headers, &wanted).await {
        Ok(Some(options)) => Json(options).into_response(),
        Ok(None) => StatusCode::FORBIDDEN.into_response(),
        Err(error) => {
            tracing::error!(%error, "the store failed a page");
            match error.is_away() {
                true => StatusCode::SERVICE_UNAVAILABLE.into_response(),
                false => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            }
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

async fn begun(
    ssa: &Ssa,
    visit: &Visit,
    headers: &HeaderMap,
    wanted: &Wanted,
) -> Result<Option<serde_json::Value>, StoreError> {
    let (Some(browser), Some(rp)) = (&visit.browser, ssa.relying_party()) else {
        return Ok(None);
    };
    if !own_form(ssa, headers, browser, &wanted.token) {
        return Ok(None);
    }
    if wanted.ceremony == "login" {
        let challenge = ssa.new_challenge(browser, Ceremony::LogIn).await?;
        return Ok(Some(json!({ "challenge": challenge, "rp_id": rp.rp_id })));
    }
    let session = ssa.session(Some(browser)).await?;
    let Some(session) = session.filter(|session| session.is_recent(ssa.now())) else {
        return Ok(None);
    };
    if wanted.ceremony != "register" {
        return Ok(None);
    }
    let challenge = ssa.new_challenge(browser, Ceremony::Register).await?;
    let known = ssa.passkeys_of(&session.person).await?;
    let mut tx = ssa.store().read("name").await?;
    let name = crate::users::name_of(&mut tx, &session.person).await?;
    let words = visit.words();
    let name = web_ui::clean(&name.unwrap_or_default());
    let exclude = hints(&known)
        .into_iter()
        .map(|(id, transports)| json!({ "id": id, "transports": transports }));
    Ok(Some(json!({
        "challenge": challenge,
        "rp_id": rp.rp_id,
        "service": words.t("product"),
        "user": user_handle(&session.person),
        "user_name": words.f("portal-passkey-user", &[("name", Arg::Own(&name))]),
        "exclude": exclude.collect::<Vec<_>>(),
    })))
}

/// What the script answers to a login. Missing members count as empty and fit nothing.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Presented {
    token: String,
    flow: String,
    next: String,
    challenge: String,
    id: String,
    auth_data: String,
    client_data: String,
    sig: String,
    user: String,
}

/// `POST /login/passkey`
pub(super) async fn log_in(
    State(ssa): State<Ssa>,
    visit: Visit,
    headers: HeaderMap,
    Form(form): Form<Presented>,
) -> Response {
    match logged_in(&ssa, &visit, &headers, form).await {
        Ok(response) => response,
        Err(error) => sorry(&ssa, &visit, error.into()),
    }
}

async fn logged_in(
    ssa: &Ssa,
    visit: &Visit,
    headers: &HeaderMap,
    form: Presented,
) -> Result<Response, StoreError> {
    let Some(browser) = &visit.browser else {
        return Ok(sorry(ssa, visit, Trouble::ForeignForm));
    };
    if !own_form(ssa, headers, browser, &form.token) {
        return Ok(sorry(ssa, visit, Trouble::ForeignForm));
    }
    let shown = shown(&form);
    let Some(to) = Destination::find(ssa, browser, form.flow, form.next).await? else {
        return Ok(sorry(ssa, visit, Trouble::LinkExpired));
    };
    let fresh = browser.renewed(crypt::draw(ssa.random()));
    let done = match shown {
        Some(shown) => ssa.log_in_with_passkey(browser, &shown, &fresh).await?,
        None => false,
    };
    if done {
        let next = arrive(ssa, browser, &fresh, to).await?;
        return Ok(with_cookie(ssa, go(&next), &fresh));
    }
    let error = visit.words().t("portal-passkey-refused");
    back_to_login(ssa, visit, browser, to, String::new(), error).await
}

fn shown(form: &Presented) -> Option<Shown> {
    Some(Shown {
        challenge: Digest32::parse(&form.challenge).ok()?,
        id: from_b64u(&form.id).ok()?,
        auth_data: from_b64u(&form.auth_data).ok()?,
        client_data: from_b64u(&form.client_data).ok()?,
        sig: from_b64u(&form.sig).ok()?,
        user: from_b64u(&form.user).ok()?,
    })
}

/// A new passkey as the script sends it.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Registered {
    token: String,
    next: String,
    name: String,
    challenge: String,
    id: String,
    client_data: String,
    attestation: String,
    transports: String,
}

/// `POST /passkeys`
pub(super) async fn register(
    State(ssa): State<Ssa>,
    visit: Visit,
    headers: HeaderMap,
    Form(form): Form<Registered>,
) -> Response {
    let done = registered(&ssa, &visit, &headers, form).await;
    done.unwrap_or_else(|trouble| sorry(&ssa, &visit, trouble))
}

async fn registered(
    ssa: &Ssa,
    visit: &Visit,
    headers: &HeaderMap,
    form: Registered,
) -> Result<Response, Trouble> {
    let browser = visit.browser.as_ref().ok_or(Trouble::ForeignForm)?;
    if !own_form(ssa, headers, browser, &form.token) {
        return Err(Trouble::ForeignForm);
    }
    let session = ssa.session(Some(browser)).await?;
    let Some(session) = session.filter(|session| session.is_recent(ssa.now())) else {
        return Ok(first("/security"));
    };
    let made = made(&form).ok_or(Trouble::Passkey)?;
    let name = tidy_name(&form.name, &visit.words().t("portal-passkey-name-default"));
    if !ssa.add_passkey(browser, &session, &name, &made).await? {
        return Err(Trouble::Passkey);
    }
    Ok(go(match super::login::allowed(&form.next) {
        "" => "/security",
        next => next,
    }))
}

fn made(form: &Registered) -> Option<Made> {
    Some(Made {
        challenge: Digest32::parse(&form.challenge).ok()?,
        id: from_b64u(&form.id).ok()?,
        client_data: from_b64u(&form.client_data).ok()?,
        attestation: from_b64u(&form.attestation).ok()?,
        transports: form
            .transports
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
    })
}
