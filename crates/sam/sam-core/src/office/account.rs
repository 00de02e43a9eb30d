//! Accounts of officers: whose they are, with which passkey, and whether that one counts.

use core_types::{Digest32, OfficerId, PersonId, UnixTime, VoucherId, sha256};
use serde::{Deserialize, Serialize};

use crate::Reason;
use crate::passkey::Passkey;

/// Digits of a fingerprint, beside which there are spaces between groups of four.
const DIGITS: usize = 24;
/// Ten to so many.
const MODULUS: u128 = 1_000_000_000_000_000_000_000_000;

/// Where an account stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccountPhase {
    /// Waits for its first passkey.
    Invited,
    /// Can be used.
    Active,
    /// Its officer was removed.
    Ended,
}

/// A privileged account. It belongs to one officer and has no roles of its own: it has those of the person, so that one
/// person under two accounts is one person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Id.
    pub id: PersonId,
    /// Whose it is.
    pub officer: OfficerId,
    /// Where it stands.
    pub phase: AccountPhase,
    /// The invitation that counts.
    pub voucher: VoucherId,
    /// Who asked for that invitation, and has its link; nobody where a ceremony made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<OfficerId>,
    /// Since when the passkey in whose place that invitation puts another is said to be lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<UnixTime>,
    /// The invitation with which its factors were enrolled.
    pub registration: Option<VoucherId>,
    /// Who had asked for that one, as long as nobody has confirmed whose the passkey is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unconfirmed: Option<OfficerId>,
    /// Since when.
    pub since: UnixTime,
    /// Time of the last accepted act.
    pub last_act: Option<UnixTime>,
    /// Time of the last change of its factors.
    pub factors_changed: Option<UnixTime>,
}

impl Account {
    /// A new account that waits for its first passkey.
    pub fn invited(id: PersonId, officer: OfficerId, voucher: VoucherId, since: UnixTime) -> Self {
        Self {
            id,
            officer,
            phase: AccountPhase::Invited,
            voucher,
            asked_by: None,
            lost: None,
            registration: None,
            unconfirmed: None,
            since,
            last_act: None,
            factors_changed: None,
        }
    }

    /// The registration whose factors prove for it.
    ///
    /// # Errors
    /// [`Reason::NotFound`] unless the account can be used.
    pub fn usable(&self) -> Result<&VoucherId, Reason> {
        match (self.phase, &self.registration) {
            (AccountPhase::Active, Some(registration)) => Ok(registration),
            _ => Err(Reason::NotFound),
        }
    }

    /// Whether it may do more than ask for being confirmed. Whoever asked for an account has had the link that enrols its passkey.
    ///
    /// # Errors
    /// [`Reason::NotAllowed`].
    pub fn check_confirmed(&self) -> Result<(), Reason> {
        match self.unconfirmed {
            None => Ok(()),
            Some(_) => Err(Reason::NotAllowed("unconfirmed")),
        }
    }

    /// What names the passkey that counts, of which a new one would take the place; nothing where none does.
    pub fn counting(&self) -> Option<Digest32> {
        let registration = self.usable().ok()?;
        self.check_confirmed().ok()?;
        Some(registration_digest(registration))
    }

    /// Whether its passkey has proved nothing since this time. Whoever still has it needs no other.
    ///
    /// # Errors
    /// [`Reason::NotAllowed`].
    pub fn check_lost(&self, since: UnixTime) -> Result<(), Reason> {
        match self.last_act {
            Some(at) if at >= since => Err(Reason::NotAllowed("factor-not-lost")),
            _ => Ok(()),
        }
    }

    /// After somebody has enrolled a passkey with this invitation. An earlier passkey ends.
    ///
    /// # Errors
    /// [`Reason::Withdrawn`] for an invitation that doesn't count, or as [`Self::check_lost`].
    pub fn enrolled(&self, voucher: &VoucherId, at: UnixTime) -> Result<Self, Reason> {
        if self.phase == AccountPhase::Ended || self.voucher != *voucher {
            return Err(Reason::Withdrawn);
        }
        if let Some(since) = self.lost {
            self.check_lost(since)?;
        }
        Ok(Self {
            phase: AccountPhase::Active,
            asked_by: None,
            lost: None,
            registration: Some(voucher.clone()),
            unconfirmed: self.asked_by.clone(),
            factors_changed: Some(at),
            ..self.clone()
        })
    }

