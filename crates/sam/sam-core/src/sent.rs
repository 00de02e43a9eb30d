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
/// So long a code stands: who asks again meanwhile is told that it is on its way. In seconds.
const STANDS: i64 = 60;
/// Least time between two codes for one client in seconds.
const PAUSE: i64 = 30;
/// Most codes in an hour for one client, and for all.
const MOST_FOR_ONE: u8 = 3;
const MOST: u8 = 6;
const HOUR: i64 = 3600;
/// After so many codes in a row that nobody used, a client gets none for [`MUTED`] seconds. More than refusals count for, since a
/// mail may be late.
const UNUSED: u8 = 6;
const MUTED: i64 = 86_400;

/// What was sent to the person of a factor. Older builds kept a code for all clients beside: it isn't read any more.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sent {
    /// Begin of the hour that is counted.
    since: UnixTime,
    /// Codes in that hour.
    count: u8,
    /// What was sent for each client: none of them touches what another one asked for.
    #[serde(default)]
    clients: Vec<ForClient>,
}

/// What was sent for one client.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ForClient {
    /// When the last code was.
    at: UnixTime,
    /// Begin of the hour that is counted.
    since: UnixTime,
    /// Codes in that hour.
    count: u8,
    /// Codes in a row before the last one that nobody used.
    unused: u8,
    /// The courier didn't bring the last one, as far as is known.
    lost: bool,
    /// Who asked for it.
    client: ClientId,
    /// The last code, until it is used.
    code: Option<SentCode>,
}

/// What is done about a wish for a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Another one is sent.
    New,
    /// The last one was sent just now and counts.
    OnItsWay,
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
    /// What to do when this client asks for a code for this key now.
    ///
    /// # Errors
    /// [`Reason::Locked`] after failures, too soon or too often, or when nobody uses what this client asks for;
    /// [`Reason::ForeignFactor`] when no application collects.
    pub fn may_send(&self, key: &KeyId, client: &ClientId, now: UnixTime) -> Result<Wish, Reason> {
        if !self.collected {
            return Err(Reason::ForeignFactor);
        }
        if self.fails >= MAX_FAILS || now < self.wait_until {
            return Err(Reason::Locked);
        }
        let Some(sent) = &self.sent else {
            return Ok(Wish::New);
        };
        if let Some(of) = sent.of(client) {
            let code = of.code.as_ref().filter(|_| !of.lost);
            if now < of.at.plus(STANDS) && code.is_some_and(|code| code.key == *key) {
                return Ok(Wish::OnItsWay);
            }
            let often = now < of.since.plus(HOUR) && of.count >= MOST_FOR_ONE;
            let muted = now < of.at.plus(MUTED) && of.all_unused() >= UNUSED;
            if now < of.at.plus(PAUSE) || often || muted {
                return Err(Reason::Locked);
            }
        }
        match now < sent.since.plus(HOUR) && sent.count >= MOST {
            true => Err(Reason::Locked),
            false => Ok(Wish::New),
        }
    }

    /// With a new code in the place of an older one for the same client.
    ///
    /// # Errors
    /// As [`Self::may_send`]; [`Reason::Locked`] too while one is on its way.
    pub fn with_sent(&self, code: SentCode, now: UnixTime) -> Result<Self, Reason> {
        if self.may_send(&code.key, &code.client, now)? != Wish::New {
            return Err(Reason::Locked);
        }
        let counted = |since: UnixTime, count| match now < since.plus(HOUR) {
            true => (since, count),
            false => (now, 0_u8),
        };
        let (mut clients, mut all) = (Vec::new(), (now, 0));
        if let Some(sent) = &self.sent {
            all = counted(sent.since, sent.count);
            clients.clone_from(&sent.clients);
        }
        // A day on nothing of it matters.
        clients.retain(|of| now < of.at.plus(MUTED));
        let before = clients.iter().position(|of| of.client == code.client);
        let before = before.map(|at| clients.swap_remove(at));
        let own = before
            .as_ref()
            .map_or((now, 0), |of| counted(of.since, of.count));
        clients.push(ForClient {
            at: now,
            since: own.0,
            count: own.1.saturating_add(1),
            unused: before.as_ref().map_or(0, ForClient::all_unused),
            lost: false,
            client: code.client.clone(),
            code: Some(code),
        });
        Ok(Self {
            sent: Some(Sent {
                since: all.0,
                count: all.1.saturating_add(1),
                clients,
            }),
            ..self.clone()
        })
    }

    /// The courier didn't bring the code of this salt: it counts if it comes all the same, but nobody is told that it does.
    pub fn undelivered(&self, salt: &B64) -> Option<Self> {
        self.changed(salt, |of| of.lost = true)
    }

    /// The code that counts for this key and client now.
    pub fn sent_code(&self, key: &KeyId, client: &ClientId, now: UnixTime) -> Option<&SentCode> {
        let of = self.sent.as_ref()?.of(client)?;
        let code = of.code.as_ref().filter(|_| now < of.at.plus(LIFE))?;
        (code.key == *key && code.client == *client).then_some(code)
    }

    /// The factor after a success with the code of this salt, which is gone with it.
    ///
    /// # Errors
    /// [`Reason::SecretWrong`] when it was used or replaced meanwhile.
    pub fn spent(&self, salt: &B64) -> Result<Self, Reason> {
        let next = self.changed(salt, |of| {
            of.code = None;
            of.unused = 0;
        });
        let next = next.ok_or(Reason::SecretWrong {
            tries_left: MAX_FAILS.saturating_sub(self.fails),
        })?;
        Ok(Self {
            fails: 0,
            wait_until: UnixTime(0),
            ..next
        })
    }

    /// With another record of the client whose code has this salt.
    fn changed(&self, salt: &B64, change: impl FnOnce(&mut ForClient)) -> Option<Self> {
        let mut next = self.clone();
        let mut clients = next.sent.as_mut()?.clients.iter_mut();
        let of = clients.find(|of| of.code.as_ref().is_some_and(|code| code.salt == *salt))?;
        change(of);
        Some(next)
    }
}

