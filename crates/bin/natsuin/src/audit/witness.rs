//! `natsuin audit witness`: the auditor's witness as a program.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use audit_witness::{CosignKey, Keeper, Tsa, router};
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use serde::Deserialize;
use serde_json::json;
use service_kit::daemon::{self, TlsFiles};
use service_kit::http::HttpOptions;
use service_kit::{Shutdown, Trouble, bind, serve, tls};
use signing_job::HttpFetch;

use crate::output::{Exit, Failure, Out};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    listen: SocketAddr,
    name: String,
    key: PathBuf,
    data: PathBuf,
    logs: Vec<PathBuf>,
    tls: Option<TlsFiles>,
    time_stamps: Option<TimeStamps>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TimeStamps {
    url: String,
    trust: PathBuf,
    every_seconds: u64,
}

const CHECK: &str = "compare with config/natsuin-witness.toml";

/// Cosigns until interrupted.
///
/// # Errors
/// [`Failure`] when configuration, directory or socket can't be used.
pub async fn run(file: &Path, out: Out) -> Result<Exit, Failure> {
    let config: Config = daemon::load(file)?;
    if config.tls.is_none() && !config.listen.ip().is_loopback() {
        let what = "without [tls] the witness listens on this machine only";
        return Err(Trouble::new("bad-config", what, CHECK).into());
    }
    let trouble = |e: audit_witness::KeeperError| Trouble::new("witness", e.to_string(), CHECK);
    let key = CosignKey::from_seed(&config.name, &daemon::secret32(&config.key)?);
    let logs = config.logs.iter().map(|path| daemon::text(path));
    let logs: Vec<String> = logs
        .map(|t| t.map(|t| t.trim().to_owned()))
        .collect::<Result<_, _>>()?;
    let keeper = Keeper::open(&config.data, key.map_err(trouble)?, &logs).map_err(trouble)?;
    let keeper = Arc::new(keeper);
    let stamps = config.time_stamps.map(Stamps::open).transpose()?;
    let mutual = match &config.tls {
        Some(files) => Some(tls::mutual_server(&files.identity()?, &files.ca_pem()?)?),
        None => None,
    };
    let interrupted = daemon::interrupted();
    let (stop, shutdown) = Shutdown::new();
    let router = router(keeper.clone(), Arc::new(SystemClock));
    let running = serve(bind(config.listen).await?, router, mutual, shutdown)?;
    let (public, addr) = (keeper.public(), running.addr.to_string());
    out.say(&format!("{public}\n{addr}"));
    let folders: serde_json::Map<_, _> = keeper
        .folders()
        .map(|(origin, folder)| (origin.to_owned(), folder.into()))
        .collect();
    out.object(&json!({
        "schema": "natsuin.audit-witness/1", "ok": true, "key": public, "listen": addr, "logs": folders,
    }));
    tokio::select! {
        () = interrupted => {}
        never = anchor(&keeper, stamps) => match never {},
    }
    drop(stop);
    running.stopped().await;
    Ok(Exit::Good)
}

/// An authority of time, and how to reach it.
struct Stamps {
    tsa: Tsa,
    fetch: HttpFetch,
    every: Duration,
}

impl Stamps {
    fn open(config: TimeStamps) -> Result<Self, Trouble> {
        let trust = daemon::text(&config.trust)?;
        let parsed = pki::Certificate::parse_pem(&trust);
        let parsed = parsed.map_err(|e| {
            let what = format!("{}: {e}", config.trust.display());
            Trouble::new("config-file", what, CHECK)
        })?;
        let options = HttpOptions {
            ca_pem: Some(trust),
            ..HttpOptions::default()
        };
        Ok(Self {
            tsa: Tsa {
                url: config.url,
                anchors: parsed.iter().map(|c| c.der().to_vec()).collect(),
            },
            fetch: HttpFetch::new(service_kit::http::client(&options)?, true),
            every: Duration::from_secs(config.every_seconds.max(1)),
        })
    }
}

/// What can't be stamped now is tried again; cosigning goes on meanwhile.
async fn anchor(keeper: &Keeper, stamps: Option<Stamps>) -> std::convert::Infallible {
    let Some(stamps) = stamps else {
        return std::future::pending().await;
    };
    let mut ticks = tokio::time::interval(stamps.every);
    loop {
        ticks.tick().await;
        match keeper
            .anchor(&stamps.tsa, &stamps.fetch, &SystemRandom)
            .await
        {
            Ok(0) => {}
            Ok(logs) => tracing::info!(logs, "checkpoints were time-stamped"),
            Err(error) => tracing::error!(%error, "a checkpoint couldn't be time-stamped"),
        }
    }
}
