//! `natsuin demo`: starts everything, enrols a signer, has files signed through the real HTTP flow of basic model 1,
//! verifies them and shows Table A-1.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context as _, bail};
use core_types::KeyAlg;
use core_types::random::SystemRandom;
use reqwest::{Method, Url};
use serde_json::{Value, json};
use tokio_util::io::ReaderStream;
use web_ui::Arg;

use crate::agent::Agent;
use crate::output::{self, Exit, Failure, Out, table_a1};
use crate::sample;
use crate::stack::{
    DevCredential, DevSigner, Device, Factors, NewFactors, NewSigner, Options, Stack,
};
use crate::verify;

/// What is read from or written to a file at once, in bytes.
const PIECE: usize = 1 << 20;

/// How the demonstration runs.
pub struct Demo {
    /// Files to sign; none: the sample contract.
    pub files: Vec<PathBuf>,
    /// Where signed files go.
    pub out_dir: PathBuf,
    /// PKCS#11 module for the signer's key.
    pub pkcs11: Option<PathBuf>,
    /// The provider adds its counter-signature.
    pub counter_sign: bool,
}

/// Runs the demonstration.
///
/// # Errors
/// [`Failure`] when something can't start; what is wrong with a file shows in its result.
pub async fn run(demo: Demo, out: Out) -> Result<Exit, Failure> {
    let m = out.m();
    let version = Arg::Own(env!("CARGO_PKG_VERSION"));
    out.note(&m.f("cli-demo-title", &[("version", version)]));
    std::fs::create_dir_all(&demo.out_dir).map_err(|e| {
        let what = format!("{} can't be made: {e}", demo.out_dir.display());
        Failure::new(
            Exit::Input,
            "out-dir",
            what,
            "name a directory that this program may write, with --out",
        )
    })?;
    let data = tempfile::Builder::new()
        .prefix("natsuin-demo-")
        .tempdir()
        .map_err(|e| {
            Failure::new(
                Exit::Unreachable,
                "data-dir",
                format!("no directory can be made: {e}"),
                "check TMPDIR",
            )
        })?;
    let files = if demo.files.is_empty() {
        vec![write_sample(&demo.out_dir)?]
    } else {
        demo.files
    };

    let begun = now();
    let parts = Mutex::new(Vec::new());
    let options = Options {
        pkcs11: demo.pkcs11,
        counter_sign: demo.counter_sign,
        ..Options::new(data.path().to_owned())
    };
    let note = |part: &str| {
        if let Ok(mut parts) = parts.lock() {
            parts.push(part.to_owned());
        }
    };
    let stack = Stack::start(&options, &note).await?;
    let started = parts.lock().map(|p| p.join("  ")).unwrap_or_default();
    out.note(&output::step(
        &m.t("cli-step-start"),
        &started,
        begun.elapsed().as_secs_f64(),
    ));

    let begun = now();
    let mut device = Device::new(&stack.sic_url, &SystemRandom).map_err(|_| {
        Failure::new(
            Exit::Bug,
            "bug",
            "no passkey can be made",
            "please report this",
        )
    })?;
    let new = NewSigner {
        login: "demo-signer",
        name: "髙橋 花子",
        keys: &[KeyAlg::P256],
        collected: false,
        exportable: false,
        one_time: false,
    };
    let enrolled = stack.enrol(&new, NewFactors::Passkey(&mut device)).await?;
    let Some(key) = enrolled.shown.credentials.first() else {
        return Err(Failure::new(
            Exit::Bug,
            "bug",
            "no key was made",
            "please report this",
        ));
    };
    let made = m.f(
        "cli-demo-signer",
        &[
            ("name", Arg::Own(new.name)),
            ("algo", Arg::Own("P-256")),
            ("n", Arg::Num(key.level.into())),
            ("origin", Arg::Own(&key.origin)),
        ],
    );
    let enrol = m.t("cli-step-enrol");
    out.note(&output::step(&enrol, &made, begun.elapsed().as_secs_f64()));

    let mut agent = Agent::new(&stack).reading(out.lang);
    let mut results = Vec::new();
    for file in &files {
        let begun = now();
        let target = demo.out_dir.join(signed_name(file));
        let result = sign(
            &stack,
            &mut agent,
            &enrolled.shown,
            &mut device,
            file,
            &target,
        )
        .await;
        let seconds = begun.elapsed().as_secs_f64();
        match result {
            Ok(outcome) => {
                let sign = m.t("cli-step-sign");
                out.note(&output::step(&sign, &display(file), seconds));
                results.push(report(&outcome, &target, key, out));
            }
            Err(error) => {
                out.say(&format!("NG  {}: {error:#}", display(file)));
                results.push((false, json!({"result": "failed", "signed_object": display(file), "reason": format!("{error:#}")})));
            }
        }
    }
    let anchors = demo.out_dir.join("trust-anchors.pem");
    let lists = demo.out_dir.join("revocation-lists.pem");
    let kept = std::fs::copy(stack.ca.trust_anchors_file(), &anchors)
        .map_err(anyhow::Error::from)
        .and_then(|_| write_lists(&stack, &lists));
    stack.stop().await;
    let signed = results
        .iter()
        .find_map(|(_, value)| value["signed_document"].as_str());
    if let (Ok(_), Some(signed)) = (kept, signed) {
        out.say(&format!(
            "{}  natsuin verify {signed} --trust {} --crl {}      natsuin dev --ready-file ready.json",
            m.t("cli-next"),
            anchors.display(),
            lists.display()
        ));
    }
    let good = results.iter().all(|(good, _)| *good);
    let values: Vec<Value> = results.into_iter().map(|(_, value)| value).collect();
    out.object(&json!({"schema": "natsuin.sign/1", "ok": good, "results": values}));
    Ok(if good { Exit::Good } else { Exit::Negative })
}

