//! Calls that go on with what others began, and those beside a signature.

use std::path::PathBuf;

use core_types::bytes::b64;
use csc_client::Version;
use csc_client::plain::Proof;
use serde_json::{Value, json};

use super::At;
use super::browser::{self, Registered};
use super::given::{input, secret, service, told, told_or_waits};
use crate::output::{Exit, Failure, Out};

/// More commands of `natsuin csc`.
#[derive(Debug, clap::Subcommand)]
pub enum Call {
    /// Ask what became of an authorization that its person decides elsewhere (version 2). Exit code 7 as long as they haven't.
    AuthorizeCheck {
        /// Where.
        #[command(flatten)]
        at: At,
        /// File with the token of `authorize`.
        #[arg(long, value_name = "FILE")]
        token_file: PathBuf,
        /// File with the `handle` that `authorize` answered with.
        #[arg(long, value_name = "FILE")]
        handle_file: PathBuf,
    },
    /// Get the next right to sign of an authorization with signatures left; the one before is dead then.
    Extend {
        /// Where.
        #[command(flatten)]
        at: At,
        /// File with a token.
        #[arg(long, value_name = "FILE")]
        token_file: PathBuf,
        /// File with the current SAD, if it isn't the token itself.
        #[arg(long, value_name = "FILE")]
        sad_file: Option<PathBuf>,
        /// The credential.
        #[arg(long, value_name = "ID", allow_hyphen_values = true)]
        key: String,
        /// Hash that will be signed next, base64; may be given more than once.
        #[arg(long)]
        hash: Vec<String>,
        /// Object identifier of the hash.
        #[arg(long, default_value = "2.16.840.1.101.3.4.2.1")]
        hash_algo: String,
    },
    /// Fetch the values of `sign-hash --later` (version 2). Exit code 7 as long as there are none.
    Poll {
        /// Where.
        #[command(flatten)]
        at: At,
        /// File with a token of the same client and person.
        #[arg(long, value_name = "FILE")]
        token_file: PathBuf,
        /// File with the `responseID` that `sign-hash` answered with.
        #[arg(long, value_name = "FILE")]
        request_file: PathBuf,
        /// Whose they are, for a token of the client itself.
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
    },
    /// End a token: with `--client` at the authorization server (OAuth 2), else by `auth/revoke`. With a refresh token ends all that
    /// came of it.
    Revoke {
        /// Where.
        #[command(flatten)]
        at: At,
        /// By the client itself.
        #[command(flatten)]
        registered: Registered,
        /// File with the token to end.
        #[arg(long, value_name = "FILE")]
        revoke_file: PathBuf,
        /// File with a token of scope `service` that ends it; without one, it ends itself.
        #[arg(long, value_name = "FILE", conflicts_with = "client")]
        token_file: Option<PathBuf>,
    },
    /// Have a hash time-stamped.
    Timestamp {
        /// Where.
        #[command(flatten)]
        at: At,
        /// File with a token of scope `service`.
        #[arg(long, value_name = "FILE")]
        token_file: PathBuf,
        /// The hash, base64.
        #[arg(long)]
        hash: String,
        /// Object identifier of the hash.
        #[arg(long, default_value = "2.16.840.1.101.3.4.2.1")]
        hash_algo: String,
        /// Number that has to be in the time-stamp, hexadecimal.
        #[arg(long, value_name = "HEX")]
        nonce: Option<String>,
    },
    /// Have the service sign documents, or digests of documents (version 2).
    SignDoc {
        /// Where.
        #[command(flatten)]
        at: At,
        /// Documents.
        #[arg(required_unless_present = "hash", conflicts_with = "hash")]
        documents: Vec<PathBuf>,
        /// Digest of a document, base64, instead; may be given more than once.
        #[arg(long)]
        hash: Vec<String>,
        /// Object identifier of the digests' hash.
        #[arg(long, default_value = "2.16.840.1.101.3.4.2.1")]
        hash_algo: String,
        /// File with a token.
        #[arg(long, value_name = "FILE")]
        token_file: PathBuf,
        /// File with the SAD, if it isn't the token itself.
        #[arg(long, value_name = "FILE")]
        sad_file: Option<PathBuf>,
        /// The credential.
        #[arg(long, value_name = "ID", allow_hyphen_values = true)]
        key: String,
        /// Format: C (CAdES), P (PAdES), X (XAdES) or J (JAdES).
        #[arg(long, default_value = "C")]
        format: String,
        /// Level, such as AdES-B-T; the service's default is AdES-B-B.
        #[arg(long)]
        level: Option<String>,
        /// Where the document is, such as Detached; the format has a default.
        #[arg(long)]
        envelope: Option<String>,
        /// Object identifier of the signature algorithm.
        #[arg(long)]
        sign_algo: String,
        /// Its parameters, base64 of DER.
        #[arg(long)]
        sign_algo_params: Option<String>,
    },
}

