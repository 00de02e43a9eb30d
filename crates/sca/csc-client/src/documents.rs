//! Documents that the service signs itself (CSC 11.14), and its time-stamps (CSC 11.16).

use csc_types::{
    SecretText, SignDocRequest, SignDocResponse, TimestampRequest, TimestampResponse, decode_base64,
};

use crate::client::Client;
use crate::error::ClientError;

impl Client {
    /// `signatures/signDoc`: documents or digests of documents become signatures. `token` is the right to sign, or reads, with the
    /// right as `request.sad`. The key makes repetition safe, as for [`Self::sign_hash`].
    ///
    /// Nothing of what comes is verified yet.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Unsupported`] in version 1, which has no such method.
    pub async fn sign_doc(
        &self,
        token: &SecretText,
        request: &SignDocRequest,
        idempotency_key: &str,
    ) -> Result<SignDocResponse, ClientError> {
        self.in_v2("signatures/signDoc in version 1")?;
        let endpoint = "signatures/signDoc";
        let reply = self.once_named(endpoint, token, request, idempotency_key);
        reply.await?.json(endpoint)
    }

    /// `signatures/timestamp`: the token of an authority of the provider's choice (RFC 3161), DER. Its signature, and that it is about
    /// this hash, is for the caller to verify.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Malformed`] when it isn't base64.
    pub async fn timestamp(
        &self,
        token: &SecretText,
        request: &TimestampRequest,
    ) -> Result<Vec<u8>, ClientError> {
        let endpoint = "signatures/timestamp";
        let answer: TimestampResponse =
            self.once(endpoint, token, request).await?.json(endpoint)?;
        decode_base64(&answer.timestamp).ok_or_else(|| ClientError::Malformed {
            endpoint: endpoint.to_owned(),
            reason: "the time-stamp is not base64".to_owned(),
        })
    }
}
