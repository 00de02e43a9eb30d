//! `signatures/receipt`, a method of our own: the evidence of a signature for the client that got it, with proofs that it
//! stands in the SAM's log. `natsuin evidence verify` checks it offline.

use axum::body::Bytes;
use core_types::bytes::from_b64;
use core_types::{KeyId, sha256};
use csc_types::CscError;
use sam_api::Refusal;
use sam_api::ssa::ReceiptOfRequest;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use service_kit::CallError;

use super::refusals::{Fault, of_keys};
use super::{Call, bearer, refused};
use crate::Ssa;

const METHOD: &str = "signatures/receipt";

/// A bundle of evidence, as the SAM wrote it.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Receipt(Value);

#[derive(Deserialize)]
struct Request {
    #[serde(rename = "credentialID")]
    credential: Option<String>,
    /// The value, base64.
    signature: Option<String>,
}

pub(super) async fn receipt(ssa: &Ssa, call: &Call, body: Bytes) -> Result<Receipt, Fault> {
    let bearer = bearer(ssa, call).await?;
    let request: Request =
        serde_json::from_slice(&body).map_err(|_| CscError::InvalidParameter("body"))?;
    let key = request
        .credential
        .ok_or(CscError::MissingString("credentialID"))?;
    let key = KeyId::parse(key).map_err(|_| CscError::InvalidParameter("credentialID"))?;
    let value = request
        .signature
        .ok_or(CscError::MissingString("signature"))?;
    let value = from_b64(&value).map_err(|_| CscError::InvalidParameter("signature"))?;
    let asked = ReceiptOfRequest {
        client: bearer.token.client.clone(),
        person: bearer.token.person.clone(),
        key,
        value: sha256(&[&value]),
    };
    match ssa.sam().receipt_of(&asked).await {
        Ok(answer) => {
            let bundle = serde_json::from_str(&answer.bundle).map_err(|_| CscError::Internal)?;
            Ok(Receipt(bundle))
        }
        // Another's, and one that never was, look the same.
        Err(CallError::Refused(Refusal::NotFound)) => {
            refused(ssa, METHOD, &bearer.token, "signature").await?;
            Err(CscError::InvalidParameter("signature").into())
        }
        Err(error) => Err(of_keys(error)),
    }
}
