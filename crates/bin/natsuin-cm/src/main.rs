//! The cryptographic module as a daemon: one listener for the SAM, its own store and log, nothing else.

mod admin;
mod backend;
mod ceremony;
mod config;
mod passphrase;
mod protect;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use audit_log::{Heard, Sequencer};
use audit_service::{AuditConfig, ClockConfig, ClockReading, store_trouble, trouble};
use backend::Missing;
use clap::Parser;
use cm_api::Refusal;
use cm_core::backend::Fault;
use cm_core::{MIGRATIONS, Module, ModuleConfig, StartError, log_of, not_started};
use config::{Config, bad_officers, bad_table};
use core_types::Clock as _;
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use service_kit::daemon::{self, CHECK};
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
    /// Answer with exactly one JSON object on standard output.
    #[arg(long, global = true)]
    json: bool,
    /// What to do; without it, to serve.
    #[command(subcommand)]
    command: Option<admin::Command>,
}

/// How often it is looked whether the device can erase now what it couldn't before.
const FINISH_EVERY: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let args = Args::parse();
    daemon::main(args.json, run(args))
}

const ALTERED: &str = "read the error above; if the log or a row was altered keep the store as it is, and restore a backup";

async fn run(args: Args) -> Result<(), Trouble> {
    match &args.command {
        None => {
            let mut config = Config::load(&args.config)?;
            config.passphrase_file.clone_from(&args.passphrase_file);
            let (libraries, expected) = (config.backend.libraries(), &config.binary_sha256);
            let own = protect::Own::look(&args.config, libraries, expected.as_deref())?;
            serve_until_interrupted(config, own).await
        }
        Some(command) => {
            let at = admin::At {
                config: &args.config,
                passphrase_file: args.passphrase_file.as_deref(),
            };
            admin::run(at, command).await?.tell(args.json);
            Ok(())
        }
    }
}

async fn open_store(url: &str) -> Result<Store, Trouble> {
    let url = StoreUrl::parse(&daemon::kept_apart(url)?);
    let url = url.map_err(|e| store_trouble(&e))?;
    let opened = Store::open(&url, "cm", MIGRATIONS, &SystemRandom).await;
    opened.map_err(|e| store_trouble(&e))
}

async fn start(config: &Config) -> Result<(Module, Store), Trouble> {
    let officers = config.officers()?;
    let policy = config.policy(&officers)?;
    // All that is judged has been read by then.
    let (import_cas, officer_changes) = (config.import_cas()?, config.officer_changes()?);
    config.witnesses()?;
    let store = open_store(&config.store).await?;
    let root = config.root()?;
    // Before it has any effect: a library that it names is given the PIN, and officers are remembered.
    let log = log_of(&config.node, &store, &root, Arc::new(SystemRandom)).await;
    let missing = match log.map_err(start_trouble)? {
        Some(log) => {
            config.judge(&log, &store, SystemClock.now()).await?;
            Missing::Waits
        }
        None => {
            config.judge_first(SystemClock.now())?;
            Missing::Stops
        }
    };
    let opened = backend::open(&config.backend, missing).and_then(|backend| {
        // Its level is the back end's to say.
        config.audit.anchored(backend.ceiling())?;
        ClockConfig::demanded(config.clock.as_ref(), backend.ceiling())?;
        backend::ahead(backend, &config.keys_ahead)
    });
    let backend = match opened {
        Ok(backend) => backend,
        Err(not) => {
            let (clock, random) = (SystemClock, Arc::new(SystemRandom));
            let node = config.node.as_str();
            let told = not_started(node, &store, &root, &clock, random, not.why()).await;
            told.map_err(|e| Trouble::new("cm-start", e.to_string(), CHECK))?;
            return Err(not.trouble);
        }
    };
    let module = ModuleConfig {
        copies_kept_days: config.copies_kept_days,
        key_life_days: config.key_life_days,
        import_cas,
        officers,
        officer_changes,
        administrator: config.administrator.clone(),
        witness_declaration: config.audit.witness_declaration().map(str::to_owned),
        key_cache_seconds: config.key_cache_seconds,
        clock: ClockConfig::rule(config.clock.as_ref()),
        ..ModuleConfig::new(&config.sam, &config.node, config.max_uses)
    };
    config::cache_fits(&module)?;
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    let started =
        Module::start_with(module, policy, backend, store.clone(), &root, clock, random).await;
    Ok((started.map_err(start_trouble)?, store))
}

