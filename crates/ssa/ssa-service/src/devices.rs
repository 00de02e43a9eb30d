//! Devices whose user logs in elsewhere (RFC 8628): a code for the device, and a short one that the user types.

use core_types::{ClientId, Random, UnixTime};
use csc_types::SecretText;
use store_kit::{Row, StoreError, Tx, sql};

use crate::crypt::digest;
use crate::flow::{Bound, Pairs, from_json, hold, size, to_json};
use crate::oauth::end_of_request;

/// Longest life of both codes in seconds.
pub(crate) const LIFE: i64 = 15 * 60;
/// Least time between two questions of a device in seconds, and what is added when it asks too often.
pub(crate) const PAUSE: i64 = 5;
/// Letters of a user code: no vowels, so that it makes no words, and nothing that looks like something else.
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
/// How many of them: 34 bits, for a quarter of an hour and few tries.
const LENGTH: usize = 8;

/// How far a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The user has not decided.
    Waiting,
    /// The code is worth a token.
    Approved,
    /// The user, or the service, said no.
    Denied,
}

impl State {
    const ALL: [Self; 3] = [Self::Waiting, Self::Approved, Self::Denied];

    fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Approved => "approved",
            Self::Denied => "denied",
        }
    }
}

/// A waiting device as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    /// Digest of its code; the code of its flow has the same id.
    pub(crate) id: String,
    pub(crate) client: ClientId,
    pub(crate) pairs: Pairs,
    pub(crate) state: State,
    pause: i64,
    asked: UnixTime,
    exp: UnixTime,
    version: i64,
}

impl Device {
    pub(crate) fn is_expired(&self, now: UnixTime) -> bool {
        now >= self.exp
    }
}

/// Draws a user code, such as `BCDF-GHJK`.
pub(crate) fn draw_user_code(random: &dyn Random) -> SecretText {
    let mut text = String::new();
    while text.len() <= LENGTH {
        let mut byte = [0];
        random.fill(&mut byte);
        // 240 is the greatest multiple of 20: letters above would come more often.
        if byte[0] < 240 {
            text.push(char::from(LETTERS[usize::from(byte[0]) % LETTERS.len()]));
            if text.len() == LENGTH / 2 {
                text.push('-');
            }
        }
    }
    SecretText::new(text)
}

/// A user code as it is compared: capital letters alone. `None` when it can't be one.
pub(crate) fn normal(typed: &str) -> Option<String> {
    let letters: String = typed
        .chars()
        .filter(|c| !c.is_whitespace() && *c != '-')
        .map(|c| c.to_ascii_uppercase())
        .collect();
    let known = |c: char| u8::try_from(c).is_ok_and(|c| LETTERS.contains(&c));
    (letters.len() == LENGTH && letters.chars().all(known)).then_some(letters)
}

/// Stores a device, with its code and its user's, until `exp`. Those that wait for this client are held to the bound.
pub(crate) async fn insert(
    tx: &mut Tx,
    (code, user_code): &(SecretText, SecretText),
    client: &ClientId,
    pairs: &Pairs,
    bound: Option<Bound>,
    (now, exp): (UnixTime, UnixTime),
) -> Result<bool, StoreError> {
    // Kept for a day, so that an old code is called expired and not unknown; what it asked for isn't.
    let old = now.plus(-24 * 60 * 60).0;
    tx.execute(sql("DELETE FROM ssa_device WHERE exp < $1").bind(old))
        .await?;
    let forget = "UPDATE ssa_device SET params = '[]', size = 0 WHERE size > 0 AND exp <= $1";
    tx.execute(sql(forget).bind(now.0)).await?;
    let params = to_json(pairs);
    let insert = "INSERT INTO ssa_device (id, user_code, client, params, state, pause, asked, exp, size, version) \
                  VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $8, 0) ON CONFLICT DO NOTHING";
    let insert = sql(insert)
        .bind(digest(code.expose()))
        .bind(digest(&normal(user_code.expose()).unwrap_or_default()))
        .bind(client.as_str())
        .bind(params.as_str())
        .bind(State::Waiting.name())
        .bind(PAUSE)
        .bind(exp.0)
        .bind(size(&params));
    let stored = tx.execute(insert).await? == 1;
    let keep = "DELETE FROM ssa_device WHERE client = $1 AND size > 0 AND id NOT IN (SELECT id FROM (SELECT id, \
                ROW_NUMBER() OVER (ORDER BY exp DESC, id) AS n, SUM(size) OVER (ORDER BY exp DESC, id) AS bytes \
                FROM ssa_device WHERE client = $1 AND size > 0) AS newest WHERE n <= $2 AND bytes <= $3)";
    hold(tx, keep, client, bound).await?;
    Ok(stored)
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, client, params, state, pause, asked, exp, version FROM ssa_device WHERE ",
            $rest
        )
    };
}

