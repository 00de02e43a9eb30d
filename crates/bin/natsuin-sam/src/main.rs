//! The signature activation module as a daemon: one listener for the SSA, one for the SIC gateways, its own store and
//! log; the only caller of the CM.

mod attestation;
mod ceremony;
mod config;
mod reading;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use audit_log::Heard;
use audit_service::{
    AuditConfig, ClockReading, ForgetPerson, refused_settings, store_trouble,
    trouble as audit_trouble,
};
use clap::Parser;
use config::{Config, json, settings};
use core_types::Clock as _;
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use jose::Jwk;
use sam_core::office::ceremony::Site;
use sam_service::{
    LogSummary, MIGRATIONS, RemoteModule, Sam, SamConfig, SettingsSource, StartError,
    gateway_router, office_router, ssa_router,
};
use service_kit::daemon::{self, CHECK, FilesRead};
use service_kit::{Answer, Client, Shutdown, Trouble, bind, serve, tls};
use signed_config::Brought;
use store_kit::{Store, StoreUrl};

#[derive(Parser)]
#[command(version, about = "Natsuin's signature activation module")]
struct Args {
    /// Configuration file; see config/natsuin-sam.toml.
    #[arg(long, default_value = "/etc/natsuin/sam.toml")]
    config: PathBuf,
    /// Instead of serving: take note that the store was restored from a backup, so that every act from before is dead.
    #[arg(long)]
    restored: bool,
    /// Answer with exactly one JSON object on standard output.
    #[arg(long, global = true)]
    json: bool,
    /// Something else instead of serving.
    #[command(subcommand)]
    command: Option<ceremony::Command>,
}

/// How often notices to signers that are due are looked for.
const NOTICES_EVERY: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let args = Args::parse();
    daemon::main(args.json, run(args))
}

