//! What officers see of mail to signers: what waits, what is tried again, and what was given up. Whom it is about is for auditors.

use audit_log::{Query, search};
use cm_api::CryptoModule;
use core_types::UnixTime;
use sam_core::told::{About, Notice};
use sap::office::calls::MailInfo;
use store_kit::{Tx, sql};

use crate::failed::Failed;
use crate::rows;
use crate::sam::Sam;
use crate::sealer;

/// Notices that are looked at.
const MOST: i64 = 1000;
/// The longest pause before one is tried again: what is due later is a reminder whose time hasn't come.
const LONGEST_PAUSE: i64 = 43_200;
/// For how long what was given up is counted, in seconds.
const COUNTED: i64 = 7 * 24 * 3600;

impl<C: CryptoModule> Sam<C> {
    pub(super) async fn mail(&self, tx: &mut Tx, now: UnixTime) -> Result<MailInfo, Failed> {
        let (given_up, codes) = self.undelivered(now).await?;
        let mut seen = MailInfo {
            courier: self.courier.get().is_some(),
            given_up,
            codes,
            ..MailInfo::default()
        };
        let select = "SELECT id, sealed FROM notice WHERE stamp <= $1 ORDER BY stamp LIMIT $2";
        let select = sql(select).bind(now.plus(LONGEST_PAUSE).0).bind(MOST);
        for row in tx.fetch_all(select).await? {
            let Ok(whose) = sealer::whose(&row.blob("sealed")?) else {
                continue;
            };
            let Some(tenant) = self.of_row(whose.as_ref()) else {
                continue;
            };
            let notice = rows::get::<Notice>(tx, &tenant.sealer, &row.text("id")?).await;
            let notice = match notice {
                Ok(Some(row)) => row.body,
                Err(failed @ Failed::Store(_)) => return Err(failed),
                // Whoever sends it next alarms.
                Ok(None) | Err(_) => continue,
            };
            let About::News { entries, .. } = notice.about else {
                continue;
            };
            seen.waiting += 1;
            seen.failed += u32::from(notice.failures > 0);
            let since = entries.first().map(|entry| entry.at);
            seen.oldest = [seen.oldest, since].into_iter().flatten().min();
        }
        Ok(seen)
    }

    /// How many notices were given up in the last days, and how many codes didn't go out.
    async fn undelivered(&self, now: UnixTime) -> Result<(u32, u32), Failed> {
        let of = |kind: &str| Query {
            from: now.plus(-COUNTED),
            kinds: vec![kind.to_owned()],
            limit: audit_log::MOST_FOUND,
            ..Query::default()
        };
        let told = search(&self.store, &of("signer.not-told")).await?.entries;
        let ended = |body: &str| {
            let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
            body["detail"]["reason"] != "not-now"
        };
        let given_up = told.iter().filter(|one| ended(&one.entry.body)).count();
        let codes = search(&self.store, &of("code.not-sent")).await?.entries;
        let count = |n| u32::try_from(n).unwrap_or(u32::MAX);
        Ok((count(given_up), count(codes.len())))
    }
}
