//! The application's state and what its steps share.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use core_types::UnixTime;
use csc_client::{Client, DpopKey, HttpOptions, Provider};
use signing_job::{HttpFetch, Trust};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::documents::{Document, Documents, State};
use crate::problem::Problem;
use crate::sessions::{SessionId, Sessions};
use crate::{Config, SetupError, files, guard};

/// How long a provider's description is believed, in seconds.
const PROVIDER_LIFE: i64 = 600;
/// Files of strangers that are read at a time.
const READERS: usize = 8;
/// How long another one waits for its turn.
const READER_WAIT: Duration = Duration::from_secs(30);
/// How often what ran out is removed.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) client: Client,
    /// Reaches the configured time-stamp authority.
    pub(crate) tsa: HttpFetch,
    /// Reaches addresses that stand in certificates.
    pub(crate) fetch: HttpFetch,
    pub(crate) trust: Trust,
    /// Host and port of the public URL.
    pub(crate) host: String,
    inner: Mutex<Inner>,
    provider: tokio::sync::Mutex<Option<(Arc<Provider>, UnixTime)>>,
    readers: Arc<Semaphore>,
}

/// Everything that changes. The lock is held for moments only, never across a wait.
#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) sessions: Sessions,
    pub(crate) documents: Documents,
}

/// A step that ended badly: where the document stands now, and why.
pub(crate) struct Failed {
    pub(crate) state: State,
    pub(crate) problem: Problem,
}

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Self {
        Self {
            state: State::Ready,
            problem,
        }
    }
}

impl App {
    pub(crate) fn new(mut config: Config) -> Result<Self, SetupError> {
        while config.public_url.ends_with('/') {
            config.public_url.pop();
        }
        let host = config
            .public_url
            .split_once("://")
            .map_or("", |(_, host)| host)
            .to_owned();
        let mut client = Client::new(&config.csc_url, config.credentials.clone(), &config.http)?;
        if let Some(key) = config.key.clone() {
            client = client.with_key(key);
        }
        if config.bound_tokens {
            let key = DpopKey::generate(config.clock.clone(), config.random.clone())?;
            client = client.with_dpop(key);
        }
        // The certificate is for the provider alone.
        let others = HttpOptions {
            identity_pem: None,
            ..config.http.clone()
        };
        let tsa = HttpFetch::new(others.build()?, true);
        let strangers = HttpOptions {
            public_only: !config.private_network,
            ..others
        };
        let fetch = HttpFetch::new(strangers.build()?, config.private_network);
        let trust =
            Trust::from_pem(&config.anchors_pem).map_err(|e| SetupError::Anchors(e.to_string()))?;
        files::start(&config.data_dir)?;
        let (inner, provider) = (Mutex::default(), tokio::sync::Mutex::default());
        Ok(Self {
            config,
            client,
            tsa,
            fetch,
            trust,
            host,
            inner,
            provider,
            readers: Arc::new(Semaphore::new(READERS)),
        })
    }

    /// The right to read a file that a stranger sent, which takes a processor; waits for it for a while only.
    pub(crate) async fn reader(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let permit = self.readers.clone().acquire_owned();
        match tokio::time::timeout(READER_WAIT, permit).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Problem::BUSY),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        // No invariant spans two fields, so a poisoned lock is as good as another.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> UnixTime {
        self.config.clock.now()
    }

    pub(crate) fn https(&self) -> bool {
        self.config.public_url.starts_with("https:")
    }

    pub(crate) fn redirect_uri(&self) -> String {
        format!("{}/callback", self.config.public_url)
    }

    /// The session of a request, or a new one with its `Set-Cookie`.
    pub(crate) fn session(&self, headers: &axum::http::HeaderMap) -> (SessionId, Option<String>) {
        let now = self.now();
        let mut inner = self.lock();
        let cookie = guard::cookie(headers, guard::cookie_name(self.https()));
        if let Some(id) = cookie.and_then(|c| inner.sessions.find(c, now)) {
            return (id, None);
        }
        let life = self.config.job_life;
        let (id, cookie) = inner.sessions.open(&*self.config.random, now, life);
        (id, Some(guard::set_cookie(&cookie, self.https(), life)))
    }

    /// The session of a request that must have one.
    pub(crate) fn known_session(
        &self,
        headers: &axum::http::HeaderMap,
    ) -> Result<SessionId, Problem> {
        let cookie = guard::cookie(headers, guard::cookie_name(self.https()));
        cookie
            .and_then(|c| self.lock().sessions.find(c, self.now()))
            .ok_or(Problem::NOT_FOUND)
    }

    /// The provider's description, asked anew now and then.
    pub(crate) async fn provider(&self) -> Result<Arc<Provider>, Problem> {
        let mut cached = self.provider.lock().await;
        let now = self.now();
        if let Some((provider, until)) = &*cached
            && *until > now
        {
            return Ok(provider.clone());
        }
        let provider = Arc::new(self.client.discover().await.map_err(|e| self.report(&e))?);
        *cached = Some((provider.clone(), now.plus(PROVIDER_LIFE)));
        Ok(provider)
    }

    /// Writes a failure to the log for the operator and turns it into what the signer sees.
    pub(crate) fn report<E>(&self, error: &E) -> Problem
    where
        E: std::error::Error,
        for<'a> &'a E: Into<Problem>,
    {
        let problem: Problem = error.into();
        tracing::warn!(code = problem.code, error = %error, "a step of a signature failed");
        problem
    }

    /// Marks the document as being worked on when `take` agrees with its state.
    pub(crate) fn take<T>(
        &self,
        owner: &SessionId,
        id: &str,
        take: impl FnOnce(&mut Document) -> Option<T>,
    ) -> Result<T, Problem> {
        let mut inner = self.lock();
        let document = inner.documents.get_mut(owner, id)?;
        let taken = take(document).ok_or(Problem::WRONG_STATE)?;
        document.state = State::Working;
        document.problem = None;
        Ok(taken)
    }

    /// Does the work and puts the document into the state it ends in. Goes on when the browser hangs up: an
    /// approved signature must not get lost with a connection.
    pub(crate) async fn proceed(
        self: &Arc<Self>,
        owner: SessionId,
        id: String,
        work: impl Future<Output = Result<State, Failed>> + Send + 'static,
    ) {
        let app = self.clone();
        // The task settles the document also if the work panics.
        let task = tokio::spawn(async move {
            let ended = tokio::spawn(work)
                .await
                .unwrap_or_else(|_| Err(Problem::INTERNAL.into()));
            let mut inner = app.lock();
            if let Ok(document) = inner.documents.get_mut(&owner, &id) {
                (document.state, document.problem) = match ended {
                    Ok(state) => (state, None),
                    Err(failed) => (failed.state, Some(failed.problem)),
                };
            }
        });
        let _ = task.await;
    }

    /// Removes what ran out, now and then, as long as the application is there.
    pub(crate) fn sweep_forever(self: &Arc<Self>) {
        let app = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(SWEEP_EVERY);
            loop {
                ticks.tick().await;
                let Some(app) = app.upgrade() else { return };
                app.sweep().await;
            }
        });
    }

    /// Removes what ran out.
    pub(crate) async fn sweep(&self) {
        let gone = self.lock().documents.sweep(self.now());
        for dir in gone {
            if let Err(error) = tokio::fs::remove_dir_all(&dir).await {
                tracing::warn!(dir = %dir.display(), %error, "an old document could not be removed");
            }
        }
    }
}
