//! The server signing application as a daemon: portal, OAuth 2 and CSC API for everybody, and a listener of its own for
//! officers who manage clients. It holds no key of a signer and is not on the path of the proof.

mod config;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use audit_log::{AuditLog, ClockWatch, Heard};
use audit_service::{
    AuditConfig, BringUpLog, ClockConfig, ClockReading, DeleteArchived, ExportLog, ForgetPerson,
    obey, store_trouble, trouble as audit_trouble,
};
use clap::Parser;
use config::{Config, signed_of};
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::{Clock as _, Random, sha256};
use http_fetch::HttpFetch;
use notify::webhook::{PATIENCE, Webhooks};
use service_kit::daemon::{self, CHECK, FilesRead};
use service_kit::http::HttpOptions;
use service_kit::{Answer, Client, Shutdown, Trouble, bind, serve, tls};
use signed_config::{Brought, Zone};
use ssa_service::{
    ForgetOrder, HttpCertifier, MIGRATIONS, Ports, SamPort, Ssa, WorkerPort, ceiling_of,
    forget_person,
};
use store_kit::{Store, StoreError, StoreUrl, transaction};

/// How often it is looked for notices that are due.
const NOTICES_EVERY: Duration = Duration::from_secs(5);

#[derive(Parser)]
#[command(version, about = "Natsuin's server signing application")]
struct Args {
    /// Configuration file; see config/natsuin-ssa.toml.
    #[arg(long, default_value = "/etc/natsuin/ssa.toml")]
    config: PathBuf,
    /// Answer with exactly one JSON object on standard output.
    #[arg(long, global = true)]
    json: bool,
    /// Something else instead of serving.
    #[command(subcommand)]
    command: Option<Command>,
}

/// What is done instead of serving.
#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Give every entry of the SSA's log its place, sign a checkpoint, and write the log to a directory for archive, check and
    /// restore; on PostgreSQL beside the running daemon.
    ExportLog(ExportLog),
    /// Print the public key of the SSA's log, as witnesses and auditors keep it (ssa.pub), from its name and seed; nothing is started.
    LogKey,
    /// After the restore of a backup that is older than the log: put the entries that the store lacks back, from an export that
    /// the witness knows to its end. To be done before the first start.
    BringUpLog(BringUpLog),
    /// Forget who somebody was, as two officers approved, once nothing has to be kept of them.
    ForgetPerson {
        /// Whom, and by whose leave.
        #[command(flatten)]
        command: ForgetPerson,
        /// The module's root key (JWK), as the SAM's machine has it.
        #[arg(long, value_name = "JWK")]
        root: PathBuf,
    },
    /// Delete from the SSA's live log what an archive has, as two officers approved.
    DeleteArchived {
        /// What, and by whose leave.
        #[command(flatten)]
        command: DeleteArchived,
        /// The module's root key (JWK), as the SAM's machine has it.
        #[arg(long, value_name = "JWK")]
        root: PathBuf,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    daemon::main(args.json, run(args))
}

