//! How an installation begins, and how one with too few officers begins again (`sap.md` §9).

use std::collections::BTreeSet;

use core_types::{Digest32, OfficerId, UnixTime, sha256};
use jose::Jwk;
use sap::office::{Founder, Genesis, Reopen, TYP_GENESIS, TYP_REOPEN};
use serde::{Deserialize, Serialize};

use super::people::{ENOUGH, MAX_TERM, check_account, check_training, check_words};
use crate::Reason;

/// Most officers that are made together.
pub const MOST: usize = 9;
/// Longest time for which a founder can enrol a passkey, in seconds.
pub const MAX_INVITATION: i64 = 24 * 3600;

/// What is kept of the beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisRecord {
    /// SHA-256 of the record's JWS, which is evidence.
    pub genesis: Digest32,
    /// Public half of the recovery key.
    pub recovery: Jwk,
    /// How often the installation was opened again.
    pub reopened: u32,
    /// When it began.
    pub at: UnixTime,
}

/// Checks the record with which an installation begins: that the recovery key which it names signed it, and that it makes at
/// least three different persons security officers: with two, nobody could approve what one of them asks for.
///
/// # Errors
/// [`Reason::Registration`] for a wrong signature, [`Reason::Invalid`] naming the member.
pub fn check_genesis(jws: &str, now: UnixTime) -> Result<(Genesis, GenesisRecord), Reason> {
    let payload = jws.split('.').nth(1).ok_or(Reason::Malformed)?;
    let payload = core_types::bytes::from_b64u(payload).map_err(|_| Reason::Malformed)?;
    let genesis: Genesis = serde_json::from_slice(&payload).map_err(|_| Reason::Malformed)?;
    jose::verify(jws, TYP_GENESIS, &genesis.recovery)
        .map_err(|_| Reason::Registration("not signed by its recovery key"))?;
    if genesis.need < 2 || genesis.need > genesis.of {
        return Err(Reason::Invalid("need"));
    }
    check_together(&[], &genesis.officers)?;
    check_founders(&genesis.officers, genesis.at, now)?;
    let record = GenesisRecord {
        genesis: sha256(&[jws.as_bytes()]),
        recovery: genesis.recovery.clone(),
        reopened: 0,
        at: genesis.at,
    };
    Ok((genesis, record))
}

impl GenesisRecord {
    /// Checks what opens an installation again of which the security officers `usable` are left: too few, or nobody needs it.
    /// Answers the successor.
    ///
    /// # Errors
    /// [`Reason::NotAllowed`] while there are enough officers, [`Reason::Registration`] for a wrong signature,
    /// [`Reason::Used`] for another serial, [`Reason::Invalid`] naming the member.
    pub fn reopen(
        &self,
        jws: &str,
        usable: &[OfficerId],
        now: UnixTime,
    ) -> Result<(Reopen, Self), Reason> {
        if usable.len() >= ENOUGH {
            return Err(Reason::NotAllowed("enough-officers"));
        }
        let payload = jose::verify(jws, TYP_REOPEN, &self.recovery)
            .map_err(|_| Reason::Registration("not signed by the recovery key"))?;
        let reopen: Reopen = serde_json::from_slice(&payload).map_err(|_| Reason::Malformed)?;
        if reopen.genesis != self.genesis {
            return Err(Reason::Mismatch);
        }
        if self.reopened.checked_add(1) != Some(reopen.serial) {
            return Err(Reason::Used);
        }
        check_together(usable, &reopen.officers)?;
        check_founders(&reopen.officers, reopen.at, now)?;
        let next = Self {
            reopened: reopen.serial,
            ..self.clone()
        };
        Ok((reopen, next))
    }
}

/// Whether those who are left and these together are enough that one asks and two others approve.
fn check_together(left: &[OfficerId], founders: &[Founder]) -> Result<(), Reason> {
    let named = founders.iter().map(|f| &f.officer);
    let all: BTreeSet<&OfficerId> = left.iter().chain(named).collect();
    match all.len() >= ENOUGH {
        true => Ok(()),
        false => Err(Reason::Invalid("officers")),
    }
}

