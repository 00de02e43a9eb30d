//! A site without a stack: the configuration files of the daemons, and the programs that were started with them.

mod gateways;
mod logs;
mod signers;

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use cm_api::rpc::{Empty, Root};
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::{Clock as _, KeyAlg, Level, PersonId, Random as _, SecretBytes, TenantId};
use dev_ca::ra::Invitation;
use dev_ca::{DevCa, Ra, Urls};
use natsuin::stack::{NAME_CM, NAME_OFFICE, NAME_SAM, NAME_SIC, NAME_SSA, Sic};
use pkcs11_faults::softhsm::SoftHsm;
use sap::enrol::Subject;
use service_kit::Client;
use service_kit::http::HttpOptions;
use sic_core::{Trust, Voucher};
use tempfile::TempDir;

use crate::kit::{run, signal, text};
pub use signers::Signers;

/// Name of the SAM in acts.
pub const SAM: &str = "sam.test";
/// Security officers with whom an installation begins.
pub const OFFICERS: [&str; 3] = ["sato", "suzuki", "takahashi"];
/// Name in the certificate of an auditor's program.
pub const AUDITOR: &str = "auditor.natsuin.internal";
/// Name in the registration authority's certificate.
pub const NAME_RA: &str = "ra.natsuin.internal";
/// How often it is looked whether a program listens or has ended, and how many times at most: two minutes.
const TICK: Duration = Duration::from_millis(20);
const TICKS: u32 = 6000;

/// A site without a stack: files and certificates, and the registration authority, which is nobody's daemon.
pub struct Site {
    pub dir: TempDir,
    pub ca: Arc<DevCa>,
    tenant: TenantId,
    /// What its daemons are told of their clocks; without it nobody keeps them.
    pub clock: String,
    /// Port of the officers' page, which need not be there.
    pub console: u16,
    /// Zones whose logs auditors and the officers' gateway read, with the ports for it.
    pub reading: Vec<(&'static str, u16)>,
    /// What zones are told beside of who watches their logs.
    pub watched: Vec<(&'static str, String)>,
    /// What its SAMs are told of levels, in `[policy]`; further tables may follow.
    pub policy: String,
    /// Where its module keeps keys, if it isn't software.
    pub token: Option<SoftHsm>,
    /// Who signs the configurations; without them nobody does.
    pub signers: Option<Signers>,
}

/// A daemon that runs. Gone with this value, as by kill -9.
pub struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// kill -9.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// What a service manager does.
    pub fn end(&mut self) {
        signal("TERM", self.child.id());
        let code = self.child.wait().unwrap().code();
        assert_eq!(code, Some(0), "{}", self.said());
    }

    /// What it has told its operator.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// No file of its can grow beyond so many bytes from now on, as on a disk without room; nothing: there is room again.
    pub fn room(&self, bytes: Option<u64>) {
        let soft = bytes.map_or("unlimited".to_owned(), |bytes| bytes.to_string());
        let pid = self.child.id().to_string();
        let set = run(Command::new("prlimit")
            .args(["--pid", &pid])
            .arg(format!("--fsize={soft}:")));
        assert!(set.status.success(), "{}", text(&set));
    }

    /// Waits until it ends by itself; its exit code.
    pub async fn ended(&mut self) -> Option<i32> {
        let mut ticks = tokio::time::interval(TICK);
        for _ in 0..TICKS {
            ticks.tick().await;
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
        }
        panic!("it goes on: {}", self.said());
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// So many ports in a row, for this test alone: below those that the kernel gives to whoever asks for any, so that they stay
/// free until they are used and while a daemon is down.
pub fn ports(n: u16) -> u16 {
    // Other runs on this machine begin elsewhere.
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| {
        let own = std::process::id() % 2_000;
        AtomicU16::new(u16::try_from(6 * own).unwrap())
    });
    loop {
        let first = 20_000 + NEXT.fetch_add(n, Ordering::Relaxed) % 12_000;
        if (first..first + n).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return first;
        }
    }
}

/// One of them.
pub fn port() -> u16 {
    ports(1)
}

/// Where a stack listens: the first start takes ports of its own, a later one finds them in its data.
pub fn first_port(data: &Path) -> u16 {
    match data.join("state.json").exists() {
        true => 0,
        false => ports(5),
    }
}

pub fn secret(path: &Path, bytes: &[u8]) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = File::options();
    let opened = options.write(true).create_new(true).mode(0o600).open(path);
    opened.unwrap().write_all(bytes).unwrap();
}