/// What is to be done about a module that doesn't start.
fn start_trouble(error: StartError) -> Trouble {
    match error {
        StartError::Policy(error) => bad_table(&error),
        StartError::Officers(error) => bad_officers(error),
        StartError::Store(error) => store_trouble(&error),
        StartError::SelfTest(ref fault) => {
            let remedy = match fault {
                Fault::Broken(_) => {
                    "look at the device; once its tests pass the module starts in its error state, which officers end"
                }
                _ => "look at the device; where it is only away the service manager tries again",
            };
            Trouble::new(backend::code(fault, "cm-start"), error.to_string(), remedy)
        }
        error => Trouble::new("cm-start", error.to_string(), CHECK),
    }
}

async fn serve_until_interrupted(config: Config, own: protect::Own) -> Result<(), Trouble> {
    service_kit::harden(config.lock_memory)?;
    let mut reading_clock = ClockReading::of(config.clock.as_ref())?;
    let (module, store) = start(&config).await?;
    let runs_as = own.runs_as();
    let module = Arc::new(module.watching(Arc::new(own)));
    // An earlier process may have found one, in which this one begins.
    let before = module.health().error;
    let found = || module.health().error != before;
    let recorded = module.runs_as(runs_as).await;
    recorded.map_err(|e| not_begun(&e, found(), "audit", CHECK))?;
    let clock = SystemClock;
    let every = config.audit.every();
    let sequencer = sequencer(&module, &store, &config).await?;
    let heed = async |heard: Heard| module.heed_clock(heard).await;
    reading_clock.heed(&heed).await?;
    // Before anybody is served: what was set back while nobody looked is found here or never.
    let compared = module.scrub().await;
    let compared = compared.map_err(|e| not_begun(&e, found(), "cm-scrub", ALTERED))?;
    tracing::info!(
        keys = compared.keys,
        "rows were compared with the audit log"
    );
    let (identity, ca) = (config.tls.identity()?, config.tls.ca_pem()?);
    let mutual = tls::mutual_server(&identity, &ca)?;
    let interrupted = daemon::interrupted();
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
        () = interrupted => Ok(()),
        error = sequencer.keep(&store, &clock, every) => Err(trouble(&error)),
        stuck = finish(&module) => Err(stuck),
        trouble = reading_clock.keep(&heed) => Err(trouble),
        never = compare(&module, Duration::from_secs(config.self_test_seconds.max(60))) => match never {},
        never = test_again(&module, Duration::from_secs(config.self_test_seconds.max(60))) => match never {},
    };
    drop(stop);
    running.stopped().await;
    if let Some(reading) = reading {
        reading.stopped().await;
    }
    // After an error the log may be what can't be written.
    if ended.is_ok() {
        module.tell_pins().await;
        AuditConfig::close(module.audit(), &store, &sequencer, clock.now()).await?;
    }
    ended
}

/// Why the module doesn't serve yet. Unless an error was found just now, only its store failed, which passes.
fn not_begun(refusal: &Refusal, found: bool, code: &'static str, remedy: &'static str) -> Trouble {
    match refusal {
        Refusal::NotOperational if !found => Trouble::new(
            Trouble::AWAY,
            "the module's store can't be read or written now",
            "make room, or bring the database back; the service manager tries again",
        ),
        _ => Trouble::new(code, refusal.to_string(), remedy),
    }
}

