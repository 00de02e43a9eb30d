//! Credentials that were made or ended at an application's wish (CSC 11.4, 11.5). Their person did that before, where the authorization led
//! them; these calls bring the outcome.

use csc_types::{Certificates, CreationRequest, Credential, SecretText};
use serde_json::json;

use crate::client::Client;
use crate::error::ClientError;
use crate::http;

impl Client {
    /// `credentials/create`: the credential that was made under this token, with its certificates. Not repeated by itself, since a
    /// token brings it once.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn created(
        &self,
        token: &SecretText,
        creation: &CreationRequest,
    ) -> Result<Credential, ClientError> {
        let body = json!({
            "credentialCreationRequest": creation.to_value(),
            "credentialInfo": true,
            "certificates": Certificates::Chain,
            "certInfo": true,
        });
        let endpoint = "credentials/create";
        let response = http::send(endpoint, self.post(endpoint, Some(token), &body)).await?;
        http::json(endpoint, response).await
    }

    /// `credentials/delete`: that the credential was deleted under this token. Not repeated by itself, since a token tells it once.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn deleted(&self, token: &SecretText, credential: &str) -> Result<(), ClientError> {
        let body = json!({ "credentialDeletionRequest": { "credentialID": credential } });
        let endpoint = "credentials/delete";
        let response = http::send(endpoint, self.post(endpoint, Some(token), &body)).await?;
        http::done(endpoint, response).await.map(drop)
    }
}
