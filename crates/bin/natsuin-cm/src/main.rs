//! The cryptographic module as a daemon: one listener for the SAM, its own store and log, nothing else.

mod admin;
mod backend;
mod ceremony;
mod passphrase;
mod protect;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use audit_log::Sequencer;
use audit_service::{AuditConfig, ForgetPerson, trouble};
use clap::Parser;
use cm_core::policy::PolicyError;
use cm_core::{
    ImportCa, Ledger, MIGRATIONS, Module, ModuleConfig, Policy, RootSecret, StartError, not_started,
};
use core_types::Clock as _;
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use serde::Deserialize;
use service_kit::daemon::{self, CHECK, TlsFiles};
use service_kit::{Shutdown, Trouble, bind, serve, tls};
use store_kit::{Store, StoreUrl};

#[derive(Parser)]
#[command(version, about = "Natsuin's cryptographic module")]
struct Args {
    /// Configuration file; see config/natsuin-cm.toml.
    #[arg(long, default_value = "/etc/natsuin/cm.toml")]
    config: PathBuf,
    /// File or pipe whose first line is the passphrase that seals the root secret, where one does.
    #[arg(long, value_name = "FILE", global = true)]
    passphrase_file: Option<PathBuf>,
    /// What to do; without it, to serve.
    #[command(subcommand)]
    command: Option<admin::Command>,
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
    /// From the command line.
    #[serde(skip)]
    passphrase_file: Option<PathBuf>,
    max_uses: u64,
    copies_kept_days: u32,
    #[serde(default = "five_years")]
    key_life_days: u32,
    #[serde(default)]
    experimental_algorithms: bool,
    #[serde(default)]
    import_cas: Vec<ImportCaFile>,
    #[serde(default)]
    officers: Vec<PathBuf>,
    administrator: Option<String>,
    #[serde(default = "five_minutes")]
    key_cache_seconds: i64,
    #[serde(default)]
    lock_memory: bool,
    binary_sha256: Option<String>,
    #[serde(default)]
    keys_ahead: std::collections::BTreeMap<core_types::KeyAlg, usize>,
    algorithms: Option<PathBuf>,
    #[serde(default = "daily")]
    self_test_seconds: u64,
    backend: backend::BackendConfig,
    tls: TlsFiles,
    audit: AuditConfig,
}

/// A CA from which keys are taken.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImportCaFile {
    key: PathBuf,
    generation: Option<String>,
}

/// How often it is looked whether the device can erase now what it couldn't before.
const FINISH_EVERY: Duration = Duration::from_secs(60);

fn five_minutes() -> i64 {
    300
}

fn five_years() -> u32 {
    1826
}

fn daily() -> u64 {
    86_400
}

fn main() -> ExitCode {
    daemon::main(run(Args::parse()))
}

const ALTERED: &str = "read the error above; if the log or a row was altered keep the store as it is, and restore a backup";

async fn run(args: Args) -> Result<(), Trouble> {
    let mut config: Config = daemon::load(&args.config)?;
    config.passphrase_file.clone_from(&args.passphrase_file);
    match &args.command {
        None => {
            let own = protect::Own::look(&args.config, config.binary_sha256.as_deref())?;
            serve_until_interrupted(config, own).await
        }
        Some(command) => {
            say(&administer(config, command).await?);
            Ok(())
        }
    }
}

#[expect(
    clippy::print_stdout,
    reason = "the answer of an administrator's command"
)]
fn say(text: &str) {
    println!("{text}");
}

