//! Accounts and login: password and one-time code, checked together, answered together.

use audit_log::{Event, Place};
use core_types::{PersonId, SecretBytes, UnixTime};
use store_kit::{StoreError, Tx, sql, transaction};

use crate::crypt::digest;
use crate::session::{self, Browser};
use crate::{Ssa, password};

/// Wrong logins before the first wait.
const FREE_TRIES: i64 = 5;
/// First wait in seconds; it doubles with each further failure.
const FIRST_WAIT: i64 = 30;
/// Longest wait in seconds.
const LONGEST_WAIT: i64 = 15 * 60;
/// A counter nobody touched for this long is forgotten, in seconds.
const FORGET: i64 = 24 * 60 * 60;

/// How people log in, as the audit log calls it.
const METHOD: &str = "password-totp";

/// What a person types to log in.
pub(crate) struct Login {
    pub(crate) name: String,
    pub(crate) password: SecretBytes,
    pub(crate) code: String,
}

/// What came of it. Neither answer tells whether the account exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LoginOutcome {
    In(PersonId),
    /// Name, password or code is wrong, or the code was used.
    Wrong,
    /// Too many failures for this name; nothing was compared.
    Wait {
        /// Seconds until the next try.
        seconds: i64,
    },
}

struct User {
    person: PersonId,
    password: String,
    seed: Vec<u8>,
    last_step: i64,
    version: i64,
}

/// An account to make.
pub(crate) struct NewUser<'a> {
    pub(crate) person: &'a PersonId,
    pub(crate) login: &'a str,
    pub(crate) name: &'a str,
    /// Hash of the password.
    pub(crate) password: &'a str,
    /// Sealed seed; see [`seed_place`].
    pub(crate) seed: &'a [u8],
    /// Step of a code that was used already.
    pub(crate) last_step: i64,
}

impl Ssa {
    /// Logs in, and begins a session for `fresh`, a browser cookie nobody has seen yet, if there is a browser.
    pub(crate) async fn log_in(
        &self,
        login: Login,
        fresh: Option<&Browser>,
    ) -> Result<LoginOutcome, StoreError> {
        let now = self.now();
        let from = fresh.map_or(Place::Unknown, Browser::from);
        let name = login.name.trim().to_ascii_lowercase();
        // The failure is counted before anything is compared, so that no crash or race gives a free try.
        let (user, wait) = self.count_login(&name, from, now).await?;
        if let Some(until) = wait {
            let seconds = until.0 - now.0;
            return Ok(LoginOutcome::Wait { seconds });
        }
        let stored = user.as_ref().map(|user| user.password.clone());
        let fits = self.password_fits(login.password, stored).await;
        let step = user.as_ref().and_then(|user| {
            let seed = self.open_seed(&user.person, &user.seed)?;
            otp::verify(&seed, login.code.as_bytes(), now, user.last_step)
        });
        let known = user.as_ref().map(|user| user.person.clone());
        let (Some(user), Some(step), true) = (user, step, fits) else {
            self.login_failed(known, from, "wrong", now).await?;
            return Ok(LoginOutcome::Wrong);
        };
        let guess = digest(&name);
        let done = transaction!(self.store(), "login", |tx| {
            let update = "UPDATE ssa_user SET last_step = $1, version = version + 1 \
                          WHERE person = $2 AND version = $3";
            let update = sql(update)
                .bind(step)
                .bind(user.person.as_str())
                .bind(user.version);
            // Somebody used a code at the same moment: theirs counts, this one was used.
            if tx.execute(update).await? != 1 {
                return Ok(false);
            }
            tx.execute(sql("DELETE FROM ssa_guess WHERE name = $1").bind(&guess))
                .await?;
            if let Some(fresh) = fresh {
                session::begin(tx, fresh, &user.person, now).await?;
            }
            let event = Event::LoginSucceeded {
                person: user.person.clone(),
                method: METHOD.into(),
                session: fresh.and_then(Browser::session),
                from,
                credential: None,
            };
            self.audit().append(tx, event, now).await?;
            Ok::<_, StoreError>(true)
        })?;
        if !done {
            self.login_failed(known, from, "replayed", now).await?;
            return Ok(LoginOutcome::Wrong);
        }
        Ok(LoginOutcome::In(user.person))
    }

