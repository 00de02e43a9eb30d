//! Login passwords: Argon2id in the PHC text form.

use std::sync::atomic::{AtomicU64, Ordering};

use argon2::{Algorithm, Argon2, Params, Version};
use core_types::bytes::{b64u, from_b64u};
use core_types::{Random, SecretBytes};

use crate::config::PasswordCost;

/// Shortest and longest password in characters (SP 800-63B-4 §3.1.1.2: 8 as one of two factors).
pub(crate) const LENGTH: std::ops::RangeInclusive<usize> = 8..=128;
const OUTPUT: usize = 32;

/// Derivations so far: what a guess costs, whether or not its account is there.
#[derive(Debug, Default)]
pub(crate) struct Work(AtomicU64);

impl Work {
    pub(crate) fn done(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Hashes a new password.
pub(crate) fn hash(
    password: &SecretBytes,
    cost: PasswordCost,
    random: &dyn Random,
    work: &Work,
) -> Option<String> {
    let mut salt = [0; 16];
    random.fill(&mut salt);
    let out = derive(password, &salt, cost, work)?;
    let PasswordCost { memory, passes } = cost;
    // Salt and hash in base64url instead of PHC's base64: nobody else reads this column.
    Some(format!(
        "$argon2id$v=19$m={memory},t={passes},p=1${}${}",
        b64u(salt),
        b64u(out.expose())
    ))
}

/// Compares a password with a stored hash. `None` stands for a user that doesn't exist: the same work is done, and
/// the answer is no.
pub(crate) fn verify(
    password: &SecretBytes,
    stored: Option<&str>,
    cost: PasswordCost,
    work: &Work,
) -> bool {
    match stored.and_then(parse) {
        Some((cost, salt, hash)) => {
            derive(password, &salt, cost, work).is_some_and(|out| out.ct_eq(&hash))
        }
        None => derive(password, &[0; 16], cost, work).is_some_and(|_| false),
    }
}

fn derive(
    password: &SecretBytes,
    salt: &[u8],
    cost: PasswordCost,
    work: &Work,
) -> Option<SecretBytes> {
    let params = Params::new(cost.memory, cost.passes, 1, Some(OUTPUT)).ok()?;
    let mut out = vec![0; OUTPUT];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password.expose(), salt, &mut out)
        .ok()?;
    work.0.fetch_add(1, Ordering::Relaxed);
    Some(SecretBytes::new(out))
}

fn parse(text: &str) -> Option<(PasswordCost, Vec<u8>, Vec<u8>)> {
    let rest = text.strip_prefix("$argon2id$v=19$m=")?;
    let (memory, rest) = rest.split_once(",t=")?;
    let (passes, rest) = rest.split_once(",p=1$")?;
    let (salt, hash) = rest.split_once('$')?;
    let cost = PasswordCost {
        memory: memory.parse().ok()?,
        passes: passes.parse().ok()?,
    };
    Some((cost, from_b64u(salt).ok()?, from_b64u(hash).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use core_types::random::SeededRandom;

    #[test]
    fn only_the_password_itself_fits() {
        let cost = PasswordCost {
            memory: 64,
            passes: 1,
        };
        let password = SecretBytes::from("correct horse".to_owned());
        let work = Work::default();
        let stored = hash(&password, cost, &SeededRandom::new(1), &work).unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=64,t=1,p=1$"));
        let other = SecretBytes::from("wrong".to_owned());
        // Each look is the same work, whatever there is to look at.
        for (n, password, stored, fits) in [
            (2, &password, Some(stored.as_str()), true),
            (3, &other, Some(stored.as_str()), false),
            (4, &password, None, false),
            (5, &password, Some("not a hash"), false),
        ] {
            assert_eq!(verify(password, stored, cost, &work), fits, "{stored:?}");
            assert_eq!(work.done(), n, "{stored:?}");
        }
    }
}