fn check_founders(founders: &[Founder], at: UnixTime, now: UnixTime) -> Result<(), Reason> {
    if !(1..=MOST).contains(&founders.len()) {
        return Err(Reason::Invalid("officers"));
    }
    if (now.0 - at.0).abs() > 3600 {
        return Err(Reason::Invalid("at"));
    }
    let all_differ = |name: &dyn Fn(&Founder) -> String| {
        let names: BTreeSet<String> = founders.iter().map(name).collect();
        names.len() == founders.len()
    };
    let persons = all_differ(&|f| f.officer.to_string())
        && all_differ(&|f| f.identity.to_string())
        && all_differ(&|f| f.account.to_string())
        && all_differ(&|f| f.voucher.to_string())
        && all_differ(&|f| f.secret.to_string());
    if !persons {
        return Err(Reason::Invalid("officers"));
    }
    for founder in founders {
        check_account(&founder.account)?;
        check_words(&founder.name, "name")?;
        if founder.until <= now || founder.until > now.plus(MAX_TERM) {
            return Err(Reason::Invalid("until"));
        }
        check_training(founder.training, now)?;
        if founder.exp <= now || founder.exp > now.plus(MAX_INVITATION) {
            return Err(Reason::Invalid("exp"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use core_types::{OfficerId, PersonId, TenantId, VoucherId};
    use jose::SigningKey;
    use sap::act::Version1;
    use sap::office::Training;

    use super::*;

    const NOW: UnixTime = UnixTime(1_800_000_000);

    fn founder(n: u8) -> Founder {
        Founder {
            officer: OfficerId::parse(format!("o{n}")).unwrap(),
            name: format!("Officer {n}"),
            identity: Digest32([n; 32]),
            account: PersonId::parse(format!("officer.o{n}")).unwrap(),
            until: NOW.plus(MAX_TERM),
            training: None,
            voucher: VoucherId::parse(format!("v{n}")).unwrap(),
            secret: Digest32([n + 100; 32]),
            exp: NOW.plus(3600),
        }
    }

    fn genesis(officers: Vec<Founder>, key: &SigningKey) -> String {
        shared(officers, (2, 3), NOW, key)
    }

    fn shared(
        officers: Vec<Founder>,
        (need, of): (u8, u8),
        at: UnixTime,
        key: &SigningKey,
    ) -> String {
        let genesis = Genesis {
            v: Version1,
            sam: "sam.test".into(),
            tenant: TenantId::parse("t").unwrap(),
            root: key.public().clone(),
            recovery: key.public().clone(),
            need,
            of,
            officers,
            settings: vec![],
            nonce: Digest32([9; 32]),
            at,
        };
        key.sign(TYP_GENESIS, &serde_json::to_vec(&genesis).unwrap())
            .unwrap()
    }

    #[test]
    fn three_different_persons_begin_or_nobody() {
        let (key, _) = SigningKey::generate().unwrap();
        let good = |officers| check_genesis(&genesis(officers, &key), NOW).is_ok();
        assert!(good((1..=3).map(founder).collect()));
        assert!(good((1..=9).map(founder).collect()));
        assert!(!good(vec![founder(1)]));
        assert!(!good(vec![founder(1), founder(2)]));
        assert!(!good((1..=10).map(founder).collect()));
        let alike = |change: fn(&mut Founder)| {
            let mut second = founder(2);
            change(&mut second);
            good(vec![founder(1), second, founder(3)])
        };
        assert!(alike(|_| ()));
        assert!(!alike(|f| f.officer = founder(1).officer));
        assert!(!alike(|f| f.identity = founder(1).identity));
        assert!(!alike(|f| f.account = founder(1).account));
        assert!(!alike(|f| f.voucher = founder(1).voucher));
        assert!(!alike(|f| f.secret = founder(1).secret));
        assert!(!alike(|f| f.account = PersonId::parse("o2").unwrap()));
        assert!(!alike(|f| f.until = NOW));
        let trained = |at, until| Some(Training { at, until });
        let with = |training| {
            good(vec![
                Founder {
                    training,
                    ..founder(1)
                },
                founder(2),
                founder(3),
            ])
        };
        assert!(with(trained(NOW, NOW.plus(1))));
        assert!(!with(trained(NOW.plus(1), NOW.plus(2))));
        assert!(!with(trained(NOW, NOW)));
        assert!(!alike(|f| f.exp = NOW.plus(MAX_INVITATION + 1)));
        // Signed by another key than it names.
        let (other, _) = SigningKey::generate().unwrap();
        let jws = genesis((1..=3).map(founder).collect(), &key);
        let payload = jose::verify(&jws, TYP_GENESIS, key.public()).unwrap();
        let forged = other.sign(TYP_GENESIS, &payload).unwrap();
        assert!(check_genesis(&forged, NOW).is_err());
    }

    #[test]
    fn one_share_is_never_enough_and_the_record_is_of_now() {
        let (key, _) = SigningKey::generate().unwrap();
        let checked = |shares, at| {
            let jws = shared((1..=3).map(founder).collect(), shares, at, &key);
            check_genesis(&jws, NOW).map(drop)
        };
        for shares in [(2, 2), (2, 3), (3, 5)] {
            assert_eq!(checked(shares, NOW), Ok(()), "{shares:?}");
        }
        for shares in [(0, 3), (1, 3), (1, 1), (3, 2), (4, 2)] {
            let need = Err(Reason::Invalid("need"));
            assert_eq!(checked(shares, NOW), need, "{shares:?}");
        }
        for at in [3600, -3600] {
            assert_eq!(checked((2, 3), NOW.plus(at)), Ok(()));
            let far = checked((2, 3), NOW.plus(at + at.signum()));
            assert_eq!(far, Err(Reason::Invalid("at")));
        }
    }

    #[test]
    fn opening_again_takes_the_recovery_key_a_need_and_the_next_number() {
        let (key, _) = SigningKey::generate().unwrap();
        let (other, _) = SigningKey::generate().unwrap();
        let jws = genesis((1..=3).map(founder).collect(), &key);
        let (_, record) = check_genesis(&jws, NOW).unwrap();
        let left = |n: u8| (1..=n).map(|n| founder(n).officer).collect::<Vec<_>>();
        let named = |serial, of, officers| Reopen {
            v: Version1,
            genesis: of,
            serial,
            officers,
            at: NOW,
        };
        let reopen = |serial, of| named(serial, of, vec![founder(4), founder(5)]);
        let sign = |key: &SigningKey, r: &Reopen| {
            key.sign(TYP_REOPEN, &serde_json::to_vec(r).unwrap())
                .unwrap()
        };
        let good = sign(&key, &reopen(1, record.genesis));
        let needless = record.reopen(&good, &left(3), NOW);
        assert_eq!(needless.unwrap_err(), Reason::NotAllowed("enough-officers"));
        let foreign = sign(&other, &reopen(1, record.genesis));
        let foreign = record.reopen(&foreign, &left(1), NOW);
        assert!(matches!(foreign, Err(Reason::Registration(_))));
        let elsewhere = sign(&key, &reopen(1, Digest32([0; 32])));
        assert_eq!(
            record.reopen(&elsewhere, &left(1), NOW).unwrap_err(),
            Reason::Mismatch
        );
        // With those who are left there have to be three.
        let few = Err(Reason::Invalid("officers"));
        let opened = |officers, usable: &[OfficerId]| {
            let jws = sign(&key, &named(1, record.genesis, officers));
            record.reopen(&jws, usable, NOW).map(drop)
        };
        assert_eq!(opened(vec![founder(4), founder(5)], &[]), few);
        assert_eq!(opened(vec![founder(4)], &left(1)), few);
        assert_eq!(opened(vec![founder(2)], &left(2)), few, "known already");
        assert_eq!(opened(vec![], &left(2)), few);
        assert_eq!(opened(vec![founder(4)], &left(2)), Ok(()));
        let three = (4..=6).map(founder).collect();
        assert_eq!(opened(three, &[]), Ok(()));
        let (_, next) = record.reopen(&good, &left(1), NOW).unwrap();
        let again = next.reopen(&good, &left(1), NOW).unwrap_err();
        assert_eq!(again, Reason::Used);
        assert!(
            next.reopen(&sign(&key, &reopen(2, record.genesis)), &left(2), NOW)
                .is_ok()
        );
        // The record of the beginning is no word to open again.
        assert!(record.reopen(&jws, &left(1), NOW).is_err());
    }
}