    /// Counts a try for a name, whether or not it has an account. Answers the end of the waiting time if there is
    /// one: then nothing may be compared.
    async fn count_login(
        &self,
        name: &str,
        from: Place,
        now: UnixTime,
    ) -> Result<(Option<User>, Option<UnixTime>), StoreError> {
        let guess = digest(name);
        transaction!(self.store(), "login-try", |tx| {
            let user = find(tx, name).await?;
            let person = user.as_ref().map(|user| user.person.clone());
            let Tried {
                next,
                waited,
                forgotten,
            } = count_try(tx, &guess, now).await?;
            let summary = |person, tries| Event::LoginWaited { person, tries };
            let forgotten = (forgotten > 0).then(|| summary(None, forgotten));
            let (last, wait) = match next {
                Counted::Free => (None, None),
                Counted::Last(until) => {
                    let locked = |person| Event::LoginLocked { person, until };
                    (person.clone().map(locked), None)
                }
                Counted::Waits { until, first } => {
                    let begun = first.then(|| failed(person.clone(), from, "waiting"));
                    (begun, Some(until))
                }
            };
            let waited = (waited > 0).then(|| summary(person, waited));
            for event in [forgotten, waited, last].into_iter().flatten() {
                self.audit().append(tx, event, now).await?;
            }
            Ok::<_, StoreError>((user, wait))
        })
    }

    async fn login_failed(
        &self,
        person: Option<PersonId>,
        from: Place,
        reason: &'static str,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        transaction!(self.store(), "login-failed", |tx| {
            let event = failed(person.clone(), from, reason);
            self.audit().append(tx, event, now).await.map(drop)
        })
    }

    /// Hashing takes tens of megabytes: a few at a time, and not on the threads that serve others.
    async fn password_fits(&self, password: SecretBytes, stored: Option<String>) -> bool {
        let cost = self.config().password_cost;
        let work = self.password_work();
        self.hashing(move || password::verify(&password, stored.as_deref(), cost, &work))
            .await
            .unwrap_or(false)
    }

    /// Hashes a new password.
    pub(crate) async fn hash_password(&self, password: SecretBytes) -> Option<String> {
        let cost = self.config().password_cost;
        let (random, work) = (self.random_arc(), self.password_work());
        self.hashing(move || password::hash(&password, cost, random.as_ref(), &work))
            .await
            .flatten()
    }

    pub(crate) fn open_seed(&self, person: &PersonId, sealed: &[u8]) -> Option<SecretBytes> {
        self.sealer().open(&seed_place(person), sealed)
    }

    /// Draws a login seed; the second part is what is stored.
    pub(crate) fn new_seed(&self, person: &PersonId) -> Option<(SecretBytes, Vec<u8>)> {
        let mut seed = vec![0; otp::SEED];
        self.random().fill(&mut seed);
        let sealed = self
            .sealer()
            .seal(self.random(), &seed_place(person), &seed)?;
        Some((SecretBytes::new(seed), sealed))
    }
}

fn seed_place(person: &PersonId) -> String {
    format!("ssa_user/seed/{person}")
}

fn failed(person: Option<PersonId>, from: Place, reason: &'static str) -> Event {
    Event::LoginFailed {
        person,
        method: METHOD.into(),
        reason: reason.into(),
        from,
    }
}

enum Counted {
    /// The try was counted.
    Free,
    /// The try was counted, and the next has to wait until then.
    Last(UnixTime),
    /// The try must not be made, and counts only as one of a waiting time.
    Waits {
        until: UnixTime,
        /// The first since the waiting time began. Others stand in the summary, so that they can't fill the log.
        first: bool,
    },
}

/// What came of a try, and what the log is still to be told of earlier ones.
struct Tried {
    next: Counted,
    /// Tries in the waiting time that is over now.
    waited: u64,
    /// Tries in waiting times of names that nobody tried for so long that they are forgotten.
    forgotten: u64,
}

async fn count_try(tx: &mut Tx, name: &str, now: UnixTime) -> Result<Tried, StoreError> {
    let old = "DELETE FROM ssa_guess WHERE seen < $1 RETURNING waited";
    let old = tx.fetch_all(sql(old).bind(now.plus(-FORGET).0)).await?;
    let mut forgotten = 0;
    for row in old {
        forgotten += row.int("waited")?.unsigned_abs();
    }
    let first = "INSERT INTO ssa_guess (name, fails, locked, seen, version) VALUES ($1, 0, 0, $2, 0) ON CONFLICT DO NOTHING";
    tx.execute(sql(first).bind(name).bind(now.0)).await?;
    let row = "SELECT fails, locked, waited, version FROM ssa_guess WHERE name = $1";
    let row = tx.fetch_one(sql(row).bind(name)).await?;
    let (fails, locked) = (row.int("fails")? + 1, row.int("locked")?);
    let waited = row.int("waited")?;
    if now.0 < locked {
        let more = "UPDATE ssa_guess SET waited = waited + 1 WHERE name = $1";
        tx.execute(sql(more).bind(name)).await?;
        return Ok(Tried {
            next: Counted::Waits {
                until: UnixTime(locked),
                first: waited == 0,
            },
            waited: 0,
            forgotten,
        });
    }
    let (until, version) = (locked_until(fails, now), row.int("version")?);
    let update = "UPDATE ssa_guess SET fails = $1, locked = $2, seen = $3, waited = waited - $4, \
                  version = $5 WHERE name = $6 AND version = $7";
    let update = sql(update)
        .bind(fails)
        .bind(until.0)
        .bind(now.0)
        .bind(waited)
        .bind(version + 1)
        .bind(name)
        .bind(version);
    tx.cas(update).await?;
    Ok(Tried {
        next: if now < until {
            Counted::Last(until)
        } else {
            Counted::Free
        },
        waited: waited.unsigned_abs(),
        forgotten,
    })
}

