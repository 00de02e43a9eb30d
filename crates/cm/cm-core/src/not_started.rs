//! The log of a module that hasn't started: what it is to start with is judged by it, and why it doesn't start stands in it.

use std::sync::Arc;

use audit_log::{AuditLog, Event};
use core_types::{Clock, Random};
use store_kit::{Store, sql, transaction};

use crate::backend::Fault;
use crate::module::{StartError, start_error};
use crate::office::Keeper;
use crate::store::{self, Failed};
use crate::vault::{RootSecret, Vault};

/// The log of the module that has begun in this store; nothing where none has. For judging a configuration before it has any effect.
///
/// # Errors
/// [`StartError`], also when the root secret is another one.
pub async fn log_of(
    node: &str,
    store: &Store,
    root_secret: &RootSecret,
    random: Arc<dyn Random>,
) -> Result<Option<AuditLog>, StartError> {
    let vault = Vault::new(root_secret).map_err(|_| StartError::Keys)?;
    let begun = async {
        let mut tx = store.read("cm-begun").await?;
        let secret = sql("SELECT sealed FROM cm_secret WHERE id = $1").bind("root");
        let Some(row) = tx.fetch_optional(secret).await? else {
            return Ok(false);
        };
        store::open_secret(&vault, "root", &row.blob("sealed")?)?;
        Ok::<_, Failed>(true)
    };
    let begun = begun.await.map_err(start_error)?;
    Ok(begun.then(|| AuditLog::new("cm", node, vault.audit_key(), random)))
}

/// Why a module doesn't start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotStarted {
    /// The alarm, such as `cm-start-login`.
    pub what: &'static str,
    /// Whether device or generator isn't what it must be. Then a later start that goes well begins in the state *error*: a test that passes
    /// after one that failed says that the fault comes and goes.
    pub broken: bool,
}

impl NotStarted {
    /// Because of a self-test.
    pub(crate) fn by(fault: &Fault) -> Self {
        Self {
            what: "cm-start-self-test",
            broken: matches!(fault, Fault::Broken(_)),
        }
    }
}

/// Records why a module can't start; once, however often it is started and
/// nothing else happens meanwhile: a device that is away is waited for by starting again and again. A store in which no module has ever
/// started has no log yet, and gets none by this; one of another root secret has a log that this one can't write.
///
/// # Errors
/// [`StartError`] when it can't be recorded.
pub async fn not_started(
    node: &str,
    store: &Store,
    root_secret: &RootSecret,
    clock: &dyn Clock,
    random: Arc<dyn Random>,
    why: NotStarted,
) -> Result<(), StartError> {
    let Some(audit) = log_of(node, store, root_secret, random.clone()).await? else {
        return Ok(());
    };
    let vault = Vault::new(root_secret).map_err(|_| StartError::Keys)?;
    let (now, what) = (clock.now(), why.what);
    let keeper = Keeper {
        vault: &vault,
        random: random.as_ref(),
        audit: &audit,
        now,
    };
    let told: Result<(), Failed> = transaction!(store, "cm-not-started", |tx| {
        if why.broken {
            keeper.keep(tx, &format!("{node}/{}/0", now.0)).await?;
        }
        let last = "SELECT kind, body FROM audit_entry WHERE node = $1 ORDER BY n DESC LIMIT 1";
        if let Some(last) = tx.fetch_optional(sql(last).bind(node)).await?
            && last.text("kind")? == "alarm"
            && last.text("body")?.contains(&format!("\"{what}\""))
        {
            return Ok(());
        }
        audit
            .append(tx, Event::Alarm { what: what.into() }, now)
            .await?;
        Ok::<_, Failed>(())
    });
    told.map_err(start_error)
}
