//! Receipts for the signer: what was signed, and the evidence of any act of theirs.

use cm_api::CryptoModule;
use core_types::{ClientId, Digest32, KeyId, UnixTime};
use sam_api::Refusal;
use sam_api::ssa::{
    ReceiptAnswer, ReceiptOfRequest, ReceiptRequest, SignaturesAnswer, SignaturesRequest,
    SignedEntry,
};
use sam_core::evidence::Evidence;
use serde::Deserialize;
use store_kit::{StoreError, Tx};

use crate::receipt::{ReceiptError, bundle, document};
use crate::records::KeyRecord;
use crate::rows;
use crate::sam::Sam;

/// How many signatures are listed.
const LISTED: i64 = 50;
/// Among how many calls of a key, the newest, a value is looked for.
const SEARCHED: i64 = 1000;

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
    evidence: Digest32,
}

/// Whether this evidence is of a call that made the value.
async fn has_value(tx: &mut Tx, evidence: Digest32, value: Digest32) -> Result<bool, Refusal> {
    let text = document(tx, evidence).await.map_err(|error| {
        tracing::error!(%error, "evidence couldn't be read");
        Refusal::NotNow
    })?;
    let read = text.and_then(|text| serde_json::from_str::<Evidence>(&text).ok());
    Ok(matches!(read, Some(Evidence::Signature(made)) if made.values.contains(&value)))
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

    /// The same of a signature value, for the client that got it and nobody else.
    ///
    /// # Errors
    /// As [`Self::receipt`]; another client's value, and one that never was, look the same.
    pub async fn receipt_of(&self, request: ReceiptOfRequest) -> Result<ReceiptAnswer, Refusal> {
        let unread = |error: StoreError| {
            tracing::error!(%error, "a receipt couldn't be made");
            Refusal::NotNow
        };
        let (owner, act) = {
            let mut tx = self.store.read("receipt-of").await.map_err(unread)?;
            let found = rows::get::<KeyRecord>(&mut tx, &self.sealer, request.key.as_str()).await;
            let row = found.map_err(|_| Refusal::NotNow)?;
            let owner = row.ok_or(Refusal::NotFound)?.body.owner;
            if request.person.is_some_and(|person| person != owner) {
                return Err(Refusal::NotFound);
            }
            let made = audit_log::of_key(&mut tx, &request.key, "signature.made", SEARCHED).await;
            let mut act = None;
            for entry in made.map_err(unread)? {
                let Ok(body) = serde_json::from_str::<Body>(&entry.body) else {
                    continue;
                };
                let (made, client) = (body.detail.evidence, body.detail.client);
                if client == request.client && has_value(&mut tx, made, request.value).await? {
                    act = Some(body.detail.act);
                    break;
                }
            }
            (owner, act.ok_or(Refusal::NotFound)?)
        };
        let person = owner;
        self.receipt(ReceiptRequest { person, act }).await
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
