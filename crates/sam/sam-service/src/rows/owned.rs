//! All rows of a person, however many there are, and those of them that are refused.

use audit_log::{AuditLog, Event};
use core_types::UnixTime;
use store_kit::{Row as SqlRow, Seen, Tx, sql};

use super::{BATCH, Noun, Row, open, place};
use crate::failed::{Failed, readable};
use crate::records::KeyRecord;
use crate::sealer::Sealer;

/// Rows of this person, all of them, oldest first.
pub(crate) async fn by_owner<T: Noun>(
    tx: &mut Tx,
    sealer: &Sealer,
    owner: &str,
) -> Result<Vec<Row<T>>, Failed> {
    let rows = owned(tx, sealer, T::BY_OWNER, owner).await?;
    rows.into_iter().collect()
}

/// Those rows of this person that are as they were written, and how many are refused: none of which may stand in the way of
/// the others.
pub(crate) async fn readable_by_owner<T: Noun>(
    tx: &mut Tx,
    sealer: &Sealer,
    owner: &str,
) -> Result<(Vec<Row<T>>, usize), Failed> {
    let rows = owned(tx, sealer, T::BY_OWNER, owner).await?;
    let all = rows.len();
    let good: Vec<_> = rows.into_iter().flatten().collect();
    let refused = all - good.len();
    Ok((good, refused))
}

/// Those rows of a table that are as they were written, whatever their columns say.
pub(crate) async fn all_readable<T: Noun>(
    tx: &mut Tx,
    sealer: &Sealer,
) -> Result<Vec<Row<T>>, Failed> {
    let mut after = String::new();
    let mut found = Vec::new();
    loop {
        let page = sql(T::PAGE).bind(after.as_str()).bind(BATCH);
        let page = tx.fetch_all(page).await?;
        let Some(last) = page.last() else {
            return Ok(found);
        };
        after = last.text("id")?;
        for row in &page {
            found.extend(readable(open(tx, sealer, row))?.flatten());
        }
    }
}

/// Each row of this person that `select` finds page by page, or why it is refused.
async fn owned<T: Noun>(
    tx: &mut Tx,
    sealer: &Sealer,
    select: &'static str,
    owner: &str,
) -> Result<Vec<Result<Row<T>, Failed>>, Failed> {
    let owner = sealer.name(owner);
    let mut after = (i64::MIN, String::new());
    let mut found = Vec::new();
    loop {
        let page = sql(select)
            .bind(&*owner)
            .bind(after.0)
            .bind(after.1.as_str());
        let page = tx.fetch_all(page.bind(BATCH)).await?;
        let Some(last) = page.last() else {
            return Ok(found);
        };
        after = (last.int("stamp")?, last.text("id")?);
        for row in &page {
            match open(tx, sealer, row) {
                Err(failed) if failed.alarm().is_none() => return Err(failed),
                opened => found.extend(opened.transpose()),
            }
        }
    }
}

/// Keys of this person: all that aren't gone, and of those that are the ones that came last. Oldest first.
pub(crate) async fn keys_of(
    tx: &mut Tx,
    sealer: &Sealer,
    owner: &str,
) -> Result<Vec<Row<KeyRecord>>, Failed> {
    const LIVING: &str = "SELECT id, version, sealed, stamp FROM signing_key WHERE owner = $1 AND (stamp, id) > ($2, $3) \
                          AND state NOT IN ('doomed', 'destroyed') ORDER BY stamp, id LIMIT $4";
    const GONE: &str = "SELECT id, version, sealed FROM signing_key WHERE owner = $1 AND state IN ('doomed', 'destroyed') \
                        ORDER BY stamp DESC, id DESC LIMIT $2";
    let living = owned::<KeyRecord>(tx, sealer, LIVING, owner).await?;
    let mut keys: Vec<_> = living.into_iter().collect::<Result<_, _>>()?;
    let name = sealer.name(owner);
    let gone = sql(GONE).bind(&*name).bind(BATCH);
    for row in &tx.fetch_all(gone).await? {
        keys.extend(open::<KeyRecord>(tx, sealer, row)?);
    }
    keys.sort_by(|a, b| (a.body.created, &a.id).cmp(&(b.body.created, &b.id)));
    Ok(keys)
}

/// Removes the row with this id for good, also one that is refused; the log tells so. Whether there was one.
pub(crate) async fn remove<T: Noun>(
    tx: &mut Tx,
    sealer: &Sealer,
    id: &str,
) -> Result<bool, Failed> {
    let place = place::<T>(sealer, id);
    let Some(row) = tx.fetch_optional(sql(T::SELECT).bind(&*place)).await? else {
        return Ok(false);
    };
    remove_row::<T>(tx, sealer, &row).await?;
    Ok(true)
}

