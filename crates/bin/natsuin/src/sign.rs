//! `natsuin sign`: basic model 2 against any CSC service. Files are hashed here and never leave this machine; the
//! signer logs in and approves in the browser; one approval covers all files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::{Clock as _, Random as _, SigAlg};
use csc_client::loopback::{Listener, PageLang};
use csc_client::{
    AuthorizeParams, Client, ClientCredentials, ClientError, HttpOptions, Provider, choose_alg,
    wire_alg,
};
use csc_types::{
    Credential, Purpose, SecretText, SignHashRequest, SignatureAuthorization, SignedValue,
};
use serde_json::{Value, json};
use signing_job::{
    HttpFetch, JobError, Names, Prepared, Request, Signed, TimeStamping, Trust, Verdict,
};
use web_ui::{Arg, Lang, clean};

use crate::demo::signed_name;
use crate::output::{Exit, Failure, Out, table_a1};

/// How long the person may take in the browser.
const PATIENCE: Duration = Duration::from_secs(600);

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
}

/// What the steps share.
struct Session<'a> {
    client: &'a Client,
    provider: Provider,
    listener: Listener,
    browser: bool,
    out: Out,
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
    let http = HttpOptions {
        extra_roots_pem: Some(pem.into_bytes()),
        ..HttpOptions::default()
    };
    let credentials = ClientCredentials {
        client_id: sign.client.clone(),
        client_secret: secret(&sign)?,
    };
    let client = Client::new(&base_url(&sign.url), credentials, &http).map_err(|e| service(&e))?;
    let provider = client.discover().await.map_err(|e| service(&e))?;
    let page = match out.lang {
        Lang::Ja => PageLang::Ja,
        Lang::En => PageLang::En,
    };
    let listener = Listener::bind(page)
        .await
        .map_err(|e| Failure::from(anyhow::Error::from(e)))?;
    let session = Session {
        client: &client,
        provider,
        listener,
        browser: sign.browser,
        out,
    };

    let token = session
        .authorize(Purpose::Service, "cli-open-login")
        .await?;
    let all = client.credentials(&token).await.map_err(|e| service(&e))?;
    let (credential, alg) = pick(all, sign.key.as_deref())?;
    let jobs = prepare(&sign, &credential, alg)?;
    let count = u32::try_from(jobs.len()).unwrap_or(u32::MAX);
    out.note(&out.m().n("cli-hashed-here", count.into()));
    let documents = session.provider.takes_documents();
    let digests = jobs
        .iter()
        .map(|job| job.prepared.digest(job.names.object.clone(), documents));
    let asked = SignatureAuthorization {
        credential_id: credential.credential_id.clone(),
        signature_qualifier: None,
        num_signatures: count,
        digests: digests.collect(),
        hash_algorithm: Some(alg.hash()),
        renewable_for: 0,
    };
    let token = session
        .authorize(Purpose::Credential(asked), "cli-open-approve")
        .await?;
    let wire = wire_alg(alg, &credential.key).ok_or_else(|| {
        input(
            "algorithm",
            "the key has no algorithm that this program knows",
            "choose another --key",
        )
    })?;
    let request = SignHashRequest {
        credential_id: credential.credential_id.clone().unwrap_or_default(),
        sad: None,
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
    let fetch = HttpFetch::new(http.build().map_err(|e| service(&e))?, true);
    finish(jobs, values, &trust, &fetch, sign.tsa.as_deref(), out).await
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

async fn finish(
    jobs: Vec<Job>,
    values: Vec<SignedValue>,
    trust: &Trust,
    fetch: &HttpFetch,
    tsa: Option<&str>,
    out: Out,
) -> Result<Exit, Failure> {
    let stamping = tsa.map(|url| TimeStamping {
        fetch,
        url,
        anchors: trust.tsa_anchors(),
        random: &SystemRandom,
    });
    let total = jobs.len();
    let mut results: Vec<Value> = Vec::new();
    let mut worst = Exit::Good;
    for (job, value) in jobs.into_iter().zip(values) {
        let finished = embed(&job.prepared, &value, stamping.as_ref(), out).await;
        let checked = match finished {
            Ok(signed) => signing_job::check(&signed.path, trust, fetch, SystemClock.now())
                .await
                .map(|checked| checked.outcome(&job.names, &signed, true)),
            Err(error) => Err(error),
        };
        let object = clean(&job.names.object);
        match checked {
            Ok(Some(outcome)) => {
                let (word, what, exit) = judged(outcome.verification_result.verdict);
                worst = worse(worst, exit);
                out.say(&format!("{word}  {object}: {}", out.m().t(what)));
                let mut value = serde_json::to_value(&outcome).unwrap_or_default();
                let target = job.target.display().to_string();
                out.say(&table_a1(out.m(), &value, &target, None));
                value["signed_document"] = target.into();
                results.push(value);
            }
            // The signature that was just written isn't in the file: something is wrong with this program.
            Ok(None) => return Err(bug()),
            Err(error) => {
                worst = worse(worst, Exit::Negative);
                out.say(&format!("NG  {object}: {}", clean(&error.to_string())));
                results.push(json!({"result": "failed", "signed_object": job.names.object, "code": error.code()}));
            }
        }
    }
    let signed = results.iter().filter(|r| r["result"] == "signed").count();
    let number = |n: usize| Arg::Num(u64::try_from(n).unwrap_or(u64::MAX));
    let counted = [("n", number(signed)), ("total", number(total))];
    out.say(&out.m().f("cli-signed-of", &counted));
    let ok = worst == Exit::Good;
    out.object(&json!({"schema": "natsuin.sign/1", "ok": ok, "results": results}));
    Ok(match signed {
        n if n == total => worst,
        0 => Exit::Negative,
        _ => Exit::Partly,
    })
}

/// How often a silent time-stamp authority is asked while the signature value is in hand.
const STAMP_TRIES: usize = 3;

/// Puts the value into the file. An authority that gives no time doesn't cost the approval: then the file goes without.
async fn embed(
    prepared: &Prepared,
    value: &SignedValue,
    stamping: Option<&TimeStamping<'_>>,
    out: Out,
) -> Result<Signed, JobError> {
    for _ in 0..STAMP_TRIES {
        match prepared.finish(value, stamping).await {
            Err(JobError::TimeStamp(error)) => {
                tracing::warn!(%error, "the time-stamp authority gave no time");
            }
            done => return done,
        }
    }
    out.note(&out.m().t("cli-no-stamp"));
    prepared.finish(value, None).await
}

/// Word, message and exit code of a verdict over the file that was just signed.
fn judged(verdict: Verdict) -> (&'static str, &'static str, Exit) {
    match verdict {
        Verdict::Passed => ("OK", "cli-signed-verified", Exit::Good),
        Verdict::Undetermined => ("??", "cli-signed-undetermined", Exit::Undetermined),
        Verdict::Failed => ("NG", "cli-signed-unverified", Exit::Negative),
    }
}

fn worse(a: Exit, b: Exit) -> Exit {
    match (a, b) {
        (Exit::Negative, _) | (_, Exit::Negative) => Exit::Negative,
        (Exit::Good, other) | (other, _) => other,
    }
}

impl Session<'_> {
    /// Sends the person's browser to the service and waits for it to come back.
    async fn authorize(&self, purpose: Purpose, told: &str) -> Result<SecretText, Failure> {
        let redirect_uri = self.listener.redirect_uri();
        let params = AuthorizeParams {
            purpose,
            redirect_uri: &redirect_uri,
            lang: Some(self.out.lang.tag()),
            description: None,
        };
        let pending = self
            .client
            .authorize(&self.provider, &params, &SystemRandom)
            .await
            .map_err(|e| service(&e))?;
        let m = self.out.m();
        self.out
            .note(&m.f(told, &[("url", Arg::Own(pending.url.as_str()))]));
        if self.browser && !open(pending.url.as_str()) {
            self.out.note(&m.t("cli-no-browser"));
        }
        let waited = tokio::time::timeout(PATIENCE, self.listener.wait(&pending)).await;
        let callback = waited
            .map_err(|_| declined("nobody came back from the browser within ten minutes"))?
            .map_err(|e| Failure::from(anyhow::Error::from(e)))?;
        let token = self
            .client
            .exchange(&self.provider, &pending, &callback)
            .await;
        token.map(|t| t.access_token).map_err(|error| match error {
            ClientError::Refused(_) => declined("it was not approved in the browser"),
            other => service(&other),
        })
    }
}

/// Starts the person's browser.
fn open(url: &str) -> bool {
    let command = std::process::Command::new("xdg-open")
        .arg(url)
        .stderr(std::process::Stdio::null())
        .spawn();
    command.is_ok()
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
