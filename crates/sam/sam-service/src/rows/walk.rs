//! Walks of maintenance through the rows of one tenant.

use std::collections::VecDeque;

use core_types::UnixTime;
use store_kit::{Store, StoreError, sql};

use super::BATCH;
use crate::failed::Failed;
use crate::sealer::Sealer;

/// Of rows of all tenants those of the one whose names begin with the parameter; nothing: of the provider's own.
macro_rules! of_tenant {
    ($prefix:literal) => {
        concat!(
            "CASE WHEN ",
            $prefix,
            " = '' THEN owner NOT LIKE '%/%' ",
            "ELSE substr(owner, 1, length(",
            $prefix,
            ")) = ",
            $prefix,
            " END",
        )
    };
}

macro_rules! due {
    ($table:literal, $state:literal) => {
        concat!(
            "SELECT id, stamp FROM ",
            $table,
            " WHERE state = '",
            $state,
            "' AND stamp <= $1 ",
            "AND (stamp, id) > ($2, $3) AND ",
            of_tenant!("$4"),
            " ORDER BY stamp, id LIMIT $5",
        )
    };
}

/// Acts whose orders are out.
pub(crate) const TAKEN: &str = due!("act", "taken");
/// Keys that can be used.
pub(crate) const ACTIVE: &str = due!("signing_key", "active");
/// Keys that are stopped.
pub(crate) const SUSPENDED: &str = due!("signing_key", "suspended");
/// Keys that are to be handed over.
pub(crate) const LEAVING: &str = due!("signing_key", "leaving");
/// Keys whose one act has begun.
pub(crate) const SPENT: &str = due!("signing_key", "spent");
/// Keys that the module is to destroy.
pub(crate) const DOOMED: &str = due!("signing_key", "doomed");

/// Living keys with certificates, after an id, of one tenant.
pub(crate) const WATCHED: &str = concat!(
    "SELECT id, version, sealed FROM signing_key WHERE id > $1 AND state IN ('active', 'suspended', 'leaving') AND ",
    of_tenant!("$2"),
    " ORDER BY id LIMIT $3",
);

/// Failures after which a walk is left for the next time, as when the module is away.
const MOST_FAILURES: usize = 200;

/// A walk through one tenant's rows in a state, those whose time has come, oldest first. No row stands in the way of the others: not
/// those of other tenants, among them such as aren't served any more, and not those that can't be dealt with.
pub(crate) struct Walk {
    select: &'static str,
    tenant: String,
    until: i64,
    after: (i64, String),
    page: VecDeque<String>,
    last: bool,
    failures: usize,
    alarmed: bool,
}

impl Walk {
    /// By one of the statements above, through rows of times up to this one.
    pub(crate) fn new(select: &'static str, sealer: &Sealer, until: UnixTime) -> Self {
        Self {
            select,
            tenant: sealer.prefix().unwrap_or_default(),
            until: until.0,
            after: (i64::MIN, String::new()),
            page: VecDeque::new(),
            last: false,
            failures: 0,
            alarmed: false,
        }
    }

    /// The id of the next row.
    pub(crate) async fn next(&mut self, store: &Store) -> Result<Option<String>, StoreError> {
        if self.failures >= MOST_FAILURES {
            return Ok(None);
        }
        if self.page.is_empty() && !self.last {
            let (stamp, id) = (self.after.0, self.after.1.as_str());
            let select = sql(self.select).bind(self.until).bind(stamp).bind(id);
            let select = select.bind(self.tenant.as_str()).bind(BATCH);
            let mut tx = store.read("walk").await?;
            let rows = tx.fetch_all(select).await?;
            drop(tx);
            self.last = i64::try_from(rows.len()).is_ok_and(|n| n < BATCH);
            if let Some(row) = rows.last() {
                self.after = (row.int("stamp")?, row.text("id")?);
            }
            let ids = rows.iter().map(|row| row.text("id"));
            self.page = ids.collect::<Result<_, _>>()?;
        }
        Ok(self.page.pop_front())
    }

    /// Counts a failure. Whether it is to be told of: of rows that are refused the first is, and the comparison with the log names
    /// them all.
    pub(crate) fn failed(&mut self, failed: &Failed) -> bool {
        if failed.alarm().is_some() {
            return !std::mem::replace(&mut self.alarmed, true);
        }
        self.failures += 1;
        true
    }
}
