//! A daemon with everything that its configuration names, and the SAM's side of the wire.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cm_api::rpc::{Empty, Execute, ImportKey, SelfTest, Statement, StatementRequest, Status};
use cm_api::{
    ExecuteRequest, Executed, KeyCreated, ModuleState, Order, OrderBody, OrderKind, Refusal,
    SignItem,
};
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::{
    B64, Clock as _, DestroyCause, Digest32, HashAlg, KeyAlg, Level, OriginCase, PersonId,
    Random as _, SecretBytes, SigAlg, TenantId, UnixTime, sha256,
};
use dev_ca::{DevCa, Urls};
use pkcs11_faults::control::{CONTROL, MODULE};
use pkcs11_faults::softhsm::{self, SoftHsm};
use service_kit::http::HttpOptions;
use service_kit::{CallError, Client, Identity};
use signed_config::{Manifest, TYP_SETTINGS, Zone};

pub const PIN: &str = "12345678";

/// Everything a daemon's configuration names.
pub struct Site {
    pub token: SoftHsm,
    pub ca: DevCa,
    pub port: u16,
    /// Further settings of the daemon.
    pub settings: String,
    /// Further settings of its log.
    pub audit: String,
    /// What it is told of its clock: by a time daemon which says that it is right, unless a test says otherwise.
    pub clock: String,
    /// Further arguments.
    pub args: Vec<String>,
    /// Who signs each configuration; nobody unless a test wants that.
    pub signers: Vec<jose::SigningKey>,
    /// How many were signed.
    signed: AtomicU64,
}

impl Site {
    pub fn new() -> Self {
        let token = SoftHsm::new().unwrap();
        let dir = token.path();
        let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
        let urls = Urls::under("http://127.0.0.1:1");
        let ca = DevCa::open(&dir.join("ca"), urls, clock, random).unwrap();
        let own = ca.service_cert("cm", &["cm.localhost"]).unwrap();
        fs::write(dir.join("chain.pem"), &own.chain_pem).unwrap();
        secret(&dir.join("key.pem"), own.key_pem.expose());
        fs::write(dir.join("ca.pem"), ca.internal_ca_pem()).unwrap();
        secret(&dir.join("root.key"), &[7; 32]);
        secret(&dir.join("log.key"), &[8; 32]);
        secret(&dir.join("pin"), PIN.as_bytes());
        let estimate = dir.join("clock");
        let clock = format!(
            "[clock]\nbound_ms = 1000000\nestimate = \"{}\"\n",
            estimate.display()
        );
        fs::write(estimate, estimated(0)).unwrap();
        Self {
            token,
            ca,
            port: port(),
            settings: String::new(),
            audit: String::new(),
            clock,
            args: Vec::new(),
            signers: Vec::new(),
            signed: AtomicU64::new(0),
        }
    }

    /// Two keys sign every configuration from here on.
    pub fn sign_settings(&mut self) {
        let keys = [0; 2].map(|_| jose::SigningKey::generate().unwrap().0);
        self.signers = keys.into();
    }

    fn sign(&self, config: &Path) {
        let files = service_kit::daemon::digests(config, cm_core::SIGNED_FILES, None).unwrap();
        let manifest = Manifest {
            v: 2,
            of: Zone::Cm.of("test/cm"),
            serial: 1 + self.signed.fetch_add(1, Ordering::Relaxed),
            reason: "a test".into(),
            exp: SystemClock.now().plus(600),
            need: 2,
            signers: self.signers.iter().map(|k| k.public().clone()).collect(),
            nodes: [("cm-1".to_owned(), files)].into(),
        };
        let bytes = manifest.bytes().unwrap();
        let sign = |key: &jose::SigningKey| key.sign(TYP_SETTINGS, &bytes).unwrap();
        let lines: Vec<String> = self.signers.iter().map(sign).collect();
        fs::write(config.with_added_extension("sig"), lines.join("\n")).unwrap();
    }

    pub fn daemon(&self, backend: &str) -> Command {
        self.configured("cm.toml", backend)
    }

