//! Whether a store came out of a backup as two people wanted it. What the restore left in the store anybody may have written who
//! writes there; so it carries the backup's signature and both approvals, and the zone judges them by keys of its own settings.

use core_types::words::is_reason;
use core_types::{Digest32, sha256};
use jose::Jwk;
use serde::Deserialize;
use store_kit::{StoreError, Tx, sql};

use crate::event::Event;

/// `typ` of the signature over a backup's list.
const TYP_BACKUP: &str = "natsuin-backup+jws";
/// `typ` of an approval.
const TYP_RESTORE: &str = "natsuin-restore+jws";

/// Public keys of those who make backups and of those who approve their restore. By default nobody, and then no restore counts as
/// approved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restorers {
    /// What signs backups.
    pub backups: Vec<Jwk>,
    /// System operators'.
    pub operators: Vec<Jwk>,
    /// Security officers'.
    pub officers: Vec<Jwk>,
}

/// What a restore left to be recorded.
#[derive(Deserialize)]
struct Note {
    /// Name of the backup.
    backup: Digest32,
    /// The stores that were filled, a line each; the SHA-256 of this text is what was approved.
    stores: String,
    /// Signature of the backup.
    signature: String,
    /// The operator's approval, and the officer's.
    approvals: [String; 2],
}

/// What is signed of a backup.
#[derive(Deserialize)]
struct Signed {
    manifest: Digest32,
}

/// What is approved.
#[derive(Deserialize)]
struct Approval {
    backup: Digest32,
    target: Digest32,
    office: String,
    reason: String,
}

/// What there is to record of a restore: the note is gone with this transaction.
pub(crate) async fn restored(
    tx: &mut Tx,
    zone: &str,
    known: &Restorers,
) -> Result<Vec<Event>, StoreError> {
    let Some(note) = store_kit::take_filled(tx).await? else {
        return Ok(Vec::new());
    };
    let unapproved = |backup, reason: &'static str| {
        let reason = reason.into();
        let alarm = Event::Alarm {
            what: "restored-unapproved".into(),
        };
        Ok(vec![
            Event::StoreRestoredUnapproved { backup, reason },
            alarm,
        ])
    };
    let Ok(note) = serde_json::from_str::<Note>(&note) else {
        return unapproved(Digest32([0; 32]), "unreadable");
    };
    let names = store_kit::store_names(tx).await?;
    let mut lines = note.stores.lines();
    let ours = |line: &str| {
        let name = line.strip_prefix(zone).and_then(|l| l.strip_prefix(' '));
        name.is_some_and(|name| names.iter().any(|own| own.to_string() == name))
    };
    if !lines.any(ours) {
        return unapproved(note.backup, "other-store");
    }
    let target = sha256(&[note.stores.as_bytes()]);
    if is_recorded(tx, target).await? {
        return unapproved(note.backup, "again");
    }
    match known.judge(&note, target) {
        Ok((operator, officer)) => Ok(vec![Event::StoreRestored {
            backup: note.backup,
            target,
            operator,
            officer,
            approvals: sha256(&[note.approvals.join("\n").as_bytes()]),
        }]),
        Err(reason) => unapproved(note.backup, reason),
    }
}

impl Restorers {
    /// Thumbprints of the operator's and the officer's key, or the word for what is missing.
    fn judge(&self, note: &Note, target: Digest32) -> Result<(Digest32, Digest32), &'static str> {
        let signs = |key: &Jwk| is_signed(note.backup, &note.signature, key);
        if !self.backups.iter().any(signs) {
            return Err("backup-unsigned");
        }
        let by = |approval: &str, keys: &[Jwk], office: &str| {
            let good = |key: &&Jwk| {
                let payload = jose::verify(approval.trim(), TYP_RESTORE, key).ok();
                let told = payload.and_then(|p| serde_json::from_slice::<Approval>(&p).ok());
                told.is_some_and(|told| {
                    (told.backup, told.target, &*told.office) == (note.backup, target, office)
                        && is_reason(&told.reason)
                })
            };
            keys.iter().find(good).map(Jwk::thumbprint)
        };
        let [operator, officer] = &note.approvals;
        let operator = by(operator, &self.operators, "system-operator");
        let officer = by(officer, &self.officers, "security-officer");
        match (operator, officer) {
            (Some(operator), Some(officer)) if operator != officer => Ok((operator, officer)),
            (None, _) => Err("no-operator"),
            _ => Err("no-officer"),
        }
    }
}

/// Whether the key signed the backup with this name.
pub(crate) fn is_signed(backup: Digest32, signature: &str, key: &Jwk) -> bool {
    let payload = jose::verify(signature, TYP_BACKUP, key).ok();
    let signed = payload.and_then(|p| serde_json::from_slice::<Signed>(&p).ok());
    signed.is_some_and(|signed| signed.manifest == backup)
}

/// Whether this log has this restore already: then its note was put back.
async fn is_recorded(tx: &mut Tx, target: Digest32) -> Result<bool, StoreError> {
    #[derive(Deserialize)]
    struct Entry {
        detail: Detail,
    }
    #[derive(Deserialize)]
    struct Detail {
        target: Option<Digest32>,
    }
    let select = sql("SELECT body FROM audit_entry WHERE kind = 'service.restored'");
    for row in tx.fetch_all(select).await? {
        let entry = serde_json::from_str::<Entry>(&row.text("body")?);
        if entry.is_ok_and(|entry| entry.detail.target == Some(target)) {
            return Ok(true);
        }
    }
    Ok(false)
}
