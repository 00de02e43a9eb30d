//! The signature activation module as a daemon: one listener for the SSA, one for the SIC gateways, its own store and
//! log; the only caller of the CM.

mod attestation;
mod ceremony;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use attestation::AttestationConfig;
use audit_service::{AuditConfig, trouble as audit_trouble};
use clap::Parser;
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::{ClientId, Clock as _, KeyId, TenantId, UnixTime};
use jose::Jwk;
use sam_core::Policy;
use sam_core::clock::{ClockEstimate, ClockRule};
use sam_core::office::Limits;
use sam_core::office::ceremony::Site;
use sam_core::passkey::RelyingParty;
use sam_core::provider::{Provider, Providers};
use sam_core::settings::Brought;
use sam_service::{
    CounterSigner, KnownClient, MIGRATIONS, OfficeConfig, RemoteModule, Sam, SamConfig,
    SettingsSource, gateway_router, office_router, ssa_router,
};
use serde::Deserialize;
use service_kit::daemon::{self, FilesRead, TlsFiles};
use service_kit::http::HttpOptions;
use service_kit::{Client, Shutdown, Trouble, bind, serve, tls};
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
    /// Something else instead of serving.
    #[command(subcommand)]
    command: Option<ceremony::Command>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    listen_ssa: SocketAddr,
    listen_gateway: SocketAddr,
    node: String,
    sam: String,
    tenant: TenantId,
    sic_origin: String,
    return_prefixes: Vec<String>,
    services: Vec<String>,
    gateways: Vec<String>,
    #[serde(default)]
    guards: Vec<String>,
    cm_url: String,
    cm_root: PathBuf,
    registration_authorities: PathBuf,
    issuers: PathBuf,
    store: String,
    policy: Policy,
    #[serde(default)]
    attestation: AttestationConfig,
    #[serde(default)]
    providers: BTreeMap<String, ProviderEntry>,
    #[serde(default)]
    clients: BTreeMap<ClientId, ClientEntry>,
    clock: Option<ClockConfig>,
    office: OfficeEntry,
    counter_sign: Option<CounterSignEntry>,
    courier_url: Option<String>,
    #[serde(default = "hourly")]
    scrub_seconds: u64,
    #[serde(default)]
    lock_memory: bool,
    tls: TlsFiles,
    audit: AuditConfig,
}

/// Where officers act.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfficeEntry {
    listen: SocketAddr,
    origin: String,
    gateways: Vec<String>,
    idle_seconds: i64,
    session_seconds: i64,
}

impl OfficeEntry {
    fn load(self) -> Result<OfficeConfig, Trouble> {
        let limits = Limits::new(self.idle_seconds, self.session_seconds).map_err(|_| {
            Trouble::new(
                "bad-config",
                "sessions of officers have no limit, or a limit that is too long",
                "set office.idle_seconds to 60…3600 and office.session_seconds to at most 43200",
            )
        })?;
        Ok(OfficeConfig {
            relying_party: relying_party(self.origin),
            gateways: self.gateways,
            limits,
        })
    }
}

/// With what the provider counter-signs each signature.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CounterSignEntry {
    key: KeyId,
    certificate: PathBuf,
}

impl CounterSignEntry {
    fn load(self, files: &mut FilesRead) -> Result<CounterSigner, Trouble> {
        let pem = files.text("counter_sign.certificate", &self.certificate)?;
        CounterSigner::new(self.key, &pem).map_err(|e| {
            let path = self.certificate.display();
            Trouble::new("config-file", format!("{path}: {e}"), CHECK)
        })
    }
}

/// A client that the SAM knows: its name alone, or with the keys that sign its requests.
#[derive(Deserialize)]
#[serde(untagged)]
enum ClientEntry {
    Name(String),
    Signing { name: String, keys: PathBuf },
}

impl ClientEntry {
    fn load(self, id: &ClientId, files: &mut FilesRead) -> Result<KnownClient, Trouble> {
        Ok(match self {
            Self::Name(name) => KnownClient {
                name,
                keys: Vec::new(),
            },
            Self::Signing { name, keys: path } => {
                let name_of = format!("clients.{id}.keys");
                let listed: Vec<serde_json::Value> = json(files, &name_of, &path)?;
                let keys = listed.iter().map(jose::ForeignKey::parse);
                let keys = keys.collect::<Result<_, _>>().map_err(|e| {
                    Trouble::new("config-file", format!("{}: {e}", path.display()), CHECK)
                })?;
                KnownClient { name, keys }
            }
        })
    }
}

