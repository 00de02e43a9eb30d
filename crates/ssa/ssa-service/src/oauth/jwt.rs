//! What the JWTs that clients make have in common: whose they are, for whom, when, and that each counts once.

use core_types::UnixTime;
use jose::{ForeignJws, ForeignKey};
use serde_json::{Map, Value};
use store_kit::{StoreError, Tx, sql};

use crate::clients::Client;
use crate::crypt::digest;

/// How far a client's clock may be ahead, in seconds.
pub(super) const SKEW: i64 = 60;

/// Members of a JWT that was verified.
pub(super) struct Claims(pub(super) Map<String, Value>);

impl Claims {
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        serde_json::from_slice(payload).ok().map(Self)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    pub(super) fn time(&self, name: &str) -> Option<UnixTime> {
        let value = self.0.get(name)?;
        let whole = value.as_i64();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a NumericDate may have a fraction; it saturates"
        )]
        whole
            .or_else(|| value.as_f64().map(|seconds| seconds as i64))
            .map(UnixTime)
    }

    /// Whether `aud` names one of these, alone or in a list.
    pub(super) fn is_for(&self, names: &[&str]) -> bool {
        let named = |value: &Value| value.as_str().is_some_and(|aud| names.contains(&aud));
        match self.0.get("aud") {
            Some(Value::Array(all)) => all.iter().any(named),
            Some(one) => named(one),
            None => false,
        }
    }

    /// Whether it is good now: not before its time, not after its end, and its end not too far away.
    pub(super) fn is_current(&self, now: UnixTime, longest: i64) -> bool {
        let Some(exp) = self.time("exp") else {
            return false;
        };
        let begun =
            ["nbf", "iat"]
                .into_iter()
                .all(|name| match (self.0.get(name), self.time(name)) {
                    (None, _) => true,
                    (Some(_), at) => at.is_some_and(|at| at <= now.plus(SKEW)),
                });
        begun && now < exp && exp <= now.plus(longest + SKEW)
    }
}

/// The payload of a JWS that one of the client's registered keys signed.
pub(super) fn signed_by(client: &Client, jws: &ForeignJws<'_>, now: UnixTime) -> Option<Claims> {
    let named = |key: &&ForeignKey| match (jws.kid(), key.kid()) {
        (Some(wanted), Some(kid)) => wanted == kid,
        _ => true,
    };
    let mut keys = client.keys(now).filter(named);
    let payload = keys.find_map(|key| jws.verify(key).ok())?;
    Claims::read(payload)
}

/// Remembers a JWT's `jti` until `exp`; `false` when it was seen before. This is one of few places where something rests
/// on a row being there: whoever can delete rows here gains seconds, in which he still lacks the client's key.
pub(super) async fn first_use(
    tx: &mut Tx,
    kind: &str,
    owner: &str,
    jti: &str,
    exp: UnixTime,
    now: UnixTime,
) -> Result<bool, StoreError> {
    tx.execute(sql("DELETE FROM ssa_seen WHERE exp < $1").bind(now.0))
        .await?;
    let insert = "INSERT INTO ssa_seen (id, exp) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    let insert = sql(insert)
        .bind(digest(&format!("{kind}\n{owner}\n{jti}")))
        .bind(exp.0);
    Ok(tx.execute(insert).await? == 1)
}