async fn run(args: Args) -> Result<(), Trouble> {
    let mut files = FilesRead::default();
    let config: Config = files.load(&args.config)?;
    service_kit::harden(config.lock_memory)?;
    if let Some(ceremony::Command::LogKey) = &args.command {
        Answer::of("log_key", config.audit.public_key()?).tell(args.json);
        return Ok(());
    }
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    let (identity, ca) = (
        config.tls.identity()?,
        files.text("tls.ca", &config.tls.ca)?,
    );
    let url = StoreUrl::parse(&daemon::kept_apart(&config.store)?);
    let url = url.map_err(|e| Trouble::new("store", e.to_string(), CHECK))?;
    let opened = Store::open(&url, "sam", MIGRATIONS, random.as_ref()).await;
    let store = opened.map_err(|e| store_trouble(&e))?;
    if args.restored {
        let marked = store.mark_restored().await;
        marked.map_err(|e| Trouble::new("store", e.to_string(), CHECK))?;
        tracing::info!("a new epoch has begun: every act from before is dead");
        return Ok(());
    }
    let options = config.tls.caller()?;
    let module = RemoteModule::new(Client::new(config.cm_url.clone(), &options)?);
    let root: Jwk = json(&mut files, "cm_root", &config.cm_root)?;
    let scrub_every = Duration::from_secs(config.scrub_seconds.max(60));
    let (listen_ssa, listen_gateway) = (config.listen_ssa, config.listen_gateway);
    let mut reading_clock = ClockReading::of(config.clock.as_ref())?;
    let listen_office = config.office.listen;
    let courier = config.courier_url.as_ref();
    let courier = courier.map(|url| Client::new(url.clone(), &options));
    let courier = courier.transpose()?;
    let (mut settings, audit) = settings(config, &mut files)?;
    settings.source = SettingsSource::Files(Brought {
        files: files.digests(),
        signatures: daemon::signatures(&args.config)?,
    });
    settings.beside = args
        .command
        .as_ref()
        .is_some_and(ceremony::Command::is_beside);
    if let Some(command) = args.command.as_ref().and_then(reading::of) {
        let (now, pinned) = (clock.now(), Some(root.clone()));
        let own = Sam::log_of(settings, module, store.clone(), pinned, clock, random).await;
        let own = own.map_err(|e| start_trouble(&e))?;
        let sequencer = audit.open(&own, &store, &options, now).await?;
        let done = command.run(&own, (&sequencer, &store), &root, now);
        done.await?.tell(args.json);
        return Ok(());
    }
    if let Some(ceremony::Command::DeleteArchived(command)) = &args.command {
        let (pinned, open) = (serde_json::to_string(&root), store.clone());
        let started = Sam::start(settings, module, open, Some(root), clock.clone(), random).await;
        let sam = started.map_err(|e| Trouble::new("sam-start", e.to_string(), CHECK))?;
        let now = clock.now();
        let opened = audit.open(sam.audit(), &store, &options, now).await;
        let sequencer = match opened {
            Ok(sequencer) => sequencer,
            Err(trouble) => {
                return AuditConfig::ends(sam.audit(), &store, None, Err(trouble), now).await;
            }
        };
        let (root, log) = (pinned.unwrap_or_default(), (&sequencer, &store));
        let mut noted = LogSummary::new(now);
        let done = command.run("sam", &audit, &root, log, &mut noted, now);
        let (done, now) = (done.await, clock.now());
        let ended = AuditConfig::ends(sam.audit(), &store, Some(&sequencer), done, now);
        Answer::from(ended.await?).tell(args.json);
        return Ok(());
    }
    if let Some(ceremony::Command::BringUpLog(command)) = &args.command {
        let now = clock.now();
        let own = Sam::log_of(settings, module, store.clone(), Some(root), clock, random).await;
        let own = own.map_err(|e| Trouble::new("sam-start", e.to_string(), CHECK))?;
        let done = command.run("sam", &audit, &own, &store, now);
        Answer::from(done.await?).tell(args.json);
        return Ok(());
    }
    if let Some(ceremony::Command::ForgetPerson(command)) = &args.command {
        let pinned = serde_json::to_string(&root).unwrap_or_default();
        let order = command.check(&audit, &pinned, clock.now())?;
        let (beside, now) = (store.clone(), clock.now());
        let started = Sam::start(settings, module, store, Some(root), clock, random).await;
        let sam = started.map_err(|e| Trouble::new("sam-start", e.to_string(), CHECK))?;
        let whose = match &order.tenant {
            Some(tenant) => sam.of(tenant),
            None => Some(sam.clone()),
        };
        let done = match whose {
            Some(whose) => {
                let done = whose.forget_person(&order.person, order.by, order.before);
                ForgetPerson::told(done.await)
            }
            None => Err(ForgetPerson::refused(&"there is no such tenant")),
        };
        let done = AuditConfig::ends(sam.audit(), &beside, None, done, now);
        Answer::from(done.await?).tell(args.json);
        return Ok(());
    }
    if let Some(command) = &args.command {
        let told = ceremonies(command, settings, module, store, root).await?;
        Answer::from(told).tell(args.json);
        return Ok(());
    }
    let started = Sam::start(
        settings,
        module,
        store.clone(),
        Some(root),
        clock.clone(),
        random,
    )
    .await;
    let sam = started.map_err(|e| start_trouble(&e))?;
    if let Some(courier) = courier {
        sam.send_codes_by(Arc::new(courier));
    }
    let heed = async |heard: Heard| {
        // In memory before anything is recorded.
        sam.heed_clock(heard.estimate).await?;
        sam.heed_sources(heard.sources).await
    };
    reading_clock.heed(&heed).await?;
    let sequencer = audit.open(sam.audit(), &store, &options, clock.now());
    let sequencer = sequencer.await?;
    let mutual = tls::mutual_server(&identity, &ca)?;
    let interrupted = daemon::interrupted();
    let (stop, shutdown) = Shutdown::new();
    let for_ssa = serve(
        bind(listen_ssa).await?,
        ssa_router(sam.clone()),
        Some(mutual.clone()),
        shutdown.clone(),
    )?;
    let for_sic = serve(
        bind(listen_gateway).await?,
        gateway_router(sam.clone()),
        Some(mutual.clone()),
        shutdown.clone(),
    )?;
    let for_office = serve(
        bind(listen_office).await?,
        office_router(sam.clone()),
        Some(mutual),
        shutdown.clone(),
    )?;
    let reading = audit.serve(
        sam.audit(),
        &store,
        clock.clone(),
        (&identity, &ca),
        shutdown,
    );
    let reading = reading.await?;
    let tidy = async {
        loop {
            tokio::time::sleep(Duration::from_secs(60)).await;
            match sam.maintain().await {
                Ok(()) => {}
                Err(error) if error.is_away() => {
                    tracing::warn!(%error, "the SAM could not tidy up; it tries again");
                }
                Err(error) => break Trouble::new("store", error.to_string(), CHECK),
            }
        }
    };
    let tell = async {
        loop {
            tokio::time::sleep(NOTICES_EVERY).await;
            match sam.send_notices().await {
                Ok(()) => {}
                Err(error) if error.is_away() => {
                    tracing::warn!(%error, "notices to signers could not be sent; they are tried again");
                }
                Err(error) => break Trouble::new("store", error.to_string(), CHECK),
            }
        }
    };
    let end = async {
        loop {
            tokio::time::sleep(NOTICES_EVERY).await;
            match sam.finish_ending().await {
                Ok(()) => {}
                Err(error) if error.is_away() => {
                    tracing::warn!(%error, "keys that officers ended could not be destroyed yet; that is tried again");
                }
                Err(error) => break Trouble::new("store", error.to_string(), CHECK),
            }
        }
    };
    // The first comparison was made before anybody was served.
    let compare = async {
        loop {
            tokio::time::sleep(scrub_every).await;
            match sam.scrub().await {
                Ok(found) => {
                    tracing::info!(rows = found.rows, "rows were compared with the audit log")
                }
                Err(error) if error.is_away() => {
                    tracing::warn!(%error, "rows could not be compared; that is tried again");
                }
                Err(error) => break audit_trouble(&error),
            }
        }
    };
    let ended = tokio::select! {
        trouble = compare => Err(trouble),
        trouble = reading_clock.keep(&heed) => Err(trouble),
        () = interrupted => Ok(()),
        error = sequencer.keep(&store, clock.as_ref(), audit.every()) => Err(audit_trouble(&error)),
        trouble = tidy => Err(trouble),
        trouble = tell => Err(trouble),
        trouble = end => Err(trouble),
    };
    drop(stop);
    for_ssa.stopped().await;
    for_sic.stopped().await;
    for_office.stopped().await;
    if let Some(reading) = reading {
        reading.stopped().await;
    }
    // After an error the log may be what can't be written.
    if ended.is_ok() {
        AuditConfig::close(sam.audit(), &store, &sequencer, clock.now()).await?;
    }
    ended
}