/// An identity provider whose word counts.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProviderEntry {
    name: String,
    issuer: String,
    client: String,
    authorize: String,
    keys: PathBuf,
    #[serde(default)]
    acr: Vec<String>,
    #[serde(default)]
    amr: Vec<String>,
    multi_factor: bool,
}

impl ProviderEntry {
    fn load(self, id: &str, files: &mut FilesRead) -> Result<Provider, Trouble> {
        #[derive(Deserialize)]
        struct KeySet {
            keys: Vec<serde_json::Value>,
        }
        let wrong = |what: String| Trouble::new("config-file", what, CHECK);
        let set: KeySet = json(files, &format!("providers.{id}.keys"), &self.keys)?;
        let keys = set.keys.iter().map(jose::ForeignKey::parse_of_provider);
        let keys: Vec<_> = keys
            .collect::<Result<_, _>>()
            .map_err(|e| wrong(format!("{}: {e}", self.keys.display())))?;
        let secure = |text: &str| text.starts_with("https://");
        if keys.is_empty() || !secure(&self.issuer) || !secure(&self.authorize) {
            let what = "needs keys, and addresses that begin with https://";
            return Err(wrong(format!("providers.{id} {what}")));
        }
        if self.multi_factor && self.acr.is_empty() && self.amr.is_empty() {
            let what = "is declared multi-factor, but asks for no acr and no amr";
            return Err(wrong(format!("providers.{id} {what}")));
        }
        Ok(Provider {
            name: self.name,
            issuer: self.issuer,
            client: self.client,
            authorize: self.authorize,
            keys,
            acr: self.acr,
            amr: self.amr,
            multi_factor: self.multi_factor,
        })
    }
}

/// How the machine's clock is kept.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockConfig {
    bound_ms: u32,
    estimate: PathBuf,
}

/// How often the estimate of the clock's error is read.
const CLOCK_EVERY: Duration = Duration::from_secs(10);