impl Sent {
    fn of(&self, client: &ClientId) -> Option<&ForClient> {
        self.clients.iter().find(|of| of.client == *client)
    }
}

impl ForClient {
    /// Codes in a row that nobody used, with the last one. What the courier lost isn't held against anybody.
    fn all_unused(&self) -> u8 {
        let last = self.code.is_some() && !self.lost;
        self.unused.saturating_add(u8::from(last))
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
        // A newer one ends the older one of the same client, and nobody else's.
        let newer = with.with_sent(code(2), now.plus(STANDS)).unwrap();
        assert!(newer.spent(&B64(vec![1])).is_err());
        let beside = with.with_sent(of("other", 3), now).unwrap();
        assert!(beside.sent_code(&key, &client, now).is_some());
        let beside = beside.spent(&B64(vec![1])).unwrap();
        assert!(beside.spent(&B64(vec![3])).is_ok());
    }

    fn of(client: &str, n: u8) -> SentCode {
        SentCode {
            client: ClientId::parse(client).unwrap(),
            ..code(n)
        }
    }

    #[test]
    fn what_is_on_its_way_is_not_sent_again() {
        let now = UnixTime(1000);
        let (key, client) = (code(1).key, code(1).client);
        let with = factor().with_sent(code(1), now).unwrap();
        let asked = |with: &PinTotp, at| with.may_send(&key, &client, now.plus(at));
        assert_eq!(asked(&with, STANDS - 1), Ok(Wish::OnItsWay));
        assert!(with.with_sent(code(2), now.plus(STANDS - 1)).is_err());
        assert_eq!(asked(&with, STANDS), Ok(Wish::New));
        let other = KeyId::parse("other").unwrap();
        let other = with.may_send(&other, &client, now.plus(PAUSE - 1));
        assert_eq!(other, Err(Reason::Locked));
        // Of one that was lost or used nobody is told that it comes.
        for gone in [
            with.undelivered(&B64(vec![1])),
            with.spent(&B64(vec![1])).ok(),
        ] {
            let gone = gone.unwrap();
            assert_eq!(asked(&gone, PAUSE - 1), Err(Reason::Locked));
            assert_eq!(asked(&gone, PAUSE), Ok(Wish::New));
        }
    }