/// Removes all rows of this person for good, also those that are refused; the log tells so. How many there were. Each one that is
/// refused is an alarm, whose entry names table and row and nothing else: with it goes what shows that somebody wrote to the store.
pub(crate) async fn remove_owned<T: Noun>(
    tx: &mut Tx,
    sealer: &Sealer,
    owner: &str,
    (log, now): (&AuditLog, UnixTime),
) -> Result<u64, Failed> {
    let name = sealer.name(owner);
    let mut gone = 0;
    loop {
        let page = sql(T::BY_OWNER).bind(&*name).bind(i64::MIN).bind("");
        let page = tx.fetch_all(page.bind(BATCH)).await?;
        if page.is_empty() {
            return Ok(gone);
        }
        for row in &page {
            gone += 1;
            let failed = match open::<T>(tx, sealer, row) {
                Ok(Some(good)) if good.body.columns().owner == owner => {
                    remove_row::<T>(tx, sealer, row).await?;
                    continue;
                }
                // Somebody else's, which was only made to look like theirs.
                Ok(_) => return Err(Failed::Tampered(T::TABLE)),
                Err(failed) => failed,
            };
            let Some(what) = failed.alarm() else {
                return Err(failed);
            };
            let id = row.text("id")?;
            let table = T::TABLE;
            tracing::error!(
                what,
                table,
                %id,
                "a row that is refused is removed with the others of its person"
            );
            // What was removed before goes into an entry of its own.
            let why = "person-forgotten".into();
            log.append(tx, Event::RowsChanged { why }, now).await?;
            remove_row::<T>(tx, sealer, row).await?;
            let what = what.into();
            log.append(tx, Event::Alarm { what }, now).await?;
        }
    }
}

async fn remove_row<T: Noun>(tx: &mut Tx, sealer: &Sealer, row: &SqlRow) -> Result<(), Failed> {
    let (id, version) = (row.text("id")?, row.int("version")?);
    tx.cas(sql(T::DELETE).bind(&id).bind(version)).await?;
    if let Some(seen) = sealer.seen(T::TABLE) {
        tx.wrote(seen, &id, Seen::NEVER);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use core_types::noise::Watched;
    use core_types::random::SystemRandom;
    use core_types::{KeyId, PersonId, SecretBytes, TenantId};
    use sam_core::told::Notice;
    use store_kit::{StoreError, testing, transaction};

    use super::*;
    use crate::rows::{self, MIGRATIONS};

    /// More than two pages.
    const MANY: i64 = 2 * BATCH + 7;

    fn notice(n: i64) -> Notice {
        let key = KeyId::parse(format!("key-{n}")).unwrap();
        // Many of one second, so that pages end among them.
        Notice::ending(PersonId::parse("taro").unwrap(), key, UnixTime(n / 150))
    }

    #[tokio::test]
    async fn all_rows_of_a_person_are_read_and_removed_however_many_there_are() {
        for store in testing::both(MIGRATIONS).await {
            let house = Sealer::new(
                &SecretBytes::new(vec![1; 32]),
                TenantId::parse("house").unwrap(),
                Arc::new(Watched::new(Arc::new(SystemRandom))),
            );
            let house = house.unwrap();
            let acme = house.of(TenantId::parse("acme").unwrap());
            let done: Result<(), Failed> = transaction!(store.store, "rows", |tx| {
                for n in 0..MANY {
                    let inserted = rows::insert(tx, &house, &format!("h-{n}"), &notice(n)).await?;
                    assert!(inserted);
                }
                rows::insert(tx, &acme, "a-0", &notice(0)).await?;
                Ok(())
            });
            done.unwrap();
            let mut tx = store.store.read("look").await.unwrap();
            let all = by_owner::<Notice>(&mut tx, &house, "taro").await.unwrap();
            let ids: std::collections::BTreeSet<_> = all.iter().map(|row| &row.id).collect();
            assert_eq!((all.len() as i64, ids.len() as i64), (MANY, MANY));
            assert!(all.is_sorted_by_key(|row| row.body.next));
            assert_eq!(
                by_owner::<Notice>(&mut tx, &acme, "taro")
                    .await
                    .unwrap()
                    .len(),
                1
            );
            drop(tx);
            // One is refused: all are, where all are needed, and the others are there for whoever looks at each.
            let spoil = "UPDATE notice SET sealed = (SELECT n.sealed FROM notice n WHERE n.id = 'h-1') WHERE id = 'h-0'";
            let spoilt: Result<u64, StoreError> =
                transaction!(store.store, "spoil", |tx| { tx.execute(sql(spoil)).await });
            assert_eq!(spoilt.unwrap(), 1);
            let mut tx = store.store.read("look").await.unwrap();
            let refused = by_owner::<Notice>(&mut tx, &house, "taro").await;
            assert!(matches!(refused, Err(Failed::Tampered("notice"))));
            let readable = readable_by_owner::<Notice>(&mut tx, &house, "taro").await;
            let (good, bad) = readable.unwrap();
            assert_eq!((good.len() as i64, bad), (MANY - 1, 1));
            drop(tx);
            let log = AuditLog::new(
                "sam",
                "sam-1",
                SecretBytes::new(vec![2; 32]),
                Arc::new(SystemRandom),
            );
            let gone: Result<u64, Failed> = transaction!(store.store, "remove", |tx| {
                remove_owned::<Notice>(tx, &house, "taro", (&log, UnixTime(7))).await
            });
            assert_eq!(gone.unwrap() as i64, MANY);
            let mut tx = store.store.read("look").await.unwrap();
            let alarms = "SELECT count(*) AS n FROM audit_entry WHERE kind = 'alarm' AND body LIKE '%sealed-row-tampered%'";
            let alarms = tx.fetch_one(sql(alarms)).await.unwrap();
            assert_eq!(alarms.int("n").unwrap(), 1, "of the one that was refused");
            assert!(
                by_owner::<Notice>(&mut tx, &house, "taro")
                    .await
                    .unwrap()
                    .is_empty()
            );
            assert_eq!(
                by_owner::<Notice>(&mut tx, &acme, "taro")
                    .await
                    .unwrap()
                    .len(),
                1
            );
        }
    }
}