async fn administer(config: Config, command: &admin::Command) -> Result<String, Trouble> {
    match command {
        admin::Command::Ceremony { out, need, of } => {
            admin::ceremony(&config.root_secret, config.passphrase(), out, *need, *of)
        }
        admin::Command::CheckBackup { from } => admin::check(from, &root_secret(&config)?),
        admin::Command::SealRoot => {
            passphrase::seal(&config.root_secret, config.passphrase(), &SystemRandom)
        }
        admin::Command::Restore {
            from,
            shares,
            log,
            log_key,
            witness,
            archives,
            approvals,
        } => {
            let backend = backend::open(&config.backend).map_err(|not| not.trouble)?;
            let restore = admin::Restore {
                from,
                shares,
                log,
                log_key,
                witness,
                archives,
                approvals,
                root_secret: &config.root_secret,
                passphrase: config.passphrase(),
                node: &config.node,
                copies_kept_days: config.copies_kept_days,
                backend: backend.as_ref(),
            };
            admin::restore(&open_store(&config.store).await?, restore).await
        }
        admin::Command::RestoreTarget => {
            admin::restore_target(&open_store(&config.store).await?).await
        }
        admin::Command::ApproveRestore {
            key,
            root,
            backup,
            target,
            exp,
        } => admin::approve_restore(&config.sam, key, root, (backup, target), *exp),
        admin::Command::Backup { out } => {
            let (module, _) = start(&config).await?;
            admin::backup(&module, out).await
        }
        admin::Command::SignAlgorithms { key, table } => admin::sign_algorithms(key, table),
        admin::Command::OfficerKey { out, public } => admin::officer_key(out, public),
        admin::Command::Approve {
            key,
            root,
            to,
            serial,
            exp,
            error,
        } => admin::approve(&config.sam, key, root, *to, (*serial, error.clone()), *exp),
        admin::Command::Switch {
            url,
            chain,
            key,
            approvals,
        } => {
            let client = admin::client(url, identity(chain, key)?, config.tls.ca_pem()?)?;
            admin::switch(&client, admin::read_approvals(approvals)?).await
        }
        admin::Command::SelfTest { url, chain, key } => {
            let client = admin::client(url, identity(chain, key)?, config.tls.ca_pem()?)?;
            admin::self_test(&client).await
        }
        admin::Command::ApproveKey {
            key,
            root,
            exp,
            what,
        } => ceremony::approve(&config.sam, key, root, *exp, what.clone()),
        admin::Command::HoldCeremony {
            url,
            chain,
            key,
            approvals,
            request,
        } => {
            let client = admin::client(url, identity(chain, key)?, config.tls.ca_pem()?)?;
            let approvals = admin::read_approvals(approvals)?;
            ceremony::hold(&client, approvals, request.as_ref()).await
        }
        admin::Command::ExportLog { out } => {
            let (module, store) = start(&config).await?;
            let sequencer = sequencer(&module, &store, &config).await?;
            let done = async {
                sequencer.sequence(&store, SystemClock.now()).await?;
                audit_log::export(&store, out, &sequencer.public()).await
            };
            let entries = done.await.map_err(|e| trouble(&e))?;
            Ok(format!("{entries} entries in {}", out.display()))
        }
        admin::Command::DeleteArchived(command) => {
            let (module, store) = start(&config).await?;
            let sequencer = sequencer(&module, &store, &config).await?;
            let (root, log) = (json(module.root()), (&sequencer, &store));
            let (mut noted, now) = (Ledger::default(), SystemClock.now());
            let done = command.run("cm", &config.audit, &root, log, &mut noted, now);
            done.await
        }
        admin::Command::ForgetPerson(command) => {
            let (module, store) = start(&config).await?;
            let now = SystemClock.now();
            let order = command.check(&config.audit, &json(module.root()), now)?;
            let audit = module.audit();
            let done = audit.forget_person(&store, &order.person, order.by, order.before, now);
            ForgetPerson::told(done.await)
        }
        admin::Command::ChangeWrapping => {
            let (module, _) = start(&config).await?;
            admin::change_wrapping(&module).await
        }
        admin::Command::Scrub => {
            let (module, _) = start(&config).await?;
            admin::scrub(&module).await
        }
    }
}

fn json(key: &jose::Jwk) -> String {
    serde_json::to_string(key).unwrap_or_default()
}

fn identity(chain: &Path, key: &Path) -> Result<service_kit::Identity, Trouble> {
    Ok(service_kit::Identity {
        chain_pem: daemon::text(chain)?,
        key_pem: core_types::SecretBytes::from(daemon::text(key)?),
    })
}

impl Config {
    fn passphrase(&self) -> Option<&Path> {
        self.passphrase_file.as_deref()
    }
}

