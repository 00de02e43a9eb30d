//! What officers have signed, kept as evidence: an entry of the log names it by digest, and here stands what was decided, why, and by whom.

use cm_api::Refusal;
use core_types::{Digest32, Random, SecretBytes, UnixTime};
use serde::Serialize;
use store_kit::{Tx, sql};

use crate::module::Module;
use crate::store::Failed;
use crate::vault::Vault;

/// What two officers decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptApproval {
    /// As the log names it: `approval` of `cm.switched` and `cm.restore-approved`, `ceremony` of `cm.ceremony-held`.
    pub approval: Digest32,
    /// When it was carried out.
    pub at: UnixTime,
    /// A compact JWS of each of them, over the same bytes.
    pub signed: Vec<String>,
}

fn place(id: &str, at: i64) -> Vec<u8> {
    format!("natsuin-cm-approval-v1\n{id}\n{at}").into_bytes()
}

/// Keeps what was signed, in the transaction of its effect.
pub(crate) async fn keep(
    tx: &mut Tx,
    vault: &Vault,
    random: &dyn Random,
    approval: Digest32,
    signed: &[String],
    at: UnixTime,
) -> Result<(), Failed> {
    let id = approval.to_string();
    let json = serde_json::to_vec(signed).map_err(|_| Failed::Tampered)?;
    let sealed = vault.seal(&SecretBytes::new(json), &place(&id, at.0), random);
    let sealed = sealed.map_err(|_| Failed::Tampered)?;
    put(tx, &id, at.0, &sealed).await
}

/// Puts a row as it is, as a restore does.
pub(crate) async fn put(tx: &mut Tx, id: &str, at: i64, sealed: &[u8]) -> Result<(), Failed> {
    let query =
        "INSERT INTO cm_approval (id, at, sealed) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    tx.execute(sql(query).bind(id).bind(at).bind(sealed))
        .await?;
    Ok(())
}

impl Module {
    /// All that officers decided and this store has kept, the oldest first.
    ///
    /// # Errors
    /// [`Refusal::NotOperational`] when it can't be read, [`Refusal::NoSuchKey`] when a row isn't what the module wrote.
    pub async fn approvals(&self) -> Result<Vec<KeptApproval>, Refusal> {
        let read = async {
            let mut tx = self.store.read("cm-approvals").await?;
            let query = "SELECT id, at, sealed FROM cm_approval ORDER BY at, id";
            let rows = tx.fetch_all(sql(query)).await?;
            let read = rows.iter().map(|row| {
                let (id, at) = (row.text("id")?, row.int("at")?);
                let opened = self.vault.open(&row.blob("sealed")?, &place(&id, at));
                let opened = opened.map_err(|_| Failed::Tampered)?;
                let signed = serde_json::from_slice(opened.expose());
                Ok(KeptApproval {
                    approval: Digest32::parse(&id).map_err(|_| Failed::Tampered)?,
                    at: UnixTime(at),
                    signed: signed.map_err(|_| Failed::Tampered)?,
                })
            });
            read.collect::<Result<Vec<_>, Failed>>()
        };
        read.await.map_err(|failed| self.fail(failed))
    }
}
