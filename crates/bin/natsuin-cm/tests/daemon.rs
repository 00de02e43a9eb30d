//! The daemon as operators start it: with each back end, and refusing to start with a token that can't be used.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
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

const PIN: &str = "12345678";

/// Everything a daemon's configuration names.
struct Site {
    token: SoftHsm,
    ca: DevCa,
    port: u16,
    /// Further settings of the daemon.
    settings: String,
}

impl Site {
    fn new() -> Self {
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
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        Self {
            token,
            ca,
            port: port.port(),
            settings: String::new(),
        }
    }

    fn daemon(&self, backend: &str) -> Command {
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
"#,
            port = self.port,
            settings = self.settings
        );
        let path = self.token.path().join("cm.toml");
        fs::write(&path, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_natsuin-cm"));
        command
            .arg("--config")
            .arg(path)
            .env("SOFTHSM2_CONF", self.token.path().join("softhsm2.conf"))
            .env(CONTROL, self.token.path().join("faults"))
            .env(MODULE, softhsm::Library::SoftHsm2.path().unwrap())
            .stderr(Stdio::piped());
        command
    }

    /// A token of SoftHSM2 with the label `natsuin`.
    fn make_token(&self) {
        let made = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", "natsuin", "--pin", PIN])
            .args(["--so-pin", "00000000"])
            .env("SOFTHSM2_CONF", self.token.path().join("softhsm2.conf"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
    }

    /// The table of a token with this label behind this library.
    fn pkcs11(&self, module: &Path, token: &str, more: &str) -> String {
        format!(
            "kind = \"pkcs11\"\nmodule = \"{}\"\ntoken = \"{token}\"\npin_file = \"{}\"\n{more}",
            module.display(),
            self.token.path().join("pin").display()
        )
    }

    fn refused(&self, backend: &str) -> String {
        let Output { status, stderr, .. } = self.daemon(backend).output().unwrap();
        let said = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(4), "{said}");
        assert!(!said.contains(PIN) && !said.contains("87654321"), "{said}");
        said
    }

    /// What a service with this name in its certificate reaches the daemon with.
    fn client(&self, name: &str) -> Client {
        let identity: Identity = self.ca.service_cert(name, &[name]).unwrap();
        let options = HttpOptions {
            ca_pem: Some(self.ca.internal_ca_pem()),
            identity: Some(identity),
            ..HttpOptions::default()
        };
        Client::new(format!("https://cm.localhost:{}", self.port), &options).unwrap()
    }

    /// Starts it and waits until it answers.
    async fn start(&self, backend: &str) -> (Running, Client, cm_api::Health) {
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
    async fn works(&self, backend: &str, name: &str, ceiling: Level) {
        let (_running, sam, health) = self.start(backend).await;
        assert_eq!((health.backend.as_str(), health.ceiling), (name, ceiling));
        let tested = sam.call::<SelfTest>(&Empty {}).await.unwrap();
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

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn secret(path: &Path, bytes: &[u8]) {
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

// shows: III-3-4-authenticate-application, III-3-7-confidential-channel, III-3-8-integrity-channel
// shows: III-A1.2-import-secure-channel, III-A1.5-export-secure-channel, T-KEY-DATA-DISCLOSE
#[tokio::test]
async fn the_software_back_end_starts_and_answers_the_sam_only() {
    let site = Site::new();
    site.works("kind = \"software\"", "software", Level::One)
        .await;
}

// shows: III-3-13-secure-state, III-3-4-authenticate-administrator, III-3-14-audit-records
// shows: III-3-7-confidential-channel, T-KEY-DATA-DISCLOSE
#[tokio::test]
async fn a_token_is_used_as_configured_or_nothing_starts() {
    let module = softhsm::Library::SoftHsm2.path().unwrap();
    let site = Site::new();
    site.make_token();
    let pin = site.token.path().join("pin");
    let config = |module: &Path, token: &str, more: &str| site.pkcs11(module, token, more);
    let absent = site.refused(&config(Path::new("/nonexistent.so"), "natsuin", ""));
    assert!(
        absent.contains("/nonexistent.so") && absent.contains("pkcs11"),
        "{absent}"
    );
    let other = site.refused(&config(&module, "another", ""));
    assert!(other.contains("\"another\""), "{other}");
    let undeclared = site.refused(&config(&module, "natsuin", "declared_level = 2"));
    assert!(undeclared.contains("declaration"), "{undeclared}");
    site.refused("kind = \"hsm\"");
    site.refused("kind = \"software\"\npin_file = \"/p\"");
    secret(&pin, b"87654321");
    let wrong = site.refused(&config(&module, "natsuin", ""));
    assert!(wrong.contains("login"), "{wrong}");
    secret(&pin, PIN.as_bytes());
    fs::set_permissions(&pin, fs::Permissions::from_mode(0o644)).unwrap();
    let open = site.refused(&config(&module, "natsuin", ""));
    assert!(open.contains("others may read"), "{open}");
    fs::set_permissions(&pin, fs::Permissions::from_mode(0o600)).unwrap();
    // A token of software can't be what a certificate names.
    let certified = "declared_level = 2\ndeclaration = \"certificate of a test\"";
    let contradicted = site.refused(&config(&module, "natsuin", certified));
    assert!(contradicted.contains("I-3.5.1-keygen-L2"), "{contradicted}");
    let declared = "declared_level = 2\ndeclaration = \"test, not evaluated\"";
    let right = config(&module, "natsuin", declared);
    site.works(&right, "pkcs11", Level::Two).await;

    // A module that has a log says in it why it doesn't start.
    site.refused(&config(Path::new("/nonexistent.so"), "natsuin", ""));
    site.refused(&config(&module, "another", ""));
    site.refused(&config(&module, "natsuin", certified));
    site.refused(&config(&module, "natsuin", "sessions = 0"));
    secret(&pin, b"87654321");
    site.refused(&config(&module, "natsuin", ""));
    let log = site.token.path().join("log");
    site.done(&["export-log", "--out", &log.display().to_string()]);
    for what in ["library", "token", "contradiction", "settings", "login"] {
        let what = format!("cm-start-{what}");
        assert!(in_files(&log, what.as_bytes()), "{what}");
    }
    // Without its root secret, or with another one, there is no log to write to, and nothing starts either.
    let root = site.token.path().join("root.key");
    secret(&root, &[9; 32]);
    let other = site.refused("kind = \"software\"");
    assert!(other.contains("doesn't open this store"), "{other}");
    fs::remove_file(&root).unwrap();
    let none = site.refused("kind = \"software\"");
    assert!(none.contains("root.key"), "{none}");
}

/// The SAM's side of the wire.
struct SamSide {
    client: Client,
    act: jose::SigningKey,
    statement: String,
    root: jose::Jwk,
}

impl SamSide {
    async fn new(client: Client) -> Self {
        let (act, _) = jose::SigningKey::generate().unwrap();
        let (seal, _) = jose::SealKey::generate().unwrap();
        let now = SystemClock.now();
        let request = StatementRequest {
            sam: "sam.test".into(),
            epoch: Digest32([9; 32]),
            act: act.public().clone(),
            seal: seal.public().clone(),
            nbf: now,
            exp: now.plus(3600),
        };
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

    async fn order(&self, kind: OrderKind) -> Executed {
        self.try_order(kind).await.unwrap()
    }

    async fn try_order(&self, kind: OrderKind) -> Result<Executed, CallError<Refusal>> {
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
    async fn import(
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

/// Whether these bytes are anywhere in the memory of the process.
fn in_memory(pid: u32, needle: &[u8]) -> bool {
    use std::os::unix::fs::FileExt as _;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut found = false;
    for line in maps.lines().filter(|l| l.contains(" rw")) {
        let range = line.split(' ').next().unwrap();
        let (from, to) = range.split_once('-').unwrap();
        let (from, to) = (
            u64::from_str_radix(from, 16).unwrap(),
            u64::from_str_radix(to, 16).unwrap(),
        );
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        let read = memory.read_at(&mut bytes, from).unwrap_or(0);
        found |= bytes[..read].windows(needle.len()).any(|w| w == needle);
    }
    found
}

/// Whether these bytes are in any file under this directory.
fn in_files(dir: &Path, needle: &[u8]) -> bool {
    fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return in_files(&path, needle);
        }
        let bytes = fs::read(&path).unwrap_or_default();
        bytes.windows(needle.len()).any(|w| w == needle)
    })
}

// shows: III-3-1-no-plaintext-private-key, III-A1.4-intermediate-values, III-A1.4.1-protect-use-disclosure, T-KEY-DISCLOSE,
// I-7.1.3.2-residual-information, I-A4-secure-erasure
#[tokio::test]
async fn no_private_key_is_in_memory_files_or_logs_after_use_and_after_its_end() {
    let site = Site::new();
    let (mut running, client, _) = site.start("kind = \"software\"").await;
    let sam = SamSide::new(client).await;
    // Elliptic: the scalar, as PKCS#8 has it and as the library keeps it. RSA: one prime.
    let p256 = SigAlg::Ecdsa(HashAlg::Sha256);
    let made = aws_lc_rs::signature::EcdsaKeyPair::generate(
        &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1_SIGNING,
    )
    .unwrap();
    let pkcs8 = made.to_pkcs8v1().unwrap();
    let pkcs8 = pkcs8.as_ref().to_vec();
    let spki = {
        use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
        use aws_lc_rs::signature::KeyPair as _;
        let der: PublicKeyX509Der<'_> = made.public_key().as_der().unwrap();
        der.as_ref().to_vec()
    };
    let at = pkcs8.windows(2).position(|w| w == [0x04, 0x20]).unwrap() + 2;
    let scalar = pkcs8[at..at + 32].to_vec();
    let reversed: Vec<u8> = scalar.iter().rev().copied().collect();
    let sign = |message: &[u8]| {
        let random = aws_lc_rs::rand::SystemRandom::new();
        made.sign(&random, message).unwrap().as_ref().to_vec()
    };
    let key = sam.import(&pkcs8, &spki, sign).await;
    let mut needles = vec![
        ("scalar", scalar),
        ("scalar, little endian", reversed),
        ("PKCS#8", pkcs8[pkcs8.len() - 120..].to_vec()),
        (
            "PKCS#8 as text",
            core_types::bytes::b64u(&pkcs8).into_bytes()[40..160].to_vec(),
        ),
    ];
    let clear = |needles: &[(&str, Vec<u8>)], pid: u32, when: &str| {
        for (what, needle) in needles {
            assert!(!in_memory(pid, needle), "{what} in memory {when}");
            assert!(
                !in_files(site.token.path(), needle),
                "{what} in a file {when}"
            );
        }
    };
    let pid = running.0.id();
    // The search itself finds what is there: the module's name in its settings.
    assert!(in_memory(pid, b"sam.test"));
    clear(&needles, pid, "after import");
    let kind = OrderKind::Sign {
        key: key.key.clone(),
        version: 1,
        spki: sha256(&[&key.spki.0]),
        alg: p256,
        items: vec![SignItem::of_message(0, p256, b"document")],
        act: Digest32([1; 32]),
        proof: Digest32([2; 32]),
        approved: SystemClock.now(),
        renewable: false,
        step: 0,
        attempt: 0,
        counter_sign: None,
    };
    let Executed::Signed(values) = sam.order(kind).await else {
        panic!("a signature was ordered")
    };
    let signed = pki::Signed::Message(b"document");
    pki::verify_signature(&key.spki.0, p256, signed, &values[0].0).unwrap();
    clear(&needles, pid, "after signing");
    // An RSA key too: one of its primes, as PKCS#8 has it and as the library keeps it.
    let rsa = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let (pkcs8, spki) = {
        use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
        use aws_lc_rs::signature::KeyPair as _;
        let pkcs8: Pkcs8V1Der<'_> = rsa.as_der().unwrap();
        let spki: PublicKeyX509Der<'_> = rsa.public_key().as_der().unwrap();
        (pkcs8.as_ref().to_vec(), spki.as_ref().to_vec())
    };
    let prime = {
        use pki::asn1::{INTEGER, OCTET_STRING, SEQUENCE, Tlv};
        let what = "key";
        let mut info = Tlv::single(&pkcs8, what)
            .unwrap()
            .open(SEQUENCE, what)
            .unwrap();
        info.expect(INTEGER, what).unwrap();
        info.expect(SEQUENCE, what).unwrap();
        let inner = info.expect(OCTET_STRING, what).unwrap().value;
        let mut key = Tlv::single(inner, what)
            .unwrap()
            .open(SEQUENCE, what)
            .unwrap();
        let mut numbers = (0..5).map(|_| {
            let number = key.expect(INTEGER, what).unwrap();
            number.as_uint(what).unwrap().to_vec()
        });
        numbers.nth(4).unwrap()
    };
    assert_eq!(prime.len(), 128);
    let sign = |message: &[u8]| {
        let random = aws_lc_rs::rand::SystemRandom::new();
        let mut value = vec![0; 256];
        let padding = &aws_lc_rs::signature::RSA_PKCS1_SHA256;
        rsa.sign(padding, &random, message, &mut value).unwrap();
        value
    };
    let other = sam.import(&pkcs8, &spki, sign).await;
    needles.push(("prime", prime.clone()));
    needles.push(("prime, little endian", prime.into_iter().rev().collect()));
    let pkcs1 = SigAlg::RsaPkcs1(HashAlg::Sha256);
    let kind = OrderKind::Sign {
        key: other.key.clone(),
        version: 1,
        spki: sha256(&[&other.spki.0]),
        alg: pkcs1,
        items: vec![SignItem::of_message(0, pkcs1, b"document")],
        act: Digest32([5; 32]),
        proof: Digest32([2; 32]),
        approved: SystemClock.now(),
        renewable: false,
        step: 0,
        attempt: 0,
        counter_sign: None,
    };
    assert!(matches!(sam.order(kind).await, Executed::Signed(_)));
    clear(&needles, pid, "after signing with RSA");

    // Backups and exported logs, made while the keys live and after their end.
    let kept = |name: &str, needles: &[(&str, Vec<u8>)]| {
        let [backup, log] = ["backup", "log"].map(|of| {
            let path = site.token.path().join(format!("{of}-{name}"));
            path.display().to_string()
        });
        site.done(&["backup", "--out", &backup]);
        site.done(&["export-log", "--out", &log]);
        for (what, needle) in needles {
            let found = in_files(site.token.path(), needle);
            assert!(!found, "{what} in a backup or log, {name}");
        }
    };
    let silent = |running: &mut Running, needles: &[(&str, Vec<u8>)]| {
        running.0.kill().unwrap();
        running.0.wait().unwrap();
        let mut said = String::new();
        std::io::Read::read_to_string(&mut running.0.stderr.take().unwrap(), &mut said).unwrap();
        for (what, needle) in needles {
            let found = said.as_bytes().windows(needle.len()).any(|w| w == needle);
            assert!(!found, "{what} in what it printed");
        }
    };
    silent(&mut running, &needles);
    kept("alive", &needles);

    let (mut running, client, _) = site.start("kind = \"software\"").await;
    let sam = SamSide::new(client).await;
    for key in [&key, &other] {
        let kind = OrderKind::Destroy {
            key: key.key.clone(),
            version: 1,
            spki: sha256(&[&key.spki.0]),
            act: Digest32([3; 32]),
            cause: DestroyCause::Owner,
        };
        assert!(matches!(sam.order(kind).await, Executed::Destroyed(_)));
    }
    clear(&needles, running.0.id(), "after destruction");
    silent(&mut running, &needles);
    kept("destroyed", &needles);
}

impl Site {
    /// An administrator's command.
    fn command(&self, args: &[&str]) -> Output {
        let mut command = self.daemon("kind = \"software\"");
        command.args(args).output().unwrap()
    }

    /// Two officers make their keys; answers the settings that name them.
    fn officers(&self) -> String {
        let at = |name: String| self.token.path().join(name).display().to_string();
        for n in [1, 2] {
            let (key, public) = (at(format!("officer-{n}")), at(format!("officer-{n}.jwk")));
            self.done(&["officer-key", "--out", &key, "--public", &public]);
        }
        let [first, second] = [1, 2].map(|n| at(format!("officer-{n}.jwk")));
        format!("officers = [\"{first}\", \"{second}\"]\nadministrator = \"admin.localhost\"")
    }

    fn done(&self, args: &[&str]) -> String {
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

// shows: III-3-10-backup, I-7.1.7.2-privileged-restore, III-A1.4.1-protect-change-loss, T-INS-OPERATOR
#[tokio::test]
async fn a_module_comes_back_on_another_machine_with_two_persons_shares() {
    let mut site = Site::new();
    let dir = site.token.path().to_owned();
    let at = |name: &str| dir.join(name).display().to_string();
    site.settings = site.officers();
    let (running, client, _) = site.start("kind = \"software\"").await;
    let sam = SamSide::new(client).await;
    let generate = || OrderKind::Generate {
        tenant: TenantId::parse("t").unwrap(),
        owner: PersonId::parse("hanako").unwrap(),
        alg: KeyAlg::P256,
        level: Level::One,
        act: Digest32([1; 32]),
        exportable: false,
        one_time: false,
    };
    let mut keys = Vec::new();
    for _ in 0..2 {
        let Executed::Created(key) = sam.order(generate()).await else {
            panic!("a key was ordered")
        };
        keys.push(key);
    }
    drop(running);
    let shares = at("shares");
    site.done(&["ceremony", "--out", &shares, "--need", "2", "--of", "3"]);
    let made = site.done(&["backup", "--out", &at("backup")]);
    let backup = made.trim().rsplit(' ').next().unwrap().to_owned();
    let whole = site.done(&["check-backup", "--from", &at("backup")]);
    assert!(whole.contains("2 keys"), "{whole}");
    assert!(site.done(&["scrub"]).contains("2 keys agree"));
    // One of them ends after the backup.
    let (running, client, _) = site.start("kind = \"software\"").await;
    let sam = SamSide::new(client).await;
    let root = sam.root.clone();
    let end = OrderKind::Destroy {
        key: keys[1].key.clone(),
        version: 1,
        spki: sha256(&[&keys[1].spki.0]),
        act: Digest32([3; 32]),
        cause: DestroyCause::Owner,
    };
    sam.order(end).await;
    drop(running);
    site.done(&["export-log", "--out", &at("log")]);
    fs::copy(dir.join("log/log.pub"), dir.join("log-key")).unwrap();
    fs::copy(dir.join("witness.txt"), dir.join("old-witness")).unwrap();

    // Another machine: no store, no root secret, a log of its own.
    for gone in ["cm.db", "cm.db-wal", "cm.db-shm", "root.key", "witness.txt"] {
        let _ = fs::remove_file(dir.join(gone));
    }
    fs::write(at("root.jwk"), serde_json::to_vec(&root).unwrap()).unwrap();
    let target = site.done(&["restore-target"]);
    let exp = SystemClock.now().plus(600).0.to_string();
    for n in ["1", "2"] {
        let (key, root) = (at(&format!("officer-{n}")), at("root.jwk"));
        let approval = site.done(&[
            "approve-restore",
            "--key",
            &key,
            "--root",
            &root,
            "--backup",
            &backup,
            "--target",
            target.trim(),
            "--exp",
            &exp,
        ]);
        fs::write(at(&format!("approval-{n}")), approval).unwrap();
    }
    // The officers of the backup count, not those of the configuration.
    site.settings = String::new();
    let share = |n: u8| format!("{shares}/share-{n}.txt");
    let restore = |given: &[String], approvals: &[&str]| {
        let mut args = vec!["restore".to_owned(), "--from".into(), at("backup")];
        for share in given {
            args.extend(["--share".to_owned(), share.clone()]);
        }
        args.extend(["--log".into(), at("log"), "--log-key".into(), at("log-key")]);
        args.extend(["--witness".into(), at("old-witness")]);
        for approval in approvals {
            args.extend(["--approval".into(), at(&format!("approval-{approval}"))]);
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        site.command(&args)
    };
    for (few, approvals) in [
        (&[share(1)][..], &["1", "2"][..]),
        (&[share(1), share(1)], &["1", "2"]),
        (&[share(1), share(3)], &["1", "1"]),
        (&[share(1), share(3)], &[]),
    ] {
        let refused = restore(few, approvals);
        assert_eq!(refused.status.code(), Some(4));
        assert!(!dir.join("root.key").exists(), "nothing came of it");
    }
    let done = restore(&[share(3), share(1)], &["1", "2"]);
    let said = String::from_utf8(done.stdout).unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(said.contains("1 keys are usable again"), "{said}");
    assert!(
        said.contains(keys[1].key.as_str()) && said.contains("destroyed"),
        "{said}"
    );
    let (_running, client, _) = site.start("kind = \"software\"").await;
    let sam = SamSide::new(client).await;
    assert_eq!(sam.root.kid(), root.kid(), "the same module");
    let p256 = SigAlg::Ecdsa(HashAlg::Sha256);
    let kind = OrderKind::Sign {
        key: keys[0].key.clone(),
        version: 1,
        spki: sha256(&[&keys[0].spki.0]),
        alg: p256,
        items: vec![SignItem::of_message(0, p256, b"document")],
        act: Digest32([1; 32]),
        proof: Digest32([2; 32]),
        approved: SystemClock.now(),
        renewable: false,
        step: 0,
        attempt: 0,
        counter_sign: None,
    };
    assert!(matches!(sam.order(kind).await, Executed::Signed(_)));
}

// shows: III-3-12-protect-security-functions, T-KEY-DISCLOSE
#[tokio::test]
async fn its_memory_goes_to_no_file() {
    let mut site = Site::new();
    site.settings = "lock_memory = true".to_owned();
    let of = |pid: &str, file: &str, line: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
        let found = text.lines().find(|l| l.starts_with(line)).unwrap();
        let words = found[line.len()..].split_whitespace();
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    // Whoever may lock little memory isn't served with less protection than what is configured.
    let all = of("self", "limits", "Max locked memory")[1] == "unlimited"
        || of("self", "status", "Uid:")[1] == "0";
    if !all {
        let refused = site.refused("kind = \"software\"");
        assert!(refused.contains("LimitMEMLOCK"), "{refused}");
        return;
    }
    let (running, ..) = site.start("kind = \"software\"").await;
    let pid = running.0.id().to_string();
    assert_eq!(of(&pid, "limits", "Max core file size")[..2], ["0", "0"]);
    let [locked, resident] =
        ["VmLck:", "VmRSS:"].map(|line| of(&pid, "status", line)[0].parse::<u64>().unwrap());
    assert!(
        locked >= resident && resident > 0,
        "{locked} of {resident} kB"
    );
    drop(running);
    site.settings = String::new();
    let (running, ..) = site.start("kind = \"software\"").await;
    let pid = running.0.id().to_string();
    assert_eq!(of(&pid, "limits", "Max core file size")[..2], ["0", "0"]);
    assert_eq!(of(&pid, "status", "VmLck:")[0], "0", "only on demand");
}

// shows: III-A1.4.2-dual-control, III-3-4-authenticate-administrator
#[tokio::test]
async fn two_officers_have_keys_of_the_provider_made_and_ended() {
    let mut site = Site::new();
    let dir = site.token.path().to_owned();
    let at = |name: &str| dir.join(name).display().to_string();
    site.settings = site.officers();
    let own = site.ca.service_cert("admin", &["admin.localhost"]).unwrap();
    fs::write(at("admin.pem"), &own.chain_pem).unwrap();
    secret(Path::new(&at("admin.key")), own.key_pem.expose());
    let (_running, client, _) = site.start("kind = \"software\"").await;
    let root = client.call::<cm_api::rpc::Root>(&Empty {}).await.unwrap();
    fs::write(at("root.jwk"), serde_json::to_vec(&root.root).unwrap()).unwrap();
    let now = SystemClock.now();
    let (exp, end) = (now.plus(600).0.to_string(), now.plus(86_400).0.to_string());
    let approve = |officer: &str, what: &[&str]| {
        let (key, root) = (at(&format!("officer-{officer}")), at("root.jwk"));
        let mut args = vec!["approve-key", "--key", &key, "--root", &root, "--exp", &exp];
        args.extend(what);
        fs::write(at(&format!("approval-{officer}")), site.done(&args)).unwrap();
    };
    let url = format!("https://cm.localhost:{}", site.port);
    let hold = |approvals: &[&str], more: &[&str]| {
        let (chain, key) = (at("admin.pem"), at("admin.key"));
        let paths: Vec<_> = approvals
            .iter()
            .map(|a| at(&format!("approval-{a}")))
            .collect();
        let mut args = vec![
            "hold-ceremony",
            "--url",
            &url,
            "--chain",
            &chain,
            "--key",
            &key,
        ];
        for path in &paths {
            args.extend(["--approval", path]);
        }
        args.extend(more);
        site.command(&args)
    };
    let seal = [
        "seal",
        "--alg",
        "p-256",
        "--level",
        "1",
        "--country",
        "JP",
        "--organization",
        "Natsuin",
        "--name",
        "Remote signing",
        "--not-after",
        &end,
    ];
    approve("1", &seal);
    approve("2", &seal);
    let alone = hold(&["1"], &[]);
    assert_eq!(alone.status.code(), Some(4));
    assert_eq!(hold(&["1", "1"], &[]).status.code(), Some(4));
    let made = hold(&["1", "2"], &["--request", &at("seal.csr")]);
    let said = String::from_utf8(made.stdout).unwrap();
    assert!(made.status.success() && said.contains("was made"), "{said}");
    let pem = fs::read_to_string(at("seal.csr")).unwrap();
    let der = pki::pem::decode_all("CERTIFICATE REQUEST", &pem).unwrap();
    let csr = pki::csr::Csr::verify(&der[0]).unwrap();
    let spki = sha256(&[&csr.spki]).to_string();
    assert!(said.contains(&spki), "{said}");
    assert_eq!(hold(&["1", "2"], &[]).status.code(), Some(4), "once");
    let log = [
        "log",
        "--origin",
        "test/sam",
        "--level",
        "1",
        "--not-after",
        &end,
    ];
    approve("1", &log);
    approve("2", &log);
    let made = hold(&["2", "1"], &[]);
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let key = said.split(' ').nth(1).unwrap();
    let destroy = ["destroy", "--id", key, "--spki", &spki];
    approve("1", &destroy);
    approve("2", &destroy);
    let ended = hold(&["1", "2"], &[]);
    let said = String::from_utf8(ended.stdout).unwrap();
    assert!(said.contains("unrecoverable after"), "{said}");
}

fn generate() -> OrderKind {
    OrderKind::Generate {
        tenant: TenantId::parse("t").unwrap(),
        owner: PersonId::parse("hanako").unwrap(),
        alg: KeyAlg::P256,
        level: Level::One,
        act: Digest32([1; 32]),
        exportable: false,
        one_time: false,
    }
}

fn sign(key: &KeyCreated, act: u8) -> OrderKind {
    let p256 = SigAlg::Ecdsa(HashAlg::Sha256);
    OrderKind::Sign {
        key: key.key.clone(),
        version: 1,
        spki: sha256(&[&key.spki.0]),
        alg: p256,
        items: vec![SignItem::of_message(0, p256, b"document")],
        act: Digest32([act; 32]),
        proof: Digest32([2; 32]),
        approved: SystemClock.now(),
        renewable: false,
        step: 0,
        attempt: 0,
        counter_sign: None,
    }
}

// shows: T-KEY-MALFUNCTION, T-KEY-ABUSE, T-USE-SAP-REPLAY
#[tokio::test]
async fn a_crash_of_the_library_costs_a_restart_and_gives_no_second_value() {
    let site = Site::new();
    site.make_token();
    let faults = site.token.path().join("faults");
    let backend = site.pkcs11(&softhsm::faulty().unwrap(), "natsuin", "");
    let (mut running, client, _) = site.start(&backend).await;
    let sam = SamSide::new(client).await;
    let Executed::Created(key) = sam.order(generate()).await else {
        panic!("a key was ordered")
    };
    assert!(matches!(
        sam.order(sign(&key, 1)).await,
        Executed::Signed(_)
    ));
    fs::write(&faults, "C_Sign crash 1").unwrap();
    let lost = sam.try_order(sign(&key, 2)).await;
    assert!(
        !matches!(lost, Ok(_) | Err(CallError::Refused(_))),
        "nobody knows: {lost:?}"
    );
    assert!(!running.0.wait().unwrap().success());
    fs::write(&faults, "").unwrap();
    // As the service manager would.
    let (_again, client, health) = site.start(&backend).await;
    assert_eq!(health.state, ModuleState::Operational);
    let sam = SamSide::new(client).await;
    let spent = sam.try_order(sign(&key, 2)).await;
    assert!(
        matches!(spent, Err(CallError::Refused(Refusal::Duplicate))),
        "{spent:?}"
    );
    assert!(matches!(
        sam.order(sign(&key, 3)).await,
        Executed::Signed(_)
    ));
}

// shows: III-3-4-authenticate-application, III-3-7-confidential-channel, T-KEY-DATA-DISCLOSE
#[tokio::test]
async fn the_daemon_with_a_kryoptic_token_answers_the_sam_only() {
    let Some(library) = softhsm::childs_library() else {
        let test = "the_daemon_with_a_kryoptic_token_answers_the_sam_only";
        return softhsm::must_pass(test, softhsm::Library::Kryoptic);
    };
    let site = Site::new();
    let module = library.path().unwrap();
    let options = cm_pkcs11::Options {
        module: module.clone(),
        label: "natsuin".to_owned(),
        pin: SecretBytes::from(PIN.to_owned()),
        declaration: None,
    };
    cm_pkcs11::Pkcs11Backend::initialise(&options).unwrap();
    let backend = site.pkcs11(&module, "natsuin", "");
    site.works(&backend, "pkcs11", Level::One).await;
}