    /// What waits to be confirmed: who asked for the account, and the digest of what its passkey was enrolled with.
    ///
    /// # Errors
    /// [`Reason::NotFound`] unless the account can be used, [`Reason::Used`] if it is confirmed.
    pub fn to_confirm(&self) -> Result<(&OfficerId, Digest32), Reason> {
        let registration = self.usable()?;
        let asked_by = self.unconfirmed.as_ref().ok_or(Reason::Used)?;
        Ok((asked_by, registration_digest(registration)))
    }

    /// After somebody has confirmed whose passkey it is. An invitation that is still out was for putting another in its place
    /// without waiting, and is void.
    #[must_use]
    pub fn confirmed(&self) -> Self {
        Self {
            voucher: self
                .registration
                .clone()
                .unwrap_or_else(|| self.voucher.clone()),
            asked_by: None,
            lost: None,
            unconfirmed: None,
            ..self.clone()
        }
    }
}

/// What names the passkeys of one officer that count, by whichever account; nothing where none does.
pub fn counting_of<'a>(accounts: impl IntoIterator<Item = &'a Account>) -> Option<Digest32> {
    let counting = accounts.into_iter().filter_map(Account::counting);
    let mut counting: Vec<Digest32> = counting.collect();
    counting.sort_unstable();
    match counting.as_slice() {
        [] => None,
        [only] => Some(*only),
        several => {
            let mut parts = vec![b"natsuin-officer-registrations-v1\n".as_slice()];
            parts.extend(several.iter().map(|digest| digest.0.as_slice()));
            Some(sha256(&parts))
        }
    }
}

fn registration_digest(registration: &VoucherId) -> Digest32 {
    sha256(&[
        b"natsuin-account-registration-v1\n",
        registration.as_str().as_bytes(),
    ])
}

/// What people tell a passkey by, from one page to another or over the telephone: digits, 80 bits of the digest of credential id and key.
///
/// # Errors
/// [`Reason::NotNow`] when the key can't be written.
pub fn fingerprint(passkey: &Passkey) -> Result<String, Reason> {
    let key = serde_json::to_vec(&passkey.key).map_err(|_| Reason::NotNow)?;
    let length = (passkey.id.0.len() as u64).to_be_bytes();
    let digest = sha256(&[
        b"natsuin-passkey-fingerprint-v1\n",
        &length,
        &passkey.id.0,
        &key,
    ]);
    let mut value = [0; 16];
    value.copy_from_slice(&digest.0[..16]);
    let digits = format!("{:0DIGITS$}", u128::from_be_bytes(value) % MODULUS);
    let mut grouped = String::with_capacity(DIGITS + DIGITS / 4);
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && n.is_multiple_of(4) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    Ok(grouped)
}

/// Checks that something can be a fingerprint.
///
/// # Errors
/// [`Reason::Invalid`].
pub fn check_fingerprint(text: &str) -> Result<(), Reason> {
    let groups: Vec<&str> = text.split(' ').collect();
    let is_group = |group: &&str| group.len() == 4 && group.bytes().all(|b| b.is_ascii_digit());
    match groups.len() == DIGITS / 4 && groups.iter().all(is_group) {
        true => Ok(()),
        false => Err(Reason::Invalid("passkey")),
    }
}

#[cfg(test)]
mod tests {
    use core_types::B64;
    use webauthn::{Attestation, CoseKey};

    use super::*;

    const NOW: UnixTime = UnixTime(1_000_000);

    fn voucher(text: &str) -> VoucherId {
        VoucherId::parse(text).unwrap()
    }

    fn asked_by(name: &str) -> Account {
        let officer = OfficerId::parse("s2").unwrap();
        Account {
            asked_by: Some(OfficerId::parse(name).unwrap()),
            ..Account::invited(
                PersonId::parse("officer.s2").unwrap(),
                officer,
                voucher("v1"),
                UnixTime(0),
            )
        }
    }

    fn passkey(id: u8, x: u8) -> Passkey {
        Passkey {
            id: B64(vec![id; 16]),
            key: CoseKey::Eddsa {
                x: Digest32([x; 32]),
            },
            aaguid: B64(vec![0; 16]),
            counter: 0,
            backup_eligible: true,
            transports: vec![],
            attestation: Attestation::None,
        }
    }

