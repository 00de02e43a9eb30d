//! Options of `natsuin key`.

use std::path::PathBuf;

use clap::Subcommand;

use super::{Bring, Import, import, receive, receiver};
use crate::output::{Exit, Failure, Out};

/// Commands of `natsuin key`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Show what a key file holds, for the portal; or, with an approval, seal the key and bring it.
    Import {
        /// The key: PKCS#8 (PEM or DER) or PKCS#12.
        file: PathBuf,
        /// File with its password on the first line.
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        /// Number of the approval, as the approval page shows it.
        #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, requires_all = ["sic", "root"])]
        act: Option<String>,
        /// Origin of the approval page, such as `https://sign-example.jp`.
        #[arg(long, value_name = "URL")]
        sic: Option<String>,
        /// The module's root key, a JWK in a file, known from before.
        #[arg(long, value_name = "JWK")]
        root: Option<PathBuf>,
        /// CA certificates for HTTPS, PEM; may be given more than once.
        #[arg(long)]
        trust: Vec<PathBuf>,
        /// Send it as the certification authority with this key (PKCS#8, P-256), which the service trusts.
        #[arg(long, value_name = "KEY")]
        as_ca: Option<PathBuf>,
    },
    /// Make a receiver's key; or open a key that was handed over.
    Receive {
        /// The file that the portal handed out.
        #[arg(required_unless_present = "new")]
        file: Option<PathBuf>,
        /// Make a receiver's key in this file, and show its public half for the portal.
        #[arg(long, value_name = "FILE", conflicts_with_all = ["file", "with", "out"])]
        new: Option<PathBuf>,
        /// The receiver's key.
        #[arg(long, value_name = "FILE", required_unless_present = "new")]
        with: Option<PathBuf>,
        /// Where the private key goes, PKCS#8 in PEM.
        #[arg(long, value_name = "FILE", required_unless_present = "new")]
        out: Option<PathBuf>,
    },
}

/// Runs a command.
///
/// # Errors
/// [`Failure`].
pub async fn run(command: KeyCommand, out: Out) -> Result<Exit, Failure> {
    match command {
        KeyCommand::Import {
            file,
            password_file,
            act,
            sic,
            root,
            trust,
            as_ca,
        } => {
            // The parser has seen to it that they come together.
            let bring = match (act, sic, root) {
                (Some(act), Some(sic), Some(root)) => Some(Bring {
                    act,
                    sic,
                    root,
                    trust,
                    as_ca,
                }),
                _ => None,
            };
            let import = Import {
                file,
                password_file,
                bring,
            };
            self::import(import, out).await
        }
        KeyCommand::Receive {
            file,
            new,
            with,
            out: to,
        } => match (new, file, with, to) {
            (Some(new), ..) => receiver(&new, out),
            (None, Some(file), Some(with), Some(to)) => receive(&file, &with, &to, out),
            _ => Err(Failure::new(
                Exit::Input,
                "usage",
                "a file, --with and --out are needed",
                "see: natsuin key receive --help",
            )),
        },
    }
}
