//! Receipts for the signer: what was signed, and the evidence of any act of theirs.

use audit_log::LoggedEntry;
use cm_api::CryptoModule;
use core_types::{ClientId, Digest32, KeyId, PersonId, UnixTime};
use sam_api::Refusal;
use sam_api::ssa::{
    ReceiptAnswer, ReceiptOfRequest, ReceiptRequest, SignaturesAnswer, SignaturesRequest,
    SignedEntry,
};
use sam_core::evidence::Evidence;
use serde::Deserialize;
use store_kit::StoreError;

use crate::receipt::{ReceiptError, bundle};
use crate::records::KeyRecord;
use crate::rows;
use crate::sam::Sam;

/// How many signatures are listed.
const LISTED: i64 = 50;
/// Calls of a key that are looked at together.
const PAGE: usize = 64;
/// Among how many calls of a key, the newest, a value is looked for.
const SEARCHED: usize = 20_000;
/// How many bytes of evidence are read for that.
const READ: usize = 512 << 20;

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

/// Whether this is evidence of a call that made the value. For a thread that may be busy.
fn has_value(text: &[u8], value: Digest32) -> bool {
    // Of thousands of pieces one has it: only that is read whole.
    let Ok(text) = std::str::from_utf8(text) else {
        return false;
    };
    if !text.contains(&value.to_string()) {
        return false;
    }
    let read = serde_json::from_str::<Evidence>(text);
    matches!(read, Ok(Evidence::Signature(made)) if made.values.contains(&value))
}

fn unread(error: StoreError) -> Refusal {
    tracing::error!(%error, "a receipt couldn't be made");
    Refusal::NotNow
}

impl<C: CryptoModule> Sam<C> {
    /// The bundle of evidence about an act of a signer. What officers did isn't shown here: that is
    /// [`Self::proposal_evidence`], by a session of theirs.
    ///
    /// # Errors
    /// [`Refusal::NotNow`] until the log's next checkpoint, [`Refusal::NotFound`], also of every officer's account.
    pub async fn receipt(&self, request: ReceiptRequest) -> Result<ReceiptAnswer, Refusal> {
        if sap::office::is_account(&request.person) {
            return Err(Refusal::NotFound);
        }
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
    /// As [`Self::receipt`]; another client's value, and one that never was, look the same. [`Refusal::NotNow`] also while the
    /// client has searches enough under way, and for a key with so many later calls that whether the value was isn't known.
    pub async fn receipt_of(&self, request: ReceiptOfRequest) -> Result<ReceiptAnswer, Refusal> {
        let search = self.searches.begin(&request.client).await;
        let _search = search.ok_or(Refusal::NotNow)?;
        let person = self.owner_of(&request).await?;
        let (mut before, mut seen, mut read) = (None, 0, 0);
        while seen < SEARCHED && read < READ {
            let calls = self.calls(&request.key, before).await?;
            for (body, at) in &calls {
                before = Some(*at);
                let Some(body) = body else { continue };
                if body.detail.client != request.client {
                    continue;
                }
                let (act, name) = (body.detail.act, body.detail.evidence);
                let text = self.evidence(name).await.map_err(unread)?;
                let Some(text) = text else {
                    continue;
                };
                read += text.len();
                let judged = move || has_value(&text, request.value);
                let judged = tokio::task::spawn_blocking(judged).await;
                if judged.map_err(|_| Refusal::NotNow)? {
                    return self.receipt(ReceiptRequest { person, act }).await;
                }
            }
            if calls.len() < PAGE {
                return Err(Refusal::NotFound);
            }
            seen += calls.len();
        }
        let key = request.key.as_str();
        tracing::warn!(
            key,
            seen,
            "a value wasn't found among the newest calls of its key"
        );
        Err(Refusal::NotNow)
    }

    /// Whose the key is, if the caller may ask for it.
    async fn owner_of(&self, request: &ReceiptOfRequest) -> Result<PersonId, Refusal> {
        let mut tx = self.store.read("receipt-of").await.map_err(unread)?;
        let found = rows::get::<KeyRecord>(&mut tx, &self.sealer, request.key.as_str()).await;
        let row = found.map_err(|_| Refusal::NotNow)?;
        let owner = row.ok_or(Refusal::NotFound)?.body.owner;
        match &request.person {
            Some(person) if *person != owner => Err(Refusal::NotFound),
            _ => Ok(owner),
        }
    }

    /// The next calls of a key, newest first, each with its time and place; nothing where an entry is of another form.
    async fn calls(
        &self,
        key: &KeyId,
        before: Option<(UnixTime, i64)>,
    ) -> Result<Vec<(Option<Body>, (UnixTime, i64))>, Refusal> {
        let most = i64::try_from(PAGE).unwrap_or(i64::MAX);
        let mut tx = self.store.read("receipt-of").await.map_err(unread)?;
        let found = audit_log::of_key(&mut tx, key, "signature.made", before, most).await;
        let found = found.map_err(unread)?;
        let read = |entry: &LoggedEntry| {
            let body = serde_json::from_str(&entry.body).ok();
            (body, (entry.at, entry.seq))
        };
        Ok(found.iter().map(read).collect())
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
