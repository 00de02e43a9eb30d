//! One-time codes that the SAM itself sends to a signer whose secrets applications collect (`credentials/sendOTP`).
//!
//! A code stands beside those of the signer's app, for one key and one client, once and for minutes. It has another number of
//! digits, so that neither kind is ever taken for the other.

use core_types::{B64, ClientId, KeyId, Random, SecretBytes, UnixTime};
use sap::enrol::CodeAddress;
use serde::{Deserialize, Serialize};

use crate::Reason;
use crate::enrol::{MAX_FAILS, PinTotp};

/// Digits of a code.
pub const DIGITS: usize = 8;
/// Life of a code in seconds.
pub const LIFE: i64 = 300;
/// Least time between two codes in seconds.
const PAUSE: i64 = 30;
/// Most codes in an hour.
const MOST: u8 = 6;
const HOUR: i64 = 3600;

/// What was sent to the person of a factor.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sent {
    /// When the last code was.
    at: UnixTime,
    /// Begin of the hour that is counted.
    since: UnixTime,
    /// Codes in that hour.
    count: u8,
    /// The last code, until it is used.
    code: Option<SentCode>,
}

/// A code, as far as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SentCode {
    /// The key whose use it authorizes.
    pub key: KeyId,
    /// The client that asked for it.
    pub client: ClientId,
    /// Salt of its hash.
    pub salt: B64,
    /// Its keyed hash, made as a PIN's.
    pub mac: SecretBytes,
}

/// A new code: decimal digits, evenly distributed.
pub fn draw(random: &dyn Random) -> SecretBytes {
    const ALL: u32 = 10_u32.pow(DIGITS as u32);
    loop {
        let mut bytes = [0; 4];
        random.fill(&mut bytes);
        let drawn = u32::from_be_bytes(bytes);
        // The rest of the range would make small numbers likelier.
        if drawn < ALL * (u32::MAX / ALL) {
            return SecretBytes::from(format!("{:0DIGITS$}", drawn % ALL));
        }
    }
}