/// The module's log, with those who watch it.
async fn sequencer(module: &Module, store: &Store, config: &Config) -> Result<Sequencer, Trouble> {
    let options = config.tls.caller()?;
    let now = SystemClock.now();
    let opened = config.audit.open(module.audit(), store, &options, now);
    let sequencer = opened.await?;
    // Once more, by a log that is whole; and before anything is done.
    config.obey(module.audit(), store, now).await?;
    Ok(sequencer)
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

/// What a device that was away has left undone, and what is done every minute; ends when only a new process helps.
async fn finish(module: &Module) -> Trouble {
    let mut ticks = tokio::time::interval(FINISH_EVERY);
    loop {
        ticks.tick().await;
        if module.tidy().await {
            let what =
                "calls hang in the PKCS#11 library, which can't be started again beside them";
            return Trouble::new(
                Trouble::AWAY,
                what,
                "the service manager starts a new process",
            );
        }
        if let Err(refusal) = module.finish_destructions().await {
            tracing::warn!(%refusal, "destructions couldn't be finished");
        }
        if let Err(refusal) = module.forget_orders().await {
            tracing::warn!(%refusal, "names of old orders couldn't be forgotten");
        }
    }
}

#[cfg(test)]
mod tests {
    use cm_api::ModuleState;
    use cm_api::rpc::SwitchRequest;
    use cm_api::switch::Switch;
    use jose::SigningKey;

    use super::*;

    // shows: III-3-12-protect-security-functions, III-3-13-detect-software, III-3-13-secure-state, T-KEY-MALFUNCTION
    #[tokio::test]
    async fn a_configuration_that_changes_under_the_daemon_stops_it_for_good() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "a = 1\n").unwrap();
        let own = protect::Own::look(file.path(), Vec::new(), None).unwrap();
        let officers = [0; 2].map(|_| SigningKey::generate().unwrap().0);
        let config = ModuleConfig {
            officers: officers.iter().map(|o| o.public().clone()).collect(),
            ..ModuleConfig::new("sam.test", "cm-1", 10)
        };
        let secret = core_types::SecretBytes::new(vec![7; 32]);
        let root = cm_core::RootSecret::new(secret).unwrap();
        let test_store = store_kit::testing::sqlite(MIGRATIONS).await;
        let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
        let backend = Arc::new(cm_soft::SoftBackend);
        let store = test_store.store.clone();
        let module = Module::start(config, backend, store, &root, clock, random);
        let module = module.await.unwrap().watching(Arc::new(own));
        // Whoever has the tests run, the clock or an administrator.
        let tested = module.self_test().await.unwrap();
        assert_eq!(tested.state, ModuleState::Operational);
        std::fs::write(file.path(), "a = 2\n").unwrap();
        let tested = module.self_test().await.unwrap();
        assert_eq!(tested.state, ModuleState::Error);
        // Neither the old file nor two officers excuse it.
        std::fs::write(file.path(), "a = 1\n").unwrap();
        module.self_test().await.unwrap();
        let wanted = Switch {
            sam: "sam.test".into(),
            root: module.root().kid(),
            enabled: true,
            recover: true,
            error: module.health().error,
            reason: "changed".into(),
            serial: 1,
            exp: SystemClock.now().plus(600),
        };
        let approvals = officers.iter().map(|o| wanted.approve(o).unwrap());
        let approvals = approvals.collect();
        let refused = module.switch(&SwitchRequest { approvals }).await;
        assert_eq!(refused.err(), Some(Refusal::NotNow));
        assert_eq!(module.health().state, ModuleState::Error);
    }

    // shows: III-3-13-secure-state
    #[tokio::test]
    async fn a_store_that_is_away_at_the_start_is_tried_again_and_what_was_altered_is_not() {
        let code = |refusal, found| not_begun(&refusal, found, "cm-scrub", ALTERED).code;
        assert_eq!(code(Refusal::NoSuchKey, false), "cm-scrub");
        // One that begins well, and one that begins in the error of an earlier process.
        for kept in [false, true] {
            let secret = core_types::SecretBytes::new(vec![7; 32]);
            let root = cm_core::RootSecret::new(secret).unwrap();
            let test_store = store_kit::testing::sqlite(MIGRATIONS).await;
            let store = &test_store.store;
            let start = async || {
                let config = ModuleConfig::new("sam.test", "cm-1", 10);
                let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
                let (backend, store) = (Arc::new(cm_soft::SoftBackend), store.clone());
                Module::start(config, backend, store, &root, clock, random)
                    .await
                    .unwrap()
            };
            drop(start().await);
            if kept {
                let why = cm_core::NotStarted {
                    what: "cm-start-self-test",
                    broken: true,
                };
                let random = Arc::new(SystemRandom);
                let told = not_started("cm-1", store, &root, &SystemClock, random, why);
                told.await.unwrap();
            }
            let module = start().await;
            let before = module.health().error;
            assert_eq!(before.is_some(), kept);
            let run = async |statement: &'static str| {
                let done: Result<u64, store_kit::StoreError> =
                    store_kit::transaction!(store, "attack", |tx| {
                        tx.execute(store_kit::sql(statement)).await
                    });
                done.unwrap();
            };
            run("ALTER TABLE cm_key RENAME TO cm_away").await;
            let refused = module.scrub().await.unwrap_err();
            let away = code(refused, module.health().error != before);
            assert_eq!(away, Trouble::AWAY);
            run("ALTER TABLE cm_away RENAME TO cm_key").await;
            module.scrub().await.unwrap();
            run("DELETE FROM audit_entry WHERE n = 2").await;
            let refused = module.scrub().await.unwrap_err();
            assert_eq!(code(refused, module.health().error != before), "cm-scrub");
        }
    }

    #[test]
    fn no_two_arguments_or_commands_have_one_name() {
        <Args as clap::CommandFactory>::command().debug_assert();
    }
}