fn root_secret(config: &Config) -> Result<RootSecret, Trouble> {
    RootSecret::new(passphrase::read(&config.root_secret, config.passphrase())?)
        .ok_or_else(|| Trouble::new("config-file", "the root secret can't be used", CHECK))
}

async fn open_store(url: &str) -> Result<Store, Trouble> {
    let trouble = |e: store_kit::StoreError| {
        let code = match e.is_away() {
            true => Trouble::AWAY,
            false => "store",
        };
        Trouble::new(code, e.to_string(), CHECK)
    };
    let url = StoreUrl::parse(url).map_err(trouble)?;
    let opened = Store::open(&url, "cm", MIGRATIONS, &SystemRandom).await;
    opened.map_err(trouble)
}

async fn start(config: &Config) -> Result<(Arc<Module>, Store), Trouble> {
    let officers = keys(&config.officers)?;
    let policy = policy(config.algorithms.as_deref(), &officers)?;
    let policy = policy.experiments(config.experimental_algorithms);
    let store = open_store(&config.store).await?;
    let root = root_secret(config)?;
    let mut backend = match backend::open(&config.backend) {
        Ok(backend) => backend,
        Err(not) => {
            let (clock, random) = (SystemClock, Arc::new(SystemRandom));
            let node = config.node.as_str();
            let told = not_started(node, &store, &root, &clock, random, not.what).await;
            told.map_err(|e| Trouble::new("cm-start", e.to_string(), CHECK))?;
            return Err(not.trouble);
        }
    };
    if !config.keys_ahead.is_empty() {
        let want = config
            .keys_ahead
            .iter()
            .map(|(alg, n)| (*alg, *n))
            .collect();
        let ahead = cm_core::ahead::Ahead::new(backend, want);
        backend = Arc::new(ahead.map_err(|e| {
            let remedy = "name kinds of keys the back end makes, and none for keys in a token";
            Trouble::new("bad-config", e.to_string(), remedy)
        })?);
    }
    let module = ModuleConfig {
        copies_kept_days: config.copies_kept_days,
        key_life_days: config.key_life_days,
        import_cas: import_cas(&config.import_cas)?,
        officers,
        administrator: config.administrator.clone(),
        key_cache_seconds: config.key_cache_seconds,
        ..ModuleConfig::new(&config.sam, &config.node, config.max_uses)
    };
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    let started =
        Module::start_with(module, policy, backend, store.clone(), &root, clock, random).await;
    let module = started.map_err(|e| match e {
        StartError::Policy(error) => bad_table(&error),
        error => Trouble::new("cm-start", error.to_string(), CHECK),
    })?;
    Ok((Arc::new(module), store))
}

async fn serve_until_interrupted(config: Config, own: protect::Own) -> Result<(), Trouble> {
    service_kit::harden(config.lock_memory)?;
    let (module, store) = start(&config).await?;
    let recorded = module.settings(own.settings()).await;
    recorded.map_err(|e| Trouble::new("audit", e.to_string(), CHECK))?;
    let clock = SystemClock;
    let every = config.audit.every();
    let sequencer = sequencer(&module, &store, &config).await?;
    // Before anybody is served: what was set back while nobody looked is found here or never.
    let compared = module.scrub().await;
    let compared = compared.map_err(|e| Trouble::new("cm-scrub", e.to_string(), ALTERED))?;
    tracing::info!(
        keys = compared.keys,
        "rows were compared with the audit log"
    );
    let (identity, ca) = (config.tls.identity()?, config.tls.ca_pem()?);
    let mutual = tls::mutual_server(&identity, &ca)?;
    let (stop, shutdown) = Shutdown::new();
    let running = serve(
        bind(config.listen).await?,
        cm_core::router(module.clone(), config.caller),
        Some(mutual),
        shutdown.clone(),
    )?;
    let log = module.audit();
    let reading = config
        .audit
        .serve(log, &store, Arc::new(clock), (&identity, &ca), shutdown);
    let reading = reading.await?;
    let ended = tokio::select! {
        () = daemon::interrupted() => Ok(()),
        error = sequencer.keep(&store, &clock, every) => Err(trouble(&error)),
        never = finish(&module) => match never {},
        never = compare(&module, Duration::from_secs(config.self_test_seconds.max(60))) => match never {},
        never = test_again(&module, &own, Duration::from_secs(config.self_test_seconds.max(60))) => match never {},
    };
    drop(stop);
    running.stopped().await;
    if let Some(reading) = reading {
        reading.stopped().await;
    }
    // After an error the log may be what can't be written.
    if ended.is_ok() {
        AuditConfig::close(module.audit(), &store, &sequencer, clock.now()).await?;
    }
    ended
}