fn report(answer: &Value, target: &Path, key: &DevCredential, out: Out) -> (bool, Value) {
    let good = answer["verification_result"]["verdict"] == "passed";
    let m = out.m();
    let (word, what) = if good {
        ("OK", "cli-signed-verified")
    } else {
        ("NG", "cli-signed-unverified")
    };
    out.say(&format!("{word}  {}", m.t(what)));
    out.say(&table_a1(
        m,
        answer,
        &target.display().to_string(),
        Some(&key.level_sentence(m)),
    ));
    let mut value = answer.clone();
    value["signed_document"] = target.display().to_string().into();
    value["level"] = key.level.into();
    value["level_because"] = json!(key.level_because);
    value["level_needs"] = json!(key.level_needs);
    value["level_declared"] = json!(key.level_declared);
    (good, value)
}

/// Uploads a file to the e-contract application and does what its signer would do, until the signed file is there.
/// Returns the application's result: an object with the stable names of `natsuin.sign/1`.
///
/// # Errors
/// What the application says, or that it can't be reached.
pub async fn sign(
    stack: &Stack,
    agent: &mut Agent,
    signer: &DevSigner,
    device: &mut Device,
    file: &Path,
    target: &Path,
) -> anyhow::Result<Value> {
    let name = display(file);
    let body = tokio::fs::File::open(file)
        .await
        .with_context(|| format!("{name} can't be read"))?;
    let url = |path: &str| Url::parse(&format!("{}{path}", stack.sca_url));
    let mut upload = url("/api/documents")?;
    upload.query_pairs_mut().append_pair("name", &name);
    let mut document = call(agent, Method::POST, &upload, Some(body), stack).await?;
    let id = document["id"]
        .as_str()
        .context("the application gives no id")?
        .to_owned();
    let show = url(&format!("/api/documents/{id}"))?;
    document = call(
        agent,
        Method::POST,
        &url(&format!("/api/documents/{id}/sign"))?,
        None,
        stack,
    )
    .await?;
    // Log in, then approve: two visits at most, whatever the application asks first.
    for _ in 0..4 {
        let state = document["state"].as_str().unwrap_or_default().to_owned();
        if let Some(what) = document["problem"]["what"].as_str() {
            bail!(
                "{what} {}",
                document["problem"]["do"].as_str().unwrap_or_default()
            );
        }
        match state.as_str() {
            "signed" => {
                fetch(agent, &url(&format!("/documents/{id}/signed.pdf"))?, target).await?;
                verify::same_file(
                    target,
                    document["result"]["sha256"].as_str().unwrap_or_default(),
                )?;
                return Ok(document["result"].clone());
            }
            "authorize" => {
                let next = document["next"]
                    .as_str()
                    .context("the application doesn't say where to go")?
                    .to_owned();
                agent
                    .visit(&next, &stack.sca_url, signer, Factors::Passkey(device))
                    .await?;
                document = call(agent, Method::GET, &show, None, stack).await?;
            }
            "choose" => {
                let key = signer
                    .credentials
                    .first()
                    .map(|c| c.credential_id.as_str())
                    .unwrap_or_default();
                let mut choose = url(&format!("/api/documents/{id}/choose"))?;
                choose.query_pairs_mut().append_pair("key", key);
                document = call(agent, Method::POST, &choose, None, stack).await?;
            }
            "resume" => {
                document = call(
                    agent,
                    Method::POST,
                    &url(&format!("/api/documents/{id}/resume"))?,
                    None,
                    stack,
                )
                .await?
            }
            other => bail!("the application stands at {other:?}"),
        }
    }
    bail!("the application asks again and again")
}