fn start_trouble(error: &StartError) -> Trouble {
    match error {
        error if error.passes() => Trouble::new(
            Trouble::AWAY,
            error.to_string(),
            "look at database, disk and module; the service manager tries again",
        ),
        StartError::Settings(refused) => refused_settings(*refused),
        StartError::Metadata(refused) => Trouble::new(
            refused.code(),
            refused.to_string(),
            "fetch the newest issue of the FIDO metadata from its maker and put it in the place of this file; if it was newer before, find out who wrote to it",
        ),
        _ => Trouble::new("sam-start", error.to_string(), CHECK),
    }
}

/// Begins the installation, or opens it again; answers what was handed out.
async fn ceremonies(
    command: &ceremony::Command,
    settings: SamConfig,
    module: RemoteModule,
    store: Store,
    root: Jwk,
) -> Result<String, Trouble> {
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    let now = clock.now();
    let origin = settings.office.relying_party.origin.clone();
    let refused = |e: sam_service::FoundError| {
        let remedy = "begin on an empty store, once; open again only what has too few officers";
        Trouble::new("office", e.to_string(), remedy)
    };
    let told = match command {
        // Done before.
        ceremony::Command::ExportLog(_)
        | ceremony::Command::ExportEvidence(_)
        | ceremony::Command::DeleteArchived(_)
        | ceremony::Command::ForgetPerson(_)
        | ceremony::Command::BringUpLog(_)
        | ceremony::Command::LogKey => String::new(),
        ceremony::Command::Init {
            officers,
            need,
            of,
            out,
        } => {
            let site = Site {
                sam: &settings.sam,
                tenant: &settings.tenant,
                root: &root,
            };
            let plans = ceremony::plans(officers)?;
            let (begun, shares) = ceremony::begin(site, &plans, (*need, *of), Vec::new(), now)?;
            // On disk before it counts: what can't be handed out must not be the only way in.
            let told = ceremony::hand_out(out, &origin, &begun.invitations, &shares)?;
            let pinned = Some(root.clone());
            let found = Sam::found(settings, module, store, pinned, clock, random, &begun.jws);
            found.await.map_err(refused)?;
            told
        }
        ceremony::Command::Reopen {
            officers,
            shares,
            out,
        } => {
            let beside = store.clone();
            let started = Sam::start(settings, module, store, Some(root), clock, random).await;
            let sam = started.map_err(|e| Trouble::new("sam-start", e.to_string(), CHECK))?;
            let done = async {
                let record = sam.genesis().await.map_err(refused)?;
                let plans = ceremony::plans(officers)?;
                let (jws, invitations) = ceremony::reopen(&record, &plans, shares, now)?;
                let told = ceremony::hand_out(out, &origin, &invitations, &[])?;
                sam.reopen(&jws).await.map_err(refused)?;
                Ok::<_, Trouble>(told)
            };
            AuditConfig::ends(sam.audit(), &beside, None, done.await, now).await?
        }
    };
    Ok(told)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Args;

    #[test]
    fn no_two_arguments_or_commands_have_one_name() {
        Args::command().debug_assert();
    }
}
