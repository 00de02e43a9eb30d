//! The configuration file, and what is made of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use audit_log::Restorers;
use audit_service::{AuditConfig, ClockConfig};
use core_types::{ClientId, Digest32, KeyAlg, Level, OfficerId, PeerId, SecretBytes, TenantId};
use csc_types::SecretText;
use sap::office::Role;
use serde::Deserialize;
use service_kit::daemon::{self, CHECK, FilesRead, TlsFiles};
use service_kit::{Identity, Rate, Trouble};
use ssa_service::{
    Branding, CertificateRule, Certificates, ClientOfficer, ClientSettings, Config as Service,
    Creation, Logo, Provider, Published, Publisher, Rates, Registration, TimeStamper,
    check_separation,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) listen: SocketAddr,
    pub(crate) node: String,
    base_url: String,
    sic_url: String,
    name: String,
    region: String,
    tenant: TenantId,
    key: PathBuf,
    pub(crate) chain_key: PathBuf,
    public: Option<PublicFiles>,
    pub(crate) sam_url: String,
    pub(crate) certify_url: String,
    pub(crate) worker_url: Option<String>,
    pub(crate) store: String,
    #[serde(default)]
    development: bool,
    #[serde(default)]
    fapi: bool,
    login_client: Option<ClientId>,
    most_pending: Option<u32>,
    longest_call_seconds: Option<u64>,
    #[serde(default)]
    proxies: Vec<IpAddr>,
    #[serde(default)]
    time_stamping: Vec<TimeStamping>,
    #[serde(default)]
    creations: Vec<CreationFile>,
    /// How often certificates of keys are asked about; 0: never.
    #[serde(default = "ten_minutes")]
    pub(crate) revocation_seconds: u64,
    pub(crate) outside_ca: Option<PathBuf>,
    /// Time-stamping authorities or providers of the operator's lie in a private network.
    #[serde(default)]
    pub(crate) private_network: bool,
    pub(crate) certificates: Option<CertificatesFile>,
    #[serde(default)]
    providers: Vec<ProviderFile>,
    registration: Option<RegistrationFile>,
    restorers: Option<PathBuf>,
    /// Not without signatures over this file, at level 1 either.
    #[serde(default)]
    signed_settings: bool,
    #[serde(default)]
    rates: RatesFile,
    pub(crate) officers: Option<Officers>,
    #[serde(default)]
    branding: BrandingFile,
    published: Published,
    pub(crate) clock: Option<ClockConfig>,
    pub(crate) tls: TlsFiles,
    pub(crate) audit: AuditConfig,
}

/// Of the files that were read those that are signed.
pub(crate) fn signed_of(files: &BTreeMap<String, Digest32>) -> BTreeMap<String, Digest32> {
    let mut signed = files.clone();
    // Renewed by itself, and vouched for by its issuer.
    signed.remove("public.chain");
    signed
}

/// How the service looks; what isn't named is as the product has it.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BrandingFile {
    ja: Option<String>,
    en: Option<String>,
    colour: Option<String>,
    logo: Option<PathBuf>,
    contact: Option<String>,
}

impl BrandingFile {
    fn load(&self) -> Result<Branding, Trouble> {
        let logo = self.logo.as_deref().map(|path| {
            let what = || {
                format!(
                    "{} can't be read, or isn't a PNG or JPEG of at most 64 KiB",
                    path.display()
                )
            };
            let logo = std::fs::read(path).ok().and_then(Logo::new);
            logo.ok_or_else(|| Trouble::new("config-file", what(), CHECK))
        });
        Ok(Branding {
            ja: self.ja.clone(),
            en: self.en.clone(),
            colour: self.colour.clone(),
            logo: logo.transpose()?,
            contact: self.contact.clone(),
        })
    }
}

/// The public origin's certificate; without it a reverse proxy of the same machine has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicFiles {
    chain: PathBuf,
    key: PathBuf,
}

/// A time-stamping authority.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TimeStamping {
    url: String,
    anchors: PathBuf,
}

/// A kind of credential that clients may have their users make for themselves.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreationFile {
    policy: Option<String>,
    key: KeyAlg,
}

/// The listener that asks for client certificates.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CertificatesFile {
    pub(crate) listen: SocketAddr,
    url: String,
    login: Option<RuleFile>,
    clients: Option<RuleFile>,
}

