//! Reading a zone's log on.

use std::time::Duration;

use audit_reader::Entry;
use audit_service::{FOLLOW, FollowAnswer, FollowRequest};
use core_types::Clock as _;
use core_types::clock::SystemClock;
use service_kit::Client;

/// Entries that are read from a zone in one round: what is more waits for the next.
const ROUND: usize = 20_000;
const PAGE: usize = 1000;
/// After this time the round goes on with the next log, so that a slow zone doesn't hold up what others tell.
const LONGEST: Duration = Duration::from_secs(60);
/// How long one answer may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A log that is read.
pub(super) struct Log {
    pub(super) zone: String,
    pub(super) url: String,
    pub(super) client: Client,
}

/// What is new in a log.
pub(super) struct Read {
    pub(super) entries: Vec<Entry>,
    /// Places of what isn't an entry. No rule can judge it, and nothing behind it waits for that.
    pub(super) unread: Vec<u64>,
    /// Place of the last one.
    pub(super) after: Option<u64>,
    /// That is all there was.
    pub(super) whole: bool,
}

/// Why a log can't be read.
pub(super) enum Unread {
    /// It has an entry of another zone.
    Foreign,
    /// It is shorter than what was read of it.
    SetBack,
    /// Otherwise.
    Other(String),
}

fn other(why: impl ToString) -> Unread {
    Unread::Other(why.to_string())
}

/// Reads a log on, in its own order. Of what can't be read to the end nothing is taken.
pub(super) async fn read(log: &Log, mut after: Option<u64>, from: i64) -> Result<Read, Unread> {
    let (mut entries, mut unread, mut whole) = (Vec::new(), Vec::new(), false);
    let (mut count, began) = (0, SystemClock.monotonic());
    while !whole && count < ROUND && SystemClock.monotonic() - began < LONGEST {
        let request = FollowRequest {
            after,
            from,
            limit: PAGE,
        };
        let body = serde_json::to_vec(&request).map_err(other)?;
        let (status, body) = log.client.forward(FOLLOW, body).await.map_err(other)?;
        if status != 200 {
            return Err(other(format!("status {status}")));
        }
        let answer: FollowAnswer = serde_json::from_slice(&body).map_err(other)?;
        if after.is_some_and(|after| after >= answer.size) {
            return Err(Unread::SetBack);
        }
        for found in &answer.entries {
            if after.is_some_and(|after| found.seq <= after) {
                return Err(other("its places don't rise"));
            }
            match Entry::parse(found.seq, &found.body, None) {
                Some(entry) if entry.zone != log.zone => return Err(Unread::Foreign),
                // Its own readings would be entries for ever.
                Some(entry) if entry.kind == "audit.read" => {}
                Some(entry) => entries.push(entry),
                None => unread.push(found.seq),
            }
            after = Some(found.seq);
        }
        count += answer.entries.len();
        whole = !answer.more || answer.entries.is_empty();
    }
    Ok(Read {
        entries,
        unread,
        after,
        whole,
    })
}
