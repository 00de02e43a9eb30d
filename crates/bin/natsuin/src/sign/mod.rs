//! `natsuin sign`: basic model 2 against any CSC service. Files are hashed here and never leave this machine; the
//! signer logs in and approves in the browser, or here with a device key; one approval covers all files.

mod by_device;
mod finish;

use std::path::{Path, PathBuf};

use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::{Clock as _, Random as _, SigAlg};
use csc_client::{
    Client, ClientCredentials, ClientError, HttpOptions, Version, choose_alg, wire_alg,
};
use csc_types::{Credential, Purpose, SecretText, SignHashRequest, SignatureAuthorization};
use signing_job::{HttpFetch, Names, Prepared, Request, Trust};
use web_ui::clean;

use crate::browser::{Session, Stopped};
use crate::demo::signed_name;
use crate::device::Device;
use crate::output::{Exit, Failure, Out};
use crate::proofs::{OwnCertificate, OwnKey, fresh};
use by_device::by_device;
use finish::finish;

/// Options of `natsuin sign`.
#[derive(Debug, clap::Args)]
pub struct SignArgs {
    /// PDF files.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// The service, such as `https://rssp.example.jp`, `https://rssp.example.jp/csc/v2` or `…/csc/v1`.
    #[arg(long)]
    pub url: String,
    /// Registered client id.
    #[arg(long, default_value = "natsuin-cli")]
    pub client: String,
    /// File with the client's secret, if it has one.
    #[arg(long, value_name = "FILE")]
    pub client_secret_file: Option<PathBuf>,
    /// What else the client has to prove.
    #[command(flatten)]
    pub proofs: Proofs,
    /// Key to sign with, when you have several.
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    pub key: Option<String>,
    /// Where signed files go; default: beside the originals.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// CA certificates to trust, PEM; may be given more than once.
    #[arg(long)]
    pub trust: Vec<PathBuf>,
    /// RFC 3161 time-stamp authority.
    #[arg(long, value_name = "URL")]
    pub tsa: Option<String>,
    /// Signature field to fill in, for files with several empty ones.
    #[arg(long, value_name = "NAME")]
    pub field: Option<String>,
    /// Print the addresses instead of starting a browser.
    #[arg(long)]
    pub no_browser: bool,
    /// Approve here instead of in a browser, with the device key in this file and its PIN.
    #[arg(long, value_name = "FILE")]
    pub device_key: Option<PathBuf>,
    /// File with the device key's passphrase on the first line, which only you can read; default: it is asked for.
    #[arg(long, value_name = "FILE", requires = "device_key")]
    pub passphrase_file: Option<PathBuf>,
    /// File with the PIN on the first line, which only you can read; default: it is asked for.
    #[arg(long, value_name = "FILE", requires = "device_key")]
    pub pin_file: Option<PathBuf>,
    /// Your login name, when the client has a contract that names you and needs no login of yours; it is a client with a secret, a key or a
    /// certificate.
    #[arg(long, value_name = "NAME", requires = "device_key")]
    pub user: Option<String>,
}

/// What a client proves beside a secret, and whether its tokens are bound.
#[derive(Debug, Default, clap::Args)]
pub struct Proofs {
    /// By a key.
    #[command(flatten)]
    own_key: OwnKey,
    /// By a certificate.
    #[command(flatten)]
    certificate: OwnCertificate,
    /// Bind the tokens to a key that never leaves this process (DPoP): for services that give no others, and good at all that can.
    #[arg(long)]
    dpop: bool,
}

impl From<SignArgs> for Sign {
    fn from(args: SignArgs) -> Self {
        Self {
            files: args.files,
            url: args.url,
            client: args.client,
            secret_file: args.client_secret_file,
            proofs: args.proofs,
            key: args.key,
            out_dir: args.out,
            trust: args.trust,
            tsa: args.tsa,
            field: args.field,
            browser: !args.no_browser,
            device: args.device_key.map(|file| DeviceKey {
                file,
                passphrase_file: args.passphrase_file,
                pin_file: args.pin_file,
            }),
            user: args.user,
        }
    }
}

/// What to sign and where.
pub struct Sign {
    /// PDF files.
    pub files: Vec<PathBuf>,
    /// Base URL of the service, such as `https://rssp.example.jp/csc/v2`, or its host.
    pub url: String,
    /// Registered client.
    pub client: String,
    /// File with the client's secret; a public client has none.
    pub secret_file: Option<PathBuf>,
    /// What else the client proves.
    pub proofs: Proofs,
    /// Key, when the signer has several.
    pub key: Option<String>,
    /// Where signed files go; beside the originals without it.
    pub out_dir: Option<PathBuf>,
    /// CA certificates to trust, PEM.
    pub trust: Vec<PathBuf>,
    /// RFC 3161 time-stamp authority.
    pub tsa: Option<String>,
    /// Name of the signature field to fill in, for files with several empty ones.
    pub field: Option<String>,
    /// Start a browser, or only print the address.
    pub browser: bool,
    /// Approve here, with a device key.
    pub device: Option<DeviceKey>,
    /// Login name, for a client with a token of its own.
    pub user: Option<String>,
}

