//! `natsuin csc`: single calls of the CSC API of any provider, in either version, and a check of a provider.

use std::path::{Path, PathBuf};

use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::{Clock as _, Random as _, SecretBytes};
use csc_client::check::{self, Case, Means, Outcome};
use csc_client::plain::{Answer, Proof, Service};
use csc_client::{ClientError, HttpOptions};
use csc_types::SecretText;
use serde_json::{Value, json};
use sic_core::Totp;

use crate::output::{Exit, Failure, Out};

/// Where the service is, and how it is reached.
#[derive(Debug, clap::Args)]
pub struct At {
    /// The API, such as `https://rssp.example.jp/csc/v2` or `…/csc/v1`.
    #[arg(long)]
    url: String,
    /// CA certificates to trust besides the system's, PEM; may be given more than once.
    #[arg(long)]
    trust: Vec<PathBuf>,
}

/// Secrets of a credential in explicit mode.
#[derive(Debug, clap::Args)]
pub struct Secrets {
    /// File with the PIN.
    #[arg(long, value_name = "FILE")]
    pin_file: Option<PathBuf>,
    /// File with the seed of the one-time codes, base32.
    #[arg(long, value_name = "FILE")]
    totp_secret_file: Option<PathBuf>,
    /// File with a code that was sent (`send-otp`), instead of the seed.
    #[arg(long, value_name = "FILE", conflicts_with = "totp_secret_file")]
    otp_file: Option<PathBuf>,
}

impl Secrets {
    fn pin(&self) -> Result<Option<SecretText>, Failure> {
        self.pin_file.as_deref().map(secret).transpose()
    }

    fn otp(&self) -> Result<Option<SecretText>, Failure> {
        match (&self.otp_file, &self.totp_secret_file) {
            (Some(file), _) => secret(file).map(Some),
            (None, Some(file)) => code(file).map(Some),
            (None, None) => Ok(None),
        }
    }
}

/// Commands of `natsuin csc`.
#[derive(Debug, clap::Subcommand)]
pub enum CscCommand {
    /// What the service is and offers.
    Info {
        /// Where.
        #[command(flatten)]
        at: At,
    },
    /// Log in by `auth/login`: name, password and, directly behind it, the one-time code if there is a seed.
    Login {
        /// Where.
        #[command(flatten)]
        at: At,
        /// Login name.
        #[arg(long)]
        user: String,
        /// File with the password.
        #[arg(long, value_name = "FILE")]
        password_file: PathBuf,
        /// File with the seed of the login's one-time codes, base32.
        #[arg(long, value_name = "FILE")]
        totp_secret_file: Option<PathBuf>,
        /// Ask for a refresh token.
        #[arg(long)]
        remember: bool,
    },
    /// Credentials of the user.
    List {
        /// Where.
        #[command(flatten)]
        at: At,
        /// File with a token of scope `service`.
        #[arg(long, value_name = "FILE")]
        token_file: PathBuf,
        /// One of them alone, with everything about it.
        #[arg(long, value_name = "ID")]
        key: Option<String>,
    },
    /// Authorize signatures in explicit mode, with secrets of that credential.
    Authorize {
        /// Where.
        #[command(flatten)]
        at: At,
        /// File with a token of scope `service`.
        #[arg(long, value_name = "FILE")]
        token_file: PathBuf,
        /// The credential.
        #[arg(long, value_name = "ID")]
        key: String,
        /// Hash to be signed, base64; may be given more than once.
        #[arg(long, required = true)]
        hash: Vec<String>,
        /// Object identifier of the hash.
        #[arg(long, default_value = "2.16.840.1.101.3.4.2.1")]
        hash_algo: String,
        /// Secrets of the credential.
        #[command(flatten)]
        secrets: Secrets,
    },
    /// Have a one-time code sent to the signer of a credential in explicit mode.
    SendOtp {
        /// Where.
        #[command(flatten)]
        at: At,
        /// File with a token of scope `service`.
        #[arg(long, value_name = "FILE")]
        token_file: PathBuf,
        /// The credential.
        #[arg(long, value_name = "ID")]
        key: String,
    },
    /// Sign hashes.
    SignHash {
        /// Where.
        #[command(flatten)]
        at: At,
        /// File with a token.
        #[arg(long, value_name = "FILE")]
        token_file: PathBuf,
        /// File with the SAD, if it isn't the token itself.
        #[arg(long, value_name = "FILE")]
        sad_file: Option<PathBuf>,
        /// The credential.
        #[arg(long, value_name = "ID")]
        key: String,
        /// Hash to be signed, base64; may be given more than once.
        #[arg(long, required = true)]
        hash: Vec<String>,
        /// Object identifier of the hash.
        #[arg(long, default_value = "2.16.840.1.101.3.4.2.1")]
        hash_algo: String,
        /// Object identifier of the signature algorithm.
        #[arg(long)]
        sign_algo: String,
        /// Its parameters, base64 of DER.
        #[arg(long)]
        sign_algo_params: Option<String>,
    },
    /// Check whether a service does what the specification says. With PIN and seed it makes one signature over random bytes.
    Check {
        /// Where.
        #[command(flatten)]
        at: At,
        /// File with a token of scope `service`.
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
        /// File with a token of another user.
        #[arg(long, value_name = "FILE")]
        other_token_file: Option<PathBuf>,
        /// A credential of the first user.
        #[arg(long, value_name = "ID")]
        key: Option<String>,
        /// Secrets of the credential.
        #[command(flatten)]
        secrets: Secrets,
        /// Write the report as JUnit XML too.
        #[arg(long, value_name = "FILE")]
        junit: Option<PathBuf>,
    },
}

