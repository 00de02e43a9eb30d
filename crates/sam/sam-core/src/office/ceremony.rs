//! Making the record with which an installation begins, and what opens one again: what a ceremony hands out.

use core_types::{
    Digest32, OfficerId, PersonId, Random, SecretBytes, TenantId, UnixTime, VoucherId, sha256,
};
use jose::{Jwk, SigningKey};
use sap::act::Version1;
use sap::office::{ACCOUNT, Founder, Genesis, Part, Reopen, TYP_GENESIS, TYP_REOPEN, Training};

use super::GenesisRecord;
use super::genesis::check_genesis;
use crate::Reason;

/// Bytes of an invitation's secret.
const SECRET: usize = 16;

/// A person who becomes security officer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Id.
    pub officer: OfficerId,
    /// Name.
    pub name: String,
    /// What tells them from all others at the provider, such as a staff number.
    pub identity: String,
    /// End of the appointment.
    pub until: UnixTime,
    /// The training it rests on; without one, somebody is reminded of it.
    pub training: Option<Training>,
}

/// What one of them gets.
#[derive(Debug, Clone)]
pub struct Invitation {
    /// Person.
    pub officer: OfficerId,
    /// Their account.
    pub account: PersonId,
    /// `voucher.secret`, the fragment of the link to the officers' page.
    pub ticket: SecretBytes,
}

/// A beginning, before it is recorded.
pub struct Begun {
    /// The genesis record, for the SAM.
    pub jws: String,
    /// The recovery key (PKCS#8), to be dealt to shares and forgotten.
    pub recovery: SecretBytes,
    /// For each person.
    pub invitations: Vec<Invitation>,
}

/// Whose installation it is.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// Name of the SAM.
    pub sam: &'a str,
    /// Tenant.
    pub tenant: &'a TenantId,
    /// The module's root key.
    pub root: &'a Jwk,
}

/// The commitment to what tells a person from all others. Says nothing of a number that can't be guessed; a staff number can.
pub fn identity(text: &str) -> Digest32 {
    sha256(&[b"natsuin-identity-v1\n", text.trim().as_bytes()])
}

/// A training by its day and the last day for which it holds, both in Japan and written as `2026-11-20`; nothing for other words.
pub fn training(at: &str, until: &str) -> Option<Training> {
    let day = |text: &str| UnixTime::from_rfc3339(&format!("{text}T00:00:00+09:00"));
    Some(Training {
        at: day(at)?,
        until: day(until)?.plus(24 * 3600),
    })
}

/// Makes a genesis record with a fresh recovery key.
///
/// # Errors
/// [`Reason`] when an id is of another form, no key can be made, or no installation would begin with it.
pub fn begin(
    site: Site<'_>,
    plans: &[Plan],
    (need, of): (u8, u8),
    settings: Vec<(Part, Digest32)>,
    now: UnixTime,
    random: &dyn Random,
) -> Result<Begun, Reason> {
    let (key, recovery) = SigningKey::generate().map_err(|_| Reason::NotNow)?;
    let (officers, invitations) = founders(plans, now, random)?;
    let genesis = Genesis {
        v: Version1,
        sam: site.sam.to_owned(),
        tenant: site.tenant.clone(),
        root: site.root.clone(),
        recovery: key.public().clone(),
        need,
        of,
        officers,
        settings,
        nonce: random.digest32(),
        at: now,
    };
    let jws = sign(&key, TYP_GENESIS, &genesis)?;
    // Before anything is handed out.
    check_genesis(&jws, now)?;
    Ok(Begun {
        jws,
        recovery,
        invitations,
    })
}

/// Makes what opens an installation again, by the recovery key that shares have brought back.
///
/// # Errors
/// [`Reason::Mismatch`] when it is another installation's key; [`Reason`] when an id is of another form.
pub fn reopen(
    record: &GenesisRecord,
    recovery: &SecretBytes,
    plans: &[Plan],
    now: UnixTime,
    random: &dyn Random,
) -> Result<(String, Vec<Invitation>), Reason> {
    let key = SigningKey::from_pkcs8(recovery).map_err(|_| Reason::Mismatch)?;
    if *key.public() != record.recovery {
        return Err(Reason::Mismatch);
    }
    let (officers, invitations) = founders(plans, now, random)?;
    let reopen = Reopen {
        v: Version1,
        genesis: record.genesis,
        serial: record.reopened.checked_add(1).ok_or(Reason::NotNow)?,
        officers,
        at: now,
    };
    Ok((sign(&key, TYP_REOPEN, &reopen)?, invitations))
}