    // shows: T-INS-OPERATOR, T-REG-IMPERSONATE
    #[test]
    fn what_a_link_enrolled_counts_once_somebody_has_confirmed_it() {
        let enrolled = asked_by("s1").enrolled(&voucher("v1"), NOW).unwrap();
        assert!(enrolled.usable().is_ok(), "it logs in");
        assert_eq!(
            enrolled.check_confirmed(),
            Err(Reason::NotAllowed("unconfirmed"))
        );
        assert_eq!(enrolled.counting(), None);
        let (asker, of) = enrolled.to_confirm().unwrap();
        assert_eq!(asker.as_str(), "s1");
        let confirmed = enrolled.confirmed();
        assert!(confirmed.check_confirmed().is_ok());
        assert_eq!(confirmed.counting(), Some(of));
        assert_eq!(confirmed.to_confirm(), Err(Reason::Used));
        // What a ceremony has handed out itself needs nobody's word.
        let founder = Account {
            asked_by: None,
            ..asked_by("s1")
        };
        let founder = founder.enrolled(&voucher("v1"), NOW).unwrap();
        assert!(founder.check_confirmed().is_ok());
    }

    #[test]
    fn an_invitation_that_needed_no_waiting_is_void_once_the_passkey_counts() {
        let enrolled = asked_by("s1").enrolled(&voucher("v1"), NOW).unwrap();
        let invited_again = Account {
            voucher: voucher("v2"),
            ..enrolled
        };
        assert!(invited_again.enrolled(&voucher("v2"), NOW).is_ok());
        assert_eq!(
            invited_again.enrolled(&voucher("v1"), NOW),
            Err(Reason::Withdrawn)
        );
        let confirmed = invited_again.confirmed();
        assert_eq!(
            confirmed.enrolled(&voucher("v2"), NOW),
            Err(Reason::Withdrawn)
        );
    }

    // shows: T-INS-OPERATOR
    #[test]
    fn a_passkey_that_proved_anything_is_not_lost() {
        let lost = Account {
            lost: Some(NOW),
            ..asked_by("s1")
        };
        let proved = |at| Account {
            last_act: at,
            ..lost.clone()
        };
        for at in [None, Some(NOW.plus(-1))] {
            assert!(proved(at).enrolled(&voucher("v1"), NOW.plus(9)).is_ok());
        }
        for at in [NOW, NOW.plus(5)] {
            let enrolled = proved(Some(at)).enrolled(&voucher("v1"), NOW.plus(9));
            assert_eq!(enrolled, Err(Reason::NotAllowed("factor-not-lost")));
        }
    }

    #[test]
    fn whichever_account_counts_is_named_and_their_order_is_not() {
        let account = |name: &str| {
            let enrolled = asked_by("s1").enrolled(&voucher("v1"), NOW).unwrap();
            Account {
                registration: Some(voucher(name)),
                ..enrolled
            }
        };
        let (one, two) = (account("v1").confirmed(), account("v2").confirmed());
        assert_eq!(counting_of([&account("v1"), &asked_by("s1")]), None);
        assert_eq!(counting_of([&account("v2"), &one]), one.counting());
        let both = counting_of([&one, &two]);
        assert_eq!(both, counting_of([&two, &one]));
        assert!(both.is_some() && both != one.counting() && both != two.counting());
    }

    #[test]
    fn fingerprints_are_read_aloud_and_tell_passkeys_apart() {
        let one = fingerprint(&passkey(1, 1)).unwrap();
        assert_eq!(check_fingerprint(&one), Ok(()));
        assert_eq!(one, fingerprint(&passkey(1, 1)).unwrap());
        for (id, x) in [(1, 2), (2, 1)] {
            assert_ne!(one, fingerprint(&passkey(id, x)).unwrap());
        }
        let mut used = passkey(1, 1);
        used.counter = 7;
        assert_eq!(one, fingerprint(&used).unwrap(), "a use changes nothing");
        let dashed = one.replace(' ', "-");
        for bad in [
            "",
            "1234",
            &one[1..],
            &dashed,
            "x234 0000 0000 0000 0000 0000",
        ] {
            assert_eq!(
                check_fingerprint(bad),
                Err(Reason::Invalid("passkey")),
                "{bad}"
            );
        }
    }
}
