//! Authorization where nobody can open a browser: its user does elsewhere (RFC 8628).

use std::time::Duration;

use csc_types::{AuthorizeRequest, DetailsType, DeviceResponse, Grant, Purpose, TokenResponse};

use crate::client::Client;
use crate::discover::Provider;
use crate::error::ClientError;
use crate::signed::OF_DEVICES;
use crate::wire::Shows;

/// By how much a server that is asked too often wants to be asked less (RFC 8628 §3.5).
const SLOWER: Duration = Duration::from_secs(5);

/// Parameters that belong to a browser's way back.
const OF_BROWSERS: [&str; 5] = [
    "response_type",
    "redirect_uri",
    "state",
    "code_challenge",
    "code_challenge_method",
];

/// An authorization that waits for its user. The program shows `user_code` and `verification_uri`, and asks with
/// [`Client::device_token`] until there is an answer.
#[derive(Debug, Clone)]
pub struct Device {
    /// What the server said: what to show, and for how long it holds.
    pub told: DeviceResponse,
    /// How long to wait before asking the next time.
    pub pause: Duration,
}

impl Client {
    /// Begins an authorization whose user opens a browser on another device.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Unsupported`] when the authorization server has no such way.
    pub async fn device(
        &self,
        provider: &Provider,
        purpose: Purpose,
        description: Option<&str>,
    ) -> Result<Device, ClientError> {
        let endpoints = &provider.endpoints;
        let url = endpoints.device.as_ref();
        let url = url.ok_or(ClientError::Unsupported(
            "authorization by another device (RFC 8628)",
        ))?;
        let request = AuthorizeRequest {
            client_id: self.credentials.client_id.clone(),
            redirect_uri: None,
            purpose,
            received_details: None,
            state: None,
            code_challenge: String::new(),
            lang: None,
            description: description.map(str::to_owned),
            account_token: None,
            prompt: None,
            client_data: None,
        };
        let request = match provider.rar {
            true => request.with_details(DetailsType::Short),
            false => request,
        };
        let mut pairs = self.version.pairs(request.to_pairs());
        pairs.retain(|(name, _)| !OF_BROWSERS.contains(name));
        let pairs = self.signed(endpoints, OF_DEVICES, pairs)?;
        let endpoint = "oauth2/device_authorization";
        let request = self.form(url, endpoints, pairs)?;
        let reply = self.wire.send(endpoint, request, Shows::Nothing).await?;
        let told: DeviceResponse = reply.json(endpoint)?;
        Ok(Device {
            pause: Duration::from_secs(told.interval),
            told,
        })
    }

    /// The token, if the user has decided; `None` as long as not, and then the next question waits for `device.pause`, which
    /// grows where the server wants it.
    ///
    /// # Errors
    /// See [`ClientError`]; a user who declined, or came too late, is [`ClientError::Api`] with the server's word for it.
    pub async fn device_token(
        &self,
        provider: &Provider,
        device: &mut Device,
    ) -> Result<Option<TokenResponse>, ClientError> {
        let form = vec![
            ("grant_type", Grant::DEVICE_CODE.to_owned()),
            ("device_code", device.told.device_code.expose().to_owned()),
        ];
        let error = match self.granted(provider, form).await {
            Ok(token) => return Ok(Some(token)),
            Err(error) => error,
        };
        let ClientError::Api { body, .. } = &error else {
            return Err(error);
        };
        match body.error.as_str() {
            "authorization_pending" => Ok(None),
            "slow_down" => {
                device.pause += SLOWER;
                Ok(None)
            }
            _ => Err(error),
        }
    }
}