/// The module's log, with those who watch it.
async fn sequencer(module: &Module, store: &Store, config: &Config) -> Result<Sequencer, Trouble> {
    let options = config.tls.caller()?;
    let now = SystemClock.now();
    config
        .audit
        .open(module.audit(), store, &options, now)
        .await
}

/// The self-tests, again and again. What they find is the module's affair: in its error state it goes on refusing.
async fn test_again(
    module: &Module,
    own: &protect::Own,
    every: Duration,
) -> std::convert::Infallible {
    let mut ticks = tokio::time::interval(every);
    // The first tick is at once, and the tests have just been run.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        if !own.unchanged() {
            tracing::error!("the program's file or its configuration was changed while it runs");
            module
                .latch_for_good("program or configuration changed")
                .await;
        }
        match module.self_test().await {
            Ok(health) => tracing::info!(state = ?health.state, "self-tests were run"),
            Err(refusal) => tracing::error!(%refusal, "the module is out of service"),
        }
    }
}

/// Every row with the audit log, as often as the self-tests.
async fn compare(module: &Module, every: Duration) -> std::convert::Infallible {
    let mut ticks = tokio::time::interval(every);
    // The first tick is at once, and the rows have just been compared.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        match module.scrub().await {
            Ok(done) => tracing::info!(keys = done.keys, "rows were compared with the audit log"),
            Err(refusal) => {
                tracing::error!(%refusal, "rows couldn't be compared with the audit log")
            }
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
        if let Err(refusal) = module.forget_orders().await {
            tracing::warn!(%refusal, "names of old orders couldn't be forgotten");
        }
    }
}

/// Public keys, a JWK in each file.
fn keys(paths: &[PathBuf]) -> Result<Vec<jose::Jwk>, Trouble> {
    paths.iter().map(|path| key(path)).collect()
}

fn key(path: &Path) -> Result<jose::Jwk, Trouble> {
    serde_json::from_str(&daemon::text(path)?).map_err(|e| {
        let what = format!("{}: {e}", path.display());
        Trouble::new("bad-config", what, "give a public key as a JWK (P-256)")
    })
}

fn import_cas(files: &[ImportCaFile]) -> Result<Vec<ImportCa>, Trouble> {
    let read = |file: &ImportCaFile| {
        Ok(ImportCa {
            key: key(&file.key)?,
            generation: file.generation.clone(),
        })
    };
    files.iter().map(read).collect()
}

/// A table of the operator's own counts only with an officer's signature, where there are officers.
fn policy(path: Option<&Path>, officers: &[jose::Jwk]) -> Result<Policy, Trouble> {
    let policy = match path {
        Some(path) if officers.is_empty() => Policy::parse(&daemon::text(path)?),
        Some(path) => Policy::signed(daemon::text(path)?.trim(), officers),
        None => Policy::built_in(),
    };
    policy.map_err(|e| bad_table(&e))
}

fn bad_table(error: &PolicyError) -> Trouble {
    let remedy = match error {
        PolicyError::Older { .. } | PolicyError::Other(_) => {
            "give the last table; to go back, sign the old content with the next version (sign-algorithms)"
        }
        PolicyError::Loosens => "let a second officer sign it too (sign-algorithms), a line each",
        PolicyError::Table(_) | PolicyError::Unsigned => {
            "check the table of approved algorithms, and let an officer sign it (sign-algorithms)"
        }
    };
    Trouble::new("bad-config", error.to_string(), remedy)
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