/// Runs a command.
///
/// # Errors
/// [`Failure`]: a file or an address can't be used, or no answer came.
pub async fn run(command: CscCommand, out: Out) -> Result<Exit, Failure> {
    match command {
        CscCommand::Info { at } => {
            let answer = service(&at)?.call("info", Proof::None, &json!({})).await;
            told(answer, out)
        }
        CscCommand::Login {
            at,
            user,
            password_file,
            totp_secret_file,
            remember,
        } => {
            let mut typed = secret(&password_file)?.expose().to_owned();
            if let Some(file) = totp_secret_file {
                typed.push_str(code(&file)?.expose());
            }
            let password = SecretText::new(typed);
            let proof = Proof::Basic {
                name: &user,
                password: &password,
            };
            let body = json!({ "rememberMe": remember });
            told(service(&at)?.call("auth/login", proof, &body).await, out)
        }
        CscCommand::List {
            at,
            token_file,
            key,
        } => {
            let token = secret(&token_file)?;
            let service = service(&at)?;
            let mut body = json!({ "certificates": "chain", "certInfo": true, "authInfo": true });
            let method = match key {
                Some(key) => {
                    body["credentialID"] = json!(key);
                    "credentials/info"
                }
                None => {
                    body["credentialInfo"] = json!(true);
                    "credentials/list"
                }
            };
            told(
                service.call(method, Proof::Bearer(&token), &body).await,
                out,
            )
        }
        CscCommand::Authorize {
            at,
            token_file,
            key,
            hash,
            hash_algo,
            secrets,
        } => {
            let (token, service) = (secret(&token_file)?, service(&at)?);
            let (hashes, algorithm) = service.version().hash_members();
            let mut body = json!({ "credentialID": key, "numSignatures": hash.len() });
            body[hashes] = json!(hash);
            body[algorithm] = json!(hash_algo);
            let (pin, otp) = (secrets.pin()?, secrets.otp()?);
            let (pin, otp) = (pin.as_ref(), otp.as_ref());
            let given = service
                .version()
                .secrets(pin.map(SecretText::expose), otp.map(SecretText::expose));
            for (name, value) in given {
                body[name] = value;
            }
            let proof = Proof::Bearer(&token);
            told(
                service.call("credentials/authorize", proof, &body).await,
                out,
            )
        }
        CscCommand::SendOtp {
            at,
            token_file,
            key,
        } => {
            let (token, service) = (secret(&token_file)?, service(&at)?);
            let body = json!({ "credentialID": key });
            let proof = Proof::Bearer(&token);
            told(service.call("credentials/sendOTP", proof, &body).await, out)
        }
        CscCommand::SignHash {
            at,
            token_file,
            sad_file,
            key,
            hash,
            hash_algo,
            sign_algo,
            sign_algo_params,
        } => {
            let (token, service) = (secret(&token_file)?, service(&at)?);
            let (hashes, algorithm) = service.version().hash_members();
            let mut body = json!({ "credentialID": key, "signAlgo": sign_algo });
            body[hashes] = json!(hash);
            body[algorithm] = json!(hash_algo);
            if let Some(file) = sad_file {
                body["SAD"] = json!(secret(&file)?.expose());
            }
            if let Some(params) = sign_algo_params {
                body["signAlgoParams"] = json!(params);
            }
            let proof = Proof::Bearer(&token);
            told(service.call("signatures/signHash", proof, &body).await, out)
        }
        CscCommand::Check {
            at,
            token_file,
            other_token_file,
            key,
            secrets,
            junit,
        } => {
            let means = Means {
                token: token_file.as_deref().map(secret).transpose()?,
                other: other_token_file.as_deref().map(secret).transpose()?,
                credential: key,
                secrets: secrets.pin()?.zip(secrets.otp()?),
                hash: SystemRandom.digest32().0.to_vec(),
            };
            let service = service(&at)?;
            let cases = check::check(&service, &means).await;
            let cases = cases.map_err(|e| unreachable(&e))?;
            if let Some(file) = junit {
                std::fs::write(&file, to_junit(service.url().as_str(), &cases))
                    .map_err(|e| input(&file, &e))?;
            }
            Ok(report(service.url().as_str(), &cases, out))
        }
    }
}