/// Makes a call and prints its answer.
pub(super) async fn run(call: Call, out: Out) -> Result<Exit, Failure> {
    match call {
        Call::AuthorizeCheck {
            at,
            token_file,
            handle_file,
        } => {
            let (token, service) = (secret(&token_file)?, service(&at)?);
            let body = json!({ "handle": secret(&handle_file)?.expose() });
            let method = "credentials/authorizeCheck";
            let answer = service.call(method, Proof::Bearer(&token), &body).await;
            told_or_waits(answer, out)
        }
        Call::Extend {
            at,
            token_file,
            sad_file,
            key,
            hash,
            hash_algo,
        } => {
            let (token, service) = (secret(&token_file)?, service(&at)?);
            let sad = sad_file.as_deref().map(secret).transpose()?;
            let sad = sad.as_ref().unwrap_or(&token);
            let mut body = json!({ "credentialID": key, "SAD": sad.expose() });
            if !hash.is_empty() {
                let (hashes, algorithm) = service.version().hash_members();
                body[hashes] = json!(hash);
                // In version 1 the length tells it.
                if service.version() == Version::V2 {
                    body[algorithm] = json!(hash_algo);
                }
            }
            let method = "credentials/extendTransaction";
            let answer = service.call(method, Proof::Bearer(&token), &body).await;
            told(answer, out)
        }
        Call::Poll {
            at,
            token_file,
            request_file,
            user,
        } => {
            let (token, service) = (secret(&token_file)?, service(&at)?);
            let mut body = json!({ "requestID": secret(&request_file)?.expose() });
            if let Some(user) = user {
                body["userID"] = json!(user);
            }
            let method = "signatures/signPolling";
            let answer = service.call(method, Proof::Bearer(&token), &body).await;
            told_or_waits(answer, out)
        }
        Call::Revoke {
            at,
            registered,
            revoke_file,
            token_file,
        } => {
            let revoked = secret(&revoke_file)?;
            if registered.is_given() {
                return browser::revoke(&at, &registered, &revoked, out).await;
            }
            let token = token_file.as_deref().map(secret).transpose()?;
            let proof = Proof::Bearer(token.as_ref().unwrap_or(&revoked));
            let body = json!({ "token": revoked.expose() });
            told(service(&at)?.call("auth/revoke", proof, &body).await, out)
        }
        Call::Timestamp {
            at,
            token_file,
            hash,
            hash_algo,
            nonce,
        } => {
            let (token, service) = (secret(&token_file)?, service(&at)?);
            let mut body = json!({ "hash": hash, "hashAlgo": hash_algo });
            if let Some(nonce) = nonce {
                body["nonce"] = json!(nonce);
            }
            let method = "signatures/timestamp";
            let answer = service.call(method, Proof::Bearer(&token), &body).await;
            told(answer, out)
        }
        Call::SignDoc {
            at,
            documents,
            hash,
            hash_algo,
            token_file,
            sad_file,
            key,
            format,
            level,
            envelope,
            sign_algo,
            sign_algo_params,
        } => {
            let (token, service) = (secret(&token_file)?, service(&at)?);
            let mut common = json!({ "signature_format": format, "signAlgo": sign_algo });
            for (name, value) in [
                ("conformance_level", level),
                ("signed_envelope_property", envelope),
                ("signAlgoParams", sign_algo_params),
            ] {
                if let Some(value) = value {
                    common[name] = json!(value);
                }
            }
            let mut body = json!({ "credentialID": key });
            if documents.is_empty() {
                common["hashes"] = json!(hash);
                common["hashAlgorithmOID"] = json!(hash_algo);
                body["documentDigests"] = json!([common]);
            } else {
                let entry = |file: &PathBuf| -> Result<Value, Failure> {
                    let bytes = std::fs::read(file).map_err(|e| input(file, &e))?;
                    let mut entry = common.clone();
                    entry["document"] = json!(b64(bytes));
                    Ok(entry)
                };
                let entries = documents.iter().map(entry);
                body["documents"] = json!(entries.collect::<Result<Vec<_>, _>>()?);
            }
            if let Some(file) = sad_file {
                body["SAD"] = json!(secret(&file)?.expose());
            }
            let method = "signatures/signDoc";
            let answer = service.call(method, Proof::Bearer(&token), &body).await;
            told(answer, out)
        }
    }
}
