//! Signature values that nobody waits for: `operationMode` `A` and `signatures/signPolling` (CSC 11.13, 11.15).

use std::time::Duration;

use csc_types::{SecretText, SignHashAnswer, SignHashRequest, SignHashResponse, SignedValue};
use reqwest::StatusCode;
use serde_json::json;

use crate::client::{Client, values};
use crate::error::ClientError;

/// What is wanted of a call that doesn't wait.
#[derive(Debug, Clone, Copy, Default)]
pub struct Later<'a> {
    /// How long the values are kept; the service's own time if nothing is said.
    pub keep: Option<Duration>,
    /// Address of the client that is told when they are there, one that the service knows.
    pub response_uri: Option<&'a str>,
}

impl Client {
    /// `signatures/signHash` in asynchronous mode: the name under which [`Self::poll`] asks for the values. The key makes repetition safe,
    /// as for [`Self::sign_hash`].
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Unsupported`] in version 1, [`ClientError::Malformed`] when values come at once.
    pub async fn sign_later(
        &self,
        token: &SecretText,
        request: &SignHashRequest,
        later: Later<'_>,
        idempotency_key: &str,
    ) -> Result<SecretText, ClientError> {
        self.in_v2("asynchronous signatures in version 1")?;
        let endpoint = "signatures/signHash";
        let mut body = json!(request);
        body["operationMode"] = json!("A");
        if let Some(keep) = later.keep {
            let millis = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
            body["validity_period"] = json!(millis);
        }
        if let Some(uri) = later.response_uri {
            body["response_uri"] = json!(uri);
        }
        let reply = self.once_named(endpoint, token, &body, idempotency_key);
        let answer: SignHashAnswer = reply.await?.json(endpoint)?;
        match answer {
            SignHashAnswer::Accepted { response_id } => Ok(response_id),
            SignHashAnswer::Signed(_) => Err(ClientError::Malformed {
                endpoint: endpoint.to_owned(),
                reason: "values came although they were wanted later".to_owned(),
            }),
        }
    }

    /// `signatures/signPolling`: the raw signature values of a call that didn't wait, `None` as long as there are none. `count`: how many
    /// hashes it was about. `user`: whose they are, for a token of the client itself.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Malformed`] when the number of values differs.
    pub async fn poll(
        &self,
        token: &SecretText,
        response_id: &SecretText,
        count: usize,
        user: Option<&str>,
    ) -> Result<Option<Vec<SignedValue>>, ClientError> {
        self.in_v2("asynchronous signatures in version 1")?;
        let endpoint = "signatures/signPolling";
        let mut body = json!({ "requestID": response_id.expose() });
        if let Some(user) = user {
            body["userID"] = json!(user);
        }
        let reply = self.once(endpoint, token, &body).await?;
        if reply.status == StatusCode::ACCEPTED {
            return Ok(None);
        }
        let answer: SignHashResponse = reply.json(endpoint)?;
        values(endpoint, &answer, count).map(Some)
    }
}
