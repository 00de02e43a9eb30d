//! `natsuin audit alert`: reads the zones' logs as an auditor's program, and tells what somebody has to know of, by mail,
//! signed webhook, and metrics.

mod act;
mod read;
mod tell;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use audit_alert::{Alert, Counts, Limits, Notice, Quiet, Silences, Watch};
use audit_alert::{ending, entry_unread, foreign, set_back};
use axum::Router;
use axum::http::header;
use axum::routing::get;
use core_types::clock::SystemClock;
use core_types::{Clock as _, UnixTime};
use serde::{Deserialize, Serialize};
use serde_json::json;
use service_kit::daemon::{self, TlsFiles};
use service_kit::http::HttpOptions;
use service_kit::{Client, Shutdown, Trouble, bind, serve};

use act::{ActTable, Actor, Deeds};

use crate::outgoing::{MailTable, WebhookTable};
use crate::output::{Exit, Failure, Out};
use read::{Log, Unread, read};
use tell::Teller;

const CHECK: &str = "compare with config/natsuin-alert.toml";
/// Seconds of a day.
const DAY: i64 = 24 * 3600;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    service: String,
    data: PathBuf,
    every_seconds: u64,
    quiet_seconds: i64,
    logs: Vec<LogTable>,
    tls: TlsFiles,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    certificates: Vec<PathBuf>,
    metrics: Option<SocketAddr>,
    act: Option<ActTable>,
    mail: Option<MailTable>,
    #[serde(default, rename = "webhook")]
    webhooks: Vec<WebhookTable>,
}

/// A log, and whose it is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogTable {
    /// Its zone: entries of another one aren't believed.
    zone: String,
    /// The zone's listener for auditors.
    url: String,
}

/// What outlives a restart: where reading goes on, what was told, and what couldn't be.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct State {
    /// The last place read, by log.
    places: BTreeMap<String, u64>,
    /// How far older builds read: time, number and node, by log. Reading goes on from that time.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    after: BTreeMap<String, String>,
    from: Option<i64>,
    quiet: Quiet,
    /// Logs that can't be read.
    silences: Silences,
    /// By way.
    waiting: BTreeMap<String, Vec<Notice>>,
    deeds: Deeds,
}

/// Watches until interrupted.
///
/// # Errors
/// [`Failure`] when configuration, directory or socket can't be used.
pub async fn run(file: &Path, out: Out) -> Result<Exit, Failure> {
    let config: Config = daemon::load(file)?;
    if config.metrics.is_some_and(|addr| !addr.ip().is_loopback()) {
        let what = "metrics are served on this machine only";
        return Err(Trouble::new("bad-config", what, CHECK).into());
    }
    let options = HttpOptions {
        ca_pem: Some(config.tls.ca_pem()?),
        identity: Some(config.tls.identity()?),
        timeout: Some(read::PATIENCE),
        ..HttpOptions::default()
    };
    let logs = config.logs.iter().map(|log| {
        let url = log.url.trim_end_matches('/').to_owned();
        Ok(Log {
            zone: log.zone.clone(),
            client: Client::new(url.clone(), &options)?,
            url,
        })
    });
    let logs: Vec<_> = logs.collect::<Result<_, Trouble>>()?;
    let tellers = tell::ways(config.mail.as_ref(), &config.webhooks)?;
    let actor = config.act.as_ref().map(Actor::new).transpose()?;
    let counts = Arc::new(Mutex::new(Counts::default()));
    // Once for all rounds: a signal that comes during one is heeded after it.
    let mut interrupted = std::pin::pin!(daemon::interrupted());
    let (stop, shutdown) = Shutdown::new();
    let mut listening = None;
    if let Some(addr) = config.metrics {
        let running = serve(bind(addr).await?, metrics(counts.clone()), None, shutdown)?;
        listening = Some(running);
    }
    let addr = listening.as_ref().map(|running| running.addr.to_string());
    out.say(&addr.clone().unwrap_or_else(|| "watching".to_owned()));
    out.object(&json!({"schema": "natsuin.audit-alert/1", "ok": true, "metrics": addr}));
    let mut watcher = Watcher {
        state: load(&config.data)?,
        watch: Watch::new(config.limits),
        config,
        logs,
        tellers,
        actor,
        counts,
    };
    let mut ticks = tokio::time::interval(Duration::from_secs(watcher.config.every_seconds.max(1)));
    loop {
        tokio::select! {
            () = &mut interrupted => break,
            _ = ticks.tick() => watcher.round(SystemClock.now()).await,
        }
    }
    drop(stop);
    if let Some(running) = listening {
        running.stopped().await;
    }
    Ok(Exit::Good)
}

