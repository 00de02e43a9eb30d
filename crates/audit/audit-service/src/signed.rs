//! The signed configuration of a zone without sealed rows: obeyed, or the daemon doesn't start and says what to do.

use audit_log::AuditLog;
use core_types::UnixTime;
use service_kit::Trouble;
use signed_config::{Brought, SettingsRefused};
use store_kit::Store;

use crate::config::trouble;

/// Obeys the configuration that `brought` is, or says why not. `whose`: [`signed_config::Zone::of`], and the node. `demanded`: not without
/// signatures, also where nobody has signed one so far.
///
/// # Errors
/// [`Trouble`]; then the daemon must not start.
pub async fn obey(
    log: &AuditLog,
    store: &Store,
    whose: (&str, &str),
    demanded: bool,
    brought: &Brought,
    now: UnixTime,
) -> Result<(), Trouble> {
    let obeyed = log.obeys(store, whose, demanded, brought, now).await;
    match obeyed.map_err(|e| trouble(&e))? {
        Ok(Some(serial)) => tracing::info!(serial, "the configuration is signed"),
        Ok(None) => tracing::warn!(
            "nobody has signed this configuration: one administrator can change it (natsuin config sign)"
        ),
        Err(refused) => return Err(refused_settings(refused)),
    }
    Ok(())
}

/// The same before it has any effect, of which nothing stays unless it is refused. The daemon obeys it once it has started.
///
/// # Errors
/// [`Trouble`]; then the daemon must not start.
pub async fn judge(
    log: &AuditLog,
    store: &Store,
    whose: (&str, &str),
    demanded: bool,
    brought: &Brought,
    now: UnixTime,
) -> Result<(), Trouble> {
    let judged = log.would_obey(store, whose, demanded, brought, now).await;
    let judged = judged.map_err(|e| trouble(&e))?;
    judged.map(drop).map_err(refused_settings)
}

/// What to do about a configuration that isn't obeyed.
pub fn refused_settings(refused: SettingsRefused) -> Trouble {
    let what = refused.to_string();
    match refused {
        SettingsRefused::OnePerson => Trouble::new(
            "settings-one-person",
            what,
            "name at least two signers and --need 2, and have two of those who may sign it",
        ),
        SettingsRefused::Expired => Trouble::new(
            "settings-expired",
            what,
            "sign it again with `natsuin config sign`, and start with it in time",
        ),
        SettingsRefused::Record => Trouble::new(
            "settings-refused",
            what,
            "start with the very configuration and signatures that the log names last (settings.adopted), and find out who changed the store if nobody restored one",
        ),
        _ => Trouble::new(
            "settings-refused",
            what,
            "sign it with `natsuin config sign`, or put the last good one back",
        ),
    }
}
