//! `natsuin sca-worker`: signs the documents of `signatures/signDoc` in a process of its own, started by the operator in a sandbox.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use core_types::random::SystemRandom;
use csc_client::{ClientCredentials, HttpOptions};
use sca_worker::{TimeStamper, Worker};
use serde::Deserialize;
use serde_json::json;
use service_kit::daemon::{self, TlsFiles};
use service_kit::{Shutdown, Trouble, bind, serve, tls};
use signing_job::HttpFetch;

use crate::output::{Exit, Failure, Out};

const CHECK: &str = "compare with config/natsuin-sca-worker.toml";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    listen: SocketAddr,
    callers: Vec<String>,
    service: String,
    service_ca: PathBuf,
    tls: TlsFiles,
    #[serde(default)]
    time_stamp: Vec<TimeStamp>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TimeStamp {
    url: String,
    trust: PathBuf,
}

/// Serves until interrupted.
///
/// # Errors
/// [`Failure`] when configuration or socket can't be used.
pub async fn run(file: &Path, out: Out) -> Result<Exit, Failure> {
    let config: Config = daemon::load(file)?;
    let roots = daemon::text(&config.service_ca)?;
    let mut stampers = Vec::new();
    for stamp in &config.time_stamp {
        stampers.push(stamper(&stamp.url, &daemon::text(&stamp.trust)?)?);
    }
    let worker = worker(&config.service, config.callers, stampers, &roots)?;
    let mutual = tls::mutual_server(&config.tls.identity()?, &config.tls.ca_pem()?)?;
    let interrupted = daemon::interrupted();
    let (stop, shutdown) = Shutdown::new();
    let listener = bind(config.listen).await?;
    let running = serve(listener, sca_worker::router(worker), Some(mutual), shutdown)?;
    let addr = running.addr.to_string();
    out.say(&addr);
    out.object(&json!({ "schema": "natsuin.sca-worker/1", "ok": true, "listen": addr }));
    interrupted.await;
    drop(stop);
    running.stopped().await;
    Ok(Exit::Good)
}

/// An authority, and the certificates (PEM) that its own has to lead to.
pub(crate) fn stamper(url: &str, trust: &str) -> Result<TimeStamper, Trouble> {
    let parsed = pki::Certificate::parse_pem(trust);
    let parsed = parsed.map_err(|e| Trouble::new("config-file", e.to_string(), CHECK))?;
    Ok(TimeStamper {
        url: url.to_owned(),
        anchors: parsed.iter().map(|c| c.der().to_vec()).collect(),
    })
}

/// A worker of the service at this address (`https://…/csc/v2`), reached with these CAs.
pub(crate) fn worker(
    service: &str,
    callers: Vec<String>,
    time_stampers: Vec<TimeStamper>,
    roots: &str,
) -> Result<Worker, Trouble> {
    let bad = |e: csc_client::ClientError| Trouble::new("bad-config", e.to_string(), CHECK);
    let options = HttpOptions {
        extra_roots_pem: Some(roots.as_bytes().to_vec()),
        proxies: false,
        ..HttpOptions::default()
    };
    // It authenticates with the token that it is given, and as nobody else.
    let nobody = ClientCredentials {
        client_id: String::new(),
        client_secret: None,
    };
    let service = csc_client::Client::new(service, nobody, &options).map_err(bad)?;
    let http = options.build().map_err(bad)?;
    Ok(Worker {
        service,
        callers,
        time_stampers,
        fetch: Arc::new(HttpFetch::new(http, true)),
        random: Arc::new(SystemRandom),
    })
}