/// Which certificates count.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFile {
    anchors: PathBuf,
    intermediates: Option<PathBuf>,
    #[serde(default)]
    policies: Vec<String>,
}

/// An OpenID provider, asked for its addresses (discovery).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProviderFile {
    id: String,
    name: String,
    issuer: String,
    client_id: String,
    secret: Option<PathBuf>,
    #[serde(default)]
    assurance: BTreeMap<String, u8>,
    #[serde(default)]
    least: u8,
}

/// Clients that register themselves with a publisher's software statement.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RegistrationFile {
    most: u32,
    publishers: Vec<PublisherFile>,
    #[serde(default)]
    contract: ClientSettings,
}

/// Who vouches for software: `iss`, and a JSON array of JWKs.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PublisherFile {
    issuer: String,
    keys: PathBuf,
}

impl RegistrationFile {
    fn load(&self, files: &mut FilesRead) -> Result<Registration, Trouble> {
        let publisher = |(n, given): (usize, &PublisherFile)| {
            let name = format!("registration.publishers.{n}.keys");
            let text = files.text(&name, &given.keys)?;
            let keys = serde_json::from_str(&text).map_err(|e| {
                Trouble::new(
                    "config-file",
                    format!("{}: {e}", given.keys.display()),
                    CHECK,
                )
            })?;
            Ok(Publisher {
                issuer: given.issuer.clone(),
                keys,
            })
        };
        Ok(Registration {
            publishers: self
                .publishers
                .iter()
                .enumerate()
                .map(publisher)
                .collect::<Result<_, Trouble>>()?,
            contract: self.contract.clone(),
            most: self.most,
        })
    }
}

impl CreationFile {
    fn load(&self) -> Creation {
        Creation {
            policy: self.policy.clone(),
            key: self.key,
        }
    }
}

impl RuleFile {
    fn load(&self, name: &str, files: &mut FilesRead) -> Result<CertificateRule, Trouble> {
        Ok(CertificateRule {
            anchors: certificates(files, &format!("{name}.anchors"), &self.anchors)?,
            intermediates: match &self.intermediates {
                Some(path) => certificates(files, &format!("{name}.intermediates"), path)?,
                None => Vec::new(),
            },
            policies: self.policies.clone(),
        })
    }
}

impl ProviderFile {
    fn load(&self) -> Result<Provider, Trouble> {
        let secret = self.secret.as_deref().map(daemon::text).transpose()?;
        Ok(Provider {
            id: self.id.clone(),
            name: self.name.clone(),
            issuer: self.issuer.clone(),
            client_id: self.client_id.clone(),
            client_secret: secret.map(|text| SecretText::new(text.trim().to_owned())),
            endpoints: None,
            assurance: self.assurance.clone(),
            least: self.least,
        })
    }
}

/// Certificates of a PEM file, DER.
fn certificates(
    files: &mut FilesRead,
    name: &str,
    path: &std::path::Path,
) -> Result<Vec<Vec<u8>>, Trouble> {
    let read = pki::Certificate::parse_pem(&files.text(name, path)?);
    let read =
        read.map_err(|e| Trouble::new("config-file", format!("{}: {e}", path.display()), CHECK))?;
    Ok(read.iter().map(|c| c.der().to_vec()).collect())
}

/// How often somebody may call; what isn't named is as the service has it.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RatesFile {
    address: Option<Rate>,
    client: Option<Rate>,
    person: Option<Rate>,
}

/// The listener of those who manage clients, and who they are.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Officers {
    pub(crate) listen: SocketAddr,
    people: Vec<Officer>,
    /// Programs that watch the logs and may suspend clients.
    #[serde(default)]
    pub(crate) guards: Vec<PeerId>,
    /// Gateways of the officers' console, which list clients and do nothing else.
    #[serde(default)]
    pub(crate) viewers: Vec<PeerId>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Officer {
    certificate: PeerId,
    officer: OfficerId,
    role: Role,
}

