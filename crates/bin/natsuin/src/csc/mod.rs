//! `natsuin csc`: single calls of the CSC API of any provider, in either version, and a check of a provider.

mod browser;
mod calls;
mod given;
mod report;
mod tester;
mod unattended;

use std::path::PathBuf;

use core_types::Random as _;
use core_types::random::SystemRandom;
use csc_client::Version;
use csc_client::check::{self, ClientMeans, Means, Person};
use csc_client::plain::Proof;
use csc_types::{HashType, SecretText};
use serde_json::{Value, json};

use crate::output::{Exit, Failure, Out};
use crate::proofs::OwnCertificate;
use browser::ByBrowser;
use given::{code, input, no_place, secret, service, told, unreachable, with_code};
use report::{report, to_junit};
use tester::Tester;
use unattended::{Approval, Unattended};

/// Where the service is, and how it is reached.
#[derive(Debug, clap::Args)]
pub struct At {
    /// The API, such as `https://rssp.example.jp/csc/v2` or `…/csc/v1`.
    #[arg(long)]
    url: String,
    /// CA certificates to trust besides the system's, PEM; may be given more than once.
    #[arg(long)]
    trust: Vec<PathBuf>,
    /// Whether the client shows a certificate.
    #[command(flatten)]
    certificate: OwnCertificate,
    /// File with the key that the tokens belong to (DPoP): P-256, PKCS#8 in PEM. `login` and `authorize` with `--client` make it if it
    /// isn't there; every later command with these tokens wants it. `check` takes it for tokens in files, not with `--client`.
    #[arg(long, value_name = "FILE")]
    dpop_key_file: Option<PathBuf>,
}

/// Secrets of a credential in explicit mode; with `--client` and `--user`, of the person who approves.
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

/// Whether values are waited for.
#[derive(Debug, clap::Args)]
pub struct Later {
    /// Don't wait for the values: the answer has a `responseID`, with which `poll` fetches them.
    #[arg(long)]
    later: bool,
    /// Seconds for which they are kept.
    #[arg(long, value_name = "SECONDS", requires = "later", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
    /// Address of the client that is told when they are there.
    #[arg(long, value_name = "URI", requires = "later")]
    response_uri: Option<String>,
}