/// Whether something could be sent there: one address, and nothing that could be read as more.
pub fn deliverable(address: &CodeAddress) -> bool {
    match address {
        CodeAddress::Mail(mail) => is_mail(mail),
        CodeAddress::Phone(number) => number.strip_prefix('+').is_some_and(|digits| {
            (7..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
        }),
    }
}

/// Whether this is one mail address, and nothing that could be read as more: no second address, no header.
pub fn is_mail(mail: &str) -> bool {
    let plain = mail
        .bytes()
        .all(|b| b.is_ascii_graphic() && !b"<>(),;:\\\"[]".contains(&b));
    let parts: Vec<&str> = mail.split('@').collect();
    plain && mail.len() <= 254 && parts.len() == 2 && parts.iter().all(|p| !p.is_empty())
}

impl PinTotp {
    /// Whether another code may be sent now.
    ///
    /// # Errors
    /// [`Reason::Locked`] after failures, too soon or too often; [`Reason::ForeignFactor`] when no application collects.
    pub fn may_send(&self, now: UnixTime) -> Result<(), Reason> {
        if !self.collected {
            return Err(Reason::ForeignFactor);
        }
        if self.fails >= MAX_FAILS || now < self.wait_until {
            return Err(Reason::Locked);
        }
        match &self.sent {
            Some(sent) if now < sent.at.plus(PAUSE) => Err(Reason::Locked),
            Some(sent) if now < sent.since.plus(HOUR) && sent.count >= MOST => Err(Reason::Locked),
            _ => Ok(()),
        }
    }

    /// With a new code in the place of an older one.
    ///
    /// # Errors
    /// As [`Self::may_send`].
    pub fn with_sent(&self, code: SentCode, now: UnixTime) -> Result<Self, Reason> {
        self.may_send(now)?;
        let counted = self.sent.as_ref();
        let counted = counted.filter(|sent| now < sent.since.plus(HOUR));
        let (since, count) = counted.map_or((now, 0), |sent| (sent.since, sent.count));
        Ok(Self {
            sent: Some(Sent {
                at: now,
                since,
                count: count.saturating_add(1),
                code: Some(code),
            }),
            ..self.clone()
        })
    }

    /// The code that counts for this key and client now.
    pub fn sent_code(&self, key: &KeyId, client: &ClientId, now: UnixTime) -> Option<&SentCode> {
        let sent = self.sent.as_ref().filter(|s| now < s.at.plus(LIFE))?;
        let code = sent.code.as_ref()?;
        (code.key == *key && code.client == *client).then_some(code)
    }

    /// The factor after a success with the code of this salt, which is gone with it.
    ///
    /// # Errors
    /// [`Reason::SecretWrong`] when it was used or replaced meanwhile.
    pub fn spent(&self, salt: &B64) -> Result<Self, Reason> {
        let sent = self.sent.as_ref().filter(|sent| {
            let code = sent.code.as_ref();
            code.is_some_and(|code| code.salt == *salt)
        });
        let sent = sent.ok_or(Reason::SecretWrong {
            tries_left: MAX_FAILS.saturating_sub(self.fails),
        })?;
        Ok(Self {
            fails: 0,
            wait_until: UnixTime(0),
            sent: Some(Sent {
                code: None,
                ..sent.clone()
            }),
            ..self.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core_types::random::SeededRandom;

    fn factor() -> PinTotp {
        PinTotp {
            salt: B64(vec![]),
            mac: SecretBytes::new(vec![1]),
            seed: SecretBytes::new(vec![2]),
            last_step: 0,
            fails: 0,
            wait_until: UnixTime(0),
            collected: true,
            sent: None,
        }
    }

    fn code(n: u8) -> SentCode {
        SentCode {
            key: KeyId::parse("k").unwrap(),
            client: ClientId::parse("c").unwrap(),
            salt: B64(vec![n]),
            mac: SecretBytes::new(vec![n]),
        }
    }

    #[test]
    fn a_code_counts_for_its_key_and_client_once_and_for_minutes() {
        let now = UnixTime(1000);
        let (key, client) = (code(1).key, code(1).client);
        let with = factor().with_sent(code(1), now).unwrap();
        assert!(with.sent_code(&key, &client, now.plus(LIFE - 1)).is_some());
        assert!(with.sent_code(&key, &client, now.plus(LIFE)).is_none());
        let other = KeyId::parse("other").unwrap();
        assert!(with.sent_code(&other, &client, now).is_none());
        let other = ClientId::parse("other").unwrap();
        assert!(with.sent_code(&key, &other, now).is_none());
        let spent = with.spent(&B64(vec![1])).unwrap();
        assert!(spent.sent_code(&key, &client, now).is_none());
        assert!(spent.spent(&B64(vec![1])).is_err());
        // A newer one ends the older one.
        let newer = with.with_sent(code(2), now.plus(PAUSE)).unwrap();
        assert!(newer.spent(&B64(vec![1])).is_err());
    }

    #[test]
    fn codes_are_sent_seldom_and_not_while_the_secrets_are_locked() {
        let mut now = UnixTime(1000);
        let mut factor = factor();
        for n in 0..MOST {
            factor = factor.with_sent(code(n), now).unwrap();
            let early = factor.with_sent(code(n), now.plus(PAUSE - 1));
            assert_eq!(early.unwrap_err(), Reason::Locked);
            now = now.plus(PAUSE);
        }
        assert_eq!(factor.may_send(now), Err(Reason::Locked));
        assert_eq!(factor.may_send(UnixTime(1000 + HOUR)), Ok(()));
        factor.fails = MAX_FAILS;
        assert_eq!(factor.may_send(UnixTime(1000 + HOUR)), Err(Reason::Locked));
        factor.collected = false;
        assert_eq!(factor.may_send(now), Err(Reason::ForeignFactor));
    }

    #[test]
    fn codes_are_digits_and_addresses_are_one_address() {
        let random = SeededRandom::new(7);
        for _ in 0..100 {
            let code = draw(&random);
            assert_eq!(code.len(), DIGITS);
            assert!(code.expose().iter().all(u8::is_ascii_digit));
        }
        let mail = |text: &str| deliverable(&CodeAddress::Mail(text.to_owned()));
        assert!(mail("hanako@example.jp"));
        for bad in [
            "",
            "@",
            "a@",
            "@b",
            "a@b@c",
            "a b@c",
            "a@b,c@d",
            "<a@b>",
            "a\r\nTo:x@y",
            "髙@b",
        ] {
            assert!(!mail(bad), "{bad}");
        }
        let phone = |text: &str| deliverable(&CodeAddress::Phone(text.to_owned()));
        assert!(phone("+819012345678"));
        for bad in [
            "",
            "+",
            "09012345678",
            "+81 90",
            "+1234567890123456",
            "+81x0000000",
        ] {
            assert!(!phone(bad), "{bad}");
        }
    }
}