fn service(at: &At) -> Result<Service, Failure> {
    let mut roots = Vec::new();
    for file in &at.trust {
        roots.extend(std::fs::read(file).map_err(|e| input(file, &e))?);
        roots.push(b'\n');
    }
    let options = HttpOptions {
        extra_roots_pem: Some(roots).filter(|roots| !roots.is_empty()),
        ..HttpOptions::default()
    };
    Service::new(&at.url, &options).map_err(|e| {
        Failure::new(
            Exit::Input,
            "address",
            e.to_string(),
            "give the address of the API with --url, and its CA with --trust",
        )
    })
}

/// One line of a file, without the end of the line.
fn secret(file: &Path) -> Result<SecretText, Failure> {
    let text = std::fs::read_to_string(file).map_err(|e| input(file, &e))?;
    Ok(SecretText::new(
        text.trim_end_matches(['\r', '\n']).to_owned(),
    ))
}

/// The code of the moment.
fn code(file: &Path) -> Result<SecretText, Failure> {
    let seed = SecretBytes::from(secret(file)?.expose().to_owned());
    let totp = Totp::from_base32(&seed).map_err(|_| input(file, &"not a seed in base32"))?;
    let code = totp.code(SystemClock.now());
    Ok(SecretText::new(
        String::from_utf8_lossy(code.expose()).into_owned(),
    ))
}

fn input(file: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        Exit::Input,
        "file",
        format!("{}: {why}", file.display()),
        "name a file that can be read",
    )
}

fn unreachable(error: &ClientError) -> Failure {
    Failure::new(
        Exit::Unreachable,
        "no-answer",
        error.to_string(),
        "check --url and --trust, and whether the service runs",
    )
}

