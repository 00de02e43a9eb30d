//! The second half: from the browser's return to the signed and checked file.

use std::sync::Arc;
use std::time::Duration;

use csc_client::{Callback, Pending, Version, wire_alg};
use csc_types::{SecretText, SignHashRequest, SignedValue};
use signing_job::{JobError, Names, Signed, TimeStamping};

use crate::app::{App, Failed};
use crate::begin::remember;
use crate::documents::{Authorizing, Resume, State, Step, Trip, Waiting};
use crate::problem::Problem;
use crate::sessions::SessionId;

/// Longest time for the check of a signed file, the network included.
const CHECK_TIME: Duration = Duration::from_secs(300);

/// Where a returning browser goes.
pub(crate) struct Returned {
    /// Document whose page it is.
    pub(crate) id: String,
    /// Somebody logged in: the session's new cookie.
    pub(crate) cookie: Option<String>,
}

impl App {
    /// The browser came back from the provider.
    pub(crate) async fn callback(
        self: &Arc<Self>,
        owner: SessionId,
        query: &str,
        lang: &'static str,
    ) -> Result<Returned, Problem> {
        let callback = Callback::from_query(query).map_err(|e| self.report(&e))?;
        let state = callback.state().ok_or(Problem::NOT_FOUND)?.to_owned();
        let id = self
            .lock()
            .documents
            .by_state(&owner, &state)
            .ok_or(Problem::NOT_FOUND)?;
        let taken = self.take(&owner, &id, |d| match &d.state {
            State::Authorize(trip) if trip.pending.state == state => {
                remember(d);
                match std::mem::replace(&mut d.state, State::Working) {
                    State::Authorize(trip) => Some(*trip),
                    _ => None,
                }
            }
            _ => None,
        });
        // A reload of the way back: the document's page tells how it ended.
        let Ok(Authorizing {
            pending, purpose, ..
        }) = taken
        else {
            return Ok(Returned { id, cookie: None });
        };
        let logged_in = matches!(purpose, Trip::Login);
        let (app, at) = (self.clone(), id.clone());
        self.proceed(owner, id.clone(), async move {
            match purpose {
                Trip::Login => {
                    let token = app.redeem(&pending, &callback).await?;
                    let until = app.now().plus(i64::try_from(token.1).unwrap_or(0));
                    if let Some(session) = app.lock().sessions.get_mut(&owner) {
                        session.service = Some((token.0.clone(), until));
                    }
                    app.keys(&owner, &at, &token.0, lang).await
                }
                Trip::Approve(waiting) => {
                    let (token, _) = app.redeem(&pending, &callback).await?;
                    app.sign(&owner, &at, *waiting, token).await
                }
            }
        })
        .await;
        let mut inner = self.lock();
        let has_token = inner
            .sessions
            .get(&owner)
            .is_some_and(|s| s.service.is_some());
        let cookie = if logged_in && has_token {
            inner.sessions.rotate(&owner, &*self.config.random)
        } else {
            None
        };
        Ok(Returned { id, cookie })
    }

    /// Goes on where an answer was missing; needs no new approval.
    pub(crate) async fn resume(
        self: &Arc<Self>,
        owner: SessionId,
        id: String,
    ) -> Result<(), Problem> {
        let resume = self.take(&owner, &id, |d| {
            match std::mem::replace(&mut d.state, State::Working) {
                State::Resume(resume) => Some(*resume),
                other => {
                    d.state = other;
                    None
                }
            }
        })?;
        let (app, at) = (self.clone(), id.clone());
        self.proceed(owner, id, async move {
            match resume.step {
                Step::Sign(token) => app.sign(&owner, &at, resume.waiting, token).await,
                Step::Embed(value) => app.embed(&owner, &at, resume.waiting, value).await,
                Step::Check(signed) => app.check(&owner, &at, resume.waiting, signed).await,
            }
        })
        .await;
        Ok(())
    }