impl Site {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let urls = Urls::under("http://127.0.0.1:1");
        let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
        let ca = Arc::new(DevCa::open(&dir.path().join("ca"), urls, clock, random).unwrap());
        let site = Self {
            dir,
            ca,
            tenant: TenantId::parse("test").unwrap(),
            clock: String::new(),
            console: port(),
            reading: Vec::new(),
            watched: Vec::new(),
            policy: "ceiling = 1\n".to_owned(),
            token: None,
            signers: None,
        };
        for (zone, name) in [("cm", NAME_CM), ("sam", NAME_SAM), ("sic", NAME_SIC)]
            .into_iter()
            .chain([("ssa", NAME_SSA), ("office", NAME_OFFICE)])
        {
            site.zone(zone, name);
        }
        // What a picture begins with.
        fs::write(site.at("logo.png"), b"\x89PNG\r\n\x1a\n").unwrap();
        fs::write(site.at("zones-ca.pem"), site.ca.internal_ca_pem()).unwrap();
        for name in ["cm-root.key", "ssa.key", "ssa-chain.key"] {
            secret(&site.at(name), &SystemRandom.digest32().0);
        }
        site.public();
        let ra = site.ra(Vec::new());
        let keys = serde_json::to_string(&[ra.public_key()]).unwrap();
        fs::write(site.at("ra-keys.json"), keys).unwrap();
        site
    }

    /// The certificate of the public origins.
    pub fn public(&self) {
        let names = ["localhost", "sic.localhost"];
        let public = self.ca.localhost_cert(&names).unwrap();
        fs::write(self.at("public-chain.pem"), &public.chain_pem).unwrap();
        secret(&self.at("public-key.pem"), public.key_pem.expose());
    }

    /// A zone's certificate and log key.
    pub fn zone(&self, zone: &str, name: &str) {
        let own = self.ca.service_cert(name, &[name, "localhost"]).unwrap();
        fs::write(self.at(&format!("{zone}-chain.pem")), &own.chain_pem).unwrap();
        secret(&self.at(&format!("{zone}-key.pem")), own.key_pem.expose());
        let log_key = self.at(&format!("{zone}-log.key"));
        secret(&log_key, &SystemRandom.digest32().0);
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn ra(&self, roots: Vec<jose::Jwk>) -> Ra {
        Ra::new(self.ca.clone(), SAM, roots).unwrap()
    }

    pub fn anchors(&self) -> String {
        fs::read_to_string(self.ca.trust_anchors_file()).unwrap()
    }

    /// What a zone with this name in its certificate calls others with.
    pub fn options(&self, name: &str) -> HttpOptions {
        HttpOptions {
            ca_pem: Some(self.ca.internal_ca_pem()),
            identity: Some(self.ca.service_cert(name, &[name, "localhost"]).unwrap()),
            ..HttpOptions::default()
        }
    }

    pub fn caller(&self, port: u16, name: &str) -> Client {
        Client::new(format!("https://localhost:{port}"), &self.options(name)).unwrap()
    }

    /// A daemon's program, beside the one of this test.
    fn program(&self, name: &str) -> Command {
        let program = Path::new(env!("CARGO_BIN_EXE_natsuin")).with_file_name(name);
        assert!(
            program.exists(),
            "{name} isn't there: `cargo build --workspace --bins` builds what these tests start"
        );
        let mut command = Command::new(program);
        if let Some(token) = &self.token {
            token.configure(&mut command);
        }
        command
    }

    /// The configuration with the tables that all daemons have.
    pub fn configure(&self, zone: &str, node: &str, settings: &str) -> PathBuf {
        let dir = self.dir.path().display();
        let mut audit = match zone {
            "sic" | "office" => String::new(),
            _ => format!(
                "[audit]\nlog = 'test/{zone}'\nkey = '{dir}/{zone}-log.key'\nwitness = '{dir}/{zone}-witness.txt'\n\
                 every_seconds = 1\n"
            ),
        };
        for (_, more) in self.watched.iter().filter(|(of, _)| *of == zone) {
            audit.push_str(more);
        }
        for (_, port) in self.reading.iter().filter(|(of, _)| *of == zone) {
            audit.push_str(&format!(
                "[audit.reading]\nlisten = '127.0.0.1:{port}'\nauditors = ['{NAME_OFFICE}', '{AUDITOR}']\n"
            ));
        }
        if !audit.is_empty() {
            audit.push_str(&self.clock);
        }
        let tls = format!(
            "[tls]\nchain = '{dir}/{zone}-chain.pem'\nkey = '{dir}/{zone}-key.pem'\nca = '{dir}/zones-ca.pem'\n"
        );
        let path = self.at(&format!("{node}.toml"));
        fs::write(&path, format!("{settings}\n{tls}{audit}")).unwrap();
        if let (Some(signers), "cm" | "sam" | "ssa") = (&self.signers, zone) {
            signers.sign(zone, &path);
        }
        path
    }

    /// Starts it: a program, and the words of a command after it. No file of its can grow beyond `room` KiB, as on a disk without
    /// room; nothing: there is as much as there is, until [`Program::room`]. A write beyond that fails, as on a full disk, instead
    /// of ending the program.
    pub fn spawn(&self, name: &str, config: &Path, room: Option<u32>) -> Program {
        let room = room.map_or("unlimited".to_owned(), |kib| kib.to_string());
        let script = format!("trap '' XFSZ; ulimit -S -f {room}; exec \"$0\" \"$@\"");
        let mut words = name.split(' ');
        let program = self.program(words.next().unwrap());
        let mut command = Command::new("bash");
        command.args(["-c", &script]).arg(program.get_program());
        command.args(words).arg("--config").arg(config);
        if let Some(token) = &self.token {
            token.configure(&mut command);
        }
        let log = config.with_extension("err");
        let output = command.stdout(Stdio::null());
        let output = output.stderr(File::create(&log).unwrap());
        Program {
            child: output.spawn().unwrap(),
            log,
        }
    }

    /// Starts it and waits until it listens here, and where auditors read its log, which it opens last.
    pub async fn start(&self, name: &str, config: &Path, port: u16) -> Program {
        let mut program = self.spawn(name, config, None);
        let node = config.file_stem().unwrap().to_string_lossy();
        let zone = node.split('-').next().unwrap();
        let reading = self.reading.iter().filter(|(of, _)| *of == zone);
        let mut ticks = tokio::time::interval(TICK);
        for port in [port].into_iter().chain(reading.map(|(_, port)| *port)) {
            let mut left = TICKS;
            while tokio::net::TcpStream::connect(("127.0.0.1", port))
                .await
                .is_err()
            {
                let ended = program.child.try_wait().unwrap();
                assert_eq!(ended, None, "{name}: {}", program.said());
                assert!(left > 0, "{name} doesn't listen: {}", program.said());
                left -= 1;
                ticks.tick().await;
            }
        }
        program
    }

    /// What a daemon's program does instead of serving, with the configuration of this node.
    pub fn command(&self, name: &str, node: &str, args: &[&str]) -> Output {
        let mut command = self.program(name);
        let config = self.at(&format!("{node}.toml"));
        run(command.arg("--config").arg(config).args(args))
    }

    /// The module, which keeps keys in software; its root key goes where the others pin it.
    pub async fn module(&self, port: u16) -> (Program, jose::Jwk) {
        self.module_with(port, "[backend]\nkind = 'software'\n")
            .await
    }

    /// The same with these settings, which end with its back end.
    pub async fn module_with(&self, port: u16, more: &str) -> (Program, jose::Jwk) {
        let dir = self.dir.path().display();
        let settings = format!(
            "listen = '127.0.0.1:{port}'\nnode = 'cm-1'\nsam = '{SAM}'\ncaller = '{NAME_SAM}'\nstore = 'sqlite:{dir}/cm.db'\n\
             root_secret = '{dir}/cm-root.key'\nmax_uses = 10000\ncopies_kept_days = 30\nkey_cache_seconds = 0\n{more}"
        );
        let config = self.configure("cm", "cm-1", &settings);
        let program = self.start("natsuin-cm", &config, port).await;
        let told = self.caller(port, NAME_SAM).call::<Root>(&Empty {}).await;
        let root = told.unwrap().root;
        fs::write(
            self.at("cm-root.jwk"),
            serde_json::to_string(&root).unwrap(),
        )
        .unwrap();
        fs::write(
            self.at("roots.json"),
            serde_json::to_string(&[&root]).unwrap(),
        )
        .unwrap();
        (program, root)
    }

    /// A node of the SAM. The first one begins the installation.
    pub async fn sam(&self, node: &str, store: &str, at: &SamPorts) -> Program {
        let config = self.sam_ready(node, store, at);
        // The last of its three doors.
        self.start("natsuin-sam", &config, at.office).await
    }

    /// What such a node starts with.
    pub fn sam_ready(&self, node: &str, store: &str, at: &SamPorts) -> PathBuf {
        let dir = self.dir.path().display();
        let SamPorts {
            module,
            ssa,
            gateway,
            office,
            origin,
            home,
            tenants,
        } = at;
        let settings = format!(
            "listen_ssa = '127.0.0.1:{ssa}'\nlisten_gateway = '127.0.0.1:{gateway}'\nnode = '{node}'\nsam = '{SAM}'\n\
             tenant = '{tenant}'\nsic_origin = '{origin}'\nreturn_prefixes = ['{home}/']\nservices = ['{NAME_SSA}']\n\
             gateways = ['{NAME_SIC}']\ncm_url = 'https://localhost:{module}'\ncm_root = '{dir}/cm-root.jwk'\n\
             registration_authorities = '{dir}/ra-keys.json'\nissuers = '{issuers}'\nstore = '{store}'\n\
             [policy]\nversion = 1\npin_totp_at_level_2 = false\n{policy}\
             [office]\nlisten = '127.0.0.1:{office}'\norigin = '{console}'\ngateways = ['{NAME_OFFICE}']\n\
             idle_seconds = 600\nsession_seconds = 14400\n{tenants}",
            policy = self.policy,
            console = self.office_page(),
            tenant = self.tenant,
            issuers = self.ca.trust_anchors_file().display(),
        );
        let config = self.configure("sam", node, &settings);
        if !self.at("ceremony").exists() {
            let officers = self.at("officers.toml");
            let until = SystemClock.now().plus(90 * 24 * 3600).rfc3339();
            let one = |id: &str| {
                format!(
                    "[[officer]]\nid = '{id}'\nname = '{id}'\nidentity = 'card-{id}'\nuntil = '{until}'\n\
                     trained_at = '2026-01-15'\ntrained_until = '2036-01-15'\n"
                )
            };
            fs::write(&officers, OFFICERS.map(one).concat()).unwrap();
            let begun = run(self
                .program("natsuin-sam")
                .arg("--config")
                .arg(&config)
                .arg("init")
                .arg("--officers")
                .arg(&officers)
                .arg("--out")
                .arg(self.at("ceremony")));
            assert!(begun.status.success(), "{}", text(&begun));
        }
        config
    }

    /// What a signer's side reaches the SAM with, over this address.
    pub fn sic(&self, root: &jose::Jwk, page: &str, reached: &str, http: reqwest::Client) -> Sic {
        Sic {
            trust: Trust::new(vec![root.clone()], page).unwrap(),
            origin: reached.to_owned(),
            http,
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
        }
    }

    /// The registration authority invites a person: what it sends to the service, and what it hands to the person.
    pub fn invite(&self, ra: &Ra, person: &str) -> (String, Voucher) {
        invitation(ra, &self.tenant, person)
    }
}

