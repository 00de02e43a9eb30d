//! How an installation begins, and how one with too few officers is opened again: on the machine of the SAM, by persons who
//! are there together. What is handed out lies in a new directory, one file a person.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use audit_service::{BringUpLog, DeleteArchived, ExportLog, ForgetPerson};
use clap::Subcommand;
use core_types::random::SystemRandom;
use core_types::{OfficerId, SecretBytes, UnixTime};
use sam_core::office::GenesisRecord;
use sam_core::office::ceremony::{self, Begun, Invitation, Plan, Site};
use serde::Deserialize;
use service_kit::{Trouble, daemon};
use shares::Share;

use crate::reading::ExportEvidence;

/// What is done instead of serving.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Begin the installation, once, on an empty store: makes its first security officers together, three at least, and the shares
    /// that can open it again. Writes what each person gets into a new directory.
    Init {
        /// The officers (TOML): [[officer]] with id, name, identity and until, trained_at and trained_until.
        #[arg(long)]
        officers: PathBuf,
        /// How many shares open the installation again.
        #[arg(long, default_value_t = 2)]
        need: u8,
        /// How many shares there are.
        #[arg(long, default_value_t = 3)]
        of: u8,
        /// Directory for what is handed out; it must be new.
        #[arg(long)]
        out: PathBuf,
    },
    /// Give every entry of the SAM's log its place, sign a checkpoint, and write the log to a directory for archive, check and
    /// restore; on PostgreSQL beside the running daemon.
    ExportLog(ExportLog),
    /// Print the public key of the SAM's log, as witnesses and auditors keep it (sam.pub), from its name and seed; nothing is started.
    LogKey,
    /// Write the evidence of an act to a file, for an auditor; on PostgreSQL beside the running daemon.
    ExportEvidence(ExportEvidence),
    /// Delete from the SAM's live log what an archive has, as two officers approved.
    DeleteArchived(DeleteArchived),
    /// After the restore of a backup that is older than the log: put the entries that the store lacks back, from an export that
    /// the witness knows to its end. To be done before the first start.
    BringUpLog(BringUpLog),
    /// Forget who somebody was, as two officers approved, once nothing has to be kept of them.
    ForgetPerson(ForgetPerson),
    /// Open an installation again that has fewer than three usable security officers, with the shares of several persons.
    Reopen {
        /// The officers, as for `init`.
        #[arg(long)]
        officers: PathBuf,
        /// A share; given as often as shares are needed.
        #[arg(long = "share", required = true)]
        shares: Vec<PathBuf>,
        /// Directory for what is handed out; it must be new.
        #[arg(long)]
        out: PathBuf,
    },
}