    /// Redeems the code; gives the token and its life in seconds.
    async fn redeem(
        &self,
        pending: &Pending,
        callback: &Callback,
    ) -> Result<(SecretText, u64), Failed> {
        let provider = self.provider().await?;
        let token = self
            .client
            .exchange(&provider, pending, callback)
            .await
            .map_err(|e| self.report(&e))?;
        Ok((token.access_token, token.expires_in))
    }

    async fn sign(
        &self,
        owner: &SessionId,
        id: &str,
        waiting: Waiting,
        token: SecretText,
    ) -> Result<State, Failed> {
        let wire = wire_alg(waiting.alg, &waiting.credential.key).ok_or(Problem::NO_KEY)?;
        // In version 1 the right to sign goes beside the token that reads; once that has ended, it goes in both places.
        let reading = match self.client.version() {
            Version::V1 => self
                .lock()
                .sessions
                .get(owner)
                .and_then(|s| s.reading(self.now())),
            Version::V2 => None,
        };
        let (bearer, sad) = match reading {
            Some(reading) => (reading, Some(token.clone())),
            None => (token.clone(), None),
        };
        let request = SignHashRequest {
            credential_id: waiting.credential.credential_id.clone().unwrap_or_default(),
            sad,
            hashes: vec![waiting.prepared.hash_to_sign().to_vec()],
            hash_algorithm_oid: Some(wire.hash_algorithm_oid),
            sign_algo: wire.sign_algo,
            sign_algo_params: wire.sign_algo_params,
            client_data: None,
        };
        match self
            .client
            .sign_hash(&bearer, &request, &waiting.idempotency_key)
            .await
        {
            Ok(mut values) => self.embed(owner, id, waiting, values.remove(0)).await,
            Err(error) => {
                let problem = self.report(&error);
                if error.outcome_is_unknown() {
                    let resume = Resume {
                        waiting,
                        step: Step::Sign(token),
                    };
                    let state = State::Resume(Box::new(resume));
                    return Err(Failed {
                        state,
                        problem: Problem::UNKNOWN_OUTCOME,
                    });
                }
                Err(problem.into())
            }
        }
    }

    async fn embed(
        &self,
        owner: &SessionId,
        id: &str,
        waiting: Waiting,
        value: SignedValue,
    ) -> Result<State, Failed> {
        let tsa = self.config.tsa_url.as_deref().map(|url| TimeStamping {
            fetch: &self.tsa,
            url,
            anchors: self.trust.tsa_anchors(),
            random: &*self.config.random,
        });
        let signed = match waiting.prepared.finish(&value, tsa.as_ref()).await {
            Ok(signed) => signed,
            Err(error @ JobError::TimeStamp(_)) => {
                let problem = self.report(&error);
                let resume = Resume {
                    waiting,
                    step: Step::Embed(value),
                };
                return Err(Failed {
                    state: State::Resume(Box::new(resume)),
                    problem,
                });
            }
            Err(error) => return Err(self.report(&error).into()),
        };
        self.check(owner, id, waiting, signed).await
    }

    /// Checks the signed file. It exists under its name now, so nothing that goes wrong here leads back before it.
    async fn check(
        &self,
        owner: &SessionId,
        id: &str,
        waiting: Waiting,
        signed: Signed,
    ) -> Result<State, Failed> {
        let names = {
            let inner = self.lock();
            let document = inner.documents.get(owner, id)?;
            Names {
                object: document.name.clone(),
                document: document.signed_name(),
            }
        };
        let checked = async {
            let _reader = self.reader().await.ok()?;
            let work = signing_job::check(&signed.path, &self.trust, &self.fetch, self.now());
            let checked = tokio::time::timeout(CHECK_TIME, work).await.ok()?;
            let report = checked.map_err(|e| self.report(&e)).ok()?;
            report.outcome(&names, &signed, self.config.show_signer_id)
        };
        match checked.await {
            Some(outcome) => Ok(State::Signed(Box::new(outcome))),
            None => {
                let step = Step::Check(signed);
                Err(Failed {
                    state: State::Resume(Box::new(Resume { waiting, step })),
                    problem: Problem::NOT_CHECKED,
                })
            }
        }
    }
}
