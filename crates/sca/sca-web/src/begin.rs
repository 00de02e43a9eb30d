//! The first half: from an uploaded file to the signer's approval.

use std::sync::Arc;
use std::time::Duration;

use core_types::Digest32;
use csc_client::{AuthorizeParams, ClientError, choose_alg};
use csc_types::{Credential, Purpose, SecretText, SignatureAuthorization};
use signing_job::Request;

use crate::app::{App, Failed};
use crate::documents::{Authorizing, Document, State, Trip, Waiting};
use crate::files::{Stored, file_name};
use crate::problem::Problem;
use crate::sessions::SessionId;

/// Longest time for the first look at a file.
const LOOK_TIME: Duration = Duration::from_secs(120);

/// Room for a document that arrives; given back when this is dropped.
pub(crate) struct Place {
    app: Arc<App>,
    /// Name of the document.
    pub(crate) id: String,
    /// Bytes that it may have.
    pub(crate) size: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.app.lock().documents.release(&self.id);
    }
}

impl App {
    /// Takes over a file that arrived: looks whether it can be signed at all, before anything else happens.
    pub(crate) async fn accept(
        self: &Arc<Self>,
        owner: SessionId,
        place: Place,
        given_name: &str,
        stored: Stored,
    ) -> Result<String, Problem> {
        let path = stored.dir.join("original.pdf");
        let id = place.id.clone();
        let looked = match self.reader().await {
            Ok(reader) => {
                // Who gives up waiting doesn't end the work, so its place stays taken.
                let work = tokio::task::spawn_blocking(move || {
                    let _reader = reader;
                    signing_job::look(&path)
                });
                tokio::time::timeout(LOOK_TIME, work)
                    .await
                    .map_err(|_| Problem::TOO_COMPLEX)
            }
            Err(busy) => Err(busy),
        };
        let refused = match looked {
            Ok(Ok(Ok(found))) => {
                let document = Document {
                    owner,
                    name: file_name(given_name),
                    size: stored.size,
                    sha256: stored.sha256,
                    signatures: found.signatures,
                    expires: self.now().plus(self.config.job_life),
                    dir: stored.dir,
                    state: State::Ready,
                    problem: None,
                    past: Vec::new(),
                };
                self.lock().documents.insert(id.clone(), document);
                return Ok(id);
            }
            Ok(Ok(Err(error))) => self.report(&error),
            Err(problem) => problem,
            // A file that makes the reader panic is broken, whatever else.
            Ok(Err(_)) => Problem::new("pdf-broken", axum::http::StatusCode::UNPROCESSABLE_ENTITY),
        };
        let _ = tokio::fs::remove_dir_all(&stored.dir).await;
        Err(refused)
    }

    /// A name and room for a new document, if one more is admitted. `declared`: bytes that the sender announced.
    pub(crate) fn admit(
        self: &Arc<Self>,
        owner: &SessionId,
        declared: Option<u64>,
    ) -> Result<Place, Problem> {
        let (largest, room) = (self.config.max_upload, self.config.max_stored);
        let size = declared.unwrap_or(largest).min(largest);
        let Digest32(bytes) = self.config.random.digest32();
        let id = core_types::bytes::b64u(&bytes[..16]);
        self.lock()
            .documents
            .reserve(id.clone(), owner, size, room)?;
        Ok(Place {
            app: self.clone(),
            id,
            size,
        })
    }

    /// 「署名に進む」: sends the signer to log in, or on to the approval when that was done a moment ago.
    /// `fresh` forgets who logged in.
    pub(crate) async fn start(
        self: &Arc<Self>,
        owner: SessionId,
        id: String,
        lang: &'static str,
        fresh: bool,
    ) -> Result<(), Problem> {
        self.take(&owner, &id, |d| match &d.state {
            State::Ready | State::Authorize(_) | State::Choose(_) => {
                remember(d);
                Some(())
            }
            State::Working | State::Resume(_) | State::Signed(_) => None,
        })?;
        let token = {
            let mut inner = self.lock();
            let session = inner.sessions.get_mut(&owner).ok_or(Problem::NOT_FOUND)?;
            if fresh {
                session.service = None;
            }
            session.reading(self.now())
        };
        let (app, at) = (self.clone(), id.clone());
        self.proceed(owner, id, async move {
            match token {
                Some(token) => app.keys(&owner, &at, &token, lang).await,
                None => app.login(lang).await,
            }
        })
        .await;
        Ok(())
    }

    /// The signer's choice among several keys.
    pub(crate) async fn choose(
        self: &Arc<Self>,
        owner: SessionId,
        id: String,
        credential_id: &str,
        lang: &'static str,
    ) -> Result<(), Problem> {
        let chosen = self.take(&owner, &id, |d| match &d.state {
            State::Choose(all) => all
                .iter()
                .find(|c| c.credential_id.as_deref() == Some(credential_id))
                .cloned(),
            _ => None,
        })?;
        let (app, at) = (self.clone(), id.clone());
        self.proceed(owner, id, async move {
            app.prepare(&owner, &at, chosen, lang).await
        })
        .await;
        Ok(())
    }