    /// With the configuration in this file.
    fn configured(&self, file: &str, backend: &str) -> Command {
        let dir = self.token.path().display();
        let config = format!(
            r#"
listen = "127.0.0.1:{port}"
node = "cm-1"
sam = "sam.test"
caller = "sam.localhost"
store = "sqlite:{dir}/cm.db"
root_secret = "{dir}/root.key"
max_uses = 10
copies_kept_days = 30
key_cache_seconds = 0
{settings}
[backend]
{backend}
[tls]
chain = "{dir}/chain.pem"
key = "{dir}/key.pem"
ca = "{dir}/ca.pem"
[audit]
log = "test/cm"
key = "{dir}/log.key"
witness = "{dir}/witness.txt"
every_seconds = 10
{audit}
{clock}
"#,
            port = self.port,
            settings = self.settings,
            audit = self.audit,
            clock = self.clock
        );
        let path = self.token.path().join(file);
        fs::write(&path, config).unwrap();
        if !self.signers.is_empty() {
            self.sign(&path);
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_natsuin-cm"));
        command
            .arg("--config")
            .arg(path)
            .args(&self.args)
            .env("SOFTHSM2_CONF", self.token.path().join("softhsm2.conf"))
            .env(CONTROL, self.token.path().join("faults"))
            .env(MODULE, softhsm::Library::SoftHsm2.path().unwrap())
            .stderr(Stdio::piped());
        command
    }

    /// A token of SoftHSM2 with the label `natsuin`.
    pub fn make_token(&self) {
        self.make("natsuin");
    }

    /// A token of SoftHSM2 with this label.
    pub fn make(&self, label: &str) {
        let made = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", label, "--pin", PIN])
            .args(["--so-pin", "00000000"])
            .env("SOFTHSM2_CONF", self.token.path().join("softhsm2.conf"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
    }

    /// The table of a token with this label behind this library.
    pub fn pkcs11(&self, module: &Path, token: &str, more: &str) -> String {
        format!(
            "kind = \"pkcs11\"\nmodule = \"{}\"\ntoken = \"{token}\"\npin_file = \"{}\"\n{more}",
            module.display(),
            self.token.path().join("pin").display()
        )
    }

    /// What it says when it won't start, which starting again doesn't mend.
    pub fn refused(&self, backend: &str) -> String {
        self.ends(backend, 4)
    }

    /// What it says when it can't start now: the service manager tries again.
    pub fn away(&self, backend: &str) -> String {
        self.ends(backend, 75)
    }

    fn ends(&self, backend: &str, code: i32) -> String {
        let Output { status, stderr, .. } = self.daemon(backend).output().unwrap();
        let said = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(code), "{said}");
        assert!(!said.contains(PIN) && !said.contains("87654321"), "{said}");
        said
    }

    /// What a service with this name in its certificate reaches the daemon with.
    pub fn client(&self, name: &str) -> Client {
        let identity: Identity = self.ca.service_cert(name, &[name]).unwrap();
        let options = HttpOptions {
            ca_pem: Some(self.ca.internal_ca_pem()),
            identity: Some(identity),
            ..HttpOptions::default()
        };
        Client::new(format!("https://cm.localhost:{}", self.port), &options).unwrap()
    }

    /// Starts it and waits until it answers.
    pub async fn start(&self, backend: &str) -> (Running, Client, cm_api::Health) {
        let mut running = Running(self.daemon(backend).spawn().unwrap());
        let sam = self.client("sam.localhost");
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        let mut health = None;
        for _ in 0..1200 {
            ticks.tick().await;
            assert_eq!(running.0.try_wait().unwrap(), None, "it ended");
            if let Ok(answer) = sam.call::<Status>(&Empty {}).await {
                health = Some(answer);
                break;
            }
        }
        (running, sam, health.unwrap())
    }

    /// Starts it, asks it as the SAM and as another, and ends it in order.
    pub async fn works(&self, backend: &str, name: &str, ceiling: Level) {
        let (_running, sam, health) = self.start(backend).await;
        assert_eq!((health.backend.as_str(), health.ceiling), (name, ceiling));
        let tested = match self.settings.contains("administrator") {
            true => {
                // What is the administrator's isn't the SAM's.
                assert!(sam.call::<SelfTest>(&Empty {}).await.is_err());
                let administrator = self.client("admin.localhost");
                administrator.call::<SelfTest>(&Empty {}).await.unwrap()
            }
            false => sam.call::<SelfTest>(&Empty {}).await.unwrap(),
        };
        assert_eq!(tested.state, ModuleState::Operational);
        // Without TLS, and with TLS but without a certificate, nothing is answered.
        let mut plain = std::net::TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let get = b"POST /cm/v1/status HTTP/1.1\r\nhost: cm\r\ncontent-length: 2\r\n\r\n{}";
        std::io::Write::write_all(&mut plain, get).unwrap();
        let mut said = Vec::new();
        let _ = std::io::Read::read_to_end(&mut plain, &mut said);
        assert!(
            !said.starts_with(b"HTTP/1.1"),
            "{}",
            String::from_utf8_lossy(&said)
        );
        let anybody = HttpOptions {
            ca_pem: Some(self.ca.internal_ca_pem()),
            ..HttpOptions::default()
        };
        let url = format!("https://cm.localhost:{}", self.port);
        let anybody = Client::new(url, &anybody).unwrap();
        assert!(anybody.call::<Status>(&Empty {}).await.is_err());
        let stranger = self.client("ssa.localhost");
        assert!(stranger.call::<SelfTest>(&Empty {}).await.is_err());
    }
}

pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// What a time daemon says now of a clock that may be so many milliseconds off.
pub fn estimated(error_ms: u32) -> String {
    format!("{error_ms} {}\n", SystemClock.now().0)
}

pub fn secret(path: &Path, bytes: &[u8]) {
    use std::io::Write as _;
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .unwrap();
    file.write_all(bytes).unwrap();
}

/// The SAM's side of the wire.
pub struct SamSide {
    pub client: Client,
    pub act: jose::SigningKey,
    pub statement: String,
    pub root: jose::Jwk,
}

impl SamSide {
    /// The same SAM in every test of this process: the module lets no other one follow.
    pub async fn new(client: Client) -> Self {
        static ACT: OnceLock<SecretBytes> = OnceLock::new();
        let act = ACT.get_or_init(|| jose::SigningKey::generate().unwrap().1);
        let act = jose::SigningKey::from_pkcs8(act).unwrap();
        let (seal, _) = jose::SealKey::generate().unwrap();
        let now = SystemClock.now();
        let mut request = StatementRequest {
            sam: "sam.test".into(),
            epoch: Digest32([9; 32]),
            act: act.public().clone(),
            seal: seal.public().clone(),
            nbf: now,
            exp: now.plus(3600),
            endorsements: Vec::new(),
        };
        request.endorse(&act).unwrap();
        let statement = client.call::<Statement>(&request).await.unwrap().statement;
        let root = client
            .call::<cm_api::rpc::Root>(&Empty {})
            .await
            .unwrap()
            .root;
        Self {
            client,
            act,
            statement,
            root,
        }
    }

    pub async fn order(&self, kind: OrderKind) -> Executed {
        self.try_order(kind).await.unwrap()
    }

    /// A new key.
    pub async fn key(&self) -> KeyCreated {
        let Executed::Created(key) = self.order(generate(KeyAlg::P256)).await else {
            panic!("a key was ordered")
        };
        key
    }

    pub async fn try_order(&self, kind: OrderKind) -> Result<Executed, CallError<Refusal>> {
        let body = OrderBody {
            sam: "sam.test".into(),
            order: kind.name().unwrap_or_else(|| SystemRandom.digest32()),
            epoch: Digest32([9; 32]),
            exp: SystemClock.now().plus(30),
            kind,
        };
        let request = ExecuteRequest {
            statement: self.statement.clone(),
            order: Order::seal(&body, &self.act).unwrap(),
        };
        self.client.call::<Execute>(&request).await
    }

    /// A key whose private half this test knows, brought in as its signer would.
    pub async fn import(
        &self,
        pkcs8: &[u8],
        spki: &[u8],
        prove: impl Fn(&[u8]) -> Vec<u8>,
    ) -> KeyCreated {
        let told = self
            .client
            .call::<ImportKey>(&Empty {})
            .await
            .unwrap()
            .statement;
        let now: UnixTime = SystemClock.now();
        let to = sam_keys::import::ImportKey::verify(&told, std::slice::from_ref(&self.root), now)
            .unwrap();
        let (owner, act) = (PersonId::parse("hanako").unwrap(), Digest32([6; 32]));
        let bound =
            sam_keys::import::ImportedKey::binding("sam.test", &owner, act, sha256(&[spki]));
        let sent = sam_keys::import::ImportedKey {
            sam: "sam.test".into(),
            owner: owner.clone(),
            act,
            pkcs8: SecretBytes::new(pkcs8.to_vec()),
            spki: B64(spki.to_vec()),
            proof: B64(prove(&bound)),
        };
        let kind = OrderKind::Import {
            tenant: TenantId::parse("t").unwrap(),
            owner,
            level: Level::One,
            act,
            case: OriginCase::Signer,
            spki: sha256(&[spki]),
            envelope: sent.seal(&to, &SystemRandom).unwrap(),
        };
        match self.order(kind).await {
            Executed::Created(key) => key,
            other => panic!("a key was imported: {other:?}"),
        }
    }
}

impl Site {
    /// An administrator's command.
    pub fn command(&self, args: &[&str]) -> Output {
        self.with_backend("kind = \"software\"", args)
    }

    /// A command with a configuration of its own: that of the running daemon isn't touched, which watches it.
    pub fn aside(&self, args: &[&str]) -> Output {
        let mut command = self.configured("aside.toml", "kind = \"software\"");
        command.args(args).output().unwrap()
    }

    /// The same where the command uses the back end.
    pub fn with_backend(&self, backend: &str, args: &[&str]) -> Output {
        self.daemon(backend).args(args).output().unwrap()
    }

    /// Two officers make their keys; answers the settings that name them.
    pub fn officers(&self) -> String {
        let at = |name: String| self.token.path().join(name).display().to_string();
        for n in [1, 2] {
            let (key, public) = (at(format!("officer-{n}")), at(format!("officer-{n}.jwk")));
            self.done(&["officer-key", "--out", &key, "--public", &public]);
        }
        let [first, second] = [1, 2].map(|n| at(format!("officer-{n}.jwk")));
        format!("officers = [\"{first}\", \"{second}\"]\nadministrator = \"admin.localhost\"")
    }

    pub fn done(&self, args: &[&str]) -> String {
        let Output {
            status,
            stdout,
            stderr,
        } = self.command(args);
        assert!(
            status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&stderr)
        );
        String::from_utf8(stdout).unwrap()
    }
}

pub fn generate(alg: KeyAlg) -> OrderKind {
    OrderKind::Generate {
        tenant: TenantId::parse("t").unwrap(),
        owner: PersonId::parse("hanako").unwrap(),
        alg,
        level: Level::One,
        act: Digest32([1; 32]),
        exportable: false,
        one_time: false,
    }
}

pub const P256: SigAlg = SigAlg::Ecdsa(HashAlg::Sha256);

/// To sign `document`.
pub fn sign(key: &KeyCreated, alg: SigAlg, act: u8) -> OrderKind {
    OrderKind::Sign {
        key: key.key.clone(),
        version: 1,
        spki: sha256(&[&key.spki.0]),
        alg,
        items: vec![SignItem::of_message(0, alg, b"document")],
        act: Digest32([act; 32]),
        proof: Digest32([2; 32]),
        approved: SystemClock.now(),
        renewable: false,
        step: 0,
        attempt: 0,
        counter_sign: None,
    }
}

pub fn destroy(key: &KeyCreated) -> OrderKind {
    OrderKind::Destroy {
        key: key.key.clone(),
        version: 1,
        spki: sha256(&[&key.spki.0]),
        act: Digest32([3; 32]),
        cause: DestroyCause::Owner,
    }
}

/// Whether these bytes are in any file under this directory.
pub fn in_files(dir: &Path, needle: &[u8]) -> bool {
    fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return in_files(&path, needle);
        }
        let bytes = fs::read(&path).unwrap_or_default();
        bytes.windows(needle.len()).any(|w| w == needle)
    })
}

/// A port that stays free while the daemon is down: below those that the kernel gives to whoever asks for any.
fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = u16::try_from(std::process::id() % 1_000).unwrap();
    loop {
        let port = 15_000 + (own * 4 + NEXT.fetch_add(1, Ordering::Relaxed)) % 5_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