impl Officers {
    /// Everybody, by the name in their certificate; none of them has roles that exclude each other, `audit`'s readers being auditors.
    pub(crate) fn known(&self, audit: &AuditConfig) -> Result<Vec<ClientOfficer>, Trouble> {
        let known = |one: &Officer| ClientOfficer {
            peer: one.certificate.clone(),
            officer: one.officer.clone(),
            role: one.role,
        };
        let known: Vec<_> = self.people.iter().map(known).collect();
        check_separation(&known, audit.auditors())?;
        Ok(known)
    }
}

fn ten_minutes() -> u64 {
    600
}

impl Config {
    /// Whether nothing is done without signatures over this file: one administrator must not choose officers, auditors and witnesses of
    /// a service above level 1. `signed`: it has some, and is judged by them. `ceiling`: what the SAM says, which is asked where that
    /// decides.
    ///
    /// # Errors
    /// [`Trouble::AWAY`] when it doesn't say.
    pub(crate) async fn demands_signatures(
        &self,
        signed: bool,
        ceiling: impl Future<Output = Option<Level>>,
    ) -> Result<bool, Trouble> {
        if self.signed_settings || signed {
            return Ok(self.signed_settings);
        }
        let ceiling = ceiling.await.ok_or_else(|| {
            Trouble::new(
                Trouble::AWAY,
                "nobody has signed this configuration, and the SAM doesn't say whether its level lets it count",
                "start the SAM first, or sign it (natsuin config sign --zone ssa); the service manager tries again",
            )
        })?;
        Ok(ceiling > Level::One)
    }

    /// Who is asked over TLS can be asked: nobody finds out only when it is needed.
    fn can_reach(&self) -> Result<(), Trouble> {
        let stampers = self.time_stamping.iter().map(|one| &one.url);
        let providers = self.providers.iter().map(|one| &one.issuer);
        let over_tls = |url: &&String| url.starts_with("https://");
        match stampers.chain(providers).find(over_tls) {
            Some(url) if self.outside_ca.is_none() => Err(Trouble::new(
                "bad-config",
                format!("no CA is trusted for {url}"),
                "name outside_ca, the CAs (PEM) of addresses outside",
            )),
            _ => Ok(()),
        }
    }

    /// What the service is told, with what its files hold.
    ///
    /// # Errors
    /// [`Trouble`] when a file can't be used.
    /// Who makes backups and who approves their restore; without the file nobody does.
    pub(crate) fn restorers(&self, files: &mut FilesRead) -> Result<Restorers, Trouble> {
        let Some(path) = &self.restorers else {
            return Ok(Restorers::default());
        };
        let text = files.text("restorers", path)?;
        serde_json::from_str(&text)
            .map_err(|e| Trouble::new("config-file", format!("{}: {e}", path.display()), CHECK))
    }

    pub(crate) fn service(&self, files: &mut FilesRead) -> Result<Service, Trouble> {
        self.can_reach()?;
        let mut time_stampers = Vec::new();
        for (n, one) in self.time_stamping.iter().enumerate() {
            let name = format!("time_stamping.{n}.anchors");
            time_stampers.push(TimeStamper {
                url: one.url.clone(),
                anchors: certificates(files, &name, &one.anchors)?,
            });
        }
        let certificates = match &self.certificates {
            Some(given) => {
                let mut rule = |name: &str, rule: &Option<RuleFile>| {
                    let name = format!("certificates.{name}");
                    rule.as_ref()
                        .map(|rule| rule.load(&name, files))
                        .transpose()
                };
                Some(Certificates {
                    url: given.url.clone(),
                    login: rule("login", &given.login)?,
                    clients: rule("clients", &given.clients)?,
                })
            }
            None => None,
        };
        let providers = self.providers.iter().map(ProviderFile::load);
        let providers = providers.collect::<Result<_, Trouble>>()?;
        let registration = self.registration.as_ref();
        let registration = registration.map(|given| given.load(files)).transpose()?;
        let usual = Service::new(
            (self.base_url.clone(), self.sic_url.clone()),
            self.name.clone(),
            self.tenant.clone(),
            daemon::secret32(&self.key)?,
            self.published.clone(),
        );
        let longest_call = self.longest_call_seconds.map(Duration::from_secs);
        Ok(Service {
            region: self.region.clone(),
            branding: self.branding.load()?,
            development: self.development,
            fapi: self.fapi,
            login_client: self.login_client.clone(),
            certificates,
            providers,
            registration,
            time_stampers,
            creations: self.creations.iter().map(CreationFile::load).collect(),
            rates: Rates {
                address: self.rates.address.unwrap_or(usual.rates.address),
                client: self.rates.client.unwrap_or(usual.rates.client),
                person: self.rates.person.unwrap_or(usual.rates.person),
            },
            most_pending: self.most_pending.unwrap_or(usual.most_pending),
            longest_call: longest_call.unwrap_or(usual.longest_call),
            proxies: self.proxies.clone(),
            ..usual
        })
    }