struct Watcher {
    config: Config,
    logs: Vec<Log>,
    tellers: Vec<Teller>,
    actor: Option<Actor>,
    counts: Arc<Mutex<Counts>>,
    watch: Watch,
    state: State,
}

impl Watcher {
    /// Reads what is new, judges it, tells it, and notes how far that came.
    async fn round(&mut self, now: UnixTime) {
        // What happened before the first round is the auditor's to look for.
        let from = *self.state.from.get_or_insert(now.0);
        let mut alerts = Vec::new();
        for log in &self.logs {
            let after = self.state.places.get(&log.url).copied();
            let before = self.state.after.get(&log.url);
            let before = before.and_then(|place| place.split('/').next()?.parse().ok());
            let read = match read(log, after, before.unwrap_or(from)).await {
                Ok(read) => read,
                Err(unread) => {
                    *self.counts().unread.entry(log.url.clone()).or_default() += 1;
                    let why = match unread {
                        Unread::Other(why) => why,
                        Unread::Foreign => {
                            alerts.push(foreign(&log.zone, now));
                            "it has an entry of another zone".to_owned()
                        }
                        Unread::SetBack => {
                            // Its places have other entries now: what may be new of a day is read again.
                            self.state.places.remove(&log.url);
                            let again = format!("{}/0/", now.0 - DAY);
                            self.state.after.insert(log.url.clone(), again);
                            alerts.push(set_back(&log.zone, now));
                            "it is shorter than it was".to_owned()
                        }
                    };
                    tracing::error!(url = log.url, why, "a log can't be read");
                    let seconds = self.config.limits.unread_seconds;
                    let silences = &mut self.state.silences;
                    alerts.extend(silences.unread(&log.zone, &log.url, seconds, now));
                    continue;
                }
            };
            alerts.extend(self.state.silences.read(&log.zone, &log.url, now));
            if let Some(first) = read.unread.first() {
                let count = read.unread.len();
                tracing::error!(url = log.url, first, count, "entries can't be read");
            }
            let unread = read.unread.iter();
            alerts.extend(unread.map(|seq| entry_unread(&log.zone, *seq, now)));
            for entry in &read.entries {
                self.counts().entry(&entry.zone, &entry.outcome, entry.at);
                alerts.extend(self.watch.see(entry));
            }
            if let Some(after) = read.after {
                self.state.places.insert(log.url.clone(), after);
                self.state.after.remove(&log.url);
            }
            if read.whole {
                alerts.extend(self.watch.settle(&log.zone));
            }
        }
        for path in &self.config.certificates {
            let name = path.display().to_string();
            let Some(ends) = end_of(path) else {
                tracing::error!(path = name, "a certificate can't be read");
                continue;
            };
            self.counts().certificates.insert(name.clone(), ends.0);
            alerts.extend(ending(&name, ends, self.config.limits, now));
        }
        if let Some(actor) = &self.actor {
            let further = actor.choose(&mut self.state.deeds, &alerts, now);
            alerts.extend(further);
        }
        self.keep(alerts, now);
        if let Some(actor) = &self.actor {
            // Noted before it is asked for: a crash in between costs a stop that is asked for again, the bound holds, and what
            // was read is still told.
            self.note();
            let further = actor.act(&mut self.state.deeds, now).await;
            self.keep(further, now);
        }
        let due = self.state.quiet.due(self.config.quiet_seconds, now);
        self.wait(&due);
        // Noted before it is told: a message may come twice after a crash, and none gets lost.
        self.note();
        for teller in &self.tellers {
            let name = teller.name().to_owned();
            let waiting = self.state.waiting.remove(&name).unwrap_or_default();
            let left = teller.tell(&self.config.service, waiting, now).await;
            if !left.is_empty() {
                *self.counts().undelivered.entry(name.clone()).or_default() += 1;
                self.state.waiting.insert(name, left);
            }
        }
        self.note();
    }

