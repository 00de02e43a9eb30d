//! Receipts for the signer: what was signed, and the evidence of any act of theirs.

use cm_api::CryptoModule;
use core_types::{ClientId, Digest32, KeyId, UnixTime};
use sam_api::Refusal;
use sam_api::ssa::{
    ReceiptAnswer, ReceiptRequest, SignaturesAnswer, SignaturesRequest, SignedEntry,
};
use serde::Deserialize;

use crate::receipt::{ReceiptError, bundle};
use crate::sam::Sam;

/// How many signatures are listed.
const LISTED: i64 = 50;

#[derive(Deserialize)]
struct Body {
    at: UnixTime,
    detail: Made,
}

#[derive(Deserialize)]
struct Made {
    act: Digest32,
    client: ClientId,
    key: KeyId,
    count: u32,
}

impl<C: CryptoModule> Sam<C> {
    /// The bundle of evidence about an act of a person.
    ///
    /// # Errors
    /// [`Refusal::NotNow`] until the log's next checkpoint, [`Refusal::NotFound`].
    pub async fn receipt(&self, request: ReceiptRequest) -> Result<ReceiptAnswer, Refusal> {
        let made = bundle(
            &self.store,
            &self.root,
            &self.sealer.name(request.person.as_str()),
            request.act,
        )
        .await;
        match made {
            Ok(bundle) => Ok(ReceiptAnswer { bundle }),
            Err(ReceiptError::NotFound) => Err(Refusal::NotFound),
            Err(ReceiptError::NotYet) => Err(Refusal::NotNow),
            Err(ReceiptError::Store(error)) => {
                tracing::error!(%error, "a receipt couldn't be made");
                Err(Refusal::NotNow)
            }
        }
    }

    /// The latest signatures of a person, newest first.
    ///
    /// # Errors
    /// [`Refusal::NotNow`] when the log can't be read.
    pub async fn signatures(
        &self,
        request: SignaturesRequest,
    ) -> Result<SignaturesAnswer, Refusal> {
        let person = self.sealer.name(request.person.as_str());
        let found = audit_log::latest(&self.store, &person, "signature.made", LISTED).await;
        let found = found.map_err(|error| {
            tracing::error!(%error, "signatures couldn't be listed");
            Refusal::NotNow
        })?;
        let entries = found.iter().filter_map(|entry| {
            let body: Body = serde_json::from_str(&entry.body).ok()?;
            Some(SignedEntry {
                at: body.at,
                act: body.detail.act,
                client: body.detail.client,
                key: body.detail.key,
                count: body.detail.count,
            })
        });
        Ok(SignaturesAnswer {
            entries: entries.collect(),
        })
    }
}
