//! The configuration file, and what is made of it. Its files count as they were read.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use audit_log::Restorers;
use audit_service::{AuditConfig, ClockConfig};
use core_types::{ClientId, KeyId, TenantId};
use sam_core::Policy;
use sam_core::backups::BackupRule;
use sam_core::office::Limits;
use sam_core::passkey::RelyingParty;
use sam_core::provider::{Provider, Providers};
use sam_service::{
    BackupWatch, CounterSigner, DeclaredPages, KnownClient, OfficeConfig, SamConfig,
    SettingsSource, TenantConfig, Whose,
};
use sap::act::Brand;
use serde::Deserialize;
use service_kit::Trouble;
use service_kit::daemon::{CHECK, FilesRead, TlsFiles};

use crate::attestation::AttestationConfig;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) listen_ssa: SocketAddr,
    pub(crate) listen_gateway: SocketAddr,
    pub(crate) node: String,
    pub(crate) sam: String,
    pub(crate) tenant: TenantId,
    pub(crate) sic_origin: String,
    pub(crate) return_prefixes: Vec<String>,
    pub(crate) services: Vec<String>,
    pub(crate) gateways: Vec<String>,
    #[serde(default)]
    pub(crate) guards: Vec<String>,
    pub(crate) cm_url: String,
    pub(crate) cm_root: PathBuf,
    pub(crate) registration_authorities: PathBuf,
    pub(crate) issuers: PathBuf,
    pub(crate) store: String,
    pub(crate) policy: Policy,
    #[serde(default)]
    pub(crate) attestation: AttestationConfig,
    pages: Option<PathBuf>,
    #[serde(default)]
    pub(crate) providers: BTreeMap<String, ProviderEntry>,
    #[serde(default)]
    pub(crate) clients: BTreeMap<ClientId, ClientEntry>,
    pub(crate) brand: Option<Brand>,
    #[serde(default)]
    tenants: BTreeMap<TenantId, TenantEntry>,
    pub(crate) clock: Option<ClockConfig>,
    backups: Option<BackupsConfig>,
    pub(crate) office: OfficeEntry,
    pub(crate) counter_sign: Option<CounterSignEntry>,
    pub(crate) courier_url: Option<String>,
    restorers: Option<PathBuf>,
    #[serde(default = "a_month")]
    notice_before_end_days: u32,
    #[serde(default = "hourly")]
    pub(crate) scrub_seconds: u64,
    #[serde(default)]
    pub(crate) lock_memory: bool,
    pub(crate) tls: TlsFiles,
    pub(crate) audit: AuditConfig,
}