impl Command {
    /// Whether what it writes into the log is a node's of its own, beside that of the daemon.
    pub(crate) fn is_beside(&self) -> bool {
        match self {
            Self::ExportLog(_)
            | Self::ExportEvidence(_)
            | Self::DeleteArchived(_)
            | Self::ForgetPerson(_)
            | Self::Reopen { .. } => true,
            Self::Init { .. } | Self::BringUpLog(_) | Self::LogKey => false,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Officers {
    officer: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: OfficerId,
    name: String,
    identity: String,
    until: String,
    /// The day of the training, and the last one for which it holds; both or none.
    trained_at: Option<String>,
    trained_until: Option<String>,
}

/// The persons of a file.
pub(crate) fn plans(path: &Path) -> Result<Vec<Plan>, Trouble> {
    let listed: Officers = daemon::load(path)?;
    let plan = |entry: Entry| {
        let until = UnixTime::from_rfc3339(&entry.until).ok_or_else(|| {
            trouble(
                "officers",
                format!("until of {} is not a time", entry.id),
                "write it as 2027-03-31T15:00:00Z",
            )
        })?;
        let training = match (&entry.trained_at, &entry.trained_until) {
            (None, None) => None,
            (at, until) => {
                let both = at.as_deref().zip(until.as_deref());
                let told = both.and_then(|(at, until)| ceremony::training(at, until));
                let told = told.ok_or_else(|| {
                    let what = format!("the training of {} isn't two days", entry.id);
                    let remedy = "write trained_at and trained_until as 2026-11-20, days in Japan";
                    trouble("officers", what, remedy)
                })?;
                Some(told)
            }
        };
        Ok(Plan {
            officer: entry.id,
            name: entry.name,
            identity: entry.identity,
            until,
            training,
        })
    };
    listed.officer.into_iter().map(plan).collect()
}

/// Makes the beginning: the genesis record, and on disk what is handed out. Nothing is recorded in the store yet.
pub(crate) fn begin(
    site: Site<'_>,
    plans: &[Plan],
    (need, of): (u8, u8),
    settings: Vec<(sap::office::Part, core_types::Digest32)>,
    now: UnixTime,
) -> Result<(Begun, Vec<Share>), Trouble> {
    let begun = ceremony::begin(site, plans, (need, of), settings, now, &SystemRandom);
    let remedy = "name three to nine different persons, so that one asks and two others approve, with terms of at most three \
                  years, and two shares at least";
    let begun = begun.map_err(|e| trouble("officers", e.to_string(), remedy))?;
    let shares = shares::deal(&begun.recovery, need, of, &SystemRandom);
    let shares =
        shares.map_err(|e| trouble("shares", e.to_string(), "choose how many of how many"))?;
    Ok((begun, shares))
}

/// Makes what opens an installation again.
pub(crate) fn reopen(
    record: &GenesisRecord,
    plans: &[Plan],
    given: &[PathBuf],
    now: UnixTime,
) -> Result<(String, Vec<Invitation>), Trouble> {
    let mut joined = Vec::new();
    for path in given {
        let text = daemon::text(path)?;
        let share = Share::parse(text.trim());
        let share = share.map_err(|e| {
            let what = format!("{}: {e}", path.display());
            trouble("shares", what, "take the share's file as it was made")
        })?;
        joined.push(share);
    }
    let remedy = "give as many different shares of this installation as are needed";
    let recovery = shares::join(&joined).map_err(|e| trouble("shares", e.to_string(), remedy))?;
    ceremony::reopen(record, &recovery, plans, now, &SystemRandom)
        .map_err(|e| trouble("shares", e.to_string(), remedy))
}

/// Writes a file for each person: the link to enrol a passkey, and the shares.
pub(crate) fn hand_out(
    out: &Path,
    origin: &str,
    invitations: &[Invitation],
    shares: &[Share],
) -> Result<String, Trouble> {
    fs::create_dir(out).map_err(|e| file(out, &e))?;
    for invitation in invitations {
        let path = out.join(format!("{}.link", invitation.officer));
        let mut link = format!("{origin}/e#").into_bytes();
        link.extend_from_slice(invitation.ticket.expose());
        write_new(&path, &SecretBytes::new(link))?;
    }
    for share in shares {
        let path = out.join(format!("share-{}.txt", share.number()));
        write_new(&path, &share.text())?;
    }
    Ok(format!(
        "{} links and {} shares in {}; hand each to its person, have the links opened within a day, and delete them here",
        invitations.len(),
        shares.len(),
        out.display()
    ))
}

pub(crate) fn write_new(path: &Path, bytes: &SecretBytes) -> Result<(), Trouble> {
    let mut options = OpenOptions::new();
    let opened = options.create_new(true).write(true).mode(0o600).open(path);
    let mut target: File = opened.map_err(|e| file(path, &e))?;
    let done = target
        .write_all(bytes.expose())
        .and_then(|()| target.sync_all());
    done.map_err(|e| file(path, &e))
}

fn file(path: &Path, error: &std::io::Error) -> Trouble {
    let remedy = "check the path, and that it isn't there yet";
    trouble("file", format!("{}: {error}", path.display()), remedy)
}

pub(crate) fn trouble(code: &'static str, what: String, remedy: &str) -> Trouble {
    Trouble::new(code, what, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(more: &str) -> Result<Vec<Plan>, Trouble> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("officers.toml");
        let one = "[[officer]]\nid = 'sato'\nname = 'Sato'\nidentity = '1'\nuntil = '2028-03-31T15:00:00Z'\n";
        fs::write(&file, format!("{one}{more}")).unwrap();
        plans(&file)
    }

    // shows: I-7.1.1.8-appointed-and-trained
    #[test]
    fn a_training_has_two_days_or_isnt_told() {
        assert_eq!(read("").unwrap()[0].training, None);
        let trained = read("trained_at = '2026-11-20'\ntrained_until = '2027-11-19'\n").unwrap();
        let wanted = ceremony::training("2026-11-20", "2027-11-19");
        assert!(wanted.is_some());
        assert_eq!(trained[0].training, wanted);
        for bad in [
            "trained_at = '2026-11-20'\n",
            "trained_until = '2027-11-19'\n",
            "trained_at = '2026-11-20'\ntrained_until = 'later'\n",
            "trained_at = 2026\n",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn two_officers_begin_nothing_and_nothing_is_handed_out() {
        let (root, _) = jose::SigningKey::generate().unwrap();
        let tenant = core_types::TenantId::parse("t").unwrap();
        let site = Site {
            sam: "sam.test",
            tenant: &tenant,
            root: root.public(),
        };
        let now = UnixTime::from_rfc3339("2026-11-20T00:00:00Z").unwrap();
        let one = read("").unwrap().remove(0);
        let plans: Vec<Plan> = ["sato", "suzuki", "takahashi"]
            .map(|id| Plan {
                officer: OfficerId::parse(id).unwrap(),
                identity: id.to_owned(),
                ..one.clone()
            })
            .into();
        assert!(begin(site, &plans, (2, 3), Vec::new(), now).is_ok());
        let refused = begin(site, &plans[..2], (2, 3), Vec::new(), now).err();
        assert_eq!(refused.unwrap().code, "officers");
    }
}
