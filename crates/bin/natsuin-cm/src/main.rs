//! The cryptographic module as a daemon: one listener for the SAM, its own store and log, nothing else.

mod backend;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use audit_log::{LogKey, Sequencer};
use clap::Parser;
use cm_core::{MIGRATIONS, Module, ModuleConfig, Policy, RootSecret};
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use serde::Deserialize;
use service_kit::daemon::{self, TlsFiles};
use service_kit::{Shutdown, Trouble, bind, serve, tls};
use store_kit::{Store, StoreUrl};

#[derive(Parser)]
#[command(version, about = "Natsuin's cryptographic module")]
struct Args {
    /// Configuration file; see config/natsuin-cm.toml.
    #[arg(long, default_value = "/etc/natsuin/cm.toml")]
    config: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    listen: SocketAddr,
    node: String,
    sam: String,
    caller: String,
    store: String,
    root_secret: PathBuf,
    max_uses: u64,
    copies_kept_days: u32,
    #[serde(default = "five_years")]
    key_life_days: u32,
    #[serde(default)]
    experimental_algorithms: bool,
    algorithms: Option<PathBuf>,
    #[serde(default = "daily")]
    self_test_seconds: u64,
    backend: backend::BackendConfig,
    tls: TlsFiles,
    audit: AuditFiles,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuditFiles {
    log: String,
    key: PathBuf,
    witness: PathBuf,
    every_seconds: u64,
}

/// How often it is looked whether the device can erase now what it couldn't before.
const FINISH_EVERY: Duration = Duration::from_secs(60);

fn five_years() -> u32 {
    1826
}

fn daily() -> u64 {
    86_400
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let args = Args::parse();
    let done = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Trouble::new("runtime", e.to_string(), "check the machine's limits"))
        .and_then(|runtime| runtime.block_on(run(&args)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => report(&trouble),
    }
}

#[expect(clippy::print_stderr, reason = "the one place that prints")]
fn report(trouble: &Trouble) -> ExitCode {
    eprintln!(
        "error: {}  (code {})\n  do:  {}",
        trouble.what, trouble.code, trouble.remedy
    );
    ExitCode::from(4)
}

async fn run(args: &Args) -> Result<(), Trouble> {
    let config: Config = daemon::load(&args.config)?;
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    let check = "check the settings of this daemon";
    let policy = policy(config.algorithms.as_deref())?.experiments(config.experimental_algorithms);
    let backend = backend::open(&config.backend)?;
    let url =
        StoreUrl::parse(&config.store).map_err(|e| Trouble::new("store", e.to_string(), check))?;
    let opened = Store::open(&url, "cm", MIGRATIONS, random.as_ref()).await;
    let store = opened.map_err(|e| Trouble::new("store", e.to_string(), check))?;
    let root = RootSecret::new(daemon::secret32(&config.root_secret)?)
        .ok_or_else(|| Trouble::new("config-file", "the root secret can't be used", check))?;
    let module = ModuleConfig {
        copies_kept_days: config.copies_kept_days,
        key_life_days: config.key_life_days,
        ..ModuleConfig::new(config.sam, config.node, config.max_uses)
    };
    let started = Module::start_with(
        module,
        policy,
        backend,
        store.clone(),
        &root,
        clock.clone(),
        random,
    )
    .await;
    let module = Arc::new(started.map_err(|e| Trouble::new("cm-start", e.to_string(), check))?);
    let audit = |e: audit_log::AuditError| {
        Trouble::new(
            "audit",
            e.to_string(),
            "check the log before starting again",
        )
    };
    let key = LogKey::from_seed(&config.audit.log, &daemon::secret32(&config.audit.key)?)
        .map_err(audit)?;
    let witness = Some(config.audit.witness);
    let sequencer = Sequencer::open(module.audit().clone(), key, witness, &store)
        .await
        .map_err(audit)?;
    let mutual = tls::mutual_server(&config.tls.identity()?, &config.tls.ca_pem()?)?;
    let (stop, shutdown) = Shutdown::new();
    let running = serve(
        bind(config.listen).await?,
        cm_core::router(module.clone(), config.caller),
        Some(mutual),
        shutdown,
    )?;
    let every = Duration::from_secs(config.audit.every_seconds.max(1));
    let ended = tokio::select! {
        () = daemon::interrupted() => Ok(()),
        error = sequencer.keep(&store, clock.as_ref(), every) => Err(audit(error)),
        never = finish(&module) => match never {},
        never = test_again(&module, Duration::from_secs(config.self_test_seconds.max(60))) => match never {},
    };
    drop(stop);
    running.stopped().await;
    ended
}

/// The self-tests, again and again. What they find is the module's affair: in its error state it goes on refusing.
async fn test_again(module: &Module, every: Duration) -> std::convert::Infallible {
    let mut ticks = tokio::time::interval(every);
    // The first tick is at once, and the tests have just been run.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        match module.self_test().await {
            Ok(health) => tracing::info!(state = ?health.state, "self-tests were run"),
            Err(refusal) => tracing::error!(%refusal, "the module is out of service"),
        }
    }
}

/// What a device that was away has left undone.
async fn finish(module: &Module) -> std::convert::Infallible {
    let mut ticks = tokio::time::interval(FINISH_EVERY);
    loop {
        ticks.tick().await;
        if let Err(refusal) = module.finish_destructions().await {
            tracing::warn!(%refusal, "destructions couldn't be finished");
        }
    }
}

fn policy(path: Option<&Path>) -> Result<Policy, Trouble> {
    let policy = match path {
        Some(path) => Policy::parse(&daemon::text(path)?),
        None => Policy::built_in(),
    };
    policy.map_err(|e| {
        let check = "check the table of approved algorithms";
        Trouble::new("bad-config", e.to_string(), check)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_configuration_is_read() {
        let sample = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../../config/natsuin-cm.toml");
        let config: Config = daemon::load(&sample).unwrap();
        assert_eq!(config.listen.port(), 8501);
    }
}