impl Later {
    fn put_into(self, body: &mut Value) {
        if self.later {
            body["operationMode"] = json!("A");
        }
        if let Some(seconds) = self.keep {
            body["validity_period"] = json!(u64::from(seconds) * 1000);
        }
        if let Some(uri) = self.response_uri {
            body["response_uri"] = json!(uri);
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
    /// Log in: with `--client` in a browser (OAuth 2, code and PKCE), or with `--user` beside it in the login form without one; else
    /// by `auth/login` with name, password and, directly behind it, the one-time code if there is a seed.
    Login {
        /// Where.
        #[command(flatten)]
        at: At,
        /// In a browser.
        #[command(flatten)]
        browser: ByBrowser,
        /// Without one.
        #[command(flatten)]
        person: Unattended,
        /// File with the seed of the login's one-time codes, base32.
        #[arg(long, value_name = "FILE", requires = "user")]
        totp_secret_file: Option<PathBuf>,
        /// File with a refresh token, instead of a name and a browser: of the client, or without `--client` of `auth/login`.
        #[arg(long, value_name = "FILE", conflicts_with = "user")]
        refresh_file: Option<PathBuf>,
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
        #[arg(long, value_name = "ID", allow_hyphen_values = true)]
        key: Option<String>,
    },
    /// Authorize signatures: with `--client` in a browser, where the signer approves, or with `--user` beside it without one, by PIN
    /// and one-time code of that person; else in explicit mode with secrets of that credential.
    Authorize {
        /// Where.
        #[command(flatten)]
        at: At,
        /// In a browser.
        #[command(flatten)]
        browser: ByBrowser,
        /// Without one.
        #[command(flatten)]
        person: Unattended,
        /// What that needs.
        #[command(flatten)]
        approval: Approval,
        /// File with a token of scope `service`.
        #[arg(long, value_name = "FILE", required_unless_present = "client")]
        token_file: Option<PathBuf>,
        /// The credential.
        #[arg(long, value_name = "ID", allow_hyphen_values = true)]
        key: String,
        /// Hash to be signed, base64; may be given more than once.
        #[arg(long, required = true)]
        hash: Vec<String>,
        /// Object identifier of the hash.
        #[arg(long, default_value = "2.16.840.1.101.3.4.2.1")]
        hash_algo: String,
        /// The hashes are of documents, for `sign-doc`; in version 2.
        #[arg(long)]
        documents: bool,
        /// Secrets of the credential, or of the person.
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
        #[arg(long, value_name = "ID", allow_hyphen_values = true)]
        key: String,
    },
    /// Fetch the evidence of a signature that this client got, for `natsuin evidence verify`.
    Receipt {
        /// Where.
        #[command(flatten)]
        at: At,
        /// File with a token.
        #[arg(long, value_name = "FILE")]
        token_file: PathBuf,
        /// The credential.
        #[arg(long, value_name = "ID", allow_hyphen_values = true)]
        key: String,
        /// The signature value, base64, as `sign-hash` got it.
        #[arg(long, value_name = "BASE64")]
        signature: String,
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
        #[arg(long, value_name = "ID", allow_hyphen_values = true)]
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
        /// Whether to wait for the values.
        #[command(flatten)]
        later: Later,
    },
    /// Calls that go on with what others began.
    #[command(flatten)]
    Call(calls::Call),
    /// Check whether a service does what the specification says. With PIN and seed it makes signatures over random bytes and verifies
    /// them: of a key in explicit mode one, and with `--user` of a key in OAuth mode two.
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
        #[arg(long, value_name = "ID", allow_hyphen_values = true)]
        key: Option<String>,
        /// Secrets of the credential, or of the person who approves.
        #[command(flatten)]
        secrets: Secrets,
        /// Who logs in and approves.
        #[command(flatten)]
        person: Tester,
        /// Object identifier of the signature algorithm to try; default: the first of the key's that goes with SHA-256.
        #[arg(long, value_name = "OID")]
        sign_algo: Option<String>,
        /// Registered client, for what the authorization server has to refuse and, with `--user`, for what it has to give; no browser is
        /// needed.
        #[arg(long, requires = "redirect_uri")]
        client: Option<String>,
        /// File with its secret, if it has one.
        #[arg(long, value_name = "FILE", requires = "client")]
        client_secret_file: Option<PathBuf>,
        /// Redirect URI that is registered for it.
        #[arg(long, value_name = "URI", requires = "client")]
        redirect_uri: Option<String>,
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
            browser,
            person,
            totp_secret_file,
            refresh_file,
            remember,
        } => {
            let seed = totp_secret_file.as_deref();
            match (browser.is_wanted(), refresh_file, person.given()) {
                (true, Some(file), _) => browser::refresh(&at, &browser, &file, out).await,
                (true, None, Some(_)) => unattended::login(&at, &browser, &person, seed, out).await,
                (true, None, None) => browser::login(&at, &browser, out).await,
                // Nobody proves a key at `auth/login`.
                (false, ..) if at.dpop_key_file.is_some() => Err(unattended::missing("--client")),
                (false, Some(file), _) => {
                    let body =
                        json!({ "refresh_token": secret(&file)?.expose(), "rememberMe": remember });
                    let service = service(&at)?;
                    told(service.call("auth/login", Proof::None, &body).await, out)
                }
                (false, None, Some((user, password))) => {
                    let body = json!({ "rememberMe": remember });
                    let password = with_code(secret(password)?, seed)?;
                    let proof = Proof::Basic {
                        name: user,
                        password: &password,
                    };
                    told(service(&at)?.call("auth/login", proof, &body).await, out)
                }
                (false, None, None) => Err(unattended::missing("--user")),
            }
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
            browser,
            person,
            approval,
            token_file,
            key,
            hash,
            hash_algo,
            documents,
            secrets,
        } => {
            let kind = match documents {
                true => HashType::Sdr,
                false => HashType::Dtbsr,
            };
            if browser.is_wanted() {
                let asked = browser::asked(&key, &hash, &hash_algo, kind)?;
                return match person.given() {
                    Some(_) => {
                        let given = (&person, &approval, &secrets);
                        unattended::authorize(&at, &browser, given, asked, out).await
                    }
                    None => browser::authorize(&at, &browser, asked, out).await,
                };
            }
            let token = secret(&token_file.unwrap_or_default())?;
            let service = service(&at)?;
            let proof = Proof::Bearer(&token);
            // Where the secrets go is the credential's own word.
            let about = json!({ "credentialID": key, "authInfo": true });
            let about = service.call("credentials/info", proof, &about).await;
            let about = about.map_err(|e| unreachable(&e))?;
            if about.status != 200 {
                return told(Ok(about), out);
            }
            let (pin, otp) = (secrets.pin()?, secrets.otp()?);
            let places = service.version().places(&about.json().unwrap_or_default());
            let given = places.fill(
                pin.as_ref().map(SecretText::expose),
                otp.as_ref().map(SecretText::expose),
            );
            let (hashes, algorithm) = service.version().hash_members();
            let mut body = json!({ "credentialID": key, "numSignatures": hash.len() });
            body[hashes] = json!(hash);
            body[algorithm] = json!(hash_algo);
            if service.version() == Version::V2 {
                // Said, since a contract may mean something else by nothing.
                body["hashType"] = json!(kind.as_str());
            }
            for (name, value) in given.map_err(|e| no_place(&e))? {
                body[name] = value;
            }
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
        CscCommand::Receipt {
            at,
            token_file,
            key,
            signature,
        } => {
            let (token, service) = (secret(&token_file)?, service(&at)?);
            let body = json!({ "credentialID": key, "signature": signature });
            let proof = Proof::Bearer(&token);
            told(service.call("signatures/receipt", proof, &body).await, out)
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
            later,
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
            later.put_into(&mut body);
            let proof = Proof::Bearer(&token);
            told(service.call("signatures/signHash", proof, &body).await, out)
        }
        CscCommand::Call(call) => calls::run(call, out).await,
        CscCommand::Check {
            at,
            token_file,
            other_token_file,
            key,
            secrets,
            person,
            sign_algo,
            client,
            client_secret_file,
            redirect_uri,
            junit,
        } => {
            tester::bound_to_nothing(&at, client.as_deref())?;
            let secret_of_client = client_secret_file.as_deref().map(secret).transpose()?;
            let client = client
                .zip(redirect_uri)
                .map(|(id, redirect_uri)| ClientMeans {
                    id,
                    secret: secret_of_client,
                    redirect_uri,
                });
            let means = Means {
                token: token_file.as_deref().map(secret).transpose()?,
                other: other_token_file.as_deref().map(secret).transpose()?,
                credential: key,
                secrets: secrets.pin()?.zip(secrets.otp()?),
                login: person.login_call()?,
                hash: SystemRandom.digest32().0.to_vec(),
                sign_algo,
                client,
            };
            let service = service(&at)?;
            let mut person = person.person(&at, &secrets, out)?;
            let person = person.as_mut().map(|person| person as &mut dyn Person);
            let cases = check::check(&service, &means, person).await;
            let cases = cases.map_err(|e| unreachable(&e))?;
            if let Some(file) = junit {
                std::fs::write(&file, to_junit(service.url().as_str(), &cases))
                    .map_err(|e| input(&file, &e))?;
            }
            Ok(report(service.url().as_str(), &cases, out))
        }
    }
}