    /// The public origin's certificate and key, for the listener that asks for certificates too. Without them nobody but this machine may reach the listener.
    ///
    /// # Errors
    /// [`Trouble`] when a file can't be read, or passwords would go over a network in the clear.
    pub(crate) fn public(&self, files: &mut FilesRead) -> Result<Option<Identity>, Trouble> {
        let Some(public) = &self.public else {
            if self.listen.ip().is_loopback() {
                return Ok(None);
            }
            return Err(Trouble::new(
                "bad-config",
                format!("{} would be served without TLS", self.listen),
                "name [public] chain and key, or listen on a loopback address behind your proxy",
            ));
        };
        Ok(Some(Identity {
            chain_pem: files.text("public.chain", &public.chain)?,
            key_pem: SecretBytes::from(daemon::text(&public.key)?),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use core_types::clock::SystemClock;
    use core_types::random::SystemRandom;
    use dev_ca::{DevCa, Urls};
    use ssa_service::SIGNED_FILES;

    use super::*;

    fn sample() -> String {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../config/natsuin-ssa.toml");
        daemon::text(&sample).unwrap()
    }

    fn read(text: &str) -> Result<Config, Trouble> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ssa.toml");
        std::fs::write(&path, text).unwrap();
        daemon::load(&path)
    }

    // shows: I-7.1.1.6-officer-not-auditor, I-7.1.1.7-admin-operator-not-auditor-officer
    #[test]
    fn who_reads_the_log_manages_no_clients() {
        let auditors = |names: &str| {
            let text = sample();
            let reading = text.find("# [audit.reading]").unwrap();
            let table =
                format!("[audit.reading]\nlisten = '127.0.0.1:8523'\nauditors = ['{names}']\n");
            let config = read(&format!("{}{table}", &text[..reading])).unwrap();
            config.officers.unwrap().known(&config.audit)
        };
        assert!(auditors("auditor.internal.example.jp").is_ok());
        for officer in ["sato", "tanaka", "ito"] {
            let refused = auditors(&format!("{officer}.office.example.jp")).unwrap_err();
            assert_eq!(refused.code, "roles-not-separate");
        }
    }

    /// What officers sign is what the daemon reads, file by file, but what is renewed by itself.
    #[test]
    fn every_file_that_is_read_is_signed() {
        let dir = tempfile::tempdir().unwrap();
        let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
        let urls = Urls::under("http://ca.localhost:1");
        let ca = DevCa::open(&dir.path().join("ca"), urls, clock, random).unwrap();
        let pem = ca.internal_ca_pem();
        let write = |name: &str, text: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        for (name, text) in [
            ("ssa.key", &[7; 32][..]),
            ("zones-ca.pem", pem.as_bytes()),
            ("ssa-public-chain.pem", pem.as_bytes()),
            ("ssa-public-key.pem", &b"key"[..]),
            ("witness.pub", &b"a key"[..]),
        ] {
            write(name, text);
        }
        let (anchors, keys) = (write("cas.pem", pem.as_bytes()), write("keys.json", b"[]"));
        let restorers = br#"{"backups":[],"operators":[],"officers":[]}"#;
        let restorers = write("restorers.json", restorers);
        let rule = format!("{{ anchors = '{anchors}', intermediates = '{anchors}' }}");
        let here = dir.path().display().to_string();
        let text = sample()
            .replace("/etc/natsuin", &here)
            .replace("# [audit.witnesses]", "[audit.witnesses]")
            .replace("# cosigners =", "cosigners =")
            .replace("# patience_seconds =", "patience_seconds =")
            .replace("# measure =", "measure =");
        let reading = text.find("# [audit.reading]").unwrap();
        let text = format!(
            "restorers = '{restorers}'\noutside_ca = '{anchors}'\n{}\
             [certificates]\nlisten = '127.0.0.1:1'\nurl = 'https://c'\nlogin = {rule}\nclients = {rule}\n\
             [registration]\nmost = 1\npublishers = [{{ issuer = 'a', keys = '{keys}' }}, {{ issuer = 'b', keys = '{keys}' }}]\n\
             [[time_stamping]]\nurl = 'https://tsa'\nanchors = '{anchors}'\n",
            &text[..reading]
        );
        let path = dir.path().join("ssa.toml");
        std::fs::write(&path, text).unwrap();

        let mut files = FilesRead::default();
        let config: Config = files.load(&path).unwrap();
        files.text("tls.ca", &config.tls.ca).unwrap();
        let outside = config.outside_ca.clone().unwrap();
        files.text("outside_ca", &outside).unwrap();
        config.service(&mut files).unwrap();
        config.restorers(&mut files).unwrap();
        config.public(&mut files).unwrap();
        config.audit.read(&mut files).unwrap();
        let read = signed_of(&files.digests());
        assert_eq!(read, daemon::digests(&path, SIGNED_FILES, None).unwrap());
        assert_eq!(read.len(), 12, "{read:?}");
    }

    #[test]
    fn the_sample_configuration_is_read() {
        let config = read(&sample()).unwrap();
        assert!(config.base_url.starts_with("https://"));
        assert!(!config.development && config.login_client.is_none());
        let officers = config.officers.unwrap().known(&config.audit).unwrap();
        assert_eq!(officers.len(), 3);
        assert!(officers.iter().all(|o| o.role != Role::SystemAuditor));
    }

    #[test]
    fn whoever_is_asked_over_tls_needs_a_ca() {
        let stamper = |scheme: &str| {
            format!(
                "[[time_stamping]]\nurl = \"{scheme}://tsa.example.jp/\"\nanchors = \"tsa.pem\""
            )
        };
        let provider = "[[providers]]\nid = \"corp\"\nname = \"Corp\"\nissuer = \"https://id.example.jp\"\nclient_id = \"n\"";
        let text = sample();
        for (more, good) in [
            (&*stamper("http"), true),
            (&*stamper("https"), false),
            (provider, false),
        ] {
            let mut config = read(&format!("{text}\n{more}\n")).unwrap();
            assert_eq!(config.can_reach().is_ok(), good, "{more}");
            config.outside_ca = Some("cas.pem".into());
            assert!(config.can_reach().is_ok(), "{more}");
        }
    }

    // shows: II-3.3.2-config-change-privileged-only, T-INS-OPERATOR
    #[tokio::test]
    async fn an_unsigned_configuration_counts_only_where_the_sam_says_level_1() {
        async fn never() -> Option<Level> {
            panic!("it isn't asked")
        }
        let says = |level| async move { level };
        let mut config = read(&sample()).unwrap();
        for (ceiling, demanded) in [
            (Level::One, false),
            (Level::Two, true),
            (Level::Three, true),
        ] {
            let asked = config.demands_signatures(false, says(Some(ceiling)));
            assert_eq!(asked.await, Ok(demanded), "{ceiling}");
        }
        let silent = config.demands_signatures(false, says(None)).await;
        assert_eq!(silent.unwrap_err().code, Trouble::AWAY);
        assert_eq!(config.demands_signatures(true, never()).await, Ok(false));
        config.development = true;
        let asked = config.demands_signatures(false, says(Some(Level::Two)));
        assert_eq!(asked.await, Ok(true), "one person's word is no way round");
        config.signed_settings = true;
        assert_eq!(config.demands_signatures(false, never()).await, Ok(true));
    }

    #[test]
    fn without_tls_only_this_machine_is_served() {
        let mut config = read(&sample()).unwrap();
        config.public = None;
        let mut files = FilesRead::default();
        assert_eq!(config.public(&mut files).unwrap_err().code, "bad-config");
        config.listen = "[::1]:8080".parse().unwrap();
        assert!(config.public(&mut files).unwrap().is_none());
    }

    #[test]
    fn a_setting_or_an_office_that_nobody_knows_is_an_error() {
        let text = sample();
        assert!(read(&format!("fapl = true\n{text}")).is_err());
        let role = text.replace("system-administrator", "administrator");
        assert!(role != text && read(&role).is_err());
    }
}
