//! Keys of the provider: what officers approve, and what their administrator brings.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use cm_api::ceremony::{Ceremony, CeremonyRequest, Held, Subject, Wanted};
use cm_api::rpc::HoldCeremony;
use core_types::{Digest32, KeyAlg, KeyId, Level, UnixTime};
use service_kit::{Client, Trouble};

use crate::admin::{checked, officer, read_root, tell, trouble, write_new};

/// What officers approve of a key of the provider. Both give the same values.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum What {
    /// Make a key that counter-signs signature values of this module; the answer has its certification request.
    Seal {
        /// Kind of key, such as `p-256` or `rsa-3072`.
        #[arg(long, value_parser = word::<KeyAlg>)]
        alg: KeyAlg,
        /// Level of generation and retention.
        #[arg(long, value_parser = level)]
        level: Level,
        /// Country of the provider: two capital letters.
        #[arg(long)]
        country: String,
        /// Name of the provider.
        #[arg(long)]
        organization: String,
        /// Name of the service.
        #[arg(long)]
        name: String,
        /// End of its use, Unix time.
        #[arg(long)]
        not_after: i64,
    },
    /// Make a key that signs the checkpoints of one log (Ed25519).
    Log {
        /// Origin of the log, such as `sign.example.jp/sam`.
        #[arg(long)]
        origin: String,
        /// Level of generation and retention.
        #[arg(long, value_parser = level)]
        level: Level,
        /// End of its use, Unix time.
        #[arg(long)]
        not_after: i64,
    },
    /// Let a SAM follow that has lost the keys of the one before: within the hour its next keys are taken without their word.
    NewSam,
    /// Destroy a key of either kind.
    Destroy {
        /// Its id.
        #[arg(long, value_parser = word::<KeyId>, allow_hyphen_values = true)]
        id: KeyId,
        /// SHA-256 of its SubjectPublicKeyInfo, base64url, as told when it was made.
        #[arg(long, value_parser = word::<Digest32>, allow_hyphen_values = true)]
        spki: Digest32,
    },
}

/// A value as it is written in JSON.
fn word<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(text.into()).map_err(|e| e.to_string())
}

fn level(text: &str) -> Result<Level, String> {
    let number: u8 = text.parse().map_err(|_| "1, 2 or 3".to_owned())?;
    Level::try_from(number).map_err(|e| e.to_string())
}

impl From<What> for Wanted {
    fn from(what: What) -> Self {
        match what {
            What::Seal {
                alg,
                level,
                country,
                organization,
                name,
                not_after,
            } => Self::SealKey {
                alg,
                level,
                subject: Subject {
                    country,
                    organization,
                    name,
                },
                not_after: UnixTime(not_after),
            },
            What::Log {
                origin,
                level,
                not_after,
            } => Self::LogKey {
                origin,
                level,
                not_after: UnixTime(not_after),
            },
            What::NewSam => Self::NewSam {},
            What::Destroy { id, spki } => Self::Destroy { key: id, spki },
        }
    }
}

pub(crate) fn approve(
    sam: &str,
    key: &Path,
    root: &Path,
    (reason, exp): (&str, i64),
    what: What,
) -> Result<String, Trouble> {
    let ceremony = Ceremony {
        sam: sam.to_owned(),
        root: read_root(root)?.kid(),
        reason: checked(reason)?,
        exp: UnixTime(exp),
        what: what.into(),
    };
    tell(&ceremony.sentence());
    let approval = ceremony.approve(&officer(key)?);
    approval.map_err(|e| trouble("keys", e, "use a key that officer-key has made"))
}

pub(crate) async fn hold(
    client: &Client,
    approvals: Vec<String>,
    request: Option<&PathBuf>,
) -> Result<String, Trouble> {
    let held = client
        .call::<HoldCeremony>(&CeremonyRequest { approvals })
        .await;
    let remedy = "two different officers approve the same bytes, within the hour, once";
    let held = held.map_err(|e| trouble("ceremony", format!("{e:?}"), remedy))?;
    Ok(match held {
        Held::Made(made) => {
            let spki = core_types::sha256(&[&made.spki.0]);
            let mut lines = vec![format!("key {} was made; SHA-256 of it: {spki}", made.key)];
            match (&made.request, request) {
                (Some(der), Some(path)) => {
                    let pem = pki::pem::encode("CERTIFICATE REQUEST", &der.0);
                    write_new(path, pem.as_bytes())?;
                    lines.push(format!(
                        "its certification request is in {}",
                        path.display()
                    ));
                }
                (Some(der), None) => {
                    lines.push(pki::pem::encode("CERTIFICATE REQUEST", &der.0));
                }
                (None, _) => {
                    let spki = core_types::bytes::b64u(&made.spki.0);
                    lines.push(format!(
                        "public key (SubjectPublicKeyInfo, base64url): {spki}"
                    ));
                }
            }
            lines.join("\n")
        }
        Held::Open(until) => {
            format!(
                "the SAM's next keys are taken until {}: start it now",
                until.rfc3339()
            )
        }
        Held::Destroyed(end) => format!(
            "key {} is unusable since {}{}",
            end.key,
            end.unusable_since,
            end.unrecoverable_after
                .map_or_else(String::new, |at| format!(", unrecoverable after {at}"))
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked_when_they_are_given() {
        assert_eq!(word::<KeyAlg>("p-256"), Ok(KeyAlg::P256));
        assert!(word::<KeyAlg>("p-257").is_err() && word::<KeyId>("a b").is_err());
        assert_eq!(level("2"), Ok(Level::Two));
        assert!(level("4").is_err() && level("two").is_err());
    }

    /// One id in 64 begins with a hyphen, and so does one digest in 64.
    #[test]
    fn what_begins_with_a_hyphen_is_a_value() {
        #[derive(Debug, clap::Parser)]
        struct Line {
            #[command(subcommand)]
            what: What,
        }
        let (id, spki) = (
            "-AGYz_vl-_DtEkUW69czqg",
            "-aJgCGsLmPk8NkIHkOphbiDCuj5mmjT-SAl2FCnYRKU",
        );
        let line = ["approve-key", "destroy", "--id", id, "--spki", spki];
        let read = <Line as clap::Parser>::try_parse_from(line).unwrap();
        let What::Destroy { id: key, spki: of } = read.what else {
            panic!("{read:?}");
        };
        assert_eq!((key.to_string(), of.to_string()), (id.into(), spki.into()));
    }
}