fn sign(key: &SigningKey, typ: &str, what: &impl serde::Serialize) -> Result<String, Reason> {
    let payload = serde_json::to_vec(what).map_err(|_| Reason::NotNow)?;
    key.sign(typ, &payload).map_err(|_| Reason::NotNow)
}

fn founders(
    plans: &[Plan],
    now: UnixTime,
    random: &dyn Random,
) -> Result<(Vec<Founder>, Vec<Invitation>), Reason> {
    let mut founders = Vec::new();
    let mut invitations = Vec::new();
    for plan in plans {
        let mut bytes = vec![0; SECRET];
        random.fill(&mut bytes);
        let secret = SecretBytes::new(bytes);
        let voucher = VoucherId::random(random);
        let account = PersonId::parse(format!("{ACCOUNT}{}", plan.officer));
        let account = account.map_err(|_| Reason::Invalid("officer"))?;
        let text = format!("{voucher}.{}", core_types::bytes::b64u(secret.expose()));
        invitations.push(Invitation {
            officer: plan.officer.clone(),
            account: account.clone(),
            ticket: SecretBytes::from(text),
        });
        founders.push(Founder {
            officer: plan.officer.clone(),
            name: plan.name.clone(),
            identity: identity(&plan.identity),
            account,
            until: plan.until,
            training: plan.training,
            voucher,
            secret: sha256(&[secret.expose()]),
            exp: now.plus(super::genesis::MAX_INVITATION),
        });
    }
    Ok((founders, invitations))
}

#[cfg(test)]
mod tests {
    use core_types::random::SystemRandom;

    use super::*;

    fn plan(name: &str) -> Plan {
        Plan {
            officer: OfficerId::parse(name).unwrap(),
            name: name.to_owned(),
            identity: format!("staff {name}"),
            until: UnixTime(2_000_000),
            training: Some(Training {
                at: UnixTime(900_000),
                until: UnixTime(1_900_000),
            }),
        }
    }

    #[test]
    fn a_training_is_of_days_in_japan() {
        let told = training("2026-11-20", "2027-11-19").unwrap();
        assert_eq!(told.at.rfc3339(), "2026-11-19T15:00:00Z");
        assert_eq!(told.until.rfc3339(), "2027-11-19T15:00:00Z");
        for bad in ["", "2026-13-01", "2026-11-20T00:00:00Z", "tomorrow"] {
            assert_eq!(training(bad, "2027-11-19"), None, "{bad}");
            assert_eq!(training("2026-11-20", bad), None, "{bad}");
        }
    }

    #[test]
    fn what_a_ceremony_makes_is_accepted_and_its_key_comes_back_from_its_bytes_only() {
        let now = UnixTime(1_000_000);
        let (root, _) = SigningKey::generate().unwrap();
        let tenant = TenantId::parse("t").unwrap();
        let site = Site {
            sam: "sam.test",
            tenant: &tenant,
            root: root.public(),
        };
        let two = begin(
            site,
            &[plan("a"), plan("b")],
            (2, 3),
            vec![],
            now,
            &SystemRandom,
        );
        assert_eq!(two.err(), Some(Reason::Invalid("officers")));
        let plans = [plan("a"), plan("b"), plan("c")];
        let begun = begin(site, &plans, (2, 3), vec![], now, &SystemRandom).unwrap();
        let (genesis, record) = check_genesis(&begun.jws, now).unwrap();
        assert_eq!(genesis.officers.len(), 3);
        assert_eq!(genesis.officers[0].training, plans[0].training);
        assert_eq!(begun.invitations[1].account.as_str(), "officer.b");
        let again = [plan("d"), plan("e"), plan("f")];
        let (jws, _) = reopen(&record, &begun.recovery, &again, now, &SystemRandom).unwrap();
        assert!(record.reopen(&jws, &[], now).is_ok());
        let other = SigningKey::generate().unwrap().1;
        let foreign = reopen(&record, &other, &again, now, &SystemRandom);
        assert_eq!(foreign.unwrap_err(), Reason::Mismatch);
        assert_eq!(identity(" 12 "), identity("12"));
    }
}