fn hourly() -> u64 {
    3600
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        // The library prints what it could not print, and panics: a lost reader of the log must cost no request.
        .log_internal_errors(false)
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

const CHECK: &str = "check the settings of this daemon";

/// Signatures over a configuration lie beside it, one a line.
fn signatures(config: &std::path::Path) -> Result<Vec<String>, Trouble> {
    let beside = config.with_added_extension("sig");
    match beside.exists() {
        true => Ok(daemon::text(&beside)?.lines().map(str::to_owned).collect()),
        false => Ok(Vec::new()),
    }
}

async fn run(args: &Args) -> Result<(), Trouble> {
    let mut files = FilesRead::default();
    let config: Config = files.load(&args.config)?;
    service_kit::harden(config.lock_memory)?;
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    let (identity, ca) = (
        config.tls.identity()?,
        files.text("tls.ca", &config.tls.ca)?,
    );
    let url =
        StoreUrl::parse(&config.store).map_err(|e| Trouble::new("store", e.to_string(), CHECK))?;
    let opened = Store::open(&url, "sam", MIGRATIONS, random.as_ref()).await;
    let store = opened.map_err(|e| Trouble::new("store", e.to_string(), CHECK))?;
    if args.restored {
        let marked = store.mark_restored().await;
        marked.map_err(|e| Trouble::new("store", e.to_string(), CHECK))?;
        tracing::info!("a new epoch has begun: every act from before is dead");
        return Ok(());
    }
    let options = HttpOptions {
        ca_pem: Some(ca.clone()),
        identity: Some(identity.clone()),
        ..HttpOptions::default()
    };
    let module = RemoteModule::new(Client::new(config.cm_url.clone(), &options)?);
    let root: Jwk = json(&mut files, "cm_root", &config.cm_root)?;
    let scrub_every = Duration::from_secs(config.scrub_seconds.max(60));
    let (listen_ssa, listen_gateway) = (config.listen_ssa, config.listen_gateway);
    let estimate = config.clock.as_ref().map(|c| c.estimate.clone());
    let listen_office = config.office.listen;
    let courier = config.courier_url.as_ref();
    let courier = courier.map(|url| Client::new(url.clone(), &options));
    let courier = courier.transpose()?;
    let (mut settings, audit) = settings(config, &mut files, clock.now())?;
    settings.source = SettingsSource::Files(Brought {
        files: files.digests(),
        signatures: signatures(&args.config)?,
    });
    if let Some(command) = &args.command {
        return ceremonies(command, settings, module, store, root).await;
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
    let sam = started.map_err(|e| Trouble::new("sam-start", e.to_string(), CHECK))?;
    if let Some(courier) = courier {
        sam.send_codes_by(Arc::new(courier));
    }
    if let Some(estimate) = &estimate {
        heed(&sam, estimate).await?;
    }
    let sequencer = audit.open(sam.audit(), &store, &options, clock.now());
    let sequencer = sequencer.await?;
    let mutual = tls::mutual_server(&identity, &ca)?;
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
    let watch = async {
        let Some(estimate) = &estimate else {
            return std::future::pending().await;
        };
        loop {
            tokio::time::sleep(CLOCK_EVERY).await;
            if let Err(trouble) = heed(&sam, estimate).await {
                break trouble;
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
        trouble = watch => Err(trouble),
        () = daemon::interrupted() => Ok(()),
        error = sequencer.keep(&store, clock.as_ref(), audit.every()) => Err(audit_trouble(&error)),
        trouble = tidy => Err(trouble),
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
        let stopped = sam.audit().stops(&store, clock.now()).await;
        stopped.map_err(|e| Trouble::new("audit", e.to_string(), CHECK))?;
        let last = sequencer.sequence(&store, clock.now()).await;
        last.map_err(|e| audit_trouble(&e))?;
    }
    ended
}

/// Tells the SAM what the file says of the clock's error; a file that says nothing is no estimate.
async fn heed(sam: &Sam<RemoteModule>, file: &std::path::Path) -> Result<(), Trouble> {
    let text = daemon::text(file).unwrap_or_default();
    match sam.heed_clock(ClockEstimate::parse(&text)).await {
        Ok(()) => Ok(()),
        // What was found counts; only its entry waits for the database.
        Err(error) if error.is_away() => {
            tracing::warn!(%error, "what the clock says could not be recorded; that is tried again");
            Ok(())
        }
        Err(error) => Err(Trouble::new("store", error.to_string(), CHECK)),
    }
}

/// Begins the installation, or opens it again.
async fn ceremonies(
    command: &ceremony::Command,
    settings: SamConfig,
    module: RemoteModule,
    store: Store,
    root: Jwk,
) -> Result<(), Trouble> {
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    let now = clock.now();
    let origin = settings.office.relying_party.origin.clone();
    let refused = |e: sam_service::FoundError| {
        let remedy = "begin on an empty store, once; open again only what has too few officers";
        Trouble::new("office", e.to_string(), remedy)
    };
    let told = match command {
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
            let started = Sam::start(settings, module, store, Some(root), clock, random).await;
            let sam = started.map_err(|e| Trouble::new("sam-start", e.to_string(), CHECK))?;
            let record = sam.genesis().await.map_err(refused)?;
            let plans = ceremony::plans(officers)?;
            let (jws, invitations) = ceremony::reopen(&record, &plans, shares, now)?;
            let told = ceremony::hand_out(out, &origin, &invitations, &[])?;
            sam.reopen(&jws).await.map_err(refused)?;
            told
        }
    };
    say(&told);
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the one place that answers")]
fn say(text: &str) {
    println!("{text}");
}

fn relying_party(origin: String) -> RelyingParty {
    let host = origin.split("://").nth(1).unwrap_or_default();
    let rp_id = host.split(':').next().unwrap_or_default().to_owned();
    RelyingParty { origin, rp_id }
}

/// The settings, and what they were read from.
fn settings(
    config: Config,
    files: &mut FilesRead,
    now: UnixTime,
) -> Result<(SamConfig, AuditConfig), Trouble> {
    let issuers =
        pki::Certificate::parse_pem(&files.text("issuers", &config.issuers)?).map_err(|e| {
            Trouble::new(
                "config-file",
                format!("{}: {e}", config.issuers.display()),
                CHECK,
            )
        })?;
    let clients = config
        .clients
        .into_iter()
        .map(|(id, entry)| {
            let known = entry.load(&id, files)?;
            Ok((id, known))
        })
        .collect::<Result<_, Trouble>>()?;
    let providers = config
        .providers
        .into_iter()
        .map(|(id, entry)| entry.load(&id, files))
        .collect::<Result<_, Trouble>>()?;
    let sam = SamConfig {
        sam: config.sam,
        node: config.node,
        tenant: config.tenant,
        relying_party: relying_party(config.sic_origin),
        return_prefixes: config.return_prefixes,
        registration_authorities: json(
            files,
            "registration_authorities",
            &config.registration_authorities,
        )?,
        issuers: issuers.iter().map(|c| c.der().to_vec()).collect(),
        policy: config.policy,
        attesters: config.attestation.load(files, now)?,
        providers: Providers(providers),
        clients,
        services: config.services,
        gateways: config.gateways,
        guards: config.guards,
        clock: config.clock.map_or(ClockRule::Unsynchronised, |c| {
            ClockRule::BoundMs(c.bound_ms)
        }),
        counter_sign: config.counter_sign.map(|c| c.load(files)).transpose()?,
        office: config.office.load()?,
        source: SettingsSource::Program,
    };
    Ok((sam, config.audit))
}

fn json<T: serde::de::DeserializeOwned>(
    files: &mut FilesRead,
    name: &str,
    path: &std::path::Path,
) -> Result<T, Trouble> {
    serde_json::from_str(&files.text(name, path)?)
        .map_err(|e| Trouble::new("config-file", format!("{}: {e}", path.display()), CHECK))
}

#[cfg(test)]
mod tests {
    use dev_ca::{DevCa, Urls};
    use jose::SigningKey;
    use sam_service::SIGNED_FILES;

    use super::*;

    fn sample() -> String {
        let sample = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../../config/natsuin-sam.toml");
        daemon::text(&sample).unwrap()
    }

    #[test]
    fn the_sample_configuration_is_read() {
        let config: Config = toml_of(&sample());
        assert!(
            !config.policy.pin_totp_at_level_2,
            "off unless an operator turns it on"
        );
        assert_eq!(config.clients.len(), 1);
        assert_eq!(config.clock.unwrap().bound_ms, 1000);
        let office = config.office.load().unwrap();
        assert_eq!(office.limits.idle(), 600);
        assert_ne!(office.gateways, config.gateways);
    }

    fn toml_of(text: &str) -> Config {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        daemon::load(file.path()).unwrap()
    }

    /// What officers sign is what the daemon reads, file by file: one that is read and not signed could be changed.
    #[test]
    fn every_file_that_is_read_is_signed() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(SystemClock);
        let urls = Urls::under("http://ca.localhost:1");
        let ca = DevCa::open(&dir.path().join("ca"), urls, clock, Arc::new(SystemRandom)).unwrap();
        let (key, _) = SigningKey::generate().unwrap();
        let jwk = serde_json::to_string(key.public()).unwrap();
        for (name, text) in [
            ("cm-root.jwk", jwk.clone()),
            ("ra-keys.json", format!("[{jwk}]")),
            ("issuers.pem", ca.internal_ca_pem()),
            ("zones-ca.pem", ca.internal_ca_pem()),
            ("attestation-roots.pem", ca.internal_ca_pem()),
            ("other-app-keys.json", format!("[{jwk}]")),
            ("op-keys.json", format!("{{\"keys\":[{jwk}]}}")),
        ] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let here = dir.path().display().to_string();
        let keys = format!("{here}/other-app-keys.json");
        let text = sample()
            .replace("/etc/natsuin", &here)
            .replace("# [attestation]", "[attestation]")
            .replace("# roots =", "roots =")
            .replace(
                "[tls]",
                &format!(
                    "[clients.other-app]\nname = 'b'\nkeys = '{keys}'\n\
                     [providers.op]\nname = 'OP'\nissuer = 'https://op'\nclient = 'sam'\n\
                     authorize = 'https://op/a'\nkeys = '{here}/op-keys.json'\nacr = ['high']\n\
                     multi_factor = true\n[tls]"
                ),
            );
        let path = dir.path().join("sam.toml");
        std::fs::write(&path, &text).unwrap();

        let mut files = FilesRead::default();
        let config: Config = files.load(&path).unwrap();
        files.text("tls.ca", &config.tls.ca).unwrap();
        let _: Jwk = json(&mut files, "cm_root", &config.cm_root).unwrap();
        settings(config, &mut files, SystemClock.now()).unwrap();
        let read = files.digests();
        assert_eq!(read, daemon::digests(&path, SIGNED_FILES).unwrap());
        assert_eq!(read.len(), 8, "{read:?}");
    }
}