fn locked_until(fails: i64, now: UnixTime) -> UnixTime {
    match fails - FREE_TRIES {
        i64::MIN..0 => UnixTime(0),
        n => now.plus((FIRST_WAIT << n.min(10)).min(LONGEST_WAIT)),
    }
}

async fn find(tx: &mut Tx, login: &str) -> Result<Option<User>, StoreError> {
    let query = "SELECT person, password, seed, last_step, version FROM ssa_user WHERE login = $1";
    let Some(row) = tx.fetch_optional(sql(query).bind(login)).await? else {
        return Ok(None);
    };
    Ok(Some(User {
        person: PersonId::parse(row.text("person")?).map_err(|_| StoreError::Column("person"))?,
        password: row.text("password")?,
        seed: row.blob("seed")?,
        last_step: row.int("last_step")?,
        version: row.int("version")?,
    }))
}

/// Name of a person as the account has it.
pub(crate) async fn name_of(tx: &mut Tx, person: &PersonId) -> Result<Option<String>, StoreError> {
    let query = "SELECT name FROM ssa_user WHERE person = $1";
    let row = tx.fetch_optional(sql(query).bind(person.as_str())).await?;
    row.map(|row| row.text("name")).transpose()
}

/// The person with this login name.
pub(crate) async fn person_of(tx: &mut Tx, login: &str) -> Result<Option<PersonId>, StoreError> {
    Ok(find(tx, login).await?.map(|user| user.person))
}

/// The login name of a person.
pub(crate) async fn login_of(tx: &mut Tx, person: &PersonId) -> Result<Option<String>, StoreError> {
    let query = sql("SELECT login FROM ssa_user WHERE person = $1").bind(person.as_str());
    let row = tx.fetch_optional(query).await?;
    row.map(|row| row.text("login")).transpose()
}

/// Whether a login name is taken.
pub(crate) async fn taken(tx: &mut Tx, login: &str) -> Result<bool, StoreError> {
    Ok(find(tx, login).await?.is_some())
}

/// Makes an account; `false` when the person or the login name has one already.
pub(crate) async fn insert(
    tx: &mut Tx,
    new: &NewUser<'_>,
    now: UnixTime,
) -> Result<bool, StoreError> {
    let insert = "INSERT INTO ssa_user (person, login, name, password, seed, last_step, created, version) \
                  VALUES ($1, $2, $3, $4, $5, $6, $7, 0) ON CONFLICT DO NOTHING";
    let insert = sql(insert)
        .bind(new.person.as_str())
        .bind(new.login)
        .bind(new.name)
        .bind(new.password)
        .bind(new.seed)
        .bind(new.last_step)
        .bind(now.0);
    Ok(tx.execute(insert).await? == 1)
}

/// Whether a text may be a login name: 1 to 64 of `a-z 0-9 . _ - @`.
pub(crate) fn is_login(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_@".contains(c);
    (1..=64).contains(&text.len()) && text.chars().all(allowed)
}

/// Whether the password may be used with this login name.
pub(crate) fn acceptable(password: &SecretBytes, login: &str) -> bool {
    let text = std::str::from_utf8(password.expose()).unwrap_or_default();
    password::LENGTH.contains(&text.chars().count()) && !text.eq_ignore_ascii_case(login)
}

/// The address that an authenticator app reads from a picture.
pub(crate) fn otpauth(service: &str, login: &str, seed: &SecretBytes) -> String {
    let part = |text: &str| {
        url::form_urlencoded::byte_serialize(text.as_bytes())
            .collect::<String>()
            .replace('+', "%20")
    };
    let secret = otp::base32(seed);
    let secret = String::from_utf8_lossy(secret.expose());
    let service = part(service);
    format!(
        "otpauth://totp/{service}:{}?secret={secret}&issuer={service}",
        part(login)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        let now = UnixTime(1000);
        assert_eq!(locked_until(4, now), UnixTime(0));
        assert_eq!(locked_until(5, now), UnixTime(1030));
        assert_eq!(locked_until(6, now), UnixTime(1060));
        assert_eq!(locked_until(1_000_000, now), UnixTime(1900));
    }

    #[test]
    fn login_names_have_a_closed_alphabet() {
        assert!(is_login("hanako.takahashi@example.jp"));
        for bad in ["", "Hanako", "a b", "髙橋", &"x".repeat(65)] {
            assert!(!is_login(bad), "{bad}");
        }
    }
}