    /// Notes how far that came. A disk that is full silences nobody: what can't be noted is remembered until it can, so that it is
    /// told once, and once more only after a restart meanwhile.
    fn note(&self) {
        if let Err(trouble) = save(&self.config.data, &self.state) {
            let what = trouble.what;
            tracing::error!(what, "what was read and told can't be noted; it goes on");
        }
    }

    /// Counts alerts, and lets those wait that are told now.
    fn keep(&mut self, alerts: Vec<Alert>, now: UnixTime) {
        let mut notices = Vec::new();
        for alert in alerts {
            self.counts().alert(&alert.rule);
            tracing::warn!(rule = alert.rule, zone = alert.zone, "an alert");
            let quiet = self.config.quiet_seconds;
            notices.extend(self.state.quiet.pass(alert, quiet, now));
        }
        self.wait(&notices);
    }

    /// Lets notices wait for every way by which they are told.
    fn wait(&mut self, notices: &[Notice]) {
        for teller in &self.tellers {
            let waiting = self.state.waiting.entry(teller.name().to_owned());
            waiting.or_default().extend(notices.iter().cloned());
        }
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When the first certificate of a file ends.
fn end_of(path: &Path) -> Option<UnixTime> {
    let pem = std::fs::read_to_string(path).ok()?;
    let chain = pki::Certificate::parse_pem(&pem).ok()?;
    Some(chain.first()?.not_after())
}

fn metrics(counts: Arc<Mutex<Counts>>) -> Router {
    let text = move || {
        let text = counts.lock().unwrap_or_else(PoisonError::into_inner).text();
        let kind = "text/plain; version=0.0.4; charset=utf-8";
        async move { ([(header::CONTENT_TYPE, kind)], text) }
    };
    Router::new().route("/metrics", get(text))
}

fn load(dir: &Path) -> Result<State, Trouble> {
    let path = dir.join("state.json");
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| unusable(&path, &e.to_string())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(State::default()),
        Err(e) => Err(unusable(&path, &e.to_string())),
    }
}

fn save(dir: &Path, state: &State) -> Result<(), Trouble> {
    crate::stack::write_json(&dir.join("state.json"), state)
}

fn unusable(path: &Path, why: &str) -> Trouble {
    let what = format!("{} can't be used: {why}", path.display());
    Trouble::new(
        "alert-data",
        what,
        "check `data`, or begin with an empty directory",
    )
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use axum::routing::post;
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn what_cant_be_noted_is_told_all_the_same_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("secret"), [5; 32]).unwrap();
        let (told, mut tellings) = mpsc::unbounded_channel::<String>();
        let take = move |body: String| {
            told.send(body).unwrap();
            async { StatusCode::NO_CONTENT }
        };
        let (_stop, shutdown) = Shutdown::new();
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let receiver = Router::new().route("/", post(take));
        let receiver = serve(listener, receiver, None, shutdown).unwrap();
        let config = format!(
            "service = \"test\"\ndata = \"{}\"\nevery_seconds = 1\nquiet_seconds = 3600\nlogs = []\n\
             [tls]\nchain = \"chain\"\nkey = \"key\"\nca = \"ca\"\n\
             [[webhook]]\nurl = \"http://{}/\"\nsecret = \"{}\"\nprivate = true\n",
            at("data").display(),
            receiver.addr,
            at("secret").display(),
        );
        std::fs::write(at("alert.toml"), config).unwrap();
        let config: Config = daemon::load(&at("alert.toml")).unwrap();
        let mut watcher = Watcher {
            state: State::default(),
            watch: Watch::new(config.limits),
            logs: Vec::new(),
            tellers: tell::ways(None, &config.webhooks).unwrap(),
            actor: None,
            counts: Arc::default(),
            config,
        };
        let now = UnixTime(1_800_000_000);
        watcher.keep(vec![set_back("sam", now)], now);
        // There is no such directory.
        watcher.round(now).await;
        assert!(tellings.try_recv().unwrap().contains("log-set-back"));
        watcher.round(now.plus(1)).await;
        assert!(tellings.try_recv().is_err(), "once");
        assert!(load(&at("data")).unwrap().places.is_empty());
        std::fs::create_dir(at("data")).unwrap();
        watcher.round(now.plus(2)).await;
        assert!(tellings.try_recv().is_err(), "once");
        assert_eq!(load(&at("data")).unwrap().from, Some(now.0));
    }
}