/// Where officers act.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OfficeEntry {
    pub(crate) listen: SocketAddr,
    origin: String,
    pages: Option<PathBuf>,
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
pub(crate) struct CounterSignEntry {
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
pub(crate) enum ClientEntry {
    Name(String),
    Signing { name: String, keys: PathBuf },
}

impl ClientEntry {
    fn load(self, place: &str, files: &mut FilesRead) -> Result<KnownClient, Trouble> {
        Ok(match self {
            Self::Name(name) => KnownClient {
                name,
                keys: Vec::new(),
            },
            Self::Signing { name, keys: path } => {
                let name_of = format!("{place}.keys");
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
pub(crate) struct ProviderEntry {
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
    fn load(self, place: &str, files: &mut FilesRead) -> Result<Provider, Trouble> {
        #[derive(Deserialize)]
        struct KeySet {
            keys: Vec<serde_json::Value>,
        }
        let wrong = |what: String| Trouble::new("config-file", what, CHECK);
        let set: KeySet = json(files, &format!("{place}.keys"), &self.keys)?;
        let keys = set.keys.iter().map(jose::ForeignKey::parse_of_provider);
        let keys: Vec<_> = keys
            .collect::<Result<_, _>>()
            .map_err(|e| wrong(format!("{}: {e}", self.keys.display())))?;
        let secure = |text: &str| text.starts_with("https://");
        if keys.is_empty() || !secure(&self.issuer) || !secure(&self.authorize) {
            let what = "needs keys, and addresses that begin with https://";
            return Err(wrong(format!("{place} {what}")));
        }
        if self.multi_factor && self.acr.is_empty() && self.amr.is_empty() {
            let what = "is declared multi-factor, but asks for no acr and no amr";
            return Err(wrong(format!("{place} {what}")));
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

/// How backups are watched.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BackupsConfig {
    reports: PathBuf,
    made_hours: u32,
    verified_days: u32,
}

impl From<BackupsConfig> for BackupWatch {
    fn from(config: BackupsConfig) -> Self {
        Self {
            reports: config.reports,
            rule: BackupRule {
                made_hours: config.made_hours,
                verified_days: config.verified_days,
            },
        }
    }
}

/// A tenant with what is its own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TenantEntry {
    brand: Brand,
    services: Vec<String>,
    return_prefixes: Vec<String>,
    registration_authorities: PathBuf,
    issuers: PathBuf,
    policy: Policy,
    #[serde(default)]
    providers: BTreeMap<String, ProviderEntry>,
    #[serde(default)]
    clients: BTreeMap<ClientId, ClientEntry>,
}

impl TenantEntry {
    fn load(self, id: TenantId, files: &mut FilesRead) -> Result<TenantConfig, Trouble> {
        let place = format!("tenants.{id}.");
        let authorities = format!("{place}registration_authorities");
        Ok(TenantConfig {
            brand: self.brand,
            services: self.services,
            return_prefixes: self.return_prefixes,
            registration_authorities: json(files, &authorities, &self.registration_authorities)?,
            issuers: issuers(files, &place, &self.issuers)?,
            policy: self.policy,
            providers: providers(files, &place, self.providers)?,
            clients: clients(files, &place, self.clients)?,
            id,
        })
    }
}

/// Certificates (DER) to which those of signers must lead. `place`: whose they are, with a point, or nothing.
fn issuers(files: &mut FilesRead, place: &str, path: &Path) -> Result<Vec<Vec<u8>>, Trouble> {
    let read = pki::Certificate::parse_pem(&files.text(&format!("{place}issuers"), path)?);
    let read =
        read.map_err(|e| Trouble::new("config-file", format!("{}: {e}", path.display()), CHECK))?;
    Ok(read.iter().map(|c| c.der().to_vec()).collect())
}

fn clients(
    files: &mut FilesRead,
    place: &str,
    entries: BTreeMap<ClientId, ClientEntry>,
) -> Result<BTreeMap<ClientId, KnownClient>, Trouble> {
    let load = |(id, entry): (ClientId, ClientEntry)| {
        let known = entry.load(&format!("{place}clients.{id}"), files)?;
        Ok((id, known))
    };
    entries.into_iter().map(load).collect()
}

fn providers(
    files: &mut FilesRead,
    place: &str,
    entries: BTreeMap<String, ProviderEntry>,
) -> Result<Providers, Trouble> {
    let load =
        |(id, entry): (String, ProviderEntry)| entry.load(&format!("{place}providers.{id}"), files);
    let all: Result<_, Trouble> = entries.into_iter().map(load).collect();
    Ok(Providers(all?))
}

/// What the pages of signers and officers consist of.
fn pages(config: &Config, files: &mut FilesRead) -> Result<Vec<DeclaredPages>, Trouble> {
    let mut declared = Vec::new();
    for (name, whose, path) in [
        ("pages", Whose::Signers, &config.pages),
        ("office.pages", Whose::Officers, &config.office.pages),
    ] {
        let Some(path) = path else { continue };
        let read = DeclaredPages::read(whose, files.text(name, path)?);
        declared.push(read.ok_or_else(|| {
            let what = format!("{}: these aren't digests of a page's files", path.display());
            Trouble::new(
                "config-file",
                what,
                "name what `natsuin-sic digests` prints",
            )
        })?);
    }
    Ok(declared)
}

fn a_month() -> u32 {
    30
}

fn hourly() -> u64 {
    3600
}

fn relying_party(origin: String) -> RelyingParty {
    let host = origin.split("://").nth(1).unwrap_or_default();
    let rp_id = host.split(':').next().unwrap_or_default().to_owned();
    RelyingParty { origin, rp_id }
}

/// The settings, and what they were read from.
pub(crate) fn settings(
    config: Config,
    files: &mut FilesRead,
) -> Result<(SamConfig, AuditConfig), Trouble> {
    ClockConfig::demanded(config.clock.as_ref(), config.policy.ceiling)?;
    config.audit.anchored(config.policy.ceiling)?;
    config.audit.read(files)?;
    let (attestation, metadata) = config.attestation.load(files)?;
    let pages = pages(&config, files)?;
    let sam = SamConfig {
        sam: config.sam,
        node: config.node,
        tenant: config.tenant,
        brand: config.brand,
        tenants: config
            .tenants
            .into_iter()
            .map(|(id, tenant)| tenant.load(id, files))
            .collect::<Result<_, Trouble>>()?,
        relying_party: relying_party(config.sic_origin),
        return_prefixes: config.return_prefixes,
        registration_authorities: json(
            files,
            "registration_authorities",
            &config.registration_authorities,
        )?,
        issuers: issuers(files, "", &config.issuers)?,
        policy: config.policy,
        attestation,
        metadata,
        providers: providers(files, "", config.providers)?,
        pages,
        clients: clients(files, "", config.clients)?,
        services: config.services,
        gateways: config.gateways,
        guards: config.guards,
        backups: config.backups.map(Into::into),
        clock: ClockConfig::rule(config.clock.as_ref()),
        witness_declaration: config.audit.witness_declaration().map(str::to_owned),
        notice_before_end: i64::from(config.notice_before_end_days) * 24 * 3600,
        counter_sign: config.counter_sign.map(|c| c.load(files)).transpose()?,
        restorers: match &config.restorers {
            Some(path) => json(files, "restorers", path)?,
            None => Restorers::default(),
        },
        office: config.office.load()?,
        source: SettingsSource::Program,
        beside: false,
    };
    Ok((sam, config.audit))
}

pub(crate) fn json<T: serde::de::DeserializeOwned>(
    files: &mut FilesRead,
    name: &str,
    path: &Path,
) -> Result<T, Trouble> {
    serde_json::from_str(&files.text(name, path)?)
        .map_err(|e| Trouble::new("config-file", format!("{}: {e}", path.display()), CHECK))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use core_types::Level;
    use core_types::clock::SystemClock;
    use core_types::random::SystemRandom;
    use dev_ca::{DevCa, Urls};
    use jose::{Jwk, SigningKey};
    use sam_service::SIGNED_FILES;
    use service_kit::daemon;

    use super::*;

    fn sample() -> String {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../config/natsuin-sam.toml");
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
        let digests = format!("{{\"/a\":\"{}\"}}", core_types::sha256(&[b"a"]));
        for (name, text) in [
            ("cm-root.jwk", jwk.clone()),
            ("ra-keys.json", format!("[{jwk}]")),
            ("issuers.pem", ca.internal_ca_pem()),
            ("zones-ca.pem", ca.internal_ca_pem()),
            ("attestation-roots.pem", ca.internal_ca_pem()),
            ("other-app-keys.json", format!("[{jwk}]")),
            ("op-keys.json", format!("{{\"keys\":[{jwk}]}}")),
            ("witness.pub", "a key".to_owned()),
            ("sic-pages.json", digests.clone()),
            ("office-pages.json", digests),
        ] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let here = dir.path().display().to_string();
        let keys = format!("{here}/other-app-keys.json");
        let text = sample()
            .replace("/etc/natsuin", &here)
            .replace("# [attestation]", "[attestation]")
            .replace("# roots =", "roots =")
            .replace("# [audit.witnesses]", "[audit.witnesses]")
            .replace("# cosigners =", "cosigners =")
            .replace("# patience_seconds =", "patience_seconds =")
            .replace("# measure =", "measure =")
            .replace("# pages =", "pages =")
            .replace(
                "[tls]",
                &format!(
                    "[clients.other-app]\nname = 'b'\nkeys = '{keys}'\n\
                     [providers.op]\nname = 'OP'\nissuer = 'https://op'\nclient = 'sam'\n\
                     authorize = 'https://op/a'\nkeys = '{here}/op-keys.json'\nacr = ['high']\n\
                     multi_factor = true\n\
                     [tenants.minato]\nbrand = {{ ja = 'みなと商事', en = 'Minato', colour = '#0a5c8a' }}\n\
                     services = ['minato.internal']\nreturn_prefixes = ['https://minato.example/']\n\
                     registration_authorities = '{here}/ra-keys.json'\nissuers = '{here}/issuers.pem'\n\
                     policy = {{ version = 7, pin_totp_at_level_2 = false, max_items = 3 }}\n\
                     clients.app = {{ name = 'c', keys = '{keys}' }}\n[tls]"
                ),
            );
        let path = dir.path().join("sam.toml");
        std::fs::write(&path, &text).unwrap();

        let mut files = FilesRead::default();
        let config: Config = files.load(&path).unwrap();
        files.text("tls.ca", &config.tls.ca).unwrap();
        let _: Jwk = json(&mut files, "cm_root", &config.cm_root).unwrap();
        let (made, _) = settings(config, &mut files).unwrap();
        // Without a bounded clock nothing above level 1 is signed.
        for (ceiling, begins) in [(Level::One, true), (Level::Two, false)] {
            let mut config: Config = FilesRead::default().load(&path).unwrap();
            (config.clock, config.policy.ceiling) = (None, ceiling);
            let begun = settings(config, &mut FilesRead::default());
            assert_eq!(begun.is_ok(), begins, "{ceiling:?}");
        }
        // Nor where nothing finds a database that is put back with the witness's file.
        for (measure, begins) in [("stop", true), ("alert", false)] {
            let above = text.replace("\nceiling = 1\n", "\nceiling = 2\n");
            let above = above.replace("measure = \"stop\"", &format!("measure = \"{measure}\""));
            std::fs::write(&path, above).unwrap();
            let config: Config = FilesRead::default().load(&path).unwrap();
            assert_eq!(config.policy.ceiling, Level::Two);
            let begun = settings(config, &mut FilesRead::default());
            assert_eq!(begun.is_ok(), begins, "{measure}");
        }
        std::fs::write(&path, &text).unwrap();
        let tenant = &made.tenants[0];
        assert_eq!((tenant.id.as_str(), tenant.policy.version), ("minato", 7));
        let read = files.digests();
        assert_eq!(read, daemon::digests(&path, SIGNED_FILES, None).unwrap());
        assert_eq!(read.len(), 14, "{read:?}");
    }
}