/// The device whose user typed this, as long as it waits, and as its signed request is one: the SAM reads that when its user comes.
pub(crate) async fn find_by_user_code(
    tx: &mut Tx,
    normal: &str,
    now: UnixTime,
) -> Result<Option<Device>, StoreError> {
    let query = sql(select!("user_code = $1 AND state = 'waiting' AND exp > $2"))
        .bind(digest(normal))
        .bind(now.0);
    let row = tx.fetch_optional(query).await?;
    let device = row.map(|row| read(&row)).transpose()?;
    Ok(device.filter(|device| end_of_request(&device.pairs).is_none_or(|end| now < end)))
}

/// The device with this code, expired ones too.
pub(crate) async fn find(tx: &mut Tx, code: &str) -> Result<Option<Device>, StoreError> {
    let query = sql(select!("id = $1")).bind(digest(code));
    let row = tx.fetch_optional(query).await?;
    row.map(|row| read(&row)).transpose()
}

/// Whether the device asks too soon; then it has to wait longer from here on.
pub(crate) async fn asks(tx: &mut Tx, device: &Device, now: UnixTime) -> Result<bool, StoreError> {
    let soon = now.0 < device.asked.0.saturating_add(device.pause);
    let pause = if soon {
        device.pause + PAUSE
    } else {
        device.pause
    };
    let update =
        "UPDATE ssa_device SET asked = $1, pause = $2, version = $3 WHERE id = $4 AND version = $5";
    let update = sql(update)
        .bind(now.0)
        .bind(pause)
        .bind(device.version + 1)
        .bind(&device.id)
        .bind(device.version);
    tx.cas(update).await?;
    Ok(soon)
}

/// The user decided; `false` when somebody had before, or it was too late.
pub(crate) async fn decide(
    tx: &mut Tx,
    id: &str,
    to: State,
    now: UnixTime,
) -> Result<bool, StoreError> {
    let update = "UPDATE ssa_device SET state = $1, params = '[]', size = 0, version = version + 1 \
                  WHERE id = $2 AND state = 'waiting' AND exp > $3";
    let update = sql(update).bind(to.name()).bind(id).bind(now.0);
    Ok(tx.execute(update).await? == 1)
}

fn read(row: &Row) -> Result<Device, StoreError> {
    let state = row.text("state")?;
    let state = State::ALL.into_iter().find(|s| s.name() == state);
    Ok(Device {
        id: row.text("id")?,
        client: ClientId::parse(row.text("client")?).map_err(|_| StoreError::Column("client"))?,
        pairs: from_json(row)?,
        state: state.ok_or(StoreError::Column("state"))?,
        pause: row.int("pause")?,
        asked: UnixTime(row.int("asked")?),
        exp: UnixTime(row.int("exp")?),
        version: row.int("version")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use core_types::random::SeededRandom;

    #[test]
    fn user_codes_are_read_as_people_type_them() {
        let random = SeededRandom::new(1);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let code = draw_user_code(&random);
            let text = code.expose();
            assert_eq!((text.len(), text.chars().nth(4)), (9, Some('-')), "{text}");
            let plain = normal(text).unwrap();
            assert_eq!(normal(&text.to_lowercase()), Some(plain.clone()));
            assert_eq!(
                normal(&format!(" {} ", plain.replace('B', "b"))),
                Some(plain)
            );
            seen.insert(text.to_owned());
        }
        assert_eq!(seen.len(), 200);
        for bad in [
            "",
            "BCDF-GHJ",
            "BCDF-GHJKL",
            "BCDF-GHJA",
            "BCDF-GHJ捺",
            "BCDF_GHJK",
        ] {
            assert_eq!(normal(bad), None, "{bad}");
        }
    }
}
