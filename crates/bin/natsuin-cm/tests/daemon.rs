//! The daemon as operators start it: with each back end, and refusing to start with a token that can't be used.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use cm_api::ModuleState;
use cm_api::rpc::{Empty, SelfTest, Status};
use core_types::Level;
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use dev_ca::{DevCa, Urls};
use pkcs11_faults::softhsm::{self, SoftHsm};
use service_kit::http::HttpOptions;
use service_kit::{Client, Identity};

const PIN: &str = "12345678";

/// Everything a daemon's configuration names.
struct Site {
    token: SoftHsm,
    ca: DevCa,
    port: u16,
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
            port = self.port
        );
        let path = self.token.path().join("cm.toml");
        fs::write(&path, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_natsuin-cm"));
        command
            .arg("--config")
            .arg(path)
            .env("SOFTHSM2_CONF", self.token.path().join("softhsm2.conf"))
            .stderr(Stdio::piped());
        command
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

    /// Starts it, asks it as the SAM and as another, and ends it in order.
    async fn works(&self, backend: &str, name: &str, ceiling: Level) {
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
        let health = health.unwrap();
        assert_eq!((health.backend.as_str(), health.ceiling), (name, ceiling));
        let tested = sam.call::<SelfTest>(&Empty {}).await.unwrap();
        assert_eq!(tested.state, ModuleState::Operational);
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
#[tokio::test]
async fn the_software_back_end_starts_and_answers_the_sam_only() {
    let site = Site::new();
    site.works("kind = \"software\"", "software", Level::One)
        .await;
}

// shows: III-3-13-secure-state, III-3-4-authenticate-administrator
#[tokio::test]
async fn a_token_is_used_as_configured_or_nothing_starts() {
    let Some(module) = softhsm::library() else {
        println!("SoftHSM2 isn't installed (`cargo xtask tools` does it); not run on PKCS#11");
        return;
    };
    let site = Site::new();
    let made = Command::new("softhsm2-util")
        .args(["--init-token", "--free", "--label", "natsuin", "--pin", PIN])
        .args(["--so-pin", "00000000"])
        .env("SOFTHSM2_CONF", site.token.path().join("softhsm2.conf"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let pin = site.token.path().join("pin");
    let config = |module: &Path, token: &str, more: &str| {
        format!(
            "kind = \"pkcs11\"\nmodule = \"{}\"\ntoken = \"{token}\"\npin_file = \"{}\"\n{more}",
            module.display(),
            pin.display()
        )
    };
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
}