/// Prints an answer as it came; a refusal is a result too.
fn told(answer: Result<Answer, ClientError>, out: Out) -> Result<Exit, Failure> {
    let answer = answer.map_err(|e| unreachable(&e))?;
    let body = answer.json().unwrap_or(Value::Null);
    out.say(&serde_json::to_string_pretty(&body).unwrap_or_default());
    out.object(&json!({ "schema": "natsuin.csc/1", "status": answer.status, "answer": body }));
    Ok(match answer.status {
        200..300 => Exit::Good,
        _ => Exit::Declined,
    })
}

fn report(url: &str, cases: &[Case], out: Out) -> Exit {
    let count = |wanted: fn(&Outcome) -> bool| cases.iter().filter(|c| wanted(&c.outcome)).count();
    let passed = count(|o| matches!(o, Outcome::Passed));
    let failed = count(|o| matches!(o, Outcome::Failed { .. }));
    let untested = count(|o| matches!(o, Outcome::NotTested { .. }));
    for case in cases {
        let line = match &case.outcome {
            Outcome::Passed => format!("OK  {}  ({})", case.name, case.clause),
            Outcome::Failed { why } => format!("NG  {}  ({}): {why}", case.name, case.clause),
            Outcome::NotTested { needs } => {
                format!("--  {}  ({}): {needs}", case.name, case.clause)
            }
        };
        out.say(&line);
    }
    let numbers = [
        ("passed", passed),
        ("failed", failed),
        ("untested", untested),
    ];
    let numbers = numbers.map(|(name, n)| (name, web_ui::Arg::Num(n as u64)));
    out.say(&out.m().f("cli-csc-checked", &numbers));
    out.object(
        &json!({ "schema": "natsuin.csc-check/1", "url": url, "passed": passed, "failed": failed,
        "not_tested": untested, "cases": cases }),
    );
    match failed {
        0 => Exit::Good,
        _ => Exit::Negative,
    }
}

fn to_junit(url: &str, cases: &[Case]) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let failed = cases
        .iter()
        .filter(|c| matches!(c.outcome, Outcome::Failed { .. }));
    let skipped = cases
        .iter()
        .filter(|c| matches!(c.outcome, Outcome::NotTested { .. }));
    xml.push_str(&format!(
        "<testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" skipped=\"{}\">\n",
        escape(url),
        cases.len(),
        failed.count(),
        skipped.count()
    ));
    for case in cases {
        let inner = match &case.outcome {
            Outcome::Passed => String::new(),
            Outcome::Failed { why } => format!("<failure message=\"{}\"/>", escape(why)),
            Outcome::NotTested { needs } => {
                format!("<skipped message=\"needs {}\"/>", escape(needs))
            }
        };
        xml.push_str(&format!(
            "  <testcase classname=\"csc-{}\" name=\"{}\">{inner}</testcase>\n",
            escape(case.clause),
            escape(case.name)
        ));
    }
    xml.push_str("</testsuite>\n");
    xml
}

/// What a provider says may hold anything; XML has no way to write most control characters.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use csc_client::check::Kind;

    #[test]
    fn a_report_in_xml_can_be_read_whatever_a_provider_says() {
        let case = |outcome| Case {
            name: "a <b>",
            clause: "1",
            kind: Kind::Negative,
            outcome,
        };
        let why = "\u{0}\"'<&>\u{ffff}".to_owned();
        let cases = [
            case(Outcome::Passed),
            case(Outcome::Failed { why }),
            case(Outcome::NotTested { needs: "a token" }),
        ];
        let xml = to_junit("https://a.example/?a&b", &cases);
        assert!(
            xml.contains("tests=\"3\" failures=\"1\" skipped=\"1\""),
            "{xml}"
        );
        assert!(xml.contains("message=\" &quot;'&lt;&amp;&gt; \""), "{xml}");
        assert!(
            xml.contains("name=\"a &lt;b&gt;\"") && xml.contains("a&amp;b"),
            "{xml}"
        );
    }
}