/// A device key and where its secrets stand; they are asked for where no file is named.
pub struct DeviceKey {
    /// The key.
    pub file: PathBuf,
    /// Its passphrase.
    pub passphrase_file: Option<PathBuf>,
    /// Its PIN.
    pub pin_file: Option<PathBuf>,
}

/// Signs.
///
/// # Errors
/// [`Failure`]; nothing was signed then, or the message says so.
pub async fn run(sign: Sign, out: Out) -> Result<Exit, Failure> {
    let pem = crate::verify::read_pem(&sign.trust)?;
    let trust = Trust::from_pem(&pem).map_err(|e| {
        input(
            "trust-file",
            format!("the trust anchors can't be read: {e}"),
            "give PEM certificates",
        )
    })?;
    for file in &sign.files {
        signing_job::look(file).map_err(|e| {
            input(
                e.code(),
                format!("{}: {e}", file.display()),
                "choose another file",
            )
        })?;
    }
    // The certificate is for the service alone.
    let others = HttpOptions {
        extra_roots_pem: Some(pem.into_bytes()),
        ..HttpOptions::default()
    };
    let http = HttpOptions {
        identity_pem: sign.proofs.certificate.pem()?,
        ..others.clone()
    };
    let credentials = ClientCredentials {
        client_id: sign.client.clone(),
        client_secret: secret(&sign)?,
    };
    let client = Client::new(&base_url(&sign.url), credentials, &http).map_err(|e| service(&e))?;
    let mut client = sign.proofs.own_key.given_to(client)?;
    if sign.proofs.dpop {
        client = client.with_dpop(fresh()?);
    }
    let provider = client.discover().await.map_err(|e| service(&e))?;
    let session = Session::begin(&client, provider, sign.browser, out).await?;

    let device = sign.device.as_ref().map(|d| {
        let (passphrase, pin) = (d.passphrase_file.as_deref(), d.pin_file.clone());
        Device::open(&d.file, passphrase, pin, &sign.trust, out)
    });
    let device = device.transpose()?;
    let token = match &sign.user {
        Some(_) => client.own_token(&session.provider).await,
        None => {
            let token = session.authorize(Purpose::Service, "cli-open-login");
            Ok(token.await.map_err(nothing_signed)?.access_token)
        }
    };
    let token = token.map_err(|e| service(&e))?;
    let all = client.credentials_of(&token, sign.user.as_deref()).await;
    let all = all.map_err(|e| service(&e))?;
    let (credential, alg) = pick(all, sign.key.as_deref())?;
    let jobs = prepare(&sign, &credential, alg)?;
    let count = u32::try_from(jobs.len()).unwrap_or(u32::MAX);
    out.note(&out.m().n("cli-hashed-here", count.into()));
    let (token, sad) = match &device {
        Some(device) => {
            let sad = by_device(&session, device, &token, &credential, alg, &jobs).await?;
            (token, Some(sad))
        }
        None => {
            let right = approve(&session, &credential, alg, &jobs).await?;
            match client.version() {
                Version::V1 => (token, Some(right)),
                Version::V2 => (right, None),
            }
        }
    };
    let wire = wire_alg(alg, &credential.key).ok_or_else(|| {
        input(
            "algorithm",
            "the key has no algorithm that this program knows",
            "choose another --key",
        )
    })?;
    let request = SignHashRequest {
        credential_id: credential.credential_id.clone().unwrap_or_default(),
        sad,
        hashes: jobs
            .iter()
            .map(|job| job.prepared.hash_to_sign().to_vec())
            .collect(),
        hash_algorithm_oid: Some(wire.hash_algorithm_oid),
        sign_algo: wire.sign_algo,
        sign_algo_params: wire.sign_algo_params,
        client_data: None,
    };
    let once = SystemRandom.digest32().to_string();
    let values = client
        .sign_hash(&token, &request, &once)
        .await
        .map_err(|e| after_approval(&e))?;
    let fetch = HttpFetch::new(others.build().map_err(|e| service(&e))?, true);
    finish(jobs, values, &trust, &fetch, sign.tsa.as_deref(), out).await
}

/// One approval for all files, in the browser.
async fn approve(
    session: &Session<'_>,
    credential: &Credential,
    alg: SigAlg,
    jobs: &[Job],
) -> Result<SecretText, Failure> {
    let documents = session.provider.takes_documents();
    let digests = jobs
        .iter()
        .map(|job| job.prepared.digest(job.names.object.clone(), documents));
    let asked = SignatureAuthorization {
        credential_id: credential.credential_id.clone(),
        signature_qualifier: None,
        num_signatures: u32::try_from(jobs.len()).unwrap_or(u32::MAX),
        digests: digests.collect(),
        hash_algorithm: Some(alg.hash()),
        renewable_for: None,
    };
    let purpose = Purpose::Credential(asked);
    let token = session.authorize(purpose, "cli-open-approve").await;
    Ok(token.map_err(nothing_signed)?.access_token)
}