    #[test]
    fn codes_are_sent_seldom_and_not_while_the_secrets_are_locked() {
        let mut now = UnixTime(1000);
        let key = code(0).key;
        let may = |factor: &PinTotp, client: &str, at| {
            factor.may_send(&key, &ClientId::parse(client).unwrap(), at)
        };
        let mut factor = factor();
        for n in 0..MOST_FOR_ONE {
            factor = factor.with_sent(code(n), now).unwrap();
            now = now.plus(STANDS);
        }
        assert_eq!(may(&factor, "c", now), Err(Reason::Locked));
        // What one client wastes isn't another one's loss, up to the total.
        for n in MOST_FOR_ONE..MOST {
            assert_eq!(may(&factor, "d", now), Ok(Wish::New));
            factor = factor.with_sent(of("d", n), now).unwrap();
            now = now.plus(STANDS);
        }
        assert_eq!(may(&factor, "e", now), Err(Reason::Locked));
        let hour = UnixTime(1000 + HOUR);
        assert_eq!(may(&factor, "c", hour), Ok(Wish::New));
        factor.fails = MAX_FAILS;
        assert_eq!(may(&factor, "c", hour), Err(Reason::Locked));
        factor.collected = false;
        assert_eq!(may(&factor, "c", now), Err(Reason::ForeignFactor));
    }

    #[test]
    fn a_client_whose_codes_nobody_uses_is_not_heard_for_a_day() {
        let (mut now, mut unused) = (UnixTime(1000), factor());
        for n in 0..UNUSED {
            unused = unused.with_sent(code(n), now).unwrap();
            now = now.plus(HOUR);
        }
        let (key, client) = (code(0).key, code(0).client);
        assert_eq!(unused.may_send(&key, &client, now), Err(Reason::Locked));
        let other = ClientId::parse("other").unwrap();
        assert_eq!(unused.may_send(&key, &other, now), Ok(Wish::New));
        let day = now.plus(MUTED - HOUR);
        assert_eq!(unused.may_send(&key, &client, day), Ok(Wish::New));
        for heard in [
            unused.spent(&B64(vec![UNUSED - 1])).ok(),
            unused.undelivered(&B64(vec![UNUSED - 1])),
        ] {
            assert_eq!(heard.unwrap().may_send(&key, &client, now), Ok(Wish::New));
        }
    }

    #[test]
    fn what_older_builds_kept_is_read() {
        let old = r#"{"at":1,"since":1,"count":2,"code":null}"#;
        let sent: Sent = serde_json::from_str(old).unwrap();
        assert_eq!((sent.count, sent.clients.len()), (2, 0));
    }

    /// Gives these numbers, and no more.
    struct Drawn(std::sync::Mutex<Vec<u32>>);

    impl Random for Drawn {
        fn fill(&self, out: &mut [u8]) {
            let next = self.0.lock().unwrap().pop().unwrap();
            out.copy_from_slice(&next.to_be_bytes());
        }
    }

    #[test]
    fn no_code_is_likelier_than_another() {
        let code = |mut numbers: Vec<u32>| {
            numbers.reverse();
            draw(&Drawn(numbers.into()))
        };
        // 42 whole ranges of 10^8 codes go into 32 bits; what is left over is drawn again.
        let whole = 4_200_000_000;
        assert_eq!(code(vec![0]).expose(), b"00000000");
        assert_eq!(code(vec![whole - 1]).expose(), b"99999999");
        assert_eq!(code(vec![whole, u32::MAX, 7]).expose(), b"00000007");
    }

    #[test]
    fn hours_and_days_begin_anew_to_the_second() {
        let (now, key) = (UnixTime(1000), code(0).key);
        let hour = now.plus(HOUR);
        let one = factor().with_sent(code(0), now).unwrap();
        let later = one.with_sent(code(1), hour).unwrap();
        let counted = |f: &PinTotp| {
            let sent = f.sent.as_ref().unwrap();
            (
                sent.since,
                sent.count,
                sent.clients[0].since,
                sent.clients[0].count,
            )
        };
        assert_eq!(counted(&later), (hour, 1, hour, 1));
        let sooner = one.with_sent(code(1), hour.plus(-1)).unwrap();
        assert_eq!(counted(&sooner), (now, 2, now, 2));
        let day = one.with_sent(of("other", 1), now.plus(MUTED)).unwrap();
        assert_eq!(day.sent.unwrap().clients.len(), 1);
        let mut waits = factor();
        waits.wait_until = now;
        assert_eq!(waits.may_send(&key, &code(0).client, now), Ok(Wish::New));
    }

    #[test]
    fn a_code_that_counted_takes_failures_back() {
        let now = UnixTime(1000);
        let mut failed = factor().with_sent(code(1), now).unwrap();
        (failed.fails, failed.wait_until) = (3, now.plus(9));
        let spent = failed.spent(&B64(vec![1])).unwrap();
        assert_eq!((spent.fails, spent.wait_until), (0, UnixTime(0)));
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