pub fn invitation(ra: &Ra, tenant: &TenantId, person: &str) -> (String, Voucher) {
    let (jws, ticket) = handed_over(ra, asked(tenant, person));
    (jws, Voucher::parse(&ticket).unwrap())
}

/// What an authority says of whom it invites to a key of level 1.
pub fn asked(tenant: &TenantId, person: &str) -> Invitation {
    Invitation {
        tenant: tenant.clone(),
        person: PersonId::parse(person).unwrap(),
        subject: Subject {
            common_name: person.to_owned(),
            country: "JP".to_owned(),
            organization: None,
            serial_number: format!("TEST-{person}"),
        },
        assurance: "test".to_owned(),
        ceiling: Level::One,
        keys: vec![KeyAlg::P256],
        exp: SystemClock.now().plus(3600),
        replaces: None,
        collected: false,
        codes: None,
        notices: None,
        exportable: false,
        one_time: false,
    }
}

/// What the authority sends to the service, and the text that it hands to the person.
pub fn handed_over(ra: &Ra, invitation: Invitation) -> (String, SecretBytes) {
    let (jws, voucher, secret) = ra.invite(invitation).unwrap();
    let ticket = format!("{voucher}.{}", core_types::bytes::b64u(secret.expose()));
    (jws, SecretBytes::from(ticket))
}

/// Where a node of the SAM listens, and what it has to know.
pub struct SamPorts {
    pub module: u16,
    pub ssa: u16,
    pub gateway: u16,
    pub office: u16,
    /// Origin of the approval page.
    pub origin: String,
    /// Origin of the portal.
    pub home: String,
    /// Tables of other tenants, TOML.
    pub tenants: String,
}
