//! A stack with enrolled signers, and other people's programs.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::{Clock, KeyAlg};
use natsuin::agent::Agent;
use natsuin::stack::{
    Assurance, DevSigner, Device, NewFactors, NewSigner, Options, Stack, StoreChoice,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::site::first_port;

/// A running stack in a directory of its own, and a signer with one key and a passkey.
pub struct Story {
    pub dir: TempDir,
    pub stack: Stack,
    pub signer: DevSigner,
    pub device: Device,
    /// The signer's browser: one login for all files, since a one-time code counts once.
    pub agent: Agent,
}

impl Story {
    pub async fn begin(key: KeyAlg) -> Self {
        Self::on(key, StoreChoice::Embedded, false).await
    }

    pub async fn on(key: KeyAlg, store: StoreChoice, tls: bool) -> Self {
        Self::at(key, store, tls, Arc::new(SystemClock)).await
    }

    pub async fn at(key: KeyAlg, store: StoreChoice, tls: bool, clock: Arc<dyn Clock>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = options(&dir.path().join("data"), store, tls);
        Self::with(key, dir, &options, clock).await
    }

    /// At a provider that adds its counter-signature.
    pub async fn counter_signed(key: KeyAlg) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = counter_signing(&dir.path().join("data"));
        Self::with(key, dir, &options, Arc::new(SystemClock)).await
    }

    /// The same, stopped and started again.
    pub async fn counter_signed_again(self) -> Self {
        self.stack.stop().await;
        let options = counter_signing(&self.dir.path().join("data"));
        let stack = Stack::start(&options, &|_| {}).await.unwrap();
        Self { stack, ..self }
    }

    /// With an application that signs its requests.
    pub async fn of_signing_application(key: KeyAlg, store: StoreChoice) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            signed_requests: true,
            ..options(&dir.path().join("data"), store, false)
        };
        Self::with(key, dir, &options, Arc::new(SystemClock)).await
    }

    /// At a provider that is declared good for a level; `device` makes the signer's for its page.
    pub async fn assured(
        assurance: Assurance,
        store: StoreChoice,
        clock: Arc<dyn Clock>,
        device: impl FnOnce(&str) -> Device,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            assurance: Some(assurance),
            ..options(&dir.path().join("data"), store, false)
        };
        Self::by(KeyAlg::P256, dir, &options, clock, device).await
    }

    async fn with(
        key: KeyAlg,
        dir: tempfile::TempDir,
        options: &Options,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let device = |origin: &str| Device::new(origin, &SystemRandom).unwrap();
        Self::by(key, dir, options, clock, device).await
    }

    async fn by(
        key: KeyAlg,
        dir: tempfile::TempDir,
        options: &Options,
        clock: Arc<dyn Clock>,
        device: impl FnOnce(&str) -> Device,
    ) -> Self {
        let stack = Stack::start_at(options, clock, &|_| {}).await.unwrap();
        let mut device = device(&stack.sic_url);
        let new = NewSigner {
            login: "hanako",
            name: "髙橋 花子",
            keys: &[key],
            collected: false,
            exportable: false,
            one_time: false,
        };
        let signer = stack
            .enrol(&new, NewFactors::Passkey(&mut device))
            .await
            .unwrap()
            .shown;
        let agent = Agent::new(&stack);
        Self {
            dir,
            stack,
            signer,
            device,
            agent,
        }
    }

    /// Signs a file through the e-contract application, as its signer would.
    pub async fn sign(
        &mut self,
        file: &Path,
        name: &str,
    ) -> anyhow::Result<(PathBuf, serde_json::Value)> {
        let target = self.dir.path().join(name);
        let sign = natsuin::demo::sign(
            &self.stack,
            &mut self.agent,
            &self.signer,
            &mut self.device,
            file,
            &target,
        );
        let result = sign.await?;
        Ok((target, result))
    }

    pub fn anchors(&self) -> PathBuf {
        self.stack.ca.trust_anchors_file()
    }
}

pub async fn start(data: &Path, store: StoreChoice, tls: bool) -> Stack {
    let options = options(data, store, tls);
    Stack::start(&options, &|_| {}).await.unwrap()
}

fn counter_signing(data: &Path) -> Options {
    Options {
        counter_sign: true,
        ..options(data, StoreChoice::Embedded, false)
    }
}

fn options(data: &Path, store: StoreChoice, tls: bool) -> Options {
    Options {
        port: first_port(data),
        store,
        tls,
        load: true,
        ..Options::new(data.to_owned())
    }
}

pub fn natsuin() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_natsuin"));
    command.env("LC_ALL", "C");
    command
}

/// The same where no file can grow beyond so many KiB, as on a disk without room.
pub fn cramped(kib: u32) -> Command {
    let mut command = Command::new("bash");
    let script = format!("trap '' XFSZ; ulimit -f {kib}; exec \"$0\" \"$@\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_natsuin")]);
    command.env("LC_ALL", "C");
    command
}

/// The same as a user whose files nobody else can read.
pub fn private() -> Command {
    let mut command = Command::new("bash");
    let script = "umask 077; exec \"$0\" \"$@\"";
    command.args(["-c", script, env!("CARGO_BIN_EXE_natsuin")]);
    command.env("LC_ALL", "C");
    command
}

/// Sends a program a signal, by the shell's own `kill`: a bare machine has no program of that name.
pub fn signal(name: &str, pid: u32) {
    let sent = run(Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]));
    assert!(sent.status.success(), "{}", text(&sent));
}

/// Waits for what another task or program does; if nothing comes of it, says what was waited for.
pub async fn within<T>(what: &str, waited: impl Future<Output = T>) -> T {
    let longest = Duration::from_secs(180);
    match tokio::time::timeout(longest, waited).await {
        Ok(came) => came,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// The next thing that comes, for as long as [`within`] waits.
pub async fn next<T>(what: &str, from: &mut UnboundedReceiver<T>) -> T {
    within(what, from.recv()).await.unwrap()
}

/// Asks again and again until something holds, for as long as [`within`] waits; not as fast as the machine can, which others need.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    within(what, async {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        while !holds().await {
            ticks.tick().await;
        }
    })
    .await;
}

/// Runs a program that the tests need; a missing one is a failure that says how to get it.
pub fn run(command: &mut Command) -> Output {
    let name = command.get_program().to_string_lossy().into_owned();
    command.output().unwrap_or_else(|e| {
        panic!("{name} can't be run ({e}); `cargo xtask tools` installs what tests need")
    })
}

pub fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// The Python that has pyHanko.
pub fn python() -> PathBuf {
    if let Some(python) = std::env::var_os("NATSUIN_PYTHON") {
        return python.into();
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    target.join("test-tools/venv/bin/python")
}

/// The texts of an exported log, which has to be good.
pub fn entries(export: &Path, zone: &str) -> Vec<Value> {
    let dir = export.join(zone);
    let key = std::fs::read_to_string(dir.join("log.pub")).unwrap();
    let known = audit_verify::Known {
        key: key.trim(),
        ..audit_verify::Known::default()
    };
    let mut entries = Vec::new();
    let report = audit_verify::verify_each(&dir, known, |_, text| {
        entries.push(serde_json::from_str(text).unwrap());
    });
    let report = report.unwrap();
    assert!(report.ok, "{:?}", report.first_bad);
    entries
}

/// All files below a directory.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}
