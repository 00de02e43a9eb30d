//! Device authorization (RFC 8628): a terminal shows a code, its user types it in a browser elsewhere.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use core_types::UnixTime;
use csc_types::{AuthorizeRequest, ClientAuth, DeviceResponse, OAuthError};
use store_kit::{StoreError, transaction};

use super::pushed::CREDENTIALS;
use super::request_object::REQUEST;
use super::{FORM_LIMIT, Refused, Sender, client_auth, form, never_cached, params, request_object};
use crate::clients::Client;
use crate::devices::{self, Device};
use crate::flow::{self, Code};
use crate::{Ssa, crypt};

pub(super) async fn begin(State(ssa): State<Ssa>, sender: Sender, body: Body) -> Response {
    match store(&ssa, &sender, body).await {
        Ok(answer) => never_cached(Json(answer).into_response()),
        Err(refused) => refused.answer(client_auth::used_basic(&sender.headers)),
    }
}

async fn store(ssa: &Ssa, sender: &Sender, body: Body) -> Result<DeviceResponse, Refused> {
    let pairs = form(body, FORM_LIMIT).await?;
    let given = params(&pairs)?;
    let client = client_auth::authenticate(ssa, sender, ClientAuth::read(&given)).await?;
    if !client.settings.device {
        return Err(OAuthError::UnauthorizedClient.into());
    }
    let mut pairs = request_object::unwrap(ssa, &client, pairs).await?;
    let now = ssa.now();
    let exp = now.plus(devices::LIFE);
    // It goes on as an authorization whose code only the device has: nobody knows a verifier for the challenge.
    let own = [
        "response_type",
        "code_challenge",
        "code_challenge_method",
        "redirect_uri",
        "state",
    ];
    pairs.retain(|(name, _)| {
        let name = name.as_str();
        let read = AuthorizeRequest::reads(name) || name == REQUEST;
        read && !CREDENTIALS.contains(&name) && !own.contains(&name)
    });
    for (name, value) in [
        ("client_id", client.id.as_str()),
        ("response_type", "code"),
        ("code_challenge", crypt::draw(ssa.random()).expose()),
        ("code_challenge_method", "S256"),
    ] {
        pairs.push((name.to_owned(), value.to_owned()));
    }
    let given = params(&pairs)?;
    let request = AuthorizeRequest::parse(&given)?;
    super::authorize::check(ssa, &client, &request)?;
    let codes = (
        crypt::draw(ssa.random()),
        devices::draw_user_code(ssa.random()),
    );
    let bound = ssa.bound();
    let stored = transaction!(ssa.store(), "begin-device", |tx| {
        devices::insert(tx, &codes, &client.id, &pairs, bound, (now, exp)).await
    })?;
    let (code, user_code) = codes;
    if !stored {
        // Two user codes alike: one in 25 milliards.
        return Err(OAuthError::Unavailable.into());
    }
    let page = format!("{}/device", ssa.config().base_url);
    Ok(DeviceResponse {
        device_code: code,
        verification_uri_complete: Some(format!("{page}/{}", user_code.expose())),
        user_code: user_code.expose().to_owned(),
        verification_uri: page,
        expires_in: exp.0.saturating_sub(now.0).unsigned_abs(),
        interval: devices::PAUSE.unsigned_abs(),
    })
}

/// The spent code of a device, when its user has decided.
pub(super) async fn redeem(
    ssa: &Ssa,
    client: &Client,
    code: &str,
    now: UnixTime,
) -> Result<Code, Refused> {
    let spent = transaction!(ssa.store(), "device-code", |tx| {
        let device = devices::find(tx, code).await?;
        // Another's, and one that never was, look the same, and count as tries of whoever is nobody.
        let Some(device) = device.filter(|device| device.client == client.id) else {
            return Ok::<_, StoreError>(None);
        };
        if device.state == devices::State::Denied {
            return Ok(Some(Err(OAuthError::AccessDenied)));
        }
        if device.state == devices::State::Waiting {
            return waiting(tx, &device, now).await.map(|told| Some(Err(told)));
        }
        let spent = flow::spend_code(tx, code).await?;
        let good = spent.filter(|code| code.live && code.client == client.id && now < code.exp);
        Ok(good.map(Ok))
    })?;
    let Some(spent) = spent else {
        ssa.knocked("oauth2/token").await?;
        return Err(OAuthError::InvalidCode.into());
    };
    Ok(spent?)
}

async fn waiting(
    tx: &mut store_kit::Tx,
    device: &Device,
    now: UnixTime,
) -> Result<OAuthError, StoreError> {
    if device.is_expired(now) {
        return Ok(OAuthError::DeviceCodeExpired);
    }
    Ok(match devices::asks(tx, device, now).await? {
        true => OAuthError::SlowDown,
        false => OAuthError::AuthorizationPending,
    })
}