    /// Takes the browser's trip to the provider: its address, once.
    pub(crate) fn depart(&self, owner: &SessionId, id: &str) -> Result<Option<String>, Problem> {
        let mut inner = self.lock();
        match &mut inner.documents.get_mut(owner, id)?.state {
            State::Authorize(trip) if !trip.opened => {
                trip.opened = true;
                Ok(Some(trip.pending.url.to_string()))
            }
            _ => Ok(None),
        }
    }

    async fn login(&self, lang: &'static str) -> Result<State, Failed> {
        self.trip(Purpose::Service, lang, Trip::Login).await
    }

    /// Lists the keys that can sign here; with exactly one the approval is prepared at once.
    pub(crate) async fn keys(
        &self,
        owner: &SessionId,
        id: &str,
        token: &SecretText,
        lang: &'static str,
    ) -> Result<State, Failed> {
        let all = match self.client.credentials(token).await {
            Ok(all) => all,
            Err(ClientError::Api { status: 401, .. }) => return self.login(lang).await,
            Err(error) => return Err(self.report(&error).into()),
        };
        let mut usable: Vec<Credential> = all.into_iter().filter(is_usable).collect();
        match usable.len() {
            0 => Err(Problem::NO_KEY.into()),
            1 => self.prepare(owner, id, usable.remove(0), lang).await,
            _ => Ok(State::Choose(usable)),
        }
    }

    /// Writes the file with room for the signature and asks for the approval of exactly its hash.
    async fn prepare(
        &self,
        owner: &SessionId,
        id: &str,
        credential: Credential,
        lang: &'static str,
    ) -> Result<State, Failed> {
        let alg = choose_alg(&credential.key).map_err(|e| self.report(&e))?;
        let chain = credential.cert.der().ok_or(Problem::NO_KEY)?;
        let (name, request) = {
            let inner = self.lock();
            let document = inner.documents.get(owner, id)?;
            let request = Request {
                input: document.original(),
                output: document.signed(),
                chain,
                alg,
                signing_time: self.now(),
                time_stamp: self.config.tsa_url.is_some(),
                reason: None,
                location: None,
                field_name: None,
            };
            (document.name.clone(), request)
        };
        let prepared = tokio::task::spawn_blocking(move || signing_job::prepare(&request))
            .await
            .map_err(|_| Problem::INTERNAL)?
            .map_err(|e| self.report(&e))?;
        let documents = self.provider().await?.takes_documents();
        let asked = SignatureAuthorization {
            credential_id: credential.credential_id.clone(),
            signature_qualifier: None,
            num_signatures: 1,
            digests: vec![prepared.digest(name, documents)],
            hash_algorithm: Some(alg.hash()),
            renewable_for: None,
        };
        let idempotency_key = self.config.random.digest32().to_string();
        let waiting = Box::new(Waiting {
            credential,
            alg,
            prepared,
            comparable: documents,
            idempotency_key,
        });
        self.trip(Purpose::Credential(asked), lang, Trip::Approve(waiting))
            .await
    }

    async fn trip(
        &self,
        purpose: Purpose,
        lang: &'static str,
        trip: Trip,
    ) -> Result<State, Failed> {
        let provider = self.provider().await?;
        let redirect_uri = self.redirect_uri();
        let params = AuthorizeParams {
            purpose,
            redirect_uri: &redirect_uri,
            lang: Some(lang),
            description: None,
        };
        let pending = self
            .client
            .authorize(&provider, &params, &*self.config.random)
            .await
            .map_err(|e| self.report(&e))?;
        Ok(State::Authorize(Box::new(Authorizing {
            pending,
            opened: false,
            purpose: trip,
        })))
    }
}

/// Keeps the `state` of an authorization that is given up or used.
pub(crate) fn remember(document: &mut Document) {
    if let State::Authorize(trip) = &document.state {
        document.past.push(trip.pending.state.clone());
        // Enough for every reload; a document isn't tried a hundred times.
        if document.past.len() > 100 {
            document.past.remove(0);
        }
    }
}

/// A key that this application can have sign: enabled, with a certificate that isn't known to be bad, approved
/// in the browser, with an algorithm we know.
fn is_usable(credential: &Credential) -> bool {
    credential.credential_id.is_some()
        && credential.key.status == "enabled"
        && credential
            .cert
            .status
            .as_deref()
            .is_none_or(|s| s == "valid")
        && credential.cert.der().is_some()
        && credential.auth.mode == "oauth2code"
        && choose_alg(&credential.key).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_can_not_sign_here_are_not_offered() {
        let good: Credential = serde_json::from_str(
            r#"{"credentialID":"k","key":{"status":"enabled","algo":["1.2.840.10045.4.3.2"],"len":256},
                "cert":{"status":"valid","certificates":["AQID"]},"auth":{"mode":"oauth2code"}}"#,
        )
        .unwrap();
        assert!(is_usable(&good));
        let not = |change: fn(&mut Credential)| {
            let mut bad = good.clone();
            change(&mut bad);
            assert!(!is_usable(&bad));
        };
        not(|c| c.key.status = "disabled".to_owned());
        not(|c| c.cert.status = Some("revoked".to_owned()));
        not(|c| c.cert.certificates = None);
        not(|c| c.auth.mode = "explicit".to_owned());
        not(|c| c.key.algo = vec!["1.2.840.113549.1.1.5".to_owned()]);
    }
}
