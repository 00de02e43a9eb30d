//! Credentials that were made or ended at an application's wish (CSC 11.4, 11.5). Their person did that before, where the authorization led
//! them; these calls bring the outcome.

use csc_types::{Certificates, CreationRequest, Credential, SecretText};
use serde_json::json;

use crate::client::Client;
use crate::error::ClientError;

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
        self.in_v2("credentials/create in version 1")?;
        let body = json!({
            "credentialCreationRequest": creation.to_value(),
            "credentialInfo": true,
            "certificates": Certificates::Chain,
            "certInfo": true,
        });
        let endpoint = "credentials/create";
        self.once(endpoint, token, &body).await?.json(endpoint)
    }

    /// `credentials/delete`: that the credential was deleted under this token. Not repeated by itself, since a token tells it once.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn deleted(&self, token: &SecretText, credential: &str) -> Result<(), ClientError> {
        self.in_v2("credentials/delete in version 1")?;
        let body = json!({ "credentialDeletionRequest": { "credentialID": credential } });
        let endpoint = "credentials/delete";
        let reply = self.once(endpoint, token, &body).await?;
        reply.done(endpoint).map(drop)
    }
}