async fn run(args: Args) -> Result<(), Trouble> {
    let mut files = FilesRead::default();
    let config: Config = files.load(&args.config)?;
    service_kit::harden(false)?;
    if let Some(Command::LogKey) = &args.command {
        Answer::of("log_key", config.audit.public_key()?).tell(args.json);
        return Ok(());
    }
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    let (identity, ca) = (
        config.tls.identity()?,
        files.text("tls.ca", &config.tls.ca)?,
    );
    let service = config.service(&mut files)?;
    let restorers = config.restorers(&mut files)?;
    let own = config.public(&mut files)?;
    let public = own.as_ref().map(tls::public_server).transpose()?;
    let asking = match (&config.certificates, &own) {
        (None, _) => None,
        (Some(asked), Some(own)) => Some((asked.listen, tls::asking_server(own)?)),
        (Some(_), None) => {
            let what = "certificates are asked for without [public]";
            let remedy = "name [public] chain and key: no proxy may end TLS before that listener";
            return Err(Trouble::new("bad-config", what, remedy));
        }
    };
    let zones = config.tls.caller()?;
    let outside = HttpOptions {
        ca_pem: match &config.outside_ca {
            Some(path) => Some(files.text("outside_ca", path)?),
            None => None,
        },
        public_only: !config.private_network,
        ..HttpOptions::default()
    };
    config.audit.read(&mut files)?;
    let digests = files.digests();
    let mut reading_clock = ClockReading::of(config.clock.as_ref())?;
    let webhooks = Webhooks::new(outside.ca_pem.clone(), PATIENCE);
    let webhooks = webhooks.map_err(|e| Trouble::new("bad-config", e.to_string(), CHECK))?;
    let worker = match &config.worker_url {
        Some(url) => {
            let options = HttpOptions {
                longest_answer: Some(ssa_service::WORKER_ANSWER),
                ..zones.clone()
            };
            let worker: Arc<dyn WorkerPort> = Arc::new(Client::new(url.clone(), &options)?);
            Some(worker)
        }
        None => None,
    };
    let url = StoreUrl::parse(&daemon::kept_apart(&config.store)?);
    let url = url.map_err(|e| store_trouble(&e))?;
    let opened = Store::open(&url, "ssa", MIGRATIONS, random.as_ref()).await;
    let store = opened.map_err(|e| store_trouble(&e))?;
    let chain = daemon::secret32(&config.chain_key)?;
    let node = match &args.command {
        None | Some(Command::BringUpLog(_)) => config.node.clone(),
        Some(_) => audit_log::beside(&config.node),
    };
    let audit = AuditLog::new("ssa", &node, chain, random.clone());
    audit.knows_makers(&restorers);
    if let Some(Command::BringUpLog(command)) = &args.command {
        let done = command.run("ssa", &config.audit, &audit, &store, clock.now());
        Answer::from(done.await?).tell(args.json);
        return Ok(());
    }
    let sequencer = config.audit.open(&audit, &store, &zones, clock.now());
    let sequencer = sequencer.await?;
    if let Some(Command::ExportLog(command)) = &args.command {
        let done = command.run(&audit, (&sequencer, &store), clock.now());
        done.await?.tell(args.json);
        return Ok(());
    }
    // Nothing is done by a configuration that isn't obeyed; its log is whole by here.
    let brought = Brought {
        files: signed_of(&digests),
        signatures: daemon::signatures(&args.config)?,
    };
    let of = Zone::Ssa.of(config.audit.name());
    let whose = (of.as_str(), config.node.as_str());
    let sam = Client::new(config.sam_url.clone(), &zones)?;
    let signed = !brought.signatures.is_empty();
    let demanded = config.demands_signatures(signed, ceiling_of(&sam)).await?;
    obey(&audit, &store, whose, demanded, &brought, clock.now()).await?;
    if let Some(Command::DeleteArchived { command, root }) = &args.command {
        let (root, log, now) = (daemon::text(root)?, (&sequencer, &store), clock.now());
        let (mut none, audit) = ((), &config.audit);
        let done = command.run("ssa", audit, &root, log, &mut none, now);
        Answer::from(done.await?).tell(args.json);
        return Ok(());
    }
    if let Some(Command::ForgetPerson { command, root }) = &args.command {
        let now = clock.now();
        let order = command.check(&config.audit, &daemon::text(root)?, now)?;
        let order = ForgetOrder {
            person: &order.person,
            tenant: order.tenant.as_ref(),
            by: order.by,
            before: order.before,
        };
        let (kept, asked) = (
            (&store, &audit),
            (&sam as &dyn SamPort, random.as_ref() as &dyn Random),
        );
        let done = forget_person(kept, asked, &service.tenant, order, now);
        Answer::from(ForgetPerson::told(done.await)?).tell(args.json);
        return Ok(());
    }
    let ports = Ports {
        sam: Arc::new(sam),
        certifier: Arc::new(HttpCertifier::new(config.certify_url.clone(), &zones)?),
        fetch: Arc::new(HttpFetch::new(
            service_kit::http::client(&outside)?,
            config.private_network,
        )),
        worker,
        webhooks: Arc::new(webhooks),
        clock: clock.clone(),
        random,
        audit: audit.clone(),
    };
    let ssa = Ssa::new(service, store.clone(), ports)?;
    let officers = match &config.officers {
        Some(officers) => {
            let (guards, viewers) = (officers.guards.clone(), officers.viewers.clone());
            let known = officers.known(&config.audit)?;
            let router = ssa.officers_router_seen_by(known, guards, viewers)?;
            Some((officers.listen, router))
        }
        None => None,
    };
    // Whoever changes who may manage clients, or any other setting, is in the log for it before anybody is served.
    let mut read = Vec::new();
    for (name, digest) in digests {
        read.extend_from_slice(&[name.as_bytes(), b"\n", &digest.0].concat());
    }
    let settings = [("configuration", sha256(&[&read]))];
    let now = clock.now();
    let started: Result<(), StoreError> = transaction!(store, "ssa-start", |tx| {
        let version = env!("CARGO_PKG_VERSION").into();
        audit.starts(tx, version, &settings, &restorers, now).await
    });
    started.map_err(|e| store_trouble(&e))?;
    // Acts and orders are the other zones'; here it is what the times of entries are worth.
    let clock_watch = ClockWatch::new(ClockConfig::rule(config.clock.as_ref()), clock.clone());
    let heed = async |heard: Heard| clock_watch.heed(heard, &audit, &store).await;
    reading_clock.heed(&heed).await?;

    let interrupted = daemon::interrupted();
    let (stop, shutdown) = Shutdown::new();
    let mut running = vec![serve(
        bind(config.listen).await?,
        ssa.router(),
        public,
        shutdown.clone(),
    )?];
    if let Some((listen, server)) = asking {
        let router = ssa.certificate_router();
        let served = serve(bind(listen).await?, router, Some(server), shutdown.clone());
        running.push(served?);
    }
    if let Some((listen, router)) = officers {
        let mutual = tls::mutual_server(&identity, &ca)?;
        let served = serve(bind(listen).await?, router, Some(mutual), shutdown.clone());
        running.push(served?);
    }
    let auditors = (&identity, ca.as_str());
    let reading = config
        .audit
        .serve(&audit, &store, clock.clone(), auditors, shutdown);
    running.extend(reading.await?);
    let (every, revocation_seconds) = (config.audit.every(), config.revocation_seconds);
    let notices = async {
        let mut ticks = tokio::time::interval(NOTICES_EVERY);
        loop {
            ticks.tick().await;
            if let Err(error) = ssa.send_notices().await {
                tracing::warn!(%error, "notices could not be sent; they are tried again");
            }
        }
    };
    let looking = async {
        if revocation_seconds == 0 {
            std::future::pending::<()>().await;
        }
        ssa.keep_watch(Duration::from_secs(revocation_seconds.max(60)))
            .await;
    };
    let ended: Result<(), Trouble> = tokio::select! {
        () = looking => Ok(()),
        () = notices => Ok(()),
        () = interrupted => Ok(()),
        trouble = reading_clock.keep(&heed) => Err(trouble),
        error = sequencer.keep(&store, clock.as_ref(), every) => Err(audit_trouble(&error)),
    };
    drop(stop);
    for one in running {
        one.stopped().await;
    }
    // After an error the log may be what can't be written.
    if ended.is_ok() {
        AuditConfig::close(&audit, &store, &sequencer, clock.now()).await?;
    }
    ended
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
