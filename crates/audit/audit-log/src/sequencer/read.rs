//! Reading a zone's own log back, believing nothing that its keys don't vouch for.

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use store_kit::{Row, Store, sql};

use super::{State, Tree, check_link, heads, signed};
use crate::error::AuditError;
use crate::log::AuditLog;
use crate::tree::{Frontier, leaf};

/// Rows read at a time.
const PAGE: i64 = 1000;

/// Gives out the body of every entry in the log of this store, sequenced or not, and says how many there were.
///
/// Each entry's chain code is computed anew, and the Merkle tree up to the last checkpoint. Reading takes time in
/// proportion to the log; what is written meanwhile is read too. Whether the newest entries and the last checkpoints are
/// there, only the witness can say.
///
/// # Errors
/// [`AuditError`] when an entry, or the order of entries, isn't as it was written, or `each` says what is wrong with one.
/// What was given out before is not to be used then.
pub async fn read_back(
    log: &AuditLog,
    store: &Store,
    mut each: impl FnMut(&str) -> Result<(), &'static str>,
) -> Result<u64, AuditError> {
    let done = sequenced(log, store).await?;
    let mut reader = Reader {
        log,
        chains: BTreeMap::new(),
        state: State::default(),
        read: 0,
    };
    let mut tree = Frontier::default();
    while tree.size() < done.tree.size {
        let mut tx = store.read("audit-read").await?;
        let select = "SELECT seq, node, n, body, mac FROM audit_entry WHERE seq >= $1 AND seq < $2 ORDER BY seq LIMIT $3";
        let select = sql(select).bind(signed(tree.size())?);
        let rows = tx.fetch_all(select.bind(signed(done.tree.size)?).bind(PAGE));
        let rows = rows.await?;
        if rows.is_empty() {
            return Err(AuditError::Tree("entries are missing"));
        }
        for row in &rows {
            if row.int("seq")? != signed(tree.size())? {
                return Err(AuditError::Tree("an entry is missing"));
            }
            let body = reader.entry(row, &mut each)?;
            tree.push(leaf(body.as_bytes()));
        }
    }
    reader.state.tree = Tree {
        size: tree.size(),
        roots: tree.roots().to_vec(),
    };
    if reader.state.tree != done.tree || reader.state.nodes != done.nodes {
        return Err(AuditError::Tree(
            "the entries aren't those of the last checkpoint",
        ));
    }
    // What was written since, in one consistent state.
    let mut tx = store.read("audit-read").await?;
    let heads = heads(&mut tx).await?;
    reader.state.check_not_behind(&heads)?;
    let nodes = tx
        .fetch_all(sql(
            "SELECT DISTINCT node FROM audit_entry WHERE seq IS NULL",
        ))
        .await?;
    for row in nodes {
        let node = row.text("node")?;
        if !heads.contains_key(&node) {
            let (n, why) = (1, "the chain's head was removed");
            return Err(AuditError::Entry { node, n, why });
        }
    }
    for node in heads.keys() {
        loop {
            let after = reader.state.nodes.get(node).map_or(0, |head| head.n);
            let select = "SELECT node, n, body, mac FROM audit_entry WHERE node = $1 AND n > $2 ORDER BY n LIMIT $3";
            let select = sql(select).bind(node.as_str()).bind(after).bind(PAGE);
            let rows = tx.fetch_all(select).await?;
            if rows.is_empty() {
                break;
            }
            for row in &rows {
                reader.entry(row, &mut each)?;
            }
        }
    }
    reader.state.check_not_behind(&heads)?;
    reader.state.check_reached(&heads)?;
    Ok(reader.read)
}

/// What the sequencer has done, by its own authenticated row.
async fn sequenced(log: &AuditLog, store: &Store) -> Result<State, AuditError> {
    let mut tx = store.read("audit-read").await?;
    if let Some(state) = State::load(&mut tx, log).await? {
        return Ok(state);
    }
    let query = "SELECT (SELECT count(*) FROM audit_checkpoint) + (SELECT count(*) FROM audit_entry WHERE seq IS NOT NULL) AS n";
    if tx.fetch_one(sql(query)).await?.int("n")? == 0 {
        Ok(State::default())
    } else {
        Err(AuditError::Tree("the sequencer's row is missing"))
    }
}

struct Reader<'l> {
    log: &'l AuditLog,
    chains: BTreeMap<String, hmac::Key>,
    state: State,
    read: u64,
}

impl Reader<'_> {
    fn entry(
        &mut self,
        row: &Row,
        each: &mut impl FnMut(&str) -> Result<(), &'static str>,
    ) -> Result<String, AuditError> {
        let (node, n, body) = (row.text("node")?, row.int("n")?, row.text("body")?);
        let chain = self.chains.entry(node.clone());
        let chain = chain.or_insert_with(|| self.log.key_of(&node));
        check_link(chain, &mut self.state, &node, n, &body, &row.blob("mac")?)?;
        each(&body).map_err(|why| AuditError::Entry { node, n, why })?;
        self.read += 1;
        Ok(body)
    }
}