async fn call(
    agent: &mut Agent,
    method: Method,
    url: &Url,
    file: Option<tokio::fs::File>,
    stack: &Stack,
) -> anyhow::Result<Value> {
    let mut request = agent.request(method, url).header("origin", &stack.sca_url);
    if let Some(file) = file {
        let pieces = ReaderStream::with_capacity(file, PIECE);
        request = request
            .header("content-type", "application/pdf")
            .body(reqwest::Body::wrap_stream(pieces));
    }
    let answer = agent.send(url, request).await?;
    let value: Value = answer
        .json()
        .await
        .context("the application's answer can't be read")?;
    if value["schema"] == "natsuin.error/1" {
        bail!(
            "{} {}",
            value["what"].as_str().unwrap_or_default(),
            value["do"].as_str().unwrap_or_default()
        );
    }
    Ok(value)
}

async fn fetch(agent: &mut Agent, url: &Url, target: &Path) -> anyhow::Result<()> {
    use tokio::io::AsyncWriteExt as _;
    let request = agent.request(Method::GET, url);
    let mut answer = agent.send(url, request).await?.error_for_status()?;
    let file = tokio::fs::File::create(target)
        .await
        .with_context(|| format!("{} can't be written", target.display()))?;
    let mut file = tokio::io::BufWriter::with_capacity(PIECE, file);
    while let Some(chunk) = answer.chunk().await? {
        file.write_all(&chunk).await?;
    }
    file.flush().await?;
    file.get_ref().sync_all().await?;
    Ok(())
}

/// What the stack's CA says of revocation, since it answers no more once the demonstration is over.
fn write_lists(stack: &Stack, path: &Path) -> anyhow::Result<()> {
    let lists = [stack.ca.crl()?, stack.ca.root_crl()?];
    let pem = lists.map(|der| pki::pem::encode(verify::CRL_LABEL, &der));
    Ok(std::fs::write(path, pem.concat())?)
}

fn write_sample(dir: &Path) -> Result<PathBuf, Failure> {
    let path = dir.join("契約書.pdf");
    let written = sample::contract().and_then(|pdf| Ok(std::fs::write(&path, pdf)?));
    written.map_err(|e| {
        Failure::new(
            Exit::Input,
            "out-dir",
            format!("{} can't be written: {e}", path.display()),
            "choose another --out",
        )
    })?;
    Ok(path)
}

/// `契約書.pdf` becomes `契約書-signed.pdf`.
pub fn signed_name(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    format!("{stem}-signed.pdf")
}

fn display(file: &Path) -> String {
    file.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

#[expect(
    clippy::disallowed_methods,
    reason = "measures steps for the person who waits"
)]
fn now() -> Instant {
    Instant::now()
}
