//! `signatures/receipt`, a method of our own: the evidence of a signature for the client that got it, with proofs that it
//! stands in the SAM's log. `natsuin evidence verify` checks it offline.

use axum::body::Bytes;
use core_types::{KeyId, sha256};
use csc_types::{CscError, ReceiptRequest};
use sam_api::Refusal;
use sam_api::ssa::ReceiptOfRequest;
use serde::Serialize;
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

pub(super) async fn receipt(ssa: &Ssa, call: &Call, body: Bytes) -> Result<Receipt, Fault> {
    let bearer = bearer(ssa, call).await?;
    let request = ReceiptRequest::parse(&body)?;
    let key = KeyId::parse(request.credential_id);
    let key = key.map_err(|_| CscError::InvalidParameter("credentialID"))?;
    let asked = ReceiptOfRequest {
        client: bearer.token.client.clone(),
        person: bearer.token.person.clone(),
        key,
        value: sha256(&[&request.signature]),
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