/// A file on its way.
struct Job {
    names: Names,
    target: PathBuf,
    prepared: Prepared,
}

fn prepare(sign: &Sign, credential: &Credential, alg: SigAlg) -> Result<Vec<Job>, Failure> {
    let chain = credential.cert.der().ok_or_else(|| {
        input(
            "no-certificate",
            "the service gives no certificate for this key",
            "ask the service's operator",
        )
    })?;
    let mut jobs = Vec::new();
    for file in &sign.files {
        let beside = || file.parent().map(Path::to_path_buf).unwrap_or_default();
        let target = sign
            .out_dir
            .clone()
            .unwrap_or_else(beside)
            .join(signed_name(file));
        let request = Request {
            input: file.clone(),
            output: target.clone(),
            chain: chain.clone(),
            alg,
            signing_time: SystemClock.now(),
            time_stamp: sign.tsa.is_some(),
            reason: None,
            location: None,
            field_name: sign.field.clone(),
        };
        let prepared = signing_job::prepare(&request).map_err(|e| {
            input(
                e.code(),
                format!("{}: {e}", file.display()),
                "choose another file, or another --out",
            )
        })?;
        let name = |path: &Path| {
            path.file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        };
        jobs.push(Job {
            names: Names {
                object: name(file),
                document: name(&target),
            },
            target,
            prepared,
        });
    }
    Ok(jobs)
}

/// The one key that can sign, or the one that was named.
fn pick(all: Vec<Credential>, wanted: Option<&str>) -> Result<(Credential, SigAlg), Failure> {
    let mut usable: Vec<(Credential, SigAlg)> = all
        .into_iter()
        .filter(|c| wanted.is_none_or(|id| c.credential_id.as_deref() == Some(id)))
        .filter(|c| c.cert.der().is_some())
        .filter_map(|c| choose_alg(&c.key).ok().map(|alg| (c, alg)))
        .collect();
    match usable.len() {
        1 => Ok(usable.remove(0)),
        0 => Err(input(
            "no-key",
            "there is no key that can sign here",
            "see your keys in the service's portal",
        )),
        _ => {
            let ids: Vec<_> = usable
                .iter()
                .filter_map(|(c, _)| c.credential_id.as_deref())
                .collect();
            Err(input(
                "several-keys",
                format!("several keys can sign: {}", ids.join(", ")),
                "choose one with --key",
            ))
        }
    }
}

fn secret(sign: &Sign) -> Result<Option<SecretText>, Failure> {
    let Some(file) = &sign.secret_file else {
        return Ok(None);
    };
    let text = std::fs::read_to_string(file).map_err(|e| {
        input(
            "secret-file",
            format!("{} can't be read: {e}", file.display()),
            "name a readable file",
        )
    })?;
    Ok(Some(SecretText::new(text.trim_end().to_owned())))
}

/// `https://host` is short for `https://host/csc/v2`.
fn base_url(url: &str) -> String {
    let url = url.trim_end_matches('/');
    if url.contains("/csc/") {
        url.to_owned()
    } else {
        format!("{url}/csc/v2")
    }
}

fn input(code: &'static str, what: impl Into<String>, remedy: &str) -> Failure {
    Failure::new(Exit::Input, code, what, remedy)
}

fn declined(what: &str) -> Failure {
    Failure::new(
        Exit::Declined,
        "declined",
        format!("{what}. Nothing was signed."),
        "run the command again to start anew",
    )
}

/// What didn't come of a browser, in the words of somebody who wanted to sign.
fn nothing_signed(stopped: Stopped) -> Failure {
    match stopped {
        Stopped::Declined(what) => declined(what),
        Stopped::Service(error) => service(&error),
        Stopped::Here(error) => Failure::from(error),
    }
}

fn bug() -> Failure {
    Failure::new(
        Exit::Bug,
        "bug",
        "the file that was just signed doesn't hold its signature",
        "report this; don't use the signed file",
    )
}

/// Trouble after the signer approved: what the service did may be unknown, and then nobody says that nothing was signed.
fn after_approval(error: &ClientError) -> Failure {
    if !error.outcome_is_unknown() {
        return service(error);
    }
    Failure::new(
        Exit::Unreachable,
        "unknown-outcome",
        format!(
            "{}. It isn't known whether the key signed; no signed file was made.",
            clean(&error.to_string())
        ),
        "look at your history at the service before you sign again",
    )
}

fn service(error: &ClientError) -> Failure {
    let exit = if error.is_refusal() {
        Exit::Declined
    } else {
        Exit::Unreachable
    };
    Failure::new(
        exit,
        "service",
        format!("{}. Nothing was signed.", clean(&error.to_string())),
        "check --url and --trust; look at your history at the service",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_short_for_the_newest_api() {
        assert_eq!(base_url("https://a.example/"), "https://a.example/csc/v2");
        assert_eq!(
            base_url("https://a.example/x/csc/v2"),
            "https://a.example/x/csc/v2"
        );
    }
}
